"""Checks of chapter 4, autoregressive models: MADE, its orderings, and what synthesis costs (thesis section 4.3)."""

import itertools

import numpy as np
from scipy.special import expit
from scipy.stats import chi2

from minivi import nn
from minivi.experiments import Claim, check
from minivi.random import Generator
from minivi.tensor import Parameter, grad

# %% [markdown]
# ## Equation checks

# %%
BITS = np.array(list(itertools.product([0.0, 1.0], repeat=7)))


def small(**settings):
    """A network of 7 binary variables in float64 with biases that are not zero."""
    options = {"activation": "tanh", "dtype": "float64", "init": nn.normal(0.7)} | settings
    return nn.MADE(7, (16, 16), Generator(1), out_bias=Generator(2).standard_normal(7), **options)


KINDS = {
    "natural order": {},
    "cyclic degrees, reversed": {"degrees": "cyclic", "ordering": np.arange(7)[::-1]},
    "three masks": {"ordering": "random", "degrees": "random", "masks": 3},
}


@check("4.8", "the product of the conditionals sums to one over all 2^D vectors, for each ordering and the ensemble")
def sums_to_one():
    """Each mask by itself, and the mean of their probabilities."""
    claims = []
    for name, kind in KINDS.items():
        model = small(**kind)
        for mask in range(len(model.masks)):
            total = np.exp(np.asarray(model.log_prob(BITS, mask=mask))).sum()
            claims.append(Claim(total, "=", 1.0, 1e-12, f"{name}, mask {mask}"))
        claims.append(Claim(np.exp(np.asarray(model.ensemble_log_prob(BITS))).sum(), "=", 1.0, 1e-12, f"{name}, mean"))
    return claims


@check("4.8", "its factors are the conditionals of the joint distribution")
def factors_are_conditionals():
    """p(x_j = 1 | x_<j) from sums over the enumerated joint, against the network's output, for every prefix."""
    claims = []
    for name, kind in KINDS.items():
        model = small(**kind)
        for mask, about in enumerate(model.masks):
            joint = np.exp(np.asarray(model.log_prob(BITS, mask=mask))).reshape([2] * 7)
            joint = joint.transpose(about.order)  # axis i: the variable drawn i-th
            ours = expit(np.asarray(model(BITS, mask=mask))).reshape([2] * 7 + [7])
            ours = ours.transpose([*about.order, 7])
            worst = 0.0
            for i, j in enumerate(about.order):
                prefix = joint.sum(axis=tuple(range(i + 1, 7)))
                expected = (prefix[..., 1] / prefix.sum(axis=-1)).reshape([2] * i + [1] * (7 - i))
                worst = max(worst, np.abs(ours[..., j] - expected).max())
            claims.append(Claim(worst, "=", 0.0, 1e-12, f"{name}, mask {mask}: largest error of a probability"))
    return claims


@check("4.9", "the parameters of p(x_j | x_<j) are functions of x_<j alone: other derivatives are exactly zero")
def strictly_triangular():
    """All derivatives d output_j / d x_k, sorted by the ordering."""
    claims = []
    for name, kind in KINDS.items():
        model = small(**kind)
        for mask, about in enumerate(model.masks):
            x = Parameter(Generator(3).standard_normal(7))
            y = model(x, mask=mask)
            jacobian = np.stack([grad(y[j], x) for j in range(7)])[np.ix_(about.order, about.order)]
            rest = np.abs(np.triu(jacobian)).max()
            claims.append(Claim(rest, "=", 0.0, 0.0, f"{name}, mask {mask}: on and above the diagonal"))
            if "masks" not in kind:  # of few units with random degrees, some see little
                least = np.abs(jacobian[np.tril_indices(7, -1)]).min()
                claims.append(Claim(least, ">=", 1e-6, 0.0, f"{name}: below it, the smallest"))
    return claims


@check("section 4.3", "one pass gives the likelihood for which D passes, one for each prefix, are the definition")
def one_pass_for_all_prefixes():
    """Pass j sees noise in place of x_j and what comes behind it."""
    model = small(ordering="random", masks=2)
    x, total = BITS[::9], np.zeros(len(BITS[::9]))
    place = np.argsort(model.masks[1].order)
    for j in range(7):
        other = Generator([4, j]).standard_normal(x.shape)
        logit = np.asarray(model(np.where(place < place[j], x, other), mask=1))[:, j]
        total += np.log(expit(np.where(x[:, j] == 1.0, logit, -logit)))
    gap = np.abs(total - np.asarray(model.log_prob(x, mask=1))).max()
    return Claim(gap, "=", 0.0, 1e-12, "largest difference, nats")


@check("section 4.3", "ancestral sampling, one variable after the other, draws from the product")
def samples_follow_the_product():
    """Pearson's statistic of 20,000 fast samples against the enumerated probabilities; naive samples are the same."""
    model, count = small(ordering="random"), 20_000
    p = np.exp(np.asarray(model.log_prob(BITS)))
    noise = Generator(5).random((count, 7))
    x = model.from_noise(noise)
    found = np.bincount((x @ 2.0 ** np.arange(6, -1, -1)).astype(int), minlength=128)
    likely = count * p >= 5
    found, expected = (np.append(a[likely], a[~likely].sum()) for a in (found, count * p))
    bound = chi2.ppf(1 - 1e-4, len(found) - 1)
    naive = model.from_noise(noise[:500], naive=True)
    return [
        Claim(((found - expected) ** 2 / expected).sum(), "<=", bound, 0.0, "chi-square at its 0.9999 quantile"),
        Claim((naive != x[:500]).sum(), "=", 0.0, 0.0, "pixels that the naive sampler draws otherwise"),
    ]
