"""What decides a run's numbers: equal in every process, different for every difference that counts."""

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_array

from minivi import ops
from minivi.data import Dataset
from minivi.identity import digest, facts, rounding
from minivi.models import VAE
from minivi.nn import Linear, Module
from minivi.optim import SGD, Adam, burda, linear
from minivi.random import Generator
from minivi.tensor import Tensor

SCALE, TABLE, SHIFT = 2.0, {"a": 1}, np.ones(3)


def helper(x):
    return x * SCALE


def loss(x, rng, weight=1.0, *, power=2):
    words = {"one", "two", "three", "four", "five"}
    inner = lambda y: y**power + sum(len(w) for w in words if w in {"one", "two", "six"})
    return helper(inner(x)) * weight + SHIFT


class Mine(Module):
    def __init__(self):
        self.layer = Linear(3, 2, Generator(0))
        self.sizes = {"a": [1, 2]}

    def __call__(self, x):
        return self.layer(x) * SCALE

    @property
    def twice(self):
        return 2


@dataclass(frozen=True)
class Frozen:
    x: float


def recursive(n):
    return n * recursive(n - 1) if n else 1


class Loss:
    def __init__(self, beta):
        self.beta = beta

    def __call__(self, x, rng):
        return x * self.beta

    def method(self, x, rng):
        return x


def with_value(value):
    return lambda: value


def things():
    """One of each kind."""
    vae = VAE(3, (2,), 1, rng=Generator(0))
    return {
        "number": 0.1, "text": "a", "nothing": None, "set": {"a", "b", "c", 1}, "tuple": (1, "a"), "list": [1, [2]],
        "dict": {"a": 1, "b": [2]}, "scalar": np.float32(0.1), "array": np.arange(6.0).reshape(2, 3)[:, ::2],
        "empty": np.zeros((3, 0)), "objects": np.array(["a", None], object), "sparse": csr_array(np.eye(3)),
        "function": loss, "lambda": lambda x: x + 1, "closure": with_value(3), "of an array": with_value(np.ones(3)),
        "partial": functools.partial(loss, weight=2.0), "recursive": recursive, "callable": Loss(0.5),
        "method": Loss(0.5).method, "module": Mine(), "vae": vae, "optimizer": Adam(vae.parameters(), linear(1, 2, 3)),
        "primitive": ops.tanh, "namespace": SimpleNamespace(a=1, b=np.ones(2)), "frozen": Frozen(1.0),
        "generator": Generator(3), "schedule": burda(10), "class": Loss, "builtin": len, "ufunc": np.tanh,
        "dataset": Dataset("a", "grey", (1, 1), "1/1", np.ones((1, 1)), np.ones((1, 1))),
    }  # fmt: skip


def everything():
    return {name: [digest(thing), facts(name, thing)] for name, thing in things().items()}


def test_all_kinds_differ_and_agree_in_every_process():
    found = everything()
    assert found == everything() and len({text for text, _ in found.values()}) == len(found)
    code = "from tests.test_identity import everything; print(everything())"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert eval(done.stdout) == found


def test_every_part_of_a_function_counts(monkeypatch):
    """Constants of its module, functions that it calls, its defaults, code, nested code, and captured values."""
    before = digest(loss)
    here = sys.modules[__name__]
    for name, value in {"SCALE": 3.0, "SHIFT": np.zeros(3), "helper": lambda x: x}.items():
        with monkeypatch.context() as patch:
            patch.setattr(here, name, value)
            if callable(value):
                value.__module__ = __name__
            assert digest(loss) != before, name
    for name, value in {"__defaults__": (2.0,), "__kwdefaults__": {"power": 3}}.items():
        with monkeypatch.context() as patch:
            patch.setattr(loss, name, value)
            assert digest(loss) != before, name
    for package, counts in {"study.shared": True, "study": False, "studyroom.shared": False}.items():
        with monkeypatch.context() as patch:
            patch.setattr(loss, "__module__", "study.cells")
            patch.setattr(here, "helper", lambda x: x)
            here.helper.__module__ = package
            one = digest(loss)
            here.helper.__defaults__ = (1,)
            assert (digest(loss) != one) == counts, package
    monkeypatch.setattr(here, "TABLE", {"a": 2})  # not named
    assert digest(loss) == before
    assert digest(functools.cache(loss)) == before
    assert digest(lambda: 1) != digest(lambda: 2) and digest(lambda x: x.a) != digest(lambda x: x.b)
    assert digest(lambda: lambda: 1) != digest(lambda: lambda: 2)
    values = [1, 2, 1.0, "1", True, None, [1], (1,), np.ones(1), np.ones(1, "float32"), np.ones((1, 1)), {"a": 1},
              {"b": 1}, Loss(1), Loss(2), Loss(1).method, Loss(2).method, SimpleNamespace(a=1), SimpleNamespace(a=2),
              Frozen(1), Frozen(2), Generator(1), Generator(2), csr_array(np.eye(2)), csr_array(np.ones((2, 2))), loss,
              functools.partial(loss, 1), functools.partial(loss, 2), ops.tanh, ops.relu, linear(1, 2, 3),
              linear(1, 2, 4), np.float32(1)]  # fmt: skip
    assert len({digest(with_value(value)) for value in values}) == len(values)


