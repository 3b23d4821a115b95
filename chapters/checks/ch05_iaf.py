"""Checks of chapter 5, inverse autoregressive flow (thesis sections 5.4 and 5.6.1, appendices 5.A, 5.B.3 and 5.C)."""

import numpy as np
from scipy.stats import multivariate_normal, norm

from minivi import flows, nn, ops
from minivi.distributions import Normal
from minivi.experiments import Claim, check
from minivi.flows import Chain, FlowPosterior, InverseAutoregressive, Reversal
from minivi.models import VAE
from minivi.random import Generator
from minivi.small import jacobian, shake
from minivi.tensor import grad, no_grad
from minivi_chapters.studies.ch05_iaf.priors import bound_by_prior, draw_from_prior

# %% [markdown]
# ## Equation checks
#
# On a model of three latents in float64, its weights far from where training begins.


# %%


def small_vae(form="gated", context=4):
    """Twelve pixels, three latents, two steps of width 8."""
    rng = Generator(1)
    flow = flows.iaf(3, 2, [8, 8], rng, context=context, form=form, gate_bias=1.0, dtype="float64")
    return shake(VAE(12, [7], 3, flow=flow, context=context, rng=rng, dtype="float64"), rng.standard_normal, 0.4)


def small_batch():
    """Four data and two samples of the noise."""
    x = (Generator(2).random((4, 12)) < 0.4).astype(float)
    return x, np.asarray(Generator(3).standard_normal((2, 4, 3)))


def sigmoid(a):
    """1 / (1 + exp(-a))."""
    return 1.0 / (1.0 + np.exp(-a))


def plain_made(network, z, h):
    """m and s of a MADE in natural order, whose weights are zero under the masks."""
    for l, (layer, from_context) in enumerate(zip(network.layers, network.context_weights, strict=True)):
        z = np.where(z > 0.0, z, np.expm1(z)) if l else z  # ELU
        z = z @ layer.weight.data + layer.bias.data + h @ from_context.data
    return np.split(z.reshape(*z.shape[:-1], -1, 2), 2, axis=-1)


def algorithm_5(model, x, eps):
    """Sample and log-density, line by line as the text prints them, with nothing of the library but the weights."""
    first, last = model.encoder.layers
    heads = np.tanh(x @ first.weight.data + first.bias.data) @ last.weight.data + last.bias.data
    mu, log_variance, h = np.split(heads, [3, 6], axis=1)
    sigma = np.exp(0.5 * log_variance)
    z = sigma * eps + mu
    l = -np.sum(np.log(sigma) + 0.5 * eps**2 + 0.5 * np.log(2.0 * np.pi), axis=-1)
    for t, step in enumerate(f for f in model.flow.flows if isinstance(f, InverseAutoregressive)):
        z = z[..., ::-1] if t else z
        m, s = (a[..., 0] for a in plain_made(step.network, z, h))
        sigma = sigmoid(s + step.gate_bias)
        z = sigma * z + (1.0 - sigma) * m
        l = l - np.sum(np.log(sigma), axis=-1)
    return z, l


@check("5.23-5.32", "Algorithm 5 in plain NumPy gives the model's sample and its log-density")
def pseudo_code():
    model, (x, eps) = small_vae(), small_batch()
    terms = model.terms(x, eps=eps)
    z, l = algorithm_5(model, x, eps)
    return [
        Claim(np.abs(np.asarray(terms.z) - z).max(), "=", 0.0, 1e-12, "sample"),
        Claim(np.abs(np.asarray(terms.log_qz_x) - l).max(), "=", 0.0, 1e-12, "log-density"),
    ]


@check("5.24-5.29", "log q is log N(eps_0) less the log-determinant of the whole map's Jacobian")
def density_of_the_chain():
    model, (x, eps) = small_vae(), small_batch()
    q = model.encode(x)
    slogdet = np.linalg.slogdet(jacobian(q.rsample, eps[0]))[1]
    expected = norm.logpdf(eps[0]).sum(axis=1) - slogdet
    return Claim(np.abs(np.asarray(q.log_prob_of_noise(eps[0])) - expected).max(), "=", 0.0, 1e-10)


