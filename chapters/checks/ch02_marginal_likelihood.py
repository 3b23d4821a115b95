"""Checks of chapter 2, the marginal likelihood (thesis sections 2.7, 2.8, 2.11.2, appendix 2.B)."""

import numpy as np
from scipy.stats import norm

from minivi import evaluation, nn
from minivi.distributions import Normal
from minivi.em import MonteCarloEM
from minivi.experiments import Claim, check
from minivi.models import VAE
from minivi.random import Generator
from minivi.small import PATTERNS, along, random_direction, slope
from minivi.tensor import Tensor, grad
from minivi_chapters.studies.ch02_marginal_likelihood.kl import (
    GRID,
    STEP,
    densities,
    divergences,
    log_marginal,
    some_data,
    tiny,
)

# %% [markdown]
# ## The equations, checked


# %% Section 2.7
def wide(vae):
    """The same model with a posterior wide enough that all moments of the importance weights exist."""
    bias = vae.encoder.layers[-1].bias
    bias.assign(bias.data + np.array([0.0, 1.0]))  # log sigma^2
    return vae


def moments(vae):
    """Central moments 2 and 3 of w / p(x) under q(z | x), each (16,), by integration."""
    log_joint, log_q = densities(vae)
    ratio = np.exp(log_joint - log_q) / np.exp(log_marginal(log_joint))[:, None]
    return [(np.exp(log_q) * (ratio - 1) ** k).sum(axis=1) * STEP for k in (2, 3)]


@check("2.56", "the identity holds for any q: E[w] = p(x) with an encoder that looks at another image")
def any_proposal():
    """q(z | 1 - x) in the place of q(z | x), by integration over eps; the integral over z is the other side."""
    vae = wide(tiny())
    q, log_joint = vae.encode(1.0 - PATTERNS), densities(vae)[0]
    z = np.asarray(q.mu) + np.exp(np.asarray(q.log_sigma)) * GRID
    p = vae.mean_image(z[..., None])
    log_px_z = np.log(np.where(PATTERNS[:, None] == 1, p, 1 - p)).sum(axis=-1)
    w = np.exp(log_px_z + norm.logpdf(z) - np.asarray(q.log_prob(z.T[..., None])).T)
    left = np.log((w * norm.pdf(GRID)).sum(axis=1) * STEP)
    return Claim(abs(left - log_marginal(log_joint)).max(), "=", 0.0, 1e-9, "largest difference")


@check("2.57", "the estimate misses log p(x) by Var / (2L), and at the next order by what its third moment says")
def bias_of_importance_sampling():
    """L = 40, with log r - (r - 1) for log r: r, the mean of w / p(x), has expectation 1, which quiets the noise."""
    vae, count, repeats = wide(tiny()), 40, 1500
    second, third = moments(vae)
    log_w = np.asarray(vae.log_weights(PATTERNS, Generator(12), count * repeats)).reshape(count, repeats, 16)
    r = np.exp(log_w - log_marginal(densities(vae)[0])).mean(axis=0)
    found = (np.log(r) - (r - 1.0)).mean(axis=1)
    error = 4 * found.std(ddof=1) / np.sqrt(repeats)
    first = -second / (2 * count)
    next_order = third / (3 * count**2) - 3 * second**2 / (4 * count**2)
    return [
        Claim(found.mean(), "=", (first + next_order).mean(), error, "mean error of L = 40"),
        Claim(error, "<=", 0.2 * abs(first.mean()), 0.0, "sharp enough to see it"),
    ]


