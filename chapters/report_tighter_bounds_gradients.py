"""Signal and noise of gradients, exactly (tighter-bounds report, sections 3.3 to 3.7).

The lesson `report_tighter_bounds` measured that with more samples K the encoder's gradient drowns in its noise. Why
does it, and how fast exactly? In a model with one latent everything can be computed for every K, so that the report's
eq. 9 and 10 can be held against the truth, the ways out against each other, and a learned beta against what it was
meant for. Some seconds.
"""

# %% [markdown]
# ## 1. The gradient is a weighted average
#
# The model has one datum x = 1.1, with z from N(0.3, 1), x from N(z, 1), and q(z | x) = N(m, 2/3). Then p(x), written
# Z, is N(x; 0.3, 2), and the best q has its mean at (x + 0.3) / 2 = 0.7. Ours has m = 0.94, so the encoder has
# something to learn. By eq. 7 the gradient of the bound of K samples is
#
# $$\Delta_K = \nabla \log \frac{1}{K} \sum_k w_k = \sum_k \tilde w_k \nabla \log w_k \qquad
#   \tilde w_k = \frac{w_k}{\sum_j w_j} \qquad w_k = \frac{p(x | z_k) p(z_k)}{q(z_k | x)}$$
#
# with two parameters, m for the encoder (phi) and mu, the prior's mean, for the decoder (theta). 2,000 draws of each:

# %%
import numpy as np
from scipy.special import gamma
from scipy.stats import norm

import minivi as mv
from minivi import bounds, data, evaluation, ops, optim, plots
from minivi.lesson import show, stored
from minivi.models import VAE

# %%
X, MU, M, SIGMA = 1.1, 0.3, 0.94, np.sqrt(2 / 3)
rng = mv.Generator(0)


def weights(eps, m=M, mu=MU):
    """w, and d log w by m, by mu, and by z alone at fixed q, for noise of any shape; by calculus."""
    z = m + SIGMA * eps
    w = norm.pdf(z, mu) * norm.pdf(X, z) / (norm.pdf(eps) / SIGMA)
    by_z = mu + X - 2 * z + eps / SIGMA
    return w, mu + X - 2 * z, z - mu, by_z


COUNTS = (1, 4, 16, 64, 256)
draws = {"encoder, m": [], "decoder, mu": []}
for k in COUNTS:
    w, by_m, by_mu, _ = weights(rng.standard_normal((2000, k)))
    for g, of_network in zip((by_m, by_mu), draws.values(), strict=True):
        of_network.append(np.sum(w * g, axis=1) / np.sum(w, axis=1))
    print(f"K = {k:3d}: " + "; ".join(f"{name} {d[-1].mean():+.4f} +- {d[-1].std():.4f}" for name, d in draws.items()))
fig = plots.figure(8.0, 3.2)
for axes, (name, of_network) in zip(fig.subplots(1, 2, sharey=True), draws.items(), strict=True):
    axes.boxplot(of_network, tick_labels=COUNTS, showfliers=False, medianprops={"color": "black"})
    axes.axhline(0, color="#777777", linewidth=0.8)
    plots.panel(axes, f"Gradient: {name}", "samples K", "nats per unit of the mean")
show(fig, "draws")

# %% [markdown]
# Behind +- stands the deviation of one draw, here and below. The decoder's boxes shrink around a mean that stays. The
# encoder's shrink too, but their mean goes to 0 faster: the bound hardly depends on q any more.
#
# ## 2. Exactly, for every K
#
# The mean is that of a ratio of sums. The denominator is taken apart by 1 / s^n = int t^(n-1) exp(-s t) dt / (n-1)!:
# the K weights are independent, hence so are the factors exp(-t w_k), and the expectation of the product is the
# product of expectations, K - 1 of them the same. What is left are sums over grids of eps and of t. The bound itself
# comes out in the same way; its slopes in m and mu must be the two means.

