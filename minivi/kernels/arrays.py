"""What NumPy does between kernels, as launches: a program then needs no Python there, and large arrays all threads.

    np.add(x, b, out=y)             x  (100, 40)   strides 40, 1        element 93 of y: row 2, column 13,
        |                           b  (40,)       strides  0, 1        y[93] = x[2, 13] + b[13]
    launch(_add, 4000, (y, x, b))   y  (100, 40)   strides 40, 1

Every function here gives NumPy's bits: one rounding for each operation, never a fused one, and sums in NumPy's order,
which is row after row over the first axes and by halves over the last one (``_halves``).
"""

import math
from types import FunctionType

import numpy as np
from numba import njit

from minivi.kernels.jit import _ZEROS, GRAIN, chunk, get_threads
from minivi.kernels.matmul import _pointer, as_integers, at
from minivi.kernels.random import LAWS, place

EXACT = {"error_model": "numpy", "nogil": True}  # no licence to contract, reorder or ignore signs of zeros
ZERO = np.float32(0)  # what sums begin with: it makes 0 of -0
RUN = 512  # elements that are done together: they stay in the first cache
element = None  # in the globals of each kernel of elements: its function of two numbers


def _elements(p, s, lo, hi):
    """out = element(x, y) over three axes; s: lengths of the last two, and three strides of out, of x and of y.

    Done in runs along the last axis. What does not lie in a row there is copied to and from where it does.
    """
    n, m = np.int64(s[0]), np.int64(s[1])
    room = np.empty(3 * RUN * 8 + 64, np.uint8)
    left = _pointer(p[0], room)
    right, result = at(left, RUN), at(left, 2 * RUN)
    while lo < hi:
        i, j, k = lo // n // m, lo // n % m, lo % n
        count = min(hi - lo, n - k, RUN)
        out, x, y = _start(p[0], s, 2, i, j, k), _start(p[1], s, 5, i, j, k), _start(p[2], s, 8, i, j, k)
        if s[7] != 1:
            _gather(left, x, np.int64(s[7]), count)
            x = left
        if s[10] != 1:
            _gather(right, y, np.int64(s[10]), count)
            y = right
        for k in range(count):
            result[k] = element(x[k], y[k])
        apart = np.int64(s[4])
        if apart == 1:
            for k in range(count):
                out[k] = result[k]
        else:
            for k in range(count):
                out[k * apart] = result[k]
        lo += count


@njit(**EXACT)
def _start(a, s, at_s, i, j, k):
    """Where in ``a`` the element (i, j, k) is, whose strides are ``s[at_s]`` and the next two."""
    return at(a, np.int64(s[at_s]) * i + np.int64(s[at_s + 1]) * j + np.int64(s[at_s + 2]) * k)


@njit(**EXACT)
def _gather(row, a, apart, count):
    """row[k] = a[k * apart]."""
    if apart == 0:
        number = a[0]
        for k in range(count):
            row[k] = number
    else:
        for k in range(count):
            row[k] = a[k * apart]


def _kernel(name, function):
    # not as a closure, see kernels.vector.pointwise
    kernel = FunctionType(_elements.__code__, globals() | {"element": njit(inline="always")(function)}, name)
    kernel.__qualname__ = f"_elements.{name}"
    return chunk(kernel, options=EXACT)


# Of each function of NumPy its kernel, and what that gets in place of a second argument: x times 1 is x, to the bit,
# and x times -1 is -x. None stands for x itself.
_times = _kernel("multiply", lambda x, y: x * y)
KERNELS = {
    np.add: (_kernel("add", lambda x, y: x + y), None),
    np.subtract: (_kernel("subtract", lambda x, y: x - y), None),
    np.multiply: (_times, None),
    np.divide: (_kernel("divide", lambda x, y: x / y), None),
    np.sqrt: (_kernel("sqrt", lambda x, y: math.sqrt(x)), None),
    np.square: (_times, None),
    np.negative: (_times, -1.0),
    np.copyto: (_times, 1.0),
}


