"""Score-function estimators: the gradient of log q times a learning signal, and what reduces their variance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minivi import bounds, ops, validate
from minivi.distributions import Normal
from minivi.estimators._parts import drawn, total
from minivi.nn import MLP, Module, glorot
from minivi.protocols import LatentVariableModel, Rng, SampledModel
from minivi.tensor import Parameter, Tensor


def score_function(
    model: LatentVariableModel,
    x: np.ndarray,
    rng: Rng | None = None,
    samples: int = 1,
    *,
    baseline: Any = 0.0,
    z: np.ndarray | None = None,
) -> Tensor:
    """The score-function (likelihood-ratio, REINFORCE) gradient of the ELBO, thesis eq. 2.72, 2.73.

        decoder:  mean_k grad_theta log p(x | z_k)                                             (review report eq. 3)
        encoder:  mean_k (log p(x, z_k) - log q(z_k | x) - c) grad_phi log q(z_k | x)          (eq. 4, 7, 8)

    The samples z_k and the factor before grad log q, the learning signal, are constants, so no gradient passes through
    the sampling: q need not be reparameterisable. The surrogate's value is no bound.

    Args:
        model: offers ``encode``, ``decode``, ``latents`` and ``dtype``, with a prior p(z) = N(0, I).
        x: data (B, D).
        rng: generator of the samples.
        samples: K, a datum.
        baseline: the control variate c in nats: a number; an array (B,) computed from x, not from z; or
            "leave-one-out", for each z_k the mean signal of the datum's other samples (Mnih & Rezende 2016, Kool et
            al. 2019). The expectation of the gradient is the same for each.
        z: the samples themselves, (K, B, J), instead of ``rng``, for checks.

    Returns:
        Surrogate (B,), to be maximised.

    Raises:
        ValueError: an unknown baseline, one whose shape is not () or (B,), or "leave-one-out" of a single sample; data
            that are not (B, D); neither ``rng`` nor ``z``.
    """
    validate.rows(x, "score_function: x")
    q = model.encode(x)
    if z is None:
        validate.generator(rng, "score_function: rng")
        validate.count(samples, "score_function: samples")
        z = q.sample(rng, (samples,))
    log_px_z, log_qz_x = model.decode(z).log_prob(x), q.log_prob(z)
    prior = Normal(np.zeros(model.latents, model.dtype), np.zeros(model.latents, model.dtype))
    signal = np.asanyarray(log_px_z) + np.asanyarray(prior.log_prob(z)) - np.asanyarray(log_qz_x)  # review report eq. 4
    if isinstance(baseline, str):
        if baseline != "leave-one-out":
            raise ValueError(f"score_function: unknown baseline {baseline!r}; 'leave-one-out', a number or an array")
        if len(z) < 2:
            raise ValueError("score_function: leave-one-out needs other samples of the datum; pass samples=2 or more")
        baseline = (signal.sum(axis=0) - signal) / (len(z) - 1)
    elif np.shape(baseline) not in ((), (len(x),)):
        raise ValueError(f"score_function: baseline of shape {np.shape(baseline)}; a number, or shape ({len(x)},)")
    signal = (signal - baseline).astype(model.dtype)  # review report eq. 7, 8
    return ops.mean(log_px_z + signal * log_qz_x, axis=0)  # eq. 2.72, 2.73; review report eq. 3


def vimco(
    model: SampledModel,
    x: np.ndarray,
    rng: Rng | None = None,
    samples: int = 5,
    *,
    mean: str = "geometric",
    h: Any = None,
) -> Tensor:
    """VIMCO: the unbiased gradient of IWAE's bound for discrete latents (Mnih & Rezende 2016; review report 4.6, 6.1).

        sum_k (L - L_-k) grad log q(h_k | x)  +  sum_k w~_k grad log w_k          L = log 1/K sum_k w_k

    L_-k is L with w_k replaced by a mean of the other samples' weights, so it does not depend on h_k and leaves the
    expectation as it is. Signals and samples are constants.

    Args:
        model: offers ``draw_and_score``, ``log_p_parts`` and ``log_q_parts``.
        x: data (B, D).
        rng: generator of the samples.
        samples: K, a datum, at least 2.
        mean: "geometric", as published, or "arithmetic", of the other weights.
        h: the samples themselves, an array (K, B, J) for each layer, instead of ``rng``, for checks.

    Returns:
        Surrogate (B,), to be maximised. Its value is not the bound.

    Raises:
        ValueError: fewer than two samples; an unknown mean; x that is not (B, D) or no generator; pixels that are no
            bits (from the model).
    """
    validate.one_of(mean, "vimco: mean", ("geometric", "arithmetic"))
    count = samples if h is None else len(h[0])
    if count == 1:
        raise ValueError("vimco: one sample has no others to compare it with; pass samples=2 or more")
    p, q = drawn("vimco", model, x, rng, samples, h)
    log_q = total(q)
    log_w = total(p) - log_q
    fixed = np.asanyarray(log_w, np.float64)
    others = np.repeat(fixed[None], count, axis=0)  # row k: all samples, the k-th replaced
    index = np.arange(count)
    if mean == "geometric":
        others[index, index] = (fixed.sum(axis=0) - fixed) / (count - 1)
    else:
        others[index, index] = -np.inf
        others[index, index] = np.asanyarray(ops.log_sum_exp(others, axis=1)) - np.log(count - 1)
    signal = np.asanyarray(ops.log_sum_exp(fixed, axis=0)) - np.asanyarray(ops.log_sum_exp(others, axis=1))
    return bounds.iwae(log_w) + ops.sum(signal.astype(log_w.dtype) * log_q, axis=0)


class NVIL(Module):
    """Neural variational inference and learning (Mnih & Gregor 2014; review report 4.2, eq. 3, 4, 7, 8).

        l(x, h) = log p(x, h) - log q(h | x)                                         the learning signal       (eq. 7)
        theta:   grad log p(x, h)                                                                              (eq. 3)
        phi:     (l - C(x) - c) / max(1, s) grad log q(h | x)                                                  (eq. 8)
        C:       minimises (l - C(x) - c)^2

    C is a network of the data, c and s the running mean and standard deviation of what it leaves; all three are
    constants for phi. Eq. 8 has c alone; C is in the text below it, the division in Mnih and Gregor's paper. c and s
    are those of the minibatches before, so that they do not depend on the samples (Mnih and Gregor's take in the
    present one); the first minibatch has nothing before it and takes its own.

    With ``per_layer`` each layer has a signal of its own: the parts of l that depend on its units, less a baseline
    network of the layer below it (Mnih & Gregor, section 2.3.4).

    The object holds the model, so that :func:`minivi.training.fit` stores all of it. Calling it moves c and s.

    Args:
        model: a :class:`~minivi.protocols.SampledModel`.
        hidden: sizes of the baseline networks' hidden layers; None for no network, C = 0.
        rng: generator of their initial weights.
        centre: subtract c.
        scale: divide by max(1, s).
        per_layer: a signal for each layer of latents.
        decay: how much of c and s^2 a minibatch leaves.
        activation, init: of the baseline networks.

    Raises:
        ValueError: a size below 1, a decay outside [0, 1), no generator.

    Example:
        >>> from minivi import Generator
        >>> from minivi.models import BeliefNetwork
        >>> network = BeliefNetwork(pixels=4, latents=(3,), rng=Generator(0))
        >>> nvil = NVIL(network, (5,), rng=Generator(1))
        >>> error, surrogate = nvil(np.eye(4, dtype="float32"), Generator(2))
        >>> error.shape, surrogate.shape
        ((4,), (4,))
    """

    def __init__(
        self,
        model: SampledModel,
        hidden: Sequence[int] | None = (400,),
        *,
        rng: Rng,
        centre: bool = True,
        scale: bool = True,
        per_layer: bool = False,
        decay: float = 0.8,
        activation: str = "tanh",
        init: Callable = glorot,
    ):
        validate.offers(model, "NVIL: model", "draw_and_score", "log_p_parts", "sizes")
        validate.number(decay, "NVIL: decay", 0, 1, "[)")
        validate.generator(rng, "NVIL: rng")
        self.model, self.centre, self.scale, self.per_layer, self.decay = model, centre, scale, per_layer, decay
        widths = [model.pixels, *model.sizes[:-1]] if per_layer else [model.pixels]
        options = {"activation": activation, "init": init, "dtype": model.dtype}
        if hidden is None:
            self.baselines = []
        else:
            validate.sizes(hidden, "NVIL: hidden")
            self.baselines = [MLP((width, *hidden, 1), rng, **options) for width in widths]
        # Running means of 1, of what the networks leave and of its square, for each signal: numbers, not trained.
        self.running = Parameter(np.zeros((len(widths), 3)), dtype="float64")

    def baseline_parameters(self) -> list[Parameter]:
        """Those of the networks C, for an optimizer of their own."""
        return [p for network in self.baselines for p in network.parameters()]

    def __call__(
        self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, *, h: Any = None
    ) -> tuple[Tensor | float, Tensor]:
        """Two numbers a datum from the same samples: the squared error of C, to be minimised, and the surrogate.

        Args:
            x: data (B, D).
            rng: generator of the samples.
            samples: K, a datum, over which both average.
            h: the samples themselves, an array (K, B, J) for each layer, instead of ``rng``, for checks.

        Returns:
            (B,) in nats^2 for the networks C (0.0 without one), and (B,) to be maximised for the model, no bound.

        Raises:
            ValueError: x that is not (B, D), pixels that are no bits, no samples, no generator.
        """
        if h is None:
            validate.rows(x, "NVIL: x")
            validate.generator(rng, "NVIL: rng")
            validate.count(samples, "NVIL: samples")
            h, q = self.model.draw_and_score(x, rng, samples)
        else:
            q = self.model.log_q_parts(x, h)
        p = self.model.log_p_parts(x, h)
        p_fixed, q_fixed = ([np.asanyarray(part, np.float64) for part in parts] for parts in (p, q))
        error, surrogate = 0.0, total(p)  # review report eq. 3
        for i, running in enumerate(self.running.data):
            # Of layer i's units depend p from the layer below on, and q from their own on.
            signal = sum(p_fixed[i:]) - sum(q_fixed[i:])  # review report eq. 7
            guess = self.baselines[i](h[i - 1] if i else x)[..., 0] if self.baselines else 0.0
            centre, spread = self._moved(i, running, signal - np.asanyarray(guess))
            signal = (signal - centre).astype(self.model.dtype)
            if self.baselines:
                error = error + ops.mean(ops.square(guess - signal), axis=0)
            signal = (signal - np.asanyarray(guess)) / max(1.0, spread)  # review report eq. 8
            own = q[i] if self.per_layer else total(q)
            surrogate = surrogate + signal.astype(self.model.dtype) * own  # eq. 2.73; review report eq. 4
        return error, ops.mean(surrogate, axis=0)

    def _moved(self, i, running, signal):
        """c and s for this minibatch, which then counts for the next ones."""
        now = np.array([1.0, signal.mean(), np.mean(signal**2)])
        weight, mean, square = running if running[0] else now
        mean, square = mean / weight, square / weight
        moved = self.running.data.copy()
        moved[i] = self.decay * running + (1.0 - self.decay) * now
        self.running.assign(moved)
        spread = np.sqrt(max(0.0, square - mean**2))
        return (mean if self.centre else 0.0), (spread if self.scale else 0.0)
