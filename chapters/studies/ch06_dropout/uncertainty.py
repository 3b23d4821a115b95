"""Bayes by backprop, probabilistic backpropagation, and a recognition network with uncertain weights."""

# %% [markdown]
# ## Bayes by backprop (Blundell et al. 2015, which section 6.4 cites)
#
# Gaussian posteriors over the weights of two hidden layers of 400, one sample of the weights a minibatch, a prior of
# two Gaussians: 0.5 N(0, 1) + 0.5 N(0, e^-12). Weights with a low ratio |mu| / sigma carry little: they can be set to
# zero: how many, without more errors? The divergence is shared out evenly among the minibatches.

# %%
import numpy as np
from scipy import stats
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV

from minivi import evaluation, nn, plots
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import VAE, FullVB, ProbabilisticBackpropagation, gaussian_network
from minivi.nn import priors
from minivi.optim import Adam
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi.training import fit
from minivi_chapters.studies.ch06_dropout._shared import DIGITS, MNIST, error, sizes

PRUNED = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98)


@experiment(
    "bayes_by_backprop",
    title="weights by Bayes by backprop, and pruning by their signal-to-noise ratio",
    mirrors="thesis section 6.4 (Blundell et al. 2015, Figure 3, Table 2)",
    budgets={
        "quick": DIGITS | {"hidden": [50, 50], "epochs": 60, "step_size": 3e-3, "batch": 50},
        "laptop": MNIST | {"hidden": [400, 400], "epochs": 20, "step_size": 1e-3, "batch": 128},
        "paper": MNIST | {"hidden": [400, 400], "epochs": 300, "step_size": 1e-3, "batch": 128},
    },
    minutes={"quick": 0.2, "laptop": 5, "paper": 75},
)
def bayes_by_backprop(run):
    """Train, look at the weights, and prune."""
    s, images = run.settings, run.images(labels=True)

    def start():
        network = gaussian_network(
            sizes(run, s.hidden), Generator([run.seed, 50]), sampling="minibatch", prior=priors.ScaleMixture(),
            sigma=0.02,
        )  # fmt: skip
        loss = lambda part, rng: -network.bound(*part, rng, count=len(images.train)).mean()
        return network, loss, Adam(network.parameters(), s.step_size)

    network, history, _ = run.train(
        f"backprop_{s.data}", start, (images.train, images.train_labels.astype(np.int64)), epochs=s.epochs,
        batch_size=s.batch, rng=Generator([run.seed, 51]),
    )  # fmt: skip
    weights = [layer.weight.data.copy() for layer in network.layers]
    ratios = [np.abs(w) / np.exp(layer.log_sigma.data) for w, layer in zip(weights, network.layers, strict=True)]
    every = np.concatenate([r.ravel() for r in ratios])
    errors = []
    for share in PRUNED:
        limit = np.quantile(every, share)
        for layer, w, ratio in zip(network.layers, weights, ratios, strict=True):
            layer.weight.assign(np.where(ratio >= limit, w, 0))
        errors.append(error(network, images.test, images.test_labels))
    for layer, w in zip(network.layers, weights, strict=True):
        layer.weight.assign(w)
    values = np.concatenate([w.ravel() for w in weights])
    drawn = network.predict_proba(images.test, Generator([run.seed, 52]), 20)
    return {
        "errors": errors, "averaged": 100 * np.mean(drawn.argmax(1) != images.test_labels),
        "loss": history.column("loss"), "edges": np.linspace(-0.3, 0.3, 61),
        "weights": np.histogram(values, np.linspace(-0.3, 0.3, 61))[0] / values.size,
        "ratios": np.histogram(20 * np.log10(every + 1e-9), np.linspace(-60, 40, 51))[0] / every.size,
    }  # fmt: skip


@bayes_by_backprop.table
def _(n, table):
    for share, value in zip(PRUNED, n.errors, strict=True):
        table.row(f"{100 * share:g} % of the weights set to 0", value, unit="%")
    table.row("mean over 20 draws of the weights", n.averaged, unit="%")
    says = table.says(
        "thesis 8", "Follow-up work such as [Molchanov et al., 2017] and [Louizos et al., 2017] shows how similar "
        "parameterizations can be used for model sparsification and compression of models.", seeds=1,
    )  # fmt: skip
    images = 10_000 if n.settings.data == "mnist" else 297
    error = np.sqrt(2 * n.errors[0] * (100 - n.errors[0]) / images)
    for share in (0.5, 0.75):
        label = f"error without {100 * share:g} % of the weights, and with all, %"
        says(n.errors[PRUNED.index(share)], "<=", n.errors[0], 0.0, label, standard_error=error)


