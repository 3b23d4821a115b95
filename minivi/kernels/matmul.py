"""Matrix products, from three loops to the speed of the machine.

Three loops (:func:`minivi.kernels.reference.matmul.matmul_loops`) load two numbers for each multiply-add; a core with
AVX2 can do sixteen multiply-adds of float32 in the time of two such loads. So a number must be used many times once it
is in a register. Four steps lead there:

1. *A tile of C in registers.* MR rows by three vectors of columns are accumulated at once. One step of k loads three
   vectors of B and MR scalars of A, each copied into all lanes of a register, for 3 MR vector multiply-adds::

                            b[k, :]   | vector 0 | vector 1 | vector 2 |
                      a[0, k] -> all lanes:  x          x          x     -> added to row 0 of the tile
                      a[1, k] -> all lanes:  x          x          x     -> added to row 1
                        ...                                                   ... MR rows

   AVX2 has 16 registers: 4 x 3 accumulators + 3 of B + 1 of A. AVX-512 has 32: 8 x 3 + 3 + 1. No compiler finds
   this by itself, so :func:`_tile` writes the LLVM vector code down.
2. *A panel of B in the first-level cache.* All tiles below one another use the same columns of B, whose rows lie far
   apart in memory. :func:`_pack` copies them into one small array; if B is a transposed view, it transposes them on the
   way, in registers (:func:`_turn`).
3. *Blocks of k and of rows*, so that the panel (DEPTH rows) fits into the first-level cache. Large blocks of A are
   packed too, in stripes as wide as a vector; small ones are read where they are, by rows or by columns::

                     K                       N                           N
                +---------+           +--------------+            +--------------+
                |         |         K |  |##|        | DEPTH      |  |  |        |
              M |  ####   |           |  |  |        |          M |  |##| <- tile|  MR rows x 3 vectors
                |  ####   | BLOCK     +--------------+            |  |  |        |
                +---------+              panel                    +--------------+

   Each tile of C goes on where the previous block of k left it; ``bias`` and ``accumulate`` start it the same way.
4. *Threads* take columns, in whole vectors, or rows, in whole tiles. Every element of C is one sum over k in order,
   by fused multiply-adds, whoever computes it: no choice above changes a bit of the result.
"""

import functools
import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from .jit import chunk, launch
from .reference.matmul import checked_shape

__all__ = ["matmul"]

# Bytes of a vector register; rows of a tile; length of a block of k, of which a panel takes 24 KB.
_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
VECTOR, MR, DEPTH = (64, 8, 128) if "+avx512f" in _FEATURES else (32, 4, 256)
BLOCK = 1024  # rows in a block of A

_I32, _I64 = ir.IntType(32), ir.IntType(64)


class _Emitter:
    """Writes vector instructions for one element type at the place where the LLVM builder stands."""

    def __init__(self, context, builder, pointer):
        self.builder = builder
        self.element = context.get_value_type(pointer.dtype)
        self.bytes = pointer.dtype.bitwidth // 8
        self.lanes = VECTOR // self.bytes
        self.vector = ir.VectorType(self.element, self.lanes)

    def constant(self, values):
        return ir.Constant(ir.VectorType(_I32, len(values)), values)

    def call(self, name, result, *args):
        """Call the LLVM intrinsic ``name`` for our vector type."""
        kind = ir.FunctionType(result, [arg.type for arg in args])
        name = f"llvm.{name}.v{self.lanes}f{8 * self.bytes}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name + (".p0" if "masked" in name else ""))
        return self.builder.call(function, args)

    def splat(self, scalar):
        """A vector with ``scalar`` in all lanes."""
        empty = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        return self.builder.shuffle_vector(
            self.builder.insert_element(empty, scalar, _I32(0)), empty, self.constant([0] * self.lanes)
        )

    def address(self, pointer, *terms):
        """The vector that starts the sum of ``terms`` elements behind ``pointer``."""
        offset = functools.reduce(self.builder.add, terms)
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())

    def load(self, address, mask=None):
        if mask is None:
            return self.builder.load(address, align=self.bytes)
        zeros = ir.Constant(self.vector, [0.0] * self.lanes)
        return self.call("masked.load", self.vector, address, _I32(self.bytes), mask, zeros)

    def store(self, value, address, mask=None):
        if mask is None:
            self.builder.store(value, address, align=self.bytes)
        else:
            self.call("masked.store", ir.VoidType(), value, address, _I32(self.bytes), mask)

    def mask(self, columns, first=0):
        """Which of the lanes ``first``, ``first`` + 1, ... are below ``columns``."""
        integer = ir.IntType(8 * self.bytes)
        lanes = ir.Constant(ir.VectorType(integer, self.lanes), [first + lane for lane in range(self.lanes)])
        columns = columns if self.bytes == 8 else self.builder.trunc(columns, integer)
        return self.builder.icmp_signed("<", lanes, self.splat(columns))


