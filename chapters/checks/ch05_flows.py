"""Checks of chapter 5, normalizing flows: posteriors that bend (thesis sections 5.1 to 5.3, Figure 5.2)."""

import numpy as np

from minivi import flows, nn
from minivi.distributions import Normal
from minivi.experiments import Claim, check
from minivi.flows import FlowPosterior
from minivi.random import Generator
from minivi.small import differences, jacobian, largest, shake
from minivi_chapters.studies.ch05_flows._shared import FLOWS, make_flow

# %% [markdown]
# ## Equation checks
#
# All in float64, with parameters far from the identity at which flows start.


# %%
def shaken(kind, size, depth, seed=0, scale=0.4, context=0):
    """A flow with random parameters."""
    flow = make_flow(kind, size, depth, 8, Generator(80), context, "float64")
    return moved(flow, seed, scale)


def moved(flow, seed=0, scale=0.4):
    """The flow with its parameters moved at random."""
    return shake(flow, Generator([81, seed]).standard_normal, scale)


def autoregressive(size, form, seed=0):
    """One autoregressive step, and its network's (mu, sigma) of rows."""
    made = nn.MADE(size, (16, 16), Generator([82, seed]), outputs=2, activation="tanh", dtype="float64")
    step = moved(flows.InverseAutoregressive(made, form), seed)

    def mu_sigma(y):
        outputs = np.asarray(made(y))
        return outputs[..., 0], np.exp(outputs[..., 1])

    return step, mu_sigma


@check("5.10-5.13", "a chain of planar and autoregressive steps is its maps one after the other, from the formulas")
def chain_of_maps():
    """Loops over data in plain NumPy against the posterior's sample."""
    planar = moved(flows.Planar(3, Generator(83), dtype="float64"))
    step, mu_sigma = autoregressive(3, "affine")
    eps = Generator(84).standard_normal((5, 3))
    q = FlowPosterior(Normal(np.array([0.3, -1.0, 0.2]), np.array([0.1, -0.4, 0.0])), flows.Chain([planar, step]))
    z = np.array([0.3, -1.0, 0.2]) + np.exp([0.1, -0.4, 0.0]) * eps
    u, w, b = np.split(planar.head.values.data, [3, 6])
    along = w @ u
    u = u + (np.log1p(np.exp(along)) - 1.0 - along) * w / (w @ w)
    z = np.stack([row + u * np.tanh(w @ row + b) for row in z])
    mu, sigma = mu_sigma(z)
    return Claim(largest(q.rsample(eps), mu + sigma * z), "=", 0.0, 1e-12)


@check("5.14", "the Jacobian of a chain is the product of its steps' Jacobians, the last one leftmost")
def jacobians_multiply():
    """The whole by the engine, the steps by central differences."""
    claims, z = [], Generator(85).standard_normal((4, 4))
    for kind in FLOWS:
        flow, here, product = shaken(kind, 4, 3), z, np.eye(4)
        for step in flow.flows:
            product = differences(lambda y, f=step: f.forward(y)[0], here) @ product
            here = np.asarray(step.forward(here)[0])
        whole = jacobian(lambda y, f=flow: f.forward(y)[0], z)
        claims.append(Claim(largest(whole, product), "=", 0.0, 1e-7 * np.abs(whole).max(), kind))
    return claims


@check("5.15", "log |det| of a chain is the sum over its steps, for every flow, and its inverse leads back")
def log_dets_add():
    """The sum that the flow keeps, against the determinant of the engine's whole Jacobian."""
    claims, z = [], Generator(86).standard_normal((6, 5))
    for kind in FLOWS:
        flow = shaken(kind, 5, 4)
        image, log_det = flow.forward(z)
        expected = np.linalg.slogdet(jacobian(lambda y, f=flow: f.forward(y)[0], z))[1]
        claims.append(Claim(largest(log_det, expected), "=", 0.0, 1e-10, kind))
        claims.append(Claim(largest(flow.inverse(image), z), "=", 0.0, 1e-10, f"{kind}: inverse"))
    return claims


