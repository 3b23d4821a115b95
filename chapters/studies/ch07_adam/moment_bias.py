"""The bias of Adam's running averages, measured and by formula (thesis section 7.3, eq. 7.1-7.4)."""

# %% [markdown]
# ## Section 7.3: what is biased, and by how much
#
#     v_t = (1 - beta2) sum_i beta2^(t - i) g_i^2                                  (eq. 7.1)
#     E v_t = E g_t^2 (1 - beta2^t) + zeta                                         (eq. 7.4)
#     zeta = (1 - beta2) sum_i beta2^(t - i) (E g_i^2 - E g_t^2)                   0 if E g_t^2 stays the same
#
# A short memory keeps zeta small: beta2 is meant where the text says beta1. And it is beta2 *near 1*, not a small one,
# at which a lack of correction makes the first steps too large, by (1 - beta1) / sqrt(1 - beta2) at t = 1.

# %%
import math

import numpy as np

from minivi import optim, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi.tensor import Parameter
from minivi_chapters.studies.ch07_adam._shared import TINY

DECAYS = [0.9, 0.99, 0.999, 0.9999]
KINDS = ("stationary", "dying down")


def zeta(beta2, second):
    """zeta of eq. 7.4 at each t: E g_t^2 (T,) -> (T,)."""
    average, values = 0.0, []
    for t, e in enumerate(second, 1):
        average = beta2 * average + (1 - beta2) * e
        values.append(average - e * (1 - beta2**t))
    return np.array(values)


def law(kind, t):
    """Mean and standard deviation of the gradient at each step ``t``."""
    if kind == "stationary":
        return np.full(len(t), 0.5), np.ones(len(t))
    return 0.5 * np.exp(-t / 100), 0.3 + 2 * np.exp(-t / 100)


def second_moment(kind, t):
    """E g_t^2."""
    mean, deviation = law(kind, t)
    return mean**2 + deviation**2


def times(s):
    """All steps, and those at which moments are kept, about evenly on a logarithmic axis."""
    return np.arange(1, s.steps + 1), np.unique(np.geomspace(1, s.steps, 24).astype(int))


def averages(run, kind, beta2):
    """Mean of Adam's m, its standard error, the same of v, at the kept steps (24, 4); root mean square of each step
    with and without correction (T, 2)."""
    s = run.settings
    (t, at), rng = times(s), Generator([run.seed, 74])  # the same gradients for each beta2
    p, plain = (Parameter(np.zeros(s.draws)) for _ in range(2))
    corrected = optim.Adam([p], 1.0, beta2=beta2, eps=TINY)
    uncorrected = optim.Adam([plain], 1.0, beta2=beta2, eps=TINY, bias_correction=False)
    moments, sizes = [], []
    for step, mean, deviation in zip(t, *law(kind, t), strict=True):
        g = mean + deviation * rng.standard_normal(s.draws)
        before = p.data.copy(), plain.data.copy()
        corrected.step([g])
        uncorrected.step([g])
        sizes.append([math.sqrt(np.mean((a.data - b) ** 2)) for a, b in zip((p, plain), before, strict=True)])
        if step in at:
            state = corrected.state_dict()
            m, v = state["0.m"], state["0.v"]
            moments.append([m.mean(), m.std(ddof=1), v.mean(), v.std(ddof=1)])
    moments = np.array(moments)
    moments[:, 1::2] /= math.sqrt(s.draws)
    return moments, np.array(sizes)


def deviation_from_formula(s, kind, beta2, moments):
    """The largest distance of m and v from eq. 7.4, in standard errors."""
    t, at = times(s)
    mean, second = law(kind, t)[0], second_moment(kind, t)
    # zeta's formula is that of any running average: of E g_t for m
    first = mean * (1 - 0.9**t) + zeta(0.9, mean)
    expected = second * (1 - beta2**t) + zeta(beta2, second)
    off = np.abs([moments[:, 0] - first[at - 1], moments[:, 2] - expected[at - 1]]) / moments[:, 1::2].T
    return off.max()


@experiment(
    "moment_bias",
    title="the bias of the running averages, measured and by formula",
    mirrors="thesis section 7.3, eq. 7.1-7.4 (no figure there)",
    budgets={
        "quick": {"data": "synthetic", "draws": 1000, "steps": 600},
        "laptop": {"data": "synthetic", "draws": 10000, "steps": 2000},
        "paper": {"data": "synthetic", "draws": 100000, "steps": 2000},
    },
    minutes={"quick": 0.1, "laptop": 0.043, "paper": 7},
)
def moment_bias(run):
    """Averages over draws of Adam's own m and v, for gradients that stay alike and for gradients that die down."""
    moments, steps, worst = {kind: {} for kind in KINDS}, [], 0.0
    for kind in KINDS:
        for beta2 in DECAYS:
            moments[kind][str(beta2)], sizes = averages(run, kind, beta2)
            worst = max(worst, deviation_from_formula(run.settings, kind, beta2, moments[kind][str(beta2)]))
            if kind == "stationary":
                steps.append(sizes)
    return {"standard_errors": worst, "moments": moments, "steps": np.array(steps)}


