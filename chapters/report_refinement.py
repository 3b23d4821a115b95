"""Refinement: is the encoder's posterior the best of its family? (refinement report; thesis section 5.5).

An encoder answers for every image in one pass. What does the hurry cost? Here it is measured against log p(x), by sums
over a grid or over all states. Then the posterior of each image takes steps of its own: of gradient ascent, importance
sampling or Hamiltonian dynamics. Equations are the report's, logs in nats. 20 seconds.
"""

# %% [markdown]
# ## 1. One image (eq. 1 to 5)
# The bound L(q) is below log p(x) by a gap, $\log p(x) - L(q) = KL(q(h | x) || p(h | x))$. Two latents fit a picture.
# Of 100 test images, the one with the largest gap: the encoder's q (0 steps), and q refined by some steps.

# %%
import numpy as np
from scipy.special import expit, logit, logsumexp

import minivi as mv
from minivi import data, estimators, evaluation, ops, plots
from minivi.distributions import Bernoulli, Normal
from minivi.lesson import show, stored
from minivi.models import VAE, BeliefNetwork, HamiltonianVAE
from minivi.optim import Adam
from minivi.refinement import Refined, refine_bernoulli, refine_gaussian, refine_mean_field, refine_straight_through

# %%
x = data.fresh((digits := data.load("digits")).test, mv.Generator(0))[:100]  # binary pixels


def train(model, surrogate, epochs, parameters=None):
    """Adam on -surrogate(x, rng), 15 minibatches an epoch; yields after each."""
    rng, optimizer = mv.Generator(1), Adam(parameters or model.parameters(), step_size=3e-3)
    for epoch in range(1, epochs + 1):
        for grey in data.batches(digits.train, size=100, rng=rng):
            optimizer.step(mv.grad(-surrogate(data.fresh(grey, rng), rng).mean(), optimizer.parameters))
        yield epoch


list(train(vae := VAE(64, (100,), 2, rng=mv.Generator(2)), lambda x, rng: vae.elbo(x, rng), 20))
encoder, (line, step) = vae.encode(x).detached(), np.linspace(-4.0, 4.0, 101, retstep=True, dtype="float32")
grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 1, 2)
log_p = np.concatenate([sum(vae.log_p_parts(one, [grid])).data for one in np.split(x, 100)], axis=1).astype(float)
log_px = logsumexp(log_p, axis=0) + 2 * np.log(step)  # log p(x), (100,)
gap = lambda q: log_px - np.sum(np.exp(log_q := q.log_prob(grid).astype(float)) * (log_p - log_q), axis=0) * step**2
worst, turn = np.argmax(gap(encoder)), np.linspace(0, 2 * np.pi, 41)
axes = (fig := plots.figure(5.6, 3.8)).add_subplot()
plots.panel(axes, "Grey: the posterior. Lines: q. One and two deviations", "h 1", "h 2")
peaked = (log_p - log_p.max(axis=0))[:, worst].reshape(101, 101)
axes.contourf(line, line, peaked, [-2.0, -0.5, 0.0], colors=["#dddddd", "#aaaaaa"])
axes.set(xlim=(-1.3, 1.5), ylim=(-1.7, 1.1))
for row, t in enumerate((0, 5, 40)):
    q = refine_gaussian(vae, x, mv.Generator(3), t, 0.03)
    for radius, name in (1, f"{t} steps, gap {gap(q)[worst]:.3f}"), (2, None):
        edge = q.mu[worst] + radius * np.exp(q.log_sigma[worst]) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        axes.plot(*edge.T, label=name, **plots.style(row) | {"marker": ""})
axes.legend(fontsize=8)
show(fig, "steps")

# %% [markdown]
# The posterior is nearly Gaussian; the encoder, whose weights serve all images, misses it. So refine: z_0 is the
# encoder's, then T steps up the bound of this image (eq. 3, 4), with the gradient through the samples (eq. 5):
# $$z_t = z_{t-1} + \gamma \nabla_z \left[\frac{1}{N} \sum_n \log p(x | h_n) - KL(\tilde q || p(h))\right] \qquad
#   h_n = \mu + \sigma \epsilon_n \qquad z = (\mu, \log \sigma)$$


