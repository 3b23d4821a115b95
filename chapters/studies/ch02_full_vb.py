"""Chapter 2, full variational Bayes (thesis appendix 2.C; AEVB report section 5; review report section 4.1.1).

Can the weights be latent variables as well? The same trick samples them, and the bound becomes one on log p(X) of the
whole data set. The AEVB report tried, saw enormous negative numbers, and stopped. What went wrong, and what trains?
"""

# %% [markdown]
# The decoder's weights and biases theta get a prior N(0, I) and a posterior N(mu_theta, diag(sigma_theta^2)); eq. 2.88
# prints sigma^2 I for the diagonal. With z = mu(x) + sigma(x) * eps and theta = mu_theta + sigma_theta * zeta:
#
#     log p(X)  >=  L(phi; X) = E_q(theta)[sum_i L(theta, phi; x_i)] - KL(q(theta) || p(theta))            (2.78, 2.79)
#     f = N (log p(x | z) + log p(z) - log q(z | x)) + log p(theta) - log q(theta)                          (2.86)
#
# Its sampled mean is estimator A (eq. 2.87); with both divergences in closed form it is estimator B (eq. 2.89, in which
# a bar is missing from p(x | z)). N counts the data: each datum's share of the weights' divergence is KL / N.

# %%
import re

import numpy as np

from minivi import data, evaluation, nn, optim, plots
from minivi.experiments import experiment
from minivi.models import VAE, FullVB
from minivi.random import Generator
from minivi.tensor import grad
from minivi.training import TrainingError

# %% [markdown]
# ## Settings
#
# `paper` has the sizes and the optimisation of section 2.11: AdaGrad with the best of three step sizes, weights from
# N(0, 0.01), a variance. The documents print neither the initial sigma nor the latents. The smaller budgets use Adam
# with Glorot's initial weights, fewer epochs, and fewer hidden units for MNIST.

# %%
ADAM = {"optimizer": "adam", "step_sizes": [1e-3], "batch": 100, "draws": 4, "latents": 10}
ADAGRAD = ADAM | {"optimizer": "adagrad", "step_sizes": [0.01, 0.02, 0.1]}
DIGITS = {"data": "digits", "split": "1500/297", "hidden": 50, "epochs": 40, "images": 297, **ADAM}

LOCAL = "sigma = 0.01, local noise"

# Initial sigma of all weights, whether the noise is local, and whether the weight of their divergence grows from 0 to 1
# in the first half of the training.
VARIANTS = {
    "sigma = 1": (1.0, False, False),
    "sigma = 1, local noise": (1.0, True, False),
    "sigma = 0.1, local noise": (0.1, True, False),
    "sigma = 0.01": (0.01, False, False),
    LOCAL: (0.01, True, False),
    "sigma = 0.01, local noise, KL annealed": (0.01, True, True),
}
AEVB = "AEVB, point estimate"


# %% [markdown]
# ## Training
#
# The loss is minus the bound's share of a datum. `model.vae` is the model with mean weights, so that both kinds of
# prediction come from the same bound.


# %%
def start(variant, likelihood, images, settings, seed):
    """A new model: a VAE, or full VB around one."""
    init = nn.glorot if settings.optimizer == "adam" else nn.normal(0.1)
    vae = VAE(
        images.train.shape[1], (settings.hidden,), settings.latents, likelihood, rng=Generator([seed, 1]), init=init
    )
    if variant == AEVB:
        return vae
    scale, local, _ = VARIANTS[variant]
    return FullVB(vae, len(images.train), scale, local=local)


def optimizer_for(model, settings, step_size, count):
    """Adam, or the text's AdaGrad; point estimates have the prior as weight decay, full VB has it in its bound."""
    if settings.optimizer == "adam":
        return optim.Adam(model.parameters(), step_size)
    return optim.AdaGrad(model.parameters(), step_size, weight_decay=0.0 if isinstance(model, FullVB) else 1.0 / count)


def loss_for(variant, model, optimizer, steps):
    """Minus the mean bound of a minibatch; ``steps`` is the length of the whole training."""
    if variant == AEVB:
        return lambda x, rng: -model.elbo(x, rng).mean()
    if not VARIANTS[variant][2]:
        return lambda x, rng: -model.elbo(x, rng, estimator="B").mean()
    return lambda x, rng: -model.elbo(x, rng, kl_weight=min(1.0, 2.0 * optimizer.steps / steps)).mean()