@chunk(options=EXACT)
def _sum_columns(p, s, lo, hi):
    """Sums over the first axis: each thread has its columns, and goes through all rows."""
    total, count, apart = p[0], np.int64(s[0]), np.int64(s[1])
    for k in range(lo, hi):
        total[k] = ZERO + p[1][k]
    whole = 1 + (count - 1) // 8 * 8
    for r in range(1, whole, 8):  # eight rows at a time: so many reads are under way at once
        x = at(p[1], r * apart)
        for k in range(lo, hi):
            half = total[k] + x[k] + x[k + apart] + x[k + 2 * apart] + x[k + 3 * apart]
            total[k] = half + x[k + 4 * apart] + x[k + 5 * apart] + x[k + 6 * apart] + x[k + 7 * apart]
    for r in range(whole, count):
        x = at(p[1], r * apart)
        for k in range(lo, hi):
            total[k] += x[k]


@njit(**EXACT)
def _halves(x, n):
    """The sum of ``n`` numbers as NumPy adds them: eight sums side by side for up to 128, else of two halves."""
    if n <= 128:
        total, i = x[0], 1
        if n >= 8:
            a, b, c, d, e, f, g, h = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
            for i in range(8, n - n % 8, 8):
                a, b, c, d = a + x[i], b + x[i + 1], c + x[i + 2], d + x[i + 3]
                e, f, g, h = e + x[i + 4], f + x[i + 5], g + x[i + 6], h + x[i + 7]
            total, i = ((a + b) + (c + d)) + ((e + f) + (g + h)), n - n % 8
        while i < n:
            total += x[i]
            i += 1
        return total
    half = n // 2 - n // 2 % 8
    return _halves(x, half) + _halves(at(x, half), n - half)


@chunk(options=EXACT)
def _sum_rows(p, s, lo, hi):
    """Sums over the last axis."""
    count = np.int64(s[0])
    for r in range(lo, hi):
        p[0][r] = ZERO + _halves(at(p[1], r * count), count)


@chunk
def _take_rows(p, s, lo, hi):
    index, n = as_integers(p[2]), np.int64(s[0])
    for r in range(lo, hi):
        out, a = at(p[0], r * n), at(p[1], index[r] * n)
        for k in range(n):
            out[k] = a[k]


def as_launches(function, args, kwargs, out):
    """What NumPy is asked for as launches in order, if there are kernels for it; else None.

    Args:
        function, args, kwargs: of the call.
        out: where its result goes; None where it writes into an argument.
    """
    if function in KERNELS and function is not np.copyto and kwargs.keys() == {"out"}:
        return _each(function, kwargs["out"][0], *args)
    if function in (np.sum, np.add.reduce):
        return _sum(*args, **{"out": (out,)} | kwargs)
    if function in (np.ndarray.copy, np.ndarray.reshape, np.reshape, np.ndarray.flatten, np.ndarray.ravel):
        return _each(np.copyto, out.reshape(args[0].shape), args[0])
    if function is np.ndarray.fill:
        return _each(np.copyto, *args)
    if function is np.concatenate:
        return _join(out, *args, **kwargs)
    if function in (np.ndarray.__setitem__, np.ndarray.__getitem__):
        a, index = args[:2]
        if out is not None and isinstance(index, np.ndarray):
            fits = a.ndim == 2 and index.ndim == 1 and index.dtype == np.int64 and index.flags.c_contiguous
            if not fits or out.size < GRAIN or not (a.dtype == out.dtype and a.dtype.kind == "f" and _flat(a, out)):
                return None
            return [as_launch(_take_rows, len(index), (out, a, index), (a.shape[1],), out.size)]
        index = index if isinstance(index, tuple) else (index,)
        if all(i is Ellipsis or i is None or type(i) in (int, slice) for i in index):
            part = a[index if Ellipsis in index else (*index, Ellipsis)]
            return _each(np.copyto, out, part) if out is not None else _each(np.copyto, part, args[2])
    return None


