"""Checks of tighter bounds, second part: signal and noise of the gradients, a learned beta."""

from functools import cache

import numpy as np
from scipy.special import gamma
from scipy.stats import norm

from minivi import bounds, estimators, evaluation, ops, optim
from minivi.experiments import Claim, check
from minivi.random import Generator
from minivi.tensor import Parameter, grad
from minivi_chapters.studies.report_tighter_bounds_gradients._shared import LOG_SIGMA, LinearGaussian, gradients

# %% [markdown]
# ## The equations, checked
#
# The linear-Gaussian model in one dimension. p(x), the posterior and the ELBO have closed forms; the bound and the
# moments of its gradients are two nested one-dimensional integrals for any K; expectations over two samples are sums
# over a grid of (eps_1, eps_2). On the left stands the library, or the text; on the right one of these.

# %%
A, B, MU, X = np.array([[0.4]]), np.array([0.5]), np.array([0.3]), np.array([[1.1]])
CENTRE, SIGMA = (X[0, 0] + MU[0]) / 2, np.exp(LOG_SIGMA)  # the posterior is N(CENTRE, 1/2)
EPS = np.linspace(-9.0, 9.0, 601)
MASS = norm.pdf(EPS) * (EPS[1] - EPS[0])
TIME_STEP = 0.1
TIME = np.exp(np.arange(-35.0, 40.0, TIME_STEP))


def model(b=B, mu=MU):
    """The model of the checks, in float64."""
    return LinearGaussian(A, b, mu)


def by_hand(eps=EPS, b=B[0], mu=MU[0]):
    """w; d log w / db, d log w / dmu, and d log w / dz at fixed q: from SciPy's densities and by calculus."""
    x, m = X[0, 0], A[0, 0] * X[0, 0] + b
    z = m + SIGMA * eps
    w = norm.pdf(z, mu) * norm.pdf(x, z) / norm.pdf(z, m, SIGMA)
    return w, mu + x - 2 * z, z - mu, mu + x - 2 * z + (z - m) / SIGMA**2


@cache
def decays():
    """exp(-t w) times the mass of w, (t, w)."""
    return np.exp(-TIME[:, None] * by_hand()[0]) * MASS


def weighted(g, samples, power=1):
    """Exact mean and variance of sum_k w~_k^p g_k, for any K, from s^-n = int t^(n - 1) exp(-s t) / (n - 1)! dt."""
    wg, n = by_hand()[0] ** power * g, 2 * power
    one, first, second = decays().sum(axis=1), decays() @ wg, decays() @ wg**2
    mean = samples * np.sum(first * one ** (samples - 1) * TIME**power) * TIME_STEP / gamma(power)
    square = samples * second * one ** (samples - 1)
    if samples > 1:
        square = square + samples * (samples - 1) * first**2 * one ** (samples - 2)
    return mean, np.sum(square * TIME**n) * TIME_STEP / gamma(n) - mean**2


LOG_PX = norm.logpdf(X[0, 0], MU[0], np.sqrt(2.0))


def expected_bound(samples, b=B[0], mu=MU[0]):
    """E log mean_k w_k for any K, from log s = int (exp(-t) - exp(-s t)) / t dt."""
    decay = np.exp(-TIME[:, None] / samples * by_hand(b=b, mu=mu)[0])
    return np.sum(np.exp(-TIME) - (decay @ MASS) ** samples) * TIME_STEP


def ratio(g, samples, power=1):
    """Exact signal-to-noise ratio."""
    mean, variance = weighted(g, samples, power)
    return abs(mean) / np.sqrt(variance)


def central(f, at, h=1e-4):
    """Derivative by a central difference."""
    return (f(at + h) - f(at - h)) / (2 * h)


def true_gradient(samples):
    """Derivatives of the exact bound by b and by mu."""
    by_b = central(lambda b: expected_bound(samples, b=b), B[0])
    return by_b, central(lambda mu: expected_bound(samples, mu=mu), MU[0])


@cache
def pairs():
    """All noise of two samples, (2, N, 1), the probability of each column, and the datum N times."""
    nodes = np.linspace(-8.0, 8.0, 150)
    p = norm.pdf(nodes) * (nodes[1] - nodes[0])
    eps = np.stack([e.ravel() for e in np.meshgrid(nodes, nodes)])[..., None]
    return eps, np.outer(p, p).ravel(), np.repeat(X, eps.shape[1], axis=0)


