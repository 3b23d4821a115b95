"""Checks of chapter 5's convolutional models (thesis section 5.6.2, appendices 5.A and 5.B) and of section 7.5.3."""

import itertools

import numpy as np
from scipy.signal import correlate2d
from scipy.stats import logistic

from minivi import bounds, evaluation, nn
from minivi.distributions import DiscretizedLogistic
from minivi.experiments import Claim, check
from minivi.models import ConvolutionalClassifier, ResNetDecoder, ResNetEncoder, ResNetVAE
from minivi.models.resnet_vae import MaskedFlow
from minivi.random import Generator
from minivi.small import jacobian
from minivi.tensor import grad, no_grad

# %% [markdown]
# ## Equation checks
#
# On images of a few pixels, in float64, with weights as the initialisation by data leaves them.


# %%
def small(seed=0, **options):
    """A ResNet VAE of 4x4 images and two units, and images."""
    model = ResNetVAE((4, 4, 1), 2, 4, 2, rng=Generator(seed), dtype="float64", **options)
    x = Generator(1).integers(0, 256, size=(20, 16)) / 255
    with nn.initialise_by_data():
        model.elbo(x, Generator(2))
    return model, x


@check("appendix 5.A", "sizes after each block: 14x14x16 twice, 7x7x32 twice, 4x4x32; 450 units; the mirror image")
def network_of_table_5_1():
    encoder, decoder = ResNetEncoder((28, 28, 1), 64, Generator(0)), ResNetDecoder(32, (28, 28, 1), Generator(1))
    h, sizes = np.zeros((1, 28, 28, 1), "float32"), []
    for block in encoder.blocks:
        h = block(h)
        sizes.append(h.shape[1:])
    expected = [(14, 14, 16), (14, 14, 16), (7, 7, 32), (7, 7, 32), (4, 4, 32)]
    h, back = np.zeros((1, *decoder.start), "float32"), []
    for block, size in zip(decoder.blocks, [(7, 7), None, (14, 14), None, (28, 28)], strict=True):
        h = block(h, size)
        back.append(h.shape[1:])
    mirror = [(7, 7, 32), (7, 7, 32), (14, 14, 16), (14, 14, 16), (28, 28, 1)]
    return [
        Claim(sum(a != b for a, b in zip(sizes, expected, strict=True)), "=", 0, 0.0, "encoder: other sizes"),
        Claim(sum(a != b for a, b in zip(back, mirror, strict=True)), "=", 0, 0.0, "decoder: other sizes"),
        Claim(encoder.units.weight.shape[1], "=", 450, 0.0, "units"),
    ]


@check("section 7.5.3", "a layer of the network is a correlation with its kernel, ReLU, and the largest of 3x3 windows")
def network_of_figure_7_3():
    model = ConvolutionalClassifier((6, 6, 1), (1,), (), 2, size=5, rng=Generator(0), dtype="float64")
    x = np.asarray(Generator(1).standard_normal((1, 36)))
    h = np.maximum(correlate2d(x.reshape(6, 6), model.convolutions[0].weight.data[..., 0, 0], "same"), 0.0)
    padded = np.pad(h, 1, constant_values=-np.inf)
    pooled = np.array([[padded[i : i + 3, j : j + 3].max() for j in (0, 2, 4)] for i in (0, 2, 4)])
    last = model.network.layers[0]
    ours = np.asarray(model(x).logits)[0]
    return Claim(np.abs(ours - pooled.ravel() @ last.weight.data - last.bias.data).max(), "=", 0.0, 1e-12)


@check("section 5.B.5", "the discretized logistic against SciPy's distribution function; masses sum to one")
def discretized_logistic():
    claims = []
    for mu, log_s in itertools.product((-0.5, 0.3, 1.2), (-5.0, -1.0)):
        k = np.arange(256)
        log_p = DiscretizedLogistic(np.full((1, 1), mu), np.full(1, log_s)).log_prob(k[:, None] / 255)
        q = logistic(mu, np.exp(log_s))
        inner = q.cdf((k + 1) / 256) - q.cdf(k / 256)
        worst = np.abs(np.exp(log_p) - inner)[1:-1].max()
        claims.append(Claim(worst, "=", 0.0, 1e-14, f"mu {mu}, log s {log_s}: CDF(x + 1/256) - CDF(x), inner levels"))
        claims.append(Claim(np.exp(log_p).sum(), "=", 1.0, 1e-12, f"mu {mu}, log s {log_s}: sum with the tails"))
        lost = 1.0 - inner.sum()  # as the text prints it
        tails = q.cdf(0.0) + q.sf(1.0)
        claims.append(Claim(lost, "=", tails, 1e-12, f"mu {mu}, log s {log_s}: what the printed form leaves out"))
    return claims


@check(
    "Table 5.2", "bits per dimension: log2 of the levels where all are alike; the entropy where the model is the truth"
)
def bits_of_known_entropy():
    p = DiscretizedLogistic(np.full(1, 0.4), np.full(1, -2.0))
    log_p = DiscretizedLogistic(np.full((1, 1), 0.4), np.full(1, -2.0)).log_prob(np.arange(256)[:, None] / 255)
    entropy = -np.sum(np.exp(log_p) * log_p) / np.log(2.0)
    x = p.sample(Generator(0), (100_000,))
    bits = evaluation.bits_per_dimension(np.asarray(p.log_prob(x)), 1)
    return [
        Claim(evaluation.bits_per_dimension(-16 * np.log(256.0), 16), "=", 8.0, 1e-12, "256 levels alike"),
        Claim(bits.mean(), "=", entropy, 5 * bits.std() / np.sqrt(len(bits)), "drawn levels: their entropy"),
    ]


