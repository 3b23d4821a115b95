"""The checkers must pass what is right and reject what is wrong by a factor of 1.001; and say where."""

import sys

import numpy as np
import pytest

from minivi import cli, nn, ops
from minivi.gradcheck import check_primitive, gradcheck, taylor_slope
from minivi.random import Generator
from minivi.tensor import PRIMITIVES, Primitive, Tensor

# relu, abs and so on are linear on either side of their kink: their remainder is zero, there is no slope to measure.
VARIABLES = [
    (name, i)
    for name in sorted(PRIMITIVES)
    for i, takes in zip(range(len(PRIMITIVES[name].vjps) or 3), PRIMITIVES[name].takes, strict=False)
    if takes
]


def off_by(name, index, factor=1.001):
    """A copy of a primitive with one vjp multiplied by ``factor``; None if it has no argument ``index``."""
    wrong = object.__new__(Primitive)
    vars(wrong).update(vars(PRIMITIVES[name]))
    if wrong.joint:
        right = wrong.joint

        def joint(*args, **kwargs):
            pulled = list(right(*args, **kwargs))
            if index < len(pulled):
                pulled[index] = pulled[index] * factor
            return pulled

        wrong.joint = joint
    else:
        wrong.vjps = list(wrong.vjps)
        right = wrong.vjps[index]
        wrong.vjps[index] = lambda *args, **kwargs: right(*args, **kwargs) * factor
    return wrong


@pytest.mark.parametrize(("name", "index"), VARIABLES)
def test_a_vjp_off_by_a_thousandth_is_rejected(name, index):
    cases = PRIMITIVES[name].cases
    wrong = off_by(name, index)
    if wrong.joint and index >= max(len(c) - isinstance(c[-1], dict) for c in cases(lambda *s, **k: np.ones(s))):
        index = 0  # a joint vjp with fewer arguments: plant the error in the first instead
        wrong = off_by(name, index)
    report = check_primitive(wrong)
    failed = {row.where.split()[0] for row in report.failures if row.name.endswith(f"argument {index}")}
    assert "direction" in failed or any(w.startswith("[") for w in failed), f"differences did not notice:\n{report}"
    assert "Taylor" in failed, f"the Taylor remainder did not notice:\n{report}"


def test_planted_error_fails_the_command(monkeypatch, capsys):
    """`minivi check` exits 1 when one vjp is off."""
    right = PRIMITIVES["tanh"].vjps
    monkeypatch.setattr(PRIMITIVES["tanh"], "vjps", [lambda *args: right[0](*args) * 1.001])
    assert cli.main(["check", "primitives"]) == 1
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.endswith("WRONG")] == ["tanh", "tanh"]


def test_zero_vjp_of_softmax_is_rejected():
    """The sum of a softmax is constant, so a zero vjp would pass a check whose cotangent is all ones."""
    wrong = off_by("log_softmax", 0, 0.0)
    assert not check_primitive(wrong).ok


@pytest.mark.parametrize(("factor", "low", "high"), [(1.0, 1.9, 2.2), (1.01, 0.8, 1.2)])
def test_taylor_slope_is_two_or_one(factor, low, high, rng):
    wrong = off_by("exp", 0, factor)
    slope, _ = taylor_slope(wrong, rng.standard_normal((3, 4)))
    assert low < slope < high


def test_hand_written_gradient(rng):
    x = rng.standard_normal((2, 3))

    def f(x):
        return np.sum(np.sin(x) * x)

    assert gradcheck(f, x, gradient=lambda x: np.cos(x) * x + np.sin(x))
    report = gradcheck(f, x, gradient=lambda x: np.cos(x) * x + np.sin(x) + 1e-4 * (x == x[1, 2]))
    assert not report
    assert "WRONG gradient: input 0, [1, 2]" in str(report)
    row = report.failures[0]
    assert abs(row.analytic - row.numeric) == pytest.approx(1e-4, rel=1e-4)


def test_wrong_coordinate_of_a_large_array_is_found(rng):
    """Not among the sampled coordinates: only a random direction sees it, and bisection names it."""
    x = rng.standard_normal(5000)
    wrong = 1234
    gradient = lambda x: 2 * x + 0.5 * (np.arange(5000) == wrong)
    report = gradcheck(lambda x: np.sum(x * x), x, gradient=gradient, coordinates=5)
    assert f"WRONG gradient: input 0, [{wrong}]" in str(report)


def test_whole_model(rng):
    mlp = nn.MLP((4, 6, 2), Generator(0), activation="tanh", dtype="float64")
    x = rng.standard_normal((5, 4))
    report = gradcheck(lambda: ops.square(mlp(x)), parameters=mlp)
    assert report.ok, str(report)
    assert {row.name for row in report.rows} == {name for name, _ in mlp.named_parameters()}
    before = mlp.state_dict()
    assert all(np.array_equal(before[k], v) for k, v in mlp.state_dict().items())


