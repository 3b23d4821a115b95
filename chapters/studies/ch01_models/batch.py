"""Batch against minibatch gradients (section 1.5.2)."""

# %% [markdown]
# ## Batch gradient descent and SGD (1.5.2)
#
# The same classifier, climbed by the gradient of all N images and by that of fifty of them, each with the best of its
# step sizes and without momentum. What is counted is images seen, which is what either gradient costs; and how the cost
# of the full gradient grows with N is measured.

# %%
import numpy as np

from minivi import optim, plots
from minivi.experiments import experiment
from minivi.experiments.measuring import seconds_in_turn
from minivi.experiments.results import mean_and_error
from minivi.random import Generator
from minivi.tensor import grad
from minivi_chapters.studies.ch01_models.classifier import judge, new_classifier

BATCH = {
    "quick": {
        "data": "digits", "hidden": 50, "count": 1500, "sizes": [187, 375, 750, 1500], "repeats": 8, "epochs": 20,
        "minibatch": 50, "step_sizes": {"batch": [0.3, 1.0, 3.0], "minibatch": [0.1, 0.3, 1.0]},
    },
    "laptop": {
        "data": "mnist", "hidden": 300, "count": 20000, "sizes": [2500, 5000, 10000, 20000], "repeats": 6, "epochs": 15,
        "minibatch": 50, "step_sizes": {"batch": [0.1, 0.3, 1.0, 3.0], "minibatch": [0.03, 0.1, 0.3]},
    },
    "paper": {
        "data": "mnist", "hidden": 500, "count": 60000, "sizes": [7500, 15000, 30000, 60000], "repeats": 20,
        "epochs": 1000, "minibatch": 100, "step_sizes": {"batch": [0.1, 0.3, 1.0, 3.0], "minibatch": [0.03, 0.1, 0.3]},
    },
}  # fmt: skip


@experiment(
    "batch",
    title="all data for a gradient, or fifty: what a step costs, and what it is worth",
    mirrors="thesis section 1.5.2, eq. 1.11, 1.12",
    budgets=BATCH,
    minutes={"quick": 0.1, "laptop": 0.49, "paper": 400},
)
def batch(run):
    """CPU seconds of the full gradient by N; training and test nats by images seen, for both and all step sizes."""
    s, images = run.settings, run.images(labels=True)
    x, labels = images.train[: s.count], images.train_labels[: s.count]
    model, loss = new_classifier(images, s.hidden, run.seed)
    jobs = {size: lambda n=size: grad(loss((x[:n], labels[:n]), None), model.parameters()) for size in s.sizes}
    seconds = np.transpose(list(seconds_in_turn(jobs, s.repeats).values()))
    curves = {}
    for method, sizes in s.step_sizes.items():
        for step_size in sizes:
            model, loss = new_classifier(images, s.hidden, run.seed)
            optimizer = optim.SGD(model.parameters(), step_size)

            def evaluate(epoch, model=model):
                seen, unseen = judge(model, x[:5000], labels[:5000]), judge(model, images.test, images.test_labels)
                return {"train": seen[0], "test": unseen[0]}

            history = run.fit(
                f"batch_{s.data}{len(x)}_{method}_{step_size:g}", model, loss, optimizer, (x, labels), epochs=s.epochs,
                batch_size=len(x) if method == "batch" else s.minibatch, rng=Generator([run.seed, 61]),
                evaluate=evaluate,
            )  # fmt: skip
            curves[f"{method}, {step_size:g}"] = np.stack([history.column("train"), history.column("test")], axis=1)
    return {"by_size": seconds, "curves": curves}


def best(n):
    """The best curve of either method, by training nats at the end, and its step size."""
    found = {}
    for name, curve in n.curves.items():
        method, step_size = name.split(", ")
        if method not in found or curve[-1, 0] < found[method][1][-1, 0]:
            found[method] = step_size, curve
    return found


@batch.table
def _(n, table):
    s = n.settings
    exponent, error = mean_and_error(np.polyfit(np.log(s.sizes), np.log(n.by_size.T), 1)[0])
    for size, each in zip(s.sizes, n.by_size.T, strict=True):
        table.row(f"full gradient of {size} images", 1000 * np.mean(each), unit="CPU ms")
    says = table.says(
        "thesis 1.5.2",
        "Computation of this derivative is, however, an expensive operation since it scales linearly with the dataset "
        "size",
    )
    table.row("CPU seconds as a power of N: exponent", exponent, unit="", note=f"+- {error:.2g}")
    label = f"exponent of N in CPU seconds, {s.repeats} rounds, to a whole number"
    says(exponent, "=", 1.0, 0.5, label, standard_error=error)
    ends = {}
    for method, (step_size, curve) in best(n).items():
        ends[method] = curve[-1]
        note = (
            f"step size {step_size}, the best of {len(s.step_sizes[method])}; {s.epochs} passes over {s.count} images"
        )
        table.row(f"{method}: training nats", curve[-1, 0], note=note)
        table.row(f"{method}: test nats", curve[-1, 1])
    says = table.says(
        "thesis 1.5.2", "A more efficient method for optimization is stochastic gradient descent (SGD)", seeds=1
    )
    for k, name in enumerate(("training", "test")):
        says(ends["minibatch"][k], "<=", ends["batch"][k], 0.0, f"{name} nats after as many images, SGD against batch")


@batch.figure()
def _(n):
    """Training nats by passes, and CPU time by N."""
    s, fig = n.settings, plots.figure(9.0, 3.8)
    left, right = fig.subplots(1, 2)
    for i, (method, (step_size, curve)) in enumerate(best(n).items()):
        passes = np.arange(1, len(curve) + 1)
        look = plots.style(i, len(passes))
        left.plot(passes, curve[:, 0], label=f"{method}, step size {step_size}, training", **look)
        above = {"linestyle": "", "marker": "x", "markersize": 6}  # where both are alike, the crosses show on the line
        left.plot(passes, curve[:, 1], label=f"{method}, test", **(look | above))
    title = "each with its best step size"
    plots.panel(left, title, "passes over the images", "-log p(y | x), nats an image", log="xy")
    left.legend(fontsize=8)
    right.plot(s.sizes, 1000 * n.by_size.mean(axis=0), label="measured", **plots.style(0))
    right.plot(
        s.sizes, 1000 * n.by_size.mean() * np.array(s.sizes) / np.mean(s.sizes), label="linear", **plots.style(1)
    )
    plots.panel(right, "the full gradient", "images N", "CPU milliseconds", log="xy").legend(fontsize=8)
    fig.suptitle(f"Batch and minibatch gradients, {s.data}", fontsize=10)
    return fig
