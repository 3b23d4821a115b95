"""Exercises: learning with discrete latents, and refinement (review report, refinement report).

Beside the lessons `chapters/report_review.py` and `report_refinement.py`. Replace each `raise NotImplementedError` by
your code, then run `minivi grade chapters/exercises/report_review.py`. NumPy is all that is needed. h are latent bits,
q(h | x) the encoder, whose bits are independent, with a logit each. Weights are w = p(x, h) / q(h | x), of K samples h
from q; log w can be -900. Logarithms are natural, in nats. No function may write into its arguments.
"""

# %%
import numpy as np

# %% [teacher]
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp, softmax
from scipy.stats import bernoulli

from minivi.exercises import Case, Source, task


def by_differences(f, at):
    """The gradient of f, by central differences."""
    return np.array([(f(at + e) - f(at - e)) / 2e-5 for e in 1e-5 * np.eye(len(at))])


def bits(rng, *shape):
    """Zeros and ones, both in each column."""
    h = rng.integers(0, 2, shape).astype(float)
    h[1] = 1 - h[0]
    return h


def levels(rng, samples, data=3):
    """Log-weights of very different levels, (samples, data)."""
    return 1.5 * rng.normal(size=(samples, data)) - np.array([0.0, 90.0, 900.0])[:data]


def log_mean_exp(log_w):
    """Of all of them."""
    return logsumexp(log_w) - np.log(len(log_w))


def without(log_w, k):
    """The bound with the k-th weight replaced by the geometric mean of the others."""
    others = [v for i, v in enumerate(log_w) if i != k]
    return log_mean_exp([*others, sum(others) / len(others)])


# %% [markdown]
# ## The learning signal
#
# The decoder makes logits of D pixels of h, the prior of h has logits too. All bits are independent of each other.


# %%
def learning_signal(x, h, x_logits, prior_logits, q_logits):
    """l(x, h), (B,); x and x_logits (B, D), h and q_logits (B, J), prior_logits (J,)."""
    # [solution]
    log_bits = lambda values, logits: np.sum(values * logits - np.logaddexp(0, logits), axis=1)
    return log_bits(x, x_logits) + log_bits(h, prior_logits) - log_bits(h, q_logits)
    # [end]


# %% [teacher]
@task("learning_signal", 2, "code", "review report eq. 7", mistakes=[
    (" + log_bits(h, prior_logits)", "", "p(x, h) has the prior in it"),
    ("- log_bits(h, q_logits)", "+ log_bits(h, q_logits)", "what q draws too often must get a low signal"),
    (" - log_bits(h, q_logits)", "", "that is log p(x, h) alone"),
    ("np.logaddexp(0, logits)", "np.logaddexp(0, -logits)", "for a bit of 0 it is log(1 - sigmoid(logit))"),
    ("np.sum(values", "np.mean(values", "independent bits: their log-probabilities are added"),
    ("log_bits(x, x_logits) + ", "", "where are the pixels?"),
    ("log_bits(h, q_logits)", "log_bits(1 - h, q_logits)", "q is asked for the h that was drawn"),
    ("axis=1", "axis=None", "each datum has a signal of its own"),
])  # fmt: skip
def _(rng):
    for scale in (1.0, 500.0):
        x, h, prior = bits(rng, 3, 5), bits(rng, 3, 2), rng.normal(size=2)
        x_logits, q_logits = scale * rng.normal(size=(3, 5)), rng.normal(size=(3, 2))
        log_p = log_expit((2 * x - 1) * x_logits).sum(axis=1) + bernoulli.logpmf(h, expit(prior)).sum(axis=1)
        yield Case((x, h, x_logits, prior, q_logits), log_p - bernoulli.logpmf(h, expit(q_logits)).sum(axis=1))


# %% [markdown]
# ## The score
#
# Derive the estimate of the gradient of L(x) by the encoder's logits, from K samples h and their signals.


