"""Layers: named parameters, linear maps, multi-layer perceptrons; initial values.

A :class:`Module` finds its parameters by looking at its attributes (Parameters, Modules, and lists and dicts of them);
there is nothing to register.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.nn.recipes import recipe
from minivi.protocols import Rng
from minivi.tensor import Parameter, Tensor, _met, no_grad

ACTIVATIONS = {"tanh": ops.tanh, "softplus": ops.softplus, "relu": ops.relu, "elu": ops.elu, "sigmoid": ops.sigmoid}


class Module:
    """Something with parameters. Subclasses assign Parameters and Modules to attributes and define ``__call__``."""

    __slots__ = ("__dict__", "__weakref__", "_recipe")

    def __init_subclass__(cls, **options: Any):
        """Have the class's objects note what they are made with."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _noting(cls.__init__)

    @property
    def recipe(self) -> dict[str, Any]:
        """The class and the arguments that it was made with, as JSON can hold them: :mod:`minivi.nn.recipes`."""
        return getattr(self, "_recipe", None) or recipe(type(self), (), {})

    def __repr__(self) -> str:
        count = sum(p.size for _, p in self.named_parameters())
        return f"{self.describe()}: {count:,} parameter{'s' * (count != 1)}"

    def describe(self) -> str:
        """The class and the modules that it is made of, in a line."""
        return f"{type(self).__name__}({', '.join(_described(vars(self)))})"

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Pairs of name and Parameter in order of assignment; names are paths as in ``encoder.layers.0.weight``."""
        for name, value in vars(self).items():
            yield from _walk(prefix + name, value)

    def parameters(self) -> list[Parameter]:
        """All Parameters, each with its ``name`` filled in."""
        parameters = []
        for name, p in self.named_parameters():
            p.name = name
            parameters.append(p)
        return parameters

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


def _noting(init):
    """``init``, after noting its arguments; those of the object's own class, not those passed on to a base."""

    @functools.wraps(init)
    def noting(self, *args, **options):
        if not hasattr(self, "_recipe"):
            self._recipe = recipe(type(self), args, options)
        init(self, *args, **options)

    return noting


def _described(named):
    """Modules among ``named`` values, also in lists, as ``name=description``."""
    for name, value in named.items():
        if isinstance(value, Module):
            yield f"{name}={value.describe()}"
        elif isinstance(value, dict):
            yield from _described(value)
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Module) for item in value):
            yield f"{name}=[{', '.join(item.describe() for item in value if isinstance(item, Module))}]"


