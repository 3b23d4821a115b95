"""EM without an encoder: the E step, what a minibatch changes, how far it climbs, checkpoints that hold everything."""

from types import SimpleNamespace

import numpy as np
import pytest

from minivi import optim
from minivi.distributions import Normal
from minivi.em import MonteCarloEM, VariationalEM, climb, local_bound, numbered
from minivi.evaluation import log_likelihood_by_quadrature
from minivi.models import VAE
from minivi.random import Generator
from minivi.small import PATTERNS, small_vae
from minivi.training import fit

MAKE = {
    "variational": lambda vae, n: VariationalEM(vae, n),
    "Monte Carlo": lambda vae, n: MonteCarloEM(vae, n, Generator([0, 41])),
}
W, SIGMA = Generator(1).standard_normal((2, 5)), 0.3  # of a linear-Gaussian model
PRECISION = np.eye(2) + W @ W.T / SIGMA**2


def tiny(latents=1):
    return small_vae(0, latents)


def linear():
    """x = z W + noise: posteriors in closed form."""
    return SimpleNamespace(dtype=np.dtype("float64"), decode=lambda z: Normal(z @ W, np.full(5, np.log(SIGMA))))


def posterior_mean(x):
    return np.linalg.solve(PRECISION, W @ x.T / SIGMA**2).T


def start(kind, step_size=0.01):
    em = MAKE[kind](tiny(), 16)
    optimizer = optim.Adam(em.vae.decoder.parameters(), step_size)
    return em, optimizer, em.loss(optimizer)


# ------------------------------------------------------------------------------------------------ the E step
def test_e_step_finds_the_best_factorised_gaussian():
    """The posterior's mean, and sigma_j^2 = 1 / precision_jj."""
    x, begin = Generator(2).standard_normal((7, 5)), np.zeros((7, 2))
    mu, log_sigma = climb(linear(), x, begin, begin, Generator(3), steps=150, samples=50)
    widths = 1 / np.sqrt(np.diag(PRECISION))
    assert np.abs((mu - posterior_mean(x)) / widths).max() < 0.15
    np.testing.assert_allclose(log_sigma, np.broadcast_to(np.log(widths), (7, 2)), atol=0.1)
    assert (begin == 0).all()


@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_e_step_is_a_natural_gradient(rate):
    """One step from q: the slope in mu in units of the Fisher information 1 / sigma^2, in log sigma of 2.

    mu's pairs of samples have no noise where log p(x, z) is quadratic.
    """
    x, s = Generator(2).standard_normal((1, 5)), 0.05
    mean = posterior_mean(x)
    mu, log_sigma = mean + [[0.004, -0.002]], np.full((1, 2), np.log(s))
    new_mu, new_log_sigma = climb(linear(), x, mu, log_sigma, Generator(3), steps=1, samples=20_000, rate=rate)
    np.testing.assert_allclose(new_mu - mu, -rate * s**2 * (mu - mean) @ PRECISION, rtol=1e-8)
    expected = rate / 2 * (1 - s**2 * np.diag(PRECISION))
    np.testing.assert_allclose(new_log_sigma - log_sigma, [expected], atol=0.02)


def test_no_step_is_longer_than_one_sigma():
    """From far away: mu moves by one sigma, log sigma by at most a half."""
    x, zero = 1e3 * np.ones((1, 5)), np.zeros((1, 2))
    mu, log_sigma = climb(linear(), x, zero, zero, Generator(3), steps=1)
    np.testing.assert_array_equal(np.abs(mu), 1.0)
    assert np.abs(log_sigma).max() <= 0.5


def test_the_second_of_two_steps_has_half_the_rate():
    """Very narrow q of a flat bound: each step widens sigma^2 by exp(2 rate / 2), and mu's steps with it."""
    x, log_sigma, moved = np.ones((1, 5)), np.full((1, 2), -5.0), []
    near = posterior_mean(x) + 1e-3
    for steps in (1, 2):
        mu, _ = climb(linear(), x, near, log_sigma, Generator(3), steps=steps)
        moved.append(((near - mu) / ((near - posterior_mean(x)) @ PRECISION * np.exp(-10.0))).mean())
    assert moved == pytest.approx([0.5, 0.5 + 0.25 * np.exp(0.5)], rel=0.01)


def test_local_bound_is_the_encoders_for_its_own_q():
    """The same q, the same noise: what the library calls elbo."""
    vae = tiny(2)
    q = vae.encode(PATTERNS)
    heads = np.asarray(q.mu), np.asarray(q.log_sigma)
    bound = local_bound(vae, PATTERNS, *heads, Generator(4), 3)
    np.testing.assert_allclose(np.asarray(bound), np.asarray(vae.elbo(PATTERNS, Generator(4), 3)), rtol=1e-12)
    eps = Generator(4).standard_normal((2, 16, 2))
    pairs = local_bound(vae, PATTERNS, *heads, Generator(4), 4)
    both = vae.elbo(PATTERNS, eps=np.concatenate([eps, -eps]))
    np.testing.assert_allclose(np.asarray(pairs), np.asarray(both), rtol=1e-12)


