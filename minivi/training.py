"""The training loop: minibatches, progress bar, metrics as JSON lines, early stopping, checkpoints that survive a kill.

A checkpoint is one safetensors file, written whole or not at all (temporary file, fsync, rename), with a checksum of
all its bytes. It holds the parameters, the optimizer's arrays, and as JSON the position in the run and the generator's
state, both now and at the start of the epoch: the epoch's shuffling is drawn again from the latter. So a run killed at
any instant and resumed goes through the same numbers as one never killed. It also holds what decides those numbers
(:mod:`minivi.identity`): no other run goes on from it, or takes its place. And how the model was made, so that
:func:`minivi.load` gives it back.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minivi import validate
from minivi.data import batches
from minivi.files import (
    FORMAT,
    TrainingError,
    first_line,
    load_arrays,
    prepare_folder,
    save_arrays,
    to_json,
    write_atomically,
)
from minivi.identity import digest, facts, rounding
from minivi.program import Step
from minivi.progress import Compiling
from minivi.progress import bar as progress_bar
from minivi.protocols import Rng, Stepper, Trainable
from minivi.tensor import Tensor, detect_nonfinite, grad

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
WORTH = 100  # steps that repay tracing two of them
RECIPE = "recipe"  # a field that checkpoints of earlier versions lack: how the model was made
FIELDS = set("format identity rounding optimizers position seconds spent rng epoch_rng records".split())


@dataclass
class History:
    """What :func:`fit` did.

    Attributes:
        records: one dict for each epoch: "epoch", "examples", "loss" (mean over the epoch, nats), "seconds", and what
            ``evaluate`` returned.
        stopped_early: whether ``patience`` ran out.
        folder: where its checkpoint is, or None.
        earlier: seconds, and CPU seconds, that had gone into it before it was resumed.
        compiled: how many steps ran as a program, see :class:`minivi.program.Step`.
        why: why the others did not, where it is not for being few.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    stopped_early: bool = False
    folder: Path | None = None
    earlier: tuple[float, float] = (0.0, 0.0)
    compiled: int = 0
    why: str = ""

    def __repr__(self) -> str:
        last = ", ".join(f"{k} {v:.5g}" for k, v in (self.records or [{}])[-1].items() if isinstance(v, (int, float)))
        return f"History({len(self.records)} epochs{f'; the last: {last}' if last else ''})"

    def column(self, name: str) -> np.ndarray:
        """One metric over the epochs that have it."""
        return np.array([r[name] for r in self.records if name in r])


