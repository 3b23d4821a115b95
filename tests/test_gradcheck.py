"""The checkers must pass what is right and reject what is wrong by a factor of 1.001; and say where."""

import itertools
import math
import sys

import gradcheck_bar
import gradcheck_rows
import numpy as np
import pytest

from minivi import cli, nn, ops
from minivi.gradcheck import Report, Row, check_primitive, gradcheck, taylor_slope
from minivi.random import Generator
from minivi.tensor import PRIMITIVES, Parameter, Primitive, Tensor

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


def test_what_says_that_it_is_linear_must_be():
    curved = off_by("square", 0, 1.0)
    assert check_primitive(curved).ok
    curved.linear = True
    assert {row.where for row in check_primitive(curved).failures} == {"Taylor remainder"}
    assert check_primitive(curved, second=True).ok  # of the gradient, 2 x: linear itself


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
    """A derivative lost in rounding errors proves nothing, whatever its neighbours."""
    for f in (lambda x: (x * 1e-18).sum() + 1.0, lambda x: 1e8 * x[0] + 1e-5 * ops.tanh(x[1])):
        report = gradcheck(f, np.ones(2))
        assert not report.ok and report.failures[0].verdict == "no scale"
        assert "cannot be judged at this scale" in str(report) and "rescale f" in str(report)


WRONG = {
    "a coordinate small beside f": (lambda x: 1e8 * x[0] + x[1], np.ones(2), lambda x: np.array([1e8, 2.0])),
    "the other sign": (lambda x: 1e10 * x[0] ** 2 + x[1], np.ones(2), lambda x: np.array([2e10 * x[0], -1.0])),
    "half, beside a constant": (lambda x: 5e7 + np.sin(x[0]), np.ones(1), lambda x: 0.5 * np.cos(x)),
    "0, beside a constant": (lambda x: 5e7 + np.sin(x[0]), np.ones(1), lambda x: 0.0 * x),
    "not a number": (lambda x: np.sum(np.sin(x)), np.ones(2), lambda x: np.array([np.nan, np.cos(1.0)])),
    "infinite": (lambda x: np.sum(np.sin(x)), np.ones(2), lambda x: np.array([np.inf, np.cos(1.0)])),
    "a norm at 0, not a number": (lambda x: np.sqrt(x[0] * x[0]) + x[1], np.array([0.0, 1.0]), lambda x: [np.nan, 1.0]),
    "an edge with an infinite slope": (lambda x: np.sum(np.sqrt(x)), np.zeros(1), lambda x: 0.5 / np.sqrt(x)),
    "x^3 at 0": (lambda x: np.sum(x**3), np.zeros(1), lambda x: np.full(1, 1e-3)),
    "sin x - x at 0": (lambda x: np.sum(np.sin(x) - x), np.zeros(1), lambda x: np.full(1, 1e-3)),
    "beyond the sides of a kink": (lambda x: -np.sum(np.abs(x)), np.zeros(1), lambda x: np.full(1, 1.01)),
    "a smooth point taken for a kink": (lambda x: np.sum(np.abs(x)), np.full(1, 1e-9), lambda x: np.zeros(1)),
    "it edits its argument, and f sees it not": (lambda x: np.sum(x * x) / 2, np.ones(2), lambda x: _doubled(x)),
}

