"""Priors over weights and the divergence of a posterior from them, in nats (thesis section 6.3.3 and appendix 6.C).

    Gaussian(1.0)                    N(0, 1); the divergence in closed form
    ScaleMixture(0.5, 1.0, 0.002)    two Gaussians of different scales (Blundell et al. 2015); by a sample
    log_uniform_kl(log_alpha)        p(log |w|) constant, for posteriors N(theta, alpha theta^2)

The first two are for :class:`minivi.nn.GaussianLinear`, the last is that of the layers with dropout.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.tensor import Tensor

CUBIC = (1.16145124, -1.50204118, 0.58629921)  # thesis section 6.3.3
FORMS = ("cubic", "bound")


def log_uniform_kl(log_alpha: Any, form: str = "cubic") -> Tensor:
    """KL(N(theta, alpha theta^2) || log-uniform), which does not depend on theta: like ``log_alpha``, in nats.

    The prior is improper, so a constant is free: here the divergence is 0 at alpha = 1, the largest noise allowed.

        -KL = 1/2 log alpha + c1 alpha + c2 alpha^2 + c3 alpha^3 - (c1 + c2 + c3)     "cubic" (section 6.3.3)
        -KL > 1/2 log alpha + E log |e|,   e ~ N(1, 1)                                "bound" (appendix 6.C)

    The bound holds where E log |e| <= 0 for e ~ N(1, alpha), which is so up to alpha = 2.4 and not beyond, whatever the
    appendix says.

    Raises:
        ValueError: an unknown form.
    """
    validate.one_of(form, "log_uniform_kl: form", FORMS)
    if form == "bound":
        return -0.5 * log_alpha - mean_log_noise(1.0)
    alpha, (c1, c2, c3) = ops.exp(log_alpha), CUBIC
    return (c1 + c2 + c3) - 0.5 * log_alpha - alpha * (c1 + alpha * (c2 + alpha * c3))


def mean_log_noise(alpha: float) -> float:
    """E log |e|, e ~ N(1, alpha), by quadrature (the term of appendix 6.C that is not tractable).

    Raises:
        ValueError: an alpha that is not positive.
    """
    from scipy.integrate import quad

    validate.number(alpha, "mean_log_noise: alpha", 0, ends="(]")
    s = math.sqrt(alpha)
    density = lambda e: math.exp(-0.5 * ((e - 1.0) / s) ** 2) / (s * math.sqrt(2 * math.pi))
    both = lambda e: (density(e) + density(-e)) * math.log(e) if e > 0 else 0.0
    ends = sorted({0.0, 1e-3, *(max(1.0 + k * s, 0.0) for k in (-12, -3, 0, 3, 12))})
    return sum(quad(both, a, b, epsabs=1e-13, limit=200)[0] for a, b in zip(ends[:-1], ends[1:], strict=True))


def exact_log_uniform_kl(alpha: float) -> float:
    """The divergence that :func:`log_uniform_kl` approximates, by quadrature, in nats (eq. 6.41)."""
    return mean_log_noise(alpha) - mean_log_noise(1.0) - 0.5 * math.log(alpha)  # eq. 6.41


class Gaussian:
    """N(0, scale^2) for each weight.

    Raises:
        ValueError: a scale that is not positive.
    """

    sampled = False

    def __init__(self, scale: float = 1.0):
        validate.number(scale, "Gaussian: scale", 0, ends="(]")
        self.scale = scale

    def kl(self, mu: Any, log_sigma: Any) -> Tensor:
        """KL(N(mu, sigma^2) || N(0, scale^2)), all weights together: a scalar, in nats."""
        return ops.gaussian_kl(mu * (1.0 / self.scale), log_sigma - math.log(self.scale)).sum()


class ScaleMixture:
    """pi N(0, wide^2) + (1 - pi) N(0, narrow^2) for each weight (Blundell et al. 2015, eq. 7).

    Args:
        share: pi, in (0, 1).
        wide, narrow: the two standard deviations.

    Raises:
        ValueError: numbers outside these ranges.
    """

    sampled = True

    def __init__(self, share: float = 0.5, wide: float = 1.0, narrow: float = math.exp(-6)):
        validate.number(share, "ScaleMixture: share", 0, 1, "()")
        validate.number(wide, "ScaleMixture: wide", 0, ends="(]")
        validate.number(narrow, "ScaleMixture: narrow", 0, ends="(]")
        self.share, self.wide, self.narrow = share, wide, narrow

    def log_prob(self, w: Any) -> Tensor:
        """log p(w) of each weight, in nats."""
        parts = [
            math.log(share / scale) - 0.5 * ops.square(w * (1.0 / scale))
            for share, scale in ((self.share, self.wide), (1.0 - self.share, self.narrow))
        ]
        return ops.log_sum_exp(ops.stack(parts, axis=-1)) - 0.5 * math.log(2 * math.pi)

    def kl(self, mu: Any, log_sigma: Any, w: Any) -> Tensor:
        """log q(w) - log p(w) of one sample ``w`` ~ N(mu, sigma^2), whose mean is the divergence: a scalar, in nats."""
        return ops.gaussian_log_prob(w, mu, log_sigma).sum() - self.log_prob(w).sum()


def significant_bits(alpha: Any) -> np.ndarray:
    """-log2 sqrt(alpha): how many binary digits of a weight N(theta, alpha theta^2) its noise leaves (appendix 6.A)."""
    return -0.5 * np.log2(alpha)