# %%
EPS = np.linspace(-9.0, 9.0, 301)
MASS = norm.pdf(EPS) * (EPS[1] - EPS[0])
TIME = np.exp(np.arange(-25.0, 25.0, 0.1))  # in equal steps of log t
DECAY = np.exp(-TIME[:, None] * weights(EPS)[0]) * MASS  # exp(-t w) under q, (t, eps)


def exact(g, k, power=1):
    """Mean and deviation of sum_k w~_k^power g_k, whose k terms are independent."""
    wg = weights(EPS)[0] ** power * g
    one, first, second = DECAY.sum(axis=1), DECAY @ wg, DECAY @ wg**2
    n, rest = 2 * power, one ** max(k - 2, 0)
    mean = k * np.sum(first * one ** (k - 1) * TIME**power) * 0.1 / gamma(power)
    square = k * second * one ** (k - 1) + k * (k - 1) * first**2 * rest
    return mean, np.sqrt(np.sum(square * TIME**n) * 0.1 / gamma(n) - mean**2)


def bound(k, m=M, mu=MU):
    """E log mean_k w_k, by log s = int (exp(-t) - exp(-s t)) / t dt."""
    decay = np.exp(-TIME[:, None] / k * weights(EPS, m, mu)[0])
    return np.sum(np.exp(-TIME) - (decay @ MASS) ** k) * 0.1


w, by_m, by_mu, by_z = weights(EPS)
print(f"log p(x) = {norm.logpdf(X, MU, np.sqrt(2)):.6f}; bounds " + ", ".join(f"{bound(k):.6f}" for k in COUNTS))
for k in (1, 4, 256):
    slopes = [(bound(k, M + h, MU + j) - bound(k, M - h, MU - j)) / 2e-4 for h, j in ((1e-4, 0), (0, 1e-4))]
    (m, m_noise), (mu, mu_noise) = exact(by_m, k), exact(by_mu, k)
    off = max(abs(m - slopes[0]), abs(mu - slopes[1]))
    print(f"K = {k:3d}: by m {m:+.6f} +- {m_noise:.4f}, by mu {mu:+.6f} +- {mu_noise:.4f}; slopes within {off:.0e}")

# %% [markdown]
# ## 3. The report's eq. 9 and 10, and a misprint
#
# The signal-to-noise ratio (eq. 8) is |mean| / deviation. With M groups of K samples, up to terms that fade with K:
#
# $$SNR(\theta) = \sqrt{M} \frac{|\sqrt{K} \nabla Z - \frac{Z}{2 \sqrt{K}} \nabla \frac{Var[w]}{Z^2}|}
#   {\sqrt{E[w^2 (\nabla \log w - \nabla \log Z)^2]}} \qquad
#   SNR(\phi) = \sqrt{\frac{M}{K}} \frac{|\nabla Var[w]|}{2 Z \sigma[\nabla w]}$$
#
# Printed eq. 9 has 1 / (2 Z sqrt(K)) before the second term. Var[w] / Z^2 has no unit, w has that of a density: only Z
# in the numerator goes with the first term's. In our model the two forms differ by Z^2, and the exact mean can tell:

# %%
Z = norm.pdf(X, MU, np.sqrt(2))
relative = lambda m, mu: MASS @ weights(EPS, m, mu)[0] ** 2 / norm.pdf(X, mu, np.sqrt(2)) ** 2 - 1  # Var[w] / Z^2
d_m = (relative(M + 1e-4, MU) - relative(M - 1e-4, MU)) / 2e-4
d_mu = (relative(M, MU + 1e-4) - relative(M, MU - 1e-4)) / 2e-4
d_log_z = (X - MU) / 2
noise_mu = np.sqrt(MASS @ (w * (by_mu - d_log_z)) ** 2)
noise_m = np.sqrt(MASS @ (w * by_m) ** 2)  # its mean, dZ / dm, is 0


def leading(k):
    """Eq. 9, corrected, and eq. 10, for M = 1."""
    decoder = np.sqrt(k) * Z * d_log_z - Z / (2 * np.sqrt(k)) * d_mu
    return abs(decoder) / noise_mu, Z**2 * abs(d_m) / (2 * Z * np.sqrt(k) * noise_m)


