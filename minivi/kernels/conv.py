"""Convolutions as blocked products, without the matrix that they are a product of.

Images are (B, H, W, C), channels last; kernels (KH, KW, C, O). A convolution is a matrix product: each output position
is a row of KH KW C numbers, its *patch*, times the kernel as a matrix (KH KW C, O). To write all patches down (im2col)
takes KH KW times the memory of the images. But a block of them fits into the second-level cache, where the tiles of
:mod:`minivi.kernels.matmul` read it::

            image, channels last              block of patches, gathered         kernel, packed once in panels
        . . . . . . . . . .            +--------+--------+--------+            +--------+
        . [1 1 1] . . . . .            |1 1 1   |2 2 2   |3 3 3   |  row r     | ky = 0 |
        . [2 2 2] . . . . .   ----->   +--------+--------+--------+      x     | ky = 1 |   =  rows of the result,
        . [3 3 3] . . . . .            |  ...                     |            | ky = 2 |      a tile at a time
        . . . . . . . . . .            +--------------------------+            +--------+

Channels last make each row of a patch, KW C numbers, one run of memory; what lies outside the image is zeros. All three
products of a convolution are of this kind:

- *forward*: patches of x times w;
- *weight gradient*: patches of x, transposed, times the cotangent g; threads share out the rows of the kernel, and each
  gathers only its part of the patches;
- *input gradient*, which is the transposed convolution: a position of x meets the taps ky = phase, phase + stride, ...
  alone, where phase = (iy + padding) mod stride. So the positions of one phase are an ordinary convolution of g, of
  stride 1, with every stride-th tap of the kernel, flipped and its channels exchanged::

        stride 2, KH = 5:   phase 0: taps 0 2 4        phase 1: taps 1 3

Each element is one sum in order, of positions or of (ky, kx, channel), by fused multiply-adds, whatever the blocks and
the number of threads.
"""

import functools

import numpy as np
from numba import njit

from minivi.kernels.jit import chunk, launch
from minivi.kernels.matmul import (
    TILES,
    _copy,
    _pack,
    _panel_vectors,
    _pointer,
    _sizes,
    _tile,
    as_integers,
    at,
    matmul_tile,
)
from minivi.kernels.shapes import checked_conv, checked_conv_gradient, checked_conv_transposed, empty
from minivi.kernels.vector import as_operands

__all__ = ["conv2d", "conv2d_transposed", "conv2d_weight_gradient"]

ROOM = 256 * 1024  # bytes of a block of patches, for the second-level cache
ROWS = 128  # and no more patches than these
WEIGHTS = 512  # rows of the kernel whose gradient is summed at a time
POSITIONS = 128  # and so many patches