@bayes_by_backprop.figure()
def _(n):
    fig = plots.figure(11.0, 3.6)
    left, middle, right = fig.subplots(1, 3)
    left.stairs(n.weights, n.edges, color="black")
    plots.panel(left, "posterior means of the weights", "weight", "share", log="y")
    middle.stairs(n.ratios, np.linspace(-60, 40, 51), color="black")
    plots.panel(middle, "signal to noise", r"20 log$_{10}$ |mu| / sigma, dB", "share of weights")
    right.plot(100 * np.array(PRUNED), n.errors, **plots.style(0, len(PRUNED)))
    plots.panel(right, "pruned by that ratio", "weights set to 0, %", "test error, %")
    fig.suptitle(f"Bayes by backprop, {n.settings.data}, {n.settings.epochs} epochs", fontsize=10)
    return fig


# %% [markdown]
# ## Uncertainty of a regression, against exact answers
#
# y = w' phi(x) + noise of known size, nine bumps and a constant as features: the posterior over w is Gaussian and
# known, and so is the best factorised Gaussian, whose variances are one over the diagonal of the precision. Mean-field
# inference must find that; it is narrower than the truth. Beside it, without an exact answer, probabilistic
# backpropagation with 50 hidden units on x itself, which infers the noise too; it takes the data in 40 times, as its
# authors do.
#
# Variational inference must find the best factorised posterior: checked are means, within 0.02, and standard
# deviations, within 5 %. How much narrower its predictions are than the exact ones is in the table.

# %%
NOISE, WIDTH, CENTRES = 0.15, 0.3, np.linspace(-2.0, 2.0, 9)


def features(x):
    """Nine bumps; the layer's bias is the constant."""
    return np.exp(-0.5 * ((np.asarray(x)[:, None] - CENTRES) / WIDTH) ** 2)


