"""Checks of thesis chapter 6, its estimators: the bound, minibatches, local reparameterisation (eq. 6.1-6.6, 6.9)."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
from scipy.integrate import quad
from scipy.special import log_expit
from scipy.stats import kstest, multivariate_normal, norm

from minivi import ops
from minivi.experiments import Claim, check
from minivi.models import gaussian_network
from minivi.nn import DropoutLinear, GaussianLinear, InputDropoutLinear, priors
from minivi.random import Generator
from minivi.small import along, largest, random_direction, shake, slope
from minivi.tensor import grad

# %% [markdown]
# ## The equations, checked
#
# A regression y ~ N(w x + b, S^2), w and b with the prior N(0, P^2) and the posterior N(mu, diag(sigma^2)). log p(y)
# is a quadratic form of Gaussian numbers, so that its mean, variance and covariance have closed forms. The library's
# are sums over all noise (Gauss-Hermite, exact here) and over all minibatches.

# %%
X, Y = np.array([[-0.9], [0.2], [0.7], [1.6], [-0.3]]), np.array([[-1.4], [0.6], [0.1], [1.9], [0.4]])
N, S, P = len(X), 0.6, 1.3
SAMPLINGS = ("minibatch", "datum", "local")


def regression(sampling, mu=(0.8, -0.3), sigma=(0.4, 0.25)):
    """The network of one layer, one weight and one bias."""
    options = {"likelihood": "normal", "noise": S, "sampling": sampling, "dtype": "float64"}
    network = gaussian_network((1, 1), Generator(80), prior=priors.Gaussian(P), **options)
    (layer,) = network.layers
    for p, value in ((layer.weight, mu[0]), (layer.bias, mu[1])):
        p.assign(np.full(p.shape, value))
    for p, value in ((layer.log_sigma, sigma[0]), (layer.bias_log_sigma, sigma[1])):
        p.assign(np.full(p.shape, math.log(value)))
    return network


def posterior(network):
    """mu and sigma of the weight and the bias, (2,) each."""
    (layer,) = network.layers
    sigma = np.exp([layer.log_sigma.data[0, 0], layer.bias_log_sigma.data[0]])
    return np.array([layer.weight.data[0, 0], layer.bias.data[0]]), sigma


def nodes(dims, count=3):
    """Noise (points, dims) and its probabilities: exact for polynomials up to the degree 2 count - 1 in each."""
    points, chances = np.polynomial.hermite_e.hermegauss(count)
    chances = chances / chances.sum()
    pairs = np.array(list(itertools.product(points, repeat=dims)))
    return pairs, np.prod(list(itertools.product(chances, repeat=dims)), axis=1)


def held(eps):
    """A generator that gives this noise; no more and no fewer numbers than are asked for."""
    return SimpleNamespace(standard_normal=lambda shape, dtype: np.reshape(eps, shape))


def all_noise(network, batches, x=X, y=Y, kl_weight=0.0, count=3):
    """Each datum's share of the bound in minibatches of rows (n, M), for all their noise.

    Returns:
        a Tensor (n, points, M), and the probabilities of the points.
    """
    (layer,), (n, m) = network.layers, np.shape(batches)
    bound = lambda rows, eps: network.bound(x[rows], y[rows], held(eps), count=N, kl_weight=kl_weight)
    if layer.sampling == "minibatch":
        eps, chances = nodes(math.prod(layer.noise_shape), count)
        return ops.stack([bound(np.ravel(batches), e).reshape(n, m) for e in eps], axis=1), chances
    each = layer.weight.shape[1] if layer.sampling == "local" else math.prod(layer.noise_shape)
    eps, chances = nodes(m * each, count)
    rows, eps = np.repeat(batches, len(eps), axis=0).ravel(), np.tile(eps, (n, 1))
    return bound(rows, eps).reshape(n, -1, m), chances


def expected(network, **options):
    """The mean of each datum's share, (N,)."""
    values, chances = all_noise(network, np.arange(N)[:, None], **options)
    return (values[..., 0] * chances).sum(axis=1)


