"""Tracks of tasks: one file holds statements, solutions, graders and planted mistakes; blanks are made from it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minivi.exercises import child
from minivi.experiments.registry import chapter_folder

KINDS = {"code": "write it", "derive": "derive it", "predict": "predict it", "fault": "find the fault"}
CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)
SOLUTION = re.compile(r"^( *)# \[solution\]\n(.*?)(?:^ *# \[blank\]\n(.*?))?^ *# \[end\]\n", re.MULTILINE | re.DOTALL)


class ExerciseError(ValueError):
    """There is no such track, or its file is not as it must be; the message says the mend."""


@dataclass(frozen=True)
class Case:
    """Arguments, and what a right function returns of them.

    Args:
        args: of the function; numbers, strings, arrays, lists of them, :class:`minivi.exercises.Source`.
        expected: the result: numbers, strings, arrays, lists and dicts of them.
        rtol: allowed difference, in units of the largest number of each array expected.
        atol: allowed beside it.
        each: whether ``rtol`` is in units of each number itself.
        driver: how the function is called, by default ``"lambda f, *args: f(*args)"``; runs beside the submission.
    """

    args: tuple[Any, ...]
    expected: Any
    rtol: float = 1e-6
    atol: float = 0.0
    each: bool = False
    driver: str | None = None


@dataclass
class Task:
    """One task of a track, with its cell of the solutions' file."""

    name: str
    points: int
    kind: str
    equation: str
    mistakes: list[tuple[str | None, str, str]]
    cases: Callable[[np.random.Generator], Iterator[Case]]
    title: str = ""
    cell: str = ""
    names: dict[str, Any] = field(default_factory=dict, repr=False)  # of the track's module, at this task

    def code(self, mistake: tuple[str | None, str, str] | None = None) -> str:
        """The cell with the solution, or with a mistake planted.

        Raises:
            ExerciseError: the mistake's text does not stand once in the cell.
        """
        if mistake is None or mistake[0] is None:
            return self.cell if mistake is None else mistake[1]
        if (count := self.cell.count(mistake[0])) != 1:
            raise ExerciseError(f"{self.name}: {mistake[0]!r} stands {count} times in its cell; it must stand once")
        return self.cell.replace(mistake[0], mistake[1])

    def answers(self, code: str, cases: list[Case]) -> list[Any]:
        """What the code gives for each case, here; (kind, message) of what it raised."""
        names = dict(self.names)
        exec(compile(code, "submission", "exec"), names)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in the process of a submission
            return [self._answer(names[self.name], case) for case in cases]

    def _answer(self, function, case):
        try:
            return child.decode(child.encode(child.answer(function, case.args, case.driver)))
        except Exception as error:
            return child.told(error)


_declared: list[Task] = []


def task(
    name: str, points: int, kind: str, equation: str, *, mistakes: list[tuple[str | None, str, str]]
) -> Callable[[Callable], Callable]:
    """Declare a task: the decorated function yields its cases from a generator of random numbers.

    Args:
        name: of the function that the student writes, in the code cell before.
        points: for all cases right; there are none for some.
        kind: "code", "derive", "predict" or "fault".
        equation: what hints refer to, such as "thesis eq. 7.4".
        mistakes: (text of the cell, what a mistaken one has for it, hint); with None for the text, the whole cell.
    """
    if kind not in KINDS:
        raise ExerciseError(f"{name}: kind {kind!r}; use one of {', '.join(KINDS)}")

    def declare(cases):
        _declared.append(Task(name, points, kind, equation, list(mistakes), cases))
        return cases

    return declare


