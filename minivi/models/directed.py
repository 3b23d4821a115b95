"""Latent variables on any directed graph (thesis sections 4.1, 5.2.1, 5.B.1 and 5.B.2).

    inference    q(z | x)  =  prod_l q(z_l | Pa(z_l))     sampled one by one in topological order     (eq. 4.1-4.5)
    generation   p(x, z)   =  prod_v p(v | Pa(v))         scored at these samples

A graph is a dict {variable: (parents, conditional)}, in any order; ``conditional(*values of the parents)`` returns a
distribution. Two layers with inference in either direction:

    generative = {"x": (["z1"], ...), "z1": (["z2"], ...), "z2": ([], 16)}             16: short for N(0, I), 16 numbers
    bottom_up  = {"z1": (["x"], ...), "z2": (["z1"], ...)}
    top_down   = {"h": (["x"], ...), "z2": (["h"], ...), "z1": (["h", "z2"], ...)}

A variable of both graphs is a latent one. A variable of one graph alone, such as h, is a feature: its conditional
returns numbers, not a distribution, and several conditionals may use them. What depends on x alone is computed once,
however many samples there are. Inference may use what generation makes of the latents above: its features, and the
prior itself by the name "p(z1)".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from graphlib import CycleError, TopologicalSorter
from operator import add
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.distributions import Bernoulli, Normal
from minivi.models.layered import check_groups, gaussian_of_heads
from minivi.nn import ACTIVATIONS, MLP, Linear, Module, glorot
from minivi.protocols import Rng
from minivi.tensor import Parameter, Tensor, no_grad

Graph = dict[str, tuple[Sequence[str], Any]]


@dataclass
class DirectedTerms:
    """What one pass gives; log-densities in nats, (K, B).

    Attributes:
        values: all that was computed, by name: samples "z1" (K, B, J), features, distributions "q(z1)" and "p(z1)".
        log_q: log q(z_l | Pa(z_l)) of each latent variable.
        log_p: log p(v | Pa(v)) of each latent variable and of "x".
    """

    values: dict[str, Any]
    log_q: dict[str, Tensor]
    log_p: dict[str, Tensor]

    @property
    def q(self) -> dict[str, Any]:
        """The distribution from which each latent variable was drawn."""
        return {name: self.values[f"q({name})"] for name in self.log_q}

    @property
    def log_w(self) -> Tensor:
        """log p(x, z) - log q(z | x), (K, B)."""
        return reduce(add, self.log_p.values()) - reduce(add, self.log_q.values())

    @property
    def reconstruction(self) -> Tensor:
        """E_q log p(x | its parents), the mean over samples: (B,)."""
        return self.log_p["x"].mean(axis=0)

    @property
    def kl(self) -> Tensor:
        """Each latent variable's part of the bound, E_q[log q(z_l | .) - log p(z_l | .)], by samples: (B, L).

        Top-down this is the mean of KL(q(z_l | x, z_>l) || p(z_l | z_>l)), which has a closed form for Gaussians.
        Bottom-up it has none: p(z_1 | z_2) depends on a z_2 that was drawn from z_1 itself, so for a given prior the
        expectation is not over q(z_1 | x) alone. Except in the top layer such a term is not a KL divergence and can be
        negative; so all are estimated by sampling.
        """
        return ops.stack([self.log_q[name] - self.log_p[name] for name in self.log_q], axis=-1).mean(axis=0)


class DirectedVAE(Module):
    """A model p(x, z) and its inference model q(z | x), each a directed graph.

    Args:
        pixels: D, the length of a datum.
        generative: {variable: (parents, conditional)} for "x" and the latent variables. A conditional is a function
            or, if it has parameters, a :class:`~minivi.nn.Module`; or an integer J for N(0, I) over J numbers.
        inference: the same for the latent variables, given "x". Its conditionals return distributions with a
            reparameterised sample: Normal, MultivariateNormal or FlowPosterior.

    Attributes:
        latents: names of the latent variables in the order of ``generative``, which is that of the columns of ``kl``.

    Raises:
        ValueError: an unknown parent, a cycle, no "x", an inferred "x", or one that depends on no latent variable.
    """

    def __init__(self, pixels: int, generative: Graph, inference: Graph):
        validate.count(pixels, "DirectedVAE: pixels")
        for graph in (generative, inference):
            pairs = graph.values() if isinstance(graph, dict) else [None]
            if not all(isinstance(v, tuple | list) and len(v) == 2 and isinstance(v[0], tuple | list) for v in pairs):
                raise ValueError("DirectedVAE: a graph is a dict {variable: (list of parents, conditional)}")
        if "x" not in generative or "x" in inference:
            raise ValueError("DirectedVAE: 'x' must be a variable of the generative graph, and not of the inference")
        self.pixels, self._dtype = pixels, np.dtype("float64")
        self.latents = [name for name in generative if name in inference]
        shared = {"x", *self.latents}
        self.generative, self.inference = ({k: v for k, (_, v) in g.items()} for g in (generative, inference))
        for name, (parents, _) in generative.items():
            _known(name, parents, {"x", *generative})
        for name, (parents, _) in inference.items():
            _known(name, parents, {"x", *generative, *inference, *(f"p({z})" for z in self.latents)})
        self._order_of_generation = _ordered({name: parents for name, (parents, _) in generative.items()})
        above = {"x"}
        for name in reversed(self._order_of_generation):  # its children come before it
            above |= set(generative[name][0]) if name in above and name in generative else set()
        if not above.intersection(self.latents):
            raise ValueError(
                "DirectedVAE: 'x' depends on no latent variable; give it a parent that is a variable of both graphs"
            )
        # In one graph: a sample "z" comes of "q(z)"; "p(z)" and "q(z)" of their parents, as features do.
        self._parents = {"x": [], **{name: [f"q({name})"] for name in self.latents}}
        self._parents |= {f"p({k})" if k in shared else k: list(parents) for k, (parents, _) in generative.items()}
        self._parents |= {f"q({k})" if k in shared else k: list(parents) for k, (parents, _) in inference.items()}
        self._order = _ordered(self._parents)
        for name, conditional in [*self.generative.items(), *self.inference.items()]:
            if not callable(conditional):
                validate.count(conditional, f"DirectedVAE: the conditional of {name}, if no function,")

    @property
    def dtype(self) -> np.dtype:
        """Of the parameters, hence of data and noise; float64 without any."""
        return next((p.dtype for _, p in self.named_parameters()), self._dtype)

    def detached(self) -> DirectedVAE:
        """The same with constant weights: see :meth:`minivi.nn.Module.detached`."""
        other = super().detached()
        other._dtype = self.dtype
        return other

    def _make(self, key, conditional, values, parents):
        """A conditional's result: a distribution for the ``key`` "p(z1)" or "q(z1)", numbers for a feature."""
        if isinstance(conditional, int):
            zero = np.zeros(conditional, self.dtype)
            return Normal(zero, zero)
        made = conditional(*[values[name] for name in parents])
        wanted = "rsample_with_log_prob" if key.startswith("q(") else "log_prob" if key.startswith("p(") else None
        if wanted and not hasattr(made, wanted):
            what = "a distribution with reparameterised samples" if key.startswith("q(") else "a distribution"
            raise ValueError(f"DirectedVAE: the conditional {key} returned a {type(made).__name__}, not {what}")
        if not wanted and hasattr(made, "log_prob"):
            raise ValueError(f"DirectedVAE: {key} is random, but in one graph alone; give it to the other graph too")
        return made

    def terms(
        self,
        x: np.ndarray,
        rng: Rng | None = None,
        samples: int = 1,
        eps: dict[str, np.ndarray] | None = None,
        z: dict[str, Any] | None = None,
    ) -> DirectedTerms:
        """One pass: ancestral, reparameterised samples of q (eq. 4.3-4.5), scored by every arrow of both graphs.

        Args:
            x: data (B, D).
            rng: generator of the noise; or
            eps: the noise itself, by latent variable (K, B, J), for checks; or
            z: values of the latent variables (K, B, J) instead of samples: both graphs' log-densities there.
            samples: K.

        Raises:
            ValueError: x that is not (B, D); no samples; noise or values missing for a latent variable.
        """
        validate.rows(x, "DirectedVAE: x", self.pixels)
        given = eps if z is None else z
        if given is None:
            validate.count(samples, "DirectedVAE: samples")
            validate.generator(rng, "DirectedVAE: rng")
        elif not isinstance(given, dict) or not given.keys() >= set(self.latents):
            raise ValueError(f"DirectedVAE: eps and z are dicts with arrays (K, B, J) for each of {self.latents}")
        values, log_q = {"x": x}, {}
        for key in self._order:
            if key in self.latents:
                q = values[f"q({key})"]
                if z is not None:
                    values[key], log_q[key] = z[key], q.log_prob(z[key])
                    continue
                shape = samples, len(x), q.shape[-1]
                noise = rng.standard_normal(shape, dtype=self.dtype) if eps is None else eps[key]
                if np.shape(noise)[1:] != shape[1:] or len(noise) == 0:
                    raise ValueError(
                        f"DirectedVAE: eps of {key} has shape {np.shape(noise)}; pass (K, {len(x)}, {q.shape[-1]})"
                    )
                values[key], log_q[key] = q.rsample_with_log_prob(noise)
            elif key != "x":
                conditionals = self.inference if key[:2] == "q(" or key in self.inference else self.generative
                name = key[2:-1] if key[:2] in ("q(", "p(") else key
                values[key] = self._make(key, conditionals[name], values, self._parents[key])
        log_p = {name: values[f"p({name})"].log_prob(values[name]) for name in ("x", *self.latents)}
        return DirectedTerms(values, {name: log_q[name] for name in self.latents}, log_p)

    def log_weights(self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, eps: dict | None = None) -> Tensor:
        """log p(x, z_k) - log q(z_k | x) in nats, (K, B); arguments as for :meth:`terms`."""
        return self.terms(x, rng, samples, eps).log_w

    def reconstruction_and_kl(
        self, x: np.ndarray, rng: Rng | None = None, samples: int = 1, eps: dict | None = None
    ) -> tuple[Tensor, Tensor]:
        """The bound in parts, in nats: reconstruction (B,), and the KL term of each latent variable (B, L).

        The bound is ``reconstruction - kl.sum(axis=1)``; with annealing ``reconstruction - warm_up(step, steps) *
        kl.sum(axis=1)``, and with free bits a layer ``free_bits(reconstruction, kl, minimum)``, see
        :mod:`minivi.bounds`. Arguments as for :meth:`terms`.
        """
        terms = self.terms(x, rng, samples, eps)
        return terms.reconstruction, terms.kl

    def sample(self, count: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """Ancestral draws from the generative graph: the means of p(x | its parents) and the draws, (count, D)."""
        validate.count(count, "DirectedVAE.sample: count", 0)
        validate.generator(rng, "DirectedVAE.sample: rng")
        values: dict[str, Any] = {}
        with no_grad():
            for name, parents in self._order_of_generation.items():
                key = f"p({name})" if name in ("x", *self.latents) else name
                made = self._make(key, self.generative[name], values, parents)
                if name == "x":
                    return np.asarray(made.mean if isinstance(made, Bernoulli) else made.mu), made.sample(rng)
                if key != name:  # what has no parents has one distribution for all draws
                    made = made.sample(rng) if len(made.shape) > 1 else made.sample(rng, (count,))
                values[name] = made
        raise AssertionError("a graph always has 'x'")


def _known(name, parents, names):
    for parent in parents:
        if parent not in names:
            raise ValueError(f"DirectedVAE: {name} has an unknown parent {parent!r}; one of {', '.join(sorted(names))}")


def _ordered(parents):
    """The same dict, in topological order."""
    try:
        return {name: parents.get(name, []) for name in TopologicalSorter(parents).static_order()}
    except CycleError as error:
        raise ValueError(
            f"DirectedVAE: a cycle, {' -> '.join(error.args[1])}; no variable may come of itself"
        ) from None


# ---------------------------------------------------------------------------------------------------- conditionals
class Arrow(Module):
    """A conditional by an MLP of all parents: ``make(outputs)``.

    The first layer has a weight matrix for each parent. So a parent without an axis of samples, (B, I) beside the
    (K, B, J) of another, meets its weights once for all samples.

    Args:
        inputs: lengths of the parents.
        sizes: of the hidden layers and the outputs.
        make: from outputs (..., O) to a distribution, as :class:`~minivi.distributions.Bernoulli`, or to numbers.
        rng, activation, init, out_bias, dtype: as for :class:`~minivi.nn.MLP`.

    Raises:
        ValueError: no inputs or no sizes, or one below 1; ``make`` is no function; an unknown activation.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        sizes: Sequence[int],
        make: Callable,
        *,
        rng: Rng,
        activation: str = "tanh",
        init: Callable = glorot,
        out_bias: Any = 0.0,
        dtype: Any = "float32",
    ):
        validate.sizes(inputs, "Arrow: inputs", 1)
        validate.sizes(sizes, "Arrow: sizes", 1)
        validate.function(make, "Arrow: make", "outputs -> distribution or numbers")
        validate.one_of(activation, "Arrow: activation", ACTIVATIONS)
        options = {"init": init, "dtype": dtype}
        self.make, self.activation = make, activation
        self.first = Linear(inputs[0], sizes[0], rng, bias=0.0 if len(sizes) > 1 else out_bias, **options)
        self.others = [Parameter(init(rng, (i, sizes[0])), dtype=dtype) for i in inputs[1:]]
        self.rest = MLP(sizes, rng, activation=activation, out_bias=out_bias, **options) if len(sizes) > 1 else None

    def __call__(self, *parents: Any) -> Any:
        """Parents (..., I), broadcast against each other -> ``make`` of (..., O)."""
        if len(parents) != 1 + len(self.others):
            raise ValueError(f"Arrow: {len(parents)} parents for {1 + len(self.others)} inputs; give one for each")
        h = self.first(parents[0])
        for parent, weight in zip(parents[1:], self.others, strict=True):
            h = h + ops.matmul(parent, weight)
        return self.make(h if self.rest is None else self.rest(ACTIVATIONS[self.activation](h)))


class Combined(Arrow):
    """q = p * l / Z: a Gaussian prior times a Gaussian pseudo-likelihood by an MLP (Salimans 2016, Sønderby 2016)."""

    def __call__(self, prior: Normal, *parents: Any) -> Normal:
        """``prior`` as the parent "p(z1)" gives it, and the parents of the network."""
        return prior.product(super().__call__(*parents))


# ---------------------------------------------------------------------------------------------------- models
INFERENCE = ("bottom-up", "skip", "precision", "shared", "separate")


def layers(
    pixels: int,
    hidden: Sequence[Sequence[int]],
    latents: Sequence[int],
    inference: str = "bottom-up",
    *,
    prior: str = "chain",
    rng: Rng,
    activation: str = "tanh",
    init: Callable = glorot,
    output_bias: Any = 0.0,
    dtype: Any = "float32",
) -> DirectedVAE:
    """A chain z_L -> ... -> z_1 -> x of Gaussian layers above Bernoulli pixels, inferred in one of five ways.

    ============  =====================================================================================  ============
    "bottom-up"   q(z_1 | x) q(z_2 | z_1) ...: as :class:`~minivi.models.LayeredVAE`                     fig. 4.1 (a)
    "skip"        q(z_1 | x) q(z_2 | z_1, x) q(z_3 | z_2, z_1, x) ...                                    5.B.1
    "precision"   q(z_L | x) ... q(z_1 | z_2, x), each the prior p(z_l | z_l+1) times a Gaussian of x    4.1.1
    "shared"      the same order; q's numbers are linear in features h_l(p), from which the prior's are
                  computed too, and in features h_l(q) of x                                              4.1.1, 5.B.2
    "separate"    as "shared", with features of z_l+1 of its own instead of h_l(p)                       fig. 4.1 (b)
    ============  =====================================================================================  ============

    Generation is the same in all, as is the size of what inference computes from x: h_1(q) of x, h_2(q) of h_1(q), or
    bottom-up of z_1, and so on. Names: "z1", "hq1" and "hp1" for the lowest layer.

    With the prior "autoregressive" each z_l depends on all layers above it, p(z_l | z_l+1, ..., z_L) (section 5.B), and
    so do the features h_l(p), and those of "separate".

    Args:
        pixels: D.
        hidden: for each stochastic layer, from the bottom, the sizes of the hidden layers between it and the one
            below, at least one; generation mirrors them.
        latents: sizes of the stochastic layers, from the bottom.
        inference: see the table.
        prior: "chain" or "autoregressive".
        rng, activation, init, output_bias, dtype: as for :class:`~minivi.models.LayeredVAE`.

    Raises:
        ValueError: an unknown ``inference`` or ``prior``, or not one group of hidden layers for each stochastic layer.
    """
    validate.one_of(inference, "layers: inference", INFERENCE)
    validate.one_of(prior, "layers: prior", ("chain", "autoregressive"))
    validate.one_of(activation, "layers: activation", ACTIVATIONS)
    check_groups("layers", pixels, hidden, latents)
    if not all(map(len, hidden)):
        raise ValueError(f"layers: hidden layers {list(hidden)}; at least one in each group")
    options = {"rng": rng, "activation": activation, "init": init, "dtype": dtype}
    arrow = lambda inputs, sizes, make, **more: Arrow(inputs, sizes, make, **options, **more)
    act, top = ACTIVATIONS[activation], len(latents)
    up = [tuple(h) for h in hidden]
    down = [h[::-1] for h in up]

    generative: Graph = {"x": (["z1"], arrow(latents[:1], [*down[0], pixels], Bernoulli, out_bias=output_bias))}
    above = {l: range(l + 1, top + 1 if prior == "autoregressive" else l + 2) for l in range(1, top)}
    parents = lambda l: ([f"z{i}" for i in above[l]], arrow([latents[i - 1] for i in above[l]], down[l], act))
    for l in range(1, top):
        generative[f"hp{l}"] = parents(l)
        generative[f"z{l}"] = [f"hp{l}"], arrow(down[l][-1:], [2 * latents[l - 1]], gaussian_of_heads)
    generative[f"z{top}"] = [], latents[-1]

    graph: Graph = {"hq1": (["x"], arrow([pixels], up[0], act))}
    for l in range(1, top + 1):
        if l > 1:
            below = [f"hq{l - 1}"], [up[l - 2][-1]]
            if inference == "bottom-up":
                below = [f"z{l - 1}"], [latents[l - 2]]
            if inference == "skip":
                below = [*(f"z{i}" for i in range(1, l)), "hq1"], [*latents[: l - 1], up[0][-1]]
            graph[f"hq{l}"] = below[0], arrow(below[1], up[l - 1], act)
        size, heads = up[l - 1][-1], [2 * latents[l - 1]]
        if inference == "precision":
            graph[f"z{l}"] = [f"p(z{l})", f"hq{l}"], Combined([size], heads, gaussian_of_heads, **options)
        elif inference in ("shared", "separate") and l < top:
            if inference == "separate":
                graph[f"hs{l}"] = parents(l)
            feature = f"hp{l}" if inference == "shared" else f"hs{l}"
            graph[f"z{l}"] = [f"hq{l}", feature], arrow([size, down[l][-1]], heads, gaussian_of_heads)
        else:
            graph[f"z{l}"] = [f"hq{l}"], arrow([size], heads, gaussian_of_heads)
    return DirectedVAE(pixels, generative, graph)


def auxiliary(
    pixels: int,
    hidden: Sequence[int],
    latents: int,
    auxiliaries: int,
    *,
    rng: Rng,
    activation: str = "tanh",
    init: Callable = glorot,
    output_bias: Any = 0.0,
    dtype: Any = "float32",
) -> DirectedVAE:
    """A VAE with an auxiliary variable: q(u | x) q(z | u, x) and p(u | x, z) p(x | z) p(z) (eq. 5.1-5.3).

    Without u this is :class:`~minivi.models.VAE`: u makes the marginal q(z | x) an infinite mixture of Gaussians, and
    leaves p(x, z) as it is.

    Args:
        pixels, hidden, latents: D, sizes of the encoder's hidden layers, and J, as for a VAE.
        auxiliaries: the length of u. Its arrows have one hidden layer each, as wide as the last of ``hidden``.
        rng, activation, init, output_bias, dtype: as for a VAE.

    Raises:
        ValueError: a size below 1, no hidden layer, an unknown activation.
    """
    for value, what in ((pixels, "pixels"), (latents, "latents"), (auxiliaries, "auxiliaries")):
        validate.count(value, f"auxiliary: {what}")
    validate.sizes(hidden, "auxiliary: hidden", 1)
    validate.one_of(activation, "auxiliary: activation", ACTIVATIONS)
    options = {"rng": rng, "activation": activation, "init": init, "dtype": dtype}
    width, act = hidden[-1], ACTIVATIONS[activation]
    generative: Graph = {
        "x": (["z"], Arrow([latents], [*reversed(hidden), pixels], Bernoulli, out_bias=output_bias, **options)),
        "z": ([], latents),
        "u": (["x", "z"], Arrow([pixels, latents], [width, 2 * auxiliaries], gaussian_of_heads, **options)),
    }
    inference: Graph = {
        "h": (["x"], Arrow([pixels], hidden, act, **options)),
        "u": (["h"], Arrow([width], [2 * auxiliaries], gaussian_of_heads, **options)),
        "z": (["h", "u"], Arrow([width, auxiliaries], [width, 2 * latents], gaussian_of_heads, **options)),
    }
    return DirectedVAE(pixels, generative, inference)
