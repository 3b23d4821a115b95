"""Exercises: local reparameterisation and variational dropout (thesis chapter 6).

Beside the lesson `chapters/ch06_dropout.py`. Replace each `raise NotImplementedError` by your code, then run
`minivi grade chapters/exercises/ch06_dropout.py`. NumPy is all that is needed. A layer has I inputs and O outputs, its
weights are (I, O), a row of A (M, I) is the input of one of M data, and B = A W. Logarithms are natural. No function
may write into its arguments.
"""

# %%
import numpy as np

# %% [teacher]
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm

from minivi.exercises import Case, Source, task

# E log |e| of e from N(1, alpha), as a sum over log |e|
MEAN_LOG = Source(
    "lambda alpha: (lambda t: 0.004 * np.sum(t * np.exp(t) * (np.exp(-0.5 * (np.exp(t) - 1) ** 2 / alpha)"
    " + np.exp(-0.5 * (np.exp(t) + 1) ** 2 / alpha))) / np.sqrt(2 * np.pi * alpha))(np.arange(-30.0, 5.0, 0.004))"
)
CUBIC = np.array([1.16145124, -1.50204118, 0.58629921])


def over_weights(theta, sigma, of_w):
    """E of_w(w), w from N(theta, sigma^2), by quadrature with a break at 0."""
    ends = sorted({theta + k * sigma for k in (-12, -4, 0, 4, 12)} | ({0.0} if abs(theta) < 12 * sigma else set()))
    value = lambda w: norm.pdf(w, theta, sigma) * of_w(w)
    return sum(quad(value, a, b, epsabs=1e-12, limit=200)[0] for a, b in zip(ends[:-1], ends[1:], strict=True))


def layer(rng, rows=3, inputs=4, outputs=2):
    """A, theta, sigma."""
    return rng.normal(size=(rows, inputs)), rng.normal(size=(inputs, outputs)), rng.uniform(0.1, 1, (inputs, outputs))


# %% [markdown]
# ## What the outputs are
#
# The weights are independent, w_ij from N(mu_ij, sigma_ij^2). Then each output, given its row of A, is a Gaussian. Give
# means and variances of B.


# %%
def local_moments(a, mu, sigma):
    """gamma and delta, each (M, O): a (M, I), mu and sigma (I, O)."""
    # [solution]
    return a @ mu, a**2 @ sigma**2
    # [end]


# %% [teacher]
@task("local_moments", 2, "code", "thesis eq. 6.6", mistakes=[
    ("a**2 @ sigma**2", "a @ sigma**2", "a number times a Gaussian: what happens to its variance?"),
    ("a**2 @ sigma**2", "a**2 @ sigma", "sigma is a standard deviation"),
    ("a**2 @ sigma**2", "(a @ sigma) ** 2", "the weights are independent: variances add up, deviations do not"),
    ("a**2 @ sigma**2", "np.sqrt(a**2 @ sigma**2)", "the variance is asked for, and not the deviation"),
    ("a**2 @ sigma**2", "a**2 @ sigma**2 + (a @ mu) ** 2", "that is the mean square, not the variance"),
    ("a**2 @ sigma**2", "np.abs(a) @ sigma**2", "the factor of a variance is a square"),
    ("a @ mu,", "a**2 @ mu,", "the mean is linear in the inputs"),
])  # fmt: skip
def _(rng):
    for rows in (3, 5):
        a, mu, sigma = layer(rng, rows)
        covariances = [np.diag(s**2) for s in sigma.T]  # of the weights into one output
        yield Case((a, mu, sigma), [a @ mu, np.array([[row @ c @ row for c in covariances] for row in a])])


# %% [markdown]
# ## How many random numbers
#
# Before you count in any code: how many standard normal numbers does a layer need for one minibatch, if one W is drawn
# for all of it, if each datum has a W of its own, and if the outputs are drawn?


