"""Exercises: autoregressive models and couplings (thesis chapter 4).

Beside the lessons `chapters/ch04_autoregressive.py` and `ch04_invertible.py`. Replace each `raise NotImplementedError`
by your code, then run `minivi grade chapters/exercises/ch04_autoregressive.py`. NumPy is all that is needed. x are D
pixels, zeros and ones, or numbers from task 10 on. `order[i]` is the pixel that comes i-th; its place is i + 1. Pixels
of arrays are in their own sequence, and not in that of `order`. Logarithms are natural. No function may write into its
arguments.
"""

# %%
import numpy as np

# %% [markdown]
# ## 1. A factor of the product
#
# *Write it; 2 points; thesis eq. 4.8.*
#
# The joint distribution of D pixels is known as a table: `joint[0, 1, 1]` is p(x_1 = 0, x_2 = 1, x_3 = 1). Their order
# is the natural one. Give the next factor of eq. 4.8: the probability that the next pixel is 1, given those before it.


# %%
def conditional(joint, prefix):
    """p(x_j = 1 | x_<j), a number; the table of shape (2, ..., 2), and x_<j, a list of j - 1 zeros and ones."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 2. The masks
#
# *Write it; 3 points; thesis eq. 4.8 and 4.9; lesson ch04_autoregressive, section 1.*
#
# One hidden layer. A unit of degree m sees the pixels of the first m places, and feeds the outputs of places behind m,
# so that each output sees only what comes before its own pixel. Give both masks, ones where a weight may be.


# %%
def masks(order, degrees):
    """Masks from pixels to units, (D, H), and from units to outputs, (H, D); degrees (H,), from 1 to D - 1."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 3. Paths
#
# *Predict it; 2 points; thesis eq. 4.9; lesson ch04_autoregressive, section 1.*
#
# Two hidden layers, of degrees a and b; a unit sees units of its own degree and of lower ones. Before you multiply any
# masks: how many paths lead from the pixel of place k to the output of place j?


# %%
def paths(a, b, k, j):
    """A number, from the degrees a (H,) and b (G,) and two places, from 1 to D."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 4. Too few units
#
# *Predict it; 2 points; thesis eq. 4.9; lesson ch04_autoregressive, section 3.*
#
# Degrees are handed out in turn: 1, 2, ..., D - 1, 1, 2, ... to H units of one hidden layer. Before you build it: how
# many pixels feed no unit at all, and how many outputs do not see all of the pixels before them?


# %%
def unseen(dims, units):
    """Two numbers, for D and H: pixels, outputs."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 5. The likelihood in one pass
#
# *Write it; 3 points; thesis eq. 4.8 and 4.9.*
#
# One hidden layer with tanh, and masks as above. The output of pixel j is the logit of p(x_j = 1 | x_before j). Give
# log p(x); logits can be in the thousands.


# %%
def log_likelihood(x, into, out, w, b, v, c):
    """log p(x), (B,), in nats; x (B, D), masks and weights (D, H) and (H, D), biases b (H,) and c (D,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 6. Its gradient
#
# *Derive it; 4 points; thesis eq. 4.8 and 4.9.*
#
# Of the same model and one image: derive the gradients of log p(x) by the weights w and v.


# %%
def gradients(x, into, out, w, b, v, c):
    """By w, (D, H), and by v, (H, D); x (D,)."""
    h = np.tanh(x @ (w * into) + b)
    logits = h @ (v * out) + c
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 7. Ancestral sampling
#
# *Write it; 3 points; thesis section 4.3 and eq. 4.8.*
#
# `logits(x)` gives all D logits of images (B, D), in one pass. Pixel j is 1 if u[:, j] is below its probability. Draw
# images, one pixel after the other.


# %%
def draw(logits, order, u):
    """Images, (B, D), of zeros and ones; uniform numbers u (B, D)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 8. Several orders
#
# *Find the fault; 2 points; thesis eq. 4.8; lesson ch04_autoregressive, section 2.*
#
# M orders make M models, whose logits for the same images are given. The code below makes one model of them, but no
# density: its values do not add up to 1 over all images. Mend it, so that it is the mean of the M densities. Each log p
# can be -9000.


# %%
def ensemble(x, logits):
    """log p(x), (B,); x (B, D), logits (M, B, D)."""
    mean = logits.mean(axis=0)
    return np.sum(x * mean - np.logaddexp(0, mean), axis=1)


# %% [markdown]
# ## 9. What an order costs
#
# *Derive it; 4 points; thesis eq. 4.8.*
#
# A model of little sight: its conditionals are p(x_j | x_i), i being the one pixel just before j in the order; the
# first pixel has p(x_j). Let these be as good as they can be. The data's distribution is a table, as in task 1. Derive
# by how many nats the model's mean of log p(x) over the data is below the data's own.


# %%
def cost(joint, order):
    """A number, not negative; joint of shape (2, ..., 2)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 10. Couplings
#
# *Write it; 3 points; thesis section 4.4; lesson ch04_invertible, sections 1 and 2.*
#
# Real NVP. A layer takes the halves of x, $x_a$ and then $x_b$, to $x_b e^{s(x_a)} + m(x_a)$ and then $x_a$: they have
# changed places. After all layers z should be N(0, I). Give z, and log p(x). `layers` are pairs (m, s) of functions
# from (B, D/2) to (B, D/2).


# %%
def to_noise(x, layers):
    """z, (B, D), and log p(x), (B,), in nats."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 11. The way back
#
# *Write it; 3 points; thesis section 4.4; lesson ch04_invertible, section 2.*
#
# A sample is noise through the same layers, undone.


# %%
def from_noise(z, layers):
    """x, (B, D), from z, (B, D)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 12. Who moves whom
#
# *Predict it; 2 points; thesis section 4.4.*
#
# Before you try it: how many of the D x D derivatives of the map's results by its inputs are not always 0, after T such
# layers? D is even, and m and s have no derivative that is always 0.


# %%
def reach(dims, layers):
    """A number, for D and T."""
    raise NotImplementedError("to be written")
