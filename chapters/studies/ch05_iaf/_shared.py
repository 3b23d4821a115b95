"""Chapter 5, inverse autoregressive flow (thesis sections 5.4 and 5.6.1, appendices 5.A, 5.B.3 and 5.C).

A posterior that is a chain of autoregressive networks: how much tighter does it make the bound of a VAE with 32
latents, and which of its details matter?
"""

# %% [markdown]
# The encoder gives a Gaussian and a context h; each step rescales and moves every latent by a function of those before
# it (Algorithm 5):
#
#     eps_0 ~ N(0, I),   (mu_0, log sigma_0, h) = encoder(x),   z_0 = mu_0 + sigma_0 eps_0               (5.23-5.25)
#     (m_t, s_t) = MADE_t(z_{t-1}, h),   sigma_t = sigmoid(s_t),   z_t = sigma_t z_{t-1} + (1 - sigma_t) m_t
#                                                                                           (5.26, 5.27, 5.30-5.32)
#     log q(z_T | x) = -sum_i ( eps_{0,i}^2 / 2 + log(2 pi) / 2 + sum_{t=0}^T log sigma_{t,i} )          (5.28, 5.29)
#
# Two slips of the text: eq. 5.29 writes eps_i where the initial noise eps_{0,i} is meant, and the line above eq. 5.23
# leaves out the mean mu_0. The latents are reversed between steps, which changes no volume. In the library all this is
#
#     flow = flows.iaf(32, 4, [320, 320], rng, context=64)
#     vae = VAE(784, [450], 32, flow=flow, context=64, rng=rng)
#
# Section 5.B.8 trains with free bits (eq. 2.70, 5.33), which need the KL divergence of each group of latents. Behind a
# flow that mixes all of them there is none for each, only the sampled one of all; nothing here needs free bits.

# %%
from types import SimpleNamespace

import numpy as np

from minivi import data, evaluation, flows, nn, optim
from minivi.experiments.results import mean_and_error
from minivi.flows import Chain, InverseAutoregressive, Planar
from minivi.models import VAE
from minivi.random import Generator

EPOCHS = 1000  # of `paper`; the text does not say how many it took


def too_short(s):
    """Why a run of so few epochs cannot settle a claim, whichever way it comes out; empty if it can."""
    return f"{s.epochs} epochs for {EPOCHS:,}" if 2 * s.epochs < EPOCHS else ""


# %% [markdown]
# ## Training and measuring


# %%
def iaf(steps, width, **options):
    """A posterior of ``steps`` steps, see :func:`new_flow`."""
    return {"kind": "iaf", "steps": steps, "width": width, **options}


def images(run, name):
    """Training images; test images, binary once for all; how to prepare a minibatch of the former."""
    if ("binary", name) not in run.shared:
        loaded = data.load(name, data.describe(name)["splits"][0])
        grey = loaded.kind == "grey"
        test = data.fresh(loaded.test, Generator(2)) if grey else loaded.test
        run.shared["binary", name] = SimpleNamespace(
            name=name, train=loaded.train, test=test, prepare=data.fresh if grey else None
        )
    return run.shared["binary", name]


def new_flow(s, spec, rng):
    """The flow of a posterior, or None."""
    if spec["kind"] == "planar":
        return Chain([Planar(s.latents, rng, context=s.context) for _ in range(spec["steps"])])
    if spec["kind"] != "iaf":
        return None
    options = {"gate_bias": 2.0, "context": s.context, "activation": s.activation}
    options |= {k: v for k, v in spec.items() if k not in ("kind", "steps", "width", "rest")}
    chain = flows.iaf(s.latents, spec["steps"], [spec["width"]] * 2, rng, **options)
    for step in chain.flows:
        if spec.get("rest") and isinstance(step, InverseAutoregressive):  # m = s = 0 whatever z and h are
            for p in (step.network.layers[-1].weight, step.network.context_weights[-1]):
                p.assign(np.zeros(p.shape))
    return chain


def new_model(s, spec, train, seed):
    """A VAE with the posterior ``spec``; encoder and decoder begin alike whatever the flow."""
    flow = new_flow(s, spec, Generator([seed, 51]))
    start = {"output_bias": nn.logit_of_mean(train)} if s.optimizer == "adam" else {"init": fan_in}
    model = VAE(
        train.shape[1], s.hidden, s.latents, activation=s.activation,
        posterior="full" if spec["kind"] == "full" else "diagonal", flow=flow, context=s.context if flow else 0,
        rng=Generator([seed, 50]), **start,
    )  # fmt: skip
    # The encoder's last layer draws more or fewer weights before the decoder's: take those of a plain VAE.
    plain = VAE(train.shape[1], s.hidden, s.latents, activation=s.activation, rng=Generator([seed, 50]), **start)
    model.decoder.load_state_dict(plain.decoder.state_dict())
    return model


