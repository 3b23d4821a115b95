"""Free bits and KL annealing (thesis section 2.9.1) against loops, and where the gradient must vanish."""

import numpy as np
import pytest

from minivi import bounds
from minivi.gradcheck import gradcheck
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import Tensor, grad


def loop(reconstruction, kl, minimum):
    """Eq. 2.69, 2.70, number by number."""
    total = sum(reconstruction) / len(reconstruction)
    for j in range(kl.shape[1]):
        total -= max(minimum, sum(kl[:, j]) / len(kl))
    return total


@pytest.fixture
def terms(rng):
    """Reconstruction terms of 5 data, and their KL for 4 groups with means about 0.05, 0.5, 1 and 3."""
    return -rng.random(5) * 90, rng.random((5, 4)) * 2 * np.array([0.05, 0.5, 1.0, 3.0])


@pytest.mark.parametrize("minimum", [0.0, 0.125, 0.7, 2.0, 10.0])
def test_free_bits_against_a_loop(terms, minimum):
    assert float(bounds.free_bits(*terms, minimum)) == pytest.approx(loop(*terms, minimum), rel=1e-13)


def test_mean_comes_before_the_maximum():
    kl = np.array([[0.0], [2.0]])
    assert float(bounds.free_bits(np.zeros(2), kl, 1.0)) == pytest.approx(-1.0)  # not -(1 + 2) / 2


def test_gradient_vanishes_below_the_minimum(terms):
    reconstruction, kl = Tensor(terms[0]), Tensor(terms[1])
    of_reconstruction, of_kl = grad(bounds.free_bits(reconstruction, kl, 0.7), [reconstruction, kl])
    below = terms[1].mean(0) < 0.7
    assert 0 < below.sum() < 4
    np.testing.assert_allclose(of_reconstruction, 1 / 5)
    np.testing.assert_allclose(of_kl, np.broadcast_to(np.where(below, 0.0, -1 / 5), (5, 4)))


def test_plain_bound_when_all_groups_have_more(terms):
    smallest = terms[1].mean(0).min()
    plain = (terms[0] - terms[1].sum(-1)).mean()
    assert float(bounds.free_bits(*terms, 0.99 * smallest)) == pytest.approx(plain, rel=1e-13)
    assert float(bounds.free_bits(*terms, 1.01 * smallest)) < plain - 0.005 * smallest


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_gradient_through_the_model(posterior, rng):
    vae = VAE(6, (5,), 3, posterior=posterior, rng=Generator(0), dtype="float64")
    x, eps = (rng.random((7, 6)) < 0.5).astype(float), rng.standard_normal((2, 7, 3))
    each = np.asarray(vae.encode(x).kl_per_dimension()).mean(0)

    def objective(minimum):
        reconstruction, q = vae.reconstruction_and_posterior(x, eps=eps)
        return bounds.free_bits(reconstruction, q.kl_per_dimension(), minimum)

    report = gradcheck(lambda: objective(float(np.median(each)) * 1.01), parameters=vae, coordinates=30)
    assert report.ok, str(report)
    assert objective(0.0).item() == pytest.approx(vae.elbo(x, eps=eps).mean().item(), rel=1e-12)


def test_warm_up_is_a_straight_line():
    assert [bounds.warm_up(step, 4) for step in range(7)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert bounds.warm_up(0, 0) == 1.0
    assert [bounds.warm_up(step, 1) for step in range(3)] == [0.0, 1.0, 1.0]


def test_errors(terms):
    with pytest.raises(ValueError, match=r"reconstruction \(5,\) and kl \(5,\); pass"):
        bounds.free_bits(terms[0], terms[1][:, 0], 1.0)
    with pytest.raises(ValueError, match=r"reconstruction \(4,\) and kl \(5, 4\)"):
        bounds.free_bits(terms[0][:4], terms[1], 1.0)
    with pytest.raises(ValueError, match="minimum -1"):
        bounds.free_bits(*terms, -1)
