"""Layers: named parameters, linear maps, multi-layer perceptrons, masked autoregressive networks; initial values.

A :class:`Module` finds its parameters by looking at its attributes (Parameters, Modules, and lists and dicts of them);
there is nothing to register.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minivi import kernels, ops, validate
from minivi.tensor import Parameter, Tensor, no_grad

ACTIVATIONS = {"tanh": ops.tanh, "softplus": ops.softplus, "relu": ops.relu, "elu": ops.elu, "sigmoid": ops.sigmoid}


class Module:
    """Something with parameters. Subclasses assign Parameters and Modules to attributes and define ``__call__``."""

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Pairs of name and Parameter in order of assignment; names are paths as in ``encoder.layers.0.weight``."""
        for name, value in vars(self).items():
            yield from _walk(prefix + name, value)

    def parameters(self) -> list[Parameter]:
        """All Parameters, each with its ``name`` filled in."""
        found = []
        for name, p in self.named_parameters():
            p.name = name
            found.append(p)
        return found

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all values, by name."""
        return {name: p._data.copy() for name, p in self.named_parameters()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Take over the values of :meth:`state_dict`; all or nothing.

        Raises:
            ValueError: a name is missing or unknown, or a shape or dtype differs.
        """
        if not isinstance(state, dict):
            raise ValueError(f"load_state_dict: got {validate.brief(state)}; pass a dict of arrays, from state_dict()")
        named = dict(self.named_parameters())
        missing, unknown = named.keys() - state.keys(), state.keys() - named.keys()
        if missing or unknown:
            raise ValueError(
                f"load_state_dict: missing {sorted(missing) or 'none'}, unknown {sorted(unknown) or 'none'}; "
                "the weights belong to another model"
            )
        for name, p in named.items():
            new = np.asarray(state[name])
            if new.shape != p.shape or new.dtype != p.dtype:
                raise ValueError(
                    f"load_state_dict: {name} is {p.dtype} of shape {p.shape}, the weights are "
                    f"{new.dtype} of shape {new.shape}; build the model with the same sizes"
                )
        for name, p in named.items():
            p.assign(state[name])

    def astype(self, dtype: Any) -> Any:
        """A copy of the module with parameters of another dtype, e.g. ``"float64"`` for a gradient check."""
        other = copy.deepcopy(self)
        for _, p in other.named_parameters():
            p._data = p._data.astype(dtype)
        return other

    def detached(self) -> Any:
        """A module that shares the present values as constants: it computes the same, and no gradient reaches it."""
        other = copy.copy(self)
        vars(other).update({name: _constant(value) for name, value in vars(self).items()})
        return other


def _constant(value):
    if isinstance(value, Parameter):
        return value._data
    if isinstance(value, Module):
        return value.detached()
    if isinstance(value, dict):
        return {name: _constant(item) for name, item in value.items()}
    return [_constant(item) for item in value] if isinstance(value, (list, tuple)) else value


def _walk(name, value):
    if isinstance(value, Parameter):
        yield name, value
    elif isinstance(value, Module):
        yield from value.named_parameters(name + ".")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _walk(f"{name}.{i}", item)


# ------------------------------------------------------------------------------------------------ initial values
def glorot(rng: Any, shape: tuple[int, int]) -> np.ndarray:
    """Uniform in +-sqrt(6 / (inputs + outputs)) (Glorot & Bengio 2010): keeps variances for tanh layers."""
    limit = np.sqrt(6.0 / (shape[0] + shape[1]))
    return rng.uniform(-limit, limit, shape)


def he(rng: Any, shape: tuple[int, int]) -> np.ndarray:
    """Normal of variance 2 / inputs (He et al. 2015): keeps variances for ReLU layers."""
    return rng.standard_normal(shape) * np.sqrt(2.0 / shape[0])


def normal(std: float) -> Callable:
    """Normal of standard deviation ``std``; thesis section 2.11 uses N(0, 0.01), a variance: ``normal(0.1)``.

    Raises:
        ValueError: a negative ``std``.
    """
    validate.number(std, "normal: std", 0)
    return lambda rng, shape: rng.standard_normal(shape) * std


