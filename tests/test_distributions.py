"""Densities against SciPy, divergences against integration or enumeration, samples against moments."""

import itertools

import numpy as np
import pytest
from scipy import stats

from minivi import ops
from minivi.distributions import Bernoulli, Categorical, DiscretizedLogistic, Normal
from minivi.evaluation import bits_per_dimension
from minivi.gradcheck import gradcheck
from minivi.random import Generator
from minivi.tensor import Tensor


@pytest.fixture
def normals(rng):
    return [Normal(rng.standard_normal((3, 4)), 0.5 * rng.standard_normal((3, 4))) for _ in range(2)]


def test_normal_log_prob_and_entropy(normals, rng):
    p, _ = normals
    x = rng.standard_normal((5, 3, 4))
    np.testing.assert_allclose(p.log_prob(x), stats.norm.logpdf(x, p.mu, np.exp(p.log_sigma)).sum(-1), rtol=1e-13)
    np.testing.assert_allclose(p.entropy(), stats.norm.entropy(p.mu, np.exp(p.log_sigma)).sum(-1), rtol=1e-13)
    shared = Normal(p.mu, np.full(4, -0.3))  # one log sigma for all rows
    np.testing.assert_allclose(shared.entropy(), stats.norm.entropy(p.mu, np.exp(-0.3)).sum(-1), rtol=1e-13)


def test_normal_kl(normals):
    p, q = normals
    for other in (q, None):
        m, s = (q.mu, np.exp(q.log_sigma)) if other else (0.0, 1.0)
        z = np.linspace(-15, 15, 20001)[:, None, None]
        a, b = stats.norm.logpdf(z, p.mu, np.exp(p.log_sigma)), stats.norm.logpdf(z, m, s)
        integral = np.sum(np.exp(a) * (a - b), axis=0).sum(-1) * (z[1] - z[0])[0]
        np.testing.assert_allclose(p.kl(other), integral, rtol=1e-9)


def test_normal_rsample_and_its_density(normals, rng):
    p, _ = normals
    eps = rng.standard_normal((5, 3, 4))
    z = p.rsample(eps)
    np.testing.assert_allclose(z, p.mu + np.exp(p.log_sigma) * eps, rtol=1e-14)
    np.testing.assert_allclose(p.log_prob_of_noise(eps), p.log_prob(z), rtol=1e-12)


def test_normal_sample_moments(normals):
    p, _ = normals
    z = p.sample(Generator(0), (40_000,))
    assert z.shape == (40_000, 3, 4)
    sigma = np.exp(p.log_sigma)
    assert np.abs((z.mean(0) - p.mu) / sigma).max() < 4.5 / np.sqrt(40_000)
    assert np.abs(z.std(0) / sigma - 1).max() < 4.5 / np.sqrt(2 * 40_000)


def test_bernoulli_by_enumeration(rng):
    p, q = (Bernoulli(rng.standard_normal(4)) for _ in range(2))
    every = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
    probs, others = np.exp(p.log_prob(every)), np.exp(q.log_prob(every))
    np.testing.assert_allclose(probs, stats.bernoulli.pmf(every, np.asarray(p.mean)).prod(-1), rtol=1e-12)
    assert probs.sum() == pytest.approx(1.0, rel=1e-13)
    assert float(p.entropy()) == pytest.approx(-np.sum(probs * np.log(probs)), rel=1e-12)
    assert float(p.kl(q)) == pytest.approx(np.sum(probs * np.log(probs / others)), rel=1e-12)


def test_bernoulli_samples(rng):
    p = Bernoulli(rng.standard_normal(5).astype("float32"))
    x = p.sample(Generator(0), (40_000,))
    assert x.dtype == np.float32 and set(np.unique(x)) == {0.0, 1.0}
    mean = np.asarray(p.mean)
    assert np.abs((x.mean(0) - mean) / np.sqrt(mean * (1 - mean) / 40_000)).max() < 4.5


def test_categorical_by_enumeration(rng):
    p, q = (Categorical(3 * rng.standard_normal((2, 5))) for _ in range(2))
    probs = np.exp(np.asarray(p.log_probs))
    assert probs.sum(-1) == pytest.approx(np.ones(2), rel=1e-13)
    for label in range(5):
        np.testing.assert_allclose(p.log_prob([label, label]), np.log(probs[:, label]), rtol=1e-12)
    np.testing.assert_allclose(p.entropy(), stats.entropy(probs.T), rtol=1e-12)
    np.testing.assert_allclose(p.kl(q), stats.entropy(probs.T, np.exp(np.asarray(q.log_probs)).T), rtol=1e-12)
    assert np.shape(p.log_prob(np.array([[0, 1], [2, 3], [4, 0]]))) == (3, 2)  # labels (K, B) with logits (B, C)


