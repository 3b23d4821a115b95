"""The row "CNN" of Table 3.1: a convolutional network on the labelled images alone."""

# %% [markdown]
# ## Table 3.1, CNN
#
# The thesis quotes this row, and does not describe the network. Ours has two 5x5 convolutions of 32 and 64 maps with
# max pooling, 200 ReLUs, dropout of half of them, Adam, the same labelled images as the table's other rows, and as
# many steps at every number of labels. It has far fewer errors than that row. Beside it stand the published errors of
# M1+M2, as rows alone: this network is none of the previous methods of which the text speaks.

# %%
import numpy as np

from minivi import optim, plots
from minivi.experiments import experiment
from minivi.models import ConvolutionalClassifier
from minivi.random import Generator
from minivi.sweeps import sweep
from minivi.training import fit
from minivi_chapters.studies.ch03_semi_supervised._shared import (
    COUNTS,
    DIGITS,
    LITERATURE,
    MNIST,
    PUBLISHED,
    images,
    labelled,
    of,
)


def convolutional_error(source, split, count, draw, maps, hidden, steps):
    """A cell: train on ``count`` labelled images; the test error in %."""
    sets = images(source, split)
    rows = labelled(sets.labels, count, draw)
    x, labels, batch = sets.train[rows], sets.labels[rows], min(100, count)
    model = ConvolutionalClassifier(
        (*sets.shape, 1), [int(n) for n in maps.split("-")], [hidden], 10, hidden_dropout=0.5,
        rng=Generator([draw, 77]),
    )  # fmt: skip
    fit(
        model, lambda part, rng: -model.log_prob(*part, rng).mean(), optim.Adam(model.parameters(), 1e-3), (x, labels),
        epochs=max(1, steps * batch // count), batch_size=batch, rng=Generator([draw, 78]), progress=False,
    )  # fmt: skip
    wrong = [
        model.predict(sets.test[i : i + 500]) != sets.test_labels[i : i + 500] for i in range(0, len(sets.test), 500)
    ]
    return 100.0 * float(np.mean(np.concatenate(wrong)))


@experiment(
    "cnn",
    title="a convolutional network on the labelled images alone",
    mirrors="thesis Table 3.1, row CNN",
    budgets={
        "quick": DIGITS | {"counts": [50, 200], "draws": 2, "maps": "16-16", "hidden": 100, "steps": 200},
        "laptop": MNIST | {"counts": list(COUNTS), "draws": 3, "maps": "32-64", "hidden": 200, "steps": 1500},
        "paper": MNIST | {"counts": list(COUNTS), "draws": 10, "maps": "32-64", "hidden": 200, "steps": 10_000},
    },
    minutes={"quick": 0.3, "laptop": 29, "paper": 300},
)
def cnn(run):
    """Errors by number of labels and choice of them."""
    s = run.settings
    of(run)  # data without are refused here, before the cells are
    cells = [
        {"source": s.data, "split": s.split, "count": count, "draw": run.seed + draw, "maps": s.maps,
         "hidden": s.hidden, "steps": s.steps}
        for count in s.counts for draw in range(s.draws)
    ]  # fmt: skip
    results = sweep(convolutional_error, cells, run.folder / "cnn", resume=run.resume, progress=run.progress and "cnn")
    return {"errors": np.reshape(results, (len(s.counts), s.draws))}


@cnn.table
def _(n, table):
    real = n.settings.data == "mnist"
    published = LITERATURE["CNN"], LITERATURE["NN"], PUBLISHED["M1+M2"]
    for count, errors, quoted, network, stack in zip(n.settings.counts, np.array(n.errors), *published, strict=False):
        note = f"s.d. over draws {np.std(errors, ddof=1):.2f}"
        note += f"; published: NN {network}, M1+M2 {stack}" if real else ""
        table.row(f"{count} labels: CNN", np.mean(errors), quoted if real else None, unit="%", note=note)


@cnn.figure()
def _(n):
    axes = plots.figure(5.5, 3.6).add_subplot()
    counts, errors = n.settings.counts, np.array(n.errors)
    axes.plot(counts, errors.mean(axis=1), label="our CNN, mean of draws", **plots.style(0, len(counts)))
    if n.settings.data == "mnist":
        published = {name: LITERATURE[name] for name in ("CNN", "NN")} | {"M1+M2": PUBLISHED["M1+M2"]}
        for i, (name, values) in enumerate(published.items(), 1):
            axes.plot(counts, values, label=f"{name}, published", **plots.style(i, len(counts)))
    plots.panel(axes, f"{n.settings.data}: networks on labelled images alone", "labels", "test error, %", log="xy")
    axes.legend(fontsize=8)
    return axes.figure
