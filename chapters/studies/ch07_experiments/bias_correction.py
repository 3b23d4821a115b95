"""Adam with and without its bias correction (thesis section 7.4.3, Figure 7.1)."""

# %% [markdown]
# ## Section 7.4.3, Figure 7.1: with and without the bias correction
#
# Without it, m and v are too small at first by the factors 1 - beta1^t and 1 - beta2^t, and the first step is
# (1 - beta1) / sqrt(1 - beta2) step sizes long: for beta2 = 0.9999, 10 of them with beta1 = 0.9 and 100 with beta1 = 0.
# On the other hand all steps stay too long for about 1 / (1 - beta2) of them, which a small step size can do with.
#
# `paper` is the text's setting: a VAE with 500 softplus units and 50 latents, 10 and 100 epochs; it does not name the
# data, the minibatch and the initial weights: binary MNIST, 100 and Glorot's rule here. `laptop` cuts the training
# images to 20,000 and stops after 10 epochs; `quick` also has smaller layers and digits, and half the step sizes.

# %%
import math

import numpy as np

from minivi import data, optim, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator
from minivi.sweeps import sweep
from minivi_chapters.studies.ch07_experiments._shared import descend, loaded

BETA1, BETA2 = (0.0, 0.9), (0.99, 0.999, 0.9999)
KEYS = [(b1, b2, c) for b1 in BETA1 for b2 in BETA2 for c in (1, 0)]


def vae_losses(source, images, hidden, latents, beta1, beta2, log_step, corrected, epochs, seed):
    """A cell: minus the bound, mean over each epoch, in nats; None from the epoch on in which it diverged."""
    x = loaded(source).train[:images]
    model = VAE(x.shape[1], [hidden], latents, activation="softplus", rng=Generator([seed, 71]))
    optimizer = optim.Adam(
        model.parameters(), 10.0**log_step, beta1=beta1, beta2=beta2, bias_correction=bool(corrected)
    )
    losses, _ = descend(
        model, lambda x, rng: -model.elbo(x, rng).mean(), optimizer, x, epochs=epochs, batch=100,
        rng=Generator([seed, 72]), prepare=data.fresh,
    )  # fmt: skip
    means = losses.reshape(epochs, -1).mean(axis=1)
    return [float(mean) if np.isfinite(mean) else None for mean in means]


def harm(corrected, not_corrected, ceiling):
    """Nats lost by leaving the correction out, where Adam does well with it.

    The mean over the step sizes at which the corrected loss is at most a fifth above its best; a loss that is worse
    than ``ceiling``, that of a fair coin for each pixel, counts as that.
    """
    good = corrected <= 1.2 * np.min(corrected)
    return float(np.mean(np.minimum(not_corrected, ceiling)[good] - corrected[good]))


