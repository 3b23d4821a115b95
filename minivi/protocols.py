"""What functions ask of generators, models and optimizers: whatever offers these methods will do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np


class Rng(Protocol):
    """A generator of random numbers: :class:`minivi.Generator`, or NumPy's ``numpy.random.Generator``."""

    def random(self, size: Any = None, dtype: Any = np.float64) -> Any:
        """Uniform numbers in [0, 1)."""

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> Any:
        """Standard normal numbers."""

    def permutation(self, x: Any) -> np.ndarray:
        """A random order."""


class LatentVariableModel(Protocol):
    """p(x, z) with an inference network q(z | x), such as :class:`minivi.models.VAE`.

    Attributes:
        pixels: D, numbers in a datum.
        latents: J, numbers in z.
        dtype: of parameters, data and noise.
    """

    pixels: int
    latents: int
    dtype: np.dtype

    def encode(self, x: Any) -> Any:
        """q(z | x), a distribution."""

    def decode(self, z: Any) -> Any:
        """p(x | z), a distribution."""

    def log_weights(self, x: Any, rng: Rng | None = None, samples: int = 1) -> Any:
        """log p(x, z) - log q(z | x) of K draws, (K, B), in nats."""


class Trainable(Protocol):
    """What :func:`minivi.training.fit` trains and stores, such as any :class:`minivi.nn.Module`."""

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        """The parameters with their names."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """All numbers, by name."""

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Take over such numbers."""


class Stepper(Protocol):
    """An optimizer, such as :class:`minivi.optim.Adam`.

    Attributes:
        parameters: what it changes.
        steps: how often it has done so.
    """

    parameters: list
    steps: int

    def step(self, gradients: Iterable[np.ndarray]) -> None:
        """Change every parameter once, given the gradients of the loss."""

    def state_dict(self) -> dict[str, Any]:
        """Its arrays and numbers, by name."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over such a state."""
