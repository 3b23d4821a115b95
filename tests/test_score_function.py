"""The score-function estimator: its exact expectation is the gradient of the integrated bound."""

import numpy as np
import pytest
from scipy.stats import norm

from minivi import nn, ops
from minivi.estimators import score_function
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import grad

X = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
# The trapezoidal rule converges faster than any power of the step for functions like these.
NODES = np.linspace(-9.0, 9.0, 91)
WEIGHTS = norm.pdf(NODES) * (NODES[1] - NODES[0])


@pytest.fixture
def vae():
    """One latent, random weights, float64."""
    return VAE(3, (4,), 1, rng=Generator([5, 1]), init=nn.normal(0.7), dtype="float64")


def exact_gradient(vae):
    """Of the mean bound: the integral over z of q (log p - log q), differentiated without any sampling identity.

    In z's own coordinates q is an ordinary function of the encoder's parameters.
    """
    z = np.linspace(-14.0, 14.0, 1401)
    step = z[1] - z[0]
    z = np.broadcast_to(z[:, None, None], (len(z), len(X), 1))
    log_px_z, log_qz_x = vae.decode(z).log_prob(X), vae.encode(X).log_prob(z)
    integrand = ops.exp(log_qz_x) * (log_px_z + norm.logpdf(z[..., 0]) - log_qz_x)
    return gradients(vae, integrand.sum(axis=0).mean() * step)


def gradients(vae, scalar):
    """By name, of all parameters."""
    named = dict(vae.named_parameters())
    return dict(zip(named, grad(scalar, list(named.values())), strict=True))


def expected_gradient(vae, samples, **options):
    """Exact expectation of the estimator: each tuple of nodes is one datum, weighted by its probability."""
    grids = np.meshgrid(*[np.arange(len(NODES))] * samples, indexing="ij")
    index = np.stack([g.ravel() for g in grids])  # (K, tuples)
    weights = np.prod(WEIGHTS[index], axis=0)
    keep = weights > 1e-18  # the corners of the grid weigh nothing
    index, weights = index[:, keep], weights[keep]
    x = np.repeat(X, len(weights), axis=0)
    q = vae.encode(x)
    eps = np.tile(NODES[index], (1, len(X)))[..., None]
    z = np.asarray(q.mu) + np.exp(np.asarray(q.log_sigma)) * eps
    if "baseline" in options and np.ndim(options["baseline"]):
        options["baseline"] = np.repeat(options["baseline"], len(weights))
    surrogate = score_function(vae, x, z=z, **options)
    assert surrogate.shape == (len(x),)
    return gradients(vae, (surrogate * np.tile(weights, len(X))).sum() / len(X))


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (1, {}),
        (1, {"baseline": -3.0}),
        (1, {"baseline": np.array([2.0, -50.0])}),
        (2, {}),
        (2, {"baseline": "leave-one-out"}),
    ],
)
def test_unbiased_for_both_networks(vae, samples, options):
    expected, got = exact_gradient(vae), expected_gradient(vae, samples, **options)
    for name, g in expected.items():
        assert np.abs(g).max() > 1e-3, f"{name}: a gradient near zero would prove nothing"
        np.testing.assert_allclose(got[name], g, rtol=1e-7, atol=1e-9, err_msg=name)


def test_the_signal_carries_no_gradient_and_the_surrogate_is_its_definition(vae):
    """By hand for one sample: the encoder's gradient is the signal times grad log q, for each datum."""
    z = np.array([[[0.4], [-1.1]]])
    q = vae.encode(X)
    signal = (
        np.asarray(vae.decode(z).log_prob(X))
        + norm.logpdf(z[..., 0])
        - norm.logpdf(z, np.asarray(q.mu), np.exp(np.asarray(q.log_sigma)))[..., 0]
    )
    got = gradients(vae, score_function(vae, X, z=z, baseline=1.5).sum())
    by_hand = gradients(vae, (q.log_prob(z) * (signal - 1.5)).sum())
    decoder = gradients(vae, vae.decode(z).log_prob(X).sum())
    for name, g in got.items():
        np.testing.assert_allclose(g, (by_hand if name.startswith("encoder") else decoder)[name], rtol=1e-10)


