"""Autoregressive models: MADE, orderings, and what a sample costs (thesis section 4.3).

A VAE needs a bound because its log p(x) is an integral. A model without latent variables needs none: a product of
conditionals, one pixel given those before it, is a density that can be computed exactly. What has to be paid for it?
A few seconds on 8 x 8 digits.
"""

# %% [markdown]
# ## 1. All conditionals in one network
#
# The model is a product, and each factor a function of what comes before it (eq. 4.8, 4.9):
# $$p(x) = p(x_1) \prod_{j=2}^D p(x_j | x_{<j}) \qquad p(x_j | x_{<j}) = Bernoulli(x_j; sigmoid(NeuralNet_j(x_{<j})))$$
#
# These are D networks. MADE (Germain et al. 2015) computes all in one: each hidden unit has a degree m and sees the
# first m pixels only, and feeds the pixels behind the m-th only. Both are masks on the weights. A path from x_k to the
# j-th output is left only if k <= m < j:

# %%
import time

import numpy as np
from scipy.special import expit, logsumexp

import minivi as mv
from minivi import data, nn, ops, optim, plots
from minivi.lesson import show, stored
from minivi.models import VAE


# %%
class Made(nn.Module):
    """One hidden layer, D conditionals; ``order[i]`` is the pixel that comes i-th."""

    def __init__(self, order, degrees, rng, strict=True, init=nn.glorot):
        place = np.argsort(order) + 1  # of each pixel, 1 to D
        self.into = (place[:, None] <= degrees).astype("float32")
        self.out = (degrees[:, None] < place if strict else degrees[:, None] <= place).astype("float32")
        self.first, self.second = (nn.Linear(*mask.shape, rng, init=init) for mask in (self.into, self.out))

    def logits(self, x):
        """Of p(x_j = 1 | x_before j), all j at once: (B, D) to (B, D)."""
        h = ops.relu(x @ (self.first.weight * self.into) + self.first.bias)
        return h @ (self.second.weight * self.out) + self.second.bias

    def log_prob(self, x):
        """Eq. 4.8, (B,)."""
        return ops.bernoulli_log_prob(x, self.logits(x))


even = lambda dims, units: 1 + np.arange(units) * (dims - 1) // units  # degrees 1 to D - 1, each for as many units
small = Made(np.arange(8), even(8, 14), mv.Generator(0), init=nn.normal(1.0))
fig = plots.figure(8.0, 2.6)
pictures = (("pixel", "hidden unit", small.into), ("hidden unit", "output", small.out))
pictures += (("pixel", "output (darker: more paths)", small.into @ small.out),)
for axes, (below, beside, mask) in zip(fig.subplots(1, 3), pictures, strict=True):
    axes.imshow(mask.T, cmap="gray_r")
    axes.set(xticks=[], yticks=[])
    plots.panel(axes, "", below, beside)
show(fig, "masks")
point = mv.Tensor(mv.Generator(1).random(8, dtype="float32"))
jacobian = np.array([mv.grad(small.logits(point)[j], point) for j in range(8)])
print(f"largest derivative of output j by x_k: {np.abs(np.tril(jacobian, -1)).max():.2f} for k < j, ", end="")
print(f"{np.abs(np.triu(jacobian)).max():.2f} for the others")

# %% [markdown]
# ## 2. Is it a density?
#
# With eight pixels one can ask all 256 images. The printed eq. 4.8 multiplies up to a T that is not explained; D is
# meant, since a factor that is left out makes the sum 2. One sign in the mask decides: with `degrees <= place` for the
# outputs each pixel sees itself. And of two models, here of two orderings, the mean of the probabilities is a density
# again; the mean of the logits gives none.

# %%
images = (np.arange(256)[:, None] >> np.arange(8) & 1).astype("float32")
reverse = Made(np.arange(8)[::-1], even(8, 14), mv.Generator(0), init=nn.normal(1.0))
cheat = Made(np.arange(8), even(8, 14), mv.Generator(0), strict=False, init=nn.normal(1.0))


def factors(logits):
    """p(x_j | x_before j) of all images, (256, 8)."""
    return np.where(images == 1, expit(logits), expit(-logits))


