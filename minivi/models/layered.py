"""Several layers of latent variables, inferred bottom-up (Burda et al. 2015; review report, section 4.4).

inference    x ──► q(z_1 | x) ──► z_1 ──► q(z_2 | z_1) ──► z_2             log q = sum_l log q(z_l | z_{l-1})
generation   x ◄── p(x | z_1) ◄── z_1 ◄── p(z_1 | z_2) ◄── z_2 ~ N(0, I)   log p = sum_l log p(z_{l-1} | z_l)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from minivi import validate
from minivi.distributions import Bernoulli, Normal
from minivi.models.vae import Terms
from minivi.nn import ACTIVATIONS, MLP, Module, glorot
from minivi.protocols import Rng
from minivi.tensor import Tensor, no_grad


class LayeredVAE(Module):
    """A chain of Gaussian latent layers above Bernoulli pixels; each arrow is an MLP.

    Args:
        pixels: D, the length of a datum.
        hidden: for each stochastic layer, from the bottom, the sizes of the hidden layers between it and the one
            below; generation mirrors them. Burda's two-layer model is ``[(200, 200), (100, 100)]``.
        latents: sizes of the stochastic layers, from the bottom: ``[100, 50]``.
        activation: of the hidden layers.
        rng: generator of the initial weights.
        init: their initialiser, see :mod:`minivi.nn`.
        output_bias: initial bias of the pixels' logits, a number or shape (D,).
        dtype: "float32" or "float64".

    Raises:
        ValueError: no layers, or another number of ``hidden`` than of ``latents``; a size below 1; an unknown
            activation; no generator.
    """

    def __init__(
        self,
        pixels: int,
        hidden: Sequence[Sequence[int]],
        latents: Sequence[int],
        activation: str = "tanh",
        *,
        rng: Rng,
        init: Callable = glorot,
        output_bias: Any = 0.0,
        dtype: Any = "float32",
    ):
        check_groups("LayeredVAE", pixels, hidden, latents)
        validate.one_of(activation, "LayeredVAE: activation", ACTIVATIONS)
        self.pixels, self.sizes = pixels, tuple(latents)
        below = (pixels, *latents[:-1])
        settings = {"activation": activation, "init": init, "dtype": dtype}
        self.encoders = [MLP((b, *h, 2 * j), rng, **settings) for b, h, j in zip(below, hidden, latents, strict=True)]
        self.decoders = [
            MLP((j, *reversed(h), 2 * b if level else b), rng, out_bias=0.0 if level else output_bias, **settings)
            for level, (b, h, j) in enumerate(zip(below, hidden, latents, strict=True))
        ]

    @property
    def dtype(self) -> np.dtype:
        """Of the parameters, hence of data and noise."""
        return self.encoders[0].layers[0].weight.dtype

    def encode(self, below: Any, level: int = 0) -> Normal:
        """q(z_1 | x) or, at a higher ``level``, q(z_{level+1} | z_level): (..., D) -> parameters (..., J).

        Raises:
            ValueError: a wrong number of columns, no such level, or ``x`` with NaN or infinity.
        """
        self._check("encode", below, level, (self.pixels, *self.sizes)[:-1])
        if level == 0:
            validate.finite(below, "LayeredVAE.encode: x")
        return gaussian_of_heads(self.encoders[level](below))

    def decode(self, above: Any, level: int = 0) -> Bernoulli | Normal:
        """p(x | z_1) or, at a higher ``level``, p(z_level | z_{level+1}): (..., J) -> parameters (..., D).

        Raises:
            ValueError: a wrong number of columns, or no such level.
        """
        self._check("decode", above, level, self.sizes)
        heads = self.decoders[level](above)
        return gaussian_of_heads(heads) if level else Bernoulli(heads)

    def _check(self, method, values, level, columns):
        if level not in range(len(columns)):
            raise ValueError(f"LayeredVAE.{method}: no level {level!r}; there are {len(columns)}, counted from 0")
        if np.shape(values)[-1:] != (columns[level],):
            raise ValueError(
                f"LayeredVAE.{method}: an input of shape {np.shape(values)}; level {level} takes (..., "
                f"{columns[level]})"
            )

    def terms(
        self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, eps: Sequence[np.ndarray] | None = None
    ) -> Terms:
        """One pass: sample upwards K times, then score every arrow of the generative model.

        Args:
            x: data (B, D).
            rng: generator of the noise; or
            eps: the noise itself, for each layer (K, B, J_l), for checks.
            samples: K.

        Raises:
            ValueError: x that is not (B, D) with values in [0, 1]; no samples; noise of other shapes, or none.
        """
        validate.rows(x, "LayeredVAE: x", self.pixels)
        if eps is None:
            validate.count(samples, "LayeredVAE: samples")
            validate.generator(rng, "LayeredVAE: rng")
            eps = [rng.standard_normal((samples, len(x), j), dtype=self.dtype) for j in self.sizes]
        shapes = [np.shape(e) for e in eps]
        if not shapes or not shapes[0] or shapes != [(shapes[0][0], len(x), j) for j in self.sizes] or 0 in shapes[0]:
            raise ValueError(f"LayeredVAE: eps of shapes {shapes}; pass (K, {len(x)}, J) for each J of {self.sizes}")
        q, z, below = [], [], x
        for level, noise in enumerate(eps):  # the lowest network runs once for all samples, those above for each
            q.append(self.encode(below, level))
            z.append(q[-1].rsample(noise))
            below = z[-1]
        log_qz_x = reduce(add, [p.log_prob_of_noise(e) for p, e in zip(q, eps, strict=True)])
        zero = np.zeros(self.sizes[-1], self.dtype)
        log_pz = Normal(zero, zero).log_prob(z[-1])
        for level in range(1, len(z)):
            log_pz = log_pz + self.decode(z[level], level).log_prob(z[level - 1])
        return Terms(q, z, self.decode(z[0]).log_prob(x), log_pz, log_qz_x)

    def log_weights(self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, eps: Any = None) -> Tensor:
        """log p(x, z_k) - log q(z_k | x) in nats, (K, B); arguments as for :meth:`terms`."""
        return self.terms(x, rng, samples, eps).log_w

    def held_log_q(self, x: np.ndarray, terms: Terms) -> Tensor:
        """log q(z | x), (K, B), with the inference networks' weights as constants: see :meth:`VAE.held_log_q`.

        A sample z_l stays a variable also where it is the input of the next network.
        """
        inputs = [x, *terms.z[:-1]]
        held = [gaussian_of_heads(e.detached()(i)) for e, i in zip(self.encoders, inputs, strict=True)]
        return reduce(add, [q.log_prob(z) for q, z in zip(held, terms.z, strict=True)])

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """The mean of p(x | z_1) at z_1 = the mean of q(z_1 | x): (B, D) -> (B, D)."""
        validate.unit_interval(x, "LayeredVAE.reconstruct: x")
        with no_grad():
            return np.asarray(self.decode(self.encode(x).mu).mean)

    def sample(self, count: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """Ancestral draws from the top layer down: the mean images and the draws, both (count, D)."""
        validate.count(count, "LayeredVAE.sample: count", 0)
        validate.generator(rng, "LayeredVAE.sample: rng")
        z = rng.standard_normal((count, self.sizes[-1]), dtype=self.dtype)
        with no_grad():
            for level in range(len(self.sizes) - 1, 0, -1):
                z = self.decode(z, level).sample(rng)
            p = self.decode(z)
            return np.asarray(p.mean), p.sample(rng)


def check_groups(name: str, pixels: Any, hidden: Any, latents: Any) -> None:
    """Sizes of a chain of layers, or ValueError: one group of hidden layers for each stochastic layer."""
    validate.count(pixels, f"{name}: pixels")
    validate.sizes(latents, f"{name}: latents", 1)
    if not isinstance(hidden, Sequence) or len(hidden) != len(latents):
        raise ValueError(
            f"{name}: hidden {validate.brief(hidden)} for {len(latents)} stochastic layers; one group for each, as in "
            "[(200, 200), (100, 100)]"
        )
    for group in hidden:
        validate.sizes(group, f"{name}: hidden, each group,")


def gaussian_of_heads(heads: Any) -> Normal:
    """A Gaussian of a network's outputs (..., 2 J): the means, then twice log sigma."""
    half = heads.shape[-1] // 2
    return Normal(heads[..., :half], 0.5 * heads[..., half:])
