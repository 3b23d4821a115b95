"""Probabilistic backpropagation for regression (Hernandez-Lobato & Adams 2015), next step of review report 6.2.

    q(W, gamma, lambda) = prod N(w | m, v) Gam(gamma | a, b) Gam(lambda | a_w, b_w)
    y | x ~ N(f(x; W), 1 / gamma),   w ~ N(0, 1 / lambda)

Forward, each layer passes on mean and variance of its outputs, as if they were Gaussian. Backward, the gradient of
log Z, Z the probability of one target, moves the posterior to the moments of what that target makes of it:

    m <- m + v dlogZ/dm,      v <- v - v^2 ((dlogZ/dm)^2 - 2 dlogZ/dv)

There is no step size: each target is taken in once a pass. After a pass the prior's factors are refined in the same way
(expectation propagation). Here the network and the gradients are minivi's own; the original derives them by Theano.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minivi import ops, validate
from minivi.protocols import Rng
from minivi.tensor import Parameter, Tensor, grad, no_grad

PSEUDO = 6.0  # both precisions start as if six squares had been seen


def relu_moments(m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of max(0, a), a ~ N(m, v), of any shape."""
    s = ops.sqrt(v)
    alpha = m / s
    below, density = ops.normal_cdf(alpha), ops.exp(-0.5 * ops.square(alpha)) * (1.0 / math.sqrt(2.0 * math.pi))
    mean = m * below + s * density
    return mean, ops.maximum((ops.square(m) + v) * below + m * s * density - ops.square(mean), 1e-30)


def matched_gamma(a: float, b: float, log_z: Sequence[float]) -> tuple[float, float]:
    """Gam(a', b') with the first two moments that a factor of normalisers Z(a), Z(a + 1), Z(a + 2) leaves of Gam(a, b).

    Args:
        a, b: shape and rate before.
        log_z: logs of the three normalisers.
    """
    z, z1, z2 = log_z
    new_a = 1.0 / (math.exp(z2 - 2.0 * z1 + z) * (a + 1.0) / a - 1.0)
    return new_a, 1.0 / (math.exp(z2 - z1) * (a + 1.0) / b - math.exp(z1 - z) * a / b)


