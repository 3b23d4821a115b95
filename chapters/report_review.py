"""Discrete latents: learning where no gradient passes through a sample (review report; thesis section 2.10.1).

A binary latent is drawn: 0 or 1. Move the weights of the network that drew it by a little, and the draw does not move.
So backpropagation gives the encoder nothing. How can it learn? Three answers are built here and raced: NVIL, VIMCO and
reweighted wake-sleep, each held against sums over all states. Equations are the report's, logs in nats. 20 seconds.
"""

# %% [markdown]
# ## 1. A model whose states can be counted (eq. 1, 2)
#
# A belief network: four latent bits h explain the 64 binary pixels x of a digit. The encoder q(h | x) gives a
# probability to each bit. The sums over h have 16 terms, so nothing has to be estimated:
#
# $$\log p(x) = \log \sum_h p(x, h) \; \ge \; L(x) = \sum_h q(h | x) [\log p(x, h) - \log q(h | x)]
#   = \log p(x) - KL(q(h | x) || p(h | x))$$

# %%
import numpy as np
from scipy.special import logsumexp

import minivi as mv
from minivi import bounds, data, estimators, evaluation, nn, ops, plots
from minivi.lesson import show, stored
from minivi.models import VAE, BeliefNetwork
from minivi.optim import Adam

# %%
rng, digits = mv.Generator(0), data.load("digits")
test = data.fresh(digits.test, rng)  # binary pixels
epoch = lambda rng: (data.fresh(grey, rng) for grey in data.batches(digits.train, size=100, rng=rng))  # 15 minibatches


def train(model, surrogate, epochs):
    """Adam on -surrogate(x, rng); yields after each step."""
    rng, optimizer = mv.Generator(2), Adam(model.parameters(), step_size=3e-3)
    for x in (x for _ in range(epochs) for x in epoch(rng)):
        yield optimizer.step(mv.grad(-surrogate(x, rng).mean(), optimizer.parameters))


belief = lambda latents: BeliefNetwork(64, (latents,), hidden=[(100,)], rng=mv.Generator(1))
sums = lambda model, x, h: (sum(model.log_p_parts(x, h)), sum(model.log_q_parts(x, h)))  # log p(x, h), log q(h | x)
small = belief(4)
list(train(small, lambda x, rng: estimators.reweighted_wake_sleep(small, x, rng), 10))  # section 5 says what this does
states = small.states()  # of its one layer of latents: [(16, 1, 4)]
log_p, log_q = (np.asarray(t)[:, 0] for t in sums(small, test[:1], states))
log_px, q = logsumexp(log_p), np.exp(log_q)
axes = plots.panel((fig := plots.figure(7.0, 2.8)).add_subplot(), "One image", "state h, bits 4 to 1", "probability")
axes.bar(np.arange(16) - 0.2, np.exp(log_p - log_px), 0.4, label="posterior p(h | x)", color="black")
axes.bar(np.arange(16) + 0.2, q, 0.4, label="encoder q(h | x)", color="#bbbbbb", edgecolor="black")
axes.set_xticks(range(16), [f"{i:04b}" for i in range(16)], fontsize=7)
axes.legend(fontsize=8)
show(fig, "states")
elbo, kl = q @ (log_p - log_q), q @ (log_q - log_p + log_px)
print(f"log p(x) = {log_px:.4f}   L = {elbo:.4f}   KL = {kl:.4f}   L + KL = {elbo + kl:.4f}")

# %% [markdown]
# ## 2. The score function (eq. 3, 4, 7)
#
# A gradient does not pass through h. But the probability of h has one:
#
# $$\nabla_\theta L = E_q[\nabla_\theta \log p(x, h)] \qquad \nabla_\phi L = E_q[l(x, h) \nabla_\phi \log q(h | x)]
#   \qquad l(x, h) = \log p(x, h) - \log q(h | x)$$
#
# The learning signal l is a number, not differentiated: it says how good the draw was. For 100 images:

