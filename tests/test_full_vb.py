"""The bound on log p(X) against exact evidence, its estimators against each other, weight noise against local noise."""

import numpy as np
import pytest
from scipy import stats

from minivi import evaluation, nn
from minivi.distributions import Normal
from minivi.gradcheck import gradcheck
from minivi.models import VAE, FullVB
from minivi.random import Generator
from minivi.tensor import grad

S = 0.7  # noise of the regression below
PHI = np.array([[1, 1, 1], [1, -1, 1], [1, 1, -1], [1, -1, -1]] * 2, float)  # its features: orthogonal; first the bias
X = np.array([[0.3], [-1.2], [2.0], [0.4], [1.1], [-0.6], [0.9], [0.2]])
N = len(X)


class Regression(VAE):
    """x ~ N(phi theta, S^2), whatever z: a conjugate model whose posterior is factorised. q(z | x) is the prior."""

    def __init__(self, rows=slice(None)):
        super().__init__(1, (), 2, rng=Generator(0), init=nn.normal(0.0), dtype="float64")
        self.rows = rows

    def decode(self, z):
        return Normal(self.decoder(PHI[self.rows, 1:]), np.full(1, np.log(S)))


def regression(*, off=0.0, rows=slice(None)):
    """At the true posterior, or ``off`` from it in every mean and log sigma."""
    model = FullVB(Regression(rows), N)
    posterior = PHI.T @ X[:, 0] / (S**2 + N)  # (Phi'Phi / S^2 + I)^-1 Phi' x / S^2 with Phi'Phi = N I
    weight, bias = model.mu
    weight.assign(posterior[1:, None] + off)
    bias.assign(posterior[:1] + off)
    for p in model.log_sigma:
        p.assign(np.full(p.shape, -0.5 * np.log(1 + N / S**2) + off))
    return model


def shaped(zeta):
    return [zeta[:2, None], zeta[2:]]


# Exact averages over N(0, I) in three dimensions of polynomials up to the third degree.
CUBATURE = [shaped(s * np.sqrt(3) * e) for s in (1, -1) for e in np.eye(3)]
EVIDENCE = stats.multivariate_normal.logpdf(X[:, 0], np.zeros(N), PHI @ PHI.T + S**2 * np.eye(N))


@pytest.mark.parametrize("estimator", ["A", "B"])
def test_bound_meets_the_evidence_at_the_true_posterior(estimator):
    eps = np.zeros((6, N, 2))
    bound = regression().bound(X, eps=eps, zeta=CUBATURE, estimator=estimator)
    np.testing.assert_allclose(bound.item(), EVIDENCE, rtol=1e-12)


def test_fully_sampled_estimator_has_no_variance_at_the_true_posterior(rng):
    """log p(X | theta) + log p(theta) - log q(theta) is then log p(X) for every theta."""
    for _ in range(5):
        zeta = [shaped(3 * rng.standard_normal(3))]
        bound = regression().bound(X, eps=np.zeros((1, N, 2)), zeta=zeta, estimator="A")
        np.testing.assert_allclose(bound.item(), EVIDENCE, rtol=1e-11)


@pytest.mark.parametrize("off", [-0.3, 0.4])
def test_gap_is_the_divergence_from_the_true_posterior(off):
    model = regression(off=off)
    bound = model.bound(X, eps=np.zeros((6, N, 2)), zeta=CUBATURE).item()
    sigma = (1 + N / S**2) ** -0.5
    kl = 3 * (-off + 0.5 * (np.exp(2 * off) + (off / sigma) ** 2 - 1))
    np.testing.assert_allclose(EVIDENCE - bound, kl, rtol=1e-11)
    assert bound < EVIDENCE


