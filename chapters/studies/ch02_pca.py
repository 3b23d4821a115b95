"""Chapter 2, principal component analysis as a limit (thesis section 2.10).

What does a variational auto-encoder become when every network in it is linear? Probabilistic PCA, whose likelihood is
known in closed form: so here the bound can be held against the very thing that it bounds.
"""

# %% [markdown]
# The linear-Gaussian model, and all that can be said of it (Roweis 1998; Tipping & Bishop 1999):
#
#     p(z) = N(0, I)      p(x | z) = N(W z + b, s^2 I)        =>   p(x) = N(b, W W' + s^2 I)
#     p(z | x) = N(M^-1 W'(x - b), s^2 M^-1)                       with M = W' W + s^2 I
#
# The likelihood is highest at W = U (Lambda - s^2 I)^(1/2) R: U and Lambda are the leading eigenvectors and eigenvalues
# of the data's covariance, R any rotation, s^2 the mean of the eigenvalues left out. As s -> 0, p(z | x) becomes a
# delta function at (W' W)^-1 W'(x - b), the pseudo-inverse of W at work (section 2.10).
#
# A posterior with a diagonal covariance can be exact here: with R = I, M is the diagonal matrix Lambda. Under any other
# rotation, which the likelihood does not notice, M is not diagonal and the bound lies lower. So the bound is highest
# where the columns are the principal axes themselves; but where s^2 is small, or two eigenvalues nearly equal, turning
# there gains little, and takes long. The subspace and the likelihood do not wait for it.

# %%
import numpy as np
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from minivi import data, nn, ops, optim, plots
from minivi.distributions import Normal
from minivi.experiments import experiment
from minivi.random import Generator
from minivi.tensor import Parameter

# %% [markdown]
# ## Settings
#
# The text has no experiment here, so no budget has published settings. As many latents as precede a gap between the
# eigenvalues: where two are nearly equal, the subspace of the first alone is hardly determined by the data.

# %%
LATENTS = {"synthetic": 3, "digits": 4, "frey": 5, "mnist": 6}
COMMON = {"batch": 100, "step_size": 0.01, "limit_steps": 2000}


# %% [markdown]
# ## The model
#
# A VAE of `Linear` layers. Its posterior's variance is the same for all x, as in the true posterior.


# %%
class LinearVAE(nn.Module):
    """p(x | z) = N(W z + b, s^2 I), q(z | x) = N(A x + a, diag(sigma^2)).

    Args:
        pixels, latents: D and J.
        rng: of the initial weights.
    """

    def __init__(self, pixels, latents, rng, dtype="float32"):
        self.encoder = nn.Linear(pixels, latents, rng, dtype=dtype)
        self.log_sigma = Parameter(np.zeros(latents), dtype=dtype)
        self.decoder = nn.Linear(latents, pixels, rng, dtype=dtype)
        self.log_s = Parameter(np.zeros(1), dtype=dtype)

    def elbo(self, x, rng=None, eps=None):
        """The bound of each datum (B,) by estimator B (eq. 2.77) with one sample, in nats; x (B, D), eps (B, J)."""
        q = Normal(self.encoder(x), self.log_sigma)
        eps = rng.standard_normal(q.shape, dtype=x.dtype) if eps is None else eps
        return Normal(self.decoder(q.rsample(eps)), self.log_s).log_prob(x) - q.kl()

    def arrays(self):
        """W (D, J), b (D,), s^2, A (J, D), a (J,), sigma (J,), in float64."""
        decoder, encoder = self.decoder, self.encoder
        parts = [
            decoder.weight.data.T, decoder.bias.data, np.exp(2.0 * self.log_s.data[0]), encoder.weight.data.T,
            encoder.bias.data, np.exp(self.log_sigma.data),
        ]  # fmt: skip
        return [np.asarray(part, np.float64) for part in parts]


class LinearAutoencoder(nn.Module):
    """x -> W (A x + a) + b, trained by squared error."""

    def __init__(self, pixels, latents, rng):
        self.encoder = nn.Linear(pixels, latents, rng)
        self.decoder = nn.Linear(latents, pixels, rng)

    def error(self, x):
        """Squared error of each datum, (B,)."""
        return ops.square(self.decoder(self.encoder(x)) - x).sum(axis=-1)


