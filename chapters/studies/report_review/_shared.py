"""The review report's methods for binary latents (NVIL, VIMCO, reweighted wake-sleep) and their Gaussian twins.

All take binary pixels: static MNIST as it is, faces and characters by a threshold, digits drawn for each minibatch.
"""

# %%
import os
from types import SimpleNamespace

from minivi import bounds, data, estimators, evaluation, nn, optim, plots
from minivi.models import VAE, BeliefNetwork
from minivi.random import Generator
from minivi.training import fit

# %% [markdown]
# ## Models and methods
#
# A specification is a dict: the method (or what it maximises, a function like those of ``SURROGATES``), the layers of
# latents, deterministic hidden units between them, the samples and how it is optimised. NVIL's baselines have an
# optimizer of the same kind for themselves.

# %%
SPEC = {
    "method": "NVIL", "latents": [200], "hidden": [[]], "mirrored": True, "samples": 1, "optimizer": "adam",
    "step_size": 1e-3, "baseline": [400], "centre": True, "scale": True, "per_layer": False,
}  # fmt: skip
OPTIMIZERS = {"adam": optim.Adam, "rmsprop": optim.RMSProp, "adagrad": optim.AdaGrad, "sgd": optim.SGD}
GAUSSIAN = ("AEVB", "IWAE")


SURROGATES = {  # what is maximised, (B,)
    "VIMCO": estimators.vimco,
    "RWS": estimators.reweighted_wake_sleep,
    "wake-sleep": lambda model, x, rng, samples: estimators.wake_sleep(model, x, rng),
    "straight-through": estimators.straight_through,
    "AEVB": lambda model, x, rng, samples: model.elbo(x, rng, samples),
    "IWAE": lambda model, x, rng, samples: bounds.iwae(model.log_weights(x, rng, samples)),
}


def new_model(spec, train, seed):
    """A belief network, or for AEVB and IWAE a VAE of the same sizes."""
    options = {"rng": Generator([seed, 21]), "output_bias": nn.logit_of_mean(train)}
    if spec["method"] in GAUSSIAN:
        return VAE(train.shape[1], spec["hidden"][0], spec["latents"][0], **options)
    return BeliefNetwork(train.shape[1], spec["latents"], spec["hidden"], mirrored=spec["mirrored"], **options)


def new_trainer(spec, train, seed):
    """What is trained, its loss and optimizers."""
    model, samples = new_model(spec, train, seed), spec["samples"]
    make = lambda parameters: OPTIMIZERS[spec["optimizer"]](parameters, spec["step_size"])
    if spec["method"] == "NVIL":
        nvil = estimators.NVIL(
            model, spec["baseline"], rng=Generator([seed, 22]), centre=spec["centre"], scale=spec["scale"],
            per_layer=spec["per_layer"],
        )  # fmt: skip
        if not nvil.baselines:
            return nvil, lambda x, rng: -nvil(x, rng, samples)[1].mean(), make(model.parameters())

        def both(x, rng):
            error, surrogate = nvil(x, rng, samples)
            return error.mean(), -surrogate.mean()

        return nvil, both, [make(nvil.baseline_parameters()), make(model.parameters())]
    surrogate = SURROGATES.get(spec["method"], spec["method"])
    return model, lambda x, rng: -surrogate(model, x, rng, samples).mean(), make(model.parameters())


def trained(run, name, spec, *, epochs, batch, evaluate=None, seed=None):
    """A model, its trainer (NVIL's holds the baselines), and its history, with the CPU seconds of training."""
    seed, sets, clock = run.seed if seed is None else seed, run.binary_images(), SimpleNamespace(spent=0.0, since=None)
    spec = SPEC | spec

    def start():  # the first step compiles kernels: one with another copy, before the clock starts
        fit(*new_trainer(spec, sets.train, seed), sets.train[:batch], epochs=1, batch_size=batch, rng=Generator(0),
            prepare=sets.prepare, progress=False)  # fmt: skip
        clock.since = sum(os.times()[:4])
        return new_trainer(spec, sets.train, seed)

    model_of = lambda trainer: getattr(trainer, "model", trainer)

    def after(trainer, epoch):
        clock.spent += sum(os.times()[:4]) - (clock.since or 0.0)
        result = {"cpu_seconds": clock.spent} | evaluate(model_of(trainer), epoch)
        clock.since = sum(os.times()[:4])
        return result

    trainer, history, _ = run.train(
        f"{run.settings.data}{len(sets.train)}_{name}_seed{seed}", start, sets.train, epochs=epochs, batch_size=batch,
        rng=Generator([seed, 23]), prepare=sets.prepare, evaluate=evaluate and after,
    )  # fmt: skip
    return model_of(trainer), trainer, history


# %% [markdown]
# ## Measures


# %%
def bounds_by_epoch(sets, samples=1, many=2000):
    """``evaluate``: the bound of K samples on training and test images, with the same noise each time."""
    parts = {part: data.spread(x, many) for part, x in (("train", sets.train), ("test", sets.test))}
    if sets.prepare:
        parts["train"] = sets.prepare(parts["train"], Generator(3))
    function = bounds.elbo if samples == 1 else bounds.iwae

    def evaluate(model, epoch):
        return {part: evaluation.bound(model, x, Generator(4), samples, function).mean for part, x in parts.items()}

    return evaluate


def shorter(s):
    """Why a run does not settle what the report finds at its end: it names 1,500 epochs (4.3); for :class:`Claim`."""
    return {"short": f"{s.epochs} epochs for 1,500"} if s.data != "digits" and s.epochs < 500 else {}


def curve(history):
    """Columns for the figures."""
    return {key: history.column(key) for key in ("epoch", "train", "test")}


def curves_figure(curves, title, x="epochs", key="epoch"):
    """Bounds on test images (thick) and training images (thin), by label."""
    axes = plots.figure(7.0, 4.5).add_subplot()
    for i, (label, c) in enumerate(curves.items()):
        style = plots.style(i, len(c["test"]))
        axes.plot(c[key], c["test"], label=label, **style)
        axes.plot(c[key], c["train"], **(style | plots.THIN))
    plots.panel(axes, f"{title} (thick: test images, thin: training images)", x, "bound, nats per image")
    axes.locator_params(axis="x", integer=True)
    axes.legend(fontsize=8, loc="lower right")
    return axes.figure
