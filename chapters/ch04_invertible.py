"""Invertible transformations: NICE and Real NVP as models of data (thesis section 4.4).

An autoregressive model of the lesson before is exact, but draws one pixel after the other. A map from data to noise
that can be inverted in one pass is exact too, if one knows what it does to volumes. Coupling layers are built so that
one does. What do they learn, and what can they not? A few seconds.
"""

# %% [markdown]
# ## 1. A density by a change of variables
#
# Let f turn x into noise. Then the density of x is the noise's at f(x), times the volume that f makes of a unit at x:
#
# $$\log p(x) = \log N(f(x); 0, I) + \log |\det \frac{\partial f}{\partial x}| \qquad
#   \textrm{sample:} \; x = f^{-1}(\epsilon)$$
#
# The data are two moons with noise, in two dimensions; their density is known, as a mean over centres on the arcs. The
# best that a model can reach is then known as well: minus the entropy.

# %%
import time

import numpy as np
from scipy.special import expit, logsumexp
from scipy.stats import multivariate_normal

import minivi as mv
from minivi import data, nn, ops, optim, plots
from minivi.lesson import show, stored

# %%
arc = np.pi * (np.arange(200) + 0.5) / 200
centres = np.stack([np.cos(arc) - 0.5, np.sin(arc) - 0.25], axis=1)
centres = 1.5 * np.concatenate([centres, -centres])
NOISE = 0.18


def moons(count, rng):
    """Points of the density, (count, 2)."""
    return (centres[rng.integers(0, 400, count)] + NOISE * rng.standard_normal((count, 2))).astype("float32")


def log_density(x):
    """Its logarithm, (N,)."""
    square = np.sum((x[:, None] - centres) ** 2, axis=-1)
    return logsumexp(-0.5 * square / NOISE**2, axis=1) - np.log(400 * 2 * np.pi * NOISE**2)


rng = mv.Generator(0)
test = moons(2000, rng)
line = np.linspace(-3.0, 3.0, 101)
grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2).astype("float32")
fig = plots.figure(6.5, 3.2)
left, right = fig.subplots(1, 2, sharey=True)
left.plot(*test[:1500].T, "k.", markersize=1)
right.imshow(np.exp(log_density(grid)).reshape(101, 101), cmap="gray_r", origin="lower", extent=(-3, 3, -3, 3))
plots.panel(left, "1,500 points", "x_1", "x_2").set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
plots.panel(right, "their density", "x_1")
show(fig, "moons")
truth = log_density(test)


def text(values):
    """Mean and standard error."""
    return f"{values.mean():.3f} +- {values.std() / np.sqrt(len(values)):.3f}"


print(f"the data's own mean of log p, the best possible: {text(truth)} nats")

# %% [markdown]
# ## 2. Coupling layers
#
# One half of x stays, and moves the other half through a network. Layers take turns. Whatever the network is, the layer
# is undone by one more pass of it, and the Jacobian is triangular:
#
# $$\textrm{NICE:} \; x_b \leftarrow x_b + m(x_a), \; |\det| = 1 \qquad
#   \textrm{Real NVP:} \; x_b \leftarrow x_b e^{s(x_a)} + m(x_a), \; \log |\det| = \sum_i s_i(x_a)$$
#
# NICE ends with one scale for each dimension, as no layer before it can change a volume.


# %%
class Coupling(nn.Module):
    """Layers that take turns, and a last scale."""

    def __init__(self, size, hidden, layers, rng, affine=True, scale=True, start=1.0):
        self.half, self.affine, sizes = size // 2, affine, (size // 2, hidden, size // 2 * (1 + affine))
        self.networks = [nn.MLP(sizes, rng, activation="relu") for _ in range(layers)]
        for last in (network.layers[-1].weight for network in self.networks):
            last.assign(start * last.data)  # from 0 on the map starts as the identity
        self.log_scale = mv.Parameter(np.zeros(size, "float32")) if scale else np.zeros(size, "float32")

    def moves(self, network, kept):
        """m and s, each as wide as a half."""
        y = network(kept)
        return y[..., : self.half], ops.tanh(y[..., self.half :]) if self.affine else np.zeros(1, "float32")

    def forward(self, x):
        """To noise: f(x), and log |det| for each row."""
        a, b, log_det = x[..., : self.half], x[..., self.half :], ops.sum(self.log_scale)
        for network in self.networks:
            m, s = self.moves(network, a)
            a, b, log_det = b * ops.exp(s) + m, a, log_det + ops.sum(s, axis=-1)
        return ops.concatenate([a, b], axis=-1) * ops.exp(self.log_scale), log_det

    def inverse(self, z):
        """Back, as an array."""
        with mv.no_grad():
            z = z * np.exp(-np.asarray(self.log_scale))
            a, b = z[..., : self.half], z[..., self.half :]
            for network in self.networks[::-1]:
                m, s = self.moves(network, b)
                a, b = b, (a - m) * ops.exp(-s)
            return np.concatenate([np.asarray(a), np.asarray(b)], axis=-1)

    def log_prob(self, x):
        """In nats."""
        z, log_det = self.forward(x)
        return log_det - 0.5 * ops.sum(z * z, axis=-1) - 0.5 * np.log(2 * np.pi) * z.shape[-1]


