"""How every kernel is compiled, cached and split over threads.

A kernel is one plain function, a *chunk*: it does the rows (or elements) ``lo`` to ``hi`` of the work and nothing else.

        tanh(x)                      the public function: checks, allocates, launches
           |
        launch(_tanh, n, (x, y))     compiles the chunk at its first use; how many threads?
           |
        _fork  ----+----------+      the one parallel region of minivi (TBB decides who runs what)
                   |          |
        _tanh(p, s, 0, n/2)  _tanh(p, s, n/2, n)

All chunks share one signature, ``chunk(p, s, lo, hi)``: ``p[k]`` is the address of the k-th array, ``s[k]`` the k-th
scalar (a float64). A common signature lets one compiled parallel region serve every kernel, through a pointer: Numba
takes 0.7 s to compile a parallel region, but 0.1 s for a chunk. A chunk indexes ``p[0][i]``
itself, or takes ``x = rows(p[0], lo, hi)``, its slice of the first array, and is ordinary Numba otherwise.

Numba's thread layer is TBB where pip has installed it, else OpenMP, else Numba's own "workqueue"; the environment
variable NUMBA_THREADING_LAYER overrides. With each of them several Python threads may launch kernels ("workqueue" does
them one after another). Processes are best spawned. A forked one has one thread with OpenMP, and with TBB must be
forked by the main thread while no other runs a kernel.

Nothing compiles at import. Compiled code is kept on disk, a file for each kernel and type, with a sum over the sources
of all kernels, since Numba alone would not notice that a function in another file has changed. A file that is damaged,
or a folder that cannot be written, only costs the time to compile again, and a RuntimeWarning, once.
"""

import contextlib
import ctypes
import functools
import glob
import hashlib
import os
import pickle
import sys
import threading
import warnings
from types import FunctionType

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba import carray, njit, prange, types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from minivi.kernels.shapes import now

# Contraction (a * b + c in one instruction) and no signed zeros; never "no NaNs", since kernels propagate them, nor
# reciprocals for divisions, which on x86 makes x / sqrt(y) an estimate that differs between makers.
MATH = {"error_model": "numpy", "fastmath": {"contract", "nsz"}, "nogil": True}
# Sums may be reordered too, which is what lets LLVM vectorise them. The order does not depend on the thread count, but
# on the vectors: log_sum_exp, log_softmax and its vjp, and the sums of bernoulli_log_prob, gaussian_log_prob and
# gaussian_kl differ in their last places between the kinds that instruction_set tells apart. All other kernels, the
# matrix products too, give the same bits with each.
SUMS = MATH | {"fastmath": {"contract", "nsz", "reassoc"}}

# Scalars are handed over in this number, so that _launch is compiled once for each number of arrays.
_ZEROS = (0.0,) * 12

# The smallest piece of work, in elements of a cheap kernel, that pays for waking a second thread (about 10 us).
GRAIN = 16_384


def _load_tbb() -> None:
    """Make Numba find the TBB library that pip installs, which is not on the loader's path."""
    names = {"linux": "libtbb.so.12", "darwin": "libtbb.12.dylib", "win32": "tbb12.dll"}
    folder = "Library/bin" if sys.platform == "win32" else "lib"
    path = os.path.join(sys.prefix, folder, names.get(sys.platform, "libtbb.so.12"))
    if os.path.exists(path):
        try:
            ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
        except OSError:  # another build of TBB is loaded already: Numba takes that, or the next layer
            pass


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed, as other frameworks' allocators do.

    Else a training step of a large model gives its memory back to the system and gets it again page by page: 70 MB and
    a quarter of the time of the benchmark's vdropout. Does nothing if any MALLOC_ variable is set.
    """
    if sys.platform == "linux" and not any(name.startswith("MALLOC_") for name in os.environ):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: arrays of up to 32 MB come from the heap (the most that it takes),
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: which does not shrink


def give_back_memory() -> None:
    """Have glibc give the system back what is free now, such as the intermediates of steps before one is compiled."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


_keep_freed_memory()
if numba.config.THREADING_LAYER.lower() not in ("omp", "workqueue"):
    _load_tbb()

# What kernels are compiled for: the CPU's name, and its features as LLVM writes them.
CPU, FEATURES = cpu_target.target_context.codegen().magic_tuple()[1:]