@check("2.57", "one draw more never lowers the expected bound, and the ELBO is L = 1: by integration for L = 1, 2")
def two_samples_by_integration():
    """E log (w_1 + w_2) / 2 over the square of eps, between the ELBO and log p(x), for every pattern."""
    vae, eps = tiny(), np.linspace(-8, 8, 161)
    weights = norm.pdf(eps) * (eps[1] - eps[0])
    log_w = np.asarray(vae.log_weights(PATTERNS, eps=np.broadcast_to(eps[:, None, None], (161, 16, 1))))
    pairs = np.logaddexp(log_w[:, None], log_w[None]) - np.log(2)
    one, two = weights @ log_w, np.einsum("i,j,ijn->n", weights, weights, pairs)
    log_joint, log_q = densities(vae)
    elbo = (np.exp(log_q) * (log_joint - log_q)).sum(axis=1) * STEP
    return [
        Claim(abs(one - elbo).max(), "=", 0.0, 1e-9, "L = 1 less the ELBO"),
        Claim((two - one).min(), ">=", 1e-6, 0.0, "L = 2 less L = 1, smallest"),
        Claim((log_marginal(log_joint) - two).min(), ">=", 1e-6, 0.0, "log p(x) less L = 2, smallest"),
    ]


@check("2.57", "the IWAE objective is an ELBO of another q (Cremer & Duvenaud 2017): L = 2, by integration over both z")
def importance_weighted_posterior():
    """q~(z | z') = p(x, z) / ((w(z) + w(z')) / 2), of no norm, has IWAE's bound; its mean over z' a higher one."""
    log_joint, log_q = (a[:, ::10] for a in densities(tiny()))
    step, q, log_w = 10 * STEP, np.exp(log_q), log_joint - log_q
    mean_w = np.logaddexp(log_w[:, :, None], log_w[:, None]) - np.log(2)  # of z and z'
    iwae = np.einsum("ni,nj,nij->n", q, q, mean_w) * step**2
    tilde = np.exp(log_joint[:, :, None] - mean_w)
    own = np.einsum("nj,nij,nij->n", q, tilde, mean_w) * step**2  # log p(x, z) - log q~ = mean_w
    mixed = np.einsum("nj,nij->ni", q, tilde) * step
    elbo = (mixed * (log_joint - np.log(mixed))).sum(axis=1) * step
    return [
        Claim(abs(own - iwae).max(), "=", 0.0, 1e-9, "E over z' of the bound of q~ less IWAE's"),
        Claim(abs(mixed.sum(axis=1) * step - 1).max(), "=", 0.0, 1e-9, "the mean of q~ over z' has norm 1"),
        Claim((elbo - iwae).min(), ">=", 1e-6, 0.0, "its ELBO less IWAE's bound, smallest"),
        Claim((log_marginal(log_joint) + np.log(10) - elbo).min(), ">=", 1e-6, 0.0, "log p(x) less that, smallest"),
    ]


# %% Section 2.8
@check("2.58-2.60", "the mean of log p(x) over data is its expectation under q_D, the mixture of their Diracs")
def likelihood_is_an_expectation():
    """One pass over 200 data by the grid of `evaluation`, against 16 patterns weighted by frequency."""
    (x, frequencies), vae = some_data(), tiny()
    over_data = evaluation.log_likelihood_by_quadrature(vae, x, 200, 10.0).mean
    mixture = np.mean([np.all(PATTERNS == one, axis=1) for one in x], axis=0)  # eq. 2.60, Diracs on the patterns
    return [
        Claim(over_data, "=", frequencies @ log_marginal(densities(vae)[0]), 1e-9, "log p(D)"),
        Claim(abs(mixture - frequencies).max(), "=", 0.0, 1e-14, "q_D"),
    ]


def entropy_of(frequencies):
    """H(q_D) in nats."""
    return -sum(f * np.log(f) for f in frequencies if f)


@check("2.61, 2.62", "KL(q_D(x) || p(x)) = -log p(D) - H(q_D), so two models differ by the difference of log p(D)")
def likelihood_as_divergence():
    """SciPy's relative entropy against the mean over data; H(q_D) is the constant for every model."""
    x, frequencies = some_data()
    found = []
    for seed in range(3):
        vae = tiny(seed)
        log_p = evaluation.log_likelihood_by_quadrature(vae, x, 200, 10.0).mean
        found.append(divergences(vae, frequencies)[0] + log_p)
    return Claim(max(abs(f + entropy_of(frequencies)) for f in found), "=", 0.0, 1e-9, "largest difference")