# %%
def score_gradient(logits, h, signals):
    """The estimate, (J,): logits (J,), samples h (K, J), signals l(x, h), (K,)."""
    # [solution]
    p = 1 / (1 + np.exp(-logits))
    return np.mean(signals[:, None] * (h - p), axis=0)
    # [end]


# %% [teacher]
@task("score_gradient", 2, "derive", "review report eq. 4", mistakes=[
    ("(h - p)", "(p - h)", "a large signal makes what was drawn more probable"),
    ("(h - p)", "h", "what is the derivative of log q by the logit, if the bit is 0?"),
    ("(h - p)", "(h - logits)", "a logit is no probability"),
    ("(h - p)", "(h / p - (1 - h) / (1 - p))", "that is the derivative by the probability, not by its logit"),
    ("(h - p)", "(h - p) * p * (1 - p)", "which factor does the derivative of log q not have, for logits?"),
    ("np.mean(signals", "np.sum(signals", "an expectation is estimated by a mean"),
    ("signals[:, None] * ", "signals.mean() * ", "each sample has a signal of its own"),
    ("signals[:, None] * ", "", "the expectation of the score alone is 0"),
])  # fmt: skip
def _(rng):
    for samples in (2, 5):
        logits, h, signals = rng.normal(size=3), bits(rng, samples, 3), rng.normal(-5, 2, samples)
        log_q = lambda a, h=h: bernoulli.logpmf(h, expit(a)).sum(axis=1)
        yield Case((logits, h, signals), by_differences(lambda a, s=signals, f=log_q: np.mean(s * f(a)), logits))


# %% [markdown]
# ## What a baseline does
#
# One latent bit, 1 with the probability p; its signal is l1 if it is 1, else l0. The derivative of L by its logit is
# estimated by one draw, with a baseline c. Before you draw any: what are mean and variance of this estimate?


# %%
def mean_and_variance(p, l1, l0, c):
    """Two numbers."""
    # [solution]
    one, zero = (1 - p) * (l1 - c), -p * (l0 - c)
    mean = p * one + (1 - p) * zero
    return mean, p * one**2 + (1 - p) * zero**2 - mean**2
    # [end]


# %% [teacher]
@task("mean_and_variance", 2, "predict", "review report eq. 4 and 8", mistakes=[
    (" - mean**2", "", "that is the mean square, not the variance"),
    ("(1 - p) * (l1 - c), -p * (l0 - c)", "(l1 - c) / p, -(l0 - c) / (1 - p)",
     "by the logit, not by the probability"),
    ("-p * (l0 - c)", "p * (l0 - c)", "a draw of 0 pulls the logit down"),
    ("-p * (l0 - c)", "0.0", "a draw of 0 teaches as well: what is its score?"),
    ("mean = p * one + (1 - p) * zero", "mean = 0.5 * (one + zero)", "the two values are drawn with p and 1 - p"),
    ("return mean,", "return mean - c,", "what does a constant change in the mean? The score's own mean is 0"),
    ("p * one**2 + (1 - p) * zero**2 - mean**2", "np.sqrt(p * one**2 + (1 - p) * zero**2 - mean**2)",
     "the variance is asked for, not the deviation"),
    ("one, zero = (1 - p) * (l1 - c), -p * (l0 - c)", "one, zero = l1 - c, l0 - c",
     "these are the signals: the estimate has the score as a factor"),
])  # fmt: skip
def _(rng):
    for count in (int(rng.integers(10, 40)), int(rng.integers(60, 90))):
        p, h = count / 100, np.repeat([1.0, 0.0], [count, 100 - count])  # as often as p says
        l1, l0, c = (float(v) for v in rng.normal(-5, 2, 3))
        draws = (np.where(h == 1, l1, l0) - c) * (h - p)
        yield Case((p, l1, l0, c), [draws.mean(), draws.var()])


# %% [markdown]
# ## The best constant
#
# Of one parameter: all states of h, each with its probability, signal, and score, the derivative of log q by the
# parameter. Derive the baseline c for which the estimate of eq. 8 by one draw has the least variance.