def test_minibatches_average_to_the_data_set_and_count_the_weights_once():
    halves = [slice(0, 4), slice(4, 8)]
    parts = [
        regression(off=0.1, rows=r).bound(X[r], eps=np.zeros((6, 4, 2)), zeta=CUBATURE, estimator=e).item()
        for r in halves
        for e in "AB"
    ]
    whole = regression(off=0.1).bound(X, eps=np.zeros((6, N, 2)), zeta=CUBATURE).item()
    np.testing.assert_allclose(np.mean(parts), whole, rtol=1e-12)


def test_kl_of_the_weights_enters_once_for_the_data_set(rng):
    """The bound without the weights' divergence exceeds it by that, whatever N or the minibatch; SciPy integrates."""
    model = FullVB(VAE(3, (4,), 2, rng=Generator(0), dtype="float64"), 5000, scale=0.3)
    noise = {"eps": rng.standard_normal((1, 2, 2)), "zeta": [model.noise(rng)]}
    x = np.array([[0, 1, 1], [1.0, 0, 0]])
    gap = model.bound(x, kl_weight=0.0, **noise).item() - model.bound(x, **noise).item()
    grid = np.linspace(-8, 8, 4001)
    mu = np.concatenate([p.data.ravel() for p in model.mu])
    q = stats.norm.logpdf(grid, mu[:, None], 0.3)
    kl = np.trapezoid(np.exp(q) * (q - stats.norm.logpdf(grid)), grid).sum()
    np.testing.assert_allclose(gap, kl, rtol=1e-9)
    np.testing.assert_allclose(model.kl().item(), kl, rtol=1e-9)
    half = model.bound(x, kl_weight=0.5, **noise).item() - model.bound(x, **noise).item()
    np.testing.assert_allclose(half, kl / 2, rtol=1e-9)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_estimators_have_one_expectation(likelihood, rng):
    """They differ by polynomials of the noise alone, which few nodes of Gauss and Hermite integrate exactly."""
    vae = VAE(1, (), 1, likelihood, rng=Generator(3), init=nn.normal(1.0), dtype="float64")
    model = FullVB(vae, 7, scale=0.6)
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    size = sum(p.size for p in model.mu) + 1
    found = {"A": 0.0, "B": 0.0}
    apart = 0.0
    x = np.array([[1.0]])
    for index in np.ndindex(*(3,) * size):
        noise, cut = nodes[list(index)], 0
        zeta = []
        for p in model.mu:
            zeta.append(noise[cut : cut + p.size].reshape(p.shape))
            cut += p.size
        values = {e: model.bound(x, eps=noise[-1:].reshape(1, 1, 1), zeta=[zeta], estimator=e).item() for e in "AB"}
        apart = max(apart, abs(values["A"] - values["B"]))
        for e in "AB":
            found[e] += values[e] * np.prod(weights[list(index)] / weights.sum())
    np.testing.assert_allclose(found["A"], found["B"], rtol=1e-11)
    assert apart > 1.0


@pytest.mark.parametrize("network", ["decoder", "encoder"])
@pytest.mark.parametrize("estimator, local", [("A", False), ("B", False), ("B", True)])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_gradient_of_the_whole_bound(estimator, local, likelihood, network, rng):
    """Every mean, log sigma and weight of the other network, noise frozen, by finite differences."""
    vae = VAE(3, (4,), 2, likelihood, rng=Generator(1), dtype="float64")
    model = FullVB(vae, 50, scale=0.2, local=local, network=network)
    outputs = 4 if network == "encoder" else 3 if likelihood == "bernoulli" else 6
    zeta = [[rng.standard_normal((5, n)) for n in (4, outputs)] if local else model.noise(rng) for _ in range(2)]
    x, eps = rng.integers(0, 2, (5, 3)).astype(float), rng.standard_normal((2, 5, 2))
    f = lambda: model.bound(x, estimator=estimator, eps=eps, zeta=zeta)
    assert len(model.parameters()) == 12
    report = gradcheck(f, parameters=model, coordinates=6)
    assert report.ok, str(report)


