"""The marginal likelihood: how to compute it, and who raises it fastest (thesis sections 2.7, 2.8, 2.11.2, 2.B).

AEVB maximises a bound of log p(x). When does importance sampling close the gap? Are Markov chains a better encoder?
"""

# %% [markdown]
# ## 1. Likelihood and bound as divergences (section 2.8, Figure 2.4)
#
# Let q_D(x) be the data's own distribution, H its entropy in nats, which no model changes (eq. 2.61 to 2.65):
# $$KL(q_D(x) || p(x)) = -\log p(D) - H \qquad KL(q_D(x) q(z | x) || p(x, z)) = -L(D) - H$$
#
# log p(D) is a mean over the data in eq. 2.58, while it was a sum in eq. 1.10. Here are 200 images of four pixels and a
# model with one latent: divergences are sums over 16 patterns and a grid of z, while the bound is maximised.

# %%
import time

import numpy as np
from scipy.stats import norm

import minivi as mv
from minivi import bounds, data, estimators, evaluation, plots, small
from minivi.lesson import show, stored
from minivi.models import VAE
from minivi.optim import Adam

# %%
rng = mv.Generator(0)
chances = rng.exponential(size=16) ** 2
images = small.PATTERNS[rng.choice(16, 200, p=chances / chances.sum())]
q_d = np.mean(np.all(images[:, None] == small.PATTERNS, axis=2), axis=0)  # (16,)
tiny, (z, dz) = small.small_vae(1), small.grid(12.0, 1201)


def log_densities(vae):
    """log p(x, z) and log q(z | x) of every pattern on the grid, (16, grid)."""
    q, log_px_z = vae.encode(small.PATTERNS), np.asarray(vae.decode(z[:, None, None]).log_prob(small.PATTERNS)).T
    return log_px_z + norm.logpdf(z), norm.logpdf(z, q.mu.data, np.exp(q.log_sigma.data))


def divergences(vae):
    """Of x, of x and z, and the mean over data of KL(q(z | x) || p(z | x)): three sums of their own."""
    log_joint, log_q = log_densities(vae)
    log_px, log_q_d, q = np.log(np.exp(log_joint).sum(axis=1) * dz), np.log(q_d + 1e-300), np.exp(log_q) * dz
    both = (q * (log_q_d[:, None] + log_q - log_joint)).sum(axis=1)
    return q_d @ (log_q_d - log_px), q_d @ both, q_d @ (q * (log_q - log_joint + log_px[:, None])).sum(axis=1)


optimizer, curves = Adam(tiny.parameters(), 0.02), []
for step in range(401):
    if step % 10 == 0:
        curves.append(divergences(tiny))
    optimizer.step(mv.grad(-tiny.elbo(images, rng).mean(), optimizer.parameters))
curves, fig = np.array(curves), plots.figure(6.5, 3.2)
axes = plots.panel(fig.add_subplot(), "Training on the bound, four pixels", "step", "divergence, nats")
for i, name in enumerate(("KL(q_D(x) || p(x))", "KL(q_D(x) q(z | x) || p(x, z))", "E KL(q(z | x) || p(z | x))")):
    axes.plot(np.arange(0, 401, 10), curves[:, i], label=name, **plots.style(i, 41))
axes.legend(fontsize=8)
show(fig, "divergences")
marginal, joint, posterior = curves.T
print(f"joint - marginal - posterior: at most {np.abs(joint - marginal - posterior).max():.0e} (eq. 2.67)")
print(f"joint - marginal: from {(joint - marginal).min():.4f} to {(joint - marginal).max():.4f}")

# %% [markdown]
# The joint divergence is the other two's sum, so it lies *above* the marginal one: eq. 2.68 is printed with the sign
# turned round. What the bound gives away is the third, and it does not only shrink: the model grows away from what
# one Gaussian can follow.
#
# ## 2. Importance sampling against the integral (eq. 2.56, 2.57)
#
# With two latents a grid gives log p(x) (`ch01_models`, section 3), so the estimate by L draws from q can be judged:
#
# $$\log p(x) \approx \log \frac1L \sum_l w_l \qquad w_l = \frac{p(x, z_l)}{q(z_l | x)}$$
#
# It is below on average, by about Var(w / p(x)) / (2 L). That presumes a variance. A q that is too narrow has none:
# in its tails the weights grow without bound. The same encoder, its sigma multiplied by 0.5, 1 and 2:

# %%
digits = data.load("digits")
test = data.fresh(digits.test, rng)


def train(vae, loss, epochs):
    """Adam on loss(x), Algorithm 1's loop; yields after each epoch."""
    optimizer = Adam(vae.parameters(), step_size=2e-3)
    for _ in range(epochs):
        for x in data.batches(TRAIN, size=100, rng=rng):
            optimizer.step(mv.grad(loss(x), optimizer.parameters))
        yield


