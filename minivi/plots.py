"""Pictures that read well in grey print: lines differ by dash and marker as well as by colour."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from minivi.files import write_atomically

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


def grey_levels(images: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as the 256 levels that a picture has, uint8: what a study keeps of images for :func:`tile`."""
    return np.minimum(np.clip(images, 0.0, 1.0) * 256.0, 255.0).astype(np.uint8)


def tile(images: np.ndarray, shape: tuple[int, ...], columns: int, gap: int = 1, photo: bool = False) -> np.ndarray:
    """Images side by side in one array, white between them.

    Args:
        images: (N, D), values in [0, 1], or of :func:`grey_levels`.
        shape: (H, W), D = H * W; or (H, W, 3) for colour, D = H * W * 3.
        columns: images in a row.
        gap: pixels between images.
        photo: whether 1 is light, as in photographs, and not ink; colour always is light.

    Returns:
        A 2-D array in which 0 is paper and 1 is ink; or, for colour, a 3-D one of red, green and blue light.
    """
    height, width, *colour = shape
    images = images / 255.0 if images.dtype == np.uint8 else np.clip(images, 0.0, 1.0)
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *colour), 1.0 if colour else 0.0)
    for i, image in enumerate(1.0 - images if photo and not colour else images):
        r, c = divmod(i, columns)
        top, left = r * (height + gap), c * (width + gap)
        sheet[top : top + height, left : left + width] = image.reshape(shape)
    return sheet


def panel(axes: Any, title: str = "", x: str = "", y: str = "", log: str = "") -> Any:
    """Title, names of the axes (with units) and a thin grid for one panel of a figure; returns ``axes``.

    Args:
        axes: the panel.
        title: above it.
        x: name of the horizontal axis.
        y: name of the vertical axis.
        log: the logarithmic ones of the axes: "x", "y" or "xy".
    """
    for axis in log:
        getattr(axes, f"set_{axis}scale")("log")
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=9)
    axes.grid(True, linewidth=0.3)
    return axes


def show(axes: Any, sheet: np.ndarray, title: str = "") -> None:
    """Draw a tiled sheet, ink black on white or in its colours, without ticks."""
    axes.imshow(sheet, cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=10)


def describe(fig: Figure) -> str:
    """What a figure shows, in words for who cannot see it: titles and axes of its panels, names of its curves."""
    panels, named = [fig.get_suptitle()], []
    for axes in fig.axes:
        over = " over ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel())))
        panels.append(": ".join(filter(None, (axes.get_title(), over))))
        named += axes.get_legend_handles_labels()[1]
    words = [*panels, ("curves: " if named else "") + ", ".join(dict.fromkeys(named))]
    return " ".join("; ".join(filter(None, dict.fromkeys(words))).replace("$", "").split())


