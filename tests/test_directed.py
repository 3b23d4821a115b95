"""Directed graphs of latent variables: linear-Gaussian models in closed form, one-number layers by sums on a grid."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from minivi import bounds, evaluation, nn
from minivi.distributions import Bernoulli, Normal
from minivi.flows import FlowPosterior, Planar
from minivi.gradcheck import gradcheck
from minivi.models import DirectedVAE, LayeredVAE
from minivi.models.directed import INFERENCE, Arrow, auxiliary, layers
from minivi.random import Generator

LINE = np.linspace(-13.0, 13.0, 161)
CELL = LINE[1] - LINE[0]
PIXELS = 3
EVERY_X = np.array([[b >> i & 1 for i in range(PIXELS)] for b in range(2**PIXELS)], float)


# ------------------------------------------------------------------------------------------------ linear and Gaussian
def gaussian(mean, sigma):
    return Normal(mean, np.full(mean.shape, np.log(sigma)))


A, S1, B, SX = 0.8, 0.6, -1.3, 0.7  # z2 ~ N(0, 1), z1 ~ N(A z2, S1^2), x ~ N(B z1, SX^2)
CHAIN = {"x": (["z1"], lambda z1: gaussian(B * z1, SX)), "z1": (["z2"], lambda z2: gaussian(A * z2, S1)), "z2": ([], 1)}
JOINT = np.linalg.inv(np.array([[1, 0, 0], [-A, 1, 0], [0, -B, 1.0]]))
JOINT = JOINT @ np.diag([1, S1**2, SX**2]) @ JOINT.T  # of z2, z1, x
X = np.array([[0.4], [-1.7]])


def conditional(of, given):
    """A linear conditional of the joint: slopes on what is given, and its standard deviation."""
    slopes = np.linalg.solve(JOINT[np.ix_(given, given)], JOINT[given, of])
    variance = JOINT[of, of] - slopes @ JOINT[given, of]
    return lambda *values: gaussian(sum(s * v for s, v in zip(slopes, values, strict=True)), np.sqrt(variance))


EXACT = {
    "bottom-up": {"z1": (["x"], conditional(1, [2])), "z2": (["z1"], conditional(0, [1]))},
    "top-down": {"z1": (["z2", "x"], conditional(1, [0, 2])), "z2": (["x"], conditional(0, [2]))},
    "precision": {  # eq. 4.7: the prior times p(x | z1), a Gaussian in z1 around x / B
        "z1": (["p(z1)", "x"], lambda prior, x: prior.product(gaussian(x / B, SX / abs(B)))),
        "z2": (["x"], conditional(0, [2])),
    },
}


@pytest.mark.parametrize("inference", EXACT.values(), ids=EXACT.keys())
def test_an_exact_posterior_has_constant_weights(inference):
    log_p = norm.logpdf(X[:, 0], 0, np.sqrt(JOINT[2, 2]))
    log_w = DirectedVAE(1, CHAIN, inference).log_weights(X, Generator(0), 50)
    np.testing.assert_allclose(log_w, np.broadcast_to(log_p, (50, 2)), rtol=1e-12)


def test_wrong_conditionals_are_seen():
    """Each of a wrong mean, spread and parent spoils the constancy."""
    wrong = [
        {"z1": (["x"], lambda x: gaussian(1.01 * EXACT["bottom-up"]["z1"][1](x).mu, 0.4))},
        {"z2": (["z1"], lambda z1: gaussian(0.9 * z1, 0.5))},
        {"z2": (["x"], conditional(0, [2]))},
    ]
    for part in wrong:
        log_w = DirectedVAE(1, CHAIN, EXACT["bottom-up"] | part).log_weights(X, Generator(0), 50)
        assert np.std(log_w, axis=0).min() > 0.01


def test_the_terms_of_each_layer_sum_to_the_bound_and_have_their_closed_forms():
    """Top-down each term is a divergence; bottom-up the lower one is not: it lacks the entropy of p(z1 | z2)."""
    for name, inference in EXACT.items():
        model = DirectedVAE(1, CHAIN, inference)
        assert model.latents == ["z1", "z2"]
        terms = model.terms(X, Generator(1), 40_000)
        np.testing.assert_allclose(
            terms.reconstruction - terms.kl.sum(axis=1), bounds.elbo(terms.log_w), rtol=1e-10, atol=1e-10
        )
        z2 = conditional(0, [2])(X)
        exact = np.asarray(terms.kl)
        if name == "bottom-up":
            given_z1 = conditional(0, [1])
            z1 = conditional(1, [2])(X)
            right = given_z1(z1.rsample(np.linspace(-8, 8, 401)[:, None, None])).kl()
            weights = norm.pdf(np.linspace(-8, 8, 401)) * 0.04
            np.testing.assert_allclose(exact[:, 1], weights @ right, atol=0.02)
        else:
            np.testing.assert_allclose(exact[:, 1], z2.kl(), atol=0.02)
            closed = terms.q["z1"].kl(terms.values["p(z1)"]).mean(axis=0)
            np.testing.assert_allclose(exact[:, 0], closed, atol=0.02)


def test_samples_of_any_graph_have_its_joint_distribution():
    """Four latents, two of them roots, one with three parents: log q against the joint density, z linear in eps."""
    weights = {"a": {}, "b": {"x": 0.5}, "c": {"a": -0.7, "b": 1.2}, "d": {"c": 0.4, "a": 0.9, "x": -0.3}}
    sigma = {"a": 1.3, "b": 0.5, "c": 0.8, "d": 0.6}

    def node(name):
        w = weights[name]
        return list(w), lambda *values: gaussian(
            sum(a * v for a, v in zip(w.values(), values, strict=True)), sigma[name]
        )

    inference = {name: node(name) for name in "dcb"} | {"a": ([], lambda: gaussian(np.zeros(1), sigma["a"]))}
    generative = {"x": (["d"], lambda d: gaussian(d, 1.0)), **{name: ([], 1) for name in "abcd"}}
    model = DirectedVAE(1, generative, inference)
    x = np.array([[0.9]])
    terms = model.terms(x, Generator(2), 6)
    z = np.concatenate([terms.values[name][:, 0] for name in "abcd"], axis=1)
    matrix = np.array([[weights[v].get(u, 0.0) for u in "abcd"] for v in "abcd"])
    inverse = np.linalg.inv(np.eye(4) - matrix)
    mean = inverse @ [0.9 * weights[v].get("x", 0.0) for v in "abcd"]
    covariance = inverse @ np.diag([sigma[v] ** 2 for v in "abcd"]) @ inverse.T
    right = multivariate_normal.logpdf(z, mean, covariance)
    np.testing.assert_allclose(sum(terms.log_q.values())[:, 0], right, rtol=1e-10)
    unit = {
        v: np.array([0.0, *(u == v for u in "abcd")])[:, None, None] for v in "abcd"
    }  # no noise, then one at a time
    moved = model.terms(x, eps=unit).values
    z = np.concatenate([moved[v][:, 0] for v in "abcd"], axis=1)
    np.testing.assert_allclose(z[0], mean, atol=1e-12)
    np.testing.assert_allclose((z[1:] - z[0]).T @ (z[1:] - z[0]), covariance, atol=1e-12)


def test_generation_draws_from_the_joint():
    mean, drawn = DirectedVAE(1, CHAIN, EXACT["top-down"]).sample(40_000, Generator(3))
    error = 5 / np.sqrt(40_000)
    assert abs(np.var(drawn) / JOINT[2, 2] - 1) < error * np.sqrt(2)
    assert abs(np.var(mean) / (B**2 * JOINT[1, 1]) - 1) < error * np.sqrt(2)
    assert abs(drawn.mean()) < error * np.sqrt(JOINT[2, 2]) and np.shape(drawn) == (40_000, 1)


# ------------------------------------------------------------------------------------------------ products
def test_product_of_gaussians():
    """Against the product of the densities, normalised on a grid."""
    p, q = Normal(np.array([0.7]), np.array([0.3])), Normal(np.array([-1.1]), np.array([-0.4]))
    found = p.product(q)
    density = np.exp(p.log_prob(LINE[:, None]) + q.log_prob(LINE[:, None]))
    density /= density.sum() * CELL
    np.testing.assert_allclose(np.exp(found.log_prob(LINE[:, None])), density, atol=1e-12)
    other = q.product(p)
    np.testing.assert_allclose([found.mu, found.log_sigma], [other.mu, other.log_sigma], rtol=1e-12)


def test_product_of_extremes():
    """The narrower one, and nothing overflows, in float32 too."""
    wide, narrow = (
        Normal(np.array([m], "float32"), np.array([s], "float32")) for m, s in ((3.0, 200.0), (-1.0, -200.0))
    )
    for found in (wide.product(narrow), narrow.product(wide)):
        np.testing.assert_allclose([found.mu[0], found.log_sigma[0]], [-1.0, -200.0])
    twice = wide.product(wide)
    np.testing.assert_allclose([twice.mu[0], twice.log_sigma[0]], [3.0, 200.0 - 0.5 * np.log(2)], rtol=1e-6)


# ------------------------------------------------------------------------------------------------ networks
def model(inference, latents=(1, 1), seed=0):
    options = {"rng": Generator([seed, 7]), "init": nn.normal(0.4), "dtype": "float64"}
    if inference == "auxiliary":
        return auxiliary(PIXELS, [3], 1, 1, output_bias=0.2, **options)
    return layers(PIXELS, [(3,), (2,), (2,)][: len(latents)], latents, inference, output_bias=0.2, **options)


def grid(names):
    """All points of a grid over two latents, (N, 1, 1) each."""
    return dict(zip(names, (g.reshape(-1, 1, 1) for g in np.meshgrid(LINE, LINE)), strict=True))


ALL = (*INFERENCE, "auxiliary")


@pytest.mark.parametrize("inference", ALL)
def test_densities_are_normalised_and_sampling_agrees_with_them(inference):
    """Both graphs sum to one, and the bound by draws is the bound by densities."""
    m = model(inference)
    points = grid(m.latents)
    total, elbo = 0.0, []
    for x in EVERY_X:
        terms = m.terms(x[None], z=points)
        log_q = sum(np.asarray(t) for t in terms.log_q.values())[:, 0]
        log_p = sum(np.asarray(t) for t in terms.log_p.values())[:, 0]
        assert abs(np.exp(log_q).sum() * CELL**2 - 1) < 1e-6
        total += np.exp(log_p).sum() * CELL**2
        elbo.append(np.exp(log_q) @ (log_p - log_q) * CELL**2)
    assert abs(total - 1) < 1e-6
    weights = np.prod([norm.pdf(e[:, 0, 0]) * CELL for e in points.values()], axis=0)
    drawn = [weights @ np.asarray(m.log_weights(x[None], eps=points))[:, 0] for x in EVERY_X]
    np.testing.assert_allclose(drawn, elbo, atol=1e-5)


@pytest.mark.parametrize("prior", ["chain", "autoregressive"])
@pytest.mark.parametrize("inference", INFERENCE)
def test_what_the_prior_of_the_lowest_layer_sees(inference, prior):
    """p(z_1 | .) depends on z_2, and on z_3 too if it is autoregressive; the top-down q(z_1 | .) likewise."""
    options = {"rng": Generator(7), "init": nn.normal(0.4), "dtype": "float64"}
    m = layers(PIXELS, [(3,), (2,), (2,)], (1, 1, 1), inference, prior=prior, **options)
    x, z = EVERY_X[:1], {name: np.full((1, 1, 1), 0.3) for name in m.latents}
    before = m.terms(x, z=z)
    for name, seen in (("z2", True), ("z3", prior == "autoregressive")):
        after = m.terms(x, z=z | {name: np.full((1, 1, 1), -0.8)})
        assert (after.log_p["z1"].item() != before.log_p["z1"].item()) == seen
        top_down = inference in ("precision", "shared", "separate")
        assert (after.log_q["z1"].item() != before.log_q["z1"].item()) == (seen and top_down)
    assert m.sample(4, Generator(0))[0].shape == (4, PIXELS)


def test_bottom_up_equals_the_layered_vae():
    sizes = {"hidden": [(4, 3), (5, 4)], "latents": [2, 3], "dtype": "float64"}
    ours = layers(PIXELS, rng=Generator(0), **sizes)
    theirs = LayeredVAE(PIXELS, rng=Generator(1), **sizes)

    def copied(mlp, *arrows):
        steps = [layer for a in arrows for layer in (a.first, *(a.rest.layers if a.rest else ()))]
        for layer, other in zip(steps, mlp.layers, strict=True):
            layer.weight.assign(other.weight.data)
            layer.bias.assign(other.bias.data + 0.1)
            other.bias.assign(layer.bias.data)

    copied(theirs.encoders[0], ours.inference["hq1"], ours.inference["z1"])
    copied(theirs.encoders[1], ours.inference["hq2"], ours.inference["z2"])
    copied(theirs.decoders[0], ours.generative["x"])
    copied(theirs.decoders[1], ours.generative["hp1"], ours.generative["z1"])
    eps = [Generator(2).standard_normal((5, len(EVERY_X), j)) for j in (2, 3)]
    right = theirs.terms(EVERY_X, eps=eps)
    found = ours.terms(EVERY_X, eps=dict(zip(("z1", "z2"), eps, strict=True)))
    np.testing.assert_allclose(found.log_w, right.log_w, rtol=1e-12)
    np.testing.assert_allclose(sum(found.log_q.values()), right.log_qz_x, rtol=1e-12)
    assert sum(p.size for p in ours.parameters()) == sum(p.size for p in theirs.parameters())
    np.testing.assert_allclose(ours.sample(6, Generator(4))[0].shape, (6, PIXELS))


@pytest.mark.parametrize("inference", ALL)
def test_gradients(inference):
    m = model(inference) if inference == "auxiliary" else model(inference, (2, 1, 1))
    x = EVERY_X[[1, 6]]
    found = gradcheck(lambda rng: m.log_weights(x, rng, 2), parameters=m, rng=5, coordinates=2, directions=1)
    assert found.ok, str(found)


def test_inference_of_each_kind_uses_what_it_should():
    """Parents by the graphs' own table; precisions of the prior and the pseudo-likelihood add."""
    above = {"bottom-up": ["hq1"], "skip": ["hq1"], "precision": ["p(z1)", "hq1"], "shared": ["hq1", "hp1"]}
    for inference, parents in (above | {"separate": ["hq1", "hs1"]}).items():
        assert model(inference, (2, 1, 1))._parents["q(z1)"] == parents
    assert model("skip", (2, 1, 1))._parents["hq3"] == ["z1", "z2", "hq1"]
    m = model("precision", (2, 1, 1))
    terms = m.terms(EVERY_X, Generator(0), 4)
    for name in m.latents:
        prior, q = terms.values[f"p({name})"], terms.q[name]
        l = Arrow.__call__(m.inference[name], terms.values[f"hq{name[1]}"])
        first, second = np.exp(-2 * np.asarray(prior.log_sigma)), np.exp(-2 * np.asarray(l.log_sigma))
        np.testing.assert_allclose(np.exp(-2 * np.asarray(q.log_sigma)), first + second, rtol=1e-10)
        mean = (first * np.asarray(prior.mu) + second * np.asarray(l.mu)) / (first + second)
        np.testing.assert_allclose(q.mu, mean, rtol=1e-10, atol=1e-12)


