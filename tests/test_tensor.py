"""The engine: what grad returns, how graphs are walked, and errors that teach."""

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivi import ops
from minivi.tensor import (
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
    np.testing.assert_array_equal(grad(x.sum(), y, differentiable=True).data, [[0.0]])


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

    from minivi.tensor import PRIMITIVES

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

    from minivi.tensor import PRIMITIVES

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
    np.testing.assert_array_equal(grad(y, x), np.zeros(3))  # nothing recorded: y does not depend on x
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


def test_wrong_vjp_shape_is_named():
    @primitive(lambda g, y, x: g[:-1], cases=lambda a: [])
    def broken(x):
        return x * 2.0

    from minivi.tensor import PRIMITIVES

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
