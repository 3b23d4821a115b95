"""Chapter 5, normalizing flows: posteriors that bend (thesis sections 5.1 to 5.3, Figure 5.2).

What does a posterior lose that has to be a factorized Gaussian? And which flow gains it back: at the same depth, in the
same time, and in more dimensions?
"""

# %% [markdown]
# A flow pushes a draw of known density through invertible maps, and keeps account of how each stretches space:
#
#     eps_0 ~ N(0, I),   eps_t = f_t(eps_t-1, x),   z = eps_T                                            (5.10-5.13)
#     log q(z | x) = log p(eps_0) - sum_t log |det d eps_t / d eps_t-1|                                  (5.14-5.16)
#
# Section 5.1 asks two things of it for the bound's sake: draws, and the density of these draws, both cheap. (The
# density at other points, which takes the inverse, may be dear: it is needed for the pictures here, never in training.)
# Five maps meet that. Three are of the text, the other two of the papers that it cites:
#
#     planar     z + u tanh(w.z + b)                         one direction, through one unit                   (5.17)
#     radial     z + beta (z - c) / (alpha + |z - c|)        towards or away from one centre
#     NICE       (z_a, z_b + m(z_a))                         half of z, by a network of the other half
#     Real NVP   (z_a, z_b exp(s(z_a)) + m(z_a))             the same, with a scale
#     IAF        sigma(z) z + mu(z), autoregressive          all of z, each from those before it        (5.19-5.22)

# %%
from types import SimpleNamespace

import numpy as np
from scipy.special import logsumexp

from minivi import bounds, data, evaluation, flows, nn, ops, optim, plots
from minivi.distributions import Normal
from minivi.experiments import Claim, Result, Row, experiment
from minivi.flows import FlowPosterior
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import Parameter, no_grad

FLOWS = "planar", "radial", "NICE", "Real NVP", "IAF"
GAUSSIAN = "Gaussian"  # factorized: no flow at all


def make_flow(kind, size, depth, hidden, rng, context=0, dtype="float32"):
    """``depth`` steps of a ``kind``; ``hidden`` is the width of the networks of those that have some.

    NICE's couplings preserve volume, so it ends with a scale for each dimension. Couplings move one half and the other
    in turn; IAF reverses the dimensions between steps, and is gated (eq. 5.32), as section 5.4 advises.
    """
    options = {"context": context, "dtype": dtype}
    if kind == "IAF":
        return flows.iaf(size, depth, [hidden], rng, **options)
    if kind in ("NICE", "Real NVP"):
        coupling = flows.AdditiveCoupling if kind == "NICE" else flows.AffineCoupling
        steps = [coupling(size, [hidden], rng, swap=t % 2 == 1, **options) for t in range(depth)]
        return flows.Chain(steps + [flows.Scaling(size, dtype=dtype)] * (kind == "NICE"))
    one = {"planar": flows.Planar, "radial": flows.Radial}
    return flows.Chain([one[kind](size, rng, **options) for _ in range(depth if kind in one else 0)])


# %% [markdown]
# ## What time is
#
# "Equal depth": as many steps of the flow, and as many training steps. "Equal time": the cheaper flows train on until
# they have taken as long as the dearest one. So that a run gives the same numbers on a busy machine, time is counted in
# training steps times what one costs, in ms: measured once, on one core (AMD EPYC, float32), and written here. The
# seconds that a run took are in its numbers. The step size is constant, or falls as 1 / t after a while: it depends on
# no end, so that one run gives both comparisons.


# %%
def epochs_in_time(costs, epochs, kind):
    """For how many epochs to train ``kind`` until the dearest of the flows has trained for ``epochs``."""
    return max(1, round(epochs * max(costs[other] for other in FLOWS if other in costs) / costs[kind]))


def falling(step_size, steps):
    """The schedule: constant for a quarter of ``steps``, then as 1 / t."""
    return lambda step: step_size * min(1.0, 0.25 * steps / max(step, 1))


# %% [markdown]
# ## Figure 5.2: four data points
#
# A VAE with two latents and four data points, each a bit of its own. At best the decoder tells them apart with
# certainty, and each has log p(x) = -log 4. For that the four posteriors have to share out the prior among them, with
# no overlap: in general (eq. 5.8, with the roles of x and z exchanged)
#
#     bound = -log 4 - KL(q(z) || p(z)) - E_q(z) KL(q(x | z) || p(x | z)),     q(z) = 1/4 sum_n q(z | x_n)
#
# Four round or upright elliptic Gaussians cannot make up a round one. The first divergence is the gap to the prior that
# the figure shows; it is computed on a grid, from densities by the flow's inverse.

# %%
POINTS = 4
CLUSTERS = {
    "quick": {"hidden": 32, "context": 8, "depth": 4, "width": 32, "epochs": 12, "seeds": 1},
    "laptop": {"hidden": 32, "context": 8, "depth": 4, "width": 32, "epochs": 30, "seeds": 3},
    "paper": {"hidden": 64, "context": 16, "depth": 8, "width": 64, "epochs": 1000, "seeds": 5},
}
for settings in CLUSTERS.values():  # an epoch is 100 steps with 64 draws for each datum
    settings |= {"step_size": 3e-3, "draws": 64, "samples": 20_000}
MARKS = [("#0b5394", "o"), ("#e69138", "^"), ("#000000", "x"), ("#a2c4c9", "s")]  # four greys in print


def toy(s, kind, seed):
    """The VAE of the four points."""
    rng = Generator([seed, 50])
    context = s.context if kind in FLOWS else 0
    flow = make_flow(kind, 2, s.depth, s.width, rng, context) if kind in FLOWS else None
    return VAE(POINTS, (s.hidden,), 2, flow=flow, context=context, rng=rng)


