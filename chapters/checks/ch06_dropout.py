"""Checks of thesis chapter 6, dropout: masks, Gaussian twins, the bound (eq. 6.7-6.10, 6.12-6.33)."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
from scipy.integrate import quad
from scipy.special import dawsn, log_expit
from scipy.stats import bernoulli, binom, chisquare, kstest, norm

from minivi.experiments import Claim, check
from minivi.models import dropout_network
from minivi.nn import DropoutLinear, InputDropoutLinear, priors
from minivi.random import Generator
from minivi.small import along, largest, random_direction, shake, slope

# %% [markdown]
# ## The equations, checked
#
# A layer with four inputs has sixteen masks. Each is handed to the library's layer instead of random numbers, so that
# moments of dropout are sums over all masks with their probabilities. The appendix calls a a column vector: a W needs
# a row.

# %%
A, K = np.array([[0.8, -1.3, 0.5, 2.0]]), 4
MASKS = np.array(list(itertools.product((0.0, 1.0), repeat=K)))
RATES = (0.2, 0.5, 0.7)


def layer_of(kind, inputs=K, outputs=3, **options):
    """A layer in float64, its weights and biases not small."""
    made = kind(inputs, outputs, Generator(90), dtype="float64", **options)
    return shake(made, Generator(91).standard_normal, 0.3)


def binary(p, **options):
    """Dropout by masks."""
    return layer_of(InputDropoutLinear, noise="binary", rate=p, **options)


def masked(layer, x, d):
    """The layer's outputs with d for the mask: uniform numbers on either side of the rate stand for it."""
    uniform = np.where(d == 1.0, 1.0 - 1e-12, 0.0)
    rng = SimpleNamespace(standard_normal=None, random=lambda shape, dtype: uniform.reshape(shape))
    return np.asarray(layer(x, rng))


def over_masks(layer, x=A, masks=MASKS):
    """The outputs of one datum for all masks, (masks, O)."""
    return masked(layer, np.tile(x, (len(masks), 1)), masks)


def moments(values, chances):
    """Mean (O,) and covariance (O, O)."""
    mean = chances @ values
    return mean, (values - mean).T @ ((values - mean) * chances[:, None])


def chances_of(p, masks=MASKS):
    """Of the masks: bits are 1 with probability 1 - p."""
    return bernoulli.pmf(masks, 1 - p).prod(axis=1)


def cubature(f, dims):
    """Mean and covariance of f(eps) for standard normal eps, by the points +- sqrt(dims) e_k: exact for linear f."""
    values = np.array([np.asarray(f(s * math.sqrt(dims) * e)).ravel() for e in np.eye(dims) for s in (1.0, -1.0)])
    return moments(values, np.full(len(values), 1 / len(values)))


@check("6.7, 6.12, 6.13", "noise on the inputs: the layer for every mask, and for Gaussian noise, against loops")
def noisy_inputs():
    """xi = d / (1 - p), or 1 + sqrt(alpha) eps."""
    layer, claims = binary(0.3), []
    w, b = layer.weight.data, layer.bias.data
    loops = [[sum(w[j, k] * A[0, j] * d[j] / 0.7 for j in range(K)) + b[k] for k in range(3)] for d in MASKS]
    claims.append(Claim(largest(over_masks(layer), loops), "=", 0.0, 1e-12, "16 masks, largest difference"))
    layer = layer_of(InputDropoutLinear, rate=0.3)
    w, b, eps = layer.weight.data, layer.bias.data, Generator(92).standard_normal((5, K))
    xi = [[1 + math.sqrt(3 / 7) * e for e in row] for row in eps]
    loops = [[sum(w[j, k] * A[0, j] * row[j] for j in range(K)) + b[k] for k in range(3)] for row in xi]
    claims.append(Claim(largest(layer(np.tile(A, (5, 1)), eps=eps), loops), "=", 0.0, 1e-12, "Gaussian noise"))
    return claims


