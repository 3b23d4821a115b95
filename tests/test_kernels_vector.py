"""The vector kernels and their NumPy twins, held against formulas in higher precision.

Every public name has an entry in CASES: the textbook formula, which is safe only because it runs in a wider type
(long double beside float64, float64 beside float32), and the scale of its terms, in which errors are counted.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivi import kernels
from minivi.kernels.reference import vector as twins

JIT = not numba.config.DISABLE_JIT
if JIT:
    from minivi.kernels import jit, vector
# With NUMBA_DISABLE_JIT=1 there are no kernels: the twins alone are tested, against the same formulas.
MODULES = [vector, twins] if JIT else [twins]
needs_jit = pytest.mark.skipif(not JIT, reason="about compiled kernels, of which NUMBA_DISABLE_JIT=1 leaves none")
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda m: "twin" if m is twins else "kernel")
each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])

TINY = 1e-300  # for the strict comparison of an error of 0 with a bound of 0
LOG_2PI = np.log(2 * np.longdouble(np.pi))
ONE = [((7,),), ((3, 50),), ((),), ((0, 3),), ((2, 0),)]
TWO = [(shape, shape) for (shape,) in ONE]
ROWS = [((4, 3),), ((2, 3, 20),), ((300,),), ((0, 3),), ((2, 0),), ((5, 1),)]
BROADCAST = [
    ((3, 20), (3, 20)), ((5, 3, 4), (3, 4)), ((3, 4), (4,)), ((4,), (2, 3, 4)), ((2, 1, 4), (3, 1)), ((1, 4), (3, 4)),
    ((), (5,)), ((1, 1), (2, 3)), ((0, 4), (4,)), ((3, 0), (3, 0)), ((1, 300), (2, 300)),
]  # fmt: skip
THREE = [(a, b, b) for a, b in BROADCAST] + [(b, a, b) for a, b in BROADCAST] + [((4,), (3, 4), (2, 3, 4))]


def over_rows(g, *arrays):
    """``g``, of one number a row, as a column, and the arrays broadcast."""
    return g[..., None], *np.broadcast_arrays(*arrays)


def with_rows(shapes):
    """``shapes`` with that of the rows' cotangent in front."""
    return [(np.broadcast_shapes(*case)[:-1], *case) for case in shapes]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def last(x):
    return np.sum(x, axis=-1)


def bernoulli_log_prob(x, l):
    return (last(x * l - softplus(l)), x - sigmoid(l)), (last(np.abs(x * l) + softplus(l)), np.abs(x) + sigmoid(l))


def gaussian_log_prob(x, mu, s):
    quadratic = ((x - mu) / np.exp(s)) ** 2 / 2
    terms = [LOG_2PI.astype(x.dtype) / 2, s, quadratic]
    return -last(sum(terms)), last(sum(map(np.abs, terms)))


def gaussian_log_prob_vjp(g, x, mu, s):
    g, x, mu, s = over_rows(g, x, mu, s)
    slope, z2 = g * (x - mu) / np.exp(2 * s), ((x - mu) / np.exp(s)) ** 2
    return (-slope, slope, g * (z2 - 1)), (np.abs(slope), np.abs(slope), np.abs(g) * (z2 + 1))


def gaussian_kl(mu, s):
    terms = np.broadcast_arrays(mu**2 / 2, np.exp(2 * s) / 2, -0.5, -s)
    return last(sum(terms)), last(sum(map(np.abs, terms)))


def gaussian_kl_vjp(g, mu, s):
    g, mu, s = over_rows(g, mu, s)
    return (g * mu, g * (np.exp(2 * s) - 1)), (np.abs(g * mu), np.abs(g) * (np.exp(2 * s) + 1))


def log_softmax(x):
    total = np.log(np.sum(np.exp(x), axis=-1, keepdims=True))
    return x - total, np.abs(x) + np.abs(total) + 1


def pointwise(formula, scale=None):
    """One formula with its scale, which is the result's own size where no terms are given."""
    return lambda *arrays: (y := formula(*arrays), np.abs(y) if scale is None else scale(*arrays))


