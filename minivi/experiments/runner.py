"""Running experiments: settings and models for each, its table, figures and JSON in the end."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from minivi.experiments.provenance import environment
from minivi.experiments.registry import BUDGETS, Experiment, find
from minivi.experiments.results import ExperimentError, Result, report_claims, rows_text, stored, to_json
from minivi.files import prepare_folder, write_atomically
from minivi.protocols import Stepper, Trainable
from minivi.random import Generator
from minivi.tables import duration


class FailedExperiments(RuntimeError):
    """Some of a chapter's experiments failed; the message lists them."""


class Run:
    """What an experiment gets: its settings as attributes of ``settings``, the seed, and where files go.

    Attributes:
        settings: of the budget, e.g. ``run.settings.epochs``.
        budget: one of ``experiments.BUDGETS``.
        seed: of everything random.
        folder: for weights, checkpoints and cells of sweeps, one for the chapter, so that experiments share trained
            models.
        resume: whether to go on from what is there.
        progress: whether to show progress bars.
        shared: a dict for this chapter's experiments, e.g. for models trained by an earlier one.
        earlier: seconds, and CPU seconds, that had gone into the models before this run went on with them.
        changes: settings that are not the budget's.
        weights: the checkpoints of the models that it trained or shares.
        taken: CPU seconds that earlier experiments of the chapter had spent on models which this one shares.
    """

    def __init__(self, experiment, budget, data, seed, out, resume, progress, shared, report=print, changes=None):
        self.changes, self.weights, self.taken, self._own = changes or {}, [], 0.0, set()
        settings = dict(experiment.budgets[budget]) | self.changes
        if data is not None:
            settings["data"] = data
        self.settings = SimpleNamespace(**settings)
        self.experiment, self.budget, self.seed = experiment, budget, seed
        self.folder = Path(out) / experiment.chapter
        self.resume, self.progress, self.shared, self.report = resume, progress, shared, report
        self.earlier = np.zeros(2)

    def images(self, labels: bool = False) -> Any:
        """The data set that the settings name, in their split if it has that; read once for a chapter.

        Raises:
            ExperimentError: it holds no images; or, with ``labels``, nobody has said what they show.
        """
        from minivi import data

        name, split = self.settings.data, getattr(self.settings, "split", None)
        splits = data.describe(name)["splits"]  # of another set by --data, the first
        key = "images", name, split if split in splits else splits[0]
        if key not in self.shared:
            self.shared[key] = data.load(*key[1:], self.progress)
        images = self.shared[key]
        if not isinstance(images.train, np.ndarray):
            raise ExperimentError(f"{name} holds texts, not images; run with --data digits or mnist")
        if labels and (images.train_labels is None or images.test_labels is None):
            raise ExperimentError(f"{name} has no labels to predict; run with --data digits or mnist")
        return images

    def binary_images(self) -> SimpleNamespace:
        """:meth:`images` with pixels of 0 and 1: ``train``, ``valid`` (the test images where there are none), ``test``.

        Digits' grey levels are the probabilities of ink: held-out pixels are drawn once for all, those of training by
        ``prepare`` for each minibatch. Other grey images go through a threshold. ``train`` holds the first ``count`` of
        the settings, if they have that.
        """
        from minivi import data

        loaded = self.images()
        key = "binary", id(loaded)  # which `shared` keeps
        if key not in self.shared:
            train, held_out, prepare = loaded.train, {"test": loaded.test}, None
            held_out["valid"] = loaded.test if loaded.validation is None else loaded.validation
            if self.settings.data == "digits":
                held_out = {part: data.fresh(x, Generator(2)) for part, x in held_out.items()}
                prepare = data.fresh
            elif loaded.kind == "grey":
                train = data.binarize(train, "threshold")
                held_out = {part: data.binarize(x, "threshold") for part, x in held_out.items()}
            self.shared[key] = SimpleNamespace(train=train, prepare=prepare, shape=loaded.shape, **held_out)
        whole = vars(self.shared[key])
        return SimpleNamespace(**whole | {"train": whole["train"][: getattr(self.settings, "count", None)]})

    def fit(
        self,
        name: str,
        model: Trainable,
        loss: Callable,
        optimizer: Stepper | Sequence[Stepper],
        train: np.ndarray,
        **options: Any,
    ) -> Any:
        """:func:`minivi.training.fit`, resumed and shown as the run says.

        Its checkpoint goes into a folder of this ``name`` and of a digest of all that decides the numbers: a model of
        another seed, budget or setting has another one, and neither is taken for the other nor removed by it.
        """
        from minivi.training import CHECKPOINT, fit

        def folder(digest):
            path = self.folder / f"{name}-{digest}"
            there = [file.parent for file in self.folder.glob(f"{name}-{'?' * 12}/{CHECKPOINT}")]
            if self.resume and there and path not in there:
                self.report(f"{name}: no checkpoint of these settings, only of others; trained from the start")
            return path

        history = fit(
            model, loss, optimizer, train, folder=folder, resume=self.resume, progress=self.progress and name, **options
        )
        self.earlier += history.earlier
        self._note(history)
        return history

    def _note(self, history):
        from minivi.training import CHECKPOINT

        path = (history.folder / CHECKPOINT).relative_to(self.folder.parent).as_posix()
        self.weights += [path] * (path not in self.weights)

    def train(
        self, name: str, start: Callable[[], tuple], train: Any, *, evaluate: Callable | None = None, **options: Any
    ) -> tuple[Any, Any, Any]:
        """A model trained by :meth:`fit`, its history and optimizer; trained once for all of a chapter's experiments.

        Args:
            name: of the checkpoint's folder. It names all in which a chapter's models differ, except ``epochs``.
            start: ``start() -> model, loss, optimizer``.
            train: the training data.
            evaluate: ``evaluate(model, epoch) -> dict`` of numbers for the history.
            options: of :func:`minivi.training.fit`.
        """
        key = "trained", name, options["epochs"]
        if key not in self.shared:
            begun = _cpu_seconds()
            model, loss, optimizer = start()
            after = evaluate and (lambda epoch: evaluate(model, epoch))
            history = self.fit(name, model, loss, optimizer, train, evaluate=after, **options)
            self.shared[key] = model, history, optimizer
            self.shared[("spent", *key)] = _cpu_seconds() - begun + history.earlier[1]
        elif key not in self._own:
            self.taken += self.shared[("spent", *key)]
        self._own.add(key)
        self._note(self.shared[key][1])
        return self.shared[key]