up, down, own = (np.asarray(model.logits(images), float) for model in (small, reverse, cheat))
print(f"sum over all images of the product up to D     {factors(up).prod(axis=1).sum():.6f}")
print(f"the same up to D - 1                           {factors(up)[:, :-1].prod(axis=1).sum():.6f}")
print(f"where outputs see themselves                   {factors(own).prod(axis=1).sum():.6f}")
print(f"of the mean of two orderings' probabilities    {(factors(up).prod(1) + factors(down).prod(1)).sum() / 2:.6f}")
print(f"with the mean of two orderings' logits         {factors((up + down) / 2).prod(axis=1).sum():.6f}")

# %% [markdown]
# ## 3. Training: the exact likelihood, no bound
#
# Digits, with pixels drawn afresh from the grey values each time, in the order of a raster scan. Beside MADE stand
# independent pixels, and logistic regressions (each logit is linear in the pixels before it). With 24 hidden units,
# the "cyclic" degrees 1, 2, 3, ... end at 24, and no unit sees what lies behind the 24th pixel; "even" ones are spread.
# The last model sees itself: such a slip looks not like an error, but like a success.

# %%
digits = data.load("digits")
test = data.fresh(digits.test, mv.Generator(2))
raster = np.arange(64)


class Logistic(Made):
    """No hidden layer: strictly triangular weights."""

    def logits(self, x):
        """As above."""
        return x @ (self.second.weight * self.out) + self.second.bias


def train(model, epochs=25, seed=3):
    """Maximum likelihood by Adam; the model."""
    rng, optimizer = mv.Generator(seed), optim.Adam(model.parameters(), 5e-3)
    for _ in range(epochs):
        for batch in data.batches(digits.train, size=50, rng=rng):
            x = data.fresh(batch, rng)
            optimizer.step(mv.grad(-model.log_prob(x).mean(), optimizer.parameters))
    return model


def nats(log_p):
    """Mean over images and its standard error, as text."""
    return f"{np.mean(log_p):.2f} +- {np.std(log_p) / np.sqrt(len(log_p)):.2f}"


p = np.clip(digits.train.mean(axis=0), 1e-3, 1 - 1e-3)
print("independent pixels    ", nats((test * np.log(p) + (1 - test) * np.log(1 - p)).sum(axis=1)), "nats a test image")
models = {
    "logistic regressions": Logistic(raster, np.arange(1, 65), mv.Generator(4)),
    "24 units, cyclic": Made(raster, 1 + np.arange(24), mv.Generator(4)),
    "24 units, even": Made(raster, even(64, 24), mv.Generator(4)),
    "120 units, even": Made(raster, even(64, 120), mv.Generator(4)),
    "24 that see themselves": Made(raster, even(64, 24), mv.Generator(4), strict=False),
}
for name, model in models.items():
    print(f"{name:22s}", nats(np.asarray(train(model).log_prob(test))), "nats a test image")
made = models["120 units, even"]

# %% [markdown]
# These are log p(x) itself, not a bound. The VAE with ten latents in the lesson `ch02_aevb` has about -23.2 nats on the
# same digits, and needs hundreds of samples an image to say so.
#
# ## 4. Which order?
#
# Images have no natural order, and the choice is part of the model: other orders give other densities. Differences from
# the raster scan are taken image by image, which removes what all models find hard. At the end the ensemble: the
# log of the mean probability.

# %%
away = np.hypot(*(np.indices((8, 8)) - 3.5)).ravel()  # of each pixel from the centre
orders = {
    "centre outwards": np.argsort(away, kind="stable"),
    "random": mv.Generator(5).permutation(64),
}
log_p = {"raster scan": np.asarray(made.log_prob(test), float)}
for name, order in orders.items():
    log_p[name] = np.asarray(train(Made(order, even(64, 120), mv.Generator(4))).log_prob(test), float)
log_p["ensemble of the three"] = logsumexp(list(log_p.values()), axis=0) - np.log(3)
for name, values in log_p.items():
    print(f"{name:22s}", nats(values), "nats; less the raster scan's:", nats(values - log_p["raster scan"]))