class ProbabilisticBackpropagation:
    """A regression network with ReLU layers whose weights have Gaussian posteriors, by assumed density filtering.

    Args:
        sizes: (inputs, hidden ..., 1).
        rng: generator of the initial means and of the order of the data.

    Attributes:
        m, v: means and variances of the weights of each layer, (I + 1, O), the biases last.
        noise: a and b of the noise's precision, for targets of unit variance.
        precision: a_w and b_w of the weights' precision.

    Raises:
        ValueError: sizes that do not end in 1, no generator.
    """

    def __init__(self, sizes: Sequence[int], rng: Rng):
        validate.sizes(sizes, "ProbabilisticBackpropagation: sizes, at least an input and an output,", 2)
        validate.generator(rng, "ProbabilisticBackpropagation: rng")
        if sizes[-1] != 1:
            raise ValueError(f"ProbabilisticBackpropagation: sizes {tuple(sizes)}; the last must be 1, one target")
        self.rng, shapes = rng, [(i + 1, o) for i, o in zip(sizes[:-1], sizes[1:], strict=True)]
        self.noise, self.precision = (PSEUDO, PSEUDO), (PSEUDO, PSEUDO)
        variance = self.precision[1] / (self.precision[0] - 1.0)
        self.m = [Parameter(rng.standard_normal(s) / math.sqrt(s[0]), dtype="float64") for s in shapes]
        self.v = [Parameter(np.full(s, variance), dtype="float64") for s in shapes]
        # natural parameters of the prior's approximate factors: of the weights and of their precision
        self._factors = [np.zeros((4, *s)) for s in shapes]
        for factor in self._factors:
            factor[1] = 1.0 / variance
        self.scale = None

    def moments(self, x: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and variance of f(x; W), (B,) each, for standardised x (B, D)."""
        mean, variance = x, np.zeros_like(x)
        for n, (m, v) in enumerate(zip(self.m, self.v, strict=True)):
            if n:
                mean, variance = relu_moments(mean, variance)
            inputs, one = m.shape[0], np.ones((len(x), 1))
            mean, variance = ops.concatenate([mean, one], axis=1), ops.concatenate([variance, 0.0 * one], axis=1)
            spread = ops.matmul(variance, ops.square(m) + v) + ops.matmul(ops.square(mean), v)
            mean, variance = ops.matmul(mean, m) * inputs**-0.5, spread * (1.0 / inputs)
        return mean[:, 0], variance[:, 0]

    def fit(self, x: np.ndarray, y: np.ndarray, epochs: int = 40) -> ProbabilisticBackpropagation:
        """Take in inputs (N, D) and targets (N,), one datum after another, ``epochs`` times.

        Raises:
            ValueError: inputs or targets of another shape, numbers that are not finite, fewer than two data.
        """
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        validate.rows(x, "ProbabilisticBackpropagation.fit: x", self.m[0].shape[0] - 1)
        validate.count(epochs, "ProbabilisticBackpropagation.fit: epochs")
        if y.shape != (len(x),) or len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError(
                f"ProbabilisticBackpropagation.fit: targets {y.shape} for {len(x)} data; pass finite numbers, one "
                "target for each of two data or more"
            )
        spread = np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
        self.scale = x.mean(axis=0), spread, y.mean(), y.std() or 1.0
        x, y = (x - self.scale[0]) / self.scale[1], (y - self.scale[2]) / self.scale[3]
        for _ in range(epochs):
            for i in self.rng.permutation(len(x)):
                self._take_in(x[i : i + 1], y[i])
            self._refine_prior()
        return self

    def _take_in(self, x, y):
        (a, b), parameters = self.noise, [*self.m, *self.v]
        mean, variance = self.moments(x)
        total = variance + b / (a - 1.0)
        log_z = -0.5 * (ops.log(total) + ops.square(y - mean) / total)  # up to a constant
        gradients = grad(log_z.sum(), parameters)
        error, spread = float(y - mean.item()) ** 2, variance.item()
        others = [spread + b / a, spread + b / (a + 1.0)]
        log_zs = [log_z.item(), *(-0.5 * (math.log(t) + error / t) for t in others)]
        layers = len(self.m)
        for m, v, dm, dv in zip(self.m, self.v, gradients[:layers], gradients[layers:], strict=True):
            new_m, new_v = m.data + v.data * dm, v.data - v.data**2 * (dm**2 - 2.0 * dv)
            good = (new_v > 1e-100) & np.isfinite(new_m) & np.isfinite(new_v)  # others stay what they were
            m.assign(np.where(good, new_m, m.data))
            v.assign(np.where(good, new_v, v.data))
        self.noise = matched_gamma(a, b, log_zs)

    def _refine_prior(self):
        """Each weight's factor N(w | 0, 1 / lambda) taken out, and its moments matched anew, one after another."""
        for m, v, factor in zip(self.m, self.v, self._factors, strict=True):
            new_m, new_v = m.data.copy(), v.data.copy()
            for place in np.ndindex(m.shape):
                found = self._refined(new_m[place], new_v[place], factor[(slice(None), *place)])
                if found is not None:
                    new_m[place], new_v[place], factor[(slice(None), *place)], self.precision = found
            m.assign(new_m)
            v.assign(new_v)

    def _refined(self, m, v, factor):
        a, b = self.precision
        precision, a, b = 1.0 / v - factor[1], a - factor[2], b + factor[3]
        if precision <= 1e-6 or a <= 1.0 or b <= 0.0:
            return None  # no cavity
        mean, variance = (m / v - factor[0]) / precision, 1.0 / precision
        totals = [variance + b / (a - 1.0), variance + b / a, variance + b / (a + 1.0)]
        log_zs = [-0.5 * (math.log(t) + mean**2 / t) for t in totals]
        slope, curve = -mean / totals[0], -0.5 / totals[0] + 0.5 * mean**2 / totals[0] ** 2
        new_m, new_v = mean + variance * slope, variance - variance**2 * (slope**2 - 2.0 * curve)
        new_a, new_b = matched_gamma(a, b, log_zs)
        natural = np.array([new_m / new_v - mean / variance, 1.0 / new_v - precision, new_a - a, b - new_b])
        return new_m, new_v, natural, (new_a, new_b)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the function at x (B, D), (B,) each, in the targets' units; the noise is not in it.

        Raises:
            ValueError: x of another shape; nothing was fitted yet.
        """
        if self.scale is None:
            raise ValueError("ProbabilisticBackpropagation.predict: nothing was fitted yet; call fit(x, y) first")
        validate.rows(x, "ProbabilisticBackpropagation.predict: x", self.m[0].shape[0] - 1)
        with no_grad():
            mean, variance = self.moments((np.asarray(x, np.float64) - self.scale[0]) / self.scale[1])
        return np.asarray(mean) * self.scale[3] + self.scale[2], np.asarray(variance) * self.scale[3] ** 2

    @property
    def noise_variance(self) -> float:
        """E[1 / gamma], in the targets' units squared."""
        a, b = self.noise
        return b / (a - 1.0) * (1.0 if self.scale is None else self.scale[3] ** 2)
