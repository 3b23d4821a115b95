"""Layers: named parameters, linear maps, multi-layer perceptrons, masked and noisy ones; initial values."""

from minivi.nn.layers import ACTIVATIONS, MLP, Linear, Module, dropout, glorot, he, logit_of_mean, normal
from minivi.nn.made import MADE
from minivi.nn.noisy import DropoutLinear, GaussianLinear, InputDropoutLinear

__all__ = [
    "ACTIVATIONS",
    "MADE",
    "MLP",
    "DropoutLinear",
    "GaussianLinear",
    "InputDropoutLinear",
    "Linear",
    "Module",
    "dropout",
    "glorot",
    "he",
    "logit_of_mean",
    "normal",
]
