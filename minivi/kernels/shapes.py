"""What the fast kernels and their twins in ``reference`` share: checks of what they are given, and constants."""

from __future__ import annotations

import functools
import math
import threading

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LOG_2PI = math.log(2 * math.pi)
ACTIVATION_CODES = {"tanh": 0, "softplus": 1, "relu": 2, "elu": 3, "sigmoid": 4}


class _Now(threading.local):
    """Of this thread.

    Attributes:
        tracer: the :class:`minivi.trace.Trace` that is told of every new array and launch, if one is open.
        updates: a list that gets the optimizers' launches in place of doing them, if there is one.
    """

    tracer = None
    updates = None


now = _Now()


def empty(shape, dtype):
    """``np.empty``, of which a tracer knows."""
    return np.empty(shape, dtype) if now.tracer is None else now.tracer.empty(shape, dtype)


def zeros(shape, dtype):
    """``np.zeros``, of which a tracer knows."""
    return np.zeros(shape, dtype) if now.tracer is None else now.tracer.zeros(shape, dtype)


def given(out):
    """``out``, which a kernel is about to write into, of which a tracer knows."""
    if now.tracer is not None:
        now.tracer.given(out)
    return out


def take(a, index):
    """``a[index]``, of which a tracer knows, also where only the index is the step's."""
    return a[index] if now.tracer is None else now.tracer.take(a, index)


@functools.lru_cache(1024)  # a training step meets the same shapes again and again
def product_shape(a: tuple, b: tuple) -> tuple:
    """The shape of the product of arrays of the shapes ``a`` and ``b``.

    Raises:
        ValueError: no product is defined.
    """
    if not a or not b or a[-1] != b[len(b) > 1 and -2]:
        raise ValueError(
            f"matmul: {a} times {b}: the last axis of the first must be as long as "
            "the last but one (of a vector, the only) axis of the second"
        )
    try:
        batch = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise ValueError(
            f"matmul: {a} times {b}: the axes before the last two do not broadcast; make them equal or 1"
        ) from None
    return batch + a[-2:-1] + (b[-1:] if len(b) > 1 else ())


def checked_shape(a, b, out=None, bias=None, accumulate=False) -> tuple:
    """The shape of ``matmul(a, b, out, bias, accumulate)``, after checking that it can be done.

    Raises:
        TypeError: an operand is neither float32 nor float64, or two of them differ.
        ValueError: shapes that do not fit, or an ``out`` that cannot be written.
    """
    dtype = a.dtype
    operands = (a, b) if out is None and bias is None else [x for x in (a, b, out, bias) if x is not None]
    if dtype not in FLOATS or any([x.dtype != dtype for x in operands]):
        kinds = ", ".join(str(x.dtype) for x in operands)
        raise TypeError(f"matmul: operands of {kinds}; all must be float32 or all float64 (convert with astype)")
    shape = product_shape(a.shape, b.shape)
    if bias is not None and (b.ndim == 1 or bias.shape != b.shape[-1:]):
        raise ValueError(f"matmul: a bias of {bias.shape} for a product of {shape}; give one number for each column")
    if out is None:
        if accumulate:
            raise ValueError("matmul: accumulate=True adds to out, but none was given; pass out")
    elif out.shape != shape or not out.flags.carray:
        raise ValueError(
            f"matmul: out must be a writable C-contiguous array of {shape}; got {out.shape} with strides "
            f"{out.strides}; pass np.empty(...) of that shape"
        )
    elif any([np.may_share_memory(out, x) for x in (a, b, bias) if isinstance(x, np.ndarray)]):
        raise ValueError("matmul: out overlaps an operand, which the product would overwrite; pass another array")
    return shape