def _emit_tile(emit, vectors, a, row, step, height, b, ldb, panel, keep, depth, c, ldc, columns, start, ldstart, go_on):
    """The body of :func:`_tile`."""
    builder, lanes, vector = emit.builder, emit.lanes, emit.vector
    each = [(r, v) for r in range(MR) for v in range(vectors)]
    tile = {(r, v): cgutils.alloca_once(builder, vector) for r, v in each}
    # A tile shorter than MR computes its last row again, and does not store it: cheaper than a kernel of each height.
    last = builder.sub(height, _I64(1))
    rows = [builder.select(builder.icmp_signed("<", _I64(r), height), _I64(r), last) for r in range(MR)]
    a_rows = [builder.gep(a, [builder.mul(r, row)]) for r in rows]
    full = builder.icmp_signed("==", columns, _I64(vectors * lanes))

    def full_or_masked(access):
        with builder.if_else(full) as (whole, part):
            with whole:
                access([None] * vectors)
            with part:
                access([emit.mask(columns, v * lanes) for v in range(vectors)])

    def begin(masks):
        for r, v in each:
            address = emit.address(start, builder.mul(rows[r], ldstart), _I64(v * lanes))
            builder.store(emit.load(address, masks[v]), tile[r, v])

    def end(masks):
        for r in range(MR):
            with builder.if_then(builder.icmp_signed("<", _I64(r), height)):
                for v in range(vectors):
                    address = emit.address(c, builder.mul(_I64(r), ldc), _I64(v * lanes))
                    emit.store(builder.load(tile[r, v]), address, masks[v])

    with builder.if_else(go_on) as (yes, no):
        with yes:
            full_or_masked(begin)
        with no:
            for r, v in each:
                builder.store(ir.Constant(vector, [0.0] * lanes), tile[r, v])

    def accumulate(keep):
        with cgutils.for_range(builder, depth) as loop:
            k = loop.index
            b_row = [emit.load(emit.address(b, builder.mul(k, ldb), _I64(v * lanes))) for v in range(vectors)]
            if keep:
                for v in range(vectors):
                    emit.store(b_row[v], emit.address(panel, builder.mul(k, _I64(vectors * lanes)), _I64(v * lanes)))
            for r in range(MR):
                x = emit.splat(builder.load(builder.gep(a_rows[r], [builder.mul(k, step)])))
                for v in range(vectors):
                    builder.store(emit.call("fma", vector, x, b_row[v], builder.load(tile[r, v])), tile[r, v])

    with builder.if_else(keep) as (yes, no):
        with yes:
            accumulate(True)
        with no:
            accumulate(False)
    full_or_masked(end)
    builder.ret_void()


@intrinsic
def _tile(_, three, a, row, step, height, b, ldb, panel, keep, depth, c, ldc, columns, start, ldstart, go_on):
    """c[:height, :columns] = (start if go_on else 0) + a[:height, :depth] b[:depth, :columns], 3 or 2 vectors wide.

    Element (r, k) of ``a`` lies at r row + k step; rows of ``b``, ``c``, ``start`` lie ldb, ldc, ldstart apart. ``b``
    is as wide as the tile; if ``keep``, its rows are copied to ``panel``, without gaps, on the way. There is no tile of
    one vector, in which additions would wait for one another.
    """
    i, flag = types.int64, types.boolean
    signature = types.void(flag, a, i, i, i, a, i, a, flag, i, a, i, i, a, i, flag)

    def codegen(context, builder, signature, args):
        three, *args = args
        with builder.if_else(three) as branches:
            for vectors, branch in zip((3, 2), branches, strict=True):
                emit = _Emitter(context, builder, a)
                name = f"minivi_tile_{vectors}_{emit.element}"
                function = builder.module.globals.get(name)
                if function is None:  # a function of its own, or LLVM would compile a copy for each call
                    kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
                    function = ir.Function(builder.module, kind, name)
                    function.linkage = "internal"
                    function.attributes.add("noinline")
                    emit.builder = ir.IRBuilder(function.append_basic_block())
                    _emit_tile(emit, vectors, *function.args)
                with branch:
                    builder.call(function, args)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _lanes(_, pointer):
    """Elements in a vector."""
    count = VECTOR // (pointer.dtype.bitwidth // 8)
    return types.int64(pointer), lambda context, builder, signature, args: _I64(count)


