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
from minivi.tensor import Parameter, grad

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
# in data, sizes and epochs; all use Adam (section 2.9.1 gives no settings; chapter 5's are for another model).
#
# That an equilibrium is stable, and undesirable, two ends show: the plain bound is climbed for as long (`long`) from
# q(z | x) = p(z) and from the annealed model. A model has collapsed if its KL ends nearer to 0 than to the other end's;
# the state is stable if the KL does not rise from the first epoch to the last. Along the straight line between the
# weights of these two ends the encoder's gradient is measured: how much signal it has in units of a minibatch's noise.
# What could lead out is the gradient of log p(x | z); that of the KL is without noise, and leads back.

# %%
COMMON = {"step_size": 5e-3, "batch": 100, "lambdas": [0.125, 0.25, 0.5, 1.0, 2.0]}
COLLAPSE = {
    "quick": {
        "data": "digits", "split": "1500/297", "hidden": 50, "latents": 8, "first_epochs": 60, "epochs": 100,
        "long": 200, "images": 297, "samples": 100, "draws": 32, **COMMON,
    },
    "laptop": {
        "data": "mnist", "split": "60000/10000", "hidden": 200, "latents": 8, "first_epochs": 4, "epochs": 6,
        "long": 12, "images": 1000, "samples": 200, "draws": 32, **COMMON,
    },
    "paper": {
        "data": "mnist", "split": "50000/10000/10000", "hidden": 500, "latents": 32, "first_epochs": 20, "epochs": 200,
        "long": 500, "images": 10000, "samples": 5000, "draws": 256, **COMMON,
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


def trained(run, name, objective, first, images, seen, epochs):
    """A model trained by one variant from ``first``, and KL (epochs, J), its errors and those of its sum over J.

    Means and standard errors are over the images ``seen``.
    """
    s = run.settings
    half = epochs * -(-len(images.train) // s.batch) / 2

    def start():
        model = copy.deepcopy(first)
        optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))

        def loss(x, rng):
            reconstruction, q = model.reconstruction_and_posterior(x, rng)
            return -objective(reconstruction, q.kl_per_dimension(), bounds.warm_up(optimizer.steps, half))

        return model, loss, optimizer

    def evaluate(model, epoch):
        kl = np.asarray(model.encode(seen).kl_per_dimension(), np.float64)
        errors = [np.std(v, axis=0, ddof=1) / np.sqrt(len(seen)) for v in (kl, kl.sum(axis=1))]
        return {"kl": kl.mean(axis=0).tolist(), "error": errors[0].tolist(), "error_in_all": float(errors[1])}

    model, history, _ = run.train(
        f"collapse_{s.data}_{name.replace(' ', '_').replace(',', '')}", start, images.train, epochs=epochs,
        batch_size=s.batch, rng=Generator([run.seed, 2]), prepare=data.fresh, evaluate=evaluate,
    )  # fmt: skip
    return model, {name: history.column(name) for name in ("kl", "error", "error_in_all")}


ENDS = "plain, long, from q = p", "plain, long, from annealed"
LINE = np.linspace(0.0, 1.0, 5)
GROUPS = 4


def signal_to_noise(model, x, rng, batch, draws):
    """Length of a minibatch gradient's mean over its standard deviation: (GROUPS, 2).

    Of the encoder's parameters, all together, by the likelihood term alone and by the whole bound; squares of the mean
    without its noise.
    """
    ratios, parameters = np.empty((GROUPS, 2)), model.encoder.parameters()

    def gradient(kl_weight):
        reconstruction, q = model.reconstruction_and_posterior(data.fresh(x[rng.integers(0, len(x), batch)], rng), rng)
        return grad((reconstruction - kl_weight * q.kl()).mean(), parameters)

    for group in ratios:
        for k in (0, 1):
            moments = evaluation.gradient_moments(lambda k=k: gradient(float(k)), draws)
            noise = sum(np.sum(v) for v in moments.variance)
            signal = sum(np.sum(m**2) for m in moments.mean) - noise / draws
            group[k] = np.sqrt(max(signal, 0.0) / noise)
    return ratios


def between(first, last, t):
    """A model whose weights lie between two others', at ``t`` of the way."""
    model = copy.deepcopy(first)
    for p, q in zip(model.parameters(), last.parameters(), strict=True):
        p.assign((1 - t) * p.data + t * q.data)
    return model


@experiment(
    "collapse",
    title="ignored latents: the plain bound, KL annealing and free bits",
    mirrors="thesis section 2.9.1, eq. 2.69, 2.70",
    budgets=COLLAPSE,
    minutes={"quick": 0.5, "laptop": 2.2, "paper": 60 * 8},
)
def collapse(run):
    """Train all variants from the same weights on the same minibatches; measure KL, active units and likelihood."""
    s, images = run.settings, run.images()
    x = data.fresh(images.test[: s.images], Generator(2))
    seen = data.fresh(images.train[:2000], Generator(4))  # eq. 2.70's mean is over minibatches of training images
    first = without_latents(run, images)
    before = evaluation.elbo(first, x, Generator(5))
    objectives = variants(s.lambdas)
    models, curves, active, bound, likelihood = {}, {}, {}, {}, {}
    for name, objective in objectives.items():
        model, curves[name] = trained(run, name, objective, first, images, seen, s.epochs)
        active[name] = evaluation.active_units(model, x)
        bound[name] = evaluation.elbo(model, x, Generator(5), samples=10)
        likelihood[name] = evaluation.log_likelihood(model, x, Generator(6), s.samples, progress=run.progress)
        models[name] = model
    long = {}
    for name, begin in zip(ENDS, (first, models["annealing"]), strict=True):
        models[name], long[name] = trained(run, name, objectives["plain"], begin, images, seen, s.long)
        bound[name] = evaluation.elbo(models[name], x, Generator(5), samples=10)
    line = [between(*(models[name] for name in ENDS), t) for t in LINE]
    return {
        "kl": curves,
        "long": long,
        "active": active,
        "gain": {n: mean_and_error(likelihood[n].values - likelihood["plain"].values) for n in curves if n != "plain"},
        "two ends": mean_and_error(bound[ENDS[1]].values - bound[ENDS[0]].values),
        "line": [evaluation.elbo(model, x, Generator(5)).mean for model in line],
        "ratios": [signal_to_noise(m, images.train, Generator([run.seed, 7]), s.batch, s.draws) for m in line],
        "before": [before.mean, before.standard_error],
        "bound": {name: [estimate.mean, estimate.standard_error] for name, estimate in bound.items()},
        "log p(x)": {name: estimate.mean for name, estimate in likelihood.items()},
        "images": len(x),
    }


@collapse.table
def _(n, table):
    s, kl = n.settings, {name: curves["kl"] for name, curves in (n.kl | n.long).items()}
    mean, error = n.before
    table.row("before: the decoder alone", mean, note=f"standard error {error:.2f}")
    for name, (mean, error) in n.bound.items():
        last = kl[name][-1]
        note = f"after {len(kl[name])} epochs; least and largest of a latent {last.min():.3g}, {last.max():.3g}"
        table.row(f"{name}, KL", last.sum(), note=note)
        table.row(f"{name}, bound", mean, note=f"{n.images} test images; standard error {error:.2f}")
        if name in n.active:
            note = f"{s.samples} importance samples; {n.active[name]} of {s.latents} latents active"
            table.row(f"{name}, log p(x)", vars(n)["log p(x)"][name], note=note)
    for t, bound, ratios in zip(LINE, n.line, n.ratios, strict=True):
        (likelihood, error), (whole, _) = (mean_and_error(values) for values in ratios.T)
        note = f"encoder's gradient, signal to noise: log p(x | z) {likelihood:.2g} +- {error:.1g}, bound {whole:.2g}"
        table.row(f"{t:.0%} of the way between the two ends: bound", bound, note=note)
    claims(n, table, kl)


def claims(n, table, kl):
    """What section 2.9.1 says."""

    def says(sentence):
        return table.says("thesis 2.9.1", sentence, seeds=1)

    stuck = says(
        "stochastic optimization with the unmodified lower bound objective can get stuck in an undesirable stable "
        "equilibrium."
    )
    gain, error = vars(n)["two ends"]
    label = f"plain bound, {n.settings.long} epochs: test bound from the annealed model less that from q = p"
    stuck(gain, ">=", 0.0, 0.0, label, standard_error=error)
    (total, errors), (other, other_errors) = ((kl[end].sum(axis=1), n.long[end]["error_in_all"]) for end in ENDS)
    label = "plain bound from q = p: KL at the end against half of that from the annealed model"
    error = np.hypot(errors[-1], 0.5 * other_errors[-1])
    stuck(total[-1], "<=", 0.5 * other[-1], 0.0, label, standard_error=error)
    label = "plain bound from q = p: KL after the last epoch against that after the first"
    stuck(total[-1], "<=", total[0], 0.0, label, standard_error=np.hypot(errors[-1], errors[0]))
    (low, low_error), (high, error) = (mean_and_error(n.ratios[k][:, 0]) for k in (0, len(LINE) // 2))
    says(
        "In this state, encoder gradients have a relatively low signal-to-noise ratio, resulting in a stable "
        "equilibrium from which it is difficult to escape."
    )(
        low, "<=", high, 0.0, "likelihood's gradient by the encoder, signal to noise: stuck against half way out",
        standard_error=np.hypot(low_error, error),
    )  # fmt: skip
    gain, error = n.gain["annealing"]
    says(
        "The solution proposed ... is to use an optimization schedule where the weights of the latent cost ... is "
        "slowly annealed from 0 to 1 over many epochs."
    )(gain, ">=", 0.0, 0.0, "annealing: log p(x) less the plain bound's", standard_error=error)
    enough = says("this results in E[D_KL(q(z_j|x)||p(z_j))] >= lambda for all j, in practice.")
    works = says(
        "it is shown that the method works well for a fairly wide range of values (lambda in [0.125, 0.25, 0.5, 1, "
        "2]), resulting in significant improvement in the resulting log-likelihood"
    )
    names = {f"free bits {m:g}": m for m in n.settings.lambdas}
    for name, m in names.items():
        last, errors = kl[name][-1], n.kl[name]["error"][-1]
        error = errors[last.argmin()]
        enough(last.min(), ">=", m, 0.0, f"{name}: the least KL of a latent", standard_error=error)
    for name in names:
        gain, error = n.gain[name]
        works(gain, ">=", 0.0, 0.0, f"{name}: log p(x) less the plain bound's", standard_error=error)


@collapse.figure()
def _(n):
    """KL over training, all latents together."""
    fig = plots.figure(7.5, 4.6)
    axes = fig.add_subplot()
    for i, (name, curves) in enumerate(n.kl.items()):
        kl = curves["kl"]
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
    curves = {name: by["kl"] for name, by in n.kl.items()}
    top = 1.35 * max(curve[-1].max() for curve in curves.values())
    for i, (name, curve) in enumerate(curves.items()):
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
