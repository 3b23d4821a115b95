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

# %% [teacher]
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from minivi.exercises import Case, Source, task


def pulled(f, g, *inputs):
    """The cotangents of all inputs by central differences of sum(g f(...)), coordinate by coordinate."""
    found = []
    for k, x in enumerate(inputs):
        slopes = np.zeros(np.shape(x))
        for i in np.ndindex(np.shape(x)):
            moved = [np.array(x, float), np.array(x, float)]
            moved[0][i] += 1e-5
            moved[1][i] -= 1e-5
            up, down = (np.sum(g * f(*inputs[:k], x, *inputs[k + 1 :])) for x in moved)
            slopes[i] = (up - down) / 2e-5
        found.append(slopes)
    return found[0] if len(found) == 1 else found


# %% [markdown]
# ## The vjp of tanh
#
# From the result y = tanh(x), without x: so x need not be kept.


# %%
def tanh_vjp(g, y):
    """The cotangent of x, of the shape of g and y."""
    # [solution]
    return g * (1 - y**2)
    # [end]


# %% [teacher]
@task("tanh_vjp", 1, "code", "lesson how_engine, section 2", mistakes=[
    ("g * (1 - y**2)", "1 - y**2", "the cotangent of the result is not used: chain rule"),
    ("(1 - y**2)", "(1 - np.tanh(y) ** 2)", "y is the result already"),
    ("(1 - y**2)", "y * (1 - y)", "that is the derivative of the sigmoid"),
    ("(1 - y**2)", "(1 - y)", "write tanh' in terms of tanh anew: a power is missing"),
    ("g * (1 - y**2)", "np.sum(g) * (1 - y**2)", "each result depends on its own input alone: nothing is summed"),
    ("(1 - y**2)", "(1 + y**2)", "a sign in tanh' is turned"),
])  # fmt: skip
def _(rng):
    for shape in ((4,), (2, 3)):
        x, g = rng.normal(size=shape), rng.normal(size=shape)
        yield Case((g, np.tanh(x)), pulled(np.tanh, g, x))


# %% [markdown]
# ## The vjp of softplus
#
# softplus(x) = log(1 + e^x), for x of any size: 1,000 and -1,000 too, and small numbers to their last places.


# %%
def softplus_vjp(g, x):
    """The cotangent of x, of its shape."""
    # [solution]
    t = np.exp(-np.abs(x))
    return g * np.where(x >= 0, 1, t) / (1 + t)
    # [end]


# %% [teacher]
@task("softplus_vjp", 2, "code", "lesson how_kernels, section 1", mistakes=[
    ("t = np.exp(-np.abs(x))\n    return g * np.where(x >= 0, 1, t) / (1 + t)",
     "return g * np.exp(x) / (1 + np.exp(x))",
     "right, but infinite over infinite for large x"),
    ("np.where(x >= 0, 1, t)", "t", "right for negative x alone"),
    ("np.where(x >= 0, 1, t)", "1", "right for positive x alone"),
    ("g * np.where", "np.where", "the cotangent of the result is not used: chain rule"),
    ("np.where(x >= 0, 1, t) / (1 + t)", "(1 - 1 / (1 + np.exp(x)))",
     "for negative x this takes nearly equal numbers from each other: digits are lost"),
    ("x >= 0, 1, t", "x >= 0, t, 1", "which of the two is for positive x?"),
    ("g * np.where(x >= 0, 1, t) / (1 + t)", "g * np.logaddexp(0, x)", "that is softplus itself, not its slope"),
])  # fmt: skip
def _(rng):
    x, g = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    yield Case((g, x), pulled(lambda x: np.logaddexp(0, x), g, x))
    far = np.array([-1000.0, -30.0, 30.0, 1000.0])
    yield Case(
        (g[0], far), g[0] * np.array([0.0, 1 / (1 + np.exp(30.0)), 1 / (1 + np.exp(-30.0)), 1.0]), 1e-9, each=True
    )


# %% [markdown]
# ## The vjp of a matrix product
#
# Of y = a b, with a (n, k) and b (k, m). Shapes nearly tell the answer.


# %%
def matmul_vjp(g, a, b):
    """The cotangents of a and b, each of its shape."""
    # [solution]
    return g @ b.T, a.T @ g
    # [end]


