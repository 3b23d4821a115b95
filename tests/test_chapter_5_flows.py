"""Chapter 5's flows: energies, targets, the accounts of Figure 5.2 against closed forms; how a posterior broadcasts."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import CHECKS, study
from numpy.testing import assert_allclose
from scipy import stats

from minivi.distributions import Normal
from minivi.flows import FlowPosterior
from minivi.random import Generator
from minivi.tensor import Tensor, grad

clusters, energies, scaling, shared = (
    study(f"ch05_flows.{name}") for name in ("clusters", "energies", "scaling", "_shared")
)
checks = study("ch05_flows", CHECKS)


def potential(name, z):
    """Rezende & Mohamed 2015, Table 1, with the wall beyond |z_1| = 4 of the last three."""
    z1, z2 = z.T
    w1 = np.sin(2 * np.pi * z1 / 4)
    w2 = 3 * np.exp(-0.5 * ((z1 - 1) / 0.6) ** 2)
    w3 = 3 / (1 + np.exp(-(z1 - 1) / 0.3))
    wall = 0.5 * (np.maximum(np.abs(z1) - 4, 0) / 0.4) ** 2
    well = lambda x, width: np.exp(-0.5 * (x / width) ** 2)
    if name == "U1":
        sides = well(z1 - 2, 0.6) + well(z1 + 2, 0.6)
        return 0.5 * ((np.linalg.norm(z, axis=1) - 2) / 0.4) ** 2 - np.log(sides)
    if name == "U2":
        return 0.5 * ((z2 - w1) / 0.4) ** 2 + wall
    second = well(z2 - w1 + w2, 0.35) if name == "U3" else well(z2 - w1 + w3, 0.35)
    return -np.log(well(z2 - w1, 0.35 if name == "U3" else 0.4) + second) + wall


@pytest.mark.parametrize("name", energies.ENERGIES)
def test_energies_and_their_slopes(name, rng):
    """The slope too: the sine has no primitive of its own."""
    z = Tensor(2.0 * rng.standard_normal((50, 2)) + [1.0, 0.0])
    log_p = energies.energy(name).log_p(z)
    assert_allclose(log_p, -potential(name, z.data), rtol=1e-10, atol=1e-12)
    step = 1e-6
    slopes = [
        -(potential(name, z.data + step * e) - potential(name, z.data - step * e)) / (2 * step) for e in np.eye(2)
    ]
    assert_allclose(grad(log_p.sum(), z), np.stack(slopes, 1), rtol=1e-5, atol=1e-6)


def test_normalizers():
    """Across a wave the energies are Gaussians, along it 8 and the wall's Gaussian tails; the ring in polar angles."""
    root = np.sqrt(2 * np.pi)
    for name, widths in (("U2", 0.4), ("U3", 0.35 + 0.35), ("U4", 0.4 + 0.35)):
        assert energies.energy(name).log_normalizer == pytest.approx(np.log(root * widths * (8 + 0.4 * root)), abs=1e-4)
    r, angle = np.linspace(0, 8, 1601), np.linspace(0, 2 * np.pi, 401)
    z = np.stack([r[:, None] * np.cos(angle), r[:, None] * np.sin(angle)], -1)
    p = np.exp(-potential("U1", z.reshape(-1, 2))).reshape(z.shape[:2]) * r[:, None]
    expected = np.trapezoid(np.trapezoid(p, angle), r)
    assert energies.energy("U1").log_normalizer == pytest.approx(np.log(expected), abs=1e-5)


@pytest.mark.parametrize("name", ["order", "rotation"])
@pytest.mark.parametrize("size", [2, 8])
def test_bananas_are_normalised(size, name):
    """Against SciPy at draws made the other way, and summed over a grid."""
    half, rng = size // 2, Generator(1)
    a = rng.standard_normal((20_000, half))
    b = a**2 - 1 + 0.5 * rng.standard_normal((20_000, half))
    turn = getattr(scaling, name)(size)
    target = scaling.bananas(size) if name == "order" else scaling.turned_bananas(size)
    assert_allclose(turn @ turn.T, np.eye(size), atol=1e-12)
    z = np.concatenate([a, b], axis=1) @ turn.T
    log_p = np.asarray(target.log_p(z))
    expected = stats.norm.logpdf(a).sum(1) + stats.norm.logpdf(b, a**2 - 1, 0.5).sum(1)
    assert_allclose(log_p, expected, rtol=1e-10)
    if size == 2:
        points, cell = energies.grid(24.0, 961)
        assert np.exp(np.asarray(target.log_p(points))).sum() * cell == pytest.approx(1.0, abs=1e-4)


