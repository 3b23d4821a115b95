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
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from minivi.experiments.equations import FOLDERS, chapter_of
from minivi.experiments.results import ExperimentError, Result, Table, measured

BUDGETS = ("quick", "laptop", "night", "paper")  # every experiment has all but "night"
PACKAGE = "minivi_chapters"  # the chapters' folder, as a package


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

    def result(self, about: dict[str, Any], pictures: bool = True) -> Result:
        """Table, claims and, unless told not to, figures of a stored result, from its numbers alone."""
        numbers, table, figures = measured(about), Table(), {}
        for function in self.tables:
            function(numbers, table)
        for name, function in self.figures.items() if pictures else ():
            drawn = function(numbers)
            figures |= drawn if isinstance(drawn, dict) else {name: drawn}
        return Result(table.rows, figures, claims=table.claims, checks=table.checks)


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
        budgets: settings for "quick", "laptop" and "paper"; for "night" too, if a headline gains by eight hours.
        minutes: CPU minutes that each takes alone, all threads and processes together: of ``laptop`` what the committed
            run took (``python tests/test_minutes.py`` writes it), of the others about.
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
def chapter_folder() -> Path:
    """The folder of chapters: what MINIVI_CHAPTERS names, else beside an editable install, else ``chapters/`` here.

    Raises:
        ExperimentError: there are none.
    """
    named = os.environ.get("MINIVI_CHAPTERS")
    folders = [Path(named)] if named else [Path(__file__).resolve().parents[2] / "chapters", Path("chapters")]
    for folder in folders:
        if any(chapter_files(folder)):
            return folder.absolute()
    raise ExperimentError(
        f"no chapters in {' or '.join(map(str, folders))}; run from the repository, or set MINIVI_CHAPTERS to its "
        "chapters folder"
    )


def chapter_files(folder: Path) -> list[Path]:
    """The files that register experiments and checks: in ``studies`` and ``checks``, or in a folder without these.

    A chapter is a file, or a folder of files; names that begin with "_" are not for themselves.
    """
    files = [file for name in FOLDERS for file in sorted(folder.glob(f"{name}/**/*.py"))]
    return [file for file in files or sorted(folder.glob("*.py")) if not file.name.startswith("_")]


def load_chapters() -> None:
    """Import every chapter once, as a module of the package ``minivi_chapters``, which fills the registry."""
    folder = chapter_folder()
    if not LOADED:
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
    if PACKAGE not in sys.modules:
        sys.modules[PACKAGE] = ModuleType(PACKAGE)
    sys.modules[PACKAGE].__path__ = [str(folder)]
    for path in chapter_files(folder):
        name = ".".join([PACKAGE, *path.relative_to(folder).with_suffix("").parts])
        if name not in LOADED:
            importlib.import_module(name)
            LOADED.add(name)


def find(key: str) -> Iterator[Experiment]:
    """The experiments of a chapter (``ch02_aevb``), of several (``ch02``), or the one of ``chapter.name``.

    Raises:
        ExperimentError: none; names the nearest.
    """
    load_chapters()
    entries = [e for e in EXPERIMENTS.values() if key in (e.key, e.chapter) or e.chapter.startswith(f"{key}_")]
    if not entries:
        names = sorted({e.chapter for e in EXPERIMENTS.values()} | set(EXPERIMENTS))
        near = difflib.get_close_matches(key, names, 3, 0.4)
        raise ExperimentError(
            f"no experiment {key!r}; {'did you mean ' + ', '.join(near) if near else 'see minivi list'}"
        )
    return iter(entries)
