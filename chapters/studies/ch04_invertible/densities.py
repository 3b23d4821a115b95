"""Two-dimensional densities that are known, and what NICE and Real NVP make of them (thesis section 4.4)."""

# %% [markdown]
# ## Two dimensions
#
# Four densities that are known, so that the held-out nats have a lower end: the data's entropy, from which a model is
# away by just KL(data || model). Each is drawn by its recipe and evaluated by its formula.

# %%
import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from minivi import evaluation, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.random import Generator
from minivi_chapters.studies.ch04_invertible._shared import coupling_model, trained


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
KINDS = "NICE", "Real NVP"
OVER = {"NICE": "Gaussian", "Real NVP": "NICE"}  # each is to explain held-out points better than the other
EDGE, CELLS = 3.5, 280  # of the pictures of densities
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
    minutes={"quick": 0.4, "laptop": 0.49, "paper": 60},
)
def densities(run):
    """Train both on points of each density: held-out nats beside a Gaussian's and the entropy, and what they learn."""
    s = run.settings
    axis = (np.arange(CELLS) + 0.5) * 2 * EDGE / CELLS - EDGE
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32)
    gaps, more = {}, {key: {} for key in ("entropy_error", "nll", "total", "gain", "points", "levels")}
    for i, name in enumerate(s.densities):
        density = DENSITIES[name]
        train, test = (density.sample(s.points, Generator([run.seed, 1, i, j])) for j in (0, 1))
        truth = density.log_prob(test)
        log_p, total, points, levels = {"Gaussian": gaussian(train, test)}, {}, {"data": train[:3000]}, {}
        for kind in KINDS:
            new_model = lambda kind=kind: coupling_model(kind, 2, s.hidden, s.layers, Generator([run.seed, 3]))
            key = f"{name}_{kind.replace(' ', '')}"
            model, _ = trained(run, key, new_model, train.astype(np.float32), s.epochs)
            log_p[kind] = evaluation.log_prob(model, test.astype(np.float32))
            p = np.exp(evaluation.log_prob(model, grid))
            total[kind] = p.sum() * (axis[1] - axis[0]) ** 2
            levels[kind] = plots.grey_levels(p / np.quantile(p, 0.99)).reshape(CELLS, CELLS)
            points[kind] = model.sample(3000, Generator(4))
        entropy, more["entropy_error"][name] = mean_and_error(-truth)
        gaps[name] = {"entropy": entropy} | {kind: mean_and_error(truth - values) for kind, values in log_p.items()}
        more["nll"][name] = {kind: -log_p[kind].mean() for kind in KINDS}
        more["gain"][name] = {kind: mean_and_error(log_p[kind] - log_p[under]) for kind, under in OVER.items()}
        more["total"][name], more["levels"][name] = total, levels
        more["points"][name] = {kind: values.astype(np.float32) for kind, values in points.items()}
    return gaps | more


@densities.table
def _(n, table):
    for name in n.settings.densities:
        for kind, total in n.total[name].items():
            label = f"{name}, {kind}: the density drawn integrates to one over the square that is drawn"
            table.check(total, "=", 1.0, 0.02, label)
        gaps = dict(getattr(n, name))
        note = f"+- {n.entropy_error[name]:.3f}, of the test points"
        table.row(f"{name}, entropy", gaps.pop("entropy"), note=note)
        for kind, (gap, error) in gaps.items():
            table.row(f"{name}, {kind}, KL(data || model)", gap, note=f"+- {error:.3f}")
        gain, error = n.gain[name]["Real NVP"]
        table.row(f"{name}, Real NVP over NICE", gain, note=f"+- {error:.3f}")
    says = table.says(
        "thesis 4.4",
        "If we use neural networks for such invertible mappings, this is a powerful and flexible approach towards "
        "probabilistic modeling of continuous data",
        seeds=1,
    )
    for name in n.settings.densities:
        (gain, error), (more, other) = n.gain[name]["NICE"], n.gain[name]["Real NVP"]
        for kind, by, noise in (("NICE", gain, error), ("Real NVP", gain + more, np.hypot(error, other))):
            label = f"{name}, {kind}: nats per held-out point above a Gaussian"
            says(by, ">=", 0.0, 0.0, label, standard_error=noise)


@densities.figure()
def _(n):
    """A row for each: the data, then density and samples of both models."""
    names = n.settings.densities
    fig = plots.figure(10.0, 2.2 * len(names) + 0.3)
    for row, name in zip(fig.subplots(len(names), 5, squeeze=False), names, strict=True):
        points, nats = n.points[name], {"data": getattr(n, name)["entropy"]} | n.nll[name]
        for axes, kind in zip((row[0], row[2], row[4]), points, strict=True):
            axes.plot(*points[kind].T, "k.", markersize=0.8)
            axes.set_title(f"data: {nats[kind]:.2f} nats" if kind == "data" else f"{kind}, samples", fontsize=8)
        for axes, kind in zip((row[1], row[3]), KINDS, strict=True):
            extent = (-EDGE, EDGE, -EDGE, EDGE)
            axes.imshow(n.levels[name][kind], cmap="gray_r", vmin=0, vmax=255, origin="lower", extent=extent)
            axes.set_title(f"{kind}, density: {nats[kind]:.2f} nats", fontsize=8)
        for axes in row:
            axes.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", xticks=[], yticks=[])
        row[0].set_ylabel(name, fontsize=9)
    title = "NICE and Real NVP in the plane, -3.5 to 3.5 on both axes; -log p of held-out points (data: entropy)"
    fig.suptitle(title, fontsize=10)
    return fig
