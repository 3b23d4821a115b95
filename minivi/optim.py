"""Optimizers, averaging of parameters and step-size schedules. All of them *minimise*.

    optimizer = Adam(model.parameters(), step_size=1e-3)
    optimizer.step(grad(loss, optimizer.parameters))      # gradients in the order of the parameters

An optimizer is its hyperparameters, the number ``steps`` of steps done, and a few arrays for each parameter, of its
shape and dtype. A step is one pass over each parameter (minivi/kernels/update.py). ``step_size`` is a number or a
schedule, a function of the 0-based number of the step: ``lambda step: 1e-3 * 0.9999**step``.

``weight_decay`` adds ``weight_decay * p`` to the gradient of each parameter p, before anything else is done with it.
That is a Gaussian prior on the weights: if the loss is a mean over N data, the log-density of N(0, s^2), counted once
for the whole data set, amounts to ``weight_decay = 1 / (N s^2)``.

Optimizers that square gradients take what is beyond 2^63 (9e18) in float32, 2^511 in float64, for that much, so that
one huge gradient makes one step of the usual size. Infinite ones and NaN show in the parameters.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Any

import numpy as np

from minivi import kernels, validate
from minivi.tensor import Parameter

StepSize = float | Callable[[int], float]
# Gradients of at most so many numbers are looked at before anything is changed (2 us each), larger ones block by block
# as they are used: to read them twice would cost 3 % of a step. A NaN that reaches a weight reaches the bias too.
_SMALL = 16_384


class _Tracker:
    """Parameters, arrays that go with them, and a count of steps."""

    def __init__(self, parameters: Iterable[Parameter], slots: tuple[str, ...], fractions: dict[str, float]):
        self._name = type(self).__name__
        if not isinstance(parameters, Iterable) or isinstance(parameters, Parameter):
            raise ValueError(
                f"{self._name}: needs a list of Parameters, model.parameters(); got {validate.brief(parameters)}"
            )
        self.parameters = list(parameters)
        if not self.parameters or not all(isinstance(p, Parameter) for p in self.parameters):
            kinds = [type(p).__name__ for p in self.parameters]
            raise ValueError(f"{self._name}: needs a list of one or more Parameters; got {kinds}")
        seen: dict[int, int] = {}
        for i, p in enumerate(self.parameters):
            if seen.setdefault(id(p), i) != i:
                raise ValueError(
                    f"{self._name}: parameter {seen[id(p)]} ({p.name}) is listed again as {i}; list it once"
                )
        for name, value in fractions.items():
            validate.number(value, f"{self._name}: {name}", 0, 1, "[)")
        self.steps = 0
        # With the index, since parts of a model may use the same names; with the name, so that a changed order shows.
        self._keys = [f"{i}.{p.name}" if p.name else str(i) for i, p in enumerate(self.parameters)]
        self._arrays = [{slot: np.zeros_like(p._data) for slot in slots} for p in self.parameters]

    def _named(self):
        pairs = zip(self._keys, self._arrays, strict=True)
        return {f"{key}.{slot}": array for key, arrays in pairs for slot, array in arrays.items()}

    def state_dict(self) -> dict[str, np.ndarray | int]:
        """Copies of the arrays, by "<index>.<parameter's name>.<array's name>", and "step", the number of steps done.

        Hyperparameters are not part of it.
        """
        return {"step": self.steps} | {name: array.copy() for name, array in self._named().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`, to the same bits as if never stopped; all or nothing.

        Raises:
            ValueError: an entry is missing or unknown, or a shape or dtype differs.
        """
        named = self._named()
        missing, unknown = sorted({"step", *named} - state.keys()), sorted(state.keys() - {"step", *named})
        if missing or unknown:
            raise ValueError(
                f"{self._name}.load_state_dict: missing {missing or 'none'}, unknown {unknown or 'none'}; the state "
                "belongs to other parameters or settings"
            )
        step = state["step"]
        if not isinstance(step, Integral) or isinstance(step, bool) or step < 0:
            raise ValueError(f"{self._name}.load_state_dict: step must be an integer >= 0; got {step!r}")
        for name, array in named.items():
            new = np.asarray(state[name])
            if new.shape != array.shape or new.dtype != array.dtype:
                raise ValueError(
                    f"{self._name}.load_state_dict: {name} is {array.dtype} of shape {array.shape}, the state's "
                    f"{new.dtype} of shape {new.shape}; the state belongs to other parameters"
                )
        self.steps = int(step)
        for name, array in named.items():
            array[...] = state[name]


