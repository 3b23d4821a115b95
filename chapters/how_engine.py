"""How the engine is built: reverse-mode automatic differentiation in sixty lines, and what the library adds to them.

A gradient by differences needs an evaluation for each parameter; reverse mode needs one sweep for all. This lesson
builds it, breaks it in the two usual ways, checks it, and trains with it; `minivi/tensor.py` is the same thing for
daily use. Times are those of your machine; 5 seconds.
"""

# %% [markdown]
# ## 1. Why not by differences
#
# (f(x + h) - f(x - h)) / 2h is off by f''' h^2 / 6, and by rounding, some eps / h: there is a best h, and it is not
# small. It is good for checking one number at a time. For learning it is too slow: two evaluations a parameter.

# %%
import math
from timeit import repeat

import numpy as np

import minivi as mv
from minivi import data, ops, plots
from minivi.gradcheck import gradcheck
from minivi.lesson import show

# %%
steps = 10.0 ** np.arange(-15, 0.5, 0.5)
error = {eps: [] for eps in ("one-sided", "central")}
for h in steps:
    error["one-sided"].append(abs((math.sin(1 + h) - math.sin(1)) / h - math.cos(1)))
    error["central"].append(abs((math.sin(1 + h) - math.sin(1 - h)) / (2 * h) - math.cos(1)))
fig = plots.figure(5.5, 3.2)
plots.panel(axes := fig.add_subplot(), "derivative of sin at 1 by differences", "step h", "error", log="xy")
for i, (name, errors) in enumerate(error.items()):
    axes.plot(steps, np.maximum(errors, 1e-17), label=name, **plots.style(i, len(steps)))
axes.legend(fontsize=8)
show(fig, "differences")
for name, errors in error.items():
    print(f"{name}: least error {min(errors):.0e} at h = {steps[np.argmin(errors)]:.0e}")

# %% [markdown]
# ## 2. The engine
#
# A program is a chain of *primitives*, each a function whose derivative we know. Going forward, each result remembers
# its primitive and its inputs. Going back, a *cotangent* d loss / d result, of the result's shape, goes from the loss
# to its inputs: a primitive's *vector-Jacobian product* (vjp) takes the cotangent of its result and gives those of its
# inputs. No Jacobian is ever written down: that of a (100, 784) @ (784, 500) product would have 2e10 numbers.


# %%
class Node:
    """A result: its value, and where it came from."""

    def __init__(self, value, parents=(), vjp=None):
        self.value, self.parents, self.vjp = np.asarray(value, float), parents, vjp

    __add__ = lambda self, other: add(self, other)
    __mul__ = lambda self, other: multiply(self, other)
    __matmul__ = lambda self, other: matmul(self, other)


def primitive(function, vjp):
    """``function`` on Nodes; ``vjp(g, y, *inputs)`` gives a cotangent for each input."""

    def apply(*inputs):
        inputs = [x if isinstance(x, Node) else Node(x) for x in inputs]
        y = function(*(x.value for x in inputs))
        return Node(y, inputs, lambda g: vjp(g, y, *(x.value for x in inputs)))

    return apply


def summed(g, x):
    """What a broadcast input gets: the sum over all places to which it was copied."""
    g = g.sum(axis=tuple(range(g.ndim - x.ndim)))
    return g.sum(axis=tuple(i for i, n in enumerate(x.shape) if n == 1), keepdims=True)


add = primitive(np.add, lambda g, y, a, b: (summed(g, a), summed(g, b)))
multiply = primitive(np.multiply, lambda g, y, a, b: (summed(g * b, a), summed(g * a, b)))
matmul = primitive(np.matmul, lambda g, y, a, b: (g @ b.T, a.T @ g))
tanh = primitive(np.tanh, lambda g, y, x: (g * (1 - y**2),))
mean = primitive(np.mean, lambda g, y, x: (np.full(x.shape, g / x.size),))


def in_order(loss):
    """All nodes on which ``loss`` depends, each after its parents, and each once."""
    done, seen = [], set()

    def visit(node):
        if id(node) not in seen:
            seen.add(id(node))
            for parent in node.parents:
                visit(parent)
            done.append(node)

    visit(loss)
    return done


def gradients(loss, wanted):
    """d loss / d node for each of ``wanted``."""
    cotangent = {id(loss): np.ones(())}
    for node in reversed(in_order(loss)):
        if node.vjp is not None:
            for parent, g in zip(node.parents, node.vjp(cotangent[id(node)]), strict=True):
                cotangent[id(parent)] = cotangent.get(id(parent), 0.0) + g  # several uses: their cotangents add up
    return [cotangent[id(node)] for node in wanted]


