"""Exercises: semi-supervised learning (thesis chapter 3).

Beside the lesson `chapters/ch03_semi_supervised.py`. Replace each `raise NotImplementedError` by your code, then run
`minivi grade chapters/exercises/ch03_semi_supervised.py`. NumPy is all that is needed. The model is M2: a class y, one
of C, a latent z, J numbers, and an image x of D binary pixels. Classes are one-hot where a network sees them, else
numbers from 0. Logarithms are natural. No function may write into its arguments.
"""

# %%
import numpy as np

# %% [teacher]
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logsumexp, softmax
from scipy.stats import bernoulli, norm

from minivi.exercises import Case, Source, task

DECODER = """lambda z, y: np.tanh(z @ np.sin(np.arange(1.0, 1 + z.shape[-1] * 5).reshape(z.shape[-1], 5)))
    + 2 * y @ np.cos(np.arange(1.0, 1 + y.shape[-1] * 5).reshape(y.shape[-1], 5))"""  # logits of 5 pixels
DECODER = Source(" ".join(DECODER.split()))


def tables(rng, classes=3, states=4):
    """Of a model with z in a few states, for one image: p(x, y, z), q(y | x) and q(z | x, y)."""
    joint = rng.dirichlet(np.ones(classes * states)).reshape(classes, states) * rng.uniform(0.01, 0.2)
    return joint, rng.dirichlet(2 * np.ones(classes)), rng.dirichlet(np.ones(states), classes)


def by_differences(f, at, h=1e-5):
    """The gradient of f, by central differences."""
    return np.array([(f(at + h * e) - f(at - h * e)) / (2 * h) for e in np.eye(len(at))])


# %% [markdown]
# ## The classifier's output
#
# q(y | x) is a categorical distribution, whose probabilities a network makes of logits, numbers without any limit. Give
# log q(y | x) for all classes. Logits may be in the thousands, and none of the results may be infinite then.


# %%
def log_q(logits):
    """log q(y | x), (B, C), from logits (B, C)."""
    # [solution]
    above = logits - logits.max(axis=1, keepdims=True)
    return above - np.log(np.sum(np.exp(above), axis=1, keepdims=True))
    # [end]


# %% [teacher]
@task("log_q", 2, "code", "thesis eq. 3.5", mistakes=[
    ("logits - logits.max(axis=1, keepdims=True)", "logits - 0.0",
     "exp overflows: a number taken off all logits of an image changes no probability"),
    ("above - np.log(np.sum(np.exp(above), axis=1, keepdims=True))",
     "np.exp(above) / np.sum(np.exp(above), axis=1, keepdims=True)",
     "these are the probabilities; their logarithms are asked for"),
    ("np.sum(np.exp(above), axis=1, keepdims=True)", "np.sum(np.exp(above), axis=0, keepdims=True)",
     "probabilities add up to 1 over the classes of an image, not over images"),
    ("np.sum(np.exp(above), axis=1, keepdims=True)", "np.sum(np.exp(above))",
     "each image has a sum of its own"),
    ("np.sum(np.exp(above)", "np.mean(np.exp(above)", "for equal logits each class must have probability 1 / C"),
    ("return above - np.log(np.sum(np.exp(above), axis=1, keepdims=True))",
     "return np.log(np.exp(above) / np.sum(np.exp(above), axis=1, keepdims=True))",
     "an improbable class has a probability of 0 in floating point: take the logarithm of the quotient by hand"),
])  # fmt: skip
def _(rng):
    for scale in (2.0, 2000.0):
        logits = scale * rng.normal(size=(4, 3))
        logits[0] += 800.0
        yield Case((logits,), log_softmax(logits, axis=1))


# %% [markdown]
# ## The bound of an image whose class is known
#
# One draw's estimate of L(x, y), with all four terms sampled: z = mu + sigma eps from q(z | x, y), p(y) = 1 / C,
# p(z) = N(0, I), and pixels from Bernoulli distributions, whose logits are `decoder(z, y)`.


