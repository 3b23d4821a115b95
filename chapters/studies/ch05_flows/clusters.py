"""Four data points: posteriors that bend fit the prior better together (thesis Figure 5.2)."""

# %% [markdown]
# ## Figure 5.2: four data points
#
# A VAE with two latents and four data points, each a bit of its own. At best the decoder tells them apart with
# certainty, and each has log p(x) = -log 4. For that the four posteriors have to share out the prior among them, with
# no overlap: in general (eq. 5.8, with the roles of x and z exchanged)
#
#     bound = -log 4 - KL(q(z) || p(z)) - E_q(z) KL(q(x | z) || p(x | z)),     q(z) = 1/4 sum_n q(z | x_n)
#
# Four round or upright elliptic Gaussians cannot make up a round one. The first divergence is the gap to the prior that
# the figure shows; it is computed on a grid, from densities by the flow's inverse.

# %%
from types import SimpleNamespace

import numpy as np
from scipy.special import logsumexp

from minivi import optim, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi_chapters.studies.ch05_flows._shared import FLOWS, GAUSSIAN, falling, make_flow, values

POINTS = 4
CLUSTERS = {
    "quick": {"hidden": 32, "context": 8, "depth": 4, "width": 32, "epochs": 12, "seeds": 1},
    "laptop": {"hidden": 32, "context": 8, "depth": 4, "width": 32, "epochs": 30, "seeds": 3},
    "paper": {"hidden": 64, "context": 16, "depth": 8, "width": 64, "epochs": 1000, "seeds": 5},
}
for settings in CLUSTERS.values():  # an epoch is 100 steps with 64 draws for each datum
    settings |= {"step_size": 3e-3, "draws": 64, "samples": 20_000}
TERMS = "bound", "error", "prior", "decoder"
EDGE = 3.6  # of the pictures
MARKS = [("#0b5394", "o"), ("#e69138", "^"), ("#000000", "x"), ("#a2c4c9", "s")]  # four greys in print


def toy(s, kind, seed):
    """The VAE of the four points."""
    rng = Generator([seed, 50])
    context = s.context if kind in FLOWS else 0
    flow = make_flow(kind, 2, s.depth, s.width, rng, context) if kind in FLOWS else None
    return VAE(POINTS, (s.hidden,), 2, flow=flow, context=context, rng=rng)


def toy_trained(run, kind, seed):
    """The VAE after training on all four points at each step."""
    s, model, x = run.settings, toy(run.settings, kind, seed), np.eye(POINTS, dtype="float32")
    optimizer = optim.Adam(model.parameters(), falling(s.step_size, 100 * s.epochs))
    run.fit(
        f"clusters_{kind.replace(' ', '_')}_{seed}", model,
        lambda batch, rng: -model.elbo(batch, rng, s.draws, estimator="A").mean(), optimizer,
        np.tile(x, (100, 1)), epochs=s.epochs, batch_size=POINTS, rng=Generator([seed, 51]),
        prepare=lambda batch, rng: x,
    )  # fmt: skip
    return model


def toy_measures(model, samples, edge=6.0, points=241):
    """The bound by sampling, and the terms that make it up, on a grid: :class:`SimpleNamespace`, in nats."""
    x = np.eye(POINTS, dtype="float32")
    axis = np.linspace(-edge, edge, points)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 1, 2).astype(model.dtype)
    cell = (axis[1] - axis[0]) ** 2
    with no_grad():
        log_w = np.asarray(model.log_weights(x, Generator(52), samples), np.float64).mean(axis=1)
        log_q = np.asarray(model.encode(x).log_prob(z), np.float64)  # (grid, points)
        log_px_z = np.asarray(model.decode(z).log_prob(x), np.float64)
    log_q = np.maximum(log_q, -1e4)  # far out it is minus infinity in float32, and 0 times that no number
    mixture = logsumexp(log_q, axis=1) - np.log(POINTS)
    weight = np.exp(mixture) * cell
    log_qx_z = log_q - np.log(POINTS) - mixture[:, None]
    log_pz = -0.5 * np.sum(z[:, 0] ** 2, axis=1) - np.log(2 * np.pi)
    return SimpleNamespace(
        bound=log_w.mean(), error=log_w.std() / np.sqrt(samples), mass=weight.sum(), prior=weight @ (mixture - log_pz),
        decoder=weight @ np.sum(np.exp(log_qx_z) * (log_qx_z - log_px_z), axis=1),
        mixture=np.exp(mixture).reshape(points, points), axis=axis,
    )  # fmt: skip


