"""Chapter 2, gradients: reparameterisation against the score function, estimator A against B (sections 2.10, 2.11).

The encoder's gradient can be estimated without any derivative of the decoder. Why is that not done? Because of its
variance, which is measured here. So is what the closed-form divergence saves, which the AEVB report can only suppose.
"""

# %% [markdown]
# With the learning signal l(x, z) = log p(x, z) - log q(z | x), the encoder's gradient of the bound E_q[l] is
#
#     reparameterised (eq. 2.29):  grad_phi l(x, mu + sigma eps)                      eps ~ N(0, I)
#     score function (eq. 2.73):   (l(x, z) - c) grad_phi log q(z | x)                z ~ q(z | x), held constant
#     estimator B (eq. 2.77):      grad_phi [log p(x | mu + sigma eps) - KL(q(z | x) || p(z))]
#
# All are unbiased. The decoder's gradient at given samples is the same for each of them.

# %%
import numpy as np

from minivi import data, evaluation, nn, optim, plots
from minivi.estimators import score_function, sticking_the_landing
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import grad, no_grad

# %% [markdown]
# ## Settings
#
# `paper` takes section 2.11's networks and optimizer; the text gives none for this comparison. The smaller budgets
# train for fewer epochs, with Adam, which needs fewer. ``draws`` gradients are sampled for each of ``repeats``
# minibatches of ``images`` images; the spread over minibatches gives the standard errors.

# %%
ADAM = {"optimizer": "adam", "step_size": 1e-3, "batch": 100, "images": 20, "repeats": 8}
QUICK = {"data": "digits", "split": "1500/297", "hidden": 100, "epochs": 100, "draws": 30, **ADAM}
LAPTOP = {"data": "mnist", "split": "60000/10000", "hidden": 500, "epochs": 3, "draws": 32, **ADAM}
PAPER = {
    "data": "mnist", "split": "50000/10000/10000", "hidden": 500, "epochs": 200, "draws": 400,
    "optimizer": "adagrad", "step_size": 0.02, "batch": 100, "images": 100, "repeats": 20,
}  # fmt: skip


def budgets(quick, laptop, paper):
    """The three settings, with what an experiment adds to them."""
    return {"quick": QUICK | quick, "laptop": LAPTOP | laptop, "paper": PAPER | paper}


def stages(run, latents):
    """The model before and after training, by name; trained once for both experiments."""
    s, images = run.settings, run.images()

    def new():
        return VAE(
            images.train.shape[1], (s.hidden,), latents, rng=Generator([run.seed, latents]),
            init=nn.glorot if s.optimizer == "adam" else nn.normal(0.1),
        )  # fmt: skip

    def start():
        vae = new()
        if s.optimizer == "adam":
            optimizer = optim.Adam(vae.parameters(), s.step_size)
        else:
            optimizer = optim.AdaGrad(vae.parameters(), s.step_size, weight_decay=1.0 / len(images.train))
        return vae, lambda x, rng: -vae.elbo(x, rng).mean(), optimizer

    vae, *_ = run.train(
        f"{s.data}_latents{latents}_seed{run.seed}", start, images.train, epochs=s.epochs, batch_size=s.batch,
        rng=Generator([run.seed, latents, 1]), prepare=data.fresh,
    )  # fmt: skip
    return {"at initialisation": new(), f"after {s.epochs} epochs": vae}


# %% [markdown]
# ## How to measure a gradient's variance
#
# A minibatch is kept fixed and its noise drawn many times (`evaluation.gradient_moments`). Estimators get the same
# random numbers, hence the same z, which cancels part of the noise of their ratio. Only the encoder's weights matter.


# %%
def encoder(vae):
    """Its parameters by name."""
    return {name: p for name, p in vae.named_parameters() if name.startswith("encoder")}


