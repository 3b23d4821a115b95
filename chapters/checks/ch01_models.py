"""Checks of chapter 1, probabilistic models and their learning (thesis sections 1.2-1.7, appendix 9.1-9.3)."""

import itertools

import numpy as np
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import betaln, expit, logsumexp, rel_entr, softmax
from sklearn.mixture import GaussianMixture

from minivi import evaluation, nn, ops, optim
from minivi.distributions import Bernoulli, Categorical, Normal
from minivi.em import climb
from minivi.experiments import Claim, check
from minivi.models import Classifier
from minivi.random import Generator
from minivi.small import PATTERNS, estimator_gap, grid, small_vae
from minivi.tensor import Parameter, Tensor, grad

# %% [markdown]
# ## The equations, checked
#
# A model small enough to integrate and to enumerate: four binary pixels, one latent, random weights; and a classifier
# of six data.

# %%
GRID, STEP = grid(12.0, 1201)
PAIRS = list(itertools.combinations(range(4), 2))


def tiny(seed=0):
    """The small model."""
    return small_vae([seed, 98], scale=1.0)


def on_grid(vae, x=PATTERNS):
    """log p(x, z) on the grid of z, (grid, B), and log p(x), (B,)."""
    log_joint = np.asarray(vae.decode(GRID[:, None, None]).log_prob(x)) + stats.norm.logpdf(GRID)[:, None]
    return log_joint, np.log(np.sum(np.exp(log_joint), axis=0) * STEP)


def drawn_from(vae, count, seed):
    """z and x by ancestral sampling, (count,) and (count, 4)."""
    rng = Generator([seed, 97])
    z = rng.standard_normal((count, 1))
    return z[:, 0], np.asarray(vae.decode(z).sample(rng))


def small_classifier(seed=0, hidden=(4,)):
    """A classifier of 3 inputs and 3 classes, in float64, and six data."""
    rng = Generator([seed, 96])
    return Classifier(3, hidden, 3, rng=rng, dtype="float64"), rng.standard_normal((6, 3)), rng.integers(0, 3, 6)


def worst(found, expected, error):
    """The largest deviation in units of its standard error."""
    return float(np.max(np.abs(found - expected) / error))


# %% Sections 1.2 and 1.3
@check("1.1", "x drawn as z ~ p(z), x ~ p(x | z) has the probabilities that integration gives to the 16 patterns")
def samples_have_the_marginal():
    """100,000 draws; the worst pattern in standard errors."""
    vae, n = tiny(), 100_000
    codes = drawn_from(vae, n, 1)[1] @ [8, 4, 2, 1]
    p = np.exp(on_grid(vae)[1])
    found = np.bincount(codes.astype(int), minlength=16) / n
    return Claim(worst(found, p, np.sqrt(p * (1 - p) / n)), "<=", 4.0, 0.0, "worst pattern, standard errors")


@check("1.2", "climbing E_p* log p_theta(x) ends at p_theta = p*, and falls short by KL(p* || p_theta) on the way")
def likelihood_is_divergence():
    """A table of four probabilities; SciPy's relative entropy."""
    target, logits = np.array([0.5, 0.3, 0.15, 0.05]), Parameter(np.array([0.0, 1.0, -1.0, 0.5]))
    short = float(np.sum(target * np.log(target)) - target @ np.asarray(Categorical(logits).log_probs))
    kl = float(rel_entr(target, softmax(logits.data)).sum())
    optimizer = optim.SGD([logits], 1.0, momentum=0.9)
    for _ in range(300):
        optimizer.step(grad(-(Categorical(logits).log_probs * target).sum(), [logits]))
    end = np.abs(softmax(logits.data) - target).max()
    return [Claim(short, "=", kl, 1e-12, "short by"), Claim(end, "=", 0.0, 1e-6, "largest difference at the end")]


@check("1.3", "a classifier flexible enough, fitted to pairs (x, y), gives the conditional frequencies of y given x")
def conditional_frequencies():
    """Three values of x as unit vectors: logistic regression by full gradients, against counts."""
    counts = np.array([[6, 3, 1], [1, 1, 8], [2, 5, 3]])
    x = np.repeat(np.repeat(np.eye(3), 3, axis=0), counts.ravel(), axis=0)
    labels = np.repeat(np.tile(np.arange(3), 3), counts.ravel())
    model = small_classifier(hidden=())[0]
    optimizer = optim.SGD(model.parameters(), 1.0, momentum=0.9)
    for _ in range(400):
        optimizer.step(grad(-model.log_prob(x, labels).mean(), model.parameters()))
    p = np.exp(np.asarray(model(np.eye(3)).log_probs))
    return Claim(np.abs(p - counts / 10).max(), "=", 0.0, 1e-6, "largest difference")


