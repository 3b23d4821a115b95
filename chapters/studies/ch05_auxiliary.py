"""Chapter 5, auxiliary latent variables: a richer posterior at a price (thesis section 5.2.1).

If q(z | x) draws a variable u first, its marginal over z is a mixture, as flexible as can be. But nobody can compute
that mixture's density; the bound that can be computed pays for not knowing u. When does the bargain pay?
"""

# %% [markdown]
# Both models get a u (eq. 5.1-5.3), which leaves p(x, z) as it is:
#
#     q(u, z | x) = q(u | x) q(z | u, x)           p(x, z, u) = p(u | x, z) p(x, z)
#
# The objective is E log p(x, z, u) - log q(u, z | x). Eq. 5.4 and 5.5 call it a divergence; they differ by a sign and a
# constant: objective = -KL(q_D(x, z, u) || p(x, z, u)) - H(q_D(x)), with the entropy H of the data (see the checks).
# And (eq. 5.6-5.9)
#
#     KL(q_D(x, z, u) || p) = KL(q_D(x, z) || p(x, z)) + E KL(q(u | x, z) || p(u | x, z))       the price of u
#     KL(q_D(x, z) || p)    = KL(q_D(x) || p(x)) + E KL(q(z | x) || p(z | x))                   the gap that u may close

# %%
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

from minivi import bounds, data, evaluation, nn, optim, plots
from minivi.experiments import Claim, Result, Row, experiment
from minivi.models import VAE
from minivi.models.directed import auxiliary
from minivi.random import Generator
from minivi.tensor import no_grad

# %% [markdown]
# ## A model small enough to sum over
#
# One datum, and z of three bits in a row, neighbours coupled by c: log p(z | x) = c (number of equal neighbours) + 0.1
# (number of ones) + constant. A factorised q(z | x) cannot correlate the bits; with one bit u, q(z | u, x) can, by a
# mixture of two. So that there is a price, p(u | x, z) is too simple: it sees the first bit of z alone, and is never
# surer than 88 %. All objectives are sums of sixteen terms, and are minimised numerically.

# %%
STATES = np.array([[z >> i & 1 for i in range(3)] for z in range(8)])


def log_posterior(coupling):
    """log p(z | x) over STATES."""
    equal = (STATES[:, 1:] == STATES[:, :-1]).sum(axis=1)
    return log_softmax(coupling * equal + 0.1 * STATES.sum(axis=1))


def log_factorised(logits):
    """log q over STATES of independent bits."""
    return -np.logaddexp(0, np.where(STATES == 1, -logits, logits)).sum(axis=1)


def with_u(theta):
    """log q(u, z | x), (2, 8), and log p(u | x, z), (2, 8), from nine numbers."""
    log_q = np.stack([log_factorised(theta[1:4]), log_factorised(theta[4:7])])
    logit = 2.0 * np.tanh(theta[7 + STATES[:, 0]])
    return log_q - np.logaddexp(0, [[theta[0]], [-theta[0]]]), -np.logaddexp(0, [logit, -logit])


def parts(theta, log_p):
    """Eq. 5.6 for one datum: the whole divergence, that of the marginal q(z | x), and the price of u, in nats."""
    log_q, log_pu = with_u(theta)
    log_qz = np.logaddexp(*log_q)
    gap = np.exp(log_qz) @ (log_qz - log_p)
    price = np.sum(np.exp(log_q) * (log_q - log_qz - log_pu))
    return np.sum(np.exp(log_q) * (log_q - log_pu - log_p)), gap, price


def best(cost, size, seed, starts=4):
    """The lowest of several minima, from random starts."""
    rng = Generator(seed)
    found = [minimize(cost, 1.5 * rng.standard_normal(size), tol=1e-7) for _ in range(starts)]
    return min(found, key=lambda f: f.fun)


