"""Importance weights over the number of latents (sections 2.7, 2.11.2)."""

# %% [markdown]
# ## Weights that degenerate
#
# Of K importance samples only some count: (sum w)^2 / sum w^2 is their effective number, and the standard deviation of
# repeated estimates says how reliable eq. 2.57 is. Both by the number of latents, of which a model need not use all.

# %%
import numpy as np

from minivi import bounds, data, evaluation, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.random import Generator
from minivi_chapters.studies.ch02_marginal_likelihood._shared import DIGITS, MNIST, PAPER, new_vae, optimizer_for


@experiment(
    "degeneracy",
    title="effective importance samples, and noise of log p(x), by the number of latents",
    mirrors="thesis sections 2.7, 2.11.2",
    budgets={
        "quick": DIGITS | {"epochs": 60, "latents": [2, 5, 20], "images": 60, "samples": 200, "repeats": 5},
        "laptop": MNIST
        | {"epochs": 4, "latents": [2, 5, 10, 20, 50, 100], "images": 200, "samples": 500, "repeats": 10},
        "paper": PAPER
        | {"epochs": 500, "latents": [2, 5, 10, 20, 50, 100, 200], "images": 1000, "samples": 5000, "repeats": 10},
    },
    minutes={"quick": 0.2, "laptop": 0.61, "paper": 60 * 20},
)
def degeneracy(run):
    """For each number of latents: the share of samples that count, the noise of an image's log p(x), active units."""
    s, images = run.settings, run.images()
    x, found = data.fresh(images.test[: s.images], Generator(3)), {}
    for latents in s.latents:
        vae = new_vae(s, images.train.shape[1], latents, run.seed)
        optimizer = optimizer_for(vae, s, s.step_sizes[-1], len(images.train))
        run.fit(
            f"{s.data}_degeneracy{latents}_seed{run.seed}", vae, lambda x, rng, vae=vae: -vae.elbo(x, rng).mean(),
            optimizer, images.train, epochs=s.epochs, batch_size=s.batch, rng=Generator([run.seed, 6]),
            prepare=data.fresh,
        )  # fmt: skip
        shares, estimates = [], []
        for k in range(s.repeats):
            log_w = np.asarray(vae.log_weights(x, Generator([7, k]), s.samples), np.float64)
            w = np.exp(log_w - log_w.max(axis=0))
            shares.append(w.sum(axis=0) ** 2 / (w**2).sum(axis=0) / s.samples)
            estimates.append(np.asarray(bounds.iwae(log_w)))
        found[str(latents)] = {
            "share": mean_and_error(np.mean(shares, axis=0)),
            "noise": mean_and_error(np.std(estimates, axis=0, ddof=1)),
            "log p(x)": np.mean(estimates),
            "active": evaluation.active_units(vae, x),
        }
    return {"found": found}


@degeneracy.table
def _(n, table):
    s = n.settings
    for latents, by in n.found.items():
        (share, error), (noise, off) = by["share"], by["noise"]
        note = f"+- {100 * error:.2g}; {by['active']} active"
        table.row(f"{latents} latents: samples that count, of {s.samples}", 100 * share, unit="%", note=note)
        table.row(f"{latents} latents: s.d. of an image's log p(x)", noise, note=f"+- {off:.2g}")
    few, *_, many = n.found
    for name, source, sentence, relation in (
        ("share", "thesis 2.7", "importance weighted estimates have notoriously bad scaling properties to "
         "high-dimensional latent spaces.", "<="),
        ("noise", "thesis 2.11.2", "for higher dimensional latent space the estimates became less reliable.", ">="),
    ):  # fmt: skip
        says = table.says(source, sentence, seeds=1)
        (left, left_error), (right, right_error) = n.found[many][name], n.found[few][name]
        what = {"share": "share of samples that count", "noise": "s.d. of an image's log p(x)"}[name]
        error = np.hypot(left_error, right_error)
        says(left, relation, right, 0.0, f"{what}: {many} latents against {few}", standard_error=error)


@degeneracy.figure()
def _(n):
    """Share and noise over the number of latents."""
    fig, latents = plots.figure(9.0, 3.8), list(map(int, n.found))
    labels = {"share": "share of samples that count", "noise": "s.d. of an image's log p(x), nats"}
    for axes, (name, label) in zip(fig.subplots(1, 2), labels.items(), strict=True):
        values, errors = np.array([by[name] for by in n.found.values()]).T
        axes.errorbar(latents, values, 2 * errors, capsize=3, **plots.style(0))
        plots.panel(axes, "", "latents", label, log="xy")
        axes.set_xticks(latents, latents)
        axes.minorticks_off()
    title = f"{n.settings.samples} importance samples of each test image of {n.settings.data}, by number of latents"
    fig.suptitle(f"{title}\n(bars: two standard errors over images)", fontsize=10)
    return fig
