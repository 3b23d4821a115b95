"""Signal-to-noise ratios of the gradients over K and M (tighter-bounds report 3.3-3.5)."""

# %% [markdown]
# ## Settings
#
# The linear-Gaussian problem is that of Rainforth et al.: 20 dimensions, 1,024 data, every parameter moved from its
# optimum by a normal number times 0.01. Ratios are measured on the first ``points`` data. The report has no figure of
# them. The network is trained with the ELBO.

# %%
import numpy as np
from scipy.stats import ncx2

from minivi import data, evaluation, ops, optim, plots
from minivi.experiments import experiment
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi_chapters.studies.report_tighter_bounds_gradients._shared import (
    DIGITS,
    ELBO_SHARE,
    ESTIMATORS,
    MNIST,
    LinearGaussian,
    gradients,
    new_vae,
)

K = [1, 3, 10, 30, 100, 180, 320, 560, 1000]
LONG_K = [*K, 1800, 3200, 5600, 10_000]
SNR = {"dimensions": 20, "count": 1024, "distance": 0.01, "K": K, "M": [1, 3, 10, 30, 100], "K_of_M": 10}
SNR_BUDGETS = {
    "quick": DIGITS | SNR | {
        "points": 16, "draws": 40, "epochs": 20, "K_vae": [1, 10, 100], "images": 12, "draws_vae": 40,
    },
    "laptop": MNIST | SNR | {
        "K": LONG_K, "points": 16, "draws": 60, "epochs": 10, "K_vae": [1, 10, 100, 1000], "images": 8, "draws_vae": 60,
    },
    "paper": MNIST | SNR | {
        "K": LONG_K, "points": 1024, "draws": 1000, "epochs": 100, "K_vae": K, "images": 64, "draws_vae": 1000,
    },
}  # fmt: skip


def near_optimum(settings, seed):
    """Data from the model, and parameters near the best ones: A = I/2, b = mu/2, mu = the mean of the data.

    Returns:
        x (points, D), matrix (D, D), b (D,), mu (D,).
    """
    rng, d = Generator([seed, 51]), settings.dimensions
    x = rng.standard_normal(d) + np.sqrt(2.0) * rng.standard_normal((settings.count, d))
    mu = x.mean(axis=0)
    off = settings.distance * rng.standard_normal((d + 2, d))
    return x[: settings.points], 0.5 * np.eye(d) + off[:d], 0.5 * mu + off[d], mu + off[d + 1]


T_STEP = 0.1
T = np.exp(np.arange(-30.0, 40.0, T_STEP))  # dt = T T_STEP: the trapezoid rule in log t
RADII = np.linspace(0.0, 200.0, 1001)[1:]


def pull(noncentrality, samples, dimensions):
    """r(K) for each datum and each K of ``samples``, (B, len(samples)), for the w of the text's q."""
    w, step = np.exp(-RADII / 6.0), RADII[1] - RADII[0]
    decay = np.exp(-T[:, None] * w)
    density = ncx2.pdf(RADII, dimensions, noncentrality[:, None]) * step
    density_above = ncx2.pdf(RADII, dimensions + 2, noncentrality[:, None]) * step
    one, weighted = density @ decay.T, (w * density_above) @ decay.T
    return np.stack([k * (weighted * one ** (k - 1)) @ (T * T_STEP) for k in samples], axis=1)


def exact_means(problem, samples):
    """name -> K -> the exact mean gradients by b and mu, (B, D) each."""
    x, matrix, b, mu = problem
    delta = x @ matrix.T + b - (x + mu) / 2
    r = pull(24.0 * np.sum(delta**2, axis=1), [1, *samples], x.shape[1])[..., None, None]  # |4 delta|^2 / (2/3)
    means = {name: {} for name in ESTIMATORS}
    for i, k in enumerate(samples):
        one, many = (4 * r[:, j, 0] - 3 for j in (0, i + 1))
        for name, beta in ELBO_SHARE.items():
            left = beta * one + (1 - beta) * many
            means[name][k] = -2 * left * delta, (x - mu) / 2 + left * delta
        means["sticking the landing"][k] = -2 * r[:, i + 1, 0] * delta, (x - mu) / 2 + many * delta
    return means


