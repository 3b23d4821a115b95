"""Chapter 4, autoregressive models: MADE, its orderings, and what synthesis costs (thesis section 4.3).

A product of one-dimensional conditionals is a density that can be computed exactly. How good is it, what does the
ordering matter, and why does drawing one image take so much longer than with latent variables?
"""

# %% [markdown]
# The factorisation and its network (eq. 4.8 and 4.9; in 4.8 the product goes up to D, not T):
#
#     p(x) = p(x_1) prod_{j=2..D} p(x_j | x_<j)          p(x_j | x_<j) = Bernoulli(x_j; sigmoid(NeuralNet_j(x_<j)))
#
# MADE (Germain et al. 2015) computes all D networks in one pass: a hidden unit of degree m has weights from the first m
# dimensions alone, and to outputs behind them alone. So log p(x) takes one pass. Synthesis has to draw x_1 before it
# can compute p(x_2 | x_1), and so on: D steps in sequence.

# %%
import itertools
import time
from types import SimpleNamespace

import numpy as np
from scipy.special import logsumexp

from minivi import data, evaluation, nn, optim, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import no_grad

# %% [markdown]
# ## Settings
#
# Section 4.3 has none. `laptop` has those of a PyTorch reference: one hidden layer of 500 ReLU units, Adam. `paper` has
# a wide layer, many orderings and long training, after Germain et al. At `quick`, 8x8 digits.

# %%
QUICK = {"data": "digits", "hidden": [100], "step_size": 1e-3, "batch": 20}
LAPTOP = {"data": "mnist", "hidden": [500], "step_size": 1e-3, "batch": 100}
PAPER = LAPTOP | {"hidden": [8000]}


def all_log_probs(model, x):
    """log p(x) by each mask, (masks, N)."""
    return np.stack([evaluation.log_prob(model, x, mask=mask) for mask in range(len(model.masks))])


def log_mean(log_p):
    """log of the mean probability over the first axis: what an ensemble gives."""
    return logsumexp(log_p, axis=0) - np.log(len(log_p))


