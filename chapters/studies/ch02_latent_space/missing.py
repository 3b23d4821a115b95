"""Missing pixels, and a search in latent space (thesis appendices 2.D.2.1, 2.D.2.2)."""

# %% [markdown]
# ## Imputation
#
# What is missing is drawn and encoded again, by turns (Rezende et al. 2014): z ~ q(z | x), then the missing pixels from
# p(x | z); what is averaged over the later turns is the mean of p(x | z). The appendix has words for pixels.

# %%
import numpy as np

from minivi import data, ops, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.random import Generator
from minivi.tensor import Parameter, grad, no_grad
from minivi_chapters.studies.ch02_latent_space._shared import ADAGRAD, ADAM, DIGITS, MNIST, pictures, trained
from minivi_chapters.studies.ch02_latent_space.arithmetic import distances, slant

BUDGETS = {
    "quick": DIGITS | {"images": 100, "turns": 40, "steps": 60},
    "laptop": ADAM | MNIST | {"epochs": 10, "images": 500, "turns": 60, "steps": 100},
    "paper": ADAGRAD | MNIST | {"epochs": 500, "images": 5000, "turns": 500, "steps": 500},
}
MASKS = {  # True where a pixel is missing
    "lower half": lambda shape, rng: np.arange(np.prod(shape)) >= np.prod(shape) // 2,
    "half at random": lambda shape, rng: rng.random(np.prod(shape)) < 0.5,
}


def impute(vae, x, missing, start, turns, rng):
    """Means of p(x | z) where ``missing`` (D,), from the second half of the turns: (N, D)."""
    filled, means = np.where(missing, start, x).astype(vae.dtype), []
    with no_grad():
        for turn in range(turns):
            p = vae.decode(vae.encode(filled).sample(rng))
            filled = np.where(missing, p.sample(rng), x).astype(vae.dtype)
            if turn >= turns // 2:
                means.append(np.asarray(p.mean, float))
    return np.where(missing, np.mean(means, axis=0), x)


def nats(guess, x, missing):
    """-log Bernoulli of the missing pixels, (N,): what the guess costs."""
    p = np.clip(guess[:, missing], 1e-3, 1 - 1e-3)
    return -np.sum(np.where(x[:, missing] > 0.5, np.log(p), np.log(1 - p)), axis=1)


@experiment(
    "imputation",
    title="missing pixels, by a VAE, by nearest training images, by the mean pixel",
    mirrors="thesis appendix 2.D.2.2",
    budgets=BUDGETS,
    minutes={"quick": 0.3, "laptop": 0.31, "paper": 60},
)
def imputation(run):
    """Binary test images with half of their pixels: what each way gives to the pixels that are missing."""
    s, images = run.settings, pictures(run)
    vae = trained(run, images)
    train = images.train[:20_000]
    x, mean = data.fresh(images.test[: s.images], Generator(51)), images.train.mean(axis=0)
    costs, sheets = {}, {}
    for k, (name, mask) in enumerate(MASKS.items()):
        missing = mask(images.shape, Generator(52))
        seen = x[:, ~missing]
        near = np.argsort((train[:, ~missing] ** 2).sum(axis=1) - 2 * seen @ train[:, ~missing].T, axis=1)[:, :10]
        guesses = {
            "VAE": impute(vae, x, missing, mean, s.turns, Generator([run.seed, 53, k])),
            "ten nearest training images": train[near].mean(axis=1),
            "mean pixel": np.broadcast_to(mean, x.shape),
        }
        costs[name] = {way: nats(guess, x, missing) for way, guess in guesses.items()}
        sheets[name] = [np.where(missing, 0.5, x[:10]), *(np.where(missing, g[:10], x[:10]) for g in guesses.values())]
    return {
        "costs": costs, "shape": images.shape,
        "sheets": {name: plots.grey_levels(np.concatenate(rows)) for name, rows in sheets.items()},
    }  # fmt: skip


@imputation.table
def _(n, table):
    says = table.says(
        "thesis 2.D.2.2",
        "The model is shown to successfully interpolate between sentences, and for imputation of missing words.",
        seeds=1,
    )
    for name, ways in n.costs.items():
        for way, costs in ways.items():
            mean, error = mean_and_error(costs)
            table.row(f"{name} missing, {way}: -log p", mean, note=f"of the missing pixels; +- {error:.2g}")
        gain, error = mean_and_error(ways["mean pixel"] - ways["VAE"])
        label = f"pixels for words, {name} missing: nats that the VAE saves the mean pixel"
        says(gain, ">=", 0.0, 0.0, label, standard_error=error)


