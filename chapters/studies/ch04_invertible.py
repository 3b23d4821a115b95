"""Chapter 4, invertible transformations: NICE and Real NVP as models of data (thesis section 4.4).

A map from data to noise whose Jacobian determinant is cheap gives a density of the data. Which densities can coupling
layers learn, what do they cost in either direction, and how near do they come to autoregressive models?
"""

# %% [markdown]
# The density is the noise's, times what the map f does to volumes:
#
#     log p(x) = log N(f(x); 0, I) + log |det df/dx|          sample: x = f^-1(eps)
#
# A coupling layer (`minivi.flows`) leaves one half of x as it is and moves the other half by a network of the first:
#
#     NICE        x_b -> x_b + m(x_a)                      |det| = 1: a last layer scales each dimension
#     Real NVP    x_b -> x_b exp(s(x_a)) + m(x_a)          log |det| = sum s(x_a)
#
# Both are undone by a single pass of the same network. An autoregressive model of continuous data is the same idea with
# all dimensions in sequence (eq. 5.19): one pass from data to noise, D passes back.

# %%
import time

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from minivi import nn, ops, optim, plots
from minivi.distributions import Normal
from minivi.evaluation import Estimate, difference
from minivi.experiments import Claim, Result, Row, experiment
from minivi.flows import (
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    FlowDensity,
    InverseAutoregressive,
    Permutation,
    Scaling,
)
from minivi.random import Generator
from minivi.tensor import no_grad

# %% [markdown]
# ## Models
#
# Layers take turns at moving the halves. In images these are the even and the odd pixels, as in NICE.


# %%
def standard(size, dtype="float32"):
    """N(0, I)."""
    return Normal(np.zeros(size, dtype), np.zeros(size, dtype))


def coupling_model(kind, size, hidden, layers, rng, interleave=False, dtype="float32"):
    """NICE or Real NVP with so many coupling layers; Real NVP too may scale each dimension at the end."""
    layer = {"NICE": AdditiveCoupling, "Real NVP": AffineCoupling}[kind]
    flows = [layer(size, hidden, rng, swap=bool(i % 2), activation="relu", dtype=dtype) for i in range(layers)]
    first = [Permutation(np.r_[0:size:2, 1:size:2])] if interleave else []
    return FlowDensity(Chain([*first, *flows, Scaling(size, dtype=dtype)]), standard(size, dtype))


def autoregressive_model(size, hidden, rng, dtype="float32"):
    """N(x_j; mu_j(x_<j), sigma_j(x_<j)^2) for each dimension, by MADE: a flow of one step (eq. 5.19)."""
    made = nn.MADE(size, hidden, rng, outputs=2, dtype=dtype)
    return FlowDensity(InverseAutoregressive(made, "whitening"), standard(size, dtype))


class AutoregressiveMixture(nn.Module):
    """A mixture of K normal distributions for each dimension, by MADE with 3 K outputs."""

    def __init__(self, size, hidden, components, rng, dtype="float32"):
        k = components
        bias = np.concatenate([np.zeros(k), np.linspace(-1.0, 1.0, k) if k > 1 else [0.0], np.zeros(k)])
        self.components = k
        self.made = nn.MADE(size, hidden, rng, outputs=3 * k, out_bias=bias, dtype=dtype)

    def log_prob(self, x):
        """log p(x) in nats: (..., D) -> (...)."""
        y, k = self.made(x), self.components
        mu, log_sigma = y[..., k : 2 * k], y[..., 2 * k :]
        eps = (x[..., None] - mu) * ops.exp(-log_sigma)
        each = ops.log_softmax(y[..., :k]) - 0.5 * eps * eps - log_sigma - 0.5 * np.log(2 * np.pi)
        return ops.sum(ops.log_sum_exp(each, axis=-1), axis=-1)


