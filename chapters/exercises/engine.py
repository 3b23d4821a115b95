"""Exercises: an engine for gradients, its kernels and its checker (thesis section 9.3).

Beside the lessons `chapters/how_engine.py` and `chapters/how_kernels.py`. Replace each `raise NotImplementedError` by
your code, then run `minivi grade chapters/exercises/engine.py`. In all of it g is a cotangent: the derivative of the
loss by a result, of that result's shape. A vjp takes it and gives those of the inputs. No function may write into its
arguments.
"""

# %%
import math

import numba
import numpy as np

# %% [markdown]
# ## 1. The vjp of tanh
#
# *Write it; 1 point; lesson how_engine, section 2.*
#
# From the result y = tanh(x), without x: so x need not be kept.


# %%
def tanh_vjp(g, y):
    """The cotangent of x, of the shape of g and y."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 2. The vjp of softplus
#
# *Write it; 2 points; lesson how_kernels, section 1.*
#
# softplus(x) = log(1 + e^x), for x of any size: 1,000 and -1,000 too, and small numbers to their last places.


# %%
def softplus_vjp(g, x):
    """The cotangent of x, of its shape."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 3. The vjp of a matrix product
#
# *Write it; 2 points; lesson how_engine, section 2.*
#
# Of y = a b, with a (n, k) and b (k, m). Shapes nearly tell the answer.


# %%
def matmul_vjp(g, a, b):
    """The cotangents of a and b, each of its shape."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 4. The vjp of log-sum-exp
#
# *Write it; 2 points; thesis eq. 2.57; lesson how_engine, section 2.*
#
# Of y = log sum_k exp(x_k) over the last axis, which y lacks; x may be 1,000.


# %%
def logsumexp_vjp(g, x):
    """The cotangent of x (..., K), for g (...)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 5. What a broadcast input gets
#
# *Write it; 3 points; lesson how_engine, section 2.*
#
# An input of the given shape was broadcast to the shape of g, which may have more axes in front. It went to many
# places, so its cotangent is a sum.


# %%
def unbroadcast(g, shape):
    """The cotangent of the input, of that shape (a list of sizes)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 6. A backward pass with a fault
#
# *Find the fault; 2 points; lesson how_engine, section 3.*
#
# `tape` lists a program's results in order, each as [name, i] or [name, i, j], where i and j are places on the tape, or
# as ["input"]; values[k] is the k-th result. The code below gives right gradients for chains, and wrong ones for other
# programs. Mend it.


# %%
def backward(tape, values):
    """The derivative of the last result by each one on the tape, as a list of numbers."""
    cotangents = [0.0] * (len(tape) - 1) + [1.0]
    for k in range(len(tape) - 1, -1, -1):
        name, *inputs = tape[k]
        g = cotangents[k]
        if name == "add":
            parts = [g, g]
        elif name == "mul":
            parts = [g * values[inputs[1]], g * values[inputs[0]]]
        elif name == "tanh":
            parts = [g * (1 - values[k] ** 2)]
        else:
            continue
        for i, part in zip(inputs, parts, strict=True):
            cotangents[i] = part
    return cotangents


# %% [markdown]
# ## 7. The backward pass
#
# *Write it; 4 points; lesson how_engine, sections 2 and 3.*
#
# Now all of it, and the nodes come in no order: graph[name] is ["input", value], ["add", a, b], ["mul", a, b] or
# ["tanh", a], with the names of other nodes. There may be 5,000 of them in a row, more than Python can recurse.


# %%
def gradients(graph, loss):
    """The derivative of node `loss` by each input that it depends on, as a dict from name to number."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 8. How many visits?
#
# *Predict it; 1 point; lesson how_engine, section 3.*
#
# y is doubled n times, y = y + y, from an input. Before you run anything: how many visits of nodes, those of the input
# included, does a backward pass take that passes on each cotangent as it comes, by recursion, and how many does one
# that goes through the nodes in reverse order?


# %%
def visits(n):
    """Two whole numbers."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 9. The best step
#
# *Derive it; 2 points; lesson how_engine, section 1.*
#
# A central difference (f(x + h) - f(x - h)) / 2h is off by at most $|f'''| h^2 / 6$, and as both values of f are
# rounded to a relative eps, by another $|f|\, \epsilon / h$. Derive the h at which the sum of both is least.


# %%
def best_step(f, third, eps):
    """h, from |f|, |f'''| and eps, all positive."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 10. A checker of gradients
#
# *Write it; 4 points; lesson how_engine, sections 1 and 5.*
#
# f takes an array and gives a number, gradient(x) should be its gradient. Say whether it is, by central differences of
# every coordinate: True if all are right within 1e-5 of the largest one, and False for any that is a thousandth off.
# Functions are smooth, inputs near 1, values of any size: 1e6 and 1e-6 too. Your checker is checked with right and
# wrong gradients.


# %%
def check(f, gradient, x):
    """True or False."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 11. A kernel for softplus
#
# *Write it; 4 points; lesson how_kernels, sections 1 to 3.*
#
# `exp_below` and `log1p_unit` are e^a for a <= 0, and log(1 + t) for t between 0 and 1, in plain arithmetic of float32.
# Use them in a loop over x that LLVM turns into vector instructions, which it cannot if there are calls into a library
# or numbers of float64 in it.

# %%
TAYLOR = tuple(np.float32(1 / math.factorial(k)) for k in range(9))
LOG1P = tuple(np.polynomial.Chebyshev.interpolate(lambda t: np.log1p(t) / t, 8, [0, 1])
              .convert(kind=np.polynomial.Polynomial).coef.astype("float32"))  # fmt: skip


@numba.njit(fastmath={"contract", "nsz"})
def exp_below(a):
    """e^a for a float32 a <= 0, to about 1e-5: the 64th power of e^(a / 64)."""
    u = (a if a > np.float32(-87) else np.float32(-87)) * np.float32(1 / 64)
    p = TAYLOR[8]
    for k in range(7, -1, -1):
        p = p * u + TAYLOR[k]
    for _ in range(6):
        p = p * p
    return p


@numba.njit(fastmath={"contract", "nsz"})
def log1p_unit(t):
    """log(1 + t) for a float32 t in [0, 1]."""
    p = LOG1P[8]
    for k in range(7, -1, -1):
        p = p * t + LOG1P[k]
    return p * t


@numba.njit(fastmath={"contract", "nsz"}, error_model="numpy")
def softplus_kernel(x):
    """softplus of each number of x (n,), both of float32."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 12. A kernel for log-sum-exp
#
# *Write it; 3 points; lesson how_kernels, section 5.*
#
# log sum_k exp(a_k) of each row, by `exp_below`, for rows that may hold 1,000. A sum is turned into vectors only if its
# order may be changed: see which `fastmath` flag allows that, and add it.


# %%
@numba.njit(fastmath={"contract", "nsz"}, error_model="numpy")
def logsumexp_kernel(a):
    """The log-sum-exp of each row of a (B, K), shape (B,), both of float32."""
    raise NotImplementedError("to be written")
