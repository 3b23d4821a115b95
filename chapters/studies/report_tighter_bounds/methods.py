"""Training by tighter and looser bounds: digits, a larger model, characters (tighter-bounds report, section 4)."""

# %% [markdown]
# ## What is measured
#
# With the weights of one trained model, and separate samples for each bound: IWAE-64 and its relatives, log p-hat
# (5,000 samples, eq. 2.57 of the thesis), and differences of these over the same images.
#
# The published -KL(Q || P) is IWAE-64 minus log p-hat: of the 64 samples' joint distribution, not of one posterior
# q(z | x), whose divergence is the difference of log p-hat and the ELBO (eq. 4). Neither can be positive: E log of a
# mean of 64 weights is no more than that of a mean of 5,000. Table 1 has entries up to +0.40. Two noises can do that:
# of the samples z, and, if each metric is computed on pixels drawn anew, of the pixels. The table here shows both,
# the second by IWAE-64 on other pixels.

# %%
from types import SimpleNamespace

import numpy as np

from minivi import bounds, data, evaluation, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi_chapters.studies.report_tighter_bounds._shared import (
    FIVE,
    LAPTOP,
    MNIST,
    OBJECTIVES,
    OFTEN,
    OMNIGLOT,
    PAPER,
    QUICK,
    called,
    images,
    in_order,
    over_epochs,
    runs,
    trained,
)

# At `laptop`, the tightest, a middle and the loosest of the bounds.
LARGER = {
    "quick": QUICK | {"hidden": [100, 100], "latents": 4, "runs": runs(4, 297, 1, *FIVE, at=[1])},
    "laptop": LAPTOP | {"hidden": [400, 400], "latents": 20, "runs": runs(2, 1000, 1, "IWAE", "MIWAE", "VAE")},
    "paper": PAPER | {"hidden": [400, 400], "latents": 20, "runs": runs(3280, 10_000, 1, *FIVE, at=OFTEN)},
}
for budget, settings in LARGER.items():
    settings["beside"] = MNIST[budget]


def scores(run, s, method, seed):
    """The bounds of each test image, :class:`minivi.evaluation.Estimate` by name, and the number of active units."""
    model, _ = trained(run, s, method, seed)
    x = images(run, s).test[: s.runs[method]["images"]]
    estimates = {}
    for i, (name, bound) in enumerate({"ELBO": bounds.elbo, **OBJECTIVES}.items()):
        if name in ("ELBO", "IWAE", "MIWAE", "CIWAE 0.5"):
            estimates[name] = evaluation.bound(model, x, Generator([5, i, seed]), s.total, bound)
    log_p = evaluation.log_likelihood(model, x, Generator([6, seed]), s.samples, run.progress)
    return estimates | {"log p": log_p}, evaluation.active_units(model, x)


# Table 1: IWAE-64, log p-hat and -KL(Q || P), after 3,280 epochs; by the latents of the model.
TABLE_1 = {
    50: {
        "IWAE": (-84.64, -84.64, 0.00), "PIWAE": (-84.72, -84.90, 0.19), "MIWAE": (-84.98, -85.04, 0.06),
        "CIWAE 0.5": (-87.05, -87.00, -0.05), "VAE": (-87.26, -87.66, 0.40),
    },
    20: {
        "IWAE": (-83.85, -83.92, 0.06), "PIWAE": (-83.86, -83.84, -0.02), "MIWAE": (-83.47, -83.66, 0.19),
        "CIWAE 0.5": (-84.92, -84.98, 0.06), "VAE": (-85.33, -85.31, -0.02),
    },
}  # fmt: skip
# log p-hat by epoch, from the logs that the report's authors published (one run).
LOGS = {
    "VAE": {1: -127.0, 2: -115.6, 4: -106.9, 10: -99.5},
    "IWAE": {1: -120.6, 2: -109.1, 4: -100.9, 10: -94.4},
}


def plain(estimate):
    """An estimate as numbers: mean, standard error, noise."""
    return [estimate.mean, estimate.standard_error, estimate.noise]


def gap(a, b):
    """The mean and standard error of a difference over the same images."""
    return plain(evaluation.difference(a, b))[:2]


def curve(run, s, method):
    """IWAE-64 by epoch and log p-hat at some, the mean over seeds."""
    histories = [trained(run, s, method, run.seed + i)[1] for i in range(s.runs[method]["seeds"])]
    iwae = np.mean([h.column("iwae") for h in histories], axis=0)
    log_p = np.mean([h.column("log_p") for h in histories], axis=0).tolist()
    at = [r["epoch"] for r in histories[0].records if "log_p" in r]
    return {"epochs": np.arange(1, len(iwae) + 1), "iwae": iwae, "at": at, "log_p": log_p}


