"""Two troubles of the bound: latents that are ignored, models that spread too far (thesis section 2.9).

A decoder that can do without z is tempted to: q(z | x) = p(z) costs nothing. And a model too simple for its data puts
mass where there are none, rather than miss any. Both are consequences of the objective, so both can be computed.
"""

# %% [markdown]
# ## 1. The attractive state (section 2.9.1)
#
# The smallest model: x from N(0, 1), p(x | z) = N(w z, s^2), q(z | x) = N(a x, sigma^2). The bound is a formula; with
# the best sigma, s^2 / (s^2 + w^2), it is a landscape over w and a. At w = a = 0 latent and datum are strangers, and
# the slope is 0, because a is of use only if w is not 0, and the other way round. Is it "a stable equilibrium"?

# %%
import copy

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.mixture import GaussianMixture

import minivi as mv
from minivi import bounds, data, evaluation, nn, ops, plots
from minivi.lesson import show, stored
from minivi.models import VAE
from minivi.optim import Adam, linear


# %%
def bound(w, a, s2, weight=1.0):
    """The exact bound, averaged over x, in nats, with ``weight`` on the divergence."""
    sigma2 = s2 * weight / (s2 * weight + w**2)
    reconstruction = -0.5 * ops.log(2 * np.pi * s2) - 0.5 * ((1 - w * a) ** 2 + w**2 * sigma2) / s2
    return reconstruction - 0.5 * weight * (a**2 + sigma2 - 1 - ops.log(sigma2))


def steps_to_leave(s2, weight):
    """Steps of gradient ascent, 0.05 long, from w = a = 0.01 until w > 0.1."""
    place = np.full(2, 0.01)
    for step in range(5001):
        if place[0] > 0.1:
            return step
        w, a = mv.Tensor(place[0]), mv.Tensor(place[1])
        place = place + 0.05 * np.array(mv.grad(bound(w, a, s2, weight), [w, a]))
    return f"not in {step}"


line = np.linspace(-1.2, 1.2, 81)
fig = plots.figure(8.0, 3.4)
for i, s2 in enumerate((0.3, 1.1)):
    axes = plots.panel(fig.add_subplot(1, 2, i + 1), f"The bound, s² = {s2}", "w, decoder", "a, encoder")
    landscape = np.asarray(bound(*np.meshgrid(line, line), s2)) - bound(0.0, 0.0, s2)
    levels = axes.contour(line, line, landscape, [-1, -0.5, -0.2, -0.05, 0, 0.05, 0.1], colors="black", linewidths=0.8)
    axes.clabel(levels, fontsize=7)
    axes.plot(0, 0, "k+")
show(fig, "landscape")
for s2 in (0.3, 0.9, 1.1):
    plain, annealed = steps_to_leave(s2, 1.0), steps_to_leave(s2, 0.1)
    print(f"s² = {s2}: steps until w > 0.1: {plain} with the bound, {annealed} with a tenth of the divergence")

# %% [markdown]
# Contours: nats above the state w = a = 0. It is a saddle where the decoder's noise is below the data's variance, slow
# to leave, and a maximum where it is above. A small weight on the divergence makes it a saddle again.
#
# ## 2. A decoder that need not use z
#
# On digits: each pixel's logit, log p / (1 - p), gets beside the decoder's function of z a linear one of the pixels
# before, which is trained first, at z = 0. Then the last layers start from weights of scale t, near that state.


# %%
class StrongDecoder(VAE):
    """A VAE with logit_j = DecoderNet_j(z) + sum_{i<j} W_ij x_i."""

    def __init__(self, latents, rng):
        super().__init__(pixels=64, hidden=(50,), latents=latents, rng=rng, output_bias=nn.logit_of_mean(digits.train))
        self.weight = mv.Parameter(np.zeros((64, 64)), dtype="float32")

    def decode(self, z):
        """p(x | z)."""
        return Pixels(self.decoder(z), self.weight * np.triu(np.ones((64, 64), "float32"), 1))


class Pixels:
    """p(x | z) by the decoder's logits (..., D) and the masked weights W."""

    def __init__(self, logits, weight):
        self.logits, self.weight = logits, weight

    def log_prob(self, x):
        """log p(x | z) of images (B, D), (..., B)."""
        return ops.bernoulli_log_prob(x, self.logits + ops.matmul(x, self.weight))


