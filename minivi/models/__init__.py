"""Latent-variable models. Each offers ``log_weights(x, rng, samples)`` and the parts that it is made of."""

from minivi.models.bayesian import BayesianNetwork, dropout_network, gaussian_network
from minivi.models.belief import BeliefNetwork
from minivi.models.classifier import Classifier, ConvolutionalClassifier
from minivi.models.directed import DirectedVAE
from minivi.models.full_vb import FullVB
from minivi.models.hamiltonian import HamiltonianVAE
from minivi.models.layered import LayeredVAE
from minivi.models.pbp import ProbabilisticBackpropagation
from minivi.models.resnet import ResNetDecoder, ResNetEncoder
from minivi.models.resnet_vae import ResNetVAE
from minivi.models.semi_supervised import SemiSupervisedVAE
from minivi.models.vae import VAE, Terms

__all__ = [
    "VAE",
    "BayesianNetwork",
    "BeliefNetwork",
    "Classifier",
    "ConvolutionalClassifier",
    "DirectedVAE",
    "FullVB",
    "HamiltonianVAE",
    "LayeredVAE",
    "ProbabilisticBackpropagation",
    "ResNetDecoder",
    "ResNetEncoder",
    "ResNetVAE",
    "SemiSupervisedVAE",
    "Terms",
    "dropout_network",
    "gaussian_network",
]
