"""Checks of chapter 2, full variational Bayes."""

import numpy as np
from scipy.stats import multivariate_normal, norm

from minivi import nn
from minivi.distributions import Normal
from minivi.experiments import Claim, check
from minivi.models import VAE, FullVB
from minivi.random import Generator

# %% [markdown]
# ## The equations, checked
#
# Two models with a computable log p(X). The first is conjugate: x ~ N(theta, s^2) needs no z, its posterior over theta
# is Gaussian. The second has a latent and one weight and one bias: integrals over z and theta are Gauss-Hermite sums.

# %%
NOISE, MEANS = 0.8, np.array([[0.4], [1.3], [-0.2], [0.9], [2.1]])


class GaussianMean(VAE):
    """x ~ N(theta, NOISE^2), theta the decoder's bias; z does not matter, and q(z | x) is its prior."""

    def __init__(self):
        super().__init__(1, (), 1, rng=Generator(0), init=nn.normal(0.0), dtype="float64")

    def decode(self, z):
        """The same for all z."""
        return Normal(self.decoder(z * 0.0), np.full(1, np.log(NOISE)))


def gaussian_mean(mu, sigma):
    """Full VB of it at a posterior over the bias; the weight, which multiplies 0, stays at its prior."""
    model = FullVB(GaussianMean(), len(MEANS), scale=1.0)
    model.mu[1].assign([mu])
    model.log_sigma[1].assign([np.log(sigma)])
    return model


def conjugate():
    """Mean and standard deviation of the true posterior, and log p(X)."""
    n = len(MEANS)
    evidence = multivariate_normal.logpdf(MEANS[:, 0], np.zeros(n), NOISE**2 * np.eye(n) + 1.0)
    return MEANS.sum() / (n + NOISE**2), NOISE / np.sqrt(n + NOISE**2), evidence


def over_bias(model, zetas, estimator):
    """The bound of the data set at given noise of the bias, one number each."""
    eps = np.zeros((1, len(MEANS), 1))
    return np.array(
        [
            model.bound(MEANS, eps=eps, zeta=[[np.zeros((1, 1)), np.array([z])]], estimator=estimator).item()
            for z in zetas
        ]
    )


# Of N(0, 1): z and eps, and theta and zeta.
FINE, COARSE = (np.polynomial.hermite_e.hermegauss(k) for k in (48, 20))
FINE, COARSE = ((nodes, weights / weights.sum()) for nodes, weights in (FINE, COARSE))


def one_weight():
    """One pixel, p(x = 1 | z, theta) = sigmoid(theta_0 z + theta_1): two parameters, N = 3 data."""
    vae = VAE(1, (), 1, rng=Generator([7, 7]), init=nn.normal(0.8), dtype="float64")
    model = FullVB(vae, 3, scale=0.5)
    model.mu[1].assign([0.4])
    return model


def log_sigmoid(logits, x):
    """log p(x) of a bit, by NumPy alone."""
    return -np.logaddexp(0.0, np.where(x, -logits, logits))


def log_px(theta_0, theta_1, x):
    """log p_theta(x), the latent integrated out over its prior; arrays of one shape."""
    z, w = FINE
    return np.log(np.sum(w * np.exp(log_sigmoid(theta_0[..., None] * z + theta_1[..., None], x)), axis=-1))


def grid_of_theta():
    """A fine grid over both parameters: values and spacing."""
    line = np.linspace(-7.0, 7.0, 71)
    return (*np.meshgrid(line, line, indexing="ij"), (line[1] - line[0]) ** 2)


def q_of_theta(model, theta_0, theta_1):
    """log q(theta), by SciPy."""
    mu = [p.data.item() for p in model.mu]
    sigma = [np.exp(p.data.item()) for p in model.log_sigma]
    return norm.logpdf(theta_0, mu[0], sigma[0]) + norm.logpdf(theta_1, mu[1], sigma[1])


def encoder_of(model, x):
    """mu and sigma of q(z | x) by NumPy alone."""
    layer = model.vae.encoder.layers[0]
    mu, log_variance = x * layer.weight.data[0] + layer.bias.data
    return mu, np.exp(0.5 * log_variance)


def exact_bound(model, x, theta_0, theta_1):
    """L(theta, phi; x) of eq. 2.81 by integration over z, from the densities."""
    mu, sigma = encoder_of(model, x)
    z = np.linspace(-9.0, 9.0, 121) * sigma + mu
    q = norm.pdf(z, mu, sigma) * (z[1] - z[0])
    decoded = log_sigmoid(theta_0[..., None] * z + theta_1[..., None], x) @ q
    return decoded + np.sum(q * (norm.logpdf(z) - norm.logpdf(z, mu, sigma)))


