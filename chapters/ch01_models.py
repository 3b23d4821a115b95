"""Probabilistic models, and why latent variables make them hard to learn (thesis chapter 1, appendix 9.2 and 9.3).

A model that sees all its variables is learned by climbing its log-probability, a minibatch at a time. A variable that
is not seen makes the model richer, and puts an integral in the way. What does it buy, why does the integral defeat a
grid, and what did one do before there were recognition networks? 15 seconds, on 8 x 8 digits; all in nats.
"""

# %% [markdown]
# ## 1. Everything is seen: maximum likelihood by minibatches
#
# A network turns an image into the probabilities of its class (eq. 1.4, 1.5); the parameters climb the mean
# log-probability of the data (eq. 1.10), estimated on a minibatch M (eq. 1.12), by stochastic gradient ascent (9.15):
#
# $$p(y | x) = Categorical(y; NeuralNet(x)) \qquad \theta \leftarrow \theta + \alpha \nabla_\theta
#   \frac{1}{|M|} \sum_{(x, y) \in M} \log p(y | x)$$
#
# With 50 images the network learns them by heart: their curve (left) falls on, that of new images (right) turns. Two
# remedies: to stop early (section 9.3), where 500 images held out are likeliest; the test images must not choose. Or a
# prior on theta (eq. 9.5), here N(0, I / 0.3), which counts once for all N data: hence 0.3 theta / N in the gradient.

# %%
import time

import numpy as np

import minivi as mv  # mv.grad finds gradients: how, is lesson `how_engine`
from minivi import data, nn, ops, plots
from minivi.lesson import show, stored
from minivi.models import VAE
from minivi.optim import Adam

# %%
digits, few = data.load("digits"), 50
x, labels = digits.train[:few], digits.train_labels[:few]
parts = ((x, labels), (digits.train[-500:], digits.train_labels[-500:]), (digits.test, digits.test_labels))


def log_prob(network, x, labels):
    """log p(y | x), (B,): the log-softmax of the network's output at the label."""
    logits = network(x)
    return logits[np.arange(len(x)), labels] - ops.log_sum_exp(logits, axis=1)


fig, curves = plots.figure(9.0, 3.4), {}
panels = fig.subplots(1, 2)
for i, (name, precision) in enumerate({"maximum likelihood": 0.0, "with a prior": 0.3}.items()):
    rng, curve = mv.Generator(0), []
    theta = (network := nn.MLP((64, 100, 10), rng)).parameters()
    for _ in range(400):
        for batch, y in data.batches(x, labels, size=25, rng=rng):
            for p, g in zip(theta, mv.grad(log_prob(network, batch, y).mean(), theta), strict=True):
                p.assign(p.data + 0.3 * (g - precision / few * p.data))
        curve.append([-log_prob(network, *part).mean().item() for part in parts])
    curves[name] = np.transpose(curve)
    for axes, values in zip(panels, curves[name][:2], strict=True):
        axes.plot(np.arange(1, 401), values, label=name, **plots.style(i) | {"marker": ""})
for axes, title, log in zip(panels, (f"{few} training images", "500 images held out"), ("xy", "x"), strict=True):
    plots.panel(axes, title, "epoch", "mean -log p(y | x), nats", log=log).legend(fontsize=8)
show(fig, "classifier")
for name, (_, held_out, test) in curves.items():
    stop = held_out.argmin()
    print(f"{name}: test {test[-1]:.3f} nats at the end, {test[stop]:.3f} if stopped after epoch {stop + 1}")

# %% [markdown]
# Why may a minibatch stand for the data? Its gradient is an unbiased estimate (eq. 1.12), of variance sigma^2 / M when
# drawn with replacement; sigma^2 is that of one random image. Here for 400 minibatches: the mean of their gradients
# along the full gradient, 1 if unbiased, and their variance, summed over all parameters.

# %%
gradient = lambda i: np.concatenate([g.ravel() for g in mv.grad(log_prob(network, x[i], labels[i]).mean(), theta)])
full, sigma2 = gradient(np.arange(few)), np.array([gradient([i]) for i in range(few)]).var(axis=0).sum()
for m in (1, 5, 25):
    found = np.array([gradient(rng.integers(0, few, m)) for _ in range(400)])
    along, variance = found @ full / (full @ full), found.var(axis=0).sum()
    print(f"M = {m:2d}: along the full gradient {along.mean():.2f} +- {along.std() / 20:.2f}", end=", ")
    print(f"variance / (sigma^2 / M) {variance * m / sigma2:.2f}")

