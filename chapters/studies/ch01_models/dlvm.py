"""The example DLVM and its integral: how many latents are too many for a grid (sections 1.6.3, 1.7)."""

# %% [markdown]
# ## The example DLVM and its integral (sections 1.6.3, 1.7)
#
# The model of eq. 1.15-1.18, trained as chapter 2 does. With one latent the integral 1.13 is a sum over a grid that any
# laptop does at once; with J latents the grid has (points on an axis)^J points and the decoder runs at each. How many
# points does an axis need, and so how many latents are too many? A grid is decoded once for all images, so it is not
# even the number of images that costs. Beyond the largest grid that is really computed, the table extrapolates: the
# points that the last computed number of latents needed, and the CPU time that an evaluation took there.

# %%
import math
import time

import numpy as np
from scipy import stats

from minivi import data, evaluation, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi_chapters.studies.ch01_models._shared import ADAGRAD, ADAM, LIMIT, new_vae, optimizer_for, quadrature

DLVM = {
    "quick": {
        "data": "digits", "hidden": 50, "epochs": 60, **ADAM, "images": 100, "finest": [800, 200], "samples": 300,
    },
    "laptop": {
        "data": "mnist", "hidden": 200, "epochs": 5, **ADAM, "images": 200, "finest": [3200, 640, 128],
        "samples": 2000,
    },
    "paper": {
        "data": "mnist", "hidden": 500, "epochs": 500, **ADAGRAD, "images": 1000, "finest": [12800, 1280, 256],
        "samples": 5000,
    },
}  # fmt: skip
NATS = 0.1  # an error that would not change a published likelihood
PERIODS = {"an hour": 3600.0, "a year": 3.156e7, "the universe's age": 4.35e17}


def needed(points, errors):
    """The fewest points on an axis from which on all errors are below NATS; None if no grid was fine enough."""
    below = np.array(errors) < NATS
    good = [int(p) for i, p in enumerate(points) if below[i:].all()]
    return good[0] if good else None


def name_of(latents):
    """What tables and numbers call a model."""
    return f"{latents} latent{'s' if latents > 1 else ''}"


def costs(numbers, s):
    """Points on an axis, and evaluations a CPU second, by the number of latents for which a grid was fine enough."""
    by_latents = {j: numbers[name_of(j)] for j in range(1, len(s.finest) + 1)}
    enough = {j: needed(model["points"], model["errors"]) for j, model in by_latents.items()}
    return {j: (p, by_latents[j]["evaluations per CPU second"]) for j, p in enough.items() if p is not None}


def grid_seconds(cost):
    """CPU seconds of a grid for 1 to 20 latents: measured, or else with what the most latents measured needed."""
    each, _ = cost[max(cost)]
    return {j: (cost[j][0] if j in cost else each) ** j / cost.get(j, cost[max(cost)])[1] for j in range(1, 21)}


def integrate(run, vae, x, latents):
    """The model's integral on grids of growing fineness: numbers for the JSON, and those for the table alone."""
    s, finest = run.settings, run.settings.finest[latents - 1]
    points = [p for p in (5, 10, 15, 20, 30, 40, 60, 80, 100, 160, 240, 320, 480, 640, 1000) if 1.2 * p < finest]
    quadrature(vae, x, 10)  # compile before the clock runs
    begun = time.process_time()
    exact = quadrature(vae, x, finest, progress=run.progress)
    per_second = finest**latents / (time.process_time() - begun)
    coarse = [quadrature(vae, x, p, progress=run.progress) for p in points]
    errors = [float(np.mean(np.abs(c.values - exact.values))) for c in coarse]
    sampled = evaluation.log_likelihood(vae, x, Generator(32), s.samples, progress=run.progress)
    return {"points": points, "errors": errors, "evaluations per CPU second": per_second}, {
        "grid": [exact.mean, exact.standard_error],
        "sampled": [sampled.mean, sampled.noise],
        "difference": evaluation.difference(exact, sampled).mean,
        "width": float(np.median(np.exp(np.asarray(vae.encode(x).log_sigma, np.float64)))),
    }


def posteriors(vae, x):
    """What is integrated: p(z | x) = p(x, z) / p(x) (eq. 1.19) of the images on a line of z, (B, z)."""
    z = line(vae.dtype)
    with no_grad():
        log_px_z = np.asarray(vae.decode(z[:, None, None]).log_prob(x), np.float64)
    joint = np.exp(log_px_z - log_px_z.max(axis=0)) * stats.norm.pdf(z)[:, None]
    density = (joint / np.trapezoid(joint, z, axis=0)).T.astype(np.float32)
    return np.where(density > 1e-6, density, 0)  # below the frame; zeros cost no room in the file


def line(dtype="float32"):
    """The line of z."""
    return np.linspace(-LIMIT, LIMIT, 8001, dtype=dtype)


@experiment(
    "dlvm",
    title="the exact marginal by a grid, and the number of latents at which it stops being feasible",
    mirrors="thesis sections 1.6.3, 1.7, eq. 1.13-1.19",
    budgets=DLVM,
    minutes={"quick": 0.1, "laptop": 0.65, "paper": 240},
)
def dlvm(run):
    """Integrate models of one latent and more on grids of growing fineness; count evaluations, extrapolate seconds."""
    s, images = run.settings, run.images()
    x = data.fresh(images.test[: s.images], Generator(2))
    numbers, models = {}, {}
    for latents in range(1, len(s.finest) + 1):
        vae = new_vae(s, images.train.shape[1], latents, run.seed)
        run.fit(
            f"dlvm_{s.data}_latents{latents}", vae, lambda x, rng, vae=vae: -vae.elbo(x, rng).mean(),
            optimizer_for(vae, s, len(images.train)), images.train, epochs=s.epochs, batch_size=s.batch,
            rng=Generator([run.seed, latents, 31]), prepare=data.fresh,
        )  # fmt: skip
        numbers[name_of(latents)], models[name_of(latents)] = integrate(run, vae, x, latents)
        if latents == 1:
            densities = posteriors(vae, x[:3])
    cost = costs(numbers, s)
    if cost:
        seconds = {str(j): value for j, value in grid_seconds(cost).items()}
        numbers["CPU seconds of a grid"] = {"measured": sorted(cost), **seconds}
    return numbers | {"models": models, "posteriors": densities, "count": len(x)}


