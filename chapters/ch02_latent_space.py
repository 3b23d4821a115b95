"""Arithmetic on codes: interpolation and attribute vectors (thesis appendix 2.D.2.4, Figures 2.D.3 and 2.9).

An image is encoded, its code is moved along a straight line and decoded: a smile grows, in a picture by someone else.
What of it can be measured? Whether a path stays near the data, whether a vector changes what it should, and what it
changes besides. A code z is mu(x), x(z) the mean of p(x | z); behind +- stand standard errors over images.
"""

# %% [markdown]
# ## 1. Between two images
#
# The appendix says that linear transformations "in the observed space" often have a meaning. By its own example, the
# smile vector of White (2016), it means the latent space. Which one matters, so both are shown throughout:
#
# $$x((1 - t) z_a + t z_b) \qquad (1 - t) x(z_a) + t x(z_b)$$
#
# a path in latent space, and the cross-fade of the same two decoded images. Each pair of rows has both, in this order.

# %%
import numpy as np
from scipy.spatial.distance import cdist

import minivi as mv
from minivi import data, plots
from minivi.lesson import show, stored
from minivi.models import VAE
from minivi.optim import Adam, linear
from minivi.training import fit

# %%
LATENTS = 10
digits = data.load("digits")
vae = VAE(pixels=64, hidden=(100,), latents=LATENTS, rng=mv.Generator(0))
optimizer = Adam(vae.parameters(), linear(5e-3, 1e-4, 120 * 15))
options = {"epochs": 120, "rng": mv.Generator(1), "prepare": data.fresh, "progress": False}
fit(vae, lambda x, rng: -vae.elbo(x, rng).mean(), optimizer, digits.train, **options)


def codes(x):
    """mu(x), (N, J); grey values are the means of the binary images that the model was trained on."""
    with mv.no_grad():
        return vae.encode(x).mu.data


def distance(images):
    """Squared distance from the nearest training image: (..., D) -> (...)."""
    return cdist(images.reshape(-1, 64), digits.train, "sqeuclidean").min(axis=1).reshape(images.shape[:-1])


