"""Chapter 2, challenges: models that spread too far (thesis section 2.9.2).

Why does a model that is too simple put mass where there are no data, rather than leave data out?
"""

# %% [markdown]
# ## Section 2.9.2: too simple a model spreads too far
#
# Data on a ring of radius 1 with noise of 0.1 across it, whose density is known. Maximising the likelihood, or the
# bound, minimises a divergence KL(data || model): leaving data out is costly, empty space is cheap. Three measures, all
# in units of the ring's radius: the total variance, the variance of the radius (0.01 in the data: how thick the ring
# is), and KL(data || model) in nats.
#
# The text says that the variances of p(x) and p(x, z), of a model that cannot fit, end larger than those of the data
# and of q_D(x, z) = q_D(x) q(z | x). For a Gaussian p(x) the total variance is equal (moments are matched, see the
# checks), and the spread shows across the ring and in the entropy, which is larger by just KL(data || model). In the
# other direction, KL(model || data), the variance is smaller. For VAEs all three are measured: the variances, and the
# entropies of data, p(x) and both joints. Those of the joints have a closed form but for an average,
#
#     H(p(x, z)) = H(p(z)) + E_p(z) H(p(x | z))        H(q_D(x, z)) = H(data) + E H(q(z | x))
#
# while that of p(x) takes log p(x) of samples by eq. 2.57 (from below, so that it is, if anything, too large).
#
# The VAEs need section 2.9.1's annealing, over the first half of training: the two axes of a ring are alike, so the
# plain bound keeps q(z | x) = p(z) and ends as a Gaussian.

# %%
import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm

from minivi import bounds, evaluation, optim, plots
from minivi.experiments import experiment
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import no_grad

CENTRE, RADIUS, WIDTH = 0.5, 0.3, 0.1  # the Gaussian decoder's means lie in (0, 1): the ring is put there
TOTAL = 1 + WIDTH**2  # variance of the data, in RADIUS^2

SIMPLE = {"count": 10_000, "batch": 100, "step_size": 5e-3, "hidden": 64}
VARIANCE = {
    "quick": {"epochs": 20, "seeds": 2, "test": 1000, "samples": 500, **SIMPLE},
    "laptop": {"epochs": 60, "seeds": 3, "test": 2000, "samples": 2000, **SIMPLE},
    "paper": {"epochs": 1000, "seeds": 10, "test": 10_000, "samples": 5000, **SIMPLE},
}
MODELS = {  # hidden sizes, latents, posterior
    "linear, 1 latent": (False, 1, "diagonal"),
    "MLP, 1 latent": (True, 1, "diagonal"),
    "MLP, 2 latents": (True, 2, "diagonal"),
    "MLP, 2 latents, full": (True, 2, "full"),
}
RADII = "radius^2"
MEASURES = {  # and their units
    "total variance": RADII, "variance of the radius": RADII, "KL": "nats", "entropy of p(x) less the data's": "nats",
    "total variance of p(x, z) less that of q_D(x, z)": "radius^2 + 1",
    "entropy of p(x, z) less that of q_D(x, z)": "nats",
}  # fmt: skip


def ring(count, rng):
    """Draws from the data's distribution, (count, 2)."""
    angle = 2 * np.pi * rng.random(count)
    radius = 1 + WIDTH * rng.standard_normal(count)
    return CENTRE + RADIUS * radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def radius_of(x):
    """The distance from the centre in units of the ring's radius."""
    return np.linalg.norm(x - CENTRE, axis=-1) / RADIUS


def ring_log_density(x):
    """log of the data's density in nats, (..., 2) -> (...); the radius is positive but for 1e-23 of the draws."""
    r = radius_of(x)
    return norm.logpdf(r, 1, WIDTH) - np.log(2 * np.pi * r * RADIUS**2)


def ring_entropy():
    """The data's entropy in nats, by quadrature over the radius."""
    r = np.linspace(1 - 9 * WIDTH, 1 + 9 * WIDTH, 4001)
    return -np.trapezoid(norm.pdf(r, 1, WIDTH) * ring_log_density(CENTRE + RADIUS * np.stack([r, 0 * r], -1)), r)


def spread(x):
    """Total variance and variance of the radius."""
    return np.sum(np.var(x, axis=0)) / RADIUS**2, np.var(radius_of(x))