def fit(
    model: Trainable,
    loss: Callable[[np.ndarray, Any], Tensor | Sequence[Tensor]],
    optimizer: Stepper | Sequence[Stepper],
    train: Any,
    *,
    epochs: int,
    batch_size: int = 100,
    rng: Rng,
    prepare: Callable[[np.ndarray, Any], np.ndarray] | None = None,
    evaluate: Callable[[int], dict[str, float]] | None = None,
    monitor: str | None = None,
    patience: int | None = None,
    folder: str | os.PathLike | Callable[[str], str | os.PathLike] | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 10.0,
    progress: bool | str = True,
) -> History:
    """Minimise ``loss`` over minibatches of ``train``.

    Args:
        model: the Module whose parameters are checkpointed.
        loss: ``loss(x, rng)``: mean loss of a minibatch in nats, a scalar Tensor; or several of them, which share one
            forward pass, one for each optimizer (the last one is reported). It is not called in every step of a long
            run, see :class:`minivi.program.Step`: it should compute, and not count or print.
        optimizer: over some or all of the model's parameters; or several, over separate ones.
        train: data (N, D), possibly of ``scipy.sparse``; or a tuple of several, aligned, such as (x, labels), of which
            each minibatch is a tuple too.
        epochs: passes over the data, in all (a resumed run does what is left of them).
        batch_size: the last minibatch of an epoch may be smaller.
        rng: generator of shuffling and noise, with a ``state`` (:class:`minivi.random.Generator`).
        prepare: applied to each minibatch with ``rng``, e.g. to binarize it afresh.
        evaluate: ``evaluate(epoch)`` returns metrics after each epoch, a dict of what JSON can hold; it must bring its
            own generator.
        monitor: the metric to make large; the weights of its best epoch, the first of equals, are kept, and restored
            at the end.
        patience: stop after so many epochs without a new best; needs ``monitor``.
        folder: where checkpoints and metrics go; None keeps nothing. Or a function that names it from a digest of all
            that decides the run's numbers, ``epochs`` included.
        resume: go on from the checkpoint in ``folder``, if there is one. It must be of the same run: all arguments,
            initial weights and data except ``epochs``, which may grow; functions count with what they capture.
        checkpoint_seconds: how much work a kill may cost: checkpoints come that often, and at the end.
        progress: a progress bar where somebody can see it, with this label if it is a string.

    Returns:
        The :class:`History`, from the first epoch on, also when resumed.

    Raises:
        TrainingError: the loss, a gradient or a weight became NaN or infinite (the first primitive that made it is
            named, the last checkpoint stays); a checkpoint cannot be read, written, or belongs to another run, also
            where ``resume`` is off: nothing of another run is removed.
        ValueError: settings that make no sense, or ``evaluate`` returned what cannot be stored.

    Example:
        >>> from minivi import Generator, data
        >>> from minivi.models import VAE
        >>> from minivi.optim import Adam
        >>> digits, vae = data.load("digits"), VAE(pixels=64, hidden=(20,), latents=2, rng=Generator(0))
        >>> loss = lambda x, rng: -vae.elbo(x, rng).mean()
        >>> options = {"epochs": 2, "rng": Generator(1), "prepare": data.fresh, "progress": False}
        >>> history = fit(vae, loss, Adam(vae.parameters()), digits.train, **options)
        >>> history.column("loss").shape
        (2,)
    """
    parts, optimizers = _checked(
        model, loss, optimizer, train, epochs, batch_size, rng, prepare, evaluate, monitor, patience, checkpoint_seconds
    )
    count = parts[0].shape[0]
    run = _Position(model, optimizers, rng, count, math.ceil(count / batch_size), monitor, patience)
    if folder is not None:
        settings = {"batch_size": batch_size, "monitor": monitor, "patience": patience, "loss": loss}
        settings |= {"prepare": prepare, "evaluate": evaluate}
        run.identity = _identity(model, rng, {"optimizer": optimizers, "data": parts}, settings)
        run.open(Path(folder(digest([run.identity, epochs])) if callable(folder) else folder), resume, epochs)
    extent = {"total": run.steps * epochs, "initial": run.steps * run.epoch + run.step}
    bar = progress_bar(progress=progress, label="training", unit="step", mininterval=0.2, **extent)
    last_save = time.monotonic()
    update = Step(loss, optimizers, compiled=run.steps * (epochs - run.epoch) >= WORTH, quiet=True)
    with bar, Compiling(bar) as compiling:
        while run.epoch < epochs and not run.stopped:
            update.check_again()
            begun = time.monotonic()
            here, done = rng.state, run.step
            rng.state = run.epoch_state  # what this epoch's shuffling was, or is, drawn from
            for step, x in enumerate(batches(*parts, size=batch_size, rng=rng)):
                if step < done:  # before the kill; only the shuffling is drawn again
                    continue
                if step == done > 0:
                    rng.state = here
                value = _step(update, prepare, x, rng)
                run.total += value * min(batch_size, count - step * batch_size)
                run.step += 1
                compiling.step_done()
                if step % 20 == 0:
                    bar.set_postfix_str(f"epoch {run.epoch + 1}, loss {value:.1f}", refresh=False)
                bar.update(1)
                if run.step < run.steps and time.monotonic() - last_save >= checkpoint_seconds:
                    run.seconds += time.monotonic() - begun
                    run.save()
                    begun = last_save = time.monotonic()
            run.seconds += time.monotonic() - begun
            run.finish_epoch(evaluate)
            if run.epoch == epochs or run.stopped or time.monotonic() - last_save >= checkpoint_seconds:
                run.save()
                last_save = time.monotonic()
    run.restore_best()
    run.history.stopped_early = run.stopped
    run.history.compiled, run.history.why = update.compiled, update.why
    return run.history