def sampled(problem, name, m, k, draws, seed):
    """Moments of the gradients by b and mu, (B, D) each, over ``draws``."""
    x, matrix, b, mu = problem
    model = LinearGaussian(matrix, np.tile(b, (len(x), 1)), np.tile(mu, (len(x), 1)), dtype="float32")
    x, rng = x.astype("float32"), Generator([seed, 52, m, k])
    return evaluation.gradient_moments(
        lambda: gradients(ESTIMATORS[name](model, x, rng, m, k), [model.b], [model.mu]), draws
    )


def slope(along, ratios, start=1):
    """Exponent of a power law by least squares in logarithms from ``start`` on, and its standard error."""
    keep = np.asarray(along) >= start
    (exponent, _), covariance = np.polyfit(
        np.log(np.asarray(along)[keep]), np.log(np.asarray(ratios)[keep]), 1, cov=True
    )
    return exponent, np.sqrt(covariance[0, 0])


# %% [markdown]
# ## The trained network
#
# Here no mean is known, so it has an error that a ratio would take for signal: mean^2 - variance / N is its square
# without bias. DReG's mean is also the plain gradient's, with far less noise, hence it serves as the signal of both,
# and mixed with its mean at K = 1 as CIWAE's. The ratio is the root mean square over the parameters of the encoder or
# decoder, and over images, one gradient an image.


# %%
def squared_ratio(signal, noise):
    """Mean over parameters of the squared ratio; weights of dark pixels have no gradient, and do not count."""
    squares = signal.squared_snr(None if signal is noise else noise)
    moving = [part[variance > 0] for part, variance in zip(squares, noise.variance, strict=True)]
    return np.mean(np.concatenate(moving))


def mixture(one, many, beta):
    """Moments of beta times a gradient plus 1 - beta times an independent one."""
    if beta == 0 or one is many:
        return many
    mean = [beta * a + (1 - beta) * b for a, b in zip(one.mean, many.mean, strict=True)]
    variance = [beta**2 * a + (1 - beta) ** 2 * b for a, b in zip(one.variance, many.variance, strict=True)]
    return evaluation.GradientMoments(mean, variance, many.draws)


def network_ratios(vae, images, samples, draws, seed):
    """name -> squared ratios, (len(samples), images); the encoder's by estimator, and "decoder"; samples[0] is 1."""
    encoder, decoder = vae.encoder.parameters(), vae.decoder.parameters()
    squares = {name: np.empty((len(samples), len(images))) for name in (*ESTIMATORS, "decoder")}

    def moments(name, x, k, j, parameters=()):
        rng = Generator([seed, 53, k, j, list(ESTIMATORS).index(name)])
        return evaluation.gradient_moments(
            lambda: gradients(ESTIMATORS[name](vae, x[None], rng, 1, k), encoder, list(parameters)), draws
        )

    for j, x in enumerate(images):
        one = None
        for i, k in enumerate(samples):
            signal = moments("DReG", x, k, j)
            one = one or signal
            for name in ESTIMATORS:
                noise = signal if name == "DReG" else moments(name, x, k, j, decoder if name == "plain" else ())
                if name == "plain":
                    noise, below = split(noise, len(encoder))
                    squares["decoder"][i, j] = squared_ratio(below, below)
                mean = mixture(one, signal, ELBO_SHARE[name]) if name in ELBO_SHARE else noise
                squares[name][i, j] = squared_ratio(mean, noise)
    return squares


def split(moments, count):
    """Moments of the first ``count`` parameters, and of the others."""
    return [
        evaluation.GradientMoments(moments.mean[part], moments.variance[part], moments.draws)
        for part in (slice(count), slice(count, None))
    ]


