"""Tighter bounds, second part: signal and noise of the gradients, a learned beta (tighter-bounds report 3.3-3.7).

A gradient is sampled. With more samples in the importance-weighted bound its noise falls, but for the encoder its
signal falls faster. How fast, which estimators escape, and does beta in CIWAE know the best compromise by itself?
"""

# %% [markdown]
# The signal-to-noise ratio of a parameter's gradient (eq. 8) is |mean| / standard deviation over the samples. For
# MIWAE(M, K), with Z = p(x) and one weight w (eq. 9, 10; theta for the decoder, phi for the encoder):
#
#     SNR(theta) = sqrt(M) |sqrt(K) dZ - Z / (2 sqrt(K)) d(Var[w] / Z^2)| / sqrt(E[w^2 (d log w - d log Z)^2])
#     SNR(phi)   = sqrt(M / K) |d Var[w]| / (2 Z sd[d w])                            up to terms that vanish as K grows
#
# Printed eq. 9 has 1 / (2 Z sqrt(K)) in the second term; its dimension shows that Z / (2 sqrt(K)) is meant (checked
# below). So the decoder's ratio grows like sqrt(MK), the encoder's falls like sqrt(M / K).
#
# Two estimators avoid the fall: sticking the landing, at the price of a bias, and the doubly reparameterised gradient
# (DReG), without one. CIWAE's way out is a part beta of the ELBO, whose signal does not depend on K.

# %%
from functools import cache

import numpy as np
from scipy.special import gamma
from scipy.stats import ncx2, norm

from minivi import bounds, data, estimators, evaluation, nn, ops, optim, plots
from minivi.distributions import Normal
from minivi.experiments import Claim, Result, Row, experiment
from minivi.models import VAE, Terms
from minivi.random import Generator
from minivi.tensor import Parameter, grad, no_grad

# %% [markdown]
# ## Settings
#
# The linear-Gaussian problem is that of Rainforth et al.: 20 dimensions, 1,024 data, every parameter moved from its
# optimum by a normal number times 0.01. Ratios are measured on the first ``points`` data. The report has no figure of
# them. For images, the report's network (784-200-200-50, section 4.1) is trained with the ELBO.

# %%
NETWORK = {"hidden": [200, 200], "latents": 50, "batch": 100, "step_size": 1e-3}
DIGITS = NETWORK | {"data": "digits", "split": "1500/297", "hidden": [50, 50], "latents": 10}
MNIST = NETWORK | {"data": "mnist", "split": "60000/10000"}
K = [1, 3, 10, 30, 100, 180, 320, 560, 1000]
SNR = {"dimensions": 20, "count": 1024, "distance": 0.01, "K": K, "M": [1, 3, 10, 30, 100], "K_of_M": 10}
SNR_BUDGETS = {
    "quick": DIGITS | SNR | {
        "points": 16, "draws": 40, "epochs": 20, "K_vae": [1, 10, 100], "images": 12, "draws_vae": 40,
    },
    "laptop": MNIST | SNR | {
        "points": 64, "draws": 100, "epochs": 10, "K_vae": [1, 10, 100, 1000], "images": 8, "draws_vae": 100,
    },
    "paper": MNIST | SNR | {
        "points": 1024, "draws": 1000, "epochs": 100, "K_vae": K, "images": 64, "draws_vae": 1000,
    },
}  # fmt: skip


def new_vae(settings, images, seed):
    """The report's network; output biases start at the mean pixel's log-odds."""
    bias = nn.logit_of_mean(images.train)
    return VAE(images.train.shape[1], settings.hidden, settings.latents, rng=Generator([seed, 50]), output_bias=bias)


def binarize(x, rng):
    """Fresh binary pixels from grey values."""
    return data.binarize(x, "dynamic", rng)


# %% [markdown]
# ## The estimators
#
# Each gives what the encoder and what the decoder follow, for M groups of K samples. Only DReG's two differ.


# %%
def mixed(beta):
    """CIWAE with M groups: the ELBO's share of all samples does not depend on the grouping."""

    def surrogate(model, x, rng, m, k):
        log_w = model.terms(x, rng, m * k).log_w
        bound = beta * bounds.elbo(log_w) + (1.0 - beta) * bounds.miwae(log_w, m)
        return bound, bound

    return surrogate


