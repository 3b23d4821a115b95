"""Max pooling: the largest number of each window of an image, channel by channel.

    window 3 x 3, stride 2            which tap it was, beside it: the cotangent goes back there
    1 5 2 . .        5 ...            1 ...
    4 3 0 . .   ->   . ...            . ...     (taps count from 0, by rows)
    2 2 1 . .

Images are (B, H, W, C): the loops over channels are innermost, without branches, and vectorise. The number of the tap
is kept as a float, which holds it exactly, so that both results have lanes of the same width. Of equal numbers the
first counts; NaN counts as largest. A thread takes rows of the result, so that no two write to one place.
"""

import numpy as np

from minivi.kernels.jit import chunk, launch
from minivi.kernels.matmul import at
from minivi.kernels.shapes import checked_pool, empty
from minivi.kernels.vector import as_operands

__all__ = ["max_pool2d", "max_pool2d_take", "max_pool2d_transposed"]


@chunk
def _pool(p, s, lo, hi):
    height, width, n = np.int64(s[0]), np.int64(s[1]), np.int64(s[2])
    taps_y, taps_x, step_y, step_x = np.int64(s[3]), np.int64(s[4]), np.int64(s[5]), np.int64(s[6])
    above, left, rows, columns = np.int64(s[7]), np.int64(s[8]), np.int64(s[9]), np.int64(s[10])
    for row in range(lo, hi):
        image, y = row // rows, row % rows * step_y - above
        for column in range(columns):
            x = column * step_x - left
            best, which = at(p[1], (row * columns + column) * n), at(p[2], (row * columns + column) * n)
            begin = True
            for ky in range(max(0, -y), min(taps_y, height - y)):
                for kx in range(max(0, -x), min(taps_x, width - x)):
                    v, tap = at(p[0], ((image * height + y + ky) * width + x + kx) * n), ky * taps_x + kx
                    for c in range(n):
                        better = begin | (v[c] > best[c]) | (v[c] != v[c])
                        best[c] = v[c] if better else best[c]
                        which[c] = tap if better else which[c]
                    begin = False


@chunk
def _transposed(p, s, lo, hi):
    """Rows ``lo`` to ``hi`` of the input's cotangent: what the windows that hold them send there."""
    height, width, n = np.int64(s[0]), np.int64(s[1]), np.int64(s[2])
    taps_y, taps_x, step_y, step_x = np.int64(s[3]), np.int64(s[4]), np.int64(s[5]), np.int64(s[6])
    above, left, rows, columns = np.int64(s[7]), np.int64(s[8]), np.int64(s[9]), np.int64(s[10])
    for row in range(lo, hi):
        image, y = row // height, row % height + above
        for i in range(width * n):
            p[2][row * width * n + i] = 0
        for window in range(max(0, -(-(y - taps_y + 1) // step_y)), min(rows, y // step_y + 1)):
            ky = y - window * step_y
            for column in range(columns):
                x, place = column * step_x - left, ((image * rows + window) * columns + column) * n
                g, which = at(p[0], place), at(p[1], place)
                for kx in range(max(0, -x), min(taps_x, width - x)):
                    target, tap = at(p[2], (row * width + x + kx) * n), ky * taps_x + kx
                    for c in range(n):
                        target[c] += g[c] if which[c] == tap else 0


@chunk
def _take(p, s, lo, hi):
    height, width, n = np.int64(s[0]), np.int64(s[1]), np.int64(s[2])
    taps_x, step_y, step_x = np.int64(s[4]), np.int64(s[5]), np.int64(s[6])
    above, left, rows, columns = np.int64(s[7]), np.int64(s[8]), np.int64(s[9]), np.int64(s[10])
    for row in range(lo, hi):
        y = row // rows * height + row % rows * step_y - above
        for i in range(columns * n):
            place = row * columns * n + i
            tap, x = np.int64(p[1][place]), i // n * step_x - left
            p[2][place] = p[0][((y + tap // taps_x) * width + x + tap % taps_x) * n + i % n]


def _numbers(shape, size, stride, padding, result):
    """The geometry, as the chunks read it."""
    return *shape[1:], *size, *stride, padding[0], padding[1], *result[1:3]


def max_pool2d(x, size, stride, padding=(0, 0)):
    """The largest number of each window, and which tap it was.

    Args:
        x: images (B, H, W, C), float32 or float64.
        size: height and width of a window.
        stride: steps from one window to the next.
        padding: rows above and below, columns left and right, that no window chooses.

    Returns:
        Two arrays (B, (H + 2 p_y - size_y) // stride_y + 1, likewise, C): values, and numbers of taps as floats.

    Raises:
        TypeError: ``x`` is neither float32 nor float64.
        ValueError: no images; windows larger than they, padding as large as a window, a stride below 1.
    """
    shape = checked_pool(x.shape, size, stride, padding)
    (x,) = as_operands("max_pool2d", (x,))
    out, which = empty(shape, x.dtype), empty(shape, x.dtype)
    numbers = _numbers(x.shape, size, stride, padding, shape)
    launch(_pool, shape[0] * shape[1], (x, out, which), numbers, work=out.size * size[0] * size[1])
    return out, which


def max_pool2d_transposed(g, which, size, stride, padding, shape):
    """The cotangent of ``x``, of ``shape``, in :func:`max_pool2d`: that of each window goes where its number was."""
    g, which = as_operands("max_pool2d_transposed", (g, which))
    out = empty(shape, g.dtype)
    numbers = _numbers(shape, size, stride, padding, g.shape)
    launch(_transposed, shape[0] * shape[1], (g, which, out), numbers, work=g.size * size[0] * size[1])
    return out


def max_pool2d_take(u, which, size, stride, padding):
    """The numbers of ``u`` at the places that :func:`max_pool2d` chose in ``x``."""
    u, which = as_operands("max_pool2d_take", (u, which))
    out = empty(which.shape, u.dtype)
    numbers = _numbers(u.shape, size, stride, padding, which.shape)
    launch(_take, which.shape[0] * which.shape[1], (u, which, out), numbers, work=out.size)
    return out