@experiment(
    "bias_correction",
    title="Adam with and without bias correction, a VAE by step size",
    mirrors="thesis section 7.4.3, Figure 7.1",
    budgets={
        "quick": {"data": "digits", "images": 1500, "hidden": 100, "latents": 10, "halves": 1, "at": [10], "seeds": 3},
        "laptop": {
            "data": "mnist",
            "images": 20_000,
            "hidden": 500,
            "latents": 50,
            "halves": 2,
            "at": [10],
            "seeds": 3,
        },
        "paper": {
            "data": "mnist",
            "images": 60_000,
            "hidden": 500,
            "latents": 50,
            "halves": 2,
            "at": [10, 100],
            "seeds": 3,
        },
    },
    minutes={"quick": 0.4, "laptop": 19, "paper": 840},
)
def bias_correction(run):
    """Sweep Adam's hyperparameters: the loss by step size, betas and correction, (step sizes, keys, epochs)."""
    s, images = run.settings, run.images()
    steps = np.linspace(-5, -1, 4 * s.halves + 1).tolist()
    shared = {"source": s.data, "images": s.images, "hidden": s.hidden, "latents": s.latents}
    shared |= {"epochs": s.at[-1], "seed": run.seed}
    # The large step sizes first, since runs that diverge are short.
    cells = [
        shared | {"beta1": b1, "beta2": b2, "log_step": a, "corrected": c} for a in steps[::-1] for b1, b2, c in KEYS
    ]
    folder = run.folder / "bias_correction"
    losses = sweep(vae_losses, cells, folder, resume=run.resume, progress=run.progress and "bias correction")
    curves = np.array(losses, np.float64).reshape(len(steps), len(KEYS), -1)[::-1]  # None becomes NaN
    numbers = {"log_step": steps, "keys": KEYS, "loss": curves, "pixels": images.train.shape[1]}
    # The best of a grid is a little too good: each key at its best step size, by other seeds.
    places = [(epoch, i) for epoch in s.at for i in range(len(KEYS))]
    best = {(epoch, i): steps[np.nanargmin(curves[:, i, epoch - 1])] for epoch, i in places}
    again = [
        shared | {"beta1": b1, "beta2": b2, "log_step": a, "corrected": c, "seed": run.seed + seed, "epochs": epochs}
        for (epochs, i), a in best.items()
        for b1, b2, c in (KEYS[i],)
        for seed in range(1, s.seeds)
    ]
    losses = sweep(vae_losses, again, folder, resume=run.resume, progress=run.progress and "other seeds")
    ends = np.array([loss[-1] for loss in losses], np.float64).reshape(len(s.at), len(KEYS), -1)
    first = [[np.nanmin(curves[:, i, epoch - 1]) for i in range(len(KEYS))] for epoch in s.at]
    return numbers | {"best": np.concatenate([np.array(first)[..., None], ends], axis=-1)}


def losses_after(n, epoch):
    """By (beta1, beta2, corrected), the losses after an epoch over the step sizes; infinite where it diverged."""
    losses = np.where(np.isfinite(n.loss), n.loss, np.inf)
    return {key: losses[:, i, epoch - 1] for i, key in enumerate(KEYS)}


@bias_correction.table
def _(n, table):
    for i, epoch in enumerate(n.settings.at):
        # results of before there were other seeds have the grid's best alone, and are of MNIST
        best = (
            n.best[i] if hasattr(n, "best") else [np.array([min(values)]) for values in losses_after(n, epoch).values()]
        )
        ceiling = getattr(n, "pixels", 784) * math.log(2)
        judge_correction(n, table, dict(zip(KEYS, best, strict=True)), epoch, ceiling)


@bias_correction.figure()
def _(n):
    return {f"epoch{epoch}": correction_figure(n.log_step, losses_after(n, epoch), epoch, n.settings)
            for epoch in n.settings.at}  # fmt: skip


def over_seeds(values):
    """Mean and standard error; 0.0 for one seed."""
    return mean_and_error(values) if len(values) > 1 else (float(values[0]), 0.0)


