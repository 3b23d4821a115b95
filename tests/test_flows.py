"""Flows: each map against its formula, log_det against the full Jacobian, inverses, and the densities made of them.

A flow whose forward map and inverse were wrong alike would pass the round trip, hence the formulas in plain NumPy.
"""

import numpy as np
import pytest
from scipy import stats

from minivi import kernels, nn, ops
from minivi.distributions import MultivariateNormal, Normal
from minivi.flows import (
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    FlowDensity,
    FlowPosterior,
    InverseAutoregressive,
    Permutation,
    Planar,
    Radial,
    Reversal,
    Scaling,
)
from minivi.gradcheck import gradcheck
from minivi.random import Generator
from minivi.tensor import Parameter, Tensor, grad

H = 2  # length of the context, where there is one


class Masked(nn.Module):
    """A small autoregressive network: two masked layers, natural order, the context added to the hidden layer."""

    def __init__(self, size, rng, context=0):
        hidden = 3 * size
        degrees = np.sort(np.arange(hidden) % size)  # unit k sees dimensions below degrees[k]
        self.size = size
        self.mask = [np.arange(size)[:, None] < degrees, degrees[:, None] <= np.tile(np.arange(size), 2)]
        self.ranges = [kernels.Ranges(mask) for mask in self.mask]
        self.weights = [Parameter(0.5 * rng.standard_normal(mask.shape)) for mask in self.mask]
        self.biases = [Parameter(0.5 * rng.standard_normal(mask.shape[1])) for mask in self.mask]
        self.from_context = Parameter(rng.standard_normal((context, hidden))) if context else None

    def __call__(self, z, context=None):
        # The masks as factors too, so that finite differences may move any weight.
        layers = [
            (w * mask, b, r) for w, mask, b, r in zip(self.weights, self.mask, self.biases, self.ranges, strict=True)
        ]
        hidden = ops.masked_affine(z, *layers[0][:2], ranges=layers[0][2])
        if self.from_context is not None:
            hidden = hidden + ops.matmul(context, self.from_context)
        outputs = ops.masked_affine(ops.tanh(hidden), *layers[1][:2], ranges=layers[1][2])
        return outputs[..., : self.size], outputs[..., self.size :]


def shaken(flow, seed=1, scale=0.5):
    """The flow with random parameters, far from where training starts."""
    rng = np.random.default_rng(seed)
    for p in flow.parameters():
        p.assign(p.data + scale * rng.standard_normal(p.shape))
    if isinstance(getattr(flow, "network", None), nn.MADE):
        flow.network.apply_masks()
    return flow


def iaf(form):
    return lambda d, rng, context: InverseAutoregressive(Masked(d, rng, context), form)


double = {"dtype": "float64"}
MAKERS = {
    "planar": lambda d, rng, context: Planar(d, rng, context=context, **double),
    "radial": lambda d, rng, context: Radial(d, rng, context=context, **double),
    "nice": lambda d, rng, context: AdditiveCoupling(d, (4,), rng, context=context, **double),
    "nice, swapped": lambda d, rng, context: AdditiveCoupling(d, (4,), rng, swap=True, context=context, **double),
    "real nvp": lambda d, rng, context: AffineCoupling(d, (4,), rng, context=context, **double),
    "real nvp, swapped": lambda d, rng, context: AffineCoupling(d, (4,), rng, swap=True, context=context, **double),
    "scaling": lambda d, rng, context: Scaling(d, **double),
    "permutation": lambda d, rng, context: Permutation(np.roll(np.arange(d), 1)),
    "reversal": lambda d, rng, context: Reversal(),
    **{f"iaf, {form}": iaf(form) for form in InverseAutoregressive.FORMS},
    "iaf, MADE": lambda d, rng, context: InverseAutoregressive(
        nn.MADE(d, (8, 8), rng, outputs=2, ordering="random", activation="tanh", context=context, **double)
    ),
    "chain": lambda d, rng, context: Chain(
        [iaf("gated")(d, rng, context), Reversal(), Planar(d, rng, context=context, **double), Radial(d, rng, **double)]
    ),
}


def make(name, size, context=0, seed=0):
    return shaken(MAKERS[name](size, Generator(seed), context))


def jacobian(f, z):
    """df/dz, (B, D, D), of a function of rows (B, D)."""
    z = Tensor(z)
    y = f(z)
    return np.stack([grad(y[:, i].sum(), z) for i in range(z.shape[1])], axis=1)