# %%
def random_numbers(data, inputs, outputs):
    """Three numbers: one W, a W for each datum, the outputs."""
    # [solution]
    return inputs * outputs, data * inputs * outputs, data * outputs
    # [end]


# %% [teacher]
@task("random_numbers", 1, "predict", "thesis section 6.2.3", mistakes=[
    ("data * outputs", "outputs", "each datum has outputs with noise of their own"),
    ("data * outputs", "data * inputs", "that is dropout on the inputs; here the outputs are drawn"),
    ("data * outputs", "inputs * outputs", "no weight is drawn in the third way"),
    ("return inputs * outputs,", "return data * inputs * outputs,", "one W serves the whole minibatch"),
    ("data * inputs * outputs", "data * (inputs + outputs)", "a W has inputs times outputs numbers"),
    ("return inputs * outputs, data * inputs * outputs,", "return data * inputs * outputs, inputs * outputs,",
     "one W first, then a W for each datum"),
])  # fmt: skip
def _(rng):
    for _ in range(3):
        data, inputs, outputs = (int(n) for n in rng.permutation(np.arange(3, 40))[:3])
        w = np.zeros((inputs, outputs))
        yield Case(
            (data, inputs, outputs), [w.size, np.zeros((data, *w.shape)).size, (np.zeros((data, inputs)) @ w).size]
        )


# %% [markdown]
# ## What that does to the estimate
#
# The expected log-likelihood of N data is estimated from M of them, drawn with replacement. L_i of a datum has the
# variance `variance`, L_i and L_j of two have the covariance `covariance`. Derive the variance of the estimate.


# %%
def variance_of_estimate(variance, covariance, n, m):
    """Var of N / M times the sum of L_1 ... L_M, a number."""
    # [solution]
    return n**2 * (variance / m + (m - 1) / m * covariance)
    # [end]


# %% [teacher]
@task("variance_of_estimate", 3, "derive", "thesis eq. 6.4 and 6.5", mistakes=[
    ("n**2 * (", "n * (", "a number times a random number: what happens to its variance?"),
    ("n**2 * (", "(", "the sum stands for all N data"),
    ("variance / m +", "variance +", "this part falls with the size of the minibatch"),
    ("variance / m +", "variance / m**2 +", "there are M variances in the sum"),
    ("(m - 1) / m * covariance", "covariance / m",
     "how many pairs are there? The part with the covariance does not fall"),
    ("(m - 1) / m * covariance", "(m - 1) * covariance", "there are M (M - 1) ordered pairs, over M squared"),
    ("(m - 1) / m * covariance", "(m - 1) / (2 * m) * covariance", "each pair counts twice in the variance of a sum"),
    ("(m - 1) / m * covariance", "covariance", "a datum makes no pair with itself"),
])  # fmt: skip
def _(rng):
    for m in (3, 7):
        n, common, own = int(rng.integers(10, 99)), rng.uniform(0.1, 1), rng.uniform(0.1, 1)
        covariances = common * np.ones((m, m)) + own * np.eye(m)
        weights = np.full(m, n / m)
        yield Case((common + own, common, n, m), weights @ covariances @ weights)


# %% [markdown]
# ## Dropout's moments
#
# Binary dropout sets each input to 0 with probability p and divides the others by 1 - p: b = (a * xi) theta. Derive
# mean and variance of each output for one datum.


# %%
def dropout_moments(a, theta, p):
    """Mean and variance of b, each (O,): a (I,), theta (I, O)."""
    # [solution]
    return a @ theta, p / (1 - p) * (a**2 @ theta**2)
    # [end]


