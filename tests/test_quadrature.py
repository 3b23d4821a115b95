"""log p(x) by a grid over the latents: against closed forms, dense sums and the sampling estimators."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from minivi import evaluation, mcmc, nn
from minivi.distributions import Normal
from minivi.evaluation import log_likelihood_by_quadrature as quadrature
from minivi.models import VAE
from minivi.random import Generator

PATTERNS = np.array([[int(c) for c in f"{i:04b}"] for i in range(16)], float)


def tiny(latents=1, likelihood="bernoulli", scale=1.5):
    return VAE(4, (3,), latents, likelihood, rng=Generator(latents), init=nn.normal(scale), dtype="float64")


def linear_gaussian(latents, rng, sigma=0.6):
    """p(x | z) = N(W z + b, sigma^2 I) with its exact marginal N(b, W W^T + sigma^2 I)."""
    w, b = rng.standard_normal((5, latents)), rng.standard_normal(5)
    model = SimpleNamespace(
        latents=latents, dtype=np.dtype("float64"), decode=lambda z: Normal(z @ w.T + b, np.full(5, np.log(sigma)))
    )
    return model, stats.multivariate_normal(b, w @ w.T + sigma**2 * np.eye(5))


@pytest.mark.parametrize(("latents", "points"), [(1, 60), (2, 60), (3, 40)])
def test_linear_gaussian_is_exact(latents, points, rng):
    """Constants, prior, spacing and the ends' weights: all are in the marginal's density."""
    model, marginal = linear_gaussian(latents, rng)
    x = marginal.rvs(6, random_state=1)
    found = quadrature(model, x, points, 6.0)
    np.testing.assert_allclose(found.values, marginal.logpdf(x), atol=2e-6)
    assert found.mean == found.values.mean() and found.noise == 0.0
    assert found.standard_error == pytest.approx(found.values.std(ddof=1) / np.sqrt(6))


@pytest.mark.parametrize("latents", [1, 2, 3])
def test_probabilities_of_all_patterns_sum_to_one(latents):
    values = quadrature(tiny(latents), PATTERNS, 30, 6.0).values
    np.testing.assert_allclose(np.exp(values).sum(), 1.0, rtol=1e-7)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_against_a_dense_sum(likelihood, rng):
    """Probabilities written out, not from logits; every term at once."""
    vae = tiny(2, likelihood)
    x = PATTERNS if likelihood == "bernoulli" else rng.random((7, 4))
    axis = np.linspace(-5, 5, 25)
    z = np.stack([a.ravel() for a in np.meshgrid(axis, axis)], axis=1)
    p = vae.mean_image(z)[:, None]
    if likelihood == "bernoulli":
        px_z = np.prod(np.where(x == 1, p, 1 - p), axis=-1)
    else:
        sigma = np.exp(np.asarray(vae.decode(z).log_sigma))[:, None]
        px_z = np.prod(stats.norm.pdf(x, p, sigma), axis=-1)
    weights = np.ones(25)
    weights[[0, -1]] = 0.5
    weights = np.outer(weights, weights).ravel() * (axis[1] - axis[0]) ** 2 * stats.norm.pdf(z).prod(-1)
    np.testing.assert_allclose(quadrature(vae, x, 25).values, np.log(weights @ px_z), rtol=1e-11)


def test_the_ends_have_half_weight():
    """Two points and a decoder that ignores z: the trapezoid over [-1, 1] is N(1) + N(-1)."""
    vae = VAE(4, (3,), 1, rng=Generator(0), init=nn.normal(0.0), dtype="float64")
    expected = np.log(2 * stats.norm.pdf(1.0)) + 4 * np.log(0.5)
    np.testing.assert_allclose(quadrature(vae, PATTERNS, 2, 1.0).values, expected, rtol=1e-12)


def test_converges_in_points(rng):
    """Faster than any power: the error falls by far more than 4 (what order two gives) for each halving."""
    model, marginal = linear_gaussian(1, rng, sigma=0.5)
    x = marginal.rvs(20, random_state=2)
    errors = [np.abs(quadrature(model, x, n, 7.0).values - marginal.logpdf(x)).max() for n in (15, 29, 57)]
    assert errors[0] > 0.01 and errors[1] < errors[0] / 20 and errors[2] < 1e-8


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_chunks_do_not_matter(monkeypatch, likelihood):
    vae = tiny(3, likelihood)
    whole = quadrature(vae, PATTERNS, 11).values
    monkeypatch.setattr(evaluation, "CHUNK", 16 * 4 * 4 * 7)
    np.testing.assert_allclose(quadrature(vae, PATTERNS, 11, progress=True).values, whole, rtol=1e-12)


def test_memory_is_bounded(monkeypatch):
    """Of a few chunks, whatever the grid."""
    import tracemalloc

    monkeypatch.setattr(evaluation, "CHUNK", 1024 * 1024)
    vae, x = VAE(100, (5,), 2, rng=Generator(0)), np.zeros((50, 100), "float32")
    quadrature(vae, x, 3)
    peaks = []
    for points in (60, 150):
        tracemalloc.start()
        quadrature(vae, x, points)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 5 * 4 * evaluation.CHUNK


def test_float32_agrees_with_float64():
    vae = VAE(50, (8,), 2, rng=Generator(3), init=nn.normal(1.0))
    x = (Generator(4).random((9, 50)) < 0.3).astype("float32")
    np.testing.assert_allclose(
        quadrature(vae, x, 40).values, quadrature(vae.astype("float64"), x, 40).values, atol=1e-4
    )


def test_sampling_estimators_agree():
    """Importance sampling from the encoder, and annealing from the prior without it."""
    vae = tiny(2, scale=0.5)  # an encoder that strays far from the posterior needs too many samples
    exact = quadrature(vae, PATTERNS).mean
    sampled = evaluation.log_likelihood(vae, PATTERNS, Generator(5), 4000)
    assert abs(sampled.mean - exact) < 4 * sampled.noise < 0.05
    rng = Generator(6)
    log_w, _ = mcmc.ais(
        lambda z: vae.decode(z).log_prob(PATTERNS), rng.standard_normal((300, 16, 2)), rng, np.linspace(0, 1, 9), 0.5, 3
    )
    annealed = evaluation.from_log_weights(log_w)
    assert abs(annealed.mean - exact) < 4 * annealed.noise < 0.1
    w = np.exp(log_w)
    np.testing.assert_allclose(annealed.values, np.log(w.mean(0)), rtol=1e-12)
    noise = np.sqrt(np.sum((w.std(0) / w.mean(0)) ** 2 / 300)) / 16  # the delta method, which serves even weights
    assert annealed.noise == pytest.approx(noise, rel=0.01)


def test_points_of_probability_zero():
    """p(x | z) = 0 for the first points of the grid, all of a first chunk and of a whole datum."""
    model = SimpleNamespace(
        latents=1, dtype=np.dtype("float64"),
        decode=lambda z: SimpleNamespace(log_prob=lambda x: np.where(z[..., 0] > x[:, 0], 0.0, -np.inf)),
    )  # fmt: skip
    x = np.array([[0.0], [1.0], [9.0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "CHUNK", 4 * 3 * 10)
        found = quadrature(model, x, points=4001).values
    np.testing.assert_allclose(found, [np.log(0.5), np.log(stats.norm.sf(1.0)), -np.inf], atol=3e-3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: quadrature(tiny(4), PATTERNS), "a grid over 4 latents is too large; use log_likelihood or mcmc.ais"),
        (lambda: quadrature(tiny(), PATTERNS[:0]), "no data; pass at least one row"),
        (lambda: quadrature(tiny(), PATTERNS, 1), "points must be an integer, at least 2; got 1"),
        (lambda: quadrature(tiny(), PATTERNS, 10, -1.0), "limit must be positive"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()