@pytest.mark.parametrize("context", [0, H])
@pytest.mark.parametrize("size", [2, 3, 6])
@pytest.mark.parametrize("name", MAKERS)
def test_log_det_and_inverse(name, size, context, rng):
    flow = make(name, size, context)
    z = 2.0 * rng.standard_normal((5, size))
    h = rng.standard_normal((5, H)) if context else None
    image, log_det = flow.forward(z, h)
    assert image.shape == z.shape and log_det.shape == (5,)
    full = jacobian(lambda z: flow.forward(z, h)[0], z)
    sign, expected = np.linalg.slogdet(full)
    np.testing.assert_allclose(log_det, expected, rtol=1e-10, atol=1e-11)
    if name not in ("permutation", "reversal", "chain"):
        assert (sign == 1.0).all()
    np.testing.assert_allclose(flow.inverse(image, h), z, rtol=1e-10, atol=1e-10)
    # The inverse's own Jacobian, from the engine: it has to be the inverse matrix.
    back = jacobian(lambda z: flow.inverse(z, h), np.asarray(image))
    np.testing.assert_allclose(back @ full, np.broadcast_to(np.eye(size), full.shape), atol=1e-8)
    if context and name not in ("scaling", "permutation", "reversal"):
        assert np.abs(np.asarray(flow.forward(z, h + 1.0)[0]) - np.asarray(image)).max() > 1e-3


@pytest.mark.parametrize("name", MAKERS)
def test_leading_axes_and_arrays(name, rng):
    """Samples (K, B, D) beside a context (B, H); a detached flow gives arrays for arrays."""
    flow = make(name, 4, H)
    z, h = rng.standard_normal((3, 5, 4)), rng.standard_normal((5, H))
    image, log_det = (np.asarray(a) for a in flow.detached().forward(z, h))
    for k in range(3):
        one, its_log_det = flow.forward(z[k], h)
        np.testing.assert_allclose(image[k], one, rtol=1e-12)
        np.testing.assert_allclose(log_det[k], its_log_det, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(flow.inverse(image, h), z, rtol=1e-9, atol=1e-10)
    assert not isinstance(flow.detached().forward(z, h)[0], Tensor)
    assert log_det.shape == (3, 5)


@pytest.mark.parametrize("name", [name for name in MAKERS if "iaf" not in name and name != "chain"])
def test_float32_stays_and_starts_at_the_identity(name):
    kinds = {"planar": Planar, "radial": Radial, "nice": AdditiveCoupling, "real nvp": AffineCoupling}
    z = Generator(3).standard_normal((50, 3), dtype="float32")
    kind = kinds.get(name)
    if kind is None:
        image, log_det = MAKERS[name](3, Generator(0), 0).astype("float32").forward(z)
    else:
        sizes = ((4,),) if "n" in name[0] or name == "real nvp" else ()
        image, log_det = kind(3, *sizes, Generator(0)).forward(z)
        np.testing.assert_allclose(image, z, atol=1e-5)
        np.testing.assert_allclose(log_det, 0.0, atol=1e-5)
    assert image.dtype == log_det.dtype == np.float32


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("permutation", "reversal")])
def test_an_inverse_stays_in_float32_and_takes_its_own_width_alone(name):
    flow = make(name, 3).astype("float32")
    z, image = Generator(3).standard_normal((5, 3), dtype="float32"), np.zeros((5, 4), "float32")
    assert flow.inverse(z).dtype == np.float32
    for wrong in (flow.forward, flow.inverse):
        with pytest.raises(ValueError, match="takes|axis" if "iaf" in name or name == "chain" else "takes"):
            wrong(image)


# ---------------------------------------------------------------------------------------------- against the formulas
def test_planar_formula(rng):
    flow = make("planar", 3)
    values = flow.head.values.data
    u, w, b = values[:3], values[3:6], values[6]
    a = w @ u
    u_hat = u + (-1.0 + np.log1p(np.exp(a)) - a) * w / (w @ w)
    z = rng.standard_normal((5, 3))
    np.testing.assert_allclose(flow.forward(z)[0], z + np.tanh(z @ w + b)[:, None] * u_hat, rtol=1e-13)


