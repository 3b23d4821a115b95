"""M2: its bounds against enumeration, quadrature and finite differences."""

import numpy as np
import pytest
from scipy.special import expit, log_expit, logsumexp
from scipy.stats import norm

from minivi.gradcheck import gradcheck
from minivi.models import SemiSupervisedVAE
from minivi.random import Generator
from minivi.small import PATTERNS, grid, shake

X, Y = PATTERNS[[3, 9, 14]], np.array([2, 0, 1])
PRIOR = np.array([0.5, 0.2, 0.3])


def tiny(likelihood="bernoulli", latents=1, hidden=(3,), scale=0.7):
    model = SemiSupervisedVAE(4, 3, hidden, latents, likelihood, prior=PRIOR, rng=Generator(0), dtype="float64")
    return shake(model, Generator(1).standard_normal, scale)


def softplus(a):
    return np.logaddexp(0.0, a)


def log_px(model, z, y):
    """log p(x | y, z) of the images, (points, 3), by NumPy from the weights; z (points, 1)."""
    last = model.decoder.layers[-1]
    hidden = z @ model.decoder_z.weight.data + model.decoder_z.bias.data + model.decoder_y.data[y]
    out = softplus(hidden) @ last.weight.data + last.bias.data
    if model.likelihood == "bernoulli":
        return log_expit(out) @ X.T + log_expit(-out) @ (1 - X).T
    mu, sigma = out[:, None, :4], np.exp(0.5 * out[:, None, 4:])
    return norm.logpdf(X, mu, sigma).sum(axis=-1)


def posterior(model, y):
    """mu and sigma of q(z | y, x), each (3, 1), by NumPy."""
    last = model.encoder.layers[-1]
    hidden = X @ model.encoder_x.weight.data + model.encoder_x.bias.data + model.encoder_y.data[y]
    out = softplus(hidden) @ last.weight.data + last.bias.data
    return out[:, :1], np.exp(0.5 * out[:, 1:])


def log_joint(model):
    """log p(x, y), (3, C): the integral over z by a sum."""
    z, step = grid(12.0, 4001)
    prior = norm.logpdf(z)[:, None] + np.log(step)
    return np.stack(
        [logsumexp(log_px(model, z[:, None], y) + prior, axis=0) + np.log(PRIOR[y]) for y in range(3)], axis=1
    )


def bound(model, y):
    """L(x, y), (3,): the expectation over z by a sum over noise."""
    eps, step = grid(9.0, 1001)
    mu, sigma = posterior(model, y)
    values = np.stack([log_px(model, mu[b] + sigma[b] * eps[:, None], y)[:, b] for b in range(3)], axis=1)
    kl = 0.5 * (mu**2 + sigma**2 - 1) - np.log(sigma)
    return norm.pdf(eps) @ values * step + np.log(PRIOR[y]) - kl[:, 0]


def class_probabilities(model):
    first, last = model.classifier.layers
    logits = softplus(X @ first.weight.data + first.bias.data) @ last.weight.data + last.bias.data
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_bounds_are_their_integrals_and_lie_below_the_likelihoods(likelihood):
    model = tiny(likelihood)
    exact, each = log_joint(model), np.stack([bound(model, y) for y in range(3)], axis=1)
    q = class_probabilities(model)
    unlabelled = (q * (each - np.log(q))).sum(axis=1)
    labelled = np.array([each[b, y] for b, y in enumerate(Y)])
    assert (each < exact - 1e-3).all() and (unlabelled < logsumexp(exact, axis=1) - 1e-3).all()
    rng, rows = Generator(2), 20_000
    x, y = np.tile(X, (rows, 1)), np.tile(Y, rows)
    for values, right in ((model.labelled_bound(x, y, rng), labelled), (model.unlabelled_bound(x, rng), unlabelled)):
        values = np.asarray(values).reshape(rows, 3)
        assert (np.abs(values.mean(axis=0) - right) < 4.5 * values.std(axis=0) / np.sqrt(rows)).all()
    np.testing.assert_allclose(model.predict_proba(X), q, rtol=1e-12)