def instruction_set() -> str:
    """The vector instructions that kernels use, by which sums round differently (see ``SUMS``).

    "avx2"; "avx512", which on Intel's CPUs means 32 registers of 32 bytes, since LLVM prefers these; "avx512-zen", with
    64 bytes; else the CPU's name. ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` are heeded.
    """
    features = FEATURES.split(",")
    if "+avx512f" in features:
        return "avx512-zen" if CPU.startswith("znver") else "avx512"
    return "avx2" if "+avx2" in features else CPU


_threads = _most = numba.config.NUMBA_NUM_THREADS


def get_threads() -> int:
    """The number of threads that kernels use: all that Numba may start, unless :func:`set_threads` said less."""
    return _threads


def set_threads(count: int) -> None:
    """Use ``count`` threads from now on. Results are the same bits for every count.

    A process that was forked after its parent had started OpenMP's threads has one, and no way to more.

    Raises:
        ValueError: fewer than one thread, or more than Numba was started with.
    """
    global _threads
    if not 1 <= count <= _most:
        raise ValueError(
            f"set_threads: {count} threads asked, between 1 and {_most} are possible; NUMBA_NUM_THREADS sets the "
            "upper limit before the start, and OpenMP lets a forked process have one: spawn it, or install tbb"
        )
    _threads = int(count)


def _after_fork():
    global _threads, _most
    _turn.release()
    with contextlib.suppress(ValueError):  # no layer has started: the child starts its own
        # Numba ends a child that asks GNU's OpenMP for threads. With one thread a chunk is called without any layer.
        if numba.threading_layer() == "omp":
            _threads = _most = 1


_turn = threading.Lock()  # held by whoever uses the work queue, and while a child is made, so that it finds it free
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_turn.acquire, after_in_parent=_turn.release, after_in_child=_after_fork)


def _sources() -> bytes:
    digest = hashlib.sha256()
    for path in sorted(glob.glob(os.path.join(os.path.dirname(__file__), "*.py"))):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.digest()


# What compiled code depends on besides its function. The sources are read at the import, not at the first compilation:
# until then an editor might change them behind our back.
SOURCES = _sources()
SETTINGS = [numba.__version__, llvmlite.__version__] + [
    getattr(numba.config, name)
    for name in ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "USING_SVML")
]

# Functions to call with the name of a kernel that is about to be compiled, which takes 0.1 to 3 s; loading it from disk
# calls none. A progress bar tells its reader here why it stands still.
on_compile = []
names: dict[int, str] = {}  # of kernels, by machine address
_said = set()


def _say_once(kind, message):
    if kind not in _said:
        _said.add(kind)
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def replace_file(path, content: bytes) -> None:
    """Put ``content`` at ``path``, whole or not at all.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    temporary = f"{path}.{os.getpid()}.{threading.get_ident()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


class _Cache(FunctionCache):
    """One file for each function, signature, instruction set and version of Numba::

        SHA-256 of all that follows | SHA-256 of what the code depends on | the code, pickled by Numba

    Numba's own layout, an index of all signatures and numbered files of code, goes wrong for good if two processes
    compile at once: each numbers its code 1, and the index of the one names the code of the other. Here two writers of
    one file write the same code. The first sum tells a damaged file, which is replaced; the second tells one that was
    made from other sources. Unpickling can run any code, but so can the kernels themselves: who may write into the
    folder may do as he likes.
    """

    def __init__(self, function, setting=()):
        self._setting = setting
        try:
            super().__init__(function)
        except (RuntimeError, OSError):  # no folder can be written
            self._impl = None

    def _place(self, sig, codegen):
        """The path of a signature's file, and the sum of what its code depends on."""
        place = repr((sig, codegen.magic_tuple(), SETTINGS, self._setting)).encode()
        name = f"{self._impl.filename_base}.{hashlib.sha256(place).hexdigest()[:16]}.nbc"
        rest = repr((name, self._index_key(sig, codegen), self._impl.locator.get_source_stamp(), SOURCES)).encode()
        return os.path.join(self.cache_path, name), hashlib.sha256(place + rest).digest()

    def load_overload(self, sig, target_context):
        target_context.refresh()
        if self._impl:
            path, stamp = self._place(sig, target_context.codegen())
            try:
                with open(path, "rb") as file:
                    content = file.read()
                if hashlib.sha256(content[32:]).digest() != content[:32]:
                    _say_once("damaged", f"{path} is damaged: its kernel is compiled afresh, and the file replaced")
                elif content[32:64] == stamp:
                    return self._impl.rebuild(target_context, pickle.loads(content[64:]))
            except FileNotFoundError:
                pass
            except OSError as error:
                _say_once("damaged", f"{path} cannot be read ({error.strerror}): its kernel is compiled afresh")
        for tell in tuple(on_compile):
            tell(self._py_func.__name__.lstrip("_"))
        return None

    def save_overload(self, sig, data):
        mend = "every process will compile anew; set NUMBA_CACHE_DIR to a folder that can be written"
        if self._impl is None:
            _say_once("unwritable", f"no folder can keep compiled kernels: {mend}")
        elif self._impl.check_cachable(data):
            path, stamp = self._place(sig, data.codegen)
            content = stamp + self._cache_file._dump(self._impl.reduce(data))
            try:
                self._impl.locator.ensure_cache_path()
                replace_file(path, hashlib.sha256(content).digest() + content)
            except OSError as error:
                _say_once("unwritable", f"{self.cache_path} cannot keep compiled kernels ({error.strerror}): {mend}")


