"""What a gradient costs beside the value (thesis sections 7.1 and 9.3)."""

# %% [markdown]
# ## Sections 7.1 and 9.3: value and gradient
#
# The time of the bound alone, and of the bound with its gradient by all parameters, for a VAE of more and more hidden
# units; both by the engine step by step, not compiled. "The same complexity" means that the ratio stays below a
# constant however many parameters there are: in operations 5 suffices (Baur and Strassen 1983). By differences each
# parameter would cost a value of its own.

# %%
import time

import numpy as np

from minivi import plots
from minivi.experiments import experiment
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
        note = f"value {np.median(value):.2f} ms, with gradient {np.median(both):.2f} ms; by differences {count:,} "
        "times"
        table.row(f"{count:,} parameters: gradient and value over value", np.median(ratio), unit="times", note=note)
    says = table.says(
        "thesis 9.3", "the value and gradient (i.e. the vector of partial derivatives) of differentiable scalar "
        "objectives can be computed with equal time complexity.",
    )  # fmt: skip
    medians = np.median(ratios, axis=1)
    worst = int(medians.argmax())
    error = 1.25 * float(np.std(ratios[worst], ddof=1)) / np.sqrt(ratios.shape[1])  # of a median
    label = f"largest ratio, {n.parameters[0]:,} to {n.parameters[-1]:,} parameters, and 5"
    says(medians[worst], "<=", 5.0, 0.0, label, standard_error=error)


@gradient_cost.figure()
def _(n):
    axes = plots.figure(5.5, 4.0).add_subplot()
    for i, (name, spent) in enumerate({"value": n.value, "value and gradient": n.both}.items()):
        axes.plot(n.parameters, np.median(spent, axis=1), label=name, **plots.style(i) | {"markevery": 1})
    plots.panel(axes, "The bound of a VAE, a minibatch of 100", "parameters", "milliseconds, median", log="xy")
    axes.legend(fontsize=8)
    return axes.figure
