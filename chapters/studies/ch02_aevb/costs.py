"""What training costs, and how sure its bound is: the caption of Figure 2.5, and wake-sleep's cost (section 2.10)."""

# %% [markdown]
# ## The caption of Figure 2.5
#
# "Computation took around 20-40 minutes per million training samples": beside it our CPU seconds, and the arithmetic
# that a training point needs. Its products take 2 flops for each weight forwards and twice as many backwards; AEVB
# passes both networks forwards and backwards, wake-sleep each once more forwards, to guess and to dream: 4 for 3.
#
# "The estimator variance was small": the variance of the mean bound by the samples of z, one for each image. What other
# images would change is in the note.

# %%
import time

import numpy as np

from minivi import evaluation
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.random import Generator
from minivi.training import fit
from minivi_chapters.studies.ch02_aevb._shared import (
    FREY_BUDGETS,
    LOSSES,
    budgets,
    new_model,
    optimizer_for,
    preparation,
    trained,
)

COSTS = {"latents": 20, "sizes": [100, 500], "repeats": 5}
EFFECTIVE = 40e9  # flops a second of the text's CPU
TEXT_HIDDEN = {"mnist": 500, "frey": 200}


def flops(vae, method):
    """Of a training point, counting products alone."""
    encoder, decoder = (
        2 * sum(p.data.size for p in part.parameters() if p.data.ndim == 2) for part in (vae.encoder, vae.decoder)
    )
    return 3 * (encoder + decoder) + (encoder + decoder if method == "wake-sleep" else 0)


@experiment(
    "costs_frey",
    title="what training on continuous data costs, and the bound's own variance",
    mirrors="thesis Figure 2.5, caption, Frey faces",
    budgets={
        name: settings | COSTS | ({"epochs": 100, "step_sizes": [0.02]} if name == "laptop" else {})
        for name, settings in FREY_BUDGETS.items()
    },
    minutes={"quick": 0.2, "laptop": 0.18, "paper": 15},
)
@experiment(
    "costs",
    title="what training costs by AEVB and by wake-sleep, and the bound's own variance",
    mirrors="thesis Figure 2.5, caption; section 2.10",
    budgets=budgets(COSTS | {"epochs": 20}, COSTS | {"epochs": 3}, COSTS),
    minutes={"quick": 0.3, "laptop": 0.4, "paper": 60 * 7},
)
def costs(run):
    """CPU seconds of a million training points by method and hidden units; both models' bounds, their variance."""
    s, images = run.settings, run.images()
    x, cpu, arithmetic = images.train[:5000], {}, {}
    for hidden in s.sizes:
        for method, loss in LOSSES.items():
            wide = type(s)(**vars(s) | {"hidden": hidden})
            vae, seconds = new_model(wide, images, s.latents, run.seed), []
            optimizer = optimizer_for(vae, s, s.step_sizes[0], len(x))
            for k in range(s.repeats + 1):  # the first compiles
                begun = time.process_time()
                fit(
                    vae, loss(vae), optimizer, x, epochs=1, batch_size=s.batch, rng=Generator([run.seed, k]),
                    prepare=preparation(s), progress=False,
                )  # fmt: skip
                seconds.append((time.process_time() - begun) / len(x))
            cpu[f"{method}, {hidden}"], arithmetic[f"{method}, {hidden}"] = seconds[1:], flops(vae, method)
    bounds = {}
    for method in LOSSES:
        vae, _, held_out, _ = trained(run, s.latents, method=method)
        for name, some in held_out.items():
            values = np.array([evaluation.elbo(vae, some, Generator([9, k])).values for k in range(20)])
            noise = values.var(axis=0, ddof=1).mean() / len(some)
            bounds[f"{method}, {name}"] = [values.mean(), noise, values[0].var(ddof=1) / len(some)]
    return {"per_point": cpu, "flops": arithmetic, "bounds": bounds, "images": len(held_out["test"])}


@costs.table
def _(n, table):
    for case, seconds in n.per_point.items():
        mean, error = mean_and_error(np.array(seconds) * 1e6 / 60)
        rate = n.flops[case] * 1e6 / (mean * 60) / 1e9
        note = f"CPU minutes, +- {error:.1g}; {n.flops[case] / 1e6:.2g} million flops a point, {rate:.0f} GFLOPS"
        table.row(
            f"{case} hidden units: a million training points",
            mean,
            30.0 if n.settings.data == "mnist" and "500" in case else None,
            "minutes",
            note,
        )
    large = n.settings.sizes[-1]
    hidden = TEXT_HIDDEN.get(n.settings.data, large)
    at_40 = n.flops[f"AEVB, {large}"] * hidden / large * 1e6 / EFFECTIVE / 60  # every product has the hidden units
    what = f"AEVB, {hidden} hidden units: a million training points at 40 GFLOPS"
    table.row(what, at_40, 30.0, "minutes", "products alone; published: 20 to 40 minutes")
    says = table.says(
        "thesis Figure 2.5",
        "Computation took around 20-40 minutes per million training samples with an Intel Xeon CPU running at an "
        "effective 40 GFLOPS.",
    )
    says(at_40, "=", 30.0, 10.0, f"minutes of arithmetic of a million points at 40 GFLOPS, {hidden} hidden units")
    for hidden in n.settings.sizes:
        pair = [np.array(n.per_point[f"{method}, {hidden}"]) for method in ("wake-sleep", "AEVB")]
        ratio, error = mean_and_error(np.divide(*pair))
        arithmetic = n.flops[f"wake-sleep, {hidden}"] / n.flops[f"AEVB, {hidden}"]
        note = f"+- {error:.2g}; of flops {arithmetic:.2f}"
        table.row(f"{hidden} hidden units: wake-sleep's seconds over AEVB's", ratio, unit="times", note=note)
    says = table.says("thesis 2.10", "Wake-Sleep has the same computational complexity as AEVB per datapoint.")
    label = f"{large} hidden units: wake-sleep's seconds over AEVB's, against its passes over AEVB's"
    says(ratio, "<=", arithmetic, 0.0, label, standard_error=error)
    says = table.says("thesis Figure 2.5", "The estimator variance was small (< 1) and omitted.", seeds=1)
    for case, (mean, noise, whole) in n.bounds.items():
        note = f"{n.images} images; variance of this mean by the samples of z {noise:.2g}, and by images {whole:.3g}"
        table.row(f"{case}: bound", mean, note=note)
        says(noise, "<=", 1.0, 0.0, f"{case}: variance of the estimated mean bound by the samples of z, nats^2")
