"""The divergence from the log-uniform prior (Figure 6.C.1), and the digits that it leaves (appendix 6.A)."""

# %% [markdown]
# ## Figure 6.C.1
#
# The exact negative divergence by quadrature, the cubic and the lower bound, over dropout rates from 0.05 to 0.5. The
# constant is such that the exact one is 0 at alpha = 1. A line is about a hundredth of a picture wide: by that much,
# two curves cannot be told apart. Beyond the figure, the cubic is 0.037 nats off as alpha goes to 0: its constant is
# -(c1 + c2 + c3) = -0.2457, and the exact one -0.2085; the text says that it becomes exact there.

# %%
import numpy as np

from minivi import plots
from minivi.experiments import experiment
from minivi.models import dropout_network
from minivi.nn import priors
from minivi.optim import AveragedAdam
from minivi.random import Generator
from minivi_chapters.studies.ch06_dropout._shared import DIGITS, MNIST, error, sizes

POINTS = {"quick": {"points": 40}, "laptop": {"points": 200}, "paper": {"points": 400}}


@experiment(
    "figure_6_c_1",
    title="the divergence from the log-uniform prior: exact, cubic, lower bound",
    mirrors="thesis Figure 6.C.1",
    budgets=POINTS,
    minutes={"quick": 0.1, "laptop": 0.01, "paper": 0.1},
)
def figure_6_c_1(run):
    """Values over log alpha, and the cubic's largest error there and on (0, 1]."""
    rates = np.linspace(0.05, 0.5, run.settings.points)
    log_alpha = np.log(rates / (1 - rates))
    wide = np.linspace(np.log(1e-6), 0.0, run.settings.points)
    exact = lambda logs: np.array([-priors.exact_log_uniform_kl(np.exp(a)) for a in logs])
    off = np.abs(-priors.log_uniform_kl(wide) - exact(wide))
    return {
        "log_alpha": log_alpha, "exact": exact(log_alpha), "cubic": -priors.log_uniform_kl(log_alpha),
        "bound": -priors.log_uniform_kl(log_alpha, "bound"), "worst": off.max(), "worst_at": np.exp(wide[off.argmax()]),
        "at_zero": off[0],
    }  # fmt: skip


@figure_6_c_1.table
def _(n, table):
    off = np.abs(n.cubic - n.exact)
    at = np.exp(n.log_alpha[off.argmax()])
    for domain, worst, place in (("p from 0.05 to 0.5", off.max(), at), ("alpha from 1e-6 to 1", n.worst, n.worst_at)):
        table.row(f"cubic's largest error, {domain}", 1000 * worst, unit="nats / 1000", note=f"at alpha {place:.2g}")
    same = table.says(
        "thesis Figure 6.C.1", "The exact and approximate results are indistinguishable on the domain shown, which "
        "corresponds to dropout rates between p = 0.05 and p = 0.5.",
    )  # fmt: skip
    label = "cubic and exact: largest distance in the figure, as a share of the exact curve's height"
    same(off.max() / np.ptp(n.exact), "<=", 0.01, 0.0, label)
    limit = table.says(
        "thesis Figure 6.C.1", "the approximated term vanishes, so that both our polynomial approximation and the "
        "lower bound become exact.",
    )  # fmt: skip
    limit(n.at_zero, "=", 0.0, 1e-3, "the cubic's distance from the exact value at alpha = 1e-6, nats")
    table.check(np.max(n.bound - n.exact), "<=", 0.0, 0.0, "the lower bound less the exact value: largest, nats")


@figure_6_c_1.figure()
def _(n):
    axes = plots.figure(5.5, 4.0).add_subplot()
    for i, (name, label) in enumerate({"exact": "exact", "cubic": "cubic", "bound": "lower bound"}.items()):
        axes.plot(n.log_alpha, vars(n)[name], label=label, **plots.style(i, 8))
    plots.panel(axes, "Log-uniform prior, Gaussian dropout posterior", r"log $\alpha$", "-KL, nats a weight")
    axes.legend(fontsize=8)
    return axes.figure