def estimates(network, batches):
    """N / M sum L_i of these minibatches and all noise, and their probabilities: (n points,) each."""
    values, chances = all_noise(network, list(batches))
    return N * np.asarray(values).mean(axis=-1).ravel(), np.tile(chances, len(values)) / len(values)


def spread(values, chances):
    """The variance."""
    return chances @ (values - chances @ values) ** 2


def moments(network):
    """By formula: E_eps[L_i], (N,), and Cov_eps[L_i, L_j] for one noise, (N, N), of L_i = log p(y_i | x_i, w)."""
    mu, sigma = posterior(network)
    inputs = np.concatenate([X, np.ones_like(X)], axis=1)
    m, k = Y[:, 0] - inputs @ mu, (inputs * sigma**2) @ inputs.T
    mean = -0.5 * math.log(2 * math.pi * S**2) - (m**2 + np.diag(k)) / (2 * S**2)
    return mean, (0.5 * k**2 + np.outer(m, m) * k) / S**4


def true_posterior(x=X):
    """Mean (2,) and covariance (2, 2) of p(w, b | D), and log p(D)."""
    inputs = np.concatenate([x, np.ones_like(x)], axis=1)
    covariance = np.linalg.inv(np.eye(2) / P**2 + inputs.T @ inputs / S**2)
    evidence = multivariate_normal.logpdf(Y[:, 0], np.zeros(N), S**2 * np.eye(N) + P**2 * inputs @ inputs.T)
    return covariance @ inputs.T @ Y[:, 0] / S**2, covariance, evidence


def divergence(network, x=X):
    """KL(q(w, b) || p(w, b | D)) of Gaussians."""
    (mu, sigma), (mean, covariance, _) = posterior(network), true_posterior(x)
    precision = np.linalg.inv(covariance)
    trace = np.sum(np.diag(precision) * sigma**2) + (mu - mean) @ precision @ (mu - mean)
    return 0.5 * (trace - 2 + np.linalg.slogdet(covariance)[1]) - np.log(sigma).sum()


@check("6.1", "the bound plus KL(q(w) || p(w | D)) is log p(D), whatever phi: not sum log p(y | x), as the text has it")
def decomposition():
    """The library's bound over all noise. With w integrated out the data are dependent, so that the sum is another."""
    evidence, claims = true_posterior()[2], []
    for sampling, mu, sigma in [
        ("minibatch", (0.8, -0.3), (0.4, 0.25)),
        ("datum", (-0.5, 0.2), (0.05, 1.0)),
        ("local", (1.1, 0.1), (0.2, 0.3)),
    ]:
        network = regression(sampling, mu, sigma)
        bound = np.asarray(expected(network, kl_weight=1.0)).sum()
        claims.append(Claim(bound + divergence(network), "=", evidence, 1e-10, f"{sampling}: nats"))
    each = norm.logpdf(Y, 0.0, np.sqrt(S**2 + P**2 * (X**2 + 1))).sum()
    return [*claims, Claim(abs(each - evidence), ">=", 0.3, 0.0, "sum of log p(y | x) less log p(D), nats")]


@check("6.1, text", "maximising the bound minimises that divergence: opposite slopes, and the maximum is log p(D)")
def maximum():
    """With inputs of mean 0 the true posterior factorises; 200 steps of plain ascent find it."""
    network, direction = regression("local"), random_direction(regression("local"), "layers")
    bound = lambda x: expected(network, x=x, kl_weight=1.0, count=2).sum()
    rise, fall = along(network, bound(X), direction), slope(network, lambda: divergence(network), direction)
    centred, parameters = X - X.mean(), network.layers[0].parameters()
    for _ in range(200):
        for p, g in zip(parameters, grad(bound(centred), parameters), strict=True):
            p.assign(p.data + 0.05 * g)
    at, covariance, evidence = true_posterior(centred)
    mu, sigma = posterior(network)
    return [
        Claim(rise, "=", -fall, 1e-7, "slope of the bound, and of -KL, along a direction"),
        Claim(bound(centred).item(), "=", evidence, 1e-9, "the maximum, nats"),
        Claim(largest(np.concatenate([mu - at, sigma**2 - np.diag(covariance)])), "=", 0.0, 1e-7, "q less p(w | D)"),
    ]


