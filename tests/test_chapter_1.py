"""What chapter 1 trains with: the E step, both kinds of EM, early stopping's images; and how its grids are judged."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import study

from minivi import nn, optim
from minivi.distributions import Normal
from minivi.models import VAE
from minivi.random import Generator
from minivi.training import fit

PATTERNS = np.array([[int(c) for c in f"{i:04b}"] for i in range(16)], float)


@pytest.fixture(scope="module")
def chapter():
    return study("ch01_models")


def tiny(latents=1):
    return VAE(4, (3,), latents, rng=Generator(0), init=nn.normal(0.5), dtype="float64")


def test_e_step_finds_the_best_factorised_gaussian(chapter):
    """Linear-Gaussian model: the posterior's mean, and sigma_j^2 = 1 / precision_jj, in closed form."""
    w, sigma = Generator(1).standard_normal((2, 5)), 0.3
    model = SimpleNamespace(dtype=np.dtype("float64"), decode=lambda z: Normal(z @ w, np.full(5, np.log(sigma))))
    x = Generator(2).standard_normal((7, 5))
    precision = np.eye(2) + w @ w.T / sigma**2
    mean = np.linalg.solve(precision, w @ x.T / sigma**2).T
    start = np.zeros((7, 2))
    mu, log_sigma = chapter.climb(model, x, start, start, Generator(3), steps=150, samples=50)
    widths = 1 / np.sqrt(np.diag(precision))
    assert np.abs((mu - mean) / widths).max() < 0.15
    np.testing.assert_allclose(log_sigma, np.broadcast_to(np.log(widths), (7, 2)), atol=0.1)
    assert (start == 0).all()


def test_e_step_is_a_natural_gradient(chapter):
    """One step from q: the slope in mu in units of the Fisher information 1 / sigma^2, in log sigma of 2.

    In closed form for a linear-Gaussian model; mu's pairs of samples have no noise there.
    """
    w, sigma = Generator(1).standard_normal((2, 5)), 0.3
    model = SimpleNamespace(dtype=np.dtype("float64"), decode=lambda z: Normal(z @ w, np.full(5, np.log(sigma))))
    precision = np.eye(2) + w @ w.T / sigma**2
    x, s = Generator(2).standard_normal((1, 5)), 0.05
    mean = np.linalg.solve(precision, w @ x.T / sigma**2).T
    mu, log_sigma = mean + [[0.004, -0.002]], np.full((1, 2), np.log(s))
    found = chapter.climb(model, x, mu, log_sigma, Generator(3), steps=1, samples=20_000)
    slope = -(mu - mean) @ precision
    np.testing.assert_allclose(found[0] - mu, chapter.RATE * s**2 * slope, rtol=1e-8)
    expected = chapter.RATE / 2 * (1 - s**2 * np.diag(precision))
    np.testing.assert_allclose(found[1] - log_sigma, [expected], atol=0.02)


def test_local_bound_is_the_encoders_for_its_own_q(chapter):
    """The same q, the same noise: what the library calls elbo."""
    vae = tiny(2)
    q = vae.encode(PATTERNS)
    heads = np.asarray(q.mu), np.asarray(q.log_sigma)
    found = chapter.local_bound(vae, PATTERNS, *heads, Generator(4), 3)
    np.testing.assert_allclose(np.asarray(found), np.asarray(vae.elbo(PATTERNS, Generator(4), 3)), rtol=1e-12)
    eps = Generator(4).standard_normal((2, 16, 2))
    pairs = chapter.local_bound(vae, PATTERNS, *heads, Generator(4), 4)
    both = vae.elbo(PATTERNS, eps=np.concatenate([eps, -eps]))
    np.testing.assert_allclose(np.asarray(pairs), np.asarray(both), rtol=1e-12)


@pytest.mark.parametrize("name", ["VariationalEM", "MonteCarloEM"])
def test_one_minibatch_of_em(chapter, name):
    """Only its data's own state moves, only the decoder learns, and `fit` makes the fifth update."""
    em = getattr(chapter, name)(tiny(), 16, 0)
    optimizer = optim.Adam(em.vae.decoder.parameters(), 0.01)
    before = em.state_dict()
    rows = np.column_stack([PATTERNS, np.arange(16.0)])
    em.loss(optimizer)(rows[[3, 8, 11]], Generator(1))
    assert optimizer.steps == chapter.UPDATES - 1
    after = em.state_dict()
    for key in before:
        if key.startswith("vae."):
            assert (after[key] != before[key]).any() == key.startswith("vae.decoder")
        elif len(before[key]) == 16:
            moved = np.flatnonzero((after[key] != before[key]).any(axis=1))
            assert set(moved) <= {3, 8, 11} and len(moved) > 0


@pytest.mark.parametrize(("name", "short"), [("VariationalEM", 0.6), ("MonteCarloEM", 0.2)])
def test_em_climbs(chapter, name, short):
    """Data of two patterns, log p(x) = -2.8 at the start, and log 1/2 for the best model of them.

    Variational EM climbs a bound: no Gaussian is the posterior of such a model, and its steps are noisy here.
    """
    em = getattr(chapter, name)(tiny(), 16, 0)
    optimizer = optim.Adam(em.vae.decoder.parameters(), 0.05)
    rows = np.column_stack([PATTERNS[[3, 12] * 8], np.arange(16.0)])
    fit(em, em.loss(optimizer), optimizer, rows, epochs=60, batch_size=16, rng=Generator(2), progress=False)
    found = chapter.evaluation.log_likelihood_by_quadrature(em.vae, PATTERNS[[3, 12]], 400, 8.0).mean
    assert np.log(0.5) - short < found <= np.log(0.5)


def test_points_needed(chapter):
    """From there on all errors are small: one lucky grid does not count."""
    assert chapter.needed([5, 10, 20, 40], [1.0, 0.05, 0.2, 0.01]) == 40
    assert chapter.needed([5, 10, 20], [1.0, 0.05, 0.01]) == 10
    assert chapter.needed([5, 10], [1.0, 0.2]) is None


def test_held_out_images_are_no_training_images(chapter):
    """Early stopping's images."""
    for budget in chapter.CLASSIFIER.values():
        size = {"digits": 1500, "mnist": 60000}[budget["data"]]
        assert max(budget["counts"]) + budget["validation"] <= size