@check("6.14, 6.15", "d ~ Bernoulli(1 - p): p is the share of zeros, and the inputs' masks are independent")
def masks_drawn():
    """40,000 masks by the generator: the zeros' share, and all sixteen masks by chi square."""
    claims = []
    for p in RATES:
        layer = InputDropoutLinear(K, K, Generator(0), noise="binary", rate=p, dtype="float64")
        layer.weight.assign(np.eye(K))
        d = np.asarray(layer(np.ones((40_000, K)), Generator(93))) * (1 - p)
        seen = np.bincount((np.rint(d) @ [8, 4, 2, 1]).astype(int), minlength=16)
        fit = chisquare(seen, 40_000 * chances_of(p)).pvalue
        error = 4.5 * binom.std(d.size, p) / d.size
        claims += [
            Claim(np.mean(d == 0), "=", p, error, f"p = {p}: share of zeros"),
            Claim(fit, ">=", 1e-3, 0.0, f"p = {p}: chi square of the masks, p value"),
        ]
    return claims


@check("6.16-6.19", "E[d] = 1 - p, E[d / (1 - p)] = 1, Var[d / (1 - p)] = p / (1 - p), over all masks; 6.19 is empty")
def noise_moments():
    """A layer with W = I shows the noise itself. SciPy's Bernoulli has the right sides."""
    claims = []
    for p in RATES:
        layer = InputDropoutLinear(K, K, Generator(0), noise="binary", rate=p, dtype="float64")
        layer.weight.assign(np.eye(K))
        mean, cov = moments(over_masks(layer, np.ones((1, K))), chances_of(p))
        law = bernoulli(1 - p)
        claims += [
            Claim(largest(mean * (1 - p), law.mean()), "=", 0.0, 1e-12, f"p = {p}: E[d]"),
            Claim(largest(mean, 1.0), "=", 0.0, 1e-12, f"p = {p}: E[d / (1 - p)]"),
            Claim(largest(cov, law.var() / (1 - p) ** 2 * np.eye(K)), "=", 0.0, 1e-12, f"p = {p}: their covariance"),
            Claim(cov[0, 0], "=", p / (1 - p), 1e-12, f"p = {p}: Var[d / (1 - p)]"),
        ]
    return claims


@check("6.20-6.26", "E[b] = a W and Var[b] = p / (1 - p) a^2 W^2: sums over all masks, and one input at a time")
def output_moments():
    """The printed steps between are the linearity of the mean and the independence of the masks."""
    claims = []
    for p in RATES:
        layer = binary(p)
        w, b = layer.weight.data, layer.bias.data
        mean, cov = moments(over_masks(layer), chances_of(p))
        one_at_a_time = 0.0
        for j in range(K):  # eq. 6.24: only input j is noisy
            alone = (A[0, j] * w[j])[None] * np.array([[0.0], [1 / (1 - p)]])
            one_at_a_time = one_at_a_time + np.diag(moments(alone, np.array([p, 1 - p]))[1])
        claims += [
            Claim(largest(mean, A[0] @ w + b), "=", 0.0, 1e-12, f"p = {p}: mean"),
            Claim(largest(np.diag(cov), one_at_a_time), "=", 0.0, 1e-12, f"p = {p}: variance, input by input"),
            Claim(largest(np.diag(cov), p / (1 - p) * A[0] ** 2 @ w**2), "=", 0.0, 1e-12, f"p = {p}: variance"),
        ]
    return claims


# %% Section 6.B.1
@check("6.27-6.29", "Gaussian dropout has binary dropout's mean and variance: two layers of equal weights")
def gaussian_twin():
    """Sums over masks of the one, cubature over the noise of the other; its draws by Kolmogorov and Smirnov."""
    claims = []
    for p in RATES:
        twin = layer_of(DropoutLinear, rate=p)
        mean, cov = moments(over_masks(binary(p)), chances_of(p))
        ours, own = cubature(lambda e, f=twin: f(A, eps=e[None]), 3)
        claims += [
            Claim(largest(ours, mean), "=", 0.0, 1e-12, f"p = {p}: mean"),
            Claim(largest(np.diag(own), np.diag(cov)), "=", 0.0, 1e-12, f"p = {p}: variance"),
        ]
    draws = np.asarray(twin(np.tile(A, (4000, 1)), Generator(94)))
    fits = [kstest(draws[:, k], norm(mean[k], math.sqrt(cov[k, k])).cdf).pvalue for k in range(3)]
    return [*claims, Claim(min(fits), ">=", 1e-3, 0.0, "drawn, against N(mean, variance): least p value of three")]


