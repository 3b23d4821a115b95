"""Chapter 2, first part: auto-encoding variational Bayes (thesis sections 1.6, 2.3-2.7, 2.11, appendix 2.A).

Can one train a deep latent-variable model when neither p(x) nor p(z | x) can be computed? Algorithm 1 says yes:
maximise the evidence lower bound with a second network, the encoder, and let gradients flow through the sampling.
"""

# %% [markdown]
# The model (eq. 1.15-1.18) and the bound (eq. 2.10), with the closed-form divergence of appendix 2.A (eq. 2.77):
#
#     p(z) = N(0, I)         p(x | z) = Bernoulli(x; DecoderNet(z))        q(z | x) = N(z; mu(x), diag(sigma(x)^2))
#     L(x) = E_q[log p(x | z)] - KL(q(z | x) || p(z))  <=  log p(x)
#
# and the trick (eq. 2.40): z = mu + sigma * eps with eps ~ N(0, I), so that L's gradient can be sampled.

# %%
import numpy as np
from scipy.spatial import cKDTree
from scipy.special import ndtri

from minivi import data, estimators, evaluation, nn, optim, plots, weights
from minivi.experiments import experiment
from minivi.models import VAE
from minivi.random import Generator
from minivi.training import fit

# %% [markdown]
# ## Settings
#
# `paper` is the text's own (section 2.11): weights from N(0, 0.01), a variance; AdaGrad, its global step size the
# best of three in the first iterations; a prior N(0, I) on the weights; minibatches of 100, one sample each. The
# smaller budgets use Adam with Glorot's initial weights, which needs far fewer passes over the data, and all 60,000
# training images; pixels are drawn afresh from their grey values in each epoch at every budget.

# %%
ADAM = {"optimizer": "adam", "step_sizes": [1e-3], "batch": 100}
QUICK = {"data": "digits", "split": "1500/297", "hidden": 100, "epochs": 150, **ADAM, "images": 297, "samples": 200}
LAPTOP = {"data": "mnist", "split": "60000/10000", "hidden": 500, "epochs": 20, **ADAM, "images": 1000, "samples": 500}
PAPER = {
    "data": "mnist",
    "split": "50000/10000/10000",
    "hidden": 500,
    "epochs": 2000,
    "optimizer": "adagrad",
    "step_sizes": [0.01, 0.02, 0.1],
    "batch": 100,
    "images": 10000,
    "samples": 5000,
}


def budgets(quick, laptop, paper, night=None):
    """The settings, with what an experiment adds to them; a night's differ from a laptop's."""
    settings = {"quick": QUICK | quick, "laptop": LAPTOP | laptop, "paper": PAPER | paper}
    return settings | ({"night": settings["laptop"] | night} if night else {})


# Frey faces are so few that `laptop` can take the text's own optimizer; only the epochs are fewer. Digits stand in at
# `quick`, as continuous data: noise is added to their 17 grey values, or a Gaussian would shrink onto them.
FREY = {"data": "frey", "split": "1765/200", "hidden": 200, "likelihood": "gaussian", "latents": [2, 5, 10, 20]}
FREY_BUDGETS = {
    "quick": QUICK | {"likelihood": "gaussian", "latents": [2, 10], "epochs": 100, "seeds": {}},
    "laptop": PAPER | FREY | {"epochs": 500, "seeds": {}},
    "paper": PAPER | FREY | {"epochs": 6000, "seeds": {}},
}


# %% [markdown]
# ## Algorithm 1, and wake-sleep
#
# Minibatches, noise, gradient, update: `fit` is the loop, and the loss is minus the bound. Wake-sleep differs by its
# two objectives, which do not add up to any bound; model, optimizer and data are the same.


# %%
def optimizer_for(vae, settings, step_size, count):
    """Adam, or the text's AdaGrad with the weights' prior N(0, I), which counts once for all ``count`` data."""
    if settings.optimizer == "adam":
        return optim.Adam(vae.parameters(), step_size)
    return optim.AdaGrad(vae.parameters(), step_size, weight_decay=1.0 / count)


