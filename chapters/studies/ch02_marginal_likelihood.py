"""Chapter 2, the marginal likelihood (thesis sections 2.7, 2.8, 2.11.2, appendix 2.B).

What does a latent-variable model give to data, log p(x), and which training algorithm raises it fastest? The bound says
too little, and Monte Carlo EM has none. Three answers: integrate over three latents, sample, or read it off as a KL.
"""

# %% [markdown]
# The model is that of section 2.11, with few enough latents to integrate (eq. 1.13):
#
#     p(z) = N(0, I)      p(x | z) = Bernoulli(x; DecoderNet(z))      log p(x) = log of the integral of p(z) p(x | z)
#
# By samples from the encoder (eq. 2.57), and as divergences of the data q_D(x) from the model (eq. 2.62, 2.67):
#
#     log p(x) ~ log 1/L sum_l p(x, z_l) / q(z_l | x)
#     KL(q_D(x) q(z | x) || p(x, z)) = KL(q_D(x) || p(x)) + E_qD KL(q(z | x) || p(z | x))  >=  KL(q_D(x) || p(x))

# %%
import numpy as np
from scipy.special import rel_entr
from scipy.stats import norm

from minivi import bounds, data, estimators, evaluation, mcmc, nn, optim, plots
from minivi.distributions import Normal
from minivi.experiments import Claim, Result, Row, experiment
from minivi.models import VAE
from minivi.nn import Module
from minivi.random import Generator
from minivi.tensor import Parameter, grad, no_grad

# %% [markdown]
# ## Settings
#
# `paper` has the text's AdaGrad, its step size the best of three in the first iterations, weights from N(0, 0.01) and
# their prior N(0, I); the smaller budgets use Adam and Glorot's weights and see fewer points. "A training point" is one
# fixed image here, since Monte Carlo EM keeps a Markov chain for each: pixels are drawn once, not afresh each epoch.

# %%
ADAM = {"optimizer": "adam", "step_sizes": [1e-3], "hidden": 100, "batch": 100}
ADAGRAD = {"optimizer": "adagrad", "step_sizes": [0.01, 0.02, 0.1], "hidden": 100, "batch": 100}
DIGITS = {"data": "digits", "split": "1500/297", **ADAM}
MNIST = {"data": "mnist", "split": "60000/10000", **ADAM}
PAPER = {"data": "mnist", "split": "50000/10000/10000", **ADAGRAD}


def new_vae(s, pixels, latents, seed):
    """One hidden layer on either side, in the settings' initial weights."""
    init = nn.glorot if s.optimizer == "adam" else nn.normal(0.1)
    return VAE(pixels, (s.hidden,), latents, rng=Generator([seed, latents]), init=init)


def optimizer_for(module, s, step_size, count):
    """Adam, or AdaGrad with the weights' prior N(0, I), which counts once for all ``count`` data."""
    if s.optimizer == "adam":
        return optim.Adam(module.parameters(), step_size)
    return optim.AdaGrad(module.parameters(), step_size, weight_decay=1.0 / count)


# %% [markdown]
# ## Monte Carlo EM (appendix 2.B)
#
# No encoder. Each training point has a chain that is at home in its posterior p(z | x). A minibatch is an E step, 10
# leapfrog steps of Hamiltonian Monte Carlo with the step size tuned to 90 % acceptance, and an M step, 5 updates of the
# decoder towards log p(x | z) at the z reached; so that the posterior's mean of grad log p(x, z), which is the gradient
# of log p(x), is followed. The chains are Parameters that no optimizer moves, so `fit` keeps them in its checkpoints.

# %%
LEAPFROG_STEPS, UPDATES, ACCEPTANCE = 10, 5, 0.9