z = codes(digits.test[:200])
a, b, t = z[::2, None], z[1::2, None], np.linspace(0, 1, 9, dtype="float32")[:, None]
latent, faded = vae.mean_image((1 - t) * a + t * b), (1 - t) * vae.mean_image(a) + t * vae.mean_image(b)
fig = plots.figure(8.0, 3.2)
for k in (0, 3):
    sheet = np.stack([latent[k : k + 3], faded[k : k + 3]], axis=1).reshape(-1, 64)
    plots.show(
        fig.add_subplot(1, 2, 1 + k // 3), plots.tile(sheet, digits.shape, 9), "t from 0 to 1: by codes, by pixels"
    )
show(fig, "interpolation")


def estimate(values):
    """Mean and standard error over images, as text."""
    return f"{np.mean(values):.2f} +- {np.std(values) / len(values) ** 0.5:.2f}"


middle = distance(latent)[:, 4], distance(faded)[:, 4]
print(f"squared distance from the data: at the ends {estimate(distance(latent)[:, [0, -1]].mean(axis=1))}")
print(f"in the middle by codes {estimate(middle[0])}, by pixels {estimate(middle[1])}", end="; ")
print(f"pixels less codes {estimate(middle[1] - middle[0])}")

# %% [markdown]
# Midpoints of codes are nearer to the data than cross-fades, which show both images at once. But they are further off
# than the ends: what lies between a 4 and an 8 is a digit to the decoder, hardly to us. Codes are near a sphere in
# many dimensions, and White walks along great circles for that reason. Here that gives:

# %%
lengths = np.linalg.norm(a, axis=-1, keepdims=True), np.linalg.norm(b, axis=-1, keepdims=True)
angle = np.arccos(np.sum(a * b, axis=-1, keepdims=True) / lengths[0] / lengths[1])
circle = (np.sin((1 - t) * angle) * a / lengths[0] + np.sin(t * angle) * b / lengths[1]) / np.sin(angle)
circle *= (1 - t) * lengths[0] + t * lengths[1]  # radii between the two
print(
    f"length of codes {estimate(np.linalg.norm(z, axis=1))}, of draws from the prior {np.sqrt(LATENTS):.2f}", end="; "
)
print(f"of midpoints {estimate(np.linalg.norm((a + b) / 2, axis=-1))}")
gain = middle[0] - distance(vae.mean_image(circle))[:, 4]
print(f"midpoints on the circle are nearer to the data by {estimate(gain)}")

# %% [markdown]
# ## 2. Attribute vectors
#
# An attribute is a number that can be read off any image: here slant, height of the ink's centre, width, ink. Its
# vector is the mean code of the third of the training images that have most of it, less that of the third with least:
#
# $$v = \overline{\mu(x)}_{most} - \overline{\mu(x)}_{least} \qquad x(z + s v) \quad \text{beside} \quad
#   x(z) + s (\bar x_{most} - \bar x_{least})$$


# %%
def attributes(x):
    """Slant in columns a row, height and width in pixels, ink in black pixels: (..., D) -> (..., 4)."""
    weight = x.reshape(*x.shape[:-1], *digits.shape).astype(float)
    total = weight.sum(axis=(-2, -1))
    row, column = np.meshgrid(-np.arange(digits.shape[0]), np.arange(digits.shape[1]), indexing="ij")
    mean = lambda values: (weight * values).sum(axis=(-2, -1)) / total
    dy, dx = row - mean(row)[..., None, None], column - mean(column)[..., None, None]
    return np.stack([mean(dy * dx) / mean(dy**2), mean(row), np.sqrt(mean(dx**2)), total], axis=-1)


NAMES = ("slant", "height", "width", "ink")
train_codes, values = codes(digits.train), attributes(digits.train)
deviations, third = values.std(axis=0), len(values) // 3
order = np.argsort(values, axis=0)
vectors, pixel_vectors = (
    np.stack([x[order[-third:, k]].mean(axis=0) - x[order[:third, k]].mean(axis=0) for k in range(4)])
    for x in (train_codes, digits.train)
)
steps = np.linspace(-3, 3, 13, dtype="float32")[:, None]
start = vae.mean_image(z)[:, None]
fig = plots.figure(9.0, 5.4)
panels = fig.subplots(2, 3)
for k, row in zip((0, 3), panels, strict=True):
    walks = {
        "codes": vae.mean_image(z[:, None] + steps * vectors[k]),
        "pixels": np.clip(start + steps * pixel_vectors[k], 0, 1),
    }
    sheet = np.stack([walk[:4, 2:-2:2] for walk in walks.values()], axis=1).reshape(-1, 64)
    plots.show(row[0], plots.tile(sheet, digits.shape, 5), f"{NAMES[k]}: s from -2 to 2")
    for i, (name, walk) in enumerate(walks.items()):
        change = (attributes(walk)[..., k] - attributes(start)[..., k]) / deviations[k]
        row[1].plot(steps, change.mean(axis=0), label=f"by {name}", **plots.style(i, 13))
        row[2].plot(steps, distance(walk).mean(axis=0), label=f"by {name}", **plots.style(i, 13))
        rising = np.mean(np.all(np.diff(change[:, 4:9], axis=1) > 0, axis=1))
        print(f"{NAMES[k]:5s} by {name}: rises at each step from s = -1 to 1 in {rising:.0%} of images", end="; ")
        print(f"distance at both {estimate(distance(walk[:, [4, 8]]).mean(axis=1))}")
    plots.panel(row[1], "", "s", f"{NAMES[k]}, deviations").legend(fontsize=8)
    plots.panel(row[2], "", "s", "squared distance from the data")
show(fig, "vectors")

# %% [markdown]
# Slant: both ways turn every digit, codes at a smaller distance from the data, except far out, where no code ever was.
# Ink: pixels grow darker by definition, and off the data; codes hardly. No flaw of the vector: the model explains how
# dark an image is by chance in its pixels, and has no latent for it. Only what z encodes can be moved by z:

# %%
decoded = attributes(vae.mean_image(train_codes))
for k, name in enumerate(NAMES):
    kept = np.corrcoef(values[:, k], decoded[:, k])[0, 1]
    print(f"{name:6s}: correlation of images and their reconstructions {kept:.2f}")

# %% [markdown]
# ## 3. What else does a vector change?
#
# The caption of Figure 2.D.3 says that one vector modifies the image in many ways. Some of these are no wish of ours:
# the data's own correlations are in v. Slanting digits have their ink higher up, so the slant vector lifts as well. A
# remedy: not differences of means, but the regression of codes on all four attributes at once, whose coefficient is the
# change of z for one attribute at the others' fixed values. Below, the change of each attribute (columns) from s = -1/2
# to 1/2, in deviations of the data. The last row has the largest changes along 20 random vectors as long as the first.


# %%
def changes(vector):
    """Change of the four attributes along a vector, in deviations: means over images and standard errors, (2, 4)."""
    after, before = (attributes(vae.mean_image((z + s * vector).astype("float32"))) for s in (0.5, -0.5))
    change = (after - before) / deviations
    return change.mean(axis=0), change.std(axis=0) / len(z) ** 0.5


design = np.column_stack([np.ones(len(values)), (values - values.mean(axis=0)) / deviations])
coefficients = np.linalg.lstsq(design, train_codes, rcond=None)[0][1:]
print("correlation of height and slant in the data", np.corrcoef(values.T)[0, 1].round(2))
print(f"{'':28s}" + "".join(f"{name:>9s}" for name in NAMES))
scale = np.linalg.norm(vectors, axis=1) / np.linalg.norm(coefficients, axis=1)
matrices = {"difference of means": vectors, "regression": coefficients * scale[:, None]}
for method, rows in matrices.items():
    for name, vector in zip(NAMES, rows, strict=True):
        means, errors = changes(vector)
        print(f"{method:20s}{name:8s}" + "".join(f"{change:+9.2f}" for change in means), f"  +- {errors.max():.2f}")
random = mv.Generator(2).standard_normal((20, LATENTS))
random *= np.linalg.norm(vectors[0]) / np.linalg.norm(random, axis=1, keepdims=True)
largest = np.abs([changes(vector)[0] for vector in random]).max(axis=0)
print(f"{'20 random vectors, largest':28s}" + "".join(f"{change:9.2f}" for change in largest))
fig = plots.figure(7.0, 2.6)
for k, (method, rows) in enumerate(matrices.items()):
    walk = vae.mean_image(z[:4, None] + steps[2:-2:2] * rows[0].astype("float32"))
    plots.show(fig.add_subplot(1, 2, k + 1), plots.tile(walk.reshape(-1, 64), digits.shape, 5), f"slant by {method}")
show(fig, "regression")

# %% [markdown]
# The regression lifts a fifth as much and slants three quarters as much. It is no cure for everything: a 0 that leans
# to the left becomes a 5, as codes of ten latents have no place for a leaning 0. And of 20 random vectors some change
# slant or height by more than half of what their own vectors do: that a picture changes along a line proves nothing.
#
# ## 4. The long runs
#
# MNIST, twenty latents: midpoints of codes are nearer to the data, as in section 1. The ends of the vectors are not:
# codes lead as far away as pixels do. Each attribute rises four times as far as along random vectors.

# %%
stored("ch02_latent_space.arithmetic")

# %% [markdown]
# `ch02_latent_space.arithmetic_frey` has the smile, on Frey faces, where codes stay nearer to the data by a third.
# Figure 2.9, faces in colour, is `minivi run ch02_latent_space.faces --budget laptop`: it fetches the photographs.
#
# ## 5. Try
#
# - In section 1: `LATENTS = 2`, then 20. How far are midpoints from the data now, and does the circle gain?
# - In section 1: pairs of the same digit only, by `digits.test_labels`. Is the cross-fade still worse?
# - In section 2: a fifth attribute in `attributes`, the ink of the upper half. Is it kept by the reconstructions?
# - In section 3: is a slanted 6 still a 6? Take the label of the nearest training image, `cdist(...).argmin(axis=1)`.
# - In section 3: a vector from an 8 to a 3, by `digits.train_labels`. What does it do to a 9, and to a 1?
