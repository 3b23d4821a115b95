"""Layers with uncertain weights or noisy inputs, their divergences, and networks of them (thesis chapter 6)."""

import numpy as np
import pytest
from scipy import integrate, special, stats

from minivi import Generator
from minivi.gradcheck import gradcheck
from minivi.models import BayesianNetwork, dropout_network, gaussian_network
from minivi.models.bayesian import METHODS
from minivi.nn import DropoutLinear, GaussianLinear, InputDropoutLinear, priors
from minivi.tensor import Parameter, grad

X = np.random.default_rng(0).standard_normal((6, 4))


def layer(kind, **options):
    """A layer 4 -> 3 in float64 with weights that are not small."""
    made = kind(4, 3, Generator(1), dtype="float64", **options)
    for _, p in made.named_parameters():
        p.assign(p.data + 0.1 * np.random.default_rng(2).standard_normal(p.shape))
    return made


UNCERTAIN = [
    (GaussianLinear, {"sigma": 0.7}),
    (DropoutLinear, {"rate": 0.3}),
    (DropoutLinear, {"rate": 0.3, "learned": "layer"}),
    (DropoutLinear, {"rate": 0.3, "learned": "unit"}),
    (DropoutLinear, {"rate": 0.3, "learned": "weight"}),
]
each_uncertain = pytest.mark.parametrize(("kind", "options"), UNCERTAIN)


@each_uncertain
@pytest.mark.parametrize("sampling", ["local", "datum", "minibatch"])
def test_each_sampling_has_the_moments_of_eq_6_6(kind, options, sampling):
    made = layer(kind, sampling=sampling, **options)
    v, b = (np.asarray(a) for a in made.variances())
    mean, variance = X @ made.weight.data + made.bias.data, X**2 @ v + b
    rng, count = Generator(3), 4000
    draws = np.stack([np.asarray(made(X, rng)) for _ in range(count)])
    np.testing.assert_allclose(draws.mean(0), mean, atol=5 * np.sqrt(variance.max() / count))
    np.testing.assert_allclose(draws.var(0), variance, rtol=5 * np.sqrt(2 / count))
    standard = (draws - mean) / np.sqrt(variance)
    assert stats.kstest(standard[:, 0, 0], "norm").pvalue > 1e-3
    correlation = np.mean(standard[:, 0, 0] * standard[:, 1, 0])  # between two data
    row = (v[:, 0] * X[0] * X[1]).sum() + np.broadcast_to(b, 3)[0]
    expected = row / np.sqrt(variance[0, 0] * variance[1, 0]) if sampling == "minibatch" else 0.0
    assert correlation == pytest.approx(expected, abs=5 / np.sqrt(count))


@each_uncertain
@pytest.mark.parametrize("sampling", ["local", "datum", "minibatch"])
def test_gradients_of_each_sampling(kind, options, sampling):
    made = layer(kind, sampling=sampling, **options)
    shape = {"local": (6, 3), "minibatch": made.noise_shape, "datum": (6, *made.noise_shape)}[sampling]
    eps = np.random.default_rng(4).standard_normal(shape)
    # scores of its own for each output: a plain sum hides errors
    scores = np.random.default_rng(5).standard_normal((6, 3))
    assert gradcheck(lambda: (made(X, eps=eps) * scores).sum() + 0.1 * made.kl(), parameters=made).ok


def test_without_a_generator_weights_are_their_means():
    for kind, options in UNCERTAIN + [(InputDropoutLinear, {}), (InputDropoutLinear, {"noise": "binary"})]:
        made = layer(kind, **options)
        np.testing.assert_allclose(np.asarray(made(X)), X @ made.weight.data + made.bias.data)


@pytest.mark.parametrize("learned", ["fixed", "layer", "unit"])
def test_noise_on_inputs_is_correlated_weight_noise(learned):
    made = layer(InputDropoutLinear, rate=0.3, learned=learned)
    alpha = np.broadcast_to(made.alpha, 4)
    rng = Generator(3)
    draws = np.stack([np.asarray(made(X, rng)) for _ in range(4000)])
    w = made.weight.data
    covariance = np.einsum("i,ij,ik->jk", alpha * X[0] ** 2, w, w)  # of one datum's outputs, eq. 6.9
    np.testing.assert_allclose(np.cov(draws[:, 0].T), covariance, atol=0.1 * covariance.diagonal().max())
    eps, scores = np.random.default_rng(4).standard_normal((6, 4)), np.random.default_rng(5).standard_normal((6, 3))
    assert gradcheck(lambda: (made(X, eps=eps) * scores).sum() + 0.1 * made.kl(), parameters=made).ok


