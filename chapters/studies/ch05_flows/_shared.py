"""Chapter 5, normalizing flows: posteriors that bend (thesis sections 5.1 to 5.3, Figure 5.2).

What does a posterior lose that has to be a factorized Gaussian? And which flow gains it back: at the same depth, in the
same time, and in more dimensions?
"""

# %% [markdown]
# A flow pushes a draw of known density through invertible maps, and keeps account of how each stretches space:
#
#     eps_0 ~ N(0, I),   eps_t = f_t(eps_t-1, x),   z = eps_T                                            (5.10-5.13)
#     log q(z | x) = log p(eps_0) - sum_t log |det d eps_t / d eps_t-1|                                  (5.14-5.16)
#
# Section 5.1 asks two things of it for the bound's sake: draws, and the density of these draws, both cheap. (The
# density at other points, which takes the inverse, may be dear: it is needed for the pictures here, never in training.)
# Five maps meet that. Three are of the text, the other two of the papers that it cites:
#
#     planar     z + u tanh(w.z + b)                         one direction, through one unit                   (5.17)
#     radial     z + beta (z - c) / (alpha + |z - c|)        towards or away from one centre
#     NICE       (z_a, z_b + m(z_a))                         half of z, by a network of the other half
#     Real NVP   (z_a, z_b exp(s(z_a)) + m(z_a))             the same, with a scale
#     IAF        sigma(z) z + mu(z), autoregressive          all of z, each from those before it        (5.19-5.22)

# %%
from types import SimpleNamespace

import numpy as np

from minivi import bounds, flows, nn, optim
from minivi.distributions import Normal
from minivi.flows import FlowPosterior
from minivi.random import Generator
from minivi.tensor import Parameter, no_grad

FLOWS = "planar", "radial", "NICE", "Real NVP", "IAF"
GAUSSIAN = "Gaussian"  # factorized: no flow at all


def make_flow(kind, size, depth, hidden, rng, context=0, dtype="float32"):
    """``depth`` steps of a ``kind``; ``hidden`` is the width of the networks of those that have some.

    NICE's couplings preserve volume, so it ends with a scale for each dimension. Couplings move one half and the other
    in turn; IAF reverses the dimensions between steps, and is gated (eq. 5.32), as section 5.4 advises.
    """
    options = {"context": context, "dtype": dtype}
    if kind == "IAF":
        return flows.iaf(size, depth, [hidden], rng, **options)
    if kind in ("NICE", "Real NVP"):
        coupling = flows.AdditiveCoupling if kind == "NICE" else flows.AffineCoupling
        steps = [coupling(size, [hidden], rng, swap=t % 2 == 1, **options) for t in range(depth)]
        return flows.Chain(steps + [flows.Scaling(size, dtype=dtype)] * (kind == "NICE"))
    one = {"planar": flows.Planar, "radial": flows.Radial}
    return flows.Chain([one[kind](size, rng, **options) for _ in range(depth if kind in one else 0)])


# %% [markdown]
# ## What time is
#
# "Equal depth": as many steps of the flow, and as many training steps. In `energies` also "equal time": the cheaper
# flows train on until they have taken as long as the dearest one. To be reproducible on a busy machine, "time" is the
# number of steps times a fixed cost per step, measured once on one core (AMD EPYC, float32; in each study's tables).
# The seconds that a run took are in its numbers. The schedule of the step size does not depend on the run's length, so
# one run serves both comparisons.


# %%
def epochs_in_time(costs, epochs, kind):
    """For how many epochs to train ``kind`` until the dearest of the flows has trained for ``epochs``."""
    return max(1, round(epochs * max(costs[other] for other in FLOWS if other in costs) / costs[kind]))


def falling(step_size, steps):
    """The schedule: constant for a quarter of ``steps``, then as 1 / t."""
    return lambda step: step_size * min(1.0, 0.25 * steps / max(step, 1))


# %% [markdown]
# ## Fitting a density that is known
#
# For the flows by themselves, without a model of data: q(z) is fitted to a density p~(z) / Z by
#
#     E_q[log p~(z) - log q(z)] = log Z - KL(q || p)
#
# The Gaussian at the start of the flow has a free mean and free standard deviations, for each flow and without one.


# %%
class Approximation(nn.Module):
    """q(z) over ``size`` dimensions: a factorized Gaussian, through a flow."""

    def __init__(self, size, flow, dtype="float32"):
        self.size, self.flow = size, flow
        self.mu, self.log_sigma = (Parameter(np.zeros(size), dtype=dtype) for _ in range(2))

    @property
    def q(self):
        """The distribution."""
        return FlowPosterior(Normal(self.mu, self.log_sigma), self.flow)


