"""A network by the sum-of-functions optimizer, vSGD and Adam (thesis sections 7.4, 7.5.2, Figure 7.2 b)."""

# %% [markdown]
# ## Section 7.5.2, Figure 7.2 (b): the sum-of-functions optimizer
#
# SFO (Sohl-Dickstein, Poole and Ganguli 2014) takes the loss as a sum over N fixed minibatches, and keeps a quadratic
# model of each around the point theta_i where it was last seen:
#
#     f_i(theta) ~ f_i + g_i' (theta - theta_i) + (theta - theta_i)' H_i (theta - theta_i) / 2
#
# A step goes to the minimum of the sum of the models; then the minibatch whose theta_i is farthest, by the metric of
# the whole, is looked at again, and its H_i follows BFGS. All lives in the subspace of the points and gradients seen,
# an orthonormal basis of at most 3 N columns, each as long as theta: memory linear in N. This is a short form of it,
# with Powell's damping for curvatures that are not positive, and steps of at most ``reach`` times the mean one so far.
# The thesis used the authors' own code.
#
# vSGD (Schaul, Zhang and LeCun 2013, by finite differences as in Schaul and LeCun 2013) sets each number's step size to
#
#     (mean g)^2 / mean g^2 * mean h / mean h^2,    h = |g(theta + mean g) - g(theta)| / |mean g|
#
# from running means whose memory grows while a step size is small: two gradients a step, and no step size to choose. In
# this short form, without the authors' test for outliers, it diverges at `laptop`.
#
# The network is smaller than the text's 784-1000-1000-10 and its minibatches fewer than 469: SFO's basis would have
# 1.8 million rows and 1,400 columns. With dropout each look at a minibatch is another function, which SFO does not
# know.

# %%
import math
import time

import numpy as np

from minivi import data, optim, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import Classifier
from minivi.random import Generator
from minivi.sweeps import sweep
from minivi.tensor import Parameter, grad

GRID = {"Adam": [1e-3, 3e-3, 1e-2], "SFO": [1.0, 3.0, 10.0], "vSGD": [0.0]}  # step sizes, first steps; none to choose


DIVERGED = 1e3  # nats, for a loss that is not finite; curves end where the first seed's is above it


class SumOfFunctions:
    """SFO's quadratic models in a growing subspace; :meth:`step` moves ``theta`` and looks at one minibatch.

    Args:
        theta: (D,), the start.
        count: N, how many functions are summed.
        first: length of the step that one function alone would make first, which sets its curvature at the start.
        reach: of a step, in mean steps so far.
    """

    def __init__(self, theta: np.ndarray, count: int, first: float = 1.0, reach: float = 10.0):
        self.origin, self.theta, self.count, self.first, self.reach = theta, theta, count, first, reach
        self.basis = np.empty((len(theta), 3 * count + 2))
        self.k, self.here, self.lengths = 0, np.zeros(0), []
        self.points, self.slopes, self.curved = {}, {}, {}

    @property
    def kept(self) -> int:
        """Numbers in memory."""
        return self.basis.size + sum(h.size for h in self.curved.values())

    def step(self, gradient) -> None:
        """Look at the farthest function by ``gradient(i, theta)``, (D,), and go to the minimum of the models."""
        i = self._farthest()
        g = self._coordinates(gradient(i, self.theta))
        if i in self.points:
            self.curved[i] = bfgs(self.curved[i], self.here - self.points[i], g - self.slopes[i])
        else:
            mean = (
                np.mean([np.trace(h) / self.k for h in self.curved.values()]) if self.curved else norm(g) / self.first
            )
            self.curved[i] = mean * np.eye(self.k)
        self.points[i], self.slopes[i] = self.here, g
        whole = sum(self.curved.values())
        pull = sum(self.curved[j] @ self.points[j] - self.slopes[j] for j in self.points)
        move = np.linalg.solve(whole, pull) - self.here
        limit = self.reach * np.mean(self.lengths) if self.lengths else math.inf
        move *= min(1.0, limit / max(norm(move), 1e-300))
        self.lengths.append(norm(move))
        self.here = self.here + move
        self.theta = self.origin + self.basis[:, : self.k] @ self.here

    def _farthest(self):
        if len(self.points) < self.count:
            return len(self.points)
        whole = sum(self.curved.values())
        off = {i: self.here - p for i, p in self.points.items()}
        return max(off, key=lambda i: off[i] @ whole @ off[i])

    def _coordinates(self, g):
        """Of a vector in the subspace, to which its new direction is added; a full basis is cut down first."""
        if self.k == self.basis.shape[1]:
            self._collapse()
        rest = g
        for _ in range(2):
            rest = rest - self.basis[:, : self.k] @ (self.basis[:, : self.k].T @ rest)
        if norm(rest) > 1e-6 * norm(g):
            self.basis[:, self.k] = rest / norm(rest)
            self.k += 1
            self._reshape(lambda v: np.append(v, 0.0), grown)
        return self.basis[:, : self.k].T @ g

    def _collapse(self):
        """To the span of the last points and gradients."""
        spanning = np.stack([*self.points.values(), *self.slopes.values(), self.here], axis=1)
        turn = np.linalg.qr(spanning)[0][:, : self.basis.shape[1] - 1]
        self.basis[:, : turn.shape[1]] = self.basis[:, : self.k] @ turn
        self.k = turn.shape[1]
        self._reshape(lambda v: turn.T @ v, lambda h: turn.T @ h @ turn)

    def _reshape(self, vector, matrix):
        self.here = vector(self.here)
        self.points = {i: vector(p) for i, p in self.points.items()}
        self.slopes = {i: vector(g) for i, g in self.slopes.items()}
        self.curved = {i: matrix(h) for i, h in self.curved.items()}