def other_pixels(run, s, log_p):
    """What -KL(Q || P) comes to when IWAE-64 is computed on another draw of the same images' binary pixels."""
    grey = images(run, s).grey_test[: s.runs["IWAE"]["images"]]
    model, _ = trained(run, s, "IWAE")
    iwae = evaluation.bound(model, data.fresh(grey, Generator(7)), Generator([8, run.seed]), s.total)
    return gap(iwae, log_p)


def gains(run, s, curves):
    """The larger model's IWAE-64 less the smaller one's after as many epochs, on the images held out in training."""
    small, gained = SimpleNamespace(**s.beside), {}
    for method in in_order(s.runs):
        epochs = s.runs[method]["epochs"]
        longer = small.runs[method]["epochs"]
        # The schedule goes by epochs, so that a shorter run is the beginning of a longer one.
        there = ("trained", called(small, method, run.seed, longer), longer) in run.shared
        _, history = trained(run, small, method, epochs=None if there else epochs)
        gained[method] = curves[method]["iwae"][-1] - history.column("iwae")[epochs - 1]
    return gained


# %% [markdown]
# ## Figures 1-3 and Table 1
#
# The report compares methods, and sizes of the model, and finds that a larger model gains more than a better bound.
# By its own Table 1 (IWAE-64) the size gains 0.8 to 2.1 nats, and the methods are up to 2.6 nats apart. Methods are
# compared by the IWAE-64 of the watched images after as many epochs of each; the distance of a posterior q(z | x) from
# the true one is log p-hat less the ELBO, at the end. Standard errors of differences are those of independent images,
# though both methods see the same ones: they are too large.


# %%
@experiment(
    "omniglot",
    title="training by tighter and looser bounds, handwritten characters",
    mirrors="tighter-bounds report, Figure 2",
    budgets=OMNIGLOT,
    minutes={"quick": 0.5, "laptop": 8.2, "paper": 60 * 24},
)
@experiment(
    "larger",
    title="the same with a larger model",
    mirrors="tighter-bounds report, Figure 3 and Table 1 (lower half)",
    budgets=LARGER,
    minutes={"quick": 0.3, "laptop": 18, "paper": 60 * 24 * 12},
)
@experiment(
    "mnist",
    title="training by tighter and looser bounds, digits",
    mirrors="tighter-bounds report, Figure 1 and Table 1 (upper half)",
    budgets=MNIST,
    minutes={"quick": 0.5, "laptop": 62, "night": 360, "paper": 60 * 24 * 5},
)
def methods(run):
    """Train by each method: curves of IWAE-64 and log p-hat, all bounds at the end, and their differences."""
    s = run.settings
    numbers = {"curves": {}, "scores": {}, "gaps": {}}
    for method in in_order(s.runs):
        numbers["curves"][method] = c = curve(run, s, method)
        numbers["scores"][method], numbers["gaps"][method], last = [], [], []
        for i in range(s.runs[method]["seeds"]):
            estimates, active = scores(run, s, method, run.seed + i)
            log_p = estimates["log p"]
            numbers["scores"][method].append({k: plain(e) for k, e in estimates.items()} | {"active": active})
            numbers["gaps"][method].append({name: gap(estimates[name], log_p) for name in ("IWAE", "ELBO")})
            last.append(log_p.values[: s.watched].mean())
            if method == "IWAE" and i == 0:
                numbers["order"] = [[*pair, *gap(estimates[pair[0]], estimates[pair[1]])] for pair in ORDER]
                numbers["other_pixels"] = other_pixels(run, s, log_p)
        c["at"].append(s.runs[method]["epochs"])  # on the images of the other epochs
        c["log_p"].append(np.mean(last))
    return numbers | ({"gains": gains(run, s, numbers["curves"])} if hasattr(s, "beside") else {})


ORDER = ("IWAE", "MIWAE"), ("MIWAE", "ELBO"), ("IWAE", "CIWAE 0.5"), ("CIWAE 0.5", "ELBO")


