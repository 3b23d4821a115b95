"""The same VAE with planar, radial, NICE, Real NVP and IAF posteriors (thesis section 5.2.2)."""

# %% [markdown]
# ## Section 5.2.2 in a VAE
#
# The same encoder and decoder, the same 32 latents, images and minibatches; only what the Gaussian goes through
# differs. The encoder's output h makes the numbers of each planar and radial step by a linear map, and is an input of
# the networks of the others. The distance of the bound to log p-hat, in the same images, is KL(q(z | x) || p(z | x)):
# how tight the posterior is. A better posterior may also let the decoder use the latents more. What the flows cost is
# said by the time to a given bound, the one at which the Gaussian ends.
#
# Section 5.6.1 uses a convolutional model for its MNIST table; the fully connected one of that table is in `ch05_iaf`.

# %%
from types import SimpleNamespace

import numpy as np

from minivi import bounds, data, evaluation, nn, optim, plots
from minivi.experiments import experiment
from minivi.models import VAE
from minivi.random import Generator
from minivi_chapters.studies.ch05_flows._shared import FLOWS, GAUSSIAN, make_flow

# ms of a training step: at `laptop`, with digits, and at `paper`.
COST_MNIST = {GAUSSIAN: 3.3, "planar": 7.2, "radial": 5.6, "NICE": 5.1, "Real NVP": 5.6, "IAF": 6.5}
COST_DIGITS = {GAUSSIAN: 0.8, "planar": 2.9, "radial": 2.9, "NICE": 2.3, "Real NVP": 2.7, "IAF": 3.2}
COST_PAPER = {GAUSSIAN: 13.5, "planar": 16.3, "radial": 16.0, "NICE": 16.9, "Real NVP": 17.5, "IAF": 19.9}
POSTERIORS = (GAUSSIAN, *FLOWS)
IMAGES = {
    "quick": {
        "data": "digits", "split": "1500/297", "hidden": [50], "latents": 8, "context": 16, "width": 32, "batch": 50,
        "step_size": 2e-3, "epochs": 15, "images": 297, "samples": 200, "costs": COST_DIGITS,
    },
    "laptop": {
        "data": "mnist", "split": "60000/10000", "hidden": [200], "latents": 32, "context": 50, "width": 100,
        "batch": 100, "step_size": 1e-3, "epochs": 15, "images": 1000, "samples": 200, "costs": COST_MNIST,
    },
    "paper": {
        "data": "mnist", "split": "60000/10000", "hidden": [500, 500], "latents": 32, "context": 100, "width": 320,
        "batch": 100, "step_size": 1e-3, "epochs": 1000, "images": 10_000, "samples": 5000, "costs": COST_PAPER,
    },
}  # fmt: skip
for settings in IMAGES.values():
    settings["depth"] = 4


def posterior_vae(s, kind, train, seed):
    """The VAE with one posterior."""
    rng = Generator([seed, 70])
    context = s.context if kind in FLOWS else 0
    flow = make_flow(kind, s.latents, s.depth, s.width, Generator([seed, 71]), context) if context else None
    bias = nn.logit_of_mean(train)
    return VAE(train.shape[1], s.hidden, s.latents, flow=flow, context=context, rng=rng, output_bias=bias)