# ------------------------------------------------------------------------------------------------ both kinds of EM
@pytest.mark.parametrize("kind", MAKE)
def test_one_minibatch(kind):
    """Only its data's own state moves, only the decoder learns, and `fit` makes the fifth update."""
    em, optimizer, loss = start(kind)
    before, chosen = em.state_dict(), [3, 8, 11]
    value = loss(numbered(PATTERNS)[chosen], Generator(1))
    assert optimizer.steps == em.updates - 1 == 4
    after = em.state_dict()
    for key in before:
        if key.startswith("vae."):
            assert (after[key] != before[key]).any() == key.startswith("vae.decoder")
        elif len(before[key]) == 16:
            moved = np.flatnonzero((after[key] != before[key]).any(axis=1))
            assert set(moved) <= set(chosen) and len(moved) > 0
    if kind == "Monte Carlo":
        expected = -np.asarray(em.vae.decode(em.chains.data[chosen]).log_prob(PATTERNS[chosen])).mean()
        assert value.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("kind", "short"), [("variational", 0.6), ("Monte Carlo", 0.2)])
def test_em_climbs(kind, short):
    """Data of two patterns, log p(x) = -2.8 at the start, and log 1/2 for the best model of them.

    Variational EM climbs a bound: no Gaussian is the posterior of such a model, and its steps are noisy here.
    """
    em, optimizer, loss = start(kind, 0.05)
    rows = numbered(PATTERNS[[3, 12] * 8])
    fit(em, loss, optimizer, rows, epochs=60, batch_size=16, rng=Generator(2), progress=False)
    reached = log_likelihood_by_quadrature(em.vae, PATTERNS[[3, 12]], 400, 8.0).mean
    assert np.log(0.5) - short < reached <= np.log(0.5)


@pytest.mark.parametrize("kind", MAKE)
def test_resumed_run_is_the_same(kind, tmp_path):
    """What data keep, step size and optimizer survive: three epochs at once, or two and one more."""
    states = []
    for stops in ((3,), (2, 3)):
        for epochs in stops:
            em, optimizer, loss = start(kind)
            folder = tmp_path / str(len(stops))
            fit(
                em, loss, optimizer, numbered(PATTERNS), epochs=epochs, batch_size=5, rng=Generator(3), folder=folder,
                resume=epochs != stops[0], progress=False,
            )  # fmt: skip
        states.append(em.state_dict())
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)


@pytest.mark.parametrize("kind", MAKE)
def test_cost_counts_gradients_through_the_decoder(kind, monkeypatch):
    """By counting the data that are decoded in a visit of all."""
    em, _, loss = start(kind)
    decode, counts = VAE.decode, []
    monkeypatch.setattr(VAE, "decode", lambda self, z: (counts.append(np.prod(z.shape[:-1])), decode(self, z))[1])
    loss(numbered(PATTERNS), Generator(1))
    assert sum(counts) == 16 * em.cost


def test_acceptance_leaves_the_chains_and_nears_its_target():
    em = MonteCarloEM(tiny(), 160, Generator(5), target=0.6)
    x, index, rng = np.repeat(PATTERNS, 10, axis=0), np.arange(160), Generator(6)
    for _ in range(200):
        em.e_step(x, index, rng)
    before = em.state_dict()
    assert em.acceptance(x, index, Generator(7)) == pytest.approx(0.6, abs=0.1)
    for name, value in before.items():
        np.testing.assert_array_equal(value, em.state_dict()[name])


def test_numbers_come_last():
    rows = numbered(PATTERNS.astype(np.float32))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.column_stack([PATTERNS, np.arange(16)]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: numbered(PATTERNS[0]), r"numbered: x has shape \(4,\)"),
        (lambda: VariationalEM(tiny(), 0), "VariationalEM: count must be an integer, at least 1"),
        (lambda: VariationalEM(None, 16), "VariationalEM: vae must be an object with decode"),
        (lambda: MonteCarloEM(tiny(), 16, 0), "MonteCarloEM: rng must be a generator"),
        (lambda: MonteCarloEM(tiny(), 16, Generator(0), 0), "MonteCarloEM: updates must be an integer, at least 1"),
        (lambda: MonteCarloEM(tiny(), 16, Generator(0), leapfrog_steps=0), "leapfrog_steps must be an integer"),
        (lambda: MonteCarloEM(tiny(), 16, Generator(0), target=1.0), "target must lie in"),
        (lambda: start("variational")[2](PATTERNS, Generator(0)), r"4 columns for 4 pixels; pass numbered\(x\)"),
        (lambda: local_bound(tiny(), PATTERNS, np.zeros((16, 1)), np.zeros((16, 1)), None), "rng must be a generator"),
        (lambda: climb(tiny(), PATTERNS, np.zeros((16, 1)), np.zeros((16, 1)), Generator(0), 0), "climb: steps must"),
        (lambda: climb(tiny(), PATTERNS, *np.zeros((2, 16, 1)), Generator(0), rate=0.0), "climb: rate must be"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
