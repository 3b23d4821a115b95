"""The workloads in JAX: one jitted training step with donated state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
from jax import lax, nn

from minivi.bench.workloads import ADAM, ALPHA, C1, C2, C3, DATA_SIZE, GATE_BIAS, LABELLED, Workload

array = jnp.asarray


def _network(layers, x):
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def _log_prob(x, logits):
    return (x * logits - nn.softplus(logits)).sum(-1)


def _encode(p, x, eps):
    mu, log_variance = jnp.split(_network(p[: len(p) // 2], x), 2, 1)
    return mu, log_variance, mu + jnp.exp(0.5 * log_variance) * eps


def vae(p: list, noise: list, x: jax.Array) -> jax.Array:
    """Minus the bound with the analytic KL."""
    mu, log_variance, z = _encode(p, x, noise[0][0])
    kl = 0.5 * (mu * mu + jnp.exp(log_variance) - log_variance - 1).sum()
    return (kl - _log_prob(x, _network(p[len(p) // 2 :], z)).sum()) / len(x)


def iwae50(p: list, noise: list, x: jax.Array) -> jax.Array:
    """Minus the importance-weighted bound."""
    (eps,) = noise
    _, log_variance, z = _encode(p, x, eps)
    logits = _network(p[len(p) // 2 :], z.reshape(-1, z.shape[-1])).reshape(*z.shape[:2], -1)
    log_w = _log_prob(x, logits) - 0.5 * (z * z - eps * eps - log_variance).sum(-1)
    return math.log(len(eps)) - nn.logsumexp(log_w, 0).mean()


def made(p: list, noise: list, x: jax.Array, masks: list) -> jax.Array:
    """Minus the log-likelihood of MADE."""
    (w1, b1), (w2, b2) = p
    return -_log_prob(x, nn.relu(x @ (w1 * masks[0]) + b1) @ (w2 * masks[1]) + b2).mean()


def iaf(p: list, noise: list, x: jax.Array, masks: list) -> jax.Array:
    """Minus the bound with a posterior of inverse autoregressive flow."""
    *steps, (w1, b1), (w2, b2), (w3, b3), (w4, b4) = p
    eps, latents = noise[0][0], w3.shape[0]
    mu, log_variance, h = jnp.split(nn.softplus(x @ w1 + b1) @ w2 + b2, [latents, 2 * latents], 1)
    z = mu + jnp.exp(0.5 * log_variance) * eps
    log_q = -0.5 * (eps * eps + log_variance).sum()
    for t in range(0, len(steps), 4):
        a = z = z[:, ::-1] if t else z
        for n, ((weight, bias), context, mask) in enumerate(zip(steps[t : t + 3], steps[t + 3], masks, strict=True)):
            a = (nn.elu(a) if n else a) @ (weight * mask) + bias + h @ context
        m, s = jnp.moveaxis(a.reshape(len(x), latents, 2), 2, 0)
        gate = nn.sigmoid(s + GATE_BIAS)
        z = gate * z + (1 - gate) * m
        log_q -= nn.log_sigmoid(s + GATE_BIAS).sum()
    logits = nn.softplus(z @ w3 + b3) @ w4 + b4
    return (log_q + 0.5 * (z * z).sum() - _log_prob(x, logits).sum()) / len(x)


def vdropout(p: list, noise: list, x: jax.Array, labels: jax.Array) -> jax.Array:
    """Variational dropout with the local reparameterisation."""
    kl = 0.0
    for n, ((weight, bias, log_alpha), eps) in enumerate(zip(p, noise, strict=True)):
        x = nn.relu(x) if n else x
        log_alpha = jnp.minimum(log_alpha, 0.0)
        alpha = jnp.exp(log_alpha)
        variance = (x * x) @ (alpha * weight * weight)
        x = x @ weight + bias + jnp.sqrt(variance + 1e-8) * eps
        kl -= weight.size * (0.5 * log_alpha + C1 * alpha + C2 * alpha**2 + C3 * alpha**3).sum()
    return kl / DATA_SIZE - jnp.take_along_axis(nn.log_softmax(x), labels[:, None], 1).mean()


def m2(p: list, noise: list, x: jax.Array, y: jax.Array, unlabelled: jax.Array) -> jax.Array:
    """Minus J^alpha of M2 for each datum."""
    (cw1, cb1), (cw2, cb2), (ew, eb), (ey,), (hw, hb), (dw, db), (ow, ob) = p
    (eps,), count, classes = noise, len(x), len(ey)
    both = jnp.concatenate([x, unlabelled])
    log_q = nn.log_softmax(nn.softplus(both @ cw1 + cb1) @ cw2 + cb2)
    shared = both @ ew + eb
    every = lambda given, other, rows: jnp.concatenate(
        [given + rows[y], (other + rows[:, None]).reshape(-1, rows.shape[1])]
    )
    a = every(shared[:count], shared[count:], ey)
    mu, log_variance = jnp.split(nn.softplus(a) @ hw + hb, 2, 1)
    z = mu + jnp.exp(0.5 * log_variance) * eps
    latents = z.shape[1]
    a = z @ dw[:latents] + db
    a = every(a[:count], a[count:].reshape(classes, count, -1), dw[latents:])
    logits = nn.softplus(a) @ ow + ob
    kl = 0.5 * (mu * mu + jnp.exp(log_variance) - log_variance - 1).sum(1) + math.log(classes)
    given = kl[:count] - _log_prob(x, logits[:count])
    other = kl[count:].reshape(classes, count) - _log_prob(unlabelled, logits[count:].reshape(classes, count, -1))
    marginal = (jnp.exp(log_q[count:]) * (other.T + log_q[count:])).sum()
    wrong = -jnp.take_along_axis(log_q[:count], y[:, None], 1).mean()
    return (LABELLED * given.sum() + (1 - LABELLED) * marginal) / count + ALPHA * wrong


def cnn(p: list, noise: list, x: jax.Array, y: jax.Array) -> jax.Array:
    """Minus the log-probability of the labels."""
    *convolutions, (w1, b1), (w2, b2) = p
    for kernel, bias in convolutions:
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
        pads = ((0, 0), (1, 1), (1, 1), (0, 0))
        x = lax.reduce_window(nn.relu(x), -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)
    logits = nn.relu(x.reshape(len(x), -1) @ w1 + b1) @ w2 + b2
    return -jnp.take_along_axis(nn.log_softmax(logits), y[:, None], 1).mean()


def _adam(p, gradients, m, v, steps):
    beta1, beta2 = ADAM["beta1"], ADAM["beta2"]
    unbias1, unbias2 = 1 - beta1**steps, 1 - beta2**steps
    m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, gradients)
    v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, gradients)
    change = lambda p, m, v: p - ADAM["step_size"] / unbias1 * m / (jnp.sqrt(v / unbias2) + ADAM["eps"])
    return jax.tree.map(change, p, m, v), m, v


MODELS = {"vae": vae, "iwae50": iwae50, "made": made, "iaf": iaf, "vdropout": vdropout, "m2": m2, "cnn": cnn}


def about() -> dict[str, Any]:
    """Versions, and the workloads that there are."""
    versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__}
    return {"versions": versions, "families": [*MODELS, "adam", "gemm", "rng"]}


def build(w: Workload) -> Callable:
    """``step(batch, noise)`` of a workload."""
    if w.family == "gemm":
        turn = [jnp.transpose if t == "t" else jnp.asarray for t in w.layout]
        product = jax.jit(lambda a, b: turn[0](a) @ turn[1](b))
        return lambda batch, noise: product(*batch).block_until_ready()
    key = jax.random.key(0)
    if w.family == "rng":
        draw = jax.jit(lambda key: jax.random.normal(key, w.shape, jnp.float32))
        return lambda batch, noise: draw(key).block_until_ready()
    p = jax.tree.map(jnp.array, w.parameters())
    more = {"masks": [jnp.array(m) for m in w.masks()]} if w.family in ("made", "iaf") else {}

    def loss(p, noise, *batch):
        return MODELS[w.family](p, noise, *batch, **more)

    def train(state, batch, noise):
        p, m, v, steps, key = state
        steps += 1
        if w.family == "adam":
            p, m, v = _adam(p, [batch], m, v, steps)
            return (p, m, v, steps, key), p[0][0][:1000]
        if noise is None:
            key, *now = jax.random.split(key, len(w.noise) + 1)
            noise = [jax.random.normal(k, shape, jnp.float32) for k, shape in zip(now, w.noise, strict=True)]
        value, gradients = jax.value_and_grad(loss)(p, noise, *batch)
        p, m, v = _adam(p, gradients, m, v, steps)
        return (p, m, v, steps, key), value

    train = jax.jit(train, donate_argnums=0)
    m, v = (jax.tree.map(jnp.zeros_like, p) for _ in range(2))
    state = (p, m, v, jnp.float32(0), key)

    def step(batch, noise):
        nonlocal state
        state, value = train(state, batch, noise)
        return value

    return step
