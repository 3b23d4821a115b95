"""Exercises: the variational auto-encoder's bound and its gradients (thesis chapter 2).

Beside the lessons `chapters/ch02_aevb.py`, `ch02_gradients.py` and `ch02_posterior.py`. Replace each `raise
NotImplementedError` by your code, then run `minivi grade chapters/exercises/ch02_aevb.py`. NumPy is all that is needed.
All values are in nats. Shapes: L samples, B data, D numbers each, in this order. The noise eps is an argument: so a
result is one number and not a random one. No function may write into its arguments.
"""

# %%
import numpy as np

# %% [teacher]
from scipy.special import expit, logsumexp
from scipy.stats import multivariate_normal, norm

from minivi.exercises import Case, task

NODES, MASS = np.polynomial.hermite_e.hermegauss(60)
MASS = MASS / MASS.sum()  # the expectation over N(0, 1) as a weighted sum, exact for polynomials up to degree 119


def sloped(f, x):
    """The gradient of a number f(x) by central differences."""
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = 1e-5
        found[i] = (f(x + step) - f(x - step)) / 2e-5
    return found


# %% [markdown]
# ## The density of a diagonal Gaussian
#
# log N(x; mu, diag(sigma^2)), one number for each row.


# %%
def gaussian(x, mu, log_sigma):
    """The log-density, shape (B,), of x, mu and log_sigma, (B, D)."""
    # [solution]
    eps = (x - mu) / np.exp(log_sigma)
    return np.sum(-0.5 * eps**2 - 0.5 * np.log(2 * np.pi) - log_sigma, axis=-1)
    # [end]


# %% [teacher]
@task("gaussian", 2, "code", "thesis eq. 2.37", mistakes=[
    (" - log_sigma, axis", ", axis", "a narrower density is higher: the normalisation is missing"),
    ("- log_sigma, axis", "- 2 * log_sigma, axis", "the density has 1 / sigma before it, not 1 / sigma^2"),
    ("np.exp(log_sigma)", "np.exp(0.5 * log_sigma)", "log_sigma is no log-variance"),
    ("axis=-1", "axis=0", "which axis is summed: numbers of a datum, not data"),
    ("np.sum(", "np.mean(", "the density of a row is the product over its numbers"),
    (" - 0.5 * np.log(2 * np.pi)", "", "the constant counts: bounds are compared in nats"),
    ("- 0.5 * np.log(2 * np.pi) - log_sigma, axis=-1)", "- log_sigma, axis=-1) - 0.5 * np.log(2 * np.pi)",
     "the constant stands in each factor, so D times in the sum"),
    ("-0.5 * eps**2", "-eps**2", "a factor of the quadratic term is missing"),
])  # fmt: skip
def _(rng):
    for b, d in ((3, 3), (2, 4)):
        x, mu, log_sigma = rng.normal(size=(3, b, d))
        yield Case((x, mu, log_sigma), np.sum(norm.logpdf(x, mu, np.exp(log_sigma)), axis=1))


# %% [markdown]
# ## The probability of binary pixels
#
# log p(x | z) for pixels of 0 and 1, of which the decoder gives the logits l: y = sigmoid(l). For logits of any size:
# 1,000 too, where y itself is 1 in floating point. Leading axes of the logits (L, B, D) that x (B, D) lacks broadcast.


# %%
def bernoulli(x, logits):
    """The log-probability, shape (..., B)."""
    # [solution]
    return np.sum(x * logits - np.logaddexp(0, logits), axis=-1)
    # [end]