def trained(run, name, model, train, epochs, prepare=None, validation=None):
    """Maximise log p of minibatches; the step size falls to 0 in the second half.

    With ``validation`` data, the weights of the epoch that is best on them are kept; also returns the history.
    """
    s = run.settings
    half = epochs * -(-len(train) // s.batch) / 2
    optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))
    watch = {}
    if validation is not None:
        evaluate = lambda epoch: {"validation": log_prob(model, validation).mean()}
        watch = {"monitor": "validation", "evaluate": evaluate}
    history = run.fit(
        name, model, lambda x, rng: -model.log_prob(x).mean(), optimizer, train, epochs=epochs, batch_size=s.batch,
        rng=Generator([run.seed, 2]), prepare=prepare, **watch,
    )  # fmt: skip
    return model, history


def log_prob(model, x):
    """log p of each row, (N,), in float64 from parts of 1,000 rows."""
    with no_grad():
        parts = [np.asarray(model.log_prob(x[i : i + 1000])) for i in range(0, len(x), 1000)]
    return np.concatenate(parts).astype(np.float64)


def estimate(values):
    """Mean and standard error over data."""
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), 0.0, values)


# %% [markdown]
# ## Two dimensions
#
# Four densities that are known, so that the held-out nats have a lower end: the data's entropy, from which a model is
# away by just KL(data || model). Each is drawn by its recipe and evaluated by its formula.


# %%
class Moons:
    """Two half circles that reach into each other, with noise of standard deviation 0.12."""

    noise = 0.12

    def _arc(self, angle, moon):
        """Points of the upper (0) or lower (1) half circle."""
        sign = 1.0 - 2.0 * moon
        return np.stack([sign * np.cos(angle) - 0.5 + moon, sign * np.sin(angle) - 0.25 + 0.5 * moon], axis=-1)

    def sample(self, count, rng):
        """(count, 2)."""
        points = self._arc(np.pi * rng.random(count), rng.integers(0, 2, count).astype(float))
        return 1.5 * (points + self.noise * rng.standard_normal((count, 2)))

    def log_prob(self, x):
        """(..., 2) -> (...); the angle is integrated on a grid finer than the noise."""
        angle = np.pi * (np.arange(100) + 0.5) / 100
        centres = 1.5 * np.concatenate([self._arc(angle, moon) for moon in (0.0, 1.0)])
        square = (x[..., None, 0] - centres[:, 0]) ** 2 + (x[..., None, 1] - centres[:, 1]) ** 2
        variance = (1.5 * self.noise) ** 2
        return logsumexp(-0.5 * square / variance, axis=-1) - np.log(len(centres) * 2 * np.pi * variance)