@check("6.27, text", "it ignores dependencies: outputs of one mask are correlated, p / (1 - p) sum a^2 W_jk W_jl")
def dependencies():
    """By all masks. With independent noise on weights (6.30) the outputs have none; with noise on inputs (6.7) all."""
    w = binary(0.3).weight.data
    masks = moments(over_masks(binary(0.3)), chances_of(0.3))[1]
    inputs = cubature(lambda e: layer_of(InputDropoutLinear, rate=0.3)(A, eps=e[None]), K)[1]
    weights = cubature(lambda e: layer_of(DropoutLinear, rate=0.3)(A, eps=e[None]), 3)[1]
    right = 3 / 7 * (A[0] ** 2 * w.T) @ w
    scale = np.sqrt(np.outer(np.diag(right), np.diag(right)))
    off = lambda c: np.abs(c / scale - np.eye(3)).max()
    return [
        Claim(largest(masks, right), "=", 0.0, 1e-12, "binary"),
        Claim(largest(inputs, right), "=", 0.0, 1e-12, "Gaussian, on inputs (A)"),
        Claim(largest(weights, np.diag(np.diag(right))), "=", 0.0, 1e-12, "Gaussian, on outputs (B)"),
        Claim(off(masks), ">=", 0.3, 0.0, "largest correlation by masks"),
    ]


@check("6.27, limit", "binary dropout's outputs are nearly Gaussian for many inputs: distance of the distributions")
def central_limit():
    """All 2^K masks of K = 4, 8 and 16 inputs of one size; it falls about as 1 / sqrt(K). For few inputs it is far."""
    distances = []
    for inputs in (4, 8, 16):
        masks = np.array(list(itertools.product((0.0, 1.0), repeat=inputs)))
        layer, x = binary(0.5, inputs=inputs, outputs=1), np.ones((1, inputs))
        layer.weight.assign(0.5 + np.sqrt(np.arange(1, inputs + 1) / inputs)[:, None])
        b, chances = over_masks(layer, x, masks)[:, 0], chances_of(0.5, masks)
        mean, cov = moments(b[:, None], chances)
        order = np.argsort(b)
        above = np.cumsum(chances[order])
        gaussian = norm.cdf(b[order], mean[0], math.sqrt(cov[0, 0]))
        distances.append(max(np.max(above - gaussian), np.max(gaussian - above + chances[order])))
    return [
        Claim(distances[0], ">=", 0.05, 0.0, "4 inputs"),
        Claim(distances[1] / distances[0], "<=", 0.75, 0.0, "8 inputs, by that"),
        Claim(distances[2], "<=", 0.02, 0.0, "16 inputs"),
    ]


# %% Section 6.B.2
@check("6.30-6.33", "as noise on weights: V ~ N(W, alpha W^2), alpha = p / (1 - p), gives the outputs' moments")
def weight_noise():
    """V and a V by cubature. alpha is the relative variance of d, Var[d] / E[d]^2, as section 6.3 says."""
    claims = []
    for p in RATES:
        layer = layer_of(DropoutLinear, rate=p, sampling="minibatch")
        w, size = layer.weight.data, layer.weight.size
        alpha = bernoulli.var(1 - p) / bernoulli.mean(1 - p) ** 2
        of_v = cubature(lambda e, f=layer: f.draw(None, eps=e.reshape(K, 3))[0], size)
        of_b = cubature(lambda e, f=layer: f(A, eps=e.reshape(K, 3)), size)
        mean, cov = moments(over_masks(binary(p)), chances_of(p))
        claims += [
            Claim(layer.alpha.item(), "=", alpha, 1e-12, f"p = {p}: alpha"),
            Claim(largest(of_v[0], w.ravel()), "=", 0.0, 1e-12, f"p = {p}: mean of V"),
            Claim(largest(of_v[1], np.diag(alpha * w.ravel() ** 2)), "=", 0.0, 1e-12, f"p = {p}: covariance of V"),
            Claim(largest(of_b[0], mean), "=", 0.0, 1e-12, f"p = {p}: mean of a V, and by masks"),
            Claim(largest(of_b[1], np.diag(np.diag(cov))), "=", 0.0, 1e-12, f"p = {p}: its variance, and by masks"),
        ]
    return claims


