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
from minivi.kernels.matmul import as_integers, at

EXACT = {"error_model": "numpy", "nogil": True}  # no licence to contract, reorder or ignore signs of zeros
ZERO = np.float32(0)  # what sums begin with: it makes 0 of -0
element = None  # in the globals of each kernel of elements: its function of two numbers


def _elements(p, s, lo, hi):
    """out = element(x, y) over three axes; s: lengths of the last two, strides of out, x and y, and if out is x."""
    out, x, y, n, m = p[0], p[1], p[2], np.int64(s[0]), np.int64(s[1])
    o, a, b = np.int64(s[4]), np.int64(s[7]), np.int64(s[10])
    while lo < hi:
        row = lo // n
        k, i, j = lo - row * n, row // m, row % m
        u, v = np.int64(s[2]) * i + np.int64(s[3]) * j + o * k, np.int64(s[5]) * i + np.int64(s[6]) * j + a * k
        w, count = np.int64(s[8]) * i + np.int64(s[9]) * j + b * k, min(hi - lo, n - k)
        if s[11] != 0 and o == 1 and b == 1:  # in place: LLVM's vectors need to know
            for k in range(count):
                out[u + k] = element(out[u + k], y[w + k])
        elif o == 1 and a == 1 and b == 1:
            for k in range(count):
                out[u + k] = element(x[v + k], y[w + k])
        elif o == 1 and a == 1 and b == 0:
            number = y[w]
            for k in range(count):
                out[u + k] = element(x[v + k], number)
        elif o == 1 and a == 0 and b == 1:
            number = x[v]
            for k in range(count):
                out[u + k] = element(number, y[w + k])
        else:
            for k in range(count):
                out[u + o * k] = element(x[v + a * k], y[w + b * k])
        lo += count


def _kernel(name, function):
    # not as a closure, see kernels.vector.pointwise
    kernel = FunctionType(_elements.__code__, globals() | {"element": njit(inline="always")(function)}, name)
    kernel.__qualname__ = f"_elements.{name}"
    return chunk(kernel, options=EXACT)


_copy = _kernel("copy", lambda x, y: x)
KERNELS = {
    np.add: _kernel("add", lambda x, y: x + y),
    np.subtract: _kernel("subtract", lambda x, y: x - y),
    np.multiply: _kernel("multiply", lambda x, y: x * y),
    np.divide: _kernel("divide", lambda x, y: x / y),
    np.negative: _kernel("negative", lambda x, y: -x),
    np.square: _kernel("square", lambda x, y: x * x),
    np.sqrt: _kernel("sqrt", lambda x, y: math.sqrt(x)),
}


@chunk(options=EXACT)
def _sum_columns(p, s, lo, hi):
    """Sums over the first axis: each thread has its columns, and goes through all rows."""
    count, apart = np.int64(s[0]), np.int64(s[1])
    for k in range(lo, hi):
        p[0][k] = ZERO + p[1][k]
    for r in range(1, count):
        row = at(p[1], r * apart)
        for k in range(lo, hi):
            p[0][k] += row[k]


@njit(**EXACT)
def _halves(x, n, apart):
    """The sum of ``n`` numbers as NumPy adds them: eight sums side by side for up to 128, else of two halves."""
    if n < 8:
        total = x[0]
        for i in range(1, n):
            total += x[i * apart]
        return total
    if n <= 128:
        a, b, c, d = x[0], x[apart], x[2 * apart], x[3 * apart]
        e, f, g, h = x[4 * apart], x[5 * apart], x[6 * apart], x[7 * apart]
        i = 8
        while i < n - n % 8:
            row = at(x, i * apart)
            a, b, c, d = a + row[0], b + row[apart], c + row[2 * apart], d + row[3 * apart]
            e, f, g, h = e + row[4 * apart], f + row[5 * apart], g + row[6 * apart], h + row[7 * apart]
            i += 8
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
        while i < n:
            total += x[i * apart]
            i += 1
        return total
    half = n // 2 - n // 2 % 8
    return _halves(x, half, apart) + _halves(at(x, half * apart), n - half, apart)


@chunk(options=EXACT)
def _sum_rows(p, s, lo, hi):
    """Sums over the last axis."""
    count, apart, row = np.int64(s[0]), np.int64(s[1]), np.int64(s[2])
    for r in range(lo, hi):
        p[0][r] = ZERO + _halves(at(p[1], r * row), count, apart)


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
    if function in KERNELS and kwargs.keys() == {"out"}:
        x, y = args if len(args) == 2 else args * 2
        return _each(KERNELS[function], kwargs["out"][0], x, y)
    if function in (np.sum, np.add.reduce):
        return _sum(*args, **{"out": (out,)} | kwargs)
    if function in (np.ndarray.copy, np.ndarray.reshape, np.reshape, np.ndarray.flatten, np.ndarray.ravel):
        return _each(_copy, out.reshape(args[0].shape), args[0], args[0])
    if function is np.ndarray.fill:
        return _each(_copy, args[0], args[1], args[1])
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
            return _each(_copy, out, part, part) if out is not None else _each(_copy, part, args[2], args[2])
    return None


def as_launch(kernel, n, arrays, scalars, work):
    """(address, arrays, scalars, n, threads), as a trace notes launches and a table takes them."""
    threads = 1 if work < 2 * GRAIN else min(get_threads(), work // GRAIN, n)
    dtype = arrays[0].dtype
    address = kernel.addresses.get(dtype) or kernel.address(dtype)
    return address, arrays, (*map(float, scalars), *_ZEROS[len(scalars) :]), n, threads


def _flat(*arrays):
    return all(a.flags.c_contiguous for a in arrays)


def _each(kernel, out, x, y):
    """One launch over all elements of ``out``, to which x and y broadcast; none if ``out`` is empty."""
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
    scalars = (axes[2][0], axes[1][0], *places, arrays[1].ctypes.data == out.ctypes.data)
    return [as_launch(kernel, out.size, tuple(arrays), scalars, out.size)]


def _join(out, parts, axis=0):
    launches, begin = [], 0
    for part in parts:
        end = begin + part.shape[axis]
        target = out[(slice(None),) * (axis % out.ndim) + (slice(begin, end),)]
        more, begin = _each(_copy, target, part, part), end
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
    dims = [(n, stride // a.itemsize, i in summed) for i, (n, stride) in enumerate(zip(a.shape, a.strides)) if n > 1]
    if not _flat(a, out) or a.itemsize not in (4, 8):
        return None
    if not any(d[2] for d in dims):
        return _each(KERNELS[np.add], out.reshape(-1), a.reshape(-1), 0.0)
    kinds = [d[2] for d in dims]
    count, kept = math.prod(d[0] for d in dims if d[2]), out.size
    if sorted(kinds) == kinds:  # the last axes
        return [as_launch(_sum_rows, kept, (out, a), (count, 1, count), a.size)]
    if sorted(kinds, reverse=True) == kinds:  # the first ones
        return [as_launch(_sum_columns, kept, (out, a), (count, kept), a.size)]
    return None
