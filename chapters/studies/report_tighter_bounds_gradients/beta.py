"""A learned beta in CIWAE (tighter-bounds report 3.7 and 4.3)."""

# %% [markdown]
# ## Section 3.7 and Figure 4: a learned beta
#
# beta is a sigmoid's value, so it stays in (0, 1). For any K samples the ELBO's estimate lies below the IWAE bound's
# (Jensen), so the derivative of CIWAE by beta is never positive. Hence maximising over beta, like everything else,
# drives it to 0, which is IWAE; the report's minimisation (eq. 16) drives it to 1, which is the VAE. From whatever
# start, a learned beta ends in one model: *that* makes the spread over initial values small. It is no compromise found.
#
# The network maximises in both cases. `paper` takes section 4.1's settings, since 4.3 gives none, nor a step size for
# beta. The published values cannot be compared with ours, nor with Table 1: -80.34 lies 4 nats above the best that the
# same network reaches there in 3,280 epochs (-84.64, IWAE), and 3 above the larger network. The report does not say on
# which images, after how many epochs or for which initial beta they were measured, so no reason can be given.
# `laptop` takes fewer images, samples and steps: 3,000 steps, at which the ELBO is still ahead of IWAE, because it
# learns faster at first. There any move towards the ELBO helps, so whether learned beta looks better reflects the early
# stop, not learning. Seed and images are the same in all runs; other seeds at beta = 0.5 show how much of a spread is
# chance.

# %%
import numpy as np

from minivi import bounds, data, evaluation, nn, ops, optim, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi.tensor import Parameter
from minivi_chapters.studies.report_tighter_bounds_gradients._shared import DIGITS, MNIST, new_vae

BETA = {"betas": [0.05, 0.25, 0.5, 0.75, 0.95], "evaluation_samples": 64, "seeds": 3}
BETA_BUDGETS = {
    "quick": DIGITS | BETA | {
        "betas": [0.05, 0.5, 0.95], "train": 1500, "epochs": 25, "samples": 8, "images": 297, "beta_step": 1.0,
    },
    "laptop": MNIST | BETA | {
        "batch": 20, "train": 12000, "epochs": 5, "samples": 8, "images": 1000, "beta_step": 0.02,
    },
    "paper": MNIST | BETA | {
        "batch": 20, "train": 60000, "epochs": 3280, "samples": 64, "images": 10000, "beta_step": 0.01,
    },
}  # fmt: skip
RULES = {"fixed": None, "minimised": 1.0, "maximised": -1.0}  # the sign of CIWAE in what beta's optimizer minimises


class WithBeta(nn.Module):
    """A VAE and the logit of its beta."""

    def __init__(self, vae, beta):
        self.vae, self.logit = vae, Parameter(np.log(beta / (1.0 - beta)), dtype="float32")

    def bound(self, x, rng, samples):
        """CIWAE, mean over the minibatch."""
        return bounds.ciwae(self.vae.log_weights(x, rng, samples), ops.sigmoid(self.logit)).mean()


