"""Iterative refinement: the posterior of each datum, improved from where the recognition network starts it.

Hjelm et al. (the refinement report): q~(h | x; z) has variational parameters z of its own for every datum. E step: z_0
is the recognition network's output, then T steps towards a tighter bound (eq. 2-4). M step: theta by samples of the
refined q~, phi by KL(q~ || q_phi) (section 4.2, eq. 6). :class:`Refined` puts the two together; it takes one of

    refine_gaussian            GBVI: gradient ascent for Gaussian latents (eq. 5)
    refine_bernoulli           AVI: adaptive importance sampling for binary ones (eq. 9)
    refine_mean_field          MPVI: gradient ascent with means passed in place of samples (eq. 7)
    refine_straight_through    gradient ascent through samples as if they were their means (eq. 8)

A slip of the text: eq. 3 is called a loss, and eq. 4 ascends it, while 7 and 8 carry a minus. Here all ascend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.distributions import Bernoulli, Normal
from minivi.protocols import Rng
from minivi.tensor import Tensor, enable_grad, grad, no_grad

SURE = 1e-4  # how near a refined mean may come to 0 or 1: beyond, no sample is ever different


def _start(name, model, x, steps, rate, samples, binary):
    """The recognition network's output, as arrays; arguments checked."""
    validate.rows(x, f"{name}: x")
    validate.count(steps, f"{name}: steps", 0)
    validate.count(samples, f"{name}: samples")
    validate.number(rate, f"{name}: rate", 0)
    validate.offers(model, f"{name}: model", "encode", "decode", "log_p_parts", "sizes")
    if len(model.sizes) != 1:
        raise ValueError(f"{name}: a model of {len(model.sizes)} layers of latents; pass one of one layer")
    with no_grad():
        q = model.encode(x)
    wanted = Bernoulli if binary else Normal
    if type(q) is not wanted:
        raise ValueError(f"{name}: the posterior is a {type(q).__name__}; this refines a {wanted.__name__}")
    if binary:
        validate.bits(x, f"{name}: x")
        return np.asarray(q.logits)
    return np.asarray(q.mu), np.asarray(q.log_sigma)


def _check_noise(name, rng, noise, word, steps, shape):
    """A generator, or else numbers (T, N, B, J) for what is drawn; ``shape`` is (B, J)."""
    if noise is None:
        validate.generator(rng, f"{name}: rng")
        return
    given = np.shape(noise)
    if len(given) != 4 or given[0] != steps or given[1] == 0 or given[2:] != shape:
        raise ValueError(f"{name}: {word} of shape {given}; pass ({steps}, N, {shape[0]}, {shape[1]}) for N samples")


def _finite(name, *parameters):
    if not all(np.isfinite(a).all() for a in parameters):
        raise ValueError(f"{name}: the ascent has run off to numbers that are not finite; pass a smaller rate")


def refine_gaussian(
    model: Any, x: np.ndarray, rng: Rng, steps: int = 20, rate: float = 0.1, samples: int = 20, *, eps: Any = None
) -> Normal:
    """GBVI: z = (mu, log sigma) of each datum by T steps of gradient ascent (refinement report eq. 2-5).

        z_t = z_{t-1} + rate grad_z ( 1/N sum_n log p(x | mu + sigma eps_n) - KL(q~ || p(h)) )

    The divergence is exact; each step draws fresh noise. The text calls (mu, sigma) mean and variance: sigma is the
    standard deviation.

    Args:
        model: of one layer of latents, whose ``encode`` gives a Normal, such as a VAE without a flow.
        x: data (B, D).
        rng: generator of the noise.
        steps: T; 0 returns the recognition network's posterior.
        rate: gamma, the inference rate.
        samples: N, a step and datum.
        eps: the noise itself, (T, N, B, J), instead of ``rng``, for checks.

    Returns:
        q~, a Normal of plain arrays (B, J).

    Raises:
        ValueError: x that is not (B, D), negative steps or rate, no samples; several layers or other latents; neither
            ``rng`` nor noise of that shape; a rate so large that the ascent leaves the finite numbers.
    """
    mu, log_sigma = _start("refine_gaussian", model, x, steps, rate, samples, False)
    _check_noise("refine_gaussian", rng, eps, "eps", steps, mu.shape)
    fixed = model.detached()
    for t in range(steps):
        noise = rng.standard_normal((samples, *mu.shape), dtype=mu.dtype) if eps is None else eps[t]
        with enable_grad():
            q = Normal(Tensor(mu), Tensor(log_sigma))
            bound = fixed.decode(q.rsample(noise)).log_prob(x).mean(axis=0) - q.kl()  # refinement report eq. 3, 5
            moves = grad(bound.sum(), [q.mu, q.log_sigma])
        mu, log_sigma = mu + rate * moves[0], log_sigma + rate * moves[1]  # refinement report eq. 4
    _finite("refine_gaussian", mu, log_sigma)
    return Normal(mu, log_sigma)


