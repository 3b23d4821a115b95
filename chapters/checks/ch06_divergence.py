"""Checks of thesis chapter 6, the divergence from a log-uniform prior: 6.11, 6.34-6.41, section 6.3.3's polynomial."""

import math

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import dawsn, digamma
from scipy.stats import entropy, gamma, kstest, logistic, norm, uniform

from minivi.experiments import Claim, check
from minivi.nn import DropoutLinear, GaussianLinear, priors
from minivi.random import Generator
from minivi.small import largest
from minivi.tensor import Parameter, grad

# %% [markdown]
# ## The equations, checked
#
# An integral over w is a sum over u = log|w| and the sign, where log|w| is no singularity. Another way, for a Gaussian:
#
# $$E \log|m + e| = -\tfrac12(\gamma + \log 2) + \int_0^m \sqrt 2\, D(t / \sqrt 2)\, dt, \quad e \sim N(0, 1)$$
#
# with Dawson's integral D. The divergence of Gaussian dropout is then the integral of sqrt(2) D(t / sqrt 2) from 1 to
# 1 / sqrt(alpha), and its slope in log alpha is -x D(x) at x = 1 / sqrt(2 alpha).

# %%
U = np.linspace(-40.0, 12.0, 40_001)
STEP, SIGNS = U[1] - U[0], np.array([[-1.0], [1.0]])
W = SIGNS * np.exp(U)  # (2, points): negative and positive weights
C = 1.0 / 176.0  # of the prior, on an interval of 176 nats of log|w|


def integral(values):
    """The integral over w of ``values`` at W."""
    return np.sum(values * np.abs(W)) * STEP


def mean(q, values):
    """E_q of ``values`` at W."""
    return integral(q.pdf(W) * values)


def entropy_of(q):
    """-E log q(w), nats."""
    log_q = q.logpdf(W)
    return -mean(q, np.where(np.isfinite(log_q), log_q, 0.0))


def negative_kl(q):
    """-KL(q || p) by its definition: p(w) = C / (2 |w|), half for each sign."""
    log_q = q.logpdf(W)
    return -mean(q, np.where(np.isfinite(log_q), log_q, 0.0) - np.log(C / (2 * np.abs(W))))


def mean_log(m):
    """E log|m + e|, e ~ N(0, 1), by Dawson's integral."""
    return -0.5 * (np.euler_gamma + math.log(2)) + quad(lambda t: math.sqrt(2) * dawsn(t / math.sqrt(2)), 0, m)[0]


def dropout_kl(alpha):
    """KL of Gaussian dropout, 0 at alpha = 1, by Dawson's integral."""
    return quad(lambda t: math.sqrt(2) * dawsn(t / math.sqrt(2)), 1, 1 / math.sqrt(alpha), limit=200)[0]


def slope(alpha):
    """Of -KL in log alpha."""
    x = 1 / np.sqrt(2 * np.asarray(alpha))
    return x * dawsn(x)


BOTH_SIDES = [norm(0.4, 0.7), norm(-1.5, 1.0), norm(0.02, 3.0)]  # mass on both sides of 0

# %% Appendix 6.A
FORMATS = ((np.float32, np.uint32, 8), (np.float64, np.uint64, 11))


@check("6.A, text", "random bits are log-uniform from 2^-126 to 2^128; 8 is the exponent's bits, not its range")
def floating_point():
    """np.finfo, and the normal ones of 200,000 random bit patterns. The exponent is not "non-negative" either.

    With e >= 0 there would be no number but 0 below 1 / 2^(p - 1).
    """
    claims, rng = [], np.random.default_rng(100)
    for real, bits, exponent in FORMATS:
        info = np.finfo(real)
        low, high = math.log2(info.smallest_normal), float(np.log2(info.max) + info.epsneg)
        w = rng.integers(0, 2 ** (8 * bits(0).nbytes), 200_000, dtype=bits).view(real)
        w = w[np.isfinite(w) & (np.abs(w) >= info.smallest_normal)].astype(float)
        log_w = np.log2(np.abs(w))
        name = f"{info.bits} bits"
        claims += [
            Claim(kstest(log_w, uniform(low, high - low).cdf).statistic, "<=", 0.006, 0.0, f"{name}: from uniform"),
            Claim(np.mean(w < 0), "=", 0.5, 0.005, f"{name}: share of negative numbers"),
            Claim(low, "=", 2 - 2 ** (exponent - 1), 0.0, f"{name}: smallest exponent, 2 - 2^{exponent - 1}"),
            Claim(
                float(info.smallest_normal) * 2.0**info.nmant, "<=", 1e-30, 0.0, f"{name}: smallest by 1 / 2^(p - 1)"
            ),
            Claim(
                np.mean(np.abs(log_w) < exponent), "<=", 0.07, 0.0, f"{name}: share in 2^-{exponent} .. 2^{exponent}"
            ),
        ]
    return claims


