"""Matrix products: what they compute, from three loops to NumPy's own."""

import numpy as np

__all__ = ["matmul"]


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


def product_shape(a, b, out=None, bias=None, accumulate=False) -> tuple:
    """The shape of ``matmul(a, b, out, bias, accumulate)``, after checking that it can be done.

    Raises:
        TypeError: an operand is neither float32 nor float64, or two of them differ.
        ValueError: shapes that do not fit, or an ``out`` that cannot be written.
    """
    operands = [array for array in (a, b, out, bias) if array is not None]
    if a.dtype not in (np.float32, np.float64) or any(array.dtype != a.dtype for array in operands):
        kinds = ", ".join(str(array.dtype) for array in operands)
        raise TypeError(f"matmul: operands of {kinds}; all must be float32 or all float64 (convert with astype)")
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[b.ndim > 1 and -2]:
        raise ValueError(
            f"matmul: {a.shape} times {b.shape}: the last axis of the first must be as long as "
            "the last but one (of a vector, the only) axis of the second"
        )
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ValueError(
            f"matmul: {a.shape} times {b.shape}: the axes before the last two do not broadcast; make them equal or 1"
        ) from None
    shape = batch + a.shape[-2:-1] + (b.shape[-1:] if b.ndim > 1 else ())
    if bias is not None and (b.ndim == 1 or bias.shape != b.shape[-1:]):
        raise ValueError(f"matmul: a bias of {bias.shape} for a product of {shape}; give one number for each column")
    if accumulate and out is None:
        raise ValueError("matmul: accumulate=True adds to out, but none was given; pass out")
    if out is not None:
        if out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
            raise ValueError(
                f"matmul: out must be a writable C-contiguous array of {shape}; got {out.shape} with strides "
                f"{out.strides}; pass np.empty(...) of that shape"
            )
        if any(np.may_share_memory(out, operand) for operand in (a, b, bias) if operand is not None):
            raise ValueError("matmul: out overlaps an operand, which the product would overwrite; pass another array")
    return shape


def matmul(a, b, out=None, bias=None, accumulate=False):
    """a b (+ bias) (+ out): the twin of :func:`minivi.kernels.matmul.matmul`."""
    shape = product_shape(a, b, out, bias, accumulate)
    product = np.matmul(a, b)
    if bias is not None:
        product = product + bias
    if out is None:
        return product
    out[...] = (out + product if accumulate else product).reshape(shape)
    return out
