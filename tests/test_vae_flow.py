"""A VAE whose posterior goes through a flow: the terms against the change of variables, the bound, the gradient."""

import numpy as np
import pytest

from minivi import evaluation, flows
from minivi.distributions import Normal
from minivi.flows import Chain, FlowPosterior, Planar
from minivi.gradcheck import gradcheck
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import grad

D, J, H = 12, 3, 4


def build(kind="iaf", posterior="diagonal", dtype="float64", shake=0.3):
    rng = Generator(1)
    if kind == "planar":
        flow = Chain([Planar(J, rng, context=H, dtype=dtype) for _ in range(2)])
    else:
        flow = flows.iaf(J, 2, [8], rng, context=H, form=kind.replace("iaf", "gated"), dtype=dtype)
    model = VAE(D, [7], J, posterior=posterior, flow=flow, context=H, rng=rng, dtype=dtype)
    for p in model.parameters():
        if "weight" in p.name or "values" in p.name:
            p.assign(p.data + shake * np.asarray(rng.standard_normal(p.shape)) * (p.data != 0))
    return model


@pytest.fixture
def x():
    return (Generator(2).random((4, D)) < 0.4).astype(float)


@pytest.mark.parametrize("kind", ["iaf", "affine", "location", "whitening", "planar"])
@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_log_q_is_the_change_of_variables(kind, posterior, x):
    model = build(kind, posterior)
    eps = np.asarray(Generator(3).standard_normal((5, 4, J)))
    terms = model.terms(x, eps=eps)
    # log N(eps) - log |det dz / d eps|, the Jacobian of each datum by finite differences
    step, columns = 1e-5, []
    for j in range(J):
        shift = step * np.eye(J)[j]
        up, down = (np.asarray(model.terms(x, eps=eps + s * shift).z) for s in (1, -1))
        columns.append((up - down) / (2 * step))
    jacobian = np.stack(columns, axis=-1)
    standard = Normal(np.zeros(J), np.zeros(J)).log_prob(eps)
    expected = np.asarray(standard) - np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(np.asarray(terms.log_qz_x), expected, atol=1e-8)


def test_the_context_reaches_the_flow(x):
    """h is the encoder's last H outputs: with the Gaussian's heads held, z still depends on x."""
    model = build()
    last = model.encoder.layers[-1]
    weight, bias = last.weight.data.copy(), last.bias.data.copy()
    weight[:, : 2 * J], bias[: 2 * J] = 0.0, 0.0
    last.weight.assign(weight), last.bias.assign(bias)
    z = np.asarray(model.terms(x, eps=np.zeros((1, 4, J))).z)[0]
    assert np.ptp(z, axis=0).min() > 1e-3
    weight[:, 2 * J :] = 0.0
    last.weight.assign(weight)
    z = np.asarray(model.terms(x, eps=np.zeros((1, 4, J))).z)[0]
    assert np.ptp(z, axis=0).max() == 0.0


def test_identity_flow_changes_nothing(x):
    """With no step at all, the same numbers as a plain VAE from the same weights."""
    plain, through = (VAE(D, [7], J, flow=flow, rng=Generator(4), dtype="float64") for flow in (None, Chain([])))
    a, b = (model.terms(x, Generator(5), 3) for model in (plain, through))
    assert isinstance(b.q, FlowPosterior)
    np.testing.assert_array_equal(np.asarray(a.log_w), np.asarray(b.log_w))
    np.testing.assert_array_equal(plain.reconstruct(x), through.reconstruct(x))


def test_the_bound_stays_below_log_p_of_quadrature(x):
    """Importance weights of a flow's posterior are unbiased: log p-hat agrees with integration over the latents."""
    model = build(shake=0.0)
    last = model.encoder.layers[-1]  # a posterior as wide as the prior: weights without heavy tails
    last.weight.assign(0.5 * last.weight.data), last.bias.assign(np.where(np.arange(2 * J + H) // J == 1, 1.0, 0.0))
    exact = evaluation.log_likelihood_by_quadrature(model, x, points=61)
    estimate = evaluation.log_likelihood(model, x, Generator(6), 20_000)
    np.testing.assert_allclose(estimate.values, exact.values, atol=0.03)
    bound = np.asarray(model.elbo(x, Generator(7), 2000))
    assert np.all(bound < exact.values + 0.01)
    assert np.mean(exact.values - bound) > 0.05  # so the agreement above is the weights' doing


@pytest.mark.parametrize("kind", ["planar", "gated"])
def test_gradient(kind, x):
    """Of an IAF without its masked weights (those are checked in ``test_made``): differences would fill the masks."""
    model = build(kind)
    eps = np.asarray(Generator(8).standard_normal((2, 4, J)))
    free = [p for p in model.parameters() if kind == "planar" or "network.layers" not in p.name]
    assert gradcheck(lambda: model.elbo(x, eps=eps).mean(), parameters=free, coordinates=6).ok


def test_held_log_q_has_the_path_gradient_alone(x):
    """With q's parameters as constants the flow's weights get a gradient through z only, as a fresh pass shows."""
    model = build()
    eps = np.asarray(Generator(9).standard_normal((1, 4, J)))
    terms = model.terms(x, eps=eps)
    np.testing.assert_allclose(np.asarray(model.held_log_q(x, terms)), np.asarray(terms.log_qz_x), atol=1e-9)
    whole = grad(terms.log_qz_x.mean(), model.encoder.parameters())
    path = grad(model.held_log_q(x, terms).mean(), model.encoder.parameters())
    assert max(np.abs(a - b).max() for a, b in zip(whole, path, strict=True)) > 1e-3


def test_active_units_behind_a_flow(x):
    """A latent that ignores x is not counted, though its draws vary."""
    model = VAE(D, [7], J, flow=Chain([]), rng=Generator(4), dtype="float64")
    data = (Generator(2).random((300, D)) < 0.4).astype(float)
    last = model.encoder.layers[-1]
    last.weight.assign(last.weight.data * 3.0 * (np.arange(2 * J) != 1))
    plain = VAE(D, [7], J, rng=Generator(4), dtype="float64")
    plain.load_state_dict(model.state_dict())
    found = evaluation.active_units(model, data, 0.05, rng=Generator(10), samples=50)
    assert found == evaluation.active_units(plain, data, 0.05) == J - 1


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda: VAE(D, [7], J, context=3, rng=Generator(1)), "without a flow"),
        (lambda: build().elbo(np.zeros((1, D)), Generator(1), estimator="B"), "no closed form"),
        (lambda: evaluation.active_units(build(), np.zeros((3, D))), "rng"),
    ],
)
def test_bad_input(act, match):
    with pytest.raises(ValueError, match=match):
        act()
