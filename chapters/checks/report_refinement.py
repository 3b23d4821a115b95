"""Checks of the refinement report: iterative refinement of posteriors (eq. 1 to 9), and Hamiltonian inference."""

import itertools

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp, rel_entr
from scipy.stats import bernoulli, norm

from minivi import evaluation, optim, refinement
from minivi.distributions import Bernoulli, Normal
from minivi.experiments import Claim, check
from minivi.models import BeliefNetwork, HamiltonianVAE
from minivi.random import Generator
from minivi.small import PATTERNS, along, differences, grid, largest, random_direction, shake, slope, small_vae
from minivi.tensor import grad, no_grad

# %% [markdown]
# ## The equations, checked
#
# A belief network of four pixels and three bits: its log p(x, h) is written out in SciPy from the weights, and every
# expectation is a sum over the eight states. A VAE of one latent, whose expectations are sums over a grid. Each step of
# refinement is compared with differences of such sums. X are two images.

# %%
X = np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
STATES = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
EPS, DISTANCE = grid(10.0, 801)


def network():
    """Random weights; the recognition network is no good."""
    model = BeliefNetwork(4, (3,), rng=Generator(40), dtype="float64")
    return shake(model, Generator(41).standard_normal, 0.8)


def decoded(model, h):
    """log p(x | h), (..., B), of bits, or of means, (..., B, 3)."""
    (linear,) = model.decoder[0].network.layers
    return bernoulli.logpmf(X, expit(h @ linear.weight.data + linear.bias.data)).sum(axis=-1)


def log_joint(model):
    """log p(x, h) of the states, (8, B)."""
    prior = bernoulli.logpmf(STATES, expit(model.decoder[1].bias.data)).sum(axis=1)
    return decoded(model, STATES[:, None]) + prior[:, None]


def log_q(mean):
    """log q~(h) of the states, (8, B), for means (B, 3)."""
    return bernoulli.logpmf(STATES[:, None], mean).sum(axis=-1)


def bound(model, mean):
    """Eq. 1: sum_h q~ (log p(x, h) - log q~), (B,)."""
    return (np.exp(log_q(mean)) * (log_joint(model) - log_q(mean))).sum(axis=0)


def start(model):
    """The recognition network's means, (B, 3), by SciPy from its weights."""
    (linear,) = model.encoder[0].network.layers
    return expit(X @ linear.weight.data + linear.bias.data)


def uniform(states):
    """Uniform numbers (1, N, B, 3) that draw the states (N, 3) for each image, from any means."""
    return (np.tile(np.where(states == 1, 0.0, 1.0 - 1e-12)[:, None], (1, len(X), 1)))[None]


def numeric(f, z, h=1e-5):
    """df_b / dz_bj of a function of rows, z (B, J) -> (B,), by central differences: (B, J)."""
    return np.stack([(f(z + h * e) - f(z - h * e)) / (2 * h) for e in np.eye(z.shape[1])], axis=-1)


def integrated(vae, mu, log_sigma):
    """The bound (eq. 1) of one-dimensional Gaussians, (B,): log p(x | h) summed over the grid, the divergence exact."""
    weights = norm.pdf(EPS) * DISTANCE
    reconstruction = weights @ np.asarray(vae.decode(mu + np.exp(log_sigma) * EPS[:, None, None]).log_prob(X))
    return reconstruction - (0.5 * (mu**2 + np.exp(2 * log_sigma) - 1) - log_sigma)[:, 0]


def vae_and_start():
    """A VAE of one latent and its recognition network's (mu, log sigma) of X, each (2, 1)."""
    vae = shake(small_vae(3), Generator(5).standard_normal, 0.7)
    q = vae.encode(X)
    return vae, q.mu.data, q.log_sigma.data


# %% Sections 2 to 4
@check("refinement report 1", "the sum over states and the mean over N samples are one bound, at most log p(x)")
def bound_of_any_posterior():
    """Refined, random and recognition posteriors: SciPy's sum, and 100,000 samples of the library."""
    model, claims = network(), []
    log_p = logsumexp(log_joint(model), axis=0)
    refined = expit(refinement.refine_bernoulli(model, X, Generator(42), 20, 200, 0.3).logits)
    for label, mean in {"recognition network's": start(model), "random": STATES[[1, 6]] * 0.5 + 0.2,
                        "refined": refined}.items():  # fmt: skip
        held = refinement.Refined(model, lambda m, x, rng, mean=mean: Bernoulli(logit(mean)))
        drawn = np.asarray(held.log_weights(X, Generator(43), 100_000))
        error = 4 * drawn.std(axis=0).max() / np.sqrt(len(drawn))
        claims += [
            Claim(np.min(log_p - bound(model, mean)), ">=", 1e-3, 0.0, f"{label}: smallest gap, nats"),
            Claim(largest(drawn.mean(axis=0), bound(model, mean)), "<=", error, 0.0, f"{label}: sampled"),
        ]
    return claims