def reverse_kl_gaussian(points=40):
    """The factorised Gaussian that minimises KL(model || data): its mean and standard deviations, at angle 0.

    The expectation is by Gauss-Hermite quadrature. By symmetry any angle is as good.
    """
    node, weight = np.polynomial.hermite_e.hermegauss(points)
    eps = np.stack(np.meshgrid(node, node), -1).reshape(-1, 2)
    weight = np.outer(weight, weight).ravel() / (2 * np.pi)

    def kl(theta):
        sigma = np.exp(theta[1:])
        x = CENTRE + RADIUS * (np.array([theta[0], 0.0]) + sigma * eps)
        log_model = -np.log(2 * np.pi) - theta[1:].sum() - 2 * np.log(RADIUS) - 0.5 * np.sum(eps**2, axis=1)
        return weight @ (log_model - ring_log_density(x))

    best = minimize(kl, np.log([np.e, 0.1, 0.3]), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).x
    return best[0], np.exp(best[1:])


def ring_model(run, name, seed):
    """A VAE trained on the ring."""
    s, (deep, latents, posterior) = run.settings, MODELS[name]
    train = ring(s.count, Generator([seed, 4])).astype("float32")
    warm = s.epochs * -(-s.count // s.batch) // 2

    def start():
        vae = VAE(2, (s.hidden,) if deep else (), latents, "gaussian", posterior=posterior, rng=Generator([seed, 5]))
        optimizer = optim.Adam(vae.parameters(), s.step_size)

        def loss(x, rng):
            reconstruction, q = vae.reconstruction_and_posterior(x, rng)
            return -(reconstruction - bounds.warm_up(optimizer.steps, warm) * q.kl()).mean()

        return vae, loss, optimizer

    label = f"ring_{name.replace(', ', '_').replace(' ', '_')}_seed{seed}"
    return run.train(label, start, train, epochs=s.epochs, batch_size=s.batch, rng=Generator([seed, 6]))[0]


def joints(vae, x, rng):
    """Total variance (x in radii) and entropy of p(x, z), less those of q_D(x, z); by as many draws as ``x`` (N, 2)."""
    z = rng.standard_normal((len(x), vae.latents), dtype=vae.dtype)
    with no_grad():
        p, q = vae.decode(z), vae.encode(x)
        pairs = ((np.asarray(p.sample(rng)), z), (x, np.asarray(q.sample(rng))))
        own = [float(np.mean(np.asarray(g.entropy(), np.float64))) for g in (p, q)]
    variance = [spread(a)[0] + np.var(b, axis=0).sum() for a, b in pairs]
    prior = 0.5 * vae.latents * np.log(2 * np.pi * np.e)
    return variance[0] - variance[1], prior + own[0] - (ring_entropy() + own[1])


@experiment(
    "variance",
    title="too simple a model spreads further than the data",
    mirrors="thesis section 2.9.2",
    budgets=VARIANCE,
    minutes={"quick": 0.7, "laptop": 1.1, "paper": 100},
)
def variance(run):
    """Gaussians by either direction of the divergence, and VAEs of growing flexibility, on a ring."""
    s, test = run.settings, ring(run.settings.test, Generator([run.seed, 7]))
    mean, sigma = reverse_kl_gaussian()
    shown = {"data": ring(2000, Generator([run.seed, 8]))}
    rng = Generator([run.seed, 9])
    reverse = CENTRE + RADIUS * (np.array([mean, 0.0]) + sigma * rng.standard_normal((100_000, 2)))
    shown["Gaussian, KL(data || model)"] = CENTRE + RADIUS * np.sqrt(TOTAL / 2) * rng.standard_normal((2000, 2))
    shown["Gaussian, KL(model || data)"] = reverse[:2000]
    models = {}
    for name in MODELS:
        values = []
        for seed in range(run.seed, run.seed + s.seeds):
            vae = ring_model(run, name, seed)
            drawn = vae.sample(100_000, Generator([seed, 10]))[1]
            likelihood, own = (
                evaluation.log_likelihood(vae, x.astype("float32"), Generator(11), s.samples).values
                for x in (test, drawn[: s.test])
            )
            kl = np.mean(ring_log_density(test) - likelihood)  # at the same data: less noise than with entropy
            many = ring(100_000, Generator([seed, 12])).astype("float32")
            variance, entropy = joints(vae, many, Generator([seed, 13]))
            values.append((*spread(drawn), kl, -np.mean(own) - ring_entropy(), variance, entropy))
        shown[f"VAE: {name}"] = drawn[:2000]
        models[name] = {"mean": np.mean(values, axis=0), "error": np.std(values, axis=0, ddof=1) / np.sqrt(s.seeds)}
    return {
        "found": models,
        "entropy": ring_entropy(),
        "reverse": {"sigma": sigma, "variance of the radius": spread(reverse)[1]},
        "shown": {name: x.astype(np.float32) for name, x in shown.items()},
    }


@variance.table
def _(n, table):
    half = TOTAL / 2  # of a coordinate; a Gaussian's radius then has the variance half (2 - pi / 2)
    in_all = n.reverse["sigma"] @ n.reverse["sigma"]
    forward_kl = np.log(2 * np.pi * np.e * half * RADIUS**2) - n.entropy
    for what, value, unit, note in (
        ("data, total variance", TOTAL, RADII, "exact"),
        ("data, variance of the radius", WIDTH**2, RADII, "exact"),
        ("Gaussian, KL(data || model): total variance", TOTAL, RADII, "exact: moments are matched"),
        ("-, variance of the radius", half * (2 - np.pi / 2), RADII, "exact"),
        ("-, KL(data || model)", forward_kl, "nats", "exact; so much larger is its entropy"),
        ("Gaussian, KL(model || data): total variance", in_all, RADII, "quadrature"),
        ("-, variance of the radius", n.reverse["variance of the radius"], RADII, "100,000 draws"),
    ):
        table.row(what, value, unit=unit, note=note)
    table.says("thesis 2.9.2", "This is due to the direction of the KL divergence")(
        in_all,
        "<=",
        TOTAL,
        0.0,
        "Gaussian by KL(model || data), the other direction: total variance against the data's",
    )
    sentence = (
        "If a perfect fit ... is not possible, then the variance of p(x, z) and p(x) will end up larger than the "
        "variance q(x, z) and the data q(x)."
    )
    larger = table.says("thesis 2.9.2", sentence, seeds=n.settings.seeds)
    for name, model in n.found.items():
        for what, value, error in zip(MEASURES, model["mean"], model["error"], strict=True):
            note = f"{n.settings.seeds} seeds, standard error {error:.4f}"
            table.row(f"VAE, {name}: {what}", value, unit=MEASURES[what], note=note)
        (in_all, _, _, _, joint, _), errors = model["mean"], model["error"]
        larger(in_all, ">=", TOTAL, 0.0, f"{name}: total variance of p(x) against the data's", standard_error=errors[0])
        larger(joint, ">=", 0.0, 0.0, f"{name}: that of p(x, z) less that of q_D(x, z)", standard_error=errors[4])
    countered = table.says(
        "thesis 2.9.2",
        "Issues with 'blurriness' can thus be countered by choosing a sufficiently flexible inference model, and/or a "
        "sufficiently flexible generative model.",
        seeds=n.settings.seeds,
    )
    for coarse, fine in (("linear, 1 latent", "MLP, 2 latents"), ("MLP, 2 latents", "MLP, 2 latents, full")):
        for k in (1, 2):
            (left, right), errors = ([n.found[m][key][k] for m in (fine, coarse)] for key in ("mean", "error"))
            label = f"{list(MEASURES)[k]}: {fine} against {coarse}"
            countered(left, "<=", right, 0.0, label, standard_error=np.hypot(*errors))


@variance.figure()
def _(n):
    """Draws from the data and the models, with both variances."""
    fig = plots.figure(10.5, 5.6)
    columns = -(-len(n.shown) // 2)
    for i, (name, x) in enumerate(n.shown.items()):
        x = x.astype(float)
        axes = fig.add_subplot(2, columns, i + 1)
        axes.plot(*((x - CENTRE) / RADIUS).T, ".", color="black", markersize=1)
        axes.set_xlim(-2.2, 2.2)
        axes.set_ylim(-2.2, 2.2)
        axes.set_aspect("equal")
        axes.tick_params(labelsize=7)
        in_all, across = spread(x)
        axes.set_title(f"{name}\nvariance {in_all:.2f}, of the radius {across:.3f}", fontsize=8)
    fig.supxlabel("$x_1$, in radii", fontsize=9)
    fig.supylabel("$x_2$, in radii", fontsize=9)
    fig.suptitle("2,000 draws each: data on a ring, and models of growing flexibility", fontsize=10)
    return fig


# %% [markdown]
# ## What to try next
#
# - A wider ring (`WIDTH = 0.4`): which of the models are still too simple?
