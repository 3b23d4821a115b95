"""Convolutions as a product for each tap of the kernel."""

import numpy as np

from minivi.kernels.shapes import checked_conv, checked_conv_gradient, checked_conv_transposed

__all__ = ["conv2d", "conv2d_transposed", "conv2d_weight_gradient"]


def _padded(x, padding):
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def _taps(x, kernel, stride, rows, columns):
    """Of each tap: ky, kx, and the view of the padded images ``x`` that it meets, one number for each output."""
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            y, z = stride[0] * (rows - 1) + ky + 1, stride[1] * (columns - 1) + kx + 1
            yield ky, kx, x[:, ky : y : stride[0], kx : z : stride[1]]


def conv2d(x, w, stride=(1, 1), padding=((0, 0), (0, 0)), bias=None):
    """Sum over the taps of the kernel: the twin of :func:`minivi.kernels.conv.conv2d`."""
    shape = checked_conv(x, w, stride, padding, bias)
    out = np.zeros(shape, x.dtype)
    for ky, kx, view in _taps(_padded(x, padding), w.shape, stride, *shape[1:3]):
        out += view @ w[ky, kx]
    return out if bias is None else out + bias


def conv2d_transposed(g, w, stride, padding, shape, bias=None):
    """What each tap has taken is given back."""
    checked_conv_transposed(g, w, stride, padding, shape, bias)
    padded = _padded(np.zeros(shape, g.dtype), padding)
    for ky, kx, view in _taps(padded, w.shape, stride, *g.shape[1:3]):
        view += g @ w[ky, kx].T
    (above, _), (left, _) = padding
    out = padded[:, above : above + shape[1], left : left + shape[2]].copy()
    return out if bias is None else out + bias


def conv2d_weight_gradient(x, g, stride, padding, shape):
    """For each tap, the product of what it meets and the cotangent."""
    checked_conv_gradient(x, g, stride, padding, shape)
    out = np.zeros(shape, x.dtype)
    for ky, kx, view in _taps(_padded(x, padding), shape, stride, *g.shape[1:3]):
        out[ky, kx] = np.tensordot(view, g, ((0, 1, 2), (0, 1, 2)))
    return out
