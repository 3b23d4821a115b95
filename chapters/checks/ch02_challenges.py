"""Checks of chapter 2, challenges: latents that are ignored, and models that spread too far (thesis section 2.9)."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import norm

from minivi import bounds, nn, ops
from minivi.experiments import Claim, check
from minivi.models import VAE
from minivi.random import Generator
from minivi.small import grid
from minivi.tensor import Tensor, grad

# %% [markdown]
# ## The equations, checked

# %% Section 2.9.1


def small(latents=3, seed=0):
    """A model of six pixels in float64, its data, noise and frozen terms."""
    vae = VAE(6, (5,), latents, rng=Generator([seed, 99]), init=nn.normal(0.7), dtype="float64")
    x = (Generator([seed, 98]).random((9, 6)) < 0.5).astype(float)
    return vae, x, Generator([seed, 97]).standard_normal((2, 9, latents))


@check("2.69, 2.70", "the objective is the mean reconstruction minus, for each latent, max(lambda, mean KL)")
def free_bits_by_hand():
    """A loop over data and latents with SciPy's densities, the KL of each latent by quadrature."""
    vae, x, eps = small()
    reconstruction, q = vae.reconstruction_and_posterior(x, eps=eps)
    mu, sigma = np.asarray(q.mu), np.exp(np.asarray(q.log_sigma))
    first = 0.0
    for b in range(len(x)):
        for k in range(len(eps)):
            p = vae.mean_image(mu[b] + sigma[b] * eps[k, b])
            first += np.log(np.where(x[b] == 1, p, 1 - p)).sum() / eps.shape[0] / len(x)
    z = np.linspace(-25, 25, 5001)[:, None, None]
    log_q = norm.logpdf(z, mu, sigma)
    kl = np.sum(np.exp(log_q) * (log_q - norm.logpdf(z)), axis=0).mean(axis=0) * 0.01
    minimum = float(np.median(kl)) * 1.1
    found = bounds.free_bits(reconstruction, q.kl_per_dimension(), minimum).item()
    return [
        Claim(found, "=", first - sum(max(minimum, k) for k in kl), 1e-8, "lambda above two of three"),
        Claim(
            bounds.free_bits(reconstruction, q.kl_per_dimension(), 0.9 * kl.min()).item(),
            "=", first - kl.sum(), 1e-8, "lambda below all: the plain bound",
        ),
    ]  # fmt: skip


@check("2.70", "below lambda the KL has no gradient: the encoder's gradient is the reconstruction's alone")
def no_gradient_below_lambda():
    """By central differences of the reconstruction term in the encoder's output weights of each latent."""
    vae, x, eps = small()
    _, q = vae.reconstruction_and_posterior(x, eps=eps)
    kl = np.mean(np.asarray(q.kl_per_dimension()), axis=0)
    weight = vae.encoder.layers[-1].weight
    start = weight.data.copy()

    def objective(minimum):
        reconstruction, q = vae.reconstruction_and_posterior(x, eps=eps)
        return bounds.free_bits(reconstruction, q.kl_per_dimension(), minimum)

    def slope(f, j, h=1e-5):
        direction = np.zeros_like(start)
        direction[:, [j, j + 3]] = Generator(3).standard_normal((len(start), 2))
        values = []
        for sign in (1.0, -1.0):
            weight.assign(start + sign * h * direction)
            values.append(f())
        weight.assign(start)
        return (values[0] - values[1]) / (2 * h), direction

    minimum = float(np.sort(kl)[-1] + np.sort(kl)[-2]) / 2  # the largest stays above
    below, above = int(np.argmin(kl)), int(np.argmax(kl))
    claims = []
    for name, j in (("below", below), ("above", above)):
        terms = lambda: vae.reconstruction_and_posterior(x, eps=eps)[0].mean().item()
        if j == above:
            terms = lambda: vae.elbo(x, eps=eps).mean().item()
        expected, direction = slope(terms, j)
        found = np.sum(grad(objective(minimum), weight) * direction)
        claims.append(Claim(found, "=", expected, 1e-8, f"a latent {name} lambda"))
    return claims


@check("section 2.9.1", "q(z | x) = p(z) with a decoder that ignores z: in expectation no gradient leads away")
def collapse_is_stationary():
    """Encoder heads and the decoder's weights on z at 0: gradients integrated over eps, and the noise of one sample."""
    vae, x, _ = small(1)
    for layer in (vae.encoder.layers[-1], vae.decoder.layers[0]):
        layer.weight.assign(np.zeros(layer.weight.shape))
    grid = np.linspace(-9, 9, 181)
    eps = np.broadcast_to(grid[:, None, None], (181, len(x), 1))
    moved = [*vae.encoder.parameters(), vae.decoder.layers[0].weight]
    reconstruction = vae.decode(vae.encode(x).rsample(eps)).log_prob(x)
    bound = ((reconstruction * (norm.pdf(grid) * 0.1)[:, None]).sum(axis=0) - vae.encode(x).kl()).mean()
    size = max(np.abs(g).max() for g in grad(bound, moved))
    one = grad(vae.elbo(x, Generator(5)).mean(), moved)
    return [
        Claim(size, "=", 0.0, 1e-10, "largest gradient, integrated over eps"),
        Claim(max(np.abs(g).max() for g in one), ">=", 0.01, 0.0, "largest gradient of one sample: noise alone"),
    ]


