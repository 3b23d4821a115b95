"""Expectation maximisation without an encoder: each datum keeps a q(z), or a sample of p(z | x), of its own.

    em = MonteCarloEM(vae, len(x), Generator(1))
    optimizer = optim.Adam(vae.decoder.parameters(), 1e-3)
    fit(em, em.loss(optimizer), optimizer, numbered(x), epochs=100, batch_size=100, rng=Generator(2))

For a minibatch the E step brings what its data keep up to date, then the M step makes some updates of the decoder. What
is kept is made of Parameters that the optimizer does not move, so that ``fit`` has them in its checkpoints. Pixels must
be drawn once, not afresh in each epoch: what a datum keeps belongs to one fixed image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minivi import mcmc, validate
from minivi.distributions import Normal
from minivi.nn import Module
from minivi.protocols import LatentVariableModel, Rng, Stepper
from minivi.tensor import Parameter, Tensor, grad


def numbered(x: np.ndarray) -> np.ndarray:
    """The data (N, D) with their numbers 0 to N - 1 in a last column, (N, D + 1): what :class:`LocalEM` trains on.

    Raises:
        ValueError: x that is not (N, D).
    """
    validate.rows(x, "numbered: x")
    return np.column_stack([x, np.arange(len(x), dtype=x.dtype)])


def local_bound(
    vae: LatentVariableModel, x: np.ndarray, mu: Tensor, log_sigma: Tensor, rng: Rng, samples: int = 1
) -> Tensor:
    """The bound on log p(x) for a q(z) = N(mu, diag(sigma^2)) of each datum's own (thesis eq. 9.8).

    An even number of samples comes in pairs, eps and -eps: where log p(x, z) is quadratic, mu's gradient has no noise.

    Args:
        vae: its decoder is used, with the prior p(z) = N(0, I).
        x: data (B, D).
        mu, log_sigma: (B, J), arrays or Tensors.
        rng: generator of the samples.
        samples: K.

    Returns:
        (B,) in nats.

    Raises:
        ValueError: no samples, or no generator.
    """
    validate.count(samples, "local_bound: samples")
    validate.generator(rng, "local_bound: rng")
    q, pairs = Normal(mu, log_sigma), samples % 2 == 0
    eps = rng.standard_normal((samples // 2 if pairs else samples, *q.shape), dtype=vae.dtype)
    if pairs:
        eps = np.concatenate([eps, -eps])
    return vae.decode(q.rsample(eps)).log_prob(x).mean(axis=0) - q.kl()  # eq. 9.8


def climb(
    vae: LatentVariableModel,
    x: np.ndarray,
    mu: np.ndarray,
    log_sigma: np.ndarray,
    rng: Rng,
    steps: int = 5,
    samples: int = 4,
    rate: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Variational EM's E step: natural-gradient ascent of :func:`local_bound` in mu and log sigma (thesis eq. 9.6).

    A Gaussian's Fisher information is 1 / sigma^2 for mu and 2 for log sigma, so that a step is measured in units of
    the posterior's own width, however narrow. No step is longer than one sigma. The step size falls linearly to zero:
    at a constant one, the gradient's noise would keep q from its best.

    Args:
        vae, x, rng, samples: of :func:`local_bound`.
        mu, log_sigma: where to begin, (B, J).
        steps: gradients to follow.
        rate: step size to begin with; 1 would go to the best q at once if the bound were quadratic and free of noise.

    Returns:
        New mu and log sigma, (B, J).

    Raises:
        ValueError: no steps or samples, no generator, a rate that is not positive.
    """
    validate.count(steps, "climb: steps")
    validate.number(rate, "climb: rate", 0, ends="(]")
    for step in range(steps):
        size = rate * (1.0 - step / steps)
        leaves = Tensor(mu), Tensor(log_sigma)
        g_mu, g_log_sigma = grad(local_bound(vae, x, *leaves, rng, samples).sum(), leaves)
        sigma = np.exp(log_sigma)
        mu = mu + np.clip(size * sigma**2 * g_mu, -sigma, sigma)  # eq. 9.6
        log_sigma = log_sigma + np.clip(0.5 * size * g_log_sigma, -0.5, 0.5)
    return mu, log_sigma


class LocalEM(Module):
    """EM in which each datum keeps something of its own; subclasses say what, and how the E step renews it.

    Args:
        vae: the model, whose decoder is trained.
        count: N, the number of data.
        updates: of the decoder in an M step.

    Attributes:
        cost: gradients through the decoder that one visit costs for each datum.

    Raises:
        ValueError: a count or a number of updates below 1.
    """

    def __init__(self, vae: LatentVariableModel, count: int, updates: int = 5):
        name = type(self).__name__
        validate.offers(vae, f"{name}: vae", "decode", "latents", "dtype", "pixels")
        validate.count(count, f"{name}: count")
        validate.count(updates, f"{name}: updates")
        self.vae, self.updates = vae, updates

    def e_step(self, x: np.ndarray, index: np.ndarray, rng: Rng) -> None:
        """Renew what the data ``x``, (B, D), of numbers ``index``, (B,), keep."""
        raise NotImplementedError

    def m_loss(self, x: np.ndarray, index: np.ndarray, rng: Rng) -> Tensor:
        """What an update of the decoder descends: a mean over the minibatch, in nats."""
        raise NotImplementedError

    def loss(self, optimizer: Stepper) -> Callable[[np.ndarray, Rng], Tensor]:
        """The loss for ``fit``, which makes the last of the updates: E step and other updates happen as it is called.

        Args:
            optimizer: of the decoder's parameters; the one that ``fit`` gets too.

        Returns:
            ``loss(rows, rng)`` for a minibatch of :func:`numbered` data, (B, D + 1); ValueError for other columns.
        """

        def loss(rows, rng):
            if rows.shape[-1] != self.vae.pixels + 1:
                raise ValueError(f"EM: rows of {rows.shape[-1]} columns for {self.vae.pixels} pixels; pass numbered(x)")
            x, index = np.ascontiguousarray(rows[:, :-1]), rows[:, -1].astype(int)
            self.e_step(x, index, rng)
            for _ in range(self.updates - 1):
                optimizer.step(grad(self.m_loss(x, index, rng), optimizer.parameters))
            return self.m_loss(x, index, rng)

        return loss


