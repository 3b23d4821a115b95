"""Checks of the review report for binary latents: NVIL, VIMCO, wake-sleep and its reweighted form (sections 2 to 6)."""

import itertools
from math import factorial

import numpy as np
from scipy.special import expit, logsumexp
from scipy.stats import bernoulli, entropy, norm

from minivi import bounds, estimators, gradient_noise, ops
from minivi.experiments import Claim, check
from minivi.models import BeliefNetwork
from minivi.optim import Adam
from minivi.random import Generator
from minivi.small import PATTERNS, along, grid, largest, random_direction, shake, slope, small_vae
from minivi.tensor import Parameter, grad

# %% [markdown]
# ## The equations, checked
#
# A belief network of three pixels and two layers, of two latents and one: eight images x and eight states h. Its
# log p(x, h) and log q(h | x) are written out in SciPy from the weights, and every expectation is a sum: over the
# states, or over all K-tuples of states. A gradient is compared along a random direction in the parameters with a
# difference of such a sum. `checks/ch02_gradients.py` has eq. 1 to 8 for tables and Gaussians.

# %%
BITS = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
IMAGES, STATES = BITS, [BITS[:, None, :2], BITS[:, None, 2:]]
LATERAL = ("prior", "posterior", "pixels")


def network(words=(), seed=0):
    """Random weights."""
    model = BeliefNetwork(3, (2, 1), autoregressive=words, rng=Generator([seed, 21]), dtype="float64")
    return shake(model, Generator([seed, 22]).standard_normal, 0.8)


def exact_network():
    """Its latents explain nothing, so p(h | x) = p(h); and q(h | x) = p(h): no weights, and the same biases."""
    model, biases = network(), [np.array([0.7, -0.4]), np.array([1.1])]
    for layer in (*model.encoder, *model.decoder[:-1]):
        layer.network.layers[0].weight.assign(0.0 * layer.network.layers[0].weight.data)
    for layer, bias in zip((*model.encoder, model.decoder[1]), (*biases, biases[0]), strict=True):
        layer.network.layers[0].bias.assign(bias)
    model.decoder[2].bias.assign(biases[1])
    return model


def score(layer, units, context):
    """log-probability of units given what is below or above, by SciPy from the layer's weights."""
    logits = layer.bias.data if context is None else None
    if logits is None:
        (linear,) = layer.network.layers
        logits = context @ linear.weight.data + linear.bias.data
    if layer.autoregressive:
        logits = logits + units @ np.triu(layer.lateral.data, 1)
    return bernoulli.logpmf(units, expit(logits)).sum(axis=-1)


def tables(model):
    """log p(x, h) and log q(h | x), each (states, images)."""
    (up_1, up_2), (down_1, down_2, top), (h_1, h_2) = model.encoder, model.decoder, STATES
    log_p = score(down_1, IMAGES, h_1) + score(down_2, h_1, h_2) + score(top, h_2, None)
    return log_p, score(up_1, h_1, IMAGES) + score(up_2, h_2, h_1)


def log_likelihood(model):
    """log p(x) of each image."""
    return logsumexp(tables(model)[0], axis=0)


def bound(model, samples=1):
    """The bound of K samples of each image: a sum over the multisets of K states, each with its number of orders."""
    log_p, log_q = tables(model)
    total = np.zeros(len(IMAGES))
    for states in itertools.combinations_with_replacement(range(len(BITS)), samples):
        orders = factorial(samples) / np.prod([factorial(states.count(s)) for s in set(states)])
        chosen = list(states)
        value = logsumexp(log_p[chosen] - log_q[chosen], axis=0) - np.log(samples)
        total += orders * np.exp(log_q[chosen].sum(axis=0)) * value
    return total


def all_tuples(samples):
    """All K-tuples of states for each image, image after image: states' numbers (K, T), rows x and h as models do."""
    index = np.array(list(itertools.product(range(len(BITS)), repeat=samples))).T
    every = np.tile(index, (1, len(IMAGES)))
    return index, np.repeat(IMAGES, index.shape[1], axis=0), [part[every, 0] for part in STATES]


