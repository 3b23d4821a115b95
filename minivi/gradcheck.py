"""Gradient verification by finite differences, for primitives, users' functions, hand-written gradients and models.

A check contracts the result with a random cotangent u, moves the input along a direction v (a single coordinate, or a
random direction) and compares two numbers in float64, for g(h) = <u, f(x + h v)>:

    numeric  D(h) = (g(h) - g(-h)) / 2h              analytic = <vjp(u), v>

D(h) has an error of truncation, about h^2, and one of rounding, about (digits that f loses) / h. No single step serves
f = x at 1e12, 1 / x at 1e-12 and tanh(x - 1e9) alike, so each verdict comes with an estimate of the error:

**The first look** takes one step, 2^-17 of the size of x, where both errors of an ordinary function are small. If the
two numbers agree to ``tolerance``, and rounding is small beside them, that is all: two evaluations of f.

**The second** takes three steps, longer ones if rounding rules; **the third** a ladder, from 2^-47 of x to 2^15::

    D(h)      D(4h)      D(16h)      ...      R(h) = D(h) - (D(4h) - D(h)) / 15             free of h^2
      R(h)      R(4h)      ...                V(h) = R(h) - (R(4h) - R(h)) / 255            and of h^4 (Richardson)
        V(h)      ...

The error of V(h) is |R(4h) - R(h)|, a quarter of it where the D fall as those of a smooth function do; twice the
rounding of g over h; and half of what the one-sided slopes differ by, extrapolated likewise, for kinks that the steps
have passed. Rounding is measured: over the shortest steps every function is a straight line, and what the D differ by
there is noise, divided by h. From short to long, the V with the smallest error is taken, as long as each agrees with
the best so far (Lepski's rule): short steps are free of truncation, so a long one may only sharpen what they say, not
contradict it. That is how a kink, a period or the end of a domain nearby is noticed; at the edge of a domain one-sided
differences serve.

**The verdict** is wrong if the two numbers differ by more than the error allows, and right only if the error is below
``RESOLUTION`` of the derivative, so that a thousandth must have shown. Else this coordinate cannot be judged at its
scale. A derivative that is 0 has no such scale: its error must be small beside the slopes that f has nearby, or else
beside the largest of the gradient. Where the one-sided derivatives differ however small the step, the point is a kink:
the derivative must lie between them, and nothing is proved.

A second opinion needs no step size: the Taylor remainder |f(x + h v) - f(x) - h <vjp(u), v>| falls with slope 2 in h
when the gradient is right, with slope 1 when it is 1 % wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minivi.protocols import Rng
from minivi.tensor import Parameter, Primitive, Tensor, grad, no_grad

TOLERANCE = 1e-8
RESOLUTION = 4.9e-4  # of an error, relative to the derivative: twice that is less than the thousandth that must show
COARSE = 2.0**-20  # the largest step of a coarsely rounded g, relative to its terms: some of float32's
VANISHING = 1e-4  # of an error, relative to slopes nearby, for a derivative that is 0
STEP = 2.0**-17  # relative to x; about the cube root of the float64 epsilon: truncation and rounding errors balance
_LADDER = 2.0 ** np.arange(-47, 60, 2)
_SHORT, _LONG = 2.0 ** np.array([-17, -15, -13]), 2.0 ** np.array([-7, -5, -3])
_EPS = np.finfo(np.float64).eps

FAILURES = {"WRONG": 5, "no scale": 4, "unused": 3}


@dataclass
class Row:
    """One comparison: of input ``name`` along ``where`` (a coordinate, or a random direction)."""

    name: str
    shape: tuple[int, ...]
    where: str
    analytic: float
    numeric: float
    error: float
    allowed: float
    step: float
    verdict: str


@dataclass
class Report:
    """The rows of a check, and what they come to.

    Verdicts: ``ok``; ``WRONG``; ``no scale`` (rounding errors of f hide this derivative: nothing is proved, which is
    a failure); ``unused`` (f does not depend on this input at all: a failure, unless the caller said so); ``zero``
    (f does not change along here, and the gradient is 0); ``kink`` (not differentiable here: no verdict, no failure);
    ``empty`` (no elements). ``str(report)`` is a table with the worst row of each input, and names what failed.
    """

    title: str
    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No row failed, and at least one compared a derivative that is not 0."""
        return any(row.verdict == "ok" for row in self.rows) and not self.failures

    __bool__ = ok.fget

    @property
    def failures(self) -> list[Row]:
        """The rows with a wrong gradient, one that cannot be judged, or an input that f does not use."""
        return [row for row in self.rows if row.verdict in FAILURES]

    def worst(self) -> list[Row]:
        """The row nearest to failing (or failed), for each input."""
        rank = {**FAILURES, "kink": 2, "ok": 1, "zero": 0, "empty": -1}
        best: dict[str, Row] = {}
        for row in self.rows:
            # A wrong coordinate says more than a wrong direction.
            key = (rank[row.verdict], row.where.startswith("["), row.error / row.allowed if row.allowed else 0.0)
            if row.name not in best or key > best[row.name][0]:
                best[row.name] = (key, row)
        return [row for _, row in best.values()]

    def __str__(self) -> str:
        heads = ["input", "shape", "checks", "worst at", "analytic", "numeric", "error", "allowed", "step", "verdict"]
        lines = [heads]
        for row in self.worst():
            count = sum(1 for other in self.rows if other.name == row.name)
            lines.append(
                [row.name, str(row.shape), str(count), row.where, f"{row.analytic:.9g}", f"{row.numeric:.9g}"]
                + [f"{row.error:.1e}", f"{row.allowed:.1e}", f"{row.step:.0e}", row.verdict]
            )
        widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        table.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.title, *table, *self._reasons()])

    def _reasons(self):
        for row in self.worst():
            if row.verdict == "no scale":
                yield (
                    f"{row.name}, {row.where}: cannot be judged at this scale: rounding and truncation leave "
                    f"{row.allowed:.1e} of uncertainty; rescale f, or check the part that depends on it alone"
                )
            elif row.verdict == "WRONG":
                yield (
                    f"WRONG gradient: {row.name}, {row.where}: analytic {row.analytic:.12g}, numeric {row.numeric:.12g}"
                )
            elif row.verdict == "unused":
                yield (
                    f"{row.name}: f does not depend on it; compute f from it (a model's own copy is another one), or "
                    f"say unused=({row.name!r},)"
                )
        kinks = sum(row.verdict == "kink" for row in self.rows)
        if kinks:
            yield f"{kinks} of {len(self.rows)} checks met a kink (the one-sided derivatives differ): no verdict there"
        if not self.failures and not self.ok:
            verdicts = {row.verdict for row in self.rows} - {"kink"}
            why = {"zero": "f does not change along any of these", "empty": "no elements"}
            yield f"nothing was compared: {', '.join(why[v] for v in sorted(verdicts)) or 'kinks alone'}: no success"


