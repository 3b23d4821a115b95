"""Wake-sleep and its reweighted form: each network follows the other's samples, and no gradient crosses them."""

from __future__ import annotations

from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.estimators._parts import drawn, normalised, total
from minivi.protocols import Rng, SampledModel
from minivi.tensor import Tensor, no_grad


def wake_sleep(model: SampledModel, x: np.ndarray, rng: Rng) -> Tensor:
    """Both phases of wake-sleep (Hinton et al. 1995; thesis sections 2.10, 2.11) as one surrogate.

        wake:  z ~ q(z | x) for the data x,   the decoder follows grad_theta log p(x, z)
        sleep: (x, z) ~ p(x, z), a dream,     the encoder follows grad_phi log q(z | x)

    No gradient goes through either sampling, so each phase reaches one network alone. The sum is no bound of anything.

    Args:
        model: offers ``draw``, ``log_p_parts``, ``log_q_parts`` and ``dream``.
        x: data (B, D).
        rng: generator of the samples, one a datum in each phase.

    Returns:
        log p(x, z) of the data plus log q(z | x) of as many dreams, (B,), in nats.

    Raises:
        ValueError: x that is not (B, D), or no generator.
    """
    validate.rows(x, "wake_sleep: x")
    validate.generator(rng, "wake_sleep: rng")
    validate.offers(model, "wake_sleep: model", "draw", "log_p_parts", "log_q_parts", "dream")
    guess = model.draw(x, rng)
    return total(model.log_p_parts(x, guess))[0] + _of_dreams(model, len(x), rng)


def _of_dreams(model, count, rng):
    """log q(h | x) of dreams, (count,)."""
    with no_grad():
        x, h = model.dream(count, rng)
    return total(model.log_q_parts(x, [one[None] for one in h]))[0]


def reweighted_wake_sleep(
    model: SampledModel,
    x: np.ndarray,
    rng: Rng | None = None,
    samples: int = 5,
    *,
    wake_p: float = 1.0,
    wake_q: float = 0.5,
    sleep_q: float = 0.5,
    h: Any = None,
) -> Tensor:
    """Reweighted wake-sleep (Bornschein & Bengio 2015; review report eq. 13-15) as one surrogate.

        wake, p:   sum_k w~_k grad_theta log p(x, h_k),  h_k ~ q(h | x)                                  (eq. 14)
        wake, q:   sum_k w~_k grad_phi log q(h_k | x)                                                    (eq. 15)
        sleep, q:  grad_phi log q(h | x),  (x, h) ~ p, a dream

    w~ are the weights p(x, h_k) / q(h_k | x) of eq. 13, normalised over the K samples of a datum: constants. Eq. 14
    prints w_k without saying that they are normalised, and the text writes log q(x | h) where eq. 15 has q(h | x). At
    finite K both wake phases are biased: they follow the estimate of p(x) made of K samples. ``wake_p=1, wake_q=0,
    sleep_q=1`` with one sample is wake-sleep (eq. 12).

    Args:
        model: offers ``draw_and_score``, ``log_p_parts``, ``log_q_parts`` and, for the sleep phase, ``dream``.
        x: data (B, D).
        rng: generator of the samples and dreams.
        samples: K, a datum.
        wake_p, wake_q, sleep_q: weights of the three parts, at least 0.
        h: the samples themselves, an array (K, B, J) for each layer, instead of draws, for checks.

    Returns:
        Surrogate (B,), to be maximised; no bound of anything.

    Raises:
        ValueError: a negative weight, or none above 0; as :func:`vimco`.
    """
    weights = {"wake_p": wake_p, "wake_q": wake_q, "sleep_q": sleep_q}
    for name, weight in weights.items():
        validate.number(weight, f"reweighted_wake_sleep: {name}", 0)
    if not any(weights.values()):
        raise ValueError("reweighted_wake_sleep: wake_p, wake_q and sleep_q are all 0: nothing would learn; raise one")
    p, q = drawn("reweighted_wake_sleep", model, x, rng, samples, h)
    log_p, log_q = total(p), total(q)
    weight = normalised(log_p, log_q)  # review report eq. 13
    surrogate = ops.sum(weight * (wake_p * log_p + wake_q * log_q), axis=0)  # review report eq. 14, 15
    if sleep_q:
        validate.generator(rng, "reweighted_wake_sleep: rng")
        validate.offers(model, "reweighted_wake_sleep: model", "dream")
        surrogate = surrogate + sleep_q * _of_dreams(model, len(x), rng)
    return surrogate