point = np.array([0.3, -0.8, 1.1, 0.2], "float32")
for name, affine in (("NICE", False), ("Real NVP", True)):
    model, x = Coupling(4, 16, 4, mv.Generator(1), affine), mv.Tensor(point)
    jacobian = np.array([mv.grad(model.forward(x)[0][i], x) for i in range(4)], float)
    z, log_det = model.forward(point)
    print(f"{name:8s}: log_det {log_det.item():+.6f}, slogdet {np.linalg.slogdet(jacobian)[1]:+.6f};", end=" ")
    print(f"there and back within {np.abs(model.inverse(z.data) - point).max():.0e}")

# %% [markdown]
# ## 3. Two moons
#
# Training is maximum likelihood: the mean of log p(x) over fresh points. What a model is below the best possible is
# KL(data || model). Without its last scale NICE preserves volumes, so its density nowhere exceeds the noise's highest,
# 1 / 2 pi = 0.159.


# %%
def train(model, steps, batch, step_size=0.01):
    """Maximum likelihood; ``batch()`` gives a minibatch. The step size falls to 0 in the second half."""
    optimizer = optim.Adam(model.parameters(), lambda step: step_size * min(1.0, 2.0 - 2.0 * step / steps))
    for _ in range(steps):
        optimizer.step(mv.grad(-model.log_prob(batch()).mean(), optimizer.parameters))
    return model


models = {
    "NICE, no scale": Coupling(2, 32, 4, mv.Generator(2), affine=False, scale=False),
    "NICE": Coupling(2, 32, 4, mv.Generator(2), affine=False),
    "Real NVP": Coupling(2, 32, 4, mv.Generator(2)),
}
log_p = {"Gaussian": multivariate_normal(test.mean(axis=0), np.cov(test.T)).logpdf(test)}
fig = plots.figure(9.0, 2.7)
panels = fig.subplots(1, 4, sharey=True)
for axes, (name, model) in zip(panels, models.items(), strict=False):
    train(model, 400, lambda: moons(200, rng))
    log_p[name] = np.asarray(model.log_prob(test))
    density = np.exp(np.asarray(model.log_prob(grid)))
    axes.imshow(density.reshape(101, 101), cmap="gray_r", origin="lower", extent=(-3, 3, -3, 3))
    plots.panel(axes, f"{name}: density", "x_1", "x_2" if axes is panels[0] else "")
    print(f"{name:14s}: highest density {density.max():.3f}, integral over the square {density.sum() * 0.06**2:.3f}")
for name, values in log_p.items():
    print(f"{name:14s}: KL(data || model) = {text(truth - values)} nats")
turn = np.linspace(0, 2 * np.pi, 400)
for i, radius in enumerate((0.5, 1.0, 2.0)):
    circle = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1).astype("float32")
    panels[3].plot(*models["Real NVP"].inverse(circle).T, label=radius, **plots.style(i) | {"marker": ""})
plots.panel(panels[3], "Real NVP: circles of noise, radius", "x_1").legend(fontsize=7)
panels[3].set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
show(fig, "densities")

# %% [markdown]
# The last panel shows what the map can do: bend one piece of noise into two moons, with a bridge left between them.
#
# ## 4. Images
#
# Digits have 17 grey levels, and some pixels never vary: a Gaussian of no width would be infinitely good. So uniform
# noise spreads each level k over a cell, u = (k + U) / 17. The logit of u, drawn in a little from 0 and 1, takes it to
# the whole line; its mean and deviation are made 0 and 1. All this counts in log p(u). By Jensen's inequality
# E log p(u) - D log 17 is a lower bound on the levels' own log-probability. In bits, for one of D = 64 pixels:
#
# $$bits = -\frac{\log p(u) - D \log 17}{D \log 2}$$
#
# The model of the lesson before goes along, with Gaussian conditionals: (v - mu(v)) / sigma(v) is such a map too (eq.
# 5.19), whose way back takes 64 passes. A histogram of each pixel by itself shows what is gained at all.

