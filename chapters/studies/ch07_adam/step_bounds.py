"""How far a step of Adam and of AdaMax can go, and what it does not depend on (thesis sections 7.2.1 and 7.6.1)."""

# %% [markdown]
# ## Section 7.2: how far a step can go
#
# The text bounds the step by alpha (1 - beta1) / sqrt(1 - beta2) where that is above alpha, else by alpha, and gives
# the first case to gradients that were 0 until now. Both hold for a single gradient that is not 0, but not in general.
# With weights g_i of the past gradients, k steps back, Cauchy and Schwarz say
#
#     sum_k beta1^k g_k <= sqrt(sum_k beta2^k g_k^2) sqrt(sum_k (beta1^2 / beta2)^k),   equal if g_k ~ (beta1 / beta2)^k
#
# so that gradients which grow by beta2 / beta1 a step make the largest steps, at any t no more than
#
#     alpha (1 - beta1) / sqrt((1 - beta2) (1 - beta1^2 / beta2))
#
# or 7.27 alpha at the defaults, and without limit if beta1^2 >= beta2. Its square less alpha^2 has the sign of
# (beta2 - beta1)^2: only beta1 = beta2 keeps all steps within alpha. No exotic gradients are needed: a parameter whose
# gradient was 0 and now is steady makes steps of 6.57 alpha.
#
# AdaMax's steps are said to be at most alpha. The most that |g_k| <= u / beta2^k allows is gradients that shrink by
# beta2 a step, and alpha (1 - beta1) / (1 - beta1 / beta2): 1.009 alpha.

# %%
import math

import numpy as np

from minivi import optim, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi.tensor import Parameter
from minivi_chapters.studies.ch07_adam._shared import TINY, steps_of


def printed_limit(beta1, beta2):
    """The larger of section 7.2.1's two bounds on |step| / alpha."""
    return max(1.0, (1 - beta1) / math.sqrt(1 - beta2))


def adam_limit(beta1, beta2, t=math.inf):
    """The largest |step| / alpha of Adam at step t; beta1^2 < beta2."""
    ratio = beta1**2 / beta2
    whole = (1 - beta1) / math.sqrt((1 - beta2) * (1 - ratio))
    return whole * math.sqrt((1 - beta2**t) * (1 - ratio**t)) / (1 - beta1**t)


def adamax_limit(beta1, beta2, t=math.inf):
    """The largest |step| / alpha of AdaMax at step t; beta1 < beta2."""
    ratio = beta1 / beta2
    return (1 - beta1) / (1 - ratio) * (1 - ratio**t) / (1 - beta1**t)


def largest_step(beta1, beta2):
    """|step| / alpha after gradients that grow by beta2 / beta1, with silence before for 1 - beta2^t to be near 1."""
    growing = (beta2 / beta1) ** np.arange(-200.0, 1.0)
    silence = np.zeros(int(8 / (1 - beta2)))
    gradients = np.concatenate([silence, growing])
    return steps_of(lambda p: optim.Adam(p, 1.0, beta1=beta1, beta2=beta2, eps=TINY), gradients)[-1], len(gradients)


def crafted(silence, after):
    """Gradient sequences, (silence + after, 4), and their names."""
    t = np.arange(silence + after)
    k = t - silence
    sequences = {
        "one gradient, zeros before and after": k == 0,
        "zeros, then a steady gradient": k >= 0,
        r"zeros, then growing by $\beta_2/\beta_1$": np.where(k >= 0, (0.999 / 0.9) ** np.minimum(k - after, 0.0), 0.0),
        "the same gradient from the start": np.ones(len(t)),
    }
    return list(sequences), np.stack([np.asarray(g, float) for g in sequences.values()], axis=1)