def test_the_users_own_classes_count_by_their_code(monkeypatch):
    before = digest(Mine()), facts("model", Mine())
    assert before == (digest(Mine()), facts("model", Mine()))
    for name, value in {"__call__": lambda self, x: x, "twice": property(lambda self: 3)}.items():
        with monkeypatch.context() as patch:
            patch.setattr(Mine, name, value)
            assert digest(Mine()) != before[0] and facts("model", Mine())["model"] != before[1]["model"]


def test_what_does_not_decide_numbers_does_not_count():
    """Objects of unknown classes, copies instead of shared objects, names of captured parameters of the model."""

    class Log:
        def __init__(self):
            self.lines = []

    log = Log()
    before = digest(with_value(log))
    log.lines.append(1)
    assert digest(with_value(log)) == before
    x = np.ones(3)
    assert digest([x, x]) == digest([x, x.copy()]) == digest([x[::1], np.asfortranarray(x)])
    texts = []
    for seed in (0, 1):
        vae, known = VAE(3, (2,), 1, rng=Generator(seed)), {}
        facts("model", vae, known)
        texts.append(digest([with_value(vae), with_value(vae.decoder), with_value(vae.parameters())], known))
        assert digest(with_value(vae)) != texts[-1]
    assert texts[0] == texts[1]


def test_facts_name_each_setting():
    vae = VAE(3, (2,), 1, rng=Generator(0), activation="relu")
    found = facts("model", vae)
    assert found["model"] == "VAE" and found["model.encoder.activation"] == "'relu'" and found["model.latents"] == "1"
    assert found["model.encoder.layers.0.weight"] == "float32 (3, 2)"
    found = facts("optimizer", SGD(vae.parameters(), 0.1, momentum=0.9))
    assert found["optimizer.step_size"] == "0.1" and found["optimizer.momentum"] == "0.9"
    different = facts("optimizer", SGD(vae.encoder.parameters(), 0.1, momentum=0.9))
    assert {k for k in found if found[k] != different[k]} == {"optimizer.of", "optimizer.state"}
    assert facts("data", np.ones((2, 3)))["data"].startswith("float64 (2, 3) ")
    constant = Linear(3, 2, Generator(0))
    constant.shift = Tensor(np.ones(2))
    assert facts("m", constant)["m.shift"] == f"float64 (2,) {digest(constant.shift)}"
    assert facts("m", [constant])["m.0.weight"] == facts("m", {"a": constant})["m.a.weight"] == "float32 (3, 2)"
    assert facts("loss", loss)["loss"] == f"loss {digest(loss)}"
    assert facts("x", "a\nb") == {"x": repr("a\nb")} and facts("x", "a" * 100)["x"].startswith("str ")
    assert rounding().keys() == {"python", "numpy", "numba", "matmul", "instruction_set"}
    for text in [*found.values(), *rounding().values()]:
        assert "\n" not in text


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "complex128", "M8[s]", "U3", "float16"])
def test_arrays_of_every_kind_count_bit_by_bit(dtype):
    x = np.arange(4).astype(dtype)
    y = x.copy()
    assert digest(x) == digest(y) == digest(np.repeat(x, 2)[::2])
    y[2] = y[0]
    assert digest(x) != digest(y) and digest(x) != digest(x.reshape(2, 2))