def test_leave_one_out_is_the_mean_of_the_others(vae):
    """A baseline of any scale would be unbiased: the value itself, from three samples one at a time."""
    z = np.array([0.4, -1.1, 0.9])[:, None, None] * np.ones((3, 2, 1))
    signal = np.asarray(vae.decode(z).log_prob(X)) + norm.logpdf(z[..., 0]) - np.asarray(vae.encode(X).log_prob(z))
    others = [(signal[1] + signal[2]) / 2, (signal[0] + signal[2]) / 2, (signal[0] + signal[1]) / 2]
    each = [gradients(vae, score_function(vae, X, z=z[k : k + 1], baseline=others[k]).sum()) for k in range(3)]
    for name, g in gradients(vae, score_function(vae, X, z=z, baseline="leave-one-out").sum()).items():
        np.testing.assert_allclose(g, np.mean([e[name] for e in each], axis=0), rtol=1e-10, atol=1e-13)


def test_planted_errors_are_seen(vae):
    """A wrong sign of log q in the signal, or a signal with z's own value in its baseline, moves the expectation."""
    expected = exact_gradient(vae)["encoder.layers.1.weight"]
    right = expected_gradient(vae, 1)["encoder.layers.1.weight"]
    x = np.repeat(X, len(NODES), axis=0)
    q = vae.encode(x)
    z = (np.asarray(q.mu) + np.exp(np.asarray(q.log_sigma)) * np.tile(NODES, 2)[:, None])[None]
    log_q = q.log_prob(z)
    extra = 2.0 * np.asarray(log_q)  # log p + log q instead of log p - log q
    wrong = score_function(vae, x, z=z) + (log_q * extra).mean(axis=0)
    wrong = gradients(vae, (wrong * np.tile(WEIGHTS, 2)).sum() / 2)["encoder.layers.1.weight"]
    assert np.abs(right - expected).max() < 1e-9 < 1e-2 < np.abs(wrong - expected).max()
    including_itself = expected_gradient(vae, 2, baseline="leave-one-out")["encoder.layers.1.weight"] * 0.5
    assert np.abs(including_itself - expected).max() > 1e-2  # subtracting the plain mean of K = 2 halves the gradient


def test_samples_come_from_the_posterior(vae):
    """Monte Carlo through ``rng``: the mean over 40,000 data agrees within 4 standard errors, with several latents."""
    wide = VAE(3, (4,), 2, rng=Generator([5, 2]), init=nn.normal(0.7), dtype="float64")
    named = wide.encoder.layers[1].bias

    def mean_gradient(f, groups, rng):
        found = [grad(f(np.repeat(X, 500, axis=0), rng).mean(), named) for _ in range(groups)]
        return np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(groups)

    a, a_error = mean_gradient(
        lambda x, rng: score_function(wide, x, rng, 3, baseline="leave-one-out"), 40, Generator(1)
    )
    b, b_error = mean_gradient(lambda x, rng: wide.elbo(x, rng, 3), 40, Generator(2))
    assert (np.abs(a - b) <= 4 * np.hypot(a_error, b_error)).all()
    assert np.abs(b).max() > 20 * np.hypot(a_error, b_error).max()


def test_float32_stays_float32():
    vae = VAE(3, (4,), 2, rng=Generator(0))
    for baseline in (0.0, np.zeros(2), "leave-one-out"):
        surrogate = score_function(vae, X.astype("float32"), Generator(1), 2, baseline=baseline)
        assert surrogate.shape == (2,) and surrogate.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "mean"}, "unknown baseline"),
        ({"baseline": "leave-one-out"}, "samples=2"),
        ({"baseline": np.zeros(3)}, "shape"),
        ({"baseline": np.zeros((2, 1))}, "shape"),
    ],
)
def test_bad_baselines(vae, options, message):
    with pytest.raises(ValueError, match=message):
        score_function(vae, X, Generator(0), **options)
