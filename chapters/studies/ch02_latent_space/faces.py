"""Chapter 2, applications: a model of faces in colour (thesis Figure 2.9)."""

# %%
import numpy as np

from minivi import evaluation, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.random import Generator
from minivi_chapters.studies.ch02_latent_space._shared import ADAGRAD, ADAM, SYNTHETIC, pictures, trained

# %% [markdown]
# ## Figure 2.9: random faces in colour
#
# The same VAE as for Frey faces, with red, green and blue of every pixel in a row. `laptop` takes Labeled Faces in the
# Wild, which scikit-learn fetches (233 MB); `quick` needs no network.


# %%
@experiment(
    "faces",
    title="random faces in colour (at quick, of synthetic ones)",
    mirrors="thesis Figure 2.9",
    budgets={
        "quick": SYNTHETIC | {"colour": True},
        "laptop": ADAM | {"data": "lfw", "likelihood": "gaussian", "hidden": 200, "epochs": 100},
        "paper": ADAGRAD | {"data": "lfw", "likelihood": "gaussian", "hidden": 200, "epochs": 1000},
    },
    minutes={"quick": 0.2, "laptop": 2, "paper": 20},
)
def faces(run):
    """Train on colour images; draw random samples, reconstruct test images."""
    images = pictures(run)
    vae = trained(run, images)
    bound = evaluation.elbo(vae, images.test, Generator(5), samples=10)
    some = images.test[:50]
    pairs = np.stack([some, vae.reconstruct(some)], axis=1).reshape(2 * len(some), -1)
    return {
        "bound": [bound.mean, bound.standard_error],
        "squared error": mean_and_error(np.sum((vae.reconstruct(images.test) - images.test) ** 2, axis=1)),
        "samples": plots.grey_levels(vae.sample(100, Generator([4, run.seed]))[0]),
        "pairs": plots.grey_levels(pairs),
        "shape": images.shape,
    }


@faces.table
def _(n, table):
    note = "published as a picture only"
    if n.settings.data == "synthetic":
        note = "synthetic faces; --budget laptop takes lfw"
    mean, error = n.bound
    table.row("test bound (of a density)", mean, note=f"s.e. {error:.2g}; {note}")
    mean, error = vars(n)["squared error"]
    note = f"s.e. {error:.2g}; at the posterior's mean"
    table.row("squared error per test image", mean, unit="sq. error", note=note)


@faces.figure()
def _(n):
    """The means of random samples, and data beside reconstructions."""
    fig, what = plots.figure(9.0, 5.4), n.settings.data
    left, right = fig.subplots(1, 2)
    title = "random samples: means of p(x | z), z from the prior"
    plots.show(left, plots.tile(n.samples, n.shape, 10, photo=True), title)
    title = "test images, each beside its reconstruction"
    plots.show(right, plots.tile(n.pairs, n.shape, 10, photo=True), title)
    if what == "synthetic":
        what = "synthetic faces, not the published set"
    fig.suptitle(f"A VAE with {n.settings.latents} latents of {what}", fontsize=10)
    return fig
