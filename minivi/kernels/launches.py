"""Many launches in one compiled call, by a team of threads that starts once.

    row of the table      thread 0             thread 1
    0  _gemm, 2 pieces    piece 0              piece 1           each claims its own piece: what it needs of the row
    1  _tanh, 2 pieces    piece 0              piece 1           before is in its core's cache
    2  _adam, 1 piece     piece 0              waits             until a row's pieces are done, nobody goes on
    3  _gemm, 2 pieces    piece 0, piece 1     (has no core)     who waits for long takes pieces that nobody claimed

Starting threads costs 2 to 6 us, waiting for a row 0.1 us. Python needs 5 us between two launches. A thread that waits
looks at a word of memory, for some 0.1 ms, and then offers its core to other processes at each look. Where that
happens again and again, others want the cores: more and more runs do without a team. Which thread does a piece changes
no bit.
"""

import ctypes
import sys

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minivi.kernels import jit
from minivi.kernels.jit import FEATURES, _call, _fork, chunk

APART = 100  # at most so many runs without a team after one in which a thread had to wait that long; at first one
LINE = 8  # words of a cache line: each row's claims have lines of their own
# Looks at a row that is not done before taking others' pieces, before offering the core, and before giving up the team
STEAL, YIELD, WAITED = 40, 3000, 6000
_offer = ctypes.windll.kernel32.SwitchToThread if sys.platform == "win32" else ctypes.CDLL(None).sched_yield
OFFER = ctypes.cast(_offer, ctypes.c_void_p).value

_I64 = ir.IntType(64)


def _atomic(operation):
    """A function of an address: do ``operation`` with 1 to the word there, at once for all threads; the word before."""

    @intrinsic
    def change(_, address):
        def codegen(context, builder, signature, args):
            return builder.atomic_rmw(operation, builder.inttoptr(args[0], _I64.as_pointer()), _I64(1), "seq_cst")

        return types.int64(types.int64), codegen

    return change


_swap, _count = _atomic("xchg"), _atomic("add")


@intrinsic
def _look(_, address):
    """The word there, and all that other threads wrote before it."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], _I64.as_pointer()), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def _pause(_):
    """Let the core's other half have it for some cycles."""

    def codegen(context, builder, signature, args):
        if "+sse2" in FEATURES.split(","):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _ticks(_):
    """A clock of the CPU; 0 where only the system may read it."""

    def codegen(context, builder, signature, args):
        if "+sse2" not in FEATURES.split(","):
            return _I64(0)
        kind = ir.FunctionType(_I64, [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter"), [])

    return types.int64(), codegen


@intrinsic
def _ask(_, function):
    """Call the C function without arguments at that address."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), []).as_pointer()
        return builder.call(builder.inttoptr(args[0], kind), [])

    return types.int32(types.int64), codegen


@chunk(options={"error_model": "numpy", "nogil": True})
def _members(p, s, lo, hi):
    """What threads ``lo`` to ``hi`` of a team do: their parts of all rows.

    ``p[0]`` has four numbers for each row: function, first address, n, pieces. ``p[1]`` says how many rows there are,
    where the addresses, scalars and words are, the words a row, and the addresses of what stops and of what offers the
    core. ``p[2]`` is 0, or 1 and a place for each row to which its ticks are added. Word 0 of a row counts the pieces
    that are done, word 1 + c is piece c's claim.
    """
    rows, count, addresses, scalars, words = p[0], p[1][0], p[1][1], p[1][2], p[1][3]
    width, stop, offer, clock = p[1][4], p[1][5], p[1][6], p[2]
    for t in range(lo, hi):
        begun = _ticks()
        for i in range(count):
            function, n, pieces = rows[4 * i], rows[4 * i + 2], rows[4 * i + 3]
            arrays, values, word = addresses + 8 * rows[4 * i + 1], scalars + 96 * i, words + 8 * width * i
            looks, piece = 0, t
            while True:
                if piece < pieces and _swap(word + 8 + 8 * piece) == 0:
                    _call(function, arrays, values, n * piece // pieces, n * (piece + 1) // pieces)
                    _count(word)
                if _look(word) >= pieces:
                    break
                piece = pieces
                looks += 1
                if looks >= STEAL:
                    for c in range(pieces):
                        if _look(word + 8 + 8 * c) == 0:
                            piece = c
                if looks >= YIELD:
                    _ask(offer)
                    p[1][7] |= looks == WAITED
                _pause()
            if t == 0 and clock[0] != 0:
                ended = _ticks()
                clock[i + 1] += ended - begun
                begun = ended
            if stop != 0 and _look(stop) != 0:
                break


class Table:
    """Launches in order, as :func:`minivi.kernels.jit.launch` makes them: (function, arrays, scalars, n, threads).

    Args:
        launches: one or more.
        stop: an array of one float64, or two float32; where that is not 0 after a launch, none of the later ones is
            done.

    Attributes:
        scalars: float64 (launches, 12), for other numbers in another run.
        clock: int64 (1 + launches,): once the first is set to 1, each run adds a launch's ticks to its own.
        names: of the kernels.
    """

    def __init__(self, launches, stop=None):
        first = np.cumsum([0, *(len(call[1]) for call in launches)])
        rows = [(call[0], at, call[3], call[4]) for call, at in zip(launches, first[:-1], strict=True)]
        rows = np.array(rows, np.int64)
        self.scalars = np.array([call[2] for call in launches], np.float64)
        self.threads = int(rows[:, 3].max())
        addresses = np.array([a.ctypes.data for call in launches for a in call[1]], np.int64)
        width = LINE * (1 + self.threads // LINE)
        words = np.zeros(width * len(rows) + LINE, np.int64)
        self._words = words[-words.ctypes.data % 64 // 8 :][: width * len(rows)]
        data = [a.ctypes.data for a in (addresses, self.scalars, self._words)]
        settings = np.array([len(rows), *data, width, 0 if stop is None else stop.ctypes.data, OFFER, 0], np.int64)
        self.clock, self.names = np.zeros(1 + len(rows), np.int64), [jit.names[call[0]] for call in launches]
        pointers = np.array([a.ctypes.data for a in (rows, settings, self.clock)], np.int64)
        self._held = [call[1] for call in launches], stop, rows, addresses, settings, pointers  # must stay in place
        self._pointers = pointers.ctypes.data
        self._settings, self._stop, self._apart = settings, stop, 0
        self._penalty = 0  # runs without a team, the last time
        self._each = [
            (call[0], addresses[at:].ctypes.data, self.scalars[i:].ctypes.data, *call[3:])
            for i, (call, at) in enumerate(zip(launches, first[:-1], strict=True))
        ]
        self._function = _members.address(np.dtype(np.int64))
        self._alone = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(self._function)

    def run(self):
        """All of them, in order."""
        if self._apart:
            return self._run_apart()
        # Each word of Python's that this touches comes from afar: the kernels before have filled the caches.
        self._words.fill(0)
        self._settings[7] = 0
        pointers, threads = self._pointers, self.threads
        if threads == 1:
            self._alone(pointers, 0, 0, 1)
        elif jit._run is jit._launch_in_turn:
            with jit._turn:
                _fork(self._function, pointers, 0, threads, threads)
        else:
            _fork(self._function, pointers, 0, threads, threads)
            if self._settings[7]:
                self._apart = self._penalty = min(2 * self._penalty + 1, APART)
            elif self._penalty:
                self._penalty //= 2

    def _run_apart(self):
        """Where other processes want the cores: threads of each launch's own, which sleep until it comes."""
        self._apart -= 1
        for launch in self._each:
            _fork(*launch)
            if self._stop is not None and self._stop.any():
                return