class Optimizer(_Tracker):
    """What all optimizers share; a subclass names its arrays and updates one parameter in ``_update``.

    Args:
        parameters: what to change, each listed once.
        step_size: positive, or a function of the 0-based number of the step that gives such.
        weight_decay: at least 0.
        slots: names of the arrays to keep for each parameter.
        fractions: hyperparameters that must lie in [0, 1), by name.
        eps: added to a denominator; positive.

    Raises:
        ValueError: no parameters, one of them twice, or a hyperparameter out of range.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        step_size: StepSize,
        weight_decay: float = 0.0,
        *,
        slots: tuple[str, ...] = (),
        fractions: dict[str, float] | None = None,
        eps: float = 1.0,
    ):
        super().__init__(parameters, slots, fractions or {})
        if not callable(step_size):
            validate.number(step_size, f"{self._name}: step_size", 0, ends="(]")
        validate.number(weight_decay, f"{self._name}: weight_decay", 0)
        validate.number(eps, f"{self._name}: eps", 0, ends="(]")
        self.step_size, self.weight_decay, self.eps = step_size, weight_decay, eps

    def __repr__(self) -> str:
        options = [f"{k}={v!r}" for k, v in vars(self).items() if k[0] != "_" and isinstance(v, (bool, int, float))]
        return f"{self._name}({', '.join(options)}): {len(self.parameters)} arrays of parameters"

    def step(self, gradients: Iterable[np.ndarray]) -> None:
        """Change every parameter once.

        Args:
            gradients: of the loss, one for each of ``parameters``, in that order, of its shape and dtype.

        Raises:
            ValueError: the wrong number of gradients, a wrong shape or dtype, or a schedule that gives no positive
                step size. Nothing is changed then.
            FloatingPointError: a gradient has a NaN or infinity. None of them reaches a parameter or the state. Nothing
                at all is changed if a gradient of up to 16,384 numbers, such as a bias', has one; else the rest of
                that parameter and those before it have taken the step.
        """
        if isinstance(gradients, np.ndarray) or not isinstance(gradients, Iterable):
            raise ValueError(
                f"{self._name}.step: needs a list of gradients, such as grad(loss, optimizer.parameters); got "
                f"{validate.brief(gradients)}"
            )
        gradients = [np.asarray(g) for g in gradients]
        if len(gradients) != len(self.parameters):
            raise ValueError(f"{self._name}.step: {len(gradients)} gradients for {len(self.parameters)} parameters")
        for key, p, g in zip(self._keys, self.parameters, gradients, strict=True):
            if g.shape != p.shape or g.dtype != p.dtype:
                raise ValueError(
                    f"{self._name}.step: parameter {key} is {p.dtype} of shape {p.shape}, its gradient {g.dtype} of "
                    f"shape {g.shape}; gradients go in the order of `parameters`"
                )
        step_size = self.step_size(self.steps) if callable(self.step_size) else self.step_size
        if callable(self.step_size):
            validate.number(step_size, f"{self._name}.step: the step size at step {self.steps}", 0, ends="(]")
        for g in gradients:
            if g.size <= _SMALL and not np.isfinite(g).all():  # of this size quicker than a kernel
                raise FloatingPointError(self._not_finite(gradients, "nothing is changed"))
        self.steps += 1
        for p, g, arrays in zip(self.parameters, gradients, self._arrays, strict=True):
            try:
                self._update(p._data, np.asarray(g, order="C"), step_size, **arrays)
            except FloatingPointError:
                message = self._not_finite(gradients, "what is finite up to there has taken the step")
                raise FloatingPointError(message) from None
            finally:
                p._touch()

    def _not_finite(self, gradients, state):
        """What to say of the first gradient that is not finite."""
        key, g = next((key, g) for key, g in zip(self._keys, gradients, strict=True) if not np.isfinite(g).all())
        bad = ~np.isfinite(g)
        place = tuple(map(int, np.argwhere(bad)[0]))
        return (
            f"{self._name}.step: the gradient of parameter {key} is {g[place]} at {place} of shape {g.shape} "
            f"({bad.sum()} of {g.size} not finite); {state}; detect_nonfinite() names the cause"
        )

    def _update(self, p, g, step_size, **arrays):
        raise NotImplementedError(f"{self._name} defines no _update")


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for.

    With d the gradient: v = momentum * v + d and p -= step_size * v; the velocity v is in units of the gradient, so a
    change of step size acts at once. ``nesterov`` steps by d + momentum * v instead: Nesterov's method in the form of
    Bengio, Boulanger-Lewandowski and Pascanu (2013), whose p is the point that Sutskever et al. (2013) look ahead to,
    where they take the gradient; theirs is p + step_size * momentum * v (for a constant step size).

    Args:
        parameters, step_size, weight_decay: see :class:`Optimizer`.
        momentum: in [0, 1).
        nesterov: needs momentum.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        step_size: StepSize,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        slots = ("velocity",) if momentum else ()
        super().__init__(parameters, step_size, weight_decay, slots=slots, fractions={"momentum": momentum})
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov=True needs a momentum above 0, for instance 0.9")
        self.momentum, self.nesterov = momentum, nesterov

    def _update(self, p, g, step_size, velocity=None):
        kernels.sgd_update(p, g, velocity, step_size, self.weight_decay, self.momentum, self.nesterov)


class AdaGrad(Optimizer):
    """AdaGrad (Duchi et al., 2010; thesis, section 7.4.2): p -= step_size * d / (sqrt(sum of all d^2 so far) + eps)."""

    def __init__(
        self,
        parameters: Iterable[Parameter],
        step_size: StepSize = 1e-2,
        *,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, step_size, weight_decay, slots=("total",), eps=eps)

    def _update(self, p, g, step_size, total):
        kernels.adagrad_update(p, g, total, step_size, self.eps, self.weight_decay)


class AdaDelta(Optimizer):
    """AdaDelta (Zeiler, 2012, Algorithm 1): d times the RMS of recent steps over the RMS of recent d.

    n is the running average of d^2, c = sqrt(s + eps) / sqrt(n + eps) * d the step, s the running average of c^2 (of
    the steps before this one, in c), and p -= step_size * c.

    Args:
        parameters, step_size, weight_decay: see :class:`Optimizer`; Zeiler has no step size, which is 1.
        decay: of both running averages, in [0, 1).
        eps: positive; also sets how large the first steps are.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        step_size: StepSize = 1.0,
        *,
        decay: float = 0.95,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        slots = ("square", "square_step")
        super().__init__(parameters, step_size, weight_decay, slots=slots, fractions={"decay": decay}, eps=eps)
        self.decay = decay

    def _update(self, p, g, step_size, square, square_step):
        kernels.adadelta_update(p, g, square, square_step, step_size, self.decay, self.eps, self.weight_decay)


