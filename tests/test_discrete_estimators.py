"""Estimators for discrete latents: exact expectations over all states, and the faults that these would find."""

import itertools

import numpy as np
import pytest
from helpers import planted

from minivi import ops
from minivi.estimators import (
    NVIL,
    _parts,
    reparameterised,
    reweighted_wake_sleep,
    score,
    score_function,
    straight_through,
    vimco,
    wake_sleep,
)
from minivi.models import VAE, BeliefNetwork
from minivi.random import Generator
from minivi.small import shake
from minivi.tensor import grad

X = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def network(sizes=(2, 1), words=()):
    """Three pixels, three latents."""
    model = BeliefNetwork(3, sizes, autoregressive=words, rng=Generator(0), dtype="float64")
    return shake(model, Generator(1).standard_normal, 0.8)


def gradients(model, scalar):
    named = dict(model.named_parameters())
    return dict(zip(named, grad(scalar, list(named.values()), unused="zeros"), strict=True))


def tuples(model, samples):
    """All K-tuples of states for each datum: x (T, D), h (K, T, J) a layer, and log q of each tuple by its states."""
    states = model.states()
    index = np.array(list(itertools.product(range(len(states[0])), repeat=samples))).T  # (K, tuples)
    index = np.concatenate([index] * len(X), axis=1)
    x = np.repeat(X, index.shape[1] // len(X), axis=0)
    return x, [s[index, 0] for s in states]


def sums(model, x, h):
    return sum(model.log_p_parts(x, h)), sum(model.log_q_parts(x, h))


def expected(model, samples, surrogate):
    """The gradient of the mean over data of E[surrogate], the probabilities of the tuples being constants."""
    x, h = tuples(model, samples)
    _, log_q = sums(model, x, h)
    return gradients(model, (np.exp(np.asarray(log_q).sum(axis=0)) * surrogate(x, h)).sum() / len(X))


def exact(model, samples, bound):
    """The gradient of E_q[bound(log w)], its probabilities differentiated too."""
    x, h = tuples(model, samples)
    log_p, log_q = sums(model, x, h)
    return gradients(model, (ops.exp(log_q.sum(axis=0)) * bound(log_p - log_q)).sum() / len(X))


def assert_same(got, right):
    for name, g in right.items():
        if name.endswith("lateral") and g.size == 1:
            continue  # one unit has none before it
        assert np.abs(g).max() > 1e-4, f"{name}: a gradient near zero would prove nothing"
        np.testing.assert_allclose(got[name], g, rtol=1e-7, atol=1e-12, err_msg=name)


WORDS = [(), ("prior", "posterior", "pixels")]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize(("samples", "mean"), [(2, "geometric"), (3, "geometric"), (3, "arithmetic")])
def test_vimco_is_unbiased(words, samples, mean, vimco=vimco):
    model = network(words=words)
    iwae = lambda log_w: ops.log_sum_exp(log_w, axis=0) - np.log(samples)
    got = expected(model, samples, lambda x, h: vimco(model, x, h=h, mean=mean))
    assert_same(got, exact(model, samples, iwae))


def nvil_with(model, NVIL=NVIL, **options):
    """With baselines that are far from zero, and a history."""
    nvil = NVIL(model, (4,), rng=Generator(7), **options)
    rng = Generator(8)
    for network in nvil.baselines:
        shake(network, rng.standard_normal, 1.0)
    nvil.running.assign(np.array([[0.5, -3.0, 30.0], [0.5, 1.0, 40.0]])[: len(nvil.running.data)])
    return nvil


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("switches", [{}, {"scale": False}, {"scale": False, "centre": False}])
def test_nvil_is_unbiased_up_to_its_scale(words, per_layer, switches, NVIL=NVIL):
    """Whatever the baselines; the encoder's part is divided by max(1, s), here sqrt(30 / 0.5 - 36) and another."""
    model = network(words=words)
    nvil = nvil_with(model, NVIL, per_layer=per_layer, **switches)
    got = expected(model, 1, lambda x, h: nvil(x, h=h)[1])
    right = exact(model, 1, lambda log_w: log_w[0])
    scales = [np.sqrt(60.0 - 36.0), np.sqrt(80.0 - 4.0) if per_layer else np.sqrt(24.0)]
    for name in right:
        if name.startswith("encoder") and switches.get("scale", True):
            right[name] = right[name] / scales[int(name.split(".")[1])]
    assert_same(got, right)
    assert not np.abs(grad(nvil(X, Generator(1))[1].sum(), nvil.baseline_parameters(), unused="zeros")[0]).any()


def test_nvil_trains_its_baselines_on_what_is_left_of_the_signal(NVIL=NVIL):
    """d/dC of (l - C - c)^2 is -2 (l - C - c), written out for one sample a datum; the model gets none of it."""
    model = network()
    nvil = nvil_with(model, NVIL)
    h, _ = model.draw_and_score(X, Generator(3))
    log_p, log_q = sums(model, X, h)
    left = log_p.data[0] - log_q.data[0] - nvil.baselines[0](X).data[:, 0] - -3.0 / 0.5
    error, _ = nvil(X, h=h)
    np.testing.assert_allclose(error.data, left**2)
    nvil.running.assign(np.array([[0.5, -3.0, 30.0]]))
    got = grad(nvil(X, h=h)[0].sum(), nvil.baselines[0].layers[-1].bias)
    np.testing.assert_allclose(got, [-2 * left.sum()])
    assert not any(g.any() for g in gradients(model, nvil(X, h=h)[0].sum()).values())


def test_a_baseline_of_each_layer_sees_the_layer_below():
    nvil = NVIL(BeliefNetwork(3, (4, 2, 5), rng=Generator(0)), (6,), rng=Generator(1), per_layer=True)
    assert [network.layers[0].weight.shape for network in nvil.baselines] == [(3, 6), (4, 6), (2, 6)]
    error, surrogate = nvil(X.astype("float32"), Generator(2))
    assert error.shape == surrogate.shape == (len(X),)


def test_nvil_moments_run():
    """Means over minibatches with a decay of 0.8, corrected for their start; the first takes its own."""
    model = network()
    nvil, plain = NVIL(model, None, rng=Generator(0)), NVIL(model, None, rng=Generator(0), centre=False, scale=False)
    signals, seen = [], []
    for i in range(3):
        h, _ = model.draw_and_score(X, Generator(i), 50)
        log_p, log_q = sums(model, X, h)
        signals.append(log_p.data - log_q.data)
        error, surrogate = nvil(X, h=h)
        assert error == 0.0
        seen.append((np.asarray(surrogate) - np.asarray(plain(X, h=h)[1])).mean())
        weights = 0.8 ** np.arange(max(i, 1))[::-1]
        past = signals[: max(i, 1)]
        c = sum(w * s.mean() for w, s in zip(weights, past, strict=True)) / weights.sum()
        square = sum(w * np.mean(s**2) for w, s in zip(weights, past, strict=True)) / weights.sum()
        s = max(1.0, np.sqrt(square - c**2))
        by_hand = ((signals[-1] - c) / s * log_q.data - signals[-1] * log_q.data).mean()
        assert seen[-1] == pytest.approx(by_hand, rel=1e-9)
    moments = np.array([[1.0, s.mean(), np.mean(s**2)] for s in signals])
    np.testing.assert_allclose(nvil.running.data[0], 0.2 * 0.8 ** np.arange(3)[::-1] @ moments)
    state = nvil.state_dict()
    other = NVIL(network(), None, rng=Generator(9))
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.running.data, nvil.running.data)


