"""How chapter 1 judges its grids, and which images early stopping looks at; what studies of all chapters share."""

import numpy as np
import pytest
from helpers import study
from scipy import stats

from minivi.experiments.measuring import few_seeds, seconds_in_turn


def test_points_needed():
    """From there on all errors are small: one lucky grid does not count."""
    chapter = study("ch01_models.dlvm")
    assert chapter.needed([5, 10, 20, 40], [1.0, 0.05, 0.2, 0.01]) == 40
    assert chapter.needed([5, 10, 20], [1.0, 0.05, 0.01]) == 10
    assert chapter.needed([5, 10], [1.0, 0.2]) is None


def test_held_out_images_are_no_training_images():
    """Early stopping's images."""
    for budget in study("ch01_models.classifier").CLASSIFIER.values():
        size = {"digits": 1500, "mnist": 60000}[budget["data"]]
        assert max(budget["counts"]) + budget["validation"] <= size


def test_two_errors_over_few_seeds_are_half_of_students_interval():
    values = np.array([0.1, 0.5, 0.3])
    mean, error = few_seeds(values)
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (mean - 2 * error, mean + 2 * error) == pytest.approx((low, high))
    assert few_seeds([0.7]) == (0.7, 0.0)


def test_jobs_are_timed_in_turn():
    calls = []
    jobs = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = seconds_in_turn(jobs, 3, idle=2)
    assert "".join(calls) == "ab" * 5 and {name: each.shape for name, each in seconds.items()} == dict(a=(3,), b=(3,))


def test_floored_variances():
    """Both models of section 1.6.1 have one floor, and above it the decoder's variance is its own."""
    mixtures = study("ch01_models.mixtures")
    vae = mixtures.FlooredVAE(3, (4,), 2, "gaussian", rng=np.random.default_rng(0))
    z = np.random.default_rng(1).standard_normal((5, 2)).astype("float32")
    free = np.exp(2 * np.asarray(mixtures.VAE.decode(vae, z).log_sigma, float))
    assert np.exp(2 * np.asarray(vae.decode(z).log_sigma, float)) == pytest.approx(free + mixtures.FLOOR, rel=1e-5)
