"""What training does with data: binary pixels drawn from grey ones, and minibatches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minivi import validate
from minivi.data.formats import DataError
from minivi.protocols import Rng


def binarize(x: np.ndarray, how: str, rng=None) -> np.ndarray:
    """Make binary images of grey ones.

    ``"dynamic"`` draws each pixel afresh, 1 with probability ``x``: call it on every minibatch (Burda, Grosse &
    Salakhutdinov 2015). One such draw of a whole set, kept, is a static binarization of your own; published numbers
    for static binarization use the draw of the set ``mnist_static``, and differ from dynamic ones by about 2 nats.
    ``"threshold"`` gives 1 where ``x > 0.5``: for 8-bit grey, values 128 to 255.

    Args:
        x: intensities in [0, 1], any shape.
        how: ``"dynamic"`` or ``"threshold"``.
        rng: a minivi or NumPy ``Generator``; ``"dynamic"`` needs it.

    Returns:
        float32 of the shape of ``x``, 0 or 1.

    Raises:
        DataError: another ``how``, values outside [0, 1] or NaN, no generator.

    Example:
        >>> from minivi import Generator
        >>> binarize(np.array([[0.0, 1.0, 0.6]]), "threshold")
        array([[0., 1., 1.]], dtype=float32)
        >>> round(binarize(np.full((1000, 10), 0.3), "dynamic", Generator(0)).mean().item(), 1)
        0.3
    """
    x = np.asarray(x)
    if how not in ("dynamic", "threshold"):
        raise DataError(f"binarize: how={how!r} is neither 'dynamic' nor 'threshold' (static: load 'mnist_static')")
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise DataError("binarize: x has values outside [0, 1] or NaN; divide 8-bit grey by 255")
    if how == "threshold":
        return (x > 0.5).astype(np.float32)
    _check_rng("binarize", rng)
    if hasattr(rng, "bernoulli"):
        return rng.bernoulli(x, dtype=np.float32)
    return (rng.random(x.shape, dtype=np.float32) < x).astype(np.float32)


def fresh(x: np.ndarray, rng: Rng) -> np.ndarray:
    """Binary pixels drawn afresh from grey values: :func:`binarize` by "dynamic", as ``fit(prepare=...)`` takes it."""
    return binarize(x, "dynamic", rng)


def spread(x: np.ndarray, count: int) -> np.ndarray:
    """``count`` of the rows from all over a set, or all there are: MNIST's first ones are easier than its last."""
    return x[:: max(1, len(x) // count)][:count]


def balanced(labels: np.ndarray, count: int, rng: Rng) -> np.ndarray:
    """Which data to take as the labelled ones: as many of each class, drawn without replacement (thesis 3.4.1).

    A larger count by a generator of the same seed takes these data too.

    Args:
        labels: integers of shape (N,); the classes are the values that occur.
        count: how many data, a multiple of the number of classes.
        rng: a minivi or NumPy ``Generator``.

    Returns:
        Indices into ``labels``, (count,), in the order in which they were drawn: the classes are mixed.

    Raises:
        ValueError: labels of another form, a count that is no multiple, or a class with too few data.

    Example:
        >>> labels = np.array([0, 1, 1, 0, 1, 1])
        >>> sorted(labels[balanced(labels, 4, np.random.default_rng(0))].tolist())
        [0, 0, 1, 1]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise ValueError(f"balanced: labels must be integers of shape (N,); got {validate.brief(labels)}")
    validate.count(count, "balanced: count")
    _check_rng("balanced", rng)
    classes, sizes = np.unique(labels, return_counts=True)
    each, rest = divmod(count, len(classes))
    if rest:
        raise ValueError(
            f"balanced: count {count} is no multiple of {len(classes)} classes; take {count - rest + len(classes)}"
        )
    if each > sizes.min():
        scarce = classes[sizes.argmin()]
        raise ValueError(
            f"balanced: class {scarce} has {sizes.min()} data, fewer than {each}; take a count of at most "
            f"{sizes.min() * len(classes)}"
        )
    order = rng.permutation(len(labels))
    drawn = labels[order]
    return order[np.sort(np.concatenate([np.flatnonzero(drawn == value)[:each] for value in classes]))]


def batches(*arrays: np.ndarray, size: int, rng, drop_last: bool = False) -> Iterator:
    """One epoch of minibatches: every example exactly once.

    The order is drawn when this is called, not at the first batch, so that ``rng`` does not depend on how far a loop
    gets.

    Args:
        arrays: one or several aligned arrays, each of shape (N, ...); matrices of ``scipy.sparse`` too.
        size: examples a batch; the last batch has the rest.
        rng: a minivi or NumPy ``Generator`` for the order, or None for the order of the arrays.
        drop_last: leave out a last batch that is smaller.

    Returns:
        An iterator over arrays of shape (size, ...), or over tuples of them if several were given.

    Raises:
        DataError: arrays of different lengths or none at all, a size below 1, no batch to give, not a generator.

    Example:
        >>> from minivi import Generator
        >>> [len(x) for x in batches(np.zeros((10, 2)), size=4, rng=Generator(0))]
        [4, 4, 2]
    """
    lengths = [np.shape(array)[0] for array in arrays]
    n = min(lengths, default=0)
    if n == 0 or n != max(lengths):
        raise DataError(f"batches: lengths {lengths}; give one or more arrays of the same nonzero length")
    if not 1 <= size <= (n if drop_last else size):
        raise DataError(f"batches: size {size} with {n} examples and drop_last={drop_last} gives no batch")
    if rng is not None:
        _check_rng("batches", rng)
    order = np.arange(n) if rng is None else rng.permutation(n)
    parts = (order[i : i + size] for i in range(0, n - size + 1 if drop_last else n, size))
    return (arrays[0][part] if len(arrays) == 1 else tuple([array[part] for array in arrays]) for part in parts)


def _check_rng(function: str, rng) -> None:
    if not (isinstance(rng, np.random.Generator) or hasattr(rng, "bernoulli")):
        raise DataError(
            f"{function}: rng is {rng!r}; give a minivi or NumPy Generator, such as numpy.random.default_rng(0)"
        )
