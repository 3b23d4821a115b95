"""Pointwise functions, row reductions and fused densities, for float32 and float64.

A function under ``@pointwise`` is written for one element; the decorator compiles it into a chunk and gives back the
function of arrays. A function that sums over the last axis is a chunk of its own:

        x    (rows, D)    . . . . . . . . | . . . . . . . . | . . .    blocks of 128 terms, each summed in vector
                                 |                 |            |      lanes in the precision of x
        out  (rows,)             + --------------- + ---------- +      the sums of the blocks, added in float64

Operands broadcast without being copied where their shape is the end of the result's, as (B, D) or (D,) beside
(K, B, D): row ``r`` of the result then uses row ``r % R`` of an operand of R rows.

float32 functions are polynomials on a reduced range, selects instead of branches, and integer arithmetic on the bits of
the floats: 0.5 to 1 ns an element where libm takes 5 to 10. float64, which serves the checks, calls libm. Chunks index
the addresses ``p[k]`` themselves, which halves their time to compile, and vectorises as well.

Every function takes arrays of any memory layout and returns fresh ones of the same type. It raises TypeError unless all
are float32 or all float64, and ValueError for shapes that do not fit.
"""

import functools
import inspect
import math
from types import FunctionType

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload

from minivi.kernels.jit import MATH, SUMS, chunk, launch
from minivi.kernels.shapes import FLOATS, LOG_2PI, empty

__all__ = [
    "bernoulli_log_prob", "elu", "elu_vjp", "exp", "gaussian_kl", "gaussian_kl_vjp", "gaussian_log_prob",
    "gaussian_log_prob_vjp", "gaussian_sample", "gaussian_sample_vjp", "local_sample", "local_sample_vjp", "log",
    "log1p", "log_softmax", "log_softmax_vjp", "log_sum_exp", "relu", "relu_vjp", "scale_rows", "sigmoid",
    "sigmoid_vjp", "softplus", "softplus_vjp", "tanh", "tanh_vjp",
]  # fmt: skip

# A constant of type float32 keeps float32 arithmetic in float32 and gives way to float64: one source serves both.
f, i32 = np.float32, np.int32
INF, NAN = f(np.inf), f(np.nan)
LOG_2 = f(math.log(2))
BLOCK = 128  # terms that are summed in their own precision before float64 takes over
# log 2 in two parts, the first of so few bits that k times it is exact.
LOG_2_HIGH, LOG_2_LOW = f(0.693359375), f(-2.12194440e-4)


# ----------------------------------------------------------------------------------------------------- one element
def _scalar(function):
    return njit(forceinline=True, **MATH)(function)


def _by_type(float64):
    """Decorator: a function that is the decorated one for float32 and ``float64`` for float64, chosen when compiled."""

    def decorate(float32):
        def choose(x):
            raise NotImplementedError

        @overload(choose, jit_options={"forceinline": True, **MATH})
        def _(x):
            return float32 if x == types.float32 else lambda x: float64(x)

        return choose

    return decorate


@intrinsic
def _bits(context, x):
    """The bits of a float32 as an int32, and back."""
    to = types.int32 if x == types.float32 else types.float32
    return to(x), lambda context, builder, signature, args: builder.bitcast(args[0], context.get_value_type(to))


@intrinsic
def _like(context, x, pointer):
    """``x``, a float64, in the type of what ``pointer`` points to."""
    to = pointer.dtype
    return to(x, pointer), lambda context, builder, signature, args: context.cast(builder, args[0], x, to)


@_scalar
def _pow2(k):  # -127 <= k <= 127, where -127 gives 0
    return _bits(i32(i32(k + 127) << 23))


@_scalar
def _expm1_reduced(x):
    """k and expm1(r), where x = k log 2 + r with |r| <= log(2) / 2. Minimax polynomial, relative error 1.4e-8."""
    shifted = x * f(1 / math.log(2)) + f(1.5 * 2**23)  # at this size the last bit is worth 1: k, in the low bits
    k = shifted - f(1.5 * 2**23)
    r = x - k * LOG_2_HIGH
    r = r - k * LOG_2_LOW
    z = r * r
    p = ((f(0.00138706958) * r + f(0.00836627185)) * r + f(0.0416674353)) * z + (f(0.166665465) * r + f(0.49999997))
    return i32(_bits(shifted) - i32(0x4B400000)), p * z + r


