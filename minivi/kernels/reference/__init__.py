"""The kernels' twins in plain NumPy, module by module: what a kernel computes, said in the shortest way.

Tests hold every kernel against its twin, and with ``NUMBA_DISABLE_JIT=1`` minivi runs on the twins alone.
"""

from minivi.kernels.reference.autoregressive import *
from minivi.kernels.reference.conv import *
from minivi.kernels.reference.matmul import *
from minivi.kernels.reference.pool import *
from minivi.kernels.reference.random import *
from minivi.kernels.reference.sparse import *
from minivi.kernels.reference.update import *
from minivi.kernels.reference.vector import *

on_compile = []  # the twins need no compiling


def get_threads() -> int:
    """The twins use one thread."""
    return 1


def set_threads(count: int) -> None:
    """Accepts any count, since the results would be the same."""


def matmul_tile() -> int:
    """NumPy's product has no tile of ours."""
    return 0


def instruction_set() -> str:
    """NumPy's own."""
    return "numpy"