def variances(run, vae, surrogates):
    """Variance of each estimator's gradient, for each encoder parameter.

    Args:
        run: with ``images``, ``repeats`` and ``draws`` in its settings.
        vae: the model.
        surrogates: name -> ``f(x, rng)``, the surrogate of each datum (B,).

    Returns:
        name -> one list for each repeat, of arrays shaped like the encoder's parameters.
    """
    s, parameters = run.settings, list(encoder(vae).values())
    measured = {name: [] for name in surrogates}
    for r, x in enumerate(minibatches(run)):
        for name, surrogate in surrogates.items():
            rng = Generator([run.seed, 10, r])
            draw = lambda f=surrogate, x=x, rng=rng: grad(f(x, rng).mean(), parameters)
            measured[name].append(evaluation.gradient_moments(draw, s.draws).variance)
    return measured


def minibatches(run):
    """``repeats`` fixed minibatches of test images."""
    s, test = run.settings, run.images().test
    order = Generator([run.seed, 11]).permutation(len(test))[: s.repeats * s.images]
    return [data.fresh(test[part], Generator([run.seed, 12])) for part in np.array_split(order, s.repeats)]


def total(repeats):
    """Sum over parameters, of each repeat."""
    return np.array([sum(float(v.sum(dtype=np.float64)) for v in arrays) for arrays in repeats])


def ratio(above, below):
    """Geometric mean of above / below over repeats, and its standard error."""
    logs = np.log(above / below)
    mean = float(np.exp(logs.mean()))
    return mean, mean * float(logs.std(ddof=1) / np.sqrt(len(logs)))


def groups(vae, arrays):
    """The parameters' arrays as flat vectors by kind: the first layer, and the heads of mu and log sigma apart."""
    j = vae.latents
    named = dict(zip(encoder(vae), arrays, strict=True))
    head = max(int(name.split(".")[2]) for name in named)
    vectors = {}
    for name, a in named.items():
        kind = "weights" if name.endswith("weight") else "biases"
        if int(name.split(".")[2]) == head:
            vectors[f"mu {kind}"], vectors[f"log sigma {kind}"] = a[..., :j].ravel(), a[..., j:].ravel()
        else:
            vectors[f"hidden {kind}"] = np.concatenate([vectors.get(f"hidden {kind}", a[:0].ravel()), a.ravel()])
    return vectors


def parameter_ratios(vae, above, below):
    """above / below for each parameter with a gradient, by kind; variances averaged over repeats."""
    mean = [[np.mean(parts, axis=0) for parts in zip(*repeats, strict=True)] for repeats in (above, below)]
    above, below = (groups(vae, arrays) for arrays in mean)
    return {k: above[k][below[k] > 0] / below[k][below[k] > 0] for k in above}


def by_stage(measured):
    """The entries of each stage of training, in order."""
    stages = dict.fromkeys(entry["stage"] for entry in measured)
    return {stage: [entry for entry in measured if entry["stage"] == stage] for stage in stages}


def over_latents(axes, stage, entries, y):
    """Name a panel's axes, both logarithmic, with a tick for each number of latents."""
    latents = [entry["latents"] for entry in entries]
    plots.panel(axes, stage, "latents", y, log="xy")
    axes.set_xticks(latents, [str(n) for n in latents])
    axes.minorticks_off()


# %% [markdown]
# ## Section 2.10.1: the score function's variance
#
# The variance of n independent estimates' mean is 1 / n of one's, so the ratio of two estimators' variances at the same
# K is also the factor of samples that the worse one needs to draw level. The control variate is the mean signal of the
# datum's other samples (leave-one-out), hence K = 2. The text quotes two orders of magnitude from work on other models,
# for a sophisticated score-function estimator.
#
# A control variate can do better than the text expects. Where q is the true posterior, the signal is log p(x) for every
# z: leave-one-out then leaves nothing, while the reparameterised gradient keeps the noise of grad log q, whose mean is
# zero. Without that term, differentiating only the path through z (Roeder et al. 2017), it vanishes there as well; so
# this estimator is measured beside them.