def landing(model, x, rng, m, k):
    """Sticking the landing: no score function of q, hence a bias for K > 1."""
    bound = estimators.sticking_the_landing(model, x, rng, m * k, m)
    return bound, bound


def doubly(model, x, rng, m, k):
    """DReG."""
    return estimators.doubly_reparameterised(model, x, rng, m * k, m)


ESTIMATORS = {
    "plain": mixed(0.0),
    "sticking the landing": landing,
    "DReG": doubly,
    "CIWAE 0.05": mixed(0.05),
    "CIWAE 0.5": mixed(0.5),
}
ELBO_SHARE = {"plain": 0.0, "DReG": 0.0, "CIWAE 0.05": 0.05, "CIWAE 0.5": 0.5}  # beta of those without bias


def gradients(surrogates, encoder, decoder):
    """Gradients with respect to the encoder's parameters, then the decoder's; one backward pass where one will do."""
    first, second = (s.sum() for s in surrogates)
    if surrogates[0] is surrogates[1]:
        return grad(first, encoder + decoder)
    return grad(first, encoder) + grad(second, decoder)


# %% [markdown]
# ## A model whose answer is known
#
# z ~ N(mu, I), x | z ~ N(z, I), q(z | x) = N(A x + b, (2/3) I). Then log p(x) = log N(x; mu, 2I), the posterior is
# N(c, I/2) with c = (x + mu) / 2, and with delta = A x + b - c
#
#     log w = constant - |y|^2 / 4        where y = z - (c - 3 delta) ~ N(4 delta, (2/3) I)
#
# depends on the length of y alone. By 1 / s = int exp(-s t) dt, expectations of weighted averages over K samples
# become one-dimensional integrals, for every K: E[sum_k w_k y_k / sum_k w_k] = 4 r delta with
#
#     r(K) = K int E'[w exp(-t w)] E[exp(-t w)]^(K - 1) dt       |y|^2 / (2/3) noncentral chi-square, D (D + 2 in E')
#
# r falls from 1 at K = 1 to 3/4. The plain gradient's mean is -2 (4r - 3) delta for b and (x - mu)/2 + (4r - 3) delta
# for mu; sticking the landing's is -2 r delta for b, which does not vanish as K grows, though the truth does.
#
# So the signal is known and only the noise must be sampled: ratios far below what any number of draws could resolve
# are measured all the same. Every datum has its own copy of b and mu, which makes one backward pass give all gradients.


# %%
LOG_SIGMA = 0.5 * float(np.log(2 / 3))


class LinearGaussian(nn.Module):
    """The model; b and mu of shape (D,), or (B, D) for a gradient for each datum.

    Args:
        matrix: A, (D, D), a constant: its gradient is that of b times x.
        b, mu: parameters of the encoder and of the prior.
        log_sigma: of q, by default the text's.
    """

    def __init__(self, matrix, b, mu, log_sigma=LOG_SIGMA, dtype="float64"):
        self.matrix = np.asarray(matrix, dtype)
        self.b, self.mu = Parameter(b, dtype=dtype), Parameter(mu, dtype=dtype)
        self.log_sigma, self.zeros = np.full(len(matrix), log_sigma, dtype), np.zeros(len(matrix), dtype)

    def terms(self, x, rng=None, samples=1, eps=None):
        """As for :meth:`minivi.models.VAE.terms`."""
        if eps is None:
            eps = rng.standard_normal((samples, *x.shape), dtype=self.zeros.dtype)
        q = Normal(x @ self.matrix.T + self.b, self.log_sigma)
        z = q.rsample(eps)
        log_px_z, log_pz = Normal(z, self.zeros).log_prob(x), Normal(self.mu, self.zeros).log_prob(z)
        return Terms(q, z, log_px_z, log_pz, q.log_prob_of_noise(eps))

    def held_log_q(self, x, terms):
        """As for :meth:`minivi.models.VAE.held_log_q`."""
        return terms.q.detached().log_prob(terms.z)


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
    found = {name: {} for name in ESTIMATORS}
    for i, k in enumerate(samples):
        one, many = (4 * r[:, j, 0] - 3 for j in (0, i + 1))
        for name, beta in ELBO_SHARE.items():
            left = beta * one + (1 - beta) * many
            found[name][k] = -2 * left * delta, (x - mu) / 2 + left * delta
        found["sticking the landing"][k] = -2 * r[:, i + 1, 0] * delta, (x - mu) / 2 + many * delta
    return found