def norm(v):
    """Euclidean length."""
    return math.sqrt(float(v @ v))


def grown(h):
    """A curvature with one dimension more, of the mean curvature."""
    k = len(h)
    larger = np.zeros((k + 1, k + 1))
    larger[:k, :k], larger[k, k] = h, np.trace(h) / max(k, 1) if k else 1.0
    return larger


def bfgs(h, s, y):
    """The BFGS update of a Hessian for a move ``s`` and a change ``y`` of the gradient; damped (Powell 1978), so that
    it stays positive."""
    along = h @ s
    curvature = s @ along
    if curvature < 1e-20:
        return h
    if s @ y < 0.2 * curvature:
        share = 0.8 * curvature / (curvature - s @ y)
        y = share * y + (1 - share) * along
    return h - np.outer(along, along) / curvature + np.outer(y, y) / (s @ y)


class VSGD:
    """vSGD by finite differences, for numbers (D,); ``gradient(i, theta)`` is asked twice a step.

    Args:
        theta: (D,), the start.
        count: N, how many minibatches there are, taken in turn.
        slow: by how much the mean squares are overestimated at the start.
    """

    def __init__(self, theta: np.ndarray, count: int, slow: float = 10.0):
        self.theta, self.count, self.t, self.slow = theta, count, 0, slow
        self.g, self.square, self.h, self.h_square = (np.zeros(len(theta)) for _ in range(4))
        self.memory = np.full(len(theta), 2.0)

    kept = property(lambda self: 6 * len(self.theta))

    def step(self, gradient) -> None:
        """Two gradients of the next minibatch, and a step."""
        i, first = self.t % self.count, self.t < 10
        g = gradient(i, self.theta)
        shift = np.where(np.abs(self.g) > 1e-12, self.g, np.where(g == 0, 1e-6, g))
        h = np.abs((gradient(i, self.theta + shift) - g) / shift)
        share = 1 / (self.t + 1) if first else 1 / self.memory
        for mean, new in ((self.g, g), (self.square, g**2), (self.h, h), (self.h_square, h**2)):
            mean += share * (new - mean)
        self.t += 1
        if first:
            return
        signal = self.g**2 / (np.maximum(self.square, 1e-30) * (self.slow if self.t < 3 * self.count else 1.0))
        self.theta = self.theta - signal * self.h / np.maximum(self.h_square, 1e-30) * g
        self.memory = (1 - np.minimum(signal, 1.0)) * self.memory + 1