def _keep(parameter, index, values):
    """Put new values into the rows ``index``."""
    rows = parameter.data.copy()
    rows[index] = values
    parameter.assign(rows)


class VariationalEM(LocalEM):
    """Variational EM with local parameters (thesis section 9.2.2): a Gaussian q for each datum, which begins as p(z).

    Args:
        vae, count, updates: of :class:`LocalEM`.
        steps, samples, rate: of an E step, see :func:`climb`.

    Attributes:
        mu, log_sigma: of each datum's q, (N, J).
    """

    def __init__(
        self,
        vae: LatentVariableModel,
        count: int,
        updates: int = 5,
        *,
        steps: int = 5,
        samples: int = 4,
        rate: float = 0.5,
    ):
        super().__init__(vae, count, updates)
        self.mu, self.log_sigma = (Parameter(np.zeros((count, vae.latents)), dtype=vae.dtype) for _ in range(2))
        self.steps, self.samples, self.rate = steps, samples, rate
        self.cost = steps * samples + updates

    def e_step(self, x: np.ndarray, index: np.ndarray, rng: Rng) -> None:
        """Climb the bound from where these data's q were (eq. 9.6)."""
        begun = self.mu.data[index], self.log_sigma.data[index]
        mu, log_sigma = climb(self.vae, x, *begun, rng, self.steps, self.samples, self.rate)
        _keep(self.mu, index, mu)
        _keep(self.log_sigma, index, log_sigma)

    def m_loss(self, x: np.ndarray, index: np.ndarray, rng: Rng) -> Tensor:
        """Minus the bound, a mean over the minibatch (eq. 9.7)."""
        return -local_bound(self.vae, x, self.mu.data[index], self.log_sigma.data[index], rng).mean()  # eq. 9.7


class MonteCarloEM(LocalEM):
    """Monte Carlo EM (thesis section 9.2.3, appendix 2.B): a Markov chain for each datum, at home in p(z | x).

    An E step is one transition of Hamiltonian Monte Carlo, whose step size is tuned all along; the M step climbs
    log p(x | z) at the z reached, so that the posterior's mean of grad log p(x, z), which is the gradient of log p(x),
    is followed.

    Args:
        vae, count, updates: of :class:`LocalEM`.
        rng: generator of the chains' first states, draws from p(z).
        leapfrog_steps: of a transition.
        target: its acceptance probability, in (0, 1).

    Attributes:
        chains: the state of each datum's chain, (N, J).
        tuning: the state of :class:`minivi.mcmc.DualAveraging`.

    Raises:
        ValueError: as :class:`LocalEM`; no generator, no leapfrog steps, a target out of range.
    """

    def __init__(
        self,
        vae: LatentVariableModel,
        count: int,
        rng: Rng,
        updates: int = 5,
        *,
        leapfrog_steps: int = 10,
        target: float = 0.9,
    ):
        super().__init__(vae, count, updates)
        validate.generator(rng, "MonteCarloEM: rng")
        validate.count(leapfrog_steps, "MonteCarloEM: leapfrog_steps")
        self.chains = Parameter(rng.standard_normal((count, vae.latents)), dtype=vae.dtype)
        self.tuning = Parameter(mcmc.DualAveraging(0.1, target).state)
        self.leapfrog_steps, self.target = leapfrog_steps, target
        self.cost = leapfrog_steps + 1 + updates

    def _tuner(self):
        tuner = mcmc.DualAveraging(0.1, self.target)
        tuner.state = self.tuning.data
        return tuner

    def _move(self, x, index, rng, step_size):
        """One transition of these data's chains towards p(z | x), by grad log p(z) + grad log p(x | z)."""
        zero = np.zeros(self.vae.latents, self.vae.dtype)
        log_joint = lambda z: Normal(zero, zero).log_prob(z) + self.vae.decode(z).log_prob(x)  # eq. 9.14
        return mcmc.hmc(log_joint, self.chains.data[index], rng, step_size, self.leapfrog_steps)

    def e_step(self, x: np.ndarray, index: np.ndarray, rng: Rng) -> None:
        """Move these data's chains, and tune the step size (eq. 9.14)."""
        tuner = self._tuner()
        # Steps of one size can come full circle where the posterior is as wide as the prior: vary it (Neal 2011)
        move = self._move(x, index, rng, tuner.step_size * rng.uniform(0.8, 1.2))
        tuner.update(move.acceptance)
        _keep(self.chains, index, move.z)
        self.tuning.assign(tuner.state)

    def m_loss(self, x: np.ndarray, index: np.ndarray, rng: Rng) -> Tensor:
        """Minus log p(x | z) at the chains, a mean over the minibatch."""
        return -self.vae.decode(self.chains.data[index]).log_prob(x).mean()

    def acceptance(self, x: np.ndarray, index: np.ndarray, rng: Rng) -> float:
        """Mean acceptance probability of one more transition of these data's chains, which stay where they are."""
        return float(self._move(x, index, rng, self._tuner().average).acceptance.mean())
