"""A traced step as a program: the same operations on the same memory, again and again.

    steps 1 to 3   eager: kernels compile, optimizers make their arrays
    steps 4, 5     eager, traced: are the operations, constants and numbers the same?
    step 5         once more as a program: are loss, gradients and random numbers the same to the bit?
    later steps    the batch is copied in, the operations run in order, the optimizers take the gradients

Launches that follow each other run in one compiled call, without Python in between. Before any parameter changes, every
guard has held and the loss is finite; else the step is repeated eagerly, from the same state of the generator.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numba
import numpy as np

from minivi.kernels import get_threads
from minivi.random import Generator
from minivi.tensor import Parameter, Tensor, _mode, grad
from minivi.trace import Own, Trace, arrays_in, difference, mapped, plain
from minivi.updates import update_of

WARM_UP = 3  # eager steps before the first traced one: kernels compile, optimizers make their arrays
LINE = 64  # bytes of a cache line, at which arrays begin
COPIES = (np.ndarray.copy, np.ndarray.flatten, np.ndarray.ravel, np.ndarray.reshape, np.reshape)
MOST = 8  # shapes of batches; with more, programs cost more memory than they are worth


on_program: list[Callable[[Any, Any], None]] = []  # called with each Step and Program that replaces its eager steps


class GuardFailed(Exception):
    """A value that Python had looked at is another one."""


class Program:
    """Operations of a trace, bound to memory that is used again as soon as nobody needs what is in it.

        step      1    2    3    4    5          arena   0 ............... size
        h         [=========]                            |  h  |    z    |
        z              [=========]                       |  g  |    z    |      g takes the place of h
        g                   [=========]

    Args:
        trace: of the step.
        losses, gradients: what it computed.
        constant: which inputs had the same values in both traced steps, as they must have in all.
        optimizers: one for each list of gradients.

    Attributes:
        updates: what takes each optimizer's step.
    """

    def __init__(
        self,
        trace: Trace,
        losses: Sequence[Own],
        gradients: Sequence[Sequence[Own]],
        constant: Sequence[int] = (),
        optimizers: Sequence[Any] = (),
    ):
        from minivi.kernels import launches  # which without JIT is not there
        from minivi.kernels.arrays import as_draw, as_launches

        self.inputs, self._fixed = trace.inputs, dict(trace.fixed)
        self.writes, self.constant = trace.wrote, constant
        operations, renamed = _once(trace)
        losses, gradients = renamed(list(losses)), renamed([list(several) for several in gradients])
        for own in (*losses, *(g for several in gradients for g in several)):
            if isinstance(own, Own) and own.number not in self._fixed:
                self._fixed[own.number] = np.empty(trace.memory[own.number], np.uint8)
        self._places, self.arena = _plan(operations, trace.memory, self._fixed)
        self.actions, self._table, launched, taken = [], launches.Table, [], set()
        self._rng, self._draws = trace.rng, []
        entering, looks = {number for number, a in trace.fixed.items() if any(a is x for x in trace.inputs)}, []
        for o in operations:
            args, kwargs, out = map(self._bound, (o.args, o.kwargs, o.out))
            if o.kind == "launch":
                launched.append((kwargs["address"], args, kwargs["scalars"], kwargs["n"], kwargs["threads"]))
                continue
            calls = as_launches(o.function, args, kwargs, out) if o.kind == "call" else None
            if calls is not None:
                if o.function is np.ndarray.__getitem__ and isinstance(args[1], np.ndarray):  # the kernel does not look
                    self._flush(launched)
                    self.actions.append(partial(_within, args[1], len(args[0])))
                launched += calls
                continue
            drawn = o.kind == "draw" and as_draw(o.name, out, trace.memory[o.out.number] - o.out.offset)
            if drawn:
                self._draws.append((len(launched), drawn[1]))
                launched.append(drawn[0])
                continue
            if o.kind == "guard" and isinstance(o.args[0], Own) and o.args[0].number in entering:
                looks.append(_action(o, args, kwargs, out))
                continue
            self._flush(launched)
            self.actions.append(_action(o, args, kwargs, out))
        self._flush(launched)
        self.actions[:0] = looks  # at the batch: before the launches, which then stay together
        self.losses = [self._bound(loss) for loss in losses]
        self.gradients = [[self._of_its_own(g, trace.memory, taken) for g in several] for several in gradients]
        self.updates = [update_of(o, g) for o, g in zip(optimizers, self.gradients, strict=True)]

    def _bound(self, value):
        """``value`` with arrays in their places, also within lists, tuples and dicts."""
        return mapped(value, Own, self._array)

    def _array(self, own):
        memory, place = self._fixed.get(own.number), 0
        if memory is None:
            memory, place = self.arena, self._places[own.number]
        return np.ndarray(own.shape, own.dtype, memory, place + own.offset, own.strides)

    def _flush(self, launched):
        if launched:
            table = self._table(launched)
            self.actions.append(partial(self._draw_and_run, table, self._draws))
            launched.clear()
            self._draws = []

    def _draw_and_run(self, table, draws):
        rng = self._rng
        for row, blocks in draws:
            table.scalars[row, :6] = (*rng._key, rng._counter & 0xFFFFFFFF, rng._counter >> 32)
            rng._counter = (rng._counter + blocks) % 2**64
        table.run()

    def _of_its_own(self, gradient, memory, taken):
        """Optimizers may write into gradients: none may be a constant, or a part of another array."""
        array = self._bound(gradient)
        if isinstance(gradient, Own) and array.nbytes == memory[gradient.number] and array.flags.c_contiguous:
            if gradient.number not in taken:
                taken.add(gradient.number)
                return array
        copy = np.empty_like(array)
        self.actions.append(partial(np.copyto, copy, array))
        return copy

    def tables(self) -> list[Any]:
        """All tables of launches, in the order in which they run, the updates' last."""
        found = [getattr(action, "args", (getattr(action, "__self__", None),))[:1] for action in self.actions]
        found += [(getattr(update, "table", None),) for update in self.updates]
        return [table for several in found for table in several if isinstance(table, self._table)]

    def fits(self, batch: Sequence[np.ndarray]) -> bool:
        """Whether what was constant is as it was: it may be in other constants that no trace tells from others."""
        return all(self.inputs[k].tobytes() == batch[k].tobytes() for k in self.constant)

    def run(self, batch: Sequence[np.ndarray]) -> None:
        """Compute losses and gradients of another batch.

        Raises:
            GuardFailed: a look at a value had another answer.
        """
        for own, new in zip(self.inputs, batch, strict=True):
            own[...] = new
        for action in self.actions:
            action()


