"""Exercises: importance-weighted bounds and their gradients (tighter-bounds report).

Beside the lessons `chapters/report_tighter_bounds.py` and `report_tighter_bounds_gradients.py`. Replace each `raise
NotImplementedError` by your code, then run `minivi grade chapters/exercises/report_tighter_bounds.py`. NumPy is all
that is needed. All values are in nats. log_w are log-weights log p(x, z) - log q(z | x) of samples z from q: (K, B)
are K samples for each of B data. They can be -900: no weight may vanish or overflow. No function may write into its
arguments.
"""

# %%
import numpy as np

# %% [markdown]
# ## 1. The weights, with a fault
#
# *Find the fault; 1 point; tighter-bounds report eq. 3 and 11.*
#
# The line under eq. 11 of the report writes the weight in two ways, of which one has a factor too many. The code
# follows that one. Mend it: the mean weight must be p(x).


# %%
def log_weights(log_px_z, log_pz, log_qz_x):
    """log w, from log p(x | z), log p(z) and log q(z | x) of the same samples, all (K, B)."""
    log_joint = log_px_z + log_pz
    return log_joint + log_pz - log_qz_x


# %% [markdown]
# ## 2. The importance-weighted bound
#
# *Write it; 2 points; tighter-bounds report eq. 6.*
#
# Of K samples, for each datum.


# %%
def iwae(log_w):
    """The bound, (B,), from (K, B)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 3. MIWAE
#
# *Write it; 3 points; tighter-bounds report eq. 11.*
#
# From M groups of K samples, group after group: log_w[:K] is the first group.


# %%
def miwae(log_w, groups):
    """The bound, (B,), from (M K, B) and groups = M."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 4. CIWAE
#
# *Write it; 2 points; tighter-bounds report eq. 12 and 13.*
#
# Between the ELBO and IWAE, of the same samples.


# %%
def ciwae(log_w, beta):
    """The bound, (B,), from (K, B) and beta in [0, 1]."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 5. The gradient of IWAE
#
# *Write it; 2 points; tighter-bounds report eq. 7; review report eq. 11.*
#
# slopes are the gradients of log w of each sample by the P parameters. What is the gradient of the bound?


# %%
def iwae_gradient(log_w, slopes):
    """The gradient, (B, P), from (K, B) and (K, B, P)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 6. PIWAE
#
# *Write it; 4 points; tighter-bounds report eq. 14 and 15.*
#
# Each network gets the gradient of a bound of its own, from the same samples: M groups of K as above.


# %%
def piwae_gradients(log_w, groups, by_encoder, by_decoder):
    """The encoder's and the decoder's gradients, (B, P) and (B, R), from log_w (M K, B) and its gradients by each."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 7. A gradient by hand
#
# *Derive it; 3 points; tighter-bounds report eq. 7.*
#
# A model of single numbers: z has the prior N(mu, 1), x given z is N(z, 1), q is N(m, s^2), and z_k = m + s eps_k.
# Give the derivatives of the bound of K samples by m and by mu, for given noise.


# %%
def gradients(x, mu, m, s, eps):
    """Two numbers: by m and by mu; eps (K,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 8. DReG
#
# *Write it; 4 points; lesson report_tighter_bounds, section 3; Tucker et al. 2019.*
#
# In the same model, the encoder's gradient reparameterised twice: squares of the normalised weights, and the derivative
# of log w along the path alone, with q's own parameters held. Its expectation is that of the gradient before: the
# grader sums it over all pairs of a grid of eps too.


# %%
def dreg(x, mu, m, s, eps):
    """The estimate of the derivative by m, a number; eps (K,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 9. The signal-to-noise ratio
#
# *Write it; 1 point; tighter-bounds report eq. 8.*
#
# From many draws of a gradient, for each parameter.


# %%
def signal_to_noise(draws):
    """The ratio for each parameter, (P,), from draws (N, P); the deviation of one draw, over N."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 10. What more samples do
#
# *Predict it; 2 points; tighter-bounds report eq. 9 and 10.*
#
# Before you run anything: K is large already. By which factor do the ratios of the encoder's and of the decoder's
# gradient change if K is multiplied by k and M by m? (MIWAE, in a model whose encoder is not yet at its best.)


# %%
def factors(k, m):
    """Two numbers: the encoder's factor and the decoder's."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 11. How far below log p(x)?
#
# *Derive it; 3 points; tighter-bounds report eq. 6 and 10.*
#
# The weights have the mean Z and the variance V. Derive by how much the expected bound of K samples is below log Z, to
# the leading order in 1 / K: expand the logarithm of the mean weight around Z.


# %%
def gap(z, v, k):
    """The gap, a positive number."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 12. A learned beta
#
# *Predict it; 2 points; tighter-bounds report eq. 12 and 16.*
#
# beta of CIWAE is made a parameter, kept in [0, 1], and trained with everything else held. Eq. 16 of the report says
# min; its networks are trained for the maximum. Before you run anything: give the derivative of CIWAE by beta, and
# where beta ends after very many steps, by descent (as eq. 16 says) and by ascent.


# %%
def learned_beta(log_w):
    """Three numbers, from the log-weights (K,), not all alike: the derivative, beta by descent, beta by ascent."""
    raise NotImplementedError("to be written")