# %%
SCORE = ("score function", "with control variate")
REPARAMETERISED = ("reparameterised", "reparameterised, path only")


def path_only(vae, x, rng, samples=1):
    """Estimator A with log q's own parameters held constant, so that only the path through z counts: (B,)."""
    return sticking_the_landing(vae, x, rng, samples, groups=samples)


@experiment(
    "score_function",
    title="variance of score-function and reparameterised gradients",
    mirrors="thesis section 2.10.1, eq. 2.72, 2.73",
    budgets=budgets(
        {"latents": [1, 2, 5, 20], "samples": 2},
        {"latents": [1, 2, 5, 10, 20, 50], "samples": 2},
        {"latents": [1, 2, 5, 10, 20, 50, 200], "samples": 2},
    ),
    minutes={"quick": 0.5, "laptop": 1.5, "paper": 900},
)
def score_function_variance(run):
    """For each number of latents, before and after training: variances, their ratios, and ratios by parameter."""
    s, measured = run.settings, []
    for latents in s.latents:
        for stage, vae in stages(run, latents).items():
            surrogates = (
                lambda x, rng, vae=vae: score_function(vae, x, rng, s.samples),
                lambda x, rng, vae=vae: score_function(vae, x, rng, s.samples, baseline="leave-one-out"),
                lambda x, rng, vae=vae: vae.elbo(x, rng, s.samples, estimator="A"),
                lambda x, rng, vae=vae: path_only(vae, x, rng, s.samples),
            )
            arrays = variances(run, vae, dict(zip(SCORE + REPARAMETERISED, surrogates, strict=True)))
            totals = {name: total(repeats) for name, repeats in arrays.items()}
            entry = {"latents": latents, "stage": stage}
            entry["variance"] = {name: mean_and_error(values) for name, values in totals.items()}
            for name in SCORE:
                times, error = ratio(totals[name], totals["reparameterised"])
                kinds = parameter_ratios(vae, arrays[name], arrays["reparameterised"])
                entry[name] = {
                    "ratio": times, "error": error,
                    "quantiles": np.quantile(np.concatenate(list(kinds.values())), [0.1, 0.5, 0.9]),
                    "median by kind": {kind: float(np.median(values)) for kind, values in kinds.items()},
                }  # fmt: skip
            pair = totals["with control variate"], totals["reparameterised, path only"]
            entry["with control variate / path only"] = ratio(*pair)
            measured.append(entry)
    return {"measured": measured}


def times_and_error(entry, name):
    """The ratio to the reparameterised variance, and its error; NaN where one repeat has none."""
    return np.array([entry[name]["ratio"], entry[name]["error"]], float)


@score_function_variance.table
def _(n, table):
    for entry in n.measured:
        case = f"{entry['latents']} latents, {entry['stage']}"
        for name, published in zip(SCORE, (None, 100.0), strict=True):
            low, middle, high = (f"{q:.3g}" for q in entry[name]["quantiles"])
            times, error = times_and_error(entry, name)
            note = f"+- {error:.2g}; of single parameters: median {middle}, 10 to 90 % {low} to {high}"
            if published:
                note += "; the text's hundred is quoted from other models"
            what = f"{case}, {name}: variance / reparameterised"
            table.row(what, times, published, "times", note)
        times, error = entry["with control variate / path only"]
        what = f"{case}, with control variate: variance / reparameterised, path only"
        table.row(what, times, unit="times", note=f"+- {error:.2g}")
    sentences = (
        "The score function estimator solely uses the scalar-valued log p(x, z), ignoring the gradient information "
        "about the function log p(x, z), generally leading to much higher variance.",
        "a sophisticated score function estimator requires two orders of magnitude more samples to arrive at the same "
        "variance as a reparameterization based estimator.",
    )
    higher, orders = (table.says("thesis 2.10.1", sentence, seeds=1) for sentence in sentences)
    for stage, entries in by_stage(n.measured).items():
        for name in SCORE:
            least = min(entries, key=lambda entry, name=name: entry[name]["ratio"])
            label = f"{name}, {stage}: variance / reparameterised, least over latents (at {least['latents']})"
            times, error = times_and_error(least, name)
            higher(times, ">=", 1.0, 0.0, label, standard_error=error)
        last = max(entries, key=lambda entry: entry["latents"])
        times, error = last["with control variate / path only"]
        label = f"{last['latents']} latents, {stage}: with control variate / reparameterised, path only"
        orders(times, ">=", 100.0, 0.0, label, standard_error=error)


