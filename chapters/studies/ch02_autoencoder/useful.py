"""Regularised autoencoders: what their codes are worth, and who must choose a strength (section 2.10)."""

# %% [markdown]
# ## Denoising, contractive and sparse autoencoders (section 2.10)
#
# One pair of networks, six losses. All reconstruct by -log p(x | z); z is mu(x) but in the VAE:
#
#     plain          nothing more
#     denoising      z = mu(x with a share of its pixels set to 0)
#     contractive    + strength * |mu(x + s eps) - mu(x)|^2 / s^2, s = 0.1: the slope of mu, a random way
#     sparse         + strength * sum_j |mu_j|, with J latents of which few should be needed
#     VAE            z ~ q(z | x), + KL(q(z | x) || p(z)): no strength to choose
#
# A code is useful, here, if a linear classifier needs few labels to read the class off it. The best strength of each
# way is the one with fewest errors on training images that the classifier has not seen; claims are of test images.

# %%
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from minivi import data, nn, ops, optim, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import no_grad

USEFUL = {
    "quick": {"data": "digits", "split": "1500/297", "hidden": 100, "latents": 20, "epochs": 40, "labels": 100},
    "laptop": {"data": "mnist", "split": "60000/10000", "hidden": 200, "latents": 30, "epochs": 4, "labels": 1000},
    "paper": {"data": "mnist", "split": "60000/10000", "hidden": 500, "latents": 50, "epochs": 200, "labels": 1000},
}
STRENGTHS = {  # of each way to regularise
    "denoising": [0.1, 0.3, 0.5],
    "contractive": [0.01, 0.1, 1.0],
    "sparse": [0.1, 1.0, 10.0],
}
VALIDATION = 5000  # training images, at most, by which a strength is chosen
WIDTH = 0.1  # s


def objective(kind, model, strength):
    """The loss of one kind: ``loss(x, rng)``."""

    def reconstruction(x, z):
        return -model.decode(z).log_prob(x)

    def denoising(x, rng):
        kept = (rng.random(x.shape, dtype=x.dtype) >= strength).astype(x.dtype)
        return reconstruction(x, model.encode(kept * x).mu).mean()

    def contractive(x, rng):
        z = model.encode(x).mu
        moved = model.encode(x + WIDTH * rng.standard_normal(x.shape, dtype=x.dtype)).mu
        return (reconstruction(x, z) + strength / WIDTH**2 * ops.square(moved - z).sum(axis=-1)).mean()

    def sparse(x, rng):
        z = model.encode(x).mu
        return (reconstruction(x, z) + strength * ops.abs(z).sum(axis=-1)).mean()

    return {
        "plain": lambda x, rng: reconstruction(x, model.encode(x).mu).mean(),
        "VAE": lambda x, rng: -model.elbo(x, rng).mean(),
        "denoising": denoising, "contractive": contractive, "sparse": sparse,
    }[kind]  # fmt: skip


@experiment(
    "useful",
    title="regularised autoencoders beside a VAE: what a linear classifier makes of their codes",
    mirrors="thesis section 2.10",
    budgets=USEFUL,
    minutes={"quick": 0.4, "laptop": 1.2, "paper": 60 * 6},
)
def useful(run):
    """Train each kind at each strength; which test images a classifier on few labelled codes gets wrong."""
    s, images = run.settings, run.images(labels=True)
    order, others, _ = np.split(
        Generator([run.seed, 31]).permutation(len(images.train)), [s.labels, s.labels + VALIDATION]
    )
    kinds = {"plain": [None], "VAE": [None]} | STRENGTHS
    wrong, held_out = {}, {}
    for kind, strength in ((kind, strength) for kind, many in kinds.items() for strength in many):
        model = VAE(images.train.shape[1], (s.hidden,), s.latents, rng=Generator([run.seed, 32]), init=nn.glorot)
        name = kind if strength is None else f"{kind}, {strength:g}"
        run.fit(
            f"useful_{s.data}_{name.replace(', ', '_')}", model, objective(kind, model, strength),
            optim.Adam(model.parameters(), 1e-3), images.train, epochs=s.epochs, rng=Generator([run.seed, 33]),
            prepare=data.fresh,
        )  # fmt: skip
        with no_grad():
            few, more, test = (
                np.asarray(model.encode(x).mu, float) for x in (images.train[order], images.train[others], images.test)
            )
        reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(few, images.train_labels[order])
        wrong[name] = (reader.predict(test) != images.test_labels).astype(np.uint8)
        held_out[name] = 100.0 * np.mean(reader.predict(more) != images.train_labels[others])
    return {"wrong": wrong, "held_out": held_out}


def gain(a, b):
    """By how many % of the images ``a`` errs less often than ``b``, and the standard error of that."""
    return mean_and_error(100.0 * (b.astype(float) - a))


@useful.table
def _(n, table):
    for name, wrong in n.wrong.items():
        mean, error = gain(np.zeros_like(wrong), wrong)
        note = f"+- {error:.2g}; {n.settings.labels} labels, {n.settings.latents} latents, {n.settings.epochs} epochs"
        note += f"; other training images: {n.held_out[name]:.1f} %"
        table.row(f"{name}: errors by its codes", mean, unit="%", note=note)
    plain, vae = n.wrong["plain"], n.wrong["VAE"]
    says = table.says(
        "thesis 2.10",
        "this reconstruction criterion is in itself not sufficient for learning useful representations ... "
        "Regularization techniques have been proposed to make autoencoders learn useful representations, such as "
        "denoising, contractive and sparse autoencoder variants",
        seeds=1,
    )
    for kind, many in STRENGTHS.items():
        name = min((f"{kind}, {m:g}" for m in many), key=n.held_out.get)
        mean, error = gain(n.wrong[name], plain)
        label = f"% of errors that {name} (the strength best by validation) saves the plain autoencoder"
        says(mean, ">=", 0.0, 0.0, label, standard_error=error)
    says = table.says(
        "thesis 2.10",
        "The VAE objective contains a regularization term dictated by the variational bound, lacking the usual "
        "nuisance regularization hyper-parameter required to learn useful representations.",
        seeds=1,
    )
    mean, error = gain(vae, plain)
    says(mean, ">=", 0.0, 0.0, "% of errors that the VAE saves the plain autoencoder", standard_error=error)
    for kind, many in STRENGTHS.items():
        others = np.mean([n.wrong[f"{kind}, {m:g}"] for m in many], axis=0)
        mean, error = gain(vae, others)
        label = f"% of errors that the VAE saves a {kind} autoencoder, mean of its {len(many)} strengths"
        says(mean, ">=", 0.0, 0.0, label, standard_error=error)


@useful.figure()
def _(n):
    axes = plots.figure(7.0, 3.8).add_subplot()
    pairs = [gain(np.zeros_like(wrong), wrong) for wrong in n.wrong.values()]
    means, errors = np.array(pairs).T
    axes.barh(np.arange(len(means)), means, xerr=2 * errors, color="#999999", capsize=3)
    axes.set_yticks(np.arange(len(means)), list(n.wrong))
    axes.invert_yaxis()
    title = f"Linear classifier on the codes of {n.settings.labels} images of {n.settings.data}"
    return plots.panel(axes, title, "test errors, % (bars: two standard errors over images)").figure