def columns(surrogates, eps, x):
    """Gradients by b and by mu of each column: ``surrogates(model, x, eps)`` is one, or the encoder's and decoder's."""
    m = model(np.repeat(B[None], len(x), axis=0), np.repeat(MU[None], len(x), axis=0))
    found = surrogates(m, x, eps)
    found = found if isinstance(found, tuple) else (found, found)
    return [a[:, 0] for a in gradients(found, [m.b], [m.mu])]


def moments_of_pairs(surrogates):
    """Exact mean and variance of the gradients by b and by mu, K = 2."""
    eps, p, x = pairs()
    return [(p @ g, p @ g**2 - (p @ g) ** 2) for g in columns(surrogates, eps, x)]


def kl(mean, sigma, other_mean, other_sigma):
    """KL divergence of two Gaussians."""
    return np.log(other_sigma / sigma) + (sigma**2 + (mean - other_mean) ** 2) / (2 * other_sigma**2) - 0.5


# %% Section 3.1
@check("tighter-bounds report 1", "p(x) is the integral over z of p(x | z) p(z)")
def marginal_by_integration():
    """The library's densities summed over a grid of z, against N(x; mu, 2)."""
    terms = model().terms(np.repeat(X, len(EPS), axis=0), eps=EPS[None, :, None])
    joint = np.exp(np.asarray(terms.log_px_z + terms.log_pz))[0]
    return Claim(np.log(joint.sum() * SIGMA * (EPS[1] - EPS[0])), "=", LOG_PX, 1e-10)


@check("tighter-bounds report 2", "p(z | x) = p(x, z) / p(x) is the Gaussian posterior")
def posterior_by_division():
    """Joint over marginal at every z, against N((x + mu) / 2, 1/2)."""
    terms = model().terms(np.repeat(X, len(EPS), axis=0), eps=EPS[None, :, None])
    log_posterior = np.asarray(terms.log_px_z + terms.log_pz)[0] - LOG_PX
    right = norm.logpdf(np.asarray(terms.z)[0, :, 0], CENTRE, np.sqrt(0.5))
    return Claim(np.abs(log_posterior - right).max(), "=", 0.0, 1e-10, "largest difference")


@check("tighter-bounds report 3", "E_q[w] = p(x), and E_q[log w] lies below log p(x), for any q")
def jensen():
    """The library's weights for 40 encoders; by Jensen the second is smaller."""
    gaps, errors = [], []
    for b in np.linspace(-1.0, 1.0, 40):
        log_w = np.asarray(model(b=[b]).terms(np.repeat(X, len(EPS), axis=0), eps=EPS[None, :, None]).log_w)[0]
        errors.append(np.log(MASS @ np.exp(log_w)) - LOG_PX)
        gaps.append(LOG_PX - MASS @ log_w)
    return [
        Claim(np.abs(errors).max(), "=", 0.0, 1e-10, "log E[w] - log p(x)"),
        Claim(min(gaps), ">=", 0.0, 0.0, "smallest gap of the bound"),
    ]


@check("tighter-bounds report 4", "log p(x) - ELBO is KL(q(z | x) || p(z | x))")
def gap_is_a_divergence():
    """The integral of the library's log w against the closed form for two Gaussians."""
    terms = model().terms(np.repeat(X, len(EPS), axis=0), eps=EPS[None, :, None])
    m = A[0, 0] * X[0, 0] + B[0]
    right = kl(m, SIGMA, CENTRE, np.sqrt(0.5))
    return Claim(LOG_PX - MASS @ np.asarray(terms.log_w)[0], "=", right, 1e-10)


@check("tighter-bounds report 5", "the mean of L samples of log w is unbiased, and L = 2 halves its variance")
def elbo_estimator():
    """The library's estimate over all pairs of noise; the ELBO in closed form, one sample's variance by integration."""
    eps, p, x = pairs()
    values = np.asarray(bounds.elbo(model().terms(x, eps=eps).log_w))
    log_w = np.log(by_hand()[0])
    elbo = LOG_PX - kl(A[0, 0] * X[0, 0] + B[0], SIGMA, CENTRE, np.sqrt(0.5))
    variance = MASS @ log_w**2 - (MASS @ log_w) ** 2
    return [
        Claim(p @ values, "=", elbo, 1e-10, "mean"),
        Claim(p @ values**2 - (p @ values) ** 2, "=", variance / 2, 1e-10, "variance"),
    ]