# %%
def refine(x, eps, gamma):
    """The refined posteriors after 0, 1, ..., T steps; eps (T, N, B, J)."""
    yield (q := vae.encode(x).detached())
    for noise in eps:
        mu, log_sigma = mv.Tensor(q.mu), mv.Tensor(q.log_sigma)
        h = mu + ops.exp(log_sigma) * noise  # eq. 5
        log_px_h = ops.bernoulli_log_prob(x, vae.decoder(h)).mean(axis=0)
        kl = 0.5 * (mu**2 + ops.exp(2 * log_sigma) - 1 - 2 * log_sigma).sum(axis=1)
        moves = mv.grad((log_px_h - kl).sum(), [mu, log_sigma])
        yield (q := Normal(q.mu + gamma * moves[0], q.log_sigma + gamma * moves[1]))  # eq. 4


eps = mv.Generator(3).standard_normal((40, 20, 100, 2), dtype="float32")
path, theirs = list(refine(x, eps, 0.03)), refine_gaussian(vae, x, None, 40, 0.03, eps=eps)
print(f"ours and the library's, 40 steps: means differ by {np.abs(path[-1].mu - theirs.mu).max():.0e}")
down, variances = list(refine(x, eps[:5], -0.03))[-1], Normal(encoder.mu, 0.5 * encoder.log_sigma)
for name, q in {"encoder": encoder, "5 steps up": path[5], "5 steps down": down, "sigma a variance": variances}.items():
    print(f"{name:17s} mean gap of the 100 images {gap(q).mean():.4f}")

# %% [markdown]
# The last two lines take the text at its word. It calls eq. 3 a loss, hence to be descended; eq. 4 ascends. It calls
# (mu, sigma) "mean and variance"; in eq. 5 sigma is the standard deviation.
#
# ## 2. How many steps, and how long? (T and gamma)
# What many small steps with many samples leave is the family's: no Gaussian does better. What the encoder loses beyond
# that is the price of one pass, the *amortisation gap*. The report uses T = 20, and prints gamma nowhere:

# %%
best = gap(refine_gaussian(vae, x, mv.Generator(4), 60, 0.04, 200)).mean()
print(f"mean gap: encoder {gap(encoder).mean():.4f}, best Gaussian {best:.4f}; amortisation has the rest")
axes = (fig := plots.figure(6.5, 3.0)).add_subplot()
plots.panel(axes, "100 images, 20 samples a step", "T, steps", "mean gap, nats", log="y")
for row, gamma in enumerate((0.003, 0.03, 0.1, 0.3)):
    gaps = {t: gap(q) for t, q in enumerate(refine(x, eps, gamma)) if t in (0, 2, 5, 10, 20, 40)}
    axes.plot(list(gaps), [g.mean() for g in gaps.values()], label=f"gamma {gamma}", **plots.style(row, 6))
    spread = ", ".join(f"{gaps[t].mean():.4f} +- {gaps[t].std():.4f} (T = {t})" for t in (5, 20, 40))
    print(f"gamma {gamma:5}: {spread}; 20 steps harm {np.mean(gaps[20] > gaps[0]):3.0%} of the images")
axes.axhline(best, color="black", linewidth=0.6, label="best Gaussian")
axes.legend(fontsize=8)
show(fig, "gamma")

# %% [markdown]
# Small steps take long; large ones end where their noise balances the ascent: with 0.3, above the encoder. With 0.03
# most is gained by T = 20. One pass costs ten times what the family does.
#
# ## 3. Training with it (section 4.2, eq. 6)
# E step: refine. M step: the decoder learns from samples of q~; the encoder learns to start nearer to q~ next time, by
# $-\nabla_\phi KL(\tilde q || q_\phi)$. Ten latents, five samples; beside it a VAE, whose encoder ascends the bound.


# %%
def m_step(x, rng, steps=10):
    """The surrogate of both, (B,); q~ and its samples are constants, so each part reaches one network."""
    q = refine_gaussian(ten, x, rng, steps, 0.03, samples=5)
    return sum(ten.log_p_parts(x, [q.sample(rng, (5,))])).mean(axis=0) - q.kl(ten.encode(x))


ends = []
for name, surrogate in {"VAE": lambda x, rng: ten.elbo(x, rng, 5), "GBVI": m_step}.items():
    ten = VAE(64, (100,), 10, rng=mv.Generator(2))
    refined = Refined(ten, lambda m, x, rng: refine_gaussian(m, x, rng, 10, 0.03, 5))
    kl = [refined.refine(x, mv.Generator(5)).kl(ten.encode(x).detached()).mean() for _ in train(ten, surrogate, 20)]
    ends += [evaluation.elbo(m, x, mv.Generator(6), 100).values for m in (ten, refined)]
    print(f"{name:4s} bound {ends[-2].mean():.2f}, refined {ends[-1].mean():.2f}", end="; ")
    print(f"KL(q~ || encoder) after 1, 5, 20 epochs {kl[0]:.3f} {kl[4]:.3f} {kl[-1]:.3f}")