def test_active_units_of_a_layer_that_depends_on_x_alone():
    """Its parameters have no axis of samples; means of 0.2 x and 0.05 x for x = +1, -1."""
    q = lambda x: Normal(x * np.array([0.2, 0.05]), np.zeros((len(x), 2)))
    graph = {"x": (["z"], lambda z: gaussian(z[..., :1], 1.0)), "z": ([], 2)}
    m = DirectedVAE(1, graph, {"z": (["x"], q)})
    x = np.where(np.arange(50) % 2, 1.0, -1.0)[:, None]
    assert evaluation.active_units(m, x, level="z", rng=Generator(0)) == 1
    assert evaluation.active_units(m, x, threshold=0.002, level="z", rng=Generator(0)) == 2


def test_what_depends_on_x_alone_is_computed_once():
    m = model("precision", (2, 1, 1))
    values = m.terms(EVERY_X, Generator(0), 5).values
    assert values["hq1"].shape == (8, 3) and values["hq3"].shape == (8, 2) and values["q(z3)"].mu.shape == (8, 1)
    assert values["hp1"].shape == (5, 8, 2) and values["q(z1)"].mu.shape == values["z1"].shape == (5, 8, 2)
    calls = []
    counted = {"h": (["x"], lambda x: calls.append(1) or x), "z1": (["h"], conditional(1, [2]))}
    counted["z2"] = ["h", "z1"], lambda h, z1: gaussian(z1 + h, 1.0)
    DirectedVAE(1, CHAIN, counted).terms(X, Generator(0), 4)
    assert len(calls) == 1