def plane_posterior():
    """A posterior of two latents, without context; tanh bounds what far away points are stretched by."""
    rng = Generator(4)
    flow = shake(flows.iaf(2, 2, [8], rng, gate_bias=1.0, activation="tanh", dtype="float64"), rng.standard_normal, 0.4)
    return FlowPosterior(Normal(np.array([0.7, -0.5]), np.array([-0.2, 0.4])), flow)


@check("5.29", "a density with the initial noise for its eps_i; with the final iterate, as it might be read, none")
def initial_noise():
    q = plane_posterior()
    axis = np.linspace(-8.0, 8.0, 401)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    area = (axis[1] - axis[0]) ** 2
    with no_grad():
        start = q.flow.inverse(z)
        scales = q.base.log_sigma.sum() + np.asarray(q.flow.forward(start)[1])
        mass = np.exp(np.asarray(q.log_prob(z))).sum() * area
    other = np.exp(norm.logpdf(z).sum(axis=1) - scales).sum() * area
    return [
        Claim(mass, "=", 1.0, 1e-4, "integral over the plane, initial noise"),
        Claim(abs(other - 1.0), ">=", 0.1, 0.0, "integral with the final iterate in place of the noise: away from 1"),
    ]


@check("5.23-5.25", "z_0 has the mean mu_0, which the line above eq. 5.23 leaves out, and the deviation sigma_0")
def start_of_the_chain():
    model, (x, _) = small_vae(), small_batch()
    base, eps = model.encode(x).base, np.asarray(Generator(5).standard_normal((20_000, 4, 3)))
    z = np.asarray(FlowPosterior(base, Chain([])).rsample(eps))
    mu, sigma = np.asarray(base.mu), np.exp(np.asarray(base.log_sigma))
    error = 4.0 / np.sqrt(len(eps))
    return [
        Claim(np.abs((z.mean(axis=0) - mu) / sigma).max(), "=", 0.0, error, "mean less mu_0, in sigma_0"),
        Claim(np.abs(mu / sigma).max(), ">=", 2 * error, 0.0, "mu_0 itself, in sigma_0: not 0"),
        Claim(np.abs(z.std(axis=0) / sigma - 1.0).max(), "=", 0.0, error, "deviation over sigma_0, less 1"),
    ]


@check(
    "5.26, 5.27", "m_t and sigma_t of a latent do not change with it, nor with those behind it; with those before it"
)
def autoregressive():
    network = small_vae().flow.flows[0].network
    z, h = np.asarray(Generator(6).standard_normal((5, 3))), np.asarray(Generator(7).standard_normal((5, 4)))
    parts = [jacobian(lambda z, k=k: network(z, h)[..., k], z) for k in range(2)]
    return [
        Claim(max(np.abs(np.triu(p)).max() for p in parts), "=", 0.0, 0.0, "largest of j >= i"),
        Claim(
            min(np.abs(p[(slice(None), *np.tril_indices(3, -1))]).min() for p in parts),
            ">=",
            1e-6,
            0.0,
            "smallest of j < i",
        ),
    ]