def measure(model, held_out, seed, draws):
    """A datum's bound on the training images, predictive bounds on the test images, and KL / N; all in nats."""
    if isinstance(model, VAE):
        train, test = (evaluation.elbo(model, held_out[k], Generator(seed), draws) for k in ("train", "test"))
        return {"train": train.mean, "test": test.mean, "mean weights": test.mean, "kl": 0.0, "se": test.standard_error}
    kl = model.kl().item() / model.count
    train, test = (evaluation.elbo(model, held_out[k], Generator(seed), draws) for k in ("train", "test"))
    means = evaluation.elbo(model.vae, held_out["test"], Generator(seed), draws)
    # A new datum is no part of X: the weights' divergence is not its cost.
    return {
        "train": train.mean, "test": test.mean + kl, "mean weights": means.mean, "kl": kl, "se": test.standard_error
    }  # fmt: skip


def drowned(model):
    """The share of the decoder's hidden units whose outgoing weights are noise: root mean square of mu below sigma."""
    if isinstance(model, VAE):
        return 0.0
    signal = np.mean(np.square(np.asarray(model.mu[2])), axis=1)
    noise = np.mean(np.exp(2.0 * np.asarray(model.log_sigma[2])), axis=1)
    return float(np.mean(signal < noise))


def noise_ratio(model, x, rng, draws=20):
    """The gradient's variance that sampled weights bring, over that of local noise: all parameters, same x and eps."""
    total, local = [], model.local
    eps = rng.standard_normal((1, len(x), model.vae.latents), dtype=model.dtype)
    for model.local in (False, True):
        gradients = [grad(model.elbo(x, rng, eps=eps).mean(), model.parameters()) for _ in range(draws)]
        total.append(sum(np.var(g, axis=0, ddof=1).sum(dtype=np.float64) for g in zip(*gradients, strict=True)))
    model.local = local
    return total[0] / total[1]