@check("6.8", "noise on inputs gives marginals N(gamma, delta): exact for Gaussian noise, moments alone for masks")
def marginals():
    """4,000 draws by noise on inputs, A, and on outputs, B; binary outputs are no Gaussians, but of equal moments."""
    w, b = binary(0.5).weight.data, binary(0.5).bias.data
    gamma, delta = A[0] @ w + b, A[0] ** 2 @ w**2
    fit = lambda draws: [kstest(draws[:, k], norm(gamma[k], math.sqrt(delta[k])).cdf).pvalue for k in range(3)]
    rows, claims = np.tile(A, (4000, 1)), []
    for name, kind in (("on inputs", InputDropoutLinear), ("on outputs", DropoutLinear)):
        p = fit(np.asarray(layer_of(kind, rate=0.5)(rows, Generator(95))))
        claims.append(Claim(min(p), ">=", 1e-3, 0.0, f"Gaussian noise {name}: least p value of three"))
    p = fit(np.asarray(binary(0.5)(rows, Generator(95))))
    return [*claims, Claim(max(p), "<=", 1e-6, 0.0, "masks: largest p value of three")]


@check("6.8, 6.9", "independent noise on weights (B) and correlated noise (A): equal variances, other covariances")
def two_kinds():
    """By A each row of W has one scale, so that alpha belongs to an input; by B to the layer, an output, a weight."""
    alpha = np.array([0.1, 0.5, 0.9, 0.3])
    scales = layer_of(InputDropoutLinear, rate=0.3, learned="unit")
    scales.log_alpha.assign(np.log(alpha))
    each = layer_of(DropoutLinear, rate=0.3, learned="weight")
    each.log_alpha.assign(np.log(np.tile(alpha[:, None], 3)))
    w = scales.weight.data
    a, b = (cubature(lambda e, f=f: f(A, eps=e[None]), n)[1] for f, n in ((scales, K), (each, 3)))
    return [
        Claim(largest(a, (alpha * A[0] ** 2 * w.T) @ w), "=", 0.0, 1e-12, "A: covariance of the outputs"),
        Claim(largest(b, np.diag((alpha * A[0] ** 2) @ w**2)), "=", 0.0, 1e-12, "B: covariance of the outputs"),
        Claim(float(scales.kl()), "=", float(each.kl()) / 3, 1e-12, "KL of A, 4 scales: a third of 12 weights'"),
    ]


# %% Section 6.3.3
X, Y = np.array([[0.5, -1.0], [1.2, 0.3], [-0.4, 0.8]]), np.array([0, 1, 1])
N = 50  # of which three are here


def held_network(method):
    """A classifier 2 -> 2 with noise of rate 0.3."""
    network = dropout_network((2, 2), method, Generator(96), input_rate=0.3, dtype="float64")
    return shake(network, Generator(97).standard_normal, 0.0 if method.startswith("variational") else 0.4)


def nodes(points, dims=2):
    """Noise and its probabilities by Gauss and Hermite."""
    at, chance = np.polynomial.hermite_e.hermegauss(points)
    chance = chance / chance.sum()
    pairs, chances = (list(itertools.product(a, repeat=dims)) for a in (at, chance))
    return np.array(pairs), np.prod(chances, axis=1)


def mean_bound(network, kl_weight=1.0):
    """The three data's shares of the bound, the mean over all noise: a Tensor (3,)."""
    eps, chances = nodes(40)
    rng = SimpleNamespace(standard_normal=lambda shape, dtype: np.repeat(eps, 3, axis=0).reshape(shape))
    rows = np.tile(X, (len(eps), 1))
    values = network.bound(rows, np.tile(Y, len(eps)), rng, count=N, kl_weight=kl_weight)
    return (values.reshape(len(eps), 3) * chances[:, None]).sum(axis=0)


