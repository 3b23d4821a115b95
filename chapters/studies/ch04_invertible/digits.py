"""Images with noise between their levels: NICE, Real NVP, autoregressive models and a VAE (thesis section 4.4)."""

# %% [markdown]
# ## Images: bits per dimension
#
# Pixels have 17 or 256 levels, and a density of such data has no upper end. So noise spreads each level evenly over a
# cell of width 1 / levels: u = (k + U) / levels. The density of u is a model of the levels too, P(k) = integral of p(u)
# over the cell, and E log p(u) - D log levels is a lower bound of log P(k). In bits per dimension:
#
#     bits = -(log p(u) - D log levels) / (D log 2)
#
# A density on [0, 1]^D is most easily had from v = logit(margin + (1 - 2 margin) u) with, in each dimension,
#
#     log dv/du = log(1 - 2 margin) - log sigmoid(v) - log(1 - sigmoid(v)),
#
# and v is then shifted and scaled to mean 0 and variance 1, which counts too. "NICE, no logit" models u as it comes
# (shifted and scaled): this is nearer to NICE's own experiment, of 4 layers, each a network of 5 hidden layers of 1000
# units, with a logistic prior, 1,500 epochs long.
#
# "AR Gaussian" and the VAE are like NICE and Real NVP in that each number is normal given what is known: of the numbers
# before it, or of z. "AR mixture" may choose among five normal distributions. The VAE's log p(v) is estimated by
# importance sampling, of fewer images.

# %%
import numpy as np
from scipy.stats import norm

from minivi import evaluation, plots
from minivi.experiments import experiment
from minivi.experiments.measuring import Dequantised, seconds_in_turn
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi_chapters.studies.ch04_invertible._shared import (
    AutoregressiveMixture,
    autoregressive_model,
    coupling_model,
    trained,
)

IMAGES = {"layers": 4, "step_size": 1e-3, "batch": 100, "components": 5, "images": 1000, "samples": 200}
MNIST = IMAGES | {"data": "mnist", "split": "50000/10000/10000", "levels": 256, "margin": 1e-6}
NO_LOGIT = "NICE, no logit"
COUPLING, OTHERS = ("NICE", "Real NVP"), ("AR Gaussian", "AR mixture", "VAE")
NICE_EPOCHS = 1500  # Dinh et al. 2014
NICE_NATS = 1980.50  # Dinh et al. 2014, Table 3: MNIST, log-density of u


def independent_bits(images, levels):
    """Bits per dimension of the test images if pixels are independent: each one's histogram, plus one of each level."""
    k, test = (np.rint(x * (levels - 1)).astype(int) for x in (images.train, images.test))
    columns = np.arange(k.shape[1])
    counts = np.ones((levels, k.shape[1]))
    np.add.at(counts, (k, columns), 1.0)
    return -np.log2(counts / counts.sum(axis=0))[test, columns].mean(axis=1)


def new_models(s, size, seed):
    """What makes each model, by name."""
    rng = lambda: Generator([seed, 6])
    coupling = lambda kind: lambda: coupling_model(kind, size, s.hidden, s.layers, rng(), interleave=True)
    return {
        "NICE": coupling("NICE"),
        "Real NVP": coupling("Real NVP"),
        "AR Gaussian": lambda: autoregressive_model(size, s.masked, rng()),
        "AR mixture": lambda: AutoregressiveMixture(size, s.masked, s.components, rng()),
        "VAE": lambda: VAE(size, s.masked, s.latents, "gaussian", "relu", squash=False, rng=rng()),
        NO_LOGIT: coupling("NICE"),
    }


def both_ways(model, v, rounds):
    """CPU time of the inverse over that of the forward map, same rows: the mean over rounds, and its error."""
    jobs = {"forward": lambda: model.flow.forward(v), "inverse": lambda: model.flow.inverse(v)}
    with no_grad():
        seconds = seconds_in_turn(jobs, rounds)
    return mean_and_error(seconds["inverse"] / seconds["forward"])


def same(epochs):
    """As many for each model."""
    return dict.fromkeys([*COUPLING, *OTHERS, NO_LOGIT], epochs)


