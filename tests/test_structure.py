"""What no formula holds: the order of layers, where dropout and noise go, what flows start from, default axes."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from minivi import nn, ops, optim
from minivi.distributions import Bernoulli, Normal
from minivi.flows import LOG_E_MINUS_1, AdditiveCoupling, AffineCoupling, Planar, Radial, Scaling, iaf
from minivi.models import VAE, BeliefNetwork, HamiltonianVAE, LayeredVAE, directed
from minivi.models.classifier import Classifier
from minivi.models.full_vb import FullVB
from minivi.random import Generator
from minivi.tensor import Parameter, Tensor

CUBE = np.random.default_rng(0).normal(size=(2, 3, 4))


def shapes(network):
    return [layer.weight.shape for layer in network.layers]


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_decoder_mirrors_the_encoder(likelihood):
    vae = VAE(9, (7, 5), 2, likelihood, rng=Generator(0))
    outputs = 9 if likelihood == "bernoulli" else 18
    assert shapes(vae.encoder) == [(9, 7), (7, 5), (5, 4)]
    assert shapes(vae.decoder) == [(2, 5), (5, 7), (7, outputs)]


def test_each_layer_mirrors_its_own():
    layered = LayeredVAE(9, [(7, 6), (5, 4)], [3, 2], rng=Generator(0))
    assert [shapes(e) for e in layered.encoders] == [[(9, 7), (7, 6), (6, 6)], [(3, 5), (5, 4), (4, 4)]]
    assert [shapes(d) for d in layered.decoders] == [[(3, 6), (6, 7), (7, 9)], [(2, 4), (4, 5), (5, 6)]]


def test_images_come_of_drawn_latents_in_every_layer():
    """A top layer that nothing hears, a middle one of standard deviation 2 and an identity: pixels tell the middle."""
    layered = LayeredVAE(1, [(), ()], [1, 1], rng=Generator(0), init=nn.normal(0.0), dtype="float64")
    top, bottom = layered.decoders[1].layers[0], layered.decoders[0].layers[0]
    top.bias.assign(np.array([0.5, 2.0 * np.log(2.0)]))  # mean and log variance of z_1
    bottom.weight.assign(np.array([[1.0]]))
    means, draws = layered.sample(20_000, Generator(1))
    z = np.log(means) - np.log1p(-means)
    assert abs(z.mean() - 0.5) < 5 * 2 / np.sqrt(20_000)
    assert abs(z.std() - 2.0) < 5 * 2 / np.sqrt(2 * 20_000)
    assert set(np.unique(draws)) == {0.0, 1.0} and abs((draws - means).mean()) < 5 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize(("hidden", "kept"), [([], 0.9), ([1], 0.4)])
def test_each_layer_drops_its_own_share(hidden, kept):
    """One unit, always 1: of 20,000 data a tenth (an input) or 60 % (a hidden unit) are 0, the others 1 / kept."""
    model = Classifier(1, hidden, 1, input_dropout=0.1, hidden_dropout=0.6, rng=Generator(0), init=nn.normal(0.0))
    *lower, last = model.network.layers
    for layer in lower:
        layer.bias.assign(np.ones(1))  # whatever the input
    last.weight.assign(np.ones((1, 1)))
    logits = np.asarray(model(np.ones((20_000, 1), np.float32), Generator(1)).logits)
    np.testing.assert_allclose(np.unique(logits), [0.0, 1.0 / kept], rtol=1e-6)
    assert abs((logits > 0.0).mean() - kept) < 5 * np.sqrt(kept * (1.0 - kept) / 20_000)


@pytest.mark.parametrize("context", [0, 3])
def test_what_planar_and_radial_flows_start_from(context, rng):
    """The identity, along a direction of length 1 or around a standard normal centre, whatever the context."""
    z = rng.standard_normal((5, 40))
    h = rng.standard_normal((5, context)) if context else None
    planar, radial = (kind(40, Generator(2), context=context, dtype="float64") for kind in (Planar, Radial))
    first = {flow: (flow.head.linear.bias if context else flow.head.values).data for flow in (planar, radial)}
    u, w, b = np.split(first[planar], [40, 80])
    np.testing.assert_allclose([w @ w, b.item()], [1.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(u, LOG_E_MINUS_1 * w)
    centre, alpha, beta = np.split(first[radial], [40, 41])
    assert abs(centre.mean()) < 4 / np.sqrt(40) and abs(centre.std() - 1.0) < 4 / np.sqrt(80)
    assert alpha.item() == beta.item() == LOG_E_MINUS_1
    for flow in (planar, radial):
        if context:
            weights = flow.head.linear.weight.data
            assert abs(weights.std() - 0.01) < 4 * 0.01 / np.sqrt(2 * weights.size)
        image, log_det = flow.forward(z, h)
        room = 0.3 if context else 1e-12  # weights of 0.01 move a head by about 0.02
        np.testing.assert_allclose(image, z, atol=room)
        np.testing.assert_allclose(log_det, np.zeros(5), atol=40 * room)


@pytest.mark.parametrize(
    ("function", "right"),
    [
        (ops.sum, CUBE.sum()),
        (ops.mean, CUBE.mean()),
        (ops.max, CUBE.max()),
        (ops.log_sum_exp, logsumexp(CUBE, axis=-1)),
        (ops.log_softmax, np.log(softmax(CUBE, axis=-1))),
        (ops.cumsum, np.cumsum(CUBE, axis=-1)),
        (lambda x: ops.permute(x, np.array([3, 0, 2, 1])), CUBE[..., [3, 0, 2, 1]]),
        (ops.transpose, CUBE.transpose()),
        (lambda x: ops.concatenate([x, x]), np.concatenate([CUBE, CUBE], axis=0)),
        (lambda x: ops.stack([x, x]), np.stack([CUBE, CUBE], axis=0)),
        (ops.diagonal, np.diagonal(CUBE, axis1=-2, axis2=-1)),
        (ops.tril, np.tril(CUBE)),
    ],
)
def test_default_axes_in_three_dimensions(function, right):
    """The last axis for densities and their kin, all for reductions, the first to join along."""
    for x in (CUBE, Tensor(CUBE)):
        found = np.asarray(function(x))
        assert found.shape == np.shape(right)
        np.testing.assert_allclose(found, right, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_and_images_have_the_models_dtype(dtype):
    layered = LayeredVAE(4, [(3,), (3,)], [2, 2], rng=Generator(0), dtype=dtype)
    vae = VAE(4, (3,), 2, rng=Generator(0), dtype=dtype)
    x = np.array([[1.0, 0.0, 1.0, 1.0]] * 5, dtype)
    for model in (layered, vae):
        arrays = [model.log_weights(x, Generator(1), 3), *model.sample(6, Generator(2)), model.reconstruct(x)]
        assert {np.asarray(a).dtype.name for a in arrays} == {dtype}
        assert [np.shape(a) for a in arrays] == [(3, 5), (6, 4), (6, 4), (5, 4)]


def test_what_the_lowest_layer_means_by_itself():
    """Level 0 is the default; only the pixels' network starts at the given bias, all others at 0."""
    bias = np.array([1.0, -1.0, 0.5, 2.0])
    layered = LayeredVAE(4, [(3,), (3,)], [2, 1], rng=Generator(0), output_bias=bias, dtype="float64")
    x, z = np.ones((2, 4)), np.ones((2, 2))
    np.testing.assert_array_equal(layered.encode(x).mu, layered.encode(x, 0).mu)
    np.testing.assert_array_equal(layered.decode(z).logits, layered.decode(z, 0).logits)
    last = [network.layers[-1].bias.data for network in (*layered.decoders, *layered.encoders)]
    np.testing.assert_array_equal(last[0], bias)
    assert all(not b.any() for b in last[1:]) and [b.shape for b in last[1:]] == [(4,), (4,), (2,)]


