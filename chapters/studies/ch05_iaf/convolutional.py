"""Table 5.1 with its own network: diagonal and inverse autoregressive posteriors (thesis 5.6.1, appendix 5.A)."""

# %% [markdown]
# ## Table 5.1
#
#     encoder, decoder = ResNetEncoder((28, 28, 1), 64, rng), ResNetDecoder(32, (28, 28, 1), rng)
#     VAE(784, latents=32, encoder=encoder, decoder=decoder, rng=rng)
#
# `laptop` has the published network, data and widths, two seeds and fewer epochs; test images are 2,000. Beside it
# stands the fully connected network of this chapter's other tables for as many epochs, as curves. Optimizer, step size,
# minibatches and epochs are not in the appendix: AdaMax with step size 2e-3, as in the authors' code (openai/iaf), and
# minibatches of 100.
#
# Beside our numbers stand those of the same network, initialisation, optimizer and data in PyTorch 2.13, written and
# run once for this comparison: six epochs, one seed, as many samples, test images that were made binary by other draws.
#
# "Between every other strided convolution" is read as: a block of stride 1 between two of stride 2, in each of the two
# places. Blocks are pre-activation ones; where the text says nothing the mirror image decides.

# %%
from types import SimpleNamespace

import numpy as np

from minivi import data, evaluation, flows, nn, optim, plots
from minivi.experiments import experiment
from minivi.models import VAE, ResNetDecoder, ResNetEncoder
from minivi.random import Generator
from minivi_chapters.studies.ch05_iaf._shared import (
    BETTER,
    EPOCHS,
    TIGHTER,
    above,
    by_measure,
    compare,
    images,
    mean_row,
    means_and_errors,
    too_short,
    trained,
)

DIAGONAL, FLOW = "diagonal", "IAF, depth {}, width {}"
QUICK = {
    "data": "digits", "train": 1500, "images": 297, "latents": 8, "maps": [8, 8], "units": 60, "context": 16,
    "batch": 50, "epochs": 6, "seeds": 2, "samples": 64, "flows": [[2, 32]], "hidden": 60,
}  # fmt: skip
LAPTOP = {
    "data": "mnist", "train": 60_000, "images": 2000, "latents": 32, "maps": [16, 32, 32], "units": 450, "context": 64,
    "batch": 100, "epochs": 6, "seeds": 2, "samples": 128, "flows": [[2, 320]], "hidden": 450,
}  # fmt: skip
PAPER = LAPTOP | {
    "images": 10_000, "epochs": EPOCHS, "seeds": 5, "flows": [[2, 320], [2, 1920], [4, 1920], [8, 1920]],
}  # fmt: skip
# Table 5.1: the variational lower bound and log p-hat.
TABLE_5_1 = {
    DIAGONAL: (-84.08, -81.08), FLOW.format(2, 320): (-82.02, -79.77), FLOW.format(2, 1920): (-81.17, -79.30),
    FLOW.format(4, 1920): (-80.93, -79.17), FLOW.format(8, 1920): (-80.80, -79.10),
}  # fmt: skip
# After six epochs at the settings of `laptop`.
PYTORCH = {DIAGONAL: (-95.01, -89.33), FLOW.format(2, 320): (-93.92, -88.44)}


def binary_images(run):
    """The chapter's images, fewer of them for the test, and their shape."""
    s, sets = run.settings, images(run, run.settings.data)
    shape = (*data.describe(s.data)["shape"], 1)
    return SimpleNamespace(name=sets.name, train=sets.train[: s.train], test=sets.test[: s.images], shape=shape)


def new_vae(s, shape, spec, seed):
    """Appendix 5.A's VAE with a diagonal posterior, or ``spec["steps"]`` steps of flow of ``spec["width"]`` units."""
    rng, steps = Generator([seed, 90]), spec.get("steps", 0)
    flow = None
    if steps:
        options = {"gate_bias": 2.0, "context": s.context, "activation": "elu"}
        flow = flows.iaf(s.latents, steps, [spec["width"]] * 2, Generator([seed, 91]), **options)
    context = s.context if steps else 0
    decoder = ResNetDecoder(s.latents, shape, rng, maps=s.maps, units=s.units)
    encoder = ResNetEncoder(shape, 2 * s.latents + context, rng, maps=s.maps, units=s.units)
    return VAE(
        int(np.prod(shape)), latents=s.latents, encoder=encoder, decoder=decoder, flow=flow, context=context, rng=rng
    )


def trained_vae(run, sets, spec, seed, evaluate=None):
    """The model of ``spec`` after training by the sampled bound, and its history."""
    s = run.settings

    def start():
        model = new_vae(s, sets.shape, spec, seed)
        with nn.initialise_by_data():
            model.elbo(data.fresh(sets.train[: s.batch], Generator([seed, 92])), Generator([seed, 93]))
        return model, lambda x, rng: -model.elbo(x, rng, estimator="A").mean(), optim.AdaMax(model.parameters(), 2e-3)

    label = "_".join(f"{key}{value}" for key, value in spec.items()) or "diagonal"
    model, history, _ = run.train(
        f"convolutional_{sets.name}_{label}_seed{seed}", start, sets.train, epochs=s.epochs, batch_size=s.batch,
        rng=Generator([seed, 94]), prepare=data.fresh, evaluate=evaluate,
    )  # fmt: skip
    return model, history


