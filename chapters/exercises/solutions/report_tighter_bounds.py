"""Exercises: importance-weighted bounds and their gradients (tighter-bounds report).

Beside the lessons `chapters/report_tighter_bounds.py` and `report_tighter_bounds_gradients.py`. Replace each `raise
NotImplementedError` by your code, then run `minivi grade chapters/exercises/report_tighter_bounds.py`. NumPy is all
that is needed. All values are in nats. log_w are log-weights log p(x, z) - log q(z | x) of samples z from q: (K, B)
are K samples for each of B data. They can be -900: no weight may vanish or overflow. No function may write into its
arguments.
"""

# %%
import numpy as np

# %% [teacher]
from scipy.special import logsumexp
from scipy.stats import binom, norm

from minivi.exercises import Case, task

NODES, MASS = np.polynomial.hermite_e.hermegauss(40)
MASS = MASS / MASS.sum()


def drawn(rng, samples, data=3):
    """Log-weights of very different levels, (samples, data)."""
    return 1.5 * rng.normal(size=(samples, data)) - np.array([0.0, 90.0, 900.0])[:data]


def of_model(x, mu, m, s, eps):
    """log w of the model of one latent, for noise of any shape; q has the mean m."""
    z = m + s * eps
    return norm.logpdf(x, z) + norm.logpdf(z, mu) - norm.logpdf(z, m, s)


# %% [markdown]
# ## The weights, with a fault
#
# The line under eq. 11 of the report writes the weight in two ways, of which one has a factor too many. The code
# follows that one. Mend it: the mean weight must be p(x).


# %%
def log_weights(log_px_z, log_pz, log_qz_x):
    """log w, from log p(x | z), log p(z) and log q(z | x) of the same samples, all (K, B)."""
    # [solution]
    return log_px_z + log_pz - log_qz_x
    # [blank]
    # log_joint = log_px_z + log_pz
    # return log_joint + log_pz - log_qz_x
    # [end]


# %% [teacher]
@task("log_weights", 1, "fault", "tighter-bounds report eq. 3 and 11", mistakes=[
    ("log_px_z + log_pz", "log_px_z + 2 * log_pz", "the joint has the prior in it already"),
    ("+ log_pz - log_qz_x", "- log_qz_x", "the prior is missing now: p(x, z), not p(x | z)"),
    ("- log_qz_x", "+ log_qz_x", "samples come from q: what is frequent under it must weigh less"),
    ("+ log_pz", "- log_pz", "the prior belongs above the line"),
    ("log_px_z + log_pz - log_qz_x", "np.exp(log_px_z + log_pz - log_qz_x)", "asked are the logarithms"),
    ("log_px_z + log_pz - log_qz_x", "log_px_z", "q and the prior do not cancel: this is the decoder's term alone"),
])  # fmt: skip
def _(rng):
    x, mu, m, s = rng.normal(size=(4, 1, 3))
    s = np.exp(0.3 * s)
    z = m + s * rng.normal(size=(4, 3))
    q = norm(m, s)
    yield Case(
        (norm.logpdf(x, z), norm.logpdf(z, mu), q.logpdf(z)), np.log(norm.pdf(x, z) * norm.pdf(z, mu) / q.pdf(z))
    )


# %% [markdown]
# ## The importance-weighted bound
#
# Of K samples, for each datum.


# %%
def iwae(log_w):
    """The bound, (B,), from (K, B)."""
    # [solution]
    largest = log_w.max(axis=0)
    return largest + np.log(np.mean(np.exp(log_w - largest), axis=0))
    # [end]


# %% [teacher]
@task("iwae", 2, "code", "tighter-bounds report eq. 6", mistakes=[
    ("largest = log_w.max(axis=0)", "largest = 0 * log_w[0]",
     "the weights themselves vanish: take the largest out first"),
    ("return largest + np.log(", "return np.log(", "what was taken out comes back"),
    ("np.mean(np.exp", "np.sum(np.exp", "a mean of weights, not their sum"),
    ("return largest + np.log(np.mean(np.exp(log_w - largest), axis=0))", "return log_w.mean(axis=0)",
     "that is the ELBO: the logarithm stands outside the mean"),
    ("np.exp(log_w - largest), axis=0)", "np.exp(log_w - largest))", "each datum has its own samples"),
    ("return largest + np.log(np.mean(np.exp(log_w - largest), axis=0))", "return largest",
     "the other samples count too"),
])  # fmt: skip
def _(rng):
    for k in (1, 5):
        log_w = drawn(rng, k)
        yield Case((log_w,), logsumexp(log_w, axis=0, b=1 / k))