@_by_type(math.exp)
def scalar_exp(x):
    x = f(-104) if x < f(-104) else x  # written so that a NaN passes; exp is 0 below -104
    x = f(89) if x > f(89) else x  # and infinite above 89
    k, q = _expm1_reduced(x)
    half = i32(k >> 1)  # two factors, since 2^k may be infinite or denormal where the result is not
    return (q + f(1)) * _pow2(half) * _pow2(i32(k - half))


@_by_type(math.expm1)
def scalar_expm1(x):  # |x| <= 30 or so: enough for elu and tanh
    k, q = _expm1_reduced(f(-30) if x < f(-30) else x)
    scale = _pow2(k)
    return q * scale + (scale - f(1))


@_scalar
def _log1p_reduced(t):
    """log(1 + t), where sqrt(1/2) <= 1 + t <= sqrt(2). Minimax polynomial, relative error 5.9e-9."""
    z = t * t
    low = (f(-0.250008225) * t + f(0.333333313)) + (f(-0.166233152) * t + f(0.200012505)) * z
    high = (f(-0.1316019) * t + f(0.14201273)) + (f(-0.0763818473) * t + f(0.127647623)) * z
    return z * ((low + high * (z * z)) * t - f(0.5)) + t


@_scalar
def _log_of_sum(y, d):
    """log(y + d), where d is what rounding took from y."""
    tiny = y < f(2.0**-126)  # denormal
    i = _bits(y * f(2.0**23) if tiny else y)
    k = i32(i32(i - i32(0x3F3504F3)) >> 23)  # now 2^-k y lies between sqrt(1/2) and sqrt(2)
    # 2^(1-k) / 2, since 2^-k does not exist for the largest y; there d = 0.
    t = (_bits(i32(i - i32(k << 23))) - f(1)) + f(0.5) * d * _pow2(i32(1 - k))
    n = f(k) - (f(23) if tiny else f(0))
    result = n * LOG_2_HIGH + (n * LOG_2_LOW + _log1p_reduced(t))
    result = result if y < INF else y
    return result if y > f(0) else (-INF if y == f(0) else NAN)


@_by_type(math.log)
def scalar_log(x):
    return _log_of_sum(x, f(0))


@_by_type(math.log1p)
def _log1p(x):
    y = f(1) + x
    return _log_of_sum(y, x - (y - f(1)))


@_by_type(math.log1p)
def _log1p_unit(x):  # 0 <= x <= 1
    upper = x > f(math.sqrt(2) - 1)
    return _log1p_reduced(f(0.5) * x - f(0.5) if upper else x) + (LOG_2 if upper else f(0))


@_by_type(math.tanh)
def scalar_tanh(x):
    a, z = abs(x), x * x
    p = ((f(0.0164378788) * z + f(-0.0526720099)) * z + f(0.133207291)) * z + f(-0.333329469)  # relative error 3.7e-8
    far = f(1) - f(2) / (scalar_expm1(f(20) if a > f(10) else a + a) + f(2))
    return p * (z * x) + x if a < f(0.55) else math.copysign(far, x)


@_scalar
def scalar_sigmoid(x):
    e = scalar_exp(-abs(x))
    return (f(1) if x >= f(0) else e) / (f(1) + e)


@_scalar
def scalar_softplus(x):
    return (x if x > f(0) else f(0)) + _log1p_unit(scalar_exp(-abs(x)))


# -------------------------------------------------------------------------------------------------------- operands
def as_operands(name, arrays):
    """The arrays as chunks read them: C-contiguous, aligned, all float32 or all float64."""
    dtype, plain = arrays[0].dtype, []
    for a in arrays:
        if (a.dtype is not dtype and a.dtype != dtype) or dtype not in FLOATS:
            raise TypeError(
                f"{name}: the arrays are {', '.join(str(a.dtype) for a in arrays)}; "
                "all must be float32, or all float64: convert with astype"
            )
        plain.append(a if a.flags.num & 0x101 == 0x101 else a.copy())  # both flags in one quick look
    return plain