def test_any_axes_may_lead():
    """Draws of draws: the last axis alone is a datum's."""
    layered = LayeredVAE(4, [(3,), (3,)], [2, 1], rng=Generator(0), init=nn.normal(1.0), dtype="float64")
    z = np.random.default_rng(1).normal(size=(3, 5, 2))
    for network in (lambda z: layered.encode(z, 1), lambda z: layered.decode(z[..., :1], 1)):
        flat, deep = network(z.reshape(15, 2)), network(z)
        for a, b in ((flat.mu, deep.mu), (flat.log_sigma, deep.log_sigma)):
            np.testing.assert_allclose(np.reshape(np.asarray(b), np.shape(a)), a, rtol=1e-12)
    model = Classifier(4, [], 3, rng=Generator(0))
    x = np.random.default_rng(2).normal(size=(2, 5, 4)).astype("float32")
    np.testing.assert_array_equal(model.predict(x), [model.predict(part) for part in x])
    with_context = VAE(4, (3,), 2, rng=Generator(0), flow=iaf(2, 2, (6,), Generator(1), context=3), context=3)
    x = (np.random.default_rng(2).random((2, 5, 4)) < 0.5).astype("float32")
    draws = np.zeros((2, 5, 2), "float32")
    deep = with_context.encode(x).rsample(draws)
    np.testing.assert_allclose(deep, [with_context.encode(part).rsample(d) for part, d in zip(x, draws, strict=True)])


