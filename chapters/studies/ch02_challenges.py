"""Chapter 2, challenges: latents that are ignored, and models that spread too far (thesis section 2.9).

When can the decoder do without z, and what makes it use z again? And why does a model that is too simple put mass where
there are no data, rather than leave data out?
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
from scipy.optimize import minimize
from scipy.stats import norm

from minivi import bounds, data, evaluation, kernels, nn, ops, optim, plots
from minivi.experiments import Claim, Result, Row, experiment
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


def binarize(x, rng):
    """Fresh binary pixels from grey values."""
    return data.binarize(x, "dynamic", rng)


def without_latents(run, images):
    """The model after training its decoder alone, at z = 0."""
    s = run.settings
    bias = nn.logit_of_mean(images.train)
    model = StrongDecoderVAE(images.train.shape[1], (s.hidden,), s.latents, bias, Generator([run.seed, 1]))
    nothing = np.zeros((1, s.latents), model.dtype)
    optimizer = optim.Adam([model.weight, model.bias], s.step_size)
    run.fit(
        f"collapse_{s.data}_first", model, lambda x, rng: -model.decode(nothing).log_prob(x).mean(), optimizer,
        images.train, epochs=s.first_epochs, batch_size=s.batch, rng=Generator([run.seed, 3]), prepare=binarize,
    )  # fmt: skip
    return model


def variants(lambdas):
    """Name and objective(reconstruction (B,), kl (B, J), KL weight) of each bound that is maximised."""
    plain = lambda reconstruction, kl, weight: (reconstruction - kl.sum(axis=-1)).mean()
    annealed = lambda reconstruction, kl, weight: (reconstruction - weight * kl.sum(axis=-1)).mean()
    free = {
        f"free bits {m:g}": lambda reconstruction, kl, weight, m=m: bounds.free_bits(reconstruction, kl, m)
        for m in lambdas
    }
    return {"plain": plain, "annealing": annealed} | free


def trained(run, name, objective, start, images, seen):
    """A model trained by one variant from ``start``, and "kl" of its history, (epochs, J), of the images ``seen``."""
    s, model = run.settings, copy.deepcopy(start)
    half = s.epochs * -(-len(images.train) // s.batch) / 2
    optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))

    def loss(x, rng):
        reconstruction, q = model.reconstruction_and_posterior(x, rng)
        return -objective(reconstruction, q.kl_per_dimension(), bounds.warm_up(optimizer.steps, half))

    def evaluate(epoch):
        return {"kl": np.mean(np.asarray(model.encode(seen).kl_per_dimension()), axis=0).tolist()}

    history = run.fit(
        f"collapse_{s.data}_{name.replace(' ', '_')}", model, loss, optimizer, images.train, epochs=s.epochs,
        batch_size=s.batch, rng=Generator([run.seed, 2]), prepare=binarize, evaluate=evaluate,
    )  # fmt: skip
    return model, history.column("kl")


@experiment(
    "collapse",
    title="ignored latents: the plain bound, KL annealing and free bits",
    mirrors="thesis section 2.9.1, eq. 2.69, 2.70",
    budgets=COLLAPSE,
    minutes={"quick": 0.5, "laptop": 5, "paper": 60 * 8},
)
def collapse(run):
    """Train all variants from the same weights on the same minibatches; tabulate KL, active units and likelihood."""
    s, images = run.settings, run.images()
    x = binarize(images.test[: s.images], Generator(2))
    seen = binarize(images.train[:2000], Generator(4))  # eq. 2.70's mean is over minibatches of training images
    start = without_latents(run, images)
    first = evaluation.elbo(start, x, Generator(5))
    rows = [Row("before: the decoder alone", first.mean, note=f"standard error {first.standard_error:.2f}")]
    curves, kl, active, likelihood, least = {}, {}, {}, {}, min(s.lambdas)
    for name, objective in variants(s.lambdas).items():
        model, curves[name] = trained(run, name, objective, start, images, seen)
        kl[name], active[name] = curves[name][-1], evaluation.active_units(model, x)
        used = np.sum(kl[name] > least)
        bound = evaluation.elbo(model, x, Generator(5), samples=10)
        likelihood[name] = evaluation.log_likelihood(model, x, Generator(6), s.samples, progress=run.progress)
        note = f"{len(x)} test images; standard error {bound.standard_error:.2f}"
        rows += [
            Row(
                f"{name}, KL", kl[name].sum(), note=f"{active[name]} of {s.latents} active; {used} above {least:g} nats"
            ),
            Row(f"{name}, bound", bound.mean, note=note),
            Row(f"{name}, log p(x)", likelihood[name].mean, note=f"{s.samples} importance samples"),
        ]
    claims = [
        Claim(kl["plain"].max(), "<=", least, 0.0, "plain bound: no latent keeps even the least lambda, nats"),
        Claim(active["plain"], "<=", 0, 0.0, "plain bound: active units"),
        Claim(kl["annealing"].sum(), ">=", kl["plain"].sum(), 0.0, "annealing ends with more KL than the plain bound"),
    ]
    for m in s.lambdas:
        label = f"free bits {m:g}: the least KL of a latent, at least lambda (tolerance 5 %)"
        claims.append(Claim(kl[f"free bits {m:g}"].min(), ">=", m, 0.05 * m, label))
    best = max((name for name in likelihood if name.startswith("free")), key=lambda n: likelihood[n].mean)
    gain = likelihood[best].values - likelihood["plain"].values
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    claims.append(Claim(gain.mean(), ">=", 0.0, 2 * error, f"{best}: log p(x) not below the plain bound's, nats"))
    numbers = {"kl": curves, "active": active, "gain": [best, gain.mean(), error]}
    return Result(rows, {"": kl_figure(curves, s), "latents": latents_figure(kl, s)}, numbers, claims)


def kl_figure(curves, s):
    """KL over training, all latents together."""
    fig = plots.figure(7.5, 4.6)
    axes = fig.add_subplot()
    for i, (name, kl) in enumerate(curves.items()):
        style = plots.style(i, len(kl)) | ({} if i < 6 else {"linestyle": "--", "marker": "x", "color": "#990000"})
        axes.plot(np.arange(1, len(kl) + 1), np.maximum(kl.sum(axis=1), 1e-4), label=name, **style)
    axes.set_yscale("log")
    axes.set_xlabel("epochs")
    axes.set_ylabel("KL(q(z | x) || p(z)), nats (below $10^{-4}$: drawn there)")
    axes.set_title(f"Information in {s.latents} latents beside a strong decoder, {s.data}", fontsize=10)
    axes.grid(True, linewidth=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


def latents_figure(kl, s):
    """Bars of each latent's KL at the end, largest first; a line at lambda."""
    fig = plots.figure(10.0, 4.6)
    columns = -(-len(kl) // 2)
    top = 1.35 * max(k.max() for k in kl.values())
    for i, (name, values) in enumerate(kl.items()):
        axes = fig.add_subplot(2, columns, i + 1)
        axes.bar(np.arange(1, len(values) + 1), np.sort(values)[::-1], color="#777777")
        if name.startswith("free"):
            axes.axhline(float(name.split()[-1]), color="black", linestyle="--", linewidth=1, label="lambda")
            axes.legend(fontsize=7, loc="upper right")
        axes.set_ylim(0, top)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("latent, by its KL", fontsize=8)
        if i % columns == 0:
            axes.set_ylabel("KL, nats", fontsize=8)
    fig.suptitle(f"KL(q(z_j | x) || p(z_j)) of each latent after {s.epochs} epochs, {s.data}", fontsize=10)
    return fig


# %% [markdown]
# ## Section 2.9.2: too simple a model spreads too far
#
# Data on a ring of radius 1 with noise of 0.1 across it, whose density is known. Maximising the likelihood, or the
# bound, minimises a divergence KL(data || model): leaving data out is costly, empty space is cheap. Three measures, all
# in units of the ring's radius: the total variance, the variance of the radius (0.01 in the data: how thick the ring
# is), and KL(data || model) in nats.
#
# The text says that the variance of a model that cannot fit ends larger than the data's. For a Gaussian the total
# variance is equal (moments are matched, see the checks), and the spread shows across the ring and in the entropy,
# which is larger by just KL(data || model). In the other direction, KL(model || data), the variance is smaller.
#
# The VAEs need section 2.9.1's annealing, over the first half of training: the two axes of a ring are alike, so the
# plain bound keeps q(z | x) = p(z) and ends as a Gaussian.

# %%
CENTRE, RADIUS, WIDTH = 0.5, 0.3, 0.1  # the Gaussian decoder's means lie in (0, 1): the ring is put there

SIMPLE = {"count": 10_000, "batch": 100, "step_size": 5e-3, "hidden": 64}
VARIANCE = {
    "quick": {"epochs": 20, "seeds": 2, "test": 1000, "samples": 500, **SIMPLE},
    "laptop": {"epochs": 60, "seeds": 3, "test": 2000, "samples": 2000, **SIMPLE},
    "paper": {"epochs": 1000, "seeds": 10, "test": 10_000, "samples": 5000, **SIMPLE},
}
MODELS = {  # hidden sizes, latents, posterior
    "linear, 1 latent": (False, 1, "diagonal"),
    "MLP, 1 latent": (True, 1, "diagonal"),
    "MLP, 2 latents": (True, 2, "diagonal"),
    "MLP, 2 latents, full": (True, 2, "full"),
}


def ring(count, rng):
    """Draws from the data's distribution, (count, 2)."""
    angle = 2 * np.pi * rng.random(count)
    radius = 1 + WIDTH * rng.standard_normal(count)
    return CENTRE + RADIUS * radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def radius_of(x):
    """The distance from the centre in units of the ring's radius."""
    return np.linalg.norm(x - CENTRE, axis=-1) / RADIUS


def ring_log_density(x):
    """log of the data's density in nats, (..., 2) -> (...); the radius is positive but for 1e-23 of the draws."""
    r = radius_of(x)
    return norm.logpdf(r, 1, WIDTH) - np.log(2 * np.pi * r * RADIUS**2)


def ring_entropy():
    """The data's entropy in nats, by quadrature over the radius."""
    r = np.linspace(1 - 9 * WIDTH, 1 + 9 * WIDTH, 4001)
    return -np.trapezoid(norm.pdf(r, 1, WIDTH) * ring_log_density(CENTRE + RADIUS * np.stack([r, 0 * r], -1)), r)


def spread(x):
    """Total variance and variance of the radius."""
    return np.sum(np.var(x, axis=0)) / RADIUS**2, np.var(radius_of(x))


def reverse_kl_gaussian(points=40):
    """The factorised Gaussian that minimises KL(model || data): its mean and standard deviations, at angle 0.

    The expectation is by Gauss-Hermite quadrature. By symmetry any angle is as good.
    """
    node, weight = np.polynomial.hermite_e.hermegauss(points)
    eps = np.stack(np.meshgrid(node, node), -1).reshape(-1, 2)
    weight = np.outer(weight, weight).ravel() / (2 * np.pi)

    def kl(theta):
        sigma = np.exp(theta[1:])
        x = CENTRE + RADIUS * (np.array([theta[0], 0.0]) + sigma * eps)
        log_model = -np.log(2 * np.pi) - theta[1:].sum() - 2 * np.log(RADIUS) - 0.5 * np.sum(eps**2, axis=1)
        return weight @ (log_model - ring_log_density(x))

    best = minimize(kl, np.log([np.e, 0.1, 0.3]), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).x
    return best[0], np.exp(best[1:])


def ring_model(run, name, seed):
    """A VAE trained on the ring."""
    s, (deep, latents, posterior) = run.settings, MODELS[name]
    train = ring(s.count, Generator([seed, 4])).astype("float32")
    vae = VAE(2, (s.hidden,) if deep else (), latents, "gaussian", posterior=posterior, rng=Generator([seed, 5]))
    optimizer = optim.Adam(vae.parameters(), s.step_size)
    warm = s.epochs * -(-s.count // s.batch) // 2

    def loss(x, rng):
        reconstruction, q = vae.reconstruction_and_posterior(x, rng)
        return -(reconstruction - bounds.warm_up(optimizer.steps, warm) * q.kl()).mean()

    run.fit(
        f"ring_{name.replace(', ', '_').replace(' ', '_')}_seed{seed}", vae, loss, optimizer, train, epochs=s.epochs,
        batch_size=s.batch, rng=Generator([seed, 6]),
    )  # fmt: skip
    return vae


@experiment(
    "variance",
    title="too simple a model spreads further than the data",
    mirrors="thesis section 2.9.2",
    budgets=VARIANCE,
    minutes={"quick": 0.7, "laptop": 3, "paper": 100},
)
def variance(run):
    """Gaussians by either direction of the divergence, and VAEs of growing flexibility, on a ring."""
    s, entropy = run.settings, ring_entropy()
    test = ring(s.test, Generator([run.seed, 7]))
    total, across = 1 + WIDTH**2, WIDTH**2
    half = total / 2  # of a coordinate; a Gaussian's radius then has the variance half (2 - pi / 2)
    mean, sigma = reverse_kl_gaussian()
    shown = {"data": ring(2000, Generator([run.seed, 8]))}
    rng = Generator([run.seed, 9])
    reverse = CENTRE + RADIUS * (np.array([mean, 0.0]) + sigma * rng.standard_normal((100_000, 2)))
    shown["Gaussian, KL(data || model)"] = CENTRE + RADIUS * np.sqrt(half) * rng.standard_normal((2000, 2))
    shown["Gaussian, KL(model || data)"] = reverse[:2000]
    forward_kl = np.log(2 * np.pi * np.e * half * RADIUS**2) - entropy
    rows = [
        Row("data, total variance", total, unit="radius^2", note="exact"),
        Row("data, variance of the radius", across, unit="radius^2", note="exact"),
        Row("Gaussian, KL(data || model): total variance", total, unit="radius^2", note="exact: moments are matched"),
        Row("-, variance of the radius", half * (2 - np.pi / 2), unit="radius^2", note="exact"),
        Row("-, KL(data || model)", forward_kl, note="exact; so much larger is its entropy"),
        Row("Gaussian, KL(model || data): total variance", sigma @ sigma, unit="radius^2", note="quadrature"),
        Row("-, variance of the radius", spread(reverse)[1], unit="radius^2", note="100,000 draws"),
    ]
    found = {}
    for name in MODELS:
        values = []
        for seed in range(run.seed, run.seed + s.seeds):
            vae = ring_model(run, name, seed)
            drawn = vae.sample(100_000, Generator([seed, 10]))[1]
            likelihood = evaluation.log_likelihood(vae, test.astype("float32"), Generator(11), s.samples)
            kl = np.mean(ring_log_density(test) - likelihood.values)  # at the same data: less noise than with entropy
            values.append((*spread(drawn), kl))
        shown[f"VAE: {name}"] = drawn[:2000]
        values = np.array(values)
        found[name] = np.mean(values, axis=0), np.std(values, axis=0, ddof=1) / np.sqrt(s.seeds)
        for what, value, error in zip(("total variance", "variance of the radius", "KL"), *found[name], strict=True):
            unit = "nats" if what == "KL" else "radius^2"
            note = f"{s.seeds} seeds, standard error {error:.4f}"
            rows.append(Row(f"VAE, {name}: {what}", value, unit=unit, note=note))
    claims = [Claim(sigma @ sigma, "<=", total, 0.0, "Gaussian by KL(model || data): less variance than the data")]
    for name, ((in_all, thick, _), (error_in_all, error_thick, _)) in found.items():
        label = f"{name}: more variance across the ring than the data (tolerance 2 standard errors)"
        claims.append(Claim(thick, ">=", across, 2 * error_thick, label))
        label = f"{name}: no less total variance than the data (tolerance 2 standard errors)"
        claims.append(Claim(in_all, ">=", total, 2 * error_in_all, label))
    simple, flexible = found["linear, 1 latent"][0], found["MLP, 2 latents"][0]
    claims.append(Claim(flexible[1], "<=", simple[1], 0.0, "flexible networks lessen the variance across the ring"))
    claims.append(Claim(flexible[2], "<=", simple[2], 0.0, "and KL(data || model)"))
    numbers = {"found": {k: dict(zip(("mean", "error"), v, strict=True)) for k, v in found.items()}, "entropy": entropy}
    return Result(rows, {"": ring_figure(shown)}, numbers, claims)


def ring_figure(shown):
    """Draws from the data and the models, with both variances."""
    fig = plots.figure(10.5, 5.6)
    columns = -(-len(shown) // 2)
    for i, (name, x) in enumerate(shown.items()):
        axes = fig.add_subplot(2, columns, i + 1)
        axes.plot(*((x - CENTRE) / RADIUS).T, ".", color="black", markersize=1)
        axes.set_xlim(-2.2, 2.2)
        axes.set_ylim(-2.2, 2.2)
        axes.set_aspect("equal")
        axes.tick_params(labelsize=7)
        both = spread(x)
        axes.set_title(f"{name}\nvariance {both[0]:.2f}, of the radius {both[1]:.3f}", fontsize=8)
    fig.supxlabel("$x_1$, in radii", fontsize=9)
    fig.supylabel("$x_2$, in radii", fontsize=9)
    fig.suptitle("2,000 draws each: data on a ring, and models of growing flexibility", fontsize=10)
    return fig


# %% [markdown]
# ## What to try next
#
# - Leave out `without_latents`: then z is faster than W, and the plain bound does not collapse on MNIST.
# - Free bits for two groups of four latents: `kl.reshape(-1, 2, 4).sum(axis=-1)`.
# - A wider ring (`WIDTH = 0.4`): which of the models are still too simple?
