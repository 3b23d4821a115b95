"""Matrix products: what they compute, from three loops to NumPy's own."""

import functools

import numpy as np

__all__ = ["matmul"]

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
    elif any([np.may_share_memory(out, x) for x in (a, b, bias) if x is not None]):
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