rng, digits = mv.Generator(0), data.load("digits")
test = data.fresh(digits.test, rng)
nothing = np.zeros((1, 8), "float32")
first = StrongDecoder(8, mv.Generator(1))
optimizer = Adam([first.weight], linear(2e-2, 1e-4, 30 * 15))
for x in (x for _ in range(30) for x in data.batches(digits.train, size=100, rng=rng)):
    loss = -first.decode(nothing).log_prob(data.fresh(x, rng)).mean()
    optimizer.step(mv.grad(loss, optimizer.parameters))
print(f"without z: log p(x) of test images {np.asarray(first.decode(nothing).log_prob(test)).mean():.2f} nats")
last = [first.encoder.layers[-1].weight, first.decoder.layers[-1].weight]
begun = [p.data.copy() for p in last]


def signal_to_noise(t, objective, draws=50):
    """|mean| / deviation over minibatches and noise, root mean square over the encoder's weights; the decoder's."""
    for p, values in zip(last, begun, strict=True):
        p.assign(t * values)

    def draw():
        x = data.fresh(digits.train[rng.choice(1500, 100)], rng)
        return mv.grad(objective(x).mean(), last)

    ratios = evaluation.gradient_moments(draw, draws).squared_snr()
    return [np.sqrt(max(0.0, np.mean(ratio))) for ratio in ratios]


SCALES = np.array([0.05, 0.1, 0.3, 1.0])
all_sampled = np.array([signal_to_noise(t, lambda x: first.elbo(x, rng, estimator="A")) for t in SCALES])
outward = np.array([signal_to_noise(t, lambda x: first.reconstruction_and_posterior(x, rng)[0]) for t in SCALES])
fig = plots.figure(6.5, 3.2)
axes = plots.panel(fig.add_subplot(), "Minibatches of 100", "t, scale of the weights", "signal to noise", log="xy")
curves = {"encoder, all terms sampled (eq. 2.29)": all_sampled[:, 0], "encoder, reconstruction alone": outward[:, 0],
          "decoder, reconstruction alone": outward[:, 1]}  # fmt: skip
for i, (name, ratios) in enumerate(curves.items()):
    axes.plot(SCALES, ratios, label=name, **plots.style(i, 4))
    print(f"{name:38s}" + "".join(f"  {ratio:5.2f} at t = {t}" for t, ratio in zip(SCALES, ratios, strict=True)))
axes.legend(fontsize=8)
show(fig, "signal")

# %% [markdown]
# "Encoder gradients have a relatively low signal-to-noise ratio": so it is if all terms of the bound are sampled. With
# the divergence in closed form the encoder's ratio does not fade; the decoder's does, as z then says nothing of x.
#
# ## 3. Annealing and free bits (eq. 2.69, 2.70)
#
# $$\tilde L_\lambda = E_x E_q[\log p(x | z)] - \sum_j \max(\lambda, E_x KL(q(z_j | x) || p(z_j)))$$
#
# with the minibatch's mean *inside* the maximum. Below lambda a latent's divergence has no gradient: it is filled with
# what is free. Annealing puts a weight from 0 to 1 on the divergence. All start from t = 0.03; the weight is 1 halfway.


# %%
def free_bits(reconstruction, kl, minimum):
    """Eq. 2.69, 2.70: reconstruction (B,), kl (B, J)."""
    return reconstruction.mean() - ops.sum(ops.maximum(kl.mean(axis=0), np.float32(minimum)))


signal_to_noise(0.03, lambda x: first.elbo(x, rng), 4)  # leaves the weights at this scale
EPOCHS, HALF = 24, 12 * 15
VARIANTS = {
    "plain": lambda log_px_z, kl, step: (log_px_z - kl.sum(axis=-1)).mean(),
    "annealing": lambda log_px_z, kl, step: (log_px_z - min(1.0, step / HALF) * kl.sum(axis=-1)).mean(),
    "free bits 0.5": lambda log_px_z, kl, step: free_bits(log_px_z, kl, 0.5),
}
reconstruction, q = first.reconstruction_and_posterior(test, rng)
ours, theirs = (f(reconstruction, q.kl_per_dimension(), 0.5).item() for f in (free_bits, bounds.free_bits))
print(f"free bits at the start: ours {ours:.4f}, library {theirs:.4f}; gradient of its divergence: ", end="")
print(np.abs(mv.grad(free_bits(0 * reconstruction, q.kl_per_dimension(), 0.5), last[0])).max())
fig = plots.figure(6.5, 3.2)
axes = plots.panel(fig.add_subplot(), "Eight latents, a strong decoder", "epoch", "sum of KL, nats")
for i, (name, objective) in enumerate(VARIANTS.items()):
    model, noise, curve = copy.deepcopy(first), mv.Generator(3), []
    optimizer = Adam(model.parameters(), linear(5e-3, 1e-4, 15 * EPOCHS))
    for _ in range(EPOCHS):
        for x in data.batches(digits.train, size=100, rng=noise):
            reconstruction, q = model.reconstruction_and_posterior(data.fresh(x, noise), noise)
            loss = -objective(reconstruction, q.kl_per_dimension(), optimizer.steps)
            optimizer.step(mv.grad(loss, optimizer.parameters))
        curve.append(model.encode(test).kl_per_dimension().data.mean(axis=0))
    axes.plot(np.arange(1, EPOCHS + 1), np.sum(curve, axis=1), label=name, **plots.style(i, EPOCHS))
    print(f"{name:14s} KL of each latent {np.round(np.sort(curve[-1])[::-1], 2)}", end=", ")
    print(f"log p(x) {evaluation.log_likelihood(model, test, rng, 50).mean:.2f} nats")