# %% [teacher]
@task("bernoulli", 2, "code", "thesis eq. 2.74 and the line before", mistakes=[
    ("x * logits - np.logaddexp(0, logits)",
     "x * np.log(1 / (1 + np.exp(-logits))) + (1 - x) * np.log(1 / (1 + np.exp(logits)))",
     "right, but log 0 for large logits"),
    ("x * logits - np.logaddexp(0, logits)", "-x * np.logaddexp(0, -logits)", "pixels that are 0 count too"),
    ("np.sum(", "np.mean(", "the probability of an image is the product over its pixels"),
    ("np.sum(x * logits - np.logaddexp(0, logits), axis=-1)", "np.sum(x * logits - np.logaddexp(0, logits), axis=0)",
     "which axis is summed: pixels of an image, not images"),
    ("x * logits - np.logaddexp(0, logits)", "np.logaddexp(0, logits) - x * logits",
     "that is the reconstruction error, its negative"),
    ("x * logits - ", "(1 - x) * logits - ", "zeros and ones are exchanged"),
    ("np.logaddexp(0, logits)", "np.log1p(logits**2)", "which function of the logit normalises p(0) + p(1)?"),
])  # fmt: skip
def _(rng):
    for shape in ((3, 3), (2, 4, 5)):
        x, logits = rng.integers(0, 2, shape[-2:]).astype(float), 3 * rng.normal(size=shape)
        p = expit(logits)
        yield Case((x, logits), np.log(np.prod(np.where(x == 1, p, 1 - p), axis=-1)))
    x = np.array([[0.0, 1.0]])
    yield Case((x, np.array([[1000.0, -20.0]])), np.array([-1000.0 - 20.0 - np.log1p(np.exp(-20.0))]))


# %% [markdown]
# ## A density by its noise, with a fault
#
# z = mu + sigma eps, and the log-density of z under q(z | x), by eps. The code follows Algorithm 2 as printed. Its
# density does not integrate to 1; mend it.


# %%
def sample(mu, log_sigma, eps):
    """z (L, B, D) and log q(z | x) (L, B), from mu and log_sigma (B, D) and eps (L, B, D)."""
    z = mu + np.exp(log_sigma) * eps
    # [solution]
    log_q = -np.sum(0.5 * (eps**2 + np.log(2 * np.pi)) + log_sigma, axis=-1)
    # [blank]
    # log_q = -np.sum(0.5 * (eps**2 + np.log(2 * np.pi) + log_sigma), axis=-1)
    # [end]
    return z, log_q


# %% [teacher]
@task("sample", 2, "fault", "thesis eq. 2.40, 2.43 and 2.44", mistakes=[
    ("np.log(2 * np.pi)) + log_sigma", "np.log(2 * np.pi) + log_sigma)",
     "the log-determinant of dz / d eps is not halved"),
    ("+ log_sigma, axis", "- log_sigma, axis", "a wider q has a lower density: check the sign of the log-determinant"),
    (" + log_sigma, axis", ", axis", "that is log p(eps): z is spread differently"),
    ("+ log_sigma, axis", "+ np.exp(log_sigma), axis", "the determinant enters by its logarithm"),
    ("0.5 * (eps**2 +", "0.5 * (z**2 +", "the quadratic term is that of the noise, not of z: that would be the prior"),
    ("-np.sum(0.5", "np.sum(0.5", "that is the negative of log q"),
])  # fmt: skip
def _(rng):
    for b, d in ((2, 2), (3, 4)):
        mu, log_sigma, eps = rng.normal(size=(b, d)), rng.normal(size=(b, d)), rng.normal(size=(2, b, d))
        z = mu + np.exp(log_sigma) * eps
        yield Case((mu, log_sigma, eps), [z, np.sum(norm.logpdf(z, mu, np.exp(log_sigma)), axis=-1)])


# %% [markdown]
# ## The divergence from the prior
#
# Derive KL(q(z | x) || p(z)) of q = N(mu, diag(sigma^2)) and p = N(0, I).


# %%
def divergence(mu, log_sigma):
    """The divergence of each row, shape (B,), from (B, D)."""
    # [solution]
    return np.sum(0.5 * (mu**2 + np.exp(2 * log_sigma) - 1) - log_sigma, axis=-1)
    # [end]