def with_beta(run, rule, beta, seed):
    """Train; the path of beta by epoch, and IWAE-64 on test images at the end."""
    s, images = run.settings, run.images()
    model = WithBeta(new_vae(s, images, seed), beta)
    steps = -(-s.train // s.batch)
    step_size = optim.burda(steps, s.step_size) if run.budget == "paper" else s.step_size
    optimizers, sign = [optim.Adam(model.vae.parameters(), step_size)], RULES[rule]
    if sign is not None:
        optimizers.insert(0, optim.SGD([model.logit], s.beta_step))

    def loss(x, rng):
        bound = model.bound(x, rng, s.samples)
        return (-bound,) if sign is None else (sign * bound, -bound)

    history = run.fit(
        f"{s.data}_beta{beta}_{rule}_seed{seed}", model, loss, optimizers, images.train[: s.train],
        epochs=s.epochs, batch_size=s.batch, rng=Generator([seed, 56]), prepare=data.fresh,
        evaluate=lambda epoch: {"beta": ops.sigmoid(model.logit).item()},
    )  # fmt: skip
    x = data.fresh(images.test[: s.images], Generator(2))
    iwae = evaluation.log_likelihood(model.vae, x, Generator([run.seed, 57]), s.evaluation_samples)
    return [beta, *history.column("beta")], iwae


@experiment(
    "beta",
    title="CIWAE over initial beta, fixed and learned",
    mirrors="tighter-bounds report Figure 4, sections 3.7 and 4.3, eq. 16",
    budgets=BETA_BUDGETS,
    minutes={"quick": 0.3, "laptop": 3.2, "paper": 60 * 24 * 120},
)
def learned_beta(run):
    """Fixed, minimised over (the report), maximised over; paths of beta and IWAE-64."""
    s = run.settings
    runs = {rule: [with_beta(run, rule, beta, run.seed) for beta in s.betas] for rule in RULES}
    metric = {rule: [estimate.mean for _, estimate in of_rule] for rule, of_rule in runs.items()}
    again = [with_beta(run, "fixed", 0.5, run.seed + i)[1].mean for i in range(1, s.seeds)]
    again.append(metric["fixed"][s.betas.index(0.5)])
    return {
        "paths": {rule: [path for path, _ in of_rule] for rule, of_rule in runs.items()},
        "iwae64": metric,
        "seeds": again,
        "errors": {rule: [estimate.standard_error for _, estimate in of_rule] for rule, of_rule in runs.items()},
    }


@learned_beta.table
def _(n, table):
    s, metric = n.settings, n.iwae64
    for rule, values in metric.items():
        for beta, value, path, error in zip(s.betas, values, n.paths[rule], n.errors[rule], strict=True):
            note = f"standard error {error:.2f} over test images, the same for all runs"
            table.row(f"{rule}, beta {beta:g} -> {path[-1]:.3f}, IWAE-64", value, note=note)
    published = {"fixed": (-81.29, 2.98), "minimised": (-80.34, 0.49)} if s.data == "mnist" else {}
    spreads = {rule: values.std(ddof=1) for rule, values in metric.items()}
    for rule, values in metric.items():
        mean, spread = published.get(rule, (None, None))
        note = "not comparable, see the text above" if mean else ""
        table.row(f"{rule}, mean over initial values", values.mean(), mean, note=note)
        table.row(f"{rule}, spread over initial values", spreads[rule], spread, note=note)
    if published:
        note = "the caption's number, where the text has -81.29: the report disagrees with itself"
        table.row("fixed, mean over initial values", metric["fixed"].mean(), -81.99, note=note)
    note = f"{s.seeds} seeds; for scale"
    table.row("fixed, beta 0.5, spread over seeds", np.std(n.seeds, ddof=1), note=note)
    moved = {rule: n.paths[rule][:, -1] - n.paths[rule][:, 0] for rule in RULES}
    sentence = (
        "when learning beta, the average IWAE-64 metric is -80.34 +- 0.49, suggesting that learning beta helps "
        "minimize the deviation caused by the different initial value of beta. (fixed: -81.29 +- 2.98)"
    )
    short = {"short": f"{s.epochs} epochs of {s.train:,} images for 3,280"} if published and s.epochs < 364 else {}
    says = table.says("tighter-bounds report 4.3", sentence, seeds=1, **short)
    count = len(s.betas)
    error = float(np.hypot(spreads["minimised"], spreads["fixed"]) / np.sqrt(2 * (count - 1)))
    label = "spread of IWAE-64 over initial values, beta learned and fixed, nats"
    says(spreads["minimised"], "<=", spreads["fixed"], 0.0, label, standard_error=error)
    means = {rule: values.mean() for rule, values in metric.items()}
    error = float(np.std(n.seeds, ddof=1) * np.sqrt(2 / count))
    says(means["minimised"], ">=", means["fixed"], 0.0, "mean IWAE-64, beta learned and fixed", standard_error=error)
    table.check(moved["minimised"].min(), ">=", 0.0, 0.0, "eq. 16 moves every beta towards 1, the VAE: least rise")
    table.check(moved["maximised"].max(), "<=", 0.0, 0.0, "maximisation moves every beta towards 0, IWAE: least fall")


@learned_beta.figure()
def _(n):
    """Paths of beta over epochs; IWAE-64 against its initial value."""
    s, paths, metric = n.settings, n.paths, n.iwae64
    fig = plots.figure(8.5, 4.0)
    left, right = (fig.add_subplot(1, 2, i + 1) for i in range(2))
    for j, rule in enumerate(RULES):
        style = plots.style(j, paths[rule].shape[1])
        if rule != "fixed":
            left.plot(paths[rule].T[:, 0], label=f"{rule} over beta", **style)
            left.plot(paths[rule].T[:, 1:], **style)
        right.plot(s.betas, metric[rule], label=rule, **plots.style(j, len(s.betas)))
    left.set_ylim(-0.03, 1.03)
    plots.panel(left, "", "epoch", "beta").legend(fontsize=8)
    plots.panel(right, "", "initial beta", f"IWAE-{s.evaluation_samples} on test images, nats").legend(fontsize=8)
    fig.suptitle(f"CIWAE with beta fixed, or learned by eq. 16 (minimised) or by maximisation, {s.data}", fontsize=10)
    return fig


# %% [markdown]
# ## What to try next
#
# - `minivi run report_tighter_bounds_gradients --budget laptop`: the network and beta on MNIST.
# - Raise ``distance`` in ``SNR``: where does the plain encoder's ratio begin to fall like K^(-1/2)?
# - Give ``WithBeta`` a target for beta, such as the encoder's signal-to-noise ratio, that has an optimum inside (0, 1).
