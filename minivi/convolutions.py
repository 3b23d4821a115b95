"""Primitives on images (B, H, W, C), channels last: convolutions, their transposes, max pooling.

A convolution is linear in its images and in its kernel, so each of its two cotangents is again such a map, and the
three close under differentiation:

    y = conv2d(x, w)      cotangent of x:  conv2d_transposed(g, w)       of w:  conv2d_weight_gradient(x, g)

Strides are a number or (vertical, horizontal); padding is a number, a number for each direction, or
((above, below), (left, right)).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from minivi import kernels
from minivi.tensor import Tensor, primitive

__all__ = [
    "conv2d", "conv2d_transposed", "conv2d_weight_gradient", "max_pool2d", "max_pool2d_take", "max_pool2d_transposed",
]  # fmt: skip

Array = Tensor | np.ndarray
Pair = int | tuple[int, int]
Padding = int | Sequence


def pair(value: Any) -> tuple[int, int]:
    """A number for both directions, or one for each."""
    return (value, value) if np.ndim(value) == 0 else tuple(value)


def pads(padding: Any) -> tuple:
    """Padding as ((above, below), (left, right))."""
    return tuple(pair(p) for p in pair(padding))


@functools.lru_cache(64)
def _no_bias(n, dtype):
    return np.zeros(n, dtype)


def _cases(a):
    one, two = {"stride": 1, "padding": 1}, {"stride": (2, 1), "padding": ((1, 0), (0, 2))}
    return [(a(2, 4, 3, 2), a(3, 3, 2, 3), a(3), one), (a(1, 5, 4, 1), a(2, 3, 1, 2), a(2), two)]


@primitive(
    lambda g, y, x, w, b, stride, padding: conv2d_transposed(
        g, w, _no_bias(w.shape[2], w.dtype), stride, padding, x.shape[1:3]
    ),
    lambda g, y, x, w, b, stride, padding: conv2d_weight_gradient(x, g, stride, padding, w.shape[:2]),
    lambda g, y, x, w, b, stride, padding: g,
    linear=True,
    cases=_cases,
)
def conv2d(x: Array, w: Array, b: Array, stride: Pair = 1, padding: Padding = 0) -> Array:
    """y[i, j] = sum over ky, kx of x[i s + ky - p, j s + kx - p] w[ky, kx] + b, for each image.

    Shapes: x (B, H, W, C), w (KH, KW, C, O), b (O,) -> (B, (H + padding - KH) // stride + 1, likewise, O).

    Raises:
        ValueError: shapes that do not fit, or a kernel larger than the padded images.
    """
    return kernels.conv2d(x, w, pair(stride), pads(padding), b)


def _cases_transposed(a):
    one, two = {"stride": 1, "padding": 1, "size": (4, 3)}, {"stride": 2, "padding": ((1, 0), (0, 2)), "size": (5, 4)}
    return [(a(2, 4, 3, 3), a(3, 3, 2, 3), a(2), one), (a(1, 3, 2, 2), a(2, 3, 1, 2), a(1), two)]


@primitive(
    lambda u, y, g, w, b, stride, padding, size: conv2d(u, w, _no_bias(w.shape[3], w.dtype), stride, padding),
    lambda u, y, g, w, b, stride, padding, size: conv2d_weight_gradient(u, g, stride, padding, w.shape[:2]),
    lambda u, y, g, w, b, stride, padding, size: u,
    linear=True,
    cases=_cases_transposed,
)
def conv2d_transposed(
    g: Array, w: Array, b: Array, stride: Pair = 1, padding: Padding = 0, size: tuple[int, int] = ()
) -> Array:
    """The transpose of :func:`conv2d` as a linear map of x: g (B, OH, OW, O), w (KH, KW, C, O), b (C,) -> (B, H, W, C).

    ``size`` is (H, W), of which several give one (OH, OW) where the stride is above 1.

    Raises:
        ValueError: shapes that do not fit.
    """
    shape = (g.shape[0], *size, w.shape[2])
    return kernels.conv2d_transposed(g, w, pair(stride), pads(padding), shape, b)


def _cases_weights(a):
    one, two = {"stride": 1, "padding": 1, "size": (3, 3)}, {"stride": 2, "padding": ((1, 0), (0, 2)), "size": (2, 3)}
    return [(a(2, 4, 3, 2), a(2, 4, 3, 3), one), (a(1, 5, 4, 1), a(1, 3, 2, 2), two)]


@primitive(
    lambda u, y, x, g, stride, padding, size: conv2d_transposed(
        g, u, _no_bias(u.shape[2], u.dtype), stride, padding, x.shape[1:3]
    ),
    lambda u, y, x, g, stride, padding, size: conv2d(x, u, _no_bias(u.shape[3], u.dtype), stride, padding),
    linear=True,
    cases=_cases_weights,
)
def conv2d_weight_gradient(
    x: Array, g: Array, stride: Pair = 1, padding: Padding = 0, size: tuple[int, int] = ()
) -> Array:
    """The cotangent of :func:`conv2d`'s kernel: x (B, H, W, C), g (B, OH, OW, O) -> (KH, KW, C, O).

    ``size`` is (KH, KW).

    Raises:
        ValueError: shapes that do not fit.
    """
    return kernels.conv2d_weight_gradient(x, g, pair(stride), pads(padding), (*size, x.shape[3], g.shape[3]))


def _cases_pool(a):
    return [(a(2, 4, 6, 3), {"size": 2}), (a(1, 5, 5, 2), {"size": 3, "stride": 2, "padding": 1})]


def _pooled(size, stride, padding):
    return pair(size), pair(size if stride is None else stride), pair(padding)


def _max_pool2d_vjp(g, which, x, size, stride=None, padding=0):
    if isinstance(g, Tensor):  # then it is the result, and not what was saved
        _, which = kernels.max_pool2d(x._data if isinstance(x, Tensor) else x, *_pooled(size, stride, padding))
    return max_pool2d_transposed(g, which, size, stride, padding, x.shape[1:3])


@primitive(_max_pool2d_vjp, saves=True, cases=_cases_pool)
def max_pool2d(x: Array, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Array:
    """The largest number of each window of ``size``, one every ``stride`` (by default ``size``), for each channel.

    Shapes: x (B, H, W, C) -> (B, (H + 2 padding - size) // stride + 1, likewise, C). Of equal numbers the first takes
    the cotangent, as in other libraries; padding is never chosen.

    Raises:
        ValueError: no images, windows larger than they, or padding as large as a window.
    """
    return kernels.max_pool2d(x, *_pooled(size, stride, padding))


def _taps(a, low, high, shape):
    return np.random.default_rng(0).integers(low, high, shape).astype("float64")


@primitive(
    lambda u, y, g, which, size, stride=None, padding=0, to=(): max_pool2d_take(u, which, size, stride, padding),
    None,
    linear=True,
    cases=lambda a: [(a(2, 2, 3, 3), _taps(a, 0, 4, (2, 2, 3, 3)), {"size": 2, "to": (4, 6)})],
)
def max_pool2d_transposed(
    g: Array, which: np.ndarray, size: Pair, stride: Pair | None = None, padding: Pair = 0, to: tuple = ()
) -> Array:
    """The cotangent of the images of :func:`max_pool2d`, of height and width ``to``: ``g`` at the largest numbers."""
    return kernels.max_pool2d_transposed(g, which, *_pooled(size, stride, padding), (g.shape[0], *to, g.shape[3]))


@primitive(
    lambda g, y, u, which, size, stride=None, padding=0: max_pool2d_transposed(
        g, which, size, stride, padding, u.shape[1:3]
    ),
    None,
    linear=True,
    cases=lambda a: [(a(2, 4, 6, 3), _taps(a, 0, 4, (2, 2, 3, 3)), {"size": 2})],
)
def max_pool2d_take(u: Array, which: np.ndarray, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Array:
    """The numbers of ``u`` (B, H, W, C) at the taps ``which`` (B, OH, OW, C) of the windows."""
    return kernels.max_pool2d_take(u, which, *_pooled(size, stride, padding))
