"""Ancestral sampling from a masked autoregressive network in the time of one pass, instead of one pass a dimension.

Units are sorted by degree (the number of dimensions that they may see), so what is known at any moment comes first in
each layer. A number, as soon as it is known, is added to what it feeds, and never looked at again:

        x_i drawn  ->  first hidden layer: pre-activations of the units of degree > i     (row i of its weights)
                       units of degree i + 1 have now seen all that they may: activate each, once
                   ->  next layer: pre-activations of the units of at least that degree   (a row of the next weights)
                       ... and so on up to the outputs of the dimensions behind i
        x_i+1 drawn from its own outputs, which are complete

Each weight that the masks let through is used once a row, where the naive way uses it D times. The sums run over the
same terms in the same order as those of :func:`~minivi.kernels.matmul.masked_matmul`. Zeros (black pixels, units at
rest) feed nothing and are skipped.
"""

import numpy as np
from numba import njit

from minivi.kernels.jit import MATH, chunk, launch
from minivi.kernels.matmul import as_integers, at
from minivi.kernels.shapes import ACTIVATION_CODES, checked_start
from minivi.kernels.vector import as_operands, f, scalar_exp, scalar_expm1, scalar_sigmoid, scalar_softplus, scalar_tanh

__all__ = ["autoregressive_sample"]


@njit(**MATH)
def _activate(code, x):
    if code == 0:
        return scalar_tanh(x)
    if code == 1:
        return scalar_softplus(x)
    if code == 2:
        return f(0) if x < f(0) else x
    if code == 3:
        return x if x > f(0) else scalar_expm1(f(0) if x > f(0) else x)
    return scalar_sigmoid(x)


@njit(**MATH)
def _feed(target, value, weights, count):
    """target += value * weights."""
    if value != 0:
        for k in range(count):
            target[k] += value * weights[k]


@chunk
def _autoregressive_sample(p, s, lo, hi):
    x, noise, state, numbers = p[0], p[1], p[2], as_integers(p[3])
    D, outputs, layers, code = numbers[0], numbers[1], numbers[2], numbers[3]
    sizes, known = at(numbers, 4), at(numbers, 5 + layers)  # sizes: of the hidden layers and the outputs
    total = 0
    for layer in range(layers + 1):
        total += sizes[layer]
    for r in range(lo, hi):
        first = at(state, r * total)
        final = at(first, total - sizes[layers])
        for i in range(D):
            eps, own = noise[r * D + i], at(final, i * outputs)
            if outputs == 1:
                value = f(1) if eps < scalar_sigmoid(own[0]) else f(0)
                x[r * D + i] = value
            else:
                x[r * D + i] = own[0] + scalar_exp(own[1]) * eps
            start = known[i] if layers > 0 else (i + 1) * outputs
            _feed(at(first, start), x[r * D + i], at(p[4], i * sizes[0] + start), sizes[0] - start)
            layer = first
            for l in range(layers):
                following, width = at(layer, sizes[l]), sizes[l + 1]
                start = known[(l + 1) * (D + 1) + i] if l + 1 < layers else (i + 1) * outputs
                for u in range(known[l * (D + 1) + i], known[l * (D + 1) + i + 1]):
                    h = _activate(code, layer[u])
                    _feed(at(following, start), h, at(p[5 + l], u * width + start), width - start)
                layer = following


def autoregressive_sample(noise, start, weights, known, activation):
    """Samples of a masked autoregressive network from their noise, in one pass.

    Dimensions and units are sorted by degree, all arrays of one type, float32 or float64.

    Args:
        noise: (B, D). With one output for each dimension, a logit: uniforms, and x_i = 1 if the uniform is below
            sigmoid(logit). With two, mu and log sigma: standard normals, and x_i = mu + sigma eps.
        start: (1 or B, hidden units of all layers + D outputs): biases, and what else does not depend on x.
        weights: of each layer, (D, H_1), (H_1, H_2), ..., (H_L, D outputs), zero under the masks.
        known: (L, D + 1), how many units of layer l have a degree of at most i; without hidden layers, (0, D + 1).
        activation: "tanh", "softplus", "relu", "elu" or "sigmoid".

    Returns:
        The samples (B, D), and the outputs (B, D, outputs) from which each was drawn.

    Raises:
        TypeError: arrays of several types.
        ValueError: shapes that do not fit, or another number of outputs than 1 or 2.
    """
    B, D = noise.shape
    outputs, state = checked_start(noise, start, weights, known)
    noise, state, *weights = as_operands("autoregressive_sample", (noise, state, *weights))
    sizes = [w.shape[1] for w in weights]
    numbers = np.array([D, outputs, len(known), ACTIVATION_CODES[activation], *sizes, *known.ravel()], np.int64)
    x = np.empty((B, D), noise.dtype)
    arrays = (x, noise, state, numbers.view(noise.dtype), *weights)
    launch(_autoregressive_sample, B, arrays, work=B * sum(w.size for w in weights) // 16)
    return x, state[:, -D * outputs :].reshape(B, D, outputs)
