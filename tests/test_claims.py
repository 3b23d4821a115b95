"""The claims of the stored results: each carries the document's own sentence and its place."""

import json
from pathlib import Path

import pytest

from minivi.experiments.results import claims_of, stored

FIGURES = Path(__file__).parents[1] / "figures"
# chapters whose claims have been gone through; at the end this list goes, and the test is of all
DONE = (
    "ch01_models",
    "ch02_aevb",
    "ch02_autoencoder",
    "ch02_challenges",
    "ch02_full_vb",
    "ch02_gradients",
    "ch02_latent_space",
    "ch02_marginal_likelihood",
    "ch02_pca",
    "ch02_posterior",
    "ch03_semi_supervised",
    "ch04_autoregressive",
    "ch04_invertible",
    "ch04_layers",
    "ch05_auxiliary",
    "ch05_flows",
    "ch05_iaf",
    "ch05_resnet",
    "ch06_dropout",
    "ch07_adam",
    "ch07_experiments",
    "report_refinement",
    "report_review",
    "report_tighter_bounds_gradients",
)


@pytest.mark.parametrize("chapter", DONE)
def test_claims_are_the_documents(chapter):
    paths = sorted(FIGURES.glob(f"{chapter}_*.json"))
    assert paths, f"figures/ has no results of {chapter}"
    for path in paths:
        about = json.loads(path.read_text())
        for claim in about["claims"]:
            for part in ("source", "sentence"):
                assert claim.get(part), f"{path.name}: the claim {claim['label']!r} has no {part}"


@pytest.mark.parametrize("path", sorted(FIGURES.rglob("*.json")), ids=lambda path: path.stem)
def test_checks_of_the_stored_results_hold(path):
    """What mathematics or the code guarantees of the numbers."""
    checks = claims_of(stored(path) or {}, "checks")
    assert all(check.ok for check in checks), [str(check) for check in checks if not check.ok]
