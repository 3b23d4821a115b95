"""The masked autoregressive network MADE: its masks, densities, and synthesis of only what is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minivi import kernels, ops, validate
from minivi.nn.layers import ACTIVATIONS, Linear, Module, glorot
from minivi.protocols import Rng
from minivi.tensor import Parameter, no_grad


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
        rng: Rng,
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

    def describe(self) -> str:
        """Such as "MADE(784-500-784, relu)"."""
        sizes = [self.dims, *(layer.weight.shape[1] for layer in self.layers)]
        return f"MADE({'-'.join(map(str, sizes))}, {self.activation})"

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
            return ops.bernoulli_log_prob(x, y)  # eq. 4.8, 4.9
        y = ops.reshape(y, (*y.shape[:-1], self.dims, 2))
        return ops.gaussian_log_prob(x, y[..., 0], y[..., 1])

    def ensemble_log_prob(self, x: Any, context: Any = None) -> Any:
        """log of the mean over all masks of p(x | context), in nats, shape (...)."""
        each = [self.log_prob(x, context, mask) for mask in range(len(self.masks))]
        return ops.log_sum_exp(ops.stack(each), axis=0) - float(np.log(len(each)))

    def sample(self, count: int, rng: Rng, context: Any = None, mask: int = 0) -> np.ndarray:
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
