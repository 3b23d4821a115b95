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


class SampledModel(Protocol):
    """p(x, h) and q(h | x) for estimators that need no gradient through the samples, so h may be discrete.

    ``h`` is a sequence with one array for each layer of latents, from the bottom, (K, B, J).

    Attributes:
        pixels: D, numbers in a datum.
        sizes: J of each layer of latents, from the bottom.
        dtype: of parameters and data.
    """

    pixels: int
    sizes: tuple[int, ...]
    dtype: np.dtype

    def draw(self, x: Any, rng: Rng, samples: int = 1) -> list[np.ndarray]:
        """K samples of h a datum, as constants."""

    def draw_and_score(self, x: Any, rng: Rng, samples: int = 1) -> tuple[list[np.ndarray], list[Any]]:
        """The same samples as :meth:`draw`, and :meth:`log_q_parts` of them."""

    def log_p_parts(self, x: Any, h: Any) -> list[Any]:
        """log p(x | h_1), log p(h_1 | h_2), ..., log p(h_L), each (K, B), in nats."""

    def log_q_parts(self, x: Any, h: Any) -> list[Any]:
        """log q(h_1 | x), log q(h_2 | h_1), ..., each (K, B), in nats."""

    def dream(self, count: int, rng: Rng) -> tuple[np.ndarray, list[np.ndarray]]:
        """Draws of x, (count, D), and of h, (count, J) for each layer, from p."""


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
