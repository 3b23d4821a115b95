"""Chapter 1, probabilistic models and their learning (thesis sections 1.2-1.7, appendix 9.1-9.3).

A model that sees all its variables is trained by climbing its log-probability, a minibatch at a time. What goes wrong
with few data, and what mends it? And why does the same recipe stop at the first latent variable?
"""

# %% [markdown]
# Fully observed: a network gives the parameters of a categorical distribution (eq. 1.4, 1.5), and the average
# log-probability of a minibatch is an unbiased estimate of that of the data (eq. 1.11, 1.12).
#
#     p(y | x) = Categorical(y; NeuralNet(x))          1/N log p(D)  ~  1/M sum over a minibatch of log p(y | x)
#
# With a latent variable (eq. 1.13-1.18) there is an integral in the way:
#
#     p(z) = N(0, I)      p(x | z) = Bernoulli(x; DecoderNet(z))      p(x) = integral of p(z) p(x | z) over z

# %%
import math
import time

import numpy as np
from scipy import stats

from minivi import data, evaluation, mcmc, nn, optim, plots
from minivi.distributions import Categorical, Normal
from minivi.experiments import Claim, Result, Row, experiment
from minivi.models import VAE, Classifier
from minivi.nn import Module
from minivi.random import Generator
from minivi.tensor import Parameter, Tensor, grad, no_grad

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
    found = {name: history.column(name) for name in ("updates", "train", "test")}
    if stop:
        best = int(np.argmax(history.column("held-out"))) + 1
        found = {"epoch": best, "updates": best * math.ceil(count / s.batch), "test": judge(model, *test)[0]}
    return found | {"nats": nats, "errors": errors, "stopped": history.stopped_early}


