"""Full variational Bayes: a posterior over the decoder's weights beside that over the latents (thesis appendix 2.C).

    theta = mu_theta + sigma_theta * zeta          z = mu(x) + sigma(x) * eps          zeta, eps ~ N(0, I)

with priors N(0, I) on both. The encoder's weights are no random variables of the model: they stay point estimates, or
(review report 6.2) get a posterior too, ``network="encoder"``: then q(z | x) is a mixture over them, and what is
maximised is still a bound, looser by what the posterior has learned about weights that the model does not know.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.distributions import Normal
from minivi.nn import Module
from minivi.protocols import LatentVariableModel, Rng
from minivi.tensor import Parameter, Tensor


class FullVB(Module):
    """A model one of whose networks has weights and biases with the posterior N(mu, diag(sigma^2)) (eq. 2.88).

    Args:
        vae: offers ``elbo`` and the network, an MLP; its weights become mu_theta, so ``vae`` itself goes on as the
            model with mean weights.
        count: N, the size of the data set: the bound is on log p(X) of so many data.
        scale: initial sigma_theta of every weight and bias.
        local: sample each datum's pre-activations, h W + b ~ N(h mu_W + mu_b, h^2 sigma_W^2 + sigma_b^2), instead of
            one set of weights for a minibatch (Kingma et al. 2015; review report 4.1.1). The bound is the same, the
            noise of its gradient smaller.
        network: "decoder", theta of the thesis; or "encoder".

    Raises:
        ValueError: ``count`` is no positive integer, or ``scale`` not positive; a ``vae`` without that network.
    """

    def __init__(
        self,
        vae: LatentVariableModel,
        count: int,
        scale: float = 0.01,
        *,
        local: bool = False,
        network: str = "decoder",
    ):
        validate.one_of(network, "FullVB: network", ("decoder", "encoder"))
        validate.offers(vae, "FullVB: vae", "elbo", network, "dtype")
        validate.count(count, "FullVB: count")
        validate.number(scale, "FullVB: scale", 0, ends="(]")
        self.vae, self.count, self.local, self.network = vae, count, local, network
        self.log_sigma = [Parameter(np.full(mu.shape, np.log(scale)), dtype=mu.dtype) for mu in self.mu]

    @property
    def mu(self) -> list[Parameter]:
        """mu_theta: weight and bias of each of the network's layers, in order; ``log_sigma`` has the same shapes."""
        return [p for _, p in getattr(self.vae, self.network).named_parameters()]

    @property
    def dtype(self) -> np.dtype:
        """Of the parameters, hence of data and noise."""
        return self.vae.dtype

    def noise(self, rng: Rng) -> list[np.ndarray]:
        """zeta for one draw of the weights: arrays shaped like ``mu``."""
        return [rng.standard_normal(mu.shape, dtype=mu.dtype) for mu in self.mu]

    def theta(self, zeta: list[np.ndarray]) -> list[Tensor]:
        """h(zeta) = mu_theta + sigma_theta * zeta (eq. 2.84)."""
        return [ops.gaussian_sample(*parts) for parts in zip(self.mu, self.log_sigma, zeta, strict=True)]  # eq. 2.84

    def draw(self, rng: Rng | None = None, zeta: list[np.ndarray] | None = None) -> Any:
        """``vae`` with random weights in that network; gradients reach mu_theta and sigma_theta.

        Args:
            rng: generator of the noise; or
            zeta: the noise itself, as of :meth:`noise`; with local noise, for each layer an array that broadcasts
                against its outputs (K, B, outputs).

        Returns:
            A model that shares the other network: its ``elbo`` is the bound L(theta, phi; x) of eq. 2.81. With local
            noise, each datum that passes meets weights of its own.
        """
        vae, network = copy.copy(self.vae), copy.copy(getattr(self.vae, self.network))
        if self.local:
            pairs = zip(*(iter(zip(self.mu, self.log_sigma, strict=True)),) * 2, strict=True)  # weight, bias
            zeta = [None] * len(network.layers) if zeta is None else zeta
            network.layers = [_local(w, b, z, rng) for (w, b), z in zip(pairs, zeta, strict=True)]
        else:
            theta = iter(self.theta(self.noise(rng) if zeta is None else zeta))
            network.layers = [_affine(w, b) for w, b in zip(theta, theta, strict=True)]
        setattr(vae, self.network, network)
        return vae

    def kl(self) -> Tensor:
        """KL(q(theta) || N(0, I)), all weights and biases together: a scalar, in nats."""
        return _total(ops.gaussian_kl(*pair) for pair in zip(self.mu, self.log_sigma, strict=True))

    def log_ratio(self, zeta: list[np.ndarray]) -> Tensor:
        """log p(theta) - log q(theta) at theta = h(zeta), whose mean is minus :meth:`kl`: a scalar, in nats."""
        prior = Normal(np.zeros(1, self.dtype), np.zeros(1, self.dtype))
        parts = zip(self.theta(zeta), self.mu, self.log_sigma, zeta, strict=True)
        return _total(
            prior.log_prob(theta) - Normal(mu, log_sigma).log_prob_of_noise(z) for theta, mu, log_sigma, z in parts
        )

    def elbo(
        self,
        x: np.ndarray,
        rng: Rng | None = None,
        samples: int = 1,
        *,
        estimator: str = "B",
        kl_weight: float = 1.0,
        eps: np.ndarray | None = None,
        zeta: list | None = None,
    ) -> Tensor:
        """Each datum's share of the bound on log p(X), (B,), in nats: L(theta, phi; x) - KL(q(theta) || p(theta)) / N.

        Args:
            x: data (B, D).
            rng: generator of the noise; or
            eps, zeta: the noise itself, for checks: L samples of z, (L, B, J), and L sets as of :meth:`draw`.
            samples: L, each with weights of its own; where ``eps`` or ``zeta`` is given, as many as they hold.
            estimator: "A", all four Gaussian terms sampled (eq. 2.87), or "B", in closed form (eq. 2.89).
            kl_weight: of the weights' divergence; other than 1, the result is a bound only if it is larger.

        Raises:
            ValueError: an unknown estimator, or "A" with local noise, which never samples the weights themselves; no
                samples; another number of samples in ``eps`` than in ``zeta``; a generator is missing.
        """
        validate.one_of(estimator, "FullVB.elbo: estimator", ("A", "B"))
        validate.number(kl_weight, "FullVB.elbo: kl_weight", 0)
        if estimator == "A" and self.local:
            raise ValueError(
                "FullVB.elbo: local noise samples no weights, so log q(theta) has no sample; estimator='B'"
            )
        given = {len(noise) for noise in (eps, zeta) if noise is not None}
        if len(given) > 1:
            raise ValueError(f"FullVB.elbo: {len(eps)} samples in eps, {len(zeta)} in zeta; give as many of both")
        count = given.pop() if given else samples
        validate.count(count, "FullVB.elbo: samples")
        if eps is None or zeta is None:
            validate.generator(rng, "FullVB.elbo: rng, without both eps and zeta,")
        total = 0.0
        for k in range(count):
            noise = zeta[k] if zeta is not None else None if self.local else self.noise(rng)
            model = self.draw(rng, noise)
            total = total + model.elbo(x, rng, estimator=estimator, eps=None if eps is None else eps[k : k + 1])
            if estimator == "A":
                total = total + self.log_ratio(noise) * (kl_weight / self.count)  # eq. 2.87
        total = total * (1.0 / count)
        return total if estimator == "A" else total - self.kl() * (kl_weight / self.count)  # eq. 2.89

    def bound(self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, **options: Any) -> Tensor:
        """The bound on log p(X) of the whole data set, from a minibatch ``x`` of it (eq. 2.86-2.89): a scalar, in nats.

        N times the mean of :meth:`elbo`, which takes the same arguments.
        """
        return self.elbo(x, rng, samples, **options).mean() * float(self.count)  # eq. 2.86


def _total(rows):
    """The sum of all elements of all arrays."""
    total = 0.0
    for row in rows:
        total = total + row.sum()
    return total


def _affine(w, b):
    """A layer of these weights, which are Tensors and no Parameters; models ask it for their dtype."""
    layer = lambda h: ops.affine(h, w, b)
    layer.weight = w
    return layer


def _local(weight, bias, zeta, rng):
    """A layer whose outputs are sampled instead of its weights; ``weight`` and ``bias`` are pairs (mu, log_sigma)."""

    def layer(h):
        mean = ops.affine(h, weight[0], bias[0])
        variance = ops.affine(h * h, ops.exp(2.0 * weight[1]), ops.exp(2.0 * bias[1]))
        noise = rng.standard_normal(mean.shape, dtype=mean.dtype) if zeta is None else zeta
        return mean + ops.sqrt(variance) * noise

    layer.weight = weight[0]
    return layer
