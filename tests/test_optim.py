"""Optimizers against transcriptions of their algorithms in float64, and update kernels against their twins."""

import inspect
import math

import numba
import numpy as np
import pytest

from minivi import kernels, optim
from minivi.kernels import reference
from minivi.tensor import Parameter

STEPS, SHAPES = 60, ((3, 4), (5,), ())
A, WD = 0.03, 0.01  # step size and weight decay of all trajectories


def make(dtype=np.float64):
    """Parameters, and gradients for every step: noise, a fifth of it zero."""
    rng = np.random.default_rng(0)
    parameters = [Parameter(rng.standard_normal(s), f"layer.{i}", dtype) for i, s in enumerate(SHAPES)]
    noise = [[rng.standard_normal(s) * (rng.random(s) > 0.2) for s in SHAPES] for _ in range(STEPS)]
    return parameters, [[np.asarray(g, dtype) for g in gradients] for gradients in noise]


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


# Transcriptions. Every operation is element-wise, so one flat vector stands for all parameters.


def sgd(theta, gradients, momentum=0.0, nesterov=False):
    v = 0
    for g in gradients:
        g = g + WD * theta
        v = momentum * v + g
        theta = theta - A * (g + momentum * v if nesterov else v)
        yield theta


def adagrad(theta, gradients, eps):
    total = 0
    for g in gradients:
        g = g + WD * theta
        total = total + g**2
        theta = theta - A * g / (np.sqrt(total) + eps)
        yield theta


def rmsprop(theta, gradients, decay, eps, centred=False, momentum=0.0):
    n, m, delta = 0, 0, 0
    for g in gradients:
        g = g + WD * theta
        n = decay * n + (1 - decay) * g**2
        m = decay * m + (1 - decay) * g
        delta = momentum * delta - A * g / np.sqrt(n - m**2 * centred + eps)
        theta = theta + delta
        yield theta


def adam(theta, gradients, beta1, beta2, eps, reordered=False, bias_correction=True):
    m, v = 0, 0
    for t, g in enumerate(gradients, 1):
        g = g + WD * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        if not bias_correction:
            theta = theta - A * m / (np.sqrt(v) + eps)
        elif reordered:
            a_t = A * np.sqrt(1 - beta2**t) / (1 - beta1**t)
            theta = theta - a_t * m / (np.sqrt(v) + eps)
        else:
            m_hat = m / (1 - beta1**t)
            v_hat = v / (1 - beta2**t)
            theta = theta - A * m_hat / (np.sqrt(v_hat) + eps)
        yield theta


def adadelta(theta, gradients, decay, eps):
    square = square_step = 0
    for g in gradients:
        g = g + WD * theta
        square = decay * square + (1 - decay) * g**2
        change = -np.sqrt(square_step + eps) / np.sqrt(square + eps) * g
        square_step = decay * square_step + (1 - decay) * change**2
        theta = theta + A * change
        yield theta


def adamax(theta, gradients, beta1, beta2):
    m, u = 0, 0
    for t, g in enumerate(gradients, 1):
        g = g + WD * theta
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g))
        theta = theta - (A / (1 - beta1**t)) * m / u
        yield theta


