"""Chapter 7, experiments: where Adam's parts pay (thesis sections 7.4.3, 7.5.1 and 7.5.2).

Adam keeps running averages of the gradient and of its square, corrects both for having started at zero, and divides one
by the root of the other. When does the correction matter? And does the whole do as well as momentum where gradients are
dense, as AdaGrad where they are sparse, and better than either where they are noisy?
"""

# %% [markdown]
# With d the gradient at step t (Algorithm 6):
#
#     m = beta1 m + (1 - beta1) d,    v = beta2 v + (1 - beta2) d^2
#     theta -= step_size * m_hat / (sqrt(v_hat) + eps),    m_hat = m / (1 - beta1^t),    v_hat = v / (1 - beta2^t)
#
# Every comparison is a grid of independent runs: `minivi.sweeps` spreads them over all cores, one thread each, and goes
# on where it was stopped. So that any process can do a cell, a cell is a call of a function of these files,
# `vae_losses` or `classify`, with numbers and strings.

# %%
import functools
import math
import time
from types import SimpleNamespace

import numpy as np
from scipy.sparse import csr_array

from minivi import data, optim, plots
from minivi.experiments.results import mean_and_error
from minivi.models.classifier import Classifier
from minivi.random import Generator
from minivi.sweeps import sweep
from minivi.training import TrainingError, fit


@functools.cache
def loaded(source):
    """A data set, read once in each process."""
    return synthetic_reviews() if source == "synthetic" else data.load(source)


def synthetic_reviews(texts=1500, words=2000):
    """Stand-ins for reviews at `quick`: the j-th word is in a text with probability min(0.9, 3 / j), as by Zipf's law,
    and the log-odds of the label are linear in the words, most of which are rare."""
    rng = Generator(70)
    x = (rng.random((texts, words)) < np.minimum(0.9, 3.0 / np.arange(1, words + 1))).astype(np.float32)
    logits = x @ rng.standard_normal(words)
    labels = rng.bernoulli(1 / (1 + np.exp(-2 * (logits - logits.mean()) / logits.std()))).astype(np.int64)
    n = texts - texts // 5
    return SimpleNamespace(
        train=csr_array(x[:n]), train_labels=labels[:n], test=csr_array(x[n:]), test_labels=labels[n:]
    )


def descend(model, loss, optimizer, train, *, epochs, batch, rng, prepare=None, evaluate=None):
    """Train; the loss of each minibatch, and the seconds until then without those of ``evaluate``.

    Both of shape (steps,), NaN from the step on at which the loss was no longer finite.
    """
    count = (train[0] if isinstance(train, tuple) else train).shape[0]
    losses, seconds, paused, begun = [], [], 0.0, time.perf_counter()

    def noted(x, rng):
        value = loss(x, rng)
        losses.append(value.item())
        seconds.append(time.perf_counter() - begun - paused)
        return value

    def held_out(epoch):
        nonlocal paused
        since = time.perf_counter()
        metrics = evaluate(epoch) if evaluate else {}
        paused += time.perf_counter() - since
        return metrics

    try:
        with np.errstate(all="ignore"):  # of runs that diverge
            fit(model, noted, optimizer, train, epochs=epochs, batch_size=batch, rng=rng, prepare=prepare,
                evaluate=held_out, progress=False)  # fmt: skip
    except TrainingError:  # the loss became NaN or infinite; nothing is written here that could fail
        del losses[int(np.argmin(np.isfinite(losses))) :]
    padded = np.full((2, epochs * math.ceil(count / batch)), np.nan)
    padded[:, : len(losses)] = losses, seconds[: len(losses)]
    return padded


# %% [markdown]
# ## A classifier: one cell of the other sweeps
#
# The loss that is minimised is the negative log-likelihood plus an L2 penalty; the one that is noted and drawn is the
# first alone, with dropout where training has it. Each optimizer is taken at the best of its grid: at the step size
# (and momentum) with the lowest mean of the loss over the whole run, which is what "faster" means here. The grid has
# one seed; what is claimed is a mean over three, with the initial weights of each seed the same for all optimizers.

# %%
OPTIMIZERS = {
    "Adam": lambda p, a, momentum, decay: optim.Adam(p, a, beta1=momentum, weight_decay=decay),
    "Nesterov": lambda p, a, momentum, decay: optim.SGD(p, a, momentum=momentum, nesterov=True, weight_decay=decay),
    "AdaGrad": lambda p, a, momentum, decay: optim.AdaGrad(p, a, weight_decay=decay),
    "RMSProp": lambda p, a, momentum, decay: optim.RMSProp(p, a, weight_decay=decay),
    "AdaDelta": lambda p, a, momentum, decay: optim.AdaDelta(p, a, weight_decay=decay),
}
NAMES = {"Nesterov": "SGD Nesterov"}


@functools.cache
def warm(optimizer, dense):
    """Load the kernels into this process by a few steps of a tiny model, lest the first cell's seconds count that."""
    x, labels = np.eye(4, dtype=np.float32), np.arange(4)
    model = Classifier(4, [3] if dense else [], 4, input_dropout=0.1, hidden_dropout=0.1, rng=Generator(0))
    train = (x if dense else csr_array(x), labels)
    descend(
        model, lambda part, rng: -model.log_prob(*part, rng).mean(),
        OPTIMIZERS[optimizer](model.parameters(), 1e-3, 0.9, 1e-4), train, epochs=2, batch=4, rng=Generator(0),
    )  # fmt: skip


