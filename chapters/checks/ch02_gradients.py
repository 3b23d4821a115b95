"""Checks of chapter 2, gradients: reparameterisation against the score function, estimator A against B."""

import numpy as np
from scipy.stats import bernoulli, entropy, multivariate_normal, norm

from minivi import ops
from minivi.distributions import Categorical, Normal
from minivi.estimators import score_function
from minivi.experiments import Claim, check
from minivi.random import Generator
from minivi.small import PATTERNS, along, grid, random_direction, slope, small_vae
from minivi.tensor import Tensor, grad

# %% [markdown]
# ## The equations, checked
#
# Two models small enough to integrate or enumerate: a VAE of four binary pixels and one latent, whose integrals over z
# or eps are sums over a grid; and tables P(x, h) and Q(h | x) over four states of a discrete h.

# %%
GRID, STEP = grid(12.0, 1201)


def tiny(likelihood="bernoulli", seed=0, latents=1):
    """The small VAE."""
    return small_vae([seed, 98], latents, likelihood=likelihood, scale=0.6)


MASS = norm.pdf(GRID) * STEP


def mlp(network, x):
    """The outputs of a network with one hidden layer, in NumPy from its weights."""
    first, second = network.layers
    return np.tanh(x @ first.weight.data + first.bias.data) @ second.weight.data + second.bias.data


def posterior(vae, x=PATTERNS):
    """mu and sigma of q(z | x), (B, J), without the engine (eq. 2.75, 2.76)."""
    heads = mlp(vae.encoder, x)
    return heads[:, : vae.latents], np.exp(0.5 * heads[:, vae.latents :])


def log_bernoulli(vae, z, x=PATTERNS):
    """log p(x | z) by SciPy, without the engine (eq. 2.74)."""
    return bernoulli.logpmf(x, 1 / (1 + np.exp(-mlp(vae.decoder, z)))).sum(axis=-1)


def quadrature(vae, x=PATTERNS):
    """E_q[log p(x | z)] and E_q[log p(z) - log q(z | x)], each (B,): two integrals over eps in NumPy and SciPy."""
    mu, sigma = posterior(vae, x)
    z = mu + sigma * GRID[:, None, None]
    reconstruction = MASS @ log_bernoulli(vae, z, x)
    return reconstruction, MASS @ (norm.logpdf(z) - norm.logpdf(z, mu, sigma))[..., 0]


def within(draws, truth, label):
    """The mean of independent draws, rows averaged first, against ``truth`` within 4 standard errors."""
    draws = np.asarray(draws).reshape(len(draws), -1).mean(axis=1)
    return Claim(draws.mean(), "=", float(np.mean(truth)), 4 * draws.std(ddof=1) / np.sqrt(len(draws)), label)


# %% Section 2.10
@check("2.71", "the bound's two parts, sampled, are a reconstruction term and minus a divergence")
def reconstruction_and_regulariser():
    """5,000 samples a pattern against integrals over eps; the regulariser also against appendix 2.A by hand."""
    vae = tiny()
    terms = vae.terms(PATTERNS, Generator(1), 5_000)
    reconstruction, regulariser = quadrature(vae)
    mu, sigma = posterior(vae)
    by_hand = 0.5 * (1 + np.log(sigma**2) - mu**2 - sigma**2).sum(axis=1)
    return [
        within(terms.log_px_z, reconstruction, "reconstruction"),
        within(np.asarray(terms.log_pz) - np.asarray(terms.log_qz_x), regulariser, "regulariser"),
        Claim(np.abs(regulariser - by_hand).max(), "=", 0.0, 1e-10, "regulariser, closed form"),
    ]


