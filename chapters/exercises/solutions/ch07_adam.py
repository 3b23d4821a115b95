"""Exercises: Adam and its relatives (thesis chapter 7).

Beside the lesson `chapters/ch07_adam.py`. Replace each `raise NotImplementedError` by your code, then run
`minivi grade chapters/exercises/ch07_adam.py`. NumPy is all that is needed. Gradients come as arrays (T, ...): row
t - 1 is the gradient of step t = 1 ... T. No function may write into its arguments.
"""

# %%
import numpy as np

# %% [teacher]
from minivi.exercises import Case, task


def sums(gradients, beta):
    """(1 - beta) sum_i beta^(t - i) g_i of each t, as a product with a triangular matrix."""
    t = np.arange(len(gradients))
    weights = (1 - beta) * np.tril(beta ** np.abs(t[:, None] - t))
    return np.tensordot(weights, gradients, 1)


def settings(rng):
    """beta1, beta2 and gradients (T, 3)."""
    return rng.uniform(0.3, 0.95), rng.uniform(0.5, 0.999), rng.normal(size=(rng.integers(3, 9), 3))


# %% [markdown]
# ## The running averages
#
# Adam keeps m, a running average of gradients, and v, one of their squares, each number by itself. Give both after the
# gradient g has come.


# %%
def moments(m, v, g, beta1=0.9, beta2=0.999):
    """The new m and v; arrays of one shape."""
    # [solution]
    return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    # [end]


# %% [teacher]
@task("moments", 2, "code", "thesis Algorithm 6", mistakes=[
    ("(1 - beta1) * g,", "g,", "in m the old average and the new gradient have weights that add up to 1"),
    ("(1 - beta2) * g**2", "g**2", "in v the old average and the new square have weights that add up to 1"),
    ("beta1 * m + (1 - beta1) * g,", "(1 - beta1) * m + beta1 * g,", "which of the two has the large weight in m?"),
    ("(1 - beta2) * g**2", "(1 - beta2) * np.abs(g)", "v averages another power of the gradient"),
    ("(1 - beta2) * g**2", "(1 - beta2) * np.sum(g**2)", "each parameter has its own v: nothing is summed over them"),
    ("(1 - beta2) * g**2", "(1 - beta1) * g**2", "v has its own decay rate"),
    ("+ (1 - beta2) * g**2", "+ (1 - beta2) * (beta1 * m + (1 - beta1) * g)**2",
     "v averages squares of the gradient itself, not of its average"),
])  # fmt: skip
def _(rng):
    for shape in ((4,), (2, 3)):
        beta1, beta2, _g = settings(rng)
        m, g, v = rng.normal(size=shape), rng.normal(size=shape), rng.uniform(0.1, 2, shape)
        old_and_new = lambda beta, a, b: np.average([a, b], axis=0, weights=[beta, 1 - beta])
        yield Case((m, v, g, beta1, beta2), [old_and_new(beta1, m, g), old_and_new(beta2, v, np.square(g))])


# %% [markdown]
# ## The weights of all gradients so far
#
# v starts at 0. Written out, $v_t = \sum_{i=1}^t c_i\, g_i^2$. Derive the weights $c_1 \dots c_t$.


# %%
def weights(beta2, t):
    """The weights of g_1^2 ... g_t^2 in v_t, shape (t,)."""
    # [solution]
    return (1 - beta2) * beta2 ** (t - np.arange(1, t + 1))
    # [end]


# %% [teacher]
@task("weights", 2, "derive", "thesis eq. 7.1", mistakes=[
    ("(1 - beta2) * beta2", "beta2", "each square enters v with a factor of its own, before it decays"),
    ("(t - np.arange(1, t + 1))", "np.arange(0.0, t)",
     "the latest gradient has the largest weight: is the order right?"),
    ("(t - np.arange(1, t + 1))", "(t - np.arange(0.0, t))",
     "how often has the latest gradient decayed: once, or not yet?"),
    ("(1 - beta2) * beta2 ** (t - np.arange(1, t + 1))",
     "(1 - beta2) * beta2 ** (t - np.arange(1, t + 1)) / (1 - beta2**t)",
     "these add up to 1, but v is not yet corrected here"),
    ("(1 - beta2) * beta2 ** (t - np.arange(1, t + 1))", "np.full(t, 1 / t)",
     "v forgets: its weights are not all alike"),
    ("(1 - beta2) * beta2 ** (t - np.arange(1, t + 1))", "(1 - beta2) * np.ones(t)",
     "v forgets: old squares decay at each step"),
])  # fmt: skip
def _(rng):
    for t in (3, 8):
        beta2 = rng.uniform(0.5, 0.99)
        yield Case((beta2, t), np.array([sums(unit, beta2)[-1] for unit in np.eye(t)]))