def jackknife(samples, squares):
    """Exponent of the root mean square over images, and its standard error by leaving out one image at a time."""

    def fitted(part):
        return np.polyfit(np.log(samples), 0.5 * np.log(part.mean(axis=1)), 1)[0]

    n = squares.shape[1]
    left_out = np.array([fitted(np.delete(squares, i, axis=1)) for i in range(n)])
    return fitted(squares), np.sqrt((n - 1) * left_out.var())


def effective_samples(vae, x, samples, rng):
    """1 / sum_k w~_k^2, the mean over images: how many of the samples count."""
    with no_grad():
        w = np.exp(np.asarray(ops.log_softmax(vae.log_weights(x, rng, samples).T)))
    return float(np.mean(1.0 / np.sum(w**2, axis=1)))


def trained(run):
    """The network after ``epochs`` of the ELBO, and some test images."""
    s, images = run.settings, run.images()

    def start():
        vae = new_vae(s, images, run.seed)
        return vae, lambda x, rng: -vae.elbo(x, rng).mean(), optim.Adam(vae.parameters(), s.step_size)

    vae, *_ = run.train(
        f"{s.data}_snr_seed{run.seed}", start, images.train, epochs=s.epochs, batch_size=s.batch,
        rng=Generator([run.seed, 54]), prepare=data.fresh,
    )  # fmt: skip
    return vae, data.fresh(images.test[: s.images], Generator([run.seed, 55]))


# %% [markdown]
# ## Sections 3.3-3.5: ratios over K and M
#
# Exponents are fitted from K = 100 on, where theory speaks; below it, DReG and CIWAE still turn. CIWAE's sqrt(MK) needs
# K much larger than 1 / beta: until then the vanishing part of its signal is the larger one, and the ratio falls. So
# its exponents are fitted from K = 50 / beta on, where that part is at most about a fiftieth. An exponent may be off by
# what still vanishes at the fit's start. That over M is 1/2 for a mean of independent groups: a check, no claim. A
# network's exponents need not be near the limit at these K (the table gives how many samples are effective: 3 of
# 1,000), so that only directions are claimed for it. The report says nothing of DReG, whose ratio must be above the
# plain one's but on a network need not grow yet.


# %%
@experiment(
    "snr",
    title="signal-to-noise ratios of encoder and decoder gradients over K and M",
    mirrors="tighter-bounds report sections 3.3-3.5, eq. 8-10, 13",
    budgets=SNR_BUDGETS,
    minutes={"quick": 0.4, "laptop": 1.4, "paper": 60 * 14},
)
def snr(run):
    """Ratios on the linear-Gaussian model beside exact means, then on a trained network."""
    s = run.settings
    problem = near_optimum(s, run.seed)
    exact = exact_means(problem, sorted({*s.K, s.K_of_M}))
    over_k, over_m, agreement = {}, {}, {}
    for name in ESTIMATORS:
        moments = [sampled(problem, name, 1, k, s.draws, run.seed) for k in s.K]
        over_k[name] = ratios(moments, [exact[name][k] for k in s.K])
        moments_m = [sampled(problem, name, m, s.K_of_M, s.draws, run.seed) for m in s.M]
        over_m[name] = ratios(moments_m, [exact[name][s.K_of_M]] * len(s.M))
        standard = [(f.mean[0] - exact[name][k][0]) ** 2 / f.variance[0] for f, k in zip(moments, s.K, strict=True)]
        agreement[name] = float(np.mean(standard) * s.draws), np.size(standard)
    last = s.K[-1]
    bias = np.abs(exact["sticking the landing"][last][0]).sum() / np.abs(exact["plain"][last][0]).sum()
    vae, images = trained(run)
    squares = network_ratios(vae, images, s.K_vae, s.draws_vae, run.seed)
    effective = effective_samples(vae, images, s.K_vae[-1], Generator([run.seed, 58]))
    return {
        "over_K": over_k, "over_M": over_m, "agreement": agreement, "network_squared": squares, "landing": bias,
        "effective": effective,
    }  # fmt: skip


