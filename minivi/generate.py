"""What a trained model makes, as arrays and a picture: samples, reconstructions, interpolations and codes.

made = sample(minivi.load("ch02_aevb.manifold"), 64, Generator(0))
made.arrays["images"]
store(made, "samples.png")
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minivi import plots
from minivi.data.own import square_or_line
from minivi.files import TrainingError, write_atomically
from minivi.protocols import Rng
from minivi.tensor import no_grad

STEPS = 9  # pictures from one end to the other
COLUMNS = 16
NEEDS = {"sample": ["sample"], "reconstruct": ["encode", "decode"], "interpolate": ["encode", "decode"]}
NEEDS |= {"embed": ["encode"]}


@dataclass
class Made:
    """What a model made.

    Attributes:
        arrays: by name, the most important first.
        figure: ``figure(shape, photo)`` draws it; ``shape`` is that of an image, (H, W) or (H, W, 3), None for a square
            if it can be one; ``photo`` says that 1 is light and not ink.
    """

    arrays: dict[str, np.ndarray]
    figure: Callable


def sample(model: Any, count: int, rng: Rng) -> Made:
    """``count`` draws from p: "images", the means of p(x | z), and "draws" of x, (count, D) each.

    A model with classes (M2) draws images of one after the other, "classes" (count,).

    Raises:
        TrainingError: the model draws no images.
    """
    model = _with(model, "sample")
    if hasattr(model, "classify"):
        y = np.arange(count) % model.classes
        images = model.mean_image(rng.standard_normal((count, model.latents), dtype=model.dtype), y)
        return Made({"images": images, "classes": y}, _sheet(images, min(count, model.classes)))
    made = model.sample(count, rng)
    images, draws = made if isinstance(made, tuple) else (made, made)
    arrays = {"images": np.asarray(images), "draws": np.asarray(draws)}
    return Made(arrays, _sheet(arrays["images"], max(1, min(COLUMNS, round(count**0.5)))))


def reconstruct(model: Any, x: np.ndarray) -> Made:
    """ "images": the means of p(x | z) at the means of q(z | x), and the "data" (N, D); the picture has pairs of them.

    Raises:
        TrainingError: the model has no encoder and decoder of images, or takes data of another length.
    """
    model = _with(model, "reconstruct")
    if hasattr(model, "inference"):  # a graph: every latent variable at the mean of its q, given those before it
        images = _in_parts(model, x, lambda part: np.asarray(_at_means(model, part)["p(x)"].mean)[0])
    else:
        images = _images(model, codes(model, x))
    pairs = np.stack([x, images], axis=1).reshape(-1, x.shape[1])
    return Made({"images": images, "data": x}, _sheet(pairs, min(COLUMNS, 2 * len(x))))


def interpolate(model: Any, count: int, rng: Rng, x: np.ndarray | None = None) -> Made:
    """ "images" (count, 9, D) along ``count`` straight paths between codes, and the "codes" (count, 9, J).

    Args:
        model: with an encoder and a decoder.
        count: of paths.
        rng: chooses their ends.
        x: data (N, D), N >= 2, whose codes are ends; None for draws from the prior N(0, I).

    Raises:
        TrainingError: the model cannot; fewer than two data, or of another length.
    """
    model = _with(model, "interpolate")
    if x is not None and len(x) < 2:
        raise TrainingError("interpolate: fewer than two data; give more, paths go from one to another")
    if x is not None:
        ends = codes(model, x[[i for _ in range(count) for i in rng.permutation(len(x))[:2]]])
    elif hasattr(model, "mean_image"):
        ends = rng.standard_normal((2 * count, model.latents), dtype=model.dtype)
    else:
        raise TrainingError(f"a {type(model).__name__} has codes of another prior than N(0, I); give --data")
    t = np.linspace(0, 1, STEPS, dtype=ends.dtype)[:, None]
    z = (1 - t) * ends[0::2, None] + t * ends[1::2, None]
    images = _images(model, z)
    return Made({"images": images, "codes": z}, _sheet(images.reshape(-1, images.shape[-1]), STEPS))


def embed(model: Any, x: np.ndarray, labels: np.ndarray | None = None) -> Made:
    """ "codes" of data (N, D): the means of q(z | x), (N, J), with their "labels" (N,) if there are any.

    The picture has the two principal axes of the codes where J > 2.

    Raises:
        TrainingError: the model has no encoder, or takes data of another length.
    """
    z = codes(_with(model, "embed"), x)
    arrays = {"codes": z} | ({} if labels is None else {"labels": labels})

    def figure(shape=None, photo=False):
        plane, names = z[:, :2], ("z1", "z2")
        if z.shape[1] > 2:
            centred = z - z.mean(axis=0)
            plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
            names = "first principal axis of the codes", "second"
        if z.shape[1] == 1:
            plane, names = np.concatenate([z, 0 * z], axis=1), ("z1", "")
        fig = plots.figure(5.5, 5)
        axes = fig.subplots()
        for label in [None] if labels is None else np.unique(labels):
            rows = plane if label is None else plane[labels == label]
            axes.plot(*rows.T, "k." if label is None else f"C{label % 10}.", markersize=3, label=str(label))
        plots.panel(axes, f"codes of {len(z):,} data", *names)
        if labels is not None:
            plots.legend_below(fig, [axes], 10)
        return fig

    return Made(arrays, figure)


def codes(model: Any, x: np.ndarray) -> np.ndarray:
    """The means of q(z | x), or where a flow takes them: (N, D) -> (N, J).

    With several layers those of the lowest, of a graph those of its first latent variable; M2's given the likeliest
    class.

    Raises:
        TrainingError: the model has no encoder, or takes data of another length.
    """

    def of(part):
        if hasattr(model, "inference"):
            return np.asarray(_at_means(model, part)[model.latents[0]])[0]
        given = [np.argmax(model.predict_proba(part), axis=1)] if hasattr(model, "classify") else []
        q = model.encode(part, *given)
        return np.asarray(q.rsample(np.zeros(q.shape, model.dtype)) if hasattr(q, "rsample") else q.mean)

    return _in_parts(model, x, of)


def store(made: Made, out: str | os.PathLike, shape: tuple[int, ...] | None = None, photo: bool = False) -> None:
    """Write a picture (.png), all arrays (.npz), or the first of them (.npy), whole or not at all.

    Args:
        made: what a model made.
        out: the file.
        shape, photo: of the picture, see :class:`Made`.

    Raises:
        TrainingError: another ending, or the file cannot be written.
    """
    path, memory = Path(out), io.BytesIO()
    if path.suffix == ".png":
        plots.save(made.figure(shape, photo), path)
        return
    if path.suffix == ".npz":
        np.savez_compressed(memory, **made.arrays)
    elif path.suffix == ".npy":
        np.save(memory, next(iter(made.arrays.values())))
    else:
        raise TrainingError(f"{out}: unknown ending; give a file .png, .npz or .npy")
    write_atomically(path, memory.getvalue())


class _Means:
    """In place of a generator: noise that leaves every sample at its mean."""

    def standard_normal(self, size, dtype):
        return np.zeros(size, dtype)


def _at_means(model, x):
    """All values of a :class:`minivi.models.DirectedVAE`, by name, with each latent variable at its q's mean."""
    return model.terms(x, _Means()).values