def measured(problem, name, m, k, draws, seed):
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
    (found, _), covariance = np.polyfit(np.log(np.asarray(along)[keep]), np.log(np.asarray(ratios)[keep]), 1, cov=True)
    return found, np.sqrt(covariance[0, 0])


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
    found = signal.squared_snr(None if signal is noise else noise)
    moving = [part[variance > 0] for part, variance in zip(found, noise.variance, strict=True)]
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
    found = {name: np.empty((len(samples), len(images))) for name in (*ESTIMATORS, "decoder")}

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
                    found["decoder"][i, j] = squared_ratio(below, below)
                mean = mixture(one, signal, ELBO_SHARE[name]) if name in ELBO_SHARE else noise
                found[name][i, j] = squared_ratio(mean, noise)
    return found


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
    """The network after ``epochs`` of the ELBO."""
    s, images = run.settings, run.images()
    vae = new_vae(s, images, run.seed)
    run.fit(
        f"{s.data}_snr_seed{run.seed}", vae, lambda x, rng: -vae.elbo(x, rng).mean(),
        optim.Adam(vae.parameters(), s.step_size), images.train, epochs=s.epochs, batch_size=s.batch,
        rng=Generator([run.seed, 54]), prepare=binarize,
    )  # fmt: skip
    return vae, binarize(images.test[: s.images], Generator([run.seed, 55]))


# %% [markdown]
# ## Sections 3.3-3.5: ratios over K and M
#
# Exponents are fitted from K = 100 on, where theory speaks; below it, DReG and CIWAE still turn. CIWAE's sqrt(MK) needs
# K much larger than 1 / beta: until then the vanishing part of its signal is the larger one, and the ratio falls. A
# network's exponents need not be near the limit at these K (the table gives how many samples are effective), so that
# only directions are claimed for it.