def ratios(moments, exact):
    """Exact mean / sampled deviation, averaged over data and dimensions: for encoder and decoder, (2, points)."""
    return [
        [float(np.mean(np.abs(e[i]) / np.sqrt(f.variance[i]))) for f, e in zip(moments, exact, strict=True)]
        for i in (0, 1)
    ]


@snr.table
def _(n, table):
    tractable_rows(n, table)
    for name, (value, count) in n.agreement.items():
        label = f"{name}: sampled means agree with the exact ones, mean squared error / variance"
        draws = n.settings.draws
        table.check(value, "=", (draws - 1) / (draws - 3), 4 * np.sqrt(2 / count), label)
    network_rows(n, table)


PLAIN = (
    "increasing M always leads to higher SNR(theta) and SNR(phi) ... However, when increasing K, SNR_theta becomes "
    "larger while SNR_phi becomes lower"
)
COMBINED = "For the CIWAE algorithm, the SNR increases with O(sqrt(M K))."


def tractable_rows(n, table):
    """Exponents on the linear-Gaussian model."""
    s, theory = n.settings, {"plain": -0.5, "CIWAE 0.05": 0.5, "CIWAE 0.5": 0.5}
    plain = table.says("tighter-bounds report 3.3", PLAIN, seeds=1)
    for name in ESTIMATORS:
        beta = ELBO_SHARE.get(name, 0.0)
        wanted = 50 / beta if beta else 100
        start = min(wanted, s.K[-1] // 10)
        ratio, (fitted, error) = n.over_K[name][0], slope(s.K, n.over_K[name][0], start)
        ends = f"from K = {start:g}; SNR {ratio[0]:.3g} at K = 1, {ratio[-1]:.3g} at K = {s.K[-1]}"
        table.row(f"encoder over K, {name}", fitted, theory.get(name), "exponent", f"+- {error:.3f}; {ends}")
        if name in theory:
            short = f"K up to {s.K[-1]:,}, not much above 50 / beta" if start < wanted else ""
            says = table.says("tighter-bounds report 3.5", COMBINED, seeds=1, short=short) if beta else plain
            vanishes = 1 / (beta or 1.0) / start
            label = f"encoder over K, {name}: exponent"
            says(fitted, "=", theory[name], vanishes, label, standard_error=error)
    fitted, error = slope(s.K, n.over_K["plain"][1], 100)
    table.row("decoder over K", fitted, 0.5, "exponent", f"+- {error:.3f}")
    plain(fitted, "=", 0.5, 1 / 100, "decoder over K: exponent", standard_error=error)
    for i, network in enumerate(("encoder", "decoder")):
        fitted, error = slope(s.M, n.over_M["plain"][i])
        table.row(f"{network} over M, plain", fitted, 0.5, "exponent", f"+- {error:.3f}, K = {s.K_of_M}")
        label = f"{network} over M: exponent, within four standard errors"
        table.check(fitted, "=", 0.5, 4 * error, label)  # a mean of M independent groups
    says = table.says(
        "tighter-bounds report 3.5", "the non-zero gradient estimates of the VAE (even for small beta) should enable "
        "the CIWAE modeling objective to alleviate SNR issues in the inference network", seeds=1,
    )  # fmt: skip
    label = f"encoder's ratio at K = {s.K[-1]:,}, CIWAE 0.05 and plain"
    says(n.over_K["CIWAE 0.05"][0][-1], ">=", n.over_K["plain"][0][-1], 0.0, label)
    note = "sum of moduli; 1 is unbiased. Its ratio grows, but towards another gradient's"
    table.row(f"sticking the landing, mean / true gradient, K = {s.K[-1]}", n.landing, None, "times", note)


def network_rows(n, table):
    """Exponents on the trained network."""
    s, squares = n.settings, n.network_squared
    fits = {name: jackknife(s.K_vae, values) for name, values in squares.items()}
    for name, (fitted, error) in fits.items():
        what = f"{s.data} network, " + ("decoder over K" if name == "decoder" else f"encoder over K, {name}")
        ends = np.sqrt(squares[name].mean(axis=1))[[0, -1]]
        note = f"+- {error:.2f} over {s.images} images; SNR {ends[0]:.3g} at K = 1, {ends[1]:.3g} at K = {s.K_vae[-1]}"
        published = {"plain": -0.5, "decoder": 0.5, "CIWAE 0.05": 0.5, "CIWAE 0.5": 0.5}.get(name)
        table.row(what, fitted, published, "exponent", note)
    what = f"{s.data} network, effective samples of K = {s.K_vae[-1]}"
    table.row(what, n.effective, None, "samples", "1 / sum w~^2")
    for name, relation, place, sentence, what in (
        ("plain", "<=", "3.3", PLAIN, "the plain encoder"),
        ("decoder", ">=", "3.3", PLAIN, "the decoder"),
        ("CIWAE 0.5", ">=", "3.5", COMBINED, "CIWAE 0.5's encoder"),
    ):
        fitted, error = fits[name]
        says = table.says(f"tighter-bounds report {place}", sentence, seeds=1)
        says(fitted, relation, 0.0, 0.0, f"{s.data} network, {what}: exponent over K", standard_error=error)


@snr.figure()
def _(n):
    """Ratios against K for both networks, and against M."""
    s, over_k, over_m = n.settings, n.over_K, n.over_M
    fig = plots.figure(10.5, 4.0)
    panels = [fig.add_subplot(1, 3, i + 1) for i in range(3)]
    for j, name in enumerate(ESTIMATORS):
        panels[0].plot(s.K, over_k[name][0], label=name, **plots.style(j))
        if name != "sticking the landing" and name != "DReG":  # the same decoder gradient as the plain one
            panels[1].plot(s.K, over_k[name][1], **plots.style(j))
        panels[2].plot(s.M, over_m[name][0], **plots.style(j))
    panels[2].plot(s.M, over_m["plain"][1], label="decoder, plain", **plots.style(5))
    guides = (
        (panels[0], s.K, over_k["plain"][0], -0.5),
        (panels[0], s.K, over_k["DReG"][0], 0.5),
        (panels[1], s.K, over_k["plain"][1], 0.5),
        (panels[2], s.M, over_m["plain"][0], 0.5),
    )
    for axes, along, curve, sign in guides:
        line = 0.7 * curve[-1] * (np.array(along) / along[-1]) ** sign
        axes.plot(along, line, color="#555555", linewidth=0.8)
    panels[2].lines[-1].set_label("exponents -1/2 and 1/2")
    for axes, title, label in zip(
        panels,
        ("encoder (b)", "decoder (mu)", f"encoder (b) and decoder (mu), K = {s.K_of_M}"),
        ("samples K", "samples K", "groups M"),
        strict=True,
    ):
        plots.panel(axes, title, label, log="xy")
    panels[0].set_ylabel("|mean| / standard deviation", fontsize=9)
    plots.legend_below(fig, panels, 4)
    fig.suptitle("Signal-to-noise ratio of a gradient, linear-Gaussian model", fontsize=10)
    return fig


@snr.figure("network")
def _(n):
    """Ratios of a trained network against K, with standard errors over images."""
    s, fig = n.settings, plots.figure(7.5, 4.2)
    left = fig.add_subplot(1, 2, 1)
    panels = [left, fig.add_subplot(1, 2, 2, sharey=left)]
    for j, (name, values) in enumerate(n.network_squared.items()):
        axes, label = (panels[1], "decoder, plain") if name == "decoder" else (panels[0], name)
        root = np.sqrt(np.maximum(values.mean(axis=1), 0.0))
        error = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1]) / (2 * root)
        axes.errorbar(s.K_vae, root, error, capsize=3, label=label, **plots.style(j))
    for axes, title in zip(panels, ("encoder", "decoder"), strict=True):
        plots.panel(axes, title, "samples K", log="xy")
    panels[0].set_ylabel("mean / standard deviation, root mean square", fontsize=9)
    plots.legend_below(fig, panels, 3)
    fig.suptitle(f"Signal-to-noise ratio of a gradient, network trained on {s.data}", fontsize=10)
    return fig
