"""Exercises: autoregressive models and couplings (thesis chapter 4).

Beside the lessons `chapters/ch04_autoregressive.py` and `ch04_invertible.py`. Replace each `raise NotImplementedError`
by your code, then run `minivi grade chapters/exercises/ch04_autoregressive.py`. NumPy is all that is needed. x are D
pixels, zeros and ones, or numbers from task 10 on. `order[i]` is the pixel that comes i-th; its place is i + 1. Pixels
of arrays are in their own sequence, and not in that of `order`. Logarithms are natural. No function may write into its
arguments.
"""

# %%
import numpy as np

# %% [teacher]
from scipy.special import expit, log_expit, logsumexp
from scipy.stats import norm

from minivi.exercises import Case, Source, task


def edges(order):
    """Pairs of pixels that are neighbours in an order."""
    return frozenset(frozenset(pair) for pair in zip(order[:-1].tolist(), order[1:].tolist(), strict=True))


def shuffled(rng, dims):
    """An order with other neighbours than the natural one and than its own inverse."""
    while True:
        order = rng.permutation(dims)
        if len({edges(o) for o in (order, np.argsort(order), np.arange(dims))}) == 3:
            return order


def pixels(rng, *shape):
    """Zeros and ones; the first two of the last axis differ."""
    x = rng.integers(0, 2, shape).astype(float)
    x[..., 1] = 1 - x[..., 0]
    return x


def made(rng, dims=4, units=6):
    """Masks of a shuffled order, by their definition, and weights: into, out, w, b, v, c; and each pixel's place."""
    order, degrees = shuffled(rng, dims), 1 + rng.permutation(np.arange(units) % (dims - 1))
    place = {int(pixel): i + 1 for i, pixel in enumerate(order)}
    into = np.array([[float(place[k] <= m) for m in degrees] for k in range(dims)])
    out = np.array([[float(m < place[j]) for j in range(dims)] for m in degrees])
    w, v = rng.normal(size=(dims, units)), rng.normal(size=(units, dims))
    return [into, out, w, rng.normal(size=units), v, rng.normal(size=dims)], place


def coupling(rng, half=2):
    """m and s of a layer, and the same as functions of one row for the grader."""
    text = "lambda a: np.tanh(a @ np.array({})) {}"
    return tuple(Source(text.format(rng.normal(size=(half, half)).round(3).tolist(), end)) for end in ("* 2", "- 0.2"))


