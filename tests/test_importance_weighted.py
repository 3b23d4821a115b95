"""Importance-weighted bounds and their gradient estimators, by exact expectation over the noise.

One datum, one latent, K = 2 samples: every expectation is a double sum over an even grid of (eps_1, eps_2), exact to
rounding for smooth integrands, for which the datum is repeated once a node.
"""

import numpy as np
import pytest
from scipy.special import logsumexp

from minivi import bounds, estimators, nn
from minivi.models import VAE, LayeredVAE
from minivi.random import Generator
from minivi.tensor import Parameter, grad

NODES = np.linspace(-8.0, 8.0, 151)
WEIGHTS = np.exp(-0.5 * NODES**2)
WEIGHTS /= WEIGHTS.sum()
X = np.array([[1.0, 0.0, 1.0, 1.0]])


def model(seed=0):
    return VAE(4, (3,), 1, rng=Generator([seed, 5]), init=nn.normal(0.5), dtype="float64")


def grid(samples):
    """All noise (K, N, 1) of ``samples`` draws, and the probability of each column."""
    every = 1 if samples < 3 else 3
    eps = np.stack([e.ravel() for e in np.meshgrid(*[NODES[::every]] * samples)])[..., None]
    probability = np.prod(np.stack([p.ravel() for p in np.meshgrid(*[WEIGHTS[::every]] * samples)]), axis=0)
    return eps, probability / probability.sum()


def repeated(probability):
    return np.repeat(X, len(probability), axis=0)


def flat(gradients):
    return np.concatenate([np.ravel(g) for g in gradients])


def expected_gradient(surrogate, parameters, probability):
    return flat(grad((surrogate * probability).sum(), parameters))


def slopes(value, parameters, h=1e-5):
    """Central differences of ``value()`` in every entry of ``parameters``."""
    found = []
    for p in parameters:
        start = np.array(p)
        for i in range(p.size):
            ends = []
            for sign in (1, -1):
                moved = start.copy()
                moved.flat[i] += sign * h
                p.assign(moved)
                ends.append(value())
            p.assign(start)
            found.append((ends[0] - ends[1]) / (2 * h))
    return np.array(found)


def exact_bound(vae, samples):
    """E log mean_k w_k over all noise."""
    eps, probability = grid(samples)
    log_w = np.asarray(vae.log_weights(repeated(probability), eps=eps))
    return float(probability @ (logsumexp(log_w, axis=0) - np.log(samples)))


# ------------------------------------------------------------------------------------------------ bounds
LOG_W = np.random.default_rng(0).normal(size=(6, 5)) * 2


def test_miwae_by_loops():
    """Groups are consecutive: three of two samples differ from two of three."""
    for m, k in ((3, 2), (2, 3), (1, 6), (6, 1)):
        loops = [np.mean([np.log(np.mean(np.exp(LOG_W[i * k : i * k + k, b]))) for i in range(m)]) for b in range(5)]
        np.testing.assert_allclose(bounds.miwae(LOG_W, m), loops, rtol=1e-12)
    assert not np.allclose(bounds.miwae(LOG_W, 3), bounds.miwae(LOG_W, 2))
    np.testing.assert_allclose(bounds.miwae(LOG_W, 6), bounds.elbo(LOG_W), rtol=1e-12)
    np.testing.assert_allclose(bounds.miwae(LOG_W, 1), bounds.iwae(LOG_W), rtol=1e-12)


@pytest.mark.parametrize("groups", [0, 4, 7, -1])
def test_miwae_refuses(groups):
    with pytest.raises(ValueError, match=f"6 samples do not make {groups} groups"):
        bounds.miwae(LOG_W, groups)


def test_ciwae_lies_between():
    elbo, iwae = bounds.elbo(LOG_W), bounds.iwae(LOG_W)
    np.testing.assert_allclose(bounds.ciwae(LOG_W, 0.25), 0.25 * elbo + 0.75 * iwae, rtol=1e-12)
    assert np.all(elbo <= bounds.ciwae(LOG_W, 0.25)) and np.all(bounds.ciwae(LOG_W, 0.25) <= iwae)
    beta = Parameter(np.array(0.25))
    np.testing.assert_allclose(grad(bounds.ciwae(LOG_W, beta).sum(), beta), np.sum(elbo - iwae), rtol=1e-12)