@check("5.16", "the density of a flow's draws: it integrates to 1, and their histogram agrees with it")
def histogram_and_density():
    """40,000 draws in squares of side 0.5, against the density summed over each: a chi-squared statistic."""
    claims, edge, fine, draws = [], 12.0, 4, 40_000
    cells = int(4 * edge)
    side = 2 * edge / (cells * fine)
    axis = -edge + side * (np.arange(cells * fine) + 0.5)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    for kind in FLOWS:
        q = FlowPosterior(Normal(np.zeros(2), np.full(2, -0.3)), shaken(kind, 2, 2))
        p = np.exp(np.asarray(q.log_prob(z))) * side**2
        claims.append(Claim(p.sum(), "=", 1.0, 2e-3, f"{kind}: integral"))
        point, log_q = q.rsample_with_log_prob(Generator(88).standard_normal((50, 2)))  # as training has it
        claims.append(Claim(largest(log_q, q.log_prob(np.asarray(point))), "=", 0.0, 1e-6, f"{kind}: log q of a draw"))
        expected = p.reshape(cells, fine, cells, fine).sum(axis=(1, 3)).ravel() * draws
        counts = np.histogram2d(*q.sample(Generator(87), (draws,)).T, bins=cells, range=[[-edge, edge]] * 2)[0].ravel()
        many = expected >= 10
        statistic = np.sum((counts[many] - expected[many]) ** 2 / expected[many])
        # Where a density bends within a cell, the sum over it is not exact, hence 5 instead of 4 standard deviations.
        claims.append(Claim(statistic, "=", many.sum(), 5 * np.sqrt(2 * many.sum()), f"{kind}: chi-squared"))
    return claims


@check("5.17", "det(I + u h'(w.z + b) w^T) = 1 + h' w.u, and w.u > -1 is what keeps it positive")
def planar_determinant():
    """Determinants of whole matrices, with u as it is and as the constraint makes it."""
    size, rng, claims = 4, Generator(88), []
    u, w = rng.standard_normal((2, size))
    z, b = rng.standard_normal((2000, size)), 0.3
    for name, along in (("allowed", -0.9), ("folds", -1.8)):
        v = u + (along - w @ u) / (w @ w) * w
        slope = 1.0 - np.tanh(z @ w + b) ** 2
        whole = np.linalg.det(np.eye(size) + slope[:, None, None] * np.outer(v, w))
        claims.append(Claim(largest(whole, 1.0 + slope * along), "=", 0.0, 1e-12, f"{name}: determinant lemma"))
        folds = float(whole.min() < 0)
        claims.append(Claim(folds, "=", float(along < -1), 0.0, f"{name}: is a determinant negative?"))
        planar = flows.Planar(size, rng, dtype="float64")
        planar.head.values.assign(np.concatenate([v, w, [b]]))  # the free u, w and b
        log_det = np.asarray(planar.forward(z)[1])
        expected = np.linalg.det(differences(lambda y, f=planar: f.forward(y)[0], z))
        claims.append(Claim(largest(np.exp(log_det), expected), "=", 0.0, 1e-7, f"{name}: the constrained map"))
        claims.append(Claim(expected.min(), ">=", 0.0, 0.0, f"{name}: the constrained map does not fold"))
    return claims


@check("5.17", "the bottleneck: T planar steps change T directions of D; one autoregressive step all but one")
def bottleneck():
    """The rank of the Jacobian less the identity."""
    claims, size, z = [], 6, Generator(89).standard_normal((3, 6))
    for depth in (1, 2, 4):
        flow = shaken("planar", size, depth)
        moved = jacobian(lambda y, f=flow: f.forward(y)[0], z) - np.eye(size)
        claims.append(Claim(np.linalg.matrix_rank(moved, tol=1e-9).max(), "=", depth, 0.0, f"planar, {depth} steps"))
    step, _ = autoregressive(size, "location")
    moved = jacobian(lambda y: step.forward(y)[0], z) - np.eye(size)
    return [*claims, Claim(np.linalg.matrix_rank(moved, tol=1e-9).min(), "=", size - 1, 0.0, "autoregressive, 1 step")]