def refine_bernoulli(
    model: Any,
    x: np.ndarray,
    rng: Rng,
    steps: int = 20,
    samples: int = 20,
    damping: float = 1.0,
    *,
    uniform: Any = None,
) -> Bernoulli:
    """AVI: the means of each datum's binary latents by T steps of adaptive importance sampling (eq. 9).

        h_n ~ mu_t,    w_n = p(x, h_n) / q~(h_n; mu_t),    mu_{t+1} = (1 - damping) mu_t + damping sum_n w~_n h_n

    w~ are the weights over their sum. The text writes q(h_n | x) for q~(h_n; mu_t), from which h_n was drawn. A damping
    of 1 is eq. 9 as printed; the authors' damped form takes a smaller one. Means stay 1e-4 away from 0 and 1, where no
    sample would ever differ again.

    Args:
        model: a belief network of one layer, whose ``encode`` gives a Bernoulli.
        x: data (B, D) of zeros and ones.
        rng: generator of the samples.
        steps: T; 0 returns the recognition network's posterior.
        samples: N, a step and datum.
        damping: of the step, in (0, 1].
        uniform: uniform numbers in [0, 1) instead of ``rng``, (T, N, B, J), for checks.

    Returns:
        q~, a Bernoulli of plain arrays (B, J).

    Raises:
        ValueError: as :func:`refine_gaussian`; a damping outside (0, 1]; pixels that are no bits.
    """
    validate.number(damping, "refine_bernoulli: damping", 0, 1, "(]")
    logits = _start("refine_bernoulli", model, x, steps, 0, samples, True)
    _check_noise("refine_bernoulli", rng, uniform, "uniform", steps, logits.shape)
    for t in range(steps):
        q = Bernoulli(logits)
        mean = np.asarray(q.mean)
        drawn = rng.random((samples, *mean.shape), dtype=mean.dtype) if uniform is None else uniform[t]
        h = (drawn < mean).astype(mean.dtype)
        with no_grad():
            log_w = sum(np.asarray(part) for part in model.log_p_parts(x, [h])) - np.asarray(q.log_prob(h))
        weight = np.exp(log_w - ops.log_sum_exp(log_w, axis=0))
        # refinement report eq. 9
        logits = _logits((1.0 - damping) * mean + damping * np.sum(weight[..., None] * h, axis=0))
    return Bernoulli(logits)


def _logits(mean):
    mean = np.clip(mean, SURE, 1.0 - SURE)
    return (np.log(mean) - np.log1p(-mean)).astype(mean.dtype)


def _ascend(name, model, x, logits, steps, rate, log_p_of):
    """T steps of gradient ascent on the logits: of ``log_p_of(t, mean)``, <log p(h)> and the entropy, both exact."""
    fixed = model.detached()
    prior = fixed.prior()
    for t in range(steps):
        with enable_grad():
            q = Bernoulli(Tensor(logits))
            bound = log_p_of(fixed, t, q.mean) - q.kl(prior)
            logits = logits + rate * grad(bound.sum(), q.logits)  # refinement report eq. 4
    _finite(name, logits)
    return Bernoulli(logits)


def refine_mean_field(model: Any, x: np.ndarray, steps: int = 20, rate: float = 0.1) -> Bernoulli:
    """MPVI: gradient ascent on the logits z with the means mu = sigmoid(z) passed through the decoder (eq. 7).

        log p(x | mu) + <log p(h)> + H(q~)

    No bound: log p(x | mu) is not the mean of log p(x | h). Nothing is drawn.

    Args:
        model: a belief network of one factorised layer.
        x: data (B, D) of zeros and ones.
        steps: T; 0 returns the recognition network's posterior.
        rate: gamma.

    Returns:
        q~, a Bernoulli of plain arrays (B, J).

    Raises:
        ValueError: as :func:`refine_bernoulli`; an autoregressive layer.
    """
    logits = _start("refine_mean_field", model, x, steps, rate, 1, True)
    # refinement report eq. 7
    log_p_of = lambda fixed, t, mean: fixed.decode(mean).log_prob(x)
    return _ascend("refine_mean_field", model, x, logits, steps, rate, log_p_of)


