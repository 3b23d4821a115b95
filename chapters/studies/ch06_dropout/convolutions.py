"""Dropout in convolutional networks of several sizes (Figure 6.1 b, section 6.5.3)."""

# %% [markdown]
# ## Figure 6.1 (b)
#
# CIFAR-10: two convolutions with 32k and 64k feature maps, each with stride 2 and softplus, then two fully connected
# layers of 128k softplus units. Kernels (5x5 here), the values of k, minibatches and where noise goes are not in the
# text: it is on the inputs of the fully connected layers here, at a rate of 0.2 for the first and 0.5 for the others.
#
# Claims as for Figure 6.1 (a), about means over seeds.

# %%
import numpy as np

from minivi import data, ops, plots
from minivi.experiments import experiment
from minivi.models import dropout_network
from minivi.nn import Conv2d, Module
from minivi.optim import AveragedAdam
from minivi.random import Generator
from minivi.sweeps import sweep
from minivi.tensor import no_grad
from minivi.training import fit
from minivi_chapters.studies.ch06_dropout.classification import (
    EQUAL_OR_BETTER,
    METHODS,
    SMALLER,
    TWINS,
    mean_and_error,
    small_and_large,
)


class ConvolutionalDropout(Module):
    """Two convolutions, and a network with one of the methods on what they give."""

    def __init__(self, shape, k, units, method, rng):
        self.shape, maps = shape, (max(1, round(32 * k)), max(1, round(64 * k)))
        self.convolutions = [
            Conv2d(shape[2], maps[0], 5, rng, stride=2), Conv2d(maps[0], maps[1], 5, rng, stride=2)
        ]  # fmt: skip
        inputs, wide = -(-shape[0] // 4) * -(-shape[1] // 4) * maps[1], max(1, round(units * k))
        self.network = dropout_network((inputs, wide, wide, 10), method, rng, activation="softplus")

    def features(self, x):
        """(B, H W C) -> (B, numbers)."""
        h = ops.reshape(x, shape=(-1, *self.shape))
        for layer in self.convolutions:
            h = ops.softplus(layer(h))
        return ops.reshape(h, shape=(len(x), -1))

    def wrong(self, x, labels):
        """Share of wrong predictions, in %."""
        parts = []
        with no_grad():
            for i in range(0, len(x), 500):
                logits = np.asarray(self.network(np.asarray(self.features(x[i : i + 500]))).logits)
                parts.append(np.argmax(logits, axis=1) != labels[i : i + 500])
        return 100.0 * float(np.mean(np.concatenate(parts)))


def convolutional_error(source, images, method, kl_weight, k, units, seed, epochs, batch):
    """A cell: the test error in % of the epoch that is best on validation images, a tenth of the training ones."""
    sets = data.load(source, None, False)
    shape = sets.shape if len(sets.shape) == 3 else (*sets.shape, 1)
    count = images - images // 10
    x, labels = sets.train[:images], sets.train_labels[:images].astype(np.int64)
    model = ConvolutionalDropout(shape, k, units, method, Generator([seed, 67]))
    optimizer = AveragedAdam(model.parameters())

    def evaluate(epoch):
        with optimizer.average:
            return {"valid": model.wrong(x[count:], labels[count:]), "test": model.wrong(sets.test, sets.test_labels)}

    def loss(part, rng):
        features = model.features(part[0])
        return -model.network.bound(features, part[1], rng, count=count, kl_weight=kl_weight).mean()

    history = fit(
        model, loss, optimizer, (x[:count], labels[:count]), epochs=epochs, batch_size=batch,
        rng=Generator([seed, 68]), evaluate=evaluate, progress=False,
    )  # fmt: skip
    best = int(np.argmin(history.column("valid")))
    return {"error": float(history.column("test")[best]), "best": best}


@experiment(
    "figure_6_1_b",
    title="convolutional networks: test error by method and size",
    mirrors="thesis Figure 6.1 (b), section 6.5.3",
    budgets={
        "quick": {
            "data": "digits", "images": 1500, "k": [0.25, 1.0], "units": 64, "seeds": 2, "epochs": 12, "batch": 20,
        },
        "laptop": {
            "data": "cifar10_small", "images": 10_000, "k": [0.25, 1.0], "units": 128, "seeds": 3, "epochs": 8,
            "batch": 100,
        },
        "paper": {
            "data": "cifar10", "images": 50_000, "k": [0.25, 0.5, 1.0, 2.0], "units": 128, "seeds": 5, "epochs": 200,
            "batch": 100,
        },
    },
    minutes={"quick": 0.7, "laptop": 9.7, "paper": 60 * 24 * 10},
)  # fmt: skip
def figure_6_1_b(run):
    """Each method, size and seed is a cell."""
    s = run.settings
    places = [(name, k, seed) for name in METHODS for k in s.k for seed in range(s.seeds)]
    cells = [
        {"source": s.data, "images": s.images, "method": METHODS[name][0], "kl_weight": METHODS[name][1], "k": k,
         "units": s.units, "seed": run.seed + seed, "epochs": s.epochs, "batch": s.batch}
        for name, k, seed in places
    ]  # fmt: skip
    results = sweep(
        convolutional_error, cells, run.folder / "figure_6_1_b", resume=run.resume,
        progress=run.progress and "figure 6.1 (b)",
    )  # fmt: skip
    errors = {}
    for (name, k, _), result in zip(places, results, strict=True):
        errors.setdefault(name, {}).setdefault(str(k), []).append(result["error"])
    return {"errors": errors}


@figure_6_1_b.table
def _(n, table):
    sizes = [str(k) for k in n.settings.k]
    stats = {(name, k): mean_and_error(n.errors[name][k]) for name in METHODS for k in sizes}
    few = {"short": "10,000 images for CIFAR-10's 50,000"} if n.settings.data == "cifar10_small" else {}
    equal_or_better = table.says("thesis 6.5.3", EQUAL_OR_BETTER, seeds=n.settings.seeds, **few)
    for k in sizes:
        for name in METHODS:
            mean, spread = stats[name, k]
            table.row(f"k {k}: {name}", mean, unit="%", note=f"+- {spread:.2f}, {n.settings.seeds} seeds")
        for adaptive, twin in TWINS:
            for other in (twin, "binary"):
                (a, sa), (b, sb) = stats[adaptive, k], stats[other, k]
                label = f"k {k}: {adaptive} against {other}, %"
                equal_or_better(a, "<=", b, 0.0, label, standard_error=float(np.hypot(sa, sb)))
    smaller = table.says("thesis Figure 6.1", SMALLER, seeds=n.settings.seeds, **few)
    for adaptive, twin in TWINS:
        small_and_large(smaller, stats, adaptive, twin, sizes, "k {}")


@figure_6_1_b.figure()
def _(n):
    axes = plots.figure(6.5, 4.4).add_subplot()
    for i, name in enumerate(METHODS):
        means = [np.mean(n.errors[name][str(k)]) for k in n.settings.k]
        style = plots.style(i - 1, len(means)) if i else {"color": "0.6", "linewidth": 3}  # there are six styles
        axes.plot(n.settings.k, means, label=name, **style)
    plots.panel(axes, f"{n.settings.data}, mean of {n.settings.seeds} seeds", "k: 32k and 64k maps", "test error, %")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3)
    return axes.figure
