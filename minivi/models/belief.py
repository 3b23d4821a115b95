"""Sigmoid belief networks: layers of binary latents above binary pixels, and their recognition networks.

inference    x ──► q(h_1 | x) ──► h_1 ──► q(h_2 | h_1) ──► h_2
generation   x ◄── p(x | h_1) ◄── h_1 ◄── p(h_1 | h_2) ◄── h_2 ~ p(h_2)

A layer's units are independent given the layer that feeds them, or each depends on those before it in the same layer.
(Neal 1992; Mnih & Gregor 2014; review report sections 4.2, 4.5; refinement report section 5.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from minivi import kernels, ops, validate
from minivi.distributions import Bernoulli
from minivi.nn import ACTIVATIONS, MLP, Module, glorot
from minivi.protocols import Rng
from minivi.tensor import Parameter, Tensor, no_grad

WORDS = ("prior", "posterior", "pixels")
MOST = 16  # binary latents that are enumerated: 65,536 states
CHUNK = 4 * 1024 * 1024  # floats of the largest array of an enumeration


class BinaryLayer(Module):
    """J binary units given C numbers: logits by a network, and with ``autoregressive`` also of the units before.

    logit_j = network(context)_j + sum_{i < j} V_ij h_i

    Args:
        inputs: C; 0 for a layer that nothing feeds, whose logits are biases.
        units: J.
        hidden: sizes of deterministic hidden layers of the network.
        autoregressive: with V, a matrix that is zero but above its diagonal, and begins as zero.
        rng, activation, init, bias, dtype: as for :class:`minivi.nn.MLP`.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        hidden: Sequence[int] = (),
        autoregressive: bool = False,
        *,
        rng: Rng,
        activation: str = "tanh",
        init: Callable = glorot,
        bias: Any = 0.0,
        dtype: Any = "float32",
    ):
        self.units = units
        if inputs:
            options = {"activation": activation, "init": init, "out_bias": bias, "dtype": dtype}
            self.network = MLP((inputs, *hidden, units), rng, **options)
        else:
            self.bias = Parameter(np.broadcast_to(np.asarray(bias, float), (units,)), dtype=dtype)
        if autoregressive:
            self.lateral = Parameter(np.zeros((units, units)), dtype=dtype)
            self.ranges = kernels.Ranges(np.triu(np.ones((units, units)), 1))

    def apply_masks(self) -> None:
        """Set V to zero but above its diagonal: needed after assigning one that comes from elsewhere."""
        if self.autoregressive:
            self.lateral.assign(self.lateral.data * self.ranges.mask)

    @property
    def autoregressive(self) -> bool:
        """Whether units depend on those before them."""
        return hasattr(self, "lateral")

    def logits(self, context: Any) -> Any:
        """What the context gives, (..., J); ``context`` is (..., C), or of any kind where nothing feeds the layer."""
        return self.network(context) if hasattr(self, "network") else self.bias

    def score(self, h: Any, logits: Any) -> Any:
        """log-probability of ``h`` (..., J) in nats, (...)."""
        if self.autoregressive:
            logits = logits + ops.masked_matmul(h, self.lateral, ranges=self.ranges)
        return Bernoulli(logits).log_prob(h)

    def draw(self, logits: Any, rng: Rng, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Units of shape (*shape, ..., J), from :meth:`logits`."""
        if not self.autoregressive:
            return Bernoulli(logits).sample(rng, shape)
        start = np.broadcast_to(np.asanyarray(logits), (*shape, *np.shape(logits))).reshape(-1, self.units)
        uniform = rng.random(start.shape, dtype=start.dtype)
        none = np.zeros((0, self.units + 1), np.int64)
        h, _ = kernels.autoregressive_sample(uniform, start, [self.lateral.data], none, "tanh")
        return h.reshape(*shape, *np.shape(logits))


class BeliefNetwork(Module):
    """A belief network of any depth and its recognition network.

    Args:
        pixels: D, the length of a datum.
        latents: units of each layer of latents, from the bottom.
        hidden: for each layer of latents, the sizes of deterministic hidden layers between it and the one below; None
            for none.
        mirrored: generation has them too, in reverse order; otherwise inference alone has them.
        activation: of these.
        autoregressive: which layers depend on their own units, words among "prior" (the latents' in p), "posterior"
            (in q) and "pixels".
        rng: generator of the initial weights.
        init: their initialiser, see :mod:`minivi.nn`.
        output_bias: initial bias of the pixels' logits, a number or shape (D,).
        dtype: "float32" or "float64".

    Attributes:
        sizes: units of each layer of latents.
        latents: their sum.

    Raises:
        ValueError: no layers, or another number of ``hidden`` than of ``latents``; a size below 1; an unknown word or
            activation; no generator.

    Example:
        >>> from minivi import Generator
        >>> network = BeliefNetwork(pixels=64, latents=(20, 10), rng=Generator(0))
        >>> x = np.zeros((5, 64), "float32")
        >>> network.log_weights(x, Generator(1), samples=7).shape
        (7, 5)
    """

    def __init__(
        self,
        pixels: int,
        latents: Sequence[int] = (200,),
        hidden: Sequence[Sequence[int]] | None = None,
        activation: str = "tanh",
        autoregressive: Sequence[str] = (),
        *,
        mirrored: bool = True,
        rng: Rng,
        init: Callable = glorot,
        output_bias: Any = 0.0,
        dtype: Any = "float32",
    ):
        validate.count(pixels, "BeliefNetwork: pixels")
        validate.sizes(latents, "BeliefNetwork: latents", 1)
        validate.one_of(activation, "BeliefNetwork: activation", ACTIVATIONS)
        validate.generator(rng, "BeliefNetwork: rng")
        hidden = [()] * len(latents) if hidden is None else hidden
        if not isinstance(hidden, Sequence) or len(hidden) != len(latents):
            raise ValueError(
                f"BeliefNetwork: hidden {validate.brief(hidden)} for {len(latents)} layers of latents; one group for "
                "each, such as [(240,)], or None"
            )
        for group in hidden:
            validate.sizes(group, "BeliefNetwork: hidden, each group,")
        words = autoregressive if isinstance(autoregressive, Iterable) else [autoregressive]
        if isinstance(words, str) or not all(word in WORDS for word in words):
            raise ValueError(f"BeliefNetwork: autoregressive {autoregressive!r}; pass words among {WORDS}")
        self.pixels, self.sizes, self.latents = pixels, tuple(latents), int(sum(latents))
        below = (pixels, *latents[:-1])
        options = {"rng": rng, "activation": activation, "init": init, "dtype": dtype}
        prior, posterior, grid = (word in autoregressive for word in WORDS)
        self.encoder = [
            BinaryLayer(b, j, h, posterior, **options) for b, j, h in zip(below, latents, hidden, strict=True)
        ]
        generative = [tuple(group)[::-1] if mirrored else () for group in hidden]
        self.decoder = [
            BinaryLayer(j, b, h, prior if level else grid, bias=0.0 if level else output_bias, **options)
            for level, (b, j, h) in enumerate(zip(below, latents, generative, strict=True))
        ]
        self.decoder.append(BinaryLayer(0, latents[-1], (), prior, **options))

    @property
    def dtype(self) -> np.dtype:
        """Of the parameters, hence of data and latents."""
        return self.encoder[0].network.layers[0].weight.dtype

    def encode(self, below: Any, level: int = 0) -> Bernoulli:
        """q(h_1 | x) or, at a higher ``level``, q(h_{level+1} | h_level): (..., D) -> draws (..., J).

        Raises:
            ValueError: a wrong number of columns, no such level, NaN, or an autoregressive layer.
        """
        return self._independent("encode", self.encoder, below, level, (self.pixels, *self.sizes)[:-1])

    def decode(self, above: Any, level: int = 0) -> Bernoulli:
        """p(x | h_1) or, at a higher ``level``, p(h_level | h_{level+1}): (..., J) -> draws (..., D).

        Raises:
            ValueError: as :meth:`encode`.
        """
        return self._independent("decode", self.decoder[:-1], above, level, self.sizes)

    def prior(self) -> Bernoulli:
        """p(h_L) of the top layer, draws (J,); ValueError if it is autoregressive."""
        return self._independent("prior", self.decoder[-1:], np.zeros(0), 0, (0,))

    def _independent(self, method, layers, context, level, columns):
        validate.count(level, f"BeliefNetwork.{method}: level", 0)
        if level >= len(layers):
            raise ValueError(f"BeliefNetwork.{method}: no level {level!r}; there are {len(layers)}, counted from 0")
        if np.shape(context)[-1:] != (columns[level],):
            raise ValueError(
                f"BeliefNetwork.{method}: an input of shape {np.shape(context)}; level {level} takes (..., "
                f"{columns[level]})"
            )
        if layers[level].autoregressive:
            raise ValueError(
                f"BeliefNetwork.{method}: the units of an autoregressive layer depend on each other; use "
                "draw_and_score, log_p_parts and log_q_parts"
            )
        validate.finite(context, f"BeliefNetwork.{method}: the input")
        return Bernoulli(layers[level].logits(context))

    def draw(self, x: np.ndarray, rng: Rng, samples: int = 1) -> list[np.ndarray]:
        """K samples of every layer from q, (K, B, J) each, constants; arguments as for :meth:`draw_and_score`."""
        with no_grad():
            return self.draw_and_score(x, rng, samples)[0]

    def draw_and_score(self, x: np.ndarray, rng: Rng, samples: int = 1) -> tuple[list[np.ndarray], list[Tensor]]:
        """K samples of every layer from q, and their log-probabilities, from one pass upwards.

        Args:
            x: data (B, D) of zeros and ones.
            rng: generator of the samples.
            samples: K, a datum.

        Returns:
            Arrays (K, B, J), constants, and log q(h_1 | x), log q(h_2 | h_1), ..., each (K, B), in nats.

        Raises:
            ValueError: x that is not (B, D), or pixels that are no bits; no samples; no generator.
        """
        self._check_bits(x)
        validate.count(samples, "BeliefNetwork: samples")
        validate.generator(rng, "BeliefNetwork: rng")
        h, parts, below, shape = [], [], x, (samples,)
        for layer in self.encoder:  # the lowest network runs once for all samples, those above for each
            logits = layer.logits(below)
            below = layer.draw(logits, rng, shape)
            parts.append(layer.score(below, logits))
            h.append(below)
            shape = ()
        return h, parts

    def log_q_parts(self, x: Any, h: Sequence[Any]) -> list[Tensor]:
        """log q(h_1 | x), log q(h_2 | h_1), ..., each (K, B), in nats, of ``h``: (K, B, J) for each layer."""
        self._check_layers(h)
        self._check_bits(x)
        return [
            layer.score(own, layer.logits(below))
            for layer, own, below in zip(self.encoder, h, (x, *h[:-1]), strict=True)
        ]

    def log_p_parts(self, x: Any, h: Sequence[Any]) -> list[Tensor]:
        """log p(x | h_1), log p(h_1 | h_2), ..., log p(h_L), each (K, B), in nats, of ``h``: (K, B, J) a layer."""
        self._check_layers(h)
        self._check_bits(x)
        above = (*h, None)
        return [layer.score(own, layer.logits(a)) for layer, own, a in zip(self.decoder, (x, *h), above, strict=True)]

    def _check_bits(self, x):
        validate.rows(x, "BeliefNetwork: x", self.pixels)
        validate.bits(x, "BeliefNetwork: x")

    def _check_layers(self, h):
        shapes = [np.shape(a) for a in h] if isinstance(h, Sequence | np.ndarray) else validate.brief(h)
        if [shape[-1:] for shape in shapes] != [(j,) for j in self.sizes]:
            raise ValueError(f"BeliefNetwork: h of shapes {shapes}; pass an array (K, B, J) for each J of {self.sizes}")

    def log_weights(self, x: np.ndarray, rng: Rng, samples: int = 1) -> Tensor:
        """log p(x, h_k) - log q(h_k | x) in nats, (K, B); arguments as for :meth:`draw_and_score`."""
        h, log_q = self.draw_and_score(x, rng, samples)
        return reduce(add, self.log_p_parts(x, h)) - reduce(add, log_q)  # review report eq. 9

    def elbo(self, x: np.ndarray, rng: Rng, samples: int = 1) -> Tensor:
        """The evidence lower bound of each datum, (B,), in nats: the mean of :meth:`log_weights`.

        Its gradient is that of p alone: for q's, use an estimator of :mod:`minivi.estimators`.
        """
        return self.log_weights(x, rng, samples).mean(axis=0)  # review report eq. 1, 5, 12

    def dream(self, count: int, rng: Rng) -> tuple[np.ndarray, list[np.ndarray]]:
        """Ancestral draws of x, (count, D), and of each layer of latents, (count, J), from the top down."""
        _, *drawn = self._ancestral(count, rng)
        return drawn[0], drawn[1:]

    def sample(self, count: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """Ancestral draws: the mean images p(x | h_1), or where pixels depend on each other the draws, and the draws.

        Both are (count, D).
        """
        logits, x, *_ = self._ancestral(count, rng)
        return x if self.decoder[0].autoregressive else kernels.sigmoid(np.asanyarray(logits)), x

    def _ancestral(self, count, rng):
        """The pixels' logits, then x, h_1, ..., h_L."""
        validate.count(count, "BeliefNetwork: count", 0)
        validate.generator(rng, "BeliefNetwork: rng")
        drawn, above = [], np.zeros((count, 0), self.dtype)
        with no_grad():
            for layer in reversed(self.decoder):
                logits = layer.logits(above)
                above = layer.draw(logits, rng, () if drawn else (count,))
                drawn.append(above)
        return logits, *reversed(drawn)

    # -------------------------------------------------------------------------------------------- by enumeration
    def states(self) -> list[np.ndarray]:
        """All 2^J states of the latents: for each layer an array (2^J, 1, J_l) of zeros and ones.

        Raises:
            ValueError: more than 16 latents.
        """
        if self.latents > MOST:
            raise ValueError(f"BeliefNetwork: {self.latents} latents have 2^{self.latents} states; at most {MOST} fit")
        bits = (np.arange(2**self.latents)[:, None, None] >> np.arange(self.latents)) & 1
        return np.split(bits.astype(self.dtype), np.cumsum(self.sizes)[:-1], axis=-1)

    def exact_log_likelihood(self, x: np.ndarray) -> np.ndarray:
        """log p(x) of each datum by a sum over all states of the latents, float64 (N,), in nats.

        Raises:
            ValueError: more than 16 latents; x that is not (N, D), or pixels that are no bits.
        """
        self._check_bits(x)
        states, result = self.states(), np.full(len(x), -np.inf)
        size = max(1, CHUNK // (min(len(x), 100) * self.pixels))
        with no_grad():
            for row in range(0, len(x), 100):
                for i in range(0, len(states[0]), size):
                    parts = self.log_p_parts(x[row : row + 100], [h[i : i + size] for h in states])
                    joint = reduce(add, (np.asarray(part, np.float64) for part in parts))
                    own = result[row : row + 100]
                    own[:] = np.logaddexp(own, ops.log_sum_exp(joint, axis=0))
        return result