@imputation.figure()
def _(n):
    fig = plots.figure(11.0, 2.3)
    names = ["seen", "VAE", "neighbours", "mean pixel"]
    for axes, (name, sheet) in zip(fig.subplots(1, 2), n.sheets.items(), strict=True):
        plots.show(axes, plots.tile(sheet, n.shape, 10), f"{name} missing (grey): seen, then filled in")
        axes.set_yticks([(n.shape[0] + 1) * (k + 0.5) for k in range(4)], names, fontsize=8)
    return fig


# %% [markdown]
# ## Search
#
# The appendix climbs a property of molecules in latent space. Here it is the slant of a digit, a number that the
# decoded image has: gradient ascent on z from test images' codes, kept no farther from 0 than 99 % of the codes lie.
# Beside it: as many draws from the prior as the search took steps, and the best of the training images.


# %%
def slant_of(images, shape):
    """:func:`~.arithmetic.slant` as a graph of the engine: ``images`` (B, D) -> (B,)."""
    height, column = (
        a.ravel().astype(float) for a in np.meshgrid(-np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    )
    total = images.sum(axis=-1)
    up, right = (ops.sum(images * a.astype(images.dtype), axis=-1) / total for a in (height, column))
    both = ops.sum(images * (height * column).astype(images.dtype), axis=-1) / total - up * right
    square = ops.sum(images * (height**2).astype(images.dtype), axis=-1) / total - ops.square(up)
    return both / square


def climb(vae, z, shape, steps, radius, step_size=0.1):
    """Codes after gradient ascent on the slant of their mean images, within ``radius``."""
    z = np.array(z)
    for _ in range(steps):
        code = Parameter(z)
        (slope,) = grad(slant_of(vae.decode(code).mean, shape).sum(), [code])
        z = z + step_size * np.asarray(slope) / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12)
        z = z * np.minimum(1.0, radius / np.linalg.norm(z, axis=1, keepdims=True)).astype(z.dtype)
    return z


@experiment(
    "search",
    title="gradient ascent in latent space towards a property of the decoded image",
    mirrors="thesis appendix 2.D.2.1, Figure 2.D.1",
    budgets=BUDGETS,
    minutes={"quick": 0.3, "laptop": 0.3, "paper": 60},
)
def search(run):
    """Slant before and after the search, of random draws, of training images; distances from the data."""
    s, images = run.settings, pictures(run)
    vae, shape = trained(run, images), images.shape
    train = images.train[:10_000]
    with no_grad():
        start = np.asarray(vae.encode(images.test[: min(s.images, 100)]).mu)
        radius = np.quantile(np.linalg.norm(np.asarray(vae.encode(train).mu), axis=1), 0.99)
    end = climb(vae, start, shape, s.steps, radius)
    rng = Generator([run.seed, 54])
    draws = rng.standard_normal((len(start) * s.steps, s.latents), dtype=vae.dtype)
    best = np.concatenate([slant(vae.mean_image(part), shape) for part in np.array_split(draws, s.steps)])
    before, after = vae.mean_image(start), vae.mean_image(end)
    return {
        "before": slant(before, shape), "after": slant(after, shape),
        "random": best.reshape(len(start), -1).max(axis=1), "train": np.quantile(slant(train, shape), [0.5, 0.99, 1.0]),
        "far": [mean_and_error(distances(x, train)) for x in (before, after)], "shape": shape,
        "images": plots.grey_levels(np.concatenate([before[:12], after[:12]])),
    }  # fmt: skip


@search.table
def _(n, table):
    for name, what in (("before", "start"), ("after", "end of the search"), ("random", "best of as many random draws")):
        mean, error = mean_and_error(getattr(n, name))
        table.row(f"slant, {what}", mean, unit="pixels / pixel", note=f"+- {error:.2g}; {len(n.before)} searches")
    table.row(
        "slant of training images, 99 % quantile", n.train[1], unit="pixels / pixel", note=f"largest {n.train[2]:.2f}"
    )
    for what, (mean, error) in zip(("start", "end"), n.far, strict=True):
        table.row(f"distance from the data, {what}", mean, unit="sq. error", note=f"+- {error:.2g}")
    says = table.says(
        "thesis Figure 2.D.1",
        "This continuous representation enables gradient-based search of new molecules that maximizes some chosen "
        "desired chemical property given by objective function f(z).",
        seeds=1,
    )
    for name, other in (("the start's", n.before), ("the best of as many random draws", n.random)):
        gain, error = mean_and_error(n.after - other)
        says(gain, ">=", 0.0, 0.0, f"slant for a property of molecules: the search's less {name}", standard_error=error)


@search.figure()
def _(n):
    axes = plots.figure(8.0, 1.9).add_subplot()
    plots.show(axes, plots.tile(n.images, n.shape, 12))
    axes.set_yticks([(n.shape[0] + 1) * (k + 0.5) for k in range(2)], ["start", "end"], fontsize=8)
    title = "Search in latent space for slant: decoded images before and after\n(what it ends at is no digit any more)"
    axes.set_title(title, fontsize=10)
    return axes.figure