@dataclass
class Track:
    """A track: its tasks, and the file's cells as (kind, text)."""

    name: str
    path: Path
    cells: list[tuple[str, str]]
    tasks: list[Task]

    @property
    def points(self) -> int:
        """All points of the track."""
        return sum(t.points for t in self.tasks)

    @property
    def title(self) -> str:
        """The first line of its file."""
        return self.cells[0][1].strip().split("\n")[0].strip('"').removeprefix("Exercises: ").rstrip(".")

    def blank(self) -> str:
        """The file for students: headings numbered, solutions taken out."""
        return self._text(_blanked)

    def solution(self) -> str:
        """The same with solutions, as a student would have filled it in."""
        return self._text(lambda text: SOLUTION.sub(lambda m: m[2], text))

    def _text(self, change):
        headings = iter(enumerate(self.tasks, 1))
        parts = [self.cells[0][1]]
        # statements of tasks stand two cells before each teacher cell with a task
        tasks = {i - 2 for i, (kind, text) in enumerate(self.cells) if kind == "[teacher]" and "@task(" in text}
        for i, (kind, text) in enumerate(self.cells[1:], 1):
            if kind == "[teacher]":
                continue
            if i in tasks:
                number, t = next(headings)
                points = f"{t.points} point{'s' * (t.points > 1)}"
                heading = f"# ## {number}. {t.title}\n#\n# *{KINDS[t.kind].capitalize()}; {points}; {t.equation}.*"
                text = re.sub(r"^# ## .*$", lambda _, h=heading: h, text, count=1, flags=re.MULTILINE)
            parts.append(f"# %%{' ' * bool(kind)}{kind}\n{change(text) if not kind else text}")
        return "".join(parts).rstrip("\n") + "\n"


def _blanked(text):
    def replace(m):
        if m[3] is None:
            return f'{m[1]}raise NotImplementedError("to be written")\n'
        return re.sub(r"^( *)# ?", r"\1", m[3], flags=re.MULTILINE)

    return SOLUTION.sub(replace, text)


def folder() -> Path:
    """The folder of solutions."""
    return chapter_folder() / "exercises" / "solutions"


def names() -> list[str]:
    """The tracks that are here."""
    return sorted(path.stem for path in folder().glob("*.py"))


def find(name: str) -> Track:
    """The track of that name, with its tasks.

    Raises:
        ExerciseError: no such track, or a file that is no track.
    """
    path = folder() / f"{name}.py"
    if not path.is_file():
        raise ExerciseError(
            f"no exercises {name!r}; there are {', '.join(names()) or 'none: the solutions are needed'}"
        )
    return load(path)


def load(path: Path) -> Track:
    """The track in a file of solutions.

    Raises:
        ExerciseError: a task without its statement, code or function.
    """
    text = path.read_text(encoding="utf-8")
    marks = list(CELL.finditer(text))
    cells = [("", text[: marks[0].start()] if marks else text)]
    module, tasks = {"__name__": f"minivi_exercises.{path.stem}"}, []
    for i, mark in enumerate(marks):
        end = marks[i + 1].start() if i + 1 < len(marks) else len(text)
        kind, body = mark[1].strip(), text[mark.end() + 1 : end]
        cells.append((kind, body))
        if kind == "[markdown]":
            continue
        _declared.clear()
        line = text.count("\n", 0, mark.end() + 1)
        exec(compile("\n" * line + body, str(path), "exec"), module)
        for t in _declared:
            if kind != "[teacher]" or len(cells) < 3 or [k for k, _ in cells[-3:-1]] != ["[markdown]", ""]:
                raise ExerciseError(f"{path.name}: task {t.name} needs a Markdown cell and a code cell before its own")
            heading = re.search(r"^# ## (.*)$", cells[-3][1], re.MULTILINE)
            if not heading or t.name not in module:
                raise ExerciseError(f"{path.name}: task {t.name} lacks a heading '# ## ...' or a function of that name")
            t.title, t.names = heading[1], module
            t.cell = SOLUTION.sub(lambda m: m[2], cells[-2][1])
            tasks.append(t)
    return Track(path.stem, path, cells, tasks)


def as_notebook(text: str) -> str:
    """A blank as a Jupyter notebook, cell by cell.

    Raises:
        ExerciseError: there is no jupytext.
    """
    try:
        import jupytext
    except ModuleNotFoundError:
        raise ExerciseError("notebooks need jupytext: pip install -e '.[notebook]'") from None
    return jupytext.writes(jupytext.reads(text, fmt="py:percent"), fmt="ipynb")