@experiment(
    "enumerated",
    title="where an auxiliary variable pays: three bits and one more",
    mirrors="thesis section 5.2.1, eq. 5.6-5.9",
    budgets={
        "quick": {"data": "synthetic", "points": 7},
        "laptop": {"data": "synthetic", "points": 13},
        "paper": {"data": "synthetic", "points": 25},
    },
    minutes={"quick": 0.1, "laptop": 0.2, "paper": 0.4},
)
def enumerated(run):
    """Best divergences without and with u, over the coupling of the posterior; and u at a price."""
    couplings = np.linspace(0.0, 4.0, run.settings.points)
    found = []
    for c in couplings:
        log_p = log_posterior(c)
        plain = best(lambda t, log_p=log_p: np.exp(log_factorised(t)) @ (log_factorised(t) - log_p), 3, run.seed).fun
        theta = best(lambda t, log_p=log_p: parts(t, log_p)[0], 9, run.seed).x
        blind = np.concatenate([theta[:7], np.zeros(2)])  # the same q, and a p(u | x, z) that guesses
        found.append([plain, *parts(theta, log_p), parts(blind, log_p)[0]])
    plain, whole, gap, price, guessing = np.array(found).T
    strongest, rows = len(couplings) - 1, []
    for at in (strongest // 2, strongest):
        name = f"coupling {couplings[at]:.2f}"
        rows += [
            Row(f"{name}, without u: KL(q(z | x) || p(z | x))", plain[at]),
            Row(f"{name}, with u: the same of the marginal", gap[at]),
            Row(f"{name}, with u: price", price[at]),
            Row(f"{name}, with u: both, what the bound lacks", whole[at]),
            Row(f"{name}, the same q, p(u | x, z) = 1/2", guessing[at]),
        ]
    claims = [
        Claim((whole - gap).min(), ">=", 0.0, 1e-12, "for the same q(z | x) the bound with u is not better (eq. 5.7)"),
        Claim((guessing - gap).max(), ">=", 0.3, 0.0, "and with a p(u | x, z) that guesses clearly worse, nats"),
        Claim(price.max(), ">=", 0.01, 0.0, "u has a price at the optimum too, nats"),
        Claim((whole - plain).max(), "<=", 0.0, 1e-5, "at the optimum u, which may be ignored, never costs"),
        Claim(
            plain[strongest] - whole[strongest], ">=", 0.3, 0.0, "a posterior of two modes: the gain outweighs, nats"
        ),
    ]
    fig = plots.figure(7.0, 4.4)
    axes = fig.add_subplot()
    lines = {
        "without u: KL(q(z | x) || p(z | x))": plain,
        "with u, what the bound lacks": whole,
        "of which KL(q(z | x) || p(z | x))": gap,
        "of which the price of u": price,
        "the same q, p(u | x, z) = 1/2": guessing,
    }
    for i, (name, values) in enumerate(lines.items()):
        axes.plot(couplings, values, label=name, **plots.style(i, len(couplings)))
    axes.set_xlabel("coupling of neighbouring bits in p(z | x), nats")
    axes.set_ylabel("nats")
    axes.set_title("A factorised q(z | x), and a mixture by one auxiliary bit u", fontsize=10)
    axes.grid(True, linewidth=0.3)
    axes.legend(fontsize=8)
    numbers = {"couplings": couplings, "plain": plain, "whole": whole, "gap": gap, "price": price, "guessing": guessing}
    return Result(rows, {"": fig}, numbers, claims)


# %% [markdown]
# ## Digits
#
# A VAE with a diagonal posterior against one with u as long as z, all else equal: encoder, decoder, latents. Only
# q(z | u, x) has a hidden layer of its own behind u and the encoder's last: linear in u, z would stay Gaussian. The
# thesis cites "significant improvements" (Maaløe et al. 2016, who have more layers) without settings of its own.
#
# The price of u is measured too, by the bound of the marginal q(z | x). log q(z | x) = log E_p(u|x,z)[q(u, z | x) /
# p(u | x, z)] is sampled: the log of a mean over draws from p(u | x, z) is too low in expectation, and too high if the
# u that came with z is one of them. So the true price lies between two estimates.

# %%
COMMON = {"batch": 100, "step_size": 2e-3}
DIGITS = {
    "quick": {
        "data": "digits", "split": "1500/297", "hidden": [64], "latents": [2, 8], "epochs": 60, "seeds": 1,
        "images": 297, "samples": 300, "draws": 50, **COMMON,
    },
    "laptop": {
        "data": "mnist", "split": "60000/10000", "hidden": [200, 200], "latents": [2, 20], "epochs": 15, "seeds": 2,
        "images": 1000, "samples": 500, "draws": 200, **COMMON,
    },
    "paper": {
        "data": "mnist", "split": "60000/10000", "hidden": [500, 500], "latents": [2, 20, 50], "epochs": 1000,
        "seeds": 5, "images": 10000, "samples": 5000, "draws": 1000, **COMMON,
    },
}  # fmt: skip


def binarize(x, rng):
    """Fresh binary pixels from grey values."""
    return data.binarize(x, "dynamic", rng)


def trained(run, latents, with_auxiliary, seed):
    """A VAE, or one with u, trained by the bound of one sample, its step size falling to 0 in the second half."""
    s, train = run.settings, run.images().train
    options = {"rng": Generator([seed, 1]), "output_bias": nn.logit_of_mean(train)}
    if with_auxiliary:
        model = auxiliary(train.shape[1], s.hidden, latents, latents, **options)
    else:
        model = VAE(train.shape[1], s.hidden, latents, **options)
    half = s.epochs * -(-len(train) // s.batch) / 2
    optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))
    run.fit(
        f"{s.data}_{latents}_{'auxiliary' if with_auxiliary else 'diagonal'}_seed{seed}", model,
        lambda x, rng: -model.log_weights(x, rng).mean(), optimizer, train, epochs=s.epochs, batch_size=s.batch,
        rng=Generator([seed, 2]), prepare=binarize,
    )  # fmt: skip
    return model