def _in_parts(model, x, of):
    """``of`` parts of the data, one after the other."""
    if x.shape[1] != model.pixels:
        raise TrainingError(
            f"a {type(model).__name__} of {model.pixels} pixels, and data of {x.shape[1]}; give --data of its own kind"
        )
    with no_grad():
        return np.concatenate([of(np.asarray(x[i : i + 500], model.dtype)) for i in range(0, len(x), 500)])


def _can(model, verb):
    if verb in ("reconstruct", "interpolate") and hasattr(model, "classify"):  # M2's decoder wants a class as well
        return False
    graph = verb in ("reconstruct", "embed") and hasattr(model, "inference")
    return graph or all(hasattr(model, name) for name in NEEDS[verb])


def _with(model, verb):
    """The model, or the one that it is about, if that can do it."""
    for one in (model, getattr(model, "vae", None)):
        if _can(one, verb):
            return one
    can = ", ".join(name for name in NEEDS if _can(model, name)) or "only be loaded, by minivi.load"
    raise TrainingError(f"a {type(model).__name__} cannot {verb}; it can {can}")


def _images(model, z):
    """Means of p(x | z), (..., D)."""
    if hasattr(model, "mean_image"):
        return np.asarray(model.mean_image(z))
    with no_grad():
        p = model.decode(z)
        return np.asarray(p.mean if hasattr(p, "mean") else p.mu)


def _sheet(images, columns):
    """How to draw images (N, D) side by side."""

    def figure(shape=None, photo=False):
        sheet = plots.tile(images, _shape(images.shape[1], shape), columns, photo=photo)
        fig = plots.figure(7.0, max(1.0, 7.0 * sheet.shape[0] / sheet.shape[1]))
        plots.show(fig.subplots(), sheet)
        return fig

    return figure


def _shape(pixels, shape):
    """Of an image of D pixels: ``shape`` if it has as many, else a square if it can be one, else a line."""
    return shape if shape and int(np.prod(shape)) == pixels else square_or_line(pixels)