CASES = {
    "sgd": (optim.SGD, sgd, {}),
    "momentum": (optim.SGD, sgd, {"momentum": 0.9}),
    "nesterov": (optim.SGD, sgd, {"momentum": 0.9, "nesterov": True}),
    "adagrad": (optim.AdaGrad, adagrad, {"eps": 1e-3}),
    "rmsprop": (optim.RMSProp, rmsprop, {"decay": 0.9, "eps": 1e-3}),
    "rmsprop-centred": (optim.RMSProp, rmsprop, {"decay": 0.9, "eps": 1e-3, "centred": True}),
    "rmsprop-momentum": (optim.RMSProp, rmsprop, {"decay": 0.8, "eps": 1e-3, "momentum": 0.7}),
    "rmsprop-all": (optim.RMSProp, rmsprop, {"decay": 0.8, "eps": 1e-3, "centred": True, "momentum": 0.7}),
    "adam": (optim.Adam, adam, {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}),
    "adam-reordered": (optim.Adam, adam, {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "reordered": True}),
    "adam-uncorrected": (optim.Adam, adam, {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "bias_correction": False}),
    "adamax": (optim.AdaMax, adamax, {"beta1": 0.8, "beta2": 0.95}),
    "adadelta": (optim.AdaDelta, adadelta, {"decay": 0.9, "eps": 1e-3}),
}
cases = pytest.mark.parametrize("case", CASES)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@cases
@dtypes
def test_trajectory(case, dtype):
    cls, transcription, settings = CASES[case]
    parameters, gradients = make(dtype)
    theta = flat(p._data for p in parameters).astype(np.float64)
    optimizer = cls(parameters, A, weight_decay=WD, **settings)
    expected = transcription(theta, map(flat, gradients), **settings)
    for step, (g, theta) in enumerate(zip(gradients, expected, strict=True), 1):
        births = [p._birth for p in parameters]
        optimizer.step(g)
        assert all(p._birth > birth for p, birth in zip(parameters, births, strict=True))
        # float32: two roundings of every step, each half a unit of the largest parameter
        bound = 1e-12 * np.abs(theta) if dtype == np.float64 else step * np.finfo(dtype).eps * np.abs(theta).max()
        assert np.all(np.abs(flat(p._data for p in parameters) - theta) <= bound)
    assert optimizer.steps == STEPS and all(p.dtype == dtype for p in parameters)


@pytest.mark.parametrize("cls", [optim.Adam, optim.AdaMax])
def test_the_first_step_is_the_sign(cls):
    p = Parameter(np.zeros(6))
    g = np.array([1e-3, -1e-3, 2.0, -2.0, 1e5, -1e5])
    cls([p], 0.1).step([g])
    np.testing.assert_allclose(p._data, -0.1 * np.sign(g), rtol=2e-5)  # eps = 1e-8 against |g| = 1e-3


def test_the_two_orders_of_adam_agree_when_eps_does():
    (first, gradients), (second, _) = make(), make()
    plain, reordered = optim.Adam(first, A, eps=0.1), optim.Adam(second, A, reordered=True)
    for t, g in enumerate(gradients, 1):
        reordered.eps = 0.1 * math.sqrt(1 - 0.999**t)
        plain.step(g)
        reordered.step(g)
    np.testing.assert_allclose(flat(p._data for p in second), flat(p._data for p in first), rtol=1e-12)


def test_nesterov_looks_ahead():
    """Sutskever et al. (2013): v = mu v - a grad f(theta + mu v); our p is their theta + mu v."""
    curvature, mu = np.array([1.0, 3.0, 10.0]), 0.9
    p = Parameter(np.ones(3))
    optimizer = optim.SGD([p], A, momentum=mu, nesterov=True)
    theta, v = np.ones(3), np.zeros(3)
    for _ in range(STEPS):
        optimizer.step([curvature * p._data])
        v = mu * v - A * curvature * (theta + mu * v)
        theta = theta + v
        np.testing.assert_allclose(p._data, theta + mu * v, rtol=1e-9, atol=1e-12)


def test_adamax_with_no_gradient_yet():
    p = Parameter([1.0, 2.0])
    optimizer = optim.AdaMax([p], 0.1)
    optimizer.step([np.zeros(2)])
    assert p._data.tolist() == [1.0, 2.0]
    optimizer.step([np.array([0.0, 3.0])])
    np.testing.assert_allclose(p._data, [1.0, 2.0 - 0.1 * 0.1 / (1 - 0.9**2)], rtol=1e-14)


def test_adamax_steps_are_not_quite_bounded_by_the_step_size():
    """Section 7.6.1 claims |step| <= step_size. Gradients beta2^t give (1 - b) (1 - r^t) / ((1 - r) (1 - b^t)) times
    that, with b = beta1 and r = b / beta2: 0.9 % more."""
    b, beta2, p = 0.9, 0.999, Parameter([0.0])
    optimizer, r = optim.AdaMax([p], 1.0, beta1=b, beta2=beta2), b / beta2
    for t in range(1, 100):
        before = p._data[0]
        optimizer.step([np.array([beta2**t])])
        assert before - p._data[0] == pytest.approx((1 - b) / (1 - r) * (1 - r**t) / (1 - b**t), rel=1e-10)
    assert before - p._data[0] > 1.009