@check("2.72", "E_q[grad log q] = 0, and E_q[f grad log q] = grad E_q[f] for f(z) = sin(z) + z^2")
def score_function_identity():
    """E f = sin(mu) exp(-sigma^2 / 2) + mu^2 + sigma^2 has derivatives by hand; f itself is never differentiated."""
    mu, log_sigma = Tensor(np.array([0.4])), Tensor(np.array([-0.3]))
    z = 0.4 + np.exp(-0.3) * GRID
    log_q = Normal(mu, log_sigma).log_prob(z[:, None])
    zero = np.concatenate(grad((log_q * MASS).sum(), [mu, log_sigma]))
    got = np.concatenate(grad((log_q * (MASS * (np.sin(z) + z * z))).sum(), [mu, log_sigma]))
    m, v = 0.4, np.exp(-0.6)
    shrink = np.exp(-v / 2)
    return [
        Claim(np.abs(zero).max(), "=", 0.0, 1e-12, "E grad log q, largest"),
        Claim(got[0], "=", np.cos(m) * shrink + 2 * m, 1e-10, "mu"),
        Claim(got[1], "=", v * (2 - np.sin(m) * shrink), 1e-10, "log sigma"),
    ]


@check("2.73", "one sample of f grad log q is unbiased for the encoder's gradient of the bound")
def score_function_of_the_bound():
    """The estimator's mean over 4,000 samples a pattern, in 40 groups, against a difference of the integrated bound."""
    vae = tiny()
    direction = random_direction(vae, "encoder")
    truth = slope(vae, lambda: float(np.mean(sum(quadrature(vae)))), direction)
    x = np.repeat(PATTERNS, 100, axis=0)
    draws = [along(vae, score_function(vae, x, Generator([2, i])).mean(), direction) for i in range(40)]
    return [within(draws, truth, "one sample"), Claim(abs(truth), ">=", 0.01, 0.0, "true gradient, size")]


# %% Section 2.11
@check("2.74, AEVB report 12", "log p(x | z) of the Bernoulli MLP, and its means")
def bernoulli_mlp():
    """SciPy's mass function of a network written out in NumPy."""
    vae, z = tiny(latents=2), Generator(3).standard_normal((16, 2))
    means = 1 / (1 + np.exp(-mlp(vae.decoder, z)))
    gap = np.asarray(vae.decode(z).log_prob(PATTERNS)) - log_bernoulli(vae, z)
    return [
        Claim(np.abs(gap).max(), "=", 0.0, 1e-12, "log p(x | z)"),
        Claim(np.abs(vae.mean_image(z) - means).max(), "=", 0.0, 1e-14, "means"),
    ]


@check("2.75, AEVB report 10, AEVB report 11", "log p(x | z) of the Gaussian MLP, its means squashed to (0, 1)")
def gaussian_mlp():
    """SciPy's density; the report leaves the means free, so the decoder's are the sigmoid of its eq. 10.

    The report prints D_h x D_z for the decoder's output weights; they are D_h x D, one column for each pixel.
    """
    vae, z = tiny("gaussian", latents=2), Generator(4).standard_normal((16, 2))
    x = Generator(5).random((16, 4))
    heads = mlp(vae.decoder, z)
    p, free, log_variance = vae.decode(z), heads[:, :4], heads[:, 4:]
    mu = np.asarray(p.mu)
    scipy = norm.logpdf(x, 1 / (1 + np.exp(-free)), np.exp(0.5 * log_variance)).sum(axis=1)
    return [
        Claim(np.abs(np.asarray(p.log_prob(x)) - scipy).max(), "=", 0.0, 1e-12, "log p(x | z)"),
        Claim(np.abs(np.log(mu / (1 - mu)) - free).max(), "=", 0.0, 1e-12, "eq. 10"),
        Claim(np.abs(2 * np.asarray(p.log_sigma) - log_variance).max(), "=", 0.0, 1e-12, "eq. 11"),
    ]


