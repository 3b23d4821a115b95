"""The workloads in NumPy alone, forward and backward by hand: what minivi's engine, kernels and layers replace."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minivi.bench.workloads import ADAM, ALPHA, C1, C2, C3, DATA_SIZE, GATE_BIAS, LABELLED, Workload

array = np.asarray


class InPlaceAdam:
    """Adam (thesis, algorithm 6) on a list of arrays, without temporaries."""

    def __init__(self, arrays):
        self.arrays, self.steps = arrays, 0
        self.m, self.v, self.scratch = ([np.zeros_like(a) for a in arrays] for _ in range(3))

    def step(self, gradients):
        """Change every array once."""
        beta1, beta2 = ADAM["beta1"], ADAM["beta2"]
        self.steps += 1
        size = ADAM["step_size"] / (1 - beta1**self.steps)
        unbias = 1 / math.sqrt(1 - beta2**self.steps)
        for p, g, m, v, t in zip(self.arrays, gradients, self.m, self.v, self.scratch, strict=True):
            np.multiply(g, 1 - beta1, out=t)
            m *= beta1
            m += t
            np.multiply(g, g, out=t)
            t *= 1 - beta2
            v *= beta2
            v += t
            np.sqrt(v, out=t)
            t *= unbias
            t += ADAM["eps"]
            np.divide(m, t, out=t)
            t *= size
            p -= t


def _forward(layers, x):
    """A tanh network's output, and the inputs of its layers."""
    inputs = [x]
    for n, (weight, bias) in enumerate(layers):
        y = inputs[-1] @ weight
        y += bias
        if n < len(layers) - 1:
            inputs.append(np.tanh(y, out=y))
    return y, inputs


def _backward(layers, inputs, g, data):
    """Gradients of the layers, and of the network's input unless that is ``data``."""
    gradients = []
    for n in range(len(layers))[::-1]:
        gradients = [inputs[n].T @ g, g.sum(0), *gradients]
        if n or not data:
            g = g @ layers[n][0].T
        if n:
            g *= 1 - inputs[n] * inputs[n]
    return gradients, g


def _bernoulli(x, logits):
    """Log-probabilities (...), and their gradient x - sigmoid(logits) (..., D)."""
    t = np.exp(-np.abs(logits))
    log_px = (x * logits - np.maximum(logits, 0) - np.log1p(t)).sum(-1)
    sigmoid = np.where(logits >= 0, np.float32(1), t)
    t += 1
    sigmoid /= t
    return log_px, np.subtract(x, sigmoid, out=sigmoid)


def vae(w: Workload, p: list, noise: list, x: np.ndarray) -> tuple:
    """Loss and gradients of a VAE: of the bound with the analytic KL, or of the importance-weighted one."""
    half, (eps,) = len(p) // 2, noise
    heads, encoder_inputs = _forward(p[:half], x)
    mu, log_variance = np.split(heads, 2, axis=1)
    sigma = np.exp(0.5 * log_variance)
    z = mu + sigma * eps
    logits, decoder_inputs = _forward(p[half:], z.reshape(-1, z.shape[-1]))
    log_px_z, residual = _bernoulli(x, logits.reshape(*z.shape[:2], -1))
    if w.family == "vae":
        variance = sigma * sigma
        loss = 0.5 * (mu * mu + variance - log_variance - 1).sum() / len(x) - log_px_z.mean()
        weights = np.full(log_px_z.shape, 1 / log_px_z.size, np.float32)
        direct = mu / len(x), 0.5 * (variance - 1) / len(x)
    else:
        log_w = log_px_z - 0.5 * (z * z - eps * eps - log_variance).sum(-1)
        top = log_w.max(0)
        weights = np.exp(log_w - top)
        total = weights.sum(0)
        loss = math.log(w.samples) - (top + np.log(total)).mean()
        weights /= total * len(x)
        direct = 0, -0.5 / len(x)
    residual *= -weights[..., None]
    decoder, g = _backward(p[half:], decoder_inputs, residual.reshape(logits.shape), data=False)
    g = g.reshape(z.shape)
    if w.family != "vae":
        g += weights[..., None] * z
    g_mu, g_log_variance = g.sum(0) + direct[0], 0.5 * sigma * (g * eps).sum(0) + direct[1]
    encoder, _ = _backward(p[:half], encoder_inputs, np.concatenate([g_mu, g_log_variance], 1), data=True)
    return loss, encoder + decoder


def made(w: Workload, p: list, noise: list, x: np.ndarray, masks: tuple) -> tuple:
    """Loss and gradients of MADE."""
    (w1, b1), (w2, b2) = p
    masked = w2 * masks[1]
    h = x @ (w1 * masks[0])
    h += b1
    np.maximum(h, 0, out=h)
    log_px, g = _bernoulli(x, h @ masked + b2)
    g *= np.float32(-1 / len(x))
    g_h = g @ masked.T
    g_h *= h > 0
    return -log_px.mean(), [x.T @ g_h * masks[0], g_h.sum(0), h.T @ g * masks[1], g.sum(0)]