# name: the shapes of the arguments, and (results, scales) of the formula.
CASES = {
    "exp": (ONE, pointwise(np.exp)),
    "log": (ONE, pointwise(np.log)),
    "log1p": (ONE, pointwise(np.log1p)),
    "tanh": (ONE, pointwise(np.tanh)),
    "sigmoid": (ONE, pointwise(sigmoid)),
    "softplus": (ONE, pointwise(softplus)),
    "relu": (ONE, pointwise(lambda x: (x + np.abs(x)) / 2)),
    "elu": (ONE, pointwise(lambda x: np.where(x > 0, x, np.expm1(x)))),
    "tanh_vjp": (TWO, pointwise(lambda g, y: g * (1 - y**2), lambda g, y: np.abs(g) * (1 + y**2))),
    "sigmoid_vjp": (TWO, pointwise(lambda g, y: g * (y - y**2))),
    "softplus_vjp": (TWO, pointwise(lambda g, x: g * sigmoid(x))),
    "relu_vjp": (TWO, pointwise(lambda g, y: g * (y > 0))),
    "elu_vjp": (TWO, pointwise(lambda g, y: g * np.where(y > 0, 1, 1 + y), lambda g, y: np.abs(g) * (1 + np.abs(y)))),
    "log_sum_exp": (ROWS, pointwise(lambda x: np.log(last(np.exp(x))), lambda x: np.abs(np.log(last(np.exp(x)))) + 1)),
    "log_softmax": (ROWS, log_softmax),
    "log_softmax_vjp": (
        [(a, a) for (a,) in ROWS],
        pointwise(
            lambda g, y: g - np.exp(y) * np.sum(g, axis=-1, keepdims=True),
            lambda g, y: np.abs(g) + np.exp(y) * np.sum(np.abs(g), axis=-1, keepdims=True),
        ),
    ),
    "scale_rows": ([(a, a[:-1]) for (a,) in ROWS], pointwise(lambda x, g: x * g[..., None])),
    "bernoulli_log_prob": (BROADCAST, bernoulli_log_prob),
    "gaussian_log_prob": (THREE, gaussian_log_prob),
    "gaussian_log_prob_vjp": (with_rows(THREE), gaussian_log_prob_vjp),
    "gaussian_kl": (BROADCAST, gaussian_kl),
    "gaussian_kl_vjp": (with_rows(BROADCAST), gaussian_kl_vjp),
    "gaussian_sample": (
        [*THREE, ((), (), ())],
        pointwise(lambda mu, s, eps: mu + np.exp(s) * eps, lambda mu, s, eps: np.abs(mu) + np.exp(s) * np.abs(eps)),
    ),
    "gaussian_sample_vjp": (
        [(np.broadcast_shapes(*case), *case) for case in BROADCAST],
        pointwise(lambda g, s, eps: g * np.exp(s) * eps),
    ),
    "local_sample": (
        [*THREE, ((), (), ())],
        pointwise(lambda m, v, eps: m + np.sqrt(v) * eps, lambda m, v, eps: np.abs(m) + np.sqrt(v) * np.abs(eps)),
    ),
    "local_sample_vjp": (
        [(np.broadcast_shapes(*case), *case) for case in BROADCAST],
        pointwise(lambda g, v, eps: 0.5 * g * eps / np.sqrt(v)),
    ),
}
each_name = pytest.mark.parametrize("name", sorted(CASES))


def arguments(name, shapes, dtype, seed=0):
    """Random arguments of ``shapes``: positive for log and variances, in (0, 1) for pixels, over -0.6 for log1p."""
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(2 * rng.standard_normal(shape), dtype) for shape in shapes]
    if name in ("log", "bernoulli_log_prob", "log1p"):
        arrays[0] = np.asarray(rng.uniform(0, 1, shapes[0]) - 0.6 * (name == "log1p"), dtype)
    if name.startswith("local_sample"):
        arrays[1] = np.asarray(rng.uniform(0.01, 4, shapes[1]), dtype)
    return arrays


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def error(y, exact):
    """|y - exact|; 0 where both are the same infinity or both NaN."""
    with np.errstate(invalid="ignore"):
        return np.where((y == exact) | (np.isnan(y) & np.isnan(exact)), 0, np.abs(y - exact))


