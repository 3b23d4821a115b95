"""A sparse matrix times a dense one."""

import numpy as np

from minivi.kernels.shapes import checked_index, checked_rows

__all__ = ["row_pairs", "row_sums", "sparse_matmul"]


def sparse_matmul(data, indices, start, b):
    """x b for x in compressed rows: the twin of :func:`minivi.kernels.sparse.sparse_matmul`."""
    data, indices, start = checked_rows(data, indices, start, b)
    out = np.zeros((len(start) - 1, b.shape[1]), b.dtype)
    np.add.at(out, np.repeat(np.arange(len(out)), np.diff(start)), data[:, None] * b[indices])
    return out


def row_pairs(a, b, i, j):
    """a[i] + b[j]."""
    checked_index("row_pairs", i, len(a))
    checked_index("row_pairs", j, len(b))
    return a[i] + b[j]


def row_sums(g, i, count):
    """Zeros to which the rows of ``g`` are added where ``i`` says."""
    checked_index("row_sums", i, count)
    out = np.zeros((count, g.shape[1]), g.dtype)
    np.add.at(out, i, g)
    return out
