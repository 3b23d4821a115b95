"""Bounds on log p(x), pure functions of the log-weights log p(x, z_k) - log q(z_k | x): (K, B) -> (B,), in nats."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from minivi import ops, validate


def _samples(log_w, name):
    """K, at least 1."""
    shape = np.shape(log_w)
    if not shape or shape[0] == 0:
        raise ValueError(f"{name}: log-weights of shape {shape}; pass (K, B) with at least one sample, K >= 1")
    return shape[0]


def elbo(log_w: Any) -> Any:
    """The mean over K samples (thesis eq. 2.10, 2.29).

    Raises:
        ValueError: no samples.

    Example:
        >>> log_w = np.array([[-3.0, -2.0], [-1.0, -2.0]])  # two samples, two data
        >>> elbo(log_w)
        array([-2., -2.])
    """
    _samples(log_w, "elbo")
    return ops.mean(log_w, axis=0)  # eq. 2.10, 2.29


def iwae(log_w: Any) -> Any:
    """log mean_k w_k: the importance-weighted bound (thesis eq. 2.57); K = 1 is the ELBO.

    Raises:
        ValueError: no samples.

    Example:
        >>> log_w = np.array([[-3.0, -2.0], [-1.0, -2.0]])
        >>> iwae(log_w).round(3)  # at least the ELBO, -2
        array([-1.566, -2.   ])
    """
    samples = _samples(log_w, "iwae")
    return ops.log_sum_exp(log_w, axis=0) - float(np.log(samples))  # eq. 2.57; review report eq. 9, 10, 11


def miwae(log_w: Any, groups: int) -> Any:
    """The mean over M = ``groups`` of the importance-weighted bound of K samples each (tighter-bounds report, eq. 11).

    Args:
        log_w: (M K, B), group after group.
        groups: M; 1 is :func:`iwae`, and M = len(log_w) is :func:`elbo`.

    Raises:
        ValueError: no samples, or M does not divide their number.
    """
    total, rest = _samples(log_w, "miwae"), np.shape(log_w)[1:]
    if not isinstance(groups, Integral) or groups < 1 or total % groups:
        raise ValueError(f"miwae: {total} samples do not make {groups} groups; draw M * K of them")
    in_groups = ops.reshape(log_w, (groups, total // groups, *rest))
    # tighter-bounds report eq. 11
    return ops.mean(ops.log_sum_exp(in_groups, axis=1), axis=0) - float(np.log(total // groups))


def ciwae(log_w: Any, beta: Any) -> Any:
    """beta ELBO + (1 - beta) IWAE over the same K samples (tighter-bounds report, eq. 12, 13).

    Args:
        log_w: (K, B).
        beta: in [0, 1]; a number, or a Tensor that is kept there by construction (a sigmoid).

    Raises:
        ValueError: no samples, or beta outside [0, 1].
    """
    validate.unit_interval(beta, "ciwae: beta", mend="")
    return beta * elbo(log_w) + (1.0 - beta) * iwae(log_w)  # tighter-bounds report eq. 12, 13


def piwae(log_w: Any, groups: int) -> tuple[Any, Any]:
    """What PIWAE maximises (tighter-bounds report, eq. 14, 15): for the encoder MIWAE(M, K), for the decoder IWAE(M K).

    Both come from one forward pass; take the gradient of each with respect to its own network. Arguments and errors as
    for :func:`miwae`.
    """
    return miwae(log_w, groups), iwae(log_w)  # tighter-bounds report eq. 14, 15


def free_bits(reconstruction: Any, kl: Any, minimum: Any) -> Any:
    """A minibatch's bound in which a group of latents pays for at least ``minimum`` nats (thesis eq. 2.69, 2.70, 5.33).

    Args:
        reconstruction: E_q log p(x | z) of each datum, (B,).
        kl: KL(q(z_j | x) || p(z_j)) of each datum and group, (B, groups); a group of several latents is their sum.
        minimum: lambda, a number or one for each group, (groups,).

    Returns:
        mean(reconstruction) - sum_j max(lambda, mean(kl_j)), a scalar: the mean comes before the maximum.

    Raises:
        ValueError: ``kl`` has not the shape (B, groups), or lambda is negative.
    """
    if len(np.shape(kl)) != 2 or np.shape(kl)[:1] != np.shape(reconstruction):
        raise ValueError(
            f"free_bits: reconstruction {np.shape(reconstruction)} and kl {np.shape(kl)}; pass (B,) and (B, groups)"
        )
    if np.shape(minimum) not in ((), np.shape(kl)[1:]) or not np.min(minimum) >= 0:
        raise ValueError(f"free_bits: minimum {minimum}; a number of nats, at least 0, or one for each group")
    # eq. 2.69, 2.70, 5.33
    return ops.mean(reconstruction) - ops.sum(ops.maximum(ops.mean(kl, axis=0), np.asarray(minimum, kl.dtype)))


def warm_up(step: int, steps: int) -> float:
    """The weight of the KL term that is annealed from 0 to 1 in a straight line over ``steps`` (thesis 2.9.1).

    The annealed bound is ``reconstruction - warm_up(step, steps) * kl``. With 0 ``steps`` the weight is 1.

    Raises:
        ValueError: a negative ``step`` or ``steps``.
    """
    validate.number(step, "warm_up: step", 0)
    validate.number(steps, "warm_up: steps", 0)
    return min(1.0, step / steps) if steps > 0 else 1.0
