"""Every primitive beside its vector-Jacobian product and its test cases, and the operators of :class:`Tensor`.

How to read an entry: the lambdas above a function are its vjps, one for each argument, from the cotangent ``g`` of the
result ``y`` to that of the argument. They are in the broadcast shape; the engine sums them back. ``cases`` are what
``minivi check`` and the tests run finite differences on.

Subgradients, where a function has a kink: abs, relu and the slope of elu have slope 0 at 0; maximum, minimum and max
share the cotangent equally between ties; clip has slope 1 at its two bounds.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from minivi import kernels
from minivi.convolutions import (
    conv2d,
    conv2d_transposed,
    conv2d_weight_gradient,
    max_pool2d,
    max_pool2d_take,
    max_pool2d_transposed,
)
from minivi.kernels.shapes import LOG_2PI, empty, is_binary, now, take, zeros
from minivi.tensor import Tensor, primitive

__all__ = [
    "abs", "add", "affine", "bernoulli_log_prob", "broadcast_to", "clip", "concatenate", "conv2d",
    "conv2d_transposed", "conv2d_weight_gradient", "cumsum", "diagonal", "divide", "elu", "exp", "gaussian_kl",
    "gaussian_log_prob", "gaussian_sample", "getitem", "local_sample", "log", "log1m_exp", "log1p", "log_softmax",
    "log_sum_exp", "masked_affine", "masked_matmul", "matmul", "max", "max_pool2d", "max_pool2d_take",
    "max_pool2d_transposed", "maximum", "mean", "minimum", "multiply", "negative", "normal_cdf", "permute", "power",
    "relu", "reshape", "row_pairs", "row_sums", "sigmoid", "softplus", "sparse_matmul", "sqrt", "square", "stack",
    "subtract", "sum", "tanh", "transpose", "tril", "upsample2d", "where",
]  # fmt: skip

# What every function here takes and returns: Tensors when an argument is one, else arrays; numbers are welcome too.
Array = Tensor | np.ndarray | float
Axis = int | tuple[int, ...] | None
Shape = int | tuple[int, ...]

_cases_of_pairs = lambda a: [(a(3, 4), a(3, 4)), (a(3, 4), a(4)), (a(2, 1, 4), a(3, 1)), (a(), a(3)), (a(0, 3), a(3))]
_cases_of_one = lambda a: [(a(3, 4),), (a(),), (a(0, 3),)]
_cases_positive = lambda a: [(a(3, 4, low=0.2, high=3.0),), (a(low=0.2),)]


def _raw(x):
    return x._data if isinstance(x, Tensor) else x


def _truth(mask):
    """``mask`` as booleans."""
    mask = np.asanyarray(mask)
    return mask if mask.dtype == bool else mask.astype(bool)


# ---------------------------------------------------------------------------------------------------- arithmetic
@primitive(lambda g, y, a, b: g, lambda g, y, a, b: g, linear=True, reads=False, cases=_cases_of_pairs)
def add(a: Array, b: Array) -> Array:
    """a + b."""
    return np.add(a, b)


@primitive(lambda g, y, a, b: g, lambda g, y, a, b: -g, linear=True, reads=False, cases=_cases_of_pairs)
def subtract(a: Array, b: Array) -> Array:
    """a - b."""
    return np.subtract(a, b)


@primitive(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a, linear=True, cases=_cases_of_pairs)
def multiply(a: Array, b: Array) -> Array:
    """a * b, element by element."""
    return np.multiply(a, b)


@primitive(
    lambda g, y, a, b: g / b,
    lambda g, y, a, b: -g * y / b,
    cases=lambda a: [(a(3, 4), a(3, 4, low=0.5)), (a(2, 1, 4), a(3, 1, low=0.5)), (a(0, 3), a(3, low=0.5))],
)
def divide(a: Array, b: Array) -> Array:
    """a / b, element by element."""
    return np.divide(a, b)


def _power_vjp_a(g, y, a, b):
    # 0 a^0 instead of 0 a^-1, which is NaN at a = 0; only there where b is differentiated too: its slope is 1 / a.
    one = _raw(b) != 0.0
    if isinstance(b, Tensor):
        one = one | (_raw(a) != 0.0)
    return g * b * a ** (b - one)


def _power_vjp_b(g, y, a, b):
    # 0^b does not change with b >= 0: y log(a) would be 0 times -inf.
    return g * y * log(where((_raw(a) == 0.0) & (_raw(b) >= 0.0), 1.0, a))


@primitive(
    _power_vjp_a,
    _power_vjp_b,
    cases=lambda a: [(a(3, 4, low=0.3), a(3, 4)), (a(3, 4, low=0.3), a(4))],
)
def power(a: Array, b: Array) -> Array:
    """a ** b, element by element; for a gradient with respect to the exponent, a > 0, or a = 0 with slope 0."""
    return np.power(a, b)


@primitive(lambda g, y, a: -g, linear=True, cases=_cases_of_one)
def negative(a: Array) -> Array:
    """-a."""
    return np.negative(a)


@primitive(lambda g, y, x: 2.0 * g * x, cases=_cases_of_one)
def square(x: Array) -> Array:
    """x * x."""
    return np.square(x)


@primitive(lambda g, y, x: 0.5 * g / y, cases=_cases_positive)
def sqrt(x: Array) -> Array:
    """Square root."""
    return np.sqrt(x)


@primitive(lambda g, y, x: g * np.sign(_raw(x)), cases=_cases_of_one)
def abs(x: Array) -> Array:
    """Absolute value; slope 0 at 0."""
    return np.abs(x)


# ------------------------------------------------------------------------------------------- exponentials and others
@primitive(lambda g, y, x: g * y, cases=_cases_of_one)
def exp(x: Array) -> Array:
    """e to the x."""
    return kernels.exp(x)


@primitive(lambda g, y, x: g / x, cases=_cases_positive)
def log(x: Array) -> Array:
    """Natural logarithm."""
    return kernels.log(x)


@primitive(lambda g, y, x: g / (1.0 + x), cases=lambda a: [(a(3, 4, low=-0.7),), (a(low=-0.5),)])
def log1p(x: Array) -> Array:
    """log(1 + x), exact for small x."""
    return kernels.log1p(x)


@primitive(lambda g, y, x: g * exp(-x - y), cases=_cases_positive)
def log1m_exp(x: Array) -> Array:
    """log(1 - exp(-x)) for x > 0, exact for small x."""
    return np.log(-np.expm1(-x))


@primitive(
    lambda u, v, g, y: u * (1.0 - y * y), lambda u, v, g, y: -2.0 * u * g * y, cases=lambda a: [(a(3, 4), a(3, 4))]
)
def tanh_vjp(g: Array, y: Array) -> Array:
    """g (1 - y^2): the cotangent of tanh's argument."""
    return kernels.tanh_vjp(g, y)


