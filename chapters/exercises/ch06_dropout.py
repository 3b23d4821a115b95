"""Exercises: local reparameterisation and variational dropout (thesis chapter 6).

Beside the lesson `chapters/ch06_dropout.py`. Replace each `raise NotImplementedError` by your code, then run
`minivi grade chapters/exercises/ch06_dropout.py`. NumPy is all that is needed. A layer has I inputs and O outputs, its
weights are (I, O), a row of A (M, I) is the input of one of M data, and B = A W. Logarithms are natural. No function
may write into its arguments.
"""

# %%
import numpy as np

# %% [markdown]
# ## 1. What the outputs are
#
# *Write it; 2 points; thesis eq. 6.6.*
#
# The weights are independent, w_ij from N(mu_ij, sigma_ij^2). Then each output, given its row of A, is a Gaussian. Give
# means and variances of B.


# %%
def local_moments(a, mu, sigma):
    """gamma and delta, each (M, O): a (M, I), mu and sigma (I, O)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 2. How many random numbers
#
# *Predict it; 1 point; thesis section 6.2.3.*
#
# Before you count in any code: how many standard normal numbers does a layer need for one minibatch, if one W is drawn
# for all of it, if each datum has a W of its own, and if the outputs are drawn?


# %%
def random_numbers(data, inputs, outputs):
    """Three numbers: one W, a W for each datum, the outputs."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 3. What that does to the estimate
#
# *Derive it; 3 points; thesis eq. 6.4 and 6.5.*
#
# The expected log-likelihood of N data is estimated from M of them, drawn with replacement. L_i of a datum has the
# variance `variance`, L_i and L_j of two have the covariance `covariance`. Derive the variance of the estimate.


# %%
def variance_of_estimate(variance, covariance, n, m):
    """Var of N / M times the sum of L_1 ... L_M, a number."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 4. Dropout's moments
#
# *Derive it; 3 points; thesis eq. 6.22 and 6.26.*
#
# Binary dropout sets each input to 0 with probability p and divides the others by 1 - p: b = (a * xi) theta. Derive
# mean and variance of each output for one datum.


# %%
def dropout_moments(a, theta, p):
    """Mean and variance of b, each (O,): a (I,), theta (I, O)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 5. Gaussian dropout
#
# *Find the fault; 2 points; thesis eq. 6.8 and 6.28.*
#
# "B" draws the outputs from Gaussians with dropout's mean and variance, alpha = p / (1 - p). The code below has two
# faults. Mend it.


# %%
def gaussian_dropout(a, theta, p, zeta):
    """B for the noise zeta, (M, O): a (M, I), theta (I, O)."""
    alpha = p * (1 - p)
    return a @ theta + alpha * np.sqrt(a**2 @ theta**2) * zeta


# %% [markdown]
# ## 6. What "B" ignores
#
# *Derive it; 3 points; thesis eq. 6.8 and 6.9.*
#
# Derive the covariance matrix of the O outputs of one datum: with noise on the inputs, "A", xi_i from N(1, alpha), and
# with independent noise on the weights, "B", w_ij from N(theta_ij, alpha theta_ij^2).


# %%
def covariances(a, theta, alpha):
    """Two matrices (O, O), of A and of B: a (I,), theta (I, O)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 7. Which prior does not see theta
#
# *Derive it; 3 points; thesis eq. 6.37 to 6.41.*
#
# Let the prior be p(w) = c |w|^(-k), and w = theta e, where e has any density that does not depend on theta. Derive how
# KL(q(w) || p(w)) changes when theta goes from 1 to its value. For which k is a fixed dropout rate consistent?


# %%
def change_of_kl(theta, k):
    """KL at theta less KL at theta = 1, a number; theta is not 0, but may be negative."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 8. The log-uniform divergence
#
# *Write it; 3 points; thesis eq. 6.41.*
#
# The prior is p(w) = c / |w|, and q(w) = N(theta, alpha theta^2). The divergence has no closed form; `mean_log(alpha)`
# gives E log |e| of e from N(1, alpha). As the prior is improper a constant is free: let KL be 0 at alpha = 1.


# %%
def log_uniform_kl(theta, alpha, mean_log):
    """KL(q(w) || p(w)) in nats, 0 at alpha = 1; ``mean_log`` is a function of a number."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 9. Where the cubic ends
#
# *Predict it; 2 points; thesis section 6.3.3 and appendix 6.C.*
#
# Section 6.3.3 replaces -E log |e| by c1 alpha + c2 alpha^2 + c3 alpha^3, plus a constant that makes KL 0 at alpha = 1.
# Before you draw both curves: by how much is this KL above the exact one as alpha goes to 0?


# %%
def limit_of_cubic(c, mean_log_1):
    """KL of the cubic less the exact KL, for alpha to 0: c (3,), and mean_log_1 = E log |e| of e from N(1, 1)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 10. Learning the rate
#
# *Derive it; 2 points; thesis section 6.3.3 and 6.3.4.*
#
# Alpha is learned as log alpha, by ascent of the bound. Derive the derivative of -KL of one weight by log alpha, with
# the cubic of the task before.


# %%
def slope_of_rate(log_alpha, c):
    """d(-KL) / d log alpha, a number; c (3,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 11. The bound of a network
#
# *Write it; 3 points; thesis eq. 6.3 and 6.10.*
#
# The bound of eq. 6.10, divided by the number N of data, from a minibatch. Each layer has one alpha, and so one
# divergence `kl` for each noise of its own: with "A" there is one for each input, with "B" for each weight.


# %%
def bound(log_p, n, shapes, kl, kind):
    """A number: log_p (M,) are log p(y | x, w); shapes (I, O) and divergences of the layers; kind "A" or "B"."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 12. What independent weights cost
#
# *Derive it; 3 points; thesis eq. 6.1.*
#
# Bayesian regression: y = Phi w + noise of deviation s, prior N(0, I) over w. Derive the standard deviations of w in
# the exact posterior, and those of the best Gaussian with independent weights, by KL(q || p).


# %%
def deviations(phi, s):
    """Two arrays (I,): of the exact posterior, and of the best factorised q; phi (N, I)."""
    raise NotImplementedError("to be written")
