"""Networks whose weights have a posterior: variational inference of weights and dropout (thesis chapter 6).

log p(D) >= sum_i E_q(w)[log p(y_i | x_i, w)] - KL(q(w) || p(w))                                 (eq. 6.1, 6.2)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.distributions import Categorical, Normal
from minivi.nn import ACTIVATIONS, Module
from minivi.nn.noisy import DropoutLinear, GaussianLinear, InputDropoutLinear
from minivi.protocols import Rng
from minivi.tensor import Parameter, Tensor, no_grad

METHODS = ("none", "binary", "gaussian A", "gaussian B", "variational A", "variational B")


class BayesianNetwork(Module):
    """A classifier or a regression by layers of :mod:`minivi.nn` with noise, an activation between them.

    Args:
        layers: such as :class:`minivi.nn.GaussianLinear`, :class:`minivi.nn.DropoutLinear`.
        activation: of the hidden layers.
        likelihood: "categorical", or "normal" with one standard deviation, a parameter, for all outputs.
        noise: its initial value.

    Raises:
        ValueError: no layers, layers that do not fit, an unknown activation or likelihood.

    Example:
        >>> from minivi import Generator
        >>> network = dropout_network((64, 100, 10), "variational B", Generator(0))
        >>> x, y = np.zeros((20, 64), "float32"), np.arange(20) % 10
        >>> network.bound(x, y, Generator(1), count=1000).shape
        (20,)
    """

    def __init__(
        self, layers: Sequence[Any], activation: str = "relu", likelihood: str = "categorical", noise: float = 1.0
    ):
        validate.one_of(activation, "BayesianNetwork: activation", ACTIVATIONS)
        validate.one_of(likelihood, "BayesianNetwork: likelihood", ("categorical", "normal"))
        validate.number(noise, "BayesianNetwork: noise", 0, ends="(]")
        shapes = [layer.weight.shape for layer in layers]
        if not shapes or any(a[1] != b[0] for a, b in zip(shapes[:-1], shapes[1:], strict=True)):
            raise ValueError(f"BayesianNetwork: layers of shapes {shapes}; pass one or more that follow each other")
        self.layers, self.activation, self.likelihood = list(layers), activation, likelihood
        if likelihood == "normal":
            self.log_noise = Parameter(np.full(1, math.log(noise)), dtype=layers[0].weight.dtype)

    def _given(self, heads):
        if self.likelihood == "categorical":
            return Categorical(heads)
        return Normal(heads, ops.broadcast_to(self.log_noise, shape=heads.shape))

    def __call__(self, x: Any, rng: Rng | None = None) -> Categorical | Normal:
        """p(y | x, w) for sampled weights, or without ``rng`` for mean weights: x (B, D) -> (B, O)."""
        act = ACTIVATIONS[self.activation]
        validate.rows(x, "BayesianNetwork: x", self.layers[0].weight.shape[0])
        for layer in self.layers[:-1]:
            x = act(layer(x, rng))
        return self._given(self.layers[-1](x, rng))

    def kl(self) -> Any:
        """KL(q(w) || p(w)), all layers together: a scalar, in nats."""
        return sum(layer.kl() for layer in self.layers)

    def bound(self, x: Any, y: Any, rng: Rng, *, count: int, kl_weight: float = 1.0) -> Tensor:
        """Each datum's share of the bound on log p(D), (B,), in nats: log p(y | x, w) - KL / N (eq. 6.1 to 6.3, 6.10).

        Layers with a learned alpha are brought back to alpha <= 1 first (section 6.3.4). Where alpha is fixed the
        divergence is a constant, in which bounds of different methods differ.

        Args:
            x: data (B, D).
            y: labels (B,), or targets (B, O).
            rng: generator of the noise.
            count: N, the size of the data set.
            kl_weight: of the divergence; "A2" of section 6.5.3 has 1/3.

        Raises:
            ValueError: x of another shape, no generator, a ``count`` that is no positive integer.
        """
        validate.rows(x, "BayesianNetwork: x", self.layers[0].weight.shape[0])
        validate.generator(rng, "BayesianNetwork.bound: rng")
        validate.count(count, "BayesianNetwork.bound: count")
        validate.number(kl_weight, "BayesianNetwork.bound: kl_weight", 0)
        total, act = 0.0, ACTIVATIONS[self.activation]
        for n, layer in enumerate(self.layers):
            layer.constrain()
            x, kl = layer.with_kl(x if n == 0 else act(x), rng)
            total = total + kl
        return self._given(x).log_prob(y) - total * (kl_weight / count)  # eq. 6.3, 6.10

    def predict_proba(self, x: Any, rng: Rng | None = None, samples: int = 1) -> np.ndarray:
        """p(y | x) of each class, (B, C): with mean weights, or with ``rng`` the mean over ``samples`` of them."""
        validate.count(samples, "BayesianNetwork.predict_proba: samples")
        with no_grad():
            draws = [np.exp(np.asarray(self(x, rng).log_probs)) for _ in range(samples if rng else 1)]
        return np.mean(draws, axis=0)


def dropout_network(
    sizes: Sequence[int],
    method: str,
    rng: Rng,
    *,
    activation: str = "relu",
    input_rate: float = 0.2,
    hidden_rate: float = 0.5,
    learned: str = "layer",
    **options: Any,
) -> BayesianNetwork:
    """A classifier with one of the methods of Figure 6.1.

    Args:
        sizes: (inputs, hidden ..., classes).
        method: "none", "binary", "gaussian A", "gaussian B", "variational A" or "variational B".
        rng: generator of the initial weights.
        activation: of the hidden layers.
        input_rate, hidden_rate: dropout rates of inputs and of hidden units, or where learning starts.
        learned: what has an alpha of its own, for the variational methods.
        options: for each layer, such as ``sampling`` or ``dtype``.

    Raises:
        ValueError: an unknown method; as the layers.
    """
    validate.sizes(sizes, "dropout_network: sizes, at least an input and an output,", 2)
    validate.one_of(method, "dropout_network: method", METHODS)
    layers = []
    for n, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        rate = hidden_rate if n else input_rate
        if method in ("none", "binary"):
            layers.append(
                InputDropoutLinear(
                    inputs, outputs, rng, noise="binary", rate=0.0 if method == "none" else rate, **options
                )
            )
        else:
            kind = InputDropoutLinear if method.endswith("A") else DropoutLinear
            how = learned if method.startswith("variational") else "fixed"
            layers.append(kind(inputs, outputs, rng, rate=rate, learned=how, **options))
    return BayesianNetwork(layers, activation)


def gaussian_network(sizes: Sequence[int], rng: Rng, *, activation: str = "relu", **options: Any) -> BayesianNetwork:
    """A network of :class:`minivi.nn.GaussianLinear` layers; ``options`` go to each, and to the network's likelihood.

    Args:
        sizes: (inputs, hidden ..., outputs).
        rng: generator of the initial means.
        activation: of the hidden layers.
        options: ``likelihood`` and ``noise`` of :class:`BayesianNetwork`; others of the layers.
    """
    validate.sizes(sizes, "gaussian_network: sizes, at least an input and an output,", 2)
    own = {key: options.pop(key) for key in ("likelihood", "noise") if key in options}
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return BayesianNetwork([GaussianLinear(i, o, rng, **options) for i, o in pairs], activation, **own)
