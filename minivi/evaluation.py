"""Held-out bounds and likelihoods with their standard errors, computed in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minivi import bounds, ops, validate
from minivi.distributions import Bernoulli
from minivi.gradient_noise import GradientMoments as GradientMoments  # part of this module's face
from minivi.gradient_noise import gradient_moments as gradient_moments
from minivi.kernels.shapes import LOG_2PI
from minivi.progress import bar
from minivi.protocols import LatentVariableModel, Rng
from minivi.tensor import no_grad

# Floats that one chunk's largest array may hold: 16 MiB in float32, which caches still help; a pass keeps a handful of
# such arrays. Four times as much takes twice the time.
CHUNK = 4 * 1024 * 1024
GROUPS = 1000  # of samples, for the jackknife


@dataclass
class Estimate:
    """A mean over N data in nats, with errors.

    Attributes:
        mean: the mean over the data.
        standard_error: of that mean, from the spread over data.
        noise: the standard deviation of ``mean`` over repeated draws of the samples, were the data kept fixed; a bias,
            as log p-hat has, is not part of it. 0 for :func:`elbo` and :func:`bound`, which do not estimate it.
        values: of each datum, (N,).
    """

    mean: float
    standard_error: float
    noise: float
    values: np.ndarray

    def __str__(self) -> str:
        return f"{self.mean:.2f} +- {self.standard_error:.2f}"

    def __repr__(self) -> str:
        return f"Estimate({self}, of {len(self.values)} data, noise {self.noise:.2g})"


def _estimate(values, variances):
    n = len(values)
    with np.errstate(invalid="ignore"):  # of values of -inf
        spread = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Estimate(float(np.mean(values)), spread, float(np.sqrt(np.sum(variances)) / n), values)


def _check(name, x, samples, model, *methods):
    """What the functions of a model and data have in common; a model itself refuses pixels outside [0, 1]."""
    validate.offers(model, f"{name}: model", *methods)
    validate.rows(x, f"{name}: x", getattr(model, "pixels", None))
    validate.finite(x, f"{name}: x")
    validate.count(samples, f"{name}: samples")


def _add(top, total, log_w):
    """A running sum of weights, as its largest log-weight (N,) and the sum relative to that, with (K, N) more added."""
    higher = np.maximum(top, log_w.max(axis=0))
    shift = np.where(np.isneginf(higher), 0.0, higher)  # -inf less -inf is no number
    return higher, total * np.exp(top - shift) + np.exp(log_w - shift).sum(axis=0)


def _log(top, mean):
    with np.errstate(divide="ignore"):  # where all weights are 0
        return top + np.log(mean)


def _jackknife(groups, samples):
    """The variance of log mean w over draws of the samples, (N,), from log sums of w over G groups of them, (G, N).

    (G - 1) times the variance of log mean w without one of the groups (Efron & Stein 1981). The delta method's
    Var w / (K mean^2), which cannot exceed 1, is too small where few weights rule.
    """
    count, columns = len(groups), np.arange(groups.shape[1])
    sizes = np.bincount(np.arange(samples) % count)[:, None]
    largest, others = groups.argmax(axis=0), groups.copy()
    others[largest, columns] = -np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        total = ops.log_sum_exp(groups, axis=0)
        rest = total + np.log1p(-np.exp(groups - total))
        rest[largest, columns] = ops.log_sum_exp(others, axis=0)  # a difference would lose it
        return (count - 1) * np.var(rest - np.log(samples - sizes), axis=0)


def elbo(model: LatentVariableModel, x: np.ndarray, rng: Rng, samples: int = 1, batch: int = 1000) -> Estimate:
    """The evidence lower bound by eq. 2.77 (closed-form KL), averaged over data.

    Args:
        model: offers ``elbo(x, rng, samples)``.
        x: data (N, D).
        rng: generator of the noise.
        samples: L, a datum.
        batch: data at a time.

    Raises:
        ValueError: no data, or no samples.

    Example:
        >>> from minivi import Generator
        >>> from minivi.models import VAE
        >>> vae = VAE(pixels=4, hidden=(3,), latents=2, rng=Generator(0))
        >>> estimate = elbo(vae, np.eye(4, dtype="float32"), Generator(1))
        >>> estimate.values.shape
        (4,)
    """
    _check("elbo", x, samples, model, "elbo")
    validate.generator(rng, "elbo: rng")
    validate.count(batch, "elbo: batch")
    with no_grad():
        parts = [np.asarray(model.elbo(x[i : i + batch], rng, samples), np.float64) for i in range(0, len(x), batch)]
    values = np.concatenate(parts)
    return _estimate(values, np.zeros(1))


def log_prob(model: Any, x: np.ndarray, batch: int = 1000, **options: Any) -> np.ndarray:
    """log p(x) of each datum by a model that computes it exactly, in nats: float64 of shape (N,).

    Args:
        model: offers ``log_prob(x)``, such as MADE or a flow's density.
        x: data (N, D).
        batch: data at a time.
        options: of the model's ``log_prob``, such as ``mask``.

    Raises:
        ValueError: no data.
    """
    _check("log_prob", x, 1, model, "log_prob")
    validate.count(batch, "log_prob: batch")
    with no_grad():
        parts = [np.asarray(model.log_prob(x[i : i + batch], **options)) for i in range(0, len(x), batch)]
    return np.concatenate(parts).astype(np.float64)


def log_likelihood(
    model: LatentVariableModel, x: np.ndarray, rng: Rng, samples: int = 5000, progress: bool = False
) -> Estimate:
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
        An :class:`Estimate`; ``noise`` by the jackknife, over groups of samples if K > 1000. NaN of one sample, or
        where one weight alone is not 0. With few samples the bias is larger: about half of the variance a datum, which
        averaging over data does not reduce.

    Raises:
        ValueError: no data, or no samples.

    Example:
        >>> from minivi import Generator
        >>> from minivi.models import VAE
        >>> vae = VAE(pixels=4, hidden=(3,), latents=2, rng=Generator(0))
        >>> x = np.eye(4, dtype="float32")
        >>> bool(log_likelihood(vae, x, Generator(1), 1000).mean > elbo(vae, x, Generator(1), 1000).mean)
        True
    """
    _check("log_likelihood", x, samples, model, "log_weights", "pixels")
    validate.generator(rng, "log_likelihood: rng")
    batch = int(min(len(x), 100))
    chunk = int(min(samples, max(1, CHUNK // (batch * model.pixels))))
    values, variances = np.empty(len(x)), np.empty(len(x))
    starts = bar(range(0, len(x), batch), progress=progress, label="log p(x)", unit="batch", leave=False)
    for start in starts:
        data = x[start : start + batch]
        top, total, done = np.full(len(data), -np.inf), np.zeros(len(data)), 0
        groups = np.full((min(samples, GROUPS), len(data)), -np.inf)
        while done < samples:
            k = min(chunk, samples - done)
            with no_grad():
                log_w = np.asarray(model.log_weights(data, rng, k), np.float64)
            top, total = _add(top, total, log_w)
            for i in range(0, k, len(groups)):
                part = log_w[i : i + len(groups)]
                rows = np.arange(done + i, done + i + len(part)) % len(groups)
                groups[rows] = np.logaddexp(groups[rows], part)
            done += k
        values[start : start + batch] = _log(top, total / samples)
        variances[start : start + batch] = _jackknife(groups, samples)
    return _estimate(values, variances)


def bound(
    model: LatentVariableModel, x: np.ndarray, rng: Rng, samples: int, function: Callable = bounds.iwae
) -> Estimate:
    """A bound on log p(x) that is a function of K = ``samples`` log-weights, averaged over data.

    With the default, K = 64 and :func:`log_likelihood` this gives the two metrics of the tighter-bounds report.

    Args:
        model: offers ``log_weights(x, rng, samples)`` and ``pixels``.
        x: data (N, D).
        rng: generator of the noise.
        samples: K, a datum.
        function: of log-weights (K, B), to (B,), such as those of :mod:`minivi.bounds`.

    Raises:
        ValueError: no data, or no samples.
    """
    _check("bound", x, samples, model, "log_weights", "pixels")
    validate.generator(rng, "bound: rng")
    validate.function(function, "bound: function", "of log-weights (K, B), such as bounds.iwae")
    batch = int(max(1, min(100, CHUNK // (samples * model.pixels))))
    with no_grad():
        parts = [function(model.log_weights(x[i : i + batch], rng, samples)) for i in range(0, len(x), batch)]
    return _estimate(np.concatenate([np.asarray(part, np.float64) for part in parts]), np.zeros(1))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """The mean of a - b over the same data: its error comes from the differences, not from the spread of the data.

    Of a bound and log p-hat it is minus a KL divergence, so never positive in expectation; what is positive of an
    estimate is the noise of the two (tighter-bounds report, Table 1).

    Args:
        a, b: of the same data in the same order, each with samples of its own.

    Raises:
        ValueError: they have different numbers of data.
    """
    validate.offers(a, "difference: a", "values", "noise")
    validate.offers(b, "difference: b", "values", "noise")
    if len(a.values) != len(b.values):
        raise ValueError(f"difference: estimates of {len(a.values)} and {len(b.values)} data; pass the same data twice")
    gap = _estimate(a.values - b.values, np.zeros(1))
    gap.noise = float(np.hypot(a.noise, b.noise))
    return gap


def bits_per_dimension(log_p: Any, dimensions: int) -> Any:
    """-log2 p / D: how many bits a code by p would need for each number of an image (thesis Table 5.2).

    Args:
        log_p: log-probabilities of discrete images, or bounds of them, in nats: a number or an array.
        dimensions: D.

    Raises:
        ValueError: D below 1.

    Example:
        >>> bits_per_dimension(-3072 * np.log(256), 3072)  # all levels alike
        8.0
    """
    validate.count(dimensions, "bits_per_dimension: dimensions")
    return -log_p / (dimensions * np.log(2.0))


def active_units(
    model: LatentVariableModel,
    x: np.ndarray,
    threshold: float = 0.01,
    *,
    level: int = 0,
    rng: Rng | None = None,
    samples: int = 20,
) -> int:
    """How many latents have Var_x(E_q[z_j | x]) above ``threshold`` (Burda et al. 2015, section 5.2).

    Args:
        model: offers ``encode``; for a higher ``level`` also ``terms``.
        x: data (N, D), N > 1.
        threshold: of the variance over data.
        level: the stochastic layer, from the bottom; of a :class:`~minivi.models.DirectedVAE` its name.
        rng: generator of the noise, where E_q[z | x] is not a network's output but an average over draws: above the
            lowest level, and behind a flow. The covariance of two such averages has the right expectation; the variance
            of one would add their noise.
        samples: in each of the two averages.

    Raises:
        ValueError: fewer than two data, or no generator where it is needed.
    """
    _check("active_units", x, samples, model, "encode" if level == 0 else "terms")
    validate.number(threshold, "active_units: threshold", 0)
    if rng is not None:
        validate.generator(rng, "active_units: rng")
    known = level == 0 and hasattr(model.encode(x[:1]), "mu")
    if len(x) < 2 or (rng is None and not known):
        raise ValueError(
            f"active_units: {len(x)} data, level {level}; pass two or more, and rng above level 0 or behind a flow"
        )

    def means(part):
        if level == 0:
            q = model.encode(part)
            if known:
                return [np.asarray(q.mu, np.float64)] * 2
            return [np.mean(q.sample(rng, (samples,)), axis=0, dtype=np.float64) for _ in range(2)]
        pair = [np.asarray(model.terms(part, rng, samples).q[level].mu, np.float64) for _ in range(2)]
        return [mu.reshape(-1, *mu.shape[-2:]).mean(axis=0) for mu in pair]  # without samples' axis if of x alone

    batch = 1000 if level == 0 else int(max(1, CHUNK // (samples * model.pixels)))
    with no_grad():
        parts = [means(x[i : i + batch]) for i in range(0, len(x), batch)]
    first, second = (np.concatenate(part) for part in zip(*parts, strict=True))
    return int(np.sum(np.mean((first - first.mean(axis=0)) * (second - second.mean(axis=0)), axis=0) > threshold))


def ssim(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Structural similarity of images and their reconstructions, (N,), at most 1 (Wang et al. 2004).

    The mean over windows of 7x7 pixels, of one weight each, as scikit-image computes it by default.

    Args:
        x, y: images (N, D) with values in [0, 1].
        shape: (H, W), H * W = D.

    Raises:
        ModuleNotFoundError: without scikit-image.
        ValueError: different shapes, images of another size than ``shape``, values outside [0, 1].
    """
    validate.rows(x, "ssim: x", what="images")
    validate.rows(y, "ssim: y", what="images")
    validate.unit_interval(x, "ssim: x")
    validate.unit_interval(y, "ssim: y")
    validate.sizes(shape, "ssim: shape", 2)
    if np.shape(x)[1] != np.prod(shape):
        raise ValueError(f"ssim: images {np.shape(x)} are not of shape {tuple(shape)}, height times width must be D")
    try:
        from skimage.metrics import structural_similarity
    except ModuleNotFoundError:
        raise ModuleNotFoundError("SSIM needs scikit-image: pip install scikit-image") from None
    if np.shape(x) != np.shape(y):
        raise ValueError(f"ssim: images {np.shape(x)} and reconstructions {np.shape(y)}; pass as many of one size")
    pairs = zip(np.asarray(x, np.float64), np.asarray(y, np.float64), strict=True)
    return np.array([structural_similarity(a.reshape(shape), b.reshape(shape), data_range=1.0) for a, b in pairs])


def from_log_weights(log_w: np.ndarray) -> Estimate:
    """log mean_k w_k of each datum, from weights whose expectation is p(x), e.g. those of :func:`minivi.mcmc.ais`.

    Args:
        log_w: (K, N), in nats.

    Returns:
        An :class:`Estimate`; ``noise`` as of :func:`log_likelihood`.

    Raises:
        ValueError: log-weights of another shape, without samples or data, or NaN.
    """
    validate.rows(log_w, "from_log_weights: log_w", what="log_w")
    if np.shape(log_w)[1] == 0 or np.isnan(log_w).any():
        raise ValueError(f"from_log_weights: log_w of shape {np.shape(log_w)} has no data or NaN; pass (K, N)")
    log_w = np.asarray(log_w, np.float64)
    top, total = _add(-np.inf, 0.0, log_w)
    return _estimate(_log(top, total / len(log_w)), _jackknife(log_w, len(log_w)))


def log_likelihood_by_quadrature(
    model: LatentVariableModel, x: np.ndarray, points: int = 60, limit: float = 5.0, progress: bool = False
) -> Estimate:
    """log p(x) = log of the integral of N(z; 0, I) p(x | z) by the trapezoid rule, for up to three latents (eq. 1.13).

    Needs no posterior, so it serves any decoder, however trained. For smooth integrands the rule's error falls faster
    than any power of the spacing once that is below about twice the posterior's standard deviation: try more
    ``points``. The grid is decoded once for all data, in chunks of bounded memory; log-sum-exp runs in float64.

    Args:
        model: offers ``decode``, ``latents`` and ``dtype``, with a prior p(z) = N(0, I).
        x: data (N, D).
        points: on each axis of the grid.
        limit: the grid spans [-limit, limit]^J; mass of the posterior outside is missed.
        progress: show a progress bar.

    Returns:
        An :class:`Estimate`, without noise.

    Raises:
        ValueError: no data; more than three latents; a grid that makes no sense.
    """
    _check("log_likelihood_by_quadrature", x, 1, model, "decode", "latents", "dtype")
    if model.latents > 3:
        raise ValueError(
            f"quadrature: a grid over {model.latents} latents is too large; use log_likelihood or mcmc.ais"
        )
    validate.count(points, "quadrature: points", 2)
    validate.number(limit, "quadrature: limit", 0, ends="(]")
    x = np.ascontiguousarray(x, model.dtype)
    axis = np.linspace(-limit, limit, points)
    edge = np.zeros(points)
    edge[[0, -1]] = np.log(0.5)
    log_weight = edge + np.log(axis[1] - axis[0]) - 0.5 * (axis**2 + LOG_2PI)
    count = points**model.latents
    chunk = int(max(1, CHUNK // (4 * max(x.shape))))
    starts = bar(range(0, count, chunk), progress=progress, label="quadrature", unit="chunk", leave=False)
    top, total = np.full(len(x), -np.inf), np.zeros(len(x))
    for start in starts:
        index = np.unravel_index(np.arange(start, min(start + chunk, count)), (points,) * model.latents)
        z = np.stack([axis[i] for i in index], axis=1).astype(model.dtype)
        joint = _log_px_z(model, x, z) + sum(log_weight[i] for i in index).astype(model.dtype)
        top, total = _add(top, total, np.asarray(ops.log_sum_exp(joint), np.float64)[None])
    return _estimate(_log(top, total), np.zeros(1))


def _log_px_z(model, x, z):
    """log p(x | z) of each datum at each z, (N, G); for binary pixels sum_d x_d a_d - softplus(a_d) by one product."""
    with no_grad():
        p = model.decode(z)
        if isinstance(p, Bernoulli):
            validate.unit_interval(x, "quadrature: x")
            logits = np.asarray(p.logits)
            return ops.matmul(x, logits.T) + ops.bernoulli_log_prob(np.zeros_like(logits), logits)
        step = max(1, CHUNK // (4 * x.size))
        parts = [model.decode(z[i : i + step, None]).log_prob(x) for i in range(0, len(z), step)]
        return np.concatenate([np.asarray(part) for part in parts]).T
