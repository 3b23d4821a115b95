"""Two ways to a gradient: the score function and reparameterisation (thesis section 2.10.1; AEVB report, section 2).

The encoder's gradient can be estimated without any derivative of the decoder, by trial and error. Why is that not
done? Because of its noise, which is measured here: where it comes from, how it grows with the number of latents, and
what a control variate saves. Then the question which of the two reparameterised estimators, A or B, is the quieter.
Behind +- stands a standard error over draws, or over minibatches where one is drawn.
"""

# %% [markdown]
# ## 1. One latent: a product against a slope
#
# The gradient of an expectation under q in q's own parameters, by eq. 2.72 and 2.73 and by eq. 2.29:
#
# $$\nabla_\phi E_{q_\phi(z)}[f(z)] = E_q[f(z) \nabla_\phi \log q_\phi(z)]
#   \qquad = E_\epsilon[\nabla_\phi f(\mu + \sigma \epsilon)]$$
#
# On the left only the value f(z) is needed, on the right its slope. Here z is from N(mu, 1) at mu = 0, and
# f(z) = c - (z - 2)^2 / 2: the gradient in mu is 2, whatever c is. But on the left c multiplies the noise of
# grad log q = z, and a bound has such a constant: some -20 nats on digits of 8 x 8, -100 on MNIST.

# %%
import numpy as np
from scipy.stats import multivariate_normal, norm

import minivi as mv
from minivi import data, evaluation, plots
from minivi.estimators import score_function, sticking_the_landing
from minivi.lesson import show, stored
from minivi.models import VAE
from minivi.optim import Adam

# %%
rng = mv.Generator(0)
z = rng.standard_normal(100_000)
fig = plots.figure(7.0, 3.0)
axes = plots.panel(fig.add_subplot(), "Gradients in mu, each of one draw", "gradient", "density")
bins = np.linspace(-60.0, 60.0, 121)
for i, (name, draws) in enumerate(
    {
        "score function, c = 0": -((z - 2) ** 2) / 2 * z,
        "score function, c = -20": (-20 - (z - 2) ** 2 / 2) * z,
        "reparameterised, any c": 2 - z,
    }.items()
):
    print(f"{name:24s} mean {draws.mean():.3f} +- {draws.std() / np.sqrt(len(draws)):.3f}, variance {draws.var():.4g}")
    density = np.histogram(draws, bins, density=True)[0]
    axes.plot((bins[1:] + bins[:-1]) / 2, density, label=name, **plots.style(i, 121))
axes.set_yscale("log")
axes.set_ylim(1e-5, 1)
axes.axvline(2, color="#777777", linewidth=0.8, label="the gradient, 2")
axes.legend(fontsize=8, loc="upper left")
show(fig, "draws")

# %% [markdown]
# ## 2. Many latents: one number for all of them
#
# The text speaks of a bottleneck: f is one number, its gradient in z has J. A constant can be subtracted without bias,
# as E[grad log q] = 0; so let it be the best guess that a second draw offers, f(z') ("leave-one-out"). What is left
# of f are the parts of the J - 1 other latents, which for mu_1 are noise. Here f is the bound's learning signal
# l(z) = log p(x, z) - log q(z | x), where q = N(0, 0.7^2 I) and the posterior is N(1, I), with log p(x) = -20.
#
# The reparameterised gradient has a part -grad log q(z) at fixed z of mean 0, too. Without it ("path only") the noise
# vanishes where q is the posterior; and all of the score function's goes there but for log p(x), which
# leave-one-out removes.

# %%
SIGMA, COUNTS = 0.7, (1, 3, 10, 30, 100)


def variances(latents, mean=1.0, sigma=SIGMA, draws=6000):
    """Variance of the gradient in mu_1 by each estimator from two draws; the posterior is N(mean, 1)."""
    eps = rng.standard_normal((2, draws, latents))
    z = sigma * eps
    signal = -20 + (norm.logpdf(z, mean, 1) - norm.logpdf(z, 0, sigma)).sum(axis=-1)
    score, slope, path = z[..., 0] / sigma**2, mean - z[..., 0], mean - z[..., 0] + z[..., 0] / sigma**2
    each = {"score function": signal * score, "with leave-one-out": (signal - signal[::-1]) * score,
            "reparameterised": slope, "path only": path}  # fmt: skip
    return {name: gradient.mean(axis=0).var() for name, gradient in each.items()}


