"""A sparse matrix times a dense one."""

import numpy as np

__all__ = ["sparse_matmul"]


def checked_rows(data, indices, start, b):
    """The compressed rows in the types that kernels read, checked against ``b``."""
    data, indices, start = np.asarray(data, b.dtype), np.asarray(indices, np.int64), np.asarray(start, np.int64)
    if b.ndim != 2 or indices.shape != data.shape or start.ndim != 1 or len(start) < 1:
        raise ValueError(
            f"sparse_matmul: data {data.shape}, indices {indices.shape}, start {start.shape} and b {b.shape}; they "
            "must be (E,), (E,), (M + 1,) and (K, N)"
        )
    if start[0] != 0 or start[-1] != len(data) or np.any(np.diff(start) < 0):
        raise ValueError(
            f"sparse_matmul: start goes from {start[0]} to {start[-1]}; it must rise from 0 to {len(data)}"
        )
    if len(indices) and not (0 <= indices.min() and indices.max() < len(b)):
        raise ValueError(
            f"sparse_matmul: columns from {indices.min()} to {indices.max()} for a factor of {len(b)} rows"
        )
    return np.ascontiguousarray(data), np.ascontiguousarray(indices), np.ascontiguousarray(start)


def sparse_matmul(data, indices, start, b):
    """x b for x in compressed rows: the twin of :func:`minivi.kernels.sparse.sparse_matmul`."""
    data, indices, start = checked_rows(data, indices, start, b)
    out = np.zeros((len(start) - 1, b.shape[1]), b.dtype)
    np.add.at(out, np.repeat(np.arange(len(out)), np.diff(start)), data[:, None] * b[indices])
    return out
