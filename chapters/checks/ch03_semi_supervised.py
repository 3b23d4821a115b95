"""Checks of thesis chapter 3: semi-supervised learning by M1, M2 and their stack (eq. 3.1-3.12, Algorithms 3, 4)."""

import numpy as np
from scipy.special import expit, log_expit, logsumexp
from scipy.stats import norm

from minivi import evaluation
from minivi.experiments import Claim, check
from minivi.models import SemiSupervisedVAE
from minivi.optim import Adam
from minivi.random import Generator
from minivi.semi_supervised import Features, minibatch_loss, sample_features
from minivi.small import along, grid, largest, random_direction, shake, slope, small_vae
from minivi.tensor import Tensor, grad

# %% [markdown]
# ## The equations, checked
#
# M2 with four pixels, three classes and one latent, with random weights. Its densities are written out in NumPy from
# the weights; an expectation over z is a sum over a grid, one over y a sum over the classes.

# %%
X, Y = np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]]), np.array([2, 0, 1])
PRIOR = np.array([0.5, 0.2, 0.3])
EPS, STEP = grid(9.0, 1001)


def network(likelihood="bernoulli", scale=0.7, seed=0):
    """Random weights."""
    options = {"prior": PRIOR, "rng": Generator(60), "dtype": "float64"}
    model = SemiSupervisedVAE(4, 3, (3,), 1, likelihood, **options)
    return shake(model, Generator([seed, 61]).standard_normal, scale)


def layer(part, x):
    """An affine map in NumPy."""
    return x @ part.weight.data + part.bias.data


def softplus(a):
    """log(1 + e^a)."""
    return np.logaddexp(0.0, a)


def decoded(model, z, y):
    """The decoder's output by NumPy, of z (points, 1)."""
    first, last = model.decoder.layers
    return layer(last, softplus(layer(first, np.concatenate([z, np.eye(3)[np.full(len(z), y)]], axis=1))))


def log_px(model, z, y, x=X):
    """log p(x | y, z) by NumPy, (points, B), of z (points, 1)."""
    out = decoded(model, z, y)
    if model.likelihood == "bernoulli":
        return log_expit(out) @ x.T + log_expit(-out) @ (1 - x).T
    return norm.logpdf(x, out[:, None, :4], np.exp(0.5 * out[:, None, 4:])).sum(axis=-1)


def posterior(model, y):
    """mu and sigma of q(z | y, x) by NumPy, each (B, 1)."""
    out = layer(model.encoder.layers[-1], softplus(layer(model.encoder_x, X) + model.encoder_y.data[y]))
    return out[:, :1], np.exp(0.5 * out[:, 1:])


def log_q_of(model):
    """log q(y | x), (B, C), by NumPy."""
    first, last = model.classifier.layers
    logits = layer(last, softplus(layer(first, X)))
    return logits - logsumexp(logits, axis=1, keepdims=True)


def log_joint(model):
    """log p(x, y), (B, C): z summed out."""
    z, step = grid(12.0, 4001)
    prior = norm.logpdf(z)[:, None] + np.log(step)
    return np.stack([logsumexp(log_px(model, z[:, None], y) + prior, axis=0) for y in range(3)], axis=1) + np.log(PRIOR)


def each_bound(model):
    """L(x, y), (B, C): noise summed out."""
    columns = []
    for y in range(3):
        mu, sigma = posterior(model, y)
        values = np.stack([log_px(model, mu[b] + sigma[b] * EPS[:, None], y)[:, b] for b in range(len(X))], axis=1)
        kl = 0.5 * (mu**2 + sigma**2 - 1) - np.log(sigma)
        columns.append(norm.pdf(EPS) @ values * STEP + np.log(PRIOR[y]) - kl[:, 0])
    return np.stack(columns, axis=1)


def unlabelled(model):
    """U(x), (B,): the class summed out too."""
    log_q = log_q_of(model)
    return (np.exp(log_q) * (each_bound(model) - log_q)).sum(axis=1)


def labelled(model):
    """L(x, y) of the labels, (B,)."""
    return each_bound(model)[np.arange(len(X)), Y]


def on_the_grid(model, bound, *args):
    """The mean over the grid's noise of a bound of the library, given as ``bound(rows, *args, eps=...)``; a Tensor."""
    chance = norm.pdf(EPS) * STEP
    rows = lambda a: np.repeat(a, len(EPS), axis=0)
    values = bound(rows(X), *(rows(a) for a in args), eps=np.tile(EPS, len(X))[:, None])
    return (values * np.tile(chance, len(X))).sum()