axes.legend(fontsize=8)
show(fig, "remedies")

# %% [markdown]
# ## 4. Too simple a model spreads (section 2.9.2)
#
# Data on a ring of radius 1, 0.1 wide. A model is fitted by KL(data || model), as by likelihood and bound
# (`ch02_marginal_likelihood`), or by KL(model || data). In the first, a datum that the model misses sends E[log p] to
# *minus* infinity (the text has infinity); empty space is nearly free.


# %%
def draw(count):
    """Points on the ring, (count, 2)."""
    angle, radius = 2 * np.pi * rng.random(count), 1 + 0.1 * rng.standard_normal((count, 1))
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def log_density(x):
    """Of the ring, (..., 2) -> (...)."""
    r = np.linalg.norm(x, axis=-1)
    return norm.logpdf(r, 1, 0.1) - np.log(2 * np.pi * r)


def reverse(theta):
    """KL(model || data) of a Gaussian at (theta_0, 0) with deviations exp(theta_1), exp(theta_2)."""
    x = np.array([theta[0], 0.0]) + np.exp(theta[1:]) * EPS
    return np.mean(norm.logpdf(EPS).sum(axis=1) - theta[1:].sum() - log_density(x))


def spread(name, x, kl=""):
    """A row of the table."""
    total, across = np.var(x, axis=0).sum(), np.var(np.linalg.norm(x, axis=1))
    print(f"{name:35s}{total:15.3f}{across:24.4f}{kl:>24}")


EPS, ring, held_out = rng.standard_normal((2000, 2)), draw(4000), draw(20_000)
print(f"{'':35s} total variance  variance of the radius  KL(data || model), nats")
spread("data", held_out)
mean, *log_sigmas = minimize(reverse, [1.0, -2.0, -1.0], method="Nelder-Mead").x
shown = {"data": ring, "Gaussian by KL(model || data)": np.array([mean, 0.0]) + np.exp(log_sigmas) * EPS}
spread("Gaussian by KL(model || data)", shown["Gaussian by KL(model || data)"])
for k in (1, 2, 4, 16):
    model = GaussianMixture(k, random_state=0).fit(ring)
    name, x = f"by KL(data || model): {k} Gaussian{'s' * (k > 1)}", model.sample(50_000)[0]
    spread(name, x, f"{np.mean(log_density(held_out) - model.score_samples(held_out)):.3f}")
    shown[name] = rng.permutation(x)
fig = plots.figure(9.0, 5.6)
for i, (name, x) in enumerate(shown.items()):
    axes = plots.panel(fig.add_subplot(2, 3, i + 1), name, "$x_1$", "$x_2$")
    axes.plot(*x[:1000].T, ".", color="black", markersize=1)
    axes.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal")
show(fig, "ring")

# %% [markdown]
# The text says that the model's variance "will end up larger". Across the ring it is; in total it is the data's own,
# as Gaussians and mixtures of highest likelihood match moments. What is larger is the entropy. A more flexible model
# cures it, as the text says.
#
# ## 5. The long runs
#
# Section 3 on MNIST, where the latents that the remedies keep alive raise log p(x) by up to 2 nats; above they have
# nothing to add. "No latent keeps even the least lambda" fails: one of the eight does, by the plain bound.

# %%
stored("ch02_challenges.collapse")

# %% [markdown]
# The ring with VAEs is `ch02_challenges.variance`. Free bits for groups of latents: `ch04_layers`, `ch05_resnet`.
# ## 6. Try
#
# - In section 1: a weight that grows from 0.1 to 1 within `steps_to_leave`, s² = 1.1. Does w go back in the end?
# - In section 3: `free_bits` at 4 nats a latent. What becomes of log p(x)?
# - In section 3: leave out the training of `first.weight`. Does the plain bound still ignore z?