# %% [markdown]
# ## MIWAE
#
# From M groups of K samples, group after group: log_w[:K] is the first group.


# %%
def miwae(log_w, groups):
    """The bound, (B,), from (M K, B) and groups = M."""
    # [solution]
    grouped = log_w.reshape(groups, -1, log_w.shape[1])
    largest = grouped.max(axis=1, keepdims=True)
    return np.mean(largest[:, 0] + np.log(np.mean(np.exp(grouped - largest), axis=1)), axis=0)
    # [end]


# %% [teacher]
@task("miwae", 3, "code", "tighter-bounds report eq. 11", mistakes=[
    ("log_w.reshape(groups, -1, log_w.shape[1])", "log_w.reshape(-1, groups, log_w.shape[1]).swapaxes(0, 1)",
     "which samples make a group: neighbours, or every M-th?"),
    ("log_w.reshape(groups, -1, log_w.shape[1])", "log_w.reshape(-1, groups, log_w.shape[1])",
     "M groups of K, not K groups of M"),
    ("return np.mean(largest", "return np.sum(largest", "over groups the mean is taken"),
    ("np.log(np.mean(np.exp", "np.log(np.sum(np.exp", "within a group: a mean of weights, not their sum"),
    ("log_w.reshape(groups, -1, log_w.shape[1])", "log_w.reshape(1, -1, log_w.shape[1])",
     "that is IWAE of all samples: the groups are not heeded"),
    ("largest[:, 0] + np.log(np.mean(np.exp(grouped - largest), axis=1))", "np.mean(grouped, axis=1)",
     "that is the ELBO: within a group the logarithm stands outside the mean"),
    ("largest = grouped.max(axis=1, keepdims=True)", "largest = np.zeros((groups, 1, log_w.shape[1]))",
     "the weights themselves vanish: take the largest out first"),
])  # fmt: skip
def _(rng):
    for groups, k in ((3, 2), (2, 4)):
        log_w = drawn(rng, groups * k)
        each = [logsumexp(log_w[i * k : (i + 1) * k], axis=0) - np.log(k) for i in range(groups)]
        yield Case((log_w, groups), sum(each) / groups)


# %% [markdown]
# ## CIWAE
#
# Between the ELBO and IWAE, of the same samples.


# %%
def ciwae(log_w, beta):
    """The bound, (B,), from (K, B) and beta in [0, 1]."""
    # [solution]
    largest = log_w.max(axis=0)
    tight = largest + np.log(np.mean(np.exp(log_w - largest), axis=0))
    return beta * log_w.mean(axis=0) + (1 - beta) * tight
    # [end]


# %% [teacher]
@task("ciwae", 2, "code", "tighter-bounds report eq. 12 and 13", mistakes=[
    ("beta * log_w.mean(axis=0) + (1 - beta) * tight", "(1 - beta) * log_w.mean(axis=0) + beta * tight",
     "which of the two does beta = 1 give?"),
    ("(1 - beta) * tight", "tight", "it is a convex combination: the two shares add up to 1"),
    ("log_w.mean(axis=0) +", "log_w.sum(axis=0) +", "the ELBO is a mean over samples"),
    ("np.log(np.mean(np.exp", "np.log(np.sum(np.exp", "IWAE: a mean of weights, not their sum"),
    ("beta * log_w.mean(axis=0) + (1 - beta) * tight",
     "largest + np.log(np.mean(np.exp(log_w - largest) ** (1 - beta), axis=0))",
     "the bounds are combined, not the weights"),
    ("log_w.mean(axis=0) + (1", "log_w[0] + (1", "the ELBO is of all samples too, not of one"),
])  # fmt: skip
def _(rng):
    for k in (2, 5):
        log_w, beta = drawn(rng, k), float(rng.uniform(0.1, 0.4))
        tight = logsumexp(log_w, axis=0) - np.log(k)
        yield Case((log_w, beta), tight + beta * (np.sum(log_w, axis=0) / k - tight))


# %% [markdown]
# ## The gradient of IWAE
#
# slopes are the gradients of log w of each sample by the P parameters. What is the gradient of the bound?


# %%
def iwae_gradient(log_w, slopes):
    """The gradient, (B, P), from (K, B) and (K, B, P)."""
    # [solution]
    weights = np.exp(log_w - log_w.max(axis=0))
    weights = weights / weights.sum(axis=0)
    return np.sum(weights[..., None] * slopes, axis=0)
    # [end]