@check("6.2", "the expected log-likelihood, by each of three samplings: a regression, and a classifier")
def expected_log_likelihood():
    """Against the formula; for two classes against an integral over the difference of the logits, which is Gaussian."""
    right, claims = moments(regression("local"))[0].sum(), []
    labels = np.array([0, 1, 1, 0, 1])
    for sampling in SAMPLINGS:
        ours = np.asarray(expected(regression(sampling))).sum()
        claims.append(Claim(ours, "=", right, 1e-10, f"{sampling}: regression"))
        network = gaussian_network((1, 2), Generator(81), sampling=sampling, sigma=0.5, dtype="float64")
        w = network.layers[0].weight.data[0]
        mean, scale = (2 * labels - 1) * X[:, 0] * (w[1] - w[0]), np.sqrt(0.5 * (X[:, 0] ** 2 + 1))
        inside = lambda z, i, m=mean, d=scale: norm.pdf(z) * log_expit(m[i] + d[i] * z)
        exact = sum(quad(inside, -12, 12, (i,))[0] for i in range(N))
        points = 40 if sampling == "local" else 5
        ours = np.asarray(expected(network, y=labels, count=points)).sum()
        claims.append(Claim(ours, "=", exact, 1e-9 if points == 40 else 1e-5, f"{sampling}: classifier"))
    return claims


@check("6.3", "N / M times a minibatch's sum is unbiased, and so is its gradient: all minibatches, all noise")
def unbiased():
    """Of two data. The gradient, the divergence's with it, against differences of the closed forms."""
    claims, direction, batches = [], random_direction(regression("local"), "layers"), list(np.ndindex(N, N))
    for sampling in SAMPLINGS:
        network = regression(sampling)
        values, chances = estimates(network, batches)
        right = slope(network, lambda n=network: -divergence(n), direction)
        bounds, chance = all_noise(network, batches, kl_weight=1.0)
        mean = (N * bounds.mean(axis=-1) * chance).sum() * (1 / len(batches))
        claims += [
            Claim(chances @ values, "=", moments(network)[0].sum(), 1e-10, f"{sampling}: value"),
            Claim(along(network, mean, direction), "=", right, 1e-7, f"{sampling}: gradient"),
        ]
    return claims


@check("6.4, 6.5", "variance N^2 (Var / M + (M - 1) / M Cov): of all minibatches and noise, against closed forms")
def variance():
    """One noise a minibatch; with noise of its own for each datum, or local noise, the covariance is 0."""
    mean, cov = moments(regression("local"))
    of_one, of_two, claims = mean.var() + np.diag(cov).mean(), cov.mean(), []
    for sampling, m in [("minibatch", 1), ("minibatch", 2), ("minibatch", 3), ("datum", 2), ("local", 2), ("local", 3)]:
        ours = spread(*estimates(regression(sampling), np.ndindex(*[N] * m)))
        right = N**2 * (of_one / m + (m - 1) / m * (of_two if sampling == "minibatch" else 0.0))
        claims.append(Claim(ours, "=", right, 1e-8, f"{sampling}, M = {m}"))
    whole = spread(*estimates(regression("minibatch"), [range(N)]))
    return [
        *claims,
        Claim(N**2 * of_two, "=", whole, 1e-8, "N^2 Cov: the variance with all data and one noise, so never negative"),
        Claim(of_two / of_one, ">=", 0.1, 0.0, "Cov / Var here"),
    ]