def test_parameters_are_restored(rng):
    mlp = nn.MLP((3, 4, 1), Generator(0), dtype="float64")
    before = mlp.state_dict()
    gradcheck(lambda x: mlp(x).sum(), rng.standard_normal((2, 3)), parameters=mlp)
    for name, value in mlp.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_float32_model_is_refused():
    mlp = nn.MLP((3, 4, 1), Generator(0))
    with pytest.raises(TypeError, match=r"layers.0.weight has dtype float32.*astype\('float64'\)"):
        gradcheck(lambda: mlp(np.ones((2, 3), "float32")).sum(), parameters=mlp)


@pytest.mark.parametrize("seed", [0, np.random.default_rng(1), Generator(2)])
def test_frozen_noise(seed):
    def f(x, rng):
        return (x * rng.standard_normal(3)).sum()

    assert gradcheck(f, np.ones(3), rng=seed)


def test_nondeterministic_function_is_refused():
    noise = Generator(0)
    with pytest.raises(ValueError, match="not deterministic.*rng=0"):
        gradcheck(lambda x: (x * noise.standard_normal(3)).sum(), np.ones(3))


def test_kinks_are_reported_not_failed():
    report = gradcheck(lambda x: ops.abs(x), np.array([0.0, 1.0, -2.0]), directions=0)
    assert report.ok
    assert [row.verdict for row in report.rows] == ["kink", "ok", "ok"]
    assert "met a kink" in str(report)
    near = gradcheck(lambda x: ops.relu(x).sum(), np.array([1e-6, 1.0]), directions=0)  # a smaller step avoids it
    assert [row.verdict for row in near.rows] == ["ok", "ok"] and near.rows[0].step < 6e-6


def test_a_wrong_gradient_beside_a_kink_is_still_wrong():
    report = gradcheck(
        lambda x: np.sum(np.abs(x)), np.array([0.0, 1.0]), gradient=lambda x: np.array([0.0, 1.01]), directions=0
    )
    assert [row.verdict for row in report.rows] == ["kink", "WRONG"]


def test_nothing_proved_is_no_success():
    """A derivative lost in rounding errors proves nothing."""
    report = gradcheck(lambda x: (x * 1e-14).sum() + 1.0, np.ones(3))
    assert not report.ok and report.failures[0].verdict == "no scale"
    assert "rescale f" in str(report)


def test_second_derivatives_of_a_user_function(rng):
    assert gradcheck(lambda x: ops.exp(x) * x, rng.standard_normal(4), second=True)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: gradcheck(lambda x: x, np.ones(3, "float32")), TypeError, "input 0 has dtype float32"),
        (lambda: gradcheck(lambda x: x, np.arange(3)), TypeError, "int64"),
        (lambda: gradcheck(lambda x: np.ones(3), np.ones(3)), TypeError, "returned a ndarray, not a Tensor.*gradient="),
        (lambda: gradcheck(lambda: Tensor(1.0)), ValueError, "nothing to check"),
        (lambda: gradcheck(lambda x: ops.log(x - 1.0), np.ones(2)), ValueError, "choose one where it is finite"),
        (lambda: gradcheck(np.sum, np.ones(3), gradient=lambda x: np.ones(2)), ValueError, r"shape \(2,\) for input 0"),
        (lambda: gradcheck(lambda x: x, np.ones(3), gradient=lambda x: x), ValueError, "must return one number"),
    ],
)
def test_errors(call, error, match):
    with np.errstate(all="ignore"), pytest.raises(error, match=match):
        call()


MODULE = """
import numpy as np
from minivi import ops
from minivi.gradcheck import gradcheck

def right(x, y):
    return (ops.tanh(x) * y).sum()

def noisy(x, rng):
    return (x * rng.standard_normal(3)).sum()

def f(x):
    return np.sum(x ** 3)

def good(x):
    return 3 * x ** 2

def bad(x):
    return 3.003 * x ** 2

def report():
    return gradcheck(right, np.ones(3), np.ones(3))

def nothing():
    return 3

value = 3
"""


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["right", "--shape", "3,4", "--shape", "4"], 0, "ok"),
        (["noisy", "--shape", "3"], 0, "ok"),
        (["report"], 0, "ok"),
        (["f", "--shape", "5", "--gradient", "good"], 0, "ok"),
        (["f", "--shape", "5", "--gradient", "bad"], 1, "WRONG gradient: x, ["),
        (["right", "--shape", "3"], 2, "takes 2 inputs (x, y)"),
        (["right", "--shape", "3", "--shape", "x"], 2, "sizes are whole numbers"),
        (["nothing"], 2, "returned a int"),
        (["value"], 2, "not a function"),
        (["absent"], 2, "has no absent"),
    ],
)
def test_command(words, status, expected, tmp_path, monkeypatch, capsys):
    (tmp_path / "user_losses.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("user_losses", None)
    words = [f"user_losses:{w}" if i == 0 or words[i - 1] == "--gradient" else w for i, w in enumerate(words)]
    assert cli.main(["gradcheck", *words]) == status
    captured = capsys.readouterr()
    assert expected in captured.out + captured.err
    if status == 2:
        assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