# %% [teacher]
@task("iwae_gradient", 2, "code", "tighter-bounds report eq. 7; review report eq. 11", mistakes=[
    ("np.sum(weights[..., None] * slopes, axis=0)", "np.mean(slopes, axis=0)",
     "that is the ELBO's: a sample with a larger weight counts for more"),
    ("np.sum(weights[..., None] * slopes, axis=0)", "np.sum(slopes, axis=0)", "the normalised weights are missing"),
    ("np.sum(weights[..., None]", "np.mean(weights[..., None]", "the weights add up to 1 already"),
    ("    weights = weights / weights.sum(axis=0)\n", "", "the weights must add up to 1"),
    ("weights.sum(axis=0)", "weights.sum()", "each datum's weights add up to 1"),
    ("weights[..., None] * slopes", "weights[..., None] ** 2 * slopes",
     "the squares belong to another estimator, of the encoder's gradient along the path"),
])  # fmt: skip
def _(rng):
    for k in (2, 4):
        log_w, slopes = drawn(rng, k), rng.normal(size=(k, 3, 2))
        bound = lambda t, j, w=log_w, g=slopes: logsumexp(w - w.max(axis=0) + t * g[..., j], axis=0)
        yield Case((log_w, slopes), np.stack([(bound(1e-5, j) - bound(-1e-5, j)) / 2e-5 for j in range(2)], axis=1))


# %% [markdown]
# ## PIWAE
#
# Each network gets the gradient of a bound of its own, from the same samples: M groups of K as above.


# %%
def piwae_gradients(log_w, groups, by_encoder, by_decoder):
    """The encoder's and the decoder's gradients, (B, P) and (B, R), from log_w (M K, B) and its gradients by each."""
    # [solution]
    weights = np.exp(log_w - log_w.max(axis=0))
    in_groups = log_w.reshape(groups, -1, log_w.shape[1])
    grouped = np.exp(in_groups - in_groups.max(axis=1, keepdims=True))
    in_group = (grouped / grouped.sum(axis=1, keepdims=True)).reshape(log_w.shape)
    encoder = np.sum(in_group[..., None] * by_encoder, axis=0) / groups
    return encoder, np.sum((weights / weights.sum(axis=0))[..., None] * by_decoder, axis=0)
    # [end]


# %% [teacher]
@task("piwae_gradients", 4, "code", "tighter-bounds report eq. 14 and 15", mistakes=[
    ("in_group[..., None] * by_encoder, axis=0) / groups",
     "(weights / weights.sum(axis=0))[..., None] * by_encoder, axis=0)",
     "encoder: that is the gradient of IWAE, whose signal fades"),
    ("np.sum((weights / weights.sum(axis=0))[..., None] * by_decoder, axis=0)",
     "np.sum(in_group[..., None] * by_decoder, axis=0) / groups",
     "decoder: it gets the tightest bound, of all samples"),
    ("by_encoder, axis=0) / groups", "by_encoder, axis=0)", "encoder: over groups the mean is taken"),
    ("in_group[..., None] * by_encoder, axis=0) / groups", "by_encoder, axis=0) / len(log_w)",
     "encoder: that is the ELBO's gradient: within a group, weights count"),
    ("return encoder, np.sum(", "return encoder, np.mean(", "decoder: the weights add up to 1 already"),
    ("log_w.reshape(groups, -1, log_w.shape[1])", "log_w.reshape(-1, groups, log_w.shape[1])",
     "encoder: M groups of K, group after group"),
    ("grouped.sum(axis=1, keepdims=True)", "grouped.sum(axis=1, keepdims=True) * len(grouped[0])",
     "encoder: the weights of each group add up to 1 already"),
])  # fmt: skip
def _(rng):
    for groups, k in ((3, 2), (2, 3)):
        log_w = drawn(rng, groups * k)
        by_encoder, by_decoder = rng.normal(size=(groups * k, 3, 2)), rng.normal(size=(groups * k, 3, 1))

        def bound(log_w, size):
            parts = [logsumexp(log_w[i : i + size], axis=0) for i in range(0, len(log_w), size)]
            return sum(parts) / len(parts)

        centred = log_w - log_w.max(axis=0)

        def slope(by, size):
            moved = [[bound(centred + sign * g, size) for sign in (1e-5, -1e-5)] for g in np.moveaxis(by, 2, 0)]
            return np.stack([(up - down) / 2e-5 for up, down in moved], axis=1)

        yield Case((log_w, groups, by_encoder, by_decoder), [slope(by_encoder, k), slope(by_decoder, groups * k)])