def classify(
    source, images, hidden, input_dropout, hidden_dropout, optimizer, step_size, momentum, annealed, weight_decay,
    epochs, seed,
):  # fmt: skip
    """A cell: train a classifier.

    Returns:
        "loss", the mean over each of 40 stretches of the run (None where it diverged), "steps" and "seconds" at their
        ends, and "error", the share of test data misclassified after the first and the last epoch.
    """
    sets = loaded(source)
    x, labels = sets.train[:images], sets.train_labels[:images]
    sizes = [int(size) for size in hidden.split("-") if size]
    model = Classifier(
        x.shape[1], sizes, int(sets.train_labels.max()) + 1, input_dropout=input_dropout,
        hidden_dropout=hidden_dropout, rng=Generator([seed, 73]),
    )  # fmt: skip
    schedule = optim.inverse_sqrt(step_size) if annealed else step_size
    errors = [None, None]

    def evaluate(epoch):
        if epoch in (1, epochs):
            errors[epoch > 1] = float(np.mean(model.predict(sets.test) != sets.test_labels))
        return {}

    warm(optimizer, bool(sizes))
    losses, seconds = descend(
        model, lambda part, rng: -model.log_prob(*part, rng).mean(),
        OPTIMIZERS[optimizer](model.parameters(), schedule, momentum, weight_decay), (x, labels),
        epochs=epochs, batch=128, rng=Generator([seed, 74]), evaluate=evaluate,
    )  # fmt: skip
    ends = np.linspace(0, len(losses), min(40, len(losses)) + 1).astype(int)
    means = [losses[start:end].mean() for start, end in zip(ends[:-1], ends[1:], strict=True)]
    return {
        "steps": ends[1:].tolist(),
        "loss": [float(mean) if np.isfinite(mean) else None for mean in means],
        "seconds": [float(t) if np.isfinite(t) else None for t in seconds[ends[1:] - 1]],
        "error": errors,
    }


def speed(result):
    """Mean of the loss over the run, in nats; infinite if it diverged. Low is fast."""
    mean = np.mean(np.array(result["loss"], np.float64))
    return float(mean) if np.isfinite(mean) else math.inf


def race(run, name, shared, grid):
    """Each optimizer at the best of its grid.

    Args:
        run: of the experiment.
        name: of the folder of finished cells.
        shared: what all cells share.
        grid: by optimizer, its part of a cell; "annealed", "momentum" and all.

    Returns:
        By optimizer: "best", its settings; "speed", mean over three seeds, and its "error_of_mean"; "last", the loss at
        the end, likewise; "test", the share misclassified; the curves of the first seed; whether the step size is at an
        "edge" of the grid.
    """
    options = {"resume": run.resume, "progress": run.progress and name}
    choices = [choice for part in grid.values() for choice in part]
    results = sweep(classify, [shared | c | {"seed": run.seed} for c in choices], run.folder / name, **options)
    best = {}
    for optimizer, part in grid.items():
        at = [i for i, choice in enumerate(choices) if choice["optimizer"] == optimizer]
        first = min(at, key=lambda i: speed(results[i]))
        sizes = [choice["step_size"] for choice in part if choice["momentum"] == choices[first]["momentum"]]
        best[optimizer] = {
            "best": choices[first],
            "edge": len(sizes) > 1 and choices[first]["step_size"] in (min(sizes), max(sizes)),
            "grid": [[c["step_size"], c["momentum"], speed(results[i])] for i, c in zip(at, part, strict=True)],
            "runs": [results[first]],
        }
    again = [shared | b["best"] | {"seed": run.seed + i} for b in best.values() for i in (1, 2)]
    more = sweep(classify, again, run.folder / name, **options)
    for i, b in enumerate(best.values()):
        runs = b.pop("runs") + more[2 * i : 2 * i + 2]
        speeds = [speed(r) for r in runs]
        b["speed"], b["error_of_mean"] = mean_and_error(speeds)
        b["last"] = np.mean([np.nan if r["loss"][-1] is None else r["loss"][-1] for r in runs])
        b["test"] = np.mean([np.nan if r["error"][-1] is None else r["error"][-1] for r in runs])
        b |= {key: runs[0][key] for key in ("steps", "loss", "seconds")}
        b["milliseconds_per_step"] = 1e3 * (b["seconds"][-1] or math.nan) / b["steps"][-1]
    return best


def race_rows(table, where, race):
    """Two lines of the table for each optimizer; None is a number that was infinite or NaN."""
    for optimizer, b in race.items():
        chosen = f"step size {b['best']['step_size']:g}" + (", at the edge of the grid" if b["edge"] else "")
        part = {"Nesterov": "momentum", "Adam": "beta1"}.get(optimizer)
        chosen += f", {part} {b['best']['momentum']:g}" if part else ""
        name = f"{where}, {NAMES.get(optimizer, optimizer)}"
        speed, last = speed_of(b), math.nan if b["last"] is None else b["last"]
        error, test = (math.nan if b[key] is None else b[key] for key in ("error_of_mean", "test"))
        note = f"{speed:.4f} +- {error:.4f} (3 seeds), {chosen}; test error {100 * test:.1f} %"
        table.row(f"{name}, loss over the run", speed, note=note)
        table.row(f"{name}, loss at the end", last, note=f"{last:.4f}; published as a picture")


def speed_of(best):
    """The mean loss over the run; infinite if it diverged, which JSON has as None."""
    return math.inf if best["speed"] is None else best["speed"]


def draw_race(axes, race, title, against="steps"):
    """Loss by step or second, a line for each optimizer."""
    for i, (optimizer, b) in enumerate(race.items()):
        loss = np.array(b["loss"], np.float64)
        across = np.array(b[against], np.float64)
        axes.plot(across, loss, label=NAMES.get(optimizer, optimizer), **plots.style(i, len(loss)))
    plots.panel(axes, title, "iterations" if against == "steps" else "seconds, one thread", log="y")
    axes.tick_params(axis="y", which="both", labelsize=7)
    axes.grid(True, which="both", linewidth=0.3)