def trained(run, name, train, *, seed, epochs, evaluate, prepare=None, mean_bias=True, monitor=None, **kind):
    """A MADE of this ``kind`` and its history; trained once for all experiments of this chapter.

    With several masks, minibatches go to one mask after the other (order-agnostic training). Where the best epoch is
    kept, by a metric to ``monitor``, the step size falls to 0 in the second half.
    """
    s = run.settings
    half = epochs * -(-len(train) // s.batch) / 2

    def start():
        bias = nn.logit_of_mean(train) if mean_bias else 0.0
        model = nn.MADE(train.shape[1], s.hidden, Generator([seed, 1]), out_bias=bias, **kind)
        step_size = (lambda step: s.step_size * min(1.0, 2.0 - step / half)) if monitor else s.step_size
        optimizer, masks = optim.Adam(model.parameters(), step_size), len(model.masks)
        return model, lambda x, rng: -model.log_prob(x, mask=optimizer.steps % masks).mean(), optimizer

    name = f"{s.data}_{name}_{'-'.join(map(str, s.hidden))}_epochs{epochs}_seed{seed}".replace(" ", "")
    model, history, _ = run.train(
        name, start, train, epochs=epochs, batch_size=s.batch, rng=Generator([seed, 2]), prepare=prepare,
        evaluate=evaluate, monitor=monitor,
    )  # fmt: skip
    return model, history


# %% [markdown]
# ## Learning curves
#
# One mask, natural order, pixels thresholded at 0.5 or drawn afresh for each minibatch, beside the PyTorch reference
# (one pass over 60,000 images an epoch, mean of two seeds). Its units have the degrees 1, 2, ..., 500: "cyclic" with
# fewer units than pixels, so that no unit sees the pixels behind the 500th. "even" spreads the units over all pixels.
#
# With output biases of 0, the result after one epoch depends on the seed by several nats (143 to 151, four seeds, for
# the reference's 147 on dynamic pixels). They start at the log-odds of each pixel's mean instead, as in Burda's code:
# this was chosen after a run from 0 had been 3.7 nats above the reference. Both are in the table.

# %%
REFERENCE = {"threshold": {1: 139.4, 5: 99.1, 10: 92.3}, "dynamic": {1: 147.1, 5: 113.8, 10: 107.8}}
VARIANTS = {  # degrees, and whether the output biases start from the mean pixel
    "cyclic, bias 0": ("cyclic", False),
    "cyclic": ("cyclic", True),
    "even": ("even", True),
}


@experiment(
    "made",
    title="MADE with one mask: learning curves, and how degrees are spread over pixels",
    mirrors="thesis section 4.3",
    budgets={
        "quick": QUICK | {"epochs": 10, "at": [1, 5, 10], "seeds": 2},
        "laptop": LAPTOP | {"epochs": 10, "at": [1, 5, 10], "seeds": 2},
        "paper": PAPER | {"epochs": 100, "at": [1, 10, 100], "seeds": 2},
    },
    minutes={"quick": 0.2, "laptop": 4.6, "paper": 60 * 24},
)
def made(run):
    """Train by two kinds of pixels and three variants; NLL of the test images after each epoch."""
    s, images = run.settings, run.images()
    nll = {}
    for how in REFERENCE:
        train = data.binarize(images.train, "threshold") if how == "threshold" else images.train
        test = data.binarize(images.test, how, Generator(2))
        evaluate = lambda model, epoch, test=test: {"nll": -evaluation.log_prob(model, test).mean()}
        for variant, (degrees, mean_bias) in VARIANTS.items():
            histories = [
                trained(
                    run, f"{how}_{variant}", train, seed=run.seed + k, epochs=s.epochs, evaluate=evaluate,
                    prepare=None if how == "threshold" else data.fresh, mean_bias=mean_bias, degrees=degrees,
                )[1]
                for k in range(s.seeds)
            ]  # fmt: skip
            nll[f"{how}, {variant}"] = np.stack([h.column("nll") for h in histories])
    return {"nll": nll, "pixels": images.test.shape[1]}


def reference_of(s, how):
    """The reference's NLL by epoch, if the settings are its own."""
    return REFERENCE[how] if s.data == "mnist" and s.hidden == [500] else {}


@made.table
def _(n, table):
    s = n.settings
    for how, variant in itertools.product(REFERENCE, VARIANTS):
        reference = reference_of(s, how)
        for epoch in s.at:
            nll = n.nll[f"{how}, {variant}"][:, epoch - 1]
            note = f"seeds {', '.join(f'{v:.1f}' for v in nll)}"
            note += "; beside a PyTorch run, not a published number" if epoch in reference else ""
            table.row(f"{how}, {variant}, epoch {epoch}", nll.mean(), reference.get(epoch), note=note)


@made.figure()
def _(n):
    s = n.settings
    fig = plots.figure(9.0, 4.2)
    titles = {"threshold": "pixels > 0.5", "dynamic": "pixels drawn afresh"}
    for axes, (how, title) in zip(fig.subplots(1, 2, sharey=True), titles.items(), strict=True):
        for i, variant in enumerate(VARIANTS):
            nll = n.nll[f"{how}, {variant}"].mean(axis=0)
            axes.plot(np.arange(s.epochs) + 1, nll, label=variant, **plots.style(i, s.epochs))
        if reference := reference_of(s, how):
            axes.plot(*zip(*reference.items(), strict=True), "kx", markersize=8, label="PyTorch reference (cyclic)")
        plots.panel(axes, title, "epochs", "NLL, nats per test image")
        axes.label_outer()
    fig.axes[0].legend(fontsize=8)
    sizes = "-".join(map(str, [n.pixels, *s.hidden]))
    fig.suptitle(f"MADE {sizes} on {s.data}, one mask, natural order, mean of {s.seeds} seeds", fontsize=10)
    return fig


# %% [markdown]
# ## Orderings and their ensembles
#
# Images have no natural one-dimensional order, and the choice is part of the model: a raster scan and a random order
# give different densities. One set of weights can be trained for several orders; each order gives a density of the
# same image, and the mean of the probabilities is a density too. Binary pixels drawn once and for all (at `quick`, a
# draw of our own); the weights kept are those of the best epoch on validation images.


# %%
def static_images(run):
    """Binary images for training, validation and test, drawn once and for all."""
    images = run.images()
    draw = lambda x, i: x if images.kind == "binary" else data.binarize(x, "dynamic", Generator([3, i]))
    return [draw(x, i) for i, x in enumerate((images.train, images.validation, images.test))]


def kinds_of(s):
    """Ordering and number of masks of each model, by name."""
    several = {f"{s.orderings} random orderings": ("random", s.orderings)}
    return {"raster scan": ("natural", 1), "one random ordering": ("random", 1)} | several


STATIC = {
    "quick": QUICK | {"split": "1200/300/297", "epochs": 80, "orderings": 8},
    "laptop": LAPTOP | {"data": "mnist_static", "epochs": 30, "orderings": 8},
    "paper": PAPER | {"data": "mnist_static", "epochs": 500, "orderings": 32},
}


@experiment(
    "orderings",
    title="one ordering, several orderings, and ensembles of them",
    mirrors="thesis section 4.3",
    budgets=STATIC,
    minutes={"quick": 0.3, "laptop": 3.4, "paper": 60 * 24 * 14},
)
def orderings(run):
    """Train with the raster scan, one random ordering and several; average probabilities over 1, 2, ... of these."""
    s = run.settings
    train, validation, test = static_images(run)
    evaluate = lambda model, epoch: {"validation": log_mean(all_log_probs(model, validation)).mean()}
    # Static MNIST is in the digits' order
    found, curves, sheets = {}, {}, {"test images": test[:: len(test) // 49][:49]}
    for name, (ordering, masks) in kinds_of(s).items():
        model, history = trained(
            run, f"static_{ordering}{masks}", train, seed=run.seed, epochs=s.epochs, evaluate=evaluate,
            monitor="validation", ordering=ordering, masks=masks,
        )  # fmt: skip
        log_p = all_log_probs(model, test)
        curves[name] = history.column("validation")
        sheets[name] = model.sample(49, Generator([4, run.seed]))
        if masks == 1:
            found[name], found[f"{name}, error"] = mean_and_error(-log_p[0])
            continue
        # Of k orderings, the mean over all runs of k neighbours in a circle: which k are taken shall not matter.
        cycle = np.concatenate([log_p, log_p])
        runs = lambda k, cycle=cycle: [log_mean(cycle[r : r + k]).mean() for r in range(masks)]
        found["ensembles"] = [-np.mean(runs(k)) for k in range(1, masks + 1)]
        found["singles"] = -log_p.mean(axis=1)
        found["gain"] = mean_and_error(log_mean(log_p) - max(log_p, key=np.mean))
    sheets = {name: plots.grey_levels(sheet) for name, sheet in sheets.items()}
    return {**found, "validation": curves, "sheets": sheets, "shape": run.images().shape}


@orderings.table
def _(n, table):
    s = n.settings
    for name, (ordering, masks) in kinds_of(s).items():
        validation = n.validation[name]
        about = f"best epoch {np.argmax(validation) + 1} of {len(validation)}"
        if masks == 1:
            table.row(f"{name}, test", getattr(n, name), note=f"+- {getattr(n, f'{name}, error'):.2f}; {about}")
            beside = 94.5 if ordering == "natural" and s.data == "mnist_static" else None
            note = "beside about 94.5 of a public PyTorch run of 100 epochs, not a published number" if beside else ""
            table.row(f"{name}, validation", -validation.max(), beside, note=note)
            continue
        note = f"{about}; single orderings {n.singles.min():.2f} to {n.singles.max():.2f}"
        for k in [2**j for j in range(masks.bit_length())]:
            table.row(f"{name}, {k} averaged", n.ensembles[k - 1], note=note if k == 1 else "")
        gain, error = n.gain
        note = f"+- {error:.2f}; log of the mean probability"
        table.row(f"{name}, ensemble's gain over the best of them", gain, note=note)
    says = table.says(
        "thesis 4.3",
        "When no natural one-dimensional ordering exists, like in two-dimensional images, this leads to a model with a "
        "somewhat awkward inductive bias.",
        seeds=1,
    )
    one, other = "raster scan", "one random ordering"
    gap = getattr(n, one) - getattr(n, other)
    error = np.hypot(getattr(n, f"{one}, error"), getattr(n, f"{other}, error"))
    label = "the ordering matters: NLL of the raster scan and of a random ordering, distance in nats"
    says(abs(gap), ">=", 0.0, 0.0, label, standard_error=error)


@orderings.figure()
def _(n):
    s = n.settings
    axes = plots.figure(6.5, 4.2).add_subplot()
    for i, (name, (_, masks)) in enumerate(kinds_of(s).items()):
        if masks == 1:
            axes.axhline(getattr(n, name), label=name, **plots.style(i + 1) | {"marker": ""})
        else:
            axes.plot(np.arange(masks) + 1, n.ensembles, label=f"{name}, shared weights", **plots.style(0))
    title = f"MADE on {s.data}, static pixels: ensembles of orderings"
    plots.panel(axes, title, "orderings whose probabilities are averaged at test", "NLL, nats per test image")
    axes.legend(fontsize=8)
    return axes.figure


@orderings.figure("samples")
def _(n):
    fig = plots.figure(9.0, 3.0)
    gap = n.shape[0] // 8 if n.shape[0] < 20 else 0
    for i, (name, sheet) in enumerate(n.sheets.items()):
        plots.show(fig.add_subplot(1, len(n.sheets), i + 1), plots.tile(sheet, n.shape, 7, gap))
        fig.axes[-1].set_title(name if i == 0 else f"samples,\n{name}", fontsize=9)
    fig.suptitle(f"{n.settings.data}: images drawn pixel by pixel, beside real ones", fontsize=10)
    return fig


# %% [markdown]
# ## Latent variables and autoregression together
#
# Section 4.2: the best models combine latent variables, autoregression and invertible maps. Here MADE, a VAE, and a VAE
# whose decoder is that MADE, with a function of z as its context: p(x | z) = prod_d p(x_d | x_before d, z).


# %%
class AutoregressiveDecoder(VAE):
    """A VAE whose pixels depend on each other, given z."""

    def __init__(self, pixels, hidden, latents, context, rng, bias):
        decoder = nn.MLP((latents, *reversed(hidden), context), rng)
        super().__init__(pixels, hidden, latents, rng=rng, decoder=decoder)
        self.made = nn.MADE(pixels, hidden, rng, context=context, out_bias=bias)

    def decode(self, z):
        """p(x | z), of data (B, D) that are broadcast to the samples of z (K, B, J)."""
        context = self.decoder(z)
        wide = lambda x: np.broadcast_to(x, (*context.shape[:-1], x.shape[-1]))
        return SimpleNamespace(log_prob=lambda x: self.made.log_prob(wide(x), context))


COMBINED = {"latents": 20, "context": 50, "images": 1000, "samples": 100}


@experiment(
    "combined",
    title="MADE, a VAE, and a VAE with MADE as its decoder",
    mirrors="thesis section 4.2",
    budgets={
        "quick": QUICK | COMBINED | {"split": "1500/297", "epochs": 15, "latents": 8, "images": 297},
        "laptop": LAPTOP | COMBINED | {"hidden": [200], "epochs": 6},
        "paper": PAPER | COMBINED | {"hidden": [500], "epochs": 500, "images": 10_000, "samples": 5000},
    },
    minutes={"quick": 0.2, "laptop": 0.27, "paper": 60 * 24 * 5},
)
def combined(run):
    """Train the three on pixels drawn afresh: log p of the same test images, and what the latents carry."""
    s, images = run.settings, run.images()
    test = data.fresh(images.test[: s.images], Generator(2))
    size, bias, half = (
        images.train.shape[1],
        nn.logit_of_mean(images.train),
        s.epochs * -(-len(images.train) // s.batch) / 2,
    )
    new = {
        "MADE": lambda: nn.MADE(size, s.hidden, Generator([run.seed, 8]), out_bias=bias),
        "VAE": lambda: VAE(size, s.hidden, s.latents, rng=Generator([run.seed, 8]), output_bias=bias),
        "VAE with MADE": lambda: AutoregressiveDecoder(
            size, s.hidden, s.latents, s.context, Generator([run.seed, 8]), bias
        ),
    }
    log_p, rate = {}, {}
    for name, make in new.items():

        def start(make=make):
            model = make()
            optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))
            if isinstance(model, VAE):
                return model, lambda x, rng: -model.elbo(x, rng).mean(), optimizer
            return model, lambda x, rng: -model.log_prob(x).mean(), optimizer

        model, *_ = run.train(
            f"combined_{s.data}_{name.replace(' ', '_')}_{s.hidden[0]}", start, images.train, epochs=s.epochs,
            batch_size=s.batch, rng=Generator([run.seed, 9]), prepare=data.fresh,
        )  # fmt: skip
        if isinstance(model, VAE):
            log_p[name] = evaluation.log_likelihood(model, test, Generator(10), s.samples, run.progress).values
            with no_grad():
                rate[name] = float(np.mean(np.asarray(model.encode(test).kl())))
        else:
            log_p[name] = evaluation.log_prob(model, test)
    return {
        "log p": {name: mean_and_error(values) for name, values in log_p.items()},
        "gain": {name: mean_and_error(log_p["VAE with MADE"] - log_p[name]) for name in ("MADE", "VAE")},
        "rate": rate,
    }


@combined.table
def _(n, table):
    s = n.settings
    for name, (mean, error) in vars(n)["log p"].items():
        table.row(f"{name}, log p", mean, note=f"+- {error:.2f}, {s.images} images, {s.epochs} epochs")
    for name, rate in n.rate.items():
        table.row(f"{name}, KL(q(z | x) || p(z))", rate, note="what the latents carry")
    says = table.says(
        "thesis 4.2",
        "The best models to date, in terms of attained log-likelihood on test data, employ a combination of the "
        "approaches listed here.",
        seeds=1,
    )
    for name, (gain, error) in n.gain.items():
        says(gain, ">=", 0.0, 0.0, f"log p of the VAE with MADE less that of {name}, nats", standard_error=error)


@combined.figure()
def _(n):
    axes = plots.figure(7.5, 2.6).add_subplot()
    names, pairs = zip(*vars(n)["log p"].items(), strict=True)
    means, errors = np.array(pairs).T
    axes.errorbar(means, range(len(names)), xerr=2 * errors, fmt="o", color="black", capsize=4)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    plots.panel(axes, f"{n.settings.data}, {n.settings.epochs} epochs, 2 standard errors", "log p, nats per image", "")
    return axes.figure


# %% [markdown]
# ## What synthesis costs
#
# Naively, D passes of the whole network for an image, where a latent-variable model takes one; but only one new pixel
# comes in with each pass. `MADE.from_noise` adds this pixel's row of weights to what it feeds and looks at no weight
# twice: the same D steps in sequence, with the arithmetic of one pass. Section 5.6.2.2 has 52.0 s and 0.05 s an image
# for a PixelCNN, sampled naively, and a VAE on a GPU; it expects much from such code, and a limit on parallel hardware.
#
# Times depend on the machine, so ratios count: rounds of all methods in turn, one process, the median over rounds of
# the ratio. Weights are random, with biases that make an eighth of the pixels black, as in digits.


# %%
def synthesis_methods(pixels, hidden, seed):
    """Name and function(count, rng) of what is timed: three ways to draw images, and the likelihood of as many."""
    model = nn.MADE(pixels, hidden, Generator([seed, 5]), out_bias=-2.0)
    vae = VAE(pixels, hidden, 20, activation="relu", rng=Generator([seed, 6]), output_bias=-2.0)

    def by_latents(count, rng):
        with no_grad():
            return vae.decode(rng.standard_normal((count, vae.latents), dtype=vae.dtype)).sample(rng)

    def uniforms(count, rng):
        return rng.random((count, pixels), dtype=np.float32)

    return {
        "naive": lambda count, rng: model.from_noise(uniforms(count, rng), naive=True),
        "fast": lambda count, rng: model.from_noise(uniforms(count, rng)),
        "VAE": by_latents,
        "likelihood": lambda count, rng: evaluation.log_prob(model, uniforms(count, rng) < np.float32(0.125)),
    }


def seconds(methods, count, rounds, rng):
    """Time of each method, (rounds,), in turn within each round; short ones are repeated for at least 10 ms."""
    repeats = {}
    for name, draw in methods.items():
        draw(count, rng)  # compiles
        begun = time.perf_counter()
        draw(count, rng)
        repeats[name] = int(np.ceil(0.01 / (time.perf_counter() - begun)))
    times = {name: np.empty(rounds) for name in methods}
    for i, (name, draw) in itertools.product(range(rounds), methods.items()):
        begun = time.perf_counter()
        for _ in range(repeats[name]):
            draw(count, rng)
        times[name][i] = (time.perf_counter() - begun) / repeats[name]
    return times


SYNTHESIS = {"data": "synthetic", "hidden": [500], "counts": [1, 100]}


@experiment(
    "synthesis",
    title="how long an image takes: dimension by dimension, and from latents",
    mirrors="thesis sections 4.3 and 5.6.2.2",
    budgets={
        "quick": SYNTHESIS | {"sizes": [16, 64, 256], "rounds": 5},
        "laptop": SYNTHESIS | {"sizes": [49, 196, 784], "rounds": 9},
        "paper": SYNTHESIS | {"sizes": [49, 196, 784, 3072], "rounds": 9},
    },
    minutes={"quick": 0.2, "laptop": 0.18, "paper": 5},
)
def synthesis(run):
    """Time all methods for several D, one image and many at a time."""
    s = run.settings
    return {
        f"seconds, {count} at a time": {
            str(size): seconds(synthesis_methods(size, s.hidden, run.seed), count, s.rounds, Generator([run.seed, 7]))
            for size in s.sizes
        }
        for count in s.counts
    }


TIMED = {
    "naive": "naive synthesis", "fast": "fast synthesis", "VAE": "VAE synthesis", "likelihood": "MADE likelihood",
}  # fmt: skip


@synthesis.table
def _(n, table):
    """Ratios and times at the largest D."""
    for count in n.settings.counts:
        size = n.settings.sizes[-1]
        times, at = getattr(n, f"seconds, {count} at a time")[str(size)], f"D = {size}, {count} at a time"
        ratios = {}
        for over, under in (("naive", "VAE"), ("fast", "VAE"), ("naive", "fast"), ("naive", "likelihood")):
            by_round = times[over] / times[under]
            ratios[over, under] = np.median(by_round)
            note = f"quartiles {np.quantile(by_round, 0.25):.3g} to {np.quantile(by_round, 0.75):.3g}"
            published = 52.0 / 0.05 if (over, under) == ("naive", "VAE") else None
            note += "; published: PixelCNN and ResNet VAE, CIFAR-10, on a GPU" if published else ""
            what = f"{over} / {under}" + (" synthesis" if under != "likelihood" else "")
            table.row(f"{at}: {what}", ratios[over, under], published, unit="times", note=note)
        for name, label in TIMED.items():
            table.row(f"{at}: {label}", 1e6 * np.median(times[name]) / count, unit="us/image")
    longer = table.says(
        "thesis 4.3",
        "ancestral sampling from autoregressive models is a sequential operation computation of O(D) length, i.e. "
        "proportional to the dimensionality of the data",
    )
    orders = table.says(
        "thesis 8",
        "models of natural images that are close to state-of-the-art in terms of log-likelihood, while allowing for "
        "orders of magnitude faster sampling",
    )
    custom = table.says(
        "thesis 5.6.2.2",
        "With custom code that only evaluates the relevant part of the network, PixelCNN sampling could be sped up "
        "significantly",
    )
    limited = table.says(
        "thesis 5.6.2.2",
        "however the speedup will be limited on parallel hardware due to the sequential nature of the sampling "
        "operation",
    )
    for count in n.settings.counts:
        times, (least, *_, most) = getattr(n, f"seconds, {count} at a time"), n.settings.sizes
        about, big = f"D = {most}, {count} at a time", times[str(most)]

        def say(says, relation, right, label, ratio):
            mean, error = mean_and_error(ratio)
            says(mean, relation, right, 0.0, label, standard_error=error)

        growth = big["naive"] / times[str(least)]["naive"]
        label = f"{count} at a time: naive synthesis of D = {most} over that of {least}, at least the dimensions' ratio"
        say(longer, ">=", most / least, label, growth)
        say(orders, ">=", 100.0, f"{about}: naive / VAE synthesis, two orders of magnitude", big["naive"] / big["VAE"])
        say(custom, ">=", 1.0, f"{about}: naive / fast synthesis", big["naive"] / big["fast"])
        say(limited, ">=", 1.0, f"{about}: fast / VAE synthesis", big["fast"] / big["VAE"])


@synthesis.figure()
def _(n):
    s = n.settings
    fig = plots.figure(9.0, 4.2)
    for axes, count in zip(fig.subplots(1, len(s.counts), sharey=True), s.counts, strict=True):
        times = getattr(n, f"seconds, {count} at a time")
        for i, (name, label) in enumerate(TIMED.items()):
            line = [1e3 * np.median(times[str(size)][name]) / count for size in s.sizes]
            axes.plot(s.sizes, line, label=label, **plots.style(i))
        title = f"{count} at a time" if count > 1 else "one image at a time"
        plots.panel(axes, title, "dimensions D", "milliseconds per image", log="xy")
        axes.set_xticks(s.sizes, map(str, s.sizes))
        axes.minorticks_off()
        axes.legend(fontsize=8)
        axes.label_outer()
    fig.suptitle(f"Synthesis by MADE D-{s.hidden[0]} and a VAE 20-{s.hidden[0]}-D on this machine", fontsize=10)
    return fig


# %% [markdown]
# ## What to try next
#
# - `minivi run ch04_autoregressive --budget laptop`: the same on MNIST, in the order above.
# - Two hidden layers, `"hidden": [500, 500]`: does the gain last on held-out images?
# - Orders that scan columns, or from the middle outwards: which one is best for digits, and why?