# %% [markdown]
# Orders differ by little here; that their errors differ is what the ensemble lives on.
#
# ## 5. Ancestral sampling
#
# To draw, x_1 must be there before p(x_2 | x_1) can be computed: D passes in sequence. The loop can begin anywhere. In
# the picture, the first half of the pixels is a test image's and the second half is drawn.


# %%
def ancestral(model, x, start, uniforms):
    """Pixels from ``start`` on, in raster order: one pass for each."""
    x = x.copy()
    with mv.no_grad():
        for j in range(start, 64):
            x[:, j] = uniforms[:, j] < expit(np.asarray(model.logits(x))[:, j])
    return x


rng = mv.Generator(6)
u = rng.random((4, 16, 64), dtype="float32")
rows = [ancestral(made, np.zeros((16, 64), "float32"), 0, u[0]), test[:16]]
rows += [ancestral(made, test[:16], 32, u[i]) for i in (1, 2, 3)]
fig = plots.figure(8.0, 2.8)
axes = fig.add_subplot()
plots.show(axes, plots.tile(np.concatenate(rows), digits.shape, 16), "Samples, test images, three completions of each")
axes.set_yticks(9 * np.arange(5) + 4, ["samples", "test", "drawn below", "again", "again"], fontsize=8)
show(fig, "samples")

# %% [markdown]
# What does it cost? The network's whole input is looked at again for one new pixel, 64 times. The library's sampler
# (`nn.MADE.from_noise`) adds the new pixel's row of weights to what it feeds, with the arithmetic of one pass in all;
# the 64 steps stay in sequence. It gets our weights and the same uniform numbers. A VAE takes one pass.

# %%
library = nn.MADE(64, [120], mv.Generator(4))
for ours, theirs in zip((made.first, made.second), library.layers, strict=True):
    theirs.weight.assign(ours.weight.data * (made.into if ours is made.first else made.out))
    theirs.bias.assign(ours.bias.data)
vae = VAE(pixels=64, hidden=(120,), latents=10, activation="relu", rng=rng)
u, z = rng.random((100, 64), dtype="float32"), rng.standard_normal((100, 10), dtype="float32")
ways = {
    "likelihood, one pass": lambda: library.log_prob(u < 0.2).data,
    "samples, D passes": lambda: ancestral(made, np.zeros((100, 64), "float32"), 0, u),
    "samples, library": lambda: library.from_noise(u),
    "samples of a VAE": lambda: vae.decode(z).sample(rng),
}
for name, way in ways.items():
    way()
    times = [time.perf_counter()] + [(way(), time.perf_counter())[1] for _ in range(9)]
    print(f"{name:21s} {1e4 * np.median(np.diff(times)):8.1f} microseconds an image")
same = np.mean(ways["samples, D passes"]() == ways["samples, library"]())
print(f"pixels that both samplers draw alike: {same:.2%}")

# %% [markdown]
# ## 6. The long runs
#
# On MNIST with 500 units. Several random orderings there share one set of weights, which costs each of them nats, and
# the ensemble wins back some. A raster scan is 4 nats behind one random order. Times: at D = 784, naive synthesis takes
# hundreds of a VAE's, as section 4.3 says; the library's, less than 3.

# %%
stored("ch04_autoregressive.orderings")
stored("ch04_autoregressive.synthesis")

# %% [markdown]
# `ch04_autoregressive.made` has learning curves beside a PyTorch run, and cyclic degrees at length.
# `minivi check ch04_autoregressive` checks eq. 4.8 and 4.9.
#
# ## 7. Try
#
# - In section 1: two hidden layers. Which mask stands between them, `<` or `<=`? Does the Jacobian tell?
# - In section 3: thresholded pixels, `(batch > 0.5).astype("float32")` for `x`. Who gains most, and why?
# - In section 3: `epochs=100` for 120 units. The likelihood is exact; does that keep the model from overfitting?
# - In section 4: `np.argsort(-away, kind="stable")` draws the border first. Is that better, and why?
# - In section 4: an ensemble of four seeds of the raster scan. Is it the orders that help, or the number of models?
# - In section 5: condition on the *lower* half instead. Why can `ancestral` not do that with `made`?
