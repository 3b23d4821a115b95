"""Exercises: the variational auto-encoder's bound and its gradients (thesis chapter 2).

Beside the lessons `chapters/ch02_aevb.py`, `ch02_gradients.py` and `ch02_posterior.py`. Replace each `raise
NotImplementedError` by your code, then run `minivi grade chapters/exercises/ch02_aevb.py`. NumPy is all that is needed.
All values are in nats. Shapes: L samples, B data, D numbers each, in this order. The noise eps is an argument: so a
result is one number and not a random one. No function may write into its arguments.
"""

# %%
import numpy as np

# %% [markdown]
# ## 1. The density of a diagonal Gaussian
#
# *Write it; 2 points; thesis eq. 2.37.*
#
# log N(x; mu, diag(sigma^2)), one number for each row.


# %%
def gaussian(x, mu, log_sigma):
    """The log-density, shape (B,), of x, mu and log_sigma, (B, D)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 2. The probability of binary pixels
#
# *Write it; 2 points; thesis eq. 2.74 and the line before.*
#
# log p(x | z) for pixels of 0 and 1, of which the decoder gives the logits l: y = sigmoid(l). For logits of any size:
# 1,000 too, where y itself is 1 in floating point. Leading axes of the logits (L, B, D) that x (B, D) lacks broadcast.


# %%
def bernoulli(x, logits):
    """The log-probability, shape (..., B)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 3. A density by its noise, with a fault
#
# *Find the fault; 2 points; thesis eq. 2.40, 2.43 and 2.44.*
#
# z = mu + sigma eps, and the log-density of z under q(z | x), by eps. The code follows Algorithm 2 as printed. Its
# density does not integrate to 1; mend it.


# %%
def sample(mu, log_sigma, eps):
    """z (L, B, D) and log q(z | x) (L, B), from mu and log_sigma (B, D) and eps (L, B, D)."""
    z = mu + np.exp(log_sigma) * eps
    log_q = -np.sum(0.5 * (eps**2 + np.log(2 * np.pi) + log_sigma), axis=-1)
    return z, log_q


# %% [markdown]
# ## 4. The divergence from the prior
#
# *Derive it; 2 points; thesis appendix 2.A and eq. 2.77.*
#
# Derive KL(q(z | x) || p(z)) of q = N(mu, diag(sigma^2)) and p = N(0, I).


# %%
def divergence(mu, log_sigma):
    """The divergence of each row, shape (B,), from (B, D)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 5. Both estimators of the bound
#
# *Write it; 4 points; thesis eq. 2.29 and 2.77.*
#
# A model with the prior N(0, I), a linear decoder with logits = z W + b for binary pixels, and a given q. A takes all
# three terms from the samples, B takes the divergence in closed form. Give both, for each datum as the mean over its L
# samples.


# %%
def estimates(x, mu, log_sigma, eps, weight, bias):
    """A and B, each (B,); x (B, P), mu and log_sigma (B, D), eps (L, B, D), weight (D, P), bias (P,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 6. The bound, by hand
#
# *Derive it; 3 points; thesis eq. 2.10.*
#
# In a model that is all Gaussian no samples are needed. z has the prior N(0, 1), x given z is N(a z, s^2), and q is
# N(mu, sigma^2), all of single numbers. Derive the bound, E_q[log p(x, z) - log q(z)].


# %%
def exact_bound(x, a, s, mu, sigma):
    """The bound, a number."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 7. Where training ends
#
# *Predict it; 3 points; thesis eq. 2.8 and 2.11.*
#
# The same model; mu and sigma are trained, by gradients of the bound, for a single x until nothing changes. Before you
# run anything: at which mu and sigma does it end, and what is the bound there?


# %%
def trained(x, a, s):
    """mu, sigma and the bound."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 8. The gradient through the sample
#
# *Write it; 2 points; thesis eq. 2.22 to 2.24 and 2.40.*
#
# Of E_q[f(z)], estimated by L samples z = mu + sigma eps. slopes are f'(z) at these, number by number.


# %%
def pathwise(log_sigma, eps, slopes):
    """The derivatives by mu and by log_sigma, each (D,); eps and slopes (L, D)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 9. The gradient by the score
#
# *Write it; 3 points; thesis eq. 2.72 and 2.73.*
#
# The same expectation when f has no slope to use: from values f(z) at L samples. Give the mean over samples.


# %%
def score(mu, log_sigma, z, values):
    """The estimates by mu and by log_sigma, each (D,); z (L, D), values (L,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 10. The marginal likelihood by importance sampling
#
# *Write it; 2 points; thesis eq. 2.57.*
#
# From log w = log p(x, z) - log q(z | x) of L samples for each datum, the estimate of log p(x). Images have log w of
# -90 and of -900: no number may vanish or overflow.


# %%
def log_likelihood(log_w):
    """The estimates, shape (B,), from (L, B)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 11. Full covariance
#
# *Write it; 4 points; thesis eq. 2.47 to 2.55.*
#
# q = N(mu, L L^T), with sigma on the diagonal of L, and what stands below it given row by row: (2, 1), (3, 1), (3, 2),
# ... Give z, log q(z) and the covariance.


# %%
def full_covariance(mu, log_sigma, lower, eps):
    """z (N, D), log q (N,) and the covariance (D, D); mu, log_sigma (D,), lower (D (D - 1) / 2,), eps (N, D)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 12. Free bits, with a fault
#
# *Find the fault; 2 points; thesis eq. 2.69 and 2.70.*
#
# A bound in which each group of latents pays at least lambda nats, whatever it costs, so that none is switched off. The
# expectation over the minibatch comes before the maximum; in the code below it does not. Mend it.


# %%
def free_bits(reconstruction, kl, minimum):
    """The objective, a number; reconstruction (B,), kl (B, groups), minimum a number."""
    return np.mean(reconstruction - np.sum(np.maximum(minimum, kl), axis=1))