# %% [teacher]
@task("dropout_moments", 3, "derive", "thesis eq. 6.22 and 6.26", mistakes=[
    ("return a @ theta,", "return (1 - p) * (a @ theta),", "the inputs that are left are divided by 1 - p"),
    ("p / (1 - p)", "p * (1 - p)", "the variance of an input that is divided by 1 - p: by which factor does it grow?"),
    ("p / (1 - p)", "(1 - p) / p", "without dropout there is no variance"),
    ("p / (1 - p)", "p / (1 - p) ** 2", "a Bernoulli number has the variance p (1 - p)"),
    ("p / (1 - p) * (a**2 @ theta**2)", "p / (1 - p) * (a @ theta) ** 2",
     "inputs are dropped one by one: their variances add up"),
    ("p / (1 - p) * (a**2 @ theta**2)", "np.sqrt(p / (1 - p) * (a**2 @ theta**2))",
     "the variance, and not the deviation"),
    ("p / (1 - p) * (a**2 @ theta**2)", "1 / (1 - p) * (a**2 @ theta**2)",
     "that is the mean of squares; subtract those of means"),
    ("(a**2 @ theta**2)", "(a**2 @ theta)", "the weight is a factor of the output: what happens to its variance?"),
])  # fmt: skip
def _(rng):
    for p in (0.2, 0.7):
        a, theta, _ = layer(rng, 1)
        p = p + rng.uniform(-0.1, 0.1)
        masks = np.indices((2,) * 4).reshape(4, -1).T
        chances = np.prod(np.where(masks, 1 - p, p), axis=1)
        b = (a * masks / (1 - p)) @ theta
        mean = chances @ b
        yield Case((a[0], theta, p), [mean, chances @ (b - mean) ** 2])


# %% [markdown]
# ## Gaussian dropout
#
# "B" draws the outputs from Gaussians with dropout's mean and variance, alpha = p / (1 - p). The code below has two
# faults. Mend it.


# %%
def gaussian_dropout(a, theta, p, zeta):
    """B for the noise zeta, (M, O): a (M, I), theta (I, O)."""
    # [solution]
    alpha = p / (1 - p)
    return a @ theta + np.sqrt(alpha * (a**2 @ theta**2)) * zeta
    # [blank]
    # alpha = p * (1 - p)
    # return a @ theta + alpha * np.sqrt(a**2 @ theta**2) * zeta
    # [end]