@dlvm.table
def _(n, table):
    s, cost = n.settings, costs(vars(n), n.settings)
    for latents, (finest, (name, model)) in enumerate(zip(s.finest, n.models.items(), strict=True), start=1):
        (mean, error), (sampled, noise) = model["grid"], model["sampled"]
        note = f"{finest}^{latents} points; {n.count} test images, standard error {error:.2f}"
        table.row(f"{name}, log p(x) by quadrature", mean, note=note)
        note = f"{s.samples} importance samples an image (eq. 2.57); noise {noise:.3f}"
        table.row(f"{name}, log p(x) by sampling", sampled, note=note)
        label = f"{name}: sampling, a bound from below, is not above the integral, within 3 of its noise"
        table.check(model["difference"], ">=", 0.0, 3 * noise + 1e-3, label)
        note = "of the encoder's q(z | x); a grid must be about as fine"
        table.row(f"{name}, median standard deviation", model["width"], unit="", note=note)
        enough, note = None, "no grid was enough"
        if latents in cost:
            enough, per_second = cost[latents]
            note = f"{enough**latents:.2g} decoder evaluations, {enough**latents / per_second:.2g} CPU seconds"
        table.row(f"{name}, points on an axis for {NATS} nats", enough, unit="", note=note)
    label = f"p(x, z) integrates at one latent: {s.finest[0] // 2} points agree with {s.finest[0]}"
    table.check(vars(n)["1 latent"]["errors"][-1], "<=", 0.01, 0.0, f"{label}, nats")
    if cost:
        extrapolate(table, cost)


def extrapolate(table, cost):
    """Rows of what grids for more latents would take, and the claim about twenty."""
    (each, per_second), seconds = cost[max(cost)], grid_seconds(cost)
    day = max(j for j in seconds if seconds[j] <= 86400.0)
    note = f"with {each} points an axis and {per_second:.3g} evaluations a CPU second"
    note += f", as measured at {max(cost)} latents"
    table.row("most latents that a day of one core is enough for", day, unit="", note=note)
    for j in (5, 10, 20):
        note = f"extrapolated, not run: {each}^{j} decoder evaluations"
        table.row(f"{j} latents, log10 of the CPU seconds", math.log10(seconds[j]), unit="", note=note)
    says = table.says(
        "thesis 1.7",
        "This is due to the integral in equation (1.13) for computing the marginal likelihood (or model evidence), "
        "... not having an analytic solution or efficient estimator.",
    )
    says(day, "<=", 20, 0.0, "most latents for which a day of one core is enough, against Figure 2.5's twenty")


@dlvm.figure()
def _(n):
    """Errors by points, seconds by latents, and three of the functions that are integrated."""
    fig = plots.figure(10.5, 3.5)
    first, second, third = (fig.add_subplot(1, 3, i + 1) for i in range(3))
    for i, name in enumerate(n.models):
        points, errors = vars(n)[name]["points"], vars(n)[name]["errors"]
        first.plot(points, np.maximum(errors, 1e-7), label=name, **plots.style(i, len(points)))
    first.axhline(NATS, color="#777777", linewidth=0.8)
    cost = costs(vars(n), n.settings)
    if cost:
        seconds, later = grid_seconds(cost), range(max(cost), 21)
        second.plot(sorted(cost), [seconds[j] for j in sorted(cost)], label="grids that were run", **plots.style(0))
        style = plots.style(1) | {"marker": ""}
        second.plot(later, [seconds[j] for j in later], label="extrapolated", **style)
        second.legend(fontsize=8, loc="upper left")
    for name, value in PERIODS.items():
        second.axhline(value, color="#777777", linewidth=0.8)
        second.text(1.02, value, name, fontsize=7, va="center", transform=second.get_yaxis_transform())
    draw_posteriors(third, n.posteriors)
    plots.panel(first, "a grid fine enough", "points on each axis", "mean |error| of log p(x), nats", log="xy")
    first.legend(fontsize=8, loc="upper right")
    plots.panel(second, f"its cost for {NATS} nats", "latents", "CPU seconds for one grid", log="y")
    second.set_xticks([1, 5, 10, 15, 20])
    fig.suptitle(f"The marginal likelihood of the example DLVM on {n.settings.data}, by quadrature", fontsize=10)
    return fig


def draw_posteriors(axes, densities):
    """The posteriors, and the prior."""
    z = line()
    axes.plot(z, stats.norm.pdf(z), label="prior", **(plots.style(5) | {"marker": ""}))
    for i, density in enumerate(densities):
        axes.plot(z, density, label=f"image {i + 1}", **(plots.style(i) | {"marker": ""}))
    plots.panel(axes, "one latent: p(z | x) of three images", "z", "density", log="y").legend(fontsize=8, ncols=2)
    axes.set(xlim=(-6, 6), ylim=(1e-3, 30 * densities.max()))
