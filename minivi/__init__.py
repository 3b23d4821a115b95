"""minivi: variational inference and deep learning from scratch, in NumPy and Numba.

import minivi as mv
x = mv.Tensor([1.0, 2.0])
mv.grad((x * x).sum(), x)          # array([2., 4.])
"""

from minivi import bounds, distributions, nn, ops, optim
from minivi.gradcheck import gradcheck
from minivi.random import Generator
from minivi.tensor import (
    Parameter,
    Tensor,
    detect_nonfinite,
    grad,
    no_grad,
    primitive,
    stop_gradient,
    value_and_grad,
)


def load(where, out="runs"):
    """The trained model of a file, a folder or an experiment's run: :func:`minivi.weights.load`."""
    from minivi import weights  # which imports all of the library

    return weights.load(where, out)


def save(path, model):
    """Write a model's weights and how it was made into a file: :func:`minivi.weights.save`."""
    from minivi import weights

    weights.save(path, model)


__version__ = "0.1.0"
__all__ = [
    "Generator",
    "Parameter",
    "Tensor",
    "bounds",
    "detect_nonfinite",
    "distributions",
    "grad",
    "gradcheck",
    "load",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "primitive",
    "save",
    "stop_gradient",
    "value_and_grad",
]
