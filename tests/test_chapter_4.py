"""What chapter 4 adds: cyclic degrees, mixtures as conditionals, continuous data made of levels, bits per dimension."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import CHECKS, study
from numpy.testing import assert_allclose
from scipy import stats

from minivi import data, nn
from minivi.experiments import Experiment, Run
from minivi.experiments.measuring import Dequantised
from minivi.gradcheck import gradcheck
from minivi.random import Generator
from minivi.tensor import Parameter, grad

autoregressive = study("ch04_autoregressive")
shared, densities, digits = (study(f"ch04_invertible.{name}") for name in ("_shared", "densities", "digits"))
checks = study("ch04_invertible", CHECKS)


# ------------------------------------------------------------------------------------------------- cyclic degrees
@pytest.mark.parametrize("units", [3, 6, 16])
def test_cyclic_degrees(units):
    """Unit k sees 1 + k mod (D - 1) dimensions; with fewer units than that, no output sees those behind."""
    model = nn.MADE(7, (units,), Generator(0), degrees="cyclic", activation="tanh", dtype="float64")
    expected = sorted(1 + k % 6 for k in range(units))
    assert model.masks[0].degrees[0].tolist() == expected
    x = Parameter(Generator(1).standard_normal(7))
    y = model(x)
    sees = np.stack([grad(y[j], x) for j in range(7)]) != 0
    widest = max(expected)
    for j in range(7):
        assert sees[j].tolist() == [k < min(j, widest) for k in range(7)]


def test_cyclic_degrees_are_the_same_for_each_mask():
    with pytest.raises(ValueError, match="masks that are all equal"):
        nn.MADE(5, (4,), Generator(0), degrees="cyclic", masks=2)
    assert nn.MADE(1, (4,), Generator(0), degrees="cyclic").masks[0].degrees[0].tolist() == [1, 1, 1, 1]


# ---------------------------------------------------------------------------------------------------- ensembles
def test_ensemble_is_the_mean_probability():
    log_p = np.log([[0.5, 1e-300], [0.1, 3e-300]])
    assert_allclose(autoregressive.log_mean(log_p), np.log([0.3, 2e-300]))


def test_log_probs_of_many_images_by_parts():
    model = nn.MADE(4, (6,), Generator(0), ordering="random", masks=3, dtype="float64")
    x = Generator(1).bernoulli(np.full((2300, 4), 0.4), dtype=np.float64)
    ours = autoregressive.all_log_probs(model, x)
    assert_allclose(autoregressive.log_mean(ours), np.asarray(model.ensemble_log_prob(x)), rtol=1e-12)


def test_images_of_two_splits_in_one_chapter():
    """Experiments of a chapter share what they read; those of another split must not get it."""
    read, found = {}, []
    for split in ("1500/297", "1200/300/297", "1500/297"):
        entry = Experiment("c", "e", "", "", {"quick": {"data": "digits", "split": split}}, {}, None)
        found.append(Run(entry, "quick", None, 0, "out", False, False, read).images())
    assert [len(f.train) for f in found] == [1500, 1200, 1500] and found[1].validation is not None
    assert found[0] is found[2]


def test_binary_images():
    """Digits' held-out pixels are drawn once, evenly spread subsets are taken from them, each split has its own."""
    shared, sets = {}, []
    for settings in ({"split": "1500/297"}, {"split": "1200/300/297", "count": 100}, {"split": "1500/297", "count": 7}):
        entry = Experiment("c", "e", "", "", {"quick": {"data": "digits", **settings}}, {}, None)
        sets.append(Run(entry, "quick", None, 0, "out", False, False, shared).binary_images())
    assert [(len(s.train), len(s.valid)) for s in sets] == [(1500, 297), (100, 300), (7, 297)]
    assert sets[0].test is sets[2].test and set(np.unique(sets[1].valid)) == {0, 1}
    assert np.array_equal(sets[0].test, sets[0].valid)  # there are no others
    assert len(np.unique(sets[1].train)) > 2 and set(np.unique(sets[1].prepare(sets[1].train, Generator(0)))) == {0, 1}
    assert data.spread(np.arange(10), 4).tolist() == [0, 2, 4, 6] and len(data.spread(sets[0].test, 500)) == 297


# ------------------------------------------------------------------------------------------- mixtures as conditionals
def mixture(size, components):
    model = shared.AutoregressiveMixture(size, (5,), components, Generator(0), dtype="float64")
    model.made.activation = "tanh"
    return checks.shaken(model)


@pytest.mark.parametrize("components", [1, 3])
def test_mixture_integrates_to_one_and_has_its_gradients(components):
    model = mixture(2, components)
    axis = np.linspace(-12.0, 12.0, 241)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert np.exp(np.asarray(model.log_prob(grid))).sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1.0, abs=2e-3)
    report = gradcheck(lambda x: model.log_prob(x), Generator(2).standard_normal((4, 2)))
    assert report.ok, str(report)


