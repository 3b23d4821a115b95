"""The minutes that experiments declare are those that the committed runs took, and these say on what machine.

One rule: CPU minutes of the experiment alone, all threads and processes together. An experiment that took models from
an earlier one of its chapter counts what these had cost.

python tests/test_minutes.py         writes the committed runs' minutes into the studies
"""

import ast
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ROOT / "chapters" / "studies"
LEAST = 0.05  # minutes: below, starting Python and compiling kernels decide
# Runs of before JSON said `shared_cpu_seconds`, and whose models they take: at most these experiments' minutes more.
SHARING = {
    "ch03_semi_supervised.all_labels": ["ch03_semi_supervised.analogies"],
    "report_tighter_bounds.ssim": ["report_tighter_bounds.mnist", "report_tighter_bounds.omniglot"],
}
# Runs of before JSON said the instruction set. They are of one machine, an AMD EPYC, but for one.
WITHOUT_INSTRUCTION_SET = 4


def results():
    """{(experiment, budget): its JSON} of all that is committed."""
    found = {}
    for path in sorted((ROOT / "figures").rglob("*.json")):
        about = json.loads(path.read_text())
        if isinstance(about, dict) and "experiment" in about:
            found[about["experiment"], about["budget"]] = about
    return found


def minutes_of(about):
    """What a run took, with the models that it took over as far as it says."""
    seconds = about.get("cpu_seconds", about["seconds"])  # the oldest runs, on one thread, say these alone
    return (seconds + about.get("shared_cpu_seconds", 0.0)) / 60


def declared():
    """{(experiment, budget): (the number, the file, its place there)} of all `minutes=` that studies write."""
    found = {}
    for path in sorted(STUDIES.rglob("*.py")):
        chapter = path.stem if path.parent == STUDIES else path.parent.name
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "experiment"
            if called and isinstance(node.args[0], ast.Constant):  # others, in a loop, have no results here
                (minutes,) = (word.value for word in node.keywords if word.arg == "minutes")
                for budget, value in zip(minutes.keys, minutes.values, strict=True):
                    number = eval(compile(ast.Expression(value), "", "eval"))
                    found[f"{chapter}.{node.args[0].value}", budget.value] = number, path, value
    return found


RESULTS, DECLARED = results(), declared()


def bounds(key, budget):
    """The least and the most minutes that an experiment may declare, before the factor."""
    least = most = minutes_of(RESULTS[key, budget])
    if "weights" not in RESULTS[key, budget]:
        most += sum(minutes_of(RESULTS[other, budget]) for other in SHARING.get(key, ()))
    return least, most


@pytest.mark.parametrize(("key", "budget"), RESULTS, ids=".".join)
def test_minutes_are_those_of_the_committed_run(key, budget):
    least, most = bounds(key, budget)
    told = max(DECLARED[key, budget][0], LEAST)
    assert max(least, LEAST) / 1.5 <= told <= 1.5 * max(most, LEAST), "python tests/test_minutes.py mends it"


def test_every_result_names_its_machine():
    missing = []
    for (key, budget), about in RESULTS.items():
        assert about["cpu"] and about["threads"] >= 1 and about["seconds"] >= 0, (key, budget)
        missing += [key] * ("instruction_set" not in about)
    assert len(missing) <= WITHOUT_INSTRUCTION_SET, missing


def test_what_is_shared_is_said_of_old_runs_alone():
    for key in SHARING:
        assert "weights" not in RESULTS[key, "laptop"]


def write():
    """Put the minutes of committed runs where declared ones are off."""
    places = {}
    for key, budget in RESULTS:
        number, path, node = DECLARED[key, budget]
        least, most = bounds(key, budget)
        if not max(least, LEAST) / 1.3 <= max(number, LEAST) <= 1.3 * max(most, LEAST):
            text = f"{max(most, 0.01):.2g}"
            places.setdefault(path, []).append((node, text if float(text) < 100 else f"{float(text):.0f}"))
    for path, edits in places.items():
        lines = path.read_text().splitlines(True)
        for node, text in sorted(edits, key=lambda edit: -edit[0].col_offset):
            assert node.lineno == node.end_lineno
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line[: node.col_offset] + text + line[node.end_col_offset :]
        path.write_text("".join(lines))
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(write())
