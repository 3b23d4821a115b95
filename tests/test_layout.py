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
    "files": 0, "kernels": 0, "protocols": 0, "tables": 0,
    "progress": 1, "tensor": 1, "validate": 1, "convolutions": 1.5,
    "data": 2, "ops": 2, "plots": 2, "random": 2,
    "distributions": 3, "gradcheck": 3, "nn": 3, "optim": 3,
    "bounds": 4, "trace": 4, "updates": 4, "flows": 4, "gradient_noise": 4, "identity": 4, "mcmc": 4,
    "em": 5, "program": 5, "estimators": 5, "models": 5, "refinement": 5,
    "evaluation": 6, "profile": 6, "small": 6, "training": 6,
    "experiments": 7, "semi_supervised": 7, "sweeps": 7,
    "bench": 8, "exercises": 8, "generate": 8, "lesson": 8, "weights": 8,
    "site": 8.5,
    "cli": 9,
    "__init__": 10, "__main__": 10,
}  # fmt: skip
HEAVY = {
    "data",
    "plots",
    "tables",
    "files",
    "progress",
    "profile",
    "evaluation",
    "training",
    "experiments",
    "semi_supervised",
    "sweeps",
    "bench",
    "exercises",
    "generate",
    "lesson",
    "site",
    "weights",
    "cli",
    "__init__",
    "__main__",
}
LIGHT = FLOORS.keys() - HEAVY
FILES = sorted(ROOT.rglob("*.py"))


def unit(path):
    """The entry of the table that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """(module, at the top level?) of every import in a file."""
    tree, package = ast.parse(path.read_text()), path.relative_to(ROOT.parent).parent.parts
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(
                [*package[: len(package) + 1 - node.level] * bool(node.level), *filter(None, [node.module])]
            )
            if module == "minivi":
                yield from ((f"minivi.{alias.name}", top) for alias in node.names)
            else:
                yield module, top


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_from_below(path):
    here = unit(path)
    assert here in FLOORS, f"{here} has no floor: add it to the table"
    for module, top in imports(path):
        parts = module.split(".")
        if parts[0] == "minivi" and len(parts) > 1 and parts[1] != here:
            there = parts[1] if parts[1] in FLOORS else "__init__"  # a name that the package itself exports
            assert FLOORS[there] < FLOORS[here], (
                f"{path.name} (floor {FLOORS[here]}) imports {module} (floor {FLOORS[there]})"
            )
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
