"""Checks of chapter 4, invertible transformations: NICE and Real NVP as models of data (thesis section 4.4)."""

from itertools import count

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm

from minivi import evaluation
from minivi.experiments import Claim, check
from minivi.experiments.measuring import Dequantised
from minivi.random import Generator
from minivi.small import jacobian, shake
from minivi_chapters.studies.ch04_invertible._shared import autoregressive_model, coupling_model
from minivi_chapters.studies.ch04_invertible.densities import DENSITIES

# %% [markdown]
# ## Equation checks
#
# Section 4.4 has no numbered equation; these are its claims.


# %%


def shaken(model, seed=9, scale=0.3):
    """The model with parameters far from where training starts."""
    rngs = (Generator([seed, i]) for i in count())
    return shake(model, lambda shape: next(rngs).standard_normal(shape), scale)


def small(size=2):
    """Models in float64."""
    rng, double = Generator(10), {"dtype": "float64"}
    models = {kind: coupling_model(kind, size, (8,), 4, rng, True, **double) for kind in ("NICE", "Real NVP")}
    models["AR Gaussian"] = autoregressive_model(size, (8,), rng, **double)
    return {name: shaken(model) for name, model in models.items()}


@check("section 4.4", "the model's density integrates to one")
def densities_integrate_to_one():
    """Sums over a fine grid."""
    axis = np.linspace(-12.0, 12.0, 301)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    cell = (axis[1] - axis[0]) ** 2
    return [
        Claim(np.exp(evaluation.log_prob(m, grid)).sum() * cell, "=", 1.0, 1e-3, name) for name, m in small().items()
    ]


@check("section 4.4", "the Jacobian determinant is that of the full Jacobian, and tractable since it is triangular")
def determinants():
    """log_det against slogdet of the engine's Jacobian; NICE's coupling layers preserve volume."""
    claims, x = [], Generator(11).standard_normal(6)
    for name, model in small(6).items():
        full = jacobian(lambda x, model=model: model.flow.forward(x)[0], x)
        expected = np.linalg.slogdet(full)[1]
        claims.append(Claim(np.asarray(model.flow.forward(x)[1]), "=", expected, 1e-10, f"{name}: log |det|"))
        if name == "AR Gaussian":
            claims.append(Claim(np.abs(np.triu(full, 1)).max(), "=", 0.0, 0.0, f"{name}: above the diagonal"))
        else:
            layer = model.flow.flows[1]
            one = jacobian(lambda x, layer=layer: layer.forward(x)[0], x)
            claims.append(Claim(np.abs(np.triu(one, 1)).max(), "=", 0.0, 0.0, f"{name}: one layer, above the diagonal"))
            if name == "NICE":
                claims.append(Claim(np.linalg.slogdet(one)[1], "=", 0.0, 1e-12, f"{name}: log |det| of one layer"))
    return claims


@check("section 4.4", "couplings cost the same in both directions; an autoregressive map takes D passes back")
def cost_of_both_directions():
    """Calls of the networks, counted, with both directions' round trip."""

    class Counted:
        def __init__(self, network):
            self.network, self.calls = network, 0

        def __call__(self, *arguments):
            self.calls += 1
            return self.network(*arguments)

    claims, size, x = [], 6, Generator(12).standard_normal((3, 6))
    for name, model in small(size).items():
        networks = []
        for flow in getattr(model.flow, "flows", [model.flow]):
            if hasattr(flow, "network"):
                flow.network = Counted(flow.network)
                networks.append(flow.network)
        calls = []
        y = np.asarray(model.flow.forward(x)[0])
        calls.append(sum(n.calls for n in networks))
        back = np.asarray(model.flow.inverse(y))
        calls.append(sum(n.calls for n in networks) - calls[0])
        expected = calls[0] if name != "AR Gaussian" else size
        claims.append(
            Claim(calls[1], "=", expected, 0.0, f"{name}: passes of the inverse, {calls[0]} of the forward map")
        )
        claims.append(Claim(np.abs(back - x).max(), "=", 0.0, 1e-10, f"{name}: there and back"))
    return claims


