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
from minivi.experiments import Claim, Result, Row, experiment
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


def angle(found, axes):
    """The largest principal angle between two subspaces spanned by columns, in degrees."""
    return float(np.degrees(subspace_angles(found, axes).max()))


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


def optimizer_for(parameters, settings, steps):
    """Adam with a step size that falls linearly to (nearly) nothing."""
    return optim.Adam(parameters, optim.linear(settings.step_size, 1e-6, steps))


@experiment(
    "pca",
    title="a linear VAE finds the principal subspace and meets the exact likelihood",
    mirrors="thesis section 2.10",
    budgets={
        "quick": {"data": "digits", "split": "1500/297", "also": [], "points": 300_000, **COMMON},
        "laptop": {"data": "mnist", "split": "60000/10000", "also": ["frey"], "points": 600_000, **COMMON},
        "paper": {"data": "mnist", "split": "60000/10000", "also": ["frey"], "points": 10_000_000, **COMMON},
    },
    minutes={"quick": 0.2, "laptop": 1, "paper": 12},
)
def pca(run):
    """Train both linear models on each set; compare with scikit-learn's PCA and the closed form."""
    s = run.settings
    sets = {"synthetic": synthetic(Generator([run.seed, 1])), s.data: run.images().train}
    sets |= {name: data.load(name).train for name in s.also if name != s.data}
    fig = plots.figure(9.0, 4.4)
    gap_axes, angle_axes = fig.add_subplot(1, 2, 1), fig.add_subplot(1, 2, 2)
    rows, claims, numbers = [], [], {}
    for i, (name, x) in enumerate(sets.items()):
        latents = LATENTS.get(name, 4)
        x = x - x.mean(axis=0)
        wide = x.astype(np.float64)
        mean, cov = moments(wide)
        best = maximum_likelihood(cov, latents)[-1]
        exact = PCA(latents, svd_solver="covariance_eigh").fit(wide)
        axes = exact.components_.T
        epochs = -(-s.points // len(x))
        steps = epochs * -(-len(x) // s.batch)
        vae = LinearVAE(x.shape[1], latents, Generator([run.seed, 2]))
        vae.log_s.assign(np.log(x.std(keepdims=True)[0]))

        def measure(epoch, vae=vae, mean=mean, cov=cov, axes=axes, best=best):
            return {"gap": best - mean_bound(vae, mean, cov), "angle": angle(vae.decoder.weight.data.T, axes)}

        history = run.fit(
            f"pca_{name}", vae, lambda b, rng, vae=vae: -vae.elbo(b, rng).mean(),
            optimizer_for(vae.parameters(), s, steps), x, epochs=epochs, batch_size=s.batch,
            rng=Generator([run.seed, 3]), evaluate=measure,
        )  # fmt: skip
        plain = LinearAutoencoder(x.shape[1], latents, Generator([run.seed, 4]))

        def plain_angle(epoch, plain=plain, axes=axes):
            return {"angle": angle(plain.decoder.weight.data.T, axes)}

        plain_history = run.fit(
            f"autoencoder_{name}", plain, lambda b, rng, plain=plain: plain.error(b).mean(),
            optimizer_for(plain.parameters(), s, steps), x, epochs=epochs, batch_size=s.batch,
            rng=Generator([run.seed, 5]), evaluate=plain_angle,
        )  # fmt: skip
        w, b, s2, *_ = vae.arrays()
        bound, own = mean_bound(vae, mean, cov), log_likelihood(w, b, s2, mean, cov)
        found, plain_found = angle(w, axes), plain_history.column("angle")[-1]
        label = f"{name}, {latents} latents"
        rows += [
            Row(f"{label}: bound", bound, note=f"after {epochs} epochs, s = {np.sqrt(s2):.3f}"),
            Row(f"{label}: log p(x), same weights", own, note="what the bound bounds, exactly"),
            Row(f"{label}: log p(x), probabilistic PCA", best, note=f"scikit-learn: {exact.score(wide):.3f}"),
            Row(f"{label}: subspace to PCA's", found, unit="degrees", note="largest principal angle"),
            Row(f"{label}: axes to PCA's", column_angle(w, axes), unit="degrees", note="each with its nearest column"),
            Row(f"{label}: autoencoder's subspace", plain_found, unit="degrees"),
        ]
        claims += [
            Claim(found, "<=", 3.0, 0.0, f"{name}: the linear VAE's subspace is PCA's, degrees"),
            Claim(plain_found, "<=", 3.0, 0.0, f"{name}: the linear autoencoder's subspace is PCA's, degrees"),
            Claim(best - bound, "<=", 0.2, 0.0, f"{name}: the bound meets the highest log-likelihood, nats"),
            Claim(best - bound, ">=", best - own, 1e-4, f"{name}: the bound is below its own weights' log-likelihood"),
        ]
        points = history.column("examples") / 1e3
        look = plots.style(i, len(points))
        gap_axes.plot(points, history.column("gap"), label=label, **look)
        angle_axes.plot(points, history.column("angle"), label=f"{label}: VAE", **look)
        pale = look | {"markerfacecolor": "none", "linewidth": 0.8}
        angle_axes.plot(points, plain_history.column("angle"), label=f"{label}: autoencoder", **pale)
        numbers[name] = {"points": points * 1e3, "gap": history.column("gap"), "angle": history.column("angle")}
    for axes in (gap_axes, angle_axes):
        axes.set_yscale("log")
        axes.set_xlabel("training points evaluated, thousands")
        axes.grid(True, which="both", linewidth=0.3)
        axes.legend(fontsize=7)
    gap_axes.set_ylabel("highest log-likelihood minus bound, nats per datum")
    gap_axes.set_title("The bound meets the exact PPCA likelihood", fontsize=10)
    angle_axes.set_ylabel("largest principal angle to PCA's subspace, degrees")
    angle_axes.set_title("Linear VAE and linear autoencoder find the subspace", fontsize=10)
    return Result(rows, {"": fig}, {"curves": numbers}, claims)


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
    minutes={"quick": 0.3, "laptop": 0.5, "paper": 2},
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

    s2s = np.logspace(-6, 2, 33)
    exact = [posterior(wide, w, 0.0, s2) for s2 in s2s]
    means = np.array([distance(mu) for mu, _ in exact])
    deviations = np.array([np.sqrt(np.diag(cov)) for _, cov in exact])
    trained_s2 = np.logspace(-5, 1, 4)
    trained = []
    epochs = -(-s.limit_steps * s.batch // len(x))
    for s2 in trained_s2:
        vae = LinearVAE(x.shape[1], latents, Generator([run.seed, 6]))
        vae.decoder.weight.assign(w.T)
        vae.log_s.assign([0.5 * np.log(s2)])
        vae.log_sigma.assign(np.full(latents, 0.5 * np.log(s2)))  # from 1, Adam would long remember huge gradients
        moving = [*vae.encoder.parameters(), vae.log_sigma]
        run.fit(
            f"limit_{s.data}_{s2:.0e}", vae, lambda b, rng, vae=vae: -vae.elbo(b, rng).mean(),
            optimizer_for(moving, s, epochs * -(-len(x) // s.batch)), x, epochs=epochs, batch_size=s.batch,
            rng=Generator([run.seed, 7]),
        )  # fmt: skip
        *_, a_matrix, a, sigma = vae.arrays()
        mu, cov = posterior(wide, w, 0.0, s2)
        error = np.sqrt(np.mean((wide @ a_matrix.T + a - mu) ** 2) / np.mean(mu**2))
        trained.append((distance(wide @ a_matrix.T + a), sigma, error, np.max(np.abs(sigma**2 / np.diag(cov) - 1))))
    fig = plots.figure(9.0, 4.2)
    left, right = fig.add_subplot(1, 2, 1), fig.add_subplot(1, 2, 2)
    left.plot(s2s, means, color="#000000", label="posterior mean, exact")
    left.plot(trained_s2, [t[0] for t in trained], "o", color="#b45f06", fillstyle="none", label="trained encoder")
    for j in range(latents):
        style = plots.style(j) | {"marker": ""}
        right.plot(s2s, deviations[:, j], label=f"latent {j + 1}, exact", **style)
        label = "trained encoder" if j == 0 else None
        right.plot(trained_s2, [t[1][j] for t in trained], "o", color=style["color"], fillstyle="none", label=label)
    for axes in (left, right):
        axes.axvline(s2_best, color="#999999", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("$s^2$ (grey line: the learned one)")
        axes.grid(True, linewidth=0.3)
        axes.legend(fontsize=7, loc="lower right")
    left.set_ylabel("distance to the pseudo-inverse, relative")
    left.set_title("Posterior mean against $(W^TW)^{-1}W^T x$", fontsize=10)
    right.set_ylabel("posterior standard deviation")
    right.set_title("The posterior becomes a delta function", fontsize=10)
    note = f"exact, s^2 = {s2s[0]:.0e}"
    rows = [
        Row("mean: distance to the pseudo-inverse's", means[0] * 1e6, unit="millionths", note=f"{note}, relative"),
        Row("largest standard deviation", deviations[0].max() * 1e3, unit="thousandths", note=note),
        Row("encoders' means against the posterior's", 100 * max(t[2] for t in trained), unit="%", note="worst s^2"),
        Row(
            "encoders' variances against the posterior's", 100 * max(t[3] for t in trained), unit="%", note="worst s^2"
        ),
    ]
    claims = [
        Claim(means[0], "<=", 1e-4, 0.0, "the posterior mean is the pseudo-inverse as s -> 0, relative distance"),
        Claim(deviations[0].max(), "<=", 1e-2, 0.0, "the posterior has no width as s -> 0"),
        Claim(
            max(t[2] for t in trained), "<=", 0.1, 0.0, "trained encoders' means are the exact posterior's, relative"
        ),
        Claim(max(t[3] for t in trained), "<=", 0.1, 0.0, "their variances are, relative"),
    ]
    numbers = {"s2": s2s, "distance": means, "deviation": deviations}
    return Result(rows, {"": fig}, numbers, claims)


# %% [markdown]
# ## What to try next
#
# - Start from a decoder turned by 45 degrees: how long does the bound take to turn it back?
# - Choose a number of latents between two nearly equal eigenvalues, and watch the angle.