@dtypes
def test_centred_rmsprop_with_nearly_constant_gradients(dtype):
    """n - m^2 is 0 up to rounding, which must not put a negative number under the root."""
    p, rng = Parameter(np.zeros(1000), dtype=dtype), np.random.default_rng(0)
    optimizer, noise = optim.RMSProp([p], A, eps=1e-24, centred=True), np.sqrt(np.finfo(dtype).eps) / 3
    for _ in range(400):
        optimizer.step([(1 + noise * rng.standard_normal(1000)).astype(dtype)])
    assert np.all(np.isfinite(p._data))


@cases
@dtypes
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(case, dtype, bad):
    """Found in a small gradient before the step: nothing is changed, and the first such parameter is named."""
    cls, _, settings = CASES[case]
    parameters = [Parameter(np.ones(shape, dtype), name) for name, shape in (("w", (200, 100)), ("b", 20), ("c", 2))]
    optimizer = cls(parameters, A, **settings)
    good = [np.full(p.shape, 0.5, dtype) for p in parameters]
    optimizer.step(good)
    before = [p._data.copy() for p in parameters], optimizer.state_dict()
    wrong = [g.copy() for g in good]
    wrong[1][17] = wrong[2][0] = bad
    with pytest.raises(FloatingPointError, match=rf"{cls.__name__}.step: .* 1.b is {bad} at \(17,\).*\(1 of 20 "):
        optimizer.step(wrong)
    for p, old in zip(parameters, before[0], strict=True):
        np.testing.assert_array_equal(p._data, old)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[1][name])
    optimizer.step(good)


@cases
@dtypes
def test_a_large_gradient_that_is_not_finite_reaches_nothing(case, dtype):
    """One number of 200,000: it is found while the step is done; parameters and state stay finite."""
    cls, _, settings = CASES[case]
    p = Parameter(np.ones(200_000), "w", dtype=dtype)
    optimizer = cls([p], A, **settings)
    g = np.ones(p.shape, dtype)
    g[123_456] = np.nan
    with pytest.raises(FloatingPointError, match=r"0.w is nan at \(123456,\).*\(1 of 200000 .* has taken the step"):
        optimizer.step([g])
    assert p._data[123_456] == 1
    for array in (p._data, *optimizer.state_dict().values()):
        assert np.isfinite(array).all()
    if not numba.config.DISABLE_JIT:  # a twin leaves the whole parameter alone, a kernel a block
        assert 0 < np.count_nonzero(p._data == 1) <= 4096


ADAPTIVE = [case for case in CASES if CASES[case][1] is not sgd]


@pytest.mark.parametrize("case", ADAPTIVE)
@pytest.mark.parametrize("huge", [1e19, 1e20, 1e30, 3.4e38])
def test_a_gradient_whose_square_overflows_is_one_step(case, huge):
    """As in float64 for the largest gradient that float32 can square; before, its state was NaN for ever."""
    cls, transcription, settings = CASES[case]
    largest = 2.0 ** (126 if cls is optim.AdaMax else 63)
    p = Parameter(np.float32([1.0, -1.0, 0.5]))
    gradients = np.random.default_rng(1).standard_normal((12, 3)).astype(np.float32)
    gradients[3], gradients[4, 1] = [huge, -huge, huge], huge
    optimizer = cls([p], A, weight_decay=WD, **settings)
    expected = transcription(
        p.data.astype(np.float64), np.clip(gradients.astype(np.float64), -largest, largest), **settings
    )
    for g, theta in zip(gradients, expected, strict=True):
        optimizer.step([g])
        np.testing.assert_allclose(p.data, theta, rtol=1e-5)
    assert all(np.isfinite(array).all() for array in optimizer.state_dict().values())


@pytest.mark.parametrize("case", ADAPTIVE)
@dtypes
def test_no_finite_gradients_make_a_state_infinite(case, dtype):
    cls, _, settings = CASES[case]
    p, top = Parameter(np.ones(4), dtype=dtype), np.finfo(dtype).max
    optimizer = cls([p], A, **settings)
    for t in range(30):  # of changing and of constant sign, and one alone
        before = p.data.copy()
        optimizer.step([np.array([top * (-1) ** t, top, top * (t == 5), np.sqrt(top) * (-1) ** t], dtype)])
        assert np.abs(p.data - before).max() < 4.0  # centred RMSProp speeds up where the gradient is constant
    optimizer.step([np.zeros(4, dtype)])
    assert all(np.isfinite(array).all() for array in [p.data, *optimizer.state_dict().values()])
    assert np.all(p.data != 1.0)


