"""Classification error by method and size, and the rates that are learned (Figure 6.1 a, section 6.5.3)."""

# %% [markdown]
# ## Figure 6.1 (a)
#
# Networks with three hidden layers of equal size, seven methods: no dropout, binary, Gaussian A (noise on inputs) and B
# (noise on outputs), variational A and B (alpha of each layer learned, from the same rates), and A2, variational A with
# a third of the divergence. The epoch with the best validation error counts, by averaged weights. The sizes are not in
# the text; minibatches are of 100.
#
# The claims are about means over seeds: of errors at every size, and of the mean log alpha of the hidden layers. A2 is
# held against the best of the other dropout methods; having no dropout is none.

# %%
import numpy as np

from minivi import plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import dropout_network
from minivi.optim import AveragedAdam
from minivi.random import Generator
from minivi.sweeps import sweep
from minivi.training import fit
from minivi_chapters.studies.ch06_dropout._shared import DIGITS, MNIST, error, log_alphas

METHODS = {  # name: (method, weight of the divergence)
    "no dropout": ("none", 1.0), "binary": ("binary", 1.0), "Gaussian A": ("gaussian A", 1.0),
    "Gaussian B": ("gaussian B", 1.0), "variational A": ("variational A", 1.0),
    "variational A2": ("variational A", 1 / 3), "variational B": ("variational B", 1.0),
}  # fmt: skip
TWINS = (("variational A", "Gaussian A"), ("variational B", "Gaussian B"))
EQUAL_OR_BETTER = (
    "Our adaptive variational versions of Gaussian dropout perform equal or better than their non-adaptive "
    "counterparts and standard dropout under all tested conditions."
)
SMALLER = (
    "The variational versions of Gaussian dropout perform equal or better than their non-adaptive counterparts; "
    "the difference is especially large with smaller models, where regular dropout often results in severe "
    "under-fitting."
)


def dropout_error(source, split, method, kl_weight, size, seed, epochs, batch):
    """A cell: errors in % on validation and test images by epoch, and the learned log alpha of each layer."""
    from minivi import data

    images = data.load(source, split if split in data.describe(source)["splits"] else None, False)
    network = dropout_network((images.train.shape[1], size, size, size, 10), method, Generator([seed, 65]))
    optimizer, count = AveragedAdam(network.parameters()), len(images.train)

    def evaluate(epoch):
        held_out = ((images.validation, images.validation_labels), (images.test, images.test_labels))
        valid, test = (error(network, x, labels, optimizer) for x, labels in held_out)
        return {"valid": valid, "test": test, "log_alphas": log_alphas(network)}

    history = fit(
        network, lambda part, rng: -network.bound(*part, rng, count=count, kl_weight=kl_weight).mean(), optimizer,
        (images.train, images.train_labels.astype(np.int64)), epochs=epochs, batch_size=batch,
        rng=Generator([seed, 66]), evaluate=evaluate, progress=False,
    )  # fmt: skip
    valid, test = history.column("valid"), history.column("test")
    best = int(np.argmin(valid))
    return {
        "valid": valid.tolist(), "test": test.tolist(), "best": best, "error": float(test[best]),
        "log_alphas": history.records[best]["log_alphas"],
    }  # fmt: skip


@experiment(
    "figure_6_1",
    title="test error by method and size of the network, and the rates that are learned",
    mirrors="thesis Figure 6.1 (a), section 6.5.3",
    budgets={
        "quick": DIGITS | {"hidden": [20, 80], "seeds": 2, "epochs": 40, "batch": 20},
        "laptop": MNIST | {"hidden": [50, 100, 200, 400], "seeds": 3, "epochs": 30, "batch": 100},
        "paper": MNIST | {"hidden": [100, 200, 400, 800, 1600], "seeds": 5, "epochs": 500, "batch": 100},
    },
    minutes={"quick": 0.5, "laptop": 54, "paper": 60 * 24 * 4},
)
def figure_6_1(run):
    """Each method, size and seed is a cell."""
    s = run.settings
    run.images(labels=True)  # data without are refused here, before the cells are
    places = [(name, size, seed) for name in METHODS for size in s.hidden for seed in range(s.seeds)]
    cells = [
        {"source": s.data, "split": s.split, "method": METHODS[name][0], "kl_weight": METHODS[name][1], "size": size,
         "seed": run.seed + seed, "epochs": s.epochs, "batch": s.batch}
        for name, size, seed in places
    ]  # fmt: skip
    results = sweep(
        dropout_error, cells, run.folder / "figure_6_1", resume=run.resume, progress=run.progress and "figure 6.1"
    )
    numbers = {"errors": {}, "log_alphas": {}, "best": {}}
    for (name, size, _), result in zip(places, results, strict=True):
        for key, value in (("errors", result["error"]), ("log_alphas", result["log_alphas"]), ("best", result["best"])):
            if value or key != "log_alphas":
                numbers[key].setdefault(name, {}).setdefault(str(size), []).append(value)
    return numbers


