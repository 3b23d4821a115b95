"""The registry that chapters enter: experiments (a figure or table of a document) and equation checks.

A chapter is a script that decorates functions:

    @experiment("manifold", mirrors="thesis Figure 2.7(b)", title=..., budgets={"quick": {...}, ...}, minutes={...})
    def manifold(run): ...; return Result(rows, figures)

    @check("2.8", "log p(x) = ELBO + KL(q(z|x) || p(z|x))")
    def decomposition(): return Claim(left, "=", right, tolerance)
"""

from __future__ import annotations

import difflib
import importlib.util
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

BUDGETS = ("quick", "laptop", "paper")


class ExperimentError(RuntimeError):
    """An experiment cannot be found or run; the message says the mend."""


class FailedExperiments(RuntimeError):
    """Some of a chapter's experiments failed; the message lists them."""


# ---------------------------------------------------------------------------------------------------- experiments
@dataclass
class Row:
    """A line of a result's table: our number, in ``unit``, beside the published one (None: only a picture exists)."""

    what: str
    ours: float
    published: float | None = None
    unit: str = "nats"
    note: str = ""


@dataclass
class Result:
    """What an experiment found: a table, figures by name, numbers for the JSON, and the text's claims about them.

    A claim that does not hold is no error: it is reported as not reproduced, with its numbers.
    """

    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)


@dataclass
class Experiment:
    """A registered experiment; ``key`` is ``chapter.name``."""

    chapter: str
    name: str
    title: str
    mirrors: str
    budgets: dict[str, dict[str, Any]]
    minutes: dict[str, float]
    function: Callable

    @property
    def key(self) -> str:
        """What the command line calls it."""
        return f"{self.chapter}.{self.name}"


class Run:
    """What an experiment gets: its settings as attributes of ``settings``, the seed, and where files go.

    Attributes:
        settings: of the budget, e.g. ``run.settings.epochs``.
        budget: "quick", "laptop" or "paper".
        seed: of everything random.
        folder: for weights, checkpoints and cells of sweeps, one for the chapter, so that experiments share trained
            models.
        resume: whether to go on from what is there.
        progress: whether to show progress bars.
        shared: a dict for this chapter's experiments, e.g. for models trained by an earlier one.
        earlier: seconds, and CPU seconds, that had gone into the models before this run went on with them.
    """

    def __init__(self, experiment, budget, data, seed, out, resume, progress, shared, report=print):
        settings = dict(experiment.budgets[budget])
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

    def fit(self, name: str, model: Any, loss: Callable, optimizer: Any, train: np.ndarray, **options: Any) -> Any:
        """:func:`minivi.training.fit`, resumed and shown as the run says.

        Its checkpoint goes into a folder of this ``name`` and of a digest of all that decides the numbers: a model of
        another seed, budget or setting has another one, and neither is taken for the other nor removed by it.
        """
        from minivi.training import CHECKPOINT, fit

        def folder(digest):
            path = self.folder / f"{name}-{digest}"
            found = [file.parent for file in self.folder.glob(f"{name}-{'?' * 12}/{CHECKPOINT}")]
            if self.resume and found and path not in found:
                self.report(f"{name}: no checkpoint of these settings, only of others; trained from the start")
            return path

        history = fit(
            model, loss, optimizer, train, folder=folder, resume=self.resume, progress=self.progress and name, **options
        )
        self.earlier += history.earlier
        return history


EXPERIMENTS: dict[str, Experiment] = {}


def experiment(
    name: str,
    *,
    title: str,
    mirrors: str,
    budgets: dict[str, dict[str, Any]],
    minutes: dict[str, float],
) -> Callable[[Callable], Callable]:
    """Decorator: register ``function(run) -> Result``.

    Args:
        name: within the chapter.
        title: one line.
        mirrors: the document's figure, table or section.
        budgets: settings for "quick", "laptop" and "paper".
        minutes: about how long each takes on two cores.
    """

    def register(function):
        entry = Experiment(_chapter_of(function), name, title, mirrors, budgets, minutes, function)
        EXPERIMENTS[entry.key] = entry
        return function

    return register


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
) -> list[Result]:
    """Run one experiment, or all of a chapter; print tables, write figures and JSON into ``out``.

    Results of another budget, data set or seed that are there already stay: these then get a name that says their own.

    Raises:
        DataError: no data set ``data``.
        ExperimentError: no such experiment, or one that would ignore ``data``.
        FailedExperiments: some of a chapter's; the others are done. What a single one raises passes through.
        TrainingError: ``out`` cannot be written.
    """
    from minivi.training import prepare_folder

    entries, out = list(find(key)), Path(out)
    _accepts(entries, budget, data)
    prepare_folder(out)
    shared: dict[str, dict[str, Any]] = {entry.chapter: {} for entry in entries}
    results, failures = [], []
    for entry in entries:
        report(
            f"\n{entry.key}: {entry.title} ({entry.mirrors}; budget {budget}, about {duration(entry.minutes[budget])})"
        )
        run = Run(entry, budget, data, seed, out, resume, progress, shared[entry.chapter], report)
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