# %%
def labelled_bound(x, y, mu, log_sigma, eps, decoder):
    """A number, in nats; x (D,) of zeros and ones, y (C,) one-hot, mu, log_sigma, eps (J,)."""
    # [solution]
    z = mu + np.exp(log_sigma) * eps
    logits = decoder(z, y)
    log_px = np.sum(x * logits - np.logaddexp(0, logits))
    log_py = -np.log(len(y))
    log_pz = np.sum(-0.5 * z**2 - 0.5 * np.log(2 * np.pi))
    log_qz = np.sum(-0.5 * eps**2 - log_sigma - 0.5 * np.log(2 * np.pi))
    return log_px + log_py + log_pz - log_qz
    # [end]


# %% [teacher]
@task("labelled_bound", 4, "code", "thesis eq. 3.7 and 3.11", mistakes=[
    ("log_px + log_py + log_pz", "log_px + log_pz", "the class has a prior too"),
    ("log_pz - log_qz", "log_pz + log_qz", "q(z | x, y) is subtracted: with this sign a wide q is punished"),
    ("-0.5 * eps**2 - log_sigma -", "-0.5 * eps**2 -", "log q at z, not at eps: what does the map from eps to z do?"),
    ("-0.5 * eps**2 - log_sigma -", "-0.5 * eps**2 + log_sigma -",
     "a wide q has a low density: check the sign of log sigma"),
    ("np.exp(log_sigma) * eps", "np.exp(0.5 * log_sigma) * eps",
     "log sigma is given, and not the variance's logarithm"),
    ("np.exp(log_sigma) * eps", "log_sigma * eps", "sigma is positive: its logarithm is given"),
    ("np.logaddexp(0, logits))", "np.logaddexp(0, -logits))", "for x = 0 a pixel has log(1 - sigmoid(logit))"),
    ("np.sum(x * logits", "np.mean(x * logits", "log-probabilities of pixels are summed: an image is all of them"),
    ("np.sum(-0.5 * z**2", "np.sum(-0.5 * eps**2", "the prior's density is asked at z, not at its noise"),
])  # fmt: skip
def _(rng):
    for classes, size in ((3, 2), (4, 3)):
        x, y = rng.integers(0, 2, 5).astype(float), np.eye(classes)[rng.integers(classes)]
        mu, log_sigma, eps = rng.normal(size=size), rng.normal(-0.5, 0.5, size), rng.normal(size=size)
        sigma = np.exp(log_sigma)
        z = mu + sigma * eps
        log_p = bernoulli.logpmf(x, expit(DECODER.function(z, y))).sum() + norm.logpdf(z).sum() - np.log(classes)
        yield Case((x, y, mu, log_sigma, eps, DECODER), log_p - norm.logpdf(z, mu, sigma).sum())


# %% [markdown]
# ## The bound of an image whose class is not known
#
# U(x), from L(x, y) for each class and the classifier's log q(y | x): the class is summed out. The code below loses a
# term of eq. 3.8 on its way. Mend it.


# %%
def unlabelled_bound(bounds, log_q):
    """U(x), (B,), in nats; bounds L(x, y) and log_q of all classes, each (B, C)."""
    q = np.exp(log_q)
    # [solution]
    return np.sum(q * (bounds - log_q), axis=1)
    # [blank]
    # return np.sum(q * bounds, axis=1)
    # [end]


# %% [teacher]
@task("unlabelled_bound", 2, "fault", "thesis eq. 3.8", mistakes=[
    ("(bounds - log_q)", "bounds",
     "U is no mean of bounds: which other number does q have, that says how unsure it is?"),
    ("(bounds - log_q)", "(bounds + log_q)", "the entropy of q is added, and it is not negative"),
    ("np.sum(q * (bounds - log_q), axis=1)", "np.sum(q * bounds - log_q, axis=1)", "log q is averaged over q as well"),
    ("np.sum(q", "np.mean(q", "the weights q add up to 1 already"),
    ("(bounds - log_q), axis=1)", "(bounds - log_q), axis=0)", "classes are summed out, and images stay"),
    ("np.sum(q * (bounds - log_q), axis=1)", "np.log(np.sum(np.exp(bounds), axis=1))",
     "that is U for the best q, not for the one that is given"),
    ("np.sum(q * (bounds - log_q), axis=1)", "np.max(bounds, axis=1)", "all classes count, by their probabilities"),
])  # fmt: skip
def _(rng):
    for shape in ((3, 3), (4, 4)):
        bounds, q = rng.normal(-20, 2, shape), rng.dirichlet(np.ones(shape[1]), shape[0])
        entropy = np.array([-sum(p * np.log(p) for p in row) for row in q])
        yield Case((bounds, np.log(q)), np.einsum("bc,bc->b", q, bounds) + entropy)