RIGHT = {
    "shifted by 2e3": (lambda x: np.sum(np.tanh(x - 2e3)), np.full(1, 2000.3), lambda x: 1 / np.cosh(x - 2e3) ** 2),
    "shifted by 1e9": (lambda x: np.sum(np.tanh(x - 1e9)), np.full(1, 1e9 + 0.25), lambda x: 1 / np.cosh(x - 1e9) ** 2),
    "log at 1e-4": (lambda x: np.sum(np.log(x)), np.full(1, 1e-4), lambda x: 1 / x),
    "log, undefined at x - h": (lambda x: np.sum(np.log(x - 1.0)), np.full(1, 1.0 + 1e-9), lambda x: 1 / (x - 1.0)),
    "Python's log, which raises": (lambda x: math.log(x[0] - 1.0), np.full(1, 1.0 + 1e-9), lambda x: 1 / (x - 1.0)),
    "|x|^1.5 at 1e-4": (lambda x: np.sum(np.abs(x) ** 1.5), np.full(1, 1e-4), lambda x: 1.5 * np.sqrt(x)),
    "|x|^1.5 at 0": (lambda x: np.sum(np.abs(x) ** 1.5), np.zeros(1), lambda x: 0.0 * x),
    "(1 - cos x) / x^2": (
        lambda x: np.sum((1 - np.cos(x)) / x**2),
        np.full(1, 0.01),
        lambda x: np.sin(x) / x**2 - 2 * (1 - np.cos(x)) / x**3,
    ),
    "(exp x - 1) / x, whose gradient loses digits": (
        lambda x: np.sum((np.exp(x) - 1) / x),
        np.full(1, 1e-5),
        lambda x: np.exp(x) / x - (np.exp(x) - 1) / x**2,
    ),
    "tanh at 20": (lambda x: np.sum(np.tanh(x)), np.full(1, 20.0), lambda x: 1 / np.cosh(x) ** 2),
    "tanh at -20": (lambda x: np.sum(np.tanh(x)), np.full(1, -20.0), lambda x: 1 / np.cosh(x) ** 2),
    "x^3 at 0": (lambda x: np.sum(x**3), np.zeros(1), lambda x: 3 * x * x),
    "sin x - x at 0": (lambda x: np.sum(np.sin(x) - x), np.zeros(1), lambda x: np.cos(x) - 1),
    "x0 x1 x2 at 0": (np.prod, np.zeros(3), lambda x: np.zeros(3)),
    "a coordinate small beside f": (lambda x: 1e8 * x[0] + x[1], np.ones(2), lambda x: np.array([1e8, 1.0])),
    "one-sided": (lambda x: np.sum(np.where(x < 1.0, np.nan, x * x)), np.ones(1), lambda x: 2 * x),
    "float32 inside": (lambda x: float(np.sum(np.sin(np.float32(x)))), np.array([0.3, -1.2]), np.cos),
    "it edits its argument": (lambda x: np.sum(_doubled(x)), np.ones(2), lambda x: _doubled(x) / x * 2),
    "a relu a millionth from its kink": (lambda x: max(x[0] - 1.0, 0.0), np.full(1, 1 + 1e-6), lambda x: np.ones(1)),
}


def _doubled(x):
    x *= 2.0
    return x


@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_are_rejected(name):
    f, x, gradient = WRONG[name]
    report = gradcheck(f, x, gradient=gradient)
    assert not report.ok, str(report)
    assert "WRONG gradient: input 0" in str(report)


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_are_accepted(name):
    f, x, gradient = RIGHT[name]
    report = gradcheck(f, x, gradient=gradient)
    assert report.ok, str(report)


BAR = [name for name, (_, x, _) in gradcheck_bar.CASES.items() if x.size < 1e5]


REFUSED = {  # right gradients that are not accepted: beyond float64, or a kink or an edge within its last digits
    "sqrt(1 - x^2) at 0.99999",
    "float32 mean",
    "hypot 3e5",
    "relu(x-1) at 1+1e-12",
    "arcsin edge",
    "erf-like exp(-x^2) 5",
    "brown scaled",
}


@pytest.mark.parametrize("part", range(8))
def test_the_bar(part):
    """All wrong gradients are rejected, at most 3 % of the right ones; those of long reductions by the bar's script."""
    names = BAR[part::8]
    refused, missed, wrong, caught = gradcheck_bar.judge(gradcheck_bar.accepted_by_minivi, names)
    assert missed == [] and caught == wrong > 4 * len(names)
    assert set(refused) <= REFUSED and len(REFUSED) <= 0.03 * len(BAR)


@pytest.mark.parametrize(
    ("f", "verdict"),
    [
        # The error of these, 2 eps of 1 over a step of 2^11, is 2.2e-4 and 2.2e-3 of the derivative.
        (lambda x: 1.0 + 1e-15 * x.sum(), "ok"),
        (lambda x: 1.0 + 1e-16 * x.sum(), "no scale"),
        # Coarse steps of float32, which are a ten-millionth of f.
        (lambda x: np.float64(np.float32(x.sum()) * np.float32(3.0)), "ok"),
    ],
)
def test_the_resolution(f, verdict):
    """ "ok" needs an error below half a thousandth: a tenth or ten times of it would change these."""
    slope = (f(np.full(1, 1e9)) - f(np.zeros(1))) / 1e9
    report = gradcheck(f, np.ones(1), gradient=lambda x: np.full(1, float(f"{slope:.3g}")))
    assert [row.verdict for row in report.rows] == [verdict], str(report)


