"""Checks of chapter 2, first part: auto-encoding variational Bayes."""

import numpy as np
from scipy.stats import multivariate_normal, norm

from minivi import bounds, evaluation, ops
from minivi.experiments import Claim, check
from minivi.random import Generator
from minivi.small import PATTERNS, along, grid, jacobian, random_direction, slope, small_vae
from minivi.tensor import Tensor, grad

# %% [markdown]
# ## The equations, checked
#
# A model small enough to integrate: four binary pixels, one latent, random weights. Integrals over z (or eps) are sums
# over a grid, which for such smooth functions are exact to rounding.

# %%
GRID, STEP = grid(30.0, 6001)


def tiny(latents=1, seed=0):
    """The small model."""
    return small_vae([seed, 99], latents)


def parts(vae, x=PATTERNS):
    """log p(x | z), log p(z) and log q(z | x) on the grid of z, each (grid, B)."""
    z = np.broadcast_to(GRID[:, None, None], (len(GRID), len(x), 1))
    log_px_z = np.asarray(vae.decode(z).log_prob(x))
    q = vae.encode(x)
    log_qz_x = norm.logpdf(z[..., 0], np.asarray(q.mu)[:, 0], np.exp(np.asarray(q.log_sigma))[:, 0])
    return log_px_z, norm.logpdf(z[..., 0]), log_qz_x


def integral(values):
    """Over the grid's axis."""
    return np.sum(values, axis=0) * STEP


def exact(vae, x=PATTERNS):
    """log p(x) (eq. 1.13), the ELBO (2.10) and KL(q || p(z | x)) (2.8), each (B,), by integration."""
    log_px_z, log_pz, log_qz_x = parts(vae, x)
    joint, q = log_px_z + log_pz, np.exp(log_qz_x)
    log_px = np.log(integral(np.exp(joint)))
    elbo = integral(q * (joint - log_qz_x))
    kl = integral(q * (log_qz_x - (joint - log_px)))
    return log_px, elbo, kl


def noise_integral(vae, x=PATTERNS):
    """E over p(eps) of the estimator of eq. 2.29, as a differentiable scalar: the mean over data."""
    eps = np.broadcast_to(GRID[:, None, None], (len(GRID), len(x), 1))
    log_w = vae.log_weights(x, eps=eps)
    return (log_w * (norm.pdf(GRID) * STEP)[:, None]).sum(axis=0).mean()


# %% Section 1.6
@check("1.13", "the marginals p(x) of all 16 patterns, integrated over z, sum to one")
def marginals_sum_to_one():
    """Total probability."""
    return Claim(np.exp(exact(tiny())[0]).sum(), "=", 1.0, 1e-10)


@check("1.14, 1.15", "log p(x, z) of the model = log of prior density times pixel probabilities")
def joint_is_a_product():
    """A product of numbers against a sum of logs."""
    vae, x = tiny(), PATTERNS[5:6]
    terms = vae.terms(x, eps=np.array([[[0.7]]]))
    z = float(np.asarray(terms.z).ravel()[0])
    p = vae.mean_image(np.array([[z]]))[0]
    product = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * np.prod(np.where(x[0] == 1, p, 1 - p))
    return Claim((terms.log_px_z + terms.log_pz).item(), "=", np.log(product), 1e-12)


@check("1.16-1.18", "log p(x | z) from logits = sum_j x_j log p_j + (1 - x_j) log(1 - p_j)")
def bernoulli_from_logits():
    """The stable form against the printed one."""
    logits = np.linspace(-4, 4, 12).reshape(3, 4)
    x = PATTERNS[[3, 6, 12]]
    p = 1 / (1 + np.exp(-logits))
    printed = np.sum(x * np.log(p) + (1 - x) * np.log(1 - p))
    return Claim(np.sum(ops.bernoulli_log_prob(x, logits)), "=", printed, 1e-12)


# %% Section 2.3
@check("2.5-2.8", "log p(x) = ELBO + KL(q(z | x) || p(z | x)), averaged over the patterns")
def decomposition():
    """Three separate integrals."""
    log_px, elbo, kl = exact(tiny())
    return Claim(log_px.mean(), "=", (elbo + kl).mean(), 1e-10)