# %% [teacher]
@task("matmul_vjp", 2, "code", "lesson how_engine, section 2", mistakes=[
    ("g @ b.T, a.T @ g", "a.T @ g, g @ b.T", "the order of the two is turned"),
    ("g @ b.T, a.T @ g", "g @ b, a @ g", "what is transposed? With square matrices shapes do not tell"),
    ("a.T @ g", "g.T @ a", "that is the transpose of the second one"),
    ("a.T @ g", "a.T @ g / len(a)", "the vjp averages nothing: that is the loss's affair"),
    ("g @ b.T, a.T @ g", "np.ones_like(g) @ b.T, a.T @ np.ones_like(g)",
     "the cotangent of the result is not used: chain rule"),
    ("g @ b.T", "g @ b.T.round(1)", "the first one is not exact"),
    ("g @ b.T, a.T", "-g @ b.T, a.T", "the sign of the first one is turned"),
])  # fmt: skip
def _(rng):
    for n, k, m in ((3, 3, 3), (2, 4, 2)):
        g, a, b = rng.normal(size=(n, m)), rng.normal(size=(n, k)), rng.normal(size=(k, m))
        yield Case((g, a, b), pulled(np.matmul, g, a, b))


# %% [markdown]
# ## The vjp of log-sum-exp
#
# Of y = log sum_k exp(x_k) over the last axis, which y lacks; x may be 1,000.


# %%
def logsumexp_vjp(g, x):
    """The cotangent of x (..., K), for g (...)."""
    # [solution]
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return g[..., None] * e / e.sum(axis=-1, keepdims=True)
    # [end]


# %% [teacher]
@task("logsumexp_vjp", 2, "code", "thesis eq. 2.57; lesson how_engine, section 2", mistakes=[
    ("np.exp(x - x.max(axis=-1, keepdims=True))", "np.exp(x)", "right, but infinite for large x"),
    ("g[..., None] * e", "e", "the cotangent of the result is not used: chain rule"),
    ("/ e.sum(axis=-1, keepdims=True)", "/ e.sum()", "each row has its own sum"),
    ("g[..., None] * e", "g.sum() * e", "each row has its own cotangent"),
    ("* e / e.sum(axis=-1, keepdims=True)", "* e", "what are the derivatives by one row's terms to add up to?"),
    ("x.max(axis=-1, keepdims=True))", "x.max(axis=-1, keepdims=True)) / x.shape[-1]" " + 0.1 / x.shape[-1]",
     "the slope is the share of each term in the sum"),
    ("e.sum(axis=-1, keepdims=True)", "e.mean(axis=-1, keepdims=True)",
     "that is of the log of a sum, not of a mean: K is off"),
])  # fmt: skip
def _(rng):
    x, g = 2 * rng.normal(size=(2, 5)), rng.normal(size=2)
    yield Case((g, x), pulled(lambda x: logsumexp(x, axis=-1), g, x))
    yield Case((g, x + 1000.0), pulled(lambda x: logsumexp(x, axis=-1), g, x))


# %% [markdown]
# ## What a broadcast input gets
#
# An input of the given shape was broadcast to the shape of g, which may have more axes in front. It went to many
# places, so its cotangent is a sum.


# %%
def unbroadcast(g, shape):
    """The cotangent of the input, of that shape (a list of sizes)."""
    # [solution]
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)
    # [end]


# %% [teacher]
@task("unbroadcast", 3, "code", "lesson how_engine, section 2", mistakes=[
    ("g = g.sum(axis=tuple(range(g.ndim - len(shape))))", "g = g.mean(axis=tuple(range(g.ndim - len(shape))))",
     "over the axes in front: places add up, they are not averaged"),
    ("return g.sum(", "return g.mean(", "over axes of size 1: places add up, they are not averaged"),
    (", keepdims=True", "", "the result must have the input's shape, axes of size 1 too"),
    ("return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)",
     "return g[tuple(slice(0, n) for n in shape)]", "over axes of size 1: all places count, not the first alone"),
    ("g = g.sum(axis=tuple(range(g.ndim - len(shape))))", "g = g.reshape(-1, *g.shape[g.ndim - len(shape) :])[0]",
     "over the axes in front: all places count, not the first alone"),
    ("return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)", "return g",
     "an axis of size 1 was broadcast too"),
])  # fmt: skip
def _(rng):
    for full, shape in (((4, 3, 2), [3, 1]), ((2, 3), [3]), ((2, 3), [2, 1]), ((3, 2), []), ((3, 2), [3, 2])):
        g = rng.normal(size=full)
        x = rng.normal(size=shape)
        yield Case((g, shape), pulled(lambda x, full=full: np.broadcast_to(x, full), g, x))


