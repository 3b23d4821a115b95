"""Networks that classify: p(y | x) = Categorical(y; p), p = NeuralNet(x) (thesis eq. 1.7, 1.8).

A perceptron, without hidden layers multinomial logistic regression; and convolutions in front of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.distributions import Categorical
from minivi.nn import ACTIVATIONS, MLP, Conv2d, Module, dropout, he
from minivi.protocols import Rng
from minivi.tensor import Tensor, no_grad


class Classifier(Module):
    """p(y | x) from an MLP, with dropout if asked for.

    Args:
        inputs: D, the length of a datum.
        hidden: sizes of the hidden layers; none is logistic regression.
        classes: C.
        activation: of the hidden layers.
        input_dropout: the share of inputs that training sets to zero.
        hidden_dropout: the share of hidden units that training sets to zero, in each hidden layer.
        rng: generator of the initial weights.
        init: their initialiser, see :mod:`minivi.nn`.
        dtype: "float32" or "float64".

    Raises:
        ValueError: a size below 1, an unknown activation, a share outside [0, 1), no generator.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        classes: int,
        activation: str = "relu",
        *,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        rng: Rng,
        init: Callable = he,
        dtype: Any = "float32",
    ):
        validate.count(inputs, "Classifier: inputs")
        validate.sizes(hidden, "Classifier: hidden")
        validate.count(classes, "Classifier: classes")
        validate.one_of(activation, "Classifier: activation", ACTIVATIONS)
        validate.number(input_dropout, "Classifier: input_dropout", 0, 1, "[)")
        validate.number(hidden_dropout, "Classifier: hidden_dropout", 0, 1, "[)")
        self.inputs = inputs
        self.network = MLP((inputs, *hidden, classes), rng, activation=activation, init=init, dtype=dtype)
        self.input_dropout, self.hidden_dropout = input_dropout, hidden_dropout

    def __call__(self, x: Any, rng: Rng | None = None) -> Categorical:
        """p(y | x): ``x`` (..., D), or (N, D) of ``scipy.sparse`` in compressed rows, -> logits (..., C).

        ``rng`` draws the dropped units, in training; without it none is dropped.

        Raises:
            ValueError: ``x`` does not have D columns.
        """
        if np.shape(x)[-1:] != (self.inputs,):
            raise ValueError(f"Classifier: x has shape {np.shape(x)}; this model takes (..., {self.inputs})")
        act = ACTIVATIONS[self.network.activation]
        x = dropout(x, self.input_dropout, rng)
        for layer in self.network.layers[:-1]:
            x = dropout(act(layer(x)), self.hidden_dropout, rng)
        return Categorical(self.network.layers[-1](x))

    def log_prob(self, x: Any, labels: Any, rng: Rng | None = None) -> Tensor:
        """log p(label | x) of each datum in nats, (...,); arguments as for ``__call__``.

        Raises:
            ValueError: not one label for each datum, or one that is no class.
        """
        if np.shape(labels) != np.shape(x)[:-1]:
            raise ValueError(f"Classifier.log_prob: labels of shape {np.shape(labels)} for x of shape {np.shape(x)}")
        return self(x, rng).log_prob(labels)

    def predict(self, x: Any) -> np.ndarray:
        """The most probable class of each datum, (...,) integers."""
        with no_grad():
            return np.argmax(np.asarray(self(x).logits), axis=-1)


class ConvolutionalClassifier(Classifier):
    """p(y | x) by convolutional layers and a perceptron on what they give (thesis 7.5.3 and 6.5.3).

    Each convolution keeps height and width and is followed by the activation and by max pooling; or with ``pool`` None
    it has a stride of 2 itself.

    Args:
        shape: of an image, (H, W, C); data are rows of H W C numbers.
        maps: channels of each convolution, such as (64, 64, 128).
        hidden: sizes of the perceptron's hidden layers, such as (1000,).
        classes: number of classes.
        size: height and width of the kernels.
        pool: size of the pooling windows, one every two pixels, with padding (pool - 1) // 2; or None.
        activation, input_dropout, hidden_dropout, rng, init, dtype: as for :class:`Classifier`; units of convolutions
            are not dropped.

    Raises:
        ValueError: as :class:`Classifier`; images that have no height, width and channels.

    Example:
        >>> from minivi import Generator
        >>> model = ConvolutionalClassifier((32, 32, 3), (8, 16), (20,), 10, rng=Generator(0))
        >>> model(np.zeros((4, 3072), "float32")).logits.shape
        (4, 10)
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        maps: Sequence[int],
        hidden: Sequence[int],
        classes: int,
        activation: str = "relu",
        *,
        size: int = 5,
        pool: int | None = 3,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        rng: Rng,
        init: Callable = he,
        dtype: Any = "float32",
    ):
        validate.sizes(shape, "ConvolutionalClassifier: shape", 3)
        validate.sizes(maps, "ConvolutionalClassifier: maps", 1)
        self.shape, self.pool = tuple(shape), pool
        stride, options = 2 if pool is None else 1, {"init": init, "dtype": dtype}
        self.convolutions = [
            Conv2d(i, o, size, rng, stride=stride, **options) for i, o in zip([shape[2], *maps[:-1]], maps, strict=True)
        ]
        down = 1 if pool is not None and pool % 2 == 0 else -1  # an even window leaves out the last of an odd number
        height, width = (down * (down * n // 2 ** len(maps)) for n in shape[:2])
        dropped = {"input_dropout": input_dropout, "hidden_dropout": hidden_dropout}
        super().__init__(height * width * maps[-1], hidden, classes, activation, rng=rng, **dropped, **options)
        self.inputs = math.prod(shape)

    def __call__(self, x: Any, rng: Rng | None = None) -> Categorical:
        """p(y | x): ``x`` (B, H W C) -> logits (B, classes); ``rng`` as for :class:`Classifier`.

        Raises:
            ValueError: ``x`` does not have H W C columns.
        """
        if np.shape(x)[1:] != (self.inputs,):
            raise ValueError(f"ConvolutionalClassifier: x has shape {np.shape(x)}; pass rows (B, {self.inputs})")
        act = ACTIVATIONS[self.network.activation]
        h = ops.reshape(dropout(x, self.input_dropout, rng), shape=(-1, *self.shape))
        for layer in self.convolutions:
            h = act(layer(h))
            h = h if self.pool is None else ops.max_pool2d(h, self.pool, 2, (self.pool - 1) // 2)
        h = ops.reshape(h, shape=(len(x), -1))
        for layer in self.network.layers[:-1]:
            h = dropout(act(layer(h)), self.hidden_dropout, rng)
        return Categorical(self.network.layers[-1](h))
