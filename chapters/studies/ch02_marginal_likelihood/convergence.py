"""Figure 2.6: log p(x) while training by AEVB, wake-sleep and Monte Carlo EM (sections 2.11.2, appendix 2.B)."""

# %% [markdown]
# ## Monte Carlo EM (appendix 2.B)
#
# No encoder. Each training point has a chain that is at home in its posterior p(z | x). A minibatch is an E step, 10
# leapfrog steps of Hamiltonian Monte Carlo with the step size tuned to 90 % acceptance, and an M step, 5 updates of the
# decoder towards log p(x | z) at the z reached; so that the posterior's mean of grad log p(x, z), which is the gradient
# of log p(x), is followed: `minivi.em.MonteCarloEM`.
#
# ## Figure 2.6: three algorithms, two sizes of training set
#
# One yardstick for all: log p(x) by a grid over the three latents (`evaluation.log_likelihood_by_quadrature`), of the
# same images. The table checks it against a finer grid, against importance sampling where there is an encoder, and
# against annealed importance sampling, which needs none.

# %%
import numpy as np

from minivi import data, estimators, evaluation, mcmc, plots
from minivi.distributions import Normal
from minivi.em import MonteCarloEM, numbered
from minivi.experiments import experiment
from minivi.random import Generator
from minivi_chapters.studies.ch02_marginal_likelihood._shared import DIGITS, MNIST, PAPER, new_vae, optimizer_for

METHODS = "AEVB", "wake-sleep", "MCEM"
LEAPFROG_STEPS, UPDATES, ACCEPTANCE = 10, 5, 0.9


def start(method, s, train, step_size, seed):
    """What ``fit`` takes: the module to keep, the loss, the optimizer and the data; and the VAE inside."""
    vae = new_vae(s, train.shape[1], 3, seed)
    if method == "MCEM":
        em = MonteCarloEM(
            vae, len(train), Generator([seed, 7]), UPDATES, leapfrog_steps=LEAPFROG_STEPS, target=ACCEPTANCE
        )
        optimizer = optimizer_for(vae.decoder, s, step_size, len(train))
        return (em, em.loss(optimizer), optimizer, numbered(train)), vae
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


def verify(s, vae, x, encoder):
    """log p(x) by the grid, by a finer and wider one, and by the two estimators that sample, with their noise."""
    coarse = evaluation.log_likelihood_by_quadrature(vae, x, s.grid)
    fine = evaluation.log_likelihood_by_quadrature(vae, x, s.fine, limit=6.0)
    few = x[: s.ais_images]
    numbers = {"grid": coarse.mean, "finer": fine.mean}
    if encoder:
        sampled = evaluation.log_likelihood(vae, x, Generator(8), s.samples)
        numbers["sampled"] = [sampled.mean, sampled.noise]
    ais = annealed(vae, few, s.ais_chains, s.ais_steps, Generator(9))
    return numbers | {"annealed": [ais.mean, ais.noise], "grid of those annealed": coarse.values[: len(few)].mean()}


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
    minutes={"quick": 0.7, "laptop": 1.5, "paper": 60 * 12},
)
def convergence(run):
    """Train all six, and check the yardstick with those of the smaller set."""
    s, images = run.settings, run.images()
    pixels = {"train": data.fresh(images.train, Generator(2)), "test": data.fresh(images.test, Generator(3))}
    held_out = {name: x[: s.images] for name, x in pixels.items()}  # the first training images are in either size
    sizes = [min(size, len(pixels["train"])) for size in s.sizes]  # of another set by --data
    curves, yardstick, acceptance = {}, {}, {}
    for size, points, mcem_points in zip(sizes, s.points, s.mcem_points, strict=True):
        for method in METHODS:
            budget = mcem_points if method == "MCEM" else points
            train = pixels["train"][:size]
            module, vae, curves[f"{method}, {size}"] = train_one(run, method, train, budget, held_out)
            if method not in yardstick:
                yardstick[method] = verify(s, vae, held_out["test"], encoder=method != "MCEM")
            if method == "MCEM":
                chains = np.arange(min(size, 500))
                acceptance[str(size)] = module.acceptance(train[chains], chains, Generator(11))
    return {
        "curves": curves, "sizes": sizes, "yardstick": yardstick, "acceptance": acceptance,
        "annealed_images": len(held_out["test"][: s.ais_images]),
    }  # fmt: skip