def test_binary_noise_has_the_moments_of_eq_6_22_and_6_26():
    made = layer(InputDropoutLinear, noise="binary", rate=0.3)
    rng = Generator(3)
    draws = np.stack([np.asarray(made(X, rng)) for _ in range(4000)])
    variance = 0.3 / 0.7 * X**2 @ made.weight.data**2
    np.testing.assert_allclose(draws.mean(0), X @ made.weight.data + made.bias.data, atol=0.1)
    np.testing.assert_allclose(draws.var(0), variance, rtol=0.12)


# -------------------------------------------------------------------------------------------------- divergences
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3, 1.0, 2.0, 9.0])
def test_mean_log_noise_against_its_series(alpha):
    j = np.arange(4000)  # e^2 / alpha is a noncentral chi square: a Poisson mixture of central ones
    weights = stats.poisson.pmf(j, 0.5 / alpha)
    exact = 0.5 * (np.log(2 * alpha) + np.sum(weights * special.digamma(j + 0.5)))
    assert priors.mean_log_noise(alpha) == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("theta", [0.5, -3.0])
def test_the_divergence_from_a_log_uniform_prior_by_its_definition(theta):
    def raw(alpha):  # E[log q(w) + log |w|], the rest of eq. 6.37 is constant
        q = stats.norm(theta, abs(theta) * np.sqrt(alpha))
        part = lambda w: q.pdf(w) * (q.logpdf(w) + np.log(abs(w)))
        ends = sorted([q.ppf(1e-15), 0.0, theta, q.ppf(1 - 1e-15)])
        return sum(integrate.quad(part, a, b, limit=400)[0] for a, b in zip(ends[:-1], ends[1:], strict=True))

    for alpha in (0.1, 0.4, 1.0):
        assert priors.exact_log_uniform_kl(alpha) == pytest.approx(raw(alpha) - raw(1.0), abs=1e-6)


def test_the_cubic_is_close_and_the_bound_is_one():
    alphas = np.linspace(0.02, 1.0, 50)
    exact = np.array([priors.exact_log_uniform_kl(a) for a in alphas])
    error = np.abs(priors.log_uniform_kl(np.log(alphas)) - exact)
    assert error.max() < 0.038  # the difference of the constants, towards alpha = 0
    assert error[alphas >= 0.05 / 0.95].max() < 0.0101  # where Figure 6.C.1 draws it
    assert float(priors.log_uniform_kl(0.0)) == pytest.approx(0.0, abs=1e-15)
    assert np.all(priors.log_uniform_kl(np.log(alphas), "bound") > exact)
    assert priors.mean_log_noise(2.4) < 0 < priors.mean_log_noise(2.45)  # where appendix 6.C's inequality ends


def test_gaussian_and_mixture_priors():
    mu, log_sigma = np.array([0.3, -1.2]), np.array([-0.5, 0.2])
    sigma = np.exp(log_sigma)
    exact = (np.log(2.0 / sigma) + (sigma**2 + mu**2) / 8.0 - 0.5).sum()
    assert float(priors.Gaussian(2.0).kl(mu, log_sigma)) == pytest.approx(exact)
    mixture = priors.ScaleMixture(0.25, 2.0, 0.1)
    w = np.linspace(-3, 3, 7)
    density = 0.25 * stats.norm.pdf(w, 0, 2) + 0.75 * stats.norm.pdf(w, 0, 0.1)
    np.testing.assert_allclose(np.asarray(mixture.log_prob(w)), np.log(density))
    draws = mu + sigma * np.random.default_rng(0).standard_normal((20_000, 2))
    q = lambda w: stats.norm.pdf(w, mu, sigma)
    p = lambda w: 0.25 * stats.norm.pdf(w, 0, 2) + 0.75 * stats.norm.pdf(w, 0, 0.1)
    estimates = [float(mixture.kl(mu, log_sigma, w)) for w in draws[:500]]
    np.testing.assert_allclose(estimates, np.log(q(draws[:500]) / p(draws[:500])).sum(1))