def as_launch(kernel, n, arrays, scalars=(), work=0):
    """(address, arrays, scalars, n, threads), as a trace notes launches and a table takes them."""
    threads = 1 if work < 2 * GRAIN else min(get_threads(), work // GRAIN, n)
    dtype = arrays[0].dtype
    address = kernel.addresses.get(dtype) or kernel.address(dtype)
    return address, arrays, (*map(float, scalars), *_ZEROS[len(scalars) :]), n, threads


def as_draw(name, out, room):
    """What a generator's method ``name`` draws into ``out``, of ``room`` bytes, as a launch, and blocks; else None.

    The launch's scalars have zeros in place of key and counter.
    """
    law = LAWS.get(({"standard_normal": "normal", "random": "uniform"}.get(name), out.dtype))
    if law is None or not _flat(out) or not out.size:
        return None
    kernel, words, work = law
    blocks = -(-out.size * words // 4)
    if blocks * 4 // words * out.itemsize > room:
        return None
    flat = np.lib.stride_tricks.as_strided(out.reshape(-1), (blocks * 4 // words,))
    return as_launch(kernel, blocks, (flat,), place((0,) * 4, 0, out.size), out.size * work), blocks


def _flat(*arrays):
    return all(a.flags.c_contiguous for a in arrays)


def _each(function, out, x, y=None):
    """One launch over all elements of ``out``, to which x and y broadcast; none if ``out`` is empty."""
    kernel, second = KERNELS[function]
    y = (x if second is None else second) if y is None else y
    if out.dtype.kind != "f" or out.dtype.itemsize not in (4, 8):
        return None
    arrays = [out]
    for a in (x, y):
        if not isinstance(a, np.ndarray) and type(a) not in (int, float, out.dtype.type):
            return None  # of another dtype, in which NumPy computes
        a = np.asarray(a, out.dtype) if not isinstance(a, np.ndarray) else a
        same = a is out or (a.ctypes.data, a.strides, a.shape) == (out.ctypes.data, out.strides, out.shape)
        if a.dtype != out.dtype or (not same and np.may_share_memory(a, out)):
            return None
        while a.ndim > out.ndim:  # of an assignment, whose value may have more axes of size 1
            a = a[0]
        arrays.append(np.broadcast_to(a, out.shape))
    if not out.size:
        return []
    axes = []  # (length, strides), neighbours as one where they lie as one
    for n, *strides in zip(out.shape, *(a.strides for a in arrays), strict=True):
        if n == 1:
            continue
        if axes and all(before == n * stride for before, stride in zip(axes[-1][1], strides, strict=True)):
            axes[-1] = (axes[-1][0] * n, strides)
        else:
            axes.append((n, strides))
    if len(axes) > 3 or any(stride % out.itemsize for _, strides in axes for stride in strides):
        return None
    axes = [(1, [0, 0, 0])] * (3 - len(axes)) + axes
    places = [axis[1][a] // out.itemsize for a in range(3) for axis in axes]
    return [as_launch(kernel, out.size, tuple(arrays), (axes[2][0], axes[1][0], *places), out.size)]


def _join(out, parts, axis=0):
    launches, begin = [], 0
    for part in parts:
        end = begin + part.shape[axis]
        target = out[(slice(None),) * (axis % out.ndim) + (slice(begin, end),)]
        more, begin = _each(np.copyto, target, part), end
        if more is None:
            return None
        launches += more
    return launches


def _sum(a, axis=None, dtype=None, out=None, keepdims=False, where=True):
    """A sum over the first or the last axes."""
    (out,) = out
    if dtype is not None or where is not True or not (a.dtype == out.dtype and a.dtype.kind == "f" and a.size):
        return None
    axes = range(a.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    summed = {i % a.ndim for i in axes}
    if not _flat(a, out) or a.itemsize not in (4, 8):
        return None
    kinds = [i in summed for i, n in enumerate(a.shape) if n > 1]
    if not any(kinds):
        return _each(np.add, out.reshape(-1), a.reshape(-1), 0.0)
    kept = out.size
    count = a.size // kept
    if sorted(kinds) == kinds:  # the last axes
        return [as_launch(_sum_rows, kept, (out, a), (count,), a.size)]
    if sorted(kinds, reverse=True) == kinds:  # the first ones
        return [as_launch(_sum_columns, kept, (out, a), (count, kept), a.size)]
    return None