# %% [markdown]
# ## 2. What a latent variable buys (section 1.6)
#
# Now images without labels, 64 binary pixels. With nothing unseen and no network, pixels are independent. A latent z
# makes p(x) a mixture: each p(x | z) is still a product over pixels, but they all switch together (eq. 1.13, 1.14).
#
# $$p(x) = \sum_k \pi_k \, p(x | z = k) \qquad\text{or}\qquad p(x) = \int p(z) \, p(x | z) \, dz$$
#
# (For a discrete z the text calls *q(z | x)* the mixture; that is p(x). p(z | x) is K numbers whose sum is one.) A sum
# over K values is no difficulty, and EM learns it (eq. 9.6, 9.7): E step r = p(z | x), the *posterior*, by eq. 1.19; M
# step weighted means. That is Bayes' rule; as eq. 9.2 prints it, with p(z | x) on the right too, its sum is not one. In
# the picture most components are a way to write a digit; black on grey is one that has only a few images to itself.

# %%
train, test = (data.binarize(part, "dynamic", mv.Generator(1)) for part in (digits.train, digits.test))
for k in (1, 10, 40):
    pi, p, curve = np.full(k, 1 / k), mv.Generator(2).uniform(0.3, 0.7, (k, 64)), []
    for _ in range(60):
        log_joint = lambda x, pi=pi, p=p: np.log(pi) + x @ np.log(p).T + (1 - x) @ np.log(1 - p).T  # (N, K)
        log_px = np.logaddexp.reduce(log_joint(train), axis=1, keepdims=True)
        r = np.exp(log_joint(train) - log_px)
        n = r.sum(axis=0)[:, None] + 0.2  # the 0.2 keeps probabilities off 0 and 1
        pi, p = n[:, 0] / n.sum(), (r.T @ train + 0.1) / n
        curve.append(log_px.mean())
    log_px = np.logaddexp.reduce(log_joint(test), axis=1).mean()
    print(f"K = {k:2d}: log p(x) {curve[0]:.2f} at first, {curve[-1]:.2f} after 60 steps; test {log_px:.2f} nats")
wrong = (r * pi / np.exp(log_joint(train)).sum(axis=1, keepdims=True))[0].sum()
print(f"p(z | x) of the first image: largest {r[0].max():.3f}, sum {r[0].sum():.3f}, by eq. 9.2 as printed {wrong:.1e}")
fig = plots.figure(8.0, 1.4)
plots.show(fig.add_subplot(), plots.tile(p, digits.shape, 20), f"{k} components: probabilities of the pixels")
show(fig, "mixture")

# %% [markdown]
# ## 3. Why p(x) is intractable (section 1.7)
#
# The deep latent variable model of eq. 1.15 to 1.18: z from N(0, I), and a network from z to the pixels' probabilities,
# trained by chapter 2's method (and Adam, a gradient ascent of chapter 7), which needs no integral. With J latents a
# grid for p(x) has points^J points, each a run of the network. Left: here 15 points on an axis are enough for an error
# of 0.03 nats, for each J. Right: the cost of log p(x) for 100 images; a point's is printed.


# %%
def log_p(vae, x, points):
    """log p(x), (B,), by eq. 1.13 as a sum over points^J values of z."""
    axis, dz = np.linspace(-6, 6, points, retstep=True)
    z = np.stack(np.meshgrid(*[axis] * vae.latents), axis=-1).reshape(-1, vae.latents).astype("float32")
    log_pz = vae.latents * np.log(dz / np.sqrt(2 * np.pi)) - 0.5 * np.sum(z**2, axis=1)
    logits = np.asarray(vae.decode(z).logits, np.float64)
    log_px_z = logits @ x.T - np.logaddexp(0, logits).sum(axis=1, keepdims=True)
    return np.logaddexp.reduce(log_pz[:, None] + log_px_z, axis=0)


def train_vae(vae, x, epochs, optimizer, rng):
    """Chapter 2's Algorithm 1."""
    for batch in (batch for _ in range(epochs) for batch in data.batches(x, size=100, rng=rng)):
        loss = -vae.elbo(batch, rng).mean()
        optimizer.step(mv.grad(loss, optimizer.parameters))