# %%
@experiment(
    "snr",
    title="signal-to-noise ratios of encoder and decoder gradients over K and M",
    mirrors="tighter-bounds report sections 3.3-3.5, eq. 8-10, 13",
    budgets=SNR_BUDGETS,
    minutes={"quick": 0.4, "laptop": 5, "paper": 60 * 14},
)
def snr(run):
    """Exponents on the linear-Gaussian model against theory, then on a trained network."""
    s = run.settings
    problem = near_optimum(s, run.seed)
    exact = exact_means(problem, sorted({*s.K, s.K_of_M}))
    over_k, over_m, agreement = {}, {}, {}
    for name in ESTIMATORS:
        found = [measured(problem, name, 1, k, s.draws, run.seed) for k in s.K]
        over_k[name] = ratios(found, [exact[name][k] for k in s.K])
        found_m = [measured(problem, name, m, s.K_of_M, s.draws, run.seed) for m in s.M]
        over_m[name] = ratios(found_m, [exact[name][s.K_of_M]] * len(s.M))
        standard = [(f.mean[0] - exact[name][k][0]) ** 2 / f.variance[0] for f, k in zip(found, s.K, strict=True)]
        agreement[name] = float(np.mean(standard) * s.draws), np.size(standard)

    rows, claims = [], []
    theory = {"plain": -0.5, "CIWAE 0.05": 0.5, "CIWAE 0.5": 0.5}
    for name in ESTIMATORS:
        found, error = slope(s.K, over_k[name][0], 100)
        ends = f"SNR {over_k[name][0][0]:.3g} at K = 1, {over_k[name][0][-1]:.3g} at K = {s.K[-1]}"
        rows.append(Row(f"encoder over K, {name}", found, theory.get(name), "exponent", f"+- {error:.3f}; {ends}"))
        if name != "sticking the landing":
            claims.append(exponent(found, theory.get(name, 0.5), error, f"encoder over K, {name}"))
    found, error = slope(s.K, over_k["plain"][1], 100)
    rows.append(Row("decoder over K", found, 0.5, "exponent", f"+- {error:.3f}"))
    claims.append(exponent(found, 0.5, error, "decoder over K"))
    for i, network in enumerate(("encoder", "decoder")):
        found, error = slope(s.M, over_m["plain"][i])
        rows.append(Row(f"{network} over M, plain", found, 0.5, "exponent", f"+- {error:.3f}, K = {s.K_of_M}"))
        claims.append(exponent(found, 0.5, error, f"{network} over M"))
    last = s.K[-1]
    bias = np.abs(exact["sticking the landing"][last][0]).sum() / np.abs(exact["plain"][last][0]).sum()
    note = "sum of moduli; 1 is unbiased. Its ratio grows, but towards another gradient's"
    rows.append(Row(f"sticking the landing, mean / true gradient, K = {last}", bias, None, "times", note))
    for name, (value, count) in agreement.items():
        label = f"{name}: sampled means agree with the exact ones, mean squared error / variance"
        claims.append(Claim(value, "=", (s.draws - 1) / (s.draws - 3), 4 * np.sqrt(2 / count), label))

    vae, images = trained(run)
    squares = network_ratios(vae, images, s.K_vae, s.draws_vae, run.seed)
    fits = {name: jackknife(s.K_vae, values) for name, values in squares.items()}
    for name, (found, error) in fits.items():
        what = f"{s.data} network, " + ("decoder over K" if name == "decoder" else f"encoder over K, {name}")
        ends = np.sqrt(squares[name].mean(axis=1))[[0, -1]]
        note = f"+- {error:.2f} over {s.images} images; SNR {ends[0]:.3g} at K = 1, {ends[1]:.3g} at K = {s.K_vae[-1]}"
        published = {"plain": -0.5, "decoder": 0.5, "CIWAE 0.05": 0.5, "CIWAE 0.5": 0.5}.get(name)
        rows.append(Row(what, found, published, "exponent", note))
    effective = effective_samples(vae, images, s.K_vae[-1], Generator([run.seed, 58]))
    rows.append(
        Row(f"{s.data} network, effective samples of K = {s.K_vae[-1]}", effective, None, "samples", "1 / sum w~^2")
    )
    for name, relation, text in (
        ("plain", "<=", "the plain encoder's ratio falls with K"),
        ("DReG", ">=", "DReG's encoder ratio grows with K"),
        ("CIWAE 0.5", ">=", "CIWAE 0.5's encoder ratio grows with K"),
        ("decoder", ">=", "the decoder's ratio grows with K"),
    ):
        found, error = fits[name]
        away = found + 2 * error if relation == "<=" else found - 2 * error
        claims.append(Claim(away, relation, 0.0, 0.0, f"{s.data} network: {text}, by 2 standard errors"))
    ends = {name: float(np.sqrt(values[-1].mean())) for name, values in squares.items()}
    label = f"{s.data} network, K = {s.K_vae[-1]}: DReG's ratio above the plain encoder's"
    claims.append(Claim(ends["DReG"], ">=", ends["plain"], 0.0, label))
    numbers = {"over_K": over_k, "over_M": over_m, "agreement": agreement, "network_squared": squares}
    return Result(
        rows, {"": tractable_figure(s, over_k, over_m), "network": network_figure(s, squares)}, numbers, claims
    )


def ratios(found, exact):
    """Exact mean / sampled deviation, averaged over data and dimensions: for encoder and decoder, (2, points)."""
    return [
        [float(np.mean(np.abs(e[i]) / np.sqrt(f.variance[i]))) for f, e in zip(found, exact, strict=True)]
        for i in (0, 1)
    ]


def exponent(found, theory, error, label):
    """A claim within two standard errors, or the 0.02 that finite K may leave."""
    return Claim(found, "=", theory, max(2 * error, 0.02), f"exponent, {label}")


def tractable_figure(s, over_k, over_m):
    """Ratios against K for both networks, and against M."""
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
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(label)
        axes.set_title(title, fontsize=9)
        axes.grid(True, linewidth=0.3)
    panels[0].set_ylabel("|mean| / standard deviation")
    plots.legend_below(fig, panels, 4)
    fig.suptitle("Signal-to-noise ratio of a gradient, linear-Gaussian model", fontsize=10)
    return fig


