"""Gradient verification by finite differences, for primitives, users' functions, hand-written gradients and models.

A check contracts the result with a random cotangent u, moves the input along a direction v (a random one, or a single
coordinate) and compares two numbers in float64, for g(h) = <u, f(x + h v)>:

    numeric  = (g(h) - g(-h)) / 2h                   analytic = <vjp(u), v>

**A first look** takes one step, six millionths of the size of x, where truncation and rounding errors of an ordinary
function balance. If the two agree to ``tolerance`` (relative) and rounding there is small beside them, that is all.

**A second look**, where they do not, takes a ladder of steps, each a quarter of the last::

    h            h/4            h/16         ...       three neighbours: two Richardson extrapolations, whose
    D(h)         D(h/4)         D(h/16)                difference is the truncation error
       R1 = (16 D(h/4) - D(h)) / 15   R2 = ...

To that error comes the rounding error of f, seen where the ladder gets noisy, over h; and the bend g(h) - 2 g(0) +
g(-h) over h, as far as it does not fall with h, as at a kink. The three neighbours with the smallest error give the
numeric derivative. Long steps serve functions that lose their digits in rounding, short ones those that bend early,
or end: a step to where f is not defined is left out, and at the edge of a domain one-sided differences serve.

The gradient is wrong if the two differ by more than the error allows, and right only if the error is known to be below
a quarter of a thousandth of the derivative. Else the row says that this coordinate cannot be judged at this scale, or
that the point is a kink, where a derivative must lie between the one-sided ones; neither proves anything. A derivative
that vanishes is measured against the slope that f has a step further away; one of an f that does not change at all,
however far its argument is moved, against rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minivi.tensor import Parameter, Primitive, Tensor, grad, no_grad

STEP = 6e-6  # about the cube root of the float64 epsilon: truncation and rounding errors balance
TOLERANCE = 1e-8
RESOLUTION = 2.5e-4  # of an error, relative to the derivative, for a verdict: an error of a thousandth must show
_EPS = np.finfo(np.float64).eps
_LADDER = 4.0 ** -np.arange(1, 12)  # steps of the second look, relative to the size of x: 0.25 to 2.4e-7
_LONGER = 4.0 ** np.arange(0, 8)
_SHORTER = 4.0 ** -np.arange(12, 22)

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
            found = {row.verdict for row in self.rows} - {"kink"}
            why = {"zero": "f does not change along any of these", "empty": "no elements"}
            yield f"nothing was compared: {', '.join(why[v] for v in sorted(found)) or 'kinks alone'}: no success"


def gradcheck(
    f: Callable,
    *inputs: Any,
    parameters: Sequence[Parameter] | Any = (),
    gradient: Callable | None = None,
    rng: Any = None,
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
        directions: random directions through all coordinates, for each input.
        second: check second derivatives: the gradient of <gradient, w> for a random w.
        tolerance: allowed relative error.
        seed: of the directions.

    Returns:
        A :class:`Report`; true in a boolean context when all is well and something was compared. It costs 2 to 4
        evaluations of ``f`` a coordinate, up to 60 where the first look does not settle it.

    Raises:
        ValueError: ``f`` is not deterministic (pass ``rng=``), its value is not finite, a gradient has another shape
            than its input, or ``unused`` has a name that is not there.
        TypeError: an input is not of float64, ``f`` returned no Tensor, or ``gradient`` is no function.

    Example:
        >>> print(gradcheck(lambda x: (x * x).sum(), np.ones(3)).ok)
        True
    """
    problem = _Problem(f, inputs, parameters, gradient, rng, names, second, seed)
    if not set(unused) <= set(problem.names):
        raise ValueError(
            f"gradcheck: unused={tuple(unused)} names what is not there; inputs: {', '.join(problem.names)}"
        )
    report = Report(f"gradient check of {getattr(f, '__name__', 'f')}")
    for k, x in enumerate(problem.points):
        name = problem.names[k]
        if x.size == 0 or problem.slopes[k] is None:
            verdict = "empty" if x.size == 0 else "zero" if name in unused else "unused"
            where = "no elements" if x.size == 0 else "everywhere"
            report.rows.append(Row(name, x.shape, where, 0.0, 0.0, 0.0, 0.0, 0.0, verdict))
            continue
        every = np.arange(x.size)
        picked = every if x.size <= coordinates else problem.noise.choice(x.size, coordinates, replace=False)
        moves = [(_place(x, i), np.array([i]), np.ones(1)) for i in sorted(picked)]
        for d in range(directions if x.size > 1 else 0):
            v = problem.noise.standard_normal(x.size) * np.where(x == 0.0, _size(x), np.abs(x)).ravel()
            moves.append((f"direction {d}", every, v / np.sqrt(np.mean(v * v))))
        rows = [_compare(problem, k, *move, tolerance) for move in moves]
        wrong = [move for move, row in zip(moves, rows, strict=True) if row.verdict == "WRONG"]
        if wrong and not any(row.verdict == "WRONG" and row.where.startswith("[") for row in rows):
            rows.append(_locate(problem, k, *wrong[0][1:], tolerance))
        report.rows += rows
    return report


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
        once = {
            id(p): name for name, p in reversed(named.items())
        }  # a tied parameter has several names, and moves once
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
        largest = [float(np.max(np.abs(g))) for g in self.slopes if g is not None and g.size]
        self.largest_slope = max(largest, default=0.0)

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
            if any(g is None for g in gradients):
                raise TypeError("gradcheck: gradient() returned None; let it return an array for each input")
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
            with np.errstate(all="ignore"):
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
    return float(np.sqrt(np.mean(x * x))) or 1.0


