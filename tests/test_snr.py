"""Moments and signal-to-noise ratios of gradients, against NumPy on known noise, and through a model."""

import numpy as np
import pytest

from minivi import evaluation, nn
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import grad

RNG = np.random.default_rng(0)
TRUE_MEAN = [RNG.normal(size=(2, 3)), np.array(0.4)]
TRUE_STD = [RNG.uniform(0.5, 2.0, size=(2, 3)), np.array(1.5)]


def noisy(seed, far=0.0, louder=1.0):
    """A gradient of known mean and noise."""
    rng = np.random.default_rng(seed)
    return lambda: [far + m + louder * s * rng.normal(size=m.shape) for m, s in zip(TRUE_MEAN, TRUE_STD, strict=True)]


def test_moments_are_numpys():
    """Running sums against all draws at once; far from 0, where sums of squares would cancel."""
    draw = noisy(1, far=1e7)
    found, again = evaluation.gradient_moments(draw, 40), noisy(1, far=1e7)
    kept = [np.stack(arrays) for arrays in zip(*[again() for _ in range(40)], strict=True)]
    assert found.draws == 40
    for mean, variance, ratio, all_draws in zip(found.mean, found.variance, found.snr(), kept, strict=True):
        assert mean.shape == all_draws.shape[1:] and mean.dtype == np.float64
        np.testing.assert_allclose(mean, all_draws.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(variance, all_draws.var(axis=0, ddof=1), rtol=1e-6)
        np.testing.assert_allclose(ratio, np.abs(mean) / np.sqrt(variance), rtol=1e-12)


def test_stated_error_is_the_spread():
    """Over 1,000 repeats of 100 draws, which the delta method needs, at ratios where the modulus is harmless."""
    runs = [evaluation.gradient_moments(noisy([2, i], far=2.0), 100) for i in range(1000)]
    for i, (mean, std) in enumerate(zip(TRUE_MEAN, TRUE_STD, strict=True)):
        large = np.abs(2.0 + mean) / std > 0.7
        assert large.any()
        stated = np.mean([r.snr_error()[i] for r in runs], axis=0)
        np.testing.assert_allclose(np.std([r.snr()[i] for r in runs], axis=0)[large], stated[large], rtol=0.1)


def test_squared_ratio_has_no_bias():
    """Over 1,000 repeats; the plain one has."""
    runs = [evaluation.gradient_moments(noisy([2, i]), 20) for i in range(1000)]
    others = [evaluation.gradient_moments(noisy([3, i], louder=3.0), 12) for i in range(1000)]
    for i, (mean, std) in enumerate(zip(TRUE_MEAN, TRUE_STD, strict=True)):
        snr = np.abs(mean) / std
        ratios = np.stack([r.snr()[i] for r in runs])
        alone = np.stack([r.squared_snr()[i] for r in runs])
        below = np.stack([r.squared_snr(other)[i] for r, other in zip(runs, others, strict=True)])
        for squares, right in ((alone, snr**2), (below, (snr / 3) ** 2)):
            error = 4.5 * squares.std(axis=0) / np.sqrt(len(runs))
            assert np.all(np.abs(squares.mean(axis=0) - right) < error)
        assert np.all((ratios**2).mean(axis=0) - snr**2 > 4.5 * alone.std(axis=0) / np.sqrt(len(runs)))


def test_without_noise_and_refusal():
    found = evaluation.gradient_moments(lambda: [np.array([0.0, -2.0])], 5)
    assert np.isnan(found.snr()[0][0]) and np.isposinf(found.snr()[0][1])
    for draws in (0, 1):
        with pytest.raises(ValueError, match=f"draws must be an integer, at least 2; got {draws}"):
            evaluation.gradient_moments(lambda: [np.zeros(2)], draws)


def test_gradient_of_a_model():
    """With a decoder that ignores z, estimator A's gradient by mu is -(mu + sigma eps): mean -mu, deviation sigma."""
    vae = VAE(3, (), 2, rng=Generator(3), init=nn.normal(0.5), dtype="float64")
    for p in vae.decoder.parameters():
        p.assign(np.zeros(p.shape))
    x, rng = np.array([[1.0, 0.0, 1.0]]), Generator(4)
    q, bias = vae.encode(x), vae.encoder.layers[0].bias
    found = evaluation.gradient_moments(lambda: grad(vae.elbo(x, rng, estimator="A").sum(), [bias]), 2000)
    mu, sigma = np.asarray(q.mu)[0], np.exp(np.asarray(q.log_sigma))[0]
    np.testing.assert_allclose(found.mean[0][:2], -mu, atol=4 * sigma.max() / np.sqrt(2000))
    np.testing.assert_allclose(np.sqrt(found.variance[0][:2]), sigma, rtol=0.08)
