"""Importance-sampled log p(x) against the integral, by number of samples (section 2.7)."""

# %% [markdown]
# ## Section 2.7: importance sampling, from L = 1 to 5,000
#
# A model of two latents, trained with AEVB, whose log p(x) a grid gives exactly. For each L the estimate of eq. 2.57 is
# repeated with draws of its own, so that its mean over repeats is the bound of that L, and their spread is the noise
# of one estimate. Theory for large L: the bound misses log p(x) by Var(w / p(x)) / (2 L). Where q is much narrower than
# the posterior that variance is large or infinite, and the gap closes more slowly. A defence: 0.9 q(z | x) + 0.1 p(z)
# as the proposal, whose weights are at most 10 p(x | z).

# %%
import numpy as np

from minivi import bounds, data, evaluation, plots
from minivi.distributions import Normal
from minivi.experiments import experiment
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi_chapters.studies.ch02_marginal_likelihood._shared import DIGITS, MNIST, PAPER, new_vae, optimizer_for


def log_weights(vae, x, count, rng, share):
    """log p(x, z) - log r(z) of ``count`` draws for each datum, float64 (count, N), in chunks.

    The proposal r is q(z | x), but a ``share`` of it p(z).
    """
    chunk, parts = max(1, 8_000_000 // x.size), []
    with no_grad():
        q = vae.encode(x)
        prior = Normal(np.zeros_like(q.mu), np.zeros_like(q.mu))
        for i in range(0, count, chunk):
            shape = (min(chunk, count - i), *q.shape)
            eps, from_prior = rng.standard_normal(shape, dtype=vae.dtype), rng.random(shape[:2]) < share
            z = np.where(from_prior[..., None], eps, np.asarray(q.rsample(eps)))
            log_p, log_q = (np.asarray(d.log_prob(z), np.float64) for d in (prior, q))
            log_r = np.logaddexp(np.log1p(-share) + log_q, np.log(share) + log_p) if share else log_q
            parts.append(np.asarray(vae.decode(z).log_prob(x), np.float64) + log_p - log_r)
    return np.concatenate(parts)


COUNTS = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000])
PROPOSALS = {"q(z | x)": 0.0, "0.9 q(z | x) + 0.1 p(z)": 0.1}


