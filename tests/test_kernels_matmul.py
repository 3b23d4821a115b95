"""Matrix products against the definition, and against bounds that rounding cannot exceed."""

import numpy as np
import pytest

from minivi.kernels import jit, matmul
from minivi.kernels.reference import matmul as _  # noqa: F401
from minivi.kernels.reference.matmul import matmul_loops

DTYPES = [np.float32, np.float64]
LAYOUTS = {
    "C": lambda x: x,
    "T": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "strided": lambda x: np.repeat(np.repeat(x, 2, -1), 3, -2)[..., ::3, ::2],
}


def normal(shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def assert_product(c, a, b, start=0.0):
    """c = start + a b, up to the K + 2 roundings of any order of summation (Higham, section 3.1)."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    size = np.matmul(np.abs(a64), np.abs(b64)) + np.abs(start)
    limit = (a.shape[-1] + 2) * np.finfo(a.dtype).eps * size
    assert c.dtype == a.dtype and c.shape == size.shape
    assert np.all(np.abs(c - (np.matmul(a64, b64) + start)) <= limit)


@pytest.mark.parametrize("dtype", DTYPES)
def test_three_loops_are_the_product(dtype):
    a, b = normal((3, 4), dtype), normal((4, 5), dtype)
    assert_product(matmul_loops(a, b), a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layouts", ["C C", "T C", "C T", "T T", "strided C", "C strided"])
def test_shapes_and_layouts(layouts, dtype):
    first, second = layouts.split()
    for m, k, n in [(1, 1, 1), (2, 3, 5), (7, 17, 23), (13, 1, 31), (1, 64, 97), (97, 5, 1), (101, 300, 67)]:
        a, b = normal((m, k), dtype), normal((k, n), dtype, 1)
        assert_product(matmul(LAYOUTS[first](a), LAYOUTS[second](b)), a, b)