@check("section 4.4", "autoregressive models of continuous data are invertible transformations")
def autoregressive_is_a_flow():
    """Noise's density and log |det| of eq. 5.19, against MADE's product of normal conditionals (eq. 4.8)."""
    model, x = small(6)["AR Gaussian"], Generator(13).standard_normal((5, 6))
    y = np.asarray(model.flow.network(x))
    product = norm.logpdf(x, y[..., 0], np.exp(y[..., 1])).sum(axis=-1)
    eps = Generator(14).standard_normal((5, 6))
    gap = np.abs(np.asarray(model.flow.inverse(eps)) - model.flow.network.from_noise(eps)).max()
    return [
        Claim(np.abs(evaluation.log_prob(model, x) - product).max(), "=", 0.0, 1e-10, "log p, largest difference"),
        Claim(gap, "=", 0.0, 1e-10, "its inverse is ancestral sampling: largest difference"),
    ]


@check("section 4.4", "each two-dimensional density is that of its samples, and integrates to one")
def known_densities():
    """Integrals over a grid, and mean, second moments and log p of 20,000 samples against those on the grid."""
    claims = []
    axis = (np.arange(180) + 0.5) * 0.05 - 4.5
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)

    def values(x, log_p):
        return np.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1], log_p], axis=1)

    for name, density in DENSITIES.items():
        log_p = density.log_prob(grid)
        inside = np.isfinite(log_p)
        p = np.exp(log_p[inside]) * (axis[1] - axis[0]) ** 2
        at = values(grid[inside], log_p[inside])
        mean = p @ at
        x = density.sample(20_000, Generator(15))
        error = (values(x, density.log_prob(x)).mean(axis=0) - mean) / np.sqrt((p @ at**2 - mean**2) / len(x) + 1e-9)
        claims.append(Claim(p.sum(), "=", 1.0, 2e-3, f"{name}: integral"))
        claims.append(Claim(np.abs(error).max(), "<=", 4.5, 0.0, f"{name}: largest of 6 errors, in standard errors"))
    return claims


@check("section 4.4", "bits per dimension of dequantised levels: constants of logit, scaling and cells")
def bits_are_those_of_levels():
    """One pixel of 17 levels: sum of P(k) by integrals over cells, and the bound E log p(u) <= log (17 P(k))."""
    train = np.repeat(np.arange(17), [17 - i for i in range(17)])[:, None] / 16
    claims = []
    for margin in (0.01, None):
        coding = Dequantised(train, 17, margin)

        def log_p_of_u(u, coding=coding):
            fixed = type("Fixed", (), {"random": staticmethod(lambda shape: np.full(shape, 17 * u % 1.0))})
            v = coding(np.array([[np.floor(17 * u) / 16]]), fixed)
            return (norm.logpdf(np.float64(v)).sum(axis=-1) + coding.log_det(v))[0]

        cells = [(k / 17 + 1e-12, (k + 1) / 17 - 1e-12) for k in range(17)]
        p = np.array([quad(lambda u: np.exp(log_p_of_u(u)), *cell, limit=20)[0] for cell in cells])
        if margin is not None:
            ends = norm.cdf((np.log(np.array([0.01, 0.99]) / [0.99, 0.01]) - coding.mean) / coding.std)
        else:
            ends = norm.cdf((np.array([0.0, 1.0]) - coding.mean) / coding.std)
        what = "logit" if margin else "no logit"
        claims.append(Claim(p.sum(), "=", ends[1] - ends[0], 1e-5, f"{what}: sum of P(k), the normal's mass on [0, 1]"))
        mean = np.array([quad(log_p_of_u, *cell, limit=20)[0] for cell in cells]) * 17
        worst = (mean - np.log(17) - np.log(p)).max()
        claims.append(Claim(worst, "<=", 0.0, 1e-6, f"{what}: E log p(u) - log 17 - log P(k), the largest"))
    return claims
