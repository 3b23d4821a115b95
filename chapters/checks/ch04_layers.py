"""Checks of chapter 4: several layers of latent variables (thesis sections 4.1, 4.1.1, 5.B.1, 5.B.2 and 5.B.8)."""

import numpy as np
from scipy.stats import multivariate_normal, norm

from minivi import bounds, nn
from minivi.distributions import Normal
from minivi.experiments import Claim, check
from minivi.models import DirectedVAE
from minivi.models.directed import layers
from minivi.random import Generator
from minivi.small import grid
from minivi.tensor import grad

# %% [markdown]
# ## The equations, checked

# %%
LINE, CELL = grid(13.0, 161)


def gaussian(mean, sigma):
    """N(mean, sigma^2) with a mean of shape (..., J)."""
    return Normal(mean, np.full(mean.shape, np.log(sigma)))


@check("4.1-4.5", "ancestral, reparameterised samples of a graph have its joint density")
def ancestral():
    """A graph a -> c <- b, (a, c) -> d, with x beside: z is linear in eps, so no chance is left."""
    arrows = {"b": {"x": 0.5}, "c": {"a": -0.7, "b": 1.2}, "d": {"c": 0.4, "a": 0.9, "x": -0.3}}
    sigma = {"a": 1.3, "b": 0.5, "c": 0.8, "d": 0.6}
    matrix = np.array([[arrows.get(v, {}).get(u, 0.0) for u in "abcd"] for v in "abcd"])
    inverse = np.linalg.inv(np.eye(4) - matrix)
    covariance = inverse @ np.diag([sigma[v] ** 2 for v in "abcd"]) @ inverse.T
    mean = inverse @ [arrows.get(v, {}).get("x", 0.0) for v in "abcd"]

    def node(name):
        w = arrows[name]
        return list(w), lambda *values: gaussian(
            sum(a * v for a, v in zip(w.values(), values, strict=True)), sigma[name]
        )

    inference = {v: node(v) for v in "dcb"} | {"a": ([], lambda: gaussian(np.zeros(1), sigma["a"]))}
    model = DirectedVAE(1, {"x": (["d"], lambda d: gaussian(d, 1.0)), **{v: ([], 1) for v in "abcd"}}, inference)
    unit = {v: np.array([0.0, *(u == v for u in "abcd")])[:, None, None] for v in "abcd"}
    terms = model.terms(np.ones((1, 1)), eps=unit)
    z = np.concatenate([terms.values[v][:, 0] for v in "abcd"], axis=1)
    moved = z[1:] - z[0]
    log_q = sum(terms.log_q.values())[:, 0]
    return [
        Claim(np.abs(z[0] - mean).max(), "=", 0.0, 1e-12, "mean"),
        Claim(np.abs(moved.T @ moved - covariance).max(), "=", 0.0, 1e-12, "covariance"),
        Claim(np.abs(log_q - multivariate_normal.logpdf(z, mean, covariance)).max(), "=", 0.0, 1e-10, "log q"),
    ]


def tiny(inference):
    """Two layers of one number each above three pixels, a datum, and a grid over z_1 and z_2."""
    model = layers(3, [(3,), (2,)], [1, 1], inference, rng=Generator(7), init=nn.normal(0.4), dtype="float64")
    points = dict(zip(("z1", "z2"), (g.reshape(-1, 1, 1) for g in np.meshgrid(LINE, LINE)), strict=True))
    return model, np.array([[1.0, 0.0, 1.0]]), points


def by_densities(model, x, points):
    """log p(x) and the bound log p(x) - KL(q(z | x) || p(z | x)), from both densities on the grid."""
    terms = model.terms(x, z=points)
    log_q = sum(np.asarray(t) for t in terms.log_q.values())[:, 0]
    joint = sum(np.asarray(t) for t in terms.log_p.values())[:, 0]
    log_px = np.log(np.exp(joint).sum() * CELL**2)
    return log_px, log_px - np.exp(log_q) @ (log_q - (joint - log_px)) * CELL**2