def _once(trace):
    """The operations without those of NumPy that were done before, such as copies, and new names for what is left.

    3  copy(h) -> 7       3  copy(h) -> 7        nobody writes into 7, 9 or h once they are made:
    5  copy(h) -> 9                              9 is called 7 from here on
    6  launch(W, 9)       6  launch(W, 7)
    """
    made, instead, operations = {}, {}, []

    def renamed(value):
        return mapped(value, Own, lambda own: replace(own, number=instead.get(own.number, own.number)))

    for o in trace.operations:
        o = replace(o, args=renamed(o.args), kwargs=renamed(o.kwargs), out=renamed(o.out))
        kwargs = dict(o.kwargs)
        out = kwargs.pop("out", (None,))[0] if isinstance(o.function, np.ufunc) else o.function in COPIES and o.out
        if isinstance(out, Own) and next(arrays_in((o.args, kwargs)), None) is None:
            key = repr((o.function, o.args, kwargs, replace(out, number=0), trace.memory[out.number]))
            whole = math.prod(out.shape) * out.dtype.itemsize == trace.memory[out.number]
            kept = not any(own.number in trace.again for own in arrays_in((o.args, out), Own))
            if whole and kept and made.setdefault(key, out.number) != out.number:
                instead[out.number] = made[key]
                continue
        operations.append(o)
    return operations, renamed


