"""Distributions over the last axis: samples, log-probabilities, entropies and Kullback-Leibler divergences, in nats.

Parameters may be Tensors (then everything is differentiable) or arrays. Noise is explicit: ``sample`` draws from a
given generator, ``rsample`` transforms given noise ``eps``, which lets gradients through.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.tensor import Tensor

LOG_2PI = float(np.log(2.0 * np.pi))


def _raw(x: Any) -> np.ndarray:
    return x._data if isinstance(x, Tensor) else np.asarray(x)


class Normal:
    """Factorised Gaussian N(mu, diag(sigma^2)) over the last axis (thesis eq. 2.37).

    Args:
        mu, log_sigma: shape (..., D), broadcast against each other.
    """

    def __init__(self, mu: Any, log_sigma: Any):
        self.mu, self.log_sigma = mu, log_sigma

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one draw: (..., D)."""
        return np.broadcast_shapes(np.shape(_raw(self.mu)), np.shape(_raw(self.log_sigma)))

    def sample(self, rng: Any, samples: tuple[int, ...] = ()) -> np.ndarray:
        """Draws of shape (*samples, ..., D), constants for differentiation."""
        mu, log_sigma = _raw(self.mu), _raw(self.log_sigma)
        eps = rng.standard_normal((*samples, *self.shape), dtype=mu.dtype)
        return mu + np.exp(log_sigma) * eps

    def rsample(self, eps: Any) -> Any:
        """mu + sigma * eps (eq. 2.40); ``eps`` of shape (..., D), standard normal."""
        return ops.gaussian_sample(self.mu, self.log_sigma, eps)

    def rsample_with_log_prob(self, eps: Any) -> tuple[Any, Any]:
        """``rsample(eps)``, (..., D), and its log-density, (...), in nats."""
        return self.rsample(eps), self.log_prob_of_noise(eps)

    def log_prob(self, x: Any) -> Any:
        """log N(x; mu, diag(sigma^2)), shape (...)."""
        return ops.gaussian_log_prob(x, self.mu, self.log_sigma)

    def log_prob_of_noise(self, eps: Any) -> Any:
        """log-density of ``rsample(eps)`` = log N(eps; 0, I) - sum_d log sigma_d, shape (...) (eq. 2.43, 2.44)."""
        eps = _raw(eps)
        constant = -0.5 * np.sum(eps * eps, axis=-1) - 0.5 * eps.shape[-1] * LOG_2PI
        return constant.astype(eps.dtype) - ops.sum(self.log_sigma, axis=-1)

    def entropy(self) -> Any:
        """sum_d (1 + log 2 pi) / 2 + log sigma_d, shape (...)."""
        log_sigma = self.log_sigma + np.zeros(self.shape, _raw(self.log_sigma).dtype)
        return ops.sum(log_sigma, axis=-1) + 0.5 * self.shape[-1] * (1.0 + LOG_2PI)

    def kl(self, other: Normal | None = None) -> Any:
        """KL(self || other), shape (...); ``other`` None is N(0, I) (thesis appendix 2.A)."""
        if other is None:
            return ops.gaussian_kl(self.mu, self.log_sigma)
        scaled = (self.mu - other.mu) * ops.exp(-other.log_sigma)
        ratio = self.log_sigma - other.log_sigma
        return ops.sum(0.5 * (scaled * scaled + ops.exp(2.0 * ratio) - 1.0) - ratio, axis=-1)

    def product(self, other: Normal) -> Normal:
        """self * other / Z: precisions add, means are averaged by their precisions (thesis 4.1.1; Salimans 2016).

        Both from the difference of the log sigmas, so that neither precision can overflow.
        """
        wider = 2.0 * (self.log_sigma - other.log_sigma)
        mu = self.mu + ops.sigmoid(wider) * (other.mu - self.mu)
        return Normal(mu, self.log_sigma - 0.5 * ops.softplus(wider))

    def detached(self) -> Normal:
        """The same distribution with constant parameters."""
        return Normal(_raw(self.mu), _raw(self.log_sigma))

    def kl_per_dimension(self) -> Any:
        """KL(N(mu_d, sigma_d^2) || N(0, 1)) of each d, shape (..., D); their sum is ``kl()``."""
        square = ops.square(self.mu) + ops.exp(2.0 * self.log_sigma)
        return 0.5 * (square - 1.0) - self.log_sigma