TRAIN = data.fresh(digits.train, rng)  # pixels drawn once: section 3 keeps a chain for each image
flat = VAE(pixels=64, hidden=(100,), latents=2, rng=rng)
list(train(flat, lambda x: -flat.elbo(x, rng).mean(), 25))
exact = evaluation.log_likelihood_by_quadrature(flat, test[:60], 120, 7.0)
with mv.no_grad():
    q = flat.encode(test[:60])
COUNTS = np.array([1, 2, 4, 8, 16, 32, 64])
fig = plots.figure(6.5, 3.4)
axes = plots.panel(fig.add_subplot(), "60 test images", "L, samples", "integral - mean estimate, nats", log="xy")
print(f"log p(x) by the integral {exact.mean:.3f}, ELBO {evaluation.elbo(flat, test[:60], rng, 300).mean:.3f}")
for i, width in enumerate((1, 2, 0.5)):
    eps = rng.standard_normal((1024, 60, 2), dtype="float32")
    z_l = q.mu.data + width * np.exp(q.log_sigma.data) * eps
    log_qz = norm.logpdf(eps).sum(axis=-1) - 2 * np.log(width) - q.log_sigma.data.sum(axis=-1)
    with mv.no_grad():
        log_w = np.asarray(flat.decode(z_l).log_prob(test[:60]), float) + norm.logpdf(z_l).sum(axis=-1) - log_qz
    estimates = [bounds.iwae(log_w.reshape(count, -1, 60)).mean(axis=1) for count in COUNTS]  # of each repeat
    gaps = [exact.mean - e.mean() for e in estimates]
    errors = [e.std() / len(e) ** 0.5 for e in estimates]
    variance = np.mean(np.var(np.exp(log_w - exact.values), axis=0))
    print(f"sigma x {width:3}: L = 1 misses {gaps[0]:.3f}, L = 64 {gaps[-1]:.4f} +- {errors[-1]:.4f}", end="; ")
    print(f"Var / 2L {variance / 128:.4f}")
    axes.errorbar(COUNTS, gaps, errors, capsize=3, label=f"sigma x {width}", **plots.style(i, 7))
axes.plot(COUNTS, gaps[0] / COUNTS, color="#777777", linewidth=0.8, label="falls as 1 / L")
axes.legend(fontsize=8)
show(fig, "importance")

# %% [markdown]
# Too wide costs draws, too narrow costs the law itself: that curve falls far more slowly than 1 / L, and its Var / 2L
# is a matter of luck, as the true variance is infinite. AEVB's own q tends to be narrow (`report_tighter_bounds`,
# section 4).
#
# ## 3. Monte Carlo EM (appendix 2.B)
#
# No encoder: each training image keeps a Markov chain in its posterior, by Hamiltonian Monte Carlo. z rolls over log
# p(z | x) with a random momentum. Its force is grad log p(z | x) = grad log p(z) + grad log p(x | z), as log p(x) does
# not depend on z. Ten leapfrog steps are a proposal, the step size aims at 90 % acceptance; then come 5 updates of the
# decoder at the z reached.


# %%
def hmc(vae, x, z, step):
    """One transition of each chain z (B, J) towards p(z | x): the new z, and the mean acceptance."""

    def slope(z):
        leaf = mv.Tensor(z)
        log_joint = vae.decode(leaf).log_prob(x) - 0.5 * mv.ops.sum(leaf * leaf, axis=-1)
        return log_joint.data, mv.grad(log_joint.sum(), leaf)

    step = z.dtype.type(step * rng.uniform(0.8, 1.2))  # steps of one size can come full circle in all chains at once
    momentum = rng.standard_normal(z.shape, dtype=z.dtype)
    value, force = slope(z)
    new, p = z, momentum
    energy = value - 0.5 * np.sum(p * p, axis=-1)
    for _ in range(10):
        p = p + 0.5 * step * force
        new = new + step * p
        value, force = slope(new)
        p = p + 0.5 * step * force
    chance = np.exp(np.minimum(0, value - 0.5 * np.sum(p * p, axis=-1) - energy))
    return np.where((rng.random(len(z)) < chance)[:, None], new, z), chance.mean()


x = np.repeat(small.PATTERNS[[0, 6]], 500, axis=0)
states, chains, step = [], rng.standard_normal((1000, 1)), 0.25
for _ in range(60):
    chains, accepted = hmc(tiny, x, chains, step)
    states.append(chains.reshape(2, 500))
