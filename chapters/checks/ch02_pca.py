"""Checks of chapter 2, principal component analysis as a limit (thesis section 2.10)."""

import numpy as np
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from minivi.experiments import Claim, check
from minivi.random import Generator
from minivi_chapters.studies.ch02_pca import (
    LinearVAE,
    angle,
    log_likelihood,
    maximum_likelihood,
    mean_bound,
    moments,
    posterior,
)

# %% [markdown]
# ## The formulas, checked


# %%
def small():
    """W (5, 2) of no special rotation, b, s^2 and six data."""
    rng = np.random.default_rng(8)
    return rng.standard_normal((5, 2)), rng.standard_normal(5), 0.3, rng.standard_normal((6, 5)) * 2


def holding(w, b, s2, a_matrix, a, sigma):
    """A LinearVAE in float64 with these arrays."""
    vae = LinearVAE(*w.shape, Generator(0), dtype="float64")
    values = (w.T, b, a_matrix.T, a, np.log(sigma), [0.5 * np.log(s2)])
    parts = (vae.decoder.weight, vae.decoder.bias, vae.encoder.weight, vae.encoder.bias, vae.log_sigma, vae.log_s)
    for parameter, value in zip(parts, values, strict=True):
        parameter.assign(value)
    return vae


@check("section 2.10", "p(x) = N(b, W W' + s^2 I), by matrices of z's size")
def marginal():
    """Against SciPy's multivariate normal, and a Monte Carlo average of p(x | z) over the prior."""
    w, b, s2, x = small()
    density = multivariate_normal.logpdf(x, b, w @ w.T + s2 * np.eye(5))
    z = np.random.default_rng(0).standard_normal((200_000, 2))
    p = multivariate_normal.pdf(x[0] - b - z @ w.T, np.zeros(5), s2 * np.eye(5))
    error = p.std() / np.sqrt(len(p))
    return [
        Claim(log_likelihood(w, b, s2, *moments(x)), "=", density.mean(), 1e-10, "log p(x)"),
        Claim(p.mean() / np.exp(density[0]), "=", 1.0, 4 * error / np.exp(density[0]), "E p(x | z) over p(x)"),
    ]


@check(
    "section 2.10", "the likelihood's maximum: U (Lambda - s^2)^(1/2), scikit-learn's PCA.score, and no better nearby"
)
def tipping_and_bishop():
    """scikit-learn divides by N - 1 where the maximum has N: large N makes that small. Then random changes."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4000, 6)) @ rng.standard_normal((6, 6))
    mean, cov = moments(x)
    w, s2, best = maximum_likelihood(cov, 2)
    exact = PCA(2, svd_solver="full").fit(x)
    nearby = []
    for _ in range(30):
        other, scale = w + 0.03 * rng.standard_normal(w.shape), np.exp(0.05 * rng.standard_normal())
        nearby.append(log_likelihood(other, mean, s2 * scale, mean, cov))
    return [
        Claim(best, "=", log_likelihood(w, mean, s2, mean, cov), 1e-10, "closed form"),
        Claim(best, "=", exact.score(x), 1e-5, "scikit-learn"),
        Claim(max(nearby), "<=", best, 0.0, "30 changes of W and s^2"),
    ]


@check("section 2.10", "p(z | x) = N(M^-1 W'(x - b), s^2 M^-1)")
def conditioning():
    """Against conditioning the joint Gaussian of (z, x)."""
    w, b, s2, x = small()
    mu, cov = posterior(x, w, b, s2)
    gain = w.T @ np.linalg.inv(w @ w.T + s2 * np.eye(5))
    return [
        Claim(np.abs(mu - (x - b) @ gain.T).max(), "=", 0.0, 1e-12, "mean"),
        Claim(np.abs(cov - (np.eye(2) - gain @ w)).max(), "=", 0.0, 1e-12, "covariance"),
    ]


@check("section 2.10", "as s -> 0: the mean goes to the pseudo-inverse like s^2, the covariance to s^2 (W' W)^-1")
def delta():
    """Against NumPy's pseudo-inverse by singular values, at two small s^2."""
    w, b, _, x = small()
    target = (x - b) @ np.linalg.pinv(w).T
    apart = [np.abs(posterior(x, w, b, s2)[0] - target).max() for s2 in (1e-4, 1e-5)]
    pinv = np.linalg.pinv(w)
    cov = posterior(x, w, b, 1e-6)[1] / 1e-6
    return [
        Claim(apart[0] / apart[1], "=", 10.0, 1e-2, "ratio of the distances"),
        Claim(np.abs(cov - pinv @ pinv.T).max(), "=", 0.0, 1e-5, "covariance over s^2"),
    ]


