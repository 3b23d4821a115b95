"""Exercises: semi-supervised learning (thesis chapter 3).

Beside the lesson `chapters/ch03_semi_supervised.py`. Replace each `raise NotImplementedError` by your code, then run
`minivi grade chapters/exercises/ch03_semi_supervised.py`. NumPy is all that is needed. The model is M2: a class y, one
of C, a latent z, J numbers, and an image x of D binary pixels. Classes are one-hot where a network sees them, else
numbers from 0. Logarithms are natural. No function may write into its arguments.
"""

# %%
import numpy as np

# %% [markdown]
# ## 1. The classifier's output
#
# *Write it; 2 points; thesis eq. 3.5.*
#
# q(y | x) is a categorical distribution, whose probabilities a network makes of logits, numbers without any limit. Give
# log q(y | x) for all classes. Logits may be in the thousands, and none of the results may be infinite then.


# %%
def log_q(logits):
    """log q(y | x), (B, C), from logits (B, C)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 2. The bound of an image whose class is known
#
# *Write it; 4 points; thesis eq. 3.7 and 3.11.*
#
# One draw's estimate of L(x, y), with all four terms sampled: z = mu + sigma eps from q(z | x, y), p(y) = 1 / C,
# p(z) = N(0, I), and pixels from Bernoulli distributions, whose logits are `decoder(z, y)`.


# %%
def labelled_bound(x, y, mu, log_sigma, eps, decoder):
    """A number, in nats; x (D,) of zeros and ones, y (C,) one-hot, mu, log_sigma, eps (J,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 3. The bound of an image whose class is not known
#
# *Find the fault; 2 points; thesis eq. 3.8.*
#
# U(x), from L(x, y) for each class and the classifier's log q(y | x): the class is summed out. The code below loses a
# term of eq. 3.8 on its way. Mend it.


# %%
def unlabelled_bound(bounds, log_q):
    """U(x), (B,), in nats; bounds L(x, y) and log_q of all classes, each (B, C)."""
    q = np.exp(log_q)
    return np.sum(q * bounds, axis=1)


# %% [markdown]
# ## 4. What U asks of the classifier
#
# *Derive it; 3 points; thesis eq. 3.8.*
#
# Let L(x, y) of all classes be given and fixed. Derive the q(y | x) that makes U(x) largest, and U(x) there.


# %%
def best_classifier(bounds):
    """q(y | x), (C,), and the largest U(x), a number; bounds L(x, y) of all classes, (C,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 5. What U misses
#
# *Derive it; 3 points; thesis eq. 3.8.*
#
# How far is U(x) below log p(x)? Derive it from the classifier q(y | x), the true p(y | x), and, for each class, the
# divergence KL(q(z | x, y) || p(z | x, y)) of the encoder.


# %%
def gap(q, p, of_z):
    """log p(x) - U(x), a number in nats; q and p of all classes, and the encoder's divergence in each, (C,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 6. How an image without a label teaches the classifier
#
# *Derive it; 3 points; thesis eq. 3.8.*
#
# Derive the gradient of U(x) with respect to the classifier's logits, L(x, y) being fixed.


# %%
def slope_of_u(bounds, logits):
    """dU / d logits, (C,); bounds L(x, y) of all classes, (C,)."""
    q = np.exp(logits - logits.max())
    q = q / q.sum()
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 7. Drawn in the place of summed
#
# *Predict it; 2 points; thesis eq. 3.8 and Algorithm 4.*
#
# Algorithm 4 draws one y from q(y | x) where eq. 3.8 sums over all. Before you try it: which mean and which variance
# has this estimate of U(x), with L(x, y) known exactly?


# %%
def drawn(bounds, q):
    """Mean and variance of the estimate by one y from q; bounds L(x, y) and q of all classes, (C,)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 8. The objective of a minibatch
#
# *Find the fault; 2 points; thesis eq. 3.9 and 3.10.*
#
# J^alpha for the whole data set, N_l images with a label and N_u without, estimated from minibatches of both; alpha =
# 0.1 N, N being the number of all images. J^alpha is maximised. The code follows eq. 3.10 as it is printed. Mend it.


# %%
def objective(labelled, log_q_label, unlabelled, n_l, n_u):
    """J^alpha, a number: L and log q(y | x) of M_l labelled images, (M_l,), and U of M_u others, (M_u,)."""
    alpha = 0.1 * (n_l + n_u)
    j = n_l * np.mean(labelled) + n_u * np.mean(unlabelled)
    return j + alpha * np.mean(-log_q_label)


# %% [markdown]
# ## 9. How much a label weighs
#
# *Predict it; 2 points; thesis eq. 3.10 and section 3.3.3.*
#
# Before you look it up in the lesson: log q(y | x) of *one* labelled image weighs how many times as much in J^alpha as
# its L(x, y), for alpha = c N? And what does one pass over all images cost, in passes of one image through the decoder,
# if y is summed over C classes where it is not known and z is drawn S times for each class?


# %%
def weight_and_cost(n_l, n_u, c, classes, draws):
    """Two numbers: the weight of log q over that of L, and the decoder's passes."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 10. The model's own answer
#
# *Write it; 3 points; thesis section 3.2.2.*
#
# q(y | x) is a quick guess. The model's answer is p(y | x), by Bayes' rule from p(x, y), which is estimated for each
# class by K importance samples: log w = log p(x, y, z_k) - log q(z_k | x, y), as low as -1000.


# %%
def class_probabilities(log_w):
    """The estimate of p(y | x), (C,), from log w, (K, C)."""
    raise NotImplementedError("to be written")


# %% [markdown]
# ## 11. One style, all classes
#
# *Write it; 2 points; thesis Figure 3.1 and eq. 3.2.*
#
# The analogies of Figure 3.1: each style z is decoded with each class. Give the mean images, probabilities of pixels;
# the logits are `decoder(z, y)`, for z (..., J) and one-hot classes y (..., C).


# %%
def analogies(z, classes, decoder):
    """Probabilities of pixels, (n, C, D): z (n, J), the number of classes C."""
    raise NotImplementedError("to be written")