table = [variances(j) for j in COUNTS]
fig = plots.figure(6.5, 3.2)
axes = plots.panel(fig.add_subplot(), "Two draws, gradient in mu of one latent", "J, latents", "variance", log="xy")
for i, name in enumerate(table[0]):
    values = [row[name] for row in table]
    slope = np.polyfit(np.log(COUNTS[2:]), np.log(values[2:]), 1)[0]
    print(f"{name:18s} variance {values[0]:7.3f} at J = 1, {values[-1]:9.3f} at J = 100, grows as J^{slope:.1f}")
    axes.plot(COUNTS, values, label=name, **plots.style(i, 5))
axes.legend(fontsize=8)
show(fig, "latents")
best = variances(10, mean=0.0, sigma=1.0)
print("at the posterior, J = 10:", ", ".join(f"{name} {value:.3g}" for name, value in best.items()))

# %% [markdown]
# ## 3. On digits
#
# A minibatch is kept and its noise drawn 40 times; the variance is summed over all weights of the encoder, with two
# samples an image. A variance's ratio to the reparameterised one is also how many times as many samples would make up
# for it. The text quotes two orders of magnitude, for a sophisticated score-function estimator of other models.

# %%
digits = data.load("digits")
test = data.fresh(digits.test, rng)
TIMES = {
    "score function": lambda vae, x: score_function(vae, x, rng, 2),
    "with leave-one-out": lambda vae, x: score_function(vae, x, rng, 2, baseline="leave-one-out"),
    "path only": lambda vae, x: sticking_the_landing(vae, x, rng, 2, groups=2),
    "reparameterised": lambda vae, x: vae.elbo(x, rng, 2, estimator="A"),
}


def noise(surrogate, vae, draws=40, minibatches=3):
    """Variance of the encoder's gradient, summed over its weights, for some minibatches of 20; a *surrogate* is a
    number whose gradient is the estimate."""
    found = []
    for x in np.split(test[: 20 * minibatches], minibatches):
        draw = lambda x=x: mv.grad(surrogate(vae, x).mean(), vae.encoder.parameters())
        found.append(sum(v.sum() for v in evaluation.gradient_moments(draw, draws).variance))
    return np.array(found)


def train(vae, epochs=30):
    """Algorithm 1."""
    optimizer = Adam(vae.parameters(), step_size=2e-3)
    for x in (x for _ in range(epochs) for x in data.batches(digits.train, size=100, rng=rng)):
        optimizer.step(mv.grad(-vae.elbo(data.fresh(x, rng), rng).mean(), optimizer.parameters))


vaes = {latents: VAE(pixels=64, hidden=(100,), latents=latents, rng=rng) for latents in (2, 20)}
print(f"{'times the reparameterised variance':44s}" + "".join(f"{name:>22s}" for name in list(TIMES)[:3]))
for stage in ("at initialisation", "after 30 epochs"):
    for latents, vae in vaes.items():
        if stage != "at initialisation":
            train(vae)
        *others, own = (np.log(noise(surrogate, vae)) for surrogate in TIMES.values())
        print(f"{latents:2d} latents, {stage}, bound {evaluation.elbo(vae, test, rng).mean:7.2f}", end="    ")
        for other in others:
            ratio, error = np.exp(np.mean(other - own)), np.std(other - own, ddof=1) / np.sqrt(3)
            print(f"{ratio:13.2f} +- {ratio * error:5.2f}", end="")
        print()

# %% [markdown]
# The bare score function is hundreds of times as noisy, as the constant alone explains. With leave-one-out the text's
# claim is not borne out: with two latents and a good q the score function is even quieter than the reparameterised
# gradient, whose part of mean 0 stays. The noise of many latents is against it, and "path only" is quieter than all.
#
# ## 4. Estimator A or B? (AEVB report, eq. 1 to 9)
#
# Lesson `ch02_aevb` has both for a VAE. The report's eq. 4 and 6 are about a parameter theta, here of the smallest
# model there is: theta from N(0, 1), five data from N(theta, 1). Everything is known, so the estimators can be judged:
#
# $$L^1 = \log p(\theta, D) - \log q(\theta) \qquad L^2 = \log p(D | \theta) - KL(q || p(\theta))
#   \qquad \theta = m + s \epsilon$$
#
# Eq. 4 is printed without the log before q. "It seems probable" to the report that L^2 has the lower variance.