# %% [markdown]
# ## A backward pass with a fault
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
            # [solution]
            cotangents[i] += part
            # [blank]
            # cotangents[i] = part
            # [end]
    return cotangents


# %% [teacher]
def program(rng, length, chain=False):
    """A random tape of numbers, and its values."""
    tape, values = [["input"], ["input"]], [float(v) for v in rng.uniform(0.3, 0.9, 2)]
    for _ in range(length):
        name = "tanh" if chain else ["add", "mul", "tanh"][rng.integers(3)]
        last = len(tape) - 1
        i, j = (last, int(rng.integers(last + 1)))
        tape.append([name, i] if name == "tanh" else [name, i, j])
        values.append(run(tape[-1], values))
    return tape, values


def run(entry, values):
    """The value of an entry of a tape."""
    name, i, *j = entry
    return (
        float(np.tanh(values[i]))
        if name == "tanh"
        else values[i] + values[j[0]]
        if name == "add"
        else values[i] * values[j[0]]
    )


def by_enumeration(tape, values):
    """The derivative of the last by each, as a sum over all paths between them."""

    def paths(k):
        if k == len(tape) - 1:
            return 1.0
        total = 0.0
        for later in range(k + 1, len(tape)):
            name, *inputs = tape[later]
            for place, i in enumerate(inputs):
                if i == k:
                    other = values[inputs[1 - place]] if name == "mul" else 1.0
                    total += paths(later) * (1 - values[later] ** 2 if name == "tanh" else other)
        return total

    return [paths(k) for k in range(len(tape))]  # fmt: skip


@task("backward", 2, "fault", "lesson how_engine, section 3", mistakes=[
    ("cotangents[i] += part", "cotangents[i] = part", "what if a result is used twice?"),
    ("cotangents[i] += part", "cotangents[i] = max(cotangents[i], part)",
     "a result that is used twice gets the sum of both"),
    ("cotangents[i] += part", "cotangents[i] -= part", "cotangents add up"),
    ("cotangents[i] += part", "cotangents[i] = (cotangents[i] + part) / (1 + (cotangents[i] != 0))",
     "a result that is used twice gets the sum of both, not the mean"),
    ("cotangents[i] += part", "cotangents[i] += part * g", "the cotangent of the result is in the part already"),
])  # fmt: skip
def _(rng):
    for length, chain in ((3, True), (8, False), (8, False), (9, False)):
        tape, values = program(rng, length, chain)
        yield Case((tape, values), by_enumeration(tape, values))
    yield Case(([["input"], ["add", 0, 0], ["mul", 1, 1]], [0.5, 1.0, 1.0]), [4.0, 2.0, 1.0])


# %% [markdown]
# ## The backward pass
#
# Now all of it, and the nodes come in no order: graph[name] is ["input", value], ["add", a, b], ["mul", a, b] or
# ["tanh", a], with the names of other nodes. There may be 5,000 of them in a row, more than Python can recurse.


# %%
def gradients(graph, loss):
    """The derivative of node `loss` by each input that it depends on, as a dict from name to number."""
    # [solution]
    order, state, waiting = [], {}, [loss]
    while waiting:
        name = waiting[-1]
        parents = [] if graph[name][0] == "input" else graph[name][1:]
        if state.get(name) is None:
            state[name] = "seen"
            waiting += [p for p in parents if p not in state]
        else:
            waiting.pop()
            if state[name] == "seen":
                state[name] = "done"
                order.append(name)
    values = {}
    for name in order:
        kind, *inputs = graph[name]
        x = [] if kind == "input" else [values[i] for i in inputs]
        values[name] = {"input": lambda: inputs[0], "add": lambda: x[0] + x[1], "mul": lambda: x[0] * x[1],
                        "tanh": lambda: math.tanh(x[0])}[kind]()  # fmt: skip
    cotangent = dict.fromkeys(order, 0.0) | {loss: 1.0}
    for name in reversed(order):
        kind, *inputs = graph[name]
        g = cotangent[name]
        if kind == "add":
            parts = [g, g]
        elif kind == "mul":
            parts = [g * values[inputs[1]], g * values[inputs[0]]]
        elif kind == "tanh":
            parts = [g * (1 - values[name] ** 2)]
        else:
            continue
        for i, part in zip(inputs, parts, strict=True):
            cotangent[i] += part
    return {name: cotangent[name] for name in order if graph[name][0] == "input"}
    # [end]


