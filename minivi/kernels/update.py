"""Optimizer updates: each reads and writes every array once, in place.

        g ---+                     p: parameter, g: its gradient, the others: the optimizer's state
        p ---+--> one pass --+--> p
    state ---+               +--> state

Every update first adds the pull of weight decay to the gradient, d = g + weight_decay * p. Running averages are written
as x += (1 - beta) * (new - x): in float32 beta and 1 - beta, each rounded, need not add up to 1, and x = beta * x +
(1 - beta) * new would settle at 1.3e-5 off the mean for beta = 0.999.

A gradient's NaN or infinity would stay in the state for ever. So each update looks at a block of the gradient before
it uses it, cheaper than a pass of its own since the block stays in the cache: one that is not finite is left alone,
the others are updated, and FloatingPointError is raised.

A finite d of which a square or a difference would overflow counts as the largest of which none does, 9e18 in float32:
one such gradient is to make one step of the usual size, not a state of infinities, which turn NaN or end all steps. An
infinite d shows, in the parameter.

Arrays are C-contiguous, of one shape and dtype (float32 or float64). Bias corrections, which differ from step to step,
come ready-made within ``step_size`` and ``unbias``; :mod:`minivi.optim` says how.
"""

import math
from types import FunctionType

import numpy as np
from numba import njit

from minivi.kernels.jit import MATH, SUMS, chunk, launch, rows
from minivi.kernels.shapes import given, now

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

Array = np.ndarray
BLOCK = 4096  # numbers of a gradient that are looked at together: they stay in the first cache


@njit(**SUMS)
def _zero_if_finite(x):
    zero = x.dtype.type(0)
    total = zero
    for i in range(len(x)):
        total += x[i] * zero
    return total


# The largest d where its square is averaged, and where d alone is.
LARGEST_SQUARED = {np.dtype(np.float32): 2.0**63, np.dtype(np.float64): 2.0**511}
LARGEST = {np.dtype(np.float32): 2.0**126, np.dtype(np.float64): 2.0**1022}


@njit(forceinline=True, **MATH)
def _gradient(g, x, decay, largest):
    d = g + decay * x
    return math.copysign(largest, d) if largest < abs(d) < np.inf else d


@chunk
def _all_finite(p, s, lo, hi):
    total = _zero_if_finite(rows(p[0], lo, hi))
    if total != 0:
        p[1][0] = total