@check("6.5, text", "as M grows the variance goes to N^2 Cov with one noise a minibatch, to 0 with local noise")
def floor():
    """1,500 minibatches drawn; the tolerance is 4.5 standard errors of a variance."""
    mean, cov = moments(regression("local"))
    of_one, of_two, claims = mean.var() + np.diag(cov).mean(), cov.mean(), []
    for sampling, m in (("minibatch", 200), ("datum", 200), ("local", 2), ("local", 200)):
        network, rng = regression(sampling), Generator(82)
        rows = rng.integers(0, N, (1500, m))
        values = [N * np.asarray(network.bound(X[r], Y[r], rng, count=N, kl_weight=0.0)).mean() for r in rows]
        right = N**2 * (of_one / m + (m - 1) / m * (of_two if sampling == "minibatch" else 0.0))
        error = 4.5 * np.std((values - np.mean(values)) ** 2) / math.sqrt(len(values))
        claims.append(Claim(np.var(values), "=", right, error, f"{sampling}, M = {m}"))
        if m == 200:
            label, relation = f"{sampling}, M = 200: by N^2 Cov", ">=" if sampling == "minibatch" else "<="
            claims.append(Claim(np.var(values) / (N**2 * of_two), relation, 0.5, 0.0, label))
    return claims


@check("6.5, gradients", "the same of the gradient in mu, which is what learning sees")
def variance_of_the_gradient():
    """The engine's, of all minibatches of two and all noise; by formula the gradient is r x / S^2, r the residual."""
    mu, sigma = posterior(regression("local"))
    m, k, x = (Y - X * mu[0] - mu[1])[:, 0], sigma[0] ** 2 * X @ X.T + sigma[1] ** 2, X[:, 0]
    cov, claims = X @ X.T * k / S**4, []
    for sampling, shared in (("minibatch", cov.mean()), ("local", 0.0)):
        network = regression(sampling)
        bounds, chances = all_noise(network, list(np.ndindex(N, N)), count=2)
        each, weight = N * bounds.mean(axis=-1).reshape(-1), network.layers[0].weight
        values = np.array([grad(each[i], [weight])[0].item() for i in range(len(each))])
        right = N**2 * ((m * x / S**2).var() + np.diag(cov).mean() + shared) / 2
        claims.append(Claim(spread(values, np.tile(chances, N**2) / N**2), "=", right, 1e-8, f"{sampling}, M = 2"))
    return claims


@check("6.5, without replacement", "an epoch's minibatches do not repeat a datum: then Cov of local noise is negative")
def without_replacement():
    """The text draws with replacement. Else Cov is -Var of the data's means / (N - 1): the estimate varies less."""
    mean, cov = moments(regression("local"))
    of_one, of_two, claims = mean.var() + np.diag(cov).mean(), -mean.var() / (N - 1), []
    for m in (2, 3):
        ours = spread(*estimates(regression("local"), itertools.combinations(range(N), m)))
        right = N**2 * (of_one / m + (m - 1) / m * of_two)
        claims.append(Claim(ours, "=", right, 1e-8, f"M = {m}: variance"))
    return [*claims, Claim(ours, "<=", 0.9 * N**2 * of_one / 3, 0.0, "M = 3: nine tenths of that with replacement")]


# %% Section 6.2.3
A = np.array([[0.8, -1.3, 0.5], [0.2, 0.7, -1.9]])  # two data of three inputs


def layers(sampling):
    """A Gaussian layer and a dropout layer, 3 -> 2, with their sigma^2 of weights and biases by NumPy."""
    gaussian = GaussianLinear(3, 2, Generator(83), sampling=sampling, sigma=0.3, dtype="float64")
    dropped = DropoutLinear(3, 2, Generator(83), sampling=sampling, rate=0.3, dtype="float64")
    for n, layer in enumerate((gaussian, dropped)):
        shake(layer, Generator([84, n]).standard_normal, 0.3)
    noise = np.exp(2 * gaussian.log_sigma.data), np.exp(2 * gaussian.bias_log_sigma.data)
    return [("Gaussian", gaussian, *noise), ("dropout", dropped, 3 / 7 * dropped.weight.data**2, np.zeros(2))]


def linear_moments(f, dims):
    """Mean and covariance of f(eps), a vector, by the cubature of points +- sqrt(dims) e_k: exact up to degree 3."""
    values = np.array([np.asarray(f(s * math.sqrt(dims) * e)).ravel() for e in np.eye(dims) for s in (1.0, -1.0)])
    mean = values.mean(axis=0)
    return mean, (values - mean).T @ (values - mean) / len(values)


