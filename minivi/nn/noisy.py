"""Linear layers with uncertain weights or noisy inputs: weight noise and dropout of thesis chapter 6.

    GaussianLinear         w ~ N(mu, sigma^2)                                                     (section 6.2.3)
    DropoutLinear          w ~ N(theta, alpha theta^2), "B": independent weight noise             (section 6.3.1)
    InputDropoutLinear     (a * xi) theta, xi ~ N(1, alpha) or Bernoulli: "A", correlated noise   (section 6.3.2)

The first two sample in three ways. The last needs no weights at all, only the outputs that they would give:

    "minibatch"   one W for the minibatch
    "datum"       one W for each datum: a thousand times the numbers, and no matrix product
    "local"       b_mj ~ N(sum_i a_mi mu_ij, sum_i a_mi^2 sigma_ij^2)                             (eq. 6.6, 6.8)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.nn import priors
from minivi.nn.layers import Linear, dropout, he
from minivi.protocols import Rng
from minivi.tensor import Parameter, Tensor

SAMPLINGS = ("local", "datum", "minibatch")
RATES = ("fixed", "layer", "unit", "weight")


class _Uncertain(Linear):
    """A linear layer with random weights; subclasses say what their variances are and how to draw them."""

    def describe(self) -> str:
        """Such as "GaussianLinear(784 -> 500, local)"."""
        return f"{type(self).__name__}({' -> '.join(map(str, self.weight.shape))}, {self.sampling})"

    def __call__(self, x: Any, rng: Rng | None = None, eps: Any = None) -> Tensor:
        """(B, I) -> (B, O).

        Args:
            x: inputs.
            rng: generator of the noise; without it, as in evaluation, the weights are their means.
            eps: the noise itself, for checks: "local" (B, O), "minibatch" as :meth:`noise_shape`, "datum" (B, *that).
        """
        if rng is None and eps is None:
            return super().__call__(x)
        validate.one_of(self.sampling, f"{type(self).__name__}: sampling", SAMPLINGS)  # an attribute that may be set
        if self.sampling == "local":
            mean = ops.affine(x, self.weight, self.bias)
            variance = ops.affine(ops.square(x), *self.variances())
            eps = rng.standard_normal(mean.shape, dtype=mean.dtype) if eps is None else eps
            return ops.local_sample(mean, variance, eps)  # eq. 6.6, 6.8
        if self.sampling == "minibatch":
            return ops.affine(x, *self.draw(rng, eps=eps))
        w, b = self.draw(rng, len(x), eps=eps)
        return ops.matmul(ops.reshape(x, shape=(len(x), 1, -1)), w)[:, 0] + b

    def _noise(self, rng, count, eps):
        if eps is None:
            shape = self.noise_shape if count is None else (count, *self.noise_shape)
            eps = rng.standard_normal(shape, dtype=self.weight.dtype)
        return eps

    def with_kl(self, x: Any, rng: Rng) -> tuple[Tensor, Any]:
        """The outputs and the divergence of the weights, in nats."""
        return self(x, rng), self.kl()

    def constrain(self) -> None:
        """Bring parameters back to where they may be; called before each step."""


class GaussianLinear(_Uncertain):
    """x W + b with the posterior N(mu, diag(sigma^2)) over weights and biases.

    Args:
        inputs, outputs: I and O.
        rng: generator of the initial means.
        sampling: "local", "datum" or "minibatch".
        prior: of :mod:`minivi.nn.priors`.
        sigma: initial standard deviation.
        init: initialiser of the means.
        dtype: "float32" or "float64".

    Raises:
        ValueError: as :class:`minivi.nn.Linear`; an unknown sampling, a ``sigma`` that is not positive; a prior whose
            divergence needs weights, with a sampling that has none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: Rng,
        *,
        sampling: str = "local",
        prior: Any = None,
        sigma: float = 0.05,
        init: Callable = he,
        dtype: Any = "float32",
    ):
        super().__init__(inputs, outputs, rng, init=init, dtype=dtype)
        validate.one_of(sampling, "GaussianLinear: sampling", SAMPLINGS)
        validate.number(sigma, "GaussianLinear: sigma", 0, ends="(]")
        self.sampling, self.prior = sampling, prior or priors.Gaussian()
        if self.prior.sampled and sampling != "minibatch":
            raise ValueError(f"GaussianLinear: {type(self.prior).__name__} needs weights; pass sampling='minibatch'")
        self.log_sigma = Parameter(np.full((inputs, outputs), math.log(sigma)), dtype=dtype)
        self.bias_log_sigma = Parameter(np.full(outputs, math.log(sigma)), dtype=dtype)

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Of the noise of one set of weights: (I + 1, O), that of the biases last."""
        return self.weight.shape[0] + 1, self.weight.shape[1]

    def variances(self) -> tuple[Tensor, Tensor]:
        """sigma^2 of weights and of biases."""
        return ops.exp(2.0 * self.log_sigma), ops.exp(2.0 * self.bias_log_sigma)

    def draw(self, rng: Rng | None, count: int | None = None, *, eps: Any = None) -> tuple[Tensor, Tensor]:
        """Weights (I, O) and biases (O,); with ``count`` as many of both, (count, I, O) and (count, O)."""
        eps = self._noise(rng, count, eps)
        w = ops.gaussian_sample(self.weight, self.log_sigma, eps[..., :-1, :])
        return w, ops.gaussian_sample(self.bias, self.bias_log_sigma, eps[..., -1, :])

    def kl(self) -> Tensor:
        """KL(q(W, b) || prior) in closed form, a scalar, in nats."""
        parts = ((self.weight, self.log_sigma), (self.bias, self.bias_log_sigma))
        return self.prior.kl(*parts[0]) + self.prior.kl(*parts[1])

    def with_kl(self, x: Any, rng: Rng) -> tuple[Tensor, Tensor]:
        """The outputs and the divergence, by the same weights where the prior has no closed form."""
        if not self.prior.sampled:
            return super().with_kl(x, rng)
        w, b = self.draw(rng)
        kl = self.prior.kl(self.weight, self.log_sigma, w) + self.prior.kl(self.bias, self.bias_log_sigma, b)
        return ops.affine(x, w, b), kl


def _log_alpha(name, rate, learned, shape, dtype):
    """log alpha, alpha = p / (1 - p) (eq. 6.32), a Parameter if it is learned."""
    validate.number(rate, f"{name}: rate", 0, 1, "()")
    if learned == "fixed":
        return np.full(1, math.log(rate / (1.0 - rate)), dtype)
    if rate > 0.5:
        raise ValueError(f"{name}: rate {rate}; a learned alpha is at most 1, so pass a rate of at most 0.5")
    return Parameter(np.full(shape, math.log(rate / (1.0 - rate))), dtype=dtype)


class _Dropout(_Uncertain):
    """What layers with a dropout rate share."""

    @property
    def alpha(self) -> np.ndarray:
        """p / (1 - p), the variance of the multiplicative noise: (1,), one a unit or one a weight."""
        return np.exp(np.asarray(self.log_alpha))

    def constrain(self) -> None:
        """alpha <= 1 (section 6.3.4): what is larger is a bad local optimum with gradients of large variance."""
        if isinstance(self.log_alpha, Parameter):
            self.log_alpha.assign(np.minimum(self.log_alpha.data, 0.0))

    def _kl(self, count):
        return (count // self.log_alpha.size) * ops.sum(priors.log_uniform_kl(self.log_alpha))


class DropoutLinear(_Dropout):
    """Dropout B: independent noise on weights, w ~ N(theta, alpha theta^2) (section 6.3.1); biases have none.

    With a fixed rate it is Gaussian dropout of Wang & Manning, with a learned one variational dropout.

    Args:
        inputs, outputs: I and O.
        rng: generator of the initial theta.
        rate: p, the dropout rate, or where learning starts; alpha = p / (1 - p).
        learned: "fixed", or one alpha for the "layer", for each "unit" (output) or for each "weight".
        sampling: "local", "datum" or "minibatch".
        init: initialiser of theta.
        dtype: "float32" or "float64".

    Raises:
        ValueError: as :class:`minivi.nn.Linear`; a rate outside (0, 1), above 0.5 where it is learned; unknown words.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: Rng,
        *,
        rate: float = 0.5,
        learned: str = "fixed",
        sampling: str = "local",
        init: Callable = he,
        dtype: Any = "float32",
    ):
        super().__init__(inputs, outputs, rng, init=init, dtype=dtype)
        validate.one_of(learned, "DropoutLinear: learned", RATES)
        validate.one_of(sampling, "DropoutLinear: sampling", SAMPLINGS)
        self.sampling = sampling
        shape = {"unit": (1, outputs), "weight": (inputs, outputs)}.get(learned, (1,))
        self.log_alpha = _log_alpha("DropoutLinear", rate, learned, shape, dtype)

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Of the noise of one set of weights: (I, O)."""
        return self.weight.shape

    def variances(self) -> tuple[Tensor, np.ndarray]:
        """alpha theta^2 of weights, and zeros for biases."""
        return ops.exp(self.log_alpha) * ops.square(self.weight), np.zeros(self.bias.size, self.bias.dtype)

    def draw(self, rng: Rng | None, count: int | None = None, *, eps: Any = None) -> tuple[Tensor, Tensor]:
        """theta (1 + sqrt(alpha) eps), (I, O) or with ``count`` (count, I, O), and the biases (eq. 6.31, 6.38)."""
        noise = 1.0 + ops.exp(0.5 * self.log_alpha) * self._noise(rng, count, eps)
        return self.weight * noise, self.bias  # eq. 6.31

    def kl(self) -> Tensor:
        """KL(q(W) || log-uniform), all weights together: a scalar, in nats."""
        return self._kl(self.weight.size)


class InputDropoutLinear(_Dropout):
    """Dropout A: noise on the inputs, (x * xi) theta + b, which is correlated noise on the weights (eq. 6.7, 6.9).

    Args:
        inputs, outputs, rng, init, dtype: as of :class:`DropoutLinear`.
        noise: "gaussian", xi ~ N(1, alpha); or "binary", xi = 0 with probability p, else 1 / (1 - p).
        rate: p; 0 is no noise.
        learned: "fixed", or one alpha for the "layer" or for each "unit" (input), for Gaussian noise.

    Raises:
        ValueError: as :class:`DropoutLinear`.
    """

    sampling = "local"

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: Rng,
        *,
        noise: str = "gaussian",
        rate: float = 0.5,
        learned: str = "fixed",
        init: Callable = he,
        dtype: Any = "float32",
    ):
        super().__init__(inputs, outputs, rng, init=init, dtype=dtype)
        validate.one_of(noise, "InputDropoutLinear: noise", ("gaussian", "binary"))
        validate.one_of(learned, "InputDropoutLinear: learned", RATES[:3])
        self.noise, self.rate = noise, rate
        if noise == "binary":
            validate.number(rate, "InputDropoutLinear: rate", 0, 1, "[)")
            if learned != "fixed":
                raise ValueError("InputDropoutLinear: binary noise has a fixed rate; pass noise='gaussian'")
        else:
            shape = (inputs,) if learned == "unit" else (1,)
            self.log_alpha = _log_alpha("InputDropoutLinear", rate, learned, shape, dtype)

    def __call__(self, x: Any, rng: Rng | None = None, eps: Any = None) -> Tensor:
        """(B, I) -> (B, O); noise by ``rng`` or, for Gaussian noise, ``eps`` (B, I); without them none."""
        if self.noise == "binary":
            return ops.affine(dropout(x, self.rate, rng), self.weight, self.bias)  # eq. 6.12
        if rng is None and eps is None:
            return ops.affine(x, self.weight, self.bias)
        eps = rng.standard_normal(np.shape(x), dtype=self.weight.dtype) if eps is None else eps
        return ops.affine(x * (1.0 + ops.exp(0.5 * self.log_alpha) * eps), self.weight, self.bias)  # eq. 6.7

    @property
    def alpha(self) -> np.ndarray:
        """The variance of the noise, also of binary noise, p / (1 - p) (eq. 6.18): (1,), or one a unit."""
        return np.full(1, self.rate / (1.0 - self.rate)) if self.noise == "binary" else super().alpha

    def constrain(self) -> None:
        """As of :class:`DropoutLinear`."""
        if self.noise == "gaussian":
            super().constrain()

    def kl(self) -> Any:
        """KL(q(s) || log-uniform) of the scales s of the inputs, eq. 6.9: a scalar, in nats; 0 for binary noise."""
        return self._kl(self.weight.shape[0]) if self.noise == "gaussian" else 0.0
