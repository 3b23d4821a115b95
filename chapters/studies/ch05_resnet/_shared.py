"""Chapter 5 with convolutions: residual networks, posteriors by inverse autoregressive flow (thesis 5.6, 5.A, 5.B)."""

# %% [markdown]
# Two networks: that of Table 5.1 (appendix 5.A), a VAE with one layer of 32 latents between a residual encoder and its
# mirror image; and the ResNet VAE of appendix 5.B, with feature maps of latents in every unit. In the library they are
#
#     encoder, decoder = ResNetEncoder((28, 28, 1), 64, rng), ResNetDecoder(32, (28, 28, 1), rng)
#     VAE(784, latents=32, encoder=encoder, decoder=decoder, rng=rng)
#     ResNetVAE((32, 32, 3), depth=4, maps=64, latents=16, inference="bidirectional", flow_hidden=1, rng=rng)
#
# Optimizer, step size, minibatches and epochs are in neither appendix. Taken here, from the authors' code (openai/iaf):
# AdaMax with step size 2e-3; outputs of 0.1 as standard deviation after the initialisation by data; log q - log p of
# the drawn z for the KL term, counted for each feature map and layer. Ours to choose: minibatches, widths and epochs.

# %%
from types import SimpleNamespace

import numpy as np

from minivi import bounds, data, evaluation, flows, nn, optim
from minivi.models import VAE, ResNetDecoder, ResNetEncoder, ResNetVAE
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi.training import fit

# %% [markdown]
# ## The network of appendix 5.A
#
# "Between every other strided convolution" is read as: a block of stride 1 between two of stride 2, in each of the two
# places. Blocks are pre-activation ones; where the text says nothing the mirror image decides.


# %%
def images(run, name):
    """Training images; a part of the test images, binary once for all; how to prepare a minibatch of the former."""
    if ("binary", name) not in run.shared:
        loaded = data.load(name, data.describe(name)["splits"][0])
        test = data.fresh(loaded.test, Generator(2))[: run.settings.images]
        shape = (*loaded.shape, 1)
        run.shared["binary", name] = SimpleNamespace(name=name, train=loaded.train, test=test, shape=shape)
    return run.shared["binary", name]


def new_vae(s, shape, spec, seed):
    """Appendix 5.A's VAE with a diagonal posterior, or ``spec["steps"]`` steps of flow of ``spec["width"]`` units."""
    rng, steps = Generator([seed, 90]), spec.get("steps", 0)
    flow = None
    if steps:
        options = {"gate_bias": 2.0, "context": s.context, "activation": "elu"}
        flow = flows.iaf(s.latents, steps, [spec["width"]] * 2, Generator([seed, 91]), **options)
    context = s.context if steps else 0
    decoder = ResNetDecoder(s.latents, shape, rng, maps=s.maps, units=s.units)
    encoder = ResNetEncoder(shape, 2 * s.latents + context, rng, maps=s.maps, units=s.units)
    return VAE(
        int(np.prod(shape)), latents=s.latents, encoder=encoder, decoder=decoder, flow=flow, context=context, rng=rng
    )


def trained_vae(run, sets, spec, seed, evaluate=None):
    """The model of ``spec`` after training by the sampled bound, and its history."""
    s = run.settings

    def start():
        model = new_vae(s, sets.shape, spec, seed)
        with nn.initialise_by_data():
            model.elbo(data.fresh(sets.train[: s.batch], Generator([seed, 92])), Generator([seed, 93]))
        return model, lambda x, rng: -model.elbo(x, rng, estimator="A").mean(), optim.AdaMax(model.parameters(), 2e-3)

    label = "_".join(f"{key}{value}" for key, value in spec.items()) or "diagonal"
    model, history, _ = run.train(
        f"{sets.name}_{label}_seed{seed}", start, sets.train[: s.train], epochs=s.epochs, batch_size=s.batch,
        rng=Generator([seed, 94]), prepare=data.fresh, evaluate=evaluate,
    )  # fmt: skip
    return model, history


# %% [markdown]
# ## The ResNet VAE: a cell of the sweeps


# %%
def levels(name):
    """Of a pixel: 17 for the small digits, else 256."""
    return 17 if name == "digits" else 256


def resnet_bits(
    source, images, test, depth, maps, latents, inference="bidirectional", flow_hidden=-1, flow_steps=1,
    flow_form="gated", activation="elu", minimum=0.25, epochs=1, batch=32, seed=0, samples=0,
):  # fmt: skip
    """A cell: train a ResNet VAE; bits per dimension of test images by epoch, and nats in each layer of latents.

    ``flow_hidden`` of -1 is a factorised Gaussian posterior; ``minimum`` is lambda of eq. 5.33, in nats.
    """
    loaded = data.load(source, None, False)
    shape = loaded.shape if len(loaded.shape) == 3 else (*loaded.shape, 1)
    train, held_out = loaded.train[:images], loaded.test[:test]
    model = ResNetVAE(
        shape, depth, maps, latents, inference=inference, flow_hidden=None if flow_hidden < 0 else flow_hidden,
        flow_steps=flow_steps, flow_form=flow_form, activation=activation, levels=levels(source),
        rng=Generator([seed, 95]),
    )  # fmt: skip
    with nn.initialise_by_data():
        model.elbo(train[:batch], Generator([seed, 96]))

    def loss(x, rng):
        return -bounds.free_bits(*model.reconstruction_and_kl(x, rng), minimum)

    def evaluate(epoch):
        return {"bits": measured(model, held_out, epoch)[0]}

    history = fit(
        model, loss, optim.AdaMax(model.parameters(), 2e-3), train, epochs=epochs, batch_size=batch,
        rng=Generator([seed, 97]), evaluate=evaluate, progress=False,
    )  # fmt: skip
    bits, error, layers = measured(model, held_out, 0)
    result = {"bits": bits, "error": error, "layers": layers, "by_epoch": history.column("bits").tolist()}
    if samples:
        few = held_out[: max(1, test // 10)]
        log_p = evaluation.log_likelihood(model, few, Generator([seed, 98]), samples, progress=False)
        result["importance"] = evaluation.bits_per_dimension(log_p.mean, few.shape[1])
        result["bound"] = measured(model, few, 0)[0]
    return result


def measured(model, x, seed):
    """Bits per dimension of images, its standard error, and the mean nats of each layer of latents, from the bottom."""
    values, layers = [], []
    with no_grad():
        for i in range(0, len(x), 100):
            reconstruction, kl = model.reconstruction_and_kl(x[i : i + 100], Generator([99, seed, i]))
            layers.append(np.asarray(kl).reshape(len(kl), model.depth, -1).sum(axis=2))
            values.append(np.asarray(reconstruction) - layers[-1].sum(axis=1))
    bits = evaluation.bits_per_dimension(np.concatenate(values).astype(np.float64), x.shape[1])
    nats = np.concatenate(layers).mean(axis=0)
    return float(bits.mean()), float(bits.std(ddof=1) / np.sqrt(len(bits))), [float(n) for n in nats]