@primitive(lambda g, y, x: tanh_vjp(g, y), cases=_cases_of_one)
def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return kernels.tanh(x)


@primitive(
    lambda u, v, g, y: u * y * (1.0 - y),
    lambda u, v, g, y: u * g * (1.0 - 2.0 * y),
    cases=lambda a: [(a(3, 4), a(3, 4))],
)
def sigmoid_vjp(g: Array, y: Array) -> Array:
    """g y (1 - y): the cotangent of sigmoid's argument."""
    return kernels.sigmoid_vjp(g, y)


@primitive(lambda g, y, x: sigmoid_vjp(g, y), cases=_cases_of_one)
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return kernels.sigmoid(x)


@primitive(
    lambda u, v, g, x: u * sigmoid(x),
    lambda u, v, g, x: sigmoid_vjp(u * g, sigmoid(x)),
    cases=lambda a: [(a(3, 4), a(3, 4))],
)
def softplus_vjp(g: Array, x: Array) -> Array:
    """g sigmoid(x): the cotangent of softplus's argument."""
    return kernels.softplus_vjp(g, x)


@primitive(
    lambda g, y, x: g * (exp(-0.5 * square(x)) * (1.0 / math.sqrt(2.0 * math.pi))),
    cases=_cases_of_one,
)
def normal_cdf(x: Array) -> Array:
    """P(e < x) for e ~ N(0, 1)."""
    from scipy.special import ndtr

    return ndtr(x)


@primitive(lambda g, y, x: softplus_vjp(g, x), cases=_cases_of_one)
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), stable for every x.

    Example:
        >>> softplus(np.array([-1000.0, 0.0, 1000.0])).tolist()
        [0.0, 0.6931471805599453, 1000.0]
    """
    return kernels.softplus(x)


@primitive(lambda u, v, g, y: relu_vjp(u, y), None, linear=True, cases=lambda a: [(a(3, 4), a(3, 4))])
def relu_vjp(g: Array, y: Array) -> Array:
    """g where y > 0, else 0: the cotangent of relu's argument."""
    return kernels.relu_vjp(g, y)


@primitive(lambda g, y, x: relu_vjp(g, y), cases=_cases_of_one)
def relu(x: Array) -> Array:
    """max(x, 0); slope 0 at 0."""
    return kernels.relu(x)


@primitive(
    lambda u, v, g, y: elu_vjp(u, y),
    lambda u, v, g, y: u * g * (_raw(y) < 0),
    cases=lambda a: [(a(3, 4), a(3, 4, low=-0.8))],
)
def elu_vjp(g: Array, y: Array) -> Array:
    """g where y > 0, else g (y + 1): the cotangent of elu's argument."""
    return kernels.elu_vjp(g, y)