def test_adamax_without_memory_stays_where_the_gradient_is_zero():
    p = Parameter([1.0])
    optimizer = optim.AdaMax([p], 0.1, beta2=0.0)
    optimizer.step([np.ones(1)])
    assert p.item() == pytest.approx(0.9)
    optimizer.step([np.zeros(1)])  # m is 0.09, u is 0
    assert p.item() == pytest.approx(0.9)


@cases
@dtypes
def test_resuming_gives_the_same_bits(case, dtype):
    cls, _, settings = CASES[case]
    parameters, gradients = make(dtype)
    optimizer = cls(parameters, A, weight_decay=WD, **settings)
    for g in gradients[:25]:
        optimizer.step(g)
    copies, state = [Parameter(p._data, p.name) for p in parameters], optimizer.state_dict()
    resumed = cls(copies, A, weight_decay=WD, **settings)
    resumed.load_state_dict(state)
    for array in state.values():
        np.asarray(array)[...] = 99  # neither of the two shares memory with the state
    for g in gradients[25:]:
        optimizer.step(g)
        resumed.step(g)
    assert resumed.steps == STEPS
    assert all(np.array_equal(p._data, q._data) for p, q in zip(parameters, copies, strict=True))


def test_state_is_named_and_loading_is_strict():
    parameters, gradients = make()
    optimizer = optim.Adam(parameters, A)
    optimizer.step(gradients[0])
    state = optimizer.state_dict()
    assert list(state) == ["step", *(f"{i}.layer.{i}.{slot}" for i in range(3) for slot in "mv")]
    assert list(optim.SGD([Parameter([1.0])], A, momentum=0.9).state_dict()) == ["step", "0.velocity"]
    bad = {
        "missing .'1.layer.1.v'.": {k: v for k, v in state.items() if k != "1.layer.1.v"},
        "unknown .'3.m'.": state | {"3.m": np.zeros(2)},
        "0.layer.0.m is float64 of shape .3, 4.": state | {"0.layer.0.m": np.zeros((4, 3))},
        "the state's float32": state | {"2.layer.2.v": np.float32(1)},
        "step must be an integer >= 0; got -1": state | {"step": -1},
        "got 1.0": state | {"step": 1.0, "0.layer.0.m": np.ones((3, 4))},
    }
    for message, wrong in bad.items():
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(wrong)
    after = optimizer.state_dict()
    assert all(np.array_equal(after[k], state[k]) for k in state)


