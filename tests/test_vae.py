"""The model against integration, its estimators against each other, bounds and evaluation."""

import numpy as np
import pytest
from scipy import stats

from minivi import bounds, evaluation, nn
from minivi.gradcheck import gradcheck
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import grad

PATTERNS = np.array([[int(c) for c in f"{i:03b}"] for i in range(8)], float)


def tiny(latents=1, likelihood="bernoulli", seed=0, **more):
    return VAE(3, (4,), latents, likelihood, rng=Generator(seed), init=nn.normal(1.0), dtype="float64", **more)


def exact_log_px(vae, x):
    z = np.linspace(-12, 12, 4001)
    decoded = vae.decode(np.broadcast_to(z[:, None, None], (4001, len(x), 1)))
    joint = np.asarray(decoded.log_prob(x)) + stats.norm.logpdf(z)[:, None]
    return np.log(np.exp(joint).sum(0) * (z[1] - z[0]))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_terms_against_scipy(likelihood, rng):
    vae = tiny(2, likelihood)
    x = PATTERNS[[1, 6]] if likelihood == "bernoulli" else rng.random((2, 3))
    eps = rng.standard_normal((5, 2, 2))
    t = vae.terms(x, eps=eps)
    mu, sigma = np.asarray(t.q.mu), np.exp(np.asarray(t.q.log_sigma))
    z = mu + sigma * eps
    np.testing.assert_allclose(t.z, z, rtol=1e-13)
    np.testing.assert_allclose(t.log_qz_x, stats.norm.logpdf(z, mu, sigma).sum(-1), rtol=1e-11)
    np.testing.assert_allclose(t.log_pz, stats.norm.logpdf(z).sum(-1), rtol=1e-12)
    hidden = np.tanh(z @ vae.decoder.layers[0].weight.data + vae.decoder.layers[0].bias.data)
    heads = hidden @ vae.decoder.layers[1].weight.data + vae.decoder.layers[1].bias.data
    p = 1 / (1 + np.exp(-heads[..., :3]))
    if likelihood == "bernoulli":
        expected = stats.bernoulli.logpmf(x, p).sum(-1)
    else:
        expected = stats.norm.logpdf(x, p, np.exp(0.5 * heads[..., 3:])).sum(-1)
    np.testing.assert_allclose(t.log_px_z, expected, rtol=1e-11)
    np.testing.assert_allclose(t.log_w, t.log_px_z.data + t.log_pz.data - t.log_qz_x.data, rtol=1e-13)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("estimator", ["A", "B"])
def test_gradient_of_the_whole_bound(likelihood, estimator, rng):
    """Every parameter, noise frozen, by finite differences."""
    vae = tiny(2, likelihood)
    x = PATTERNS if likelihood == "bernoulli" else rng.random((4, 3))
    eps = rng.standard_normal((2, len(x), 2))
    report = gradcheck(lambda: vae.elbo(x, estimator=estimator, eps=eps).mean(), parameters=vae, coordinates=40)
    assert report.ok, str(report)


def test_estimators_have_one_expectation(rng):
    """A and B differ sample by sample, and agree when integrated over eps."""
    vae = tiny()
    grid = np.linspace(-10, 10, 2001)
    eps = np.broadcast_to(grid[:, None, None], (2001, 8, 1))
    weights = stats.norm.pdf(grid) * (grid[1] - grid[0])
    a = weights @ np.asarray(vae.log_weights(PATTERNS, eps=eps))
    one = [np.asarray(vae.elbo(PATTERNS, eps=eps[k : k + 1])) for k in range(0, 2001, 5)]
    b = (weights[::5] * 5) @ np.array(one)
    np.testing.assert_allclose(a, b, rtol=1e-8)
    assert (a < exact_log_px(vae, PATTERNS)).all()
    assert np.abs(np.asarray(vae.elbo(PATTERNS, eps=eps[:1], estimator="A")) - one[0]).max() > 0.01


def test_several_samples_are_averaged(rng):
    vae = tiny()
    eps = rng.standard_normal((4, 8, 1))
    for estimator in "AB":
        each = [np.asarray(vae.elbo(PATTERNS, eps=eps[k : k + 1], estimator=estimator)) for k in range(4)]
        np.testing.assert_allclose(vae.elbo(PATTERNS, eps=eps, estimator=estimator), np.mean(each, axis=0), rtol=1e-12)


def test_bounds_against_numpy(rng):
    log_w = rng.standard_normal((7, 3))
    np.testing.assert_allclose(bounds.elbo(log_w), log_w.mean(0), rtol=1e-14)
    np.testing.assert_allclose(bounds.iwae(log_w), np.log(np.exp(log_w).mean(0)), rtol=1e-13)
    np.testing.assert_array_equal(bounds.iwae(log_w[:1]), bounds.elbo(log_w[:1]))