# %% [teacher]
@task("divergence", 2, "derive", "thesis appendix 2.A and eq. 2.77", mistakes=[
    ("np.sum(0.5 * (mu**2 + np.exp(2 * log_sigma) - 1) - log_sigma",
     "-np.sum(0.5 * (mu**2 + np.exp(2 * log_sigma) - 1) - log_sigma",
     "a divergence is never negative: that is what the bound adds"),
    ("np.exp(2 * log_sigma)", "np.exp(log_sigma)", "E[z^2] has the variance in it"),
    ("- 1) - log_sigma", "- 1 - log_sigma)", "log sigma^2 is halved, and is 2 log sigma"),
    (" - 1)", ")", "it must be 0 for q = p"),
    ("mu**2 +", "np.abs(mu) +", "E[z^2] has the square of the mean"),
    ("np.sum(", "np.mean(", "the divergence of independent numbers is the sum of theirs"),
    ("0.5 * (mu**2 + np.exp(2 * log_sigma) - 1) - log_sigma",
     "0.5 * (mu**2 + 1) * np.exp(-2 * log_sigma) - 0.5 + log_sigma", "that is KL(p || q): whose expectation is taken?"),
])  # fmt: skip
def _(rng):
    for b, d in ((3, 2), (2, 4)):
        mu, log_sigma = rng.normal(size=(b, d)), 0.5 * rng.normal(size=(b, d))
        z = mu[..., None] + np.exp(log_sigma)[..., None] * NODES
        log_ratio = norm.logpdf(z, mu[..., None], np.exp(log_sigma)[..., None]) - norm.logpdf(z)
        yield Case((mu, log_sigma), np.sum(log_ratio @ MASS, axis=-1))


# %% [markdown]
# ## Both estimators of the bound
#
# A model with the prior N(0, I), a linear decoder with logits = z W + b for binary pixels, and a given q. A takes all
# three terms from the samples, B takes the divergence in closed form. Give both, for each datum as the mean over its L
# samples.


# %%
def estimates(x, mu, log_sigma, eps, weight, bias):
    """A and B, each (B,); x (B, P), mu and log_sigma (B, D), eps (L, B, D), weight (D, P), bias (P,)."""
    # [solution]
    z = mu + np.exp(log_sigma) * eps
    logits = z @ weight + bias
    log_px_z = np.sum(x * logits - np.logaddexp(0, logits), axis=-1)
    log_pz = np.sum(-0.5 * z**2 - 0.5 * np.log(2 * np.pi), axis=-1)
    log_qz = np.sum(-0.5 * eps**2 - 0.5 * np.log(2 * np.pi) - log_sigma, axis=-1)
    kl = np.sum(0.5 * (mu**2 + np.exp(2 * log_sigma) - 1) - log_sigma, axis=-1)
    return np.mean(log_px_z + log_pz - log_qz, axis=0), np.mean(log_px_z, axis=0) - kl
    # [end]


# %% [teacher]
@task("estimates", 4, "code", "thesis eq. 2.29 and 2.77", mistakes=[
    ("log_pz - log_qz, axis=0)", "log_pz + log_qz, axis=0)",
     "A: the entropy of q raises the bound: check the sign of log q"),
    ("log_px_z + log_pz - log_qz", "log_px_z - log_qz", "A: the prior is missing"),
    ("axis=0) - kl", "axis=0) + kl", "B: the divergence lowers the bound"),
    ("np.mean(log_px_z, axis=0) - kl", "np.mean(log_px_z - kl / len(eps), axis=0)",
     "B: the divergence is not of one sample"),
    ("np.exp(log_sigma) * eps", "np.exp(2 * log_sigma) * eps", "z is spread by sigma, not by the variance"),
    ("return np.mean(log_px_z + log_pz - log_qz, axis=0)", "return np.sum(log_px_z + log_pz - log_qz, axis=0)",
     "A: over samples the mean is taken"),
    ("np.mean(log_px_z + log_pz - log_qz, axis=0), np.mean(log_px_z, axis=0) - kl",
     "np.mean(log_px_z, axis=0) - kl, np.mean(log_px_z + log_pz - log_qz, axis=0)", "A, then B: the order is turned"),
    ("z @ weight + bias", "z @ weight", "the decoder has a bias"),
])  # fmt: skip
def _(rng):
    for samples, b, d, p in ((3, 2, 2, 3), (2, 3, 3, 4)):
        x = rng.integers(0, 2, (b, p)).astype(float)
        mu, log_sigma, eps = rng.normal(size=(b, d)), 0.5 * rng.normal(size=(b, d)), rng.normal(size=(samples, b, d))
        weight, bias = rng.normal(size=(d, p)), rng.normal(size=p)
        a, decoded, kl = np.zeros(b), np.zeros(b), np.zeros(b)
        for i in range(b):
            q = norm(mu[i], np.exp(log_sigma[i]))
            for k in range(samples):
                z = q.mean() + q.std() * eps[k, i]
                y = expit(z @ weight + bias)
                log_px = np.log(np.where(x[i] == 1, y, 1 - y)).sum()
                decoded[i] += log_px / samples
                a[i] += (log_px + norm.logpdf(z).sum() - q.logpdf(z).sum()) / samples
            z = q.mean() + q.std() * NODES[:, None]
            kl[i] = MASS @ (q.logpdf(z) - norm.logpdf(z)).sum(axis=1)
        yield Case((x, mu, log_sigma, eps, weight, bias), [a, decoded - kl])


