"""What a gradient costs beside the value (thesis sections 7.1 and 9.3)."""

# %% [markdown]
# ## Sections 7.1 and 9.3: value and gradient
#
# The time of the bound alone, and of the bound with its gradient by all parameters, for a VAE of more and more hidden
# units; both by the engine step by step, not compiled. "Equal complexity" means that the ratio of the two does not grow
# with the number of parameters: the slope of its logarithm over theirs, of each round, is 0 or less. (In operations the
# ratio is at most 5: Baur and Strassen 1983.) By differences each parameter would cost a value of its own: slope 1. At
# `laptop` the ratio grows from 1.3 to 3.1 while the parameters grow three-hundredfold.

# %%
import time

import numpy as np

from minivi import plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import grad, no_grad


@experiment(
    "gradient_cost",
    title="the time of a value, and of a value with its gradient, by the number of parameters",
    mirrors="thesis sections 7.1 and 9.3 (no figure there)",
    budgets={
        "quick": {"data": "synthetic", "pixels": 64, "widths": [50, 100, 200, 400], "batch": 100, "rounds": 20},
        "laptop": {"data": "synthetic", "pixels": 784, "widths": [50, 100, 200, 400, 800, 1600, 3200], "batch": 100,
                   "rounds": 12},
        "paper": {"data": "synthetic", "pixels": 784, "widths": [50, 100, 200, 400, 800, 1600, 3200], "batch": 100,
                  "rounds": 100},
    },
    minutes={"quick": 0.1, "laptop": 0.065, "paper": 10},
)  # fmt: skip
def gradient_cost(run):
    """Processor milliseconds of each, (widths, rounds), in turns; the first round compiles."""
    s, rng = run.settings, Generator(run.seed)
    x = (rng.random((s.batch, s.pixels)) < 0.3).astype(np.float32)
    models = [VAE(s.pixels, (width, width), 20, rng=Generator([run.seed, 86])) for width in s.widths]
    spent = np.empty((2, len(models), s.rounds + 1))
    for k in range(s.rounds + 1):
        for i, vae in enumerate(models):
            since = time.process_time()
            with no_grad():
                vae.elbo(x, rng).mean().item()
            between = time.process_time()
            grad(vae.elbo(x, rng).mean(), vae.parameters())
            spent[:, i, k] = between - since, time.process_time() - between
    value, both = 1e3 * spent[..., 1:]
    return {"parameters": [sum(p.data.size for p in vae.parameters()) for vae in models], "value": value, "both": both}


@gradient_cost.table
def _(n, table):
    ratios = n.both / n.value
    for count, value, both, ratio in zip(n.parameters, n.value, n.both, ratios, strict=True):
        note = f"value {np.median(value):.2f} ms, with gradient {np.median(both):.2f} ms"
        note += f"; by differences {count:,} times"
        table.row(f"{count:,} parameters: gradient and value over value", np.median(ratio), unit="times", note=note)
    says = table.says(
        "thesis 9.3", "the value and gradient (i.e. the vector of partial derivatives) of differentiable scalar "
        "objectives can be computed with equal time complexity.",
    )  # fmt: skip
    size = np.log(n.parameters)
    slope, error = mean_and_error(np.polyfit(size, np.log(ratios), 1)[0])
    table.row("exponent of that ratio over the parameters", slope, 0.0, unit="", note=f"{slope:.3f} +- {error:.3f}")
    # Equal complexity is an exponent of 0, as differences have 1. The ratio itself goes from 1, where calls cost most,
    # to 3: a layer has two products backwards for one forwards.
    label = f"exponent of gradient and value over value, {n.parameters[0]:,} to {n.parameters[-1]:,} parameters"
    says(slope, "=", 0.0, 0.5, label, standard_error=error)


@gradient_cost.figure()
def _(n):
    axes = plots.figure(5.5, 4.0).add_subplot()
    for i, (name, spent) in enumerate({"value": n.value, "value and gradient": n.both}.items()):
        axes.plot(n.parameters, np.median(spent, axis=1), label=name, **plots.style(i) | {"markevery": 1})
    plots.panel(axes, "The bound of a VAE, a minibatch of 100", "parameters", "milliseconds, median", log="xy")
    axes.legend(fontsize=8)
    return axes.figure