# %% [teacher]
@task("gradients", 4, "code", "lesson how_engine, sections 2 and 3", mistakes=[
    ("cotangent[i] += part", "cotangent[i] = part", "a result that is used twice gets the sum of both cotangents"),
    ("reversed(order)", "order", "go from the loss to the inputs: a node passes on what it has got from all its users"),
    ("[g * values[inputs[1]], g * values[inputs[0]]]", "[g * values[inputs[0]], g * values[inputs[1]]]",
     "the derivative of a product by one factor is the other"),
    ("(1 - values[name] ** 2)", "(1 - values[inputs[0]] ** 2)", "write tanh' in terms of the result"),
    ("{loss: 1.0}", "{loss: values[loss]}", "what is the derivative of the loss by itself?"),
    ("parts = [g, g]", "parts = [g / 2, g / 2]", "both terms of a sum have the derivative 1"),
    ("for name in reversed(order):", "for name in reversed(list(graph)):\n        if name not in values: continue",
     "the nodes come in no order: a node must wait for all its users"),
])  # fmt: skip
def _(rng):
    for length in (6, 9, 9):
        tape, values = program(rng, length)
        names = [f"n{int(i)}" for i in rng.permutation(len(tape))]
        entries = {n: ["input", v] if e == ["input"] else [e[0], *(names[i] for i in e[1:])]
                   for n, e, v in zip(names, tape, values, strict=True)}  # fmt: skip
        slopes = by_enumeration(tape, values)
        used, waiting = set(), [len(tape) - 1]
        while waiting:
            k = waiting.pop()
            used.add(k)
            waiting += tape[k][1:]
        graph = {n: entries[n] for n in sorted(entries)}
        yield Case((graph, names[-1]), {names[k]: slopes[k] for k in (0, 1) if k in used})
    chain = {"x": ["input", 0.5], "one": ["input", 1.0], "n0": ["mul", "x", "one"]}
    chain |= {f"n{k}": ["mul", f"n{k - 1}", "one"] for k in range(1, 5001)}
    yield Case((chain, "n5000"), {"x": 1.0, "one": 5001 * 0.5})


# %% [markdown]
# ## How many visits?
#
# y is doubled n times, y = y + y, from an input. Before you run anything: how many visits of nodes, those of the input
# included, does a backward pass take that passes on each cotangent as it comes, by recursion, and how many does one
# that goes through the nodes in reverse order?


# %%
def visits(n):
    """Two whole numbers."""
    # [solution]
    return 2 ** (n + 1) - 1, n + 1
    # [end]


# %% [teacher]
@task("visits", 1, "predict", "lesson how_engine, section 3", mistakes=[
    ("2 ** (n + 1) - 1", "2**n", "by recursion: that is the last level alone, the visits of the input"),
    ("2 ** (n + 1) - 1", "2 * n", "by recursion: each visit leads to two more"),
    ("2 ** (n + 1) - 1", "2 ** (n + 1)", "by recursion: add up the levels once more, it is a geometric sum"),
    (", n + 1", ", n", "in order: does the input count?"),
    (", n + 1", ", 2 * n + 1", "in order: each node is visited once, however often it is used"),
    ("2 ** (n + 1) - 1, n + 1", "n + 1, 2 ** (n + 1) - 1", "the order of the two is turned"),
])  # fmt: skip
def _(rng):
    for n in rng.permutation(np.arange(2, 9))[:3]:
        count = lambda k: 1 + (2 * count(k - 1) if k else 0)
        yield Case((int(n),), [count(int(n)), len({*range(int(n)), int(n)})])


# %% [markdown]
# ## The best step
#
# A central difference (f(x + h) - f(x - h)) / 2h is off by at most $|f'''| h^2 / 6$, and as both values of f are
# rounded to a relative eps, by another $|f|\, \epsilon / h$. Derive the h at which the sum of both is least.


# %%
def best_step(f, third, eps):
    """h, from |f|, |f'''| and eps, all positive."""
    # [solution]
    return (3 * eps * f / third) ** (1 / 3)
    # [end]