def price_of_u(model, x, rng, draws):
    """E KL(q(u | x, z) || p(u | x, z)) of a trained model, in nats: a lower and an upper estimate."""
    with no_grad():
        own = model.terms(x, rng)  # one z and u for each image
        z = np.asarray(own.values["z"])
        log_own = np.asarray(own.log_q["u"] + own.log_q["z"] - own.log_p["u"], float)
        u = own.values["p(u)"].sample(rng, (draws,))[:, 0]
        other = model.terms(x, z={"z": np.repeat(z, draws, axis=0), "u": u})
        log_others = np.asarray(other.log_q["u"] + other.log_q["z"] - other.log_p["u"], float)
    too_low = logsumexp(log_others, axis=0) - np.log(draws)
    too_high = logsumexp(np.concatenate([log_own, log_others]), axis=0) - np.log(draws + 1)
    # E[log q(u, z | x) - log p(u | x, z) - log q(z | x)]
    return np.mean(log_own[0] - too_high), np.mean(log_own[0] - too_low)


@experiment(
    "digits",
    title="a diagonal posterior, and one with an auxiliary variable",
    mirrors="thesis section 5.2.1",
    budgets=DIGITS,
    minutes={"quick": 0.3, "laptop": 5, "paper": 60 * 24 * 4},
)
def digits(run):
    """Bound and likelihood of both, the gap between these, and the price of u."""
    s = run.settings
    x = binarize(run.images().test, Generator(3))[: s.images]
    rows, claims, numbers, bars = [], [], {}, {}
    for latents in s.latents:
        found = {}
        for with_auxiliary in (False, True):
            name = f"{latents} latents, {'auxiliary u' if with_auxiliary else 'diagonal'}"
            found[with_auxiliary] = every = []
            for seed in range(run.seed, run.seed + s.seeds):
                model = trained(run, latents, with_auxiliary, seed)
                bound = evaluation.bound(model, x, Generator(5), 20, bounds.elbo)
                log_p = evaluation.log_likelihood(model, x, Generator(6), s.samples, run.progress)
                price = price_of_u(model, x, Generator(7), s.draws) if with_auxiliary else (0.0, 0.0)
                every.append((bound, log_p, evaluation.difference(log_p, bound).mean, *price))
            mean = lambda i: np.mean([e[i].mean for e in every])
            gap, low, high = (np.mean([e[i] for e in every]) for i in (2, 3, 4))
            error = np.mean([e[0].standard_error for e in every])
            about = f"{s.epochs} epochs, mean of {s.seeds} seeds" if s.seeds > 1 else f"{s.epochs} epochs"
            rows += [
                Row(f"{name}, bound", mean(0), note=f"+- {error:.2f}, {len(x)} images, {about}"),
                Row(f"{name}, log p-hat", mean(1), note=f"the same images, {s.samples} samples"),
                Row(f"{name}, log p-hat - bound", gap),
            ]
            if with_auxiliary:
                rows.append(Row(f"{name}, of which the price of u", (low + high) / 2, note=f"{low:.3f} to {high:.3f}"))
            bars[name] = gap, (low + high) / 2
            numbers[name] = {"bound": mean(0), "log p": mean(1), "gap": gap, "price": [low, high]}
        for i, what in ((0, "bound"), (1, "log p-hat")):
            gains = [evaluation.difference(a[i], b[i]) for a, b in zip(found[True], found[False], strict=True)]
            means = [g.mean for g in gains]
            over_seeds = np.std(means, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else 0.0
            error = max(over_seeds, np.mean([g.standard_error for g in gains]))
            label = f"{latents} latents: the gain of u in {what} is positive by more than 2 standard errors"
            claims.append(Claim(np.mean(means), ">=", 2 * error, 0.0, label))
        claims.append(
            Claim(
                bars[f"{latents} latents, auxiliary u"][0], "<=", bars[f"{latents} latents, diagonal"][0], 0.0,
                f"{latents} latents: with u the bound is closer to log p-hat, its price included",
            )
        )  # fmt: skip
    return Result(rows, {"": gaps_figure(bars, s)}, numbers, claims)


def gaps_figure(bars, s):
    """The gap between log p-hat and the bound, with the part that is the price of u."""
    fig = plots.figure(7.0, 0.5 * len(bars) + 1.4)
    axes = fig.add_subplot()
    places = np.arange(len(bars))[::-1]
    gap, price = np.array(list(bars.values())).T
    axes.barh(places, gap - price, color="#bbbbbb", edgecolor="black", label="KL(q(z | x) || p(z | x))")
    axes.barh(places, price, left=gap - price, color="#444444", edgecolor="black", label="price of u")
    axes.set_xlim(0, 1.05 * gap.max())
    axes.set_yticks(places, bars.keys())
    axes.set_xlabel("log p-hat - bound, nats")
    axes.set_title(f"What the bound lacks after {s.epochs} epochs, {s.data}", fontsize=10)
    axes.legend(fontsize=8)
    return fig


# %% [markdown]
# ## The equations, checked
#
# x of 3 values, z of 4 and u of 2, with random tables. Each side of an equation is summed in its own way.

# %%


def table(seed, *shape, axis=-1):
    """Random probabilities that sum to one over ``axis``."""
    return np.exp(log_softmax(1.5 * Generator([seed, 8]).standard_normal(shape), axis=axis))


Q_X = np.array([0.5, 0.2, 0.3])  # the data's distribution q_D(x)
Q_U, Q_Z = table(1, 3, 2), table(2, 3, 2, 4)  # q(u | x), q(z | u, x)
P_XZ, P_U = table(3, 3, 4, axis=None), table(4, 3, 4, 2)  # p(x, z), p(u | x, z)
EVERY = [(x, z, u) for x in range(3) for z in range(4) for u in range(2)]
Q_XZU = np.array([Q_X[x] * Q_U[x, u] * Q_Z[x, u, z] for x, z, u in EVERY]).reshape(3, 4, 2)
P_XZU = np.array([P_XZ[x, z] * P_U[x, z, u] for x, z, u in EVERY]).reshape(3, 4, 2)


def kl(q, p):
    """KL divergence of two tables of one shape, in nats."""
    return float(np.sum(q * np.log(q / p)))


# %% [markdown]
# ## What to try next
#
# - Let p(u | x, z) be as sure as it likes (no `tanh` in `with_u`): why is there no price any more?
# - A longer u for digits, or a second one above it: q(u_2 | x) q(u_1 | u_2, x) q(z | u_1, x).
# - u without its arrow from x in p(u | x, z): how much dearer is it?