@check("5.18, 5.19", "drawing y_i = mu_i + sigma_i eps_i one after the other is the inverse of the parallel map")
def sequential_sampling():
    """A loop that sees only the dimensions drawn so far, and the library's inverse and forward map."""
    step, mu_sigma = autoregressive(6, "whitening")
    eps = Generator(90).standard_normal((7, 6))
    y = np.full_like(eps, 1e3)  # what is not drawn yet must not matter
    for i in range(6):
        mu, sigma = mu_sigma(y)
        y[:, i] = mu[:, i] + sigma[:, i] * eps[:, i]
    mu, sigma = mu_sigma(y)
    image, _ = step.forward(y)
    return [
        Claim(largest(step.inverse(eps), y), "=", 0.0, 1e-10, "inverse"),
        Claim(largest(image, eps), "=", 0.0, 1e-10, "forward map: back to the noise"),
        Claim(largest(image, (y - mu) / sigma), "=", 0.0, 1e-12, "eq. 5.19"),
    ]


@check("5.18-5.20", "d[mu_i, sigma_i] / d y_j is zero for j >= i and not for j < i")
def strictly_triangular():
    """The engine's Jacobian of both outputs of the network."""
    step, _ = autoregressive(6, "affine")
    y, claims = Generator(91).standard_normal((5, 6)), []
    on_and_above = np.triu(np.ones((6, 6), bool))
    for k, name in enumerate(("mu", "log sigma")):
        j = jacobian(lambda y, k=k: step.network(y)[..., k], y)
        claims.append(Claim(largest(j[:, on_and_above]), "=", 0.0, 0.0, f"{name}, on and above the diagonal"))
        claims.append(
            Claim(np.abs(j[:, ~on_and_above]).max(axis=0).min(), ">=", 1e-6, 0.0, f"{name}, below the diagonal")
        )
    return claims


@check("5.20, 5.22", "the log-determinants -sum log sigma and +sum log sigma; the Jacobians are triangular")
def autoregressive_determinants():
    """log sigma from the network, determinant and diagonal from the whole Jacobian."""
    claims, y = [], Generator(92).standard_normal((5, 6))
    for form, sign in (("whitening", -1.0), ("affine", 1.0)):
        step, mu_sigma = autoregressive(6, form)
        log_sigma = np.log(mu_sigma(y)[1])
        image, log_det = step.forward(y)
        j = jacobian(lambda y, f=step: f.forward(y)[0], y)
        claims += [
            Claim(largest(np.linalg.slogdet(j)[1], sign * log_sigma.sum(axis=-1)), "=", 0.0, 1e-10, f"{form}: formula"),
            Claim(largest(log_det, np.linalg.slogdet(j)[1]), "=", 0.0, 1e-10, f"{form}: the library's"),
            Claim(largest(np.triu(j, 1)), "=", 0.0, 0.0, f"{form}: above the diagonal"),
            Claim(largest(step.inverse(image), y), "=", 0.0, 1e-10, f"{form}: inverse"),
        ]
    return claims


@check("5.19, 5.21", "the two forms are one: 5.21 with 1 / sigma for sigma and -mu / sigma for mu is 5.19")
def forms_are_equivalent():
    """The affine form with a transformed network against eq. 5.19 in plain NumPy."""
    _, mu_sigma = autoregressive(5, "whitening")

    def other(y, context=None):
        mu, sigma = mu_sigma(y)
        return -mu / sigma, -np.log(sigma)

    y = Generator(93).standard_normal((5, 5))
    image, log_det = flows.InverseAutoregressive(other, "affine").forward(y)
    mu, sigma = mu_sigma(y)
    expected = np.linalg.slogdet(differences(lambda y: (y - mu_sigma(y)[0]) / mu_sigma(y)[1], y))[1]
    return [
        Claim(largest(image, (y - mu) / sigma), "=", 0.0, 1e-12, "eps"),
        Claim(largest(log_det, expected), "=", 0.0, 1e-7, "log |det|, by differences of eq. 5.19"),
    ]
