"""The ResNet VAE of thesis section 5.6.2 and appendix 5.B: several layers of latent feature maps, images of levels.

    x ──► conv, stride 2 ──► [up 1] ──► [up 2] ──► ... ──► [up L]                   upwards: deterministic
                               │ q_1      │ q_2              │ q_L
    x ◄── conv, stride 2 ◄── [down 1] ◄─ [down 2] ◄─ ... ◄─ [down L] ◄── h, learned       downwards: z_L, ..., z_1

Each unit is a residual one, h + f(h), whose f has one hidden layer:

    down:   h ──► ELU ──► conv ──► p(z_l | h): mu, log sigma           z_l ~ q(z_l | x, z_above), or p in synthesis
                               └─► deterministic part, z_l ──► ELU ──► conv ──► + h

With *bidirectional* inference q's mean and log sigma are sums of what the unit above x says (up) and of what the unit
that knows the latents above says (down); with *bottom-up* inference z_l is drawn on the way up, and what lies above
hears of it. A step of inverse autoregressive flow may follow, by masked convolutions over pixels and feature maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.distributions import DiscretizedLogistic
from minivi.kernels.shapes import LOG_2PI
from minivi.models.resnet import START
from minivi.nn import ACTIVATIONS, Conv2d, ConvTranspose2d, MaskedConv2d, Module
from minivi.protocols import Rng
from minivi.tensor import Parameter, Tensor, no_grad

__all__ = ["MaskedFlow", "ResNetVAE"]

GATE = 1.5  # a step begins by keeping most of z (section 5.4 has +1 to +2)
SCALE = 0.1  # of all outputs after the initialisation by data, as in the authors' code: every sigma begins near 1


class MaskedFlow(Module):
    """A step of inverse autoregressive flow on feature maps, by masked convolutions (thesis 5.B.3).

    A number of z is moved by a function of the numbers at the pixels before its own and in the maps before its own.

    Args:
        latents: feature maps of z.
        width: of each hidden layer and of the context, a multiple of ``latents``.
        hidden: number of hidden layers; with none the step is linear in z.
        rng: generator of the initial weights.
        form: "gated", z' = sigma z + (1 - sigma) m with sigma = sigmoid(s) (eq. 5.30-5.32), or "location", z' = z + m.
        activation, dtype: as for :class:`ResNetVAE`.
    """

    def __init__(
        self,
        latents: int,
        width: int,
        hidden: int,
        rng: Rng,
        *,
        form: str = "gated",
        activation: str = "elu",
        dtype: Any = "float32",
    ):
        validate.count(hidden, "MaskedFlow: hidden", 0)
        validate.one_of(form, "MaskedFlow: form", ("gated", "location"))
        self.form, self.activation = form, activation
        options = {"init": START, "weight_norm": True, "scale": SCALE, "dtype": dtype}
        masked = {"groups": latents, **options}
        sizes = [latents, *[width] * hidden]
        self.layers = [MaskedConv2d(i, o, 3, rng, **masked) for i, o in zip(sizes[:-1], sizes[1:], strict=True)]
        outputs = latents * (2 if form == "gated" else 1)
        self.last = MaskedConv2d(sizes[-1], outputs, 3, rng, strict=True, **masked)
        self.of_context = Conv2d(width, width if hidden else outputs, 1, rng, **options)

    def __call__(self, z: Any, context: Any) -> tuple[Tensor, Any]:
        """z' and the log-determinant's part of each number, all (B, H, W, latents), given the context (..., width)."""
        h, context = z, self.of_context(context)
        for i, layer in enumerate(self.layers):
            h = layer(h)
            h = ACTIVATIONS[self.activation](h + context if i == 0 else h)
        out = self.last(h) if self.layers else self.last(h) + context
        if self.form == "location":
            return z + out, 0.0
        m, gate = out[..., 0::2], out[..., 1::2] + GATE
        return m + ops.sigmoid(gate) * (z - m), -ops.softplus(-gate)  # eq. 5.30-5.32


class _Unit(Module):
    """One residual unit: convolutions before and behind its hidden layer, and how the former's channels are shared."""

    def __init__(self, maps, parts, latents, rng, activation, dtype, ends=False):
        options = {"init": START, "weight_norm": True, "scale": SCALE, "dtype": dtype}
        self.parts, self.activation = parts, activation
        self.first = Conv2d(maps, maps + sum(parts), 3, rng, **options)
        self.second = None if ends else Conv2d(maps + latents, maps, 3, rng, **options)

    def heads(self, h):
        """The deterministic hidden channels and the other parts, each with its channels."""
        out = self.first(ACTIVATIONS[self.activation](h))
        ends = np.cumsum([out.shape[-1] - sum(self.parts), *self.parts]).tolist()
        return [out[..., i:j] for i, j in zip([0, *ends[:-1]], ends, strict=True)]

    def add(self, h, hidden, z=None):
        """The unit's result from its hidden layer, with z as a part of it; None where nothing follows."""
        if self.second is None:
            return None
        hidden = hidden if z is None else ops.concatenate([hidden, z], axis=-1)
        return h + self.second(ACTIVATIONS[self.activation](hidden))