# %% [teacher]
@task("gaussian_dropout", 2, "fault", "thesis eq. 6.8 and 6.28", mistakes=[
    ("np.sqrt(alpha * (a**2 @ theta**2))", "alpha * np.sqrt(a**2 @ theta**2)", "alpha is a part of the variance"),
    ("p / (1 - p)", "p * (1 - p)", "which alpha has dropout with rate p?"),
    ("np.sqrt(alpha * (a**2 @ theta**2))", "(alpha * (a**2 @ theta**2))", "zeta is multiplied by a deviation"),
    ("np.sqrt(alpha * (a**2 @ theta**2))", "np.sqrt(alpha) * (a @ theta)",
     "the noise of an output is that of its inputs together"),
    ("a @ theta + np.sqrt(alpha * (a**2 @ theta**2)) * zeta",
     "a @ theta * (1 + np.sqrt(alpha) * zeta.mean(axis=1, keepdims=True))", "each output has noise of its own"),
    ("a @ theta + np", "np", "the outputs keep their mean"),
    ("a @ theta + np.sqrt(alpha", "(1 - p) * (a @ theta) + np.sqrt(alpha",
     "the noise has the mean 1: nothing has to be scaled"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        (a, theta, _), p = layer(rng), rng.uniform(0.1, 0.8)
        zeta, b = rng.normal(size=(3, 2)), np.zeros((3, 2))
        for m, j in np.ndindex(3, 2):
            scales = a[m] * theta[:, j]
            b[m, j] = scales.sum() + np.linalg.norm(scales) * (p / (1 - p)) ** 0.5 * zeta[m, j]
        yield Case((a, theta, p, zeta), b)


# %% [markdown]
# ## What "B" ignores
#
# Derive the covariance matrix of the O outputs of one datum: with noise on the inputs, "A", xi_i from N(1, alpha), and
# with independent noise on the weights, "B", w_ij from N(theta_ij, alpha theta_ij^2).


# %%
def covariances(a, theta, alpha):
    """Two matrices (O, O), of A and of B: a (I,), theta (I, O)."""
    # [solution]
    scaled = a[:, None] * theta
    of_a = alpha * scaled.T @ scaled
    return of_a, np.diag(np.diag(of_a))
    # [end]


# %% [teacher]
@task("covariances", 3, "derive", "thesis eq. 6.8 and 6.9", mistakes=[
    ("return of_a, np.diag(np.diag(of_a))", "return of_a, of_a",
     "weights of their own: what do two outputs of B share?"),
    ("return of_a, np.diag(np.diag(of_a))", "return np.diag(np.diag(of_a)), np.diag(np.diag(of_a))",
     "two outputs see the same xi in A"),
    ("alpha * scaled.T @ scaled", "scaled.T @ scaled", "how large is the noise?"),
    ("alpha * scaled.T @ scaled", "alpha**2 * scaled.T @ scaled", "alpha is a variance already"),
    ("alpha * scaled.T @ scaled", "alpha * np.outer(a @ theta, a @ theta)", "each input has noise of its own"),
    ("alpha * scaled.T @ scaled", "alpha * theta.T @ theta", "large inputs bring large noise"),
    ("np.diag(np.diag(of_a))", "np.diag(of_a)[0] * np.eye(len(of_a))", "each output has a variance of its own"),
    ("return of_a, np.diag(np.diag(of_a))", "return np.diag(np.diag(of_a)), of_a", "first that of A, then B"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        a, theta, _ = layer(rng, 1, 2, 3)
        alpha, found = rng.uniform(0.2, 0.9), []
        for shape in ((2, 1), (2, 3)):  # noise of two values, of mean 1 and variance alpha: all its draws
            count = shape[0] * shape[1]
            signs = (2 * np.indices((2,) * count) - 1).reshape(count, -1).T.reshape(-1, *shape)
            b = np.sum(a[0, :, None] * (1 + alpha**0.5 * signs) * theta, axis=1)
            found.append(np.cov(b.T, bias=True))
        yield Case((a[0], theta, alpha), found, atol=1e-9)


# %% [markdown]
# ## Which prior does not see theta
#
# Let the prior be p(w) = c |w|^(-k), and w = theta e, where e has any density that does not depend on theta. Derive how
# KL(q(w) || p(w)) changes when theta goes from 1 to its value. For which k is a fixed dropout rate consistent?


# %%
def change_of_kl(theta, k):
    """KL at theta less KL at theta = 1, a number; theta is not 0, but may be negative."""
    # [solution]
    return (k - 1) * np.log(np.abs(theta))
    # [end]


# %% [teacher]
@task("change_of_kl", 3, "derive", "thesis eq. 6.37 to 6.41", mistakes=[
    ("(k - 1) * np.log(np.abs(theta))", "k * np.log(np.abs(theta))", "the entropy of w depends on theta as well"),
    ("(k - 1)", "(1 - k)", "check the signs: a KL is minus entropy minus the mean of log p"),
    ("(k - 1)", "(k + 1)", "a wider w has more entropy, which lowers the divergence"),
    ("(k - 1) * np.log(np.abs(theta))", "-np.log(np.abs(theta))", "and the prior? Its logarithm is averaged over w"),
    ("(k - 1) * np.log(np.abs(theta))", "(k - 1) * np.log(theta**2)", "log |theta e| has log |theta| once"),
    ("np.log(np.abs(theta))", "np.abs(theta)", "theta enters as its logarithm: w = theta e"),
    ("np.log(np.abs(theta))", "np.log(np.abs(theta)) * (theta > 0)", "a negative theta has a size too"),
])  # fmt: skip
def _(rng):
    for sign in (1, -1):
        theta, k, alpha = sign * rng.uniform(0.2, 0.8), rng.uniform(1.3, 3.0), rng.uniform(0.02, 0.05)
        kl = lambda t, k=k, s=alpha**0.5: over_weights(
            t, s * abs(t), lambda w: norm.logpdf(w, t, s * abs(t)) + k * np.log(np.abs(w) + 1e-300)
        )
        yield Case((theta, k), kl(theta) - kl(1.0), rtol=1e-5)


# %% [markdown]
# ## The log-uniform divergence
#
# The prior is p(w) = c / |w|, and q(w) = N(theta, alpha theta^2). The divergence has no closed form; `mean_log(alpha)`
# gives E log |e| of e from N(1, alpha). As the prior is improper a constant is free: let KL be 0 at alpha = 1.


# %%
def log_uniform_kl(theta, alpha, mean_log):
    """KL(q(w) || p(w)) in nats, 0 at alpha = 1; ``mean_log`` is a function of a number."""
    # [solution]
    return mean_log(alpha) - mean_log(1.0) - 0.5 * np.log(alpha)
    # [end]


# %% [teacher]
@task("log_uniform_kl", 3, "code", "thesis eq. 6.41", mistakes=[
    ("- 0.5 * np.log(alpha)", "+ 0.5 * np.log(alpha)", "a wide q has a large entropy, and a small divergence"),
    ("- 0.5 * np.log(alpha)", "- np.log(alpha)", "alpha is a variance: how does it enter the entropy of a Gaussian?"),
    ("- mean_log(1.0)", "", "the divergence must be 0 at alpha = 1"),
    ("mean_log(alpha) - mean_log(1.0)", "mean_log(1.0) - mean_log(alpha)",
     "the prior's logarithm is -log |w|: check the sign"),
    ("mean_log(alpha) - mean_log(1.0)", "0.0",
     "that is the text's lower bound, up to its constant: the prior's mean logarithm is lost"),
    ("- 0.5 * np.log(alpha)", "- 0.5 * np.log(alpha) - np.log(abs(theta))",
     "the parts with theta cancel: see the task before"),
    ("- 0.5 * np.log(alpha)", "", "the entropy of q is lost"),
    ("- 0.5 * np.log(alpha)", "- 0.5 * np.log(2 * np.pi * np.e * alpha)",
     "the entropy's constants go into the free one"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        theta, alpha = rng.uniform(0.3, 2.0), rng.uniform(0.1, 0.8)
        kl = lambda t, a: over_weights(
            t, a**0.5 * t, lambda w, t=t, a=a: norm.logpdf(w, t, a**0.5 * t) + np.log(np.abs(w) + 1e-300)
        )
        yield Case((theta, alpha, MEAN_LOG), kl(theta, alpha) - kl(theta, 1.0), rtol=1e-4)


# %% [markdown]
# ## Where the cubic ends
#
# Section 6.3.3 replaces -E log |e| by c1 alpha + c2 alpha^2 + c3 alpha^3, plus a constant that makes KL 0 at alpha = 1.
# Before you draw both curves: by how much is this KL above the exact one as alpha goes to 0?


# %%
def limit_of_cubic(c, mean_log_1):
    """KL of the cubic less the exact KL, for alpha to 0: c (3,), and mean_log_1 = E log |e| of e from N(1, 1)."""
    # [solution]
    return np.sum(c) + mean_log_1
    # [end]


# %% [teacher]
@task("limit_of_cubic", 2, "predict", "thesis section 6.3.3 and appendix 6.C", mistakes=[
    ("np.sum(c) + mean_log_1", "0.0 * mean_log_1",
     "both are 0 at alpha = 1: is the cubic exact there, before the constants?"),
    ("np.sum(c) + mean_log_1", "np.sum(c)", "the exact one has a constant too"),
    ("np.sum(c) + mean_log_1", "mean_log_1", "the cubic has a constant too"),
    ("np.sum(c) + mean_log_1", "np.sum(c) - mean_log_1", "c1 + c2 + c3 stands for minus E log |e| at alpha = 1"),
    ("np.sum(c) + mean_log_1", "-np.sum(c) - mean_log_1",
     "which of the two is above? A KL is asked for, not minus one"),
    ("np.sum(c)", "c[0]", "at alpha = 1 all powers are 1"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        c, at_one = CUBIC + 0.1 * rng.normal(size=3), MEAN_LOG.function(1.0) + 0.1 * rng.normal()
        cubic = lambda a, c=c: -0.5 * np.log(a) - np.polyval([*c[::-1], 0], a) + np.polyval([*c[::-1], 0], 1.0)
        exact = lambda a, m=at_one: -0.5 * np.log(a) - m  # E log |e| of an e that is hardly noisy is 0
        yield Case((c, at_one), cubic(1e-12) - exact(1e-12))


# %% [markdown]
# ## Learning the rate
#
# Alpha is learned as log alpha, by ascent of the bound. Derive the derivative of -KL of one weight by log alpha, with
# the cubic of the task before.


# %%
def slope_of_rate(log_alpha, c):
    """d(-KL) / d log alpha, a number; c (3,)."""
    # [solution]
    alpha = np.exp(log_alpha)
    return 0.5 + c[0] * alpha + 2 * c[1] * alpha**2 + 3 * c[2] * alpha**3
    # [end]


# %% [teacher]
@task("slope_of_rate", 2, "derive", "thesis section 6.3.3 and 6.3.4", mistakes=[
    ("0.5 + c[0] * alpha + 2 * c[1] * alpha**2 + 3 * c[2] * alpha**3",
     "0.5 / alpha + c[0] + 2 * c[1] * alpha + 3 * c[2] * alpha**2",
     "that is the derivative by alpha, not by its logarithm"),
    ("0.5 + c[0]", "c[0]", "the entropy has a slope too"),
    ("0.5 + c[0]", "-0.5 + c[0]", "more noise, more entropy: the sign of the first term"),
    ("c[0] * alpha + 2 * c[1] * alpha**2 + 3 * c[2] * alpha**3", "c[0] * alpha + c[1] * alpha**2 + c[2] * alpha**3",
     "a power's derivative has its exponent as a factor"),
    ("return 0.5 + c[0] * alpha + 2 * c[1] * alpha**2 + 3 * c[2] * alpha**3",
     "return -(0.5 + c[0] * alpha + 2 * c[1] * alpha**2 + 3 * c[2] * alpha**3)", "minus KL is what is climbed"),
    ("0.5 + c[0]", "0.5 * log_alpha + c[0]", "what is the derivative of half of log alpha by log alpha?"),
    ("np.exp(log_alpha)", "np.exp(0.5 * log_alpha)", "log alpha is that of the variance alpha"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        log_alpha, c = rng.uniform(-2.5, -0.2), CUBIC + 0.1 * rng.normal(size=3)
        minus_kl = lambda t, c=c: 0.5 * t + np.polyval([*c[::-1], 0.0], np.exp(t))
        yield Case((log_alpha, c), (minus_kl(log_alpha + 1e-5) - minus_kl(log_alpha - 1e-5)) / 2e-5, rtol=1e-6)


# %% [markdown]
# ## The bound of a network
#
# The bound of eq. 6.10, divided by the number N of data, from a minibatch. Each layer has one alpha, and so one
# divergence `kl` for each noise of its own: with "A" there is one for each input, with "B" for each weight.


# %%
def bound(log_p, n, shapes, kl, kind):
    """A number: log_p (M,) are log p(y | x, w); shapes (I, O) and divergences of the layers; kind "A" or "B"."""
    # [solution]
    counts = [inputs if kind == "A" else inputs * outputs for inputs, outputs in shapes]
    return np.mean(log_p) - sum(count * k for count, k in zip(counts, kl, strict=True)) / n
    # [end]


# %% [teacher]
@task("bound", 3, "code", "thesis eq. 6.3 and 6.10", mistakes=[
    ("- sum(count", "+ sum(count", "the divergence is subtracted: check with a KL that is positive"),
    ("np.mean(log_p)", "np.sum(log_p)", "the bound is divided by N: which mean is left of N / M times the sum?"),
    (" / n", "", "the divergence is paid once for all N data"),
    (" / n", " / len(log_p)", "the divergence is paid once for all data, not for each minibatch"),
    ("count * k for", "k for", "a layer has as many divergences as noises"),
    ('inputs if kind == "A" else inputs * outputs', "inputs * outputs", "how many scales s_i has a layer of kind A?"),
    ('inputs if kind == "A" else inputs * outputs', "inputs", "how many weights has a layer of kind B?"),
    ('inputs if kind == "A" else inputs * outputs', 'outputs if kind == "A" else inputs * outputs',
     "A's noise is on inputs, not on outputs"),
])  # fmt: skip
def _(rng):
    for kind in "AB":
        shapes, log_p = [(3, 5), (5, 2)], -rng.exponential(size=4)
        n, kl = int(rng.integers(20, 90)), rng.uniform(0.1, 2, 2)
        noises = [np.full(s[:1] if kind == "A" else s, k) for s, k in zip(shapes, kl, strict=True)]
        whole = np.tile(log_p, n).sum() / len(log_p)  # N data of which these are a fair share
        yield Case((log_p, n, shapes, list(kl), kind), (whole - sum(a.sum() for a in noises)) / n)


# %% [markdown]
# ## What independent weights cost
#
# Bayesian regression: y = Phi w + noise of deviation s, prior N(0, I) over w. Derive the standard deviations of w in
# the exact posterior, and those of the best Gaussian with independent weights, by KL(q || p).


# %%
def deviations(phi, s):
    """Two arrays (I,): of the exact posterior, and of the best factorised q; phi (N, I)."""
    # [solution]
    precision = phi.T @ phi / s**2 + np.eye(phi.shape[1])
    return np.sqrt(np.diag(np.linalg.inv(precision))), 1 / np.sqrt(np.diag(precision))
    # [end]


# %% [teacher]
@task("deviations", 3, "derive", "thesis eq. 6.1", mistakes=[
    ("1 / np.sqrt(np.diag(precision))", "np.sqrt(np.diag(np.linalg.inv(precision)))",
     "the best factorised q is narrower than the posterior: minimise KL(q || p) by its deviations"),
    ("return np.sqrt(np.diag(np.linalg.inv(precision))), 1 / np.sqrt(np.diag(precision))",
     "return 1 / np.sqrt(np.diag(precision)), np.sqrt(np.diag(np.linalg.inv(precision)))",
     "exact first: which is the wider one?"),
    ("np.sqrt(np.diag(np.linalg.inv(precision))),", "np.diag(np.linalg.inv(precision)),",
     "deviations, and not variances"),
    ("1 / np.sqrt(np.diag(precision))", "1 / np.diag(precision)",
     "of the factorised q, too: deviations, and not variances"),
    (" + np.eye(phi.shape[1])", "", "the prior has a precision as well"),
    ("phi.T @ phi / s**2", "phi.T @ phi / s", "s is a deviation: a precision is one over a variance"),
    ("phi.T @ phi / s**2", "phi.T @ phi", "the noise decides how much the data say"),
])  # fmt: skip
def _(rng):
    for size in (2, 3):
        phi, s = rng.normal(size=(6, size)), rng.uniform(0.3, 0.9)
        phi[:, 1] += phi[:, 0]
        joint = np.block([[np.eye(size), phi.T], [phi, phi @ phi.T + s**2 * np.eye(6)]])  # of w and y
        exact = joint[:size, :size] - joint[:size, size:] @ np.linalg.solve(joint[size:, size:], joint[size:, :size])
        inverse = np.linalg.inv(exact)
        kl = lambda t, p=inverse: 0.5 * np.sum(np.diag(p) * np.exp(2 * t)) - np.sum(t)  # of q with log deviations t
        best = minimize(kl, np.zeros(size), method="BFGS", options={"gtol": 1e-10}).x
        yield Case((phi, s), [np.sqrt(np.diag(exact)), np.exp(best)], rtol=1e-5)
