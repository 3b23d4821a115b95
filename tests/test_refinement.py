"""Refinement: each step against its definition, by enumeration and finite differences; the refined bound is tighter."""

import itertools

import numpy as np
import pytest
from helpers import planted
from scipy.optimize import minimize

from minivi import evaluation, nn, refinement
from minivi.distributions import Bernoulli
from minivi.models import VAE, BeliefNetwork
from minivi.random import Generator
from minivi.refinement import (
    Refined,
    refine_bernoulli,
    refine_gaussian,
    refine_mean_field,
    refine_straight_through,
)  # fmt: skip
from minivi.small import grid, shake, small_vae
from minivi.tensor import grad

X = np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])


def belief(units=3):
    model = BeliefNetwork(4, (units,), rng=Generator(0), dtype="float64")
    return shake(model, Generator(1).standard_normal, 0.8)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def log_p_of_means(model, mean, x):
    layer = model.decoder[0].network.layers[0]
    logits = mean @ layer.weight.data + layer.bias.data
    return (x * logits - np.logaddexp(0, logits)).sum(axis=-1)


def exact_bound(model, q):
    """sum_h q~ (log p(x, h) - log q~) over all states, (B,)."""
    h = model.states()[0]
    log_q = np.asarray(q.log_prob(h))
    log_p = sum(np.asarray(part) for part in model.log_p_parts(X, [h]))
    return (np.exp(log_q) * (log_p - log_q)).sum(axis=0)


# ------------------------------------------------------------------------------------------------ Gaussian latents
def integrated_bound(vae, mu, log_sigma):
    """The bound of one-dimensional Gaussians, (B,), by a sum over a grid of eps."""
    eps, step = grid(10.0, 801)
    z = mu + np.exp(log_sigma) * eps[:, None, None]
    mass = np.exp(-0.5 * eps**2) / np.sqrt(2 * np.pi) * step
    reconstruction = mass @ np.asarray(vae.decode(z).log_prob(X))
    kl = 0.5 * (mu**2 + np.exp(2 * log_sigma) - 1) - log_sigma
    return reconstruction - kl[:, 0]


def test_a_gaussian_step_is_the_gradient_of_the_bound_of_each_datum(refine_gaussian=refine_gaussian):
    """Noise at the nodes of a quadrature rule: the move is rate times a difference of the integrated bound."""
    vae = small_vae(3)
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    counts = np.round(weights / weights.sum() * 40_000).astype(int)
    eps = np.repeat(nodes, counts)[None, :, None, None] * np.ones((1, 1, 2, 1))
    q = vae.encode(X)
    mu, log_sigma = q.mu.data, q.log_sigma.data
    new = refine_gaussian(vae, X, None, 1, 0.25, eps=eps)
    for i, moved in enumerate((new.mu - mu, new.log_sigma - log_sigma)):
        ends = []
        for h in (1e-5, -1e-5):
            at = [mu, log_sigma]
            at[i] = at[i] + h
            ends.append(integrated_bound(vae, *at))
        np.testing.assert_allclose(moved[:, 0], 0.25 * (ends[0] - ends[1]) / 2e-5, rtol=2e-3, atol=1e-4)
        assert np.abs(moved).max() > 0.01


def test_many_gaussian_steps_reach_the_best_gaussian():
    """Within Monte Carlo noise of SciPy's maximum of the integrated bound; the start is well below."""
    vae = shake(small_vae(3), Generator(5).standard_normal, 0.7)
    best = []
    for b in range(2):
        cost = lambda p, b=b: -integrated_bound(vae, np.full((2, 1), p[0]), np.full((2, 1), p[1]))[b]
        best.append(-minimize(cost, [0.0, 0.0]).fun)
    start = vae.encode(X)
    q = refine_gaussian(vae, X, Generator(1), 200, 0.1, 200)
    reached = integrated_bound(vae, q.mu, q.log_sigma)
    before = integrated_bound(vae, start.mu.data, start.log_sigma.data)
    np.testing.assert_allclose(reached, best, atol=0.01)
    assert (before < np.array(best) - 0.02).all()


def test_more_gaussian_steps_tighten_the_bound_on_the_same_noise():
    vae = VAE(4, (5,), 3, rng=Generator(2), init=nn.normal(0.8), dtype="float64")
    x = (Generator(3).random((50, 4)) < 0.5).astype(float)
    means = []
    for steps in (0, 1, 5, 20):
        refined = Refined(vae, lambda m, x, rng, steps=steps: refine_gaussian(m, x, rng, steps, 0.1))
        means.append(evaluation.bound(refined, x, Generator(4), 500, lambda w: w.mean(axis=0)).mean)
    assert means == sorted(means) and means[-1] - means[0] > 0.05


# ------------------------------------------------------------------------------------------------ binary latents
def uniforms(states, mean):
    """Numbers that draw just these states from these means."""
    return np.where(states == 1, 0.0, 1.0 - 1e-12) * np.ones_like(mean)


