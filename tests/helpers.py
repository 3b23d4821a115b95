"""What several test files share: the chapters' folders, their modules, and an empty registry."""

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

import pytest

import minivi
from minivi import data, experiments
from minivi.experiments import equations, registry

CHAPTERS = Path(minivi.__file__).parents[1] / "chapters"
STUDIES, CHECKS = CHAPTERS / "studies", CHAPTERS / "checks"


def empty_registry(patch):
    """No experiments and checks, and no chapters loaded, until ``patch`` is undone."""
    for module, name, value in ((registry, "EXPERIMENTS", {}), (equations, "CHECKS", [])):
        patch.setattr(module, name, value)
        patch.setattr(experiments, name, value)
    patch.setattr(registry, "LOADED", set())
    for name in [name for name in sys.modules if name.partition(".")[0] == registry.PACKAGE]:
        patch.delitem(sys.modules, name)


def no_own_data(patch):
    """No data sets but the library's; those added are forgotten when ``patch`` is undone."""
    sets = dict(data.SOURCES)
    for module in (data, data.loading, data.own):
        patch.setattr(module, "SOURCES", sets)
    patch.setattr(data.own, "PATHS", {})
    patch.setenv(data.own.VARIABLE, "")


def study(name, folder=STUDIES):
    """A study's module, or another of its chapter; enters no registry, and skips where there are no chapters."""
    if not CHAPTERS.exists():
        pytest.skip("no chapters beside this installation", allow_module_level=True)
    with pytest.MonkeyPatch.context() as patch:
        empty_registry(patch)
        package = ModuleType(registry.PACKAGE)
        package.__path__ = [str(CHAPTERS)]
        patch.setitem(sys.modules, registry.PACKAGE, package)
        return importlib.import_module(f"{registry.PACKAGE}.{folder.name}.{name}")


def planted(module, right, wrong):
    """The names of a module in which one line is another one."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{right!r} stands {source.count(right)} times"
    names = dict(vars(module))
    exec(compile(source.replace(right, wrong), module.__file__, "exec"), names)
    return names
