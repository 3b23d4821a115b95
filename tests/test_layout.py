"""A file imports only from floors below its own, and the light modules import NumPy and Numba alone."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minivi

ROOT = Path(minivi.__file__).parent
FLOORS = {
    "tables": 0, "kernels": 0, "tensor": 1, "validate": 1, "progress": 1, "ops": 2, "random": 2,
    "gradcheck": 3, "nn": 3, "distributions": 3, "optim": 3,
    "flows": 4, "models": 5, "bounds": 5, "estimators": 5, "mcmc": 5, "identity": 5,
    "data": 6, "evaluation": 6, "plots": 6, "training": 6,
    "bench": 7, "experiments": 7, "sweeps": 7, "cli": 7, "lesson": 8,
    "__main__": 8, "__init__": 8,
}  # fmt: skip
LIGHT = {unit for unit, floor in FLOORS.items() if floor <= 5}
FILES = sorted(ROOT.rglob("*.py"))
# Modules of one floor that may still use another: estimators are made of bounds, training draws minibatches from data,
# the command line runs experiments, plots writes files through training.
SAME_FLOOR = {
    ("training", "data"),
    ("estimators", "bounds"),
    ("plots", "training"),
    ("cli", "experiments"),
    ("cli", "bench"),
    ("bench", "experiments"),
}


def unit(path):
    """The entry of the table that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """(module, at the top level?) of every import in a file."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if node.module == "minivi":
                yield from ((f"minivi.{alias.name}", top) for alias in node.names)
            else:
                yield node.module, top


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_from_below(path):
    here = unit(path)
    assert here in FLOORS, f"{here} has no floor: add it to the table"
    for module, top in imports(path):
        parts = module.split(".")
        if parts[0] == "minivi" and len(parts) > 1 and parts[1] != here:
            there = parts[1] if parts[1] in FLOORS else "__init__"  # a name that the package itself exports
            allowed = FLOORS[there] < FLOORS[here] or (here, there) in SAME_FLOOR
            assert allowed, f"{path.name} (floor {FLOORS[here]}) imports {module} (floor {FLOORS[there]})"
        if here in LIGHT and parts[0] not in ("minivi", "numpy", "numba", "llvmlite") and top:
            assert parts[0] in sys.stdlib_module_names, (
                f"{path.name} imports {module}; only NumPy and Numba are allowed"
            )


def test_import_is_light():
    """`import minivi` loads nothing heavy and compiles nothing."""
    code = (
        "import sys, minivi, minivi.models; from minivi.kernels import jit; "
        "heavy = {'matplotlib', 'sklearn', 'pooch', 'tqdm', 'safetensors'} & set(sys.modules); "
        "assert not heavy, heavy; "
        "assert not jit._fork.signatures and not jit._launch.signatures, 'compiled at import'"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
