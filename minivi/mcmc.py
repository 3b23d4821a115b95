"""Hamiltonian Monte Carlo over many independent chains at once, and what stands on it.

The state z has shape (..., J): a chain for each index of the leading axes. ``log_prob(z)`` takes a Tensor of that shape
and gives a Tensor (...), in nats, whose entry depends on its own chain alone; a constant may be missing. So for a model
``lambda z: prior.log_prob(z) + model.decode(z).log_prob(x)`` has p(z | x) as its target (thesis appendix 2.B).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.protocols import Rng
from minivi.tensor import Tensor, grad


@dataclass
class Transition:
    """What one step of :func:`hmc` gave, for each chain.

    Attributes:
        z: the new state, (..., J), a copy of the old one where the proposal was rejected.
        acceptance: probability of acceptance, (...); 0 where the trajectory diverged.
        accepted: whether it was, (...).
        divergent: whether the energy error was too large or not finite, (...); such a proposal is rejected.
    """

    z: np.ndarray
    acceptance: np.ndarray
    accepted: np.ndarray
    divergent: np.ndarray


def _value_and_gradient(log_prob, z):
    leaf = Tensor(z)
    value = log_prob(leaf)
    if not isinstance(value, Tensor) or value.shape != leaf.shape[:-1]:
        raise ValueError(
            f"mcmc: log_prob gave {f'shape {value.shape}' if isinstance(value, Tensor) else type(value).__name__} for "
            f"z of shape {leaf.shape}; return a Tensor of shape {leaf.shape[:-1]}, a number for each chain"
        )
    return np.asarray(value, np.float64), grad(value, leaf, cotangent=np.ones(value.shape))


def leapfrog(
    log_prob: Callable[[Tensor], Tensor], z: np.ndarray, momentum: np.ndarray, step_size: float, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Follow the Hamiltonian H(z, m) = -log_prob(z) + |m|^2 / 2 by ``steps`` leapfrog steps (Neal 2011).

    The map preserves volume, running it again from (z, -m) leads back, and its error in H is of order step_size^2: what
    makes the acceptance probability of :func:`hmc` so simple.

    Args:
        log_prob: see the module.
        z, momentum: (..., J), float32 or float64.
        step_size: positive.
        steps: at least 1; they cost ``steps + 1`` gradients.

    Returns:
        z and momentum at the end, (..., J), and log_prob at the start and at the end, float64 (...).

    Raises:
        ValueError: a step size or number of steps out of range, shapes that do not fit.
    """
    validate.function(log_prob, "leapfrog: log_prob", "Tensor (..., J) -> Tensor (...)")
    validate.number(step_size, "leapfrog: step_size", 0, ends="(]")
    validate.count(steps, "leapfrog: steps")
    z, momentum = np.asarray(z), np.asarray(momentum)
    if z.ndim < 1 or momentum.shape != z.shape:
        raise ValueError(f"leapfrog: z has shape {z.shape}, momentum {momentum.shape}; both must be the same (..., J)")
    step_size = z.dtype.type(step_size)
    with np.errstate(all="ignore"):  # a diverging chain may overflow; the energy tells
        start, gradient = _value_and_gradient(log_prob, z)
        momentum = momentum + 0.5 * step_size * gradient
        for step in range(1, steps + 1):
            z = z + step_size * momentum
            end, gradient = _value_and_gradient(log_prob, z)
            momentum = momentum + (0.5 if step == steps else 1.0) * step_size * gradient
    return z, momentum, start, end


def hmc(
    log_prob: Callable[[Tensor], Tensor],
    z: np.ndarray,
    rng: Rng,
    step_size: float,
    leapfrog_steps: int = 10,
    max_energy_error: float = 1000.0,
) -> Transition:
    """One transition of Hamiltonian Monte Carlo for each chain (Duane et al. 1987; thesis appendix 2.B).

    Fresh momentum from N(0, I), a trajectory of leapfrog steps, and a Metropolis decision of each chain's own, which
    makes the target stationary whatever the step size.

    Args:
        log_prob: see the module.
        z: the state, (..., J), float32 or float64.
        rng: generator of momenta and decisions.
        step_size, leapfrog_steps: of the trajectory.
        max_energy_error: nats above which a trajectory counts as divergent.

    Returns:
        A :class:`Transition`.

    Raises:
        ValueError: as :func:`leapfrog`; log_prob is not finite at ``z``; no generator; a limit that is not positive.
    """
    validate.generator(rng, "hmc: rng")
    validate.number(max_energy_error, "hmc: max_energy_error", 0, ends="(]")
    z = np.asarray(z)
    momentum = rng.standard_normal(z.shape, dtype=z.dtype)
    proposal, final_momentum, start, end = leapfrog(log_prob, z, momentum, step_size, leapfrog_steps)
    if not np.isfinite(start).all():
        chain = tuple(int(i) for i in np.argwhere(~np.isfinite(start))[0])
        raise ValueError(f"hmc: log_prob is {start[chain]} at chain {chain}; start where the density is positive")
    with np.errstate(over="ignore", invalid="ignore"):
        error = (start - _kinetic(momentum)) - (end - _kinetic(final_momentum))  # H at the end minus H at the start
    divergent = ~(np.isfinite(error) & (error <= max_energy_error))
    acceptance = np.where(divergent, 0.0, np.exp(-np.maximum(np.where(divergent, 0.0, error), 0.0)))
    accepted = rng.random(acceptance.shape) < acceptance
    return Transition(np.where(accepted[..., None], proposal, z), acceptance, accepted, divergent)


def _kinetic(momentum):
    return 0.5 * np.sum(np.square(momentum, dtype=np.float64), axis=-1)


