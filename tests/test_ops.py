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
    composed = {"concatenate", "diagonal", "stack"}
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
    """The stated subgradients: shared in max and maximum, 1 at clip's bounds, 0 at the kinks of relu and abs."""
    x = Tensor([2.0, 1.0, 2.0])
    np.testing.assert_array_equal(grad(x.max(), x), [0.5, 0.0, 0.5])
    a, b = Tensor([1.0, 3.0]), Tensor([1.0, 2.0])
    ga, gb = grad(ops.maximum(a, b).sum(), [a, b])
    np.testing.assert_array_equal([ga, gb], [[0.5, 1.0], [0.5, 0.0]])
    y = Tensor([-1.0, 0.0, 1.0, 2.0])
    np.testing.assert_array_equal(grad(ops.clip(y, low=0.0, high=1.0).sum(), y), [0.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(grad(ops.relu(y).sum(), y), [0.0, 0.0, 1.0, 1.0])
    np.testing.assert_array_equal(grad(ops.abs(y).sum(), y), [-1.0, 0.0, 1.0, 1.0])


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
