"""Adam, its bias correction and its relatives (thesis sections 7.1 to 7.4 and 7.6).

Gradient descent needs one step size that suits all parameters. Adam divides a running mean of the gradient by the root
of a running mean of its square. How far can such a step go, and what does the bias correction correct? 10 seconds.
Equation numbers are the thesis's; numbers show its slips.
"""

# %% [markdown]
# ## 1. The algorithm
#
# Algorithm 6, for each number of theta by itself, with g the gradient of step t = 1, 2, ...:
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1) g \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2$$
# $$\hat m = \frac{m}{1 - \beta_1^t} \qquad \hat v = \frac{v}{1 - \beta_2^t} \qquad
#   \theta \leftarrow \theta - \alpha \frac{\hat m}{\sqrt{\hat v} + \epsilon}$$
#
# The first problem is a ravine, f = (a^2 + 100 b^2) / 2. Gradient descent must take a step size below 2 / 100, or it
# diverges across the ravine; along it that is slow. Adam's first steps are as long in a as in b: it goes diagonally.

# %%
import numpy as np

import minivi as mv
from minivi import data, evaluation, optim, plots
from minivi.lesson import show, stored
from minivi.models import VAE


# %%
def adam(gradient, theta, steps, alpha=0.001, beta1=0.9, beta2=0.999, eps=1e-8, correct=True):
    """Algorithm 6 from theta, with gradient(theta, t): all iterates, (steps + 1, ...)."""
    m, v, path = np.zeros_like(theta), np.zeros_like(theta), [theta]
    for t in range(1, steps + 1):
        g = gradient(theta, t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = (m / (1 - beta1**t), v / (1 - beta2**t)) if correct else (m, v)
        theta = theta - alpha * m_hat / (np.sqrt(v_hat) + eps)
        path.append(theta)
    return np.array(path)


start, curvature = np.array([-3.0, 1.0]), np.array([1.0, 100.0])
descent = start * (1 - 0.018 * curvature) ** np.arange(201)[:, None]  # of gradient descent, step size 0.018
paths = {"gradient descent": descent, "Adam": adam(lambda theta, t: curvature * theta, start, 200, alpha=0.1)}
fig = plots.figure(9.0, 3.4)
left, right = fig.subplots(1, 2)
a, b = np.meshgrid(np.linspace(-3.3, 0.8, 80), np.linspace(-1.2, 1.2, 80))
left.contour(a, b, a**2 + 100 * b**2, levels=[0.1, 1, 3, 10, 30, 100], colors="#bbbbbb", linewidths=0.5)
for i, (name, path) in enumerate(paths.items()):
    left.plot(*path[:60].T, label=name, **plots.style(i, 60) | {"markevery": 3})
    right.plot(0.5 * path**2 @ curvature, label=name, **plots.style(i, 200))
plots.panel(left, "The first 60 steps, a marker for every third", "a", "b")
plots.panel(right, "All steps", "step", "f", log="y").legend(fontsize=8)
show(fig, "ravine")

# %% [markdown]
# A factor c of f changes no step: c cancels in m / sqrt(v), but for eps. So it is with a factor for each parameter, a
# "diagonal rescaling". (Descent diverges.) A turned ravine is no such rescaling: there Adam's advantage is gone.

# %%
turned = np.array([[50.5, -49.5], [-49.5, 50.5]])  # by 45 degrees
ravines = {"f": np.diag(curvature), "1000 f": np.diag(1000 * curvature), "f turned": turned}
for name, matrix in ravines.items():
    ours = adam(lambda theta, t, matrix=matrix: matrix @ theta, start, 60, alpha=0.1)[-1]
    theirs = np.linalg.matrix_power(np.eye(2) - 0.018 * matrix, 60) @ start
    print(f"{name:8s}: max |theta| after 60 steps: Adam {np.abs(ours).max():.2f}, descent {np.abs(theirs).max():.2g}")
optimizer = optim.Adam([p := mv.Parameter(start)], 0.1)
for _ in range(200):
    optimizer.step([curvature * p.data])
print(f"theta after 200 steps: {p.data} by the library, ours differs by {np.abs(p.data - paths['Adam'][-1]).max():.1e}")

# %% [markdown]
# ## 2. How far can a step go? (section 7.2.1)
#
# The text bounds a step by alpha (1 - beta1) / sqrt(1 - beta2) where that is more than alpha (3.16 alpha at the
# defaults), and by alpha otherwise. Both hold if a *single* gradient is not 0, but not in general: by Cauchy and
# Schwarz, with g_k the gradient k steps back,
#
# $$\sum_k \beta_1^k g_k \le \sqrt{\sum_k \beta_2^k g_k^2} \sqrt{\sum_k (\beta_1^2 / \beta_2)^k}
#   \qquad\text{hence}\qquad |\Delta_t| \le \alpha \frac{1 - \beta_1}{\sqrt{(1 - \beta_2)(1 - \beta_1^2 / \beta_2)}}$$
#
# which gradients that grow by beta2 / beta1 a step reach: 7.27 alpha. Nothing so exotic passes the printed bound, the
# lower dotted line: a parameter that was silent and now has a *steady* gradient makes steps of 6.57 alpha. At beta2 =
# 0.99 the text has 1 - beta1 = sqrt(1 - beta2) ensure less than alpha. Only beta1 = beta2 ensures no more than alpha.


# %%
def steps_of(gradients, **settings):
    """The steps of Adam on given gradients, (T, ...), in units of alpha; eps is as good as 0."""
    given, zero = lambda theta, t: gradients[t - 1], np.zeros(gradients.shape[1:])
    return -np.diff(adam(given, zero, len(gradients), alpha=1.0, eps=1e-300, **settings), axis=0)


limits = lambda beta2: (0.1 / np.sqrt(1 - beta2), 0.1 / np.sqrt((1 - beta2) * (1 - 0.81 / beta2)))  # printed, ours
k, silence = np.arange(60), np.zeros(8000)
crafted = {"one gradient": k == 0, "steady gradients": k >= 0, "growing gradients": (0.999 / 0.9) ** (k - 60.0)}
fig = plots.figure(6.0, 3.4)
axes = plots.panel(fig.add_subplot(), "Adam at its defaults, after 8,000 zeros", "step", r"$|\Delta_t| / \alpha$")
for i, (name, gradients) in enumerate(crafted.items()):
    steps = steps_of(np.concatenate([silence, gradients]))[len(silence) :]
    axes.plot(k + 1, steps, label=f"{name}: up to {steps.max():.2f}", **plots.style(i, 60))
axes.hlines(limits(0.999), 0, 60, color="black", linewidth=0.7, linestyle=":")
axes.set_ylim(0, 12)
axes.legend(fontsize=8)
show(fig, "bound")
for beta2 in (0.9, 0.95, 0.99, 0.999):
    growing, (printed, ours) = (beta2 / 0.9) ** np.arange(-200.0, 1.0), limits(beta2)
    reached = steps_of(np.concatenate([silence, growing]), beta2=beta2)[-1]
    print(f"beta2 = {beta2:5g}: printed bound {max(1, printed):.2f}, true {ours:.2f}, reached {reached:.2f}")

# %% [markdown]
# Such steps are rare. Gradients of mean rho and standard deviation 1 have E g / sqrt(E g^2) = rho / sqrt(1 + rho^2),
# the mean step over alpha. Pure noise makes it 0, but not the steps: m_hat has (1 - beta1) / (1 + beta1) times the
# variance of g, hence steps of about 0.23 alpha. The text's "automatic annealing" near an optimum ends there.

# %%
rho = np.array([0.0, 0.1, 0.5, 1.0, 5.0])
last = steps_of(rho + mv.Generator(1).standard_normal((500, 2000, 5)))[-1]  # of 2,000 sequences
for r, x in zip(rho, last.T, strict=True):
    print(f"signal to noise {r:3g}: mean step {r / np.sqrt(1 + r * r):.3f} expected, {x.mean():.3f}", end=" ")
    print(f"+- {x.std() / np.sqrt(2000):.3f} measured; root mean square {np.sqrt(np.mean(x**2)):.2f}")

# %% [markdown]
# ## 3. What the bias correction corrects (section 7.3)
#
# m and v start at 0, so they are too small at first. For v (eq. 7.1 to 7.4):
#
# $$v_t = (1 - \beta_2) \sum_i \beta_2^{t - i} g_i^2 \qquad E v_t = E g_t^2 (1 - \beta_2^t) + \zeta \qquad
#   \zeta = (1 - \beta_2) \sum_i \beta_2^{t - i} (E g_i^2 - E g_t^2)$$
#
# zeta is what v remembers of another E g^2. The table is for t = 300: zeta is 0 in its first half, not in its second,
# where E g^2 falls from 5.2 to 0.16. The text has *beta1* keep zeta small; it is beta2 that stands in it. In the
# picture, the first uncorrected step is (1 - beta1) / sqrt(1 - beta2) times alpha. The text calls that "much larger"
# for a *small* beta2; it is one *near 1*. (Section 7.2's quicker order of computation prints v_hat where v is meant.)

# %%
t, g = np.arange(1, 301), mv.Generator(2).standard_normal((300, 1000))
for kind, deviation in {"steady": np.ones(300), "falling": 0.3 + 2 * np.exp(-t / 100)}.items():
    for beta2 in (0.9, 0.99, 0.999):
        weights = (1 - beta2) * beta2 ** (300 - t) / deviation[-1] ** 2
        v, zeta = weights @ (deviation[:, None] * g) ** 2, weights @ (deviation**2 - deviation[-1] ** 2)
        print(f"{kind}, beta2 = {beta2:5g}: v / E g^2 = {v.mean():.3f} +- {v.std() / np.sqrt(1000):.3f}", end=", ")
        print(f"by eq. 7.4 {1 - beta2**300 + zeta:.3f}, of it zeta {zeta:.3f}")
fig = plots.figure(6.0, 3.4)
axes = plots.panel(fig.add_subplot(), "Steps on noise, 1,000 runs", "t", r"root mean square step / $\alpha$", log="xy")
for i, (beta2, correct) in enumerate(((0.9, False), (0.99, False), (0.999, False), (0.9999, False), (0.999, True))):
    size = np.sqrt(np.mean(steps_of(g, beta2=beta2, correct=correct) ** 2, axis=1))
    name = rf"$\beta_2$ = {beta2}, {'' if correct else 'un'}corrected, first {size[0]:.2f}"
    axes.plot(t, size, label=name, **plots.style(i) | {"marker": ""})
axes.set_ylim(0.1, 100)
axes.legend(fontsize=8)
show(fig, "bias")

# %% [markdown]
# ## 4. AdaGrad is a limit of Adam (section 7.4.2)
#
# Let beta1 = 0, and alpha / sqrt(t) be the step size. As delta = 1 - beta2 goes to 0, v_hat becomes the mean of all g^2
# so far, and the step AdaGrad's, g over the root of their sum. Uncorrected it is that times 1 / sqrt(t delta).

# %%
sparse = g * (mv.Generator(3).random(g.shape) < 0.2)
adagrad = sparse / np.sqrt(np.maximum(np.cumsum(sparse**2, axis=0), 1e-300))
for delta in (1e-2, 1e-4, 1e-6, 1e-8):
    steps = [steps_of(sparse, beta1=0.0, beta2=1 - delta, correct=c) / np.sqrt(t[:, None]) for c in (True, False)]
    gaps = [np.abs(s - adagrad).max() for s in steps]
    print(f"delta = {delta:g}: largest difference from AdaGrad {gaps[0]:.1e} alpha, without correction {gaps[1]:.0f}")

# %% [markdown]
# ## 5. AdaMax (section 7.6.1)
#
# With p-th powers for squares (eq. 7.5), v^(1/p) becomes a running maximum as p grows (eq. 7.10, 7.11): in the picture
# p = 64 lies on u, but |g|^64 is lost in float32. Algorithm 7 takes u, which needs no correction. The text bounds its
# steps by alpha; gradients that shrink by beta2 a step reach (1 - beta1) / (1 - beta1 / beta2) times alpha.
#
# $$v \leftarrow \beta_2^p v + (1 - \beta_2^p) |g|^p \qquad
#   u \leftarrow \max(\beta_2 u, |g|) \qquad \theta \leftarrow \theta - \frac{\alpha}{1 - \beta_1^t} \frac{m}{u}$$


# %%
def adamax(gradients, beta1=0.9, beta2=0.999):
    """Algorithm 7 on given gradients, (T,): u, and the steps in units of alpha."""
    m, u, found = 0.0, 0.0, []
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, abs(g))
        found.append((u, m / (1 - beta1**t) / u))
    return np.array(found).T


