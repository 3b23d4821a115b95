"""The review report's experiments with AEVB (section 4.1.2): hidden units, latents, and samples a datum.

Islam, Gao and Johne compare methods of variational inference on MNIST. What do a wider network, more latent variables
and more samples do to the bound, on the images that it was trained on and on others?
"""

# %% [markdown]
# The model and the bound are AEVB's, with L samples a datum (eq. 5, whose log lacks p) and a closed-form divergence:
#
#     L(x) ~ 1/L sum_l log p(x | z_l) - KL(q(z | x) || p(z))          z_l = mu(x) + sigma(x) eps_l
#
# Figures 2-4 were published as pictures, without a number.

# %%
import numpy as np

from minivi import data, evaluation, nn, optim, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator

# %% [markdown]
# ## Settings
#
# The report states 400 hidden units in encoder and decoder, minibatches of 100 and a learning rate of 0.01. It does not
# state the optimizer, the initial weights, the epochs, nor the other sizes in each figure. `paper` fills these in from
# the thesis (section 2.11): AdaGrad, to whose step sizes 0.01 belongs, weights from N(0, 0.01), a prior N(0, I) on
# them; 100 latents as in the report's section 5. The smaller budgets use Adam, which needs fewer epochs, and fewer
# latents; for the samples, `laptop` takes the first 10,000 training images, as ten samples cost six times one.

# %%
ADAM = {"optimizer": "adam", "step_size": 1e-3, "batch": 100}
QUICK = {"data": "digits", "split": "1500/297", "count": 1500, "epochs": 120, **ADAM, "hidden": 100, "latents": 10}
LAPTOP = {"data": "mnist", "split": "60000/10000", "count": 60000, "epochs": 6, **ADAM, "hidden": 400, "latents": 20}
PAPER = {
    "data": "mnist", "split": "60000/10000", "count": 60000, "epochs": 1000, "optimizer": "adagrad", "step_size": 0.01,
    "batch": 100, "hidden": 400, "latents": 100,
}  # fmt: skip


def budgets(quick, laptop, paper):
    """The three settings, with what an experiment adds to them."""
    return {"quick": QUICK | quick, "laptop": LAPTOP | laptop, "paper": PAPER | paper}