for k in (*COUNTS, 1024):
    encoder, decoder = (abs(mean) / noise for mean, noise in (exact(by_m, k), exact(by_mu, k)))
    theta, phi = leading(k)
    print(f"K = {k:4d}: decoder {decoder:7.4f}, eq. 9 {theta:7.4f}; encoder {encoder:.5f}, eq. 10 {phi:.5f}")
second = np.array([2 * k * (d_log_z - exact(by_mu, k)[0]) / d_mu for k in (100, 1000, 10_000)])
print(f"the factor of the second term, which should go to 1 (printed: to 1 / Z^2 = {1 / Z**2:.1f}):", second.round(4))

# %% [markdown]
# The encoder's ratio falls by 2 for each factor of 4. How should 64 samples be spent? In M groups of K (eq. 11) the
# ratios are sqrt(M) times those of K, but the bound is that of K:

# %%
print("   M x K   encoder  decoder  bound below log p(x), nats")
for k in (1, 2, 8, 32, 64):
    (m, m_noise), (mu, mu_noise), root = exact(by_m, k), exact(by_mu, k), np.sqrt(64 // k)
    gap = np.log(Z) - bound(k)
    print(f"{64 // k:4d} x {k:<3d}{root * abs(m) / m_noise:8.3f} {root * abs(mu) / mu_noise:8.3f}  {gap:.5f}")

# %% [markdown]
# ## 4. Ways out: without the score function
#
# The encoder's gradient has a part through z and a part from log q itself, the score. Sticking the landing (STL) drops
# the score, whose mean is 0 for K = 1. DReG reparameterises it once more, which leaves the squares of the weights:
#
# $$\Delta^{STL} = \sum_k \tilde w_k \frac{\partial \log w_k}{\partial z_k} \frac{\partial z_k}{\partial \phi} \qquad
#   \Delta^{DReG} = \sum_k \tilde w_k^2 \frac{\partial \log w_k}{\partial z_k} \frac{\partial z_k}{\partial \phi}$$
#
# Both are sums of independent terms over a power of the sum of weights, so section 2 gives their moments too (as the
# library's `estimators.sticking_the_landing` and `doubly_reparameterised` have them: `minivi check
# report_tighter_bounds_gradients` compares).

# %%
for name, g, power in (("plain", by_m, 1), ("STL", by_z, 1), ("DReG", by_z, 2)):
    print(f"{name:5s}", "; ".join("K = {}: {:+.4f} +- {:.4f}".format(k, *exact(g, k, power)) for k in (1, 4, 64, 256)))

# %% [markdown]
# All three agree at K = 1. Beyond, STL has little noise around a mean that is not the gradient: at K = 256 it is 289
# times too large. DReG has the right mean, and its noise falls faster. CIWAE keeps a share beta of the ELBO, whose
# signal does not fade (eq. 13). Its mean is exact here; its deviation has no such integral and is sampled.

# %%
KS = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256])
curves = {"plain": [exact(by_m, k) for k in KS], "DReG": [exact(by_z, k, 2) for k in KS]}
for beta in (0.05, 0.5):
    curves[f"CIWAE {beta}"] = []
    for k in KS:
        v, g, *_ = weights(rng.standard_normal((2000, k)))
        noise = np.std(beta * g.mean(axis=1) + (1 - beta) * np.sum(v * g, axis=1) / v.sum(axis=1))
        curves[f"CIWAE {beta}"].append((beta * exact(by_m, 1)[0] + (1 - beta) * exact(by_m, k)[0], noise))
fig = plots.figure(6.0, 3.4)
axes = plots.panel(fig.add_subplot(), "The encoder's ratio", "samples K", "|mean| / deviation", log="xy")
for i, (name, moments) in enumerate(curves.items()):
    ratio = np.array([abs(mean) / noise for mean, noise in moments])
    axes.plot(KS, ratio, label=name, **plots.style(i))
    exponent = np.log(ratio[-1] / ratio[-3]) / np.log(4)
    print(f"{name:10s} {ratio[0]:.3f} at K = 1, {ratio[-1]:.3f} at K = 256; exponent from 64 to 256: {exponent:+.2f}")