fig = plots.figure(9.0, 3.4)
left, right = fig.subplots(1, 2)
for latents, finest in {1: 200, 2: 80, 3: 40}.items():
    vae = VAE(pixels=64, hidden=(50,), latents=latents, rng=mv.Generator(latents))
    train_vae(vae, train, 80, Adam(vae.parameters(), 3e-3), mv.Generator(3))
    begun = time.process_time()
    exact = log_p(vae, test[:100], finest)
    per_point, points = (time.process_time() - begun) / finest**latents, np.arange(5, 31, 5)
    errors = [np.abs(log_p(vae, test[:100], n) - exact).mean() for n in points]
    left.plot(points, errors, label=f"J = {latents}", **plots.style(latents - 1, 10))
    print(f"J = {latents}: test log p(x) {log_p(vae, test, 30).mean():.2f} nats, {1e6 * per_point:.0f} us a point")
plots.panel(left, "A grid fine enough", "points on an axis", "mean |error| of log p(x), nats", "y").legend(fontsize=8)
j = np.arange(1, 21)
plots.panel(right, "Its cost with 15 points on an axis", "latents", "seconds for 100 images", log="y")
right.plot(j, per_point * 15.0**j, **plots.style(0, 20))
right.set_xticks([1, 5, 10, 15, 20])
for name, value in {"a day": 86400.0, "age of the universe": 4.35e17}.items():
    right.axhline(value, color="#777777", linewidth=0.8)
    right.text(1, 2 * value, name, fontsize=8)
show(fig, "grid")

# %% [markdown]
# With twenty latents nothing can be computed that way: not p(x), hence (eq. 1.19) not p(z | x) either. A longer trained
# decoder is sharper, p(z | x) narrower, and the grid must be finer: on MNIST 60 points (`minivi run ch01_models.dlvm`).
# As to what z buys: each of three latents is worth 0.7 nats or more. After so short a training a mixture of ten still
# does better; the text's "potentially more powerful" is a matter of training, see "Try".
#
# ## 4. Before recognition networks: EM with local parameters (9.2.2)
#
# Each image i has a Gaussian q_i(z) of its own, N(mu_i, diag(sigma_i^2)). The E step climbs the bound in mu_i and log
# sigma_i (eq. 9.6), which lowers its divergence from the posterior, KL(q || p) = E_q[log q - log p] >= 0 (eq. 9.8 to
# 9.10); the M step climbs it in theta (eq. 9.7):
#
# $$L(x) = E_{q(z)}[\log p(x | z)] - KL(q(z) || p(z)) = \log p(x) - KL(q(z) || p(z | x))$$
#
# The E step's natural gradient takes sigma^2 times that of mu, and half that of log sigma: steps in units of sigma.


# %%
def bound(vae, x, mu, log_sigma, eps):
    """L(x), (B,), by draws with the noise eps, (K, B, J)."""
    kl = 0.5 * ops.sum(mu * mu + ops.exp(2 * log_sigma) - 2 * log_sigma - 1, axis=1)
    return vae.decode(mu + ops.exp(log_sigma) * eps).log_prob(x).mean(axis=0) - kl


def e_step(vae, x, mu, log_sigma, rng, steps):
    """Climb the bound in mu and log sigma, (B, J), by two pairs of noise: 4 gradients through the decoder a step."""
    for step in range(steps):
        q, eps = (mv.Tensor(mu), mv.Tensor(log_sigma)), rng.standard_normal((2, *mu.shape), dtype="float32")
        g_mu, g_log_sigma = mv.grad(bound(vae, x, *q, np.concatenate([eps, -eps])).sum(), q)
        rate, sigma = np.float32(0.5 * (1 - step / steps)), np.exp(log_sigma)
        mu = mu + np.clip(rate * sigma**2 * g_mu, -sigma, sigma)  # at most one sigma
        log_sigma = log_sigma + np.clip(0.5 * rate * g_log_sigma, -0.5, 0.5)
    return mu, log_sigma


