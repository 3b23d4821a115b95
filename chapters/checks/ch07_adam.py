"""Checks of chapter 7, Adam itself: its steps, its bias correction, its relatives and its extensions."""

import itertools
import math

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import linprog

from minivi import ops, optim
from minivi.distributions import Bernoulli
from minivi.experiments import Claim, check
from minivi.tensor import Parameter, grad
from minivi_chapters.studies.ch07_adam._shared import TINY, steps_of
from minivi_chapters.studies.ch07_adam.limits import log_norms, naive_norms
from minivi_chapters.studies.ch07_adam.moment_bias import zeta
from minivi_chapters.studies.ch07_adam.step_bounds import adam_limit, adamax_limit, printed_limit

# %% [markdown]
# ## Checks
#
# Each compares the text, or the library, with something computed another way.


# %%
@check("Algorithm 6", "optim.Adam, line by line, on a noisy quadratic of five numbers in float64")
def algorithm_6():
    alpha, beta1, beta2, eps = 0.05, 0.9, 0.999, 1e-8
    curvature = np.array([1e-3, 0.1, 1.0, 10.0, 1e3])
    p, noise = Parameter(np.ones(5)), np.random.default_rng(0).standard_normal((200, 5))
    optimizer, theta, m, v, worst = optim.Adam([p], alpha, eps=eps), np.ones(5), np.zeros(5), np.zeros(5), 0.0
    for t in range(1, 201):
        optimizer.step([curvature * p.data + noise[t - 1]])
        g = curvature * theta + noise[t - 1]
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        theta = theta - alpha * m_hat / (np.sqrt(v_hat) + eps)
        worst = max(worst, np.abs(p.data - theta).max())
    return Claim(worst, "=", 0.0, 1e-10, "largest difference of theta in 200 steps")


@check("Algorithm 7", "optim.AdaMax, line by line, on a noisy quadratic of five numbers in float64")
def algorithm_7():
    alpha, beta1, beta2 = 0.05, 0.9, 0.999
    curvature = np.array([1e-3, 0.1, 1.0, 10.0, 1e3])
    p, noise = Parameter(np.ones(5)), np.random.default_rng(0).standard_normal((200, 5))
    optimizer, theta, m, u, worst = optim.AdaMax([p], alpha), np.ones(5), np.zeros(5), np.zeros(5), 0.0
    for t in range(1, 201):
        optimizer.step([curvature * p.data + noise[t - 1]])
        g = curvature * theta + noise[t - 1]
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g))
        theta = theta - (alpha / (1 - beta1**t)) * m / u
        worst = max(worst, np.abs(p.data - theta).max())
    return Claim(worst, "=", 0.0, 1e-10, "largest difference of theta in 200 steps")


@check("thesis section 7.2", "the other order of computation is the same with v in it, and not with v_hat as printed")
def reordered():
    g = np.random.default_rng(1).standard_normal((50, 3))
    plain = steps_of(lambda p: optim.Adam(p, 1.0, eps=TINY), g)
    other = steps_of(lambda p: optim.Adam(p, 1.0, eps=TINY, reordered=True), g)
    t = np.arange(1, 51)[:, None]
    v_hat = np.array(
        [np.sum(0.001 * 0.999 ** np.arange(n)[::-1, None] * g[:n] ** 2, 0) / (1 - 0.999**n) for n in t[:, 0]]
    )
    m = np.array([np.sum(0.1 * 0.9 ** np.arange(n)[::-1, None] * g[:n], 0) for n in t[:, 0]])
    printed = np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / np.sqrt(v_hat)
    return [
        Claim(np.abs(other - plain).max(), "=", 0.0, 1e-10, "with v"),
        Claim(np.abs(printed / plain - np.sqrt(1 - 0.999**t)).max(), "=", 0.0, 1e-10, "v_hat: sqrt(1 - beta2^t) off"),
    ]  # fmt: skip


@check("thesis section 7.2.1", "the largest step at t, by an eigenvalue problem instead of Cauchy and Schwarz")
def largest_by_eigenvalues():
    """(weights . g)^2 / (g . D g) over all g: the largest generalised eigenvalue."""
    claims, above = [], 0.0
    for beta1, beta2, t in [(0.9, 0.999, 40), (0.9, 0.99, 7), (0.9, 0.95, 60), (0.5, 0.9, 3), (0.9, 0.9, 20)]:
        k = np.arange(t)
        weights = (1 - beta1) * beta1**k / (1 - beta1**t)
        squares = (1 - beta2) * beta2**k / (1 - beta2**t)
        largest = math.sqrt(eigh(np.outer(weights, weights), np.diag(squares), eigvals_only=True)[-1])
        claims.append(Claim(largest, "=", adam_limit(beta1, beta2, t), 1e-8, f"beta1 {beta1}, beta2 {beta2}, t {t}"))
        above = max(above, largest - adam_limit(beta1, beta2))
    claims.append(Claim(above, "<=", 0.0, 1e-12, "none is above the limit for t to infinity"))
    claims.append(Claim(adam_limit(0.9, 0.999), "=", 7.27, 0.005, "which is 7.27 at the defaults"))
    return claims