def sampled(model, x, estimator):
    """The engine's ``bound`` of one datum at all nodes of (eps, zeta_0, zeta_1), and the nodes' weights."""
    nodes, w = np.polynomial.hermite_e.hermegauss(9)
    w = w / w.sum()
    values = []
    for a in nodes:
        for b in nodes:
            zeta = [np.full((1, 1), a), np.full(1, b)]
            eps = np.broadcast_to(nodes[None, :, None], (1, len(nodes), 1))
            values.append(
                model.elbo(np.full((len(nodes), 1), float(x)), eps=eps, zeta=[zeta], estimator=estimator).data
            )
    weights = np.einsum("i,j,k->ijk", w, w, w).reshape(-1, len(nodes))
    return model.count * np.array(values), weights


# %%
@check("2.78, 2.79", "conjugate model: log p(X) = KL(q || p(theta | X)) + L, and L = log p(X) at the true posterior")
def evidence():
    """The engine's bound against the multivariate normal evidence and the divergence of two Gaussians."""
    true_mu, true_sigma, log_px_all = conjugate()
    claims = []
    for mu, sigma in ((true_mu, true_sigma), (0.0, 1.0), (1.5, 0.1)):
        left = COARSE[1] @ over_bias(gaussian_mean(mu, sigma), COARSE[0], "B")
        ratio = sigma / true_sigma
        kl = 0.5 * (ratio**2 - 1.0 + ((mu - true_mu) / true_sigma) ** 2) - np.log(ratio)
        claims.append(Claim(left + kl, "=", log_px_all, 1e-10, f"q = N({mu:.2f}, {sigma:.2f}^2), KL {kl:.2f}"))
    return claims


@check(
    "2.78, 2.79", "two parameters and a latent: the bound lies below log p(X) for every data set, whose p(X) add to 1"
)
def below_evidence():
    """Three bits: data sets differ by their number of ones; log p(X) by integration over theta and z."""
    model = one_weight()
    theta_0, theta_1, step = grid_of_theta()
    log_p = np.stack([log_px(theta_0, theta_1, x) for x in (0, 1)])
    prior = np.exp(norm.logpdf(theta_0) + norm.logpdf(theta_1)) * step
    q = np.exp(q_of_theta(model, theta_0, theta_1)) * step
    shares = np.array([np.sum(q * exact_bound(model, x, theta_0, theta_1)) for x in (0, 1)])
    evidences = np.array([np.log(np.sum(prior * np.exp((3 - n) * log_p[0] + n * log_p[1]))) for n in range(4)])
    bounds = np.array([(3 - n) * shares[0] + n * shares[1] for n in range(4)]) - model.kl().item()
    return [
        Claim(np.exp(evidences) @ [1, 3, 3, 1], "=", 1.0, 1e-8, "sum of p(X) over the data sets"),
        Claim(np.max(bounds - evidences), "<=", 0.0, 0.0, "largest bound minus log p(X)"),
    ]


@check("2.80, 2.81", "at any weights drawn: log p_theta(x) = KL(q(z | x) || p_theta(z | x)) + L(theta, phi; x)")
def of_a_datum():
    """The drawn model's bound over Gauss-Hermite eps; its likelihood and divergence on a grid of z."""
    model = one_weight()
    worst = 0.0
    nodes, w = FINE
    for zeta in ((0.0, 0.0), (1.2, -0.7), (-2.0, 1.5)):
        theta = [np.asarray(t).item() for t in model.theta([np.full((1, 1), zeta[0]), np.full(1, zeta[1])])]
        drawn = model.draw(zeta=[np.full((1, 1), zeta[0]), np.full(1, zeta[1])])
        for x in (0, 1):
            bound = w @ np.asarray(drawn.log_weights(np.full((1, 1), float(x)), eps=nodes[:, None, None]))[:, 0]
            mu, sigma = encoder_of(model, x)
            z = np.linspace(-12.0, 12.0, 4001)
            joint = log_sigmoid(theta[0] * z + theta[1], x) + norm.logpdf(z)
            log_p = np.log(np.sum(np.exp(joint)) * (z[1] - z[0]))
            log_q = norm.logpdf(z, mu, sigma)
            kl = np.sum(np.exp(log_q) * (log_q - joint + log_p)) * (z[1] - z[0])
            worst = max(worst, abs(bound + kl - log_p))
    return Claim(worst, "=", 0.0, 1e-7, "largest difference")


