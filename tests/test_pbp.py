"""Probabilistic backpropagation: moments by sampling, updates by quadrature, and a straight line."""

import numpy as np
import pytest
from scipy import integrate, stats

from minivi import Generator
from minivi.models.pbp import ProbabilisticBackpropagation, matched_gamma, relu_moments


@pytest.mark.parametrize("m", [-4.0, -1.0, 0.0, 0.5, 6.0])
def test_moments_of_a_rectified_gaussian_by_quadrature(m):
    v = 1.7
    density = stats.norm(m, np.sqrt(v)).pdf
    first, second = (integrate.quad(lambda a, k=k: a**k * density(a), 0, 30, points=[max(m, 0)])[0] for k in (1, 2))
    mean, variance = relu_moments(np.array([m]), np.array([v]))
    assert float(np.asarray(mean)[0]) == pytest.approx(first, rel=1e-9)
    assert float(np.asarray(variance)[0]) == pytest.approx(second - first**2, rel=1e-7)


def test_moments_of_a_network_by_sampling():
    model = ProbabilisticBackpropagation((2, 400, 1), Generator(0))
    for v in model.v:
        v.assign(np.full(v.shape, 0.3))
    x, rng = np.array([[0.5, -1.0]]), np.random.default_rng(1)
    outputs = []
    for _ in range(4000):
        h = x
        for n, (m, v) in enumerate(zip(model.m, model.v, strict=True)):
            w = m.data + np.sqrt(v.data) * rng.standard_normal(m.shape)
            h = np.concatenate([np.maximum(h, 0) if n else h, np.ones((1, 1))], axis=1) @ w / np.sqrt(len(w))
        outputs.append(h[0, 0])
    mean, variance = (float(np.asarray(a)[0]) for a in model.moments(x))
    assert np.mean(outputs) == pytest.approx(mean, abs=5 * np.sqrt(variance / 4000))
    assert np.var(outputs) == pytest.approx(variance, rel=0.12)


def test_one_target_moves_a_linear_model_to_its_exact_posterior():
    model = ProbabilisticBackpropagation((1, 1), Generator(0))
    m, v = model.m[0].data.copy(), model.v[0].data.copy()
    x, y = np.array([[0.7]]), 0.4
    noise = model.noise[1] / (model.noise[0] - 1)
    phi = np.array([0.7, 1.0]) / np.sqrt(2)  # the weight and the bias, scaled by the inputs
    model._take_in(x, y)
    covariance = np.diag(v[:, 0])
    gain = covariance @ phi / (phi @ covariance @ phi + noise)
    np.testing.assert_allclose(model.m[0].data[:, 0], m[:, 0] + gain * (y - phi @ m[:, 0]))
    np.testing.assert_allclose(model.v[0].data[:, 0], np.diag(covariance - np.outer(gain, phi @ covariance)))


def test_a_matched_gamma_has_the_moments_of_what_it_stands_for():
    a, b, error, spread = 6.0, 4.0, 2.3, 0.0  # without spread the factor is N(error; 0, 1 / gamma), all exact
    log_z = [-0.5 * (np.log(spread + b / k) + error**2 / (spread + b / k)) for k in (a - 1, a, a + 1)]
    new_a, new_b = matched_gamma(a, b, log_z)
    z, z1, z2 = np.exp(log_z)
    assert new_a / new_b == pytest.approx(z1 * a / (z * b))
    assert new_a * (new_a + 1) / new_b**2 == pytest.approx(z2 * a * (a + 1) / (z * b**2))


def test_it_learns_a_curve_and_is_unsure_away_from_data():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (150, 1))
    y = 3.0 + np.sin(2 * x[:, 0]) + 0.1 * rng.standard_normal(150)
    model = ProbabilisticBackpropagation((1, 40, 1), Generator(0)).fit(x, y, epochs=30)
    mean, variance = model.predict(np.array([[0.5], [6.0]]))
    assert mean[0] == pytest.approx(3 + np.sin(1.0), abs=0.35)
    assert variance[1] > 5 * variance[0]
    assert model.noise_variance < 0.2 * y.var()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ProbabilisticBackpropagation((2, 3), Generator(0)), "the last must be 1"),
        (lambda: ProbabilisticBackpropagation((2, 1), 0), "must be a generator"),
        (lambda: ProbabilisticBackpropagation((2, 1), Generator(0)).fit(np.ones((3, 2)), np.ones(2)), "one target"),
        (lambda: ProbabilisticBackpropagation((2, 1), Generator(0)).fit(np.ones((3, 3)), np.ones(3)), "x has shape"),
        (lambda: ProbabilisticBackpropagation((2, 1), Generator(0)).predict(np.ones((3, 2))), "call fit"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
