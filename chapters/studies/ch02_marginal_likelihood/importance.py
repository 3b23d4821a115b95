"""Importance-sampled log p(x) against the integral, by number of samples (section 2.7)."""

# %% [markdown]
# ## Section 2.7: importance sampling, from L = 1 to 5,000
#
# A model of two latents, trained with AEVB, whose log p(x) a grid gives exactly. For each L the estimate of eq. 2.57 is
# repeated with draws of its own, so that its mean over repeats is the bound of that L, and their spread is the noise
# of one estimate. Theory for large L: the bound misses log p(x) by Var(w / p(x)) / (2 L). Where q is much narrower than
# the posterior that variance is large or infinite, and the gap closes more slowly.

# %%
import numpy as np

from minivi import bounds, data, evaluation, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi_chapters.studies.ch02_marginal_likelihood._shared import DIGITS, MNIST, PAPER, new_vae, optimizer_for


def log_weights(vae, x, count, rng):
    """log p(x, z) - log q(z | x) of ``count`` draws for each datum, float64 (count, N), in chunks."""
    chunk = max(1, 8_000_000 // x.size)
    with no_grad():
        parts = [vae.log_weights(x, rng, min(chunk, count - i)) for i in range(0, count, chunk)]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


@experiment(
    "importance",
    title="importance-sampled log p(x) against quadrature, by number of samples",
    mirrors="thesis section 2.7, eq. 2.56, 2.57",
    budgets={
        "quick": DIGITS | {"epochs": 150, "latents": 2, "images": 60, "repeats": 10, "draws": 1000, "grid": 120},
        "laptop": MNIST | {"epochs": 5, "latents": 2, "images": 100, "repeats": 20, "draws": 4000, "grid": 300},
        "paper": PAPER | {"epochs": 500, "latents": 2, "images": 1000, "repeats": 50, "draws": 5000, "grid": 500},
    },
    minutes={"quick": 0.3, "laptop": 2.4, "paper": 60},
)
def importance(run):
    """Bound, noise and theory for each L, and the ends: the ELBO and the integral."""
    s, images = run.settings, run.images()
    vae = new_vae(s, images.train.shape[1], s.latents, run.seed)
    optimizer = optimizer_for(vae, s, s.step_sizes[0], len(images.train))
    run.fit(
        f"{s.data}_importance_seed{run.seed}", vae, lambda x, rng: -vae.elbo(x, rng).mean(), optimizer, images.train,
        epochs=s.epochs, batch_size=s.batch, rng=Generator([run.seed, 6]), prepare=data.fresh,
    )  # fmt: skip
    x = data.fresh(images.test[: s.images], Generator(3))
    exact = evaluation.log_likelihood_by_quadrature(vae, x, s.grid, limit=7.0)
    finer = evaluation.log_likelihood_by_quadrature(vae, x, 2 * s.grid, limit=9.0)
    elbo = evaluation.elbo(vae, x, Generator(4), samples=s.draws).mean
    counts = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000])
    bound, error, spread = np.empty((3, len(counts)))
    for i, count in enumerate(counts):
        repeats = max(s.repeats, s.draws // count)
        log_w = log_weights(vae, x, count * repeats, Generator([7, count])).reshape(count, repeats, -1)
        estimate = np.asarray(bounds.iwae(log_w))  # (repeats, data)
        bound[i], spread[i] = estimate.mean(), estimate.mean(axis=1).std(ddof=1)
        error[i] = spread[i] / np.sqrt(repeats)
    missing = exact.mean - bound
    ratio = np.exp(log_w.reshape(-1, len(x)) - exact.values)  # w / p(x), of the last and longest run
    theory = ratio.var(axis=0).mean() / (2 * counts)
    return {
        "counts": counts, "bound": bound, "error": error, "spread": spread, "gap": missing, "theory": theory,
        "exact": exact.mean, "finer": finer.mean, "elbo": elbo, "images": len(x),
    }  # fmt: skip


@importance.table
def _(n, table):
    s, counts, bound, error = n.settings, n.counts, n.bound, n.error
    note = f"{n.images} images, a grid of {s.grid}^{s.latents}; the text has the formula only"
    table.row("integral over z", n.exact, note=note)
    table.row("integral - a finer and wider grid", 1000 * (n.exact - n.finer), unit="millinats")
    table.row("ELBO", n.elbo, note=f"{s.draws} samples, KL in closed form")
    table.row("L = 1", bound[0], note=f"standard error {error[0]:.4f}")
    table.row(f"L = {counts[-1]}", bound[-1], note=f"standard error {error[-1]:.4f}")
    for count, gap, e, spread in zip(counts, n.gap, error, n.spread, strict=True):
        note = f"standard error {1000 * e:.2f}; s.d. of one estimate {1000 * spread:.1f}"
        table.row(f"integral - L = {count}", 1000 * gap, None, "millinats", note)
    rises = np.diff(bound) / np.hypot(error[:-1], error[1:])
    both = 4 * np.hypot(error[0], error[0])  # the ELBO above has as many draws
    table.claim(bound[0], "=", n.elbo, both, "L = 1 is the ELBO, within 4 standard errors")
    label = "the bound rises from each L to the next: smallest rise, standard errors"
    table.claim(rises.min(), ">=", -3.0, 0.0, label)
    highest = ((bound - n.exact) / error).max()
    table.claim(highest, "<=", 3.0, 0.0, "no mean above the integral, standard errors")
    table.claim(bound[-1], "=", n.exact, 0.05, "L = 5000 reaches the integral, within 0.05 nats")


@importance.figure()
def _(n):
    """The bound between the ELBO and the integral, and what it misses beside what theory says."""
    s, counts, bound, error = n.settings, n.counts, n.bound, n.error
    fig = plots.figure(9.0, 4.0)
    axes, gap = fig.subplots(1, 2)
    axes.axhline(n.exact, color="#000000", linewidth=1.0, label="integral over z")
    axes.errorbar(counts, bound, 2 * error, label="mean estimate (bars: 2 s.e.)", capsize=2, **plots.style(1))
    band = bound - n.spread, bound + n.spread
    axes.fill_between(counts, *band, color="#0b5394", alpha=0.2, label="s.d. of one estimate")
    axes.axhline(n.elbo, label="ELBO", **(plots.style(2) | {"marker": ""}))
    gap.errorbar(counts, n.gap, 2 * error, label="integral - mean estimate", capsize=2, **plots.style(1))
    gap.plot(counts, n.theory, label="mean of Var(w / p(x)) / (2L)", **(plots.style(2) | {"marker": ""}))
    plots.panel(axes, "", "importance samples L", "log p(x), nats per image", log="x").legend(fontsize=8)
    plots.panel(gap, "", "importance samples L", "gap, nats per image", log="xy").legend(fontsize=8)
    title = f"Importance-sampled likelihood of {n.images} test images of {s.data}, {s.latents} latents"
    fig.suptitle(title, fontsize=10)
    return fig
