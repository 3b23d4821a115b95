"""Iterative refinement of approximate posteriors for training directed belief networks (the refinement report)."""

# %% [markdown]
# A recognition network gives every image a posterior in one pass. Is it the best one of its family? The report refines
# it for each image by T steps, and trains the decoder with what it finds:
#
#     E step:  z_0 = q_phi(h | x),  z_t = z_{t-1} + gamma grad_z L(x, z_{t-1})                                (2-5)
#     M step:  theta follows log p(x, h_n), h_n ~ q~;  phi follows -KL(q~ || q_phi)                    (4.2, eq. 6)
#
# The inference rate gamma is nowhere printed; here it is 0.1, for Gaussian latents the larger of two tried on the first
# epoch. The subscript 20 of GBVI, AVI and MPVI is the number of steps. AVI and MPVI are never defined in the text: they
# are eq. 9 and eq. 7. All train with early stopping: the weights of the best epoch on validation images are kept.

# %%
import numpy as np

from minivi import evaluation
from minivi.experiments.results import mean_and_error
from minivi.random import Generator
from minivi.refinement import Refined


def bound_and_nll(s, model, x, progress=False):
    """Bound and negative log-likelihood of each image, with the model's own posterior as the proposal."""
    bound = evaluation.elbo(model, x, Generator(11), 20, batch=100).values
    log_p = evaluation.log_likelihood(model, x, Generator(12), s.proposals, progress).values
    return bound, -log_p


def summary(values):
    """Means and standard errors of several arrays by name."""
    return {name: mean_and_error(value) for name, value in values.items()}


def shorter(s):
    """Why a run on static MNIST does not settle what the report finds at its end; for :class:`Claim`."""
    return {"short": f"{s.epochs} epochs for 500"} if s.data == "mnist_static" and s.epochs < 500 else {}


def overfitting(n, table):
    """The report's sentence on it, for the validation curves of all models."""
    says = table.says(
        "refinement report 7",
        "All of our models suffered from overfitting at some point.",
        seeds=1,
        **shorter(n.settings),
    )
    past = sum(curve[-1] < np.max(curve) for curve in n.curves.values())
    says(past, "=", len(n.curves), 0.0, "models whose last validation bound is below their best, and all models")


def refined(model, refine):
    """The model with that refinement, or as it is."""
    return Refined(model, refine) if refine else model
