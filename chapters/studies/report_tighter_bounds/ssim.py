"""Structural similarity of reconstructions (tighter-bounds report, Table 2 and Figures 5-7)."""

# %% [markdown]
# ## Table 2 and Figures 5-7: reconstructions
#
# The structural similarity (SSIM) of the binary image that the encoder saw and the mean image of the decoder, for
# models trained on digits or characters, on both. Figures 5 and 6 are published as pictures with numbers in them,
# which the text does not repeat. The report does not say which images, grey or binary, were compared, nor the windows.
#
# At `laptop` both sides see as many images as often: the 3,872 characters, and the first 3,872 digits, 10 times each.

# %%
from types import SimpleNamespace

import numpy as np

from minivi import evaluation, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi_chapters.studies.report_tighter_bounds._shared import (
    FIVE,
    LAPTOP,
    MNIST,
    OMNIGLOT,
    images,
    in_order,
    runs,
    trained,
)

TEN = runs(10, 1000, 1, *FIVE)
DIGITS = MNIST | {"laptop": LAPTOP | {"count": 3872, "runs": TEN}}
CHARACTERS = OMNIGLOT | {"laptop": OMNIGLOT["laptop"] | {"runs": TEN}}

TABLE_2 = {
    "mnist": {"IWAE": 0.58, "PIWAE": 0.60, "MIWAE": 0.59, "CIWAE 0.5": 0.58, "VAE": 0.57},
    "omniglot": {"IWAE": 0.72, "PIWAE": 0.74, "MIWAE": 0.75, "CIWAE 0.5": 0.72, "VAE": 0.72},
}


@experiment(
    "ssim",
    title="structural similarity of reconstructions, also of characters by a model of digits",
    mirrors="tighter-bounds report, Table 2 and Figures 5-7",
    budgets={b: DIGITS[b] | {"other": CHARACTERS[b]} for b in OMNIGLOT},
    minutes={"quick": 0.9, "laptop": 8, "paper": 60 * 24 * 6},  # alone: at `paper` nearly all is `mnist`'s
)
def reconstructions(run):
    """Reconstruct 1,000 test images of each set by models trained on each."""
    sets = sets_of(run.settings)
    test = {name: images(run, s).test[:1000] for name, s in sets.items()}
    shape, similar, pictures, each = images(run, run.settings).shape, {}, {}, {}
    for trained_on, s in sets.items():
        for seen in sets:
            for method in in_order(sets["characters"].runs):
                y = trained(run, s, method)[0].reconstruct(test[seen])
                values = evaluation.ssim(test[seen], y, shape)
                key = f"{trained_on}, {seen}, {method}"
                each[trained_on, seen, method] = values
                similar[key] = {"mean": values.mean(), "spread": values.std(ddof=1)}
                pictures[key] = plots.grey_levels(y[:12])
    seen = {name: plots.grey_levels(x[:12]) for name, x in test.items()}
    own = {
        method: mean_and_error(each["characters", "characters", method] - each["digits", "characters", method])
        for method in in_order(sets["characters"].runs)
    }
    return {"similar": similar, "own": own, "pictures": pictures, "test": seen, "shape": shape}


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
    says = table.says(
        "tighter-bounds report Table 2", "Note that all models are being evaluated by SSIM on the Omniglot datasets, "
        "while only the second row was trained on it. (MNIST 0.57 to 0.60, Omniglot 0.72 to 0.75)", seeds=1,
    )  # fmt: skip
    for method in names:
        gain, error = n.own[method]
        label = f"{method}: SSIM of characters, trained on characters less trained on digits"
        says(gain, ">=", 0.0, 0.0, label, standard_error=error)
    epochs = max(s.runs["VAE"]["epochs"] for s in sets.values())
    real = n.settings.data == "mnist" and epochs < 125
    short = f"{epochs} epochs for 1,000 and 3,280, in which VAE and IWAE are still slower" if real else ""
    says = table.says(
        "tighter-bounds report 5", "Evaluation of the reconstruction quality using the SSIM metric has indicated that "
        "the performance of the different models under this metric is comparable.", seeds=1, short=short,
    )  # fmt: skip
    for name in sets:
        values = [n.similar[f"{name}, {name}, {method}"] for method in names]
        means, spread = [v["mean"] for v in values], np.mean([v["spread"] for v in values])
        label = f"{name}: SSIM of the best less the worst method, and its standard deviation over images"
        says(max(means) - min(means), "<=", spread, 0.0, label)


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