@check("section 5.B.3", "a step of masked convolutions: its Jacobian is triangular, its log-determinant right")
def masked_flows():
    claims, rng = [], Generator(0)
    z, context = np.asarray(rng.standard_normal((1, 3, 2, 2))), np.asarray(rng.standard_normal((1, 3, 2, 4)))
    for hidden, form in itertools.product((0, 1, 2), ("gated", "location")):
        flow = MaskedFlow(2, 4, hidden, Generator(1), form=form, dtype="float64")
        moved = lambda row, flow=flow: flow(row.reshape(1, 3, 2, 2), context)[0].reshape(-1)
        j = jacobian(moved, z.ravel())
        log_det = np.sum(np.broadcast_to(np.asarray(flow(z, context)[1]), z.shape))
        what = f"{hidden} hidden layers, {form}"
        claims.append(Claim(np.abs(np.triu(j, 1)).max(), "=", 0.0, 0.0, f"{what}: above the diagonal"))
        claims.append(Claim(log_det, "=", np.linalg.slogdet(j)[1], 1e-8, f"{what}: log-determinant"))
    return claims


@check("section 5.B.3", "no hidden layers and location alone: a linear map, a Gaussian with off-diagonal covariance")
def linear_flow():
    flow, rng = MaskedFlow(2, 4, 0, Generator(1), form="location", dtype="float64"), Generator(0)
    context = np.asarray(rng.standard_normal((1, 2, 2, 4)))
    a, b = (np.asarray(rng.standard_normal((1, 2, 2, 2))) for _ in range(2))
    move = lambda z: np.asarray(flow(z, context)[0])
    j = jacobian(lambda row: flow(row.reshape(1, 2, 2, 2), context)[0].reshape(-1), a.ravel())
    return [
        Claim(np.abs(move(a) + move(b) - move(a + b) - move(0 * a)).max(), "=", 0.0, 1e-12, "affine in z"),
        Claim(
            np.abs((j @ j.T) - np.diag(np.diag(j @ j.T))).max(), ">=", 1e-3, 0.0, "largest covariance of two numbers"
        ),
    ]


@check("section 5.B.1", "E_q[p(x, z) / q(z | x)] is p(x): two posteriors of one model agree, in both directions")
def directions_of_inference():
    claims = []
    for options in ({}, {"inference": "bottom-up"}, {"flow_hidden": 1}, {"inference": "bottom-up", "flow_hidden": 0}):
        model, x = small(**options)
        model.log_scale.assign(np.zeros(1))  # wide: few draws will do
        found = []
        for seed in (3, 4):
            with no_grad():
                w = np.exp(np.asarray(model.log_weights(x[:1], Generator(seed), 5000)))
            found.append((w.mean(), w.std() / np.sqrt(len(w))))
            for name, p in model.named_parameters():  # another q, the same p
                if name.startswith(("ups", "inward", "flows")):
                    p.assign(p.data + 0.1 * np.asarray(Generator(5).standard_normal(p.shape)))
                if name.startswith("flows") and name.endswith("last.bias"):  # gates that hardly let anything through
                    p.assign(p.data + 2.0)
        (a, sa), (b, sb) = found
        label = ", ".join(f"{k} {v}" for k, v in options.items()) or "bidirectional"
        claims.append(Claim(a, "=", b, 5 * np.hypot(sa, sb), label))
    return claims


@check("5.33", "free bits a feature map: where a map has fewer nats than lambda its divergence has no gradient")
def free_bits_of_feature_maps():
    model, x = small()
    with no_grad():
        kl = np.asarray(model.reconstruction_and_kl(x, Generator(3))[1])
    means = kl.mean(axis=0)
    minimum = float(np.sort(means)[len(means) // 2] + 1e-6)

    def objective(parts):
        reconstruction, kl = model.reconstruction_and_kl(x, Generator(3))
        return bounds.free_bits(reconstruction, kl, minimum) if parts is None else kl.mean(axis=0)[parts].sum()

    def of_reconstruction():
        return model.reconstruction_and_kl(x, Generator(3))[0].mean()

    p = model.inward.weight
    paid = np.flatnonzero(means > minimum)
    expected = grad(of_reconstruction(), p) - grad(objective(paid), p)
    ours = float(np.asarray(objective(None)))
    by_hand = float(np.asarray(of_reconstruction())) - np.maximum(minimum, means).sum()
    return [
        Claim(ours, "=", by_hand, 1e-9, "the objective"),
        Claim(np.abs(grad(objective(None), p) - expected).max(), "=", 0.0, 1e-9, "its gradient"),
        Claim(kl.shape[1], "=", 4, 0.0, "groups: two maps in each of two layers"),
    ]


@check(
    "section 5.B.6", "initialisation by data: outputs of mean 0 and the layer's scale; the gradient is orthogonal to v"
)
def weight_normalisation():
    layer = nn.Conv2d(2, 3, 3, Generator(0), weight_norm=True, scale=0.1, dtype="float64")
    x = np.asarray(3.0 + 2.0 * Generator(1).standard_normal((10, 5, 5, 2)))
    with nn.initialise_by_data():
        layer(x)
    y = layer(x).data.reshape(-1, 3)
    g = grad((layer(x) ** 2.0).sum(), layer.weight)
    return [
        Claim(np.abs(y.mean(axis=0)).max(), "=", 0.0, 1e-12, "means"),
        Claim(np.abs(y.std(axis=0) - 0.1).max(), "=", 0.0, 1e-12, "standard deviations"),
        Claim(np.abs(np.sum(g * layer.weight.data, axis=(0, 1, 2))).max(), "=", 0.0, 1e-10, "v . gradient"),
    ]
