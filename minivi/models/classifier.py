"""A multi-layer perceptron that classifies: p(y | x) = Categorical(y; p), p = NeuralNet(x) (thesis eq. 1.7, 1.8).

Without hidden layers it is multinomial logistic regression.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minivi import validate
from minivi.distributions import Categorical
from minivi.nn import ACTIVATIONS, MLP, Module, dropout, he
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
