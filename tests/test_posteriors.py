"""The full-covariance posterior (thesis section 2.6.1) against SciPy's density, integrals and the diagonal model."""

import numpy as np
import pytest
from scipy import stats

from minivi import evaluation, nn
from minivi.distributions import MultivariateNormal, Normal
from minivi.estimators import wake_sleep
from minivi.gradcheck import gradcheck
from minivi.models import VAE
from minivi.random import Generator

PATTERNS = np.array([[int(c) for c in f"{i:03b}"] for i in range(8)], float)


def tiny(latents=2, posterior="full", seed=0, dtype="float64"):
    vae = VAE(3, (4,), latents, posterior=posterior, rng=Generator(seed), init=nn.normal(0.7), dtype=dtype)
    last = vae.encoder.layers[-1].weight
    last.assign(0.7 * Generator([seed, 1]).standard_normal(last.shape))  # a full posterior starts without correlations
    return vae


@pytest.fixture
def q(rng):
    return MultivariateNormal(
        rng.standard_normal((3, 4)), 0.4 * rng.standard_normal((3, 4)), rng.standard_normal((3, 6))
    )


def lower_triangle(q, b):
    """L of datum ``b``, entry by entry as eq. 2.54 has it."""
    size = q.mu.shape[-1]
    matrix, packed = np.diag(np.exp(q.log_sigma[b])), iter(q.lower[b])
    for i in range(size):
        for j in range(i):
            matrix[i, j] = next(packed)
    return matrix


def scipy_of(q, b):
    matrix = lower_triangle(q, b)
    return stats.multivariate_normal(q.mu[b], matrix @ matrix.T)


def test_sample_and_densities_against_scipy(q, rng):
    eps = rng.standard_normal((5, 3, 4))
    z = q.rsample(eps)
    x = rng.standard_normal((5, 3, 4))
    for b in range(3):
        matrix = lower_triangle(q, b)
        np.testing.assert_allclose(q.scale[b], matrix, rtol=1e-14)
        np.testing.assert_allclose(z[:, b], q.mu[b] + eps[:, b] @ matrix.T, rtol=1e-12)
        np.testing.assert_allclose(q.log_prob_of_noise(eps)[:, b], scipy_of(q, b).logpdf(z[:, b]), rtol=1e-11)
        np.testing.assert_allclose(q.log_prob(x)[:, b], scipy_of(q, b).logpdf(x[:, b]), rtol=1e-9)
        np.testing.assert_allclose(q.entropy()[b], scipy_of(q, b).entropy(), rtol=1e-12)


def test_kl_in_closed_form_and_by_sampling(q):
    """The textbook's form with trace and determinant; Monte Carlo within 4 standard errors."""
    z = q.sample(Generator(0), (40_000,))
    log_ratio = np.asarray(q.log_prob(z)) - stats.norm.logpdf(z).sum(-1)
    for b in range(3):
        sigma = scipy_of(q, b).cov
        closed = 0.5 * (np.trace(sigma) + q.mu[b] @ q.mu[b] - 4 - np.linalg.slogdet(sigma)[1])
        np.testing.assert_allclose(q.kl()[b], closed, rtol=1e-12)
        assert abs(log_ratio[:, b].mean() - closed) < 4 * log_ratio[:, b].std() / 200