def toy_trained(run, kind, seed):
    """The VAE after training on all four points at each step."""
    s, model, x = run.settings, toy(run.settings, kind, seed), np.eye(POINTS, dtype="float32")
    optimizer = optim.Adam(model.parameters(), falling(s.step_size, 100 * s.epochs))
    run.fit(
        f"clusters_{kind.replace(' ', '_')}_{seed}", model,
        lambda batch, rng: -model.elbo(batch, rng, s.draws, estimator="A").mean(), optimizer,
        np.tile(x, (100, 1)), epochs=s.epochs, batch_size=POINTS, rng=Generator([seed, 51]),
        prepare=lambda batch, rng: x,
    )  # fmt: skip
    return model


def toy_measures(model, samples, edge=6.0, points=241):
    """The bound by sampling, and the terms that make it up, on a grid: :class:`SimpleNamespace`, in nats."""
    x = np.eye(POINTS, dtype="float32")
    axis = np.linspace(-edge, edge, points)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 1, 2).astype(model.dtype)
    cell = (axis[1] - axis[0]) ** 2
    with no_grad():
        log_w = np.asarray(model.log_weights(x, Generator(52), samples), np.float64).mean(axis=1)
        log_q = np.asarray(model.encode(x).log_prob(z), np.float64)  # (grid, points)
        log_px_z = np.asarray(model.decode(z).log_prob(x), np.float64)
    log_q = np.maximum(log_q, -1e4)  # far out it is minus infinity in float32, and 0 times that no number
    mixture = logsumexp(log_q, axis=1) - np.log(POINTS)
    weight = np.exp(mixture) * cell
    log_qx_z = log_q - np.log(POINTS) - mixture[:, None]
    log_pz = -0.5 * np.sum(z[:, 0] ** 2, axis=1) - np.log(2 * np.pi)
    return SimpleNamespace(
        bound=log_w.mean(), error=log_w.std() / np.sqrt(samples), mass=weight.sum(), prior=weight @ (mixture - log_pz),
        decoder=weight @ np.sum(np.exp(log_qx_z) * (log_qx_z - log_px_z), axis=1),
        mixture=np.exp(mixture).reshape(points, points), axis=axis,
    )  # fmt: skip