@moment_bias.table
def _(n, table):
    t, at = times(n.settings)
    for beta2 in DECAYS:
        (v, e), scale = n.moments["stationary"][str(beta2)][0, 2:], 1 / (1.25 * (1 - beta2))
        note = f"+- {e * scale:.3f}; published: eq. 7.4"
        table.row(f"E v_1 / ((1 - beta2) E g^2), beta2 = {beta2}", v * scale, 1.0, "", note)
    here = int(np.abs(at - (min(300, n.settings.steps) - 1)).argmin())
    time, second, relative, errors = at[here], second_moment("dying down", t), {}, {}
    for beta2 in DECAYS:
        v, e = n.moments["dying down"][str(beta2)][here, 2:]
        relative[beta2] = (v / (1 - beta2**time)) / second[time - 1] - 1
        formula = zeta(beta2, second)[time - 1] / (1 - beta2**time) / second[time - 1]
        errors[beta2] = error = e / (1 - beta2**time) / second[time - 1]
        note = f"+- {error:.3f}; t = {time}, gradients dying down; published: eq. 7.4 with zeta"
        table.row(f"v_hat / E g^2 - 1, beta2 = {beta2}", relative[beta2], formula, "", note)
    first = dict(zip(DECAYS, n.steps[:, 0], strict=True))  # corrected, not corrected
    for beta2, (_, ours) in first.items():
        note = "published: (1 - beta1) / sqrt(1 - beta2)"
        published = 0.1 / math.sqrt(1 - beta2)
        table.row(f"step 1 without correction, beta2 = {beta2}", ours, published, "alpha", note)
    count = 4 * len(DECAYS) * len(at)
    label = f"eq. 7.4: the largest of {count} deviations in standard errors"
    table.check(n.standard_errors, "<=", 4.5, 0.0, label)
    says = table.says(
        "thesis 7.3", "zeta can be kept small since the exponential decay rate ... can (and should) be chosen such "
        "that the exponential moving average assigns small weights to gradients too far in the past.",
    )  # fmt: skip
    label = "v_hat / E g^2 - 1 where gradients die down, by a short memory, beta2 = 0.9, and by 0.999"
    error = float(np.hypot(errors[0.9], errors[0.999]))
    says(relative[0.9], "<=", relative[0.999], 0.0, label, standard_error=error)
    says = table.says(
        "thesis 7.4.1", "this matters most in case of a value of beta2 close to 1 ..., since in that case not "
        "correcting the bias leads to very large stepsizes",
    )  # fmt: skip
    label = "first step / alpha, beta2 = 0.9999: not corrected, and corrected"
    says(first[0.9999][1], ">=", first[0.9999][0], 0.0, label)
    says = table.says(
        "thesis 7.3", "however it is exactly this case of small beta2 where a lack of initialization bias correction "
        "would lead to initial steps that are much larger.",
    )  # fmt: skip
    says(first[0.9][1], ">=", first[0.9][0], 0.0, "first step / alpha, beta2 = 0.9: not corrected, and corrected")


@moment_bias.figure()
def _(n):
    """Lines by formula, marks measured; then the steps."""
    (t, at), second = times(n.settings), second_moment("dying down", np.arange(1, n.settings.steps + 1))
    fig = plots.figure(11.0, 3.9)
    panels = fig.subplots(1, 3)
    for beta2, steps, style in zip(DECAYS, n.steps, plots.STYLES, strict=False):
        stay, die = (n.moments[kind][str(beta2)][:, 2] for kind in KINDS)
        dots = {"color": style["color"], "marker": style["marker"], "markersize": 4, "linestyle": ""}
        line = style | {"marker": "", "linewidth": 1.1, "label": rf"$\beta_2$ = {beta2}"}
        panels[0].plot(t, 1 - beta2**t, **line)
        panels[0].plot(at, stay / 1.25, **dots)
        panels[1].plot(t, second + zeta(beta2, second) / (1 - beta2**t), **line)
        panels[1].plot(at, die / (1 - beta2**at), **dots)
        panels[2].plot(t, steps[:, 1], **line)
    thick = {"color": "black", "linewidth": 2.5, "alpha": 0.35}
    panels[1].plot(t, second, label=r"$E g_t^2$", **thick)
    panels[2].plot(t, n.steps[DECAYS.index(0.999), :, 0], label="corrected", **thick)
    plots.panel(panels[0], "Stationary: lines by eq. 7.4, marks measured", "t", r"$E v_t / E g^2$", log="x")
    title = r"Dying down: the corrected $\hat v_t$ and what it estimates"
    plots.panel(panels[1], title, "t", r"$E \hat v_t$", log="xy")
    y = r"root mean square step / $\alpha$"
    plots.panel(panels[2], "Stationary: steps without correction", "t", y, log="xy")
    for axes, place in zip(panels, ("upper left", "lower left", "upper right"), strict=True):
        axes.legend(fontsize=7, loc=place)
    fig.suptitle("Bias of the running averages, which start at 0", fontsize=10)
    return fig