class Ranges:
    """Which numbers of a weight matrix a mask lets through: in each column, from its first one to behind its last.

    Args:
        mask: array (K, N) of zeros and ones. For MADE with units sorted by degree the ranges hold ones alone;
            any other mask gives right results, but spares less work.

    Raises:
        ValueError: the mask has not two axes.
    """

    def __init__(self, mask):
        """Find the ranges."""
        self.mask = np.asarray(mask) != 0
        if self.mask.ndim != 2:
            raise ValueError(f"Ranges: a mask of {self.mask.shape}; pass the two axes of the weights, (K, N)")
        self.shape = self.mask.shape
        some = self.mask.any(0)
        first = np.where(some, self.mask.argmax(0) if self.mask.size else 0, 0)
        last = np.where(some, len(self.mask) - self.mask[::-1].argmax(0) if self.mask.size else 0, 0)
        self.columns = np.stack([first, last], 1).astype(np.int64)
        self.share = float(np.sum(last - first)) / max(1, self.mask.size)  # of the work of a full matrix
        self.contiguous = bool(np.all(last - first == self.mask.sum(0)))

    @functools.cached_property
    def T(self):
        """The ranges of the transposed mask, for the gradient of the input."""
        return Ranges(self.mask.T)

    def check(self, name, shape):
        """Raise ValueError unless the mask has the shape ``shape``."""
        if self.shape != shape:
            raise ValueError(
                f"{name}: weights of {shape} under a mask of {self.shape}; make Ranges from their own mask"
            )


def is_binary(x) -> bool:
    """Whether every number of the array ``x`` is 0 or 1."""
    return bool(np.all((x == 0) | (x == 1)))


def check_binary(x, is_binary=is_binary):
    """Raise ValueError unless ``x`` is a matrix of zeros and ones."""
    if x.ndim != 2 or not is_binary(x):
        wrong = f"{x.ndim} axes" if x.ndim != 2 else f"the number {x[(x != 0) & (x != 1)][0]}"
        raise ValueError(f"Ones: an array of {x.shape} with {wrong}; pass a matrix of zeros and ones, or use matmul")


def checked_start(noise, start, weights, known):
    """The number of outputs of each dimension, and ``start`` as a fresh array with a row for each sample."""
    B, D = noise.shape
    outputs, rest = divmod(weights[-1].shape[1], D)
    if outputs not in (1, 2) or rest:
        raise ValueError(
            f"autoregressive_sample: {weights[-1].shape[1]} outputs for {D} dimensions; there must be 1 for each, a "
            "logit, or 2, mu and log sigma"
        )
    sizes = [D, *(w.shape[1] for w in weights)]
    fits = start.shape[-1] == sum(sizes[1:]) and known.shape == (len(weights) - 1, D + 1)
    if not fits or [w.shape[0] for w in weights] != sizes[:-1]:
        raise ValueError(
            f"autoregressive_sample: weights of {[w.shape for w in weights]}, start {start.shape} and known "
            f"{known.shape} do not fit; they must be (D, H_1), (H_1, H_2), ..., (..., sum of all layers), (L, D + 1)"
        )
    return outputs, np.array(np.broadcast_to(start, (B, start.shape[-1])))


def checked_rows(data, indices, start, b):
    """The compressed rows in the types that kernels read, checked against ``b``."""
    data, indices, start = np.asarray(data, b.dtype), np.asarray(indices, np.int64), np.asarray(start, np.int64)
    if b.ndim != 2 or indices.shape != data.shape or start.ndim != 1 or len(start) < 1:
        raise ValueError(
            f"sparse_matmul: data {data.shape}, indices {indices.shape}, start {start.shape} and b {b.shape}; they "
            "must be (E,), (E,), (M + 1,) and (K, N)"
        )
    if start[0] != 0 or start[-1] != len(data) or np.any(np.diff(start) < 0):
        raise ValueError(
            f"sparse_matmul: start goes from {start[0]} to {start[-1]}; it must rise from 0 to {len(data)}"
        )
    if len(indices) and not (0 <= indices.min() and indices.max() < len(b)):
        raise ValueError(
            f"sparse_matmul: columns from {indices.min()} to {indices.max()} for a factor of {len(b)} rows"
        )
    return np.ascontiguousarray(data), np.ascontiguousarray(indices), np.ascontiguousarray(start)