more, off = ends[3] - ends[1], m_step(x, mv.Generator(7)) - refined.surrogate(x, mv.Generator(7), 5)
print(f"GBVI over VAE, refined: {more.mean():.2f} +- {more.std() / 10:.2f}; surrogates differ by {abs(off.data).max()}")

# %% [markdown]
# Refinement finds ever less to do, and least in GBVI.
#
# ## 4. Binary latents (section 5; eq. 7, 8, 9)
# Draws of zeros and ones pass no gradient. Eq. 7 (MPVI) ascends with means in place of samples; eq. 8 lets the gradient
# at the samples stand for that at the means; eq. 9 (AVI) weighs samples by importance. To be exact: ten bits, trained
# by VIMCO, have 1,024 states, which can be summed.
# $$h_n \sim \mu_t \qquad w_n = p(x, h_n) / \tilde q(h_n; \mu_t) \qquad
#   \mu_{t+1} = (1 - d) \mu_t + d \sum_n \tilde w_n h_n$$
# Eq. 9 as printed has d = 1, and divides by q(h | x), from which h_n is not drawn after the first step.

# %%
bits = BeliefNetwork(64, (10,), hidden=[(100,)], rng=mv.Generator(2))
list(train(bits, lambda x, rng: estimators.vimco(bits, x, rng, 2), 40))
(states,), start = bits.states(), bits.encode(x).logits.data
joint = lambda h: np.asarray(sum(bits.log_p_parts(x, [h])))  # log p(x, h)
log_ph = joint(states)
bound = lambda logits: (ops.exp(log_q := Bernoulli(logits).log_prob(states)) * (log_ph - log_q)).sum(axis=0)


def importance(uniform, d, printed=False):
    """The logits after T steps of eq. 9; uniform (T, N, B, J)."""
    mean = expit(start)
    for u in uniform:
        h = (u < mean).astype("float32")
        log_w = joint(h) - Bernoulli(start if printed else logit(mean)).log_prob(h)
        w = np.exp(log_w - logsumexp(log_w, axis=0))[..., None]
        mean = np.clip((1 - d) * mean + d * (w * h).sum(axis=0), 1e-4, 1 - 1e-4)
    return logit(mean)


uniform, best_bits = mv.Generator(4).random((20, 20, 100, 10), dtype="float32"), start
for _ in range(150):
    z = mv.Tensor(best_bits)
    best_bits = best_bits + 0.3 * mv.grad(bound(z).sum(), z)
found = {
    "encoder": start, "eq. 9, d = 1": importance(uniform, 1.0), "eq. 9, d = 0.1": importance(uniform, 0.1),
    "eq. 7, means (MPVI)": refine_mean_field(bits, x, 20, 0.1).logits,
    "eq. 8, straight-through": refine_straight_through(bits, x, None, 20, 0.1, uniform=uniform).logits,
    "exact ascent": best_bits, "d = 0.1, divided by q(h | x)": importance(uniform, 0.1, True),
    "d = 0.1, the library's": refine_bernoulli(bits, x, None, 20, 20, 0.1, uniform=uniform).logits,
}  # fmt: skip
axes = (fig := plots.figure(7.5, 3.2)).add_subplot()
plots.panel(axes, "Ten bits: 20 steps, 20 samples", "gap, nats", "share of 100 images", log="x")
for row, (name, logits) in enumerate(found.items()):
    after, closer = logsumexp(log_ph, axis=0) - bound(logits), np.mean(bound(logits) > bound(start))
    print(f"{name:28s} gap {after.mean():.3f}, smaller for {closer:4.0%}; sure bits {np.mean(np.abs(logits) > 9):.0%}")
    if row < 6:
        axes.plot(np.sort(after), np.arange(1, 101) / 100, label=name, **plots.style(row, 100))
axes.legend(fontsize=8)
show(fig, "bits")
z, h = mv.Tensor(start), mv.Tensor((uniform[0] < expit(start)).astype("float32"))
samples = mv.grad(bits.decode(h).log_prob(x).mean(axis=0).sum(), h).sum(axis=0)
rest, exact = mv.grad(-Bernoulli(z).kl(bits.prior()).sum(), z), mv.grad(bound(z).sum(), z)
for name, g in {"": samples * expit(start) * expit(-start), " as printed": samples}.items():
    print(f"eq. 8{name}: {np.linalg.norm(g + rest) / np.linalg.norm(exact):.2f} times as long as the exact gradient")

