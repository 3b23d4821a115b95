"""What estimators that send no gradient through samples share."""

from collections.abc import Sequence
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
    check_given(f"{name}: h", h, x, model.sizes)
    return model.log_p_parts(x, h), model.log_q_parts(x, h)


def check_given(name, arrays, x, sizes):
    """Samples or their noise: (K, B, J) for each layer, with one K and the B of the data."""
    shapes = [np.shape(a) for a in arrays] if isinstance(arrays, Sequence | np.ndarray) else []
    many = shapes[0][0] if shapes and shapes[0] else 0
    if not many or shapes != [(many, len(x), j) for j in sizes]:
        got = f"of shapes {shapes}" if shapes else validate.brief(arrays)
        raise ValueError(f"{name} {got}; pass an array (K, {len(x)}, J) for each J of {tuple(sizes)}")


def total(parts):
    """Their sum."""
    return reduce(add, parts)


def normalised(log_p, log_q):
    """The importance weights of the K samples of each datum, which sum to 1: constants (K, B)."""
    log_w = np.asanyarray(log_p) - np.asanyarray(log_q)
    return np.exp(log_w - np.asanyarray(ops.log_sum_exp(log_w, axis=0)))