def checked_index(name, index, count):
    """Raise unless ``index`` holds numbers of rows, from 0 to ``count``."""
    if index.ndim != 1 or index.dtype != np.int64 or not index.flags.c_contiguous:
        raise TypeError(f"{name}: an index of {index.dtype}, {index.shape}; pass int64 (R,)")
    if len(index) and not (index.min() >= 0 and index.max() < count):
        raise ValueError(f"{name}: rows from {index.min()} to {index.max()} of {count}")


def conv_shape(shape, kernel, stride, padding):
    """The shape of the convolution of images of ``shape`` with a kernel of the shape ``kernel``.

    Raises:
        ValueError: shapes that do not fit, a stride below 1, padding below 0.
    """
    if len(shape) != 4 or len(kernel) != 4 or shape[3] != kernel[2]:
        raise ValueError(
            f"conv2d: images of {shape} and a kernel of {kernel} do not fit; they must be (B, H, W, C) and "
            "(KH, KW, C, O), channels last"
        )
    if min(stride) < 1 or min(kernel[:2]) < 1 or min(padding[0] + padding[1]) < 0:
        raise ValueError(f"conv2d: kernel {kernel}, stride {stride}, padding {padding}; strides and taps start at 1")
    space = [length + sum(pads) - taps for length, pads, taps in zip(shape[1:3], padding, kernel[:2], strict=True)]
    if min(space) < 0:
        raise ValueError(f"conv2d: a kernel of {kernel} is larger than images of {shape} with padding {padding}")
    return (shape[0], *(room // step + 1 for room, step in zip(space, stride, strict=True)), kernel[3])


def _checked_bias(bias, n, dtype):
    if bias is not None and (bias.shape != (n,) or bias.dtype != dtype):
        raise ValueError(f"conv2d: a bias of {bias.shape}, {bias.dtype}, for {n} channels of {dtype}; pass ({n},)")


def checked_conv(x, w, stride, padding, bias=None):
    """The shape of ``conv2d(x, w, stride, padding, bias)``, after checking that it can be done."""
    shape = conv_shape(x.shape, w.shape, stride, padding)
    _checked_bias(bias, w.shape[3], x.dtype)
    return shape


def checked_conv_transposed(g, w, stride, padding, shape, bias=None):
    """Check that ``conv2d`` makes the shape of ``g`` from ``shape``."""
    if conv_shape(shape, w.shape, stride, padding) != g.shape:
        raise ValueError(
            f"conv2d_transposed: a kernel of {w.shape}, stride {stride} and padding {padding} make "
            f"{conv_shape(shape, w.shape, stride, padding)} from {shape}, not {g.shape}"
        )
    _checked_bias(bias, w.shape[2], g.dtype)


def checked_conv_gradient(x, g, stride, padding, shape):
    """Check that ``conv2d`` makes the shape of ``g`` from ``x`` with a kernel of ``shape``."""
    made = conv_shape(x.shape, shape, stride, padding)
    if made != g.shape:
        raise ValueError(f"conv2d_weight_gradient: {x.shape} with a kernel of {shape} make {made}, not {g.shape}")


def checked_pool(shape, size, stride, padding):
    """The shape of the windows' numbers, for images of ``shape``.

    Raises:
        ValueError: no images; windows larger than they, padding as large as a window, a stride below 1.
    """
    if len(shape) != 4:
        raise ValueError(f"max_pool2d: an array of {shape}; pass images (B, H, W, C), channels last")
    if min(size) < 1 or min(stride) < 1 or any(not 0 <= p < taps for p, taps in zip(padding, size, strict=True)):
        raise ValueError(
            f"max_pool2d: windows {size}, stride {stride}, padding {padding}; sizes and strides start at 1, and "
            "padding is smaller than a window"
        )
    room = [length + 2 * p - taps for length, p, taps in zip(shape[1:3], padding, size, strict=True)]
    if min(room) < 0:
        raise ValueError(f"max_pool2d: windows {size} are larger than images of {shape} with padding {padding}")
    return (shape[0], *(space // step + 1 for space, step in zip(room, stride, strict=True)), shape[3])
