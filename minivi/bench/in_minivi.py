"""The workloads as a user of minivi writes them: engine, layers, optimizer; nothing is called that is not public."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import minivi
from minivi import bounds, flows, kernels, nn, ops
from minivi.bench.workloads import ALPHA, C1, C2, C3, DATA_SIZE, GATE_BIAS, LABELLED, Workload
from minivi.distributions import Bernoulli, Categorical
from minivi.models import VAE, BayesianNetwork, ConvolutionalClassifier, SemiSupervisedVAE
from minivi.nn import DropoutLinear
from minivi.optim import Adam
from minivi.program import Step
from minivi.random import Generator
from minivi.tensor import Parameter, grad

array = np.asarray


def _model(w):
    half = len(w.layers) // 2
    hidden = [outputs for _, outputs in w.layers[: half - 1]]
    return VAE(w.layers[0][0], hidden, w.layers[half][0], rng=Generator(0))


def vae(w: Workload) -> tuple:
    """The model and ``loss(x, noise, rng)``: minus the bound with the analytic KL (thesis eq. 2.77)."""
    model = _model(w)
    return model, lambda x, noise, rng: -model.elbo(x, rng, eps=noise and noise[0]).mean()


def iwae50(w: Workload) -> tuple:
    """Minus the importance-weighted bound (thesis eq. 2.57)."""
    model = _model(w)
    log_w = lambda x, noise, rng: model.log_weights(x, rng, w.samples, eps=noise and noise[0])
    return model, lambda *args: -bounds.iwae(log_w(*args)).mean()


class MADE(nn.Module):
    """An autoregressive model with one hidden layer; its weights are zero under the masks, and stay so."""

    def __init__(self, sizes, masks):
        self.layers = [nn.Linear(i, o, Generator(0)) for i, o in sizes]
        self.ranges = [kernels.Ranges(mask) for mask in masks]

    def mask(self):
        """Set the weights under the masks to zero."""
        for layer, ranges in zip(self.layers, self.ranges, strict=True):
            layer.weight.assign(layer.weight.data * ranges.mask)

    def __call__(self, x):
        """Logits of each pixel given those before it, (B, D)."""
        first, last = self.layers
        h = ops.relu(ops.masked_affine(x, first.weight, first.bias, ranges=self.ranges[0]))
        return ops.masked_affine(h, last.weight, last.bias, ranges=self.ranges[1])


def made(w: Workload) -> tuple:
    """Minus the log-likelihood of MADE."""
    model = MADE(w.layers, w.masks())
    return model, lambda x, noise, rng: -Bernoulli(model(x)).log_prob(x).mean()


def iaf(w: Workload) -> tuple:
    """Minus the bound of a VAE with an inverse autoregressive flow as posterior (thesis algorithm 5)."""
    (latents, width), (pixels, hidden) = w.layers[0], w.layers[3 * w.steps]
    rng = Generator(0)
    flow = flows.iaf(latents, w.steps, [width] * 2, rng, context=w.context, gate_bias=GATE_BIAS)
    model = VAE(pixels, [hidden], latents, activation="softplus", flow=flow, context=w.context, rng=rng)
    return model, lambda x, noise, rng: -model.elbo(x, rng, eps=noise and noise[0]).mean()


def vdropout(w: Workload) -> tuple:
    """Variational dropout with the local reparameterisation (thesis section 6.3.1)."""
    model = BayesianNetwork([DropoutLinear(i, o, Generator(0), rate=0.5, learned="layer") for i, o in w.layers])
    constant = sum(i * o for i, o in w.layers) * (C1 + C2 + C3) / DATA_SIZE  # which the others leave out

    def loss(x, labels, noise, rng):
        if noise is None:
            return -model.bound(x, labels, rng, count=DATA_SIZE).mean() - constant
        for n, layer in enumerate(model.layers):
            x = layer(ops.relu(x) if n else x, eps=noise[n])
        return model.kl() / DATA_SIZE - constant - Categorical(x).log_prob(labels).mean()

    return model, loss


def m2(w: Workload) -> tuple:
    """Minus J^alpha of M2 for each datum (thesis eq. 3.10)."""
    (pixels, hidden), (_, latents) = w.layers[0], w.layers[3]
    model = SemiSupervisedVAE(pixels, w.classes, (hidden,), latents // 2, rng=Generator(0))
    counts = LABELLED, 1.0 - LABELLED

    def loss(x, y, unlabelled, noise, rng):
        eps = noise and noise[0]
        return -model.objective(x, y, unlabelled, rng, counts=counts, alpha=ALPHA, eps=eps)

    return model, loss


def cnn(w: Workload) -> tuple:
    """Minus the log-probability of the labels (thesis section 7.5.3)."""
    shape, (wide, classes) = (w.side, w.side, w.maps[0]), (outputs for _, outputs in w.layers)
    model = ConvolutionalClassifier(shape, w.maps[1:], (wide,), classes, size=w.size, rng=Generator(0))
    return model, lambda x, y, noise, rng: -model.log_prob(x.reshape(len(x), -1), y).mean()


MODELS = {"vae": vae, "iwae50": iwae50, "made": made, "iaf": iaf, "vdropout": vdropout, "m2": m2, "cnn": cnn}


def about(compiled: bool = True) -> dict[str, Any]:
    """Versions, and the workloads that there are."""
    kernel = {"matmul": kernels.matmul_backend(), "tile": kernels.matmul_tile()}
    kernel["instruction_set"] = kernels.instruction_set()
    versions = {"minivi": minivi.__version__} | kernel
    return {
        "versions": versions | {m.__name__: m.__version__ for m in (np, numba)},
        "families": [*MODELS, "adam", "gemm", "rng"],
    }


def build(w: Workload, compiled: bool = True) -> Callable:
    """``step(batch, noise)`` of a workload; returns its loss or, of adam, gemm and rng, (a part of) its result."""
    rng = Generator(0)
    if w.family == "gemm":
        out = np.empty((w.shape[0], w.shape[2]), np.float32)
        turn = [np.transpose if t == "t" else np.asarray for t in w.layout]
        return lambda batch, noise: kernels.matmul(turn[0](batch[0]), turn[1](batch[1]), out=out)
    if w.family == "rng":
        return lambda batch, noise: rng.standard_normal(w.shape, dtype=np.float32)
    if w.family == "adam":
        x = Parameter(w.parameters()[0][0])
        optimizer = Adam([x])

        def update(batch, noise):
            optimizer.step(batch)
            return x.data[:1000]

        return update
    model, loss = MODELS[w.family](w)
    optimizer = Adam(model.parameters())
    for p, value in zip(optimizer.parameters, [a for layer in w.parameters() for a in layer], strict=True):
        p.assign(value)
    if w.family == "made":
        model.mask()
    if w.family == "iaf":
        for step in model.flow.flows[::2]:  # between them the reversals
            step.network.apply_masks()

    update = Step(lambda batch, rng: loss(*batch, None, rng), optimizer, compiled=compiled)

    def step(batch, noise):
        if noise is None:
            return update(tuple(batch), rng)
        value = loss(*batch, noise, rng)
        optimizer.step(grad(value, optimizer.parameters))
        return value

    return step
