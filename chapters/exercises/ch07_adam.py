"""Exercises: Adam and its relatives (thesis chapter 7).

Beside the lesson `chapters/ch07_adam.py`. Replace each `raise NotImplementedError` by your code, then run
`minivi grade chapters/exercises/ch07_adam.py`. NumPy is all that is needed. Gradients come as arrays (T, ...): row
t - 1 is the gradient of step t = 1 ... T. No function may write into its arguments.
"""

# %%
import numpy as np

# %% [markdown]
# ## 1. The running averages
#
# *Write it; 2 points; thesis Algorithm 6.*
#
# Adam keeps m, a running average of gradients, and v, one of their squares, each number by itself. Give both after the
# gradient g has come.


# %%
def moments(m, v, g, beta1=0.9, beta2=0.999):
    """The new m and v; arrays of one shape."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 2. The weights of all gradients so far
#
# *Derive it; 2 points; thesis eq. 7.1.*
#
# v starts at 0. Written out, $v_t = \sum_{i=1}^t c_i\, g_i^2$. Derive the weights $c_1 \dots c_t$.


# %%
def weights(beta2, t):
    """The weights of g_1^2 ... g_t^2 in v_t, shape (t,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 3. What the average is too small by
#
# *Derive it; 3 points; thesis eq. 7.3 and 7.4.*
#
# The gradients are random, with $E[g_i^2]$ given for i = 1 ... t. Give two numbers: the factor by which $E[v_t]$
# would differ from $E[g_t^2]$ if $E[g_i^2]$ were the same for all i, and what is to be added to $E[g_t^2]$ times that
# factor because they are not, $\zeta$.


# %%
def bias(beta2, squares):
    """The factor, and zeta, for squares = E[g_1^2] ... E[g_t^2], shape (t,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 4. Adam
#
# *Write it; 4 points; thesis Algorithm 6.*
#
# All of it: from given gradients, what is added to theta at each step (so a step down has the sign of -g at first).


# %%
def adam(gradients, alpha=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """The changes of theta, shape (T, ...) as the gradients."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 5. The quicker order of computation
#
# *Find the fault; 2 points; thesis section 7.2.*
#
# Section 7.2 moves both corrections into the step size, which saves two divisions of arrays. The code below follows the
# text as it is printed, and gives other steps than Algorithm 6 with eps = 0 does. Mend it.


# %%
def reordered(gradients, alpha=0.001, beta1=0.9, beta2=0.999):
    """The changes of theta by the quicker order, with eps = 0, shape (T, ...) as the gradients."""
    m, v, changes = np.zeros_like(gradients[0]), np.zeros_like(gradients[0]), []
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        alpha_t = alpha * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        changes.append(-alpha_t * m / np.sqrt(v / (1 - beta2**t)))
    return np.array(changes)


# %% [markdown]
# ## 6. How long is the first step?
#
# *Predict it; 2 points; thesis section 7.3.*
#
# Before you run anything: how long is Adam's very first step of a parameter whose gradient is g, not 0 (with eps = 0),
# and how long would it be without the bias corrections? Give both lengths, positive numbers.


# %%
def first_step(g, alpha, beta1, beta2):
    """Two numbers: |change of theta| with and without the corrections."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 7. What a step approaches
#
# *Predict it; 2 points; thesis section 7.2.1.*
#
# A parameter's gradients are drawn again and again from few values with given probabilities. Before the run: with
# beta1 and beta2 so near 1 that m and v hardly fluctuate, what does a step of Adam come to after many of them? Signal
# and noise decide it, not the unit of the gradient.


# %%
def steady_step(values, probabilities, alpha):
    """The change of theta in the limit; values and probabilities have the shape (n,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 8. How far can a step go?
#
# *Derive it; 3 points; thesis section 7.2.1.*
#
# Derive the largest |change of theta| that any gradients can bring about, after so many steps that corrections no
# longer matter, for $\beta_1^2 < \beta_2$. The text's bound is that for a single gradient that is not 0, and several
# can pass it: think of the sum in m as an inner product of two vectors, of which one has the length $\sqrt v$.


# %%
def largest_step(alpha, beta1, beta2):
    """The least upper bound, a number."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 9. AdaMax
#
# *Write it; 3 points; thesis Algorithm 7.*
#
# From given gradients, what is added to theta at each step. No eps: take gradients that are not 0.


# %%
def adamax(gradients, alpha=0.002, beta1=0.9, beta2=0.999):
    """The changes of theta, shape (T, ...) as the gradients."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 10. The norm on the way to AdaMax
#
# *Write it; 3 points; thesis eq. 7.5 and 7.6.*
#
# The p-th root of the average of p-th powers, $v_t^{1/p}$, after all gradients, for p up to 10,000: $|g|^p$ itself
# would be 0 or infinite in floating point. Find a form that is not.


# %%
def p_norm(gradients, beta2, p):
    """v_T^(1/p), shape (...), for gradients (T, ...), none of them 0."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 11. AdaGrad
#
# *Write it; 2 points; thesis section 7.4.2.*
#
# From given gradients, what is added to theta at each step: here every square counts for ever.


# %%
def adagrad(gradients, alpha=0.01, eps=1e-8):
    """The changes of theta, shape (T, ...) as the gradients."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 12. The average of iterates
#
# *Find the fault; 2 points; thesis section 7.6.2.*
#
# Temporal averaging keeps a running average of theta, which starts at 0 and is corrected for that. The code below
# is nearly right: its averages of a constant are that constant at one step only. Mend it.


# %%
def averages(iterates, beta2=0.999):
    """The corrected average after each iterate, shape (T, ...) as the iterates."""
    mean, found = np.zeros_like(iterates[0]), []
    for theta in iterates:
        mean = beta2 * mean + (1 - beta2) * theta
        found.append(mean / (1 - beta2))
    return np.array(found)