@intrinsic
def _at(_, pointer, offset):
    """The address ``offset`` elements behind ``pointer``."""
    return pointer(pointer, types.int64), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])


@intrinsic
def _copy(_, target, source, columns):
    """One vector: target[j] = source[j] if j < columns else 0."""

    def codegen(context, builder, signature, args):
        target_, source_, columns_ = args
        emit = _Emitter(context, builder, target)
        emit.store(emit.load(emit.address(source_, _I64(0)), emit.mask(columns_)), emit.address(target_, _I64(0)))
        return context.get_dummy_value()

    return types.void(target, source, types.int64), codegen


@intrinsic
def _turn(_, target, ldtarget, source, ldsource):
    """target[i, j] = source[j, i] for a square of lanes x lanes.

    First 1 x 1 squares change places across the diagonal of 2 x 2 squares, then 2 x 2 in 4 x 4, 4 x 4 in 8 x 8 ...
    """

    def codegen(context, builder, signature, args):
        target_, ldtarget_, source_, ldsource_ = args
        emit = _Emitter(context, builder, target)
        lanes = range(emit.lanes)
        rows = [emit.load(emit.address(source_, builder.mul(ldsource_, _I64(r)))) for r in lanes]
        size = 1
        while size < emit.lanes:
            upper = emit.constant([emit.lanes + j - size if j & size else j for j in lanes])
            lower = emit.constant([emit.lanes + j if j & size else j + size for j in lanes])
            rows = [
                builder.shuffle_vector(rows[r & ~size], rows[r | size], lower if r & size else upper) for r in lanes
            ]
            size *= 2
        for r in lanes:
            emit.store(rows[r], emit.address(target_, builder.mul(ldtarget_, _I64(r))))
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), codegen


@intrinsic
def _pointer(_, like, array):
    """The first multiple of VECTOR bytes in ``array``, as a pointer of the type of ``like``."""

    def codegen(context, builder, signature, args):
        data = builder.ptrtoint(context.make_array(array)(context, builder, args[1]).data, _I64)
        aligned = builder.and_(builder.add(data, _I64(VECTOR - 1)), _I64(-VECTOR))
        return builder.inttoptr(aligned, context.get_value_type(like))

    return like(like, array), codegen


@njit(error_model="numpy", nogil=True)
def _pack(panel, width, b, row, column, depth, columns):
    """panel[k, j] = b[k, j], at k row + j column; zeros in the columns from ``columns`` to ``width``."""
    lanes = _lanes(b)
    if column == 1:
        for k in range(depth):
            for j in range(0, width, lanes):
                _copy(_at(panel, k * width + j), _at(b, k * row + j), columns - j)
        return
    squares = columns // lanes * lanes if row == 1 else 0
    turned = depth // lanes * lanes if row == 1 else 0
    for j in range(0, squares, lanes):
        for k in range(0, turned, lanes):
            _turn(_at(panel, k * width + j), width, _at(b, k + j * column), column)
    for k in range(depth):
        for j in range(squares if k < turned else 0, width):
            panel[k * width + j] = b[k * row + j * column] if j < columns else 0