PHASES = {"p": (1.0, 0.0, 0.0), "q": (0.0, 1.0, 0.0), "both": (1.0, 0.5, 0.0)}


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("phase", PHASES)
def test_reweighted_wake_sleep_is_its_definition(samples, phase, reweighted_wake_sleep=reweighted_wake_sleep):
    """Over all K-tuples: sum_k w~_k grad log p and log q, the weights written out for each tuple."""
    model = network()
    wake_p, wake_q, _ = PHASES[phase]
    options = {"wake_p": wake_p, "wake_q": wake_q, "sleep_q": 0.0}
    got = expected(model, samples, lambda x, h: reweighted_wake_sleep(model, x, h=h, **options))
    x, h = tuples(model, samples)
    log_p, log_q = sums(model, x, h)
    w = np.exp(log_p.data - log_q.data)
    share = np.array([[w[k, t] / sum(w[:, t]) for t in range(len(x))] for k in range(samples)])
    chance = np.exp(log_q.data.sum(axis=0))
    right = gradients(model, ((share * (wake_p * log_p + wake_q * log_q)).sum(axis=0) * chance).sum() / len(X))
    for name, g in right.items():
        learns = (name.startswith("encoder") and wake_q) or (name.startswith("decoder") and wake_p)
        if not learns:
            assert not np.any(got[name])
        elif not (samples == 1 and name.startswith("encoder")):
            assert np.abs(g).max() > 1e-4
        np.testing.assert_allclose(got[name], g, rtol=1e-7, atol=1e-12, err_msg=name)