def _checked(
    model, loss, optimizer, train, epochs, batch_size, rng, prepare, evaluate, monitor, patience, checkpoint_seconds
):
    """The arguments of :func:`fit`, looked at before anything is done; the arrays of data and the optimizers."""
    parts = train if isinstance(train, tuple) else (train,)
    for part in parts:
        validate.offers(part, "fit: train, an array or a tuple of such,", "shape", "dtype")
    count = parts[0].shape[0] if parts else 0
    validate.offers(model, "fit: model", "named_parameters", "state_dict", "load_state_dict")
    validate.function(loss, "fit: loss", "loss(x, rng) -> mean loss of a minibatch, a scalar Tensor")
    validate.count(epochs, "fit: epochs", 0)
    validate.count(batch_size, "fit: batch_size")
    validate.offers(rng, "fit: rng, a minivi.Generator,", "state", "permutation")
    validate.number(checkpoint_seconds, "fit: checkpoint_seconds", 0)
    if patience is not None:
        validate.count(patience, "fit: patience")
    if prepare is not None:
        validate.function(prepare, "fit: prepare", "prepare(x, rng) -> minibatch")
    if evaluate is not None:
        validate.function(evaluate, "fit: evaluate", "evaluate(epoch) -> {metric: number}")
    if len({part.shape[0] for part in parts}) != 1 or count == 0:
        raise ValueError(f"fit: {[part.shape[0] for part in parts]} data; pass one or more, as many in each array")
    for part in parts:
        validate.finite(getattr(part, "data", part) if hasattr(part, "indptr") else part, "fit: train")
    if patience is not None and monitor is None:
        raise ValueError("fit: patience needs monitor=, the name of the metric to watch")
    optimizers = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    for o in optimizers:
        validate.offers(o, "fit: optimizer", "step", "parameters", "state_dict")
    held = {id(p) for o in optimizers for p in o.parameters}
    if held.isdisjoint(id(p) for _, p in model.named_parameters()):
        raise ValueError(
            "fit: the optimizer has none of the model's parameters, so the model would not change; make it of "
            "model.parameters(), after any astype or copy of the model"
        )
    return parts, optimizers


def _step(step, prepare, x, rng):
    """One update of every optimizer from one forward pass; the last loss's value."""
    before = rng.state
    try:
        return step(prepare(x, rng) if prepare else x, rng)
    except FloatingPointError as error:
        rng.state = before
        cause = _cause(lambda: step.objective(prepare(x, rng) if prepare else x, rng), step.optimizers)
        raise TrainingError(f"{error}: {cause}; the last checkpoint is kept") from None


def _cause(objective, optimizers):
    """The first primitive to make a NaN or infinity when a step is repeated."""
    try:
        with detect_nonfinite():
            for value, o in zip(objective(), optimizers, strict=True):
                grad(value, o.parameters)
        return "it did not happen again when the step was repeated: is the loss random, or changed by its own calls?"
    except FloatingPointError as error:
        return str(error)
    except Exception as error:
        return f"repeating the step failed: {error}"


def _identity(model, rng, several, settings):
    """All that decides a run's numbers by name, in the order in which a difference is told; see minivi/identity.py."""
    known = {id(rng): (rng, "rng")}
    # The model first: a loss that captures it is the same loss, whatever the model.
    decides = facts("model", model, known)
    named = {f"{name} {i}" if i else name: x for name, xs in several.items() for i, x in enumerate(xs)}
    for name, value in (named | settings).items():
        decides |= facts(name, value, known)
    return decides | {"rng, the seed,": digest(rng.state), "weights": digest(model.state_dict())}


def _difference(theirs, ours):
    """What differs between two dicts, and how."""
    names = [name for name in ours | theirs if theirs.get(name) != ours.get(name)]
    told = [f"{name} was {theirs.get(name, 'absent')}, is now {ours.get(name, 'absent')}" for name in names[:3]]
    return "; ".join(told) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def _clock():
    """Seconds, and those that all threads' CPUs spent."""
    return time.monotonic(), sum(os.times()[:4])


def _demand(holds, what):
    if not holds:
        raise ValueError(f"its {what} cannot be")


def _real(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value):
    return _real(value) and math.isfinite(value)


