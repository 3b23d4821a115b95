"""Checks of chapter 2, full-covariance Gaussian posterior (thesis section 2.6.1, Algorithm 2)."""

import numpy as np
from scipy.stats import multivariate_normal, norm

from minivi import nn, ops
from minivi.experiments import Claim, check
from minivi.models import VAE
from minivi.random import Generator
from minivi.small import PATTERNS, estimator_gap
from minivi.tensor import Tensor, grad

# %% [markdown]
# ## The equations, checked
#
# A model small enough to integrate: four binary pixels, two latents, random weights, and a grid over the plane.

# %%
GRID = np.stack([a.ravel() for a in np.meshgrid(*[np.linspace(-14.0, 14.0, 81)] * 2)], axis=1)
CELL = 0.35**2


def tiny(latents=2, seed=0):
    """The small model, in float64; correlations, which start at 0, random too."""
    vae = VAE(4, (3,), latents, posterior="full", rng=Generator([seed, 98]), init=nn.normal(0.7), dtype="float64")
    last = vae.encoder.layers[-1].weight
    last.assign(0.7 * Generator([seed, 97]).standard_normal(last.shape))
    return vae


def densities(vae, b):
    """log p(x_b, z) and log q(z | x_b) on the grid of z, by the decoder and by SciPy."""
    q = vae.encode(PATTERNS)
    log_q = multivariate_normal.logpdf(GRID, np.asarray(q.mu)[b], q.scale[b] @ q.scale[b].T)
    log_joint = np.asarray(vae.decode(GRID).log_prob(PATTERNS[b])) + norm.logpdf(GRID).sum(axis=1)
    return log_joint, log_q


def over_noise(vae):
    """The model's terms for every eps of the grid and all patterns, and the weights p(eps) of the sum."""
    eps = np.broadcast_to(GRID[:, None], (len(GRID), 16, 2))
    return vae.terms(PATTERNS, eps=eps), np.exp(norm.logpdf(GRID).sum(axis=1)) * CELL


@check("2.45, 2.77", "KL(N(mu, L L^T) || N(0, I)) = (sum L^2 + sum mu^2 - J) / 2 - sum log sigma")
def kl_in_closed_form():
    """The model's closed form, against an integral over the plane and the form with trace and determinant."""
    vae = tiny()
    q, (_, log_q) = vae.encode(PATTERNS), densities(vae, 5)
    integral = np.sum(np.exp(log_q) * (log_q - norm.logpdf(GRID).sum(axis=1))) * CELL
    mu, sigma = np.asarray(q.mu)[5], q.scale[5] @ q.scale[5].T
    textbook = 0.5 * (np.trace(sigma) + mu @ mu - 2 - np.linalg.slogdet(sigma)[1])
    closed = np.asarray(q.kl())[5]
    return [
        Claim(closed, "=", integral, 1e-8, "quadrature"),
        Claim(closed, "=", textbook, 1e-12, "trace and determinant"),
        Claim(np.asarray(q.kl_per_dimension())[5].sum(), "=", integral, 1e-8, "sum over latents"),
    ]


@check("2.45", "that KL by Monte Carlo for 10 latents, within 4 standard errors")
def kl_by_sampling():
    """40,000 draws and SciPy's densities."""
    vae = tiny(10)
    q = vae.encode(PATTERNS[5:6])
    mu, scale = np.asarray(q.mu)[0], q.scale[0]
    z = mu + Generator(1).standard_normal((40_000, 10)) @ scale.T
    log_ratio = multivariate_normal.logpdf(z, mu, scale @ scale.T) - norm.logpdf(z).sum(axis=1)
    error = log_ratio.std() / np.sqrt(len(z))
    return Claim(np.asarray(q.kl())[0], "=", log_ratio.mean(), 4 * error)


@check("2.53, 2.54", "dz/deps of the model's sample is L: lower triangular, sigma on its diagonal")
def jacobian_is_l():
    """The engine's Jacobian, one row of gradients for each z_i."""
    q = tiny(4).encode(PATTERNS[6])
    eps = Tensor(np.array([0.3, -1.2, 0.8, 0.1]))
    z = q.rsample(eps)
    jacobian = np.stack([grad(z[i], eps) for i in range(4)])
    sigma = np.exp(np.asarray(q.log_sigma))
    return [
        Claim(np.abs(np.triu(jacobian, 1)).max(), "=", 0.0, 0.0, "above the diagonal"),
        Claim(np.abs(np.diag(jacobian) - sigma).max(), "=", 0.0, 1e-14, "diagonal"),
        Claim(np.abs(jacobian - q.scale).max(), "=", 0.0, 1e-14, "all of L"),
        Claim(np.abs(jacobian[np.tril_indices(4, -1)]).min(), ">=", 1e-3, 0.0, "smallest entry below"),
    ]


