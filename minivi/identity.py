"""What decides the numbers of a run, as short texts that a file can hold and another run compares with its own.

    facts("optimizer", Adam(p, 0.01))  ->  {"optimizer": "Adam", "optimizer.step_size": "0.01", ...}
    digest(x)                          ->  "5d1c09b3f2aa": of arrays, and of functions with all that they are made of

A function counts by its code, its defaults, the values that it captures, and the numbers of its module and the
functions of its package that it names: a loss with another constant is another loss, wherever the constant stands.
Nothing counts that differs from process to process, such as addresses, or from script to module, such as names of
files. Objects of other classes than those known here count by the class's name alone.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
from dataclasses import is_dataclass
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import numba
import numpy as np

from minivi import kernels
from minivi.nn import Module
from minivi.optim import Average, Optimizer
from minivi.random import Generator
from minivi.tensor import Parameter, Tensor

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))
WALKED = (Module, Optimizer, Average, Generator, SimpleNamespace, functools.partial)
LIBRARIES = {"minivi", "numpy", "numba", "scipy"} | sys.stdlib_module_names

Known = dict[int, tuple[Any, str]]  # by address: the object, which must live as long, and what stands for it


def rounding() -> dict[str, str]:
    """What decides how the same computation is rounded here: versions, and kernels by their vector instructions."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),  # digests compare its bytecode
        "numpy": np.__version__,
        "numba": numba.__version__,
        "matmul": kernels.matmul_backend(),
        "instruction_set": kernels.instruction_set(),
    }


def digest(value: Any, known: Known | None = None) -> str:
    """Twelve hexadecimal digits, for equal values the same in every process.

    Args:
        value: any object.
        known: objects that count by the text given here, such as parameters by their names; takes up those walked.
    """
    return _hash(_text(value, {} if known is None else known).encode())[:12]


def facts(name: str, value: Any, known: Known | None = None) -> dict[str, str]:
    """A model, an optimizer or a setting by dotted names, so that a difference can be named; else a digest.

    Of Parameters only the shapes: their values change, and belong to the weights.
    """
    known = {} if known is None else known
    if isinstance(value, (Parameter, Module, Optimizer)):
        known[id(value)] = value, name  # a function that captures it is the same, whatever it is
    if isinstance(value, Parameter):
        return {name: f"{value.dtype} {value.shape}"}
    if isinstance(value, (Module, Optimizer)):
        own = _methods(type(value))
        told = {name: type(value).__name__ + (f" {digest(own, known)}" if own else "")}
        parts = vars(value)
        if isinstance(value, Optimizer):
            parts = {k: item for k, item in parts.items() if k[0] != "_" and k != "parameters"}
            parts |= {"of": digest(value._keys), "state": digest(value.state_dict())}
        for key, item in parts.items():
            told |= facts(f"{name}.{key}", item, known)
        return told
    items = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, (list, tuple)) else {}
    if any(isinstance(item, (Parameter, Module)) for item in items.values()):
        return {k: text for i, item in items.items() for k, text in facts(f"{name}.{i}", item, known).items()}
    if isinstance(value, PLAIN) and len(repr(value)) < 80:
        return {name: repr(value)}
    if isinstance(value, (np.ndarray, Tensor)) or hasattr(value, "indptr"):
        return {name: f"{value.dtype} {value.shape} {digest(value, known)}"}
    return {name: f"{getattr(value, '__qualname__', type(value).__name__)} {digest(value, known)}"}


def _hash(data):
    return hashlib.sha256(data).hexdigest()


def _text(value, known):
    if isinstance(value, PLAIN):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, np.generic):
        return f"{value.dtype} {value.item()!r}"
    if isinstance(value, tuple):
        return f"({', '.join(_text(item, known) for item in value)})"
    if isinstance(value, (set, frozenset)):  # in another order in each process
        return f"{{{', '.join(sorted(_text(item, known) for item in value))}}}"
    if isinstance(value, CodeType):
        return _text(
            (value.co_code, value.co_names, value.co_consts, value.co_argcount, value.co_kwonlyargcount), known
        )
    if id(value) not in known:
        known[id(value)] = value, "itself"  # for what holds itself, such as a recursive function
        known[id(value)] = value, _hash(_text(_parts(value), known).encode())
    return known[id(value)][1]


def _parts(value):
    """A tuple of what an object is made of, its kind first."""
    if isinstance(value, np.ndarray):
        raw = value.tolist() if value.dtype.hasobject else _hash(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        return "array", value.dtype.str, value.shape, raw
    if hasattr(value, "indptr"):  # of scipy.sparse
        return type(value).__name__, value.shape, value.data, value.indices, value.indptr
    if isinstance(value, Tensor):
        return "Tensor", value._data
    if isinstance(value, list):
        return "list", *value
    if isinstance(value, dict):
        return "dict", *value.items()
    if isinstance(value, MethodType):
        return "method", value.__func__, value.__self__
    value = _unwrapped(value)
    if isinstance(value, FunctionType):
        captured = tuple(_content(cell) for cell in value.__closure__ or ())
        return "function", value.__code__, value.__defaults__, value.__kwdefaults__, captured, *_named(value)
    if isinstance(value, type):
        return "class", value.__qualname__, *_methods(value)
    kind = type(value).__qualname__
    if isinstance(value, functools.partial):
        return kind, value.func, value.args, value.keywords
    frozen = is_dataclass(value) and value.__dataclass_params__.frozen
    if isinstance(value, WALKED) or frozen or (callable(value) and _own(type(value))):
        return kind, vars(value), *_methods(type(value))
    return kind, getattr(value, "__qualname__", getattr(value, "__name__", ""))


def _unwrapped(value):
    """The Python function behind one of Numba's or of functools."""
    return getattr(value, "py_func", getattr(value, "__wrapped__", value))


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return "empty"


def _own(thing):
    """Whether a class or function is the user's."""
    return str(thing.__module__).partition(".")[0] not in LIBRARIES


def _beside(module, other):
    package = other.rpartition(".")[0]
    return module == other or (package != "" and module.startswith(f"{package}."))


def _named(function):
    """The constants, functions and classes of its own module, or of one beside it in a package, that a function of the
    user's names, sorted."""
    if not _own(function):
        return
    names, codes = set(), [function.__code__]
    for code in codes:
        names.update(code.co_names)
        codes += [item for item in code.co_consts if isinstance(item, CodeType)]
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        code = isinstance(_unwrapped(value), (FunctionType, type))
        if (code and _beside(value.__module__, function.__module__)) or isinstance(
            value, (*PLAIN, tuple, np.generic, np.ndarray)
        ):
            yield name, value


def _methods(kind):
    """The methods of a class and its bases, as far as they are the user's."""
    every = [item for base in kind.__mro__ if _own(base) for item in vars(base).values()]
    every = [getattr(item, "__func__", getattr(item, "fget", item)) for item in every]
    return [item for item in every if isinstance(item, FunctionType)]