# %%
def best_baseline(q, signals, scores):
    """c, a number; q(h | x), l(x, h) and the scores of all states, (S,)."""
    # [solution]
    weights = q * scores**2
    return weights @ signals / weights.sum()
    # [end]


# %% [teacher]
@task("best_baseline", 3, "derive", "review report eq. 8", mistakes=[
    ("q * scores**2", "q", "the mean signal is not the best: where the score is large the signal matters more"),
    ("q * scores**2", "scores**2", "states have probabilities"),
    ("q * scores**2", "q * np.abs(scores)", "the mean of a square is made small: which power has the score?"),
    (" / weights.sum()", "", "if all signals are alike, c must be that signal"),
    ("weights @ signals / weights.sum()", "0.5 * (signals.max() + signals.min())",
     "set the derivative of the variance by c to 0"),
    ("weights @ signals / weights.sum()", "weights @ (signals - q @ signals) / weights.sum()",
     "a constant added to all signals must be added to c"),
    ("q * scores**2", "q**2 * scores**2", "a state is drawn with the probability q, not with its square"),
])  # fmt: skip
def _(rng):
    for states in (3, 5):
        q, signals, f = rng.dirichlet(2 * np.ones(states)), rng.normal(-5, 2, states), rng.normal(size=states)
        scores, at = f - q @ f, np.array([-8.0, -4.0, 0.0])
        square = [q @ ((signals - c) * scores) ** 2 for c in at]  # the mean is the same for each c
        a, b, _c = np.polyfit(at, square, 2)
        yield Case((q, signals, scores), -b / (2 * a))


# %% [markdown]
# ## NVIL
#
# Signals l and guesses C(x) of T minibatches come one after the other. Give what multiplies the score in each:
# (l - C(x) - c) / max(1, s). (The report has no s; it is Mnih and Gregor's.) c begins at 0, s at 1, and both are used
# as the minibatches before have left them. Then c becomes decay times c plus (1 - decay) times the mean of l - C(x),
# and s likewise with the standard deviation of l - C(x) - c.


# %%
def nvil(signals, guesses, decay):
    """The factors, (T, B); signals and guesses (T, B), decay a number below 1."""
    # [solution]
    c, s, factors = 0.0, 1.0, []
    for signal, guess in zip(signals, guesses, strict=True):
        rest = signal - guess - c
        factors.append(rest / max(1.0, s))
        c = decay * c + (1 - decay) * np.mean(signal - guess)
        s = decay * s + (1 - decay) * np.std(rest)
    return np.array(factors)
    # [end]


# %% [teacher]
@task("nvil", 4, "code", "review report eq. 8 and section 4.2", mistakes=[
    ("signal - guess - c", "signal - guess", "the running mean is taken off as well"),
    ("signal - guess - c", "signal - c", "the guess is taken off as well"),
    ("max(1.0, s)", "s", "a small signal is not made larger"),
    ("max(1.0, s)", "1.0", "a large signal is divided by its deviation"),
    ("max(1.0, s)", "min(1.0, s)", "which of the two is divided by: the larger or the smaller?"),
    ("np.std(rest)", "np.var(rest)", "the standard deviation, not the variance"),
    ("np.mean(signal - guess)", "np.mean(rest)", "c follows l - C(x): what c took off is not taken off again"),
    ("np.mean(signal - guess)", "np.mean(signal)", "c follows what the guess has left"),
    ("c = decay * c + (1 - decay) *", "c = (1 - decay) * c + decay *", "what is kept of c has the weight decay"),
    (None, """def nvil(signals, guesses, decay):
    c, s, factors = 0.0, 1.0, []
    for signal, guess in zip(signals, guesses, strict=True):
        c = decay * c + (1 - decay) * np.mean(signal - guess)
        s = decay * s + (1 - decay) * np.std(signal - guess)
        factors.append((signal - guess - c) / max(1.0, s))
    return np.array(factors)
""", "c and s of the minibatches before: if they see the present samples, the estimate is biased"),
])  # fmt: skip
def _(rng):
    for scale in (20.0, 0.3):
        steps, decay = 4, float(rng.uniform(0.6, 0.9))
        guesses = rng.normal(-6, 1, (steps, 4))
        signals = guesses - 2.0 + scale * rng.normal(size=(steps, 4))
        left, factors = signals - guesses, []
        for t in range(steps):
            share = (1 - decay) * decay ** np.arange(t)[::-1]  # of each minibatch before
            c = share @ left[:t].mean(axis=1)
            s = decay**t + share @ left[:t].std(axis=1)
            factors.append((left[t] - c) / (s if s > 1 else 1))
        yield Case((signals, guesses, decay), np.array(factors))


