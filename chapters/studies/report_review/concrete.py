"""Relaxed binary latents beside the estimators of the review report (thesis chapter 8)."""

# %% [markdown]
# ## Concrete binary latents
#
# Chapter 8 of the thesis names Maddison et al. and Jang et al. (2016) for discrete latents. A binary one is the sign of
# its logit plus logistic noise; relaxed, it is a number between 0 and 1,
#
#     h~ = sigmoid((logit + log u - log(1 - u)) / tau),    u uniform in (0, 1)
#
# through which the gradient passes. log p takes it as if it were a probability, and the entropy of each layer of q is
# exact given its parents, as in Jang et al. That is no bound of log p(x), and its gradient is biased, the less the
# smaller tau is, while its variance grows. How far does that get beside NVIL and VIMCO, on the very network of
# `report_review.vimco`, with as many samples? All are judged by the bound and log p-hat of the network with binary
# latents. The documents say nothing of the three side by side, so nothing is claimed.

# %%
import functools

import numpy as np

from minivi import data, evaluation, ops
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.random import Generator
from minivi_chapters.studies.report_review._shared import bounds_by_epoch, curve, curves_figure, trained
from minivi_chapters.studies.report_review.rws import QUICK, REAL, spec_of

RELAXED, OTHERS = "Concrete, tau = {:g}", ("VIMCO", "NVIL")


def relaxed(model, x, rng, samples, temperature):
    """log p(x, h~) plus the entropy of q of each datum, mean over ``samples`` of relaxed draws, (B,), in nats."""
    h, entropy, below = [], 0.0, x
    for level, units in enumerate(model.sizes):
        q = model.encode(below, level)
        noise = rng.logistic(size=(samples, len(x), units), dtype=model.dtype)
        below = ops.sigmoid((q.logits + noise) * (1.0 / temperature))
        h.append(below)
        entropy = entropy + q.entropy()
    return ops.mean(sum(model.log_p_parts(x, h)) + entropy, axis=0)


@experiment(
    "concrete",
    title="relaxed binary latents (Concrete) beside VIMCO and NVIL, three layers, K = 5",
    mirrors="thesis chapter 8; review report sections 4.3, 4.6 (no figure there)",
    budgets={
        "quick": QUICK | {"samples": 5, "step_size": 1e-3, "batch": 24, "epochs": 10, "images": 297, "proposals": 200,
                          "taus": [0.3, 1.0]},
        "laptop": REAL | {"samples": 5, "step_size": 1e-3, "batch": 24, "epochs": 4, "images": 1000, "proposals": 1000,
                          "taus": [0.1, 0.3, 1.0]},
        "paper": REAL | {"samples": 5, "step_size": 1e-3, "batch": 24, "epochs": 400, "images": 10_000,
                         "proposals": 5000, "taus": [0.1, 0.3, 0.5, 0.67, 1.0]},
    },
    minutes={"quick": 0.4, "laptop": 3.7, "paper": 60 * 20},
)  # fmt: skip
def concrete(run):
    """Train by each temperature and by the others: bounds by epoch, log p-hat, and what was maximised at the end."""
    s, sets, curves, values, own = run.settings, run.binary_images(), {}, {}, {}
    x = data.spread(sets.test, s.images)
    methods = {RELAXED.format(tau): functools.partial(relaxed, temperature=tau) for tau in s.taus}
    methods |= {name: name for name in OTHERS}
    for name, method in methods.items():
        model, _, history = trained(
            run, f"beside_{name.replace(', tau = ', '_')}", spec_of(s, method, s.samples, "adam"), epochs=s.epochs,
            batch=s.batch, evaluate=bounds_by_epoch(sets, s.samples),
        )  # fmt: skip
        curves[name] = curve(history)
        values[name] = {
            "elbo": evaluation.elbo(model, x, Generator(4), s.samples).values,
            "bound": evaluation.bound(model, x, Generator(5), s.samples).values,
            "nll": -evaluation.log_likelihood(model, x, Generator(6), s.proposals, run.progress).values,
        }
        if name not in OTHERS:
            own[name] = float(np.mean(np.asarray(method(model, x, Generator(7), s.samples))))
    return {
        "curves": curves,
        "ends": {name: {what: mean_and_error(v) for what, v in values[name].items()} for name in methods},
        "gains": {
            f"{name} less {other}": mean_and_error(values[other]["nll"] - values[name]["nll"])
            for name in own for other in OTHERS
        },
        "own": own,
    }  # fmt: skip


@concrete.table
def _(n, table):
    s = n.settings
    for name, ends in n.ends.items():
        (elbo, one), (bound, few), (nll, many) = (ends[what] for what in ("elbo", "bound", "nll"))
        table.row(f"{name}, test bound, one sample", elbo, note=f"+- {one:.2f}, {s.epochs} epochs")
        table.row(f"{name}, test bound (K = {s.samples})", bound, note=f"+- {few:.2f}")
        table.row(f"{name}, negative log-likelihood", nll, note=f"+- {many:.2f}, {s.proposals} samples")
        if name in n.own:
            table.row(f"{name}, what was maximised", n.own[name], note="the same images, relaxed draws; no bound")
    for label, (gain, error) in n.gains.items():
        table.row(f"log p-hat of {label}", gain, note=f"+- {error:.2f}")


@concrete.figure()
def _(n):
    layers = "-".join(map(str, n.settings.layers))
    return curves_figure(n.curves, f"{layers} units, K = {n.settings.samples}, {n.settings.data}")