def new_model(settings, images, latents, seed):
    """A VAE with one hidden layer on either side."""
    return VAE(
        images.train.shape[1],
        (settings.hidden,),
        latents,
        getattr(settings, "likelihood", "bernoulli"),
        rng=Generator([seed, latents]),
        init=nn.glorot if settings.optimizer == "adam" else nn.normal(0.1),
    )


def dequantize(x, rng):
    """Uniform noise as wide as the step between two of the digits' 17 grey values; still in [0, 1]."""
    return (16 * x + rng.random(x.shape, dtype=x.dtype)) / 17


def preparation(settings):
    """What happens to a minibatch of grey values."""
    if getattr(settings, "likelihood", "bernoulli") == "bernoulli":
        return data.fresh
    return dequantize if settings.data == "digits" else lambda x, rng: x


LOSSES = {
    "AEVB": lambda vae: lambda x, rng: -vae.elbo(x, rng).mean(),  # estimator B with one sample (eq. 2.77)
    "wake-sleep": lambda vae: lambda x, rng: -estimators.wake_sleep(vae, x, rng).mean(),
}


def choose_step_size(run, method, latents, seed, steps=200):
    """The step size with the best training bound after the first ``steps`` minibatches."""
    s, images = run.settings, run.images()
    if len(s.step_sizes) == 1:
        return s.step_sizes[0]
    epochs = max(1, round(steps * s.batch / len(images.train)))
    first = images.train[: steps * s.batch]
    found = {}
    for step_size in s.step_sizes:
        vae = new_model(s, images, latents, seed)
        optimizer = optimizer_for(vae, s, step_size, len(images.train))
        fit(
            vae, LOSSES[method](vae), optimizer, first, epochs=epochs, batch_size=s.batch, rng=Generator(seed),
            prepare=preparation(s), progress=False,
        )  # fmt: skip
        found[step_size] = evaluation.elbo(vae, preparation(s)(first, Generator(2)), Generator(3)).mean
    return max(found, key=found.get)


def trained(run, latents, seed=None, method="AEVB"):
    """A model trained for this chapter's experiments, its history, the held-out data as prepared, the step size."""
    seed = run.seed if seed is None else seed
    s, images = run.settings, run.images()
    likelihood = getattr(s, "likelihood", "bernoulli")
    held_out = {"test": images.test, "train": images.train[: len(images.test)]}
    held_out = {name: preparation(s)(x, Generator(2)) for name, x in held_out.items()}

    def start():
        vae = new_model(s, images, latents, seed)
        step_size = choose_step_size(run, method, latents, seed)
        return vae, LOSSES[method](vae), optimizer_for(vae, s, step_size, len(images.train))

    def evaluate(vae, epoch):
        bounds = {name: evaluation.elbo(vae, x, Generator([3, epoch])) for name, x in held_out.items()}
        errors = {f"{name}_error": bound.standard_error for name, bound in bounds.items()}
        return {name: bound.mean for name, bound in bounds.items()} | errors

    vae, history, optimizer = run.train(
        f"{s.data}_{likelihood}_latents{latents}_seed{seed}_{method}", start, images.train, epochs=s.epochs,
        batch_size=s.batch, rng=Generator([seed, latents, 1]), prepare=preparation(s), evaluate=evaluate,
    )  # fmt: skip
    weights.save(history.folder / "weights.safetensors", vae, step_size=optimizer.step_size)
    return vae, history, held_out, optimizer.step_size


# %% [markdown]
# ## Figure 2.5: the bound while training
#
# For several numbers of latents, the bound on training and test images against the number of training points evaluated,
# for AEVB and for wake-sleep. The published figure shows no numbers; at `laptop` the table compares with a PyTorch run
# of the same settings.

# %%
TEXT_EPOCHS = {"mnist": 2000, "frey": 6000}  # Figure 2.5's last points: 1e8 and 1e7 training points
SIZES = (2, 5, 10, 20)  # numbers of latents in Figure 2.8
REFERENCE = {3: {1: -174.9, 5: -151.2, 10: -143.5, 20: -139.2}, 20: {1: -126.1, 5: -110.4, 10: -104.3, 20: -101.2}}


