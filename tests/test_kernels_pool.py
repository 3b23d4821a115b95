"""Max pooling against a loop over windows, in both modules."""

import itertools

import numpy as np
import pytest

from minivi import kernels
from minivi.kernels.reference import pool as twins

each_module = pytest.mark.parametrize("module", [kernels, twins], ids=["kernel", "twin"])
# shape, size, stride, padding
CASES = [
    ((2, 6, 8, 3), (2, 2), (2, 2), (0, 0)),
    ((3, 32, 31, 5), (3, 3), (2, 2), (1, 1)),
    ((1, 5, 7, 1), (3, 2), (1, 3), (2, 0)),
    ((2, 7, 7, 20), (2, 2), (3, 3), (0, 1)),  # gaps between windows
    ((2, 3, 3, 2), (3, 3), (1, 1), (0, 0)),  # one window
    ((0, 4, 4, 2), (2, 2), (2, 2), (0, 0)),
]
each_case = pytest.mark.parametrize("case", CASES, ids=[str(case) for case in CASES])


def windows(shape, size, stride, padding, result):
    """Of each place of the result: the slices of the image that its window meets, and the first tap within."""
    for place in itertools.product(*map(range, result[:3])):
        y, x = (i * s - p for i, s, p in zip(place[1:], stride, padding, strict=True))
        yield place, (max(y, 0), min(y + size[0], shape[1])), (max(x, 0), min(x + size[1], shape[2])), (y, x)


@each_module
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_case
def test_windows(module, dtype, case):
    shape, size, stride, padding = case
    x = np.random.default_rng(0).integers(-4, 4, shape).astype(dtype)  # with ties
    y, which = module.max_pool2d(x, size, stride, padding)
    g = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    back, expected = module.max_pool2d_transposed(g, which, size, stride, padding, shape), np.zeros(shape, dtype)
    for (b, i, j), (y0, y1), (x0, x1), (top, left) in windows(shape, size, stride, padding, y.shape):
        for c in range(shape[3]):
            window = x[b, y0:y1, x0:x1, c]
            at = np.unravel_index(np.argmax(window), window.shape)  # the first of equal numbers
            assert y[b, i, j, c] == window.max()
            assert which[b, i, j, c] == (y0 - top + at[0]) * size[1] + x0 - left + at[1]
            expected[b, y0 + at[0], x0 + at[1], c] += g[b, i, j, c]
    np.testing.assert_allclose(back, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(module.max_pool2d_take(x, which, size, stride, padding), y)


@each_module
def test_special_numbers(module):
    x = np.full((1, 2, 2, 3), -np.inf)
    x[0, 1, 0, 1] = np.nan
    x[0, 0, 1, 2] = np.inf
    y, which = module.max_pool2d(x, (2, 2), (2, 2))
    np.testing.assert_array_equal(y[0, 0, 0], [-np.inf, np.nan, np.inf])
    np.testing.assert_array_equal(which[0, 0, 0], [0, 2, 1])
    _, which = module.max_pool2d(x, (2, 2), (2, 2), (1, 1))  # what lies outside is never chosen, not even for -inf
    np.testing.assert_array_equal(which[0, :, :, 0], [[3, 2], [1, 0]])


@each_module
@pytest.mark.parametrize(
    ("shape", "size", "stride", "padding", "match"),
    [
        ((4, 4, 2), (2, 2), (2, 2), (0, 0), "channels last"),
        ((1, 4, 4, 2), (2, 2), (2, 2), (2, 0), "padding is smaller than a window"),
        ((1, 4, 4, 2), (2, 2), (0, 2), (0, 0), "start at 1"),
        ((1, 4, 4, 2), (5, 2), (1, 1), (0, 0), "larger than images"),
    ],
)
def test_refusals(module, shape, size, stride, padding, match):
    with pytest.raises(ValueError, match=match):
        module.max_pool2d(np.zeros(shape), size, stride, padding)
