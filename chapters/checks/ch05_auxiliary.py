"""Checks of chapter 5, auxiliary latent variables: a richer posterior at a price (thesis section 5.2.1)."""

import numpy as np
from scipy.special import log_softmax, logsumexp

from minivi import nn
from minivi.experiments import Claim, check
from minivi.models.directed import auxiliary
from minivi.random import Generator
from minivi_chapters.studies.ch05_auxiliary import log_factorised, log_posterior, of_u, parts, with_u

# %% [markdown]
# ## The equations, checked
#
# x of 3 values, z of 4 and u of 2, with random tables. Each side of an equation is summed in its own way.

# %%


def table(seed, *shape, axis=-1):
    """Random probabilities that sum to one over ``axis``."""
    return np.exp(log_softmax(1.5 * Generator([seed, 8]).standard_normal(shape), axis=axis))


Q_X = np.array([0.5, 0.2, 0.3])  # the data's distribution q_D(x)
Q_U, Q_Z = table(1, 3, 2), table(2, 3, 2, 4)  # q(u | x), q(z | u, x)
P_XZ, P_U = table(3, 3, 4, axis=None), table(4, 3, 4, 2)  # p(x, z), p(u | x, z)
EVERY = [(x, z, u) for x in range(3) for z in range(4) for u in range(2)]
Q_XZU = np.array([Q_X[x] * Q_U[x, u] * Q_Z[x, u, z] for x, z, u in EVERY]).reshape(3, 4, 2)
P_XZU = np.array([P_XZ[x, z] * P_U[x, z, u] for x, z, u in EVERY]).reshape(3, 4, 2)


def kl(q, p):
    """KL divergence of two tables of one shape, in nats."""
    return float(np.sum(q * np.log(q / p)))


def objective(q_u, q_z, p_u):
    """Eq. 5.4 by loops over x, u and z."""
    total = 0.0
    for x, z, u in EVERY:
        log_q = np.log(q_u[x, u]) + np.log(q_z[x, u, z])
        total += Q_X[x] * np.exp(log_q) * (np.log(P_XZ[x, z]) + np.log(p_u[x, z, u]) - log_q)
    return total


@check("5.1, 5.2", "drawing u and then z gives z the mixture as its marginal, which need not be of z's own family")
def marginal():
    """Ancestral draws against the table; and bits that are independent given u, and dependent without it."""
    count, rng = 200_000, Generator(9)
    u = (rng.random(count) < Q_U[0, 1]).astype(int)
    z = (rng.random(count)[:, None] > np.cumsum(Q_Z[0], axis=1)[u]).sum(axis=1)
    found = np.bincount(z, minlength=4) / count
    right = Q_XZU[0].sum(axis=1) / Q_X[0]
    log_q, _ = with_u(np.array([0.3, 2.0, 2.0, 0.5, -2.0, -1.0, 0.5, 0, 0]))
    both = lambda log_q: np.exp(log_q).reshape(2, 2, 2).sum(axis=0)  # of the first two bits
    q, given_u = both(logsumexp(log_q, axis=0)), both(log_q[0])
    dependence = lambda q: abs(q[0, 0] * q[1, 1] - q[0, 1] * q[1, 0])
    return [
        Claim(np.abs(found - right).max(), "=", 0.0, 4 * 0.5 / np.sqrt(count), "four standard errors"),
        Claim(dependence(given_u), "=", 0.0, 1e-12, "given u"),
        Claim(dependence(q), ">=", 0.05, 0.0, "the marginal"),
    ]