def cached(compiled):
    """Keep ``compiled``, an ``njit`` object, on disk."""
    compiled._cache = _Cache(compiled.py_func)
    return compiled


class Chunk:
    """A kernel's chunk, compiled for an element type when that type is first met."""

    def __init__(self, function, options, setting):
        self.function = function
        self.options = options
        self.setting = setting
        self.addresses = {}
        self._alive = []
        functools.update_wrapper(self, function)

    def address(self, dtype) -> int:
        """The machine address of the chunk for arrays of ``dtype``."""
        address = self.addresses.get(dtype)
        if address is None:
            _start_threads()
            element = numba.from_dtype(dtype)
            arrays = types.CPointer(types.CPointer(element))
            signature = types.void(arrays, types.CPointer(types.float64), types.int64, types.int64)
            compiled = _compile(self.function, signature, self.options, self.setting())
            self._alive.append(compiled)
            address = self.addresses[dtype] = compiled.address
            names[address] = self.function.__qualname__.rpartition(".")[2].lstrip("_")
        return address


def _compile(function, signature, options, setting):
    """``numba.cfunc`` with our cache (``cfunc`` compiles as it is made, so the cache must be there before)."""
    from numba.core.ccallback import CFunc

    compiled = CFunc(function, (signature.args, signature.return_type), locals={}, options=options)
    compiled._cache = _Cache(function, setting)
    compiled.compile()
    return compiled


def chunk(function=None, *, options=MATH, setting=tuple, flush=False):
    """Decorator: make ``function(p, s, lo, hi)`` a :class:`Chunk`.

    Args:
        function: the kernel.
        options: of Numba's compiler.
        setting: ``setting()`` is what its code depends on besides the sources, the same for the whole process.
        flush: numbers too small to be normal (below 1.2e-38 in float32) count as 0, as arguments and as results. A
            multiplication that meets one takes some 150 cycles on Intel's CPUs, and cotangents under importance
            weights, like squares of small gradients, are full of them.
    """
    if function is None:
        return functools.partial(chunk, options=options, setting=setting, flush=flush)
    if flush:  # not as a closure, see kernels.vector.pointwise
        names = globals() | {"body": njit(**options)(function)}
        flushing = FunctionType(_flushing.__code__, names, function.__name__)
        flushing.__qualname__ = f"_flushing.{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        function = flushing
    return Chunk(function, options, setting)


body = None  # in the globals of each chunk that flushes: what it does


def _flushing(p, s, lo, hi):
    before = _flush_denormals(True, 0)
    body(p, s, lo, hi)
    _flush_denormals(False, before)