def test_categorical_samples(rng):
    p = Categorical(rng.standard_normal(4))
    counts = np.bincount(p.sample(Generator(0), (40_000,)), minlength=4)
    assert stats.chisquare(counts, 40_000 * np.exp(np.asarray(p.log_probs))).pvalue > 1e-3


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b, e: Normal(a, b).log_prob(e),
        lambda a, b, e: Normal(a, b).rsample(e),
        lambda a, b, e: Normal(a, b).log_prob_of_noise(np.ones((2, 3, 4))) + 0.0 * e.sum(),
        lambda a, b, e: Normal(a, b).entropy() + 0.0 * (a.sum() + e.sum()),
        lambda a, b, e: Normal(a, b).kl(Normal(e, 0.5 * a)),
        lambda a, b, e: Normal(a, b).kl() + 0.0 * e.sum(),
        lambda a, b, e: Bernoulli(a).kl(Bernoulli(b)) + Bernoulli(e).entropy(),
        lambda a, b, e: Bernoulli(a).log_prob(ops.sigmoid(e)) + 0.0 * b.sum(),
        lambda a, b, e: Categorical(a).kl(Categorical(b)) + Categorical(e).entropy(),
        lambda a, b, e: Categorical(a * b + e).log_prob(np.array([0, 3, 1])),
    ],
)
def test_gradients(function, rng):
    report = gradcheck(function, *rng.standard_normal((3, 3, 4)), coordinates=12)
    assert not [row for row in report.rows if row.verdict == "WRONG"], str(report)
    assert any(row.verdict == "ok" for row in report.rows)


@pytest.mark.parametrize(
    ("labels", "error", "match"),
    [
        ([0.0, 1.0], TypeError, "labels of dtype float64"),
        ([0, 4], ValueError, "0 to 4 for 4 classes"),
        ([-1, 0], ValueError, "-1"),
    ],
)
def test_bad_labels(labels, error, match, rng):
    with pytest.raises(error, match=match):
        Categorical(rng.standard_normal((2, 4))).log_prob(labels)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("mu", "log_scale"), [(0.3, -2.0), (0.0, -8.0), (7.0, -3.0), (-40.0, -1.0), (0.5, 6.0)])
def test_discretized_logistic_against_scipy(levels, mu, log_scale):
    x = np.arange(levels)[:, None] / (levels - 1)
    p = DiscretizedLogistic(np.full((1, 1), mu), np.full(1, log_scale), levels)
    logs = p.log_prob(x)
    assert np.isclose(np.exp(logs).sum(), 1.0, rtol=1e-12)
    edges = np.concatenate([[-np.inf], np.arange(1, levels) / levels, [np.inf]])
    q = stats.logistic(mu, np.exp(log_scale))
    # the side from which no difference cancels
    mass = np.where(edges[:-1] > mu, q.sf(edges[:-1]) - q.sf(edges[1:]), q.cdf(edges[1:]) - q.cdf(edges[:-1]))
    np.testing.assert_allclose(np.exp(logs), mass, rtol=1e-9, atol=1e-300)
    assert np.isfinite(logs).all()
    single = DiscretizedLogistic(np.full((1, 1), mu, "f4"), np.full(1, log_scale, "f4"), levels)
    np.testing.assert_allclose(single.log_prob(x.astype("f4")), logs, rtol=2e-5, atol=2e-5)


def test_discretized_logistic_derivatives_and_samples(rng):
    x = rng.integers(0, 17, (3, 5)) / 16
    x[0] = [0.0, 1.0, 0.0, 1.0, 0.5]
    mu, log_scale = Tensor(rng.standard_normal((3, 5))), Tensor(0.5 * rng.standard_normal(5) - 1.0)
    report = gradcheck(lambda m, s: DiscretizedLogistic(m, s, 17).log_prob(x), mu, log_scale)
    assert report.ok, f"\n{report}"
    p = DiscretizedLogistic(np.full((1,), 0.4), np.full(1, -1.5), 5)
    drawn = np.rint(4 * p.sample(Generator(0), (40_000,)))[:, 0].astype(int)
    expected = np.exp(p.log_prob(np.arange(5)[:, None] / 4))
    assert stats.chisquare(np.bincount(drawn, minlength=5), 40_000 * expected).pvalue > 1e-4


def test_bits_per_dimension_of_known_entropy(rng):
    """Levels drawn from a known distribution: a code by it needs its entropy, by a wrong one the divergence more."""
    p = DiscretizedLogistic(np.full(3, 0.4), np.full(3, -2.0))
    one = DiscretizedLogistic(np.full((1, 1), 0.4), np.full(1, -2.0)).log_prob(np.arange(256)[:, None] / 255)
    entropy = -(np.exp(one) * one).sum() / np.log(2)
    x = p.sample(Generator(1), (20_000,))
    bits = bits_per_dimension(np.asarray(p.log_prob(x)), 3)
    assert abs(bits.mean() - entropy) < 5 * bits.std() / np.sqrt(len(bits))
    with pytest.raises(ValueError, match="dimensions"):
        bits_per_dimension(-1.0, 0)
