"""MADE: who sees whom, densities that sum to one, masks that hold, and samplers that agree."""

import itertools

import numpy as np
import pytest

from minivi import kernels, nn
from minivi.gradcheck import gradcheck
from minivi.kernels import reference
from minivi.optim import SGD, Adam
from minivi.random import Generator
from minivi.tensor import Parameter, grad


def made(dims=5, hidden=(9,), **settings):
    """A small model in float64 whose biases are not zero."""
    model = nn.MADE(dims, hidden, Generator(1), **{"dtype": "float64", "activation": "tanh"} | settings)
    for p in model.parameters():
        if p.ndim == 1:
            p.assign(0.3 * Generator(2).standard_normal(p.shape))
    return model


def noise(model, count, seed=0):
    """Uniforms or normals, and a context if the model wants one."""
    rng = np.random.default_rng(seed)
    eps = rng.random((count, model.dims)) if model.outputs == 1 else rng.standard_normal((count, model.dims))
    dtype = model.layers[0].bias.dtype
    context = rng.standard_normal((count, model.context)).astype(dtype) if model.context else None
    return eps.astype(dtype), context


def binary(dims):
    return np.array(list(itertools.product([0.0, 1.0], repeat=dims)))


def jacobian(model, x, context, mask):
    """Derivative of output (d, j) with respect to x_e and to the context: (D, outputs, D) and (D, outputs, C)."""
    x, c = Parameter(x), Parameter(np.zeros(0) if context is None else context)
    y = model(x, None if context is None else c, mask).reshape(model.dims, model.outputs)
    rows = [grad(y[d, j], [x, c]) for d in range(model.dims) for j in range(model.outputs)]
    return [np.reshape([row[k] for row in rows], (model.dims, model.outputs, -1)) for k in (0, 1)]


SETTINGS = [
    {},
    {"dims": 1},
    {"dims": 2, "hidden": (3,)},
    {"dims": 7, "hidden": (3, 4)},
    {"hidden": (9, 8)},
    {"hidden": (9, 12, 8), "outputs": 2, "context": 2},
    {"ordering": [3, 0, 4, 1, 2], "outputs": 3},
    {"ordering": "random", "masks": 3, "context": 3},
    {"ordering": "random", "masks": 2, "outputs": 2, "hidden": (9, 8)},
    {"ordering": [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]], "masks": 2},
    {"degrees": "random", "hidden": (9, 8, 7), "outputs": 2},
    {"degrees": "random", "masks": 3, "hidden": (9, 8), "activation": "elu"},
    {"degrees": "random", "ordering": "random", "masks": 3, "hidden": (9, 8), "context": 1, "outputs": 2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_each_output_sees_the_dimensions_before_it_alone(settings):
    model = made(**settings)
    D, rng = model.dims, np.random.default_rng(0)
    context = rng.standard_normal(model.context) if model.context else None
    for number, mask in enumerate(model.masks):
        to_x, to_context = jacobian(model, rng.standard_normal(D), context, number)
        place = np.argsort(mask.order)
        before = place[None, :] < place[:, None]
        assert (to_x[~before[:, None, :].repeat(model.outputs, 1)] == 0).all()
        if settings.get("degrees") != "random" and min(settings.get("hidden", (9,))) >= D:
            assert (to_x[before[:, None, :].repeat(model.outputs, 1)] != 0).all()  # and sees all of them
        assert (to_context != 0).all()
    assert len(model.masks) == settings.get("masks", 1)


def test_ordering_names_the_dimension_that_is_drawn_ith():
    model = made(3, ordering=[2, 0, 1])
    to_x, _ = jacobian(model, np.ones(3), None, 0)
    assert [(row != 0).nonzero()[0].tolist() for row in to_x[:, 0]] == [[2], [0, 2], []]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_masks_are_staircases_and_degrees_even(settings):
    model = made(**settings)
    for mask in model.masks:
        assert all(r.contiguous and r.T.contiguous for r in mask.ranges)
        for degrees in mask.degrees:
            assert degrees.min() >= 1 and degrees.max() <= max(1, model.dims - 1)
            counts = np.bincount(degrees, minlength=model.dims)[1 : max(2, model.dims)]
            assert settings.get("degrees") == "random" or np.ptp(counts) <= 1
    half = nn.MADE(200, (300,), Generator(0))
    assert [r.share for r in half.masks[0].ranges] == pytest.approx([0.5, 0.5], abs=0.01)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("settings", [{}, {"hidden": (20, 15), "degrees": "random"}], ids=str)
def test_probabilities_of_all_binary_vectors_sum_to_one(settings, context):
    model = made(8, **{"hidden": (20,)} | settings, ordering="random", masks=4, context=context)
    c = np.array([0.3, -1.0, 2.0]) if context else None
    tables = [np.exp(model.log_prob(binary(8), c, mask).data) for mask in range(4)]
    np.testing.assert_allclose(np.sum(tables, 1), 1, rtol=1e-12)
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(tables, 2)) > 1e-4  # four distributions
    np.testing.assert_allclose(np.exp(model.ensemble_log_prob(binary(8), c).data).sum(), 1, rtol=1e-12)