class DualAveraging:
    """Tune the step size to an acceptance rate (Hoffman & Gelman 2014, section 3.2, algorithm 5).

        adapt = DualAveraging(0.1)
        for _ in range(500):
            move = hmc(log_prob, z, rng, adapt.step_size)
            z = move.z
            adapt.update(move.acceptance)
        ... hmc(log_prob, z, rng, adapt.average)

    Args:
        step_size: to begin with.
        target: acceptance probability to reach, in (0, 1).
        gamma, t0, kappa: how fast to move, how much to damp the first steps, how soon to forget; the paper's values.

    Attributes:
        step_size: to use while adapting. It keeps reacting, so it follows a target that drifts.
        average: what it settles on, for sampling afterwards.

    Raises:
        ValueError: a step size, target or constant out of range.
    """

    def __init__(
        self, step_size: float, target: float = 0.9, gamma: float = 0.05, t0: float = 10.0, kappa: float = 0.75
    ):
        validate.number(step_size, "DualAveraging: step_size", 0, ends="(]")
        validate.number(target, "DualAveraging: target", 0, 1, "()")
        validate.number(gamma, "DualAveraging: gamma", 0, ends="(]")
        validate.number(t0, "DualAveraging: t0", 0)
        validate.number(kappa, "DualAveraging: kappa", 0)
        self.target, self.gamma, self.t0, self.kappa = target, gamma, t0, kappa
        self._center = np.log(10.0 * step_size)
        self.step_size = self.average = float(step_size)
        self._count, self._gap = 0.0, 0.0

    def update(self, acceptance: Any) -> float:
        """Take the mean acceptance of a transition into account; returns the new :attr:`step_size`.

        Raises:
            ValueError: it is not in [0, 1].
        """
        validate.count(np.size(acceptance), "DualAveraging.update: the number of chains")
        validate.unit_interval(acceptance, "DualAveraging.update: acceptance", mend="")
        mean = float(np.mean(acceptance))
        self._count += 1.0
        m = self._count
        self._gap += (self.target - mean - self._gap) / (m + self.t0)
        log_step = self._center - np.sqrt(m) / self.gamma * self._gap
        weight = m**-self.kappa
        self.average = float(np.exp(weight * log_step + (1.0 - weight) * np.log(self.average)))
        self.step_size = float(np.exp(log_step))
        return self.step_size

    @property
    def state(self) -> np.ndarray:
        """Four float64 numbers, for a checkpoint; assigning them goes on from there."""
        return np.array([self._count, self._gap, self.step_size, self.average])

    @state.setter
    def state(self, state: np.ndarray) -> None:
        if np.shape(state) != (4,) or not np.isfinite(state).all():
            raise ValueError(
                f"DualAveraging.state: got {validate.brief(state)}; pass another one's state, four numbers"
            )
        self._count, self._gap, self.step_size, self.average = (float(s) for s in state)


def ais(
    log_likelihood: Callable[[Tensor], Tensor],
    z: np.ndarray,
    rng: Rng,
    temperatures: Sequence[float],
    step_size: float | Sequence[float],
    leapfrog_steps: int = 10,
) -> tuple[np.ndarray, np.ndarray]:
    """Annealed importance sampling from the prior N(0, I) to the posterior (Neal 2001).

    Between the temperatures t, :func:`hmc` moves towards p(z) p(x | z)^t. The mean of the weights over chains has the
    expectation p(x), for any step size; so its logarithm is a lower bound on log p(x) in expectation.

    Args:
        log_likelihood: log p(x | z) as ``log_prob`` in the module.
        z: draws from N(0, I), (..., J).
        rng: generator.
        temperatures: rising from 0 to 1.
        step_size: a number, or one for each temperature above 0.
        leapfrog_steps: of each transition.

    Returns:
        log-weights (...), float64, in nats: over K chains a datum, ``bounds.iwae`` of (K, B) estimates log p(x); and
        the mean acceptance at each temperature above 0.

    Raises:
        ValueError: temperatures that do not rise from 0 to 1; another number of step sizes; as :func:`hmc`.
    """
    validate.function(log_likelihood, "ais: log_likelihood", "Tensor (..., J) -> Tensor (...)")
    validate.generator(rng, "ais: rng")
    t = np.asarray(temperatures)
    if t.dtype.kind not in "fiu" or t.ndim != 1 or len(t) < 2 or t[0] != 0 or t[-1] != 1 or (np.diff(t) <= 0).any():
        raise ValueError("ais: the temperatures must rise from 0 to 1, e.g. np.linspace(0, 1, 100) ** 2")
    t = t.astype(np.float64)
    if np.shape(step_size) not in ((), (1,), (len(t) - 1,)):
        raise ValueError(f"ais: {np.shape(step_size)} step sizes; pass a number, or one for each of {len(t) - 1} moves")
    z = np.asarray(z)
    if z.ndim < 1:
        raise ValueError("ais: z is a number; pass draws (..., J), a chain for each index of the leading axes")
    step_sizes = np.broadcast_to(step_size, len(t) - 1)
    zeros = np.zeros(z.shape[-1], z.dtype)
    log_w, acceptance = np.zeros(z.shape[:-1]), np.empty(len(t) - 1)
    for i, (before, now) in enumerate(zip(t[:-1], t[1:], strict=True)):
        log_w += (now - before) * np.asarray(log_likelihood(Tensor(z)), np.float64)
        move = hmc(
            lambda z, t=now: ops.gaussian_log_prob(z, zeros, zeros) + float(t) * log_likelihood(z),
            z, rng, float(step_sizes[i]), leapfrog_steps,
        )  # fmt: skip
        z, acceptance[i] = move.z, move.acceptance.mean()
    return log_w, acceptance
