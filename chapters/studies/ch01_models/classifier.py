"""A classifier on few images, and its minibatch gradient (sections 1.2-1.5, 9.2.1, 9.3)."""

# %% [markdown]
# ## A classifier by maximum likelihood, and what keeps it from learning by heart (9.2.1, 9.3)
#
# Stochastic gradient descent with Nesterov momentum (eq. 9.15) on few images, three ways:
#
# - maximum likelihood: all epochs;
# - maximum a posteriori (eq. 9.5): the same with the prior N(0, I) on weights and biases, so that minus the mean
#   log-posterior has the gradient of minus the mean log-likelihood plus theta / N: a weight decay of 1 / N;
# - early stopping: no prior, but the weights of the epoch at which held-out images were most probable, training having
#   stopped once there was nothing better for `patience` epochs. It sees these images' labels besides.
#
# Each seed draws images and initial weights of its own; the three methods share them. The text has no numbers here.

# %%
import math

import numpy as np

from minivi import optim, plots
from minivi.distributions import Categorical
from minivi.experiments import experiment, mean_and_error
from minivi.experiments.measuring import few_seeds
from minivi.gradient_noise import gradient_moments
from minivi.models import Classifier
from minivi.random import Generator
from minivi.tensor import grad, no_grad

CLASSIFIER = {
    "quick": {
        "data": "digits", "hidden": 100, "counts": [50, 200, 1000], "epochs": [400, 100, 30], "batch": 25,
        "validation": 250, "seeds": 4,
    },
    "laptop": {
        "data": "mnist", "hidden": 300, "counts": [100, 1000, 10000], "epochs": [1000, 100, 30], "batch": 50,
        "validation": 1000, "seeds": 3,
    },
    "paper": {
        "data": "mnist", "hidden": 500, "counts": [100, 1000, 10000, 50000], "epochs": [2000, 1000, 500, 100],
        "batch": 50, "validation": 5000, "seeds": 5,
    },
}  # fmt: skip
STEP_SIZE, MOMENTUM, PATIENCE = 0.02, 0.9, 10
METHODS = ("maximum likelihood", "maximum a posteriori", "early stopping")
BETTER = {  # what the text says of the other two
    METHODS[1]: (
        "thesis 1.5.3",
        "From a Bayesian perspective, we can improve upon ML through maximum a posteriori (MAP) estimation",
    ),
    METHODS[2]: (
        "thesis 9.3",
        "A simple but effective criterion is to stop optimization as soon as the probability of a holdout set of data "
        "starts decreasing; this criterion is called early stopping.",
    ),
}


def new_classifier(images, hidden, seed):
    """A network with one hidden layer of ReLU, and its loss: minus the mean log-probability of a minibatch."""
    classes = int(images.train_labels.max()) + 1
    model = Classifier(images.train.shape[1], (hidden,), classes, rng=Generator([seed, hidden]))
    return model, lambda batch, rng: -model.log_prob(*batch).mean()


