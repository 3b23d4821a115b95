"""Reconstruction: a VAE beside a plain autoencoder (AEVB report sections 1 and 4; thesis section 2.10).

A bound without noise and divergence is an autoencoder's objective. The report asks whether the VAE reconstructs better,
and notes "mean worked better" than a draw. Errors are -log p(x | z) in nats, or squared distances, of whole images.
"""

# %% [markdown]
# ## 1. Two objectives, the same networks
#
# Eq. 2.71 splits the bound, at a draw z = mu(x) + sigma(x) eps, and the autoencoder keeps its first term, at eps = 0:
#
# $$\tilde L(x; \epsilon) = \log p(x | z) + \log p(z) - \log q(z | x) \qquad A(x) = \log p(x | z = \mu(x))$$
#
# Between the two stands a weight beta on the divergence, 1 for the VAE. Binary pixels of digits, ten latents:

# %%
import numpy as np
from scipy.stats import norm

import minivi as mv
from minivi import data, evaluation, plots, small
from minivi.lesson import show, stored
from minivi.models import VAE
from minivi.optim import Adam, linear
from minivi.training import fit

# %%
digits = data.load("digits")
test = data.fresh(digits.test, mv.Generator(0))


def loss(vae, x, rng, beta):
    """Minus A(x) for beta None; else minus the bound with ``beta`` times its divergence (eq. 2.77)."""
    q = vae.encode(x)
    if beta is None:
        return -vae.decode(q.mu).log_prob(x).mean()
    z = q.rsample(rng.standard_normal(q.shape, dtype="float32"))
    return (beta * q.kl() - vae.decode(z).log_prob(x)).mean()