# %% Section 3.2
@check("tighter-bounds report 6", "L_1 is the ELBO, L_K rises with every sample, and ends at log p(x)")
def monotone_in_samples():
    """The library's bound over all pairs against the exact one, which is then followed to K = 3,000."""
    eps, p, x = pairs()
    two = p @ np.asarray(bounds.iwae(model().terms(x, eps=eps).log_w))
    rising = [expected_bound(k) for k in (*range(1, 12), 30, 100, 300, 1000, 3000)]
    w = by_hand()[0]
    gap = (MASS @ w**2 / np.exp(2 * LOG_PX) - 1) / (2 * 3000)
    elbo = LOG_PX - kl(A[0, 0] * X[0, 0] + B[0], SIGMA, CENTRE, np.sqrt(0.5))
    return [
        Claim(rising[0], "=", elbo, 1e-9, "K = 1"),
        Claim(two, "=", rising[1], 1e-9, "K = 2"),
        Claim(np.diff(rising).min(), ">=", 1e-7, 0.0, "smallest rise"),
        Claim((LOG_PX - rising[-1]) / gap, "=", 1.0, 1e-3, "K = 3,000: gap / (Var[w] / (2 K Z^2))"),
    ]


@check("tighter-bounds report 7", "the gradient of log mean w is unbiased for the gradient of the bound it belongs to")
def plain_gradient():
    """The engine's, over all pairs, against a difference of the exact bound; the variance against its integral."""
    plain = moments_of_pairs(lambda m, x, eps: bounds.iwae(m.terms(x, eps=eps).log_w))
    _, by_b, by_mu, _ = by_hand()
    claims = []
    for name, (mean, variance), right, g in zip("b mu".split(), plain, true_gradient(2), (by_b, by_mu), strict=True):
        claims.append(Claim(mean, "=", right, 1e-6, f"mean, {name}"))
        claims.append(Claim(variance, "=", weighted(g, 2)[1], 1e-6, f"variance, {name}"))
    return claims


@check("tighter-bounds report 7", "DReG is unbiased at every K and its variance is lower; from K = 2, STL is biased")
def other_estimators():
    """Library over all pairs at K = 2; beyond, exact integrals of their formulas against differences of the bound."""
    doubly_b, doubly_mu = moments_of_pairs(
        lambda m, x, eps: estimators.doubly_reparameterised(m, x, samples=2, eps=eps)
    )
    landing_b, landing_mu = moments_of_pairs(
        lambda m, x, eps: estimators.sticking_the_landing(m, x, samples=2, eps=eps)
    )
    _, by_b, _, path = by_hand()
    truth, delta = true_gradient(2), A[0, 0] * X[0, 0] + B[0] - CENTRE
    many = true_gradient(100)[0]
    return [
        Claim(doubly_b[0], "=", truth[0], 1e-6, "DReG, K = 2, encoder"),
        Claim(doubly_mu[0], "=", truth[1], 1e-6, "DReG, K = 2, decoder"),
        Claim(doubly_b[1], "=", weighted(path, 2, 2)[1], 1e-6, "its variance"),
        Claim(weighted(path, 100, 2)[0], "=", many, 1e-7, "DReG, K = 100"),
        Claim(doubly_b[1], "<=", 0.2 * weighted(by_b, 2)[1], 0.0, "DReG's variance below a fifth of the plain one's"),
        Claim(weighted(path, 100, 2)[1], "<=", 1e-3 * weighted(by_b, 100)[1], 0.0, "and at K = 100 a thousandth"),
        Claim(landing_b[0], "=", weighted(path, 2)[0], 1e-6, "STL, K = 2, encoder"),
        Claim(landing_mu[0], "=", truth[1], 1e-6, "STL, K = 2, decoder"),
        Claim(abs(landing_b[0] - truth[0]), ">=", 0.1 * abs(truth[0]), 0.0, "its bias for the encoder"),
        Claim(weighted(path, 1)[0], "=", true_gradient(1)[0], 1e-7, "STL, K = 1"),
        Claim(weighted(path, 5000)[0], "=", -1.5 * delta, 2e-3 * abs(delta), "STL, K = 5,000: its limit is not 0"),
    ]


