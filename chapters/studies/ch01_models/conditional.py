"""A model of images given their class (section 1.2.1)."""

# %% [markdown]
# ## Images given a class (1.2.1)
#
# "The reverse of the image classification problem": p(x | y). The class is one more input to encoder and decoder, all
# else is chapter 2's VAE, of the same size. With p(y) uniform, Bayes' rule turns the bounds of the ten classes into
# p(y | x): a classifier that nobody has trained as one. Being told the class is no merit of a model, so what is
# compared with a VAE that is not told is log sum_y p(x, y): both are bounds on log p(x).

# %%
import numpy as np

from minivi import data, evaluation, nn, optim, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE, SemiSupervisedVAE
from minivi.random import Generator
from minivi.tensor import no_grad

CONDITIONAL = {
    "quick": {"data": "digits", "hidden": 100, "latents": 5, "epochs": 100, "step_size": 1e-3, "samples": 20},
    "laptop": {"data": "mnist", "hidden": 200, "latents": 10, "epochs": 8, "step_size": 1e-3, "samples": 10},
    "paper": {"data": "mnist", "hidden": 500, "latents": 20, "epochs": 500, "step_size": 1e-3, "samples": 100},
}


def class_bounds(model, x, samples):
    """Bounds on log p(x, y) of all classes, (C, N), means over ``samples`` of z."""
    rng, parts = Generator(73), np.array_split(x, -(-len(x) // 500))
    with no_grad():
        each = [np.mean([np.asarray(model.class_bounds(part, rng)) for _ in range(samples)], axis=0) for part in parts]
    return np.concatenate(each, axis=1).astype(float)


@experiment(
    "conditional",
    title="a VAE of images given their class, beside one that is not told",
    mirrors="thesis section 1.2.1, eq. 1.3",
    budgets=CONDITIONAL,
    minutes={"quick": 0.2, "laptop": 0.39, "paper": 300},
)
def conditional(run):
    """Train p(x | y) and p(x): test bounds, errors by Bayes' rule, and samples of every class."""
    s, images = run.settings, run.images(labels=True)
    x, classes = data.fresh(images.test, Generator(71)), int(images.train_labels.max()) + 1
    common = {"init": nn.glorot, "output_bias": nn.logit_of_mean(images.train)}
    pixels, layers = images.train.shape[1], (s.hidden,)
    told = SemiSupervisedVAE(
        pixels, classes, layers, s.latents, activation="tanh", rng=Generator([run.seed, 1]), **common
    )
    plain = VAE(pixels, layers, s.latents, rng=Generator([run.seed, 2]), **common)
    options = {"epochs": s.epochs, "batch_size": 100}
    run.fit(
        f"conditional_{s.data}_told", told, lambda both, rng: -told.labelled_bound(*both, rng).mean(),
        optim.Adam(told.parameters(), s.step_size), (images.train, images.train_labels), rng=Generator([run.seed, 3]),
        prepare=lambda both, rng: (data.fresh(both[0], rng), both[1]), **options,
    )  # fmt: skip
    run.fit(
        f"conditional_{s.data}_plain", plain, lambda x, rng: -plain.elbo(x, rng).mean(),
        optim.Adam(plain.parameters(), s.step_size), images.train, rng=Generator([run.seed, 4]), prepare=data.fresh,
        **options,
    )  # fmt: skip
    joint = class_bounds(told, x, s.samples)
    given = joint[images.test_labels, np.arange(len(x))] + np.log(classes)
    marginal = np.logaddexp.reduce(joint, axis=0)
    alone = evaluation.elbo(plain, x, Generator(72), samples=s.samples).values
    y = np.repeat(np.arange(classes), 12)
    return {
        "given": mean_and_error(given), "marginal": mean_and_error(marginal), "alone": mean_and_error(alone),
        "gain": mean_and_error(given - alone), "marginal_gain": mean_and_error(marginal - alone),
        "errors": 100 * np.mean(joint.argmax(axis=0) != images.test_labels), "count": len(x), "classes": classes,
        "images": plots.grey_levels(told.sample(y, Generator([run.seed, 5]))), "shape": images.shape,
    }  # fmt: skip


@conditional.table
def _(n, table):
    s = n.settings
    bounds = {"log p(x | y), bound": n.given, "log p(x), bound, summed over classes": n.marginal}
    for name, (mean, error) in (bounds | {"log p(x), bound, not told": n.alone}).items():
        table.row(name, mean, note=f"{n.count} test images, standard error {error:.2f}; {s.epochs} epochs")
    gain, error = n.gain
    note = f"same images, +- {error:.2f}; log p(x | y) - log p(x) is {np.log(n.classes):.2f} where x tells the class"
    table.row("gained by the class", gain, note=note)
    chance = 100 - 100 / n.classes
    table.row("errors of Bayes' rule, p(y | x) by p(x | y)", n.errors, unit="%", note=f"by chance {chance:.0f} %")
    says = table.says(
        "thesis 1.2.1",
        "the methods introduced in this work are typically equally applicable to conditional models. The data on "
        "which the model is conditioned, can be treated as inputs to the model",
        seeds=1,
    )
    gain, error = n.marginal_gain
    label = "the bound on log p(x), summed over classes, less that of a model of its size that is not told"
    says(gain, ">=", 0.0, 0.0, label, standard_error=error)


@conditional.figure()
def _(n):
    axes = plots.figure(7.0, 5.9).add_subplot()
    plots.show(axes, plots.tile(n.images, n.shape, 12))
    axes.set_title(f"Draws of p(x | y), mean images: a row for each class of {n.settings.data}", fontsize=10)
    return axes.figure