def network_figure(s, squares):
    """Ratios of a trained network against K, with standard errors over images."""
    fig = plots.figure(7.5, 4.2)
    left = fig.add_subplot(1, 2, 1)
    panels = [left, fig.add_subplot(1, 2, 2, sharey=left)]
    for j, (name, values) in enumerate(squares.items()):
        axes, label = (panels[1], "decoder, plain") if name == "decoder" else (panels[0], name)
        root = np.sqrt(np.maximum(values.mean(axis=1), 0.0))
        error = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1]) / (2 * root)
        axes.errorbar(s.K_vae, root, error, capsize=3, label=label, **plots.style(j))
    for axes, title in zip(panels, ("encoder", "decoder"), strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("samples K")
        axes.set_title(title, fontsize=9)
        axes.grid(True, linewidth=0.3)
    panels[0].set_ylabel("mean / standard deviation, root mean square")
    plots.legend_below(fig, panels, 3)
    fig.suptitle(f"Signal-to-noise ratio of a gradient, network trained on {s.data}", fontsize=10)
    return fig


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
# learns faster at first; on which side of the fixed betas a learned one lies depends on that, not on learning it. Seed
# and images are the same in all runs; other seeds at beta = 0.5 show how much of a spread is chance.

# %%
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
        epochs=s.epochs, batch_size=s.batch, rng=Generator([seed, 56]), prepare=binarize,
        evaluate=lambda epoch: {"beta": ops.sigmoid(model.logit).item()},
    )  # fmt: skip
    x = binarize(images.test[: s.images], Generator(2))
    found = evaluation.log_likelihood(model.vae, x, Generator([run.seed, 57]), s.evaluation_samples)
    return [beta, *history.column("beta")], found


@experiment(
    "beta",
    title="CIWAE over initial beta, fixed and learned",
    mirrors="tighter-bounds report Figure 4, sections 3.7 and 4.3, eq. 16",
    budgets=BETA_BUDGETS,
    minutes={"quick": 0.3, "laptop": 8, "paper": 60 * 24 * 120},
)
def learned_beta(run):
    """Fixed, minimised over (the report), maximised over; paths of beta and IWAE-64."""
    s = run.settings
    found = {rule: [with_beta(run, rule, beta, run.seed) for beta in s.betas] for rule in RULES}
    metric = {rule: np.array([estimate.mean for _, estimate in runs]) for rule, runs in found.items()}
    paths = {rule: np.array([path for path, _ in runs]) for rule, runs in found.items()}
    again = [with_beta(run, "fixed", 0.5, run.seed + i)[1].mean for i in range(1, s.seeds)]
    again.append(metric["fixed"][s.betas.index(0.5)])
    rows = []
    for rule, values in metric.items():
        for beta, value, path, (_, estimate) in zip(s.betas, values, paths[rule], found[rule], strict=True):
            note = f"standard error {estimate.standard_error:.2f} over test images, the same for all runs"
            rows.append(Row(f"{rule}, beta {beta:g} -> {path[-1]:.3f}, IWAE-64", value, note=note))
    published = {"fixed": (-81.29, 2.98), "minimised": (-80.34, 0.49)} if s.data == "mnist" else {}
    for rule, values in metric.items():
        mean, spread = published.get(rule, (None, None))
        note = "not comparable, see the text above" if mean else ""
        rows.append(Row(f"{rule}, mean over initial values", values.mean(), mean, note=note))
        rows.append(Row(f"{rule}, spread over initial values", values.std(ddof=1), spread, note=note))
    if published:
        note = "the caption's number, where the text has -81.29: the report disagrees with itself"
        rows.append(Row("fixed, mean over initial values", metric["fixed"].mean(), -81.99, note=note))
    note = f"{s.seeds} seeds; for scale"
    rows.append(Row("fixed, beta 0.5, spread over seeds", np.std(again, ddof=1), note=note))
    spreads = {rule: values.std(ddof=1) for rule, values in metric.items()}
    means = {rule: values.mean() for rule, values in metric.items()}
    moved = {rule: paths[rule][:, -1] - paths[rule][:, 0] for rule in RULES}
    claims = [
        Claim(spreads["minimised"], "<=", spreads["fixed"], 0.0, "learning beta lowers the spread over initial values"),
        Claim(means["minimised"], ">=", means["fixed"], 0.0, "learning beta raises the mean IWAE-64"),
        Claim(moved["minimised"].min(), ">=", 0.0, 0.0, "eq. 16 moves every beta towards 1, the VAE: least rise"),
        Claim(moved["maximised"].max(), "<=", 0.0, 0.0, "maximisation moves every beta towards 0, IWAE: least fall"),
    ]
    return Result(rows, {"": beta_figure(s, paths, metric)}, {"paths": paths, "iwae64": metric, "seeds": again}, claims)