@experiment(
    "convolutional",
    title="the convolutional network with diagonal and inverse autoregressive posteriors",
    mirrors="thesis Table 5.1, appendix 5.A",
    budgets={"quick": QUICK, "laptop": LAPTOP, "paper": PAPER},
    minutes={"quick": 0.5, "laptop": 30, "paper": 60 * 24 * 90},
)
def convolutional(run):
    """Train with each posterior and seed; scores, their differences, and test bounds by epoch."""
    s, sets = run.settings, binary_images(run)
    specs = {DIAGONAL: {}} | {FLOW.format(t, w): {"steps": t, "width": w} for t, w in s.flows}
    scored, curves = {}, {}
    for label, spec in specs.items():
        scored[label] = []
        for seed in range(run.seed, run.seed + s.seeds):

            def evaluate(model, epoch):
                return {"bound": evaluation.elbo(model, sets.test, Generator([5, epoch]), batch=250).mean}

            model, history = trained_vae(run, sets, spec, seed, evaluate)
            bound = evaluation.elbo(model, sets.test, Generator([3, seed]), 16, batch=100)
            log_p = evaluation.log_likelihood(model, sets.test, Generator([4, seed]), s.samples, run.progress)
            gap = evaluation.difference(log_p, bound)
            seconds = history.column("seconds").sum()
            scored[label].append(SimpleNamespace(bound=bound, log_p=log_p, gap=gap, seconds=seconds))
            curves.setdefault(label, []).append(history.column("bound"))
    curves["fully connected, " + DIAGONAL] = [fully_connected(run, sets)]
    return {
        "scores": {label: means_and_errors(each) for label, each in scored.items()},
        "training_seconds": {label: [x.seconds for x in each] for label, each in scored.items()},
        "differences": {
            label: {what: compare(scored[label], scored[DIAGONAL], what) for what in ("bound", "log_p", "gap")}
            for label in scored
            if label != DIAGONAL
        },
        "curves": curves,
    }


def fully_connected(run, sets):
    """Test bounds by epoch of the network with one hidden layer."""
    s = run.settings
    settings = SimpleNamespace(
        hidden=[s.hidden], latents=s.latents, activation="elu", context=0, optimizer="adam", step_size=1e-3,
        epochs=s.epochs, batch=s.batch,
    )  # fmt: skip
    part = SimpleNamespace(name=sets.name, train=sets.train, test=sets.test, prepare=data.fresh)
    evaluate = lambda model, epoch: {"bound": evaluation.elbo(model, sets.test, Generator([5, epoch])).mean}
    return trained(run, settings, part, {"kind": "diagonal"}, run.seed, evaluate)[1].column("bound")


@convolutional.table
def _(n, table):
    s = n.settings
    for label, pairs in n.scores.items():
        bound, log_p = TABLE_5_1.get(label, (None, None)) if s.data == "mnist" else (None, None)
        published = bound, log_p, bound and log_p - bound
        beside = PYTORCH.get(label, ()) if (s.data, s.train, s.epochs) == ("mnist", 60_000, 6) else ()
        beside = [f"; PyTorch {value}" for value in beside] or ["", ""]
        for what, ours, theirs, note in zip(
            ("bound", "log p-hat", "gap"), by_measure(pairs), published, [*beside, ""], strict=True
        ):
            mean_row(table, f"{label}, {what}", ours, theirs, (f"; {s.epochs} epochs" if theirs else "") + note)
        table.row(f"{label}, training", np.mean(n.training_seconds[label]) / 60, unit="min")
    better, tighter = (table.says(*said, seeds=s.seeds, short=too_short(s)) for said in (BETTER, TIGHTER))
    for label, each in n.differences.items():
        above(better, each["bound"], f"{label}, bound above that of the diagonal")
        above(better, each["log_p"], f"{label}, log p-hat above that of the diagonal")
        above(tighter, np.array(each["gap"], float) * [-1.0, 1.0], f"{label}, gap below that of the diagonal")


@convolutional.figure()
def _(n):
    axes = plots.figure(6.5, 4.2).add_subplot()
    for i, (label, runs) in enumerate(n.curves.items()):
        for k, curve in enumerate(runs):
            epochs = np.arange(1, len(curve) + 1)
            axes.plot(epochs, curve, label=None if k else label, **plots.style(i, len(curve)))
    plots.panel(axes, f"{n.settings.data}: bound of test images while training", "epochs", "nats per image")
    axes.legend(fontsize=8)
    return axes.figure
