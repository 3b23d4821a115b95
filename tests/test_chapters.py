"""What holds of every chapter: budgets, times, imports, and that its equations are all checked, and the checks hold."""

import ast
import sys

import pytest
from helpers import CHECKS, STUDIES, empty_registry

from minivi import experiments
from minivi.experiments import equations

FILES = sorted([*STUDIES.rglob("*.py"), *CHECKS.rglob("*.py")])
ALLOWED = {"minivi", "numpy", "scipy", "sklearn", "matplotlib", "skimage", "tqdm"}


@pytest.fixture(scope="module")
def registry():
    """The experiments and checks of the chapters beside the tests, whatever other tests have registered."""
    patch = pytest.MonkeyPatch()
    patch.delenv("MINIVI_CHAPTERS", raising=False)
    empty_registry(patch)
    experiments.load_chapters()
    yield experiments.EXPERIMENTS, experiments.CHECKS
    patch.undo()


def test_every_experiment_has_its_budgets(registry):
    for entry in registry[0].values():
        assert set(entry.budgets) == set(entry.minutes) and {*entry.budgets, "night"} == set(experiments.BUDGETS), (
            entry.key
        )
        assert entry.minutes.get("night", 0) <= 8 * 60, f"{entry.key} takes longer than a night"
        assert entry.minutes["quick"] <= 1, f"{entry.key} is not quick"
        # two seeds, 5,000 samples, 10,000 images, and its models again; 28 models of M2 and of M1+M2; 300 epochs of M1;
        # four sizes, three seeds and all methods of Figure 6.1; eight models of six layers, of photos
        longest = {
            "report_tighter_bounds.mnist": 120, "report_tighter_bounds.ssim": 120,
            "ch03_semi_supervised.table_3_1": 160, "ch03_semi_supervised.ablation": 90, "ch06_dropout.figure_6_1": 60,
            "ch05_resnet.free_bits": 50,
        }.get(entry.key, 35)  # fmt: skip
        assert entry.minutes["laptop"] <= longest, f"{entry.key} takes too long for a laptop"
        assert entry.budgets["quick"].get("data", "digits") in ("digits", "synthetic"), (
            f"{entry.key} needs a download at quick"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_chapters_stand_alone(path):
    """A study imports the library and well-kept packages, and a study of its own chapter."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            chapter = path.stem if path.parent in (STUDIES, CHECKS) else path.parent.name
            if name.split(".")[:3] == ["minivi_chapters", "studies", chapter]:
                continue
            package = name.split(".")[0]
            assert package in ALLOWED or package in sys.stdlib_module_names, f"{path.name} imports {name}"


@pytest.mark.parametrize(
    ("chapter", "first", "last"), [(1, 1, 19), (2, 5, 89), (4, 1, 9), (5, 1, 33), (6, 1, 41), (7, 1, 11), (9, 1, 15)]
)
def test_every_numbered_equation_of_a_chapter_is_checked(registry, chapter, first, last):
    """Of the thesis; 2.1 to 2.4 are definitions."""
    checked = set().union(*(equations.numbers_of(c.equation) for c in registry[1]))
    missing = [f"{chapter}.{i}" for i in range(first, last + 1) if f"{chapter}.{i}" not in checked]
    assert not missing


@pytest.mark.parametrize(
    ("report", "last"), [("AEVB report", 14), ("review report", 15), ("tighter-bounds report", 16)]
)
def test_every_equation_of_a_report_is_checked(registry, report, last):
    checked = set().union(*(equations.numbers_of(c.equation) for c in registry[1]))
    missing = [i for i in range(1, last + 1) if f"{report} {i}" not in checked]
    assert not missing


@pytest.mark.parametrize("path", sorted(CHECKS.glob("*.py")), ids=lambda p: p.stem)
def test_every_equation_check_holds(registry, path):
    """What `minivi check --all` runs, chapter by chapter."""
    failures = []
    for entry in registry[1]:
        if entry.chapter == path.stem:
            claims, message = experiments.run_check(entry)
            failures += [f"{entry.equation}: {claim}" for claim in claims if not claim.ok]
            failures += [] if claims else [f"{entry.equation}: {message or 'it claims nothing'}"]
    assert not failures


def test_a_check_that_fails_would_be_seen(registry, monkeypatch):
    """One sign of the bound turned: the checks of section 2.3 say so."""
    from minivi.models import VAE

    elbo = VAE.elbo
    monkeypatch.setattr(VAE, "elbo", lambda *args, **kwargs: -elbo(*args, **kwargs))
    with pytest.raises(AssertionError, match="2\\.[0-9]"):
        test_every_equation_check_holds(registry, CHECKS / "ch02_aevb.py")