@methods.table
def _(n, table):
    s = n.settings
    for upper, lower, mean, error in n.order:
        label = f"one model, trained by IWAE: {upper} >= {lower}, their difference within 2 standard errors"
        table.check(mean, ">=", 0.0, 2 * error, label)
    for method in in_order(s.runs):
        rows_of(n, table, method)
        for g in n.gaps[method]:
            label = f"{method}: -KL(Q || P) is not positive, within 2 standard errors"
            table.check(g["IWAE"][0], "<=", 0.0, 2 * g["IWAE"][1], label)
        if s.data == "mnist" and s.latents == 50 and method in LOGS:
            beside_the_logs(n, table, method)
    mean, error = n.other_pixels
    table.row("IWAE, the same from other pixels", mean, note=f"+- {error:.2f}")
    order_of_methods(n, table)
    posteriors(n, table)
    if hasattr(s, "beside"):
        sizes_and_methods(n, table)


def shorter(s, *methods, unequal=False):
    """Why the runs of these methods do not settle what the report finds after 3,280 epochs; for :class:`Claim`."""
    epochs = [s.runs[method]["epochs"] for method in methods]
    whole = 3280 if s.data == "mnist" else 1000
    few = [f"{min(epochs)} epochs for {whole:,}"] if s.data != "digits" and min(epochs) < whole // 8 else []
    if unequal and len(set(epochs)) > 1:
        few.append(" and ".join(map(str, epochs)) + " epochs")
    return {"short": "; ".join(few), "seeds": min(s.runs[method]["seeds"] for method in methods)}


def watched_error(n, *methods):
    """At most the standard error of a difference of two methods' IWAE-64 of the watched images; these are the same."""
    s, errors = n.settings, []
    for method in methods:
        images = s.runs[method]["images"]
        errors += [np.mean([f["IWAE"][1] for f in n.scores[method]]) * np.sqrt(images / min(images, s.watched))]
    return float(np.hypot(*errors))


def order_of_methods(n, table):
    """The order of Table 1, and on characters what is similar to it."""
    s = n.settings
    if "omniglot" in s.data or getattr(s, "turned", False):
        where, sentence = "tighter-bounds report 5", (
            "we run experiments with the Omniglot dataset, where we could see similar behaviour as the one seen on the "
            "reproduced and referential results on the MNIST dataset."
        )  # fmt: skip
    elif hasattr(s, "beside"):
        where, sentence = "tighter-bounds report Table 1", (
            "Larger model: IWAE-64 -83.85 (IWAE), -83.86 (PIWAE), -83.47 (MIWAE), -84.92 (CIWAE 0.5), -85.33 (VAE)"
        )  # fmt: skip
    else:
        where, sentence = "tighter-bounds report Table 1", (
            "IWAE-64 -84.64 (IWAE), -84.72 (PIWAE), -84.98 (MIWAE), -87.05 (CIWAE 0.5), -87.26 (VAE)"
        )  # fmt: skip
    published = TABLE_1[20 if hasattr(s, "beside") else 50]
    order = [method for method in sorted(published, key=lambda m: -published[m][0]) if method in n.curves]
    for better, worse in zip(order, order[1:], strict=False):
        epochs = min(len(n.curves[better]["iwae"]), len(n.curves[worse]["iwae"]))
        ours, other = (n.curves[method]["iwae"][epochs - 1] for method in (better, worse))
        label = f"IWAE-{s.total} after epoch {epochs}, {better} and {worse}"
        says = table.says(where, sentence, **shorter(s, better, worse))
        says(ours, ">=", other, 0.0, label, standard_error=watched_error(n, better, worse))


def posteriors(n, table):
    """Section 1's sentence on posteriors, and on the generative network."""
    s, sentence = n.settings, (
        "the new algorithms are able to approximate the posterior much closer to the true posterior than IWAE and also "
        "match the performance of the IWAE generative network or potentially outperforming it in the case of PIWAE."
    )  # fmt: skip
    mean = {m: np.mean([g["ELBO"] for g in gaps], axis=0) for m, gaps in n.gaps.items()}
    for method in [m for m in in_order(s.runs) if m not in ("IWAE", "VAE")]:
        says = table.says("tighter-bounds report 1", sentence, **shorter(s, method, "IWAE", unequal=True))
        label = f"ELBO - log p-hat, which is -KL(q || p), {method} and IWAE"
        error = float(np.hypot(mean[method][1], mean["IWAE"][1]))
        says(mean[method][0], ">=", mean["IWAE"][0], 0.0, label, standard_error=error)
    if "PIWAE" in n.scores:
        ours, other = (np.mean([f["log p"] for f in n.scores[method]], axis=0) for method in ("PIWAE", "IWAE"))
        says = table.says("tighter-bounds report 1", sentence, **shorter(s, "PIWAE", "IWAE"))
        error = float(np.hypot(ours[1], other[1]))
        says(ours[0], ">=", other[0], 0.0, "log p-hat, PIWAE and IWAE", standard_error=error)


