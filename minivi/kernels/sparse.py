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
from minivi.kernels.shapes import checked_rows
from minivi.kernels.vector import as_operands

__all__ = ["sparse_matmul"]


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
    out = np.empty((len(start) - 1, b.shape[1]), b.dtype)
    arrays = (out, b, data, indices.view(b.dtype), start.view(b.dtype))
    launch(_sparse, len(out), arrays, b.shape[1:], work=(len(data) + len(out)) * b.shape[1])
    return out
