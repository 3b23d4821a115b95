"""Monte Carlo EM as chapter 2 trains it: chains of their own, five updates a sample, checkpoints that hold both."""

import numpy as np
import pytest
from helpers import study

from minivi import nn, optim
from minivi.models import VAE
from minivi.random import Generator
from minivi.training import fit

PATTERNS = np.array([[int(c) for c in f"{i:04b}"] for i in range(16)], float)


@pytest.fixture(scope="module")
def chapter():
    return study("ch02_marginal_likelihood")


def start(chapter):
    vae = VAE(4, (3,), 1, rng=Generator(0), init=nn.normal(0.5), dtype="float64")
    em = chapter.MonteCarloEM(vae, 16, seed=0)
    optimizer = optim.Adam(vae.decoder.parameters(), 0.01)
    return em, optimizer, em.loss(optimizer), np.column_stack([PATTERNS, np.arange(16.0)])


def test_one_minibatch(chapter):
    """Only its data's chains move, only the decoder learns, and `fit` makes the fifth update."""
    em, optimizer, loss, rows = start(chapter)
    before, chains = em.vae.state_dict(), em.chains.data.copy()
    value = loss(rows[[3, 8, 11]], Generator(1))
    moved = np.flatnonzero((em.chains.data != chains).any(axis=1))
    assert set(moved) <= {3, 8, 11} and len(moved) > 0
    assert optimizer.steps == 4
    after = em.vae.state_dict()
    assert all((after[k] != before[k]).any() == k.startswith("decoder") for k in before)
    z = em.chains.data[[3, 8, 11]]
    expected = -np.asarray(em.vae.decode(z).log_prob(PATTERNS[[3, 8, 11]])).mean()
    assert value.item() == pytest.approx(expected, rel=1e-14)


def test_it_climbs_to_the_best_likelihood(chapter):
    """Data of two patterns: log p(x) rises close to what a model of them can have, log 1/2."""
    em, optimizer, loss, _ = start(chapter)
    rows = np.column_stack([PATTERNS[[3, 12] * 8], np.arange(16.0)])
    optimizer.step_size = 0.05
    fit(em, loss, optimizer, rows, epochs=150, batch_size=16, rng=Generator(2), progress=False)
    found = chapter.evaluation.log_likelihood_by_quadrature(em.vae, PATTERNS[[3, 12]], 400, 8.0).mean
    assert np.log(0.5) - 0.15 < found <= np.log(0.5)


def test_resumed_run_is_the_same(chapter, tmp_path):
    """Chains, step size and optimizer survive: three epochs at once, or two and one more."""
    states = []
    for stops in ((3,), (2, 3)):
        for epochs in stops:
            em, optimizer, loss, rows = start(chapter)
            folder = tmp_path / str(len(stops))
            fit(
                em, loss, optimizer, rows, epochs=epochs, batch_size=5, rng=Generator(3), folder=folder,
                resume=epochs != stops[0], progress=False,
            )  # fmt: skip
        states.append(em.state_dict())
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)
