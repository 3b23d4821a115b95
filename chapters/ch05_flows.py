"""Normalizing flows: posteriors that bend (thesis sections 5.1 to 5.3, Figure 5.2).

The bound pays KL(q || p(z | x)) for a posterior q that is a Gaussian with independent coordinates. A flow pushes such
draws through invertible maps and keeps account of their density. Which maps are cheap, how far do they get at the same
depth, and what becomes of them in many dimensions? A few seconds.
"""

# %% [markdown]
# ## 1. One planar step (eq. 5.17), and what it must not do
#
# Section 5.1 asks two things of q: draws, and the density of these draws, both cheap. A planar step stretches the space
# along one direction w. Its Jacobian is I + h' u w^T, whose determinant is a single number:
#
# $$f(z) = z + u \tanh(w^T z + b) \qquad \det \frac{\partial f}{\partial z} = 1 + (1 - \tanh^2) \, w^T u$$
#
# The density of the image is the one before, over |det| (eq. 5.16). The text does not say when f can be undone: where
# w^T u > -1. Below that it folds the plane, and points have several origins. A test for any density q of draws z: the
# mean of g(z) / q(z) is 1 for every density g, here N(0, I / 2).

# %%
import numpy as np
from scipy.stats import multivariate_normal

import minivi as mv
from minivi import flows, nn, ops, optim, plots
from minivi.distributions import Normal
from minivi.flows import Chain, FlowPosterior
from minivi.lesson import show, stored
from minivi.models import VAE
from minivi.program import Step


# %%
def planar(z, u, w, b):
    """The step, and log |det| for each row."""
    t = np.tanh(z @ w + b)
    return z + t[:, None] * u, np.log(np.abs(1 + (1 - t**2) * (w @ u)))


rng, w = mv.Generator(0), np.array([1.0, 0.5])
start = rng.standard_normal((50_000, 2))
fig = plots.figure(9.0, 2.5)
for axes, along in zip(fig.subplots(1, 4, sharey=True), (0.0, 3.0, -0.9, -3.0), strict=True):
    u = along * w / (w @ w)
    z, log_det = planar(start, u, w, 0.0)
    log_q = multivariate_normal.logpdf(start, np.zeros(2)) - log_det
    ratio = np.exp(multivariate_normal.logpdf(z, np.zeros(2), 0.5 * np.eye(2)) - log_q)
    axes.hist2d(*z.T, bins=80, range=[(-5, 5)] * 2, cmap="gray_r")
    plots.panel(axes, f"draws, w.u = {along:g}", "$z_1$", "" if along else "$z_2$")
    error = ratio.std() / np.sqrt(len(ratio))
    print(f"w.u = {along:4.1f}: mean of g / q {ratio.mean():.3f} +- {error:.3f}")
show(fig, "planar")

# %% [markdown]
# The last is no density of its draws: parts of the plane are counted three times. So the library takes u with its part
# along w replaced by softplus(w.u) - 1, which is above -1.
#
# ## 2. Chains (eq. 5.10 to 5.16)
#
# Log-determinants of a chain add up. (Printed, 5.16 has the bars inside the determinant; they belong around it, as in
# 5.15: a step that exchanges two coordinates has determinant -1, whose logarithm is not meant.) Four kinds of steps are
# fitted to one target by KL(q || p), as the bound fits a posterior. The target is a ring with two heavy sides, known up
# to its integral; the number of gradients is the same for all.

# %%
line = np.linspace(-5.0, 5.0, 121)
plane = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2).astype("float32")


def ring(z):
    """log of the target up to a constant: (..., 2) -> (...)."""
    r = ops.sqrt(ops.sum(z * z, axis=-1))
    sides = ops.log_sum_exp(ops.stack([-0.5 * ((z[..., 0] - side) / 0.6) ** 2 for side in (2.0, -2.0)]), axis=0)
    return sides - 0.5 * ((r - 2.0) / 0.4) ** 2


class Flow(nn.Module):
    """A Gaussian with free mean and deviations, through a chain."""

    def __init__(self, size, chain):
        self.mu, self.log_sigma = (mv.Parameter(np.zeros(size, "float32")) for _ in range(2))
        self.chain = chain

    def q(self):
        """The distribution: draws with their densities forward, densities elsewhere by the inverse."""
        return FlowPosterior(Normal(self.mu, self.log_sigma), self.chain)


