"""Layers: named parameters, linear maps, multi-layer perceptrons, masked autoregressive networks; initial values."""

from minivi.nn.layers import ACTIVATIONS, MLP, Linear, Module, dropout, glorot, he, logit_of_mean, normal
from minivi.nn.made import MADE

__all__ = [
    "ACTIVATIONS",
    "MADE",
    "MLP",
    "Linear",
    "Module",
    "dropout",
    "glorot",
    "he",
    "logit_of_mean",
    "normal",
]