def refine_straight_through(
    model: Any, x: np.ndarray, rng: Rng, steps: int = 20, rate: float = 0.1, samples: int = 20, *, uniform: Any = None
) -> Bernoulli:
    """Gradient ascent on the logits through samples, whose gradient passes as that of their means (eq. 8).

    d log p(x | h_n) / d h_n, times d mu / d z = mu (1 - mu), which the text leaves out, plus the exact gradient of
    <log p(h)> + H(q~).

    Args:
        model: as for :func:`refine_mean_field`.
        x, rng, steps, samples, uniform: as for :func:`refine_bernoulli`.
        rate: gamma.

    Returns:
        q~, a Bernoulli of plain arrays (B, J).

    Raises:
        ValueError: as :func:`refine_bernoulli`; an autoregressive layer.
    """
    logits = _start("refine_straight_through", model, x, steps, rate, samples, True)
    _check_noise("refine_straight_through", rng, uniform, "uniform", steps, logits.shape)

    def log_p_of(fixed, t, mean):
        value = np.asarray(mean)
        drawn = rng.random((samples, *value.shape), dtype=value.dtype) if uniform is None else uniform[t]
        ones = (drawn < value).astype(value.dtype)
        return fixed.decode(ones + (mean - value)).log_prob(x).mean(axis=0)  # refinement report eq. 8

    return _ascend("refine_straight_through", model, x, logits, steps, rate, log_p_of)


class Refined:
    """A model whose posterior is refined for each datum: as a proposal, and as a way of training.

    Args:
        model: what is refined, of one layer of latents.
        refine: ``refine(model, x, rng) -> q~``, such as ``lambda m, x, rng: refine_gaussian(m, x, rng, 20, 0.1)``.

    Raises:
        ValueError: ``refine`` is no function; a model of several layers.

    Example:
        >>> from minivi import Generator
        >>> from minivi.models import VAE
        >>> vae = VAE(pixels=4, hidden=(3,), latents=2, rng=Generator(0))
        >>> refined = Refined(vae, lambda m, x, rng: refine_gaussian(m, x, rng, steps=5))
        >>> refined.log_weights(np.eye(4, dtype="float32"), Generator(1), samples=7).shape
        (7, 4)
    """

    def __init__(self, model: Any, refine: Callable):
        validate.function(refine, "Refined: refine", "refine(model, x, rng) -> a distribution")
        validate.offers(model, "Refined: model", "encode", "log_p_parts", "sizes")
        if len(model.sizes) != 1:
            raise ValueError(f"Refined: a model of {len(model.sizes)} layers of latents; pass one of one layer")
        self.model, self.method = model, refine

    @property
    def pixels(self) -> int:
        """D, numbers in a datum."""
        return self.model.pixels

    def refine(self, x: np.ndarray, rng: Rng) -> Any:
        """q~(h | x) of each datum, a distribution of constants (B, J): the E step.

        Raises:
            ValueError: x that is not (B, D); ``refine`` has returned anything else.
        """
        validate.rows(x, "Refined: x", self.pixels)
        q = self.method(self.model, x, rng)
        if getattr(q, "shape", None) != (len(x), *self.model.sizes) or not hasattr(q, "sample"):
            raise ValueError(
                f"Refined: refine returned {validate.brief(q)}; let it return a distribution of shape "
                f"{(len(x), *self.model.sizes)}"
            )
        return q

    def log_weights(self, x: np.ndarray, rng: Rng, samples: int = 1) -> Any:
        """log p(x, h_k) - log q~(h_k | x) in nats, (K, B), h_k from the refined posterior: a tighter proposal."""
        validate.count(samples, "Refined: samples")
        validate.generator(rng, "Refined: rng")
        q = self.refine(x, rng)
        h = q.sample(rng, (samples,))
        return sum(self.model.log_p_parts(x, [h])) - q.log_prob(h)

    def elbo(self, x: np.ndarray, rng: Rng, samples: int = 1) -> Any:
        """The bound of each datum by the refined posterior, (B,), in nats."""
        return self.log_weights(x, rng, samples).mean(axis=0)

    def surrogate(self, x: np.ndarray, rng: Rng, samples: int = 20) -> Tensor:
        """The M step for both networks, (B,), to be maximised; no bound (refinement report section 4.2, eq. 6).

            theta:   1/N sum_n grad log p(x, h_n),   h_n ~ q~
            phi:     - grad KL(q~ || q_phi)

        q~ and the samples are constants, so each part reaches one network alone. Section 4.2 prints the part of
        log p(x | h) alone; log p(h) trains a prior that has parameters.

        Args:
            x: data (B, D).
            rng: generator of the refinement's and the samples' noise.
            samples: N, a datum.
        """
        validate.count(samples, "Refined: samples")
        validate.generator(rng, "Refined: rng")
        q = self.refine(x, rng)
        h = q.sample(rng, (samples,))
        log_p = ops.mean(sum(self.model.log_p_parts(x, [h])), axis=0)  # refinement report section 4.2
        return log_p - q.kl(self.model.encode(x))  # refinement report eq. 6