# %% [markdown]
# ## VIMCO's signals
#
# By how much has sample k raised the bound of K samples? Its weight is replaced by the geometric mean of the others'.


# %%
def vimco_signals(log_w):
    """The signals, (K, B), from log w, (K, B); K is at least 2."""
    # [solution]
    log_mean = lambda a: a.max(axis=0) + np.log(np.mean(np.exp(a - a.max(axis=0)), axis=0))
    signals = []
    for k in range(len(log_w)):
        others = np.delete(log_w, k, axis=0)
        replaced = np.concatenate([others, others.mean(axis=0, keepdims=True)])
        signals.append(log_mean(log_w) - log_mean(replaced))
    return np.array(signals)
    # [end]


# %% [teacher]
@task("vimco_signals", 3, "code", "review report eq. 9 and section 6.1; lesson report_review, section 4", mistakes=[
    ("log_mean(log_w) - log_mean(replaced)", "log_mean(log_w)", "that is the same signal for all: leave one out"),
    ("log_mean(log_w) - log_mean(replaced)", "log_mean(replaced) - log_mean(log_w)",
     "a sample that raises the bound gets a positive signal"),
    ("np.concatenate([others, others.mean(axis=0, keepdims=True)])", "others",
     "that puts the arithmetic mean of the others in its place"),
    ("np.delete(log_w, k, axis=0)", "log_w", "sample k must have no part in its own baseline"),
    ("others.mean(axis=0, keepdims=True)", "log_w.mean(axis=0, keepdims=True)",
     "the geometric mean of the others alone"),
    ("others.mean(axis=0, keepdims=True)", "others.max(axis=0, keepdims=True)", "a mean, and not the largest"),
    ("a.max(axis=0) + np.log(np.mean(np.exp(a - a.max(axis=0)), axis=0))", "np.log(np.mean(np.exp(a), axis=0))",
     "the weights themselves vanish: take the largest out first"),
    ("log_mean(log_w) - log_mean(replaced)", "log_w[k] - others.mean(axis=0)",
     "how much the bound rises, not how much the weight"),
])  # fmt: skip
def _(rng):
    for samples in (2, 4):
        log_w = levels(rng, samples)
        signals = [[log_mean_exp(column) - without(column, k) for column in log_w.T] for k in range(samples)]
        yield Case((log_w,), np.array(signals))


# %% [markdown]
# ## VIMCO's gradient, with a fault
#
# The mean of the estimate over all draws of K samples must be the gradient of the bound of K samples by the encoder's
# logits. With the code below it is not: the bound depends on the encoder in two ways. Mend it. The scores are the
# gradients of log q(h_k | x).


# %%
def vimco_gradient(log_w, signals, scores):
    """The estimate, (J,): log w and VIMCO's signals of K samples, (K,), and their scores, (K, J)."""
    # [solution]
    weights = np.exp(log_w - log_w.max())
    return (signals - weights / weights.sum()) @ scores
    # [blank]
    # return signals @ scores
    # [end]