def logit_of_mean(x: np.ndarray, margin: float = 1e-3) -> np.ndarray:
    """Output bias from data: the log-odds of each pixel's mean, so that the first predictions are the mean image.

    Args:
        x: data in [0, 1], shape (N, D).
        margin: means are kept within [margin, 1 - margin].

    Returns:
        Shape (D,), in nats.

    Raises:
        ValueError: no data, data outside [0, 1] or NaN, a margin outside (0, 0.5).
    """
    validate.rows(x, "logit_of_mean: x")
    validate.unit_interval(x, "logit_of_mean: x")
    validate.number(margin, "logit_of_mean: margin", 0, 0.5, "()")
    mean = np.clip(np.mean(x, axis=0, dtype=np.float64), margin, 1.0 - margin)
    return np.log(mean / (1.0 - mean))


def dropout(x: Any, rate: float, rng: Any = None) -> Any:
    """``x`` with each number set to zero with probability ``rate``, and the others divided by 1 - rate: the same mean.

    Args:
        x: any shape; or of ``scipy.sparse``, whose zeros stay what they are.
        rate: in [0, 1).
        rng: generator of the mask; without one, as in evaluation, ``x`` itself is returned.

    Raises:
        ValueError: a rate outside [0, 1), or ``rng`` is no generator.
    """
    validate.number(rate, "dropout: rate", 0, 1, "[)")
    if rng is not None:
        validate.generator(rng, "dropout: rng")
    if rng is None or rate == 0:
        return x
    numbers = x.data if hasattr(x, "indptr") else x
    kept = rng.random(numbers.shape, dtype=numbers.dtype) >= rate
    scaled = numbers * (kept / (1.0 - rate)).astype(numbers.dtype)
    return type(x)((scaled, x.indices, x.indptr), shape=x.shape) if hasattr(x, "indptr") else scaled


class Linear(Module):
    """x W + b.

    Args:
        inputs: I, the length of x's last axis.
        outputs: O.
        rng: generator of the initial weights.
        init: ``init(rng, shape) -> array``: :func:`glorot`, :func:`he` or ``normal(std)``.
        bias: initial b, a number or shape (O,).
        dtype: "float32" or "float64"; both start from the same draws.

    Raises:
        ValueError: a size below 1, no generator, an initialiser that is no function, a bias that does not broadcast.
    """

    def __init__(
        self, inputs: int, outputs: int, rng: Any, *, init: Callable = glorot, bias: Any = 0.0, dtype: Any = "float32"
    ):
        validate.count(inputs, "Linear: inputs")
        validate.count(outputs, "Linear: outputs")
        validate.generator(rng, "Linear: rng")
        validate.function(init, "Linear: init", "init(rng, shape) -> array, such as minivi.nn.glorot")
        if np.shape(bias) not in ((), (1,), (outputs,)):
            raise ValueError(f"Linear: bias of shape {np.shape(bias)}; pass a number or shape ({outputs},)")
        self.weight = Parameter(init(rng, (inputs, outputs)), dtype=dtype)
        self.bias = Parameter(np.broadcast_to(np.asarray(bias, np.float64), (outputs,)), dtype=dtype)

    def __call__(self, x: Any) -> Tensor:
        """Shape (..., I) -> (..., O); ``x`` may be of ``scipy.sparse`` in compressed rows, (N, I)."""
        if hasattr(x, "indptr"):
            return ops.sparse_matmul(self.weight, x=x) + self.bias
        return ops.affine(x, self.weight, self.bias)