# %%
x, length = test[:100], np.linalg.norm
networks = {"encoder": small.encoder[0].parameters(), "decoder": small.decoder[0].parameters()}
draw = lambda samples: small.draw_and_score(x, rng, samples)[0]
gradient = lambda f, name: np.concatenate([g.ravel() for g in mv.grad(f, networks[name])])
moments = lambda f, name: evaluation.gradient_moments(lambda: [gradient(f().mean(), name)], 500)
# The estimate of eq. 3, 4 as a surrogate: its gradient counts, not its value. np.asarray makes the signal a number.
score = lambda log_p, log_q: log_p + np.asarray(log_p - log_q) * log_q
log_p, log_q = sums(small, x, states)
bound = (ops.exp(log_q) * (log_p - log_q)).sum(axis=0).mean()
mean_score = (np.exp(np.asarray(log_q)) * score(log_p, log_q)).sum(axis=0).mean()
exact = {network: gradient(bound, network) for network in networks}
for network, g in exact.items():
    off, found = length(g - gradient(mean_score, network)), moments(lambda: score(*sums(small, x, draw(1))), network)
    noise = found.variance[0].sum() ** 0.5
    print(f"{network}: gradient {length(g):.3f} long; the estimate's noise {noise:.3f}, its mean off by {off:.0e}")

# %% [markdown]
# The estimate is right in the mean. For the decoder one is usable. For the encoder it is all noise: l is near -25 for
# good draws as for bad ones, and only its differences say anything.
#
# ## 3. NVIL: three reductions, one after the other (eq. 8)
#
# $$\nabla_\phi L = E_q\left[\frac{l(x, h) - C(x) - c}{\max(1, s)} \nabla_\phi \log q(h | x)\right]$$
#
# C(x) is a network that predicts the signal from the image, by least squares, and c the running mean of what it leaves.
# Neither knows h, and E[grad log q] = 0: neither changes the expectation. s, the running standard deviation
# of what is left, is not in the report, but in its source, Mnih and Gregor. `surrogate` is the whole algorithm.


# %%
def nvil(model, samples=1, use="c C s"):
    """NVIL's surrogate as a function of x and rng; C, c and s learn by the way."""
    network, c, s = nn.MLP((64, 100, 1), mv.Generator(3)), None, 1.0
    optimizer = Adam(network.parameters(), step_size=3e-3)

    def surrogate(x, rng, learn=True):
        nonlocal c, s
        (log_p, log_q), guess = sums(model, x, model.draw_and_score(x, rng, samples)[0]), network(x)[:, 0]
        signal = np.asarray(log_p - log_q)  # eq. 7
        c = signal.mean() if c is None else c
        signal = signal - c * ("c" in use)
        rest, divisor = signal - np.asarray(guess) * ("C" in use), max(1.0, s * ("s" in use))
        if learn:
            optimizer.step(mv.grad(((guess - signal) ** 2).mean(), optimizer.parameters))
            c, s = c + 0.2 * rest.mean(), 0.8 * s + 0.2 * rest.std()
        return (log_p + rest / divisor * log_q).mean(axis=0)  # eq. 3 and 8

    return surrogate


reductions = {"none": 0.0, "c": 0.0, "c C": 0.0, "c C s": 0.0}
for use in reductions:
    surrogate = nvil(small, use=use.replace("none", ""))
    _ = [surrogate(pixels, rng) for _ in range(20) for pixels in epoch(rng)]  # c, C and s learn, the model rests
    found = moments(lambda f=surrogate: f(x, rng, learn=False), "encoder")
    reductions[use] = found.variance[0].sum()
    share = found.mean[0] @ exact["encoder"] / length(exact["encoder"]) ** 2
    print(f"{use:5s} variance of the encoder's gradient {reductions[use]:7.3f}; its mean {share:.2f} of the true one")
axes = (fig := plots.figure(5.0, 2.8)).add_subplot()
plots.panel(axes, "The encoder's gradient", "reductions", "variance, nats squared", log="y")
axes.bar(list(reductions), reductions.values(), color="#999999", edgecolor="black")
show(fig, "reductions")

