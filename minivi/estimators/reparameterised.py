"""Gradients through the samples: estimators of a reparameterised q, and straight-through for binary latents."""

from __future__ import annotations

from typing import Any

import numpy as np

from minivi import bounds, ops, validate
from minivi.protocols import LatentVariableModel, Rng
from minivi.tensor import Tensor


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
    fixed = np.asanyarray(in_groups)
    weights = np.exp(fixed - np.asanyarray(ops.log_sum_exp(fixed, axis=1))[:, None])
    return ops.mean(ops.sum(weights**2 * in_groups, axis=1), axis=0), decoder


def straight_through(
    model: Any, x: np.ndarray, rng: Rng | None = None, samples: int = 1, *, uniform: Any = None
) -> Tensor:
    """The bound with binary samples through which the gradient passes as if they were their means (Bengio et al. 2013).

    Forward, h is 0 or 1; backward, dh is dmu = mu (1 - mu) d logit (refinement report, section 5). The entropy of each
    layer is exact given its parents. The gradient is biased, for the encoder as for what stands below a sample.

    Args:
        model: a :class:`~minivi.models.BeliefNetwork` whose layers are factorised.
        x: data (B, D).
        rng: generator of the samples.
        samples: K, a datum.
        uniform: uniform numbers in [0, 1) instead, (K, B, J) for each layer, for checks.

    Returns:
        The bound's own value, (B,), in nats, with that estimator as its gradient.

    Raises:
        ValueError: an autoregressive layer, whose units have no means beforehand; as the model.
    """
    validate.rows(x, "straight_through: x")
    validate.offers(model, "straight_through: model", "encode", "log_p_parts", "sizes")
    if uniform is None:
        validate.generator(rng, "straight_through: rng")
        validate.count(samples, "straight_through: samples")
    h, entropy, below = [], 0.0, x
    for level, units in enumerate(model.sizes):
        mean = (q := model.encode(below, level)).mean
        drawn = rng.random((samples, len(x), units), dtype=model.dtype) if uniform is None else uniform[level]
        ones = (drawn < np.asanyarray(mean)).astype(model.dtype)
        below = ones + (mean - np.asanyarray(mean))  # exactly 0 or 1, with the gradient of the mean
        h.append(below)
        entropy = entropy + q.entropy()
    return ops.mean(sum(model.log_p_parts(x, h)) + entropy, axis=0)