SILENCE, AFTER = 8000, 60  # steps of the crafted sequences
ADAM_BETA2 = [0.9, 0.95, 0.99, 0.999, 0.9997]
ADAMAX_BETA2 = [0.92, 0.95, 0.99, 0.999]
SIGNALS = np.array([0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0])  # mean over standard deviation
SCALES = 10.0 ** np.arange(-10, 3)
TRAVELLERS = {
    "Adam, eps = 1e-8": lambda p: optim.Adam(p, 0.01),
    "Adam, eps = 0": lambda p: optim.Adam(p, 0.01, eps=TINY),
    "AdaMax": lambda p: optim.AdaMax(p, 0.01),
    "gradient descent": lambda p: optim.SGD(p, 0.01),
}
TRAVEL = 4000  # steps at most


@experiment(
    "step_bounds",
    title="how far a step can go, and what it does not depend on",
    mirrors="thesis section 7.2.1 and the bound of 7.6.1 (no figure there)",
    budgets={
        "quick": {"data": "synthetic", "draws": 500, "steps": 500},
        "laptop": {"data": "synthetic", "draws": 2000, "steps": 1000},
        "paper": {"data": "synthetic", "draws": 10000, "steps": 1000},
    },
    minutes={"quick": 0.1, "laptop": 0.06, "paper": 2},
)
def step_bounds(run):
    """Crafted sequences for the bounds; noise for the signal-to-noise ratio; rescaled objectives."""
    names, gradients = crafted(SILENCE, AFTER)
    steps = np.abs(steps_of(lambda p: optim.Adam(p, 1.0, eps=TINY), gradients))
    largest, at = zip(*(largest_step(0.9, beta2) for beta2 in ADAM_BETA2), strict=True)
    decaying = np.array([[b**t for b in ADAMAX_BETA2] for t in range(600)])
    adamax = [
        steps_of(lambda p, b=b: optim.AdaMax(p, 1.0, beta2=b), decaying[:, i])[-1] for i, b in enumerate(ADAMAX_BETA2)
    ]
    return {
        "largest": dict(zip(names, steps.max(axis=0), strict=True)),
        "crafted": steps[SILENCE:],
        "adam": {"largest": largest, "step": at},
        "adamax": adamax,
        "signals": signals(run),
        "scales": {name: scales(new) for name, new in TRAVELLERS.items()},
        "annealing": annealing(run),
    }


# %% [markdown]
# ### What a step tells
#
# Gradients of mean rho and standard deviation 1 have E g / sqrt(E g^2) = rho / sqrt(1 + rho^2), which is the mean step
# in units of alpha. Pure noise makes that 0 but not the steps: m_hat has (1 - beta1) / (1 + beta1) times the variance,
# hence steps of 0.23 alpha at the defaults. So the "automatic annealing" near an optimum does not go on to 0; it even
# overshoots at first, as v remembers the larger gradients of the way there.
#
# Rescaling an objective changes no step, down to where the gradient meets eps; gradient descent's steps go with it. In
# other words alpha is a distance: to go 3 with alpha = 0.01 takes 300 steps or more, whatever the objective's unit.


# %%
def signals(run):
    """Mean, its standard error and root mean square of the step at each ratio of signal to noise."""
    s = run.settings
    noise = Generator([run.seed, 72]).standard_normal((s.steps, s.draws, len(SIGNALS)))
    steps = steps_of(lambda p: optim.Adam(p, 1.0, eps=TINY), SIGNALS + noise)[-1]  # of independent draws
    return {
        "mean": steps.mean(axis=0),
        "error": steps.std(axis=0, ddof=1) / math.sqrt(s.draws),
        "size": np.sqrt((steps**2).mean(axis=0)),
    }


def expected_steps(rho):
    """Mean and root mean square of a step / alpha, predicted, at a ratio of signal to noise."""
    return rho / np.sqrt(1 + rho**2), np.sqrt((rho**2 + 0.1 / 1.9) / (1 + rho**2))


def scales(new_optimizer):
    """Steps until theta has gone from 0 to within 0.1 of 3, for c (theta - 3)^2 / 2 with many c at once; NaN: never."""
    p, first = Parameter(np.zeros(len(SCALES))), np.full(len(SCALES), np.nan)
    optimizer = new_optimizer([p])
    for t in range(1, TRAVEL + 1):
        optimizer.step([SCALES * (p.data - 3)])
        first[np.isnan(first) & (np.abs(p.data - 3) <= 0.1)] = t
    return first