# %% [markdown]
# c and C leave the mean as it is, up to the noise of 500 draws. s takes down the gradient with its noise: it is there
# for the step size, which has to suit the large signal of early training and the small one later.
#
# ## 4. VIMCO: the other samples are the baseline (section 6.1; eq. 9, 10)
#
# K samples give a tighter bound, and a baseline for nothing. How much did sample k raise the bound? Replace its weight
# by the geometric mean of the others', and look:
#
# $$\hat L = \log \frac{1}{K} \sum_k w_k \qquad l_k = \hat L - \hat L_{-k} \qquad
#   \nabla \approx \sum_k l_k \nabla \log q(h_k | x) + \sum_k \tilde w_k \nabla \log w_k$$


# %%
def vimco(h, leave_one_out=True):
    """A surrogate, (B,), of K samples; without leaving one out, all of L is each one's signal."""
    log_p, log_q = sums(small, x, h)
    log_w = np.asarray(log_p - log_q)
    log_mean_exp = lambda a: logsumexp(a, axis=0) - np.log(len(log_w))
    others = [np.delete(log_w, k, axis=0) for k in range(len(log_w))]
    without = np.stack([log_mean_exp([*o, o.mean(axis=0)]) for o in others])
    signal = (log_mean_exp(log_w) - leave_one_out * without).astype("float32")
    return bounds.iwae(log_p - log_q) + (signal * log_q).sum(axis=0)


h = draw(5)
ours, theirs = (gradient(f.mean(), "encoder") for f in (vimco(h), estimators.vimco(small, x, h=h)))
print(f"encoder's gradient {length(theirs):.3f} long, ours and the library's differ by {length(ours - theirs):.0e}")
for label, switch in {"all of L": False, "leave-one-out": True}.items():
    variance = moments(lambda switch=switch: vimco(draw(5), switch), "encoder").variance[0].sum()
    print(f"signal {label:13s}: variance of the encoder's gradient {variance:8.3f}")

# %% [markdown]
# ## 5. Reweighted wake-sleep: no signal at all (eq. 12 to 15)
#
# Weigh the samples by w = p(x, h) / q(h | x), normalised over the K of an image. Both networks learn by maximum
# likelihood on samples that stand for the posterior; asleep, the encoder also learns from dreams, whose h is known:
#
# $$\nabla_\theta = \sum_k \tilde w_k \nabla_\theta \log p(x, h_k) \qquad
#   \nabla_\phi = \sum_k \tilde w_k \nabla_\phi \log q(h_k | x) \qquad \tilde w_k = w_k / \sum_j w_j$$
#
# Two formulas are printed otherwise. Eq. 11 has no weights; eq. 14's are not normalised: K p(x) times the true length.
# For the image of section 1, over all pairs of states (K = 2, so few that even with w~ eq. 14 is biased):


# %%
def wake(x, h):
    """Both wake phases of eq. 14, 15 as one surrogate, (B,)."""
    log_p, log_q = sums(small, x, h)
    w = np.exp(np.asarray(log_p - log_q))
    return (w / w.sum(axis=0) * (log_p + log_q)).sum(axis=0)


off = length((wake(x, h) - estimators.reweighted_wake_sleep(small, x, h=h, wake_q=1.0, sleep_q=0.0)).data, np.inf)
print(f"surrogates, {np.mean(wake(x, h).data):.1f} in the mean: ours and the library's differ by {off:.0e}")
pairs = [states[0][np.indices((16, 16)).reshape(2, -1), 0]]  # all pairs of states: (2, 256, 4)
image = np.repeat(test[:1], 256, axis=0)
log_p, log_q = sums(small, image, pairs)
log_w, chance = log_p - log_q, np.exp(np.asarray(log_q).sum(axis=0))
expected = lambda surrogate: gradient((chance * surrogate).sum(), "decoder")
of_log_p = gradient(ops.log_sum_exp(sums(small, test[:1], states)[0], axis=0).sum(), "decoder")
of_bound, right = expected(bounds.iwae(log_w)), expected(wake(image, pairs))
eq_11, eq_14 = expected(log_w.mean(axis=0)), expected((np.exp(np.asarray(log_w)) * log_p).sum(axis=0))
for name, true, printed in (("eq. 11: the bound", of_bound, eq_11), ("eq. 14: log p(x)", of_log_p, eq_14)):
    print(f"{name:17s} has a gradient {length(true):.2f} long; with w~ off by {length(right - true):.0e}", end=", ")
    print(f"as printed off by {length(printed - true):.2f} and {length(printed) / length(true):.1e} times as long")

