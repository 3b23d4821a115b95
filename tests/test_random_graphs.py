"""Random expression graphs over every primitive, against forward-mode differentiation of plain NumPy, and PyTorch.

A program is a list of instructions over scalars, vectors and matrices: each uses up to three earlier values, or
constants, and every value enters the result one to five times. The engine runs it with the primitives; the two
references run it with the formulas of ``FORMULAS``, which are written with +, *, /, exp, log, sum, matrix products and
choices of elements alone: on hyper-dual numbers, whose product rule is exact, and on PyTorch's tensors.
"""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivi import kernels
from minivi.tensor import PRIMITIVES, Tensor, grad

MASK = np.arange(3)[:, None] <= np.arange(2)
FLOAT = np.dtype(float)
SPARSE = np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.5], [0.0, 3.0, 1.0]])


# ------------------------------------------------------------------------------------------------ the two references
class Hyper:
    """a + b e1 + c e2 + d e1 e2 with e1^2 = e2^2 = 0: a value, its slopes along two directions, and the curvature."""

    __array_ufunc__ = None

    def __init__(self, *parts):
        self.parts = [np.asarray(part) for part in parts]

    value = property(lambda self: self.parts[0])
    shape = property(lambda self: np.broadcast_shapes(*(part.shape for part in self.parts)))

    @staticmethod
    def constant(x):
        return Hyper(np.asarray(x, float), 0.0, 0.0, 0.0)

    def linear(self, f):
        return Hyper(*(f(np.broadcast_to(part, self.shape)) for part in self.parts))

    def product(self, other, f=np.multiply):
        (a, b, c, d), (p, q, r, s) = ([np.broadcast_to(t, x.shape) for t in x.parts] for x in (self, other))
        return Hyper(f(a, p), f(a, q) + f(b, p), f(a, r) + f(c, p), f(a, s) + f(b, r) + f(c, q) + f(d, p))

    def function(self, f, slope, curvature):
        _, b, c, d = self.parts
        return Hyper(f, slope * b, slope * c, slope * d + curvature * b * c)

    def __add__(self, other):
        return Hyper(*(a + b for a, b in zip(self.parts, _hyper(other).parts, strict=True)))

    def __mul__(self, other):
        return self.product(_hyper(other))

    def __rtruediv__(self, other):
        a = self.value
        return self.function(1.0 / a, -1.0 / a**2, 2.0 / a**3) * other

    def __truediv__(self, other):
        return self * (1.0 / _hyper(other))

    def __matmul__(self, other):
        return self.product(_hyper(other), np.matmul)

    def __rmatmul__(self, other):
        return _hyper(other) @ self

    def __sub__(self, other):
        return self + -1.0 * _hyper(other)

    def __rsub__(self, other):
        return -1.0 * self + other

    __radd__, __rmul__ = __add__, __mul__

    def exp(self):
        e = np.exp(self.value)
        return self.function(e, e, e)

    def log(self):
        a = self.value
        return self.function(np.log(a), 1.0 / a, -1.0 / a**2)

    def sum(self, axis=None, keepdims=False):
        return self.linear(lambda part: part.sum(axis=axis, keepdims=keepdims))

    def pick(self, index):
        """The elements number ``index``, in its shape."""
        return self.linear(lambda part: part.ravel()[index])

    @staticmethod
    def row(parts):
        """All elements in a row."""
        return Hyper(*(np.concatenate([np.broadcast_to(x.parts[k], x.shape).ravel() for x in parts]) for k in range(4)))


def _hyper(x):
    return x if isinstance(x, Hyper) else Hyper.constant(x)