def descend(source, images, hidden, dropout, optimizer, choice, batch, steps, seed):
    """A cell: the mean training loss without dropout after each twentieth of ``steps``, processor seconds until then
    (evaluation not counted), and the numbers that the optimizer keeps."""
    sets = data.load(source)
    x, labels = sets.train[:images].astype(np.float64), sets.train_labels[:images].astype(np.int64)
    model = Classifier(
        x.shape[1], hidden, 10, input_dropout=0.2 * dropout, hidden_dropout=0.5 * dropout, rng=Generator([seed, 87]),
        dtype="float64",
    )  # fmt: skip
    parameters, rng, count = model.parameters(), Generator([seed, 88]), images // batch
    ends = np.cumsum([p.data.size for p in parameters])[:-1]

    def put(theta):
        for p, part in zip(parameters, np.split(theta, ends), strict=True):
            p.assign(part.reshape(p.shape))

    def gradient(i, theta):
        put(theta)
        rows = slice(i * batch, (i + 1) * batch)
        loss = -model.log_prob(x[rows], labels[rows], rng if dropout else None).mean()
        parts = grad(loss, parameters)
        return np.concatenate([(g + 1e-4 * p.data).ravel() for g, p in zip(parts, parameters, strict=True)])

    start = np.concatenate([p.data.ravel() for p in parameters])
    gradient(0, start)  # compiles
    if optimizer == "Adam":
        p = Parameter(start)
        solver = optim.Adam([p], choice)
        theta, kept = (lambda: p.data), 2 * len(start)
        one = lambda t: solver.step([gradient(t % count, p.data)])
    else:
        solver = SumOfFunctions(start, count, choice) if optimizer == "SFO" else VSGD(start, count)
        theta, one = (lambda: solver.theta), lambda t: solver.step(gradient)
    losses, seconds, spent = [], [], 0.0
    for t in range(steps):
        since = time.process_time()
        one(t)
        spent += time.process_time() - since
        if (t + 1) % (steps // 20) == 0:
            put(theta())
            loss = -float(np.mean(np.asarray(model.log_prob(x, labels))))
            losses.append(loss if math.isfinite(loss) else None)
            seconds.append(spent)
    return {"loss": losses, "seconds": seconds, "kept": kept if optimizer == "Adam" else solver.kept}


@experiment(
    "sum_of_functions",
    title="a network with and without dropout by the sum-of-functions optimizer, vSGD and Adam",
    mirrors="thesis section 7.5.2, Figure 7.2 (b)",
    budgets={
        "quick": {"data": "digits", "images": 1280, "hidden": [40], "batch": 128, "steps": 100, "seeds": 2},
        "laptop": {"data": "mnist", "images": 2560, "hidden": [100, 100], "batch": 128, "steps": 400, "seeds": 3},
        "paper": {"data": "mnist", "images": 60_000, "hidden": [200, 200], "batch": 600, "steps": 20_000, "seeds": 3},
    },
    minutes={"quick": 0.3, "laptop": 1.9, "paper": 600},
)
def sum_of_functions(run):
    """By problem and optimizer at the best of its grid, of all seeds: training losses, seconds, numbers kept."""
    s, found = run.settings, {}
    run.images(labels=True)  # data without are refused here, before the cells are
    shared = {"source": s.data, "images": s.images, "hidden": s.hidden, "batch": s.batch, "steps": s.steps}

    def runs(dropout, optimizer, choice, seeds):
        cells = [
            shared | {"dropout": dropout, "optimizer": optimizer, "choice": choice, "seed": run.seed + i} for i in seeds
        ]
        options = {"resume": run.resume, "progress": run.progress and "sum of functions"}
        return sweep(descend, cells, run.folder / "sum_of_functions", **options)

    for dropout, where in enumerate(("deterministic", "dropout")):
        found[where] = {}
        for name, grid in GRID.items():
            tried = {choice: runs(dropout, name, choice, [0])[0] for choice in grid}
            best = min(grid, key=lambda choice: mean_loss(tried[choice]["loss"]))
            of_name = [tried[best], *runs(dropout, name, best, range(1, s.seeds))]
            found[where][name] = {key: [r[key] for r in of_name] for key in of_name[0]} | {"choice": best}
    return {"found": found}


def ends_of(found):
    """The loss of each seed at the end."""
    return np.nan_to_num(np.array(found["loss"], np.float64)[:, -1], nan=DIVERGED)


def mean_loss(losses):
    """Over a run; infinite if it diverged."""
    mean = np.mean(np.array(losses, np.float64))
    return float(mean) if np.isfinite(mean) else math.inf


@sum_of_functions.table
def _(n, table):
    s, speeds = n.settings, {}
    for where, by_name in n.found.items():
        for name, f in by_name.items():
            losses = np.array(f["loss"], np.float64)
            speeds[where, name] = np.array([mean_loss(one) for one in losses])
            milliseconds = 1e3 * np.mean(np.array(f["seconds"])[:, -1]) / s.steps
            note = f"{s.seeds} seeds; {milliseconds:.2f} ms an iteration, {f['kept'][0]:,.0f} numbers kept"
            note += f"; {'step size' if name == 'Adam' else 'first step'} {f['choice']:g}" if f["choice"] else ""
            table.row(f"{where}, {name}, loss over the run", speeds[where, name].mean(), note=note)
            table.row(f"{where}, {name}, loss at the end", losses[:, -1].mean(), note="published as a picture")
    short = ""
    if s.data == "mnist" and s.images < 60_000:
        short = f"{s.images:,} images, {'-'.join(map(str, s.hidden))} units"
    about = {"seeds": s.seeds, "short": short}
    says = table.says(
        "thesis 7.5.2", "Figure 7.2 shows that Adam makes faster progress in terms of both the number of iterations "
        "and wall-clock time.", **about,
    )  # fmt: skip
    adam, sfo = (n.found["deterministic"][name] for name in ("Adam", "SFO"))
    gain, error = mean_and_error(speeds["deterministic", "SFO"] - speeds["deterministic", "Adam"])
    says(gain, ">=", 0.0, 0.0, "by iterations: mean loss over the run, SFO less Adam, nats", standard_error=error)
    gain, error = mean_and_error(ends_of(sfo) - ends_of(adam))
    label = "by iterations: loss after the last, SFO less Adam, nats"
    says(gain, ">=", 0.0, 0.0, label, standard_error=error)
    ends = [  # when Adam is done
        np.interp(a_t[-1], b_t, np.array(b, np.float64)) - a[-1]
        for a, a_t, b, b_t in zip(adam["loss"], adam["seconds"], sfo["loss"], sfo["seconds"], strict=True)
    ]
    gain, error = mean_and_error(ends)
    says(gain, ">=", 0.0, 0.0, "by seconds: loss when Adam is done, SFO less Adam, nats", standard_error=error)
    says = table.says(
        "thesis 7.5.2", "SFO is 5-10x slower per iteration compared to Adam, and has a memory requirement that is "
        "linear in the number minibatches.", **about,
    )  # fmt: skip
    ratio, error = mean_and_error([b[-1] / a[-1] for a, b in zip(adam["seconds"], sfo["seconds"], strict=True)])
    says(ratio, "=", 7.5, 2.5, "seconds an iteration, SFO over Adam", standard_error=error)
    parameters, minibatches = adam["kept"][0] / 2, s.images // s.batch
    columns = sfo["kept"][0] / parameters
    table.check(
        columns, ">=", 3 * minibatches, 0.0, f"SFO keeps so many numbers a parameter, of {minibatches} minibatches"
    )
    says = table.says(
        "thesis 7.5.2", "SFO assumes deterministic sub-functions, and indeed failed to converge on cost functions with "
        "stochastic regularization.", **about,
    )  # fmt: skip
    loss = np.nan_to_num(np.array(n.found["dropout"]["SFO"]["loss"], np.float64), nan=DIVERGED)
    gain, error = mean_and_error(loss[:, -1] - loss[:, loss.shape[1] // 2 - 1])
    label = "with dropout: loss of SFO at the end less that half way, nats"
    says(gain, ">=", 0.0, 0.0, label, standard_error=error)
    gain, error = mean_and_error(loss[:, -1] - ends_of(n.found["dropout"]["Adam"]))
    table.row("dropout, loss at the end, SFO less Adam", gain, note=f"+- {error:.3f}")


@sum_of_functions.figure()
def _(n):
    fig = plots.figure(9.0, 6.4)
    panels = fig.subplots(2, 2, sharey="row")
    for line, (where, by_name) in zip(panels, n.found.items(), strict=True):
        for i, (name, f) in enumerate(by_name.items()):
            loss, seconds = (np.mean(np.array(f[key], np.float64), axis=0) for key in ("loss", "seconds"))
            steps = n.settings.steps // 20 * np.arange(1, len(loss) + 1)
            stays = int(np.sum(np.cumprod(loss < DIVERGED)))
            for axes, across in zip(line, (steps, seconds), strict=True):
                axes.plot(across[:stays], loss[:stays], label=name, **plots.style(i, len(loss)))
                if 0 < stays < len(loss):
                    axes.plot(across[stays - 1], loss[stays - 1], "x", color="black", markersize=9, markeredgewidth=2)
                    at = {"xytext": (6, 4), "textcoords": "offset points", "fontsize": 7}
                    axes.annotate(f"{name}: a seed diverges", (across[stays - 1], loss[stays - 1]), **at)
        plots.panel(line[0], f"{where}, by iterations", "iterations", "training loss, nats", log="y")
        plots.panel(line[1], f"{where}, by time", "processor seconds", log="xy")
    plots.legend_below(fig, panels.ravel())
    s = n.settings
    fig.suptitle(
        f"{s.data}, {s.images:,} images in {s.images // s.batch} minibatches, mean of {s.seeds} seeds", fontsize=10
    )
    return fig
