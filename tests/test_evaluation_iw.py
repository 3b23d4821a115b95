"""Bounds over a data set, paired differences, active units and SSIM; and what the tighter-bounds chapter trains."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import study
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp

from minivi import bounds, evaluation
from minivi.evaluation import Estimate
from minivi.models import VAE, LayeredVAE
from minivi.random import Generator
from minivi.tensor import grad

X = np.random.default_rng(0).integers(0, 2, (30, 6)).astype(np.float64)


def model(seed=0):
    return VAE(6, (5,), 2, rng=Generator(seed), dtype="float64")


# -- bounds over data --------------------------------------------------------------------------------------------------


def test_bound_by_loops_over_data_and_samples():
    found = evaluation.bound(model(), X, Generator(3), 6, lambda log_w: bounds.miwae(log_w, 2))
    log_w = np.asarray(model().log_weights(X, Generator(3), 6))
    loops = [np.mean([np.log(np.mean(np.exp(log_w[g : g + 3, n]))) for g in (0, 3)]) for n in range(30)]
    assert_allclose(found.values, loops, rtol=1e-10)
    assert_allclose(found.mean, np.mean(loops))
    assert_allclose(found.standard_error, np.std(loops, ddof=1) / np.sqrt(30))


def test_bound_is_the_likelihood_estimate_of_as_many_samples():
    found = evaluation.bound(model(), X, Generator(3), 8)
    assert_allclose(found.values, evaluation.log_likelihood(model(), X, Generator(3), 8).values, rtol=1e-10)


def test_bound_in_chunks(monkeypatch):
    monkeypatch.setattr(evaluation, "CHUNK", 8 * 6 * 7)  # seven data at a time
    found, rng = evaluation.bound(model(), X, Generator(3), 8), Generator(3)
    parts = [np.asarray(bounds.iwae(model().log_weights(X[i : i + 7], rng, 8))) for i in range(0, 30, 7)]
    assert_allclose(found.values, np.concatenate(parts))
    monkeypatch.setattr(evaluation, "CHUNK", 1)  # never less than one
    assert len(evaluation.bound(model(), X, Generator(3), 8).values) == 30


@pytest.mark.parametrize(("x", "samples"), [(X[:0], 5), (X, 0), (X[0], 5)])
def test_bound_refuses(x, samples):
    with pytest.raises(ValueError, match="^bound: (x has shape|samples must be)"):
        evaluation.bound(model(), x, Generator(0), samples)


def test_difference_is_paired():
    rng = np.random.default_rng(1)
    common, small = 100 * rng.normal(size=500), 0.1 * rng.normal(size=500) - 0.3
    a, b = Estimate(np.mean(common + small), 9, 0.3, common + small), Estimate(np.mean(common), 9, 0.4, common)
    found = evaluation.difference(a, b)
    assert_allclose([found.mean, found.standard_error], [small.mean(), small.std(ddof=1) / np.sqrt(500)])
    assert found.noise == pytest.approx(0.5)
    assert_allclose(evaluation.difference(b, a).values, -found.values)
    with pytest.raises(ValueError, match="500 and 1 data"):
        evaluation.difference(a, Estimate(0, 0, 0, np.zeros(1)))


def test_minus_kl_is_negative_and_smaller_with_samples():
    x = np.repeat(X, 40, axis=0)
    log_p = evaluation.log_likelihood(model(), x, Generator(5), 500)
    few, many = (evaluation.difference(evaluation.bound(model(), x, Generator(4), k), log_p) for k in (1, 20))
    assert few.mean < many.mean - 4 * few.standard_error
    assert many.mean < 2 * many.standard_error
    assert few.mean < -4 * few.standard_error


# -- log p-hat and its error -------------------------------------------------------------------------------------------


def with_weights(draw):
    """A model that draws log-weights (K, B) by ``draw(rng, K, B)``."""
    return SimpleNamespace(dtype=np.dtype("float64"), pixels=1, log_weights=lambda x, rng, k: draw(rng, k, len(x)))


@pytest.mark.parametrize(("sigma", "samples"), [(0.5, 20), (2.0, 20), (3.0, 20), (2.0, 200)])
def test_noise_is_the_spread_of_repeated_estimates(monkeypatch, sigma, samples):
    """Log-normal weights: for sigma = 3 the delta method gives 0.48 of it at K = 20, and never more than 1."""
    monkeypatch.setattr(evaluation, "GROUPS", 50)
    model = with_weights(lambda rng, k, n: sigma * rng.standard_normal((k, n)))
    found = [evaluation.log_likelihood(model, np.zeros((60, 1)), Generator(i), samples) for i in range(250)]
    spread = np.std([e.mean for e in found])
    assert np.sqrt(np.mean([e.noise**2 for e in found])) / spread == pytest.approx(1.05, abs=0.1)


@pytest.mark.parametrize("samples", [2, 7, 12, 17])
def test_noise_by_leaving_out(monkeypatch, samples):
    log_w = 30.0 * np.random.default_rng(samples).standard_normal((samples, 4))  # one weight rules
    monkeypatch.setattr(evaluation, "GROUPS", 5)
    monkeypatch.setattr(evaluation, "CHUNK", 4 * 3)  # chunks of three samples
    rows = iter(log_w)
    model = with_weights(lambda rng, k, n: np.array([next(rows) for _ in range(k)]))
    found = evaluation.log_likelihood(model, np.zeros((4, 1)), Generator(0), samples)
    which = np.arange(samples) % 5
    without = [logsumexp(log_w[which != g], axis=0) - np.log(np.sum(which != g)) for g in range(min(samples, 5))]
    noise = np.sqrt(np.sum((len(without) - 1) * np.var(without, axis=0))) / 4
    assert_allclose([found.noise, found.mean], [noise, np.mean(logsumexp(log_w, axis=0) - np.log(samples))], rtol=1e-12)
    without = [logsumexp(np.delete(log_w, k, axis=0), axis=0) - np.log(samples - 1) for k in range(samples)]
    noise = np.sqrt(np.sum((samples - 1) * np.var(without, axis=0))) / 4
    assert_allclose(evaluation.from_log_weights(log_w).noise, noise, rtol=1e-12)


def test_one_sample_has_an_unknown_error():
    model = with_weights(lambda rng, k, n: rng.standard_normal((k, n)))
    assert np.isnan(evaluation.log_likelihood(model, np.zeros((3, 1)), Generator(0), 1).noise)


def test_chunks_of_weights_of_zero(monkeypatch):
    """A first chunk of -inf alone; right is the finite rest. And a datum of nothing else."""
    monkeypatch.setattr(evaluation, "CHUNK", 3 * 2)  # chunks of two samples
    rows = [[-np.inf] * 3] * 2 + [[0.0, -np.inf, -np.inf], [1.0, 2.0, -np.inf]] + [[-np.inf] * 3] * 2
    parts = iter(np.reshape(rows, (3, 2, 3)))
    found = evaluation.log_likelihood(with_weights(lambda rng, k, n: next(parts)), np.zeros((3, 1)), Generator(0), 6)
    expected = [np.log((1 + np.e) / 6), 2 - np.log(6), -np.inf]
    assert_allclose(found.values, expected, rtol=1e-14)
    assert_allclose(evaluation.from_log_weights(np.array(rows)).values, expected, rtol=1e-14)
    assert found.mean == -np.inf and np.isnan(found.noise)


# -- active units ------------------------------------------------------------------------------------------------------


def test_single_precision_weights_are_averaged_in_double():
    log_w = np.float32([[1000.25, -3.0], [1000.5, -2.0]])
    right = logsumexp(log_w.astype(float), axis=0) - np.log(2.0)
    assert_allclose(evaluation.from_log_weights(log_w).values, right, rtol=1e-15)


def test_active_units_counts_means_that_vary_and_nothing_else():
    spread = np.array([0.099, 0.101, 0.0, 3.0])  # Var = spread^2, over x = +1, -1
    far = np.array([0.0, 0.0, 50.0, 0.0])
    stub = SimpleNamespace(encode=lambda x: SimpleNamespace(mu=far + x * spread, log_sigma=9.0))
    x = np.where(np.arange(2500) % 2, 1.0, -1.0)[:, None]  # more than one chunk
    assert evaluation.active_units(stub, x) == 2
    assert evaluation.active_units(stub, x, threshold=1.0) == 1
    assert evaluation.active_units(stub, x[:2], threshold=9.0) == 0  # two data do, and a variance of 9 is not above 9
    for few in (x[:1], x[:0]):
        with pytest.raises(ValueError):
            evaluation.active_units(stub, few)


def test_active_units_of_a_higher_layer(monkeypatch):
    """A linear second encoder: E[mu_2 | x] = E[z_1 | x] W. The noise of z_1 alone makes no unit active."""
    layered = LayeredVAE(1, [(), ()], [2, 3], rng=Generator(0), dtype="float64")
    (first,), (second,) = layered.encoders[0].layers, layered.encoders[1].layers
    # mu_1 = (2 x - 1, 0), sigma_1 = 1; mu_2 = (0.12 z_11, 0.08 z_11, 0.5 z_12): variances 0.0144, 0.0064 and 0
    first.weight.assign(np.array([[2.0, 0.0, 0.0, 0.0]]))
    first.bias.assign(np.array([-1.0, 0.0, 0.0, 0.0]))
    second.weight.assign(np.array([[0.12, 0.08, 0.0, 0, 0, 0], [0.0, 0.0, 0.5, 0, 0, 0]]))
    second.bias.assign(np.zeros(6))
    x = np.where(np.arange(4000) % 2, 1.0, 0.0)[:, None]
    assert evaluation.active_units(layered, x) == 1
    assert evaluation.active_units(layered, x, level=1, rng=Generator(1)) == 1
    assert evaluation.active_units(layered, x, threshold=0.0055, level=1, rng=Generator(1)) == 2
    with pytest.raises(ValueError, match="rng above level 0"):
        evaluation.active_units(layered, x, level=1)
    terms, sizes = layered.terms, []
    monkeypatch.setattr(layered, "terms", lambda x, *noise: sizes.append(len(x)) or terms(x, *noise))
    monkeypatch.setattr(evaluation, "CHUNK", 50)  # of 20 samples of one pixel: two data
    assert evaluation.active_units(layered, x[:5], level=1, rng=Generator(1)) >= 1
    assert sizes == [2, 2, 2, 2, 1, 1]


# -- SSIM --------------------------------------------------------------------------------------------------------------


def test_ssim_of_one_window_by_its_formula():
    pytest.importorskip("skimage", reason="scikit-image comes with minivi[chapters]")
    x, y = np.random.default_rng(2).random((2, 3, 49))
    y[0] = x[0]
    c1, c2 = 0.01**2, 0.03**2
    expected = [
        (2 * a.mean() * b.mean() + c1) * (2 * np.cov(a, b)[0, 1] + c2)
        / (a.mean() ** 2 + b.mean() ** 2 + c1) / (a.var(ddof=1) + b.var(ddof=1) + c2)
        for a, b in zip(x, y, strict=True)
    ]  # fmt: skip
    assert_allclose(evaluation.ssim(x, y, (7, 7)), expected, rtol=1e-7)
    assert expected[0] == pytest.approx(1)
    with pytest.raises(ValueError, match=r"images \(3, 49\) and reconstructions \(2, 49\)"):
        evaluation.ssim(x, y[:2], (7, 7))


def test_ssim_without_scikit_image_says_the_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(ModuleNotFoundError, match=r"\ASSIM needs scikit-image: pip install scikit-image\Z"):
        evaluation.ssim(X, X, (2, 3))


# -- the chapter -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chapter():
    files = ("_shared", "methods", "stochastic_layers")
    return SimpleNamespace(**{k: v for f in files for k, v in vars(study(f"report_tighter_bounds.{f}")).items()})


def test_piwae_trains_the_encoder_by_miwae_and_the_decoder_by_iwae(chapter):
    vae = model()
    loss, (first, second) = chapter.training(vae, "PIWAE", 16)
    losses = loss(X, Generator(6))
    for found, network, bound in (
        (losses[0], first, lambda log_w: bounds.miwae(log_w, 4)),
        (losses[1], second, bounds.iwae),
    ):
        right = grad(-bound(vae.log_weights(X, Generator(6), 16)).mean(), network.parameters())
        for a, b in zip(grad(found, network.parameters()), right, strict=True):
            assert_allclose(a, b, rtol=1e-12, atol=1e-15)
    assert (first, second) == (vae.encoder, vae.decoder)


@pytest.mark.parametrize("method", ["IWAE", "MIWAE", "CIWAE 0.5", "CIWAE 0.05", "VAE"])
def test_other_methods_train_both_networks_by_their_bound(chapter, method):
    vae = model()
    loss, networks = chapter.training(vae, method, 16)
    log_w = np.asarray(vae.log_weights(X, Generator(6), 16))
    elbo, iwae = log_w.mean(axis=0), np.log(np.exp(log_w).mean(axis=0))
    miwae = np.log(np.exp(log_w).reshape(4, 4, -1).mean(axis=1)).mean(axis=0)
    right = {"IWAE": iwae, "MIWAE": miwae, "VAE": elbo}
    right |= {"CIWAE 0.5": (elbo + iwae) / 2, "CIWAE 0.05": 0.05 * elbo + 0.95 * iwae}
    assert_allclose(loss(X, Generator(6)).item(), -right[method].mean(), rtol=1e-12)
    assert networks == [vae]


def test_two_layers_are_burdas(chapter):
    settings = SimpleNamespace(**chapter.LAYERS["paper"] | {"layers": 2})
    layered = chapter.new_model(settings, np.full((3, 784), 0.5), 0)
    shapes = [[layer.weight.shape for layer in e.layers] for e in layered.encoders]
    assert shapes == [[(784, 200), (200, 200), (200, 200)], [(100, 100), (100, 100), (100, 100)]]
    assert layered.sizes == (100, 50)


def test_table_1_is_consistent(chapter):
    """The published -KL is the difference of the columns beside it, within rounding: a digit typed wrongly shows."""
    for table in chapter.TABLE_1.values():
        for iwae, log_p, minus_kl in table.values():
            assert iwae - log_p == pytest.approx(minus_kl, abs=0.031)


def test_settings_name_methods_and_epochs_that_exist(chapter):
    for budgets in (chapter.MNIST, chapter.LARGER, chapter.OMNIGLOT, chapter.LAYERS):
        for settings in budgets.values():
            assert set(settings["runs"]) <= set(chapter.OBJECTIVES)
            assert round(settings["total"] ** 0.5) ** 2 == settings["total"]
    assert chapter.MNIST["laptop"]["runs"]["IWAE"] == {
        "epochs": 10, "images": 10_000, "seeds": 2, "at": [1, 2, 4],
    }  # fmt: skip
    assert_array_equal(sorted(chapter.MNIST["quick"]["runs"]), sorted(set(chapter.OBJECTIVES) - {"AEVB"}))
