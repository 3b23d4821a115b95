"""Several launches in one compiled call, and kernels for what NumPy does between them on large arrays.

Python needs 5 us between two launches, and NumPy has one thread. The kernels here give NumPy's bits: sums over the
first axis add row after row.
"""

import numpy as np
from numba import njit

from minivi.kernels import jit
from minivi.kernels.jit import _call, _fork, cached


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
