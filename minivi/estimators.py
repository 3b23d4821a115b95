"""Gradient estimators as surrogates: scalars for each datum whose ``grad`` is the estimator, to be maximised.

A surrogate's *value* need not be a bound; where it is none, the docstring says so. They are built of the same parts as
the bounds of :mod:`minivi.bounds`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minivi import bounds, ops, validate
from minivi.distributions import Normal
from minivi.protocols import LatentVariableModel, Rng
from minivi.tensor import Tensor, no_grad


def wake_sleep(model: LatentVariableModel, x: np.ndarray, rng: Rng) -> Tensor:
    """Both phases of wake-sleep (Hinton et al. 1995; thesis sections 2.10, 2.11) as one surrogate.

        wake:  z ~ q(z | x) for the data x,   the decoder follows grad_theta log p(x, z)
        sleep: (x, z) ~ p(x, z), a dream,     the encoder follows grad_phi log q(z | x)

    No gradient goes through either sampling, so each phase reaches one network alone. The sum is no bound of anything.

    Args:
        model: offers ``encode``, ``decode``, ``latents`` and ``dtype``, with a prior p(z) = N(0, I).
        x: data (B, D).
        rng: generator of the samples, one a datum in each phase.

    Returns:
        log p(x | z) of the data plus log q(z | x) of as many dreams, (B,), in nats.

    Raises:
        ValueError: x that is not (B, D), or no generator.
    """
    validate.rows(x, "wake_sleep: x")
    validate.generator(rng, "wake_sleep: rng")
    with no_grad():
        guess = model.encode(x).sample(rng)
        cause = rng.standard_normal((len(x), model.latents), dtype=model.dtype)
        dream = model.decode(cause).sample(rng)
    wake = model.decode(guess).log_prob(x)  # log p(z) has no parameters
    sleep = model.encode(dream).log_prob(cause)
    return wake + sleep


def score_function(
    model: LatentVariableModel,
    x: np.ndarray,
    rng: Rng | None = None,
    samples: int = 1,
    *,
    baseline: Any = 0.0,
    z: np.ndarray | None = None,
) -> Tensor:
    """The score-function (likelihood-ratio, REINFORCE) gradient of the ELBO, thesis eq. 2.72, 2.73.

        decoder:  mean_k grad_theta log p(x | z_k)                                             (review report eq. 3)
        encoder:  mean_k (log p(x, z_k) - log q(z_k | x) - c) grad_phi log q(z_k | x)          (eq. 4, 7, 8)

    The samples z_k and the factor before grad log q, the learning signal, are constants, so no gradient passes through
    the sampling: q need not be reparameterisable. The surrogate's value is no bound.

    Args:
        model: offers ``encode``, ``decode``, ``latents`` and ``dtype``, with a prior p(z) = N(0, I).
        x: data (B, D).
        rng: generator of the samples.
        samples: K, a datum.
        baseline: the control variate c in nats: a number; an array (B,) computed from x, not from z; or
            "leave-one-out", for each z_k the mean signal of the datum's other samples (Mnih & Rezende 2016, Kool et
            al. 2019). The expectation of the gradient is the same for each.
        z: the samples themselves, (K, B, J), instead of ``rng``, for checks.

    Returns:
        Surrogate (B,), to be maximised.

    Raises:
        ValueError: an unknown baseline, one whose shape is not () or (B,), or "leave-one-out" of a single sample; data
            that are not (B, D); neither ``rng`` nor ``z``.
    """
    validate.rows(x, "score_function: x")
    q = model.encode(x)
    if z is None:
        validate.generator(rng, "score_function: rng")
        validate.count(samples, "score_function: samples")
        z = q.sample(rng, (samples,))
    log_px_z, log_qz_x = model.decode(z).log_prob(x), q.log_prob(z)
    prior = Normal(np.zeros(model.latents, model.dtype), np.zeros(model.latents, model.dtype))
    signal = np.asarray(log_px_z) + np.asarray(prior.log_prob(z)) - np.asarray(log_qz_x)  # review report eq. 4
    if isinstance(baseline, str):
        if baseline != "leave-one-out":
            raise ValueError(f"score_function: unknown baseline {baseline!r}; 'leave-one-out', a number or an array")
        if len(z) < 2:
            raise ValueError("score_function: leave-one-out needs other samples of the datum; pass samples=2 or more")
        baseline = (signal.sum(axis=0) - signal) / (len(z) - 1)
    elif np.shape(baseline) not in ((), (len(x),)):
        raise ValueError(f"score_function: baseline of shape {np.shape(baseline)}; a number, or shape ({len(x)},)")
    signal = (signal - baseline).astype(model.dtype)  # review report eq. 7, 8
    return ops.mean(log_px_z + signal * log_qz_x, axis=0)  # eq. 2.72, 2.73; review report eq. 3


def sticking_the_landing(
    model: LatentVariableModel,
    x: np.ndarray,
    rng: Rng | None = None,
    samples: int = 1,
    groups: int = 1,
    *,
    eps: Any = None,
) -> Tensor:
    """MIWAE(M, K) without the score function of q in the encoder's gradient (Roeder, Wu & Duvenaud 2017).

    d log w / d phi has a path through z and a part -d log q(z; phi) / d phi at fixed z, whose expectation is 0 for
    K = 1: without it the estimator stays unbiased, and its variance vanishes where q is the true posterior. For K > 1
    the normalised weights depend on z too, and leaving it out makes the encoder's gradient biased.

    Args:
        model: offers ``terms`` and ``held_log_q``.
        x, rng, eps: as for ``model.terms``.
        samples: M K, a datum.
        groups: M.

    Returns:
        The bound's own value, (B,), with the estimator as its gradient.
    """
    terms = model.terms(x, rng, samples, eps)
    return bounds.miwae(terms.log_px_z + terms.log_pz - model.held_log_q(x, terms), groups)


def doubly_reparameterised(
    model: LatentVariableModel,
    x: np.ndarray,
    rng: Rng | None = None,
    samples: int = 1,
    groups: int = 1,
    *,
    eps: Any = None,
) -> tuple[Tensor, Tensor]:
    """DReG: an unbiased encoder gradient of MIWAE(M, K) whose signal-to-noise ratio grows with K (Tucker et al. 2019).

        encoder:  sum_k w~_k^2 (d log w_k / d z_k) (d z_k / d phi)      w~: the weights normalised within a group
        decoder:  sum_k w~_k d log p(x, z_k) / d theta                  the plain gradient of the bound

    Reparameterising the score function a second time turns it into a path derivative, which leaves w~^2 of w~.
    Arguments as for :func:`sticking_the_landing`.

    Returns:
        Two surrogates (B,): take the first one's gradient with respect to the encoder alone, the second one's, whose
        value is the bound, with respect to the decoder alone.
    """
    terms = model.terms(x, rng, samples, eps)
    log_w = terms.log_px_z + terms.log_pz - model.held_log_q(x, terms)
    decoder = bounds.miwae(log_w, groups)
    in_groups = ops.reshape(log_w, (groups, log_w.shape[0] // groups, len(x)))
    fixed = np.asarray(in_groups)
    weights = np.exp(fixed - np.asarray(ops.log_sum_exp(fixed, axis=1))[:, None])
    return ops.mean(ops.sum(weights**2 * in_groups, axis=1), axis=0), decoder