def moments(x):
    """Mean (D,) and covariance (D, D) of ``x``: all that a quadratic function's average needs."""
    x = np.asarray(x, np.float64)
    mean = x.mean(axis=0)
    return mean, (x - mean).T @ (x - mean) / len(x)


def mean_bound(vae, mean, cov):
    """The exact bound averaged over data with these moments: for linear maps the expectation over z is a formula."""
    w, b, s2, a_matrix, a, sigma = vae.arrays()
    mu = a_matrix @ mean + a
    left = np.eye(len(mean)) - w @ a_matrix  # x - W mu(x) - b, up to a constant
    square = np.sum((left @ cov) * left) + np.sum((mean - w @ mu - b) ** 2) + np.sum(sigma**2 * np.sum(w**2, axis=0))
    log_px_z = -0.5 * (len(mean) * np.log(2 * np.pi * s2) + square / s2)
    mu_square = mu**2 + np.sum((a_matrix @ cov) * a_matrix, axis=1)
    return log_px_z - 0.5 * np.sum(mu_square + sigma**2 - 1 - 2 * np.log(sigma))


def log_likelihood(w, b, s2, mean, cov):
    """Log N(x; b, W W' + s^2 I), averaged over data with these moments; inverts matrices of the size of z only."""
    size, latents = w.shape
    m = w.T @ w + s2 * np.eye(latents)
    second = cov + np.outer(mean - b, mean - b)
    square = (np.trace(second) - np.trace(np.linalg.solve(m, w.T @ second @ w))) / s2
    log_det = (size - latents) * np.log(s2) + np.linalg.slogdet(m)[1]
    return -0.5 * (size * np.log(2 * np.pi) + log_det + square)


def maximum_likelihood(cov, latents):
    """Tipping and Bishop's W (D, J) and s^2 for a covariance (D, D), and the mean log-likelihood there."""
    values, vectors = np.linalg.eigh(cov)
    values, vectors = values[::-1], vectors[:, ::-1]
    s2 = values[latents:].mean()
    size = len(values)
    log_px = -0.5 * (size * np.log(2 * np.pi) + np.sum(np.log(values[:latents])) + (size - latents) * np.log(s2) + size)
    return vectors[:, :latents] * np.sqrt(values[:latents] - s2), s2, log_px


def posterior(x, w, b, s2):
    """Mean (N, J) and covariance (J, J) of p(z | x)."""
    m = w.T @ w + s2 * np.eye(w.shape[1])
    return np.linalg.solve(m, w.T @ (x - b).T).T, s2 * np.linalg.inv(m)


def angle(w, axes):
    """The largest principal angle between two subspaces spanned by columns, in degrees."""
    return float(np.degrees(subspace_angles(w, axes).max()))


def column_angle(w, axes):
    """The largest angle between a principal axis and the nearest column of ``w``, in degrees."""
    cosines = np.abs((w / np.linalg.norm(w, axis=0)).T @ axes)
    return float(np.degrees(np.arccos(np.clip(cosines.max(axis=0), 0, 1)).max()))


# %% [markdown]
# ## Training against PCA
#
# Data are centred by their mean, and the learned s starts at their standard deviation's size. The step size falls to
# zero, so that the noise of the last steps averages out.


# %%
def synthetic(rng):
    """5,000 points from a model of 3 latents in 10 dimensions, its columns orthogonal, its noise no trifle."""
    w = np.linalg.qr(rng.standard_normal((10, 3)))[0] * [2.0, 1.2, 0.7]
    return (rng.standard_normal((5000, 3)) @ w.T + 0.5 * rng.standard_normal((5000, 10))).astype(np.float32)


def halves(x, latents, rng):
    """What the data leave open, by PCA of two halves: the angle between them, and the nats that the other costs one."""
    one, other = (moments(part) for part in np.array_split(x[rng.permutation(len(x))], 2))
    (w, _, best), (w_other, s2, _) = (maximum_likelihood(cov, latents) for _, cov in (one, other))
    return {"angle": angle(w, w_other), "nats": best - log_likelihood(w_other, one[0], s2, *one)}


def optimizer_for(parameters, settings, steps):
    """Adam with a step size that falls linearly to (nearly) nothing."""
    return optim.Adam(parameters, optim.linear(settings.step_size, 1e-6, steps))