@experiment(
    "clusters",
    title="four data points: factorized Gaussian against IAF posteriors",
    mirrors="thesis Figure 5.2",
    budgets=CLUSTERS,
    minutes={"quick": 0.4, "laptop": 1, "paper": 90},
)
def clusters(run):
    """Train both from the same seeds; tabulate the gap to the prior, draw the seed of the middling gap."""
    s, found, models = run.settings, {}, {}
    for kind in (GAUSSIAN, "IAF"):
        models[kind] = [toy_trained(run, kind, run.seed + i) for i in range(s.seeds)]
        found[kind] = [toy_measures(model, s.samples) for model in models[kind]]
    best, rows, claims = -np.log(POINTS), [], []
    for kind, each in found.items():
        gaps = [f.prior for f in each]
        note = f"mean of {s.seeds}, from {min(gaps):.3f} to {max(gaps):.3f}; the thesis has a picture only"
        rows += [
            Row(f"{kind}, KL(q(z) || p(z))", mean(each, "prior"), note=note),
            Row(f"{kind}, E KL(q(x | z) || p(x | z))", mean(each, "decoder"), note="points that the decoder confuses"),
            Row(f"{kind}, bound", mean(each, "bound"), note=f"+- {mean(each, 'error'):.3f}; best possible: {best:.3f}"),
        ]
        for f in each:
            label = f"{kind}: the bound is -log 4 less both divergences, sampling against a grid"
            claims.append(Claim(f.bound, "=", best - f.prior - f.decoder, 5 * f.error + 2e-3, label))
    label = "IAF's posteriors fit the prior better: KL(q(z) || p(z)), nats"
    claims.append(Claim(mean(found["IAF"], "prior"), "<=", mean(found[GAUSSIAN], "prior"), 0.0, label))
    error = np.hypot(mean(found["IAF"], "error"), mean(found[GAUSSIAN], "error"))
    label = "IAF's bound is higher"
    claims.append(Claim(mean(found["IAF"], "bound"), ">=", mean(found[GAUSSIAN], "bound"), 2 * error, label))
    numbers = {kind: [vars(f) | {"mixture": None, "axis": None} for f in each] for kind, each in found.items()}
    middle = {k: np.argsort([f.prior for f in each])[len(each) // 2] for k, each in found.items()}
    pictures = {k: (models[k][i], found[k][i]) for k, i in middle.items()}
    return Result(rows, {"": clusters_figure(pictures)}, numbers, claims)


def mean(each, name):
    """The mean of an attribute."""
    return np.mean([getattr(one, name) for one in each])


def clusters_figure(pictures):
    """Draws from the prior and from the four posteriors, with contours of the density that they have together."""
    fig = plots.figure(10.5, 3.9)
    panels = fig.subplots(1, 3, sharex=True, sharey=True)
    panels[0].plot(*Generator(53).standard_normal((1200, 2)).T, ".", color="#777777", markersize=2.5)
    panels[0].set_title("(a) prior", fontsize=10)
    for axes, (kind, (model, f)), letter in zip(panels[1:], pictures.items(), "bc", strict=True):
        z = model.encode(np.eye(POINTS, dtype="float32")).sample(Generator(54), (300,))
        for n, (colour, marker) in enumerate(MARKS):
            axes.plot(*z[:, n].T, marker, color=colour, markersize=3, label=f"x = {n + 1}", markeredgewidth=0.7)
        axes.set_title(f"({letter}) {kind} posteriors, {f.prior:.3f} nats away", fontsize=10)
    circle = np.exp(-0.5 * np.square(pictures["IAF"][1].axis)) / np.sqrt(2 * np.pi)
    densities = [np.outer(circle, circle), *(f.mixture for _, f in pictures.values())]
    for axes, density in zip(panels, densities, strict=True):
        axis = pictures["IAF"][1].axis
        axes.contour(axis, axis, density.T, [0.005, 0.03, 0.1], colors="black", linewidths=[0.5, 0.8, 1.1])
        axes.set(xlim=(-3.6, 3.6), ylim=(-3.6, 3.6), aspect="equal", xlabel="$z_1$")
    panels[0].set_ylabel("$z_2$")
    panels[2].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=1.6)
    title = "Four data points: KL of all posteriors together from the prior; contours: density of 0.005, 0.03 and 0.1"
    fig.suptitle(title, fontsize=10)
    return fig


# %% [markdown]
# ## Fitting a density that is known
#
# For the flows by themselves, without a model of data: q(z) is fitted to a density p~(z) / Z by
#
#     E_q[log p~(z) - log q(z)] = log Z - KL(q || p)
#
# The Gaussian at the start of the flow has a free mean and free standard deviations, for each flow and without one.


# %%
class Approximation(nn.Module):
    """q(z) over ``size`` dimensions: a factorized Gaussian, through a flow."""

    def __init__(self, size, flow, dtype="float32"):
        self.size, self.flow = size, flow
        self.mu, self.log_sigma = (Parameter(np.zeros(size), dtype=dtype) for _ in range(2))

    @property
    def q(self):
        """The distribution."""
        return FlowPosterior(Normal(self.mu, self.log_sigma), self.flow)


def fitted(run, name, q, target, epochs, horizon):
    """The history of fitting ``q`` to ``target``, with "gap" = KL(q || p) in nats and its "error" after each epoch.

    The text's source raises log p~ from a small weight to 1 (Rezende & Mohamed 2015, eq. 20): ``warm`` is how long. The
    step size falls from a quarter of ``horizon``, in epochs, on.
    """
    s = run.settings
    optimizer = optim.Adam(q.parameters(), falling(s.step_size, s.steps * horizon))

    def loss(x, rng):
        z, log_q = q.q.rsample_with_log_prob(rng.standard_normal((s.batch, q.size), dtype="float32"))
        weight = max(0.01, bounds.warm_up(optimizer.steps, s.warm))
        return (log_q - weight * target.log_p(z)).mean()

    def evaluate(epoch):
        with no_grad():
            z, log_q = q.q.rsample_with_log_prob(Generator(60).standard_normal((s.draws, q.size), dtype="float32"))
            values = np.asarray(log_q, np.float64) - np.asarray(target.log_p(z), np.float64) + target.log_normalizer
        return {"gap": values.mean(), "error": values.std() / np.sqrt(s.draws)}

    a_datum_a_step = np.zeros((s.steps, 1))  # there are no data; ``fit`` counts in epochs
    return run.fit(
        name, q, loss, optimizer, a_datum_a_step, epochs=epochs, batch_size=1, rng=Generator([run.seed, 61]),
        evaluate=evaluate,
    )  # fmt: skip


def start_from(q, gaussian, kind, depth):
    """Give ``q`` the base with which it begins as ``gaussian``: the others begin as the identity, but IAF does not.

    Its gates (sigmoid(1.5) each) shrink what they get, and of two steps the second sees the dimensions reversed. What
    the networks add to that is small at first, but not nothing.
    """
    mu, log_sigma = gaussian.mu.data, gaussian.log_sigma.data
    if kind == "IAF":
        shrunk = depth * np.log1p(np.exp(-1.5))
        mu, log_sigma = mu * np.exp(shrunk), log_sigma + shrunk
        if depth % 2 == 0:
            mu, log_sigma = mu[::-1], log_sigma[::-1]
    q.mu.assign(mu)
    q.log_sigma.assign(log_sigma)


def compared(run, name, target, size, plan, costs):
    """Fit one approximation for each label of ``plan`` (kind, depth); what came of it, by label.

    ``costs`` has those labels that are compared at equal time too; a longer chain stops at equal steps. The Gaussian, a
    tenth of the price, trains until it has settled: its gap is that of the best one.
    """
    s, found = run.settings, {}
    for label, (kind, depth) in plan.items():
        rng = Generator([run.seed, 62, size, depth])
        q = Approximation(size, make_flow(kind, size, depth, max(s.width, 2 * size), rng))
        if s.from_gaussian and kind in FLOWS:
            start_from(q, found[GAUSSIAN].q, kind, depth)
        horizon = max(40, s.epochs) if kind == GAUSSIAN else s.epochs
        later = epochs_in_time(costs, s.epochs, label) if label in costs else horizon
        file = f"{name}_{kind.replace(' ', '_')}_{depth}"
        history = fitted(run, file, q, target, later, horizon)
        gap, error = history.column("gap"), history.column("error")
        found[label] = SimpleNamespace(
            q=q, gap=gap[horizon - 1], error=error[horizon - 1], in_time=gap[-1], epochs=later, course=gap,
            seconds=history.column("seconds").sum(), parameters=sum(p.data.size for p in q.flow.parameters()),
        )  # fmt: skip
    return found


def plain(found):
    """Numbers of :func:`compared` for JSON."""
    return {label: {k: v for k, v in vars(f).items() if k != "q"} for label, f in found.items()}


# %% [markdown]
# ## Section 5.2.2: four energies in the plane
#
# The potentials of Rezende & Mohamed 2015 (Table 1): a ring with two heavy sides, a wave, and two waves that fork. The
# last three go on for ever along z_1, so that they have no normalizer; a wall beyond |z_1| = 4 gives them one (the
# source draws this square, and does not say). Then log Z is a sum over a grid.


# %%
def sine(x):
    """sin(pi x / 2): the engine has no such primitive, but the tangent has both the value and the first derivative."""
    here = np.asarray(x)
    return np.sin(0.5 * np.pi * here) + 0.5 * np.pi * np.cos(0.5 * np.pi * here) * (x - here)


def bell(x, width):
    """log of an unnormalised Gaussian."""
    return -0.5 * ops.square(x * (1.0 / width))


def either(a, b):
    """log(exp a + exp b)."""
    return ops.log_sum_exp(ops.stack([a, b]), axis=0)


def wall(z1):
    """log of what is left beyond |z_1| = 4."""
    return bell(ops.relu(ops.abs(z1) - 4.0), 0.4)


def ring(z1, z2):
    """U1."""
    return bell(ops.sqrt(z1 * z1 + z2 * z2) - 2.0, 0.4) + either(bell(z1 - 2.0, 0.6), bell(z1 + 2.0, 0.6))


def wave(z1, z2):
    """U2."""
    return bell(z2 - sine(z1), 0.4) + wall(z1)


def bump(z1, z2):
    """U3."""
    off = z2 - sine(z1)
    return either(bell(off, 0.35), bell(off + 3.0 * ops.exp(bell(z1 - 1.0, 0.6)), 0.35)) + wall(z1)


def fork(z1, z2):
    """U4."""
    off = z2 - sine(z1)
    return either(bell(off, 0.4), bell(off + 3.0 * ops.sigmoid((z1 - 1.0) * (1.0 / 0.3)), 0.35)) + wall(z1)


ENERGIES = {"U1": ring, "U2": wave, "U3": bump, "U4": fork}


def grid(edge, points):
    """Points of the square [-edge, edge]^2, (points^2, 2), z_1 slowest; and the area of one."""
    axis = np.linspace(-edge, edge, points)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2), (axis[1] - axis[0]) ** 2


