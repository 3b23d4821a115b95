"""Checks of chapter 2, reconstruction by autoencoders (AEVB report sections 1 and 4)."""

import numpy as np

from minivi.experiments import Claim, check
from minivi.small import PATTERNS, estimator_gap, small_vae
from minivi_chapters.studies.ch02_autoencoder.reconstruction import errors

# %% [markdown]
# ## The equations, checked
#
# Four pixels, random weights, float64.


# %%
def tiny(likelihood, latents=2):
    """A small model of four pixels."""
    return small_vae(5, latents, likelihood=likelihood)


@check(
    "2.71", "with one fixed sigma, the reconstruction term is minus the squared error over 2 sigma^2, and a constant"
)
def reconstruction_is_squared_error():
    """The model's log-density against its squared errors; sigma = 0.3 by the decoder's last biases."""
    model, sigma = tiny("gaussian"), 0.3
    weight, bias = (np.array(p) for p in (model.decoder.layers[-1].weight, model.decoder.layers[-1].bias))
    weight[:, 4:], bias[4:] = 0.0, np.log(sigma**2)
    model.decoder.layers[-1].weight.assign(weight)
    model.decoder.layers[-1].bias.assign(bias)
    x = np.random.default_rng(0).random((6, 4))
    nats, squared = errors(model, x)
    expected = squared / (2 * sigma**2) + 2 * np.log(2 * np.pi * sigma**2)
    return Claim(np.abs(nats - expected).max(), "=", 0.0, 1e-12, "largest difference over six images, nats")


@check("2.71, text", "H(x) minus the reconstruction error is at most the mutual information of x and z (infomax)")
def reconstruction_bounds_information():
    """x uniform over the patterns, z from q(z | x); the information integrated on a grid of one latent."""
    model = tiny("bernoulli", 1)
    z = np.linspace(-12.0, 12.0, 4001)
    q = model.encode(PATTERNS)
    mu, sigma = np.asarray(q.mu)[:, 0], np.exp(np.asarray(q.log_sigma))[:, 0]
    density = np.exp(-0.5 * ((z[:, None] - mu) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))  # (grid, 16)
    step = z[1] - z[0]
    ratio = np.log(density / density.mean(axis=1, keepdims=True), where=density > 0, out=np.zeros_like(density))
    information = np.sum(density * ratio) * step / 16
    log_px_z = np.asarray(model.decode(np.broadcast_to(z[:, None, None], (len(z), 16, 1))).log_prob(PATTERNS))
    bound = np.log(16) + np.sum(density * log_px_z) * step / 16
    # With the exact p(x | z) of this joint distribution in place of the decoder, the bound is met.
    exact = np.log(density / density.sum(axis=1, keepdims=True), where=density > 0, out=np.zeros_like(density))
    tight = np.log(16) + np.sum(density * exact) * step / 16
    return [
        Claim(bound, "<=", information, 0.0, "by the decoder"),
        Claim(tight, "=", information, 1e-10, "by Bayes' rule"),
    ]


@check("2.77", "the loss that trains the VAE: the divergence in closed form and by samples agree in the mean")
def loss_is_the_bound():
    """20,000 draws, within 4 standard errors."""
    gap, error = estimator_gap(tiny("bernoulli"), PATTERNS)
    return Claim(gap, "=", 0.0, 4 * error, "estimator B less estimator A")