def train(run, variant, likelihood, images, held_out):
    """Train one variant: the model and its records, epoch 0 being the initial state; NaN ends a run that diverges."""
    s = run.settings
    prepare = data.fresh if likelihood == "bernoulli" else None
    steps = -(-len(images.train) // s.batch)

    def go(step_size, x, epochs, evaluate):
        model = start(variant, likelihood, images, s, run.seed)
        optimizer = optimizer_for(model, s, step_size, len(images.train))
        loss = loss_for(variant, model, optimizer, epochs * steps)
        name = re.sub("[^a-z0-9.]+", "_", f"{s.data} {likelihood} {variant} {len(x)} {step_size}".lower())
        records = [evaluate(model)]

        def after(epoch):
            records.append(evaluate(model))
            return records[-1]

        try:
            history = run.fit(
                name, model, loss, optimizer, x, epochs=epochs, batch_size=s.batch, rng=Generator([run.seed, 3]),
                prepare=prepare, evaluate=after,
            )  # fmt: skip
            records[1:] = history.records  # a resumed run's first epochs are only there
        except TrainingError as error:
            if "the loss became" not in str(error):
                raise
            records.append(dict.fromkeys(["train", "test", "mean weights", "loss"], float("nan")))
        return model, records

    step_size = s.step_sizes[0]
    if len(s.step_sizes) > 1:  # the best bound in the first iterations, as the text chooses
        first = images.train[: 200 * s.batch]
        losses = {size: go(size, first, 1, lambda model: {})[1][-1]["loss"] for size in s.step_sizes}
        step_size = min(losses, key=lambda size: np.nan_to_num(losses[size], nan=np.inf))
    return go(step_size, images.train, s.epochs, lambda model: measure(model, held_out, [4, run.seed], s.draws))


def compare(run, likelihood):
    """All variants on one data set: their records, and of those that did not diverge how much is drowned in noise."""
    s, images = run.settings, run.images()
    held_out = {"train": images.train[: s.images], "test": images.test[: s.images]}
    if likelihood == "bernoulli":
        held_out = {k: data.fresh(x, Generator(2)) for k, x in held_out.items()}
    curves, shares, ratio = {}, {}, np.nan
    for variant in (AEVB, *VARIANTS):
        model, curves[variant] = train(run, variant, likelihood, images, held_out)
        if np.isnan(curves[variant][-1]["train"]):
            continue
        shares[variant] = drowned(model)
        if variant == LOCAL:
            ratio = noise_ratio(model, held_out["train"][: s.batch], Generator([run.seed, 5]))
    return {"curves": curves, "drowned": shares, "variance_ratio": ratio, "count": len(images.train)}


# %% [markdown]
# ## The AEVB report's numbers
#
# It prints, for random initialisation, -57463.05 and -5434312.97 on binary images ("discrete"), -53582.48 and
# -245029.92 on grey ones ("continuous"). A ten-thousandth of the second is -543.43 nats: -784 log 2, the bound of a
# decoder that says 1/2 for every pixel of MNIST. The fourth over 465 is -526.95, and N(x; 1/2, 1) gives Frey faces
# -526.4 each: 465 is what 1,500 training frames leave. So both seem sums over a validation set, of a model that has not
# learned. The others, if sums over a minibatch of 100, are -574.6 and -535.8 nats an image, as of small random weights.
# Such numbers say little against full VB: any untrained VAE has them. With sigma = 1, the prior's own, it does fail,
# and far worse.


# %%
def silent(images, likelihood, size):
    """The total bound over ``size`` images of a decoder whose every weight is 0, from the mean over ``images``."""
    x = np.concatenate([images.train, images.test])[-10_000:] if likelihood == "gaussian" else images.test
    x = x if likelihood == "gaussian" else data.fresh(x, Generator(5))
    vae = VAE(x.shape[1], (1,), 1, likelihood, rng=Generator(0), init=nn.normal(0.0))
    return size * evaluation.elbo(vae, x, Generator(6)).mean


@experiment(
    "full_vb",
    title="posteriors over the decoder's weights too: what fails and what trains, binary images",
    mirrors="thesis appendix 2.C, AEVB report section 5",
    budgets={
        "quick": DIGITS,
        "laptop": {"data": "mnist", "split": "60000/10000", "hidden": 200, "epochs": 4, "images": 2000, **ADAM},
        "paper": {
            "data": "mnist",
            "split": "50000/10000/10000",
            "hidden": 500,
            "epochs": 500,
            "images": 10000,
            **ADAGRAD,
        },
    },
    minutes={"quick": 0.4, "laptop": 0.65, "paper": 60 * 30},
)
def full_vb(run):
    """Bernoulli decoder; the silent one over 10,000 images too, where the report's data are MNIST."""
    known = run.settings.data == "mnist"
    return {"silent": silent(run.images(), "bernoulli", 10_000) if known else None, **compare(run, "bernoulli")}


@full_vb.table
def _(n, table):
    """The report's discrete bounds, of MNIST."""
    if n.silent is not None:
        theirs = -5434312.97123
        note = "the report's discrete validation bound"
        table.row("a decoder that says 1/2, 10,000 images", n.silent, theirs, note=note)
        note = "its training bound, if of a minibatch"
        table.row("the same, 100 images", n.silent / 100, -57463.0461588, note=note)
        note = "the report's by image, less a silent decoder's"
        table.row("its distance from ours", (theirs - n.silent) / 1e4, unit="nats", note=note)


@experiment(
    "full_vb_frey",
    title="posteriors over the decoder's weights too: what fails and what trains, grey images",
    mirrors="thesis appendix 2.C, AEVB report section 5",
    budgets={
        "quick": DIGITS,
        "laptop": {"data": "frey", "split": "1765/200", "hidden": 200, "epochs": 60, "images": 200, **ADAM},
        "paper": {"data": "frey", "split": "1765/200", "hidden": 200, "epochs": 5000, "images": 200, **ADAGRAD},
    },
    minutes={"quick": 0.4, "laptop": 0.52, "paper": 60 * 4},
)
def full_vb_frey(run):
    """Gaussian decoder with means in (0, 1); the prior's sigma = 1 makes its precisions overflow."""
    known = run.settings.data == "frey"
    totals = [silent(run.images(), "gaussian", size) for size in (465, 100)] if known else None
    return {"silent": totals, **compare(run, "gaussian")}


@full_vb_frey.table
def _(n, table):
    """The report's continuous bounds, of Frey faces."""
    if n.silent is not None:
        note = "the report's continuous validation bound, if of 465 frames"
        table.row("N(x; 1/2, 1), 465 frames", n.silent[0], -245029.915134, note=note)
        table.row("the same, 100 frames", n.silent[1], -53582.4758831, note="its training bound, if of a minibatch")


# %% [markdown]
# ## What both show


# %%
def column(records, name):
    """One of the records' numbers after each epoch; NaN from where the run diverged."""
    return np.array([record[name] for record in records], float)


@full_vb.table
@full_vb_frey.table
def _(n, table):
    """Three rows a variant; the claims take the last finite state of a run that diverged."""
    ends = {}
    for variant, records in n.curves.items():
        last, begun = records[-1], column(records, "train")[0]
        test = column(records, "test")
        ends[variant] = test[np.isfinite(test)][[0, -1]]
        if last["train"] is None:
            note = f"diverged from {begun:.1e}: the squares of the gradients overflow"
            table.row(f"{variant}: bound, train", None, note=note)
            continue
        note = f"initially {begun:.1f}"
        if variant != AEVB:
            share = n.drowned[variant]
            note += f"; {last['kl']:.1f} are the weights' KL; {share:.0%} of hidden units below their noise"
        table.row(f"{variant}: bound, train", last["train"], note=note)
        table.row(f"{variant}: test", last["test"], note=f"standard error {last['se']:.2f}")
        if variant != AEVB:
            table.row(f"{variant}: test, mean weights", last["mean weights"])
    table.row("gradient variance, weight over local noise", n.variance_ratio, unit="times", note=LOCAL)
    (first, point), (_, wide), (_, local) = (ends[variant] for variant in (AEVB, "sigma = 1", LOCAL))
    errors = {variant: records[-1].get("se") or 0.0 for variant, records in n.curves.items()}
    says = table.says("AEVB report 5", "Tried FVB on random initialisation, however performed really badly", seeds=1)
    label = "test bound: sigma = 1, the prior's, against a decoder that has learned nothing"
    says(wide, "<=", first, 0.0, label, standard_error=np.hypot(errors["sigma = 1"], errors[AEVB]))
    says = table.says(
        "thesis 2.C",
        "As explained, it is possible to perform variational inference on both the parameters and the latent variables "
        "z, as opposed to just the latent variables as we did in this work.",
        seeds=1,
    )
    label = f"test bound, {LOCAL}, against a decoder that has learned nothing"
    says(local, ">=", first, 0.0, label, standard_error=np.hypot(errors[LOCAL], errors[AEVB]))
    share = 100 * (local - first) / (point - first)
    table.row(f"{LOCAL}: share of AEVB's gain", share, unit="%", note="test images, from the initial bound")
    table.check(n.variance_ratio, ">=", 1.0, 0.0, "weight noise: the gradient's variance over that of local noise")


@full_vb.figure()
@full_vb_frey.figure()
def _(n):
    """Two panels: a datum's share of the bound on log p(X), and the predictive bound for test images."""
    fig = plots.figure(9.0, 5.2)
    titles = {"train": "training images: bound on log p(X), per datum", "test": "test images: sampled weights"}
    point = column(n.curves[AEVB], "test")
    low, high = min(point[0], point[-1]), max(point)
    for i, (key, title) in enumerate(titles.items()):
        axes = fig.add_subplot(1, 2, i + 1)
        for k, (variant, records) in enumerate(n.curves.items()):
            examples, values = np.arange(len(records)) * n.count / 1e3, column(records, key)
            look = {"color": "#999999", "linewidth": 3} if variant == AEVB else plots.style(k - 1, len(records))
            below = "diverges" if np.isnan(values[-1]) else f"ends at {values[-1]:.0f}"
            label = variant if values[-1] > low - 0.3 * (high - low) else f"{variant} ({below})"
            axes.plot(examples, values, label=label, **look)
        axes.set_ylim(low - 0.3 * (high - low), high + 0.05 * (high - low))
        name = "" if i else "lower bound, nats per image"
        plots.panel(axes, title, "training points evaluated, thousands", name)
    fig.suptitle(f"Full variational Bayes on {n.settings.data}: what trains", fontsize=10)
    plots.legend_below(fig, [axes], 2)
    return fig


# %% [markdown]
# ## What to try next
#
# - `minivi run ch02_full_vb --budget laptop`: MNIST and Frey faces.
# - Give `sigma = 1` a hundred times as long: does local noise bring it home?
# - Put the whole weight on the weights: `kl_weight=10` prunes hidden units, which the table counts.
