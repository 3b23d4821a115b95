"""Matrix products."""

import math

import numpy as np

from .jit import chunk, launch, rows, rows2
from .reference.matmul import product_shape

__all__ = ["matmul"]


@chunk
def _gemm(p, s, lo, hi):
    inner, columns = np.int64(s[0]), np.int64(s[1])
    a, c = rows2(p[0], lo, hi, inner), rows2(p[2], lo, hi, columns)
    b = rows2(p[1], 0, inner, columns)
    bias = rows(p[3], 0, columns)
    for i in range(hi - lo):
        y = c[i]
        if s[3] == 0:
            for j in range(columns):
                y[j] = bias[j] if s[2] else 0
        for k in range(inner):
            x, z = a[i, k], b[k]
            for j in range(columns):
                y[j] += x * z[j]


def matmul(a, b, out=None, bias=None, accumulate=False):
    """The matrix product a b, with NumPy's rules for vectors and for batches of matrices.

    Args:
        a: array (..., M, K) or (K,), float32 or float64; any layout.
        b: array (..., K, N) or (K,), of the same type.
        out: C-contiguous array (..., M, N) to write, sharing no memory with the operands; by default a new one.
        bias: array (N,), added to every row.
        accumulate: add the product to what ``out`` holds.

    Returns:
        The product, (..., M, N); ``out`` if that was given.

    Raises:
        TypeError: an operand is neither float32 nor float64, or two of them differ.
        ValueError: shapes that do not fit, or an ``out`` that cannot be written.
    """
    shape = product_shape(a, b, out, bias, accumulate)
    out = np.empty(shape, a.dtype) if out is None else out
    if bias is not None and accumulate:
        out += bias
    c = out[..., None] if b.ndim == 1 else out
    b = b[:, None] if b.ndim == 1 else b
    c = c[..., None, :] if a.ndim == 1 else c
    a = a[None] if a.ndim == 1 else a
    if b.ndim == 2:
        count = math.prod(a.shape[:-1])
        a, c = a.reshape(1, count, a.shape[-1]), c.reshape(1, count, c.shape[-1])
    batch = c.shape[:-2]
    a, b = np.broadcast_to(a, batch + a.shape[-2:]), np.broadcast_to(b, batch + b.shape[-2:])
    for index in np.ndindex(batch):
        x, y, z = np.array(a[index], order="C"), np.array(b[index], order="C"), c[index]
        (m, k), n = x.shape, y.shape[1]
        scalars = (k, n, bias is not None, accumulate)
        if n:
            launch(_gemm, m, (x, y, z, z if bias is None else bias), scalars, work=m * n * (k + 1) // 8)
    return out