@check("6.6", "gamma and delta: moments of the outputs by each sampling; one W makes the outputs of two data dependent")
def activations():
    """By cubature. q(b | A) factorises over outputs, as the text says, and over data only for noise of their own."""
    claims = []
    for sampling in SAMPLINGS:
        for name, layer, v, vb in layers(sampling):
            gamma, delta = A @ layer.weight.data + layer.bias.data, A**2 @ v + vb
            shape = {"local": (2, 2), "minibatch": layer.noise_shape, "datum": (2, *layer.noise_shape)}[sampling]
            mean, cov = linear_moments(lambda e, s=shape, f=layer: f(A, eps=e.reshape(s)), math.prod(shape))
            right, between = np.diag(delta.ravel()), (A[0] * A[1]) @ v + vb
            if sampling == "minibatch":
                right[[0, 1, 2, 3], [2, 3, 0, 1]] = np.tile(between, 2)  # outputs in the order of data
                claims.append(Claim(np.abs(between).min(), ">=", 0.02, 0.0, f"{name}: covariance between data, least"))
            claims += [
                Claim(largest(mean, gamma.ravel()), "=", 0.0, 1e-12, f"{name}, {sampling}: mean"),
                Claim(largest(cov, right), "=", 0.0, 1e-12, f"{name}, {sampling}: covariance"),
            ]
    return claims


@check("6.6, distribution", "drawn outputs are N(gamma, delta) by each sampling: Kolmogorov and Smirnov")
def distribution():
    """1,500 draws of each output; delta is a variance."""
    claims, rng, count = [], Generator(85), 1500
    for sampling in SAMPLINGS:
        for name, layer, v, vb in layers(sampling):
            mean, scale = A @ layer.weight.data + layer.bias.data, np.sqrt(A**2 @ v + vb)
            if sampling == "minibatch":
                draws = np.array([np.asarray(layer(A, rng)) for _ in range(count)])
            else:
                draws = np.asarray(layer(np.tile(A, (count, 1)), rng)).reshape(count, 2, 2)
            p = [kstest(draws[:, i, j], norm(mean[i, j], scale[i, j]).cdf).pvalue for i, j in np.ndindex(2, 2)]
            claims.append(Claim(min(p), ">=", 1e-3, 0.0, f"{name}, {sampling}: least p of four"))
            if (name, sampling) == ("Gaussian", "local"):
                wrong = kstest(draws[:, 0, 0], norm(mean[0, 0], scale[0, 0] ** 2).cdf).pvalue
    return [*claims, Claim(wrong, "<=", 1e-6, 0.0, "p with delta as a standard deviation")]


@check("6.2.3, text", "M times a thousand numbers instead of M times a million: a layer 1000 -> K draws M K")
def random_numbers():
    """Counted by the generator. One W for a minibatch takes as many as local noise of M = 1000."""
    counts = {}
    for sampling, rows in (("datum", 3), ("minibatch", 3), ("local", 3), ("local", 1000)):
        layer, seen = DropoutLinear(1000, 7, Generator(86), sampling=sampling), []

        def draw(shape, dtype, seen=seen):
            seen.append(math.prod(shape))
            return np.zeros(shape, dtype)

        layer(np.ones((rows, 1000), "float32"), SimpleNamespace(standard_normal=draw))
        counts[sampling, rows] = sum(seen)
    return [
        Claim(counts["local", 3], "=", 3 * 7, 0.0, "local, M = 3, K = 7"),
        Claim(counts["datum", 3] / counts["local", 3], "=", 1000, 0.0, "W for each datum, by local"),
        Claim(counts["minibatch", 3] / counts["local", 1000], "=", 1.0, 0.0, "one W, by local of M = 1000"),
    ]


