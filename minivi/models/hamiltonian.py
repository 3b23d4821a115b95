"""A VAE whose posterior samples follow Hamiltonian dynamics: Hamiltonian variational inference (HVI).

x ──► q(z_0 | x) ──► z_0, v_0 ~ N(0, I) ──► T leapfrog steps of log p(x, z) ──► z_T, v_T ──► p(x | z_T), r(v_T | x, z_T)

(Salimans, Kingma & Welling 2015; thesis section 5.5; Table 1 of the refinement report.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minivi import validate
from minivi.distributions import Normal
from minivi.models.vae import VAE, Terms
from minivi.nn import ACTIVATIONS, Linear, Module
from minivi.protocols import Rng
from minivi.tensor import Parameter, Tensor, enable_grad, grad, is_recording


class HamiltonianVAE(Module):
    """A VAE, T leapfrog steps with learned step sizes, and a learned reverse model of the momentum.

    Leapfrog steps preserve the volume of (z, v), so the pair has the density of its start, and for any r

        log p(x) >= E[log p(x, z_T) + log r(v_T | x, z_T) - log q(z_0 | x) - log N(v_0; 0, I)]

    is a bound of a model with the auxiliary variable v_T. The gradient of log p(x, z) in each step is itself
    differentiated in training. r starts as N(0, I): with step sizes of zero this is the VAE, bit for bit.

    Args:
        pixels, hidden, latents, likelihood, activation, rng, dtype: of the :class:`VAE`; also its other ``options``,
            except a flow.
        steps: T, at least 1.
        step_size: initial step size of every latent; they are learned, and may come to be of either sign.
        reverse: units of the one hidden layer of r's network, whose inputs are x and z_T.
        options: of the VAE.

    Raises:
        ValueError: as :class:`VAE`; no steps.

    Example:
        >>> from minivi import Generator
        >>> model = HamiltonianVAE(pixels=4, hidden=(3,), latents=2, steps=3, rng=Generator(0))
        >>> model.log_weights(np.eye(4, dtype="float32"), Generator(1), samples=5).shape
        (5, 4)
    """

    def __init__(
        self,
        pixels: int,
        hidden: Sequence[int] = (500,),
        latents: int = 20,
        likelihood: str = "bernoulli",
        activation: str = "tanh",
        *,
        steps: int = 5,
        step_size: float = 0.05,
        reverse: int = 500,
        rng: Rng,
        dtype: Any = "float32",
        **options: Any,
    ):
        validate.count(steps, "HamiltonianVAE: steps")
        validate.number(step_size, "HamiltonianVAE: step_size")
        validate.count(reverse, "HamiltonianVAE: reverse")
        if "flow" in options:
            raise ValueError("HamiltonianVAE: z_0 comes from a Gaussian; leave the flow out")
        self.vae = VAE(pixels, hidden, latents, likelihood, activation, rng=rng, dtype=dtype, **options)
        self.pixels, self.latents, self.steps, self.activation = pixels, latents, steps, activation
        self.step_size = Parameter(np.full(latents, step_size), dtype=dtype)
        self.reverse_x = Linear(pixels, reverse, rng, dtype=dtype)
        self.reverse_z = Linear(latents, reverse, rng, dtype=dtype)
        zeros = lambda rng, shape: np.zeros(shape)
        self.reverse_heads = Linear(reverse, 2 * latents, rng, init=zeros, dtype=dtype)

    @property
    def dtype(self) -> np.dtype:
        """Of the parameters, hence of data and noise."""
        return self.vae.dtype

    def encode(self, x: Any) -> Normal:
        """q(z_0 | x), where the dynamics start: (B, D) -> draws (B, J)."""
        return self.vae.encode(x)

    def decode(self, z: Any) -> Any:
        """p(x | z): (..., J) -> draws (..., D)."""
        return self.vae.decode(z)

    def log_joint(self, x: Any, z: Any) -> Any:
        """log p(x, z) in nats, (K, B), of x (B, D) and z (K, B, J)."""
        log_px_z, log_pz = self.vae.log_p_parts(x, [z])
        return log_px_z + log_pz

    def _force(self, x, z):
        """The gradient of log p(x, z) with respect to z; a Tensor with a graph where primitives record."""
        if is_recording():
            z = z if isinstance(z, Tensor) else Tensor(z)
            return grad(self.log_joint(x, z).sum(), z, differentiable=True)
        with enable_grad():
            z = Tensor(np.asanyarray(z))
            return grad(self.log_joint(x, z).sum(), z)

    def leapfrog(self, x: np.ndarray, z: Any, v: Any) -> tuple[Any, Any]:
        """(z_0, v_0) -> (z_T, v_T), each (K, B, J), for data x (B, D): a map that preserves volume."""
        half = 0.5 * self.step_size
        v = v + half * self._force(x, z)
        for step in range(self.steps):
            z = z + self.step_size * v
            v = v + (half if step == self.steps - 1 else self.step_size) * self._force(x, z)
        return z, v

    def reverse(self, x: Any, z: Any) -> Normal:
        """r(v_T | x, z_T): x (B, D), z (K, B, J) -> draws (K, B, J)."""
        heads = self.reverse_heads(ACTIVATIONS[self.activation](self.reverse_x(x) + self.reverse_z(z)))
        return Normal(heads[..., : self.latents], heads[..., self.latents :])

    def terms(self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, eps: np.ndarray | None = None) -> Terms:
        """One pass: start, dynamics, decoder.

        Args:
            x: data (B, D).
            rng: generator of the noise; or
            eps: the noise of z_0 and v_0 itself, (2, K, B, J), for checks.
            samples: K.

        Returns:
            :class:`Terms` of z_T; ``log_qz_x`` is log q(z_0 | x) + log N(v_0; 0, I) - log r(v_T | x, z_T), in nats.

        Raises:
            ValueError: as :meth:`VAE.terms`.
        """
        if eps is not None and (len(np.shape(eps)) != 4 or len(eps) != 2):
            raise ValueError(f"HamiltonianVAE: eps has shape {np.shape(eps)}; pass (2, K, B, J), for z_0 and v_0")
        q, noise = self.vae.encode_with_noise(x, rng, samples, None if eps is None else eps[0])
        v = rng.standard_normal(noise.shape, dtype=self.dtype) if eps is None else eps[1]
        z, log_q = q.rsample_with_log_prob(noise)
        zero = np.zeros(self.latents, self.dtype)
        log_v = Normal(zero, zero).log_prob(v)
        z, v = self.leapfrog(x, z, v)
        log_q = log_q + (log_v - self.reverse(x, z).log_prob(v))
        return Terms(q, z, *self.vae.log_p_parts(x, [z]), log_q)

    def log_weights(
        self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, eps: np.ndarray | None = None
    ) -> Tensor:
        """Log-weights in nats, (K, B), whose exponentials average to p(x); arguments as for :meth:`terms`."""
        return self.terms(x, rng, samples, eps).log_w

    def elbo(self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, *, eps: np.ndarray | None = None) -> Tensor:
        """The evidence lower bound of each datum, (B,), in nats: the mean of :meth:`log_weights`."""
        return self.log_weights(x, rng, samples, eps).mean(axis=0)

    def mean_image(self, z: Any) -> np.ndarray:
        """The mean of p(x | z): (..., J) -> (..., D)."""
        return self.vae.mean_image(z)

    def sample(self, count: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """Ancestral draws: see :meth:`VAE.sample`."""
        return self.vae.sample(count, rng)
