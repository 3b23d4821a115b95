"""The public functions' arguments and defaults are those that are written down: a change of one is meant, or fails.

python tests/test_public_api.py         writes them down anew
"""

import importlib
import inspect
import re
import sys
import typing
from pathlib import Path

import pytest

MODULES = (
    "bounds", "data", "distributions", "em", "estimators", "evaluation", "exercises", "experiments", "files",
    "flows", "generate", "gradcheck", "gradient_noise", "lesson", "mcmc", "models", "nn", "ops", "optim", "plots",
    "program", "random", "refinement", "sweeps", "tensor", "training", "weights",
)  # fmt: skip
FILE = Path(__file__).with_name("public_api.txt")


def functions():
    """Each public function, class and method, and its name."""
    for name in MODULES:
        module = importlib.import_module(f"minivi.{name}")
        for key, value in sorted(vars(module).items()):
            home = getattr(value, "__module__", None) or ""
            if key.startswith("_") or not callable(value) or not home.startswith(f"minivi.{name}"):
                continue
            yield f"{name}.{key}", value
            if inspect.isclass(value):
                for method, function in sorted(vars(value).items()):
                    if not method.startswith("_") and callable(function):
                        yield f"{name}.{key}.{method}", function


def signatures():
    """A line for each of them: its name and its arguments with their defaults."""
    for name, function in functions():
        yield from of(name, function)


def of(name, function):
    """``name(a, b=1)``, without annotations."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    text = str(signature.replace(parameters=parameters, return_annotation=signature.empty))
    yield name + re.sub(r"<(function|class) '?([\w.]+)'?( at 0x\w+)?>", r"\2", text)


def test_arguments_and_defaults():
    assert list(signatures()) == FILE.read_text().splitlines(), f"if that is meant: python {Path(__file__).name}"


def test_annotations_name_what_is_there():
    for name, function in functions():
        plain = inspect.unwrap(function)
        if inspect.isfunction(plain):
            assert typing.get_type_hints(plain) is not None, name


@pytest.mark.parametrize("name", ["data", "estimators", "experiments", "models", "nn", "ops", "random"])
def test_a_star_import_gives_no_modules(name):
    names = {}
    exec(f"from minivi.{name} import *", names)
    assert not [key for key, value in names.items() if inspect.ismodule(value)]


if __name__ == "__main__":
    sys.path.insert(0, str(FILE.parents[1]))
    FILE.write_text("\n".join(signatures()) + "\n")