def test_radial_formula(rng):
    flow = make("radial", 3)
    values = flow.head.values.data
    centre, (alpha, beta) = values[:3], np.log1p(np.exp(values[3:]))
    z = rng.standard_normal((5, 3))
    r = np.linalg.norm(z - centre, axis=-1, keepdims=True)
    np.testing.assert_allclose(flow.forward(z)[0], z + (beta - alpha) * (z - centre) / (alpha + r), rtol=1e-13)


@pytest.mark.parametrize("swap", [False, True])
def test_coupling_formulas(swap, rng):
    z = rng.standard_normal((5, 5))
    first, second = z[:, :2], z[:, 2:]
    kept, moved = (second, first) if swap else (first, second)
    n = moved.shape[1]
    nice = shaken(AdditiveCoupling(5, (4,), Generator(0), swap=swap, dtype="float64"))
    real = shaken(AffineCoupling(5, (4,), Generator(0), swap=swap, dtype="float64"))
    outputs = np.asarray(real.network(kept))
    log_scale = real.scale.data * np.tanh(outputs[:, n:])
    for flow, expected in (
        (nice, moved + np.asarray(nice.network(kept))),
        (real, moved * np.exp(log_scale) + outputs[:, :n]),
    ):
        parts = [expected, kept] if swap else [kept, expected]
        np.testing.assert_allclose(flow.forward(z)[0], np.concatenate(parts, axis=1), rtol=1e-13)


@pytest.mark.parametrize("kind", [AdditiveCoupling, AffineCoupling])
@pytest.mark.parametrize("hidden", [(), (4, 7)])
def test_couplings_of_any_depth_start_at_the_identity(kind, hidden, rng):
    flow, z = kind(5, hidden, Generator(0), dtype="float64"), rng.standard_normal((3, 5))
    np.testing.assert_array_equal(flow.forward(z)[0], z)
    moved, log_det = shaken(flow).forward(z)
    np.testing.assert_allclose(flow.inverse(np.asarray(moved)), z, rtol=1e-12)
    assert log_det.shape == (3,)


def test_activations_are_those_of_the_networks(rng):
    z, softplus = rng.standard_normal((5, 5)), lambda a: np.logaddexp(a, 0.0)
    for kind in (AdditiveCoupling, AffineCoupling):
        flow = shaken(kind(5, (4,), Generator(0), activation="softplus", dtype="float64"))
        (w1, b1), (w2, b2) = ((layer.weight.data, layer.bias.data) for layer in flow.network.layers)
        shift = (softplus(z[:, :2] @ w1 + b1) @ w2 + b2)[:, :3]
        np.testing.assert_allclose(np.asarray(flow.inverse(np.asarray(flow.forward(z)[0]))), z, rtol=1e-12)
        still = np.concatenate([z[:, :2], np.zeros((5, 3))], axis=1)
        np.testing.assert_allclose(flow.forward(still)[0][:, 2:], shift, rtol=1e-12)


def test_iaf_formulas(rng):
    """Eq. 5.19-5.22 and 5.30-5.32; 5.19 is 5.21 with 1 / sigma for sigma and -mu / sigma for mu."""
    network = Masked(4, Generator(0))
    z = rng.standard_normal((5, 4))
    m, s = (np.asarray(a) for a in network(z))
    sigma = np.exp(s)
    gate = 1.0 / (1.0 + np.exp(-(s + 1.5)))
    assert ((gate > 0.0) & (gate < 1.0)).all()
    expected = {
        "whitening": ((z - m) / sigma, -s.sum(-1)),
        "affine": (sigma * z + m, s.sum(-1)),
        "gated": (gate * z + (1.0 - gate) * m, np.log(gate).sum(-1)),
        "location": (z + m, np.zeros(5)),
    }
    for form, (image, log_det) in expected.items():
        ours = InverseAutoregressive(network, form).forward(z)
        np.testing.assert_allclose(ours[0], image, rtol=1e-12)
        np.testing.assert_allclose(ours[1], log_det, rtol=1e-12)

    def other(z, context):
        m, s = network(z)
        return -m * ops.exp(-s), -s

    np.testing.assert_allclose(
        InverseAutoregressive(other, "affine").forward(z)[0], expected["whitening"][0], rtol=1e-12
    )