# %% [teacher]
@task("vimco_gradient", 3, "fault", "review report eq. 9 and section 6.1; lesson report_review, section 4", mistakes=[
    ("(signals - weights / weights.sum())", "signals", "q also stands in the weights, below the line"),
    ("signals - weights / weights.sum()", "signals + weights / weights.sum()",
     "log w falls if log q rises: check the sign"),
    ("weights / weights.sum()", "1 / len(signals)", "the gradient of a log of a mean: which sample counts how much?"),
    ("weights / weights.sum()", "weights", "the weights of that mean add up to 1"),
    ("signals - weights / weights.sum()", "-weights / weights.sum()", "where are the signals?"),
    ("signals - weights / weights.sum()", "signals * weights / weights.sum()",
     "the two parts are added: a signal is not weighted"),
    ("(signals - weights / weights.sum()) @ scores", "(signals - weights / weights.sum()) @ scores / len(signals)",
     "a sum over the samples, not a mean"),
])  # fmt: skip
def _(rng):
    states = np.array(list(np.ndindex(2, 2)), float)
    log_p, logits = 1.5 * rng.normal(size=4) - 6, rng.normal(size=2)
    log_q = lambda a: log_expit((2 * states - 1) * a).sum(axis=1)
    pairs = np.array(list(np.ndindex(4, 4)))

    def bound(a, held=None):
        """The mean over all pairs; with ``held`` these are drawn by it."""
        w = log_p - log_q(a)
        return np.exp(log_q(a))[pairs].prod(axis=1) @ [log_mean_exp(w[pair]) for pair in pairs]

    log_w, scores = (log_p - log_q(logits))[pairs], (states - expit(logits))[pairs]
    signals = np.array([[log_mean_exp(w) - without(w, k) for k in range(2)] for w in log_w])
    mass = np.exp(log_q(logits))[pairs].prod(axis=1)
    sums = "lambda f, mass, *each: sum(m * np.asarray(f(*one)) for m, *one in zip(mass, *each))"
    yield Case((mass, log_w, signals, scores), by_differences(bound, logits), rtol=1e-5, driver=sums)
    log_w, signals, scores = levels(rng, 3)[:, 2], rng.normal(size=3), rng.normal(size=(3, 2))
    surrogate = lambda t: signals @ (scores @ t) + log_mean_exp(log_w + 900 - scores @ t)
    yield Case((log_w, signals, scores), by_differences(surrogate, np.zeros(2)), rtol=1e-5)


# %% [markdown]
# ## Reweighted wake-sleep
#
# The wake phase of both networks, from K samples: the gradients of log p(x, h_k) by the decoder's parameters and of log
# q(h_k | x) by the encoder's are given.


# %%
def wake(log_w, by_decoder, by_encoder):
    """Of the decoder, (B, P), and the encoder, (B, R), from log w, (K, B), (K, B, P) and (K, B, R)."""
    # [solution]
    weights = np.exp(log_w - log_w.max(axis=0))
    weights = (weights / weights.sum(axis=0))[..., None]
    return np.sum(weights * by_decoder, axis=0), np.sum(weights * by_encoder, axis=0)
    # [end]


# %% [teacher]
@task("wake", 2, "code", "review report eq. 13 to 15", mistakes=[
    ("(weights / weights.sum(axis=0))", "weights", "eq. 14 prints weights that do not add up to 1: they must"),
    ("weights.sum(axis=0)", "weights.sum()", "each datum's weights add up to 1"),
    ("log_w - log_w.max(axis=0)", "log_w", "the weights themselves vanish: take the largest out first"),
    ("np.sum(weights * by_encoder", "-np.sum(weights * by_encoder",
     "the encoder learns by maximum likelihood, too: its sign is not that of a bound"),
    ("np.sum(weights * by_encoder, axis=0)", "np.mean(by_encoder, axis=0)",
     "the encoder's samples are weighted as well: that is what makes them stand for the posterior"),
    ("np.sum(weights * by_decoder, axis=0)", "np.mean(by_decoder, axis=0)", "the decoder's samples are weighted"),
    ("np.sum(weights * by_decoder", "np.mean(weights * by_decoder", "the weights add up to 1 already"),
    ("np.sum(weights * by_encoder", "np.sum(weights**2 * by_encoder", "the same weights for both, no squares"),
])  # fmt: skip
def _(rng):
    for samples in (2, 4):
        log_w, by = levels(rng, samples), [rng.normal(size=(samples, 3, 2)), rng.normal(size=(samples, 3, 4))]
        share = [[np.exp(v - logsumexp(column)) for v in column] for column in log_w.T]
        found = [[sum(share[b][k] * g[k, b] for k in range(samples)) for b in range(3)] for g in by]
        yield Case((log_w, *by), [np.array(f) for f in found])