class _Position:
    """The position in a run, and its files.

    Attributes:
        epoch, step: finished epochs, and steps of the one begun.
        total: sum of the begun epoch's losses over its data; ``seconds``: its training time so far.
        best, best_epoch, best_weights: of the monitored metric.
        stopped: whether patience ran out.
    """

    def __init__(self, model, optimizers, rng, count, steps, monitor, patience):
        self.model, self.optimizers, self.rng, self.monitor, self.patience = model, optimizers, rng, monitor, patience
        self.count, self.steps = count, steps
        self.folder, self.identity = None, {}
        self.epoch = self.step = 0
        self.total = self.seconds = 0.0
        self.epoch_state = rng.state
        self.best, self.best_epoch, self.best_weights = -math.inf, 0, {}
        self.stopped = False
        self.history = History()
        self.begun = _clock()

    def open(self, folder, resume, epochs):
        """Take the folder: go on from its checkpoint, or remove one of the same run; refuse those of others."""
        self.folder = self.history.folder = folder
        prepare_folder(folder)
        path, stored = folder / CHECKPOINT, None
        if path.exists():
            try:
                stored = _stored(path)
            except TrainingError:  # nobody can go on from it
                if resume:
                    raise
        if stored:
            then, now, theirs = stored[1]["rounding"], rounding(), stored[1]["identity"]
            if resume and then != now:
                only_matmul = then == now | {"matmul": then.get("matmul")}
                mend = (
                    f"set MINIVI_MATMUL={then.get('matmul')} to go on" if only_matmul else "go on there, or start anew"
                )
                raise TrainingError(f"{path} was computed with other rounding: {_difference(then, now)}; {mend}")
            if theirs != self.identity:
                difference = _difference(then | theirs, now | self.identity)
                raise TrainingError(
                    f"{path} is of another run: {difference}; use another folder, or the same settings with model, "
                    "optimizer and generator made anew"
                )
        if not resume:
            for name in (CHECKPOINT, METRICS):
                (folder / name).unlink(missing_ok=True)
        elif stored:
            self.load(path, *stored, epochs)

    def finish_epoch(self, evaluate):
        n, epoch = self.count, self.epoch + 1
        record = {"epoch": epoch, "examples": epoch * n, "loss": self.total / n, "seconds": self.seconds}
        if evaluate:
            metrics = evaluate(epoch)
            if not isinstance(metrics, dict) or metrics.keys() & record.keys():
                raise ValueError(
                    f"fit: evaluate returned {metrics!r:.200}; give a dict of names other than {list(record)}"
                )
            try:
                record |= json.loads(to_json(metrics))
            except (TypeError, ValueError) as error:
                raise ValueError(f"fit: evaluate returned {metrics!r:.200}: {error}") from None
        if self.monitor and not _real(record.get(self.monitor)):
            raise ValueError(f"fit: evaluate returned {sorted(record)}, not the monitored {self.monitor!r} as a number")
        if self.count_epoch(record):
            self.best_weights = self.model.state_dict()
        self.step, self.total, self.seconds = 0, 0.0, 0.0
        self.epoch_state = self.rng.state

    def count_epoch(self, record):
        """Take up the record of the next epoch; whether it is the best so far."""
        self.history.records.append(record)
        self.epoch += 1
        better = self.monitor is not None and record[self.monitor] > self.best
        if better:
            self.best, self.best_epoch = record[self.monitor], self.epoch
        self.stopped = self.patience is not None and self.epoch - self.best_epoch >= self.patience
        return better

    def _state(self):
        """What a checkpoint holds: arrays by name, and the optimizers' numbers of steps."""
        arrays = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        arrays |= {f"best.{k}": v for k, v in self.best_weights.items()}
        states = {f"{i}.{k}": v for i, o in enumerate(self.optimizers) for k, v in o.state_dict().items()}
        arrays |= {f"optimizers.{k}": v for k, v in states.items() if isinstance(v, np.ndarray)}
        return arrays, {k: v for k, v in states.items() if not isinstance(v, np.ndarray)}

    def save(self):
        """Write the checkpoint, if there is a folder.

        Raises:
            TrainingError: a weight is not finite; nothing is written then.
        """
        for name, p in self.model.named_parameters():
            if not np.isfinite(p.data).all():
                raise TrainingError(
                    f"{name} is no longer finite after epoch {self.epoch}, step {self.step}, from finite gradients; "
                    "the last checkpoint is kept: try a smaller step size"
                )
        if self.folder is None:
            return
        arrays, steps = self._state()
        about = {
            "format": FORMAT,
            "identity": self.identity,
            "rounding": rounding(),
            "optimizers": steps,
            "position": [self.epoch, self.step, self.total],
            "seconds": self.seconds,
            "spent": [e + now - b for e, now, b in zip(self.history.earlier, _clock(), self.begun, strict=True)],
            "rng": self.rng.state,
            "epoch_rng": self.epoch_state,
            "records": self.history.records,
            RECIPE: getattr(self.model, "recipe", None),
        }
        # Metrics first: if the kill comes between, the resumed run writes them again.
        lines = "".join(json.dumps(record) + "\n" for record in self.history.records)
        write_atomically(self.folder / METRICS, lines.encode())
        save_arrays(self.folder / CHECKPOINT, arrays, about)

    def load(self, path, arrays, about, epochs):
        """Go on from a checkpoint. If it is refused, model, optimizers and generator are as they were."""
        rng, here = self.rng, self.rng.state
        try:
            self._check(arrays, about)
            rng.state = about["epoch_rng"]
            rng.state = about["rng"]
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            rng.state = here
            raise TrainingError(f"{path} is damaged ({first_line(error)}); remove it, run without --resume") from None
        if self.epoch + (self.step > 0) > epochs:
            rng.state = here
            raise TrainingError(
                f"{path} has {self.epoch} epochs and {self.step} steps done, epochs={epochs} is less; give more, or "
                "another folder"
            )
        parts = {"model": {}, "best": {}, "optimizers": dict(about["optimizers"])}
        for name, array in arrays.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = array
        self.model.load_state_dict(parts["model"])
        self.best_weights = parts["best"]
        for i, o in enumerate(self.optimizers):
            o.load_state_dict({k.partition(".")[2]: v for k, v in parts["optimizers"].items() if k.startswith(f"{i}.")})

    def _check(self, arrays, about):
        """Take up the fields that describe the position; ValueError and its like if one of them cannot be."""
        for i, record in enumerate(about["records"], 1):
            possible = not self.stopped and [record["epoch"], record["examples"]] == [i, i * self.count]
            possible &= all(_number(record[name]) for name in ("loss", "seconds"))
            _demand(possible and (self.monitor is None or _real(record[self.monitor])), f"record {i}")
            self.count_epoch(record)
        epoch, self.step, self.total = about["position"]
        self.seconds, self.epoch_state = about["seconds"], about["epoch_rng"]
        self.history.earlier = tuple(about["spent"])
        begun = type(self.step) is int and 0 < self.step < self.steps and not self.stopped
        _demand(epoch == self.epoch and (begun or self.step == 0), "position")
        _demand(_number(self.total) and (begun or self.total == 0), "total")
        _demand(begun or about["rng"] == self.epoch_state, "generator")
        times = self.seconds, *self.history.earlier
        _demand(len(times) == 3 and all(_number(t) and t >= 0 for t in times), "times")
        done = self.epoch * self.steps + self.step
        expected, steps = self._state()
        possible = steps.keys() == about["optimizers"].keys()  # more than `done` if the loss makes steps too
        possible &= all(type(n) is int and n >= steps[name] + done for name, n in about["optimizers"].items())
        _demand(possible, "number of steps")
        if self.best_epoch:
            expected |= {f"best.{name}": value for name, value in self.model.state_dict().items()}
        kinds, should = ({k: (v.shape, v.dtype) for k, v in each.items()} for each in (arrays, expected))
        _demand(kinds == should, "arrays")
        _demand(all(np.isfinite(v).all() for k, v in arrays.items() if not k.startswith("optimizers.")), "weights")

    def restore_best(self):
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)


def _stored(path):
    """Arrays and fields of a checkpoint."""
    arrays, about = load_arrays(path)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        version = about.get("format") if isinstance(about, dict) else None
        raise TrainingError(f"{path} has format {version}, this version reads {FORMAT}; start anew")
    if about.keys() - {RECIPE} != FIELDS or not all(isinstance(about[name], dict) for name in ("identity", "rounding")):
        raise TrainingError(f"{path} is damaged (its fields cannot be); remove it, run without --resume")
    return arrays, about