def mean_and_error(values):
    """Mean over seeds and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


@experiment(
    "classifier",
    title="a classifier on few images: maximum likelihood, a prior, early stopping",
    mirrors="thesis sections 1.3, 1.5, 9.2.1, 9.3",
    budgets=CLASSIFIER,
    minutes={"quick": 0.3, "laptop": 2.3, "paper": 60},
)
def classifier(run):
    """Train three ways for each number of images; nats and errors on test images."""
    s = run.settings
    seeds = range(run.seed, run.seed + s.seeds)
    runs = {
        (count, method): [classify(run, count, epochs, method, seed) for seed in seeds]
        for count, epochs in zip(s.counts, s.epochs, strict=True)
        for method in METHODS
    }
    nats = {key: np.array([r["nats"] for r in found]) for key, found in runs.items()}
    errors = {key: np.array([r["errors"] for r in found]) for key, found in runs.items()}
    rows, claims, curves = [], [], {}
    fig = plots.figure(2.7 * (len(s.counts) + 1), 3.4)
    top = 1.1 * max(r["test"].max() for (_, m), found in runs.items() if m == METHODS[0] for r in found)
    top = min(top, 1.2 * math.log(10))
    for i, count in enumerate(s.counts):
        axes = fig.add_subplot(1, len(s.counts) + 1, i + 1)
        for j, method in enumerate(METHODS):
            found = runs[count, method]
            for unit, values in (("nats", nats[count, method]), ("%", errors[count, method])):
                mean, error = mean_and_error(values)
                note = f"standard error {error:.3f} over {s.seeds} seeds"
                if method == METHODS[2] and unit == "nats":
                    note += f"; best epochs {', '.join(str(r['epoch']) for r in found)} of {s.epochs[i]}"
                what = "-log p(y | x)" if unit == "nats" else "errors"
                rows.append(Row(f"{count} images, {method}, test {what}", mean, unit=unit, note=note))
            if method == METHODS[2]:
                at = np.exp(np.mean(np.log([r["updates"] for r in found])))
                axes.plot(
                    at, np.mean([r["test"] for r in found]), "k*", markersize=11, markerfacecolor="w", label=method
                )
                continue
            mean = {name: np.mean([r[name] for r in found], axis=0) for name in ("updates", "test", "train")}
            curves[f"{count} images, {method}"] = mean
            style = plots.style(j, len(mean["updates"]))
            axes.plot(mean["updates"], mean["test"], label=f"{method}, test", **style)
            axes.plot(mean["updates"], mean["train"], label=f"{method}, training", **(style | plots.THIN))
        axes.set(xscale="log", ylim=(0, top), xlabel="updates")
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(f"{count} training images", fontsize=9)
        axes.grid(True, linewidth=0.3)
        if i == 0:
            axes.set_ylabel("-log p(y | x), nats per image")
            first = axes
    axes = fig.add_subplot(1, len(s.counts) + 1, len(s.counts) + 1)
    for j, method in enumerate(METHODS):
        summary = [mean_and_error(errors[count, method]) for count in s.counts]
        style = plots.style(j, len(s.counts)) | ({"marker": "*", "markersize": 8} if j == 2 else {})
        axes.errorbar(s.counts, *zip(*summary, strict=True), capsize=2, **style)
    axes.set(xscale="log", yscale="log", xlabel="training images", ylabel="test errors, %")
    axes.set_title("errors at the end", fontsize=9)
    axes.grid(True, which="both", linewidth=0.3)
    plots.legend_below(fig, [first])
    fig.suptitle(f"A classifier of {s.data} on few images: learning by heart, and two remedies", fontsize=10)

    # A gain counts if it is more than twice its standard error over the seeds, which pair the methods
    few, many = s.counts[0], s.counts[-1]
    gains = {(n, m): mean_and_error(nats[n, METHODS[0]] - nats[n, m]) for n in (few, many) for m in METHODS[1:]}
    for method in METHODS[1:]:
        gain, error = gains[few, method]
        label = f"{few} images: {method} beats maximum likelihood in test nats by more than 2 standard errors"
        claims.append(Claim(gain, ">=", 2 * error, 0.0, label))
    (effect, error), (late, late_error) = (gains[n, METHODS[1]] for n in (few, many))
    label = f"the prior changes test nats less with {many} images than with {few}, by more than 2 standard errors"
    claims.append(Claim(abs(effect) - abs(late), ">=", 2 * math.hypot(error, late_error), 0.0, label))
    return Result(rows, {"": fig}, {"curves": curves}, claims)


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
DRAWS = {
    "with replacement": lambda rng, n, m: rng.integers(0, n, m),
    "without replacement": lambda rng, n, m: rng.permutation(n)[:m],
}


def total(arrays):
    """The sum of all entries of all arrays."""
    return float(sum(np.sum(a, dtype=np.float64) for a in arrays))


def measure(gradient, draw, n, m, draws, rng):
    """Total variance of minibatch gradients in each of the groups of ``draws``, and their mean over all."""
    found = [evaluation.gradient_moments(lambda: gradient(draw(rng, n, m)), draws) for _ in range(GROUPS)]
    mean = [np.mean(parts, axis=0) for parts in zip(*(f.mean for f in found), strict=True)]
    return np.array([total(f.variance) for f in found]), mean


@experiment(
    "minibatch",
    title="the minibatch gradient is unbiased, and its variance falls as 1 / M",
    mirrors="thesis section 1.5.2, eq. 1.11, 1.12",
    budgets=MINIBATCH,
    minutes={"quick": 0.2, "laptop": 1.3, "paper": 120},
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

    rows, claims, numbers, ratios, distances = [], [], {}, [], []
    correction = (n - sizes) / (n - 1)
    fig = plots.figure(9.0, 3.8)
    panels = [fig.add_subplot(1, 2, 1)]
    panels.append(fig.add_subplot(1, 2, 2, sharey=panels[0]))
    for axes, stage in zip(panels, ("at the start", f"after {s.epochs} epochs"), strict=True):
        if stage != "at the start":
            run.fit(
                f"minibatch_{s.data}{n}", model, loss, optim.Adam(model.parameters(), 1e-3), (x, labels),
                epochs=s.epochs, batch_size=100, rng=Generator([run.seed, 22]),
            )  # fmt: skip
        each = iter(range(n))
        alone = evaluation.gradient_moments(lambda each=each: gradient(np.array([next(each)])), n)
        variance, signal = total(alone.variance) * (n - 1) / n, total(np.square(m) for m in alone.mean)
        stage_numbers = {"sizes": sizes, "variance of one datum": variance, "squared norm of the gradient": signal}
        for j, (how, draw) in enumerate(DRAWS.items()):
            exact = variance / sizes * (correction if j else 1.0)
            groups = []
            for m, expected in zip(sizes, exact, strict=True):
                draws = max(s.draws, 300 // int(m))  # single gradients have heavy tails, and cost little
                found, mean = measure(gradient, draw, n, int(m), draws, rng)
                groups.append(found)
                off = total(np.square(a - b) for a, b in zip(mean, alone.mean, strict=True))
                distances.append(off * GROUPS * draws / expected)
            groups = np.array(groups)  # (sizes, groups)
            ratios.extend((groups / exact[:, None]).mean(axis=1))
            level = groups / correction[:, None] if j else groups
            slope, error = mean_and_error(np.polyfit(np.log(sizes), np.log(level), 1)[0])
            note = f"standard error {error:.3f}" + ("; after division by (N - M) / (N - 1)" if j else "")
            rows.append(Row(f"{stage}, {how}: slope of log variance in log M", slope, unit="", note=note))
            claims.append(Claim(slope, "=", -1.0, 4 * error, f"{stage}, {how}: slope -1, within 4 standard errors"))
            if j:
                raw = np.polyfit(np.log(sizes), np.log(groups), 1)[0].mean()
                rows.append(Row(f"{stage}, {how}: slope without that division", raw, unit=""))
            mean, style = groups.mean(axis=1), plots.style(j, 1)
            axes.plot(sizes, mean / signal, **(style | {"linestyle": ""}), label=f"{how}, measured")
            fine = np.geomspace(1, 0.97 * n, 200)
            axes.plot(
                fine, variance / fine * ((n - fine) / (n - 1) if j else 1.0) / signal,
                **(style | {"marker": ""}), label=f"{how}, {'with (N - M) / (N - 1)' if j else '1 / M'}",
            )  # fmt: skip
            stage_numbers |= {how: mean, f"{how}, exact": exact}
        axes.axhline(1.0, color="#777777", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="M, images in a minibatch")
        axes.set_title(stage, fontsize=9)
        axes.grid(True, linewidth=0.3)
        axes.label_outer()
        note = "M at which the variance, 1 / M, is the squared length of the mean gradient"
        rows.append(Row(f"{stage}: noise equals signal at M", variance / signal, unit="images", note=note))
        numbers[stage] = stage_numbers
    panels[0].set_ylabel("variance / |mean gradient|$^2$")
    plots.legend_below(fig, panels)
    fig.suptitle(f"Variance of the minibatch gradient, N = {n} images of {s.data}", fontsize=10)
    ratio, error = mean_and_error(ratios)
    rows.append(Row("measured / exact variance, mean over sizes", ratio, unit="", note=f"standard error {error:.3f}"))
    claims.append(Claim(ratio, "=", 1.0, 4 * error, "the variance is sigma^2 / M with its correction, within 4 s.e."))
    distance, error = mean_and_error(distances)
    note = f"1 if unbiased; standard error {error:.3f}; larger by the draws times bias^2 / variance if not"
    rows.append(Row("squared distance of mean and full gradient / (variance / draws)", distance, unit="", note=note))
    claims.append(Claim(distance, "=", 1.0, 4 * error, "the minibatch gradient is unbiased, within 4 s.e."))
    return Result(rows, {"": fig}, numbers, claims)


# %% [markdown]
# ## The example DLVM and its integral (sections 1.6.3, 1.7)
#
# The model of eq. 1.15-1.18, trained as chapter 2 does. With one latent the integral 1.13 is a sum over a grid that any
# laptop does at once; with J latents the grid has (points on an axis)^J points and the decoder runs at each. How many
# points does an axis need, and so how many latents are too many? A grid is decoded once for all images, so it is not
# even the number of images that costs. Beyond the largest grid that is really computed, the table extrapolates: the
# points that the last computed number of latents needed, and the CPU time that an evaluation took there.

# %%
ADAM = {"optimizer": "adam", "step_size": 1e-3, "batch": 100}
# The text's settings of section 2.11; its step size is one of three there
ADAGRAD = {"optimizer": "adagrad", "step_size": 0.02, "batch": 100}
DLVM = {
    "quick": {
        "data": "digits", "hidden": 50, "epochs": 60, **ADAM, "images": 100, "finest": [800, 200], "samples": 300,
    },
    "laptop": {
        "data": "mnist", "hidden": 200, "epochs": 5, **ADAM, "images": 200, "finest": [3200, 640, 128],
        "samples": 2000,
    },
    "paper": {
        "data": "mnist", "hidden": 500, "epochs": 500, **ADAGRAD, "images": 1000, "finest": [12800, 1280, 256],
        "samples": 5000,
    },
}  # fmt: skip
LIMIT = 8.0  # of the grid: within +-5 some images' posteriors are cut off
NATS = 0.1  # an error that would not change a published likelihood
PERIODS = {"an hour": 3600.0, "a year": 3.156e7, "the universe's age": 4.35e17}


def quadrature(vae, x, points, limit=LIMIT, progress=False):
    """log p(x) of each datum by the grid."""
    return evaluation.log_likelihood_by_quadrature(vae, x, points, limit, progress)


def new_vae(s, pixels, latents, seed):
    """One hidden layer on either side, in the settings' initial weights."""
    init = nn.glorot if s.optimizer == "adam" else nn.normal(0.1)
    return VAE(pixels, (s.hidden,), latents, rng=Generator([seed, latents]), init=init)


