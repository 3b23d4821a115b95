"""Chapter 2, applications: the settings, the model and the faces of both themes."""

# %%
import numpy as np

from minivi import data, nn, optim
from minivi.models import VAE
from minivi.random import Generator

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

    def start():
        init = nn.glorot if s.optimizer == "adam" else nn.normal(0.1)
        rng = Generator([run.seed, s.latents])
        vae = VAE(images.train.shape[1], (s.hidden,), s.latents, s.likelihood, rng=rng, init=init)
        method = optim.Adam if s.optimizer == "adam" else optim.AdaGrad
        optimizer = method(vae.parameters(), s.step_size, weight_decay=1.0 / len(images.train))
        return vae, lambda x, rng: -vae.elbo(x, rng).mean(), optimizer

    return run.train(
        f"{s.data}_{images.kind}_{s.likelihood}_latents{s.latents}", start, images.train, epochs=s.epochs,
        rng=Generator([run.seed, 1]),
        prepare=data.fresh if s.likelihood == "bernoulli" else None,
    )[0]  # fmt: skip


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
