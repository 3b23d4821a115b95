"""The bound while training, by AEVB and by wake-sleep (Figure 2.5)."""

# %% [markdown]
# ## Figure 2.5: the bound while training
#
# For several numbers of latents, the bound on training and test images against the number of training points evaluated,
# for AEVB and for wake-sleep, whose curve for 200 latents falls here: `docs/misses.md` has the cause. The published
# figure shows no numbers; at `laptop` the table compares with a PyTorch run of the same settings.

# %%
import numpy as np

from minivi import evaluation, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi_chapters.studies.ch02_aevb._shared import FREY_BUDGETS, LOSSES, budgets, preparation, trained

TEXT_EPOCHS = {"mnist": 2000, "frey": 6000}  # Figure 2.5's last points: 1e8 and 1e7 training points
REFERENCE = {3: {1: -174.9, 5: -151.2, 10: -143.5, 20: -139.2}, 20: {1: -126.1, 5: -110.4, 10: -104.3, 20: -101.2}}


@experiment(
    "bound_frey",
    title="the lower bound while training, continuous data",
    mirrors="thesis Figure 2.5, Frey faces",
    budgets=FREY_BUDGETS,
    minutes={"quick": 0.4, "laptop": 2.7, "paper": 60},
)
@experiment(
    "bound",
    title="the lower bound on training and test images while training",
    mirrors="thesis Figure 2.5, MNIST",
    budgets=budgets(
        {"latents": [2, 5, 10, 20], "seeds": {}},
        {"latents": [3, 5, 10, 20, 200], "seeds": {"3": 2, "20": 2}, "reference": True},
        {"latents": [3, 5, 10, 20, 200], "seeds": {}},
        night={"epochs": 167, "seeds": {}, "images": 10_000, "samples": 1000},  # 1e7 training images
    ),
    minutes={"quick": 1, "laptop": 7.7, "night": 240, "paper": 60 * 18},
)
def bound(run):
    """Train for each number of latents by both methods: curves, and the bounds of AEVB's models of all images."""
    s, images = run.settings, run.images()
    curves, step_sizes, values = {}, {}, {}
    for latents in s.latents:
        for method in LOSSES:
            models = [trained(run, latents, run.seed + k, method) for k in range(seeds_of(s, latents, method))]
            histories = [history for _, history, *_ in models]
            mean = {name: np.mean([h.column(name) for h in histories], axis=0) for name in ("train", "test")}
            curves[f"{method}, {latents} latents"] = {"examples": histories[0].column("examples")} | mean
            step_sizes[f"{method}, {latents} latents"] = models[0][-1]
            if method == "AEVB":
                for name, x in (("train", images.train), ("test", images.test)):
                    x = preparation(s)(x, Generator(2))
                    values[latents, name] = evaluation.elbo(models[0][0], x, Generator(9), samples=5)
    # Images differ far more than two models do on one image: the error is that of paired differences.
    few, many = s.latents[-2:]
    gains = {name: evaluation.difference(values[many, name], values[few, name]) for name in ("train", "test")}
    gains = {name: {"mean": gain.mean, "error": gain.standard_error} for name, gain in gains.items()}
    return {"curves": curves, "step_sizes": step_sizes, "gains": gains}


def seeds_of(s, latents, method):
    """How many seeds are trained."""
    return s.seeds.get(str(latents), 1) if method == "AEVB" else 1


