"""How a kernel is made fast: softplus, log-sum-exp and the matrix product, from NumPy to the speed of the machine.

A neural network spends its time in a few loops. This lesson takes three of them and measures, step by step, what makes
them fast: fewer passes over memory, vector instructions, threads, registers. It ends at `minivi/kernels/`, whose files
go on from here. Times are those of your machine, the best of several; 10 seconds, most of them for compiling.
"""

# %% [markdown]
# ## 1. NumPy: a pass over memory for each operation
#
# softplus(x) = log(1 + e^x) = max(x, 0) + log1p(e^-|x|), the second form for large x. NumPy makes five passes, each
# reading and writing whole arrays. Long arrays do not fit into the caches between passes; short ones pay for five
# calls from Python.

# %%
import math
import re
from timeit import repeat

import numba
import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from minivi import kernels, plots
from minivi.lesson import show

# %%
in_numpy = lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def nanoseconds(f, n, *args):
    """The best time of ``f(*args)``, for each of ``n`` elements."""
    number = max(1, 200_000 // n)
    return 1e9 * min(repeat(lambda: f(*args), number=number, repeat=7)) / number / n


rng = np.random.default_rng(0)
lengths = [10**k for k in range(1, 7)] + [4 * 10**6]
arrays = [4 * rng.standard_normal(n, dtype="float32") for n in lengths]
times = {"NumPy": [nanoseconds(in_numpy, n, x) for n, x in zip(lengths, arrays, strict=True)]}


def picture(name):
    """Time for an element against length, of all ways so far."""
    fig = plots.figure(5.5, 3.2)
    plots.panel(axes := fig.add_subplot(), "softplus of float32", "elements", "nanoseconds an element", log="xy")
    for i, (label, values) in enumerate(times.items()):
        axes.plot(lengths, values, label=label, **plots.style(i, len(lengths)))
    axes.legend(fontsize=8)
    show(fig, name)


picture("numpy")
print("  ".join(f"{n:,d}: {t:.1f} ns" for n, t in zip(lengths, times["NumPy"], strict=True)))

# %% [markdown]
# ## 2. One loop
#
# Numba compiles a Python loop by LLVM. One pass, no intermediate arrays, one call from Python; but `math.exp` and
# `math.log1p` are calls into a library, one number at a time, where NumPy's own loops do several at once. So this is
# faster for short arrays alone.


# %%
@numba.njit
def plain_loop(x):
    """softplus, element by element."""
    y = np.empty_like(x)
    for i in range(len(x)):
        y[i] = max(x[i], np.float32(0)) + np.float32(math.log1p(math.exp(-abs(x[i]))))
    return y


plain_loop(arrays[0])
times["one loop"] = [nanoseconds(plain_loop, n, x) for n, x in zip(lengths, arrays, strict=True)]
print("  ".join(f"{n:,d}: {t:.1f} ns" for n, t in zip(lengths, times["one loop"], strict=True)))

# %% [markdown]
# ## 3. Without calls and branches: vectors
#
# A core adds or multiplies 8 (AVX2) or 16 (AVX-512) float32 in one instruction, if the loop's body is plain arithmetic.
# So write the functions as polynomials. With k the whole number nearest to x / log 2, e^x = 2^k e^r and
# |r| <= log(2) / 2, where a polynomial of degree 6 will do; 2^k is an integer put into the exponent's bits; log 2 comes
# in two parts, so that k log 2 is exact. log1p(t) is t times a polynomial of degree 8, for t in [0, 1]: so the error is
# relative. Both are interpolated here at Chebyshev points (the library's are minimax).

# %%
half = math.log(2) / 2
exp_of = Chebyshev.interpolate(np.exp, 6, [-half, half]).convert(kind=Polynomial).coef.astype("float32")
log1p_of = Chebyshev.interpolate(lambda t: np.log1p(t) / t, 8, [0, 1]).convert(kind=Polynomial).coef.astype("float32")
E, L = tuple(exp_of), tuple(log1p_of)
zero, inverse = np.float32(0), np.float32(1 / (2 * half))
high, low = np.float32(0.693359375), np.float32(2 * half - 0.693359375)


@numba.njit(fastmath={"contract", "nsz"}, error_model="numpy")
def by_polynomials(x):
    """softplus, in plain arithmetic."""
    y, scale = np.empty_like(x), np.empty(len(x), np.int32)
    for i in range(len(x)):
        a = -abs(x[i])
        a = np.float32(-87) if a < np.float32(-87) else a  # e^-87 is the least normal number, about
        k = np.int32(a * inverse - np.float32(0.5))
        scale[i] = (k + np.int32(127)) << np.int32(23)
        r = a - np.float32(k) * high - np.float32(k) * low
        y[i] = E[0] + r * (E[1] + r * (E[2] + r * (E[3] + r * (E[4] + r * (E[5] + r * E[6])))))
    powers = scale.view(np.float32)
    for i in range(len(x)):
        t = y[i] * powers[i]
        p = L[4] + t * (L[5] + t * (L[6] + t * (L[7] + t * L[8])))
        y[i] = t * (L[0] + t * (L[1] + t * (L[2] + t * (L[3] + t * p)))) + (x[i] if x[i] > zero else zero)
    return y


by_polynomials(arrays[0])
times["polynomials"] = [nanoseconds(by_polynomials, n, x) for n, x in zip(lengths, arrays, strict=True)]
times["minivi, one thread"] = []
threads = kernels.get_threads()
kernels.set_threads(1)
for n, x in zip(lengths, arrays, strict=True):
    times["minivi, one thread"].append(nanoseconds(kernels.softplus, n, x))
picture("softplus")
for name, function in (("one loop", plain_loop), ("polynomials", by_polynomials)):
    code = "\n".join(function.inspect_asm().values())
    wide = len(re.findall(r"\b(?:v?mul|vfn?m\w+)ps\b|\bfml?a\b.*\.4s", code))
    exact = np.logaddexp(0, arrays[3].astype(float))
    off = np.abs(function(arrays[3]) - exact) / exact
    print(f"{name:12s} {wide:3d} vector multiplications in its code; relative error at most {off.max():.0e}")

# %% [markdown]
# `minivi/kernels/vector.py` does the same in one loop. It is not faster than this one: its exp and log1p serve other
# functions too, a NaN passes through, and a call takes 2 microseconds for checks of shapes and types, which the lesson
# leaves out. (A compiled step leaves them out too: `how_compiled.py`.)
#
# ## 4. Threads
#
# Two cores halve the time of a long array, if nothing else wants them. Waking the second takes some 5 microseconds, in
# which one core does ten thousand elements: short arrays are left to one (`GRAIN` in `kernels/jit.py`). A chunk of
# elements gives the same bits whoever does it.

# %%
for n, x in zip(lengths[3:6], arrays[3:6], strict=True):
    kernels.set_threads(1)
    alone, y = nanoseconds(kernels.softplus, n, x), kernels.softplus(x)
    kernels.set_threads(threads)
    together = nanoseconds(kernels.softplus, n, x)
    print(f"{n:9,d} elements: {alone:.2f} ns by one thread, {together:.2f} by {threads}", end="; the same bits: ")
    print(np.array_equal(y, kernels.softplus(x)))

# %% [markdown]
# ## 5. Sums: the order matters
#
# log sum_k exp(a_k), the heart of the importance-weighted bound (eq. 2.57), has a sum in it. One accumulator must wait
# for itself at each addition, 4 cycles; vector lanes are 16 accumulators and more, but then the order of the additions
# is another, and float32 sums depend on it. minivi adds blocks of 128 terms in lanes, and the blocks in float64: fast,
# more accurate than one after the other, and the same for every number of threads.


# %%
@numba.njit
def one_after_the_other(x):
    """The sum in float32."""
    total = np.float32(0)
    for v in x:
        total += v
    return total


x = rng.random(2**20, dtype="float32")
exact = math.fsum(x)
blocks = np.array([part.sum(dtype=np.float32) for part in x.reshape(-1, 128)], np.float64).sum()
for name, value in (("one after the other", one_after_the_other(x)), ("NumPy, pairwise", x.sum()), ("blocks", blocks)):
    print(f"{name:20s} relative error {abs(float(value) - exact) / exact:.0e}")
a = 50 * rng.standard_normal((1000, 64), dtype="float32")
off = np.abs(kernels.log_sum_exp(a) - np.logaddexp.reduce(a.astype(float), axis=1)).max()
print(f"log-sum-exp of 64 terms up to {a.max():.0f}: at most {off:.0e} off, where exp alone would be infinite")

# %% [markdown]
# ## 6. A matrix product: use a number often once it is there
#
# C = A B takes n^3 multiply-adds on n^2 numbers. Three loops in the order i, j, k walk down columns of B, a cache line
# for each number. In the order i, k, j the inner loop goes along rows of B and C: vectors. A *tile* of C that stays in
# registers while k runs needs neither to load nor to store it. `minivi/kernels/matmul.py` has the rest: packed panels,
# blocks for each cache, tiles of 12 or 24 registers written in LLVM's vector code, since no compiler finds them.


# %%
@numba.njit(fastmath={"contract"})
def loops_ijk(a, b, c):
    """C = A B, a number of C at a time."""
    for i in range(len(a)):
        for j in range(b.shape[1]):
            total = np.float32(0)
            for k in range(len(b)):
                total += a[i, k] * b[k, j]
            c[i, j] = total


@numba.njit(fastmath={"contract"})
def loops_ikj(a, b, c):
    """C = A B, a row of B at a time."""
    c[:] = 0
    for i in range(len(a)):
        for k in range(len(b)):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


n = 384
a, b = (rng.standard_normal((n, n), dtype="float32") for _ in range(2))
c = np.empty_like(a)
kernels.set_threads(1)
speed = {}
for name, product in (
    ("loops i, j, k", loops_ijk), ("loops i, k, j", loops_ikj),
    ("minivi, one thread", lambda a, b, c: c.__setitem__(slice(None), kernels.matmul(a, b))),
):  # fmt: skip
    product(a, b, c)
    speed[name] = n**3 / min(repeat(lambda p=product: p(a, b, c), number=1, repeat=5)) / 1e9
    assert np.allclose(c, a.astype(float) @ b, atol=1e-3)
kernels.set_threads(threads)
fig = plots.figure(5.5, 2.2)
plots.panel(axes := fig.add_subplot(), f"product of {n} x {n} matrices", "billion multiply-adds a second", "", log="x")
axes.barh(list(speed), list(speed.values()), color="0.7", edgecolor="black")
axes.invert_yaxis()
show(fig, "matmul")
print(", ".join(f"{name}: {s:.1f}" for name, s in speed.items()), "billion multiply-adds a second")

# %% [markdown]
# ## 7. Try
#
# 1. Print `by_polynomials(np.array([np.nan, np.inf, -np.inf], "float32"))`. Which of the three is wrong, and why?
# 2. Raise the degree of `log1p_of`. When does the error stop falling, and what limits it then?
# 3. In `loops_ikj` unroll i by two, so that a row of B that is loaded is used twice. What does it gain?
# 4. Where is a kernel's twin in NumPy? Run `NUMBA_DISABLE_JIT=1 python chapters/ch02_aevb.py`.