# %% [markdown]
# ## What the average is too small by
#
# The gradients are random, with $E[g_i^2]$ given for i = 1 ... t. Give two numbers: the factor by which $E[v_t]$
# would differ from $E[g_t^2]$ if $E[g_i^2]$ were the same for all i, and what is to be added to $E[g_t^2]$ times that
# factor because they are not, $\zeta$.


# %%
def bias(beta2, squares):
    """The factor, and zeta, for squares = E[g_1^2] ... E[g_t^2], shape (t,)."""
    # [solution]
    t = len(squares)
    c = (1 - beta2) * beta2 ** (t - np.arange(1, t + 1))
    return 1 - beta2**t, np.sum(c * (squares - squares[-1]))
    # [end]


# %% [teacher]
@task("bias", 3, "derive", "thesis eq. 7.3 and 7.4", mistakes=[
    ("1 - beta2**t,", "beta2**t,",
     "sum the weights of eq. 7.1: they are few at first, and nearly add up to 1 at the end"),
    ("1 - beta2**t,", "1 / (1 - beta2**t),", "asked is by what E[v] differs, not what mends it"),
    ("1 - beta2**t,", "1 - beta2 ** (t - 1),", "how many terms has the sum of weights at step t?"),
    ("(squares - squares[-1])", "squares", "zeta is 0 when all E[g^2] are the same"),
    ("(squares - squares[-1])", "(squares[-1] - squares)",
     "zeta has the wrong sign: past gradients that were larger raise v"),
    ("np.sum(c * (squares", "np.mean(c * (squares",
     "v is a sum whose weights are there already, not a mean of its terms"),
    ("(squares - squares[-1])", "(squares - squares.mean())",
     "zeta is measured from the present E[g^2], not from their mean"),
])  # fmt: skip
def _(rng):
    for t in (4, 9):
        beta2, squares = rng.uniform(0.5, 0.99), rng.uniform(0.5, 2.0, t)
        steady = sums(np.ones(t), beta2)[-1]
        yield Case((beta2, squares), [steady, sums(squares, beta2)[-1] - steady * squares[-1]])


# %% [markdown]
# ## Adam
#
# All of it: from given gradients, what is added to theta at each step (so a step down has the sign of -g at first).


