"""Manifolds, samples and reconstructions (Figures 2.7 and 2.8, eq. 2.71)."""

# %% [markdown]
# ## Figure 2.7: the learned manifold
#
# Two latents. The unit square, cut into equal steps, is sent through the inverse Gaussian CDF, so that the grid covers
# the prior evenly; each z is shown as the mean of p(x | z). Where no image has been encoded the decoder has learned
# nothing: the table says where the encoder puts the training images, and the claim how much of the grid they fill.
#
# A Gaussian likelihood of hundreds of nats leaves the divergence from the prior little weight: after 500 epochs on Frey
# faces the codes lie 2.4 standard deviations from the prior's centre, and a grid of the prior would show mostly what no
# face has taught. There the grid covers the Gaussian that has the codes' own mean and covariance.

# %%
import numpy as np
from scipy.spatial import cKDTree
from scipy.special import ndtri

from minivi import evaluation, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi_chapters.studies.ch02_aevb._shared import FREY_BUDGETS, budgets, preparation, trained

SIZES = (2, 5, 10, 20)  # numbers of latents in Figure 2.8


@experiment(
    "manifold_frey",
    title="the manifold of a face learned with two latents",
    mirrors="thesis Figure 2.7(a)",
    budgets={name: settings | {"grid": 12, "around": "codes"} for name, settings in FREY_BUDGETS.items()},
    minutes={"quick": 0.2, "laptop": 0.27, "paper": 8},
)
@experiment(
    "manifold",
    title="the data manifold learned with two latents",
    mirrors="thesis Figure 2.7(b)",
    budgets=budgets(*({"grid": n, "around": "prior"} for n in (16, 20, 20))),
    minutes={"quick": 0.2, "laptop": 1.6, "paper": 100},
)
def manifold(run):
    """Decode a grid of the quantiles of the prior, or of a Gaussian around the training images' codes."""
    s, images = run.settings, run.images()
    vae, history, *_ = trained(run, 2)
    means = np.asarray(vae.encode(preparation(s)(images.train, Generator(8))).mu, float)
    centre, turn = np.zeros(2), np.eye(2)
    if s.around == "codes":
        variances, directions = np.linalg.eigh(np.cov(means.T))
        # Principal axes, the longer first, each with its larger part positive
        turn = (directions * np.sign(directions[np.abs(directions).argmax(0), [0, 1]]) * np.sqrt(variances)).T[::-1]
        centre = means.mean(axis=0)
    u = ndtri((np.arange(s.grid) + 0.5) / s.grid)
    grid = np.stack([a.ravel() for a in np.meshgrid(u, u[::-1])], axis=1)  # rows from top (large u_2) to bottom
    codes = np.linalg.solve(turn.T, (means - centre).T).T  # in the grid's units
    return {
        "images": plots.grey_levels(vae.mean_image(centre + grid @ turn)),
        "shape": images.shape,
        "bound": history.records[-1]["test"],
        "means": means.mean(axis=0),
        "spreads": means.std(axis=0),
        "taught": np.mean(cKDTree(codes).query(grid)[0] < 0.5),
    }


@manifold.table
def _(n, table):
    table.row("2 latents, test bound", n.bound, note="published as a picture only")
    for i, (mean, spread) in enumerate(zip(n.means, n.spreads, strict=True)):
        note = f"standard deviation {spread:.2f}; with no hole under the prior they are near 0 and 1"
        table.row(f"mean of mu_{i + 1}(x) over training images", mean, unit="", note=note)
    note = "within half a standard deviation of a training image's code"
    table.row("share of the grid that training has reached", 100 * n.taught, unit="%", note=note)


@manifold.figure()
def _(n):
    s, of = n.settings, "codes'" if n.settings.around == "codes" else "prior"
    fig = plots.figure(6.0, 6.2)
    axes = fig.add_subplot()
    gap = n.shape[0] // 8 if n.shape[0] < 20 else 0
    sheet = plots.tile(n.images, n.shape, s.grid, gap, photo=s.data == "frey")
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1, extent=(0, 1, 0, 1), interpolation="nearest")
    ticks = [0.05, 0.25, 0.5, 0.75, 0.95]
    axes.set_xticks(ticks, [f"{ndtri(t):.1f}" for t in ticks])
    axes.set_yticks(ticks, [f"{ndtri(t):.1f}" for t in ticks])
    names = ["$z_1$", "$z_2$"] if of == "prior" else [f"codes' principal axis {i}, standard deviations" for i in (1, 2)]
    axes.set_xlabel(f"{names[0]} (equal steps of {of} probability)", fontsize=9)
    axes.set_ylabel(names[1], fontsize=9)
    axes.set_title(f"Mean images p(x | z) over a two-dimensional latent space, {s.data}", fontsize=10)
    return fig