class Rings:
    """Three circles with a normally distributed radius."""

    radii, noise = np.array([0.8, 1.6, 2.4]), 0.1

    def sample(self, count, rng):
        """(count, 2)."""
        r = self.radii[rng.integers(0, 3, count)] + self.noise * rng.standard_normal(count)
        angle = 2 * np.pi * rng.random(count)
        return r[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def log_prob(self, x):
        """The density of the radius (negative ones, 8 standard deviations away, left out), over the circumference."""
        r = np.linalg.norm(x, axis=-1)
        return logsumexp(norm.logpdf(r[..., None], self.radii, self.noise), axis=-1) - np.log(3 * 2 * np.pi * r)


class Checkerboard:
    """Every other of 4 x 4 squares of side 1."""

    def sample(self, count, rng):
        """(count, 2)."""
        column, row = rng.integers(0, 4, count), 2 * rng.integers(0, 2, count)
        corner = np.stack([column, row + column % 2], axis=1) - 2.0
        return corner + rng.random((count, 2))

    def log_prob(self, x):
        """-log 8 on the squares; outside, minus infinity."""
        inside = (np.abs(x) < 2.0).all(axis=-1) & (np.floor(x).sum(axis=-1) % 2 == 0)
        return np.where(inside, -np.log(8.0), -np.inf)


class Pinwheel:
    """Five normal distributions along rays, turned by an angle that grows with the radius: this preserves areas."""

    arms, twist = 5, 0.8

    def _turn(self, x, sign):
        angle = sign * self.twist * np.linalg.norm(x, axis=-1)
        c, s = np.cos(angle), np.sin(angle)
        return np.stack([c * x[..., 0] - s * x[..., 1], s * x[..., 0] + c * x[..., 1]], axis=-1)

    def sample(self, count, rng):
        """(count, 2)."""
        angle = 2 * np.pi / self.arms * rng.integers(0, self.arms, count)
        along, across = 1.6 + 0.4 * rng.standard_normal(count), 0.15 * rng.standard_normal(count)
        c, s = np.cos(angle), np.sin(angle)
        return self._turn(np.stack([c * along - s * across, s * along + c * across], axis=1), 1.0)

    def log_prob(self, x):
        """Turned back, the mixture of five."""
        x = self._turn(x, -1.0)
        angle = 2 * np.pi / self.arms * np.arange(self.arms)
        along = np.cos(angle) * x[..., :1] + np.sin(angle) * x[..., 1:]
        across = -np.sin(angle) * x[..., :1] + np.cos(angle) * x[..., 1:]
        return logsumexp(norm.logpdf(along, 1.6, 0.4) + norm.logpdf(across, 0.0, 0.15), axis=-1) - np.log(self.arms)


DENSITIES = {"moons": Moons(), "rings": Rings(), "checkerboard": Checkerboard(), "pinwheel": Pinwheel()}
PLANE = {"hidden": [64, 64], "layers": 8, "step_size": 2e-3, "batch": 200, "points": 10_000, "data": "synthetic"}


def gaussian(train, x):
    """log N(x; mean, covariance of the training points)."""
    centred = x - train.mean(axis=0)
    covariance = np.cov(train.T)
    square = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)
    return -0.5 * square - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]


@experiment(
    "densities",
    title="NICE and Real NVP on two-dimensional densities that are known",
    mirrors="thesis section 4.4",
    budgets={
        "quick": PLANE | {"densities": ["moons", "checkerboard"], "epochs": 12},
        "laptop": PLANE | {"densities": list(DENSITIES), "epochs": 60},
        "paper": PLANE | {"densities": list(DENSITIES), "epochs": 1000},
    },
    minutes={"quick": 0.4, "laptop": 3, "paper": 60},
)
def densities(run):
    """Train both on points of each density; held-out nats beside a Gaussian's and the entropy; draw what they learn."""
    s, rows, claims, numbers = run.settings, [], [], {}
    edge, cells = 3.5, 280
    axis = (np.arange(cells) + 0.5) * 2 * edge / cells - edge
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    fig = plots.figure(10.0, 2.2 * len(s.densities) + 0.3)
    panels = fig.subplots(len(s.densities), 5, squeeze=False)
    for i, name in enumerate(s.densities):
        density = DENSITIES[name]
        train, test = (density.sample(s.points, Generator([run.seed, 1, i, j])) for j in (0, 1))
        truth = density.log_prob(test)
        found = {"Gaussian": gaussian(train, test)}
        shown = [("data", None, train)]
        for kind in ("NICE", "Real NVP"):
            model = coupling_model(kind, 2, s.hidden, s.layers, Generator([run.seed, 3]))
            trained(run, f"{name}_{kind.replace(' ', '')}", model, train.astype(np.float32), s.epochs)
            found[kind] = log_prob(model, test.astype(np.float32))
            p = np.exp(log_prob(model, grid.reshape(-1, 2).astype(np.float32)))
            total = p.sum() * (axis[1] - axis[0]) ** 2
            label = f"{name}, {kind}: the density drawn integrates to one over the square that is drawn"
            claims.append(Claim(total, "=", 1.0, 0.02, label))
            shown += [(f"{kind}, density", p, None), (f"{kind}, samples", None, model.sample(3000, Generator(4)))]
        entropy = estimate(-truth)
        rows.append(Row(f"{name}, entropy", entropy.mean, note=f"+- {entropy.standard_error:.3f}, of the test points"))
        gaps = {kind: difference(estimate(truth), estimate(log_p)) for kind, log_p in found.items()}
        for kind, gap in gaps.items():
            rows.append(Row(f"{name}, {kind}, KL(data || model)", gap.mean, note=f"+- {gap.standard_error:.3f}"))
        numbers[name] = {"entropy": entropy.mean} | {kind: [g.mean, g.standard_error] for kind, g in gaps.items()}
        for over, under in (("NICE", "Gaussian"), ("Real NVP", "NICE")):
            gain = difference(estimate(found[over]), estimate(found[under]))
            label = f"{name}: {over} explains held-out points better than {under}, by more than 2 standard errors"
            claims.append(Claim(gain.mean, ">=", 2 * gain.standard_error, 0.0, label))
        for axes, (title, p, points) in zip(panels[i], shown, strict=True):
            if points is None:
                image = p.reshape(cells, cells)
                extent = (-edge, edge, -edge, edge)
                axes.imshow(image, cmap="gray_r", vmin=0, vmax=np.quantile(p, 0.99), origin="lower", extent=extent)
            else:
                axes.plot(*points[:3000].T, "k.", markersize=0.8)
            axes.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal", xticks=[], yticks=[])
            kind = title.partition(",")[0]
            about = f"{entropy.mean:.2f}" if kind == "data" else f"{-found[kind].mean():.2f}"
            axes.set_title(
                f"{title}" if points is not None and kind != "data" else f"{title}: {about} nats", fontsize=8
            )
        panels[i][0].set_ylabel(name, fontsize=9)
    title = "NICE and Real NVP in the plane, -3.5 to 3.5 on both axes; -log p of held-out points (data: entropy)"
    fig.suptitle(title, fontsize=10)
    return Result(rows, {"": fig}, numbers, claims)


