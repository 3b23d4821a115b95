"""What experiments find: numbers, tables beside published values, claims with verdicts; and how JSON keeps them."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from minivi.tables import terminal_width, text_table

LARGE = 2000  # elements of an array from which on JSON keeps bytes, compressed, as it always does of images


class ExperimentError(RuntimeError):
    """An experiment, or a result of one, cannot be found or used; the message says the mend."""


VERDICTS = ("holds", "does not hold", "undecided")


@dataclass
class Claim:
    """``left relation right`` within ``tolerance``: "=" (absolute difference), "<=" or ">=".

    Attributes:
        label: what is compared, in our words.
        source: the place in the document ("thesis 2.9.1").
        sentence: the document's own words.
        seeds: over how many seeds the numbers are means; None where chance has no part, or one number decides.
        standard_error: of left - right, over seeds or data; 0.0 where chance has no part.
        short: why this run is too short to settle the claim ("2 epochs for 3,280"); empty if it is not.
    """

    left: float
    relation: str
    right: float
    tolerance: float
    label: str = ""
    source: str = ""
    sentence: str = ""
    seeds: int | None = None
    standard_error: float = 0.0
    short: str = ""

    @property
    def error(self) -> float:
        """How far the claim is from holding exactly."""
        gap = float(self.left) - float(self.right)
        return {"=": abs(gap), "<=": max(0.0, gap), ">=": max(0.0, -gap)}[self.relation]

    @property
    def ok(self) -> bool:
        """Whether the numbers agree with it; never with a NaN."""
        return bool(np.isfinite(self.left) and np.isfinite(self.right) and self.error <= self.tolerance)

    @property
    def doubt(self) -> str:
        """Why the numbers do not settle it: nearer to the other verdict than two standard errors, or a short run."""
        gap = float(self.left) - float(self.right)
        margin = self.tolerance - {"=": abs(gap), "<=": gap, ">=": -gap}[self.relation]
        doubts = [f"{abs(margin):.2g} is below two standard errors"] if abs(margin) < 2 * self.standard_error else []
        return "; ".join(doubts + [self.short] if self.short else doubts)

    @property
    def verdict(self) -> str:
        """One of ``VERDICTS``."""
        if not (np.isfinite(self.left) and np.isfinite(self.right)):
            return "does not hold"
        return "undecided" if self.doubt else "holds" if self.ok else "does not hold"

    def __str__(self) -> str:
        within = f" within {self.tolerance:.2g}" if self.tolerance else ""
        error = f" (standard error {self.standard_error:.2g})" if self.standard_error else ""
        doubt = f" ({self.doubt})" if self.verdict == "undecided" else ""
        return f"{self.label}: {self.left:.4g} {self.relation} {self.right:.4g}{within}{error}{doubt}"


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

    A claim that does not hold is no error: it is reported with its numbers. ``checks`` are what mathematics or the code
    guarantees of the numbers (a bound below its limit, a probability below one); one that fails is a fault of ours.
    """

    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    checks: list[Claim] = field(default_factory=list)


class Table:
    """A table in the making: rows, the document's claims about their numbers, and checks of them."""

    def __init__(self):
        self.rows: list[Row] = []
        self.claims: list[Claim] = []
        self.checks: list[Claim] = []

    def row(
        self, what: str, ours: float | None, published: float | None = None, unit: str = "nats", note: str = ""
    ) -> None:
        """Add a line; see :class:`Row`. ``ours`` is None where the measured number was NaN."""
        self.rows.append(Row(what, float("nan") if ours is None else ours, published, unit, note))

    def claim(
        self, left: float | None, relation: str, right: float | None, tolerance: float, label: str, **about: Any
    ) -> None:
        """Add a claim of the document's; see :class:`Claim` for ``about``: source, sentence, seeds and so on."""
        self.claims.append(Claim(*_sides(left, relation, right), tolerance, label, **about))

    def says(self, source: str, sentence: str, **about: Any) -> Callable:
        """What :meth:`claim` is, with the document's sentence given: ``says = table.says("thesis 2.9.1", "...")``."""
        return functools.partial(self.claim, source=source, sentence=sentence, **about)

    def check(self, left: float | None, relation: str, right: float | None, tolerance: float, label: str) -> None:
        """Add what must be so, whatever a run gives, by mathematics or by the code; see :class:`Result`."""
        self.checks.append(Claim(*_sides(left, relation, right), tolerance, label))


def _sides(left, relation, right):
    return (float("nan") if left is None else left), relation, (float("nan") if right is None else right)