def _softplus(x):
    """softplus(x), and its slope sigmoid(x)."""
    t = np.exp(-np.abs(x))
    return np.maximum(x, 0) + np.log1p(t), np.where(x >= 0, np.float32(1), t) / (1 + t)


def iaf(w: Workload, p: list, noise: list, x: np.ndarray, masks: tuple) -> tuple:
    """Loss and gradients of a VAE with a posterior of inverse autoregressive flow."""
    *steps, (w1, b1), (w2, b2), (w3, b3), (w4, b4) = p
    eps, latents, saved = noise[0][0], w3.shape[0], []
    hidden, encoder_slope = _softplus(x @ w1 + b1)
    mu, log_variance, h = np.split(hidden @ w2 + b2, [latents, 2 * latents], axis=1)
    sigma = np.exp(0.5 * log_variance)
    z = mu + sigma * eps
    loss = -0.5 * (eps * eps + log_variance).sum()
    for t in range(0, len(steps), 4):
        z = z[:, ::-1] if t else z
        weights, inputs = [weight * mask for (weight, _), mask in zip(steps[t : t + 3], masks, strict=True)], [z]
        for n, weight in enumerate(weights):
            a = inputs[n] @ weight + steps[t + n][1] + h @ steps[t + 3][n]
            if n < 2:
                inputs.append(np.where(a > 0, a, np.expm1(np.minimum(a, 0))))
        m, s = a[:, ::2], a[:, 1::2] + np.float32(GATE_BIAS)
        minus_log_gate, rest = _softplus(-s)
        saved.append((weights, inputs, z - m, rest))
        z = z - rest * (z - m)
        loss += minus_log_gate.sum()
    decoded, decoder_slope = _softplus(z @ w3 + b3)
    log_px, g = _bernoulli(x, decoded @ w4 + b4)
    loss = (loss + 0.5 * (z * z).sum() - log_px.sum()) / len(x)
    g *= np.float32(-1 / len(x))
    g_hidden = (g @ w4.T) * decoder_slope
    decoder = [z.T @ g_hidden, g_hidden.sum(0), decoded.T @ g, g.sum(0)]
    g, g_h, flow = g_hidden @ w3.T + z / len(x), np.zeros_like(h), []
    for t, (weights, inputs, gap, rest) in list(zip(range(0, len(steps), 4), saved, strict=True))[::-1]:
        g_a = np.empty((len(x), 2 * latents), g.dtype)  # of z' = z - rest gap, rest = 1 - gate
        g_a[:, ::2] = g * rest
        g_a[:, 1::2] = rest * (g * gap * (1 - rest) - np.float32(1 / len(x)))
        g = g * (1 - rest)
        layers, contexts = [], []
        for n in (2, 1, 0):
            layers = [inputs[n].T @ g_a * masks[n], g_a.sum(0), *layers]
            contexts = [h.T @ g_a, *contexts]
            g_h += g_a @ steps[t + 3][n].T
            g_a = g_a @ weights[n].T
            if n:
                g_a *= np.minimum(inputs[n] + 1, 1)
        g = g + g_a
        g = g[:, ::-1] if t else g
        flow = [*layers, *contexts, *flow]
    heads = np.concatenate([g, 0.5 * (sigma * eps * g - np.float32(1 / len(x))), g_h], axis=1)
    g = (heads @ w2.T) * encoder_slope
    return loss, [*flow, x.T @ g, g.sum(0), hidden.T @ heads, heads.sum(0), *decoder]


def vdropout(w: Workload, p: list, noise: list, x: np.ndarray, labels: np.ndarray) -> tuple:
    """Loss and gradients of variational dropout with the local reparameterisation."""
    kl, saved = 0.0, []
    for n, ((weight, bias, log_alpha), eps) in enumerate(zip(p, noise, strict=True)):
        clipped = np.minimum(log_alpha, 0)
        alpha = np.exp(clipped)
        kl -= weight.size * (0.5 * clipped + C1 * alpha + C2 * alpha**2 + C3 * alpha**3).sum()
        squares, variances = x * x, alpha * weight * weight
        sigma = np.sqrt(squares @ variances + np.float32(1e-8))
        saved.append((x, squares, alpha, variances, sigma))
        x = x @ weight
        x += bias
        x += sigma * eps
        if n < len(p) - 1:
            np.maximum(x, 0, out=x)
    log_p = x - x.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    rows = np.arange(len(x))
    loss = kl / DATA_SIZE - log_p[rows, labels].mean()
    g = np.exp(log_p)
    g[rows, labels] -= 1
    g /= len(x)
    gradients = []
    for n in range(len(p))[::-1]:
        (weight, _, log_alpha), (x, squares, alpha, variances, sigma) = p[n], saved[n]
        g_v = 0.5 * g * noise[n] / sigma
        g_variances = squares.T @ g_v
        g_alpha = (g_variances * weight * weight).sum() * alpha
        g_alpha -= weight.size / DATA_SIZE * (0.5 + C1 * alpha + 2 * C2 * alpha**2 + 3 * C3 * alpha**3)
        g_weight = x.T @ g
        g_weight += 2 * alpha * weight * g_variances
        gradients = [g_weight, g.sum(0), g_alpha * (log_alpha <= 0), *gradients]
        if n:
            g = g @ weight.T
            g += 2 * x * (g_v @ variances.T)
            g *= x > 0
    return loss, gradients