def test_local_noise_has_the_pre_activations_of_weight_noise(rng):
    """Mean and variance for one datum; two data share their weights in one case and not in the other."""
    vae = VAE(2, (), 3, rng=Generator(2), dtype="float64")
    model = FullVB(vae, 10)
    for p in model.log_sigma:
        p.assign(rng.uniform(-2, 0, p.shape))
    h = rng.standard_normal((2, 3))
    draws = 20_000
    shared = np.array([np.asarray(model.draw(zeta=model.noise(rng)).decoder(h)) for _ in range(draws)])
    model.local = True
    at = {z: np.asarray(model.draw(zeta=[np.full((2, 2), z)]).decoder(h)) for z in (0.0, 1.0)}
    mean, std = at[0.0], at[1.0] - at[0.0]
    np.testing.assert_allclose(shared.mean(0), mean, atol=4.5 * std.max() / np.sqrt(draws))
    np.testing.assert_allclose(shared.var(0), std**2, rtol=4.5 * np.sqrt(2 / draws))
    local = np.asarray(model.draw(rng).decoder(np.repeat(h[None], draws, axis=0)))
    np.testing.assert_allclose(local.mean(0), mean, atol=4.5 * std.max() / np.sqrt(draws))
    np.testing.assert_allclose(local.var(0), std**2, rtol=4.5 * np.sqrt(2 / draws))
    sigma = np.exp(model.log_sigma[0].data[:, 0]), np.exp(model.log_sigma[1].data[0])
    covariance = np.sum(h[0] * h[1] * sigma[0] ** 2) + sigma[1] ** 2
    np.testing.assert_allclose(np.cov(shared[:, 0, 0], shared[:, 1, 0])[0, 1], covariance, atol=0.05 * std.max() ** 2)
    assert abs(np.corrcoef(local[:, 0, 0], local[:, 1, 0])[0, 1]) < 4.5 / np.sqrt(draws)


def test_small_scale_is_the_point_estimate(rng):
    """With sigma near zero a draw is the model with mean weights, and so is local noise."""
    vae = VAE(3, (4,), 2, rng=Generator(0), dtype="float64")
    x = np.array([[0, 1, 1], [1.0, 0, 0]])
    plain = evaluation.elbo(vae, x, Generator(5)).values
    for local, network in ((False, "decoder"), (True, "decoder"), (False, "encoder"), (True, "encoder")):
        model = FullVB(vae, 10, scale=1e-9, local=local, network=network)
        eps = Generator(5).standard_normal((1, 2, 2))
        np.testing.assert_allclose(model.elbo(x, Generator(6), eps=eps, kl_weight=0.0), plain, rtol=1e-6)


def test_training_dtype_and_state(rng):
    model = FullVB(VAE(3, (4,), 2, rng=Generator(0)), 10, local=True)
    value = model.elbo(np.ones((2, 3), np.float32), Generator(1), samples=3).mean()
    assert value.dtype == model.dtype == np.float32
    assert all(g.dtype == np.float32 and np.isfinite(g).all() for g in grad(value, model.parameters()))
    assert {"log_sigma.0", "log_sigma.3", "vae.decoder.layers.0.weight"} <= set(model.state_dict())


def test_bad_arguments():
    vae = VAE(3, (4,), 2, rng=Generator(0))
    with pytest.raises(ValueError, match="must be positive"):
        FullVB(vae, 10, scale=0.0)
    with pytest.raises(ValueError, match="unknown network 'prior'"):
        FullVB(vae, 10, network="prior")
    with pytest.raises(ValueError, match="unknown estimator 'C'"):
        FullVB(vae, 10).elbo(np.ones((2, 3), np.float32), Generator(0), estimator="C")
    with pytest.raises(ValueError, match="samples no weights"):
        FullVB(vae, 10, local=True).elbo(np.ones((2, 3), np.float32), Generator(0), estimator="A")
