"""Gradient estimators as surrogates: scalars for each datum whose ``grad`` is the estimator, to be maximised.

A surrogate's *value* need not be a bound; where it is none, the docstring says so. They are built of the same parts as
the bounds of :mod:`minivi.bounds`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minivi.tensor import Tensor, no_grad


def wake_sleep(model: Any, x: np.ndarray, rng: Any) -> Tensor:
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
    """
    with no_grad():
        guess = model.encode(x).sample(rng)
        cause = rng.standard_normal((len(x), model.latents), dtype=model.dtype)
        dream = model.decode(cause).sample(rng)
    wake = model.decode(guess).log_prob(x)  # log p(z) has no parameters
    sleep = model.encode(dream).log_prob(cause)
    return wake + sleep
