"""Hamiltonian Monte Carlo: what the leapfrog map keeps, stationarity within standard errors, adaptation, AIS."""

import numpy as np
import pytest

from minivi import bounds, mcmc, ops
from minivi.random import Generator
from minivi.tensor import Tensor

COVARIANCE = np.array([[1.0, 0.6, -0.3], [0.6, 2.0, 0.2], [-0.3, 0.2, 0.5]])
MEAN = np.array([0.5, -1.0, 2.0])


def gaussian(z):
    """Correlated, without its constant."""
    centred = z - MEAN
    return -0.5 * (ops.matmul(centred, np.linalg.inv(COVARIANCE)) * centred).sum(axis=-1)


def banana(z):
    """Not Gaussian, with gradients that differ from place to place."""
    return -0.5 * (z[..., 0] ** 2 + (z[..., 1] - z[..., 0] ** 2) ** 2) - 0.1 * z[..., 0] ** 4


def energy(log_prob, z, momentum):
    return -np.asarray(log_prob(Tensor(z))) + 0.5 * (momentum**2).sum(-1)


def run(log_prob, z, rng, step_size, transitions, leapfrog_steps=10):
    """States (transitions, chains, J), and the transitions' mean acceptance."""
    states, acceptance = [], []
    for _ in range(transitions):
        move = mcmc.hmc(log_prob, z, rng, step_size, leapfrog_steps)
        z = move.z
        states.append(z)
        acceptance.append(move.acceptance.mean())
    return np.array(states), np.mean(acceptance)


def z_score(values, expected):
    """(mean - expected) in standard errors, from the spread over chains: right whatever a chain's autocorrelation.

    Args:
        values: (transitions, chains, ...), of independent chains.
        expected: (...).
    """
    means = values.mean(axis=0)
    return (means.mean(axis=0) - expected) / (means.std(axis=0, ddof=1) / np.sqrt(len(means)))


def worst_moment(states, mean=MEAN, covariance=COVARIANCE):
    """The largest deviation of means, variances and covariances, in standard errors."""
    centred = states - mean
    second = centred[..., :, None] * centred[..., None, :]
    return max(np.abs(z_score(states, mean)).max(), np.abs(z_score(second, covariance)).max())


@pytest.mark.parametrize(("log_prob", "latents"), [(gaussian, 3), (banana, 2)])
def test_energy_error_is_of_order_two(log_prob, latents, rng):
    """Over a fixed time, halving the step divides the error by four."""
    z, momentum = rng.standard_normal((20, latents)), rng.standard_normal((20, latents))
    steps, errors = np.array([16, 32, 64, 128]), []
    for n in steps:
        end, final, _, _ = mcmc.leapfrog(log_prob, z, momentum, 1.6 / n, n)
        errors.append(np.abs(energy(log_prob, end, final) - energy(log_prob, z, momentum)).mean())
    slope = np.polyfit(np.log(1.6 / steps), np.log(errors), 1)[0]
    assert abs(slope - 2.0) < 0.05
    assert errors[0] > 1e-4


def test_leapfrog_returns_its_energies(rng):
    z, momentum = rng.standard_normal((2, 5, 2)), rng.standard_normal((2, 5, 2))
    end, _, before, after = mcmc.leapfrog(banana, z, momentum, 0.1, 3)
    assert before.dtype == np.float64
    np.testing.assert_array_equal(before, banana(Tensor(z)))
    np.testing.assert_array_equal(after, banana(Tensor(end)))


def test_leapfrog_by_hand():
    """One step on log p = -z^2 / 2: half a kick, a drift, half a kick."""
    z, m, h = np.array([[0.7]]), np.array([[-0.4]]), 0.3
    end, final, _, _ = mcmc.leapfrog(lambda z: -0.5 * (z**2).sum(axis=-1), z, m, h, 1)
    half = -0.4 - 0.15 * 0.7
    np.testing.assert_allclose(end, [[0.7 + 0.3 * half]], rtol=1e-15)
    np.testing.assert_allclose(final, half - 0.15 * end, rtol=1e-15)


