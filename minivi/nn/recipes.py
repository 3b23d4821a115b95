"""How an object was made, as JSON can hold it: its class, and the arguments of the call.

    recipe(VAE, (64,), {"latents": 2, "rng": rng})
        ->  {"class": "VAE", "arguments": [64], "options": {"latents": 2, "rng": {"generator": {...}}}}

Every :class:`minivi.nn.Module` notes this as it is made; :mod:`minivi.weights` makes the object again. A generator
counts with the state that it had: what is drawn besides weights, such as the orderings of a MADE, is drawn again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minivi.random import Generator

VALUES = ("init", "output_bias", "out_bias", "bias")  # arguments that decide initial weights alone
LARGE = 10_000  # elements of an array from which on it is no setting


def recipe(kind: Any, args: tuple, options: dict[str, Any]) -> dict[str, Any]:
    """The call ``kind(*args, **options)`` without initial values, which weights replace."""
    return {
        "class": _name(kind),
        "arguments": [told(item) for item in args],
        "options": {name: told(item) for name, item in options.items() if name not in VALUES},
    }


def told(value: Any) -> Any:
    """An argument: itself, a list, or a dict with one key that says what it is; "unknown" if JSON cannot hold it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [told(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[told(key), told(item)] for key, item in value.items()]}
    if isinstance(value, Generator):
        return {"generator": value.state}
    if hasattr(value, "recipe"):
        return value.recipe
    if isinstance(value, np.ndarray) and value.size < LARGE and value.dtype.kind in "biuf":
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if type(value).__module__ == "minivi.distributions" and isinstance(getattr(value, "mu", None), np.ndarray):
        return recipe(type(value), (value.mu, value.log_sigma), {})  # a fixed one, such as a flow's base
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return str(np.dtype(value))
    if str(getattr(value, "__module__", "")).startswith("minivi.") and hasattr(value, "__name__"):
        return {"name": _name(value)}
    return {"unknown": getattr(value, "__qualname__", type(value).__qualname__)}


def _name(thing):
    """The library's own by their names alone, as these are unique."""
    module = thing.__module__
    return thing.__name__ if module.startswith("minivi.") else f"{module}.{thing.__qualname__}"