@check("2.9", "the KL divergence is not negative, and zero for the true posterior")
def kl_not_negative():
    """The smallest over patterns and models; and q set to p(z | x)."""
    smallest = min(exact(tiny(seed=s))[2].min() for s in range(5))
    log_px_z, log_pz, _ = parts(tiny())
    joint = log_px_z + log_pz
    posterior = np.exp(joint - np.log(integral(np.exp(joint))))
    at_posterior = integral(posterior * (np.log(np.maximum(posterior, 1e-300)) - joint)) + exact(tiny())[0]
    return [
        Claim(smallest, ">=", 0.0, 0.0, "smallest"),
        Claim(np.abs(at_posterior).max(), "=", 0.0, 1e-10, "at p(z | x)"),
    ]


@check("2.10", "the sampled bound agrees with its integral within 4 standard errors")
def elbo_by_sampling():
    """20,000 samples a pattern."""
    vae = tiny()
    log_w = np.asarray(vae.log_weights(PATTERNS, Generator(0), 20_000)).mean(axis=1)
    return Claim(log_w.mean(), "=", exact(vae)[1].mean(), 4 * log_w.std() / np.sqrt(len(log_w)))


@check("2.11, 2.12", "the bound lies below log p(x) for every pattern of five models")
def elbo_below_likelihood():
    """The largest ELBO - log p(x)."""
    gaps = [exact(tiny(seed=s)) for s in range(5)]
    return Claim(max((elbo - log_px).max() for log_px, elbo, _ in gaps), "<=", 0.0, 0.0)


# %% Section 2.4
@check("2.13", "the mean over minibatches of the bound's gradient is the gradient over all data")
def minibatches_are_unbiased():
    """Four minibatches of four patterns, the noise frozen for each pattern."""
    vae, eps = tiny(), Generator(1).standard_normal((1, 16, 1))
    direction = random_direction(vae)
    whole = along(vae, vae.log_weights(PATTERNS, eps=eps).mean(), direction)
    order = Generator(2).permutation(16).reshape(4, 4)
    batches = [along(vae, vae.log_weights(PATTERNS[b], eps=eps[:, b]).mean(), direction) for b in order]
    return Claim(np.mean(batches), "=", whole, 1e-12)


@check("2.14-2.17", "the decoder's gradient of the bound = E_q[grad log p(x, z)]")
def decoder_gradient():
    """Difference of the integrated bound against the integrated gradient of log p(x, z) at fixed z."""
    vae = tiny()
    direction = random_direction(vae, "decoder")
    q = np.exp(parts(vae)[2])
    z = np.broadcast_to(GRID[:, None, None], (len(GRID), 16, 1))
    log_joint = vae.decode(z).log_prob(PATTERNS)  # log p(z) has no parameters
    right = along(vae, (log_joint * (q * STEP)).sum(axis=0).mean(), direction)
    return Claim(slope(vae, lambda: exact(vae)[1].mean(), direction), "=", right, 1e-8)


@check("2.18, 2.19", "with z held fixed, E_q[grad_phi(log p - log q)] is 0 and not the encoder's gradient")
def naive_encoder_gradient():
    """Why the encoder's gradient is more difficult."""
    vae = tiny()
    direction = random_direction(vae, "encoder")
    q_now = np.exp(parts(vae)[2])
    z = np.broadcast_to(GRID[:, None, None], (len(GRID), 16, 1))
    naive = along(vae, -(vae.encode(PATTERNS).log_prob(z) * (q_now * STEP)).sum(axis=0).mean(), direction)
    true = slope(vae, lambda: exact(vae)[1].mean(), direction)
    return [Claim(naive, "=", 0.0, 1e-10, "held fixed"), Claim(abs(true), ">=", 0.01, 0.0, "true gradient, size")]


# %% Section 2.5
@check("2.20, 2.21", "E_q[f(z)] = E_p(eps)[f(mu + sigma eps)] for f(z) = sin(z) + z^2")
def change_of_variables():
    """One integral over z, one over eps."""
    mu, sigma = 0.4, 0.7

    def f(z):
        return np.sin(z) + z * z

    left = integral(norm.pdf(GRID, mu, sigma) * f(GRID))
    return Claim(left, "=", integral(norm.pdf(GRID) * f(mu + sigma * GRID)), 1e-10)