def energy(name):
    """log p~(z) of (..., 2) and log Z, by the trapezoid rule (beyond the square there is less than 1e-13)."""
    log_p = lambda z: ENERGIES[name](z[..., 0], z[..., 1])
    z, cell = grid(8.0, 401)
    return SimpleNamespace(log_p=log_p, log_normalizer=logsumexp(np.asarray(log_p(z))) + np.log(cell))


# ms of a training step, by depth.
COST_2D = {
    2: {"planar": 1.8, "radial": 1.7, "NICE": 1.4, "Real NVP": 1.6, "IAF": 1.7},
    8: {"planar": 4.3, "radial": 4.4, "NICE": 3.3, "Real NVP": 4.5, "IAF": 5.0},
    32: {"planar": 15.2, "radial": 16.0, "NICE": 12.5, "Real NVP": 16.6, "IAF": 18.1},
}
# Which energies at which depth. Rezende & Mohamed use RMSProp at 1e-5, batches of 100 and 500,000 steps, with the
# weight rising over 10,000; Adam takes fewer. `steps` is an epoch.
EVERY = list(ENERGIES)
SHORT = {"step_size": 5e-3, "batch": 256, "steps": 50, "draws": 10_000, "width": 32, "drawn": 8}
SHORT["from_gaussian"] = False  # which has settled on one side of the ring
ENERGY = {
    "quick": SHORT | {"depths": {2: ["U1", "U4"], 8: ["U1", "U4"]}, "epochs": 3, "warm": 75},
    "laptop": SHORT | {"depths": {2: EVERY, 8: EVERY, 32: ["U1"]}, "epochs": 16, "warm": 400},
    "paper": SHORT
    | {"depths": {2: EVERY, 8: EVERY, 32: EVERY}, "epochs": 500, "steps": 200, "batch": 100, "step_size": 1e-3}
    | {"warm": 10_000, "drawn": 32},
}


@experiment(
    "energies",
    title="planar, radial, NICE, Real NVP and IAF on the same energies in the plane",
    mirrors="thesis section 5.2.2 (Rezende & Mohamed 2015, Figure 3)",
    budgets=ENERGY,
    minutes={"quick": 0.5, "laptop": 3.5, "paper": 60 * 24},
)
def energies(run):
    """Fit all at each depth; tabulate the gap in the mean over energies, draw densities."""
    s, found = run.settings, {}
    targets = {name: energy(name) for name in EVERY}
    for depth, names in s.depths.items():
        plan = {kind: (kind, depth) for kind in (FLOWS if found else (GAUSSIAN, *FLOWS))}
        for name in names:
            found[depth, name] = compared(run, f"energies_{name}", targets[name], 2, plan, COST_2D[depth])
    rows, claims, least = [], [], min(s.depths)
    over = {depth: {kind: average(found, depth, names, kind) for kind in FLOWS} for depth, names in s.depths.items()}
    gaussian = average(found, least, s.depths[least], GAUSSIAN)
    rows.append(Row("Gaussian", gaussian.gap, note=gaussian.note))
    for depth, kinds in over.items():
        for kind, f in kinds.items():
            rows.append(Row(f"{kind}, depth {depth}", f.gap, note=f.note + f"; at equal time {f.in_time:.3f}"))
            label = f"{kind}, depth {depth}, comes closer than the Gaussian, nats over {'-'.join(s.depths[depth])}"
            flat = average(found, least, s.depths[depth], GAUSSIAN)
            claims.append(Claim(f.gap, "<=", flat.gap, 2 * np.hypot(f.error, flat.error), label))
    for shallow, deep in zip(list(s.depths)[:-1], list(s.depths)[1:], strict=True):
        for kind in ("planar", "radial"):
            few, many = (average(found, d, s.depths[deep], kind) for d in (shallow, deep))
            label = f"a longer chain of {kind} steps comes closer: depth {deep} against {shallow}, nats"
            claims.append(Claim(many.gap, "<=", few.gap, 2 * np.hypot(many.error, few.error), label))
    for depth, kinds in over.items():
        a, b = kinds["NICE"], kinds["planar"]
        label = f"section 5.5, after Rezende & Mohamed: NICE is the weaker, planar the closer at depth {depth}, nats"
        claims.append(Claim(b.gap, "<=", a.gap, 2 * np.hypot(a.error, b.error), label))
    figures = {"": densities_figure(s, targets, found), "gap": energies_figure(s, found)}
    numbers = {f"{name}, depth {depth}": plain(f) for (depth, name), f in found.items()}
    return Result(rows, figures, numbers | {"log Z": {n: t.log_normalizer for n, t in targets.items()}}, claims)


