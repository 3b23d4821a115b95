"""Planar, radial, NICE, Real NVP and IAF on the same energies in the plane (thesis section 5.2.2)."""

# %% [markdown]
# ## Section 5.2.2: four energies in the plane
#
# The potentials of Rezende & Mohamed 2015 (Table 1): a ring with two heavy sides, a wave, and two waves that fork. The
# last three go on for ever along z_1, so that they have no normalizer; a wall beyond |z_1| = 4 gives them one (the
# source draws this square, and does not say). Then log Z is a sum over a grid.

# %%
from types import SimpleNamespace

import numpy as np
from scipy.special import logsumexp

from minivi import ops, plots
from minivi.experiments import experiment
from minivi.tensor import no_grad
from minivi_chapters.studies.ch05_flows._shared import FLOWS, GAUSSIAN, compared, values


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
DRAWN = 121  # points along an edge of the densities' pictures


@experiment(
    "energies",
    title="planar, radial, NICE, Real NVP and IAF on the same energies in the plane",
    mirrors="thesis section 5.2.2 (Rezende & Mohamed 2015, Figure 3)",
    budgets=ENERGY,
    minutes={"quick": 0.5, "laptop": 2.2, "paper": 60 * 24},
)
def energies(run):
    """Fit all at each depth: the gaps, and the densities at one depth."""
    s, fits, densities = run.settings, {}, {}
    targets = {name: energy(name) for name in EVERY}
    for depth, names in s.depths.items():
        plan = {kind: (kind, depth) for kind in (FLOWS if fits else (GAUSSIAN, *FLOWS))}
        for name in names:
            each, approximations = compared(run, f"energies_{name}", targets[name], 2, plan, COST_2D[depth])
            fits[f"{name}, depth {depth}"] = each
            if depth == s.drawn:
                densities[name] = density_levels(targets[name], approximations)
    return fits | {"log Z": {name: t.log_normalizer for name, t in targets.items()}, "densities": densities}


def density_levels(target, approximations):
    """Grey levels of a density and of those fitted to it, black where it is highest, (1 + flows, z_1, z_2)."""
    z, _ = grid(5.0, DRAWN)
    with no_grad():
        log_p = [np.asarray(target.log_p(z)) - target.log_normalizer]
        log_p += [np.asarray(approximations[kind].q.log_prob(z.astype("float32"))) for kind in FLOWS]
    return plots.grey_levels([np.exp(each - log_p[0].max()).reshape(DRAWN, DRAWN) for each in log_p])


def names_by_depth(n):
    """Which energies at which depth; JSON has made texts of the depths."""
    return {int(depth): names for depth, names in n.settings.depths.items()}


def average(n, depth, names, kind):
    """Gaps of a kind in the mean over energies."""
    each = [vars(n)[f"{name}, depth {depth}"][kind] for name in names]
    gaps, errors = values(each, "gap"), values(each, "error")
    parts = ", ".join(f"{name} {gap:.3f}" for name, gap in zip(names, gaps, strict=True))
    error = np.sqrt(np.sum(errors**2)) / len(each)
    note = f"+- {error:.3f}, KL(q || p) at equal depth: {parts}"
    return SimpleNamespace(gap=np.mean(gaps), in_time=np.mean(values(each, "in_time")), error=error, note=note)