@check("5.19, 5.21, 5.27, 5.30-5.32", "one step written three ways: gated, affine and whitening")
def three_forms():
    step, rng = small_vae(context=0).flow.flows[0], Generator(8)
    z = np.asarray(rng.standard_normal((6, 3)))
    gated, log_det = (np.asarray(a) for a in step.forward(z))
    outputs = np.asarray(step.network(z))
    sigma = sigmoid(outputs[..., 1] + step.gate_bias)
    mu = (1.0 - sigma) * outputs[..., 0]
    back = lambda mu, sigma: (mu / (1.0 - sigma), np.log(sigma / (1.0 - sigma)))  # (m, s) of eq. 5.32 again
    forms = {  # (m, s) of each form's table in flows.InverseAutoregressive
        "affine": (mu, np.log(sigma)),
        "whitening": (-mu / sigma, -np.log(sigma)),
        "gated": back(mu, sigma),
    }
    claims = []
    for form, pair in forms.items():
        other = InverseAutoregressive(lambda z, h, pair=pair: pair, form, gate_bias=0.0).forward(z)
        claims += [
            Claim(np.abs(np.asarray(other[0]) - gated).max(), "=", 0.0, 1e-12, f"{form}: image"),
            Claim(np.abs(np.asarray(other[1]) - log_det).max(), "=", 0.0, 1e-12, f"{form}: log-determinant"),
        ]
    whitened = (z + mu / sigma) / (1.0 / sigma)  # eq. 5.19 as printed, its mu and sigma being those above
    return [
        *claims,
        Claim(np.abs(whitened - gated).max(), "=", 0.0, 1e-12, "eq. 5.19 as printed: image"),
        Claim(log_det.max(), "<=", 0.0, 0.0, "a gated step only contracts, sigma < 1: largest log-determinant"),
    ]


@check("5.30-5.32", "a positive bias of the gate begins near the identity: at m = 0, a move of 1 - sigmoid(bias)")
def gate_bias():
    z = np.asarray(Generator(9).standard_normal((200, 32)))
    claims, moves = [], []
    for bias in (0.0, 1.0, 2.0):
        still = InverseAutoregressive(lambda z, h: (np.zeros_like(z), np.zeros_like(z)), gate_bias=bias)
        move = np.abs(np.asarray(still.forward(z)[0]) - z).sum() / np.abs(z).sum()
        claims.append(
            Claim(move, "=", 1.0 - sigmoid(bias), 1e-12, f"bias {bias:g}: relative move of a network at rest")
        )
        initial = flows.iaf(32, 1, [64, 64], Generator(10), gate_bias=bias, dtype="float64")
        moves.append(np.linalg.norm(np.asarray(initial.forward(z)[0]) - z) / np.linalg.norm(z))
    return [
        *claims,
        *(
            Claim(b, "<=", 0.8 * a, 0.0, f"initial weights, bias {i + 1} against {i}: relative move")
            for i, (a, b) in enumerate(zip(moves[:-1], moves[1:], strict=True))
        ),
    ]


@check("2.47, 5.26-5.29", "a single linear step whose entries the encoder gives is the full-covariance Gaussian")
def linear_iaf():
    model, (x, eps) = VAE(12, [7], 3, posterior="full", rng=Generator(11), dtype="float64"), small_batch()
    full = shake(model, Generator(12).standard_normal, 0.4).encode(x)
    mu, sigma, scale = np.asarray(full.mu), np.exp(np.asarray(full.log_sigma)), full.scale
    # z_1 = z_0 + A (z_0 - mu), z_0 = mu + sigma eps: strictly lower A = L / sigma, its rows and the shift -A mu from x.
    rows, columns = np.tril_indices(3, -1)
    entries = scale[:, rows, columns] / sigma[:, columns]
    shift = -entries * mu[:, columns]
    to_rows = (rows[:, None] == np.arange(3)).astype(float)

    def linear(z, h):
        a, b = h[:, : len(rows)], h[:, len(rows) :]
        return ops.matmul(a * z[..., columns] + b, to_rows), np.zeros(z.shape)

    step = InverseAutoregressive(linear, "affine")
    q = FlowPosterior(Normal(mu, np.log(sigma)), step, np.concatenate([entries, shift], axis=1))
    z, log_q = (np.asarray(a) for a in q.rsample_with_log_prob(eps))
    exact = [
        [multivariate_normal(mu[b], scale[b] @ scale[b].T).logpdf(z[k, b]) for b in range(4)] for k in range(len(eps))
    ]
    return [
        Claim(np.abs(z - np.asarray(full.rsample(eps))).max(), "=", 0.0, 1e-12, "samples of eq. 2.47"),
        Claim(np.abs(log_q - np.array(exact)).max(), "=", 0.0, 1e-10, "log N(z; mu, L L^T)"),
        Claim(np.abs(scale[:, rows, columns]).min(), ">=", 1e-3, 0.0, "smallest entry of L below its diagonal"),
    ]


