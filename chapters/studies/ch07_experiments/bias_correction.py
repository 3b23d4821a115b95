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
        "quick": {"data": "digits", "images": 1500, "hidden": 100, "latents": 10, "halves": 1, "at": [10]},
        "laptop": {"data": "mnist", "images": 20_000, "hidden": 500, "latents": 50, "halves": 2, "at": [10]},
        "paper": {"data": "mnist", "images": 60_000, "hidden": 500, "latents": 50, "halves": 2, "at": [10, 100]},
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
    return {"log_step": steps, "keys": KEYS, "loss": curves, "pixels": images.train.shape[1]}


def losses_after(n, epoch):
    """By (beta1, beta2, corrected), the losses after an epoch over the step sizes; infinite where it diverged."""
    losses = np.where(np.isfinite(n.loss), n.loss, np.inf)
    return {key: losses[:, i, epoch - 1] for i, key in enumerate(KEYS)}


@bias_correction.table
def _(n, table):
    for epoch in n.settings.at:
        judge_correction(table, losses_after(n, epoch), epoch, n.pixels * math.log(2))


@bias_correction.figure()
def _(n):
    return {f"epoch{epoch}": correction_figure(n.log_step, losses_after(n, epoch), epoch, n.settings)
            for epoch in n.settings.at}  # fmt: skip


def judge_correction(table, loss, epoch, ceiling):
    """Rows and claims for the losses after ``epoch``: by (beta1, beta2, corrected), each over the step sizes."""
    pairs = [(b1, b2) for b1 in BETA1 for b2 in BETA2]
    best = {key: np.min(values) for key, values in loss.items()}
    lost = {(b1, b2): harm(loss[b1, b2, 1], loss[b1, b2, 0], ceiling) for b1, b2 in pairs}
    for b1, b2 in pairs:
        name, note = f"beta1 {b1:g}, beta2 {b2:g}", f"epoch {epoch}, best step size; published as a picture"
        table.row(f"{name}, corrected", best[b1, b2, 1], note=note)
        table.row(f"{name}, not corrected", best[b1, b2, 0], note=note)
        table.row(f"{name}, lost without", lost[b1, b2], note="mean over step sizes good with correction")
    after = f"epoch {epoch}: "
    for b1 in BETA1:
        label = f"{after}beta1 {b1:g}, beta2 0.9999: leaving the correction out costs over 1 % of the loss"
        table.claim(lost[b1, 0.9999], ">=", 0.01 * best[b1, 0.9999, 1], 0.0, label)
        label = f"{after}beta1 {b1:g}: it costs more at beta2 0.9999 than at 0.99"
        table.claim(lost[b1, 0.9999], ">=", lost[b1, 0.99], 0.0, label)
    slow = min(best[b1, b2, 1] for b1, b2 in pairs if b2 > 0.99)
    others = min(value for (_, b2, corrected), value in best.items() if not (corrected and b2 > 0.99))
    room = 0.005 * slow
    gap = max(best[b1, b2, 1] - best[b1, b2, 0] for b1, b2 in pairs)
    capped = {key: np.minimum(values, ceiling) for key, values in loss.items()}
    no_worse = [capped[b1, b2, 1] <= capped[b1, b2, 0] + room for b1, b2 in pairs]
    label = f"{after}beta2 0.9999: it costs more without momentum (first step 100 step sizes, not 10)"
    table.claim(lost[0.0, 0.9999], ">=", lost[0.9, 0.9999], 0.0, label)
    table.claim(slow, "<=", others, 0.0, f"{after}best of all: corrected, with beta2 0.999 or 0.9999")
    label = f"{after}each at its best step size, corrected is no worse, within 0.5 %: largest gap in nats"
    table.claim(gap, "<=", 0.0, room, label)
    label = f"{after}share of settings, step size included, at which corrected is no worse, within 0.5 %"
    table.claim(np.mean(no_worse), ">=", 1.0, 0.0, label)


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
