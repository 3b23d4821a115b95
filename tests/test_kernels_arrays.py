"""NumPy's operations as launches: the same bits, for all shapes, layouts and signs of zero."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
pytestmark = pytest.mark.skipif(not JIT, reason="without JIT there are no launches")
if JIT:
    from minivi.kernels import arrays, launches

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, 0.1])


def numbers(rng, shape, dtype):
    """Of all sizes, with zeros of both signs, infinities and NaN."""
    kind = rng.integers(0, 4)
    x = rng.standard_normal(shape) * 10.0 ** rng.integers(-8, 8, shape)
    x = np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL[: 3 if kind else None], shape), x)
    return (np.full(shape, -0.0) if kind == 3 else x).astype(dtype)


def equal(function, args, kwargs, want):
    """Whether the launches give ``want``, to the bit but for the kind of NaN; False where there are none."""
    got = np.full(want.shape, 7, want.dtype)
    into = "out" in kwargs
    made = arrays.as_launches(function, args, {**kwargs, "out": (got,)} if into else kwargs, None if into else got)
    if made is None:
        return False
    if made:
        launches.Table(made).run()
    got, want = [np.where(np.isnan(a), np.nan, a).astype(want.dtype) for a in (got, want)]
    assert got.tobytes() == want.tobytes(), (function, [getattr(a, "shape", a) for a in args], kwargs)
    return True


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 128, 129, 136, 255, 256, 257, 1000, 8193, 70_000])
def test_sums_of_every_length(n, dtype):
    rng = np.random.default_rng(n)
    for shape, axis in [((n,), None), ((3, n), -1), ((n, 3), 0), ((1, n), 0), ((2, 1, n), (1, 2)), ((n, 1, 2), (0, 1))]:
        for _ in range(4):
            x = numbers(rng, shape, dtype)
            with np.errstate(all="ignore"):
                want = np.asarray(np.add.reduce(x, axis=axis))
                assert equal(np.add.reduce, (x,), {"axis": axis, "out": ()}, want)
                assert equal(np.sum, (x,), {"axis": axis, "keepdims": False}, want)


@st.composite
def views(draw):
    """A seed, a shape and for each of three arrays how it lies."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    return draw(st.integers(0, 2**32 - 1)), shape, [draw(st.integers(0, 5)) for _ in range(3)]


def laid_out(rng, shape, dtype, how):
    """An array that broadcasts to ``shape``: whole, transposed, backwards, every second one, a row, or a number."""
    if how == 1:
        return numbers(rng, shape[::-1], dtype).T
    if how == 2 and shape:
        return numbers(rng, shape, dtype)[..., ::-1]
    if how == 3 and shape:
        return numbers(rng, (*shape[:-1], 2 * shape[-1]), dtype)[..., ::2]
    if how == 4 and shape:
        return numbers(rng, shape[1:], dtype)
    if how == 5:
        return numbers(rng, tuple(1 if rng.random() < 0.5 else n for n in shape), dtype)
    return numbers(rng, shape, dtype)


@settings(max_examples=200, deadline=None)
@given(views(), st.sampled_from(["float32", "float64"]))
def test_elements_in_every_layout(case, dtype):
    seed, shape, how = case
    rng = np.random.default_rng(seed)
    x, y = laid_out(rng, shape, dtype, how[0]), laid_out(rng, shape, dtype, how[1])
    with np.errstate(all="ignore"):
        for function in (np.add, np.subtract, np.multiply, np.divide):
            for args in ((x, y), (x, 0.7), (-0.7, y), (x, np.dtype(dtype).type(3))):
                want = np.empty(np.broadcast_shapes(*map(np.shape, args)), dtype)
                function(*args, out=want)
                equal(function, args, {"out": ()}, want)
        for function in (np.negative, np.square, np.sqrt):
            equal(function, (x,), {"out": ()}, np.asarray(function(x)))
        equal(np.ndarray.copy, (x,), {}, np.array(x.copy()))
        if shape:
            equal(np.concatenate, ([x, x], -1 % x.ndim), {}, np.concatenate([x, x], -1)) if x.ndim else None
            target, want = np.zeros((2, *shape, 3), dtype), np.zeros((2, *shape, 3), dtype)
            want[1, ..., 1] = x
            made = arrays.as_launches(np.ndarray.__setitem__, (target, (1, Ellipsis, 1), x), {}, None)
            if made:
                launches.Table(made).run()
                assert np.array_equal(target, want, equal_nan=True)


def test_what_numpy_would_compute_in_another_type_or_order_is_left_to_it():
    x, out = np.ones((4, 4), "f4"), np.empty((4, 4), "f4")
    leave = lambda function, args: arrays.as_launches(function, args, {"out": (out,)}, None) is None
    assert leave(np.add, (x, np.float64(0.1))) and leave(np.add, (x, np.ones(4)))
    assert leave(np.add, (out[::-1], x)), "an operand that the result overwrites"
    assert not leave(np.add, (out, x)), "but not in place"
    assert leave(np.add, (x, True)) and leave(np.maximum, (x, x))


def test_in_place_and_on_several_threads():
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((300, 401)).astype("f4") for _ in range(2))
    for function in (np.add, np.multiply):
        ours, theirs = x.copy(), x.copy()
        launches.Table(arrays.as_launches(function, (ours, y), {"out": (ours,)}, None)).run()
        function(theirs, y, out=theirs)
        assert ours.tobytes() == theirs.tobytes()