axes.legend(fontsize=8)
show(fig, "ratio")

# %% [markdown]
# The report's sqrt(M K) for CIWAE holds for K far above 1 / beta. With beta = 0.05 the ratio falls first.
#
# ## 5. A learned beta (eq. 16)
#
# Section 3.7 learns beta by *minimising* beta ELBO + (1 - beta) IWAE, while the network maximises the same. The
# derivative by beta is ELBO - IWAE, never positive, so the end is known beforehand: at 1, the VAE; if beta maximises,
# at 0, IWAE. A VAE with five latents on digits, beta as the sigmoid of a parameter:

# %%
digits = data.load("digits")
test = data.fresh(digits.test, rng)
fig = plots.figure(6.0, 3.0)
axes = plots.panel(fig.add_subplot(), "CIWAE's learned beta, 8 samples", "epoch", "beta")
for i, (rule, sign) in enumerate({"minimised (eq. 16)": 1.0, "maximised": -1.0}.items()):
    for start in (0.1, 0.9):
        rng, logit = mv.Generator(1), mv.Parameter(np.log(start / (1 - start)), dtype="float32")
        vae = VAE(pixels=64, hidden=(50,), latents=5, rng=rng)
        network, slow, betas = optim.Adam(vae.parameters(), 2e-3), optim.SGD([logit], 1.5), [start]
        for _ in range(6):
            for batch in data.batches(digits.train, size=100, rng=rng):
                ciwae = bounds.ciwae(vae.log_weights(data.fresh(batch, rng), rng, 8), ops.sigmoid(logit)).mean()
                up, *rest = mv.grad(ciwae, [logit, *network.parameters])
                slow.step([sign * up])
                network.step([-g for g in rest])
            betas.append(ops.sigmoid(logit).item())
        axes.plot(betas, label=rule if start == 0.1 else None, **plots.style(i))
        iwae = evaluation.bound(vae, test, mv.Generator(2), 64, bounds.iwae)
        print(f"{rule:18s} beta {start} -> {betas[-1]:.3f}; IWAE-64 on test images {iwae} (standard error)")
axes.set_ylim(-0.03, 1.03)
axes.legend(fontsize=8, loc="center right")
show(fig, "beta")
with mv.no_grad():
    v = np.exp(np.asarray(ops.log_softmax(vae.log_weights(test[:100], rng, 1000).T)))
print(f"1 / sum of w~^2: of 1,000 samples of this network {np.mean(1 / np.sum(v**2, axis=1)):.0f} count")

# %% [markdown]
# Whatever the start, one model comes out. That, and no compromise found, makes the spread over starts small (Figure 4).
#
# ## 6. The long runs
#
# First 20 dimensions, where the exponents come out, then a network with 50 latents on MNIST, where they do not: of its
# 1,000 samples 3 count, and eq. 9 and 10 are for sums of weights that are nearly K Z. Beside it beta, where the order
# of the values shows how short the runs are: after 3,000 steps the ELBO is still ahead of IWAE. (The report has two
# means for fixed beta, -81.29 in the text and -81.99 under Figure 4.)

# %%
stored("report_tighter_bounds_gradients.snr")
stored("report_tighter_bounds_gradients.beta")

# %% [markdown]
# ## 7. Try
#
# - In section 1: `M = 0.7`, the best q. What is left of the encoder's signal, and of the noise of STL?
# - In section 2: by hand, `exact(by_z, k)[0]` for K to infinity is -1.5 (M - 0.7). Which expectation is that?
# - In section 3: how must M grow with K, so that the encoder's ratio stays? Print it with `exact`.
# - In section 4: `beta` in (0.005, 0.05). Where is the lowest ratio, and does it stay at the same beta K?
# - In section 5: `optim.SGD([logit], 0.1)`. Would six epochs have told where beta goes? And would a table of IWAE-64?
