"""Latent-variable models. Each offers ``log_weights(x, rng, samples)`` and the parts that it is made of."""

from .classifier import Classifier
from .directed import DirectedVAE
from .full_vb import FullVB
from .layered import LayeredVAE
from .vae import VAE, Terms

__all__ = ["VAE", "Classifier", "DirectedVAE", "FullVB", "LayeredVAE", "Terms"]