@check("6.34", "a density on a finite interval; there the divergence is the library's, whatever theta")
def proper_prior():
    """p(w) = c / (2 |w|) for log|w| in an interval of 1 / c nats, from 2^-126 on. Constants are written out."""
    log_w = np.linspace(-126 * math.log(2), -126 * math.log(2) + 1 / C, 200_001)
    p = C / (2 * np.exp(log_w))
    total = 2 * np.trapezoid(p * np.exp(log_w), log_w)
    claims = [Claim(total, "=", 1.0, 1e-9, "integral of the prior")]
    constant = math.log(C) + math.log(0.5) + 0.5 * (1 + math.log(2 * math.pi)) - priors.mean_log_noise(1.0)
    for theta, alpha in ((0.3, 0.05), (-2.0, 0.4), (40.0, 1.0)):
        q = norm(theta, abs(theta) * math.sqrt(alpha))
        right = constant - priors.exact_log_uniform_kl(alpha)
        claims.append(Claim(negative_kl(q), "=", right, 1e-8, f"theta = {theta}, alpha = {alpha}: -KL, nats"))
    return claims


# %% Appendix 6.C: the sign and the scale
def sign_part(q):
    """Eq. 6.35."""
    below = q.cdf(0.0)
    return math.log(0.5) - below * math.log(below) - (1 - below) * math.log(1 - below)


def scale_part(q):
    """Eq. 6.36, its expectations by SciPy in w."""
    below, total = q.cdf(0.0), math.log(C)
    for sign, share in ((-1.0, below), (1.0, 1 - below)):
        inside = lambda a, s=sign, m=share: q.pdf(s * a) / m * (q.logpdf(s * a) - math.log(m) + math.log(a))
        ends = [0.0, 1e-6, 0.3, 2.0, 30.0]
        total -= share * sum(quad(inside, a, b, limit=200)[0] for a, b in zip(ends[:-1], ends[1:], strict=True))
    return total


@check("6.35", "the sign's part: -KL between two coins")
def sign_bit():
    """The probability of a negative weight by the sum over W, the divergence by SciPy's entropy."""
    claims = []
    for q in BOTH_SIDES:
        below = np.sum((q.pdf(W) * np.abs(W))[0]) * STEP
        label = f"N({q.args[0]}, {q.args[1]}^2)"
        claims.append(Claim(sign_part(q), "=", -entropy([below, 1 - below], [0.5, 0.5]), 1e-9, label))
    return claims


@check("6.36", "the scale's part: the printed integrals over w, and the divergence of log|w| itself given the sign")
def log_scale():
    """Of u = log|w| the density given the sign is q(w) |w| / q(sign), and the prior's is c."""
    claims = []
    for q in BOTH_SIDES:
        shares = np.array([[q.cdf(0.0)], [1 - q.cdf(0.0)]])
        density = q.pdf(W) * np.abs(W) / shares
        log_density = q.logpdf(W) + np.log(np.abs(W)) - np.log(shares)
        kl = np.sum(shares * density * (log_density - math.log(C))) * STEP
        claims.append(Claim(scale_part(q), "=", -kl, 1e-7, f"N({q.args[0]}, {q.args[1]}^2)"))
    return claims


@check("6.37", "both together: the CDF cancels, and log c + log 0.5 + H(q) - E log|w| is -KL by its definition")
def together():
    """H in closed form and E log|w| by Dawson's integral, against the sum of parts and the integral of log q / p."""
    claims = []
    for q in BOTH_SIDES:
        mu, sigma = q.args
        right = math.log(C) + math.log(0.5) + float(q.entropy()) - math.log(sigma) - mean_log(abs(mu) / sigma)
        label = f"N({mu}, {sigma}^2)"
        claims += [
            Claim(sign_part(q) + scale_part(q), "=", right, 1e-7, f"{label}: sign and scale"),
            Claim(negative_kl(q), "=", right, 1e-8, f"{label}: definition"),
            Claim(-sign_part(q), ">=", 1e-5, 0.0, f"{label}: the sign's part is there"),
        ]
    return claims