@score_function_variance.figure()
def _(n):
    """Total variances against the number of latents."""
    fig, axes = plots.figure(8.5, 4.2), None
    for i, (stage, entries) in enumerate(by_stage(n.measured).items()):
        axes = fig.add_subplot(1, 2, i + 1, sharey=axes)
        for k, name in enumerate(SCORE + REPARAMETERISED):
            values, errors = np.array([entry["variance"][name] for entry in entries]).T
            latents = [entry["latents"] for entry in entries]
            axes.errorbar(latents, values, errors, capsize=3, label=name, **plots.style(k))
        over_latents(axes, stage, entries, "total variance, nats²")
    plots.legend_below(fig, [axes], 4)
    case = f"({n.settings.data}, K = {n.settings.samples})"
    fig.suptitle(f"Variance of the encoder's gradient, summed over parameters {case}", size=10)
    return fig


@score_function_variance.figure("ratio")
def _(n):
    """Ratios, with the spread over parameters, against the number of latents."""
    fig, axes = plots.figure(8.5, 4.4), None
    for i, (stage, entries) in enumerate(by_stage(n.measured).items()):
        axes = fig.add_subplot(1, 2, i + 1, sharey=axes)
        latents = [entry["latents"] for entry in entries]
        for k, name in enumerate(SCORE):
            values, errors = np.array([times_and_error(entry, name) for entry in entries]).T
            low, _, high = np.array([entry[name]["quantiles"] for entry in entries]).T
            style = plots.style(k)
            axes.errorbar(latents, values, errors, capsize=3, label=f"{name}, all parameters", **style)
            axes.fill_between(
                latents, low, high, color=style["color"], alpha=0.15, linewidth=0,
                label=f"{name}, 10 to 90 % of parameters", hatch=("//", "..")[k],
            )  # fmt: skip
        axes.axhline(100, color="#555555", linewidth=0.8, label="two orders of magnitude")
        axes.axhline(10, color="#555555", linewidth=0.8, linestyle=":", label="factor 10")
        over_latents(axes, stage, entries, "variance / reparameterised variance")
    plots.legend_below(fig, [axes], 3)
    case = f"({n.settings.data}, K = {n.settings.samples})"
    fig.suptitle(f"How many times more samples the score function needs {case}", size=10)
    return fig


# %% [markdown]
# ## AEVB report, eq. 4 and 8 against 6 and 9: estimator A against B
#
# The report expects the closed-form divergence to lower the variance. For the *gradient* by mu_j that holds whenever
# the likelihood is log-concave on average: A's has the extra term -sigma eps, which adds to the variance
# sigma^2 (1 - 2 E[d^2 log p(x | z) / dz^2]). For the *value* it need not hold: were q the true posterior, A's value
# would be log p(x) for every sample (check of eq. 4 and 6 below), while B's keeps the noise of log p(x | z). The same
# cancellation serves the path-only gradient, the third estimator here.


# %%
def value_variances(vae, x, rng, samples):
    """Variance over samples of the one-sample bounds A and B, averaged over the images, in nats^2."""
    with no_grad():
        terms = vae.terms(x, rng, samples)
        both = {"A": terms.log_w, "B": terms.log_px_z}  # the KL of B is a constant
    return {name: float(np.asarray(v, np.float64).var(axis=0, ddof=1).mean()) for name, v in both.items()}


