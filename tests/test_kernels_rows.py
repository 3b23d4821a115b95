"""Kernels that pick and sum rows, against NumPy, in both modules, and what they refuse."""

import numpy as np
import pytest

from minivi import kernels
from minivi.kernels.reference import sparse as twins

MODULES = [kernels, twins]
each_module = pytest.mark.parametrize("module", MODULES, ids=["kernel", "twin"])
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def arrays(rows, columns, count, dtype):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, columns)).astype(dtype) for n in (count, 4))
    return a, b, rng.integers(0, count, rows), rng.integers(0, 4, rows)


@each_module
@each_dtype
@pytest.mark.parametrize("shape", [(7, 5, 3), (300, 260, 40), (0, 3, 2), (2, 0, 3), (40_000, 3, 5)])
def test_pairs_and_sums(module, dtype, shape):
    a, b, i, j = arrays(*shape, dtype)
    pairs = module.row_pairs(a, b, i, j)
    np.testing.assert_array_equal(pairs, a[i] + b[j])
    expected = np.zeros_like(a)
    np.add.at(expected, i, pairs)
    np.testing.assert_array_equal(module.row_sums(pairs, i, len(a)), expected)


@each_module
@pytest.mark.parametrize(
    ("index", "error", "match"),
    [
        (np.array([0, 3]), ValueError, "rows from 0 to 3 of 3"),
        (np.array([-1, 0]), ValueError, "rows from -1 to 0 of 3"),
        (np.array([0, 1], np.int32), TypeError, "an index of int32"),
        (np.array([[0, 1]]), TypeError, r"an index of int64, \(1, 2\)"),
    ],
)
def test_rows_that_are_not_there(module, index, error, match):
    a, good = np.ones((3, 2)), np.array([0, 1])
    with pytest.raises(error, match=match):
        module.row_pairs(a, a, index, good)
    with pytest.raises(error, match=match):
        module.row_pairs(a, a, good, index)
    with pytest.raises(error, match=match):
        module.row_sums(np.ones((2, 2)), index, 3)