def test_bad_steps_change_nothing():
    parameters, gradients = make()
    before, births = flat(p._data for p in parameters), [p._birth for p in parameters]
    optimizer = optim.Adam(parameters, A)
    a, b, c = gradients[0]
    for wrong, message in (
        ([a, b], "2 gradients for 3 parameters"),
        ([a, c, b], r"parameter 1.layer.1 is float64 of shape \(5,\), its gradient float64 of shape \(\)"),
        ([a, b, np.float32(1)], "its gradient float32"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.step(wrong)
    optimizer.step_size = lambda step: 0.0
    with pytest.raises(ValueError, match=r"the step size at step 0 must be positive; got 0.0"):
        optimizer.step(gradients[0])
    assert np.array_equal(flat(p._data for p in parameters), before) and optimizer.steps == 0
    assert [p._birth for p in parameters] == births


P = Parameter([1.0], "w")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: optim.SGD([], A), r"SGD: needs a list of one or more Parameters; got \[\]"),
        (lambda: optim.Adam([np.ones(3)]), r"Adam: .* got \['ndarray'\]"),
        (lambda: optim.Adam([P, Parameter([2.0]), P]), r"Adam: parameter 0 \(w\) is listed again as 2"),
        (lambda: optim.Average([P, P]), r"Average: parameter 0 \(w\) is listed again as 1"),
        (lambda: optim.SGD([P], 0.0), "SGD: step_size must be positive; got 0.0"),
        (lambda: optim.SGD([P], math.nan), "step_size"),
        (lambda: optim.SGD([P], A, weight_decay=-1), "weight_decay must be at least 0; got -1"),
        (lambda: optim.SGD([P], A, momentum=1.0), r"SGD: momentum must lie in \[0, 1\); got 1.0"),
        (lambda: optim.SGD([P], A, nesterov=True), "needs a momentum above 0"),
        (lambda: optim.Adam([P], beta1=1.0), "beta1"),
        (lambda: optim.Adam([P], beta2=-0.1), "beta2"),
        (lambda: optim.Adam([P], eps=0.0), "eps must be positive"),
        (lambda: optim.AdaMax([P], beta2=1.0), "beta2"),
        (lambda: optim.AdaGrad([P], eps=-1), "eps"),
        (lambda: optim.RMSProp([P], decay=1.0), "decay"),
        (lambda: optim.Average([P], 1.0), "beta2"),
        (lambda: optim.burda(0), "steps_per_epoch"),
        (lambda: optim.linear(1.0, 0.1, 0), "steps"),
    ],
)
def test_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("cls", [optim.SGD, optim.AdaGrad, optim.AdaDelta, optim.RMSProp, optim.Adam, optim.AdaMax])
def test_every_rate_and_eps_has_its_range(cls):
    ranges = {"momentum": (1.0, -0.1), "decay": (1.0, -0.1), "beta1": (1.0, -0.1), "beta2": (1.0, -0.1), "eps": (0.0,)}
    for name in ranges.keys() & inspect.signature(cls).parameters:
        for value in ranges[name]:
            with pytest.raises(ValueError, match=f"^{cls.__name__}: {name} must"):
                cls([P], A, **{name: value})


def test_average_corrects_its_bias():
    parameters, gradients = make()
    average, theta_bar = optim.Average(parameters, 0.9), 0
    for t, values in enumerate(gradients, 1):
        for p, value in zip(parameters, values, strict=True):
            p.assign(value)
        average.update()
        theta_bar = 0.9 * theta_bar + (1 - 0.9) * flat(values)
        np.testing.assert_allclose(flat(average.values()), theta_bar / (1 - 0.9**t), rtol=1e-12, atol=1e-16)


@dtypes
def test_the_average_of_a_constant_is_the_constant(dtype):
    p = Parameter(np.linspace(-2, 3, 11), dtype=dtype)
    average = optim.Average([p], 0.999)
    for t in range(1, 5001):
        average.update()
        if t in (1, 10, 1000, 5000):  # beta2 and 1 - beta2 in float32 would be off by 108 units in the last place
            np.testing.assert_allclose(average.values()[0], p._data, rtol=32 * np.finfo(dtype).eps)


def test_parameters_are_averages_inside_with():
    parameters, gradients = make()
    average = optim.Average(parameters)
    with pytest.raises(RuntimeError, match="nothing to average yet"):
        average.__enter__()
    optimizer = optim.SGD(parameters, A)
    for g in gradients:
        optimizer.step(g)
        average.update()
    before, births = flat(p._data for p in parameters), [p._birth for p in parameters]
    with pytest.raises(KeyError), average as same:
        assert same is average
        np.testing.assert_array_equal(flat(p._data for p in parameters), flat(average.values()))
        assert all(p._birth > birth for p, birth in zip(parameters, births, strict=True))
        for forbidden in (average.update, average.__enter__):
            with pytest.raises(RuntimeError, match="with"):
                forbidden()
        raise KeyError
    np.testing.assert_array_equal(flat(p._data for p in parameters), before)

    other = optim.Average(make()[0])
    other.load_state_dict(average.state_dict())
    np.testing.assert_array_equal(flat(other.values()), flat(average.values()))


def test_schedules():
    burda = optim.burda(steps_per_epoch=5)
    rates = [burda(step) for step in range(5 * 3300)]
    epochs = np.repeat(1e-3 * 10.0 ** (-np.arange(8) / 7), 3 ** np.arange(8))
    np.testing.assert_allclose(rates[: 5 * 3280], np.repeat(epochs, 5), rtol=1e-14)
    assert (np.flatnonzero(np.diff(rates)) + 1).tolist() == [5 * epoch for epoch in (1, 4, 13, 40, 121, 364, 1093)]
    assert [optim.linear(1.0, 0.5, 4)(step) for step in (0, 1, 4, 9)] == [1.0, 0.875, 0.5, 0.5]
    assert [optim.inverse_sqrt(2.0)(step) for step in (0, 3)] == [2.0, 1.0]
    assert optim.constant(0.3)(17) == 0.3