def _accepts(entries, budget, data):
    """Refuse a data set that does not exist, or that not all of the experiments would use."""
    if data is None:
        return
    from minivi.data import describe

    describe(data)
    deaf = [entry.key for entry in entries if "data" not in entry.budgets[budget]]
    if deaf:
        mend = "leave it out" if len(deaf) == len(entries) else "give it with the chapter's other experiments"
        raise ExperimentError(f"{', '.join(deaf)} would ignore --data {data}; {mend}")


def _run_one(entry, run, out, report):
    """The result of an experiment, after its tables, figures and JSON are out."""
    from minivi import plots
    from minivi.training import write_atomically

    begun = time.monotonic(), sum(os.times()[:4])  # the CPUs' of all threads and of a sweep's processes
    result = entry.function(run)
    now = time.monotonic(), sum(os.times()[:4])
    seconds, cpu = np.subtract(now, begun) + run.earlier
    if result.rows:
        report(table_text(result.rows))
    report_claims(result.claims, report, getattr(run.settings, "data", None))
    about = {
        "experiment": entry.key,
        "mirrors": entry.mirrors,
        "budget": run.budget,
        "settings": vars(run.settings),
        "seed": run.seed,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        **environment(),
        "table": [vars(row) for row in result.rows],
        "claims": [{**vars(claim), "holds": claim.ok} for claim in result.claims],
    }
    about = dict(**about, **result.numbers)  # unlike |, an error if numbers have one of these names
    about = json.loads(json.dumps(about, default=_plain), parse_constant=lambda name: None)  # JSON has no NaN
    stem = f"{entry.chapter}_{entry.name}"
    if _identity(_stored(out / f"{stem}.json")) not in (None, _identity(about)):
        stem += "".join(f"_{part}" for part in (run.budget, about["settings"].get("data"), f"seed{run.seed}") if part)
    path = out / f"{stem}.json"
    for name, fig in result.figures.items():
        picture = out / (f"{stem}_{name}.png" if name else f"{stem}.png")
        plots.save(fig, picture)
        report(f"figure: {picture}")
    changing = {"seconds": None, "cpu_seconds": None, "commit": None}
    if run.resume and (_stored(path) or {}) | changing == about | changing:
        report(f"numbers: {path}, as before")
    else:
        write_atomically(path, (json.dumps(about, indent=1) + "\n").encode())
        report(f"numbers: {path} ({seconds:.0f} s)")
    return result


def _stored(path):
    """What a run has left in a JSON file; None if that is missing, damaged or something else."""
    try:
        about = json.loads(path.read_text())
        return about if isinstance(about, dict) and "experiment" in about else None
    except (OSError, ValueError, RecursionError):
        return None


def _identity(about):
    """What keeps results of an experiment apart."""
    return about and (about.get("budget"), (about.get("settings") or {}).get("data"), about.get("seed"))


def report_claims(claims: list[Claim], report: Callable[[str], None], data: str | None = None) -> None:
    """Say of each claim whether it holds; once, of toy ``data``, that they are such."""
    if claims and data == "digits":
        report("claims about scikit-learn's digits of 8 x 8 pixels, a toy, not about the document's data:")
    for claim in claims:
        report(f"{'holds' if claim.ok else 'NOT REPRODUCED'}: {claim}")