@check("2.22-2.24", "grad_phi E_q[f(z)] = E_p(eps)[grad_phi f(mu + sigma eps)]")
def gradient_moves_inside():
    """For f(z) = sin(z) + z^2, E f = sin(mu) exp(-sigma^2 / 2) + mu^2 + sigma^2 has hand-made derivatives."""
    mu, log_sigma = Tensor(np.array([0.4])), Tensor(np.array([-0.3]))
    z = mu + ops.exp(log_sigma) * GRID
    sine = z - z**3 / 6 + z**5 / 120  # the engine has no sine; its polynomial is a fine f
    value = ((sine + z * z) * (norm.pdf(GRID) * STEP)).sum()
    got = np.concatenate(grad(value, [mu, log_sigma]))
    m, v = 0.4, np.exp(-0.6)
    # moments of N(m, v): E z^3 = m^3 + 3 m v, E z^5 = m^5 + 10 m^3 v + 15 m v^2
    d_mu = 1 - (3 * m**2 + 3 * v) / 6 + (5 * m**4 + 30 * m**2 * v + 15 * v**2) / 120 + 2 * m
    d_v = -3 * m / 6 + (10 * m**3 + 30 * m * v) / 120 + 1
    return [Claim(got[0], "=", d_mu, 1e-10, "mu"), Claim(got[1], "=", d_v * 2 * v, 1e-10, "log sigma")]


@check("2.25-2.29", "E over eps of log p(x, z) - log q(z | x) is the bound")
def reparameterised_bound():
    """The integral over eps through the model's own code, against the integral over z."""
    vae = tiny()
    return Claim(noise_integral(vae).item(), "=", exact(vae)[1].mean(), 1e-10)


@check("2.30-2.32", "the reparameterised gradient, averaged over eps, is the gradient of the bound")
def unbiased_gradient():
    """The engine's gradient, integrated over eps, against a difference of the integrated bound."""
    vae = tiny()
    direction = random_direction(vae)
    right = along(vae, noise_integral(vae), direction)
    return Claim(slope(vae, lambda: exact(vae)[1].mean(), direction), "=", right, 1e-8)


# %% Section 2.6
@check("2.33-2.35", "log q(z | x) = log p(eps) - log |det dz/deps| for a nonlinear transform")
def density_of_a_transform():
    """z = sinh-like growth of a triangular map: the density integrates to one over z (1-D)."""
    eps = np.linspace(-8, 8, 4001)
    z = Tensor(eps) * 0.8 + ops.tanh(Tensor(eps))
    leaf = Tensor(eps)
    dz = grad((leaf * 0.8 + ops.tanh(leaf)).sum(), leaf)
    log_q = norm.logpdf(eps) - np.log(np.abs(dz))
    total = np.trapezoid(np.exp(log_q), np.asarray(z))
    return Claim(total, "=", 1.0, 1e-5)


@check("2.36-2.42", "the factorised Gaussian: log |det dz/deps| = sum log sigma_i")
def diagonal_jacobian():
    """The full Jacobian's slogdet."""
    mu, log_sigma, eps = np.array([0.1, -0.4, 2.0]), np.array([0.3, -1.0, 0.5]), np.array([0.2, 1.5, -0.7])
    full = jacobian(lambda e: ops.gaussian_sample(mu, log_sigma, e), eps)
    return Claim(np.linalg.slogdet(full)[1], "=", log_sigma.sum(), 1e-12)


@check("2.43, 2.44", "log p(eps) - sum log sigma is the log-density of N(mu, diag(sigma^2)) at z")
def diagonal_density():
    """The model's log q(z | x), computed from eps, against SciPy's density at z."""
    vae = tiny(latents=3)
    terms = vae.terms(PATTERNS[:5], Generator(3))
    mu, sigma, z = np.asarray(terms.q.mu), np.exp(np.asarray(terms.q.log_sigma)), np.asarray(terms.z)[0]
    return Claim(np.asarray(terms.log_qz_x).sum(), "=", norm.logpdf(z, mu, sigma).sum(), 1e-11)


def full_covariance(seed=5, size=4):
    """mu, log sigma and L of eq. 2.53, 2.54, as an encoder might give them."""
    rng = np.random.default_rng(seed)
    mu, log_sigma, raw = rng.standard_normal(size), 0.5 * rng.standard_normal(size), rng.standard_normal((size, size))
    return mu, log_sigma, np.asarray(ops.tril(raw, k=-1)) + np.diag(np.exp(log_sigma))


@check("2.45-2.49", "z = mu + L eps: log q = log p(eps) - sum log |L_ii| is the multivariate normal density")
def full_covariance_density():
    """Against SciPy's density with covariance L L^T."""
    mu, _, lower = full_covariance()
    eps = np.array([0.3, -1.2, 0.8, 0.1])
    log_q = norm.logpdf(eps).sum() - np.log(np.abs(np.diag(lower))).sum()
    return Claim(log_q, "=", multivariate_normal.logpdf(mu + lower @ eps, mu, lower @ lower.T), 1e-11)


