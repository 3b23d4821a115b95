"""What checks share: models small enough to integrate, grids, Jacobians and directional derivatives, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minivi import nn
from minivi.models import VAE
from minivi.random import Generator
from minivi.tensor import Tensor, grad

PATTERNS = np.array([[int(c) for c in f"{i:04b}"] for i in range(16)], float)  # all images of four binary pixels


def small_vae(
    seed: int | Sequence[int], latents: int = 1, hidden: int = 3, likelihood: str = "bernoulli", scale: float = 0.5
) -> VAE:
    """A VAE of four pixels with weights from N(0, ``scale``^2)."""
    return VAE(
        4, (hidden,), latents, likelihood, rng=Generator(seed), init=nn.normal(scale), dtype="float64"
    )  # fmt: skip


def estimator_gap(vae: VAE, x: np.ndarray, draws: int = 20_000, seed: int = 0) -> tuple[float, float]:
    """Estimator B of the bound (eq. 2.77) less estimator A (eq. 2.29) on the same noise: mean and standard error."""
    rows = np.tile(x, (draws // len(x), 1))
    eps = Generator(seed).standard_normal((1, len(rows), vae.latents))
    b, a = (np.asarray(vae.elbo(rows, eps=eps, estimator=estimator)) for estimator in ("B", "A"))
    return float(np.mean(b - a)), float(np.std(b - a) / np.sqrt(len(rows)))


def grid(limit: float, points: int) -> tuple[np.ndarray, float]:
    """Points from -``limit`` to ``limit`` and their distance: a sum over them, times it, is an integral."""
    line = np.linspace(-limit, limit, points)
    return line, line[1] - line[0]


def largest(a: Any, b: Any = 0.0) -> float:
    """The largest absolute difference."""
    return np.abs(np.asarray(a) - np.asarray(b)).max()


def jacobian(f: Callable, x: np.ndarray) -> np.ndarray:
    """df_i / dx_j by the engine: (D, D) at a point (D,), (B, D, D) of a function of rows (B, D)."""
    x = Tensor(x)
    y = f(x)
    return np.stack([grad(y[..., i].sum(), x) for i in range(y.shape[-1])], axis=-2)


def differences(f: Callable, x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """df_i / dx_j of a function of rows, (B, D, D), by central differences."""
    columns = [(np.asarray(f(x + step * e)) - np.asarray(f(x - step * e))) / (2 * step) for e in np.eye(x.shape[1])]
    return np.stack(columns, axis=-1)


def random_direction(model: nn.Module, only: str = "", seed: int = 1) -> dict[str, np.ndarray]:
    """A random direction in the parameters whose names start with ``only``; zero in the others."""
    rng = np.random.default_rng(seed)
    return {k: rng.standard_normal(v.shape) * k.startswith(only) for k, v in model.state_dict().items()}


def slope(model: nn.Module, f: Callable[[], float], direction: dict[str, np.ndarray], h: float = 1e-5) -> float:
    """The derivative of ``f()`` in the parameters along ``direction``, by a central difference."""
    start, values = model.state_dict(), []
    for sign in (1.0, -1.0):
        model.load_state_dict({k: v + sign * h * direction[k] for k, v in start.items()})
        values.append(f())
    model.load_state_dict(start)
    return (values[0] - values[1]) / (2.0 * h)


def along(model: nn.Module, scalar: Tensor, direction: dict[str, np.ndarray]) -> float:
    """The derivative of ``scalar`` in the parameters along ``direction``, by the engine."""
    named = dict(model.named_parameters())
    gradients = grad(scalar, list(named.values()))
    return float(sum(np.sum(g * direction[k]) for k, g in zip(named, gradients, strict=True)))


def shake(module: nn.Module, draw: Callable[[tuple[int, ...]], np.ndarray], scale: float) -> Any:
    """The module itself, its parameters moved by ``scale * draw(shape)``; what masks hold at zero stays there."""
    for p in module.parameters():
        p.assign(p.data + scale * np.asarray(draw(p.shape)))
    for network in _masked(module):
        network.apply_masks()
    return module


def _masked(value: Any) -> Iterator[Any]:
    if hasattr(value, "apply_masks"):
        yield value
    elif isinstance(value, nn.Module):
        yield from _masked(vars(value))
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _masked(item)