@check("1.4, 1.5", "log p(y | x) is the log of the softmax of a network written out in NumPy; the classes sum to one")
def categorical_network():
    """ReLU and softmax by hand."""
    model, x, labels = small_classifier()
    (w1, b1, w2, b2) = (p.data for p in model.parameters())
    p = softmax(np.maximum(x @ w1 + b1, 0) @ w2 + b2, axis=1)
    sums = sum(np.exp(np.asarray(model.log_prob(x, np.full(6, y)))) for y in range(3))
    found = np.asarray(model.log_prob(x, labels))
    return [
        Claim(np.abs(found - np.log(p[np.arange(6), labels])).max(), "=", 0.0, 1e-12, "largest difference"),
        Claim(np.abs(sums - 1).max(), "=", 0.0, 1e-12, "sum over classes - 1"),
    ]


# %% Section 1.4
def directed_model():
    """x1, x2 | x1 and x3 | x1, x2 with a network each: the table of the joint, (2, 2, 2), and the networks."""
    rng = Generator(95)
    networks = [nn.MLP((max(j, 1), 4, 1), rng, init=nn.normal(1.0), dtype="float64") for j in range(3)]
    table = np.zeros((2, 2, 2))
    for x in itertools.product((0, 1), repeat=3):
        p = [probability(networks, x[:j]) for j in range(3)]
        table[x] = np.prod([q if value else 1 - q for q, value in zip(p, x, strict=True)])
    return table, networks


def probability(networks, parents):
    """p(x_j = 1 | parents), j = len(parents): eta = NeuralNet(parents) are logits; a root's network sees a one."""
    eta = networks[len(parents)](np.array([parents or (1,)], float))
    return float(expit(np.asarray(eta)).item())


@check("1.6", "the product of the factors sums to one over all states, and ancestral samples have its probabilities")
def joint_of_a_directed_model():
    """20,000 samples, node by node."""
    table, networks = directed_model()
    rng, n = Generator(94), 20_000
    x = np.zeros((n, 3), int)
    for j in range(3):
        for parents in itertools.product((0, 1), repeat=j):
            rows = (x[:, :j] == np.array(parents, int)).all(axis=1)
            x[rows, j] = rng.random(int(rows.sum())) < probability(networks, parents)
    found = np.bincount(x @ [4, 2, 1], minlength=8) / n
    p = table.ravel()
    return [
        Claim(table.sum(), "=", 1.0, 1e-12, "sum"),
        Claim(worst(found, p, np.sqrt(p * (1 - p) / n)), "<=", 4.0, 0.0, "worst state, standard errors"),
    ]


@check("1.7, 1.8", "the conditional of x3 that the joint's table implies is the one whose eta the network gives")
def conditional_of_the_joint():
    """By normalising the joint over x3."""
    table, networks = directed_model()
    implied = table[..., 1] / table.sum(axis=-1)
    parents = np.array(list(itertools.product((0.0, 1.0), repeat=2)))
    given = np.asarray(Bernoulli(networks[2](parents)).mean).reshape(2, 2)
    return Claim(np.abs(implied - given).max(), "=", 0.0, 1e-12, "largest difference")


# %% Section 1.5
@check("1.9, 1.10", "log p(D) of i.i.d. data = -N (H(q_D) + KL(q_D || p)), q_D the data's frequencies")
def log_likelihood_of_data():
    """A sum over 500 data against entropies of 16 patterns by SciPy."""
    vae, n = tiny(), 500
    log_p = on_grid(vae)[1]
    codes = (drawn_from(tiny(3), n, 2)[1] @ [8, 4, 2, 1]).astype(int)
    q = np.bincount(codes, minlength=16) / n
    return Claim(log_p[codes].sum(), "=", -n * (stats.entropy(q) + rel_entr(q, np.exp(log_p)).sum()), 1e-9)