spiky = 0.02 * g[:150, 1] * np.where(mv.Generator(5).random(150) < 0.03, 6, 1)
fig, u = plots.figure(6.5, 3.2), adamax(spiky, beta2=0.98)[0]
axes = plots.panel(fig.add_subplot(), r"$u$, and $v^{1/p}$, at $\beta_2 = 0.98$", "t", "unit of the gradient")
axes.bar(t[:150], np.abs(spiky), color="#cccccc", width=1.0, label="|g|")
axes.plot(t[:150], u, label="u", **plots.style(0, 150))
for i, p in enumerate((2, 8, 64), 1):
    v = 0.0
    norm = [(v := 0.98**p * v + (1 - 0.98**p) * abs(x) ** p) ** (1 / p) for x in spiky]
    axes.plot(t[:150], norm, label=f"p = {p}", **plots.style(i, 150))
    lost = np.mean(np.abs(spiky.astype("float32")) ** p == 0)
    print(f"p = {p:2d}: v^(1/p) / u from {min(norm / u):.2f} to {max(norm / u):.2f}; |g|^p is 0 in float32: {lost:.0%}")
axes.legend(fontsize=8)
show(fig, "adamax")
print(f"after gradients 0.999^t: a step of {adamax(0.999 ** np.arange(400.0))[1][-1]:.3f} alpha")