@pytest.mark.parametrize("damping", [1.0, 0.3])
def test_importance_sampling_is_its_definition(damping, refine_bernoulli=refine_bernoulli):
    """One step over all pairs of states of three bits: the mean of the new means, written out for each pair."""
    model = belief()
    states = model.states()[0][:, 0]
    mean = sigmoid(model.encode(X).logits.data)
    joint = sum(np.asarray(part) for part in model.log_p_parts(X, [states[:, None]]))  # (8, B)
    log_q = np.asarray(Bernoulli(np.log(mean / (1 - mean))).log_prob(states[:, None]))
    got, right = np.zeros((2, 3)), np.zeros((2, 3))
    for i, j in itertools.product(range(8), repeat=2):
        uniform = np.stack([uniforms(states[k], mean) for k in (i, j)])[None]
        chance = np.exp(log_q[i] + log_q[j])[:, None]
        q = refine_bernoulli(model, X, None, 1, 2, damping, uniform=uniform)
        got += chance * sigmoid(q.logits)
        w = np.exp(np.stack([joint[i] - log_q[i], joint[j] - log_q[j]]))
        moved = (w[0, :, None] * states[i] + w[1, :, None] * states[j]) / w.sum(axis=0)[:, None]
        right += chance * np.clip((1 - damping) * mean + damping * moved, 1e-4, 1 - 1e-4)
    np.testing.assert_allclose(got, right, rtol=1e-10)
    assert np.abs(right - mean).max() > 0.02


def test_importance_sampling_with_many_samples_is_the_posterior_mean():
    model = belief()
    log_p = sum(np.asarray(part) for part in model.log_p_parts(X, model.states()))
    posterior = np.exp(log_p - np.logaddexp.reduce(log_p, axis=0))
    right = np.einsum("sb,sj->bj", posterior, model.states()[0][:, 0])
    q = refine_bernoulli(model, X, Generator(0), 1, 200_000)
    np.testing.assert_allclose(sigmoid(q.logits), right, atol=0.01)


def test_mean_field_is_the_gradient_of_its_objective(refine_mean_field=refine_mean_field):
    """One step against differences of log p(x | mu) + <log p(h)> + H, written out."""
    model = belief()
    logits, prior = model.encode(X).logits.data, model.decoder[1].bias.data

    def objective(z):
        mu = sigmoid(z)
        entropy = -(mu * np.log(mu) + (1 - mu) * np.log1p(-mu)).sum(axis=1)
        expected = (mu * prior - np.logaddexp(0, prior)).sum(axis=1)
        return log_p_of_means(model, mu, X) + expected + entropy

    moved = refine_mean_field(model, X, 1, 0.5).logits - logits
    for j in range(3):
        step = 1e-5 * np.eye(3)[j]
        slope = (objective(logits + step) - objective(logits - step)) / 2e-5
        np.testing.assert_allclose(moved[:, j], 0.5 * slope, rtol=1e-6)
    assert np.abs(moved).max() > 0.05
    values = [objective(refine_mean_field(model, X, steps, 0.2).logits).mean() for steps in (0, 5, 50, 500)]
    assert values == sorted(values)
    last = refine_mean_field(model, X, 3000, 0.2).logits
    np.testing.assert_allclose(refine_mean_field(model, X, 3001, 0.2).logits, last, atol=1e-8)  # has arrived


def test_straight_through_is_its_definition(refine_straight_through=refine_straight_through):
    """Eq. 8 over all states of one sample: E[d log p / dh] mu (1 - mu), plus the exact rest."""
    model = belief()
    logits = model.encode(X).logits.data
    mean, states = sigmoid(logits), model.states()[0][:, 0]
    layer, prior = model.decoder[0].network.layers[0], model.decoder[1].bias.data
    got, slopes = np.zeros((2, 3)), np.zeros((2, 3))
    for h in states:
        chance = np.prod(np.where(h == 1, mean, 1 - mean), axis=1)[:, None]
        got += chance * (
            refine_straight_through(model, X, None, 1, 0.5, uniform=uniforms(h, mean)[None, None]).logits - logits
        )
        slopes += chance * ((X - sigmoid(h @ layer.weight.data + layer.bias.data)) @ layer.weight.data.T)
    np.testing.assert_allclose(got, 0.5 * mean * (1 - mean) * (slopes + prior - logits), rtol=1e-9)
    assert np.abs(got).max() > 0.02


def test_refinement_of_binary_latents_tightens_the_exact_bound():
    """Measured by enumeration for each method, from recognition weights that are far off."""
    model = belief()
    start = exact_bound(model, model.encode(X))
    found = {
        "AVI": refine_bernoulli(model, X, Generator(0), 20, 50, 0.3),
        "MPVI": refine_mean_field(model, X, 50, 0.3),
        "ST": refine_straight_through(model, X, Generator(0), 50, 0.3, 50),
    }
    for name, q in found.items():
        assert exact_bound(model, q).mean() > start.mean() + 0.1, name
        assert (exact_bound(model, q) <= model.exact_log_likelihood(X)).all()