class _Line:
    """g(h) = <u, f(x + h v)> for the k-th point x, with what is known of its derivative and its rounding errors.

    The direction v has the entries ``v`` at the flat ``places``, and zeros elsewhere.
    """

    def __init__(self, problem, k, places, v):
        self.problem, self.k, self.places, self.v = problem, k, places, v
        self.x = problem.points[k]
        self.start, self.slope = self.x.ravel()[places], problem.slopes[k].ravel()[places]
        self.analytic = float(np.sum(self.slope * v))
        self.size = _size(self.start)
        self.resolution = RESOLUTION / np.sqrt(len(places))  # one wrong coordinate must show among all
        self.terms = problem.terms
        self.seen = {0.0: problem.base}

    def __call__(self, h):
        """g(h), less what the rounding of x + h v adds to first order; NaN where f is not defined."""
        if h not in self.seen:
            moved, x = self.start + h * self.v, self.x.copy()
            x.reshape(-1)[self.places] = moved
            value, terms = self.problem.at(self.k, x)
            if np.isfinite(value):
                value -= float(np.sum(self.slope * (moved - self.start - h * self.v)))
                self.terms = max(self.terms, terms) if abs(h) <= self.size else self.terms
            self.seen[h] = value if np.isfinite(value) else np.nan
        return self.seen[h]

    @property
    def rounding(self):
        """The rounding error of g, at least."""
        return 4.0 * _EPS * self.terms

    def central(self, h):
        """The central difference."""
        return (self(h) - self(-h)) / (2.0 * h)

    def bend(self, h):
        """How far the one-sided differences are apart."""
        return abs(self(h) - 2.0 * self(0.0) + self(-h)) / h


@dataclass
class _Estimate:
    """A numeric derivative: its value and error, the share of a bend in that, and the longest step behind it."""

    value: float
    error: float
    bend: float
    step: float


def _compare(problem, k, where, places, v, tolerance):
    line = _Line(problem, k, places, v)

    def row(numeric, allowed, step, verdict):
        error = abs(line.analytic - numeric)
        return Row(problem.names[k], line.x.shape, where, line.analytic, numeric, error, allowed, step, verdict)

    if not np.isfinite(line.analytic):
        return row(line.central(STEP * line.size), 0.0, STEP * line.size, "WRONG")
    h = STEP * line.size
    numeric, rounding = line.central(h), line.rounding / h
    scale = max(abs(line.analytic), abs(numeric))
    allowed = tolerance * scale + rounding
    if (
        abs(line.analytic - numeric) <= allowed
        and rounding <= line.resolution * scale
        and line.bend(h) <= RESOLUTION * scale + 4.0 * rounding
    ):
        return row(numeric, allowed, h, "ok")
    far = _LONGER[-1] * line.size
    if scale == 0.0 and line(far) == line(-far) == line(0.0):
        return row(0.0, 0.0, far, "zero")
    found, noise = _second_look(line)
    scale = max(abs(line.analytic), abs(found.value))
    # A gradient can be no more precise than what it is the gradient of.
    allowed = (tolerance + 10.0 * noise / max(line.terms, np.finfo(float).tiny)) * scale + found.error
    settled = allowed <= 2.0 * RESOLUTION * scale or _is_stationary(line, scale, found.error)
    if not np.isfinite(found.value):
        verdict = "WRONG"
    elif found.bend > 0.5 * found.error and _is_between(line, noise):
        verdict = "kink"
    elif not settled and scale <= 8.0 * _EPS * problem.largest_slope:
        verdict = "zero"  # a sum of larger numbers that cancel, such as that of a bias before a softmax
    elif abs(line.analytic - found.value) > allowed:
        verdict = "WRONG"
    else:
        verdict = "ok" if settled else "no scale"
    return row(found.value, allowed, found.step, verdict)


