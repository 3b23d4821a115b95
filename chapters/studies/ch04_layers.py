"""Chapter 4: several layers of latent variables (thesis sections 4.1, 4.1.1, 5.B.1, 5.B.2 and 5.B.8).

A prior with layers of its own is more flexible, but are they used? Inference may go from the data upwards, against the
arrows of the generative model, or downwards along them, sharing its priors. Which way, and which objective, keeps the
upper layers in use?
"""

# %% [markdown]
# Any two directed graphs make a model. The samples of q come one by one in its topological order, each a function of
# noise and parents (eq. 4.1-4.5); then every arrow of both graphs is scored at them:
#
#     z_l = g_l(eps_l, Pa(z_l)),     log w = sum_v log p(v | Pa(v)) - sum_l log q(z_l | Pa(z_l))
#
# Here p(x, z) = p(x | z_1) p(z_1 | z_2) ... p(z_L) is the same for all; inference is one of
#
#     bottom-up    q(z_1 | x) q(z_2 | z_1) ...                                                    Figure 4.1 (a)
#     separate     q(z_L | x) ... q(z_1 | z_2, x), networks of its own                            Figure 4.1 (b)
#     shared       the same, from the features h_l(p) that the prior p(z_l | z_l+1) is made of    section 5.B.2
#     precision    the same, q = p(z_l | z_l+1) l(z_l; x) / Z with a learned Gaussian l           section 4.1.1
#
# Section 5.B.1 says z_1 -> z_2 -> z_3 -> x where its factorisation has z_3 on top, as here. Section 5.B.2 writes
# h^(p) for the bottom-up unit's input, which is h^(q).

# %%
import numpy as np
from matplotlib.ticker import MaxNLocator

from minivi import bounds, data, evaluation, nn, optim, plots
from minivi.experiments import experiment
from minivi.experiments.results import gain_over_seeds, mean_and_error
from minivi.models.directed import layers
from minivi.random import Generator

# %% [markdown]
# ## Settings
#
# The thesis compares the directions on CIFAR-10, with convolutional residual networks (Tables 5.B.1 and 5.B.2), and
# cites Sønderby et al. (2016) for MNIST. `paper` has the latter's sizes and epochs, without batch normalisation, whose
# noise section 5.B.6 found to hurt; `laptop` and `quick` are smaller and stop much earlier. All have ELU (5.B.7), Adam
# (section 4.1 says SGD of any kind) with a step size that falls to 0 in the second half, and fresh binary pixels in
# each minibatch. "hidden" are the layers below each stochastic layer.

# %%
MODELS = {
    "digits": {"hidden": [[32], [16], [16]], "latents": [8, 4, 4]},
    "mnist": {"hidden": [[200, 200], [100], [50]], "latents": [32, 16, 8]},
    "paper": {"hidden": [[512], [256], [128], [64], [64]], "latents": [64, 32, 16, 8, 4]},
}
TOP_DOWN = "separate", "shared", "precision"
QUICK = {"data": "digits", "split": "1500/297", **MODELS["digits"], "epochs": 30, "batch": 100, "step_size": 5e-3}
QUICK |= {"images": 297, "samples": 200, "seeds": 1}
LAPTOP = {"data": "mnist", "split": "60000/10000", **MODELS["mnist"], "epochs": 15, "batch": 100, "step_size": 2e-3}
LAPTOP |= {"images": 1000, "samples": 500, "seeds": 1}
PAPER = {"data": "mnist", "split": "60000/10000", **MODELS["paper"], "epochs": 2000, "batch": 256, "step_size": 1e-3}
PAPER |= {"images": 10000, "samples": 5000, "seeds": 5}
DIRECTIONS = {
    "quick": QUICK | {"depths": {2: 1, 3: 1}},  # number of stochastic layers: number of seeds
    "laptop": LAPTOP | {"depths": {2: 2, 3: 1}},
    "paper": PAPER | {"depths": {2: 5, 3: 5, 5: 5}},
}
# Lambda of section 5.B.8, in nats for each latent. The groups of eq. 5.33 are what shares parameters, there feature
# maps; here each layer is one group, so that its minimum is lambda times its size.
FREE_BITS = {
    "quick": QUICK | {"depth": 3, "lambdas": [0.25, 1.0]},
    "laptop": LAPTOP | {"depth": 3, "lambdas": [0.25, 1.0]},
    "paper": PAPER | {"depth": 5, "lambdas": [0.125, 0.25, 0.5, 1.0]},
}

# %% [markdown]
# ## Training
#
# The bound comes in parts: a reconstruction term, and for each layer E_q[log q(z_l | .) - log p(z_l | .)] by samples.
# Top-down each is a mean of divergences. Bottom-up those of the lower layers are not: p(z_1 | z_2) is scored at a z_1
# from which z_2 was drawn. But the sum over all layers above the lowest is a divergence either way, of
# q(z_2, ..., z_L | z_1) or q(z_2, ..., z_L | x) from the prior p(z_2, ..., z_L): "KL above the lowest layer" below.