@convergence.table
def _(n, table):
    for column, size in enumerate(n.sizes):
        for method in METHODS:
            curve = n.curves[f"{method}, {size}"]
            note = f"{curve['points'][-1]:,} points in {curve['seconds'][-1]:.0f} s; published as a picture only"
            for name in ("train", "test"):
                table.row(f"{method}, N = {size}, {name}", curve[name][-1], note=note)
            if column == 0:
                judge_yardstick(n, table, method)
            if method == "MCEM":
                accepted = n.acceptance[str(size)]
                table.row(f"MCEM, N = {size}, acceptance", accepted, 0.9, "", "chains of up to 500 points")
        compare(n, table, size, large=column == 1)


def judge_yardstick(n, table, method):
    """The grid beside a finer one, and beside the two estimators that sample."""
    s, by = n.settings, n.yardstick[method]
    difference = by["grid"] - by["finer"]
    note = f"{s.grid}^3 and {s.fine}^3 points"
    table.row(f"{method}, grid - finer and wider grid", difference, note=note)
    if "sampled" in by:
        mean, noise = by["sampled"]
        note = f"{s.samples} samples, noise {noise:.3f}; below the grid in expectation"
        table.row(f"{method}, importance sampling - grid", mean - by["grid"], note=note)
    mean, noise = by["annealed"]
    gap = mean - by["grid of those annealed"]
    note = f"{n.annealed_images} images, {s.ais_chains} chains, noise {noise:.3f}; below the grid in expectation"
    table.row(f"{method}, AIS - grid", gap, note=note)
    table.check(difference, "=", 0.0, 0.1, f"the yardstick for {method}: grid less finer and wider grid")
    table.check(gap, "=", 0.0, 0.1 + 4 * noise, f"the yardstick for {method}: AIS less grid")


def compare(n, table, size, large):
    """The text's claims on the curves of one size of training set."""
    aevb, ws, mcem = (n.curves[f"{method}, {size}"] for method in METHODS)
    says = table.says("thesis 2.1", "Theoretical advantages are reflected in experimental results.", seeds=1)
    for name in ("train", "test"):
        says(aevb[name][-1], ">=", ws[name].max(), 0.0, f"AEVB's end against wake-sleep's best, N = {size}, {name}")
    if large:
        cost = (mcem["seconds"][-1] / mcem["points"][-1]) / (aevb["seconds"][-1] / aevb["points"][-1])
        table.row(f"MCEM's seconds a training point over AEVB's, N = {size}", cost, unit="times")
        then = np.interp(np.log(mcem["seconds"][-1]), np.log(aevb["seconds"]), aevb["test"])
        says = table.says(
            "thesis Figure 2.6",
            "Monte Carlo EM is not an on-line algorithm, and (unlike our method and the wake-sleep method) can't be "
            "applied efficiently for the full MNIST dataset.",
            seeds=1,
        )
        says(mcem["test"][-1], "<=", then, 0.0, f"MCEM against AEVB after the same seconds, N = {size}, test")


@convergence.figure()
def _(n):
    """A column for each size of the data: log p(x) by points evaluated and by seconds."""
    fig = plots.figure(9.5, 7.0)
    sizes = list(dict.fromkeys(n.sizes))
    for column, size in enumerate(sizes):
        curves = [n.curves[f"{method}, {size}"] for method in METHODS]
        top = max(max(c["train"]) for c in curves)
        bottom = min(c["test"][len(c["test"]) // 3] for c in curves)  # the first points fall below the picture
        for row, (x, label) in enumerate(
            {"points": "training points evaluated", "seconds": "seconds of training"}.items()
        ):
            axes = fig.add_subplot(2, len(sizes), row * len(sizes) + column + 1)
            for i, (method, c) in enumerate(zip(METHODS, curves, strict=True)):
                style = plots.style(i, len(c[x]))
                axes.plot(c[x], c["test"], label=f"{method}, test", **style)
                axes.plot(c[x], c["train"], label=f"{method}, training", **(style | plots.THIN))
            axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.1 * (top - bottom))
            plots.panel(axes, f"{size:,} training points", label, "log p(x), nats per image", log="x")
    s = n.settings
    plots.legend_below(fig, [axes])
    fig.suptitle(f"Marginal likelihood while training on {s.data}, 3 latents, {s.hidden} hidden units", fontsize=10)
    return fig


# %% [markdown]
# ## What to try next
#
# - `minivi run ch02_marginal_likelihood.convergence --budget laptop`: Figure 2.6 on MNIST.
# - Set `ACCEPTANCE` to 0.65, which is said to be the better choice for long runs: does Monte Carlo EM gain?
# - Give Monte Carlo EM's chains a better start than the prior: the encoder of an AEVB model of the same size.
