"""Belief networks: their densities, samples and likelihoods against sums over all states written out here."""

import itertools

import numpy as np
import pytest
from scipy.stats import chi2

from minivi import nn
from minivi.models import BeliefNetwork
from minivi.random import Generator
from minivi.small import shake
from minivi.tensor import grad

WORDS = [(), ("prior",), ("posterior",), ("prior", "posterior", "pixels")]
X = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
BITS = {n: np.array(list(itertools.product([0.0, 1.0], repeat=n))) for n in (1, 2, 3)}


def network(words=(), sizes=(2, 1), hidden=None, seed=0):
    """Three pixels, random weights, also between the units of a layer."""
    model = BeliefNetwork(3, sizes, hidden, autoregressive=words, rng=Generator(seed), dtype="float64")
    return shake(model, Generator(seed + 1).standard_normal, 0.8)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def log_prob(layer, h, context):
    """log p(h | context) for vectors, unit by unit."""
    total = 0.0
    if hasattr(layer, "network"):
        a = context
        *inner, last = layer.network.layers
        for linear in inner:
            a = np.tanh(a @ linear.weight.data + linear.bias.data)
        logits = a @ last.weight.data + last.bias.data
    else:
        logits = layer.bias.data
    for j, logit in enumerate(logits):
        if layer.autoregressive:
            logit = logit + sum(h[i] * layer.lateral.data[i, j] for i in range(j))
        total += np.log(sigmoid(logit if h[j] else -logit))
    return total


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("hidden", [None, [(3,), (2, 2)]])
def test_densities_and_the_likelihood_are_sums_over_states(words, hidden):
    model = network(words, hidden=hidden)
    states = list(itertools.product(BITS[2], BITS[1]))
    p = [[log_prob(model.decoder[0], x, a) + log_prob(model.decoder[1], a, b) + log_prob(model.decoder[2], b, None)
          for x in X] for a, b in states]  # fmt: skip
    q = [[log_prob(model.encoder[0], a, x) + log_prob(model.encoder[1], b, a) for x in X] for a, b in states]
    h = [np.array([s[i] for s in states])[:, None] for i in range(2)]
    np.testing.assert_allclose(sum(np.asarray(part) for part in model.log_p_parts(X, h)), p, rtol=1e-12)
    np.testing.assert_allclose(sum(np.asarray(part) for part in model.log_q_parts(X, h)), q, rtol=1e-12)
    np.testing.assert_allclose(np.exp(q).sum(axis=0), 1.0)
    np.testing.assert_allclose(model.exact_log_likelihood(X), np.log(np.exp(p).sum(axis=0)), rtol=1e-12)
    everything = BITS[3]
    np.testing.assert_allclose(np.exp(model.exact_log_likelihood(everything)).sum(), 1.0)


@pytest.mark.parametrize("words", WORDS)
def test_samples_have_their_probabilities(words):
    """A chi-square test at 1e-4: of q's draws for one datum, and of dreams."""
    model, n = network(words), 20_000
    h, parts = model.draw_and_score(X[:1], Generator(5), n)
    again = model.log_q_parts(X[:1], h)
    for a, b in zip(parts, again, strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    x, dreamt = model.dream(n, Generator(6))
    all_states = model.states()
    q = np.exp(sum(np.asarray(part) for part in model.log_q_parts(X[:1], all_states)))[:, 0]
    p = np.exp(sum(np.asarray(part) for part in model.log_p_parts(BITS[3], all_states)))  # (8, 8)
    code = lambda arrays: (np.concatenate(arrays, axis=-1).reshape(n, -1) @ 2.0 ** np.arange(3)).astype(int)
    pixels = (x @ [4, 2, 1]).astype(int)
    for counts, probabilities in [
        (np.bincount(code(h), minlength=8), q),
        (np.bincount(8 * code(dreamt) + pixels, minlength=64), p.ravel()),
    ]:
        expected = n * probabilities
        few = expected < 5
        counts, expected = (np.append(a[~few], a[few].sum()) for a in (counts, expected))
        statistic = np.sum((counts - expected) ** 2 / np.maximum(expected, 1e-9))
        assert statistic < chi2.ppf(1 - 1e-4, len(counts) - 1)
    assert set(np.unique(x)) <= {0.0, 1.0} and model.sample(4, Generator(1))[0].shape == (4, 3)


def test_weights_average_to_the_likelihood_and_never_lie_above_in_the_log():
    model = network(("posterior",))
    log_w = np.asarray(model.log_weights(X, Generator(3), 40_000))
    exact = model.exact_log_likelihood(X)
    w = np.exp(log_w)
    assert (abs(w.mean(axis=0) - np.exp(exact)) < 4 * w.std(axis=0) / 200).all()
    assert (np.asarray(model.elbo(X, Generator(3), 4000)) < exact).all()


def test_many_states_in_chunks(monkeypatch):
    from minivi.models import belief

    model, x = network(sizes=(3, 2)), np.tile(X, (60, 1))
    whole = model.exact_log_likelihood(x)
    monkeypatch.setattr(belief, "CHUNK", 700)
    np.testing.assert_allclose(model.exact_log_likelihood(x), whole, rtol=1e-13)
    assert len(whole) == 120 and [s.shape for s in model.states()] == [(32, 1, 3), (32, 1, 2)]
    assert [s.shape for s in network(sizes=(16,)).states()] == [(2**16, 1, 16)]  # the most that is promised


def test_lateral_weights_stay_above_their_diagonal():
    model = network(("prior", "posterior", "pixels"))
    for layer in [*model.encoder, *model.decoder]:
        h = Generator(1).random((5, layer.units)).round()
        g = grad(layer.score(h, np.zeros((5, layer.units))).sum(), layer.lateral)
        assert (np.tril(g) == 0).all() and (layer.units == 1 or np.abs(g).max() > 0)


def test_mean_images_and_shapes():
    model = BeliefNetwork(3, (2,), [(4,)], rng=Generator(0), init=nn.normal(0.5), output_bias=[0.0, 5.0, -5.0])
    means, draws = model.sample(2000, Generator(1))
    assert means.dtype == draws.dtype == np.float32 and abs(means.mean(axis=0) - draws.mean(axis=0)).max() < 0.05
    assert means[:, 1].min() > 0.9 and model.prior().shape == (2,) and model.encode(X.astype("f")).shape == (2, 2)
    assert model.decode(np.full((7, 2), 0.5, "f")).shape == (7, 3)


def test_hidden_layers_of_inference_alone():
    model = BeliefNetwork(3, (2, 1), [(4, 5), (6,)], mirrored=False, rng=Generator(0))
    sizes = lambda layers: [tuple(m.weight.shape[1] for m in layer.network.layers) for layer in layers]
    assert sizes(model.encoder) == [(4, 5, 2), (6, 1)] and sizes(model.decoder[:-1]) == [(3,), (2,)]
    both = BeliefNetwork(3, (2, 1), [(4, 5), (6,)], rng=Generator(0))
    assert sizes(both.decoder[:-1]) == [(5, 4, 3), (6, 2)]