def test_reversible(rng):
    """With the momentum flipped it comes back, to rounding."""
    z, momentum = rng.standard_normal((10, 2)), rng.standard_normal((10, 2))
    end, final, _, _ = mcmc.leapfrog(banana, z, momentum, 0.2, 25)
    back, start, _, _ = mcmc.leapfrog(banana, end, -final, 0.2, 25)
    assert np.abs(end - z).max() > 0.5
    np.testing.assert_allclose(back, z, atol=1e-12)
    np.testing.assert_allclose(-start, momentum, atol=1e-12)


def test_volume_is_preserved():
    """The Jacobian of (z, momentum) by central differences has determinant 1, at a step size far from exact."""
    point, h = np.array([0.8, -0.3, 0.5, 1.1]), 1e-5

    def flow(rows):
        end, final, _, _ = mcmc.leapfrog(banana, rows[:, :2], rows[:, 2:], 0.3, 7)
        return np.concatenate([end, final], axis=1)

    nudges = h * np.eye(4)
    jacobian = (flow(point + nudges) - flow(point - nudges)) / (2 * h)
    assert abs(np.linalg.det(jacobian) - 1.0) < 1e-7
    assert np.abs(jacobian - np.eye(4)).max() > 0.5


@pytest.mark.parametrize(("step_size", "steps"), [(0.12, 10), (0.7, 3)])
def test_stationary_on_a_correlated_gaussian(step_size, steps):
    """400 chains of 60 transitions from exact draws keep mean, variances and covariances; the second accepts less."""
    rng = Generator(1)
    start = MEAN + rng.standard_normal((400, 3)) @ np.linalg.cholesky(COVARIANCE).T
    states, acceptance = run(gaussian, start, rng, step_size, 60, steps)
    assert worst_moment(states) < 4.0
    assert (acceptance > 0.95) if step_size < 0.2 else (0.3 < acceptance < 0.9)


def test_converges_from_afar():
    """Chains that start at a wrong place forget it."""
    states, _ = run(gaussian, np.full((300, 3), 4.0), Generator(2), 0.25, 100)
    assert worst_moment(states[20:]) < 4.0
    assert worst_moment(states[:3]) > 10.0


def test_without_the_decision_it_is_biased():
    """The same trajectories all accepted: the tests above can fail."""
    rng = Generator(3)
    z = MEAN + rng.standard_normal((400, 3)) @ np.linalg.cholesky(COVARIANCE).T
    states = []
    for _ in range(60):
        z = mcmc.leapfrog(gaussian, z, rng.standard_normal(z.shape), 0.7, 3)[0]
        states.append(z)
    assert worst_moment(np.array(states)) > 8.0


def test_a_non_gaussian_target_against_quadrature():
    """A skewed two-humped density: first, second and third moments, and the mass of the left hump."""

    def log_prob(z):
        z = z[..., 0]
        return -(((z**2 - 1.5) * 0.8) ** 2) + 0.4 * z

    grid = np.linspace(-5, 5, 4001)
    density = np.exp(np.asarray(log_prob(Tensor(grid[:, None]))))
    density /= density.sum()
    states, _ = run(log_prob, Generator(4).standard_normal((500, 1)), Generator(5), 0.35, 130)
    z = states[30:, :, 0]
    for f in (lambda z: z, np.square, lambda z: z**3, lambda z: z < 0.0):
        assert abs(z_score(f(z), np.sum(f(grid) * density))) < 4.0