def fit(flow, log_target, steps=400, step_size=0.01):
    """Minimise KL(q || p) by draws; E[log q - log target] with its error."""
    size, rng = len(flow.mu.data), mv.Generator(1)
    optimizer = optim.Adam(flow.parameters(), lambda step: step_size * min(1.0, 2.0 - 2.0 * step / steps))

    def excess(eps, rng):
        z, log_q = flow.q().rsample_with_log_prob(eps)
        return log_q - log_target(z)

    update = Step(lambda eps, rng: excess(eps, rng).mean(), optimizer)  # loss, gradient, update
    for _ in range(steps):
        update(rng.standard_normal((100, size), dtype="float32"), rng)
    with mv.no_grad():
        values = np.asarray(excess(rng.standard_normal((10_000, size), dtype="float32"), rng), float)
    return values.mean(), values.std() / 100


def chain(kind, size, depth):
    """``depth`` steps of a kind: of one direction, one centre, one half of z, or all of it at once."""
    rng = mv.Generator(2)
    if kind == "IAF":
        return flows.iaf(size, depth, [2 * size], rng)
    if kind in ("NICE", "Real NVP"):
        layer = flows.AdditiveCoupling if kind == "NICE" else flows.AffineCoupling
        return Chain([layer(size, [16], rng, swap=bool(t % 2)) for t in range(depth)] + [flows.Scaling(size)])
    one = {"planar": flows.Planar, "radial": flows.Radial}
    return Chain([one[kind](size, rng) for _ in range(depth)])


log_z = np.log(np.sum(np.exp(np.asarray(ring(plane.astype(float))))) * (line[1] - line[0]) ** 2)
densities = {"target": np.asarray(ring(plane)) - log_z}
for kind, depth in (("planar", 0), ("planar", 2), ("planar", 8), ("radial", 8), ("NICE", 8), ("Real NVP", 8)):
    flow, name = Flow(2, chain(kind, 2, depth)), f"{kind}, {depth} steps" if depth else "Gaussian"
    gap, error = fit(flow, ring)
    densities[name] = np.asarray(flow.q().log_prob(plane))
    print(f"{name:17s}: KL(q || p) = {gap + log_z:.3f} +- {error:.3f} nats")
del densities["planar, 2 steps"]
fig = plots.figure(10.0, 2.1)
for axes, (name, log_density) in zip(fig.subplots(1, 6), densities.items(), strict=True):
    axes.imshow(np.exp(log_density).reshape(121, 121), cmap="gray_r", origin="lower", extent=(-5, 5, -5, 5))
    axes.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), xticks=[], yticks=[])
    axes.set_title(name, fontsize=9)
show(fig, "ring")

# %% [markdown]
# Real NVP has found one side. Leaving the other costs log 2 = 0.69 nats in KL(q || p), which does not ask q to be where
# all of p is; this depends on the seed. The others pay for bridges: a continuous map tears no Gaussian in two.
#
# ## 3. Many dimensions (section 5.2.2 against 5.3)
#
# All that a planar step does goes through w^T z, a bottleneck of one unit. The rank of its Jacobian less the identity
# says so: one for each step. A step of inverse autoregressive flow, the subject of the next lesson, changes all
# coordinates. The target has 16 dimensions: eight independent pairs on bent lines, b from N(a^2 - 1, 1/4), shuffled.

# %%
order = mv.Generator(3).permutation(16)


def bananas(z):
    """log of a normalised density, (..., 16) -> (...)."""
    a, b = z[..., order[:8]], z[..., order[8:]]
    return ops.sum(-0.5 * a * a - 2.0 * (b - a * a + 1.0) ** 2, axis=-1) - 8 * float(np.log(np.pi))


for kind, depth in (("planar", 0), ("planar", 1), ("planar", 8), ("IAF", 1), ("IAF", 2)):
    flow, name = Flow(16, chain(kind, 16, depth)), f"{kind}, {depth} steps" if depth else "Gaussian"
    gap, error = fit(flow, bananas)
    z = mv.Tensor(rng.standard_normal(16, dtype="float32"))
    image = flow.chain.forward(z)[0]
    jacobian = np.array([mv.grad(image[i], z) for i in range(16)]) if depth else np.eye(16)
    rank = np.linalg.matrix_rank(jacobian - np.eye(16), tol=1e-4)
    print(f"{name:15s}: rank {rank:2d} of 16; KL(q || p) = {gap / 16:.3f} +- {error / 16:.3f} nats per dimension")