@check("4.1-4.5", "log p(x, z) - log q(z | x) at such samples has the bound as its mean, and the bound's gradient")
def unbiased():
    """Integrals over eps against integrals over z; pathwise gradients against differences of the latter."""
    claims = []
    for inference in ("bottom-up", "precision"):
        model, x, points = tiny(inference)
        weights = np.prod([norm.pdf(e[:, 0, 0]) * CELL for e in points.values()], axis=0)  # the grid as noise
        bound = (model.log_weights(x, eps=points)[:, 0] * weights).sum()
        log_px, right = by_densities(model, x, points)
        claims.append(Claim(bound.item(), "=", right, 1e-5, f"{inference}: the bound"))
        claims.append(Claim(right, "<=", log_px - 1e-3, 0.0, f"{inference}: below log p(x)"))
        moving = [model.inference["z2"].first.bias, model.generative["hp1"].first.weight]
        for p, found in zip(moving, grad(bound, moving), strict=True):
            start = p.data.copy()
            ends = []
            for step in (1e-4, -1e-4):
                moved = start.copy()
                moved.flat[0] += step
                p.assign(moved)
                ends.append(by_densities(model, x, points)[1])
            p.assign(start)
            slope = (ends[0] - ends[1]) / 2e-4
            claims.append(Claim(np.ravel(found)[0], "=", slope, 1e-4, f"{inference}: gradient"))
    return claims


# %% A chain z_3 -> z_2 -> z_1 -> x of single numbers, linear and Gaussian: everything is known
SLOPES, SIGMAS, DATUM = (0.9, 0.8, -1.3), (0.7, 0.6, 0.8), 1.1  # of z_2 from z_3, z_1 from z_2, x from z_1


def chain():
    """Covariance of (z_3, z_2, z_1, x)."""
    inverse = np.linalg.inv(np.eye(4) - np.diag(SLOPES, -1))
    return inverse @ np.diag([1.0, *np.square(SIGMAS)]) @ inverse.T


def given(of, known, values):
    """Mean and standard deviation of one variable of the chain given others."""
    c = chain()
    slopes = np.linalg.solve(c[np.ix_(known, known)], c[known, of])
    return slopes @ values, np.sqrt(c[of, of] - slopes @ c[known, of])


def normalised(log_density):
    """A density on LINE of known shape."""
    density = np.exp(log_density - log_density.max())
    return density / (density.sum() * CELL)


@check("4.6", "the posterior is the prior times the likelihood, normalised")
def posterior():
    """p(z_1) p(x | z_1) on a grid against the conditional of the joint Gaussian."""
    c = chain()
    product = norm.logpdf(LINE, 0, np.sqrt(c[2, 2])) + norm.logpdf(DATUM, SLOPES[2] * LINE, SIGMAS[2])
    right = norm.pdf(LINE, *given(2, [3], [DATUM]))
    return Claim(np.abs(normalised(product) - right).max(), "=", 0.0, 1e-10)


@check("4.7", "given its parents too: p(z_i | x, Pa(z_i)) ~ p(z_i | Pa(z_i)) p(x | z_i, Pa(z_i))")
def posterior_given_parents():
    """z_2 with z_3 known and z_1 summed out on the grid, against the conditional of the joint Gaussian."""
    above = 0.4
    inner = norm.pdf(LINE[:, None], SLOPES[1] * LINE, SIGMAS[1]) * norm.pdf(DATUM, SLOPES[2] * LINE, SIGMAS[2])[:, None]
    likelihood = inner.sum(axis=0) * CELL
    product = norm.logpdf(LINE, SLOPES[0] * above, SIGMAS[0]) + np.log(likelihood)
    right = norm.pdf(LINE, *given(1, [0, 3], [above, DATUM]))
    wrong = norm.pdf(LINE, *given(1, [3], [DATUM]))  # without its parent
    return [
        Claim(np.abs(normalised(product) - right).max(), "=", 0.0, 1e-10),
        Claim(np.abs(normalised(product) - wrong).max(), ">=", 0.01, 0.0, "and not p(z_i | x)"),
    ]


