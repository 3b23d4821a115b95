"""A training step, noted while it runs: every launch of a kernel, every NumPy operation, every look at a value.

    with Trace() as trace:                      operations, in order:
        x = trace.input(batch)
        loss = -vae.elbo(x, rng).mean()          draw    eps = rng.standard_normal((100, 50))
                                                 launch  affine(x, W, b) -> h
                                                 call    np.add(h, eps) -> z
        gradients = grad(loss, parameters)       guard   x is binary

A traced step is a real eager step. Its arrays are of the class :class:`Recorded`, so that NumPy tells what is done with
them; kernels say which arrays they make and what they launch (``kernels/shapes.py``). What comes out of NumPy without
being noted (``np.asarray`` of a Tensor, an array of the caller's) is a *constant* here. If it is none, the next traced
step has another one: :func:`difference` tells, and the step stays eager. One that is the same in both traced steps and
changes later is found at the next :meth:`~minivi.program.Step.check_again` only: NumPy tells nobody of
``np.asarray(x)`` of a batch, or of ``table[labels]`` of a plain array (``np.take(table, labels)`` is noted). Where
Python looks at a number (``if``, ``float``), the answer becomes a *guard*: when it is another one, later, the step runs
eagerly.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minivi.kernels.shapes import now
from minivi.random import Generator
from minivi.tensor import _ARRAYS, Tensor

DRAWS = (
    "bernoulli", "choice", "exponential", "gumbel", "integers", "logistic", "normal", "permutation", "random",
    "standard_exponential", "standard_normal", "uniform",
)  # fmt: skip
UNSEEN = {np.shape, np.ndim, np.size, np.may_share_memory, np.shares_memory, np.result_type, np.iscomplexobj}


def mapped(value: Any, kind: type, how: Callable) -> Any:
    """``value`` with ``how(x)`` in place of each ``x`` of a ``kind``, also within lists, tuples and dicts."""
    if isinstance(value, kind):
        return how(value)
    if type(value) in (list, tuple):
        return type(value)([mapped(item, kind, how) for item in value])
    return {key: mapped(item, kind, how) for key, item in value.items()} if type(value) is dict else value


def plain(a: Any) -> Any:
    """``a`` with plain arrays in place of recorded ones."""
    return mapped(a, Recorded, lambda x: x.view(np.ndarray))


def root(a: np.ndarray) -> np.ndarray:
    """The array whose memory ``a`` looks at."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


