"""What a lesson shows: its pictures, inline in a notebook and as files of a script, and what the long runs have left.

show(fig, "curve")             a script writes runs/lesson/ch02_aevb_curve.png and prints that path
stored("ch02_aevb.bound")      the project's table, claims and picture of the experiment of that key
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from matplotlib.figure import Figure

from minivi import plots
from minivi.experiments import results
from minivi.experiments.page import pictures_of
from minivi.experiments.registry import chapter_folder
from minivi.progress import in_notebook

FOLDER = Path("runs/lesson")


def show(figure: Figure, name: str) -> None:
    """Show a figure that :func:`minivi.plots.figure` has made; ``name`` ends the name of a script's file."""
    if in_notebook():
        _inline(plots.png(figure), plots.describe(figure))
    else:
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{Path(sys.argv[0]).stem}_{name}.png"
        plots.save(figure, path)
        print(f"figure: {path}")


def stored(key: str) -> None:
    """Print the table and claims that a long run of an experiment has left in ``figures/``, and show its pictures.

    Raises:
        ExperimentError: there is no such result here.
    """
    stem = key.replace(".", "_")
    for folder in (Path(__file__).resolve().parents[1] / "figures", Path("figures")):
        about = results.stored(folder / f"{stem}.json")
        if about is not None:
            break
    else:
        raise results.ExperimentError(f"figures/ has no result of {key}; minivi run {key} --out figures makes one")
    print(results.as_text(about))
    for path in pictures_of(folder / f"{stem}.json", [path.stem for path in folder.glob("*.json")]):
        if in_notebook():
            _inline(path.read_bytes(), f"{key}: {about['mirrors']}")
        else:
            print(f"figure: {path}")


def notebook(name: str, out: str | os.PathLike = ".") -> Path:
    """Write a lesson as a Jupyter notebook, cell by cell, into the folder ``out``; returns its path.

    Raises:
        ExperimentError: no such lesson, or no jupytext.
    """
    lessons = {path.stem: path for path in chapter_folder().glob("*.py") if not path.stem.startswith("_")}
    if name not in lessons:
        raise results.ExperimentError(f"no lesson {name!r}; there are {', '.join(sorted(lessons)) or 'none'}")
    try:
        import jupytext
    except ModuleNotFoundError:
        raise results.ExperimentError("notebooks need jupytext: pip install -e '.[notebook]'") from None
    content = jupytext.read(lessons[name], fmt="py:percent")
    first = content.cells[0]
    if first.source.startswith('"""'):  # the lesson's docstring
        first.cell_type, first.source = "markdown", "# " + first.source.strip('"').strip()
        first.pop("outputs", None)
        first.pop("execution_count", None)
    path = Path(out) / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    jupytext.write(content, path)
    return path


def _inline(content, words):
    from IPython.display import Image, display

    display(Image(data=content, alt=words))