def ulps(y, exact):
    """The error of ``y`` in units of its type's last place at ``exact``; where either is not finite, 0 or infinity."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(y.dtype)
        units = np.abs(y - exact) / np.spacing(np.abs(rounded)).astype(exact.dtype)
    same = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    return np.where(np.isfinite(units), units, np.where(same, 0, np.inf))


def test_every_name_has_a_case_a_kernel_and_a_twin():
    for module in MODULES:
        assert sorted(module.__all__) == sorted(CASES)
    for name in CASES:
        assert getattr(kernels, name) is getattr(MODULES[0], name)


@each_name
@each_module
@each_type
def test_value(module, name, dtype):
    wide = np.float64 if dtype is np.float32 else np.longdouble
    shapes, formula = CASES[name]
    for seed, case in enumerate(shapes):
        arrays = arguments(name, case, dtype, seed)
        with np.errstate(divide="ignore"):  # log of an empty sum
            expected, scale = formula(*[a.astype(wide) for a in arrays])
        results = as_tuple(getattr(module, name)(*arrays))
        for y, exact, size in zip(results, as_tuple(expected), as_tuple(scale), strict=True):
            assert isinstance(y, np.ndarray) and y.dtype == dtype and y.shape == exact.shape, case
            assert not any(np.shares_memory(y, a) for a in arrays)
            np.testing.assert_array_less(error(y, exact), 8 * np.finfo(dtype).eps * size + TINY, str(case))


# ------------------------------------------------------------------------------------------------------ accuracy
def test_ulps_sees_an_error_of_one_last_place():
    y = np.float32([1.5, 1e-45, 3e38, np.inf, np.nan])
    exact = y.astype(np.float64)
    np.testing.assert_array_equal(ulps(y, exact), 0)
    np.testing.assert_array_equal(ulps(np.nextafter(y, np.float32(0)), exact), [1, 1, 1, np.inf, 0])
    np.testing.assert_array_equal(ulps(np.float32([np.nan, 1, np.inf]), np.array([1, np.nan, 1])), np.inf)


EXACT = {  # for float64 arguments that hold float32 numbers
    "exp": np.exp, "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "sigmoid": sigmoid,
    "softplus": lambda x: np.logaddexp(0, x), "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}  # fmt: skip
SWEEP = np.concatenate([
    np.arange(0, 2**32, 2047, dtype=np.uint64).astype(np.uint32).view(np.float32),  # 2.1 million patterns, of all sorts
    np.float32([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38]),
    np.float32([88.72283, 88.72284, -87.33655, -87.33654, -103.27893, -103.97207, -103.97208, -104.1, 9.01, 16.6]),
])  # fmt: skip


def claimed(module, name, double=False):
    """The ulps that the kernel's docstring promises, for float64 the last of its numbers."""
    if module is twins or name == "elu":
        return 4  # NumPy's own float32 exp and log are up to 2.4 and 3.3 ulp off
    numbers = re.findall(r"at most (\d) ulp off|C library, (\d)", getattr(module, name).__doc__)
    return int("".join(numbers[-1 if double else 0]))


@each_module
@pytest.mark.parametrize("name", EXACT)
def test_ulps_over_all_of_float32(module, name):
    with np.errstate(all="ignore"):
        exact = EXACT[name](SWEEP.astype(np.float64))
    units = ulps(getattr(module, name)(SWEEP), exact)
    worst = np.argmax(units)
    assert units[worst] <= claimed(module, name), f"{units[worst]:.3g} ulp at {SWEEP[worst]!r}"


@each_module
@pytest.mark.parametrize("name", EXACT)
def test_ulps_of_float64(module, name):
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("long double is no wider than float64 on this platform")
    x = np.concatenate([np.linspace(-40, 40, 4001), np.geomspace(1e-300, 1e300, 601), -np.geomspace(1e-300, 0.99, 601)])
    x = np.concatenate([x, np.random.default_rng(0).uniform(-2, 2, 200_000), np.linspace(-745, 709, 5001)])
    x = x[x > 0] if name == "log" else x[x > -1] if name == "log1p" else x
    with np.errstate(over="ignore"):
        exact = EXACT[name](x.astype(np.longdouble))
    units = ulps(getattr(module, name)(x), exact)
    worst = np.argmax(units)
    assert units[worst] <= claimed(module, name, double=True), f"{units[worst]:.3g} ulp at {x[worst]!r}"


