"""How far the comparison of AEVB and wake-sleep depends on the number of hidden units (section 2.11.1)."""

# %% [markdown]
# ## Section 2.11.1: other numbers of hidden units
#
# The text has 500, and says that it hardly matters which for the *comparison*. So both methods are trained at several
# numbers of hidden units, and what counts is the distance between them: its sign at each, and how far it moves.

# %%
import numpy as np

from minivi import plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi_chapters.studies.ch02_aevb._shared import LOSSES, budgets, trained
from minivi_chapters.studies.ch02_aevb.bound import TEXT_EPOCHS


@experiment(
    "hidden_units",
    title="the lower bound by AEVB and wake-sleep for several numbers of hidden units",
    mirrors="thesis section 2.11.1",
    budgets=budgets(
        {"hidden_units": [50, 100], "latents": 10, "seeds": 2, "epochs": 60},
        {"hidden_units": [100, 200, 500], "latents": 10, "seeds": 3},
        {"hidden_units": [100, 200, 500, 1000], "latents": 10, "seeds": 3},
    ),
    minutes={"quick": 0.3, "laptop": 13, "paper": 60 * 30},
)
def hidden_units(run):
    """Train by both methods at each number of hidden units: test bounds, (seeds, epochs)."""
    s = run.settings
    curves = {}
    for hidden in s.hidden_units:
        for method in LOSSES:
            histories = [trained(run, s.latents, run.seed + k, method, hidden)[1] for k in range(s.seeds)]
            curves[f"{method}, {hidden} hidden units"] = [history.column("test") for history in histories]
    return {"curves": curves, "examples": histories[0].column("examples")}


def gaps(n):
    """AEVB's test bound over wake-sleep's at the end, {hidden units: (seeds,)}; seeds are paired."""
    ends = {name: np.asarray(curves)[:, -1] for name, curves in n.curves.items()}
    return {
        hidden: np.subtract(*(ends[f"{method}, {hidden} hidden units"] for method in LOSSES))
        for hidden in n.settings.hidden_units
    }


@hidden_units.table
def _(n, table):
    s, found = n.settings, gaps(n)
    for name, curve in n.curves.items():
        mean, error = mean_and_error(np.asarray(curve)[:, -1])
        note = f"after {s.epochs} epochs, s.e. {error:.2g} over {s.seeds} seeds"
        table.row(f"{name}, test bound", mean, note=note)
    says = table.says(
        "thesis section 2.11.1",
        "the relative performance of different algorithms was not very sensitive to these choices",
        seeds=s.seeds,
        short=f"{s.epochs} epochs for {TEXT_EPOCHS[s.data]:,}" if 2 * s.epochs < TEXT_EPOCHS.get(s.data, 0) else "",
    )
    for hidden, gap in found.items():
        mean, error = mean_and_error(gap)
        says(mean, ">=", 0.0, 0.0, f"{hidden} hidden units: AEVB's test bound over wake-sleep's", standard_error=error)
    first, last = found[s.hidden_units[0]], found[s.hidden_units[-1]]
    label = f"what the distance loses or gains from {s.hidden_units[0]} to {s.hidden_units[-1]} units, over its mean"
    scale = np.mean([first.mean(), last.mean()])
    change, error = mean_and_error(last - first)
    says(abs(change) / abs(scale), "<=", 0.5, 0.0, label, standard_error=error / abs(scale))


@hidden_units.figure()
def _(n):
    """A panel for each number of hidden units, on one scale."""
    s, panels = n.settings, []
    fig = plots.figure(2.9 * len(s.hidden_units), 3.4)
    for i, hidden in enumerate(s.hidden_units):
        panels.append(fig.add_subplot(1, len(s.hidden_units), i + 1, sharey=panels[0] if panels else None))
        for j, method in enumerate(LOSSES):
            mean = np.mean(n.curves[f"{method}, {hidden} hidden units"], axis=0)
            panels[-1].plot(n.examples, mean, label=method, **plots.style(j, len(mean)))
        plots.panel(panels[-1], f"{hidden} hidden units", "training points evaluated", "test bound, nats per image")
        panels[-1].label_outer()
    ends = np.array([np.mean(c, axis=0)[[len(n.examples) // 5, -1]] for c in n.curves.values()])
    panels[0].set_ylim(ends.min() - 5, ends.max() + 5)
    plots.legend_below(fig, panels)
    title = f"AEVB and wake-sleep on {s.data}, {s.latents} latents, by hidden units: mean of {s.seeds} seeds"
    fig.suptitle(title, fontsize=10)
    return fig