@njit(error_model="numpy", nogil=True)
def _gather(patch, x, place, q, first, last):
    """patch[k - first] = number k, from ``first`` to ``last``, of the patch at the output position ``place``.

    A vector behind the patch may be overwritten: patches are gathered in order, and room for one more is at the end.
    """
    lanes, _, _, _ = _sizes(x)
    height, row, taps, run = q[0], q[1] * q[2], q[3], q[4] * q[2]
    image, within = place // (q[9] * q[10]), place % (q[9] * q[10])
    y, j = within // q[10] * q[5] + q[7], (within % q[10] * q[6] + q[8]) * q[2]
    for t in range(first // run, min(taps, -(-last // run)) if run else 0):
        k, end = max(first, t * run), min(last, (t + 1) * run)
        target, inside = at(patch, -first), y + t >= 0 and y + t < height
        source = at(x, (image * height + y + t) * row + j - t * run)
        low = min(end, max(k, t * run - j)) if inside else end
        high = max(low, min(end, t * run - j + row))
        for i in range(k, low):
            target[i] = 0
        for i in range(low, high, lanes):  # behind the last number zeros, over which the next run is written
            _copy(at(target, i), at(source, i), high - i)
        for i in range(high, end):
            target[i] = 0


@njit(inline="always")
def _distance(numbers, size):
    """Between patches of so many numbers: an odd number of cache lines, or they would crowd into a few sets."""
    line = 64 // size
    lines = -(-numbers // line)
    return (lines + 1 - lines % 2) * line


@chunk(setting=matmul_tile)
def _pack_kernel(p, s, lo, hi):
    """Taps ``lo`` to ``hi`` of the kernel, of C numbers for each of N outputs, in panels as wide as a tile."""
    q = as_integers(p[2])
    channels, n, taps_y, taps_x = q[0], q[1], q[2], q[3]
    start, by_y, by_x, by_channel, by_output = q[4], q[5], q[6], q[7], q[8]
    lanes, _, _, _ = _sizes(p[0])
    depth = taps_y * taps_x * channels
    vectors, v = -(-n // lanes), 0
    while v < vectors:
        width, j = _panel_vectors(vectors - v) * lanes, v * lanes
        for t in range(lo, hi):
            panel = at(p[0], j * depth + t * channels * width)
            tap = at(p[1], start + t // taps_x * by_y + t % taps_x * by_x + j * by_output)
            _pack(panel, width, tap, by_channel, by_output, channels, min(width, n - j))
        v += width // lanes


@chunk(setting=matmul_tile, flush=True)
def _correlate(p, s, lo, hi):
    """Tiles ``lo`` to ``hi`` of the patches times the packed kernel, row by row to where the target wants them."""
    q = as_integers(p[4])
    k, n, places = q[3] * q[4] * q[2], q[11], q[12]
    offset, by_image, by_row, by_column, biased = q[13], q[14], q[15], q[16], q[17] != 0
    lanes, size, MR, DEPTH = _sizes(p[0])
    direct = by_column == n and by_row == q[10] * n and by_image == q[9] * by_row
    distance = _distance(k, size)
    most = max(MR, min(ROWS, ROOM // (size * distance)) // MR * MR)
    room = np.empty(((distance + (0 if direct else n)) * most + lanes) * size + 64, np.uint8)
    patches = _pointer(p[0], room)
    blocks = max(1, -(-k // DEPTH))
    depth = -(-k // blocks)
    end = min(hi * MR, places)
    for first in range(lo * MR, end, most):
        height = min(most, end - first)
        for r in range(height):
            _gather(at(patches, r * distance), p[0], first + r, q, 0, k)
        result = at(p[2], first * n) if direct else at(patches, most * distance)
        for block in range(blocks):
            k0, k1 = block * depth, min(block * depth + depth, k)
            vectors, v = -(-n // lanes), 0
            while v < vectors:
                taken = _panel_vectors(vectors - v)
                width, j = taken * lanes, v * lanes
                v += taken
                panel = at(p[1], j * k + k0 * width)
                for i in range(0, height, MR):
                    c = at(result, i * n + j)
                    start, ldstart = (c, n) if block > 0 else (at(p[3], j), 0)
                    _tile(
                        taken, at(patches, i * distance + k0), distance, 1, min(MR, height - i), panel, width, panel,
                        False, k1 - k0, c, n, min(width, n - j), start, ldstart, block > 0 or biased,
                    )  # fmt: skip
        for r in range(0 if direct else height):
            image, within = (first + r) // (q[9] * q[10]), (first + r) % (q[9] * q[10])
            row = offset + image * by_image + within // q[10] * by_row + within % q[10] * by_column
            target, source = at(p[2], row), at(result, r * n)
            for i in range(n):
                target[i] = source[i]
        room[0] = 0  # named in the loop: Numba frees an array after its last mention


@chunk(setting=matmul_tile, flush=True)
def _weight_gradient(p, s, lo, hi):
    """Tiles ``lo`` to ``hi`` of the kernel's rows: patches, transposed, times the cotangent."""
    q = as_integers(p[3])
    k, n, places = q[3] * q[4] * q[2], q[11], q[12]
    lanes, size, MR, _ = _sizes(p[0])
    distance = _distance(WEIGHTS, size)
    room = np.empty(POSITIONS * (distance + 3 * lanes) * size + 64, np.uint8)
    patches = _pointer(p[0], room)
    packed = at(patches, POSITIONS * distance)
    end = min(hi * MR, k)
    for k0 in range(lo * MR, end, WEIGHTS):
        k1 = min(k0 + WEIGHTS, end)
        for first in range(0, max(places, 1), POSITIONS):
            depth = min(POSITIONS, places - first)
            for r in range(depth):
                _gather(at(patches, r * distance), p[0], first + r, q, k0, k1)
            vectors, v = -(-n // lanes), 0
            while v < vectors:
                taken = _panel_vectors(vectors - v)
                width, j = taken * lanes, v * lanes
                v += taken
                _pack(packed, width, at(p[1], first * n + j), n, 1, depth, min(width, n - j))
                for i in range(k0, k1, MR):
                    c = at(p[2], i * n + j)
                    _tile(
                        taken, at(patches, i - k0), 1, distance, min(MR, k1 - i), packed, width, packed,
                        False, depth, c, n, min(width, n - j), c, n, first > 0,
                    )  # fmt: skip
            room[0] = 0


@functools.lru_cache(1024)  # a training step meets the same shapes again and again
def _integers(dtype, *numbers):
    return np.array(numbers, np.int64).view(dtype)


def _packed(w, channels, n, taps, start, by):
    """The kernel's panels: ``taps`` in y and x, ``by`` the distances in ``w`` in y, x, channel and output."""
    tile = matmul_tile() // w.itemsize
    panels = empty((-(-n // tile) + 2) * tile * taps[0] * taps[1] * channels, w.dtype)
    numbers = _integers(w.dtype, channels, n, *taps, start, *by)
    launch(_pack_kernel, taps[0] * taps[1], (panels, w, numbers), work=panels.size)
    return panels


def _patches(image, channels, taps, stride, origin, rows):
    """What :func:`_gather` must know: sizes of the source, taps, steps, the first tap's place, rows of the result."""
    return *image, channels, *taps, *stride, *origin, *rows


def _products(source, panels, out, bias, patches, n, where):
    """Launch :func:`_correlate`; ``where`` is the start, and the distances of images, rows and columns in ``out``."""
    places = len(source) * patches[9] * patches[10]
    k = patches[3] * patches[4] * patches[2]
    numbers = _integers(source.dtype, *patches, n, places, *where, bias is not None)
    arrays = (source, panels, out, out if bias is None else bias, numbers)
    tiles = -(-places // TILES[matmul_tile()][0])
    launch(_correlate, tiles, arrays, work=places * (k + 1) * n * source.itemsize // 128)


def conv2d(x, w, stride=(1, 1), padding=((0, 0), (0, 0)), bias=None):
    """The convolution (in mathematics, the correlation) of images with a kernel.

    y[b, i, j, o] = sum over ky, kx, c of x[b, i s_y + ky - p_y, j s_x + kx - p_x, c] w[ky, kx, c, o] + bias[o]

    Args:
        x: images (B, H, W, C), float32 or float64.
        w: kernel (KH, KW, C, O), of the same type.
        stride: steps (s_y, s_x) in x from one output to the next.
        padding: rows of zeros above and below, columns of zeros left and right: ((above, below), (left, right)).
        bias: array (O,), added to every output.

    Returns:
        (B, (H + above + below - KH) // s_y + 1, likewise, O).

    Raises:
        TypeError: an operand is neither float32 nor float64, or two of them differ.
        ValueError: shapes that do not fit, or a kernel larger than the padded image.
    """
    shape = checked_conv(x, w, stride, padding, bias)
    x, w, *rest = as_operands("conv2d", (x, w) if bias is None else (x, w, bias))
    out = empty(shape, x.dtype)
    if out.size:
        (height, width, channels, n), (_, rows, columns, _) = w.shape, shape
        by = (width * channels * n, channels * n, n, 1)
        panels = _packed(w, channels, n, (height, width), 0, by)
        origin = (-padding[0][0], -padding[1][0])
        patches = _patches(x.shape[1:3], channels, (height, width), stride, origin, (rows, columns))
        _products(x, panels, out, *rest or [None], patches, n, (0, rows * columns * n, columns * n, n))
    return out


def _phases(length, taps, stride, before):
    """Of each phase: its first tap, how many, its first position, how many, and the source of its first position."""
    for phase in range(min(stride, length + before)):
        first = (phase - before) % stride
        count = -(-(length - first) // stride)
        number = max(0, -(-(taps - phase) // stride))
        if count > 0:
            yield phase, number, first, count, (first + before - phase) // stride - number + 1


def conv2d_transposed(g, w, stride, padding, shape, bias=None):
    """The transpose of :func:`conv2d` as a linear map of x, and the cotangent of x.

    Args:
        g: cotangent of a convolution's result, or any images (B, OH, OW, O).
        w: kernel (KH, KW, C, O).
        stride, padding: of the convolution.
        shape: of the result, (B, H, W, C): several heights and widths have a convolution of the same shape.
        bias: array (C,), added to every output.

    Raises:
        TypeError, ValueError: as :func:`conv2d`; or ``conv2d`` does not make the shape of ``g`` from ``shape``.
    """
    checked_conv_transposed(g, w, stride, padding, shape, bias)
    g, w, *rest = as_operands("conv2d_transposed", (g, w) if bias is None else (g, w, bias))
    out = empty(shape, g.dtype)
    if not out.size:
        return out
    (_, height, width, n), (_, kernel_width, _, channels) = shape, w.shape
    tap = n * channels
    for phase_y, taps_y, first_y, rows, y in _phases(height, w.shape[0], stride[0], padding[0][0]):
        for phase_x, taps_x, first_x, columns, x in _phases(width, kernel_width, stride[1], padding[1][0]):
            last = (phase_y + stride[0] * (taps_y - 1)) * kernel_width + phase_x + stride[1] * (taps_x - 1)
            by = (-stride[0] * kernel_width * tap, -stride[1] * tap, 1, channels)
            panels = _packed(w, channels, n, (taps_y, taps_x), last * tap, by)
            patches = _patches(g.shape[1:3], channels, (taps_y, taps_x), (1, 1), (y, x), (rows, columns))
            start = (first_y * width + first_x) * n
            where = (start, height * width * n, stride[0] * width * n, stride[1] * n)
            _products(g, panels, out, *rest or [None], patches, n, where)
    return out


def conv2d_weight_gradient(x, g, stride, padding, shape):
    """The cotangent of the kernel in :func:`conv2d`: patches of x, transposed, times g.

    Args:
        x: images (B, H, W, C).
        g: cotangent of the result, (B, OH, OW, O).
        stride, padding: of the convolution.
        shape: of the kernel, (KH, KW, C, O).

    Raises:
        TypeError, ValueError: as :func:`conv2d`; or it makes another shape than that of ``g``.
    """
    checked_conv_gradient(x, g, stride, padding, shape)
    x, g = as_operands("conv2d_weight_gradient", (x, g))
    out = empty(shape, x.dtype)
    if out.size:
        (height, width, channels, n), (images, rows, columns, _) = shape, g.shape
        origin = (-padding[0][0], -padding[1][0])
        patches = _patches(x.shape[1:3], channels, (height, width), stride, origin, (rows, columns))
        numbers = _integers(x.dtype, *patches, n, images * rows * columns)
        k = height * width * channels
        work = images * rows * columns * k * n * x.itemsize // 128
        launch(_weight_gradient, -(-k // TILES[matmul_tile()][0]), (x, g, out, numbers), work=work)
    return out
