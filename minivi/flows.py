"""Normalizing flows: invertible maps of the last axis whose log |det Jacobian| is cheap (thesis 4.4, 5.2.2-5.4).

    z_0 ──► f_1 ──► z_1 ──► ... ──► f_T ──► z_T        log q(z_T) = log q(z_0) - sum_t log |det dz_t / dz_t-1|   (5.16)

A flow has ``forward(z, context=None) -> (z', log_det)`` and ``inverse(z', context=None) -> z``, both differentiable.
:class:`FlowPosterior` pushes a Gaussian through the forward map: a flexible q(z | x), whose samples and their densities
are cheap. :class:`FlowDensity` maps data to noise by it: a model of data, whose density is cheap.

The context h, shape (..., H), is an extra output of an encoder (eq. 5.24). A flow made with ``context=H`` needs it; any
other one ignores it, except IAF, whose networks take whatever context there is. Leading axes of z and h are broadcast:
z may be (K, B, D) beside h of (B, H).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minivi import ops
from minivi.distributions import Normal, broadcast_shape, check_last_axis
from minivi.nn import MADE, MLP, Linear, Module, normal
from minivi.protocols import Rng
from minivi.tensor import Parameter, no_grad

LOG_E_MINUS_1 = float(np.log(np.e - 1.0))  # softplus of it is 1
_FAR = 1e12


class Flow(Module):
    """An invertible map.

    Attributes:
        size: D, or None if any will do.
        context: H, the length of the context that it needs, or 0.
    """

    size: int | None = None
    context: int = 0

    def forward(self, z: Any, context: Any = None) -> tuple[Any, Any]:
        """The image z' of ``z``, both (..., D), and log |det dz' / dz| in nats, (...).

        Raises:
            ValueError: ``z`` does not have D columns, or the context is missing or does not have H columns.
        """
        return self._forward(self._check(z, context), context)

    def inverse(self, z: Any, context: Any = None) -> Any:
        """The point whose image is ``z``, (..., D); raises as :meth:`forward`."""
        return self._inverse(self._check(z, context), context)

    def _check(self, z, context):
        """``z``, repeated along the leading axes that the context alone has."""
        name = type(self).__name__
        if self.size is not None and np.shape(z)[-1:] != (self.size,):
            raise ValueError(f"{name}: z has shape {np.shape(z)}; this flow takes (..., {self.size})")
        if self.context and (context is None or np.shape(context)[-1:] != (self.context,)):
            given = "none" if context is None else f"one of shape {np.shape(context)}"
            raise ValueError(f"{name}: needs a context of shape (..., {self.context}); got {given}")
        rows, others = np.shape(z)[:-1], np.shape(context)[:-1]
        if not others or rows[-len(others) :] == others:
            return z
        rows = broadcast_shape(f"{name}, leading axes of z and context", rows, others)
        return ops.broadcast_to(z, shape=(*rows, np.shape(z)[-1]))

    def _forward(self, z, context):
        raise NotImplementedError

    def _inverse(self, z, context):
        raise NotImplementedError


class _Head(Module):
    """The numbers that a flow is made of: a Parameter, or a linear function of the context (amortised)."""

    def __init__(self, initial, context, rng, dtype):
        if context:  # the bias starts the flow, weights this small leave it there for every datum
            self.linear = Linear(context, len(initial), rng, init=normal(0.01), bias=initial, dtype=dtype)
        else:
            self.values = Parameter(initial, dtype=dtype)
        self.amortised = bool(context)

    def __call__(self, context):
        return self.linear(context) if self.amortised else self.values


# ------------------------------------------------------------------------------------------- one direction, one centre
class Planar(Flow):
    """z' = z + u^ tanh(w.z + b), eq. 5.17: stretches space along w, through a bottleneck of one unit.

    It is invertible if w.u^ > -1. So u^ is u, with its part along w moved to w.u^ = softplus(w.u) - 1 (Rezende &
    Mohamed 2015, appendix A.1). It starts as the identity. The inverse finds a scalar root numerically; its derivatives
    are those of the implicit function, second ones are not right.

    Args:
        size: D.
        rng: generator of the initial w, a direction of length 1.
        context: H, to let a linear map of the context give u, w and b for each datum; 0 for parameters of its own.
        dtype: "float32" or "float64".
    """

    def __init__(self, size: int, rng: Rng, *, context: int = 0, dtype: Any = "float32"):
        self.size, self.context = size, context
        w = rng.standard_normal(size)
        w = w / np.linalg.norm(w)
        u = LOG_E_MINUS_1 * w  # the constraint makes this u^ = 0
        self.head = _Head(np.concatenate([u, w, [0.0]]), context, rng, dtype)

    def _terms(self, context):
        """u^, w, b and the slack 1 + w.u^ > 0."""
        numbers, d = self.head(context), self.size
        u, w, b = numbers[..., :d], numbers[..., d : 2 * d], numbers[..., 2 * d :]
        along = ops.sum(w * u, axis=-1, keepdims=True)
        square = ops.sum(w * w, axis=-1, keepdims=True)
        tiny = np.finfo(w.dtype).tiny
        slack = ops.where(square > tiny, ops.softplus(along), 1.0)  # w = 0 only translates: nothing to constrain
        return u + (slack - 1.0 - along) / ops.maximum(square, tiny) * w, w, b, slack

    def _forward(self, z, context):
        u, w, b, slack = self._terms(context)
        t = ops.tanh(ops.sum(w * z, axis=-1, keepdims=True) + b)
        # 1 + w.u^ (1 - t^2), with the difference that rounding could make negative multiplied out
        return z + u * t, ops.sum(ops.log(t * t + (1.0 - t * t) * slack), axis=-1)  # eq. 5.17

    def _inverse(self, z, context):
        # The scalar root a = w.z of a + w.u^ tanh(a + b) = w.z'.
        u, w, b, slack = self._terms(context)
        image = ops.sum(w * z, axis=-1, keepdims=True)
        shift, gain, target = (np.asarray(x, np.float64) for x in (b, slack - 1.0, image))
        a = _bisect(lambda a: a + gain * np.tanh(a + shift) - target, target - np.abs(gain), target + np.abs(gain))
        a = a.astype(z.dtype)
        # One Newton step with a constant slope does not move the root, but has the implicit function's derivative.
        t = ops.tanh(a + b)
        square = np.square(np.asarray(t))
        slope = square + (1.0 - square) * np.asarray(slack)
        a = a - (a + (slack - 1.0) * t - image) / np.maximum(slope, np.finfo(z.dtype).tiny)
        return z - u * ops.tanh(a + b)


def _bisect(f: Callable, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The root of an increasing f within [low, high], element by element, to the last bits of float64."""
    for _ in range(80):
        middle = 0.5 * (low + high)
        below = f(middle) < 0.0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