# %% [markdown]
# With d = 1 the means collapse onto a few samples, most bits are sure (0 or 1); d = 0.1 wins most of what exact ascent
# does. Eq. 7 is no bound: log p(x | mean) is not the mean of log p(x | h). Eq. 8 as printed lacks d mu / d z.
#
# ## 5. Hamiltonian dynamics (HVI: Table 1; thesis section 5.5)
# Or leave the family: draw z_0 (z now is the latent) from the encoder, a momentum v_0 from N(0, I), and let z roll over
# log p(x, z) by T leapfrog steps. Each line of one moves z or v by a function of the other, so volume is preserved, and
# (z_T, v_T) has the density of (z_0, v_0). With a network r that guesses the momentum:
# $$\log p(x) \ge E[\log p(x, z_T) + \log r(v_T | x, z_T) - \log q(z_0 | x) - \log N(v_0; 0, I)]$$


# %%
def leapfrog(x, z, v, size, steps):
    """(z, v), each (K, B, J), after some steps."""
    push = lambda z: 0.5 * size * mv.grad(sum(double.log_p_parts(x, [z])).sum(), z)
    for _ in range(steps):
        v = v + push(mv.Tensor(z))
        z = z + size * v
        v = v + push(mv.Tensor(z))
    return z, v


double, x64, noise = vae.astype("float64"), x.astype(float), mv.Generator(8).standard_normal((2, 10, 100, 2))
z, v = encoder.mu + np.exp(encoder.log_sigma) * noise[0], noise[1]
energy = lambda z, v: 0.5 * np.sum(v**2, axis=-1) - sum(double.log_p_parts(x64, [z])).data
for size in (0.4, 0.2, 0.1):
    change = energy(*leapfrog(x64, z, v, size, round(1.6 / size))) - energy(z, v)
    print(f"size {size}: energy off by {np.abs(change).mean():.4f} after a time of 1.6")
flow = lambda zv: np.ravel(leapfrog(x64[:1], zv[None, None, :2], zv[None, None, 2:], 0.4, 4))
jacobian = [(flow(e) - flow(-e)) / 2e-5 for e in 1e-5 * np.eye(4)]
print(f"determinant of the Jacobian of 4 steps: {np.linalg.det(jacobian):.9f}")
for steps in (1, 2, 4, 8):
    hvi = HamiltonianVAE(64, (100,), 2, steps=steps, step_size=0.0, reverse=50, rng=mv.Generator(9))
    hvi.vae = vae  # as it is: the step sizes and r alone learn
    same = np.array_equal(*(m.log_weights(x, mv.Generator(0)).data for m in (vae, hvi)))
    own = [p for name, p in hvi.named_parameters() if not name.startswith("vae")]
    list(train(hvi, lambda x, rng, m=hvi: m.elbo(x, rng), 15, own))
    mean = log_px.mean() - evaluation.elbo(hvi, x, mv.Generator(10), 400).mean
    print(f"T = {steps}: gap {mean:.3f}, sizes learned +-{abs(hvi.step_size.data).round(2)}; at size 0 the VAE: {same}")
theirs = hvi.astype("float64").leapfrog(x64, z, v)[0].data
print(f"8 steps, ours and the library's: {np.abs(leapfrog(x64, z, v, hvi.step_size.data, 8)[0] - theirs).max():.0e}")

# %% [markdown]
# Half the size, a quarter of the error. One step gains nothing over the encoder (0.062); then the bound rises with T,
# to what three steps of refinement reach. The thesis says what holds it up: r's bound would have to be tight, too.
#
# ## 6. The long runs (Tables 1 and 2)
# 200 latents on MNIST, a few epochs where the report has 500. Look at GBVI over T, and at the order of AVI and MPVI.

# %%
stored("report_refinement.table_1")
stored("report_refinement.table_2")

# %% [markdown]
# ## 7. Try
# - In section 2: let `eps` have 200 samples for 20. Which gamma gains most, and why?
# - In section 3: let `m_step` have `steps=0`. What does the encoder learn, and why?
# - In section 4: `refine_mean_field(bits, x, 50, 0.1)`. Its objective rises with the steps; what does the bound do?
# - In section 4: `hidden=[()]`, no tanh units. What are eq. 7 and 8 worth now, and why?
# - In section 5: let `push` have the old z both times (Euler's method). What happens to energy and determinant?
