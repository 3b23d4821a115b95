"""The engine: what grad returns, how graphs are walked, and errors that teach."""

import contextlib
import copy
import pickle
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivi import nn, ops
from minivi.tensor import (
    PRIMITIVES,
    Parameter,
    Tensor,
    detect_nonfinite,
    grad,
    no_grad,
    primitive,
    stop_gradient,
    value_and_grad,
)


def test_diamond_and_reuse():
    x = Tensor(3.0)
    y = x * x  # both arguments are the same Tensor
    z = y * x + y  # y reached along two paths
    assert grad(z, x) == pytest.approx(3 * 9 + 2 * 3)


@pytest.mark.parametrize(
    ("f", "at", "gradient"),
    [
        (lambda x: x * x + x, 3.0, 7.0),
        (lambda x: x * x + 2.0 * x + x, 3.0, 9.0),
        (lambda x: x + x + x + x, 3.0, 4.0),
        (lambda x: ops.tanh(x) + ops.sigmoid(x) + ops.softplus(x), 0.5, 1.643910780),
        (lambda v: v.sum() * v.sum() + v.sum(), [1.0, 2.0], [7.0, 7.0]),
        (lambda v: (lambda s: s * s + s)(v.sum()), [1.0, 2.0], [7.0, 7.0]),
        (lambda v: (lambda n: (n - 1.0) ** 2 + n)(ops.sqrt(ops.square(v).sum())), [0.3, 0.4], [0.0, 0.0]),
        (lambda v: (lambda n: (n - 1.0) ** 2 + n)(ops.sqrt(ops.square(v).sum())), [0.6, 0.8], [0.6, 0.8]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_scalar_gets_every_contribution(f, at, gradient, dtype):
    """NumPy makes scalars of 0-d arrays, on which += changes a local name only."""
    x = Tensor(at, dtype)
    g = grad(f(x), x)
    assert type(g) is np.ndarray and g.shape == x.shape and g.dtype == dtype
    np.testing.assert_allclose(g, gradient, rtol=3e-7, atol=3e-7)
    np.testing.assert_allclose(grad(f(x), x, differentiable=True).data, gradient, rtol=3e-7, atol=3e-7)


def test_several_grads_on_one_forward_pass(rng):
    x, w = Tensor(rng.standard_normal(4)), Tensor(rng.standard_normal(4))
    a, b = (x * w).sum(), (x * x * w).sum()
    first = grad(a, [x, w])
    grad(b, [x])
    again = grad(a, [x, w])
    for g, h, expected in zip(first, again, (w, x), strict=True):
        np.testing.assert_array_equal(g, h)
        np.testing.assert_array_equal(g, np.asarray(expected))


def test_returned_gradients_are_the_callers_own(rng):
    """Writing into one gradient changes neither another one nor the graph."""
    x, y = Tensor(rng.standard_normal(3)), Tensor(rng.standard_normal(3))
    total = (x + y).sum()
    gx, gy = grad(total, [x, y])
    gx *= 5.0
    np.testing.assert_array_equal(gy, np.ones(3))
    np.testing.assert_array_equal(grad(total, x), np.ones(3))
    cotangent = np.ones(3)
    g = grad(x + 0.0, x, cotangent=cotangent)
    g[:] = 7.0
    np.testing.assert_array_equal(cotangent, np.ones(3))


def test_unconnected_input_gives_zeros():
    x, y = Tensor([1.0, 2.0]), Tensor([[3.0]])
    gx, gy = grad(x.sum(), [x, y])
    np.testing.assert_array_equal(gx, [1.0, 1.0])
    np.testing.assert_array_equal(gy, [[0.0]])
    gx, gy = grad(x.sum(), [x, y], differentiable=True)
    np.testing.assert_array_equal(gy.data, [[0.0]])
    gx, gy = grad(x.sum(), [x, y], unused="none")
    assert gx.shape == (2,) and gy is None
    np.testing.assert_array_equal(grad(x.sum(), y, unused="zeros"), [[0.0]])
    assert grad(x.sum(), []) == []


def _under_no_grad(p):
    with no_grad():
        return (p * p).sum()


@pytest.mark.parametrize(
    "loss",
    [
        _under_no_grad,
        lambda p: Tensor(3.0),
        lambda p: Tensor(np.asarray(p)).sum(),
        lambda p: Tensor([float(p[0]), float(p[1])]).sum(),
        lambda p: (stop_gradient(p) * Tensor([1.0, 2.0])).sum(),
    ],
)
def test_a_lost_graph_is_an_error(loss):
    p = Parameter([1.0, 2.0])
    with pytest.raises(
        RuntimeError, match=r"of shape \(\) depends on no input \(1 given, the first of shape \(2,\)\); compute"
    ):
        grad(loss(p), p)
    for differentiable in (False, True):
        g = grad(loss(p), p, unused="zeros", differentiable=differentiable)
        np.testing.assert_array_equal(np.asarray(g), [0.0, 0.0])
        assert grad(loss(p), p, unused="none", differentiable=differentiable) is None


def test_cotangent_may_be_a_tensor():
    x = Tensor([1.0, 2.0])
    g = grad(x * x, x, cotangent=Tensor([3.0, 5.0]))
    assert type(g) is np.ndarray
    np.testing.assert_array_equal(g, [6.0, 20.0])


def test_gradient_of_an_intermediate_result():
    x = Tensor(2.0)
    y = x * 3.0
    z = y * y
    gx, gy, gz = grad(z, [x, y, z])
    assert (gx, gy, gz) == (36.0, 12.0, 1.0)


@pytest.mark.parametrize("depth", [100_000])
def test_deep_graph(depth):
    x = Tensor([1.0])
    y = x
    for _ in range(depth):
        y = y + x
    np.testing.assert_array_equal(grad(y, x), [depth + 1.0])
    del y  # freeing a deep graph must not recurse either


def test_vjps_of_what_is_not_asked_for_do_not_run(rng):
    calls = []

    @primitive(
        lambda g, y, a, b: calls.append("a") or g,
        lambda g, y, a, b: calls.append("b") or g,
        linear=True,
        cases=lambda a: [],
    )
    def spy(a, b):
        return a + b

    del PRIMITIVES["spy"]
    a, b = Tensor(1.0), Tensor(2.0)
    grad(spy(a, b), b)
    assert calls == ["b"]


def test_cotangents_are_freed_as_they_are_spent():
    """While the last vjps run, the early cotangents of the chain are gone."""
    alive, seen = [], []

    class Watched(np.ndarray):
        pass

    @primitive(lambda g, y, x: watch(g), linear=True, cases=lambda a: [])
    def link(x):
        return x + 0.0

    del PRIMITIVES["link"]

    def watch(g):
        fresh = np.array(g).view(Watched)
        alive.append(weakref.ref(fresh))
        seen.append(sum(ref() is not None for ref in alive))
        return fresh

    y = x = Tensor(np.ones(3))
    for _ in range(20):
        y = link(y)
    grad(y, x, cotangent=np.ones(3))
    assert max(seen) <= 3


def test_second_derivatives_and_hessian_vector_products(rng):
    x = Tensor(rng.standard_normal(5))
    v = rng.standard_normal(5)
    y = (ops.exp(x) * x).sum()
    (g,) = grad(y, [x], differentiable=True)
    product = grad((g * v).sum(), x)
    np.testing.assert_allclose(product, v * np.exp(x.data) * (x.data + 2.0), rtol=1e-13)


def test_third_derivative():
    x = Tensor(0.7)
    g = ops.tanh(x)
    for _ in range(3):
        g = grad(g, x, differentiable=True)
    t = np.tanh(0.7)
    assert g.item() == pytest.approx(-2 * (1 - t * t) * (1 - 3 * t * t), rel=1e-13)


def test_no_grad_and_stop_gradient(rng):
    x = Tensor(rng.standard_normal(3))
    with no_grad():
        y = (x * x).sum()
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(grad(y, x, unused="zeros"), np.zeros(3))  # nothing recorded
    z = (stop_gradient(x) * x).sum()
    np.testing.assert_array_equal(grad(z, x), x.data)


def test_no_grad_is_restored_after_an_error():
    x = Tensor(2.0)
    with pytest.raises(ZeroDivisionError), no_grad():
        _ = 1 / 0
    assert grad(x * x, x) == 4.0


def test_value_and_grad():
    value, (gx, gy) = value_and_grad(lambda x, y: (x * y).sum())(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert value == 11.0
    np.testing.assert_array_equal(gx, [3.0, 4.0])
    np.testing.assert_array_equal(gy, [1.0, 2.0])


def test_arrays_and_tensors_mix_as_in_numpy(rng):
    a, b = rng.standard_normal((2, 3)), rng.standard_normal(3)
    t = Tensor(b)
    for result, expected in [
        (a + t, a + b), (t + a, a + b), (a - t, a - b), (t - a, b - a), (2.0 * t, 2 * b),
        (1.0 / (t * t + 1.0), 1 / (b * b + 1)),
        (a @ t, a @ b), (-t, -b), (t**2, b**2), (np.float64(3.0) * t, 3 * b), (abs(t), abs(b)), (t[1:], b[1:]),
        (t.reshape(3, 1), b.reshape(3, 1)), (t.reshape((1, 3)).T, b.reshape(1, 3).T), (t.max(), b.max()),
        (t.mean(), b.mean()),
    ]:  # fmt: skip
        assert isinstance(result, Tensor)
        np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-14)
    np.testing.assert_array_equal(t > 0, b > 0)
    np.testing.assert_array_equal(t == b, np.ones(3, bool))
    assert len(t) == 3 and [float(v) for v in t] == list(b)


def test_arrays_in_arrays_out(rng):
    """Called with plain arrays, a primitive is its NumPy function."""
    a = rng.standard_normal((2, 3))
    assert type(ops.exp(a)) is np.ndarray
    assert type(ops.matmul(a, a.T)) is np.ndarray
    assert ops.multiply(2.0, 3.0) == ops.add(2.0, 4.0) == 6.0 and ops.sqrt(4.0).dtype == np.float64


@pytest.mark.parametrize(("dtype", "other"), [("float32", "float64"), ("float64", "float32")])
def test_numpy_copies_a_tensor_only_when_asked(dtype, other):
    t = Tensor([1.0, 2.0], dtype)
    for view in (np.asarray(t), np.asarray(t, dtype), np.array(t, copy=False)):
        assert np.shares_memory(view, t.data) and not view.flags.writeable
    for fresh in (np.array(t), np.asarray(t, other), np.asarray(t, copy=True)):
        assert not np.shares_memory(fresh, t.data) and fresh.flags.writeable
        np.testing.assert_array_equal(fresh, [1.0, 2.0])
    assert np.asarray(t, other).dtype == other


@pytest.mark.parametrize("name", ["sum", "mean", "max"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 1, -1, (0, 2)])
def test_methods_are_those_of_arrays(name, axis, keepdims, rng):
    a = rng.standard_normal((2, 3, 4))
    found, expected = (getattr(x, name)(axis=axis, keepdims=keepdims) for x in (Tensor(a), a))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.data, expected, rtol=1e-13, atol=1e-15)
    found, expected = (getattr(x, name)(axis, keepdims=keepdims) for x in (Tensor(a), a))
    np.testing.assert_allclose(found.data, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept(dtype, rng):
    x = Tensor(rng.standard_normal((3, 4)), dtype)
    y = ops.softplus(2 * x + 1.5) / np.float64(3.0) - np.arange(4)
    assert y.dtype == dtype and y.mean().dtype == dtype
    assert grad(y.mean(), x).dtype == dtype


def test_parameter_changed_after_use_is_detected():
    w = Parameter([1.0, 2.0], name="w")
    y = (w * w).sum()
    w.assign([3.0, 4.0])
    with pytest.raises(RuntimeError, match=r"w of shape \(2,\) was changed after `multiply` used it"):
        grad(y, w)
    np.testing.assert_array_equal(grad((w * w).sum(), w), [6.0, 8.0])


def test_tensor_owns_its_values():
    a = np.ones(3)
    t = Tensor(a)
    y = (t * t).sum()
    a[:] = 9.0
    np.testing.assert_array_equal(grad(y, t), [2.0, 2.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        t.data[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(t)[0] = 1.0


@pytest.mark.parametrize(
    ("code", "error", "match"),
    [
        (lambda: grad(Tensor([1.0, 2.0]) * 2.0, Tensor([1.0])), ValueError, r"`multiply` has shape \(2,\).*\.sum\(\)"),
        (lambda: Tensor(np.arange(3)), TypeError, r"int64 \(shape \(3,\)\).*pass floats"),
        (lambda: Tensor(True), TypeError, "bool"),
        (lambda: Tensor([Tensor(1.0), [Tensor(2.0)]]), TypeError, r"list of Tensors.*shape \(\).*ops.stack"),
        (lambda: ops.exp(([1.0], Tensor([2.0]))), TypeError, r"list of Tensors.*shape \(1,\).*ops.stack"),
        (lambda: Tensor([1.0], dtype="float16"), TypeError, "float16.*use 'float32' or 'float64'"),
        (lambda: Tensor([1.0], dtype="flaot32"), TypeError, "unknown dtype 'flaot32'; use 'float32' or 'float64'"),
        (lambda: ops.exp(np.arange(3)), TypeError, r"exp: argument 0 of dtype int64, shape \(3,\)"),
        (lambda: Tensor(np.ones((3, 4))) + np.ones((2, 4)), ValueError,
         r"add: shapes \(3, 4\) and \(2, 4\) do not broadcast"),
        (lambda: Tensor(np.ones((3, 4))) @ np.ones((3, 4)), ValueError,
         r"matmul: shapes \(3, 4\) and \(3, 4\) do not fit"),
        (lambda: ops.affine(np.ones((2, 3)), np.ones((4, 5)), np.ones(5)), ValueError,
         r"affine: x \(2, 3\), W \(4, 5\)"),
        (lambda: Tensor(np.ones(2, "float32")) * np.ones(2), TypeError, "multiply: float32 and float64 do not mix"),
        (lambda: Tensor([1.0, 2.0]).__setitem__(0, 1.0), TypeError, r"shape \(2,\).*where\("),
        (lambda: (Tensor([1.0]) * 2.0).__setitem__(0, 1.0), TypeError, "made by multiply"),
        (lambda: grad(np.ones(1), Tensor(1.0)), TypeError, "nothing was recorded"),
        (lambda: grad(Tensor(1.0), np.ones(1)), TypeError, "input 0 is a ndarray; wrap it as Tensor"),
        (lambda: grad(Tensor([1.0, 2.0]), [], cotangent=np.ones(3)), ValueError, r"cotangent has shape \(3,\)"),
        (lambda: grad(Tensor(1.0), [], unused="None"), ValueError, "unknown unused='None'; use 'zeros' or 'none'"),
        (lambda: Parameter([1.0]).assign([1.0, 2.0]), ValueError, r"shape \(1,\), the value \(2,\)"),
    ],
)  # fmt: skip
def test_errors_teach(code, error, match):
    with pytest.raises(error, match=match) as caught:
        code()
    assert "\n" not in str(caught.value)


def test_array_iadd_tensor_is_refused():
    a = np.ones(3)
    with pytest.raises(TypeError):
        a += Tensor([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(a, np.ones(3))


@pytest.mark.parametrize(
    ("f", "match"),
    [
        (lambda x, v: np.exp(x), r"^np\.exp: .*use ops\.exp, or np\.asarray\(x\)"),
        (lambda x, v: np.log(x * 0.0), r"^np\.log: .*use ops\.log,"),
        (lambda x, v: np.abs(x), r"^np\.absolute: .*use ops\.abs,"),
        (lambda x, v: np.floor(x), r"^np\.floor: .*use the functions of minivi\.ops,"),
        (lambda x, v: np.dot(np.eye(2), x), r"^np\.dot: .*use ops\.matmul,"),
        (lambda x, v: np.where(np.eye(2) > 0, x, 0.0), r"^np\.where: .*use ops\.where,"),
        (lambda x, v: np.concatenate([np.eye(2), x]), r"^np\.concatenate: .*use ops\.concatenate,"),
        (lambda x, v: np.stack([x, x]), r"^np\.stack: .*use ops\.stack,"),
        (lambda x, v: np.clip(x, 0.0, 1.0), r"^np\.clip: .*use ops\.clip,"),
        (lambda x, v: np.outer(v, v), r"^np\.outer: .*use x\[:, None\] \* y,"),
        (lambda x, v: np.einsum("ij,j", x, v), r"^np\.einsum: .*use ops\.matmul,"),
        (lambda x, v: np.reshape(x, 4), r"^np\.reshape: .*use ops\.reshape,"),
        (lambda x, v: np.transpose(x), r"^np\.transpose: .*use ops\.transpose,"),
        (lambda x, v: np.cumsum(v), r"^np\.cumsum: .*use ops\.cumsum,"),
        (lambda x, v: np.linalg.norm(v), r"^np\.linalg\.norm: .*use ops\.sqrt\(ops\.sum\(ops\.square\(x\)\)\),"),
        (lambda x, v: np.r_[v, v], r"^np\.ndim: .*ops\.concatenate or ops\.stack,"),
        (lambda x, v: np.c_[v, v], r"^np\.ndim: .*ops\.concatenate or ops\.stack,"),
        (lambda x, v: np.sum(x), r"^np\.sum: .*use ops\.sum,"),
        (lambda x, v: np.mean(x, axis=0), r"^np\.mean: .*use ops\.mean,"),
        (lambda x, v: np.max(x), r"^np\.max: .*use ops\.max,"),
        (lambda x, v: np.add.reduce(x), r"^np\.add: "),
        (lambda x, v: np.add(x, x, out=np.ones((2, 2))), r"^np\.add: "),
        (lambda x, v: np.linalg.slogdet(x), r"^np\.linalg\.slogdet: "),
    ],
)
def test_functions_of_numpy_that_would_lose_the_graph(f, match):
    x, v = Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=match) as caught:
        f(x, v)
    assert "\n" not in str(caught.value)


def test_functions_of_numpy_that_lose_nothing():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    x = Tensor(a)
    assert np.shape(x) == (2, 2) and np.size(x) == 4 and np.argmax(x) == 3
    assert np.array_equal(x, a) and np.allclose(x, a) and np.isfinite(x).all()
    np.testing.assert_array_equal(np.zeros_like(x), np.zeros((2, 2)))
    np.testing.assert_array_equal(np.asarray(x), a)
    np.testing.assert_array_equal(np.array(x, "float32"), a.astype("float32"))
    np.testing.assert_array_equal(a < 2.0 * x, [[True, True], [True, True]])
    np.testing.assert_array_equal(np.float64(2.0) >= x, [[True, True], [False, False]])
    for y in (a + x, a - x, a * x, a / x, a**x, a @ x, np.float64(2.0) ** x, np.arange(2) * x, np.multiply(a, x)):
        assert type(y) is Tensor and y._parents


def test_wrong_vjp_shape_is_named():
    @primitive(lambda g, y, x: g[:-1], cases=lambda a: [])
    def broken(x):
        return x * 2.0

    del PRIMITIVES["broken"]
    x = Tensor([1.0, 2.0, 3.0])
    with pytest.raises(
        ValueError, match=r"vjp of broken gave a cotangent of shape \(2,\) for an argument of shape \(3,\)"
    ):
        grad(broken(x), x, cotangent=np.ones(3))


def test_detect_nonfinite_names_the_first_culprit():
    x = Tensor([1.0, 0.0])
    with np.errstate(all="ignore"):
        y = ops.log(x)  # not checked: no error
        with detect_nonfinite():
            with pytest.raises(FloatingPointError, match=r"^log made the first non-finite value: -inf at \(1,\)"):
                ops.exp(ops.log(x))
            ops.exp(y)  # -inf comes in: exp is not to blame
            root = ops.sqrt(Tensor([0.0]))  # fine forward, infinite slope
            with pytest.raises(FloatingPointError, match="the vjp of sqrt made"):
                grad(root.sum(), [x, root, *root._parents])
        assert not np.isfinite(ops.log(x).data).all()


@pytest.mark.parametrize(
    "case, words",
    [
        (
            "data",
            r"^argument 0 of affine, a constant, has nan at \(1, 2\) of shape \(4, 3\) \(1 of 12\): clean the data",
        ),
        ("infinite data", r"^argument 0 of affine, a constant, has inf at \(1, 2\) .*: clean the data"),
        ("parameter", r"^argument 1 of affine, parameter weight, has nan at \(0, 1\) .*: load weights from before it"),
        ("forward", r"^log made the first non-finite value: nan at \(1, 2\) .*, there -1.0: keep them away from there"),
        ("of infinities", r"^subtract made the first non-finite value: nan at \(1, 2\) .* from infinite arguments"),
        (
            "vjp",
            r"^the vjp of sqrt made the first non-finite value: inf at \(1, 2\) .*, there 0.0: .*smaller step size",
        ),
    ],
)
def test_detect_nonfinite_names_data_then_parameters_then_primitives_then_vjps(case, words):
    """Each case has a later fault too, which must not be named."""
    x, w = np.ones((4, 3)), Parameter(np.eye(3), "weight")
    place = {"data": np.nan, "infinite data": np.inf, "forward": -1.0, "of infinities": np.inf, "vjp": 0.0}
    x[1, 2] = place.get(case, 1.0)
    if case == "parameter":
        w.assign(np.where(np.arange(9).reshape(3, 3) == 1, np.nan, 1.0))
    with np.errstate(all="ignore"), detect_nonfinite(), pytest.raises(FloatingPointError, match=words):
        if case == "forward":
            y = ops.log(Tensor(x))
        elif case == "of infinities":
            infinite = ops.exp(Tensor(np.where(x > 1, 0.0, x)) * 0.0 + np.where(np.isinf(x), np.inf, 0.0))
            y = infinite - infinite
        elif case == "vjp":
            leaf = Tensor(x)
            grad(ops.sqrt(leaf).sum(), leaf)
        else:
            y = ops.affine(x, w, Tensor(np.zeros(3)))
        grad(ops.log(y - y).sum(), w)


shapes = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0)


@settings(deadline=None, max_examples=60)
@given(shapes, st.sampled_from(["add", "subtract", "multiply", "divide", "maximum", "where"]), st.integers(0, 10**6))
def test_broadcasting_against_numpy(pair, name, seed):
    """Values against NumPy; gradients against explicit repetition with broadcast arrays."""
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(0.5, 2.0, shape) for shape in pair.input_shapes)
    x, y = Tensor(a), Tensor(b)
    mask = rng.random(pair.result_shape) < 0.5
    if name == "where":
        result, expected = ops.where(mask, x, y), np.where(mask, a, b)
    else:
        result, expected = getattr(ops, name)(x, y), getattr(np, name)(a, b)
    np.testing.assert_array_equal(result.data, expected)
    u = rng.standard_normal(pair.result_shape)
    slopes = {
        "add": (1.0, 1.0), "subtract": (1.0, -1.0), "multiply": (b, a), "divide": (1 / b, -a / b**2),
        "maximum": (a > b, b > a), "where": (mask, ~mask),
    }[name]  # fmt: skip
    for g, leaf, slope in zip(grad(result, [x, y], cotangent=u), (a, b), slopes, strict=True):
        full = np.broadcast_to(u * slope, pair.result_shape)
        extra = full.ndim - leaf.ndim
        axes = (*range(extra), *(i + extra for i, n in enumerate(leaf.shape) if n == 1))
        np.testing.assert_allclose(g, full.sum(axis=axes).reshape(leaf.shape), rtol=1e-12, atol=1e-12)


def _unpickled(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("fresh", [copy.copy, copy.deepcopy, _unpickled])
@pytest.mark.parametrize("kind", [Tensor, Parameter])
def test_a_copy_is_a_leaf_of_its_own(fresh, kind):
    a = kind([1.0, 2.0, 3.0])
    b = fresh(a)
    assert type(b) is kind
    ga, gb = grad((a * a + 3.0 * b * b).sum(), [a, b])
    np.testing.assert_array_equal(ga, [2.0, 4.0, 6.0])
    np.testing.assert_array_equal(gb, [6.0, 12.0, 18.0])
    c = fresh(a * a)  # of a result: its values, without the graph
    np.testing.assert_array_equal(grad((c * c).sum(), c), [2.0, 8.0, 18.0])
    np.testing.assert_array_equal(grad((c * c).sum(), a, unused="zeros"), np.zeros(3))


def test_a_copied_parameter_has_values_of_its_own():
    p = Parameter([1.0, 2.0], name="w")
    for fresh in (copy.copy, copy.deepcopy, _unpickled):
        q = fresh(p)
        q.assign([3.0, 4.0])
        assert q.name == "w"
        np.testing.assert_array_equal(p.data, [1.0, 2.0])


class _Shift(nn.Module):
    def __init__(self):
        self.weight, self.by = Parameter([1.0, 2.0]), Tensor([3.0, 5.0])
        self.tied, self.act = self.weight, ops.square


@pytest.mark.parametrize("fresh", [copy.deepcopy, _unpickled])
def test_constants_of_a_copied_module_have_births_of_their_own(fresh):
    a = _Shift()
    b = fresh(a)
    assert b.weight is b.tied and b.act is ops.square
    y = (b.act(a.weight * a.by) + b.weight * b.by).sum()
    ga, gb = grad(y, [a.by, b.by])
    np.testing.assert_array_equal(ga, [6.0, 40.0])
    np.testing.assert_array_equal(gb, [1.0, 2.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_was_unpickled_mixes_as_before(dtype):
    """NumPy does not make unpickled arrays share its dtype objects."""
    other = "float64" if dtype == "float32" else "float32"
    array, t, p = (_unpickled(x) for x in (np.ones(3, dtype), Tensor(np.ones(3, dtype)), Parameter(np.ones(3, dtype))))
    assert array.dtype is not np.dtype(dtype)
    for x in (array, t, p, Tensor(array), [1.0, 1.0, 1.0], (1, 1, 1)):
        y = ops.exp(Tensor(np.zeros(3, dtype)) * x + p) * 2.0
        assert y.dtype is np.dtype(dtype)
        assert grad(y, p, cotangent=array).dtype is np.dtype(dtype)
    assert ops.add(2.0, array).dtype is np.dtype(dtype)
    for x in (array, t, p):
        for pair in ((Tensor(np.ones(3, other)), x), (x, _unpickled(np.ones(3, other)))):
            with pytest.raises(TypeError, match="add: float.. and float.. do not mix"):
                ops.add(*pair)


def test_memory_maps_do_not_mix_either(tmp_path):
    x = np.memmap(tmp_path / "x", "float32", "w+", shape=(2,))
    assert (Tensor([1.0, 2.0], "float32") * x).dtype is np.dtype("float32")
    with pytest.raises(TypeError, match="multiply: float64 and float32 do not mix"):
        Tensor([1.0, 2.0]) * x


def test_one_block_entered_twice():
    x = Tensor([1.0, 2.0])
    off = no_grad()
    with off, off:
        assert not (x * x)._parents
    with off:
        with off:
            pass
        assert not (x * x)._parents
    assert (x * x)._parents
    with pytest.raises(ZeroDivisionError), off, off:
        1 / 0
    assert (x * x)._parents
    watch = detect_nonfinite()
    with watch, watch:
        pass
    with np.errstate(all="ignore"):
        assert ops.log(Tensor(0.0)).item() == -np.inf  # checking is off again


def test_one_block_in_several_threads():
    off, inside, done = no_grad(), threading.Event(), threading.Event()
    seen = []

    def other():
        with no_grad(), off:
            inside.set()
            done.wait()
        seen.append(bool((Tensor(1.0) * 2.0)._parents))

    thread = threading.Thread(target=other)
    with off:
        thread.start()
        inside.wait()
    assert (Tensor(1.0) * 2.0)._parents
    done.set()
    thread.join()
    assert seen == [True]


def test_a_generator_left_open_inside_a_block():
    def one_by_one():
        with no_grad():
            yield Tensor(1.0) * 2.0

    lines = one_by_one()
    next(lines)
    with no_grad():
        lines.close()
        assert not (Tensor(1.0) * 2.0)._parents
    assert (Tensor(1.0) * 2.0)._parents


def _sparse(size):
    from scipy.sparse import csr_array

    return csr_array(np.eye(size) * 2.0)


def _scale(array):
    array *= 10.0


def _swap_ends(array):
    array[..., [0, -1]] = array[..., [-1, 0]]


# size -> (f(p, array), the array, a write into it); the gradient with respect to p, of shape (size,), uses the array.
READERS = {
    "multiply": lambda n: (lambda p, c: p * c, np.arange(1.0, n + 1), _scale),
    "right": lambda n: (lambda p, c: c / p, np.arange(1.0, n + 1), _scale),
    "power": lambda n: (lambda p, c: p**c, np.full(n, 2.0), _scale),
    "matmul": lambda n: (lambda p, c: c @ p, np.arange(2.0 * n).reshape(2, n), _scale),
    "affine": lambda n: (lambda p, c: ops.affine(c, p.reshape(n, 1), np.zeros(1)), np.full((2, n), 0.5), _scale),
    "strided": lambda n: (lambda p, c: p * c[::2], np.arange(1.0, 2 * n + 1), _scale),
    "transposed": lambda n: (lambda p, c: p * c.T, np.arange(2.0 * n).reshape(n, 2), _scale),
    "mask": lambda n: (lambda p, c: ops.where(c, p, 0.0), np.arange(n) < n // 2, _swap_ends),
    "index": lambda n: (lambda p, c: p[c] * np.arange(n), np.arange(n), _swap_ends),
    "indices": lambda n: (
        lambda p, c: p.reshape(1, n)[np.zeros(n, int), c] * np.arange(n), np.arange(n), _swap_ends,
    ),
    "order": lambda n: (lambda p, c: ops.permute(p, order=c) * np.arange(n), np.arange(n), _swap_ends),
    "density": lambda n: (lambda p, c: ops.gaussian_log_prob(c, p, np.zeros(n)), np.arange(1.0, n + 1), _scale),
    "subclass": lambda n: (lambda p, c: p * c, np.arange(1.0, n + 1).view(type("Own", (np.ndarray,), {})), _scale),
    "parameter": lambda n: (
        lambda p, c: p * np.asarray(c), Parameter(np.arange(1.0, n + 1)), lambda c: c.assign(10.0 * c.data),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_a_write_into_a_small_array_changes_no_gradient(name):
    f, array, write = READERS[name](9)
    p = Tensor(np.arange(1.0, 10.0))
    y = f(p, array)
    expected = grad(y.sum(), p)
    write(array)
    np.testing.assert_array_equal(grad(y.sum(), p), expected)
    assert (grad(f(p, array).sum(), p) != expected).any(), "the write must matter"


def test_arrays_of_up_to_16_kib_are_small():
    for n in (2048, 2049):
        c, p = np.ones(n), Tensor(np.ones(n))
        y = (p * c).sum()
        c *= 2.0
        with contextlib.nullcontext() if n == 2048 else pytest.raises(RuntimeError, match="was written to"):
            np.testing.assert_array_equal(grad(y, p), np.ones(n))


@pytest.mark.parametrize("checking", [False, True])
@pytest.mark.parametrize("name", READERS)
def test_a_write_into_a_large_array_is_an_error(name, checking):
    f, array, write = READERS[name](20_000)
    p = Tensor(np.arange(1.0, 20_001.0))
    with detect_nonfinite() if checking else contextlib.nullcontext():
        y = f(p, array).sum()
    grad(y, p)
    write(array)
    with pytest.raises(
        RuntimeError, match=r"array of shape \([0-9, ]+\) was written to after `\w+` used it; pass a copy"
    ):
        grad(y, p)


def test_a_reused_batch_buffer_is_noticed(rng):
    buffer = np.empty((100, 784), "float32")
    buffer[...] = rng.random(buffer.shape) < 0.1
    w = Parameter(np.zeros((784, 2), "float32"))
    y = ops.affine(buffer, w, np.zeros(2, "float32")).sum()
    buffer[...] = rng.random(buffer.shape) < 0.1
    with pytest.raises(RuntimeError, match=r"array of shape \(100, 784\) was written to after `affine` used it"):
        grad(y, w)


@pytest.mark.parametrize("size", [4, 300])
def test_a_write_into_a_sparse_matrix_is_noticed(size):
    x = _sparse(size)
    w = Tensor(np.ones((size, 2)))
    y = ops.sparse_matmul(w, x=x).sum()
    grad(y, w)
    x.data *= 2.0
    with pytest.raises(RuntimeError, match=r"was written to after `sparse_matmul` used it"):
        grad(y, w)


def test_one_element_is_noticed_when_all_are_looked_at():
    c, p = np.ones(10_000), Tensor(np.ones(10_000))
    with detect_nonfinite():
        y = (p * c).sum()
    c[1234] = 2.0
    with pytest.raises(RuntimeError, match="was written to"):
        grad(y, p)


@pytest.mark.parametrize("name", ["_concatenate", "add", "subtract"])
def test_what_reads_no_values_lets_the_caller_write(name):
    """Primitives that say so: with NaN in their other arguments, gradients are the same."""
    for size in (3, 5000):
        p, c = Tensor(np.arange(float(size))), np.ones(size)
        for y in (PRIMITIVES[name](p, c), PRIMITIVES[name](c, p)):
            expected = grad(y, p, cotangent=np.ones(y.shape))
            c[:] = np.nan
            np.testing.assert_array_equal(grad(y, p, cotangent=np.ones(y.shape)), expected)


def test_constants_do_not_share_a_parameters_memory():
    p, x = Parameter([1.0, 2.0]), Tensor([1.0, 1.0])
    with no_grad():
        views = [p.reshape(2, 1), p[:1], ops.transpose(p), p * 1.0]
    constants = [stop_gradient(p), stop_gradient(p.reshape(1, 2)), *views]
    before = [np.array(c.data) for c in constants]
    array = np.ones(2)
    kept = stop_gradient(array)
    p.assign([5.0, 6.0])
    array[:] = 9.0
    for c, values in zip(constants, before, strict=True):
        np.testing.assert_array_equal(c.data, values)
    np.testing.assert_array_equal(grad((x * kept).sum(), x), [1.0, 1.0])