# %% [markdown]
# ## Images: bits per dimension
#
# Pixels have 17 or 256 levels, and a density of such data has no upper end. So noise spreads each level evenly over a
# cell of width 1 / levels: u = (k + U) / levels. The density of u is a model of the levels too, P(k) = integral of p(u)
# over the cell, and E log p(u) - D log levels is a lower bound of log P(k). In bits per dimension:
#
#     bits = -(log p(u) - D log levels) / (D log 2)
#
# A density on [0, 1]^D is most easily had from v = logit(margin + (1 - 2 margin) u) with, in each dimension,
#
#     log dv/du = log(1 - 2 margin) - log sigmoid(v) - log(1 - sigmoid(v)),
#
# and v is then shifted and scaled to mean 0 and variance 1, which counts too. "NICE, no logit" models u as it comes
# (shifted and scaled): this is nearer to NICE's own experiment, of 4 layers, each a network of 5 hidden layers of 1000
# units, with a logistic prior, 1,500 epochs long.

# %%
IMAGES = {"layers": 4, "step_size": 1e-3, "batch": 100, "components": 5}
MNIST = IMAGES | {"data": "mnist", "split": "50000/10000/10000", "levels": 256, "margin": 1e-6}
NO_LOGIT = "NICE, no logit"
NICE_NATS = 1980.50  # Dinh et al. 2014, Table 3: MNIST, log-density of u