# %% [markdown]
# ## The bound, by hand
#
# In a model that is all Gaussian no samples are needed. z has the prior N(0, 1), x given z is N(a z, s^2), and q is
# N(mu, sigma^2), all of single numbers. Derive the bound, E_q[log p(x, z) - log q(z)].


# %%
def exact_bound(x, a, s, mu, sigma):
    """The bound, a number."""
    # [solution]
    error = (x - a * mu) ** 2 + a**2 * sigma**2
    log_px_z = -0.5 * np.log(2 * np.pi) - np.log(s) - 0.5 * error / s**2
    return log_px_z - 0.5 * (mu**2 + sigma**2 - 1) + np.log(sigma)
    # [end]


# %% [teacher]
@task("exact_bound", 3, "derive", "thesis eq. 2.10", mistakes=[
    (" + a**2 * sigma**2", "", "z varies under q, so the error of a z does too: E of a square"),
    ("a**2 * sigma**2", "a * sigma**2", "the variance of a z has a square of a"),
    (" - np.log(s)", "", "the decoder's density has its own normalisation"),
    ("0.5 * error / s**2", "0.5 * error / s", "s is the standard deviation of x given z"),
    ("+ np.log(sigma)", "- np.log(sigma)", "a wider q has more entropy, which raises the bound"),
    ("- 0.5 * (mu**2 + sigma**2 - 1)", "- 0.5 * (mu**2 + sigma**2)", "a constant of the divergence is missing"),
    ("return log_px_z - 0.5 * (mu**2 + sigma**2 - 1) + np.log(sigma)", "return log_px_z",
     "that is the decoder's term alone"),
])  # fmt: skip
def _(rng):
    for _ in range(3):
        x, a, mu = (float(v) for v in rng.normal(size=3) + 0.5)
        s, sigma = (float(v) for v in rng.uniform(0.4, 1.5, 2))
        z = mu + sigma * NODES
        log_w = norm.logpdf(x, a * z, s) + norm.logpdf(z) - norm.logpdf(z, mu, sigma)
        yield Case((x, a, s, mu, sigma), float(MASS @ log_w))


# %% [markdown]
# ## Where training ends
#
# The same model; mu and sigma are trained, by gradients of the bound, for a single x until nothing changes. Before you
# run anything: at which mu and sigma does it end, and what is the bound there?


# %%
def trained(x, a, s):
    """mu, sigma and the bound."""
    # [solution]
    precision = 1 + a**2 / s**2
    total = a**2 + s**2
    return a * x / s**2 / precision, precision**-0.5, -0.5 * (np.log(2 * np.pi * total) + x**2 / total)
    # [end]