@check("5.3", "p(u | x, z) leaves the model of x and z as it is")
def unchanged():
    """Marginals of the table over x, z and u, and the likelihood of a model by networks with and without u's arrow."""
    rng = Generator(5)
    model = auxiliary(3, [4], 1, 1, rng=rng, init=nn.normal(0.4), dtype="float64")
    line = np.linspace(-13, 13, 161)
    z, u = (g.reshape(-1, 1, 1) for g in np.meshgrid(line, line))
    x = np.array([[1.0, 0.0, 1.0]])
    joint = sum(np.asarray(t) for t in model.terms(x, z={"z": z, "u": u}).log_p.values())[:, 0]
    alone = model.terms(x, z={"z": line[:, None, None], "u": 0 * line[:, None, None]}).log_p
    cell = line[1] - line[0]
    left = np.exp(joint).sum() * cell**2
    return [
        Claim(np.abs(P_XZU.sum(axis=2) - P_XZ).max(), "=", 0.0, 1e-12, "table"),
        Claim(left, "=", np.exp(np.asarray(alone["x"] + alone["z"])).sum() * cell, 1e-8, "networks: p(x)"),
    ]


@check("5.1-5.3", "p(x, z, u) / q(z, u | x) has the mean p(x): the weights whose mean logarithm trains the model")
def weights():
    """q times the model's weights over the plane of z and u, against the decoder's pixels over the line of z."""
    model = auxiliary(3, [4], 1, 1, rng=Generator(8), init=nn.normal(0.4), dtype="float64")
    line = np.linspace(-13, 13, 161)
    cell = line[1] - line[0]
    z, u = (g.reshape(-1, 1, 1) for g in np.meshgrid(line, line))
    x = np.array([[1.0, 0.0, 1.0]])
    terms = model.terms(x, z={"z": z, "u": u})
    log_q = np.asarray(terms.log_q["u"]) + np.asarray(terms.log_q["z"])
    left = np.sum(np.exp(log_q + np.asarray(terms.log_w))) * cell**2
    p = np.asarray(model.terms(x, z={"z": line[:, None, None], "u": 0 * line[:, None, None]}).values["p(x)"].mean)[:, 0]
    right = np.sum(np.prod(np.where(x == 1, p, 1 - p), axis=1) * np.exp(-0.5 * line**2)) * cell / np.sqrt(2 * np.pi)
    return Claim(left, "=", right, 1e-6)


@check("5.4, 5.5", "the objective is minus the divergence minus the data's entropy, not the divergence")
def sign_and_constant():
    """Loops over conditionals against one divergence of two joint tables; what changes q or p leaves the constant."""
    entropy = -np.sum(Q_X * np.log(Q_X))
    other = np.stack([table(i, 4, 2) for i in range(3)])  # another p(u | x, z)
    gain = objective(Q_U, Q_Z, other) - objective(Q_U, Q_Z, P_U)
    return [
        Claim(objective(Q_U, Q_Z, P_U), "=", -kl(Q_XZU, P_XZU) - entropy, 1e-12),
        Claim(entropy, ">=", 1.0, 0.0, "the constant, nats"),
        Claim(gain, "=", kl(Q_XZU, P_XZU) - kl(Q_XZU, P_XZ[..., None] * other), 1e-12, "a change is minus the other's"),
    ]


@check("5.6, 5.7", "with u the divergence is that without, plus the mean divergence of q(u | x, z) from p(u | x, z)")
def price():
    """Joint tables against conditionals by Bayes' rule; equal if p(u | x, z) = q(u | x, z)."""
    q_xz = Q_XZU.sum(axis=2)
    extra = 0.0
    for x in range(3):
        for z in range(4):
            q_u = np.array([Q_U[x, u] * Q_Z[x, u, z] for u in range(2)])
            q_u = q_u / q_u.sum()
            extra += q_xz[x, z] * kl(q_u, P_U[x, z])
    exact = Q_XZU / q_xz[..., None]
    return [
        Claim(kl(Q_XZU, P_XZU), "=", kl(q_xz, P_XZ) + extra, 1e-12),
        Claim(kl(Q_XZU, P_XZU), ">=", kl(q_xz, P_XZ) + 0.05, 0.0, "worse for the same q(z | x)"),
        Claim(kl(Q_XZU, P_XZ[..., None] * exact), "=", kl(q_xz, P_XZ), 1e-12, "no price with the exact p(u | x, z)"),
    ]