def test_defaults_of_models():
    vae = VAE(5, rng=Generator(0))
    assert shapes(vae.encoder) == [(5, 500), (500, 40)] and vae.likelihood == "bernoulli"
    model = Classifier(3, [4], 2, rng=Generator(0))
    assert model.input_dropout == model.hidden_dropout == 0.0
    for share in (1.0, 1.5, -0.1):
        for name in ("input_dropout", "hidden_dropout"):
            with pytest.raises(ValueError, match="dropout"):
                Classifier(3, [4], 2, rng=Generator(0), **{name: share})
    full = FullVB(VAE(5, (4,), 2, rng=Generator(0)), 10)
    for p in full.log_sigma:
        np.testing.assert_allclose(np.exp(p.data), 0.01, rtol=1e-6)


# ------------------------------------------------------------------------------------------- found by mutation
def test_output_biases_are_the_outputs_own():
    """Not the hidden layer's, and for pixels alone."""
    for make in (directed.layers, lambda *sizes, **more: directed.auxiliary(4, (3,), 2, 2, **more)):
        model = make(4, [(3,)], [2], rng=Generator(0), output_bias=0.3)
        first, rest = model.generative["x"].first, model.generative["x"].rest
        assert not first.bias.data.any() and np.all(rest.layers[-1].bias.data == np.float32(0.3))
    arrow = directed.Arrow([2], [3, 4], Bernoulli, rng=Generator(0))
    assert not arrow.first.bias.data.any() and not arrow.rest.layers[-1].bias.data.any()


def test_three_layers_of_unlike_sizes():
    layered = LayeredVAE(9, [(8,), (7,), (6,)], [5, 4, 3], rng=Generator(0))
    assert [shapes(e)[0][0] for e in layered.encoders] == [9, 5, 4]
    terms = layered.terms(np.zeros((2, 9), np.float32), Generator(1), 2)
    zero = np.zeros(3, np.float32)
    log_pz = np.asarray(Normal(zero, zero).log_prob(np.asarray(terms.z[2])))
    for level in (1, 2):
        log_pz = log_pz + np.asarray(layered.decode(terms.z[level], level).log_prob(np.asarray(terms.z[level - 1])))
    np.testing.assert_allclose(np.asarray(terms.log_pz), log_pz, rtol=1e-5)
    assert layered.sample(3, Generator(1))[0].shape == (3, 9)


def test_a_flow_without_context_gets_none():
    vae = VAE(4, (3,), 2, rng=Generator(0), flow=Planar(2, Generator(1)))
    assert vae.encode(np.zeros((2, 4), np.float32)).context is None


def test_samples_of_weights_take_a_sample_of_noise_each():
    full = FullVB(VAE(4, (3,), 2, rng=Generator(0)), 6)
    x, eps = np.eye(4, dtype=np.float32), Generator(1).standard_normal((2, 4, 2), dtype="float32")
    zeta = [full.noise(Generator(i)) for i in (2, 3)]
    both = full.elbo(x, Generator(0), eps=eps, zeta=zeta)
    one = [full.elbo(x, Generator(0), eps=eps[k : k + 1], zeta=zeta[k : k + 1]) for k in (0, 1)]
    np.testing.assert_allclose(np.asarray(both), np.mean([np.asarray(b) for b in one], axis=0), rtol=1e-5)