def by_count(vae, x, exact, s, share):
    """For each L: the mean estimate, its error and the noise of one; and theory's gap, by the longest run's weights."""
    bound, error, spread = np.empty((3, len(COUNTS)))
    for i, count in enumerate(COUNTS):
        repeats = max(s.repeats, s.draws // count)
        log_w = log_weights(vae, x, count * repeats, Generator([7, count]), share).reshape(count, repeats, -1)
        estimate = np.asarray(bounds.iwae(log_w))  # (repeats, data)
        bound[i], spread[i] = estimate.mean(), estimate.mean(axis=1).std(ddof=1)
        error[i] = spread[i] / np.sqrt(repeats)
    ratio = np.exp(log_w.reshape(-1, len(x)) - exact.values)  # w / p(x)
    theory = ratio.var(axis=0).mean() / (2 * COUNTS)
    return {"bound": bound, "error": error, "spread": spread, "gap": exact.mean - bound, "theory": theory}


@experiment(
    "importance",
    title="importance-sampled log p(x) against quadrature, by number of samples",
    mirrors="thesis section 2.7, eq. 2.56, 2.57",
    budgets={
        "quick": DIGITS | {"epochs": 150, "latents": 2, "images": 60, "repeats": 10, "draws": 1000, "grid": 120},
        "laptop": MNIST | {"epochs": 5, "latents": 2, "images": 100, "repeats": 20, "draws": 4000, "grid": 300},
        "paper": PAPER | {"epochs": 500, "latents": 2, "images": 1000, "repeats": 50, "draws": 5000, "grid": 500},
    },
    minutes={"quick": 0.3, "laptop": 1.1, "paper": 60},
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
    found = {name: by_count(vae, x, exact, s, share) for name, share in PROPOSALS.items()}
    return {"found": found, "exact": exact.mean, "finer": finer.mean, "elbo": elbo, "images": len(x)}


def slope(by):
    """Of log gap in log L, and its standard error: over the five largest L whose gap is three errors or more."""
    x, seen = np.log(COUNTS), np.flatnonzero(by["gap"] >= 3 * by["error"])[-5:]
    weight = by["gap"][seen] / by["error"][seen]
    (slope, _), cov = np.polyfit(x[seen], np.log(by["gap"][seen]), 1, w=weight, cov="unscaled")
    return slope, np.sqrt(cov[0, 0]), COUNTS[seen]


@importance.table
def _(n, table):
    s = n.settings
    note = f"{n.images} images, a grid of {s.grid}^{s.latents}; the text has the formula only"
    table.row("integral over z", n.exact, note=note)
    table.row("integral - a finer and wider grid", 1000 * (n.exact - n.finer), unit="millinats")
    table.row("ELBO", n.elbo, note=f"{s.draws} samples, KL in closed form")
    says = table.says(
        "thesis 2.7",
        "By making L large, the approximation becomes a better estimate of the marginal likelihood, and in fact since "
        "this is a Monte Carlo estimator, for L -> infinity this converges to the actual marginal likelihood.",
        seeds=1,
    )
    for name, by in n.found.items():
        bound, error = by["bound"], by["error"]
        for count, gap, e, spread in zip(COUNTS, by["gap"], error, by["spread"], strict=True):
            note = f"standard error {1000 * e:.2f}; s.d. of one estimate {1000 * spread:.1f}"
            table.row(f"{name}: integral - L = {count}", 1000 * gap, None, "millinats", note)
        falls, off, seen = slope(by)
        note = f"+- {off:.2g}, from L = {seen[0]} to {seen[-1]}, where noise is below a third of it; theory -1"
        table.row(f"{name}: slope of log gap in log L", falls, unit="", note=note)
        says(falls, "<=", 0.0, 0.0, f"{name}: slope of log gap in log L", standard_error=off)
        rises = np.diff(bound) / np.hypot(error[:-1], error[1:])
        label = "the bound rises from each L to the next: smallest rise, standard errors"
        table.check(rises.min(), ">=", -4.0, 0.0, f"{name}: {label}")
        table.check(((bound - n.exact) / error).max(), "<=", 4.0, 0.0, f"{name}: no mean above the integral, in them")
    by = n.found[next(iter(PROPOSALS))]
    both = 4 * np.hypot(by["error"][0], by["error"][0])  # the ELBO above has as many draws
    table.check(by["bound"][0], "=", n.elbo, both, "L = 1 is the ELBO, within 4 standard errors")


@importance.figure()
def _(n):
    """The bound between the ELBO and the integral, and what it misses beside what theory says."""
    s = n.settings
    fig = plots.figure(9.0, 4.0)
    axes, gap = fig.subplots(1, 2)
    axes.axhline(n.exact, color="#000000", linewidth=1.0, label="integral over z")
    for i, (name, by) in enumerate(n.found.items()):
        bound, error, look = by["bound"], by["error"], plots.style(1 + 2 * i)
        axes.errorbar(COUNTS, bound, 2 * error, label=f"{name} (bars: 2 s.e.)", capsize=2, **look)
        band = bound - by["spread"], bound + by["spread"]
        axes.fill_between(COUNTS, *band, color=look["color"], alpha=0.15, label="s.d. of one estimate")
        gap.errorbar(COUNTS, by["gap"], 2 * error, label=name, capsize=2, **look)
        style = look | {"marker": "", "linestyle": ":"}
        gap.plot(COUNTS, by["theory"], label="its mean of Var(w / p(x)) / (2L)", **style)
    axes.axhline(n.elbo, label="ELBO", **(plots.style(2) | {"marker": ""}))
    gaps = np.concatenate([by["gap"] for by in n.found.values()])
    gap.set_ylim(gaps[gaps > 0].min() / 2, 3 * gaps.max())
    plots.panel(axes, "", "importance samples L", "log p(x), nats per image", log="x").legend(fontsize=7)
    plots.panel(gap, "", "importance samples L", "integral - mean estimate, nats", log="xy").legend(fontsize=7)
    title = f"Importance-sampled likelihood of {n.images} test images of {s.data}, {s.latents} latents"
    fig.suptitle(title, fontsize=10)
    return fig