@check("refinement report 2", "the posterior is a product: its log is a sum over latents, and some gap always stays")
def factorised():
    """The library's log q~ against SciPy's; the best product, found by SciPy, is below log p(x)."""
    model = network()
    q = refinement.refine_bernoulli(model, X, Generator(42), 5, 50, 0.3)
    best = [
        -minimize(lambda z, b=b: -bound(model, expit(np.tile(z, (2, 1))))[b], np.zeros(3)).fun for b in range(len(X))
    ]
    return [
        Claim(largest(q.log_prob(STATES[:, None]), log_q(expit(q.logits))), "=", 0.0, 1e-12, "log q~, largest error"),
        Claim(np.exp(log_q(expit(q.logits))).sum(axis=0).max(), "=", 1.0, 1e-12, "sum over states"),
        Claim(np.min(logsumexp(log_joint(model), axis=0) - best), ">=", 1e-3, 0.0, "gap of the best product, nats"),
    ]


@check(
    "refinement report 3, refinement report 4", "z moves by gamma times the gradient of the sampled bound: an ascent"
)
def one_step():
    """Against differences on the same 7 samples. The text calls eq. 3 a loss: a descent, as of a loss, loosens it."""
    vae, mu, log_sigma = vae_and_start()
    eps = Generator(44).standard_normal((1, 7, 2, 1))

    def sampled(z):
        h = z[:, :1] + np.exp(z[:, 1:]) * eps[0]
        log_p_x = np.asarray(vae.decode(h).log_prob(X)).mean(axis=0)
        return log_p_x - 0.5 * (z[:, 0] ** 2 + np.exp(2 * z[:, 1]) - 1) + z[:, 1]

    z = np.concatenate([mu, log_sigma], axis=1)
    q = refinement.refine_gaussian(vae, X, None, 1, 0.05, eps=eps)
    moved = np.concatenate([q.mu, q.log_sigma], axis=1) - z
    return [
        Claim(largest(moved, 0.05 * numeric(sampled, z)), "=", 0.0, 1e-9, "the step, largest error"),
        Claim(np.min(sampled(z + moved) - sampled(z)), ">=", 1e-3, 0.0, "plus: gain of the bound, least"),
        Claim(np.max(sampled(z - moved) - sampled(z)), "<=", -1e-3, 0.0, "minus: largest change"),
    ]


@check("refinement report 5", "h = mu + sigma eps has standard deviation sigma, which the text calls the variance")
def standard_deviation():
    """Moments of 200,000 draws; and the divergence in the step is that of a deviation sigma."""
    q = Normal(np.array([[0.3, -1.0]]), np.log(np.array([[0.5, 2.0]])))
    h = np.asarray(q.rsample(Generator(45).standard_normal((200_000, 1, 2))))[:, 0]
    line, distance = grid(30.0, 6001)
    kl = [np.sum(rel_entr(norm.pdf(line, m, s), norm.pdf(line))) * distance for m, s in ((0.3, 0.5), (-1.0, 2.0))]
    variance = h.var(axis=0)
    return [
        Claim(largest(variance, [0.25, 4.0]), "<=", 0.05, 0.0, "variance from sigma^2"),
        Claim(np.min(np.abs(variance - [0.5, 2.0])), ">=", 0.2, 0.0, "variance from sigma: as the text has it"),
        Claim(float(np.asarray(q.kl()).sum()), "=", sum(kl), 1e-6, "KL(q~ || p(h)), nats"),
    ]


@check("refinement report section 4.1", "the E step arrives at the best posterior of its family")
def best_gaussian():
    """200 steps of 200 samples against SciPy's maximum of the integrated bound; the gain grows with T."""
    vae = vae_and_start()[0]
    of = lambda b, p: integrated(vae, np.full((2, 1), p[0]), np.full((2, 1), p[1]))[b]
    best = np.array([-minimize(lambda p, b=b: -of(b, p), [0.0, 0.0]).fun for b in range(len(X))])
    values = []
    for steps in (0, 5, 20, 200):
        q = refinement.refine_gaussian(vae, X, Generator(46), steps, 0.1, 200)
        values.append(integrated(vae, q.mu, q.log_sigma))
    return [
        Claim(largest(values[-1], best), "<=", 0.01, 0.0, "200 steps: from the best, nats"),
        Claim(np.min(np.diff(values, axis=0)), ">=", 0.0, 0.002, "smallest gain from 0 to 5, 20, 200 steps"),
        Claim(np.min(best - values[0]), ">=", 0.05, 0.0, "the recognition network: from the best, nats"),
    ]