class Recorded(np.ndarray):
    """An array of a traced step. Outside of one it is an array like others."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if any(isinstance(x, Tensor) for x in inputs):
            return NotImplemented
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        inputs, options, trace = plain(inputs), plain(options), now.tracer
        if out is not None:
            results = plain(out)
            function(*inputs, out=results, **options)
            if trace:
                trace.written(results, function, inputs, {**options, "out": results})
            return out[0]
        result = function(*inputs, **options)
        if trace is None:
            return result
        if method == "at":
            return trace.written(inputs[:1], function, inputs, options)
        if not isinstance(result, (np.ndarray, np.generic)):
            return trace.give_up(f"np.{ufunc.__name__} with several results", result)
        result = np.asarray(result)
        recorded = trace.own(result)
        trace.note(function, inputs, {**options, "out": (result,)})
        return recorded

    def __array_function__(self, function, types, args, kwargs):
        args, kwargs = plain(args), plain(kwargs)
        result, trace = function(*args, **kwargs), now.tracer
        if trace is None or function in UNSEEN:
            return result
        if function is np.copyto:
            return trace.written(args[:1], function, args, kwargs)
        if type(result) in (list, tuple) and all(isinstance(part, np.ndarray) for part in result):
            return type(result)(trace.made(part, _Part(k, function), args, kwargs) for k, part in enumerate(result))
        if not isinstance(result, (np.ndarray, np.generic)):
            return trace.give_up(f"np.{function.__name__}, whose result is a {type(result).__name__}", result)
        return trace.made(result, function, args, kwargs)

    def _method(self, name, *args, **kwargs):
        function, args, kwargs = getattr(np.ndarray, name), plain(args), plain(kwargs)
        me, trace = self.view(np.ndarray), now.tracer
        result = function(me, *args, **kwargs)
        return result if trace is None else trace.made(result, function, (me, *args), kwargs)

    def astype(self, dtype, **options):
        """A copy of another dtype; itself, if it is of that."""
        return self if np.dtype(dtype) == self.dtype else self._method("astype", dtype)

    def __setitem__(self, index, value):
        me, index, value = self.view(np.ndarray), plain(index), plain(value)
        me[index] = value
        if now.tracer:
            now.tracer.written([me], np.ndarray.__setitem__, (me, index, value), {})

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def _look(self, how):
        value = how(self.view(np.ndarray))
        if now.tracer:
            now.tracer.guard(how, self.view(np.ndarray), value)
        return value

    def item(self, *index):
        """A number of it: a look at a value."""
        return self._look(_Item(index))

    def __bool__(self):
        return self._look(bool)

    def __float__(self):
        return self._look(float)

    def __int__(self):
        return self._look(int)

    def __complex__(self):
        return self._look(complex)

    def __round__(self, *digits):
        return round(self._look(_scalar), *digits)

    def __index__(self):
        return self._look(_Item(()))

    def __hash__(self):
        return hash(self._look(_Item(()))) if self.ndim == 0 else np.ndarray.__hash__(self)

    def __format__(self, how):
        return format(self._look(_scalar), how) if self.ndim == 0 else str(self)

    def __str__(self):
        return self._look(_str)

    def __repr__(self):
        return self._look(_repr)

    def tolist(self):
        """All its numbers: a look at values."""
        return self._look(np.ndarray.tolist)


def _forward(name):
    return lambda self, *args, **kwargs: self._method(name, *args, **kwargs)


for _name in ("__getitem__", "argmax", "argmin", "argsort", "clip", "copy", "cumsum", "dot", "flatten", "ravel",
              "repeat", "reshape", "round", "squeeze", "swapaxes", "take", "transpose"):  # fmt: skip
    setattr(Recorded, _name, _forward(_name))


def _give_up(name):
    def method(self, *args, **kwargs):
        result = getattr(np.ndarray, name)(self.view(np.ndarray), *plain(args), **plain(kwargs))
        return result if now.tracer is None else now.tracer.give_up(f"the method {name} of an array", result)

    return method


for _name in ("__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__", "argpartition", "byteswap", "choose",
              "compress", "conj", "conjugate", "cumprod", "diagonal", "dump", "dumps", "fill", "getfield", "nonzero",
              "partition", "put", "resize", "searchsorted", "setfield", "sort", "tobytes", "tofile",
              "trace"):  # fmt: skip
    setattr(Recorded, _name, _give_up(_name))
for _name in ("data", "flat"):
    setattr(Recorded, _name, property(lambda self, name=_name: _hidden(self, name)))
_ARRAYS.add(Recorded)


def _hidden(a, name):
    result = getattr(a.view(np.ndarray), name)
    return result if now.tracer is None else now.tracer.give_up(f"the attribute {name} of an array", result)


def _scalar(a):
    return a[()]


def _str(a):
    return str(a[()])


def _repr(a):
    return repr(a[()])


class _Item:
    """``a.item(*index)``, comparable."""

    def __init__(self, index):
        self.index = index

    def __call__(self, a):
        return a.item(*self.index)

    def __eq__(self, other):
        return isinstance(other, _Item) and self.index == other.index

    __hash__ = None


class _Part:
    """The k-th result of a function with several."""

    def __init__(self, k, function):
        self.k, self.function, self.__name__ = k, function, function.__name__

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)[self.k]

    def __eq__(self, other):
        return isinstance(other, _Part) and (self.k, self.function) == (other.k, other.function)

    __hash__ = None


@dataclass(frozen=True)
class Own:
    """An array of the step: in the how manieth memory, where in it, and how it lies there."""

    number: int
    offset: int
    shape: tuple
    strides: tuple
    dtype: np.dtype


@dataclass(frozen=True)
class Operation:
    """One thing that was done, with all that it takes to do it again; the step's arrays are :class:`Own` in it.

    Attributes:
        kind: "launch", "call", "draw" or "guard".
        name: of the function, for people.
        function: kernel, function or method; of a guard, how Python looked.
        args, kwargs: what it was given; of a launch, its arrays, and scalars, n and threads.
        out: where its result goes, if it gives one.
    """

    kind: str
    name: str
    function: Any
    args: Any
    kwargs: Any
    out: Any = None


class Trace:
    """Notes what is done within ``with``; one at a time.

    Args:
        rng: the generator whose draws are inputs.
        parameters: Parameters, whose arrays stay in place from step to step.
        follow: the ``decisions`` of a trace before.

    Attributes:
        operations: in order.
        memory: bytes of each piece of memory that the step has had.
        again: those into which something was written that were there, by number.
        fixed: those that stay, parameters and the inputs' copies, by number.
        inputs: of the last, in order.
        decisions: those that make one kernel or another do the same.
        why: what no program could do again; "" where there is nothing such.
    """

    def __init__(self, rng: Generator, parameters: list, follow: Sequence[bool] = ()):
        self.why, self.decisions, self._follow = "", [], list(follow)
        self.rng, self.parameters = rng, parameters
        self.operations: list[Operation] = []
        self.memory: list[int] = []
        self.again: set[int | None] = set()
        self.fixed: dict[int, np.ndarray] = {}
        self.inputs: list[np.ndarray] = []
        self.met: list = []  # further Parameters that were looked at
        self.wrote: list[np.ndarray] = []  # inputs and parameters that the loss wrote into
        self._known: dict[int, tuple] = {}  # id of an array -> a weak reference to it, its number

    def __enter__(self) -> Trace:
        if now.tracer is not None:
            raise RuntimeError("Trace: another one is open; leave it first")
        self._held = [p._data for p in self.parameters]
        for p, array in zip(self.parameters, self._held, strict=True):
            p._data = self._stays(array)
        for name in DRAWS:
            setattr(self.rng, name, partial(self._draw, name, getattr(self.rng, name)))
        self.rng.__getstate__ = self._state_of_rng
        now.tracer = self
        return self

    def __exit__(self, *_) -> None:
        now.tracer = None
        for name in DRAWS:
            delattr(self.rng, name)
        del self.rng.__getstate__
        for p, array in zip(self.parameters, self._held, strict=True):
            p._data = array

    # ------------------------------------------------------------------------------------------------- memory
    def _number(self, base):
        reference, number = self._known.get(id(base), (None, None))
        return number if reference is not None and reference() is base else None

    def _stays(self, array):
        recorded = self.own(array)
        self.fixed[self._number(root(array))] = root(array)
        return recorded

    def own(self, array: np.ndarray) -> Recorded:
        """``array``, whose memory is the step's, as it is passed on. It lives no longer than in an eager step."""
        base = root(array)
        if self._number(base) is None:
            self._known[id(base)] = weakref.ref(base), len(self.memory)
            self.memory.append(base.nbytes)
        return array.view(Recorded)

    def sign(self, value: Any) -> Any:
        """``value`` with :class:`Own` in place of the step's arrays; others are constants."""
        return mapped(value, np.ndarray, self._signed)

    def _signed(self, array):
        base = root(array)
        number = self._number(base)
        if number is None:
            return array
        start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        return Own(number, start, array.shape, array.strides, array.dtype)

    def input(self, array: np.ndarray) -> Recorded:
        """A copy of a batch's array, for the values of later steps."""
        copy = np.array(array)
        self.inputs.append(copy)
        recorded = self._stays(copy)
        recorded.flags.writeable = array.flags.writeable
        return recorded

    def empty(self, shape, dtype) -> Recorded:
        """A new array, to be filled by a kernel."""
        return self.own(np.empty(shape, dtype))

    def zeros(self, shape, dtype) -> Recorded:
        """A new array of zeros, each time."""
        array = np.zeros(shape, dtype)
        recorded = self.own(array)
        self.again.add(self._number(array))
        self.note(np.ndarray.fill, (array, 0), {})
        return recorded

    # --------------------------------------------------------------------------------------------- operations
    def _add(self, kind, function, args, kwargs, out=None, name=None):
        name = name or getattr(function, "__name__", type(function).__name__)
        self.operations.append(Operation(kind, name, function, *map(self.sign, (args, kwargs, out))))

    def note(self, function, args, kwargs) -> None:
        """Something that wrote into arrays that are there."""
        self._add("call", function, args, kwargs)

    def written(self, arrays, function, args, kwargs) -> None:
        """Something that wrote into ``arrays``: the step's own, or it could not be done twice to compare."""
        if any(self._number(root(a)) is None for a in arrays):
            self.give_up(f"{getattr(function, '__name__', function)} writes into an array that is not the step's", None)
        self.again.update(self._number(root(a)) for a in arrays)
        self.wrote += [x for x in self.fixed.values() if any(root(a) is x for a in arrays)]
        if any(x is copy for x in self.wrote for copy in self.inputs):
            self.give_up(f"{getattr(function, '__name__', function)} writes into the batch", None)
        self.note(function, args, kwargs)

    def made(self, result, function, args, kwargs):
        """What ``function`` gave: a view of what is known, or something new, to be made again."""
        if isinstance(result, np.ndarray):
            base = root(result)
            if self._number(base) is not None:
                return result.view(Recorded)
            if any(base is root(a) for a in arrays_in((args, kwargs))):
                return result  # a view of a constant
        result = np.asarray(result)
        recorded = self.own(result)
        self._add("call", function, args, kwargs, result)
        return recorded

    def take(self, a, index):
        """``a[index]``."""
        a, index = plain(a), plain(index)
        return self.made(a[index], np.ndarray.__getitem__, (a, index), {})

    def given(self, out) -> None:
        """A kernel is about to write into an array that is there, or an optimizer into it and arrays of its own."""
        self.again.add(self._number(root(out)))
        if self._number(root(out)) is None or any(root(out) is x for x in self.fixed.values()):
            self.give_up("a kernel writes into an array that is not the step's", None)

    def guard(self, how, array, value) -> None:
        """Python looked at a value."""
        self._add("guard", how, (array, value), {})

    def launched(self, kernel, function, arrays, flat, scalars, n, threads) -> tuple:
        """A kernel is about to run; its arrays, as plain ones."""
        call = {"address": function, "scalars": scalars, "n": n, "threads": threads}
        self._add("launch", kernel, tuple(map(plain, arrays)), call)
        return plain(flat)

    def meet(self, parameter) -> None:
        """A Parameter is looked at: if it is not known, the next trace has to know it."""
        if type(parameter._data) is not Recorded and not any(parameter is p for p in self.met):
            self.met.append(parameter)

    def _state_of_rng(self):
        self.give_up("a copy of the generator", None)
        return {name: value for name, value in vars(self.rng).items() if name not in (*DRAWS, "__getstate__")}

    def decide(self, value: bool) -> bool:
        """``value``, or what was decided here before: steps differ in their data, and programs must not."""
        if len(self.decisions) < len(self._follow):
            value = self._follow[len(self.decisions)]
        self.decisions.append(value)
        return value

    def give_up(self, why, result):
        """``result``, which is of no kind to be noted; the step goes on."""
        self.why = self.why or why
        return result

    def _draw(self, name, method, *args, **kwargs):
        args, kwargs = plain(args), plain(kwargs)
        now.tracer = None
        try:
            result = method(*args, **kwargs)
        finally:
            now.tracer = self
        if not isinstance(result, np.ndarray):
            return self.give_up(f"rng.{name} of a single number", result)
        recorded = self.own(result)
        self._add("draw", method, args, kwargs, result, name)
        return recorded