def test_many_samples_make_the_wake_phase_the_likelihood_gradient():
    """eq. 14 with K = 20,000: grad log p(x), which the sum over states has exactly."""
    model = network()
    states = model.states()
    joint = sum(model.log_p_parts(X, states))
    right = gradients(model, ops.log_sum_exp(joint, axis=0).mean())
    got = gradients(model, reweighted_wake_sleep(model, X, Generator(1), 20_000, wake_q=0.0, sleep_q=0.0).mean())
    for name in right:
        if name.startswith("decoder"):
            np.testing.assert_allclose(got[name], right[name], atol=0.02)


def test_sleep_phase_follows_dreams(reweighted_wake_sleep=reweighted_wake_sleep):
    """20,000 dreams: grad of E_p(x, h) log q(h | x), a sum over all x and h."""
    model = network()
    states, pixels = model.states(), network((3,)).states()[0][:, 0]
    log_p, log_q = sums(model, pixels, states)
    right = gradients(model, (np.exp(log_p.data) * log_q).sum())
    x = np.tile(X, (10_000, 1))
    options = {"wake_p": 0.0, "wake_q": 0.0, "sleep_q": 1.0}
    got = gradients(model, reweighted_wake_sleep(model, x, Generator(4), 1, **options).mean())
    for name, g in right.items():
        assert name.startswith("decoder") or np.abs(g).max() > 0.02
        np.testing.assert_allclose(got[name], g, atol=0.01, err_msg=name)


def test_wake_sleep_is_one_of_its_mixtures():
    vae = VAE(3, (4,), 2, rng=Generator(0), dtype="float64")
    old = gradients(vae, wake_sleep(vae, X, Generator(5)).sum())
    mixture = reweighted_wake_sleep(vae, X, Generator(5), 1, wake_q=0.0, sleep_q=1.0)
    for name, g in gradients(vae, mixture.sum()).items():
        np.testing.assert_allclose(g, old[name], rtol=1e-12)


def test_a_unit_of_probability_0_is_never_drawn():
    model = network((3,))
    last = model.encoder[0].network.layers[-1]
    last.weight.assign(np.zeros(last.weight.shape))
    last.bias.assign(np.full(3, -1e4))
    expected = sum(np.asarray(part) for part in model.log_p_parts(X, [np.zeros((1, 2, 3))]))[0]
    np.testing.assert_allclose(straight_through(model, X, uniform=[np.zeros((1, 2, 3))]).data, expected, rtol=1e-12)


def test_straight_through_is_its_definition(straight_through=straight_through):
    """Over the states of one layer: E[d log p / dh] mu (1 - mu) plus the exact gradient of the entropy."""
    model = network((3,))
    states = model.states()[0]
    q = model.encode(X)
    mu = q.mean.data
    uniform = np.where(states == 1, 0.0, 1.0 - 1e-12) * np.ones((1, 2, 1))  # below every mean, or above
    got = np.zeros((2, 3))
    for u, h in zip(uniform, states, strict=True):
        chance = np.prod(np.where(h == 1, mu, 1 - mu), axis=1)  # (B,)
        one = straight_through(model, X, uniform=[u[None]])
        got += chance[:, None] * np.stack([grad(one[b], model.encoder[0].network.layers[0].bias) for b in range(2)])
    slopes = np.zeros((2, 3))
    for h in states:
        chance = np.prod(np.where(h == 1, mu, 1 - mu), axis=1)
        weight, bias = (
            p.data for p in (model.decoder[0].network.layers[0].weight, model.decoder[0].network.layers[0].bias)
        )
        residual = X - 1 / (1 + np.exp(-(h @ weight + bias)))
        slopes += chance[:, None] * (residual @ weight.T + model.decoder[1].bias.data)
    logits = q.logits.data
    np.testing.assert_allclose(got, mu * (1 - mu) * (slopes - logits), rtol=1e-9, atol=1e-12)
    assert np.abs(got).max() > 0.05
    two = network()
    value = straight_through(two, X, Generator(0), 20_000)
    bound = exact_bound(two)
    np.testing.assert_allclose(value.data, bound, atol=0.03)