@check(
    "refinement report section 4.2, refinement report 6", "the M step: samples of q~ for theta, -KL(q~ || q) for phi"
)
def m_step():
    """Over all states, with q~ held, against differences of SciPy's sums; the divergence the other way is another."""
    model, mean = network(), np.array([[0.7, 0.3, 0.2], [0.4, 0.6, 0.9]])
    directions = {part: random_direction(model, part) for part in ("decoder", "encoder")}

    def surrogate():
        total = 0.0
        for state in STATES:
            held = Bernoulli(logit(mean))
            held.sample = lambda rng, shape, state=state: np.tile(state, (*shape, len(X), 1))
            chance = np.exp(bernoulli.logpmf(state, mean).sum(axis=1))
            total = total + chance * refinement.Refined(model, lambda m, x, rng, q=held: q).surrogate(
                X, Generator(0), 1
            )
        return total.sum()

    joint = lambda: (np.exp(log_q(mean)) * log_joint(model)).sum()
    kl = lambda p, q: (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).sum()
    phi = slope(model, lambda: -kl(mean, start(model)), directions["encoder"])
    other = slope(model, lambda: -kl(start(model), mean), directions["encoder"])
    theta = slope(model, joint, directions["decoder"])
    scalar = surrogate()
    return [
        Claim(along(model, scalar, directions["decoder"]), "=", theta, 1e-7, "theta"),
        Claim(along(model, scalar, directions["encoder"]), "=", phi, 1e-7, "phi"),
        Claim(abs(phi - other), ">=", 0.05, 0.0, "phi by KL(q || q~) instead: difference"),
    ]


@check("refinement report section 2, text", "without steps phi is not trained; small ones ascend the bound")
def limit_of_no_steps():
    """The text says that eq. 6 becomes variational inference without steps. With q~ = q the divergence is 0, and flat.

    For small gamma -grad KL / gamma follows the bound's gradient in the logits times mu (1 - mu), their Fisher
    information: an ascent of the bound, if not along its gradient in phi.
    """
    model, direction = network(), random_direction(network(), "encoder")
    derivative = lambda refine: along(
        model, refinement.Refined(model, refine).surrogate(X, Generator(0), 1).sum(), direction
    )
    logits = logit(start(model))
    ascent = numeric(lambda z: bound(model, expit(z)), logits)
    fisher = start(model) * (1 - start(model))
    right = slope(model, lambda: (fisher * ascent * logit(start(model))).sum(), direction)
    step = lambda m, x, rng: Bernoulli(logits + 1e-6 * ascent)
    moves = np.array([m.ravel() for m in (fisher * ascent, ascent)])
    return [
        Claim(derivative(lambda m, x, rng: refinement.refine_mean_field(m, x, 0)), "=", 0.0, 1e-12, "no steps"),
        Claim(derivative(step) / 1e-6, "=", right, 1e-4, "gamma = 1e-6, divided by gamma"),
        Claim(moves[0] @ moves[1], ">=", 1e-3, 0.0, "inner product with the bound's gradient"),
    ]


# %% Section 5
def parametric(model, mean):
    """<log p(h)> + H(q~) of a product of Bernoullis, (B,)."""
    prior = model.decoder[1].bias.data
    return (mean * prior - np.logaddexp(0, prior) - mean * np.log(mean) - (1 - mean) * np.log1p(-mean)).sum(axis=-1)


