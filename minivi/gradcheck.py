"""Gradient verification by finite differences, for primitives, users' functions, hand-written gradients and models.

A check contracts the result with a random cotangent u, moves the input along a direction v (a random one, or a single
coordinate) and compares two numbers in float64:

    numeric  = <u, f(x + h v) - f(x - h v)> / 2h        analytic = <vjp(u), v>

They must agree to ``tolerance`` relative to the larger, plus the rounding error that the difference itself has. A
second opinion needs no step size: the Taylor remainder |f(x + h v) - f(x) - h <vjp(u), v>| falls with slope 2 in h
when the gradient is right, with slope 1 when it is 1 % wrong. Where the two one-sided differences disagree however
small the step, the point is a kink, and reported as such instead of as a failure.
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
_EPS = np.finfo(np.float64).eps


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

    Verdicts: ``ok``; ``WRONG``; ``no scale`` (both derivatives drown in rounding errors: nothing is proved, which
    counts as a failure); ``zero`` (both are exactly 0); ``kink`` (not differentiable here: no verdict, no failure);
    ``empty`` (no elements). ``str(report)`` is a table with the worst row of each input, and names what failed.
    """

    title: str
    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No row failed, and at least one compared something."""
        return bool(self.rows) and not any(row.verdict in ("WRONG", "no scale") for row in self.rows)

    __bool__ = ok.fget

    @property
    def failures(self) -> list[Row]:
        """The rows with a wrong gradient, or too small a scale to prove anything."""
        return [row for row in self.rows if row.verdict in ("WRONG", "no scale")]

    def worst(self) -> list[Row]:
        """The row nearest to failing (or failed), for each input."""
        rank = {"WRONG": 5, "no scale": 4, "kink": 3, "ok": 2, "zero": 1, "empty": 0}
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
        text = [self.title, *table]
        for row in self.worst():
            if row.verdict == "no scale":
                text.append(f"{row.name}: its derivatives are below the rounding error {row.allowed:.1e}: rescale f")
            elif row.verdict == "WRONG":
                text.append(
                    f"WRONG gradient: {row.name}, {row.where}: analytic {row.analytic:.12g}, numeric {row.numeric:.12g}"
                )
        kinks = sum(row.verdict == "kink" for row in self.rows)
        if kinks:
            text.append(
                f"{kinks} of {len(self.rows)} checks met a kink (the one-sided derivatives differ): no verdict there"
            )
        return "\n".join(text)


def gradcheck(
    f: Callable,
    *inputs: Any,
    parameters: Sequence[Parameter] | Any = (),
    gradient: Callable | None = None,
    rng: Any = None,
    names: Sequence[str] | None = None,
    coordinates: int = 24,
    directions: int = 3,
    second: bool = False,
    step: float = STEP,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Report:
    """Check the gradient of ``f`` by finite differences in float64.

    Args:
        f: ``f(*inputs)`` of Tensors, returning a Tensor of any shape; with ``gradient``, of arrays, returning a number.
        inputs: float64 arrays or numbers.
        parameters: Parameters (or a Module) that ``f`` uses besides; they are moved in place, and restored.
        gradient: a hand-written gradient to check instead of the engine's: ``gradient(*inputs)`` returns an array, or a
            list of one for each input.
        rng: for a stochastic ``f``: a seed or a generator; ``f`` is then called as ``f(*inputs, rng=g)`` with the same
            fresh copy ``g`` each time, so that the noise is frozen.
        names: of the inputs, for the table.
        coordinates: single coordinates checked for each input (all if it has no more, else a random subset).
        directions: random directions through all coordinates, for each input.
        second: check second derivatives: the gradient of <gradient, w> for a random w.
        step: h of the central difference.
        tolerance: allowed relative error.
        seed: of the directions.

    Returns:
        A :class:`Report`; true in a boolean context when all is well.

    Raises:
        ValueError: ``f`` is not deterministic (pass ``rng=``), or its value is not finite.
        TypeError: an input is not of float64, or ``f`` returned no Tensor.

    Example:
        >>> print(gradcheck(lambda x: (x * x).sum(), np.ones(3)).ok)
        True
    """
    problem = _Problem(f, inputs, parameters, gradient, rng, names, second, seed)
    report = Report(f"gradient check of {getattr(f, '__name__', 'f')}")
    for k, x in enumerate(problem.points):
        if x.size == 0:
            report.rows.append(Row(problem.names[k], x.shape, "no elements", 0.0, 0.0, 0.0, 0.0, step, "empty"))
            continue
        every = np.arange(x.size)
        picked = every if x.size <= coordinates else problem.noise.choice(x.size, coordinates, replace=False)
        moves = [(_place(x, i), _unit(x, i)) for i in sorted(picked)]
        for d in range(directions if x.size > 1 else 0):
            v = problem.noise.standard_normal(x.shape)
            moves.append((f"direction {d}", v / np.sqrt(np.mean(v * v))))
        rows = [_compare(problem, k, where, v, step, tolerance) for where, v in moves]
        wrong = [v for (_, v), row in zip(moves, rows, strict=True) if row.verdict == "WRONG"]
        if wrong and not any(row.verdict == "WRONG" and row.where.startswith("[") for row in rows):
            rows.append(_locate(problem, k, wrong[0], step, tolerance))
        scale = max(max(abs(row.analytic), abs(row.numeric)) for row in rows)
        for row in rows:
            # A coordinate with derivative zero is fine beside others; an input whose every derivative is lost in
            # rounding errors has not been checked.
            if row.verdict == "no scale" and scale > row.allowed * 1e3:
                row.verdict = "ok"
        report.rows += rows
    return report


class _Problem:
    """The function to check, as a scalar function of flat float64 points, and its gradient."""

    def __init__(self, f, inputs, parameters, gradient, rng, names, second, seed):
        self.f, self.gradient, self.rng, self.second = f, gradient, rng, second
        self.noise = np.random.default_rng(seed)
        if hasattr(parameters, "named_parameters"):
            named = dict(parameters.named_parameters())
        else:
            named = {p.name or f"parameter {i}": p for i, p in enumerate(parameters)}
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
        first, again = self.value(*self.points)[0], self.value(*self.points)[0]
        if not np.isfinite(first):
            raise ValueError(f"gradcheck: f is {first} at this point; choose one where it is finite")
        if first != again:
            raise ValueError(
                f"gradcheck: f is not deterministic (two calls gave {first!r} and {again!r}); draw its noise from a "
                "keyword argument rng and pass rng=0 here, or pass the noise as a constant"
            )
        self.base = first
        self.slopes = self._slopes()

    def _call(self, *points, tensors=False):
        keywords = {} if self.rng is None else {"rng": _fresh(self.rng)}
        arguments = (
            [Tensor(x) for x in points[: self.arguments]] if not self.gradient else list(points[: self.arguments])
        )
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

    def _gradients(self, *points, differentiable=False):
        if self.gradient:
            gradients = self.gradient(*points)
            gradients = list(gradients) if isinstance(gradients, (list, tuple)) else [gradients]
            for name, x, g in zip(self.names, self.points, gradients, strict=True):
                if np.shape(g) != x.shape:
                    raise ValueError(f"gradcheck: gradient() gave shape {np.shape(g)} for {name} of shape {x.shape}")
            return [np.asarray(g, np.float64) for g in gradients]
        output, arguments = self._call(*points, tensors=True)
        leaves = [*arguments, *self.parameters]
        gradients = grad(output, leaves, cotangent=self.cotangent, differentiable=differentiable, unused="zeros")
        return (gradients, leaves) if differentiable else gradients

    def _slopes(self):
        """The gradient under test, one array for each point."""
        if not self.second:
            return self._gradients(*self.points)
        gradients, leaves = self._gradients(*self.points, differentiable=True)
        total = None
        for w, g in zip(self.weights, gradients, strict=True):
            term = (g * w).sum()
            total = term if total is None else total + term
        return grad(total, leaves, unused="zeros")

    def along(self, k, v, h):
        """<u, f> with the k-th point moved by h v, and its absolute terms; parameters are put back."""
        points = list(self.points)
        points[k] = points[k] + h * v
        try:
            return self.value(*points)
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


def _unit(x, i):
    v = np.zeros(x.shape)
    v.flat[i] = 1.0
    return v


def _place(x, i):
    return f"[{', '.join(map(str, np.unravel_index(i, x.shape)))}]" if x.ndim else "[]"


def _compare(problem, k, where, v, step, tolerance):
    analytic = float(np.sum(problem.slopes[k] * v))
    # Further from a kink or a steep bend a smaller step may do: try it before calling the gradient wrong.
    for h in (step, step / 10.0, step / 100.0):
        plus, minus = problem.along(k, v, h), problem.along(k, v, -h)
        numeric = (plus[0] - minus[0]) / (2.0 * h)
        rounding = 4.0 * _EPS * (plus[1] + minus[1]) / (2.0 * h)
        scale = max(abs(analytic), abs(numeric))
        allowed = tolerance * scale + rounding
        error = abs(analytic - numeric)
        if not error > allowed:
            # A symmetric kink hides from the central difference: the one-sided ones tell it from a smooth point.
            bend = abs(plus[0] - 2.0 * problem.base + minus[0]) / h
            if bend > 1e-3 * scale + 10.0 * rounding and _is_kink(problem, k, v, h, bend / 2.0):
                return Row(
                    problem.names[k], problem.points[k].shape, where, analytic, numeric, error, allowed, h, "kink"
                )
            break
        if h == step:
            first = Row(problem.names[k], problem.points[k].shape, where, analytic, numeric, error, allowed, h, "WRONG")
    verdict = "ok" if error <= allowed else "kink" if _is_kink(problem, k, v, step, error) else "WRONG"
    if verdict == "ok" and scale <= 10.0 * rounding:
        verdict = "zero" if scale == 0.0 else "no scale"
    if verdict == "WRONG":
        return first
    return Row(problem.names[k], problem.points[k].shape, where, analytic, numeric, error, allowed, h, verdict)


def _is_kink(problem, k, v, step, error):
    """Whether the one-sided derivatives differ by at least what has to be explained, and go on so for smaller steps."""
    gaps = []
    for h in (step, step / 10.0):
        plus, minus = problem.along(k, v, h), problem.along(k, v, -h)
        rounding = 4.0 * _EPS * (plus[1] + minus[1]) / h
        gaps.append(abs(plus[0] - 2.0 * problem.base + minus[0]) / h)
    return gaps[1] > max(0.5 * gaps[0], error, 10.0 * rounding)


def _locate(problem, k, v, step, tolerance):
    """The coordinate that is wrong when only random directions have shown it: halve the direction's support."""
    places = np.arange(v.size)
    while places.size > 1:
        halves = np.array_split(places, 2)
        errors = []
        for half in halves:
            part = np.zeros(v.shape)
            part.flat[half] = v.flat[half]
            errors.append(_compare(problem, k, "", part, step, tolerance).error)
        places = halves[int(np.argmax(errors))]
    return _compare(problem, k, _place(v, places[0]), _unit(v, places[0]), step, tolerance)


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
    moved = [problem.along(wrt, v, h) for h in steps]
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