class MonteCarloEM(Module):
    """A decoder and the state of its training: chains (N, J), and the step size's adaptation."""

    def __init__(self, vae, count, seed):
        self.vae = vae
        self.chains = Parameter(Generator([seed, 7]).standard_normal((count, vae.latents)), dtype=vae.dtype)
        self.tuning = Parameter(mcmc.DualAveraging(0.1, ACCEPTANCE).state)

    def transition(self, x, z, rng, step_size):
        """Ten leapfrog steps of each datum's chain towards p(z | x), by grad log p(z) + grad log p(x | z)."""
        prior = Normal(np.zeros(self.vae.latents, z.dtype), np.zeros(self.vae.latents, z.dtype))
        log_joint = lambda z: prior.log_prob(z) + self.vae.decode(z).log_prob(x)
        return mcmc.hmc(log_joint, z, rng, step_size, LEAPFROG_STEPS)

    def e_step(self, x, index, rng):
        """Move the chains ``index`` of the data ``x``, (B, D); their new states (B, J)."""
        adapt = mcmc.DualAveraging(0.1, ACCEPTANCE)
        adapt.state = self.tuning.data
        chains = self.chains.data.copy()
        # Ten steps of one size may come full circle where the posterior is as wide as the prior: vary it (Neal 2011)
        move = self.transition(x, chains[index], rng, adapt.step_size * rng.uniform(0.8, 1.2))
        chains[index] = move.z
        adapt.update(move.acceptance)
        self.chains.assign(chains)
        self.tuning.assign(adapt.state)
        return move.z

    def loss(self, optimizer):
        """For ``fit``, which makes one update: the E step and the other updates come before it.

        A row of the data ends with its number, by which its chain is found.
        """

        def loss(rows, rng):
            x, index = rows[:, :-1], rows[:, -1].astype(int)
            z = self.e_step(x, index, rng)
            for _ in range(UPDATES - 1):
                optimizer.step(grad(-self.vae.decode(z).log_prob(x).mean(), optimizer.parameters))
            return -self.vae.decode(z).log_prob(x).mean()

        return loss


# %% [markdown]
# ## Figure 2.6: three algorithms, two sizes of training set
#
# One yardstick for all: log p(x) by a grid over the three latents (`evaluation.log_likelihood_by_quadrature`), of the
# same images. The table checks it against a finer grid, against importance sampling where there is an encoder, and
# against annealed importance sampling, which needs none.


# %%
def start(method, s, train, step_size, seed):
    """What ``fit`` takes: the module to keep, the loss, the optimizer and the data; and the VAE inside."""
    vae = new_vae(s, train.shape[1], 3, seed)
    if method == "MCEM":
        em = MonteCarloEM(vae, len(train), seed)
        optimizer = optimizer_for(vae.decoder, s, step_size, len(train))
        numbered = np.column_stack([train, np.arange(len(train), dtype=train.dtype)])
        return (em, em.loss(optimizer), optimizer, numbered), vae
    optimizer = optimizer_for(vae, s, step_size, len(train))
    surrogate = {
        "AEVB": lambda x, rng: vae.elbo(x, rng),
        "wake-sleep": lambda x, rng: estimators.wake_sleep(vae, x, rng),
    }[method]
    return (vae, lambda x, rng: -surrogate(x, rng).mean(), optimizer, train), vae