@experiment(
    "clusters",
    title="four data points: factorized Gaussian against IAF posteriors",
    mirrors="thesis Figure 5.2",
    budgets=CLUSTERS,
    minutes={"quick": 0.4, "laptop": 0.13, "paper": 90},
)
def clusters(run):
    """Train both from the same seeds: the bound's terms; draws and the density of the seed with the median gap."""
    s, x, terms, drawn = run.settings, np.eye(POINTS, dtype="float32"), {}, {}
    for kind in (GAUSSIAN, "IAF"):
        models = [toy_trained(run, kind, run.seed + i) for i in range(s.seeds)]
        measures = [toy_measures(model, s.samples) for model in models]
        terms[kind] = [vars(f) | {"mixture": None, "axis": None} for f in measures]
        middle = np.argsort([f.prior for f in measures])[s.seeds // 2]
        axis = measures[middle].axis
        seen = np.abs(axis) < EDGE + 0.1
        drawn[kind] = {
            "gap": measures[middle].prior,
            "draws": np.asarray(models[middle].encode(x).sample(Generator(54), (300,))),
            # Single precision does for contours
            "density": measures[middle].mixture[np.ix_(seen, seen)].astype("float32"),
        }
    return terms | {"drawn": drawn, "axis": axis[seen], "prior": Generator(53).standard_normal((1200, 2))}


@clusters.table
def _(n, table):
    best, kinds = -np.log(POINTS), (GAUSSIAN, "IAF")
    mean = {(kind, name): np.mean(values(vars(n)[kind], name)) for kind in kinds for name in TERMS}
    for kind in kinds:
        gaps = values(vars(n)[kind], "prior")
        note = f"mean of {n.settings.seeds}, from {min(gaps):.3f} to {max(gaps):.3f}; the thesis has a picture only"
        table.row(f"{kind}, KL(q(z) || p(z))", mean[kind, "prior"], note=note)
        note = "points that the decoder confuses"
        table.row(f"{kind}, E KL(q(x | z) || p(x | z))", mean[kind, "decoder"], note=note)
        note = f"+- {mean[kind, 'error']:.3f}; best possible: {best:.3f}"
        table.row(f"{kind}, bound", mean[kind, "bound"], note=note)
        label = f"{kind}: the bound is -log 4 less both divergences, sampling against a grid"
        for bound, error, prior, decoder in zip(*(values(vars(n)[kind], name) for name in TERMS), strict=True):
            table.check(bound, "=", best - prior - decoder, 5 * error + 2e-3, label)
    about = {"seeds": n.settings.seeds}
    fit = table.says(
        "thesis Figure 5.2",
        "IAF greatly improves the flexibility of the posterior distributions, and allows for a much better fit between "
        "the posteriors and the prior.",
        **about,
    )
    tight = table.says(
        "thesis 5",
        "Increasing the flexibility of the inference model improves the tightness of the variational bound (ELBO), "
        "bringing it closer the true marginal likelihood objective.",
        **about,
    )
    for says, name, relation, label in (
        (fit, "prior", "<=", "IAF's KL(q(z) || p(z)) less the Gaussian's, nats"),
        (tight, "bound", ">=", "IAF's bound less the Gaussian's, nats"),
    ):
        change = values(n.IAF, name) - values(n.Gaussian, name)
        error = (
            mean_and_error(change)[1] if len(change) > 1 else np.hypot(mean["IAF", "error"], mean[GAUSSIAN, "error"])
        )
        says(change.mean(), relation, 0.0, 0.0, label, standard_error=error)


@clusters.figure()
def _(n):
    """Draws from the prior and from the four posteriors, with contours of the density that they have together."""
    fig = plots.figure(10.5, 3.9)
    panels = fig.subplots(1, 3, sharex=True, sharey=True)
    panels[0].plot(*n.prior.T, ".", color="#777777", markersize=2.5)
    panels[0].set_title("(a) prior", fontsize=10)
    for axes, (kind, drawn), letter in zip(panels[1:], n.drawn.items(), "bc", strict=True):
        for i, (colour, marker) in enumerate(MARKS):
            z = drawn["draws"][:, i]
            axes.plot(*z.T, marker, color=colour, markersize=3, label=f"x = {i + 1}", markeredgewidth=0.7)
        axes.set_title(f"({letter}) {kind} posteriors, {drawn['gap']:.3f} nats away", fontsize=10)
    circle = np.exp(-0.5 * np.square(n.axis)) / np.sqrt(2 * np.pi)
    densities = [np.outer(circle, circle), *(drawn["density"] for drawn in n.drawn.values())]
    for axes, density in zip(panels, densities, strict=True):
        axes.contour(n.axis, n.axis, density.T, [0.005, 0.03, 0.1], colors="black", linewidths=[0.5, 0.8, 1.1])
        axes.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", xlabel="$z_1$")
    panels[0].set_ylabel("$z_2$")
    panels[2].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=1.6)
    title = "Four data points: KL of all posteriors together from the prior; contours: density of 0.005, 0.03 and 0.1"
    fig.suptitle(title, fontsize=10)
    return fig
