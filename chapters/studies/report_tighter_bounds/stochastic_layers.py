"""More samples and more stochastic layers (review report, section 4.4 and Figure 8)."""

# %% [markdown]
# ## Review report, section 4.4 and Figure 8: samples and stochastic layers
#
# Islam, Gao and Johne train by k = 1, 5 and 50 samples with one and two stochastic layers of latents, by Burda's code,
# and contrast it with plain AEVB, to which more samples of the ELBO make no difference (their Figure 4). The models are
# Burda's, x-200-200-50 and x-200-200-100-100-100-50; the report names 50 units, which in that code is the size of
# the top layer. Published as a picture; the table has Burda et al.'s own numbers beside ours. After few epochs, more
# samples help the ELBO too, as they take noise from its gradient: what the report finds is about models near their end.

# %%
from types import SimpleNamespace

from minivi import evaluation, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi_chapters.studies.report_tighter_bounds._shared import (
    LAPTOP,
    OFTEN,
    PAPER,
    QUICK,
    images,
    over_epochs,
    runs,
    trained,
)

BURDA_TABLE = {(1, 1): -86.76, (1, 5): -85.54, (1, 50): -84.78, (2, 1): -85.33, (2, 5): -83.89, (2, 50): -82.90}
SAMPLES = {"eps": 1e-4, "ks": [1, 5, 50]}
LAYERS = {
    "quick": QUICK | SAMPLES | {"ks": [1, 5, 20], "runs": runs(8, 297, 1, "IWAE", "AEVB", at=[1, 2, 4])},
    "laptop": LAPTOP | SAMPLES | {"samples": 1000, "runs": runs(2, 1000, 1, "IWAE", "AEVB", at=[1])},
    "paper": PAPER | SAMPLES | {"runs": runs(3280, 10_000, 1, "IWAE", "AEVB", at=OFTEN)},
}


@experiment(
    "layers",
    title="more samples and more stochastic layers",
    mirrors="review report, section 4.4 and Figure 8 (and Figure 4)",
    budgets=LAYERS,
    minutes={"quick": 0.5, "laptop": 8.2, "paper": 60 * 24 * 6},
)
def layers(run):
    """Train by k samples of the importance-weighted bound, and of the ELBO."""
    estimates, measured, curves = {}, {}, {1: {}, 2: {}}
    for count, method, k in variants(run.settings.ks):
        s = SimpleNamespace(**vars(run.settings) | {"layers": count, "total": k})
        model, history = trained(run, s, method)
        plan = s.runs[method]
        x = images(run, s).test[: plan["images"]]
        estimate = evaluation.log_likelihood(model, x, Generator([9, run.seed]), s.samples, run.progress)
        line = [*history.column("log_p"), estimate.values[: s.watched].mean()]
        curves[count][f"{method}, k = {k}"] = {"epochs": [*plan["at"], plan["epochs"]], "log_p": line}
        active = [evaluation.active_units(model, x)]
        if count == 2:
            active.append(evaluation.active_units(model, x, level=1, rng=Generator([10, run.seed])))
        estimates[count, method, k] = estimate
        key = f"{count}, {method}, {k}"
        measured[key] = {"mean": estimate.mean, "error": estimate.standard_error, "active": active}
        if key != f"{count}, IWAE, {run.settings.ks[0]}":  # of one sample, where both are the same bound
            gap = evaluation.difference(estimate, estimates[count, "IWAE", run.settings.ks[0]])
            measured[key] |= {"gain": gap.mean, "gain_error": gap.standard_error}
    return {"curves": curves, "estimates": measured}


def variants(ks):
    """Stochastic layers, bound and samples of each model; one sample of AEVB is one of IWAE."""
    few = ks[0]
    return [
        (count, method, k)
        for count in (1, 2)
        for method in (("IWAE", "AEVB") if count == 1 else ("IWAE",))
        for k in ks
        if (method, k) != ("AEVB", few)
    ]


@layers.table
def _(n, table):
    s = n.settings
    for count, method, k in variants(s.ks):
        estimate = n.estimates[f"{count}, {method}, {k}"]
        published = BURDA_TABLE.get((count, k)) if s.data == "mnist" and method == "IWAE" else None
        active = [int(a) for a in estimate["active"]]
        note = f"+- {estimate['error']:.2f}; epoch {s.runs[method]['epochs']}; active units {active}"
        note += "; Burda et al.: epoch 3280" if published else ""
        what = f"{count} layer{'s'[: count - 1]}, {method}, k = {k}"
        table.row(what, estimate["mean"], published, note=note)
    epochs = s.runs["IWAE"]["epochs"]
    about = {"seeds": 1} | ({"short": f"{epochs} epochs for 3,280"} if s.data == "mnist" and epochs < 364 else {})
    says = table.says(
        "review report 4.4.1", "Figure 8 shows that taking more than 1 samples k > 1 considerably improved the "
        "performance of IWAE on the MNIST dataset.", **about,
    )  # fmt: skip
    for count in (1, 2):
        for k in s.ks[1:]:
            estimate = n.estimates[f"{count}, IWAE, {k}"]
            label = f"{count} stochastic layer{'s'[: count - 1]}: {k} samples gain over 1, nats"
            says(estimate["gain"], ">=", 0.0, 0.0, label, standard_error=estimate["gain_error"])
    says = table.says(
        "review report 4.4.1", "Previously, for AEVB, we showed that generalisation performance does not improve for "
        "different number of samples. ... Indeed, IWAE can improve generalisation performance by taking higher number "
        "of samples", **about,
    )  # fmt: skip
    for k in s.ks[1:]:
        aevb, iwae = (n.estimates[f"1, {method}, {k}"] for method in ("AEVB", "IWAE"))
        label = f"plain AEVB: {k} samples of the ELBO gain over 1, nats"
        says(aevb["gain"], "=", 0.0, 0.0, label, standard_error=aevb["gain_error"])
        error = (aevb["gain_error"] ** 2 + iwae["gain_error"] ** 2) ** 0.5
        says(iwae["gain"], ">=", aevb["gain"], 0.0, f"gain of {k} samples, IWAE and AEVB, nats", standard_error=error)


@layers.figure()
def _(n):
    """A panel for each number of stochastic layers."""
    fig = plots.figure(9.0, 4.2)
    panels = fig.subplots(1, 2, sharey=True)
    for axes, (count, lines) in zip(panels, n.curves.items(), strict=True):
        for i, (label, c) in enumerate(lines.items()):
            axes.plot(c["epochs"], c["log_p"], label=label, **plots.style(i))
        last = max(c["epochs"][-1] for c in lines.values())
        over_epochs(axes, f"stochastic layers: {count}", last, "log p-hat, nats per test image")
    plots.legend_below(fig, panels)
    fig.suptitle(f"{n.settings.data}: k samples in training", fontsize=10)
    return fig
