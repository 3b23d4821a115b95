"""The review report's experiments with NVIL (section 4.3): optimizers, latents, hidden units, reduced variance."""

# %% [markdown]
# Binary latents let no gradient through. NVIL follows the score function instead (eq. 4), with a learning signal (7)
# from which a baseline is subtracted (8):
#
#     grad_phi L = E_q[(l - C(x) - c) grad log q(h | x)],    l = log p(x, h) - log q(h | x)
#
# C is a network of 400 tanh units, trained on the squared error of the signal; c is a running mean. Mnih and Gregor,
# whose method it is, also divide by max(1, running standard deviation).
#
# The report states 200 latents, minibatches of 100, 1,500 epochs and a step size of 1e-3 for SGD. It does not state
# the step sizes of RMSProp and AdaGrad: 1e-3 and 1e-2 here. Its Figures 5-7 were published as pictures, without a
# number. It also calls NVIL "only applicable to discrete binary latent variables", which it is not: the score function
# asks nothing of q but its log-density, and `NVIL` takes a Gaussian VAE too.

# %%
import numpy as np

from minivi import data, estimators, evaluation, optim, plots
from minivi.evaluation import gradient_moments
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.random import Generator
from minivi.tensor import grad
from minivi_chapters.studies.report_review._shared import (
    bounds_by_epoch,
    curve,
    curves_figure,
    shorter,
    trained,
)  # fmt: skip

PICTURE = "published as a picture only"
QUICK = {"data": "digits", "split": "1500/297", "latents": 40, "batch": 50, "epochs": 40}
LAPTOP = {"data": "mnist_static", "latents": 200, "batch": 100, "epochs": 20}
PAPER = {"data": "mnist_static", "latents": 200, "batch": 100, "epochs": 1500}
STEPS = {"SGD": 1e-3, "RMSProp": 1e-3, "AdaGrad": 1e-2}


def budgets(quick, laptop, paper):
    """The three settings, with what an experiment adds to them."""
    return {"quick": QUICK | quick, "laptop": LAPTOP | laptop, "paper": PAPER | paper}


def ends_of(model, sets, seed=5):
    """The bound of each test image, one sample."""
    return evaluation.elbo(model, sets.test, Generator(seed), 10).values


def finish(run, label, spec):
    """Curve, and final bounds of the test images, of one network."""
    s, sets = run.settings, run.binary_images()
    name = label.replace(" ", "_").replace(",", "")
    model, _, history = trained(
        run, f"nvil_{name}", spec, epochs=s.epochs, batch=s.batch, evaluate=bounds_by_epoch(sets)
    )
    return curve(history), ends_of(model, sets)


# %% [markdown]
# ## Figure 5: optimizers
#
# Claimed in the text: both adaptive methods converge faster than SGD, and RMSProp settles at a bound above that of
# AdaGrad, whose convergence slows down. Slowing down is measured by the last half of the epochs.


# %%
@experiment(
    "nvil_optimizers",
    title="NVIL by SGD, RMSProp and AdaGrad",
    mirrors="review report Figure 5",
    budgets=budgets({}, {}, {}),
    minutes={"quick": 0.3, "laptop": 2.4, "paper": 200},
)
def optimizers(run):
    """Train from the same weights with each; compare the same test images."""
    s, curves, ends = run.settings, {}, {}
    for name, step in STEPS.items():
        spec = {"latents": [s.latents], "hidden": [[]], "optimizer": name.lower(), "step_size": step}
        curves[name], ends[name] = finish(run, name, spec)
    return {
        "curves": curves, "ends": {name: mean_and_error(v) for name, v in ends.items()},
        "above_adagrad": mean_and_error(ends["RMSProp"] - ends["AdaGrad"]),
    }  # fmt: skip


