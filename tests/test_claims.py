"""The claims of the stored results: each carries the document's own sentence and its place."""

import json
from pathlib import Path

import pytest

from minivi.experiments.results import claims_of, stored

FIGURES = Path(__file__).parents[1] / "figures"
RESULTS = [path for path in sorted(FIGURES.rglob("*.json")) if stored(path)]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_claims_are_the_documents(path):
    for claim in json.loads(path.read_text())["claims"]:
        for part in ("source", "sentence"):
            assert claim.get(part), f"the claim {claim['label']!r} has no {part}"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_checks_of_the_stored_results_hold(path):
    """What mathematics or the code guarantees of the numbers."""
    checks = claims_of(stored(path), "checks")
    assert all(check.ok for check in checks), [str(check) for check in checks if not check.ok]
