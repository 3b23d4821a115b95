"""Latent-variable models. Each offers ``log_weights(x, rng, samples)`` and the parts that it is made of."""

from .full_vb import FullVB
from .layered import LayeredVAE
from .vae import VAE, Terms

__all__ = ["VAE", "FullVB", "LayeredVAE", "Terms"]