class Torch:
    """The same few operations of a PyTorch tensor."""

    __array_ufunc__ = None

    def __init__(self, tensor):
        self.tensor = tensor

    value = property(lambda self: self.tensor.detach().numpy())
    shape = property(lambda self: tuple(self.tensor.shape))

    @staticmethod
    def constant(x):
        import torch

        return Torch(torch.tensor(np.asarray(x, float)))

    def _with(self, other, f):
        other = other if isinstance(other, Torch) else Torch.constant(other)
        return Torch(f(self.tensor, other.tensor))

    __add__ = __radd__ = lambda self, other: self._with(other, lambda a, b: a + b)
    __mul__ = __rmul__ = lambda self, other: self._with(other, lambda a, b: a * b)
    __sub__ = lambda self, other: self._with(other, lambda a, b: a - b)
    __rsub__ = lambda self, other: self._with(other, lambda a, b: b - a)
    __truediv__ = lambda self, other: self._with(other, lambda a, b: a / b)
    __rtruediv__ = lambda self, other: self._with(other, lambda a, b: b / a)
    __matmul__ = lambda self, other: self._with(other, lambda a, b: a @ b)
    __rmatmul__ = lambda self, other: self._with(other, lambda a, b: b @ a)
    exp = lambda self: Torch(self.tensor.exp())
    log = lambda self: Torch(self.tensor.log())

    def sum(self, axis=None, keepdims=False):
        axis = tuple(range(self.tensor.ndim)) if axis is None else axis
        return Torch(self.tensor.sum(axis, keepdim=keepdims) if self.tensor.ndim else self.tensor)

    def pick(self, index):
        import torch

        return Torch(self.tensor.reshape(-1)[torch.tensor(np.array(index))])

    @staticmethod
    def row(parts):
        import torch

        return Torch(torch.cat([x.tensor.reshape(-1) for x in parts]))


# ------------------------------------------------------------------------------------------------ every primitive
def _rearranged(f):
    """A choice of elements, by what ``f`` makes of their numbers."""
    return lambda x, *args, **kw: x.pick(f(np.arange(int(np.prod(x.shape))).reshape(x.shape), *args, **kw))


def _concatenate(*parts, axis):
    sizes = [int(np.prod(part.shape)) for part in parts]
    starts = np.cumsum([0, *sizes])
    numbers = [np.arange(n).reshape(part.shape) + s for n, s, part in zip(sizes, starts, parts, strict=False)]
    return type(parts[0]).row(parts).pick(np.concatenate(numbers, axis))


def _add_at(x, index, shape):
    places = np.arange(np.prod(shape)).reshape(shape)[index].ravel()
    matrix = np.zeros((int(np.prod(shape)), places.size))
    matrix[places, np.arange(places.size)] = 1.0
    out = matrix @ x.pick(np.arange(places.size))
    return out.pick(np.arange(np.prod(shape)).reshape(shape))


def _cumsum(x, axis, reverse):
    if axis is None:
        x = x.pick(np.arange(int(np.prod(x.shape))))
    n = x.shape[-1]
    return x @ (np.tri(n) if reverse else np.tri(n).T)


def _max(x, axis=None, keepdims=False):
    ties = (x.value == x.value.max(axis=axis, keepdims=True)).astype(float)
    return (x * (ties / ties.sum(axis=axis, keepdims=True))).sum(axis, keepdims)


def _share(this, other):
    return (this.value > other.value) + 0.5 * (this.value == other.value)


def _clip(x, low, high):
    inside = (x.value >= low) & (x.value <= high)
    return x * inside + np.clip(x.value, low, high) * ~inside


def _log_sum_exp(x, axis=-1, keepdims=False):
    return x.exp().sum(axis, keepdims).log()


_sigmoid = lambda x: 1.0 / (1.0 + (-1.0 * x).exp())
_softplus = lambda x: (1.0 + x.exp()).log()
_log_normal = lambda x, mu, s: -0.5 * np.log(2 * np.pi) - s - 0.5 * ((x - mu) / s.exp()) * ((x - mu) / s.exp())


def _normal_cdf(x):
    """1/2 + density(x) (x + x^3 / 3 + x^5 / (3 5) + ...), enough terms for |x| <= 3."""
    term = total = x
    for k in range(3, 81, 2):
        term = term * x * x * (1.0 / k)
        total = total + term
    return 0.5 + (-0.5 * x * x).exp() * total * (1.0 / np.sqrt(2.0 * np.pi))


TAPS = 2, 2, 1, 2  # of the convolutions' kernel: height, width, channels, outputs
PADDING = (1, 0), (0, 1)