def legend_below(fig: Figure, panels: Any, columns: int = 8) -> None:
    """One legend under all panels, each label once, in as many columns as there is room for, at most ``columns``."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    rows = -(-len(entries) // columns)
    while True:
        n = -(-len(entries) // rows)
        legend = fig.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=n, fontsize=8)
        if legend.get_window_extent().width < 0.97 * fig.bbox.width or n == 1:
            return
        legend.remove()
        rows += 1


def save(fig: Figure, path: Path) -> None:
    """Write a PNG of at most 300 kB, atomically, after :func:`finish`."""
    write_atomically(path, png(fig))


def png(fig: Figure) -> bytes:
    """A PNG of at most 300 kB, after :func:`finish`."""
    finish(fig)
    for dpi in (130, 100, 75, 50):
        buffer = BytesIO()
        fig.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        if buffer.tell() <= 300_000:
            break
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------ the last touch
MARKED = "leaves the frame, marked"
OUTSIDE = "open triangles on a frame: there the curve goes on outside it"
PLACES = (
    "upper right", "upper left", "lower left", "lower right", "center right", "center left", "lower center",
    "upper center", "center",
)  # fmt: skip


def finish(fig: Figure) -> None:
    """Make a figure readable whatever its data are: ticks, whole markers, marks where curves leave, clear legends.

    On a logarithmic axis of few decades numbers stand between the powers of ten. Where a curve leaves its frame an open
    triangle points after it. A legend that would cover a curve goes to a free corner, or else beside the frame.
    """
    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):
            _log_ticks(axis)
    fig.draw_without_rendering()
    if sum(_whole_or_marked(axes) for axes in fig.axes):
        if fig.legends:  # which have the lower edge
            fig.suptitle("\n".join(filter(None, [fig.get_suptitle(), OUTSIDE])), fontsize=10)
        else:
            fig.supxlabel("\n".join(filter(None, [fig.get_supxlabel(), OUTSIDE])), fontsize=8)
        fig.draw_without_rendering()
    for axes in fig.axes:
        legend = axes.get_legend()
        if legend is None or not _covered(axes, legend.get_window_extent()):
            continue
        for place in PLACES:
            legend.set_loc(place)
            if not _covered(axes, legend.get_window_extent()):
                break
        else:
            legend.set_loc("upper left")
            legend.set_bbox_to_anchor((1.0, 1.0), transform=axes.transAxes)
    fig.draw_without_rendering()


def _log_ticks(axis):
    """Numbers between the powers of ten, written out, where few powers are in view: two, of large numbers one."""
    if not isinstance(axis.get_major_locator(), LogLocator):
        return
    low, high = sorted(axis.get_view_interval())
    places = lambda locator: [t for t in locator.tick_values(low, high) if low <= t <= high]
    if len(places(LogLocator())) >= (3 if high < 1e5 else 2):
        return
    for locator in (*(LogLocator(subs=s) for s in ((1, 3), (1, 2, 5), (1, 2, 3, 5, 7), range(1, 10))), MaxNLocator(5)):
        if len(places(locator)) >= 3:
            break
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1000 else f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


def _data_lines(axes):
    """The lines that show data, with their points on the canvas; no line across the whole frame, no mark of ours."""
    for line in axes.get_lines():
        if line.get_visible() and line.get_transform() == axes.transData and line.get_gid() != "mark":
            with np.errstate(all="ignore"):
                points = axes.transData.transform(line.get_xydata())
            yield line, points[np.isfinite(points).all(axis=1)] if line.get_linestyle() == "None" else points


def _inside(points, box, margin=0.0):
    """Which of ``points``, (N, 2), lie in a box that is ``margin`` pixels larger."""
    low, high = np.array([box.x0, box.y0]) - margin, np.array([box.x1, box.y1]) + margin
    return ((points >= low) & (points <= high)).all(axis=-1)


def _crossings(points, box):
    """Where a polygon through ``points`` enters or leaves the box, (n, 2)."""
    a, step = points[:-1], np.diff(points, axis=0)
    low, high = np.array([box.x0, box.y0]), np.array([box.x1, box.y1])
    with np.errstate(all="ignore"):
        t = np.sort(np.stack([(low - a) / step, (high - a) / step]), axis=0)
        # Parallel to an edge: always or never between the two
        between = (a >= low) & (a <= high)
        first = np.where(step == 0, np.where(between, -np.inf, np.inf), t[0]).max(axis=1)
        last = np.where(step == 0, np.where(between, np.inf, -np.inf), t[1]).min(axis=1)
    # A little room, because a point may lie on the frame
    seen, outside = (first - last < 1e-6) & (last > -1e-6) & (first < 1 + 1e-6), ~_inside(points, box, 1e-6)
    enters, leaves = seen & outside[:-1], seen & outside[1:]
    return np.concatenate([a[i] + t[i, None] * step[i] for t, i in ((first, enters), (last, leaves))])


def _whole_or_marked(axes):
    """No marker cut in half; a triangle wherever a curve crosses the frame. Returns how many curves leave."""
    leaving = 0
    box = axes.get_window_extent()
    for line, points in list(_data_lines(axes)):
        points = points[np.isfinite(points).all(axis=1)]
        inside = _inside(points, box, 0.5)
        if inside.all():
            if line.get_marker() not in ("None", "", None):
                line.set_clip_on(False)
            continue
        leaving += 1
        line.set_gid(MARKED)
        marks = points[~inside] if line.get_linestyle() == "None" else _crossings(points, box)
        if not len(marks):  # wholly outside: the point nearest to the frame
            beyond = np.maximum(np.maximum([box.x0, box.y0] - points, points - [box.x1, box.y1]), 0).sum(axis=1)
            marks = points[[beyond.argmin()]]
        style = {"linestyle": "None", "color": line.get_color(), "clip_on": False, "zorder": 3, "gid": "mark"}
        places = np.clip(axes.transAxes.inverted().transform(marks), 0.0, 1.0)
        for place in places[np.unique(np.round(marks / 6), axis=0, return_index=True)[1]]:
            edge = int(np.argmin([place[0], 1 - place[0], place[1], 1 - place[1]]))
            axes.plot(
                *place[:, None], marker="<>v^"[edge], markersize=7, markerfacecolor="white", label="_",
                transform=axes.transAxes, **style,
            )  # fmt: skip
        if line.get_marker() in ("None", "", None):
            continue
        every = line.get_markevery()
        start, step = every if isinstance(every, tuple) else (0, every or 1)
        x, y = np.ma.filled(line.get_xydata().T, np.nan)
        with np.errstate(all="ignore"):
            shown = _inside(axes.transData.transform(np.stack([x, y], axis=1)), box, 0.5)
        shown &= np.isin(np.arange(len(x)), np.arange(len(x))[start::step])
        if shown.any():
            (whole,) = axes.plot(x[shown], y[shown])
            whole.update_from(line)
            whole.set(linestyle="None", markevery=None, clip_on=False, gid="mark", label="_")
            line.set_marker("None")
    return leaving


def _covered(axes, box):
    """What of the axes' content lies in a box: "a curve", "points", "a bar" or "text"; or an empty string."""
    frame = axes.get_window_extent()
    for line in axes.get_lines():
        if not line.get_visible():
            continue
        with np.errstate(all="ignore"):
            points = line.get_transform().transform(line.get_xydata())
        if line.get_linestyle() != "None":
            points = _along(points)
        points = points[np.isfinite(points).all(axis=1)]
        reach = line.get_markersize() / 2 if line.get_marker() not in ("None", "", None) else 0.0
        if _inside(points[_inside(points, frame, 1.0)], box, reach * axes.figure.dpi / 72).any():
            return "a curve"
    for collection in axes.collections:
        if isinstance(collection, ContourSet):
            continue  # a background
        if isinstance(collection, PathCollection):
            points = collection.get_offset_transform().transform(collection.get_offsets())
            if _inside(points[_inside(points, frame)], box).any():
                return "points"
            continue
        for path in collection.get_paths():
            points = _along(collection.get_transform().transform(path.vertices))
            if _inside(points[_inside(points, frame, 1.0)], box).any():
                return "a curve"
    for patch in axes.patches:
        if patch.get_window_extent().overlaps(box):
            return "a bar"
    if any(text.get_text() and text.get_window_extent().overlaps(box) for text in axes.texts):
        return "text"
    return ""