def test_mixture_is_the_product_of_its_conditionals():
    model, x = mixture(3, 2), Generator(3).standard_normal((4, 3))
    y = np.asarray(model.made(x))
    expected = np.zeros(4)
    for b, d in np.ndindex(4, 3):
        weights = np.exp(y[b, d, :2]) / np.exp(y[b, d, :2]).sum()
        expected[b] += np.log(weights @ stats.norm.pdf(x[b, d], y[b, d, 2:4], np.exp(y[b, d, 4:])))
    assert_allclose(np.asarray(model.log_prob(x)), expected, rtol=1e-12)


# ----------------------------------------------------------------------------------------- levels, noise, bits
def images(levels, size=3, count=400):
    k = Generator(4).integers(0, levels, (count, size)) // np.arange(1, size + 1)
    return SimpleNamespace(train=(k / (levels - 1)).astype(np.float32), test=(k[:50] / (levels - 1)).astype(np.float32))


class Fixed:
    """Gives the noise that it was made with."""

    def __init__(self, noise):
        self.noise = noise

    def random(self, shape):
        return np.broadcast_to(self.noise, shape)


@pytest.mark.parametrize("margin", [None, 0.05, 1e-6])
@pytest.mark.parametrize("levels", [17, 256])
def test_log_det_of_dequantised_levels(levels, margin):
    """The slope of each v_d in u_d = (k_d + U_d) / levels, by differences of the noise U."""
    found = images(levels)
    coding = Dequantised(found.train, levels, margin)
    x, noise, step = found.test, 0.5, 1e-2
    ends = [coding(x, Fixed(noise + sign * step)).astype(np.float64) for sign in (1.0, -1.0)]
    slope = (ends[0] - ends[1]) / (2 * step / levels)
    middle = coding(x, Fixed(noise))
    assert_allclose(coding.log_det(middle), np.log(slope).sum(axis=-1), atol=5e-3)
    assert_allclose(coding.images(middle), (x * (levels - 1) + noise) / levels, rtol=1e-5, atol=1e-6)
    if margin != 1e-6:
        assert_allclose(coding(found.train, Generator(5)).mean(axis=0), 0.0, atol=1e-5)
        assert_allclose(coding(found.train, Generator(5)).std(axis=0), 1.0, atol=1e-5)


@pytest.mark.parametrize("margin", [None, 0.05])
@pytest.mark.parametrize("levels", [17, 256])
def test_bits_of_the_uniform_density(levels, margin):
    """p(u) = 1 on [0, 1]: every image takes log2(levels) bits a dimension, whatever v is."""
    found = images(levels)
    coding = Dequantised(found.train, levels, margin)
    v = coding(found.test, Generator(6))
    assert_allclose(coding.bits(-coding.log_det(v), v), np.log2(levels), rtol=1e-12)
    assert_allclose(coding.bits(-coding.log_det(v) + 3 * np.log(2.0), v), np.log2(levels) - 1, rtol=1e-12)


def test_independent_bits():
    found = SimpleNamespace(train=np.array([[0, 1], [0, 0.5], [0, 0.5]]), test=np.array([[0.0, 0.5], [1.0, 1.0]]))
    # Three levels: (4, 1, 1) / 6 and (1, 3, 2) / 6.
    assert_allclose(digits.independent_bits(found, 3), [-np.log2(4 / 6 * 3 / 6) / 2, -np.log2(1 / 6 * 2 / 6) / 2])


# --------------------------------------------------------------------------------------------------- the densities
@pytest.mark.parametrize("name", densities.DENSITIES)
def test_density_of_a_small_square_is_its_share_of_samples(name):
    """Counts of 60,000 points in squares of side 0.5, against the density's integral over each."""
    density, count = densities.DENSITIES[name], 60_000
    edges = np.arange(-4.0, 4.01, 0.5)
    found, *_ = np.histogram2d(*density.sample(count, np.random.default_rng(7)).T, bins=(edges, edges))
    axis = (np.arange(160) + 0.5) * 0.05 - 4.0
    p = np.exp(density.log_prob(np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1))) * 0.05**2
    expected = count * p.reshape(16, 10, 16, 10).sum(axis=(1, 3))
    likely = expected > 20
    error = (found - expected)[likely] / np.sqrt(expected[likely])
    # Sums over 10 x 10 points are integrals to a per mille or two.
    assert np.abs(error).max() < 5.0 and np.mean(error**2) < 1.6
    assert found[~likely].sum() <= expected[~likely].sum() + 5 * np.sqrt(expected[~likely].sum()) + 5


def test_gaussian_baseline():
    rng = np.random.default_rng(8)
    train, x = rng.standard_normal((50, 2)) @ np.array([[1.0, 0.5], [0.0, 2.0]]), rng.standard_normal((6, 2))
    expected = stats.multivariate_normal(train.mean(axis=0), np.cov(train.T)).logpdf(x)
    assert_allclose(densities.gaussian(train, x), expected, rtol=1e-12)