class RMSProp(Optimizer):
    """RMSProp (Tieleman and Hinton, 2012), with the variants of Graves (2013); thesis, section 7.4.1.

    p -= step_size * v, with v = momentum * v + d / sqrt(n - m^2 + eps), n the running average of d^2, and m that of d
    if ``centred``, else 0. As in Graves, eps is inside the root, no bias is corrected and momentum is on the rescaled
    gradient; n - m^2, which rounding can make negative, counts as at least 0.

    Args:
        parameters, step_size, weight_decay: see :class:`Optimizer`.
        decay: of the running averages, in [0, 1).
        eps: positive.
        centred: divide by the standard deviation of the gradient, not its root mean square.
        momentum: in [0, 1).
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        step_size: StepSize = 1e-3,
        *,
        decay: float = 0.9,
        eps: float = 1e-8,
        centred: bool = False,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ):
        slots = ("square", *["mean"] * bool(centred), *["velocity"] * bool(momentum))
        fractions = {"decay": decay, "momentum": momentum}
        super().__init__(parameters, step_size, weight_decay, slots=slots, fractions=fractions, eps=eps)
        self.decay, self.momentum = decay, momentum

    def _update(self, p, g, step_size, square, mean=None, velocity=None):
        scalars = (step_size, self.decay, self.eps, self.momentum, self.weight_decay)
        kernels.rmsprop_update(p, g, square, mean, velocity, *scalars)


class Adam(Optimizer):
    """Adam (thesis, algorithm 6): p -= step_size * m_hat / (sqrt(v_hat) + eps).

    m and v are running averages of d and d^2 that start at 0, and m_hat = m / (1 - beta1^t), v_hat = v / (1 - beta2^t)
    correct that bias at step t = 1, 2, ... Section 7.2's other order of computation, ``reordered``, is
    p -= a_t * m / (sqrt(v) + eps) with a_t = step_size * sqrt(1 - beta2^t) / (1 - beta1^t): the same if its eps is
    sqrt(1 - beta2^t) times the other's.

    Args:
        parameters, step_size, weight_decay: see :class:`Optimizer`.
        beta1, beta2: decay rates in [0, 1).
        eps: positive; outside the root.
        reordered: whether to use the order of section 7.2.
        bias_correction: without it, m and v take the place of m_hat and v_hat, in either order: RMSProp with momentum
            on the gradient, as Figure 7.1 compares it.

    Example:
        >>> from minivi.tensor import grad
        >>> w = Parameter(np.array([1.0, -2.0]))
        >>> optimizer = Adam([w], step_size=0.1)
        >>> optimizer.step(grad((w * w).sum(), optimizer.parameters))
        >>> w.data.round(3)
        array([ 0.9, -1.9])
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        step_size: StepSize = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        reordered: bool = False,
        bias_correction: bool = True,
        weight_decay: float = 0.0,
    ):
        fractions = {"beta1": beta1, "beta2": beta2}
        super().__init__(parameters, step_size, weight_decay, slots=("m", "v"), fractions=fractions, eps=eps)
        self.beta1, self.beta2 = beta1, beta2
        self.reordered, self.bias_correction = reordered, bias_correction

    def _update(self, p, g, step_size, m, v):
        unbias = 1.0
        if self.bias_correction:
            # eq. 7.4
            step_size, unbias = step_size / (1 - self.beta1**self.steps), 1 / (1 - self.beta2**self.steps)
        if self.reordered:  # the thesis prints v-hat here, which would correct the bias twice: v is meant
            step_size, unbias = step_size / math.sqrt(unbias), 1.0
        kernels.adam_update(p, g, m, v, step_size, self.beta1, self.beta2, unbias, self.eps, self.weight_decay)