def test_a_flow_as_a_conditional():
    """q(z1 | x) by a planar flow: draws against densities, through the numerical inverse."""
    flow = Planar(1, Generator(1), dtype="float64")
    flow.head.values.assign(np.array([0.8, 1.4, -0.3]))
    graph = EXACT["bottom-up"] | {"z1": (["x"], lambda x: FlowPosterior(gaussian(0.5 * x, 0.7), flow))}
    m = DirectedVAE(1, CHAIN, graph)
    terms = m.terms(X, Generator(2), 4)
    again = m.terms(X, z={name: terms.values[name] for name in m.latents})
    np.testing.assert_allclose(terms.log_w, again.log_w, rtol=1e-8)
    points = grid(["z1", "z2"])
    total = np.exp(sum(np.asarray(t) for t in m.terms(X[:1], z=points).log_q.values())).sum() * CELL**2
    assert abs(total - 1) < 1e-6


def test_the_auxiliary_bound_lies_below_by_the_divergence_of_u():
    """Eq. 5.6, 5.7 by sums over a grid: the bound without u, of the marginal q(z | x), less E KL(q(u | x, z) || p)."""
    m = model("auxiliary")
    terms = m.terms(EVERY_X[5:6], z=grid(["z", "u"]))
    table = lambda t: np.broadcast_to(np.asarray(t)[:, 0], LINE.size**2).reshape(LINE.size, LINE.size)  # u, z
    log_q = table(terms.log_q["z"]) + table(terms.log_q["u"])
    with_u = np.sum(np.exp(log_q) * (sum(table(t) for t in terms.log_p.values()) - log_q)) * CELL**2
    log_qz = np.log(np.exp(log_q).sum(axis=0) * CELL)
    without = np.sum(np.exp(log_qz) * (table(terms.log_p["x"])[0] + table(terms.log_p["z"])[0] - log_qz)) * CELL
    cost = np.sum(np.exp(log_q) * (log_q - log_qz - table(terms.log_p["u"]))) * CELL**2
    assert cost > 0.01
    np.testing.assert_allclose(with_u, without - cost, atol=1e-7)