def mean_and_error(values: Any) -> tuple[float, float]:
    """The mean of independent values, and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def gain_over_seeds(ours: Any, theirs: Any) -> tuple[float, float]:
    """The mean of paired differences ours - theirs, and its standard error: over data or over seeds, the larger.

    Args:
        ours, theirs: (seeds, N), values of the same data.
    """
    means, errors = zip(*(mean_and_error(a - b) for a, b in zip(ours, theirs, strict=True)), strict=True)
    over_seeds = mean_and_error(means)[1] if len(means) > 1 else 0.0
    return float(np.mean(means)), float(max(over_seeds, np.mean(errors)))


# ------------------------------------------------------------------------------------------------ numbers in JSON
def to_json(about: Any) -> str:
    """Numbers as JSON text: NaN as null, large arrays as their compressed bytes; :func:`revived` undoes it."""
    return json.dumps(json.loads(json.dumps(about, default=_plain), parse_constant=lambda name: None), indent=1) + "\n"


def _plain(value):
    if isinstance(value, np.ndarray) and (value.size > LARGE or value.dtype == np.uint8):
        packed = base64.b64encode(zlib.compress(np.ascontiguousarray(value).tobytes(), 9)).decode()
        return {"dtype": value.dtype.str, "shape": value.shape, "zlib": packed}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)


def revived(value: Any) -> Any:
    """What :func:`to_json` has made text of, after ``json.loads``: lists of numbers become arrays, null in them NaN."""
    if isinstance(value, dict):
        if value.keys() == {"dtype", "shape", "zlib"}:
            content = zlib.decompress(base64.b64decode(value["zlib"]))
            return np.frombuffer(content, value["dtype"]).reshape(value["shape"])
        return {key: revived(item) for key, item in value.items()}
    if isinstance(value, list) and value:
        kinds = {type(item) for item in value}
        if kinds <= {int, float, type(None)}:
            return np.array(value, float if kinds - {int} else int)
        items = [revived(item) for item in value]
        same = all(isinstance(item, np.ndarray) and item.shape == items[0].shape for item in items)
        return np.array(items) if same else items
    return value


ABOUT = (
    "experiment", "mirrors", "budget", "settings", "seed", "seconds", "cpu_seconds", "commit", "python", "numpy",
    "numba", "cpu", "threads", "matmul", "instruction_set", "table", "claims", "checks",
    "weights", "changes", "own_data", "shared_cpu_seconds",
)  # fmt: skip


def measured(about: dict[str, Any]) -> SimpleNamespace:
    """The numbers of a stored result, as attributes, with its ``settings``, ``seed`` and ``budget``."""
    numbers = {key: revived(value) for key, value in about.items() if key not in ABOUT}
    return SimpleNamespace(
        **numbers, settings=SimpleNamespace(**about["settings"]), seed=about["seed"], budget=about["budget"]
    )


def stored(path: Path) -> dict[str, Any] | None:
    """What a run has left in a JSON file; None if that is missing, damaged or something else."""
    try:
        about = json.loads(path.read_text())
        return about if isinstance(about, dict) and "experiment" in about else None
    except (OSError, ValueError, RecursionError):
        return None


# ------------------------------------------------------------------------------------------------ as text
def rows_text(rows: list[Row]) -> str:
    """The table "ours / published / difference" as aligned text."""
    lines = [["", "ours", "published", "difference", "unit", ""]]
    for row in rows:
        published = "-" if row.published is None else f"{row.published:.2f}"
        difference = "-" if row.published is None else f"{row.ours - row.published:+.2f}"
        lines.append([row.what, f"{row.ours:.2f}", published, difference, row.unit, row.note])
    return text_table(lines, (1, 2, 3), terminal_width())


def report_claims(
    claims: list[Claim], report: Callable[[str], None], data: str | None = None, checks: list[Claim] | None = None
) -> None:
    """Say each claim's verdict, the document's sentence once above its claims; of toy ``data``, that they are such."""
    if claims and data == "digits":
        report("claims about scikit-learn's digits of 8 x 8 pixels, a toy, not about the document's data:")
    said = None
    for claim in claims:
        if claim.sentence and claim.sentence != said:
            report(f'{claim.source}: "{claim.sentence}"')
        said = claim.sentence
        report(f"{claim.verdict.upper() if claim.verdict != 'holds' else 'holds'}: {claim}")
    for claim in checks or []:
        report(f"{'check' if claim.ok else 'CHECK FAILED'}: {claim}")


def claims_of(about: dict[str, Any], key: str = "claims") -> list[Claim]:
    """The claims of a stored result, or its checks."""
    return [Claim(**_numbers_back(claim)) for claim in about.get(key, [])]


def as_text(about: dict[str, Any]) -> str:
    """The heading, table and claims of a stored result."""
    changes = [f"{name} = {value}" for name, value in about.get("changes", {}).items()]
    budget = ", ".join(filter(None, [about["budget"], about["settings"].get("data"), *changes]))
    lines = [
        f"{about['experiment']}: {about['mirrors']} (budget {budget}, seed {about['seed']}, "
        f"commit {about['commit']}, {about['seconds']:.0f} s)"
    ]
    rows = [Row(**_numbers_back(row)) for row in about["table"]]
    lines += [rows_text(rows)] if rows else []
    report_claims(claims_of(about), lines.append, about["settings"].get("data"), claims_of(about, "checks"))
    return "\n".join(lines)


def report_stored(folder: str | os.PathLike, report: Callable[[str], None] = print) -> list[str]:
    """Print the tables and claims that runs have left in ``folder`` (:func:`run_experiments` with ``out=folder``).

    Returns:
        A line for each file that cannot be read.

    Raises:
        ExperimentError: there are none.
    """
    count, failures = 0, []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            about = json.loads(path.read_text())
            if not isinstance(about, dict) or "experiment" not in about:
                continue  # such as a benchmark's
            count += 1
            text = as_text(about)
        except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            failures.append(f"{path} cannot be read ({error}); remove it, and run its experiment again")
        except (KeyError, TypeError, ValueError, AttributeError):
            failures.append(f"{path} was not written by this version; run {about['experiment']} again")
        else:
            report(f"\n{text}")
    if not count and not failures:
        raise ExperimentError(f"no results in {folder}; minivi run EXPERIMENT --out {folder} puts some there")
    return failures


def _numbers_back(entry):
    """The fields of a stored Row or Claim; JSON has null for NaN, and says a claim's verdict."""
    told = {k: v for k, v in entry.items() if k not in ("holds", "verdict")}
    return {k: float("nan") if v is None and k in ("ours", "left", "right") else v for k, v in told.items()}