@check("2.50-2.52", "the covariance of mu + L eps is L L^T, within 4 standard errors")
def full_covariance_of_samples():
    """200,000 draws; the worst entry in units of its standard error."""
    _, _, lower = full_covariance()
    n, sigma = 200_000, lower @ lower.T
    z = Generator(6).standard_normal((n, 4)) @ lower.T
    error = np.sqrt((np.outer(np.diag(sigma), np.diag(sigma)) + sigma**2) / n)
    return Claim(np.max(np.abs(z.T @ z / n - sigma) / error), "<=", 4.0, 0.0, "worst entry, standard errors")


@check("2.53-2.55", "with L = mask * L' + diag(sigma), log |det dz/deps| = sum log sigma_i")
def full_covariance_jacobian():
    """The engine's Jacobian of z = mu + L eps."""
    mu, log_sigma, lower = full_covariance()
    full = jacobian(lambda e: ops.matmul(lower, e) + mu, np.array([0.3, -1.2, 0.8, 0.1]))
    return Claim(np.linalg.slogdet(full)[1], "=", log_sigma.sum(), 1e-12)


@check("Algorithm 2", "its log q needs log sigma outside the factor 1/2 (the printed line has it inside)")
def algorithm_2_slip():
    """The corrected line is the density; the printed one misses half of sum log sigma."""
    mu, log_sigma, lower = full_covariance()
    eps = np.array([0.3, -1.2, 0.8, 0.1])
    density = multivariate_normal.logpdf(mu + lower @ eps, mu, lower @ lower.T)
    corrected = -np.sum(0.5 * (eps**2 + np.log(2 * np.pi)) + log_sigma)
    printed = -np.sum(0.5 * (eps**2 + np.log(2 * np.pi) + log_sigma))
    return [
        Claim(corrected, "=", density, 1e-11, "corrected"),
        Claim(printed - density, "=", 0.5 * log_sigma.sum(), 1e-11, "the printed line's error"),
    ]


# %% Section 2.7
@check("2.56", "log E_q[p(x, z) / q(z | x)] = log p(x), for every pattern")
def importance_identity():
    """The expectation over eps through the model's code, against the integral over z."""
    vae = tiny()
    eps = np.broadcast_to(GRID[:, None, None], (len(GRID), 16, 1))
    log_w = np.asarray(vae.log_weights(PATTERNS, eps=eps))
    left = np.log(integral(np.exp(log_w) * norm.pdf(GRID)[:, None]))
    return Claim(np.abs(left - exact(vae)[0]).max(), "=", 0.0, 1e-8, "largest difference")


@check(
    "2.57", "the importance-sampled estimate of log p(x) agrees with the integral, and L = 1 is the ELBO's estimator"
)
def importance_sampling():
    """20,000 samples a pattern, within 4 of the estimate's own errors; the bound rises with L in expectation."""
    vae = tiny()
    found = evaluation.log_likelihood(vae, PATTERNS, Generator(7), 20_000)
    log_w = np.asarray(vae.log_weights(PATTERNS, Generator(8), 12_000))
    rising = [np.mean(np.asarray(bounds.iwae(log_w.reshape(k, -1)))) for k in (1, 2, 10)]
    one = vae.log_weights(PATTERNS, Generator(9), 1)
    return [
        Claim(found.mean, "=", exact(vae)[0].mean(), 4 * found.noise, "L = 20,000"),
        Claim(bounds.iwae(one).mean().item(), "=", bounds.elbo(one).mean().item(), 1e-12, "L = 1"),
        Claim(rising[0], "<=", rising[1], 0.0, "L = 1 below L = 2"),
        Claim(rising[1], "<=", rising[2], 0.0, "L = 2 below L = 10"),
    ]