def through(x, layers):
    """One row through couplings; each moved number by itself."""
    for m, s in layers:
        a, b = x[: len(x) // 2], x[len(x) // 2 :]
        x = np.array([b[i] * np.exp(s.function(a)[i]) + m.function(a)[i] for i in range(len(b))] + list(a))
    return x


# %% [markdown]
# ## A factor of the product
#
# The joint distribution of D pixels is known as a table: `joint[0, 1, 1]` is p(x_1 = 0, x_2 = 1, x_3 = 1). Their order
# is the natural one. Give the next factor of eq. 4.8: the probability that the next pixel is 1, given those before it.


# %%
def conditional(joint, prefix):
    """p(x_j = 1 | x_<j), a number; the table of shape (2, ..., 2), and x_<j, a list of j - 1 zeros and ones."""
    # [solution]
    left = joint[tuple(prefix)]
    both = left.reshape(2, -1).sum(axis=1)
    return both[1] / both.sum()
    # [end]


# %% [teacher]
@task("conditional", 2, "code", "thesis eq. 4.8", mistakes=[
    ("both[1] / both.sum()", "both[1]", "that is p(x_<j, x_j): what is given is below the line"),
    ("both[1] /", "both[0] /", "the probability of a 1 is asked for"),
    (".sum(axis=1)", "[:, 0]", "pixels that come later are summed out, and not set to 0"),
    (".sum(axis=1)", ".max(axis=1)", "pixels that come later are summed out: all of their values count"),
    ("joint[tuple(prefix)]", "joint", "that is p(x_1): the pixels before are known"),
    ("left.reshape(2, -1)", "left.reshape(-1, 2).T", "the next pixel after the prefix, not the last of all"),
    ("joint[tuple(prefix)]", "joint.T[tuple(prefix)]", "the prefix are the first pixels of the table"),
])  # fmt: skip
def _(rng):
    for known in (0, 1, 2, 3):
        joint, prefix = rng.dirichlet(np.ones(16)).reshape(2, 2, 2, 2), [int(v) for v in rng.integers(0, 2, known)]
        mass = [0.0, 0.0]
        for x in np.ndindex(2, 2, 2, 2):
            if list(x[:known]) == prefix:
                mass[x[known]] += joint[x]
        yield Case((joint, prefix), mass[1] / (mass[0] + mass[1]))


# %% [markdown]
# ## The masks
#
# One hidden layer. A unit of degree m sees the pixels of the first m places, and feeds the outputs of places behind m,
# so that each output sees only what comes before its own pixel. Give both masks, ones where a weight may be.


# %%
def masks(order, degrees):
    """Masks from pixels to units, (D, H), and from units to outputs, (H, D); degrees (H,), from 1 to D - 1."""
    # [solution]
    place = np.argsort(order) + 1
    into = place[:, None] <= degrees
    out = degrees[:, None] < place
    return into, out
    # [end]


# %% [teacher]
@task("masks", 3, "code", "thesis eq. 4.8 and 4.9; lesson ch04_autoregressive, section 1", mistakes=[
    ("np.argsort(order) + 1", "order + 1", "order[i] is the pixel that comes i-th: at which place is pixel i?"),
    ("np.argsort(order) + 1", "np.argsort(order)", "places count from 1, as degrees do"),
    ("np.argsort(order) + 1", "np.arange(len(order)) + 1", "where is the order?"),
    ("<= degrees", "< degrees", "a unit of degree m sees m pixels"),
    ("< place", "<= place", "your outputs see their own pixel: such a model is no density"),
    ("place[:, None] <= degrees", "place[:, None] > degrees", "which pixels does a unit see: the first or the last?"),
    ("< place", "> place", "your units feed what they have seen: they must feed what comes behind"),
    ("return into, out", "return into.T, out.T", "rows are what a weight comes from, columns what it goes to"),
])  # fmt: skip
def _(rng):
    for dims, units in ((4, 6), (6, 5)):
        order, degrees = shuffled(rng, dims), 1 + rng.permutation(units) % (dims - 1)
        place = [list(order).index(i) + 1 for i in range(dims)]
        into, out = np.zeros((dims, units)), np.zeros((units, dims))
        for unit, m in enumerate(degrees):
            for i in range(dims):
                if place[i] <= m:
                    into[i, unit] = 1
                else:
                    out[unit, i] = 1
        yield Case((order, degrees), [into, out])


# %% [markdown]
# ## Paths
#
# Two hidden layers, of degrees a and b; a unit sees units of its own degree and of lower ones. Before you multiply any
# masks: how many paths lead from the pixel of place k to the output of place j?


# %%
def paths(a, b, k, j):
    """A number, from the degrees a (H,) and b (G,) and two places, from 1 to D."""
    # [solution]
    return np.sum((k <= a[:, None]) & (a[:, None] <= b) & (b < j))
    # [end]


# %% [teacher]
@task("paths", 2, "predict", "thesis eq. 4.9; lesson ch04_autoregressive, section 1", mistakes=[
    ("k <= a[:, None]", "k < a[:, None]", "a unit of degree m sees the pixel of place m"),
    ("a[:, None] <= b", "a[:, None] < b", "between hidden units equal degrees are allowed: nothing is seen twice"),
    ("b < j", "b <= j", "no path may lead from a pixel to its own output"),
    ("np.sum((k <= a[:, None]) & (a[:, None] <= b) & (b < j))", "np.sum(k <= a) * np.sum(b < j)",
     "not each unit of the first layer feeds each of the second"),
    ("np.sum((k <= a[:, None]) & (a[:, None] <= b) & (b < j))", "np.sum((k <= a) & (a < j))",
     "a path goes through both hidden layers"),
    ("(k <= a[:, None]) & ", "", "does each unit see the pixel of place k?"),
    ("a[:, None] <= b", "a[:, None] >= b", "a unit that has seen much must not feed one that may see little"),
    ("np.sum(", "np.any(", "how many paths, not whether there is one"),
])  # fmt: skip
def _(rng):
    each = "lambda f, a, b, dims: np.array([[f(a, b, k, j) for j in range(1, dims + 1)] for k in range(1, dims + 1)])"
    for dims in (4, 5):
        a, b = (1 + rng.permutation(np.arange(units) % (dims - 1)) for units in (7, 9))
        place = np.arange(1, dims + 1)
        steps = [np.array([[u <= v for v in above] for u in below], int) for below, above in ((place, a), (a, b))]
        last = np.array([[v < j for j in place] for v in b], int)
        yield Case((a, b, dims), steps[0] @ steps[1] @ last, driver=each)


# %% [markdown]
# ## Too few units
#
# Degrees are handed out in turn: 1, 2, ..., D - 1, 1, 2, ... to H units of one hidden layer. Before you build it: how
# many pixels feed no unit at all, and how many outputs do not see all of the pixels before them?


# %%
def unseen(dims, units):
    """Two numbers, for D and H: pixels, outputs."""
    # [solution]
    seen = min(units, dims - 1)
    return dims - seen, dims - 1 - seen
    # [end]


# %% [teacher]
@task("unseen", 2, "predict", "thesis eq. 4.9; lesson ch04_autoregressive, section 3", mistakes=[
    ("min(units, dims - 1)", "units", "what are the degrees if there are more than D - 1 units?"),
    ("min(units, dims - 1)", "min(units, dims)", "is there a unit of degree D?"),
    ("min(units, dims - 1)", "dims - 1", "with few units the large degrees are missing"),
    ("return dims - seen,", "return dims - 1 - seen,", "pixels: the last one feeds nothing in any case"),
    (", dims - 1 - seen", ", dims - seen", "outputs: how many pixels does the output of place H + 1 have to see?"),
    (", dims - 1 - seen", ", 0", "outputs: those at the end need units of a large degree"),
    ("dims - seen, dims - 1 - seen", "dims - 1 - seen, dims - seen", "pixels first, then outputs"),
])  # fmt: skip
def _(rng):
    for dims, units in ((9, 4), (6, 6), (5, 12), (int(rng.integers(20, 40)), int(rng.integers(5, 15)))):
        degrees = [1 + h % (dims - 1) for h in range(units)]
        feeding = [k for k in range(1, dims + 1) if any(k <= m for m in degrees)]
        sees = lambda j, d=degrees: {k for k in range(1, j) if any(k <= m < j for m in d)}
        yield Case((dims, units), [dims - len(feeding), sum(len(sees(j)) < j - 1 for j in range(1, dims + 1))])


# %% [markdown]
# ## The likelihood in one pass
#
# One hidden layer with tanh, and masks as above. The output of pixel j is the logit of p(x_j = 1 | x_before j). Give
# log p(x); logits can be in the thousands.


# %%
def log_likelihood(x, into, out, w, b, v, c):
    """log p(x), (B,), in nats; x (B, D), masks and weights (D, H) and (H, D), biases b (H,) and c (D,)."""
    # [solution]
    h = np.tanh(x @ (w * into) + b)
    logits = h @ (v * out) + c
    return np.sum(x * logits - np.logaddexp(0, logits), axis=1)
    # [end]


# %% [teacher]
@task("log_likelihood", 3, "code", "thesis eq. 4.8 and 4.9", mistakes=[
    ("(w * into)", "w", "units see pixels that they must not see"),
    ("(v * out)", "v", "outputs see units that they must not see"),
    ("np.logaddexp(0, logits)", "np.log(1 + np.exp(logits))", "exp overflows: use a stable form of the logarithm"),
    ("np.sum(x * logits", "np.mean(x * logits", "a product of D factors: what becomes of it under the logarithm?"),
    ("np.logaddexp(0, logits)", "np.logaddexp(0, -logits)", "what is log p(x_j = 0 | ...)?"),
    (", axis=1)", ")", "each image has a likelihood of its own"),
    (" + c", "", "the outputs have a bias: without it the first pixel is always 1 half of the time"),
    ("np.sum(x * logits - np.logaddexp(0, logits), axis=1)",
     "np.sum((x * logits - np.logaddexp(0, logits))[:, :-1], axis=1)",
     "the T of eq. 4.8 is D: no factor is left out"),
    ("x * logits - np.logaddexp(0, logits)", "-np.logaddexp(0, -logits)", "pixels that are 0 have a probability too"),
])  # fmt: skip
def _(rng):
    for size in (1.0, 2000.0):
        (into, out, w, b, v, c), place = made(rng)
        x, v, c = pixels(rng, 5, 4), size * v, size * np.where([place[k] == 1 for k in range(4)], 1.0, c)
        total = np.zeros(5)
        for j in range(4):  # a pass for each pixel, which sees noise for what it must not see
            known = np.where([place[k] < place[j] for k in range(4)], x, rng.normal(size=x.shape))
            hidden = [np.tanh(b[u] + sum(known[:, k] * w[k, u] for k in range(4) if into[k, u])) for u in range(6)]
            logit = c[j] + sum(hidden[u] * v[u, j] for u in range(6) if out[u, j])
            total += log_expit(np.where(x[:, j] == 1, logit, -logit))
        yield Case((x, into, out, w, b, v, c), total)


# %% [markdown]
# ## Its gradient
#
# Of the same model and one image: derive the gradients of log p(x) by the weights w and v.


# %%
def gradients(x, into, out, w, b, v, c):
    """By w, (D, H), and by v, (H, D); x (D,)."""
    h = np.tanh(x @ (w * into) + b)
    logits = h @ (v * out) + c
    # [solution]
    error = x - 1 / (1 + np.exp(-logits))
    by_h = (v * out) @ error
    return np.outer(x, by_h * (1 - h**2)) * into, np.outer(h, error) * out
    # [end]


# %% [teacher]
@task("gradients", 4, "derive", "thesis eq. 4.8 and 4.9", mistakes=[
    ("np.outer(h, error) * out", "np.outer(h, error)", "by v: a weight under the mask changes nothing"),
    (" * into, np", ", np", "by w: a weight under the mask changes nothing"),
    ("(v * out) @ error", "v @ error", "by w: the outputs' errors come back through the mask too"),
    (" * (1 - h**2)", "", "by w: tanh has a derivative"),
    ("(1 - h**2)", "(1 - h)", "by w: what is the derivative of tanh, by its own value?"),
    ("error = x - 1 / (1 + np.exp(-logits))", "error = 1 / (1 + np.exp(-logits)) - x",
     "the sign is turned: is a pixel of 1 made more probable?"),
    ("error = x - 1 / (1 + np.exp(-logits))", "error = x - logits", "the mean of a pixel is no logit"),
    ("error = x - 1 / (1 + np.exp(-logits))", "error = x - (logits > 0)", "compare x with a probability, not a guess"),
    ("error = x - 1 / (1 + np.exp(-logits))",
     "p = 1 / (1 + np.exp(-logits))\n    error = (x - p) * p * (1 - p)",
     "that is the slope of a squared error: which factor cancels for a Bernoulli's logit?"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        (into, out, w, b, v, c), _place = made(rng)
        x = pixels(rng, 4)

        def log_p(w, v, x=x, into=into, out=out, b=b, c=c):
            logits = np.tanh(x @ (w * into) + b) @ (v * out) + c
            return log_expit((2 * x - 1) * logits).sum()

        def slope(f, at):
            moved = np.zeros(at.shape)
            for i in np.ndindex(*at.shape):
                step = np.zeros(at.shape)
                step[i] = 1e-5
                moved[i] = (f(at + step) - f(at - step)) / 2e-5
            return moved

        by_w, by_v = slope(lambda a, v=v, f=log_p: f(a, v), w), slope(lambda a, w=w, f=log_p: f(w, a), v)
        yield Case((x, into, out, w, b, v, c), [by_w, by_v], rtol=1e-5)


# %% [markdown]
# ## Ancestral sampling
#
# `logits(x)` gives all D logits of images (B, D), in one pass. Pixel j is 1 if u[:, j] is below its probability. Draw
# images, one pixel after the other.


# %%
def draw(logits, order, u):
    """Images, (B, D), of zeros and ones; uniform numbers u (B, D)."""
    # [solution]
    x = np.zeros(u.shape)
    for j in order:
        p = 1 / (1 + np.exp(-logits(x)[:, j]))
        x[:, j] = u[:, j] < p
    return x
    # [end]


# %% [teacher]
@task("draw", 3, "code", "thesis section 4.3 and eq. 4.8", mistakes=[
    ("for j in order:", "for j in range(len(order)):", "the first pixel to be drawn is order[0]"),
    ("for j in order:", "for j in np.argsort(order):", "order[i] is the pixel that comes i-th, not its place"),
    ("u[:, j] < p", "u[:, j] > p", "with the probability p the pixel is 1: turned round"),
    ("u[:, j] < p", "p > 0.5", "these are the most probable values: where is the noise?"),
    ("u[:, j] < p", "p", "pixels are zeros and ones: p is their mean"),
    ("logits(x)[:, j]", "logits(0 * x)[:, j]", "a pixel is drawn when those before it are there, and must see them"),
    ("u[:, j] < p", "u[:, j] < logits(x)[:, j]", "a logit is no probability"),
    ("u[:, j] < p", "u[:, list(order).index(j)] < p", "each pixel has its own number of u, whatever its place"),
])  # fmt: skip
def _(rng):
    for dims in (4, 5):
        order = shuffled(rng, dims)
        place = np.argsort(order)
        a = (3 * rng.normal(size=(dims, dims)) * (place[:, None] < place)).round(2)
        c = rng.uniform(0.2, 0.8, dims).round(2)
        model, u = Source(f"lambda x: x @ np.array({a.tolist()}) + np.array({c.tolist()})"), rng.random((60, dims))
        states = np.array(list(np.ndindex(*(2,) * dims)))
        joint = np.exp(log_expit((2 * states - 1) * model.function(states)).sum(axis=1))
        images = []
        for row in u:  # by the table of all images, from which what does not fit is taken out
            left = np.ones(len(states), bool)
            for j in order:
                one = states[:, j] == (row[j] < joint[left & (states[:, j] == 1)].sum() / joint[left].sum())
                left = left & one
            images.append(states[left][0])
        yield Case((model, order, u), np.array(images))


# %% [markdown]
# ## Several orders
#
# M orders make M models, whose logits for the same images are given. The code below makes one model of them, but no
# density: its values do not add up to 1 over all images. Mend it, so that it is the mean of the M densities. Each log p
# can be -9000.


# %%
def ensemble(x, logits):
    """log p(x), (B,); x (B, D), logits (M, B, D)."""
    # [solution]
    log_p = np.sum(x * logits - np.logaddexp(0, logits), axis=2)
    top = log_p.max(axis=0)
    return top + np.log(np.mean(np.exp(log_p - top), axis=0))
    # [blank]
    # mean = logits.mean(axis=0)
    # return np.sum(x * mean - np.logaddexp(0, mean), axis=1)
    # [end]


# %% [teacher]
@task("ensemble", 2, "fault", "thesis eq. 4.8; lesson ch04_autoregressive, section 2", mistakes=[
    ("log_p = np.sum(x * logits - np.logaddexp(0, logits), axis=2)",
     "log_p = np.sum(x * logits.mean(axis=0) - np.logaddexp(0, logits.mean(axis=0)), axis=1)[None]",
     "of which quantity does the mean give a density again?"),
    ("return top + np.log(np.mean(np.exp(log_p - top), axis=0))", "return log_p.mean(axis=0)",
     "the mean of densities, not of their logarithms"),
    ("np.log(np.mean(", "np.log(np.sum(", "M densities that are added have the sum M"),
    ("return top + np.log(np.mean(np.exp(log_p - top), axis=0))", "return top",
     "the largest of densities has a sum above 1"),
    ("top = log_p.max(axis=0)", "top = 0.0", "the densities vanish in floating point: take the largest out first"),
    ("return top +", "return", "what was taken out comes back"),
    ("log_p = np.sum(x * logits - np.logaddexp(0, logits), axis=2)",
     "log_p = np.sum(np.log(np.mean(np.exp(x * logits - np.logaddexp(0, logits)), axis=0)), axis=1)[None]",
     "the means of the factors are no factors of one order: the whole products are averaged"),
])  # fmt: skip
def _(rng):
    for size in (1.0, 3000.0):
        x, logits = pixels(rng, 4, 5), size * rng.normal(size=(3, 4, 5))
        each = log_expit((2 * x - 1) * logits).sum(axis=-1)
        yield Case((x, logits), logsumexp(each, axis=0, b=1 / 3))


# %% [markdown]
# ## What an order costs
#
# A model of little sight: its conditionals are p(x_j | x_i), i being the one pixel just before j in the order; the
# first pixel has p(x_j). Let these be as good as they can be. The data's distribution is a table, as in task 1. Derive
# by how many nats the model's mean of log p(x) over the data is below the data's own.


# %%
def cost(joint, order):
    """A number, not negative; joint of shape (2, ..., 2)."""
    # [solution]
    entropy = lambda p: -np.sum(p * np.log(p))
    p, dims = joint.transpose(order), joint.ndim
    model = entropy(p.sum(axis=tuple(range(1, dims))))
    for i in range(1, dims):
        pair = p.sum(axis=tuple(a for a in range(dims) if a not in (i - 1, i)))
        model = model + entropy(pair) - entropy(pair.sum(axis=1))
    return model - entropy(p)
    # [end]


# %% [teacher]
@task("cost", 4, "derive", "thesis eq. 4.8", mistakes=[
    ("joint.transpose(order)", "joint", "the order is not used: who is before whom?"),
    ("joint.transpose(order)", "joint.transpose(np.argsort(order))", "order[i] is the pixel that comes i-th"),
    ("return model - entropy(p)", "return model", "how far below the data's own mean of log p(x), which is not 0?"),
    ("return model - entropy(p)", "return entropy(p) - model", "a model cannot be better than the data's distribution"),
    ("model + entropy(pair) - entropy(pair.sum(axis=1))", "model + entropy(pair.sum(axis=0))",
     "these are independent pixels: one pixel is known"),
    ("- entropy(pair.sum(axis=1))", "", "H(x_j | x_i) is not H(x_i, x_j)"),
    ("- entropy(pair.sum(axis=1))", "- entropy(pair.sum(axis=0))", "which of the two pixels is given?"),
    ("np.log(p)", "np.log2(p)", "nats are asked for, not bits"),
    ("return model - entropy(p)", "return model - entropy(p) - entropy(p.sum(axis=tuple(range(1, dims))))",
     "the first pixel has a factor as well"),
])  # fmt: skip
def _(rng):
    for dims in (3, 4):
        joint, order = rng.dirichlet(np.full(2**dims, 0.7) + 0.1).reshape((2,) * dims), shuffled(rng, dims)
        states, total = list(np.ndindex(*(2,) * dims)), 0.0

        def mass(fixed, joint=joint, states=states):
            return sum(joint[x] for x in states if all(x[i] == v for i, v in fixed.items()))

        for x in states:
            log_p = np.log(mass({order[0]: x[order[0]]}))
            for i, j in zip(order[:-1], order[1:], strict=True):
                log_p += np.log(mass({i: x[i], j: x[j]}) / mass({i: x[i]}))
            total += joint[x] * (np.log(joint[x]) - log_p)
        yield Case((joint, order), total)


# %% [markdown]
# ## Couplings
#
# Real NVP. A layer takes the halves of x, $x_a$ and then $x_b$, to $x_b e^{s(x_a)} + m(x_a)$ and then $x_a$: they have
# changed places. After all layers z should be N(0, I). Give z, and log p(x). `layers` are pairs (m, s) of functions
# from (B, D/2) to (B, D/2).


# %%
def to_noise(x, layers):
    """z, (B, D), and log p(x), (B,), in nats."""
    # [solution]
    a, b = np.split(x, 2, axis=1)
    log_det = np.zeros(len(x))
    for m, s in layers:
        log_det = log_det + s(a).sum(axis=1)
        a, b = b * np.exp(s(a)) + m(a), a
    z = np.concatenate([a, b], axis=1)
    return z, log_det + np.sum(-0.5 * z**2 - 0.5 * np.log(2 * np.pi), axis=1)
    # [end]


# %% [teacher]
@task("to_noise", 3, "code", "thesis section 4.4; lesson ch04_invertible, sections 1 and 2", mistakes=[
    ("log_det + s(a)", "log_det - s(a)", "where the map spreads points out the density of x is low: check the sign"),
    ("log_det + s(a).sum(axis=1)", "s(a).sum(axis=1)", "each layer changes the volume"),
    ("s(a).sum(axis=1)", "np.exp(s(a)).sum(axis=1)", "the determinant is a product of scales: and its logarithm?"),
    ("s(a).sum(axis=1)", "s(a).sum()", "each row has a determinant of its own"),
    ("return z, log_det + np.sum", "return z, np.sum", "the change of volume is missing"),
    ("np.exp(s(a)) + m(a), a", "np.exp(s(a)) + m(a), b", "the half that has moved the other one is kept"),
    ("a, b = b * np.exp(s(a)) + m(a), a", "a, b = a, b * np.exp(s(a)) + m(a)", "the halves change places"),
    ("b * np.exp(s(a)) + m(a)", "(b + m(a)) * np.exp(s(a))", "scaled first, then moved"),
    ("b * np.exp(s(a))", "b * s(a)", "a scale is positive: s is its logarithm"),
    ("-0.5 * z**2", "-0.5 * x**2", "the noise's density is asked at z"),
    (" - 0.5 * np.log(2 * np.pi)", "", "a normal density has a constant"),
])  # fmt: skip
def _(rng):
    for count in (1, 3):
        x, layers = rng.normal(size=(3, 4)), [coupling(rng) for _ in range(count)]
        z, log_p = np.array([through(row, layers) for row in x]), []
        for row, noise in zip(x, z, strict=True):
            moved = [through(row + e, layers) - through(row - e, layers) for e in 1e-5 * np.eye(4)]
            log_p.append(norm.logpdf(noise).sum() + np.linalg.slogdet(np.array(moved) / 2e-5)[1])
        yield Case((x, layers), [z, np.array(log_p)])


# %% [markdown]
# ## The way back
#
# A sample is noise through the same layers, undone.


# %%
def from_noise(z, layers):
    """x, (B, D), from z, (B, D)."""
    # [solution]
    a, b = np.split(z, 2, axis=1)
    for m, s in layers[::-1]:
        a, b = b, (a - m(b)) * np.exp(-s(b))
    return np.concatenate([a, b], axis=1)
    # [end]


# %% [teacher]
@task("from_noise", 3, "code", "thesis section 4.4; lesson ch04_invertible, section 2", mistakes=[
    ("layers[::-1]", "layers", "what was done last is undone first"),
    ("np.exp(-s(b))", "np.exp(s(b))", "the scale is undone by dividing"),
    ("(a - m(b)) * np.exp(-s(b))", "a * np.exp(-s(b)) - m(b)", "moved last, so moved back first"),
    ("(a - m(b))", "(a + m(b))", "m is taken off again"),
    ("(a - m(b)) * np.exp(-s(b))", "(a - m(b))", "the scale is left: that would undo NICE"),
    ("a, b = b, (a - m(b)) * np.exp(-s(b))", "a, b = a, (b - m(a)) * np.exp(-s(a))",
     "the halves had changed places: which one was kept?"),
    ("a, b = b, (a - m(b)) * np.exp(-s(b))", "a, b = (a - m(b)) * np.exp(-s(b)), b",
     "the halves change places again on the way back"),
])  # fmt: skip
def _(rng):
    for count in (1, 3):
        x, layers = rng.normal(size=(3, 4)), [coupling(rng) for _ in range(count)]
        yield Case((np.array([through(row, layers) for row in x]), layers), x)


# %% [markdown]
# ## Who moves whom
#
# Before you try it: how many of the D x D derivatives of the map's results by its inputs are not always 0, after T such
# layers? D is even, and m and s have no derivative that is always 0.


# %%
def reach(dims, layers):
    """A number, for D and T."""
    # [solution]
    n = dims // 2
    return [2 * n, n**2 + 2 * n, 3 * n**2 + n, 4 * n**2][min(layers, 3)]
    # [end]


# %% [teacher]
@task("reach", 2, "predict", "thesis section 4.4", mistakes=[
    ("[2 * n,", "[0,", "no layer at all: each result is an input"),
    ("n**2 + 2 * n,", "n**2 + n,", "one layer: both halves depend on themselves"),
    ("n**2 + 2 * n,", "2 * n**2 + n,", "one layer: within the half that is moved, whom does a number depend on?"),
    ("3 * n**2 + n,", "4 * n**2,", "two layers: one half has been moved once only"),
    ("3 * n**2 + n,", "2 * n**2 + 2 * n,", "two layers: the half moved last depends on what the other one has seen"),
    ("min(layers, 3)", "min(layers, 2)", "is there a third layer that adds something?"),
    ("min(layers, 3)", "min(layers, 1)", "the second layer moves the other half"),
])  # fmt: skip
def _(rng):
    for n in (2, int(rng.integers(3, 8))):
        zero, one, full = np.zeros((n, n), bool), np.eye(n, dtype=bool), np.ones((n, n), bool)
        layer, total = np.block([[full, one], [one, zero]]), np.eye(2 * n, dtype=bool)
        for count in range(5):
            yield Case((2 * n, count), int(total.sum()))
            total = layer @ total
