"""Distributions over the last axis: samples, log-probabilities, entropies and Kullback-Leibler divergences, in nats.

Parameters may be Tensors (then everything is differentiable) or arrays. Noise is explicit: ``sample`` draws from a
given generator, ``rsample`` transforms given noise ``eps``, which lets gradients through.

Parameters broadcast against each other, and their leading axes against those of values and noise: values (K, 1, D)
beside parameters (B, D) give (K, B). The last axis of a value has the D numbers of one draw; parameters with D = 1, or
plain numbers, which count as such, serve values of any length.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.kernels.shapes import LOG_2PI
from minivi.protocols import Rng
from minivi.tensor import FLOATS, Tensor


def _raw(x: Any) -> np.ndarray:
    return x._data if isinstance(x, Tensor) else np.asanyarray(x)


def _parameters(name, *values):
    """Tensors or arrays of one float type with a last axis, and the shape to which they broadcast."""
    shape, dtype = np.shape(values[0]), getattr(values[0], "dtype", None)
    for x in values:
        if not (isinstance(x, (Tensor, np.ndarray)) and x.shape == shape and x.dtype == dtype and dtype in FLOATS):
            break
    else:
        if shape:  # what networks give: one quick look
            return *values, shape
    dtypes = {x.dtype for x in values if isinstance(x, (Tensor, np.ndarray)) and x.dtype.kind == "f"}
    if len(dtypes) > 1:
        raise TypeError(f"{name}: parameters of {' and '.join(sorted(map(str, dtypes)))} do not mix; make both one")
    dtype = dtypes.pop() if dtypes else np.dtype("float64")
    values = [x if isinstance(x, Tensor) else np.asanyarray(x, dtype) for x in values]
    values = [x if x.ndim else ops.reshape(x, shape=(1,)) for x in values]
    return *values, broadcast_shape(name, *[x.shape for x in values])


def broadcast_shape(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to which arrays of ``shapes`` broadcast; ValueError, in the name of ``name``, if there is none."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast; counted from the last axis, sizes must "
            "be equal or 1"
        ) from None


def check_last_axis(name: str, x: Any, shape: tuple[int, ...]) -> None:
    """Refuse ``x`` that would itself be repeated along the last axis."""
    if np.shape(x)[-1:] != shape[-1:] and shape[-1] != 1:
        raise ValueError(f"{name}: got shape {np.shape(x)}, draws have shape {shape}; pass (..., {shape[-1]})")


def _check_kind(p, other, kind):
    if not isinstance(other, kind):
        raise TypeError(
            f"{type(p).__name__}: no closed form with a {type(other).__name__}; pass a {kind.__name__}, or average "
            "log_prob over samples"
        )


class Normal:
    """Factorised Gaussian N(mu, diag(sigma^2)) over the last axis (thesis eq. 2.37).

    Args:
        mu, log_sigma: shape (..., D), broadcast against each other.

    Attributes:
        shape: of one draw, (..., D).

    Raises:
        ValueError: the parameters do not broadcast; in a method, a value or noise whose last axis has not D numbers.
        TypeError: one is float32 and one float64.

    Example:
        >>> q = Normal(np.zeros((5, 2)), np.zeros((5, 2)))
        >>> q.shape
        (5, 2)
        >>> q.log_prob(np.zeros(2)).round(4)  # -log(2 pi)
        array([-1.8379, -1.8379, -1.8379, -1.8379, -1.8379])
        >>> q.kl()
        array([0., 0., 0., 0., 0.])
    """

    def __init__(self, mu: Any, log_sigma: Any):
        self.mu, self.log_sigma, self.shape = _parameters(type(self).__name__, mu, log_sigma)

    def sample(self, rng: Rng, samples: tuple[int, ...] = ()) -> np.ndarray:
        """Draws of shape (*samples, ..., D), constants for differentiation."""
        mu, log_sigma = _raw(self.mu), _raw(self.log_sigma)
        eps = rng.standard_normal((*samples, *self.shape), dtype=mu.dtype)
        return mu + np.exp(log_sigma) * eps

    def rsample(self, eps: Any) -> Any:
        """mu + sigma * eps (eq. 2.40); ``eps`` of shape (..., D), standard normal."""
        check_last_axis("rsample", eps, self.shape)
        return ops.gaussian_sample(self.mu, self.log_sigma, eps)  # eq. 2.40

    def rsample_with_log_prob(self, eps: Any) -> tuple[Any, Any]:
        """``rsample(eps)``, (..., D), and its log-density, (...), in nats."""
        return self.rsample(eps), self.log_prob_of_noise(eps)

    def log_prob(self, x: Any) -> Any:
        """log N(x; mu, diag(sigma^2)), shape (...)."""
        check_last_axis("log_prob", x, self.shape)
        return ops.gaussian_log_prob(x, self.mu, self.log_sigma)

    def log_prob_of_noise(self, eps: Any) -> Any:
        """log-density of ``rsample(eps)`` = log N(eps; 0, I) - sum_d log sigma_d, shape (...) (eq. 2.43, 2.44)."""
        check_last_axis("log_prob_of_noise", eps, self.shape)
        eps, add = (eps, ops.sum) if isinstance(eps, Tensor) else (np.asanyarray(eps), np.sum)
        log_sigma, size = self.log_sigma, eps.shape[-1] if eps.ndim else 1
        if log_sigma.shape[-1] != size:
            log_sigma = ops.broadcast_to(log_sigma, shape=(*log_sigma.shape[:-1], size))
        # eq. 2.43, 2.44
        log_q = -0.5 * add(eps * eps, axis=-1) - 0.5 * size * LOG_2PI - ops.sum(log_sigma, axis=-1)
        if log_sigma.shape == self.shape:
            return log_q
        return ops.broadcast_to(log_q, shape=np.broadcast_shapes(eps.shape, self.shape)[:-1])  # mu has more axes

    def entropy(self) -> Any:
        """sum_d (1 + log 2 pi) / 2 + log sigma_d, shape (...)."""
        log_sigma = self.log_sigma + np.zeros(self.shape, _raw(self.log_sigma).dtype)
        return ops.sum(log_sigma, axis=-1) + 0.5 * self.shape[-1] * (1.0 + LOG_2PI)

    def kl(self, other: Normal | None = None) -> Any:
        """KL(self || other), shape (...); ``other`` None is N(0, I) (thesis appendix 2.A)."""
        if other is None:
            return ops.gaussian_kl(self.mu, self.log_sigma)  # eq. 2.77
        _check_kind(self, other, Normal)
        if isinstance(other, MultivariateNormal):
            return _full(self, other.shape[-1]).kl(other)
        scaled = (self.mu - other.mu) * ops.exp(-other.log_sigma)
        ratio = self.log_sigma - other.log_sigma
        return ops.sum(0.5 * (scaled * scaled + ops.exp(2.0 * ratio) - 1.0) - ratio, axis=-1)

    def product(self, other: Normal) -> Normal:
        """self * other / Z: precisions add, means are averaged by their precisions (thesis 4.1.1; Salimans 2016).

        Both from the difference of the log sigmas, so that neither precision can overflow.

        Raises:
            ValueError: one has correlations; its precision has no closed form in L.
        """
        _check_kind(self, other, Normal)
        if isinstance(self, MultivariateNormal) or isinstance(other, MultivariateNormal):
            raise ValueError("product: closed form for factorised Gaussians alone; add the two log_probs instead")
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
        lower: L's entries below the diagonal, row by row, shape (..., D (D - 1) / 2); leading axes broadcast too.

    Raises:
        ValueError: ``lower`` has another length; otherwise as :class:`Normal`.
    """

    def __init__(self, mu: Any, log_sigma: Any, lower: Any):
        super().__init__(mu, log_sigma)
        lower = lower if isinstance(lower, Tensor) else np.asarray(lower, self.mu.dtype)
        size = self.shape[-1]
        self._rows, self._columns = np.tril_indices(size, -1)
        if lower.shape[-1:] != self._rows.shape:
            raise ValueError(
                f"MultivariateNormal: lower has shape {lower.shape}; a {size} x {size} L has {len(self._rows)} entries "
                "below its diagonal"
            )
        batch = broadcast_shape("MultivariateNormal, leading axes", self.shape[:-1], lower.shape[:-1])
        self.shape = (*batch, size)
        # Written out, since the methods take L apart: no entry may stand for several.
        self.mu, self.log_sigma, self.lower = (
            x if x.shape == shape else ops.broadcast_to(x, shape=shape)
            for x, shape in ((self.mu, self.shape), (self.log_sigma, self.shape), (lower, (*batch, len(self._rows))))
        )

    def _sum_rows(self, entries):
        """Sums of packed ``entries`` (..., D (D - 1) / 2) over each row of L: (..., D)."""
        return ops.matmul(entries, (self._rows[:, None] == np.arange(self.shape[-1])).astype(_raw(entries).dtype))

    @property
    def scale(self) -> np.ndarray:
        """L as a constant matrix, (..., D, D) (eq. 2.54)."""
        lower, sigma = _raw(self.lower), np.exp(_raw(self.log_sigma))
        matrix = sigma[..., None] * np.eye(self.shape[-1], dtype=sigma.dtype)
        matrix[..., self._rows, self._columns] = lower  # eq. 2.54
        return matrix

    def sample(self, rng: Rng, samples: tuple[int, ...] = ()) -> np.ndarray:
        """Draws of shape (*samples, ..., D), constants for differentiation."""
        eps = rng.standard_normal((*samples, *self.shape), dtype=_raw(self.mu).dtype)
        return _raw(self.mu) + np.einsum("...ij,...j->...i", self.scale, eps)

    def rsample(self, eps: Any) -> Any:
        """mu + L eps (eq. 2.47); ``eps`` of shape (..., D), standard normal."""
        eps = eps if isinstance(eps, Tensor) else np.atleast_1d(eps)
        return super().rsample(eps) + self._sum_rows(self.lower * eps[..., self._columns])  # eq. 2.47

    def log_prob(self, x: Any) -> Any:
        """log N(x; mu, L L^T), shape (...), by forward substitution for eps in x = mu + L eps."""
        check_last_axis("log_prob", x, self.shape)
        eps = _substitute(x - self.mu, self.log_sigma, self.lower)
        zero = np.zeros(self.shape[-1], self.mu.dtype)
        return ops.gaussian_log_prob(eps, zero, zero) - ops.sum(self.log_sigma, axis=-1)

    def detached(self) -> MultivariateNormal:
        """The same distribution with constant parameters."""
        return MultivariateNormal(_raw(self.mu), _raw(self.log_sigma), _raw(self.lower))

    def kl(self, other: Normal | None = None) -> Any:
        """KL(self || other), shape (...); ``other`` None is N(0, I): (sum L^2 + mu^2 - D) / 2 - sum_d log sigma_d.

        With L' of ``other``: (|L'^-1 L|^2 + |L'^-1 (mu - mu')|^2 - D) / 2 + sum_d log sigma'_d - log sigma_d.
        """
        if other is None:
            return super().kl() + 0.5 * ops.sum(ops.square(self.lower), axis=-1)
        _check_kind(self, other, Normal)
        size, other = self.shape[-1], _full(other, self.shape[-1])
        place = np.zeros((len(self._rows), size, size), self.mu.dtype)
        place[np.arange(len(self._rows)), self._columns, self._rows] = 1.0
        columns = ops.reshape(ops.matmul(self.lower, place.reshape(-1, size * size)), shape=(*self.shape, size))
        columns = columns + ops.exp(self.log_sigma)[..., None] * np.eye(size, dtype=self.mu.dtype)  # L, transposed
        shared = other.log_sigma[..., None, :], other.lower[..., None, :]
        spread = ops.sum(ops.square(_substitute(columns, *shared)), axis=(-2, -1))
        shift = ops.sum(ops.square(_substitute(self.mu - other.mu, other.log_sigma, other.lower)), axis=-1)
        return 0.5 * (spread + shift - float(size)) + ops.sum(other.log_sigma - self.log_sigma, axis=-1)

    def kl_per_dimension(self) -> Any:
        """The chain rule's terms E KL(q(z_d | z_1 .. z_d-1) || N(0, 1)), shape (..., D); their sum is ``kl()``."""
        return super().kl_per_dimension() + 0.5 * self._sum_rows(ops.square(self.lower))