@check("2.76, AEVB report 13", "log q(z | x) is the density of N(mu(x), diag(sigma(x)^2))")
def encoder_density():
    """SciPy's multivariate normal, with the moments from a network written out in NumPy."""
    vae, z = tiny(latents=2), Generator(6).standard_normal((16, 2))
    mu, sigma = posterior(vae)
    scipy = [multivariate_normal.logpdf(*row) for row in zip(z, mu, [np.diag(s**2) for s in sigma], strict=True)]
    got = np.asarray(vae.encode(PATTERNS).log_prob(z))
    return Claim(np.abs(got - scipy).max(), "=", 0.0, 1e-11, "largest difference")


# %% [markdown]
# ### AEVB report
#
# Its eq. 1-6 are about any parameter theta with data D. Here theta ~ N(0, 1) and each of five data is N(theta, 1), so
# that log p(D) is a normal density and the posterior is known; q is some other normal.

# %%
DATA = np.array([0.3, -1.0, 0.8, 1.9, 0.4])
LOG_PD = multivariate_normal.logpdf(DATA, np.zeros(5), np.eye(5) + np.ones((5, 5)))
POSTERIOR = Normal(np.array([DATA.sum() / 6]), np.array([-0.5 * np.log(6)]))
Q = Normal(np.array([0.1]), np.array([np.log(0.6)]))


def log_likelihood(theta):
    """log p(D | theta), for each theta."""
    return norm.logpdf(DATA, np.asarray(theta)[..., None], 1.0).sum(axis=-1)


def transformed(q, eps):
    """theta = g(eps) (eq. 3), log p(D | theta), log p(theta) and log q(theta), the last by SciPy."""
    theta = np.asarray(q.rsample(eps[:, None]))[:, 0]
    return theta, log_likelihood(theta), norm.logpdf(theta), norm.logpdf(theta, q.mu[0], np.exp(q.log_sigma[0]))


def elbo_in_closed_form():
    """log p(D) - KL(Q || posterior)."""
    return LOG_PD - float(Q.kl(POSTERIOR))


@check("AEVB report 1", "KL(q || p(theta | D)) = log p(D) - ELBO")
def report_decomposition():
    """A closed form between normals, against a normal density of D and an integral over theta."""
    q = norm.pdf(GRID, 0.1, 0.6)
    elbo = np.sum(q * (log_likelihood(GRID) + norm.logpdf(GRID) - norm.logpdf(GRID, 0.1, 0.6))) * STEP
    return Claim(float(Q.kl(POSTERIOR)), "=", LOG_PD - elbo, 1e-10)


@check("AEVB report 2", "the mean of log p(theta, D) - log q(theta) over samples of q estimates the ELBO")
def report_monte_carlo():
    """100,000 samples."""
    theta = Q.sample(Generator(7), (100_000,))[:, 0]
    draws = log_likelihood(theta) + norm.logpdf(theta) - norm.logpdf(theta, 0.1, 0.6)
    return within(draws, elbo_in_closed_form(), "L = 100,000")


@check("AEVB report 3, AEVB report 14", "mu + sigma eps has the distribution of q")
def report_reparameterisation():
    """It takes quantiles of N(0, 1) to SciPy's quantiles of q; likewise for a VAE's posterior."""
    p = np.linspace(0.01, 0.99, 99)
    theta = transformed(Q, norm.ppf(p))[0]
    vae = tiny()
    mu, sigma = posterior(vae)
    z = np.asarray(vae.encode(PATTERNS).rsample(np.broadcast_to(norm.ppf(p)[:, None, None], (99, 16, 1))))
    return [
        Claim(np.abs(theta - norm.ppf(p, 0.1, 0.6)).max(), "=", 0.0, 1e-12, "eq. 3"),
        Claim(np.abs(z - norm.ppf(p[:, None, None], mu, sigma)).max(), "=", 0.0, 1e-12, "eq. 14"),
    ]


