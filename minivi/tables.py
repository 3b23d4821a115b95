"""Text tables for the terminal: aligned columns, wrapped to its width."""

from __future__ import annotations

import itertools
import shutil
import sys
import textwrap


def text_table(lines: list[list[str]], right: tuple[int, ...] = (), width: int | None = None) -> str:
    """Rows of cells as aligned text, the first row a heading.

    With a ``width``, cells that are too long for it go on below; where even that leaves no room for the columns, a row
    becomes one line a cell.
    """
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    gaps = 2 * (len(widths) - 1)
    spare = [
        0 if i in right else w - max([12, *(len(word) for line in lines for word in line[i].split())])
        for i, w in enumerate(widths)
    ]
    while width and sum(widths) + gaps > width and max(spare) > 0:  # no word is broken
        widest = max((i for i, s in enumerate(spare) if s > 0), key=widths.__getitem__)
        widths[widest] -= 1
        spare[widest] -= 1
    if width and sum(widths) + gaps > width:
        rows = ([f"{name}: {cell}".removeprefix(": ") for name, cell in zip(lines[0], line, strict=True) if cell]
                for line in lines[1:])  # fmt: skip
        return "\n\n".join(
            "\n".join(textwrap.fill(cell, width, subsequent_indent="  ") for cell in row) for row in rows
        )
    out = []
    for line in lines:
        parts = [textwrap.wrap(c, w) if len(c) > w else [c] for c, w in zip(line, widths, strict=True)]
        for cells in itertools.zip_longest(*parts, fillvalue=""):
            both = enumerate(zip(cells, widths, strict=True))
            out.append("  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in both).rstrip())
        if line is lines[0]:
            out.append("  ".join("-" * w for w in widths))
    return "\n".join(out)


def terminal_width() -> int | None:
    """Columns that a table may take: those of the terminal, any number (None) in a file or pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def duration(minutes: float) -> str:
    """A time to plan by: seconds, minutes, hours or days."""
    for limit, unit, name in ((1, 1 / 60, "s"), (100, 1, "min"), (48 * 60, 60, "h")):
        if minutes < limit:
            return f"{minutes / unit:.0f} {name}"
    return f"{minutes / 1440:.0f} days"