@optimizers.table
def _(n, table):
    for name, (mean, error) in n.ends.items():
        table.row(f"{name}, step size {STEPS[name]:g}, test bound", mean, note=f"+- {error:.2f}; {PICTURE}")
    half = {name: c["test"][(len(c["test"]) - 1) // 2] for name, c in n.curves.items()}
    rise = {name: c["test"][-1] - half[name] for name, c in n.curves.items()}
    sentence = (
        "while both adaptive learning rates converge significantly more quickly than SGD, in this application RMSProp "
        "is able to quickly settle into a significantly higher log-likelihood than AdaGrad, the convergence rate of "
        "which quickly slows down."
    )
    says = table.says("review report 4.3", sentence, seeds=1)
    for name in ("RMSProp", "AdaGrad"):
        error = float(np.hypot(n.ends[name][1], n.ends["SGD"][1]))
        says(half[name], ">=", half["SGD"], 0.0, f"half way, test bound of {name} and SGD", standard_error=error)
    says = table.says("review report 4.3", sentence, seeds=1, **shorter(n.settings))
    gain, error = n.above_adagrad
    says(gain, ">=", 0.0, 0.0, "RMSProp ends above AdaGrad by, nats", standard_error=error)
    label = "rise of the test bound in the second half, AdaGrad and RMSProp"
    says(rise["AdaGrad"], "<=", rise["RMSProp"], 0.0, label, standard_error=error)


@optimizers.figure()
def _(n):
    return curves_figure(n.curves, f"NVIL, {n.settings.latents} latents, {n.settings.data}")


# %% [markdown]
# ## Figures 6 and 7: latents, hidden units
#
# "Almost independent" of the number of latents, "no signs of overfitting" and "independent of the number of hidden
# units" of the inference network: do the ends differ by more than two standard errors over the images, and does the
# test bound of the largest fall in the second half of the epochs? Hidden units are tanh units between image and
# latents, in inference alone.
#
# At `laptop` the ends of 100 and 400 latents are 10 nats apart: the more latents, the sooner the curve flattens. The
# text trains 75 times as long.

# %%


def sizes_table(n, table, what, sentence):
    """Rows and claims of the two figures."""
    for label, (mean, error) in n.ends.items():
        table.row(f"{label}, test bound", mean, note=f"+- {error:.2f}; {PICTURE}")
    about = {"seeds": 1, **shorter(n.settings)}
    says = table.says("review report 4.3", sentence, **about)
    (low, one), (high, other) = min(n.ends.values(), key=tuple), max(n.ends.values(), key=tuple)
    error = float(np.hypot(one, other))
    says(high, "=", low, 0.0, f"largest and smallest end, over {what}", standard_error=error)
    says = table.says(
        "review report 4.3", "The generalisation performance (not shown here) also shows no signs of overfitting for "
        "higher number of latent variables.", **about,
    )  # fmt: skip
    label, c = list(n.curves.items())[-1]
    what = f"{label}: test bound after the last epoch, and half way"
    half = c["test"][(len(c["test"]) - 1) // 2]
    says(c["test"][-1], ">=", half, 0.0, what, standard_error=n.ends[label][1])


@experiment(
    "nvil_latents",
    title="NVIL with several numbers of latents",
    mirrors="review report Figure 6",
    budgets=budgets({"sizes": [10, 20, 40]}, {"sizes": [50, 100, 200, 400]}, {"sizes": [50, 100, 200, 400, 800]}),
    minutes={"quick": 0.3, "laptop": 3.3, "paper": 400},
)
def latents(run):
    """Train with each number."""
    curves, ends = {}, {}
    for size in run.settings.sizes:
        label = f"{size} latents"
        curves[label], values = finish(run, label, {"latents": [size], "hidden": [[]]})
        ends[label] = mean_and_error(values)
    return {"curves": curves, "ends": ends}


@latents.table
def _(n, table):
    sizes_table(
        n, table, "latents", "the optimisation of the lower bound is almost independent of the number of latent "
        "variables used in the model.",
    )  # fmt: skip


@latents.figure()
def _(n):
    return curves_figure(n.curves, f"NVIL, {n.settings.data}")


@experiment(
    "nvil_hidden",
    title="NVIL with several numbers of hidden units in inference",
    mirrors="review report Figure 7",
    budgets=budgets({"sizes": [20, 50, 100]}, {"sizes": [100, 200, 400]}, {"sizes": [50, 100, 200, 400, 800]}),
    minutes={"quick": 0.3, "laptop": 2.5, "paper": 400},
)
def hidden(run):
    """Train with each number."""
    s, curves, ends = run.settings, {}, {}
    for size in s.sizes:
        label = f"{size} hidden units"
        spec = {"latents": [s.latents], "hidden": [[size]], "mirrored": False}
        curves[label], values = finish(run, label, spec)
        ends[label] = mean_and_error(values)
    return {"curves": curves, "ends": ends}


@hidden.table
def _(n, table):
    sizes_table(
        n, table, "hidden units", "the performance of the NVIL method is also independent of the number of hidden "
        "units used in each layer of the inference network.",
    )  # fmt: skip


@hidden.figure()
def _(n):
    return curves_figure(n.curves, f"NVIL, {n.settings.latents} latents, {n.settings.data}")


# %% [markdown]
# ## What reduces the variance
#
# The report points out the baseline network's significance. Here each of the three reductions is switched off in turn,
# and switched on one after the other: centring, the network, scaling. The variance is that of the inference network's
# gradient, summed over its weights, for one minibatch and one model: the one trained with all three. Each variant gets
# baselines of its own, trained on that model. The division by max(1, s) makes the whole gradient smaller, not less
# noisy for its size; it does nothing where s is below 1. The report does not scale, so its claims are about variances
# without. Then each variant trains a model.

# %%
SWITCHES = {
    "all three": {},
    "without the network": {"hidden": None},
    "without centring": {"centre": False},
    "without scaling": {"scale": False},
    "centring alone": {"hidden": None, "scale": False},
    "none": {"hidden": None, "centre": False, "scale": False},
}


def variance_of(nvil, batches, draws):
    """Summed variance of the encoder's gradient for one minibatch, after training the baselines on the others."""
    parameters = [p for name, p in nvil.model.named_parameters() if name.startswith("encoder")]
    rng, optimizer = Generator(6), optim.Adam(nvil.baseline_parameters()) if nvil.baselines else None
    x, *others = batches
    for batch in others:
        error, _ = nvil(batch, rng)
        if optimizer:
            optimizer.step(grad(error.mean(), optimizer.parameters))
    moments = gradient_moments(lambda: grad(nvil(x, rng)[1].mean(), parameters), draws)
    return float(sum(v.sum() for v in moments.variance))


@experiment(
    "nvil_variance",
    title="NVIL's three reductions of variance, each switched off in turn",
    mirrors="review report sections 4.2, 4.3 (no figure there)",
    budgets=budgets(
        {"draws": 200, "passes": 20}, {"draws": 500, "passes": 1, "epochs": 10}, {"draws": 2000, "passes": 20}
    ),
    minutes={"quick": 0.5, "laptop": 2, "paper": 400},
)
def variance(run):
    """Train with each set of switches; then measure all on the model that was trained with all reductions."""
    s, sets, curves, ends, full = run.settings, run.binary_images(), {}, {}, None
    for label, off in SWITCHES.items():
        spec = {"latents": [s.latents], "hidden": [[]]} | {k: v for k, v in off.items() if k != "hidden"}
        spec["baseline"] = off.get("hidden", [400])
        model, _, history = trained(
            run, f"nvil_{label.replace(' ', '_')}", spec, epochs=s.epochs, batch=s.batch, evaluate=bounds_by_epoch(sets)
        )
        curves[label], ends[label] = curve(history), mean_and_error(ends_of(model, sets))
        full = full or model
    rng, measured = Generator(7), {}
    batches = [
        sets.prepare(x, rng) if sets.prepare else x
        for _ in range(s.passes)
        for x in data.batches(sets.train, size=s.batch, rng=rng, drop_last=True)
    ]
    for label, off in SWITCHES.items():
        nvil = estimators.NVIL(full, **{"hidden": [400]} | off, rng=Generator(8))
        measured[label] = variance_of(nvil, batches, s.draws)
    return {"curves": curves, "ends": ends, "measured": measured}


@variance.table
def _(n, table):
    for label, total in n.measured.items():
        table.row(f"{label}: variance of the encoder's gradient", total, unit="nats^2")
    for label, (mean, error) in n.ends.items():
        table.row(f"{label}: test bound after {n.settings.epochs} epochs", mean, note=f"+- {error:.2f}")
    of, error = n.measured, 2.0 / np.sqrt(n.settings.draws)  # of a log ratio of two variances
    says = table.says(
        "review report 4.2", "except that a baseline function is used ... to reduce variance instead of considering a "
        "reparameterization trick.", seeds=1,
    )  # fmt: skip
    label = "log variance of the encoder's gradient: centred by a running mean, and with nothing"
    says(np.log(of["centring alone"]), "<=", np.log(of["none"]), 0.0, label, standard_error=error)
    says = table.says(
        "review report 4.2", "The gradient variance can be further reduced by making the baseline a function of the "
        "observations", seeds=1,
    )  # fmt: skip
    label = "log variance of the encoder's gradient: centred and with the network, and centred alone"
    says(np.log(of["without scaling"]), "<=", np.log(of["centring alone"]), 0.0, label, standard_error=error)
    says = table.says(
        "review report 4.3", "The significance of the variance reduction technique using a baseline network can be "
        "notably observed", seeds=1,
    )  # fmt: skip
    (mean, error), (other, other_error) = n.ends["all three"], n.ends["without the network"]
    error = float(np.hypot(error, other_error))
    says(mean, ">=", other, 0.0, "test bound with the baseline network, and without", standard_error=error)


@variance.figure()
def _(n):
    fig = plots.figure(9.5, 4.0)
    bars, axes = fig.subplots(1, 2)
    labels = list(n.measured)
    place = np.arange(len(labels))[::-1]
    bars.barh(place, [n.measured[label] for label in labels], color="#999999", edgecolor="black")
    bars.set_yticks(place, labels, fontsize=8)
    plots.panel(bars, f"one minibatch of {n.settings.batch}", "summed variance of the encoder's gradient, nats^2")
    bars.set_xscale("log")
    for i, (label, c) in enumerate(n.curves.items()):
        axes.plot(c["epoch"], c["test"], label=label, **plots.style(i, len(c["test"])))
    plots.panel(axes, f"trained with them, {n.settings.data}", "epochs", "bound, nats per test image")
    axes.legend(fontsize=8, loc="lower right")
    fig.suptitle("NVIL: what its baselines and its scale do", fontsize=10)
    return fig
