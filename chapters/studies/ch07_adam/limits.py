"""AdaGrad as a limit of Adam, and AdaMax as the limit of rules with an L^p norm (thesis sections 7.4.2 and 7.6.1)."""

# %% [markdown]
# ## Section 7.4.2: AdaGrad as a limit
#
# beta1 = 0, beta2 = 1 - delta, and alpha / sqrt(t) for alpha: as delta falls, v_hat becomes the mean of all g^2 so far,
# and the step AdaGrad's; the difference falls in proportion to delta. Without the correction AdaGrad's steps are
# multiplied by 1 / sqrt(t delta).

# %%
import functools
import math

import numpy as np
from scipy.special import logsumexp

from minivi import optim, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi.tensor import Parameter
from minivi_chapters.studies.ch07_adam._shared import TINY, steps_of


@experiment(
    "adagrad_limit",
    title="AdaGrad as a limit of Adam, with bias correction and without",
    mirrors="thesis section 7.4.2 (no figure there)",
    budgets={
        "quick": {"data": "synthetic", "steps": 300, "parameters": 50},
        "laptop": {"data": "synthetic", "steps": 3000, "parameters": 200},
        "paper": {"data": "synthetic", "steps": 30000, "parameters": 200},
    },
    minutes={"quick": 0.1, "laptop": 0.04, "paper": 0.23},
)
def adagrad_limit(run):
    """Steps of the two on the same gradients, of which most are 0, as delta = 1 - beta2 falls.

    Largest differences and steps: with correction for each delta, then without.
    """
    s = run.settings
    rng = Generator([run.seed, 75])
    shape = s.steps, s.parameters
    gradients = rng.standard_normal(shape) * (rng.random(shape) < 0.2)
    adagrad = steps_of(lambda p: optim.AdaGrad(p, 1.0, eps=TINY), gradients)
    deltas = 10.0 ** -np.arange(1, 15)
    largest, difference = [], []
    for correction in (True, False):
        for delta in deltas:
            settings = {"beta1": 0.0, "beta2": 1 - delta, "eps": TINY, "bias_correction": correction}
            new = functools.partial(optim.Adam, step_size=optim.inverse_sqrt(1.0), **settings)
            steps = steps_of(new, gradients)
            difference.append(np.abs(steps - adagrad).max())
            largest.append(np.abs(steps).max())
    return {"deltas": deltas, "difference": difference, "largest": largest}


def slope(deltas, values):
    """Of the logarithms."""
    return np.polyfit(np.log(deltas), np.log(values), 1)[0]


@adagrad_limit.table
def _(n, table):
    differences, sizes = n.difference.reshape(2, -1), n.largest.reshape(2, -1)
    for word, difference, largest in zip(("with", "without"), differences, sizes, strict=True):
        for k in (1, 4, 8, 12, 14):
            what = f"1 - beta2 = 1e-{k}, {word} correction: log10 of the largest difference"
            table.row(what, math.log10(difference[k - 1]), unit="", note=f"largest step {largest[k - 1]:.3g}")
    corrected, uncorrected = differences[0], sizes[1]
    closer, farther = slope(n.deltas[4:7], corrected[4:7]), slope(n.deltas[3:], uncorrected[3:])
    table.check(closer, "=", 1.0, 0.05, "with correction the difference falls in proportion to 1 - beta2: slope")
    says = table.says(
        "thesis 7.4.2", "AdaGrad corresponds to a version of Adam with beta1 = 0, infinitesimal (1 - beta2) and a "
        "replacement of alpha by an annealed version",
    )  # fmt: skip
    says(corrected[7], "=", 0.0, 1e-6, "with correction: largest difference of the steps at 1 - beta2 = 1e-8, in alpha")
    says = table.says(
        "thesis 7.4.2", "without bias correction, like in RMSProp, a beta2 infinitesimally close to 1 would lead to "
        "infinitely large bias, and infinitely large parameter updates.",
    )  # fmt: skip
    says(farther, "<=", 0.0, 0.0, "without: slope of log largest step over log (1 - beta2), which is -1/2 by theory")


@adagrad_limit.figure()
def _(n):
    fig = plots.figure(8.5, 3.9)
    panels = fig.subplots(1, 2)
    titles = "Largest difference from AdaGrad's step", "Largest step"
    for axes, title, values in zip(panels, titles, (n.difference, n.largest), strict=True):
        for i, (name, line) in enumerate(zip(("with bias correction", "without"), values.reshape(2, -1), strict=True)):
            axes.plot(n.deltas, line, label=name, **plots.style(i) | {"markevery": 1})
        plots.panel(axes, title, r"$1 - \beta_2$", r"in units of $\alpha$", log="xy")
    thin = {"color": "black", "linewidth": 0.7, "linestyle": ":"}
    panels[1].plot(n.deltas, n.deltas**-0.5, label=r"$(1-\beta_2)^{-1/2}$", **thin)
    for axes in panels:
        axes.legend(fontsize=7)
    fig.suptitle(r"Adam with $\beta_1 = 0$ and step size $\alpha / \sqrt{t}$, as $\beta_2$ goes to 1", fontsize=10)
    return fig


# %% [markdown]
# ## Section 7.6.1: from Adam to AdaMax
#
#     v_t = beta2^p v + (1 - beta2^p) |g|^p,    v_t^(1/p) -> u_t = max_i beta2^(t - i) |g_i|        (eq. 7.5-7.10)
#
# The largest of t terms is at least their sum over t, so that v_t^(1/p) lies between (1 - beta2^p)^(1/p) u and
# (t (1 - beta2^p))^(1/p) u: both go to u like 1 / p. Computed as written, |g|^p leaves the range of floats long before.