@np.errstate(all="ignore")  # f may be undefined a step away, or a gradient NaN: that is a verdict
def gradcheck(
    f: Callable,
    *inputs: Any,
    parameters: Sequence[Parameter] | Any = (),
    gradient: Callable | None = None,
    rng: Rng | None = None,
    names: Sequence[str] | None = None,
    unused: Sequence[str] = (),
    coordinates: int = 24,
    directions: int = 3,
    second: bool = False,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Report:
    """Check the gradient of ``f`` by finite differences in float64.

    Args:
        f: ``f(*inputs)`` of Tensors, returning a Tensor of any shape; with ``gradient``, of arrays, returning a number.
        inputs: float64 arrays or numbers.
        parameters: Parameters (or a Module) that ``f`` uses besides; they are moved in place, and restored.
        gradient: a hand-written gradient to check instead of the engine's: ``gradient(*inputs)`` returns an array, or a
            list of one for each input. It gets copies, as ``f`` does.
        rng: for a stochastic ``f``: a seed or a generator; ``f`` is then called as ``f(*inputs, rng=g)`` with the same
            fresh copy ``g`` each time, so that the noise is frozen.
        names: of the inputs, for the table.
        unused: names of inputs or parameters on which ``f`` does not depend; any other one of this kind is a failure.
        coordinates: single coordinates checked for each input (all if it has no more, else a random subset).
        directions: random directions through all coordinates, for each input that has more than ``coordinates``.
        second: check second derivatives: the gradient of <gradient, w> for a random w.
        tolerance: allowed relative error.
        seed: of the directions.

    Returns:
        A :class:`Report`; true in a boolean context when all is well and something was compared. It costs two
        evaluations of ``f`` a row, six to eight where rounding or a bend stand in the way, about 65 in bad cases.

    Raises:
        ValueError: ``f`` is not deterministic (pass ``rng=``), its value is not finite, a gradient has another shape
            than its input, or ``unused`` has a name that is not there.
        TypeError: an input is not of float64, ``f`` returned no Tensor, or ``gradient`` is no function.

    Example:
        >>> print(gradcheck(lambda x: (x * x).sum(), np.ones(3)).ok)
        True

    Example:
        >>> report = gradcheck(lambda x: (x * x * x).sum(), np.array([1.0, 2.0]))
        >>> report.ok
        True
        >>> wrong = gradcheck(lambda x: np.sum(x**3), np.array([1.0, 2.0]), gradient=lambda x: 3.003 * x**2)
        >>> [row.where for row in wrong.failures]
        ['[0]', '[1]']
    """
    problem = _Problem(f, inputs, parameters, gradient, rng, names, second, seed)
    if not set(unused) <= set(problem.names):
        raise ValueError(
            f"gradcheck: unused={tuple(unused)} names what is not there; inputs: {', '.join(problem.names)}"
        )
    report = Report(f"gradient check of {getattr(f, '__name__', 'f')}")
    for k, name in enumerate(problem.names):
        report.rows += _rows(problem, k, name in unused, coordinates, directions, tolerance)
    return report


def _rows(problem, k, unused, coordinates, directions, tolerance):
    """The rows of the k-th point."""
    x = problem.points[k]
    if x.size == 0 or problem.slopes[k] is None:
        where, verdict = "everywhere", "zero" if unused else "unused"
        if x.size == 0:
            where, verdict = "no elements", "empty"
        return [Row(problem.names[k], x.shape, where, 0.0, 0.0, 0.0, 0.0, 0.0, verdict)]
    every = np.arange(x.size)
    picked = every if x.size <= coordinates else problem.noise.choice(x.size, coordinates, replace=False)
    moves = [(_place(x, i), np.array([i]), np.ones(1)) for i in sorted(picked)]
    for d in range(directions if x.size > coordinates else 0):
        moves.append((f"direction {d}", every, _direction(problem.noise, x, problem.slopes[k], d)))
    rows = [_compare(problem, k, *move, tolerance) for move in moves]
    wrong = [(*move[1:], row.step) for move, row in zip(moves, rows, strict=True) if row.verdict == "WRONG"]
    if wrong and not any(row.verdict == "WRONG" and row.where.startswith("[") for row in rows):
        rows.append(_locate(problem, k, *wrong[0], tolerance))
    return rows


class _Problem:
    """The function to check, as a scalar function of flat float64 points, and its gradient."""

    def __init__(self, f, inputs, parameters, gradient, rng, names, second, seed):
        if gradient is not None and not callable(gradient):
            raise TypeError(
                f"gradcheck: gradient is a {type(gradient).__name__}, not a function; pass gradient=lambda *inputs: ..."
            )
        self.f, self.gradient, self.rng, self.second = f, gradient, rng, second
        self.noise = np.random.default_rng(seed)
        if hasattr(parameters, "named_parameters"):
            named = dict(parameters.named_parameters())
        else:
            named = {p.name or f"parameter {i}": p for i, p in enumerate(parameters)}
        # A tied parameter has several names, and moves once.
        once = {id(p): name for name, p in reversed(named.items())}
        named = {name: p for name, p in named.items() if once[id(p)] == name}
        self.parameters = list(named.values())
        self.points = [_float64(x, f"input {i}") for i, x in enumerate(inputs)]
        self.arguments = len(self.points)
        self.points += [_float64(p, name) for name, p in named.items()]
        self.names = [*(names or [f"input {i}" for i in range(len(inputs))]), *named]
        if not self.points:
            raise ValueError("gradcheck: nothing to check; pass inputs, or parameters=model")
        self.cotangent = None
        value = self._call(*self.points)
        self.cotangent = (
            self.noise.standard_normal(np.shape(value)) if np.size(value) != 1 else np.ones(np.shape(value))
        )
        if second:
            self.weights = [self.noise.standard_normal(x.shape) for x in self.points]
        self.base, self.terms = self.value(*self.points)
        again = self.value(*self.points)[0]
        if not np.isfinite(self.base):
            raise ValueError(f"gradcheck: f is {self.base} at this point; choose one where it is finite")
        if self.base != again:
            raise ValueError(
                f"gradcheck: f is not deterministic (two calls gave {self.base!r} and {again!r}); draw its noise from "
                "a keyword argument rng and pass rng=0 here, or pass the noise as a constant"
            )
        self.slopes = self._slopes()
        reached = [(x, np.abs(g)) for x, g in zip(self.points, self.slopes, strict=True) if g is not None and g.size]
        self.largest_slope = max((float(np.max(g)) for _, g in reached), default=0.0)
        # Of moving one entry of x by its own size.
        effects = [g * np.where(x == 0.0, _size(x), np.abs(x)) for x, g in reached]
        self.largest_effect = max((float(np.max(e)) for e in effects), default=0.0)

    def _call(self, *points, tensors=False):
        keywords = {} if self.rng is None else {"rng": _fresh(self.rng)}
        make = np.array if self.gradient else Tensor  # either copies: f may write into what it gets
        arguments = [make(x) for x in points[: self.arguments]]
        for p, x in zip(self.parameters, points[self.arguments :], strict=True):
            if not np.array_equal(p._data, x):
                p.assign(x)
        output = self.f(*arguments, **keywords)
        if self.gradient:
            if np.size(output) != 1:
                raise ValueError(
                    f"gradcheck: with gradient=, f must return one number, not shape {np.shape(output)}; sum it, "
                    "or weight it by a fixed cotangent"
                )
        elif not isinstance(output, Tensor):
            raise TypeError(
                f"gradcheck: f returned a {type(output).__name__}, not a Tensor; compute it with minivi.ops, "
                "or pass its hand-written gradient="
            )
        return (output, arguments) if tensors else np.asarray(output)

    def value(self, *points):
        """<u, f> and the sum of its absolute terms, which bounds the rounding error."""
        if self.second:
            terms = [(w * g).ravel() for w, g in zip(self.weights, self._gradients(*points), strict=True)]
            terms = np.concatenate(terms)
        else:
            with no_grad():
                terms = (self.cotangent * self._call(*points)).ravel()
        return float(terms.sum()), float(np.abs(terms).sum())

    def _gradients(self, *points, differentiable=False, unused="zeros"):
        if self.gradient:
            gradients = self.gradient(*[np.array(x) for x in points])
            several = isinstance(gradients, (list, tuple)) and (
                len(points) > 1 or (len(gradients) == 1 and np.shape(gradients[0]) == points[0].shape)
            )
            gradients = list(gradients) if several else [gradients]
            for g in gradients:
                if g is None or np.asarray(g).dtype.kind not in "fiub":
                    kind = "None" if g is None else f"a {type(g).__name__}"
                    raise TypeError(f"gradcheck: gradient() returned {kind}; let it return an array for each input")
            if len(gradients) != len(points):
                raise ValueError(f"gradcheck: gradient() gave {len(gradients)} arrays for {len(points)} inputs")
            gradients = [np.asarray(g, np.float64) for g in gradients]
            for name, x, g in zip(self.names, self.points, gradients, strict=True):
                if g.shape != x.shape:
                    raise ValueError(f"gradcheck: gradient() gave shape {g.shape} for {name} of shape {x.shape}")
            return gradients
        output, arguments = self._call(*points, tensors=True)
        leaves = [*arguments, *self.parameters]
        gradients = grad(output, leaves, cotangent=self.cotangent, differentiable=differentiable, unused=unused)
        return (gradients, leaves) if differentiable else gradients

    def _slopes(self):
        """The gradient under test, one array for each point; None where f does not depend on it."""
        reached = self._gradients(*self.points, unused="none")
        if not self.second:
            return reached
        gradients, leaves = self._gradients(*self.points, differentiable=True)
        total = None
        for w, g in zip(self.weights, gradients, strict=True):
            term = (g * w).sum()
            total = term if total is None else total + term
        slopes = grad(total, leaves, unused="zeros")
        return [None if first is None else g for first, g in zip(reached, slopes, strict=True)]

    def at(self, k, x):
        """<u, f> with the k-th point at ``x``, and its absolute terms, NaN where f is not defined.

        Parameters are put back.
        """
        points = list(self.points)
        points[k] = x
        try:
            return self.value(*points)
        except (ArithmeticError, ValueError):  # such as math.log's of a negative number
            return np.nan, np.nan
        finally:
            for p, x in zip(self.parameters, self.points[self.arguments :], strict=True):
                p.assign(x)


def _float64(x, name):
    if isinstance(x, (float, list, tuple)):
        x = np.asarray(x, np.float64)
    array = np.array(x._data if isinstance(x, Tensor) else x)
    if array.dtype != np.float64:
        raise TypeError(
            f"gradcheck: {name} has dtype {array.dtype}; finite differences need float64: pass "
            "np.asarray(x, 'float64'), or model.astype('float64')"
        )
    return array


def _fresh(rng):
    return np.random.default_rng(rng) if isinstance(rng, (int, np.integer)) else copy.deepcopy(rng)


def _place(x, i):
    return f"[{', '.join(map(str, np.unravel_index(i, x.shape)))}]" if x.ndim else "[]"


def _size(x):
    """The root mean square of ``x``; 1 for zeros."""
    largest = float(np.max(np.abs(x)))
    return largest * float(np.sqrt(np.mean(np.square(x / largest)))) if largest else 1.0


def _direction(noise, x, slope, d):
    """The d-th random direction: entries as large as those of x or, every second, of effects on f as like as may be."""
    length = np.where(x == 0.0, _size(x), np.abs(x))
    effects = np.abs(slope) * length
    if d % 2 and effects.any():
        middle = np.median(effects[effects > 0.0])
        length = length / np.clip(effects / middle, 1.0 / 30.0, 30.0)
    v = noise.choice((-1.0, 1.0), x.shape) * noise.uniform(0.5, 1.5, x.shape) * length
    return (v / _size(v)).ravel()


class _Line:
    """g(h) = <u, f(x + h v)> for the k-th point x; v has the entries ``v`` at the flat ``places``, zeros elsewhere."""

    def __init__(self, problem, k, places, v):
        self.problem, self.k, self.places, self.v = problem, k, places, v
        self.x = problem.points[k]
        self.start, self.slope = self.x.ravel()[places], problem.slopes[k].ravel()[places]
        effects = self.slope * v
        self.analytic, self.norm = float(np.sum(effects)), _size(effects) * np.sqrt(len(v)) if effects.any() else 0.0
        # A power of two: for a single coordinate x + h is then exact, wherever it can be.
        self.size = 2.0 ** np.round(np.log2(_size(self.start if self.start.any() else self.x)))
        self.reach = 64.0 * _size(self.x) / self.size
        self.seen = {0.0: (problem.base, problem.terms)}

    def look(self, h):
        """g(h), less what the rounding of x + h v adds to first order, and its absolute terms; NaN if undefined."""
        if h not in self.seen:
            moved, x = self.start + h * self.v, self.x.copy()
            x.reshape(-1)[self.places] = moved
            value, terms = self.problem.at(self.k, x)
            excess = float(np.sum(self.slope * (moved - self.start - h * self.v)))
            value -= excess if np.isfinite(excess) else 0.0
            self.seen[h] = (value, terms) if np.isfinite(value) else (np.nan, np.nan)
        return self.seen[h]

    def scale(self, numeric):
        """What an error is relative to: the derivative, or the norm of its terms, which may cancel."""
        return max(abs(self.analytic), abs(numeric), self.norm)


@dataclass
class _Estimate:
    """A numeric derivative ``value``, its ``error``, the rounding ``noise`` of g, the longest ``step`` behind it.

    It is ``lossy`` if the noise is far above the last digits of g; ``sides`` are the one-sided derivatives, where they
    differ; ``nearby`` is the steepest slope of g seen.
    """

    value: float
    error: float
    noise: float
    step: float
    lossy: bool
    sides: tuple[float, float] | None = None
    nearby: float = 0.0


def _estimate(line, steps):
    """The best estimate that ``steps`` give, from short to long; None if there is none.

    Longer steps are believed as far as they agree with all shorter ones, whose errors of truncation are smaller.
    """
    looks = np.array([(line.look(h), line.look(-h)) for h in steps])
    (plus, terms_plus), (minus, terms_minus) = looks[:, 0].T, looks[:, 1].T
    here, terms = line.look(0.0)
    first, second = 16.0, 256.0  # what one more step of the ladder divides h^2 and h^4 by
    two_sided = bool(np.isfinite(plus[0] + minus[0]))
    if not two_sided:  # the edge of a domain: one-sided differences, errors of h and h^2
        first, second = 4.0, 16.0
        side = plus if np.isfinite(plus[0]) else minus
        plus, minus = (side, 2.0 * here - side) if side is plus else (2.0 * here - side, side)
    inside = int(np.argmin(np.append(np.isfinite(plus + minus), False)))
    if inside < 3:
        return None
    steps, plus, minus = steps[:inside], plus[:inside], minus[:inside]
    last_digits = 0.5 * _EPS * np.fmax(terms, np.fmax(terms_plus, terms_minus)[:inside])
    slopes, bends = (plus - minus) / (2.0 * steps), (plus - here) + (minus - here)
    floors = np.maximum(last_digits, _quantum(plus - here, minus - here, terms))
    # Over the shortest steps g is a straight line: what their slopes differ by is rounding.
    shortest = steps[:-1] < 3e-12 * line.size
    apart = np.maximum.accumulate(np.abs(np.diff(slopes)) * steps[:-1]) * shortest.any()
    uneven = np.abs(bends[:-1] - bends[1:] / 16.0)[shortest]
    floors = np.maximum(floors, np.max(uneven, initial=0.0) / 2.0)
    extrapolated = slopes[:-1] - np.diff(slopes) / (first - 1.0)
    # What the one-sided slopes differ by, extrapolated likewise: kinks that the steps have passed.
    turns = bends / steps
    turns = turns[:-1] - np.diff(turns) / 3.0
    passed = np.abs(turns[:-1] - np.diff(turns) / 63.0) / 2.0  # half of it is in D
    best, at = None, 0
    for i in range(inside - 2):
        short, long = extrapolated[i : i + 2]
        value = short + (short - long) / (second - 1.0)
        noise = max(floors[i], apart[min(max(i - 2, 3), inside - 2)])
        near, far = np.abs(np.diff(slopes[i : i + 3]))
        error = (
            abs(short - long) * _left(near / far, near * steps[i] > 4.0 * noise) + 2.0 * noise / steps[i] + passed[i]
        )
        if best and abs(value - best.value) > error + 2.0 * best.error:
            break
        if not best or error < best.error:
            best, at = _Estimate(value, error, noise, steps[i + 2], noise > 1000.0 * last_digits[i]), i
    reach = np.maximum(np.abs(plus - here), np.abs(minus - here))
    ordinary = 16.0 * max(terms, np.max(reach[steps <= line.size / 16.0], initial=0.0))
    near = (steps <= 4.0 * line.size) & (reach > 10.0 * best.noise)
    best.nearby = float(np.max(np.minimum(reach, ordinary)[near] / steps[near], initial=0.0))
    if two_sided and _is_kink(bends / steps, np.flatnonzero(np.abs(bends[: at + 1]) > 10.0 * best.noise)):
        best.sides = best.value - passed[at], best.value + passed[at]
    return best


def _is_kink(turns, seen):
    """Whether the one-sided slopes go on to differ: elsewhere that falls with h, and rounding has no rule."""
    if not seen.size:
        return False
    turns = turns[seen[0] : seen[0] + 3] / turns[seen[0]]
    return bool(np.all((0.5 < turns) & (turns < 2.0)))


def _left(rate, measured):
    """How much of the last correction is left to come, where differences of slopes have fallen by ``rate``."""
    if rate <= 1.0 / 8.0:
        return 1.0 / 4.0  # smooth: it is a sixteenth for h^2, and the correction has taken that away
    return max(1.0, 2.0 * rate / (1.0 - min(rate, 0.95))) if measured else 1.0  # a geometric series, e.g. of h^(1/2)


def _quantum(up, down, terms):
    """The size of g's jumps, if it rounds coarsely, as float32 does: it stands still, then moves on both sides."""
    still = int(np.argmin((up == 0.0) & (down == 0.0)))
    if still == 0 or still + 4 >= len(up) or 0.0 in (up[still + 4], down[still + 4]):
        return 0.0
    jump, later = max(abs(up[still]), abs(down[still])), max(abs(up[still + 4]), abs(down[still + 4]))
    straight = abs(up[still + 4] + down[still + 4]) <= 0.25 * later
    # Else g is flat between two bends, as where a unit is dead.
    return jump if jump <= COARSE * terms and (straight or later <= 16.0 * jump) else 0.0


def _compare(problem, k, where, places, v, tolerance):
    """A row: the first look, a second one at three other steps, at last the whole ladder."""
    line = _Line(problem, k, places, v)

    def row(numeric, allowed, step, verdict):
        error = abs(line.analytic - numeric)
        return Row(problem.names[k], line.x.shape, where, line.analytic, numeric, error, float(allowed), step, verdict)

    h = STEP * line.size
    (plus, terms_plus), (minus, terms_minus), (here, terms) = line.look(h), line.look(-h), line.look(0.0)
    numeric, bend = (plus - minus) / (2.0 * h), abs(plus - 2.0 * here + minus) / h
    if not np.isfinite(line.analytic):
        return row(numeric, 0.0, h, "WRONG")
    rounding = 4.0 * _EPS * max(terms_plus, terms_minus, terms) / h
    scale = line.scale(numeric)
    fine = RESOLUTION * scale / np.sqrt(len(places))  # one wrong coordinate must show among all
    allowed = tolerance * scale + rounding
    if abs(line.analytic - numeric) <= allowed and rounding <= fine and bend <= RESOLUTION * scale + 4.0 * rounding:
        return row(numeric, allowed, h, "ok")
    far = 2.0**15 * line.size
    if scale == 0.0 and line.look(far)[0] == line.look(-far)[0] == here:
        return row(0.0, 0.0, far, "zero")
    estimate = _estimate(line, line.size * (_LONG if rounding > fine else _SHORT))
    if estimate and not estimate.sides:
        allowed = tolerance * scale + estimate.error
        if abs(line.analytic - estimate.value) <= allowed <= RESOLUTION * line.scale(estimate.value) < np.inf:
            return row(estimate.value, allowed, estimate.step, "ok")
    estimate = _estimate(line, line.size * _LADDER[_LADDER <= max(2.0**15, line.reach)])
    if not estimate:
        return row(numeric, 0.0, h, "WRONG")
    return row(estimate.value, *_verdict(problem, line, estimate, tolerance))


def _verdict(problem, line, estimate, tolerance):
    scale, error = line.scale(estimate.value), abs(line.analytic - estimate.value)
    allowed = tolerance * scale + estimate.error
    if estimate.lossy:
        allowed = max(allowed, RESOLUTION * scale)  # where f loses digits, its gradient may too
    others = min(problem.largest_slope, problem.largest_effect / line.size)
    residue = 64.0 * _EPS * max(estimate.nearby, others)  # what rounding leaves of a sum of larger numbers that is 0
    vanishes = abs(line.analytic) <= residue and abs(estimate.value) <= residue + estimate.error
    gap = estimate.sides[1] - estimate.sides[0] if estimate.sides else 0.0
    if gap > RESOLUTION * scale:
        room = estimate.error - 0.499 * gap  # half of it is in the error
        between = estimate.sides[0] - room <= line.analytic <= estimate.sides[1] + room
        verdict = "kink" if between else "WRONG"
    elif estimate.error <= RESOLUTION * scale:
        verdict = "ok" if error <= allowed else "WRONG"
    elif vanishes and estimate.error <= VANISHING * estimate.nearby:
        verdict = "ok"
    elif vanishes and (scale == 0.0 or estimate.error <= VANISHING * others):
        verdict = "zero"  # f does not change along here, such as by a bias before a softmax
    else:
        verdict = "no scale" if error <= allowed + estimate.error else "WRONG"
    return allowed, estimate.step, verdict


def _locate(problem, k, places, v, h, tolerance):
    """The coordinate that is wrong when only random directions have shown it: halve the direction's support."""
    while places.size > 1:
        halves = list(zip(np.array_split(places, 2), np.array_split(v, 2), strict=True))
        lines = [_Line(problem, k, *half) for half in halves]
        errors = [abs(line.analytic - (line.look(h)[0] - line.look(-h)[0]) / (2.0 * h)) for line in lines]
        places, v = halves[int(np.argmax(errors))]
    return _compare(problem, k, _place(problem.points[k], places[0]), places, np.ones(1), tolerance)


def taylor_slope(f: Callable, *inputs: Any, wrt: int = 0, seed: int = 0, second: bool = False) -> tuple[float, float]:
    """Slope of log |Taylor remainder| against log h, and the remainder at the largest step over the scale.

    Args:
        f: a function of Tensors.
        inputs: float64 arrays.
        wrt: which input is moved.
        seed: of the random cotangent and direction.
        second: look at <gradient, w> instead of f.

    Returns:
        ``(slope, remainder)``: slope about 2 (or more) for a right gradient, 1 for a wrong one, and meaningless for a
        function that is linear in this input, whose relative ``remainder`` is a rounding error.
    """
    problem = _Problem(f, inputs, (), None, None, None, second, seed)
    v = problem.noise.standard_normal(problem.points[wrt].shape)
    v /= max(np.sqrt(np.mean(v * v)), 1e-300)
    analytic = float(np.sum(problem.slopes[wrt] * v))
    # From 0.004 down to 6e-5: at the small end a gradient wrong by 1e-3 outweighs the second-order term.
    steps = 2.0 ** -np.arange(8, 15)
    moved = [problem.at(wrt, problem.points[wrt] + h * v) for h in steps]
    remainders = np.array([abs(m[0] - problem.base - h * analytic) for h, m in zip(steps, moved, strict=True)])
    scale = max(moved[0][1], abs(analytic))
    if remainders.min() == 0.0:
        return np.inf, float(remainders[0] / scale)
    slope = np.polyfit(np.log(steps), np.log(remainders), 1)[0]
    return float(slope), float(remainders[0] / scale)


def sampler(seed: int = 0) -> Callable:
    """The maker of test arrays that a primitive's ``cases`` get: uniform in [low, high], 0.05 away from 0."""
    rng = np.random.default_rng(seed)

    def sample(*shape, low=-2.0, high=2.0):
        x = rng.uniform(low, high, shape)
        return np.asarray(np.where(np.abs(x) < 0.05, np.copysign(0.05, x) + x, x))

    return sample


def split_case(case: tuple) -> tuple[tuple, dict, dict]:
    """A case's arguments, its keywords, and its "support": masks {index: array} outside which an argument is zero."""
    keywords = dict(case[-1]) if isinstance(case[-1], dict) else {}
    return case[:-1] if keywords else case, keywords, keywords.pop("support", {})


def check_primitive(primitive: Primitive, second: bool = False, seed: int = 0) -> Report:
    """Check each variable of each case of ``primitive``: random directions, coordinates and the Taylor remainder.

    Args:
        primitive: an entry of ``minivi.tensor.PRIMITIVES``.
        second: check second derivatives.
        seed: of cases, cotangents and directions.
    """
    report = Report(f"{primitive.name}{' (second derivative)' if second else ''}")
    for n, case in enumerate(primitive.cases(sampler(seed))):
        args, keywords, support = split_case(case)
        variables = [i for i, takes in zip(range(len(args)), primitive.takes, strict=False) if takes]

        def f(*values, args=args, keywords=keywords, support=support, variables=variables):
            full = list(args)
            for i, value in zip(variables, values, strict=True):
                full[i] = value * support[i] if i in support else value
            return primitive(*full, **keywords)

        inputs = [args[i] for i in variables]
        names = [f"case {n}, argument {i}" for i in variables]
        checked = gradcheck(f, *inputs, names=names, coordinates=6, directions=2, second=second, seed=seed + n)
        report.rows += checked.rows
        for k, x in enumerate(inputs):
            if x.size and np.size(f(*inputs)):
                report.rows.append(_taylor_row(primitive, f, inputs, k, names[k], second, seed + n))
    return report


def _taylor_row(primitive, f, inputs, k, name, second, seed):
    slope, remainder = taylor_slope(f, *inputs, wrt=k, seed=seed, second=second)
    # Linear, or so nearly constant in curvature that nothing is left above rounding: the remainder itself must vanish.
    if (primitive.linear and not second) or remainder < 1e-13:
        return Row(name, np.shape(inputs[k]), "Taylor remainder", 0.0, remainder, remainder, 1e-12, 2.0**-8,
                   "ok" if remainder <= 1e-12 else "WRONG")  # fmt: skip
    return Row(name, np.shape(inputs[k]), "Taylor slope", 2.0, slope, max(0.0, 2.0 - slope), 0.1, 2.0**-8,
               "ok" if slope > 1.9 else "WRONG")  # fmt: skip