# %% [markdown]
# ## 4. Four data points (Figure 5.2)
#
# A VAE with two latents and four data, each with a bit of its own. If the decoder could tell them apart with certainty,
# log p(x) would be -log 4, and the four posteriors would have to share out the prior without overlap. In general
#
# $$bound = -\log 4 - KL(q(z) || p(z)) - E_{q(z)} KL(q(x | z) || p(x | z)) \qquad q(z) = \frac{1}{4} \sum_n q(z | x_n)$$
#
# Four round or upright Gaussians make no round one together. The right side is computed on a grid, the left by draws.

# %%
data = np.eye(4, dtype="float32")
fig = plots.figure(7.0, 3.2)
for axes, kind in zip(fig.subplots(1, 2, sharey=True), ("Gaussian", "IAF"), strict=True):
    rng, bent = mv.Generator(4), kind == "IAF"
    flow = flows.iaf(2, 4, [32], rng, context=8) if bent else None
    vae = VAE(4, (32,), 2, flow=flow, context=8 * bent, rng=rng)
    optimizer = optim.Adam(vae.parameters(), lambda step: 0.01 * min(1.0, 1000 / max(step, 1)))
    update = Step(lambda x, rng, vae=vae: -vae.elbo(x, rng, 32, estimator="A").mean(), optimizer)
    for _ in range(2000):
        update(data, rng)
    with mv.no_grad():
        log_w = np.asarray(vae.log_weights(data, rng, 10_000), float).mean(axis=1)
        log_q = np.maximum(np.asarray(vae.encode(data).log_prob(plane[:, None]), float), -1e3)  # (grid, 4)
        log_px_z = np.asarray(vae.decode(plane[:, None]).log_prob(data), float)
        draws = vae.encode(data).sample(rng, (250,))
    log_qz = np.log(np.mean(np.exp(log_q), axis=1) + 1e-300)
    mass = np.exp(log_q) / 4 * (line[1] - line[0]) ** 2  # q(x, z)
    prior = np.sum(mass.sum(axis=1) * (log_qz - multivariate_normal.logpdf(plane, np.zeros(2))))
    decoder = np.sum(mass * (log_q - np.log(4) - log_qz[:, None] - log_px_z))
    print(
        f"{kind:8s}: bound {log_w.mean():.4f} +- {log_w.std() / 100:.4f}; -log 4 - {prior:.4f} - {decoder:.4f}", end=""
    )
    print(f" = {-np.log(4) - prior - decoder:.4f}, from the grid")
    for i, (marker, grey) in enumerate(zip("o^xs", ("0.0", "0.45", "0.2", "0.7"), strict=True)):
        axes.plot(*draws[:, i].T, marker, color=grey, markersize=2.5, label=f"$q(z | x_{i + 1})$")
    plots.panel(axes, f"{kind}: KL(q(z) || p(z)) = {prior:.2f} nats", "$z_1$", "" if bent else "$z_2$")
    axes.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
show(fig, "clusters")

# %% [markdown]
# ## 5. The long runs
#
# Figure 5.2 from three seeds; and on MNIST, posteriors with 32 latents at equal depth, or in equal time. A flow has its
# price there: in the time of IAF's 8 epochs the Gaussian trains for 15, and that is worth more nats.

# %%
stored("ch05_flows.clusters")
stored("ch05_flows.vae")

# %% [markdown]
# `ch05_flows.energies` fits four targets in the plane at three depths, `ch05_flows.scaling` goes to 128 dimensions.
# `minivi check ch05_flows` checks eq. 5.10 to 5.22.
#
# ## 6. Try
#
# - In section 1: b = 2 for `planar` instead of 0. Does the fold at w.u = -3 go away, or only most draws from it?
# - In section 2: 32 planar steps. What does each doubling of the number buy?
# - In section 2: exchange the roles: `fit` minimises KL(q || p). What would a q that minimised KL(p || q) do between
#   the two sides, and why can `excess` not be used for it?
# - In section 3: "Real NVP" with 2 and 8 steps. Where is it between planar and IAF?
# - In section 4: `flow = Chain([flows.Planar(2, rng, context=8) for _ in range(4)])`. Where is its bound?