def linear_fits(run, name, x):
    """Both linear models trained on one set: the VAE's curves of gap and angle, and where both models end."""
    s, latents = run.settings, LATENTS.get(name, 4)
    x = x - x.mean(axis=0)
    wide = x.astype(np.float64)
    mean, cov = moments(wide)
    best = maximum_likelihood(cov, latents)[-1]
    exact = PCA(latents, svd_solver="covariance_eigh").fit(wide)
    axes = exact.components_.T
    epochs = -(-s.points // len(x))
    steps = epochs * -(-len(x) // s.batch)

    def start():
        vae = LinearVAE(x.shape[1], latents, Generator([run.seed, 2]))
        vae.log_s.assign(np.log(x.std(keepdims=True)[0]))
        return vae, lambda b, rng: -vae.elbo(b, rng).mean(), optimizer_for(vae.parameters(), s, steps)

    def evaluate(vae, epoch):
        return {"gap": best - mean_bound(vae, mean, cov), "angle": angle(vae.decoder.weight.data.T, axes)}

    def start_plain():
        plain = LinearAutoencoder(x.shape[1], latents, Generator([run.seed, 4]))
        return plain, lambda b, rng: plain.error(b).mean(), optimizer_for(plain.parameters(), s, steps)

    def evaluate_plain(plain, epoch):
        return {"angle": angle(plain.decoder.weight.data.T, axes)}

    options = {"epochs": epochs, "batch_size": s.batch}
    vae, history, _ = run.train(f"pca_{name}", start, x, evaluate=evaluate, rng=Generator([run.seed, 3]), **options)
    _, plain_history, _ = run.train(
        f"autoencoder_{name}", start_plain, x, evaluate=evaluate_plain, rng=Generator([run.seed, 5]), **options
    )
    w, b, s2, *_ = vae.arrays()
    curve = {key: history.column(key) for key in ("gap", "angle")}
    curve["points"] = history.column("examples").astype(float)
    return curve, {
        "latents": latents,
        "epochs": epochs,
        "s2": s2,
        "bound": mean_bound(vae, mean, cov),
        "log p(x)": log_likelihood(w, b, s2, mean, cov),
        "best": best,
        "scikit-learn": exact.score(wide),
        "halves": halves(wide, latents, Generator([run.seed, 8])),
        "angle": angle(w, axes),
        "axes": column_angle(w, axes),
        "autoencoder": plain_history.column("angle"),
    }


@experiment(
    "pca",
    title="a linear VAE finds the principal subspace and meets the exact likelihood",
    mirrors="thesis section 2.10",
    budgets={
        "quick": {"data": "digits", "split": "1500/297", "also": [], "points": 300_000, **COMMON},
        "laptop": {"data": "mnist", "split": "60000/10000", "also": ["frey"], "points": 600_000, **COMMON},
        "paper": {"data": "mnist", "split": "60000/10000", "also": ["frey"], "points": 10_000_000, **COMMON},
    },
    minutes={"quick": 0.2, "laptop": 0.36, "paper": 12},
)
def pca(run):
    """Train both linear models on each set, beside scikit-learn's PCA and the closed form."""
    s = run.settings
    sets = {"synthetic": synthetic(Generator([run.seed, 1])), s.data: run.images().train}
    sets |= {name: data.load(name).train for name in s.also if name != s.data}
    fits = {name: linear_fits(run, name, x) for name, x in sets.items()}
    return {
        "curves": {name: fit[0] for name, fit in fits.items()},
        "ends": {name: fit[1] for name, fit in fits.items()},
    }


@pca.table
def _(n, table):
    for name, end in n.ends.items():
        label, best, bound = f"{name}, {end['latents']} latents", end["best"], end["bound"]
        table.row(f"{label}: bound", bound, note=f"after {end['epochs']} epochs, s = {np.sqrt(end['s2']):.3f}")
        table.row(f"{label}: log p(x), same weights", end["log p(x)"], note="what the bound bounds, exactly")
        note = f"scikit-learn: {end['scikit-learn']:.3f}"
        table.row(f"{label}: log p(x), probabilistic PCA", best, note=note)
        table.row(f"{label}: subspace to PCA's", end["angle"], unit="degrees", note="largest principal angle")
        table.row(f"{label}: axes to PCA's", end["axes"], unit="degrees", note="each with its nearest column")
        plain = end["autoencoder"][-1]
        table.row(f"{label}: autoencoder's subspace", plain, unit="degrees")
        # "Is", "retrieves": within what the data determine
        half, open_angle = "as PCA of one half of the data is from the other's", end["halves"]["angle"]
        table.row(f"{label}: PCA of one half to the other's", open_angle, unit="degrees")
        says = table.says(
            "thesis 2.10",
            "In [Roweis, 1998] it was shown that PCA corresponds to the maximum-likelihood (ML) solution of a special "
            "case of the linear-Gaussian model",
            seeds=1,
        )
        says(end["angle"], "<=", open_angle, 0.0, f"{name}, degrees: the linear VAE's subspace is as near PCA's {half}")
        nats = end["halves"]["nats"]
        says(best - bound, "<=", nats, 0.0, f"{name}, nats: the bound is as near the highest log p(x) {half}")
        says = table.says(
            "thesis 2.10",
            "Much earlier work [Bourlard and Kamp, 1988] showed that optimization of linear autoencoders retrieves the "
            "principal components of data",
            seeds=1,
        )
        says(
            plain, "<=", open_angle, 0.0, f"{name}, degrees: the linear autoencoder's subspace is as near PCA's {half}"
        )
        below = best - end["log p(x)"]
        table.check(best - bound, ">=", below, 1e-4, f"{name}: the bound is below its own weights' log-likelihood")


@pca.figure()
def _(n):
    fig = plots.figure(9.0, 4.4)
    gap_axes, angle_axes = fig.subplots(1, 2)
    for i, (name, curve) in enumerate(n.curves.items()):
        label, points = f"{name}, {n.ends[name]['latents']} latents", curve["points"] / 1e3
        look = plots.style(i, len(points))
        gap_axes.plot(points, curve["gap"], label=label, **look)
        angle_axes.plot(points, curve["angle"], label=f"{label}: VAE", **look)
        pale = look | {"markerfacecolor": "none", "linewidth": 0.8}
        angle_axes.plot(points, n.ends[name]["autoencoder"], label=f"{label}: autoencoder", **pale)
    x = "training points evaluated, thousands"
    y = "highest log-likelihood minus bound, nats per datum"
    plots.panel(gap_axes, "The bound meets the exact PPCA likelihood", x, y, log="y")
    y = "largest principal angle to PCA's subspace, degrees"
    plots.panel(angle_axes, "Linear VAE and linear autoencoder find the subspace", x, y, log="y")
    for axes in (gap_axes, angle_axes):
        axes.grid(True, which="minor", linewidth=0.3)
        axes.legend(fontsize=7)
    return fig


# %% [markdown]
# ## The limit of no noise
#
# W is that of PCA with orthogonal columns, s^2 is set. Lines are the exact posterior; marks are encoders, trained by
# the bound with that decoder held still.


# %%
@experiment(
    "pca_limit",
    title="as the noise goes to zero the posterior becomes a delta function at the pseudo-inverse",
    mirrors="thesis section 2.10",
    budgets={
        "quick": {"data": "digits", "split": "1500/297", **COMMON},
        "laptop": {"data": "mnist", "split": "60000/10000", **COMMON, "limit_steps": 4000},
        "paper": {"data": "mnist", "split": "60000/10000", **COMMON, "limit_steps": 20_000},
    },
    minutes={"quick": 0.3, "laptop": 0.1, "paper": 2},
)
def pca_limit(run):
    """Posterior mean against the pseudo-inverse, and posterior standard deviations, over s^2."""
    s = run.settings
    x = run.images().train[:10_000]
    x = x - x.mean(axis=0)
    wide = x.astype(np.float64)
    latents = LATENTS.get(s.data, 4)
    w, s2_best, _ = maximum_likelihood(moments(wide)[1], latents)
    pseudo = wide @ np.linalg.pinv(w).T
    scale = np.sqrt(np.mean(pseudo**2))

    def distance(mu):
        return float(np.sqrt(np.mean((mu - pseudo) ** 2)) / scale)

    s2s, trained_s2 = np.logspace(-6, 2, 33), np.logspace(-5, 1, 4)
    exact = [posterior(wide, w, 0.0, s2) for s2 in s2s]
    encoders = {"s2": trained_s2, "distance": [], "deviation": [], "mean error": [], "variance error": []}
    for s2 in trained_s2:
        *_, a_matrix, a, sigma = limit_encoder(run, x, w, s2).arrays()
        mu, cov = posterior(wide, w, 0.0, s2)
        encoders["distance"].append(distance(wide @ a_matrix.T + a))
        encoders["deviation"].append(sigma)
        encoders["mean error"].append(np.sqrt(np.mean((wide @ a_matrix.T + a - mu) ** 2) / np.mean(mu**2)))
        encoders["variance error"].append(np.max(np.abs(sigma**2 / np.diag(cov) - 1)))
    return {
        "s2": s2s,
        "distance": [distance(mu) for mu, _ in exact],
        "deviation": [np.sqrt(np.diag(cov)) for _, cov in exact],
        "encoders": encoders,
        "learned s2": s2_best,
    }


def limit_encoder(run, x, w, s2):
    """A linear VAE whose decoder is held at W and s^2, its encoder trained."""
    s, (pixels, latents) = run.settings, w.shape
    epochs = -(-s.limit_steps * s.batch // len(x))

    def start():
        vae = LinearVAE(pixels, latents, Generator([run.seed, 6]))
        vae.decoder.weight.assign(w.T)
        vae.log_s.assign([0.5 * np.log(s2)])
        vae.log_sigma.assign(np.full(latents, 0.5 * np.log(s2)))  # from 1, Adam would long remember huge gradients
        moving = [*vae.encoder.parameters(), vae.log_sigma]
        optimizer = optimizer_for(moving, s, epochs * -(-len(x) // s.batch))
        return vae, lambda b, rng: -vae.elbo(b, rng).mean(), optimizer

    rng = Generator([run.seed, 7])
    return run.train(f"limit_{s.data}_{s2:.0e}", start, x, epochs=epochs, batch_size=s.batch, rng=rng)[0]


@pca_limit.table
def _(n, table):
    mean, width = n.distance[0], n.deviation[0].max()
    errors = [n.encoders[f"{what} error"].max() for what in ("mean", "variance")]
    note = f"exact, s^2 = {n.s2[0]:.0e}"
    table.row("mean: distance to the pseudo-inverse's", mean * 1e6, unit="millionths", note=f"{note}, relative")
    table.row("largest standard deviation", width * 1e3, unit="thousandths", note=note)
    table.row("encoders' means against the posterior's", 100 * errors[0], unit="%", note="worst s^2")
    table.row("encoders' variances against the posterior's", 100 * errors[1], unit="%", note="worst s^2")
    table.check(mean, "<=", 1e-4, 0.0, "the posterior mean is the pseudo-inverse as s -> 0, relative distance")
    table.check(width, "<=", 1e-2, 0.0, "the posterior has no width as s -> 0")


@pca_limit.figure()
def _(n):
    fig = plots.figure(9.0, 4.2)
    left, right = fig.subplots(1, 2)
    s2, encoders = n.encoders["s2"], n.encoders
    left.plot(n.s2, n.distance, color="#000000", label="posterior mean, exact")
    left.plot(s2, encoders["distance"], "o", color="#b45f06", fillstyle="none", label="trained encoder")
    for j, exact in enumerate(n.deviation.T):
        style = plots.style(j) | {"marker": ""}
        right.plot(n.s2, exact, label=f"latent {j + 1}, exact", **style)
        label = "trained encoder" if j == 0 else None
        right.plot(s2, encoders["deviation"][:, j], "o", color=style["color"], fillstyle="none", label=label)
    x = "$s^2$ (grey line: the learned one)"
    title = "Posterior mean against $(W^TW)^{-1}W^T x$"
    plots.panel(left, title, x, "distance to the pseudo-inverse, relative", log="xy")
    plots.panel(right, "The posterior becomes a delta function", x, "posterior standard deviation", log="xy")
    for axes in (left, right):
        axes.axvline(vars(n)["learned s2"], color="#999999", linewidth=0.8)
        axes.legend(fontsize=7, loc="lower right")
    return fig


# %% [markdown]
# ## What to try next
#
# - Start from a decoder turned by 45 degrees: how long does the bound take to turn it back?
# - Choose a number of latents between two nearly equal eigenvalues, and watch the angle.
