"""Chapter 2, reconstruction: does a VAE reconstruct better than a plain autoencoder? (AEVB report sections 1 and 4).

The same two networks, trained twice: once without noise and regulariser, once with both. What do they cost, or give, on
images that were not trained on, and should one decode the posterior's mean or a draw from it?
"""

# %% [markdown]
# Eq. 2.71 splits the sampled bound of the VAE into a reconstruction term and a regulariser:
#
#     L(x; eps) = log p(x | z)  +  log p(z) - log q(z | x)          z = mu(x) + sigma(x) * eps
#
# The plain autoencoder keeps the first term alone, at eps = 0:
#
#     A(x) = log p(x | z = mu(x))
#
# Its encoder still has the head for sigma, which nothing reads. Errors below are -log p(x | z) in nats (for grey pixels
# a density, so that it can be negative) and the squared distance of x from the mean of p(x | z), both a whole image.

# %%
import numpy as np

from minivi import data, nn, optim, plots
from minivi.experiments import experiment
from minivi.experiments.measuring import dequantize
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi.training import fit

# %% [markdown]
# ## Settings
#
# The report gives the epochs on Frey faces, for 2, 10 and 20 latents, and nothing else. `paper` takes the rest from
# thesis section 2.11: weights from N(0, 0.01), a variance; AdaGrad with the best of three step sizes; minibatches of
# 100, one sample; 500 hidden units on MNIST, 200 on Frey. The smaller budgets use Adam, Glorot's weights and, on MNIST,
# fewer units and epochs. The weights' prior N(0, I), which counts once for all data, acts at every budget and on both
# models.

# %%
SMALL = {"latents": [2, 10, 20], "optimizer": "adam", "step_sizes": [1e-3]}
PAPER = {"latents": [2, 10, 20], "optimizer": "adagrad", "step_sizes": [0.01, 0.02, 0.1]}
DIGITS = SMALL | {"data": "digits", "hidden": [100], "epochs": [80, 80, 80], "others": [[25], [100, 100]]}
BINARY = {"likelihood": "bernoulli", "prepare": "binarize"}
MNIST = {"data": "mnist", "split": "60000/10000", **BINARY}
FREY = {"data": "frey", "likelihood": "gaussian", "prepare": "grey", "hidden": [200], "epochs": [100, 550, 550]}
OTHERS = [[50], [200, 200]]  # other hidden layers, at the middle number of latents


# %% [markdown]
# ## One pair of networks, two losses


# %%
def vae_loss(model):
    """Minus the mean bound (eq. 2.77), with one sample."""
    return lambda x, rng: -model.elbo(x, rng).mean()


def autoencoder_loss(model):
    """Minus the mean of log p(x | z = mu(x)): no noise, no divergence."""
    return lambda x, rng: -model.decode(model.encode(x).mu).log_prob(x).mean()


LOSSES = {"AE": autoencoder_loss, "VAE": vae_loss}


PREPARE = {"binarize": data.fresh, "spread": dequantize, "grey": None}  # how a minibatch, or held-out images, are drawn


def held_out(run):
    """The test images and as many training images, prepared once; the same for every model."""
    images, prepare = run.images(), PREPARE[run.settings.prepare]
    pairs = {"test": images.test, "train": images.train[: len(images.test)]}
    return {k: prepare(x, Generator(2)) if prepare else x for k, x in pairs.items()}