def _same_shape(name, a, b):
    if a.shape != b.shape:
        raise ValueError(f"{name}: shapes {a.shape} and {b.shape} differ; broadcast the arrays to one shape first")


def _blocks(name, arrays):
    """The shape to which the arrays broadcast, and each of them as the smallest end of that shape that holds it."""
    shape = arrays[0].shape
    for a in arrays:
        if a.ndim > len(shape):
            shape = a.shape
    for a in arrays:
        if a.shape != shape and (not a.ndim or a.shape != shape[-a.ndim :]):
            break
    else:
        return shape, arrays
    try:
        shape = np.broadcast_shapes(*[a.shape for a in arrays])
    except ValueError:
        raise ValueError(
            f"{name}: shapes {', '.join(str(a.shape) for a in arrays)} do not broadcast; "
            "counted from the last axis, sizes must be equal or 1"
        ) from None
    ends = []
    for a in arrays:
        own = a.shape[next((k for k, size in enumerate(a.shape) if size != 1), a.ndim) :]
        ends.append(np.broadcast_to(a.reshape(own), shape[len(shape) - max(len(own), 1) :]))
    return shape, ends


# -------------------------------------------------------------------------------------------------------- pointwise
element = None  # in the globals of each kernel below: its function of one element


def _unary(p, s, lo, hi):
    x, out = p[0], p[1]
    for i in range(lo, hi):
        out[i] = element(x[i])


def _binary(p, s, lo, hi):
    x, y, out = p[0], p[1], p[2]
    for i in range(lo, hi):
        out[i] = element(x[i], y[i])


def _ternary(p, s, lo, hi):
    """The operands start again after s[0], s[1], s[2] elements: done in runs within which none does."""
    x, y, z, out = p[0], p[1], p[2], p[3]
    nx, ny, nz = int(s[0]), int(s[1]), int(s[2])
    period = min(nx, ny, nz)  # each of the three sizes is a multiple of it
    while lo < hi:
        end = min(hi, lo - lo % period + period)
        a, b, c = lo % nx - lo, lo % ny - lo, lo % nz - lo
        for i in range(lo, end):
            out[i] = element(x[i + a], y[i + b], z[i + c])
        lo = end


def pointwise(function):
    """Decorator: the function of arrays that applies ``function`` to each element.

    Arrays of one or two arguments have equal shapes, those of three broadcast.
    """
    name, arity = function.__name__, len(inspect.signature(function).parameters)
    # A closure over `element` would be compiled anew by every process: Numba's disk cache knows a closure by what it
    # holds, and a compiled function never looks the same twice.
    template = (_unary, _binary, _ternary)[arity - 1]
    kernel = FunctionType(template.__code__, globals() | {"element": njit(inline="always")(function)}, name)
    kernel.__qualname__ = f"{template.__name__}.{name}"
    kernel = chunk(kernel, flush=arity > 1)  # exp, log and their like are right for denormal numbers too

    def apply(*arrays):
        if arity == 3:
            shape, arrays = _blocks(name, arrays)
        else:
            shape = arrays[0].shape
            _same_shape(name, arrays[0], arrays[-1])
        arrays = as_operands(name, arrays)
        out = empty(shape, arrays[0].dtype)
        launch(kernel, out.size, (*arrays, out), [a.size for a in arrays] if arity == 3 else ())
        return out

    return functools.wraps(function)(apply)


Array = np.ndarray


@pointwise
def exp(x: Array) -> Array:
    """e to the x; at most 2 ulp off, denormal results included."""
    return scalar_exp(x)


@pointwise
def log(x: Array) -> Array:
    """Natural logarithm; -inf at 0, NaN below; at most 2 ulp off, denormal arguments included."""
    return scalar_log(x)


@pointwise
def log1p(x: Array) -> Array:
    """log(1 + x), to relative accuracy for small x; at most 4 ulp off."""
    return _log1p(x)


@pointwise
def tanh(x: Array) -> Array:
    """Hyperbolic tangent; at most 2 ulp off in float32 and, by the C library, 3 in float64."""
    return scalar_tanh(x)


