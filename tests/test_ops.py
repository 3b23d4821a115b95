"""Every primitive, enumerated: derivatives in float64 by two methods, float32 against float64, extremes, indexing."""

import numpy as np
import pytest

from minivi import ops
from minivi.gradcheck import check_primitive, sampler, split_case
from minivi.tensor import PRIMITIVES, Tensor, grad

NAMES = sorted(PRIMITIVES)


@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("name", NAMES)
def test_derivatives(name, second):
    primitive = PRIMITIVES[name]
    report = check_primitive(primitive, second)
    assert report.ok, f"\n{report}"
    if not second:
        # no variable may have been looked at only where it does not matter
        proved = {row.name.split(", ")[1] for row in report.rows if row.verdict == "ok" and "Taylor" not in row.where}
        case = primitive.cases(sampler())[0]
        count = len(case) - isinstance(case[-1], dict)
        variables = [i for i, takes in zip(range(count), primitive.takes, strict=False) if takes]
        assert proved >= {f"argument {i}" for i in variables}


def test_every_operation_is_a_primitive_or_made_of_them():
    composed = {"concatenate", "diagonal", "stack", "upsample2d"}
    assert set(ops.__all__) - composed <= set(PRIMITIVES)


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_float64(name):
    primitive = PRIMITIVES[name]
    for case in primitive.cases(sampler()):
        args, keywords, support = split_case(case)
        args = [a * support[i] if i in support else a for i, a in enumerate(args)]
        results = []
        for dtype in ("float64", "float32"):
            floats = [np.asarray(a, dtype) if getattr(a, "dtype", None) == np.float64 else a for a in args]
            cast = [Tensor(a) if takes else a for a, takes in zip(floats, primitive.takes, strict=False)]
            y = primitive(*cast, **keywords)
            u = np.asarray(np.random.default_rng(1).standard_normal(y.shape), dtype)
            leaves = [a for a in cast if isinstance(a, Tensor)]
            gradients = grad(y, leaves, cotangent=u)
            assert y.dtype == dtype and all(g.dtype == dtype for g in gradients), f"{name} changes the dtype"
            results.append([y.data, *gradients])
        for high, low in zip(*results, strict=True):
            scale = np.abs(high).max(initial=1.0)
            np.testing.assert_allclose(low, high, rtol=2e-5, atol=2e-6 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_linear_are_those_whose_second_differences_vanish(name, rng):
    """f(a) - 2 f(a + d) + f(a + 2 d) in each argument by itself, of a step that crosses kinks."""
    primitive, curved = PRIMITIVES[name], 0.0
    for case in primitive.cases(sampler(1)):
        args, keywords, support = split_case(case)
        args = [a * support[i] if i in support else a for i, a in enumerate(args)]
        for i, takes in zip(range(len(args)), primitive.takes, strict=False):
            if takes and np.size(args[i]):
                d = support.get(i, 1.0) * 4.0 * rng.random(np.shape(args[i]))
                y = [primitive(*args[:i], args[i] + k * d, *args[i + 1 :], **keywords) for k in range(3)]
                curved = max(curved, np.abs(y[0] - 2.0 * y[1] + y[2]).max(initial=0.0))
    assert primitive.linear == (curved < 1e-12)


@pytest.mark.parametrize("name", [n for n in NAMES if PRIMITIVES[n].composed])
def test_fused_equals_composed(name):
    primitive = PRIMITIVES[name]
    for case in primitive.cases(sampler(3)):
        np.testing.assert_allclose(
            np.asarray(primitive(*map(Tensor, case))), np.asarray(primitive.composed(*case)), rtol=1e-12, atol=1e-13
        )


def test_extremes_stay_finite_where_they_should():
    x = Tensor([-1e4, 0.0, 1e4])
    np.testing.assert_array_equal(ops.softplus(x).data, [0.0, np.log(2.0), 1e4])
    np.testing.assert_array_equal(grad(ops.softplus(x).sum(), x), [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(ops.sigmoid(x).data, [0.0, 0.5, 1.0])
    logits = Tensor([[1e4, -1e4]])
    assert ops.bernoulli_log_prob(np.array([1.0, 0.0]), logits).item() == 0.0
    assert ops.bernoulli_log_prob(np.array([0.0, 1.0]), logits).item() == -2e4


@pytest.mark.parametrize(
    ("row", "value", "gradient"),
    [
        ([-np.inf, 0.0, 0.0], np.log(2.0), [0.0, 0.5, 0.5]),
        ([-np.inf, -np.inf], -np.inf, [0.0, 0.0]),
        ([1000.0, 1000.0], 1000.0 + np.log(2.0), [0.5, 0.5]),
    ],
)
def test_log_sum_exp_at_infinity(row, value, gradient):
    x = Tensor(row)
    y = ops.log_sum_exp(x)
    assert y.item() == pytest.approx(value)
    np.testing.assert_allclose(grad(y, x), gradient)


def test_log_sum_exp_of_plus_infinity():
    assert ops.log_sum_exp(np.array([np.inf, 0.0])) == np.inf
    assert np.isnan(ops.log_sum_exp(np.array([np.nan, 0.0])))


def test_ties():
    """The stated subgradients: shared in max and maximum, 1 at clip's bounds, 0 at the kinks of relu, abs, elu'."""
    x = Tensor([2.0, 1.0, 2.0])
    np.testing.assert_array_equal(grad(x.max(), x), [0.5, 0.0, 0.5])
    a, b = Tensor([1.0, 3.0]), Tensor([1.0, 2.0])
    ga, gb = grad(ops.maximum(a, b).sum(), [a, b])
    np.testing.assert_array_equal([ga, gb], [[0.5, 1.0], [0.5, 0.0]])
    y = Tensor([-1.0, 0.0, 1.0, 2.0])
    np.testing.assert_array_equal(grad(ops.clip(y, low=0.0, high=1.0).sum(), y), [0.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(grad(ops.relu(y).sum(), y), [0.0, 0.0, 1.0, 1.0])
    np.testing.assert_array_equal(grad(ops.abs(y).sum(), y), [-1.0, 0.0, 1.0, 1.0])
    slope = grad(ops.elu(y).sum(), y, differentiable=True)  # e^x below 0, 1 above: itself with a kink
    np.testing.assert_allclose(slope.data, [np.exp(-1.0), 1.0, 1.0, 1.0], rtol=1e-14)
    np.testing.assert_allclose(grad(slope.sum(), y), [np.exp(-1.0), 0.0, 0.0, 0.0], rtol=1e-14)


def test_repeated_indices_accumulate():
    x = Tensor([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(grad(x[np.array([0, 0, 2, 0])].sum(), x), [3.0, 0.0, 1.0])


def test_indexing_out_of_range_is_numpys_error():
    with pytest.raises(IndexError):
        Tensor([1.0])[3]


def test_composed_operations_against_numpy(rng):
    a, b = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    x, y = Tensor(a), Tensor(b)
    for result, expected in [
        (ops.stack([x, y], axis=1), np.stack([a, b], 1)), (ops.stack([x, y], axis=-1), np.stack([a, b], -1)),
        (ops.concatenate([x, y], axis=1), np.concatenate([a, b], 1)), (ops.mean(x, axis=0), a.mean(0)),
        (ops.diagonal(x), np.diagonal(a)), (ops.diagonal(x, offset=-2), np.diagonal(a, -2)),
        (ops.diagonal(x, offset=1), np.diagonal(a, 1)),
    ]:  # fmt: skip
        np.testing.assert_allclose(result.data, expected, rtol=1e-15)
    u = rng.standard_normal(3)
    g = grad(ops.diagonal(x), x, cotangent=u)
    np.testing.assert_array_equal(g, np.vstack([np.diag(u), np.zeros((1, 3))]))
    np.testing.assert_allclose(grad(ops.mean(x), x), np.full((4, 3), 1 / 12))


@pytest.mark.parametrize("last", [1.0, 0.5])
@pytest.mark.parametrize("share", [0.0, 0.13, 1.0])
def test_affine_of_binary_data(share, last, rng):
    """Rows of W summed where pixels are one: the same values and gradients as the product."""
    x = (rng.random((60, 30)) < share).astype(float)
    x[-1, -1] = last
    w, b = Tensor(rng.standard_normal((30, 20))), Tensor(rng.standard_normal(20))
    y = ops.affine(x, w, b)
    np.testing.assert_allclose(y.data, x @ w.data + b.data, rtol=1e-12, atol=1e-13)
    u = rng.standard_normal((60, 20))
    for g, expected in zip(grad(y, [w, b], cotangent=u), (x.T @ u, u.sum(0)), strict=True):
        np.testing.assert_allclose(g, expected, rtol=1e-12, atol=1e-12)
    (g,) = grad(y, [w], cotangent=u, differentiable=True)
    np.testing.assert_allclose(g.data, x.T @ u, rtol=1e-12, atol=1e-12)


def test_empty_arrays():
    x = Tensor(np.zeros((0, 3)))
    assert ops.sum(x).item() == 0.0
    np.testing.assert_array_equal(ops.log_sum_exp(x).shape, (0,))
    assert grad((ops.exp(x) @ np.ones((3, 2))).sum(), x).shape == (0, 3)


def _derivatives(f, at, orders):
    """f and its derivatives with respect to a number, by repeated grad."""
    x = Tensor(at)
    y, found = f(x), []
    for _ in range(orders + 1):
        found.append(y.item())
        y = grad(y, x, differentiable=True, unused="zeros")
    return found


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda x: ops.exp(-(x**2)), [1.0, 0.0, -2.0, 0.0, 12.0, 0.0, -120.0]),
        (lambda x: ops.exp(-(x**2.0)), [1.0, 0.0, -2.0, 0.0, 12.0, 0.0, -120.0]),
        (lambda x: ops.exp(-ops.square(x)), [1.0, 0.0, -2.0, 0.0, 12.0, 0.0, -120.0]),
        (lambda x: x**0, [1.0, 0.0, 0.0, 0.0]),
        (lambda x: x**1, [0.0, 1.0, 0.0, 0.0]),
        (lambda x: x**2, [0.0, 0.0, 2.0, 0.0, 0.0]),
        (lambda x: x**3, [0.0, 0.0, 0.0, 6.0, 0.0, 0.0]),
        (lambda x: (1.0 + x) ** 3, [1.0, 3.0, 6.0, 6.0, 0.0, 0.0]),
        (lambda x: (x - 2.0) ** 3, [-8.0, 12.0, -12.0, 6.0, 0.0]),
        (lambda x: (x - 2.0) ** 0, [1.0, 0.0, 0.0]),
        (lambda x: x ** np.array([0.0, 1.0, 2.0, 3.0]) @ np.ones(4), [1.0, 1.0, 2.0, 6.0, 0.0]),
    ],
)
def test_high_derivatives_of_powers_at_zero(f, expected):
    np.testing.assert_allclose(_derivatives(f, 0.0, len(expected) - 1), expected, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("at", [0.0, 2.0, np.inf, 1e-310])
def test_x_to_the_zeroth_has_slope_zero(at):
    x = Tensor([at])
    np.testing.assert_array_equal(grad((x**0.0).sum(), x), [0.0])
    b = Tensor([0.0])
    np.testing.assert_array_equal(grad((x**b).sum(), x), [0.0])


def test_powers_of_zero_in_both_arguments():
    a, b = Tensor([0.0, 0.0, 0.0, 4.0]), Tensor([0.0, 1.0, 2.0, 0.0])
    ga, gb = grad((a**b).sum(), [a, b])
    np.testing.assert_array_equal(ga, [0.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(gb, [0.0, 0.0, 0.0, np.log(4.0)])
    ga = grad((a**b).sum(), a, differentiable=True)  # d2 / da db = a^(b-1) (1 + b log a)
    np.testing.assert_allclose(grad(ga[3], b), [0.0, 0.0, 0.0, 0.25])


@pytest.mark.parametrize("kind", [bool, int, float, "float32", Tensor])
def test_where_of_a_mask_of_numbers(kind):
    """A mask that is not boolean chooses by being 0 or not, forwards and backwards."""
    mask = np.array([0.0, 1.0, 0.0] if kind is bool else [0.0, 2.0, 0.0])
    mask = Tensor(mask) if kind is Tensor else mask.astype(kind)
    a, b = Tensor([1.0, 2.0, 3.0]), Tensor([4.0, 5.0, 6.0])
    y = ops.where(mask, a, b)
    np.testing.assert_array_equal(y.data, [4.0, 2.0, 6.0])
    for differentiable in (False, True):
        ga, gb = grad(y, [a, b], cotangent=np.array([1.0, 2.0, 3.0]), differentiable=differentiable)
        np.testing.assert_array_equal(np.asarray(ga), [0.0, 2.0, 0.0])
        np.testing.assert_array_equal(np.asarray(gb), [1.0, 0.0, 3.0])


def test_second_derivatives_of_a_primitive_that_has_one_argument_twice():
    """gaussian_kl(x, x) = (x^2 + exp(2x) - 1) / 2 - x; each place gets a Tensor of its own."""
    x = Tensor([0.3, -0.7])
    for repeated, hessian in [
        (lambda x: ops.gaussian_kl(x, x), 1.0 + 2.0 * np.exp(2.0 * x.data)),
        (lambda x: ops.gaussian_log_prob(x, x, x), np.zeros(2)),
        (lambda x: ops.gaussian_sample(x, x, x).sum(), (2.0 + x.data) * np.exp(x.data)),
        (lambda x: ops.bernoulli_log_prob(x, x), 2.0 - 2.0 * (s := 1 / (1 + np.exp(-x.data))) * (1 - s) / 2),
    ]:
        gradient = grad(repeated(x), x, differentiable=True)
        rows = [grad(gradient[i], x, unused="zeros") for i in range(2)]
        np.testing.assert_allclose(rows, np.diag(hessian), rtol=1e-12, atol=1e-13)


REDUCTIONS = [ops.sum, ops.mean, ops.max, ops.log_sum_exp]


@pytest.mark.parametrize("reduce", REDUCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("axis", [-1, 0, None, (), (0,), np.int64(-1)], ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_of_a_number(reduce, axis, keepdims):
    x = Tensor(1.5)
    if axis == (0,):
        axis = None if reduce is ops.log_sum_exp else 0
    y = reduce(x, axis=axis, keepdims=keepdims)
    assert y.shape == () and y.item() == 1.5
    for differentiable in (False, True):
        assert grad(y * y, x, differentiable=differentiable).item() == 3.0


@pytest.mark.parametrize("reduce", REDUCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (-1, 0), ()])
def test_an_axis_may_be_an_integer_of_any_type(reduce, axis, keepdims, rng):
    x = Tensor(rng.standard_normal((2, 3, 4)))
    other = tuple(map(np.int64, axis)) if isinstance(axis, tuple) else np.int64(axis)
    y, z = (reduce(x, axis=a, keepdims=keepdims) for a in (axis, other))
    np.testing.assert_array_equal(y.data, z.data)
    u = rng.standard_normal(y.shape)
    np.testing.assert_array_equal(grad(y, x, cotangent=u), grad(z, x, cotangent=u))
    v = rng.standard_normal(x.shape)  # against a difference along v
    moved = [reduce(Tensor(x.data + h * v), axis=axis, keepdims=keepdims).data for h in (1e-6, -1e-6)]
    numeric = (u * (moved[0] - moved[1])).sum() / 2e-6
    np.testing.assert_allclose((grad(z, x, cotangent=u) * v).sum(), numeric, rtol=1e-7)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, i: ops.cumsum(x, axis=i),
        lambda x, i: ops.cumsum(x, axis=i, reverse=True),
        lambda x, i: ops.concatenate([x, 2.0 * x], axis=i),
        lambda x, i: ops.stack([x, 2.0 * x], axis=i),
        lambda x, i: ops.permute(x, order=np.array([1, 0]), axis=i),
        lambda x, i: ops.transpose(x, axes=(1 - i, i)),
        lambda x, i: ops.diagonal(x, offset=i),
        lambda x, i: ops.tril(x, k=i),
        lambda x, i: ops.reshape(x, shape=(i + 1, -1)),
        lambda x, i: ops.broadcast_to(x, shape=(i + 1, *x.shape)),
        lambda x, i: ops.getitem(x, i),
        lambda x, i: ops.getitem(x, (slice(None), i)),
        lambda x, i: ops.getitem(x, slice(i, None)),
    ],
)
@pytest.mark.parametrize("i", [0, 1])
def test_integers_of_numpy_are_integers(f, i, rng):
    x = Tensor(rng.standard_normal((2, 2)))
    y, z = f(x, i), f(x, np.int64(i))
    np.testing.assert_array_equal(y.data, z.data)
    u = rng.standard_normal(y.shape)
    np.testing.assert_array_equal(grad(y, x, cotangent=u), grad(z, x, cotangent=u))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (), (4,)])
def test_cumsum_of_all_elements(shape, reverse, rng):
    x = Tensor(rng.standard_normal(shape))
    y = ops.cumsum(x, axis=None, reverse=reverse)
    flat = x.data.ravel()
    np.testing.assert_allclose(y.data, np.cumsum(flat[::-1])[::-1] if reverse else np.cumsum(flat))
    u = rng.standard_normal(y.shape)
    back = np.cumsum(u) if reverse else np.cumsum(u[::-1])[::-1]
    for differentiable in (False, True):
        g = grad(y, x, cotangent=u, differentiable=differentiable)
        np.testing.assert_allclose(np.asarray(g), back.reshape(shape))


def test_concatenate_of_all_elements(rng):
    x, y = Tensor(rng.standard_normal((2, 3))), Tensor(rng.standard_normal(2))
    z = ops.concatenate([x, y, x, Tensor(1.0)], axis=None)
    np.testing.assert_array_equal(z.data, np.concatenate([x.data, y.data, x.data, 1.0], axis=None))
    u = rng.standard_normal(15)
    gx, gy = grad(z, [x, y], cotangent=u)
    np.testing.assert_allclose(gx, (u[:6] + u[8:14]).reshape(2, 3))
    np.testing.assert_array_equal(gy, u[6:8])


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("order", [[2, 0, 1], [-1, 0, 1], [-1, -3, -2], np.array([-2, 0, -1])], ids=str)
def test_permute_counts_from_the_end_too(order, axis, rng):
    x = Tensor(rng.standard_normal((3, 3)))
    y = ops.permute(x, order=order, axis=axis)
    np.testing.assert_array_equal(y.data, np.take(x.data, order, axis))
    u = rng.standard_normal((3, 3))
    expected = np.zeros((3, 3))
    expected[(np.asarray(order),) if axis == 0 else (slice(None), np.asarray(order))] = u
    for differentiable in (False, True):
        np.testing.assert_array_equal(np.asarray(grad(y, x, cotangent=u, differentiable=differentiable)), expected)


@pytest.mark.parametrize("order", [[0, 0, 1], [0, -3, 1], [0, 1], [0, 1, 2, 0], [[0, 1, 2]]], ids=str)
def test_what_is_no_permutation_has_no_gradient(order):
    x = Tensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"order of shape .* is no permutation of 3; .* use x\[..., index\]"):
        grad(ops.permute(x, order=order).sum(), x)


def test_an_axis_that_is_not_there():
    x = Tensor(np.ones((2, 3)))
    for f in (*REDUCTIONS, ops.cumsum):
        with pytest.raises(np.exceptions.AxisError):
            f(x, axis=2)
    for axis in (3, -4):
        with pytest.raises(np.exceptions.AxisError):
            ops.stack([x, x], axis=axis)


def test_looking_for_few_ones_costs_little_where_there_are_others(monkeypatch):
    """What a ReLU gives is dismissed by its first rows, without a search of the whole and its error message."""
    x = 0.3 * np.maximum(np.random.default_rng(0).standard_normal((1000, 80)), 0.0)
    x[0, 0] = 0.0
    assert x[:8].mean() < 0.25  # neither the first number nor the sum dismisses it
    monkeypatch.setattr(ops.kernels, "Ones", lambda x: pytest.fail("searched the whole matrix"))
    assert ops._few_ones(x) is None
