"""Chapter 2, challenges: latents that are ignored (thesis section 2.9.1).

When can the decoder do without z, and what makes it use z again?
"""

# %% [markdown]
# The bound is a reconstruction term and one KL term for each of the J latents. Where the decoder is strong enough to do
# without z, q(z | x) = p(z) costs nothing, and its gradients are too weak to leave. Two remedies:
#
#     annealing:   E_q[log p(x | z)] - w KL(q(z | x) || p(z)),      w from 0 to 1 while training
#     free bits:   mean_x E_q[log p(x | z)] - sum_j max(lambda, mean_x KL(q(z_j | x) || p(z_j)))     (eq. 2.69, 2.70)
#
# where mean_x is over the minibatch and comes before the maximum.

# %%
import copy

import numpy as np

from minivi import bounds, data, evaluation, kernels, nn, ops, optim, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import Parameter

# %% [markdown]
# ## Section 2.9.1: a decoder that need not use z
#
# Each pixel's logit gets, beside the decoder's function of z, a linear function of the pixels before it:
#
#     p(x | z) = prod_j Bernoulli(x_j; sigmoid(DecoderNet_j(z) + sum_{i<j} W_ij x_i))
#
# Without z this is a fully visible sigmoid belief network, which reaches about -97 nats on MNIST by itself. One call of
# `masked_affine` adds it; the bound and the log-weights are the VAE's own.


# %%
class Autoregressive:
    """p(x | z) with logits (..., D) from z, plus a masked linear map of x itself."""

    def __init__(self, logits, model):
        self.logits, self.model = logits, model

    def log_prob(self, x):
        """log p(x | z) in nats: ``x`` (B, D), binary -> (..., B)."""
        m = self.model
        return ops.bernoulli_log_prob(x, self.logits + ops.masked_affine(x, m.weight, m.bias, ranges=m.ranges))


class StrongDecoderVAE(VAE):
    """A VAE whose decoder sees, for each pixel, the pixels before it; what it makes of z starts near nothing."""

    def __init__(self, pixels, hidden, latents, bias, rng):
        super().__init__(pixels, hidden, latents, rng=rng)
        for network in (self.encoder, self.decoder):
            last = network.layers[-1].weight
            last.assign(0.01 * last.data)
        self.ranges = kernels.Ranges(np.triu(np.ones((pixels, pixels)), 1))  # W_ij is free for i < j
        self.weight = Parameter(np.zeros((pixels, pixels)), dtype=self.dtype)
        self.bias = Parameter(bias, dtype=self.dtype)

    def decode(self, z):
        """p(x | z): ``z`` (..., J)."""
        return Autoregressive(self.decoder(z), self)


# %% [markdown]
# "Initially attractive" is made plain: the belief network is trained first, and all variants start from its weights,
# with encoder and DecoderNet near zero, hence q(z | x) near p(z). (With both trained from scratch on MNIST, z learns
# faster than W, and nothing collapses in the first epochs.)
#
# The variants: the plain bound, annealing over the first half of training, and the text's range of lambda. In the
# second half the step size falls to 0, so that what is counted at the end is not the steps' own noise. Budgets differ
#  in data, sizes and epochs; all use Adam (section 2.9.1 gives no settings; chapter 5's are for another model).

# %%
COMMON = {"step_size": 5e-3, "batch": 100, "lambdas": [0.125, 0.25, 0.5, 1.0, 2.0]}
COLLAPSE = {
    "quick": {
        "data": "digits", "split": "1500/297", "hidden": 50, "latents": 8, "first_epochs": 60, "epochs": 100,
        "images": 297, "samples": 100, **COMMON,
    },
    "laptop": {
        "data": "mnist", "split": "60000/10000", "hidden": 200, "latents": 8, "first_epochs": 4, "epochs": 6,
        "images": 1000, "samples": 200, **COMMON,
    },
    "paper": {
        "data": "mnist", "split": "50000/10000/10000", "hidden": 500, "latents": 32, "first_epochs": 20, "epochs": 200,
        "images": 10000, "samples": 5000, **COMMON,
    },
}  # fmt: skip