def all_finite(x: Array) -> bool:
    """Whether there is no NaN and no infinity in ``x``."""
    lost = np.zeros(1, x.dtype)
    launch(_all_finite, x.size, (x, lost), work=x.size // 8)
    return lost[0] == 0


update, last = None, 0  # in the globals of each guarded chunk: the chunk of elements, and the place of `lost`


def _blockwise(p, s, lo, hi):
    while lo < hi:
        end = min(hi, lo + BLOCK)
        total = _zero_if_finite(rows(p[1], lo, end))
        if total == 0:
            update(p, s, lo, end)
        else:
            p[last][0] = total
        lo = end


def guarded(arrays):
    """Decorator: a chunk of ``arrays`` arrays, the second a gradient, that leaves blocks alone where it is not finite.

    One more array, of one number, is then set to NaN.
    """

    def decorate(function):  # not as a closure, see kernels.vector.pointwise
        names = globals() | {"update": njit(**MATH)(function), "last": arrays}
        kernel = FunctionType(_blockwise.__code__, names, function.__name__)
        kernel.__qualname__ = f"_blockwise.{function.__name__}"
        return chunk(kernel, flush=True)

    return decorate


def _apply(kernel, arrays, scalars):
    if now.updates is not None:
        now.updates.append((kernel, arrays, scalars))
        return
    lost = np.zeros(1, arrays[0].dtype)
    given(arrays[0])
    launch(kernel, arrays[0].size, (*arrays, lost), scalars)
    if lost[0] != 0:
        raise FloatingPointError("the gradient has a NaN or an infinity")


@guarded(2)
def _sgd(p, s, lo, hi):
    x, g = rows(p[0], lo, hi), rows(p[1], lo, hi)
    real = x.dtype.type
    step, decay = real(s[0]), real(s[1])
    for i in range(len(x)):
        x[i] -= step * (g[i] + decay * x[i])


@guarded(3)
def _momentum(p, s, lo, hi):
    x, g, velocity = rows(p[0], lo, hi), rows(p[1], lo, hi), rows(p[2], lo, hi)
    real = x.dtype.type
    step, decay, momentum, nesterov = real(s[0]), real(s[1]), real(s[2]), s[3] != 0
    for i in range(len(x)):
        d = g[i] + decay * x[i]
        v = momentum * velocity[i] + d
        velocity[i] = v
        x[i] -= step * (d + momentum * v if nesterov else v)


@guarded(3)
def _adagrad(p, s, lo, hi):
    x, g, total = rows(p[0], lo, hi), rows(p[1], lo, hi), rows(p[2], lo, hi)
    real = x.dtype.type
    step, decay, eps, largest = real(s[0]), real(s[1]), real(s[2]), real(s[3])
    ceiling = real(2) * largest * largest
    for i in range(len(x)):
        d = _gradient(g[i], x[i], decay, largest)
        t = total[i] + d * d
        total[i] = ceiling if t > ceiling else t
        x[i] -= step * d / (math.sqrt(total[i]) + eps)


@guarded(4)
def _adadelta(p, s, lo, hi):
    x, g = rows(p[0], lo, hi), rows(p[1], lo, hi)
    square, square_step = rows(p[2], lo, hi), rows(p[3], lo, hi)
    real = x.dtype.type
    step, decay, rate, eps, largest = real(s[0]), real(s[1]), real(s[2]), real(s[3]), real(s[4])
    for i in range(len(x)):
        d = _gradient(g[i], x[i], decay, largest)
        square[i] += rate * (d * d - square[i])
        change = math.sqrt(square_step[i] + eps) / math.sqrt(square[i] + eps) * d
        square_step[i] += rate * (change * change - square_step[i])
        x[i] -= step * change


@guarded(5)
def _rmsprop(p, s, lo, hi):
    x, g, square = rows(p[0], lo, hi), rows(p[1], lo, hi), rows(p[2], lo, hi)
    mean, velocity = rows(p[3], lo, hi), rows(p[4], lo, hi)
    real = x.dtype.type
    step, decay, rate, eps, momentum = real(s[0]), real(s[1]), real(s[2]), real(s[3]), real(s[4])
    centred, moving, largest = s[5] != 0, s[6] != 0, real(s[7])
    for i in range(len(x)):
        d = _gradient(g[i], x[i], decay, largest)
        v = square[i] + rate * (d * d - square[i])
        square[i] = v
        if centred:
            m = mean[i] + rate * (d - mean[i])
            mean[i] = m
            v = max(v - m * m, real(0))
        d = d / math.sqrt(v + eps)
        if moving:
            d = momentum * velocity[i] + d
            velocity[i] = d
        x[i] -= step * d


@guarded(4)
def _adam(p, s, lo, hi):
    x, g, m, v = rows(p[0], lo, hi), rows(p[1], lo, hi), rows(p[2], lo, hi), rows(p[3], lo, hi)
    real = x.dtype.type
    step, decay, rate1, rate2, unbias, eps = real(s[0]), real(s[1]), real(s[2]), real(s[3]), real(s[4]), real(s[5])
    largest = real(s[6])
    for i in range(len(x)):
        d = _gradient(g[i], x[i], decay, largest)
        m[i] += rate1 * (d - m[i])
        v[i] += rate2 * (d * d - v[i])
        x[i] -= step * m[i] / (math.sqrt(unbias * v[i]) + eps)


@guarded(4)
def _adamax(p, s, lo, hi):
    x, g, m, u = rows(p[0], lo, hi), rows(p[1], lo, hi), rows(p[2], lo, hi), rows(p[3], lo, hi)
    real = x.dtype.type
    step, decay, rate1, beta2, largest = real(s[0]), real(s[1]), real(s[2]), real(s[3]), real(s[4])
    for i in range(len(x)):
        d = _gradient(g[i], x[i], decay, largest)
        m[i] += rate1 * (d - m[i])
        u[i] = np.maximum(beta2 * u[i], abs(d))
        x[i] -= step * (m[i] / u[i] if u[i] != 0 else real(0))


@chunk
def _average(p, s, lo, hi):
    mean, x = rows(p[0], lo, hi), rows(p[1], lo, hi)
    rate = x.dtype.type(s[0])
    for i in range(len(x)):
        mean[i] += rate * (x[i] - mean[i])


def sgd_update(
    p: Array, g: Array, velocity: Array | None, step_size: float, weight_decay: float, momentum: float, nesterov: bool
) -> None:
    """velocity = momentum * velocity + d; p -= step_size * velocity, or of d + momentum * velocity (Nesterov).

    Without a velocity (None), p -= step_size * d.
    """
    if velocity is None:
        _apply(_sgd, (p, g), (step_size, weight_decay))
    else:
        _apply(_momentum, (p, g, velocity), (step_size, weight_decay, momentum, nesterov))


def adagrad_update(p: Array, g: Array, total: Array, step_size: float, eps: float, weight_decay: float) -> None:
    """total += d^2; p -= step_size * d / (sqrt(total) + eps)."""
    _apply(_adagrad, (p, g, total), (step_size, weight_decay, eps, LARGEST_SQUARED[p.dtype]))


def adadelta_update(
    p: Array,
    g: Array,
    square: Array,
    square_step: Array,
    step_size: float,
    decay: float,
    eps: float,
    weight_decay: float,
) -> None:
    """Running averages of d^2 and change^2; change = sqrt(square_step + eps) / sqrt(square + eps) * d."""
    scalars = (step_size, weight_decay, 1 - decay, eps, LARGEST_SQUARED[p.dtype])
    _apply(_adadelta, (p, g, square, square_step), scalars)


def rmsprop_update(
    p: Array,
    g: Array,
    square: Array,
    mean: Array | None,
    velocity: Array | None,
    step_size: float,
    decay: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """Running averages of d^2 and d; p -= step_size * d / sqrt(square - mean^2 + eps), with momentum.

    Without a ``mean`` (None) it counts as 0; without a ``velocity`` there is no momentum.
    """
    state = [a if a is not None else np.empty(0, p.dtype) for a in (mean, velocity)]
    variant = (mean is not None, velocity is not None)
    scalars = (step_size, weight_decay, 1 - decay, eps, momentum, *variant, LARGEST_SQUARED[p.dtype])
    _apply(_rmsprop, (p, g, square, *state), scalars)


def adam_update(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step_size: float,
    beta1: float,
    beta2: float,
    unbias: float,
    eps: float,
    weight_decay: float,
) -> None:
    """Running averages m of d and v of d^2; p -= step_size * m / (sqrt(unbias * v) + eps)."""
    scalars = (step_size, weight_decay, 1 - beta1, 1 - beta2, unbias, eps, LARGEST_SQUARED[p.dtype])
    _apply(_adam, (p, g, m, v), scalars)


def adamax_update(
    p: Array, g: Array, m: Array, u: Array, step_size: float, beta1: float, beta2: float, weight_decay: float
) -> None:
    """Running average m of d; u = max(beta2 * u, |d|); p -= step_size * m / u; where u = 0, p is unchanged."""
    _apply(_adamax, (p, g, m, u), (step_size, weight_decay, 1 - beta1, beta2, LARGEST[p.dtype]))


def average_update(mean: Array, p: Array, beta2: float) -> None:
    """Running average: mean += (1 - beta2) * (p - mean)."""
    launch(_average, p.size, (given(mean), p), (1 - beta2,))
