"""Progress bars: on a terminal or in a notebook, never into a file or pipe."""

from __future__ import annotations

import sys
from typing import Any

from minivi import kernels


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def visible(progress: Any) -> bool:
    """Whether a bar that is asked for has somebody who can see it."""
    return bool(progress) and (in_notebook() or bool(sys.stderr and sys.stderr.isatty()))


def bar(items: Any = None, *, progress: bool | str, label: str, unit: str, **options: Any) -> Any:
    """A ``tqdm`` bar over ``items``; one that shows nothing where it is not :func:`visible`.

    Args:
        items: an iterable, or None for a bar whose owner calls ``update``.
        progress: whether to show it, with this label if it is a string.
        label: the label without one of the caller's.
        unit: what an item is.
        options: of ``tqdm``.
    """
    from tqdm.auto import tqdm  # in a notebook the notebook's own

    label = progress if isinstance(progress, str) else label
    return tqdm(items, desc=label, unit=unit, dynamic_ncols=True, disable=not visible(progress), **options)


class Compiling:
    """While a bar is shown: says so when kernels are compiled, and leaves that time out of the bar's estimate."""

    def __init__(self, bar: Any):
        self.bar, self.compiled = bar, False

    def __enter__(self) -> Compiling:
        kernels.on_compile.append(self._tell)
        return self

    def __exit__(self, *error: Any) -> None:
        kernels.on_compile.remove(self._tell)

    def _tell(self, name: str) -> None:
        if not self.compiled:
            self.compiled = True
            self.bar.set_postfix_str("compiling kernels, once")

    def step_done(self) -> None:
        """To be called after each step, before the bar moves on."""
        if self.compiled:
            self.compiled = False
            self.bar.unpause()
            self.bar.set_postfix_str("", refresh=False)