# %% Appendix 2.A
@check("2.A", "the two integrals, and -KL(N(mu, sigma^2) || N(0, 1)) = (1 + log sigma^2 - mu^2 - sigma^2) / 2")
def gaussian_kl():
    """By integration over z, and through the engine's primitive."""
    mu, sigma = 0.8, 0.6
    q, log_q, log_p = norm.pdf(GRID, mu, sigma), norm.logpdf(GRID, mu, sigma), norm.logpdf(GRID)
    first, second = integral(q * log_p), integral(q * log_q)
    closed = 0.5 * (1 + np.log(sigma**2) - mu**2 - sigma**2)
    code = -float(ops.gaussian_kl(np.array([mu]), np.array([np.log(sigma)])))
    return [
        Claim(first, "=", -0.5 * np.log(2 * np.pi) - 0.5 * (mu**2 + sigma**2), 1e-12, "E_q log p(z)"),
        Claim(second, "=", -0.5 * np.log(2 * np.pi) - 0.5 * (1 + np.log(sigma**2)), 1e-12, "E_q log q(z)"),
        Claim(first - second, "=", closed, 1e-12, "their difference"),
        Claim(code, "=", closed, 1e-12, "the primitive"),
    ]


@check("2.A", "the divergence's gradient by hand: mu, and sigma^2 - 1 in log sigma")
def gaussian_kl_gradient():
    """Hand-derived against the engine."""
    mu, log_sigma = Tensor(np.array([0.8, -1.1])), Tensor(np.array([-0.5, 0.2]))
    got = np.concatenate(grad(ops.gaussian_kl(mu, log_sigma), [mu, log_sigma]))
    hand = np.concatenate([np.asarray(mu), np.exp(2 * np.asarray(log_sigma)) - 1])
    return Claim(np.abs(got - hand).max(), "=", 0.0, 1e-14, "largest difference")


@check("2.77", "estimator B (closed-form KL) and estimator A have the same expectation: the bound")
def estimators_agree():
    """Estimator B integrated over eps, against the exact bound."""
    vae = tiny()
    eps = np.broadcast_to(GRID[:, None, None], (len(GRID), 16, 1))
    weights = norm.pdf(GRID) * STEP
    decoded = np.asarray(vae.decode(vae.encode(PATTERNS).rsample(eps)).log_prob(PATTERNS))
    b = weights @ decoded - np.asarray(vae.encode(PATTERNS).kl())
    one = np.asarray(vae.elbo(PATTERNS, eps=eps[3000:3001], estimator="B")) + np.asarray(vae.encode(PATTERNS).kl())
    return [
        Claim(b.mean(), "=", exact(vae)[1].mean(), 1e-10, "E B"),
        Claim(np.abs(one - decoded[3000]).max(), "=", 0.0, 1e-12, "its decoder term at eps = 0"),
    ]


# %% Section 2.10
def wake(vae):
    """E_q log p(x, z) over all patterns, q held constant: what the wake phase climbs in the decoder."""
    _, log_pz, log_qz_x = parts(vae)
    log_px_z = vae.decode(np.broadcast_to(GRID[:, None, None], (len(GRID), 16, 1))).log_prob(PATTERNS)
    return ((log_px_z + log_pz) * (np.exp(log_qz_x) * STEP / 16)).sum()


def sleep(vae):
    """E_p(x, z) log q(z | x), p held constant: what the sleep phase climbs in the encoder."""
    log_px_z, log_pz, _ = parts(vae)
    q = vae.encode(PATTERNS)
    log_q = q.log_prob(np.broadcast_to(GRID[:, None, None], (len(GRID), 16, 1)))
    return (log_q * (np.exp(log_px_z + log_pz) * STEP)).sum()


@check("section 2.10", "wake-sleep climbs no common objective: its second derivatives across the networks disagree")
def no_common_objective():
    """d/d phi of the decoder's gradient against d/d theta of the encoder's; the ELBO's agree. By integration."""
    vae = tiny()
    across = {name: random_direction(vae, name, seed) for seed, name in ((3, "decoder"), (4, "encoder"))}
    theta, phi = across.values()

    def both(decoders, encoders):
        """The two mixed derivatives, of the functions whose gradients the two networks follow."""
        return (
            slope(vae, lambda: along(vae, decoders(vae), theta), phi, 1e-4),
            slope(vae, lambda: along(vae, encoders(vae), phi), theta, 1e-4),
        )

    left, right = both(noise_integral, noise_integral)
    awake, asleep = both(wake, sleep)
    return [
        Claim(left, "=", right, 1e-6 * abs(left), "the ELBO's two"),
        Claim(abs(awake - asleep) / (abs(awake) + abs(asleep)), ">=", 0.1, 0.0, "wake-sleep's, relative difference"),
        Claim(
            along(vae, wake(vae), theta), "=", along(vae, noise_integral(vae), theta), 1e-8, "the wake phase is AEVB's"
        ),
    ]