class MultivariateNormal(Normal):
    """Gaussian N(mu, L L^T) with a full covariance (thesis section 2.6.1, eq. 2.45-2.55).

    L is lower triangular with sigma on its diagonal, so its determinant, hence the entropy and the density of
    ``rsample(eps)``, are those of the factorised Gaussian (eq. 2.55).

    Args:
        mu, log_sigma: shape (..., D).
        lower: L's entries below the diagonal, row by row, shape (..., D (D - 1) / 2); leading axes as mu's.

    Raises:
        ValueError: ``lower`` has another length.
    """

    def __init__(self, mu: Any, log_sigma: Any, lower: Any):
        super().__init__(mu, log_sigma)
        self.lower = lower
        size = self.shape[-1]
        self._rows, self._columns = np.tril_indices(size, -1)
        if np.shape(_raw(lower))[-1:] != self._rows.shape:
            raise ValueError(
                f"MultivariateNormal: lower has shape {np.shape(_raw(lower))}; a {size} x {size} L has "
                f"{len(self._rows)} entries below its diagonal"
            )

    def _sum_rows(self, entries):
        """Sums of packed ``entries`` (..., D (D - 1) / 2) over each row of L: (..., D)."""
        return ops.matmul(entries, (self._rows[:, None] == np.arange(self.shape[-1])).astype(_raw(entries).dtype))

    @property
    def scale(self) -> np.ndarray:
        """L as a constant matrix, (..., D, D) (eq. 2.54)."""
        lower, sigma = _raw(self.lower), np.exp(_raw(self.log_sigma))
        matrix = sigma[..., None] * np.eye(self.shape[-1], dtype=sigma.dtype)
        matrix[..., self._rows, self._columns] = lower
        return matrix

    def sample(self, rng: Any, samples: tuple[int, ...] = ()) -> np.ndarray:
        """Draws of shape (*samples, ..., D), constants for differentiation."""
        eps = rng.standard_normal((*samples, *self.shape), dtype=_raw(self.mu).dtype)
        return _raw(self.mu) + np.einsum("...ij,...j->...i", self.scale, eps)

    def rsample(self, eps: Any) -> Any:
        """mu + L eps (eq. 2.47); ``eps`` of shape (..., D), standard normal."""
        return super().rsample(eps) + self._sum_rows(self.lower * eps[..., self._columns])

    def log_prob(self, x: Any) -> Any:
        """log N(x; mu, L L^T), shape (...), by forward substitution for eps in x = mu + L eps."""
        centred, inverse = x - self.mu, ops.exp(-self.log_sigma)
        eps = centred[..., :1] * inverse[..., :1]
        for i in range(1, self.shape[-1]):
            row = self.lower[..., i * (i - 1) // 2 : i * (i + 1) // 2]
            rest = centred[..., i : i + 1] - ops.sum(row * eps, axis=-1, keepdims=True)
            eps = ops.concatenate([eps, rest * inverse[..., i : i + 1]], axis=-1)
        zero = np.zeros(self.shape[-1], _raw(self.mu).dtype)
        return ops.gaussian_log_prob(eps, zero, zero) - ops.sum(self.log_sigma, axis=-1)

    def detached(self) -> MultivariateNormal:
        """The same distribution with constant parameters."""
        return MultivariateNormal(_raw(self.mu), _raw(self.log_sigma), _raw(self.lower))

    def kl(self, other: None = None) -> Any:
        """KL(self || N(0, I)) = (sum L^2 + mu^2 - D) / 2 - sum_d log sigma_d, shape (...).

        Raises:
            ValueError: another ``other`` than N(0, I).
        """
        if other is not None:
            raise ValueError("MultivariateNormal.kl: closed form to N(0, I) alone; sample log_prob for another one")
        return super().kl() + 0.5 * ops.sum(ops.square(self.lower), axis=-1)

    def kl_per_dimension(self) -> Any:
        """The chain rule's terms E KL(q(z_d | z_1 .. z_d-1) || N(0, 1)), shape (..., D); their sum is ``kl()``."""
        return super().kl_per_dimension() + 0.5 * self._sum_rows(ops.square(self.lower))


class Bernoulli:
    """Independent binary variables over the last axis, from their logits (thesis eq. 1.17, 1.18).

    Args:
        logits: shape (..., D).
    """

    def __init__(self, logits: Any):
        self.logits = logits

    @property
    def mean(self) -> Any:
        """Probabilities of ones, (..., D)."""
        return ops.sigmoid(self.logits)

    def sample(self, rng: Any, samples: tuple[int, ...] = ()) -> np.ndarray:
        """Zeros and ones of shape (*samples, ..., D), in the logits' dtype."""
        p = _raw(self.mean)
        return (rng.random((*samples, *p.shape), dtype=p.dtype) < p).astype(p.dtype)

    def log_prob(self, x: Any) -> Any:
        """sum_d log p(x_d) for x in {0, 1} (or a probability in [0, 1]), shape (...).

        Raises:
            ValueError: ``x`` has values outside [0, 1], or NaN.
        """
        validate.unit_interval(x, "Bernoulli.log_prob: x")
        return ops.bernoulli_log_prob(x, self.logits)

    def entropy(self) -> Any:
        """Shape (...)."""
        return ops.sum(ops.softplus(self.logits) - self.logits * self.mean, axis=-1)

    def kl(self, other: Bernoulli) -> Any:
        """KL(self || other), shape (...)."""
        gap = self.mean * (self.logits - other.logits)
        return ops.sum(gap - ops.softplus(self.logits) + ops.softplus(other.logits), axis=-1)


class Categorical:
    """One of C classes, from unnormalised log-probabilities.

    Args:
        logits: shape (..., C).
    """

    def __init__(self, logits: Any):
        self.logits = logits

    @property
    def log_probs(self) -> Any:
        """Normalised log-probabilities, (..., C)."""
        return ops.log_softmax(self.logits)

    def sample(self, rng: Any, samples: tuple[int, ...] = ()) -> np.ndarray:
        """Class numbers of shape (*samples, ...), by the largest logit plus Gumbel noise."""
        logits = _raw(self.logits)
        return np.argmax(logits + rng.gumbel(size=(*samples, *logits.shape)), axis=-1)

    def log_prob(self, labels: Any) -> Any:
        """log p(label), shape (...); ``labels`` are integers in [0, C).

        Raises:
            TypeError: ``labels`` are not integers.
            ValueError: a label lies outside [0, C).
        """
        labels = np.asarray(labels)
        log_probs = self.log_probs
        if labels.dtype.kind not in "iu":
            raise TypeError(f"Categorical.log_prob: labels of dtype {labels.dtype}; pass integers, labels.astype(int)")
        if labels.size and not (0 <= labels.min() and labels.max() < log_probs.shape[-1]):
            raise ValueError(
                f"Categorical.log_prob: labels from {labels.min()} to {labels.max()} for {log_probs.shape[-1]} classes"
            )
        shape = np.broadcast_shapes(labels.shape, log_probs.shape[:-1])
        log_probs = ops.broadcast_to(log_probs, shape=(*shape, log_probs.shape[-1]))
        return ops.getitem(log_probs, (*np.indices(shape, sparse=True), np.broadcast_to(labels, shape)))

    def entropy(self) -> Any:
        """Shape (...); classes of probability 0 must have finite logits."""
        log_probs = self.log_probs
        return -ops.sum(ops.exp(log_probs) * log_probs, axis=-1)

    def kl(self, other: Categorical) -> Any:
        """KL(self || other), shape (...)."""
        log_probs = self.log_probs
        return ops.sum(ops.exp(log_probs) * (log_probs - other.log_probs), axis=-1)
