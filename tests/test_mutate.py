"""The list of changes that no test could see."""

import pytest
from mutate import ROOT, equivalents, numbered

LISTED = equivalents()


@pytest.mark.parametrize("file", sorted({file for file, _, _ in LISTED}))
def test_listed_changes_are_changes_of_lines_that_are_there(file):
    source = (ROOT / file).read_text()
    lines = [line.strip() for line in source.splitlines()]
    possible = {(lines[line - 1], change) for line, change, _ in numbered(source)}
    assert {(line, change) for name, line, change in LISTED if name == file} <= possible


def test_each_listed_change_has_a_reason():
    assert all(len(reason.split()) >= 3 for reason in LISTED.values())