def judge_correction(n, table, best, epoch, ceiling):
    """Rows and claims for the losses after ``epoch``; ``best`` by (beta1, beta2, corrected), of several seeds."""
    pairs, loss, first = [(b1, b2) for b1 in BETA1 for b2 in BETA2], losses_after(n, epoch), losses_after(n, 1)
    lost, early = (
        {(b1, b2): harm(values[b1, b2, 1], values[b1, b2, 0], ceiling) for b1, b2 in pairs} for values in (loss, first)
    )
    seeds, after = len(best[KEYS[0]]), f"epoch {epoch}: "
    steps, theirs = (epoch * images // 100 for images in (n.settings.images, 60_000))
    few = n.settings.data == "mnist" and steps < theirs / 2
    short = f"{steps:,} steps for {theirs:,}; beta2 0.9999 remembers 10,000" if few else ""
    about = {"seeds": seeds, "short": short}
    # of one run: what another seed changes at the best step sizes, pooled
    spread = float(np.sqrt(np.mean([values.var(ddof=1) for values in best.values()]))) if seeds > 1 else 0.0
    for b1, b2 in pairs:
        name = f"beta1 {b1:g}, beta2 {b2:g}"
        note = f"epoch {epoch}, best step size, {seeds} seeds, spread of one {spread:.2f}; published as a picture"
        table.row(f"{name}, corrected", best[b1, b2, 1].mean(), note=note)
        table.row(f"{name}, not corrected", best[b1, b2, 0].mean(), note=note)
        table.row(f"{name}, lost without", lost[b1, b2], note="mean over step sizes good with correction")
    unstable = table.says(
        "thesis 7.4.3", "In Figure 7.1, values beta2 close to 1 indeed lead to instabilities in training when no bias "
        "correction term was present, especially at first few epochs of the training.", seeds=1,
    )  # fmt: skip
    for b1 in BETA1:
        label = f"{after}beta1 {b1:g}: nats lost without correction at beta2 0.9999, and at 0.99"
        unstable(lost[b1, 0.9999], ">=", lost[b1, 0.99], 0.0, label, standard_error=2 * spread)
        label = f"beta1 {b1:g}, beta2 0.9999: nats lost without correction in epoch 1, and in epoch {epoch}"
        unstable(early[b1, 0.9999], ">=", lost[b1, 0.9999], 0.0, label, standard_error=2 * spread)
    says = table.says(
        "thesis 7.4.3", "The best results were achieved with small values of (1 - beta2) and bias correction", **about
    )
    ours, others = ([k for k in KEYS if bool(k[2] and k[1] > 0.99) is own] for own in (True, False))
    (mean, one), (other, two) = (min((best[k].mean(), k) for k in keys) for keys in (ours, others))
    _, error = over_seeds(best[one] - best[two])
    label = f"{after}the best of beta2 0.999 and 0.9999 with correction, and the best of all others {two}"
    says(mean, "<=", other, 0.0, label, standard_error=error)
    says = table.says(
        "thesis 7.4.3", "In summary, Adam performed equal or better than RMSProp, regardless of hyper-parameter "
        "setting.",
        **about,
    )  # fmt: skip
    for b1, b2 in pairs:
        gain, error = over_seeds(best[b1, b2, 0] - best[b1, b2, 1])
        label = f"{after}beta1 {b1:g}, beta2 {b2:g}, each at its best step size: nats gained by the correction"
        says(gain, ">=", 0.0, 0.0, label, standard_error=error)
    gains = [np.minimum(loss[b1, b2, 0], ceiling) - np.minimum(loss[b1, b2, 1], ceiling) for b1, b2 in pairs]
    label = f"{after}over all settings, step size included: least gained by the correction, nats"
    says(np.min(gains), ">=", 0.0, 0.0, label, standard_error=math.sqrt(2) * spread)


def correction_figure(steps, loss, epoch, s):
    """Small multiples: a row for each beta1, a column for each beta2."""
    low = min(np.min(values) for values in loss.values())
    top = 2.2 * low
    fig = plots.figure(9.0, 5.0)
    panels = fig.subplots(2, 3, sharex=True, sharey=True)
    for i, b1 in enumerate(BETA1):
        for j, b2 in enumerate(BETA2):
            axes = panels[i, j]
            for k, (corrected, label) in enumerate([(1, "with correction"), (0, "without")]):
                axes.plot(steps, np.minimum(loss[b1, b2, corrected], top), label=label, **plots.style(k))
            axes.set_title(f"beta1 = {b1:g}, beta2 = {b2:g}", fontsize=9)
            axes.set_ylim(low - 0.05 * (top - low), top + 0.03 * (top - low))
            axes.grid(True, linewidth=0.3)
            if i == 1:
                axes.set_xlabel("log10 of the step size")
            if j == 0:
                axes.set_ylabel("minus the bound, nats")
    panels[1, 0].legend(fontsize=8, loc="upper center")
    title = f"{s.data}, {s.images:,} images: training loss in epoch {epoch} (worse or diverged: at the upper edge)"
    fig.suptitle(title, fontsize=10)
    return fig