def test_library_functions_take_these_models():
    """Likelihoods by importance sampling, active units by name, free bits with a minimum for each layer, float32."""
    m = layers(PIXELS, [(8,), (8,)], [2, 2], "shared", rng=Generator(0), init=nn.normal(1.0))
    x = np.repeat(EVERY_X, 20, axis=0).astype("float32")
    assert m.dtype == np.float32 and m.log_weights(x, Generator(0), 3).dtype == np.float32
    tight = evaluation.log_likelihood(m, x, Generator(1), 500).mean
    loose = evaluation.bound(m, x, Generator(2), 50, bounds.elbo).mean
    assert loose < tight < 0
    assert all(0 <= evaluation.active_units(m, x, level=name, rng=Generator(3)) <= 2 for name in m.latents)
    reconstruction, kl = m.reconstruction_and_kl(x, Generator(4), 10)
    assert reconstruction.shape == (160,) and kl.shape == (160, 2)
    mean = np.asarray(kl).mean(axis=0)
    right = np.asarray(reconstruction).mean() - max(20.0, mean[0]) - max(0.001, mean[1])
    np.testing.assert_allclose(bounds.free_bits(reconstruction, kl, [20.0, 0.001]).item(), right, rtol=1e-5)
    with pytest.raises(ValueError, match="minimum"):
        bounds.free_bits(reconstruction, kl, [3.0, -0.001])


