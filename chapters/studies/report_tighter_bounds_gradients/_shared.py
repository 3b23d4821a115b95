"""Tighter bounds, second part: signal and noise of the gradients, a learned beta (tighter-bounds report 3.3-3.7).

A gradient is sampled. With more samples in the importance-weighted bound its noise falls, but for the encoder its
signal falls faster. How fast, which estimators escape, and does beta in CIWAE know the best compromise by itself?
"""

# %% [markdown]
# The signal-to-noise ratio of a parameter's gradient (eq. 8) is |mean| / standard deviation over the samples. For
# MIWAE(M, K), with Z = p(x) and one weight w (eq. 9, 10; theta for the decoder, phi for the encoder):
#
#     SNR(theta) = sqrt(M) |sqrt(K) dZ - Z / (2 sqrt(K)) d(Var[w] / Z^2)| / sqrt(E[w^2 (d log w - d log Z)^2])
#     SNR(phi)   = sqrt(M / K) |d Var[w]| / (2 Z sd[d w])                            up to terms that vanish as K grows
#
# Printed eq. 9 has 1 / (2 Z sqrt(K)) in the second term; its dimension shows that Z / (2 sqrt(K)) is meant (checked
# below). So the decoder's ratio grows like sqrt(MK), the encoder's falls like sqrt(M / K).
#
# Two estimators avoid the fall: sticking the landing, at the price of a bias, and the doubly reparameterised gradient
# (DReG), without one. CIWAE's way out is a part beta of the ELBO, whose signal does not depend on K.

# %%
import numpy as np

from minivi import bounds, estimators, nn
from minivi.distributions import Normal
from minivi.models import VAE, Terms
from minivi.random import Generator
from minivi.tensor import Parameter, grad

# For images, the report's network (784-200-200-50, section 4.1).
NETWORK = {"hidden": [200, 200], "latents": 50, "batch": 100, "step_size": 1e-3}
DIGITS = NETWORK | {"data": "digits", "split": "1500/297", "hidden": [50, 50], "latents": 10}
MNIST = NETWORK | {"data": "mnist", "split": "60000/10000"}


def new_vae(settings, images, seed):
    """The report's network; output biases start at the mean pixel's log-odds."""
    bias = nn.logit_of_mean(images.train)
    return VAE(images.train.shape[1], settings.hidden, settings.latents, rng=Generator([seed, 50]), output_bias=bias)


# %% [markdown]
# ## The estimators
#
# Each gives what the encoder and what the decoder follow, for M groups of K samples. Only DReG's two differ.


# %%
def mixed(beta):
    """CIWAE with M groups: the ELBO's share of all samples does not depend on the grouping."""

    def surrogate(model, x, rng, m, k):
        log_w = model.terms(x, rng, m * k).log_w
        bound = beta * bounds.elbo(log_w) + (1.0 - beta) * bounds.miwae(log_w, m)
        return bound, bound

    return surrogate


def landing(model, x, rng, m, k):
    """Sticking the landing: no score function of q, hence a bias for K > 1."""
    bound = estimators.sticking_the_landing(model, x, rng, m * k, m)
    return bound, bound


def doubly(model, x, rng, m, k):
    """DReG."""
    return estimators.doubly_reparameterised(model, x, rng, m * k, m)


ESTIMATORS = {
    "plain": mixed(0.0),
    "sticking the landing": landing,
    "DReG": doubly,
    "CIWAE 0.05": mixed(0.05),
    "CIWAE 0.5": mixed(0.5),
}
ELBO_SHARE = {"plain": 0.0, "DReG": 0.0, "CIWAE 0.05": 0.05, "CIWAE 0.5": 0.5}  # beta of those without bias


def gradients(surrogates, encoder, decoder):
    """Gradients with respect to the encoder's parameters, then the decoder's; one backward pass where one will do."""
    first, second = (s.sum() for s in surrogates)
    if surrogates[0] is surrogates[1]:
        return grad(first, encoder + decoder)
    return grad(first, encoder) + grad(second, decoder)


# %% [markdown]
# ## A model whose answer is known
#
# z ~ N(mu, I), x | z ~ N(z, I), q(z | x) = N(A x + b, (2/3) I). Then log p(x) = log N(x; mu, 2I), the posterior is
# N(c, I/2) with c = (x + mu) / 2, and with delta = A x + b - c
#
#     log w = constant - |y|^2 / 4        where y = z - (c - 3 delta) ~ N(4 delta, (2/3) I)
#
# depends on the length of y alone. By 1 / s = int exp(-s t) dt, expectations of weighted averages over K samples
# become one-dimensional integrals, for every K: E[sum_k w_k y_k / sum_k w_k] = 4 r delta with
#
#     r(K) = K int E'[w exp(-t w)] E[exp(-t w)]^(K - 1) dt       |y|^2 / (2/3) noncentral chi-square, D (D + 2 in E')
#
# r falls from 1 at K = 1 to 3/4. The plain gradient's mean is -2 (4r - 3) delta for b and (x - mu)/2 + (4r - 3) delta
# for mu; sticking the landing's is -2 r delta for b, which does not vanish as K grows, though the truth does.
#
# So the signal is known and only the noise must be sampled: ratios far below what any number of draws could resolve
# are measured all the same. Every datum has its own copy of b and mu, which makes one backward pass give all gradients.


# %%
LOG_SIGMA = 0.5 * float(np.log(2 / 3))


class LinearGaussian(nn.Module):
    """The model; b and mu of shape (D,), or (B, D) for a gradient for each datum.

    Args:
        matrix: A, (D, D), a constant: its gradient is that of b times x.
        b, mu: parameters of the encoder and of the prior.
        log_sigma: of q, by default the text's.
    """

    def __init__(self, matrix, b, mu, log_sigma=LOG_SIGMA, dtype="float64"):
        self.matrix = np.asarray(matrix, dtype)
        self.b, self.mu = Parameter(b, dtype=dtype), Parameter(mu, dtype=dtype)
        self.log_sigma, self.zeros = np.full(len(matrix), log_sigma, dtype), np.zeros(len(matrix), dtype)

    def terms(self, x, rng=None, samples=1, eps=None):
        """As for :meth:`minivi.models.VAE.terms`."""
        if eps is None:
            eps = rng.standard_normal((samples, *x.shape), dtype=self.zeros.dtype)
        q = Normal(x @ self.matrix.T + self.b, self.log_sigma)
        z = q.rsample(eps)
        log_px_z, log_pz = Normal(z, self.zeros).log_prob(x), Normal(self.mu, self.zeros).log_prob(z)
        return Terms(q, z, log_px_z, log_pz, q.log_prob_of_noise(eps))

    def held_log_q(self, x, terms):
        """As for :meth:`minivi.models.VAE.held_log_q`."""
        return terms.q.detached().log_prob(terms.z)
