"""Layers: named parameters, linear maps, multi-layer perceptrons and their initial values.

A :class:`Module` finds its parameters by looking at its attributes (Parameters, Modules, and lists of Modules); there
is nothing to register.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minivi import ops
from minivi.tensor import Parameter, Tensor

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
        named = dict(self.named_parameters())
        missing, unknown = named.keys() - state.keys(), state.keys() - named.keys()
        if missing or unknown:
            raise ValueError(
                f"load_state_dict: missing {sorted(missing) or 'none'}, unknown {sorted(unknown) or 'none'}; "
                "the weights belong to another model"
            )
        for name, p in named.items():
            if np.shape(state[name]) != p.shape or state[name].dtype != p.dtype:
                raise ValueError(
                    f"load_state_dict: {name} is {p.dtype} of shape {p.shape}, the weights are "
                    f"{state[name].dtype} of shape {np.shape(state[name])}; build the model with the same sizes"
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
    return [_constant(item) for item in value] if isinstance(value, (list, tuple)) else value


def _walk(name, value):
    if isinstance(value, Parameter):
        yield name, value
    elif isinstance(value, Module):
        yield from value.named_parameters(name + ".")
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
    """Normal of standard deviation ``std``; thesis section 2.11 uses N(0, 0.01), a variance: ``normal(0.1)``."""
    return lambda rng, shape: rng.standard_normal(shape) * std


def logit_of_mean(x: np.ndarray, margin: float = 1e-3) -> np.ndarray:
    """Output bias from data: the log-odds of each pixel's mean, so that the first predictions are the mean image.

    Args:
        x: data in [0, 1], shape (N, D).
        margin: means are kept within [margin, 1 - margin].

    Returns:
        Shape (D,), in nats.
    """
    mean = np.clip(np.mean(x, axis=0, dtype=np.float64), margin, 1.0 - margin)
    return np.log(mean / (1.0 - mean))


class Linear(Module):
    """x W + b.

    Args:
        inputs: I, the length of x's last axis.
        outputs: O.
        rng: generator of the initial weights.
        init: ``init(rng, shape) -> array``: :func:`glorot`, :func:`he` or ``normal(std)``.
        bias: initial b, a number or shape (O,).
        dtype: "float32" or "float64"; both start from the same draws.
    """

    def __init__(
        self, inputs: int, outputs: int, rng: Any, *, init: Callable = glorot, bias: Any = 0.0, dtype: Any = "float32"
    ):
        self.weight = Parameter(init(rng, (inputs, outputs)), dtype=dtype)
        self.bias = Parameter(np.broadcast_to(np.asarray(bias, np.float64), (outputs,)), dtype=dtype)

    def __call__(self, x: Any) -> Tensor:
        """Shape (..., I) -> (..., O)."""
        return ops.affine(x, self.weight, self.bias)


class MLP(Module):
    """Linear layers with an activation between them (none after the last).

    Args:
        sizes: (inputs, hidden ..., outputs).
        activation: "tanh", "softplus", "relu", "elu" or "sigmoid".
        rng, init, dtype: as for :class:`Linear`.
        out_bias: initial bias of the last layer, a number or shape (outputs,).

    Raises:
        ValueError: an unknown activation, or fewer than two sizes.
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
        if activation not in ACTIVATIONS:
            raise ValueError(f"MLP: unknown activation {activation!r}; one of {', '.join(ACTIVATIONS)}")
        if len(sizes) < 2:
            raise ValueError(f"MLP: sizes {tuple(sizes)} need at least an input and an output size")
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