@check(
    "1.11, 1.12", "over all 15 minibatches of 2 of 6 data, log-probability and gradient average to those of the data"
)
def minibatches_are_unbiased():
    """By enumeration; the variance of the gradient is sigma^2 / M (N - M) / (N - 1)."""
    model, x, labels = small_classifier()

    def value_and_gradient(index):
        value = model.log_prob(x[index], labels[index]).mean()
        return np.concatenate([[value.item()], *(g.ravel() for g in grad(value, model.parameters()))])

    subsets = np.array([value_and_gradient(list(i)) for i in itertools.combinations(range(6), 2)])
    each = np.array([value_and_gradient([i]) for i in range(6)])
    off = np.abs(subsets.mean(axis=0) - value_and_gradient(list(range(6))))
    variance = subsets[:, 1:].var(axis=0).sum()
    return [
        Claim(off[0], "=", 0.0, 1e-12, "log-probability"),
        Claim(off[1:].max(), "=", 0.0, 1e-12, "gradient, largest difference"),
        Claim(variance, "=", each[:, 1:].var(axis=0).sum() / 2 * (6 - 2) / (6 - 1), 1e-12, "variance"),
    ]


# %% Section 1.6
@check("1.13", "evaluation's grid agrees with adaptive integration of the product of probabilities")
def marginal_by_quadrature():
    """SciPy's quad over z for three patterns."""
    vae, x = tiny(), PATTERNS[[0, 6, 11]]
    found = evaluation.log_likelihood_by_quadrature(vae, x, 200, 9.0).values

    def integrand(z, row):
        p = vae.mean_image(np.array([[z]]))[0]
        return stats.norm.pdf(z) * np.prod(np.where(row == 1, p, 1 - p))

    exact = [np.log(quad(integrand, -9, 9, args=(row,), epsabs=1e-12)[0]) for row in x]
    return Claim(np.abs(found - exact).max(), "=", 0.0, 1e-8, "largest difference")


@check("1.14, 1.15", "p(x, z) summed over x is the prior density N(z; 0, 1); drawn z have its mean and variance")
def prior_of_the_joint():
    """All 16 patterns; then 100,000 draws."""
    vae, n = tiny(), 100_000
    summed = np.exp(on_grid(vae)[0]).sum(axis=1)
    z = drawn_from(vae, n, 4)[0]
    return [
        Claim(np.abs(summed - np.exp(-(GRID**2) / 2) / np.sqrt(2 * np.pi)).max(), "=", 0.0, 1e-12, "density"),
        Claim(z.mean(), "=", 0.0, 4 / np.sqrt(n), "mean"),
        Claim(z.var(), "=", 1.0, 4 * np.sqrt(2 / n), "variance"),
    ]


@check("1.16-1.18", "the model's log p(x | z) = sum of SciPy's Bernoulli log-probabilities, p from a network by hand")
def decoder_by_hand():
    """tanh and sigmoid written out, for every pattern at five z."""
    vae, z = tiny(), np.linspace(-2, 2, 5)[:, None]
    (w1, b1, w2, b2) = (p.data for p in vae.decoder.parameters())
    p = expit(np.tanh(z @ w1 + b1) @ w2 + b2)
    by_hand = stats.bernoulli.logpmf(PATTERNS.astype(int), p[:, None]).sum(axis=-1)
    found = np.asarray(vae.decode(z[:, None]).log_prob(PATTERNS))
    printed = PATTERNS @ np.log(p).T + (1 - PATTERNS) @ np.log(1 - p).T
    return [
        Claim(np.abs(found - by_hand).max(), "=", 0.0, 1e-12, "largest difference"),
        Claim(np.abs(printed.T - by_hand).max(), "=", 0.0, 1e-12, "of the printed sum"),
    ]


