"""What chapter 7 adds: optimizers against PyTorch's, the bounds of a step, an averaged optimizer that resumes."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import study
from numpy.testing import assert_allclose

from minivi import optim
from minivi.random import Generator
from minivi.tensor import Parameter


@pytest.fixture(scope="module")
def adam():
    files = ("_shared", "step_bounds", "averaging", "choosing")
    return SimpleNamespace(**{k: v for f in files for k, v in vars(study(f"ch07_adam.{f}")).items()})


# ------------------------------------------------------------------------------------------------- beside PyTorch
# PyTorch puts RMSProp's eps outside the root and ours is inside, as in Graves: with eps next to 0 they are the same.
# Its AdaMax adds eps to |g| before the maximum.
PAIRS = {
    "SGD": (lambda p: optim.SGD(p, 0.01), "SGD", {"lr": 0.01}),
    "momentum": (lambda p: optim.SGD(p, 0.01, momentum=0.9), "SGD", {"lr": 0.01, "momentum": 0.9}),
    "Nesterov": (
        lambda p: optim.SGD(p, 0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
        "SGD",
        {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    "AdaGrad": (lambda p: optim.AdaGrad(p, 0.1, eps=1e-3), "Adagrad", {"lr": 0.1, "eps": 1e-3}),
    "AdaDelta": (lambda p: optim.AdaDelta(p, 2.0, eps=1e-3), "Adadelta", {"lr": 2.0, "rho": 0.95, "eps": 1e-3}),
    "RMSProp": (lambda p: optim.RMSProp(p, 0.01, eps=1e-300), "RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-300}),
    "RMSProp, all": (
        lambda p: optim.RMSProp(p, 0.01, eps=1e-30, centred=True, momentum=0.5),
        "RMSprop",
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-30, "centered": True, "momentum": 0.5},
    ),
    "Adam": (
        lambda p: optim.Adam(p, 0.02, beta1=0.8, beta2=0.99, eps=1e-2, weight_decay=0.1),
        "Adam",
        {"lr": 0.02, "betas": (0.8, 0.99), "eps": 1e-2, "weight_decay": 0.1},
    ),
    "AdaMax": (lambda p: optim.AdaMax(p, 0.02), "Adamax", {"lr": 0.02, "eps": 0.0}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_trajectories_are_those_of_pytorch(name):
    """A noisy Rosenbrock function: an error of one step moves all the gradients after it."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    new, kind, settings = PAIRS[name]
    start, noise = np.array([-1.2, 1.0]), np.random.default_rng(0).standard_normal((100, 2))

    def gradient(x):
        a, b = x
        return np.array([2 * (a - 1) - 4 * a * (b - a**2), 2 * (b - a**2)])

    p, theirs = Parameter(start), torch.tensor(start, dtype=torch.float64, requires_grad=True)
    ours, other = new([p]), getattr(torch.optim, kind)([theirs], **settings)
    for t in range(100):
        ours.step([gradient(p.data) + noise[t]])
        theirs.grad = torch.tensor(gradient(theirs.detach().numpy()) + noise[t])
        other.step()
        # centred: the square of the mean is taken from the mean of the squares, which cancels at step 1 and 2
        assert_allclose(p.data, theirs.detach().numpy(), rtol=1e-9, atol=1e-11)


# ------------------------------------------------------------------------------------------------- the chapter's own
@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.9, 0.9), (0.5, 0.3), (0.0, 0.99)])
def test_no_random_sequence_passes_the_limits(adam, beta1, beta2):
    """Heavy-tailed gradients, many zero, at every step; and the limit at t falls short of the one for all t."""
    rng = np.random.default_rng(1)
    g = rng.standard_t(1, (120, 300)) * (rng.random((120, 300)) < 0.3) * np.exp(0.1 * rng.standard_normal((1, 300)))
    steps = np.abs(adam.steps_of(lambda p: optim.Adam(p, 1.0, beta1=beta1, beta2=beta2, eps=adam.TINY), g))
    for t in range(1, 121):
        assert steps[t - 1].max() <= adam.adam_limit(beta1, beta2, t) * (1 + 1e-9)
        assert adam.adam_limit(beta1, beta2, t) <= adam.adam_limit(beta1, beta2) * (1 + 1e-12)
    if beta1 < beta2:
        steps = np.abs(adam.steps_of(lambda p: optim.AdaMax(p, 1.0, beta1=beta1, beta2=beta2), g))
        assert all(steps[t - 1].max() <= adam.adamax_limit(beta1, beta2, t) * (1 + 1e-9) for t in range(1, 121))