class Radial(Flow):
    """z' = z + beta^ (z - c) / (alpha + r), r = |z - c|: contracts or expands around c (Rezende & Mohamed 2015).

    It is invertible if beta^ > -alpha, hence beta^ = softplus(beta) - alpha (their appendix A.2), and alpha > 0 is the
    softplus of a free number. It starts as the identity.

    Args:
        size: D.
        rng: generator of the initial centre, standard normal.
        context: H, to let a linear map of the context give c, alpha and beta for each datum; 0 for parameters.
        dtype: "float32" or "float64".
    """

    def __init__(self, size: int, rng: Rng, *, context: int = 0, dtype: Any = "float32"):
        self.size, self.context = size, context
        initial = np.concatenate([rng.standard_normal(size), [LOG_E_MINUS_1] * 2])
        self.head = _Head(initial, context, rng, dtype)

    def _terms(self, z, context):
        """z - c, its length r, alpha, and softplus(beta) = alpha + beta^."""
        numbers, d = self.head(context), self.size
        from_centre = z - numbers[..., :d]
        square = ops.sum(from_centre * from_centre, axis=-1, keepdims=True)
        r = ops.sqrt(square + np.finfo(z.dtype).tiny)  # a slope at the centre too
        return from_centre, r, ops.softplus(numbers[..., d : d + 1]), ops.softplus(numbers[..., d + 1 :])

    def _forward(self, z, context):
        from_centre, r, alpha, slack = self._terms(z, context)
        across = ops.log(r + slack) - ops.log(r + alpha)  # the stretch 1 + beta^ h across the radius, D - 1 times
        along = ops.log(r * r + 2.0 * alpha * r + alpha * slack) - 2.0 * ops.log(r + alpha)  # 1 + beta^ (h + h' r)
        return z + from_centre * ((slack - alpha) / (r + alpha)), ops.sum((self.size - 1.0) * across + along, axis=-1)

    def _inverse(self, z, context):
        # The radius solves r (r + alpha + beta^) = r' (r + alpha), a quadratic equation.
        from_centre, image, alpha, slack = self._terms(z, context)
        half = image - slack
        # Of the root's two forms the one without cancellation.
        larger = 0.5 * (ops.abs(half) + ops.sqrt(half * half + 4.0 * alpha * image))
        r = ops.where(half > 0.0, larger, alpha * image / larger)
        return z - from_centre * ((slack - alpha) / (r + slack))


