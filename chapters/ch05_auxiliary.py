"""Auxiliary latent variables: a richer posterior at a price (thesis section 5.2.1).

If q(z | x) draws another variable u first, its marginal over z is a mixture, as flexible as can be. But nobody can
compute that mixture's density, and the bound that can be computed pays for not knowing u. When does it pay? A few
seconds.
"""

# %% [markdown]
# ## 1. A mixture
#
# z is three bits in a row whose neighbours like to be equal: log p(z | x) = 2 (number of equal neighbours) + 0.1
# (number of ones) + constant. A factorised q cannot correlate bits. With one more bit u it can (eq. 5.1, 5.2):
#
# $$q(z | x) = \sum_u q(u | x) \, q(z | u, x)$$
#
# The eight states are enumerated. First the best q of either kind, as if the mixture's density could be had.

# %%
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

import minivi as mv
from minivi import nn, ops, optim, plots
from minivi.distributions import Normal
from minivi.lesson import show, stored

# %%
Z = np.array([[z >> i & 1 for i in (2, 1, 0)] for z in range(8)])  # the states, (8, 3)
log_posterior = lambda coupling: log_softmax(coupling * (np.diff(Z) == 0).sum(axis=1) + 0.1 * Z.sum(axis=1))
factorised = lambda logits: -np.logaddexp(0, np.where(Z == 1, -logits, logits)).sum(axis=1)  # log q, (8,)
kl = lambda log_q, log_p: np.sum(np.exp(log_q) * (log_q - log_p))


def with_u(theta):
    """log q(u, z | x), (2, 8), from seven numbers."""
    given_u = np.stack([factorised(theta[1:4]), factorised(theta[4:7])])
    return given_u - np.logaddexp(0, [[theta[0]], [-theta[0]]])


def best(cost, size):
    """The parameters of the lowest of three minima, from random starts."""
    starts = 1.5 * mv.Generator(0).standard_normal((3, size))
    return min((minimize(cost, start) for start in starts), key=lambda found: found.fun).x


log_p = log_posterior(2.0)
plain = factorised(best(lambda t: kl(factorised(t), log_p), 3))
mixture = np.logaddexp(*with_u(best(lambda t: kl(np.logaddexp(*with_u(t)), log_p), 7)))
fig = plots.figure(6.5, 2.8)
axes = plots.panel(fig.add_subplot(), "Three bits", "z", "probability")
for i, (name, log_q) in enumerate({"p(z | x)": log_p, "factorised q": plain, "mixture of two": mixture}.items()):
    axes.bar(np.arange(8) + 0.27 * (i - 1), np.exp(log_q), 0.27, color=str(0.4 * i), edgecolor="black", label=name)
axes.set_xticks(range(8), ["".join(map(str, z)) for z in Z])
axes.legend(fontsize=8)
show(fig, "bits")
print(f"KL(q(z | x) || p(z | x)): factorised {kl(plain, log_p):.4f}, mixture {kl(mixture, log_p):.4f} nats")

# %% [markdown]
# ## 2. What the bound pays (eq. 5.3 to 5.9)
#
# The sum over u is known here; of a u that is a vector of Gaussians it is an integral through a network. So the model
# gets a u as well, p(x, z, u) = p(u | x, z) p(x, z), which leaves p(x, z) as it is, and the objective is that of all:
#
# $$E_{q(u, z | x)}[\log p(x, z, u) - \log q(u, z | x)]$$
#
# Its distance from the bound without u is a divergence, the price of u, E KL(q(u | x, z) || p(u | x, z)) (eq. 5.6 and
# 5.7). Eq. 5.4 and 5.5 equate the objective, in the mean over data x, with a divergence of joint distributions. They
# differ by a sign and a constant: it is *minus* the divergence, *minus* the entropy of the data. With random tables:

# %%
table = lambda seed, *shape: np.exp(mv.Generator(seed).standard_normal(shape))
normal = lambda a, axes: a / a.sum(axis=axes, keepdims=True)
data_x = normal(table(1, 3), 0)[:, None, None]  # q_D(x): three data; axes are x, z (4 states) and u (2)
q = data_x * normal(table(2, 3, 4, 2), (1, 2))
p_xz = normal(table(3, 3, 4, 1), (0, 1))
p = p_xz * normal(table(4, 3, 4, 2), 2)
log = np.log
objective = np.sum(q * (log(p) - log(q / data_x)))
print(f"objective {objective:.6f} (5.4); KL {np.sum(q * log(q / p)):.6f} (5.5)", end="")
print(f"; -KL - entropy of the data {-np.sum(q * log(q / p)) + np.sum(data_x * log(data_x)):.6f}")
q_xz = q.sum(axis=2, keepdims=True)
of_xz, p_x = np.sum(q_xz * log(q_xz / p_xz)), p_xz.sum(axis=1, keepdims=True)
price = np.sum(q * log(q / q_xz * p_xz / p))
gap = np.sum(q_xz * log(q_xz / data_x * p_x / p_xz))
print(f"with u {of_xz + price:.6f} = without {of_xz:.6f} + price {price:.6f} (5.6)")
print(f"without {of_xz:.6f} = of p(x) {np.sum(data_x * log(data_x / p_x)):.6f} + posteriors' {gap:.6f} (5.8)")

# %% [markdown]
# So for one and the same q the bound with u is never better. It pays only if q(z | x) comes so much nearer that the
# price is outweighed. Back to three bits, with a p(u | x, z) that is too simple on purpose: it sees the first bit of z
# alone, and is never surer than 88 %. With the coupling grow both what there is to gain and what u must tell:


# %%
def parts(theta, log_p):
    """What the bound lacks, and the price in it."""
    log_q, logit = with_u(theta), 2.0 * np.tanh(theta[7 + Z[:, 0]])
    log_qz, log_pu = np.logaddexp(*log_q), -np.logaddexp(0, [logit, -logit])
    return kl(log_q, log_p + log_pu), kl(log_q, log_qz + log_pu)


couplings = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
curves = {"without u": [], "with u": [], "the price in it": []}
for coupling in couplings:
    log_p = log_posterior(coupling)
    whole, price = parts(best(lambda t, log_p=log_p: parts(t, log_p)[0], 9), log_p)
    lacks = kl(factorised(best(lambda t, log_p=log_p: kl(factorised(t), log_p), 3)), log_p)
    for curve, value in zip(curves.values(), (lacks, whole, price), strict=True):
        curve.append(value)
    print(f"coupling {coupling}: the bound lacks {lacks:.4f} without u, {whole:.4f} with u, of which price {price:.4f}")
fig = plots.figure(5.5, 3.0)
axes = plots.panel(fig.add_subplot(), "What the bound lacks", "coupling of neighbouring bits, nats", "nats")
for i, (name, curve) in enumerate(curves.items()):
    axes.plot(couplings, curve, label=name, **plots.style(i))
axes.legend(fontsize=8)
show(fig, "coupling")

# %% [markdown]
# Where the posterior has one mode, u is ignored, and costs nothing. Where it has two, u is worth its price.
#
# ## 3. A density, with networks
#
# Now u is a Gaussian vector. The posterior is a ring with two heavy sides, known up to its integral; q(z | u) is a
# diagonal Gaussian whose mean and deviation a network makes of u, and p(u | z) one that a network makes of z:
#
# $$E_{q(u) q(z | u)}[\log q(u) + \log q(z | u) - \log p(u | z) - \log \tilde p(z)] + \log Z
#   = KL(q(z) || p(z)) + price$$
#
# The weight of log p~ is raised from 0.05 to 1 at first; otherwise q settles in one of the sides, for log 2 nats.

# %%
line = np.linspace(-5.0, 5.0, 121)
plane = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def ring(z):
    """log of the density up to a constant: (..., 2) -> (...)."""
    r = ops.sqrt(ops.sum(z * z, axis=-1))
    sides = ops.log_sum_exp(ops.stack([-0.5 * ((z[..., 0] - side) / 0.6) ** 2 for side in (2.0, -2.0)]), axis=0)
    return sides - 0.5 * ((r - 2.0) / 0.4) ** 2


class Posterior(nn.Module):
    """q(u) q(z | u) and p(u | z); with ``width`` 0 no u is looked at, and q(z) is a diagonal Gaussian."""

    def __init__(self, width, rng):
        self.width = width
        self.q_z, self.p_u = (nn.MLP((2, 32, 4), rng) for _ in range(2))

    def gaussian(self, network, given):
        """By a network of what is given, or of nothing."""
        outputs = network(given if self.width else 0 * given)
        return Normal(outputs[..., :2], outputs[..., 2:])

    def draw(self, rng, count):
        """u and z, and log q(u, z) - log p(u | z), (count,)."""
        u, eps = rng.standard_normal((2, count, 2), dtype="float32")
        q = self.gaussian(self.q_z, u)
        z = q.rsample(eps)
        return u, z, STANDARD.log_prob(u) + q.log_prob_of_noise(eps) - self.gaussian(self.p_u, z).log_prob(u)

    def log_w(self, u, z):
        """log q(u, z) - log p(u | z) at any u and z."""
        return STANDARD.log_prob(u) + self.gaussian(self.q_z, u).log_prob(z) - self.gaussian(self.p_u, z).log_prob(u)