@primitive(lambda g, y, x: elu_vjp(g, y), cases=_cases_of_one)
def elu(x: Array) -> Array:
    """x where x > 0, else exp(x) - 1."""
    return kernels.elu(x)


# ---------------------------------------------------------------------------------------------------- reductions
def _axes(axis, x):
    """``axis`` (an int of any type, a tuple, or None for all) as axes of ``x``, each from 0 up; a number has none."""
    if axis is None or x.ndim == 0:
        return tuple(range(x.ndim))
    return tuple([normalize_axis_index(i, x.ndim) for i in (axis if isinstance(axis, tuple) else (axis,))])


def _expand(y, x, axis, keepdims):
    """A reduction's result (or its cotangent) with the reduced axes back, as size 1."""
    if keepdims:
        return y
    axes = _axes(axis, x)
    return y.reshape([1 if i in axes else n for i, n in enumerate(x.shape)])


def _spread(g, x, axis, keepdims):
    """The cotangent ``g`` of a sum, repeated over the axes that were summed."""
    g = _expand(g, x, axis, keepdims)
    if isinstance(g, Tensor):
        return broadcast_to(g, shape=x.shape)
    full = empty(x.shape, g.dtype)  # written out, since kernels would have to copy a broadcast view
    full[...] = g
    return full