def test_correlated_gaussian_and_its_best_factorized_fit():
    """Against SciPy's density; the gap against the KL divergence of the fit, smaller than that of others near it."""
    size = 5
    target, sigma = scaling.correlated(size), np.geomspace(0.1, 1, size)
    turn = scaling.rotation(size)
    covariance = turn @ np.diag(sigma**2) @ turn.T
    z = Generator(2).standard_normal((6, size))
    assert_allclose(target.log_p(z), stats.multivariate_normal(np.zeros(size), covariance).logpdf(z), rtol=1e-10)
    precision = np.linalg.inv(covariance)

    def kl(variance):
        trace = np.sum(np.diag(precision) * variance)
        return 0.5 * (trace - size + np.linalg.slogdet(covariance)[1] - np.sum(np.log(variance)))

    best = 1 / np.diag(precision)
    assert target.factorized == pytest.approx(kl(best), rel=1e-10)
    others = [kl(best * np.exp(0.1 * Generator([3, i]).standard_normal(size))) for i in range(20)]
    assert min(others) > target.factorized > 0


def test_equal_time():
    costs = {"planar": 4.0, "NICE": 2.0, "IAF": 8.0, shared.GAUSSIAN: 1.0}
    assert [shared.epochs_in_time(costs, 10, kind) for kind in costs] == [20, 40, 10, 80]


@pytest.mark.parametrize("kind", shared.FLOWS)
def test_flows_of_one_depth(kind):
    """As many steps as asked for; all start at the identity, except IAF, whose gate is not quite open."""
    flow = shared.make_flow(kind, 4, 3, 8, Generator(0), dtype="float64")
    z = Generator(4).standard_normal((6, 4))
    image = np.asarray(flow.forward(z)[0])
    if kind != "IAF":
        assert_allclose(image, z, atol=1e-12)
        assert len(flow.flows) == 3 + (kind == "NICE")
    moved = np.abs(np.asarray(checks.moved(flow).forward(z)[0]) - image)
    assert (moved.max(axis=0) > 1e-3).all(), "some dimension is never moved"


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("kind", shared.FLOWS)
def test_flows_start_from_the_gaussian(kind, depth):
    """The first draws have its moments, whatever a flow does at first; IAF with its random networks silenced."""
    gaussian = shared.Approximation(3, shared.make_flow(shared.GAUSSIAN, 3, 0, 8, Generator(0)), "float64")
    gaussian.mu.assign(np.array([0.5, -1.0, 2.0]))
    gaussian.log_sigma.assign(np.array([-1.0, 0.0, 0.5]))
    q = shared.Approximation(3, shared.make_flow(kind, 3, depth, 8, Generator(0), dtype="float64"), "float64")
    if kind == "IAF":
        for p in q.flow.parameters():
            p.assign(np.zeros(p.shape))
    shared.start_from(q, gaussian, kind, depth)
    z = Generator(6).standard_normal((5, 3))
    assert_allclose(q.q.log_prob(z), gaussian.q.log_prob(z), rtol=1e-9)


@pytest.mark.parametrize("kind", ["Gaussian", "IAF"])
def test_accounts_of_figure_5_2(kind):
    """Bound = -log 4 - KL(q(z) || p(z)) - E KL(q(x | z) || p(x | z)), sampled against the grid, for any parameters."""
    s = SimpleNamespace(hidden=8, context=4, depth=2, width=8)
    model = clusters.toy(s, kind, 0)
    checks.moved(model.encoder, 1, 0.3)
    if model.flow is not None:
        checks.moved(model.flow, 2, 0.1)
    found = clusters.toy_measures(model, 20_000, edge=9.0, points=181)
    assert found.mass == pytest.approx(1.0, abs=1e-3)
    assert found.prior > 0 and found.decoder > 0
    assert found.bound == pytest.approx(-np.log(4) - found.prior - found.decoder, abs=5 * found.error + 1e-3)


@pytest.mark.parametrize("kind", shared.FLOWS)
def test_log_prob_broadcasts_as_a_gaussian_does(kind):
    """Points (K, 1, J) against data (B, J): each point for each datum."""
    rng = Generator(5)
    flow = checks.shaken(kind, 3, 2, context=2)
    mu, log_sigma, h = rng.standard_normal((4, 3)), 0.3 * rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    q, z = FlowPosterior(Normal(mu, log_sigma), flow, h), rng.standard_normal((6, 1, 3))
    found = np.asarray(q.log_prob(z))
    assert found.shape == (6, 4)
    for n in range(4):
        one = FlowPosterior(Normal(mu[n], log_sigma[n]), flow, h[n])
        assert_allclose(found[:, n], one.log_prob(z[:, 0]), rtol=1e-9)