def fan_in(rng, shape):
    """PyTorch's initial weights: uniform in +-1 / sqrt(inputs)."""
    return rng.uniform(-1.0, 1.0, shape) / np.sqrt(shape[0])


def trained(run, s, sets, spec, seed, evaluate=None):
    """The model of ``spec``, trained, and its history."""
    label = "_".join(f"{k}{v}" if k != "kind" else v for k, v in spec.items())
    sizes = "-".join(map(str, [*s.hidden, s.latents]))

    def start():
        model, half = new_model(s, spec, sets.train, seed), s.epochs * -(-len(sets.train) // s.batch) / 2
        if s.optimizer == "adam":
            optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))
        else:  # PyTorch's defaults; its eps stands outside the root
            optimizer = optim.RMSProp(model.parameters(), s.step_size, decay=0.99, eps=1e-16)
        return model, lambda x, rng: -model.elbo(x, rng, estimator="A").mean(), optimizer

    model, history, _ = run.train(
        f"{sets.name}_{sizes}_{label}_seed{seed}_epochs{s.epochs}", start, sets.train, epochs=s.epochs,
        batch_size=s.batch, rng=Generator([seed, 52]), prepare=sets.prepare, evaluate=evaluate,
    )  # fmt: skip
    return model, history


def scores(run, s, sets, spec, seed):
    """The bound, log p-hat and their gap of every test image, after training; and how long that took."""
    key = "scores", sets.name, tuple(spec.items()), seed
    if key not in run.shared:
        model, history = trained(run, s, sets, spec, seed)
        bound = evaluation.elbo(model, sets.test, Generator([3, seed]), 16, batch=250)
        log_p = evaluation.log_likelihood(model, sets.test, Generator([4, seed]), s.samples, run.progress)
        run.shared[key] = SimpleNamespace(
            bound=bound, log_p=log_p, gap=evaluation.difference(log_p, bound), seconds=history.column("seconds").sum()
        )
    return run.shared[key]


def compare(a, b, what):
    """Mean and standard error of a - b, of which each is a list of scores by seed: over images, and over seeds."""
    pairs = [(getattr(x, what), getattr(y, what)) for x, y in zip(a, b, strict=True)]
    differences = np.array([evaluation.difference(x, y).values for x, y in pairs])
    over_images, by_seed = mean_and_error(differences.mean(axis=0))[1], differences.mean(axis=1)
    over_seeds = mean_and_error(by_seed)[1] if len(by_seed) > 1 else 0.0
    return by_seed.mean(), float(np.hypot(over_images, over_seeds))


# %% [markdown]
# ## As numbers and rows


# %%
def means_and_errors(each):
    """Bound, log p-hat and gap of one seed's scores after the other, each as its mean and standard error."""
    return [[e.mean, e.standard_error] for x in each for e in (x.bound, x.log_p, x.gap)]


def by_measure(pairs):
    """What :func:`means_and_errors` has made a list of: bound, log p-hat and gap, (seeds, 2) each."""
    return np.array(pairs, float).reshape(-1, 3, 2).swapaxes(0, 1)


def mean_row(table, what, estimates, published=None, note=""):
    """A row: the mean over seeds of one score, (seeds, 2), with its errors over images and seeds."""
    means, errors = estimates.T
    spread = f", seeds +- {np.std(means, ddof=1):.2f}" if len(means) > 1 else ""
    table.row(what, np.mean(means), published, note=f"images +- {np.mean(errors):.2f}{spread}{note}")


def above(says, difference, label):
    """The claim, by a document's sentence ``says``, that a difference, given with its standard error, is above 0."""
    mean, error = np.array(difference, float)
    says(mean, ">=", 0.0, 0.0, f"{label}, nats", standard_error=error)


BETTER = (
    "thesis 5.6.1.1",
    "Results indicate that as approximate posterior becomes more expressive, generative modeling performance becomes "
    "better.",
)
TIGHTER = (
    "thesis 5.6.1.1",
    "an expressive approximate posterior also tightens variational lower bounds as expected, making the gap between "
    "variational lower bounds and marginal likelihoods smaller",
)