@primitive(
    lambda g, y, x, axis=None, keepdims=False: _spread(g, x, axis, keepdims),
    linear=True,
    cases=lambda a: [(a(3, 4),), (a(2, 3, 4), {"axis": (0, 2)}), (a(3, 4), {"axis": -1, "keepdims": True}), (a(0, 3),)],
)
def sum(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Sum over ``axis`` (an int, a tuple, or None for all)."""
    return np.sum(x, axis=axis, keepdims=keepdims)


@primitive(
    lambda g, y, x, axis=None, keepdims=False: _spread(g * (y.size / builtins.max(x.size, 1)), x, axis, keepdims),
    linear=True,
    cases=lambda a: [(a(3, 4),), (a(2, 3, 4), {"axis": (0, 2)}), (a(3, 4), {"axis": -1, "keepdims": True})],
)
def mean(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Mean over ``axis`` (an int, a tuple, or None for all); NaN of no elements."""
    total = np.sum(x, axis=axis, keepdims=keepdims)
    return total * (total.size / x.size if x.size else np.nan)


@primitive(
    lambda g, y, x, axis=None, keepdims=False: (
        _expand(g, x, axis, keepdims) * _ties(_raw(x), _raw(_expand(y, x, axis, keepdims)), axis)
    ),
    cases=lambda a: [(a(3, 4),), (a(2, 3, 4), {"axis": (0, 2)}), (a(3, 4), {"axis": -1, "keepdims": True})],
)
def max(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Largest element over ``axis``; ties share the cotangent equally."""
    return np.max(x, axis=axis, keepdims=keepdims)


def _ties(x, y, axis):
    """Which elements of ``x`` are the maximum ``y``, divided by how many are."""
    ties = (x == y).astype(x.dtype)
    return ties / ties.sum(axis=axis, keepdims=True)


def _last(x, axis):
    """``x`` with the axes to reduce moved to the end and merged."""
    axes = _axes(axis, x)
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    return np.transpose(x, rest + axes).reshape([x.shape[i] for i in rest] + [math.prod([x.shape[i] for i in axes])])


@primitive(
    # A row of -inf alone has the result -inf; weights exp(-inf - 0) = 0 instead of exp(-inf + inf) = NaN.
    lambda g, y, x, axis=-1, keepdims=False: (
        _expand(g, x, axis, keepdims)
        * exp(x - where(np.isneginf(_raw(y)), 0.0, y).reshape(_expand(y, x, axis, keepdims).shape))
    ),
    cases=lambda a: [
        (a(3, 4),),
        (a(2, 3, 4), {"axis": 0}),
        (a(3, 4), {"axis": None}),
        (a(3, 4), {"axis": 1, "keepdims": True}),
    ],
)
def log_sum_exp(x: Array, axis: Axis = -1, keepdims: bool = False) -> Array:
    """log sum exp(x) over ``axis`` (an int, a tuple, or None for all), the maximum subtracted."""
    y = kernels.log_sum_exp(_last(x, axis))
    return _expand(y, x, axis, False) if keepdims else y


def _log_softmax_vjp(g, y, x):
    if isinstance(g, Tensor):
        return g - exp(y) * sum(g, axis=-1, keepdims=True)
    return kernels.log_softmax_vjp(g, y)


@primitive(_log_softmax_vjp, cases=lambda a: [(a(3, 4),), (a(2, 3, 5),), (a(0, 3),)])
def log_softmax(x: Array) -> Array:
    """x - log sum exp(x) over the last axis."""
    return kernels.log_softmax(x)


def _shaped(g, x):
    return g if g.shape == x.shape else g.reshape(x.shape)


@primitive(
    lambda g, y, x, axis=-1, reverse=False: _shaped(cumsum(g, axis=axis, reverse=not reverse), x),
    linear=True,
    cases=lambda a: [(a(3, 4),), (a(3, 4), {"axis": 0, "reverse": True})],
)
def cumsum(x: Array, axis: int | None = -1, reverse: bool = False) -> Array:
    """Cumulative sum along ``axis`` (of all elements in order, if None), from its end with ``reverse``."""
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)


# ------------------------------------------------------------------------------------------------ matrix products
def _swap(x):
    if isinstance(x, Tensor):
        axes = tuple(range(x.ndim))
        return transpose(x, axes=axes[:-2] + (axes[-1], axes[-2]))
    return x.swapaxes(-1, -2)


def _product(a, b):
    """a b, without the primitive's bookkeeping where there is nothing to record."""
    return matmul(a, b) if isinstance(a, Tensor) or isinstance(b, Tensor) else kernels.matmul(a, b)


def _matmul_vjp_a(g, y, a, b):
    if b.ndim == 1:
        return (g if a.ndim == 1 else g.reshape((*g.shape, 1))) * b
    if a.ndim == 1:
        return _product(b, g.reshape((*g.shape, 1))).reshape((*b.shape[:-2], a.shape[0]))
    return _product(g, _swap(b))


def _matmul_vjp_b(g, y, a, b):
    if a.ndim == 1:
        g = g if b.ndim == 1 else g.reshape((*g.shape[:-1], 1, g.shape[-1]))
        return g * (a if b.ndim == 1 else a.reshape((-1, 1)))
    if b.ndim == 1:
        return _product(_swap(a), g.reshape((*g.shape, 1))).reshape((*a.shape[:-2], b.shape[0]))
    if b.ndim == 2 and a.ndim > 2:  # one product over all rows, instead of one for each matrix of the batch and a sum
        rows = math.prod(a.shape[:-1])
        a, g = a.reshape((rows, a.shape[-1])), g.reshape((rows, g.shape[-1]))
    return _product(_swap(a), g)


@primitive(
    _matmul_vjp_a,
    _matmul_vjp_b,
    linear=True,
    cases=lambda a: [
        (a(3, 4), a(4, 2)), (a(4), a(4)), (a(4), a(4, 2)), (a(3, 4), a(4)), (a(5, 3, 4), a(4, 2)),
        (a(5, 3, 4), a(5, 4, 2)),
        (a(2, 1, 3, 4), a(5, 4, 2)), (a(4), a(5, 4, 2)), (a(5, 3, 4), a(4)), (a(3, 0), a(0, 2)),
    ],
)  # fmt: skip
def matmul(a: Array, b: Array) -> Array:
    """a @ b for vectors, matrices and stacks of matrices, by NumPy's rules."""
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(
            f"matmul: shapes {a.shape} and {b.shape} do not fit; the last axis of the first must be as long as the "
            "last but one of the second"
        )
    return kernels.matmul(a, b)


def _affine_vjp_w(g, ones, x, w, b):
    if isinstance(ones, kernels.Ones):  # never beside a Tensor g: then it is the result
        return kernels.binary_matmul(ones.T, g)
    return _matmul_vjp_b(g, None, x, w)


@primitive(
    lambda g, ones, x, w, b: _product(g, _swap(w)),
    _affine_vjp_w,
    lambda g, ones, x, w, b: g,
    saves=True,
    linear=True,
    cases=lambda a: [
        (a(3, 4), a(4, 2), a(2)), (a(5, 3, 4), a(4, 2), a(2)), (a(4), a(4, 2), a(2)), (a(0, 4), a(4, 2), a(2)),
    ],
)  # fmt: skip
def affine(x: Array, w: Array, b: Array) -> Array:
    """x W + b, fused: x (..., I), W (I, O), b (O,) -> (..., O).

    For a matrix ``x`` of few ones among zeros, such as binary images, rows of W are summed instead.
    """
    if w.ndim != 2 or b.shape != w.shape[1:] or x.ndim == 0 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"affine: x {x.shape}, W {w.shape} and b {b.shape} do not fit; they must be (..., I), (I, O), (O,)"
        )
    ones = _few_ones(x)
    if ones is not None:
        return kernels.binary_matmul(ones, w, bias=b), ones
    return kernels.matmul(x, w, bias=b), None


def _few_ones(x):
    """The ones of ``x``, if it is a matrix of zeros and ones that is worth summing rows for, else None.

    Below 50 rows, or above a quarter of ones, the product is as fast (784 x 500 on AVX2). A look at the first number
    and the first rows spares most other inputs the search, such as what a ReLU gives.
    """
    if x.ndim != 2 or len(x) < 50 or x.size == 0:
        return None
    head = x[:8].view(np.ndarray)
    few = head.item(0) in (0.0, 1.0) and head.sum() < 0.25 * head.size and is_binary(head)
    if not (few if now.tracer is None else now.tracer.decide(few)):
        return None
    try:
        return kernels.Ones(x)
    except ValueError:  # it has other numbers after all
        return None


def _staircase(a):
    mask = np.arange(6)[:, None] <= np.arange(5)
    return {"ranges": kernels.Ranges(mask), "support": {1: mask.astype(float)}}


@primitive(
    lambda g, y, x, w, ranges: masked_matmul(g, _swap(w), ranges=ranges.T),
    lambda g, y, x, w, ranges: masked_weight_gradient(x, g, ranges=ranges),
    linear=True,
    cases=lambda a: [(a(3, 6), a(6, 5), _staircase(a)), (a(2, 3, 6), a(6, 5), _staircase(a))],
)
def masked_matmul(x: Array, w: Array, ranges: kernels.Ranges) -> Array:
    """x W for W (I, O) that is zero under the mask of ``ranges``, skipping the zeros; so is its gradient."""
    return kernels.masked_matmul(x, w, ranges)


@primitive(
    lambda u, v, x, g, ranges: masked_matmul(g, _swap(u * ranges.mask), ranges=ranges.T),
    lambda u, v, x, g, ranges: masked_matmul(x, u * ranges.mask, ranges=ranges),
    linear=True,
    cases=lambda a: [(a(3, 6), a(3, 5), {"ranges": _staircase(a)["ranges"]})],
)
def masked_weight_gradient(x: Array, g: Array, ranges: kernels.Ranges) -> Array:
    """The mask of ``ranges`` times x' g, summed over all rows: the cotangent of a masked W."""
    return kernels.masked_weight_gradient(x, g, ranges)


@primitive(
    lambda g, y, x, w, b, ranges: masked_matmul(g, _swap(w), ranges=ranges.T),
    lambda g, y, x, w, b, ranges: masked_weight_gradient(x, g, ranges=ranges),
    lambda g, y, x, w, b, ranges: g,
    linear=True,
    cases=lambda a: [(a(3, 6), a(6, 5), a(5), _staircase(a)), (a(2, 3, 6), a(6, 5), a(5), _staircase(a))],
)
def masked_affine(x: Array, w: Array, b: Array, ranges: kernels.Ranges) -> Array:
    """x W + b for a layer whose W (I, O) is zero under the mask of ``ranges``, and stays so (MADE, thesis 4.3)."""
    return kernels.masked_matmul(x, w, ranges, bias=b)


def _cases_sparse():
    from scipy.sparse import csr_array

    return csr_array(np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.5], [0.0, 3.0, 1.0]]))