def fitted(run, s, name, q, target, epochs, horizon):
    """The history of fitting ``q`` to ``target``, with "gap" = KL(q || p) in nats and its "error" after each epoch.

    The text's source raises log p~ from a small weight to 1 (Rezende & Mohamed 2015, eq. 20): ``warm`` is how long. The
    step size falls from a quarter of ``horizon``, in epochs, on. ``last_draws`` of the settings, if there, is how many
    draws the gap at the end is measured by.
    """
    optimizer = optim.Adam(q.parameters(), falling(s.step_size, s.steps * horizon))

    def loss(x, rng):
        z, log_q = q.q.rsample_with_log_prob(rng.standard_normal((s.batch, q.size), dtype="float32"))
        weight = max(0.01, bounds.warm_up(optimizer.steps, s.warm))
        return (log_q - weight * target.log_p(z)).mean()

    def evaluate(epoch):
        draws = getattr(s, "last_draws", s.draws) if epoch in (horizon, epochs) else s.draws
        with no_grad():
            z, log_q = q.q.rsample_with_log_prob(Generator(60).standard_normal((draws, q.size), dtype="float32"))
            values = np.asarray(log_q, np.float64) - np.asarray(target.log_p(z), np.float64) + target.log_normalizer
        return {"gap": values.mean(), "error": values.std() / np.sqrt(draws)}

    a_datum_a_step = np.zeros((s.steps, 1))  # there are no data; ``fit`` counts in epochs
    return run.fit(
        name, q, loss, optimizer, a_datum_a_step, epochs=epochs, batch_size=1, rng=Generator([run.seed, 61]),
        evaluate=evaluate,
    )  # fmt: skip


def start_from(q, gaussian, kind, depth):
    """Give ``q`` the base with which it begins as ``gaussian``: the others begin as the identity, but IAF does not.

    Its gates (sigmoid(1.5) each) shrink what they get, and of two steps the second sees the dimensions reversed. What
    the networks add to that is small at first, but not nothing.
    """
    mu, log_sigma = gaussian.mu.data, gaussian.log_sigma.data
    if kind == "IAF":
        shrunk = depth * np.log1p(np.exp(-1.5))
        mu, log_sigma = mu * np.exp(shrunk), log_sigma + shrunk
        if depth % 2 == 0:
            mu, log_sigma = mu[::-1], log_sigma[::-1]
    q.mu.assign(mu)
    q.log_sigma.assign(log_sigma)


def compared(run, name, target, size, plan, costs, settings=None):
    """Fit one approximation for each label of ``plan`` (kind, depth): numbers, and the approximations, by label.

    ``costs`` has those labels that are compared at equal time too; a longer chain stops at equal steps. The Gaussian,
    a tenth of the price, trains until it has settled, with ``gaussian_step_size`` if the settings have it: its gap is
    that of the best one. ``settings``: the run's, if None.
    """
    s, fits, approximations = settings or run.settings, {}, {}
    for label, (kind, depth) in plan.items():
        rng = Generator([run.seed, 62, size, depth])
        q = Approximation(size, make_flow(kind, size, depth, max(s.width, 2 * size), rng))
        if s.from_gaussian and kind in FLOWS:
            start_from(q, approximations[GAUSSIAN], kind, depth)
        horizon = max(40, s.epochs) if kind == GAUSSIAN else s.epochs
        later = epochs_in_time(costs, s.epochs, label) if label in costs else horizon
        own = vars(s) | (
            {"step_size": s.gaussian_step_size} if kind == GAUSSIAN and "gaussian_step_size" in vars(s) else {}
        )
        file = f"{name}_{kind.replace(' ', '_')}_{depth}"
        history = fitted(run, SimpleNamespace(**own), file, q, target, later, horizon)
        gap, error = history.column("gap"), history.column("error")
        approximations[label] = q
        fits[label] = {
            "gap": gap[horizon - 1], "error": error[horizon - 1], "in_time": gap[-1], "epochs": later, "course": gap,
            "seconds": history.column("seconds").sum(), "parameters": sum(p.data.size for p in q.flow.parameters()),
        }  # fmt: skip
    return fits, approximations


def values(each, name):
    """One number of each dict; NaN where JSON has none."""
    return np.array([one[name] for one in each], float)