# %% [markdown]
# ## As it is printed
#
# Take the sum over k in eq. 14 with the weights w_k as they are, p(x, h_k) / q(h_k | x). Before you run it: how many
# times as long as the gradient of log p(x) is its mean over all draws? Give the logarithm of that factor.


# %%
def factor(joint, q, k):
    """A number; p(x, h) and q(h | x) of all states h, (S,), and the number of samples K."""
    # [solution]
    return np.log(k * joint.sum())
    # [end]


# %% [teacher]
@task("factor", 2, "predict", "review report eq. 13 and 14", mistakes=[
    ("k * joint.sum()", "joint.sum()", "the sum has K terms, which have all the same mean"),
    ("k * joint.sum()", "joint.sum() / k", "is there a 1 / K in the sum?"),
    ("np.log(k * joint.sum())", "k * joint.sum()", "the logarithm of the factor is asked for"),
    ("np.log(k * joint.sum())", "-np.log(k * joint.sum())", "p(x) is far below 1: does the gradient get longer?"),
    ("k * joint.sum()", "k", "what is the mean of one weight?"),
    ("joint.sum()", "np.sum(q * joint)", "a weight has q below the line, and is drawn by q: what is left?"),
    ("joint.sum()", "np.sum(joint / q)", "states are drawn by q, which cancels"),
])  # fmt: skip
def _(rng):
    for k in (2, 3):
        joint, q, g = 0.02 * rng.dirichlet(np.ones(3)), rng.dirichlet(2 * np.ones(3)), rng.normal(size=(3, 4))
        true = joint @ g / joint.sum()
        mean = sum(np.prod(q[list(draw)]) * sum(joint[h] / q[h] * g[h] for h in draw) for draw in np.ndindex(*(3,) * k))
        yield Case((joint, q, k), float(np.log(mean @ true / (true @ true))))


# %% [markdown]
# ## Where the encoder ends
#
# The wake phase trains the encoder with very many samples, and the model is held. For one x: p(x, h) of all J bits is a
# table, `joint[0, 1]` for h = (0, 1). Derive the probabilities q(h_j = 1 | x) at which it comes to rest.


# %%
def resting(joint):
    """The probabilities, (J,); joint of shape (2, ..., 2)."""
    # [solution]
    posterior = joint / joint.sum()
    return np.array([posterior.take(1, axis=j).sum() for j in range(joint.ndim)])
    # [end]