def class_bounds_sum(model):
    """sum_x U(x), with one noise for all classes of an image: its mean over the grid by the library; a Tensor."""
    chance = np.tile(norm.pdf(EPS) * STEP, len(X))
    eps = np.broadcast_to(np.tile(EPS, len(X))[:, None], (3, len(EPS) * len(X), 1))
    return (model.unlabelled_bound(np.repeat(X, len(EPS), axis=0), eps=eps) * chance).sum()


def agree(model, scalar_of, objective, what):
    """Claims that the engine's derivative of a Tensor is that of a NumPy sum, in encoder, classifier and decoder."""
    claims = []
    for part in ("encoder", "classifier", "decoder"):
        direction = random_direction(model, part)
        right = slope(model, objective, direction)
        claims.append(Claim(along(model, scalar_of(), direction), "=", right, 1e-6, f"{what}: {part}"))
    return claims


# %%
@check("3.1, 3.3, 3.6", "M1 is a VAE: its bound lies below log p(x), by KL(q(z | x), p(z | x))")
def m1():
    """Quadrature of a small VAE; Algorithm 3 writes J(x) where this L(x) is meant."""
    vae = small_vae(62)
    exact = evaluation.log_likelihood_by_quadrature(vae, X, 400, 9.0).values
    q = vae.encode(X)
    mu, sigma = np.asarray(q.mu), np.exp(np.asarray(q.log_sigma))
    z = mu + sigma * EPS[:, None, None]
    weights = norm.pdf(EPS)[:, None] * STEP
    joint = np.asarray(vae.decode(z).log_prob(X)) + norm.logpdf(z)[..., 0]
    gap = (weights * (norm.logpdf(z, mu, sigma)[..., 0] - (joint - exact))).sum(axis=0)
    bound = np.asarray(vae.elbo(np.repeat(X, 1001, axis=0), eps=np.tile(EPS, 3)[None, :, None])).reshape(3, -1)
    mean = bound @ norm.pdf(EPS) * STEP
    return [
        Claim(largest(exact - mean, gap), "=", 0.0, 1e-9, "log p(x) - L(x) and the divergence"),
        Claim(gap.min(), ">=", 1e-3, 0.0, "smallest divergence, nats"),
    ]


@check("3.2, 3.4, 3.5, 3.7", "L(x, y) is a bound on log p(x, y), with q(z | y, x), for binary and for real data")
def labelled_bound():
    """The library's mean over the grid against NumPy's sums; the text's first q(z | x) is not what is used."""
    claims = []
    for likelihood in ("bernoulli", "gaussian"):
        model = network(likelihood)
        exact = log_joint(model)[np.arange(3), Y]
        mu = [posterior(model, y)[0] for y in range(3)]
        claims += [
            Claim(on_the_grid(model, model.labelled_bound, Y).item(), "=", labelled(model).sum(), 1e-9, likelihood),
            Claim(np.min(exact - labelled(model)), ">=", 1e-3, 0.0, f"{likelihood}: smallest gap, nats"),
            Claim(largest(mu[0], mu[1]), ">=", 0.05, 0.0, "q(z | y, x) depends on y"),
        ]
    return claims


@check("3.8", "U(x) sums the class out: a bound on log p(x), its gap KL(q(y, z | x), p(y, z | x))")
def unlabelled_bound():
    """Against brute enumeration; best with q(y | x) in proportion to exp L(x, y), where U is log sum_y exp L."""
    model = network()
    exact, each = logsumexp(log_joint(model), axis=1), each_bound(model)
    return [
        Claim(class_bounds_sum(model).item(), "=", unlabelled(model).sum(), 1e-9, "enumeration"),
        Claim(np.min(exact - unlabelled(model)), ">=", 1e-3, 0.0, "smallest gap, nats"),
        Claim(np.min(logsumexp(each, axis=1) - unlabelled(model)), ">=", 1e-3, 0.0, "q(y | x) can be improved, nats"),
        Claim(np.min(exact - logsumexp(each, axis=1)), ">=", 1e-3, 0.0, "at best: still a bound, nats"),
    ]


@check("3.8, slip", "the printed first line has no expectation over z: as it stands it is no number, but a variable")
def expectation_over_z():
    """E over y alone, z drawn: its spread over z, against the bound, which has none."""
    model = network()
    log_q, drawn = log_q_of(model), []
    for eps in (-1.5, 0.0, 1.5):
        each = np.stack([
            np.stack([log_px(model, (mu + sigma * eps)[b : b + 1], y)[0, b] for b in range(3)]) + np.log(PRIOR[y])
            + norm.logpdf(mu + sigma * eps)[:, 0] - norm.logpdf(mu + sigma * eps, mu, sigma)[:, 0]
            for y, (mu, sigma) in enumerate(posterior(model, y) for y in range(3))
        ], axis=1)  # fmt: skip
        drawn.append((np.exp(log_q) * (each - log_q)).sum(axis=1))
    return [Claim(np.ptp(drawn, axis=0).min(), ">=", 0.1, 0.0, "range over three draws of z, nats")]