@primitive(
    lambda g, y, w, x: sparse_matmul(g, x=x.T.tocsr()),
    linear=True,
    cases=lambda a: [(a(3, 2), {"x": _cases_sparse()}), (a(3, 0), {"x": _cases_sparse()})],
)
def sparse_matmul(w: Array, x: Any) -> Array:
    """x W for a constant ``x`` (M, I) of ``scipy.sparse`` in compressed rows (CSR), which stays sparse; W (I, O)."""
    if getattr(x, "format", None) != "csr":
        raise TypeError(f"sparse_matmul: x is a {type(x).__name__}; pass a scipy.sparse matrix as x.tocsr()")
    if w.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ValueError(f"sparse_matmul: x {x.shape} and W {w.shape} do not fit; they must be (M, I) and (I, O)")
    return kernels.sparse_matmul(x.data, x.indices, x.indptr, w)


@primitive(
    lambda g, y, x, index, count: getitem(g, index),
    linear=True,
    cases=lambda a: [(a(4, 3), np.array([0, 2, 2, 1]), 3), (a(0, 3), np.zeros(0, np.int64), 2)],
)
def row_sums(x: Array, index: np.ndarray, count: int) -> Array:
    """Sums of the rows of ``x`` (R, N) with the same number in ``index`` (R,), int64: (count, N)."""
    return kernels.row_sums(x, index, count)


@primitive(
    lambda g, y, a, b, i, j: row_sums(g, i, a.shape[0]),
    lambda g, y, a, b, i, j: row_sums(g, j, b.shape[0]),
    linear=True,
    cases=lambda a: [(a(4, 3), a(2, 3), np.array([3, 0, 0]), np.array([1, 0, 1]))],
)
def row_pairs(a: Array, b: Array, i: np.ndarray, j: np.ndarray) -> Array:
    """a[i] + b[j], fused: a (M, N), b (K, N), numbers of rows i and j (R,), int64 -> (R, N)."""
    return kernels.row_pairs(a, b, i, j)


# ------------------------------------------------------------------------------------------------ shapes and indices
@primitive(
    lambda g, y, x, shape: g.reshape(x.shape),
    linear=True,
    cases=lambda a: [(a(3, 4), {"shape": (2, 6)}), (a(3, 4), {"shape": -1}), (a(), {"shape": (1, 1)})],
)
def reshape(x: Array, shape: Shape) -> Array:
    """The same elements in another shape."""
    return np.reshape(x, shape)


