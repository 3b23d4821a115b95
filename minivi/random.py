"""Random numbers with no global state: :class:`Generator`, after ``numpy.random.Generator``, on counter-based Philox.

    seed ---SeedSequence---> key of four words ---+---> draws: block ``counter`` of the key's stream and the blocks
    number of blocks used so far ---> counter ----+     after it, as minivi/kernels/random.py lays them out

A generator is its key and its counter: :attr:`Generator.state` holds no more. As a block follows from its position
alone, the bits are the same for any number of threads, and with and without Numba (except normals, which then differ
by a few units in the last place).

Every call starts at a new block of four 32-bit words. Hence ``random(n)`` and then ``random(m)`` give the numbers of
``random(n + m)`` when the first call fills its blocks: n a multiple of 4 in float32 and of 2 in float64. The same holds
of ``standard_normal``, and of ``bernoulli`` with a multiple of 4.
"""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from minivi import kernels, validate

__all__ = ["Generator", "default_rng"]

Size = int | Sequence[int] | None


def _natural(value, end=math.inf):
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= value < end


def _shape(method, size):
    shape = tuple(size) if isinstance(size, list | tuple | np.ndarray) else (size,)
    if not all(map(_natural, shape)):
        raise ValueError(f"{method}: size must be an integer >= 0, a tuple of such or None; got {size!r}")
    return tuple(map(int, shape))


def _broadcast(method, shape, size):
    """The shape of the result for parameters that broadcast to ``shape``."""
    result = shape if size is None else _shape(method, size)
    if len(shape) > len(result) or any(a not in (1, b) for a, b in zip(shape[::-1], result[::-1], strict=False)):
        raise ValueError(f"{method}: parameters of shape {shape} do not broadcast to size {result}")
    return result


def _pool(method, a):
    """The array ``a``, or ``arange(a)``."""
    a = np.arange(*_shape(method, a)) if isinstance(a, Integral) else np.asarray(a)
    if a.ndim == 0:
        raise TypeError(f"{method}: needs an array or an integer; got {a}")
    return a


def _numbers(method, value):
    """Parameters of a distribution as an array."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{method}: parameters must be numbers or arrays of them; got {validate.brief(value)}")
    return array


def _dtype(method, dtype):
    """NumPy's own object for a dtype."""
    try:
        return np.dtype(dtype)
    except (TypeError, DeprecationWarning):
        raise TypeError(f"{method}: {validate.brief(dtype)} is no dtype; pass one such as 'float32'") from None


def _exponential(u):
    return -np.log1p(-u)


def _gumbel(u):
    return -np.log(_exponential(u))


def _logistic(u):
    return np.log(u) - np.log1p(-u)