@check("AEVB report 4", "E over eps of log p(theta, D) - log q(theta) is the ELBO; without the log it is not")
def report_estimator_1():
    """The print lacks the log before q; its error, E[log q - q], is known for a normal."""
    _, log_pd, log_p, log_q = transformed(Q, GRID)
    corrected, printed = MASS @ (log_pd + log_p - log_q), MASS @ (log_pd + log_p - np.exp(log_q))
    off = -0.5 * (1 + np.log(2 * np.pi * 0.36)) - 1 / (2 * 0.6 * np.sqrt(np.pi))
    return [
        Claim(corrected, "=", elbo_in_closed_form(), 1e-10, "corrected"),
        Claim(printed - elbo_in_closed_form(), "=", off, 1e-10, "error of the printed line"),
    ]


@check("AEVB report 5, AEVB report 6", "E_q[log p(D | theta)] - KL(q || p(theta)) is the ELBO")
def report_estimator_2():
    """An integral over theta with the engine's closed-form divergence; and the estimator of eq. 6 by sampling."""
    kl = float(ops.gaussian_kl(Q.mu, Q.log_sigma))
    integral = np.sum(norm.pdf(GRID, 0.1, 0.6) * log_likelihood(GRID)) * STEP
    draws = transformed(Q, Generator(8).standard_normal(50_000))[1] - kl
    return [
        Claim(integral - kl, "=", elbo_in_closed_form(), 1e-10, "eq. 5"),
        within(draws, elbo_in_closed_form(), "eq. 6"),
    ]


@check("AEVB report 4, AEVB report 6", "at the true posterior eq. 4 has no variance, while eq. 6 keeps some")
def report_variances():
    """The report expects the opposite order in general. Eq. 6's variance: (n / 2)^2 (4 d^2 s^2 + 2 s^4), by hand."""
    m, s = float(POSTERIOR.mu[0]), 6**-0.5
    _, log_pd, log_p, log_q = transformed(POSTERIOR, GRID)
    d = m - DATA.mean()
    by_hand = (5 / 2) ** 2 * (4 * d**2 * s**2 + 2 * s**4)
    return [
        Claim(np.ptp(log_pd + log_p - log_q), "=", 0.0, 1e-9, "eq. 4, largest difference"),
        Claim(MASS @ log_pd**2 - (MASS @ log_pd) ** 2, "=", by_hand, 1e-9, "eq. 6, variance"),
    ]


@check("AEVB report 7", "the joint ELBO of several data is the sum of theirs")
def report_sum_over_data():
    """A double integral over (eps_1, eps_2) of the logs of the products, against two single ones."""
    vae, x = tiny(), PATTERNS[[3, 12]]
    eps = np.linspace(-8, 8, 161)
    mass = norm.pdf(eps) * (eps[1] - eps[0])
    mu, sigma = posterior(vae, x)
    z = mu + sigma * eps[:, None, None]
    log_p = log_bernoulli(vae, z, x) + norm.logpdf(z[..., 0])
    log_q = norm.logpdf(z, mu, sigma)[..., 0]
    products = [np.multiply.outer(np.exp(a[:, 0]), np.exp(a[:, 1])) for a in (log_p, log_q)]
    joint = mass @ (np.log(products[0]) - np.log(products[1])) @ mass
    return Claim(joint, "=", sum(quadrature(vae, x)).sum(), 1e-9)


PAIRS = [(i, j) for i in range(6) for j in range(i)]


@check(
    "AEVB report 8, AEVB report 9, review report 6",
    "N / M times a minibatch's bound, averaged over all minibatches and over eps, is the bound of all data",
)
def report_minibatches():
    """All 15 pairs of six patterns, 2,000 noises each, for estimators A and B, against integrals over all six."""
    vae, x = tiny(), PATTERNS[4:10]
    truth = sum(quadrature(vae, x)).sum()
    claims = []
    for kind in "AB":

        def estimate(rows, kind=kind):
            eps = Generator([9, *rows]).standard_normal((1, 2000 * len(rows), 1))
            tiled = np.repeat(x[rows], 2000, axis=0)
            return np.asarray(vae.elbo(tiled, eps=eps, estimator=kind)).reshape(len(rows), 2000)

        sums = np.array([6 / 2 * estimate(list(rows)).sum(axis=0) for rows in PAIRS])  # (15, 2000)
        claims.append(within(sums.T, truth, f"estimator {kind}"))
        claims.append(Claim(np.ptp(sums.mean(axis=1)), ">=", 0.1, 0.0, f"{kind}: minibatches differ by"))
    return claims


