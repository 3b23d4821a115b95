"""What studies of several chapters measure with: few seeds, pieces of code in turn, levels made continuous."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from minivi.experiments.results import mean_and_error
from minivi.protocols import Rng
from minivi.random import Generator


def few_seeds(values: Any) -> tuple[float, float]:
    """The mean over a few seeds, and an error of which two are the half width of Student's 95 % interval.

    Over two seeds that is 6.4 standard errors, over five 1.4; of one seed alone none is known, 0.
    """
    if len(values) == 1:
        return float(np.mean(values)), 0.0
    from scipy.stats import t

    mean, error = mean_and_error(values)
    return mean, float(error * t.ppf(0.975, len(values) - 1) / 2)


def seconds_in_turn(jobs: dict[str, Callable], rounds: int, idle: int = 1) -> dict[str, np.ndarray]:
    """CPU seconds of each of ``jobs``, functions by name: (rounds,) each; ``idle`` rounds before them compile."""
    spent = {name: [] for name in jobs}
    for _ in range(idle + rounds):
        for name, job in jobs.items():
            since = time.process_time()
            job()
            spent[name].append(time.process_time() - since)
    return {name: np.array(each[idle:]) for name, each in spent.items()}


def dequantize(x: np.ndarray, rng: Rng) -> np.ndarray:
    """Uniform noise as wide as the step between two of the digits' 17 grey values; still in [0, 1]."""
    return (16 * x + rng.random(x.shape, dtype=x.dtype)) / 17


class Dequantised:
    """Levels to continuous v of mean 0 and variance 1, with the log-determinant of u -> v.

    Args:
        x: training images, (N, D) in [0, 1].
        levels: 17 or 256.
        margin: of the logit; None for none.
        seed: of the noise from which mean and variance are taken.
    """

    def __init__(self, x: np.ndarray, levels: int, margin: float | None = None, seed: int = 5):
        self.levels, self.margin, self.mean, self.std = levels, margin, 0.0, 1.0
        v = self(x, Generator(seed)).astype(np.float64)
        self.mean, self.std = v.mean(axis=0), v.std(axis=0)

    def __call__(self, x: np.ndarray, rng: Rng) -> np.ndarray:
        """x = k / (levels - 1), (N, D) -> v in float32."""
        u = (np.rint(np.float64(self.levels - 1) * x) + rng.random(x.shape)) / self.levels
        if self.margin is not None:
            inner = self.margin + (1 - 2 * self.margin) * u
            u = np.log(inner) - np.log1p(-inner)
        return ((u - self.mean) / self.std).astype(np.float32)

    def log_det(self, v: np.ndarray) -> np.ndarray:
        """log |det dv/du| at ``v``, (N,), in nats."""
        total = -np.sum(np.broadcast_to(np.log(self.std), v.shape[-1:]))
        if self.margin is None:
            return np.full(len(v), total)
        v = self.std * np.float64(v) + self.mean
        log_slope = np.log1p(-2 * self.margin) + np.logaddexp(0.0, v) + np.logaddexp(0.0, -v)
        return total + log_slope.sum(axis=-1)

    def bits(self, log_p: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Bits per dimension, (N,), of images with log p(v) = ``log_p``."""
        d = v.shape[-1]
        return -(log_p + self.log_det(v) - d * np.log(self.levels)) / (d * np.log(2.0))

    def images(self, v: np.ndarray) -> np.ndarray:
        """Back to grey values in [0, 1]."""
        v = self.std * np.float64(v) + self.mean
        return v if self.margin is None else (1 / (1 + np.exp(-v)) - self.margin) / (1 - 2 * self.margin)
