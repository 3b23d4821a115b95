"""What estimators that send no gradient through samples share."""

from functools import reduce
from operator import add

import numpy as np

from minivi import ops, validate


def drawn(name, model, x, rng, samples, h):
    """The parts of log p(x, h) and of log q(h | x), each (K, B), of K draws or of the samples ``h``."""
    validate.rows(x, f"{name}: x")
    validate.offers(model, f"{name}: model", "draw_and_score", "log_p_parts", "log_q_parts")
    if h is None:
        validate.generator(rng, f"{name}: rng")
        validate.count(samples, f"{name}: samples")
        h, q = model.draw_and_score(x, rng, samples)
        return model.log_p_parts(x, h), q
    return model.log_p_parts(x, h), model.log_q_parts(x, h)


def total(parts):
    """Their sum."""
    return reduce(add, parts)


def normalised(log_p, log_q):
    """The importance weights of the K samples of each datum, which sum to 1: constants (K, B)."""
    log_w = np.asarray(log_p) - np.asarray(log_q)
    return np.exp(log_w - np.asarray(ops.log_sum_exp(log_w, axis=0)))