# %%
PLAIN = "lambda = 0"


def new_model(s, train, depth, inference, seed):
    """The lowest ``depth`` layers of the settings' sizes."""
    return layers(
        train.shape[1], s.hidden[:depth], s.latents[:depth], inference, rng=Generator([seed, 1]), activation="elu",
        output_bias=nn.logit_of_mean(train),
    )  # fmt: skip


def objectives(sizes, lambdas):
    """Name and objective(reconstruction (B,), kl (B, L), weight) of each bound that is maximised."""
    plain = lambda reconstruction, kl, weight: (reconstruction - kl.sum(axis=1)).mean()
    annealed = lambda reconstruction, kl, weight: (reconstruction - weight * kl.sum(axis=1)).mean()
    free = {
        f"lambda = {m:g}": lambda reconstruction, kl, weight, m=m: bounds.free_bits(reconstruction, kl, m * sizes)
        for m in lambdas
    }
    return {PLAIN: plain} | free | {"annealing": annealed}


def trained(run, depth, inference, seed, name="annealing"):
    """A model, and its history with "reconstruction" and "kl" by layer; trained once for both experiments."""
    s, images = run.settings, run.images()
    half = s.epochs * -(-len(images.train) // s.batch) / 2
    seen = data.fresh(images.train[:2000], Generator(4))

    def start():
        model = new_model(s, images.train, depth, inference, seed)
        objective = objectives(np.array(s.latents[:depth]), getattr(s, "lambdas", []))[name]
        optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))

        def loss(x, rng):
            return -objective(*model.reconstruction_and_kl(x, rng), bounds.warm_up(optimizer.steps, half))

        return model, loss, optimizer

    def evaluate(model, epoch):
        terms = model.detached().terms(seen, Generator([5, epoch]))
        return {
            "reconstruction": float(np.mean(terms.reconstruction)),
            "kl": np.mean(terms.kl, axis=0, dtype=float).tolist(),
        }

    model, history, _ = run.train(
        f"{s.data}_{depth}_{inference}_{name}_seed{seed}".replace(" ", ""), start, images.train, epochs=s.epochs,
        batch_size=s.batch, rng=Generator([seed, 2]), prepare=data.fresh, evaluate=evaluate,
    )  # fmt: skip
    return model, history


def scores_of(run, model):
    """The bound of all test images and log p-hat of some, :class:`minivi.evaluation.Estimate`; KL and active units.

    A unit of a lower layer may be active by what it gets from above: its mean varies with z_l+1, if with x no further.
    So KL by layer is the better measure of what a layer adds.
    """
    s, test = run.settings, data.fresh(run.images().test, Generator(3))
    kl = [np.asarray(model.detached().terms(test, Generator([6, i])).kl, float).mean(axis=0) for i in range(3)]
    x = test[: s.images]
    return {
        "bound": evaluation.bound(model, test, Generator(7), 5, bounds.elbo),
        "log p": evaluation.log_likelihood(model, x, Generator(8), s.samples, run.progress),
        "kl": np.mean(kl, axis=0),
        "active": np.array([evaluation.active_units(model, x, level=z, rng=Generator(9)) for z in model.latents]),
    }


ESTIMATES = "bound", "log p"


def means_of(scores):
    """The scores of a model with estimates' means alone."""
    return scores | {key: scores[key].mean for key in ESTIMATES}


def errors_of(scores):
    """Standard errors of the estimates over images, the mean over seeds; ``scores`` are those of each seed."""
    return {key: np.mean([one[key].standard_error for one in scores]) for key in ESTIMATES}


def curves_of(history):
    """What the figures draw, as arrays over epochs."""
    return {"reconstruction": -history.column("reconstruction"), "kl": history.column("kl")}


def add_rows(table, s, name, scores, errors, published=None):
    """The table's rows of one kind of model; ``scores`` are those of each seed."""
    seeds = f"; mean of {len(scores)} seeds" if len(scores) > 1 else ""
    bound, log_p, kl, active = (np.mean([one[key] for one in scores], axis=0) for key in (*ESTIMATES, "kl", "active"))
    table.row(f"{name}, bound", bound, note=f"+- {errors['bound']:.2f}, {s.epochs} epochs{seeds}")
    about = "; published: LVAE of Table 5.1, 5 layers, 2000 epochs" if published else ""
    note = f"+- {errors['log p']:.2f}, {s.images} images{about}"
    table.row(f"{name}, log p-hat", log_p, published, note=note)
    by_layer = "from the lowest layer: " + ", ".join(f"{k:.2f}" for k in kl)
    table.row(f"{name}, KL above the lowest layer", kl[1:].sum(), note=by_layer)
    units = ", ".join(f"{a:g} of {j}" for a, j in zip(active, s.latents[: len(active)], strict=True))
    table.row(f"{name}, active units above it", active[1:].sum(), unit="", note=f"from the lowest: {units}")