def report_stored(folder: str | os.PathLike, report: Callable[[str], None] = print) -> list[str]:
    """Print the tables and claims that runs have left in ``folder`` (:func:`run_experiments` with ``out=folder``).

    Returns:
        A line for each file that cannot be read.

    Raises:
        ExperimentError: there are none.
    """
    found, failures = 0, []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            about = json.loads(path.read_text())
            if not isinstance(about, dict) or "experiment" not in about:
                continue  # such as a benchmark's
            found += 1
            budget = ", ".join(filter(None, [about["budget"], about["settings"].get("data")]))
            lines = [
                f"\n{about['experiment']}: {about['mirrors']} (budget {budget}, seed {about['seed']}, "
                f"commit {about['commit']}, {about['seconds']:.0f} s)"
            ]
            rows = [Row(**_numbers_back(row)) for row in about["table"]]
            lines += [table_text(rows)] if rows else []
            report_claims(
                [Claim(**_numbers_back(claim)) for claim in about["claims"]],
                lines.append,
                about["settings"].get("data"),
            )
        except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            failures.append(f"{path} cannot be read ({error}); remove it, and run its experiment again")
        except (KeyError, TypeError, ValueError, AttributeError):
            failures.append(f"{path} was not written by this version; run {about['experiment']} again")
        else:
            report("\n".join(lines))
    if not found and not failures:
        raise ExperimentError(f"no results in {folder}; minivi run EXPERIMENT --out {folder} puts some there")
    return failures


def _numbers_back(entry):
    """The fields of a stored Row or Claim; JSON has null for NaN, and says of a claim whether it held."""
    return {
        k: float("nan") if v is None and k in ("ours", "left", "right") else v for k, v in entry.items() if k != "holds"
    }


def _plain(value):
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def table_text(rows: list[Row]) -> str:
    """The table "ours / published / difference" as aligned text."""
    lines = [["", "ours", "published", "difference", "unit", ""]]
    for row in rows:
        published = "-" if row.published is None else f"{row.published:.2f}"
        difference = "-" if row.published is None else f"{row.ours - row.published:+.2f}"
        lines.append([row.what, f"{row.ours:.2f}", published, difference, row.unit, row.note])
    return text_table(lines, (1, 2, 3), terminal_width())