def test_the_tolerance():
    """An error of 4e-8 is rejected, where one of truncation of 5e-9 is accepted at the first look."""
    calls = []

    def f(x):
        calls.append(0)
        return np.sum(np.sin(3e3 * x - 29.5))

    x, slope = np.full(1, 0.01), 3e3 * np.cos(0.5)
    assert gradcheck(f, x, gradient=lambda x: np.full(1, slope))
    assert len(calls) == 3 + 2  # the function's kind, its value twice, and one step to either side
    assert not gradcheck(f, x, gradient=lambda x: np.full(1, slope * (1 + 4e-8)))


@pytest.mark.parametrize(
    ("bend", "verdict"), [(0.0, "ok"), (1e-4, "ok"), (1e-3, "kink"), (1.0, "kink"), (-1.0, "kink")]
)
def test_the_bend_of_a_kink(bend, verdict):
    """One-sided derivatives that differ by half a thousandth are a kink, convex or concave."""
    report = gradcheck(lambda x: np.sum(x + bend * np.abs(x)), np.zeros(1), gradient=lambda x: np.ones(1))
    assert [row.verdict for row in report.rows] == [verdict], str(report)


def test_a_kink_that_every_precise_step_has_passed():
    """As in ReLU networks: one so near and small that shorter steps have more rounding than it bends."""
    f = lambda x: np.sum(x) + 1e-6 * np.sum(np.abs(x - (1.0 + 1e-10)))
    assert gradcheck(f, np.ones(1), gradient=lambda x: np.full(1, 1.0 - 1e-6))
    assert not gradcheck(f, np.ones(1), gradient=lambda x: np.full(1, 1.0 - 1e-5))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_kink_of_either_curvature(sign):
    report = gradcheck(lambda x: sign * ops.abs(x).sum(), np.array([0.0, 1.0]))
    assert [row.verdict for row in report.rows] == ["kink", "ok"] and report.ok
    for slope, verdict in ((1.0, "kink"), (1.01, "WRONG"), (-1.0, "kink"), (-1.01, "WRONG")):
        report = gradcheck(lambda x: sign * np.sum(np.abs(x)), np.zeros(1), gradient=lambda x, s=slope: np.full(1, s))
        assert report.rows[0].verdict == verdict


@pytest.mark.parametrize(("power", "verdict"), [(1.4, "ok"), (1.3, "no scale")])
def test_a_derivative_that_vanishes(power, verdict):
    """0 is accepted if the error is below a ten-thousandth of the slopes nearby."""
    report = gradcheck(lambda x: np.sum(np.abs(x) ** power * np.sign(x)), np.zeros(1), gradient=lambda x: np.zeros(1))
    assert [row.verdict for row in report.rows] == [verdict], str(report)


@pytest.mark.parametrize(
    ("f", "x", "reason"),
    [
        (lambda x: x * 0.0 + 3.0, np.ones(2), "nothing was compared: f does not change along any of these"),
        (lambda x: Tensor(3.0), np.ones(2), "input 0: f does not depend on it"),
        (lambda x: x.sum(), np.ones(0), "nothing was compared: no elements"),
        (lambda x: ops.abs(x).sum(), np.zeros(2), "nothing was compared: kinks alone"),
    ],
)
def test_a_check_that_compared_nothing_fails(f, x, reason):
    report = gradcheck(f, x)
    assert not report and reason in str(report)


def test_parameters_that_the_loss_does_not_reach():
    """A loss that closes over another copy of the model compares nothing, and says so."""
    model, x = nn.MLP((3, 4, 1), Generator(0)), np.ones((2, 3), "float32")
    report = gradcheck(lambda: model(x).sum(), parameters=model.astype("float64"))
    assert not report.ok and {row.verdict for row in report.rows} == {"unused"}
    assert "f does not depend on it" in str(report)
    double = model.astype("float64")
    spare = Parameter(np.ones(2), name="spare")
    parameters = [*double.parameters(), spare]
    loss = lambda: double(x.astype(float)).sum()
    assert gradcheck(loss, parameters=double)
    assert not gradcheck(loss, parameters=parameters)
    assert gradcheck(loss, parameters=parameters, unused=("spare",))
    with pytest.raises(ValueError, match=r"unused=\('other',\) names what is not there"):
        gradcheck(loss, parameters=parameters, unused=("other",))


def test_a_tied_parameter_moves_once(rng):
    p = Parameter(rng.standard_normal(3), name="tied")
    report = gradcheck(lambda: (p * p * p).sum(), parameters=[p, p])
    assert report.ok and len(report.rows) == 3