def optimizer_for(module, s, count):
    """Adam, or AdaGrad with the weights' prior N(0, I), which counts once for all ``count`` data (eq. 9.5)."""
    if s.optimizer == "adam":
        return optim.Adam(module.parameters(), s.step_size)
    return optim.AdaGrad(module.parameters(), s.step_size, weight_decay=1.0 / count)


def binarize(x, rng):
    """Fresh binary pixels from grey values."""
    return data.binarize(x, "dynamic", rng)


def needed(points, errors):
    """The fewest points on an axis from which on all errors are below NATS; None if no grid was fine enough."""
    below = np.array(errors) < NATS
    good = [p for i, p in enumerate(points) if below[i:].all()]
    return good[0] if good else None


@experiment(
    "dlvm",
    title="the exact marginal by a grid, and the number of latents at which it stops being feasible",
    mirrors="thesis sections 1.6.3, 1.7, eq. 1.13-1.19",
    budgets=DLVM,
    minutes={"quick": 0.1, "laptop": 2.1, "paper": 240},
)
def dlvm(run):
    """Integrate models of one latent and more on grids of growing fineness; count evaluations, extrapolate seconds."""
    s, images = run.settings, run.images()
    x = binarize(images.test[: s.images], Generator(2))
    fig = plots.figure(10.5, 3.5)
    first, second, third = (fig.add_subplot(1, 3, i + 1) for i in range(3))
    rows, claims, numbers, cost = [], [], {}, {}
    for latents, finest in enumerate(s.finest, start=1):
        vae = new_vae(s, images.train.shape[1], latents, run.seed)
        run.fit(
            f"dlvm_{s.data}_latents{latents}", vae, lambda x, rng, vae=vae: -vae.elbo(x, rng).mean(),
            optimizer_for(vae, s, len(images.train)), images.train, epochs=s.epochs, batch_size=s.batch,
            rng=Generator([run.seed, latents, 31]), prepare=binarize,
        )  # fmt: skip
        points = [p for p in (5, 10, 15, 20, 30, 40, 60, 80, 100, 160, 240, 320, 480, 640, 1000) if 1.2 * p < finest]
        quadrature(vae, x, 10)  # compile before the clock runs
        begun = time.process_time()
        exact = quadrature(vae, x, finest, progress=run.progress)
        per_second = finest**latents / (time.process_time() - begun)
        errors = []
        for p in points:
            found = quadrature(vae, x, p, progress=run.progress)
            errors.append(float(np.mean(np.abs(found.values - exact.values))))
        enough = needed(points, errors)
        sampled = evaluation.log_likelihood(vae, x, Generator(32), s.samples, progress=run.progress)
        gap = evaluation.difference(exact, sampled)
        name = f"{latents} latent{'s' if latents > 1 else ''}"
        note = f"{finest}^{latents} points; {len(x)} test images, standard error {exact.standard_error:.2f}"
        rows.append(Row(f"{name}, log p(x) by quadrature", exact.mean, note=note))
        note = f"{s.samples} importance samples an image (eq. 2.57); noise {sampled.noise:.3f}"
        rows.append(Row(f"{name}, log p(x) by sampling", sampled.mean, note=note))
        label = f"{name}: sampling, a bound from below, is not above the integral, within 3 of its noise"
        claims.append(Claim(gap.mean, ">=", 0.0, 3 * sampled.noise + 1e-3, label))
        posterior = np.exp(np.asarray(vae.encode(x).log_sigma, np.float64))
        note = "of the encoder's q(z | x); a grid must be about as fine"
        rows.append(Row(f"{name}, median standard deviation", float(np.median(posterior)), unit="", note=note))
        numbers[name] = {"points": points, "errors": errors, "evaluations per CPU second": per_second}
        first.plot(points, np.maximum(errors, 1e-7), label=name, **plots.style(latents - 1, len(points)))
        if enough is None:
            rows.append(Row(f"{name}, points on an axis for {NATS} nats", math.nan, unit="", note="no grid was enough"))
        else:
            cost[latents] = enough, per_second
            note = f"{enough**latents:.2g} decoder evaluations, {enough**latents / per_second:.2g} CPU seconds"
            rows.append(Row(f"{name}, points on an axis for {NATS} nats", enough, unit="", note=note))
        if latents == 1:
            draw_posteriors(third, vae, x)
    label = f"p(x, z) integrates at one latent: {s.finest[0] // 2} points agree with {s.finest[0]}"
    claims.append(Claim(numbers["1 latent"]["errors"][-1], "<=", 0.01, 0.0, f"{label}, nats"))
    if cost:
        last = max(cost)
        each, per_second = cost[last]
        seconds = {j: (cost[j][0] if j in cost else each) ** j / cost.get(j, cost[last])[1] for j in range(1, 21)}
        day = max(j for j in seconds if seconds[j] <= 86400.0)
        note = (
            f"with {each} points an axis and {per_second:.3g} evaluations a CPU second, as measured at {last} latents"
        )
        rows.append(Row("most latents that a day of one core is enough for", day, unit="", note=note))
        for j in (5, 10, 20):
            note = f"extrapolated, not run: {each}^{j} decoder evaluations"
            rows.append(Row(f"{j} latents, log10 of the CPU seconds", math.log10(seconds[j]), unit="", note=note))
        label = "20 latents: log10 of the grid's CPU seconds, against the age of the universe"
        claims.append(Claim(math.log10(seconds[20]), ">=", math.log10(PERIODS["the universe's age"]), 0.0, label))
        numbers["CPU seconds of a grid"] = {"measured": sorted(cost), **{str(j): value for j, value in seconds.items()}}
        second.plot(sorted(cost), [seconds[j] for j in sorted(cost)], label="grids that were run", **plots.style(0))
        later = range(last, 21)
        second.plot(later, [seconds[j] for j in later], label="extrapolated", **(plots.style(1) | {"marker": ""}))
    for name, value in PERIODS.items():
        second.axhline(value, color="#777777", linewidth=0.8)
        second.text(1.02, value, name, fontsize=7, va="center", transform=second.get_yaxis_transform())
    first.axhline(NATS, color="#777777", linewidth=0.8)
    first.set(xscale="log", yscale="log", xlabel="points on each axis", ylabel="mean |error| of log p(x), nats")
    first.set_title("a grid fine enough", fontsize=9)
    second.set(yscale="log", xlabel="latents", ylabel="CPU seconds for one grid", xticks=[1, 5, 10, 15, 20])
    second.set_title(f"its cost for {NATS} nats", fontsize=9)
    for axes in (first, second):
        axes.legend(fontsize=8, loc="upper right" if axes is first else "upper left")
        axes.grid(True, linewidth=0.3)
    fig.suptitle(f"The marginal likelihood of the example DLVM on {s.data}, by quadrature", fontsize=10)
    return Result(rows, {"": fig}, numbers, claims)