@check("refinement report 7", "MPVI follows log p(x | mu) + <log p(h)> + H, prior and entropy exact; it is no bound")
def mean_field():
    """One step against differences; the two exact terms against sums over states. Eq. 7 is the loss: minus that."""
    model = network()
    logits = logit(start(model))
    objective = lambda z: decoded(model, expit(z)) + parametric(model, expit(z))
    moved = refinement.refine_mean_field(model, X, 1, 0.3).logits - logits
    mean = start(model)
    prior = log_joint(model) - decoded(model, STATES[:, None])
    summed = (np.exp(log_q(mean)) * (prior - log_q(mean))).sum(axis=0)
    return [
        Claim(largest(moved, 0.3 * numeric(objective, logits)), "=", 0.0, 1e-9, "the step, largest error"),
        Claim(largest(parametric(model, mean), summed), "=", 0.0, 1e-12, "<log p(h)> + H: sum over states"),
        Claim(np.min(np.abs(objective(logits) - bound(model, mean))), ">=", 0.02, 0.0, "it is not the bound, nats"),
        Claim(np.max(bound(model, mean) - objective(logits)), "<=", 0.0, 0.0, "log p(x | h) is concave: it is above"),
    ]


@check("refinement report 8", "straight-through: d log p(x | h) / dh for the mean's; the printed line lacks d mu / dz")
def straight_through():
    """All states of one sample, averaged. Without mu (1 - mu) the step is another; neither is the gradient."""
    model = network()
    logits, mean = logit(start(model)), start(model)
    (linear,) = model.decoder[0].network.layers
    chance = np.exp(log_q(mean))
    by_state = [
        refinement.refine_straight_through(model, X, None, 1, 1.0, uniform=uniform(h[None])).logits for h in STATES
    ]
    step = np.einsum("sb,sbj->bj", chance, np.array(by_state) - logits)
    slopes = (X - expit(STATES[:, None] @ linear.weight.data + linear.bias.data)) @ linear.weight.data.T
    slopes = np.einsum("sb,sbj->bj", chance, slopes)
    rest = numeric(lambda z: parametric(model, expit(z)), logits)
    true = numeric(lambda z: bound(model, expit(z)), logits)
    cosine = (step * true).sum() / np.sqrt((step**2).sum() * (true**2).sum())
    return [
        Claim(largest(step, slopes * mean * (1 - mean) + rest), "=", 0.0, 1e-8, "with d mu / dz, largest error"),
        Claim(largest(step, slopes + rest), ">=", 0.1, 0.0, "as printed: largest difference"),
        Claim(largest(step, true), ">=", 0.01, 0.0, "the bound's gradient: largest difference (a bias)"),
        Claim(cosine, ">=", 0.8, 0.0, "cosine between the two"),
    ]


def one_of(model, mean, proposal, states):
    """Eq. 9 by SciPy: the new means (B, J) from states (N, 3), weighted by p(x, h) / proposal(h)."""
    index = [int(h @ [4, 2, 1]) for h in states]
    log_w = (log_joint(model) - log_q(proposal))[index]
    weight = np.exp(log_w - logsumexp(log_w, axis=0))
    return np.einsum("nb,nj->bj", weight, states)


@check("refinement report 9", "AVI: all pairs of states; the damped form mixes with the mean before")
def adaptive_importance_sampling():
    """One step over all 64 pairs, each with its probability, for dampings of 1 (as printed) and 0.3."""
    model, claims = network(), []
    mean = start(model)
    for damping in (1.0, 0.3):
        got, right = np.zeros((2, 3)), np.zeros((2, 3))
        for pair in itertools.product(range(8), repeat=2):
            chance = np.exp(log_q(mean)[list(pair)].sum(axis=0))[:, None]
            states = STATES[list(pair)]
            q = refinement.refine_bernoulli(model, X, None, 1, 2, damping, uniform=uniform(states))
            got += chance * expit(q.logits)
            new = (1 - damping) * mean + damping * one_of(model, mean, mean, states)
            right += chance * np.clip(new, 1e-4, 1 - 1e-4)
        claims.append(Claim(largest(got, right), "=", 0.0, 1e-10, f"damping {damping}: largest error"))
    return claims


@check("refinement report 9, slip", "the weight's q is q~(h; mu_t), whence h came: with q(h | x) the limit is wrong")
def proposal():
    """Two steps of 200,000 samples. p / q~ leads to the posterior's means; p / q(h | x), as printed, elsewhere."""
    model = network()
    posterior = np.exp(log_joint(model) - logsumexp(log_joint(model), axis=0))
    right = posterior.T @ STATES
    got = expit(refinement.refine_bernoulli(model, X, Generator(47), 2, 200_000).logits)
    w = np.exp(log_q(right) + log_joint(model) - log_q(start(model)))  # samples of step 2, weighted as printed
    printed = (w / w.sum(axis=0)).T @ STATES
    return [
        Claim(largest(got, right), "<=", 0.01, 0.0, "p / q~: from the posterior's means"),
        Claim(largest(printed, right), ">=", 0.05, 0.0, "p / q(h | x): from the posterior's means"),
        Claim(np.min(bound(model, right) - bound(model, start(model))), ">=", 0.05, 0.0, "gain of the bound, nats"),
    ]