def run_experiments(
    key: str,
    *,
    budget: str = "quick",
    data: str | None = None,
    seed: int = 0,
    resume: bool = False,
    out: str | os.PathLike = "runs",
    progress: bool = True,
    report: Callable[[str], None] = print,
    changes: dict[str, Any] | None = None,
) -> list[Result]:
    """Run one experiment, or all of a chapter; print tables, write figures and JSON into ``out``.

    Results of another budget, data set or seed that are there already stay: these then get a name that says their own.

    Args:
        key: of the experiment, or the chapter's.
        budget: one of ``experiments.BUDGETS``.
        data: the name of another data set than the budget's, or a file or folder of one's own, see
            :func:`minivi.data.add`.
        seed: of everything random.
        resume: go on from checkpoints in ``out``.
        out: the folder.
        progress: whether to show progress bars.
        report: what takes the lines that are told.
        changes: settings in place of the budget's, such as ``{"epochs": 50}``; or as texts, ``{"epochs": "50"}``.
            The JSON says them, and the names of its files: such a result is never taken for the budget's own.

    Raises:
        DataError: no data set ``data``, or damaged data.
        ExperimentError: no such experiment, one without this budget or such a setting, or that ignores ``data``.
        FailedExperiments: some of a chapter's; the others are done. What a single one raises passes through.
        TrainingError: ``out`` cannot be written.
    """
    entries, out = _with_budget(list(find(key)), budget), Path(out)
    if data is not None:
        data = _accepted(entries, budget, data)
    changes = {entry.key: changed(entry, budget, changes or {}) for entry in entries}
    prepare_folder(out)
    shared: dict[str, dict[str, Any]] = {entry.chapter: {} for entry in entries}
    results, failures = [], []
    for entry in entries:
        told = f"budget {budget}, about {duration(entry.minutes[budget])}"
        if changes[entry.key]:
            told = ", ".join([f"budget {budget}", *(f"{name} = {value}" for name, value in changes[entry.key].items())])
        report(f"\n{entry.key}: {entry.title} ({entry.mirrors}; {told})")
        shares = shared[entry.chapter]
        run = Run(entry, budget, data, seed, out, resume, progress, shares, report, changes[entry.key])
        try:
            results.append(_run_one(entry, run, out, report))
        except Exception as error:
            if len(entries) == 1:
                raise
            failures.append((f"{entry.key}: {type(error).__name__}: {' '.join(str(error).split())}", error))
            report(f"FAILED {failures[-1][0]}")
    if failures:
        told = "; ".join(text for text, _ in failures)
        raise FailedExperiments(f"{len(failures)} of {len(entries)} experiments failed: {told}") from failures[0][1]
    return results