@primitive(
    lambda g, y, x, axes=None: transpose(
        g, axes=None if axes is None else tuple(np.argsort(np.asarray(axes) % x.ndim))
    ),
    linear=True,
    cases=lambda a: [(a(3, 4),), (a(2, 3, 4), {"axes": (1, 2, 0)}), (a(2, 3, 4), {"axes": (0, -1, 1)})],
)
def transpose(x: Array, axes: tuple[int, ...] | None = None) -> Array:
    """Axes in another order, by default reversed."""
    return np.transpose(x, axes)


@primitive(
    lambda g, y, x, shape: g,  # the engine undoes every broadcast
    linear=True,
    cases=lambda a: [(a(4), {"shape": (3, 4)}), (a(3, 1), {"shape": (2, 3, 4)}), (a(), {"shape": (2,)})],
)
def broadcast_to(x: Array, shape: Shape) -> Array:
    """``x`` repeated to ``shape``."""
    return np.broadcast_to(x, shape)


def _concatenate_vjp(g, y, *parts, axis=0):
    ends = np.cumsum([part.shape[axis] for part in parts])
    lead = (slice(None),) * (axis % parts[0].ndim)
    return [
        getitem(g, (*lead, slice(int(end) - part.shape[axis], int(end)))) for part, end in zip(parts, ends, strict=True)
    ]


@primitive(
    joint=_concatenate_vjp,
    linear=True,
    reads=False,
    cases=lambda a: [(a(3, 4), a(2, 4)), (a(3, 4), a(3, 1), a(3, 2), {"axis": -1}), (a(3, 4), a(3, 0), {"axis": 1})],
)
def _concatenate(*parts, axis=0):
    return np.concatenate(parts, axis)


def concatenate(parts: Sequence[Array], axis: int | None = 0) -> Array:
    """The arrays ``parts`` joined along ``axis``; the elements of all of them in a row, if it is None."""
    if axis is None:
        parts, axis = [reshape(part, shape=-1) for part in parts], 0
    return _concatenate(*parts, axis=axis)


def stack(parts: Sequence[Array], axis: int = 0) -> Array:
    """The arrays ``parts``, of equal shapes, along a new ``axis``."""
    parts = list(parts)
    axis = normalize_axis_index(axis, len(np.shape(parts[0])) + 1)
    return concatenate([reshape(p, (*np.shape(p)[:axis], 1, *np.shape(p)[axis:])) for p in parts], axis)


def _is_basic(index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, slice, np.integer)) for part in parts)


@primitive(
    lambda g, y, x, index, shape: getitem(g, index),
    linear=True,
    cases=lambda a: [(a(2, 4), slice(1, 3), (5, 4)), (a(4), np.array([0, 2, 2, 1]), (3,))],
)
def _add_at(x, index, shape):
    """Zeros of ``shape`` to which ``x`` is added at ``index``, repeated indices each time: getitem's transpose."""
    out = zeros(shape, x.dtype)
    if _is_basic(index):
        out[index] = x
    else:
        np.add.at(out, index, x)
    return out


@primitive(
    lambda g, y, x, index: _add_at(g, index, x.shape),
    linear=True,
    cases=lambda a: [
        (a(5, 4), slice(1, 3)), (a(5, 4), (slice(None, None, -2), 1)), (a(5, 4), (..., None, 0)),
        (a(5, 4), np.array([0, 2, 2, -1])), (a(5, 4), (np.array([[0], [2]]), np.array([1, 1, 3]))),
        (a(3, 4), np.arange(12).reshape(3, 4) % 3 == 0),
    ],
)  # fmt: skip
def getitem(x: Array, index: Any) -> Array:
    """x[index] for slices, integers, integer and boolean arrays; repeated indices accumulate in the gradient."""
    return take(x, index)


def _inverse(order, n):
    """The order that undoes ``order``, a permutation of ``n``, whose entries may count from the end."""
    inverse = np.full(n, -1)
    inverse[order] = np.arange(np.size(order))
    if np.shape(order) != (n,) or (inverse < 0).any():
        raise ValueError(
            f"permute: an order of shape {np.shape(order)} is no permutation of {n}; for a choice with repetitions "
            "use x[..., index]"
        )
    return inverse


@primitive(
    lambda g, y, x, order, axis=-1: permute(g, order=_inverse(order, x.shape[axis]), axis=axis),
    linear=True,
    cases=lambda a: [
        (a(3, 4), {"order": np.array([2, 0, 3, 1])}),
        (a(3, 4), {"order": np.array([1, 2, 0]), "axis": 0}),
    ],
)
def permute(x: Array, order: np.ndarray, axis: int = -1) -> Array:
    """Element i along ``axis`` is element ``order[i]`` of ``x``; ``order`` is a permutation."""
    return np.take(x, order, axis)