# %% Section 3.3
@check("tighter-bounds report 8", "|mean| / deviation of sampled gradients; M groups raise it by sqrt(M)")
def sampled_ratio():
    """`evaluation.gradient_moments` of 3,000 draws of the library's gradient, against exact integrals."""
    _, by_b, by_mu, _ = by_hand()
    x, claims = np.repeat(X, 3000, axis=0), []
    for groups in (1, 4):
        eps = Generator([60, groups]).standard_normal((3 * groups, len(x), 1))
        drawn = columns(lambda m, x, eps, n=groups: bounds.miwae(m.terms(x, eps=eps).log_w, n), eps, x)
        rows = iter(np.stack(drawn, axis=1))
        found = evaluation.gradient_moments(lambda rows=rows: [next(rows)], len(x))
        for i, (name, g) in enumerate((("b", by_b), ("mu", by_mu))):
            right, error = np.sqrt(groups) * ratio(g, 3), 4 * found.snr_error()[0][i]
            claims.append(Claim(found.snr()[0][i], "=", right, error, f"M = {groups}, K = 3, {name}"))
    return claims


def relative_variance(b=B[0], mu=MU[0]):
    """Var[w] / Z^2 by integration."""
    w = by_hand(b=b, mu=mu)[0]
    return MASS @ w**2 / (MASS @ w) ** 2 - 1.0


@check(
    "tighter-bounds report 9", "the decoder's ratio: leading terms, with Z / (2 sqrt(K)), where 1 / (2 Z ..) is printed"
)
def decoder_ratio():
    """Exact moments for K up to 10,000; Var[w] by integration, its derivative by differences."""
    w, _, g, _ = by_hand()
    z, d_log_z = np.exp(LOG_PX), (X[0, 0] - MU[0]) / 2
    noise = np.sqrt(MASS @ (w * (g - d_log_z)) ** 2)
    second = 0.5 * central(lambda mu: relative_variance(mu=mu), MU[0])

    def leading(k):
        return abs(np.sqrt(k) * z * d_log_z - z / np.sqrt(k) * second) / noise

    errors = [ratio(g, k) / leading(k) - 1 for k in (100, 1000)]
    found = 10_000 * (d_log_z - weighted(g, 10_000)[0])  # of sqrt(K) Z E[gradient], what follows sqrt(K) dZ
    return [
        Claim(found / second, "=", 1.0, 1e-3, "second term over Z / (2 sqrt(K)) d(Var[w] / Z^2)"),
        Claim(found / (second / z**2), "=", z**2, 1e-3, "the same over the printed one: Z^2"),
        Claim(ratio(g, 1000) / leading(1000), "=", 1.0, 1e-3, "K = 1,000: ratio / leading terms"),
        Claim(errors[0] / errors[1], "=", 10.0, 0.3, "its error falls as 1 / K: K = 100 over K = 1,000"),
        Claim(np.log10(ratio(g, 10_000) / ratio(g, 1000)), "=", 0.5, 1e-3, "exponent over K"),
    ]


@check("tighter-bounds report 10", "the encoder's ratio: |d Var[w]| / (2 Z sqrt(K) sd[dw]); DReG's grows instead")
def encoder_ratio():
    """Exact moments for K up to 10,000; Var[w] by integration, its derivative by differences."""
    w, g, _, path = by_hand()
    z = np.exp(LOG_PX)
    d_variance = z**2 * central(lambda b: relative_variance(b=b), B[0])  # Z does not depend on b
    noise = np.sqrt(MASS @ (w * g) ** 2 - (MASS @ (w * g)) ** 2)

    def leading(k):
        return abs(d_variance) / (2 * z * np.sqrt(k) * noise)

    errors = [ratio(g, k) / leading(k) - 1 for k in (100, 1000)]
    return [
        Claim(10_000 * weighted(g, 10_000)[0], "=", -d_variance / (2 * z**2), 1e-3, "K times the mean"),
        Claim(MASS @ (w * g), "=", 0.0, 1e-10, "d Z = 0"),
        Claim(ratio(g, 1000) / leading(1000), "=", 1.0, 2e-3, "K = 1,000: ratio / leading term"),
        Claim(errors[0] / errors[1], "=", 10.0, 0.3, "its error falls as 1 / K: K = 100 over K = 1,000"),
        Claim(np.log10(ratio(g, 10_000) / ratio(g, 1000)), "=", -0.5, 1e-3, "exponent over K"),
        Claim(np.log10(ratio(path, 10_000, 2) / ratio(path, 1000, 2)), "=", 0.5, 1e-2, "DReG's exponent over K"),
    ]