@bound.table
def _(n, table):
    s = n.settings
    for latents in s.latents:
        for method in LOSSES:
            curve, count = n.curves[f"{method}, {latents} latents"], seeds_of(s, latents, method)
            note = f"after {s.epochs} epochs" + (f", mean of {count} seeds" if count > 1 else "")
            if len(s.step_sizes) > 1:
                note += f", step size {n.step_sizes[f'{method}, {latents} latents']:g}"
            table.row(f"{method}, {latents} latents, train", curve["train"][-1], note=note)
            note += "; published as a picture only"
            table.row(f"{method}, {latents} latents, test", curve["test"][-1], note=note)
            if method == "AEVB" and getattr(s, "reference", False) and s.data == "mnist" and count == 2:
                for epoch, value in REFERENCE.get(latents, {}).items():
                    note = "beside a PyTorch run of these settings (mean of two seeds), not a published number"
                    table.row(f"{latents} latents, epoch {epoch}", curve["test"][epoch - 1], value, note=note)
        compare(n, table, latents)
    few, many = s.latents[-2:]
    error = np.hypot(n.gains["train"]["error"], n.gains["test"]["error"])  # of paired differences, over images
    says = table.says(
        "thesis Figure 2.5",
        "Interestingly enough, more latent variables does not result in more overfitting, which is explained by the "
        "regularizing effect of the lower bound.",
        short=too_short(s),
    )
    label = f"what {many} latents gain over {few}: training against test images"
    says(n.gains["train"]["mean"], "<=", n.gains["test"]["mean"], 0.0, label, seeds=1, standard_error=error)


def too_short(s):
    """Why a run cannot settle what Figure 2.5 shows at its end; empty if it can."""
    return f"{s.epochs} epochs for {TEXT_EPOCHS[s.data]:,}" if 2 * s.epochs < TEXT_EPOCHS.get(s.data, 0) else ""


def compare(n, table, latents):
    """The caption's first sentence for one number of latents: the end, and the points that it takes to get there.

    Bounds are known once an epoch: either number of points is off by up to one, evenly, so their difference has a
    standard deviation of sqrt(1 / 6) epochs.
    """
    aevb, other = (n.curves[f"{method}, {latents} latents"] for method in LOSSES)
    sentence = "Our method converged considerably faster and reached a better solution in all experiments."
    says = table.says("thesis Figure 2.5", sentence, seeds=1)
    label = f"{latents} latents, test bound: AEVB's at the end against wake-sleep's best"
    says(aevb["test"][-1], ">=", other["test"].max(), 0.0, label, short=too_short(n.settings))
    best = other["test"].argmax()
    there = np.flatnonzero(aevb["test"] >= other["test"][best])
    label = f"{latents} latents: points until wake-sleep's best test bound, AEVB's over wake-sleep's"
    ratio = aevb["examples"][there[0]] / other["examples"][best] if len(there) else np.inf
    says(ratio, "<=", 1.0, 0.0, label, standard_error=np.sqrt(1 / 6) / (best + 1))


@bound.figure()
def _(n):
    """A panel for each number of latents; the frame leaves out the first twentieth of training if that lies far off."""
    s, panels = n.settings, []
    fig = plots.figure(2.6 * len(s.latents), 3.4)
    for i, latents in enumerate(s.latents):
        panels.append(fig.add_subplot(1, len(s.latents), i + 1, sharey=panels[0] if panels else None))
        for j, method in enumerate(LOSSES):
            examples, train, test = n.curves[f"{method}, {latents} latents"].values()
            style = plots.style(j, len(examples)) | {"markevery": (len(examples) // 20, max(1, len(examples) // 4))}
            panels[-1].plot(examples, test, label=f"{method}, test", **style)
            panels[-1].plot(examples, train, label=f"{method}, training", **(style | plots.THIN))
    ends = np.concatenate([[max(c["test"]), c["test"][len(c["test"]) // 20]] for c in n.curves.values()])
    low, high = np.quantile(ends, 0.1), ends.max()
    panels[0].set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    panels[0].set_ylabel("lower bound on log p(x), nats per image", fontsize=9)
    for latents, axes in zip(s.latents, panels, strict=True):
        plots.panel(axes, f"{latents} latents", "training points evaluated", axes.get_ylabel(), log="x")
        axes.minorticks_off()
        axes.label_outer()
        axes.set_xlabel("training points evaluated", fontsize=8)
    plots.legend_below(fig, panels)
    fig.suptitle(f"AEVB and wake-sleep on {s.data}: the lower bound while training", fontsize=10)
    return fig