# %%
D = np.array([0.3, -1.0, 0.8, 1.9, 0.4])
log_pd = multivariate_normal.logpdf(D, np.zeros(5), np.eye(5) + 1.0)
best_m, best_s = D.sum() / 6, 6**-0.5  # of the posterior
eps = rng.standard_normal(50_000)


def both(m, s):
    """Draws of the report's two estimators, of the first as it is printed, and the bound itself."""
    theta = m + s * eps
    log_likelihood, q = norm.logpdf(D[:, None], theta).sum(axis=0), norm.pdf(theta, m, s)
    kl = 0.5 * (m**2 + s**2 - 1) - np.log(s)
    gap = 0.5 * ((s / best_s) ** 2 - 1 + ((m - best_m) / best_s) ** 2) - np.log(s / best_s)  # KL(q || posterior)
    log_joint = log_likelihood + norm.logpdf(theta)
    return {"L1": log_joint - np.log(q), "L2": log_likelihood - kl, "L1 as printed": log_joint - q}, log_pd - gap


for name, draws in both(0.1, 0.6)[0].items():
    print(f"{name:14s} {draws.mean():.4f} +- {draws.std() / np.sqrt(len(eps)):.4f}; bound {both(0.1, 0.6)[1]:.4f}")
widths = np.geomspace(0.1, 2, 25)
curves = np.array([[draws.var() for draws in list(both(best_m, s)[0].values())[:2]] for s in widths]).T
fig = plots.figure(6.0, 3.0)
axes = plots.panel(fig.add_subplot(), "q at the posterior's mean", "s, width of q", "variance, nats²", log="xy")
for i, curve in enumerate(curves):
    axes.plot(widths, curve, label=f"L{i + 1}", **plots.style(i, 25))
axes.axvline(best_s, color="#777777", linewidth=0.8, label="the posterior's width")
axes.legend(fontsize=8)
show(fig, "estimators")
print(
    f"L1 is quieter for s from {widths[curves[0] < curves[1]].min():.2f} to {widths[curves[0] < curves[1]].max():.2f}"
)

# %% [markdown]
# At the posterior L^1 is log p(D) for every draw, and L^2 is not: the better q gets, the more the sampled divergence
# cancels the noise of log p(D | theta). On digits likewise, for the values and for the gradients:

# %%
for latents, vae in vaes.items():
    with mv.no_grad():
        terms = vae.terms(test, rng, 50)
    values = [np.asarray(v, float).var(axis=0).mean() for v in (terms.log_w, terms.log_px_z)]
    slopes = [noise(lambda vae, x, e=e: vae.elbo(x, rng, 2, estimator=e), vae).mean() for e in "AB"]
    print(f"{latents:2d} latents: variance of the value, A {values[0]:.2f}, B {values[1]:.2f} nats²;", end=" ")
    print(f"of the gradient, A / B {slopes[0] / slopes[1]:.2f}")

# %% [markdown]
# So the report's guess fails for values, and holds for gradients. The report has two more slips: its introduction
# draws x from p(z | z), and the decoder's output weights are D_h x D, not D_h x D_z (eq. 10 to 12).
#
# ## 5. The long runs
#
# On MNIST, as `minivi run ch02_gradients --budget laptop` has left it. Look at the rows "with control variate": the
# ratios grow with the latents, from 1.2 to 65, and none reaches the hundred that the text quotes of other models,
# except 222 beside "path only", with 50 latents at the start.

# %%
stored("ch02_gradients.score_function")

# %% [markdown]
# The values and gradients of A and B at length are `ch02_gradients.estimators`; `minivi check ch02_gradients` checks
# the equations. Discrete latents have no slope, so there only the score function is left: lesson `report_review`.
#
# ## 6. Try
#
# - In section 1: which c makes the score function quietest? Print some between -5 and 5. Is E[f] 0 there?
# - In section 2: `sigma=1.0` with `mean=1.0`. Why has "path only" no noise at all, though q is not the posterior?
# - In section 2: more draws for leave-one-out, `(10, draws, latents)` and the mean of the nine others in the place of
#   `signal[::-1]`. Does the exponent change, or only the factor?
# - In section 3: `train(vae, epochs=300)`. To which of the rows does it matter that q comes nearer to the posterior?
# - In section 4: `both(best_m + 1, s)`. How far off must m be until L^2 is the quieter at every width?