def test_iaf_step_is_triangular_and_its_inverse_is_ancestral_sampling(rng):
    """Section 5.3: strictly triangular networks; the inverse of 5.19 is y_i = mu_i + sigma_i eps_i, in turn."""
    network = Masked(4, Generator(0))
    z = rng.standard_normal((5, 4))
    for part in range(2):
        strict = jacobian(lambda z, part=part: network(z)[part], z)
        assert (np.triu(strict) == 0.0).all() and (np.abs(strict[(slice(None), *np.tril_indices(4, -1))]) > 1e-6).all()
    y = np.zeros((5, 4))
    for i in range(4):
        m, s = (np.asarray(a) for a in network(y))
        y[:, i] = m[:, i] + np.exp(s[:, i]) * z[:, i]
    np.testing.assert_allclose(InverseAutoregressive(network, "whitening").inverse(z), y, rtol=1e-12)


@pytest.mark.parametrize("s", [-800.0, -200.0, -100.0, -88.0, 0.5, 80.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whitening_inverse_for_any_scale(dtype, s):
    """sigma y + m, also where 1 / sigma overflows."""
    m = np.linspace(-2, 2, 5, dtype=dtype)
    flow = InverseAutoregressive(lambda z, context: (m + 0.0 * z, np.full_like(z, s)), "whitening")
    y = np.linspace(-3, 3, 5, dtype=dtype)
    np.testing.assert_allclose(flow.inverse(y), np.exp(s) * y.astype("float64") + m, rtol=4 * np.finfo(dtype).eps * 88)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_iaf_inverse_survives_the_overflow_of_dimensions_not_yet_right(dtype):
    """A network without bounds: what it makes of the wrong dimensions overflows before their turn comes."""
    size = 40
    upper = np.triu(Generator(1).standard_normal((size, size)), 1).astype(dtype)

    def network(z, context):
        m = ops.matmul(ops.relu(z), upper)
        return m, 0.3 * m

    y = 0.5 * Generator(0).standard_normal((20, size), dtype=dtype)
    for form in InverseAutoregressive.FORMS:
        flow = InverseAutoregressive(network, form)
        z = np.asarray(flow.forward(y)[0])
        with np.errstate(all="ignore"):
            back = np.asarray(flow.inverse(z))
        assert np.isfinite(back).all() and back.dtype == dtype
        image = np.asarray(flow.forward(back)[0])
        np.testing.assert_allclose(image, z, rtol=1e-3 if dtype == "float32" else 1e-10, atol=1e-4)


def test_forget_gate_bias_keeps_a_step_near_the_identity(rng):
    z = rng.standard_normal((50, 4))
    moved = [
        np.abs(np.asarray(InverseAutoregressive(Masked(4, Generator(0)), gate_bias=b).forward(z)[0]) - z).mean()
        for b in (0.0, 1.0, 2.0, 20.0)
    ]
    assert moved == sorted(moved, reverse=True) and moved[-1] < 1e-6


# --------------------------------------------------------------------------------------------------- constraints
@pytest.mark.parametrize("push", [-30.0, -8.0, -1.0, 0.0, 30.0, 300.0])
@pytest.mark.parametrize("length", [1e-3, 1.0, 30.0])
def test_planar_constraint(push, length):
    """w.u far below -1: still monotone along w, where the unconstrained map would fold."""
    w = length * np.array([0.6, 0.8])
    flow = Planar(2, Generator(0), dtype="float64")
    flow.head.values.assign(np.concatenate([push * w / length**2 + [0.8, -0.6], w, [0.3]]))
    line = np.linspace(-20.0, 20.0, 4001)[:, None] * w / (w @ w)  # w.z from -20 to 20
    image, log_det = flow.forward(line)
    along = np.asarray(image) @ w
    assert (np.diff(along) > 0.0).all() and np.isfinite(np.asarray(log_det)).all()
    if push > -8.0:
        np.testing.assert_allclose(np.asarray(flow.inverse(image)) @ w, line @ w, atol=1e-7)
    folded = line @ w + push * np.tanh(line @ w + 0.3)
    assert (np.diff(folded) > 0.0).all() == (push >= -1.0)


@pytest.mark.parametrize("alpha", [-5.0, 0.0, 20.0])
@pytest.mark.parametrize("beta", [-30.0, -5.0, 0.0, 300.0])
def test_radial_constraint(alpha, beta):
    """Monotone in the radius, whatever the free numbers; the centre itself has a finite slope."""
    flow = Radial(3, Generator(0), dtype="float64")
    flow.head.values.assign([1.0, -1.0, 0.5, alpha, beta])
    r = np.linspace(0.0, 20.0, 2001)
    z = np.array([1.0, -1.0, 0.5]) + r[:, None] * np.array([0.6, 0.0, 0.8])
    image, log_det = flow.forward(z)
    radius = np.linalg.norm(np.asarray(image) - z[0], axis=-1)
    assert (np.diff(radius) > 0.0).all() and np.isfinite(np.asarray(log_det)).all()
    assert np.isfinite(jacobian(lambda z: flow.forward(z)[0], z[:2])).all()
    np.testing.assert_allclose(flow.inverse(image)[1:], z[1:], rtol=1e-7, atol=1e-7)


def test_planar_with_no_direction_is_a_translation():
    flow = Planar(2, Generator(0), dtype="float64")
    flow.head.values.assign([1.0, 2.0, 0.0, 0.0, 0.5])
    image, log_det = flow.forward(np.zeros((1, 2)))
    np.testing.assert_allclose(image, np.tanh(0.5) * np.array([[1.0, 2.0]]))
    np.testing.assert_allclose(log_det, 0.0)


# -------------------------------------------------------------------------------------------- chains, permutations
def test_chain_adds_log_dets_in_order(rng):
    parts = [make(name, 4, seed=i) for i, name in enumerate(("planar", "iaf, gated", "reversal", "real nvp"))]
    z = start = rng.standard_normal((5, 4))
    total = 0.0
    for part in parts:
        z, log_det = part.forward(z)
        total = total + np.asarray(log_det)
    image, log_det = Chain(parts).forward(start)
    np.testing.assert_array_equal(image, z)
    np.testing.assert_allclose(log_det, total, rtol=1e-13)
    np.testing.assert_allclose(Chain(parts).inverse(z), start, atol=1e-11)
    assert len(Chain(parts).parameters()) == sum(len(part.parameters()) for part in parts)


def test_permutations(rng):
    z = rng.standard_normal((5, 3))
    image, log_det = Permutation([2, 0, 1]).forward(z)
    np.testing.assert_array_equal(image, z[:, [2, 0, 1]])
    np.testing.assert_array_equal(log_det, np.zeros(5))
    np.testing.assert_array_equal(Reversal().forward(z)[0], z[:, [2, 1, 0]])


@pytest.mark.parametrize("name", MAKERS)
def test_gradients(name, rng):
    flow = make(name, 3, H)

    def both(z, h):
        image, log_det = flow.forward(z, h)
        return ops.concatenate([image, ops.reshape(log_det, (-1, 1)) + 0.0 * (z[:, :1] + h[:, :1])], axis=1)

    z, h = rng.standard_normal((4, 3)), rng.standard_normal((4, H))
    weights = () if name == "iaf, MADE" else flow  # MADE's own tests move its weights, those under its masks not
    for f in (both, lambda z, h: flow.inverse(z, h) + 0.0 * h[:, :1]):
        report = gradcheck(f, z, h, parameters=weights, coordinates=4, directions=2)
        assert not [row for row in report.rows if row.verdict == "WRONG"], str(report)
        assert any(row.verdict == "ok" for row in report.rows)


# -------------------------------------------------------------------------------------------------------- densities
DENSITIES = [name for name in MAKERS if name not in ("permutation", "reversal")]


def standard(size):
    return Normal(np.zeros(size), np.zeros(size))


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_integrate_to_one(name):
    """As a model of data (forward map) and as a posterior (inverse map), on a grid; the samples' moments too."""
    flow = make(name, 2)
    edge, n = 14.0, 281
    axis = np.linspace(-edge, edge, n)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    cell = (axis[1] - axis[0]) ** 2
    model, posterior = FlowDensity(flow, standard(2)), FlowPosterior(standard(2), flow)
    for density, draws in (
        (model, model.sample(4000, Generator(5))),
        (posterior, posterior.sample(Generator(6), (4000,))),
    ):
        p = np.exp(np.asarray(density.log_prob(grid))) * cell
        assert p.sum() == pytest.approx(1.0, abs=2e-3)
        values = np.concatenate([grid, grid**2, grid[:, :1] * grid[:, 1:]], axis=1)
        mean = p @ values
        spread = np.sqrt(p @ values**2 - mean**2)
        ours = np.concatenate([draws, draws**2, draws[:, :1] * draws[:, 1:]], axis=1).mean(0)
        assert (np.abs(ours - mean) < 4.5 * spread / np.sqrt(4000)).all()


@pytest.mark.parametrize("kind", [Planar, Radial])
def test_one_dimension(kind):
    """Density on a line against the normal one by change of variables, and its integral."""
    flow = shaken(kind(1, Generator(0), dtype="float64"))
    z = np.linspace(-12.0, 12.0, 4001)[:, None]
    log_q = np.asarray(FlowPosterior(standard(1), flow).log_prob(z))
    assert np.trapezoid(np.exp(log_q), z[:, 0]) == pytest.approx(1.0, abs=1e-6)
    images = np.asarray(flow.forward(np.array([[-0.7], [0.9]]))[0])[:, 0]
    inside = (z[:, 0] > images[0]) & (z[:, 0] < images[1])
    share = np.exp(log_q[inside]).sum() * (z[1, 0] - z[0, 0])
    assert share == pytest.approx(stats.norm.cdf(0.9) - stats.norm.cdf(-0.7), abs=5e-3)


# -------------------------------------------------------------------------------------------------------- posteriors
def posterior_of(name, size, rng, batch=3):
    flow = make(name, size, H)
    mu, log_sigma = rng.standard_normal((batch, size)), 0.5 * rng.standard_normal((batch, size))
    return FlowPosterior(Normal(mu, log_sigma), flow, rng.standard_normal((batch, H)))


@pytest.mark.parametrize("name", MAKERS)
def test_posterior_by_change_of_variables(name, rng):
    """Algorithm 5's log q, eq. 5.16 and 5.29, against log N(eps) - log |det dz/d eps| by finite differences."""
    q, step = posterior_of(name, 3, rng), 1e-5
    eps = rng.standard_normal((2, 3, 3))
    z, log_q = q.rsample_with_log_prob(eps)
    columns = [
        (np.asarray(q.rsample(eps + step * e)) - np.asarray(q.rsample(eps - step * e))) / (2.0 * step)
        for e in np.eye(3)
    ]
    expected = stats.norm.logpdf(eps).sum(-1) - np.linalg.slogdet(np.stack(columns, -1))[1]
    np.testing.assert_allclose(log_q, expected, rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(q.log_prob_of_noise(eps), log_q)
    np.testing.assert_allclose(q.log_prob(z), log_q, rtol=1e-8, atol=1e-8)
    assert q.shape == (3, 3) and q.sample(Generator(0), (7,)).shape == (7, 3, 3)


def test_heads_start_from_small_weights():
    for kind in (Planar, Radial):
        weight = kind(50, Generator(0), context=100, dtype="float64").head.linear.weight.data
        assert weight.std() == pytest.approx(0.01, rel=0.05)  # of 5,200 numbers or more: a standard error of 1 %


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_context_gets_noise_of_its_own(dtype):
    base, flow = Normal(np.zeros(3, dtype), 0.0), Planar(3, Generator(0), context=H, dtype=dtype)
    z = FlowPosterior(base, flow, np.zeros((4, H), dtype)).sample(Generator(1), (1000,))
    assert z.shape == (1000, 4, 3) and z.dtype == dtype
    assert np.unique(z).size > 0.99 * z.size
    assert np.abs(np.corrcoef(z.reshape(1000, 12).T) - np.eye(12)).max() < 0.15  # it starts as the identity


@pytest.mark.parametrize("name", MAKERS)
def test_sticking_the_landing_splits_the_gradient(name, rng):
    """d log q(z) = its path through z, held parameters, + the score at a held z; the score's mean over q is zero."""
    q = posterior_of(name, 2, rng)
    mu, log_sigma, h = (Tensor(np.asarray(a)) for a in (q.base.mu, q.base.log_sigma, q.context))
    q = FlowPosterior(Normal(mu, log_sigma), q.flow, h)
    wanted = [mu, log_sigma, h, *q.flow.parameters()]
    eps = rng.standard_normal((500, 3, 2))
    z, log_q = q.rsample_with_log_prob(eps)
    total = grad(log_q.sum(), wanted)
    path = grad(q.detached().log_prob(z).sum(), wanted)
    score = grad(q.log_prob(np.asarray(z)).sum(), wanted)
    for a, b, c in zip(total, path, score, strict=True):
        np.testing.assert_allclose(a, b + c, rtol=1e-6, atol=1e-6 * (1.0 + np.abs(a).max()))
    # Of mu, for which the score is known: sum_d (z_0 - mu) / sigma^2, variance 1 / sigma^2, whatever the flow.
    assert (np.abs(score[0]) < 4.5 * np.sqrt(500) * np.exp(-np.asarray(log_sigma))).all()


def test_linear_iaf_is_the_full_covariance_gaussian(rng):
    """End of section 5.4, with the off-diagonal entries from the encoder: z = (I + A(h)) (mu_0 + sigma_0 eps)."""
    size, batch = 4, 3
    rows, columns = np.tril_indices(size, -1)
    mu, log_sigma = rng.standard_normal((2, batch, size))
    entries = rng.standard_normal((batch, len(rows)))
    to_rows = (rows[:, None] == np.arange(size)).astype(float)

    def linear(z, h):
        return ops.matmul(h * z[..., columns], to_rows), np.zeros(z.shape)

    q = FlowPosterior(Normal(mu, log_sigma), InverseAutoregressive(linear, "location"), entries)
    mean = mu + (entries * mu[:, columns]) @ to_rows
    full = MultivariateNormal(mean, log_sigma, entries * np.exp(log_sigma)[:, columns])
    eps = rng.standard_normal((5, batch, size))
    z, log_q = q.rsample_with_log_prob(eps)
    np.testing.assert_allclose(z, full.rsample(eps), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(log_q, full.log_prob(z), rtol=1e-10)
    covariance = np.eye(size) + np.zeros((batch, 1, 1))
    covariance[:, rows, columns] = entries
    covariance = covariance * np.exp(2.0 * log_sigma)[:, None] @ covariance.swapaxes(-1, -2)
    for b in range(batch):
        expected = stats.multivariate_normal(mean[b], covariance[b]).logpdf(np.asarray(z)[:, b])
        np.testing.assert_allclose(log_q[:, b], expected, rtol=1e-9)


def test_autoregressive_prior_is_an_iaf_posterior_seen_from_the_other_side(rng):
    """Appendix 5.C: log p(y) - log q(y) of an autoregressive prior equals log N(z) - log q(z) of the whitened z."""
    step = InverseAutoregressive(Masked(3, Generator(0)), "whitening")
    q, eps = Normal(*rng.standard_normal((2, 5, 3))), rng.standard_normal((5, 3))
    y = q.rsample(eps)
    ours = np.asarray(FlowDensity(step, standard(3)).log_prob(y)) - np.asarray(q.log_prob(y))
    z, log_q = FlowPosterior(q, step).rsample_with_log_prob(eps)
    np.testing.assert_allclose(np.asarray(standard(3).log_prob(z)) - np.asarray(log_q), ours, rtol=1e-12)


# -------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda r: Planar(3, r).forward(np.zeros((2, 4), "float32")), r"Planar: z has shape \(2, 4\)"),
        (lambda r: Radial(3, r).inverse(np.zeros((2, 4), "float32")), r"takes \(\.\.\., 3\)"),
        (
            lambda r: Planar(3, r, context=2).forward(np.zeros((2, 3), "float32")),
            r"context of shape \(\.\.\., 2\); got none",
        ),
        (lambda r: Planar(3, r, context=2).forward(np.zeros((2, 3)), np.zeros((2, 5))), r"one of shape \(2, 5\)"),
        (lambda r: AffineCoupling(1, (4,), r), "AffineCoupling: size 1 has no two halves"),
        (lambda r: Permutation([0, 0, 2]), "each of 0 .. 2 once"),
        (lambda r: InverseAutoregressive(None, "gate"), "unknown form 'gate'; one of whitening, affine"),
        (
            lambda r: InverseAutoregressive(lambda z, h: (z[:, :2], z)).forward(np.zeros((4, 3))),
            r"for z \(4, 3\) the network gives m \(4, 2\)",
        ),
    ],
)
def test_bad_input(act, match):
    with pytest.raises(ValueError, match=match):
        act(Generator(0))


def test_density_is_zero_where_the_inverse_leaves_all_numbers():
    """The gate that contracts least: far out its inverse overflows, which is a density of 0 and not of NaN."""
    network = nn.MADE(2, [4], Generator(3), outputs=2, activation="elu")
    for p in network.parameters():
        p.assign(8.0 * p.data)
    q = FlowPosterior(
        Normal(np.zeros(2, "float32"), np.zeros(2, "float32")), Chain([InverseAutoregressive(network)] * 4)
    )
    z = np.array([[0.1, 0.1], [-60.0, 80.0], [1e4, -1e4], [-1e6, -1e6]], "float32")
    found = np.asarray(q.log_prob(z))
    assert np.isfinite(found[0]) and not np.isnan(found).any() and np.isneginf(found).any()
