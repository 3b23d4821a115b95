"""Chapter 5 with convolutions: the ResNet VAE (thesis section 5.6.2, appendix 5.B)."""

# %% [markdown]
# A VAE with feature maps of latents in every one of its residual units; in the library it is
#
#     ResNetVAE((32, 32, 3), depth=4, maps=64, latents=16, inference="bidirectional", flow_hidden=1, rng=rng)
#
# Optimizer, step size, minibatches and epochs are not in the appendix. Taken here, from the authors' code (openai/iaf):
# AdaMax with step size 2e-3; outputs of 0.1 as standard deviation after the initialisation by data; log q - log p of
# the drawn z for the KL term, counted for each feature map and layer. Ours to choose: minibatches, widths and epochs.
# The network of appendix 5.A, that of Table 5.1, is in chapter `ch05_iaf`.

# %%
import numpy as np

from minivi import bounds, data, evaluation, nn, optim
from minivi.experiments.results import mean_and_error
from minivi.models import ResNetVAE
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi.training import fit

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
    bits, error, layers, errors = measured(model, held_out, 0)
    result = {"bits": bits, "error": error, "layers": layers, "layer_errors": errors}
    result["by_epoch"] = history.column("bits").tolist()
    if samples:
        few = held_out[: max(1, test // 10)]
        log_p = evaluation.log_likelihood(model, few, Generator([seed, 98]), samples, progress=False)
        result["importance"] = evaluation.bits_per_dimension(log_p.mean, few.shape[1])
        result["bound"] = measured(model, few, 0)[0]
    return result


def measured(model, x, seed):
    """Bits per dimension of images and its standard error; mean nats of each layer of latents, from the bottom, too."""
    values, layers = [], []
    with no_grad():
        for i in range(0, len(x), 100):
            reconstruction, kl = model.reconstruction_and_kl(x[i : i + 100], Generator([99, seed, i]))
            layers.append(np.asarray(kl).reshape(len(kl), model.depth, -1).sum(axis=2))
            values.append(np.asarray(reconstruction) - layers[-1].sum(axis=1))
    bits = evaluation.bits_per_dimension(np.concatenate(values).astype(np.float64), x.shape[1])
    nats = [mean_and_error(layer) for layer in np.concatenate(layers).astype(np.float64).T]
    return *mean_and_error(bits), *map(list, zip(*nats, strict=True))