@each_module
@each_type
@pytest.mark.parametrize("D", [784, 4000])
def test_sums_of_many_equal_terms(module, dtype, D):
    # Equal terms are the worst case of a running sum: each addition may round the same way.
    x, zero = np.full((2, D), 3.3, dtype), np.zeros(D, dtype)
    wide = np.longdouble(x[0, 0])
    cases = [
        (module.gaussian_log_prob(x, zero, zero), -D * (LOG_2PI / 2 + wide**2 / 2), D * (LOG_2PI / 2 + wide**2 / 2)),
        (module.gaussian_kl(x, zero), D * wide**2 / 2, D * (wide**2 / 2 + 1)),
        (module.bernoulli_log_prob(zero, x)[0], -D * softplus(wide), D * softplus(wide)),
        (module.log_sum_exp(np.append(0 * x[:, :1], -x, axis=1)), np.log1p(D * np.exp(-wide)), 1),
    ]
    for y, exact, size in cases:
        assert np.max(np.abs(y - exact)) <= 8 * np.finfo(dtype).eps * size


INF, NAN = np.inf, np.nan
EXTREMES = [
    ("exp", [-200, 200, -INF, INF, NAN, 0], [np.exp(np.longdouble(-200)), np.exp(np.longdouble(200)), 0, INF, NAN, 1]),
    ("log", [0, -1, INF, NAN, 1, -INF], [-INF, NAN, INF, NAN, 0, NAN]),
    ("log1p", [-1, -2, INF, NAN, 0, 1e-30], [-INF, NAN, INF, NAN, 0, 1e-30]),
    ("tanh", [-INF, INF, NAN, 1e4, -1e4, 1e-30], [-1, 1, NAN, 1, -1, 1e-30]),
    ("sigmoid", [-INF, INF, NAN, 1e4, -1e4, 0], [0, 1, NAN, 1, 0, 0.5]),
    ("softplus", [-INF, INF, NAN, 1e4, -1e4, 0], [0, INF, NAN, 1e4, 0, np.log(np.longdouble(2))]),
    ("relu", [-INF, INF, NAN, -1, 2, 0], [0, INF, NAN, 0, 2, 0]),
    ("elu", [-INF, INF, NAN, 1e4, -1e4, -1e-30], [-1, INF, NAN, 1e4, -1, -1e-30]),
    ("log_sum_exp", [[1e4, 1e4], [-1e4, -1e4]], [1e4 + np.log(2), -1e4 + np.log(2)]),
    ("log_sum_exp", [[-INF, -INF], [-INF, 3], [INF, 3], [INF, -INF], [INF, INF]], [-INF, 3, INF, INF, INF]),
    ("log_sum_exp", [[NAN, 3], [3, -NAN], [NAN, INF], [-INF, NAN], [NAN, NAN]], [NAN] * 5),
    ("log_sum_exp", np.zeros((2, 0)), [-INF, -INF]),
    ("log_softmax", [[1e4, -1e4], [-INF, 7], [NAN, 0]], [[0, -2e4], [-INF, 0], [NAN, NAN]]),
]


@each_module
@each_type
@pytest.mark.parametrize(("name", "x", "expected"), EXTREMES)
def test_extremes(module, dtype, name, x, expected):
    with np.errstate(over="ignore", under="ignore"):
        x, expected = np.asarray(x, dtype), np.asarray(expected, np.longdouble).astype(dtype)
    y = getattr(module, name)(x)
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps, atol=0)


@each_module
@each_type
def test_certain_pixels_have_probability_one(module, dtype):
    log_prob, residual = module.bernoulli_log_prob(np.array([[1, 0], [0, 1]], dtype), np.array([1e4, -1e4], dtype))
    np.testing.assert_array_equal(log_prob, [0, -2e4])
    np.testing.assert_array_equal(residual, [[0, 0], [-1, 1]])


# ---------------------------------------------------------------------------------------------------- derivatives
def bernoulli_as_sum(module):
    return lambda x, logits: module.bernoulli_log_prob(x, logits)[0]


