"""The workloads in HIPS autograd on NumPy, with what a careful user adds: softplus as a primitive, an Adam in place."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable
from typing import Any

import autograd.numpy as np
import numpy
from autograd import value_and_grad
from autograd.extend import defvjp, primitive

from minivi.bench.in_numpy import InPlaceAdam
from minivi.bench.workloads import ALPHA, C1, C2, C3, DATA_SIZE, GATE_BIAS, LABELLED, Workload

array = numpy.asarray


@primitive
def _softplus(x):
    return numpy.maximum(x, 0) + numpy.log1p(numpy.exp(-numpy.abs(x)))


@primitive
def _relu(x):
    return numpy.maximum(x, 0)


@primitive
def _elu(x):
    return numpy.where(x > 0, x, numpy.expm1(numpy.minimum(x, 0)))


defvjp(_softplus, lambda y, x: lambda g: g / (1 + numpy.exp(-x)))
defvjp(_relu, lambda y, x: lambda g: g * (x > 0))
defvjp(_elu, lambda y, x: lambda g: g * numpy.minimum(y + 1, 1))


def _network(layers, x):
    for weight, bias in layers[:-1]:
        x = np.tanh(np.dot(x, weight) + bias)
    weight, bias = layers[-1]
    return np.dot(x, weight) + bias


def _log_prob(x, logits):
    return np.sum(x * logits - _softplus(logits), -1)


def _log_sum_exp(x, axis):  # autograd's own needs SciPy
    top = numpy.max(x._value, axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.sum(np.exp(x - top), axis))


def _encode(p, x, eps):
    heads = _network(p[: len(p) // 2], x)
    half = heads.shape[1] // 2
    mu, log_variance = heads[:, :half], heads[:, half:]
    return mu, log_variance, mu + np.exp(0.5 * log_variance) * eps


def vae(p: list, noise: list, x: numpy.ndarray) -> numpy.ndarray:
    """Minus the bound with the analytic KL."""
    mu, log_variance, z = _encode(p, x, noise[0][0])
    kl = 0.5 * np.sum(mu * mu + np.exp(log_variance) - log_variance - 1)
    return (kl - np.sum(_log_prob(x, _network(p[len(p) // 2 :], z)))) / len(x)


def iwae50(p: list, noise: list, x: numpy.ndarray) -> numpy.ndarray:
    """Minus the importance-weighted bound."""
    (eps,) = noise
    _, log_variance, z = _encode(p, x, eps)
    logits = _network(p[len(p) // 2 :], np.reshape(z, (-1, z.shape[-1])))
    log_px_z = _log_prob(x, np.reshape(logits, (*z.shape[:2], -1)))
    log_w = log_px_z - 0.5 * np.sum(z * z - eps * eps - log_variance, -1)
    return math.log(len(eps)) - np.mean(_log_sum_exp(log_w, 0))


def made(p: list, noise: list, x: numpy.ndarray, masks: list) -> numpy.ndarray:
    """Minus the log-likelihood of MADE."""
    (w1, b1), (w2, b2) = p
    h = _relu(np.dot(x, w1 * masks[0]) + b1)
    return -np.mean(_log_prob(x, np.dot(h, w2 * masks[1]) + b2))


def iaf(p: list, noise: list, x: numpy.ndarray, masks: list) -> numpy.ndarray:
    """Minus the bound with a posterior of inverse autoregressive flow."""
    *steps, (w1, b1), (w2, b2), (w3, b3), (w4, b4) = p
    eps, latents = noise[0][0], w3.shape[0]
    heads = np.dot(_softplus(np.dot(x, w1) + b1), w2) + b2
    mu, log_variance, h = heads[:, :latents], heads[:, latents : 2 * latents], heads[:, 2 * latents :]
    z = mu + np.exp(0.5 * log_variance) * eps
    loss = -0.5 * np.sum(eps * eps + log_variance)
    for t in range(0, len(steps), 4):
        a = z = z[:, ::-1] if t else z
        for n, ((weight, bias), context, mask) in enumerate(zip(steps[t : t + 3], steps[t + 3], masks, strict=True)):
            a = np.dot(_elu(a) if n else a, weight * mask) + bias + np.dot(h, context)
        a = np.reshape(a, (len(x), latents, 2))
        m, s = a[:, :, 0], a[:, :, 1] + numpy.float32(GATE_BIAS)
        gate = 1 / (1 + np.exp(-s))
        z = gate * z + (1 - gate) * m
        loss = loss + np.sum(_softplus(-s))
    logits = np.dot(_softplus(np.dot(z, w3) + b3), w4) + b4
    return (loss + 0.5 * np.sum(z * z) - np.sum(_log_prob(x, logits))) / len(x)


def vdropout(p: list, noise: list, x: numpy.ndarray, labels: numpy.ndarray) -> numpy.ndarray:
    """Variational dropout with the local reparameterisation."""
    kl = 0.0
    for n, ((weight, bias, log_alpha), eps) in enumerate(zip(p, noise, strict=True)):
        x = _relu(x) if n else x
        log_alpha = np.minimum(log_alpha, numpy.float32(0))
        alpha = np.exp(log_alpha)
        variance = np.dot(x * x, alpha * weight * weight)
        x = np.dot(x, weight) + bias + np.sqrt(variance + numpy.float32(1e-8)) * eps
        kl = kl - weight.size * np.sum(0.5 * log_alpha + C1 * alpha + C2 * alpha**2 + C3 * alpha**3)
    return kl / DATA_SIZE + np.mean(_log_sum_exp(x, 1) - x[numpy.arange(len(x)), labels])


def m2(p: list, noise: list, x: numpy.ndarray, y: numpy.ndarray, unlabelled: numpy.ndarray) -> numpy.ndarray:
    """Minus J^alpha of M2 for each datum."""
    (cw1, cb1), (cw2, cb2), (ew, eb), (ey,), (hw, hb), (dw, db), (ow, ob) = p
    (eps,), count, classes = noise, len(x), len(ey)
    both, one_hot = numpy.concatenate([x, unlabelled]), numpy.eye(len(ey), dtype=x.dtype)
    logits = np.dot(_softplus(np.dot(both, cw1) + cb1), cw2) + cb2
    log_q = logits - _log_sum_exp(logits, 1)[:, None]
    shared = np.dot(both, ew) + eb
    rows = numpy.concatenate([one_hot[y], numpy.repeat(one_hot, count, 0)])
    a = np.concatenate([shared[:count], np.concatenate([shared[count:]] * classes)]) + np.dot(rows, ey)
    heads = np.dot(_softplus(a), hw) + hb
    latents = heads.shape[1] // 2
    mu, log_variance = heads[:, :latents], heads[:, latents:]
    z = mu + np.exp(0.5 * log_variance) * eps
    logits = np.dot(_softplus(np.dot(np.concatenate([z, rows], 1), dw) + db), ow) + ob
    target = numpy.concatenate([x, numpy.tile(unlabelled, (classes, 1))])
    kl = 0.5 * np.sum(mu * mu + np.exp(log_variance) - log_variance - 1, 1) + math.log(classes)
    minus = kl - _log_prob(target, logits)
    other = np.transpose(np.reshape(minus[count:], (classes, count)))
    marginal = np.sum(np.exp(log_q[count:]) * (other + log_q[count:]))
    wrong = -np.mean(np.sum(log_q[:count] * one_hot[y], 1))
    return (LABELLED * np.sum(minus[:count]) + (1 - LABELLED) * marginal) / count + ALPHA * wrong


MODELS = {"vae": vae, "iwae50": iwae50, "made": made, "iaf": iaf, "vdropout": vdropout, "m2": m2}


def about() -> dict[str, Any]:
    """Versions, and the workloads that there are: the others would be NumPy's own."""
    versions = {"autograd": importlib.metadata.version("autograd"), "numpy": numpy.__version__}
    return {"versions": versions, "families": list(MODELS)}


def build(w: Workload) -> Callable:
    """``step(batch, noise)`` of a workload."""
    rng = numpy.random.default_rng(0)
    p = w.parameters()
    optimizer = InPlaceAdam([a for layer in p for a in layer])
    more = {"masks": w.masks()} if w.family in ("made", "iaf") else {}
    both = value_and_grad(lambda p, noise, batch: MODELS[w.family](p, noise, *batch, **more))

    def step(batch, noise):
        noise = noise or [rng.standard_normal(shape, numpy.float32) for shape in w.noise]
        loss, gradients = both(p, noise, batch)
        optimizer.step([g for layer in gradients for g in layer])
        return loss

    return step