def annealing(run):
    """Root mean square step and distance on the way to the optimum of a noisy quadratic."""
    s = run.settings
    rng, p = Generator([run.seed, 73]), Parameter(np.full(s.draws, 10.0))
    optimizer, size, distance = optim.Adam([p], 0.05), [], []
    for _ in range(800):
        before = p.data.copy()
        optimizer.step([before + rng.standard_normal(s.draws)])
        size.append(math.sqrt(np.mean((p.data - before) ** 2)) / 0.05)
        distance.append(math.sqrt(np.mean(p.data**2)))
    return {"size": size, "distance": distance}


# %%
@step_bounds.table
def _(n, table):
    """The bounds."""
    printed, tight = printed_limit(0.9, 0.999), adam_limit(0.9, 0.999)
    for i, (name, largest) in enumerate(n.largest.items()):
        what, bound = f"Adam, {name}".replace(r"$\beta_2/\beta_1$", "beta2 / beta1"), 1.0 if i == 3 else printed
        note = f"defaults; published: section 7.2.1's bound, {'alpha' if i == 3 else 'sparse case'}"
        table.row(what, largest, bound, unit="alpha", note=note)
    first, most = next(iter(n.largest.values())), max(n.largest.values())
    says = table.says(
        "thesis 7.2.1", "The effective stepsize has two upper bounds: |step| <= alpha (1 - beta1) / sqrt(1 - beta2) in "
        "the case (1 - beta1) > sqrt(1 - beta2), and |step| <= alpha otherwise. The first case only happens ... when a "
        "gradient has been zero at all timesteps except at the current timestep.",
    )  # fmt: skip
    says(first, "<=", printed, 1e-9, "a single gradient that is not 0: the largest step / alpha, and the bound")
    says(most, "<=", printed, 1e-9, "the other crafted gradients: the largest step / alpha, and the bound")
    table.check(most, "<=", tight, 1e-9, "the limit by Cauchy and Schwarz holds for all crafted gradients")
    table.check(most, ">=", 0.99 * tight, 0.0, "and is reached, to 1 %")

    largest = dict(zip(ADAM_BETA2, n.adam["largest"], strict=True))
    for (beta2, ours), t in zip(largest.items(), n.adam["step"].tolist(), strict=True):
        note = f"beta1 = 0.9, beta2 = {beta2}; tight limit {adam_limit(0.9, beta2):.4f}; published: section 7.2.1"
        table.row("Adam, largest step", ours, printed_limit(0.9, beta2), unit="alpha", note=note)
        error = abs(ours - adam_limit(0.9, beta2, t))
        table.check(error, "=", 0.0, 1e-9, f"beta2 = {beta2}: the largest step is the limit's at its t")
    says = table.says(
        "thesis 7.2.1", "When (1 - beta1) = sqrt(1 - beta2) we have that |m / sqrt(v)| < 1 therefore |step| < alpha."
    )
    says(largest[0.99], "<=", 1.0, 0.0, "beta1 = 0.9, beta2 = 0.99: the largest step / alpha")

    for beta2, ours in zip(ADAMAX_BETA2, n.adamax, strict=True):
        note = f"gradients beta2^t, beta2 = {beta2}; tight limit {adamax_limit(0.9, beta2):.5f}; published: 7.6.1"
        table.row("AdaMax, largest step", ours, 1.0, unit="alpha", note=note)
        table.check(ours, "=", adamax_limit(0.9, beta2), 1e-3, f"AdaMax, beta2 = {beta2}: the tight limit")
    says = table.says(
        "thesis 7.6.1", "Also note that the magnitude of parameter updates has a simpler bound with AdaMax than Adam, "
        "namely: |step| <= alpha.",
    )  # fmt: skip
    says(n.adamax[-1], "<=", 1.0, 0.0, "AdaMax at the defaults: the largest step / alpha")