# ----------------------------------------------------------------------------------------- halves, and all at once
class AdditiveCoupling(Flow):
    """One half of z is moved by a network of the other half: z'_b = z_b + m(z_a, h) (NICE, Dinh et al. 2014).

    The Jacobian is triangular with ones on the diagonal; the inverse costs the same as the forward map. It starts as
    the identity, from zeros in the network's last layer.

    Args:
        size: D >= 2.
        hidden: sizes of the network's hidden layers.
        rng: generator of its initial weights.
        swap: move the first half instead of the second; alternate it along a chain, or permute in between.
        context: H, the network's additional inputs.
        activation, dtype: as for :class:`~minivi.nn.MLP`.

    Raises:
        ValueError: ``size`` is below 2.
    """

    outputs = 1

    def __init__(
        self,
        size: int,
        hidden: Sequence[int],
        rng: Rng,
        *,
        swap: bool = False,
        context: int = 0,
        activation: str = "tanh",
        dtype: Any = "float32",
    ):
        if size < 2:
            raise ValueError(f"{type(self).__name__}: size {size} has no two halves; it needs at least 2")
        self.size, self.context, self.swap, self.half = size, context, swap, size // 2
        kept = size - self.half if swap else self.half
        moved = size - kept
        self.network = MLP((kept + context, *hidden, self.outputs * moved), rng, activation=activation, dtype=dtype)
        last = self.network.layers[-1].weight
        last.assign(np.zeros(last.shape))

    def _halves(self, z):
        first, second = z[..., : self.half], z[..., self.half :]
        return (second, first) if self.swap else (first, second)

    def _join(self, kept, moved):
        return ops.concatenate([moved, kept] if self.swap else [kept, moved], axis=-1)

    def _network(self, kept, context):
        if self.context:
            context = ops.broadcast_to(context, shape=(*kept.shape[:-1], self.context))
            kept = ops.concatenate([kept, context], axis=-1)
        return self.network(kept)

    def _forward(self, z, context):
        kept, moved = self._halves(z)
        return self._join(kept, moved + self._network(kept, context)), _zeros(z)

    def _inverse(self, z, context):
        kept, moved = self._halves(z)
        return self._join(kept, moved - self._network(kept, context))