@pointwise
def tanh_vjp(g: Array, y: Array) -> Array:
    """g (1 - y^2): the cotangent of tanh's argument, from tanh's result ``y``."""
    return g * (f(1) - y * y)


@pointwise
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)); at most 4 ulp off."""
    return scalar_sigmoid(x)


@pointwise
def sigmoid_vjp(g: Array, y: Array) -> Array:
    """g y (1 - y): the cotangent of sigmoid's argument, from sigmoid's result ``y``."""
    return g * y * (f(1) - y)


@pointwise
def softplus(x: Array) -> Array:
    """log(1 + exp(x)); at most 4 ulp off."""
    return scalar_softplus(x)


@pointwise
def softplus_vjp(g: Array, x: Array) -> Array:
    """g sigmoid(x): the cotangent of softplus's argument ``x``."""
    return g * scalar_sigmoid(x)


@pointwise
def relu(x: Array) -> Array:
    """max(x, 0)."""
    return f(0) if x < f(0) else x


@pointwise
def relu_vjp(g: Array, y: Array) -> Array:
    """g where y > 0, else 0: the cotangent of relu's argument, from relu's result ``y``."""
    return g if y > f(0) else f(0)


@pointwise
def elu(x: Array) -> Array:
    """x where x > 0, else exp(x) - 1, to relative accuracy for small x."""
    return x if x > f(0) else scalar_expm1(f(0) if x > f(0) else x)


@pointwise
def elu_vjp(g: Array, y: Array) -> Array:
    """g where y > 0, else g (y + 1): the cotangent of elu's argument, from elu's result ``y``."""
    return g * (f(1) if y > f(0) else y + f(1))


@pointwise
def gaussian_sample(mu: Array, log_sigma: Array, eps: Array) -> Array:
    """mu + sigma eps, the reparameterised sample (thesis eq. 2.40); the shapes broadcast."""
    return mu + scalar_exp(log_sigma) * eps


@pointwise
def gaussian_sample_vjp(g: Array, log_sigma: Array, eps: Array) -> Array:
    """g sigma eps: the cotangent of ``log_sigma``, in the shape of ``g``. (That of mu is ``g``.)"""
    return g * scalar_exp(log_sigma) * eps


@pointwise
def local_sample(mean: Array, variance: Array, eps: Array) -> Array:
    """mean + sqrt(variance) eps, a sample of a layer's outputs (thesis section 6.2.3); the shapes broadcast."""
    return mean + math.sqrt(variance) * eps


@pointwise
def local_sample_vjp(g: Array, variance: Array, eps: Array) -> Array:
    """g eps / (2 sqrt(variance)): the cotangent of ``variance``, in the shape of ``g``; 0 where the variance is 0."""
    return f(0.5) * g * eps / math.sqrt(variance) if variance > f(0) else f(0)


# ------------------------------------------------------------------------------------------------------------ rows
@njit(forceinline=True, **SUMS)
def _add(total, x):  # the one sum that may be reordered; formulas must not be, or their corrections would cancel
    return total + x


@_scalar
def _sum(x, start, size):
    total = 0.0
    for i in range(start, start + size):
        total = _add(total, x[i])
    return total


@_scalar
def _number(x):
    return x if x == x else -INF


# "No NaNs" (nnan) is true of what _number gives, and lets LLVM vectorise the maximum.
@njit(forceinline=True, **(MATH | {"fastmath": {"nnan", "nsz"}}))
def _shift(x, start, size):
    """What log-sum-exp subtracts: the maximum where it is finite, else 0 (then, or at a NaN, the sum says it all)."""
    largest = -INF
    for i in range(start, start + size):
        value = _number(x[i])
        largest = value if value > largest else largest
    return largest if abs(largest) < INF else f(0)


@chunk
def _log_sum_exp(p, s, lo, hi):
    x, out, D = p[0], p[1], int(s[0])
    for r in range(lo, hi):
        i = r * D
        shift, total = _shift(x, i, D), 0.0
        for start in range(0, D, BLOCK):
            part = f(0)
            for d in range(start, min(start + BLOCK, D)):
                part = _add(part, scalar_exp(x[i + d] - shift))
            total += part
        out[r] = shift + math.log(total)


