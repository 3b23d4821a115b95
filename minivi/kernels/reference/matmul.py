"""Matrix products: what they compute, from three loops to NumPy's own."""

import functools

import numpy as np

__all__ = [
    "Ones",
    "Ranges",
    "binary_matmul",
    "is_binary",
    "masked_matmul",
    "masked_weight_gradient",
    "matmul",
    "matmul_backend",
    "set_matmul_backend",
]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def matmul_loops(a, b):
    """The definition, c[i, j] = sum over k of a[i, k] b[k, j], as a reader should see it first.

    Args:
        a: array (M, K).
        b: array (K, N).

    Returns:
        Array (M, N).
    """
    rows, inner = a.shape
    columns = b.shape[1]
    c = np.zeros((rows, columns), a.dtype)
    for i in range(rows):
        for j in range(columns):
            for k in range(inner):
                c[i, j] += a[i, k] * b[k, j]
    return c


def matmul_tiles(a, b, block=1024, depth=256, width=24, height=4):
    """The same product in the order of the fast kernel: tiles of ``height`` x ``width`` that fit into registers.

    The innermost statement is the micro-kernel's work; the panel and the block of ``a`` are what caches hold.

    Args:
        a: array (M, K).
        b: array (K, N).
        block, depth, width, height: sizes of the blocks of rows, of k, of columns, and of rows in a tile.

    Returns:
        Array (M, N).
    """
    (rows, inner), columns = a.shape, b.shape[1]
    c = np.zeros((rows, columns), a.dtype)
    for i0 in range(0, rows, block):
        for k0 in range(0, inner, depth):
            for j in range(0, columns, width):
                panel = b[k0 : k0 + depth, j : j + width].copy()
                for i in range(i0, min(i0 + block, rows), height):
                    tile = c[i : min(i + height, i0 + block), j : j + width]
                    for k in range(len(panel)):
                        tile += a[i : i + len(tile), k0 + k, None] * panel[k]
    return c


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


def matmul(a, b, out=None, bias=None, accumulate=False):
    """a b (+ bias) (+ out): the twin of :func:`minivi.kernels.matmul.matmul`."""
    checked_shape(a, b, out, bias, accumulate)
    product = np.asarray(np.matmul(a, b))
    if bias is not None:
        product = product + bias
    if out is None:
        return product
    out[...] = out + product if accumulate else product
    return out


def matmul_backend(dtype=np.float32) -> str:
    """What computes products of ``dtype``: always "numpy"."""
    return "numpy"


def set_matmul_backend(choice: str, dtype=np.float32) -> None:
    """Does nothing: there is no other."""


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


def masked_matmul(a, b, ranges, out=None, bias=None):
    """a b: the twin of :func:`minivi.kernels.matmul.masked_matmul`, for which ``b`` is zero under the mask."""
    ranges.check("masked_matmul", b.shape)
    return matmul(a, b, out, bias)


def masked_weight_gradient(a, grad, ranges, out=None):
    """a' grad, zero under the mask: the twin of :func:`minivi.kernels.matmul.masked_weight_gradient`."""
    a, grad = a.reshape(-1, a.shape[-1]), grad.reshape(-1, grad.shape[-1])
    ranges.check("masked_weight_gradient", (a.shape[1], grad.shape[1]))
    product = matmul(a.T, grad, out)
    product[~ranges.mask] = 0
    return product


def is_binary(x) -> bool:
    """Whether every number of the array ``x`` is 0 or 1."""
    return bool(np.all((x == 0) | (x == 1)))


def check_binary(x, is_binary=is_binary):
    """Raise ValueError unless ``x`` is a matrix of zeros and ones."""
    if x.ndim != 2 or not is_binary(x):
        wrong = f"{x.ndim} axes" if x.ndim != 2 else f"the number {x[(x != 0) & (x != 1)][0]}"
        raise ValueError(f"Ones: an array of {x.shape} with {wrong}; pass a matrix of zeros and ones, or use matmul")


class Ones:
    """A matrix of zeros and ones: the twin of :class:`minivi.kernels.matmul.Ones`."""

    def __init__(self, x):
        """Check and keep ``x``."""
        check_binary(x)
        self.x, self.shape, self.dtype = x, x.shape, x.dtype

    @property
    def T(self):
        """The transpose."""
        return Ones(self.x.T)


def binary_matmul(x, b, out=None, bias=None):
    """x b: the twin of :func:`minivi.kernels.matmul.binary_matmul`."""
    return matmul((x if isinstance(x, Ones) else Ones(x)).x, b, out, bias)