# %% [markdown]
# ## A gradient by hand
#
# A model of single numbers: z has the prior N(mu, 1), x given z is N(z, 1), q is N(m, s^2), and z_k = m + s eps_k.
# Give the derivatives of the bound of K samples by m and by mu, for given noise.


# %%
def gradients(x, mu, m, s, eps):
    """Two numbers: by m and by mu; eps (K,)."""
    # [solution]
    z = m + s * eps
    log_w = -0.5 * (x - z) ** 2 - 0.5 * (z - mu) ** 2 + 0.5 * eps**2
    weights = np.exp(log_w - log_w.max())
    weights = weights / weights.sum()
    return weights @ (x - z + mu - z), weights @ (z - mu)
    # [end]


# %% [teacher]
@task("gradients", 3, "derive", "tighter-bounds report eq. 7", mistakes=[
    ("weights @ (x - z + mu - z)", "weights @ (x - z + mu - z + eps / s)",
     "by m: as z moves with m, the density of q at z does not change"),
    ("weights @ (z - mu)", "weights @ (mu - z)", "by mu: the prior rises at z if mu moves towards it"),
    ("weights @ (x - z + mu - z)", "weights @ (x - z)", "by m: z stands in the prior too"),
    ("weights @ (x - z + mu - z), weights @ (z - mu)", "np.mean(x - z + mu - z), np.mean(z - mu)",
     "that is the ELBO's: samples are weighted"),
    (" + 0.5 * eps**2", "", "q is missing in the weights"),
    ("+ 0.5 * eps**2", "- 0.5 * eps**2", "q stands below the line in the weights"),
    ("weights @ (x - z + mu - z), weights @ (z - mu)", "weights @ (z - mu), weights @ (x - z + mu - z)",
     "by m, then by mu: the order is turned"),
])  # fmt: skip
def _(rng):
    for k in (1, 3, 6):
        (x, mu, m), s, eps = rng.normal([1.0, 0.0, 0.0]), rng.uniform(0.5, 1.2), rng.normal(size=k)
        bound = lambda m, mu, x=x, s=s, eps=eps: logsumexp(of_model(x, mu, m, s, eps))
        by_m, by_mu = bound(m + 1e-5, mu) - bound(m - 1e-5, mu), bound(m, mu + 1e-5) - bound(m, mu - 1e-5)
        yield Case((x, mu, m, s, eps), [by_m / 2e-5, by_mu / 2e-5], atol=1e-8)


# %% [markdown]
# ## DReG
#
# In the same model, the encoder's gradient reparameterised twice: squares of the normalised weights, and the derivative
# of log w along the path alone, with q's own parameters held. Its expectation is that of the gradient before: the
# grader sums it over all pairs of a grid of eps too.


# %%
def dreg(x, mu, m, s, eps):
    """The estimate of the derivative by m, a number; eps (K,)."""
    # [solution]
    z = m + s * eps
    log_w = -0.5 * (x - z) ** 2 - 0.5 * (z - mu) ** 2 + 0.5 * eps**2
    weights = np.exp(log_w - log_w.max())
    weights = weights / weights.sum()
    return weights**2 @ (x - z + mu - z + eps / s)
    # [end]