def test_float32_training_step_lowers_the_loss():
    from minivi.optim import Adam

    rng = Generator(0)
    vae = VAE(3, (8,), 2, rng=rng)
    x = PATTERNS.astype("float32")
    optimizer = Adam(vae.parameters(), 0.01)
    eps = rng.standard_normal((50, 8, 2), dtype=np.float32)
    values = []
    for _ in range(60):
        loss = -vae.elbo(x, eps=eps).mean()
        values.append(loss.item())
        gradients = grad(loss, optimizer.parameters)
        assert {g.dtype.name for g in gradients} == {"float32"}
        optimizer.step(gradients)
    assert values[-1] < values[0] - 0.1


def test_the_activation_is_that_of_both_networks(rng):
    vae = VAE(6, (5,), 2, activation="softplus", rng=Generator(0), dtype="float64")
    for network, x, found in [
        (vae.encoder, v := rng.random((3, 6)), vae.encode(v).mu),
        (vae.decoder, v := rng.standard_normal((3, 2)), vae.decode(v).logits),
    ]:
        (w1, b1), (w2, b2) = ((layer.weight.data, layer.bias.data) for layer in network.layers)
        expected = np.logaddexp(x @ w1 + b1, 0.0) @ w2 + b2
        np.testing.assert_allclose(np.asarray(found), expected[:, : found.shape[-1]], rtol=1e-12)


def test_output_bias_and_mean_image():
    x = np.array([[0.9, 0.5, 0.1]] * 2)
    vae = VAE(3, (4,), 2, rng=Generator(0), output_bias=nn.logit_of_mean(x), init=nn.normal(0.0), dtype="float64")
    np.testing.assert_allclose(vae.mean_image(np.zeros((1, 2))), x[:1], rtol=1e-12)
    np.testing.assert_allclose(vae.reconstruct(np.ones((5, 3))), np.repeat(x[:1], 5, 0), rtol=1e-12)
    gaussian = VAE(
        3, (4,), 2, "gaussian", rng=Generator(0), output_bias=nn.logit_of_mean(x), init=nn.normal(0.0), dtype="float64"
    )
    np.testing.assert_allclose(gaussian.mean_image(np.zeros((1, 2))), x[:1], rtol=1e-12)
    means, draws = vae.sample(500, Generator(1))
    assert means.shape == draws.shape == (500, 3) and np.abs(draws.mean(0) - x[0]).max() < 0.08


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: tiny(likelihood="poisson"), "unknown likelihood 'poisson'; one of bernoulli, gaussian"),
        (lambda: tiny().elbo(PATTERNS, Generator(0), estimator="C"), "unknown estimator 'C'"),
        (lambda: tiny().encode(np.ones((2, 5))), r"x has shape \(2, 5\); this model takes \(..., 3\)"),
        (lambda: evaluation.elbo(tiny(), np.ones((0, 3)), Generator(0)), "no data; pass at least one row"),
        (
            lambda: evaluation.log_likelihood(tiny(), PATTERNS, Generator(0), 0),
            "samples must be an integer, at least 1; got 0",
        ),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_importance_sampled_likelihood_against_integration():
    vae = tiny()
    found = evaluation.log_likelihood(vae, PATTERNS, Generator(0), 10_000)
    exact = exact_log_px(vae, PATTERNS)
    assert abs(found.mean - exact.mean()) < 4 * found.noise < 0.05
    assert found.values.shape == (8,)
    assert found.standard_error == pytest.approx(found.values.std(ddof=1) / np.sqrt(8))
    bound = evaluation.elbo(vae, PATTERNS, Generator(1), 2000)
    assert bound.mean < found.mean


def test_chunking_does_not_change_the_estimate(monkeypatch):
    """The streaming sum equals one big log-mean-exp of the same log-weights."""
    vae = tiny()
    seen = []
    original = vae.log_weights
    vae.log_weights = lambda *args: seen.append(np.asarray(original(*args))) or seen[-1]
    monkeypatch.setattr(evaluation, "CHUNK", 8 * 3 * 7)  # 7 samples at a time
    found = evaluation.log_likelihood(vae, PATTERNS, Generator(0), 100)
    assert [len(w) for w in seen] == [7] * 14 + [2]
    np.testing.assert_allclose(found.values, np.log(np.exp(np.concatenate(seen)).mean(0)), rtol=1e-12)


def test_evaluation_memory_is_bounded():
    """Of the arrays of two chunks, whatever the number of samples and images."""
    import tracemalloc

    vae = VAE(784, (20,), 5, rng=Generator(0))
    x = np.zeros((100, 784), "float32")
    evaluation.log_likelihood(vae, x[:2], Generator(0), 10)  # compile first
    tracemalloc.start()
    evaluation.log_likelihood(vae, x, Generator(0), 300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 4 * evaluation.CHUNK
