"""An IAF posterior with a factorised prior is a factorised posterior with an autoregressive prior (appendix 5.C)."""

# %% [markdown]
# ## Appendix 5.C: the same model, seen from the prior
#
# Take away the context. Then z_1 = f(z_0) is one map for all data, and what the flow does to the posterior may as well
# be said of the prior. With y = z_0 the latent variable, the posterior is the factorised q(y | x), the decoder is
# p(x | f(y)), and p(y) = N(f(y); 0, I) |det df/dy| is the autoregressive prior whose conditionals f whitens:
#
#     eq. 5.19:  f(y)_i = (y_i - m_i) / exp(s_i)              p(y_i | before) = N(m_i, exp(s_i)^2)
#     eq. 5.32:  f(y)_i = sigma_i y_i + (1 - sigma_i) m_i     p(y_i | before) = N(-m_i (1 / sigma_i - 1), 1 / sigma_i^2)
#
# The second way is written out here, as a sum of Gaussian conditionals, and compared with Algorithm 5 on real images:
# bounds and gradients, before training and after. Images are drawn from both: one variable of y after the other, or z
# at once, which is what the flow's side has ahead.

# %%
import numpy as np

from minivi import nn, ops, optim
from minivi.distributions import Normal
from minivi.experiments import experiment
from minivi.flows import InverseAutoregressive
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import grad, no_grad
from minivi_chapters.studies.ch05_iaf._shared import images

PRIORS_LAPTOP = {"data": "mnist", "hidden": 450, "latents": 32, "width": 320, "epochs": 1, "batch": 100, "images": 1000}
PRIORS = {
    "quick": {"data": "digits", "hidden": 100, "latents": 8, "width": 40, "epochs": 10, "batch": 50, "images": 297},
    "laptop": PRIORS_LAPTOP,
    "paper": PRIORS_LAPTOP | {"width": 1920, "epochs": 100, "images": 10_000},
}


def conditionals(step, y):
    """Mean and log standard deviation of each p(y_i | those before) that ``step`` whitens, (..., J)."""
    outputs = step.network(y)
    m, s = outputs[..., 0], outputs[..., 1]
    if step.form == "whitening":
        return m, s
    odds = ops.exp(-(s + step.gate_bias))  # (1 - sigma) / sigma
    return -odds * m, ops.log1p(odds)


def bound_by_prior(model, step, x, eps):
    """log p(x | y) + log p(y) - log q(y | x) of a factorised posterior and an autoregressive prior, (K, B)."""
    q = model.encode(x).base
    y = q.rsample(eps)
    mu, log_sigma = conditionals(step, y)
    log_px_y = model.decode((y - mu) * ops.exp(-log_sigma)).log_prob(x)
    return log_px_y + Normal(mu, log_sigma).log_prob(y) - q.log_prob(y)


def draw_from_prior(step, eps):
    """y from its noise, one dimension after the other."""
    y = np.zeros_like(eps)
    for i in range(eps.shape[-1]):
        with no_grad():
            mu, log_sigma = (np.asarray(a) for a in conditionals(step, y))
        y[..., i] = mu[..., i] + np.exp(log_sigma[..., i]) * eps[..., i]
    return y


@experiment(
    "priors",
    title="an IAF posterior with a factorised prior is a factorised posterior with an autoregressive prior",
    mirrors="thesis appendix 5.C",
    budgets=PRIORS,
    minutes={"quick": 0.2, "laptop": 0.12, "paper": 60},
)
def priors(run):
    """Compare both views before and after training."""
    s, sets, views = run.settings, images(run, run.settings.data), {}
    x = sets.test[: s.images].astype(float)
    for form, equation in (("whitening", "5.19"), ("gated", "5.32")):
        rng = Generator([run.seed, 60])
        step = InverseAutoregressive(
            nn.MADE(s.latents, [s.width], rng, outputs=2, activation="elu"), form, gate_bias=2.0
        )
        model = VAE(
            sets.train.shape[1], [s.hidden], s.latents, activation="elu", flow=step, rng=rng,
            output_bias=nn.logit_of_mean(sets.train),
        )  # fmt: skip
        views[f"eq. {equation}, untrained"] = both_views(model, x, run.seed)
        run.fit(
            f"{s.data}_{form}_seed{run.seed}", model, lambda x, rng, model=model: -model.elbo(x, rng).mean(),
            optim.Adam(model.parameters(), 1e-3), sets.train, epochs=s.epochs, batch_size=s.batch,
            rng=Generator([run.seed, 61]), prepare=sets.prepare,
        )  # fmt: skip
        views[f"eq. {equation}, trained"] = both_views(model, x, run.seed)
    return {"views": views}


def both_views(model, x, seed):
    """In float64: the mean bounds, and the largest differences of bounds, gradients and images drawn."""
    double = model.astype("float64")
    eps = np.asarray(Generator([seed, 62]).standard_normal((1, len(x), model.latents)))
    bounds = [double.log_weights(x, eps=eps), bound_by_prior(double, double.flow, x, eps)]
    first, second = (np.asarray(bound)[0] for bound in bounds)
    gradients = [grad(bound.mean(), double.parameters()) for bound in bounds]
    away = max(np.abs(a - b).max() for a, b in zip(*gradients, strict=True))
    noise = eps[0, :100]
    with no_grad():
        whitened = np.asarray(double.flow.forward(draw_from_prior(double.flow, noise))[0])
    return {
        "IAF posterior": first.mean(),
        "autoregressive prior": second.mean(),
        "bounds": np.abs(first - second).max(),
        "largest bound": np.abs(first).max(),
        "gradients": away / max(np.abs(a).max() for a in gradients[0]),
        "images": np.abs(double.mean_image(whitened) - double.mean_image(noise)).max(),
    }


@priors.table
def _(n, table):
    small = {"unit": "1e-15"}
    for about, view in n.views.items():
        for name in ("IAF posterior", "autoregressive prior"):
            table.row(f"{about}: bound, {name}", view[name])
        note = "largest difference, of an image"
        table.row(f"{about}: the two bounds", 1e15 * view["bounds"], unit="1e-15 nats", note=note)
        note = "largest difference over largest element"
        table.row(f"{about}: the two gradients", 1e15 * view["gradients"], **small, note=note)
        note = "largest difference of a pixel's mean"
        table.row(f"{about}: images drawn", 1e15 * view["images"], **small, note=note)
        relative = view["bounds"] / view["largest bound"]
        table.check(relative, "=", 0.0, 1e-12, f"{about}: equal bounds, largest relative difference")
        table.check(view["gradients"], "=", 0.0, 1e-10, f"{about}: equal gradients, largest relative difference")
        table.check(view["images"], "=", 0.0, 1e-9, f"{about}: equal images from equal noise")


# %% [markdown]
# ## What to try next
#
# - In `priors`, take a chain of two steps with a reversal: what prior is that, and why is it not a product of Gaussian
#   conditionals any more?
