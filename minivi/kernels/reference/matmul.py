"""Matrix products: what they compute, from three loops to NumPy's own."""

import numpy as np

from minivi.kernels.shapes import Ranges, check_binary, checked_shape, is_binary

__all__ = [
    "Ones",
    "Ranges",
    "binary_matmul",
    "is_binary",
    "masked_matmul",
    "masked_weight_gradient",
    "matmul",
    "matmul_backend",
    "set_matmul_backend",
]


def matmul_loops(a, b):
    """The definition, c[i, j] = sum over k of a[i, k] b[k, j], as a reader should see it first.

    Args:
        a: array (M, K).
        b: array (K, N).

    Returns:
        Array (M, N).
    """
    rows, inner = a.shape
    columns = b.shape[1]
    c = np.zeros((rows, columns), a.dtype)
    for i in range(rows):
        for j in range(columns):
            for k in range(inner):
                c[i, j] += a[i, k] * b[k, j]
    return c


def matmul_tiles(a, b, block=1024, depth=256, width=24, height=4):
    """The same product in the order of the fast kernel: tiles of ``height`` x ``width`` that fit into registers.

    The innermost statement is the micro-kernel's work; the panel and the block of ``a`` are what caches hold.

    Args:
        a: array (M, K).
        b: array (K, N).
        block, depth, width, height: sizes of the blocks of rows, of k, of columns, and of rows in a tile.

    Returns:
        Array (M, N).
    """
    (rows, inner), columns = a.shape, b.shape[1]
    c = np.zeros((rows, columns), a.dtype)
    for i0 in range(0, rows, block):
        for k0 in range(0, inner, depth):
            for j in range(0, columns, width):
                panel = b[k0 : k0 + depth, j : j + width].copy()
                for i in range(i0, min(i0 + block, rows), height):
                    tile = c[i : min(i + height, i0 + block), j : j + width]
                    for k in range(len(panel)):
                        tile += a[i : i + len(tile), k0 + k, None] * panel[k]
    return c


def matmul(a, b, out=None, bias=None, accumulate=False):
    """a b (+ bias) (+ out): the twin of :func:`minivi.kernels.matmul.matmul`."""
    checked_shape(a, b, out, bias, accumulate)
    product = np.asarray(np.matmul(a, b))
    if bias is not None:
        product = product + bias
    if out is None:
        return product
    out[...] = out + product if accumulate else product
    return out


def matmul_backend(dtype=np.float32) -> str:
    """What computes products of ``dtype``: always "numpy"."""
    return "numpy"


def set_matmul_backend(choice: str, dtype=np.float32) -> None:
    """Does nothing: there is no other."""


def masked_matmul(a, b, ranges, out=None, bias=None):
    """a b: the twin of :func:`minivi.kernels.matmul.masked_matmul`, for which ``b`` is zero under the mask."""
    ranges.check("masked_matmul", b.shape)
    return matmul(a, b, out, bias)


def masked_weight_gradient(a, grad, ranges, out=None):
    """a' grad, zero under the mask: the twin of :func:`minivi.kernels.matmul.masked_weight_gradient`."""
    a, grad = a.reshape(-1, a.shape[-1]), grad.reshape(-1, grad.shape[-1])
    ranges.check("masked_weight_gradient", (a.shape[1], grad.shape[1]))
    product = matmul(a.T, grad, out)
    product[~ranges.mask] = 0
    return product


class Ones:
    """A matrix of zeros and ones: the twin of :class:`minivi.kernels.matmul.Ones`."""

    def __init__(self, x):
        """Check and keep ``x``."""
        check_binary(x)
        self.x, self.shape, self.dtype = x, x.shape, x.dtype

    @property
    def T(self):
        """The transpose."""
        return Ones(self.x.T)


def binary_matmul(x, b, out=None, bias=None):
    """x b: the twin of :func:`minivi.kernels.matmul.binary_matmul`."""
    return matmul((x if isinstance(x, Ones) else Ones(x)).x, b, out, bias)
