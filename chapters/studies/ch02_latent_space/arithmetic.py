"""Chapter 2, applications: what straight lines in latent space look like (thesis appendix 2.D.2.4).

An encoder and a decoder turn arithmetic on codes into changes of images. Does a step along one vector change one
attribute, and is a line between two codes a better path than a cross-fade?
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

from minivi import plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi_chapters.studies.ch02_latent_space._shared import (
    ADAGRAD,
    ADAM,
    DIGITS,
    FREY,
    MNIST,
    SYNTHETIC,
    pictures,
    trained,
)

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


def codes(vae, x):
    """mu(x), (N, J). Grey values go in as they are: the mean of the binary images a Bernoulli model is trained on."""
    with no_grad():
        return np.concatenate([np.asarray(vae.encode(part).mu) for part in np.array_split(x, -(-len(x) // 1000))])


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


SPACES = {"latent": "latent space", "pixel": "pixel space"}


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


def column_errors(values):
    """Standard errors of the means over images, (N, ...) -> (...)."""
    return np.std(values, axis=0, ddof=1) / np.sqrt(len(values))


def both(function, values):
    """``function`` of what was measured in latent space, and of the same in pixel space."""
    return {space: function(of_space) for space, of_space in zip(SPACES, values, strict=True)}


def along_paths(vae, z, train):
    """How far paths between test images lead from the data: means over pairs, and the rest of the numbers."""
    paths = interpolate(vae, z)
    far = [distances(path, train) for path in paths]
    middle = [distance[:, len(TIMES) // 2] for distance in far]
    return {"times": TIMES} | both(lambda distance: distance.mean(0), far), {
        "errors": both(column_errors, far),
        "distances": both(mean_and_error, middle) | {"difference": mean_and_error(middle[1] - middle[0])},
        "pairs": len(far[0]),
        "paths": both(lambda path: plots.grey_levels(path[:6]), paths),
    }


def along_vector(vae, z, images, train_codes, f, random):
    """An attribute ``f`` along its vector, from the codes ``z``: means over images, and the rest of the numbers.

    Args:
        vae, z: the model; codes (N, J).
        images: with ``train`` and ``shape``.
        train_codes: of ``images.train``.
        f: one of :data:`ATTRIBUTES`.
        random: (R, J), directions to compare with.
    """
    train, shape = images.train, images.shape
    v, u = vectors(f(train, shape), train_codes, train)
    paths = walk(vae, z, v, u)
    values = [f(path, shape) for path in paths]
    far = [distances(path[:, [0, -1]], train[:10000]).mean(1) for path in paths]
    random = random * (np.linalg.norm(v) / np.linalg.norm(random, axis=1, keepdims=True))
    control = [np.ptp(f(walk(vae, z, r, u)[0], shape).mean(0)[[0, -1]]) for r in random]
    return {"steps": STEPS, "random": control} | both(lambda value: value.mean(0), values), {
        "errors": both(column_errors, values),
        "correlations": both(lambda value: mean_and_error(spearman(STEPS, value)), values),
        "distances": both(mean_and_error, far),
        "paths": both(lambda path: plots.grey_levels(path[:6]), paths),
    }


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
    minutes={"quick": 0.2, "laptop": 0.33, "paper": 6},
)
@experiment(
    "arithmetic",
    title="interpolation of digits, and vectors of slant and ink",
    mirrors="thesis appendix 2.D.2.4, Figure 2.D.3",
    budgets={
        "quick": DIGITS | {"images": 100, "attributes": ["slant", "ink"]},
        "laptop": ADAM | MNIST | {"epochs": 10, "images": 200, "attributes": ["slant", "ink"]},
        "paper": ADAGRAD | MNIST | {"epochs": 500, "images": 1000, "attributes": ["slant", "ink"]},
    },
    minutes={"quick": 0.3, "laptop": 0.38, "paper": 60},
)
def arithmetic(run):
    """Interpolate between test images and move them along attribute vectors; measure both."""
    s, images = run.settings, pictures(run)
    vae = trained(run, images)
    train_codes = codes(vae, images.train)
    z = codes(vae, images.test[: 2 * min(s.images, len(images.test) // 2)])
    measured = {"interpolation": along_paths(vae, z, images.train[:10000])}
    for k, attribute in enumerate(s.attributes, 1):
        random = Generator([run.seed, 7, k]).standard_normal((20, s.latents))
        f = ATTRIBUTES[attribute][0]
        measured[attribute] = along_vector(vae, z[: s.images], images, train_codes, f, random)
    numbers = {name: means for name, (means, _) in measured.items()}
    return numbers | {"details": {name: details for name, (_, details) in measured.items()}, "shape": images.shape}


@arithmetic.table
def _(n, table):
    details = n.details["interpolation"]
    for space, name in SPACES.items():
        mean, error = details["distances"][space]
        table.row(f"midpoint in {name}: distance from data", mean, unit="sq. error", note=f"s.e. {error:.2g}")
    mean, error = details["distances"]["difference"]
    note = f"paired s.e. {error:.2g}; {details['pairs']} pairs of test images"
    table.row("midpoint: pixel space - latent space", mean, unit="sq. error", note=note)
    says = table.says(
        "thesis 2.D",
        "Generative modeling: artificial creativity by plausible interpolation between data and extrapolation from "
        "data.",
        seeds=1,
    )
    label = "midpoints: distance from the data of cross-fades less that of paths in latent space"
    says(mean, ">=", 0.0, 0.0, label, standard_error=error)
    for attribute in n.settings.attributes:
        attribute_table(attribute, vars(n)[attribute], n.details[attribute], table)


def attribute_table(attribute, means, details, table):
    """Rows and claims of one attribute."""
    unit = ATTRIBUTES[attribute][1]
    for space, name in SPACES.items():
        for end in (0, -1):
            note = f"s.e. {details['errors'][space][end]:.2g}"
            table.row(f"{attribute} at {STEPS[end]:+g}, {name}", means[space][end], unit=unit, note=note)
        mean, error = details["correlations"][space]
        note = f"of step and {attribute}, mean over images; s.e. {error:.2g}"
        table.row(f"{attribute}, rank correlation, {name}", mean, unit="", note=note)
        mean, error = details["distances"][space]
        what = f"{attribute}, both ends in {name}: distance from data"
        table.row(what, mean, unit="sq. error", note=f"s.e. {error:.2g}")
    rise, chance = means["latent"][-1] - means["latent"][0], means["random"].mean()
    table.row(f"{attribute}, rise along its vector", rise, unit=unit, note="in latent space")
    table.row(f"{attribute}, change along 20 random vectors", chance, unit=unit, note="mean absolute value")
    says = table.says(
        "thesis 2.D.2.4",
        "Relatively simple transformations in the observed space, such as linear transformations, often translate into "
        "semantically meaningful modifications of the original image.",
        seeds=1,
    )
    ends = np.hypot(*np.array(details["errors"]["latent"])[[0, -1]])  # over images, were they not the same at both ends
    error = np.hypot(ends, mean_and_error(means["random"])[1])
    label = f"{attribute}: rise along its vector against the change along random ones"
    says(rise, ">=", chance, 0.0, label, standard_error=error)
    says = table.says(
        "thesis Figure 2.D.3",
        "an original image (left) is modified in a latent space in the direction of a smile vector, producing a range "
        "of versions of the original, from smiling to sadness.",
        seeds=1,
    )
    says(
        np.diff(means["latent"]).min(),
        ">=",
        0.0,
        0.0,
        f"{attribute}: least rise from one step of its vector to the next",
    )


@arithmetic.figure()
def _(n):
    """A row for interpolation and each attribute: six paths in latent space, and the same six in pixel space."""
    photo = n.settings.data in ("frey", "synthetic")
    fig = plots.figure(9.0, 3.6 * len(n.details))
    for row, (what, details) in zip(fig.subplots(len(n.details), 2, squeeze=False), n.details.items(), strict=True):
        for axes, (space, name) in zip(row, SPACES.items(), strict=True):
            paths = details["paths"][space]
            count, pixels = paths.shape[1:]
            if what == "interpolation":
                title, labels = f"interpolation in {name}", [f"{t:g}" for t in TIMES]
            else:
                title, labels = f"{what} vector in {name}: multiples added", [f"{t:+g}" for t in STEPS]
            plots.show(axes, plots.tile(paths.reshape(-1, pixels), n.shape, count, photo=photo), title)
            axes.set_xticks([(n.shape[1] + 1) * (i + 0.5) for i in range(count)], labels, fontsize=8)
    return fig


@arithmetic.figure("measured")
def _(n):
    """Distance from the data, and each attribute, along the paths."""
    fig = plots.figure(4.2 * len(n.details), 3.8)
    for axes, (what, details) in zip(fig.subplots(1, len(n.details), squeeze=False)[0], n.details.items(), strict=True):
        means = vars(n)[what]
        for i, (space, name) in enumerate(SPACES.items()):
            x = TIMES if what == "interpolation" else STEPS
            axes.errorbar(x, means[space], 2 * details["errors"][space], label=name, **plots.style(i))
        if what == "interpolation":
            plots.panel(axes, f"Interpolation on {n.settings.data}", "t", "squared distance from the training images")
        else:
            title, y = f"{what} along its vector (bars: 2 s.e.)", f"{what} of the image, {ATTRIBUTES[what][1]}"
            plots.panel(axes, title, "multiple of the vector added", y)
        axes.legend(fontsize=8)
    return fig


# %% [markdown]
# ## What to try next
#
# - `minivi run ch02_latent_space.arithmetic_frey --budget laptop`: the smile.
# - Interpolate on a sphere instead of a line: codes of 20 latents lie near the radius of sqrt(20), midpoints inside.
# - An attribute of your own: add a function to `ATTRIBUTES` and its name to the settings.
