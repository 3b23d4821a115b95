"""Chapter 2, applications: what straight lines in latent space look like (thesis appendix 2.D.2.4, Figure 2.9).

An encoder and a decoder turn arithmetic on codes into changes of images. Does a step along one vector change one
attribute, and is a line between two codes a better path than a cross-fade? And, at the end, the model of colour faces.
"""

# %% [markdown]
# With z = mu(x) the code of an image and x(z) the mean of p(x | z):
#
#     interpolation       x((1 - t) z_a + t z_b)                      beside (1 - t) x(z_a) + t x(z_b)
#     attribute vector    v = mean of mu(x), high attribute  -  mean of mu(x), low attribute
#                         x(z + step * v)                             beside x(z) + step * (the same means of x)
#
# The appendix says that linear transformations in the *observed* space often change an image meaningfully; by its own
# example, the smile vector of White (2016), it means the latent space. The right-hand column is the observed space.

# %%
import numpy as np
from scipy.stats import rankdata

from minivi import data, evaluation, nn, optim, plots
from minivi.experiments import Claim, Result, Row, experiment
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import no_grad

# %% [markdown]
# ## Settings
#
# The appendix publishes a picture of someone else's model and no settings. `paper` is section 2.11's: weights from
# N(0, 0.01), a variance, AdaGrad with the middle one of its step sizes, minibatches of 100, one sample, 500 hidden
# units on MNIST and 200 on Frey, a prior N(0, I) on the weights. The smaller budgets use Adam, Glorot's weights and
# fewer epochs.

# %%
ADAM = {"optimizer": "adam", "step_size": 1e-3, "latents": 20}
ADAGRAD = {"optimizer": "adagrad", "step_size": 0.02, "latents": 20}
MNIST = {"data": "mnist", "split": "60000/10000", "likelihood": "bernoulli", "hidden": 500}
FREY = {"data": "frey", "likelihood": "gaussian", "hidden": 200}
DIGITS = ADAM | {"data": "digits", "likelihood": "bernoulli", "hidden": 100, "epochs": 150}
SYNTHETIC = ADAM | {"data": "synthetic", "likelihood": "gaussian", "hidden": 100, "epochs": 100}


def trained(run, images):
    """A VAE with one hidden layer on either side, trained on the images as they are or, for Bernoulli pixels, binarized
    afresh; trained once for all experiments of this chapter."""
    s = run.settings
    name = f"{s.data}_{images.kind}_{s.likelihood}_latents{s.latents}"
    key = name, s.hidden, s.epochs, s.optimizer  # which differ from experiment to experiment
    if key in run.shared:
        return run.shared[key]
    init = nn.glorot if s.optimizer == "adam" else nn.normal(0.1)
    rng = Generator([run.seed, s.latents])
    vae = VAE(images.train.shape[1], (s.hidden,), s.latents, s.likelihood, rng=rng, init=init)
    method = optim.Adam if s.optimizer == "adam" else optim.AdaGrad
    optimizer = method(vae.parameters(), s.step_size, weight_decay=1.0 / len(images.train))
    run.fit(
        name, vae, lambda x, rng: -vae.elbo(x, rng).mean(), optimizer, images.train, epochs=s.epochs,
        rng=Generator([run.seed, 1]),
        prepare=(lambda x, rng: data.binarize(x, "dynamic", rng)) if s.likelihood == "bernoulli" else None,
    )  # fmt: skip
    run.shared[key] = vae
    return vae