SHADES = "#111111", "#777777", "#bbbbbb", "#e4e4e4", "#555555"


def stack_figure(curves, columns, title):
    """Nats to encode an image, by layer from the bottom: hatched is the reconstruction term (Figure 5.B.4)."""
    rows = -(-len(curves) // columns)
    fig = plots.figure(2.6 * columns + 1.2, 2.5 * rows + 0.7)
    panels = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    ends = np.array(
        [[c["reconstruction"].min(), (c["reconstruction"] + c["kl"].sum(axis=1))[0]] for c in curves.values()]
    )
    for axes, (name, c) in zip(panels.ravel(), curves.items(), strict=False):
        epochs = np.arange(1, len(c["kl"]) + 1)
        parts = axes.stackplot(
            epochs, c["reconstruction"], *np.maximum(c["kl"], 0.0).T, colors=["#ffffff", *SHADES],
            edgecolor="black", linewidth=0.4,
        )  # fmt: skip
        parts[0].set(hatch="////", edgecolor="#777777")  # white above the stack is nothing
        axes.set_title(name, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlim(1, len(epochs))
        axes.set_ylim(0.9 * ends[:, 0].min(), 1.02 * ends[:, 1].max())
        axes.tick_params(labelsize=8)
        if len(parts) == 1 + max(x["kl"].shape[1] for x in curves.values()):
            legend = parts
    names = ["reconstruction", *(f"$z_{l}$" for l in range(1, len(legend)))]
    fig.legend(legend[::-1], names[::-1], fontsize=8, loc="outside right center")
    fig.supxlabel("epochs", fontsize=9)
    fig.supylabel("nats per training image (axis cut)", fontsize=9)
    fig.suptitle(title, fontsize=10)
    return fig


# %% [markdown]
# ## Section 4.1.1: the direction of inference
#
# The text: inference in the direction of generation can share parameters with it, learns faster and ends better. Its
# tables are of two minds about the bound: with factorised Gaussians and 4 blocks, bidirectional inference gains 0.01
# bits per dimension in Table 5.B.1, and loses 0.03 in Table 5.B.2; it gains with IAF. Claimed here: more nats and more
# active units above the lowest layer by each of the top-down variants, a bound that is not worse than bottom-up, and
# one that is not worse with shared parameters than with separate ones.
#
# All are trained with annealing over the first half, as Sønderby et al. did. (By the plain bound the precision-weighted
# model stays long near q = p, where l says nothing and the scale of p does not matter: see `free_bits`, lambda = 0. The
# first runs here were by the plain bound; annealing, for all variants alike, was chosen after that had been seen.)


# %%
@experiment(
    "directions",
    title="two and three latent layers, inferred bottom-up or top-down",
    mirrors="thesis section 4.1.1, Figures 4.1 and 5.B.4, Table 5.B.2 (inference direction)",
    budgets=DIRECTIONS,
    minutes={"quick": 0.5, "laptop": 15, "paper": 60 * 24 * 20},
)
def directions(run):
    """Train each variant from the same generative weights on the same minibatches."""
    curves, scores, errors, gains = {}, {}, {}, {}
    for depth, seeds in run.settings.depths.items():
        bounds_of = {}
        for inference in ("bottom-up", *TOP_DOWN):
            models = [trained(run, depth, inference, run.seed + i) for i in range(seeds)]
            by_seed = [scores_of(run, model) for model, _ in models]
            name = f"{depth} layers, {inference}"
            curves[name] = curves_of(models[0][1])
            scores[name] = [means_of(one) for one in by_seed]
            errors[name] = errors_of(by_seed)
            bounds_of[inference] = [one["bound"].values for one in by_seed]
            gains[name] = {
                other: gain_over_seeds(bounds_of[inference], bounds_of[other])
                for other in ("bottom-up", "separate")
                if other in bounds_of
            }
    return {"curves": curves, "scores": scores, "errors": errors, "gains": gains}


@directions.table
def _(n, table):
    s = n.settings
    for depth in s.depths:
        for inference in ("bottom-up", *TOP_DOWN):
            name, deepest = f"{depth} layers, {inference}", max(s.depths, key=int)
            published = -81.74 if s.data == "mnist" and (depth, inference) == (deepest, "precision") else None
            add_rows(table, s, name, n.scores[name], n.errors[name], published)
        claims_of(n, table, depth)


def claims_of(n, table, depth):
    """What the text says of top-down inference, on the means over seeds."""
    above = lambda inference, key: np.mean([one[key][1:].sum() for one in n.scores[f"{depth} layers, {inference}"]])
    for inference in TOP_DOWN:
        name = f"{depth} layers, {inference}"
        label = f"{name}: KL above the lowest layer, at least bottom-up's, nats"
        table.claim(above(inference, "kl"), ">=", above("bottom-up", "kl"), 0.0, label)
        label = f"{name}: active units above the lowest layer, at least bottom-up's"
        table.claim(above(inference, "active"), ">=", above("bottom-up", "active"), 0.0, label)
        claim_gain(n, table, name, "bottom-up")
    for inference in ("shared", "precision"):
        claim_gain(n, table, f"{depth} layers, {inference}", "separate")


def claim_gain(n, table, name, other):
    """Claim that a model's bound is not below that of ``other`` inference."""
    gain, error = n.gains[name][other]
    label = f"{name}: the bound's gain over {other} is not negative (2 standard errors)"
    table.claim(gain, ">=", 0.0, 2 * error, label)


@directions.figure()
def _(n):
    return stack_figure(n.curves, 4, f"What each layer costs while training, {n.settings.data} (first seed)")


# %% [markdown]
# ## Section 5.B.8: free bits and annealing on each layer
#
# Eq. 5.33 with a group for each layer:
#
#     mean_x E_q[log p(x | z)] - sum_l max(lambda J_l, mean_x E_q[log q(z_l | .) - log p(z_l | .)])
#
# Bottom-up the lower layers' terms are no divergences, and the constraint is on what they are. The text: with
# lambda > 0 "fuller use" of the layers, and better results for lambda of 0.125 to 2 nats a group of feature maps. 1 nat
# for each of the 56 latents at `laptop` is about twice what the plain bound pays for a digit.


# %%
FREE_BITS_INFERENCE = "bottom-up", "precision"


@experiment(
    "free_bits",
    title="free bits and annealing on each layer, in both directions",
    mirrors="thesis Figure 5.B.4, section 5.B.8, eq. 5.33",
    budgets=FREE_BITS,
    minutes={"quick": 0.5, "laptop": 7.9, "paper": 60 * 24 * 6},
)
def free_bits(run):
    """Train bottom-up and with precision-weighted inference by each objective."""
    s = run.settings
    curves, scores, errors, changes = {}, {}, {}, {}
    for inference in FREE_BITS_INFERENCE:
        plain = None
        for objective in objectives(np.array(s.latents[: s.depth]), s.lambdas):
            model, history = trained(run, s.depth, inference, run.seed, objective)
            name = f"{inference}, {objective}"
            one = scores_of(run, model)
            curves[name], scores[name], errors[name] = curves_of(history), means_of(one), errors_of([one])
            plain = one["log p"] if plain is None else plain
            changes[name] = mean_and_error(one["log p"].values - plain.values)
    return {"curves": curves, "scores": scores, "errors": errors, "changes": changes}


@free_bits.table
def _(n, table):
    s = n.settings
    sizes = np.array(s.latents[: s.depth])
    for inference in FREE_BITS_INFERENCE:
        for objective in objectives(sizes, s.lambdas):
            name = f"{inference}, {objective}"
            add_rows(table, s, name, [n.scores[name]], n.errors[name])
            if objective not in (PLAIN, "annealing"):
                minimum = float(objective.split()[-1])
                label = f"{name}: least KL of a layer over lambda times its size (tolerance 5 %)"
                table.claim((n.curves[name]["kl"][-1] / (minimum * sizes)).min(), ">=", 1.0, 0.05, label)
            if objective != PLAIN:
                above, plain = (n.scores[key]["kl"][1:].sum() for key in (name, f"{inference}, {PLAIN}"))
                table.claim(above, ">=", plain, 0.0, f"{name}: more KL above the lowest layer than with lambda = 0")
        best = max((f"{inference}, lambda = {m:g}" for m in s.lambdas), key=lambda name: n.scores[name]["log p"])
        change, error = n.changes[best]
        label = f"{best}: log p-hat not below that with lambda = 0 (2 standard errors)"
        table.claim(change, ">=", 0.0, 2 * error, label)


@free_bits.figure()
def _(n):
    s = n.settings
    return stack_figure(n.curves, 2 + len(s.lambdas), f"Free bits and annealing on each layer, {s.data}")


# %% [markdown]
# ## What to try next
#
# - `layers(..., "skip")`: q(z_2 | z_1, x), as section 5.B.1 has it. Does the bottom-up order use the upper layer now?
# - Posteriors by IAF in each layer: a conditional may return a `FlowPosterior` with h^(q) and h^(p) as its context.
# - A group of eq. 5.33 for each latent: the terms of `Normal.kl_per_dimension`, top-down.