# %%
def adam(gradients, alpha=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    """The changes of theta, shape (T, ...) as the gradients."""
    # [solution]
    m, v, changes = np.zeros_like(gradients[0]), np.zeros_like(gradients[0]), []
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        changes.append(-alpha * m_hat / (np.sqrt(v_hat) + eps))
    return np.array(changes)
    # [end]


# %% [teacher]
@task("adam", 4, "code", "thesis Algorithm 6", mistakes=[
    ("(-alpha", "(alpha", "a step goes against the gradient"),
    ("m / (1 - beta1**t)", "m", "the first moment's bias is not corrected"),
    ("v / (1 - beta2**t)", "v", "the second moment's bias is not corrected"),
    ("enumerate(gradients, 1)", "enumerate(gradients, 2)", "which t does the first step have in the corrections?"),
    ("(np.sqrt(v_hat) + eps)", "np.sqrt(v_hat + eps)", "eps is in the wrong place: look where the root ends"),
    ("(np.sqrt(v_hat) + eps)", "(v_hat + eps)",
     "the step must not change when all gradients are doubled: v is a square"),
    ("v = beta2 * v + (1 - beta2) * g**2", "v = beta2 * v + (1 - beta2) * np.mean(g**2)",
     "each parameter has its own v: nothing is averaged over them"),
    ("m_hat / (np.sqrt(v_hat) + eps)", "g / (np.sqrt(v_hat) + eps)",
     "the step goes along m, not along the last gradient"),
    ("m = beta1 * m + (1 - beta1) * g", "m = m / (1 - beta1 ** max(t - 1, 1)) * beta1 + (1 - beta1) * g",
     "the corrected m must not be fed back into the average"),
])  # fmt: skip
def _(rng):
    for eps in (1e-8, 0.3):
        beta1, beta2, g = settings(rng)
        alpha, t = rng.uniform(0.01, 0.1), np.arange(1, len(g) + 1)[:, None]
        m, v = sums(g, beta1) / (1 - beta1**t), sums(g**2, beta2) / (1 - beta2**t)
        yield Case((g, alpha, beta1, beta2, eps), -alpha * m / (np.sqrt(v) + eps))


# %% [markdown]
# ## The quicker order of computation
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
        # [solution]
        alpha_t = alpha * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        changes.append(-alpha_t * m / np.sqrt(v))
        # [blank]
        # alpha_t = alpha * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        # changes.append(-alpha_t * m / np.sqrt(v / (1 - beta2**t)))
        # [end]
    return np.array(changes)


# %% [teacher]
@task("reordered", 2, "fault", "thesis section 7.2", mistakes=[
    ("/ np.sqrt(v)", "/ np.sqrt(v / (1 - beta2**t))", "one of the two biases is corrected twice"),
    ("alpha * np.sqrt(1 - beta2**t) / (1 - beta1**t)", "alpha / (1 - beta1**t)", "v's bias is corrected nowhere now"),
    ("alpha * np.sqrt(1 - beta2**t) / (1 - beta1**t)", "alpha * (1 - beta1**t) / np.sqrt(1 - beta2**t)",
     "the step size is upside down: m is above, v below the line"),
    ("alpha * np.sqrt(1 - beta2**t) / (1 - beta1**t)", "alpha * np.sqrt(1 - beta2**t)",
     "m's bias is corrected nowhere now"),
    ("alpha * np.sqrt(1 - beta2**t)", "alpha * np.sqrt(1 - beta2) ** t", "a power of beta2 is meant, not of 1 - beta2"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        beta1, beta2, g = settings(rng)
        alpha, t = rng.uniform(0.01, 0.1), np.arange(1, len(g) + 1)[:, None]
        m, v = sums(g, beta1) / (1 - beta1**t), sums(g**2, beta2) / (1 - beta2**t)
        yield Case((g, alpha, beta1, beta2), -alpha * m / np.sqrt(v))


# %% [markdown]
# ## How long is the first step?
#
# Before you run anything: how long is Adam's very first step of a parameter whose gradient is g, not 0 (with eps = 0),
# and how long would it be without the bias corrections? Give both lengths, positive numbers.


# %%
def first_step(g, alpha, beta1, beta2):
    """Two numbers: |change of theta| with and without the corrections."""
    # [solution]
    return alpha, alpha * (1 - beta1) / np.sqrt(1 - beta2)
    # [end]


# %% [teacher]
@task("first_step", 2, "predict", "thesis section 7.3", mistakes=[
    ("alpha, alpha", "alpha * abs(g), alpha",
     "does the first step grow with the gradient? Put m_hat and v_hat of t = 1 in"),
    ("/ np.sqrt(1 - beta2)", "/ (1 - beta2)", "without corrections: v stands under a root"),
    ("alpha * (1 - beta1) / np.sqrt(1 - beta2)", "alpha * (1 - beta1)",
     "without corrections v is too small as well as m"),
    ("alpha * (1 - beta1) / np.sqrt(1 - beta2)", "alpha",
     "without corrections m and v of the first step are not g and g^2"),
    ("alpha * (1 - beta1) / np.sqrt(1 - beta2)", "alpha * np.sqrt(1 - beta2) / (1 - beta1)",
     "without corrections it is longer where beta2 is near 1, not shorter"),
    ("alpha, alpha * (1 - beta1) / np.sqrt(1 - beta2)", "alpha * (1 - beta1) / np.sqrt(1 - beta2), alpha",
     "with, then without: the order is turned"),
])  # fmt: skip
def _(rng):
    for _ in range(3):
        g, alpha = rng.normal() * 10, rng.uniform(0.001, 0.1)
        beta1, beta2, _g = settings(rng)
        m, v = sums(np.array([g]), beta1)[0], sums(np.array([g**2]), beta2)[0]
        yield Case(
            (g, alpha, beta1, beta2),
            [alpha * abs(m / (1 - beta1)) / np.sqrt(v / (1 - beta2)), alpha * abs(m) / np.sqrt(v)],
        )


# %% [markdown]
# ## What a step approaches
#
# A parameter's gradients are drawn again and again from few values with given probabilities. Before the run: with
# beta1 and beta2 so near 1 that m and v hardly fluctuate, what does a step of Adam come to after many of them? Signal
# and noise decide it, not the unit of the gradient.


# %%
def steady_step(values, probabilities, alpha):
    """The change of theta in the limit; values and probabilities have the shape (n,)."""
    # [solution]
    return -alpha * (probabilities @ values) / np.sqrt(probabilities @ values**2)
    # [end]


# %% [teacher]
@task("steady_step", 2, "predict", "thesis section 7.2.1", mistakes=[
    ("return -alpha", "return alpha", "a step goes against the mean gradient"),
    ("np.sqrt(probabilities @ values**2)", "np.sqrt(probabilities @ values**2 - (probabilities @ values)**2)",
     "v has the mean of g^2: no mean is taken off"),
    ("np.sqrt(probabilities @ values**2)", "(probabilities @ values**2)",
     "in another unit of the gradient it must be the same"),
    ("np.sqrt(probabilities @ values**2)", "(probabilities @ np.abs(values))", "v averages squares"),
    ("(probabilities @ values) / np.sqrt", "np.mean(values) / np.sqrt",
     "values come with their own probabilities in m"),
    ("-alpha * (probabilities @ values) / np.sqrt(probabilities @ values**2)",
     "-alpha * np.sign(probabilities @ values)",
     "that holds for gradients without noise only"),
])  # fmt: skip
def _(rng):
    for n in (2, 5):
        values, p, alpha = rng.normal(0.5, 1.0, n), rng.dirichlet(np.full(n, 3.0)), rng.uniform(0.01, 0.1)
        values[:2] = -abs(values[0]), 0.1 + abs(values[1])  # of both signs
        draws = rng.permutation(np.repeat(values, np.round(4000 * p).astype(int)))  # its own averages, enumerated
        shares = np.round(4000 * p) / np.round(4000 * p).sum()
        yield Case((values, shares, alpha), -alpha * draws.mean() / np.sqrt(np.square(draws).mean()))


# %% [markdown]
# ## How far can a step go?
#
# Derive the largest |change of theta| that any gradients can bring about, after so many steps that corrections no
# longer matter, for $\beta_1^2 < \beta_2$. The text's bound is that for a single gradient that is not 0, and several
# can pass it: think of the sum in m as an inner product of two vectors, of which one has the length $\sqrt v$.


# %%
def largest_step(alpha, beta1, beta2):
    """The least upper bound, a number."""
    # [solution]
    return alpha * (1 - beta1) / np.sqrt((1 - beta2) * (1 - beta1**2 / beta2))
    # [end]


# %% [teacher]
@task("largest_step", 3, "derive", "thesis section 7.2.1", mistakes=[
    ("np.sqrt((1 - beta2) * (1 - beta1**2 / beta2))", "np.sqrt(1 - beta2)",
     "that is the text's bound; growing gradients pass it"),
    ("alpha * (1 - beta1) / np.sqrt((1 - beta2) * (1 - beta1**2 / beta2))", "alpha",
     "that is the length at steady gradients; it can be passed"),
    ("beta1**2 / beta2", "beta1 / beta2", "the geometric series has the square of one weight over the other"),
    ("beta1**2 / beta2", "beta1**2", "v forgets too: the squares in the inner product are weighted"),
    ("np.sqrt((1 - beta2) * (1 - beta1**2 / beta2))", "np.sqrt((1 - beta2) * (1 - beta1 / np.sqrt(beta2)))",
     "Cauchy and Schwarz give the sum of squares of beta1^k / beta2^(k/2), not of the terms themselves"),
    ("(1 - beta1) / np.sqrt((1 - beta2)", "1 / np.sqrt((1 - beta2)", "m's own factor is missing"),
    ("np.sqrt((1 - beta2) * (1 - beta1**2 / beta2))", "((1 - beta2) * (1 - beta1**2 / beta2))",
     "v stands under a root"),
])  # fmt: skip
def _(rng):
    for _ in range(3):
        alpha, beta1 = rng.uniform(0.01, 0.1), rng.uniform(0.5, 0.9)
        beta2 = rng.uniform(beta1, 0.999)
        m = v = 0.0
        length = int(np.ceil(40 / np.log(beta2 / beta1**2)))
        for k in range(-length, 1):  # the worst gradients: those that are parallel to the weights in the inner product
            g = np.exp(k * np.log(beta2 / beta1))
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        yield Case((alpha, beta1, beta2), alpha * m / np.sqrt(v))


# %% [markdown]
# ## AdaMax
#
# From given gradients, what is added to theta at each step. No eps: take gradients that are not 0.


# %%
def adamax(gradients, alpha=0.002, beta1=0.9, beta2=0.999):
    """The changes of theta, shape (T, ...) as the gradients."""
    # [solution]
    m, u, changes = np.zeros_like(gradients[0]), np.zeros_like(gradients[0]), []
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g))
        changes.append(-alpha / (1 - beta1**t) * m / u)
    return np.array(changes)
    # [end]


# %% [teacher]
@task("adamax", 3, "code", "thesis Algorithm 7", mistakes=[
    ("-alpha / (1 - beta1**t)", "-alpha", "m's bias is not corrected"),
    ("-alpha / (1 - beta1**t) * m / u", "-alpha / (1 - beta1**t) * m / (u / (1 - beta2**t))",
     "u needs no correction: see why"),
    ("np.abs(g))", "g)", "u is a norm: it has no sign"),
    ("beta2 * u, np.abs(g)", "u, np.abs(g)", "u forgets, as v does"),
    ("np.maximum(beta2 * u, np.abs(g))", "beta2 * u + (1 - beta2) * np.abs(g)",
     "u is the norm of eq. 7.10, and no average"),
    ("* m / u", "* m / np.sqrt(u)", "u is in the gradient's unit already"),
    ("np.maximum(beta2 * u, np.abs(g))", "np.maximum(beta2 * u, np.max(np.abs(g)))", "each parameter has its own u"),
    ("-alpha / (1 - beta1**t)", "alpha / (1 - beta1**t)", "a step goes against the gradient"),
])  # fmt: skip
def _(rng):
    for scale in (1.0, 0.5):
        beta1, beta2, g = settings(rng)
        beta2, g = min(beta2, 0.9), g * scale ** np.arange(len(g))[:, None]
        t, alpha = np.arange(len(g)), rng.uniform(0.01, 0.1)
        decayed = np.tril(beta2 ** np.abs(t[:, None] - t))[:, :, None] * np.abs(g)  # eq. 7.10: all of them at once
        yield Case(
            (g, alpha, beta1, beta2), -alpha / (1 - beta1 ** (t[:, None] + 1)) * sums(g, beta1) / decayed.max(axis=1)
        )


# %% [markdown]
# ## The norm on the way to AdaMax
#
# The p-th root of the average of p-th powers, $v_t^{1/p}$, after all gradients, for p up to 10,000: $|g|^p$ itself
# would be 0 or infinite in floating point. Find a form that is not.


# %%
def p_norm(gradients, beta2, p):
    """v_T^(1/p), shape (...), for gradients (T, ...), none of them 0."""
    # [solution]
    t = len(gradients)
    back = np.arange(t - 1, -1, -1).reshape(t, *[1] * (np.ndim(gradients) - 1))
    logs = back * np.log(beta2) + np.log(np.abs(gradients))
    largest = logs.max(axis=0)
    total = np.sum(np.exp(p * (logs - largest)), axis=0)
    return np.exp(largest + (np.log(total) + np.log1p(-(beta2**p))) / p)
    # [end]


# %% [teacher]
@task("p_norm", 3, "code", "thesis eq. 7.5 and 7.6", mistakes=[
    ("logs.max(axis=0)", "0.0", "the powers overflow or vanish: take the largest out first"),
    (" + np.log1p(-(beta2**p))", "", "the factor before the sum has a p-th root too"),
    ("np.log1p(-(beta2**p))", "np.log1p(-beta2)", "which power of beta2 does the average of p-th powers use?"),
    ("back * np.log(beta2)", "back * np.log(beta2) / p", "an old |g|^p decays by beta2^p at each step"),
    ("np.arange(t - 1, -1, -1)", "np.arange(t)", "the oldest gradient has decayed most: is the order right?"),
    ("return np.exp(largest + (np.log(total) + np.log1p(-(beta2**p))) / p)", "return np.exp(largest)",
     "that is the limit; p is finite here"),
    ("/ p)", "/ 2)", "which root is taken?"),
])  # fmt: skip
def _(rng):
    for p in (2, 5, 3000):
        beta2, g = rng.uniform(0.7, 0.95), rng.normal(size=(6, 3)) * [0.1, 1.0, 10.0]
        if p < 100:
            v = sums(np.abs(g) ** p, beta2**p)[-1]
            yield Case((g, beta2, p), v ** (1 / p))
        else:
            decayed = beta2 ** np.arange(5, -1, -1)[:, None] * np.abs(g)
            largest = decayed.max(axis=0)
            yield Case((g, beta2, p), largest * np.linalg.norm(decayed / largest, p, axis=0), rtol=1e-9)


# %% [markdown]
# ## AdaGrad
#
# From given gradients, what is added to theta at each step: here every square counts for ever.


# %%
def adagrad(gradients, alpha=0.01, eps=1e-8):
    """The changes of theta, shape (T, ...) as the gradients."""
    # [solution]
    return -alpha * gradients / (np.sqrt(np.cumsum(gradients**2, axis=0)) + eps)
    # [end]


# %% [teacher]
@task("adagrad", 2, "code", "thesis section 7.4.2", mistakes=[
    ("np.cumsum(gradients**2, axis=0)", "np.cumsum(gradients**2, axis=0) / np.arange(1, len(gradients) + 1)[:, None]",
     "AdaGrad sums the squares: that is why its steps shrink"),
    ("axis=0", "axis=1", "squares are summed over steps, for each parameter by itself"),
    ("np.sqrt(np.cumsum(gradients**2, axis=0))", "np.cumsum(gradients**2, axis=0)",
     "the sum of squares stands under a root"),
    ("np.cumsum(gradients**2, axis=0)", "np.cumsum(gradients, axis=0) ** 2",
     "the squares are summed, the sum is not squared"),
    ("-alpha * gradients", "alpha * gradients", "a step goes against the gradient"),
    ("np.cumsum(gradients**2, axis=0)", "(np.cumsum(gradients**2, axis=0) - gradients**2)",
     "the present gradient counts in the sum too"),
    ("np.sqrt(np.cumsum(gradients**2, axis=0)) + eps", "np.sqrt(np.cumsum(gradients**2, axis=0) + eps)",
     "eps is outside the root"),
])  # fmt: skip
def _(rng):
    for eps in (1e-8, 0.2):
        _, _, g = settings(rng)
        alpha = rng.uniform(0.01, 0.1)
        roots = np.array([np.linalg.norm(g[: t + 1], axis=0) for t in range(len(g))])
        yield Case((g, alpha, eps), -alpha * g / (roots + eps))


# %% [markdown]
# ## The average of iterates
#
# Temporal averaging keeps a running average of theta, which starts at 0 and is corrected for that. The code below
# is nearly right: its averages of a constant are that constant at one step only. Mend it.


# %%
def averages(iterates, beta2=0.999):
    """The corrected average after each iterate, shape (T, ...) as the iterates."""
    mean, found = np.zeros_like(iterates[0]), []
    # [solution]
    for t, theta in enumerate(iterates, 1):
        mean = beta2 * mean + (1 - beta2) * theta
        found.append(mean / (1 - beta2**t))
    # [blank]
    # for theta in iterates:
    #     mean = beta2 * mean + (1 - beta2) * theta
    #     found.append(mean / (1 - beta2))
    # [end]
    return np.array(found)


# %% [teacher]
@task("averages", 2, "fault", "thesis section 7.6.2", mistakes=[
    ("beta2**t", "beta2", "the correction changes from step to step: which is right at the first step only?"),
    ("mean / (1 - beta2**t)", "mean", "the average starts at 0 and is too small without a correction"),
    ("enumerate(iterates, 1)", "enumerate(iterates, 2)", "which t does the first average have?"),
    ("beta2 * mean + (1 - beta2) * theta\n", "beta2 * mean / (1 - beta2 ** max(1, t - 1)) + (1 - beta2) * theta\n",
     "the corrected average must not be fed back"),
    ("mean = beta2 * mean + (1 - beta2) * theta", "mean = mean + (theta - mean) / t",
     "it forgets: that is the plain mean of all"),
    ("beta2 * mean + (1 - beta2) * theta", "(1 - beta2) * mean + beta2 * theta",
     "which of the two has the large weight?"),
])  # fmt: skip
def _(rng):
    for constant in (True, False):
        beta2, x = rng.uniform(0.5, 0.9), rng.normal(size=(5, 2))
        x = np.repeat(x[:1], 5, axis=0) if constant else x
        c = [beta2 ** np.arange(t, -1.0, -1.0) for t in range(5)]
        yield Case((x, beta2), np.array([np.average(x[: len(w)], axis=0, weights=w) for w in c]))
