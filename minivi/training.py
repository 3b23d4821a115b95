"""The training loop: minibatches, progress bar, metrics as JSON lines, early stopping, checkpoints that survive a kill.

A checkpoint is one safetensors file, written whole or not at all (temporary file, fsync, rename). It holds the
parameters, the optimizer's arrays, and as JSON the position in the run and the generator's state, both now and at the
start of the epoch: the epoch's shuffling is drawn again from the latter. So a run killed at any instant and resumed
goes through the same numbers as one never killed.
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

from minivi import kernels, validate
from minivi.data import batches
from minivi.tensor import Tensor, detect_nonfinite, grad

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
FORMAT = 2


class TrainingError(RuntimeError):
    """Training cannot go on, or a checkpoint cannot be used; the message says the mend."""


@dataclass
class History:
    """What :func:`fit` did.

    Attributes:
        records: one dict for each epoch: "epoch", "examples", "loss" (mean over the epoch, nats), "seconds", and what
            ``evaluate`` returned.
        stopped_early: whether ``patience`` ran out.
    """

    records: list[dict[str, float]] = field(default_factory=list)
    stopped_early: bool = False

    def column(self, name: str) -> np.ndarray:
        """One metric over the epochs that have it."""
        return np.array([r[name] for r in self.records if name in r])


# ---------------------------------------------------------------------------------------------------- files
def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``, or leave it as it was.

    Raises:
        TrainingError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name == "posix":  # make the new name itself survive a power cut
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or error
        raise TrainingError(f"cannot write {path}: {reason}; the file there, if any, is unchanged") from None


def save_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    """Write arrays and a JSON-able ``about`` into one safetensors file, atomically."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    write_atomically(path, save(arrays, {"minivi": json.dumps(about)}))


