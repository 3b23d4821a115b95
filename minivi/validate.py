"""Checks of arguments where they enter, with one form of message: what must be passed, and what was.

Each function raises ValueError. ``name`` says whose argument it is, as in "VAE: latents".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from minivi import kernels
from minivi.kernels.shapes import now


def brief(value: Any) -> str:
    """``value`` in a few words, for a message of one line."""
    if getattr(value, "shape", ()):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"


def count(value: Any, name: str, least: int = 1) -> None:
    """An integer of at least ``least``; a bool or a float is none."""
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, Integral)):
        raise ValueError(f"{name} must be an integer; got {brief(value)}")
    if value < least:
        raise ValueError(f"{name} must be an integer, at least {least}; got {value}")


def number(value: Any, name: str, low: float = -math.inf, high: float = math.inf, ends: str = "[]") -> None:
    """A finite real number from ``low`` to ``high``; a round bracket in ``ends`` leaves that end out."""
    scalar = isinstance(value, Real) or (
        isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "fiu"
    )
    if not scalar or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number; got {brief(value)}")
    if not low <= value <= high or (value == low and ends[0] == "(") or (value == high and ends[1] == ")"):
        if high < math.inf:
            raise ValueError(f"{name} must lie in {ends[0]}{low:g}, {high:g}{ends[1]}; got {value!r}")
        least = "positive" if low == 0 and ends[0] == "(" else f"{'above' if ends[0] == '(' else 'at least'} {low:g}"
        raise ValueError(f"{name} must be {least}; got {value!r}")


def sizes(value: Any, name: str, least: int = 0) -> None:
    """A sequence of integers, each at least 1, and at least ``least`` of them."""
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str) or np.shape(value)[1:]:
        raise ValueError(f"{name} must be a sequence of integers, such as (100,) or (200, 100); got {brief(value)}")
    for size in value:
        count(size, f"{name}, each of them,")
    if len(value) < least:
        raise ValueError(f"{name} must have {least} or more entries; got {brief(value)}")


def one_of(value: Any, name: str, options: Iterable[str]) -> None:
    """One of the words in ``options``."""
    if not isinstance(value, str) or value not in options:
        owner, _, what = name.partition(": ")
        raise ValueError(f"{owner}: unknown {what} {brief(value)}; one of {', '.join(options)}")


def function(value: Any, name: str, what: str) -> None:
    """Something to call; ``what`` says how."""
    if not callable(value):
        raise ValueError(f"{name} must be a function, {what}; got {brief(value)}")


def generator(value: Any, name: str) -> None:
    """A generator of random numbers, minivi's or NumPy's."""
    if not hasattr(value, "standard_normal") or hasattr(value, "randn"):  # NumPy's old ones draw no float32
        raise ValueError(f"{name} must be a generator, such as minivi.Generator(0); got {brief(value)}")


def offers(value: Any, name: str, *attributes: str) -> None:
    """An object with these attributes."""
    missing = [a for a in attributes if not hasattr(value, a)]
    if missing:
        raise ValueError(f"{name} must be an object with {', '.join(missing)}; got {brief(value)}")


def rows(x: Any, name: str, columns: int | None = None, what: str = "data") -> None:
    """Data as an array or Tensor (N, D) of at least one row."""
    shape = getattr(x, "shape", None)
    if shape is None:
        raise ValueError(f"{name} must be an array, such as np.asarray({what}, 'float32'); got a {type(x).__name__}")
    if len(shape) != 2 or (columns is not None and shape[1] != columns):
        mend = ", x[None] for a single one" if len(shape) == 1 else ""
        d = "D" if columns is None else columns
        raise ValueError(f"{name} has shape {tuple(shape)}; pass {what} as rows (N, {d}){mend}")
    if shape[0] == 0:
        raise ValueError(f"{name} has shape {tuple(shape)}: no {what}; pass at least one row")


# The bits of floats from +0 to 1 are the unsigned integers up to those of 1: one look where two would be needed.
_UP_TO_ONE = {np.dtype(f): (np.dtype(u), np.ones((), f).view(u)) for f, u in (("f4", "u4"), ("f8", "u8"))}


def _holds(how, array):
    """``how(array)``, at which a traced step's program has to look again each time."""
    tracer, now.tracer = now.tracer, None
    try:
        answer = how(array)
    finally:
        now.tracer = tracer
    if tracer is not None:
        tracer.guard(how, array, answer)
    return answer


def _in_unit_interval(array):
    if array.dtype in _UP_TO_ONE:
        unsigned, one = _UP_TO_ONE[array.dtype]
        if array.view(unsigned).max() <= one:
            return True
    return bool(array.min() >= 0 and array.max() <= 1)


def unit_interval(x: Any, name: str, mend: str = "; divide 8-bit grey by 255") -> None:
    """Numbers in [0, 1] and no NaN: probabilities, binary or grey pixels; 12 us for a (100, 784) minibatch.

    ``mend`` ends the message.
    """
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers in [0, 1]; got an array of dtype {array.dtype}")
    if array.size and not _holds(_in_unit_interval, array):
        low, high = array.min(), array.max()  # NaN if there is one
        if not low <= high:
            raise ValueError(f"{name} {where_not_finite(array)}; clean the data")
        raise ValueError(f"{name} has values from {low} to {high}, they must lie in [0, 1]{mend}")


def _are_bits(array):
    return np.array_equal(array, array.astype(bool))


def bits(x: Any, name: str) -> None:
    """Zeros and ones alone."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub" or not _holds(_are_bits, array):
        unit_interval(x, name)
        raise ValueError(f"{name} has values that are no bits; draw binary pixels by minivi.data.binarize")


def finite(x: Any, name: str) -> None:
    """Data without NaN and infinity. Costs 5 us for a (100, 784) minibatch."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers; got an array of dtype {array.dtype}")
    if array.dtype in _UP_TO_ONE and not _holds(kernels.all_finite, array):
        raise ValueError(f"{name} {where_not_finite(array)}; clean the data")


def where_not_finite(array: np.ndarray) -> str:
    """What to say of an array with NaN or infinity: "has nan at (3, 5), 2 of 784 numbers not finite"."""
    bad = ~np.isfinite(array)
    place = tuple(map(int, np.argwhere(bad)[0]))
    return f"of shape {array.shape} has {array[place]} at {place}, {bad.sum()} of {array.size} numbers not finite"
