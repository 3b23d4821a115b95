"""Convolutional layers and models: what sees what, weight normalisation, flows' determinants, gradients of bounds."""

import numpy as np
import pytest

from minivi import nn, ops
from minivi.bounds import free_bits
from minivi.gradcheck import gradcheck
from minivi.models import VAE, ConvolutionalClassifier, ResNetVAE
from minivi.models.resnet import ResidualBlock, ResNetDecoder, ResNetEncoder
from minivi.models.resnet_vae import MaskedFlow
from minivi.random import Generator
from minivi.tensor import Tensor, grad, no_grad

SHAPE = (4, 6, 2)


def images(count=5, shape=SHAPE, dtype="float64", seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (count, int(np.prod(shape))))
    return (levels / 255).astype(dtype)


def spread_biases(model):
    """Data have left some biases near 1e-17, by which a check would choose its steps."""
    rng = np.random.default_rng(0)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.assign(p.data + 0.1 * rng.normal(size=p.shape))


def jacobian(function, x):
    """d function / d x by the engine, as a matrix."""
    x = Tensor(x)
    y = function(x)
    rows = []
    for i in range(y.size):
        unit = np.zeros(y.size)
        unit[i] = 1.0
        rows.append(grad(y, x, cotangent=unit.reshape(y.shape)).ravel())
    return np.array(rows)


# ---------------------------------------------------------------------------------------------------------- layers
@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_same_padding_keeps_the_size_but_for_the_stride(size, stride):
    layer = nn.Conv2d(2, 3, size, Generator(0), stride=stride)
    down = np.broadcast_to(stride, 2)
    small = (1, -(-7 // down[0]), -(-9 // down[1]), 3)
    assert layer(np.zeros((1, 7, 9, 2), "f4")).shape == small
    up = nn.ConvTranspose2d(3, 2, size, Generator(0), stride=stride)
    assert up(np.zeros(small, "f4"), (7, 9)).shape == (1, 7, 9, 2)
    assert up(np.zeros((1, 2, 3, 3), "f4")).shape == (1, 2 * down[0], 3 * down[1], 2)


def test_a_transposed_layer_is_the_transpose():
    down = nn.Conv2d(2, 3, 3, Generator(0), stride=2, dtype="float64")
    up = nn.ConvTranspose2d(3, 2, 3, Generator(1), stride=2, dtype="float64")
    up.weight.assign(down.weight.data)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 5, 4, 2)), rng.normal(size=(1, 3, 2, 3))
    assert np.isclose(np.sum(down(x).data * y), np.sum(up(y, (5, 4)).data * x), rtol=1e-12)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_masked_layer_sees_what_comes_before(strict, groups):
    layer = nn.MaskedConv2d(4, 4, 3, Generator(0), groups=groups, strict=strict, dtype="float64")
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 4))
    seen = jacobian(layer, x).reshape(12, 4, 12, 4) != 0
    group = np.arange(4) * groups // 4
    for out in range(12):
        for before in range(12):
            y, z = divmod(out, 4), divmod(before, 4)
            near = abs(y[0] - z[0]) <= 1 and abs(y[1] - z[1]) <= 1
            if out == before:
                expected = group[None] < group[:, None] if strict else group[None] <= group[:, None]
            else:
                expected = np.full((4, 4), near and before < out)
            np.testing.assert_array_equal(seen[out, :, before], expected)


@pytest.mark.parametrize("kind", ["conv", "transposed", "masked", "linear"])
def test_initialisation_by_data(kind):
    options = {"weight_norm": True, "scale": 0.3}
    layer, shape = {
        "conv": (nn.Conv2d(3, 4, 3, Generator(0), **options), (6, 5, 5, 3)),
        "transposed": (nn.ConvTranspose2d(3, 4, 3, Generator(0), stride=2, **options), (6, 5, 5, 3)),
        "masked": (nn.MaskedConv2d(2, 4, 3, Generator(0), groups=2, **options), (6, 5, 5, 2)),
        "linear": (nn.Linear(7, 4, Generator(0), **options), (60, 7)),
    }[kind]
    x = np.random.default_rng(0).normal(2.0, 3.0, shape).astype("f4")
    before = np.asarray(layer(x))
    with nn.initialise_by_data():
        layer(x)
    y = np.asarray(layer(x)).reshape(-1, 4)
    np.testing.assert_allclose(y.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), 0.3, rtol=1e-4)
    again = np.asarray(layer(x))
    assert not np.allclose(again, before) and np.array_equal(again.reshape(-1, 4), y)  # outside the block it is fixed
    length = np.sqrt(
        (np.moveaxis(layer.effective_weight().data, layer.outputs_axis, -1) ** 2).sum((*range(x.ndim - 1),))
    )
    np.testing.assert_allclose(length.ravel(), np.abs(layer.gain.data), rtol=1e-5)


