"""RMSProp with momentum on the rescaled gradient, beside Adam (thesis section 7.4.1)."""

# %% [markdown]
# ## Section 7.4.1: momentum before and after the division
#
#     RMSProp:  n = decay n + (1 - decay) g^2,    u = momentum u + g / sqrt(n),    theta -= step_size u
#     Adam:     theta -= step_size m_hat / sqrt(v_hat)
#
# RMSProp's momentum adds up steps already divided, 1 / (1 - momentum) = 10 of them, and n starts at 0, so that the
# first step is 1 / sqrt(1 - decay) step sizes long: 100 at 0.9999. (What `bias_correction` calls uncorrected is Adam's
# order without the correction.) Grids of half decades, RMSProp's a decade lower; a loss above that of a fair coin for
# each pixel counts as diverged. At their best, each decay is run from other seeds too.

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

DECAYS = [0.9, 0.99, 0.999, 0.9999]
OPTIMIZERS = {
    "Adam": lambda p, a, decay: optim.Adam(p, a, beta2=decay),
    "RMSProp": lambda p, a, decay: optim.RMSProp(p, a, decay=decay, momentum=0.9),
}
LOG_STEPS = {"Adam": np.arange(-4.5, -1.4, 0.5).tolist(), "RMSProp": np.arange(-5.5, -2.4, 0.5).tolist()}


def last_loss(source, images, hidden, latents, optimizer, decay, log_step, epochs, seed):
    """A cell: minus the bound, mean over the last epoch, in nats; None if it diverged."""
    x = loaded(source).train[:images]
    model = VAE(x.shape[1], [hidden], latents, activation="softplus", rng=Generator([seed, 77]))
    solver = OPTIMIZERS[optimizer](model.parameters(), 10.0**log_step, decay)
    losses, _ = descend(
        model, lambda x, rng: -model.elbo(x, rng).mean(), solver, x, epochs=epochs, batch=100,
        rng=Generator([seed, 78]), prepare=data.fresh,
    )  # fmt: skip
    mean = losses.reshape(epochs, -1)[-1].mean()
    return float(mean) if np.isfinite(mean) else None


@experiment(
    "rmsprop",
    title="RMSProp with momentum beside Adam, a VAE by step size and decay",
    mirrors="thesis section 7.4.1 (no figure there)",
    budgets={
        "quick": {"data": "digits", "images": 1500, "hidden": 50, "latents": 5, "epochs": 3, "seeds": 3},
        "laptop": {"data": "mnist", "images": 10_000, "hidden": 200, "latents": 10, "epochs": 3, "seeds": 3},
        "paper": {"data": "mnist", "images": 60_000, "hidden": 500, "latents": 50, "epochs": 10, "seeds": 3},
    },
    minutes={"quick": 0.4, "laptop": 0.94, "paper": 120},
)
def rmsprop(run):
    """Losses by optimizer, decay and step size; at each decay's best step size those of several seeds."""
    s, images = run.settings, run.images()
    shared = {"source": s.data, "images": s.images, "hidden": s.hidden, "latents": s.latents, "epochs": s.epochs}
    places = [(name, decay, a) for name in OPTIMIZERS for decay in DECAYS for a in LOG_STEPS[name]]

    def losses(places, seed):
        cells = [
            shared | {"optimizer": name, "decay": decay, "log_step": a, "seed": run.seed + seed}
            for name, decay, a in places
        ]
        options = {"resume": run.resume, "progress": run.progress and "rmsprop"}
        return np.array(sweep(last_loss, cells, run.folder / "rmsprop", **options), np.float64)  # None becomes NaN

    grid = losses(places, 0).reshape(2, len(DECAYS), -1)
    best = [
        (name, decay, LOG_STEPS[name][np.nanargmin(grid[i, j])])
        for i, name in enumerate(OPTIMIZERS)
        for j, decay in enumerate(DECAYS)
    ]
    seeds = [np.nanmin(grid, axis=-1), *(losses(best, seed).reshape(2, -1) for seed in range(1, s.seeds))]
    return {"grid": grid, "best": np.stack(seeds, axis=-1), "pixels": images.train.shape[1]}


@rmsprop.table
def _(n, table):
    seeds, ceiling = n.settings.seeds, n.pixels * math.log(2)
    bad = ~(n.grid <= ceiling)
    for i, name in enumerate(OPTIMIZERS):
        for j, decay in enumerate(DECAYS):
            a = LOG_STEPS[name][np.nanargmin(n.grid[i, j])]
            note = f"{seeds} seeds, step size 10^{a:g}; diverged at {bad[i, j].sum()} of {bad.shape[-1]} step sizes"
            table.row(f"{name}, decay {decay:g}, loss in the last epoch", n.best[i, j].mean(), note=note)
    says = table.says(
        "thesis 7.4.3", "In summary, Adam performed equal or better than RMSProp, regardless of hyper-parameter "
        "setting.",
        seeds=seeds,
    )  # fmt: skip
    for j, decay in enumerate(DECAYS):
        gain, error = mean_and_error(n.best[1, j] - n.best[0, j])
        says(gain, ">=", 0.0, 0.0, f"decay {decay:g}: Adam's loss below RMSProp's, nats", standard_error=error)
    says = table.says(
        "thesis 7.4.1", "this matters most in case of a value of beta2 close to 1 ..., since in that case not "
        "correcting the bias leads to very large stepsizes and often divergence", seeds=1,
    )  # fmt: skip
    at = np.nanargmin(n.grid[1, 0])
    there, here = (
        min(ceiling, loss) if np.isfinite(loss) else ceiling for loss in (n.grid[1, -1, at], n.grid[1, 0, at])
    )
    label = f"RMSProp, step size 10^{LOG_STEPS['RMSProp'][at]:g}: loss (at most a coin's), decay 0.9999 and 0.9"
    says(there, ">=", here, 0.0, label)


@rmsprop.figure()
def _(n):
    fig = plots.figure(8.5, 3.9)
    panels = fig.subplots(1, 2, sharey=True)
    low = np.nanmin(n.grid)
    for axes, (name, by_decay) in zip(panels, zip(OPTIMIZERS, n.grid, strict=True), strict=True):
        for j, decay in enumerate(DECAYS):
            values = np.minimum(np.nan_to_num(by_decay[j], nan=np.inf), 2.2 * low)
            axes.plot(LOG_STEPS[name], values, label=f"decay {decay:g}", **plots.style(j) | {"markevery": 1})
        plots.panel(axes, name, "log10 of the step size")
    panels[0].set_ylabel("minus the bound, nats")
    panels[0].set_ylim(low - 0.05 * low, 2.25 * low)
    panels[0].legend(fontsize=8)
    title = f"{n.settings.data}: training loss in epoch {n.settings.epochs} (worse or diverged: at the upper edge)"
    fig.suptitle(title, fontsize=10)
    return fig