# The function, and the cotangents of its arguments from (g, result, *arguments); None for what has no vjp here.
VJPS = {
    "tanh_vjp": (lambda m: m.tanh, lambda m, g, y, x: [m.tanh_vjp(g, y)]),
    "sigmoid_vjp": (lambda m: m.sigmoid, lambda m, g, y, x: [m.sigmoid_vjp(g, y)]),
    "softplus_vjp": (lambda m: m.softplus, lambda m, g, y, x: [m.softplus_vjp(g, x)]),
    "relu_vjp": (lambda m: m.relu, lambda m, g, y, x: [m.relu_vjp(g, y)]),
    "elu_vjp": (lambda m: m.elu, lambda m, g, y, x: [m.elu_vjp(g, y)]),
    "log_softmax_vjp": (lambda m: m.log_softmax, lambda m, g, y, x: [m.log_softmax_vjp(g, y)]),
    "scale_rows": (bernoulli_as_sum, lambda m, g, y, x, l: [None, m.scale_rows(m.bernoulli_log_prob(x, l)[1], g)]),
    "gaussian_log_prob_vjp": (lambda m: m.gaussian_log_prob, lambda m, g, y, *a: m.gaussian_log_prob_vjp(g, *a)),
    "gaussian_kl_vjp": (lambda m: m.gaussian_kl, lambda m, g, y, *a: m.gaussian_kl_vjp(g, *a)),
    "gaussian_sample_vjp": (
        lambda m: m.gaussian_sample,
        lambda m, g, y, mu, s, eps: [g, m.gaussian_sample_vjp(g, s, eps), None],
    ),
    "local_sample_vjp": (
        lambda m: lambda mu, v, eps: m.local_sample(mu, np.abs(v), eps),
        lambda m, g, y, mu, v, eps: [g, np.sign(v) * m.local_sample_vjp(g, np.abs(v), eps), None],
    ),
}


def test_every_cotangent_kernel_is_differenced():
    assert {name for name in CASES if name.endswith("_vjp")} < set(VJPS)


@each_module
@pytest.mark.parametrize("name", VJPS)
def test_cotangents_against_finite_differences(module, name):
    function, vjp = VJPS[name][0](module), VJPS[name][1]
    rng, h = np.random.default_rng(7), 6e-6
    arrays = [rng.uniform(0.1, 0.9, (4, 5)) * rng.choice([-1, 1], (4, 5)) for _ in range(function_arity(name))]
    y = function(*arrays)
    g = rng.standard_normal(y.shape)
    for k, cotangent in enumerate(vjp(module, g, y, *arrays)):
        if cotangent is not None:
            v = rng.standard_normal((4, 5))
            ends = [function(*[a + sign * h * v * (i == k) for i, a in enumerate(arrays)]) for sign in (1, -1)]
            difference = np.sum(g * (ends[0] - ends[1])) / (2 * h)
            assert abs(difference) > 0.1
            assert np.sum(cotangent * v) == pytest.approx(difference, rel=1e-8)


def function_arity(name):
    three = ("gaussian_log_prob_vjp", "gaussian_sample_vjp", "local_sample_vjp")
    return 3 if name in three else 2 if name in ("scale_rows", "gaussian_kl_vjp") else 1


# ------------------------------------------------------------------------------------- layouts, threads, messages
def strided(a):
    wide = np.repeat(a[..., None], 3, axis=-1)
    wide[..., 1:] = np.nan
    return wide[..., 0]


def unaligned(a):
    data = np.zeros(a.nbytes + 1, np.uint8)
    view = data[1:].view(a.dtype) if a.ndim else data[1:].view(a.dtype).reshape(())
    view = view.reshape(a.shape)
    view[...] = a
    return view


def column_major(a):
    return np.array(a, order="F")


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


@each_name
@each_module
@each_type
@pytest.mark.parametrize("layout", [strided, unaligned, read_only, column_major], ids=lambda f: f.__name__)
def test_any_memory_layout(module, name, dtype, layout):
    shapes = CASES[name][0][1]
    arrays = arguments(name, shapes, dtype)
    expected = as_tuple(getattr(module, name)(*arrays))
    results = as_tuple(getattr(module, name)(*map(layout, arrays)))
    for y, exact in zip(results, expected, strict=True):
        np.testing.assert_allclose(y, exact, rtol=0 if module is not twins else 1e-6)


def two_dimensional(name, shape):
    """Float32 arguments of ``shape``, and of its rows where the function takes one number a row."""
    per_row = {"scale_rows": 1, "gaussian_log_prob_vjp": 0, "gaussian_kl_vjp": 0}.get(name)
    arity = len(CASES[name][0][0])
    return arguments(name, [shape[:1] if k == per_row else shape for k in range(arity)], np.float32)


@needs_jit
@each_name
def test_same_bits_for_any_number_of_threads(name):
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("Numba was started with one thread")
    arrays = two_dimensional(name, (67, 1003))  # work for two threads; no size a multiple of a vector's
    before = jit.get_threads()
    try:
        jit.set_threads(1)
        one = as_tuple(getattr(vector, name)(*arrays))
        jit.set_threads(2)
        two = as_tuple(getattr(vector, name)(*arrays))
    finally:
        jit.set_threads(before)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