@check(
    "section 2.10",
    "with the principal axes as columns the bound is log p(x); turned by R it is not, though log p(x) stays",
)
def rotation():
    """The sampled bound of the code averaged over exact nodes, the formula, and the multivariate normal."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((50, 4)) @ np.diag([3.0, 2.0, 1.0, 0.5])
    b, cov = moments(x)
    w, s2, best = maximum_likelihood(cov, 2)
    turn = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    bounds, likelihoods, code = [], [], []
    for r in (np.eye(2), turn):
        turned = w @ r
        m = turned.T @ turned + s2 * np.eye(2)
        gain = np.linalg.solve(m, turned.T)
        # The best diagonal Gaussian has the precisions of the true posterior on its diagonal.
        vae = holding(turned, b, s2, gain, -gain @ b, np.sqrt(s2 / np.diag(m)))
        bounds.append(mean_bound(vae, b, cov))
        likelihoods.append(multivariate_normal.logpdf(x, b, turned @ turned.T + s2 * np.eye(4)).mean())
        # Exact for quadratics: plus and minus sqrt(2) along each axis.
        nodes = [sign * np.sqrt(2) * e for sign in (1, -1) for e in np.eye(2)]
        code.append(np.mean([np.asarray(vae.elbo(x, eps=np.tile(e, (50, 1)))).mean() for e in nodes]))
    m = (w @ turn).T @ (w @ turn)
    precision = (m + s2 * np.eye(2)) / s2
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    return [
        Claim(bounds[0], "=", best, 1e-10, "principal axes: bound and likelihood"),
        Claim(likelihoods[1], "=", likelihoods[0], 1e-10, "likelihood, turned and not"),
        Claim(likelihoods[1] - bounds[1], "=", gap, 1e-10, "turned: the gap is the KL of diagonal from full"),
        Claim(np.abs(np.subtract(code, bounds)).max(), "=", 0.0, 1e-10, "the code's bound, both"),
    ]


def em_step(w, cov, s2):
    """One step of EM for p(x) = N(0, W W' + s^2 I): the new W, for data with this covariance."""
    m = np.linalg.inv(w.T @ w + s2 * np.eye(w.shape[1]))
    cross = cov @ w @ m  # E[x z'], summed over data / N
    return cross @ np.linalg.inv(s2 * m + m @ w.T @ cross)


@check(
    "section 2.10", "Roweis' EM: Z = (W' W)^-1 W' X, W = X Z' (Z Z')^-1 is EM without noise, and ends in PCA's subspace"
)
def roweis():
    """One step against Tipping and Bishop's with a small s^2; 300 steps from a random W against scikit-learn."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((400, 6)) * [4.0, 3.0, 2.0, 1.0, 0.8, 0.5] @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    x -= x.mean(axis=0)
    steps = [rng.standard_normal((6, 2))]
    for _ in range(300):
        w = steps[-1]
        z = np.linalg.solve(w.T @ w, w.T @ x.T)
        steps.append(x.T @ z.T @ np.linalg.inv(z @ z.T))
    axes = PCA(2).fit(x).components_.T
    noisy = em_step(steps[0], x.T @ x / len(x), 1e-9)
    return [
        Claim(np.abs(steps[1] - noisy).max(), "=", 0.0, 1e-6, "one step, largest difference"),
        Claim(angle(steps[-1], axes), "=", 0.0, 1e-4, "angle to PCA's subspace after 300 steps, degrees"),
        Claim(angle(steps[0], axes), ">=", 20.0, 0.0, "and before"),
    ]
