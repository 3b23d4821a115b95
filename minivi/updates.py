"""An optimizer's step as one table of launches.

    gradients of up to 16,384 numbers   [finite?] [finite?]       before any change: one that is not finite stops all
    all parameters                      [_adam W] [_adam b] ...  in the order of ``optimizer.parameters``

The optimizer itself says what its kernels get: its ``_update`` is asked for each parameter once, and for the numbers
that change, such as corrections of bias, once a step. What is left behind, also by a gradient that is not finite, is
what ``optimizer.step`` leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minivi import validate
from minivi.kernels.shapes import now
from minivi.optim import _SMALL, Optimizer


def update_of(optimizer: Any, gradients: Sequence[np.ndarray]) -> Callable[[], None]:
    """What does ``optimizer.step(gradients)`` with what these arrays will hold.

    It is that method itself where the optimizer has one of its own, or a parameter or gradient is of no usual kind.
    """
    ours = type(optimizer).__module__ == Optimizer.__module__ and type(optimizer).step is Optimizer.step
    pairs = list(zip(optimizer.parameters, gradients, strict=False))
    plain = all(p.shape == g.shape and p.dtype == g.dtype and g.flags.c_contiguous and g.size for p, g in pairs)
    one = len({p.dtype for p in optimizer.parameters}) == 1 and len(gradients) == len(optimizer.parameters)
    return Update(optimizer, gradients) if ours and plain and one else partial(optimizer.step, gradients)


class Update:
    """One step of ``optimizer`` with each call; all arrays stay where they are."""

    def __init__(self, optimizer: Optimizer, gradients: Sequence[np.ndarray]):
        from minivi.kernels.arrays import as_launch
        from minivi.kernels.launches import Table
        from minivi.kernels.update import _all_finite

        self.optimizer, self.gradients = optimizer, gradients
        self._lost = np.zeros(8 // gradients[0].itemsize, gradients[0].dtype)  # one word for both: it stops the table
        self._word = self._lost.view(np.int64)  # for Python, which is faster than NumPy's any
        small = [g for g in gradients if g.size <= _SMALL]
        launches = [as_launch(_all_finite, g.size, (g, self._lost)) for g in small]
        self._first = len(launches)
        for kernel, arrays, scalars in self._asked(range(len(gradients)), 1.0):
            launches.append(as_launch(kernel, arrays[0].size, (*arrays, self._lost), scalars, arrays[0].size))
        self.table = Table(launches, stop=self._lost)

    def _asked(self, which, step_size):
        """Kernel, arrays and scalars of the ``which`` parameters' updates."""
        o, asked = self.optimizer, []
        now.updates = asked
        try:
            for k in which:
                o._update(o.parameters[k]._data, self.gradients[k], step_size, **o._arrays[k])
        finally:
            now.updates = None
        return asked

    def __call__(self) -> None:
        """Change every parameter once.

        Raises:
            ValueError, FloatingPointError: as ``optimizer.step``.
        """
        o = self.optimizer
        step_size = o.step_size(o.steps) if callable(o.step_size) else o.step_size
        if callable(o.step_size):
            validate.number(step_size, f"{o._name}.step: the step size at step {o.steps}", 0, ends="(]")
        o.steps += 1
        ((_, _, scalars),) = self._asked([0], step_size)
        self.table.scalars[self._first :, : len(scalars)] = scalars
        self._word.fill(0)
        self.table.run()
        if self._word.item():
            small_are = all(np.isfinite(g).all() for g in self.gradients if g.size <= _SMALL)
            state = "what is finite up to there has taken the step" if small_are else "nothing is changed"
            o.steps -= not small_are
            self._touch(small_are)
            raise FloatingPointError(o._not_finite(self.gradients, state))
        self._touch(True)

    def _touch(self, changed):
        for p in self.optimizer.parameters if changed else ():
            p._touch()