def exact_bound(model):
    log_p, log_q = sums(model, X, model.states())
    return (np.exp(log_q.data) * (log_p.data - log_q.data)).sum(axis=0)


def test_a_gaussian_model_is_served_too():
    """NVIL without reductions is the score function; VIMCO and reweighted wake-sleep take continuous latents."""
    vae = VAE(3, (4,), 2, rng=Generator(0), dtype="float64")
    z = Generator(1).standard_normal((2, 2, 2))
    plain = NVIL(vae, None, rng=Generator(0), centre=False, scale=False)
    one = gradients(vae, plain(X, h=[z])[1].sum())
    for name, g in gradients(vae, score_function(vae, X, z=z).sum()).items():
        np.testing.assert_allclose(one[name], g, rtol=1e-10)
    assert vimco(vae, X, Generator(2), 3).shape == reweighted_wake_sleep(vae, X, Generator(2)).shape == (2,)


RATIO = "np.asanyarray(log_p) - np.asanyarray(log_q)"
SHARE = "log_w - np.asanyarray(ops.log_sum_exp(log_w, axis=0))"
FAULTS = {  # what: (module, line, fault, the test that finds it)
    "vimco, sign": (score, "bounds.iwae(log_w) + ops.sum(", "bounds.iwae(log_w) - ops.sum(", "vimco"),
    "vimco, signal carries gradient": (score, "signal.astype(log_w.dtype) * log_q",
                                       "(signal.astype(log_w.dtype) + log_w - np.asanyarray(log_w)) * log_q", "vimco"),
    "vimco, own weight too": (score, "(fixed.sum(axis=0) - fixed) / (count - 1)", "fixed.mean(axis=0)", "vimco"),
    "nvil, sign of q": (score, "sum(p_fixed[i:]) - sum(q_fixed[i:])", "sum(p_fixed[i:]) + sum(q_fixed[i:])", "nvil"),
    "nvil, layers from below": (score, "sum(p_fixed[i:]) - ", "sum(p_fixed[i + 1 :]) - ", "nvil"),
    "nvil, leaking baseline": (score, "signal.astype(self.model.dtype) * own",
                               "(signal.astype(self.model.dtype) - guess + np.asanyarray(guess)) * own", "nvil"),
    "nvil, scale forgotten": (score, "/ max(1.0, spread)", "/ 1.0", "nvil"),
    "nvil, baseline's sign": (score, "ops.square(guess - signal)", "ops.square(guess + signal)", "baselines"),
    "rws, weights not normalised": (_parts, SHARE, "log_w", "rws"),
    "rws, weights carry gradient": (_parts, f"log_w = {RATIO}\n    return np.exp({SHARE})",
                                    "log_w = log_p - log_q\n    return ops.exp(log_w - ops.log_sum_exp(log_w, axis=0))",
                                    "rws"),
    "rws, p against q": (_parts, RATIO, "np.asanyarray(log_q) - np.asanyarray(log_p)", "rws"),
    "st, stopped": (reparameterised, "ones + (mean - np.asanyarray(mean))", "ones", "st"),
    "st, entropy's sign": (reparameterised, "entropy + q.entropy()", "entropy - q.entropy()", "st"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault, monkeypatch):
    """Each estimator with one line wrong fails the test of its expectation."""
    module, right, wrong, finder = FAULTS[fault]
    names = planted(module, right, wrong)
    with pytest.raises(AssertionError):
        if finder == "vimco":
            test_vimco_is_unbiased((), 3, "geometric", names["vimco"])
        elif finder == "nvil":
            for per_layer in (False, True):
                test_nvil_is_unbiased_up_to_its_scale((), per_layer, {}, names["NVIL"])
        elif finder == "baselines":
            test_nvil_trains_its_baselines_on_what_is_left_of_the_signal(names["NVIL"])
        elif finder == "rws":
            monkeypatch.setitem(reweighted_wake_sleep.__globals__, "normalised", names["normalised"])
            test_reweighted_wake_sleep_is_its_definition(3, "both")
        else:
            test_straight_through_is_its_definition(names["straight_through"])
