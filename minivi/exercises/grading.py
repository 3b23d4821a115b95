"""Grading: cases are asked of a submission, and its answers are held against what is expected, in this process."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minivi import tables
from minivi.exercises import child, process, tracks
from minivi.exercises.tracks import Case, Task, Track


@dataclass(frozen=True)
class Row:
    """What came of one task: points, of how many, what was expected and found, and a hint."""

    task: str
    points: int
    most: int
    found: str = ""
    hint: str = ""

    @property
    def ok(self) -> bool:
        """Whether it has all points."""
        return self.points == self.most


@dataclass
class Grade:
    """The rows of one submission; ``trouble`` says what kept the whole file from being run."""

    track: str
    submission: str
    rows: list[Row] = field(default_factory=list)
    trouble: str = ""
    seconds: float = 0.0

    @property
    def points(self) -> int:
        """The sum over the tasks."""
        return sum(row.points for row in self.rows)

    @property
    def most(self) -> int:
        """All points that could be had."""
        return sum(row.most for row in self.rows)

    def text(self, width: int | None = None) -> str:
        """A table: task, points, what was expected and found, hint."""
        lines = [["task", "points", "expected and found", "hint"]]
        lines += [[r.task, f"{r.points}/{r.most}", r.found or "as expected", r.hint] for r in self.rows]
        head = f"{self.submission}: {self.trouble}\n" if self.trouble else ""
        return (
            f"{head}{tables.text_table(lines, (1,), width)}\n\n{self.submission}: {self.points} of {self.most} points"
        )

    def json(self, form: str) -> str:
        """The results format of "gradescope" (results.json) or of "github" (Classroom's autograding reporter)."""
        output = lambda r: "\n".join(filter(None, [r.found, r.hint])) or "as expected"
        if form == "gradescope":
            tests = [
                {"name": r.task, "score": r.points, "max_score": r.most, "status": "passed" if r.ok else "failed",
                 "output": output(r), "visibility": "visible"} for r in self.rows
            ]  # fmt: skip
            result = {"score": self.points, "execution_time": round(self.seconds, 3), "tests": tests}
            return json.dumps(
                result | {"output": self.trouble or f"{self.track}: {self.points} of {self.most}"}, indent=1
            )
        tests = [
            {"name": r.task, "status": "pass" if r.ok else "fail", "score": r.points, "message": output(r),
             "test_code": f"minivi grade {self.track}", "filename": self.submission, "line_no": 0, "duration": 0}
            for r in self.rows
        ]  # fmt: skip
        status = "error" if self.trouble else "pass" if self.points == self.most else "fail"
        return json.dumps({"version": 1, "status": status, "max_score": self.most, "tests": tests}, indent=1)


def table_of_class(grades: list[Grade]) -> str:
    """A CSV with a line a submission: points, each task's points, and what kept a file from being run."""
    out = io.StringIO()
    rows = grades[0].rows if grades else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["submission", "points", "of", *(r.task for r in rows), "trouble"])
    for g in grades:
        writer.writerow(
            [_no_formula(g.submission), g.points, g.most, *(r.points for r in g.rows), _no_formula(g.trouble)]
        )
    return out.getvalue()