@chunk
def _log_softmax(p, s, lo, hi):
    x, out, D = p[0], p[1], int(s[0])
    for r in range(lo, hi):
        i = r * D
        shift = _shift(x, i, D)
        for j in range(i, i + D):
            out[j] = scalar_exp(x[j] - shift)
        log_total = _like(math.log(_sum(out, i, D)), out)
        for j in range(i, i + D):
            out[j] = (x[j] - shift) - log_total


@chunk(flush=True)
def _log_softmax_vjp(p, s, lo, hi):
    g, y, out, D = p[0], p[1], p[2], int(s[0])
    for r in range(lo, hi):
        i = r * D
        total = _like(_sum(g, i, D), out)
        for j in range(i, i + D):
            out[j] = g[j] - scalar_exp(y[j]) * total


@chunk(flush=True)
def _scale_rows(p, s, lo, hi):
    g, x, out, D = p[0], p[1], p[2], int(s[0])
    for r in range(lo, hi):
        scale = g[r]
        for j in range(r * D, r * D + D):
            out[j] = x[j] * scale


@chunk
def _bernoulli_log_prob(p, s, lo, hi):
    x, logits, log_prob, residual = p[0], p[1], p[2], p[3]
    D, nx, nl = int(s[0]), int(s[1]), int(s[2])
    for r in range(lo, hi):
        i, j, k, total = r % nx * D, r % nl * D, r * D, 0.0
        for start in range(0, D, BLOCK):
            part = f(0)
            for d in range(start, min(start + BLOCK, D)):
                part = _add(part, x[i + d] * logits[j + d] - scalar_softplus(logits[j + d]))
                residual[k + d] = x[i + d] - scalar_sigmoid(logits[j + d])
            total += part
        log_prob[r] = total


@chunk
def _gaussian_log_prob(p, s, lo, hi):
    x, mu, log_sigma, out = p[0], p[1], p[2], p[3]
    D, nx, nm, ns = int(s[0]), int(s[1]), int(s[2]), int(s[3])
    for r in range(lo, hi):
        i, j, k, total = r % nx * D, r % nm * D, r % ns * D, 0.0
        for start in range(0, D, BLOCK):
            part = f(0)
            for d in range(start, min(start + BLOCK, D)):
                z = (x[i + d] - mu[j + d]) * scalar_exp(-log_sigma[k + d])
                part = _add(part, f(-0.5) * z * z - log_sigma[k + d])
            total += part
        out[r] = total - 0.5 * LOG_2PI * D


@chunk(flush=True)
def _gaussian_log_prob_vjp(p, s, lo, hi):
    g, x, mu, log_sigma, gx, gmu, glog_sigma = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    D, nx, nm, ns = int(s[0]), int(s[1]), int(s[2]), int(s[3])
    for r in range(lo, hi):
        i, j, k, l, scale = r % nx * D, r % nm * D, r % ns * D, r * D, g[r]
        for d in range(D):
            inverse = scalar_exp(-log_sigma[k + d])
            z = (x[i + d] - mu[j + d]) * inverse
            gx[l + d] = -scale * z * inverse
            gmu[l + d] = scale * z * inverse
            glog_sigma[l + d] = scale * (z * z - f(1))


@chunk
def _gaussian_kl(p, s, lo, hi):
    mu, log_sigma, out = p[0], p[1], p[2]
    D, nm, ns = int(s[0]), int(s[1]), int(s[2])
    for r in range(lo, hi):
        i, j, total = r % nm * D, r % ns * D, 0.0
        for start in range(0, D, BLOCK):
            part = f(0)
            for d in range(start, min(start + BLOCK, D)):
                m, l = mu[i + d], log_sigma[j + d]
                part = _add(part, f(0.5) * (m * m + scalar_exp(f(2) * l) - f(1)) - l)
            total += part
        out[r] = total