class AffineCoupling(AdditiveCoupling):
    """z'_b = z_b exp(s(z_a, h)) + m(z_a, h), log_det = sum s (Real NVP, Dinh et al. 2016).

    s is a tanh times a learned scale (one for each dimension, 1 at first), which bounds it.
    Arguments as for :class:`AdditiveCoupling`.
    """

    outputs = 2

    def __init__(
        self,
        size: int,
        hidden: Sequence[int],
        rng: Rng,
        *,
        swap: bool = False,
        context: int = 0,
        activation: str = "tanh",
        dtype: Any = "float32",
    ):
        super().__init__(size, hidden, rng, swap=swap, context=context, activation=activation, dtype=dtype)
        self.scale = Parameter(np.ones(self.network.layers[-1].bias.shape[0] // 2), dtype=dtype)

    def _shift_and_log_scale(self, kept, context):
        outputs, n = self._network(kept, context), self.scale.shape[0]
        return outputs[..., :n], self.scale * ops.tanh(outputs[..., n:])

    def _forward(self, z, context):
        kept, moved = self._halves(z)
        m, s = self._shift_and_log_scale(kept, context)
        return self._join(kept, moved * ops.exp(s) + m), ops.sum(s, axis=-1)

    def _inverse(self, z, context):
        kept, moved = self._halves(z)
        m, s = self._shift_and_log_scale(kept, context)
        return self._join(kept, (moved - m) * ops.exp(-s))


class Scaling(Flow):
    """z' = z exp(s), element by element: NICE's last layer, since its couplings preserve volume.

    Args:
        size: D.
        dtype: "float32" or "float64".
    """

    def __init__(self, size: int, *, dtype: Any = "float32"):
        self.size = size
        self.log_scale = Parameter(np.zeros(size), dtype=dtype)

    def _forward(self, z, context):
        return z * ops.exp(self.log_scale), ops.sum(self.log_scale) + _zeros(z)

    def _inverse(self, z, context):
        return z * ops.exp(-self.log_scale)


class Permutation(Flow):
    """z'_i = z_order[i]; preserves volume.

    Args:
        order: each of 0 .. D - 1 once.

    Raises:
        ValueError: ``order`` is no permutation.
    """

    def __init__(self, order: Any):
        self.order = np.asarray(order)
        self.size = self.order.size
        if self.order.ndim != 1 or not np.array_equal(np.sort(self.order), np.arange(self.size)):
            raise ValueError(f"Permutation: {order} does not hold each of 0 .. {self.size - 1} once")

    def _forward(self, z, context):
        return z[..., self.order], _zeros(z)

    def _inverse(self, z, context):
        return z[..., np.argsort(self.order)]


class Reversal(Flow):
    """z' = (z_D, ..., z_1), between steps of IAF (end of section 5.4); preserves volume."""

    def _forward(self, z, context):
        return z[..., ::-1], _zeros(z)

    def _inverse(self, z, context):
        return z[..., ::-1]


# ------------------------------------------------------------------------------------------------- autoregressive
class InverseAutoregressive(Flow):
    """One step of inverse autoregressive flow, with (m, s) = network(z, h) (thesis sections 5.3 and 5.4).

    =============  ====================================================  ==================  ===================
    form           z'                                                    log_det             source
    =============  ====================================================  ==================  ===================
    "whitening"    (z - m) / sigma,  sigma = exp(s)                      -sum s              eq. 5.19, 5.20
    "affine"       sigma z + m,  sigma = exp(s)                          sum s               eq. 5.21, 5.22, 5.27
    "gated"        sigma z + (1 - sigma) m,  sigma = sigmoid(s + bias)   sum log sigma       eq. 5.30-5.32
    "location"     z + m                                                 0                   sigma = 1 in 5.21
    =============  ====================================================  ==================  ===================

    The forward map is one pass of the network; the inverse needs D of them.

    Args:
        network: callable (z, context) -> (m, s), each of z's shape, or one array (..., D, 2) of both, as
            :class:`~minivi.nn.MADE` with ``outputs=2`` gives. Autoregressive: in some order of the dimensions, m_i and
            s_i depend on those before i alone. A :class:`~minivi.nn.Module`, if it has parameters.
        form: see the table.
        gate_bias: added to s in the gated form, so that a step begins by changing z little (+1 to +2, section 5.4).

    Raises:
        ValueError: an unknown form.
    """

    FORMS = ("whitening", "affine", "gated", "location")

    def __init__(self, network: Callable, form: str = "gated", *, gate_bias: float = 1.5):
        if form not in self.FORMS:
            raise ValueError(f"InverseAutoregressive: unknown form {form!r}; one of {', '.join(self.FORMS)}")
        self.network, self.form, self.gate_bias = network, form, gate_bias

    def _shift_and_log_scale(self, z, context):
        """t and log sigma of z' = sigma z + t; in the form "whitening" of z = sigma z' + t, its inverse."""
        outputs = self.network(z, context)
        m, s = outputs if isinstance(outputs, tuple) else (outputs[..., 0], outputs[..., 1])
        if m.shape != z.shape or s.shape != z.shape:
            raise ValueError(
                f"InverseAutoregressive: for z {z.shape} the network gives m {m.shape} and s {s.shape}; make them alike"
            )
        if self.form in ("whitening", "affine"):
            return m, s
        if self.form == "location":
            return m, np.zeros(z.shape, z.dtype)
        gate = s + self.gate_bias
        return m * ops.sigmoid(-gate), -ops.softplus(-gate)  # eq. 5.30-5.32

    def _forward(self, z, context):
        shift, log_scale = self._shift_and_log_scale(z, context)
        if self.form == "whitening":
            shift, log_scale = -shift * ops.exp(-log_scale), -log_scale  # eq. 5.19, 5.20
        return z * ops.exp(log_scale) + shift, ops.sum(log_scale, axis=-1)  # eq. 5.21, 5.22, 5.27

    def _inverse(self, z, context):
        # z <- (y - t(z)) / sigma(z): each pass makes one dimension more right, whatever their order. Those that are
        # not right yet may overflow, and infinity times a mask's 0 is no number: they start again at 0.
        y = z
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(np.shape(y)[-1]):
                z = ops.where(np.abs(np.asarray(z)) < _FAR, z, 0.0)
                shift, log_scale = self._shift_and_log_scale(z, context)
                if self.form == "whitening":
                    z = y * ops.exp(log_scale) + shift
                else:
                    z = (y - shift) * ops.exp(-log_scale)
        return z


# --------------------------------------------------------------------------------------------------- compositions
class Chain(Flow):
    """Flows one after the other, all with the same context: eq. 5.10-5.15.

    Args:
        flows: f_1, ..., f_T in the order of the forward map.
    """

    def __init__(self, flows: Sequence[Flow]):
        self.flows = list(flows)

    def _forward(self, z, context):
        total = _zeros(z)
        for flow in self.flows:
            z, log_det = flow.forward(z, context)  # eq. 5.10-5.14
            total = total + log_det  # eq. 5.15
        return z, total

    def _inverse(self, z, context):
        for flow in reversed(self.flows):
            z = flow.inverse(z, context)
        return z


def iaf(
    size: int,
    steps: int,
    hidden: Sequence[int],
    rng: Rng,
    *,
    context: int = 0,
    form: str = "gated",
    gate_bias: float = 1.5,
    reverse: bool = True,
    activation: str = "elu",
    dtype: Any = "float32",
) -> Chain:
    """The inverse autoregressive flow of section 5.4: a :class:`~minivi.nn.MADE` each step, reversed in between.

    Args:
        size: D.
        steps: T, the depth in Table 5.1.
        hidden: sizes of each network's hidden layers, the width.
        rng: generator of the initial weights.
        context: H, which every network gets as an additional input.
        form, gate_bias: as for :class:`InverseAutoregressive`.
        reverse: reverse the order of the dimensions between steps.
        activation, dtype: as for :class:`~minivi.nn.MADE`; section 5.B.7 prefers ELU.
    """
    flows: list[Flow] = []
    for step in range(steps):
        if step and reverse:
            flows.append(Reversal())
        made = MADE(size, hidden, rng, outputs=2, context=context, activation=activation, dtype=dtype)
        flows.append(InverseAutoregressive(made, form, gate_bias=gate_bias))
    return Chain(flows)


def _zeros(z):
    return np.zeros(z.shape[:-1], z.dtype)


class FlowPosterior:
    """q(z | x): a Gaussian pushed through a flow with the encoder's context h (eq. 5.23-5.29, Algorithm 5).

    A distribution like those of :mod:`minivi.distributions`, without closed forms for the KL divergence and entropy.

    Args:
        base: N(mu_0, diag(sigma_0^2)), parameters (B, J); a full covariance will do as well.
        flow: a :class:`Flow`, usually a :class:`Chain`.
        context: h, (B, H), or None.
    """

    def __init__(self, base: Normal, flow: Flow, context: Any = None):
        self.base, self.flow, self.context = base, flow, context

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one draw: (..., J), with the leading axes of the base's parameters and the context, broadcast."""
        if self.context is None:
            return self.base.shape
        rows = broadcast_shape("FlowPosterior, leading axes", self.base.shape[:-1], np.shape(self.context)[:-1])
        return *rows, self.base.shape[-1]

    def rsample_with_log_prob(self, eps: Any) -> tuple[Any, Any]:
        """Algorithm 5: z of standard normal noise ``eps``, both (..., J), and log q(z | x) in nats, (...), in one pass.

        Eq. 5.29, whose eps_i is the initial noise eps_0,i (a slip of the text); the mean mu_0 of the base, which the
        line above eq. 5.23 leaves out, is in eq. 5.25.
        """
        z, log_det = self.flow.forward(self.base.rsample(eps), self.context)  # eq. 5.25, 5.26, Algorithm 5
        return z, self.base.log_prob_of_noise(eps) - log_det  # eq. 5.16

    def rsample(self, eps: Any) -> Any:
        """z alone."""
        return self.rsample_with_log_prob(eps)[0]

    def log_prob_of_noise(self, eps: Any) -> Any:
        """log q of ``rsample(eps)`` alone."""
        return self.rsample_with_log_prob(eps)[1]

    def sample(self, rng: Rng, samples: tuple[int, ...] = ()) -> np.ndarray:
        """Draws of shape (*samples, ..., J), constants for differentiation."""
        with no_grad():
            if self.shape == self.base.shape:
                z = self.base.sample(rng, samples)
            else:  # each context gets noise of its own
                z = self.base.rsample(rng.standard_normal((*samples, *self.shape), dtype=self.base.mu.dtype))
            return np.asarray(self.flow.forward(z, self.context)[0])

    def log_prob(self, z: Any) -> Any:
        """log q(z | x) of any z (..., J), in nats, (...): costs the flow's inverse, for IAF J passes a step.

        As for :class:`~minivi.distributions.Normal`, z is broadcast against the data: (K, 1, J) gives (K, B).
        """
        check_last_axis("log_prob", z, self.shape)
        shape = broadcast_shape("log_prob", np.shape(z), self.shape)
        z = z if np.shape(z) == shape else ops.broadcast_to(z, shape=shape)
        start = self.flow.inverse(z, self.context)
        beyond = ~np.isfinite(np.asanyarray(start)).all(axis=-1)  # of any number: its density is 0, not NaN
        if np.any(beyond):
            start = ops.where(beyond[..., None], 0.0, start)
        log_q = self.base.log_prob(start) - self.flow.forward(start, self.context)[1]
        return ops.where(beyond, -np.inf, log_q) if np.any(beyond) else log_q

    def detached(self) -> FlowPosterior:
        """The same distribution with constant parameters and context."""
        context = None if self.context is None else np.asarray(self.context)
        return FlowPosterior(self.base.detached(), self.flow.detached(), context)


class FlowDensity(Module):
    """A density model of data (section 4.4): ``flow.forward`` maps x to noise of a known density.

        log p(x) = log p(eps) + log |det d eps / dx|,  eps = f(x)

    Densities need the forward map alone, samples the inverse: with :class:`InverseAutoregressive` in the form of
    eq. 5.19 it is the Gaussian autoregressive model of section 5.3, fast to learn and slow to sample.

    Args:
        flow: from data to noise.
        base: density of the noise, with ``log_prob`` and ``sample``; a :class:`~minivi.distributions.Normal` of
            parameters (D,).
    """

    def __init__(self, flow: Flow, base: Any):
        self.flow, self.base = flow, base

    def log_prob(self, x: Any, context: Any = None) -> Any:
        """log p(x | h) in nats: (..., D) -> (...)."""
        noise, log_det = self.flow.forward(x, context)
        return self.base.log_prob(noise) + log_det  # eq. 5.18

    def sample(self, count: int, rng: Rng, context: Any = None) -> np.ndarray:
        """Draws, (count, D), constants for differentiation."""
        with no_grad():
            return np.asarray(self.flow.inverse(self.base.sample(rng, (count,)), context))