def _second_look(line):
    """The best numeric derivative that a ladder of steps gives, and the rounding error of g that it shows."""
    steps = line.size * _LADDER[2:6]
    found, noise = _best(line, steps)
    if _settles(line, found) and abs(line.analytic - found.value) <= found.error:
        return found, noise
    steps = line.size * _LADDER
    found, noise = _best(line, steps)
    from_zero = not line.start.any()  # where no rounding of x + h v stands in the way
    longer, shorter = line.size * _LONGER, line.size * _SHORTER[: None if from_zero else 5]
    # Where the ladder ends before the noise begins, or the function bends, shorter steps come first.
    for more in (shorter, longer) if found.bend or noise > 100.0 * line.rounding else (longer, shorter):
        if not _settles(line, found):
            steps = np.sort(np.concatenate([steps, more]))[::-1]
            found, noise = _best(line, steps)
    return found, noise


def _settles(line, found):
    return found.error <= line.resolution * max(abs(line.analytic), abs(found.value))


def _best(line, steps):
    """The three neighbouring steps whose two extrapolations have the smallest error."""
    plus, minus = (np.array([line(sign * h) for h in steps]) for sign in (1.0, -1.0))
    differences, first, second = (plus - minus) / (2.0 * steps), 4.0**2, 4.0**4
    bends = np.abs(plus - 2.0 * line(0.0) + minus) / steps
    central = np.isfinite(differences).any()
    if not central:  # the edge of a domain
        side, sign = (minus, -1.0) if np.isfinite(minus).any() else (plus, 1.0)
        differences, first, second = sign * (side - line(0.0)) / steps, 4.0, 4.0**2
        bends = np.where(steps < 1e-6 * line.size, 0.0, np.inf)
    kept = np.isfinite(differences)
    steps, differences, bends = steps[kept], differences[kept], bends[kept]
    noise = max(line.rounding, _noise(steps, differences, bends * steps <= 4e-6 * line.terms))
    best, shorter = _Estimate(np.nan, np.inf, 0.0, line.size), []
    for i in reversed(range(len(steps) - 2)):
        r1, r2 = (first * differences[i + 1 : i + 3] - differences[i : i + 2]) / (first - 1.0)
        rounding = noise / steps[i + 2]
        # Of a smooth function the bend falls with the step.
        bend = bends[i + 2] if central and bends[i + 2] > 0.6 * bends[i + 1] + 8.0 * rounding else 0.0
        value, error = (second * r2 - r1) / (second - 1.0), abs(r2 - r1) + 2.0 * rounding + bend
        # Steps far beyond a function's features may agree with one another, but not with shorter ones.
        agrees = all(abs(value - v) <= error + e for v, e in shorter)
        shorter.append((value, error))
        if agrees and error < best.error:
            best = _Estimate(*map(float, (value, error, bend, steps[i + 2])))
    return best, float(noise)


def _noise(steps, differences, calm):
    """The rounding error of g, from what differences of neighbouring steps have apart.

    Where rounding rules, that times the step stays about as large from step to step; truncation makes it 64 times as
    large with each longer step. Only steps count over which g hardly bends.
    """
    apart = (np.abs(np.diff(differences)) * steps[1:])[calm[:-1]][::-1]
    noise = 0.0
    for i, size in enumerate(apart):
        if i + 1 < len(apart) and size > 16.0 * noise and apart[i + 1] > 16.0 * size > 0.0:
            break
        noise = max(noise, size)
    return max(noise, apart[0]) if len(apart) else noise


def _is_between(line, noise):
    """Whether the analytic derivative lies between the one-sided ones."""
    for h in line.size * _LADDER[::-1]:
        bend, rounding = line.bend(h), noise / h
        if bend > 10.0 * rounding:
            sides = (line(h) - line(0.0)) / h, (line(0.0) - line(-h)) / h
            room = 2.0 * rounding + 1e-3 * bend
            return min(sides) - room <= line.analytic <= max(sides) + room
    return False


def _is_stationary(line, scale, error):
    """Whether a derivative vanishes beside the slopes that f has nearby, and is known to a millionth of them."""
    slopes = [abs(g - line(0.0)) / abs(h) for h, g in line.seen.items() if 0.0 < abs(h) <= 4.0 * line.size]
    natural = np.nanmax(slopes, initial=0.0)
    return scale <= 1e-3 * natural and error <= 1e-6 * natural


def _locate(problem, k, places, v, tolerance):
    """The coordinate that is wrong when only random directions have shown it: halve the direction's support."""
    while places.size > 1:
        halves = list(zip(np.array_split(places, 2), np.array_split(v, 2), strict=True))
        errors = [_compare(problem, k, "", *half, tolerance).error for half in halves]
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
