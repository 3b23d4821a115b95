"""Exercises: learning with discrete latents, and refinement (review report, refinement report).

Beside the lessons `chapters/report_review.py` and `report_refinement.py`. Replace each `raise NotImplementedError` by
your code, then run `minivi grade chapters/exercises/report_review.py`. NumPy is all that is needed. h are latent bits,
q(h | x) the encoder, whose bits are independent, with a logit each. Weights are w = p(x, h) / q(h | x), of K samples h
from q; log w can be -900. Logarithms are natural, in nats. No function may write into its arguments.
"""

# %%
import numpy as np

# %% [markdown]
# ## 1. The learning signal
#
# *Write it; 2 points; review report eq. 7.*
#
# The decoder makes logits of D pixels of h, the prior of h has logits too. All bits are independent of each other.


# %%
def learning_signal(x, h, x_logits, prior_logits, q_logits):
    """l(x, h), (B,); x and x_logits (B, D), h and q_logits (B, J), prior_logits (J,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 2. The score
#
# *Derive it; 2 points; review report eq. 4.*
#
# Derive the estimate of the gradient of L(x) by the encoder's logits, from K samples h and their signals.


# %%
def score_gradient(logits, h, signals):
    """The estimate, (J,): logits (J,), samples h (K, J), signals l(x, h), (K,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 3. What a baseline does
#
# *Predict it; 2 points; review report eq. 4 and 8.*
#
# One latent bit, 1 with the probability p; its signal is l1 if it is 1, else l0. The derivative of L by its logit is
# estimated by one draw, with a baseline c. Before you draw any: what are mean and variance of this estimate?


# %%
def mean_and_variance(p, l1, l0, c):
    """Two numbers."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 4. The best constant
#
# *Derive it; 3 points; review report eq. 8.*
#
# Of one parameter: all states of h, each with its probability, signal, and score, the derivative of log q by the
# parameter. Derive the baseline c for which the estimate of eq. 8 by one draw has the least variance.


# %%
def best_baseline(q, signals, scores):
    """c, a number; q(h | x), l(x, h) and the scores of all states, (S,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 5. NVIL
#
# *Write it; 4 points; review report eq. 8 and section 4.2.*
#
# Signals l and guesses C(x) of T minibatches come one after the other. Give what multiplies the score in each:
# (l - C(x) - c) / max(1, s). (The report has no s; it is Mnih and Gregor's.) c begins at 0, s at 1, and both are used
# as the minibatches before have left them. Then c becomes decay times c plus (1 - decay) times the mean of l - C(x),
# and s likewise with the standard deviation of l - C(x) - c.


# %%
def nvil(signals, guesses, decay):
    """The factors, (T, B); signals and guesses (T, B), decay a number below 1."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 6. VIMCO's signals
#
# *Write it; 3 points; review report eq. 9 and section 6.1; lesson report_review, section 4.*
#
# By how much has sample k raised the bound of K samples? Its weight is replaced by the geometric mean of the others'.


# %%
def vimco_signals(log_w):
    """The signals, (K, B), from log w, (K, B); K is at least 2."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 7. VIMCO's gradient, with a fault
#
# *Find the fault; 3 points; review report eq. 9 and section 6.1; lesson report_review, section 4.*
#
# The mean of the estimate over all draws of K samples must be the gradient of the bound of K samples by the encoder's
# logits. With the code below it is not: the bound depends on the encoder in two ways. Mend it. The scores are the
# gradients of log q(h_k | x).


# %%
def vimco_gradient(log_w, signals, scores):
    """The estimate, (J,): log w and VIMCO's signals of K samples, (K,), and their scores, (K, J)."""
    return signals @ scores


# %% [markdown]
# ## 8. Reweighted wake-sleep
#
# *Write it; 2 points; review report eq. 13 to 15.*
#
# The wake phase of both networks, from K samples: the gradients of log p(x, h_k) by the decoder's parameters and of log
# q(h_k | x) by the encoder's are given.


# %%
def wake(log_w, by_decoder, by_encoder):
    """Of the decoder, (B, P), and the encoder, (B, R), from log w, (K, B), (K, B, P) and (K, B, R)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 9. As it is printed
#
# *Predict it; 2 points; review report eq. 13 and 14.*
#
# Take the sum over k in eq. 14 with the weights w_k as they are, p(x, h_k) / q(h_k | x). Before you run it: how many
# times as long as the gradient of log p(x) is its mean over all draws? Give the logarithm of that factor.


# %%
def factor(joint, q, k):
    """A number; p(x, h) and q(h | x) of all states h, (S,), and the number of samples K."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 10. Where the encoder ends
#
# *Derive it; 3 points; review report eq. 15.*
#
# The wake phase trains the encoder with very many samples, and the model is held. For one x: p(x, h) of all J bits is a
# table, `joint[0, 1]` for h = (0, 1). Derive the probabilities q(h_j = 1 | x) at which it comes to rest.


# %%
def resting(joint):
    """The probabilities, (J,); joint of shape (2, ..., 2)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 11. A step of refinement
#
# *Derive it; 4 points; refinement report eq. 3 to 5.*
#
# Now the latents h are J numbers, with the prior N(0, I), and q~ is N(mu, diag(sigma^2)) of one datum. Its parameters
# mu and log sigma take one step of gradient ascent on the bound: the mean of log p(x | h_n) over samples h_n = mu +
# sigma eps_n, less KL(q~ || p(h)). Derive the step; `slope(h)` is the gradient of log p(x | h), (N, J) for h (N, J).


# %%
def refine(mu, log_sigma, eps, slope, gamma):
    """mu and log sigma after the step, (J,) each; noise eps (N, J), and the step's length gamma."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 12. Importance sampling in place of gradients
#
# *Find the fault; 3 points; refinement report eq. 9.*
#
# Again bits. q~ has the means `mean`, N samples h are drawn from it, and eq. 9 gives the next means. As printed it goes
# wrong in two ways: it divides by the encoder's q(h | x), from which the samples do not come, and it moves all the way,
# onto a few samples. Mend both: only a share d of the old means is replaced. log p(x, h) can be -900.


# %%
def adapt(mean, encoder, h, log_p, d):
    """The next means, (J,); the encoder's means (J,), samples h (N, J), log p(x, h) of each, (N,), and d."""
    log_q = np.sum(h * np.log(encoder) + (1 - h) * np.log(1 - encoder), axis=1)
    w = np.exp(log_p - log_q - np.max(log_p - log_q))
    return (w / w.sum()) @ h