def test_optimizers_take_any_iterable_of_gradients_and_small_step_sizes():
    x = Parameter(np.ones(2))
    optim.SGD([x], optim.inverse_sqrt(0.5)).step(g for g in [[1.0, 2.0]])
    np.testing.assert_allclose(x.data, [0.5, 0.0])
    assert optim.burda(1, 0.25)(0) == 0.25


def _quarters(rng, shape):
    return np.full(shape, 0.25)


MODELS = {
    "VAE": lambda **o: VAE(4, (3,), 2, **o),
    "LayeredVAE": lambda **o: LayeredVAE(4, [(3,), (3,)], [2, 2], **o),
    "layers": lambda **o: directed.layers(4, [(3,), (3,)], [2, 2], "separate", **o),
    "auxiliary": lambda **o: directed.auxiliary(4, (3,), 2, 2, **o),
    "BeliefNetwork": lambda **o: BeliefNetwork(4, (3, 2), **o),
    "HamiltonianVAE": lambda **o: HamiltonianVAE(4, (3,), 2, **o).vae,
    "Classifier": lambda **o: Classifier(4, (3,), 2, **o),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_initialisers_activations_and_noise_are_the_models_own(name, dtype):
    """One with weights of 1/4 and an activation of its own; what it draws and weighs is of its type."""
    model = MODELS[name](rng=Generator(0), init=_quarters, activation="softplus", dtype=dtype)
    assert all((p.data == 0.25).all() for p in model.parameters() if p.data.ndim == 2)
    assert {p.dtype.name for p in model.parameters()} == {dtype}
    parts = [m for m in vars(model).values() if isinstance(m, nn.MLP)]
    assert all(part.activation == "softplus" for part in parts) and bool(parts) == (
        name in ("VAE", "HamiltonianVAE", "Classifier")
    )
    if name != "Classifier":
        x = np.eye(4, dtype=dtype)
        assert np.asarray(model.log_weights(x, Generator(1), 3)).dtype == dtype
        assert all(np.asarray(drawn).dtype == dtype for drawn in model.sample(3, Generator(2)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_flows_pass_on_type_and_activation(dtype):
    options = {"activation": "softplus", "dtype": dtype}
    for flow in (
        AdditiveCoupling(4, (3,), Generator(0), **options), AffineCoupling(4, (3,), Generator(0), **options),
        iaf(4, 2, (3,), Generator(0), **options).flows[0],
    ):  # fmt: skip
        assert flow.network.activation == "softplus"
        assert {p.dtype.name for p in flow.parameters()} == {dtype}
    for flow in (
        Planar(4, Generator(0), dtype=dtype),
        Planar(4, Generator(0), context=2, dtype=dtype),
        Scaling(4, dtype=dtype),
    ):
        assert {p.dtype.name for p in flow.parameters()} == {dtype}


def test_a_full_posterior_starts_without_correlations_and_with_its_context():
    flow = Planar(3, Generator(0), context=2)
    vae = VAE(4, (3,), 3, posterior="full", flow=flow, context=2, rng=Generator(0), init=_quarters)
    last = vae.encoder.layers[-1].weight.data  # mu, log sigma, three numbers of L, the context
    np.testing.assert_array_equal(last, np.tile(np.repeat([0.25, 0.0, 0.25], [6, 3, 2]).astype("float32"), (3, 1)))


def test_draws_of_a_belief_network_are_those_that_are_scored():
    network = BeliefNetwork(4, (3, 2), rng=Generator(0))
    drawn = network.draw(np.eye(4, dtype="float32"), Generator(1), 5)
    scored, _ = network.draw_and_score(np.eye(4, dtype="float32"), Generator(1), 5)
    assert [layer.shape for layer in drawn] == [(5, 4, 3), (5, 4, 2)]
    for one, other in zip(drawn, scored, strict=True):
        np.testing.assert_array_equal(one, other)