@check(
    "section 1.6.1",
    "with a discrete z, p(x), not the printed q(z | x), is a mixture of Gaussians; a fine one is a continuous z's",
)
def mixtures():
    """Categorical and Normal summed over z, against scikit-learn's mixture; quantiles of N(0, 1) as components."""
    rng = Generator(95)
    logits, mu, log_sigma = rng.standard_normal(3), rng.standard_normal((3, 2)), 0.5 * rng.standard_normal((3, 2))
    x = rng.standard_normal((50, 2))
    log_joint = np.asarray(Categorical(logits).log_probs)[:, None] + np.asarray(
        Normal(mu[:, None], log_sigma[:, None]).log_prob(x)
    )
    mixture = GaussianMixture(3, covariance_type="diag")
    mixture.weights_, mixture.means_, mixture.covariances_ = softmax(logits), mu, np.exp(2 * log_sigma)
    mixture.precisions_cholesky_ = np.exp(-log_sigma)
    log_px = logsumexp(log_joint, axis=0)

    def curve(z):  # a decoder of one latent
        return np.stack([np.sin(2 * z), z], axis=-1)

    def infinite(z, weights):
        return Normal(curve(z)[:, None], np.full(2, -1.0)).log_prob(x) + np.log(weights)[:, None]

    exact = logsumexp(infinite(GRID, stats.norm.pdf(GRID) * STEP), axis=0)
    errors = []
    for count in (10, 100, 1000):
        z = stats.norm.ppf((np.arange(count) + 0.5) / count)
        errors.append(np.abs(logsumexp(infinite(z, np.full(count, 1 / count)), axis=0) - exact).mean())
    posterior = np.exp(log_joint - log_px)
    return [
        Claim(np.abs(log_px - mixture.score_samples(x)).max(), "=", 0.0, 1e-10, "log p(x), largest difference"),
        Claim(
            np.abs(posterior - mixture.predict_proba(x).T).max(), "=", 0.0, 1e-10, "p(z | x): three numbers, no density"
        ),
        Claim(errors[1] / errors[0], "<=", 0.5, 0.0, "components of equal weight, 100 against 10: error of log p(x)"),
        Claim(errors[2] / errors[1], "<=", 0.5, 0.0, "1000 against 100"),
    ]


@check(
    "section 1.6.2", "factors that are simple, a marginal that is not: pixels independent given z, dependent without"
)
def simple_factors():
    """A network of larger weights; mutual information of all pairs of pixels in nats, given z and after integration."""
    vae = small_vae([0, 98], hidden=8, scale=3.0)
    log_joint, weights = on_grid(vae)[0], stats.norm.pdf(GRID) * STEP
    p = np.exp(log_joint - stats.norm.logpdf(GRID)[:, None])  # p(x | z), (grid, 16)

    def information(p):
        """The largest over pairs of pixels, of distributions over the patterns (..., 16)."""
        pairs = [p @ (PATTERNS[:, list(pair)] @ [2, 1] == np.arange(4)[:, None]).T for pair in PAIRS]
        tables = np.array(pairs).reshape(len(PAIRS), *p.shape[:-1], 2, 2)
        products = tables.sum(axis=-1, keepdims=True) * tables.sum(axis=-2, keepdims=True)
        return rel_entr(tables, products).sum(axis=(-2, -1)).max()

    return [
        Claim(information(p), "=", 0.0, 1e-12, "given z"),
        Claim(information(weights @ p), ">=", 0.1, 0.0, "of p(x)"),
    ]


@check("section 8", "one framework for discrete and continuous data: a datum of three bits and two numbers")
def mixed_data():
    """A loss of one's own, two likelihoods on one decoder, against log p(x) integrated over z; noise integrated out."""
    rng, (nodes, weights) = Generator(97), np.polynomial.hermite_e.hermegauss(60)
    encoder, decoder = (
        nn.MLP(sizes, rng=rng, init=nn.normal(0.4), dtype="float64") for sizes in ((5, 4, 2), (1, 4, 7))
    )
    x = np.concatenate([rng.random((6, 3)) < 0.5, rng.standard_normal((6, 2))], axis=1)

    def log_likelihood(z):
        out = decoder(z)
        numbers = Normal(out[..., 3:5], out[..., 5:]).log_prob(x[:, 3:])
        return Bernoulli(out[..., :3]).log_prob(x[:, :3]) + numbers

    code = encoder(x)
    q = Normal(code[:, :1], code[:, 1:])
    z = np.asarray(q.mu) + np.exp(np.asarray(q.log_sigma)) * nodes[:, None, None]
    reconstruction = (weights / weights.sum()) @ np.asarray(log_likelihood(z))
    bound = reconstruction - np.asarray(q.kl())
    lines = np.broadcast_to(GRID[:, None, None], (len(GRID), 6, 1))
    log_joint = np.asarray(log_likelihood(lines)) + stats.norm.logpdf(GRID)[:, None]
    log_px = logsumexp(log_joint, axis=0) + np.log(STEP)
    log_q = stats.norm.logpdf(GRID[:, None], np.asarray(q.mu)[:, 0], np.exp(np.asarray(q.log_sigma))[:, 0])
    gap = (np.exp(log_q) * (log_q - log_joint + log_px)).sum(axis=0) * STEP
    return [
        Claim(np.abs(bound + gap - log_px).max(), "=", 0.0, 1e-6, "bound + KL(q || posterior) - log p(x)"),
        Claim(gap.min(), ">=", 1e-3, 0.0, "the divergence, smallest"),
    ]