# %% [teacher]
@task("best_step", 2, "derive", "lesson how_engine, section 1", mistakes=[
    ("(3 * eps", "(6 * eps", "where the two are alike is not yet where their sum is least"),
    ("(3 * eps", "(eps", "a constant is lost in the derivative of the sum"),
    ("** (1 / 3)", "** (1 / 2)", "that is the root of a one-sided difference"),
    ("f / third", "third / f", "a function that bends more needs a smaller step"),
    ("(3 * eps * f / third) ** (1 / 3)", "np.sqrt(eps) * f / third", "the least sum is where its derivative by h is 0"),
    ("(3 * eps * f / third)", "(3 * eps / third)", "larger values are rounded by more"),
])  # fmt: skip
def _(rng):
    for _ in range(3):
        f, third, eps = rng.uniform(0.5, 5), rng.uniform(0.5, 5), float(10.0 ** rng.uniform(-16, -6))
        total = lambda u, f=f, third=third, eps=eps: np.log(third * np.exp(2 * u) / 6 + f * eps / np.exp(u))
        least = minimize_scalar(total, bounds=(-25, 5), method="bounded", options={"xatol": 1e-10})
        yield Case((f, third, eps), float(np.exp(least.x)), rtol=1e-5)


# %% [markdown]
# ## A checker of gradients
#
# f takes an array and gives a number, gradient(x) should be its gradient. Say whether it is, by central differences of
# every coordinate: True if all are right within 1e-5 of the largest one, and False for any that is a thousandth off.
# Functions are smooth, inputs near 1, values of any size: 1e6 and 1e-6 too. Your checker is checked with right and
# wrong gradients.


# %%
def check(f, gradient, x):
    """True or False."""
    # [solution]
    h, numeric = 1e-5, np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        numeric[i] = (f(x + step) - f(x - step)) / (2 * h)
    analytic = gradient(x)
    return bool(np.abs(analytic - numeric).max() <= 1e-5 * np.abs(numeric).max())
    # [end]


# %% [teacher]
@task("check", 4, "code", "lesson how_engine, sections 1 and 5", mistakes=[
    ("<= 1e-5 * np.abs(numeric).max()", "<= 1e-2 * np.abs(numeric).max()", "a thousandth off must be found"),
    ("<= 1e-5 * np.abs(numeric).max()", "<= 1e-5",
     "errors are in the unit of the gradient: small functions, large functions"),
    ("h, numeric = 1e-5", "h, numeric = 1e-14", "so small a step leaves rounding alone"),
    ("numeric).max() <= 1e-5", "numeric).mean() <= 1e-5", "one coordinate in many can be wrong: do not average"),
    ("np.abs(analytic - numeric).max()", "np.abs(np.sum(analytic - numeric))", "errors of two coordinates can cancel"),
    ("np.abs(analytic - numeric).max()", "np.abs(np.abs(analytic) - np.abs(numeric)).max()",
     "a gradient that points the other way is wrong too"),
    ("(f(x + step) - f(x - step)) / (2 * h)", "(f(x + step) - f(x)) / h",
     "a one-sided difference is too far off for 1e-5 where f bends"),
    ("np.abs(analytic - numeric).max() <= 1e-5 * np.abs(numeric).max()",
     "(np.abs(analytic - numeric) / np.abs(numeric)).max() <= 1e-5", "a coordinate's own derivative can be 0"),
    ("<= 1e-5 * np.abs(numeric).max()", ">= 1e-5 * np.abs(numeric).max()", "True is for right ones"),
])  # fmt: skip
def _(rng):
    x = rng.uniform(0.5, 1.5, 300)
    functions = {
        "lambda x: np.sum(np.sin(x) ** 2)": "lambda x: 2 * np.sin(x) * np.cos(x)",
        "lambda x: 1e6 * np.sum(x**3)": "lambda x: 3e6 * x**2",
        "lambda x: 1e-6 * np.exp(x.mean())": "lambda x: 1e-6 * np.exp(x.mean()) * np.ones_like(x) / x.size",
    }
    for f, gradient in functions.items():
        yield Case((Source(f), Source(gradient), x), True)
        for wrong in (
            "g(x) * 1.001",
            "-g(x)",
            "g(x) + np.where(np.arange(x.size) == 41, 0.002 * np.abs(g(x)).max(), 0)",
            "g(x) + np.where(np.arange(x.size) == 3, 1, np.where(np.arange(x.size) == 7, -1, 0)) * g(x).max()",
        ):
            yield Case((Source(f), Source(f"lambda x, g={gradient}: {wrong}"), x), False)  # fmt: skip
    flat = np.array([0.0, 1.0])
    yield Case((Source("lambda x: np.sum(x**2)"), Source("lambda x: 2 * x"), flat), True)
    yield Case((Source("lambda x: np.sum(np.exp(9 * x))"), Source("lambda x: 9 * np.exp(9 * x)"), flat), True)