@energies.table
def _(n, table):
    depths = names_by_depth(n)
    least = min(depths)
    gaussian = average(n, least, depths[least], GAUSSIAN)
    table.row("Gaussian", gaussian.gap, note=gaussian.note)

    def closer(says, a, b, label):
        says(a.gap, "<=", b.gap, 0.0, label, standard_error=np.hypot(a.error, b.error))

    more_flexible = table.says(
        "thesis 5.2.2",
        "apply a chain of invertible parameterized transformations f_t, such that the last iterate z_T has a more "
        "flexible distribution",
        seeds=1,
    )
    deeper = table.says(
        "thesis 5.4",
        "The flexibility of the distribution of the final iterate ε_T, and its ability to closely fit to the true "
        "posterior, increases with the expressivity of the autoregressive models and the depth of the chain.",
        seeds=1,
    )
    weaker = table.says(
        "thesis 5.5",
        "[Rezende and Mohamed, 2015] found that this type of transformation is generally less powerful than other "
        "types of normalizing flow, in experiments with a low-dimensional latent space.",
        seeds=1,
    )
    over = {depth: {kind: average(n, depth, names, kind) for kind in FLOWS} for depth, names in depths.items()}
    for depth, kinds in over.items():
        gaussian = average(n, least, depths[depth], GAUSSIAN)
        for kind, f in kinds.items():
            table.row(f"{kind}, depth {depth}", f.gap, note=f.note + f"; at equal time {f.in_time:.3f}")
            label = f"{kind}, depth {depth}, against the Gaussian: KL(q || p), nats over {'-'.join(depths[depth])}"
            closer(more_flexible, f, gaussian, label)
    for shallow, deep in zip(list(depths)[:-1], list(depths)[1:], strict=True):
        few, many = (average(n, depth, depths[deep], "IAF") for depth in (shallow, deep))
        closer(deeper, many, few, f"IAF, depth {deep} against {shallow}: KL(q || p), nats")
    for depth, kinds in over.items():
        for kind in ("planar", "radial"):  # those of that source
            closer(weaker, kinds[kind], kinds["NICE"], f"{kind} against NICE, depth {depth}: KL(q || p), nats")


@energies.figure()
def _(n):
    """Each energy's density, and those fitted to it at one depth."""
    depth = n.settings.drawn
    fig = plots.figure(10.0, 1.75 * len(n.densities) + 0.5)
    panels = fig.subplots(len(n.densities), 1 + len(FLOWS), squeeze=False)
    for row, (name, sheets) in zip(panels, n.densities.items(), strict=True):
        for axes, kind, levels in zip(row, ("target", *FLOWS), sheets, strict=True):
            axes.imshow(levels.T, cmap="gray_r", vmin=0, vmax=255, origin="lower")
            axes.set_xticks([])
            axes.set_yticks([])
            gap = np.nan if kind == "target" else average(n, depth, [name], kind).gap
            axes.set_title(f"{name}, exact" if kind == "target" else f"{kind}: {gap:.2f} nats", fontsize=9)
    fig.suptitle(f"Densities on [-5, 5]$^2$, depth {depth}, with KL(q || p) after equal training steps", fontsize=10)
    return fig


@energies.figure("gap")
def _(n):
    """The gap by depth, and by training time at the depth that is drawn."""
    s, names_at = n.settings, names_by_depth(n)
    fig = plots.figure(9.5, 4.2)
    left, right = fig.subplots(1, 2, sharey=True)
    names = names_at[s.drawn]
    depths = [depth for depth in names_at if set(names) <= set(names_at[depth])]
    for i, kind in enumerate(FLOWS):
        gaps = [average(n, depth, names, kind).gap for depth in depths]
        left.plot(depths, gaps, label=kind, **plots.style(i, 10))
        course = np.mean([vars(n)[f"{name}, depth {s.drawn}"][kind]["course"] for name in names], axis=0)
        seconds = np.arange(1, len(course) + 1) * s.steps * COST_2D[s.drawn][kind] * 1e-3
        right.plot(seconds, course, label=kind, **plots.style(i, len(course)))
    y = f"KL(q || p), nats, mean over {', '.join(names)}"
    plots.panel(left, "equal training steps", "steps of the flow", y, log="xy").minorticks_off()
    plots.panel(right, f"depth {s.drawn}, equal time", "seconds of training", log="xy").minorticks_off()
    left.set_xticks(depths, [str(depth) for depth in depths])
    left.legend(fontsize=8)
    return fig