@check("section 4.1.1", "a Gaussian prior times a Gaussian pseudo-likelihood is Gaussian, with a tractable Z")
def product():
    """`Normal.product` and Z = N(mu_p; mu_l, s_p^2 + s_l^2) against sums on a grid."""
    p, l = Normal(np.array([0.7]), np.array([0.3])), Normal(np.array([-1.1]), np.array([-0.4]))
    log_product = np.asarray(p.log_prob(LINE[:, None]) + l.log_prob(LINE[:, None]))
    found = np.exp(p.product(l).log_prob(LINE[:, None]))
    z = norm.pdf(0.7, -1.1, np.sqrt(np.exp(0.6) + np.exp(-0.8)))
    return [
        Claim(np.abs(found - normalised(log_product)).max(), "=", 0.0, 1e-10),
        Claim(np.exp(log_product).sum() * CELL, "=", z, 1e-10, "Z"),
    ]


@check(
    "4.7, section 4.1.1", "q = p l / Z follows a change of the prior: exact before, it stays so; a separate q does not"
)
def coupled():
    """z_2 -> z_1 -> x with l ~ p(x | z_1): the spread of log w over samples, before and after the slope changes."""
    x = np.array([[DATUM]])
    spread = {}
    for slope in (SLOPES[1], 0.2):
        generative = {
            "x": (["z1"], lambda z1: gaussian(SLOPES[2] * z1, SIGMAS[2])),
            "z1": (["z2"], lambda z2: gaussian(slope * z2, SIGMAS[1])),
            "z2": ([], 1),
        }
        marginal = np.hypot(SLOPES[2] * SIGMAS[1], SIGMAS[2])  # of x given z_2, about slope * SLOPES[2] * z_2
        wide = SLOPES[2] * slope
        top = (
            ["x"],
            lambda x: Normal(np.zeros(x.shape), np.zeros(x.shape)).product(gaussian(x / wide, marginal / abs(wide))),
        )
        pseudo = lambda x: gaussian(x / SLOPES[2], SIGMAS[2] / abs(SLOPES[2]))
        q = {
            "coupled": (["p(z1)", "x"], lambda prior, x: prior.product(pseudo(x))),
            "separate": (["z2", "x"], lambda z2, x: gaussian(SLOPES[1] * z2, SIGMAS[1]).product(pseudo(x))),
        }
        for name, conditional in q.items():
            log_w = DirectedVAE(1, generative, {"z2": top, "z1": conditional}).log_weights(x, Generator(1), 100)
            spread[name, slope] = np.std(log_w)
    return [
        Claim(spread["coupled", SLOPES[1]], "=", 0.0, 1e-12, "coupled, before"),
        Claim(spread["separate", SLOPES[1]], "=", 0.0, 1e-12, "separate, before"),
        Claim(spread["coupled", 0.2], "=", 0.0, 1e-12, "coupled, after"),
        Claim(spread["separate", 0.2], ">=", 0.1, 0.0, "separate, after"),
    ]


@check("5.33", "the mean reconstruction less, for each layer, max(lambda, its mean KL); below lambda without a pull")
def free_bits_by_layer():
    """Closed-form divergences given the upper layer's draws, and loops; gradients with every layer below lambda."""
    model = layers(3, [(3,), (2,)], [2, 1], "shared", rng=Generator(3), init=nn.normal(0.8), dtype="float64")
    x = (Generator(4).random((7, 3)) < 0.5).astype(float)
    terms = model.terms(x, Generator(5), 20_000)
    closed = [terms.q["z1"].kl(terms.values["p(z1)"]).mean(axis=0), terms.q["z2"].kl()]
    closed = np.stack([np.asarray(kl) for kl in closed], axis=1)
    low, high = sorted(closed.mean(axis=0))
    minimum = (low + high) / 2
    value = bounds.free_bits(terms.reconstruction, terms.kl, minimum).item()
    loop = 0.0
    for b in range(7):
        loop += np.asarray(terms.reconstruction)[b] / 7
    loop -= sum(max(minimum, sum(closed[b, l] for b in range(7)) / 7) for l in range(2))
    few = model.terms(x, Generator(6), 3)
    weights = model.parameters()
    free = grad(bounds.free_bits(few.reconstruction, few.kl, 1e3), weights)
    alone = grad(few.reconstruction.mean(), weights)
    return [
        Claim(value, "=", loop, 0.02, "samples against closed forms, one layer on either side of lambda"),
        Claim(high - low, ">=", 0.1, 0.0, "these layers differ, nats"),
        Claim(max(np.abs(a - b).max() for a, b in zip(free, alone, strict=True)), "=", 0.0, 1e-12, "gradients"),
    ]