# %% [markdown]
# ## 6. On a network, and temporal averaging (Figure 7.1 and section 7.6.2)
#
# A VAE on digits, 10 epochs, beta2 = 0.9999, three seeds: bounds on test images, +- their standard error over seeds.
# Beside the last iterate stands the average of iterates, one more line in the loop (`optim.Average`): average <- decay
# average + (1 - decay) theta, which starts at 0 and is therefore divided by 1 - decay^t, as m is.

# %%
digits = data.load("digits")
test = data.binarize(digits.test, "dynamic", mv.Generator(6))
for alpha, correct in ((1e-3, True), (1e-3, False), (1e-2, True), (1e-2, False)):
    found = []
    for seed in range(3):
        rng = mv.Generator(seed)
        vae = VAE(pixels=64, hidden=(100,), latents=10, rng=rng)
        optimizer = optim.Adam(vae.parameters(), alpha, beta2=0.9999, bias_correction=correct)
        average = optim.Average(vae.parameters(), beta2=0.99)
        for batch in (x for _ in range(10) for x in data.batches(digits.train, size=25, rng=rng)):
            loss = -vae.elbo(data.binarize(batch, "dynamic", rng), rng).mean()
            optimizer.step(mv.grad(loss, optimizer.parameters))
            average.update()
        found.append([evaluation.elbo(vae, test, mv.Generator(7)).mean])
        with average:
            found[-1].append(evaluation.elbo(vae, test, mv.Generator(7)).mean)
    (last, mean), error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1).max() / np.sqrt(3)
    print(f"alpha = {alpha}, corrected {correct!s:5}: bound {last:.2f}, of the average {mean:.2f} +- {error:.2f} nats")

# %% [markdown]
# The correction is no gain by itself. Without it these steps are 4 to 21 times as long as asked for, which helps where
# alpha is too small for ten epochs, and destroys the network where it is not. The average helps a noisy last iterate;
# one that still improves it lags behind. The same at length, on MNIST:

# %%
stored("ch07_experiments.bias_correction")

# %% [markdown]
# Look at "lost without": most at beta2 = 0.9999 without momentum. Not reproduced: that beta2 near 1 is best (0.99
# is, by 0.1 nats), and that the correction never harms (see alpha = 0.001 above). `minivi check ch07_adam` has more.
#
# ## 7. Try
#
# - In section 1: `alpha=0.01`, then `alpha=1.0` in `paths`. Which slows f more, ten times too short or too long?
# - In section 2: print `steps_of(np.where(k < 30, 1.0, -1.0))`. How long does it go the old way after the turn?
# - In section 2: `steps_of((0.9 / 0.95) ** k, beta1=0.95, beta2=0.9)`: is there a bound if beta1^2 > beta2?
# - In section 6: `beta2=0.99` for `optimizer`. Does the last line recover, and why?
