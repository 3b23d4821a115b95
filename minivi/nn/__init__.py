"""Layers: named parameters, linear maps, convolutions, perceptrons, masked and noisy ones; initial values."""

from minivi.nn.conv import Conv2d, ConvTranspose2d, MaskedConv2d
from minivi.nn.layers import (
    ACTIVATIONS,
    MLP,
    Linear,
    Module,
    dropout,
    glorot,
    he,
    initialise_by_data,
    logit_of_mean,
    normal,
)
from minivi.nn.made import MADE
from minivi.nn.noisy import DropoutLinear, GaussianLinear, InputDropoutLinear

__all__ = [
    "ACTIVATIONS",
    "MADE",
    "MLP",
    "Conv2d",
    "ConvTranspose2d",
    "DropoutLinear",
    "GaussianLinear",
    "InputDropoutLinear",
    "Linear",
    "MaskedConv2d",
    "Module",
    "dropout",
    "glorot",
    "he",
    "initialise_by_data",
    "logit_of_mean",
    "normal",
]