@check("5.7-5.9", "without u: the divergence of the data from p(x), plus the mean divergence of the posteriors")
def gap():
    """Joint tables against p(x) and p(z | x); equal if q(z | x) = p(z | x), which no q has beaten."""
    q_xz, p_x = Q_XZU.sum(axis=2), P_XZ.sum(axis=1)
    inner = sum(Q_X[x] * kl(q_xz[x] / Q_X[x], P_XZ[x] / p_x[x]) for x in range(3))
    entropy = -np.sum(Q_X * np.log(Q_X))
    elbo = sum(q_xz[x, z] * np.log(P_XZ[x, z] * Q_X[x] / q_xz[x, z]) for x in range(3) for z in range(4))
    return [
        Claim(kl(q_xz, P_XZ), "=", kl(Q_X, p_x) + inner, 1e-12),
        Claim(kl(q_xz, P_XZ), ">=", kl(Q_X, p_x) + 0.05, 0.0),
        Claim(kl(Q_X[:, None] * P_XZ / p_x[:, None], P_XZ), "=", kl(Q_X, p_x), 1e-12, "exact posterior"),
        Claim(elbo, "=", -kl(q_xz, P_XZ) - entropy, 1e-12, "the original bound"),
        Claim(Q_X @ np.log(p_x), "=", -kl(Q_X, p_x) - entropy, 1e-12, "the log-likelihood"),
    ]


@check("section 5.2.1", "more flexible marginals can outweigh the price")
def outweighed():
    """The best factorised q, by a search over its three numbers on a grid, against a q with u written down by hand."""
    log_p = log_posterior(4.0)
    logits = np.linspace(-8, 8, 25)
    every = [log_factorised(np.array([a, b, c])) for a in logits for b in logits for c in logits]
    plain = min(np.exp(log_q) @ (log_q - log_p) for log_q in every)
    by_hand = np.array([0.0, 4.0, 4.0, 4.0, -4.0, -4.0, -4.0, 5.0, -5.0])  # u says which of 000 and 111
    whole, marginal_gap, cost = parts(by_hand, log_p)
    return [
        Claim(whole, "<=", plain - 0.3, 0.0, "nats"),
        Claim(whole, "=", marginal_gap + cost, 1e-12, "of which the marginal's and the price"),
    ]


@check("section 5.2.1", "the price of u by sampling lies between its two estimates")
def price_by_sampling():
    """One-number z and u on a grid; mean estimates from 50 draws, and the noise of 5,000 repetitions."""
    model = auxiliary(3, [4], 1, 1, rng=Generator(6), init=nn.normal(0.6), dtype="float64")
    line = np.linspace(-16, 16, 241)
    cell = line[1] - line[0]
    z, u = (g.reshape(-1, 1, 1) for g in np.meshgrid(line, line))
    x = np.array([[1.0, 1.0, 0.0]])
    terms = model.terms(x, z={"z": z, "u": u})
    square = lambda t: np.broadcast_to(np.asarray(t)[:, 0], line.size**2).reshape(line.size, line.size)  # u, z
    log_q = square(terms.log_q["u"]) + square(terms.log_q["z"])
    log_qz = np.log(np.exp(log_q).sum(axis=0) * cell)
    exact = np.sum(np.exp(log_q) * (log_q - log_qz - square(terms.log_p["u"]))) * cell**2
    information = np.sum(np.exp(log_q) * (square(terms.log_q["z"]) - log_qz)) * cell**2
    found, claims = of_u(model, np.repeat(x, 5000, axis=0), Generator(7), 50), []
    for name, value in (("price", exact), ("information", information)):
        low, high = found[name]
        claims += [
            Claim(low, "<=", value, 0.02, f"{name}, lower"),
            Claim(high, ">=", value, 0.02, f"{name}, upper"),
            Claim(high - low, "<=", 0.5 * value, 0.0, f"{name}: and they are close"),
        ]
    return claims
