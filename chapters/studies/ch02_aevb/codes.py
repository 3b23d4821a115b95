"""Test images as points in the plane (section 2.11.3)."""

# %% [markdown]
# ## Section 2.11.3: the encoder as a projection
#
# With two latents, mu(x) puts each image into the plane. No label is seen; how far the plane keeps classes apart is
# measured by a classifier of nearest neighbours among the training images' codes, beside PCA's plane and the prior.

# %%
import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from minivi import plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi_chapters.studies.ch02_aevb._shared import budgets, preparation, trained


@experiment(
    "codes",
    title="test images as points of the plane, by class",
    mirrors="thesis section 2.11.3",
    budgets=budgets({"shown": 297}, {"shown": 2000}, {"shown": 10_000}),
    minutes={"quick": 0.2, "laptop": 0.59, "paper": 100},
)
def codes(run):
    """Codes by a VAE of two latents and by PCA: where test images lie, and errors of nearest neighbours."""
    s, images = run.settings, run.images(labels=True)
    vae = trained(run, 2)[0]
    train, test = images.train[:10_000], preparation(s)(images.test, Generator(2))
    pca = PCA(2).fit(train)
    planes = {"mu(x)": lambda x: np.asarray(vae.encode(x).mu, float), "PCA": pca.transform}
    found = {}
    for name, project in planes.items():
        points = project(test)
        neighbours = KNeighborsClassifier(20).fit(project(train), images.train_labels[: len(train)])
        wrong = np.mean(neighbours.predict(points) != images.test_labels)
        found[name] = {"points": points[: s.shown], "errors": 100 * wrong}
    chance = 100 * (1 - np.bincount(images.test_labels).max() / len(test))
    return {"found": found, "labels": images.test_labels[: s.shown], "chance": chance, "count": len(test)}


@codes.table
def _(n, table):
    for name, plane in n.found.items():
        error = np.sqrt(plane["errors"] * (100 - plane["errors"]) / n.count)
        note = (
            f"20 nearest training images; {n.count} test images, +- {error:.2g}; of one class always {n.chance:.0f} %"
        )
        table.row(f"plane of {name}: errors of nearest neighbours", plane["errors"], unit="%", note=note)


@codes.figure()
def _(n):
    """Digits where their images' codes are, in either plane; each class's median large, in a circle beside a dot."""
    fig = plots.figure(11.0, 5.6)
    circle = {"boxstyle": "circle,pad=0.1", "facecolor": "white", "edgecolor": "black", "linewidth": 0.8}
    for axes, (name, plane) in zip(fig.subplots(1, 2), n.found.items(), strict=True):
        low, high = np.quantile(plane["points"], [0.005, 0.995], axis=0)
        taken = []
        for k in np.unique(n.labels):
            for x, y in plane["points"][n.labels == k][:50]:
                axes.text(x, y, str(k), color="#444444", fontsize=8, ha="center", va="center", clip_on=True)
            middle = np.median(plane["points"][n.labels == k], axis=0)
            axes.plot(*middle, "o", color="black", markersize=4)
            while any(np.abs((middle - other) / (high - low)).max() < 0.05 for other in taken):
                middle = middle - [0.0, 0.01 * (high[1] - low[1])]  # one label would hide the other
            taken.append(middle)
            axes.text(*middle, str(k), fontsize=13, weight="bold", ha="center", va="center", bbox=circle)
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        what = "latent, mu(x)" if name == "mu(x)" else "principal component"
        title = f"{name}: nearest neighbours err in {plane['errors']:.1f} %"
        plots.panel(axes, title, f"first {what}", f"second {what}")
        axes.xaxis.label.set_size(10)
        axes.yaxis.label.set_size(10)
        axes.title.set_size(10)
    title = f"Test images of {n.settings.data} in the plane, 50 of each class (in circles: at or below its median)"
    fig.suptitle(title, fontsize=11)
    return fig