# %% Section 1.7
@check("1.19", "p(x, z) / p(x) has the moments of the z that gave rise to x, among 200,000 draws of (z, x)")
def posterior_by_rejection():
    """Keep the draws whose x is the pattern; the mean and the mean square of their z, within 4 standard errors."""
    vae, pattern = tiny(), 10
    log_joint, log_px = on_grid(vae)
    posterior = np.exp(log_joint[:, pattern] - log_px[pattern]) * STEP
    z, x = drawn_from(vae, 200_000, 5)
    z = z[(x == PATTERNS[pattern]).all(axis=1)]
    claims = []
    for k in (1, 2):
        tolerance = 4 * (z**k).std() / np.sqrt(len(z))
        claims.append(Claim((z**k).mean(), "=", posterior @ GRID**k, tolerance, f"E z^{k} given x"))
    return claims


# %% Appendix 9.1
JOINT = np.array([[0.10, 0.05, 0.25], [0.20, 0.30, 0.10]])  # p(a, b), a in rows


@check("9.1", "drawing a from p(a) and then b from p(b | a) gives pairs with probability p(a, b)")
def chain_rule():
    """50,000 pairs; the worst cell in standard errors."""
    rng, n = Generator(93), 50_000
    pa = JOINT.sum(axis=1)
    a = (rng.random(n) >= pa[0]).astype(int)
    b = (rng.random(n)[:, None] >= np.cumsum(JOINT / pa[:, None], axis=1)[a, :2]).sum(axis=1)
    found = np.bincount(3 * a + b, minlength=6).reshape(2, 3) / n
    return Claim(worst(found, JOINT, np.sqrt(JOINT * (1 - JOINT) / n)), "<=", 4.0, 0.0, "worst cell, standard errors")


@check("9.2", "Bayes' rule needs p(b | a) on its right; the printed line, with p(a | b) there, holds nowhere here")
def bayes_rule():
    """p(a | b) from the table's columns against the rule."""
    pa, pb = JOINT.sum(axis=1, keepdims=True), JOINT.sum(axis=0)
    a_given_b, b_given_a = JOINT / pb, JOINT / pa
    return [
        Claim(np.abs(b_given_a * pa / pb - a_given_b).max(), "=", 0.0, 1e-14, "corrected, largest difference"),
        Claim(np.abs(a_given_b * pa / pb - a_given_b).min(), ">=", 0.01, 0.0, "printed, smallest difference"),
    ]


@check("9.3-9.5", "a coin with a Beta(2, 3) prior, 7 heads in 9: log-likelihood + log prior - log p(D) is Beta(9, 5)")
def posterior_of_a_coin():
    """The conjugate posterior's density in SciPy; p(D) by Beta functions and by integration."""
    theta = np.linspace(0.01, 0.99, 99)
    log_joint = 7 * np.log(theta) + 2 * np.log(1 - theta) + stats.beta.logpdf(theta, 2, 3)
    log_pd = betaln(9, 5) - betaln(2, 3)
    integral = quad(lambda t: t**7 * (1 - t) ** 2 * stats.beta.pdf(t, 2, 3), 0, 1)[0]
    off = np.abs(log_joint - log_pd - stats.beta.logpdf(theta, 9, 5)).max()
    at_most = theta[np.argmax(log_joint)]
    return [
        Claim(off, "=", 0.0, 1e-11, "largest difference"),
        Claim(log_pd, "=", np.log(integral), 1e-9, "log p(D)"),
        Claim(at_most, "=", 8 / 12, 0.01, "MAP: the mode (a - 1) / (a + b - 2)"),
    ]


