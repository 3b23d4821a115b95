"""The score function in a model like those of the text's source: one regression, no encoder (section 2.10.1)."""

# %% [markdown]
# ## Section 2.10.1: a regression without an encoder
#
# The text quotes its two orders of magnitude from work on Bayesian regression, where q is one Gaussian for the
# coefficients:
#
#     y ~ N(tanh(X beta), 1)      beta ~ N(0, I)      q(beta) = N(mu, diag(sigma^2))
#
# Both estimators of the gradient in mu and log sigma, before and after q is fitted. The score function has the control
# variate of its best coefficient for each parameter, found from other draws: c = Cov(l s, s) / Var(s), s the score.

# %%
import numpy as np

from minivi import ops, plots
from minivi.distributions import Normal
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.optim import Adam
from minivi.random import Generator
from minivi.tensor import Parameter, grad

SIZES = {"data": None, "count": 100, "coefficients": [1, 3, 10, 30, 100]}
REGRESSION = {
    "quick": SIZES | {"data": "synthetic", "coefficients": [1, 10], "draws": 20_000, "steps": 500, "repeats": 5},
    "laptop": SIZES | {"draws": 50_000, "steps": 1000, "repeats": 8},
    "paper": SIZES | {"draws": 1_000_000, "steps": 5000, "repeats": 20},
}


def log_joint(beta, x, y):
    """log p(y, beta) up to a constant: ``beta`` (S, D) -> (S,)."""
    off = y - ops.tanh(beta @ x.T)
    return -0.5 * ops.sum(ops.square(off), axis=-1) - 0.5 * ops.sum(ops.square(beta), axis=-1)


def variances(mu, log_sigma, x, y, rng, draws):
    """Of one sample's gradient in (mu, log sigma), summed: score function, with control variate, reparameterised."""
    sigma = np.exp(log_sigma)
    means, squares = np.zeros((3, 2 * len(mu))), np.zeros((3, 2 * len(mu)))
    coefficient, size = 0.0, 5000
    for part in range(-1, draws // size):  # the first draws only set the coefficient
        eps = rng.standard_normal((size, len(mu)))
        beta = Parameter(mu + sigma * eps, dtype="float64")
        values = log_joint(beta, x, y)
        slopes = np.asarray(grad(values.sum(), [beta])[0])
        signal = np.asarray(values) + np.sum(0.5 * eps**2 + log_sigma, axis=1)  # less log q, but for a constant
        score = np.concatenate([eps / sigma, eps**2 - 1], axis=1)
        plain = signal[:, None] * score
        if part < 0:
            coefficient = np.mean(plain * score, axis=0) / np.mean(score**2, axis=0)
            continue
        path = np.concatenate([slopes, slopes * sigma * eps + 1.0], axis=1)  # the entropy's slope is exact
        for k, values in enumerate((plain, plain - coefficient * score, path)):
            means[k] += values.sum(axis=0)
            squares[k] += (values**2).sum(axis=0)
    count = draws // size * size
    return (squares / count - (means / count) ** 2).sum(axis=1)


def fitted(x, y, rng, steps):
    """mu and log sigma of the best factorised Gaussian, by Adam and reparameterised gradients of 20 samples."""
    mu, log_sigma = (Parameter(np.zeros(x.shape[1]), dtype="float64") for _ in range(2))
    optimizer = Adam([mu, log_sigma], lambda step: 0.05 * (1 - step / steps))
    for _ in range(steps):
        q = Normal(mu, log_sigma)
        beta = q.rsample(rng.standard_normal((20, x.shape[1])))
        optimizer.step(grad(-log_joint(beta, x, y).mean() - log_sigma.sum(), [mu, log_sigma]))
    return mu.data, log_sigma.data


@experiment(
    "regression",
    title="a regression without encoder: variance of score-function and reparameterised gradients",
    mirrors="thesis section 2.10.1, eq. 2.72, 2.73",
    budgets=REGRESSION,
    minutes={"quick": 0.1, "laptop": 0.45, "paper": 60},
)
def regression(run):
    """Ratios of variances for each number of coefficients, before and after fitting, over data sets."""
    s, ratios = run.settings, {}
    for size in s.coefficients:
        for repeat in range(s.repeats):
            rng = Generator([run.seed, size, repeat])
            x = rng.standard_normal((s.count, size)) / np.sqrt(size)
            y = np.tanh(x @ rng.standard_normal(size)) + rng.standard_normal(s.count)
            for stage, (mu, log_sigma) in {
                "at the prior": (np.zeros(size), np.zeros(size)),
                "after fitting": fitted(x, y, rng, s.steps),
            }.items():
                plain, controlled, path = variances(mu, log_sigma, x, y, rng, s.draws)
                ratios.setdefault(f"{size} coefficients, {stage}", []).append([plain / path, controlled / path])
    return {"ratios": ratios}


def times(values):
    """Geometric mean and its standard error."""
    mean, error = mean_and_error(np.log(values))
    return np.exp(mean), np.exp(mean) * error


@regression.table
def _(n, table):
    says = table.says(
        "thesis 2.10.1",
        "a sophisticated score function estimator requires two orders of magnitude more samples to arrive at the same "
        "variance as a reparameterization based estimator.",
        seeds=n.settings.repeats,
    )
    for case, values in n.ratios.items():
        for k, name in enumerate(("score function", "with control variate")):
            mean, error = times(np.array(values)[:, k])
            note = f"+- {error:.2g} over {n.settings.repeats} data sets"
            table.row(f"{case}, {name}: variance / reparameterised", mean, 100.0 if k else None, "times", note)
        says(mean, ">=", 100.0, 0.0, f"{case}: with control variate / reparameterised", standard_error=error)


@regression.figure()
def _(n):
    axes, sizes = plots.figure(6.0, 3.8).add_subplot(), n.settings.coefficients
    for i, stage in enumerate(("at the prior", "after fitting")):
        for k, name in enumerate(("score function", "with control variate")):
            pairs = [times(np.array(n.ratios[f"{size} coefficients, {stage}"])[:, k]) for size in sizes]
            means, errors = np.array(pairs).T
            axes.errorbar(sizes, means, 2 * errors, capsize=3, label=f"{name}, {stage}", **plots.style(2 * i + k))
    axes.axhline(100, color="#555555", linewidth=0.8)
    title = "Samples needed for one reparameterised sample's variance\n(bars: two standard errors over data sets)"
    plots.panel(axes, title, "coefficients", "times", log="xy")
    axes.legend(fontsize=7)
    return axes.figure