def test_parameters_in_dicts():
    m = model("shared")
    names = [name for name, _ in m.named_parameters()]
    assert len(set(names)) == len(names) and "generative.hp1.first.weight" in names and "inference.z1.others.0" in names
    other = model("shared", seed=1)
    other.load_state_dict(m.state_dict())
    np.testing.assert_array_equal(other.log_weights(EVERY_X, Generator(0)), m.log_weights(EVERY_X, Generator(0)))
    assert m.detached().parameters() == []
    np.testing.assert_array_equal(m.detached().log_weights(EVERY_X, Generator(0)), m.log_weights(EVERY_X, Generator(0)))
    single = m.astype("float32")
    for half in (single, single.detached()):
        assert half.log_weights(EVERY_X.astype("float32"), Generator(0)).dtype == half.dtype == np.float32


# ------------------------------------------------------------------------------------------------ errors
@pytest.mark.parametrize(
    ("generative", "inference", "message"),
    [
        (CHAIN, {**EXACT["bottom-up"], "z1": (["z2"], conditional(1, [0]))}, "a cycle, .*z1"),
        (CHAIN, {**EXACT["bottom-up"], "z2": (["z3"], conditional(0, [1]))}, "z2 has an unknown parent 'z3'"),
        (CHAIN, {**EXACT["bottom-up"], "z2": (["p(z2)", "p(z1)"], None)}, "a cycle"),  # p(z1) needs z2
        ({**CHAIN, "z2": (["z1"], conditional(0, [1]))}, EXACT["top-down"], "a cycle, .*z2"),
        ({**CHAIN, "z2": (["h"], None)}, {**EXACT["top-down"], "h": (["x"], None)}, "z2 has an unknown parent 'h'"),
        ({"z1": ([], 1)}, {"z1": (["x"], None)}, "'x' must be a variable of the generative graph"),
        (CHAIN, {**EXACT["top-down"], "x": ([], 1)}, "'x' must be a variable of the generative graph"),
    ],
)
def test_graphs_that_are_none(generative, inference, message):
    with pytest.raises(ValueError, match=message) as caught:
        DirectedVAE(1, generative, inference)
    assert "\n" not in str(caught.value)