# %% Table 1: Hamiltonian variational inference (Salimans et al. 2015; thesis section 5.5)
def hamiltonian(steps, size=0.2, latents=1):
    """A model of ``latents`` latents with random weights; its reverse model is N(0, I)."""
    options = {"steps": steps, "step_size": size, "reverse": 8, "rng": Generator(48), "dtype": "float64"}
    model = HamiltonianVAE(4, (3,), latents, **options)
    shake(model.vae, Generator(49).standard_normal, 0.7)
    return model


@check("thesis section 5.5", "leapfrog preserves volume, runs backwards, and loses energy as the square of its step")
def leapfrog():
    """The Jacobian by differences; the energy -log p(x, z) + v^2 / 2 along one unit of time."""
    model, x = hamiltonian(4, 0.3, latents=2), X[:1]

    def flow(rows, model=model):
        with no_grad():
            z, v = model.leapfrog(np.tile(x, (len(rows), 1)), rows[None, :, :2], rows[None, :, 2:])
        return np.concatenate([np.asarray(z)[0], np.asarray(v)[0]], axis=1)

    at = Generator(50).standard_normal((5, 4))
    back = flow(flow(at) * [1, 1, -1, -1]) * [1, 1, -1, -1]
    volume = np.linalg.det(differences(flow, at))

    def energy(rows):
        with no_grad():
            return 0.5 * (rows[:, 2:] ** 2).sum(axis=1) - np.asarray(model.log_joint(x, rows[None, :, :2]))[0]

    errors = [largest(energy(flow(at, hamiltonian(t, 1 / t, latents=2))), energy(at)) for t in (20, 40)]
    return [
        Claim(largest(volume, 1.0), "=", 0.0, 1e-7, "det of the Jacobian less 1"),
        Claim(largest(back, at), "=", 0.0, 1e-11, "there and back, momentum turned round"),
        Claim(largest(flow(at), at), ">=", 0.1, 0.0, "distance travelled"),
        Claim(errors[0] / errors[1], "=", 4.0, 0.2, "energy error, step size 1/20 over 1/40"),
    ]


@check("thesis section 5.5, Table 1", "HVI is a bound on log p(x): its weights average to p(x), and it rises with T")
def hamiltonian_bound():
    """The exact marginal by quadrature. Only step sizes and reverse model learn, 200 steps."""
    claims, means = [], []
    for steps in (1, 4):
        model = hamiltonian(steps)
        exact = evaluation.log_likelihood_by_quadrature(model.vae, PATTERNS, 400, 9.0)
        rest = [p for name, p in model.named_parameters() if not name.startswith("vae")]
        optimizer, rng = optim.Adam(rest, 0.02), Generator(51)
        for _ in range(200):
            optimizer.step(grad(-model.elbo(PATTERNS, rng, 4).mean(), rest))
        with no_grad():
            log_w = np.asarray(model.log_weights(PATTERNS, Generator(52), 30_000))
        ratio = np.exp(log_w - exact.values)
        error = ratio.std(axis=0).max() / np.sqrt(len(ratio))
        claims += [
            Claim(largest(ratio.mean(axis=0), 1.0), "<=", 5 * error, 0.0, f"T = {steps}: mean w / p(x), less 1"),
            Claim(error, "<=", 0.02, 0.0, f"T = {steps}: its standard error"),
            Claim(np.min(exact.values - log_w.mean(axis=0)), ">=", 1e-3, 0.0, f"T = {steps}: smallest gap, nats"),
        ]
        means.append(log_w.mean())
    plain = evaluation.elbo(model.vae, PATTERNS, Generator(53), 4000).mean
    return [
        *claims,
        Claim(means[0] - plain, ">=", 0.02, 0.0, "T = 1 above the VAE, nats"),
        Claim(means[1] - means[0], ">=", 0.02, 0.0, "T = 4 above T = 1, nats"),
    ]


@check("thesis section 5.5, no step", "with a step size of zero HVI is the VAE, bit for bit")
def no_step():
    """Log-weights of the same noise; the reverse model starts as N(0, I)."""
    model = hamiltonian(1, 0.0)
    ours, vae = (np.asarray(m.log_weights(PATTERNS, Generator(54), 6)) for m in (model, model.vae))
    return Claim(int((ours != vae).sum()), "=", 0, 0.0, "log-weights that differ")