@check("2.63-2.65", "KL(q_D(x) q(z | x) || p(x, z)) = -ELBO - H(q_D)")
def bound_as_divergence():
    """The double integral against the model's own bound, its noise integrated out by Gauss and Hermite."""
    (x, frequencies), vae = some_data(), tiny()
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    elbo = sum(
        w * np.asarray(vae.elbo(x, eps=np.full((1, len(x), 1), e))).mean() for e, w in zip(nodes, weights, strict=True)
    )
    return Claim(divergences(vae, frequencies)[1], "=", -elbo - entropy_of(frequencies), 1e-8)


@check("2.66, 2.67", "the joint divergence is the marginal one plus the mean posterior one, for five models")
def divergences_add_up():
    """Three sums, none made from the others."""
    _, frequencies = some_data()
    gaps = [divergences(tiny(seed), frequencies) for seed in range(5)]
    return Claim(max(abs(j - m - p) for m, j, p in gaps), "=", 0.0, 1e-10, "largest difference")


@check("2.68", "the joint divergence is at least the marginal one (printed the other way round); equal at q = p(z | x)")
def joint_is_above_marginal():
    """Five models; and the joint divergence with the exact posterior in q's place."""
    _, frequencies = some_data()
    gaps = [divergences(tiny(seed), frequencies) for seed in range(5)]
    log_joint, _ = densities(tiny())
    seen = frequencies > 0
    posterior = np.exp(log_joint) / (np.exp(log_joint).sum(axis=1, keepdims=True) * STEP)
    inside = np.log(frequencies[seen])[:, None] + np.log(posterior[seen] + 1e-300) - log_joint[seen]
    at_posterior = frequencies[seen] @ (posterior[seen] * inside).sum(axis=1) * STEP
    return [
        Claim(min(j - m for m, j, _ in gaps), ">=", 0.01, 0.0, "joint less marginal, smallest"),
        Claim(at_posterior, "=", gaps[0][0], 1e-9, "with q = p(z | x)"),
    ]


@check(
    "section 2.8",
    "for a fixed encoder the ELBO is the log-likelihood of data augmented by z ~ q(z | x), less a constant",
)
def augmented_likelihood():
    """The decoder's gradient by the engine against that of E over q_D(x) q(z | x) of log p(x, z), by differences.

    The text takes p(x, z) itself for the distribution of the augmented data; there any model is the best already.
    """
    (_, frequencies), vae = some_data(), tiny()
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    eps = np.broadcast_to(nodes[:, None, None], (40, 16, 1))
    q, direction = np.exp(densities(vae)[1]), random_direction(vae, "decoder")
    elbo = (vae.log_weights(PATTERNS, eps=eps).T @ (weights / weights.sum()) * frequencies).sum()
    engine = along(vae, elbo, direction)
    p = np.exp(densities(vae)[0])
    augmented, printed = (
        slope(vae, lambda mass=mass: (mass * densities(vae)[0]).sum() * STEP, direction)
        for mass in (frequencies[:, None] * q, p)
    )
    return [
        Claim(engine, "=", augmented, 1e-6, "the ELBO's slope, and the augmented likelihood's"),
        Claim(abs(engine), ">=", 0.01, 0.0, "its size"),
        Claim(printed, "=", 0.0, 1e-6, "as printed there is nothing to learn"),
    ]


# %% Section 2.11.2: the yardstick of Figure 2.6
@check("1.13", "evaluation's grid over three latents agrees with plain Monte Carlo over the prior, within 4 s.e.")
def quadrature_against_monte_carlo():
    """100,000 draws from the prior."""
    vae = VAE(4, (3,), 3, rng=Generator(21), init=nn.normal(1.0), dtype="float64")
    p = vae.mean_image(Generator(22).standard_normal((100_000, 3)))
    px_z = np.exp(np.log(p) @ PATTERNS.T + np.log1p(-p) @ (1 - PATTERNS).T)
    found = np.exp(evaluation.log_likelihood_by_quadrature(vae, PATTERNS, 25).values)
    error = px_z.std(axis=0) / np.sqrt(len(p))
    return Claim(abs((px_z.mean(axis=0) - found) / error).max(), "<=", 4.0, 0.0, "worst pattern, standard errors")


