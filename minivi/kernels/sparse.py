"""A sparse matrix times a dense one: for each row, the sum of the rows of the right factor where it has numbers.

The sparse factor comes as compressed rows, the layout of ``scipy.sparse.csr_array``:

    data     3  5  2  7           the numbers, row after row
    indices  1  4  0  4           the column of each
    start    0  2  2  4           where each row begins in them, and the end: row 1 is empty

        x b, row 0  =  3 b[1] + 5 b[4]

Bags of words have some twenty of ten thousand columns in a row: a dense product would spend its time on zeros.
"""

import numpy as np

from minivi.kernels.jit import chunk, launch
from minivi.kernels.matmul import as_integers, at
from minivi.kernels.shapes import checked_index, checked_rows, empty
from minivi.kernels.vector import as_operands

__all__ = ["row_pairs", "row_sums", "sparse_matmul"]


@chunk
def _sparse(p, s, lo, hi):
    indices, start, n = as_integers(p[3]), as_integers(p[4]), np.int64(s[0])
    for i in range(lo, hi):
        total = at(p[0], i * n)
        for k in range(n):
            total[k] = 0
        for e in range(start[i], start[i + 1]):
            value, row = p[2][e], at(p[1], indices[e] * n)
            for k in range(n):
                total[k] += value * row[k]


def sparse_matmul(data, indices, start, b):
    """The product x b of a sparse matrix x (M, K) in compressed rows and an array.

    Args:
        data: the numbers of x, converted to the type of ``b``.
        indices: their columns, integers of the same length.
        start: (M + 1,): row i has the numbers ``start[i]`` up to ``start[i + 1]``.
        b: array (K, N), float32 or float64.

    Returns:
        The product, (M, N), of the type of ``b``.

    Raises:
        TypeError: ``b`` is of another type.
        ValueError: rows that are no partition of ``data``, or a column outside ``b``.
    """
    data, indices, start = checked_rows(data, indices, start, b)
    b, data = as_operands("sparse_matmul", (b, data))
    out = empty((len(start) - 1, b.shape[1]), b.dtype)
    arrays = (out, b, data, indices.view(b.dtype), start.view(b.dtype))
    launch(_sparse, len(out), arrays, b.shape[1:], work=(len(data) + len(out)) * b.shape[1])
    return out


@chunk
def _pairs(p, s, lo, hi):
    first, second, n = as_integers(p[3]), as_integers(p[4]), np.int64(s[0])
    for r in range(lo, hi):
        total, a, b = at(p[0], r * n), at(p[1], first[r] * n), at(p[2], second[r] * n)
        for k in range(n):
            total[k] = a[k] + b[k]


@chunk
def _row_sums(p, s, lo, hi):
    """Columns ``lo`` to ``hi``: each thread goes through all rows, in order."""
    index, rows, count, n = as_integers(p[2]), np.int64(s[0]), np.int64(s[1]), np.int64(s[2])
    for i in range(count):
        total = at(p[0], i * n)
        for k in range(lo, hi):
            total[k] = 0
    for r in range(rows):
        total, g = at(p[0], index[r] * n), at(p[1], r * n)
        for k in range(lo, hi):
            total[k] += g[k]


def row_pairs(a, b, i, j):
    """a[i] + b[j]: a row of ``a`` and one of ``b`` for each result.

    Args:
        a: array (M, N), float32 or float64.
        b: array (K, N) of the same type.
        i, j: numbers of rows, int64 (R,).

    Returns:
        (R, N).

    Raises:
        TypeError, ValueError: other types or shapes, or a row that is not there.
    """
    a, b = as_operands("row_pairs", (a, b))
    checked_index("row_pairs", i, len(a))
    checked_index("row_pairs", j, len(b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or i.shape != j.shape:
        raise ValueError(
            f"row_pairs: {a.shape} by {i.shape} and {b.shape} by {j.shape}; pass (M, N), (R,), (K, N), (R,)"
        )
    out = empty((len(i), a.shape[1]), a.dtype)
    launch(_pairs, len(i), (out, a, b, i.view(a.dtype), j.view(a.dtype)), a.shape[1:], work=out.size)
    return out


def row_sums(g, i, count):
    """Sums of the rows of ``g`` with the same number: (count, N), the cotangent of ``a`` in ``a[i]``.

    Args:
        g: array (R, N), float32 or float64.
        i: the row to which each is added, int64 (R,).
        count: M.

    Raises:
        TypeError, ValueError: other types or shapes, or a row that is not there.
    """
    (g,) = as_operands("row_sums", (g,))
    checked_index("row_sums", i, count)
    if g.ndim != 2 or len(i) != len(g):
        raise ValueError(f"row_sums: {g.shape} by {i.shape}; pass (R, N) and (R,)")
    out = empty((count, g.shape[1]), g.dtype)
    launch(_row_sums, g.shape[1], (out, g, i.view(g.dtype)), (len(g), count, g.shape[1]), work=g.size)
    return out
