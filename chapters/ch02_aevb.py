"""Auto-encoding variational Bayes (thesis sections 2.3 to 2.7 and 2.11, appendix 2.A).

A model of data x with latent variables z explains each x by an unseen z. For anything richer than linear maps neither
p(x) nor p(z | x) can be computed. How can such a model be trained? Algorithm 1 answers: maximise a lower bound on
log p(x) with a second network, the encoder, and take gradients through the sampling. Here is the whole method, on
8 x 8 digits, in ten seconds. Symbols and equation numbers are the thesis's; all logarithms are natural, in nats.
Behind +- stands a standard error: of a mean over images where a bound is printed, over draws where a gradient is.
"""

# %% [markdown]
# ## 1. The data
#
# Grey digits of 8 x 8 pixels. The grey value of a pixel, in [0, 1], is the probability that it is black; each time an
# image is used its pixels are drawn afresh. Above the grey images, below one draw of each.

# %%
import numpy as np
from scipy.special import ndtri
from scipy.stats import norm

import minivi as mv
from minivi import bounds, data, evaluation, nn, ops, plots
from minivi.lesson import show, stored
from minivi.models import VAE
from minivi.optim import Adam

# %%
rng = mv.Generator(0)
digits = data.load("digits")


def gallery(images, columns, title):
    """Images side by side."""
    fig = plots.figure(8.0, 8.0 * -(-len(images) // columns) / columns + 0.4)
    plots.show(fig.add_subplot(), plots.tile(images, digits.shape, columns), title)
    return fig


drawn = data.binarize(digits.train[:16], "dynamic", rng)
show(gallery(np.concatenate([digits.train[:16], drawn]), 16, "Grey digits, and binary pixels drawn from them"), "data")
print(f"{len(digits.train)} training images, {len(digits.test)} test images of {digits.train.shape[1]} pixels")

# %% [markdown]
# ## 2. The model, and the bound that is its objective
#
# A standard normal z, turned by a network into the probability of each pixel; and an encoder, which turns x into the
# mean and standard deviation of a Gaussian over z (eq. 1.15 to 1.18, 2.36, 2.37):
#
# $$p(z) = N(0, I) \qquad p(x | z) = \prod_d Bernoulli(x_d; DecoderNet(z)_d) \qquad
#   q(z | x) = N(z; \mu(x), diag(\sigma(x)^2))$$
#
# The objective is the bound of eq. 2.10 on log p(x), the *evidence*: the evidence lower bound, ELBO. Its divergence is
# in closed form (appendix 2.A, eq. 2.77):
#
# $$L(x) = E_{q(z | x)}[\log p(x | z)] - KL(q(z | x) || p(z)) \; \le \; \log p(x)$$
#
# It is estimated with one draw: z = mu + sigma eps, with eps from N(0, I) (eq. 2.40). That is all there is to program:


# %%
class Model(nn.Module):
    """Encoder and decoder: one hidden layer of tanh units each."""

    def __init__(self, pixels, hidden, latents, rng):
        self.latents = latents
        self.encoder = nn.MLP((pixels, hidden, 2 * latents), rng)
        self.decoder = nn.MLP((latents, hidden, pixels), rng)

    def encode(self, x):
        """mu and log sigma of q(z | x), each (B, J)."""
        heads = self.encoder(x)
        return heads[:, : self.latents], 0.5 * heads[:, self.latents :]  # the second head is log sigma^2

    def bound(self, x, eps):
        """One draw's estimate of L(x), (B,): reconstruction minus divergence."""
        mu, log_sigma = self.encode(x)
        z = mu + ops.exp(log_sigma) * eps
        log_px_z = ops.bernoulli_log_prob(x, self.decoder(z))
        kl = 0.5 * ops.sum(mu * mu + ops.exp(2 * log_sigma) - 2 * log_sigma - 1, axis=1)
        return log_px_z - kl


x, eps = drawn[:5], rng.standard_normal((5, 2), dtype="float32")
ours = Model(64, 100, 2, mv.Generator(1))
library = VAE(pixels=64, hidden=(100,), latents=2, rng=mv.Generator(1))  # the library's, with the same weights
print("ours:   ", np.asarray(ours.bound(x, eps)))
print("library:", np.asarray(library.elbo(x, eps=eps[None])))

# %% [markdown]
# ## 3. Is it a bound? (eq. 2.5 to 2.12)
#
# $$\log p(x) = L(x) + KL(q(z | x) || p(z | x))$$
#
# so L(x) is below log p(x), by just as much as q differs from the true posterior. With four pixels and one latent the
# integrals over z are sums over a grid, and each term can be computed. Nothing is trained yet, so in the picture q and
# the posterior p(z | x) are near the prior, and differ:

# %%
small = VAE(pixels=4, hidden=(3,), latents=1, rng=mv.Generator(99), dtype="float64")
x = np.array([[1.0, 0.0, 0.0, 1.0]])
z, dz = np.linspace(-10.0, 10.0, 2001, retstep=True)
q = small.encode(x)
log_q = norm.logpdf(z, q.mu.item(), np.exp(q.log_sigma.item()))
log_joint = norm.logpdf(z) + np.asarray(small.decode(z[:, None]).log_prob(x))  # log p(z) + log p(x | z)

log_px = np.log(np.sum(np.exp(log_joint)) * dz)
elbo = np.sum(np.exp(log_q) * (log_joint - log_q)) * dz
kl = np.sum(np.exp(log_q) * (log_q - (log_joint - log_px))) * dz
print(f"log p(x) = {log_px:.6f}     L(x) = {elbo:.6f}     KL(q || posterior) = {kl:.6f}     sum = {elbo + kl:.6f}")

fig = plots.figure(6.0, 3.0)
axes = plots.panel(fig.add_subplot(), "One image of four pixels, before training", "z", "density")
for i, (label, log_density) in enumerate(
    {"prior p(z)": norm.logpdf(z), "posterior p(z | x)": log_joint - log_px, "encoder q(z | x)": log_q}.items()
):
    axes.plot(z[500:1501:10], np.exp(log_density[500:1501:10]), label=label, **plots.style(i, 100))
axes.legend(fontsize=8)
show(fig, "posterior")

# %% [markdown]
# ## 4. Gradients through the sampling (eq. 2.20 to 2.32)
#
# The gradient of an expectation under q, whose parameters are among those that we change, is not the expectation of the
# gradient. Written as z = mu + sigma eps it is: eps does not depend on the parameters, so the gradient may go inside.
# `eps` is an argument of the bound, hence a finite difference can hold it still and check every derivative:

# %%
eps = rng.standard_normal((1, 1, 1))
print(mv.gradcheck(lambda: small.elbo(x, eps=eps).mean(), parameters=small))

# %% [markdown]
# And it is unbiased: the mean over many draws is the derivative of the exact bound, here by the bias that moves mu.
# Estimator A samples the divergence as well (eq. 2.29), estimator B has it in closed form (eq. 2.77): the same mean,
# other noise.

# %%
bias = small.encoder.layers[-1].bias


def exact_bound(shift):
    """The bound of section 3 with mu moved by ``shift``."""
    log_q = norm.logpdf(z, q.mu.item() + shift, np.exp(q.log_sigma.item()))
    return np.sum(np.exp(log_q) * (log_joint - log_q)) * dz


print(f"derivative of the exact bound {(exact_bound(1e-5) - exact_bound(-1e-5)) / 2e-5:+.4f}")
for estimator in ("A", "B"):
    draws = [mv.grad(small.elbo(x, rng, estimator=estimator).mean(), bias)[0] for _ in range(5000)]
    noise = np.std(draws)
    mean = f"{np.mean(draws):+.4f} +- {noise / np.sqrt(len(draws)):.4f}"
    print(f"estimator {estimator}: mean of 5,000 draws {mean}; one draw +- {noise:.3f}")

# %% [markdown]
# ## 5. Algorithm 1
#
# Minibatch, noise, gradient, update. Nothing else happens in the long runs. The update is Adam's, gradient ascent with
# a step of its own for each weight (lesson `ch07_adam`). The test bound is that of images which the training never
# sees; the curve takes one draw for each, hence its jitter.

# %%
test = data.binarize(digits.test, "dynamic", rng)


def train(latents, epochs=120):
    """Algorithm 1: the trained model, and the bound on test images after each epoch."""
    vae = VAE(pixels=64, hidden=(100,), latents=latents, rng=rng)  # `Model` of section 2, and more methods
    optimizer, curve = Adam(vae.parameters(), step_size=2e-3), []
    for _ in range(epochs):
        for batch in data.batches(digits.train, size=100, rng=rng):
            x = data.binarize(batch, "dynamic", rng)
            loss = -vae.elbo(x, rng).mean()
            optimizer.step(mv.grad(loss, optimizer.parameters))
        curve.append(evaluation.elbo(vae, test, rng))
    return vae, curve


sizes = (2, 10)
vaes, curves = zip(*[train(latents) for latents in sizes], strict=True)
fig = plots.figure(6.0, 3.2)
axes = plots.panel(fig.add_subplot(), "Algorithm 1 on digits", "epoch", "bound on test images, nats")
for i, (latents, vae, curve) in enumerate(zip(sizes, vaes, curves, strict=True)):
    axes.plot(np.arange(1, 121), [b.mean for b in curve], label=f"{latents} latents", **plots.style(i, 120))
    print(f"{latents} latents: {evaluation.elbo(vae, test, rng, samples=100)} nats, by 100 draws an image")
axes.legend(fontsize=8)
show(fig, "curve")

# %% [markdown]
# ## 6. What it has learned (Figures 2.7 and 2.8)
#
# Two latents, so the whole latent space fits a page: the unit square through the inverse of the Gaussian's distribution
# function covers the prior evenly, and each point z is shown as the mean of p(x | z). Neighbours look alike: the
# decoder is smooth. Then samples: z from the prior.

# %%
u = ndtri((np.arange(14) + 0.5) / 14)
grid = np.stack(np.meshgrid(u, u[::-1]), axis=-1).reshape(-1, 2)
show(gallery(vaes[0].mean_image(grid), 14, "Mean images over the two latents, equal steps of probability"), "manifold")
show(gallery(vaes[1].sample(40, rng)[0], 20, "Samples of the model with ten latents: mean images"), "samples")

# %% [markdown]
# ## 7. How far is the bound from log p(x)? (eq. 2.56, 2.57)
#
# With q as proposal, importance sampling estimates p(x) itself: the logarithm of the mean of K weights
# p(x, z) / q(z | x) rises with K from the bound (K = 1, by one draw, where section 5 printed 100) to log p(x).

# %%
for k in (1, 10, 100, 1000):
    print(f"K = {k:4d}: {evaluation.bound(vaes[1], test, rng, k, bounds.iwae)} nats")

# %% [markdown]
# ## 8. The published figures
#
# The same on MNIST, with 3 to 200 latents, beside wake-sleep (Figure 2.5), whose encoder learns from images that the
# model itself draws (lesson `report_review`), as `minivi run ch02_aevb --budget laptop` has left it. Claims are
# sentences of the thesis; each could have come out the other way.

# %%
stored("ch02_aevb.bound")

# %% [markdown]
# Look at train beside test with 200 latents: superfluous latents do not overfit. After these 20 epochs they do not help
# either: 20 latents are 1.2 nats ahead. Wake-sleep falls behind at every size, most at 200. The thesis has these curves
# as a picture only, so no number of it is reproduced. `minivi check ch02_aevb` checks the equations of these sections.
#
# ## 9. Try
#
# - In section 3: before `q`, train `small` on `x` alone, by the loop of section 5. Which term goes to zero? And which
#   one cannot, if only `small.encoder.parameters()` are trained?
# - In section 2: write `+ kl` in `Model.bound`. Which line of output tells? In section 5 the same mistake is
#   `loss = -(vae.elbo(x, rng) + 2 * vae.encode(x).kl()).mean()`. What does training do?
# - In section 4: let `bias` be `small.decoder.layers[-1].bias`. Why have A and B the same noise now? (Their mean is no
#   longer the derivative printed above them, which is that of mu.)
# - In section 5: `sizes = (2, 20)`. Does the test bound gain over ten latents? Does the model use all twenty? Print
#   `np.std(vaes[1].encode(test).mu.data, axis=0)`: a latent that is not used has the same mean for all images.
# - In section 5: `vae.elbo(x, rng, samples=10)` costs ten times the decoder. Is it better than ten times the epochs?
