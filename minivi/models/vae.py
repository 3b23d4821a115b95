"""The variational auto-encoder of thesis section 2.11: p(z) = N(0, I), p(x | z) and q(z | x) by neural networks.

    x ──► encoder ──► mu, log sigma ──► z = mu + sigma * eps ──► decoder ──► p(x | z)         (eq. 2.38-2.40)

Every bound and estimator of the documents is made of the three log-densities that :class:`Terms` holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.distributions import Bernoulli, MultivariateNormal, Normal
from minivi.flows import Flow, FlowPosterior
from minivi.nn import ACTIVATIONS, MLP, Module, glorot
from minivi.protocols import Rng
from minivi.tensor import Tensor, no_grad


@dataclass
class Terms:
    """What one reparameterised pass through the model gives; log-densities in nats, shape (K, B).

    Attributes:
        q: the posterior q(z | x) of draws (B, J): a Normal, MultivariateNormal or FlowPosterior.
        z: the samples, (K, B, J).
        log_px_z, log_pz, log_qz_x: log p(x | z), log p(z) and log q(z | x).
    """

    q: Normal | FlowPosterior
    z: Tensor
    log_px_z: Tensor
    log_pz: Tensor
    log_qz_x: Tensor

    @property
    def log_w(self) -> Tensor:
        """log p(x, z) - log q(z | x), (K, B): the log-weights of eq. 2.57."""
        return self.log_px_z + self.log_pz - self.log_qz_x


class VAE(Module):
    """Encoder and decoder MLPs; the posterior is Gaussian, factorised or of full covariance, or a flow from there on.

    Args:
        pixels: D, the length of a datum.
        hidden: sizes of the hidden layers of the encoder; the decoder mirrors them.
        latents: J, the length of z.
        likelihood: "bernoulli" (eq. 2.74), or "gaussian" with means squashed to (0, 1) (eq. 2.75, section 2.11).
        activation: of the hidden layers.
        posterior: "diagonal" (eq. 2.37) or "full" (eq. 2.45-2.55), whose encoder gives J (J - 1) / 2 numbers more.
        flow: what the Gaussian goes through, over J dimensions (Algorithm 5); None for nothing.
        context: H, the length of the encoder's extra output h, which every step of the flow may use (eq. 5.24).
        encoder, decoder: networks in place of the perceptrons, (..., D) -> (..., heads) and (..., J) -> (..., outputs),
            such as those of :mod:`minivi.models.resnet`; ``heads`` are 2 J numbers, J (J - 1) / 2 more for a full
            covariance, and the context; outputs D logits, or 2 D numbers for "gaussian". ``hidden`` is then ignored.
        squash: whether the Gaussian's means are squashed to (0, 1); without it data may be any real numbers.
        rng: generator of the initial weights.
        init: their initialiser, see :mod:`minivi.nn`.
        output_bias: initial bias of the decoder's logits, a number or shape (D,).
        dtype: "float32" or "float64".

    Raises:
        ValueError: a size below 1; an unknown likelihood, activation or posterior; a context without a flow; a flow
            over another number of dimensions; no generator.

    Example:
        >>> from minivi import Generator
        >>> vae = VAE(pixels=64, hidden=(100,), latents=5, rng=Generator(0))
        >>> vae
        VAE(encoder=MLP(64-100-10, tanh), decoder=MLP(5-100-64, tanh)): 14,574 parameters
        >>> x = np.zeros((20, 64), "float32")
        >>> vae.encode(x).shape, vae.log_weights(x, Generator(1), samples=7).shape, vae.elbo(x, Generator(1)).shape
        ((20, 5), (7, 20), (20,))
    """

    def __init__(
        self,
        pixels: int,
        hidden: Sequence[int] = (500,),
        latents: int = 20,
        likelihood: str = "bernoulli",
        activation: str = "tanh",
        posterior: str = "diagonal",
        *,
        flow: Flow | None = None,
        context: int = 0,
        encoder: Callable | None = None,
        decoder: Callable | None = None,
        squash: bool = True,
        rng: Rng,
        init: Callable = glorot,
        output_bias: Any = 0.0,
        dtype: Any = "float32",
    ):
        validate.count(pixels, "VAE: pixels")
        validate.sizes(hidden, "VAE: hidden")
        validate.count(latents, "VAE: latents")
        validate.count(context, "VAE: context", 0)
        validate.one_of(likelihood, "VAE: likelihood", ("bernoulli", "gaussian"))
        validate.one_of(activation, "VAE: activation", ACTIVATIONS)
        validate.one_of(posterior, "VAE: posterior", ("diagonal", "full"))
        if flow is not None:
            validate.offers(flow, "VAE: flow", "forward", "inverse")
            if getattr(flow, "size", None) not in (None, latents):
                raise ValueError(f"VAE: a flow over {flow.size} dimensions for {latents} latents; make them the same")
        if context and flow is None:
            raise ValueError(f"VAE: context {context} without a flow; pass flow=, or leave the context out")
        self.pixels, self.latents, self.likelihood, self.posterior = pixels, latents, likelihood, posterior
        self.squash = squash
        # One matrix holds W4 and W5 of eq. 2.75: the last layer gives mu and log sigma^2 side by side, and for a full
        # covariance L' of eq. 2.53 below its diagonal, the only part that the mask of eq. 2.54 lets through. Then h.
        heads = 2 * latents + (latents * (latents - 1) // 2 if posterior == "full" else 0)
        self.gaussian_heads, self.flow = heads, flow
        self.encoder = encoder or MLP(
            (pixels, *hidden, heads + context), rng, activation=activation, init=init, dtype=dtype
        )
        if (
            posterior == "full" and encoder is None
        ):  # from L' = 0: random correlations cost nats that take epochs to win back
            last = self.encoder.layers[-1].weight
            columns = np.arange(last.shape[1])
            last.assign(np.where((columns < 2 * latents) | (columns >= heads), last.data, 0.0))
        if likelihood == "gaussian":
            output_bias = np.concatenate([np.broadcast_to(output_bias, pixels), np.zeros(pixels)])
        outputs = pixels if likelihood == "bernoulli" else 2 * pixels
        self.decoder = decoder or MLP(
            (latents, *reversed(hidden), outputs),
            rng,
            activation=activation,
            init=init,
            out_bias=output_bias,
            dtype=dtype,
        )

    @property
    def dtype(self) -> np.dtype:
        """Of the parameters, hence of data and noise."""
        layers = getattr(self.encoder, "layers", None)  # whose weights may be draws, which are no parameters
        return layers[0].weight.dtype if layers else next(self.encoder.named_parameters())[1].dtype

    def encode(self, x: Any) -> Normal | FlowPosterior:
        """q(z | x), eq. 2.36, 2.37 or 2.53, 2.54 or 5.24: ``x`` (..., D) -> a distribution of draws (..., J).

        Raises:
            ValueError: ``x`` does not have D columns, or has NaN or infinity.
        """
        validate.finite(x, "VAE.encode: x")
        if np.shape(x)[-1:] != (self.pixels,):
            raise ValueError(f"VAE.encode: x has shape {np.shape(x)}; this model takes (..., {self.pixels})")
        heads = self.encoder(x)
        j, end = self.latents, self.gaussian_heads
        q = Normal(heads[..., :j], 0.5 * heads[..., j : 2 * j])  # eq. 2.36, 2.37
        if self.posterior == "full":
            q = MultivariateNormal(q.mu, q.log_sigma, heads[..., 2 * j : end])  # eq. 2.53, 2.54
        if self.flow is None:
            return q
        return FlowPosterior(q, self.flow, heads[..., end:] if heads.shape[-1] > end else None)  # eq. 5.24

    def decode(self, z: Any) -> Bernoulli | Normal:
        """p(x | z), eq. 2.74 or 2.75: ``z`` (..., J) -> parameters (..., D); ValueError without J columns."""
        if np.shape(z)[-1:] != (self.latents,):
            raise ValueError(f"VAE.decode: z has shape {np.shape(z)}; this model takes (..., {self.latents})")
        heads = self.decoder(z)
        if self.likelihood == "bernoulli":
            return Bernoulli(heads)  # eq. 2.74
        mu = ops.sigmoid(heads[..., : self.pixels]) if self.squash else heads[..., : self.pixels]
        return Normal(mu, 0.5 * heads[..., self.pixels :])  # eq. 2.75

    def encode_with_noise(self, x: Any, rng: Rng | None, samples: int, eps: Any) -> tuple[Any, Any]:
        """q(z | x), and the noise to sample it with, (K, B, J): ``eps`` if it is given."""
        validate.rows(x, "VAE: x", self.pixels)
        if eps is None:
            validate.count(samples, "VAE: samples")
            validate.generator(rng, "VAE: rng")
            eps = rng.standard_normal((samples, len(x), self.latents), dtype=self.dtype)
        elif np.shape(eps)[1:] != (len(x), self.latents) or len(eps) == 0:
            raise ValueError(f"VAE: eps has shape {np.shape(eps)}; pass (K, {len(x)}, {self.latents}) for K samples")
        return self.encode(x), eps

    def terms(self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, eps: np.ndarray | None = None) -> Terms:
        """One pass: encode once, sample K times, decode (eq. 2.27-2.29).

        Args:
            x: data (B, D).
            rng: generator of the noise; or
            eps: the noise itself, (K, B, J), for checks.
            samples: K.

        Raises:
            ValueError: x that is not (B, D), has NaN, or with Bernoulli pixels lies outside [0, 1]; no samples; noise
                of another shape, or none.
        """
        q, eps = self.encode_with_noise(x, rng, samples, eps)
        z, log_qz_x = q.rsample_with_log_prob(eps)  # eq. 2.27-2.29
        prior = Normal(np.zeros(self.latents, self.dtype), np.zeros(self.latents, self.dtype))
        return Terms(q, z, self.decode(z).log_prob(x), prior.log_prob(z), log_qz_x)

    def log_weights(
        self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, eps: np.ndarray | None = None
    ) -> Tensor:
        """log p(x, z_k) - log q(z_k | x) in nats, (K, B); arguments as for :meth:`terms`."""
        return self.terms(x, rng, samples, eps).log_w

    @property
    def sizes(self) -> tuple[int]:
        """Of the layers of latents: one, (J,)."""
        return (self.latents,)

    def draw(self, x: np.ndarray, rng: Rng, samples: int = 1) -> list[np.ndarray]:
        """K samples z a datum, [(K, B, J)], constants; arguments as for :meth:`terms`."""
        return self._drawn(x, rng, samples)[0]

    def draw_and_score(self, x: np.ndarray, rng: Rng, samples: int = 1) -> tuple[list[np.ndarray], list[Tensor]]:
        """:meth:`draw`, and [log q(z | x)] of the samples, [(K, B)], in nats."""
        z, q = self._drawn(x, rng, samples)
        return z, [q.log_prob(z[0])]

    def _drawn(self, x, rng, samples):
        validate.rows(x, "VAE: x", self.pixels)
        validate.count(samples, "VAE: samples")
        validate.generator(rng, "VAE: rng")
        q = self.encode(x)
        return [q.sample(rng, (samples,))], q

    def log_q_parts(self, x: np.ndarray, h: Sequence[Any]) -> list[Tensor]:
        """[log q(z | x)], (K, B), in nats, of ``h`` = [z], z of shape (K, B, J)."""
        return [self.encode(x).log_prob(h[0])]

    def log_p_parts(self, x: np.ndarray, h: Sequence[Any]) -> list[Tensor]:
        """[log p(x | z), log p(z)], each (K, B), in nats, of ``h`` = [z], z of shape (K, B, J)."""
        prior = Normal(np.zeros(self.latents, self.dtype), np.zeros(self.latents, self.dtype))
        return [self.decode(h[0]).log_prob(x), prior.log_prob(h[0])]

    def dream(self, count: int, rng: Rng) -> tuple[np.ndarray, list[np.ndarray]]:
        """Draws of x, (count, D), and [z], [(count, J)], from p."""
        z = rng.standard_normal((count, self.latents), dtype=self.dtype)
        with no_grad():
            return self.decode(z).sample(rng), [z]

    def held_log_q(self, x: np.ndarray, terms: Terms) -> Tensor:
        """log q(z | x), (K, B), with q's parameters as constants: its gradient runs through the samples z alone."""
        return terms.q.detached().log_prob(terms.z)

    def reconstruction_and_posterior(
        self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, eps: np.ndarray | None = None
    ) -> tuple[Tensor, Normal]:
        """The two terms of eq. 2.71: E_q log p(x | z) by sampling, (B,) in nats, and q, whose ``kl()`` is the other.

        Arguments as for :meth:`terms`.
        """
        q, eps = self.encode_with_noise(x, rng, samples, eps)
        return self.decode(q.rsample(eps)).log_prob(x).mean(axis=0), q  # eq. 2.71

    def elbo(
        self,
        x: np.ndarray,
        rng: Rng | None = None,
        samples: int = 1,
        *,
        estimator: str | None = None,
        eps: np.ndarray | None = None,
    ) -> Tensor:
        """The evidence lower bound of each datum, (B,), in nats.

        Args:
            x, rng, samples, eps: as for :meth:`terms`; the result averages over the L = ``samples``.
            estimator: "A", all three terms sampled (eq. 2.29), or "B", the KL divergence in closed form (eq. 2.77);
                None is B, or A behind a flow, where there is no closed form.

        Raises:
            ValueError: an unknown estimator, or "B" behind a flow; as :meth:`terms`.
        """
        if estimator not in ("A", "B", None):
            raise ValueError(f"VAE.elbo: unknown estimator {estimator!r}; 'A' (eq. 2.29) or 'B' (eq. 2.77)")
        if estimator == "B" and self.flow is not None:
            raise ValueError("VAE.elbo: behind a flow the KL divergence has no closed form; use estimator 'A'")
        if estimator == "A" or self.flow is not None:
            return self.log_weights(x, rng, samples, eps).mean(axis=0)  # eq. 2.29; review report eq. 5
        reconstruction, q = self.reconstruction_and_posterior(x, rng, samples, eps)
        return reconstruction - q.kl()  # eq. 2.77

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """The mean of p(x | z) at z = the mean of q(z | x), or where a flow takes it: (B, D) -> (B, D)."""
        if self.likelihood == "bernoulli":
            validate.unit_interval(x, "VAE.reconstruct: x")
        with no_grad():
            q = self.encode(x)
            return self.mean_image(q.rsample(np.zeros(q.shape, self.dtype)))

    def mean_image(self, z: Any) -> np.ndarray:
        """The mean of p(x | z): (..., J) -> (..., D)."""
        with no_grad():
            p = self.decode(np.asarray(z, self.dtype))
            return np.array(p.mean if self.likelihood == "bernoulli" else p.mu)

    def sample(self, count: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """Ancestral draws z ~ N(0, I), x ~ p(x | z): the mean images and the draws, both (count, D)."""
        validate.count(count, "VAE.sample: count", 0)
        validate.generator(rng, "VAE.sample: rng")
        z = rng.standard_normal((count, self.latents), dtype=self.dtype)
        with no_grad():
            return self.mean_image(z), np.asarray(self.decode(z).sample(rng))
