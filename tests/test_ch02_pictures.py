"""Chapter 2's attributes, distances, paths and reconstruction errors, against pictures whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import study
from numpy.testing import assert_allclose
from scipy.stats import spearmanr

from minivi import nn
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import grad

space, faces = study("ch02_latent_space.arithmetic"), study("ch02_latent_space._shared")
autoencoder = study("ch02_autoencoder.reconstruction")


def bar(lean, shape=(21, 31)):
    """A line of ink through the middle that goes ``lean`` columns to the right for each row upwards."""
    image = np.zeros(shape)
    for row in range(5, 16):
        column = 15 + lean * (10 - row)
        left = int(np.floor(column))
        image[row, left], image[row, left + 1] = 1 - (column - left), column - left
    return image.ravel()


@pytest.mark.parametrize("lean", [-1.0, -0.3, 0.0, 0.25, 1.0])
def test_slant_is_the_lean_of_a_bar(lean):
    shape = (21, 31)
    assert_allclose(space.slant(bar(lean), shape), lean, atol=1e-12)
    moved = np.roll(0.5 * bar(lean).reshape(shape), (2, -3), (0, 1)).ravel()  # neither place nor darkness counts
    assert_allclose(space.slant(np.stack([bar(lean), moved])[None], shape), [[lean, lean]], atol=1e-12)


def test_ink_is_the_sum():
    assert space.ink(np.stack([bar(0.0), 2 * bar(1.0)]), (21, 31)).tolist() == [11, 22]


def test_smile_is_deep_folds_and_not_light():
    face = np.full((28, 20), 0.5)
    smiling = face.copy()
    smiling[12:17, 4:8] = smiling[12:17, 14:18] = 0.3
    plain, smile, lighter = (space.smile(x.ravel(), (28, 20)) for x in (face, smiling, smiling + 0.2))
    assert_allclose(plain, 0.0, atol=1e-12)
    assert 0.1 < smile < 0.2
    assert_allclose(lighter, smile)
    assert_allclose(space.smile(smiling[:, ::-1].ravel(), (28, 20)), smile, atol=0.1)


def test_vectors_point_from_the_lowest_third_to_the_highest(rng):
    values = rng.permutation(9).astype(float)
    (v,) = space.vectors(values, np.stack([values, -2 * values], axis=1))
    assert v.tolist() == [7 - 1, -2 * (7 - 1)]  # means of 6, 7, 8 and of 0, 1, 2


def test_distances_are_to_the_nearest(rng):
    x, train = rng.random((3, 4, 5)).astype(np.float32), rng.random((50, 5)).astype(np.float32)
    expected = ((x[:, :, None].astype(float) - train) ** 2).sum(-1).min(-1)
    assert_allclose(space.distances(x, train), expected, atol=1e-5)
    assert_allclose(space.distances(train[:2], train), 0.0, atol=1e-5)


def test_spearman_agrees_with_scipy(rng):
    steps, values = np.arange(7.0), rng.integers(0, 4, (5, 7)).astype(float)
    expected = [spearmanr(steps, row).statistic for row in values]
    assert_allclose(space.spearman(steps, values), expected, rtol=1e-12)
    assert space.spearman(steps, np.ones((1, 7))).tolist() == [0.0]


def test_paths_begin_and_end_where_they_should(rng):
    vae = VAE(6, (5,), 2, rng=Generator(0), init=nn.normal(0.5), dtype="float64")
    z = rng.standard_normal((8, 2))
    latent, pixel = space.interpolate(vae, z)
    for path in (latent, pixel):
        assert path.shape == (4, len(space.TIMES), 6)
        assert_allclose(path[:, 0], vae.mean_image(z[0::2]))
        assert_allclose(path[:, -1], vae.mean_image(z[1::2]))
    middle = len(space.TIMES) // 2
    assert_allclose(latent[:, middle], vae.mean_image((z[0::2] + z[1::2]) / 2))
    assert_allclose(pixel[:, middle], (vae.mean_image(z[0::2]) + vae.mean_image(z[1::2])) / 2)
    v, u = rng.standard_normal(2), 0.1 * rng.standard_normal(6)
    latent, pixel = space.walk(vae, z, v, u)
    assert_allclose(latent[:, -1], vae.mean_image(z + 1.5 * v))
    assert_allclose(pixel[:, 0], np.clip(vae.mean_image(z) - 1.5 * u, 0, 1))


@pytest.mark.parametrize("colour", [True, False])
def test_synthetic_faces_are_colour_images(colour):
    run = SimpleNamespace(seed=0, settings=SimpleNamespace(data="synthetic", colour=colour))
    images = faces.pictures(run)
    size = int(np.prod(images.shape))
    assert (images.kind, len(images.shape)) == (("colour", 3) if colour else ("grey", 2))
    assert (images.train.shape, images.test.shape, images.train.dtype) == ((2000, size), (200, size), np.float32)
    assert images.train.min() >= 0
    assert images.train.max() <= 1
    assert images.train.std(axis=0).min() > 0.02  # every pixel varies
    around = images.test.reshape(200, *images.shape)  # smooth: neighbours in a plane agree
    assert np.abs(np.diff(around, axis=1)).mean() < 0.5 * np.abs(around[:, :, None] - around[::-1, :, None]).mean()


# -- reconstruction ----------------------------------------------------------------------------------------------------


def test_errors_are_of_the_mean_code_or_averages_over_draws(rng):
    vae = VAE(3, (4,), 1, rng=Generator(1), init=nn.normal(0.7), dtype="float64")
    x = rng.integers(0, 2, (700, 3)).astype(float)  # two chunks
    p = vae.reconstruct(x)
    nats, squared = autoencoder.errors(vae, x)
    assert_allclose(nats, -np.log(np.where(x == 1, p, 1 - p)).sum(1))
    assert_allclose(squared, ((x - p) ** 2).sum(1))
    # Averages over draws, against quadrature over the posterior.
    nats, squared = autoencoder.errors(vae, x[:8], Generator(2), samples=20000)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    q = vae.encode(x[:8])
    z = np.asarray(q.mu) + np.exp(np.asarray(q.log_sigma)) * nodes[:, None, None]
    p = vae.mean_image(z)
    weights = weights / weights.sum()
    assert_allclose(nats, weights @ -np.log(np.where(x[:8] == 1, p, 1 - p)).sum(-1), rtol=0.01)
    assert_allclose(squared, weights @ ((x[:8] - p) ** 2).sum(-1), rtol=0.01)


def test_the_autoencoder_has_neither_noise_nor_divergence(rng):
    vae = VAE(3, (4,), 2, rng=Generator(3), init=nn.normal(0.7), dtype="float64")
    x = rng.integers(0, 2, (5, 3)).astype(float)
    loss = autoencoder.autoencoder_loss(vae)(x, None)  # no generator is asked
    p = vae.reconstruct(x)
    assert_allclose(loss.item(), -np.log(np.where(x == 1, p, 1 - p)).sum(1).mean())
    weight, bias = vae.encoder.layers[-1].weight, vae.encoder.layers[-1].bias
    for gradient in grad(loss, [weight, bias]):
        assert (gradient[..., 2:] == 0).all()  # the head for sigma is not read
        assert (gradient[..., :2] != 0).all()
    bound = autoencoder.vae_loss(vae)(x, Generator(4)).item()
    assert_allclose(bound, -np.mean(np.asarray(vae.elbo(x, Generator(4)))))


@pytest.mark.parametrize(("ae", "verdict"), [(3.0, "better"), (-3.0, "worse"), (0.0, "no difference")])
def test_the_verdict_is_of_paired_differences(ae, verdict):
    vae = np.arange(100.0)  # images differ far more than the models
    gain, error = autoencoder.compared([vae + ae + np.tile([0.5, -0.5], 50)] * 2, [vae] * 2)["nats"]["gain"]
    assert_allclose(gain, ae)
    assert verdict in autoencoder.verdict(gain, error)
