"""Chapter 2's studies: what they measure, against cases whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import study
from numpy.testing import assert_allclose

from minivi import data, evaluation
from minivi.models import VAE
from minivi.random import Generator
from minivi.small import PATTERNS, small_vae

importance, missing = study("ch02_marginal_likelihood.importance"), study("ch02_latent_space.missing")
texts, collapse = study("ch02_latent_space.texts"), study("ch02_challenges.collapse")


def test_weights_of_a_defended_proposal_have_the_marginal_as_mean():
    vae = small_vae(3, 2)
    log_w = importance.log_weights(vae, PATTERNS, 40_000, Generator(1), 0.1)
    exact = evaluation.log_likelihood_by_quadrature(vae, PATTERNS, 200, 8.0).values
    ratio = np.exp(log_w - exact)
    assert np.all(np.abs(ratio.mean(axis=0) - 1) < 4 * ratio.std(axis=0) / 200)
    assert log_w.max() <= np.log(10) + 1e-6  # log p(x | z) <= 0


def test_slope_of_a_gap_leaves_out_what_noise_hides():
    counts = importance.COUNTS
    by = {"gap": 3.0 / counts, "error": np.where(counts < 1000, 1e-3 / counts, 1.0)}
    slope, error, seen = importance.slope(by)
    assert_allclose(slope, -1.0, atol=1e-9)
    assert seen.tolist() == [20, 50, 100, 200, 500] and 0 < error < 0.01


def test_halves_agree_where_the_data_leave_no_doubt():
    pca, rng = study("ch02_pca"), np.random.default_rng(0)
    clear = rng.standard_normal((2000, 5)) * [9.0, 7.0, 0.1, 0.1, 0.1]
    vague = rng.standard_normal((2000, 5)) * [1.05, 1.03, 1.0, 1.0, 1.0]
    sharp, open_ = (pca.halves(x, 2, Generator(2)) for x in (clear, vague))
    assert sharp["angle"] < 0.5 < 5 < open_["angle"] and min(sharp["nats"], open_["nats"]) >= 0


def test_flops_of_a_training_point():
    costs = study("ch02_aevb.costs")
    vae = VAE(784, (500,), 20, rng=Generator(0))
    weights = [784 * 500 + 500 * 40, 20 * 500 + 500 * 784]
    assert costs.flops(vae, "AEVB") == 6 * sum(weights) and costs.flops(vae, "wake-sleep") == 8 * sum(weights)


def test_variances_where_the_posterior_is_the_prior():
    """Without data the signal is constant: a control variate leaves nothing; the path keeps -eps and 1 - eps^2."""
    regression, none = study("ch02_gradients.regression"), np.zeros(1)
    plain, controlled, path = regression.variances(none, none, np.zeros((1, 1)), none, Generator(3), 100_000)
    assert controlled < 1e-9 * max(plain, 1.0)
    assert path == pytest.approx(1 + 2, rel=0.05)


def test_share_of_images_saved():
    gain, error = study("ch02_autoencoder.useful").gain(np.array([0, 0, 1, 0], "u1"), np.array([1, 0, 1, 1], "u1"))
    assert gain == 50.0 and error == pytest.approx(100 * np.std([1, 0, 0, 1], ddof=1) / 2)


def test_imputed_images_keep_what_was_seen():
    vae, x = VAE(64, (8,), 2, rng=Generator(0)), np.tile([1.0, 0.0], (3, 32)).astype("float32")
    hole = np.arange(64) >= 32
    filled = missing.impute(vae, x, hole, np.full(64, 0.5), 6, Generator(1))
    assert np.array_equal(filled[:, ~hole], x[:, ~hole])
    assert np.all((filled[:, hole] > 0) & (filled[:, hole] < 1))
    assert_allclose(missing.nats(np.full((3, 64), 0.5), x, hole), 32 * np.log(2))


def test_a_search_raises_the_slant_within_its_radius():
    vae, z = VAE(64, (8,), 2, rng=Generator(0)), Generator(1).standard_normal((5, 2), dtype="float32")
    images = vae.mean_image(z)
    assert_allclose(missing.slant_of(images, (8, 8)), missing.slant(images, (8, 8)), rtol=1e-4, atol=1e-5)
    end = missing.climb(vae, z, (8, 8), 30, 1.5)
    assert np.all(np.linalg.norm(end, axis=1) <= 1.5 + 1e-6)
    assert np.all(missing.slant(vae.mean_image(end), (8, 8)) > missing.slant(vae.mean_image(0 * z), (8, 8)))


def test_clauses_end_with_zeros_and_counts_are_distributions():
    rows, vocabulary = texts.clauses(SimpleNamespace(data="synthetic", words=60), Generator(0))
    assert vocabulary[0] == "" and len({tuple(row) for row in rows}) == len(rows)
    assert np.all(rows[:, :3] > 0) and np.all(np.diff((rows > 0).astype(int), axis=1) <= 0)
    alone, pairs = texts.counted(rows, len(vocabulary))
    assert_allclose([alone.sum(), *pairs.sum(axis=1)], 1.0)
    assert np.mean(texts.fluency(rows, pairs)) > np.mean(texts.fluency(rows[:, ::-1].copy(), pairs))


def test_a_decoded_sentence_stays_ended():
    model = texts.TextVAE(5, 4, 2, 3, Generator(0))
    model.bias.assign([2.0, 1.9, 0, 0, 0])
    rows = texts.decoded(model, Generator(1).standard_normal((40, 2), dtype="float32"))
    assert np.all(np.diff((rows > 0).astype(int), axis=1) <= 0)


def test_between_two_models_lie_their_weights():
    first, last = (VAE(4, (3,), 1, rng=Generator(seed)) for seed in (0, 1))
    for t, model in ((0.0, first), (1.0, last)):
        for p, q in zip(collapse.between(first, last, t).parameters(), model.parameters(), strict=True):
            assert_allclose(p.data, q.data)


def test_only_sets_of_texts_have_texts():
    with pytest.raises(data.DataError, match="polarity does"):
        data.texts("digits")