log_joint = log_densities(tiny)[0][[0, 6]]
true = np.exp(log_joint - np.log(np.exp(log_joint).sum(axis=1, keepdims=True) * dz))
means = np.mean(states[30:], axis=0)  # one number a chain
for pattern, exact_mean, chain in zip(small.PATTERNS[[0, 6]].astype(int), true @ z * dz, means, strict=True):
    error = chain.std() / len(chain) ** 0.5
    print(
        f"pattern {pattern}: E[z | x] by the grid {exact_mean:+.4f}, by 500 chains {chain.mean():+.4f} +- {error:.4f}"
    )
print(f"accepted {accepted:.2f}")

# %% [markdown]
# ## 4. AEVB, wake-sleep, Monte Carlo EM (Figure 2.6)
#
# Three latents, so that log p(x) of all models is read off the same grid. Wake-sleep trains the encoder on dreams,
# images that the model draws itself (`report_review`). Points are images visited; a visit costs Monte Carlo EM 11
# gradients for the chains and 5 for the weights.


# %%
def monte_carlo_em(vae, epochs, step=0.5):
    """Appendix 2.B; yields after each epoch."""
    optimizer = Adam(vae.decoder.parameters(), step_size=2e-3)
    chains = rng.standard_normal((len(TRAIN), vae.latents), dtype="float32")
    for _ in range(epochs):
        for index in data.batches(np.arange(len(TRAIN)), size=100, rng=rng):
            chains[index], accepted = hmc(vae, TRAIN[index], chains[index], step)
            step *= np.exp(0.3 * (accepted - 0.9))
            for _ in range(5):
                loss = -vae.decode(chains[index]).log_prob(TRAIN[index]).mean()
                optimizer.step(mv.grad(loss, optimizer.parameters))
        yield


fig = plots.figure(8.5, 3.4)
panels = fig.subplots(1, 2, sharey=True)
for i, (name, epochs) in enumerate({"AEVB": 48, "wake-sleep": 48, "Monte Carlo EM": 12}.items()):
    vae = VAE(pixels=64, hidden=(100,), latents=3, rng=mv.Generator(3))
    losses = {"AEVB": lambda x, vae=vae: -vae.elbo(x, rng).mean(),
              "wake-sleep": lambda x, vae=vae: -estimators.wake_sleep(vae, x, rng).mean()}  # fmt: skip
    run = train(vae, losses[name], epochs) if name in losses else monte_carlo_em(vae, epochs)
    points, seconds, curve = [], [], []
    for epoch in range(1, epochs + 1):
        begun = time.process_time()
        next(run)
        seconds.append(time.process_time() - begun)
        if epoch in (1, 2, 6, 12, 24, 48):
            points.append(epoch * len(TRAIN))
            curve.append([evaluation.log_likelihood_by_quadrature(vae, part[:100], 18).mean for part in (TRAIN, test)])
    print(f"{name:14s} after {points[-1]:,} points: log p(x) training {curve[-1][0]:.2f}, test {curve[-1][1]:.2f}")
    at = np.cumsum(seconds)[np.array(points) // len(TRAIN) - 1]
    for axes, along in zip(panels, (points, at), strict=True):
        axes.plot(along, np.array(curve)[:, 1], label=name, **plots.style(i, 6))
plots.panel(panels[0], "By images visited", "training points evaluated", "log p(x) of test images, nats", log="x")
plots.panel(panels[1], "By time", "CPU seconds (yours will differ)", log="x")
panels[0].legend(fontsize=8)
show(fig, "figure_2_6")

# %% [markdown]
# ## 5. The long run
#
# By images visited Monte Carlo EM is ahead, its posteriors being exact; by time it is not. AEVB and wake-sleep are
# level on these digits, and on MNIST they are not. Look at "MCEM, N = 1000": with few points its exact posteriors win.
# With 50,000 each chain is moved four times in all, and AEVB is far ahead in the same seconds: that is "not on-line".

# %%
stored("ch02_marginal_likelihood.convergence")

# %% [markdown]
# Look also at "AEVB, importance sampling - grid": -5.6 nats with 1,000 samples, the danger of section 2 for an encoder
# that has overfitted 1,000 images. `ch02_marginal_likelihood.importance` has L up to 5,000.
#
# ## 6. Try
#
# - In section 1: `small.small_vae(1, hidden=20)`. Do both divergences fall further, or does the third one grow?
# - In section 1: train `tiny.decoder.parameters()` alone. Which of the three divergences may grow now?
# - In section 2: 0.25 and 4 among the widths. Which estimate says of itself (Var / 2L) that it is bad?
# - In section 3: `step = 1.0`. What is accepted, and are the means still right? And with `chance` put to 1?
# - In section 3: `rng.uniform(1, 1)`. What becomes of Monte Carlo EM's curve in section 4?
# - In section 4: `TRAIN = TRAIN[:200]` before the loop, and 7 times the epochs. Who wins on test images now?