def test_acceptance_probability_is_that_of_the_energy(rng):
    """Recomputed with the same random numbers, by hand; and it is a probability for each chain."""
    z = rng.standard_normal((50, 2))
    move = mcmc.hmc(banana, z, Generator(6), 0.8, 4)
    again = Generator(6)
    momentum = again.standard_normal((50, 2))
    end, final, _, _ = mcmc.leapfrog(banana, z, momentum, 0.8, 4)
    error = energy(banana, end, final) - energy(banana, z, momentum)
    np.testing.assert_allclose(move.acceptance, np.minimum(1.0, np.exp(-error)) * (error < 1000), rtol=1e-10)
    decided = again.random(50) < move.acceptance
    np.testing.assert_array_equal(move.accepted, decided)
    np.testing.assert_array_equal(move.z, np.where(decided[:, None], end, z))
    assert decided.any() and not decided.all()


@pytest.mark.parametrize("target", [0.65, 0.9])
def test_dual_averaging_reaches_its_target(target):
    """From a step size a hundred times too small or too large, on a Gaussian of ten dimensions."""
    precision = np.linspace(0.5, 4.0, 10)

    def log_prob(z):
        return -0.5 * (z * z * precision).sum(axis=-1)

    for first in (0.005, 20.0):
        rng, adapt = Generator(7), mcmc.DualAveraging(first, target)
        z = rng.standard_normal((50, 10))
        for _ in range(300):
            move = mcmc.hmc(log_prob, z, rng, adapt.step_size)
            z = move.z
            adapt.update(move.acceptance)
        _, acceptance = run(log_prob, z, rng, adapt.average, 40)
        assert abs(acceptance - target) < 0.05


def test_dual_averaging_against_the_paper(rng):
    """The recursion of algorithm 5, transcribed; and its state goes through a checkpoint."""
    adapt, twin = mcmc.DualAveraging(0.3, 0.8), mcmc.DualAveraging(0.3, 0.8)
    mu, gap, log_average = np.log(3.0), 0.0, 0.0
    for m in range(1, 30):
        alpha = rng.random()
        gap = (1 - 1 / (m + 10)) * gap + (0.8 - alpha) / (m + 10)
        log_step = mu - np.sqrt(m) / 0.05 * gap
        log_average = m**-0.75 * log_step + (1 - m**-0.75) * log_average
        adapt.update(alpha)
        np.testing.assert_allclose([adapt.step_size, adapt.average], np.exp([log_step, log_average]), rtol=1e-12)
    twin.state = adapt.state
    assert twin.update(0.4) == adapt.update(0.4) and twin.average == adapt.average


def test_divergences_are_rejected_and_reported(rng):
    """An absurd step size: energy errors far above the threshold, or not finite; the state stays."""

    def steep(z):
        return -(z**4).sum(axis=-1)

    z = rng.standard_normal((8, 2))
    for step_size in (3.0, 1e8):
        move = mcmc.hmc(steep, z, Generator(8), step_size)
        assert move.divergent.all() and not move.accepted.any() and (move.acceptance == 0).all()
        np.testing.assert_array_equal(move.z, z)
    assert not mcmc.hmc(steep, z, Generator(8), 0.01).divergent.any()
    mild = mcmc.hmc(steep, z, Generator(8), 0.6, 2, max_energy_error=1e9).acceptance
    strict = mcmc.hmc(steep, z, Generator(8), 0.6, 2, max_energy_error=1e-9)
    np.testing.assert_array_equal(strict.divergent, mild < np.exp(-1e-9))


def test_an_infinite_density_is_no_proposal():
    """+inf at the end would be accepted by the rule alone."""
    hole = mcmc.hmc(lambda z: -ops.log(ops.maximum(z[..., 0], 0.0)), np.array([[1e-3]]), Generator(1), 5.0, 1)
    assert hole.divergent.all() and hole.z.item() == 1e-3