def without_latents(run, images):
    """The model after training its decoder alone, at z = 0."""
    s = run.settings

    def start():
        bias = nn.logit_of_mean(images.train)
        model = StrongDecoderVAE(images.train.shape[1], (s.hidden,), s.latents, bias, Generator([run.seed, 1]))
        optimizer = optim.Adam([model.weight, model.bias], s.step_size)
        nothing = np.zeros((1, s.latents), model.dtype)
        return model, lambda x, rng: -model.decode(nothing).log_prob(x).mean(), optimizer

    return run.train(
        f"collapse_{s.data}_first", start, images.train, epochs=s.first_epochs, batch_size=s.batch,
        rng=Generator([run.seed, 3]), prepare=data.fresh,
    )[0]  # fmt: skip


def variants(lambdas):
    """Name and objective(reconstruction (B,), kl (B, J), KL weight) of each bound that is maximised."""
    plain = lambda reconstruction, kl, weight: (reconstruction - kl.sum(axis=-1)).mean()
    annealed = lambda reconstruction, kl, weight: (reconstruction - weight * kl.sum(axis=-1)).mean()
    free = {
        f"free bits {m:g}": lambda reconstruction, kl, weight, m=m: bounds.free_bits(reconstruction, kl, m)
        for m in lambdas
    }
    return {"plain": plain, "annealing": annealed} | free


def trained(run, name, objective, first, images, seen):
    """A model trained by one variant from ``first``, and "kl" of its history, (epochs, J), of the images ``seen``."""
    s = run.settings
    half = s.epochs * -(-len(images.train) // s.batch) / 2

    def start():
        model = copy.deepcopy(first)
        optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))

        def loss(x, rng):
            reconstruction, q = model.reconstruction_and_posterior(x, rng)
            return -objective(reconstruction, q.kl_per_dimension(), bounds.warm_up(optimizer.steps, half))

        return model, loss, optimizer

    def evaluate(model, epoch):
        return {"kl": np.mean(np.asarray(model.encode(seen).kl_per_dimension()), axis=0).tolist()}

    model, history, _ = run.train(
        f"collapse_{s.data}_{name.replace(' ', '_')}", start, images.train, epochs=s.epochs, batch_size=s.batch,
        rng=Generator([run.seed, 2]), prepare=data.fresh, evaluate=evaluate,
    )  # fmt: skip
    return model, history.column("kl")


@experiment(
    "collapse",
    title="ignored latents: the plain bound, KL annealing and free bits",
    mirrors="thesis section 2.9.1, eq. 2.69, 2.70",
    budgets=COLLAPSE,
    minutes={"quick": 0.5, "laptop": 3.4, "paper": 60 * 8},
)
def collapse(run):
    """Train all variants from the same weights on the same minibatches; measure KL, active units and likelihood."""
    s, images = run.settings, run.images()
    x = data.fresh(images.test[: s.images], Generator(2))
    seen = data.fresh(images.train[:2000], Generator(4))  # eq. 2.70's mean is over minibatches of training images
    first = without_latents(run, images)
    before = evaluation.elbo(first, x, Generator(5))
    curves, active, bound, likelihood = {}, {}, {}, {}
    for name, objective in variants(s.lambdas).items():
        model, curves[name] = trained(run, name, objective, first, images, seen)
        active[name] = evaluation.active_units(model, x)
        bound[name] = evaluation.elbo(model, x, Generator(5), samples=10)
        likelihood[name] = evaluation.log_likelihood(model, x, Generator(6), s.samples, progress=run.progress)
    best = max((name for name in likelihood if name.startswith("free")), key=lambda name: likelihood[name].mean)
    return {
        "kl": curves,
        "active": active,
        "gain": [best, *mean_and_error(likelihood[best].values - likelihood["plain"].values)],
        "before": [before.mean, before.standard_error],
        "bound": {name: [estimate.mean, estimate.standard_error] for name, estimate in bound.items()},
        "log p(x)": {name: estimate.mean for name, estimate in likelihood.items()},
        "images": len(x),
    }