# %% Appendix 2.B
@check("2.B", "grad log p(z | x) = grad log p(z) + grad log p(x | z)")
def posterior_gradient():
    """The engine's right side at six z for each pattern, against differences of the normalised posterior."""
    vae, h = tiny(), 1e-5
    z = np.linspace(-2.5, 2.5, 6)
    leaf = Tensor(np.broadcast_to(z[:, None, None], (6, 16, 1)))
    prior = Normal(np.zeros(1), np.zeros(1))
    right = grad((prior.log_prob(leaf) + vae.decode(leaf).log_prob(PATTERNS)).sum(), leaf)[..., 0]

    def posterior(z):
        p = vae.mean_image(z[:, None])[:, None]
        px_z = np.prod(np.where(PATTERNS == 1, p, 1 - p), axis=-1)
        return px_z * norm.pdf(z)[:, None] / np.exp(log_marginal(densities(vae)[0]))

    left = (np.log(posterior(z + h)) - np.log(posterior(z - h))) / (2 * h)
    return Claim(abs(left - right).max(), "=", 0.0, 1e-8, "largest difference")


@check("2.B", "ten leapfrog steps at 90 % acceptance leave p(z | x) as it is, within 4 standard errors")
def chains_sample_the_posterior():
    """60 chains a pattern, started anywhere: mean and second moment against integration."""
    em, rng = MonteCarloEM(tiny(hidden=6), 960, Generator([0, 7])), Generator(13)
    x, index, states = np.repeat(PATTERNS, 60, axis=0), np.arange(960), []
    for _ in range(60):
        em.e_step(x, index, rng)
        states.append(em.chains.data.reshape(16, 60).copy())
    log_joint, _ = densities(em.vae)
    posterior = np.exp(log_joint - log_marginal(log_joint)[:, None])
    scores = []
    for f in (lambda z: z, np.square):
        chains = f(np.array(states[20:])).mean(axis=0)  # one number a chain: independent, whatever its autocorrelation
        exact = (posterior * f(GRID)).sum(axis=1) * STEP
        scores.append((chains.mean(axis=1) - exact) / (chains.std(axis=1, ddof=1) / np.sqrt(60)))
    accepted = em.acceptance(x, index, Generator(11))
    return [
        Claim(abs(np.array(scores)).max(), "<=", 4.0, 0.0, "worst of 32 moments, standard errors"),
        Claim(accepted, "=", em.target, 0.07, "acceptance"),
    ]


@check("2.B", "the M step follows the likelihood: E over p(z | x) of grad log p(x, z) = grad log p(x)")
def fisher_identity():
    """The engine's gradient averaged over the integrated posterior, against a difference of the integrated log p(x)."""
    vae = tiny()
    log_joint, _ = densities(vae)
    weights = np.exp(log_joint - log_marginal(log_joint)[:, None]) * STEP / 16
    z = np.broadcast_to(GRID[:, None, None], (len(GRID), 16, 1))
    parameters = vae.decoder.parameters()
    gradients = grad((vae.decode(z).log_prob(PATTERNS) * weights.T).sum(), parameters)
    rng, h = np.random.default_rng(3), 1e-5
    direction = [rng.standard_normal(p.shape) for p in parameters]
    values, start = [], [p.data.copy() for p in parameters]
    for sign in (1.0, -1.0):
        for p, value, d in zip(parameters, start, direction, strict=True):
            p.assign(value + sign * h * d)
        values.append(log_marginal(densities(vae)[0]).mean())
    left = (values[0] - values[1]) / (2 * h)
    return Claim(sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True)), "=", left, 1e-8)