def curve_data(count, rng):
    """x away from the middle, and y = sin(2 x) with noise."""
    x = np.concatenate([rng.uniform(-2.0, -0.7, count // 2), rng.uniform(0.5, 2.0, count - count // 2)])
    return x, np.sin(2 * x) + NOISE * rng.standard_normal(count)


@experiment(
    "regression",
    title="uncertainty of a curve: exact, mean field, probabilistic backpropagation",
    mirrors="thesis section 6.2; review report 6.2 (no figure there)",
    budgets={
        "quick": {"count": 30, "steps": 3000, "epochs": 40, "samples": 16},
        "laptop": {"count": 30, "steps": 20_000, "epochs": 40, "samples": 16},
        "paper": {"count": 30, "steps": 60_000, "epochs": 40, "samples": 16},
    },
    minutes={"quick": 0.2, "laptop": 0.92, "paper": 2},
)
def regression(run):
    """Means and standard deviations of the function over x by three methods."""
    s, rng = run.settings, Generator([run.seed, 53])
    x, y = curve_data(s.count, rng)
    phi = np.concatenate([features(x), np.ones((s.count, 1))], axis=1)
    precision = phi.T @ phi / NOISE**2 + np.eye(phi.shape[1])
    covariance = np.linalg.inv(precision)
    mean = covariance @ phi.T @ y / NOISE**2
    network = gaussian_network(
        (len(CENTRES), 1), Generator([run.seed, 54]), likelihood="normal", noise=NOISE, sigma=0.1, dtype="float64"
    )
    (layer,) = network.layers
    learned = [layer.weight, layer.bias, layer.log_sigma, layer.bias_log_sigma]  # the noise is known
    repeated = np.tile(features(x), (s.samples, 1)), np.tile(y[:, None], (s.samples, 1))
    step_size = lambda step: 0.02 * 0.01 ** (step / s.steps)
    fit(
        network, lambda part, rng: -network.bound(*part, rng, count=s.count).mean(), Adam(learned, step_size), repeated,
        epochs=s.steps, batch_size=len(repeated[0]), rng=Generator([run.seed, 55]), progress=False,
    )  # fmt: skip
    found = np.append(layer.weight.data[:, 0], layer.bias.data)
    sigma = np.exp(np.append(layer.log_sigma.data[:, 0], layer.bias_log_sigma.data))
    pbp = ProbabilisticBackpropagation((1, 50, 1), Generator([run.seed, 56])).fit(x[:, None], y, s.epochs)
    grid = np.linspace(-3.0, 3.0, 121)
    wide = np.concatenate([features(grid), np.ones((121, 1))], axis=1)
    pbp_mean, pbp_variance = pbp.predict(grid[:, None])
    curves = {
        "exact": (wide @ mean, np.sqrt(np.sum(wide @ covariance * wide, axis=1))),
        "mean field": (wide @ found, np.sqrt(wide**2 @ sigma**2)),
        "PBP": (pbp_mean, np.sqrt(pbp_variance)),
    }
    return {
        "x": x, "y": y, "grid": grid, "curves": curves, "mean_off": np.abs(found - mean).max(),
        "sigma_off": np.abs(sigma * np.sqrt(np.diag(precision)) - 1).max(), "noise": np.sqrt(pbp.noise_variance),
    }  # fmt: skip


@regression.table
def _(n, table):
    inside = (n.grid >= -2) & (n.grid <= 2)
    widths = {name: float(np.mean(curve[1][inside])) for name, curve in n.curves.items()}
    for name, width in widths.items():
        table.row(f"{name}: mean standard deviation of the function, |x| <= 2", width, unit="")
    table.row("PBP: noise", n.noise, NOISE, unit="", note="published: the true one")
    table.check(n.mean_off, "<=", 0.02, 0.0, "mean field: means off the exact ones, largest")
    table.check(n.sigma_off, "<=", 0.05, 0.0, "mean field: standard deviations off the best factorised ones, relative")


@regression.figure()
def _(n):
    fig = plots.figure(10.0, 3.6)
    for axes, (name, (mean, std)) in zip(fig.subplots(1, 3, sharey=True), n.curves.items(), strict=True):
        axes.fill_between(n.grid, np.array(mean) - 2 * std, np.array(mean) + 2 * std, color="0.8", label="two sigma")
        axes.plot(n.grid, mean, color="black", label="mean")
        axes.plot(n.x, n.y, ".", color="black", markersize=4, label="data")
        plots.panel(axes, name, "x", "y" if name == "exact" else "")
    axes.legend(fontsize=8)
    fig.suptitle("A curve of nine bumps and its uncertainty", fontsize=10)
    return fig


# %% [markdown]
# ## Probabilistic backpropagation on real data
#
# The 442 patients of scikit-learn's diabetes set, 10 inputs, ten random splits of 90 % and 10 %: root mean squared
# error and mean log-likelihood of PBP with 50 hidden units, and of a ridge regression with its own residual variance.
# The original's sets cannot all be shipped; this one is not among them, and the report claims nothing.


# %%
@experiment(
    "diabetes",
    title="probabilistic backpropagation and ridge regression on the diabetes data",
    mirrors="review report 6.2 (Hernandez-Lobato & Adams 2015, Table 1, has other data)",
    budgets={
        "quick": {"splits": 3, "hidden": 20, "epochs": 10},
        "laptop": {"splits": 10, "hidden": 50, "epochs": 40},
        "paper": {"splits": 20, "hidden": 50, "epochs": 40},
    },
    minutes={"quick": 0.2, "laptop": 1.3, "paper": 6},
)
def diabetes(run):
    """Errors and log-likelihoods of both on held-out patients."""
    s = run.settings
    x, y = load_diabetes(return_X_y=True)
    scores = {"PBP": [], "ridge": []}
    for split in range(s.splits):
        order = Generator([run.seed, 57, split]).permutation(len(x))
        held, rest = order[: len(x) // 10], order[len(x) // 10 :]
        pbp = ProbabilisticBackpropagation((10, s.hidden, 1), Generator([run.seed, 58, split]))
        mean, variance = pbp.fit(x[rest], y[rest], s.epochs).predict(x[held])
        ridge = RidgeCV(np.logspace(-3, 2, 20)).fit(x[rest], y[rest])
        residual = np.std(y[rest] - ridge.predict(x[rest]))
        both = {"PBP": (mean, np.sqrt(variance + pbp.noise_variance)), "ridge": (ridge.predict(x[held]), residual)}
        for name, (centre, spread) in both.items():
            rmse = np.sqrt(np.mean((y[held] - centre) ** 2))
            scores[name].append([rmse, np.mean(stats.norm.logpdf(y[held], centre, spread))])
    return {"scores": scores}


@diabetes.table
def _(n, table):
    for name, rows in n.scores.items():
        rows = np.array(rows)
        (mean, error), (log_p, other) = (mean_and_error(column) for column in rows.T)
        table.row(f"{name}: root mean squared error", mean, note=f"+- {error:.2f}", unit="")
        table.row(f"{name}: log-likelihood a patient", log_p, note=f"+- {other:.3f}")
    pbp, ridge = (np.array(n.scores[name])[:, 0] for name in ("PBP", "ridge"))
    mean, error = mean_and_error(pbp / ridge)
    table.row("error of PBP over that of ridge", mean, note=f"+- {error:.3f}", unit="")


@diabetes.figure()
def _(n):
    axes = plots.figure(4.5, 4.2).add_subplot()
    pbp, ridge = (np.array(n.scores[name])[:, 0] for name in ("PBP", "ridge"))
    axes.plot(ridge, pbp, "o", color="black", markerfacecolor="none", label="a split")
    ends = [min(pbp.min(), ridge.min()) - 1, max(pbp.max(), ridge.max()) + 1]
    axes.plot(ends, ends, color="0.5", label="equal")
    plots.panel(axes, "Diabetes, held-out patients", "ridge, root mean squared error", "PBP, root mean squared error")
    axes.legend(fontsize=8)
    return axes.figure


# %% [markdown]
# ## A recognition network with weights of uncertain value (review report 6.2)
#
# A VAE whose encoder has a Gaussian posterior over its weights, sampled locally: q(z | x) becomes a mixture. Its bound
# and its calibration beside the point estimate. Calibration is measured on dreams: z ~ N(0, I), x ~ p(x | z), and where
# z lies in q(z | x); if q were right, the share of z below its quantiles would be uniform. The report expects gains and
# gives none, so nothing is claimed. Asked: is the bound with uncertain weights lower (it pays for what the posterior
# has learned), and is it better calibrated: does the 90 % interval hold nearer to 90 % of the z?


# %%
@experiment(
    "recognition",
    title="a recognition network with uncertain weights: bound and calibration",
    mirrors="review report 6.2 (next steps; no numbers there)",
    budgets={
        "quick": {"data": "digits", "hidden": 50, "latents": 5, "epochs": 60, "dreams": 1000, "draws": 20},
        "laptop": {"data": "mnist", "hidden": 200, "latents": 10, "epochs": 20, "dreams": 5000, "draws": 50},
        "paper": {"data": "mnist", "hidden": 500, "latents": 20, "epochs": 200, "dreams": 20_000, "draws": 200},
    },
    minutes={"quick": 0.2, "laptop": 0.95, "paper": 90},
)
def recognition(run):
    """Both models from the same start, bounds on held-out images, and ranks of z in dreams."""
    s, images = run.settings, run.binary_images()
    count, found = len(images.train), {}
    for name in ("point estimate", "uncertain weights"):
        uncertain = name == "uncertain weights"

        def start(uncertain=uncertain):
            vae = VAE(
                images.train.shape[1], (s.hidden,), s.latents, rng=Generator([run.seed, 40]),
                output_bias=nn.logit_of_mean(images.train),
            )  # fmt: skip
            model = FullVB(vae, count, 0.02, local=True, network="encoder") if uncertain else vae
            return model, lambda x, rng: -model.elbo(x, rng).mean(), Adam(model.parameters())

        model, _, _ = run.train(
            f"recognition_{s.data}_{uncertain}", start, images.train, epochs=s.epochs, batch_size=100,
            rng=Generator([run.seed, 41]), prepare=images.prepare,
        )  # fmt: skip
        vae = model.vae if uncertain else model
        rng = Generator([run.seed, 42])
        z = rng.standard_normal((s.dreams, s.latents), dtype=vae.dtype)
        with no_grad():
            x = (rng.random((s.dreams, images.train.shape[1])) < np.asarray(vae.decode(z).mean)).astype(vae.dtype)
            ranks = np.zeros(z.shape)
            for _ in range(s.draws if uncertain else 1):
                q = (model.draw(rng) if uncertain else vae).encode(x)
                ranks += stats.norm.cdf(z, np.asarray(q.mu), np.exp(np.asarray(q.log_sigma)))
        ranks /= s.draws if uncertain else 1
        test = images.test
        found[name] = {
            "bound": float(np.mean([np.asarray(model.elbo(test, Generator([43, k]))).mean() for k in range(5)])),
            "kl": float(model.kl()) / count if uncertain else 0.0,
            "mean_weights": evaluation.elbo(vae, test, Generator([run.seed, 44]), 5).mean,
            "ranks": np.histogram(ranks, np.linspace(0, 1, 21))[0] / ranks.size,
            "inside": np.mean(np.abs(ranks - 0.5) <= 0.45),
        }
    return {"found": found}


@recognition.table
def _(n, table):
    for name, values in n.found.items():
        table.row(f"{name}: test bound", values["bound"], note=f"the weights' share {values['kl']:.2f}")
        table.row(f"{name}: test bound with mean weights", values["mean_weights"])
        table.row(f"{name}: share of z in the 90 % interval", 100 * values["inside"], unit="%")


@recognition.figure()
def _(n):
    axes = plots.figure(5.5, 3.8).add_subplot()
    middles = np.linspace(0.025, 0.975, 20)
    for i, (name, values) in enumerate(n.found.items()):
        axes.plot(middles, 20 * np.array(values["ranks"]), label=name, **plots.style(i, 20))
    axes.axhline(1.0, color="0.6", linewidth=0.8, label="calibrated")
    title = f"Where z lies in q(z | x), {n.settings.dreams:,} dreams of {n.settings.data}"
    plots.panel(axes, title, "quantile of z", "density")
    axes.legend(fontsize=8)
    return axes.figure
