"""The twins of :mod:`minivi.kernels.vector`: each function as NumPy says it. Shapes and units stand there."""

import functools

import numpy as np

from minivi.kernels.shapes import LOG_2PI

__all__ = [
    "bernoulli_log_prob", "elu", "elu_vjp", "exp", "gaussian_kl", "gaussian_kl_vjp", "gaussian_log_prob",
    "gaussian_log_prob_vjp", "gaussian_sample", "gaussian_sample_vjp", "local_sample", "local_sample_vjp", "log",
    "log1p", "log_softmax", "log_softmax_vjp", "log_sum_exp", "relu", "relu_vjp", "scale_rows", "sigmoid",
    "sigmoid_vjp", "softplus", "softplus_vjp", "tanh", "tanh_vjp",
]  # fmt: skip


def _twin(function):
    """No warnings, since infinities and NaNs are legal here; and arrays out, also where NumPy turns them to scalars."""

    @functools.wraps(function)
    def quiet(*arrays):
        with np.errstate(all="ignore"):
            result = function(*arrays)
        return tuple(np.asarray(part) for part in result) if isinstance(result, tuple) else np.asarray(result)

    return quiet


@_twin
def exp(x):
    """e to the x."""
    return np.exp(x)


@_twin
def log(x):
    """Natural logarithm."""
    return np.log(x)


@_twin
def log1p(x):
    """log(1 + x)."""
    return np.log1p(x)


@_twin
def tanh(x):
    """Hyperbolic tangent."""
    return np.tanh(x)


@_twin
def tanh_vjp(g, y):
    """g (1 - y^2)."""
    return g * (1 - y * y)


@_twin
def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


@_twin
def sigmoid_vjp(g, y):
    """g y (1 - y)."""
    return g * y * (1 - y)


@_twin
def softplus(x):
    """log(1 + exp(x)), without overflow."""
    return np.logaddexp(0, x)


@_twin
def softplus_vjp(g, x):
    """g sigmoid(x)."""
    return g * sigmoid(x)


@_twin
def relu(x):
    """max(x, 0)."""
    return np.maximum(x, 0)


@_twin
def relu_vjp(g, y):
    """g where y > 0, else 0."""
    return np.where(y > 0, g, 0)


@_twin
def elu(x):
    """x where x > 0, else exp(x) - 1."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


@_twin
def elu_vjp(g, y):
    """g where y > 0, else g (y + 1)."""
    return g * np.where(y > 0, 1, y + 1)


@_twin
def gaussian_sample(mu, log_sigma, eps):
    """mu + sigma eps."""
    return mu + np.exp(log_sigma) * eps


@_twin
def gaussian_sample_vjp(g, log_sigma, eps):
    """g sigma eps."""
    return g * np.exp(log_sigma) * eps


@_twin
def local_sample(mean, variance, eps):
    """mean + sqrt(variance) eps."""
    return mean + np.sqrt(variance) * eps


@_twin
def local_sample_vjp(g, variance, eps):
    """g eps / (2 sqrt(variance)), 0 where the variance is 0."""
    return np.where(variance > 0, 0.5 * g * eps / np.sqrt(np.where(variance > 0, variance, 1)), 0).astype(g.dtype)


def _shift(x):
    largest = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    return np.where(np.isfinite(largest), largest, 0)


@_twin
def log_sum_exp(x):
    """log sum exp(x)."""
    shift = _shift(x)
    return shift[..., 0] + np.log(np.sum(np.exp(x - shift), axis=-1))


@_twin
def log_softmax(x):
    """x - log sum exp(x)."""
    x = x - _shift(x)
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


@_twin
def log_softmax_vjp(g, y):
    """g - exp(y) sum(g)."""
    return g - np.exp(y) * np.sum(g, axis=-1, keepdims=True)


@_twin
def scale_rows(residual, g):
    """residual g[..., None]."""
    return residual * g[..., None]


@_twin
def bernoulli_log_prob(x, logits):
    """sum_d x_d l_d - softplus(l_d), and x - sigmoid(l)."""
    return np.sum(x * logits - softplus(logits), axis=-1), x - sigmoid(logits)


@_twin
def gaussian_log_prob(x, mu, log_sigma):
    """sum_d -log(2 pi) / 2 - log sigma_d - ((x_d - mu_d) / sigma_d)^2 / 2."""
    z = (x - mu) * np.exp(-log_sigma)
    return np.sum(-0.5 * LOG_2PI - log_sigma - 0.5 * z * z, axis=-1)


@_twin
def gaussian_log_prob_vjp(g, x, mu, log_sigma):
    """(-g z / sigma, g z / sigma, g (z^2 - 1)) with z = (x - mu) / sigma."""
    g, inverse = g[..., None], np.exp(-log_sigma)
    z = (x - mu) * inverse
    return -g * z * inverse, g * z * inverse, g * (z * z - 1)


@_twin
def gaussian_kl(mu, log_sigma):
    """sum_d (mu_d^2 + sigma_d^2 - 1) / 2 - log sigma_d."""
    return np.sum(0.5 * (mu * mu + np.exp(2 * log_sigma) - 1) - log_sigma, axis=-1)


@_twin
def gaussian_kl_vjp(g, mu, log_sigma):
    """(g mu, g (sigma^2 - 1))."""
    mu, log_sigma = np.broadcast_arrays(mu, log_sigma)
    return g[..., None] * mu, g[..., None] * (np.exp(2 * log_sigma) - 1)