# %% [teacher]
@task("resting", 3, "derive", "review report eq. 15", mistakes=[
    ("joint / joint.sum()", "joint", "samples stand for the posterior: p(x, h) does not add up to 1"),
    ("take(1, axis=j)", "take(0, axis=j)", "the probability of a 1 is asked for"),
    ("np.array([posterior.take(1, axis=j).sum() for j in range(joint.ndim)])",
     "np.array(np.unravel_index(posterior.argmax(), joint.shape)) * 1.0",
     "that is the most probable h: all h count, as often as the posterior draws them"),
    (".take(1, axis=j).sum()", ".take(1, axis=j).max()", "all states with a 1 at j count"),
    ("range(joint.ndim)", "range(joint.ndim)[::-1]", "axis j of the table is bit j"),
    ("posterior.take(1, axis=j).sum()", "np.log(posterior.take(1, axis=j).sum() / posterior.take(0, axis=j).sum())",
     "these are logits: probabilities are asked for"),
    (None, """def resting(joint):
    q = np.full(joint.ndim, 0.6)
    for _ in range(500):
        for j in range(joint.ndim):
            t = np.moveaxis(np.log(joint), j, -1)
            for i in np.delete(np.arange(joint.ndim), j):
                t = (1 - q[i]) * t[0] + q[i] * t[1]
            q[j] = 1 / (1 + np.exp(t[0] - t[1]))
    return q
""", "your q minimises KL(q || p(h | x)); which divergence is it here, where the samples stand for the posterior?"),
])  # fmt: skip
def _(rng):
    for dims in (2, 3):
        joint = 0.02 * rng.dirichlet(np.full(2**dims, 0.8) + 0.2).reshape((2,) * dims)
        states, p = np.array(list(np.ndindex(*joint.shape)), float), joint.ravel() / joint.sum()
        cost = lambda a, states=states, p=p: -p @ log_expit((2 * states - 1) * a).sum(axis=1)
        yield Case((joint,), expit(minimize(cost, np.zeros(dims), options={"gtol": 1e-9}).x), rtol=1e-4)


# %% [markdown]
# ## A step of refinement
#
# Now the latents h are J numbers, with the prior N(0, I), and q~ is N(mu, diag(sigma^2)) of one datum. Its parameters
# mu and log sigma take one step of gradient ascent on the bound: the mean of log p(x | h_n) over samples h_n = mu +
# sigma eps_n, less KL(q~ || p(h)). Derive the step; `slope(h)` is the gradient of log p(x | h), (N, J) for h (N, J).


# %%
def refine(mu, log_sigma, eps, slope, gamma):
    """mu and log sigma after the step, (J,) each; noise eps (N, J), and the step's length gamma."""
    # [solution]
    sigma = np.exp(log_sigma)
    g = slope(mu + sigma * eps)
    by_mu = g.mean(axis=0) - mu
    by_log_sigma = np.mean(g * sigma * eps, axis=0) + 1 - sigma**2
    return mu + gamma * by_mu, log_sigma + gamma * by_log_sigma
    # [end]


# %% [teacher]
@task("refine", 4, "derive", "refinement report eq. 3 to 5", mistakes=[
    ("mu + gamma * by_mu, log_sigma + gamma * by_log_sigma", "mu - gamma * by_mu, log_sigma - gamma * by_log_sigma",
     "eq. 3 is a bound, though the text calls it a loss: up or down?"),
    ("g.mean(axis=0) - mu", "g.mean(axis=0)", "mu: the prior pulls it as well"),
    (" + 1 - sigma**2", "", "log sigma: the divergence from the prior depends on it"),
    (" + 1 - sigma**2", " - sigma**2", "log sigma: q's entropy grows with it"),
    (" + 1 - sigma**2", " - 1 + sigma**2", "log sigma: where is KL(q~ || p(h)) smallest? Check the sign"),
    (" + 1 - sigma**2", " + 1 / sigma - sigma", "log sigma: the prior's part is a derivative by sigma"),
    ("g * sigma * eps", "g * eps", "log sigma: h moves by sigma eps if log sigma grows by 1"),
    ("slope(mu + sigma * eps)", "slope(mu + 0 * eps)", "the slope is asked at the samples, not at their mean"),
    ("np.exp(log_sigma)", "np.exp(0.5 * log_sigma)", "sigma is the standard deviation, whatever the text calls it"),
    ("g.mean(axis=0)", "g.sum(axis=0)", "the mean over the samples is taken"),
])  # fmt: skip
def _(rng):
    for samples in (1, 4):
        a, c, x = rng.normal(size=(2, 5)).round(3), rng.normal(size=5).round(3), bits(rng, 2, 5)[0]
        logits = f"h @ np.array({a.tolist()}) + np.array({c.tolist()})"
        slope = Source(f"lambda h: (np.array({x.tolist()}) - 1 / (1 + np.exp(-({logits})))) @ np.array({a.tolist()}).T")
        mu, log_sigma, eps, gamma = rng.normal(size=2), rng.normal(-0.5, 0.3, 2), rng.normal(size=(samples, 2)), 0.1
        eps = np.where(np.abs(eps) < 0.1, 0.5, eps)

        def bound(z, x=x, a=a, c=c, eps=eps):
            sigma = np.exp(z[2:])
            log_px = log_expit((2 * x - 1) * ((z[:2] + sigma * eps) @ a + c)).sum(axis=1).mean()
            return log_px - np.sum(0.5 * (z[:2] ** 2 + sigma**2 - 1) - z[2:])

        z = np.concatenate([mu, log_sigma])
        z = z + gamma * by_differences(bound, z)
        yield Case((mu, log_sigma, eps, slope, gamma), [z[:2], z[2:]])


