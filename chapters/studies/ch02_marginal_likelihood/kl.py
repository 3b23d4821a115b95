"""The likelihood and the bound as divergences of the data from the model (section 2.8)."""

# %% [markdown]
# ## Section 2.8: the bound as a divergence
#
# Four binary pixels, one latent: everything is a sum over 16 patterns and an integral over a line. The data are 200
# draws from some distribution over the patterns, q_D their frequencies. Three divergences, each by its own sum:
#
#     KL(q_D(x) || p(x))        what maximum likelihood minimises           (eq. 2.61, 2.62)
#     KL(q_D(x) q(z | x) || p(x, z))        what the ELBO minimises         (eq. 2.63-2.65)
#     E_qD KL(q(z | x) || p(z | x))         the difference                  (eq. 2.67)

# %%
import numpy as np
from scipy.special import rel_entr
from scipy.stats import norm

from minivi import optim, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi.small import PATTERNS, grid, small_vae
from minivi.tensor import no_grad

GRID, STEP = grid(15.0, 3001)


def tiny(seed=0, hidden=3):
    """The small model."""
    return small_vae([seed, 99], hidden=hidden)


def densities(vae):
    """log p(x, z) and log q(z | x) of all patterns on the grid, (16, grid); probabilities written out by hand."""
    p = vae.mean_image(GRID[:, None])[None]
    log_px_z = np.log(np.where(PATTERNS[:, None] == 1, p, 1 - p)).sum(axis=-1)
    with no_grad():
        q = vae.encode(PATTERNS)
    return log_px_z + norm.logpdf(GRID), norm.logpdf(GRID, np.asarray(q.mu), np.exp(np.asarray(q.log_sigma)))


def log_marginal(log_joint):
    """log p(x) of all patterns, (16,)."""
    return np.log(np.exp(log_joint).sum(axis=1) * STEP)


def divergences(vae, frequencies):
    """Marginal, joint and mean posterior KL in nats; none computed from the others."""
    log_joint, log_q = densities(vae)
    log_px = log_marginal(log_joint)
    seen = frequencies > 0  # 0 log 0 = 0
    log_f = np.log(frequencies[seen])[:, None]
    q, log_posterior = np.exp(log_q), log_joint - log_px[:, None]
    joint = frequencies[seen] @ (q[seen] * (log_f + log_q[seen] - log_joint[seen])).sum(axis=1) * STEP
    posterior = frequencies @ (q * (log_q - log_posterior)).sum(axis=1) * STEP
    return np.array([rel_entr(frequencies, np.exp(log_px)).sum(), joint, posterior])


def some_data(count=200, seed=0):
    """Data (count, 4) from a random distribution over the patterns, and their frequencies q_D, (16,)."""
    rng = Generator([seed, 8])
    weights = rng.exponential(size=16) ** 2
    which = rng.choice(16, count, p=weights / weights.sum())
    return PATTERNS[which], np.bincount(which, minlength=16) / count


TWO = (  # what maximization of the ELBO does, by the text
    "It will approximately maximize the marginal likelihood. This means that our generative model will become better.",
    "It will minimize the KL divergence of the approximation from the true posterior, so q(z|x) becomes better.",
)
KL_NAMES = ("KL(q_D(x) || p(x))", "KL(q_D(x, z) || p(x, z))", "E KL(q(z | x) || p(z | x))")


@experiment(
    "kl",
    title="likelihood and bound as divergences, by enumeration",
    mirrors="thesis section 2.8, eq. 2.58-2.68, Figure 2.4",
    budgets={"quick": {"epochs": 400}, "laptop": {"epochs": 2000}, "paper": {"epochs": 20_000}},
    minutes={"quick": 0.1, "laptop": 0.22, "paper": 2.5},
)
def kl(run):
    """Train on the bound: the three divergences before, and then at some forty epochs."""
    s = run.settings
    x, frequencies = some_data(seed=run.seed)
    vae = tiny(run.seed)
    before = divergences(vae, frequencies)
    when = {round(e) for e in np.geomspace(1, s.epochs, 40)}

    def evaluate(epoch):
        if epoch not in when and epoch != s.epochs:
            return {}
        log_joint, log_q = densities(vae)
        elbo = frequencies @ ((np.exp(log_q) * (log_joint - log_q)).sum(axis=1) * STEP)
        return dict(zip(KL_NAMES, divergences(vae, frequencies), strict=True)) | {"elbo": elbo}

    history = run.fit(
        f"kl_seed{run.seed}", vae, lambda x, rng: -vae.elbo(x, rng).mean(), optim.Adam(vae.parameters(), 0.01), x,
        epochs=s.epochs, batch_size=50, rng=Generator([run.seed, 9]), evaluate=evaluate,
    )  # fmt: skip
    kept = [r for r in history.records if "elbo" in r]
    names = {"epochs": "epoch", "elbo": "elbo"} | dict(zip(("marginal", "joint", "posterior"), KL_NAMES, strict=True))
    seen = frequencies[frequencies > 0]
    entropy = -np.sum(seen * np.log(seen))
    curves = {name: np.array([r[key] for r in kept]) for name, key in names.items()}
    return curves | {"before": before, "entropy": entropy}


@kl.table
def _(n, table):
    marginal, joint, posterior = n.marginal, n.joint, n.posterior
    middle = len(n.epochs) // 2
    moments = {"before": n.before} | {
        f"epoch {n.epochs[i]}": (marginal[i], joint[i], posterior[i]) for i in (middle, -1)
    }
    for moment, values in moments.items():
        for name, value in zip(KL_NAMES, values, strict=True):
            table.row(f"{moment}, {name}", value, note="published as equations only")
    off = abs(joint - marginal - posterior).max()
    table.check(off, "=", 0.0, 1e-8, "eq. 2.67 throughout, largest difference")
    # eq. 2.68 is printed with <=
    least = (joint - marginal).min()
    table.check(least, ">=", 0.0, 0.0, "the joint divergence is never below the marginal one")
    off = abs(joint + n.elbo - (-n.entropy)).max()
    table.check(off, "=", 0.0, 1e-8, "joint divergence + ELBO = -H(q_D) throughout")
    for k, values, sentence in ((0, marginal, TWO[0]), (2, posterior, TWO[1])):
        says = table.says("thesis 2.3.1", sentence, seeds=1)
        parts = {"first half": (values[middle], n.before[k]), "second half": (values[-1], values[middle])}
        for part, (late, early) in parts.items():
            says(late, "<=", early, 0.0, f"{KL_NAMES[k]} after the {part} of the log of training, against before")


@kl.figure()
def _(n):
    fig = plots.figure(7.5, 4.2)
    axes = fig.add_subplot()
    for i, (name, values) in enumerate(zip(KL_NAMES, (n.marginal, n.joint, n.posterior), strict=True)):
        axes.plot(n.epochs, values, label=name, **plots.style(i, len(n.epochs)))
    axes.set_ylim(bottom=0)
    title = "The joint divergence is the marginal one plus the mean posterior one (eq. 2.67)"
    plots.panel(axes, title, "epochs over 200 data", "divergence, nats", log="x").legend(fontsize=8)
    return fig
