"""Temporal averaging: the last iterate and the average (thesis section 7.6.2)."""

# %% [markdown]
# ## Section 7.6.2: temporal averaging
#
# mean = beta2 mean + (1 - beta2) theta, over 1 - beta2^t, beside the last iterate: on a noisy quadratic, where the
# excess loss can be averaged over many runs, and on held-out images. Polyak and Ruppert's plain mean forgets nothing,
# neither noise nor the way from the start. `optim.AveragedAdam` has the one line more that the text speaks of. (Digits
# are so few that `quick` takes minibatches of 20, for more steps than the average's memory of 1,000.)

# %%
import numpy as np

from minivi import data, evaluation, optim, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE, Classifier
from minivi.random import Generator
from minivi.tensor import Parameter

ITERATES = ("last iterate", "average, corrected", "average, uncorrected", "Polyak-Ruppert mean")


def quadratic_averages(new_optimizer, draws, steps, seed):
    """Excess loss, mean over ``draws`` runs, of the last iterate and of three averages: name -> (steps,)."""
    optimum, curvature = 5.0, np.array([1.0, 10.0])
    p, rng = Parameter(np.full((draws, 2), optimum + 3.0)), Generator([seed, 77])
    optimizer, average, total = new_optimizer([p]), optim.Average([p]), 0.0
    excess = {name: [] for name in ITERATES}
    for t in range(1, steps + 1):
        optimizer.step([curvature * (p.data - optimum) + rng.standard_normal((draws, 2))])
        average.update()
        total = total + p.data
        (corrected,) = average.values()
        for name, theta in zip(ITERATES, (p.data, corrected, corrected * (1 - 0.999**t), total / t), strict=True):
            excess[name].append(0.5 * np.mean((curvature * (theta - optimum) ** 2).sum(axis=-1)))
    return {name: np.array(values) for name, values in excess.items()}


def averaged_vae(run, seed):
    """A VAE trained by :class:`AveragedAdam`; its history has the test bound of both."""
    s, images = run.settings, run.images()
    vae = VAE(images.train.shape[1], (s.hidden,), s.latents, rng=Generator([seed, 78]))
    optimizer, test = optim.AveragedAdam(vae.parameters(), s.step_size), data.fresh(images.test, Generator(2))

    def evaluate(epoch):
        bounds = {"last": evaluation.elbo(vae, test, Generator([3, epoch])).mean}
        with optimizer.average:
            return bounds | {"average": evaluation.elbo(vae, test, Generator([3, epoch])).mean}

    return run.fit(
        f"averaged_vae_{s.data}_seed{seed}", vae, lambda x, rng: -vae.elbo(x, rng).mean(), optimizer, images.train,
        epochs=s.epochs, batch_size=s.batch, rng=Generator([seed, 79]), prepare=data.fresh, evaluate=evaluate,
    )  # fmt: skip


def averaged_classifier(run, seed):
    """The same with a classifier of one hidden layer; errors in per cent."""
    s, images = run.settings, run.images()
    model = Classifier(images.train.shape[1], (s.hidden,), 10, rng=Generator([seed, 80]))
    optimizer = optim.AveragedAdam(model.parameters(), s.step_size)

    def error():
        return 100 * float(np.mean(model.predict(images.test) != images.test_labels))

    def evaluate(epoch):
        errors = {"last": error()}
        with optimizer.average:
            return errors | {"average": error()}

    return run.fit(
        f"averaged_classifier_{s.data}_seed{seed}", model, lambda xy, rng: -model.log_prob(*xy).mean(), optimizer,
        (images.train, images.train_labels), epochs=s.epochs, batch_size=s.batch, rng=Generator([seed, 81]),
        evaluate=evaluate,
    )  # fmt: skip


AVERAGED = {"step_size": 1e-3, "batch": 100, "latents": 20}
AVERAGES = {"last": "last iterate", "average": "average, corrected"}
QUADRATICS = {
    "SGD, step size 0.05": lambda p: optim.SGD(p, 0.05),
    "Adam, step size 0.02": lambda p: optim.Adam(p, 0.02),
}
NETWORKS = {"VAE, test bound (nats)": averaged_vae, "classifier, test error (%)": averaged_classifier}