class Generator:
    """A stream of random numbers; methods are named, and take arguments, as those of ``numpy.random.Generator``.

    ``size`` is an integer, a tuple, or None: then the result has the shape that the parameters broadcast to, and is a
    Python number if they are scalars. ``dtype`` is float64 or float32. Parameters out of range, and a ``size`` that
    they do not broadcast to, raise ``ValueError``; another ``dtype`` raises ``TypeError``.

    Args:
        seed: an integer >= 0 of any size or a sequence of such, hashed by ``numpy.random.SeedSequence``; None asks the
            system for a fresh one.

    Raises:
        ValueError: the seed is negative, a bool, a float or anything else.

    Example:
        >>> rng = Generator(0)
        >>> a = rng.standard_normal(3)
        >>> state = rng.state
        >>> b = rng.random((2, 2), dtype=np.float32)
        >>> rng.state = state  # go back
        >>> bool((rng.random((2, 2), dtype=np.float32) == b).all())
        True
    """

    def __init__(self, seed: int | Sequence[int] | None = None):
        sequence = isinstance(seed, list | tuple | np.ndarray) and all(map(_natural, seed))
        if not (sequence or seed is None or _natural(seed)):
            raise ValueError(f"Generator: the seed must be an integer >= 0, a sequence of such or None; got {seed!r}")
        # SeedSequence ignores trailing zeros: with the length as a spawn key, (5, 0) is neither (5,) nor 5.
        hashed = (
            np.random.SeedSequence(list(seed), spawn_key=(len(seed),)) if sequence else np.random.SeedSequence(seed)
        )
        self._key = tuple(hashed.generate_state(4).tolist())
        self._counter = 0

    @property
    def state(self) -> dict[str, Any]:
        """Key and counter, as JSON can hold them; assigning them takes the stream up at that place."""
        return {"bit_generator": "Philox4x32-10", "key": list(self._key), "counter": self._counter}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        match state:
            case {"bit_generator": "Philox4x32-10", "key": [_, _, _, _] as key, "counter": counter} if (
                len(state) == 3 and all(_natural(word, 2**32) for word in key) and _natural(counter, 2**64)
            ):
                self._key, self._counter = tuple(map(int, key)), int(counter)
            case _:
                raise ValueError(
                    "Generator.state: needs bit_generator 'Philox4x32-10', a key of four integers below 2**32 and a "
                    f"counter below 2**64, as another generator's `state` has them; got {state!r}"
                )

    def spawn(self, n: int) -> list["Generator"]:
        """``n`` generators with streams of their own.

        A child's key is the next block of this stream, which moves on by ``n`` blocks. So the children of one parent
        always differ, and two streams of any origin are the same one with probability 2^-128.
        """
        validate.count(n, "spawn: n", 0)
        children = [Generator(0) for _ in range(n)]
        for child, key in zip(children, self._draw(kernels.philox_words, 4 * n, 4 * n).reshape(n, 4), strict=True):
            child._key = tuple(key.tolist())
        return children

    def _draw(self, kernel, words, *args):
        """What ``kernel`` makes of the next ``words`` words."""
        counter, self._counter = self._counter, (self._counter - -words // 4) % 2**64
        return kernel(*args, self._key, counter)

    def _words64(self, n):
        return self._draw(kernels.philox_words, 2 * n, 2 * n).view(np.uint64)

    def _standard(self, method, size, dtype, kernel, law=None):
        """Draws of ``kernel``; or, if there is a ``law``, what it makes of uniform numbers between 0 and 1."""
        dtype = _dtype(method, dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"{method}: dtype must be float64 or float32, not {dtype}")
        shape = () if size is None else _shape(method, size)
        n, drawn = math.prod(shape), np.dtype(np.float64) if law else dtype
        x = self._draw(kernel, n * drawn.itemsize // 4, n, drawn)
        if law:  # in float64, whose 53 bits reach far into both tails, and kept off 0, where log is infinite
            x = law(np.maximum(x, 2.0**-54)).astype(dtype)
        return x.item() if size is None else x.reshape(shape)

    def _scaled(self, method, loc, scale, size, dtype, kernel, law=None):
        """loc + scale * standard."""
        dtype = _dtype(method, dtype)
        loc, scale = (np.asarray(_numbers(method, value), dtype) for value in (loc, scale))
        if not np.isfinite(loc).all():
            raise ValueError(f"{method}: the location must be finite (uniform: low)")
        if not np.all((scale >= 0) & (scale < np.inf)):
            raise ValueError(f"{method}: the scale must be finite and at least 0 (uniform: high at least low)")
        shape = _broadcast(method, np.broadcast_shapes(loc.shape, scale.shape), size)
        x = self._standard(method, shape, dtype, kernel, law)
        x *= scale
        x += loc
        return x.item() if size is None and shape == () else x

    def random(self, size: Size = None, dtype=np.float64):
        """Uniform on [0, 1): multiples of 2^-53 (float64) or 2^-24 (float32)."""
        return self._standard("random", size, dtype, kernels.uniform)

    def uniform(self, low=0.0, high=1.0, size: Size = None, dtype=np.float64):
        """Uniform on [low, high); rounding can give ``high`` itself."""
        low, high = _numbers("uniform", low), _numbers("uniform", high)
        return self._scaled("uniform", low, np.subtract(high, low), size, dtype, kernels.uniform)

    def standard_normal(self, size: Size = None, dtype=np.float64):
        """Normal with mean 0 and standard deviation 1; magnitudes reach 8.57 (float64) or 6.66 (float32)."""
        return self._standard("standard_normal", size, dtype, kernels.normal)

    def normal(self, loc=0.0, scale=1.0, size: Size = None, dtype=np.float64):
        """Normal with mean ``loc`` and standard deviation ``scale``."""
        return self._scaled("normal", loc, scale, size, dtype, kernels.normal)

    def standard_exponential(self, size: Size = None, dtype=np.float64):
        """Exponential with mean 1: -log(1 - u)."""
        return self._standard("standard_exponential", size, dtype, kernels.uniform, _exponential)

    def exponential(self, scale=1.0, size: Size = None, dtype=np.float64):
        """Exponential with mean ``scale``."""
        return self._scaled("exponential", 0.0, scale, size, dtype, kernels.uniform, _exponential)

    def gumbel(self, loc=0.0, scale=1.0, size: Size = None, dtype=np.float64):
        """Gumbel, loc - scale * log(exponential): the largest of log-probabilities plus these is a categorical draw."""
        return self._scaled("gumbel", loc, scale, size, dtype, kernels.uniform, _gumbel)

    def logistic(self, loc=0.0, scale=1.0, size: Size = None, dtype=np.float64):
        """Logistic, loc + scale * log(u / (1 - u))."""
        return self._scaled("logistic", loc, scale, size, dtype, kernels.uniform, _logistic)

    def bernoulli(self, p, dtype=None, *, size: Size = None):
        """1 with probability ``p`` and 0 otherwise (to 2^-32; exact where ``p`` is 0 or 1). NumPy has no such method.

        Args:
            p: probabilities; float32 or float64, of any shape.
            dtype: of the result, any NumPy dtype; by default that of ``p``.
            size: what ``p`` is broadcast to; by default its own shape.

        Raises:
            ValueError: a probability outside [0, 1] or NaN.
        """
        x = _numbers("bernoulli", p)
        x = x if x.dtype == np.float32 else x.astype(np.float64, copy=False)
        if x.size and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(f"bernoulli: probabilities must lie in [0, 1]; got {x.min()} to {x.max()}")
        shape = _broadcast("bernoulli", x.shape, size)
        x = self._draw(kernels.bernoulli, math.prod(shape), np.ascontiguousarray(np.broadcast_to(x, shape)))
        x = x.reshape(shape) if dtype is None else x.reshape(shape).astype(dtype, copy=False)
        return x.item() if size is None and shape == () else x

    def integers(self, low, high=None, size: Size = None, dtype=np.int64, endpoint: bool = False):
        """Integers from ``low`` (0 if it is the only bound) to ``high``, itself included only with ``endpoint``.

        No bias: 64-bit words, cut to as many bits as the range has, are redrawn until they fall in it. So the number of
        blocks used up depends on the words; :attr:`state` accounts for it.

        Args:
            low, high: integers or arrays of them.
            size: as everywhere.
            dtype: any integer dtype, or bool.
            endpoint: whether ``high`` is included.

        Raises:
            ValueError: an empty range, or one that ``dtype`` cannot hold.
            TypeError: bounds that are not integers.
        """
        dtype = _dtype("integers", dtype)
        if dtype.kind not in "iub":
            raise TypeError(f"integers: dtype must be an integer one or bool, not {dtype}")
        low, high = (0, low) if high is None else (low, high)
        first, last = np.asarray(low, object), np.asarray(high, object)
        if not all(isinstance(bound, Integral) for bound in (*first.flat, *last.flat)):
            raise TypeError(f"integers: low and high must be integers; got {low!r} and {high!r}")
        first, last = np.broadcast_arrays(first, last if endpoint else last - 1)
        span, limits = last - first, (0, 1) if dtype == np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if not (np.all(span >= 0) and np.all(first >= limits[0]) and np.all(last <= limits[1])):
            raise ValueError(f"integers: from low = {low} to high = {high} is empty, or beyond what {dtype} can hold")
        shape = _broadcast("integers", first.shape, size)
        span = np.asarray(span, np.uint64)
        mask = span
        for shift in (1, 2, 4, 8, 16, 32):
            mask = mask | (mask >> shift)
        span, mask = (np.broadcast_to(a, shape).reshape(-1) for a in (span, mask))
        x = self._words64(span.size) & mask
        while np.any(outside := x > span):
            x[outside] = self._words64(int(np.count_nonzero(outside))) & mask[outside]
        # unsigned numbers wrap round, as a negative lower bound needs
        first = np.broadcast_to(np.asarray(first % 2**64, np.uint64), shape)
        x = (x + first.reshape(-1)).astype(dtype).reshape(shape)
        return x[()] if size is None else x

    def permutation(self, x):
        """A shuffled copy of the array ``x`` along its first axis, or of ``arange(x)``.

        It sorts 64-bit words; two of n are equal, which favours their old order, with probability below n^2 / 2^65.
        """
        x = _pool("permutation", x)
        return x[np.argsort(self._words64(len(x)), kind="stable")]

    def shuffle(self, x) -> None:
        """Permute the array or list ``x`` in place, along its first axis."""
        if not isinstance(x, list | np.ndarray) or np.ndim(x) == 0:
            raise TypeError(f"shuffle: needs an array or a list, to change it in place; got {validate.brief(x)}")
        order = self.permutation(len(x))
        x[:] = x[order] if isinstance(x, np.ndarray) else [x[i] for i in order]

    def choice(self, a, size: Size = None, replace: bool = True, p=None):
        """Elements of the array ``a`` along its first axis, or of ``arange(a)``.

        Args:
            a: array or integer.
            size: how many; None for one alone.
            replace: whether an element can come up again.
            p: (n,) probabilities of the elements; uniform by default. Without replacement it is that of the first
                draw, and of the later ones after renormalisation: those with the smallest exponential / p.

        Raises:
            ValueError: nothing, or not enough, to choose from; ``p`` negative, not of sum 1 (to 1e-6), or of another
                length.
        """
        pool = _pool("choice", a)
        shape = () if size is None else _shape("choice", size)
        k, possible = math.prod(shape), np.arange(len(pool))
        if p is not None:
            p = _numbers("choice", p).astype(np.float64, copy=False)
            if p.shape != possible.shape or not (np.all(p >= 0) and abs(p.sum() - 1) < 1e-6):
                raise ValueError(
                    f"choice: p must be {len(pool)} probabilities, at least 0 and of sum 1; got shape {p.shape}"
                )
            possible = np.flatnonzero(p)
        if k > len(possible) and not (replace and len(possible)):
            raise ValueError(f"choice: {k} of {len(possible)} elements asked for; take fewer, or replace=True")
        if p is None:
            index = self.integers(max(len(pool), 1), size=k) if replace else self.permutation(len(pool))[:k]
        elif replace:
            total = np.cumsum(p)
            index = np.searchsorted(total / total[-1], self.random(k), side="right")
        else:
            index = possible[np.argsort(self.standard_exponential(len(possible)) / p[possible], kind="stable")[:k]]
        return pool[index[0] if size is None else index.reshape(shape)]


def default_rng(seed: "Generator | int | Sequence[int] | None" = None) -> Generator:
    """``seed`` itself if it is a :class:`Generator`, else a new one seeded with it."""
    return seed if isinstance(seed, Generator) else Generator(seed)
