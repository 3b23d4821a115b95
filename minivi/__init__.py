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
    "nn",
    "no_grad",
    "ops",
    "optim",
    "primitive",
    "stop_gradient",
    "value_and_grad",
]