def test_the_unlabelled_bound_sums_over_classes_by_enumeration():
    """The same noise for each class: U(x) = sum_y q (L(x, y) - log q), L from the labelled bound."""
    model = tiny(latents=2, hidden=(4, 3))
    eps = Generator(3).standard_normal((3, 3, 2))
    log_q = np.asarray(model.classify(X).log_probs)
    each = np.stack([np.asarray(model.labelled_bound(X, np.full(3, y), eps=eps[y])) for y in range(3)], axis=1)
    np.testing.assert_allclose(model.class_bounds(X, eps=eps).data.T, each, rtol=1e-12)
    right = (np.exp(log_q) * (each - log_q)).sum(axis=1)
    np.testing.assert_allclose(model.unlabelled_bound(X, eps=eps).data, right, rtol=1e-12)


def test_the_objective_weighs_its_terms_as_the_whole_data_set_does():
    """100 labelled and 900 other data: one of each, with the classifier's term at 0.1 N / N_l a labelled datum."""
    model, counts = tiny(), (100, 900)
    value = model.objective(X, Y, X[:2], Generator(4), counts=counts, alpha=0.1)
    rng = Generator(4)
    labelled = np.asarray(model.labelled_bound(X, Y, rng)).mean()
    unlabelled = np.asarray(model.unlabelled_bound(X[:2], rng)).mean()
    log_q = np.log([class_probabilities(model)[b, y] for b, y in enumerate(Y)]).mean()
    right = (100 * labelled + 900 * unlabelled + 0.1 * 1000 * log_q) / 1000
    np.testing.assert_allclose(value.item(), right, rtol=1e-12)
    all_labelled = model.objective(X, Y, None, Generator(4), counts=(100, 0), alpha=0.0)
    np.testing.assert_allclose(all_labelled.item(), labelled, rtol=1e-12)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_gradients(likelihood):
    model = tiny(likelihood, latents=2)
    report = gradcheck(
        lambda: model.objective(X, Y, X[::-1], Generator(5), counts=(3, 30), alpha=0.3), parameters=model
    )
    assert report.ok, report


def test_importance_sampling_gives_the_joint_likelihood():
    model = tiny(scale=0.3)
    model.encoder.layers[-1].bias.assign(np.array([0.0, 0.7]))  # wider than p(z | x, y): weights of small variance
    np.testing.assert_allclose(model.log_joint(X, Generator(6), 4000), log_joint(model), atol=0.02)


def test_pixels_and_samples():
    model = tiny(latents=2)
    z = Generator(7).standard_normal((3, 2))
    last = model.decoder.layers[-1]
    hidden = softplus(z @ model.decoder_z.weight.data + model.decoder_z.bias.data + model.decoder_y.data[Y])
    np.testing.assert_allclose(model.mean_image(z, Y), expit(hidden @ last.weight.data + last.bias.data), rtol=1e-12)
    assert model.sample(np.array([0, 0, 2]), Generator(8)).shape == (3, 4)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m: m.labelled_bound(X, np.array([0, 1, 3]), Generator(0)), "integers .B,. from 0 to 2"),
        (lambda m: m.labelled_bound(X, np.array([0.0, 1.0, 2.0]), Generator(0)), "integers .B,. from 0 to 2"),
        (lambda m: m.labelled_bound(X, np.array([0, 1]), Generator(0)), "3 data and 2 labels"),
        (lambda m: m.unlabelled_bound(X[:, :3], Generator(0)), "4"),
        (lambda m: m.unlabelled_bound(X), "rng"),
        (lambda m: m.unlabelled_bound(X, eps=np.zeros((3, 2))), "pass .3, 3, 1"),
        (lambda m: SemiSupervisedVAE(4, 1, rng=Generator(0)), "classes"),
        (lambda m: SemiSupervisedVAE(4, 3, (), rng=Generator(0)), "hidden"),
        (lambda m: SemiSupervisedVAE(4, 3, prior=[0.5, 0.6, 0.1], rng=Generator(0)), "whose sum is 1"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ValueError, match=match):
        call(tiny())