@experiment(
    "bound_frey",
    title="the lower bound while training, continuous data",
    mirrors="thesis Figure 2.5, Frey faces",
    budgets=FREY_BUDGETS,
    minutes={"quick": 0.4, "laptop": 6, "paper": 60},
)
@experiment(
    "bound",
    title="the lower bound on training and test images while training",
    mirrors="thesis Figure 2.5, MNIST",
    budgets=budgets(
        {"latents": [2, 5, 10, 20], "seeds": {}},
        {"latents": [3, 5, 10, 20, 200], "seeds": {"3": 2, "20": 2}, "reference": True},
        {"latents": [3, 5, 10, 20, 200], "seeds": {}},
        night={"epochs": 167, "seeds": {}, "images": 10_000, "samples": 1000},  # 1e7 training images
    ),
    minutes={"quick": 1, "laptop": 22, "night": 240, "paper": 60 * 18},
)
def bound(run):
    """Train for each number of latents by both methods: curves, and the bounds of AEVB's models of all images."""
    s, images = run.settings, run.images()
    curves, step_sizes, values = {}, {}, {}
    for latents in s.latents:
        for method in LOSSES:
            models = [trained(run, latents, run.seed + k, method) for k in range(seeds_of(s, latents, method))]
            histories = [history for _, history, *_ in models]
            mean = {name: np.mean([h.column(name) for h in histories], axis=0) for name in ("train", "test")}
            curves[f"{method}, {latents} latents"] = {"examples": histories[0].column("examples")} | mean
            step_sizes[f"{method}, {latents} latents"] = models[0][-1]
            if method == "AEVB":
                for name, x in (("train", images.train), ("test", images.test)):
                    x = preparation(s)(x, Generator(2))
                    values[latents, name] = evaluation.elbo(models[0][0], x, Generator(9), samples=5)
    # Images differ far more than two models do on one image: the error is that of paired differences.
    few, many = s.latents[-2:]
    gains = {name: evaluation.difference(values[many, name], values[few, name]) for name in ("train", "test")}
    gains = {name: {"mean": gain.mean, "error": gain.standard_error} for name, gain in gains.items()}
    return {"curves": curves, "step_sizes": step_sizes, "gains": gains}


def seeds_of(s, latents, method):
    """How many seeds are trained."""
    return s.seeds.get(str(latents), 1) if method == "AEVB" else 1


@bound.table
def _(n, table):
    s = n.settings
    for latents in s.latents:
        for method in LOSSES:
            curve, count = n.curves[f"{method}, {latents} latents"], seeds_of(s, latents, method)
            note = f"after {s.epochs} epochs" + (f", mean of {count} seeds" if count > 1 else "")
            if len(s.step_sizes) > 1:
                note += f", step size {n.step_sizes[f'{method}, {latents} latents']:g}"
            table.row(f"{method}, {latents} latents, train", curve["train"][-1], note=note)
            note += "; published as a picture only"
            table.row(f"{method}, {latents} latents, test", curve["test"][-1], note=note)
            if method == "AEVB" and getattr(s, "reference", False) and s.data == "mnist" and count == 2:
                for epoch, value in REFERENCE.get(latents, {}).items():
                    note = "beside a PyTorch run of these settings (mean of two seeds), not a published number"
                    table.row(f"{latents} latents, epoch {epoch}", curve["test"][epoch - 1], value, note=note)
        compare(n, table, latents)
    few, many = s.latents[-2:]
    error = np.hypot(n.gains["train"]["error"], n.gains["test"]["error"])  # of paired differences, over images
    says = table.says(
        "thesis Figure 2.5",
        "Interestingly enough, more latent variables does not result in more overfitting, which is explained by the "
        "regularizing effect of the lower bound.",
        short=f"{s.epochs} epochs for {TEXT_EPOCHS[s.data]:,}" if 2 * s.epochs < TEXT_EPOCHS.get(s.data, 0) else "",
    )
    label = f"what {many} latents gain over {few}: training against test images"
    says(n.gains["train"]["mean"], "<=", n.gains["test"]["mean"], 0.0, label, seeds=1, standard_error=error)