def train_one(run, method, train, points, held_out):
    """Train on ``points`` points evaluated; the VAE and its curve: points, seconds, log p(x) of train and test images.

    The likelihood is computed at some ten epochs, evenly spaced in their logarithm.
    """
    s, seed = run.settings, run.seed
    epochs = max(1, points // len(train))
    when = {round(e) for e in np.geomspace(1, epochs, min(epochs, s.evaluations))}

    def log_px(vae):
        both = np.concatenate([held_out["train"], held_out["test"]])
        values = evaluation.log_likelihood_by_quadrature(vae, both, s.grid).values
        return {"train": float(values[: len(both) // 2].mean()), "test": float(values[len(both) // 2 :].mean())}

    def attempt(step_size, epochs, name):
        parts, vae = start(method, s, train, step_size, seed)
        history = run.fit(
            f"{s.data}_{method}_{len(train)}_{name}", *parts, epochs=epochs, batch_size=s.batch,
            rng=Generator([seed, 5]), evaluate=lambda epoch: log_px(vae) if epoch in when or epoch == epochs else {},
        )  # fmt: skip
        return parts[0], vae, history

    step_size = s.step_sizes[0]
    if len(s.step_sizes) > 1:  # 200 minibatches with each, or the first epoch
        few = max(1, 200 * s.batch // len(train))
        trials = [attempt(size, few, f"trial{size}")[2].records[-1]["train"] for size in s.step_sizes]
        step_size = s.step_sizes[int(np.argmax(trials))]
    module, vae, history = attempt(step_size, epochs, f"seed{seed}")
    kept = [r for r in history.records if "train" in r]
    seconds = np.cumsum(history.column("seconds"))[[r["epoch"] - 1 for r in kept]]
    curve = {"points": [r["examples"] for r in kept], "seconds": seconds, "step_size": step_size}
    return module, vae, {k: np.array(v) for k, v in (curve | {n: [r[n] for r in kept] for n in held_out}).items()}


def annealed(vae, x, chains, steps, rng):
    """AIS estimate of log p(x), ``chains`` for each datum; the step sizes were tuned in a run of their own."""

    def log_likelihood(z):
        return vae.decode(z).log_prob(x)

    temperatures = np.linspace(0, 1, steps + 1) ** 3
    step_sizes = np.empty(steps)
    adapt, z = mcmc.DualAveraging(0.3, 0.8), rng.standard_normal((2, len(x), vae.latents), dtype=vae.dtype)
    for i, t in enumerate(temperatures[1:]):
        prior = Normal(np.zeros(vae.latents, z.dtype), np.zeros(vae.latents, z.dtype))
        move = mcmc.hmc(
            lambda z, t=t: prior.log_prob(z) + float(t) * log_likelihood(z), z, rng, adapt.step_size, LEAPFROG_STEPS
        )
        z, step_sizes[i] = move.z, adapt.step_size
        adapt.update(move.acceptance)
    z = rng.standard_normal((chains, len(x), vae.latents), dtype=vae.dtype)
    return evaluation.from_log_weights(mcmc.ais(log_likelihood, z, rng, temperatures, step_sizes, LEAPFROG_STEPS)[0])


@experiment(
    "convergence",
    title="log p(x) while training: AEVB, wake-sleep and Monte Carlo EM",
    mirrors="thesis Figure 2.6",
    budgets={
        "quick": DIGITS
        | {"sizes": [200, 1500], "points": [300_000, 300_000], "mcem_points": [30_000, 45_000], "evaluations": 7}
        | {"images": 100, "grid": 25, "fine": 40, "ais_images": 20, "ais_chains": 10, "ais_steps": 50, "samples": 500},
        "laptop": MNIST
        | {"sizes": [1000, 50_000], "points": [500_000, 1_000_000], "mcem_points": [150_000, 200_000]}
        | {"evaluations": 8, "images": 200, "grid": 50, "fine": 80}
        | {"ais_images": 20, "ais_chains": 20, "ais_steps": 150, "samples": 1000},
        "paper": PAPER
        | {"sizes": [1000, 50_000], "points": [10_000_000, 100_000_000], "mcem_points": [10_000_000, 10_000_000]}
        | {"evaluations": 20, "images": 1000, "grid": 60, "fine": 100}
        | {"ais_images": 100, "ais_chains": 50, "ais_steps": 1000, "samples": 5000},
    },
    minutes={"quick": 0.7, "laptop": 6, "paper": 60 * 12},
)
def convergence(run):
    """Train all six; draw log p(x) against points evaluated and against seconds; check the yardstick."""
    s, images = run.settings, run.images()
    pixels = {
        "train": data.binarize(images.train, "dynamic", Generator(2)),
        "test": data.binarize(images.test, "dynamic", Generator(3)),
    }
    held_out = {name: x[: s.images] for name, x in pixels.items()}  # the first training images are in either size
    rows, curves, claims = [], {}, []
    for column, (size, points, mcem_points) in enumerate(zip(s.sizes, s.points, s.mcem_points, strict=True)):
        size = min(size, len(pixels["train"]))  # of another set by --data
        found = {}
        for method in METHODS:
            n = mcem_points if method == "MCEM" else points
            module, vae, curve = train_one(run, method, pixels["train"][:size], n, held_out)
            found[method] = curves[f"{method}, {size}"] = curve
            note = f"{curve['points'][-1]:,} points in {curve['seconds'][-1]:.0f} s; published as a picture only"
            rows += [Row(f"{method}, N = {size}, {n}", curve[n][-1], note=note) for n in ("train", "test")]
            if column == 0:
                more, checked = verify(s, method, vae, held_out["test"])
                rows, claims = rows + more, claims + checked
            if method == "MCEM":
                accepted = acceptance(module, pixels["train"][: min(size, 500)])
                rows.append(Row(f"MCEM, N = {size}, acceptance", accepted, 0.9, "", "chains of up to 500 points"))
        claims += compare(found, size, large=column == 1)
    return Result(rows, {"": convergence_figure(curves, s)}, {"curves": curves}, claims)


METHODS = "AEVB", "wake-sleep", "MCEM"


def convergence_figure(curves, s):
    """A column for each size of the data: log p(x) by points evaluated and by seconds."""
    fig = plots.figure(9.5, 7.0)
    sizes = list(dict.fromkeys(int(key.rpartition(" ")[2]) for key in curves))
    for column, size in enumerate(sizes):
        found = [curves[f"{method}, {size}"] for method in METHODS]
        top = max(max(c["train"]) for c in found)
        bottom = min(c["test"][len(c["test"]) // 3] for c in found)  # the first points fall below the picture
        for row, (x, label) in enumerate(
            {"points": "training points evaluated", "seconds": "seconds of training"}.items()
        ):
            axes = fig.add_subplot(2, len(sizes), row * len(sizes) + column + 1)
            for i, (method, c) in enumerate(zip(METHODS, found, strict=True)):
                style = plots.style(i, len(c[x]))
                axes.plot(c[x], c["test"], label=f"{method}, test", **style)
                axes.plot(c[x], c["train"], label=f"{method}, training", **(style | plots.THIN))
            axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.1 * (top - bottom))
            axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.set_ylabel("log p(x), nats per image")
            axes.set_title(f"{size:,} training points", fontsize=10)
            axes.grid(True, which="both", linewidth=0.3)
    plots.legend_below(fig, [axes])
    fig.suptitle(f"Marginal likelihood while training on {s.data}, 3 latents, {s.hidden} hidden units", fontsize=10)
    return fig


def acceptance(em, x):
    """Mean acceptance of one more transition of the first chains, which are left as they are."""
    adapt = mcmc.DualAveraging(0.1, ACCEPTANCE)
    adapt.state = em.tuning.data
    return em.transition(x, em.chains.data[: len(x)], Generator(11), adapt.average).acceptance.mean()


def verify(s, method, vae, x):
    """Rows and claims: the grid beside a finer one, and beside the two estimators that sample."""
    coarse = evaluation.log_likelihood_by_quadrature(vae, x, s.grid)
    fine = evaluation.log_likelihood_by_quadrature(vae, x, s.fine, limit=6.0)
    few = x[: s.ais_images]
    difference = coarse.mean - fine.mean
    rows = [Row(f"{method}, grid - finer and wider grid", difference, note=f"{s.grid}^3 and {s.fine}^3 points")]
    if method != "MCEM":
        sampled = evaluation.log_likelihood(vae, x, Generator(8), s.samples)
        note = f"{s.samples} samples, noise {sampled.noise:.3f}; below the grid in expectation"
        rows.append(Row(f"{method}, importance sampling - grid", sampled.mean - coarse.mean, note=note))
    found = annealed(vae, few, s.ais_chains, s.ais_steps, Generator(9))
    gap = found.mean - coarse.values[: len(few)].mean()
    note = f"{len(few)} images, {s.ais_chains} chains, noise {found.noise:.3f}; below the grid in expectation"
    rows.append(Row(f"{method}, AIS - grid", gap, note=note))
    claims = [
        Claim(difference, "=", 0.0, 0.1, f"the yardstick for {method}: grid less finer and wider grid"),
        Claim(gap, "=", 0.0, 0.1 + 4 * found.noise, f"the yardstick for {method}: AIS less grid"),
    ]
    return rows, claims


def compare(found, size, large):
    """The text's claims on the curves of one size of training set."""
    aevb, ws, mcem = found["AEVB"], found["wake-sleep"], found["MCEM"]
    claims = [
        Claim(aevb[n][-1], ">=", ws[n][-1], 0.0, f"AEVB ends above wake-sleep, N = {size}, {n}")
        for n in ("train", "test")
    ]
    cost = (mcem["seconds"][-1] / mcem["points"][-1]) / (aevb["seconds"][-1] / aevb["points"][-1])
    if large:
        # "Cannot be applied efficiently": a point costs far more, and what AEVB has after MCEM's time is higher.
        then = np.interp(np.log(mcem["seconds"][-1]), np.log(aevb["seconds"]), aevb["test"])
        claims += [
            Claim(cost, ">=", 3.0, 0.0, f"MCEM's seconds a training point over AEVB's, N = {size}"),
            Claim(mcem["test"][-1], "<=", then, 0.0, f"MCEM below AEVB after the same seconds, N = {size}, test"),
        ]
    return claims


# %% [markdown]
# ## Section 2.7: importance sampling, from L = 1 to 5,000
#
# A model of two latents, trained with AEVB, whose log p(x) a grid gives exactly. For each L the estimate of eq. 2.57 is
# repeated with draws of its own, so that its mean over repeats is the bound of that L, and their spread is the noise
# of one estimate. Theory for large L: the bound misses log p(x) by Var(w / p(x)) / (2 L). Where q is much narrower than
# the posterior that variance is large or infinite, and the gap closes more slowly.


# %%
def log_weights(vae, x, count, rng):
    """log p(x, z) - log q(z | x) of ``count`` draws for each datum, float64 (count, N), in chunks."""
    chunk = max(1, 8_000_000 // x.size)
    with no_grad():
        parts = [vae.log_weights(x, rng, min(chunk, count - i)) for i in range(0, count, chunk)]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


@experiment(
    "importance",
    title="importance-sampled log p(x) against quadrature, by number of samples",
    mirrors="thesis section 2.7, eq. 2.56, 2.57",
    budgets={
        "quick": DIGITS | {"epochs": 150, "latents": 2, "images": 60, "repeats": 10, "draws": 1000, "grid": 120},
        "laptop": MNIST | {"epochs": 5, "latents": 2, "images": 100, "repeats": 20, "draws": 4000, "grid": 300},
        "paper": PAPER | {"epochs": 500, "latents": 2, "images": 1000, "repeats": 50, "draws": 5000, "grid": 500},
    },
    minutes={"quick": 0.3, "laptop": 1.5, "paper": 60},
)
def importance(run):
    """Bound, noise and theory against L; the ends of the table are the ELBO and the integral."""
    s, images = run.settings, run.images()
    vae = new_vae(s, images.train.shape[1], s.latents, run.seed)
    optimizer = optimizer_for(vae, s, s.step_sizes[0], len(images.train))
    run.fit(
        f"{s.data}_importance_seed{run.seed}", vae, lambda x, rng: -vae.elbo(x, rng).mean(), optimizer, images.train,
        epochs=s.epochs, batch_size=s.batch, rng=Generator([run.seed, 6]),
        prepare=lambda x, rng: data.binarize(x, "dynamic", rng),
    )  # fmt: skip
    x = data.binarize(images.test[: s.images], "dynamic", Generator(3))
    exact = evaluation.log_likelihood_by_quadrature(vae, x, s.grid, limit=7.0)
    finer = evaluation.log_likelihood_by_quadrature(vae, x, 2 * s.grid, limit=9.0)
    elbo = evaluation.elbo(vae, x, Generator(4), samples=s.draws).mean
    counts = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000])
    bound, error, spread = np.empty((3, len(counts)))
    for i, count in enumerate(counts):
        repeats = max(s.repeats, s.draws // count)
        log_w = log_weights(vae, x, count * repeats, Generator([7, count])).reshape(count, repeats, -1)
        estimate = np.asarray(bounds.iwae(log_w))  # (repeats, data)
        bound[i], spread[i] = estimate.mean(), estimate.mean(axis=1).std(ddof=1)
        error[i] = spread[i] / np.sqrt(repeats)
    missing = exact.mean - bound
    ratio = np.exp(log_w.reshape(-1, len(x)) - exact.values)  # w / p(x), of the last and longest run
    theory = ratio.var(axis=0).mean() / (2 * counts)

    fig = plots.figure(9.0, 4.0)
    axes, gap = fig.subplots(1, 2)
    axes.axhline(exact.mean, color="#000000", linewidth=1.0, label="integral over z")
    axes.errorbar(counts, bound, 2 * error, label="mean estimate (bars: 2 s.e.)", capsize=2, **plots.style(1))
    axes.fill_between(counts, bound - spread, bound + spread, color="#0b5394", alpha=0.2, label="s.d. of one estimate")
    axes.axhline(elbo, label="ELBO", **(plots.style(2) | {"marker": ""}))
    axes.set_ylabel("log p(x), nats per image")
    gap.errorbar(counts, missing, 2 * error, label="integral - mean estimate", capsize=2, **plots.style(1))
    gap.plot(counts, theory, label="mean of Var(w / p(x)) / (2L)", **(plots.style(2) | {"marker": ""}))
    gap.set_yscale("log")
    gap.set_ylabel("gap, nats per image")
    for a in (axes, gap):
        a.set_xscale("log")
        a.set_xlabel("importance samples L")
        a.legend(fontsize=8)
        a.grid(True, which="both", linewidth=0.3)
    fig.suptitle(f"Importance-sampled likelihood of {len(x)} test images of {s.data}, {s.latents} latents", fontsize=10)

    note = "the text has the formula only"
    rows = [
        Row("integral over z", exact.mean, note=f"{len(x)} images, a grid of {s.grid}^{s.latents}; {note}"),
        Row("integral - a finer and wider grid", 1000 * (exact.mean - finer.mean), unit="millinats"),
        Row("ELBO", elbo, note=f"{s.draws} samples, KL in closed form"),
        Row("L = 1", bound[0], note=f"standard error {error[0]:.4f}"),
        Row(f"L = {counts[-1]}", bound[-1], note=f"standard error {error[-1]:.4f}"),
    ]
    for n, m, e, d in zip(counts, missing, error, spread, strict=True):
        note = f"standard error {1000 * e:.2f}; s.d. of one estimate {1000 * d:.1f}"
        rows.append(Row(f"integral - L = {n}", 1000 * m, None, "millinats", note))
    rises = np.diff(bound) / np.hypot(error[:-1], error[1:])
    both = 4 * np.hypot(error[0], error[0])  # the ELBO above has as many draws
    claims = [
        Claim(bound[0], "=", elbo, both, "L = 1 is the ELBO, within 4 standard errors"),
        Claim(rises.min(), ">=", -3.0, 0.0, "the bound rises from each L to the next: smallest rise, standard errors"),
        Claim(((bound - exact.mean) / error).max(), "<=", 3.0, 0.0, "no mean above the integral, standard errors"),
        Claim(bound[-1], "=", exact.mean, 0.05, "L = 5000 reaches the integral, within 0.05 nats"),
    ]
    numbers = {"counts": counts, "bound": bound, "error": error, "gap": missing, "theory": theory}
    return Result(rows, {"": fig}, numbers, claims)


# %% [markdown]
# ## Section 2.8: the bound as a divergence
#
# Four binary pixels, one latent: everything is a sum over 16 patterns and an integral over a line. The data are 200
# draws from some distribution over the patterns, q_D their frequencies. Three divergences, each by its own sum:
#
#     KL(q_D(x) || p(x))        what maximum likelihood minimises           (eq. 2.61, 2.62)
#     KL(q_D(x) q(z | x) || p(x, z))        what the ELBO minimises         (eq. 2.63-2.65)
#     E_qD KL(q(z | x) || p(z | x))         the difference                  (eq. 2.67)

# %%
GRID = np.linspace(-15.0, 15.0, 3001)
STEP = GRID[1] - GRID[0]
PATTERNS = np.array([[int(c) for c in f"{i:04b}"] for i in range(16)], float)


def tiny(seed=0, hidden=3):
    """The small model, in float64."""
    return VAE(4, (hidden,), 1, rng=Generator([seed, 99]), init=nn.normal(0.5), dtype="float64")


def densities(vae):
    """log p(x, z) and log q(z | x) of all patterns on the grid, (16, grid); probabilities written out by hand."""
    p = vae.mean_image(GRID[:, None])[None]
    log_px_z = np.log(np.where(PATTERNS[:, None] == 1, p, 1 - p)).sum(axis=-1)
    with no_grad():
        q = vae.encode(PATTERNS)
    return log_px_z + norm.logpdf(GRID), norm.logpdf(GRID, np.asarray(q.mu), np.exp(np.asarray(q.log_sigma)))


def log_marginal(log_joint):
    """log p(x) of all patterns, (16,)."""
    return np.log(np.exp(log_joint).sum(axis=1) * STEP)


def divergences(vae, frequencies):
    """Marginal, joint and mean posterior KL in nats; none computed from the others."""
    log_joint, log_q = densities(vae)
    log_px = log_marginal(log_joint)
    seen = frequencies > 0  # 0 log 0 = 0
    log_f = np.log(frequencies[seen])[:, None]
    q, log_posterior = np.exp(log_q), log_joint - log_px[:, None]
    joint = frequencies[seen] @ (q[seen] * (log_f + log_q[seen] - log_joint[seen])).sum(axis=1) * STEP
    posterior = frequencies @ (q * (log_q - log_posterior)).sum(axis=1) * STEP
    return np.array([rel_entr(frequencies, np.exp(log_px)).sum(), joint, posterior])


def some_data(count=200, seed=0):
    """Data (count, 4) from a random distribution over the patterns, and their frequencies q_D, (16,)."""
    rng = Generator([seed, 8])
    weights = rng.exponential(size=16) ** 2
    which = rng.choice(16, count, p=weights / weights.sum())
    return PATTERNS[which], np.bincount(which, minlength=16) / count


KL_NAMES = ("KL(q_D(x) || p(x))", "KL(q_D(x, z) || p(x, z))", "E KL(q(z | x) || p(z | x))")


@experiment(
    "kl",
    title="likelihood and bound as divergences, by enumeration",
    mirrors="thesis section 2.8, eq. 2.58-2.68, Figure 2.4",
    budgets={"quick": {"epochs": 400}, "laptop": {"epochs": 2000}, "paper": {"epochs": 20_000}},
    minutes={"quick": 0.1, "laptop": 0.3, "paper": 2.5},
)
def kl(run):
    """Train on the bound; draw the three divergences."""
    s = run.settings
    x, frequencies = some_data(seed=run.seed)
    vae = tiny(run.seed)
    before = divergences(vae, frequencies)
    when = {round(e) for e in np.geomspace(1, s.epochs, 40)}

    def evaluate(epoch):
        if epoch not in when and epoch != s.epochs:
            return {}
        log_joint, log_q = densities(vae)
        elbo = frequencies @ ((np.exp(log_q) * (log_joint - log_q)).sum(axis=1) * STEP)
        return dict(zip(KL_NAMES, divergences(vae, frequencies), strict=True)) | {"elbo": elbo}

    history = run.fit(
        f"kl_seed{run.seed}", vae, lambda x, rng: -vae.elbo(x, rng).mean(), optim.Adam(vae.parameters(), 0.01), x,
        epochs=s.epochs, batch_size=50, rng=Generator([run.seed, 9]), evaluate=evaluate,
    )  # fmt: skip
    kept = [r for r in history.records if "elbo" in r]
    epochs, elbo = np.array([r["epoch"] for r in kept]), np.array([r["elbo"] for r in kept])
    marginal, joint, posterior = (np.array([r[n] for r in kept]) for n in KL_NAMES)
    seen = frequencies[frequencies > 0]
    entropy = -np.sum(seen * np.log(seen))

    fig = plots.figure(7.5, 4.2)
    axes = fig.add_subplot()
    for i, (name, values) in enumerate(zip(KL_NAMES, (marginal, joint, posterior), strict=True)):
        axes.plot(epochs, values, label=name, **plots.style(i, len(epochs)))
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epochs over 200 data")
    axes.set_ylabel("divergence, nats")
    axes.set_title("The joint divergence is the marginal one plus the mean posterior one (eq. 2.67)", fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(True, which="both", linewidth=0.3)

    middle = len(kept) // 2
    rows = [
        Row(f"{moment}, {name}", value, note="published as equations only")
        for moment, values in (
            ("before", before),
            (f"epoch {epochs[middle]}", (marginal[middle], joint[middle], posterior[middle])),
            (f"epoch {epochs[-1]}", (marginal[-1], joint[-1], posterior[-1])),
        )
        for name, value in zip(KL_NAMES, values, strict=True)
    ]
    claims = [
        Claim(abs(joint - marginal - posterior).max(), "=", 0.0, 1e-8, "eq. 2.67 throughout, largest difference"),
        # eq. 2.68 is printed with <=
        Claim((joint - marginal).min(), ">=", 0.0, 0.0, "the joint divergence is never below the marginal one"),
        Claim(abs(joint + elbo - (-entropy)).max(), "=", 0.0, 1e-8, "joint divergence + ELBO = -H(q_D) throughout"),
        Claim(joint[-1], "<=", before[1], 0.0, "training on the bound lowers the joint divergence"),
        Claim(marginal[-1], "<=", before[0], 0.0, "and with it the marginal one"),
    ]
    return Result(
        rows, {"": fig}, {"epochs": epochs, "marginal": marginal, "joint": joint, "posterior": posterior}, claims
    )


# %% [markdown]
# ## What to try next
#
# - `minivi run ch02_marginal_likelihood.convergence --budget laptop`: Figure 2.6 on MNIST.
# - Set `ACCEPTANCE` to 0.65, which is said to be the better choice for long runs: does Monte Carlo EM gain?
# - Give Monte Carlo EM's chains a better start than the prior: the encoder of an AEVB model of the same size.