def test_weight_normalisation_leaves_the_length_of_v_free():
    layer = nn.Conv2d(2, 3, 3, Generator(0), weight_norm=True, dtype="float64")
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2))
    y, g = layer(x), grad(ops.sum(ops.square(layer(x))), layer.weight)
    along = np.sum(g * layer.weight.data, axis=(0, 1, 2))
    np.testing.assert_allclose(along, 0.0, atol=1e-9)  # the gradient is orthogonal to v
    layer.weight.assign(7.0 * layer.weight.data)
    np.testing.assert_allclose(layer(x).data, y.data, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: nn.Conv2d(0, 3, 3, Generator(0)), "Conv2d: inputs"),
        (lambda: nn.Conv2d(2, 3, (3, 0), Generator(0)), "Conv2d: size"),
        (lambda: nn.Conv2d(2, 3, 3, Generator(0), stride=0), "Conv2d: stride"),
        (lambda: nn.Conv2d(2, 3, 3, None), "Conv2d: rng"),
        (lambda: nn.Conv2d(2, 3, 3, Generator(0))(np.zeros((1, 4, 4, 3), "f4")), "channels last"),
        (lambda: nn.MaskedConv2d(3, 4, 3, Generator(0), groups=2), "multiples of groups"),
        (lambda: nn.MaskedConv2d(2, 4, 2, Generator(0), groups=2), "the size odd"),
        (lambda: ResNetVAE((5, 4, 1), rng=Generator(0)), "even height and width"),
        (lambda: ResNetVAE(SHAPE, maps=6, latents=4, flow_hidden=1, rng=Generator(0)), "a multiple"),
        (lambda: ResNetVAE(SHAPE, inference="top-down", rng=Generator(0)), "inference"),
        (lambda: ResNetVAE(SHAPE, 1, 4, 2, rng=Generator(0)).elbo(np.zeros((2, 7), "f4"), Generator(0)), "48"),
        (lambda: ResNetVAE(SHAPE, 1, 4, 2, rng=Generator(0)).elbo(2 * images(dtype="f4"), Generator(0)), "255"),
    ],
)
def test_refusals(make, match):
    with pytest.raises(ValueError, match=match):
        make()


# -------------------------------------------------------------------------------------------- the network of 5.A
def resnet(dtype="float64", latents=3, shape=(5, 6, 1)):
    rng, options = Generator(0), {"maps": (2, 3), "units": 7, "dtype": dtype}
    encoder, decoder = ResNetEncoder(shape, 2 * latents, rng, **options), ResNetDecoder(latents, shape, rng, **options)
    return VAE(int(np.prod(shape)), latents=latents, encoder=encoder, decoder=decoder, rng=rng, dtype=dtype)


def test_the_network_of_appendix_5_a():
    rng = Generator(0)
    encoder, decoder = ResNetEncoder((28, 28, 1), 64, rng), ResNetDecoder(32, (28, 28, 1), rng)
    x, sizes = np.zeros((1, 28, 28, 1), "f4"), []
    for block in encoder.blocks:
        x = block(x)
        sizes.append(x.shape[1:])
    assert sizes == [(14, 14, 16), (14, 14, 16), (7, 7, 32), (7, 7, 32), (4, 4, 32)]
    assert [block.shortcut is not None for block in encoder.blocks] == [True, False, True, False, True]
    assert encoder.units.weight.shape == (512, 450) and encoder.heads.weight.shape == (450, 64)
    h, back = np.zeros((1, *decoder.start), "f4"), []
    for block, size in zip(decoder.blocks, [(7, 7), None, (14, 14), None, (28, 28)], strict=True):
        h = block(h, size)
        back.append(h.shape[1:])
    assert back == [(7, 7, 32), (7, 7, 32), (14, 14, 16), (14, 14, 16), (28, 28, 1)]
    assert decoder(np.zeros((2, 3, 32), "f4")).shape == (2, 3, 784)


def test_the_bound_of_a_residual_network_by_finite_differences():
    vae = resnet()
    x = (images(4, (5, 6, 1)) > 0.5).astype("float64")
    with nn.initialise_by_data():
        vae.elbo(x, Generator(1))
    spread_biases(vae)
    eps = np.random.default_rng(0).normal(size=(2, 4, 3))
    report = gradcheck(
        lambda: ops.sum(vae.elbo(x, eps=eps, estimator="A")), parameters=vae, coordinates=3, directions=1
    )
    assert report.ok, f"\n{report}"


