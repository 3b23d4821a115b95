"""The twin of :mod:`minivi.kernels.autoregressive`: all rows side by side, in NumPy."""

import numpy as np

from minivi.kernels.reference import vector
from minivi.kernels.shapes import checked_start

__all__ = ["autoregressive_sample"]


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