def _with_budget(entries, budget):
    """Those of the experiments that have it: all but "night" is everyone's."""
    able = [entry for entry in entries if budget in entry.budgets]
    if not able:
        known = [name for name in BUDGETS if name in entries[0].budgets]
        raise ExperimentError(
            f"no budget {budget!r} in {', '.join(entry.key for entry in entries)}; take {', '.join(known)}"
        )
    return able


def _accepted(entries, budget, data):
    """The name of a data set; refuse one that does not exist, or that not all of the experiments would use."""
    from minivi.data import named

    name = named(data)
    deaf = [entry.key for entry in entries if "data" not in entry.budgets[budget]]
    if deaf:
        mend = "leave it out" if len(deaf) == len(entries) else "give it with the chapter's other experiments"
        raise ExperimentError(f"{', '.join(deaf)} would ignore --data {data}; {mend}")
    return name


def changed(entry: Experiment, budget: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Settings to use in place of a budget's, each of the kind that the budget has there.

    Args:
        entry: the experiment.
        budget: one of ``experiments.BUDGETS``.
        changes: values by name, or texts of them as ``--set`` takes them: JSON, or a word.

    Raises:
        ExperimentError: the budget has no such setting, or one of another kind.
    """
    settings, found = entry.budgets[budget], {}
    for name, value in changes.items():
        if name not in settings or name == "data":
            names = ", ".join(sorted(settings.keys() - {"data"})) or "none"
            mend = "say --data for that" if name == "data" else f"there are {names}"
            raise ExperimentError(f"{entry.key} has no setting {name!r} at {budget} to change; {mend}")
        present = settings[name]
        value = _value(value, present) if isinstance(value, str) else value
        if not _finite(value):
            raise ExperimentError(f"{entry.key}: {name} = {value!r}: give finite numbers")
        if not _alike(value, present):
            raise ExperimentError(
                f"{entry.key}: {name} = {value!r} is not of the kind of its present value, {present!r}; give one such"
            )
        found[name] = _of_kind(value, present)
    return found


def _value(text, present):
    """JSON, or a word; for a setting that is a text the text as it is, unless it stands in quotes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(present, str) and not isinstance(value, str) else value


def _finite(value):
    """Whether all numbers in a value can be a float."""
    if isinstance(value, (list, tuple, dict)):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, (int, float)) or abs(value) <= sys.float_info.max