def test_chains_are_independent():
    """What one chain's neighbours do, diverge even, changes nothing for it; and each decides on its own."""
    z = Generator(9).standard_normal((6, 2))
    spoiled = z.copy()
    spoiled[3] = [30.0, -900.0]
    one, two = (mcmc.hmc(banana, start, Generator(10), 0.3) for start in (z, spoiled))
    others = [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(one.z[others], two.z[others])
    assert two.divergent.tolist() == [False] * 3 + [True] + [False] * 2
    states, _ = run(gaussian, np.tile(MEAN, (400, 1)), Generator(11), 0.4, 12)
    last = states[-1] - MEAN
    assert abs(np.mean(last[::2, 0] * last[1::2, 0])) < 4 / np.sqrt(200)


def test_float32_keeps_its_dtype_and_counts_energy_in_float64(rng):
    z = rng.standard_normal((4, 3)).astype("float32")
    move = mcmc.hmc(lambda z: -0.5 * (z * z).sum(axis=-1), z, Generator(12), 0.1)
    assert move.z.dtype == np.float32 and move.acceptance.dtype == np.float64
    assert (move.acceptance > 0.99).all()


def test_ais_estimates_the_normaliser():
    """Prior N(0, I), likelihood N(x; z, s^2): log p(x) = log N(x; 0, 1 + s^2); few temperatures, coarse steps."""
    x, s, chains = np.array([[1.5, -0.5], [3.0, 0.2]]), 0.5, 1500

    def log_likelihood(z):
        return ops.gaussian_log_prob(x, z, np.full(2, np.log(s)))

    exact = -0.5 * (x**2 / (1 + s**2) + np.log(2 * np.pi * (1 + s**2))).sum(-1)
    rng = Generator(13)
    log_w, acceptance = mcmc.ais(
        log_likelihood, rng.standard_normal((chains, 2, 2)), rng, np.linspace(0, 1, 13) ** 2, 0.4, 3
    )
    w = np.exp(log_w - exact)
    assert log_w.shape == (chains, 2) and acceptance.shape == (12,)
    assert (np.abs(w.mean(0) - 1) < 4 * w.std(0) / np.sqrt(chains)).all()
    assert (w.std(0) < 2.0).all()  # plain importance sampling from the prior has 3.3 for the second
    np.testing.assert_allclose(bounds.iwae(log_w), exact, atol=0.25)


NORMAL = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mcmc.hmc(gaussian, NORMAL, Generator(0), 0.0), "step_size must be positive; got 0.0"),
        (lambda: mcmc.hmc(gaussian, NORMAL, Generator(0), np.nan), "step_size must be a finite number; got nan"),
        (lambda: mcmc.hmc(gaussian, NORMAL, Generator(0), 0.1, 0), "steps must be an integer, at least 1; got 0"),
        (lambda: mcmc.hmc(lambda z: z.sum(), NORMAL, Generator(0), 0.1), r"shape \(\) for z of shape \(2, 3\)"),
        (lambda: mcmc.hmc(lambda z: np.zeros(2), NORMAL, Generator(0), 0.1), "ndarray for z .* return a Tensor"),
        (lambda: mcmc.leapfrog(gaussian, NORMAL, np.zeros(3), 0.1, 1), r"momentum \(3,\); both must be the same"),
        (
            lambda: mcmc.hmc(lambda z: ops.log(z[..., 0]), np.array([[1.0], [-1.0]]), Generator(0), 0.1),
            r"log_prob is nan at chain \(1,\); start where the density is positive",
        ),
        (lambda: mcmc.DualAveraging(-1.0), "DualAveraging: step_size must be positive; got -1.0"),
        (lambda: mcmc.DualAveraging(1.0, 1.0), "target must lie in"),
        (lambda: mcmc.DualAveraging(1.0).update(np.nan), "acceptance of shape .* has nan"),
        (lambda: mcmc.ais(gaussian, NORMAL, Generator(0), [0.0, 0.5], 0.1), "must rise from 0 to 1"),
        (lambda: mcmc.ais(gaussian, NORMAL, Generator(0), [0.0, 0.6, 0.5, 1.0], 0.1), "must rise from 0 to 1"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
