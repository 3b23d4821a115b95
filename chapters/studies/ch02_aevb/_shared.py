"""Chapter 2, first part: auto-encoding variational Bayes (thesis sections 1.6, 2.3-2.7, 2.11, appendix 2.A).

Can one train a deep latent-variable model when neither p(x) nor p(z | x) can be computed? Algorithm 1 says yes:
maximise the evidence lower bound with a second network, the encoder, and let gradients flow through the sampling.
"""

# %% [markdown]
# The model (eq. 1.15-1.18) and the bound (eq. 2.10), with the closed-form divergence of appendix 2.A (eq. 2.77):
#
#     p(z) = N(0, I)         p(x | z) = Bernoulli(x; DecoderNet(z))        q(z | x) = N(z; mu(x), diag(sigma(x)^2))
#     L(x) = E_q[log p(x | z)] - KL(q(z | x) || p(z))  <=  log p(x)
#
# and the trick (eq. 2.40): z = mu + sigma * eps with eps ~ N(0, I), so that L's gradient can be sampled.

# %%
from minivi import data, estimators, evaluation, nn, optim, weights
from minivi.experiments.measuring import dequantize
from minivi.models import VAE
from minivi.random import Generator
from minivi.training import fit

# %% [markdown]
# ## Settings
#
# `paper` is the text's own (section 2.11): weights from N(0, 0.01), a variance; AdaGrad, its global step size the
# best of three in the first iterations; a prior N(0, I) on the weights; minibatches of 100, one sample each. The
# smaller budgets use Adam with Glorot's initial weights, which needs far fewer passes over the data, and all 60,000
# training images; pixels are drawn afresh from their grey values in each epoch at every budget.

# %%
ADAM = {"optimizer": "adam", "step_sizes": [1e-3], "batch": 100}
QUICK = {"data": "digits", "split": "1500/297", "hidden": 100, "epochs": 150, **ADAM, "images": 297, "samples": 200}
LAPTOP = {"data": "mnist", "split": "60000/10000", "hidden": 500, "epochs": 20, **ADAM, "images": 1000, "samples": 500}
PAPER = {
    "data": "mnist",
    "split": "50000/10000/10000",
    "hidden": 500,
    "epochs": 2000,
    "optimizer": "adagrad",
    "step_sizes": [0.01, 0.02, 0.1],
    "batch": 100,
    "images": 10000,
    "samples": 5000,
}


def budgets(quick, laptop, paper, night=None):
    """The settings, with what an experiment adds to them; a night's differ from a laptop's."""
    settings = {"quick": QUICK | quick, "laptop": LAPTOP | laptop, "paper": PAPER | paper}
    return settings | ({"night": settings["laptop"] | night} if night else {})


# Frey faces are so few that `laptop` can take the text's own optimizer; only the epochs are fewer. Digits stand in at
# `quick`, as continuous data: noise is added to their 17 grey values, or a Gaussian would shrink onto them.
FREY = {"data": "frey", "split": "1765/200", "hidden": 200, "likelihood": "gaussian", "latents": [2, 5, 10, 20]}
FREY_BUDGETS = {
    "quick": QUICK | {"likelihood": "gaussian", "latents": [2, 10], "epochs": 100, "seeds": {}},
    "laptop": PAPER | FREY | {"epochs": 500, "seeds": {}},
    "paper": PAPER | FREY | {"epochs": 6000, "seeds": {}},
}


# %% [markdown]
# ## Algorithm 1, and wake-sleep
#
# Minibatches, noise, gradient, update: `fit` is the loop, and the loss is minus the bound. Wake-sleep differs by its
# two objectives, which do not add up to any bound; model, optimizer and data are the same.


# %%
def optimizer_for(vae, settings, step_size, count):
    """Adam, or the text's AdaGrad with the weights' prior N(0, I), which counts once for all ``count`` data."""
    if settings.optimizer == "adam":
        return optim.Adam(vae.parameters(), step_size)
    return optim.AdaGrad(vae.parameters(), step_size, weight_decay=1.0 / count)


def new_model(settings, images, latents, seed, hidden=None):
    """A VAE with one hidden layer on either side, of ``hidden`` units if given, else of the settings'."""
    return VAE(
        images.train.shape[1],
        (hidden or settings.hidden,),
        latents,
        getattr(settings, "likelihood", "bernoulli"),
        rng=Generator([seed, latents]),
        init=nn.glorot if settings.optimizer == "adam" else nn.normal(0.1),
    )


def preparation(settings):
    """What happens to a minibatch of grey values."""
    if getattr(settings, "likelihood", "bernoulli") == "bernoulli":
        return data.fresh
    return dequantize if settings.data == "digits" else lambda x, rng: x


LOSSES = {
    "AEVB": lambda vae: lambda x, rng: -vae.elbo(x, rng).mean(),  # estimator B with one sample (eq. 2.77)
    "wake-sleep": lambda vae: lambda x, rng: -estimators.wake_sleep(vae, x, rng).mean(),
}


def choose_step_size(run, method, latents, seed, steps=200):
    """The step size with the best training bound after the first ``steps`` minibatches."""
    s, images = run.settings, run.images()
    if len(s.step_sizes) == 1:
        return s.step_sizes[0]
    epochs = max(1, round(steps * s.batch / len(images.train)))
    first = images.train[: steps * s.batch]
    found = {}
    for step_size in s.step_sizes:
        vae = new_model(s, images, latents, seed)
        optimizer = optimizer_for(vae, s, step_size, len(images.train))
        fit(
            vae, LOSSES[method](vae), optimizer, first, epochs=epochs, batch_size=s.batch, rng=Generator(seed),
            prepare=preparation(s), progress=False,
        )  # fmt: skip
        found[step_size] = evaluation.elbo(vae, preparation(s)(first, Generator(2)), Generator(3)).mean
    return max(found, key=found.get)


def trained(run, latents, seed=None, method="AEVB", hidden=None):
    """A model trained for this chapter's experiments, its history, the held-out data as prepared, the step size."""
    seed = run.seed if seed is None else seed
    s, images = run.settings, run.images()
    likelihood = getattr(s, "likelihood", "bernoulli")
    held_out = {"test": images.test, "train": images.train[: len(images.test)]}
    held_out = {name: preparation(s)(x, Generator(2)) for name, x in held_out.items()}

    def start():
        vae = new_model(s, images, latents, seed, hidden)
        step_size = choose_step_size(run, method, latents, seed)
        return vae, LOSSES[method](vae), optimizer_for(vae, s, step_size, len(images.train))

    def evaluate(vae, epoch):
        bounds = {name: evaluation.elbo(vae, x, Generator([3, epoch])) for name, x in held_out.items()}
        errors = {f"{name}_error": bound.standard_error for name, bound in bounds.items()}
        return {name: bound.mean for name, bound in bounds.items()} | errors

    name = f"{s.data}_{likelihood}_latents{latents}_seed{seed}_{method}" + (f"_hidden{hidden}" if hidden else "")
    vae, history, optimizer = run.train(
        name, start, images.train, epochs=s.epochs,
        batch_size=s.batch, rng=Generator([seed, latents, 1]), prepare=preparation(s), evaluate=evaluate,
    )  # fmt: skip
    weights.save(history.folder / "weights.safetensors", vae, step_size=optimizer.step_size)
    return vae, history, held_out, optimizer.step_size