class MLP(Module):
    """Linear layers with an activation between them (none after the last).

    Args:
        sizes: (inputs, hidden ..., outputs).
        activation: "tanh", "softplus", "relu", "elu" or "sigmoid".
        rng, init, dtype: as for :class:`Linear`.
        out_bias: initial bias of the last layer, a number or shape (outputs,).

    Raises:
        ValueError: an unknown activation, a size below 1 or fewer than two; as :class:`Linear`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rng: Any,
        *,
        activation: str = "tanh",
        init: Callable = glorot,
        out_bias: Any = 0.0,
        dtype: Any = "float32",
    ):
        validate.one_of(activation, "MLP: activation", ACTIVATIONS)
        validate.sizes(sizes, "MLP: sizes, at least an input and an output,", 2)
        self.activation = activation
        self.layers = [
            Linear(i, o, rng, init=init, bias=out_bias if n == len(sizes) - 2 else 0.0, dtype=dtype)
            for n, (i, o) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
        ]

    def __call__(self, x: Any) -> Tensor:
        """Shape (..., inputs) -> (..., outputs)."""
        act = ACTIVATIONS[self.activation]
        for layer in self.layers[:-1]:
            x = act(layer(x))
        return self.layers[-1](x)


@dataclass
class _Mask:
    """One ordering and one choice of degrees of a :class:`MADE`."""

    order: np.ndarray  # the dimension that is drawn i-th, (D,)
    degrees: list[np.ndarray]  # of each hidden layer, sorted
    units: list[np.ndarray]  # for inputs, hidden layers and outputs: where mask 0 has what is i-th here
    ranges: list[kernels.Ranges]  # of each layer's weights

    @property
    def known(self) -> np.ndarray:
        """How many units of each hidden layer see the first i dimensions at most, (L, D + 1)."""
        return np.stack([np.searchsorted(d, np.arange(len(self.order) + 1), side="right") for d in self.degrees])


class MADE(Module):
    """A masked autoregressive network: output d is a function of the dimensions before d (Germain et al. 2015).

    p(x) = prod_d p(x_d | x_before d), thesis eq. 4.8 and 4.9, in one pass. A hidden unit of degree m sees the m first
    dimensions of the ordering: it has weights from units of at most its degree, and to outputs of places behind m.
    Inputs, units and outputs are kept sorted by place and degree, so that every mask is a staircase and
    :func:`minivi.ops.masked_affine` skips what is zero, forward and in both gradients.

    Weights under the mask are zero, and so is their gradient: every optimizer leaves them so, with weight decay too.
    With several masks the layers share one set of weights, stored in the order of mask 0; each mask takes its part of
    them (weights that no mask uses are zero).

    Orderings and degrees are not part of ``state_dict``: build the model from the same seed to load its weights.

    Args:
        dims: D, the number of dimensions.
        hidden: sizes of the hidden layers, at least one.
        rng: generator of orderings, degrees and initial weights.
        outputs: numbers for each dimension. 1 is the logit of a Bernoulli variable; 2 are mu and log sigma of a normal
            one; :meth:`log_prob` and :meth:`sample` know these two, and ``__call__`` any number.
        ordering: "natural", "random" (one for each mask), a permutation of range(D), or an array (masks, D) of such:
            ``ordering[i]`` is the dimension that is drawn i-th.
        degrees: "even", the same number of units of each degree as nearly as can be, or "random" for each mask.
            "cyclic", 1, 2, ..., D - 1, 1, ...: with fewer than D - 1 units, what lies behind them feeds nothing.
        context: C, the length of a vector that every conditional may depend on: a linear map of it is added to the
            pre-activations of each hidden layer, and to the outputs (nothing else feeds those of the first dimension).
        activation: "tanh", "softplus", "relu", "elu" or "sigmoid".
        masks: how many orderings or degrees share the weights. Order-agnostic training passes ``mask=step % masks``.
        init, dtype: as for :class:`Linear`.
        out_bias: initial bias of the outputs: a number, or one that broadcasts to (D, outputs).

    Raises:
        ValueError: a size below 1, something unknown, an ordering that is no permutation, or masks that are all equal.
    """

    def __init__(
        self,
        dims: int,
        hidden: Sequence[int],
        rng: Any,
        *,
        outputs: int = 1,
        ordering: str | Sequence = "natural",
        degrees: str = "even",
        context: int = 0,
        activation: str = "relu",
        masks: int = 1,
        init: Callable = glorot,
        out_bias: Any = 0.0,
        dtype: Any = "float32",
    ):
        for value, what in ((dims, "dims"), (outputs, "outputs"), (masks, "masks")):
            validate.count(value, f"MADE: {what}")
        validate.count(context, "MADE: context", 0)
        validate.sizes(hidden, "MADE: hidden", 1)
        validate.generator(rng, "MADE: rng")
        validate.one_of(activation, "MADE: activation", ACTIVATIONS)
        validate.one_of(degrees, "MADE: degrees", ("even", "cyclic", "random"))
        hidden = list(hidden)
        self.dims, self.outputs, self.context, self.activation = dims, outputs, context, activation
        shape = (dims, outputs) if outputs > 1 else (dims,)
        try:
            bias = np.broadcast_to(np.asarray(out_bias, np.float64), shape)
        except ValueError:
            raise ValueError(f"MADE: out_bias of shape {np.shape(out_bias)} must broadcast to {shape}") from None
        self.masks: list[_Mask] = []
        for order in _orders(ordering, dims, masks, rng):
            self.masks.append(self._mask(order, _degrees(degrees, dims, hidden, rng)))
        if masks > 1 and all(np.array_equal(m.order, self.masks[0].order) for m in self.masks) and degrees != "random":
            raise ValueError(f"MADE: {masks} masks that are all equal; use ordering='random' or degrees='random'")
        sizes = [dims, *hidden, dims * outputs]
        biases = [0.0] * len(hidden) + [bias[self.masks[0].order].ravel()]
        self.layers = [
            Linear(i, o, rng, init=init, bias=b, dtype=dtype)
            for i, o, b in zip(sizes[:-1], sizes[1:], biases, strict=True)
        ]
        self.context_weights = [Parameter(init(rng, (context, o)), dtype=dtype) for o in sizes[1:] if context]
        self.apply_masks()

    def _mask(self, order, degrees):
        first = self.masks[0] if self.masks else None
        if first is None:
            degrees = [np.sort(d) for d in degrees]  # later masks see the units in this order
        places = np.argsort(order if first is None else first.order)[order]
        outputs = (places[:, None] * self.outputs + np.arange(self.outputs)).ravel()
        units = [places, *(np.argsort(d, kind="stable") for d in degrees), outputs]
        degrees = [np.sort(d) for d in degrees]
        if first is not None and all(map(np.array_equal, degrees, first.degrees)):
            return _Mask(order, degrees, units, first.ranges)
        place = np.arange(1, self.dims + 1)
        masks = [i[:, None] <= o for i, o in zip([place, *degrees[:-1]], degrees, strict=True)]
        masks.append(degrees[-1][:, None] < np.repeat(place, self.outputs))
        return _Mask(order, degrees, units, [kernels.Ranges(m) for m in masks])

    def apply_masks(self) -> None:
        """Set to zero the weights that no mask uses: needed after assigning weights that come from elsewhere."""
        for l, layer in enumerate(self.layers):
            used = np.zeros(layer.weight.shape, bool)
            for m in self.masks:
                used[np.ix_(m.units[l], m.units[l + 1])] |= m.ranges[l].mask
            layer.weight.assign(layer.weight.data * used)

    def _connections(self, mask):
        """(weight, bias, context's weight or None, ranges) of each layer, sorted by the degrees of one mask."""
        m = self.masks[mask]
        for l, layer in enumerate(self.layers):
            w, b, v = layer.weight, layer.bias, self.context_weights[l] if self.context else None
            if len(self.masks) > 1:
                w = _permute(_permute(w, m.units[l], 0), m.units[l + 1]) * m.ranges[l].mask
                b, v = _permute(b, m.units[l + 1]), v if v is None else _permute(v, m.units[l + 1])
            yield w, b, v, m.ranges[l]

    def _check(self, x, context, mask):
        shape, given = np.shape(x), None if context is None else np.shape(context)
        if shape[-1:] != (self.dims,):
            raise ValueError(f"MADE: an input of shape {shape}; its last axis must have {self.dims} dimensions")
        if (given or (0,))[-1] != self.context:
            raise ValueError(
                f"MADE: context of shape {given}; pass {f'(..., {self.context})' if self.context else None}"
            )
        if not 0 <= mask < len(self.masks):
            raise ValueError(f"MADE: no mask {mask}; there are {len(self.masks)}, counted from 0")

    def _sorted(self, x, context, mask):
        """The outputs (..., D * outputs) for ``x``, both in the order of the mask."""
        h = x
        for l, (w, b, v, ranges) in enumerate(self._connections(mask)):
            h = ops.masked_affine(ACTIVATIONS[self.activation](h) if l else h, w, b, ranges=ranges)
            h = h if v is None else h + ops.matmul(context, v)
        return h

    def __call__(self, x: Any, context: Any = None, mask: int = 0) -> Any:
        """The parameters of every conditional p(x_d | x_before d, context).

        Args:
            x: (..., D).
            context: (..., C), which broadcasts against ``x``; None if C is 0.
            mask: which of the masks.

        Returns:
            (..., D) if there is one output for each dimension, else (..., D, outputs), in the order of ``x``.

        Raises:
            ValueError: shapes that do not fit, or a mask that there is not.
        """
        self._check(x, context, mask)
        order = self.masks[mask].order
        y = self._sorted(_permute(x, order), context, mask)
        back = np.argsort(order)
        if self.outputs == 1:
            return _permute(y, back)
        return _permute(ops.reshape(y, (*y.shape[:-1], self.dims, self.outputs)), back, -2)

    def _check_head(self, method):
        if self.outputs > 2:
            raise ValueError(
                f"MADE.{method}: {self.outputs} outputs for each dimension have no density of their own; 1 is a "
                "Bernoulli's logit, 2 are mu and log sigma"
            )

    def log_prob(self, x: Any, context: Any = None, mask: int = 0) -> Any:
        """log p(x | context) = sum_d log p(x_d | x_before d, context) in nats (thesis eq. 4.8), shape (...).

        ``x`` is (..., D): zeros and ones if there is one output for each dimension, real numbers if there are two.

        Raises:
            ValueError: as ``__call__``; or more than two outputs for each dimension.
        """
        self._check(x, context, mask)
        self._check_head("log_prob")
        x = _permute(x, self.masks[mask].order)  # the sum over dimensions does not ask for their order
        y = self._sorted(x, context, mask)
        if self.outputs == 1:
            validate.unit_interval(x, "MADE.log_prob: x")
            return ops.bernoulli_log_prob(x, y)
        y = ops.reshape(y, (*y.shape[:-1], self.dims, 2))
        return ops.gaussian_log_prob(x, y[..., 0], y[..., 1])

    def ensemble_log_prob(self, x: Any, context: Any = None) -> Any:
        """log of the mean over all masks of p(x | context), in nats, shape (...)."""
        each = [self.log_prob(x, context, mask) for mask in range(len(self.masks))]
        return ops.log_sum_exp(ops.stack(each), axis=0) - float(np.log(len(each)))

    def sample(self, count: int, rng: Any, context: Any = None, mask: int = 0) -> np.ndarray:
        """``count`` samples, (count, D), constants for differentiation; ``context`` is (C,) or (count, C)."""
        self._check_head("sample")
        validate.count(count, "MADE.sample: count", 0)
        validate.generator(rng, "MADE.sample: rng")
        draw = rng.random if self.outputs == 1 else rng.standard_normal
        return self.from_noise(draw((count, self.dims), dtype=self.layers[0].bias.dtype), context, mask)

    def from_noise(self, noise: Any, context: Any = None, mask: int = 0, *, naive: bool = False) -> np.ndarray:
        """Ancestral samples as a function of their noise: one dimension after the other.

        Args:
            noise: (..., D), in the weights' dtype. For one output, uniforms: x_d = 1 if noise_d < p(x_d = 1 | before).
                For two, standard normals: x_d = mu_d + sigma_d noise_d.
            context: (..., C), which broadcasts to the shape of ``noise``; None if C is 0.
            mask: which of the masks.
            naive: go through the whole network for every dimension, as the thesis's section 4.3 counts it. Otherwise
                each new dimension is added to what it feeds (:mod:`minivi.kernels.autoregressive`).

        Returns:
            Samples in the shape of ``noise``.

        Raises:
            TypeError: noise of another dtype than the weights'.
            ValueError: as :meth:`log_prob`.
        """
        self._check(noise, context, mask)
        self._check_head("from_noise")
        noise, dtype = np.asarray(noise), self.layers[0].bias.dtype
        if noise.dtype != dtype:
            raise TypeError(f"MADE.from_noise: noise of {noise.dtype} for weights of {dtype}; convert it with astype")
        order = self.masks[mask].order
        eps = noise[..., order]
        with no_grad():
            x = (self._sample_naively if naive else self._sample_fast)(eps, context, mask)
        return x[..., np.argsort(order)]

    def _sample_naively(self, eps, context, mask):
        x = np.zeros_like(eps)
        for i in range(self.dims):
            y = np.asarray(self._sorted(x, context, mask)).reshape(*eps.shape, self.outputs)[..., i, :]
            if self.outputs == 1:
                x[..., i] = eps[..., i] < kernels.sigmoid(y[..., 0])
            else:
                x[..., i] = kernels.gaussian_sample(y[..., 0], y[..., 1], eps[..., i])
        return x

    def _sample_fast(self, eps, context, mask):
        start, weights = [], []
        for w, b, v, _ in self._connections(mask):
            weights.append(np.asarray(w))
            start.append(np.asarray(b) if v is None else np.asarray(b) + np.asarray(ops.matmul(context, v)))
        start = np.concatenate(start, -1)
        if start.ndim > 1:
            start = np.broadcast_to(start, (*eps.shape[:-1], start.shape[-1]))
        flat = lambda a: a.reshape(-1, a.shape[-1])
        known = self.masks[mask].known
        x, _ = kernels.autoregressive_sample(flat(eps), flat(start), weights, known, self.activation)
        return x.reshape(eps.shape)


def _permute(x, order, axis=-1):
    """``x`` itself if there is nothing to do."""
    return x if np.array_equal(order, np.arange(len(order))) else ops.permute(x, order=order, axis=axis)


def _orders(ordering, dims, masks, rng):
    """The ordering of each mask."""
    if isinstance(ordering, str):
        if ordering not in ("natural", "random"):
            raise ValueError(f"MADE: unknown ordering {ordering!r}; 'natural', 'random' or permutations of range(dims)")
        return [rng.permutation(dims) if ordering == "random" else np.arange(dims) for _ in range(masks)]
    orders = np.asarray(ordering)
    if orders.ndim == 1:
        orders = np.broadcast_to(orders, (masks, *orders.shape))
    if orders.shape != (masks, dims) or not np.array_equal(np.sort(orders), np.tile(np.arange(dims), (masks, 1))):
        raise ValueError(f"MADE: ordering of shape {orders.shape} is not a permutation of range({dims}) for each mask")
    return list(orders)


def _degrees(kind, dims, hidden, rng):
    """How many dimensions each unit of each hidden layer sees."""
    if kind == "even":
        return [1 + np.arange(size) * (dims - 1) // size for size in hidden]
    if kind == "cyclic":
        return [1 + np.arange(size) % max(1, dims - 1) for size in hidden]
    degrees, least = [], 1
    for size in hidden:  # a unit of a degree below all those that feed it would see nothing
        degrees.append(np.asarray(rng.integers(least, max(dims, 2), size)))
        least = int(degrees[-1].min())
    return degrees