def upsample2d(x: Array, factor: Shape = 2) -> Array:
    """Each pixel repeated: (B, H, W, C) -> (B, H factor, W factor, C), nearest neighbours.

    Raises:
        ValueError: no images.
    """
    if x.ndim != 4:
        raise ValueError(f"upsample2d: an array of {x.shape}; pass images (B, H, W, C), channels last")
    (images, height, width, channels), (down, right) = x.shape, (factor, factor) if np.ndim(factor) == 0 else factor
    spread = broadcast_to(
        reshape(x, shape=(images, height, 1, width, 1, channels)),
        shape=(images, height, down, width, right, channels),
    )
    return reshape(spread, shape=(images, height * down, width * right, channels))


def diagonal(x: Array, offset: int = 0) -> Array:
    """The diagonal of the last two axes."""
    rows, columns = x.shape[-2:]
    i = np.arange(builtins.max(0, -offset), builtins.max(0, builtins.min(rows, columns - offset)))
    return getitem(x, (..., i, i + offset))


@primitive(
    lambda g, y, x, k=0: tril(g, k=k),
    linear=True,
    cases=lambda a: [(a(4, 4),), (a(2, 3, 4), {"k": -1}), (a(3, 3), {"k": 1})],
)
def tril(x: Array, k: int = 0) -> Array:
    """The lower triangle of the last two axes, up to the ``k``-th diagonal; zeros above."""
    return np.tril(x, k)


# ------------------------------------------------------------------------------------------------------- choices
@primitive(
    None,
    lambda g, y, mask, a, b: g * _truth(_raw(mask)),
    lambda g, y, mask, a, b: g * ~_truth(_raw(mask)),
    linear=True,
    cases=lambda a: [(a(3, 4) > 0, a(3, 4), a(4)), (a(4) > 0, a(3, 1), a(3, 4))],
)
def where(mask: Array, a: Array, b: Array) -> Array:
    """``a`` where ``mask`` holds (is true, or not 0), else ``b``; the cotangent of what was not chosen is 0."""
    return np.where(_truth(mask), a, b)


@primitive(
    lambda g, y, x, low=None, high=None: g * (_raw(x) == _raw(y)),
    cases=lambda a: [(a(3, 4), {"low": -1.03, "high": 0.98}), (a(3, 4), {"high": 0.77})],
)
def clip(x: Array, low: float | None = None, high: float | None = None) -> Array:
    """``x`` kept within the numbers ``low`` and ``high``; slope 1 within and at the bounds, 0 outside."""
    return np.clip(x, low, high)


def _wins(this, other, y):
    """1 where ``this`` is the result ``y`` alone, 1/2 at a tie, else 0."""
    this, other, y = _raw(this), _raw(other), _raw(y)
    return ((this == y) / (1.0 + (this == other))).astype(y.dtype)


@primitive(lambda g, y, a, b: g * _wins(a, b, y), lambda g, y, a, b: g * _wins(b, a, y), cases=_cases_of_pairs)
def maximum(a: Array, b: Array) -> Array:
    """The larger of a and b, element by element; a tie shares the cotangent."""
    return np.maximum(a, b)


@primitive(lambda g, y, a, b: g * _wins(a, b, y), lambda g, y, a, b: g * _wins(b, a, y), cases=_cases_of_pairs)
def minimum(a: Array, b: Array) -> Array:
    """The smaller of a and b, element by element; a tie shares the cotangent."""
    return np.minimum(a, b)


# ------------------------------------------------------------------------- fused densities, in nats, over the last axis
@primitive(
    lambda g, residual, x, logits: g[..., None] * logits,
    lambda g, residual, x, logits: kernels.scale_rows(residual, g),
    saves=True,
    composed=lambda x, logits: sum(x * logits - softplus(logits), axis=-1),
    cases=lambda a: [(a(3, 4, low=0.1, high=0.9), a(3, 4)), (a(2, 3, low=0.1, high=0.9), a(5, 2, 3)), (a(3), a(0, 3))],
)
def bernoulli_log_prob(x: Array, logits: Array) -> Array:
    """sum_d x_d log p_d + (1 - x_d) log(1 - p_d) with p = sigmoid(logits), in nats (thesis eq. 1.18).

    Shapes: ``x`` and ``logits`` (..., D), broadcast against each other -> (...).
    """
    return kernels.bernoulli_log_prob(x, logits)


