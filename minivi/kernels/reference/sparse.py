"""A sparse matrix times a dense one."""

import numpy as np

from minivi.kernels.shapes import checked_rows

__all__ = ["sparse_matmul"]


def sparse_matmul(data, indices, start, b):
    """x b for x in compressed rows: the twin of :func:`minivi.kernels.sparse.sparse_matmul`."""
    data, indices, start = checked_rows(data, indices, start, b)
    out = np.zeros((len(start) - 1, b.shape[1]), b.dtype)
    np.add.at(out, np.repeat(np.arange(len(out)), np.diff(start)), data[:, None] * b[indices])
    return out