@needs_jit
@each_type
@each_name
def test_same_bits_wherever_the_work_is_cut(name, dtype):
    # Five elements are a loop's scalar tail; the same in the midst of many are parts of vectors.
    arrays = [a.astype(dtype) for a in two_dimensional(name, (200, 5))]
    whole = as_tuple(getattr(vector, name)(*arrays))
    for r in range(200):
        part = as_tuple(getattr(vector, name)(*[a[r : r + 1] for a in arrays]))
        for a, b in zip(whole, part, strict=True):
            assert a[r : r + 1].tobytes() == b.tobytes()


@needs_jit
@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: vector.exp(np.arange(3)), TypeError, "exp: .* int64; all must be float32"),
        (lambda: vector.tanh_vjp(np.zeros(3), np.zeros(3, "f")), TypeError, "tanh_vjp: .* float64, float32; all must"),
        (lambda: vector.log_softmax(np.zeros(3, ">f4")), TypeError, "log_softmax: .* >f4; all must"),
        (lambda: vector.elu_vjp(np.zeros(3), np.zeros(4)), ValueError, r"elu_vjp: shapes \(3,\) and \(4,\) differ"),
        (
            lambda: vector.tanh_vjp(np.zeros((2, 3)), np.zeros(3)),
            ValueError,
            "tanh_vjp: shapes .* to one shape",
        ),
        (lambda: vector.log_softmax_vjp(np.zeros(3), np.zeros((2, 3))), ValueError, "log_softmax_vjp: shapes"),
        (
            lambda: vector.gaussian_kl(np.zeros((2, 3)), np.zeros(2)),
            ValueError,
            "gaussian_kl: .* do not broadcast",
        ),
        (lambda: vector.scale_rows(np.zeros((2, 3)), np.zeros(3)), ValueError, r"scale_rows: g has shape \(3,\)"),
        (lambda: vector.log_sum_exp(np.array(1.0)), ValueError, r"log_sum_exp: .* \(\) has no last axis"),
    ],
)
def test_messages(call, error, says):
    with pytest.raises(error, match=says):
        call()


# ----------------------------------------------------------------------------------------------------------- fuzz
fuzz = settings(max_examples=60, deadline=None, derandomize=True)
shapes_of = {n: hnp.mutually_broadcastable_shapes(num_shapes=n, min_dims=1, max_dims=4, max_side=5) for n in (2, 3)}


@pytest.mark.parametrize("name", ["bernoulli_log_prob", "gaussian_kl", "gaussian_log_prob", "gaussian_sample"])
@fuzz
@given(data=st.data())
def test_any_broadcast(name, data):
    n = len(CASES[name][0][0])
    shapes = data.draw(shapes_of[n]).input_shapes
    arrays = arguments(name, shapes, np.float32, seed=data.draw(st.integers(0, 9)))
    expected, scale = CASES[name][1](*[a.astype(np.float64) for a in arrays])
    results = as_tuple(getattr(kernels, name)(*arrays))
    for y, exact, size in zip(results, as_tuple(expected), as_tuple(scale), strict=True):
        assert y.shape == exact.shape
        np.testing.assert_array_less(error(y, exact), 1e-6 * size + TINY)


@pytest.mark.parametrize("name", ["log_sum_exp", "log_softmax"])
@fuzz
@given(x=hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=40), elements=st.floats(width=32)))
def test_any_numbers(name, x):
    wide = getattr(twins, name)(x.astype(np.float64))
    with np.errstate(over="ignore"):
        exact = wide.astype(np.float32)
    np.testing.assert_allclose(getattr(kernels, name)(x), exact, rtol=1e-6, atol=1e-5)


@needs_jit
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to keep what is freed")
def test_freed_memory_is_kept():
    """A training step's arrays come and go: none is to cost a page fault every time."""
    code = (
        "import resource, numpy as np, minivi.kernels\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def step(): return len([np.ones(800_000, np.float32) for _ in range(20)])\n"
        "step(); before = faults(); step(); print(faults() - before)\n"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    root = Path(__file__).resolve().parents[1]
    found = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=root, capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 100  # of 15,600 pages


@each_module
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_cotangent_of_a_variance_of_0_is_0(module, dtype):
    g, variance, eps = np.array([[1, 1, 1], [0, 0.25, 4], [2, 2, -2]], dtype)
    np.testing.assert_array_equal(module.local_sample_vjp(g, variance, eps), np.array([0, 2, -0.5], dtype))