@check("3.9, 3.12", "the gradient of the marginalised bound, labelled and not, is that of its sums")
def gradients():
    """The engine's, over the grid of noise, against differences of NumPy's sums."""
    model = network()
    return [
        *agree(model, lambda: on_the_grid(model, model.labelled_bound, Y), lambda: labelled(model).sum(), "L(x, y)"),
        *agree(model, lambda: class_bounds_sum(model), lambda: unlabelled(model).sum(), "U(x)"),
    ]


@check("3.10", "J^alpha: plus alpha N times the mean log q(y | x); the printed minus unlearns the labels")
def extended_objective():
    """The terms against NumPy; then 200 steps on the classifier's term alone with either sign."""
    model, counts = network(), (30, 270)
    value = model.objective(X, Y, X, Generator(63), counts=counts, alpha=0.1).item()
    eps = Generator(63).standard_normal((12, 1))
    bounds = model.labelled_bound(X, Y, eps=eps[:3]), model.unlabelled_bound(X, eps=eps[3:].reshape(3, 3, 1))
    parts = [np.asarray(bound).mean() for bound in bounds]
    term = log_q_of(model)[np.arange(3), Y].mean()
    right = (30 * parts[0] + 270 * parts[1] + 0.1 * 300 * term) / 300
    claims = [Claim(value, "=", right, 1e-10, "30 labelled, 270 unlabelled data, divided by N")]
    for sign, label in ((1.0, "plus"), (-1.0, "minus, as printed")):
        model = network()
        optimizer = Adam(model.classifier.parameters(), 0.05)
        for _ in range(200):
            optimizer.step(grad(-sign * model.classify(X).log_prob(Y).sum(), optimizer.parameters))
        mean = log_q_of(model)[np.arange(3), Y].mean()
        claims.append(
            Claim(sign * (mean + 3.0), ">=", 2.9, 0.0, f"{label}: mean log q(y | x) of the labels + 3, signed")
        )
    return claims


@check("3.10, text", "alpha = 0.1 N weighs a mean over labels: 0.1 N / N_l for each of them, whatever the minibatch")
def weight_of_a_label():
    """The mean of minibatches' losses is the whole objective; a weight 0.1 N_l or 0.1 a label is another."""
    model, counts = network(), (3, 27)
    loss = minibatch_loss(model, X, Y, counts=counts, batch=2, alpha=0.1)
    draws = [loss(X[i % 3 : i % 3 + 1], Generator([64, i])).item() for i in range(3000)]
    right = -(3 * labelled(model).mean() + 27 * unlabelled(model).mean()) / 30
    term = log_q_of(model)[np.arange(3), Y].mean()
    error = 4.5 * np.std(draws) / np.sqrt(len(draws))
    return [
        Claim(np.mean(draws), "=", right - 0.1 * term, error, "weight 0.1 N / N_l a label"),
        Claim(abs(np.mean(draws) - (right - 0.1 * term * 3 / 30)), ">=", error, 0.0, "weight 0.1 a label: apart"),
    ]


@check("3.11", "E over z ~ N(mu, sigma^2) is E over noise of mu + sigma eps")
def location_scale():
    """Two sums of log p(x | y, z): over a grid in z, and over one in eps."""
    model = network()
    z, step = grid(12.0, 6001)
    claims = []
    for y in range(3):
        mu, sigma = posterior(model, y)
        over_z = [(norm.pdf(z, mu[b], sigma[b]) @ log_px(model, z[:, None], y)[:, b]) * step for b in range(3)]
        over_eps = [norm.pdf(EPS) @ log_px(model, mu[b] + sigma[b] * EPS[:, None], y)[:, b] * STEP for b in range(3)]
        claims.append(Claim(largest(over_z, over_eps), "=", 0.0, 1e-8, f"class {y}"))
    return claims


