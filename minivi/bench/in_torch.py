"""The workloads in PyTorch, eager or compiled, with its fused Adam."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from minivi.bench.workloads import ADAM, ALPHA, C1, C2, C3, DATA_SIZE, GATE_BIAS, LABELLED, Workload

array = torch.tensor


def _network(layers, x):
    for weight, bias in layers[:-1]:
        x = torch.tanh(torch.addmm(bias, x, weight))
    weight, bias = layers[-1]
    return torch.addmm(bias, x, weight)


def _encode(p, x, eps):
    mu, log_variance = _network(p[: len(p) // 2], x).chunk(2, 1)
    return mu, log_variance, mu + torch.exp(0.5 * log_variance) * eps


def vae(p: list, noise: list, x: torch.Tensor) -> torch.Tensor:
    """Minus the bound with the analytic KL."""
    mu, log_variance, z = _encode(p, x, noise[0][0])
    logits = _network(p[len(p) // 2 :], z)
    kl = 0.5 * (mu * mu + log_variance.exp() - log_variance - 1).sum()
    return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl) / len(x)


def iwae50(p: list, noise: list, x: torch.Tensor) -> torch.Tensor:
    """Minus the importance-weighted bound."""
    (eps,) = noise
    _, log_variance, z = _encode(p, x, eps)
    logits = _network(p[len(p) // 2 :], z.flatten(0, 1)).view(*z.shape[:2], -1)
    log_px_z = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
    log_w = log_px_z - 0.5 * (z * z - eps * eps - log_variance).sum(-1)
    return math.log(len(eps)) - torch.logsumexp(log_w, 0).mean()


def made(p: list, noise: list, x: torch.Tensor, masks: list) -> torch.Tensor:
    """Minus the log-likelihood of MADE."""
    (w1, b1), (w2, b2) = p
    logits = torch.addmm(b2, torch.relu(torch.addmm(b1, x, w1 * masks[0])), w2 * masks[1])
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)


def iaf(p: list, noise: list, x: torch.Tensor, masks: list) -> torch.Tensor:
    """Minus the bound with a posterior of inverse autoregressive flow."""
    *steps, (w1, b1), (w2, b2), (w3, b3), (w4, b4) = p
    eps, latents = noise[0][0], w3.shape[0]
    heads = torch.addmm(b2, F.softplus(torch.addmm(b1, x, w1)), w2)
    mu, log_variance, h = heads[:, :latents], heads[:, latents : 2 * latents], heads[:, 2 * latents :]
    z = mu + torch.exp(0.5 * log_variance) * eps
    log_q = -0.5 * (eps * eps + log_variance).sum()
    for t in range(0, len(steps), 4):
        a = z = z.flip(1) if t else z
        for n, ((weight, bias), context, mask) in enumerate(zip(steps[t : t + 3], steps[t + 3], masks, strict=True)):
            a = torch.addmm(bias, F.elu(a) if n else a, weight * mask) + h @ context
        m, s = a.view(len(x), latents, 2).unbind(2)
        gate = torch.sigmoid(s + GATE_BIAS)
        z = gate * z + (1 - gate) * m
        log_q = log_q - F.logsigmoid(s + GATE_BIAS).sum()
    logits = torch.addmm(b4, F.softplus(torch.addmm(b3, z, w3)), w4)
    nll = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    return (nll + log_q + 0.5 * (z * z).sum()) / len(x)


def vdropout(p: list, noise: list, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Variational dropout with the local reparameterisation."""
    kl = 0.0
    for n, ((weight, bias, log_alpha), eps) in enumerate(zip(p, noise, strict=True)):
        x = torch.relu(x) if n else x
        log_alpha = log_alpha.clamp(max=0.0)
        alpha = log_alpha.exp()
        variance = (x * x) @ (alpha * weight * weight)
        x = torch.addmm(bias, x, weight) + torch.sqrt(variance + 1e-8) * eps
        kl = kl - weight.numel() * (0.5 * log_alpha + C1 * alpha + C2 * alpha**2 + C3 * alpha**3).sum()
    return F.cross_entropy(x, labels) + kl / DATA_SIZE


