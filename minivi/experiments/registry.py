"""The registry that studies and checks enter as their files are loaded.

@experiment("manifold", mirrors="thesis Figure 2.7(b)", title=..., budgets={"quick": {...}, ...}, minutes={...})
def manifold(run): ...; return {"codes": codes, ...}          measures: numbers alone

@manifold.table
def _(n, table): table.row("spread of the codes", n.codes.std(), unit="")

@manifold.figure()
def _(n): ...; return fig                                     from the same numbers, without training
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minivi.experiments.equations import chapter_of
from minivi.experiments.results import ExperimentError, Result, Table, measured

BUDGETS = ("quick", "laptop", "paper")
FOLDERS = ("studies", "checks")


@dataclass
class Experiment:
    """A registered experiment; ``key`` is ``chapter.name``. Experiments of one function share its table and figures."""

    chapter: str
    name: str
    title: str
    mirrors: str
    budgets: dict[str, dict[str, Any]]
    minutes: dict[str, float]
    function: Callable
    tables: list[Callable] = field(default_factory=list)
    figures: dict[str, Callable] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What the command line calls it."""
        return f"{self.chapter}.{self.name}"

    def __call__(self, run: Any) -> Any:
        """What the function measures."""
        return self.function(run)

    def table(self, function: Callable) -> Callable:
        """Decorator: ``function(n, table)`` makes the table and claims of the measured numbers ``n``.

        ``n`` has what the experiment's function returned as attributes, after a passage through JSON, and the run's
        ``settings``, ``seed`` and ``budget``.
        """
        self.tables.append(function)
        return function

    def figure(self, name: str = "") -> Callable[[Callable], Callable]:
        """Decorator: ``function(n)`` draws the measured numbers: a figure, or a dict of figures by name."""

        def register(function):
            self.figures[name] = function
            return function

        return register

    def result(self, about: dict[str, Any]) -> Result:
        """Table, claims and figures of a stored result, from its numbers alone.

        Raises:
            ExperimentError: this file has not all of the numbers.
        """
        numbers, table, figures = measured(about), Table(), {}
        try:
            for function in self.tables:
                function(numbers, table)
            for name, function in self.figures.items():
                drawn = function(numbers)
                figures |= drawn if isinstance(drawn, dict) else {name: drawn}
        except (AttributeError, KeyError) as error:
            if vars(numbers).keys() - {"settings", "seed", "budget"}:
                raise
            raise ExperimentError(
                f"{self.key}: this result has no numbers to draw; run the experiment again"
            ) from error
        return Result(table.rows, figures, claims=table.claims)


EXPERIMENTS: dict[str, Experiment] = {}
LOADED: set[str] = set()  # the chapters' modules that have entered theirs


def experiment(
    name: str,
    *,
    title: str,
    mirrors: str,
    budgets: dict[str, dict[str, Any]],
    minutes: dict[str, float],
) -> Callable[[Callable | Experiment], Experiment]:
    """Decorator: register ``function(run)``, which measures and returns a dict of numbers, arrays, lists and dicts.

    Numbers keep all their digits, images may be :func:`minivi.plots.grey_levels`. The experiment that the decorator
    returns has decorators for its table and figures; it can be registered again under another name, with other budgets.
    A function may also return a whole :class:`Result`.

    Args:
        name: within the chapter.
        title: one line.
        mirrors: the document's figure, table or section.
        budgets: settings for "quick", "laptop" and "paper".
        minutes: about how long each takes on two cores.
    """

    def register(function):
        shared = (
            (function.function, function.tables, function.figures) if isinstance(function, Experiment) else (function,)
        )
        entry = Experiment(chapter_of(shared[0]), name, title, mirrors, budgets, minutes, *shared)
        EXPERIMENTS[entry.key] = entry
        return entry

    return register


# ---------------------------------------------------------------------------------------------------- chapters
def chapter_files() -> list[Path]:
    """The files that register experiments and checks, from the first folder that has any.

    They lie in its subfolders ``studies`` and ``checks``, or in itself if it has neither. Looks in the folder that
    MINIVI_CHAPTERS names, else beside an editable install, else in ``chapters/`` here.

    Raises:
        ExperimentError: none found.
    """
    named = os.environ.get("MINIVI_CHAPTERS")
    folders = [Path(named)] if named else [Path(__file__).resolve().parents[1] / "chapters", Path("chapters")]
    for folder in folders:
        files = [*sorted(folder.glob("studies/*.py")), *sorted(folder.glob("checks/*.py"))]
        files = [f for f in files or sorted(folder.glob("*.py")) if not f.name.startswith("_")]
        if files:
            return files
    raise ExperimentError(
        f"no chapters in {' or '.join(map(str, folders))}; run from the repository, or set MINIVI_CHAPTERS to its "
        "chapters folder"
    )


def load_chapters() -> None:
    """Import every chapter once, which fills the registry."""
    for path in chapter_files():
        name = ".".join(["minivi_chapters", *[path.parent.name] * (path.parent.name in FOLDERS), path.stem])
        if name in LOADED:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        LOADED.add(name)


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