# ------------------------------------------------------------------------------------------------ both together
def test_no_steps_change_nothing():
    vae, model = VAE(4, (3,), 2, rng=Generator(0)), BeliefNetwork(4, (3,), rng=Generator(0))
    x = X.astype("float32")
    for m, refine in [
        (vae, lambda m, x, rng: refine_gaussian(m, x, rng, 0)),
        (model, lambda m, x, rng: refine_bernoulli(m, x, rng, 0)),
        (model, lambda m, x, rng: refine_mean_field(m, x, 0)),
        (model, lambda m, x, rng: refine_straight_through(m, x, rng, 0)),
    ]:
        h, log_q = m.draw_and_score(x, Generator(1), 3)
        log_w = sum(np.asarray(part) for part in m.log_p_parts(x, h)) - np.asarray(log_q[0])
        np.testing.assert_array_equal(np.asarray(Refined(m, refine).log_weights(x, Generator(1), 3)), log_w)


def test_the_refined_posterior_is_a_proposal():
    model = belief()
    refined = Refined(model, lambda m, x, rng: refine_bernoulli(m, x, rng, 5, 20, 0.5))
    log_p = evaluation.log_likelihood(refined, X, Generator(1), 20_000)
    np.testing.assert_allclose(log_p.values, model.exact_log_likelihood(X), atol=0.02)
    assert refined.elbo(X, Generator(2), 5).shape == (2,) and refined.pixels == 4


def test_the_surrogate_trains_theta_by_samples_and_phi_by_the_divergence(Refined=Refined):
    model = belief()
    target = Bernoulli(np.array([[0.5, -1.0, 2.0], [0.0, 1.0, -0.3]]))
    refined = Refined(model, lambda m, x, rng: target)
    surrogate = refined.surrogate(X, Generator(3), 6).sum()
    h = target.sample(Generator(3), (6,))
    named = dict(model.named_parameters())
    got = dict(zip(named, grad(surrogate, list(named.values())), strict=True))
    log_p = (sum(model.log_p_parts(X, [h])) / 6).sum()
    right = dict(zip(named, grad(log_p, list(named.values()), unused="zeros"), strict=True))
    p, q = sigmoid(target.logits), sigmoid(model.encode(X).logits.data)
    right["encoder.0.network.layers.0.bias"] = (p - q).sum(axis=0)  # -d KL / d logits
    right["encoder.0.network.layers.0.weight"] = X.T @ (p - q)
    for name, g in right.items():
        assert np.abs(g).max() > 0.01
        np.testing.assert_allclose(got[name], g, rtol=1e-9, atol=1e-12, err_msg=name)


FAULTS = {  # what: (line, fault, the function in which a test finds it)
    "the divergence's sign": (".mean(axis=0) - q.kl()", ".mean(axis=0) + q.kl()", "refine_gaussian"),
    "descends": ("mu + rate * moves[0]", "mu - rate * moves[0]", "refine_gaussian"),
    "log sigma stays": ("log_sigma + rate * moves[1]", "log_sigma", "refine_gaussian"),
    "p alone": (" - np.asarray(q.log_prob(h))\n", "\n", "refine_bernoulli"),
    "weights not normalised": ("np.exp(log_w - ops.log_sum_exp(log_w, axis=0))", "np.exp(log_w)", "refine_bernoulli"),
    "damping turned round": ("(1.0 - damping) * mean + damping *", "damping * mean + (1.0 - damping) *",
                             "refine_bernoulli"),
    "the prior's sign": ("q.mean) - q.kl(prior)", "q.mean) + q.kl(prior)", "refine_mean_field"),
    "no factor d mu / d z": ("rate * grad(bound.sum(), q.logits)", "rate * grad(bound.sum(), q.logits) / np.asarray("
                             "q.mean * (1.0 - q.mean))", "refine_straight_through"),
    "no gradient through samples": ("ones + (mean - value)", "ones", "refine_straight_through"),
    "KL reversed": ("q.kl(self.model.encode(x))", "self.model.encode(x).kl(q)", "Refined"),
    "KL's sign in the M step": ("log_p - q.kl(", "log_p + q.kl(", "Refined"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault):
    """Each method with one line wrong fails the test of its definition."""
    right, wrong, where = FAULTS[fault]
    new = planted(refinement, right, wrong)[where]
    with pytest.raises(AssertionError):
        {
            "refine_gaussian": test_a_gaussian_step_is_the_gradient_of_the_bound_of_each_datum,
            "refine_bernoulli": lambda f: test_importance_sampling_is_its_definition(0.3, f),
            "refine_mean_field": test_mean_field_is_the_gradient_of_its_objective,
            "refine_straight_through": test_straight_through_is_its_definition,
            "Refined": test_the_surrogate_trains_theta_by_samples_and_phi_by_the_divergence,
        }[where](new)