def test_log_prob_is_the_sum_of_the_conditionals():
    for outputs in (1, 2):
        model = made(outputs=outputs, ordering="random", masks=2, context=2)
        x, c = noise(model, 6)
        x = np.round(x) if outputs == 1 else x
        y, total = model(x, c, 1).data, np.zeros(6)
        for b, d in itertools.product(range(6), range(5)):
            if outputs == 1:
                p = 1 / (1 + np.exp(-y[b, d]))
                total[b] += np.log(p if x[b, d] == 1 else 1 - p)
            else:
                mu, sigma = y[b, d, 0], np.exp(y[b, d, 1])
                total[b] -= np.log(sigma * np.sqrt(2 * np.pi)) + ((x[b, d] - mu) / sigma) ** 2 / 2
        np.testing.assert_allclose(model.log_prob(x, c, 1).data, total, rtol=1e-12)


@pytest.mark.parametrize("ordering", [[0, 1], [1, 0]])
def test_gaussian_density_integrates_to_one(ordering):
    model = made(2, outputs=2, ordering=ordering)
    line = np.linspace(-14, 14, 141)
    grid = np.stack(np.meshgrid(line, line), -1)
    mass = np.exp(model.log_prob(grid).data).sum() * (line[1] - line[0]) ** 2
    assert mass == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_gradients(outputs, activation):
    settings = {"outputs": outputs, "hidden": (6, 5), "context": 2, "activation": activation}
    model = made(4, **settings, ordering="random", degrees="random", masks=2)
    x, c = noise(model, 3, seed=4)
    for mask in (0, 1):
        report = gradcheck(lambda x, c, mask=mask: model(x, c, mask), x, c, parameters=model, coordinates=8)
        assert report.ok, str(report)
    report = gradcheck(lambda x, c: model.ensemble_log_prob(x, c), x, c, parameters=model, coordinates=8)
    assert report.ok, str(report)


