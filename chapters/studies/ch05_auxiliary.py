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
from minivi.experiments import experiment
from minivi.experiments.results import gain_over_seeds
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
    minima = [minimize(cost, 1.5 * rng.standard_normal(size), tol=1e-7) for _ in range(starts)]
    return min(minima, key=lambda minimum: minimum.fun)


@experiment(
    "enumerated",
    title="where an auxiliary variable pays: three bits and one more",
    mirrors="thesis section 5.2.1, eq. 5.6-5.9",
    budgets={
        "quick": {"data": "synthetic", "points": 7},
        "laptop": {"data": "synthetic", "points": 13},
        "paper": {"data": "synthetic", "points": 25},
    },
    minutes={"quick": 0.1, "laptop": 0.062, "paper": 0.4},
)
def enumerated(run):
    """Best divergences without and with u, over the coupling of the posterior; and u at a price."""
    couplings = np.linspace(0.0, 4.0, run.settings.points)
    points = []
    for c in couplings:
        log_p = log_posterior(c)
        plain = best(lambda t, log_p=log_p: np.exp(log_factorised(t)) @ (log_factorised(t) - log_p), 3, run.seed).fun
        theta = best(lambda t, log_p=log_p: parts(t, log_p)[0], 9, run.seed).x
        blind = np.concatenate([theta[:7], np.zeros(2)])  # the same q, and a p(u | x, z) that guesses
        points.append([plain, *parts(theta, log_p), parts(blind, log_p)[0]])
    names = "plain", "whole", "gap", "price", "guessing"
    return {"couplings": couplings, **dict(zip(names, np.transpose(points), strict=True))}


@enumerated.table
def _(n, table):
    strongest = len(n.couplings) - 1
    for at in (strongest // 2, strongest):
        name = f"coupling {n.couplings[at]:.2f}"
        table.row(f"{name}, without u: KL(q(z | x) || p(z | x))", n.plain[at])
        table.row(f"{name}, with u: the same of the marginal", n.gap[at])
        table.row(f"{name}, with u: price", n.price[at])
        table.row(f"{name}, with u: both, what the bound lacks", n.whole[at])
        table.row(f"{name}, the same q, p(u | x, z) = 1/2", n.guessing[at])
    table.row("largest price of u at the optimum", n.price.max())
    table.row("largest price of the same q and a p(u | x, z) that guesses", (n.guessing - n.gap).max())
    label = "for the same q(z | x) the bound with u is not better (eq. 5.7)"
    table.check((n.whole - n.gap).min(), ">=", 0.0, 1e-12, label)
    label = "at the optimum u, which may be ignored, never costs"
    table.check((n.whole - n.plain).max(), "<=", 0.0, 1e-5, label)
    says = table.says(
        "thesis 5.2.1",
        "But because we now have access to a much more flexible class of distributions ..., the original ELBO "
        "objective ... can improve, potentially outweighing the additional cost",
    )
    label = "a posterior of two modes: what the bound lacks with u, its price included, against without, nats"
    says(n.whole[strongest], "<=", n.plain[strongest], 0.0, label)


@enumerated.figure()
def _(n):
    axes = plots.figure(7.0, 4.4).add_subplot()
    lines = {
        "without u: KL(q(z | x) || p(z | x))": n.plain,
        "with u, what the bound lacks": n.whole,
        "of which KL(q(z | x) || p(z | x))": n.gap,
        "of which the price of u": n.price,
        "the same q, p(u | x, z) = 1/2": n.guessing,
    }
    for i, (name, values) in enumerate(lines.items()):
        axes.plot(n.couplings, values, label=name, **plots.style(i, len(n.couplings)))
    title = "A factorised q(z | x), and a mixture by one auxiliary bit u"
    plots.panel(axes, title, "coupling of neighbouring bits in p(z | x), nats", "nats")
    axes.legend(fontsize=8)
    return axes.figure


# %% [markdown]
# ## Digits
#
# A VAE with a diagonal posterior against one with u as long as z, all else equal: encoder, decoder, latents. Only
# q(z | u, x) has a hidden layer of its own behind u and the encoder's last: linear in u, z would stay Gaussian. The
# thesis cites "significant improvements" (Maaløe et al. 2016, who have more layers) without settings of its own.
#
# The price of u is measured too, by the bound of the marginal q(z | x). log q(z | x) = log E_p(u|x,z)[q(u, z | x) /
# p(u | x, z)] is sampled: the log of a mean over draws from p(u | x, z) is too low in expectation, and too high if the
# u that came with z is one of them. So the true price lies between two estimates. And so does I(u; z | x), whether u is
# used at all: for it log q(z | x) = log E_q(u|x)[q(z | u, x)] is sampled in the same way.
#
# At first u tells z nothing, and p(u | x, z) makes it dear to change that. So the weight of log p(u | x, z) - log
# q(u | x) rises from 0 to 1 over the first quarter of the training.

# %%
COMMON = {"batch": 100, "step_size": 2e-3}
DIGITS = {
    "quick": {
        "data": "digits", "split": "1500/297", "hidden": [64], "latents": [2, 8], "epochs": 60, "seeds": 1,
        "images": 297, "samples": 300, "draws": 50, **COMMON,
    },
    "laptop": {
        "data": "mnist", "split": "60000/10000", "hidden": [200], "latents": [20], "epochs": 24, "seeds": 2,
        "images": 1000, "samples": 200, "draws": 100, **COMMON,
    },
    "paper": {
        "data": "mnist", "split": "60000/10000", "hidden": [500, 500], "latents": [2, 20, 50], "epochs": 1000,
        "seeds": 5, "images": 10000, "samples": 5000, "draws": 1000, **COMMON,
    },
}  # fmt: skip
DIAGONAL, AUXILIARY = KINDS = "diagonal", "auxiliary u"
GAINS = {"bound": "bound", "log p": "log p-hat", "gap": "log p-hat - bound"}
OF_U = {"price": "of which the price of u", "information": "I(u; z | x)"}


def trained(run, latents, with_auxiliary, seed):
    """A VAE, or one with u, trained by the bound of one sample, its step size falling to 0 in the second half."""
    s, train = run.settings, run.images().train
    half = s.epochs * -(-len(train) // s.batch) / 2

    def start():
        options = {"rng": Generator([seed, 1]), "output_bias": nn.logit_of_mean(train)}
        if with_auxiliary:
            model = auxiliary(train.shape[1], s.hidden, latents, latents, **options)
        else:
            model = VAE(train.shape[1], s.hidden, latents, **options)
        optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))

        def warmed(x, rng):
            terms, weight = model.terms(x, rng), bounds.warm_up(optimizer.steps, half / 2)
            return -(terms.log_w + (weight - 1.0) * (terms.log_p["u"] - terms.log_q["u"])).mean()

        return model, warmed if with_auxiliary else lambda x, rng: -model.log_weights(x, rng).mean(), optimizer

    model, *_ = run.train(
        f"{s.data}_{latents}_{'auxiliary' if with_auxiliary else 'diagonal'}_seed{seed}", start, train,
        epochs=s.epochs, batch_size=s.batch, rng=Generator([seed, 2]), prepare=data.fresh,
    )  # fmt: skip
    return model