@experiment(
    "digits",
    title="NICE, Real NVP, autoregressive models and a VAE of images with noise between their levels",
    mirrors="thesis section 4.4",
    budgets={
        "quick": IMAGES | {
            "data": "digits", "split": "1200/300/297", "levels": 17, "margin": 0.01, "batch": 50,
            "hidden": [200, 200], "masked": [200], "latents": 16, "epochs": same(25),
        },
        "laptop": MNIST | {"hidden": [300, 300], "masked": [300], "latents": 40, "epochs": same(4)},
        "paper": MNIST | {
            "hidden": [1000] * 5, "masked": [1000, 1000], "latents": 50, "images": 10_000, "samples": 5000,
            "epochs": same(1500) | {"AR Gaussian": 200, "AR mixture": 200},
        },
    },
    minutes={"quick": 0.6, "laptop": 3, "paper": 60 * 24 * 9},
)  # fmt: skip
def digits(run):
    """Train six models; bits per dimension of test images, samples, and the cost of both directions."""
    s, images = run.settings, run.images()
    logit, plain = Dequantised(images.train, s.levels, s.margin), Dequantised(images.train, s.levels)
    v = logit(images.test, Generator(7))
    bits = {
        "histograms": independent_bits(images, s.levels),
        "independent Gaussians": logit.bits(norm.logpdf(np.float64(v)).sum(axis=-1), v),
    }
    sheets, ratios, best, nats, first = {"test images": images.test[:36]}, {}, {}, {}, {}
    for name, new_model in new_models(s, images.train.shape[1], run.seed).items():
        coding = plain if name == NO_LOGIT else logit
        validation = coding(images.validation, Generator(9))
        model, history = trained(
            run, f"{s.data}_{name.replace(' ', '').replace(',', '_')}", new_model, images.train,
            s.epochs[name], prepare=coding, validation=validation,
        )  # fmt: skip
        v = coding(images.test, Generator(7))
        if name == "VAE":
            v = v[: s.images]
            log_p = evaluation.log_likelihood(model, v, Generator(11), s.samples, run.progress).values
            sheets[name] = coding.images(model.sample(36, Generator(8))[1])
        else:
            log_p = evaluation.log_prob(model, v)
        bits[name], nats[name] = coding.bits(log_p, v), (log_p + coding.log_det(v)).mean()
        best[name] = np.argmax(history.column("validation")) + 1
        found = history.column("validation")[0], history.column("validation_error")[0]
        first[name] = [coding.bits(found[0], validation).mean(), found[1] / (validation.shape[1] * np.log(2.0))]
        if hasattr(model, "flow") and name != "VAE":
            made = getattr(model.flow, "network", None)  # sampled by MADE's own fast way, which is the flow's inverse
            sheets[name] = coding.images((model if made is None else made).sample(36, Generator(8)))
            ratios[name] = both_ways(model, v[:100], 9 if made is None else 2)
    more = lambda one, other: mean_and_error(np.subtract(*(bits[k][: s.images] for k in (one, other))))
    return {
        "bits": {name: mean_and_error(values) for name, values in bits.items()},
        "more": {one: {other: more(one, other) for other in OTHERS} for one in COUPLING},
        "first": first,
        "best_epochs": best,
        "nats": nats,
        "ratios": ratios,
        "sheets": {name: plots.grey_levels(sheet) for name, sheet in sheets.items()},
        "shape": images.shape,
    }


@digits.table
def _(n, table):
    s, size = n.settings, np.prod(n.shape)
    notes = {
        "histograms": "independent pixels; levels have no noise to pay for",
        "independent Gaussians": "of v, which has mean 0 and variance 1",
    }
    for name, (mean, error) in n.bits.items():
        if name in notes:
            table.row(name, mean, unit="bits/dim", note=notes[name])
            continue
        published, note = None, f"+- {error:.3f}; best epoch {n.best_epochs[name]} of {s.epochs[name]}"
        note += f"; {s.samples} importance samples, {s.images} images" if name == "VAE" else ""
        if name == NO_LOGIT and s.data == "mnist":
            published = (size * np.log(256) - NICE_NATS) / (size * np.log(2))
            note += f"; published: {NICE_NATS:.2f} nats, here {n.nats[name]:.2f}; another prior, larger networks"
        table.row(name, mean, published, unit="bits/dim", note=note)
        bits, error = n.first[name]
        table.row(f"{name}, validation after one epoch", bits, unit="bits/dim", note=f"+- {error:.3f}")
        if name in n.ratios:
            mean, error = n.ratios[name]
            note = f"+- {error:.2g}, CPU time; 100 images at a time" + (
                f"; {size} passes" if name == "AR Gaussian" else ""
            )
            table.row(f"{name}: inverse / forward map", mean, unit="times", note=note)
    says = table.says(
        "thesis 4.4",
        "At the time of writing, no such models has not yet been demonstrated to lead to the similar performance as "
        "purely autoregressive or VAE-based models in terms of data log-likelihood",
        seeds=1,
    )
    for one in COUPLING:
        short = f"{s.epochs[one]:,} epochs for {NICE_EPOCHS:,} of NICE's source" if s.epochs[one] < NICE_EPOCHS else ""
        for other, (gain, error) in n.more[one].items():
            says(gain, ">=", 0.0, 0.0, f"{one}: bits less those of {other}", standard_error=error, short=short)
    says = table.says(
        "thesis 4.4",
        "This constraint on the dimensionality of intermediate states of the mapping, can make such transformations "
        "more challenging to optimize than methods without such constraint.",
        seeds=1,
    )
    for one in COUPLING:
        (ours, a), (others, b) = n.first[one], n.first["VAE"]
        label = f"{one}: validation bits after one epoch against the VAE's bound"
        says(ours, ">=", others, 0.0, label, standard_error=np.hypot(a, b))
    says = table.says(
        "thesis 4.4",
        "particularly interesting flows (NICE and Real NVP) were introduced, with equal computational cost and depth "
        "in both directions",
    )
    for one in COUPLING:
        mean, error = n.ratios[one]
        label = f"{one}: time of the inverse over that of the forward map, to a whole number"
        says(mean, "=", 1.0, 0.5, label, standard_error=error)


@digits.figure()
def _(n):
    fig = plots.figure(2.0 * len(n.sheets), 2.7)
    gap = n.shape[0] // 8 if n.shape[0] < 20 else 0
    for i, (name, sheet) in enumerate(n.sheets.items()):
        plots.show(fig.add_subplot(1, len(n.sheets), i + 1), plots.tile(sheet, n.shape, 6, gap))
        about = f"\n{n.bits[name][0]:.2f} bits/dim" if name in n.bits else ""
        fig.axes[-1].set_title(name + about, fontsize=9)
    fig.suptitle(f"{n.settings.data}: samples of models of dequantised pixels", fontsize=10)
    return fig


# %% [markdown]
# ## What to try next
#
# - `minivi run ch04_invertible --budget laptop`: all four densities, and MNIST.
# - `margin` from 1e-6 to 0.05: where do the bits go, and what do samples look like?
# - Replace the last `Scaling` of NICE by nothing: a map that preserves volume cannot be narrower than its noise.