# %% [teacher]
@task("dreg", 4, "code", "lesson report_tighter_bounds, section 3; Tucker et al. 2019", mistakes=[
    ("weights**2 @", "weights @", "the weights are squared: otherwise it is biased for K > 1"),
    (" + eps / s)", ")", "log q(z) changes along the path too"),
    ("eps / s)", "eps)", "the slope of log q(z) by z has the variance below the line"),
    ("- z + eps / s)", "- z - eps / s)", "log q is taken off in log w: check the sign of its slope"),
    ("weights**2 @ (", "(weights**2 / np.sum(weights**2)) @ (", "the squares are not normalised anew"),
    (" + 0.5 * eps**2", "", "q is missing in the weights"),
    ("weights**2 @ (", "weights * (1 - weights) @ (", "which power of the normalised weight is left?"),
])  # fmt: skip
def _(rng):
    for k in (1, 4):
        (x, mu, m), s, eps = rng.normal([1.0, 0.0, 0.0]), rng.uniform(0.6, 1.0), rng.normal(size=k)
        z, log_w = m + s * eps, of_model(x, mu, m, s, eps)
        path = lambda z, x=x, mu=mu, m=m, s=s: norm.logpdf(x, z) + norm.logpdf(z, mu) - norm.logpdf(z, m, s)
        slopes = (path(z + 1e-5) - path(z - 1e-5)) / 2e-5
        yield Case((x, mu, m, s, eps), float(np.exp(2 * (log_w - logsumexp(log_w))) @ slopes), atol=1e-8)
    x, mu, m = (float(v) for v in rng.uniform([0.5, -0.5, -0.3], [1.5, 0.5, 0.8]))  # where the grid is fine enough
    s = float(rng.uniform(0.75, 0.9))
    pairs = np.array([[a, b] for a in NODES for b in NODES])
    mass = np.array([a * b for a in MASS for b in MASS])
    bound = lambda m: mass @ logsumexp(of_model(x, mu, m, s, pairs), axis=1)
    sums = "lambda f, x, mu, m, s, pairs, mass: sum(w * f(x, mu, m, s, e) for w, e in zip(mass, pairs))"
    expected = float((bound(m + 1e-4) - bound(m - 1e-4)) / 2e-4)
    yield Case((x, mu, m, s, pairs, mass), expected, 1e-4, 1e-4, driver=sums)


# %% [markdown]
# ## The signal-to-noise ratio
#
# From many draws of a gradient, for each parameter.


# %%
def signal_to_noise(draws):
    """The ratio for each parameter, (P,), from draws (N, P); the deviation of one draw, over N."""
    # [solution]
    return np.abs(draws.mean(axis=0)) / draws.std(axis=0)
    # [end]


# %% [teacher]
@task("signal_to_noise", 1, "code", "tighter-bounds report eq. 8", mistakes=[
    ("draws.std(axis=0)", "draws.var(axis=0)", "in another unit of the gradient the ratio must be the same"),
    ("np.abs(draws.mean(axis=0))", "draws.mean(axis=0)", "the ratio has no sign"),
    ("np.abs(draws.mean(axis=0))", "np.abs(draws).mean(axis=0)",
     "noise averages out in the signal: abs of the mean, or the mean of abs?"),
    ("draws.std(axis=0)", "(draws.std(axis=0) / np.sqrt(len(draws)))",
     "the noise is that of one draw, not of their mean"),
    ("draws.std(axis=0)", "draws.std()", "each parameter has its own noise"),
    ("draws.std(axis=0)", "np.sqrt(np.mean(draws**2, axis=0))", "the noise is measured from the mean, not from 0"),
])  # fmt: skip
def _(rng):
    draws = rng.normal(size=(50, 4)) * np.array([1.0, 2.0, 0.1, 1.0]) + np.array([0.5, -0.5, 0.0, 2.0])
    moments = [(sum(column) / 50, sum(column**2) / 50) for column in draws.T]
    yield Case((draws,), np.array([abs(a) / np.sqrt(b - a * a) for a, b in moments]))


# %% [markdown]
# ## What more samples do
#
# Before you run anything: K is large already. By which factor do the ratios of the encoder's and of the decoder's
# gradient change if K is multiplied by k and M by m? (MIWAE, in a model whose encoder is not yet at its best.)


# %%
def factors(k, m):
    """Two numbers: the encoder's factor and the decoder's."""
    # [solution]
    return np.sqrt(m / k), np.sqrt(m * k)
    # [end]


# %% [teacher]
@task("factors", 2, "predict", "tighter-bounds report eq. 9 and 10", mistakes=[
    ("np.sqrt(m / k), np.sqrt(m * k)", "np.sqrt(m * k), np.sqrt(m * k)",
     "the encoder's signal fades faster than its noise as K grows"),
    ("np.sqrt(m / k), np.sqrt(m * k)", "np.sqrt(m * k), np.sqrt(m / k)", "the two networks are exchanged"),
    ("np.sqrt(m / k), np.sqrt(m * k)", "m / k, m * k", "noise falls with the root of the number of samples"),
    ("np.sqrt(m / k),", "np.sqrt(1 / k),", "encoder: groups are independent, and average noise out"),
    ("np.sqrt(m * k)", "np.sqrt(m)", "decoder: its signal stays and its noise falls as K grows"),
    ("np.sqrt(m / k),", "np.sqrt(m) / k,", "encoder: signal and noise both fall: which powers of K have they?"),
])  # fmt: skip
def _(rng):
    signal, noise, z = rng.uniform(0.5, 2, 3)

    def ratios(m, k):  # eq. 10 and eq. 9, their leading terms
        return np.array([np.sqrt(m) * signal / (2 * z * np.sqrt(k) * noise), np.sqrt(m) * np.sqrt(k) * signal / noise])

    for _ in range(3):
        k, m = (int(v) for v in rng.integers(2, 50, 2))
        yield Case((k, m), list(ratios(7 * m, 100 * k) / ratios(7, 100)))