# %% [teacher]
@task("trained", 3, "predict", "thesis eq. 2.8 and 2.11", mistakes=[
    ("precision**-0.5", "1 / precision", "sigma is a standard deviation"),
    ("1 + a**2 / s**2", "a**2 / s**2", "the prior adds to the posterior's precision"),
    ("a * x / s**2 / precision", "x / a",
     "q is drawn to the prior too: the posterior's mean is smaller than the z that gives x"),
    ("total = a**2 + s**2", "total = s**2", "the bound there is log p(x): z is integrated out, and adds its variance"),
    ("return a * x / s**2 / precision, precision**-0.5", "return 0.0, 1.0",
     "q ends at the posterior, not at the prior"),
    ("x**2 / total)", "x**2 / total) - 0.1", "at the posterior no gap is left"),
])  # fmt: skip
def _(rng):
    grid = np.linspace(-12, 12, 4001)
    for _ in range(3):
        x, a, s = float(rng.normal() + 0.5), float(rng.uniform(0.5, 2)), float(rng.uniform(0.5, 1.5))
        log_joint = norm.logpdf(x, a * grid, s) + norm.logpdf(grid)
        log_p = logsumexp(log_joint) + np.log(grid[1] - grid[0])
        posterior = np.exp(log_joint - log_p) * (grid[1] - grid[0])
        mean = posterior @ grid
        yield Case((x, a, s), [mean, np.sqrt(posterior @ (grid - mean) ** 2), log_p])


# %% [markdown]
# ## The gradient through the sample
#
# Of E_q[f(z)], estimated by L samples z = mu + sigma eps. slopes are f'(z) at these, number by number.


# %%
def pathwise(log_sigma, eps, slopes):
    """The derivatives by mu and by log_sigma, each (D,); eps and slopes (L, D)."""
    # [solution]
    return slopes.mean(axis=0), np.mean(slopes * eps * np.exp(log_sigma), axis=0)
    # [end]