def compare(n, table, latents):
    """The caption's first sentence for one number of latents: the end, and the points that it takes to get there."""
    s = n.settings
    aevb, other = (n.curves[f"{method}, {latents} latents"] for method in LOSSES)
    gap = aevb["test"] - np.maximum.accumulate(other["test"])  # wake-sleep may fall from a height it has reached
    half = len(gap) // 2
    closing = s.data in TEXT_EPOCHS and 2 * s.epochs < TEXT_EPOCHS[s.data] and gap[-1] < gap[half]
    short = f"{s.epochs} epochs for {TEXT_EPOCHS[s.data]:,}, and the distance shrinks" if closing else ""
    sentence = "Our method converged considerably faster and reached a better solution in all experiments."
    says = table.says("thesis Figure 2.5", sentence, seeds=1)
    label = f"{latents} latents, test bound: AEVB's at the end against wake-sleep's best"
    says(aevb["test"][-1], ">=", other["test"].max(), 0.0, label, short=short)
    best = other["test"].argmax()
    there = np.flatnonzero(aevb["test"] >= other["test"][best])
    label = f"{latents} latents: points until wake-sleep's best test bound, AEVB's over wake-sleep's"
    says(aevb["examples"][there[0]] / other["examples"][best] if len(there) else np.inf, "<=", 1.0, 0.0, label)