def test_one_mask_alone_has_the_gradients_of_the_first_of_several():
    """The weights of one mask are used as they are; those of several are masked on the way, where gradcheck can go."""
    several = made(ordering=[[3, 1, 0, 4, 2], [0, 1, 2, 3, 4]], masks=2, outputs=2, hidden=(9, 8), context=2)
    one = made(ordering=[3, 1, 0, 4, 2], outputs=2, hidden=(9, 8), context=2)
    one.load_state_dict(several.state_dict())
    one.apply_masks()
    x, c = noise(one, 7)
    np.testing.assert_allclose(one(x, c).data, several(x, c).data, rtol=1e-12)
    for a, b in zip(*(grad(m.log_prob(x, c).mean(), m.parameters()) for m in (one, several)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)


def test_masks_share_the_weights_of_each_pixel_and_unit():
    """Each mask gives what a dense network gives with that mask laid over the weights as they are stored."""
    model = made(ordering="random", degrees="random", masks=3, outputs=2, hidden=(9, 8), context=2)
    (x, c), first = noise(model, 4), model.masks[0].order
    for number, mask in enumerate(model.masks):
        h = x[:, first]
        for l, (layer, v) in enumerate(zip(model.layers, model.context_weights, strict=True)):
            dense = np.zeros(layer.weight.shape)
            dense[np.ix_(mask.units[l], mask.units[l + 1])] = mask.ranges[l].mask
            h = (np.tanh(h) if l else h) @ (layer.weight.data * dense) + layer.bias.data + c @ v.data
        y = model(x, c, number).data
        np.testing.assert_allclose(y[:, first], h.reshape(4, 5, 2), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("masks", [1, 3])
@pytest.mark.parametrize("optimizer", [Adam, SGD])
def test_weights_under_the_mask_stay_zero(optimizer, masks):
    settings = {"ordering": "random", "masks": masks, "activation": "relu", "dtype": "float32", "outputs": 2}
    model = made(6, hidden=(12, 10), **settings)
    zero = [layer.weight.data == 0 for layer in model.layers]
    for z, used in zip(zero, _used(model), strict=True):
        np.testing.assert_array_equal(z, ~used)
    assert all(z.any() for z in zero)
    opt = optimizer(model.parameters(), 0.01, weight_decay=0.1)
    x, _ = noise(model, 50)
    start, before = -model.log_prob(x).data.mean(), model.state_dict()
    for step in range(20):
        opt.step(grad(-model.log_prob(x, mask=step % masks).mean(), opt.parameters))
    for z, layer, l in zip(zero, model.layers, range(3), strict=True):
        assert (layer.weight.data[z] == 0).all()
        assert (layer.weight.data != before[f"layers.{l}.weight"])[~z].mean() > 0.5
    assert -model.log_prob(x).data.mean() < start


def _used(model):
    """Which of each layer's weights some mask uses."""
    for l, layer in enumerate(model.layers):
        used = np.zeros(layer.weight.shape, bool)
        for m in model.masks:
            for i, o in zip(*np.nonzero(m.ranges[l].mask), strict=True):
                used[m.units[l][i], m.units[l + 1][o]] = True
        yield used


def test_ensemble_averages_probabilities():
    model = made(ordering="random", masks=3, context=2)
    x, c = noise(model, 4)
    expected = [np.log(np.mean([np.exp(model.log_prob(x[b], c[b], k).data) for k in range(3)])) for b in range(4)]
    np.testing.assert_allclose(model.ensemble_log_prob(x, c).data, expected, rtol=1e-12)


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("hidden", [(9,), (9, 12), (9, 3, 12)])
def test_fast_sampler_is_the_naive_one(hidden, outputs, context):
    for activation, masks in (("relu", 2), ("tanh", 1), ("softplus", 1), ("elu", 1), ("sigmoid", 1)):
        settings = {"ordering": "random", "degrees": "random", "masks": masks, "activation": activation}
        model = made(7, hidden, outputs=outputs, context=context, **settings)
        eps, c = noise(model, 40)
        fast, slow = (model.from_noise(eps, c, masks - 1, naive=naive) for naive in (False, True))
        if outputs == 1:
            np.testing.assert_array_equal(fast, slow)
            assert 0.1 < fast.mean() < 0.9
        else:
            np.testing.assert_allclose(fast, slow, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_sampling_kernel_against_its_twin_and_the_network(outputs, dtype):
    model = made(20, (30, 25), outputs=outputs, dtype=dtype)
    eps, _ = noise(model, 60)
    weights = [layer.weight.data for layer in model.layers]
    start = np.concatenate([layer.bias.data for layer in model.layers])
    arguments = eps, start, weights, model.masks[0].known, "tanh"
    x, y = kernels.autoregressive_sample(*arguments)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for a, b in zip((x, y), reference.autoregressive_sample(*arguments), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(y.reshape(*x.shape, outputs), model(x).data.reshape(y.shape), atol=tolerance)
    assert x.dtype == y.dtype == dtype
    assert kernels.autoregressive_sample(eps[:0], *arguments[1:])[0].shape == (0, 20)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.autoregressive_sample(eps, start[1:], *arguments[2:])
    with pytest.raises(ValueError, match="60 outputs for 20 dimensions"):
        wide = np.zeros((25, 60), dtype)
        kernels.autoregressive_sample(eps, start, [*weights[:2], wide], *arguments[3:])


def test_samples_are_distributed_as_the_density_says():
    model = made(3, ordering=[2, 0, 1], context=2)
    c, n = np.array([1.0, -2.0]), 20_000
    p = np.exp(model.log_prob(binary(3), c).data)
    x = model.sample(n, np.random.default_rng(3), c)
    found = np.bincount((x @ [4, 2, 1]).astype(int), minlength=8)
    assert np.sum((found - n * p) ** 2 / (n * p)) < 24.3  # chi-square of 7 degrees of freedom, p = 0.001
    model = made(ordering="random", outputs=2, context=2)
    eps, c = noise(model, 30)
    x = model.from_noise(eps, c)
    y = model(x, c).data
    np.testing.assert_allclose((x - y[..., 0]) / np.exp(y[..., 1]), eps, atol=1e-10)  # thesis eq. 5.19


def test_shapes_bias_and_copies():
    model = made(outputs=2, context=3, dtype="float32")
    x, c = np.ones((4, 2, 5), "float32"), np.ones((2, 3), "float32")
    assert model(x, c).shape == (4, 2, 5, 2) and model.log_prob(x, c).shape == (4, 2)
    assert model.from_noise(x, c).shape == (4, 2, 5) and model.sample(3, Generator(0), c[0]).dtype == "float32"
    gradients = grad(model.detached().log_prob(Parameter(x), c).sum(), model.parameters(), unused="none")
    assert all(g is None for g in gradients)
    assert model.astype("float64")(x.astype("float64"), c.astype("float64")).dtype == "float64"
    bias = nn.MADE(3, (4,), Generator(0), ordering=[2, 0, 1], outputs=2, out_bias=[[1, 2], [3, 4], [5, 6]])
    zero = np.zeros(3, "float32")
    assert bias(zero).data[2].tolist() == [5, 6]  # nothing comes before dimension 2
    bias.layers[-1].weight.assign(np.zeros((4, 6)))
    assert bias(zero).data.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"activation": "sin"}, "unknown activation 'sin'"),
        ({"degrees": "odd"}, "unknown degrees 'odd'"),
        ({"ordering": "odd"}, "unknown ordering 'odd'"),
        ({"ordering": [0, 1, 2, 3, 3]}, "not a permutation"),
        ({"ordering": [0, 1]}, "not a permutation"),
        ({"ordering": [[0, 1, 2, 3, 4]], "masks": 2}, "not a permutation"),
        ({"masks": 2}, "masks that are all equal"),
        ({"hidden": ()}, "hidden must have 1 or more"),
        ({"hidden": (3, 0)}, "at least 1; got 0"),
        ({"outputs": 0}, "at least 1; got 0"),
        ({"context": -1}, "at least 0; got -1"),
        ({"out_bias": [1, 2]}, "out_bias of shape"),
    ],
)
def test_bad_settings(settings, match):
    with pytest.raises(ValueError, match=match):
        nn.MADE(5, **{"hidden": (4,), "rng": Generator(0)} | settings)


def test_bad_input():
    model, x = made(context=2), np.zeros((3, 5))
    c = np.zeros((3, 2))
    for arguments, match in [
        ((x[:, :4], c), "must have 5 dimensions"),
        ((x,), r"pass \(\.\.\., 2\)"),
        ((x, c[:, :1]), r"context of shape \(3, 1\)"),
        ((x, c, 1), "no mask 1"),
        ((x, c, -1), "no mask -1"),
    ]:
        for function in (model, model.log_prob, model.from_noise):
            with pytest.raises(ValueError, match=match):
                function(*arguments)
    with pytest.raises(ValueError, match="pass None"):
        made()(x, c)
    with pytest.raises(TypeError, match="noise of float32"):
        model.from_noise(x.astype("float32"), c)
    for function in (made(outputs=3).log_prob, made(outputs=3).from_noise, lambda x: made(outputs=3).sample(1, None)):
        with pytest.raises(ValueError, match="3 outputs for each dimension"):
            function(x)
