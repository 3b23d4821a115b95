"""Wake-sleep: the exact expectation of each phase's gradient, by feeding every sample through the code's own draws."""

import numpy as np
import pytest
from scipy.stats import norm

from minivi import nn
from minivi.estimators import wake_sleep
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import grad

PATTERNS = np.array([[int(c) for c in f"{i:04b}"] for i in range(16)], float)
DATA = np.array([3, 3, 5, 9, 14, 14, 14])  # which patterns the data are
GRID = np.linspace(-9.0, 9.0, 361)
STEP = GRID[1] - GRID[0]


def tiny():
    return VAE(4, (3,), 1, rng=Generator(0), init=nn.normal(0.7), dtype="float64")


class Enumerated:
    """Stands for a generator: hands out prepared arrays instead of draws, in order, and checks what is asked."""

    def __init__(self, *arrays):
        self.arrays = list(arrays)

    def _next(self, size):
        array = self.arrays.pop(0)
        assert array.size == np.prod(size) and array.shape[-1] == size[-1]
        return array.reshape(size)

    def standard_normal(self, size, dtype=None):
        return self._next(size)

    def random(self, size, dtype=None):
        return self._next(size)


def enumerate_wake(vae):
    """Surrogate of every (datum, eps) pair, and p(eps) over the number of data; the dreams fixed."""
    x = np.repeat(PATTERNS[DATA], len(GRID), axis=0)
    eps = np.tile(GRID, len(DATA))[:, None]
    rng = Enumerated(eps, np.zeros_like(eps), np.full((len(x), 4), 0.5))
    return wake_sleep(vae, x, rng), norm.pdf(eps[:, 0]) * STEP / len(DATA)


def enumerate_sleep(vae):
    """Surrogate of every (z, pattern) dream, and p(z) p(x | z); the data fixed."""
    z = np.repeat(GRID, 16)[:, None]
    dreams = np.tile(PATTERNS, (len(GRID), 1))
    uniform = np.where(dreams == 1.0, 0.0, 1.0)  # below, or not below, any probability
    rng = Enumerated(np.zeros_like(z), z, uniform)
    p = vae.mean_image(z)
    weights = norm.pdf(z[:, 0]) * STEP * np.prod(np.where(dreams == 1, p, 1 - p), axis=1)
    return wake_sleep(vae, np.tile(PATTERNS[DATA[:1]], (len(z), 1)), rng), weights


def by_difference(vae, network, objective, h=1e-5):
    """Central differences of ``objective()`` in every parameter of one network."""
    found = []
    for p in getattr(vae, network).parameters():
        value, slopes = p.data.copy(), np.empty(p.shape)
        for i in np.ndindex(p.shape):
            both = []
            for sign in (1, -1):
                nudged = value.copy()
                nudged[i] += sign * h
                p.assign(nudged)
                both.append(objective())
            slopes[i] = (both[0] - both[1]) / (2 * h)
        p.assign(value)
        found.append(slopes)
    return found


def log_joint(vae):
    """log p(z) + log p(x | z), (16, grid)."""
    p = vae.mean_image(GRID[:, None])[None]
    x = PATTERNS[:, None]
    return np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=-1) + norm.logpdf(GRID)


def log_q(vae):
    """log q(z | x), (16, grid)."""
    q = vae.encode(PATTERNS)
    return norm.logpdf(GRID, np.asarray(q.mu), np.exp(np.asarray(q.log_sigma)))


def test_wake_phase_is_the_decoders_expected_gradient():
    """E over data and q(z | x) of grad_theta log p(x, z): the posterior held where it is."""
    vae = tiny()
    surrogate, weights = enumerate_wake(vae)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    got = grad((surrogate * weights).sum(), vae.decoder.parameters())
    q = np.exp(log_q(vae))[DATA]
    expected = by_difference(vae, "decoder", lambda: np.sum(q * log_joint(vae)[DATA]) * STEP / len(DATA))
    for g, e in zip(got, expected, strict=True):
        assert np.abs(e).max() > 0.01
        np.testing.assert_allclose(g, e, atol=2e-7)