@check("thesis section 7.2.1", "a single nonzero gradient: |step| by the printed bounds, for many beta1, beta2 and t")
def single_gradient():
    above = -math.inf
    for beta1, beta2 in itertools.product((0.0, 0.5, 0.9, 0.99), (0.5, 0.9, 0.99, 0.999)):
        if beta1**2 < beta2:
            gradients = np.eye(40)  # column i: nonzero at step i + 1 only
            steps = steps_of(lambda p, a=beta1, b=beta2: optim.Adam(p, 1.0, beta1=a, beta2=b, eps=TINY), gradients)
            now = np.diag(steps)  # of the step at which it comes
            above = max(above, now.max() - printed_limit(beta1, beta2))
    return Claim(above, "<=", 0.0, 1e-9, "largest step less its bound")


@check("thesis section 7.6.1", "AdaMax's largest step at t, by linear programming, is not alpha but up to 0.9 % more")
def largest_adamax():
    claims = []
    for beta1, beta2, t in [(0.9, 0.999, 60), (0.9, 0.99, 5), (0.5, 0.6, 10)]:
        k = np.arange(t)
        weights = (1 - beta1) * beta1**k / (1 - beta1**t)
        found = -linprog(-weights, bounds=[(-(beta2**-i), beta2**-i) for i in k.astype(float)]).fun  # u = 1
        claims.append(Claim(found, "=", adamax_limit(beta1, beta2, t), 1e-9, f"beta1 {beta1}, beta2 {beta2}, t {t}"))
    claims.append(Claim(adamax_limit(0.9, 0.999), "=", 1.00909, 5e-6, "the limit at the defaults"))
    return claims


def enumerated_moment(beta, laws):
    """E of Adam's v after steps with independent gradients of ``laws``, (values, probabilities) for each t."""
    outcomes = np.array(list(itertools.product(*(values for values, _ in laws))))
    chances = np.prod(np.array(list(itertools.product(*(chances for _, chances in laws)))), axis=1)
    optimizer = optim.Adam([Parameter(np.zeros(len(outcomes)))], beta2=beta)
    for g in outcomes.T:
        optimizer.step([g.copy()])
    return float(chances @ optimizer.state_dict()["0.v"])


@check("7.1-7.4", "E v_t by enumerating all sequences of five discrete gradients, stationary and not")
def moments():
    stay = [((-1.0, 0.0, 2.0), (0.2, 0.5, 0.3))] * 5
    change = [((-a, 0.0, 2 * a), (0.2, 0.5, 0.3)) for a in (3.0, 1.0, 2.0, 0.5, 0.2)]
    claims = []
    for laws, beta in itertools.product((stay, change), (0.9, 0.999)):
        second = np.array([np.dot(np.square(values), chances) for values, chances in laws])
        expected = second[-1] * (1 - beta**5) + zeta(beta, second)[-1]
        spelt = sum((1 - beta) * beta ** (5 - i) * (second[i - 1] - second[-1]) for i in range(1, 6))
        kind = "stationary" if laws is stay else "not stationary"
        claims.append(Claim(enumerated_moment(beta, laws), "=", expected, 1e-12, f"{kind}, beta2 = {beta}"))
        claims.append(Claim(zeta(beta, second)[-1], "=", spelt, 1e-12, "zeta by its sum"))
    return claims


@check("7.1", "Adam's v, by recursion, is the weighted sum of all squares so far; so is m of the gradients")
def sums():
    g = np.random.default_rng(2).standard_normal((30, 4))
    optimizer, claims = optim.Adam([Parameter(np.zeros(4))]), []
    for gradient in g:
        optimizer.step([gradient])
    state, back = optimizer.state_dict(), np.arange(30)[::-1, None]
    for name, beta, x in (("m", 0.9, g), ("v", 0.999, g**2)):
        expected = np.sum((1 - beta) * beta**back * x, axis=0)
        claims.append(Claim(np.abs(state[f"0.{name}"] - expected).max(), "=", 0.0, 1e-14, name))
    return claims


@check("thesis section 7.4.2", "v_hat as beta2 goes to 1 is the plain mean of the squares")
def mean_of_squares():
    g = np.random.default_rng(3).standard_normal((40, 3))
    optimizer = optim.Adam([Parameter(np.zeros(3))], beta2=1 - 1e-7)
    for gradient in g:
        optimizer.step([gradient])
    v_hat = optimizer.state_dict()["0.v"] / (1 - (1 - 1e-7) ** 40)
    return Claim(np.abs(v_hat - (g**2).mean(axis=0)).max(), "=", 0.0, 2e-5, "1 - beta2 = 1e-7, t = 40")