def expected(model, samples, surrogate):
    """E[surrogate(x, h)] over the K-tuples, mean over images; their probabilities, SciPy's, are constants."""
    index, x, h = all_tuples(samples)
    chance = np.exp(tables(model)[1][index].sum(axis=0)).T.ravel()
    return (surrogate(x, h) * chance).sum() / len(IMAGES)


def log_weights(model, x, h):
    """The library's log p(x, h) - log q(h | x), and the two, (K, B)."""
    log_p, log_q = sum(model.log_p_parts(x, h)), sum(model.log_q_parts(x, h))
    return log_p - log_q, log_p, log_q


def plain(model, hidden=None, **options):
    """NVIL, by default without any of its reductions."""
    return estimators.NVIL(model, hidden, rng=Generator(23), **({"centre": False, "scale": False} | options))


def directions(model):
    """One in the inference network, one in the model."""
    return {name: random_direction(model, part) for name, part in {"q": "encoder", "p": "decoder"}.items()}


def agree(model, surrogate, objectives, what):
    """Claims that the derivative of ``surrogate()`` is that of an objective, by a difference, in each network."""
    if callable(objectives):
        objectives = {"q": objectives, "p": objectives}
    right = {name: slope(model, objectives[name], d) for name, d in directions(model).items()}
    scalar = surrogate()
    return [
        Claim(along(model, scalar, d), "=", right[name], 1e-8, f"{what}: {name}")
        for name, d in directions(model).items()
    ]


# %% Sections 2 and 3
@check("review report 1, review report 12", "sum_h q (log p(x, h) - log q(h | x)) is at most log p(x), with equality")
def jensen():
    """All states in SciPy against the library's two sums, and against its estimate by 2,000 samples an image."""
    claims = []
    for label, words in {"independent units": (), "autoregressive": LATERAL}.items():
        model = network(words)
        log_p, log_q = tables(model)
        _, ours_p, ours_q = log_weights(model, IMAGES, STATES)
        draws = np.asarray(model.log_weights(IMAGES, Generator(24), 2000)).mean(axis=1)
        claims += [
            Claim(largest(ours_p, log_p), "=", 0.0, 1e-12, f"{label}: log p(x, h)"),
            Claim(largest(ours_q, log_q), "=", 0.0, 1e-12, f"{label}: log q(h | x)"),
            Claim(largest(model.exact_log_likelihood(IMAGES), log_likelihood(model)), "=", 0.0, 1e-12, "log p(x)"),
            Claim(np.exp(log_likelihood(model)).sum(), "=", 1.0, 1e-12, "p(x) over all images"),
            Claim(np.min(log_likelihood(model) - bound(model)), ">=", 0.01, 0.0, "smallest gap, nats"),
            Claim(draws.mean(), "=", bound(model).mean(), 4 * draws.std() / np.sqrt(len(draws)), "sampled bound"),
        ]
    elbo = np.asarray(exact_network().elbo(IMAGES, Generator(25), 3))
    return [*claims, Claim(largest(elbo, log_likelihood(exact_network())), "=", 0.0, 1e-12, "equality: q = p(h | x)")]


@check("review report 2", "L = log p(x) - KL(q(h | x), p(h | x)); the divergence is not symmetric")
def decomposition():
    """SciPy's relative entropies of the states' tables."""
    model = network()
    log_p, log_q = tables(model)
    posterior = np.exp(log_p - log_likelihood(model))
    forward, backward = entropy(np.exp(log_q), posterior, axis=0), entropy(posterior, np.exp(log_q), axis=0)
    weights = np.asarray(log_weights(model, IMAGES, STATES)[0])
    left = (np.exp(log_q) * weights).sum(axis=0)
    return [
        Claim(largest(left, log_likelihood(model) - forward), "=", 0.0, 1e-12, "largest difference"),
        Claim(largest(forward, backward), ">=", 0.05, 0.0, "the two divergences differ, nats"),
    ]