@check("6.5.1, text", "fewer numbers, less variance: the local gradient is the mean of the other, given the output b")
def fewer_numbers():
    """One datum, f = tanh(b). Noise along a * sigma moves b; over the rest the gradient of "datum" is averaged.

    In mu there is no gain, as that gradient is a f'(b) in both. In theta of dropout, which scales the noise, there is.
    """
    x, claims = np.array([[0.8, -1.3, 0.5, 1.1]]), []
    (zeta, chances), (rest, chances_of_rest) = nodes(1, 12), nodes(3, 2)
    for kind, options, learned in [
        (GaussianLinear, {"sigma": 0.3}, "weight"),
        (GaussianLinear, {"sigma": 0.3}, "log_sigma"),
        (DropoutLinear, {"rate": 0.3}, "weight"),
    ]:
        local, datum = (kind(4, 1, Generator(87), sampling=s, dtype="float64", **options) for s in ("local", "datum"))
        moves_b, of_bias = x[0] * (datum.weight.data[:, 0] if kind is DropoutLinear else 0.3), []
        if kind is GaussianLinear:  # all noise is that of four weights
            of_bias = [0.0]
            for layer in (local, datum):
                layer.bias_log_sigma.assign([-40.0])
        basis = np.linalg.qr(np.stack([moves_b, *np.eye(4)[:3]], axis=1))[0]
        basis[:, 0] = moves_b / np.linalg.norm(moves_b)
        of = lambda f, eps, p=learned: grad(ops.tanh(f(x, eps=eps)).sum(), [getattr(f, p)])[0][:, 0]
        each = lambda z, e, a=basis, b=of_bias: np.reshape([*a @ [*z, *e], *b], (1, -1, 1))
        ours = np.array([of(local, z[None]) for z in zeta])  # (points, 4)
        whole = np.array([[of(datum, each(z, e)) for e in rest] for z in zeta])  # (points, points of the rest, 4)
        mean = np.einsum("j,ijp->ip", chances_of_rest, whole)
        of_local = (chances @ (ours - chances @ ours) ** 2).sum()
        of_datum = np.einsum("i,j,ijp->", chances, chances_of_rest, (whole - chances @ ours) ** 2)
        label, none = f"{kind.__name__}, {learned}", (kind, learned) == (GaussianLinear, "weight")
        relation = ("=", 1.0, 1e-8) if none else (">=", 1.5, 0.0)
        claims += [
            Claim(largest(ours, mean), "=", 0.0, 1e-10, f"{label}: local less the mean given b"),
            Claim(of_datum / of_local, *relation, f"{label}: variance of datum by that of local"),
        ]
    return claims


# %% Section 6.3.2
@check("6.9", "noise on the inputs is noise on the rows of W, w_i = s_i theta_i; drawn for each datum it is local")
def correlated_weights():
    """Outputs for given noise. One s for the minibatch has the same law datum by datum, but ties the data."""
    layer = InputDropoutLinear(3, 2, Generator(88), rate=0.3, dtype="float64")
    theta, alpha = layer.weight.data, 3 / 7
    eps = Generator(89).standard_normal((2, 3))
    rows = [a @ ((1 + math.sqrt(alpha) * e)[:, None] * theta) for a, e in zip(A, eps, strict=True)]
    own = linear_moments(lambda e: layer(A, eps=e.reshape(2, 3)), 6)[1]
    one = linear_moments(lambda e: layer(A, eps=np.tile(e, (2, 1))), 3)[1]
    first, last = (alpha * (a**2 * theta.T) @ theta for a in A)
    between, zero = alpha * (A[0] * A[1] * theta.T) @ theta, np.zeros((2, 2))
    return [
        Claim(largest(layer(A, eps=eps), rows), "=", 0.0, 1e-12, "outputs"),
        Claim(largest(own, np.block([[first, zero], [zero, last]])), "=", 0.0, 1e-12, "covariance, xi of each datum"),
        Claim(largest(one, np.block([[first, between], [between.T, last]])), "=", 0.0, 1e-12, "s of the minibatch"),
        Claim(abs(between).max(), ">=", 0.05, 0.0, "largest covariance between two data by one s"),
    ]
