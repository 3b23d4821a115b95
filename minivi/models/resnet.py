"""Residual networks on images: the encoder and decoder of thesis appendix 5.A, and the blocks that they are made of.

    block:    x ──► ELU ──► conv 3x3 ──► ELU ──► conv 3x3 ──► (+) ──►       (He et al. 2015, 2016: pre-activation)
              └───────────── x, or a convolution ─────────────┘             where height, width or channels change

    encoder:  28x28x1 ──► 14x14x16 ──► = ──► 7x7x32 ──► = ──► 4x4x32 ──► 450 units ──► heads
    decoder:  its mirror image, by transposed convolutions

Images come and go as rows of D = H W C numbers, as everywhere in this library, and are (B, H, W, C) inside. All layers
have weight normalisation: call the model once in :func:`minivi.nn.initialise_by_data` before training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minivi import ops, validate
from minivi.nn import ACTIVATIONS, Conv2d, ConvTranspose2d, Linear, Module
from minivi.nn.layers import normal
from minivi.protocols import Rng
from minivi.tensor import Tensor

__all__ = ["ResNetDecoder", "ResNetEncoder", "ResidualBlock"]

START = normal(0.05)  # of directions, which weight normalisation scales (Salimans & Kingma 2016)


class ResidualBlock(Module):
    """x + two 3x3 convolutions of x, each behind an activation; a convolution of x for x where shapes differ.

    Args:
        inputs, outputs: numbers of channels.
        rng: generator of the initial weights.
        stride: of the convolution that changes height and width: the first going down, the last going up.
        up: whether the stride makes images larger, by transposed convolutions.
        activation: "elu", "relu", ...
        dtype: "float32" or "float64".
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: Rng,
        *,
        stride: int = 1,
        up: bool = False,
        activation: str = "elu",
        dtype: Any = "float32",
    ):
        validate.one_of(activation, "ResidualBlock: activation", ACTIVATIONS)
        options = {"init": START, "weight_norm": True, "dtype": dtype}
        change = {"stride": stride, **options}
        self.activation, self.up = activation, up
        if up:
            self.first = Conv2d(inputs, inputs, 3, rng, **options)
            self.second = ConvTranspose2d(inputs, outputs, 3, rng, scale=0.1, **change)
        else:
            self.first = Conv2d(inputs, outputs, 3, rng, **change)
            self.second = Conv2d(outputs, outputs, 3, rng, scale=0.1, **options)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = (ConvTranspose2d if up else Conv2d)(inputs, outputs, 3, rng, **change)

    def __call__(self, x: Any, size: tuple[int, int] | None = None) -> Tensor:
        """(B, H, W, inputs) -> (B, H', W', outputs); ``size`` is (H', W') going up."""
        act = ACTIVATIONS[self.activation]
        size = (size,) if self.up else ()
        y = self.second(act(self.first(act(x))), *size)
        return y + (x if self.shortcut is None else self.shortcut(x, *size))


class ResNetEncoder(Module):
    """Rows of pixels -> rows of numbers, by residual blocks and a fully connected layer (thesis 5.A).

    Args:
        shape: of an image, (H, W, C).
        outputs: numbers for each image, the heads of a :class:`~minivi.models.VAE`.
        rng: generator of the initial weights.
        maps: channels after each block of stride 2; a block of stride 1 follows each but the last.
        units: of the fully connected layer.
        activation, dtype: as for :class:`ResidualBlock`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        rng: Rng,
        *,
        maps: Sequence[int] = (16, 32, 32),
        units: int = 450,
        activation: str = "elu",
        dtype: Any = "float32",
    ):
        validate.sizes(maps, "ResNetEncoder: maps", 1)
        self.shape, self.activation = tuple(shape), activation
        options = {"activation": activation, "dtype": dtype}
        self.blocks = []
        height, width, channels = shape
        for i, n in enumerate(maps):
            self.blocks.append(ResidualBlock(channels, n, rng, stride=2, **options))
            if i < len(maps) - 1:
                self.blocks.append(ResidualBlock(n, n, rng, **options))
            height, width, channels = -(-height // 2), -(-width // 2), n
        full = {"init": START, "weight_norm": True, "dtype": dtype}
        self.units = Linear(height * width * channels, units, rng, **full)
        self.heads = Linear(units, outputs, rng, scale=0.1, **full)

    def __call__(self, x: Any) -> Tensor:
        """(..., H W C) -> (..., outputs)."""
        act, rows = ACTIVATIONS[self.activation], x.shape[:-1]
        h = ops.reshape(x, shape=(-1, *self.shape))
        for block in self.blocks:
            h = block(h)
        h = act(self.units(act(ops.reshape(h, shape=(len(h), -1)))))
        return ops.reshape(self.heads(h), shape=(*rows, -1))


class ResNetDecoder(Module):
    """Rows of latents -> rows of numbers, one for each pixel: the mirror image of :class:`ResNetEncoder` (thesis 5.A).

    Args:
        latents: J.
        shape: of the result, (H, W, C).
        rng, maps, units, activation, dtype: as for the encoder, whose ``maps`` it takes from the last to the first.
    """

    def __init__(
        self,
        latents: int,
        shape: tuple[int, int, int],
        rng: Rng,
        *,
        maps: Sequence[int] = (16, 32, 32),
        units: int = 450,
        activation: str = "elu",
        dtype: Any = "float32",
    ):
        validate.sizes(maps, "ResNetDecoder: maps", 1)
        self.shape, self.activation = tuple(shape), activation
        sizes = [tuple(shape[:2])]
        for _ in maps:
            sizes.append(tuple(-(-n // 2) for n in sizes[-1]))
        self.sizes = sizes[::-1]
        full = {"init": START, "weight_norm": True, "dtype": dtype}
        self.start = (*self.sizes[0], maps[-1])
        self.units = Linear(latents, units, rng, **full)
        self.spread = Linear(units, math.prod(self.start), rng, **full)
        self.blocks = []
        options = {"activation": activation, "dtype": dtype}
        below = [shape[2], *maps]
        for i in reversed(range(len(maps))):
            if i < len(maps) - 1:
                self.blocks.append(ResidualBlock(maps[i], maps[i], rng, **options))
            self.blocks.append(ResidualBlock(maps[i], below[i], rng, stride=2, up=True, **options))

    def __call__(self, z: Any) -> Tensor:
        """(..., J) -> (..., H W C)."""
        act, rows = ACTIVATIONS[self.activation], z.shape[:-1]
        h = self.spread(act(self.units(ops.reshape(z, shape=(-1, z.shape[-1])))))
        h, sizes = ops.reshape(h, shape=(-1, *self.start)), iter(self.sizes[1:])
        for block in self.blocks:
            h = block(h, next(sizes) if block.up else None)
        return ops.reshape(h, shape=(*rows, -1))