# %% [markdown]
# ## Figure 2.8: random samples
#
# z from the prior, then the mean of p(x | z), for 2, 5, 10 and 20 latents. The table adds the importance-sampled
# likelihood (eq. 2.57) of test images: the bound's gap to it is KL(q(z | x) || p(z | x)).


# %%
@experiment(
    "samples",
    title="random samples for 2, 5, 10 and 20 latents",
    mirrors="thesis Figure 2.8",
    budgets=budgets({}, {}, {}),
    minutes={"quick": 0.6, "laptop": 4.1, "paper": 60 * 7},
)
def samples(run):
    """Draw from four models, and estimate their likelihoods."""
    s, models = run.settings, {}
    for latents in SIZES:
        vae, _, held_out, _ = trained(run, latents)
        x = held_out["test"][: s.images]
        elbo = evaluation.elbo(vae, x, Generator(5), samples=10)
        likelihood = evaluation.log_likelihood(vae, x, Generator(6), s.samples, progress=run.progress)
        models[str(latents)] = {
            "images": plots.grey_levels(vae.sample(100, Generator([4, run.seed]))[0]),
            "bound": [elbo.mean, elbo.standard_error],
            "log p(x)": [likelihood.mean, likelihood.standard_error],
        }
    return {"models": models, "shape": run.images().shape, "count": len(x)}


@samples.table
def _(n, table):
    for latents, model in n.models.items():
        for name, more in (("bound", ""), ("log p(x)", f"; {n.settings.samples} importance samples")):
            mean, error = model[name]
            note = f"{n.count} test images; standard error {error:.2f}{more}"
            table.row(f"{latents} latents, {name}", mean, note=note)


@samples.figure()
def _(n):
    fig = plots.figure(10.0, 2.9)
    for i, (latents, model) in enumerate(n.models.items()):
        plots.show(fig.add_subplot(1, 4, i + 1), plots.tile(model["images"], n.shape, 10), f"{latents} latents")
    title = f"Random samples from models of {n.settings.data}: mean images p(x | z), z from the prior"
    fig.suptitle(title, fontsize=10)
    return fig


# %% [markdown]
# ## Reconstructions
#
# Eq. 2.71 reads the bound as a reconstruction error plus a regulariser. Here are both, in nats, and the images.


# %%
@experiment(
    "reconstructions",
    title="test images and their reconstructions",
    mirrors="thesis eq. 2.71, section 2.10",
    budgets=budgets({}, {}, {}),
    minutes={"quick": 0.6, "laptop": 3.8, "paper": 60 * 7},
)
def reconstructions(run):
    """Encode to the posterior mean and decode, for four models."""
    models = {}
    for latents in SIZES:
        vae, _, held_out, _ = trained(run, latents)
        x = held_out["test"]
        with_kl = [vae.encode(part).kl() for part in np.array_split(x, max(1, len(x) // 1000))]
        models[str(latents)] = {
            "images": plots.grey_levels(vae.reconstruct(x[:20])),
            "kl": float(np.mean(np.concatenate([np.asarray(k) for k in with_kl]))),
            "bound": evaluation.elbo(vae, x, Generator(7)).mean,
        }
    return {"models": models, "data": plots.grey_levels(x[:20]), "shape": run.images().shape}


@reconstructions.table
def _(n, table):
    for latents, model in n.models.items():
        table.row(f"{latents} latents, E log p(x | z)", model["bound"] + model["kl"])
        table.row(f"{latents} latents, KL(q(z | x) || p(z))", model["kl"])


@reconstructions.figure()
def _(n):
    axes = plots.figure(8.0, 2.5).add_subplot()
    sheets = [n.data, *(model["images"] for model in n.models.values())]
    plots.show(axes, plots.tile(np.concatenate(sheets), n.shape, 20))
    height = n.shape[0] + 1
    labels = ["data", *(f"{latents} latents" for latents in n.models)]
    axes.set_yticks([height * (i + 0.5) for i in range(5)], labels, fontsize=8)
    title = f"Test images of {n.settings.data} and their reconstructions at the posterior mean"
    axes.set_title(title, fontsize=10)
    return axes.figure


# %% [markdown]
# ## What to try next
#
# - `minivi run ch02_aevb --budget laptop`: the same on MNIST.
# - Replace `estimator="B"` by `"A"` in `loss`, and compare the noise of the bound.
# - `minivi check 2.8` after changing one sign in `VAE.elbo`: what fails, and what does not?