def codes(vae, x):
    """mu(x), (N, J). Grey values go in as they are: the mean of the binary images a Bernoulli model is trained on."""
    with no_grad():
        return np.concatenate([np.asarray(vae.encode(part).mu) for part in np.array_split(x, -(-len(x) // 1000))])


# %% [markdown]
# ## Faces for `quick`
#
# Where no set of faces is small enough to ship, blobs with eyes, mouths and folds stand in, in grey or in colour.


# %%
def synthetic_faces(count, rng, shape=(16, 12, 3)):
    """Smooth colour images (count, H * W * 3) in [0, 1]: an oval of one skin tone on one background, with features."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")

    def draw(low, high):
        return rng.uniform(low, high, (count, 1, 1))

    up, left, mouth, fold = draw(-0.15, 0.15), draw(-0.15, 0.15), draw(0.05, 0.2), draw(0.0, 0.5)

    def spot(dy, dx, height, width):  # 1 inside an oval at this place of the face, 0 outside, smoothly
        return 0.5 - 0.5 * np.tanh(4 * (((y - up - dy) / height) ** 2 + ((x - left - dx) / width) ** 2 - 1))

    layers = [(spot(0, 0, 0.85, 0.7), draw(0.6, 1.1) * [0.9, 0.65, 0.5]), (spot(0.4, 0, mouth, 0.3), [0.6, 0.15, 0.15])]
    layers += [(spot(-0.25, side, 0.1, 0.15), [0.15, 0.15, 0.15]) for side in (-0.3, 0.3)]
    layers += [(fold * spot(0.05, side, 0.15, 0.15), [0.2, 0.1, 0.1]) for side in (-0.45, 0.45)]
    hue = rng.uniform(-0.15, 0.15, (count, 1, 1, 3))
    images = np.broadcast_to(draw(0.2, 0.8)[..., None] + hue, (count, *shape)).copy()
    for mask, colour in layers:
        images += mask[..., None] * (np.reshape(colour, (-1, 1, 1, 3)) - images)
    noise = 0.02 * rng.standard_normal(images.shape)  # without it, a Gaussian decoder's variance would go to zero
    return np.clip(images + noise, 0.0, 1.0).reshape(count, -1).astype(np.float32)


def pictures(run):
    """The data set that the settings name; "synthetic" is drawn here, 2,000 images to train on and 200 to test."""
    if run.settings.data != "synthetic":
        return run.images()
    x, kind, shape = synthetic_faces(2200, Generator([run.seed, 9])), "colour", (16, 12, 3)
    if not run.settings.colour:
        x, kind, shape = x.reshape(len(x), -1, 3).mean(-1), "grey", (16, 12)
    return data.Dataset("synthetic", kind, shape, "2000/200", x[:2000], x[2000:])


# %% [markdown]
# ## Attributes
#
# No labels: each is computed from the pixels, of data and of decoded images alike.


# %%
def slant(x, shape):
    """How far a stroke leans to the right, in pixels for each pixel of height: (..., H * W) -> (...).

    The regression of column on height, weighted by ink: the ratio mu_11 / mu_02 of central moments.
    """
    weight = np.reshape(x, (*np.shape(x)[:-1], *shape)).astype(np.float64)
    weight /= weight.sum((-2, -1), keepdims=True)
    height, column = np.meshgrid(-np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    height = height - (weight * height).sum((-2, -1), keepdims=True)
    column = column - (weight * column).sum((-2, -1), keepdims=True)
    return (weight * height * column).sum((-2, -1)) / (weight * height**2).sum((-2, -1))


def ink(x, shape):
    """Total ink, in black pixels, which grows with the stroke's thickness: (..., H * W) -> (...)."""
    return np.sum(x, axis=-1, dtype=np.float64)


def smile(x, shape):
    """How much darker than the face are the folds beside the nose, which a smile deepens: (..., H * W) -> (...)."""
    face = np.reshape(x, (*np.shape(x)[:-1], *shape)).astype(np.float64)
    height, width = shape

    def part(top, bottom, left, right):
        rows, columns = (
            slice(round(top * height), round(bottom * height)),
            slice(round(left * width), round(right * width)),
        )
        return face[..., rows, columns].mean((-2, -1))

    return part(0.1, 0.9, 0.2, 0.9) - (part(0.43, 0.61, 0.2, 0.4) + part(0.43, 0.61, 0.7, 0.9)) / 2


ATTRIBUTES = {"slant": (slant, "pixels / pixel"), "ink": (ink, "pixels"), "smile": (smile, "grey")}


def vectors(values, *arrays):
    """For each array (N, ...): the mean over the third of the data with the largest values, minus that of the least."""
    order, third = np.argsort(values), len(values) // 3
    return [array[order[-third:]].mean(0) - array[order[:third]].mean(0) for array in arrays]


def distances(x, train):
    """Squared distance of each image (..., D) from the nearest of the training images (N, D)."""
    flat = np.reshape(x, (-1, x.shape[-1])).astype(np.float32)
    lengths = [np.sum(a**2, axis=1, dtype=np.float64) for a in (flat, train)]
    square = lengths[0][:, None] + lengths[1] - 2.0 * (flat @ train.T)
    return np.maximum(square.min(1), 0.0).reshape(x.shape[:-1])


def spearman(steps, values):
    """Rank correlation of each row of ``values`` (..., S) with ``steps`` (S,): (...). Zero for a constant row."""
    a, b = (r - r.mean(-1, keepdims=True) for r in (rankdata(steps), rankdata(values, axis=-1)))
    return (a * b).sum(-1) / np.maximum(np.sqrt((a**2).sum() * (b**2).sum(-1)), 1e-12)


# %% [markdown]
# ## Appendix 2.D.2.4: interpolation and attribute vectors
#
# Both columns start from the same decoded image, so that only the way differs. How far a path leaves the data is its
# squared distance from the nearest training image. Whether a vector carries its attribute, the rank correlation of step
# and attribute says, image by image, and the rise from the first step to the last, beside that along random vectors of
# the same length.

# %%
STEPS = np.linspace(-1.5, 1.5, 7)
TIMES = np.linspace(0.0, 1.0, 9)


def estimate(values):
    """Mean and standard error over images."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def interpolate(vae, z):
    """Paths between neighbours of ``z`` (2 N, J): through latent space and by cross-fade, each (N, times, D)."""
    t = TIMES[:, None]
    a, b = z[::2, None], z[1::2, None]
    ends = vae.mean_image(a), vae.mean_image(b)
    return vae.mean_image((1 - t) * a + t * b), (1 - t) * ends[0] + t * ends[1]


def walk(vae, z, v, u):
    """Images at all steps along ``v`` from the codes ``z``, and along ``u`` from their images, each (N, steps, D)."""
    along = STEPS[:, None]
    return vae.mean_image(z[:, None] + along * v), np.clip(vae.mean_image(z[:, None]) + along * u, 0.0, 1.0)


def strips(axes, paths, shape, photo, labels):
    """Six paths as rows of images, with labels below the columns."""
    count = paths.shape[1]
    plots.show(axes, plots.tile(paths[:6].reshape(-1, paths.shape[-1]), shape, count, photo=photo))
    axes.set_xticks([(shape[1] + 1) * (i + 0.5) for i in range(count)], labels, fontsize=8)


def arithmetic(run):
    """Interpolate between test images and move them along attribute vectors; measure both."""
    s, images = run.settings, pictures(run)
    vae, shape, photo = trained(run, images), images.shape, s.data in ("frey", "synthetic")
    train, z = images.train[:10000], codes(vae, images.test[: 2 * min(s.images, len(images.test) // 2)])
    train_codes = codes(vae, images.train)
    n = len(s.attributes)
    sheets, curves = plots.figure(9.0, 3.6 * (1 + n)), plots.figure(4.2 * (1 + n), 3.8)
    panels, axes = sheets.subplots(1 + n, 2), curves.subplots(1, 1 + n)
    rows, claims, numbers = [], [], {}

    paths = interpolate(vae, z)
    far = [distances(path, train) for path in paths]
    for i, (name, path) in enumerate(zip(("latent space", "pixel space"), paths, strict=True)):
        strips(panels[0, i], path, shape, photo, [f"{t:g}" for t in TIMES])
        panels[0, i].set_title(f"interpolation in {name}", fontsize=10)
        mean, error = estimate(far[i][:, len(TIMES) // 2])
        rows.append(Row(f"midpoint in {name}: distance from data", mean, unit="sq. error", note=f"s.e. {error:.2g}"))
        errors = np.std(far[i], axis=0, ddof=1) / np.sqrt(len(far[i]))
        axes[0].errorbar(TIMES, far[i].mean(0), 2 * errors, label=name, **plots.style(i))
    mean, error = estimate((far[1] - far[0])[:, len(TIMES) // 2])
    note = f"paired s.e. {error:.2g}; {len(far[0])} pairs of test images"
    rows.append(Row("midpoint: pixel space - latent space", mean, unit="sq. error", note=note))
    claims.append(Claim(mean, ">=", 0.0, 0.0, "midpoints in latent space lie nearer to the data than cross-fades"))
    numbers["interpolation"] = {"times": TIMES, "latent": far[0].mean(0), "pixel": far[1].mean(0)}
    axes[0].set_xlabel("t")
    axes[0].set_ylabel("squared distance from the training images")
    axes[0].set_title(f"Interpolation on {s.data}", fontsize=10)

    z = z[: s.images]
    for k, attribute in enumerate(s.attributes, 1):
        f, unit = ATTRIBUTES[attribute]
        v, u = vectors(f(images.train, shape), train_codes, images.train)
        paths = walk(vae, z, v, u)
        found = [f(path, shape) for path in paths]
        far = [distances(path[:, [0, -1]], train) for path in paths]
        random = Generator([run.seed, 7, k]).standard_normal((20, s.latents))
        random *= np.linalg.norm(v) / np.linalg.norm(random, axis=1, keepdims=True)
        control = [np.ptp(f(walk(vae, z, r, u)[0], shape).mean(0)[[0, -1]]) for r in random]
        for i, name in enumerate(("latent space", "pixel space")):
            strips(panels[k, i], paths[i], shape, photo, [f"{t:+g}" for t in STEPS])
            panels[k, i].set_title(f"{attribute} vector in {name}: multiples added", fontsize=10)
            errors = np.std(found[i], axis=0, ddof=1) / np.sqrt(len(z))
            axes[k].errorbar(STEPS, found[i].mean(0), 2 * errors, label=name, **plots.style(i))
            for end in (0, -1):
                note = f"s.e. {errors[end]:.2g}"
                rows.append(Row(f"{attribute} at {STEPS[end]:+g}, {name}", found[i].mean(0)[end], unit=unit, note=note))
            mean, error = estimate(spearman(STEPS, found[i]))
            note = f"of step and {attribute}, mean over images; s.e. {error:.2g}"
            rows.append(Row(f"{attribute}, rank correlation, {name}", mean, unit="", note=note))
            mean, error = estimate(far[i].mean(1))
            what = f"{attribute}, both ends in {name}: distance from data"
            rows.append(Row(what, mean, unit="sq. error", note=f"s.e. {error:.2g}"))
        means = found[0].mean(0)
        rise, chance = means[-1] - means[0], float(np.mean(control))
        rows.append(Row(f"{attribute}, rise along its vector", rise, unit=unit, note="in latent space"))
        rows.append(Row(f"{attribute}, change along 20 random vectors", chance, unit=unit, note="mean absolute value"))
        claims.append(
            Claim(np.diff(means).min(), ">=", 0.0, 0.0, f"mean {attribute} rises at every step of its vector")
        )
        claims.append(Claim(rise, ">=", chance, 0.0, f"{attribute} rises more along its vector than along random ones"))
        numbers[attribute] = {"steps": STEPS, "latent": found[0].mean(0), "pixel": found[1].mean(0), "random": control}
        axes[k].set_xlabel("multiple of the vector added")
        axes[k].set_ylabel(f"{attribute} of the image, {unit}")
        axes[k].set_title(f"{attribute} along its vector (bars: 2 s.e.)", fontsize=10)
    for a in axes:
        a.legend(fontsize=8)
        a.grid(True, linewidth=0.3)
    return Result(rows, {"": sheets, "measured": curves}, numbers, claims)


@experiment(
    "arithmetic",
    title="interpolation of digits, and vectors of slant and ink",
    mirrors="thesis appendix 2.D.2.4, Figure 2.D.3",
    budgets={
        "quick": DIGITS | {"images": 100, "attributes": ["slant", "ink"]},
        "laptop": ADAM | MNIST | {"epochs": 10, "images": 200, "attributes": ["slant", "ink"]},
        "paper": ADAGRAD | MNIST | {"epochs": 500, "images": 1000, "attributes": ["slant", "ink"]},
    },
    minutes={"quick": 0.3, "laptop": 1.2, "paper": 60},
)
def arithmetic_digits(run):
    """Bernoulli pixels."""
    return arithmetic(run)


# %% [markdown]
# On the faces, the attribute is a smile, by the folds beside the nose.


# %%
@experiment(
    "arithmetic_frey",
    title="interpolation of Frey faces (at quick, of synthetic ones), and a smile vector",
    mirrors="thesis appendix 2.D.2.4, Figure 2.D.3",
    budgets={
        "quick": SYNTHETIC | {"colour": False, "images": 100, "attributes": ["smile"]},
        "laptop": ADAM | FREY | {"epochs": 500, "images": 100, "attributes": ["smile"]},
        "paper": ADAGRAD | FREY | {"epochs": 5000, "images": 100, "attributes": ["smile"]},
    },
    minutes={"quick": 0.2, "laptop": 0.8, "paper": 6},
)
def arithmetic_faces(run):
    """Gaussian pixels."""
    return arithmetic(run)


# %% [markdown]
# ## Figure 2.9: random faces in colour
#
# The same VAE as for Frey faces, with red, green and blue of every pixel in a row. `laptop` takes Labeled Faces in the
# Wild, which scikit-learn fetches (233 MB); `quick` needs no network.


# %%
@experiment(
    "faces",
    title="random faces in colour (at quick, of synthetic ones)",
    mirrors="thesis Figure 2.9",
    budgets={
        "quick": SYNTHETIC | {"colour": True},
        "laptop": ADAM | {"data": "lfw", "likelihood": "gaussian", "hidden": 200, "epochs": 100},
        "paper": ADAGRAD | {"data": "lfw", "likelihood": "gaussian", "hidden": 200, "epochs": 1000},
    },
    minutes={"quick": 0.2, "laptop": 2, "paper": 20},
)
def faces(run):
    """Train on colour images; show the means of random samples, and data beside reconstructions."""
    images, what, note = pictures(run), run.settings.data, "published as a picture only"
    if what == "synthetic":
        what, note = "synthetic faces, not the published set", "synthetic faces; --budget laptop takes lfw"
    vae = trained(run, images)
    fig = plots.figure(9.0, 5.4)
    left, right = fig.subplots(1, 2)
    drawn, _ = vae.sample(100, Generator([4, run.seed]))
    plots.show(
        left, plots.tile(drawn, images.shape, 10, photo=True), "random samples: means of p(x | z), z from the prior"
    )
    some = images.test[:50]
    pairs = np.stack([some, vae.reconstruct(some)], axis=1).reshape(100, -1)
    plots.show(right, plots.tile(pairs, images.shape, 10, photo=True), "test images, each beside its reconstruction")
    fig.suptitle(f"A VAE with {run.settings.latents} latents of {what}", fontsize=10)
    bound = evaluation.elbo(vae, images.test, Generator(5), samples=10)
    mean, error = estimate(np.sum((vae.reconstruct(images.test) - images.test) ** 2, axis=1))
    rows = [
        Row("test bound (of a density)", bound.mean, note=f"s.e. {bound.standard_error:.2g}; {note}"),
        Row("squared error per test image", mean, unit="sq. error", note=f"s.e. {error:.2g}; at the posterior's mean"),
    ]
    return Result(rows, {"": fig})


# %% [markdown]
# ## What to try next
#
# - `minivi run ch02_latent_space.arithmetic_frey --budget laptop`: the smile.
# - Interpolate on a sphere instead of a line: codes of 20 latents lie near the radius of sqrt(20), midpoints inside.
# - An attribute of your own: add a function to `ATTRIBUTES` and its name to the settings.