@check("6.11", "H(log|w|) lacks the sign: -KL is the entropy of sign and log|w| together; the rest moves with alpha")
def entropies():
    """Of N(1, alpha), each less its value at alpha = 1. For small alpha all weights have one sign."""
    joint, scale = {}, {}
    for alpha in (0.02, 0.1, 0.3, 1.0):
        density = norm.pdf(W, 1.0, math.sqrt(alpha)) * np.abs(W)
        joint[alpha] = entropy(density, axis=None) + math.log(STEP)
        scale[alpha] = entropy(density.sum(axis=0)) + math.log(STEP)
    claims = []
    for alpha in (0.02, 0.1, 0.3):
        right = -dropout_kl(alpha)
        claims += [
            Claim(joint[alpha] - joint[1.0], "=", right, 1e-7, f"alpha = {alpha}: with the sign, nats"),
            Claim(scale[alpha] - scale[1.0] - right, ">=", 0.05, 0.0, f"alpha = {alpha}: as printed, too much, nats"),
        ]
    return [*claims, Claim(joint[0.02] - scale[0.02], "<=", 1e-9, 0.0, "alpha = 0.02: the sign's entropy, nats")]


# %% Appendix 6.C: dropout posteriors
NOISES = {
    "Gaussian": [norm(1.0, math.sqrt(a)) for a in (0.05, 1.0)],
    "logistic": [logistic(1.0, s) for s in (0.1, 0.6)],
    "gamma": [gamma(k, scale=1 / k) for k in (1.5, 8.0)],
}
THETAS = (0.01, -0.7, 5.0)


def scaled(noise, theta):
    """The law of theta times the noise, as an object with pdf and logpdf."""
    return type("Scaled", (), {
        "pdf": staticmethod(lambda w: noise.pdf(w / theta) / abs(theta)),
        "logpdf": staticmethod(lambda w: noise.logpdf(w / theta) - math.log(abs(theta))),
    })  # fmt: skip


@check("6.38", 'w = theta eps, E[eps] = 1, by the library; the appendix\'s "always" for Gaussians forgets mean 0')
def multiplicative():
    """N(mu, sigma^2) has alpha = sigma^2 / mu^2: two layers' draws for equal noise. 6.3.3 does say "nonzero mean"."""
    mu, alpha = np.array([[0.5, -2.0], [1.2, 0.1]]), 0.4
    dropped = DropoutLinear(2, 2, Generator(0), rate=alpha / (1 + alpha), sampling="minibatch", dtype="float64")
    gaussian = GaussianLinear(2, 2, Generator(0), sampling="minibatch", dtype="float64")
    for layer in (dropped, gaussian):
        layer.weight.assign(mu)
    gaussian.log_sigma.assign(np.log(np.abs(mu) * math.sqrt(alpha)))
    eps = Generator(101).standard_normal((3, 2))
    ours = np.asarray(dropped.draw(None, eps=eps[:2])[0])
    other = np.asarray(gaussian.draw(None, eps=eps * np.concatenate([np.sign(mu), [[1.0, 1.0]]]))[0])
    both = sum(np.asarray(dropped.draw(None, eps=s * eps[:2])[0]) for s in (1.0, -1.0))
    dropped.weight.assign(mu * 0.0)
    return [
        Claim(largest(ours, other), "=", 0.0, 1e-12, "theta eps, and mu + sigma times the same noise"),
        Claim(largest(both / 2, mu), "=", 0.0, 1e-12, "mean of opposite noises, less theta"),
        Claim(largest(dropped.draw(Generator(102))[0]), "=", 0.0, 0.0, "theta = 0: largest weight drawn"),
    ]


@check("6.39", "H(q(w)) = H(q(eps)) + log|theta|")
def entropy_of_scaled():
    """The sum over w against SciPy's closed forms of the noise's entropy."""
    claims = []
    for name, noises in NOISES.items():
        errors = [entropy_of(scaled(n, t)) - n.entropy() - math.log(abs(t)) for n in noises for t in THETAS]
        claims.append(Claim(largest(errors), "=", 0.0, 1e-6, f"{name}: largest difference"))
    return claims


@check("6.40", "E log|w| = log|theta| + E log|eps|")
def mean_log_of_scaled():
    """The right side: the library's and Dawson's integral for Gaussians, SciPy's for logistic, digamma for gamma."""
    folded = lambda n: lambda e: (n.pdf(e) + n.pdf(-e)) * math.log(e)
    logs = [quad(folded(n), 0, 1)[0] + quad(folded(n), 1, 40)[0] for n in NOISES["logistic"]]
    right = {
        "Gaussian": [priors.mean_log_noise(0.05), mean_log(1.0)],
        "logistic": logs,
        "gamma": [digamma(k) - math.log(k) for k in (1.5, 8.0)],
    }
    claims = []
    for name, noises in NOISES.items():
        errors = [
            mean(scaled(n, t), np.log(np.abs(W))) - math.log(abs(t)) - r
            for n, r in zip(noises, right[name], strict=True)
            for t in THETAS
        ]
        claims.append(Claim(largest(errors), "=", 0.0, 1e-6, f"{name}: largest difference"))
    return claims