# %% [markdown]
# ## How far below log p(x)?
#
# The weights have the mean Z and the variance V. Derive by how much the expected bound of K samples is below log Z, to
# the leading order in 1 / K: expand the logarithm of the mean weight around Z.


# %%
def gap(z, v, k):
    """The gap, a positive number."""
    # [solution]
    return v / (2 * k * z**2)
    # [end]


# %% [teacher]
@task("gap", 3, "derive", "tighter-bounds report eq. 6 and 10", mistakes=[
    ("(2 * k * z**2)", "(k * z**2)", "the second term of the logarithm's series has a factor"),
    ("z**2)", "z)", "in another unit of the weights the gap must be the same"),
    ("v / (2", "-v / (2", "log is concave: the bound is below, the gap positive"),
    ("(2 * k * z**2)", "(2 * np.sqrt(k) * z**2)", "what is the variance of a mean of K weights?"),
    ("(2 * k * z**2)", "(2 * k**2 * z**2)", "the variance of a mean of K weights falls as 1 / K"),
    ("v / (2 * k * z**2)", "np.sqrt(v) / (k * z)", "the first-order term has the expectation 0"),
])  # fmt: skip
def _(rng):
    for k in (2000, 5000):
        low, high = float(rng.uniform(0.2, 0.5)), float(rng.uniform(1.0, 2.0))
        p = float(rng.uniform(0.3, 0.7))
        z, v = p * high + (1 - p) * low, p * (1 - p) * (high - low) ** 2
        count = np.arange(k + 1)
        bound = binom.pmf(count, k, p) @ np.log((count * high + (k - count) * low) / k)  # all of its outcomes
        yield Case((z, v, k), float(np.log(z) - bound), rtol=0.02)


# %% [markdown]
# ## A learned beta
#
# beta of CIWAE is made a parameter, kept in [0, 1], and trained with everything else held. Eq. 16 of the report says
# min; its networks are trained for the maximum. Before you run anything: give the derivative of CIWAE by beta, and
# where beta ends after very many steps, by descent (as eq. 16 says) and by ascent.


# %%
def learned_beta(log_w):
    """Three numbers, from the log-weights (K,), not all alike: the derivative, beta by descent, beta by ascent."""
    # [solution]
    largest = log_w.max()
    return log_w.mean() - largest - np.log(np.mean(np.exp(log_w - largest))), 1.0, 0.0
    # [end]


# %% [teacher]
@task("learned_beta", 2, "predict", "tighter-bounds report eq. 12 and 16", mistakes=[
    (", 1.0, 0.0", ", 0.0, 1.0", "which bound is the larger one, and which has beta = 1?"),
    ("log_w.mean() - largest - np.log(np.mean(np.exp(log_w - largest)))",
     "largest + np.log(np.mean(np.exp(log_w - largest))) - log_w.mean()",
     "the derivative is one bound less the other: which?"),
    (", 1.0, 0.0", ", 0.5, 0.5", "the objective is linear in beta: it has no optimum inside"),
    ("np.log(np.mean(", "np.log(np.sum(", "IWAE: a mean of weights, not their sum"),
    ("log_w.mean() - largest - np.log(np.mean(np.exp(log_w - largest)))", "log_w.mean()",
     "the other bound depends on beta by its share too"),
    (", 1.0, 0.0", ", 1.0, 1.0", "descent and ascent end at opposite sides"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        log_w = 1.5 * rng.normal(size=5) - 3
        objective = lambda beta, w=log_w: beta * w.mean() + (1 - beta) * np.log(np.exp(w).mean())
        ends = []
        for sign in (-1, 1):
            beta = 0.5
            for _ in range(2000):
                beta = min(1.0, max(0.0, beta + sign * 0.1 * (objective(beta + 1e-4) - objective(beta - 1e-4)) / 2e-4))
            ends.append(beta)
        yield Case((log_w,), [float(objective(1.0) - objective(0.0)), *ends])