def test_piwae_names_the_encoder_first():
    encoder, decoder = bounds.piwae(LOG_W, 3)
    np.testing.assert_array_equal(encoder, bounds.miwae(LOG_W, 3))
    np.testing.assert_array_equal(decoder, bounds.iwae(LOG_W))


def test_expected_bound_rises_with_samples():
    """ELBO < IWAE(2) < IWAE(3) < log p(x), each by exact expectation."""
    vae = model()
    z = np.linspace(-12, 12, 4001)
    joint = np.asarray(vae.decode(z[:, None, None]).log_prob(X))[:, 0] - 0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    rising = [exact_bound(vae, k) for k in (1, 2, 3)] + [logsumexp(joint) + np.log(z[1] - z[0])]
    assert np.all(np.diff(rising) > 0)


# ------------------------------------------------------------------------------------------------ estimators
@pytest.fixture(scope="module")
def exact():
    """The model with the gradient of IWAE(2), by differences, for encoder and decoder."""
    vae = model()
    networks = vae.encoder.parameters(), vae.decoder.parameters()
    return vae, networks, [slopes(lambda: exact_bound(vae, 2), network) for network in networks]


def test_plain_gradient_is_unbiased(exact):
    vae, networks, slope = exact
    eps, probability = grid(2)
    bound = bounds.iwae(vae.log_weights(repeated(probability), eps=eps))
    for network, right in zip(networks, slope, strict=True):
        np.testing.assert_allclose(expected_gradient(bound, network, probability), right, atol=1e-7)


def test_gradient_is_the_normalised_average():
    """grad IWAE = sum_k w~_k grad log w_k: the weights that review report eq. 11 leaves out."""
    vae, eps = model(), np.array([[[0.3]], [[-1.2]], [[0.9]]])
    parameters = vae.parameters()
    log_w = vae.log_weights(X, eps=eps)
    each = [flat(grad(log_w[k].sum(), parameters)) for k in range(3)]
    weights = np.exp(np.asarray(log_w)[:, 0] - logsumexp(np.asarray(log_w)[:, 0]))
    np.testing.assert_allclose(flat(grad(bounds.iwae(log_w).sum(), parameters)), weights @ each, rtol=1e-10, atol=1e-14)
    unweighted = np.mean(each, axis=0)
    assert not np.allclose(weights @ each, unweighted, rtol=1e-3)


def test_doubly_reparameterised_is_unbiased(exact):
    vae, networks, slope = exact
    eps, probability = grid(2)
    surrogates = estimators.doubly_reparameterised(vae, repeated(probability), samples=2, eps=eps)
    for network, surrogate, right in zip(networks, surrogates, slope, strict=True):
        np.testing.assert_allclose(expected_gradient(surrogate, network, probability), right, atol=1e-7)


def test_sticking_the_landing_is_biased_beyond_one_sample(exact):
    """Unbiased for the decoder, and for the encoder with K = 1 (or M groups of one); not for the encoder with K = 2."""
    vae, networks, slope = exact
    eps, probability = grid(2)
    x = repeated(probability)
    bound = estimators.sticking_the_landing(vae, x, samples=2, eps=eps)
    np.testing.assert_allclose(np.asarray(bound), bounds.iwae(vae.log_weights(x, eps=eps)), rtol=1e-10)
    np.testing.assert_allclose(expected_gradient(bound, networks[1], probability), slope[1], atol=1e-7)
    assert np.abs(expected_gradient(bound, networks[0], probability) - slope[0]).max() > 1e-3
    elbo = slopes(lambda: exact_bound(vae, 1), networks[0])
    single = estimators.sticking_the_landing(vae, x, samples=2, groups=2, eps=eps)
    np.testing.assert_allclose(expected_gradient(single, networks[0], probability), elbo, atol=1e-7)


def test_groups_are_averaged():
    """DReG of two groups of one sample is sticking the landing's mean, w~ being 1."""
    vae, eps = model(), np.array([[[0.3]], [[-1.2]]])
    dreg = estimators.doubly_reparameterised(vae, X, samples=2, groups=2, eps=eps)[0]
    landing = estimators.sticking_the_landing(vae, X, samples=2, groups=2, eps=eps)
    encoder = vae.encoder.parameters()
    np.testing.assert_allclose(flat(grad(dreg.sum(), encoder)), flat(grad(landing.sum(), encoder)), rtol=1e-10)