# %% Sections 3.4 to 3.7
FEW = np.array([0.3, -1.2, 0.8, 1.9, -0.4, -2.1])  # noise of six samples


def few(f, parameter):
    """The engine's gradient of a bound of the six log-weights by "b" or "mu"."""
    m = model()
    return grad(f(m.terms(X, eps=FEW[:, None, None]).log_w).sum(), getattr(m, parameter)).item()


def average(g, groups):
    """Mean over groups of the normalised weighted averages of g: eq. 11's inside, by loops."""
    w = by_hand(FEW)[0]
    parts = np.split(np.arange(6), groups)
    return np.mean([np.sum(w[i] * g[i]) / np.sum(w[i]) for i in parts])


@check("tighter-bounds report 11", "MIWAE's gradient: the mean over M of IWAE(K)'s; M changes the noise, not the mean")
def miwae_gradient():
    """Six samples by loops; 3,000 draws of (3, 2) against exact moments. The last printed w counts the prior twice."""
    w, by_b, _, _ = by_hand()
    eps = Generator(61).standard_normal((6, 3000, 1))
    drawn = columns(lambda m, x, eps: bounds.miwae(m.terms(x, eps=eps).log_w, 3), eps, np.repeat(X, 3000, axis=0))[0]
    mean, variance = weighted(by_b, 2)
    squares = (drawn - mean) ** 2
    z = A[0, 0] * X[0, 0] + B[0] + SIGMA * EPS
    return [
        Claim(few(lambda w: bounds.miwae(w, 3), "b"), "=", average(by_hand(FEW)[1], 3), 1e-12, "M = 3, K = 2, b"),
        Claim(few(lambda w: bounds.miwae(w, 2), "mu"), "=", average(by_hand(FEW)[2], 2), 1e-12, "M = 2, K = 3, mu"),
        Claim(drawn.mean(), "=", mean, 4 * drawn.std() / np.sqrt(3000), "mean"),
        Claim(squares.mean(), "=", variance / 3, 4 * squares.std() / np.sqrt(3000), "variance"),
        Claim(MASS @ w, "=", np.exp(LOG_PX), 1e-10, "E[w] with one prior"),
        Claim(MASS @ (w * norm.pdf(z, MU[0])), "<=", 0.5 * np.exp(LOG_PX), 0.0, "E[w] with two is another number"),
    ]


@check("tighter-bounds report 12", "IWAE >= CIWAE >= ELBO for every draw; in expectation the mixture of exact bounds")
def ciwae_between():
    """Over all pairs of noise and three betas."""
    eps, p, x = pairs()
    log_w = np.asarray(model().terms(x, eps=eps).log_w)
    elbo, iwae, claims = bounds.elbo(log_w), bounds.iwae(log_w), []
    for beta in (0.05, 0.5, 0.95):
        between = bounds.ciwae(log_w, beta)
        claims.append(
            Claim(np.min(np.minimum(iwae - between, between - elbo)), ">=", 0.0, 1e-12, f"{beta}: smallest gap")
        )
        right = beta * expected_bound(1) + (1 - beta) * expected_bound(2)
        claims.append(Claim(p @ between, "=", right, 1e-9, f"{beta}: expectation"))
    return claims


@check("tighter-bounds report 13", "CIWAE's gradient is beta times the mean of d log w, plus the rest of IWAE's")
def ciwae_gradient():
    """The engine's against loops."""
    claims = []
    for name, g in zip("b mu".split(), by_hand(FEW)[1:3], strict=True):
        right = 0.3 * g.mean() + 0.7 * average(g, 1)
        claims.append(Claim(few(lambda w: bounds.ciwae(w, 0.3), name), "=", right, 1e-12, name))
    return claims


@check("tighter-bounds report 14", "PIWAE's encoder follows the mean over M of IWAE(L)'s gradient")
def piwae_encoder():
    """The engine's against loops, M = 3 and L = 2; with M and L exchanged it is another one."""
    g = by_hand(FEW)[1]
    found = few(lambda w: bounds.piwae(w, 3)[0], "b")
    return [
        Claim(found, "=", average(g, 3), 1e-12, "M = 3, L = 2"),
        Claim(abs(found - average(g, 2)), ">=", 0.01, 0.0, "away from M = 2, L = 3"),
    ]