def test_the_limits_at_the_defaults(adam):
    assert adam.adam_limit(0.9, 0.999) == pytest.approx(7.2703, abs=1e-4)
    assert adam.adam_limit(0.9, 0.999, 1) == pytest.approx(1.0, rel=1e-12)
    assert adam.printed_limit(0.9, 0.999) == pytest.approx(math.sqrt(10), rel=1e-12)
    assert adam.adamax_limit(0.9, 0.999) == pytest.approx(1.0090909, abs=1e-7)


def test_an_averaged_optimizer_resumes_to_the_same_bits(adam):
    def new():
        p = Parameter(np.ones(4), "weight")
        return p, optim.AveragedAdam([p], 0.1)

    (p, whole), (q, first) = new(), new()
    gradients = np.random.default_rng(2).standard_normal((10, 4))
    for g in gradients:
        whole.step([g])
    for g in gradients[:6]:
        first.step([g])
    r, second = new()
    r.assign(q.data)
    second.load_state_dict(first.state_dict())
    for g in gradients[6:]:
        second.step([g])
    np.testing.assert_array_equal(r.data, p.data)
    np.testing.assert_array_equal(second.average.values()[0], whole.average.values()[0])


@pytest.mark.parametrize("name", ["Rosenbrock", "ravine", "ravine, turned", "saddle", "noisy"])
def test_gradients_of_the_pictures_functions(adam, name):
    value, gradient = adam.FUNCTIONS[name][:2]
    x, direction = Generator(3).standard_normal((2, 5, 2))
    h = 1e-5
    numeric = (value(x + h * direction) - value(x - h * direction)) / (2 * h)
    assert_allclose((gradient(x) * direction).sum(axis=-1), numeric, rtol=1e-6, atol=1e-6)


def test_a_value_counts_as_reached_when_all_starts_stay_there(adam):
    """Plain descent on a bowl: the distance falls by 0.9 a step; with a step size of 2 it never does."""
    bowl = (*adam.quadratic(np.eye(2)), (1.0, 0.0), 0.005, 0.0, None)
    steps, _, path = adam.descend(optim.SGD, 0.1, bowl, 200, 1, 0)
    starts = np.array([1.0, 0.0]) * (1 + 0.1 * Generator([0, 82]).standard_normal((20, 2)))
    farthest = max(1.0, np.abs(starts[1:, 0]).max())
    assert steps == math.ceil(math.log(0.1 / farthest) / math.log(0.9))
    assert_allclose(path[:, 0], 0.9 ** np.arange(steps + 1), rtol=1e-12)
    assert math.isinf(adam.descend(optim.SGD, 2.0, bowl, 50, 1, 0)[0])


# ------------------------------------------------------------------------------------------ the sum of functions
@pytest.fixture(scope="module")
def sfo():
    return study("ch07_experiments.sum_of_functions")


def quadratics(count=8, size=40):
    """Hessians (N, D, D) with curvatures from 0.01 to 1, and slopes at 0 (N, D)."""
    rng = np.random.default_rng(4)
    axes = np.linalg.qr(rng.standard_normal((count, size, size)))[0]
    return (axes * np.geomspace(0.01, 1, size)) @ axes.swapaxes(1, 2), rng.standard_normal((count, size))


def test_sum_of_functions_finds_the_minimum_of_a_sum_of_quadratics(sfo):
    hessians, slopes = quadratics()
    solver = sfo.SumOfFunctions(np.zeros(40), 8)
    for _ in range(600):
        solver.step(lambda i, theta: hessians[i] @ theta - slopes[i])
    best = np.linalg.solve(hessians.sum(axis=0), slopes.sum(axis=0))
    assert np.abs(solver.theta - best).max() < 1e-3 * np.abs(best).max()
    assert solver.basis.shape == (40, 3 * 8 + 2)  # 600 gradients have passed through it
    turned = solver.basis[:, : solver.k]
    assert_allclose(turned.T @ turned, np.eye(solver.k), atol=1e-8)


def test_a_bfgs_update_knows_the_change_and_stays_positive(sfo):
    rng = np.random.default_rng(5)
    s, y = rng.standard_normal((2, 6))
    y *= np.sign(s @ y)
    assert_allclose(sfo.bfgs(0.1 * np.eye(6), s, y) @ s, y, rtol=1e-10)  # the secant equation
    assert np.linalg.eigvalsh(sfo.bfgs(np.eye(6), s, -y)).min() > 0  # a curvature that is not positive is damped


def test_vsgd_needs_no_step_size_on_a_quadratic(sfo):
    curvature = np.geomspace(0.1, 10, 5)
    solver = sfo.VSGD(np.ones(5), 4)
    for _ in range(400):
        solver.step(lambda i, theta: curvature * theta)
    assert np.abs(solver.theta).max() < 1e-2