class Dequantised:
    """Levels to continuous v of mean 0 and variance 1, with the log-determinant of u -> v.

    Args:
        images: a grey Dataset.
        levels: 17 or 256.
        margin: of the logit; None for none.
    """

    def __init__(self, images, levels, margin):
        self.levels, self.margin, self.mean, self.std = levels, margin, 0.0, 1.0
        v = self(images.train, Generator(5)).astype(np.float64)
        self.mean, self.std = v.mean(axis=0), v.std(axis=0)

    def __call__(self, x, rng):
        """x = k / (levels - 1), (N, D) -> v in float32."""
        u = (np.rint(np.float64(self.levels - 1) * x) + rng.random(x.shape)) / self.levels
        if self.margin is not None:
            inner = self.margin + (1 - 2 * self.margin) * u
            u = np.log(inner) - np.log1p(-inner)
        return ((u - self.mean) / self.std).astype(np.float32)

    def log_det(self, v):
        """log |det dv/du| at ``v``, (N,), in nats."""
        total = -np.sum(np.broadcast_to(np.log(self.std), v.shape[-1:]))
        if self.margin is None:
            return np.full(len(v), total)
        v = self.std * np.float64(v) + self.mean
        log_slope = np.log1p(-2 * self.margin) + np.logaddexp(0.0, v) + np.logaddexp(0.0, -v)
        return total + log_slope.sum(axis=-1)

    def bits(self, log_p, v):
        """Bits per dimension, (N,), of images with log p(v) = ``log_p``."""
        d = v.shape[-1]
        return -(log_p + self.log_det(v) - d * np.log(self.levels)) / (d * np.log(2.0))

    def images(self, v):
        """Back to grey values in [0, 1]."""
        v = self.std * np.float64(v) + self.mean
        return v if self.margin is None else (1 / (1 + np.exp(-v)) - self.margin) / (1 - 2 * self.margin)


def independent_bits(images, levels):
    """Bits per dimension of the test images if pixels are independent: each one's histogram, plus one of each level."""
    k, test = (np.rint(x * (levels - 1)).astype(int) for x in (images.train, images.test))
    columns = np.arange(k.shape[1])
    counts = np.ones((levels, k.shape[1]))
    np.add.at(counts, (k, columns), 1.0)
    return -np.log2(counts / counts.sum(axis=0))[test, columns].mean(axis=1)


def both_ways(model, v, rounds):
    """Median over rounds of the time of the inverse over that of the forward map, of the same rows."""
    ratios = []
    with no_grad():
        for i in range(rounds + 1):
            times = [time.perf_counter()]
            for f in (model.flow.forward, model.flow.inverse):
                f(v)
                times.append(time.perf_counter())
            if i > 0:  # the first round compiles
                ratios.append((times[2] - times[1]) / (times[1] - times[0]))
    return float(np.median(ratios))