def excess(own, others):
    """E log own - E log E others, in nats, of log values (B,) and (draws, B): a lower and an upper estimate."""
    too_low = logsumexp(others, axis=0) - np.log(len(others))
    too_high = logsumexp(np.concatenate([own[None], others]), axis=0) - np.log(len(others) + 1)
    return np.mean(own - too_high), np.mean(own - too_low)


def of_u(model, x, rng, draws):
    """E KL(q(u | x, z) || p(u | x, z)) of a trained model, and I(u; z | x), in nats: two estimates of each."""
    with no_grad():
        own = model.terms(x, rng)  # one z and u for each image
        z = np.repeat(np.asarray(own.values["z"]), draws, axis=0)
        ratio = lambda terms: np.asarray(terms.log_q["u"] + terms.log_q["z"] - terms.log_p["u"], float)
        given = lambda terms: np.asarray(terms.log_q["z"], float)
        found = {}
        for name, source, log in (("price", "p(u)", ratio), ("information", "q(u)", given)):
            # p(u) is made at z, (1, B, J), q(u) at x alone, (B, J)
            u = own.values[source].sample(rng, (draws,)).reshape(draws, len(x), -1)
            found[name] = excess(log(own)[0], log(model.terms(x, z={"z": z, "u": u})))
    return found


@experiment(
    "digits",
    title="a diagonal posterior, and one with an auxiliary variable",
    mirrors="thesis section 5.2.1",
    budgets=DIGITS,
    minutes={"quick": 0.3, "laptop": 2.9, "paper": 60 * 24 * 4},
)
def digits(run):
    """Bound and likelihood of both, the gap between these, and the price of u."""
    s = run.settings
    x = data.fresh(run.images().test, Generator(3))[: s.images]
    models, errors, gains = {}, {}, {}
    for latents in s.latents:
        scores = {}
        for kind in KINDS:
            scores[kind] = seeds = [
                scores_of(trained(run, latents, kind == AUXILIARY, run.seed + i), x, run) for i in range(s.seeds)
            ]
            name = f"{latents} latents, {kind}"
            models[name] = {what: np.mean([one[what].mean for one in seeds]) for what in GAINS}
            models[name] |= {key: np.mean([one[key] for one in seeds], axis=0) for key in OF_U}
            errors[name] = np.mean([one["bound"].standard_error for one in seeds])
        pairs = {what: [[one[what].values for one in scores[kind]] for kind in (AUXILIARY, DIAGONAL)] for what in GAINS}
        gains[str(latents)] = {what: gain_over_seeds(*pair) for what, pair in pairs.items()}
    return {**models, "errors": errors, "gains": gains, "count": len(x)}