# %%
digits = data.load("digits")
order = np.r_[0:64:2, 1:64:2]  # halves: the even and the odd pixels


def spread(x, rng, mean=0.0, std=1.0):
    """Grey values to v, the standardised logit of u, and log |det dv / du|."""
    inner = 0.01 + 0.98 * (np.rint(16 * x[:, order]) + rng.random(x.shape)) / 17
    log_det = np.sum(np.log(0.98) - np.log(inner) - np.log1p(-inner) - np.log(std), axis=1)
    return ((np.log(inner) - np.log1p(-inner) - mean) / std).astype("float32"), log_det


def bits(log_pu):
    """Bits per pixel of each image."""
    return -(log_pu - 64 * np.log(17)) / (64 * np.log(2))


k = [np.rint(16 * x).astype(int) for x in (digits.train, digits.test)]
p = np.array([np.bincount(column, minlength=17) + 0.1 for column in k[0].T]) / (1500 + 1.7)  # a histogram a pixel
print(f"{'independent levels':18s} {text(bits(np.log(17 * p[np.arange(64), k[1]]).sum(axis=1)))} bits per pixel")
v, _ = spread(digits.train, mv.Generator(3))
standard = v.mean(axis=0), v.std(axis=0)
v, log_det = spread(digits.test, mv.Generator(3), *standard)
nice = Coupling(64, 64, 4, mv.Generator(4), affine=False, start=0.0)
real, made = Coupling(64, 64, 4, mv.Generator(4), start=0.0), nn.MADE(64, [64], mv.Generator(4), outputs=2)
found, backs = {}, {}
for name, model, there, backs[name] in (
    ("NICE", nice, nice.forward, nice.inverse),
    ("Real NVP", real, real.forward, real.inverse),
    ("AR Gaussian", made, made, lambda eps: made.from_noise(eps, naive=True)),
):
    train(model, 300, lambda: spread(digits.train[rng.integers(0, 1500, 100)], rng, *standard)[0], 5e-3)
    found[name] = bits(np.asarray(model.log_prob(v)) + log_det)
    marks = [[time.perf_counter()] + [(f(v), time.perf_counter())[1] for _ in range(5)] for f in (there, backs[name])]
    ahead, back = np.median(np.diff(marks), axis=1)
    print(f"{name:18s} {text(found[name])} bits per pixel, less NICE's {text(found[name] - found['NICE'])};", end=" ")
    print(f"time back / there {back / ahead:.1f}")
eps = rng.standard_normal((16, 64), dtype="float32")
rows = [digits.test[:16, order]] + [expit(standard[0] + standard[1] * back(eps)) for back in backs.values()]
fig = plots.figure(8.0, 2.4)
axes = fig.add_subplot()
plots.show(axes, plots.tile(np.concatenate(rows)[:, np.argsort(order)], digits.shape, 16), "Samples beside test images")
axes.set_yticks(9 * np.arange(4) + 4, ["test", *backs], fontsize=8)
show(fig, "images")

# %% [markdown]
# ## 5. The long runs
#
# Four densities in the plane (moons with less noise), and MNIST with 256 levels. NICE fails at rings, where it is no
# better than a Gaussian. Section 4.4 says that no such map has yet come near autoregressive models: so it is with
# conditionals that are mixtures, whereas Gaussian ones are behind Real NVP, as here.

# %%
stored("ch04_invertible.densities")
stored("ch04_invertible.digits")

# %% [markdown]
# `minivi.flows` has these layers. The lesson `ch05_flows` uses such maps the other way: from noise to a posterior.
#
# ## 6. Try
#
# - In section 3: 12 layers for "NICE". Can depth replace the scales of Real NVP?
# - In section 1: `NOISE = 0.05`. Which model gains on the others? Look for the bridge between the moons.
# - In section 4: leave out `+ rng.random(x.shape)` in `spread`. What becomes of the bits, and are they true?
# - In section 4: `order = np.arange(64)`, halves above and below. Who loses, and by how much?