def judge(model, x, labels):
    """Mean negative log-probability of the labels in nats, and the share of wrong predictions in %."""
    with no_grad():
        logits = [np.asarray(model(part).logits, np.float64) for part in np.array_split(x, -(-len(x) // 2000))]
    p = Categorical(np.concatenate(logits))
    wrong = np.argmax(p.logits, axis=-1) != labels
    return float(-np.mean(np.asarray(p.log_prob(labels)))), 100.0 * float(np.mean(wrong))


def classify(run, count, epochs, method, seed):
    """Train on ``count`` images: curves over updates, and the test images' nats and % of errors at the end."""
    s, images = run.settings, run.images(labels=True)
    order = Generator([seed, 11]).permutation(len(images.train))
    whole = images.test, images.test_labels
    train, held_out = ((images.train[i], images.train_labels[i]) for i in (order[:count], order[-s.validation :]))
    test, seen = ([part[:: -(-len(part) // 2000)] for part in pair] for pair in (whole, train))  # for the curves
    model, loss = new_classifier(images, s.hidden, seed)
    prior = 1.0 / count if method == "maximum a posteriori" else 0.0
    optimizer = optim.SGD(model.parameters(), STEP_SIZE, momentum=MOMENTUM, nesterov=True, weight_decay=prior)
    stop = method == "early stopping"
    when = set(np.geomspace(1, epochs, 40).round().astype(int).tolist())

    def evaluate(epoch):
        """Early stopping looks at each epoch's held-out images; curves of the others do with forty epochs."""
        if stop:
            return {"held-out": -judge(model, *held_out)[0]}
        if epoch not in when:
            return {}
        updates = epoch * math.ceil(count / s.batch)
        return {"updates": updates, "test": judge(model, *test)[0], "train": judge(model, *seen)[0]}

    history = run.fit(
        f"classifier_{s.data}{count}_{method.replace(' ', '_')}_seed{seed}", model, loss, optimizer, train,
        epochs=epochs, batch_size=s.batch, rng=Generator([seed, 12]), evaluate=evaluate,
        monitor="held-out" if stop else None, patience=PATIENCE if stop else None,
    )  # fmt: skip
    nats, errors = judge(model, *whole)
    curves = {name: history.column(name) for name in ("updates", "train", "test")}
    if stop:
        best = int(np.argmax(history.column("held-out"))) + 1
        curves = {"epoch": best, "updates": best * math.ceil(count / s.batch), "test": judge(model, *test)[0]}
    return curves | {"nats": nats, "errors": errors}


@experiment(
    "classifier",
    title="a classifier on few images: maximum likelihood, a prior, early stopping",
    mirrors="thesis sections 1.3, 1.5, 9.2.1, 9.3",
    budgets=CLASSIFIER,
    minutes={"quick": 0.3, "laptop": 0.94, "paper": 60},
)
def classifier(run):
    """Train three ways for each number of images; nats and errors on test images, seed by seed."""
    s = run.settings
    seeds = range(run.seed, run.seed + s.seeds)
    runs = {
        (count, method): [classify(run, count, epochs, method, seed) for seed in seeds]
        for count, epochs in zip(s.counts, s.epochs, strict=True)
        for method in METHODS
    }

    def by_seed(name, methods=METHODS):
        return {label(*key): [r[name] for r in each] for key, each in runs.items() if key[1] in methods}

    curves = {
        label(*key): {name: np.mean([r[name] for r in each], axis=0) for name in ("updates", "test", "train")}
        for key, each in runs.items() if key[1] != METHODS[2]
    }  # fmt: skip
    highest = max(r["test"].max() for (_, method), each in runs.items() if method == METHODS[0] for r in each)
    best = {name: by_seed(name, METHODS[2:]) for name in ("epoch", "updates", "test")}
    return {"curves": curves, "highest": highest, "best": best, "nats": by_seed("nats"), "errors": by_seed("errors")}


def label(count, method):
    """What tables and numbers call some runs."""
    return f"{count} images, {method}"


@classifier.table
def _(n, table):
    s = n.settings
    for count, epochs in zip(s.counts, s.epochs, strict=True):
        for method in METHODS:
            key = label(count, method)
            for unit, what, values in (("nats", "-log p(y | x)", n.nats[key]), ("%", "errors", n.errors[key])):
                mean, error = mean_and_error(values)
                note = f"standard error {error:.3f} over {s.seeds} seeds"
                if method == METHODS[2] and unit == "nats":
                    note += f"; best epochs {', '.join(map(str, n.best['epoch'][key]))} of {epochs}"
                table.row(f"{key}, test {what}", mean, unit=unit, note=note)
    gains = {  # the seeds pair the methods
        (count, method): few_seeds(n.nats[label(count, METHODS[0])] - n.nats[label(count, method)])
        for count in s.counts for method in METHODS[1:]
    }  # fmt: skip
    for method, (source, sentence) in BETTER.items():
        says = table.says(source, sentence, seeds=s.seeds)
        for count in s.counts:
            gain, error = gains[count, method]
            says(gain, ">=", 0.0, 0.0, f"{count} images: test nats that {method} saves", standard_error=error)
    (early, error), (late, late_error) = (gains[count, METHODS[1]] for count in (s.counts[0], s.counts[-1]))
    says = table.says("thesis 9.2.1", "The prior ... has diminishing effect for increasingly large N.", seeds=s.seeds)
    claim = f"the prior's effect on test nats, {s.counts[0]} images against {s.counts[-1]}"
    says(abs(early), ">=", abs(late), 0.0, claim, standard_error=math.hypot(error, late_error))


@classifier.figure()
def _(n):
    """A panel of curves for each number of images, the best epochs of early stopping as stars; then the errors."""
    s = n.settings
    fig = plots.figure(2.7 * (len(s.counts) + 1), 3.4)
    panels = [fig.add_subplot(1, len(s.counts) + 1, i + 1) for i in range(len(s.counts) + 1)]
    for axes, count in zip(panels, s.counts, strict=False):
        for j, method in enumerate(METHODS[:2]):
            curve = n.curves[label(count, method)]
            style = plots.style(j, len(curve["updates"]))
            axes.plot(curve["updates"], curve["test"], label=f"{method}, test", **style)
            axes.plot(curve["updates"], curve["train"], label=f"{method}, training", **(style | plots.THIN))
        best = {name: values[label(count, METHODS[2])] for name, values in n.best.items()}
        at = np.exp(np.mean(np.log(best["updates"])))
        axes.plot(at, np.mean(best["test"]), "k*", markersize=11, markerfacecolor="w", label=METHODS[2])
        plots.panel(axes, f"{count} training images", "updates", log="x")
        axes.set_ylim(0, min(1.1 * n.highest, 1.2 * math.log(10)))
        axes.tick_params(axis="x", labelsize=8)
    panels[0].set_ylabel("-log p(y | x), nats per image", fontsize=9)
    for j, method in enumerate(METHODS):
        summary = [mean_and_error(n.errors[label(count, method)]) for count in s.counts]
        style = plots.style(j, len(s.counts)) | ({"marker": "*", "markersize": 8} if j == 2 else {})
        panels[-1].errorbar(s.counts, *zip(*summary, strict=True), capsize=2, **style)
    plots.panel(panels[-1], "errors at the end", "training images", "test errors, %", log="xy")
    plots.legend_below(fig, panels[:1])
    fig.suptitle(f"A classifier of {s.data} on few images: learning by heart, and two remedies", fontsize=10)
    return fig


# %% [markdown]
# ## The minibatch gradient (eq. 1.12)
#
# Unbiased, whatever its size M. Drawn with replacement its variance is sigma^2 / M, sigma^2 that of the gradient of one
# random datum. Drawn without, as the sets M within D of the text and the epochs of `fit` are, it is smaller by the
# finite-population correction (N - M) / (N - 1). sigma^2 comes from the N data one by one; variances are sums over all
# parameters.

# %%
MINIBATCH = {
    "quick": {
        "data": "digits", "count": 500, "hidden": 30, "sizes": [1, 4, 16, 64, 250, 400], "draws": 25, "epochs": 20,
    },
    "laptop": {
        "data": "mnist", "count": 4000, "hidden": 100, "sizes": [1, 4, 16, 64, 250, 1000, 2000, 3000], "draws": 30,
        "epochs": 5,
    },
    "paper": {
        "data": "mnist", "count": 60000, "hidden": 500, "sizes": [1, 10, 100, 1000, 10000, 30000, 50000], "draws": 100,
        "epochs": 20,
    },
}  # fmt: skip
GROUPS = 8
WITHOUT = "without replacement"
DRAWS = {
    "with replacement": lambda rng, n, m: rng.integers(0, n, m),
    WITHOUT: lambda rng, n, m: rng.permutation(n)[:m],
}


def total(arrays):
    """The sum of all entries of all arrays."""
    return float(sum(np.sum(a, dtype=np.float64) for a in arrays))


def measure(gradient, draw, n, m, draws, rng):
    """Total variance of minibatch gradients in each of the groups of ``draws``, and their mean over all."""
    groups = [gradient_moments(lambda: gradient(draw(rng, n, m)), draws) for _ in range(GROUPS)]
    mean = [np.mean(parts, axis=0) for parts in zip(*(group.mean for group in groups), strict=True)]
    return np.array([total(group.variance) for group in groups]), mean


def correction(n, sizes):
    """How much smaller the variance is without replacement."""
    return (n - sizes) / (n - 1)


def stages(s):
    """When the gradient is looked at."""
    return "at the start", f"after {s.epochs} epochs"


@experiment(
    "minibatch",
    title="the minibatch gradient is unbiased, and its variance falls as 1 / M",
    mirrors="thesis section 1.5.2, eq. 1.11, 1.12",
    budgets=MINIBATCH,
    minutes={"quick": 0.2, "laptop": 0.56, "paper": 120},
)
def minibatch(run):
    """Variance over batch sizes for both ways to draw, at the start and after training, against the exact one."""
    s, images = run.settings, run.images(labels=True)
    x, labels = images.train[: s.count], images.train_labels[: s.count]
    n, sizes = len(x), np.array(s.sizes)
    model, loss = new_classifier(images, s.hidden, run.seed)
    rng = Generator([run.seed, 21])

    def gradient(index):
        return grad(loss((x[index], labels[index]), None), model.parameters())

    numbers, groups, distances = {}, {}, []
    for stage in stages(s):
        if numbers:
            run.fit(
                f"minibatch_{s.data}{n}", model, loss, optim.Adam(model.parameters(), 1e-3), (x, labels),
                epochs=s.epochs, batch_size=100, rng=Generator([run.seed, 22]),
            )  # fmt: skip
        each = iter(range(n))
        alone = gradient_moments(lambda each=each: gradient(np.array([next(each)])), n)
        variance, signal = total(alone.variance) * (n - 1) / n, total(np.square(m) for m in alone.mean)
        numbers[stage] = {"sizes": sizes, "variance of one datum": variance, "squared norm of the gradient": signal}
        for how, draw in DRAWS.items():
            exact = variance / sizes * (correction(n, sizes) if how == WITHOUT else 1.0)
            variances = []
            for m, expected in zip(sizes, exact, strict=True):
                draws = max(s.draws, 300 // int(m))  # single gradients have heavy tails, and cost little
                of_groups, mean = measure(gradient, draw, n, int(m), draws, rng)
                variances.append(of_groups)
                off = total(np.square(a - b) for a, b in zip(mean, alone.mean, strict=True))
                distances.append(off * GROUPS * draws / expected)
            groups[f"{stage}, {how}"] = np.array(variances)  # (sizes, groups)
            numbers[stage] |= {how: np.mean(variances, axis=1), f"{how}, exact": exact}
    return numbers | {"groups": groups, "distances": distances, "count": n}


@minibatch.table
def _(n, table):
    ratios = []
    for stage in stages(n.settings):
        numbers = vars(n)[stage]
        sizes, variance = numbers["sizes"], numbers["variance of one datum"]
        for how in DRAWS:
            groups, what = n.groups[f"{stage}, {how}"], f"{stage}, {how}"
            ratios.extend((groups / numbers[f"{how}, exact"][:, None]).mean(axis=1))
            level = groups / correction(n.count, sizes)[:, None] if how == WITHOUT else groups
            slope, error = mean_and_error(np.polyfit(np.log(sizes), np.log(level), 1)[0])
            note = f"standard error {error:.3f}" + ("; after division by (N - M) / (N - 1)" if how == WITHOUT else "")
            table.row(f"{what}: slope of log variance in log M", slope, unit="", note=note)
            table.check(slope, "=", -1.0, 4 * error, f"{what}: slope -1, within 4 standard errors")
            if how == WITHOUT:
                raw = np.polyfit(np.log(sizes), np.log(groups), 1)[0].mean()
                table.row(f"{what}: slope without that division", raw, unit="")
        note = "M at which the variance, 1 / M, is the squared length of the mean gradient"
        equal = variance / numbers["squared norm of the gradient"]
        table.row(f"{stage}: noise equals signal at M", equal, unit="images", note=note)
    ratio, error = mean_and_error(ratios)
    table.row("measured / exact variance, mean over sizes", ratio, unit="", note=f"standard error {error:.3f}")
    table.check(ratio, "=", 1.0, 4 * error, "the variance is sigma^2 / M with its correction, within 4 s.e.")
    distance, error = mean_and_error(n.distances)
    note = f"1 if unbiased; standard error {error:.3f}; larger by the draws times bias^2 / variance if not"
    table.row("squared distance of mean and full gradient / (variance / draws)", distance, unit="", note=note)
    table.check(distance, "=", 1.0, 4 * error, "the minibatch gradient is unbiased, within 4 s.e.")


@minibatch.figure()
def _(n):
    """What was measured as points, what theory says as lines, in units of the squared mean gradient."""
    fig = plots.figure(9.0, 3.8)
    panels = [fig.add_subplot(1, 2, 1)]
    panels.append(fig.add_subplot(1, 2, 2, sharey=panels[0]))
    for axes, stage in zip(panels, stages(n.settings), strict=True):
        numbers = vars(n)[stage]
        variance, signal = numbers["variance of one datum"], numbers["squared norm of the gradient"]
        for j, how in enumerate(DRAWS):
            style = plots.style(j, 1)
            measured = {"linestyle": "", "label": f"{how}, measured"}
            axes.plot(numbers["sizes"], numbers[how] / signal, **(style | measured))
            fine = np.geomspace(1, 0.97 * n.count, 200)
            factor, name = (correction(n.count, fine), "with (N - M) / (N - 1)") if how == WITHOUT else (1.0, "1 / M")
            axes.plot(fine, variance / fine * factor / signal, **(style | {"marker": ""}), label=f"{how}, {name}")
        axes.axhline(1.0, color="#777777", linewidth=0.8)
        plots.panel(axes, stage, "M, images in a minibatch", "variance / |mean gradient|$^2$", log="xy").label_outer()
    plots.legend_below(fig, panels)
    title = f"Variance of the minibatch gradient, N = {n.count} images of {n.settings.data}"
    fig.suptitle(title, fontsize=10)
    return fig