@intrinsic
def _flush_denormals(_, on, before):
    """Where ``on``, take denormal numbers for 0 on this core; else do as ``before``, which is what it returned then.

    Only x86 has the switch, a register; elsewhere such numbers cost little.
    """

    def codegen(context, builder, signature, args):
        word = ir.IntType(32)
        if "+sse" not in FEATURES.split(","):
            return word(0)
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
        load, store = [
            cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}mxcsr") for name in ("ld", "st")
        ]
        place = cgutils.alloca_once(builder, word)
        address = builder.bitcast(place, kind.args[0])
        builder.call(store, [address])
        now_set = builder.load(place)
        zeros = builder.or_(now_set, word(1 << 15 | 1 << 6))  # results that are too small, and arguments
        builder.store(builder.select(args[0], zeros, builder.trunc(args[1], word)), place)
        builder.call(load, [address])
        return now_set

    return types.int32(types.boolean, types.int64), codegen


@njit(inline="always")
def rows(pointer, lo, hi):
    """Elements ``lo`` to ``hi`` of the flat array at ``pointer``."""
    return carray(pointer, hi)[lo:]


@intrinsic
def _call(typing_context, function, arrays, scalars, lo, hi):
    def codegen(context, builder, signature, args):
        i64, pointer = ir.IntType(64), ir.IntType(8).as_pointer()
        callee = ir.FunctionType(ir.VoidType(), [pointer, pointer, i64, i64]).as_pointer()
        function, arrays, scalars, lo, hi = args
        builder.call(
            builder.inttoptr(function, callee),
            [builder.inttoptr(arrays, pointer), builder.inttoptr(scalars, pointer), lo, hi],
        )
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


@cached
@njit(parallel=True, nogil=True)
def _fork(function, arrays, scalars, n, threads):
    for t in prange(threads):
        _call(function, arrays, scalars, n * t // threads, n * (t + 1) // threads)


@cached
@njit(nogil=True)
def _launch(function, arrays, scalars, n, threads):
    addresses = np.empty(len(arrays), np.int64)
    for k in range(len(arrays)):
        addresses[k] = arrays[k].ctypes.data
    values = np.empty(len(scalars))
    for k in range(len(scalars)):
        values[k] = scalars[k]
    if threads == 1:
        _call(function, addresses.ctypes.data, values.ctypes.data, 0, n)
    else:
        _fork(function, addresses.ctypes.data, values.ctypes.data, n, threads)


def _launch_in_turn(function, arrays, scalars, n, threads):
    if threads == 1:
        _launch(function, arrays, scalars, n, threads)
    else:
        with _turn:
            _launch(function, arrays, scalars, n, threads)


_run = _launch


def _start_threads():
    """Start the thread layer, which Numba forgets if it has _launch from its cache."""
    global _run
    numba.get_num_threads()
    if numba.threading_layer() == "workqueue":  # ends a process that uses it from two Python threads at once
        _run = _launch_in_turn


def _view(a, dtype):
    """``a``, flat, as numbers of ``dtype``, and not marked read-only: Numba cannot index a tuple of several types."""
    a = a.reshape(-1).view(dtype)
    if a.size and not a.flags.writeable:
        return np.frombuffer((ctypes.c_byte * a.nbytes).from_address(a.ctypes.data), dtype)
    return a if a.size else np.empty(0, dtype)


def launch(kernel: Chunk, n: int, arrays: tuple, scalars: tuple = (), work: int | None = None) -> None:
    """Run ``kernel`` over ``0 <= i < n``, split over as many threads as the work deserves.

    Args:
        kernel: the chunk.
        n: number of elements or rows to split.
        arrays: C-contiguous, aligned arrays; the first one's dtype picks the variant; the kernel writes into some.
        scalars: numbers, handed over as float64.
        work: how much there is to do, in elements of a cheap kernel (default ``n``).
    """
    if n == 0:
        return
    pieces = (n if work is None else work) // GRAIN
    threads = 1 if pieces < 2 else min(get_threads(), pieces, n)
    dtype = arrays[0].dtype
    flat = tuple([a.ravel() if a.dtype is dtype and a.flags.writeable else _view(a, dtype) for a in arrays])
    scalars = (*map(float, scalars), *_ZEROS[len(scalars) :])
    function = kernel.addresses.get(dtype) or kernel.address(dtype)  # starts the threads, before _run is looked up
    if now.tracer is not None:
        flat = now.tracer.launched(kernel, function, arrays, flat, scalars, n, threads)
    _run(function, flat, scalars, n, threads)
