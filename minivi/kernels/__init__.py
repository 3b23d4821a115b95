"""Numba kernels: arrays in, arrays out, and a plain NumPy twin (:mod:`~minivi.kernels.reference`) of each.

With ``NUMBA_DISABLE_JIT=1`` the twins are what everything runs on.
"""

import numba

if numba.config.DISABLE_JIT:
    from minivi.kernels.reference import *
else:
    from minivi.kernels.autoregressive import *
    from minivi.kernels.conv import *
    from minivi.kernels.jit import get_threads, instruction_set, on_compile, set_threads
    from minivi.kernels.matmul import *
    from minivi.kernels.pool import *
    from minivi.kernels.random import *
    from minivi.kernels.sparse import *
    from minivi.kernels.update import *
    from minivi.kernels.vector import *
