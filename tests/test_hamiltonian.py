"""Hamiltonian variational inference: the dynamics preserve volume, the bound is one, and no steps give the VAE."""

import numpy as np
import pytest
from helpers import planted

from minivi import evaluation, ops, optim
from minivi.gradcheck import gradcheck
from minivi.models import VAE, HamiltonianVAE, hamiltonian
from minivi.random import Generator
from minivi.small import PATTERNS, jacobian, shake
from minivi.tensor import Tensor, grad, no_grad


def tiny(steps=3, latents=1, seed=0, scale=0.6, kind=HamiltonianVAE):
    model = kind(4, (3,), latents, steps=steps, step_size=0.3, reverse=4, rng=Generator(seed), dtype="float64")
    return shake(model, Generator(seed + 1).standard_normal, scale)


def test_a_step_of_no_size_is_the_vae_bit_for_bit():
    x = (Generator(5).random((10, 6)) < 0.5).astype("float32")
    options = {"pixels": 6, "hidden": (5,), "latents": 3, "activation": "softplus"}
    vae = VAE(**options, rng=Generator(0))
    model = HamiltonianVAE(**options, steps=1, step_size=0.0, rng=Generator(0))
    a, b = vae.log_weights(x, Generator(1), 3), model.log_weights(x, Generator(1), 3)
    np.testing.assert_array_equal(a.data, b.data)
    for one, two in zip(grad(a.sum(), vae.parameters()), grad(b.sum(), model.vae.parameters()), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("steps", [1, 4])
def test_leapfrog_preserves_volume_and_runs_back(steps, kind=HamiltonianVAE):
    model, x = tiny(steps, latents=2, kind=kind), PATTERNS[[3]]
    start = Generator(2).standard_normal((1, 4))

    def flow(zv):
        z, v = model.leapfrog(x, zv[None, :, :2], zv[None, :, 2:])
        return ops.concatenate([z[0], v[0]], axis=-1)

    volume = np.linalg.det(jacobian(flow, start)[0])
    assert volume == pytest.approx(1.0, abs=1e-10)
    end = np.asarray(flow(Tensor(start)))
    assert np.abs(end - start).max() > 0.1
    z, v = (np.asarray(a) for a in model.leapfrog(x, end[None, :, :2], -end[None, :, 2:]))
    np.testing.assert_allclose(np.concatenate([z[0], -v[0]], axis=-1), start, atol=1e-12)


def test_the_force_is_the_slope_of_the_joint():
    model, x, h = tiny(1), PATTERNS[[3, 9]], 1e-6
    z = Generator(3).standard_normal((2, 2, 1))
    with no_grad():
        slope = (np.asarray(model.log_joint(x, z + h)) - np.asarray(model.log_joint(x, z - h))) / (2 * h)
        half = np.asarray(model.leapfrog(x, z, np.zeros_like(z))[0]) - z
    size = model.step_size.data
    np.testing.assert_allclose(half[..., 0], size[0] * 0.5 * size[0] * slope, rtol=1e-6)  # z + s (v + s/2 force)


def test_the_reverse_model_is_a_network_of_data_and_end():
    model, z = tiny(latents=2), Generator(3).standard_normal((3, 2, 2))
    joined = np.concatenate([np.broadcast_to(PATTERNS[[3, 9]], (3, 2, 4)), z], axis=-1)
    weight = np.vstack([model.reverse_x.weight.data, model.reverse_z.weight.data])
    hidden = np.tanh(joined @ weight + model.reverse_x.bias.data + model.reverse_z.bias.data)
    heads = hidden @ model.reverse_heads.weight.data + model.reverse_heads.bias.data
    r = model.reverse(PATTERNS[[3, 9]], z)
    np.testing.assert_allclose(np.concatenate([np.asarray(r.mu), np.asarray(r.log_sigma)], axis=-1), heads, rtol=1e-10)


def test_recorded_or_not_the_numbers_are_the_same():
    model = tiny(3, latents=2)
    recorded = model.log_weights(PATTERNS, Generator(1), 5)
    with no_grad():
        np.testing.assert_array_equal(model.log_weights(PATTERNS, Generator(1), 5).data, recorded.data)


@pytest.mark.parametrize("steps", [1, 3])
def test_weights_average_to_the_likelihood(steps, kind=HamiltonianVAE, parts=4):
    """E[w] = p(x), by 200,000 draws within 4 standard errors of the integral over z; so the bound lies below.

    The draws come in parts, whose arrays fit the memory that is used again.
    """
    model = tiny(steps, scale=0.25, kind=kind)  # a posterior wide enough that the weights have a variance
    exact = evaluation.log_likelihood_by_quadrature(model.vae, PATTERNS, 400, 9.0).values
    rng = Generator(4)
    with no_grad():
        log_w = np.concatenate([np.asarray(model.log_weights(PATTERNS, rng, 50_000)) for _ in range(parts)])
    w = np.exp(log_w)
    error = w.std(axis=0) / np.sqrt(len(w))
    assert (np.abs(w.mean(axis=0) - np.exp(exact)) < 4 * error).all()
    assert (error < 0.05 * np.exp(exact)).all() and (log_w.mean(axis=0) < exact).all()


def test_gradients_through_the_dynamics():
    model = tiny(2, latents=2)
    eps = Generator(6).standard_normal((2, 1, 16, 2))
    report = gradcheck(lambda: model.elbo(PATTERNS, eps=eps).mean(), parameters=model)
    assert report.ok, report


def test_a_learned_reverse_model_makes_more_steps_tighter():
    """Decoder and encoder are held, the latter far off: after training the rest the bound rises in T."""
    ends = {}
    for steps in (1, 4):
        model = HamiltonianVAE(4, (3,), 1, steps=steps, step_size=0.2, reverse=8, rng=Generator(0), dtype="float64")
        shake(model.vae, Generator(1).standard_normal, 1.0)
        rest = [p for name, p in model.named_parameters() if not name.startswith("vae")]
        optimizer, rng = optim.Adam(rest, 0.02), Generator(2)
        for _ in range(400):
            optimizer.step(grad(-model.elbo(PATTERNS, rng, 4).mean(), rest))
        ends[steps] = evaluation.elbo(model, PATTERNS, Generator(3), 4000).mean
        ends["plain"] = evaluation.bound(model.vae, PATTERNS, Generator(3), 4000, lambda w: w.mean(axis=0)).mean
    exact = evaluation.log_likelihood_by_quadrature(model.vae, PATTERNS, 400, 9.0).mean
    assert ends["plain"] + 0.02 < ends[1] < ends[4] < exact


FAULTS = {
    "no reverse model": ("log_q + (log_v - self.reverse(x, z).log_prob(v))", "log_q + log_v", 1),
    "the reverse model's sign": ("(log_v - self.reverse", "(log_v + self.reverse", 1),
    "the momentum at its start": ("        z, v = self.leapfrog(x, z, v)", "        z, _ = self.leapfrog(x, z, v)", 1),
    "no half step": ("v = v + half * self._force", "v = v + self.step_size * self._force", 2),
    "one z for every force": ("            z = z + self.step_size * v", "            z = z * (1 + self.step_size)", 2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault):
    """A bound that is none fails the test of its weights, a map that is no leapfrog that of the way back."""
    right, wrong, which = FAULTS[fault]
    kind = planted(hamiltonian, right, wrong)["HamiltonianVAE"]
    with pytest.raises(AssertionError):
        if which == 1:
            test_weights_average_to_the_likelihood(3, kind, parts=1)  # which passes without a fault
        else:
            test_leapfrog_preserves_volume_and_runs_back(4, kind)
