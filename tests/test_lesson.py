"""Lessons: every cell shows something, scripts run, notebooks run in a kernel, stored results are shown."""

import os
import re
import subprocess
import sys

import pytest
from helpers import CHAPTERS

from minivi import cli, lesson, plots
from minivi.experiments import ExperimentError

LESSONS = sorted(path for path in CHAPTERS.glob("*.py") if not path.name.startswith("_"))
IN_A_KERNEL = [path for path in LESSONS if path.stem in ("ch02_aevb", "ch07_adam")]
SHOWS = re.compile(r"^(?:    )*(print|show|stored)\(", re.MULTILINE)


def cells(path):
    """The code cells of a lesson."""
    parts = re.split(r"^# %%(.*)\n", path.read_text(), flags=re.MULTILINE)[1:]
    return [text for kind, text in zip(parts[::2], parts[1::2], strict=True) if "markdown" not in kind]


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_every_cell_shows_something_and_the_first_picture_comes_early(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 250
    assert next(i for i, line in enumerate(lines, 1) if line.startswith(("show(", "    show("))) < 60
    for cell in cells(path):
        code = [line for line in cell.splitlines() if line.strip()]
        if not all(re.match(r"(from|import|[ )]|#)", line) for line in code):
            assert SHOWS.search(cell), f"a cell shows nothing: {code[0]} ..."
    assert "\nstored(" in path.read_text() or path.stem.startswith("how_")  # of the library, not of a source
    assert re.search(r"^# ## \d+\. Try", path.read_text(), re.MULTILINE)


ENVIRONMENT = os.environ | {"PYTHONPATH": str(CHAPTERS.parent)}
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("NUMBA", "OMP", "OPENBLAS", "MKL")}  # bits are those of several


def run(path, folder):
    """A lesson as a script: the finished process."""
    command = [sys.executable, "-W", "error", str(path)]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT | ONE_THREAD, capture_output=True, text=True)


@pytest.mark.parametrize("path", IN_A_KERNEL, ids=lambda p: p.stem)
def test_in_a_notebook(path, tmp_path, capsys):
    """All cells in a real Jupyter kernel: no error, and pictures inline."""
    pytest.importorskip("jupytext", reason="needs the extra 'notebook': pip install -e '.[notebook]'")
    manager = pytest.importorskip("jupyter_client.manager", reason="needs the extra 'notebook'")
    nbformat = pytest.importorskip("nbformat", reason="needs the extra 'notebook'")
    assert cli.main(["notebook", path.stem, "--out", str(tmp_path)]) == 0
    notebook = nbformat.read(tmp_path / f"{path.stem}.ipynb", as_version=4)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    kernel, client = manager.start_new_kernel(kernel_name="python3", cwd=str(tmp_path), env=ENVIRONMENT | ONE_THREAD)
    pictures = 0

    def see(message):
        nonlocal pictures
        assert message["msg_type"] != "error", message["content"]
        pictures += "image/png" in message["content"].get("data", {})

    try:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                client.execute_interactive(cell.source, output_hook=see, timeout=300)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    shown, keys = (
        re.findall(pattern, path.read_text(), re.MULTILINE) for pattern in (r"^ *show\(", r'^stored\("(.*)"\)')
    )
    capsys.readouterr()
    for key in keys:
        lesson.stored(key)
    assert pictures == len(shown) + capsys.readouterr().out.count("\nfigure: ")
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_as_a_script(path, tmp_path):
    done = run(path, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = {match for match in re.findall(r"figure: (runs/lesson/.*)", done.stdout)}
    assert shown and shown == {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png")}
    assert "Traceback" not in done.stderr


def test_stored_results_are_printed_or_refused(capsys):
    lesson.stored("ch02_aevb.bound")
    told = capsys.readouterr().out
    assert "thesis Figure 2.5, MNIST (budget laptop" in told and "holds: 3 latents" in told
    assert told.count("figure: ") == 1 and "bound_frey" not in told
    with pytest.raises(ExperimentError, match="no result of ch02_aevb.nothing; minivi run ch02_aevb.nothing --out"):
        lesson.stored("ch02_aevb.nothing")


def test_no_such_lesson(capsys):
    assert cli.main(["notebook", "nothing"]) == 2
    assert "no lesson 'nothing'; there are " in capsys.readouterr().err


def test_pictures_of_a_script_are_named_after_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["somewhere/mine.py"])
    lesson.show(plots.figure(), "curve")
    assert capsys.readouterr().out == "figure: runs/lesson/mine_curve.png\n"
    assert (tmp_path / "runs/lesson/mine_curve.png").exists()