@chunk
def _gemm(p, s, lo, hi):
    """Rows (in tiles) or columns (in vectors) ``lo`` to ``hi`` of the products of a batch, one matrix after another."""
    m, k, n = np.int64(s[0]), np.int64(s[1]), np.int64(s[2])
    a_row, a_step, a_matrix = np.int64(s[3]), np.int64(s[4]), np.int64(s[5])
    b_row, b_column, b_matrix = np.int64(s[6]), np.int64(s[7]), np.int64(s[8])
    by_rows, accumulate, biased = s[9] != 0, s[10] != 0, s[11] != 0
    lanes = _lanes(p[0])
    vectors = -(-n // lanes)
    units = -(-m // MR) if by_rows else vectors
    blocks = max(1, -(-k // DEPTH))
    depth = -(-k // blocks)
    rows = min(BLOCK, -(-m // lanes) * lanes)
    room = np.empty(depth * (3 * lanes + rows) * VECTOR // lanes + VECTOR, np.uint8)
    for matrix in range(lo // units, -(-hi // units)):
        first, last = max(lo - matrix * units, 0), min(hi - matrix * units, units)
        i_first, i_last = (first * MR, min(last * MR, m)) if by_rows else (0, m)
        v_first, v_last = (0, vectors) if by_rows else (first, last)
        for i0 in range(i_first, i_last, BLOCK):
            panel = _pointer(p[0], room)  # named in the loop: Numba frees an array after its last mention
            stripes = _at(panel, 3 * lanes * depth)
            i1 = min(i0 + BLOCK, i_last)
            packed = i1 - i0 > 128 and v_last - v_first > 12
            for block in range(blocks):
                k0 = block * depth
                kn = min(depth, k - k0)
                go_on = k0 > 0 or accumulate
                a0 = _at(p[0], matrix * a_matrix + i0 * a_row + k0 * a_step)
                for i in range(0, i1 - i0 if packed else 0, lanes):
                    _pack(_at(stripes, i * kn), lanes, _at(a0, i * a_row), a_step, a_row, kn, min(lanes, i1 - i0 - i))
                v = v_first
                while v < v_last:
                    three = v_last - v == 3 or v_last - v > 4  # four vectors are 2 + 2
                    width = (3 if three else 2) * lanes
                    j = v * lanes
                    columns = min(width, n - j, v_last * lanes - j)
                    b = _at(p[1], matrix * b_matrix + k0 * b_row + j * b_column)
                    ldb = b_row
                    fresh = b_column == 1 and columns == width
                    if not fresh:
                        _pack(panel, width, b, b_row, b_column, kn, columns)
                        b, ldb = panel, width
                    for i in range(i0, i1, MR):
                        height = min(MR, i1 - i)
                        keep = fresh and i == i0 and i + MR < i1  # for the tiles below the first
                        a, row, step = _at(a0, (i - i0) * a_row), a_row, a_step
                        if packed:
                            a, row, step = _at(stripes, (i - i0) // lanes * lanes * kn + (i - i0) % lanes), 1, lanes
                        c = _at(p[2], (matrix * m + i) * n + j)
                        start, ldstart = (c, n) if go_on else (_at(p[3], j), 0)
                        _tile(
                            three, a, row, step, height, b, ldb, panel, keep, kn,
                            c, n, columns, start, ldstart, go_on or biased,
                        )  # fmt: skip
                        b, ldb = panel, width
                    v += 3 if three else 2


def _stored(x, batch):
    """The array that holds ``x``'s numbers without gaps, and how far apart rows, columns and matrices are in it."""
    if x.ndim > 2:
        alone = math.prod(x.shape[:-2]) == 1
        x = x.reshape(x.shape[-2:]) if alone else np.broadcast_to(x, batch + x.shape[-2:])
    rows, columns = x.shape[-2:]
    matrix = rows * columns if x.ndim > 2 else 0
    if not x.flags.c_contiguous:
        turned = x.swapaxes(-1, -2)
        if turned.flags.c_contiguous:
            return turned, 1, rows, matrix
        x = np.ascontiguousarray(x)
    return x, columns, 1, matrix


def matmul(a, b, out=None, bias=None, accumulate=False):
    """The matrix product a b, with NumPy's rules for vectors and for batches of matrices.

    Args:
        a: array (..., M, K) or (K,), float32 or float64. Transposed views are read in place, other gaps copied away.
        b: array (..., K, N) or (K,), of the same type; likewise.
        out: C-contiguous array (..., M, N) to write, sharing no memory with the operands; by default a new one.
        bias: array (N,), added to every row.
        accumulate: add the product to what ``out`` holds.

    Returns:
        The product, (..., M, N); ``out`` if that was given.

    Raises:
        TypeError: an operand is neither float32 nor float64, or two of them differ.
        ValueError: shapes that do not fit, or an ``out`` that cannot be written.
    """
    shape = checked_shape(a, b, out, bias, accumulate)
    out = np.empty(shape, a.dtype) if out is None else out
    if bias is not None and accumulate:
        out += bias
    b = b if b.ndim > 1 else b[:, None]
    k, n = b.shape[-2:]
    if b.ndim == 2:  # a batch of matrices times one matrix is one product of all their rows
        batch, matrices, m = (), 1, math.prod(a.shape[:-1])
        a = a if a.ndim == 2 else a.reshape(m, k)
    else:
        a = a if a.ndim > 1 else a[None]
        batch, m = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2]
        matrices = math.prod(batch)
    if out.size:
        by_rows = m > n
        units = -(-m // MR) if by_rows else -(-n * a.itemsize // VECTOR)
        a, *a_strides = _stored(a, batch)
        b, *b_strides = _stored(b, batch)
        scalars = (m, k, n, *a_strides, *b_strides, by_rows, accumulate, bias is not None)
        arrays = (a, b, out, out if bias is None else bias)
        launch(_gemm, matrices * units, arrays, scalars, work=out.size * k * a.itemsize // 96)
    return out