def _flat(x):
    return x.pick(np.arange(int(np.prod(x.shape))))


def _patch_matrix(height, width, stride):
    """Which pixel of an image stands where in its patches, rows by output and tap; and height and width of outputs."""
    rows, columns = (height + 1 - 2) // stride + 1, (width + 1 - 2) // stride + 1
    matrix = np.zeros((rows, columns, 2, 2, height, width))
    for i, j, ky, kx in np.ndindex(rows, columns, 2, 2):
        y, x = i * stride + ky - 1, j * stride + kx
        if 0 <= y < height and 0 <= x < width:
            matrix[i, j, ky, kx, y, x] = 1.0
    return matrix.reshape(rows * columns * 4, height * width), (1, rows, columns)


def _as(x, *shape):
    return x.pick(np.arange(int(np.prod(shape))).reshape(shape))


def _conv2d(x, w, b, stride, padding):
    matrix, shape = _patch_matrix(*x.shape[1:3], stride)
    return _as(_as(matrix @ _flat(x), len(matrix) // 4, 4) @ _as(w, 4, 2) + b, *shape, 2)


def _conv2d_transposed(g, w, b, stride, padding, size):
    matrix, _ = _patch_matrix(*size, stride)
    patches = _as(g, len(matrix) // 4, 2) @ _rearranged(np.transpose)(_as(w, 4, 2))
    return _as(matrix.T @ _flat(patches), 1, *size, 1) + b


def _conv2d_weight_gradient(x, g, stride, padding, size):
    matrix, _ = _patch_matrix(*x.shape[1:3], stride)
    patches = _as(matrix @ _flat(x), len(matrix) // 4, 4)
    return _as(_rearranged(np.transpose)(patches) @ _as(g, len(matrix) // 4, 2), *TAPS)


def _window(which):
    """The pixel of a (1, 2, 4, 1) image at each tap of its two windows of 2x2."""
    return np.array([[[[4 * (tap // 2) + 2 * j + tap % 2] for j, tap in enumerate(which.ravel().astype(int))]]])


def _max_pool2d(x, size):
    return x.pick(_window(np.array([x.value[0, :, 2 * j : 2 * j + 2, 0].argmax() for j in range(2)])))


_mean = lambda x, axis=None, keepdims=False: (lambda s: s * (np.prod(s.shape) / np.prod(x.shape)))(
    x.sum(axis, keepdims)
)

FORMULAS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: (b * a.log()).exp(),
    "negative": lambda a: -1.0 * a,
    "square": lambda x: x * x,
    "sqrt": lambda x: (0.5 * x.log()).exp(),
    "abs": lambda x: x * np.sign(x.value),
    "exp": lambda x: x.exp(),
    "log": lambda x: x.log(),
    "log1p": lambda x: (1.0 + x).log(),
    "log1m_exp": lambda x: (1.0 - (-1.0 * x).exp()).log(),
    "tanh": lambda x: 1.0 - 2.0 / ((2.0 * x).exp() + 1.0),
    "tanh_vjp": lambda g, y: g * (1.0 - y * y),
    "sigmoid": _sigmoid,
    "sigmoid_vjp": lambda g, y: g * y * (1.0 - y),
    "softplus": _softplus,
    "normal_cdf": _normal_cdf,
    "softplus_vjp": lambda g, x: g * _sigmoid(x),
    "relu": lambda x: x * (x.value > 0),
    "relu_vjp": lambda g, y: g * (y.value > 0),
    "elu": lambda x: x * (x.value >= 0) + ((x * (x.value < 0)).exp() - 1.0),
    "elu_vjp": lambda g, y: g * (1.0 + y * (y.value < 0)),
    "sum": lambda x, axis=None, keepdims=False: x.sum(axis, keepdims),
    "mean": _mean,
    "max": _max,
    "log_sum_exp": _log_sum_exp,
    "log_softmax": lambda x: x - _log_sum_exp(x, -1, True),
    "cumsum": _cumsum,
    "matmul": lambda a, b: a @ b,
    "affine": lambda x, w, b: x @ w + b,
    "masked_matmul": lambda x, w, ranges: x @ (w * MASK),
    "masked_affine": lambda x, w, b, ranges: x @ (w * MASK) + b,
    "masked_weight_gradient": lambda x, g, ranges: (_rearranged(np.transpose)(x) @ g) * MASK,
    "sparse_matmul": lambda w, x: SPARSE @ w,
    "reshape": _rearranged(np.reshape),
    "transpose": _rearranged(np.transpose),
    "broadcast_to": _rearranged(np.broadcast_to),
    "_concatenate": _concatenate,
    "getitem": _rearranged(lambda numbers, index: numbers[index]),
    "_add_at": _add_at,
    "row_sums": lambda x, index, count: _add_at(x, index, (count, x.shape[1])),
    "row_pairs": lambda a, b, i, j: (
        _rearranged(lambda numbers: numbers[i])(a) + _rearranged(lambda numbers: numbers[j])(b)
    ),
    "permute": _rearranged(lambda numbers, order, axis: np.take(numbers, order, axis)),
    "tril": lambda x, k: x * np.tri(*x.shape[-2:], k),
    "where": lambda mask, a, b: a * (mask != 0) + b * (mask == 0),
    "clip": _clip,
    "maximum": lambda a, b: a * _share(a, b) + b * _share(b, a),
    "minimum": lambda a, b: a * _share(b, a) + b * _share(a, b),
    "bernoulli_log_prob": lambda x, logits: (x * logits - _softplus(logits)).sum(-1),
    "gaussian_log_prob": lambda x, mu, log_sigma: _log_normal(x, mu, log_sigma).sum(-1),
    "gaussian_kl": lambda mu, s: (0.5 * (mu * mu + (2.0 * s).exp() - 1.0) - s).sum(-1),
    "gaussian_sample": lambda mu, log_sigma, eps: mu + log_sigma.exp() * eps,
    "local_sample": lambda mean, variance, eps: mean + (0.5 * variance.log()).exp() * eps,
    "conv2d": _conv2d,
    "conv2d_transposed": _conv2d_transposed,
    "conv2d_weight_gradient": _conv2d_weight_gradient,
    "max_pool2d": _max_pool2d,
    "max_pool2d_take": lambda u, which, size: u.pick(_window(which.value)),
    "max_pool2d_transposed": lambda g, which, size, to: _add_at(
        g, np.unravel_index(_window(which.value).ravel(), (1, 2, 4, 1)), (1, 2, 4, 1)
    ),
}


# ------------------------------------------------------------------------------------------------ random programs
class Program:
    """Instructions (primitive, arguments, keywords); an argument is the number of an earlier value, or a constant."""

    def __init__(self, random):
        self.random = random
        noise = np.random.default_rng(random.getrandbits(32))
        self.leaves = [noise.uniform(-1.5, 1.5, shape) for shape in ((), (3,), (2, 3))]
        self.values = list(self.leaves)
        self.instructions = []
        self.constants = False  # whether the next argument may be one

    def emit(self, name, *args, **keywords):
        arrays = [self.values[a] if isinstance(a, int) else a for a in args]
        self.values.append(np.asarray(PRIMITIVES[name](*arrays, **keywords)))
        self.instructions.append((name, args, keywords))
        return len(self.values) - 1

    def node(self, low=-3.0, high=3.0, shape=None):
        """Some value, of numbers within the domain, and of a shape; now and then a constant."""
        i = self.random.randrange(len(self.values))
        if self.values[i].size > 12 or (shape is not None and self.values[i].shape != shape):
            shape = (3,) if shape is None else shape
            places = np.arange(int(np.prod(shape))).reshape(shape) % self.values[i].size
            i = self.emit("getitem", self.emit("reshape", i, shape=-1), places)
        x = self.values[i]
        if x.size and not (x.min() > low and x.max() < high):
            i = self.emit("multiply", self.emit("tanh", i), 0.45 * (high - low))
            i = self.emit("add", 0.5 * (high + low), i)
        constant, self.constants = self.constants and self.random.random() < 0.25, True
        return self.values[i].copy() if constant else i

    def shape(self, a):
        return self.values[a].shape if isinstance(a, int) else a.shape

    def apply(self, name):
        """One primitive of random values, the first of them no constant."""
        self.constants = False
        random = self.random
        choice, node = random.choice, self.node
        keywords = {}
        if name in ("log", "sqrt", "log1m_exp"):
            args = [node(0.2)]
        elif name.startswith("conv2d"):
            stride = choice([1, 2])
            image, taps, small = (1, 2, 3, 1), TAPS, ((1, 2, 3, 2) if stride == 1 else (1, 1, 2, 2))
            shapes, size = {
                "conv2d": ([image, taps, (2,)], {}),
                "conv2d_transposed": ([small, taps, (1,)], {"size": (2, 3)}),
                "conv2d_weight_gradient": ([image, small], {"size": (2, 2)}),
            }[name]
            args = [node(shape=shape) for shape in shapes]
            keywords = {"stride": stride, "padding": PADDING, **size}
        elif name == "max_pool2d":
            args, keywords = [node(shape=(1, 2, 4, 1))], {"size": 2}
        elif name == "max_pool2d_take":
            args, keywords = [node(shape=(1, 2, 4, 1)), np.array([3.0, 1.0]).reshape(1, 1, 2, 1)], {"size": 2}
        elif name == "max_pool2d_transposed":
            args = [node(shape=(1, 1, 2, 1)), np.array([3.0, 1.0]).reshape(1, 1, 2, 1)]
            keywords = {"size": 2, "to": (2, 4)}
        elif name == "log1p":
            args = [node(-0.7)]
        elif name == "normal_cdf":
            args = [node(-3.0, 3.0)]
        elif name in ("sum", "mean", "max", "log_sum_exp"):
            args = [node()]
            axes = [None, -1, np.int64(0), (0, 1), (-1,)]
            axis = choice(axes[: 1 + 2 * len(self.shape(args[0]))])
            keywords = {"axis": axis, "keepdims": choice([True, False])}
        elif name == "log_softmax":
            args = [node(shape=choice([(3,), (2, 3)]))]
        elif name == "cumsum":
            args = [node(shape=choice([(3,), (2, 3)]))]
            keywords = {"axis": choice([-1, None]), "reverse": choice([True, False])}
        elif name == "matmul":
            args = [node(shape=s) for s in choice([((3,), (3,)), ((2, 3), (3,)), ((2,), (2, 3)), ((2, 3), (3, 2))])]
        elif name == "affine":
            args = [node(shape=(2, 3)), node(shape=(3, 2)), node(shape=(2,))]
        elif name in ("masked_matmul", "masked_affine"):
            # the engine's weights are zero under the mask: a product with it comes first
            args = [node(shape=(2, 3)), self.emit("multiply", node(shape=(3, 2)), MASK.astype(float))]
            args += [node(shape=(2,))] * (name == "masked_affine")
            keywords = {"ranges": kernels.Ranges(MASK)}
        elif name == "masked_weight_gradient":
            args, keywords = [node(shape=(2, 3)), node(shape=(2, 2))], {"ranges": kernels.Ranges(MASK)}
        elif name == "sparse_matmul":
            from scipy.sparse import csr_array

            args, keywords = [node(shape=(3, 2))], {"x": csr_array(SPARSE)}
        elif name == "reshape":
            args, keywords = [node(shape=(2, 3))], {"shape": choice([-1, (3, 2), (6, 1), (1, 2, 3)])}
        elif name == "transpose":
            args, keywords = [node(shape=(2, 3))], {"axes": choice([None, (1, 0), (0, -1)])}
        elif name == "broadcast_to":
            args = [node(shape=choice([(), (3,), (1, 3), (2, 1)]))]
            keywords = {"shape": (2, 3)}
        elif name == "_concatenate":
            shapes, axis = choice([([(3,), (2,), (3,)], 0), ([(2, 3), (1, 3)], 0), ([(2, 3), (2, 1)], -1)])
            args, keywords = [node(shape=shape) for shape in shapes], {"axis": axis}
        elif name == "getitem":
            indices = [(0,), slice(None, None, -1), (..., None), np.array([1, 0, 1]), np.array([True, False])]
            args = [node(shape=(2, 3)), choice(indices)]
        elif name == "_add_at":
            index, shape = choice([(slice(1, 3), (2, 3)), (np.array([3, 0]), (2, 3)), (np.array([1, 1, 1]), (3, 3))])
            args = [node(shape=shape), index, (4, 3)]
        elif name == "row_sums":
            args, keywords = [node(shape=(2, 3)), np.array(choice([[0, 2], [1, 1]]))], {"count": 3}
        elif name == "row_pairs":
            args = [node(shape=(2, 3)), node(shape=(3, 3)), np.array([1, 0, 1]), np.array([2, 2, 0])]
        elif name == "permute":
            args, keywords = (
                [node(shape=(2, 3))],
                choice([{"order": np.array([2, 0, 1]), "axis": -1}, {"order": [-1, 0], "axis": 0}]),
            )
        elif name == "tril":
            args, keywords = [node(shape=choice([(2, 3), (3, 3)]))], {"k": choice([-1, 0, 1])}
        elif name == "where":
            a, b = (node(shape=choice([(), (3,), (2, 3)])) for _ in range(2))
            args = [np.arange(6).reshape(2, 3) % choice([2, 3]), a, b]
        elif name == "clip":
            args, keywords = [node()], {"low": -0.6, "high": 0.7}
        elif name in ("bernoulli_log_prob", "gaussian_kl"):
            shape = choice([(3,), (2, 3)])
            args = [node(0.0 if name[0] == "b" else -3.0, 1.0, shape), node(-2.0, 2.0, shape=choice([(3,), shape]))]
        elif name in ("gaussian_log_prob", "gaussian_sample"):
            args = [node(-2.0, 2.0, shape) for shape in ((2, 3), choice([(3,), (2, 3)]), choice([(2, 1), (2, 3)]))]
        elif name == "local_sample":
            args = [
                node(shape=choice([(3,), (2, 3)])),
                node(0.2, 3.0, shape=(2, 3)),
                node(shape=choice([(3,), (2, 3)])),
            ]
        elif name.endswith("_vjp"):
            shape = choice([(), (3,), (2, 3)])
            args = [node(shape=shape), node(-0.9, 3.0, shape)]
        elif name in TWO:
            args = [node(*domain) for domain in TWO[name]]
            try:
                np.broadcast_shapes(*map(self.shape, args))
            except ValueError:
                args = [node(*domain, shape=(2, 3)) for domain in TWO[name]]
        else:
            args = [node()]
        self.emit(name, *args, **keywords)

    def finish(self):
        """The result: every value's weighted sum, one to five times over."""
        total = None
        for i in range(len(self.values)):
            weights = np.sin(1.0 + i + np.arange(self.values[i].size)).reshape(self.values[i].shape)
            for _ in range(self.random.randint(1, 5)):
                term = self.emit("sum", self.emit("multiply", weights, i))
                total = term if total is None else self.emit("add", total, term)
        # and twice into something curved, so that every pair of values has a second derivative
        square = self.emit("multiply", total, total)
        self.emit("add", self.emit("multiply", 1e-3, square), total)
        return self

    def run(self, functions, leaves, constant=lambda array: array):
        """The result by other functions, of other leaves."""
        values = list(leaves)
        for name, args, keywords in self.instructions:
            given = [
                values[a] if isinstance(a, int) else constant(a) if getattr(a, "dtype", None) is FLOAT else a
                for a in args
            ]
            values.append(functions[name](*given, **keywords))
        return values[-1]


WIDE, NONZERO = (-3.0, 3.0), (0.5, 3.0)
TWO = {
    **dict.fromkeys(("add", "subtract", "multiply", "maximum", "minimum"), (WIDE, WIDE)),
    "divide": (WIDE, NONZERO),
    "power": (NONZERO, (-2.0, 2.0)),
}


def some_program(random, names):
    program = Program(random)
    for name in names:
        program.apply(name)
    return program.finish()


def agree(found, expected, terms):
    """To 1e-10 of the sum of the absolute terms, which bounds what rounding can do."""
    scale = sum(np.abs(term).sum() for term in terms)
    assert abs(found - expected) <= 1e-10 * scale, f"{found} instead of {expected} (scale {scale})"


def check(program, seed):
    noise = np.random.default_rng(seed)
    v, w = ([noise.standard_normal(x.shape) for x in program.leaves] for _ in range(2))
    hyper = [Hyper(x, a, b, np.zeros(x.shape)) for x, a, b in zip(program.leaves, v, w, strict=True)]
    value, along_v, along_w, curvature = (float(p) for p in program.run(FORMULAS, hyper, Hyper.constant).parts)
    leaves = [Tensor(x) for x in program.leaves]
    y = program.run(PRIMITIVES, leaves)
    assert y.item() == pytest.approx(value, rel=1e-11)
    first = grad(y, leaves)
    assert all(type(g) is np.ndarray and g.shape == x.shape for g, x in zip(first, leaves, strict=True))
    for direction, expected in ((v, along_v), (w, along_w)):
        terms = [g * d for g, d in zip(first, direction, strict=True)]
        agree(sum(term.sum() for term in terms), expected, terms)
    recorded = grad(y, leaves, differentiable=True)
    for g, h in zip(first, recorded, strict=True):
        np.testing.assert_allclose(g, h.data, rtol=1e-10, atol=1e-10 * np.abs(g).max())
    slope = sum((g * d).sum() for g, d in zip(recorded, v, strict=True))
    terms = [g * d for g, d in zip(grad(slope, leaves), w, strict=True)]
    agree(sum(term.sum() for term in terms), curvature, terms)


def test_every_primitive_has_a_formula():
    assert set(FORMULAS) == set(PRIMITIVES)


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_graphs_around_each_primitive(name):
    """Before and after others, and of its own result."""
    for seed in range(4):
        about = random.Random(f"{name} {seed}")
        others = [about.choice(sorted(FORMULAS)) for _ in range(4)]
        check(some_program(about, [name, *others[:2], name, *others[2:]]), seed)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.randoms(use_true_random=False), st.lists(st.sampled_from(sorted(FORMULAS)), max_size=8))
def test_random_graphs(random, names):
    check(some_program(random, names), len(names))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.randoms(use_true_random=False), st.lists(st.sampled_from(sorted(FORMULAS)), min_size=3, max_size=8))
def test_random_graphs_against_pytorch(random, names):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    program = some_program(random, names)
    leaves = [Tensor(x) for x in program.leaves]
    theirs = [torch.tensor(x, requires_grad=True) for x in program.leaves]
    y, z = program.run(PRIMITIVES, leaves), program.run(FORMULAS, [Torch(x) for x in theirs], Torch.constant).tensor
    assert y.item() == pytest.approx(z.item(), rel=1e-11)
    first, second = grad(y, leaves, differentiable=True), torch.autograd.grad(z, theirs, create_graph=True)
    curved, bent = sum((g * g).sum() for g in first), sum((g * g).sum() for g in second)
    for ours, others in ((first, second), (grad(curved, leaves), torch.autograd.grad(bent, theirs))):
        for g, h in zip(ours, others, strict=True):
            h = h.detach().numpy()
            np.testing.assert_allclose(np.asarray(g), h, rtol=1e-9, atol=1e-9 * np.abs(h).max())


@pytest.mark.parametrize("name", ["add", "multiply", "tanh", "reshape", "gaussian_kl"])
def test_a_vjp_off_by_a_thousandth_is_found(name, monkeypatch):
    primitive = PRIMITIVES[name]
    off = lambda vjp: lambda *args, **kw: vjp(*args, **kw) * 1.001
    if primitive.joint:
        joint = primitive.joint
        monkeypatch.setattr(primitive, "joint", lambda *args, **kw: [g * 1.001 for g in joint(*args, **kw)])
    monkeypatch.setattr(primitive, "vjps", [off(vjp) for vjp in primitive.vjps])
    with pytest.raises(AssertionError):
        test_graphs_around_each_primitive(name)
