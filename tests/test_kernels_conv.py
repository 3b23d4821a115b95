"""Convolutions against SciPy's correlation, in both modules: every stride, padding, odd sizes; and what they refuse."""

import numpy as np
import pytest
from scipy.signal import correlate2d

from minivi import kernels
from minivi.kernels.reference import conv as twins

each_module = pytest.mark.parametrize("module", [kernels, twins], ids=["kernel", "twin"])
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])

# images, kernel (height, width, channels, outputs), stride, padding
CASES = [
    ((1, 3, 3, 1), (1, 1, 1, 1), (1, 1), ((0, 0), (0, 0))),
    ((2, 5, 6, 3), (3, 3, 3, 4), (1, 1), ((1, 1), (1, 1))),
    ((2, 7, 5, 2), (3, 2, 2, 17), (2, 1), ((1, 0), (0, 1))),
    ((3, 8, 9, 4), (5, 5, 4, 33), (2, 2), ((2, 2), (2, 2))),
    ((1, 9, 9, 1), (2, 2, 1, 3), (3, 3), ((0, 0), (0, 0))),  # a stride larger than the kernel: some inputs unused
    ((2, 4, 4, 5), (4, 4, 5, 50), (1, 1), ((0, 0), (0, 0))),  # one output
    ((2, 10, 3, 40), (3, 3, 40, 20), (2, 3), ((0, 2), (1, 0))),
    ((4, 12, 11, 31), (5, 4, 31, 65), (1, 2), ((3, 1), (2, 4))),  # blocks of k, wide padding
    ((2, 40, 30, 24), (5, 3, 24, 7), (1, 1), ((2, 2), (1, 1))),  # rows of patches apart, several blocks of an image
    ((1, 2, 40, 70), (1, 3, 70, 2), (1, 1), ((0, 0), (1, 1))),
    ((0, 4, 4, 2), (3, 3, 2, 2), (1, 1), ((1, 1), (1, 1))),  # no images
]
each_case = pytest.mark.parametrize("case", CASES, ids=[f"{x}-{w}-{s}" for x, w, s, _ in CASES])


def operands(case, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    shape, kernel, stride, padding = case
    return rng.standard_normal(shape).astype(dtype), rng.standard_normal(kernel).astype(dtype), stride, padding


def by_scipy(x, w, stride, padding):
    padded = np.pad(x, ((0, 0), *padding, (0, 0))).astype("float64")
    out = [
        [sum(correlate2d(image[..., c], w[:, :, c, o], "valid") for c in range(w.shape[2])) for o in range(w.shape[3])]
        for image in padded
    ]
    full = np.transpose(np.array(out), (0, 2, 3, 1)) if len(x) else np.zeros((0, *x.shape[1:3], w.shape[3]))
    return full[:, :: stride[0], :: stride[1]]


@each_module
@each_dtype
@each_case
def test_forward_is_scipys_correlation(module, dtype, case):
    x, w, stride, padding = operands(case, dtype)
    y = module.conv2d(x, w, stride, padding)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, by_scipy(x, w, stride, padding), rtol=0, atol=2e-4 if dtype == "float32" else 1e-11)
    bias = np.arange(w.shape[3]).astype(dtype)
    np.testing.assert_allclose(module.conv2d(x, w, stride, padding, bias), y + bias, rtol=1e-5, atol=1e-4)


@each_module
@each_dtype
@each_case
def test_gradients_are_the_transposes(module, dtype, case):
    """<g, conv2d(x, w)> is linear in x and in w: the two gradients are its coefficients, one unit vector at a time."""
    x, w, stride, padding = operands(case, dtype)
    g = np.random.default_rng(1).standard_normal(module.conv2d(x, w, stride, padding).shape).astype(dtype)
    by_x = module.conv2d_transposed(g, w, stride, padding, x.shape)
    by_w = module.conv2d_weight_gradient(x, g, stride, padding, w.shape)
    assert by_x.shape == x.shape and by_w.shape == w.shape and by_x.dtype == by_w.dtype == dtype
    tolerance = dict(rtol=0, atol=5e-4 if dtype == "float32" else 1e-10)
    rng = np.random.default_rng(2)
    for _ in range(5 if x.size else 0):
        at = tuple(rng.integers(n) for n in x.shape)
        unit = np.zeros_like(x)
        unit[at] = 1
        np.testing.assert_allclose(by_x[at], np.sum(g * by_scipy(unit, w, stride, padding)), **tolerance)
    for _ in range(5):
        at = tuple(rng.integers(n) for n in w.shape)
        unit = np.zeros_like(w)
        unit[at] = 1
        np.testing.assert_allclose(by_w[at], np.sum(g * by_scipy(x, unit, stride, padding)), **tolerance)


@each_case
def test_kernel_is_its_twin(case):
    x, w, stride, padding = operands(case)
    y = twins.conv2d(x, w, stride, padding)
    g = np.random.default_rng(1).standard_normal(y.shape)
    bias = np.arange(float(w.shape[2]))
    for name, arguments in [
        ("conv2d", (x, w, stride, padding)),
        ("conv2d_transposed", (g, w, stride, padding, x.shape, bias)),
        ("conv2d_weight_gradient", (x, g, stride, padding, w.shape)),
    ]:
        ours, theirs = (getattr(module, name)(*arguments) for module in (kernels, twins))
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_threads(dtype):
    x, w, stride, padding = operands(CASES[7], dtype)
    results = []
    most = kernels.get_threads()
    try:
        for threads in range(1, most + 1):
            kernels.set_threads(threads)
            y = kernels.conv2d(x, w, stride, padding)
            by_x = kernels.conv2d_transposed(y, w, stride, padding, x.shape)
            results.append([y, by_x, kernels.conv2d_weight_gradient(x, y, stride, padding, w.shape)])
    finally:
        kernels.set_threads(most)
    for others in results[1:]:
        for a, b in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(a, b)


@each_module
@pytest.mark.parametrize(
    ("x", "w", "stride", "padding", "match"),
    [
        ((4, 4, 2), (3, 3, 2, 1), (1, 1), ((0, 0), (0, 0)), r"\(B, H, W, C\)"),
        ((1, 4, 4, 2), (3, 3, 3, 1), (1, 1), ((0, 0), (0, 0)), "channels last"),
        ((1, 4, 4, 2), (5, 3, 2, 1), (1, 1), ((0, 0), (0, 0)), "larger than images"),
        ((1, 4, 4, 2), (3, 3, 2, 1), (0, 1), ((0, 0), (0, 0)), "strides and taps start at 1"),
        ((1, 4, 4, 2), (3, 3, 2, 1), (1, 1), ((-1, 0), (0, 0)), "strides and taps start at 1"),
    ],
)
def test_refusals(module, x, w, stride, padding, match):
    with pytest.raises(ValueError, match=match):
        module.conv2d(np.zeros(x), np.zeros(w), stride, padding)


@each_module
def test_other_refusals(module):
    x, w, none = np.zeros((1, 4, 4, 2)), np.zeros((3, 3, 2, 5)), ((0, 0), (0, 0))
    with pytest.raises(ValueError, match=r"bias of \(2,\)"):
        module.conv2d(x, w, (1, 1), none, np.zeros(2))
    with pytest.raises(ValueError, match="not"):
        module.conv2d_transposed(np.zeros((1, 3, 2, 5)), w, (1, 1), none, x.shape)
    with pytest.raises(ValueError, match="not"):
        module.conv2d_weight_gradient(x, np.zeros((1, 2, 2, 4)), (1, 1), none, w.shape)
