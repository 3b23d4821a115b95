"""Relaxed draws of the class instead of a sum over classes (thesis chapter 8)."""

# %% [markdown]
# ## Concrete variables
#
# Eq. 3.8 sums over the classes: a step costs as many passes as there are. Algorithm 4 draws one, and its gradient needs
# the score function. Maddison et al. and Jang et al. (2016) draw a relaxed one, y = softmax((log q + Gumbel) / tau), a
# smooth function of log q, so the gradient passes through it, with a bias that vanishes with tau. Measured: a step's
# CPU time over the number of classes, and the test error of M2 on pixels by each of the three. What the relaxation must
# not cost is accuracy beside the sum. It is judged at tau = 0.5, where Jang et al. end their schedule.

# %%
import numpy as np

from minivi import plots
from minivi.experiments import experiment
from minivi.experiments.measuring import seconds_in_turn
from minivi.experiments.results import mean_and_error
from minivi.models import SemiSupervisedVAE
from minivi.random import Generator
from minivi.sweeps import sweep
from minivi.tensor import grad
from minivi_chapters.studies.ch03_semi_supervised._shared import DIGITS, MNIST, claim_fewer, concrete_bound, m2_errors

SUMMED, DRAWN, RELAXED = "summed over", "drawn, score function", "relaxed, tau = {:g}"
TAU = 0.5  # of the claims


@experiment(
    "concrete",
    title="classes summed over, drawn, or drawn relaxed: cost and error",
    mirrors="thesis chapter 8 (Concrete, Gumbel-softmax)",
    budgets={
        "quick": DIGITS | {"pixels": 64, "width": 100, "latents": 10, "classes": [10, 50], "steps": 10, "count": 100,
                           "draws": 2, "epochs": 20, "step_size": 3e-3, "batch": 50, "taus": [TAU]},
        "laptop": DIGITS | {"pixels": 784, "width": 200, "latents": 20, "classes": [10, 50, 200], "steps": 10,
                            "count": 100, "draws": 4, "epochs": 60, "step_size": 3e-3, "batch": 50, "taus": [TAU, 1.0]},
        "paper": MNIST | {"pixels": 784, "width": 500, "latents": 50, "classes": [10, 100, 1000], "steps": 50,
                          "count": 100, "draws": 10, "epochs": 3000, "step_size": 3e-4, "batch": 100,
                          "taus": [0.1, 0.3, TAU, 1.0]},
    },
    minutes={"quick": 0.4, "laptop": 1.2, "paper": 60 * 24 * 20},
)  # fmt: skip
def concrete(run):
    """CPU milliseconds of a gradient step on 100 unlabelled data by rounds; errors by choice of labels."""
    s, rng = run.settings, Generator(run.seed)
    x = (rng.random((100, s.pixels)) < 0.3).astype(np.float32)
    ms = {}
    for classes in s.classes:
        model = SemiSupervisedVAE(s.pixels, classes, (s.width,), s.latents, rng=Generator(0))
        step = lambda bound, model=model: grad(-bound.mean(), model.parameters(), unused="zeros")
        jobs = {
            "summed": lambda model=model, step=step: step(model.unlabelled_bound(x, rng)),
            "relaxed": lambda model=model, step=step: step(concrete_bound(model, x, rng, TAU)),
        }
        ms[str(classes)] = {name: 1000 * each for name, each in seconds_in_turn(jobs, s.steps, 2).items()}
    ways = {SUMMED: {}, DRAWN: {"sampled": True}} | {RELAXED.format(tau): {"temperature": tau} for tau in s.taus}
    cells = [
        {"source": s.data, "split": s.split, "count": s.count, "draw": run.seed + draw} | way
        | {key: getattr(s, key) for key in ("width", "latents", "epochs", "batch", "step_size")}
        for way in ways.values() for draw in range(s.draws)
    ]  # fmt: skip
    options = {"resume": run.resume, "progress": run.progress and "concrete"}
    results = sweep(m2_errors, cells, run.folder / "concrete", **options)
    errors = np.reshape([r["error"] for r in results], (len(ways), s.draws))
    return {"ms": ms, "errors": dict(zip(ways, errors, strict=True))}


@concrete.table
def _(n, table):
    s = n.settings
    for classes, by in n.ms.items():
        for name, values in by.items():
            table.row(f"{classes} classes, {name}", np.median(values), unit="CPU ms", note="a step on 100 data")
    for name, values in n.errors.items():
        mean, error = mean_and_error(values)
        note = f"standard error {error:.2f} over {len(values)} choices of {s.count} labels, {s.data}"
        table.row(f"M2 on pixels, class {name}", mean, unit="%", note=note)
    says = table.says(
        "thesis 8",
        "Novel estimators for discrete latent variables [Maddison et al., 2016, Jang et al., 2016] make it possible to "
        "scale architectures similar to ours to a much larger number of classes",
        seeds=s.draws,
    )
    least, *_, most = n.ms
    for name in ("relaxed", "summed"):
        growth, error = mean_and_error(np.array(n.ms[most][name]) / n.ms[least][name])
        table.row(f"{name}: a step with {most} classes over one with {least}", growth, unit="", note=f"+- {error:.2g}")
    relaxed = RELAXED.format(TAU)
    claim_fewer(says, n.errors[relaxed], n.errors[SUMMED], f"class {relaxed} less {SUMMED}")


@concrete.figure()
def _(n):
    fig = plots.figure(9.0, 3.6)
    left, right = fig.subplots(1, 2)
    classes = [int(c) for c in n.ms]
    for i, (name, label) in enumerate({"summed": SUMMED, "relaxed": "relaxed"}.items()):
        left.plot(classes, [np.median(by[name]) for by in n.ms.values()], label=label, **plots.style(i, len(classes)))
    plots.panel(left, "a gradient step on 100 data", "classes", "CPU time, ms", log="xy")
    left.legend(fontsize=8)
    names = list(n.errors)[::-1]
    means, errors = np.transpose([mean_and_error(n.errors[k]) for k in names])
    right.barh(names, means, xerr=2 * errors, capsize=3, color="0.7", edgecolor="black")
    title = f"M2 on {n.settings.data}, {n.settings.count} labels"
    plots.panel(right, title, "test error, % (bars: two standard errors over choices of labels)", "")
    return fig