# %% [markdown]
# ## 6. A race (the report's Figure 11)
#
# Ten binary latents, equal networks, equal steps; log p(x) by the sum over 1,024 states. The report says that several
# samples beat baselines and reparameterisation. Its NVIL has one sample; here one runs with five. AEVB's twin has ten
# Gaussian latents, which can say more than a bit each; its log p(x) is an estimate by 500 samples.

# %%
surrogates = {
    "NVIL, 1 sample": nvil, "AEVB, 1 sample": lambda m: m.elbo, "NVIL, 5 samples": lambda m: nvil(m, samples=5),
    "VIMCO, 5 samples": lambda m: lambda x, rng: estimators.vimco(m, x, rng, 5),
    "RWS, 5 samples": lambda m: lambda x, rng: estimators.reweighted_wake_sleep(m, x, rng, 5),
}  # fmt: skip
axes = (fig := plots.figure(7.0, 3.8)).add_subplot()
plots.panel(axes, "Ten latents on digits", "steps of Adam", "log p(x) of a test image, nats")
curves, images, at = [], [], (30, 60, 105, 150, 225, 300, 450, 675, 900)
for row, (name, surrogate) in enumerate(surrogates.items()):
    m = VAE(64, (100,), 10, rng=mv.Generator(1)) if name.startswith("AEVB") else belief(10)
    evaluate = getattr(m, "exact_log_likelihood", lambda x, m=m: evaluation.log_likelihood(m, x, rng, 500).values)
    curves.append([evaluate(test) for step, _ in enumerate(train(m, surrogate(m), 60), 1) if step in at])
    last, more, elbo = curves[-1][-1], curves[-1][-1] - curves[0][-1], evaluation.elbo(m, test, rng, 100).mean
    error = more.std() / len(test) ** 0.5  # of a difference image by image
    print(f"{name:16s} log p(x) {last.mean():.2f}, {more.mean():+.2f} +- {error:.2f} to row 1; L {elbo:.2f}")
    images.append(m.sample(24, rng)[0])
    axes.plot(at, [v.mean() for v in curves[-1]], label=name, **plots.style(row))
axes.set_ylim(-26.5, None)
axes.legend(fontsize=8)
show(fig, "race")
sheet = plots.tile(np.concatenate(images), digits.shape, 24)
plots.show((fig := plots.figure(8.0, 2.2)).add_subplot(), sheet, f"Dreams, row by row: {'; '.join(surrogates)}")
show(fig, "dreams")

# %% [markdown]
# Five samples help the binary models, but the Gaussian twin is ahead of all. And look at L, the bound of one sample:
# NVIL with five, which trains it, is ahead of VIMCO and RWS, whose encoders fit other divergences. So the bound, which
# Figure 11 shows, ranks these methods otherwise than log p(x) does. Two other seeds gave both orders again.
#
# ## 7. The report's own runs
#
# Its AEVB on MNIST for 2 to 50 latents (Figure 3, a picture, so no number is reproduced). Look how little 50 add to 20,
# and that they do not overfit. `minivi check report_review` holds the equations against sums over all states;
# `minivi where "review report 8"` names the library's lines.

# %%
stored("report_review.latents")

# %% [markdown]
# ## 8. Try
#
# - In section 3: "decoder" for "encoder", three times. Which reductions touch the gradient of the decoder, and why?
# - In section 4: 2, then 50 samples for 5. What happens to both variances?
# - In section 5: print `gradient(wake(x, h).mean(), "encoder")`, then use `log_p` alone in `wake`. What does it say?
# - In section 6: add `lambda m: nvil(m, use="")`. How far do log p(x) and the bound get: which network is to blame?
# - In section 6: add wake-sleep, RWS with 1 sample, `wake_q=0.0, sleep_q=1.0`. Where does it end, and its bound?