def errors(model, x, rng=None, samples=10):
    """-log p(x | z) in nats, and the squared distance of x from the mean of p(x | z), each (N,).

    Args:
        x: images (N, D).
        rng: generator for z from q(z | x), the errors then being means over ``samples``; None is z = mu(x).
    """
    nats, squared = [], []
    with no_grad():
        for part in np.array_split(x, max(1, len(x) // 500)):
            q = model.encode(part)
            z = np.asarray(q.mu)[None] if rng is None else q.sample(rng, (samples,))
            nats.append(-np.mean(np.asarray(model.decode(z).log_prob(part), np.float64), axis=0))
            squared.append(np.mean(np.sum((model.mean_image(z) - part) ** 2, axis=-1), axis=0, dtype=np.float64))
    return np.concatenate(nats), np.concatenate(squared)


def trained(run, kind, latents, hidden, epochs):
    """A trained model of ``kind`` "AE" or "VAE", and its history with the errors in nats at the code's mean."""
    s, x = run.settings, run.images().train
    prepare = PREPARE[s.prepare]
    some = {k: x[:1000] for k, x in held_out(run).items()}

    def new(step_size):
        init = nn.glorot if s.optimizer == "adam" else nn.normal(0.1)
        model = VAE(x.shape[1], hidden, latents, s.likelihood, rng=Generator([run.seed, latents]), init=init)
        method = optim.Adam if s.optimizer == "adam" else optim.AdaGrad
        return model, LOSSES[kind](model), method(model.parameters(), step_size, weight_decay=1.0 / len(x))

    def first_loss(step_size):  # after 200 minibatches
        first = x[:20000]
        options = {"epochs": 20000 // len(first), "rng": Generator(run.seed), "prepare": prepare, "progress": False}
        model, loss, optimizer = new(step_size)
        return fit(model, loss, optimizer, first, **options).records[-1]["loss"]

    def start():
        return new(min(s.step_sizes, key=first_loss) if len(s.step_sizes) > 1 else s.step_sizes[0])

    def evaluate(model, epoch):  # in about 50 epochs
        if epoch % max(1, epochs // 50):
            return {}
        return {k: float(np.mean(errors(model, x)[0])) for k, x in some.items()}

    name = "_".join([s.data, s.likelihood, kind, str(latents), *map(str, hidden)])
    rng = Generator([run.seed, latents, 1])
    model, history, _ = run.train(name, start, x, epochs=epochs, rng=rng, prepare=prepare, evaluate=evaluate)
    return model, history


# %% [markdown]
# ## Reconstruction of test images
#
# The same experiment on binary digits with Bernoulli pixels, and on grey faces with Gaussian pixels whose variance the
# decoder chooses. Three reconstructions of each test image: the autoencoder's, the VAE's at the posterior's mean, and
# the VAE's at a draw from the posterior. Standard errors are over test images, for one training run of each model.


# %% [markdown]
# A Gaussian decoder may make a pixel's variance as small as it likes where it is sure of the pixel, and the density,
# hence the bound, grows without limit: grey values on a grid of 1/255 are no continuous data. Nothing is clipped here.
# The table says how far it went: a sigma below the step of the grid is knowledge of the grid, not of faces. On digits,
# whose corners are blank in nearly every image, it goes too far to measure anything: with their values as they are, log
# sigma fell below -60 in 80 epochs, and single test images cost millions of nats. So `quick` spreads their grey levels.


# %%
UNITS = {"nats": "nats", "squared": "sq. error"}


def case(latents, hidden):
    """What the numbers of a pair of models are called."""
    return f"{latents} latents, hidden {'-'.join(map(str, hidden))}"


def compared(ae, vae):
    """Mean and standard error of two models' :func:`errors` on the same images, and of the VAE's gain, by unit."""
    return {
        name: {"AE": mean_and_error(a), "VAE": mean_and_error(v), "gain": mean_and_error(a - v)}
        for name, a, v in zip(UNITS, ae, vae, strict=True)
    }


def sigmas(model, x):
    """Least and median log sigma of the pixels at the code's mean, and the share of them below log(1/255), in %."""
    with no_grad():
        log_sigma = np.asarray(model.decode(model.encode(x).mu).log_sigma)
    return [log_sigma.min(), np.median(log_sigma), 100 * np.mean(log_sigma < -np.log(255))]


@experiment(
    "reconstruction_frey",
    title="reconstruction of grey images (Frey faces): a VAE against a plain autoencoder",
    mirrors="AEVB report sections 1 and 4",
    budgets={
        "quick": DIGITS | {"likelihood": "gaussian", "prepare": "spread"},
        "laptop": SMALL | FREY | {"others": OTHERS},
        "paper": PAPER | FREY | {"others": OTHERS},
    },
    minutes={"quick": 0.4, "laptop": 2.3, "paper": 7},
)
@experiment(
    "reconstruction",
    title="reconstruction of binary images: a VAE against a plain autoencoder",
    mirrors="AEVB report sections 1 and 4",
    budgets={
        "quick": DIGITS | BINARY,
        "laptop": SMALL | MNIST | {"hidden": [200], "epochs": [8, 8, 8], "others": OTHERS},
        "paper": PAPER | MNIST | {"hidden": [500], "epochs": [500, 500, 500], "others": [[100], [500, 500]]},
    },
    minutes={"quick": 0.4, "laptop": 0.75, "paper": 60 * 6},
)
def reconstruction(run):
    """Train both models for each number of latents, then for other hidden layers; measure errors, reconstruct."""
    s, x = run.settings, held_out(run)
    some = x["test"][:20]
    curves, training, sigma, pairs, numbers = {}, {}, {}, {}, {}
    sheets = {"data": some}
    for latents, epochs in zip(s.latents, s.epochs, strict=True):
        models = {}
        for kind in LOSSES:
            models[kind], history = trained(run, kind, latents, s.hidden, epochs)
            examples = [record["examples"] for record in history.records if "test" in record]
            curve = {"examples": examples, "test": history.column("test"), "train": history.column("train")}
            curves[f"{kind}, {latents} latents"] = curve
            means = (np.mean(values) for values in errors(models[kind], x["train"]))
            training[f"{latents} latents, {kind}"] = dict(zip(UNITS, means, strict=True))
            if s.likelihood == "gaussian":
                sigma[f"{latents} latents, {kind}"] = sigmas(models[kind], x["test"])
        ways = {"AE": errors(models["AE"], x["test"]), "VAE mean": errors(models["VAE"], x["test"])}
        ways["VAE sample"] = errors(models["VAE"], x["test"], Generator([3, latents]))
        for way, both in ways.items():
            for name, values in zip(UNITS, both, strict=True):
                mean, error = mean_and_error(values)
                numbers[f"{latents} latents, {way}, {name}"] = {"mean": mean, "standard_error": error}
        pairs[case(latents, s.hidden)] = compared(ways["AE"], ways["VAE mean"])
        sheets[f"{latents}: AE"] = models["AE"].reconstruct(some)
        sheets[f"{latents}: VAE, mean"] = models["VAE"].reconstruct(some)
        sheets[f"{latents}: VAE, draw"] = models["VAE"].mean_image(models["VAE"].encode(some).sample(Generator(4)))
    latents, epochs = s.latents[1], s.epochs[1]
    for hidden in s.others:
        both = (errors(trained(run, kind, latents, hidden, epochs)[0], x["test"]) for kind in LOSSES)
        pairs[case(latents, hidden)] = compared(*both)
    return numbers | {
        "curves": curves, "training": training, "sigma": sigma, "pairs": pairs, "shape": run.images().shape,
        "sheets": {name: plots.grey_levels(images) for name, images in sheets.items()},
    }  # fmt: skip


def verdict(gain, error):
    """Whether the VAE's gain is more than chance, within two standard errors."""
    word = "the VAE is better" if gain > 2 * error else "the VAE is worse" if gain < -2 * error else "no difference"
    return f"{word}; paired standard error {error:.2g}"


@reconstruction.table
def _(n, table):
    s = n.settings
    for latents in s.latents:
        for name, unit in UNITS.items():
            means = {}
            for way in ("AE", "VAE mean", "VAE sample"):
                means[way], error = vars(n)[f"{latents} latents, {way}, {name}"].values()
                note = f"standard error {error:.2g}"
                if way != "VAE sample":
                    note += f"; training images {n.training[f'{latents} latents, {way.split()[0]}'][name]:.2f}"
                table.row(f"{latents} latents, {way}", means[way], unit=unit, note=note)
            gain, error = n.pairs[case(latents, s.hidden)][name]["gain"]
            table.row(f"{latents} latents, AE - VAE mean", gain, unit=unit, note=verdict(gain, error))
            says = table.says("AEVB report 4", "Tried mean and sampling for VAE, mean worked better", seeds=1)
            label = f"{latents} latents, {unit}: the VAE's error at its mean code, against drawn codes"
            says(means["VAE mean"], "<=", means["VAE sample"], 0.0, label)
        for kind in LOSSES if n.sigma else ():
            least, median, below = n.sigma[f"{latents} latents, {kind}"]
            note = f"median {median:.2f}; {below:.1f} % of pixels below log(1/255) = -5.54"
            table.row(f"{latents} latents, {kind}, smallest log sigma", least, unit="log grey", note=note)
    for hidden in s.others:
        what = case(s.latents[1], hidden)
        for name, unit in UNITS.items():
            pair = n.pairs[what][name]
            for kind in LOSSES:
                table.row(f"{what}, {kind}", pair[kind][0], unit=unit)
            table.row(f"{what}, AE - VAE", pair["gain"][0], unit=unit, note=verdict(*pair["gain"]))


@reconstruction.figure()
def _(n):
    """The test images above their reconstructions."""
    shape, count = n.shape, len(n.sheets["data"])
    fig = plots.figure(9.0, 0.3 + 9.0 / count * len(n.sheets) * (shape[0] + 1) / (shape[1] + 1))
    axes = fig.add_subplot()
    photo = n.settings.data == "frey"
    plots.show(axes, plots.tile(np.concatenate(list(n.sheets.values())), shape, count, photo=photo))
    axes.set_yticks([(shape[0] + 1) * (i + 0.5) for i in range(len(n.sheets))], list(n.sheets), fontsize=8)
    axes.set_title(f"Test images of {n.settings.data}: reconstructions by number of latents", fontsize=10)
    return fig


@reconstruction.figure("errors")
def _(n):
    """Errors while training, and errors against the hidden layers."""
    s, fig = n.settings, plots.figure(10.0, 4.2)
    axes, beside = fig.subplots(1, 2, width_ratios=[2, 1])
    for i, (label, curve) in enumerate(n.curves.items()):
        style = plots.style(i, len(curve["examples"]))
        axes.plot(curve["examples"], curve["test"], label=label, **style)
        axes.plot(curve["examples"], curve["train"], **(style | plots.THIN))
    tests = [curve["test"] for curve in n.curves.values()]
    bottom, top = min(c.min() for c in tests), max(c[len(c) // 20] for c in tests)
    axes.set_ylim(bottom - 0.1 * (top - bottom), top + 0.1 * (top - bottom))
    title, y = (
        f"Reconstruction on {s.data} (thin lines: training images)",
        "-log p(x | z) at the code's mean, nats per image",
    )
    plots.panel(axes, title, "training points evaluated", y, log="x")
    axes.grid(True, which="minor", linewidth=0.3)
    layers = sorted([s.hidden, *s.others], key=lambda hidden: (len(hidden), hidden))
    for i, kind in enumerate(LOSSES):
        means, bars = np.array([n.pairs[case(s.latents[1], hidden)]["squared"][kind] for hidden in layers]).T
        style = plots.style(i, 1) | {"linestyle": "", "capsize": 3}
        del style["markevery"]
        beside.errorbar(np.arange(len(layers)) + 0.1 * i, means, 2 * bars, label=kind, **style)
    x, y = f"hidden units of each layer ({s.latents[1]} latents)", "squared error per test image, +- 2 std. errors"
    plots.panel(beside, "Hidden units and depth", x, y)
    beside.set_xticks(np.arange(len(layers)) + 0.05, ["-".join(map(str, hidden)) for hidden in layers])
    beside.set_xlim(-0.5, len(layers) - 0.4)
    for panel in (axes, beside):
        panel.legend(fontsize=8)
    return fig


# %% [markdown]
# ## What to try next
#
# - `minivi run ch02_autoencoder.reconstruction_frey --budget laptop`: the faces.
# - Multiply the divergence in `vae_loss` by a number between 0 and 1: where between the two is the best test error?
# - Draw samples from the plain autoencoder with z from N(0, I). Why do they look as they do?