@check("section 2.9.1", "an annealed bound of weight w is highest at q(z | x) ~ p(z) p(x | z)^(1/w)")
def annealed_posterior():
    """With x = z + noise of variance 0.5 both are Gaussian; the maximum by the engine's gradient."""
    x, noise, claims = 1.3, 0.5, []
    for weight in (bounds.warm_up(1, 4), bounds.warm_up(2, 4), bounds.warm_up(9, 4)):
        theta = Tensor(np.zeros(2))
        for _ in range(150):
            mu, log_sigma = theta[0], theta[1]
            reconstruction = -0.5 * ((x - mu) * (x - mu) + ops.exp(2.0 * log_sigma)) / noise
            kl = 0.5 * (mu * mu + ops.exp(2.0 * log_sigma) - 1.0) - log_sigma
            theta = Tensor(np.asarray(theta) + 0.3 * grad(reconstruction - weight * kl, theta))
        precision = 1 + 1 / (weight * noise)
        claims += [
            Claim(np.asarray(theta)[0], "=", x / (weight * noise) / precision, 1e-8, f"mean, w = {weight:g}"),
            Claim(np.exp(2 * np.asarray(theta)[1]), "=", 1 / precision, 1e-8, f"variance, w = {weight:g}"),
        ]
    return claims


# %% Section 2.9.2
LINE, CELL = grid(14.0, 561)


def mixture():
    """log-density on LINE of two Gaussians of unequal weight."""
    return logsumexp([np.log(0.7) + norm.logpdf(LINE, -2, 0.7), np.log(0.3) + norm.logpdf(LINE, 2, 0.7)], axis=0)


def fitted(divergence):
    """Mean and variance of the Gaussian that minimises ``divergence(log p, log q)``, starting near the heavier mode."""
    cost = lambda t: divergence(mixture(), norm.logpdf(LINE, t[0], np.exp(t[1])))
    mean, log_sigma = minimize(cost, [-1.5, 0.0], tol=1e-9).x
    return mean, np.exp(2 * log_sigma)


def divergence(log_a, log_b):
    """KL(a || b) on LINE."""
    return np.sum(np.exp(log_a) * (log_a - log_b)) * CELL


@check(
    "section 2.9.2", "a Gaussian of least KL(data || model) has the data's moments; the other direction less variance"
)
def moments_are_matched():
    """Numerical minima of both divergences against the mixture's moments, known in closed form."""
    mean = 0.7 * -2 + 0.3 * 2
    spread_of_data = 0.7**2 + 0.7 * 4 + 0.3 * 4 - mean**2
    forward = fitted(divergence)
    reverse = fitted(lambda log_p, log_q: divergence(log_q, log_p))
    return [
        Claim(forward[0], "=", mean, 1e-5, "mean"),
        Claim(forward[1], "=", spread_of_data, 1e-5, "variance"),
        Claim(reverse[1], "<=", 0.5 * spread_of_data, 0.0, "variance by KL(model || data)"),
    ]


@check("section 2.9.2", "that Gaussian's entropy exceeds the data's by just KL(data || model)")
def entropy_exceeds():
    """Entropy of a Gaussian in closed form against two integrals."""
    mean, spread_of_model = fitted(divergence)
    log_p, log_q = mixture(), norm.logpdf(LINE, mean, np.sqrt(spread_of_model))
    entropy = -np.sum(np.exp(log_p) * log_p) * CELL
    excess = 0.5 * np.log(2 * np.pi * np.e * spread_of_model) - entropy
    return [Claim(excess, "=", divergence(log_p, log_q), 1e-6), Claim(excess, ">=", 0.1, 0.0, "and is not small")]


@check(
    "section 2.9.2", "a factorised Gaussian for correlated data: more volume by KL(data || model), less by the other"
)
def volume_of_a_factorised_gaussian():
    """Both divergences between Gaussians minimised numerically; the determinants of the covariances."""
    covariance = np.array([[1.0, 0.8], [0.8, 1.5]])
    precision = np.linalg.inv(covariance)
    volume = np.linalg.det(covariance)
    forward = minimize(lambda t: 0.5 * (np.diag(covariance) @ np.exp(-t)) + 0.5 * t.sum(), np.zeros(2), tol=1e-12)
    reverse = minimize(lambda t: 0.5 * (np.diag(precision) @ np.exp(t)) - 0.5 * t.sum(), np.zeros(2), tol=1e-12)
    across = np.linalg.eigh(covariance)[1][:, 0]  # where the data are thinnest
    return [
        Claim(np.exp(forward.x.sum()), ">=", 1.2 * volume, 0.0, "KL(data || model)"),
        Claim(np.exp(reverse.x.sum()), "<=", volume / 1.2, 0.0, "KL(model || data)"),
        Claim(across**2 @ np.exp(forward.x), ">=", 1.2 * np.linalg.eigvalsh(covariance)[0], 0.0, "thinnest direction"),
    ]


@check("section 2.9.2", "a one-latent linear model of fixed noise matches the first axis; the rest gets its noise")
def fixed_noise():
    """Likelihood of N(0, w w' + s^2 I) maximised numerically: total variance above the data's for large noise alone.

    So "ends larger" holds where the model's noise cannot shrink, and fails where it cannot grow.
    """
    covariance = np.diag([2.0, 0.3])

    def total(noise):
        def cost(w):
            model = np.outer(w, w) + noise * np.eye(2)
            return 0.5 * np.linalg.slogdet(model)[1] + 0.5 * np.trace(np.linalg.solve(model, covariance))

        w = minimize(cost, [0.8, 0.3], tol=1e-10).x
        return w @ w + 2 * noise

    return [
        Claim(total(0.5), "=", 2.0 + 0.5, 1e-5, "noise 0.5: total variance (data: 2.3)"),
        Claim(total(0.1), "=", 2.0 + 0.1, 1e-5, "noise 0.1"),
    ]