@check("7.5, 7.6", "the recursion of the L^p rule is the sum; for p = 2 it is Adam's v with beta2^2")
def power_sums():
    g, claims = np.random.default_rng(4).standard_normal(25), []
    for p in (1.0, 2.0, 5.0):
        gap = naive_norms(g, 0.95, p, np.float64) - np.exp(log_norms(g, 0.95, p))
        claims.append(Claim(np.abs(gap).max(), "=", 0.0, 1e-12, f"p = {p:g}"))
    optimizer = optim.Adam([Parameter(np.zeros(1))], beta2=0.95**2)
    for gradient in g:
        optimizer.step([np.array([gradient])])
    claims.append(
        Claim(optimizer.state_dict()["0.v"].item() ** 0.5, "=", np.exp(log_norms(g, 0.95, 2.0))[-1], 1e-12, "Adam")
    )
    return claims


@check("7.7-7.11", "the recursive maximum is the limit of the L^p rule: log-ratio for p = 1e3, 1e5, 1e7")
def norm_limit():
    g = np.random.default_rng(5).standard_normal(40)
    optimizer, u = optim.AdaMax([Parameter(np.zeros(1))], beta2=0.9), []
    for gradient in g:
        optimizer.step([np.array([gradient])])
        u.append(optimizer.state_dict()["0.u"].item())
    spelt = [max(0.9 ** (t - i) * abs(g[i]) for i in range(t + 1)) for t in range(40)]
    claims = [Claim(np.abs(np.array(u) - spelt).max(), "=", 0.0, 1e-14, "7.11 is the maximum of 7.10")]
    for p in (1e3, 1e5, 1e7):
        gap = np.abs(log_norms(g, 0.9, p) - np.log(u)).max()
        claims.append(Claim(gap, "<=", math.log(40) / p, 1e-12, f"p = {p:g}: at most log(t) / p"))
    return claims


@check("thesis section 7.6.2", "the corrected average is a weighted mean of the iterates, later ones weighing more")
def average_weights():
    theta = np.random.default_rng(6).standard_normal((60, 3))
    p = Parameter(np.zeros(3))
    average = optim.Average([p], 0.97)
    for value in theta:
        p.assign(value)
        average.update()
    expected = np.average(theta, axis=0, weights=0.97 ** np.arange(60)[::-1])
    return Claim(np.abs(average.values()[0] - expected).max(), "=", 0.0, 1e-14, "numpy.average of 60 iterates")


@check("thesis section 7.1", "little memory: Adam keeps two numbers a parameter, however many minibatches there are")
def memory():
    claims = []
    for new, arrays in ((optim.Adam, 2), (optim.AdaMax, 2), (optim.RMSProp, 1), (optim.AdaGrad, 1)):
        p = Parameter(np.zeros(100))
        optimizer = new([p])
        for _ in range(50):
            optimizer.step([np.ones(100)])
        kept = sum(np.size(array) for name, array in optimizer.state_dict().items() if name != "step")
        claims.append(
            Claim(kept / p.data.size, "=", arrays, 0.0, f"{new.__name__}: numbers a parameter after 50 steps")
        )
    return claims


def divergence(x, theta, other):
    """KL(p_theta || p_other) of logistic regression's labels, mean over x."""
    (a, b), chance = ((x @ t for t in (theta, other)), 1 / (1 + np.exp(-x @ theta)))
    return np.mean(chance * (a - b) - np.logaddexp(0.0, a) + np.logaddexp(0.0, b))


@check("thesis section 7.4", "v_hat is the diagonal of the Fisher information, if the data are the model's own")
def fisher_diagonal():
    """Logistic regression of five inputs, 20,000 gradients of single data at one theta, by the engine. The information
    is the curvature of the divergence from the model at theta, by differences, which knows no gradient. With labels of
    a coin v_hat is something else."""
    rng, steps, h = np.random.default_rng(0), 20_000, 1e-3
    x = rng.standard_normal((steps, 5)) * np.array([0.1, 0.3, 1.0, 3.0, 10.0])
    theta = np.array([1.0, -0.5, 0.3, 0.1, 0.02])
    chance, uniform, claims = 1 / (1 + np.exp(-x @ theta)), rng.random(steps), []
    fisher = [sum(divergence(x, theta, theta + sign * h * e) for sign in (1, -1)) / h**2 for e in np.eye(5)]
    for name, limit, relation in (("labels of the model", chance, "<="), ("labels of a coin", 0.5, ">=")):
        each = Parameter(np.tile(theta, (steps, 1)))  # a theta for each datum, hence a gradient for each
        log_p = Bernoulli(ops.sum(each * x, axis=1, keepdims=True)).log_prob((uniform < limit)[:, None] * 1.0)
        (gradients,) = grad(log_p.sum(), [each])
        p = Parameter(np.zeros(5))
        optimizer = optim.Adam([p], beta2=1 - 1e-6)
        for g in gradients:
            optimizer.step([g])
        v_hat = optimizer.state_dict()["0.v"] / (1 - (1 - 1e-6) ** steps)
        error = np.std(gradients**2, axis=0) / np.sqrt(steps)
        off = np.max(np.abs(v_hat - fisher) / error)
        claims.append(Claim(off, relation, 4.0, 0.0, f"{name}: largest distance from F, in standard errors"))
    return claims
