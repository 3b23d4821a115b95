"""A traced step as a program: the same operations on the same memory, again and again.

    step 1, 2      eager, traced: are the operations, constants and numbers the same?
    step 3         both ways: are loss and gradients the same to the bit?
    later steps    the batch is copied in, the operations run in order, the optimizers take the gradients

Launches that follow each other run in one compiled call, without Python in between. Before any parameter changes, every
guard has held and the loss is finite; else the step is repeated eagerly, from the same state of the generator.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numba
import numpy as np

from minivi.kernels import get_threads
from minivi.random import Generator
from minivi.tensor import Tensor, _mode, grad
from minivi.trace import Trace, arrays_in, difference, offset, plain, root

WARM_UP = 3  # eager steps before the first traced one: kernels compile, optimizers make their arrays
LINE = 64  # bytes of a cache line, at which arrays begin
MOST = 8  # shapes of batches; with more, programs cost more memory than they are worth


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
    """

    def __init__(self, trace: Trace, losses: Sequence[np.ndarray], gradients: Sequence[Sequence[np.ndarray]]):
        self.inputs = trace.inputs
        kept = [*trace.inputs, *losses, *(g for several in gradients for g in several)]
        kept += [p._data for p in trace.parameters]
        self._places, self.arena = _plan(trace, {id(root(a)) for a in kept})
        self.actions, launched, taken = [], [], set()
        for operation in trace.operations:
            if operation.kind == "launch":
                launched.append(self._launch(operation))
                continue
            self._flush(launched)
            self.actions.append(self._action(operation))
        self._flush(launched)
        self.losses = list(losses)
        self.gradients = [[self._of_its_own(g, trace.owned, taken) for g in several] for several in gradients]

    def _bound(self, value):
        """``value`` with arrays in their places, also within lists, tuples and dicts."""
        if isinstance(value, np.ndarray):
            base = root(value)
            place = self._places.get(id(base))
            if place is None:
                return value
            return np.ndarray(value.shape, value.dtype, self.arena, place + offset(value, base), value.strides)
        if type(value) in (list, tuple):
            return type(value)(map(self._bound, value))
        return {key: self._bound(item) for key, item in value.items()} if type(value) is dict else value

    def _launch(self, operation):
        function, flat, *rest = operation.kwargs["call"]
        arrays = [
            self._bound(a).reshape(-1) if id(root(a)) in self._places else f
            for a, f in zip(operation.args, flat, strict=True)
        ]
        return (function, arrays, *rest)

    def _flush(self, launched):
        if launched:
            from minivi.kernels import launches  # which without JIT is not there

            self.actions.append(launches.Table(launched).run)
            launched.clear()

    def _action(self, operation):
        args, kwargs, out = map(self._bound, (operation.args, operation.kwargs, operation.out))
        if operation.kind == "guard":
            return partial(_check, operation.function, *args)
        call = partial(operation.function, *args, **kwargs)
        return call if out is None else partial(_copy, out, call)

    def _of_its_own(self, gradient, owned, taken):
        """Optimizers may write into gradients: none may be a constant, or a part of another array."""
        base = root(gradient)
        if gradient.base is None and id(base) in owned and id(base) not in taken:
            taken.add(id(base))
            return gradient
        copy = np.empty_like(gradient)
        self.actions.append(partial(np.copyto, copy, gradient))
        return copy

    def run(self, batch: Sequence[np.ndarray]) -> None:
        """Compute losses and gradients of another batch.

        Raises:
            GuardFailed: a look at a value had another answer.
        """
        for own, new in zip(self.inputs, batch, strict=True):
            own[...] = new
        for action in self.actions:
            action()