# %% [markdown]
# ## Appendix 6.A: significant digits
#
# A float keeps as many digits of a small weight as of a large one, which is what a log-uniform prior expects. A
# posterior N(theta, alpha theta^2) leaves -log2 sqrt(alpha) binary digits of a weight that its noise does not drown.
# Here alpha is learned for each weight; then each theta is rounded to its significant digits, at least one, and the
# error is measured again. The size counts a sign, 8 bits of exponent and the digits, against 32 bits. (Weights whose
# alpha is near 1 have none left: at most one bit.) If these are the digits that count, rounding changes no error: by no
# more than two standard errors of an error over the images.


def rounded(weight, bits):
    """``weight`` with so many binary digits after the leading one."""
    mantissa, exponent = np.frexp(weight)
    scale = 2.0 ** (np.maximum(np.ceil(bits), 0.0) + 1.0)
    return np.ldexp(np.round(mantissa * scale) / scale, exponent).astype(weight.dtype)


# %%
@experiment(
    "digits",
    title="significant digits of weights with a learned alpha, and rounding to them",
    mirrors="thesis appendix 6.A (no numbers there)",
    budgets={
        "quick": DIGITS | {"hidden": [60, 60], "epochs": 60},
        "laptop": MNIST | {"hidden": [300, 100], "epochs": 30},
        "paper": MNIST | {"hidden": [1024] * 3, "epochs": 100},
    },
    minutes={"quick": 0.2, "laptop": 1.5, "paper": 60},
)
def digits(run):
    """Train variational dropout B with an alpha for each weight, round, and count."""
    s, images = run.settings, run.images(labels=True)

    def start():
        network = dropout_network(sizes(run, s.hidden), "variational B", Generator([run.seed, 67]), learned="weight")
        loss = lambda part, rng: -network.bound(*part, rng, count=len(images.train)).mean()
        return network, loss, AveragedAdam(network.parameters())

    network, _, _ = run.train(
        f"by_weight_{s.data}", start, (images.train, images.train_labels.astype(np.int64)), epochs=s.epochs,
        batch_size=100, rng=Generator([run.seed, 68]),
    )  # fmt: skip
    before = error(network, images.test, images.test_labels)
    counts, bits_used, weights = np.zeros(13), 0.0, 0
    kept = [layer.weight.data.copy() for layer in network.layers]
    for layer in network.layers:
        bits = priors.significant_bits(layer.alpha)
        counts += np.histogram(np.clip(bits, 0, 12.99), bins=np.arange(14))[0]
        bits_used += np.sum(9 + np.maximum(np.ceil(bits), 0))
        weights += bits.size
        layer.weight.assign(rounded(layer.weight.data, bits))
    after = error(network, images.test, images.test_labels)
    for layer, weight in zip(network.layers, kept, strict=True):
        layer.weight.assign(weight)
    return {
        "before": before, "after": after, "shares": counts / weights, "mean_bits": bits_used / weights,
        "one_image": 100 / len(images.test),
    }  # fmt: skip


@digits.table
def _(n, table):
    table.row("test error, float32 weights", n.before, unit="%")
    table.row("test error, rounded weights", n.after, unit="%")
    table.row("bits a weight, of 32", n.mean_bits, note=f"{32 / n.mean_bits:.2f} times smaller", unit="")
    table.row("share of weights with less than one digit", n.shares[0], unit="")
    says = table.says(
        "thesis 6.A", "This divergence has a natural interpretation as controlling the number of significant digits "
        "under q_phi of the corresponding floating-point number.", seeds=1,
    )  # fmt: skip
    error = np.sqrt(n.before * (100 - n.before) * n.one_image / 100)
    label = "error by weights rounded to their significant digits and not, %"
    says(n.after, "=", n.before, 0.0, label, standard_error=error)


@digits.figure()
def _(n):
    axes = plots.figure(5.5, 3.6).add_subplot()
    axes.bar(np.arange(13) + 0.5, n.shares, width=0.9, color="0.6", edgecolor="black")
    plots.panel(
        axes, f"Digits that the posterior leaves, {n.settings.data}", "significant binary digits", "share of weights"
    )
    return axes.figure