# %% [markdown]
# ## Importance sampling in place of gradients
#
# Again bits. q~ has the means `mean`, N samples h are drawn from it, and eq. 9 gives the next means. As printed it goes
# wrong in two ways: it divides by the encoder's q(h | x), from which the samples do not come, and it moves all the way,
# onto a few samples. Mend both: only a share d of the old means is replaced. log p(x, h) can be -900.


# %%
def adapt(mean, encoder, h, log_p, d):
    """The next means, (J,); the encoder's means (J,), samples h (N, J), log p(x, h) of each, (N,), and d."""
    # [solution]
    log_q = np.sum(h * np.log(mean) + (1 - h) * np.log(1 - mean), axis=1)
    w = np.exp(log_p - log_q - np.max(log_p - log_q))
    return (1 - d) * mean + d * (w / w.sum()) @ h
    # [blank]
    # log_q = np.sum(h * np.log(encoder) + (1 - h) * np.log(1 - encoder), axis=1)
    # w = np.exp(log_p - log_q - np.max(log_p - log_q))
    # return (w / w.sum()) @ h
    # [end]


# %% [teacher]
@task("adapt", 3, "fault", "refinement report eq. 9", mistakes=[
    (None, """def adapt(mean, encoder, h, log_p, d):
    log_q = np.sum(h * np.log(encoder) + (1 - h) * np.log(1 - encoder), axis=1)
    w = np.exp(log_p - log_q - np.max(log_p - log_q))
    return (w / w.sum()) @ h
""", "as printed: which distribution have the samples, and how far do the means move?"),
    ("h * np.log(mean) + (1 - h) * np.log(1 - mean)", "h * np.log(encoder) + (1 - h) * np.log(1 - encoder)",
     "a weight divides by the distribution that the samples are drawn from"),
    ("(1 - d) * mean + d * (w / w.sum()) @ h", "(w / w.sum()) @ h", "only a share d of the means is replaced"),
    ("(1 - d) * mean + d *", "d * mean + (1 - d) *", "with d = 0 nothing moves"),
    ("(w / w.sum())", "w", "the weights add up to 1"),
    (" - np.max(log_p - log_q)", "", "the weights themselves vanish: take the largest out first"),
    ("np.exp(log_p - log_q -", "np.exp(log_p + log_q -", "what q~ draws often must weigh less"),
    ("h * np.log(mean) + (1 - h) * np.log(1 - mean)", "h * np.log(mean)", "bits of 0 have a probability too"),
    ("(w / w.sum()) @ h", "h.mean(axis=0)", "the samples are weighted"),
])  # fmt: skip
def _(rng):
    for level, d in ((-3.0, 0.1), (-900.0, 0.3)):
        mean, encoder = rng.uniform(0.2, 0.8, (2, 3))
        h, log_p = bits(rng, 6, 3), level + rng.normal(size=6)
        share = softmax(log_p - bernoulli.logpmf(h, mean).sum(axis=1))
        yield Case(
            (mean, encoder, h, log_p, d), mean + d * (sum(s * one for s, one in zip(share, h, strict=True)) - mean)
        )