@check("Algorithm 2", "the log q of the model's own pass is the multivariate normal density at its z")
def log_q_of_the_model():
    """16 patterns, 5 latents, against SciPy."""
    terms = tiny(5).terms(PATTERNS, Generator(2), samples=3)
    mu, scale, z = np.asarray(terms.q.mu), terms.q.scale, np.asarray(terms.z)
    density = [multivariate_normal.logpdf(z[:, b], mu[b], scale[b] @ scale[b].T) for b in range(16)]
    at_z = np.asarray(terms.q.log_prob(z))
    return [
        Claim(np.abs(np.asarray(terms.log_qz_x) - np.transpose(density)).max(), "=", 0.0, 1e-10, "from eps"),
        Claim(np.abs(at_z - np.transpose(density)).max(), "=", 0.0, 1e-10, "from z, by forward substitution"),
    ]


@check("Algorithm 2", "E over eps of its result, and of estimator B, is log p(x) - KL(q(z | x) || p(z | x))")
def algorithm_2_is_the_bound():
    """The model's pass integrated over eps, against integrals over z."""
    vae = tiny()
    terms, weights = over_noise(vae)
    a = weights @ np.asarray(terms.log_w)
    b = weights @ np.asarray(terms.log_px_z) - np.asarray(terms.q.kl())
    exact = []
    for n in range(16):
        log_joint, log_q = densities(vae, n)
        log_px = np.log(np.sum(np.exp(log_joint)) * CELL)
        exact.append(log_px - np.sum(np.exp(log_q) * (log_q - log_joint + log_px)) * CELL)
    return [
        Claim(np.abs(a - exact).max(), "=", 0.0, 1e-8, "estimator A, largest difference"),
        Claim(np.abs(b - exact).max(), "=", 0.0, 1e-8, "estimator B, largest difference"),
    ]


@check("2.56", "E_q[p(x, z) / q(z | x)] = p(x) for a full-covariance q, for every pattern")
def importance_identity():
    """Log-weights of the model integrated over eps, against an integral over z."""
    vae = tiny()
    terms, weights = over_noise(vae)
    left = np.log(weights @ np.exp(np.asarray(terms.log_w)))
    log_pz = norm.logpdf(GRID).sum(axis=1)
    right = [np.log(np.sum(np.exp(np.asarray(vae.decode(GRID).log_prob(x)) + log_pz)) * CELL) for x in PATTERNS]
    return Claim(np.abs(left - right).max(), "=", 0.0, 1e-3, "largest difference")


@check("2.45", "a correlated posterior: the best factorised Gaussian misses half the log of its determinant's ratio")
def what_the_diagonal_misses():
    """A linear-Gaussian model, where p(z | x) = N(mu, S): the smallest KL over diagonal q is in closed form.

    The minimum of KL(N(mu, diag(s^2)) || N(mu, S)) lies at s_i^2 = 1 / (S^-1)_ii; here it is found by gradient descent
    through the engine instead.
    """
    precision = np.array([[2.0, 1.2], [1.2, 1.5]])
    log_sigma = Tensor(np.zeros(2))
    for _ in range(200):
        cost = 0.5 * (ops.exp(2.0 * log_sigma) * np.diag(precision)).sum() - log_sigma.sum()
        log_sigma = Tensor(np.asarray(log_sigma) - 0.3 * grad(cost, log_sigma))
    least = cost.item() - 1.0 - 0.5 * np.linalg.slogdet(precision)[1]
    closed = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    return [
        Claim(least, "=", closed, 1e-10, "the least gap, nats"),
        Claim(closed, ">=", 0.1, 0.0, "is not small"),
    ]


@check("2.77", "the loss that trains the model: the divergence in closed form and by samples agree in the mean")
def loss_is_the_bound():
    """20,000 draws, within 4 standard errors."""
    gap, error = estimator_gap(tiny(), PATTERNS)
    return Claim(gap, "=", 0.0, 4 * error, "estimator B less estimator A")