@dataclass
class _Latent:
    """What is known of one layer's z: its value, and log q of each number of it."""

    z: Any
    log_q: Any


class ResNetVAE(Module):
    """p(x, z_1, ..., z_L) and q by residual units on feature maps; pixels by discretized logistic distributions.

    Args:
        shape: of an image, (H, W, C), H and W even.
        depth: L, units and layers of latents.
        maps: deterministic feature maps of a unit.
        latents: stochastic feature maps of a unit, at half the height and width of an image.
        inference: "bidirectional" or "bottom-up" (5.B.1).
        flow_hidden: None for a factorised Gaussian q; else the hidden layers of each step of the flow: 0, 1 or 2.
        flow_steps: of the flow; pixels and maps change their order between two.
        flow_form: "gated" or "location", see :class:`MaskedFlow`.
        activation: "elu", "relu" or "softplus" (5.B.7).
        levels: of a pixel.
        rng: generator of the initial weights.
        dtype: "float32" or "float64".

    Raises:
        ValueError: an odd height or width; a size below 1; something unknown; ``maps`` that are no multiple of
            ``latents`` where there is a flow.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        depth: int = 4,
        maps: int = 64,
        latents: int = 16,
        *,
        inference: str = "bidirectional",
        flow_hidden: int | None = None,
        flow_steps: int = 1,
        flow_form: str = "gated",
        activation: str = "elu",
        levels: int = 256,
        rng: Rng,
        dtype: Any = "float32",
    ):
        for value, what in ((depth, "depth"), (maps, "maps"), (latents, "latents"), (flow_steps, "flow_steps")):
            validate.count(value, f"ResNetVAE: {what}")
        validate.one_of(inference, "ResNetVAE: inference", ("bidirectional", "bottom-up"))
        validate.one_of(activation, "ResNetVAE: activation", ACTIVATIONS)
        if len(shape) != 3 or shape[0] % 2 or shape[1] % 2:
            raise ValueError(f"ResNetVAE: images of {tuple(shape)}; pass (H, W, C) with even height and width")
        if flow_hidden is not None and maps % latents:
            raise ValueError(f"ResNetVAE: {maps} maps for a flow over {latents} latents; make them a multiple")
        self.shape, self.depth, self.latents, self.levels = tuple(shape), depth, latents, levels
        self.pixels, self.inference = int(np.prod(shape)), inference
        options = {"init": START, "weight_norm": True, "scale": SCALE, "dtype": dtype}
        self.inward = Conv2d(shape[2], maps, 5, rng, stride=2, **options)
        self.outward = ConvTranspose2d(maps, shape[2], 5, rng, stride=2, **options)
        self.top = Parameter(np.zeros(maps), dtype=dtype)
        self.log_scale = Parameter(np.full(shape[2], -2.0), dtype=dtype)
        both, unit = inference == "bidirectional", (rng, activation, dtype)
        context = [] if flow_hidden is None else [maps]
        up, down = [2 * latents, *context], [2 * latents, *([2 * latents, *context] if both else [])]
        self.ups = [_Unit(maps, up, 0 if both else latents, *unit, ends=i == depth - 1) for i in range(depth)]
        self.downs = [_Unit(maps, down, latents, *unit) for _ in range(depth)]
        steps = range(0 if flow_hidden is None else flow_steps)
        flow = {"form": flow_form, "activation": activation, "dtype": dtype}
        self.flows = [[MaskedFlow(latents, maps, flow_hidden, rng, **flow) for _ in steps] for _ in range(depth)]

    @property
    def dtype(self) -> np.dtype:
        """Of parameters and data."""
        return self.top.dtype

    def _posterior(self, layer, rng, heads, context):
        """A draw of q for the layer's z, through its flow (Algorithm 5)."""
        mu, log_sigma = heads[..., : self.latents], heads[..., self.latents :]
        eps = rng.standard_normal(mu.shape, dtype=self.dtype)
        z, log_q = mu + ops.exp(log_sigma) * eps, -0.5 * (eps * eps + LOG_2PI) - log_sigma
        for t, flow in enumerate(self.flows[layer]):
            if t:  # from the last pixel and map to the first
                z, log_q, context = (v[:, ::-1, ::-1, :] for v in (z, log_q, context))
                z, log_q = z[..., ::-1], log_q[..., ::-1]
            z, log_det = flow(z, context)
            log_q = log_q - log_det
        return _Latent(z, log_q)

    def _upwards(self, x, rng):
        """What each unit says of q, (heads, context); or with bottom-up inference its draw of z."""
        h = self.inward(ops.reshape(x, shape=(-1, *self.shape)) - 0.5)
        said = []
        for layer, unit in enumerate(self.ups):
            hidden, heads, *context = unit.heads(h)
            if self.inference == "bidirectional":
                said.append((heads, *context))
                h = unit.add(h, hidden)
            else:
                said.append(self._posterior(layer, rng, heads, *(context or [None])))
                h = unit.add(h, hidden, said[-1].z)
        return said

    def _downwards(self, count, rng, said=None):
        """p(x | z) and, for each layer, log q - log p of every number of z; draws of p where nothing is ``said``."""
        height, width, maps = self.shape[0] // 2, self.shape[1] // 2, self.top.size
        h, differences = ops.broadcast_to(self.top, shape=(count, height, width, maps)), []
        for layer in reversed(range(self.depth)):
            hidden, prior, *own = self.downs[layer].heads(h)
            mu, log_sigma = prior[..., : self.latents], prior[..., self.latents :]
            if said is None:
                z = mu + ops.exp(log_sigma) * rng.standard_normal(mu.shape, dtype=self.dtype)
            else:
                latent = said[layer]
                if not isinstance(latent, _Latent):  # q by both directions
                    heads, context = (a + b for a, b in zip(latent, own, strict=True)), None
                    heads, *context = heads
                    latent = self._posterior(layer, rng, heads, *(context or [None]))
                z = latent.z
                log_p = -0.5 * (ops.square((z - mu) * ops.exp(-log_sigma)) + LOG_2PI) - log_sigma
                differences.append(latent.log_q - log_p)
            h = self.downs[layer].add(h, hidden, z)
        mu = ops.reshape(self.outward(ACTIVATIONS[self.downs[0].activation](h)) + 0.5, shape=(count, -1))
        each = (*self.shape[:2], self.shape[2])
        log_scale = ops.reshape(ops.broadcast_to(self.log_scale, shape=each), shape=-1)
        return DiscretizedLogistic(mu, log_scale, self.levels), differences[::-1]

    def reconstruction_and_kl(self, x: np.ndarray, rng: Rng, samples: int = 1) -> tuple[Tensor, Tensor]:
        """log p(x | z), (K B,), and log q - log p of each group of latents, (K B, L latents), of K draws of z, in nats.

        A group is a feature map of a layer, from the bottom: what the free bits of eq. 5.33 are counted by.

        Raises:
            ValueError: ``x`` is not (B, D), or outside [0, 1].
        """
        validate.rows(x, "ResNetVAE: x", self.pixels)
        validate.generator(rng, "ResNetVAE: rng")
        x = x if samples == 1 else np.concatenate([x] * samples)
        p, differences = self._downwards(len(x), rng, self._upwards(x, rng))
        kl = [ops.sum(d, axis=(1, 2)) for d in differences]
        return p.log_prob(x), ops.concatenate(kl, axis=1)

    def log_weights(self, x: np.ndarray, rng: Rng, samples: int = 1) -> Tensor:
        """log p(x, z_k) - log q(z_k | x) in nats, (K, B)."""
        reconstruction, kl = self.reconstruction_and_kl(x, rng, samples)
        return ops.reshape(reconstruction - ops.sum(kl, axis=1), shape=(samples, -1))

    def elbo(self, x: np.ndarray, rng: Rng, samples: int = 1) -> Tensor:
        """The bound of each datum in nats, (B,), with the mean over K = ``samples`` draws."""
        return ops.mean(self.log_weights(x, rng, samples), axis=0)

    def sample(self, count: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """Ancestral draws: the locations of p(x | z), and draws of x, both (count, D)."""
        validate.count(count, "ResNetVAE.sample: count")
        with no_grad():
            p, _ = self._downwards(count, rng)
            return np.array(p.mean), p.sample(rng)