def _along(points, step=2.0):
    """Points on the canvas at most ``step`` pixels apart along a polygon."""
    lengths = np.abs(np.diff(points, axis=0)).max(axis=1, initial=0.0)
    lengths = np.where(np.isfinite(lengths), np.minimum(lengths, 4000.0), 0.0)
    parts = [
        a + (b - a) * np.linspace(0.0, 1.0, int(n / step) + 2)[:, None]
        for a, b, n in zip(points[:-1], points[1:], lengths, strict=True)
    ]
    return np.concatenate([points, *parts])


def problems(fig: Figure) -> list[str]:
    """What can be measured to be wrong with a figure, a line each; empty if nothing is.

    Text outside the figure, text over text, a legend or a note over curves, a legend over points, bars or text, a curve
    that is nowhere to be seen or leaves its frame without a mark, and a marker cut by the frame.
    """
    fig.draw_without_rendering()
    wrong = []
    texts = [t for t in _texts(fig) if t.get_visible() and t.get_text().strip()]
    texts = [(text.get_text().replace("\n", " / "), text.get_window_extent()) for text in texts]
    for i, (what, box) in enumerate(texts):
        if not _inside(box.corners(), fig.bbox, 1.0).all():
            wrong.append(f"text outside the figure: {what}")
        for other, beside in texts[:i]:
            overlap = Bbox.intersection(box, beside)
            if overlap is not None and min(overlap.width, overlap.height) > 1.0:
                wrong.append(f"text over text: {other} | {what}")
    for legend in fig.legends:
        if not _inside(legend.get_window_extent().corners(), fig.bbox, 1.0).all():
            wrong.append("a figure's legend is cut")
        if any(axes.get_window_extent().overlaps(legend.get_window_extent()) for axes in fig.axes):
            wrong.append("a figure's legend over a panel")
    for axes in fig.axes:
        name, frame, legend = axes.get_title() or axes.get_ylabel(), axes.get_window_extent(), axes.get_legend()
        if legend is not None and _covered(axes, legend.get_window_extent()):
            wrong.append(f"{name}: the legend over {_covered(axes, legend.get_window_extent())}")
        for line, points in _data_lines(axes):
            for text in axes.texts:
                if _inside(_along(points), text.get_window_extent()).any():
                    wrong.append(f"{name}: the note {text.get_text()} over a curve")
            points = points[np.isfinite(points).all(axis=1)]
            label = f"{name}: {line.get_label()}"
            if not len(points) and "diverges" not in line.get_label():
                wrong.append(f"{label}: no point to be seen")
            marked = line.get_gid() == MARKED
            inside = _inside(points, frame, 0.5)
            if not inside.all() and not marked:
                wrong.append(f"{label}: leaves the frame without a mark")
            if line.get_marker() not in ("None", "", None) and line.get_clip_on():
                cut = inside & ~_inside(points, frame, -line.get_markersize() / 2 * fig.dpi / 72)
                if cut.any():
                    wrong.append(f"{label}: a marker is cut by the frame")
    return wrong


def _texts(fig):
    """All text artists, without the labels of ticks out of view."""
    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if axes.axison and low <= tick.get_loc() <= high:
                    yield from (tick.label1, tick.label2)
            yield axis.label
        yield from (axes.title, axes._left_title, axes._right_title, *axes.texts)
        if axes.get_legend():
            yield from axes.get_legend().get_texts()
    for legend in fig.legends:
        yield from legend.get_texts()
    yield from fig.texts
