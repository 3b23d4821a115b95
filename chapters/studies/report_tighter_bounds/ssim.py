"""Structural similarity of reconstructions (tighter-bounds report, Table 2 and Figures 5-7)."""

# %% [markdown]
# ## Table 2 and Figures 5-7: reconstructions
#
# The structural similarity (SSIM) of the binary image that the encoder saw and the mean image of the decoder, for
# models trained on digits or characters, on both. Figures 5 and 6 are published as pictures with numbers in them,
# which the text does not repeat. The report does not say which images, grey or binary, were compared, nor the windows.

# %%
from types import SimpleNamespace

import numpy as np

from minivi import evaluation, plots
from minivi.experiments import experiment
from minivi_chapters.studies.report_tighter_bounds._shared import MNIST, OMNIGLOT, images, in_order, trained

TABLE_2 = {
    "mnist": {"IWAE": 0.58, "PIWAE": 0.60, "MIWAE": 0.59, "CIWAE 0.5": 0.58, "VAE": 0.57},
    "omniglot": {"IWAE": 0.72, "PIWAE": 0.74, "MIWAE": 0.75, "CIWAE 0.5": 0.72, "VAE": 0.72},
}


@experiment(
    "ssim",
    title="structural similarity of reconstructions, also of characters by a model of digits",
    mirrors="tighter-bounds report, Table 2 and Figures 5-7",
    budgets={b: MNIST[b] | {"other": OMNIGLOT[b]} for b in OMNIGLOT},
    minutes={
        "quick": 0.9,
        "laptop": 100,
        "paper": 60 * 24 * 6,
    },  # nearly all are of models that `mnist`, `omniglot` share
)
def reconstructions(run):
    """Reconstruct 1,000 test images of each set by models trained on each."""
    sets = sets_of(run.settings)
    test = {name: images(run, s).test[:1000] for name, s in sets.items()}
    shape, similar, pictures = images(run, run.settings).shape, {}, {}
    for trained_on, s in sets.items():
        for seen in sets:
            for method in in_order(sets["characters"].runs):
                y = trained(run, s, method)[0].reconstruct(test[seen])
                values = evaluation.ssim(test[seen], y, shape)
                key = f"{trained_on}, {seen}, {method}"
                similar[key] = {"mean": values.mean(), "spread": values.std(ddof=1)}
                pictures[key] = plots.grey_levels(y[:12])
    seen = {name: plots.grey_levels(x[:12]) for name, x in test.items()}
    return {"similar": similar, "pictures": pictures, "test": seen, "shape": shape}


def sets_of(settings):
    """The settings of both sets."""
    return {"digits": settings, "characters": SimpleNamespace(**settings.other)}


@reconstructions.table
def _(n, table):
    sets = sets_of(n.settings)
    names = in_order(sets["characters"].runs)
    for trained_on, s in sets.items():
        for seen in sets:
            for method in names:
                values, published = n.similar[f"{trained_on}, {seen}, {method}"], None
                if seen == "characters" and n.settings.data == "mnist":
                    published = TABLE_2["mnist" if trained_on == "digits" else "omniglot"][method]
                note = f"+- {values['spread']:.2f} over images; epoch {s.runs[method]['epochs']}"
                what = f"{method}: trained on {trained_on}, {seen}"
                table.row(what, values["mean"], published, unit="SSIM", note=note)
    for method in names:
        own, foreign = (n.similar[f"{trained_on}, characters, {method}"] for trained_on in ("characters", "digits"))
        label = f"{method}: characters are reconstructed better by a model trained on characters"
        table.claim(own["mean"], ">=", foreign["mean"], 0.0, label)
    for name in sets:
        values = [n.similar[f"{name}, {name}, {method}"] for method in names]
        means, spread = [v["mean"] for v in values], np.mean([v["spread"] for v in values])
        label = f"{name}: methods are comparable, SSIM apart by less than its standard deviation over images"
        table.claim(max(means) - min(means), "<=", spread, 0.0, label)


@reconstructions.figure()
def _(n):
    """Each set by all methods, and each by MIWAE trained on either."""
    sets = sets_of(n.settings)
    names = in_order(sets["characters"].runs)

    def panel(axes, image, title):
        plots.show(axes, plots.tile(image, n.shape, columns=12))
        axes.set_title(title, fontsize=8, loc="left")

    figures = {}
    for name, s in sets.items():
        figures[name] = fig = plots.figure(6.0, 0.75 * (len(names) + 1))
        panels = fig.subplots(len(names) + 1, 1)
        panel(panels[0], n.test[name], f"test images ({s.data})")
        for axes, method in zip(panels[1:], names, strict=True):
            key = f"{name}, {name}, {method}"
            about = f"SSIM {n.similar[key]['mean']:.2f} +- {n.similar[key]['spread']:.2f}"
            panel(axes, n.pictures[key], f"{method}, epoch {s.runs[method]['epochs']}: {about}")
    figures["crossed"] = fig = plots.figure(6.0, 4.5)
    panels = fig.subplots(6, 1)
    for i, seen in enumerate(sets):
        panel(panels[3 * i], n.test[seen], f"test images: {seen}")
        for axes, trained_on in zip(panels[3 * i + 1 : 3 * i + 3], sets, strict=True):
            key = f"{trained_on}, {seen}, MIWAE"
            about = f"SSIM {n.similar[key]['mean']:.2f}"
            panel(axes, n.pictures[key], f"by MIWAE trained on {trained_on}: {about}")
    return figures