def _no_formula(text):
    """A cell that a spreadsheet takes for text, whatever a student has named his file."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


class Grader:
    """The cases of a track for one seed, and what its mistakes make of them.

    Args:
        track: the tasks.
        seed: of the inputs; what is asked of a submission is known to who knows the seed.
    """

    def __init__(self, track: Track, seed: int = 0):
        self.track = track
        self.cases = {t.name: list(t.cases(np.random.default_rng([seed, i]))) for i, t in enumerate(track.tasks)}
        self._mistaken: dict[tuple[str, int], list[Any]] = {}

    def mistaken(self, name: str, k: int) -> list[Any]:
        """What the k-th mistake of a task answers to its cases."""
        if (name, k) not in self._mistaken:
            t = next(t for t in self.track.tasks if t.name == name)
            self._mistaken[name, k] = t.answers(t.code(t.mistakes[k]), self.cases[name])
        return self._mistaken[name, k]

    def judge(self, t: Task, answers: list[Any]) -> Row:
        """The row of a task, from what each case gave: a result, or (kind, message) of an error."""
        cases = self.cases[t.name]
        wrong = [(i, told) for i, (a, c) in enumerate(zip(answers, cases, strict=False)) if (told := difference(a, c))]
        if not wrong and len(answers) == len(cases):
            return Row(t.name, t.points, t.points)
        place, told = wrong[0]
        if isinstance(answers[place], tuple) and answers[place][0] in ("blank", "ended"):
            return Row(t.name, 0, t.points, told)
        hint = ""
        for k, mistake in enumerate(t.mistakes):
            same = zip(answers, self.mistaken(t.name, k), cases, strict=False)
            if len(answers) == len(cases) and all(_same(a, m, c) for a, m, c in same):
                hint = mistake[2]
                break
        else:
            if isinstance(answers[place], tuple):  # its own message is the hint
                return Row(t.name, 0, t.points, told)
            hint = _guess(answers, cases) or f"{len(cases) - len(wrong)} of {len(cases)} cases are right"
        return Row(t.name, 0, t.points, told, f"{hint} ({t.equation})")

    def grade(self, source: str, name: str, limits: process.Limits | None = None) -> Grade:
        """Grade a submission in a process of its own."""
        begun, every = time.monotonic(), []
        with process.Submission(source, limits, (tracks.folder(), self.track.path.parent)) as submission:
            for t in self.track.tasks:
                answers = []
                every.append(answers)
                for case in self.cases[t.name]:
                    try:
                        answers.append(submission.call(t.name, case.args, case.driver))
                    except process.SubmissionError as error:
                        answers.append((error.kind, str(error)))
                        if error.kind in ("blank", "ended") or submission.broken:
                            break
                if submission.broken:
                    return self.broken(name, submission.broken)
        rows = list(map(self.judge, self.track.tasks, every))  # afterwards: this is not the submission's time
        return Grade(self.track.name, name, rows, seconds=time.monotonic() - begun)

    def broken(self, name: str, trouble: str) -> Grade:
        """The grade of a file that could not be run: no points, and why."""
        rows = [Row(t.name, 0, t.points, "the file cannot be run") for t in self.track.tasks]
        return Grade(self.track.name, name, rows, trouble)


def grade(name: str, path: str | Path, seed: int = 0, limits: process.Limits | None = None) -> Grade:
    """Grade a file or notebook against a track; never raises for what is in the file.

    Raises:
        ExerciseError: no such track.
    """
    return grade_file(Grader(tracks.find(name), seed), path, limits)


def grade_file(grader: Grader, path: str | Path, limits: process.Limits | None = None) -> Grade:
    """The same with a grader that is there already."""
    try:
        return grader.grade(process.read(path), Path(path).name, limits)
    except process.SubmissionError as error:
        return grader.broken(Path(path).name, str(error))


def difference(found: Any, case: Case) -> str:
    """What was expected and found, where they differ; "" where they do not."""
    return found[1] if isinstance(found, tuple) else _difference(found, child.plain(case.expected), case, "")


def _difference(found, expected, case, place):
    where = f"{place}: " if place else ""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            return f"{where}expected a dict of {', '.join(expected)}, found {_brief(found)}"
        parts = ((found[k], expected[k], k) for k in expected)
        return next(filter(None, (_difference(f, e, case, f"{place} {k}".strip()) for f, e, k in parts)), "")
    if isinstance(expected, list):
        if isinstance(found, np.ndarray) and found.ndim and len(found) == len(expected):
            found = list(found)  # a stack of arrays for a list of them
        if not isinstance(found, list) or len(found) != len(expected):
            return f"{where}expected {len(expected)} results, found {_brief(found)}"
        parts = enumerate(zip(found, expected, strict=True), 1)
        return next(filter(None, (_difference(f, e, case, f"{place} result {i}".strip()) for i, (f, e) in parts)), "")
    if isinstance(expected, (str, bool)) or expected is None:
        # A comparison of NumPy's numbers is a bool too.
        if isinstance(found, np.ndarray) and found.dtype == bool and found.ndim == 0:
            found = bool(found)
        return "" if type(found) is type(expected) and found == expected else (
            f"{where}expected {expected!r}, found {_brief(found)}"
        )  # fmt: skip
    numbers = _as_array(found)
    if numbers is None:
        return f"{where}expected numbers, found {_brief(found)}"
    found = numbers
    expected = np.asarray(expected, float)
    if found.shape != expected.shape:
        return f"{where}expected shape {expected.shape}, found {found.shape}"
    scale = np.abs(expected) if case.each else np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
    with np.errstate(invalid="ignore"):
        off = np.abs(found - expected)
    near = (off <= case.rtol * scale + case.atol) | (found == expected) | (np.isnan(found) & np.isnan(expected))
    if near.all():
        return ""
    at = tuple(int(i) for i in np.unravel_index(np.argmin(near), near.shape))
    here = f"at {list(at)} " if at else ""
    return f"{where}{here}expected {expected[at]:.7g}, found {found[at]:.7g}"


def _as_array(value):
    """Numbers, or lists of them, as an array; None of anything else, such as a text of digits."""
    if isinstance(value, list):
        parts = [_as_array(v) for v in value]
        return np.array(parts) if all(p is not None and p.shape == parts[0].shape for p in parts) else None
    return None if isinstance(value, (str, dict)) or value is None else np.asarray(value, float)


def _same(answer, mistaken, case):
    """Whether a submission answers as a mistake does; two errors count as one."""
    if isinstance(answer, tuple) or isinstance(mistaken, tuple):
        return isinstance(answer, tuple) and isinstance(mistaken, tuple)
    return not _difference(answer, mistaken, case, "")


def _brief(value):
    """A few words on a result of a wrong kind."""
    if isinstance(value, np.ndarray):
        return f"{value:.7g}" if value.ndim == 0 and value.dtype.kind == "f" else f"an array of shape {value.shape}"
    if isinstance(value, list):
        return f"{len(value)} results"
    return "nothing (no `return`?)" if value is None else repr(value)[:60]


def _guess(answers, cases):
    """A hint for what no planted mistake has done, if all cases agree on it."""
    pairs = [(_numbers(a), _numbers(child.plain(c.expected))) for a, c in zip(answers, cases, strict=False)]
    if any(a is None for a in answers):
        return "the function returns nothing"
    if any(f is None or e is None or f.shape != e.shape for f, e in pairs):
        return ""
    if any(not np.isfinite(f).all() and np.isfinite(e).all() for f, e in pairs):
        return "a result is not finite: is the form stable for large numbers, and is anything divided by 0?"
    found, expected = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    square = expected @ expected
    factor = found @ expected / square if square else 0.0
    if factor and np.allclose(found, factor * expected, rtol=1e-6, atol=1e-9 * np.abs(found).max()):
        return "the sign is turned" if abs(factor + 1) < 1e-6 else "a constant factor is off"
    return ""


def _numbers(value):
    """All numbers of a result in a row; None if it holds anything else."""
    if isinstance(value, dict):
        value = list(value.values())
    parts = [_numbers(v) for v in value] if isinstance(value, list) else None
    if parts is not None:
        return None if any(p is None for p in parts) else np.concatenate([*parts, np.zeros(0)])
    return None if isinstance(value, (str, bool, tuple)) or value is None else np.ravel(np.asarray(value, float))
