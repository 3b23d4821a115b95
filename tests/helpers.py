"""What several test files share: the chapters' folders, their modules, and an empty registry."""

import importlib.util
import sys
from pathlib import Path

import pytest

import minivi
from minivi import experiments
from minivi.experiments import equations, registry

CHAPTERS = Path(minivi.__file__).parents[1] / "chapters"
STUDIES, CHECKS = CHAPTERS / "studies", CHAPTERS / "checks"


def empty_registry(patch):
    """No experiments and checks, and no chapters loaded, until ``patch`` is undone."""
    for module, name, value in ((registry, "EXPERIMENTS", {}), (equations, "CHECKS", [])):
        patch.setattr(module, name, value)
        patch.setattr(experiments, name, value)
    patch.setattr(registry, "LOADED", set())


def study(name, folder=STUDIES):
    """A study's module, or another of its chapter; enters no registry, and skips where there are no chapters."""
    path = folder / f"{name}.py"
    if not path.exists():
        pytest.skip("no chapters beside this installation", allow_module_level=True)
    with pytest.MonkeyPatch.context() as patch:
        empty_registry(patch)
        if folder != STUDIES:  # which imports from its study
            patch.setitem(sys.modules, f"minivi_chapters.studies.{name}", study(name))
        spec = importlib.util.spec_from_file_location(f"under_test_{folder.name}_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module