@check("2.82-2.85", "averages over z and theta are averages over eps and zeta sent through g and h")
def transforms():
    """Means of a function that is no polynomial: the engine's draws at Gauss-Hermite nodes against densities."""
    model = one_weight()
    nodes, w = COARSE
    theta_0, theta_1, step = grid_of_theta()
    by_density = np.sum(np.exp(q_of_theta(model, theta_0, theta_1)) * np.cos(theta_0 + 2 * theta_1)) * step
    thetas = [model.theta([np.full((1, 1), a), np.full(1, b)]) for a in nodes for b in nodes]
    by_noise = np.outer(w, w).ravel() @ [np.cos(np.asarray(t[0]).item() + 2 * np.asarray(t[1]).item()) for t in thetas]
    mu, sigma = encoder_of(model, 1)
    z = mu + sigma * np.linspace(-9, 9, 2001)
    z_density = np.sum(norm.pdf(z, mu, sigma) * np.cos(2 * z)) * (z[1] - z[0])
    z_noise = w @ np.cos(2 * np.asarray(model.vae.encode(np.ones((1, 1))).rsample(nodes[:, None, None])))[:, 0, 0]
    return [
        Claim(by_noise, "=", by_density, 1e-10, "E cos(theta_0 + 2 theta_1)"),
        Claim(z_noise, "=", z_density, 1e-10, "E cos(2 z)"),
    ]


@check("2.86, 2.87, 2.89", "one datum at a time, with N = 3: estimators A and B average to the bound of the data set")
def expectations():
    """Data {1, 0, 1}; the engine at all nodes, against integration over theta and z with N-fold data and one KL."""
    model = one_weight()
    theta_0, theta_1, step = grid_of_theta()
    log_q = q_of_theta(model, theta_0, theta_1)
    q = np.exp(log_q) * step
    exact = sum(np.sum(q * exact_bound(model, x, theta_0, theta_1)) for x in (1, 0, 1))
    exact += np.sum(q * (norm.logpdf(theta_0) + norm.logpdf(theta_1) - log_q))
    claims = []
    for estimator in "AB":
        found = np.mean([np.sum(np.multiply(*sampled(model, x, estimator))) for x in (1, 0, 1)])
        claims.append(Claim(found, "=", exact, 1e-4, f"estimator {estimator}"))
    return claims


@check("2.88", "log q at a draw of theta, from its noise, is SciPy's density; so is log p")
def density_of_weights():
    """A decoder with a hidden layer, every sigma different."""
    model = FullVB(VAE(3, (4,), 2, rng=Generator(1), dtype="float64"), 10)
    rng = Generator(2)
    for p in model.log_sigma:
        p.assign(rng.standard_normal(p.shape))
    zeta = model.noise(rng)
    expected = 0.0
    for theta, mu, log_sigma in zip(model.theta(zeta), model.mu, model.log_sigma, strict=True):
        theta = np.asarray(theta)
        expected += np.sum(norm.logpdf(theta) - norm.logpdf(theta, mu.data, np.exp(log_sigma.data)))
    return Claim(model.log_ratio(zeta).item(), "=", expected, 1e-9)


@check("2.89", "its variance is below that of 2.87 away from the posterior; at the true posterior 2.87 has none")
def variances():
    """The text promises less variance; that is no law. Gauss-Hermite moments of both."""
    mu, sigma, _ = conjugate()
    nodes, w = COARSE

    def variance(model, estimator):
        values = over_bias(model, nodes, estimator)
        return w @ values**2 - (w @ values) ** 2

    wide, true = gaussian_mean(0.0, 1.0), gaussian_mean(mu, sigma)
    one = one_weight()
    spread = {}
    for estimator in "AB":
        values, weights = sampled(one, 1, estimator)
        spread[estimator] = np.sum(weights * values**2) - np.sum(weights * values) ** 2
    return [
        Claim(spread["B"], "<=", spread["A"], 0.0, "the model with a latent: B below A"),
        Claim(
            variance(wide, "A"), "=", variance(wide, "B"), 1e-8, "conjugate, q = prior: log p - log q is 0, so A = B"
        ),
        Claim(variance(true, "A"), "=", 0.0, 1e-8, "conjugate, true posterior: A has no variance"),
        Claim(variance(true, "B"), ">=", 0.1, 0.0, "there B has"),
    ]


@check("2.C", "local noise: the same bound as weight noise for one datum of a decoder with one layer")
def local_noise():
    """E over zeta of log p(x | z, theta): sampled pre-activations against sampled weights, each by quadrature."""
    model = one_weight()
    x, eps = np.ones((1, 1)), np.full((1, 1, 1), 0.6)
    nodes, w = COARSE
    pairs = [[np.full((1, 1), a), np.full(1, b)] for a in nodes for b in nodes]
    by_weights = np.outer(w, w).ravel() @ [model.bound(x, eps=eps, zeta=[z]).item() for z in pairs]
    model.local = True
    local = w @ [model.bound(x, eps=eps, zeta=[[np.full((1, 1, 1), a)]]).item() for a in nodes]
    return Claim(local, "=", by_weights, 1e-8)