@check(
    "section 9.1.4",
    "predictions average over p(theta | D): the ratio of p(D, y') to p(D), and not what the best theta says",
)
def predictive():
    """Logistic regression with two weights and the prior N(0, 4 I), on a grid; the best by SciPy's minimiser."""
    rng = Generator(96)
    line, step = grid(16.0, 321)
    theta = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    x, new = rng.standard_normal((6, 2)), np.array([1.5, -1.0])
    y = (x @ [2.0, -1.0] > 0).astype(float)

    def log_joint(theta):
        logits = theta @ x.T
        return (y * logits - np.logaddexp(0, logits)).sum(axis=-1) + stats.norm.logpdf(theta, scale=2.0).sum(axis=-1)

    log_pd = logsumexp(log_joint(theta)) + 2 * np.log(step)
    posterior = np.exp(log_joint(theta) - log_pd) * step**2
    averaged = posterior @ expit(theta @ new)
    ratio = np.exp(logsumexp(log_joint(theta) - np.logaddexp(0, -theta @ new)) + 2 * np.log(step) - log_pd)
    best = minimize(lambda t: -log_joint(t), np.zeros(2)).x
    return [
        Claim(averaged, "=", ratio, 1e-10, "p(y' = 1)"),
        Claim(posterior.sum(), "=", 1.0, 1e-10, "the posterior's mass"),
        Claim(expit(best @ new) - averaged, ">=", 0.01, 0.0, "the best theta is surer by"),
    ]


@check("9.4, 9.5", "SGD with weight decay 1 / N on the mean loss ends where log p(theta) + log p(D | theta) is largest")
def weight_decay_is_a_prior():
    """Logistic regression with the prior N(0, I); SciPy's minimiser on densities written out."""
    model, x, labels = small_classifier(hidden=())
    optimizer = optim.SGD(model.parameters(), 0.3, momentum=0.9, weight_decay=1 / 6)
    for _ in range(300):
        optimizer.step(grad(-model.log_prob(x, labels).mean(), model.parameters()))

    def minus_log_posterior(theta):
        p = softmax(x @ theta[:9].reshape(3, 3) + theta[9:], axis=1)
        return -np.log(p[np.arange(6), labels]).sum() - stats.norm.logpdf(theta).sum()

    best = minimize(minus_log_posterior, np.zeros(12), tol=1e-10).x
    ours = np.concatenate([p.data.ravel() for p in model.parameters()])
    return Claim(np.abs(ours - best).max(), "=", 0.0, 1e-5, "largest difference of a weight")


# %% Appendix 9.2
def bounds_of_gaussians(vae, x):
    """Bound and KL(q || p(z | x)) of each x for each q of a table of (mu, log sigma), by integration: (Q, B)."""
    mu, log_sigma = (a.ravel() for a in np.meshgrid(np.linspace(-1.5, 1.5, 31), np.linspace(-1.2, 0.3, 31)))
    log_q = stats.norm.logpdf(GRID, mu[:, None], np.exp(log_sigma)[:, None])
    q = np.exp(log_q) * STEP
    log_joint, log_px = on_grid(vae, x)
    entropy = -(q * log_q).sum(axis=1, keepdims=True)
    posterior = np.exp(log_joint - log_px)
    kl = np.stack([rel_entr(q, p * STEP).sum(axis=1) for p in posterior.T], axis=1)
    return q @ log_joint + entropy, kl


@check("9.6-9.10", "the q with the largest bound is the q with the smallest KL to p(z | x), and the E step gets there")
def e_step_minimises_the_divergence():
    """961 Gaussians for each of four patterns, integrated; then `climb` from the prior."""
    vae, x = tiny(), PATTERNS[[1, 6, 11, 12]]
    bound, kl = bounds_of_gaussians(vae, x)
    mu, log_sigma = climb(vae, x, np.zeros((4, 1)), np.zeros((4, 1)), Generator(92), 40, samples=100)
    log_q = stats.norm.logpdf(GRID[:, None], mu[:, 0], np.exp(log_sigma)[:, 0])
    reached = (np.exp(log_q) * (on_grid(vae, x)[0] - log_q)).sum(axis=0) * STEP
    return [
        Claim(np.sum(bound.argmax(axis=0) == kl.argmin(axis=0)), "=", 4, 0.0, "patterns whose best q is the same"),
        Claim(np.ptp(bound + kl, axis=0).max(), "=", 0.0, 1e-9, "spread of bound + KL over q"),
        Claim((reached - bound.max(axis=0)).min(), ">=", 0.0, 0.005, "E step against the best of the table, nats"),
    ]