def draw_posteriors(axes, vae, x):
    """What is integrated: p(z | x) = p(x, z) / p(x) (eq. 1.19) of three images, and the prior."""
    z = np.linspace(-LIMIT, LIMIT, 8001, dtype=vae.dtype)
    with no_grad():
        log_px_z = np.asarray(vae.decode(z[:, None, None]).log_prob(x[:3]), np.float64)
    joint = np.exp(log_px_z - log_px_z.max(axis=0)) * stats.norm.pdf(z)[:, None]
    posterior = joint / np.trapezoid(joint, z, axis=0)
    axes.plot(z, stats.norm.pdf(z), label="prior", **(plots.style(5) | {"marker": ""}))
    for i in range(posterior.shape[1]):
        axes.plot(z, posterior[:, i], label=f"image {i + 1}", **(plots.style(i) | {"marker": ""}))
    axes.set(xlabel="z", ylabel="density", yscale="log", xlim=(-6, 6), ylim=(1e-3, 30 * posterior.max()))
    axes.set_title("one latent: p(z | x) of three images", fontsize=9)
    axes.legend(fontsize=8, ncols=2)
    axes.grid(True, linewidth=0.3)


# %% [markdown]
# ## Variational EM and MCMC-EM (9.2.2, 9.2.3)
#
# Two ways to train the same decoder without an encoder. Both give each datum something of its own, bring it up to date
# for a minibatch (E step), then make five updates of the decoder with it (M step):
#
# - variational EM keeps mu_i and log sigma_i, and climbs the bound in them (eq. 9.6) by natural gradients: a
#   Gaussian's Fisher information is 1 / sigma^2 for mu and 2 for log sigma, so that a step is measured in units of the
#   posterior's own width, however narrow. No step may be longer than one sigma;
# - MCMC-EM keeps z_i, and moves it by Hamiltonian Monte Carlo along grad_z log p(x, z) (eq. 9.14).
#
# The yardstick is the exact log p(x), by quadrature over two latents. What is counted for each training image is the
# gradients through a network: 2 a visit for AEVB, whose encoder is as large as its decoder, 20 + 5 for variational EM,
# 11 + 5 for MCMC-EM. Pixels are drawn once: what is kept for a datum belongs to one fixed image.

