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
from minivi.experiments import Claim, Result, Row, experiment
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


def binarize(x, rng):
    """Fresh binary pixels from grey values."""
    return data.binarize(x, "dynamic", rng)


def spread(x, rng):
    """The 17 grey levels of the digits, each made an interval of [0, 1] by uniform noise."""
    return (16 * x + rng.random(x.shape, dtype=np.float32)) / 17


PREPARE = {"binarize": binarize, "spread": spread, "grey": None}  # how a minibatch, or held-out images, are drawn


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
    name = "_".join([s.data, s.likelihood, kind, str(latents), *map(str, hidden)])
    if name in run.shared:
        return run.shared[name]
    prepare = PREPARE[s.prepare]

    def start(step_size):
        init = nn.glorot if s.optimizer == "adam" else nn.normal(0.1)
        model = VAE(x.shape[1], hidden, latents, s.likelihood, rng=Generator([run.seed, latents]), init=init)
        method = optim.Adam if s.optimizer == "adam" else optim.AdaGrad
        return model, method(model.parameters(), step_size, weight_decay=1.0 / len(x))

    def first_loss(step_size):  # after 200 minibatches
        (model, optimizer), first = start(step_size), x[:20000]
        options = {"epochs": 20000 // len(first), "rng": Generator(run.seed), "prepare": prepare, "progress": False}
        return fit(model, LOSSES[kind](model), optimizer, first, **options).records[-1]["loss"]

    model, optimizer = start(min(s.step_sizes, key=first_loss) if len(s.step_sizes) > 1 else s.step_sizes[0])
    some = {k: x[:1000] for k, x in held_out(run).items()}

    def evaluate(epoch):  # in about 50 epochs
        if epoch % max(1, epochs // 50):
            return {}
        return {k: float(np.mean(errors(model, x)[0])) for k, x in some.items()}

    rng = Generator([run.seed, latents, 1])
    history = run.fit(
        name, model, LOSSES[kind](model), optimizer, x, epochs=epochs, rng=rng, prepare=prepare, evaluate=evaluate
    )
    run.shared[name] = model, history
    return model, history


# %% [markdown]
# ## Reconstruction of test images
#
# The same experiment on binary digits with Bernoulli pixels, and on grey faces with Gaussian pixels whose variance the
# decoder chooses. Three reconstructions of each test image: the autoencoder's, the VAE's at the posterior's mean, and
# the VAE's at a draw from the posterior. Standard errors are over test images, for one training run of each model.


# %%
def estimate(values):
    """Mean and standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def comparison(what, unit, ae, vae):
    """A row: by how much the VAE's errors on the same images are smaller, and whether that is more than chance."""
    gain, error = estimate(ae - vae)
    verdict = "the VAE is better" if gain > 2 * error else "the VAE is worse" if gain < -2 * error else "no difference"
    return Row(what, gain, unit=unit, note=f"{verdict}; paired standard error {error:.2g}")


def draw_images(s, shape, x, sheets):
    """The test images above their reconstructions."""
    photo = s.data == "frey"
    fig = plots.figure(9.0, 0.3 + 9.0 / len(x) * (1 + len(sheets)) * (shape[0] + 1) / (shape[1] + 1))
    axes = fig.add_subplot()
    plots.show(axes, plots.tile(np.concatenate([x, *sheets.values()]), shape, len(x), photo=photo))
    axes.set_yticks([(shape[0] + 1) * (i + 0.5) for i in range(1 + len(sheets))], ["data", *sheets], fontsize=8)
    axes.set_title(f"Test images of {s.data}: reconstructions by number of latents", fontsize=10)
    return fig


def draw_errors(s, curves, found):
    """Errors while training, and errors against the hidden layers."""
    fig = plots.figure(10.0, 4.2)
    axes, beside = fig.subplots(1, 2, width_ratios=[2, 1])
    for i, ((kind, latents), history) in enumerate(curves.items()):
        examples = [record["examples"] for record in history.records if "test" in record]
        style = plots.style(i, len(examples))
        axes.plot(examples, history.column("test"), label=f"{kind}, {latents} latents", **style)
        axes.plot(examples, history.column("train"), **(style | {"marker": "", "linewidth": 0.6}))
    axes.set_xscale("log")
    last = [h.column("test") for h in curves.values()]
    bottom, top = min(c.min() for c in last), max(c[len(c) // 20] for c in last)
    axes.set_ylim(bottom - 0.1 * (top - bottom), top + 0.1 * (top - bottom))
    axes.set_xlabel("training points evaluated")
    axes.set_ylabel("-log p(x | z) at the code's mean, nats per image")
    axes.set_title(f"Reconstruction on {s.data} (thin lines: training images)", fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(True, which="both", linewidth=0.3)
    found = dict(sorted(found.items(), key=lambda item: (len(item[0]), item[0])))
    names = ["-".join(map(str, hidden)) for hidden in found]
    for i, kind in enumerate(("AE", "VAE")):
        means, bars = zip(*[estimate(pair[kind][1]) for pair in found.values()], strict=True)
        style = plots.style(i, 1) | {"linestyle": "", "capsize": 3}
        del style["markevery"]
        beside.errorbar(np.arange(len(names)) + 0.1 * i, means, [2 * b for b in bars], label=kind, **style)
    beside.set_xticks(np.arange(len(names)) + 0.05, names)
    beside.set_xlim(-0.5, len(names) - 0.4)
    beside.set_xlabel(f"hidden units of each layer ({s.latents[1]} latents)")
    beside.set_ylabel("squared error per test image, +- 2 std. errors")
    beside.set_title("Hidden units and depth", fontsize=10)
    beside.legend(fontsize=8)
    beside.grid(True, linewidth=0.3)
    return fig


def reconstruct(run):
    """Train both models for each number of latents, then for other hidden layers; tabulate errors, draw images."""
    s, images = run.settings, run.images()
    x = held_out(run)
    units = {"nats": "nats", "squared": "sq. error"}
    rows, claims, curves, sheets, found, numbers = [], [], {}, {}, {}, {}
    for latents, epochs in zip(s.latents, s.epochs, strict=True):
        models = {kind: trained(run, kind, latents, s.hidden, epochs)[0] for kind in LOSSES}
        curves |= {(kind, latents): trained(run, kind, latents, s.hidden, epochs)[1] for kind in LOSSES}
        ways = {"AE": errors(models["AE"], x["test"]), "VAE mean": errors(models["VAE"], x["test"])}
        ways["VAE sample"] = errors(models["VAE"], x["test"], Generator([3, latents]))
        train = {kind: errors(model, x["train"]) for kind, model in models.items()}
        for i, (name, unit) in enumerate(units.items()):
            for way, values in ways.items():
                mean, error = estimate(values[i])
                note = f"standard error {error:.2g}"
                if way != "VAE sample":
                    note += f"; training images {np.mean(train[way.split()[0]][i]):.2f}"
                rows.append(Row(f"{latents} latents, {way}", mean, unit=unit, note=note))
                numbers[f"{latents} latents, {way}, {name}"] = {"mean": mean, "standard_error": error}
            label = f"{latents} latents, AE - VAE mean"
            rows.append(comparison(label, unit, ways["AE"][i], ways["VAE mean"][i]))
            sampled, mean = np.mean(ways["VAE sample"][i]), np.mean(ways["VAE mean"][i])
            label = f"{latents} latents: the VAE's mean code reconstructs no worse than a drawn one, {unit}"
            claims.append(Claim(mean, "<=", sampled, 0.0, label))
        rows += sigma_rows(s, models, latents, x["test"])
        some = x["test"][:20]
        sheets[f"{latents}: AE"] = models["AE"].reconstruct(some)
        sheets[f"{latents}: VAE, mean"] = models["VAE"].reconstruct(some)
        sheets[f"{latents}: VAE, draw"] = models["VAE"].mean_image(models["VAE"].encode(some).sample(Generator(4)))
        if latents == s.latents[1]:
            found[tuple(s.hidden)] = {"AE": ways["AE"], "VAE": ways["VAE mean"]}
    latents, epochs = s.latents[1], s.epochs[1]
    for hidden in s.others:
        pair = {kind: errors(trained(run, kind, latents, hidden, epochs)[0], x["test"]) for kind in LOSSES}
        found[tuple(hidden)] = pair
        for i, unit in enumerate(units.values()):
            what = f"{latents} latents, hidden {'-'.join(map(str, hidden))}"
            rows += [Row(f"{what}, {kind}", np.mean(pair[kind][i]), unit=unit) for kind in LOSSES]
            rows.append(comparison(f"{what}, AE - VAE", unit, pair["AE"][i], pair["VAE"][i]))
    figures = {"": draw_images(s, images.shape, x["test"][:20], sheets), "errors": draw_errors(s, curves, found)}
    return Result(rows, figures, numbers, claims)


# %% [markdown]
# A Gaussian decoder may make a pixel's variance as small as it likes where it is sure of the pixel, and the density,
# hence the bound, grows without limit: grey values on a grid of 1/255 are no continuous data. Nothing is clipped here.
# The table says how far it went: a sigma below the step of the grid is knowledge of the grid, not of faces. On digits,
# whose corners are blank in nearly every image, it goes too far to measure anything: with their values as they are, log
# sigma fell below -60 in 80 epochs, and single test images cost millions of nats. So `quick` spreads their grey levels.


# %%
def sigma_rows(s, models, latents, x):
    """How small the decoders' standard deviations became; no rows for binary pixels."""
    rows = []
    for kind, model in models.items() if s.likelihood == "gaussian" else ():
        with no_grad():
            log_sigma = np.asarray(model.decode(model.encode(x).mu).log_sigma)
        below = 100 * np.mean(log_sigma < -np.log(255))
        note = f"median {np.median(log_sigma):.2f}; {below:.1f} % of pixels below log(1/255) = -5.54"
        rows.append(Row(f"{latents} latents, {kind}, smallest log sigma", log_sigma.min(), unit="log grey", note=note))
    return rows


@experiment(
    "reconstruction",
    title="reconstruction of binary images: a VAE against a plain autoencoder",
    mirrors="AEVB report sections 1 and 4",
    budgets={
        "quick": DIGITS | BINARY,
        "laptop": SMALL | MNIST | {"hidden": [200], "epochs": [8, 8, 8], "others": OTHERS},
        "paper": PAPER | MNIST | {"hidden": [500], "epochs": [500, 500, 500], "others": [[100], [500, 500]]},
    },
    minutes={"quick": 0.4, "laptop": 3, "paper": 60 * 6},
)
def reconstruction(run):
    """Bernoulli pixels."""
    return reconstruct(run)


@experiment(
    "reconstruction_frey",
    title="reconstruction of grey images (Frey faces): a VAE against a plain autoencoder",
    mirrors="AEVB report sections 1 and 4",
    budgets={
        "quick": DIGITS | {"likelihood": "gaussian", "prepare": "spread"},
        "laptop": SMALL | FREY | {"others": OTHERS},
        "paper": PAPER | FREY | {"others": OTHERS},
    },
    minutes={"quick": 0.4, "laptop": 4, "paper": 5},
)
def reconstruction_frey(run):
    """Gaussian pixels."""
    return reconstruct(run)


# %% [markdown]
# ## What to try next
#
# - `minivi run ch02_autoencoder.reconstruction_frey --budget laptop`: the faces.
# - Multiply the divergence in `vae_loss` by a number between 0 and 1: where between the two is the best test error?
# - Draw samples from the plain autoencoder with z from N(0, I). Why do they look as they do?