@chunk(flush=True)
def _gaussian_kl_vjp(p, s, lo, hi):
    g, mu, log_sigma, gmu, glog_sigma = p[0], p[1], p[2], p[3], p[4]
    D, nm, ns = int(s[0]), int(s[1]), int(s[2])
    for r in range(lo, hi):
        i, j, k, scale = r % nm * D, r % ns * D, r * D, g[r]
        for d in range(D):
            gmu[k + d] = scale * mu[i + d]
            glog_sigma[k + d] = scale * (scalar_exp(f(2) * log_sigma[j + d]) - f(1))


def _by_rows(kernel, results, operands, g=None):
    """Launch ``kernel`` on the operands, which broadcast, and the cotangents ``g``, one a row.

    ``results`` has a letter for each array to fill: "r" for one number a row, "e" for one an element.
    """
    name = kernel.__name__[1:]
    shape, operands = _blocks(name, operands)
    if not shape:
        raise ValueError(f"{name}: an array of shape () has no last axis to work along; reshape it to (1,)")
    D, per_row = shape[-1], shape[:-1]
    if g is not None and g.shape != per_row:
        raise ValueError(f"{name}: g has shape {g.shape}, but the rows have {per_row}; g is one number a row")
    inputs = as_operands(name, operands if g is None else (g, *operands))
    out = tuple([empty(per_row if kind == "r" else shape, inputs[0].dtype) for kind in results])
    n = math.prod(per_row)
    launch(kernel, n, (*inputs, *out), (D, *[a.size // D if D else 1 for a in operands]), n * D)
    return out[0] if len(out) == 1 else out


def log_sum_exp(x: Array) -> Array:
    """log sum exp(x) over the last axis, the maximum subtracted: (..., D) -> (...); -inf where D is 0."""
    return _by_rows(_log_sum_exp, "r", (x,))


def log_softmax(x: Array) -> Array:
    """x - log sum exp(x) over the last axis: (..., D) -> (..., D)."""
    return _by_rows(_log_softmax, "e", (x,))


def log_softmax_vjp(g: Array, y: Array) -> Array:
    """g - exp(y) sum(g): the cotangent of log_softmax's argument, from its result ``y``; all (..., D)."""
    _same_shape("log_softmax_vjp", g, y)
    return _by_rows(_log_softmax_vjp, "e", (g, y))


def scale_rows(residual: Array, g: Array) -> Array:
    """Multiplies row r of ``residual`` by g[r], the vjp with respect to the logits: (..., D) and (...) -> (..., D)."""
    return _by_rows(_scale_rows, "e", (residual,), g)


def bernoulli_log_prob(x: Array, logits: Array) -> tuple[Array, Array]:
    """sum_d x_d log p_d + (1 - x_d) log(1 - p_d), p = sigmoid(logits), in nats (thesis eq. 1.18), and its slope.

    Args:
        x: (..., D), in [0, 1].
        logits: (..., D); the two broadcast.

    Returns:
        The log-probabilities (...), and x - p (..., D): their derivative with respect to the logits.
    """
    return _by_rows(_bernoulli_log_prob, "re", (x, logits))


def gaussian_log_prob(x: Array, mu: Array, log_sigma: Array) -> Array:
    """log N(x; mu, diag(sigma^2)) in nats, the constant included: all (..., D), which broadcast, -> (...)."""
    return _by_rows(_gaussian_log_prob, "r", (x, mu, log_sigma))


def gaussian_log_prob_vjp(g: Array, x: Array, mu: Array, log_sigma: Array) -> tuple[Array, Array, Array]:
    """The cotangents of x, mu and log_sigma, each in the shape (..., D) to which these broadcast; ``g`` is (...)."""
    return _by_rows(_gaussian_log_prob_vjp, "eee", (x, mu, log_sigma), g)


def gaussian_kl(mu: Array, log_sigma: Array) -> Array:
    """KL(N(mu, diag(sigma^2)) || N(0, I)) in nats (thesis appendix 2.A): both (..., D), which broadcast, -> (...)."""
    return _by_rows(_gaussian_kl, "r", (mu, log_sigma))


def gaussian_kl_vjp(g: Array, mu: Array, log_sigma: Array) -> tuple[Array, Array]:
    """The cotangents of mu and log_sigma, each in the shape (..., D) to which these broadcast; ``g`` is (...)."""
    return _by_rows(_gaussian_kl_vjp, "ee", (mu, log_sigma), g)