STANDARD = Normal(np.zeros(2, "float32"), np.zeros(2, "float32"))
log_z = logsumexp(np.asarray(ring(plane))) + 2 * np.log(line[1] - line[0])
posteriors = {}
for name, width in (("without u", 0), ("with u", 2)):
    posteriors[name] = q = Posterior(width, mv.Generator(1))
    optimizer, rng = optim.Adam(q.parameters(), lambda step: 0.01 * min(1.0, 2.0 - step / 450)), mv.Generator(2)
    for step in range(900):
        _, z, log_q = q.draw(rng, 150)
        loss = (log_q - min(1.0, 0.05 + step / 300) * ring(z)).mean()
        optimizer.step(mv.grad(loss, optimizer.parameters))
    with mv.no_grad():
        _, z, log_q = q.draw(rng, 10_000)
        lacks = np.asarray(log_q - ring(z), float) + log_z
    print(f"{name:9s}: the bound lacks {lacks.mean():.3f} +- {lacks.std() / 100:.3f} nats")
fig = plots.figure(7.0, 3.4)
for axes, (name, q) in zip(fig.subplots(1, 2, sharey=True), posteriors.items(), strict=True):
    with mv.no_grad():
        z = np.asarray(q.draw(rng, 1500)[1])
    density = np.exp(np.asarray(ring(plane)) - log_z).reshape(121, 121)
    axes.plot(*z.T, ".", color="0.6", markersize=2)
    axes.contour(line, line, density, levels=[0.02, 0.1], colors="black", linewidths=1)
    plots.panel(axes, f"draws {name}; contours: the posterior", "$z_1$", "$z_2$" if q.width == 0 else "")
    axes.set(xlim=(-5, 5), ylim=(-5, 5), aspect="equal")
show(fig, "ring")

# %% [markdown]
# How much of it is the price? It is the mean of log q(u, z) - log p(u | z) - log q(z), and q(z) is not known. But q(z)
# is the mean of w = q(u, z) / p(u | z) over draws u from p(u | z). The log of a mean of such w is too low in
# expectation; it is too high if the u that came with z is one of them. So the price lies between two estimates:

# %%
q, images = posteriors["with u"], 2000
with mv.no_grad():
    u, z, own = (np.asarray(a) for a in q.draw(rng, images))
    p_u = q.gaussian(q.p_u, z)
    for draws in (1, 10, 100):
        others = p_u.rsample(rng.standard_normal((draws, images, 2), dtype="float32"))
        log_w = np.asarray(q.log_w(others, np.broadcast_to(z, others.shape)), float)
        low = logsumexp(log_w, axis=0) - np.log(draws)
        high = logsumexp(np.concatenate([own[None], log_w]), axis=0) - np.log(draws + 1)
        print(f"{draws:3d} draws of u: the price is from {np.mean(own - high):.3f} to {np.mean(own - low):.3f} nats")

# %% [markdown]
# ## 4. The long runs
#
# Three bits again, and VAEs on MNIST with a u as long as z. "In principle, the ELBO gets worse" by u, says section
# 5.2.1, and that it can lead to significant improvements: so it does with 2 latents, by 1.8 nats, and with 20 it does
# not. Look at the price, which is small in both: p(u | x, z) by a network is no bottleneck.

# %%
stored("ch05_auxiliary.digits")
stored("ch05_auxiliary.enumerated")

# %% [markdown]
# `minivi.models.directed.auxiliary` is the VAE of these runs; `minivi check ch05_auxiliary` has eq. 5.1 to 5.9. The
# lesson `ch05_flows` makes q richer without a price: there the density is known.
#
# ## 5. Try
#
# - In section 1: `log_posterior(-2.0)`. Which two states does the mixture take now?
# - In section 2: `normal(table(4, 3, 4, 2), 2)` replaced by `normal(q, 2)`, in `p`. Which printed number becomes 0?
# - In section 2: leave out `np.tanh` (and the 2.0) in `parts`. Why is there still a price?
# - In section 3: start with the full weight, `1.0 * ring(z)`. What does the bound lack with u, and why that much?
# - In section 3: let `p_u` be blind, `self.gaussian(self.p_u, 0 * z)` in `draw` and `log_w`. Does u help any more?
