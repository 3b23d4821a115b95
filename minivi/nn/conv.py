"""Convolutional layers on images (B, H, W, C), channels last: plain, transposed, and masked to be autoregressive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.convolutions import pads, pair
from minivi.nn.layers import Weighted, he
from minivi.protocols import Rng
from minivi.tensor import Tensor

__all__ = ["Conv2d", "ConvTranspose2d", "MaskedConv2d"]


class Conv2d(Weighted):
    """A convolution: (B, H, W, I) -> (B, OH, OW, O).

    Args:
        inputs, outputs: numbers of channels I and O.
        size: height and width of the kernel, a number or two.
        rng: generator of the initial kernel.
        stride: steps from one output to the next, a number or two.
        padding: zeros around the image, see :func:`minivi.ops.conv2d`; "same", the default, keeps height and width
            where the stride is 1, and gives ceil(H / stride) else.
        init: ``init(rng, (KH KW I, O)) -> array``, such as :func:`~minivi.nn.he`.
        weight_norm, scale: as for :class:`~minivi.nn.Linear`.
        dtype: "float32" or "float64".

    Raises:
        ValueError: a size below 1, no generator, an initialiser that is no function.

    Example:
        >>> from minivi import Generator
        >>> layer = Conv2d(3, 16, 5, Generator(0), stride=2)
        >>> layer
        Conv2d(3 -> 16, 5x5, stride 2x2): 1,216 parameters
        >>> layer(np.zeros((10, 32, 32, 3), "float32")).shape
        (10, 16, 16, 16)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: Any,
        rng: Rng,
        *,
        stride: Any = 1,
        padding: Any = "same",
        init: Callable = he,
        weight_norm: bool = False,
        scale: float = 1.0,
        dtype: Any = "float32",
    ):
        name = type(self).__name__
        self.size, self.stride = pair(size), pair(stride)
        for value, what in ((inputs, "inputs"), (outputs, "outputs"), *((k, "size") for k in self.size)):
            validate.count(value, f"{name}: {what}")
        for step in self.stride:
            validate.count(step, f"{name}: stride")
        same = tuple(((k - 1) // 2, k // 2) for k in self.size)
        self.padding = same if isinstance(padding, str) and padding == "same" else pads(padding)
        self._build(self._weight_shape(inputs, outputs), rng, init, 0.0, weight_norm, scale, dtype)

    def _weight_shape(self, inputs, outputs):
        return (*self.size, inputs, outputs)

    def describe(self) -> str:
        """Such as "Conv2d(3 -> 16, 5x5, stride 2x2)"."""
        height, width, inputs, outputs = self.weight.shape
        if self.outputs_axis == 2:
            inputs, outputs = outputs, inputs
        stride = "" if self.stride == (1, 1) else f", stride {self.stride[0]}x{self.stride[1]}"
        return f"{type(self).__name__}({inputs} -> {outputs}, {height}x{width}{stride})"

    def _map(self, x):
        return ops.conv2d(x, self.effective_weight(), self.bias, stride=self.stride, padding=self.padding)


class ConvTranspose2d(Conv2d):
    """The transpose of a :class:`Conv2d` from ``outputs`` to ``inputs`` channels, with a bias of its own.

    ``layer(x)`` makes images ``stride`` times as high and wide; ``layer(x, (H, W))`` says which of the sizes from which
    the convolution would make that of ``x``. Arguments as for :class:`Conv2d`.
    """

    outputs_axis = 2

    def _weight_shape(self, inputs, outputs):
        return (*self.size, outputs, inputs)

    def _map(self, x, size=None):
        size = size or tuple(n * step for n, step in zip(x.shape[1:3], self.stride, strict=True))
        options = {"stride": self.stride, "padding": self.padding, "size": size}
        return ops.conv2d_transposed(x, self.effective_weight(), self.bias, **options)


class MaskedConv2d(Conv2d):
    """A convolution that is autoregressive over pixels, by rows, and over the channels of a pixel (PixelCNN).

    An output sees the pixels above and those to the left. Channels of input and output belong to ``groups`` in order,
    equally many to each; at the pixel itself an output sees the groups before its own and, unless ``strict``, its own.
    A chain of such layers of which the first (or the last) is strict makes output group g of a pixel a function of what
    comes before it. The taps below are left out, the others under the mask stay zero.

    Args:
        groups: G, of which the numbers of channels are multiples.
        strict: whether an output does not see its own group.
        others: as for :class:`Conv2d`; the stride is 1, the padding "same".

    Raises:
        ValueError: channels that are no multiple of ``groups``, an even size; as :class:`Conv2d`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        rng: Rng,
        *,
        groups: int = 1,
        strict: bool = False,
        init: Callable = he,
        weight_norm: bool = False,
        scale: float = 1.0,
        dtype: Any = "float32",
    ):
        validate.count(groups, "MaskedConv2d: groups")
        if inputs % groups or outputs % groups or size % 2 == 0:
            raise ValueError(
                f"MaskedConv2d: {inputs} and {outputs} channels in {groups} groups, size {size}; channels must be "
                "multiples of groups, and the size odd"
            )
        half = size // 2
        self.mask = np.ones((half + 1, size, inputs, outputs), bool)
        before = np.arange(inputs)[:, None] * groups // inputs, np.arange(outputs) * groups // outputs
        self.mask[half, half] = before[0] < before[1] if strict else before[0] <= before[1]
        self.mask[half, half + 1 :] = False
        super().__init__(
            inputs, outputs, (half + 1, size), rng, padding=((half, 0), (half, half)), init=init,
            weight_norm=weight_norm, scale=scale, dtype=dtype,
        )  # fmt: skip
        self.weight.assign(self.weight.data * self.mask)

    def effective_weight(self) -> Tensor:
        """The weights that the mask lets through."""
        masked = self.weight * self.mask
        if not hasattr(self, "gain"):
            return masked
        return masked * (self.gain / ops.maximum(self._norms(masked), 1e-12))