def _full(q, size):
    """``q`` as a Gaussian of ``size`` dimensions with correlations, which may be 0."""
    if isinstance(q, MultivariateNormal):
        return q
    dtype = q.mu.dtype
    return MultivariateNormal(q.mu + np.zeros(size, dtype), q.log_sigma, np.zeros(size * (size - 1) // 2, dtype))


def _substitute(centred, log_sigma, lower):
    """eps of L eps = ``centred``, both (..., D), row by row."""
    inverse = ops.exp(-log_sigma)
    eps = centred[..., :1] * inverse[..., :1]
    for i in range(1, log_sigma.shape[-1]):
        row = lower[..., i * (i - 1) // 2 : i * (i + 1) // 2]
        rest = centred[..., i : i + 1] - ops.sum(row * eps, axis=-1, keepdims=True)
        eps = ops.concatenate([eps, rest * inverse[..., i : i + 1]], axis=-1)
    return eps


class Bernoulli:
    """Independent binary variables over the last axis, from their logits (thesis eq. 1.17, 1.18).

    Args:
        logits: shape (..., D), finite; certain pixels have +-1e4 or so.

    Attributes:
        shape: of one draw, (..., D).

    Raises:
        ValueError: in a method, a value whose last axis has not D numbers.

    Example:
        >>> p = Bernoulli(np.zeros(3))
        >>> p.mean
        array([0.5, 0.5, 0.5])
        >>> p.log_prob(np.array([1.0, 0.0, 1.0])).round(4)  # 3 log(1/2)
        np.float64(-2.0794)
    """

    def __init__(self, logits: Any):
        self.logits, self.shape = _parameters("Bernoulli", logits)

    @property
    def mean(self) -> Any:
        """Probabilities of ones, (..., D)."""
        return ops.sigmoid(self.logits)

    def sample(self, rng: Rng, samples: tuple[int, ...] = ()) -> np.ndarray:
        """Zeros and ones of shape (*samples, ..., D), in the logits' dtype."""
        p = _raw(self.mean)
        return (rng.random((*samples, *p.shape), dtype=p.dtype) < p).astype(p.dtype)

    def log_prob(self, x: Any) -> Any:
        """sum_d log p(x_d) for x in {0, 1} (or a probability in [0, 1]), shape (...).

        Raises:
            ValueError: ``x`` has values outside [0, 1], or NaN.
        """
        validate.unit_interval(x, "Bernoulli.log_prob: x")
        check_last_axis("log_prob", x, self.shape)
        return ops.bernoulli_log_prob(x, self.logits)  # eq. 1.18

    def entropy(self) -> Any:
        """Shape (...)."""
        (logits,) = self._of_rarer()
        return ops.sum(ops.softplus(logits) - logits * ops.sigmoid(logits), axis=-1)

    def kl(self, other: Bernoulli) -> Any:
        """KL(self || other), shape (...)."""
        _check_kind(self, other, Bernoulli)
        logits, others = self._of_rarer(other.logits)
        gap = ops.sigmoid(logits) * (logits - others)
        return ops.sum(gap - ops.softplus(logits) + ops.softplus(others), axis=-1)

    def _of_rarer(self, *others):
        """Own logits, then ``others``, of whichever of 0 and 1 is the rarer here: its terms do not cancel."""
        sign = np.where(_raw(self.logits) > 0, -1.0, 1.0).astype(self.logits.dtype)
        return [sign * logits for logits in (self.logits, *others)]


class DiscretizedLogistic:
    """Levels of pixels by the mass of a logistic distribution on their cells (thesis 5.B.5).

    Level k of L has the cell [k / L, (k + 1) / L); the first and the last have the tails too, so that the masses sum to
    one (the text leaves the tails out). With a = (k / L - mu) / s and b = a + d, d = 1 / (L s)::

        log (sigmoid(b) - sigmoid(a)) = log sigmoid(b) + log sigmoid(-a) + log (1 - exp(-d))

    has no difference that could cancel or underflow, however far mu is; the first level is log sigmoid(b) alone, the
    last one log sigmoid(-a).

    Args:
        mu: locations, (..., D), of which [0, 1] is the range of pixels.
        log_scale: log s, broadcast against mu.
        levels: L.

    Raises:
        ValueError: the parameters do not broadcast, fewer than two levels; in ``log_prob`` values outside [0, 1] or of
            another length.

    Example:
        >>> p = DiscretizedLogistic(np.full((256, 1), 0.3), np.full(1, -2.0))
        >>> float(np.exp(p.log_prob(np.arange(256)[:, None] / 255)).sum().round(12))
        1.0
    """

    def __init__(self, mu: Any, log_scale: Any, levels: int = 256):
        validate.count(levels, "DiscretizedLogistic: levels", 2)
        self.mu, self.log_scale, self.shape = _parameters("DiscretizedLogistic", mu, log_scale)
        self.levels = levels

    def log_prob(self, x: Any) -> Any:
        """log p(x) in nats, (...), of levels k as x = k / (L - 1), (..., D)."""
        validate.unit_interval(x, "DiscretizedLogistic.log_prob: x")
        check_last_axis("log_prob", x, self.shape)
        dtype = _raw(self.mu).dtype.type
        level = np.rint(_raw(x) * dtype(self.levels - 1))
        scale = ops.exp(-self.log_scale)
        width = scale * (1.0 / self.levels)
        a = (level / dtype(self.levels) - self.mu) * scale
        first, last = level == 0, level == self.levels - 1
        outside = ops.where(first, 0.0, ops.softplus(a)) + ops.where(last, 0.0, ops.softplus(-(a + width)))
        return ops.sum(ops.where(first | last, 0.0, ops.log1m_exp(width)) - outside, axis=-1)

    def sample(self, rng: Rng, samples: tuple[int, ...] = ()) -> np.ndarray:
        """Levels as k / (L - 1), (*samples, ..., D)."""
        mu, log_scale = _raw(self.mu), _raw(self.log_scale)
        u = rng.random((*samples, *self.shape), dtype=mu.dtype)
        with np.errstate(divide="ignore"):  # of u = 0
            z = mu + np.exp(log_scale) * (np.log(u) - np.log1p(-u))
        top = mu.dtype.type(self.levels - 1)
        return np.clip(np.floor(z * self.levels), 0, top) / top

    @property
    def mean(self) -> Any:
        """The locations, kept within [0, 1]: not quite the mean, but without the cells' half width and the tails."""
        return ops.clip(self.mu, 0.0, 1.0)


class Categorical:
    """One of C classes, from unnormalised log-probabilities.

    Args:
        logits: shape (..., C); -inf for what has probability 0.
    """

    def __init__(self, logits: Any):
        self.logits, _ = _parameters("Categorical", logits)

    @property
    def log_probs(self) -> Any:
        """Normalised log-probabilities, (..., C)."""
        return ops.log_softmax(self.logits)

    def sample(self, rng: Rng, samples: tuple[int, ...] = ()) -> np.ndarray:
        """Class numbers of shape (*samples, ...), by the largest logit plus Gumbel noise."""
        logits = _raw(self.logits)
        return np.argmax(logits + rng.gumbel(size=(*samples, *logits.shape)), axis=-1)

    def log_prob(self, labels: Any) -> Any:
        """log p(label), shape (...); ``labels`` are integers in [0, C).

        Raises:
            TypeError: ``labels`` are not integers.
            ValueError: a label lies outside [0, C).
        """
        labels = np.asanyarray(labels)
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
        """Shape (...)."""
        log_probs = self.log_probs
        p = ops.exp(log_probs)
        return -ops.sum(p * ops.where(_raw(p) != 0.0, log_probs, 0.0), axis=-1)

    def kl(self, other: Categorical) -> Any:
        """KL(self || other), shape (...); infinite where a class has probability 0 there alone.

        Raises:
            ValueError: another number of classes.
        """
        _check_kind(self, other, Categorical)
        if self.logits.shape[-1] != other.logits.shape[-1]:
            raise ValueError(f"Categorical.kl: {self.logits.shape[-1]} and {other.logits.shape[-1]} classes")
        log_probs = self.log_probs
        p = ops.exp(log_probs)
        possible = _raw(p) != 0.0  # 0 log 0 is 0
        gap = ops.where(possible, log_probs, 0.0) - ops.where(possible, other.log_probs, 0.0)
        return ops.sum(p * gap, axis=-1)