@figure_6_1.table
def _(n, table):
    sizes = [str(size) for size in n.settings.hidden]
    stats = {(name, size): mean_and_error(n.errors[name][size]) for name in METHODS for size in sizes}
    for size in sizes:
        for name in METHODS:
            mean, spread = stats[name, size]
            note = f"+- {spread:.2f}, {n.settings.seeds} seeds; epoch {np.mean(n.best[name][size]) + 1:.0f}"
            table.row(f"{size} units: {name}", mean, unit="%", note=note)

    def against(says, size, one, other):
        (a, sa), (b, sb) = stats[one, size], stats[other, size]
        says(a, "<=", b, 0.0, f"{size} units: {one} against {other}, %", standard_error=float(np.hypot(sa, sb)))

    seeds = {"seeds": n.settings.seeds}
    equal_or_better = table.says("thesis 6.5.3", EQUAL_OR_BETTER, **seeds)
    for size in sizes:
        for adaptive, twin in TWINS:
            against(equal_or_better, size, adaptive, twin)
            against(equal_or_better, size, adaptive, "binary")
    smaller = table.says("thesis Figure 6.1", SMALLER, **seeds)
    for adaptive, twin in TWINS:
        small_and_large(smaller, stats, adaptive, twin, sizes, "{} units")
    beats = table.says(
        "thesis 6.5.3", "this small modification seems to prevent under-fitting, and beats all other dropout methods "
        "in the tested models.", **seeds,
    )  # fmt: skip
    others = [name for name in METHODS if name not in ("no dropout", "variational A2")]
    for size in sizes:
        against(beats, size, "variational A2", min(others, key=lambda name: stats[name, size][0]))
    lower = table.says(
        "thesis 6.5.3", "In these smaller networks, we observe that variational dropout infers dropout rates that are "
        "on average far lower than the dropout rates for larger networks.", **seeds,
    )  # fmt: skip
    for name, by_size in n.log_alphas.items():
        if METHODS[name][0].startswith("variational"):
            logs = {size: mean_and_error(np.mean(np.array(by_size[size])[:, 1:], axis=1)) for size in sizes}
            for size in sizes:
                what = f"{size} units: {name}, alpha of hidden units"
                table.row(what, np.exp(logs[size][0]), note="geometric mean", unit="")
            (a, sa), (b, sb) = logs[sizes[0]], logs[sizes[-1]]
            label = f"{name}: log alpha at {sizes[0]} units against {sizes[-1]}"
            lower(a, "<=", b, 0.0, label, standard_error=float(np.hypot(sa, sb)))
    as_well = table.says(
        "thesis 6.3", "using a continuous distribution with the same relative mean and variance, such as a Gaussian "
        "..., works as well or better Srivastava et al. [2014].", **seeds,
    )  # fmt: skip
    for size in sizes:
        against(as_well, size, "Gaussian A", "binary")


def small_and_large(says, stats, adaptive, twin, sizes, size):
    """The gain over the twin at the smallest size against that at the largest."""
    gains = [stats[twin, size][0] - stats[adaptive, size][0] for size in (sizes[0], sizes[-1])]
    error = np.sqrt(sum(stats[name, size][1] ** 2 for name in (twin, adaptive) for size in (sizes[0], sizes[-1])))
    label = f"{adaptive} over {twin}: gain at {size.format(sizes[0])} against {size.format(sizes[-1])}, %"
    says(gains[0], ">=", gains[1], 0.0, label, standard_error=float(error))


@figure_6_1.figure()
def _(n):
    fig = plots.figure(10.0, 4.4)
    left, right = fig.subplots(1, 2)
    sizes = n.settings.hidden
    for i, name in enumerate(METHODS):
        means = [np.mean(n.errors[name][str(size)]) for size in sizes]
        style = plots.style(i - 1, len(sizes)) if i else {"color": "0.6", "linewidth": 3}  # there are six styles
        left.plot(sizes, means, label=name, **style)
    plots.panel(left, f"{n.settings.data}, mean of {n.settings.seeds} seeds", "hidden units a layer", "test error, %",
                log="x")  # fmt: skip
    shown = [name for name in METHODS if METHODS[name][0].startswith("variational")]
    for i, name in enumerate(shown):
        for k, where in ((0, "input"), (1, "hidden")):
            rates = []
            for size in sizes:
                logs = np.array(n.log_alphas[name][str(size)])
                rates.append(np.exp(np.mean(logs[:, 0] if k == 0 else logs[:, 1:])))
            right.plot(sizes, rates, label=f"{name}, {where}", **plots.style(2 * i + k, len(sizes)))
    plots.panel(right, "learned noise", "hidden units a layer", "alpha = p / (1 - p)", log="xy")
    for axes in (left, right):
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3)
    return fig