@check("3.12", "its gradient is the mean of the gradients of mu + sigma eps")
def reparameterised():
    """Gradients of the reconstruction in mu and sigma, by the engine over the grid, against differences."""
    model = network()
    mu, sigma = posterior(model, 1)
    value = lambda mu, s: sum(
        norm.pdf(EPS) @ log_px(model, mu[b] + s[b] * EPS[:, None], 1)[:, b] * STEP for b in range(3)
    )
    tensors = [Tensor(mu), Tensor(sigma)]
    z = tensors[0] + tensors[1] * EPS[:, None, None]
    log_p = model.decode(z.reshape(-1, 1), np.tile(Y * 0 + 1, len(EPS))).log_prob(np.tile(X, (len(EPS), 1)))
    ours = grad((log_p * np.repeat(norm.pdf(EPS) * STEP, 3)).sum(), tensors)
    h = 1e-5
    right = [
        (value(mu + h, sigma) - value(mu - h, sigma)) / (2 * h),
        (value(mu, sigma + h) - value(mu, sigma - h)) / (2 * h),
    ]
    return [Claim(g.sum(), "=", r, 1e-6, f"in {name}") for g, r, name in zip(ours, right, ("mu", "sigma"), strict=True)]


@check("3.8, Algorithm 4", "Algorithm 4 samples y: the same bound on average, at a price in variance")
def sampled_class():
    """y drawn from q(y | x) with its score function, exact moments over the classes: the mean gradient is eq. 3.8's."""
    model = network()
    each, log_q = each_bound(model), log_q_of(model)
    values = each - log_q
    mean = (np.exp(log_q) * values).sum(axis=1)
    direction = random_direction(model, "classifier")
    scores = np.array([
        [along(model, model.classify(X[b : b + 1]).log_prob(np.array([y])).sum(), direction) for y in range(3)]
        for b in range(3)
    ])  # fmt: skip
    q = np.exp(log_q)
    estimate = scores * values
    gradient = (q * estimate).sum(axis=1)
    variance = (q * estimate**2).sum(axis=1) - gradient**2
    right = slope(model, lambda: unlabelled(model).sum(), direction)
    return [
        Claim(largest(mean, unlabelled(model)), "=", 0.0, 1e-12, "the bound"),
        Claim(gradient.sum(), "=", right, 1e-6, "the classifier's gradient"),
        Claim(variance.min(), ">=", 1e-3, 0.0, "its variance; summing over y has none"),
    ]


@check("3.2.2, text", "predictions of the model: p(y | x) by importance sampling, beside the classifier q(y | x)")
def prediction():
    """4,000 samples against the integral over z."""
    model = network(scale=0.3)
    model.encoder.layers[-1].bias.assign(np.array([0.0, 0.7]))  # wider than p(z | x, y): weights of small variance
    exact = log_joint(model)
    ours = model.log_joint(X, Generator(65), 4000)
    normalised = lambda a: np.exp(a - logsumexp(a, axis=1, keepdims=True))
    return [
        Claim(largest(ours, exact), "<=", 0.02, 0.0, "log p(x, y), nats"),
        Claim(largest(normalised(ours), normalised(exact)), "<=", 0.01, 0.0, "p(y | x)"),
        Claim(largest(normalised(exact), np.exp(log_q_of(model))), ">=", 0.02, 0.0, "q(y | x) is another, untrained"),
    ]


@check("3.2.3, text", "M1+M2: features are samples of q(z_1 | x), drawn afresh; unused latents are left out")
def stack():
    """Moments of the samples; a VAE with a latent that no weight of the encoder moves."""
    vae = small_vae(66, latents=3, scale=1.5)
    last = vae.encoder.layers[-1]
    last.weight.assign(last.weight.data * np.array([1, 0, 1, 1, 1, 1]))  # the mean of the second latent
    features = Features(vae, X)
    mu, log_sigma = features.posterior(X)
    rows = np.repeat(np.arange(3), 20_000)
    drawn = sample_features((mu[rows], log_sigma[rows]), Generator(67)).reshape(3, 20_000, -1)
    q = vae.encode(X)
    return [
        Claim(features.kept.tolist() == [0, 2], "=", True, 0.0, "latents kept: the first and the third"),
        Claim(largest(mu, np.asarray(q.mu)[:, [0, 2]]), "=", 0.0, 0.0, "their means"),
        Claim(largest((drawn.mean(axis=1) - mu) / np.exp(log_sigma)), "<=", 0.03, 0.0, "mean of the samples / sigma"),
        Claim(largest(drawn.std(axis=1) / np.exp(log_sigma), 1.0), "<=", 0.03, 0.0, "their deviation / sigma, less 1"),
    ]


@check("3.2, text", "with every label given M2 is a conditional VAE: p(x | y) of each class by its samples")
def conditional():
    """The mean image of 20,000 samples of each class against the integral over z."""
    model = network()
    z, step = grid(9.0, 2001)
    claims = []
    for y in range(3):
        right = norm.pdf(z) @ expit(decoded(model, z[:, None], y)) * step
        ours = model.sample(np.full(20_000, y), Generator([68, y])).mean(axis=0)
        claims.append(Claim(largest(ours, right), "<=", 0.01, 0.0, f"class {y}"))
    return claims