# %% [markdown]
# ## What U asks of the classifier
#
# Let L(x, y) of all classes be given and fixed. Derive the q(y | x) that makes U(x) largest, and U(x) there.


# %%
def best_classifier(bounds):
    """q(y | x), (C,), and the largest U(x), a number; bounds L(x, y) of all classes, (C,)."""
    # [solution]
    top = bounds.max()
    weights = np.exp(bounds - top)
    return weights / weights.sum(), top + np.log(weights.sum())
    # [end]


# %% [teacher]
@task("best_classifier", 3, "derive", "thesis eq. 3.8", mistakes=[
    ("weights / weights.sum(), ", "(bounds == top) * 1.0, ", "without the entropy that would be it"),
    ("top + np.log(weights.sum())", "top", "put your q into U: the entropy is a part of it"),
    ("top + np.log(weights.sum())", "weights @ bounds / weights.sum()",
     "that is the mean bound of your q: add its entropy"),
    ("top + np.log(weights.sum())", "top + np.log(weights.mean())",
     "is there a factor of 1 / C? Try bounds that are all alike"),
    ("np.exp(bounds - top)", "np.exp(0.5 * (bounds - top))", "set the derivative of U by q to 0, under sum q = 1"),
    ("np.exp(bounds - top)", "np.exp(top - bounds)", "a class that explains the image well becomes probable"),
    ("weights / weights.sum(), ", "weights, ", "the probabilities q add up to 1"),
    ("weights / weights.sum(), ", "bounds / bounds.sum(), ", "q is no quotient of logarithms"),
])  # fmt: skip
def _(rng):
    for classes in (3, 5):
        bounds = rng.normal(-20, 1.0, classes)
        minus_u = lambda logits, b=bounds: -softmax(logits) @ (b - log_softmax(logits))
        found = minimize(minus_u, np.zeros(classes), method="BFGS", options={"gtol": 1e-9})
        yield Case((bounds,), [softmax(found.x), -found.fun], rtol=1e-4)


# %% [markdown]
# ## What U misses
#
# How far is U(x) below log p(x)? Derive it from the classifier q(y | x), the true p(y | x), and, for each class, the
# divergence KL(q(z | x, y) || p(z | x, y)) of the encoder.


# %%
def gap(q, p, of_z):
    """log p(x) - U(x), a number in nats; q and p of all classes, and the encoder's divergence in each, (C,)."""
    # [solution]
    return np.sum(q * (np.log(q) - np.log(p) + of_z))
    # [end]