@check("2.72, review report 4", "E_q[grad log q] = 0 for binary latents")
def mean_score():
    """The engine's log q under SciPy's probabilities, all states; one state's gradient is not 0."""
    model = network(LATERAL)
    direction = directions(model)["q"]
    log_q = lambda x, h: sum(model.log_q_parts(x, h))[0]
    one = along(model, log_q(IMAGES, STATES).sum(), direction)
    return [
        Claim(along(model, expected(model, 1, log_q), direction), "=", 0.0, 1e-12, "expectation"),
        Claim(abs(one), ">=", 0.1, 0.0, "one state"),
    ]


@check("2.73, review report 3, review report 4", "the gradients of the bound, for the model and the inference network")
def gradients_of_the_bound():
    """NVIL without its reductions, over all states, against differences of the bound; q's samples are constants."""
    claims = []
    for label, words in {"independent units": (), "autoregressive": LATERAL}.items():
        model = network(words)
        surrogate = lambda model=model: expected(model, 1, lambda x, h: plain(model)(x, h=h)[1])
        claims += agree(model, surrogate, lambda model=model: bound(model).mean(), label)
    return [*claims, Claim(min(abs(c.right) for c in claims), ">=", 0.01, 0.0, "smallest of them")]


@check("review report 5", "L samples of h: the estimate's mean is the bound, and its variance that of one over L")
def several_samples():
    """Exact moments over all pairs and triples. The print lacks p after the log: log_theta(x, h) for log p_theta."""
    model, claims = network(), []
    log_p, log_q = tables(model)
    mean = bound(model)
    one = (np.exp(log_q) * (log_p - log_q - mean) ** 2).sum(axis=0).mean()
    for samples in (2, 3):
        estimate = lambda x, h: bounds.elbo(log_weights(model, x, h)[0])
        centred = lambda x, h: (estimate(x, h) - np.repeat(mean, len(x) // len(mean))) ** 2
        claims += [
            Claim(expected(model, samples, estimate).item(), "=", mean.mean(), 1e-12, f"mean, L = {samples}"),
            Claim(expected(model, samples, centred).item(), "=", one / samples, 1e-12, f"variance, L = {samples}"),
        ]
    return claims


# %% Section 4.2
def baseline(nvil, x):
    """C(x) of the network written out in NumPy, and c and s from the running sums, for a single signal."""
    first, last = nvil.baselines[0].layers
    c = np.tanh(x @ first.weight.data + first.bias.data) @ last.weight.data + last.bias.data
    weight, mean, square = nvil.running.data[0]
    return c[:, 0], mean / weight, np.sqrt(square / weight - (mean / weight) ** 2)


def with_history(model, past=(0.5, -3.0, 30.0), **options):
    """NVIL with random baseline networks and with minibatches behind it."""
    nvil = plain(model, (4,), **options)
    for net in nvil.baselines:
        shake(net, Generator(26).standard_normal, 1.0)
    nvil.running.assign(np.tile(past, (len(nvil.running.data), 1)))
    return nvil


@check(
    "review report 7, review report 8", "the factor before grad log q is (log p(x, h) - log q(h | x) - C(x) - c) / s"
)
def learning_signal():
    """The ratio of two of the engine's gradients for one state, against SciPy's tables and C in NumPy."""
    model = network()
    direction, (log_p, log_q) = directions(model)["q"], tables(model)
    claims = []
    for image, state in ((3, 5), (6, 0)):
        nvil = with_history(model, centre=True, scale=True)
        x, h = IMAGES[image : image + 1], [part[state][None] for part in STATES]
        c_x, c, s = baseline(nvil, x)
        factor = along(model, nvil(x, h=h)[1].sum(), direction)
        factor /= along(model, sum(model.log_q_parts(x, h)).sum(), direction)
        signal = log_p[state, image] - log_q[state, image]
        claims.append(Claim(factor, "=", (signal - c_x[0] - c) / s, 1e-10, f"image {image}, state {state}"))
    return claims


@check("review report 8", "any constant and any network of x leave the expectation of the gradient as it is")
def any_baseline():
    """Over all states, for constants, networks and a signal for each layer; the scale divides q's gradient alone."""
    model = network()
    switches = {
        "c = -6": {"centre": True},
        "c = 20": {"centre": True, "past": (0.1, 2.0, 100.0)},
        "C(x)": {},
        "C(x) + c": {"centre": True},
        "a signal each layer": {"centre": True, "per_layer": True},
        "all and the scale": {"centre": True, "scale": True},
    }
    right = {name: slope(model, lambda: bound(model).mean(), d) for name, d in directions(model).items()}
    claims = []
    for label, options in switches.items():
        nvil = with_history(model, **options)
        if label.startswith("c ="):
            nvil.baselines.clear()
        scale = baseline(nvil, IMAGES)[2] if "scale" in options else 1.0
        surrogate = expected(model, 1, lambda x, h, nvil=nvil: nvil(x, h=h)[1])
        for name, direction in directions(model).items():
            truth = right[name] / (scale if name == "q" else 1.0)
            claims.append(Claim(along(model, surrogate, direction), "=", truth, 1e-8, f"{label}: {name}"))
    return claims


def total_variance(model, nvil, direction):
    """Variance of one state's gradient along a direction, summed over images: exact, from all states."""
    log_q, values = tables(model)[1], np.zeros((len(BITS), len(IMAGES)))
    history = nvil.running.data.copy()
    for s, b in np.ndindex(values.shape):
        nvil.running.assign(history)
        surrogate = nvil(IMAGES[b : b + 1], h=[part[s][None] for part in STATES])[1]
        values[s, b] = along(model, surrogate.sum(), direction)
    mean = (np.exp(log_q) * values).sum(axis=0)
    return (np.exp(log_q) * (values - mean) ** 2).sum()


@check("review report 8, text", "C(x) trained on squared error is the mean signal, and lowers the gradient's variance")
def trained_baseline():
    """300 steps of Adam on all states. At its minimum the baseline of x is E_q[l], the bound itself."""
    model = network(seed=3)
    for layer in model.decoder[:-1]:  # images that differ more in their log p(x)
        layer.network.layers[0].bias.assign(layer.network.layers[0].bias.data - 2.0)
    nvil = plain(model, (8,))
    optimizer, errors = Adam(nvil.baseline_parameters(), 0.05), []
    for _ in range(300):
        loss = expected(model, 1, lambda x, h: nvil(x, h=h)[0][None])
        errors.append(loss.item())
        optimizer.step(grad(loss, optimizer.parameters))
    left = np.exp(tables(model)[1]) * (np.subtract(*tables(model)) - bound(model)) ** 2
    direction = directions(model)["q"]
    c_x, _, _ = baseline(nvil, IMAGES)
    trained, none = (total_variance(model, n, direction) for n in (nvil, plain(model)))
    nvil = plain(model, centre=True)
    nvil.running.assign(np.array([[1.0, bound(model).mean(), 0.0]]))
    constant = total_variance(model, nvil, direction)
    return [
        Claim(errors[-1], "=", left.sum(axis=0).mean(), 0.05, "squared error: the signal's variance within an image"),
        Claim(largest(c_x, bound(model)), "<=", 0.25, 0.0, "from the bound, nats"),
        Claim(none / trained, ">=", 2.0, 0.0, "variance without a baseline / with the network"),
        Claim(constant / trained, ">=", 1.5, 0.0, "with the mean signal / with the network"),
    ]


# %% Section 4.4
@check("review report 9, review report 10", "the bound of k samples is below log p(x) and rises with k")
def rising():
    """k = 1 to 4: all k-tuples through the library against multisets in SciPy, and 4,000 draws for k = 4."""
    model = network()
    values = [bound(model, k) for k in (1, 2, 3, 4)]
    iwae = lambda x, h: bounds.iwae(log_weights(model, x, h)[0])
    claims = [
        Claim(expected(model, k, iwae).item(), "=", values[k - 1].mean(), 1e-10, f"k = {k}, all tuples")
        for k in (1, 2, 3)
    ]
    x = np.repeat(IMAGES, 4000, axis=0)
    draws = np.asarray(bounds.iwae(model.log_weights(x, Generator(27), 4))).reshape(8, -1).mean(axis=0)
    tight = np.asarray(bounds.iwae(exact_network().log_weights(IMAGES, Generator(28), 5)))
    return [
        *claims,
        Claim(draws.mean(), "=", values[3].mean(), 4 * draws.std() / np.sqrt(len(draws)), "k = 4, drawn"),
        Claim(np.min(np.diff(values, axis=0)), ">=", 1e-3, 0.0, "smallest rise of an image, nats"),
        Claim(np.min(log_likelihood(model) - values[3]), ">=", 1e-3, 0.0, "smallest distance from log p(x)"),
        Claim(largest(tight, log_likelihood(exact_network())), "=", 0.0, 1e-12, "equality: q = p(h | x)"),
    ]


@check("review report 11", "the model's gradient of L_k weighs the samples; the printed mean is the ELBO's gradient")
def weights_left_out():
    """All triples. For q's parameters even the weighted sum is wrong: no gradient passes through a binary h."""
    model = network()
    p, q = directions(model)["p"], directions(model)["q"]
    of_three, of_one, of_three_q = (
        slope(model, lambda k=k: bound(model, k).mean(), d) for k, d in ((3, p), (1, p), (3, q))
    )
    weighted, printed = (
        expected(model, 3, lambda x, h, f=f: f(log_weights(model, x, h)[0])) for f in (bounds.iwae, bounds.elbo)
    )
    return [
        Claim(along(model, weighted, p), "=", of_three, 1e-8, "sum w~ grad log w"),
        Claim(along(model, printed, p), "=", of_one, 1e-8, "printed: the gradient of L_1"),
        Claim(abs(of_one - of_three), ">=", 0.02, 0.0, "which is not that of L_3"),
        Claim(abs(along(model, weighted, q) - of_three_q), ">=", 0.02, 0.0, "sum w~ grad log w for q: its error"),
    ]


# %% Section 4.5
def divergence_from_dreams(model):
    """sum_x p(x) KL(p(h | x), q(h | x))."""
    log_p, log_q = tables(model)
    return np.sum(np.exp(log_p) * (log_p - log_likelihood(model) - log_q))


WAKE = {"wake_p": 1.0, "wake_q": 1.0, "sleep_q": 0.0}
SLEEP = {"wake_p": 0.0, "wake_q": 0.0, "sleep_q": 1.0}


def wake(model):
    """Both wake phases as a function of samples."""
    return lambda x, h: estimators.reweighted_wake_sleep(model, x, h=h, **WAKE)


@check("review report 12", "the wake phase ascends this bound in p; the sleep phase descends KL(p(h | x), q(h | x))")
def phases():
    """Wake over all states; 200 x 500 dreams: the divergence is a mean over the model's own x, not over the data."""
    model = network()
    p, q = directions(model)["p"], directions(model)["q"]
    rows = np.tile(IMAGES, (63, 1))[:500]
    sleep = lambda rng: estimators.reweighted_wake_sleep(model, rows, rng, 1, **SLEEP).mean()
    draws = [along(model, sleep(Generator([29, i])), q) for i in range(200)]
    of_bound, of_dreams = (
        slope(model, f, q) for f in (lambda: bound(model).mean(), lambda: divergence_from_dreams(model))
    )
    claims = [
        Claim(along(model, expected(model, 1, wake(model)), p), "=", slope(model, lambda: bound(model).mean(), p), 1e-8,
              "wake"),
        Claim(np.mean(draws), "=", -of_dreams, 4 * np.std(draws) / np.sqrt(200), "sleep"),
        Claim(abs(of_bound + of_dreams), ">=", 0.05, 0.0, "sleep does not follow the bound"),
    ]  # fmt: skip
    before, rng = divergence_from_dreams(model), Generator(30)
    encoder = [v for k, v in model.named_parameters() if k.startswith("encoder")]
    optimizer = Adam(encoder, 0.03)
    for _ in range(200):
        optimizer.step([-g for g in grad(sleep(rng), encoder)])
    return [*claims, Claim(divergence_from_dreams(model), "<=", 0.3 * before, 0.0, "after 200 steps, against before")]


@check("review report 13", "the mean of K weights estimates p(x) without bias")
def unbiased_likelihood():
    """All K-tuples through the library, against the sum over states; its logarithm is biased."""
    model, claims = network(), []
    p = np.exp(log_likelihood(model))
    for k in (1, 2, 3):
        mean = lambda x, h: np.exp(np.asarray(bounds.iwae(log_weights(model, x, h)[0])))
        claims.append(Claim(expected(model, k, mean), "=", p.mean(), 1e-12, f"K = {k}"))
    return claims


def limit(model):
    """Where the wake phases go: log p(x), and sum_h p(h | x) log q(h | x) the posterior held, mean over images."""
    posterior = np.exp(tables(model)[0] - log_likelihood(model))
    return {
        "p": lambda: log_likelihood(model).mean(),
        "q": lambda: (posterior * tables(model)[1]).sum() / len(IMAGES),
    }


@check("review report 14, review report 15", "reweighted wake-sleep is sum w~ grad log p and sum w~ grad log q")
def reweighted():
    """All K-tuples: the library, against differences of sums with the normalised weights held.

    The text says that q is trained on log q(x | h), which is no distribution of the inference network: eq. 15 is right.
    """
    model, claims = network(), []
    log_p, log_q = tables(model)
    for k in (1, 2, 3):
        index, *_ = all_tuples(k)
        w, chance = np.exp(log_p - log_q)[index], np.exp(log_q[index].sum(axis=0))
        share = chance * w / w.sum(axis=0)
        held = {
            name: lambda of=of, share=share, index=index: (share * tables(model)[of][index]).sum() / len(IMAGES)
            for name, of in {"p": 0, "q": 1}.items()
        }
        claims += agree(model, lambda k=k: expected(model, k, wake(model)), held, f"K = {k}")
    return claims


@check("review report 14, review report 15, text", "the bias of both gradients falls as K grows")
def consistent():
    """Along eight directions: exact for K = 1 to 4, and 20,000 samples. At K = 1 the wake phase of q has no signal."""
    model, claims = network(), []
    for name, part in {"q": "encoder", "p": "decoder"}.items():
        several = [random_direction(model, part, seed) for seed in range(8)]
        right = np.array([slope(model, limit(model)[name], d) for d in several])
        scalars = [expected(model, k, wake(model)) for k in (1, 2, 3, 4)]
        scalars.append(estimators.reweighted_wake_sleep(model, IMAGES, Generator(31), 20_000, **WAKE).mean())
        got = np.array([[along(model, scalar, d) for d in several] for scalar in scalars])
        errors = np.sqrt(np.mean((got - right) ** 2, axis=1))
        claims += [
            Claim(np.max(np.diff(errors[:4])), "<=", -1e-3, 0.0, f"{name}: change from K to K + 1, largest"),
            Claim(errors[4] / errors[3], "<=", 0.1, 0.0, f"{name}: error at K = 20,000 / at K = 4"),
            Claim(errors[4], "=", 0.0, 0.02, f"{name}: error at K = 20,000"),
        ]
        if name == "q":
            claims.append(Claim(largest(got[0]), "=", 0.0, 1e-12, "q, K = 1"))
    return claims


@check("review report 14, slip", "with w_k as printed the sum's expectation is K grad p(x), not grad log p(x)")
def not_normalised():
    """Pairs and triples, one image, against differences of p(x); the first line of eq. 14, with 1 / p(x), is right."""
    model, claims = network(), []
    direction = directions(model)["p"]
    p_of = lambda: np.exp(log_likelihood(model))[5]
    of_p, of_log_p = slope(model, p_of, direction), slope(model, lambda: np.log(p_of()), direction)
    for k in (2, 3):

        def printed(x, h):
            log_w, log_p, _ = log_weights(model, x, h)
            only = np.repeat(np.arange(len(IMAGES)) == 5, len(x) // len(IMAGES))
            return (np.exp(np.asarray(log_w)) * log_p).sum(axis=0) * only * len(IMAGES)

        got = along(model, expected(model, k, printed), direction)
        claims.append(Claim(got, "=", k * of_p, 1e-8, f"K = {k}: K grad p(x)"))
        claims.append(Claim(got / k / p_of(), "=", of_log_p, 1e-7, "mean over k, divided by p(x): grad log p(x)"))
        claims.append(Claim(got / of_log_p, "=", k * p_of(), 1e-7, "so the printed one is too small by K p(x)"))
    return claims


# %% Section 6.1
@check("review report section 6.1", "VIMCO is unbiased for the bound of K samples, by either mean of the other weights")
def vimco():
    """All pairs and triples, against differences of the bound over multisets."""
    claims = []
    for label, words in {"independent units": (), "autoregressive": LATERAL}.items():
        model = network(words)
        for k, mean in ((2, "geometric"), (3, "geometric"), (3, "arithmetic")):
            surrogate = lambda m=model, k=k, mean=mean: expected(
                m, k, lambda x, h: estimators.vimco(m, x, h=h, mean=mean)
            )
            claims += agree(model, surrogate, lambda m=model, k=k: bound(m, k).mean(), f"{label}, K = {k}, {mean}")
    return claims


@check("review report section 6.1", "its gradient varies less than that with the whole log mean w as the signal")
def vimco_variance():
    """Means over eight images of 400 draws, K = 4."""
    model = network()
    named = dict(model.named_parameters())
    encoder = [named[k] for k in named if k.startswith("encoder")]

    def naive(rng):
        h, q = model.draw_and_score(IMAGES, rng, 4)
        log_w = np.asarray(sum(model.log_p_parts(IMAGES, h))) - np.asarray(sum(q))
        return (np.asarray(bounds.iwae(log_w)) * sum(q)).sum(axis=0).mean()

    rng, spread = Generator(32), []
    for surrogate in (naive, lambda rng: estimators.vimco(model, IMAGES, rng, 4).mean()):
        moments = gradient_noise.gradient_moments(lambda f=surrogate: grad(f(rng), encoder), 400)
        spread.append(sum(v.sum() for v in moments.variance))
    return Claim(spread[0] / spread[1], ">=", 5.0, 0.0, "ratio of the variances")


@check("review report section 4.6", "stochastic backpropagation (Bonnet's and Price's rules) is reparameterisation")
def stochastic_backpropagation():
    """E[f], f = log p(x | z), under N(mu, sigma^2), as a sum over a grid: E[f'] and sigma^2 E[f''] by differences of f,
    against the engine's gradients by mu and log sigma. Each sample's gradient by mu is the same, by sigma it is not."""
    vae, x, h = small_vae(5, scale=1.5), PATTERNS[6:7], 1e-4
    nodes, step = grid(9.0, 2001)
    mass = norm.pdf(nodes) * step
    f = lambda z: np.asarray(vae.decode(z).log_prob(x), np.float64)

    def moved(mu, log_sigma):
        z = mu + ops.exp(log_sigma) * nodes[:, None, None]
        return vae.decode(z).log_prob(x)

    mu, log_sigma = Parameter(np.array([[0.4]])), Parameter(np.array([[-0.3]]))
    z = mu.data + np.exp(log_sigma.data) * nodes[:, None, None]
    first = (f(z + h) - f(z - h)) / (2 * h)
    second = (f(z + h) - 2 * f(z) + f(z - h)) / h**2
    by_mu, by_sigma = grad((moved(mu, log_sigma)[:, 0] * mass).sum(), [mu, log_sigma])
    one = grad(moved(mu, log_sigma)[1200, 0], [mu, log_sigma])
    variance = np.exp(2 * log_sigma.data).item()
    return [
        Claim(by_mu.item(), "=", mass @ first[:, 0], 1e-7, "by mu: E[f']"),
        Claim(by_sigma.item(), "=", variance * (mass @ second[:, 0]), 1e-6, "by log sigma: sigma^2 E[f'']"),
        Claim(one[0].item(), "=", first[1200, 0], 1e-6, "by mu, one sample"),
        Claim(
            abs(one[1].item() - variance * second[1200, 0]), ">=", 0.1, 0.0, "by log sigma, one sample: another number"
        ),
    ]
