"""Flows in 2 to 128 dimensions (thesis sections 5.2.2 and 5.3)."""

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
from types import SimpleNamespace

import numpy as np

from minivi import ops, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi_chapters.studies.ch05_flows._shared import FLOWS, GAUSSIAN, compared


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
    """Fit all in each dimension: the gaps, and the closed form of the Gaussian's where there is one."""
    s, fits, factorized = run.settings, {}, {}
    for name, kinds in s.kinds.items():
        plan = {GAUSSIAN: (GAUSSIAN, 0)} | {kind: (kind, s.depth) for kind in kinds}
        plan |= {f"planar, {4 * s.depth} steps": ("planar", 4 * s.depth)} if name == "bananas" else {}
        for size in s.sizes:
            target = TARGETS[name](size)
            costs = {kind: COST[size][kind] for kind in kinds}
            file = f"scaling_{name.replace(' ', '_')}_{size}"
            fits[f"{name}, {size}"], _ = compared(run, file, target, size, plan, costs)
            if hasattr(target, "factorized"):
                factorized[f"{name}, {size}"] = target.factorized
    return fits | {"factorized": factorized}


def per_dimension(n, name, size):
    """Gap, its error and the gap at equal time by label, in nats per dimension; NaN where JSON has none."""
    return {
        label: SimpleNamespace(**{what: np.array(fit[what], float) / size for what in ("gap", "error", "in_time")})
        for label, fit in vars(n)[f"{name}, {size}"].items()
    }


@scaling.table
def _(n, table):
    s = n.settings
    fits = {(name, size): per_dimension(n, name, size) for name in s.kinds for size in s.sizes}
    for (name, size), each in fits.items():
        about = f"{name}, {size} dimensions"
        for label, f in each.items():
            note = f"nats per dimension, +- {f.error:.4f}"
            note += f"; at equal time {f.in_time:.3f}" if label in s.kinds[name] else ""
            table.row(f"{about}, {label}", f.gap, note=note)
        best = n.factorized.get(f"{name}, {size}")
        if best is not None:
            label = f"{about}: without a flow, the gap per dimension of the closed form"
            table.claim(each[GAUSSIAN].gap, "=", best / size, 0.01 + 3 * each[GAUSSIAN].error, label)
        if size > 8:
            a, b = each["IAF"], each["planar"]
            error = 2 * np.hypot(a.error, b.error)
            label = f"{about}: IAF closer than planar flows at equal"
            table.claim(a.gap, "<=", b.gap, error, f"{label} depth")
            table.claim(a.in_time, "<=", b.in_time, error, f"{label} time")
    least, most = min(s.sizes), max(s.sizes)
    for name in s.kinds:
        for kind, relation, word in (("planar", "<=", "less"), ("IAF", ">=", "more")):
            closed = [1.0 - fits[name, size][kind].gap / fits[name, size][GAUSSIAN].gap for size in (least, most)]
            label = f"{name}: the share of the Gaussian's gap that {kind} closes is in {most} dimensions {word} than "
            half = 0.5 * max(closed[0], 0.0)  # of less than nothing there is no half
            table.claim(closed[1], relation, half, 0.0, label + f"half of that in {least}")


@scaling.figure()
def _(n):
    """The gap per dimension against the dimensions, at equal depth and equal time."""
    s = n.settings
    fig = plots.figure(10.5, 3.4 * len(s.kinds))
    panels = fig.subplots(len(s.kinds), 2, sharex=True, sharey="row", squeeze=False)
    for row, name in zip(panels, s.kinds, strict=True):
        fits = [per_dimension(n, name, size) for size in s.sizes]
        for axes, when in zip(row, ("gap", "in_time"), strict=True):
            for label in fits[0]:
                if label in FLOWS:
                    style = plots.style(FLOWS.index(label))
                elif label == GAUSSIAN or when == "gap":
                    style = plots.style(5) | ({} if label == GAUSSIAN else {"marker": "x", "color": "#000000"})
                else:
                    continue
                values = [getattr(each[label], when) for each in fits]
                axes.plot(s.sizes, np.maximum(values, 1e-3), label=label, **style)
            title = f"{name}, depth {s.depth}, equal " + ("depth" if when == "gap" else "time")
            plots.panel(axes, title, "dimensions" if row is panels[-1] else "", log="xy").minorticks_off()
            axes.set_xticks(s.sizes, [str(size) for size in s.sizes])
        row[0].set_ylabel("KL(q || p), nats per dimension")
        row[1].legend(*row[0].get_legend_handles_labels(), fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig
