"""The same VAE with planar, radial, NICE, Real NVP and IAF posteriors (thesis section 5.2.2)."""

# %% [markdown]
# ## Section 5.2.2 in a VAE
#
# The same encoder and decoder, the same 32 latents, images and minibatches; only what the Gaussian goes through
# differs. The encoder's output h makes the numbers of each planar and radial step by a linear map, and is an input of
# the networks of the others. The distance of the bound to log p-hat, in the same images, is KL(q(z | x) || p(z | x)):
# how tight the posterior is. A better posterior may also let the decoder use the latents more. In the few epochs of a
# laptop the bound still rises fast, so that at equal time the Gaussian gains more by its extra epochs than any flow.
#
# Section 5.6.1 uses a convolutional model for its MNIST table; the fully connected one of that table is in `ch05_iaf`.

# %%
from types import SimpleNamespace

import numpy as np

from minivi import bounds, data, evaluation, nn, optim, plots
from minivi.experiments import experiment
from minivi.models import VAE
from minivi.random import Generator
from minivi_chapters.studies.ch05_flows._shared import FLOWS, GAUSSIAN, epochs_in_time, make_flow

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
        "batch": 100, "step_size": 1e-3, "epochs": 7, "images": 1000, "samples": 200, "costs": COST_MNIST,
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
    """What one posterior came to: bound, log p-hat and their difference at equal depth and at equal time."""
    s = run.settings
    model = posterior_vae(s, kind, images.train, run.seed)
    later = max(s.epochs, epochs_in_time(s.costs, s.epochs, kind))
    optimizer = optim.Adam(model.parameters(), s.step_size)

    def evaluate(epoch):
        if epoch not in (s.epochs, later):
            return {"bound": evaluation.bound(model, test, Generator([72, epoch]), 1, bounds.elbo).mean}
        bound = evaluation.bound(model, test, Generator(73), 20, bounds.elbo)
        log_p = evaluation.log_likelihood(model, test, Generator(74), s.samples)
        return {"bound": bound.mean, "bounds": bound.values.tolist(), "log_p": log_p.values.tolist()}

    history = run.fit(
        f"vae_{s.data}_{kind.replace(' ', '_')}", model, lambda x, rng: -model.elbo(x, rng, estimator="A").mean(),
        optimizer, images.train, epochs=later, batch_size=s.batch, rng=Generator([run.seed, 75]), prepare=data.fresh,
        evaluate=evaluate,
    )  # fmt: skip
    at = {"depth": s.epochs, "time": later}
    seconds = np.cumsum(history.column("seconds"))
    return SimpleNamespace(
        course=history.column("bound"), seconds=seconds, epochs=at,
        bound={k: np.array(history.records[e - 1]["bounds"]) for k, e in at.items()},
        log_p={k: np.array(history.records[e - 1]["log_p"]) for k, e in at.items()},
    )  # fmt: skip


def paired(a, b):
    """The mean of a - b over images, and twice its standard error."""
    return np.mean(a - b), 2 * np.std(a - b, ddof=1) / np.sqrt(len(a))


@experiment(
    "vae",
    title="the same VAE with planar, radial, NICE, Real NVP and IAF posteriors",
    mirrors="thesis section 5.2.2",
    budgets=IMAGES,
    minutes={"quick": 0.5, "laptop": 4, "paper": 60 * 35},
)
def vae(run):
    """Train one model for each posterior: bounds, log p-hat and their differences, of the same images."""
    s, images = run.settings, run.images()
    test = data.fresh(images.test[: s.images], Generator(2))
    fits = {kind: vae_trained(run, kind, images, test) for kind in POSTERIORS}
    numbers = {
        kind: {"epochs": f.epochs, "seconds": f.seconds, "course": f.course}
        | {when: [f.bound[when].mean(), f.log_p[when].mean()] for when in f.bound}
        | {"gap": {when: paired(f.log_p[when], f.bound[when]) for when in f.bound}}
        for kind, f in fits.items()
    }
    iaf, against = fits["IAF"], {}
    for when in iaf.epochs:
        gaps = {kind: f.log_p[when] - f.bound[when] for kind, f in fits.items()}
        against[when] = {
            other: {
                "tighter by": paired(gaps[other], gaps["IAF"]),
                "above by": paired(iaf.bound[when], fits[other].bound[when]),
            }
            for other in (GAUSSIAN, "planar")
        }
    errors = {kind: {when: paired(bound, 0.0)[1] for when, bound in f.bound.items()} for kind, f in fits.items()}
    steps = -(-len(images.train) // s.batch)
    return numbers | {"two errors": errors, "IAF against": against, "steps_an_epoch": steps, "count": len(test)}


@vae.table
def _(n, table):
    s = n.settings
    for when in ("depth", "time"):
        for kind in POSTERIORS:
            f = vars(n)[kind]
            (bound, log_p), (gap, two_errors), epochs = f[when], f["gap"][when], f["epochs"][when]
            seconds = epochs * n.steps_an_epoch * s.costs[kind] * 1e-3
            about = f"equal {when}: {epochs} epochs, {seconds:.0f} s"
            note = f"+- {vars(n)['two errors'][kind][when] / 2:.2f}; {about}; {n.count} images"
            table.row(f"{kind}, equal {when}, bound", bound, note=note)
            table.row(f"{kind}, equal {when}, log p-hat", log_p, note=f"{s.samples} samples")
            table.row(f"{kind}, equal {when}, log p-hat - bound", gap, note=f"+- {two_errors / 2:.2f}")
        for other, gains in vars(n)["IAF against"][when].items():
            for what, label in (("tighter by", "posterior is tighter than"), ("above by", "bound is above")):
                gain, two_errors = gains[what]
                table.claim(gain, ">=", 0.0, two_errors, f"equal {when}: IAF's {label} the {other}'s by, nats")


@vae.figure()
def _(n):
    """The bound by epoch and by time; and what tightness is left to gain, "gap" with twice its standard error."""
    s = n.settings
    fig = plots.figure(10.5, 4.2)
    panels = fig.subplots(1, 3)
    for kind in POSTERIORS:
        course = vars(n)[kind]["course"]
        epochs = np.arange(1, len(course) + 1)
        style = plots.style((*FLOWS, GAUSSIAN).index(kind), len(epochs))
        time = epochs * s.costs[kind] / max(s.costs[k] for k in FLOWS)
        for axes, x in ((panels[0], epochs), (panels[1], time)):
            axes.plot(x[x >= 2], course[x >= 2], label=kind, **style)
    names = {"depth": "epochs", "time": "time, in epochs of the slowest flow"}
    for axes, (when, x) in zip(panels, names.items(), strict=False):
        plots.panel(axes, f"{s.data}, depth {s.depth}, equal {when}", x).set_xlim(left=0)
    panels[0].set_ylabel("bound, nats per test image")
    place = np.arange(len(POSTERIORS))[::-1]
    for offset, when, colour in ((0.2, "depth", "#777777"), (-0.2, "time", "#cccccc")):
        gaps, errors = np.array([vars(n)[kind]["gap"][when] for kind in POSTERIORS]).T
        panels[2].barh(
            place + offset, gaps, 0.4, xerr=errors, color=colour, edgecolor="black", capsize=2, label=f"equal {when}"
        )
    panels[2].set_yticks(place, POSTERIORS, fontsize=8)
    panels[2].set_xlabel("log p-hat - bound, nats", fontsize=8)
    panels[2].set_title("looseness, with 2 standard errors", fontsize=9)
    plots.legend_below(fig, panels)
    return fig


# %% [markdown]
# ## What to try next
#
# - Put the bananas of `scaling` in order (`order` = the identity): with each a before its b, one step of IAF is exact.
# - Reverse the order of IAF's dimensions no more (`reverse=False` in `make_flow`), or permute halves between couplings.
# - Give planar flows of the VAE as many steps as fit into IAF's time, and look at the bound.