class AdaMax(Optimizer):
    """AdaMax (thesis, algorithm 7): p -= step_size / (1 - beta1^t) * m / u.

    m is the running average of d and u = max(beta2 * u, |d|) (eq. 7.11). Where u = 0, p stays: no gradient has come
    yet, or none is remembered (beta2 = 0).

    Args:
        parameters, step_size, weight_decay: see :class:`Optimizer`.
        beta1, beta2: decay rates in [0, 1).
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        step_size: StepSize = 2e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        weight_decay: float = 0.0,
    ):
        fractions = {"beta1": beta1, "beta2": beta2}
        super().__init__(parameters, step_size, weight_decay, slots=("m", "u"), fractions=fractions)
        self.beta1, self.beta2 = beta1, beta2

    def _update(self, p, g, step_size, m, u):
        step_size = step_size / (1 - self.beta1**self.steps)
        kernels.adamax_update(p, g, m, u, step_size, self.beta1, self.beta2, self.weight_decay)  # eq. 7.11


class Average(_Tracker):
    """Temporal averaging (thesis, section 7.6.2): mean = beta2 * mean + (1 - beta2) * p, over 1 - beta2^t.

        average = Average(optimizer.parameters)
        ...; optimizer.step(gradients); average.update()
        with average:                       # the parameters are the averages in here, and themselves again after
            evaluate(model)

    Rounding leaves the average of a constant within eps / (2 (1 - beta2)) of it: 3e-5, relative, in float32 at 0.999.

    Args:
        parameters: what to average, each listed once.
        beta2: decay rate in [0, 1).

    Raises:
        ValueError: no parameters, one of them twice, or ``beta2`` out of range.
    """

    def __init__(self, parameters: Iterable[Parameter], beta2: float = 0.999):
        super().__init__(parameters, ("mean",), {"beta2": beta2})
        self.beta2 = beta2
        self._kept: list[np.ndarray] | None = None

    def update(self) -> None:
        """Take the present values into the average; after each step of the optimizer.

        Raises:
            RuntimeError: within ``with``, where the present values are the averages.
        """
        if self._kept is not None:
            raise RuntimeError("Average.update: the parameters are their averages inside `with`; update after it")
        self.steps += 1
        for p, arrays in zip(self.parameters, self._arrays, strict=True):
            kernels.average_update(arrays["mean"], p._data, self.beta2)

    def values(self) -> list[np.ndarray]:
        """The averages, corrected for the bias of starting at 0, in the order of ``parameters``.

        Raises:
            RuntimeError: before the first update.
        """
        if self.steps == 0:
            raise RuntimeError("Average.values: nothing to average yet; call update() after each step")
        return [arrays["mean"] / (1 - self.beta2**self.steps) for arrays in self._arrays]

    def __enter__(self) -> "Average":
        """Put the averages in place of the parameters."""
        if self._kept is not None:
            raise RuntimeError("Average: `with` cannot be nested; the parameters are their averages already")
        values, self._kept = self.values(), [p._data.copy() for p in self.parameters]
        self._assign(values)
        return self

    def __exit__(self, *exception: object) -> None:
        """Put the parameters back."""
        self._assign(self._kept)
        self._kept = None

    def _assign(self, values):
        for p, value in zip(self.parameters, values, strict=True):
            p.assign(value)


def constant(step_size: float) -> Callable[[int], float]:
    """The schedule that always gives ``step_size``; ValueError unless it is positive."""
    validate.number(step_size, "constant: step_size", 0, ends="(]")
    return lambda step: step_size


def inverse_sqrt(step_size: float) -> Callable[[int], float]:
    """step_size / sqrt(t) at step t = 1, 2, ...: the annealing of section 7.4.2 (``step`` = t - 1).

    Raises:
        ValueError: ``step_size`` is not positive.
    """
    validate.number(step_size, "inverse_sqrt: step_size", 0, ends="(]")
    return lambda step: step_size / math.sqrt(step + 1)


def linear(start: float, end: float, steps: int) -> Callable[[int], float]:
    """From ``start`` at step 0 in equal parts to ``end`` at step ``steps``, and on at ``end``.

    Raises:
        ValueError: ``steps`` is less than 1, or a step size not positive.
    """
    validate.number(start, "linear: start", 0, ends="(]")
    validate.number(end, "linear: end", 0, ends="(]")
    validate.number(steps, "linear: steps", 1)
    return lambda step: start + (end - start) * min(step / steps, 1.0)


def burda(steps_per_epoch: int, step_size: float = 1e-3) -> Callable[[int], float]:
    """step_size * 10^(-i/7) for 3^i epochs, i = 0 to 7 (Burda, Grosse and Salakhutdinov, 2015, section 5).

    The changes come after 1, 4, 13, 40, 121, 364 and 1093 epochs, and the end of the run after 3280; a longer one goes
    on at step_size / 10.

    Raises:
        ValueError: ``steps_per_epoch`` is no integer of at least 1, or ``step_size`` not positive.
    """
    validate.count(steps_per_epoch, "burda: steps_per_epoch")
    validate.number(step_size, "burda: step_size", 0, ends="(]")
    ends = [(3**i - 1) // 2 for i in range(1, 8)]
    return lambda step: step_size * 10 ** (-bisect_right(ends, step // steps_per_epoch) / 7)


class AveragedAdam(Adam):
    """:class:`Adam` that averages the parameters after each step (thesis section 7.6.2).

    Args:
        parameters, step_size: as for :class:`Adam`.
        beta2: of the :class:`Average`.

    Attributes:
        average: the :class:`Average`, part of the optimizer's state.
    """

    def __init__(self, parameters: Iterable[Parameter], step_size: StepSize = 1e-3, beta2: float = 0.999):
        super().__init__(parameters, step_size)
        self.average = Average(self.parameters, beta2)

    def step(self, gradients: Iterable[np.ndarray]) -> None:
        """One step, and one of the average."""
        super().step(gradients)
        self.average.update()

    def state_dict(self) -> dict[str, Any]:
        """Adam's, and the average's as "average.<name>"."""
        return super().state_dict() | {f"average.{k}": v for k, v in self.average.state_dict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        average = {k.removeprefix("average."): v for k, v in state.items() if k.startswith("average.")}
        super().load_state_dict({k: v for k, v in state.items() if not k.startswith("average.")})
        self.average.load_state_dict(average)