def text_table(lines: list[list[str]], right: tuple[int, ...] = (), width: int | None = None) -> str:
    """Rows of cells as aligned text, the first row a heading.

    With a ``width``, cells that are too long for it go on below; where even that leaves no room for the columns, a row
    becomes one line a cell.
    """
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    gaps = 2 * (len(widths) - 1)
    spare = [
        0 if i in right else w - max([12, *(len(word) for line in lines for word in line[i].split())])
        for i, w in enumerate(widths)
    ]
    while width and sum(widths) + gaps > width and max(spare) > 0:  # no word is broken
        widest = max((i for i, s in enumerate(spare) if s > 0), key=widths.__getitem__)
        widths[widest] -= 1
        spare[widest] -= 1
    if width and sum(widths) + gaps > width:
        rows = ([f"{name}: {cell}".removeprefix(": ") for name, cell in zip(lines[0], line, strict=True) if cell]
                for line in lines[1:])  # fmt: skip
        return "\n\n".join(
            "\n".join(textwrap.fill(cell, width, subsequent_indent="  ") for cell in row) for row in rows
        )
    out = []
    for line in lines:
        parts = [textwrap.wrap(c, w) if len(c) > w else [c] for c, w in zip(line, widths, strict=True)]
        for cells in itertools.zip_longest(*parts, fillvalue=""):
            both = enumerate(zip(cells, widths, strict=True))
            out.append("  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in both).rstrip())
        if line is lines[0]:
            out.append("  ".join("-" * w for w in widths))
    return "\n".join(out)


def terminal_width() -> int | None:
    """Columns that a table may take: those of the terminal, any number (None) in a file or pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def duration(minutes: float) -> str:
    """A time to plan by: seconds, minutes, hours or days."""
    for limit, unit, name in ((1, 1 / 60, "s"), (100, 1, "min"), (48 * 60, 60, "h")):
        if minutes < limit:
            return f"{minutes / unit:.0f} {name}"
    return f"{minutes / 1440:.0f} days"


def environment() -> dict[str, Any]:
    """What a number depends on besides code: commit, versions, CPU, kernels."""
    import numba

    from minivi import kernels

    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "cpu": _cpu(),
        "threads": kernels.get_threads(),
        "matmul": kernels.matmul_backend(),
        "instruction_set": kernels.instruction_set(),
    }


def _commit() -> str | None:
    def git(*args):
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *args], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None  # not a git checkout


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# ---------------------------------------------------------------------------------------------------- checks
@dataclass
class Claim:
    """``left relation right`` within ``tolerance``: "=" (absolute difference), "<=" or ">="."""

    left: float
    relation: str
    right: float
    tolerance: float
    label: str = ""

    @property
    def error(self) -> float:
        """How far the claim is from holding exactly."""
        gap = float(self.left) - float(self.right)
        return {"=": abs(gap), "<=": max(0.0, gap), ">=": max(0.0, -gap)}[self.relation]

    @property
    def ok(self) -> bool:
        """Whether it holds; never with a NaN."""
        return bool(np.isfinite(self.left) and np.isfinite(self.right) and self.error <= self.tolerance)

    def __str__(self) -> str:
        within = f" within {self.tolerance:.2g}" if self.tolerance else ""
        return f"{self.label}: {self.left:.4g} {self.relation} {self.right:.4g}{within}"


@dataclass
class Check:
    """A registered equation check."""

    chapter: str
    equation: str
    claim: str
    function: Callable
    slow: bool

    @property
    def place(self) -> str:
        """File and line of the code."""
        code = self.function.__code__
        return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


CHECKS: list[Check] = []


def check(equation: str, claim: str, slow: bool = False) -> Callable[[Callable], Callable]:
    """Decorator: register ``function() -> Claim or list of Claims`` for an equation.

    Args:
        equation: the document's number, e.g. "2.8" or "2.8-2.12".
        claim: what is compared, in one line.
        slow: only run with ``--all``.
    """

    def register(function):
        CHECKS.append(Check(_chapter_of(function), equation, claim, function, slow))
        return function

    return register


def matching_checks(key: str | None) -> list[Check]:
    """The checks of a chapter (``ch02`` or ``ch02_aevb``) or an equation number; all for None."""
    if key is None:
        return list(CHECKS)
    return [c for c in CHECKS if c.chapter == key or c.chapter.startswith(f"{key}_") or key in _numbers(c.equation)]


def _numbers(equation: str) -> set[str]:
    """The equation numbers in a label: "2.8-2.10, 2.12" gives 2.8, 2.9, 2.10, 2.12, and the label's own parts."""
    found = set()
    for part in equation.replace(" and ", ", ").split(","):
        part = part.strip()
        found.add(part)
        first, _, last = part.partition("-")
        head, _, tail = first.rpartition(".")
        if last.startswith(f"{head}.") and tail.isdigit() and last[len(head) + 1 :].isdigit():
            found |= {f"{head}.{i}" for i in range(int(tail), int(last[len(head) + 1 :]) + 1)}
    return found


def run_check(entry: Check) -> tuple[list[Claim], str]:
    """The claims of a check; an exception becomes a message instead."""
    try:
        claims = entry.function()
        return (claims if isinstance(claims, list) else [claims]), ""
    except Exception:
        return [], traceback.format_exc().strip().splitlines()[-1]


# ---------------------------------------------------------------------------------------------------- chapters
def chapter_files() -> list[Path]:
    """The chapters' scripts, from the first folder that has any.

    Looks in the folder that MINIVI_CHAPTERS names, else beside an editable install, else in ``chapters/`` here.

    Raises:
        ExperimentError: none found.
    """
    named = os.environ.get("MINIVI_CHAPTERS")
    folders = [Path(named)] if named else [Path(__file__).resolve().parents[1] / "chapters", Path("chapters")]
    for folder in folders:
        files = sorted(f for f in folder.glob("*.py") if not f.name.startswith("_"))
        if files:
            return files
    raise ExperimentError(
        f"no chapters in {' or '.join(map(str, folders))}; run from the repository, or set MINIVI_CHAPTERS to its "
        "chapters folder"
    )


def load_chapters() -> None:
    """Import every chapter once, which fills the registry."""
    for path in chapter_files():
        name = f"minivi_chapters.{path.stem}"
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise


def find(key: str) -> Iterator[Experiment]:
    """The experiments of a chapter (``ch02_aevb``), of several (``ch02``), or the one of ``chapter.name``.

    Raises:
        ExperimentError: none; names the nearest.
    """
    load_chapters()
    found = [e for e in EXPERIMENTS.values() if key in (e.key, e.chapter) or e.chapter.startswith(f"{key}_")]
    if not found:
        names = sorted({e.chapter for e in EXPERIMENTS.values()} | set(EXPERIMENTS))
        near = difflib.get_close_matches(key, names, 3, 0.4)
        raise ExperimentError(
            f"no experiment {key!r}; {'did you mean ' + ', '.join(near) if near else 'see minivi list'}"
        )
    return iter(found)


def _chapter_of(function) -> str:
    return Path(function.__code__.co_filename).stem