def vae_trained(run, kind, images, test):
    """What one posterior came to: bound and log p-hat of the test images, Estimates, and the bound by epoch."""
    s = run.settings
    model = posterior_vae(s, kind, images.train, run.seed)
    half = s.epochs * -(-len(images.train) // s.batch) / 2
    optimizer = optim.Adam(model.parameters(), lambda step: s.step_size * min(1.0, 2.0 - step / half))
    evaluate = lambda epoch: {"bound": evaluation.bound(model, test, Generator([72, epoch]), 1, bounds.elbo).mean}
    history = run.fit(
        f"vae_{s.data}_{kind.replace(' ', '_')}", model, lambda x, rng: -model.elbo(x, rng, estimator="A").mean(),
        optimizer, images.train, epochs=s.epochs, batch_size=s.batch, rng=Generator([run.seed, 75]),
        prepare=data.fresh, evaluate=evaluate,
    )  # fmt: skip
    bound = evaluation.bound(model, test, Generator(73), 20, bounds.elbo)
    log_p = evaluation.log_likelihood(model, test, Generator(74), s.samples)
    return SimpleNamespace(
        bound=bound, log_p=log_p, gap=evaluation.difference(log_p, bound), course=history.column("bound"),
        seconds=history.column("seconds").sum(),
    )  # fmt: skip


MEASURES = {"bound": "bound", "log_p": "log p-hat", "gap": "log p-hat - bound"}


@experiment(
    "vae",
    title="the same VAE with planar, radial, NICE, Real NVP and IAF posteriors",
    mirrors="thesis sections 5.2.2 and 8",
    budgets=IMAGES,
    minutes={"quick": 0.5, "laptop": 2.1, "paper": 60 * 35},
)
def vae(run):
    """Train one model for each posterior: bounds, log p-hat and their differences, of the same images."""
    s, images = run.settings, run.images()
    test = data.fresh(images.test[: s.images], Generator(2))
    fits = {kind: vae_trained(run, kind, images, test) for kind in POSTERIORS}
    pair = lambda e: [e.mean, e.standard_error]
    return {
        "scores": {kind: {what: pair(getattr(f, what)) for what in MEASURES} for kind, f in fits.items()},
        "courses": {kind: f.course for kind, f in fits.items()},
        "training_seconds": {kind: f.seconds for kind, f in fits.items()},
        "gains": {
            f"{kind} over {other}": {
                what: pair(evaluation.difference(getattr(fits[kind], what), getattr(fits[other], what)))
                for what in MEASURES
            }
            for kind in FLOWS
            for other in (GAUSSIAN, "planar")
            if kind != other
        },
        "steps_an_epoch": -(-len(images.train) // s.batch),
    }


def reached(course, goal):
    """After how many epochs, interpolated, the bound is first at ``goal``; NaN if it never is."""
    above = np.flatnonzero(np.array(course) >= goal)
    if not len(above):
        return np.nan
    i = above[0]
    return 1.0 if i == 0 else i + (goal - course[i - 1]) / (course[i] - course[i - 1])


@vae.table
def _(n, table):
    s = n.settings
    for kind in POSTERIORS:
        for what, name in MEASURES.items():
            mean, error = n.scores[kind][what]
            note = {"bound": f"; {s.epochs} epochs, {s.images} images", "log_p": f"; {s.samples} samples"}.get(what, "")
            table.row(f"{kind}, {name}", mean, note=f"+- {error:.2f}{note}")
    goal = n.courses[GAUSSIAN][-1]
    for kind in POSTERIORS:
        epochs = reached(n.courses[kind], goal)
        note = f"{epochs:.1f} epochs of {s.costs[kind]} ms a step"
        seconds = epochs * n.steps_an_epoch * s.costs[kind] * 1e-3
        table.row(f"{kind}, time to the Gaussian's last bound, {goal:.1f}", seconds, unit="s", note=note)
    gains = table.says(
        "thesis 5.7",
        "In experiments we demonstrated that autoregressive flow leads to significant performance gains compared to "
        "similar models with factorized Gaussian approximate posteriors",
        seeds=1,
    )
    for what in ("bound", "log_p"):
        gain, error = n.gains[f"IAF over {GAUSSIAN}"][what]
        gains(gain, ">=", 0.0, 0.0, f"IAF's {MEASURES[what]} less the Gaussian's, nats", standard_error=error)
    tight = table.says(
        "thesis 5",
        "Increasing the flexibility of the inference model improves the tightness of the variational bound (ELBO), "
        "bringing it closer the true marginal likelihood objective.",
        seeds=1,
    )
    for kind in FLOWS:
        change, error = n.gains[f"{kind} over {GAUSSIAN}"]["gap"]
        tight(change, "<=", 0.0, 0.0, f"{kind}: gap less the Gaussian's, nats", standard_error=error)
    if s.latents < 32:  # not "high-dimensional"
        return
    bottleneck = table.says(
        "thesis 5.2.2",
        "This flow does not scale well to a high-dimensional latent space: since information goes through the single "
        "bottleneck, a long chain of transformations is required to capture high-dimensional dependencies.",
        seeds=1,
    )
    change, error = n.gains["IAF over planar"]["gap"]
    bottleneck(
        change, "<=", 0.0, 0.0, f"{s.latents} latents: IAF's gap less that of as many planar steps, nats",
        standard_error=error,
    )  # fmt: skip


@vae.figure()
def _(n):
    """The bound by epoch and by time; and what tightness is left to gain, with twice its standard error."""
    s = n.settings
    fig = plots.figure(10.5, 4.2)
    panels = fig.subplots(1, 3)
    for kind in POSTERIORS:
        course = np.array(n.courses[kind])
        epochs = np.arange(1, len(course) + 1)
        style = plots.style((*FLOWS, GAUSSIAN).index(kind), len(epochs))
        for axes, x in ((panels[0], epochs), (panels[1], epochs * n.steps_an_epoch * s.costs[kind] * 1e-3)):
            axes.plot(x[1:], course[1:], label=kind, **style)
    for axes, x in zip(panels, ("epochs", "seconds of training, one core"), strict=False):
        plots.panel(axes, f"{s.data}, depth {s.depth}", x).set_xlim(left=0)
    panels[0].set_ylabel("bound, nats per test image")
    gaps, errors = np.array([n.scores[kind]["gap"] for kind in POSTERIORS]).T
    place = np.arange(len(POSTERIORS))[::-1]
    panels[2].barh(place, gaps, 0.6, xerr=2 * errors, color="#bbbbbb", edgecolor="black", capsize=3)
    panels[2].set_yticks(place, POSTERIORS, fontsize=8)
    panels[2].set_xlabel("log p-hat - bound, nats", fontsize=8)
    panels[2].set_title("looseness, with 2 standard errors", fontsize=9)
    plots.legend_below(fig, panels[:2])
    return fig


# %% [markdown]
# ## What to try next
#
# - Put the bananas of `scaling` in order (`order` = the identity): with each a before its b, one step of IAF is exact.
# - Reverse the order of IAF's dimensions no more (`reverse=False` in `make_flow`), or permute halves between couplings.
# - Give planar flows of the VAE as many steps as fit into IAF's time, and look at the bound.