def test_doubly_reparameterised_has_the_lower_variance(exact):
    """Exact variances at K = 2, summed over the encoder."""
    vae, (encoder, _), _ = exact
    eps, probability = grid(2)
    columns = Generator(0).choice(len(probability), 400, p=probability)
    plain, dreg = [], []
    for c in columns:
        plain.append(flat(grad(bounds.iwae(vae.log_weights(X, eps=eps[:, c : c + 1])).sum(), encoder)))
        surrogate = estimators.doubly_reparameterised(vae, X, samples=2, eps=eps[:, c : c + 1])[0]
        dreg.append(flat(grad(surrogate.sum(), encoder)))
    assert np.var(dreg, axis=0).sum() < 0.8 * np.var(plain, axis=0).sum()


# ------------------------------------------------------------------------------------------------ layers
def layered(seed=1):
    return LayeredVAE(4, [(3,), (2,)], [1, 1], rng=Generator(seed), init=nn.normal(0.5), dtype="float64")


def test_layers_give_the_joint_densities():
    """log_weights of two layers, against SciPy's densities at the samples."""
    from scipy.stats import norm

    m = layered()
    t = m.terms(X, Generator(3), 5)
    z1, z2 = (np.asarray(z) for z in t.z)

    def log_normal(value, q):
        return norm.logpdf(value, np.asarray(q.mu), np.exp(np.asarray(q.log_sigma))).sum(axis=-1)

    log_q = log_normal(z1, m.encode(X)) + log_normal(z2, m.encode(z1, 1))
    log_pz = log_normal(z1, m.decode(z2, 1)) + norm.logpdf(z2).sum(axis=-1)
    p = 1 / (1 + np.exp(-np.asarray(m.decode(z1).logits)))
    log_px = np.log(np.where(X == 1, p, 1 - p)).sum(axis=-1)
    np.testing.assert_allclose(np.asarray(t.log_w), log_px + log_pz - log_q, rtol=1e-10)
    np.testing.assert_allclose(np.asarray(m.held_log_q(X, t)), log_q, rtol=1e-10)


def test_estimators_of_two_layers_are_unbiased():
    """K = 1, a grid over both layers' noise: plain, sticking the landing and DReG against differences."""
    m = layered()
    eps, probability = grid(2)
    eps = [eps[:1], eps[1:]]
    x = repeated(probability)
    encoder = m.encoders[0].parameters() + m.encoders[1].parameters()
    right = slopes(lambda: float(probability @ np.asarray(m.log_weights(x, eps=eps))[0]), encoder)
    plain = bounds.iwae(m.log_weights(x, eps=eps))
    landing = estimators.sticking_the_landing(m, x, eps=eps)
    dreg, _ = estimators.doubly_reparameterised(m, x, eps=eps)
    for surrogate in (plain, landing, dreg):
        np.testing.assert_allclose(expected_gradient(surrogate, encoder, probability), right, atol=1e-7)


def test_layers_sample_and_refuse():
    m = layered()
    mean, drawn = m.sample(7, Generator(0))
    assert mean.shape == drawn.shape == (7, 4) and set(np.unique(drawn)) <= {0.0, 1.0}
    assert m.reconstruct(X).shape == (1, 4)
    with pytest.raises(ValueError, match="for 2 stochastic layers; one group for each"):
        LayeredVAE(4, [(3,)], [2, 1], rng=Generator(0))


def test_detached_module_is_constant():
    m = model()
    held = m.detached()
    assert held.parameters() == [] and len(m.parameters()) == 8
    np.testing.assert_array_equal(np.asarray(held.encoder(X)), np.asarray(m.encoder(X)))


def test_one_stochastic_layer_is_the_vae():
    layered, vae = LayeredVAE(4, [(3,)], [2], rng=Generator(0)), VAE(4, (3,), 2, rng=Generator(1))
    for ours, theirs in zip(vae.parameters(), layered.parameters(), strict=True):
        ours.assign(theirs.data)
    x, eps = np.eye(4, dtype="float32"), Generator(2).standard_normal((3, 4, 2), dtype="float32")
    np.testing.assert_array_equal(layered.log_weights(x, eps=[eps]).data, vae.log_weights(x, eps=eps).data)
