"""The twin of :mod:`minivi.kernels.autoregressive`: all rows side by side, in NumPy."""

import numpy as np

from . import vector

__all__ = ["autoregressive_sample"]

ACTIVATION_CODES = {"tanh": 0, "softplus": 1, "relu": 2, "elu": 3, "sigmoid": 4}


def checked_start(noise, start, weights, known):
    """The number of outputs of each dimension, and ``start`` as a fresh array with a row for each sample."""
    B, D = noise.shape
    outputs, rest = divmod(weights[-1].shape[1], D)
    if outputs not in (1, 2) or rest:
        raise ValueError(
            f"autoregressive_sample: {weights[-1].shape[1]} outputs for {D} dimensions; there must be 1 for each, a "
            "logit, or 2, mu and log sigma"
        )
    sizes = [D, *(w.shape[1] for w in weights)]
    fits = start.shape[-1] == sum(sizes[1:]) and known.shape == (len(weights) - 1, D + 1)
    if not fits or [w.shape[0] for w in weights] != sizes[:-1]:
        raise ValueError(
            f"autoregressive_sample: weights of {[w.shape for w in weights]}, start {start.shape} and known "
            f"{known.shape} do not fit; they must be (D, H_1), (H_1, H_2), ..., (..., sum of all layers), (L, D + 1)"
        )
    return outputs, np.array(np.broadcast_to(start, (B, start.shape[-1])))


def autoregressive_sample(noise, start, weights, known, activation):
    """Samples in one pass, and the outputs behind them: see :mod:`minivi.kernels.autoregressive`."""
    B, D = noise.shape
    outputs, state = checked_start(noise, start, weights, known)
    activate = getattr(vector, activation)
    *hidden, final = np.split(state, np.cumsum([w.shape[1] for w in weights])[:-1], axis=1)
    x = np.empty((B, D), noise.dtype)
    for i in range(D):
        own = final[:, i * outputs : (i + 1) * outputs]
        if outputs == 1:
            x[:, i] = noise[:, i] < vector.sigmoid(own[:, 0])
        else:
            x[:, i] = own[:, 0] + np.exp(own[:, 1]) * noise[:, i]
        done = x[:, i : i + 1]
        new = slice(i, i + 1)
        for layer, w, units in zip(hidden, weights, known, strict=False):
            layer += done @ w[new]
            new = slice(units[i], units[i + 1])
            done = activate(layer[:, new])
        final += done @ weights[-1][new]
    return x, final.reshape(B, D, outputs)