@step_bounds.table
def _(n, table):
    """What a step tells."""
    mean, error, size = (n.signals[name] for name in ("mean", "error", "size"))
    expected, expected_size = expected_steps(SIGNALS)
    for rho, m, p, e in zip(SIGNALS, mean, expected, error, strict=True):
        note = f"+- {e:.3f}; published: E g / sqrt(E g^2)"
        table.row(f"mean step, signal to noise {rho:g}", m, p, "alpha", note)
    note = "sqrt((1 - beta1) / (1 + beta1)) = 0.229"
    table.row("root mean square step of pure noise", size[0], unit="alpha", note=note)
    off = np.abs(mean - expected) - 4 * error
    label = "the mean step is alpha E g / sqrt(E g^2), to 0.01 and 4 standard errors"
    table.check(off.max(), "<=", 0.0, 0.01, label)
    table.check(np.abs(size - expected_size).max(), "=", 0.0, 0.02, "its root mean square is as predicted")
    says = table.says("thesis 7.2.1", "With a smaller SNR the effective stepsize will be closer to zero.")
    smallest = np.diff(mean).argmin()
    label = "the mean step at the next higher ratio, less that at the lower: smallest"
    error = float(np.hypot(*error[smallest : smallest + 2]))
    says(np.diff(mean)[smallest], ">=", 0.0, 0.0, label, standard_error=error)

    for name, steps in n.scales.items():
        for i in (0, 3, 7, 10, 12):
            if np.isfinite(steps[i]):
                table.row(f"steps from 0 to 3, {name}, c = {SCALES[i]:g}", steps[i], unit="steps")
    free, usual = n.scales["Adam, eps = 0"], n.scales["Adam, eps = 1e-8"]
    label = "Adam's steps do not depend on the gradients' scale: steps to go 3, spread"
    table.check(np.ptp(free), "=", 0.0, 0.0, label)
    says = table.says(
        "thesis 9.3", "we use the Adam and Adamax optimization methods ...; these methods are invariant to constant "
        "rescaling of the objective, and invariant to constant re-scalings of the individual gradients.",
    )  # fmt: skip
    for name, steps in (("Adam", usual), ("AdaMax", n.scales["AdaMax"])):
        label = f"{name} at its defaults, c from 1e-10 to 100: steps to go 3, most less fewest"
        says(np.ptp(np.nan_to_num(steps, nan=TRAVEL)), "=", 0.0, 0.0, label)
    says = table.says(
        "thesis 7.1", "the magnitudes of parameter updates are invariant to rescaling of the gradient, its step-sizes "
        "are approximately bounded by the stepsize hyperparameter",
    )  # fmt: skip
    label = "Adam, eps = 1e-8, c of 1e-4 and more: steps to go 3, most less fewest"
    says(np.ptp(usual[SCALES >= 1e-4]), "=", 0.0, 1.0, label)
    says(np.nanmin(free), ">=", 2.9 / 0.01, 0.0, "steps that it takes to go 2.9, and 2.9 / alpha")
    says = table.says(
        "thesis 7.2.1", "the SNR value typically becomes closer to 0 towards an optimum, leading to smaller effective "
        "steps in parameter space: a form of automatic annealing.",
    )  # fmt: skip
    early, late = np.mean(n.annealing["size"][:50]), np.mean(n.annealing["size"][-50:])
    says(late, "<=", early, 0.0, "root mean square step / alpha near the optimum, and on the way there")


@step_bounds.figure()
def _(n):
    fig = plots.figure(11.0, 6.6)
    panels = fig.subplots(2, 3)
    draw_bounds(n, panels[0])
    draw_what_a_step_tells(n, panels[1])
    fig.suptitle("What bounds a step, and what does not change it", fontsize=10)
    return fig


