"""Max pooling by views of all taps."""

import numpy as np

from minivi.kernels.reference.conv import _taps
from minivi.kernels.shapes import checked_pool

__all__ = ["max_pool2d", "max_pool2d_take", "max_pool2d_transposed"]


def _views(x, size, stride, padding, shape, fill):
    padded = np.pad(x, ((0, 0), *((p, p) for p in padding), (0, 0)), constant_values=fill)
    return padded, [view for _, _, view in _taps(padded, size, stride, *shape[1:3])]


def max_pool2d(x, size, stride, padding=(0, 0)):
    """The largest number of each window and its tap: the twin of :func:`minivi.kernels.pool.max_pool2d`."""
    shape = checked_pool(x.shape, size, stride, padding)
    inside = np.stack(_views(np.ones(x.shape, bool), size, stride, padding, shape, False)[1])
    views = np.stack(_views(x, size, stride, padding, shape, 0)[1])
    order = np.where(inside, np.where(np.isnan(views), np.inf, views), -np.inf)
    which = np.argmax(np.where(inside & np.isneginf(order), np.finfo(x.dtype).min, order), 0)
    return np.take_along_axis(views, which[None], 0)[0], which.astype(x.dtype)


def max_pool2d_transposed(g, which, size, stride, padding, shape):
    """The cotangent of each window, where its number was."""
    padded, views = _views(np.zeros(shape, g.dtype), size, stride, padding, g.shape, 0)
    for tap, view in enumerate(views):
        view += np.where(which == tap, g, 0)
    return padded[:, padding[0] : padding[0] + shape[1], padding[1] : padding[1] + shape[2]].copy()


def max_pool2d_take(u, which, size, stride, padding):
    """The numbers at the chosen places."""
    views = np.stack(_views(u, size, stride, padding, which.shape, 0)[1])
    return np.take_along_axis(views, which[None].astype(np.int64), 0)[0]