def test_conditionals_that_do_not_fit():
    numbers = {**EXACT["top-down"], "z2": (["x"], lambda x: x)}
    discrete = {**EXACT["top-down"], "z2": (["x"], Bernoulli)}
    lonely = {**EXACT["top-down"], "h": (["x"], conditional(1, [2]))}
    for inference, message in ((numbers, "q.z2. returned a ndarray"), (discrete, "reparam"), (lonely, "h is random")):
        with pytest.raises(ValueError, match=message):
            DirectedVAE(1, CHAIN, inference).terms(X, Generator(0))
    with pytest.raises(ValueError, match="unknown inference 'sideways'; one of bottom-up"):
        layers(3, [(2,)], [1], "sideways", rng=Generator(0))
    with pytest.raises(ValueError, match="unknown prior 'ring'; one of chain"):
        layers(3, [(2,)], [1], prior="ring", rng=Generator(0))
    with pytest.raises(ValueError, match="for 2 stochastic layers; one group for each"):
        layers(3, [(2,)], [1, 1], rng=Generator(0))


def test_an_arrow_sums_over_its_parents():
    """One matrix of stacked inputs would do the same."""
    arrow = Arrow([2, 3], [4, 1], lambda h: h, rng=Generator(0), dtype="float64")
    a, b = Generator(1).standard_normal((5, 2)), Generator(2).standard_normal((6, 5, 3))
    weight = np.concatenate([arrow.first.weight.data, arrow.others[0].data])
    stacked = np.concatenate([np.broadcast_to(a, (6, 5, 2)), b], axis=-1)
    right = np.tanh(stacked @ weight + arrow.first.bias.data) @ arrow.rest.layers[0].weight.data
    np.testing.assert_allclose(arrow(a, b), right + arrow.rest.layers[0].bias.data, rtol=1e-12)