def train(beta, latents=10, images=digits.train, epochs=30, prepare=data.fresh):
    """A trained model."""
    vae = VAE(pixels=64, hidden=(100,), latents=latents, rng=mv.Generator(1))
    optimizer = Adam(vae.parameters(), linear(6e-3, 1e-4, epochs * -(-len(images) // 100)))
    options = {"epochs": epochs, "rng": mv.Generator(2), "prepare": prepare, "progress": False}
    fit(vae, lambda x, rng: loss(vae, x, rng, beta), optimizer, images, **options)
    return vae


ae, vae = train(None), train(1.0)
rows = {"grey digits": digits.test, "binary pixels": test, "autoencoder": ae.reconstruct(test)}
rows |= {"VAE, mean": vae.reconstruct(test), "VAE, draw": vae.mean_image(vae.encode(test).sample(mv.Generator(3)))}
fig = plots.figure(8.5, 2.7)
axes = fig.add_subplot()
sheet = plots.tile(np.concatenate([images[:20] for images in rows.values()]), digits.shape, 20)
plots.show(axes, sheet, "Twenty test images and their reconstructions")
axes.set_yticks(9 * np.arange(5) + 4, rows, fontsize=8)
show(fig, "reconstructions")


# %%
def nats(vae, z=None):
    """-log p(x | z) of the test images, by default at the code's mean, (N,)."""
    with mv.no_grad():
        return -vae.decode(vae.encode(test).mu if z is None else z).log_prob(test).data.astype(float)


def squared(images, target):
    """Squared distances, (..., N)."""
    return np.sum((images - target) ** 2, axis=-1, dtype=float)


def line(name, a, b):
    """Two models' errors on the same images, and how far the first is behind."""
    gain = a - b
    print(f"{name:36s} {a.mean():9.2f} {b.mean():9.2f} {gain.mean():+9.2f} +- {gain.std() / len(gain) ** 0.5:.2f}")


print(f"{'297 test images, mean codes':36s} {'AE':>9s} {'VAE':>9s} {'AE - VAE':>9s}")
line("nats, of the pixels it was given", nats(ae), nats(vae))
line("squared error, of these pixels", squared(ae.reconstruct(test), test), squared(vae.reconstruct(test), test))
line("squared error, of the grey digit", *(squared(m.reconstruct(test), digits.test) for m in (ae, vae)))

# %% [markdown]
# No: the autoencoder gives back better what it was given, also on images never seen. It is trained for nothing else.
# But the pixels were drawn from a grey digit, and *that* the VAE finds better: what it leaves out is mostly noise.
#
# ## 2. What costs, and when it pays
#
# The noise alone costs nothing: at beta = 0 sigma goes to 0. It is the divergence that keeps sigma up. Below, each
# beta is a point: what the codes cost, KL(q(z | x) || p(z)), against what they leave to be told. The bound of beta = 1
# is minus the sum, so that its contours are diagonals. A second curve has 200 training images, their pixels drawn once.

# %%
BETAS = (0.1, 0.3, 1.0, 3.0)
few = data.fresh(digits.train[:200], mv.Generator(0))
STATIC = {"images": few, "epochs": 120, "prepare": None}
fig = plots.figure(8.5, 3.6)
panels = fig.subplots(1, 2)
for i, (name, options) in enumerate(
    {"1,500 images, pixels drawn afresh": {}, "200 images, pixels drawn once": STATIC}.items()
):
    plain = train(None, **options) if options else ae
    models = {b: train(b, **options) if options or b != 1 else vae for b in BETAS}
    rates = [m.encode(test).kl().data.mean() for m in models.values()]
    left = [nats(m, m.encode(test).sample(mv.Generator(4))).mean() for m in models.values()]
    panels[0].plot(rates, left, label=name, **plots.style(i, 4))
    error = {"AE": nats(plain).mean()} | {b: nats(m).mean() for b, m in models.items()}
    panels[1].plot(BETAS, list(error.values())[1:], label=name, **plots.style(i, 4))
    panels[1].axhline(error["AE"], color=plots.style(i)["color"], linewidth=0.8, linestyle=(0, (1, 2)))
    print(f"{name + ', error':40s}", *(f"{k}: {e:.2f}" for k, e in error.items()), sep="  ")
    totals = zip(BETAS, rates, left, strict=True)
    print(f"{'bound, for each beta':40s}", *(f"{b}: {-r - e:.2f}" for b, r, e in totals), sep="  ")
for total in (24, 28, 34):
    ends = np.array([max(0, total - 28), min(22, total - 12)])
    panels[0].plot(ends, total - ends, color="#999999", linewidth=0.6)
panels[0].set(xlim=(0, 22), ylim=(12, 28))
plots.panel(panels[0], "Test images (thin: equal bounds)", "KL(q || p(z)), nats", "-log p(x | z) at a draw, nats")
plots.panel(panels[1], "Test error (dotted: the autoencoder)", "beta", "-log p(x | z) at the mean code, nats", log="x")
plots.legend_below(fig, panels)
show(fig, "weights")

# %% [markdown]
# A little divergence is nearly free or, where the same few pixels come again and again, of use: it stops codes from
# remembering them. A weight of 1 costs up to 3 nats of reconstruction and gives the best *bound*: it is the right one
# for log p(x), which is another question than the report's.
#
# ## 3. The mean or a draw?
#
# Let m(z) be the mean image. For the squared error there is a law, for every decoder and image:
#
# $$E_q |m(z) - x|^2 = |E_q m(z) - x|^2 + E_q |m(z) - E_q m(z)|^2$$
#
# so a draw loses its own variance against the *mean of decoded draws*. The decoded mean m(mu) is neither; it is close.

# %%
q = vae.encode(test)
decoded = vae.mean_image(q.sample(mv.Generator(5), (100,)))  # (100, N, 64)
average = decoded.mean(axis=0, dtype=float)
one, mean, code = squared(decoded, test).mean(axis=0), squared(average, test), squared(vae.mean_image(q.mu), test)
variance = squared(decoded, average).mean()
print(f"squared error: a draw {one.mean():.3f} = mean of draws {mean.mean():.3f} + variance {variance:.3f}")
print(f"the mean code {code.mean():.3f}; better than a draw for {np.mean(code < one):.0%} of images,", end=" ")
print(f"than the mean of draws for {np.mean(code < mean):.0%}")

# %% [markdown]
# ## 4. Codes, and what is between them
#
# What does the divergence buy? With two latents all codes fit a picture. An autoencoder's lie anywhere, at any scale,
# so that z from N(0, I) means nothing to its decoder. The fairest prior we can give it is a Gaussian fitted to its
# codes: z = m + L u, L L' their covariance, which goes into the decoder's first layer. Then log p(x) is an integral
# over two numbers for either model (`ch01_models`, section 3):

# %%
flat = {"autoencoder": train(None, 2), "VAE": train(1.0, 2)}
fig = plots.figure(8.5, 3.8)
log_px = {}
for i, (name, model) in enumerate(flat.items()):
    with mv.no_grad():
        codes = model.encode(test).mu.data.astype(float)
    axes = plots.panel(fig.add_subplot(1, 2, i + 1), f"Codes of test images, {name}", "$z_1$", "$z_2$")
    for digit in range(10):
        here = codes[digits.test_labels == digit]
        axes.plot(*here.T, linestyle="", marker=f"${digit}$", markersize=5, color="black", markeredgewidth=0.2)
    standard = evaluation.log_likelihood_by_quadrature(model, test, 60).mean
    first, factor = model.decoder.layers[0], np.linalg.cholesky(np.cov(codes.T))
    first.bias.assign(first.bias.data + codes.mean(axis=0) @ first.weight.data)
    first.weight.assign(factor.T @ first.weight.data)
    log_px[name] = evaluation.log_likelihood_by_quadrature(model, test, 100, 6.0).values
    print(f"{name:11s} codes deviate by {codes.std(axis=0).round(2)}", end="; ")
    print(f"log p(x) with z from N(0, I) {standard:.2f}, from the Gaussian fitted {log_px[name].mean():.2f} nats")
show(fig, "codes")
line("log p(x), both fitted, AE less VAE", log_px["autoencoder"], log_px["VAE"])

# %% [markdown]
# Not a better decoder, then, at this size: given a prior the autoencoder's does as well. What it lacks is that prior,
# and a sigma that says how far a code may be off. Without these there is no log p(x), and nothing to sample from.
#
# ## 5. Information (section 2.10)
#
# The text says that an unregularised autoencoder maximises a lower bound on the information that z has of x, and that
# this "is in itself not sufficient for learning useful representations". The bound has the other side as well:
#
# $$H + E[\log p(x | z)] \; \le \; I(x; z) \; \le \; E[KL(q(z | x) || p(z))]$$
#
# with H the entropy of the data. L is left side less right side, less H: it asks for little information, well used.
# Four pixels that mostly agree, one latent, so that I is a sum over 16 patterns and a grid:

# %%
ones = small.PATTERNS.sum(axis=1)
q_d = 0.5 * (0.9**ones * 0.1 ** (4 - ones) + 0.1**ones * 0.9 ** (4 - ones))  # all 0 or all 1, each pixel turned by 1/10
entropy = -q_d @ np.log(q_d)
z, dz = small.grid(12.0, 801)


def information(vae):
    """The three numbers, in nats."""
    with mv.no_grad():
        q = vae.encode(small.PATTERNS)
        log_px_z = vae.decode(z[:, None, None]).log_prob(small.PATTERNS).data
    log_q = norm.logpdf(z[:, None], q.mu.data[:, 0], np.exp(q.log_sigma.data[:, 0]))  # (grid, 16)
    weights = np.exp(log_q) * q_d * dz
    log_ratio = log_q - np.log(np.maximum(np.exp(log_q) @ q_d, 1e-300))[:, None]  # log q(z | x) - log q(z)
    return entropy + np.sum(weights * log_px_z), np.sum(weights * log_ratio), q.kl().data @ q_d


fig = plots.figure(8.5, 3.4)
panels, rng = fig.subplots(1, 2, sharey=True), mv.Generator(6)
for axes, beta in zip(panels, (0.0, 1.0), strict=True):
    tiny, curves = small.small_vae(1, hidden=8), []
    optimizer = Adam(tiny.parameters(), 0.03)
    for step in range(401):
        if step % 25 == 0:
            curves.append(information(tiny))
        q = tiny.encode(small.PATTERNS)
        log_px_z = tiny.decode(q.rsample(rng.standard_normal(q.shape))).log_prob(small.PATTERNS)
        optimizer.step(mv.grad(((beta * q.kl() - log_px_z) * q_d).sum(), optimizer.parameters))
    for i, name in enumerate(("H + E log p(x | z)", "I(x; z)", "E KL(q(z | x) || p(z))")):
        axes.plot(np.arange(0, 401, 25), np.array(curves)[:, i], label=name, **plots.style(i, 17))
    axes.axhline(entropy, color="#777777", linewidth=0.8)
    plots.panel(axes, f"beta = {beta:.0f} (thin: H)", "step", "" if beta else "nats")
    print(
        f"beta = {beta:.0f}: {curves[-1][0]:.3f} <= I = {curves[-1][1]:.3f} <= {curves[-1][2]:.3f}; H = {entropy:.3f}"
    )
panels[0].set_ylim(-0.5, 4)
plots.legend_below(fig, panels)
show(fig, "information")

# %% [markdown]
# Without the divergence the code becomes a list of patterns, a place for each, and I goes towards H. With it the code
# says which of the two kinds a pattern is, at most log 2 = 0.69 nats; which pixels were turned is left to p(x | z).
#
# ## 6. The long run
#
# On MNIST after 8 epochs the autoencoder is ahead, except with 50 hidden units. "Mean worked better" holds throughout.

# %%
stored("ch02_autoencoder.reconstruction")

# %% [markdown]
# On faces, `ch02_autoencoder.reconstruction_frey`, the two are level with 20 latents.
#
# ## 7. Try
#
# - In section 1: `train(None, 20)` and `train(1.0, 20)`. Which model gets worse, and at what?
# - In section 2: `few` with 50 images, then 800. Is the VAE ahead of the autoencoder now?
# - In section 2: print `vae.encode(test).log_sigma.data.mean()` for `train(0.0)`. What has the noise become?
# - In section 3: for which decoder would the mean code be worse than a draw? (Think of an m(z) with a narrow peak.)
# - In section 4: `train(None, 2, epochs=300)`. Do the codes grow further? And log p(x) with its fitted Gaussian?
# - In section 5: let each pixel be turned by 0.3. How much information does the VAE want now, and why none at all?