def load_arrays(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote.

    Raises:
        TrainingError: the file is missing, truncated, corrupt or not minivi's.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), "numpy") as file:
            about = (file.metadata() or {}).get("minivi")
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        return arrays, json.loads(about)
    except FileNotFoundError:
        raise TrainingError(f"no file {path}; train first, or give the right folder") from None
    except (SafetensorError, ValueError, TypeError, OSError) as error:
        raise TrainingError(
            f"{path} is not a whole minivi checkpoint ({str(error).splitlines()[0]}); remove it, run without --resume"
        ) from None


# ---------------------------------------------------------------------------------------------------- the loop
def fit(
    model: Any,
    loss: Callable[[np.ndarray, Any], Tensor | Sequence[Tensor]],
    optimizer: Any | Sequence[Any],
    train: Any,
    *,
    epochs: int,
    batch_size: int = 100,
    rng: Any,
    prepare: Callable[[np.ndarray, Any], np.ndarray] | None = None,
    evaluate: Callable[[int], dict[str, float]] | None = None,
    monitor: str | None = None,
    patience: int | None = None,
    folder: str | os.PathLike | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 10.0,
    progress: bool | str = True,
) -> History:
    """Minimise ``loss`` over minibatches of ``train``.

    Args:
        model: the Module whose parameters are checkpointed.
        loss: ``loss(x, rng)``: mean loss of a minibatch in nats, a scalar Tensor; or several of them, which share one
            forward pass, one for each optimizer (the last one is reported).
        optimizer: over some or all of the model's parameters; or several, over separate ones.
        train: data (N, D), possibly of ``scipy.sparse``; or a tuple of several, aligned, such as (x, labels), of which
            each minibatch is a tuple too.
        epochs: passes over the data, in all (a resumed run does what is left of them).
        batch_size: the last minibatch of an epoch may be smaller.
        rng: generator of shuffling and noise, with a ``state`` (:class:`minivi.random.Generator`).
        prepare: applied to each minibatch with ``rng``, e.g. to binarize it afresh.
        evaluate: ``evaluate(epoch)`` returns metrics after each epoch; it must bring its own generator.
        monitor: the metric to make large; the weights of its best epoch are kept, and restored at the end.
        patience: stop after so many epochs without a new best; needs ``monitor``.
        folder: where checkpoints and metrics go; None keeps nothing.
        resume: go on from the checkpoint in ``folder``, if there is one.
        checkpoint_seconds: how much work a kill may cost: checkpoints come that often, and at the end.
        progress: a progress bar, with this label if it is a string.

    Returns:
        The :class:`History`, from the first epoch on, also when resumed.

    Raises:
        TrainingError: the loss became NaN or infinite (the first primitive that made it is named, the last checkpoint
            stays); a checkpoint cannot be read, written, or belongs to another run.
        ValueError: settings that make no sense.
    """
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
    run = _Run(model, optimizers, rng, parts, batch_size, monitor, folder)
    if resume:
        run.load()
    elif folder is not None:
        for name in (CHECKPOINT, METRICS):
            Path(folder, name).unlink(missing_ok=True)
    from tqdm import tqdm

    steps = math.ceil(count / batch_size)
    bar = tqdm(
        total=steps * epochs,
        initial=steps * run.epoch + run.step,
        desc=progress if isinstance(progress, str) else "training",
        unit="step",
        mininterval=0.2,
        dynamic_ncols=True,
        disable=not progress,
    )
    last_save = time.monotonic()
    with bar:
        while run.epoch < epochs and not run.stopped:
            begun = time.monotonic()
            here, done = rng.state, run.step
            rng.state = run.epoch_state  # what this epoch's shuffling was, or is, drawn from
            for step, x in enumerate(batches(*parts, size=batch_size, rng=rng)):
                if step < done:  # before the kill; only the shuffling is drawn again
                    continue
                if step == done > 0:
                    rng.state = here
                value = _step(loss, prepare, optimizers, x, rng)
                run.total += value * min(batch_size, count - step * batch_size)
                run.step += 1
                if step % 20 == 0:
                    bar.set_postfix_str(f"epoch {run.epoch + 1}, loss {value:.1f}", refresh=False)
                bar.update(1)
                if run.step < steps and time.monotonic() - last_save >= checkpoint_seconds:
                    run.seconds += time.monotonic() - begun
                    run.save()
                    begun = last_save = time.monotonic()
            run.seconds += time.monotonic() - begun
            run.finish_epoch(evaluate, patience)
            if run.epoch == epochs or run.stopped or time.monotonic() - last_save >= checkpoint_seconds:
                run.save()
                last_save = time.monotonic()
    run.restore_best()
    run.history.stopped_early = run.stopped
    return run.history


def _step(loss, prepare, optimizers, x, rng):
    """One update of every optimizer from one forward pass; the last loss's value."""
    before = rng.state

    def objective():
        losses = loss(prepare(x, rng) if prepare else x, rng)
        losses = losses if isinstance(losses, (list, tuple)) else [losses]
        if len(losses) != len(optimizers):
            raise ValueError(f"fit: {len(losses)} losses for {len(optimizers)} optimizers; give one for each")
        for value in losses:
            if not isinstance(value, Tensor) or value.size != 1:
                got = f"of shape {value.shape}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise ValueError(f"fit: the loss is {got}; return a scalar Tensor, such as (...).mean()")
        return losses

    losses = objective()
    for value in losses:
        if not math.isfinite(value.item()):
            rng.state = before
            cause = _cause(objective, optimizers)
            raise TrainingError(f"the loss became {value.item()}: {cause}; the last checkpoint is kept")
    gradients = [grad(value, o.parameters) for value, o in zip(losses, optimizers, strict=True)]
    for o, g in zip(optimizers, gradients, strict=True):
        o.step(g)
    return losses[-1].item()


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


class _Run:
    """The position in a run, and its files."""

    def __init__(self, model, optimizers, rng, parts, batch_size, monitor, folder):
        self.model, self.optimizers, self.rng, self.monitor = model, optimizers, rng, monitor
        self.folder = None if folder is None else Path(folder)
        shapes = [list(part.shape) for part in parts]
        self.count = shapes[0][0]
        kinds = [type(o).__name__ for o in optimizers]
        self.identity = {
            "data": shapes[0] if len(shapes) == 1 else shapes,
            "batch_size": batch_size,
            "optimizers": kinds,
        }
        self.epoch = self.step = 0
        self.total = self.seconds = 0.0
        self.epoch_state = rng.state
        self.best, self.best_epoch, self.best_weights = -math.inf, 0, None
        self.stopped = False
        self.history = History()

    def finish_epoch(self, evaluate, patience):
        self.epoch += 1
        n = self.count
        record = {"epoch": self.epoch, "examples": self.epoch * n, "loss": self.total / n, "seconds": self.seconds}
        if evaluate:
            record |= evaluate(self.epoch)
        self.history.records.append(record)
        if self.monitor:
            if self.monitor not in record:
                raise ValueError(f"fit: evaluate returned {sorted(record)}, not the monitored {self.monitor!r}")
            if record[self.monitor] > self.best:
                self.best, self.best_epoch = record[self.monitor], self.epoch
                self.best_weights = self.model.state_dict()
            self.stopped = patience is not None and self.epoch - self.best_epoch >= patience
        self.step, self.total, self.seconds = 0, 0.0, 0.0
        self.epoch_state = self.rng.state

    def save(self):
        if self.folder is None:
            return
        arrays = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        states = {f"{i}.{k}": v for i, o in enumerate(self.optimizers) for k, v in o.state_dict().items()}
        arrays |= {f"optimizers.{k}": v for k, v in states.items() if isinstance(v, np.ndarray)}
        if self.best_weights:
            arrays |= {f"best.{k}": v for k, v in self.best_weights.items()}
        about = {
            "format": FORMAT,
            "identity": self.identity,
            "optimizers": {k: v for k, v in states.items() if not isinstance(v, np.ndarray)},
            "position": [self.epoch, self.step, self.total],
            "seconds": self.seconds,
            "rng": self.rng.state,
            "epoch_rng": self.epoch_state,
            "best": [None if self.best == -math.inf else self.best, self.best_epoch],
            "stopped": self.stopped,
            "records": self.history.records,
            "matmul": kernels.matmul_backend(),
        }
        # Metrics first: if the kill comes between, the resumed run writes them again.
        lines = "".join(json.dumps(record) + "\n" for record in self.history.records)
        write_atomically(self.folder / METRICS, lines.encode())
        save_arrays(self.folder / CHECKPOINT, arrays, about)

    def load(self):
        path = None if self.folder is None else self.folder / CHECKPOINT
        if path is None or not path.exists():
            return
        arrays, about = load_arrays(path)
        if about.get("format") != FORMAT:
            raise TrainingError(f"{path} has format {about.get('format')}, this version reads {FORMAT}; start anew")
        if about["identity"] != self.identity:
            raise TrainingError(
                f"{path} belongs to a run with {about['identity']}, this one has {self.identity}; "
                "use the same settings, or another folder"
            )
        if about["matmul"] != kernels.matmul_backend():
            raise TrainingError(
                f"{path} was computed with MINIVI_MATMUL={about['matmul']}, which rounds differently; set it to go on"
            )
        parts = {"model": {}, "optimizers": dict(about["optimizers"]), "best": {}}
        for name, array in arrays.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = array
        try:
            self.model.load_state_dict(parts["model"])
            for i, o in enumerate(self.optimizers):
                state = {k.partition(".")[2]: v for k, v in parts["optimizers"].items() if k.startswith(f"{i}.")}
                o.load_state_dict(state)
        except ValueError as error:
            raise TrainingError(f"{path}: {error}") from None
        self.epoch, self.step, self.total = about["position"]
        self.seconds = about["seconds"]
        self.rng.state, self.epoch_state = about["rng"], about["epoch_rng"]
        best, self.best_epoch = about["best"]
        self.best = -math.inf if best is None else best
        self.best_weights = parts["best"] or None
        self.stopped = about["stopped"]
        self.history.records = about["records"]

    def restore_best(self):
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