def _plan(trace, kept):
    """Where in an arena each array of a step begins, by the id of its memory, and the arena; without those ``kept``."""
    last = {}
    for i, operation in enumerate(trace.operations):
        for a in arrays_in((operation.args, operation.kwargs, operation.out)):
            base = root(a)
            if id(base) in trace.owned and id(base) not in kept:
                last[id(base)] = i
    ends = {}
    for key, i in last.items():
        ends.setdefault(i, []).append(key)
    free, places, size = [], {}, 0  # free: (begin, end), in order
    for i, operation in enumerate(trace.operations):
        for a in arrays_in((operation.args, operation.kwargs, operation.out)):
            key = id(root(a))
            if key in last and key not in places:
                need = -(-max(root(a).nbytes, 1) // LINE) * LINE
                k = next((k for k, (begin, end) in enumerate(free) if end - begin >= need), None)
                if k is None:
                    if free and free[-1][1] == size:
                        begin = free.pop()[0]
                    else:
                        begin = size
                    size = begin + need
                else:
                    begin, end = free.pop(k)
                    if begin + need < end:
                        free.insert(k, (begin + need, end))
                places[key] = (begin, need)
        for key in ends.get(i, ()):
            begin, need = places[key]
            free.append((begin, begin + need))
        free = _joined(free)
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return {key: begin for key, (begin, _) in places.items()}, memory[start : start + size]


def _joined(free):
    """Intervals in order, neighbours as one."""
    joined = []
    for begin, end in sorted(free):
        if joined and joined[-1][1] == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


def _check(how, array, value):
    new = how(array)
    if new != value and (new == new or value == value):
        raise GuardFailed


def _copy(out, call):
    out[...] = call()


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
        if not self._wanted or self.why or not _mode.usual or not all(isinstance(p, np.ndarray) for p in batch):
            return self._eager(x, rng)
        if not isinstance(rng, Generator):
            self._stay_eager(f"a generator of the class {type(rng).__name__}, which is not minivi's")
            return self._eager(x, rng)
        key = (isinstance(x, tuple), id(rng), get_threads(), *((part.shape, part.dtype) for part in batch))
        candidate = self._programs.setdefault(key, _Candidate())
        candidate.steps += 1
        if candidate.steps <= WARM_UP or len(self._programs) > MOST:
            return self._eager(x, rng)
        if candidate.program and not candidate.due:
            return self._replay(candidate.program, x, batch, rng)
        return self._both(candidate, x, batch, rng)

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
        before, parameters = rng.state, {id(p): p for o in self.optimizers for p in o.parameters}
        with Trace(rng, list(parameters.values()), candidate.decisions) as trace:
            inputs = [trace.input(part) for part in batch]
            losses = self.objective(tuple(inputs) if isinstance(x, tuple) else inputs[0], rng)
            gradients = self._gradients(losses)
        after, losses = rng.state, [plain(value._data) for value in losses]
        values, gradients = _finite([value.item() for value in losses]), [[*map(plain, g)] for g in gradients]
        kept = [[g.copy() for g in several] for several in gradients]
        told, signature = trace.why, trace.signature()
        if not told and candidate.signature:
            told = difference(candidate.signature, signature)
            if not told:
                candidate.program = candidate.program or Program(trace, losses, gradients)
                rng.state = before
                told = self._compare(candidate.program, batch, values, kept)
                told = told or ("" if rng.state == after else "the program drew other random numbers")
                rng.state = after
        if told:
            self._stay_eager(told)
        candidate.signature, candidate.decisions, candidate.due = signature, trace.decisions, False
        return self._update(values, kept)

    def _compare(self, program, batch, values, gradients):
        """What differs when the program does the step that was just done, if anything."""
        try:
            program.run(batch)
        except GuardFailed:
            return "Python looked at a value that another run of the same step does not have"
        same = all(loss.item() == value for loss, value in zip(program.losses, values, strict=True))
        for ours, theirs in zip(program.gradients, gradients, strict=True):
            same = same and all(a.tobytes() == b.tobytes() for a, b in zip(ours, theirs, strict=True))
        return "" if same else "the program gave other bits than the eager step"

    def _replay(self, program, x, batch, rng):
        before = rng.state
        try:
            program.run(batch)
        except GuardFailed:
            rng.state = before
            return self._eager(x, rng)
        self.compiled += 1
        return self._update(_finite([loss.item() for loss in program.losses]), program.gradients)


@dataclass
class _Candidate:
    """What is known of batches of one shape."""

    steps: int = 0
    signature: list | None = None
    decisions: Sequence[bool] = ()
    program: Program | None = None
    due: bool = False


def _finite(values):
    for value in values:
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value}")
    return values