@check("5.27-5.29", "reversing the order preserves volume; with it every latent depends on all of the noise")
def reversal():
    z = np.asarray(Generator(13).standard_normal((4, 3)))
    volume = np.linalg.slogdet(jacobian(lambda z: Reversal().forward(z)[0], z))[1]
    claims = [Claim(np.abs(volume).max(), "=", 0.0, 0.0, "log-determinant of the reversal's Jacobian")]
    for reverse, relation, bound in ((True, ">=", 1e-6), (False, "<=", 0.0)):
        flow = shake(
            flows.iaf(3, 2, [8], Generator(14), reverse=reverse, dtype="float64"), Generator(15).standard_normal, 0.4
        )
        above = jacobian(lambda z, flow=flow: flow.forward(z)[0], z)
        above = above[:, ::-1] if reverse else above
        corner = np.abs(above[:, 0, 2]).min()  # the first latent, and the noise of the last
        label = "first latent by the last noise, " + ("reversed between steps" if reverse else "order kept")
        claims.append(Claim(corner, relation, bound, 0.0, label))
    return claims


@check("5.23-5.32", "the gradient of the bound through encoder, context and chain, along random directions")
def whole_gradient():
    model, (x, eps), rng, claims = small_vae(), small_batch(), Generator(16), []
    groups = {"encoder and decoder": [*model.encoder.parameters(), *model.decoder.parameters()],
              "chain": model.flow.parameters()}  # fmt: skip
    for name, parameters in groups.items():
        start = [p.data.copy() for p in parameters]
        # Directions that leave the masks alone: nothing but zero may stand under them.
        moves = [np.asarray(rng.standard_normal(a.shape)) * ((a != 0.0) | (a.ndim == 1)) for a in start]

        def value(h, parameters=parameters, start=start, moves=moves):
            for p, a, v in zip(parameters, start, moves, strict=True):
                p.assign(a + h * v)
            return model.elbo(x, eps=eps).mean()

        step = 1e-5
        numeric = (value(step).item() - value(-step).item()) / (2.0 * step)
        slopes = grad(value(0.0), parameters)
        exact = sum(np.sum(g * v) for g, v in zip(slopes, moves, strict=True))
        claims.append(Claim(numeric, "=", exact, 1e-7 * abs(exact), name))
    return claims


@check("5.C", "an autoregressive prior's bound and gradient are the IAF posterior's; both draw the same images")
def prior_and_posterior():
    x, eps = small_batch()
    claims = []
    for form in ("whitening", "gated"):
        rng = Generator(17)
        step = InverseAutoregressive(
            nn.MADE(3, [8], rng, outputs=2, activation="elu", dtype="float64"), form, gate_bias=1.0
        )
        model = shake(VAE(12, [7], 3, flow=step, rng=rng, dtype="float64"), rng.standard_normal, 0.4)
        views = [model.log_weights(x, eps=eps), bound_by_prior(model, step, x, eps)]
        first, second = (grad(v.mean(), model.parameters()) for v in views)
        away = max(np.abs(a - b).max() for a, b in zip(first, second, strict=True))
        z = np.asarray(step.forward(draw_from_prior(step, eps[0]))[0])
        claims += [
            Claim(np.abs(np.asarray(views[0]) - np.asarray(views[1])).max(), "=", 0.0, 1e-10, f"{form}: bounds"),
            Claim(away, "=", 0.0, 1e-10, f"{form}: gradients"),
            Claim(np.abs(z - eps[0]).max(), "=", 0.0, 1e-10, f"{form}: the whitened draw is its noise"),
        ]
    return claims