def average(found, depth, names, kind):
    """Gaps of a kind in the mean over energies."""
    each = [found[depth, name][kind] for name in names]
    parts = ", ".join(f"{name} {f.gap:.3f}" for name, f in zip(names, each, strict=True))
    error = np.sqrt(np.sum([f.error**2 for f in each])) / len(each)
    note = f"+- {error:.3f}, KL(q || p) at equal depth: {parts}"
    return SimpleNamespace(gap=mean(each, "gap"), in_time=mean(each, "in_time"), error=error, note=note)


def densities_figure(s, targets, found):
    """Each energy's density, and those fitted to it at one depth."""
    names = s.depths[s.drawn]
    fig = plots.figure(10.0, 1.75 * len(names) + 0.5)
    panels = fig.subplots(len(names), 1 + len(FLOWS), squeeze=False)
    z, _ = grid(5.0, 121)
    for row, name in zip(panels, names, strict=True):
        target = targets[name]
        with no_grad():
            log_p = [np.asarray(target.log_p(z)) - target.log_normalizer]
            log_p += [np.asarray(found[s.drawn, name][k].q.q.log_prob(z.astype("float32"))) for k in FLOWS]
        for axes, kind, values in zip(row, ("target", *FLOWS), log_p, strict=True):
            density = np.exp(values).reshape(121, 121).T
            top = np.exp(log_p[0].max())
            axes.imshow(density, cmap="gray_r", vmin=0, vmax=top, origin="lower", extent=(-5, 5, -5, 5))
            axes.set_xticks([])
            axes.set_yticks([])
            title = f"{name}, exact" if kind == "target" else f"{kind}: {found[s.drawn, name][kind].gap:.2f} nats"
            axes.set_title(title, fontsize=9)
    fig.suptitle(f"Densities on [-5, 5]$^2$, depth {s.drawn}, with KL(q || p) after equal training steps", fontsize=10)
    return fig


def energies_figure(s, found):
    """The gap by depth, and by training time at the depth that is drawn."""
    fig = plots.figure(9.5, 4.2)
    left, right = fig.subplots(1, 2, sharey=True)
    names = s.depths[s.drawn]
    for i, kind in enumerate(FLOWS):
        depths = [d for d in s.depths if set(names) <= set(s.depths[d])]
        gaps = [average(found, d, names, kind).gap for d in depths]
        left.plot(depths, gaps, label=kind, **plots.style(i, 10))
        each = [found[s.drawn, name][kind] for name in names]
        course = np.mean([f.course for f in each], axis=0)
        seconds = np.arange(1, len(course) + 1) * s.steps * COST_2D[s.drawn][kind] * 1e-3
        right.plot(seconds, course, label=kind, **plots.style(i, len(course)))
    axes_style(left, "steps of the flow", "equal training steps")
    left.set_xticks(depths, [str(d) for d in depths])
    axes_style(right, "seconds of training", f"depth {s.drawn}, equal time")
    left.set_ylabel(f"KL(q || p), nats, mean over {', '.join(names)}")
    left.legend(fontsize=8)
    return fig