# %% [markdown]
# ### Review report
#
# Its h is discrete in eq. 1-4: with three patterns x and four states h, sums replace integrals. Eq. 5 lacks p after the
# log; theta is its index.


# %%
def tables(seed=10):
    """Logits of P(x, h), all twelve together, and of Q(h | x), (3, 4), as Tensors."""
    rng = np.random.default_rng(seed)
    return Tensor(rng.standard_normal((3, 4))), Tensor(rng.standard_normal((3, 4)))


def probabilities(theta, phi):
    """P(x, h) and Q(h | x) in NumPy."""
    p, q = np.exp(np.asarray(theta)), np.exp(np.asarray(phi))
    return p / p.sum(), q / q.sum(axis=1, keepdims=True)


def discrete_bound(theta, phi):
    """L(x) of the three patterns, in NumPy."""
    p, q = probabilities(theta, phi)
    return np.sum(q * (np.log(p) - np.log(q)), axis=1)


@check("review report 1", "log P(x) = log sum_h P(x, h) is at least L, and equal for Q = P(h | x)")
def review_bound():
    """Sums over the four states, for 50 pairs of tables."""
    gaps, at_posterior = [], []
    for seed in range(50):
        theta, phi = tables(seed)
        log_px = np.log(probabilities(theta, phi)[0].sum(axis=1))
        gaps.append(log_px - discrete_bound(theta, phi))
        at_posterior.append(log_px - discrete_bound(theta, theta))  # the rows' softmax is P(h | x)
    return [
        Claim(np.min(gaps), ">=", 0.0, 0.0, "smallest gap"),
        Claim(np.abs(at_posterior).max(), "=", 0.0, 1e-12, "gap at the posterior"),
    ]


@check("review report 2", "L = log P(x) - KL(Q, P(h | x))")
def review_decomposition():
    """SciPy's relative entropy."""
    theta, phi = tables()
    p, q = probabilities(theta, phi)
    right = np.log(p.sum(axis=1)) - [entropy(q[i], p[i]) for i in range(3)]
    return Claim(np.abs(discrete_bound(theta, phi) - right).max(), "=", 0.0, 1e-12, "largest difference")


@check("review report 3", "the model's gradient of L is E_Q[grad log P(x, h)]")
def review_model_gradient():
    """The engine's gradient of log P under Q, against a difference of L and against q - p by hand."""
    theta, phi = tables()
    p, q = probabilities(theta, phi)
    log_p = ops.log_softmax(theta.reshape((12,))).reshape((3, 4))
    got = grad((log_p[1] * q[1]).sum(), theta)
    direction, h = np.random.default_rng(11).standard_normal((3, 4)), 1e-5
    ahead, behind = (discrete_bound(np.asarray(theta) + s * h * direction, phi)[1] for s in (1, -1))
    by_hand = -p
    by_hand[1] += q[1]
    return [
        Claim(np.sum(got * direction), "=", (ahead - behind) / (2 * h), 1e-9, "difference"),
        Claim(np.abs(got - by_hand).max(), "=", 0.0, 1e-12, "by hand"),
    ]


@check("review report 4", "the inference network's gradient of L is E_Q[(log P - log Q) grad log Q]")
def review_inference_gradient():
    """Against the softmax's derivative by hand, Q_j (l_j - E_Q l), and a difference of L."""
    theta, phi = tables()
    p, q = probabilities(theta, phi)
    signal = np.log(p) - np.log(q)
    got = grad((Categorical(phi).log_probs * (q * signal)).sum(), phi)
    by_hand = q * (signal - np.sum(q * signal, axis=1, keepdims=True))
    direction, h = np.random.default_rng(12).standard_normal((3, 4)), 1e-5
    ahead, behind = (discrete_bound(theta, np.asarray(phi) + s * h * direction).sum() for s in (1, -1))
    return [
        Claim(np.abs(got - by_hand).max(), "=", 0.0, 1e-12, "by hand"),
        Claim(np.sum(got * direction), "=", (ahead - behind) / (2 * h), 1e-8, "difference"),
    ]