@check("tighter-bounds report 15", "PIWAE's decoder follows IWAE's gradient over all M L samples")
def piwae_decoder():
    """The engine's against a loop over all six samples."""
    g = by_hand(FEW)[2]
    found = few(lambda w: bounds.piwae(w, 3)[1], "mu")
    return [
        Claim(found, "=", average(g, 1), 1e-12, "six samples"),
        Claim(abs(found - average(g, 3)), ">=", 0.01, 0.0, "away from the encoder's bound"),
    ]


@check(
    "tighter-bounds report 16", "minimising over beta ends at 1, the ELBO, and maximising at 0, IWAE, from any start"
)
def beta_goes_to_an_end():
    """The derivative by beta over all pairs, exactly; then gradient descent on beta's logit with fresh samples."""
    eps, p, x = pairs()
    beta = Parameter(np.array(0.4))
    log_w = np.asarray(model().terms(x, eps=eps).log_w)
    slope_of_beta = grad((bounds.ciwae(log_w, beta) * p).sum(), beta)
    claims = [Claim(slope_of_beta, "=", expected_bound(1) - expected_bound(2), 1e-9, "derivative = ELBO - IWAE < 0")]
    ends = {1.0: [], -1.0: []}
    for sign, found in ends.items():
        for start in (0.05, 0.5, 0.95):
            rng, logit = Generator(62), Parameter(np.log(start / (1 - start)))
            optimizer = optim.SGD([logit], 40.0)
            for _ in range(75):
                log_w = np.log(by_hand(rng.standard_normal((8, 4)))[0])
                bound = bounds.ciwae(log_w, ops.sigmoid(logit)).mean()
                optimizer.step([grad(sign * bound, logit)])
            found.append(ops.sigmoid(logit).item())
    claims.append(Claim(min(ends[1.0]), ">=", 0.97, 0.0, "minimised (the report): smallest end of three"))
    claims.append(Claim(max(ends[-1.0]), "<=", 0.03, 0.0, "maximised: largest end of three"))
    return claims


# %% Review report, section 4.4
@check("review report 9", "the bound of k = 50 samples: its sampled mean agrees with the exact expectation")
def sampled_bound():
    """4,000 estimates by the library, within 4 standard errors; sharp enough to tell k = 50 from 30."""
    x = np.repeat(X, 4000, axis=0)
    values = np.asarray(bounds.iwae(model(b=[2.0]).terms(x, Generator(63), 50).log_w))
    error = 4 * values.std() / np.sqrt(len(values))
    right = expected_bound(50, b=2.0)
    return [
        Claim(values.mean(), "=", right, error, "k = 50"),
        Claim(
            right - expected_bound(30, b=2.0), ">=", 2 * error, 0.0, "exact difference from k = 30 against that error"
        ),
    ]


@check("review report 10", "E[log mean w] is at most log E[mean w] = log p(x); equal if q is the posterior, for any k")
def review_jensen():
    """Both sides over all pairs of noise, through the library; then with q = p(z | x), where every w is p(x)."""
    eps, p, x = pairs()
    log_w = np.asarray(model().terms(x, eps=eps).log_w)
    right = np.log(p @ np.exp(bounds.iwae(log_w)))
    posterior = LinearGaussian([[0.5]], MU / 2, MU, 0.5 * np.log(0.5))
    at_posterior = np.asarray(bounds.iwae(posterior.terms(X, Generator(64), 7).log_w))
    return [
        Claim(right, "=", LOG_PX, 1e-9, "log E[mean w]"),
        Claim(p @ bounds.iwae(log_w), "<=", right - 1e-3, 0.0, "E[log mean w] below it"),
        Claim(at_posterior[0], "=", LOG_PX, 1e-12, "q the posterior, k = 7"),
    ]


@check(
    "review report 11", "IWAE's gradient is sum w~ grad log w; the printed mean without weights is the ELBO's gradient"
)
def review_gradient():
    """Six samples by hand; the expectation of the printed form over all pairs against differences of both bounds."""
    g = by_hand(FEW)[1]
    _, p, _ = pairs()
    eps = pairs()[0][..., 0]
    unweighted = p @ by_hand(eps)[1].mean(axis=0)
    return [
        Claim(few(bounds.iwae, "b"), "=", average(g, 1), 1e-12, "six samples, with weights"),
        Claim(unweighted, "=", true_gradient(1)[0], 1e-6, "without: expectation = gradient of the ELBO"),
        Claim(abs(unweighted - true_gradient(2)[0]), ">=", 0.1, 0.0, "and not of the bound of k = 2"),
    ]