def sizes_and_methods(n, table):
    """What a larger model gains, beside what the methods are apart; by the published numbers, too."""
    s, real = n.settings, n.settings.data == "mnist"
    theirs = {method: TABLE_1[20][method][0] - TABLE_1[50][method][0] for method in TABLE_1[20]}
    for method, gained in n.gains.items():
        note = f"IWAE-{s.total} after epoch {s.runs[method]['epochs']}; published: epoch 3280"
        table.row(f"{method}, gain of the larger model", gained, theirs[method] if real else None, note=note)
    ends, gained = [c["iwae"][-1] for c in n.curves.values()], np.mean(list(n.gains.values()))
    apart = float(np.ptp([of[0] for of in TABLE_1[50].values()]))
    table.row("mean gain of the larger model", gained, np.mean(list(theirs.values())) if real else None)
    table.row("methods apart, best less worst", np.ptp(ends), apart if real else None, note="published: smaller model")
    says = table.says(
        "tighter-bounds report 5", "Exploration of other hyper parameters, such as the choice of the architecture ... "
        "has revealed larger performance gains than those achieved by varying the used learning method.",
        **shorter(s, *n.gains),
    )  # fmt: skip
    best, worst = (list(n.curves)[int(at(ends))] for at in (np.argmax, np.argmin))
    error = float(np.hypot(watched_error(n, best, best), watched_error(n, best, worst)))
    label = "mean gain of the larger model, and best less worst method, nats"
    says(gained, ">=", np.ptp(ends), 0.0, label, standard_error=error)


def rows_of(n, table, method):
    """The table's rows for one method: means over its seeds."""
    s, scores, gaps = n.settings, n.scores[method], n.gaps[method]
    published = TABLE_1.get(s.latents, {}).get(method) if s.data == "mnist" else None
    published = published or (None,) * 3
    plan = s.runs[method]
    about = f"epoch {plan['epochs']}, {plan['images']} images"
    about += f", mean of {len(scores)} seeds" if len(scores) > 1 else ""
    about += "; published: epoch 3280" if published[0] else ""
    for what, estimates, value in (
        (f"IWAE-{s.total}", [f["IWAE"] for f in scores], published[0]),
        ("log p-hat", [f["log p"] for f in scores], published[1]),
        ("-KL(Q || P)", [g["IWAE"] for g in gaps], published[2]),
        ("ELBO - log p-hat", [g["ELBO"] for g in gaps], None),
    ):
        note = f"+- {np.mean([e[1] for e in estimates]):.2f}; {about}"
        table.row(f"{method}, {what}", np.mean([e[0] for e in estimates]), value, note=note)
    table.row(f"{method}, active units", np.mean([f["active"] for f in scores]), unit="", note=f"of {s.latents}")


def beside_the_logs(n, table, method):
    """log p-hat by epoch beside the authors' own."""
    s, scores, plan = n.settings, n.scores[method], n.settings.runs[method]
    whole = np.mean([f["log p"][0] for f in scores])
    for epoch, ours in zip(n.curves[method]["at"], n.curves[method]["log_p"], strict=True):
        last = epoch == plan["epochs"]
        note = f"{plan['images'] if last else s.watched} images; beside the authors' log"
        if epoch in LOGS[method]:
            name = f"{method}, log p-hat, epoch {epoch}"
            table.row(name, whole if last else ours, LOGS[method][epoch], note=note)


@methods.figure()
def _(n):
    """IWAE-64 and log p-hat against epochs."""
    s, fig = n.settings, plots.figure(9.0, 4.2)
    panels = fig.subplots(1, 2, sharey=True)
    for i, (label, c) in enumerate(n.curves.items()):
        panels[0].plot(c["epochs"], c["iwae"], label=label, **plots.style(i, len(c["epochs"])))
        panels[1].plot(c["at"], c["log_p"], label=label, **plots.style(i, len(c["at"])))
    last = max(c["epochs"][-1] for c in n.curves.values())
    for axes, name in zip(panels, (f"IWAE-{s.total}", f"log p-hat, {s.samples} samples"), strict=True):
        over_epochs(axes, name, last, "nats per test image")
    plots.legend_below(fig, panels)
    title = f"{s.data}, {'-'.join(map(str, [*s.hidden, s.latents]))}: held-out images while training by each bound"
    fig.suptitle(title, fontsize=10)
    return fig