@experiment(
    "estimators",
    title="variance of estimators A (all sampled) and B (closed-form divergence)",
    mirrors="AEVB report eq. 4, 8 against 6, 9; thesis eq. 2.29 against 2.77",
    budgets=budgets({"latents": [2, 10, 20]}, {"latents": [2, 10, 50]}, {"latents": [3, 5, 10, 20, 200]}),
    minutes={"quick": 0.4, "laptop": 0.67, "paper": 600},
)
def estimators(run):
    """Variances of value and gradient, before and after training."""
    s, measured = run.settings, []
    for latents in s.latents:
        for stage, vae in stages(run, latents).items():
            value = [
                value_variances(vae, x, Generator([run.seed, 13, r]), 5 * s.draws)
                for r, x in enumerate(minibatches(run))
            ]
            value = {name: np.array([v[name] for v in value]) for name in "AB"}
            surrogates = {
                "A": lambda x, rng, vae=vae: vae.elbo(x, rng, estimator="A"),
                "B": lambda x, rng, vae=vae: vae.elbo(x, rng, estimator="B"),
                "path": lambda x, rng, vae=vae: path_only(vae, x, rng),
            }
            gradient = {name: total(repeats) for name, repeats in variances(run, vae, surrogates).items()}
            measured.append({
                "latents": latents,
                "stage": stage,
                "value": {name: mean_and_error(v) for name, v in value.items()},
                "gradient": {name: mean_and_error(v) for name, v in gradient.items()},
                "value A / B": ratio(value["A"], value["B"]),
                "gradient A / B": ratio(gradient["A"], gradient["B"]),
                "gradient A, path only / B": ratio(gradient["path"], gradient["B"]),
            })  # fmt: skip
    return {"measured": measured}


@estimators.table
def _(n, table):
    says = table.says(
        "AEVB report 2", "It seems probable that this estimator will in general have lower variance", seeds=1
    )
    for entry in n.measured:
        case = f"{entry['latents']} latents, {entry['stage']}"
        for name in "AB":
            mean, error = entry["value"][name]
            table.row(f"{case}: value, {name}", mean, unit="nats²", note=f"+- {error:.2g}; of one image")
        for kind, name in (("value", "A / B"), ("gradient", "A / B"), ("gradient", "A, path only / B")):
            times, error = entry[f"{kind} {name}"]
            table.row(f"{case}: {kind}, {name}", times, unit="times", note=f"+- {error:.2g}")
            if name == "A / B":
                says(times, ">=", 1.0, 0.0, f"{case}: variance of the {kind}, A / B", standard_error=error)


@estimators.figure()
def _(n):
    """The ratios to B against the number of latents."""
    fig, axes = plots.figure(8.5, 4.0), None
    for i, (stage, entries) in enumerate(by_stage(n.measured).items()):
        axes = fig.add_subplot(1, 2, i + 1, sharey=axes)
        for k, name in enumerate(("value A / B", "gradient A / B", "gradient A, path only / B")):
            values, errors = np.array([entry[name] for entry in entries]).T
            latents = [entry["latents"] for entry in entries]
            axes.errorbar(latents, values, errors, capsize=3, label=name, **plots.style(k))
        axes.axhline(1, color="#555555", linewidth=0.8)
        over_latents(axes, stage, entries, "variance / variance of B")
    axes.legend(fontsize=8)
    fig.suptitle(f"Estimator A against B, one sample, {n.settings.data}: above 1, B varies less", fontsize=10)
    return fig


# %% [markdown]
# ## What to try next
#
# - `minivi run ch02_gradients --budget laptop`: the same on MNIST.
# - Raise ``samples``: more samples make the leave-one-out baseline better, but the ratio has a limit. Which?
# - Give `score_function` a baseline of x from a small network, as NVIL does; how near leave-one-out does it come?
