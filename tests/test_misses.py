"""`docs/misses.md` tells of every result with a claim that does not hold, by the numbers of the committed JSON."""

import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from minivi.experiments import find, load_chapters, matching_checks

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "misses.md"
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and "<!--" in line]
NAMED = re.compile(r"<!-- ([\w ]+) -->")
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.]*\d)")


def missed():
    """Labels of the claims that do not hold, by result."""
    found = {}
    for path in sorted((ROOT / "figures").glob("*.json")):
        claims = json.loads(path.read_text()).get("claims", [])
        labels = [claim["label"] for claim in claims if claim["verdict"] == "does not hold"]
        if labels:
            found[path.stem] = labels
    return found


def names_of(row):
    """The results that a row names in its comment."""
    return " ".join(NAMED.findall(row)).split()


def values_of(names):
    """What a row may quote: sides and errors of claims that do not hold, and the table's own numbers."""
    values = []
    for name in names:
        result = json.loads((ROOT / "figures" / f"{name}.json").read_text())
        values += [row["ours"] for row in result["table"]]
        for claim in result["claims"]:
            if claim["verdict"] == "does not hold":
                values += [claim["left"], claim["right"], claim["standard_error"]]
    return [value for value in values if isinstance(value, int | float)]


def quoted(printed, values):
    """Whether one of ``values``, rounded as ``printed`` is, has its digits; the sign may be told by words."""
    one = Decimal(1).scaleb(-len(printed.partition(".")[2]))
    size = abs(Decimal(printed))
    return any(
        abs(abs(Decimal(repr(float(value)))) - size) <= one / 2 + Decimal("1e-9") for value in values if value == value
    )


def test_every_row_has_its_cells_and_its_results():
    assert len(ROWS) == sum(line.count("<!--") for line in PAGE.read_text().splitlines())
    for row in ROWS:
        cells = row.strip("|").split("|")
        assert len(cells) == 5, f"{PAGE}: not five cells in the row {row[:80]!r}"
        assert names_of(row), f"{PAGE}: no result is named at the end of the row {row[:80]!r}"


def test_results_with_a_miss_are_those_of_the_page():
    found, told = missed(), {name for row in ROWS for name in names_of(row)}
    absent = [f"{name}: {'; '.join(labels)}" for name, labels in found.items() if name not in told]
    assert not absent, (
        f"{PAGE}: add a row that ends in <!-- NAME -->, or the name to a row's comment, for these results with claims "
        "that do not hold:\n" + "\n".join(absent)
    )
    gone = sorted(told - set(found))
    assert not gone, (
        f"{PAGE}: in figures/*.json no claim of these results fails now: take their names out of the comments, and "
        "rows that name nothing else away:\n" + "\n".join(gone)
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_what_came_out_is_what_the_result_says(row):
    names = names_of(row)
    if any(not (ROOT / "figures" / f"{name}.json").exists() for name in names):
        pytest.fail(f"{PAGE}: figures/ has not all of {names}, named by the row {row[:80]!r}")
    values, told = values_of(names), row.strip("|").split("|")[2]
    wrong = [printed for printed in NUMBER.findall(told) if not quoted(printed, values)]
    assert not wrong, (
        f"{PAGE}: {', '.join(wrong)} in the third cell of this row is no side or error of a claim that does not hold, "
        f"and no number of the table, of {', '.join(f'figures/{name}.json' for name in names)}; write what is there "
        f"now, or take the number out:\n{told.strip()}"
    )


def test_numbers_are_compared_as_they_are_printed():
    assert quoted("0.65", [0.6532]) and quoted("-0.10", [-0.1043]) and not quoted("0.66", [0.6532])
    assert not quoted("0.653", [0.6541]) and not quoted("1.0", [0.94])


def test_commands_of_the_page_are_there():
    load_chapters()
    text = PAGE.read_text()
    for key in re.findall(r"`minivi run ([\w.]+)", text):
        assert [e.key for e in find(key)] == [key]
    for key in re.findall(r"`minivi check ([^`]+)`", text):
        assert matching_checks(key.strip('"')), f"{PAGE}: no check answers to {key}"
    listed = subprocess.run([sys.executable, ROOT / "tests" / "why.py"], capture_output=True, text=True).stderr
    runs = {line.split()[0] for line in listed.splitlines()}
    assert set(re.findall(r"`python tests/why.py ([a-z_]+)`", text)) == runs
