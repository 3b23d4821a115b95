"""Signal and noise of gradients: mean and variance over repeated draws, and their ratio with its error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from minivi import validate


@dataclass
class GradientMoments:
    """Mean and variance of every parameter's gradient over repeated draws, float64.

    Attributes:
        mean, variance: one array for each parameter, of its shape; the variance is the unbiased one.
        draws: N.
    """

    mean: list[np.ndarray]
    variance: list[np.ndarray]
    draws: int

    def snr(self) -> list[np.ndarray]:
        """|mean| / standard deviation (tighter-bounds report, eq. 8); NaN where every draw is 0.

        Pure noise gives about 0.8 / sqrt(N), and not 0: see :meth:`squared_snr`.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            # tighter-bounds report eq. 8
            return [np.abs(m) / np.sqrt(v) for m, v in zip(self.mean, self.variance, strict=True)]

    def squared_snr(self, noise: GradientMoments | None = None) -> list[np.ndarray]:
        """The squared ratio without bias for Gaussian draws, N > 3: to be averaged before a root; may be negative.

        Args:
            noise: of another, independent estimator with the same expectation: divide this mean by the other's standard
                deviation. Use it when the other's own mean is too noisy.
        """
        n, other = self.draws, noise or self
        validate.count(other.draws, "squared_snr: draws", 4)
        freedom = (other.draws - 3) / (other.draws - 1)  # 1 / E[1 / sample variance], times the variance
        with np.errstate(divide="ignore", invalid="ignore"):
            if noise is None:
                return [m**2 / v * freedom - 1.0 / n for m, v in zip(self.mean, self.variance, strict=True)]
            triples = zip(self.mean, self.variance, noise.variance, strict=True)
            return [(m**2 - v / n) / below * freedom for m, v, below in triples]

    def snr_error(self) -> list[np.ndarray]:
        """Standard error of :meth:`snr` for Gaussian draws, by the delta method: sqrt((1 + snr^2 / 2) / N)."""
        return [np.sqrt((1.0 + 0.5 * ratio**2) / self.draws) for ratio in self.snr()]


def gradient_moments(gradient: Callable[[], Sequence[np.ndarray]], draws: int) -> GradientMoments:
    """Mean and variance of a random gradient by Welford's running sums: no draw is kept.

    Args:
        gradient: each call draws new noise and returns one array for each parameter, e.g.
            ``lambda: grad(vae.elbo(x, rng).mean(), vae.parameters())``.
        draws: N, at least 2.

    Raises:
        ValueError: fewer than two draws; ``gradient`` is no function.
    """
    validate.function(gradient, "gradient_moments: gradient", "() -> one array for each parameter")
    validate.count(draws, "gradient_moments: draws", 2)
    mean = squares = None
    for n in range(1, draws + 1):
        draw = [np.asarray(g, np.float64) for g in gradient()]
        if mean is None:
            mean, squares = [np.zeros_like(g) for g in draw], [np.zeros_like(g) for g in draw]
        for m, s, g in zip(mean, squares, draw, strict=True):
            off = g - m
            m += off / n
            s += off * (g - m)
    return GradientMoments(mean, [s / (draws - 1) for s in squares], draws)
