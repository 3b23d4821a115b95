"""Variational EM and MCMC-EM: a decoder trained without an encoder (sections 9.2.2, 9.2.3)."""

# %% [markdown]
# ## Variational EM and MCMC-EM (9.2.2, 9.2.3)
#
# Two ways to train the same decoder without an encoder. Both give each datum something of its own, bring it up to date
# for a minibatch (E step), then make five updates of the decoder with it (M step):
#
# - variational EM keeps mu_i and log sigma_i, and climbs the bound in them (eq. 9.6) by natural gradients: a
#   Gaussian's Fisher information is 1 / sigma^2 for mu and 2 for log sigma, so that a step is measured in units of the
#   posterior's own width, however narrow. No step may be longer than one sigma;
# - MCMC-EM keeps z_i, and moves it by Hamiltonian Monte Carlo along grad_z log p(x, z) (eq. 9.14).
#
# The yardstick is the exact log p(x), by quadrature over two latents. What is counted for each training image is the
# gradients through a network: 2 a visit for AEVB, whose encoder is as large as its decoder, 20 + 5 for variational EM,
# 11 + 5 for MCMC-EM. Pixels are drawn once: what is kept for a datum belongs to one fixed image.

# %%
import numpy as np

from minivi import data, plots
from minivi.em import MonteCarloEM, VariationalEM, climb, local_bound, numbered
from minivi.experiments import experiment, mean_and_error
from minivi.experiments.measuring import few_seeds
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi_chapters.studies.ch01_models._shared import ADAGRAD, ADAM, LIMIT, new_vae, optimizer_for, quadrature

EM = {
    "quick": {
        "data": "digits",
        "count": 300,
        "hidden": 50,
        **ADAM,
        "gradients": 480,
        "images": 150,
        "points": 60,
        "seeds": 1,
    },
    "laptop": {
        "data": "mnist",
        "count": 2000,
        "hidden": 100,
        **ADAM,
        "gradients": 1200,
        "images": 500,
        "points": 160,
        "seeds": 2,
    },
    "paper": {
        "data": "mnist",
        "count": 50000,
        "hidden": 100,
        **ADAGRAD,
        "gradients": 8000,
        "images": 1000,
        "points": 200,
        "seeds": 2,
    },
}
UPDATES, E_SAMPLES = 5, 4
TRAINERS = {
    "AEVB": None,
    "variational EM": lambda vae, n, seed: VariationalEM(vae, n, UPDATES, steps=5, samples=E_SAMPLES),
    "MCMC-EM": lambda vae, n, seed: MonteCarloEM(vae, n, Generator([seed, 41]), UPDATES, leapfrog_steps=10),
}


