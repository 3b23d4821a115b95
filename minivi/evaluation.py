"""Held-out bounds and likelihoods with their standard errors, computed in chunks of bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minivi.tensor import no_grad

# Floats that one chunk's largest array may hold: 64 MiB in float32; a pass keeps a handful of such arrays.
CHUNK = 16 * 1024 * 1024


@dataclass
class Estimate:
    """A mean over N data in nats, with errors.

    Attributes:
        mean: the mean over the data.
        standard_error: of that mean, from the spread over data.
        noise: the part of the error that comes from a finite number of samples, were the data kept fixed.
        values: of each datum, (N,).
    """

    mean: float
    standard_error: float
    noise: float
    values: np.ndarray

    def __str__(self) -> str:
        return f"{self.mean:.2f} +- {self.standard_error:.2f}"


def _estimate(values, variances):
    n = len(values)
    spread = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Estimate(float(np.mean(values)), spread, float(np.sqrt(np.sum(variances)) / n), values)


def _check(model, x, samples):
    if np.ndim(x) != 2 or len(x) == 0:
        raise ValueError(f"evaluation: x has shape {np.shape(x)}; pass at least one datum, as rows (N, D)")
    if samples < 1:
        raise ValueError(f"evaluation: {samples} samples; at least 1 is needed")
    return model.dtype.type


def elbo(model: Any, x: np.ndarray, rng: Any, samples: int = 1, batch: int = 1000) -> Estimate:
    """The evidence lower bound by eq. 2.77 (closed-form KL), averaged over data.

    Args:
        model: offers ``elbo(x, rng, samples)``.
        x: data (N, D).
        rng: generator of the noise.
        samples: L, a datum.
        batch: data at a time.

    Raises:
        ValueError: no data, or no samples.
    """
    _check(model, x, samples)
    with no_grad():
        parts = [np.asarray(model.elbo(x[i : i + batch], rng, samples), np.float64) for i in range(0, len(x), batch)]
    values = np.concatenate(parts)
    return _estimate(values, np.zeros(1))


def log_likelihood(model: Any, x: np.ndarray, rng: Any, samples: int = 5000, progress: bool = False) -> Estimate:
    """Importance-sampled log p(x) with K = ``samples`` draws from q(z | x) (thesis eq. 2.57), averaged over data.

    The log-weights stream through a running log-sum-exp in float64, so memory does not grow with K or N. The estimate
    is a lower bound in expectation, tighter with every sample.

    Args:
        model: offers ``log_weights(x, rng, samples)`` and ``pixels``.
        x: data (N, D).
        rng: generator of the noise.
        samples: K, a datum.
        progress: show a progress bar.

    Returns:
        An :class:`Estimate`; ``noise`` is the delta-method error of log mean w.

    Raises:
        ValueError: no data, or no samples.
    """
    _check(model, x, samples)
    batch = int(min(len(x), 100))
    chunk = int(min(samples, max(1, CHUNK // (batch * model.pixels))))
    values, variances = np.empty(len(x)), np.empty(len(x))
    starts = range(0, len(x), batch)
    if progress:
        from tqdm import tqdm

        starts = tqdm(starts, desc="log p(x)", unit="batch", leave=False)
    for start in starts:
        data = x[start : start + batch]
        top = np.full(len(data), -np.inf)  # running maximum, and the sums of w and w^2 relative to it
        first, second = np.zeros(len(data)), np.zeros(len(data))
        done = 0
        while done < samples:
            k = min(chunk, samples - done)
            with no_grad():
                log_w = np.asarray(model.log_weights(data, rng, k), np.float64)
            higher = np.maximum(top, log_w.max(axis=0))
            shrink = np.exp(top - higher)
            w = np.exp(log_w - higher)
            first = first * shrink + w.sum(axis=0)
            second = second * shrink**2 + (w * w).sum(axis=0)
            top, done = higher, done + k
        mean = first / samples
        values[start : start + batch] = top + np.log(mean)
        variances[start : start + batch] = np.maximum(second / samples - mean**2, 0.0) / (mean**2 * samples)
    return _estimate(values, variances)
