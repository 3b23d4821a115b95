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

With a stride of 1 in y, neighbours below one another share all but one row of their patches. So where images are not
tiny, the rows of patches are gathered apart, each once instead of KH times; position r of OW a line then has its patch
in the rows r, r + OW, r + 2 OW, and the product is done by *groups*, one for each ky::

        rows of patches     0   1   2  ...  OW  OW+1 ...  2 OW ...
        position 0         ky=0             ky=1          ky=2
        position 1             ky=0              ky=1

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
LEAST = 64  # positions in an image, and numbers in a row of a patch, for which rows are gathered apart


@njit(error_model="numpy", nogil=True)
def _gather(patches, distance, x, place, count, q, first, last):
    """patches[r, k - first] = number k, ``first`` <= k < ``last``, of the patch at the output position ``place`` + r.

    A vector behind a patch may be overwritten: patches are gathered in order, and room for one more is at the end.
    """
    lanes, _, _, _ = _sizes(x)
    height, row, taps, run = q[0], q[1] * q[2], q[3], q[4] * q[2]
    image, within = place // (q[9] * q[10]), place % (q[9] * q[10])
    line, column = within // q[10], within % q[10]
    t_first, t_end = (first // run, min(taps, -(-last // run))) if run else (0, 0)
    for r in range(count):
        patch = at(patches, r * distance - first)
        y, j = line * q[5] + q[7], (column * q[6] + q[8]) * q[2]
        for t in range(t_first, t_end):
            k, end = max(first, t * run), min(last, (t + 1) * run)
            inside = y + t >= 0 and y + t < height
            source = at(x, (image * height + y + t) * row + j - t * run)
            low = min(end, max(k, t * run - j)) if inside else end
            high = max(low, min(end, t * run - j + row))
            for i in range(k, low):
                patch[i] = 0
            for i in range(low, high, lanes):  # behind the last number zeros, over which the next run is written
                _copy(at(patch, i), at(source, i), high - i)
            for i in range(high, end):
                patch[i] = 0
        column += 1
        if column == q[10]:
            line, column = line + 1, 0
            if line == q[9]:
                image, line = image + 1, 0


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


@njit(inline="always")
def _shape(q, groups, most):
    """Of a product by groups: numbers in one, rows between two, positions in an image, rows that are gathered for it.

    Where there is one group, positions of different images may follow each other.
    """
    return q[3] * q[4] * q[2], q[10], (q[9] - groups + 1) * q[10] if groups > 1 else most, q[9] * q[10]


@chunk(setting=matmul_tile, flush=True)
def _correlate(p, s, lo, hi):
    """Tiles ``lo`` to ``hi`` of the patches times the packed kernel, row by row to where the target wants them."""
    q = as_integers(p[4])
    n, places = q[11], q[12]
    offset, by_image, by_row, by_column, biased, groups = q[13], q[14], q[15], q[16], q[17] != 0, q[18]
    length, columns, image, gathered = _shape(q, groups, places)
    lanes, size, MR, DEPTH = _sizes(p[0])
    lines = q[9] - groups + 1
    direct = by_column == n and by_row == columns * n and by_image == lines * by_row
    distance, between = _distance(length, size), (groups - 1) * columns
    most = max(MR, min(ROWS, ROOM // (size * distance) - between) // MR * MR)
    room = np.empty(((distance + (0 if direct else n)) * most + between * distance + lanes) * size + 64, np.uint8)
    patches = _pointer(p[0], room)
    blocks = max(1, -(-length // DEPTH))
    depth = -(-length // blocks)
    first, end = lo * MR, min(hi * MR, places)
    while first < end:
        height = min(most, end - first, image - first % image)
        _gather(patches, distance, p[0], first // image * gathered + first % image, height + between, q, 0, length)
        result = at(p[2], first * n) if direct else at(patches, (most + between) * distance)
        for block in range(groups * blocks):
            k0 = block % blocks * depth
            k1, row = min(k0 + depth, length), block // blocks * columns
            vectors, v = -(-n // lanes), 0
            while v < vectors:
                taken = _panel_vectors(vectors - v)
                width, j = taken * lanes, v * lanes
                v += taken
                panel = at(p[1], j * groups * length + (block // blocks * length + k0) * width)
                for i in range(0, height, MR):
                    c = at(result, i * n + j)
                    start, ldstart = (c, n) if block > 0 else (at(p[3], j), 0)
                    _tile(
                        taken, at(patches, (i + row) * distance + k0), distance, 1, min(MR, height - i), panel, width,
                        panel, False, k1 - k0, c, n, min(width, n - j), start, ldstart, block > 0 or biased,
                    )  # fmt: skip
        for r in range(0 if direct else height):
            picture, within = (first + r) // (lines * columns), (first + r) % (lines * columns)
            row = offset + picture * by_image + within // columns * by_row + within % columns * by_column
            target, source = at(p[2], row), at(result, r * n)
            for i in range(n):
                target[i] = source[i]
        first += height
        room[0] = 0  # named in the loop: Numba frees an array after its last mention


@chunk(setting=matmul_tile, flush=True)
def _weight_gradient(p, s, lo, hi):
    """Tiles ``lo`` to ``hi`` of the kernel's rows, those of all groups by turns: patches, transposed, times g."""
    q = as_integers(p[3])
    n, places, groups = q[11], q[12], q[13]
    length, columns, image, gathered = _shape(q, groups, places)
    lanes, size, MR, DEPTH = _sizes(p[0])
    begin, end = lo // groups * MR, min(((hi - 1) // groups + 1) * MR, length)
    distance, between = _distance(min(WEIGHTS, end - begin), size), (groups - 1) * columns
    most = max(MR, min(DEPTH, ROOM // (size * distance) - between))
    room = np.empty(((most + between) * distance + 3 * lanes * most) * size + 64, np.uint8)
    patches = _pointer(p[0], room)
    packed = at(patches, (most + between) * distance)
    for k0 in range(begin, end, WEIGHTS):
        k1, first = min(k0 + WEIGHTS, end), 0
        while first < max(places, 1):
            depth = min(most, places - first, image - first % image) if places else 0
            row = first // image * gathered + first % image if places else 0
            _gather(patches, distance, p[0], row, depth + between if depth else 0, q, k0, k1)
            vectors, v = -(-n // lanes), 0
            while v < vectors:
                taken = _panel_vectors(vectors - v)
                width, j = taken * lanes, v * lanes
                v += taken
                _pack(packed, width, at(p[1], first * n + j), n, 1, depth, min(width, n - j))
                for tile in range(lo, hi):
                    i, group = tile // groups * MR, tile % groups
                    if k0 <= i < k1:
                        c = at(p[2], (group * length + i) * n + j)
                        _tile(
                            taken, at(patches, group * columns * distance + i - k0), 1, distance, min(MR, length - i),
                            packed, width, packed, False, depth, c, n, min(width, n - j), c, n, first > 0,
                        )  # fmt: skip
            first += max(depth, 1)
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


def _patches(image, channels, taps, stride, origin, rows, least, size):
    """What :func:`_gather` must know: sizes of the source, taps, steps, the first tap's place, rows of the result.

    And the number of groups. Where rows of patches are gathered apart, there is one of a tap in y for each.
    """
    run, places = taps[1] * channels, rows[0] * rows[1]
    between = (taps[0] - 1) * rows[1] * min(run, WEIGHTS) * size
    if taps[0] < 2 or stride[0] > 1 or run < least or places < LEAST or 2 * between > ROOM:
        return (*image, channels, *taps, *stride, *origin, *rows), 1
    return (*image, channels, 1, taps[1], *stride, *origin, rows[0] + taps[0] - 1, rows[1]), taps[0]


def _products(source, panels, out, bias, n, where, *patches):
    """Launch :func:`_correlate`; ``where`` is the start, and the distances of images, rows and columns in ``out``."""
    _, channels, taps, _, _, rows = patches
    places, k = len(source) * rows[0] * rows[1], taps[0] * taps[1] * channels
    patches, groups = _patches(*patches, LEAST, source.itemsize)
    numbers = _integers(source.dtype, *patches, n, places, *where, bias is not None, groups)
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
        patches = x.shape[1:3], channels, (height, width), stride, origin, (rows, columns)
        _products(x, panels, out, *rest or [None], n, (0, rows * columns * n, columns * n, n), *patches)
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
            patches = g.shape[1:3], channels, (taps_y, taps_x), (1, 1), (y, x), (rows, columns)
            start = (first_y * width + first_x) * n
            where = (start, height * width * n, stride[0] * width * n, stride[1] * n)
            _products(g, panels, out, *rest or [None], n, where, *patches)
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
        patches = x.shape[1:3], channels, (height, width), stride, origin, (rows, columns)
        patches, groups = _patches(*patches, 1, x.itemsize)
        numbers, k = _integers(x.dtype, *patches, n, images * rows * columns, groups), height * width * channels
        work = images * rows * columns * k * n * x.itemsize // 128
        launch(_weight_gradient, groups * -(-k // groups // TILES[matmul_tile()][0]), (x, g, out, numbers), work=work)
    return out