# %% [markdown]
# ## A kernel for softplus
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
    # [solution]
    y = np.empty_like(x)
    for i in range(len(x)):
        y[i] = log1p_unit(exp_below(-abs(x[i]))) + (x[i] if x[i] > np.float32(0) else np.float32(0))
    return y
    # [end]


# %% [teacher]
# The result, its type, whether it is compiled, and multiplies several float32 at once in its machine code.
VECTORS = (
    "lambda f, x: [f(x), str(f(x).dtype), hasattr(f, 'inspect_asm'), bool(hasattr(f, 'inspect_asm') and "
    r"__import__('re').search(r'\b(?:v?mul|vfn?m\w+)ps\b|\bfml?a\b.*\.4s', '\n'.join(f.inspect_asm().values())))]"
)


@task("softplus_kernel", 4, "code", "lesson how_kernels, sections 1 to 3", mistakes=[
    ("log1p_unit(exp_below(-abs(x[i])))", "np.float32(math.log1p(math.exp(-abs(x[i]))))",
     "right, but calls into a library stay one number at a time"),
    ("y = np.empty_like(x)", "y = np.empty(len(x))", "the result is of float32 too"),
    ("exp_below(-abs(x[i]))", "exp_below(x[i])",
     "exp_below is for numbers up to 0: which form of softplus has such alone?"),
    (" + (x[i] if x[i] > np.float32(0) else np.float32(0))", "", "for large x softplus is x"),
    ("log1p_unit(exp_below(-abs(x[i])))", "exp_below(-abs(x[i]))", "a logarithm is missing"),
    ('@numba.njit(fastmath={"contract", "nsz"}, error_model="numpy")\n', "",
     "the loop itself must be compiled: without that it is slow, and no vectors are seen"),
])  # fmt: skip
def _(rng):
    x = np.concatenate([4 * rng.normal(size=60), [-50.0, 50.0, 0.0]]).astype("float32")
    yield Case((x,), [np.logaddexp(0, x.astype(float)), "float32", True, True], 1e-4, each=True, driver=VECTORS)


# %% [markdown]
# ## A kernel for log-sum-exp
#
# log sum_k exp(a_k) of each row, by `exp_below`, for rows that may hold 1,000. A sum is turned into vectors only if its
# order may be changed: see which `fastmath` flag allows that, and add it.


# %%
# [solution]
@numba.njit(fastmath={"contract", "nsz", "reassoc"}, error_model="numpy")
# [blank]
# @numba.njit(fastmath={"contract", "nsz"}, error_model="numpy")
# [end]
def logsumexp_kernel(a):
    """The log-sum-exp of each row of a (B, K), shape (B,), both of float32."""
    # [solution]
    y = np.empty(len(a), np.float32)
    for i in range(len(a)):
        largest = a[i, 0]
        for k in range(a.shape[1]):
            largest = a[i, k] if a[i, k] > largest else largest
        total = np.float32(0)
        for k in range(a.shape[1]):
            total += exp_below(a[i, k] - largest)
        y[i] = largest + np.float32(math.log(total))
    return y
    # [end]


# %% [teacher]
@task("logsumexp_kernel", 3, "code", "lesson how_kernels, section 5", mistakes=[
    (', "reassoc"', "",
     "right, but not in vectors: is there a call into a library, or a sum whose order may not be changed?"),
    ("exp_below(a[i, k] - largest)", "np.float32(math.exp(a[i, k] - largest))",
     "right, but not in vectors: is there a call into a library, or a sum whose order may not be changed?"),
    ("exp_below(a[i, k] - largest)", "exp_below(a[i, k])",
     "exp_below is for numbers up to 0: what is taken off first?"),
    ("largest + np.float32(math.log(total))", "np.float32(math.log(total))", "what was taken off comes back"),
    ("math.log(total)", "math.log(total / a.shape[1])", "that is the log of the mean"),
    ("y = np.empty(len(a), np.float32)", "y = np.empty(len(a))", "the result is of float32 too"),
    ("largest + np.float32(math.log(total))", "largest + total", "a logarithm is missing"),
])  # fmt: skip
def _(rng):
    a = (3 * rng.normal(size=(5, 64)) + np.array([[0.0], [1000.0], [-1000.0], [5.0], [0.0]])).astype("float32")
    yield Case((a,), [logsumexp(a.astype(float), axis=1), "float32", True, True], 3e-5, each=True, driver=VECTORS)