def train_em(run, method, seed, train, held_out):
    """Train one decoder; the VAE and its curve: gradients an image, seconds, exact log p(x) by name of ``held_out``."""
    s = run.settings
    vae = new_vae(s, train.shape[1], 2, seed)
    if method == "AEVB":
        model, optimizer = vae, optimizer_for(vae, s, len(train))
        loss, rows, cost = (lambda x, rng: -vae.elbo(x, rng).mean()), train, 2  # encoder and decoder
    else:
        model, optimizer = TRAINERS[method](vae, len(train), seed), optimizer_for(vae.decoder, s, len(train))
        loss, rows, cost = model.loss(optimizer), numbered(train), model.cost
    epochs = max(1, s.gradients // cost)
    when = set(np.geomspace(1, epochs, 12).round().astype(int).tolist())

    def evaluate(epoch):
        if epoch not in when:
            return {}
        exact = {k: quadrature(vae, x, s.points).mean for k, x in held_out.items()}
        return {"gradients": epoch * cost, **exact}

    history = run.fit(
        f"em_{s.data}{len(train)}_{method.replace(' ', '_')}_seed{seed}", model, loss, optimizer, rows, epochs=epochs,
        batch_size=s.batch, rng=Generator([seed, 42]), evaluate=evaluate,
    )  # fmt: skip
    curve = {name: history.column(name) for name in ("gradients", *held_out)}
    return model, curve | {"seconds": history.column("seconds").sum()}


def encode(vae, x):
    """The encoder's mu and log sigma as constants, (B, J)."""
    with no_grad():
        q = vae.encode(x)
        return np.array(q.mu), np.array(q.log_sigma)


def divergence(vae, x, exact, mu, log_sigma):
    """KL(q(z) || p(z | x)) = log p(x) - bound (eq. 9.9) of each datum, (B,) in nats, by 200 samples."""
    rng = Generator(45)
    with no_grad():
        bounds = [np.asarray(local_bound(vae, x, mu, log_sigma, rng, 20), np.float64) for _ in range(10)]
    return exact.values - np.mean(bounds, axis=0)


@experiment(
    "em",
    title="variational EM with local parameters and MCMC-EM, against AEVB and the exact likelihood",
    mirrors="thesis sections 9.2.2, 9.2.3, eq. 9.6-9.14",
    budgets=EM,
    minutes={"quick": 0.1, "laptop": 1.2, "paper": 600},
)
def em(run):
    """Train one decoder three ways; then, for new images, the encoder against E steps."""
    s, images = run.settings, run.images()
    train = data.fresh(images.train[: s.count], Generator(43))
    test = data.fresh(images.test[: s.images], Generator(44))
    held_out = {"train": train[: s.images], "test": test}
    seeds = range(run.seed, run.seed + s.seeds)
    runs = {m: [train_em(run, m, seed, train, held_out) for seed in seeds] for m in TRAINERS}
    histories = {method: [curve for _, curve in each] for method, each in runs.items()}
    curves = {
        method: {name: np.mean([c[name] for c in each], axis=0) for name in ("gradients", *held_out)}
        for method, each in histories.items()
    }
    vae = runs["AEVB"][0][0]
    fine, exact = quadrature(vae, test, 3 * s.points, 1.5 * LIMIT), quadrature(vae, test, s.points)
    e_step, gains = new_images(vae, test, fine, run.seed)
    keeper, seen = runs["variational EM"][0][0], held_out["train"]
    own = quadrature(keeper.vae, seen, 2 * s.points)
    kept = divergence(keeper.vae, seen, own, keeper.mu.data[: len(seen)], keeper.log_sigma.data[: len(seen)])
    return {
        "curves": curves,
        "log p(x) of training images by seed": {m: [c["train"][-1] for c in each] for m, each in histories.items()},
        "E step": e_step,
        "seconds_of_training": {m: np.mean([c["seconds"] for c in each]) for m, each in histories.items()},
        "quadrature_error": np.mean(np.abs(exact.values - fine.values)),
        "gains": gains,
        "kept": kept.mean(),
    }


def new_images(vae, x, exact, seed):
    """KL(q || p(z | x)) in AEVB's own model: of the encoder's q, and of a local q that climbs from the prior.

    Then, image by image, by how much a climb from the encoder's q lowers it.
    """
    encoded = encode(vae, x)
    encoder = divergence(vae, x, exact, *encoded)
    prior = np.zeros((len(x), 2), vae.dtype)
    rng, taken = Generator([seed, 46]), [1, 2, 4, 8, 16, 32, 64, 128]
    local = [divergence(vae, x, exact, *climb(vae, x, prior, prior, rng, steps)) for steps in taken]
    climbed = divergence(vae, x, exact, *climb(vae, x, *encoded, rng, 64, samples=10))
    e_step = {"gradients": E_SAMPLES * np.array(taken), "KL": np.mean(local, axis=1)}
    return e_step | {"KL of the encoder": encoder.mean()}, encoder - climbed


@em.table
def _(n, table):
    s, ends, e_step = n.settings, vars(n)["log p(x) of training images by seed"], vars(n)["E step"]
    for method, curve in n.curves.items():
        note = f"{curve['gradients'][-1]:.0f} network gradients an image"
        note += f", {n.seconds_of_training[method]:.0f} s" + (f", {s.seeds} seeds" if s.seeds > 1 else "")
        for name in ("train", "test"):
            table.row(f"{method}, log p(x), {name}", curve[name][-1], note=note)
    note = f"mean |error| against {3 * s.points}^2 points on a square half as large again, AEVB's decoder, test images"
    table.row(f"quadrature with {s.points}^2 points", n.quadrature_error, note=note)
    table.check(n.quadrature_error, "<=", 0.05, 0.0, "the yardstick's error, nats")
    says = table.says(
        "thesis 1.7",
        "Traditional inference methods are relatively expensive. Such methods, for example, often require a "
        "per-datapoint optimization loop, or yield bad posterior approximations.",
        seeds=s.seeds,
    )
    for method in ("variational EM", "MCMC-EM"):
        label = f"{s.gradients} network gradients an image: log p(x) of training images, AEVB against {method}"
        error = few_seeds(ends["AEVB"] - ends[method])[1]
        says(ends["AEVB"].mean(), ">=", ends[method].mean(), 0.0, label, standard_error=error)
    encoder = e_step["KL of the encoder"]
    table.row("new images, KL(q || p(z | x)), encoder", encoder, note="no gradient through the decoder")
    for gradients, kl in list(zip(e_step["gradients"], e_step["KL"], strict=True))[3::4]:
        table.row("new images, KL(q || p(z | x)), local", kl, note=f"{gradients} decoder gradients an image")
    gain, error = mean_and_error(n.gains)
    note = f"standard error {error:.4f}: what one encoder for all loses against a q for each, of the same family"
    table.row("64 E steps of 10 samples from the encoder's q: fall of the KL", gain, note=note)
    says = table.says(
        "thesis 9.2.2",
        "so the E-step, sensibly, minimizes the KL divergence of q(z|x) from the true posterior.",
        seeds=1,
    )
    says(gain, ">=", 0.0, 0.0, "E steps from the encoder's q: fall of KL(q || p(z | x))", standard_error=error)
    note = "its training images, its own decoder"
    table.row("variational EM, KL(q || p(z | x)) at the end", n.kept, note=note)


@em.figure()
def _(n):
    """The exact likelihood while training by each method; what E steps reach for new images."""
    fig = plots.figure(10.5, 3.6)
    panels = [fig.add_subplot(1, 3, i + 1) for i in range(3)]
    held_out = {"train": "training images", "test": "test images"}
    low = min(c[name][min(2, len(c[name]) - 1)] for c in n.curves.values() for name in held_out)
    high = max(max(c[name]) for c in n.curves.values() for name in held_out)
    for axes, (name, title) in zip(panels, held_out.items(), strict=False):
        for i, (method, c) in enumerate(n.curves.items()):
            axes.plot(c["gradients"], c[name], label=method, **plots.style(i, len(c["gradients"])))
        plots.panel(axes, title, "network gradients an image", "exact log p(x), nats", log="x")
        axes.set_ylim(low, high + 0.05 * (high - low))
    e_step = vars(n)["E step"]
    taken = e_step["gradients"]
    panels[2].plot(taken, e_step["KL"], label="local, from the prior", **plots.style(1, len(taken)))
    panels[2].axhline(e_step["KL of the encoder"], color="k", linewidth=1.3, label="encoder")
    names = "decoder gradients an image", "KL(q(z) || p(z | x)), nats"
    plots.panel(panels[2], "new images, AEVB's decoder", *names, log="xy")
    for axes in panels:
        axes.legend(fontsize=8)
    s = n.settings
    fig.suptitle(f"One decoder with two latents, three ways to train it, on {s.count} images of {s.data}", fontsize=10)
    return fig


# %% [markdown]
# ## What to try next
#
# - `minivi run ch01_models --budget laptop`: the same on MNIST.
# - A tighter prior, N(0, 0.1 I): multiply the weight decay by ten. With which number of images does it help?
# - Three latents in `em` (points 40): which of the three trainers suffers most?
# - `minivi check 9.7` after leaving `q.kl()` out of `local_bound`: what fails?