def trained(run, hidden, latents, samples=1, seed=None):
    """The history of a model, the bounds of each held-out image at the end, and the noise between two epochs' means."""
    s, images = run.settings, run.images()
    seed = run.seed if seed is None else seed
    train = images.train[: s.count]
    held_out = {"test": images.test, "train": train[: len(images.test)]}
    held_out = {part: data.fresh(x, Generator(2)) for part, x in held_out.items()}

    def start():
        init = nn.glorot if s.optimizer == "adam" else nn.normal(0.1)
        vae = VAE(train.shape[1], (hidden,), latents, rng=Generator([seed, hidden, latents]), init=init)
        if s.optimizer == "adam":
            falling = optim.linear(s.step_size, 1e-2 * s.step_size, s.epochs * -(-len(train) // s.batch))
            optimizer = optim.Adam(vae.parameters(), falling if getattr(s, "falling", False) else s.step_size)
        else:
            optimizer = optim.AdaGrad(vae.parameters(), s.step_size, weight_decay=1.0 / len(train))
        return vae, lambda x, rng: -vae.elbo(x, rng, samples).mean(), optimizer

    def evaluate(vae, epoch):
        """On part of the images, with the same noise each time, so that epochs compare."""
        return {part: evaluation.elbo(vae, x[:2000], Generator(3)).mean for part, x in held_out.items()}

    vae, history, _ = run.train(
        f"{s.data}{len(train)}_hidden{hidden}_latents{latents}_samples{samples}_seed{seed}", start, train,
        epochs=s.epochs, batch_size=s.batch, rng=Generator([seed, 1]), prepare=data.fresh, evaluate=evaluate,
    )  # fmt: skip
    final = {part: evaluation.elbo(vae, x, Generator(4)).values for part, x in held_out.items()}
    again = evaluation.elbo(vae, held_out["test"][:2000], Generator(5)).values
    noise = np.std(final["test"][:2000] - again) / np.sqrt(len(again))
    return history, final, noise


def columns(histories):
    """Mean curves of several histories."""
    mean = {part: np.mean([h.column(part) for h in histories], axis=0) for part in ("train", "test")}
    return {"examples": histories[0].column("examples")} | mean


def ends_of(final):
    """Training and test bound, each with its standard error over the images."""
    return {part: mean_and_error(final[part]) for part in ("train", "test")}


PICTURE = "published as a picture only"


def add_rows(table, ends):
    """Rows of :func:`ends_of` by model."""
    for what, bounds in ends.items():
        for part, (mean, error) in bounds.items():
            table.row(f"{what}, {part}", mean, note=f"+- {error:.2f}; {PICTURE}")


def curves_figure(n, title):
    """Bounds on test images (thick) and training images (thin) against training points, by label."""
    axes = plots.figure(7.5, 5.0).add_subplot()
    curves = n.curves.values()
    for i, (label, curve) in enumerate(n.curves.items()):
        style = plots.style(i, len(curve["examples"]))
        axes.plot(curve["examples"], curve["test"], label=label, **style)
        axes.plot(curve["examples"], curve["train"], **(style | plots.THIN))
    lowest = min(curve["test"][len(curve["test"]) // 10] for curve in curves)
    top = max(max(*curve["train"], *curve["test"]) for curve in curves)
    axes.set_ylim(lowest - 0.05 * (top - lowest), top + 0.1 * (top - lowest))
    title = f"{title}, {n.settings.data} (thick: test images, thin: training images)"
    plots.panel(axes, title, "training points evaluated", "lower bound on log p(x), nats per image")
    axes.legend(fontsize=8, loc="lower right")
    return axes.figure


# %% [markdown]
# ## Figure 2: hidden units
#
# The report says nothing about what its Figure 2 shows, so nothing is claimed here.


# %%
@experiment(
    "hidden_units",
    title="the bound for several numbers of hidden units",
    mirrors="review report Figure 2",
    budgets=budgets({"sizes": [10, 25, 50, 100]}, {"sizes": [50, 100, 200, 400]}, {"sizes": [50, 100, 200, 400, 800]}),
    minutes={"quick": 0.4, "laptop": 0.46, "paper": 400},
)
def hidden_units(run):
    """Train with each width."""
    s, curves, ends = run.settings, {}, {}
    for hidden in s.sizes:
        history, final, _ = trained(run, hidden, s.latents)
        label = f"{hidden} hidden units"
        curves[label], ends[label] = columns([history]), ends_of(final)
    return {"curves": curves, "ends": ends}


@hidden_units.table
def _(n, table):
    add_rows(table, n.ends)


@hidden_units.figure()
def _(n):
    return curves_figure(n, f"AEVB with {n.settings.latents} latents: hidden units")


# %% [markdown]
# ## Figure 3: latent variables
#
# The report reads it as generalisation that improves with more latents, and no overfitting. Each number of latents is
# held against the one before on the same test images. Six epochs of pixels drawn anew cannot overfit: the end of the
# test curve of the largest model says something about it only in longer runs; the gap between the images trained on and
# the others is in the table.


# %%
@experiment(
    "latents",
    title="the bound for several numbers of latent variables",
    mirrors="review report Figure 3",
    budgets=budgets({"sizes": [2, 5, 10, 20]}, {"sizes": [2, 5, 10, 20, 50]}, {"sizes": [2, 5, 10, 20, 50, 100, 200]}),
    minutes={"quick": 0.4, "laptop": 1, "paper": 800},
)
def latent_variables(run):
    """Train with each number; compare neighbours on the same test images."""
    s, curves, ends, gains, noises, before = run.settings, {}, {}, {}, {}, None
    for latents in s.sizes:
        history, final, noises[str(latents)] = trained(run, s.hidden, latents)
        label = f"{latents} latents"
        curves[label], ends[label] = columns([history]), ends_of(final)
        if before is not None:
            gains[str(latents)] = mean_and_error(final["test"] - before)
        before = final["test"]
    return {"curves": curves, "ends": ends, "gains": gains, "noise": noises}


@latent_variables.table
def _(n, table):
    add_rows(table, n.ends)
    sizes, real = n.settings.sizes, n.settings.data != "digits"
    sentence = (
        "generalisation on MNIST indeed improves with more latent variables, and does not lead to overfitting as the "
        "generative model contains higher number of latent variables that needs to be inferred."
    )
    says = table.says("review report 4.1.2", sentence, seeds=1)
    for before, latents in zip(sizes, sizes[1:], strict=False):
        gain, error = n.gains[str(latents)]
        label = f"test bound with {latents} latents less that with {before}"
        says(gain, ">=", 0.0, 0.0, label, standard_error=error)
    for latents in sizes:
        (train, error), (test, other) = (n.ends[f"{latents} latents"][part] for part in ("train", "test"))
        table.row(f"{latents} latents, train less test", train - test, note=f"+- {np.hypot(error, other):.2f}")
    short = {"short": f"{n.settings.epochs} epochs cannot overfit"} if real and n.settings.epochs < 100 else {}
    test, error = n.curves[f"{latents} latents"]["test"], float(n.noise[str(latents)])
    says = table.says("review report 4.1.2", sentence, seeds=1, **short)
    label = f"{latents} latents: test bound after the last epoch, and half way"
    says(test[-1], ">=", test[(len(test) - 1) // 2], 0.0, label, standard_error=np.sqrt(2) * error)


@latent_variables.figure()
def _(n):
    return curves_figure(n, f"AEVB with {n.settings.hidden} hidden units: latents")


# %% [markdown]
# ## Figure 4: samples a datum
#
# The report finds the test result independent of L. Several seeds show how much it varies by itself. Fewer samples mean
# noisier gradients, hence slower learning at equal training points: at `laptop` the step size falls to nearly nothing,
# which takes that noise away at the end, and the gain of more samples along the way is in the table. The gap between
# training and test images, which is generalisation proper, is compared as well.


# %%
@experiment(
    "samples",
    title="the bound for several numbers of samples a datum",
    mirrors="review report Figure 4",
    budgets=budgets(
        {"sizes": [1, 5], "seeds": 3},
        {"sizes": [1, 5], "seeds": 3, "count": 10000, "epochs": 40, "falling": True},
        {"sizes": [1, 5, 10, 50], "seeds": 3},
    ),
    minutes={"quick": 0.6, "laptop": 2, "paper": 60 * 200},
)
def samples_a_datum(run):
    """Train with each L from several seeds: curves, and the bounds of each seed at the end."""
    s, curves, ends = run.settings, {}, {}
    for samples in s.sizes:
        runs = [trained(run, s.hidden, s.latents, samples, run.seed + i) for i in range(s.seeds)]
        curves[f"L = {samples}"] = columns([history for history, _, _ in runs])
        ends[f"L = {samples}"] = {part: [final[part].mean() for _, final, _ in runs] for part in ("train", "test")}
    return {"curves": curves, "ends": ends}


@samples_a_datum.table
def _(n, table):
    s = n.settings
    ends = {name: bounds | {"train less test": bounds["train"] - bounds["test"]} for name, bounds in n.ends.items()}
    first, *others = ends
    errors = {}
    says = table.says(
        "review report 4.1.2", "the test results for different samples are the same, showing that the generalisation "
        "performance for AEVB is independent of the number of samples taken from the recognition model.", seeds=s.seeds,
    )  # fmt: skip
    for part in ends[first]:
        spread = np.sqrt(np.mean([bounds[part].var(ddof=1) for bounds in ends.values()]))  # over seeds, pooled
        errors[part] = spread * np.sqrt(2 / s.seeds)
        for name, bounds in ends.items():
            note = f"mean of {s.seeds} seeds, spread of one {spread:.2f}; {PICTURE}"
            table.row(f"{name}, {part}", bounds[part].mean(), note=note)
    for name in others:
        for part, error in errors.items():
            gain = ends[name][part].mean() - ends[first][part].mean()
            what = f"{part}, {name} less {first}"
            table.row(what, gain, note=f"+- {error:.2f}")
            if part != "train":
                says(gain, "=", 0.0, 0.0, what, standard_error=error)
        here, there = (n.curves[which]["test"] for which in (name, first))
        for epoch in sorted({len(here) // 8, len(here) // 4, len(here) // 2, len(here)} - {0}):
            what = f"test, {name} less {first}, after epoch {epoch}"
            table.row(what, here[epoch - 1] - there[epoch - 1], note=f"mean of {s.seeds} seeds, 2,000 images at most")


@samples_a_datum.figure()
def _(n):
    return curves_figure(n, f"AEVB with {n.settings.latents} latents: samples a datum")


# %% [markdown]
# ## What to try next
#
# - `minivi run report_review --budget laptop`: the figures for MNIST.
# - More samples make less noise, not a better bound. At equal *time*, what do they cost?
# - Replace the mean over samples by `bounds.iwae`: now L matters. Why?