# %% [teacher]
@task("gap", 3, "derive", "thesis eq. 3.8", mistakes=[
    ("q * (np.log(q) - np.log(p) + of_z)", "q * of_z", "the classifier can be wrong too"),
    ("q * (np.log(q) - np.log(p) + of_z)", "q * (np.log(q) - np.log(p))", "the encoder can be wrong too"),
    ("q * (np.log(q) - np.log(p) + of_z)", "p * (np.log(p) - np.log(q)) + q * of_z",
     "the divergence of the classifier has two directions: under which distribution does U average?"),
    ("q * (np.log(q) - np.log(p) + of_z)", "q * (np.log(q) - np.log(p)) + p * of_z",
     "by which probabilities does U weigh the encoder's divergences?"),
    ("q * (np.log(q) - np.log(p) + of_z)", "q * (np.log(q) - np.log(p)) + of_z",
     "a class that q never guesses does not count with its full divergence"),
    ("np.log(q) - np.log(p) + of_z", "np.log(q) - np.log(p) - of_z", "both errors make U lower"),
    ("np.log(q) - np.log(p)", "np.log(q)", "compare q with the posterior of the class, not its entropy alone"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        joint, q, qz = tables(rng)
        bounds = np.sum(qz * (np.log(joint) - np.log(qz)), axis=1)
        p_x, posterior = joint.sum(), joint / joint.sum(axis=1, keepdims=True)
        of_z = np.sum(qz * np.log(qz / posterior), axis=1)
        yield Case((q, joint.sum(axis=1) / p_x, of_z), np.log(p_x) - np.sum(q * bounds) + np.sum(q * np.log(q)))


# %% [markdown]
# ## How an image without a label teaches the classifier
#
# Derive the gradient of U(x) with respect to the classifier's logits, L(x, y) being fixed.


# %%
def slope_of_u(bounds, logits):
    """dU / d logits, (C,); bounds L(x, y) of all classes, (C,)."""
    q = np.exp(logits - logits.max())
    q = q / q.sum()
    # [solution]
    signal = bounds - np.log(q)
    return q * (signal - q @ signal)
    # [end]


# %% [teacher]
@task("slope_of_u", 3, "derive", "thesis eq. 3.8", mistakes=[
    ("(signal - q @ signal)", "signal",
     "a constant added to all logits changes nothing: your gradient must add up to 0"),
    ("q * (signal - q @ signal)", "signal - q @ signal", "a class that is never guessed hardly moves U"),
    ("bounds - np.log(q)", "bounds", "the entropy changes with the logits, too"),
    ("bounds - np.log(q)", "bounds + np.log(q)", "which sign has the entropy in U?"),
    ("(signal - q @ signal)", "(signal - signal.mean())", "which mean do all classes share, weighted by what?"),
    ("q * (signal - q @ signal)", "q * (q @ signal - signal)",
     "ascent makes the class with the larger signal more probable"),
    ("q * (signal - q @ signal)", "q * (1 - q) * signal",
     "a logit moves the probabilities of the other classes as well"),
])  # fmt: skip
def _(rng):
    for classes in (3, 5):
        bounds, logits = rng.normal(-20, 1.5, classes), rng.normal(size=classes)
        u = lambda a, b=bounds: softmax(a) @ (b - log_softmax(a))
        yield Case((bounds, logits), by_differences(u, logits), rtol=1e-5)


# %% [markdown]
# ## Drawn in the place of summed
#
# Algorithm 4 draws one y from q(y | x) where eq. 3.8 sums over all. Before you try it: which mean and which variance
# has this estimate of U(x), with L(x, y) known exactly?


# %%
def drawn(bounds, q):
    """Mean and variance of the estimate by one y from q; bounds L(x, y) and q of all classes, (C,)."""
    # [solution]
    signal = bounds - np.log(q)
    mean = q @ signal
    return mean, q @ (signal - mean) ** 2
    # [end]


# %% [teacher]
@task("drawn", 2, "predict", "thesis eq. 3.8 and Algorithm 4", mistakes=[
    ("bounds - np.log(q)", "bounds", "the estimate must have U as its mean: log q of the drawn class belongs to it"),
    ("(signal - mean) ** 2", "signal**2", "that is the mean square, not the variance"),
    ("q @ (signal - mean) ** 2", "np.sqrt(q @ (signal - mean) ** 2)",
     "the variance is asked for, and not the deviation"),
    ("q @ (signal - mean) ** 2", "np.var(signal)", "classes are drawn by q, not all alike"),
    ("mean = q @ signal", "mean = signal.mean()", "what is the mean of a function of y, if y is drawn from q?"),
    ("q @ (signal - mean) ** 2", "q**2 @ (signal - mean) ** 2", "the drawn class is not weighted by q once more"),
])  # fmt: skip
def _(rng):
    for classes in (3, 5):
        bounds, counts = rng.normal(-20, 1.5, classes), rng.integers(1, 20, classes)
        q = counts / counts.sum()
        draws = np.repeat(bounds - np.log(q), counts)  # as often as q says
        yield Case((bounds, q), [draws.mean(), draws.var()])


# %% [markdown]
# ## The objective of a minibatch
#
# J^alpha for the whole data set, N_l images with a label and N_u without, estimated from minibatches of both; alpha =
# 0.1 N, N being the number of all images. J^alpha is maximised. The code follows eq. 3.10 as it is printed. Mend it.


# %%
def objective(labelled, log_q_label, unlabelled, n_l, n_u):
    """J^alpha, a number: L and log q(y | x) of M_l labelled images, (M_l,), and U of M_u others, (M_u,)."""
    alpha = 0.1 * (n_l + n_u)
    j = n_l * np.mean(labelled) + n_u * np.mean(unlabelled)
    # [solution]
    return j + alpha * np.mean(log_q_label)
    # [blank]
    # return j + alpha * np.mean(-log_q_label)
    # [end]


# %% [teacher]
@task("objective", 2, "fault", "thesis eq. 3.9 and 3.10", mistakes=[
    ("alpha * np.mean(log_q_label)", "alpha * np.mean(-log_q_label)",
     "what does the last term ask of q, if J is maximised?"),
    ("alpha * np.mean(log_q_label)", "alpha * np.sum(log_q_label)", "the last term is an expectation, not a sum"),
    ("alpha * np.mean(log_q_label)", "alpha * n_l * np.mean(log_q_label)",
     "the last term is an expectation: alpha has its N already"),
    ("alpha * np.mean(log_q_label)", "0.1 * np.mean(log_q_label)", "alpha is 0.1 N, and N counts all images"),
    ("alpha * np.mean(log_q_label)", "alpha * np.mean(np.exp(log_q_label))", "the logarithm of q is what is averaged"),
    ("n_l * np.mean(labelled) + n_u * np.mean(unlabelled)", "np.sum(labelled) + np.sum(unlabelled)",
     "minibatches stand for all images: how many images does each of theirs stand for?"),
    ("n_l * np.mean(labelled) + n_u * np.mean(unlabelled)", "np.mean(labelled) + np.mean(unlabelled)",
     "the two sets have different sizes, and count by them"),
])  # fmt: skip
def _(rng):
    for few, many in ((3, 5), (4, 2)):
        n_l, n_u = few * int(rng.integers(2, 9)), many * int(rng.integers(10, 90))
        l, u, log_q = rng.normal(-20, 2, few), rng.normal(-22, 2, many), -rng.exponential(size=few)
        whole = [np.tile(a, n // len(a)) for a, n in ((l, n_l), (u, n_u), (log_q, n_l))]  # such minibatches make a set
        alpha = (n_l + n_u) / 10
        yield Case((l, log_q, u, n_l, n_u), whole[0].sum() + whole[1].sum() + alpha * whole[2].sum() / n_l)


# %% [markdown]
# ## How much a label weighs
#
# Before you look it up in the lesson: log q(y | x) of *one* labelled image weighs how many times as much in J^alpha as
# its L(x, y), for alpha = c N? And what does one pass over all images cost, in passes of one image through the decoder,
# if y is summed over C classes where it is not known and z is drawn S times for each class?


# %%
def weight_and_cost(n_l, n_u, c, classes, draws):
    """Two numbers: the weight of log q over that of L, and the decoder's passes."""
    # [solution]
    return c * (n_l + n_u) / n_l, draws * (n_l + classes * n_u)
    # [end]


# %% [teacher]
@task("weight_and_cost", 2, "predict", "thesis eq. 3.10 and section 3.3.3", mistakes=[
    ("c * (n_l + n_u) / n_l", "c * (n_l + n_u)", "the last term is a mean over the labelled images"),
    ("c * (n_l + n_u) / n_l", "c", "L is summed, log q is averaged: that makes a difference"),
    ("c * (n_l + n_u) / n_l", "c * n_u / n_l", "N is the number of all images"),
    ("c * (n_l + n_u) / n_l", "c * n_l / (n_l + n_u)", "the fewer labels there are, the more each weighs"),
    ("draws * (n_l + classes * n_u)", "draws * classes * (n_l + n_u)", "where the class is known one class is enough"),
    ("draws * (n_l + classes * n_u)", "draws * (n_l + n_u)", "an image without a label is decoded with each class"),
    ("draws * (n_l + classes * n_u)", "n_l + draws * classes * n_u", "labelled images draw z as often"),
])  # fmt: skip
def _(rng):
    for _ in range(3):
        n_l, n_u, classes, draws = (int(rng.integers(2, most)) for most in (9, 90, 9, 5))
        c, labels = rng.uniform(0.05, 0.5), rng.normal(size=n_l)
        j = lambda log_q, n=n_l + n_u, c=c: c * n * np.mean(log_q)
        slope = by_differences(j, labels, 0.5)[0]  # of J by log q of the first; that by its L is 1
        passes = sum(draws * (1 if i < n_l else classes) for i in range(n_l + n_u))
        yield Case((n_l, n_u, c, classes, draws), [slope, passes])


# %% [markdown]
# ## The model's own answer
#
# q(y | x) is a quick guess. The model's answer is p(y | x), by Bayes' rule from p(x, y), which is estimated for each
# class by K importance samples: log w = log p(x, y, z_k) - log q(z_k | x, y), as low as -1000.


# %%
def class_probabilities(log_w):
    """The estimate of p(y | x), (C,), from log w, (K, C)."""
    # [solution]
    top = log_w.max()
    p_xy = np.mean(np.exp(log_w - top), axis=0)
    return p_xy / p_xy.sum()
    # [end]


# %% [teacher]
@task("class_probabilities", 3, "code", "thesis section 3.2.2", mistakes=[
    ("top = log_w.max()", "top = 0.0", "the weights vanish in floating point: take the largest out first"),
    ("top = log_w.max()", "top = log_w.max(axis=0)", "one factor for all classes cancels; one for each does not"),
    ("np.mean(np.exp(log_w - top), axis=0)", "np.exp(np.mean(log_w - top, axis=0))",
     "that compares bounds L; p(x, y) is the mean of the weights themselves"),
    ("np.mean(np.exp(log_w - top), axis=0)", "np.exp(np.max(log_w - top, axis=0))",
     "all samples count, not the best one"),
    ("return p_xy / p_xy.sum()", "return p_xy * np.exp(top)", "Bayes' rule has a denominator, p(x)"),
    ("p_xy / p_xy.sum()", "np.mean(np.exp(log_w - log_w.max(axis=1, keepdims=True)) /"
     " np.exp(log_w - log_w.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True), axis=0)",
     "first the mean over samples, then the quotient"),
    ("axis=0)", "axis=1)", "samples are averaged, and classes stay"),
])  # fmt: skip
def _(rng):
    for low in (-30.0, -1000.0):
        log_w = low + 2 * rng.normal(size=(4, 4))
        log_p = logsumexp(log_w, axis=0) - np.log(4)
        yield Case((log_w,), np.exp(log_p - logsumexp(log_p)))


# %% [markdown]
# ## One style, all classes
#
# The analogies of Figure 3.1: each style z is decoded with each class. Give the mean images, probabilities of pixels;
# the logits are `decoder(z, y)`, for z (..., J) and one-hot classes y (..., C).


# %%
def analogies(z, classes, decoder):
    """Probabilities of pixels, (n, C, D): z (n, J), the number of classes C."""
    # [solution]
    styles = np.repeat(z, classes, axis=0)
    each = np.tile(np.eye(classes), (len(z), 1))
    logits = decoder(styles, each)
    return (1 / (1 + np.exp(-logits))).reshape(len(z), classes, -1)
    # [end]


# %% [teacher]
@task("analogies", 2, "code", "thesis Figure 3.1 and eq. 3.2", mistakes=[
    ("(1 / (1 + np.exp(-logits)))", "logits", "these are logits: probabilities are asked for"),
    ("(1 / (1 + np.exp(-logits)))", "(1 / (1 + np.exp(logits)))", "ink and paper are exchanged"),
    ("np.repeat(z, classes, axis=0)", "np.tile(z, (classes, 1))",
     "styles and classes must run through all pairs: which of the two changes faster?"),
    ("np.tile(np.eye(classes), (len(z), 1))", "np.repeat(np.eye(classes), len(z), axis=0)",
     "look at which class each row gets: the last index of a style's rows is the class"),
    ("np.eye(classes)", "np.eye(classes)[::-1]", "column y shows class y"),
    ("np.eye(classes)", "np.full((classes, classes), 1 / classes)", "each column has a class of its own, one-hot"),
    ("styles, each", "0 * styles, each", "a row keeps its style"),
])  # fmt: skip
def _(rng):
    for n, classes in ((2, 3), (4, 2)):
        z = rng.normal(size=(n, 3))
        images = [[expit(DECODER.function(style, y)) for y in np.eye(classes)] for style in z]
        yield Case((z, classes, DECODER), np.array(images))