def test_sleep_phase_is_the_encoders_expected_gradient():
    """E over dreams (x, z) ~ p(x, z) of grad_phi log q(z | x): the decoder held where it is."""
    vae = tiny()
    surrogate, weights = enumerate_sleep(vae)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    got = grad((surrogate * weights).sum(), vae.encoder.parameters())
    joint = np.exp(log_joint(vae))
    expected = by_difference(vae, "encoder", lambda: np.sum(joint * log_q(vae)) * STEP)
    for g, e in zip(got, expected, strict=True):
        assert np.abs(e).max() > 0.01
        np.testing.assert_allclose(g, e, atol=2e-7)


def test_each_phase_leaves_the_other_network_alone():
    """Other data, guesses or noise in one phase change nothing in the other phase's gradient."""
    vae = tiny()
    eps, z = Generator(1).standard_normal((6, 1)), Generator(2).standard_normal((6, 1))
    uniform = Generator(3).random((6, 4))

    def gradients(x, eps, z, uniform):
        surrogate = wake_sleep(vae, x, Enumerated(eps, z, uniform)).sum()
        return grad(surrogate, vae.encoder.parameters()), grad(surrogate, vae.decoder.parameters())

    encoder, decoder = gradients(PATTERNS[:6], eps, z, uniform)
    awake = gradients(PATTERNS[6:12], -eps, z, uniform)  # other data and guesses, the same dream
    asleep = gradients(PATTERNS[:6], eps, -z, 1 - uniform)
    for one, two in zip(encoder, awake[0], strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(decoder, asleep[1], strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(encoder, asleep[0], strict=True))
    assert any((one != two).any() for one, two in zip(decoder, awake[1], strict=True))


def test_real_draws_have_that_expectation():
    """With a real generator: the mean within 4 standard errors, along a direction through all weights."""
    vae = tiny()
    surrogate, weights = enumerate_wake(vae)
    wake = grad((surrogate * weights).sum(), vae.decoder.parameters())
    surrogate, weights = enumerate_sleep(vae)
    sleep = grad((surrogate * weights).sum(), vae.encoder.parameters())
    exact = np.concatenate([g.ravel() for g in [*sleep, *wake]])
    direction = np.random.default_rng(0).standard_normal(exact.size)
    draws, rng = [], Generator(4)
    for _ in range(200):
        surrogate = wake_sleep(vae, np.tile(PATTERNS[DATA], (30, 1)), rng).mean()
        gradients = grad(surrogate, [*vae.encoder.parameters(), *vae.decoder.parameters()])
        draws.append(np.concatenate([g.ravel() for g in gradients]) @ direction)
    error = np.std(draws, ddof=1) / np.sqrt(len(draws))
    assert abs(np.mean(draws) - exact @ direction) < 4 * error
    assert error < 0.05 * abs(exact @ direction)


def test_value():
    """log p(x, z) of the guess z plus log q(z | x) of the dream, by SciPy."""
    vae = tiny()
    eps, z, uniform = np.array([[0.3], [-1.0]]), np.array([[1.2], [0.1]]), np.array([[0.4] * 4, [0.7] * 4])
    q = vae.encode(PATTERNS[[6, 11]])
    p = vae.mean_image(np.asarray(q.mu) + np.exp(np.asarray(q.log_sigma)) * eps)
    wake = np.log(np.where(PATTERNS[[6, 11]] == 1, p, 1 - p)).sum(-1)
    wake += norm.logpdf(np.asarray(q.mu) + np.exp(np.asarray(q.log_sigma)) * eps)[:, 0]
    q = vae.encode((uniform < vae.mean_image(z)).astype(float))
    sleep = norm.logpdf(z, np.asarray(q.mu), np.exp(np.asarray(q.log_sigma)))[:, 0]
    np.testing.assert_allclose(
        wake_sleep(vae, PATTERNS[[6, 11]], Enumerated(eps, z, uniform)), wake + sleep, rtol=1e-12
    )