def expected(network, method):
    """E[log p(y | x, w)], (3,), by SciPy: the difference of the two logits is Gaussian."""
    (layer,), values = network.layers, []
    w, b = layer.weight.data, layer.bias.data
    for x, y in zip(X, Y, strict=True):
        towards = w[:, y] - w[:, 1 - y]
        mean = x @ towards + b[y] - b[1 - y]
        square = (w**2).sum(axis=1) if method.endswith("B") else towards**2
        scale = math.sqrt(3 / 7 * x**2 @ square)
        values.append(quad(lambda z, m=mean, s=scale: norm.pdf(z) * log_expit(m + s * z), -12, 12)[0])
    return np.array(values)


@check("6.10", "the bound is E[log p] - KL / N a datum, of 4 weights (B) or of 2 scales (A); of the form 6.1, not 6.2")
def bound():
    """Over all noise. KL by the exact integral, from which the cubic differs by less than 0.01 a weight."""
    claims, kl = [], priors.exact_log_uniform_kl(3 / 7)
    for method, count in (("gaussian A", 2), ("gaussian B", 4), ("variational A", 2), ("variational B", 4)):
        network = held_network(method)
        ours, right = np.asarray(mean_bound(network)), expected(network, method)
        without = np.asarray(mean_bound(network, kl_weight=0.0))
        claims += [
            Claim(largest(without, right), "=", 0.0, 1e-8, f"{method}: E[log p]"),
            Claim(largest(N * (right - ours), count * kl), "<=", 0.01 * count, 0.0, f"{method}: KL, off by"),
            Claim(N * np.min(right - ours), ">=", 0.4 * count, 0.0, f"{method}: KL, nats"),
        ]
    network = held_network("binary")
    return [*claims, Claim(float(network.kl()), "=", 0.0, 0.0, "binary: no divergence")]


@check("6.10, text", "dropout training maximises it in theta: at a fixed rate the divergence has no slope there")
def no_slope():
    """The whole bound's gradient by the engine is that of E[log p] by differences.

    Where alpha is learned the divergence pulls it upwards: by x D(x) a weight, x = 1 / sqrt(2 alpha), D Dawson's
    integral (ch06_divergence.py); by the cubic within 5 % of that.
    """
    claims = []
    for method in ("gaussian A", "gaussian B", "variational A", "variational B"):
        network = held_network(method)
        direction = {k: v * ("alpha" not in k) for k, v in random_direction(network).items()}
        right = slope(network, lambda n=network, m=method: expected(n, m).sum(), direction)
        claims.append(Claim(along(network, mean_bound(network).sum(), direction), "=", right, 1e-6, f"{method}: theta"))
        if method.startswith("variational"):
            direction = {k: np.ones_like(v) * ("alpha" in k) for k, v in random_direction(network).items()}
            pulls = [along(network, mean_bound(network, w).sum(), direction) for w in (1.0, 0.0)]
            x, count = math.sqrt(7 / 6), 2 if method.endswith("A") else 4
            right = 3 / N * count * x * dawsn(x)
            claims.append(Claim(pulls[0] - pulls[1], "=", right, 0.05 * right, f"{method}: KL's pull on log alpha"))
    return claims


@check("6.3.4, text", "alpha <= 1 is a rate of at most 0.5: the posterior's variance is at most the square of its mean")
def largest_alpha():
    """What a step has put above it comes back before the next bound; the text's "we maximize" means the limit."""
    network = held_network("variational B")
    (layer,) = network.layers
    layer.log_alpha.assign(np.full(1, 0.4))
    mean_bound(network)
    variance, _ = layer.variances()
    return [
        Claim(layer.alpha.item() / (1 + layer.alpha.item()), "=", 0.5, 1e-12, "rate"),
        Claim(largest(variance, layer.weight.data**2), "=", 0.0, 1e-12, "variance less the mean's square"),
    ]