def _constant(value):
    if isinstance(value, Parameter):
        _met(value)
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
def glorot(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
    """Uniform in +-sqrt(6 / (inputs + outputs)) (Glorot & Bengio 2010): keeps variances for tanh layers."""
    limit = np.sqrt(6.0 / (shape[0] + shape[1]))
    return rng.uniform(-limit, limit, shape)


def he(rng: Rng, shape: tuple[int, int]) -> np.ndarray:
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


def dropout(x: Any, rate: float, rng: Rng | None = None) -> Any:
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


class _Mode(threading.local):
    by_data = False


_mode = _Mode()


@contextlib.contextmanager
def initialise_by_data() -> Iterator[None]:
    """In this block, each layer under weight normalisation sets its gain and bias by what it is called with.

    Afterwards its outputs have, on these data, mean 0 and the layer's ``scale`` as standard deviation (thesis 5.B.6).
    Nothing is recorded for gradients.

    Example:
        >>> from minivi import Generator
        >>> layer = Linear(4, 2, Generator(0), weight_norm=True, scale=0.5)
        >>> x = np.random.default_rng(0).normal(3.0, 2.0, (100, 4)).astype("float32")
        >>> with initialise_by_data():
        ...     _ = layer(x)
        >>> np.std(layer(x).data, axis=0).round(3)
        array([0.5, 0.5], dtype=float32)
    """
    before, _mode.by_data = _mode.by_data, True
    try:
        with no_grad():
            yield
    finally:
        _mode.by_data = before


class Weighted(Module):
    """A linear map of a weight and a bias, with weight normalisation on demand (Salimans & Kingma 2016; thesis 5.B.6).

    Under it the weight's direction v and its length are apart, for each output: w = gain v / norm of v.
    """

    outputs_axis = -1  # of the weight

    def _build(self, weight, rng, init, bias, weight_norm, scale, dtype):
        name = type(self).__name__
        validate.generator(rng, f"{name}: rng")
        validate.function(init, f"{name}: init", "init(rng, shape) -> array, such as minivi.nn.glorot")
        validate.number(scale, f"{name}: scale", 0)
        outputs = weight[self.outputs_axis]
        if np.shape(bias) not in ((), (1,), (outputs,)):
            raise ValueError(f"{name}: bias of shape {np.shape(bias)}; pass a number or shape ({outputs},)")
        drawn = init(rng, (math.prod(weight) // outputs, outputs)).reshape((*np.delete(weight, self.outputs_axis), -1))
        self.weight = Parameter(np.moveaxis(drawn, -1, self.outputs_axis), dtype=dtype)
        self.bias = Parameter(np.broadcast_to(np.asarray(bias, np.float64), (outputs,)), dtype=dtype)
        self.scale = scale
        if weight_norm:
            self.gain = Parameter(self._norms(self.weight.data), dtype=dtype)  # so that w = v until data say more

    def _norms(self, weight):
        axes = tuple(i for i in range(weight.ndim) if i != self.outputs_axis % weight.ndim)
        return ops.sqrt(ops.sum(ops.square(weight), axis=axes))

    def effective_weight(self) -> Tensor:
        """w: the weight itself, or under weight normalisation gain v / norm of v, for each output."""
        if not hasattr(self, "gain"):
            return self.weight
        factor = self.gain / self._norms(self.weight)
        return self.weight * (factor if self.outputs_axis == -1 else ops.reshape(factor, shape=(-1, 1)))

    def _map(self, x):
        raise NotImplementedError

    def __call__(self, x: Any, *args: Any) -> Tensor:
        """The map of ``x``; in :func:`initialise_by_data`, after setting gain and bias by it."""
        if _mode.by_data and hasattr(self, "gain"):
            y = np.asarray(self._map(x, *args), np.float64).reshape(-1, self.bias.size)
            spread = y.std(axis=0)
            factor = np.where(spread > 1e-8, self.scale / np.where(spread > 1e-8, spread, 1.0), 1.0)
            self.gain.assign(self.gain.data * factor)
            self.bias.assign((self.bias.data - y.mean(axis=0)) * factor)
        return self._map(x, *args)


class Linear(Weighted):
    """x W + b.

    Args:
        inputs: I, the length of x's last axis.
        outputs: O.
        rng: generator of the initial weights.
        init: ``init(rng, shape) -> array``: :func:`glorot`, :func:`he` or ``normal(std)``.
        bias: initial b, a number or shape (O,).
        weight_norm: whether W = gain V / norm of V, for each output.
        scale: standard deviation of the outputs after :func:`initialise_by_data`.
        dtype: "float32" or "float64"; both start from the same draws.

    Raises:
        ValueError: a size below 1, no generator, an initialiser that is no function, a bias that does not broadcast.

    Example:
        >>> from minivi import Generator
        >>> layer = Linear(3, 2, Generator(0), bias=1.0)
        >>> layer(np.zeros((1, 3), "float32")).data
        array([[1., 1.]], dtype=float32)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rng: Rng,
        *,
        init: Callable = glorot,
        bias: Any = 0.0,
        weight_norm: bool = False,
        scale: float = 1.0,
        dtype: Any = "float32",
    ):
        validate.count(inputs, "Linear: inputs")
        validate.count(outputs, "Linear: outputs")
        self._build((inputs, outputs), rng, init, bias, weight_norm, scale, dtype)

    def describe(self) -> str:
        """Such as "Linear(784 -> 500)"."""
        return f"Linear({' -> '.join(map(str, self.weight.shape))})"

    def _map(self, x):
        """Shape (..., I) -> (..., O); ``x`` may be of ``scipy.sparse`` in compressed rows, (N, I)."""
        if hasattr(x, "indptr"):
            return ops.sparse_matmul(self.effective_weight(), x=x) + self.bias
        return ops.affine(x, self.effective_weight(), self.bias)


class MLP(Module):
    """Linear layers with an activation between them (none after the last).

    Args:
        sizes: (inputs, hidden ..., outputs).
        activation: "tanh", "softplus", "relu", "elu" or "sigmoid".
        rng, init, dtype: as for :class:`Linear`.
        out_bias: initial bias of the last layer, a number or shape (outputs,).

    Raises:
        ValueError: an unknown activation, a size below 1 or fewer than two; as :class:`Linear`.

    Example:
        >>> from minivi import Generator
        >>> network = MLP((784, 500, 40), Generator(0))
        >>> network
        MLP(784-500-40, tanh): 412,540 parameters
        >>> network(np.zeros((100, 784), "float32")).shape
        (100, 40)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rng: Rng,
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

    def describe(self) -> str:
        """Such as "MLP(784-500-40, tanh)"."""
        sizes = [self.layers[0].weight.shape[0], *(layer.weight.shape[1] for layer in self.layers)]
        return f"MLP({'-'.join(map(str, sizes))}, {self.activation})"

    def __call__(self, x: Any) -> Tensor:
        """Shape (..., inputs) -> (..., outputs)."""
        act = ACTIVATIONS[self.activation]
        for layer in self.layers[:-1]:
            x = act(layer(x))
        return self.layers[-1](x)