def draw_bounds(n, panels):
    """Crafted gradients; the bounds of Adam, and of AdaMax, as beta2 goes to 1."""
    for i, name in enumerate(n.largest):
        panels[0].plot(np.arange(AFTER), n.crafted[:, i], label=name, **plots.style(i, AFTER))
    printed, tight = printed_limit(0.9, 0.999), adam_limit(0.9, 0.999)
    for value, name in ((printed, "printed bound, 3.16"), (tight, "tight limit, 7.27")):
        panels[0].axhline(value, color="black", linewidth=0.7, linestyle=":")
        panels[0].text(AFTER - 1, value + 0.25, name, fontsize=7, ha="right")
    panels[0].set_ylim(0, 12)
    panels[0].legend(fontsize=7, loc="upper left")
    title = "Adam at its defaults: crafted gradients"
    plots.panel(panels[0], title, f"step after {SILENCE} zeros", r"$|\Delta_t| / \alpha$")

    line, measured = 1 - np.geomspace(1e-4, 0.15, 60), {"markersize": 4, "label": "largest, measured"}
    panels[1].plot(1 - line, [printed_limit(0.9, b) for b in line], label="printed", **plots.STYLES[1] | plots.THIN)
    panels[1].plot(1 - line, [adam_limit(0.9, b) for b in line], label="tight", color="black", linewidth=1.2)
    panels[1].plot([1 - b for b in ADAM_BETA2], n.adam["largest"], "ko", **measured)
    axes_names = r"$1 - \beta_2$", r"largest $|\Delta_t| / \alpha$"
    plots.panel(panels[1], r"Adam's bounds, $\beta_1 = 0.9$", *axes_names, log="xy")

    line, measured = 1 - np.geomspace(1e-4, 0.085, 60), {"markersize": 4, "label": r"gradients $\beta_2^t$, measured"}
    panels[2].plot(1 - line, [adamax_limit(0.9, b) for b in line], label="tight", color="black", linewidth=1.2)
    panels[2].plot([1 - b for b in ADAMAX_BETA2], n.adamax, "ko", **measured)
    panels[2].axhline(1.0, label="printed", **plots.STYLES[1] | plots.THIN)
    plots.panel(panels[2], r"AdaMax's bounds, $\beta_1 = 0.9$", *axes_names, log="x")
    for axes in panels[1:]:
        axes.legend(fontsize=7)


def draw_what_a_step_tells(n, panels):
    """Steps by signal to noise, steps of a rescaled objective, and steps near a noisy optimum."""
    x = np.linspace(0, 5, 200)
    mean, size = expected_steps(x)
    panels[0].plot(x, mean, color="black", linewidth=1, label=r"$E g / \sqrt{E g^2}$")
    panels[0].plot(x, size, "k--", linewidth=1, label="root mean square, predicted")
    panels[0].plot(SIGNALS, n.signals["mean"], "ko", markersize=4, label="mean step")
    style = {"markersize": 4, "markerfacecolor": "white"}
    panels[0].plot(SIGNALS, n.signals["size"], "ks", label="root mean square step", **style)
    title = "The ratio of signal to noise sets the step"
    plots.panel(panels[0], title, "mean / standard deviation of g", r"$\Delta_t / \alpha$")

    for i, (name, steps) in enumerate(n.scales.items()):
        panels[1].plot(SCALES, steps, label=name, **plots.style(i) | {"markevery": 1})
    title = "From 0 to 3 with step size 0.01, objective times c"
    plots.panel(panels[1], title, "c", f"steps, of {TRAVEL}", log="xy")

    panels[2].plot(n.annealing["size"], label=r"step / $\alpha$", **plots.style(0, 800))
    panels[2].plot(n.annealing["distance"] / 10, label="distance / 10", **plots.style(1, 800))
    panels[2].axhline(math.sqrt(0.1 / 1.9), color="black", linewidth=0.7, linestyle=":")
    panels[2].text(800, 0.25, "pure noise: 0.23", fontsize=7, ha="right")
    plots.panel(panels[2], "Shorter steps near a noisy optimum", "step", "root mean square")
    for axes in panels:
        axes.legend(fontsize=7)
