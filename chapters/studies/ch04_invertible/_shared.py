"""Chapter 4, invertible transformations: NICE and Real NVP as models of data (thesis section 4.4).

A map from data to noise whose Jacobian determinant is cheap gives a density of the data. Which densities can coupling
layers learn, what do they cost in either direction, and how near do they come to autoregressive models?
"""

# %% [markdown]
# The density is the noise's, times what the map f does to volumes:
#
#     log p(x) = log N(f(x); 0, I) + log |det df/dx|          sample: x = f^-1(eps)
#
# A coupling layer (`minivi.flows`) leaves one half of x as it is and moves the other half by a network of the first:
#
#     NICE        x_b -> x_b + m(x_a)                      |det| = 1: a last layer scales each dimension
#     Real NVP    x_b -> x_b exp(s(x_a)) + m(x_a)          log |det| = sum s(x_a)
#
# Both are undone by a single pass of the same network. An autoregressive model of continuous data is the same idea with
# all dimensions in sequence (eq. 5.19): one pass from data to noise, D passes back.

# %%
import numpy as np

from minivi import evaluation, nn, ops, optim
from minivi.distributions import Normal
from minivi.experiments.results import mean_and_error
from minivi.flows import (
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    FlowDensity,
    InverseAutoregressive,
    Permutation,
    Scaling,
)
from minivi.models import VAE
from minivi.random import Generator

# %% [markdown]
# ## Models
#
# Layers take turns at moving the halves. In images these are the even and the odd pixels, as in NICE.


# %%
def standard(size, dtype="float32"):
    """N(0, I)."""
    return Normal(np.zeros(size, dtype), np.zeros(size, dtype))


def coupling_model(kind, size, hidden, layers, rng, interleave=False, dtype="float32"):
    """NICE or Real NVP with so many coupling layers; Real NVP too may scale each dimension at the end."""
    layer = {"NICE": AdditiveCoupling, "Real NVP": AffineCoupling}[kind]
    flows = [layer(size, hidden, rng, swap=bool(i % 2), activation="relu", dtype=dtype) for i in range(layers)]
    first = [Permutation(np.r_[0:size:2, 1:size:2])] if interleave else []
    return FlowDensity(Chain([*first, *flows, Scaling(size, dtype=dtype)]), standard(size, dtype))


def autoregressive_model(size, hidden, rng, dtype="float32"):
    """N(x_j; mu_j(x_<j), sigma_j(x_<j)^2) for each dimension, by MADE: a flow of one step (eq. 5.19)."""
    made = nn.MADE(size, hidden, rng, outputs=2, dtype=dtype)
    return FlowDensity(InverseAutoregressive(made, "whitening"), standard(size, dtype))


class AutoregressiveMixture(nn.Module):
    """A mixture of K normal distributions for each dimension, by MADE with 3 K outputs."""

    def __init__(self, size, hidden, components, rng, dtype="float32"):
        k = components
        bias = np.concatenate([np.zeros(k), np.linspace(-1.0, 1.0, k) if k > 1 else [0.0], np.zeros(k)])
        self.components = k
        self.made = nn.MADE(size, hidden, rng, outputs=3 * k, out_bias=bias, dtype=dtype)

    def log_prob(self, x):
        """log p(x) in nats: (..., D) -> (...)."""
        y, k = self.made(x), self.components
        mu, log_sigma = y[..., k : 2 * k], y[..., 2 * k :]
        eps = (x[..., None] - mu) * ops.exp(-log_sigma)
        each = ops.log_softmax(y[..., :k]) - 0.5 * eps * eps - log_sigma - 0.5 * np.log(2 * np.pi)
        return ops.sum(ops.log_sum_exp(each, axis=-1), axis=-1)


def trained(run, name, new_model, train, epochs, prepare=None, validation=None):
    """Maximise log p of minibatches; the step size falls to 0 in the second half. Returns the model and its history.

    With ``validation`` data, the weights of the epoch that is best on them are kept. Of a VAE it is the bound.
    """
    s = run.settings
    half = epochs * -(-len(train) // s.batch) / 2

    def start():
        model = new_model()
        optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))
        if isinstance(model, VAE):
            return model, lambda x, rng: -model.elbo(x, rng).mean(), optimizer
        return model, lambda x, rng: -model.log_prob(x).mean(), optimizer

    def evaluate(model, epoch):
        if isinstance(model, VAE):
            values = evaluation.elbo(model, validation, Generator([10, epoch])).values
        else:
            values = evaluation.log_prob(model, validation)
        mean, error = mean_and_error(values)
        return {"validation": mean, "validation_error": error}

    watch = {} if validation is None else {"monitor": "validation", "evaluate": evaluate}
    model, history, _ = run.train(
        name, start, train, epochs=epochs, batch_size=s.batch, rng=Generator([run.seed, 2]), prepare=prepare, **watch
    )
    return model, history