def m2(p: list, noise: list, x: torch.Tensor, y: torch.Tensor, unlabelled: torch.Tensor) -> torch.Tensor:
    """Minus J^alpha of M2 for each datum."""
    (cw1, cb1), (cw2, cb2), (ew, eb), (ey,), (hw, hb), (dw, db), (ow, ob) = p
    (eps,), count, classes = noise, len(x), len(ey)
    both = torch.cat([x, unlabelled])
    log_q = F.log_softmax(torch.addmm(cb2, F.softplus(torch.addmm(cb1, both, cw1)), cw2), 1)
    shared = torch.addmm(eb, both, ew)
    every = lambda given, other, rows: torch.cat([given + rows[y], (other + rows[:, None]).flatten(0, 1)])
    a = every(shared[:count], shared[count:], ey)
    mu, log_variance = torch.addmm(hb, F.softplus(a), hw).chunk(2, 1)
    z = mu + torch.exp(0.5 * log_variance) * eps
    latents = z.shape[1]
    a = torch.addmm(db, z, dw[:latents])
    a = every(a[:count], a[count:].view(classes, count, -1), dw[latents:])
    logits = torch.addmm(ob, F.softplus(a), ow)
    kl = 0.5 * (mu * mu + log_variance.exp() - log_variance - 1).sum(1) + math.log(classes)
    nll = F.binary_cross_entropy_with_logits
    given = nll(logits[:count], x, reduction="sum") + kl[:count].sum()
    other = logits[count:].view(classes, count, -1)
    other = nll(other, unlabelled.expand_as(other), reduction="none").sum(2) + kl[count:].view(classes, count)
    marginal = (log_q[count:].exp() * (other.T + log_q[count:])).sum()
    return (LABELLED * given + (1 - LABELLED) * marginal) / count + ALPHA * F.nll_loss(log_q[:count], y)


def cnn(p: list, noise: list, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Minus the log-probability of the labels; images and kernels are channels last in memory."""
    *convolutions, (w1, b1), (w2, b2) = p
    x = x.permute(0, 3, 1, 2)
    for kernel, bias in convolutions:
        x = F.max_pool2d(torch.relu(F.conv2d(x, kernel, bias, padding=kernel.shape[2] // 2)), 3, 2, 1)
    x = torch.relu(torch.addmm(b1, x.permute(0, 2, 3, 1).flatten(1), w1))
    return F.cross_entropy(torch.addmm(b2, x, w2), y)


MODELS = {"vae": vae, "iwae50": iwae50, "made": made, "iaf": iaf, "vdropout": vdropout, "m2": m2, "cnn": cnn}


def about(compiled: bool = False) -> dict[str, Any]:
    """Versions, and the workloads that there are.

    Raises:
        ImportError: torch.compile needs a C++ compiler, and there is none.
    """
    if compiled and not shutil.which(os.environ.get("CXX", "g++")):
        raise ImportError("torch.compile needs a C++ compiler, g++ or what CXX names")
    # a lone product or draw is the same function compiled or not
    families = [*MODELS, "adam"] if compiled else [*MODELS, "adam", "gemm", "rng"]
    return {"versions": {"torch": torch.__version__}, "families": families}


def _parameter(a):
    if a.ndim < 4:
        return torch.tensor(a)
    return torch.tensor(a.transpose(3, 2, 0, 1).copy()).contiguous(memory_format=torch.channels_last)


def build(w: Workload, compiled: bool = False) -> Callable:
    """``step(batch, noise)`` of a workload; ``compiled`` by torch.compile."""
    torch.manual_seed(0)
    if w.family == "gemm":
        out = torch.empty(w.shape[0], w.shape[2])
        turned = lambda batch: (a.T if t == "t" else a for a, t in zip(batch, w.layout, strict=True))
        return lambda batch, noise: torch.mm(*turned(batch), out=out)
    if w.family == "rng":
        return lambda batch, noise: torch.randn(w.shape)
    p = [tuple(_parameter(a).requires_grad_() for a in layer) for layer in w.parameters()]
    optimizer = torch.optim.Adam(
        [a for layer in p for a in layer],
        lr=ADAM["step_size"],
        betas=(ADAM["beta1"], ADAM["beta2"]),
        eps=ADAM["eps"],
        # a fused update is a single operation, in which there is nothing to compile
        **({"foreach": True} if compiled and w.family == "adam" else {"fused": True}),
    )
    if w.family == "adam":
        change = torch.compile(optimizer.step) if compiled else optimizer.step

        def update(batch, noise):
            p[0][0].grad = batch[0]
            change()
            return p[0][0].detach()[:1000]

        return update
    more = {"masks": [torch.tensor(m) for m in w.masks()]} if w.family in ("made", "iaf") else {}

    def loss(p, noise, *batch):
        noise = [torch.randn(shape) for shape in w.noise] if noise is None else noise
        return MODELS[w.family](p, noise, *batch, **more)

    loss = torch.compile(loss, dynamic=False) if compiled else loss

    def step(batch, noise):
        optimizer.zero_grad(set_to_none=True)
        value = loss(p, noise, *batch)
        value.backward()
        optimizer.step()
        return value.detach()

    return step