@primitive(
    joint=lambda g, y, x, mu, log_sigma: kernels.gaussian_log_prob_vjp(g, x, mu, log_sigma),
    composed=lambda x, mu, log_sigma: sum(
        -0.5 * LOG_2PI - log_sigma - 0.5 * square((x - mu) * exp(-log_sigma)), axis=-1
    ),
    cases=lambda a: [
        (a(3, 4), a(3, 4), a(3, 4)),
        (a(5, 3, 4), a(3, 4), a(4)),
        (a(2, 1, 4), a(3, 1), a(4)),
        (a(0, 4), a(4), a(4)),
    ],
)
def gaussian_log_prob(x: Array, mu: Array, log_sigma: Array) -> Array:
    """log N(x; mu, diag(sigma^2)) in nats, the constant included (thesis eq. 2.37).

    Shapes: all (..., D), broadcast against each other -> (...).
    """
    return kernels.gaussian_log_prob(x, mu, log_sigma)


@primitive(
    joint=lambda g, y, mu, log_sigma: kernels.gaussian_kl_vjp(g, mu, log_sigma),
    composed=lambda mu, log_sigma: sum(0.5 * (square(mu) + exp(2.0 * log_sigma) - 1.0) - log_sigma, axis=-1),
    cases=lambda a: [(a(3, 4), a(3, 4)), (a(5, 3, 4), a(4)), (a(0, 4), a(0, 4))],
)
def gaussian_kl(mu: Array, log_sigma: Array) -> Array:
    """KL(N(mu, diag(sigma^2)) || N(0, I)) in nats (thesis appendix 2.A).

    Shapes: both (..., D) -> (...).
    """
    return kernels.gaussian_kl(mu, log_sigma)


@primitive(
    lambda g, y, mu, log_sigma, eps: g,
    lambda g, y, mu, log_sigma, eps: kernels.gaussian_sample_vjp(g, log_sigma, eps),
    lambda g, y, mu, log_sigma, eps: g * exp(log_sigma),
    composed=lambda mu, log_sigma, eps: mu + exp(log_sigma) * eps,
    cases=lambda a: [(a(3, 4), a(3, 4), a(3, 4)), (a(3, 4), a(3, 4), a(5, 3, 4)), (a(4), a(4), a(0, 4))],
)
def gaussian_sample(mu: Array, log_sigma: Array, eps: Array) -> Array:
    """mu + sigma * eps, the reparameterised sample (thesis eq. 2.40); shapes (..., D), broadcast."""
    return kernels.gaussian_sample(mu, log_sigma, eps)


def _positive(variance):
    """The square root, whose slope is taken as 0 where it is infinite."""
    here = _raw(variance) > 0
    return where(here, sqrt(where(here, variance, 1.0)), 0.0)


@primitive(
    lambda g, y, mean, variance, eps: g,
    lambda g, y, mean, variance, eps: kernels.local_sample_vjp(g, variance, eps),
    lambda g, y, mean, variance, eps: g * np.sqrt(variance),
    composed=lambda mean, variance, eps: mean + _positive(variance) * eps,
    cases=lambda a: [
        (a(3, 4), a(3, 4, low=0.2, high=3.0), a(3, 4)), (a(3, 4), a(3, 4, low=0.2), a(5, 3, 4)),
        (a(4), a(4, low=0.2), a(0, 4)),
    ],
)  # fmt: skip
def local_sample(mean: Array, variance: Array, eps: Array) -> Array:
    """mean + sqrt(variance) * eps, a sample of a layer's outputs (thesis section 6.2.3); shapes (..., D), broadcast.

    Where the variance is 0, so is its cotangent: there all that it is made of is 0 too.
    """
    return kernels.local_sample(mean, variance, eps)


# ------------------------------------------------------------------------------------- the operators of Tensor
def _install() -> None:
    for name, f in {
        "add": add,
        "sub": subtract,
        "mul": multiply,
        "truediv": divide,
        "pow": power,
        "matmul": matmul,
    }.items():
        setattr(Tensor, f"__{name}__", lambda a, b, f=f: f(a, b))
        setattr(Tensor, f"__r{name}__", lambda a, b, f=f: f(b, a))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):  # comparisons are constants: plain boolean arrays
        compare = getattr(np.ndarray, f"__{name}__")
        setattr(Tensor, f"__{name}__", lambda a, b, compare=compare: compare(a._data, _raw(b)))
    Tensor.__neg__ = lambda a: negative(a)
    Tensor.__abs__ = lambda a: abs(a)
    Tensor.__getitem__ = lambda a, index: getitem(a, index)
    Tensor.sum = lambda a, axis=None, keepdims=False: sum(a, axis=axis, keepdims=keepdims)
    Tensor.mean = lambda a, axis=None, keepdims=False: mean(a, axis=axis, keepdims=keepdims)
    Tensor.max = lambda a, axis=None, keepdims=False: max(a, axis=axis, keepdims=keepdims)
    Tensor.reshape = lambda a, *shape: reshape(a, shape=shape[0] if len(shape) == 1 else shape)
    Tensor.transpose = lambda a, *axes: transpose(a, axes=axes or None)
    Tensor.T = property(lambda a: transpose(a))


_install()