@check("9.7", "with q = p(z | x), the M step's gradient of the bound is the gradient of log p(x)")
def m_step_follows_the_likelihood():
    """The engine's gradient of E_q log p(x, z), q fixed, against a central difference of the integrated log p(x)."""
    vae, x = tiny(), PATTERNS[[1, 6, 11, 12]]
    log_joint, log_px = on_grid(vae, x)
    posterior = np.exp(log_joint - log_px) * STEP
    value = (vae.decode(GRID[:, None, None]).log_prob(x) * posterior).sum()
    weight = vae.decoder.parameters()[0]
    direction = Generator(91).standard_normal(weight.shape)
    right = float(np.sum(grad(value, weight) * direction))
    start, ends = weight.data.copy(), []
    for h in (1e-5, -1e-5):
        weight.assign(start + h * direction)
        ends.append(on_grid(vae, x)[1].sum())
    return Claim((ends[0] - ends[1]) / 2e-5, "=", right, 1e-7)


@check("9.7", "EM never lowers log p(x): a mixture of two Bernoulli products, E and M steps in closed form")
def em_climbs():
    """Twenty rounds on 200 data; the smallest rise, and the bound between a round's two likelihoods."""
    x = drawn_from(tiny(3), 200, 6)[1]
    weights, p = np.array([0.5, 0.5]), Generator(90).uniform(0.3, 0.7, (2, 4))

    def joint():
        return np.log(weights) + x @ np.log(p).T + (1 - x) @ np.log(1 - p).T

    rises, gaps = [], []
    for _ in range(20):
        before = np.asarray(ops.log_sum_exp(joint())).sum()
        q = softmax(joint(), axis=1)
        weights, p = q.mean(axis=0), np.clip((q.T @ x) / q.sum(axis=0)[:, None], 1e-6, 1 - 1e-6)
        bound = np.sum(q * joint()) + stats.entropy(q, axis=1).sum()
        after = np.asarray(ops.log_sum_exp(joint())).sum()
        rises.append(bound - before)
        gaps.append(after - bound)
    return [
        Claim(min(rises), ">=", 0.0, 1e-10, "M step: smallest rise of the bound, nats"),
        Claim(min(gaps), ">=", 0.0, 1e-10, "smallest log p(D) - bound, nats"),
        Claim(rises[0], ">=", 0.1, 0.0, "first rise"),
    ]


@check("9.11-9.14", "grad_z log p(x, z), by the engine, is the slope of the normalised log p(z | x)")
def posterior_gradient():
    """Central differences of the logarithm of a density that integrates to one."""
    vae, x = tiny(), PATTERNS[[1, 6, 11, 12]]
    log_joint, log_px = on_grid(vae, x)
    log_posterior = log_joint - log_px
    at = np.arange(300, 901, 50)  # z from -6 to 6
    numeric = (log_posterior[at + 1] - log_posterior[at - 1]) / (2 * STEP)
    leaf = Tensor(np.broadcast_to(GRID[at, None, None], (len(at), 4, 1)).copy())
    value = Normal(np.zeros(1), np.zeros(1)).log_prob(leaf) + vae.decode(leaf).log_prob(x)
    return Claim(np.abs(grad(value.sum(), leaf)[..., 0] - numeric).max(), "=", 0.0, 1e-3, "largest difference")


# %% Appendix 9.3
@check("9.15", "with L~ = -(theta - x_i)^2 / 2 and alpha_t = 1 / t, SGD's theta is the mean of the data drawn so far")
def sgd_averages():
    """1,000 steps of the optimizer; the mean of all draws, and within 4 standard errors the maximum of L."""
    x, rng = np.array([1.0, 4.0, -2.0, 0.5, 9.0]), Generator(89)
    drawn = x[rng.integers(0, 5, 1000)]
    theta = Parameter(np.array([5.0]))
    optimizer = optim.SGD([theta], lambda t: 1.0 / (t + 1))
    for value in drawn:
        optimizer.step(grad(0.5 * ops.square(theta - value).sum(), [theta]))
    found = float(theta.data[0])
    return [
        Claim(found, "=", drawn.mean(), 1e-10, "mean of the draws"),
        Claim(found, "=", x.mean(), 4 * x.std() / np.sqrt(1000), "maximum of L"),
    ]


@check("2.77", "the loss that trains the decoder: the divergence in closed form and by samples agree in the mean")
def loss_is_the_bound():
    """20,000 draws, within 4 standard errors."""
    gap, error = estimator_gap(tiny(), PATTERNS)
    return Claim(gap, "=", 0.0, 4 * error, "estimator B less estimator A")
