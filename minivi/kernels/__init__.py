"""Numba kernels: arrays in, arrays out, and a plain NumPy twin (:mod:`~minivi.kernels.reference`) of each.

With ``NUMBA_DISABLE_JIT=1`` the twins are what everything runs on.
"""

import numba

if numba.config.DISABLE_JIT:
    from .reference import *
else:
    from .autoregressive import *
    from .jit import get_threads, instruction_set, on_compile, set_threads
    from .matmul import *
    from .random import *
    from .sparse import *
    from .update import *
    from .vector import *
