"""Pictures that read well in grey print: lines differ by dash and marker as well as by colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Dark to light in grey print; dashes and markers tell neighbours apart.
STYLES = [
    {"color": "#000000", "linestyle": "-", "marker": "o"},
    {"color": "#0b5394", "linestyle": "--", "marker": "s"},
    {"color": "#b45f06", "linestyle": "-.", "marker": "^"},
    {"color": "#38761d", "linestyle": ":", "marker": "D"},
    {"color": "#a64d79", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": "#777777", "linestyle": (0, (7, 2)), "marker": "P"},
]

# Added to a style: the second line of a pair, such as training beside test.
THIN = {"marker": "", "linewidth": 0.6}


def figure(width: float = 7.0, height: float = 4.5) -> Figure:
    """An empty figure, sizes in inches, without any global state."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def style(i: int, points: int = 10) -> dict[str, Any]:
    """Line style number ``i``, with a marker on about each tenth of ``points``."""
    return STYLES[i % len(STYLES)] | {"markersize": 4, "linewidth": 1.3, "markevery": max(1, points // 10)}


def tile(images: np.ndarray, shape: tuple[int, ...], columns: int, gap: int = 1, photo: bool = False) -> np.ndarray:
    """Images side by side in one array, white between them.

    Args:
        images: (N, D), values in [0, 1].
        shape: (H, W), D = H * W; or (H, W, 3) for colour, D = H * W * 3.
        columns: images in a row.
        gap: pixels between images.
        photo: whether 1 is light, as in photographs, and not ink; colour always is light.

    Returns:
        A 2-D array in which 0 is paper and 1 is ink; or, for colour, a 3-D one of red, green and blue light.
    """
    height, width, *colour = shape
    images = np.clip(images, 0.0, 1.0)
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *colour), 1.0 if colour else 0.0)
    for i, image in enumerate(1.0 - images if photo and not colour else images):
        r, c = divmod(i, columns)
        top, left = r * (height + gap), c * (width + gap)
        sheet[top : top + height, left : left + width] = image.reshape(shape)
    return sheet


def show(axes: Any, sheet: np.ndarray, title: str = "") -> None:
    """Draw a tiled sheet, ink black on white or in its colours, without ticks."""
    axes.imshow(sheet, cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=10)


def save(fig: Figure, path: Path) -> None:
    """Write a PNG of at most 300 kB, atomically."""
    from io import BytesIO

    from minivi.training import write_atomically

    for dpi in (130, 100, 75, 50):
        buffer = BytesIO()
        fig.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        if buffer.tell() <= 300_000:
            break
    write_atomically(path, buffer.getvalue())
