"""Several launches in one compiled call, and kernels for what NumPy does between them on large arrays.

Python needs 5 us between two launches, and NumPy has one thread. The kernels here give NumPy's bits: sums over the
first axis add row after row.
"""

import math

import numpy as np
from numba import njit

from minivi.kernels import jit
from minivi.kernels.jit import GRAIN, _call, _fork, cached, chunk, get_threads
from minivi.kernels.matmul import as_integers, at


@cached
@njit(nogil=True)
def _run(functions, arrays, first, scalars, sizes, threads):
    for i in range(len(functions)):
        addresses, values = arrays[first[i] :].ctypes.data, scalars[i].ctypes.data
        if threads[i] == 1:
            _call(functions[i], addresses, values, 0, sizes[i])
        else:
            _fork(functions[i], addresses, values, sizes[i], threads[i])


class Table:
    """Launches as :func:`minivi.kernels.jit.launch` makes them: (function, arrays, scalars, n, threads)."""

    def __init__(self, launches):
        self._held = [call[1] for call in launches]  # their memory must stay where it is
        counts = [len(arrays) for arrays in self._held]
        self._table = (
            np.array([call[0] for call in launches], np.int64),
            np.array([a.ctypes.data for arrays in self._held for a in arrays], np.int64),
            np.cumsum([0, *counts])[:-1].astype(np.int64),
            np.array([call[2] for call in launches], np.float64),
            np.array([call[3] for call in launches], np.int64),
            np.array([call[4] for call in launches], np.int64),
        )

    def run(self):
        """All of them, in order."""
        if jit._run is jit._launch_in_turn:
            with jit._turn:
                _run(*self._table)
        else:
            _run(*self._table)


@chunk
def _take_rows(p, s, lo, hi):
    index, n = as_integers(p[2]), np.int64(s[0])
    for r in range(lo, hi):
        out, a = at(p[0], r * n), at(p[1], index[r] * n)
        for k in range(n):
            out[k] = a[k]


@chunk
def _sum_columns(p, s, lo, hi):
    count, n = np.int64(s[0]), np.int64(s[1])
    for k in range(lo, hi):
        p[0][k] = p[1][k]
    for r in range(1, count):
        row = at(p[1], r * n)
        for k in range(lo, hi):
            p[0][k] += row[k]


def as_launch(function, args, kwargs, out):
    """What NumPy is asked for as a launch, if there is a kernel for it and the arrays are large; else None."""
    if function is np.ndarray.__getitem__ and isinstance(args[1], np.ndarray):
        a, index = args
        fits = a.ndim == 2 and index.ndim == 1 and index.dtype == np.int64 and index.flags.c_contiguous
        if fits and _plain(a, out):
            return _launch(_take_rows, len(index), (out, a, index), (a.shape[1],), out.size)
    if function == np.add.reduce and len(args) == 1 and kwargs.keys() <= {"axis", "out", "keepdims", "dtype"}:
        (a,), (out,) = args, kwargs["out"]
        axis = kwargs.get("axis", 0)
        axes = axis if isinstance(axis, tuple) else (axis,)
        if axes == tuple(range(len(axes))) and len(axes) < a.ndim and kwargs.get("dtype") is None and _plain(a, out):
            rows, columns = math.prod(a.shape[: len(axes)]), math.prod(a.shape[len(axes) :])
            if rows > 1 and columns > 1:
                return _launch(_sum_columns, columns, (out, a), (rows, columns), a.size)
    return None


def _plain(a, out):
    large = max(a.size, out.size) >= GRAIN
    return large and a.dtype == out.dtype and a.dtype.kind == "f" and a.flags.c_contiguous and out.flags.c_contiguous


def _launch(kernel, n, arrays, scalars, work):
    threads = 1 if work < 2 * GRAIN else min(get_threads(), work // GRAIN, n)
    dtype = arrays[0].dtype
    return (
        kernel.addresses.get(dtype) or kernel.address(dtype),
        arrays,
        (*map(float, scalars), *jit._ZEROS[len(scalars) :]),
        n,
        threads,
    )