def _plan(operations, memory, fixed):
    """Where in an arena each piece of memory begins, by number, and the arena; without those that are ``fixed``."""
    uses = [
        [own.number for own in arrays_in((o.args, o.kwargs, o.out), Own) if own.number not in fixed] for o in operations
    ]
    last = {number: i for i, numbers in enumerate(uses) for number in numbers}
    free, places, size = [], {}, 0  # free: (begin, end), in order
    for i, numbers in enumerate(uses):
        for number in numbers:
            if number in places:
                continue
            need = -(-max(memory[number], 1) // LINE) * LINE
            k = next((k for k, (begin, end) in enumerate(free) if end - begin >= need), None)
            if k is not None:
                begin, end = free.pop(k)
                if begin + need < end:
                    free.insert(k, (begin + need, end))
            else:
                begin = free.pop()[0] if free and free[-1][1] == size else size
                size = begin + need
            places[number] = (begin, begin + need)
        free = _joined([*free, *(places[number] for number in {*numbers} if last[number] == i)])
    arena = np.zeros(size + LINE, np.uint8)
    start = -arena.ctypes.data % LINE
    return {number: begin for number, (begin, _) in places.items()}, arena[start : start + size]


def _joined(free):
    """Intervals in order, neighbours as one."""
    joined = []
    for begin, end in sorted(free):
        if joined and joined[-1][1] == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


def _action(operation, args, kwargs, out):
    """What does an operation again."""
    if operation.kind == "guard":
        return partial(_check, operation.function, *args)
    call = partial(operation.function, *args, **kwargs)
    return call if out is None else partial(_copy, out, call)


def _check(how, array, value):
    new = how(array)
    if new != value and (new == new or value == value):
        raise GuardFailed


def _within(index, count):
    if index.size and not (index.min() >= 0 and index.max() < count):
        raise GuardFailed


def _copy(out, call):
    new = call()
    if new.shape != out.shape or new.dtype != out.dtype:
        raise GuardFailed
    out[...] = new


class Step:
    """One update of every optimizer from one forward pass, compiled where that gives eager's bits.

    Args:
        loss: ``loss(x, rng)``: a scalar Tensor, or as many as there are optimizers.
        optimizers: one or several.
        compiled: False keeps every step eager.
        quiet: no warning where steps have to stay eager; ``why`` tells.

    Attributes:
        why: why steps are eager, if they have to be.
        compiled: how many ran as a program.

    Example:
        >>> from minivi import Generator
        >>> from minivi.models import VAE
        >>> from minivi.optim import Adam
        >>> vae, rng = VAE(pixels=4, hidden=(5,), latents=2, rng=Generator(0)), Generator(1)
        >>> step = Step(lambda x, rng: -vae.elbo(x, rng).mean(), Adam(vae.parameters()))
        >>> values = [step(np.ones((6, 4), "float32"), rng) for _ in range(20)]
        >>> step.why, step.compiled > 10
        ('', True)
    """

    def __init__(self, loss: Callable, optimizers: Any, *, compiled: bool = True, quiet: bool = False):
        self.loss, self.quiet = loss, quiet
        self.optimizers = list(optimizers) if isinstance(optimizers, (list, tuple)) else [optimizers]
        self.why, self.compiled = "", 0
        self._wanted = compiled and not numba.config.DISABLE_JIT and not os.environ.get("MINIVI_EAGER")
        self._programs: dict[Any, _Candidate] = {}
        self._backends: dict = {}
        if self._wanted:
            from minivi.kernels.matmul import _backends, matmul_backend

            for dtype in {p.dtype for o in self.optimizers for p in o.parameters}:
                matmul_backend(dtype)  # chosen now, not within the first step
            self._backends = _backends

    def check_again(self) -> None:
        """Let the next step run both ways: something outside may have changed, as at the start of an epoch."""
        for candidate in self._programs.values():
            candidate.due = True

    def __call__(self, x: Any, rng: Any) -> float:
        """The last loss, before the update.

        Raises:
            FloatingPointError: a loss is NaN or infinite; nothing was updated.
            ValueError: not one scalar loss for each optimizer.
        """
        batch = x if isinstance(x, tuple) else (x,)
        if not self._wanted or self.why or not _mode.usual or not all(map(_ordinary, batch)):
            return self._eager(x, rng)
        if not isinstance(rng, Generator):
            self._stay_eager(f"a generator of the class {type(rng).__name__}, which is not minivi's")
            return self._eager(x, rng)
        how = id(rng), get_threads(), *self._backends.items()
        key = (isinstance(x, tuple), *how, *((p.strides, p.shape, p.dtype) for p in batch))
        candidate = self._programs.setdefault(key, _Candidate())
        candidate.steps += 1
        if candidate.program and not candidate.program.fits(batch):
            candidate.program = candidate.operations = None
        if candidate.steps <= WARM_UP or len(self._programs) > MOST:
            return self._eager(x, rng)
        if candidate.program and not candidate.due:
            return self._replay(candidate.program, x, batch, rng)
        value = self._both(candidate, x, batch, rng)
        if candidate.program and not candidate.told:
            from minivi.kernels.jit import give_back_memory

            give_back_memory()  # that of the eager steps
            candidate.told = True
            for tell in on_program:
                tell(self, candidate.program)
        return value

    def _stay_eager(self, why):
        self.why = f"eager: {why}"
        self._programs.clear()
        if not self.quiet:
            warnings.warn(f"minivi.Step: steps stay {self.why}", RuntimeWarning, stacklevel=4)

    def objective(self, x: Any, rng: Any) -> list[Tensor]:
        """The losses of a batch, one for each optimizer."""
        losses = self.loss(x, rng)
        losses = losses if isinstance(losses, (list, tuple)) else [losses]
        if len(losses) != len(self.optimizers):
            raise ValueError(f"fit: {len(losses)} losses for {len(self.optimizers)} optimizers; give one for each")
        for value in losses:
            if not isinstance(value, Tensor) or value.size != 1:
                got = f"of shape {value.shape}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise ValueError(f"fit: the loss is {got}; return a scalar Tensor, such as (...).mean()")
        return losses

    def _gradients(self, losses):
        return [grad(value, o.parameters) for value, o in zip(losses, self.optimizers, strict=True)]

    def _update(self, values, gradients):
        for o, g in zip(self.optimizers, gradients, strict=True):
            o.step(g)
        return values[-1]

    def _eager(self, x, rng):
        losses = self.objective(x, rng)
        values = _finite([value.item() for value in losses])
        return self._update(values, self._gradients(losses))

    def _both(self, candidate, x, batch, rng):
        """A traced step; where it does what the traced step before did, the program has to give its bits."""
        parameters = list({id(p): p for o in self.optimizers for p in (*o.parameters, *candidate.others)}.values())
        if "blas" in self._backends.values():
            self._stay_eager("products come from the BLAS, which no trace sees")
            return self._eager(x, rng)
        before = rng.state
        values_before = [p._data.copy() for p in parameters]
        try:
            values, kept = self._traced(candidate, x, batch, rng, before, parameters, values_before)
        except (TypeError, AttributeError) as error:  # of the step, or of what a traced array is not like others in
            rng.state = before
            _put(parameters, values_before)
            value = self._eager(x, rng)
            self._stay_eager(f"a traced array is not enough: {error}")
            return value
        return self._update(values, kept)

    def _traced(self, candidate, x, batch, rng, before, parameters, values_before):
        with Trace(rng, parameters, candidate.decisions) as trace:
            inputs = [trace.input(part) for part in batch]
            losses = self.objective(tuple(inputs) if isinstance(x, tuple) else inputs[0], rng)
            gradients = self._gradients(losses)
            ours = [trace.sign(plain(value._data)) for value in losses]
            ours_gradients = [[trace.sign(plain(g)) for g in several] for several in gradients]
        after, values = rng.state, _finite([plain(value._data).item() for value in losses])
        kept = [[plain(g).copy() for g in several] for several in gradients]
        told = trace.why
        for part, copy in zip(batch, trace.inputs, strict=True):
            if any(copy is x for x in trace.wrote):
                part[...] = copy
        if trace.met:
            told = told or ("parameters that are others in each step" if candidate.others else "")
            candidate.others, candidate.operations, candidate.program = trace.met, None, None
        elif not told and candidate.operations is not None:
            told = difference(candidate.operations, trace.operations)
            if not told:
                same = [k for k, a in enumerate(trace.inputs) if a.tobytes() == candidate.inputs[k].tobytes()]
                del losses, gradients  # their memory
                candidate.program = candidate.program or Program(trace, ours, ours_gradients, same, self.optimizers)
                values_after = [p._data.copy() for p in parameters]  # a loss may bring them back to where they may be
                try:
                    rng.state = before
                    _put(parameters, values_before)
                    told = self._compare(candidate.program, batch, values, kept)
                    if not told and (rng.state != after or not _alike([p._data for p in parameters], values_after)):
                        told = "the program left other parameters or another generator behind"
                finally:  # also after Ctrl-C
                    rng.state = after
                    _put(parameters, values_after)
        if told:
            self._stay_eager(told)
        if not trace.met:
            candidate.operations, candidate.inputs = trace.operations, trace.inputs
        candidate.decisions, candidate.due = trace.decisions, False
        return values, kept

    def _compare(self, program, batch, values, gradients):
        """What differs when the program does the step that was just done, if anything."""
        try:
            program.run(batch)
        except Exception:
            return "Python looked at a value that another run of the same step does not have"
        same = all(loss.item() == value for loss, value in zip(program.losses, values, strict=True))
        same = same and all(map(_alike, program.gradients, gradients))
        return "" if same else "the program gave other bits than the eager step"

    def _replay(self, program, x, batch, rng):
        before, kept = rng.state, [a.copy() for a in program.writes]
        try:
            program.run(batch)
            values = _finite([loss.item() for loss in program.losses])
        except Exception:  # a guard, or what the eager step raises with its own words
            rng.state = before
            for a, value in zip(program.writes, kept, strict=True):
                a[...] = value
            return self._eager(x, rng)
        self.compiled += 1
        for update in program.updates:
            update()
        return values[-1]


@dataclass
class _Candidate:
    """What is known of batches of one shape."""

    steps: int = 0
    operations: list | None = None
    inputs: Sequence[np.ndarray] = ()
    others: Sequence[Parameter] = ()  # that no optimizer has and the loss looks at
    decisions: Sequence[bool] = ()
    program: Program | None = None
    due: bool = False
    told: bool = False  # to whom it may concern


def _ordinary(part):
    # a copy of others, a masked array or a part of one, would not be summed in the same order
    return type(part) is np.ndarray and part.flags.forc and part.dtype.kind in "biuf"


def _alike(ours, theirs):
    return all(a.tobytes() == b.tobytes() for a, b in zip(ours, theirs, strict=True))


def _put(parameters, values):
    for p, value in zip(parameters, values, strict=True):
        p._data[...] = value


def _finite(values):
    for value in values:
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value}")
    return values