@collapse.table
def _(n, table):
    s, least, kl = n.settings, min(n.settings.lambdas), {name: curve[-1] for name, curve in n.kl.items()}
    mean, error = n.before
    table.row("before: the decoder alone", mean, note=f"standard error {error:.2f}")
    for name, (mean, error) in n.bound.items():
        used = np.sum(kl[name] > least)
        note = f"{n.active[name]} of {s.latents} active; {used} above {least:g} nats"
        table.row(f"{name}, KL", kl[name].sum(), note=note)
        table.row(f"{name}, bound", mean, note=f"{n.images} test images; standard error {error:.2f}")
        table.row(f"{name}, log p(x)", vars(n)["log p(x)"][name], note=f"{s.samples} importance samples")
    plain, annealing = kl["plain"], kl["annealing"]
    table.claim(plain.max(), "<=", least, 0.0, "plain bound: no latent keeps even the least lambda, nats")
    table.claim(n.active["plain"], "<=", 0, 0.0, "plain bound: active units")
    table.claim(annealing.sum(), ">=", plain.sum(), 0.0, "annealing ends with more KL than the plain bound")
    for m in s.lambdas:
        label = f"free bits {m:g}: the least KL of a latent, at least lambda (tolerance 5 %)"
        table.claim(kl[f"free bits {m:g}"].min(), ">=", m, 0.05 * m, label)
    best, gain, error = n.gain
    table.claim(gain, ">=", 0.0, 2 * error, f"{best}: log p(x) not below the plain bound's, nats")


@collapse.figure()
def _(n):
    """KL over training, all latents together."""
    fig = plots.figure(7.5, 4.6)
    axes = fig.add_subplot()
    for i, (name, kl) in enumerate(n.kl.items()):
        style = plots.style(i, len(kl)) | ({} if i < 6 else {"linestyle": "--", "marker": "x", "color": "#990000"})
        axes.plot(np.arange(1, len(kl) + 1), np.maximum(kl.sum(axis=1), 1e-4), label=name, **style)
    title = f"Information in {n.settings.latents} latents beside a strong decoder, {n.settings.data}"
    plots.panel(axes, title, "epochs", "KL(q(z | x) || p(z)), nats (below $10^{-4}$: drawn there)", log="y")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


@collapse.figure("latents")
def _(n):
    """Bars of each latent's KL at the end, largest first; a line at lambda."""
    fig = plots.figure(10.0, 4.6)
    columns = -(-len(n.kl) // 2)
    top = 1.35 * max(curve[-1].max() for curve in n.kl.values())
    for i, (name, curve) in enumerate(n.kl.items()):
        axes = fig.add_subplot(2, columns, i + 1)
        axes.bar(np.arange(1, len(curve[-1]) + 1), np.sort(curve[-1])[::-1], color="#777777")
        if name.startswith("free"):
            axes.axhline(float(name.split()[-1]), color="black", linestyle="--", linewidth=1, label="lambda")
            axes.legend(fontsize=7, loc="upper right")
        axes.set_ylim(0, top)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("latent, by its KL", fontsize=8)
        if i % columns == 0:
            axes.set_ylabel("KL, nats", fontsize=8)
    title = f"KL(q(z_j | x) || p(z_j)) of each latent after {n.settings.epochs} epochs, {n.settings.data}"
    fig.suptitle(title, fontsize=10)
    return fig


# %% [markdown]
# ## What to try next
#
# - Leave out `without_latents`: then z is faster than W, and the plain bound does not collapse on MNIST.
# - Free bits for two groups of four latents: `kl.reshape(-1, 2, 4).sum(axis=-1)`.
