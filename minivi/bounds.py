"""Bounds on log p(x), pure functions of the log-weights log p(x, z_k) - log q(z_k | x): (K, B) -> (B,), in nats."""

from __future__ import annotations

from typing import Any

import numpy as np

from minivi import ops


def elbo(log_w: Any) -> Any:
    """The mean over K samples (thesis eq. 2.10, 2.29)."""
    return ops.mean(log_w, axis=0)


def iwae(log_w: Any) -> Any:
    """log mean_k w_k: the importance-weighted bound (thesis eq. 2.57); K = 1 is the ELBO."""
    return ops.log_sum_exp(log_w, axis=0) - float(np.log(log_w.shape[0]))