@bound.figure()
def _(n):
    """A panel for each number of latents; the frame leaves out the first twentieth of training if that lies far off."""
    s, panels = n.settings, []
    fig = plots.figure(2.6 * len(s.latents), 3.4)
    for i, latents in enumerate(s.latents):
        panels.append(fig.add_subplot(1, len(s.latents), i + 1, sharey=panels[0] if panels else None))
        for j, method in enumerate(LOSSES):
            examples, train, test = n.curves[f"{method}, {latents} latents"].values()
            style = plots.style(j, len(examples)) | {"markevery": (len(examples) // 20, max(1, len(examples) // 4))}
            panels[-1].plot(examples, test, label=f"{method}, test", **style)
            panels[-1].plot(examples, train, label=f"{method}, training", **(style | plots.THIN))
    ends = np.concatenate([[max(c["test"]), c["test"][len(c["test"]) // 20]] for c in n.curves.values()])
    low, high = np.quantile(ends, 0.1), ends.max()
    panels[0].set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    panels[0].set_ylabel("lower bound on log p(x), nats per image", fontsize=9)
    for latents, axes in zip(s.latents, panels, strict=True):
        plots.panel(axes, f"{latents} latents", "training points evaluated", axes.get_ylabel(), log="x")
        axes.minorticks_off()
        axes.label_outer()
        axes.set_xlabel("training points evaluated", fontsize=8)
    plots.legend_below(fig, panels)
    fig.suptitle(f"AEVB and wake-sleep on {s.data}: the lower bound while training", fontsize=10)
    return fig


# %% [markdown]
# ## Figure 2.7: the learned manifold
#
# Two latents. The unit square, cut into equal steps, is sent through the inverse Gaussian CDF, so that the grid covers
# the prior evenly; each z is shown as the mean of p(x | z). Where no image has been encoded the decoder has learned
# nothing: the table says where the encoder puts the training images, and the claim how much of the grid they fill.
#
# A Gaussian likelihood of hundreds of nats leaves the divergence from the prior little weight: after 500 epochs on Frey
# faces the codes lie 2.4 standard deviations from the prior's centre, and a grid of the prior would show mostly what no
# face has taught. There the grid covers the Gaussian that has the codes' own mean and covariance.


# %%
@experiment(
    "manifold_frey",
    title="the manifold of a face learned with two latents",
    mirrors="thesis Figure 2.7(a)",
    budgets={name: settings | {"grid": 12, "around": "codes"} for name, settings in FREY_BUDGETS.items()},
    minutes={"quick": 0.2, "laptop": 0.7, "paper": 8},
)
@experiment(
    "manifold",
    title="the data manifold learned with two latents",
    mirrors="thesis Figure 2.7(b)",
    budgets=budgets(*({"grid": n, "around": "prior"} for n in (16, 20, 20))),
    minutes={"quick": 0.2, "laptop": 1.6, "paper": 100},
)
def manifold(run):
    """Decode a grid of the quantiles of the prior, or of a Gaussian around the training images' codes."""
    s, images = run.settings, run.images()
    vae, history, *_ = trained(run, 2)
    means = np.asarray(vae.encode(preparation(s)(images.train, Generator(8))).mu, float)
    centre, turn = np.zeros(2), np.eye(2)
    if s.around == "codes":
        variances, directions = np.linalg.eigh(np.cov(means.T))
        # Principal axes, the longer first, each with its larger part positive
        turn = (directions * np.sign(directions[np.abs(directions).argmax(0), [0, 1]]) * np.sqrt(variances)).T[::-1]
        centre = means.mean(axis=0)
    u = ndtri((np.arange(s.grid) + 0.5) / s.grid)
    grid = np.stack([a.ravel() for a in np.meshgrid(u, u[::-1])], axis=1)  # rows from top (large u_2) to bottom
    codes = np.linalg.solve(turn.T, (means - centre).T).T  # in the grid's units
    return {
        "images": plots.grey_levels(vae.mean_image(centre + grid @ turn)),
        "shape": images.shape,
        "bound": history.records[-1]["test"],
        "means": means.mean(axis=0),
        "spreads": means.std(axis=0),
        "taught": np.mean(cKDTree(codes).query(grid)[0] < 0.5),
    }


@manifold.table
def _(n, table):
    table.row("2 latents, test bound", n.bound, note="published as a picture only")
    for i, (mean, spread) in enumerate(zip(n.means, n.spreads, strict=True)):
        note = f"standard deviation {spread:.2f}; with no hole under the prior they are near 0 and 1"
        table.row(f"mean of mu_{i + 1}(x) over training images", mean, unit="", note=note)
    note = "within half a standard deviation of a training image's code"
    table.row("share of the grid that training has reached", 100 * n.taught, unit="%", note=note)


@manifold.figure()
def _(n):
    s, of = n.settings, "codes'" if n.settings.around == "codes" else "prior"
    fig = plots.figure(6.0, 6.2)
    axes = fig.add_subplot()
    gap = n.shape[0] // 8 if n.shape[0] < 20 else 0
    sheet = plots.tile(n.images, n.shape, s.grid, gap, photo=s.data == "frey")
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1, extent=(0, 1, 0, 1), interpolation="nearest")
    ticks = [0.05, 0.25, 0.5, 0.75, 0.95]
    axes.set_xticks(ticks, [f"{ndtri(t):.1f}" for t in ticks])
    axes.set_yticks(ticks, [f"{ndtri(t):.1f}" for t in ticks])
    names = ["$z_1$", "$z_2$"] if of == "prior" else [f"codes' principal axis {i}, standard deviations" for i in (1, 2)]
    axes.set_xlabel(f"{names[0]} (equal steps of {of} probability)", fontsize=9)
    axes.set_ylabel(names[1], fontsize=9)
    axes.set_title(f"Mean images p(x | z) over a two-dimensional latent space, {s.data}", fontsize=10)
    return fig


# %% [markdown]
# ## Figure 2.8: random samples
#
# z from the prior, then the mean of p(x | z), for 2, 5, 10 and 20 latents. The table adds the importance-sampled
# likelihood (eq. 2.57) of test images: the bound's gap to it is KL(q(z | x) || p(z | x)).


# %%
@experiment(
    "samples",
    title="random samples for 2, 5, 10 and 20 latents",
    mirrors="thesis Figure 2.8",
    budgets=budgets({}, {}, {}),
    minutes={"quick": 0.6, "laptop": 6, "paper": 60 * 7},
)
def samples(run):
    """Draw from four models, and estimate their likelihoods."""
    s, models = run.settings, {}
    for latents in SIZES:
        vae, _, held_out, _ = trained(run, latents)
        x = held_out["test"][: s.images]
        elbo = evaluation.elbo(vae, x, Generator(5), samples=10)
        likelihood = evaluation.log_likelihood(vae, x, Generator(6), s.samples, progress=run.progress)
        models[str(latents)] = {
            "images": plots.grey_levels(vae.sample(100, Generator([4, run.seed]))[0]),
            "bound": [elbo.mean, elbo.standard_error],
            "log p(x)": [likelihood.mean, likelihood.standard_error],
        }
    return {"models": models, "shape": run.images().shape, "count": len(x)}


@samples.table
def _(n, table):
    for latents, model in n.models.items():
        for name, more in (("bound", ""), ("log p(x)", f"; {n.settings.samples} importance samples")):
            mean, error = model[name]
            note = f"{n.count} test images; standard error {error:.2f}{more}"
            table.row(f"{latents} latents, {name}", mean, note=note)


@samples.figure()
def _(n):
    fig = plots.figure(10.0, 2.9)
    for i, (latents, model) in enumerate(n.models.items()):
        plots.show(fig.add_subplot(1, 4, i + 1), plots.tile(model["images"], n.shape, 10), f"{latents} latents")
    title = f"Random samples from models of {n.settings.data}: mean images p(x | z), z from the prior"
    fig.suptitle(title, fontsize=10)
    return fig


# %% [markdown]
# ## Reconstructions
#
# Eq. 2.71 reads the bound as a reconstruction error plus a regulariser. Here are both, in nats, and the images.


# %%
@experiment(
    "reconstructions",
    title="test images and their reconstructions",
    mirrors="thesis eq. 2.71, section 2.10",
    budgets=budgets({}, {}, {}),
    minutes={"quick": 0.6, "laptop": 6, "paper": 60 * 7},
)
def reconstructions(run):
    """Encode to the posterior mean and decode, for four models."""
    models = {}
    for latents in SIZES:
        vae, _, held_out, _ = trained(run, latents)
        x = held_out["test"]
        with_kl = [vae.encode(part).kl() for part in np.array_split(x, max(1, len(x) // 1000))]
        models[str(latents)] = {
            "images": plots.grey_levels(vae.reconstruct(x[:20])),
            "kl": float(np.mean(np.concatenate([np.asarray(k) for k in with_kl]))),
            "bound": evaluation.elbo(vae, x, Generator(7)).mean,
        }
    return {"models": models, "data": plots.grey_levels(x[:20]), "shape": run.images().shape}


@reconstructions.table
def _(n, table):
    for latents, model in n.models.items():
        table.row(f"{latents} latents, E log p(x | z)", model["bound"] + model["kl"])
        table.row(f"{latents} latents, KL(q(z | x) || p(z))", model["kl"])


@reconstructions.figure()
def _(n):
    axes = plots.figure(8.0, 2.5).add_subplot()
    sheets = [n.data, *(model["images"] for model in n.models.values())]
    plots.show(axes, plots.tile(np.concatenate(sheets), n.shape, 20))
    height = n.shape[0] + 1
    labels = ["data", *(f"{latents} latents" for latents in n.models)]
    axes.set_yticks([height * (i + 0.5) for i in range(5)], labels, fontsize=8)
    title = f"Test images of {n.settings.data} and their reconstructions at the posterior mean"
    axes.set_title(title, fontsize=10)
    return axes.figure


# %% [markdown]
# ## What to try next
#
# - `minivi run ch02_aevb --budget laptop`: the same on MNIST.
# - Replace `estimator="B"` by `"A"` in `loss`, and compare the noise of the bound.
# - `minivi check 2.8` after changing one sign in `VAE.elbo`: what fails, and what does not?