def _alike(value, present):
    """Whether a value may stand for another: of its type, an integer for any number; of lists and dicts, all items.

    A dict may have some of the names alone, and one value may stand for all of a dict's.
    """
    if isinstance(present, (list, tuple)):
        return isinstance(value, (list, tuple)) and all(any(_alike(v, p) for p in present or [0]) for v in value)
    if isinstance(present, dict):
        if isinstance(value, dict):
            return value.keys() <= present.keys() and all(_alike(v, present[k]) for k, v in value.items())
        return bool(present) and all(_alike(value, p) for p in present.values())
    if isinstance(present, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if type(value) is int and type(present) is int and value < 0 <= present:  # such as -1 epochs
        return False
    return present is None or type(value) is type(present)


def _of_kind(value, present):
    """With tuples where there were some, as JSON has lists alone, and whole dicts."""
    if isinstance(present, dict):
        return {k: _of_kind(value.get(k, p) if isinstance(value, dict) else value, p) for k, p in present.items()}
    if isinstance(present, (list, tuple)):
        one = present[0] if present else None
        return type(present)(_of_kind(v, one) for v in value)
    return float(value) if isinstance(present, float) else value


def outcome(entry: Experiment, run: Run) -> tuple[Result, dict[str, Any]]:
    """What an experiment gives: its result, and all that goes into the JSON file."""
    begun = time.monotonic(), _cpu_seconds()
    measured = entry(run)
    weights = {"weights": run.weights} if run.weights else {}
    now = time.monotonic(), _cpu_seconds()
    seconds, cpu = np.subtract(now, begun) + run.earlier
    about = {
        "experiment": entry.key,
        "mirrors": entry.mirrors,
        "budget": run.budget,
        "settings": vars(run.settings),
        **({"changes": run.changes} if run.changes else {}),
        **_own_data(run.settings),
        "seed": run.seed,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        **({"shared_cpu_seconds": round(run.taken, 1)} if run.taken else {}),
        **environment(),
        **weights,
    }
    result, numbers = measured, measured
    if isinstance(measured, Result):
        numbers = measured.numbers
    else:
        result = entry.result(json.loads(to_json(dict(**about, **numbers))))
    return result, dict(**about, **_told(result), **numbers)  # unlike |, an error if numbers have one of these names


def _cpu_seconds():
    """Of all threads, and of a sweep's processes."""
    return sum(os.times()[:4])


def _own_data(settings):
    """Where the images came from, if they are the user's, and how they are drawn; their name says which they are."""
    from minivi.data import SOURCES, own

    name = getattr(settings, "data", None)
    if name not in own.PATHS:
        return {}
    source = SOURCES[name]
    return {"own_data": {"path": str(own.PATHS[name]), "shape": source.shape, "photo": source.photo}}


def _run_one(entry, run, out, report):
    """The result of an experiment, after its tables, figures and JSON are out."""
    result, about = outcome(entry, run)
    stem = entry.key.replace(".", "_")
    if run.changes or _identity(stored(out / f"{stem}.json")) not in (None, _identity(about)):
        data = about["settings"].get("data")
        stem += "".join(
            f"_{part}" for part in (run.budget, data, f"seed{run.seed}", _told_changes(run.changes)) if part
        )
    _leave(result, about, out / f"{stem}.json", report, run.resume)
    return result


def _told(result):
    """The table, the claims with their verdicts, and the checks of a result, for JSON."""
    claims = [{**vars(claim), "verdict": claim.verdict} for claim in result.claims]
    return {"table": [vars(row) for row in result.rows], "claims": claims, "checks": [vars(c) for c in result.checks]}


def _leave(result, about, path, report, resume=False, pictures=True):
    """Print a result's table and claims, write its JSON to ``path`` and, unless told not to, its figures beside it."""
    from minivi import plots

    if result.rows:
        report(rows_text(result.rows))
    report_claims(result.claims, report, about["settings"].get("data"), result.checks)
    text = to_json(about)
    about = json.loads(text)
    for name, fig in result.figures.items() if pictures else ():
        picture = path.with_name(f"{path.stem}_{name}.png" if name else f"{path.stem}.png")
        plots.save(fig, picture)
        report(f"figure: {picture}")
    changing = dict.fromkeys(("seconds", "cpu_seconds", "shared_cpu_seconds", "commit"))
    if resume and (stored(path) or {}) | changing == about | changing:
        report(f"numbers: {path}, as before")
    else:
        write_atomically(path, text.encode())
        report(f"numbers: {path} ({about['seconds']:.0f} s)")


def redraw(path: str | os.PathLike, *, pictures: bool = True, report: Callable[[str], None] = print) -> Result:
    """Make the table, claims and figures of a stored result anew, in its folder, from its numbers, without training.

    Args:
        path: the JSON file.
        pictures: also the figures; without, table and claims alone.
        report: takes lines of text.

    Raises:
        ExperimentError: ``path`` holds no result, or one without numbers, or its experiment is not there any more.
    """
    path = Path(path)
    about = stored(path)
    if about is None:
        raise ExperimentError(f"{path} holds no result; minivi redraw takes the JSON file that a run has left")
    (entry,) = find(about["experiment"])
    if not (entry.tables or entry.figures):
        raise ExperimentError(f"{entry.key} measures and draws in one; run it again to draw it")
    try:
        result = entry.result(about, pictures)
    except (AttributeError, KeyError) as error:  # of an earlier version
        message = f"{path} has not all the numbers that {entry.key} is drawn from; run the experiment again"
        raise ExperimentError(message) from error
    _leave(result, about | _told(result), path, report, pictures=pictures)
    return result


def _identity(about):
    """What keeps results of an experiment apart."""
    return about and (about.get("budget"), (about.get("settings") or {}).get("data"), about.get("seed"))


def _told_changes(changes):
    """For a file's name: each setting and its value; a digest of those that are long or of other characters."""
    from minivi.identity import digest

    text = "_".join(f"{name}{value}" for name, value in sorted(changes.items()))
    return text if re.fullmatch(r"[\w.+-]{0,60}", text) else digest(sorted(changes.items()))