@experiment(
    "averaging",
    title="temporal averaging: the last iterate and the average",
    mirrors="thesis section 7.6.2 (no figure there)",
    budgets={
        "quick": {"data": "digits", "split": "1500/297", **AVERAGED, "hidden": 100, "epochs": 40, "seeds": 2,
                  "draws": 200, "steps": 6000, "batch": 20},
        "laptop": {"data": "mnist", "split": "60000/10000", **AVERAGED, "hidden": 500, "epochs": 8, "seeds": 2,
                   "draws": 2000, "steps": 6000},
        "paper": {"data": "mnist", "split": "60000/10000", **AVERAGED, "hidden": 500, "epochs": 100, "seeds": 5,
                  "draws": 20000, "steps": 6000},
    },
    minutes={"quick": 0.3, "laptop": 0.85, "paper": 60},
)  # fmt: skip
def averaging(run):
    """Last iterate and average on noisy quadratics, a VAE and a classifier."""
    s = run.settings
    run.images(labels=True)  # data without are refused now, not after minutes
    numbers, ends = {}, {}
    for name, new in QUADRATICS.items():
        excess = quadratic_averages(new, s.draws, s.steps, run.seed)
        numbers[name] = {kind: values[some_steps(s) - 1] for kind, values in excess.items()}
        ends[name] = {
            kind: {"step 100": values[99], "last step": values[-1], "last 200 steps": values[-200:].mean()}
            for kind, values in excess.items()
        }
    for name, train in NETWORKS.items():
        histories = [train(run, run.seed + i) for i in range(s.seeds)]
        numbers[name] = {kind: [h.column(kind) for h in histories] for kind in AVERAGES}
    return numbers | {"ends": ends}


def some_steps(s):
    """Steps of the quadratic that are kept, about evenly on a logarithmic axis."""
    return np.unique(np.geomspace(1, s.steps, 60).astype(int))


@averaging.table
def _(n, table):
    s = n.settings
    polyak = table.says(
        "thesis 7.6.2", "Polyak-Ruppert averaging ... has been shown to improve the convergence of standard SGD"
    )
    moving = table.says(
        "thesis 7.6.2", "Alternatively, an exponential moving average over the parameters can be used, giving higher "
        "weight to more recent parameter values.",
    )  # fmt: skip
    unbiased = table.says("thesis 7.6.2", "Initialization bias can again be corrected by the estimator")
    better = table.says(
        "thesis 7.6.2", "Since the last iterate is noisy due to stochastic approximation, better generalization "
        "performance is often achieved by averaging.", seeds=s.seeds,
    )  # fmt: skip
    for name in QUADRATICS:
        ends = n.ends[name]
        for kind, values in ends.items():
            note = f"noisy quadratic, step {s.steps}, mean of {s.draws} runs; "
            note += f"at step 100: {1000 * values['step 100']:.0f}"
            table.row(f"{name}, {kind}: excess loss x 1000", 1000 * values["last step"], unit="", note=note)
        last, corrected, uncorrected, plain = (ends[kind] for kind in ITERATES)
        if name.startswith("SGD"):
            label = f"{name}: excess loss of the Polyak-Ruppert mean and of the last iterate, last 200 steps"
            polyak(plain["last 200 steps"], "<=", last["last 200 steps"], 0.0, label)
        label = f"{name}: excess loss of the moving average and of the last iterate, last 200 steps"
        moving(corrected["last 200 steps"], "<=", last["last 200 steps"], 0.0, label)
        label = f"{name}: excess loss of the average with correction and without, step 100"
        unbiased(corrected["step 100"], "<=", uncorrected["step 100"], 0.0, label)
    for name in NETWORKS:
        ends = {kind: curves[:, -1] for kind, curves in vars(n)[name].items()}
        for kind, label in AVERAGES.items():
            note = f"{s.data}, epoch {s.epochs}; seeds: {', '.join(f'{v:.2f}' for v in ends[kind])}"
            table.row(f"{name}: {label}", ends[kind].mean(), unit="", note=note)
        gain, error = mean_and_error(ends["average"] - ends["last"])
        gain = gain if name.startswith("VAE") else -gain
        label = f"{name}: gain of the average over the last iterate"
        better(gain, ">=", 0.0, 0.0, label, standard_error=error)


@averaging.figure()
def _(n):
    """Two noisy quadratics, then the two networks; a frame leaves out the first epochs."""
    s, fig = n.settings, plots.figure(10.0, 7.2)
    panels = fig.subplots(2, 2)
    for axes, name in zip(panels[0], QUADRATICS, strict=True):
        for i, (kind, values) in enumerate(vars(n)[name].items()):
            axes.plot(some_steps(s), values, label=kind, **plots.style(i) | {"marker": ""})
        plots.panel(axes, f"Noisy quadratic, {name}", "step", "mean excess loss", log="xy")
    for axes, name in zip(panels[1], NETWORKS, strict=True):
        means = {kind: curves.mean(axis=0) for kind, curves in vars(n)[name].items()}
        for i, (kind, label) in enumerate(AVERAGES.items()):
            axes.plot(np.arange(1, s.epochs + 1), means[kind], label=label, **plots.style(i, s.epochs))
        low, high = np.quantile(np.concatenate(list(means.values())), [0.0, 1.0])
        if name.startswith("VAE"):
            low = np.quantile(means["last"], 0.15)
        else:
            high = np.quantile(means["last"], 0.85)
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        plots.panel(axes, f"{name}, {s.data}, mean of {s.seeds} seeds", "epoch", name.partition(", ")[2])
    for axes in panels.ravel():
        axes.legend(fontsize=7)
    fig.suptitle(r"Temporal averaging, $\beta_2 = 0.999$", fontsize=10)
    return fig