def axes_style(axes, xlabel, title):
    """Both axes logarithmic."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xlabel(xlabel)
    axes.set_title(title, fontsize=9)
    axes.grid(True, linewidth=0.3)


# %% [markdown]
# ## More dimensions
#
# Section 5.2.2: a planar step passes information through one unit, so a high-dimensional dependency takes a long chain;
# section 5.3: the autoregressive one scales. Three densities whose normalizer is known in any dimension:
#
#     bananas           D / 2 independent pairs  a ~ N(0, 1),  b ~ N(a^2 - 1, 1/2^2),  in an order drawn at random
#     turned bananas    the same, after a rotation drawn at random: each dependency is spread over all dimensions
#     Gaussian          standard deviations from 0.1 to 1, and that rotation: posterior of a linear-Gaussian model
#
# On the last, the best factorized Gaussian's gap is known: (sum_i log Lambda_ii - log det Lambda) / 2 for the precision
# Lambda. Nats per dimension; 0 is perfect. One planar chain is four times as long as the others. (The turned bananas
# came first. In 128 dimensions planar flows, NICE and Real NVP gained nothing on them in 600 steps: hence the others.)


# %%
def rotation(size):
    """A rotation or reflection at random, (D, D)."""
    return np.linalg.qr(Generator([63, size]).standard_normal((size, size)))[0]


def order(size):
    """A permutation at random as a matrix, (D, D)."""
    return np.eye(size)[Generator([64, size]).permutation(size)]


def bananas(size, turn=order):
    """Pairs on bent lines, shuffled or turned."""
    turn, half = turn(size), size // 2

    def log_p(z):
        x = ops.matmul(z, turn.astype(z.dtype))
        a, b = x[..., :half], x[..., half:]
        squares = ops.square(a) + 4.0 * ops.square(b - ops.square(a) + 1.0)
        return -0.5 * ops.sum(squares, axis=-1) - half * float(np.log(np.pi))  # 2 pi sigma_b = pi a pair

    return SimpleNamespace(log_p=log_p, log_normalizer=0.0)


def turned_bananas(size):
    """The same, turned."""
    return bananas(size, rotation)


def correlated(size):
    """A Gaussian of standard deviations from 0.1 to 1, turned; ``factorized`` is the best factorized one's gap."""
    turn, sigma = rotation(size), np.geomspace(0.1, 1.0, size)
    scaled = turn / sigma
    constant = float(np.sum(np.log(sigma)) + 0.5 * size * np.log(2 * np.pi))
    log_p = lambda z: -0.5 * ops.sum(ops.square(ops.matmul(z, scaled.astype(z.dtype))), axis=-1) - constant
    gap = 0.5 * np.sum(np.log(np.sum(scaled**2, axis=1))) + np.sum(np.log(sigma))
    return SimpleNamespace(log_p=log_p, log_normalizer=0.0, factorized=gap)


TARGETS = {"bananas": bananas, "turned bananas": turned_bananas, "Gaussian": correlated}
# ms of a training step at depth 8, batch 128, by dimension.
COST = {
    2: {"planar": 3.8, "radial": 3.9, "NICE": 2.8, "Real NVP": 3.8, "IAF": 4.1},
    8: {"planar": 3.9, "radial": 4.2, "NICE": 3.0, "Real NVP": 4.1, "IAF": 4.3},
    32: {"planar": 3.9, "radial": 4.3, "NICE": 3.5, "Real NVP": 4.8, "IAF": 5.4},
    128: {"planar": 4.6, "radial": 5.0, "NICE": 9.8, "Real NVP": 12.6, "IAF": 12.8},
}
SCALE = {"step_size": 5e-3, "batch": 128, "steps": 50, "draws": 2000, "width": 32, "depth": 8, "warm": 0}
SCALE["from_gaussian"] = True  # every flow goes on from the Gaussian that was fitted without one
TWO = "planar", "IAF"
SCALING = {
    "quick": SCALE | {"sizes": [2, 8], "epochs": 3, "kinds": dict.fromkeys(TARGETS, TWO)},
    "laptop": SCALE
    | {"sizes": [2, 8, 32, 128], "epochs": 20, "kinds": dict.fromkeys(TARGETS, TWO) | {"bananas": FLOWS}},
    "paper": SCALE
    | {"sizes": [2, 8, 32, 128], "epochs": 1000, "step_size": 2e-3, "kinds": dict.fromkeys(TARGETS, FLOWS)},
}


@experiment(
    "scaling",
    title="flows in 2 to 128 dimensions",
    mirrors="thesis sections 5.2.2 and 5.3 (claims without numbers)",
    budgets=SCALING,
    minutes={"quick": 0.5, "laptop": 6, "paper": 60 * 12},
)
def scaling(run):
    """Fit all in each dimension; tabulate the gap in each dimension, and the share of the Gaussian's gap closed."""
    s, found, rows, claims = run.settings, {}, [], []
    long = f"planar, {4 * s.depth} steps"
    for name, kinds in s.kinds.items():
        plan = {GAUSSIAN: (GAUSSIAN, 0)} | {kind: (kind, s.depth) for kind in kinds}
        plan |= {long: ("planar", 4 * s.depth)} if name == "bananas" else {}
        for size in s.sizes:
            target = TARGETS[name](size)
            costs = {kind: COST[size][kind] for kind in kinds}
            found[name, size] = compared(run, f"scaling_{name.replace(' ', '_')}_{size}", target, size, plan, costs)
            each = found[name, size]
            for label, f in each.items():
                note = f"nats per dimension, +- {f.error / size:.4f}"
                note += f"; at equal time {f.in_time / size:.3f}" if label in costs else ""
                rows.append(Row(f"{name}, {size} dimensions, {label}", f.gap / size, note=note))
            if hasattr(target, "factorized"):
                label = f"{name}, {size} dimensions: without a flow, the gap per dimension of the closed form"
                gap, error = each[GAUSSIAN].gap, each[GAUSSIAN].error
                claims.append(Claim(gap / size, "=", target.factorized / size, 0.01 + 3 * error / size, label))
            if size > 8:
                for when in ("gap", "in_time"):
                    a, b = each["IAF"], each["planar"]
                    label = f"{name}, {size} dimensions: IAF closer than planar flows at equal "
                    label += "depth" if when == "gap" else "time"
                    error = 2 * np.hypot(a.error, b.error) / size
                    claims.append(Claim(getattr(a, when) / size, "<=", getattr(b, when) / size, error, label))
    least, most = min(s.sizes), max(s.sizes)
    for name in s.kinds:
        for kind, relation, word in (("planar", "<=", "less"), ("IAF", ">=", "more")):
            closed = [1.0 - found[name, size][kind].gap / found[name, size][GAUSSIAN].gap for size in (least, most)]
            label = f"{name}: the share of the Gaussian's gap that {kind} closes is in {most} dimensions {word} than "
            half = 0.5 * max(closed[0], 0.0)  # of less than nothing there is no half
            claims.append(Claim(closed[1], relation, half, 0.0, label + f"half of that in {least}"))
    numbers = {f"{name}, {size}": plain(f) for (name, size), f in found.items()}
    return Result(rows, {"": scaling_figure(s, found)}, numbers, claims)