# %%
def log_norms(gradients, beta2, p):
    """log(v_t^(1/p)) of eq. 7.6 at each t in logarithms, which do not overflow: (T,) -> (T,)."""
    t = np.arange(1, len(gradients) + 1)
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(gradients))
    return np.array([
        (np.log(-np.expm1(p * np.log(beta2))) + logsumexp(p * ((n - t[:n]) * np.log(beta2) + logs[:n]))) / p for n in t
    ])  # fmt: skip


def naive_norms(gradients, beta2, p, dtype):
    """v_t^(1/p) by the recursion of eq. 7.5 as written."""
    v, norms, beta = dtype(0), [], dtype(beta2) ** dtype(p)
    with np.errstate(all="ignore"):
        for g in gradients.astype(dtype):
            v = beta * v + (dtype(1) - beta) * np.abs(g) ** dtype(p)
            norms.append(v ** dtype(1 / p))
    return np.array(norms, float)


SHOWN = 150  # steps in the picture


@experiment(
    "adamax",
    title="AdaMax as the limit of rules with an L^p norm",
    mirrors="thesis section 7.6.1, eq. 7.5-7.11 (no figure there)",
    budgets={
        "quick": {"data": "synthetic", "steps": 150},
        "laptop": {"data": "synthetic", "steps": 400},
        "paper": {"data": "synthetic", "steps": 2000},
    },
    minutes={"quick": 0.1, "laptop": 0.022, "paper": 0.05},
)
def adamax(run):
    """v^(1/p) for growing p beside AdaMax's own u."""
    rng = Generator([run.seed, 76])
    count, beta2 = run.settings.steps, 0.99
    gradients = 0.02 * rng.standard_normal(count) * np.where(rng.random(count) < 0.03, 6.0, 1.0)
    p = Parameter(np.zeros(1))
    optimizer, u = optim.AdaMax([p], beta2=beta2), []
    for g in gradients:
        optimizer.step([np.array([g])])
        u.append(optimizer.state_dict()["0.u"].item())
    u, t, powers = np.array(u), np.arange(1, count + 1), 2 ** np.arange(0, 14)
    norms = {int(k): np.exp(log_norms(gradients, beta2, float(k))) for k in powers}
    ratios = {k: np.log(norm / u) for k, norm in norms.items()}
    outside = [
        max(np.max(np.log(-np.expm1(k * np.log(beta2))) / k - ratio),
            np.max(ratio - np.log(-t * np.expm1(k * np.log(beta2))) / k))
        for k, ratio in ratios.items()
    ]  # fmt: skip
    right = {
        dtype.__name__: [
            np.mean(np.abs(naive_norms(gradients, beta2, float(k), dtype) / norm - 1) < 0.01)
            for k, norm in norms.items()
        ]
        for dtype in (np.float32, np.float64)
    }
    return {
        "powers": powers,
        "error": [np.abs(ratio).max() for ratio in ratios.values()],
        "outside": max(outside),
        "right": right,
        "gradients": gradients[:SHOWN],
        "norms": {str(k): norms[k][:SHOWN] for k in (1, 2, 8, 64)},
        "u": u[:SHOWN],
    }


@adamax.table
def _(n, table):
    single, double = n.right["float32"], n.right["float64"]
    for i in range(0, len(n.powers), 2):
        note = f"as written, right in {100 * single[i]:.0f} % (float32), {100 * double[i]:.0f} % (float64) of steps"
        what = f"log10 of the largest |log(v^(1/p) / u)|, p = {n.powers[i]}"
        table.row(what, math.log10(n.error[i]), unit="", note=note)
    label = f"eq. 7.10: v^(1/p) goes to u: log-ratio at p = {n.powers[-1]}"
    table.check(n.error[-1], "<=", 2e-3, 0.0, label)
    table.check(n.outside, "<=", 0.0, 1e-9, "and lies between its bounds for each p and t")
    says = table.says("thesis 7.6.1", "Such variants become numerically unstable for large p.")
    label = f"eq. 7.5 as written, float64: share of steps right to 1 % at p = {n.powers[-1]}, and at p = 2"
    says(double[-1], "<=", double[1], 0.0, label)


@adamax.figure()
def _(n):
    fig = plots.figure(11.0, 3.7)
    panels = fig.subplots(1, 3)
    t = np.arange(1, len(n.u) + 1)
    panels[0].bar(t, np.abs(n.gradients), color="#bbbbbb", width=1.0, label="$|g_t|$")
    for i, (power, norm) in enumerate(n.norms.items()):
        panels[0].plot(t, norm, label=f"p = {power}", **plots.style(i + 1, SHOWN))
    panels[0].plot(t, n.u, label="$u_t$", color="black", linewidth=1.3)
    panels[0].set_ylim(0, 1.6 * n.u.max())
    panels[0].legend(fontsize=7, ncols=3)
    title = r"$v_t^{1/p}$ and AdaMax's $u_t$, $\beta_2 = 0.99$"
    plots.panel(panels[0], title, "t", "gradient's unit")
    panels[1].plot(n.powers, n.error, "ko-", markersize=4, linewidth=1)
    plots.panel(panels[1], r"Largest $|\log(v_t^{1/p} / u_t)|$ over t", "p", log="xy")
    for i, (dtype, share) in enumerate(n.right.items()):
        panels[2].plot(n.powers, share, label=dtype, **plots.style(i) | {"markevery": 1})
    panels[2].legend(fontsize=7)
    plots.panel(panels[2], "Eq. 7.5 as written: steps right to 1 %", "p", "share of steps", log="x")
    fig.suptitle(r"The $L^p$ norm's rule for growing p", fontsize=10)
    return fig
