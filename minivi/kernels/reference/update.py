"""Twins of the optimizer updates: the same formulas, one NumPy operation at a time, in place."""

import functools

import numpy as np

__all__ = [
    "adadelta_update",
    "adagrad_update",
    "adam_update",
    "adamax_update",
    "all_finite",
    "average_update",
    "rmsprop_update",
    "sgd_update",
]


def all_finite(x):
    """Whether there is no NaN and no infinity in ``x``."""
    return bool(np.isfinite(x).all())


def guarded(update):
    """Decorator: refuse a gradient that is not finite, whole where the kernels go block by block."""

    @functools.wraps(update)
    def refusing(p, g, *rest):
        if not all_finite(g):
            raise FloatingPointError("the gradient has a NaN or an infinity")
        update(p, g, *rest)

    return refusing


def _gradient(p, g, weight_decay, squared=True):
    """d = g + weight_decay * p; where it is finite, no larger than what can be squared, or else subtracted."""
    d, top = g + weight_decay * p, np.finfo(p.dtype).maxexp
    largest = 2.0 ** (top // 2 - 1 if squared else top - 2)
    return np.where(np.isinf(d), d, np.clip(d, -largest, largest))


@guarded
def sgd_update(p, g, velocity, step_size, weight_decay, momentum, nesterov):
    """velocity = momentum * velocity + d; p -= step_size * velocity, or of d + momentum * velocity (Nesterov)."""
    d = g + weight_decay * p
    if velocity is not None:
        velocity[...] = momentum * velocity + d
        d = d + momentum * velocity if nesterov else velocity
    p -= step_size * d


@guarded
def adagrad_update(p, g, total, step_size, eps, weight_decay):
    """total += d^2; p -= step_size * d / (sqrt(total) + eps)."""
    d = _gradient(p, g, weight_decay)
    total += d * d
    np.minimum(total, 2.0 ** (np.finfo(p.dtype).maxexp - 1), out=total)
    p -= step_size * d / (np.sqrt(total) + eps)


@guarded
def adadelta_update(p, g, square, square_step, step_size, decay, eps, weight_decay):
    """Running averages of d^2 and change^2; change = sqrt(square_step + eps) / sqrt(square + eps) * d."""
    d = _gradient(p, g, weight_decay)
    square += (1 - decay) * (d * d - square)
    change = np.sqrt(square_step + eps) / np.sqrt(square + eps) * d
    square_step += (1 - decay) * (change * change - square_step)
    p -= step_size * change


@guarded
def rmsprop_update(p, g, square, mean, velocity, step_size, decay, eps, momentum, weight_decay):
    """Running averages of d^2 and d; p -= step_size * d / sqrt(square - mean^2 + eps), with momentum."""
    d = _gradient(p, g, weight_decay)
    square += (1 - decay) * (d * d - square)
    variance = square
    if mean is not None:
        mean += (1 - decay) * (d - mean)
        variance = np.maximum(square - mean * mean, 0)
    d = d / np.sqrt(variance + eps)
    if velocity is not None:
        velocity[...] = momentum * velocity + d
        d = velocity
    p -= step_size * d


@guarded
def adam_update(p, g, m, v, step_size, beta1, beta2, unbias, eps, weight_decay):
    """Running averages m of d and v of d^2; p -= step_size * m / (sqrt(unbias * v) + eps)."""
    d = _gradient(p, g, weight_decay)
    m += (1 - beta1) * (d - m)
    v += (1 - beta2) * (d * d - v)
    p -= step_size * m / (np.sqrt(unbias * v) + eps)


@guarded
def adamax_update(p, g, m, u, step_size, beta1, beta2, weight_decay):
    """Running average m of d; u = max(beta2 * u, |d|); p -= step_size * m / u; where u = 0, p is unchanged."""
    d = _gradient(p, g, weight_decay, squared=False)
    m += (1 - beta1) * (d - m)
    np.maximum(beta2 * u, np.abs(d), out=u)
    p -= step_size * np.divide(m, u, out=np.zeros_like(m), where=u != 0)


def average_update(mean, p, beta2):
    """Running average: mean += (1 - beta2) * (p - mean)."""
    mean += (1 - beta2) * (p - mean)