def scaling_figure(s, found):
    """The gap per dimension against the dimensions, at equal depth and equal time."""
    fig = plots.figure(10.5, 3.4 * len(s.kinds))
    panels = fig.subplots(len(s.kinds), 2, sharex=True, sharey="row", squeeze=False)
    for row, name in zip(panels, s.kinds, strict=True):
        for axes, when in zip(row, ("gap", "in_time"), strict=True):
            for label in found[name, s.sizes[0]]:
                values = [getattr(found[name, size][label], when) / size for size in s.sizes]
                if label in FLOWS:
                    style = plots.style(FLOWS.index(label))
                elif label == GAUSSIAN or when == "gap":
                    style = plots.style(5) | ({} if label == GAUSSIAN else {"marker": "x", "color": "#000000"})
                else:
                    continue
                axes.plot(s.sizes, np.maximum(values, 1e-3), label=label, **style)
            axes_style(axes, "dimensions", f"{name}, depth {s.depth}, equal " + ("depth" if when == "gap" else "time"))
            axes.set_xticks(s.sizes, [str(size) for size in s.sizes])
        row[0].set_ylabel("KL(q || p), nats per dimension")
        row[1].legend(*row[0].get_legend_handles_labels(), fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for axes in panels[:-1].ravel():
        axes.set_xlabel("")
    return fig


# %% [markdown]
# ## Section 5.2.2 in a VAE
#
# The same encoder and decoder, the same 32 latents, images and minibatches; only what the Gaussian goes through
# differs. The encoder's output h makes the numbers of each planar and radial step by a linear map, and is an input of
# the networks of the others. The distance of the bound to log p-hat, in the same images, is KL(q(z | x) || p(z | x)):
# how tight the posterior is. A better posterior may also let the decoder use the latents more. In the few epochs of a
# laptop the bound still rises fast, so that at equal time the Gaussian gains more by its extra epochs than any flow.
#
# Section 5.6.1 uses a convolutional model for its MNIST table; the fully connected one of that table is in `ch05_iaf`.

# %%
# ms of a training step: at `laptop`, with digits, and at `paper`.
COST_MNIST = {GAUSSIAN: 3.3, "planar": 7.2, "radial": 5.6, "NICE": 5.1, "Real NVP": 5.6, "IAF": 6.5}
COST_DIGITS = {GAUSSIAN: 0.8, "planar": 2.9, "radial": 2.9, "NICE": 2.3, "Real NVP": 2.7, "IAF": 3.2}
COST_PAPER = {GAUSSIAN: 13.5, "planar": 16.3, "radial": 16.0, "NICE": 16.9, "Real NVP": 17.5, "IAF": 19.9}
POSTERIORS = (GAUSSIAN, *FLOWS)
IMAGES = {
    "quick": {
        "data": "digits", "split": "1500/297", "hidden": [50], "latents": 8, "context": 16, "width": 32, "batch": 50,
        "step_size": 2e-3, "epochs": 15, "images": 297, "samples": 200, "costs": COST_DIGITS,
    },
    "laptop": {
        "data": "mnist", "split": "60000/10000", "hidden": [200], "latents": 32, "context": 50, "width": 100,
        "batch": 100, "step_size": 1e-3, "epochs": 7, "images": 1000, "samples": 200, "costs": COST_MNIST,
    },
    "paper": {
        "data": "mnist", "split": "60000/10000", "hidden": [500, 500], "latents": 32, "context": 100, "width": 320,
        "batch": 100, "step_size": 1e-3, "epochs": 1000, "images": 10_000, "samples": 5000, "costs": COST_PAPER,
    },
}  # fmt: skip
for settings in IMAGES.values():
    settings["depth"] = 4


def binarize(x, rng):
    """Fresh binary pixels from grey values."""
    return data.binarize(x, "dynamic", rng)


def posterior_vae(s, kind, train, seed):
    """The VAE with one posterior."""
    rng = Generator([seed, 70])
    context = s.context if kind in FLOWS else 0
    flow = make_flow(kind, s.latents, s.depth, s.width, Generator([seed, 71]), context) if context else None
    bias = nn.logit_of_mean(train)
    return VAE(train.shape[1], s.hidden, s.latents, flow=flow, context=context, rng=rng, output_bias=bias)


def vae_trained(run, kind, images, test):
    """What one posterior came to: bound, log p-hat and their difference at equal depth and at equal time."""
    s = run.settings
    model = posterior_vae(s, kind, images.train, run.seed)
    later = max(s.epochs, epochs_in_time(s.costs, s.epochs, kind))
    optimizer = optim.Adam(model.parameters(), s.step_size)

    def evaluate(epoch):
        if epoch not in (s.epochs, later):
            return {"bound": evaluation.bound(model, test, Generator([72, epoch]), 1, bounds.elbo).mean}
        bound = evaluation.bound(model, test, Generator(73), 20, bounds.elbo)
        log_p = evaluation.log_likelihood(model, test, Generator(74), s.samples)
        return {"bound": bound.mean, "bounds": bound.values.tolist(), "log_p": log_p.values.tolist()}

    history = run.fit(
        f"vae_{s.data}_{kind.replace(' ', '_')}", model, lambda x, rng: -model.elbo(x, rng, estimator="A").mean(),
        optimizer, images.train, epochs=later, batch_size=s.batch, rng=Generator([run.seed, 75]), prepare=binarize,
        evaluate=evaluate,
    )  # fmt: skip
    at = {"depth": s.epochs, "time": later}
    seconds = np.cumsum(history.column("seconds"))
    return SimpleNamespace(
        course=history.column("bound"), seconds=seconds, epochs=at,
        bound={k: np.array(history.records[e - 1]["bounds"]) for k, e in at.items()},
        log_p={k: np.array(history.records[e - 1]["log_p"]) for k, e in at.items()},
    )  # fmt: skip


def paired(a, b):
    """The mean of a - b over images, and twice its standard error."""
    return np.mean(a - b), 2 * np.std(a - b, ddof=1) / np.sqrt(len(a))


@experiment(
    "vae",
    title="the same VAE with planar, radial, NICE, Real NVP and IAF posteriors",
    mirrors="thesis section 5.2.2",
    budgets=IMAGES,
    minutes={"quick": 0.5, "laptop": 4, "paper": 60 * 35},
)
def vae(run):
    """Train one model for each posterior; tabulate bound, log p-hat and seconds."""
    s, images = run.settings, run.images()
    test = binarize(images.test[: s.images], Generator(2))
    found = {kind: vae_trained(run, kind, images, test) for kind in POSTERIORS}
    rows, claims = [], []
    for when in ("depth", "time"):
        for kind, f in found.items():
            epochs, bound, log_p = f.epochs[when], f.bound[when], f.log_p[when]
            error = bound.std(ddof=1) / np.sqrt(len(bound))
            gap, two_errors = paired(log_p, bound)
            seconds = epochs * -(-len(images.train) // s.batch) * s.costs[kind] * 1e-3
            about = f"equal {when}: {epochs} epochs, {seconds:.0f} s"
            rows += [
                Row(f"{kind}, equal {when}, bound", bound.mean(), note=f"+- {error:.2f}; {about}; {len(test)} images"),
                Row(f"{kind}, equal {when}, log p-hat", log_p.mean(), note=f"{s.samples} samples"),
                Row(f"{kind}, equal {when}, log p-hat - bound", gap, note=f"+- {two_errors / 2:.2f}"),
            ]
        gaps = {kind: f.log_p[when] - f.bound[when] for kind, f in found.items()}
        for other in (GAUSSIAN, "planar"):
            label = f"equal {when}: IAF's posterior is tighter than the {other}'s by, nats"
            claims.append(Claim(*pair_claim(gaps[other], gaps["IAF"]), label))
            label = f"equal {when}: IAF's bound is above the {other}'s by, nats"
            claims.append(Claim(*pair_claim(found["IAF"].bound[when], found[other].bound[when]), label))
    numbers = {
        kind: {"epochs": f.epochs, "seconds": f.seconds, "course": f.course}
        | {when: [f.bound[when].mean(), f.log_p[when].mean()] for when in f.bound}
        | {"gap": {when: paired(f.log_p[when], f.bound[when]) for when in f.bound}}
        for kind, f in found.items()
    }
    return Result(rows, {"": vae_figure(s, numbers)}, numbers, claims)


def pair_claim(a, b):
    """Arguments of the claim that a >= b in the mean over images, within 2 standard errors of the difference."""
    gain, two_errors = paired(a, b)
    return gain, ">=", 0.0, two_errors


def vae_figure(s, numbers):
    """The bound by epoch and by time; and what tightness is left to gain, "gap" with twice its standard error."""
    fig = plots.figure(10.5, 4.2)
    panels = fig.subplots(1, 3)
    for kind, f in numbers.items():
        course = np.array(f["course"])
        epochs = np.arange(1, len(course) + 1)
        style = plots.style((*FLOWS, GAUSSIAN).index(kind), len(epochs))
        time = epochs * s.costs[kind] / max(s.costs[k] for k in FLOWS)
        for axes, x in ((panels[0], epochs), (panels[1], time)):
            axes.plot(x[x >= 2], course[x >= 2], label=kind, **style)
    names = {"depth": "epochs", "time": "time, in epochs of the slowest flow"}
    for axes, (when, xlabel) in zip(panels, names.items(), strict=False):
        axes.set_xlabel(xlabel)
        axes.set_title(f"{s.data}, depth {s.depth}, equal {when}", fontsize=9)
        axes.grid(True, linewidth=0.3)
        axes.set_xlim(left=0)
    panels[0].set_ylabel("bound, nats per test image")
    place = np.arange(len(numbers))[::-1]
    for offset, when, colour in ((0.2, "depth", "#777777"), (-0.2, "time", "#cccccc")):
        gaps, errors = np.array([f["gap"][when] for f in numbers.values()]).T
        panels[2].barh(
            place + offset, gaps, 0.4, xerr=errors, color=colour, edgecolor="black", capsize=2, label=f"equal {when}"
        )
    panels[2].set_yticks(place, list(numbers), fontsize=8)
    panels[2].set_xlabel("log p-hat - bound, nats")
    panels[2].set_title("looseness, with 2 standard errors", fontsize=9)
    plots.legend_below(fig, panels)
    return fig


# %% [markdown]
# ## What to try next
#
# - Put the bananas in order (`order` = the identity): with each a before its b, one step of IAF is exact.
# - Reverse the order of IAF's dimensions no more (`reverse=False` in `make_flow`), or permute halves between couplings.
# - Give planar flows of the VAE as many steps as fit into IAF's time, and look at the bound.
