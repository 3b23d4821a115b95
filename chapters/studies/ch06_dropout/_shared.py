"""Chapter 6: local reparameterisation and variational dropout (thesis sections 6.2 to 6.5)."""

# %% [markdown]
# A posterior over weights, w_ij ~ N(mu_ij, sigma_ij^2), makes the outputs of a layer Gaussian. Sampling these instead
# of the weights gives each datum noise of its own, and is as fast as a layer without noise (eq. 6.6):
#
#     b_mj = sum_i a_mi mu_ij + sqrt(sum_i a_mi^2 sigma_ij^2) zeta_mj
#
# With sigma^2 = alpha theta^2 that is Gaussian dropout; its prior is uniform in log |w|, so that alpha can be learned.
#
# Networks have three hidden layers of ReLU; rates are 0.2 at the input and 0.5 elsewhere (alpha = p / (1 - p)), Adam
# has its defaults, and parameters are averaged over time (section 7.6.2). The text gives no sizes: it takes "the same
# architecture as Srivastava et al.", whose network with three ReLU layers has 1,024 units each. Nor does it give the
# minibatches of training: in section 6.5.1 they are 1,000 here, like those whose gradients are compared. 50,000 images
# train; of the validation images the first 10,000 of the rest choose the epoch.

# %%
import numpy as np

from minivi.models import dropout_network
from minivi.optim import AveragedAdam
from minivi.random import Generator
from minivi.tensor import no_grad

DIGITS = {"data": "digits", "split": "1200/300/297"}
MNIST = {"data": "mnist", "split": "50000/10000/10000"}


def sizes(run, hidden):
    """Of a network for the run's images."""
    return (run.images(labels=True).train.shape[1], *hidden, 10)


def log_alphas(network):
    """log alpha of each layer that has one, a number a layer: the mean."""
    return [float(np.mean(np.asarray(layer.log_alpha))) for layer in network.layers if hasattr(layer, "log_alpha")]


def error(network, x, labels, optimizer=None):
    """Share of wrong predictions by mean weights, averaged over time if the optimizer has averages, in %."""
    with no_grad():
        if optimizer is None:
            logits = np.asarray(network(x).logits)
        else:
            with optimizer.average:
                logits = np.asarray(network(x).logits)
    return 100.0 * float(np.mean(np.argmax(logits, axis=1) != labels))


def trained_b(run, epochs, hidden, batch):
    """Variational dropout B, and its error on test images."""
    images = run.images(labels=True)

    def start():
        network = dropout_network(sizes(run, hidden), "variational B", Generator([run.seed, 60]))
        count = len(images.train)
        loss = lambda part, rng: -network.bound(*part, rng, count=count).mean()
        return network, loss, AveragedAdam(network.parameters())

    network, _, optimizer = run.train(
        f"variational_b_{run.settings.data}_{'_'.join(map(str, hidden))}_{batch}", start,
        (images.train, images.train_labels.astype(np.int64)), epochs=epochs, batch_size=batch,
        rng=Generator([run.seed, 61]),
    )  # fmt: skip
    return network, error(network, images.test, images.test_labels, optimizer)