seen, rng = train[:500], mv.Generator(7)  # aevb has chapter 2's encoder, a network from x to mu and log sigma
aevb, em = (VAE(pixels=64, hidden=(50,), latents=2, rng=mv.Generator(6)) for _ in range(2))
adam, adam_em = Adam(aevb.parameters(), 3e-3), Adam(em.decoder.parameters(), 3e-3)
mu, log_sigma, curves = *np.zeros((2, 500, 2), "float32"), []
for _ in range(12):
    train_vae(aevb, seen, 50, adam, rng)  # 2 gradients for each visit of an image: encoder and decoder
    for batch in np.concatenate([rng.permutation(500).reshape(5, 100) for _ in range(4)]):  # 5 x 4 + 5 gradients
        mu[batch], log_sigma[batch] = e_step(em, seen[batch], mu[batch], log_sigma[batch], rng, 5)
        for _ in range(5):
            eps = rng.standard_normal((1, 100, 2), dtype="float32")
            loss = -bound(em, seen[batch], mu[batch], log_sigma[batch], eps).mean()
            adam_em.step(mv.grad(loss, adam_em.parameters))
    curves.append([log_p(vae, part, 50).mean() for vae in (aevb, em) for part in (seen, test)])
print("after 1,200 gradients, log p(x): encoder {:.2f}, test {:.2f}; EM {:.2f}, test {:.2f}".format(*curves[-1]))
fig = plots.figure(9.0, 3.4)
left, right = fig.subplots(1, 2)
names = ("encoder, training", "encoder, test", "EM, training", "EM, test")
for i, (name, values) in enumerate(zip(names, np.transpose(curves), strict=True)):
    left.plot(100 * np.arange(1, 13), values, label=name, **plots.style(i, 12))
plots.panel(left, "Two latents, 500 images", "network gradients an image", "log p(x), nats").legend(fontsize=8)

# And for images that training has not seen: the encoder at once, a local q from the prior step by step
eps, zero = rng.standard_normal((200, len(test), 2), dtype="float32"), np.zeros((len(test), 2), "float32")
divergence = lambda mu, log_sigma: (log_p(aevb, test, 50) - np.asarray(bound(aevb, test, mu, log_sigma, eps))).mean()
q, steps = aevb.encode(test), 2 ** np.arange(8)
local = [divergence(*e_step(aevb, test, zero, zero, rng, n)) for n in steps]
right.plot(4 * steps, local, label="local, from the prior", **plots.style(0, 8))
right.axhline(encoder := divergence(q.mu, q.log_sigma), label="encoder", **plots.style(1) | {"marker": ""})
plots.panel(right, "New images, the encoder's model", "decoder gradients an image", "KL(q || p(z | x)), nats", log="xy")
right.legend(fontsize=8)
show(fig, "em")
print(f"new images, KL: encoder {encoder:.2f}, local {local[3]:.2f} after 32 gradients, {local[7]:.2f} after 512")

# %% [markdown]
# Left: for the same work the encoder's model is ahead, by a nat on training images: one visit of EM costs as much as
# twelve of its own. Right: what EM is good at. The encoder answers without a gradient, but one network for all images
# leaves a gap of 0.70 nats; a local q is below it after 32 gradients an image, which each new image costs again. Its
# curve does not go to 0: the posterior is no Gaussian, and a few images end in a lesser mode, more or fewer by chance.
# The same on MNIST, with MCMC-EM (section 9.2.3), whose E step moves a chain for each image along grad_z log p(x, z):

# %%
stored("ch01_models.em")

# %% [markdown]
# Look at training images: the encoder is 21 nats above variational EM, 19 above MCMC-EM; and at its gap of 25 nats on
# new images, which is far from small. Nothing here is "reproduced": the text has no numbers of its own for this
# comparison. `minivi check ch01_models` checks the equations.
#
# ## 5. Try
#
# - In section 1: 500 for 50 images. How many nats are left of the prior's effect, and why?
# - In section 2: K = 300 for 40. Which of the two likelihoods gains, and which loses?
# - In section 3: 400 epochs for 80, and print `np.round(errors, 3)`. Are 15 points enough now? Does J = 3
#   pass the mixture of ten?
# - In section 4: start the E steps of new images at `np.array(q.mu), np.array(q.log_sigma)`, not at `zero, zero`.
# - In section 4: `0 * eps` in the M step's `bound`, so that theta sees z = mu alone. What does EM lose?