# %% [teacher]
@task("pathwise", 2, "code", "thesis eq. 2.22 to 2.24 and 2.40", mistakes=[
    ("slopes * eps * np.exp(log_sigma)", "slopes * eps", "the derivative asked for is by log_sigma, not by sigma"),
    ("slopes * eps * np.exp(log_sigma)", "slopes * np.exp(log_sigma)",
     "how far a sample moves with sigma depends on its noise"),
    ("return slopes.mean(axis=0)", "return slopes.sum(axis=0)", "over samples the mean is taken"),
    ("slopes * eps * np.exp(log_sigma)", "slopes * eps * np.exp(2 * log_sigma)", "z has sigma in it, not the variance"),
    ("np.mean(slopes * eps * np.exp(log_sigma), axis=0)", "slopes.mean(axis=0) * eps.mean(axis=0) * np.exp(log_sigma)",
     "the mean of products is not the product of means"),
    ("return slopes.mean(axis=0)", "return -slopes.mean(axis=0)", "mu shifts each sample by as much: check the sign"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        mu, log_sigma, eps = rng.normal(size=3), 0.5 * rng.normal(size=3), rng.normal(size=(4, 3))
        f = lambda mu, log_sigma, eps=eps: np.mean(np.sum(np.sin(mu + np.exp(log_sigma) * eps), axis=1))
        slopes = np.cos(mu + np.exp(log_sigma) * eps)
        by_mu, by_sigma = (
            sloped(lambda m, f=f, s=log_sigma: f(m, s), mu),
            sloped(lambda s, f=f, m=mu: f(m, s), log_sigma),
        )
        yield Case((log_sigma, eps, slopes), [by_mu, by_sigma])


# %% [markdown]
# ## The gradient by the score
#
# The same expectation when f has no slope to use: from values f(z) at L samples. Give the mean over samples.


# %%
def score(mu, log_sigma, z, values):
    """The estimates by mu and by log_sigma, each (D,); z (L, D), values (L,)."""
    # [solution]
    eps = (z - mu) / np.exp(log_sigma)
    weights = values[:, None]
    return np.mean(weights * eps / np.exp(log_sigma), axis=0), np.mean(weights * (eps**2 - 1), axis=0)
    # [end]


# %% [teacher]
@task("score", 3, "code", "thesis eq. 2.72 and 2.73", mistakes=[
    ("weights * eps / np.exp(log_sigma)", "weights * eps", "by mu: the slope of log q has the variance below the line"),
    ("(eps**2 - 1)", "eps**2", "by log_sigma: the normalisation of q depends on sigma too"),
    ("(eps**2 - 1)", "(eps**2 - 1) / np.exp(log_sigma)", "the derivative asked for is by log_sigma, not by sigma"),
    ("weights = values[:, None]", "weights = values[:, None] - values.mean()",
     "that is a baseline: another estimate, and biased as its own samples are in it"),
    ("weights = values[:, None]", "weights = 1.0", "the values of f weigh the slopes of log q"),
    ("np.mean(weights * eps", "np.sum(weights * eps", "over samples the mean is taken"),
    ("(z - mu)", "(mu - z)", "by mu: q rises at z if mu moves towards it"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        mu, log_sigma, z, values = (
            rng.normal(size=3),
            0.5 * rng.normal(size=3),
            rng.normal(size=(4, 3)),
            rng.normal(size=4),
        )
        log_q = lambda m, s, z=z, v=values: np.mean(v * np.sum(norm.logpdf(z, m, np.exp(s)), axis=1))
        by_mu = sloped(lambda m, f=log_q, s=log_sigma: f(m, s), mu)
        yield Case((mu, log_sigma, z, values), [by_mu, sloped(lambda s, f=log_q, m=mu: f(m, s), log_sigma)])


# %% [markdown]
# ## The marginal likelihood by importance sampling
#
# From log w = log p(x, z) - log q(z | x) of L samples for each datum, the estimate of log p(x). Images have log w of
# -90 and of -900: no number may vanish or overflow.


# %%
def log_likelihood(log_w):
    """The estimates, shape (B,), from (L, B)."""
    # [solution]
    largest = log_w.max(axis=0)
    return largest + np.log(np.mean(np.exp(log_w - largest), axis=0))
    # [end]


# %% [teacher]
@task("log_likelihood", 2, "code", "thesis eq. 2.57", mistakes=[
    ("largest = log_w.max(axis=0)", "largest = np.zeros(log_w.shape[1])",
     "the weights themselves vanish: take the largest out first"),
    ("largest + np.log(", "np.log(", "what was taken out comes back"),
    ("np.mean(np.exp", "np.sum(np.exp", "over samples the mean is taken"),
    ("return largest + np.log(np.mean(np.exp(log_w - largest), axis=0))", "return log_w.mean(axis=0)",
     "that is the bound: the logarithm stands outside the mean"),
    ("return largest + np.log(np.mean(np.exp(log_w - largest), axis=0))", "return largest",
     "the other samples count too"),
    ("log_w.max(axis=0)", "log_w.max()",
     "right near the largest of all, but other data vanish: each has its own largest"),
])  # fmt: skip
def _(rng):
    for level in (0.0, -900.0):
        log_w = 2 * rng.normal(size=(6, 3)) + level - np.array([0.0, 5.0, 2000.0])
        yield Case((log_w,), logsumexp(log_w, axis=0, b=1 / 6))


# %% [markdown]
# ## Full covariance
#
# q = N(mu, L L^T), with sigma on the diagonal of L, and what stands below it given row by row: (2, 1), (3, 1), (3, 2),
# ... Give z, log q(z) and the covariance.


# %%
def full_covariance(mu, log_sigma, lower, eps):
    """z (N, D), log q (N,) and the covariance (D, D); mu, log_sigma (D,), lower (D (D - 1) / 2,), eps (N, D)."""
    # [solution]
    root = np.diag(np.exp(log_sigma))
    root[np.tril_indices(len(mu), -1)] = lower
    log_q = np.sum(-0.5 * eps**2 - 0.5 * np.log(2 * np.pi) - log_sigma, axis=-1)
    return mu + eps @ root.T, log_q, root @ root.T
    # [end]


# %% [teacher]
@task("full_covariance", 4, "code", "thesis eq. 2.47 to 2.55", mistakes=[
    ("mu + eps @ root.T", "mu + eps @ root", "z = mu + L eps of a column: what becomes of it for rows?"),
    ("root @ root.T\n", "root.T @ root\n", "the covariance: which of the two is transposed?"),
    ("- log_sigma, axis", "- 2 * log_sigma, axis", "log q: the determinant of L, not of its product"),
    ("- log_sigma, axis", ", axis", "log q: the log-determinant is missing"),
    ("np.diag(np.exp(log_sigma))", "np.diag(log_sigma)", "what stands on the diagonal must be positive"),
    ("root[np.tril_indices(len(mu), -1)] = lower", "root.T[np.tril_indices(len(mu), -1)] = lower",
     "L is lower triangular: below the diagonal, row by row"),
    ("np.sum(-0.5 * eps**2", "np.sum(-0.5 * (eps @ root.T)**2", "log q: the quadratic term is that of the noise"),
])  # fmt: skip
def _(rng):
    for d in (2, 4):
        mu, log_sigma, lower, eps = (
            rng.normal(size=d),
            0.4 * rng.normal(size=d),
            rng.normal(size=d * (d - 1) // 2),
            rng.normal(size=(5, d)),
        )
        root, below = np.zeros((d, d)), list(lower)
        for i in range(d):
            for j in range(i):
                root[i, j] = below.pop(0)
            root[i, i] = np.exp(log_sigma[i])
        z = np.array([mu + root @ e for e in eps])
        covariance = sum(np.outer(column, column) for column in root.T)
        yield Case((mu, log_sigma, lower, eps), [z, multivariate_normal(mu, covariance).logpdf(z), covariance])


# %% [markdown]
# ## Free bits, with a fault
#
# A bound in which each group of latents pays at least lambda nats, whatever it costs, so that none is switched off. The
# expectation over the minibatch comes before the maximum; in the code below it does not. Mend it.


# %%
def free_bits(reconstruction, kl, minimum):
    """The objective, a number; reconstruction (B,), kl (B, groups), minimum a number."""
    # [solution]
    return np.mean(reconstruction) - np.sum(np.maximum(minimum, np.mean(kl, axis=0)))
    # [blank]
    # return np.mean(reconstruction - np.sum(np.maximum(minimum, kl), axis=1))
    # [end]


# %% [teacher]
@task("free_bits", 2, "fault", "thesis eq. 2.69 and 2.70", mistakes=[
    ("np.mean(reconstruction) - np.sum(np.maximum(minimum, np.mean(kl, axis=0)))",
     "np.mean(reconstruction - np.sum(np.maximum(minimum, kl), axis=1))",
     "mean, then maximum: a group pays on the average"),
    ("np.sum(np.maximum(minimum, np.mean(kl, axis=0)))", "np.maximum(minimum, np.sum(np.mean(kl, axis=0)))",
     "each group has its own minimum"),
    ("np.maximum(minimum", "np.minimum(minimum", "at least lambda, not at most"),
    ("np.sum(np.maximum(minimum, np.mean(kl, axis=0)))", "np.mean(np.maximum(minimum, np.mean(kl, axis=0)))",
     "what groups pay adds up"),
    ("np.maximum(minimum, np.mean(kl, axis=0))", "np.maximum(minimum, np.sum(kl, axis=0))",
     "over the minibatch the mean is taken, as of the other term"),
    (" - np.sum(np.max", " + np.sum(np.max", "what is paid lowers the bound"),
])  # fmt: skip
def _(rng):
    for minimum in (0.2, 0.6):
        reconstruction, kl = rng.normal(size=5) - 10, rng.uniform(0, 1, (5, 4)) * np.array([0.1, 0.5, 1.0, 2.0])
        paid = sum(max(minimum, sum(kl[i, j] for i in range(5)) / 5) for j in range(4))
        yield Case((reconstruction, kl, minimum), sum(reconstruction) / 5 - paid)