def m2(w: Workload, p: list, noise: list, x: np.ndarray, y: np.ndarray, unlabelled: np.ndarray) -> tuple:
    """Loss and gradients of M2."""
    (cw1, cb1), (cw2, cb2), (ew, eb), (ey,), (hw, hb), (dw, db), (ow, ob) = p
    (eps,), count, classes = noise, len(x), len(ey)
    both, one_hot = np.concatenate([x, unlabelled]), np.eye(len(ey), dtype=x.dtype)
    c, c_slope = _softplus(both @ cw1 + cb1)
    logits = c @ cw2 + cb2
    log_q = logits - logits.max(1, keepdims=True)
    log_q -= np.log(np.exp(log_q).sum(1, keepdims=True))
    shared = both @ ew + eb
    rows = np.concatenate([one_hot[y], np.repeat(one_hot, count, 0)])
    h, h_slope = _softplus(np.concatenate([shared[:count], np.tile(shared[count:], (classes, 1))]) + rows @ ey)
    mu, log_variance = np.split(h @ hw + hb, 2, axis=1)
    sigma = np.exp(0.5 * log_variance)
    inputs = np.concatenate([mu + sigma * eps, rows], 1)
    d, d_slope = _softplus(inputs @ dw + db)
    log_px, g = _bernoulli(np.concatenate([x, np.tile(unlabelled, (classes, 1))]), d @ ow + ob)
    minus = 0.5 * (mu * mu + sigma * sigma - log_variance - 1).sum(1) + math.log(classes) - log_px
    q, other = np.exp(log_q), minus[count:].reshape(classes, count).T
    marginal = (q[count:] * (other + log_q[count:])).sum(1)
    loss = (LABELLED * minus[:count].sum() + (1 - LABELLED) * marginal.sum()) / count
    loss -= ALPHA * (log_q[:count] * one_hot[y]).sum() / count
    weights = np.concatenate([np.full(count, LABELLED), (1 - LABELLED) * q[count:].T.ravel()]).astype(x.dtype) / count
    g *= -weights[:, None]
    g_d = g @ ow.T * d_slope
    g_z = (g_d @ dw.T)[:, : mu.shape[1]]
    heads = np.concatenate([
        g_z + weights[:, None] * mu, 0.5 * (g_z * sigma * eps + weights[:, None] * (sigma * sigma - 1))
    ], 1)  # fmt: skip
    g_h = heads @ hw.T * h_slope
    g_shared = np.concatenate([g_h[:count], g_h[count:].reshape(classes, count, -1).sum(0)])
    g_logits = np.concatenate([
        ALPHA * (q[:count] - one_hot[y]), (1 - LABELLED) * q[count:] * (other + log_q[count:] - marginal[:, None])
    ]).astype(x.dtype) / count  # fmt: skip
    g_c = g_logits @ cw2.T * c_slope
    return loss, [
        both.T @ g_c, g_c.sum(0), c.T @ g_logits, g_logits.sum(0), both.T @ g_shared, g_shared.sum(0), rows.T @ g_h,
        h.T @ heads, heads.sum(0), inputs.T @ g_d, g_d.sum(0), d.T @ g, g.sum(0),
    ]  # fmt: skip


MODELS = {"vae": vae, "iwae50": vae, "made": made, "iaf": iaf, "vdropout": vdropout, "m2": m2}


def about() -> dict[str, Any]:
    """Versions, and the workloads that there are."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    versions = {"numpy": np.__version__, "blas": f"{blas['name']} {blas['version']}"}
    return {"versions": versions, "families": [*MODELS, "adam", "gemm", "rng"]}


def build(w: Workload) -> Callable:
    """``step(batch, noise)`` of a workload."""
    rng = np.random.default_rng(0)
    if w.family == "gemm":
        out = np.empty((w.shape[0], w.shape[2]), np.float32)
        turn = [np.transpose if t == "t" else np.asarray for t in w.layout]
        return lambda batch, noise: np.matmul(turn[0](batch[0]), turn[1](batch[1]), out=out)
    if w.family == "rng":
        return lambda batch, noise: rng.standard_normal(w.shape, np.float32)
    p = w.parameters()
    optimizer = InPlaceAdam([a for layer in p for a in layer])
    if w.family == "adam":

        def update(batch, noise):
            optimizer.step(batch)
            return p[0][0][:1000]

        return update
    more = {"masks": w.masks()} if w.family in ("made", "iaf") else {}

    def step(batch, noise):
        noise = noise or [rng.standard_normal(shape, np.float32) for shape in w.noise]
        loss, gradients = MODELS[w.family](w, p, noise, *batch, **more)
        optimizer.step(gradients)
        return loss

    return step
