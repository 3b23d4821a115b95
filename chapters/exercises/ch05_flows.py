"""Exercises: flows and auxiliary variables for better posteriors (thesis chapter 5).

Beside the lessons `chapters/ch05_flows.py`, `ch05_iaf.py` and `ch05_auxiliary.py`. Replace each `raise
NotImplementedError` by your code, then run `minivi grade chapters/exercises/ch05_flows.py`. NumPy is all that is
needed. z are B draws of D numbers, one a row. Logarithms are natural, densities' in nats. No function may write into
its arguments.
"""

# %%
import numpy as np

# %% [markdown]
# ## 1. A planar step
#
# *Write it; 2 points; thesis eq. 5.15 and 5.17.*
#
# h is tanh. Give the images of the draws z, and the logarithm of what the step does to a volume at each of them.


# %%
def planar(z, u, w, b):
    """f(z), (B, D), and log |det df / dz|, (B,); z (B, D), u and w (D,), b a number."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 2. A step that can be undone
#
# *Derive it; 2 points; thesis eq. 5.17; lesson ch05_flows, section 1.*
#
# A planar step can be undone where w.u is above -1. So u is replaced by another vector: moved along w alone, until its
# product with w is softplus(w.u) - 1. Derive it.


# %%
def bounded(u, w):
    """The vector in the place of u, (D,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 3. The fold
#
# *Predict it; 3 points; thesis eq. 5.17; lesson ch05_flows, section 1.*
#
# Of a planar step nothing but a = w.z and c = w.f(z) need be looked at: c = a + w.u tanh(a + b). Before you plot it:
# how many points z have the image y with w.y = c?


# %%
def origins(c, along, b):
    """A number; c = w.y, along = w.u, and b."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 4. The density after a chain
#
# *Find the fault; 2 points; thesis eq. 5.15 and 5.16.*
#
# The Jacobians of all steps are given, at the points that a draw goes through. The code below takes the bars of
# eq. 5.16 by the letter, as they are printed. Mend it. Determinants can be negative, and as small as 1e-500.


# %%
def log_density(log_p, jacobians):
    """log q(z | x), (B,); log p(eps_0), (B,), and the Jacobians of T steps, (T, B, D, D)."""
    log_dets = np.log(np.linalg.det(np.abs(jacobians)))
    return log_p - log_dets.sum(axis=0)


# %% [markdown]
# ## 5. A step of inverse autoregressive flow
#
# *Write it; 3 points; thesis eq. 5.22 and 5.30 to 5.32.*
#
# `network(z)` gives m and s, each (B, D), whose coordinates i see z_1 ... z_{i-1}. The gate is sigmoid(s + gate). s can
# be a thousand, or minus that.


# %%
def iaf_step(z, network, gate):
    """The new z, (B, D), and log |det|, (B,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 6. The way back
#
# *Write it; 3 points; thesis eq. 5.18 and 5.32; lesson ch05_iaf, section 4.*
#
# From the new z to the old one: what takes one pass ahead takes D passes back. `network` and gate as before.


# %%
def undo(image, network, gate):
    """The old z, (B, D), from the new one."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 7. A posterior with a flow
#
# *Write it; 4 points; thesis Algorithm 5 and eq. 5.29.*
#
# Algorithm 5, with gates as above, and the order of the coordinates reversed after each step, the last one too. Each of
# `networks` takes z and the context h. Give draws, and their log density.


# %%
def posterior(mu, log_sigma, h, eps, networks, gate):
    """z, (B, D), and log q(z | x), (B,); mu, log_sigma, h and the noise eps (B, D)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 8. A fresh chain
#
# *Predict it; 2 points; thesis section 5.4 and eq. 5.32.*
#
# Before training the networks give m = s = 0, whatever they see, and z_0 is N(0, I). Before you try it: what is the
# standard deviation of each coordinate of z_T, and the log-determinant of the whole chain?


# %%
def fresh(dims, steps, gate):
    """Two numbers, for D, T and the gate's bias."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 9. What the reversal is for
#
# *Predict it; 2 points; thesis sections 5.3 and 5.4.*
#
# Before you try it: how many of the D x D derivatives of z_T by z_0 are not always 0, after T steps of IAF, with the
# order reversed after each of them or never?


# %%
def reach(dims, steps, reverse):
    """A number, for D, T and whether the order is reversed."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 10. The bound with an auxiliary variable
#
# *Find the fault; 2 points; thesis eq. 5.1, 5.3 and 5.4.*
#
# For one x, tables: u and z have a few values each, and all are summed. The code below can give bounds above log p(x).
# Mend it.


# %%
def auxiliary_bound(q_u, q_z, p_xz, p_u):
    """The bound, in nats; q(u | x) (U,), q(z | u, x) (U, Z), p(x, z) (Z,), and p(u | x, z), (Z, U)."""
    q = q_u[:, None] * q_z
    return np.sum(q * (np.log(p_xz) - np.log(q)))


# %% [markdown]
# ## 11. The price of u
#
# *Derive it; 3 points; thesis eq. 5.6 and 5.7.*
#
# With the same tables: by how many nats is that bound below the bound with the same q(z | x) and without u? Derive it.


# %%
def price(q_u, q_z, p_u):
    """A number, not negative; q(u | x) (U,), q(z | u, x) (U, Z), p(u | x, z), (Z, U)."""
    q = q_u[:, None] * q_z
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 12. What q leaves out
#
# *Predict it; 2 points; thesis section 5.2 and eq. 5.8; lesson ch05_flows, section 2.*
#
# p is a mixture of parts that do not overlap, with `weights`. q is as good as it can be on some of these parts, and
# nothing elsewhere: there it is p, normalised. Before you compute any: what are KL(q || p) and KL(p || q)?


# %%
def left_out(weights, covered):
    """Two numbers, in nats, `np.inf` if need be; the weights, an array, and the covered parts' indices, a list."""
    raise NotImplementedError("to be written")
