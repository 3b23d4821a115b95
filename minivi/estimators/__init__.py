"""Gradient estimators as surrogates: scalars for each datum whose ``grad`` is the estimator, to be maximised.

A surrogate's *value* need not be a bound; where it is none, the docstring says so. They are built of the same parts as
the bounds of :mod:`minivi.bounds`. Those of reweighted.py and score.py send no gradient through the samples, so they
serve discrete latents too: any :class:`~minivi.protocols.SampledModel`.
"""

from minivi.estimators.reparameterised import doubly_reparameterised, sticking_the_landing, straight_through
from minivi.estimators.reweighted import reweighted_wake_sleep, wake_sleep
from minivi.estimators.score import NVIL, score_function, vimco

__all__ = [
    "NVIL",
    "doubly_reparameterised",
    "reweighted_wake_sleep",
    "score_function",
    "sticking_the_landing",
    "straight_through",
    "vimco",
    "wake_sleep",
]