def arrays_in(value: Any, kind: type = np.ndarray):
    """All arrays, or objects of another ``kind``, in nested lists, tuples and dicts."""
    if isinstance(value, kind):
        yield value
    elif type(value) in (list, tuple):
        for item in value:
            yield from arrays_in(item, kind)
    elif type(value) is dict:
        yield from arrays_in(list(value.values()), kind)


def difference(one: list[Operation], other: list[Operation]) -> str:
    """What differs between the operations of two traced steps, in words; "" if nothing does."""
    if len(one) != len(other):
        return f"{len(one)} operations in one step, {len(other)} in the next"
    for a, b in zip(one, other, strict=True):
        if (a.kind, a.name) != (b.kind, b.name):
            return f"{a.kind} {a.name} in one step, {b.kind} {b.name} in the next"
        if not _same([a.function, a.args, a.kwargs, a.out], [b.function, b.args, b.kwargs, b.out]):
            shapes_of = [x.shape for x in arrays_in(a.args, (Own, np.ndarray))]
            return f"{a.kind} {a.name} of {shapes_of}: another constant, number or array than in the step before"
    return ""


def _same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        alike = (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)
        return alike and (a.ctypes.data == b.ctypes.data or a.tobytes() == b.tobytes())
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if type(a) is dict:
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return a is b or a == b or (a != a and b != b)