def test_a_schedule_is_asked_for_every_step_from_0():
    p = Parameter([0.0])
    optimizer = optim.SGD([p], lambda step: 10.0**-step)
    for expected in (-1.0, -1.1, -1.11):
        optimizer.step([np.ones(1)])
        assert p._data[0] == pytest.approx(expected, rel=1e-15)


UPDATES = {
    "sgd": (kernels.sgd_update, 0, (None, A, WD, 0.0, False)),
    "momentum": (kernels.sgd_update, 1, (A, WD, 0.9, False)),
    "nesterov": (kernels.sgd_update, 1, (A, WD, 0.9, True)),
    "adagrad": (kernels.adagrad_update, 1, (A, 1e-3, WD)),
    "rmsprop": (kernels.rmsprop_update, 1, (None, None, A, 0.9, 1e-3, 0.0, WD)),
    "rmsprop-all": (kernels.rmsprop_update, 3, (A, 0.9, 1e-3, 0.9, WD)),
    "adam": (kernels.adam_update, 2, (A, 0.9, 0.999, 1.5, 1e-3, WD)),
    "adamax": (kernels.adamax_update, 2, (A, 0.9, 0.999, WD)),
    "adadelta": (kernels.adadelta_update, 2, (A, 0.95, 1e-3, WD)),
    "average": (kernels.average_update, 0, (0.999,)),
}


def arrays(count, n, dtype):
    rng = np.random.default_rng(n)
    p, g, *state = rng.standard_normal((2 + count, n)).astype(dtype)
    state = [np.abs(a) + dtype(0.1) for a in state]
    if count == 3:  # a mean that its mean of squares allows
        state[1] = np.sqrt(state[0]) / 2
    if n > 30:  # infinite when squared, and not a number
        g[17], p[20] = 2 * np.finfo(dtype).max ** 0.5, np.nan
    return [a.reshape(1, n) for a in (p, g, *state)]


# Without Numba the kernels are the twins themselves: the trajectories above are then what tests them.
if not numba.config.DISABLE_JIT:
    from minivi.kernels import jit

    @pytest.mark.parametrize("name", UPDATES)
    @pytest.mark.parametrize("n", [0, 1, 37, 40_001])
    @dtypes
    def test_kernel_and_twin(name, n, dtype):
        kernel, count, scalars = UPDATES[name]
        ours, theirs = arrays(count, n, dtype), arrays(count, n, dtype)
        kernel(*ours, *scalars)
        with np.errstate(all="ignore"):
            getattr(reference, kernel.__name__)(*theirs, *scalars)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=8 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)

    @pytest.mark.parametrize("n", [0, 1, 37, 40_001])
    @pytest.mark.parametrize("value", [1.0, np.finfo("float32").max, np.nan, np.inf, -np.inf])
    @dtypes
    def test_all_finite_and_twin(n, value, dtype):
        x = np.full(n, np.finfo(dtype).max)
        x[n // 2 : n // 2 + 1] = value
        assert kernels.all_finite(x) == reference.all_finite(x) == bool(np.isfinite(value) or n == 0)

    @pytest.mark.parametrize("name", UPDATES)
    @dtypes
    def test_any_number_of_threads_gives_the_same_bits(name, dtype):
        kernel, count, scalars = UPDATES[name]
        results, before = [], jit.get_threads()
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            jit.set_threads(threads)
            results.append(arrays(count, 50_003, dtype))
            kernel(*results[-1], *scalars)
        jit.set_threads(before)
        # One element after another, where nothing is vectorised, is one more way to split the work.
        singles = arrays(count, 50_003, dtype)
        for i in range(40):
            kernel(*[a[:, i : i + 1] for a in singles], *scalars)
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(a, b)
        for a, b in zip(results[0], singles, strict=True):
            np.testing.assert_array_equal(a[:, :40], b[:, :40])