def scores_of(model, x, run):
    """Of ``x`` the bound, log p-hat and their difference, Estimates; and what u does in it."""
    bound = evaluation.bound(model, x, Generator(5), 20, bounds.elbo)
    log_p = evaluation.log_likelihood(model, x, Generator(6), run.settings.samples, run.progress)
    none = dict.fromkeys(OF_U, (0.0, 0.0))
    of = none if isinstance(model, VAE) else of_u(model, x, Generator(7), run.settings.draws)
    return {"bound": bound, "log p": log_p, "gap": evaluation.difference(log_p, bound), **of}


def by_kind(n, latents):
    """What is stored of the models with so many latents, by kind."""
    return {kind: getattr(n, f"{latents} latents, {kind}") for kind in KINDS}


@digits.table
def _(n, table):
    s = n.settings
    about = f"{s.epochs} epochs, mean of {s.seeds} seeds" if s.seeds > 1 else f"{s.epochs} epochs"
    better = table.says(
        "thesis 5.2.1",
        "In Salimans et al. [2015], [Ranganath et al., 2015] and Maaløe et al. [2016] it was shown that auxiliary "
        "variables can indeed lead to significant improvements in models.",
        seeds=s.seeds,
    )
    outweighs = table.says(
        "thesis 5.2.1",
        "the original ELBO objective ... can improve, potentially outweighing the additional cost",
        seeds=s.seeds,
    )
    for latents in s.latents:
        models = by_kind(n, latents)
        for kind, model in models.items():
            name = f"{latents} latents, {kind}"
            note = f"+- {n.errors[name]:.2f}, {n.count} images, {about}"
            table.row(f"{name}, bound", model["bound"], note=note)
            table.row(f"{name}, log p-hat", model["log p"], note=f"the same images, {s.samples} samples")
            table.row(f"{name}, log p-hat - bound", model["gap"])
            for key, what in OF_U.items() if kind == AUXILIARY else ():
                low, high = model[key]
                table.row(f"{name}, {what}", (low + high) / 2, note=f"{low:.3f} to {high:.3f}")
        gains = n.gains[str(latents)]
        for what in ("bound", "log p"):
            gain, error = gains[what]
            better(gain, ">=", 0.0, 0.0, f"{latents} latents: gain of u in {GAINS[what]}, nats", standard_error=error)
        change, error = gains["gap"]
        label = f"{latents} latents: log p-hat - bound, the price of u included, less that without u, nats"
        outweighs(change, "<=", 0.0, 0.0, label, standard_error=error)


@digits.figure()
def _(n):
    """The gap between log p-hat and the bound, with the part that is the price of u."""
    s = n.settings
    models = {f"{latents} latents, {kind}": m for latents in s.latents for kind, m in by_kind(n, latents).items()}
    axes = plots.figure(7.0, 0.5 * len(models) + 1.4).add_subplot()
    places = np.arange(len(models))[::-1]
    gap = np.array([model["gap"] for model in models.values()])
    price = np.array([sum(model["price"]) / 2 for model in models.values()])
    axes.barh(places, gap - price, color="#bbbbbb", edgecolor="black", label="KL(q(z | x) || p(z | x))")
    axes.barh(places, price, left=gap - price, color="#444444", edgecolor="black", label="price of u")
    axes.set_xlim(0, 1.05 * gap.max())
    axes.set_yticks(places, models.keys())
    axes.set_xlabel("log p-hat - bound, nats")
    axes.set_title(f"What the bound lacks after {s.epochs} epochs, {s.data}", fontsize=10)
    axes.legend(fontsize=8)
    return axes.figure


# %% [markdown]
# ## What to try next
#
# - Let p(u | x, z) be as sure as it likes (no `tanh` in `with_u`): why is there no price any more?
# - A longer u for digits, or a second one above it: q(u_2 | x) q(u_1 | u_2, x) q(z | u_1, x).
# - u without its arrow from x in p(u | x, z): how much dearer is it?