@check("6.39-6.41", "the divergence does not depend on theta, for three kinds of noise; with other priors it does")
def theta_cancels():
    """-KL by its definition for three theta. N(0, 1) is one such prior; |w|^-0.9 leaves 0.1 log|theta|."""
    claims = []
    for name, noises in NOISES.items():
        values = [[negative_kl(scaled(n, t)) for t in THETAS] for n in noises]
        right = [math.log(C / 2) + n.entropy() - mean(n, np.log(np.abs(W))) for n in noises]
        claims.append(Claim(largest(values, np.array(right)[:, None]), "=", 0.0, 1e-6, f"{name}: from eq. 6.41"))
    posteriors = [scaled(NOISES["Gaussian"][0], t) for t in THETAS]
    normal = [-entropy_of(q) - mean(q, norm.logpdf(W)) for q in posteriors]
    power = [-entropy_of(q) + 0.9 * mean(q, np.log(np.abs(W))) for q in posteriors]
    return [
        *claims,
        Claim(np.ptp(normal), ">=", 1.0, 0.0, "prior N(0, 1): range over theta, nats"),
        Claim(power[0] - power[2], "=", 0.1 * math.log(THETAS[2] / THETAS[0]), 1e-6, "prior |w|^-0.9: 0.1 log ratio"),
    ]


@check("6.41", "Gaussian dropout: 0.5 (1 + log 2 pi + log alpha) - E log|eps|; the library's integral against Dawson's")
def gaussian_dropout():
    """For alpha from 1e-4 to 10; and the printed line against the definition."""
    alphas, h = np.array([1e-4, 0.01, 0.1, 0.5, 1.0, 2.0, 10.0]), 1e-3
    kl = priors.exact_log_uniform_kl
    slopes = [(kl(a * math.exp(-h)) - kl(a * math.exp(h))) / (2 * h) for a in alphas]
    printed = math.log(C) + math.log(0.5) + 0.5 * (1 + math.log(2 * math.pi) + np.log(alphas))
    printed = printed - [priors.mean_log_noise(a) for a in alphas]
    defined = [negative_kl(norm(1.0, math.sqrt(a))) for a in alphas]
    return [
        Claim(largest(printed, defined), "=", 0.0, 1e-8, "-KL: the printed line less the definition"),
        Claim(
            largest([kl(a) - dropout_kl(a) for a in alphas]), "=", 0.0, 1e-9, "KL, 0 at alpha = 1: largest difference"
        ),
        Claim(largest(slopes, slope(alphas)), "=", 0.0, 1e-6, "its slope in log alpha, less -x D(x)"),
        Claim(min(slopes), ">=", 0.01, 0.0, "least slope of -KL: more noise is always less divergence"),
    ]


# %% Section 6.3.3: the polynomial
def cubic_kl(alpha):
    """The library's, 0 at alpha = 1."""
    return np.asarray(priors.log_uniform_kl(np.log(alpha)))


@check("6.3.3, text", "the cubic is within 0.01 nats in Figure 6.C.1, or exact for alpha to 0: no constant gives both")
def cubic():
    """The text says both. With KL = 0 at alpha = 1, as the figure has it, the cubic is 0.037 off for alpha to 0.

    With the constant of the exact one, which the lower bound needs to become exact, it is off in all of the figure.
    """
    c = np.array([1.16145124, -1.50204118, 0.58629921])
    printed = lambda a: 0.5 * np.log(a) + c[0] * a + c[1] * a**2 + c[2] * a**3
    shown, below = np.linspace(0.05 / 0.95, 1.0, 300), np.geomspace(1e-6, 0.05, 40)
    error, outside = (cubic_kl(a) - [dropout_kl(v) for v in a] for a in (shown, below))
    limit = c.sum() + mean_log(1.0)
    return [
        Claim(largest(cubic_kl(shown), printed(1.0) - printed(shown)), "=", 0.0, 1e-12, "as printed"),
        Claim(largest(error), "<=", 0.0092, 0.0, "p from 0.05 to 0.5: largest error, nats"),
        Claim(outside[0], "=", limit, 1e-5, "alpha = 1e-6: error, and c1 + c2 + c3 + E log|e|"),
        Claim(limit, "=", 0.0372, 5e-5, "which is, nats"),
        Claim(largest(outside), "<=", limit, 0.0, "largest error on (0, 0.05]"),
        Claim(np.min(limit - error), ">=", 0.028, 0.0, "exact for alpha to 0: least error in the figure"),
    ]