# %%
EM = {
    "quick": {
        "data": "digits",
        "count": 300,
        "hidden": 50,
        **ADAM,
        "gradients": 480,
        "images": 150,
        "points": 60,
        "seeds": 1,
    },
    "laptop": {
        "data": "mnist",
        "count": 2000,
        "hidden": 100,
        **ADAM,
        "gradients": 1200,
        "images": 500,
        "points": 160,
        "seeds": 2,
    },
    "paper": {
        "data": "mnist",
        "count": 50000,
        "hidden": 100,
        **ADAGRAD,
        "gradients": 8000,
        "images": 1000,
        "points": 200,
        "seeds": 2,
    },
}
E_STEPS, E_SAMPLES, RATE = 5, 4, 0.5
LEAPFROG_STEPS, ACCEPTANCE = 10, 0.9
UPDATES = 5


def local_bound(vae, x, mu, log_sigma, rng, samples=1):
    """The bound of each datum for q(z) = N(mu, diag(sigma^2)) of its own (eq. 9.8), (B,) in nats; mu is (B, J).

    An even number of samples comes in pairs, eps and -eps: where log p(x, z) is quadratic, mu's gradient has no noise.
    """
    q = Normal(mu, log_sigma)
    eps = rng.standard_normal((samples // 2 if samples % 2 == 0 else samples, *q.shape), dtype=vae.dtype)
    if samples % 2 == 0:
        eps = np.concatenate([eps, -eps])
    return vae.decode(q.rsample(eps)).log_prob(x).mean(axis=0) - q.kl()


def climb(vae, x, mu, log_sigma, rng, steps=E_STEPS, samples=E_SAMPLES):
    """The E step: natural-gradient ascent of the bound in mu and log sigma, arrays (B, J), which it returns.

    The step size falls linearly to zero: at a constant one, the gradient's noise would keep q from its best.
    """
    for step in range(steps):
        rate = RATE * (1.0 - step / steps)
        leaves = Tensor(mu), Tensor(log_sigma)
        g_mu, g_log_sigma = grad(local_bound(vae, x, *leaves, rng, samples).sum(), leaves)
        sigma = np.exp(log_sigma)
        mu = mu + np.clip(rate * sigma**2 * g_mu, -sigma, sigma)
        log_sigma = log_sigma + np.clip(0.5 * rate * g_log_sigma, -0.5, 0.5)
    return mu, log_sigma


class _EM(Module):
    """What both share; a row of the training data ends with its number, by which a datum's own state is found."""

    def loss(self, optimizer):
        """For ``fit``, which makes one update: the E step and the other updates come before it."""

        def loss(rows, rng):
            x, index = np.ascontiguousarray(rows[:, :-1]), rows[:, -1].astype(int)
            self.e_step(x, index, rng)
            for _ in range(UPDATES - 1):
                optimizer.step(grad(self.m_loss(x, index, rng), optimizer.parameters))
            return self.m_loss(x, index, rng)

        return loss

    @staticmethod
    def keep(parameter, index, values):
        """Put new values into the rows ``index``."""
        rows = parameter.data.copy()
        rows[index] = values
        parameter.assign(rows)


class VariationalEM(_EM):
    """A decoder, and mu and log sigma of each datum, (N, J): Parameters, so that ``fit`` keeps them too."""

    e_cost = E_STEPS * E_SAMPLES  # gradients an image

    def __init__(self, vae, count, seed):
        self.vae = vae
        self.mu, self.log_sigma = (Parameter(np.zeros((count, vae.latents)), dtype=vae.dtype) for _ in range(2))

    def e_step(self, x, index, rng):
        """Eq. 9.6 for a minibatch, from where its parameters were."""
        mu, log_sigma = climb(self.vae, x, self.mu.data[index], self.log_sigma.data[index], rng)
        self.keep(self.mu, index, mu)
        self.keep(self.log_sigma, index, log_sigma)

    def m_loss(self, x, index, rng):
        """Minus the bound (eq. 9.7), a mean over the minibatch."""
        return -local_bound(self.vae, x, self.mu.data[index], self.log_sigma.data[index], rng).mean()


class MonteCarloEM(_EM):
    """A decoder, and a chain for each datum, (N, J), with the adaptation of the step size."""

    e_cost = LEAPFROG_STEPS + 1

    def __init__(self, vae, count, seed):
        self.vae = vae
        self.chains = Parameter(Generator([seed, 41]).standard_normal((count, vae.latents)), dtype=vae.dtype)
        self.tuning = Parameter(mcmc.DualAveraging(0.1, ACCEPTANCE).state)

    def e_step(self, x, index, rng):
        """One transition of ten leapfrog steps towards p(z | x), which are 11 gradients (eq. 9.14)."""
        adapt = mcmc.DualAveraging(0.1, ACCEPTANCE)
        adapt.state = self.tuning.data
        zero = np.zeros(self.vae.latents, self.vae.dtype)
        log_joint = lambda z: Normal(zero, zero).log_prob(z) + self.vae.decode(z).log_prob(x)
        # Steps of one size can come full circle where the posterior is as wide as the prior: vary it (Neal 2011)
        step_size = adapt.step_size * rng.uniform(0.8, 1.2)
        move = mcmc.hmc(log_joint, self.chains.data[index], rng, step_size, LEAPFROG_STEPS)
        adapt.update(move.acceptance)
        self.keep(self.chains, index, move.z)
        self.tuning.assign(adapt.state)

    def m_loss(self, x, index, rng):
        """Minus log p(x | z) at the chains, a mean over the minibatch."""
        return -self.vae.decode(self.chains.data[index]).log_prob(x).mean()


TRAINERS = {"AEVB": None, "variational EM": VariationalEM, "MCMC-EM": MonteCarloEM}


def train_em(run, method, seed, train, held_out):
    """Train one decoder; the VAE and its curve: gradients an image, seconds, exact log p(x) by name of ``held_out``."""
    s = run.settings
    vae = new_vae(s, train.shape[1], 2, seed)
    if method == "AEVB":
        model, optimizer = vae, optimizer_for(vae, s, len(train))
        loss, rows, cost = (lambda x, rng: -vae.elbo(x, rng).mean()), train, 2  # encoder and decoder
    else:
        model, optimizer = TRAINERS[method](vae, len(train), seed), optimizer_for(vae.decoder, s, len(train))
        rows = np.column_stack([train, np.arange(len(train), dtype=train.dtype)])
        loss, cost = model.loss(optimizer), model.e_cost + UPDATES
    epochs = max(1, s.gradients // cost)
    when = set(np.geomspace(1, epochs, 12).round().astype(int).tolist())

    def evaluate(epoch):
        if epoch not in when:
            return {}
        exact = {k: quadrature(vae, x, s.points).mean for k, x in held_out.items()}
        return {"gradients": epoch * cost, **exact}

    history = run.fit(
        f"em_{s.data}{len(train)}_{method.replace(' ', '_')}_seed{seed}", model, loss, optimizer, rows, epochs=epochs,
        batch_size=s.batch, rng=Generator([seed, 42]), evaluate=evaluate,
    )  # fmt: skip
    curve = {name: history.column(name) for name in ("gradients", *held_out)}
    return model, curve | {"seconds": history.column("seconds").sum()}


def encode(vae, x):
    """The encoder's mu and log sigma as constants, (B, J)."""
    with no_grad():
        q = vae.encode(x)
        return np.array(q.mu), np.array(q.log_sigma)


def divergence(vae, x, exact, mu, log_sigma):
    """KL(q(z) || p(z | x)) = log p(x) - bound (eq. 9.9) of each datum, (B,) in nats, by 200 samples."""
    rng = Generator(45)
    with no_grad():
        bounds = [np.asarray(local_bound(vae, x, mu, log_sigma, rng, 20), np.float64) for _ in range(10)]
    return exact.values - np.mean(bounds, axis=0)


@experiment(
    "em",
    title="variational EM with local parameters and MCMC-EM, against AEVB and the exact likelihood",
    mirrors="thesis sections 9.2.2, 9.2.3, eq. 9.6-9.14",
    budgets=EM,
    minutes={"quick": 0.1, "laptop": 4, "paper": 600},
)
def em(run):
    """Train one decoder three ways; then, for new images, the encoder against E steps."""
    s, images = run.settings, run.images()
    train = binarize(images.train[: s.count], Generator(43))
    test = binarize(images.test[: s.images], Generator(44))
    held_out = {"train": train[: s.images], "test": test}
    seeds = range(run.seed, run.seed + s.seeds)
    found = {m: [train_em(run, m, seed, train, held_out) for seed in seeds] for m in TRAINERS}
    rows, claims, curves, ends = [], [], {}, {}
    for method, runs in found.items():
        mean = {name: np.mean([curve[name] for _, curve in runs], axis=0) for name in ("gradients", *held_out)}
        curves[method], ends[method] = mean, np.array([curve["train"][-1] for _, curve in runs])
        for name in held_out:
            note = f"{mean['gradients'][-1]:.0f} network gradients an image"
            note += f", {np.mean([c['seconds'] for _, c in runs]):.0f} s" + (
                f", {len(seeds)} seeds" if s.seeds > 1 else ""
            )
            rows.append(Row(f"{method}, log p(x), {name}", mean[name][-1], note=note))
    vae = found["AEVB"][0][0]
    fine, exact = quadrature(vae, test, 3 * s.points, 1.5 * LIMIT), quadrature(vae, test, s.points)
    note = f"mean |error| against {3 * s.points}^2 points on a square half as large again, AEVB's decoder, test images"
    rows.append(Row(f"quadrature with {s.points}^2 points", np.mean(np.abs(exact.values - fine.values)), note=note))
    claims.append(Claim(np.mean(np.abs(exact.values - fine.values)), "<=", 0.05, 0.0, "the yardstick's error, nats"))
    for method in ("variational EM", "MCMC-EM"):
        label = f"{s.gradients} network gradients an image: AEVB's log p(x) of training images not below {method}'s"
        claims.append(Claim(ends["AEVB"].mean(), ">=", ends[method].mean(), 0.0, label))

    # New images: the encoder answers at once; a local q has to climb from the prior, in AEVB's own model
    encoded = encode(vae, test)
    encoder = divergence(vae, test, fine, *encoded)
    prior = np.zeros((len(test), 2), vae.dtype)
    rng, taken = Generator([run.seed, 46]), [1, 2, 4, 8, 16, 32, 64, 128]
    local = [divergence(vae, test, fine, *climb(vae, test, prior, prior, rng, steps)) for steps in taken]
    means, taken = np.mean(local, axis=1), E_SAMPLES * np.array(taken)
    rows.append(Row("new images, KL(q || p(z | x)), encoder", encoder.mean(), note="no gradient through the decoder"))
    for steps, value in list(zip(taken, means, strict=True))[3::4]:
        rows.append(Row("new images, KL(q || p(z | x)), local", value, note=f"{steps} decoder gradients an image"))
    climbed = divergence(vae, test, fine, *climb(vae, test, *encoded, rng, 64, samples=10))
    gain, error = mean_and_error(encoder - climbed)
    note = f"standard error {error:.4f}: what one encoder for all loses against a q for each, of the same family"
    rows.append(Row("64 E steps of 10 samples from the encoder's q: fall of the KL", gain, note=note))
    label = "E steps from the encoder's q lower KL(q || p(z | x)) by more than 2 standard errors"
    claims.append(Claim(gain, ">=", 2 * error, 0.0, label))
    keeper, _ = found["variational EM"][0]
    seen = held_out["train"]
    own = quadrature(keeper.vae, seen, 2 * s.points)
    kl = divergence(keeper.vae, seen, own, keeper.mu.data[: len(seen)], keeper.log_sigma.data[: len(seen)])
    note = "its training images, its own decoder"
    rows.append(Row("variational EM, KL(q || p(z | x)) at the end", kl.mean(), note=note))
    numbers = {
        "curves": curves,
        "log p(x) of training images by seed": ends,
        "E step": {"gradients": taken, "KL": means, "KL of the encoder": encoder.mean()},
    }
    return Result(rows, {"": em_figure(curves, numbers["E step"], s)}, numbers, claims)


def em_figure(curves, e_step, s):
    """The exact likelihood while training by each method; what E steps reach for new images."""
    fig = plots.figure(10.5, 3.6)
    panels = [fig.add_subplot(1, 3, i + 1) for i in range(3)]
    held_out = {"train": "training images", "test": "test images"}
    for axes, (name, title) in zip(panels, held_out.items(), strict=False):
        for i, (method, c) in enumerate(curves.items()):
            axes.plot(c["gradients"], c[name], label=method, **plots.style(i, len(c["gradients"])))
        axes.set(xscale="log", xlabel="network gradients an image", ylabel="exact log p(x), nats")
        axes.set_title(title, fontsize=9)
    taken = e_step["gradients"]
    panels[2].plot(taken, e_step["KL"], label="local, from the prior", **plots.style(1, len(taken)))
    panels[2].axhline(e_step["KL of the encoder"], color="k", linewidth=1.3, label="encoder")
    panels[2].set(xscale="log", yscale="log", xlabel="decoder gradients an image", ylabel="KL(q(z) || p(z | x)), nats")
    panels[2].set_title("new images, AEVB's decoder", fontsize=9)
    for axes in panels:
        axes.grid(True, linewidth=0.3)
        axes.legend(fontsize=8)
    low = min(c[name][min(2, len(c[name]) - 1)] for c in curves.values() for name in held_out)
    high = max(max(c[name]) for c in curves.values() for name in held_out)
    for axes in panels[:2]:
        axes.set_ylim(low, high + 0.05 * (high - low))
    fig.suptitle(f"One decoder with two latents, three ways to train it, on {s.count} images of {s.data}", fontsize=10)
    return fig


# %% [markdown]
# ## What to try next
#
# - `minivi run ch01_models --budget laptop`: the same on MNIST.
# - A tighter prior, N(0, 0.1 I): multiply the weight decay by ten. With which number of images does it help?
# - Three latents in `em` (points 40): which of the three trainers suffers most?
# - `minivi check 9.7` after leaving `q.kl()` out of `local_bound`: what fails?