rng = np.random.default_rng(0)
x, w, b = rng.normal(size=(20, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
nodes = [Node(w), Node(b)]
h = tanh(Node(x) @ nodes[0] + nodes[1])
ours = gradients(mean(h * h + h), nodes)
tensors = [mv.Tensor(w), mv.Tensor(b)]
h = ops.tanh(x @ tensors[0] + tensors[1])
theirs = mv.grad((h * h + h).mean(), tensors)
for name, a, c in zip("wb", ours, theirs, strict=True):
    print(f"d loss / d {name}: largest difference from minivi's {np.abs(a - c).max():.0e}")

# %% [markdown]
# ## 3. Two ways to get it wrong
#
# `h` is used three times, and its cotangents must *add up* before it passes them on. Overwrite them, and the gradient
# is wrong. Pass on each one as it comes, by plain recursion, and it is right, but a chain of doublings takes 2^n visits
# where one after the other, in reverse order, takes n.

# %%
visits = 0


def by_recursion(node, g, wanted):
    """The cotangent of ``wanted``, path by path."""
    global visits
    visits += 1
    total = g if node is wanted else 0.0
    if node.vjp is not None:
        for parent, part in zip(node.parents, node.vjp(g), strict=True):
            total = total + by_recursion(parent, part, wanted)
    return total


for n in (4, 8, 16):
    start = y = Node(1.0)
    for _ in range(n):
        y = y + y
    visits = 0
    a, (c,) = by_recursion(y, np.ones(()), start), gradients(y, [start])
    print(f"{n:2d} doublings: by paths {a:.0f} in {visits:6d} visits, in order {c:.0f} in {len(in_order(y)):2d}")
    assert a == c == 2**n

# %% [markdown]
# ## 4. The price (thesis 9.3)
#
# All derivatives of a function cost a few times the function, however many there are: each primitive's vjp costs about
# as much as itself for each input. By differences the price grows with the number of parameters.

# %%
print("parameters   gradient / function   by differences / function")
for width in (10, 100, 400):
    x, w = rng.normal(size=(200, width)), rng.normal(size=(width, width))
    function = lambda w: mean(tanh(Node(x) @ w))
    once = min(repeat(lambda: function(Node(w)), number=1, repeat=30))
    both = min(repeat(lambda: gradients(function(node := Node(w)), [node]), number=1, repeat=30))
    print(f"{w.size:10,d} {both / once:15.1f} {2 * w.size:25,d}")

# %% [markdown]
# ## 5. Trust
#
# The check of section 1 tells a right vjp from a wrong one, if it is asked in the right places: random inputs, some
# coordinates, both sides, and a step that fits. minivi's looks at several steps and says what it saw:

# %%
off_by = primitive(np.tanh, lambda g, y, x: (g * (1 - y**2) * 1.001,))
for name, act in (("ours", tanh), ("a thousandth off", off_by)):
    by_ours = lambda x, act=act: gradients(mean(act(node := Node(x))), [node])[0]
    report = gradcheck(lambda x: np.tanh(x).mean(), rng.normal(size=5), gradient=by_ours)
    row = report.worst()[0]
    print(f"{name:17s} {row.analytic:.8f} against {row.numeric:.8f}: {'ok' if report.ok else 'WRONG'}")

# %% [markdown]
# ## 6. A model trained with it
#
# Which of 8x8 digits are fives? Thirty tanh units, squared error, gradient descent: by our engine and by minivi's.

# %%
digits = data.load("digits")
x, y = digits.train[:500].astype(float), np.where(digits.train_labels[:500] == 5, 1.0, -1.0)[:, None]
start = [0.2 * rng.normal(size=(64, 30)), np.zeros(30), 0.2 * rng.normal(size=(30, 1)), np.zeros(1)]


def loss_of(x, w, b, v, c, tanh, mean):
    """Mean squared error; of Nodes or of Tensors."""
    off = tanh(tanh(x @ w + b) @ v + c) + (-y)
    return mean(off * off)


curves = {}
for name, new, act, average, gradient in (
    ("sixty lines", Node, tanh, mean, gradients), ("minivi", mv.Tensor, ops.tanh, ops.mean, mv.grad),
):  # fmt: skip
    values, curves[name] = [p.copy() for p in start], []
    for _ in range(150):
        parameters = [new(p) for p in values]
        loss = loss_of(new(x), *parameters, act, average)
        curves[name].append(float(loss.value if new is Node else loss.item()))
        values = [p - 0.1 * g for p, g in zip(values, gradient(loss, parameters), strict=True)]
fig = plots.figure(5.5, 3.2)
plots.panel(axes := fig.add_subplot(), "is it a five? squared error while training", "step", "mean squared error")
for i, (name, curve) in enumerate(curves.items()):
    axes.plot(curve, label=name, **plots.style(i, 150))
axes.legend(fontsize=8)
show(fig, "training")
off = np.abs(np.subtract(*curves.values())).max()
print(f"after 150 steps {curves['minivi'][-1]:.4f}; largest difference of the two curves {off:.0e}")

# %% [markdown]
# ## 7. What the library adds
#
# `minivi/tensor.py` has the same parts: `Tensor`, `primitive`, `grad`. Beyond them: vjps are made of primitives, so
# that a gradient has a gradient; vjps that nobody needs are not computed; a cotangent of the wrong shape, an array that
# was changed in between, a loss that depends on nothing asked for are errors, not numbers; and the work is in kernels.

# %%
z = mv.Tensor(np.array([0.5, -1.0, 2.0]))
first = mv.grad(ops.tanh(z).sum(), z, differentiable=True)
second = mv.grad(first.sum(), z)
t = np.tanh(z.data)
print("second derivatives of tanh:", second.round(6), "by the formula -2 t (1 - t^2):", (-2 * t * (1 - t**2)).round(6))
try:
    mv.grad(ops.tanh(z).sum(), mv.Tensor(np.zeros(3)))
except RuntimeError as refused:
    print(f"RuntimeError: {refused}")

# %% [markdown]
# ## 8. Try
#
# 1. Leave out `summed` in `add`. Which of section 2's gradients changes, and how does it show?
# 2. Add a primitive `exp` to the engine and check it with section 1's central differences.
# 3. `in_order` recurses; a chain of 2,000 additions stops it. Write it with a list of nodes still to visit.
# 4. `gradients` keeps every cotangent until the end. When could each be dropped?