@check("6.3.3, fit", "its coefficients are those of a fit with a free constant, of which the text is silent")
def fit():
    """Least squares of -E log|eps| over log alpha from log 0.05 to 0. Without a constant the best cubic is another."""
    alphas = np.exp(np.linspace(math.log(0.05), 0.0, 200))
    target = -np.array([mean_log(1 / math.sqrt(a)) + 0.5 * math.log(a) for a in alphas])
    powers = np.stack([alphas, alphas**2, alphas**3, np.ones_like(alphas)], axis=1)
    found = np.linalg.lstsq(powers, target, rcond=None)[0]
    without = np.linalg.lstsq(powers[:, :3], target, rcond=None)[0]
    return [
        Claim(largest(found[:3], priors.CUBIC), "<=", 0.005, 0.0, "c1, c2, c3 from the text's"),
        Claim(found[3], "=", -0.0356, 5e-4, "the constant"),
        Claim(largest(without, priors.CUBIC), ">=", 0.2, 0.0, "without a constant: from the text's"),
    ]


@check("6.3.4, slope", "what learning sees: the cubic is 15 % too steep in log alpha at alpha = 1, and wild beyond")
def learning():
    """The engine's derivative against x D(x). For large alpha the exact one fades as 1 / (2 alpha): a flat optimum."""
    log_alpha = Parameter(np.log(np.linspace(0.02, 1.0, 99)), dtype="float64")
    ours = -grad(priors.log_uniform_kl(log_alpha).sum(), [log_alpha])[0]
    exact = slope(np.exp(log_alpha.data))
    return [
        Claim(largest(ours, exact), "=", ours[-1] - exact[-1], 1e-12, "largest difference, at alpha = 1"),
        Claim(ours[-1] / exact[-1], "=", 1.149, 0.002, "ratio there"),
        Claim(min(ours), ">=", 0.39, 0.0, "least slope of the cubic: its sign is right"),
        Claim(dropout_kl(2.0) - cubic_kl(2.0), ">=", 0.9, 0.0, "alpha = 2: the cubic is off by, nats"),
        Claim(slope(1e4) * 2e4, "=", 1.0, 1e-3, "alpha = 10,000: 2 alpha times the exact slope"),
    ]


@check("6.C, lower bound", "-E log|eps| >= 0, said to hold for all alpha, ends at 2.42, and the bound with it")
def lower_bound():
    """The root by Dawson's integral. Up to there the library's bound on -KL, const + 0.5 log alpha, is one."""
    of = lambda a: mean_log(1 / math.sqrt(a)) + 0.5 * math.log(a)
    root = brentq(of, 1.0, 4.0)
    alphas = np.array([0.01, 0.1, 0.4, 1.0, 2.0, 2.4, 2.5, 5.0])
    gap = np.asarray(priors.log_uniform_kl(np.log(alphas), "bound")) - [dropout_kl(a) for a in alphas]
    return [
        Claim(root, "=", 2.4212, 1e-4, "alpha where E log|eps| changes its sign"),
        Claim(gap[alphas < root].min(), ">=", 0.0, 0.0, "bound on KL less KL below it, least"),
        Claim(gap[alphas > root].max(), "<=", -0.01, 0.0, "and above it, largest: no bound"),
        Claim(largest(gap, [-of(a) for a in alphas]), "=", 0.0, 1e-8, "the gap is -E log|eps|"),
        Claim(gap[0], "<=", 0.0051, 0.0, "alpha = 0.01: nearly exact, with this constant"),
    ]


@check("6.A, digits", "the divergence counts significant digits: a binary digit more of a weight costs log 2 nats")
def digits():
    """A digit is a halving of sqrt(alpha). So it is for little noise; the first digit costs 5 % more."""
    alphas = 4.0 ** -np.arange(8)
    costs = np.diff([priors.exact_log_uniform_kl(a) for a in alphas]) / math.log(2)
    return [
        Claim(largest(np.diff(priors.significant_bits(alphas)), 1.0), "=", 0.0, 1e-12, "digits more at each step"),
        Claim(costs[-1], "=", 1.0, 1e-3, "cost of the seventh digit, bits"),
        Claim(costs[0], "=", dropout_kl(0.25) / math.log(2), 1e-9, "cost of the first, bits, and by Dawson's integral"),
    ]