def test_an_invariance_is_no_failure(rng):
    """The bias before a softmax: its derivative is 0 apart from rounding; a thousandth there is an error."""
    w, y = rng.standard_normal(4), np.array([0.2, 0.5, 0.1, 0.2])
    report = gradcheck(lambda w, b: (ops.log_softmax(w + b) * y).sum(), w, np.full(1, 0.3))
    assert report.ok and report.rows[-1].verdict == "zero"

    def gradient(w, b):
        p = np.exp(w) / np.exp(w).sum()
        return y - p, np.full(1, 1e-3)

    f = lambda w, b: np.sum(y * (w + b - np.log(np.sum(np.exp(w + b)))))
    assert not gradcheck(f, w, np.full(1, 0.3), gradient=gradient)


@pytest.mark.parametrize(
    ("f", "most"),
    [
        (np.sum, 2),
        (lambda x: 1e6 + np.sum(x), 2),  # a first step of a sixteenth would have too much rounding
        (lambda x: 1e9 + np.sum(x), 8),
        (lambda x: np.sum(x**3), 66),
    ],
)
def test_evaluations_a_coordinate(f, most):
    """Two suffice as a rule, eight where rounding rules; a ladder of 32 steps is the most."""
    calls = []
    x = np.zeros(1) if most == 66 else np.ones(1)
    slope = 0.0 if most == 66 else 1.0
    assert gradcheck(lambda x: (calls.append(0), f(x))[1], x, gradient=lambda x: np.full(1, slope))
    assert len(calls) - 3 <= most  # f is called three times at x itself


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
        (
            lambda: gradcheck(np.sum, np.ones(3), gradient=[1.0, 1.0, 1.0]),
            TypeError,
            "gradient is a list, not a function",
        ),
        (
            lambda: gradcheck(np.sum, np.ones(3), gradient=np.ones(3)),
            TypeError,
            "gradient is a ndarray, not a function",
        ),
        (lambda: gradcheck(np.sum, np.ones(3), gradient=lambda x: None), TypeError, r"gradient\(\) returned None"),
        (lambda: gradcheck(np.sum, np.ones(3), gradient=lambda x: "up"), TypeError, r"gradient\(\) returned a str"),
        (
            lambda: gradcheck(lambda x, y: 0.0, 1.0, 1.0, gradient=lambda x, y: np.ones(2)),
            ValueError,
            r"gradient\(\) gave 1 arrays for 2 inputs",
        ),
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
        (["right", "--shape", "0", "--shape", "0"], 1, "nothing was compared: no elements"),
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


@pytest.mark.parametrize("target", ["user_losses.py:f", "./user_losses:f", "{folder}/user_losses.py:f"])
def test_command_takes_a_path(target, tmp_path, monkeypatch, capsys):
    (tmp_path / "user_losses.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("user_losses", None)
    words = [target.format(folder=tmp_path), "--shape", "2", "--gradient", target.format(folder=tmp_path)[:-1] + "good"]
    assert cli.main(["gradcheck", *words]) == 0
    assert "ok" in capsys.readouterr().out


def test_reports_keep_their_numbers():
    """Estimates, allowances and steps of functions that every CPU rounds alike, as they are written down."""
    now, then = list(gradcheck_rows.lines()), gradcheck_rows.FILE.read_text().splitlines()
    assert len(now) == len(then)
    for line, kept in zip(now, then, strict=True):
        (case, where, *numbers, step, verdict), other = line.split("; "), kept.split("; ")
        assert [case, where, step, verdict] == [*other[:2], *other[5:]]
        np.testing.assert_allclose(np.array(numbers, float), np.array(other[2:5], float), 1e-5, 1e-12, err_msg=line)


def test_the_worst_row_of_an_input_is_shown():
    """By verdict, then a coordinate before a direction, then by the share of what is allowed."""
    row = lambda verdict, where, error, allowed=1.0: Row("x", (2,), where, 0.0, 0.0, error, allowed, 1.0, verdict)
    ranked = [row(v, "direction 0", 0.0) for v in ("WRONG", "no scale", "unused", "kink", "ok", "zero", "empty")]
    pairs = [(worse, row(better.verdict, "[0]", 0.9)) for worse, better in itertools.pairwise(ranked)]
    pairs += [
        (row("ok", "[1]", 0.1), row("ok", "direction 0", 0.9)),
        (row("ok", "[1]", 0.2), row("ok", "[0]", 0.3, 2.0)),
        (row("ok", "[1]", 0.05), row("ok", "[0]", 0.3, 0.0)),
    ]
    for worse, better in pairs:
        for rows in ([worse, better], [better, worse]):
            assert Report("", rows).worst() == [worse]
            assert str(Report("", rows)).count("\nx ") == 1
