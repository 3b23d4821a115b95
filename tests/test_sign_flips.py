"""Checks hold what chapters train with: with one sign in that function turned, a check of the chapter fails."""

import inspect
import textwrap

import pytest
from helpers import CHECKS, empty_registry

from minivi import bounds, estimators, experiments, flows, nn, optim, refinement
from minivi.distributions import DiscretizedLogistic
from minivi.experiments import registry
from minivi.models import (
    VAE,
    BayesianNetwork,
    BeliefNetwork,
    Classifier,
    FullVB,
    HamiltonianVAE,
    ResNetVAE,
    SemiSupervisedVAE,
)
from minivi.models.directed import DirectedTerms
from minivi.models.resnet_vae import MaskedFlow
from minivi.nn import priors

ELBO = VAE, "elbo", "reconstruction - q.kl()", "reconstruction + q.kl()"
FLIPS = {
    "ch01_models": [ELBO, (Classifier, "log_prob", "return self", "return -self")],
    "ch02_aevb": [ELBO],
    "ch02_autoencoder": [ELBO],
    "ch02_challenges": [(bounds, "free_bits", "- ops.sum(", "+ ops.sum(")],
    "ch02_full_vb": [(FullVB, "elbo", "total - self.kl()", "total + self.kl()")],
    "ch02_gradients": [ELBO],
    "ch02_marginal_likelihood": [ELBO],
    "ch02_posterior": [ELBO],
    "ch03_semi_supervised": [
        (SemiSupervisedVAE, "_bounds", "take(self.log_prior, y) - q.kl()", "take(self.log_prior, y) + q.kl()"),
        (SemiSupervisedVAE, "_sum_classes", "(bounds) - log_q", "(bounds) + log_q"),
        (SemiSupervisedVAE, "objective", "value + alpha", "value - alpha"),
    ],
    "ch04_autoregressive": [(nn.MADE, "log_prob", "return ops.bernoulli", "return -ops.bernoulli")],
    "ch04_invertible": [(flows.FlowDensity, "log_prob", "+ log_det", "- log_det")],
    "ch04_layers": [(DirectedTerms, "kl", "name] - self.log_p", "name] + self.log_p")],
    "ch05_auxiliary": [(DirectedTerms, "log_w", ") - reduce", ") + reduce")],
    "ch05_flows": [(flows.FlowPosterior, "rsample_with_log_prob", "- log_det", "+ log_det")],
    "ch05_iaf": [(flows.FlowPosterior, "rsample_with_log_prob", "- log_det", "+ log_det")],
    "ch05_resnet": [
        (MaskedFlow, "__call__", "-ops.softplus(-gate)", "ops.softplus(-gate)"),
        (ResNetVAE, "_posterior", "log_q - log_det", "log_q + log_det"),
        (DiscretizedLogistic, "log_prob", "(width)) - outside", "(width)) + outside"),
        (bounds, "free_bits", "- ops.sum(", "+ ops.sum("),
    ],
    "ch06_divergence": [
        (priors, "log_uniform_kl", "(c1 + c2 + c3) - 0.5", "(c1 + c2 + c3) + 0.5"),
        (priors, "log_uniform_kl", "return -0.5 * log_alpha - mean", "return -0.5 * log_alpha + mean"),
        (priors, "exact_log_uniform_kl", "(1.0) - 0.5", "(1.0) + 0.5"),
        (nn.DropoutLinear, "draw", "1.0 + ops", "1.0 - ops"),
    ],
    "ch06_dropout": [
        (BayesianNetwork, "bound", "log_prob(y) - total", "log_prob(y) + total"),
        (nn.DropoutLinear, "variances", "ops.exp(self", "ops.exp(-self"),
        (nn.InputDropoutLinear, "__call__", "ops.affine(x * (1.0 + ops", "ops.affine(x * (1.0 - ops"),
    ],
    "ch06_estimators": [
        (BayesianNetwork, "bound", "log_prob(y) - total", "log_prob(y) + total"),
        (nn.GaussianLinear, "variances", "ops.exp(2.0 * self.log_sigma)", "ops.exp(-2.0 * self.log_sigma)"),
        (nn.GaussianLinear, "kl", "*parts[0]) + self", "*parts[0]) - self"),
        (priors.Gaussian, "kl", "- math.log", "+ math.log"),
    ],
    "ch07_adam": [(optim.Adam, "_update", "1 - self.beta1**", "1 + self.beta1**")],
    "ch07_experiments": [(Classifier, "log_prob", "return self", "return -self")],
    "report_refinement": [
        (refinement, "_ascend", "q.mean) - q.kl(prior)", "q.mean) + q.kl(prior)"),
        (refinement, "refine_gaussian", "+ rate * moves[0]", "- rate * moves[0]"),
        (
            refinement,
            "refine_bernoulli",
            "(part) for part in model.log_p_parts(x, [h])) - np",
            "(part) for part in model.log_p_parts(x, [h])) + np",
        ),
        (refinement.Refined, "surrogate", "log_p - q.kl(", "log_p + q.kl("),
        (HamiltonianVAE, "terms", "(log_v - self.reverse", "(log_v + self.reverse"),
    ],
    "report_review": [
        (estimators.NVIL, "__call__", "sum(p_fixed[i:]) - sum(q", "sum(p_fixed[i:]) + sum(q"),
        (estimators, "vimco", "+ ops.sum(signal", "- ops.sum(signal"),
        (estimators, "reweighted_wake_sleep", "surrogate + sleep_q", "surrogate - sleep_q"),
        (BeliefNetwork, "log_weights", "(x, h)) - reduce", "(x, h)) + reduce"),
    ],
    "report_tighter_bounds": [(bounds, "miwae", "- float(np.log", "+ float(np.log")],
    "report_tighter_bounds_gradients": [(bounds, "iwae", "- float(np.log", "+ float(np.log")],
}


def turned(function, old, new):
    """The function with one piece of its source replaced."""
    function = getattr(function, "fget", function)  # of a property
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, (function, old)
    names = dict(function.__globals__)
    exec(compile("from __future__ import annotations\n" + source.replace(old, new), "turned", "exec"), names)
    return names[function.__name__]


@pytest.mark.parametrize(("chapter", "i"), [(c, i) for c, flips in FLIPS.items() for i in range(len(flips))])
def test_a_turned_sign_fails_a_check(chapter, i, monkeypatch):
    monkeypatch.delenv("MINIVI_CHAPTERS", raising=False)
    empty_registry(monkeypatch)
    monkeypatch.setattr(registry, "chapter_files", lambda folder: [CHECKS / f"{chapter}.py"])
    experiments.load_chapters()
    owner, name, old, new = FLIPS[chapter][i]
    monkeypatch.setattr(owner, name, turned(getattr(owner, name), old, new))
    checks = [c for c in experiments.CHECKS if c.chapter == chapter]
    assert checks and not all(claim.ok for c in checks for claim in experiments.run_check(c)[0])  # up to the first


def test_every_chapter_with_checks_is_here(monkeypatch):
    monkeypatch.delenv("MINIVI_CHAPTERS", raising=False)
    empty_registry(monkeypatch)
    experiments.load_chapters()
    own = {"ch02_pca"}  # trains a model of its own, against formulas of its own
    assert {c.chapter for c in experiments.CHECKS} - own == set(FLIPS)
