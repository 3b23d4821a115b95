"""What a lesson shows: its pictures, inline in a notebook and as files of a script, and what the long runs have left.

show(fig, "curve")             a script writes runs/lesson/ch02_aevb_curve.png and prints that path
stored("ch02_aevb.bound")      the project's table, claims and picture of the experiment of that key
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from minivi import plots
from minivi.experiments import results

FOLDER = Path("runs/lesson")


def show(figure: Figure, name: str) -> None:
    """Show a figure that :func:`minivi.plots.figure` has made; ``name`` ends the name of a script's file."""
    if "ipykernel" in sys.modules:
        _inline(plots.png(figure))
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
    others = [path.stem for path in folder.glob(f"{stem}_*.json")]  # bound_frey is no picture of bound
    for path in sorted(folder.glob(f"{stem}*.png")):
        if not path.stem.startswith(tuple(others)):
            if "ipykernel" in sys.modules:
                _inline(path.read_bytes())
            else:
                print(f"figure: {path}")


def _inline(content):
    from IPython.display import Image, display

    display(Image(data=content))