def beta_figure(s, paths, metric):
    """Paths of beta over epochs; IWAE-64 against its initial value."""
    fig = plots.figure(8.5, 4.0)
    left, right = (fig.add_subplot(1, 2, i + 1) for i in range(2))
    for j, rule in enumerate(RULES):
        style = plots.style(j, paths[rule].shape[1])
        if rule != "fixed":
            left.plot(paths[rule].T[:, 0], label=f"{rule} over beta", **style)
            left.plot(paths[rule].T[:, 1:], **style)
        right.plot(s.betas, metric[rule], label=rule, **plots.style(j, len(s.betas)))
    left.set_xlabel("epoch")
    left.set_ylabel("beta")
    left.set_ylim(-0.03, 1.03)
    right.set_xlabel("initial beta")
    right.set_ylabel(f"IWAE-{s.evaluation_samples} on test images, nats")
    for axes in (left, right):
        axes.grid(True, linewidth=0.3)
        axes.legend(fontsize=8)
    fig.suptitle(f"CIWAE with beta fixed, or learned by eq. 16 (minimised) or by maximisation, {s.data}", fontsize=10)
    return fig


# %% [markdown]
# ## The equations, checked
#
# The linear-Gaussian model in one dimension. p(x), the posterior and the ELBO have closed forms; the bound and the
# moments of its gradients are two nested one-dimensional integrals for any K; expectations over two samples are sums
# over a grid of (eps_1, eps_2). On the left stands the library, or the text; on the right one of these.

# %%
A, B, MU, X = np.array([[0.4]]), np.array([0.5]), np.array([0.3]), np.array([[1.1]])
CENTRE, SIGMA = (X[0, 0] + MU[0]) / 2, np.exp(LOG_SIGMA)  # the posterior is N(CENTRE, 1/2)
EPS = np.linspace(-9.0, 9.0, 601)
MASS = norm.pdf(EPS) * (EPS[1] - EPS[0])
TIME_STEP = 0.1
TIME = np.exp(np.arange(-35.0, 40.0, TIME_STEP))


def model(b=B, mu=MU):
    """The model of the checks, in float64."""
    return LinearGaussian(A, b, mu)


def by_hand(eps=EPS, b=B[0], mu=MU[0]):
    """w; d log w / db, d log w / dmu, and d log w / dz at fixed q: from SciPy's densities and by calculus."""
    x, m = X[0, 0], A[0, 0] * X[0, 0] + b
    z = m + SIGMA * eps
    w = norm.pdf(z, mu) * norm.pdf(x, z) / norm.pdf(z, m, SIGMA)
    return w, mu + x - 2 * z, z - mu, mu + x - 2 * z + (z - m) / SIGMA**2


@cache
def decays():
    """exp(-t w) times the mass of w, (t, w)."""
    return np.exp(-TIME[:, None] * by_hand()[0]) * MASS


def weighted(g, samples, power=1):
    """Exact mean and variance of sum_k w~_k^p g_k, for any K, from s^-n = int t^(n - 1) exp(-s t) / (n - 1)! dt."""
    wg, n = by_hand()[0] ** power * g, 2 * power
    one, first, second = decays().sum(axis=1), decays() @ wg, decays() @ wg**2
    mean = samples * np.sum(first * one ** (samples - 1) * TIME**power) * TIME_STEP / gamma(power)
    square = samples * second * one ** (samples - 1)
    if samples > 1:
        square = square + samples * (samples - 1) * first**2 * one ** (samples - 2)
    return mean, np.sum(square * TIME**n) * TIME_STEP / gamma(n) - mean**2


# %% [markdown]
# ## What to try next
#
# - `minivi run report_tighter_bounds_gradients --budget laptop`: the network and beta on MNIST.
# - Raise ``distance`` in ``SNR``: where does the plain encoder's ratio begin to fall like K^(-1/2)?
# - Give ``WithBeta`` a target for beta, such as the encoder's signal-to-noise ratio, that has an optimum inside (0, 1).