def test_a_block_without_change_adds_to_what_it_is_given():
    block = ResidualBlock(3, 3, Generator(0))
    block.second.gain.assign(np.zeros(3))
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 3)).astype("f4")
    np.testing.assert_array_equal(block(x).data, x)


# -------------------------------------------------------------------------------------------------- the ResNet VAE
@pytest.mark.parametrize("form", ["gated", "location"])
@pytest.mark.parametrize("hidden", [0, 1, 2])
def test_the_determinant_of_a_masked_flow(form, hidden):
    flow = MaskedFlow(2, 4, hidden, Generator(0), form=form, dtype="float64")
    rng = np.random.default_rng(0)
    z, context = rng.normal(size=(1, 3, 2, 2)), rng.normal(size=(1, 3, 2, 4))
    by_engine = jacobian(lambda z: flow(z, context)[0], z)
    assert np.array_equal(by_engine, np.tril(by_engine)) and not np.allclose(by_engine, np.diag(np.diag(by_engine)))
    _, log_det = flow(z, context)
    sign, expected = np.linalg.slogdet(by_engine)
    assert sign == 1.0 and np.isclose(np.sum(np.broadcast_to(np.asarray(log_det), z.shape)), expected, atol=1e-12)


MODELS = {
    "bidirectional": {},
    "bottom-up": {"inference": "bottom-up"},
    "linear flow": {"flow_hidden": 0},
    "two steps": {"flow_hidden": 1, "flow_steps": 2},
    "bottom-up, location": {"inference": "bottom-up", "flow_hidden": 1, "flow_form": "location"},
}


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_the_bound_of_the_resnet_vae_by_finite_differences(options):
    vae = ResNetVAE(SHAPE, 2, 4, 2, rng=Generator(0), dtype="float64", **options)
    x = images(3)
    with nn.initialise_by_data():
        vae.elbo(x, Generator(1))
    spread_biases(vae)

    def bound():
        reconstruction, kl = vae.reconstruction_and_kl(x, Generator(2))
        return free_bits(reconstruction, kl, 0.01)

    report = gradcheck(bound, parameters=vae, coordinates=2, directions=1)
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_weights_average_to_the_likelihood(options):
    """E_q[p(x, z) / q(z | x)] = p(x) for any q: two posteriors of one model must agree, or log q is not q's density."""
    vae = ResNetVAE((2, 2, 1), 2, 2, 1, rng=Generator(0), dtype="float64", **options)
    x = images(1, (2, 2, 1))
    with nn.initialise_by_data():
        vae.elbo(images(50, (2, 2, 1), seed=1), Generator(1))
    vae.log_scale.assign(np.zeros(1))  # wide: few draws will do

    def likelihood(seed):
        with no_grad():
            w = np.exp(np.asarray(vae.log_weights(x, Generator(seed), 20_000)))
        return w.mean(), w.std() / np.sqrt(len(w))

    first = likelihood(2)
    for name, p in vae.named_parameters():  # another q, the same p
        if name.startswith(("ups", "inward", "flows")):
            p.assign(p.data + 0.1 * np.random.default_rng(3).normal(size=p.shape))
    second = likelihood(4)
    assert abs(first[0] - second[0]) < 5 * np.hypot(first[1], second[1])
    assert first[1] / first[0] < 0.1  # or it would say little


def test_shapes_and_samples():
    vae = ResNetVAE(SHAPE, 3, 4, 2, rng=Generator(0), flow_hidden=1)
    x = images(5, dtype="f4")
    reconstruction, kl = vae.reconstruction_and_kl(x, Generator(0), 2)
    assert reconstruction.shape == (10,) and kl.shape == (10, 6)
    assert vae.log_weights(x, Generator(0), 7).shape == (7, 5) and vae.elbo(x, Generator(0)).shape == (5,)
    means, draws = vae.sample(4, Generator(0))
    assert means.shape == draws.shape == (4, 48) and set(np.unique(np.rint(255 * draws) - 255 * draws)) == {0.0}


@pytest.mark.parametrize("pool", [None, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(7, 10, 2), (8, 8, 1)])
def test_a_classifier_with_windows_of_any_size(pool, shape):
    model = ConvolutionalClassifier(shape, (3, 4), (5,), 6, size=3, pool=pool, rng=Generator(0), dtype="float64")
    x, labels = images(3, shape), np.array([0, 2, 5])
    spread_biases(model)
    assert gradcheck(lambda: model.log_prob(x, labels).mean(), parameters=model).ok