# ----------------------------------------------------------------------------------------------------- networks
@pytest.mark.parametrize("method", METHODS)
def test_bound_of_a_network_is_log_p_less_its_share_of_the_divergence(method):
    network = dropout_network((4, 5, 3), method, Generator(0), dtype="float64")
    y = np.arange(6) % 3
    whole, half = (network.bound(X, y, Generator(1), count=50, kl_weight=w) for w in (1.0, 0.5))
    np.testing.assert_allclose(np.asarray(half) - np.asarray(whole), 0.5 * float(network.kl()) / 50, atol=1e-12)
    np.testing.assert_allclose(
        np.asarray(network.bound(X, y, Generator(1), count=50, kl_weight=0.0)),
        np.asarray(network(X, Generator(1)).log_prob(y)),
    )
    learned = [name for name, _ in network.named_parameters() if "alpha" in name]
    assert len(learned) == (2 if method.startswith("variational") else 0)


def test_alpha_stays_at_most_1_and_can_come_back():
    network = dropout_network((4, 5, 3), "variational B", Generator(0))
    p = network.layers[0].log_alpha
    p.assign(np.array([0.7]))
    bound = network.bound(X.astype("float32"), np.arange(6) % 3, Generator(1), count=50).mean()
    assert p.data[0] == 0.0
    assert grad(bound, [p])[0][0] != 0.0


def test_the_bound_with_a_mixture_prior_uses_the_same_weights_twice():
    network = gaussian_network(
        (4, 3), Generator(0), sampling="minibatch", prior=priors.ScaleMixture(), dtype="float64", sigma=0.3
    )
    y, (only,) = np.arange(6) % 3, network.layers
    w, b = only.draw(Generator(1))
    logits = X @ np.asarray(w) + np.asarray(b)
    log_p = logits[np.arange(6), y] - special.logsumexp(logits, axis=1)
    kl = only.prior.kl(only.weight, only.log_sigma, w) + only.prior.kl(only.bias, only.bias_log_sigma, b)
    bound = network.bound(X, y, Generator(1), count=50)
    np.testing.assert_allclose(np.asarray(bound), log_p - float(kl) / 50)


def test_a_regression_learns_its_noise():
    network = gaussian_network((4, 1), Generator(0), likelihood="normal", noise=0.5, dtype="float64")
    y = np.zeros((6, 1))
    expected = stats.norm.logpdf(np.asarray(network(X).mu)[:, 0], 0, 0.5)
    np.testing.assert_allclose(np.asarray(network(X).log_prob(y)), expected)
    assert isinstance(network.log_noise, Parameter)


def test_predictions_average_over_weights():
    network = dropout_network((4, 5, 3), "gaussian B", Generator(0), dtype="float64")
    rng = Generator(1)
    draws = [np.exp(np.asarray(network(X, rng).log_probs)) for _ in range(7)]
    np.testing.assert_allclose(network.predict_proba(X, Generator(1), 7), np.mean(draws, axis=0))
    np.testing.assert_allclose(network.predict_proba(X).sum(axis=1), 1.0)


def test_binary_pixels_and_their_squares_are_summed_in_rows():
    rng = np.random.default_rng(0)
    x = (rng.random((60, 50)) < 0.2).astype("float32")
    made = DropoutLinear(50, 7, Generator(0), rate=0.3)
    eps = rng.standard_normal((60, 7)).astype("float32")
    variance = (x @ np.asarray(made.variances()[0])).astype("float64")
    expected = x @ made.weight.data + np.sqrt(variance) * eps
    np.testing.assert_allclose(np.asarray(made(x, eps=eps)), expected, rtol=1e-4, atol=1e-4)


def test_networks_need_layers_that_fit():
    with pytest.raises(ValueError, match="pass one or more that follow each other"):
        BayesianNetwork([DropoutLinear(4, 3, Generator(0)), DropoutLinear(4, 3, Generator(0))])
    with pytest.raises(ValueError, match="pass one or more"):
        BayesianNetwork([])