@check("review report 5", "L_A's expectation is the bound for any number of samples, its variance falls as 1 / L")
def review_estimator_a():
    """Four samples against one, over 8,000 noises; variances from an integral."""
    vae, x = tiny(), PATTERNS[6:7]
    mu, sigma = posterior(vae, x)
    z = mu + sigma * GRID[:, None, None]
    log_w = log_bernoulli(vae, z, x)[:, 0] + (norm.logpdf(z) - norm.logpdf(z, mu, sigma))[:, 0, 0]
    mean, variance = MASS @ log_w, MASS @ log_w**2 - (MASS @ log_w) ** 2
    claims = []
    for samples in (1, 4):
        draws = np.asarray(vae.elbo(np.repeat(x, 8000, axis=0), Generator(13), samples, estimator="A"))
        claims.append(within(draws, mean, f"mean, L = {samples}"))
        squares = (draws - mean) ** 2
        claims.append(within(squares, variance / samples, f"variance, L = {samples}"))
    return claims


@check("review report 7", "the factor before grad log q in the estimator is log p(x, h) - log q(h | x)")
def review_learning_signal():
    """The ratio of two of the engine's gradients, against densities from SciPy and a network in NumPy."""
    vae, z = tiny(), np.array([[[0.7]]])
    direction = random_direction(vae, "encoder")
    x = PATTERNS[11:12]
    factor = along(vae, score_function(vae, x, z=z).sum(), direction) / along(
        vae, vae.encode(x).log_prob(z).sum(), direction
    )
    mu, sigma = posterior(vae, x)
    signal = log_bernoulli(vae, z[0], x)[0] + norm.logpdf(0.7) - norm.logpdf(0.7, mu[0, 0], sigma[0, 0])
    theta, _ = tables()
    p, q = probabilities(theta, theta)  # Q = P(h | x)
    return [
        Claim(factor, "=", signal, 1e-10, "factor"),
        Claim(np.ptp(np.log(p) - np.log(q), axis=1).max(), "=", 0.0, 1e-12, "at Q = P(h | x), its range over h"),
    ]


@check("review report 8", "a baseline leaves the expectation unchanged and, near the mean signal, lowers the variance")
def review_baseline():
    """Estimates integrated over eps, for three constants and a function of x, against a difference of the bound."""
    vae = tiny()
    direction = random_direction(vae, "encoder")
    truth = slope(vae, lambda: float(np.mean(sum(quadrature(vae)))), direction)
    mu, sigma = posterior(vae)
    z = (mu + sigma * GRID[:, None, None]).reshape(1, -1, 1)
    x, weights = np.tile(PATTERNS, (len(GRID), 1)), np.repeat(MASS, 16) / 16
    claims = []
    for label, c in {"0": 0.0, "-5": -5.0, "7": 7.0, "of x": np.tile(sum(quadrature(vae)), len(GRID))}.items():
        surrogate = score_function(vae, x, z=z, baseline=c)
        claims.append(Claim(along(vae, (surrogate * weights).sum(), direction), "=", truth, 1e-8, f"c = {label}"))
    spread = {}
    for c in (0.0, float(np.mean(sum(quadrature(vae))))):
        many = np.repeat(PATTERNS, 5, axis=0)
        one = [score_function(vae, many, Generator([14, i]), baseline=c).mean() for i in range(60)]
        spread[c] = np.var([along(vae, scalar, direction) for scalar in one])
    none, mean = spread.values()
    return [*claims, Claim(none / mean, ">=", 2.0, 0.0, "variance without / with the mean signal as baseline")]