def test_kl_of_each_latent(q, rng):
    """The chain rule's terms: q(z_j | z_<j) = N(mu_j + sum_k L_jk eps_k, sigma_j^2), averaged over eps by sampling."""
    np.testing.assert_allclose(np.sum(q.kl_per_dimension(), -1), q.kl(), rtol=1e-12)
    eps = rng.standard_normal((40_000, 4))
    matrix = lower_triangle(q, 1)
    mean, sigma = q.mu[1] + eps @ np.tril(matrix, -1).T, np.diag(matrix)
    each = 0.5 * (mean**2 + sigma**2 - 1) - np.log(sigma)
    error = each.std(0) / 200 + 1e-12
    assert np.abs((each.mean(0) - q.kl_per_dimension()[1]) / error).max() < 4
    diagonal = Normal(q.mu, q.log_sigma)
    z = np.linspace(-25, 25, 8001)[:, None, None]
    a, b = stats.norm.logpdf(z, q.mu, np.exp(q.log_sigma)), stats.norm.logpdf(z)
    integral = np.sum(np.exp(a) * (a - b), axis=0) * (z[1] - z[0])[0]
    np.testing.assert_allclose(diagonal.kl_per_dimension(), integral, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(np.sum(diagonal.kl_per_dimension(), -1), diagonal.kl(), rtol=1e-12)


def test_sample_reproduces_the_covariance(q):
    z = q.sample(Generator(1), (40_000,))
    assert z.shape == (40_000, 3, 4)
    for b in range(3):
        sigma = scipy_of(q, b).cov
        error = np.sqrt((np.outer(np.diag(sigma), np.diag(sigma)) + sigma**2) / 40_000)
        assert np.abs((np.cov(z[:, b].T) - sigma) / error).max() < 4.5


@pytest.mark.parametrize(
    "function",
    [
        lambda q, z: q.rsample(z),
        lambda q, z: q.log_prob(z),
        lambda q, z: q.kl() + 0.0 * z.sum(),
        lambda q, z: q.kl_per_dimension() + 0.0 * z.sum(),
    ],
)
def test_gradients(function, rng):
    shapes = (3, 4), (3, 4), (3, 6), (2, 3, 4)
    report = gradcheck(
        lambda mu, log_sigma, lower, z: function(MultivariateNormal(mu, log_sigma, lower), z),
        *(0.5 * rng.standard_normal(s) for s in shapes), coordinates=10,
    )  # fmt: skip
    assert not [row for row in report.rows if row.verdict == "WRONG"], str(report)
    assert any(row.verdict == "ok" for row in report.rows)


@pytest.mark.parametrize("estimator", ["A", "B"])
def test_gradient_of_the_whole_bound(estimator, rng):
    vae, eps = tiny(3), rng.standard_normal((2, 8, 3))
    report = gradcheck(lambda: vae.elbo(PATTERNS, estimator=estimator, eps=eps).mean(), parameters=vae, coordinates=40)
    assert report.ok, str(report)


def test_terms_and_bounds_by_integration(rng):
    """Two latents on a grid of noise: both estimators' expectation, and log p(x), by integrals over z."""
    vae = tiny()
    grid = np.linspace(-20, 20, 141)  # of noise: far enough for z to cover the prior where sigma is small
    step = grid[1] - grid[0]
    eps = np.stack([a.ravel() for a in np.meshgrid(grid, grid)], -1)
    weights = stats.norm.pdf(eps).prod(-1) * step**2
    noise = np.broadcast_to(eps[:, None], (len(eps), 8, 2))
    terms = vae.terms(PATTERNS, eps=noise)
    for b in range(8):
        z, matrix = np.asarray(terms.z)[:, b], terms.q.scale[b]
        density = stats.multivariate_normal(np.asarray(terms.q.mu)[b], matrix @ matrix.T)
        np.testing.assert_allclose(np.asarray(terms.log_qz_x)[:, b], density.logpdf(z), rtol=1e-9)
    a = weights @ np.asarray(terms.log_w)
    b = weights @ np.asarray(terms.log_px_z) - np.asarray(terms.q.kl())
    np.testing.assert_allclose(a, b, rtol=1e-8)
    log_px_grid = np.asarray(vae.decode(noise[:, :1]).log_prob(PATTERNS))  # the same grid, now over z
    log_px = np.log(weights @ np.exp(log_px_grid))
    np.testing.assert_allclose(np.log(weights @ np.exp(np.asarray(terms.log_w))), log_px, rtol=1e-5)
    assert (a < log_px).all()
    found = evaluation.log_likelihood(vae, PATTERNS, Generator(0), 5000)
    assert abs(found.mean - log_px.mean()) < 4 * found.noise


def test_starts_as_a_diagonal_posterior():
    q = VAE(3, (4,), 3, posterior="full", rng=Generator(0)).encode(np.eye(3, dtype="float32"))
    assert not np.asarray(q.lower).any() and np.asarray(q.mu).any() and np.asarray(q.log_sigma).any()


def test_equals_the_diagonal_model_without_off_diagonals(rng):
    full, diagonal = tiny(3, dtype="float32"), tiny(3, "diagonal", dtype="float32")
    state = full.state_dict()
    for name in ("encoder.layers.1.weight", "encoder.layers.1.bias"):
        state[name][..., 6:] = 0.0
    full.load_state_dict(state)
    for name in ("encoder.layers.1.weight", "encoder.layers.1.bias"):
        state[name] = state[name][..., :6].copy()
    diagonal.load_state_dict(state)
    x = PATTERNS.astype("float32")
    eps = rng.standard_normal((4, 8, 3)).astype("float32")
    for method in (VAE.elbo, VAE.log_weights):
        np.testing.assert_allclose(method(full, x, eps=eps), method(diagonal, x, eps=eps), rtol=1e-5)
    np.testing.assert_allclose(full.reconstruct(x), diagonal.reconstruct(x), rtol=1e-5)
    assert np.asarray(full.elbo(x, eps=eps)).dtype == np.float32


@pytest.mark.parametrize("latents", [1, 2, 10])
def test_runs_for_any_size_and_with_wake_sleep(latents):
    vae = tiny(latents, dtype="float32")
    x = PATTERNS.astype("float32")
    assert np.shape(vae.elbo(x, Generator(0), 2)) == np.shape(wake_sleep(vae, x, Generator(0))) == (8,)
    assert np.isfinite(np.asarray(vae.log_weights(x, Generator(0), 3))).all()
    assert vae.encode(x).sample(Generator(0)).dtype == np.float32


def test_errors(q):
    with pytest.raises(ValueError, match="unknown posterior 'flow'; one of diagonal, full"):
        tiny(posterior="flow")
    with pytest.raises(ValueError, match=r"lower has shape \(3, 5\); a 4 x 4 L has 6 entries"):
        MultivariateNormal(q.mu, q.log_sigma, q.lower[:, :5])
