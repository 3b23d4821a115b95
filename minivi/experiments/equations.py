"""Equation checks: a claim of a document against something computed another way.

@check("2.8", "log p(x) = ELBO + KL(q(z|x) || p(z|x))")
def decomposition(): return Claim(left, "=", right, tolerance)
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minivi.experiments.results import Claim

FOLDERS = ("studies", "checks")  # of the chapters' folder
ROOT = Path(__file__).resolve().parents[1]


def chapter_of(function: Callable) -> str:
    """The chapter in whose file, or folder of files, a function stands."""
    path = Path(function.__code__.co_filename)
    return path.parent.name if path.parent.parent.name in FOLDERS else path.stem


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
        """Folder, file and line of the code."""
        code = self.function.__code__
        return f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_firstlineno}"


CHECKS: list[Check] = []


def check(equation: str, claim: str, slow: bool = False) -> Callable[[Callable], Callable]:
    """Decorator: register ``function() -> Claim or list of Claims`` for an equation.

    Args:
        equation: the document's number, e.g. "2.8" or "2.8-2.12".
        claim: what is compared, in one line.
        slow: only run with ``--all``.
    """

    def register(function):
        CHECKS.append(Check(chapter_of(function), equation, claim, function, slow))
        return function

    return register


def matching_checks(key: str | None) -> list[Check]:
    """The checks of a chapter (``ch02`` or ``ch02_aevb``) or an equation number; all for None."""
    if key is None:
        return list(CHECKS)
    return [c for c in CHECKS if c.chapter == key or c.chapter.startswith(f"{key}_") or key in numbers_of(c.equation)]


def numbers_of(equation: str) -> set[str]:
    """The equation numbers in a label: "2.8-2.10, 2.12" gives 2.8, 2.9, 2.10, 2.12, and the label's own parts."""
    numbers = set()
    for part in equation.replace(" and ", ", ").split(","):
        part = part.strip()
        numbers.add(part)
        first, _, last = part.partition("-")
        head, _, tail = first.rpartition(".")
        if last.startswith(f"{head}.") and tail.isdigit() and last[len(head) + 1 :].isdigit():
            numbers |= {f"{head}.{i}" for i in range(int(tail), int(last[len(head) + 1 :]) + 1)}
    return numbers


@dataclass
class Line:
    """A line of the library that implements equations: its file and number, its text, the equations' numbers."""

    place: str
    text: str
    equations: set[str]


def implementing_lines() -> list[Line]:
    """The library's lines with a comment such as ``# eq. 2.10, 2.29``, behind them or alone on the line above.

    Numbers are the thesis's, or those of ``# review report eq. 4``; a semicolon parts documents.
    """
    lines = []
    for path in sorted(ROOT.rglob("*.py")):
        rows = path.read_text().splitlines()
        for i, row in enumerate(rows):
            code, _, comment = row.partition("# ")
            parts = [
                re.fullmatch(r"(?:(.* report) )?eq\. (\d[\d., -]*)(?:, Algorithm \d)?", part)
                for part in comment.split("; ")
            ]
            if all(parts):
                labels = {f"{m[1]} {n}" if m[1] else n for m in parts for n in numbers_of(m[2])}
                j = i if code.strip() else i + 1
                lines.append(
                    Line(f"{path.relative_to(ROOT.parent)}:{j + 1}", rows[j].partition("  # ")[0].strip(), labels)
                )
    return lines


def run_check(entry: Check) -> tuple[list[Claim], str]:
    """The claims of a check; an exception becomes a message instead."""
    try:
        claims = entry.function()
        return (claims if isinstance(claims, list) else [claims]), ""
    except Exception:
        return [], traceback.format_exc().strip().splitlines()[-1]