@experiment(
    "digits",
    title="NICE, Real NVP and autoregressive models of images with noise between their levels",
    mirrors="thesis section 4.4",
    budgets={
        "quick": IMAGES | {
            "data": "digits", "split": "1200/300/297", "levels": 17, "margin": 0.01, "batch": 50,
            "hidden": [200, 200], "masked": [200],
            "epochs": {"NICE": 30, "Real NVP": 30, "AR Gaussian": 30, "AR mixture": 30, NO_LOGIT: 30},
        },
        "laptop": MNIST | {
            "hidden": [500, 500], "masked": [500],
            "epochs": {"NICE": 4, "Real NVP": 4, "AR Gaussian": 4, "AR mixture": 3, NO_LOGIT: 4},
        },
        "paper": MNIST | {
            "hidden": [1000] * 5, "masked": [1000, 1000],
            "epochs": {"NICE": 1500, "Real NVP": 1500, "AR Gaussian": 200, "AR mixture": 200, NO_LOGIT: 1500},
        },
    },
    minutes={"quick": 0.5, "laptop": 5, "paper": 60 * 24 * 8},
)  # fmt: skip
def digits(run):
    """Train five models; bits per dimension of test images, samples, and the cost of both directions."""
    s, images = run.settings, run.images()
    size = images.train.shape[1]
    makers = {
        "NICE": lambda rng: coupling_model("NICE", size, s.hidden, s.layers, rng, interleave=True),
        "Real NVP": lambda rng: coupling_model("Real NVP", size, s.hidden, s.layers, rng, interleave=True),
        "AR Gaussian": lambda rng: autoregressive_model(size, s.masked, rng),
        "AR mixture": lambda rng: AutoregressiveMixture(size, s.masked, s.components, rng),
    }
    makers[NO_LOGIT] = makers["NICE"]
    logit, plain = Dequantised(images, s.levels, s.margin), Dequantised(images, s.levels, None)
    v = logit(images.test, Generator(7))
    found = {
        "histograms": estimate(independent_bits(images, s.levels)),
        "independent Gaussians": estimate(logit.bits(norm.logpdf(np.float64(v)).sum(axis=-1), v)),
    }
    notes = "independent pixels; levels have no noise to pay for", "of v, which has mean 0 and variance 1"
    rows = [Row(k, e.mean, unit="bits/dim", note=note) for (k, e), note in zip(found.items(), notes, strict=True)]
    sheets, ratios, claims = {"test images": images.test[:36]}, {}, []
    for name, maker in makers.items():
        coding = plain if name == NO_LOGIT else logit
        model, history = trained(
            run, f"{s.data}_{name.replace(' ', '').replace(',', '_')}", maker(Generator([run.seed, 6])), images.train,
            s.epochs[name], prepare=coding, validation=coding(images.validation, Generator(9)),
        )  # fmt: skip
        v = coding(images.test, Generator(7))
        log_p = log_prob(model, v)
        found[name] = estimate(coding.bits(log_p, v))
        best = np.argmax(history.column("validation")) + 1
        published, note = None, f"+- {found[name].standard_error:.3f}; best epoch {best} of {s.epochs[name]}"
        if name == NO_LOGIT and s.data == "mnist":
            published = (size * np.log(256) - NICE_NATS) / (size * np.log(2))
            nats = (log_p + coding.log_det(v)).mean()
            note += f"; published: {NICE_NATS:.2f} nats, here {nats:.2f}; another prior, larger networks"
        rows.append(Row(name, found[name].mean, published, unit="bits/dim", note=note))
        if name != "AR mixture":
            made = getattr(model.flow, "network", None)  # sampled by MADE's own fast way, which is the flow's inverse
            drawn = model.sample(36, Generator(8)) if made is None else made.sample(36, Generator(8))
            sheets[name] = coding.images(drawn)
            ratios[name] = both_ways(model, v[:100], 9 if made is None else 2)
            note = "time; 100 images at a time" + (f"; {size} passes" if made else "")
            rows.append(Row(f"{name}: inverse / forward map", ratios[name], unit="times", note=note))
    for over, under in (("NICE", "independent Gaussians"), ("Real NVP", "NICE"), ("AR mixture", "Real NVP")):
        gain = difference(found[under], found[over])
        label = f"{over} needs fewer bits than {under}, by more than 2 standard errors"
        claims.append(Claim(gain.mean, ">=", 2 * gain.standard_error, 0.0, label))
    for name in ("NICE", "Real NVP"):
        claims.append(
            Claim(ratios[name], "<=", 2.0, 0.0, f"{name}: the inverse takes as long as the forward map, or up to twice")
        )
    claims.append(Claim(ratios["AR Gaussian"], ">=", size / 4, 0.0, "AR: the inverse takes D / 4 forward maps or more"))
    fig = plots.figure(2.0 * len(sheets), 2.7)
    gap = images.shape[0] // 8 if images.shape[0] < 20 else 0
    for i, (name, sheet) in enumerate(sheets.items()):
        plots.show(fig.add_subplot(1, len(sheets), i + 1), plots.tile(sheet, images.shape, 6, gap))
        about = f"\n{found[name].mean:.2f} bits/dim" if name in found else ""
        fig.axes[-1].set_title(name + about, fontsize=9)
    fig.suptitle(f"{s.data}: samples of models of dequantised pixels", fontsize=10)
    return Result(rows, {"": fig}, {"bits": {k: [e.mean, e.standard_error] for k, e in found.items()}}, claims)


# %% [markdown]
# ## What to try next
#
# - `minivi run ch04_invertible --budget laptop`: all four densities, and MNIST.
# - `margin` from 1e-6 to 0.05: where do the bits go, and what do samples look like?
# - Replace the last `Scaling` of NICE by nothing: a map that preserves volume cannot be narrower than its noise.
