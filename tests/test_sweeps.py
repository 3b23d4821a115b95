"""Sweeps: results in order, resumption after a kill without repeating, failures, and other executors."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from minivi import kernels
from minivi.experiments import registry
from minivi.progress import bar
from minivi.sweeps import SweepError, sweep
from minivi.training import TrainingError

CELLS = [{"x": x, "scale": scale} for x in (1, 2, 3) for scale in (0.5, 2.0)]
EXPECTED = [{"product": c["x"] * c["scale"]} for c in CELLS]


def product(x, scale):
    """A cell; notes each call in the file that the environment names; has a bar, as what trains has."""
    list(bar([], progress=False, label="", unit="step"))
    if "SWEEP_LOG" in os.environ:
        with open(os.environ["SWEEP_LOG"], "a") as file:
            file.write(f"{x} {scale}\n")
    if "SWEEP_WAIT" in os.environ:
        time.sleep(float(os.environ["SWEEP_WAIT"]))
    return {"product": x * scale}


def fails(x, scale):
    if x == 2:
        raise ValueError("no such thing")
    return x


@pytest.fixture
def threads():
    """An executor in this process; cells set the number of kernel threads, which is put back."""
    count = kernels.get_threads()
    with ThreadPoolExecutor(1) as pool:
        yield pool
    kernels.set_threads(count)


def test_results_in_order_and_on_disk(tmp_path, threads):
    assert sweep(product, CELLS, tmp_path, executor=threads, progress=False) == EXPECTED
    about = json.loads((tmp_path / "x=2,scale=0.5.json").read_text())
    assert about["cell"] == {"x": 2, "scale": 0.5} and about["result"] == {"product": 1.0}


def test_finished_cells_are_not_repeated(tmp_path, threads, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("SWEEP_LOG", str(log))
    folder = tmp_path / "cells"
    sweep(product, CELLS[:4], folder, executor=threads, progress=False)
    assert sweep(product, CELLS, folder, executor=threads, resume=True, progress=False) == EXPECTED
    assert len(log.read_text().splitlines()) == len(CELLS)
    sweep(product, CELLS, folder, executor=threads, progress=False)
    assert len(log.read_text().splitlines()) == 2 * len(CELLS)


def test_a_failure_names_its_cell_and_keeps_the_others(tmp_path, threads):
    with pytest.raises(SweepError, match="x=2,scale=0.5: ValueError: no such thing"):
        sweep(fails, CELLS, tmp_path, executor=threads, progress=False)
    assert {p.name for p in tmp_path.iterdir()} == {"x=1,scale=0.5.json", "x=1,scale=2.0.json"}


def test_foreign_and_damaged_files(tmp_path, threads):
    sweep(product, CELLS, tmp_path, executor=threads, progress=False)
    with pytest.raises(SweepError, match="does not hold this cell"):
        sweep(fails, CELLS[:1], tmp_path, executor=threads, resume=True, progress=False)
    (tmp_path / "x=1,scale=0.5.json").write_text("{")
    with pytest.raises(SweepError, match="remove it"):
        sweep(product, CELLS, tmp_path, executor=threads, resume=True, progress=False)
    with pytest.raises(ValueError, match="equal"):
        sweep(product, CELLS[:1] * 2, tmp_path, executor=threads)


def test_a_function_does_not_take_the_place_of_another(tmp_path, threads):
    sweep(product, CELLS[:1], tmp_path, executor=threads, progress=False)
    before = (tmp_path / "x=1,scale=0.5.json").read_bytes()
    for resume in (True, False):
        with pytest.raises(SweepError, match=r"cell \(function was \S+product, is now \S+fails\); .* another folder"):
            sweep(fails, CELLS[:1], tmp_path, executor=threads, resume=resume, progress=False)
    assert (tmp_path / "x=1,scale=0.5.json").read_bytes() == before


FACTOR = 2.0


def uses_factor(x, scale):
    return x * scale * FACTOR


@pytest.mark.parametrize("what", ["code", "instruction_set"])
def test_cells_of_other_code_or_rounding_are_not_taken(tmp_path, threads, monkeypatch, what):
    """A constant that the function names is part of it. Without resume the cells are done again."""
    sweep(uses_factor, CELLS[:1], tmp_path, executor=threads, progress=False)
    if what == "code":
        monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    else:
        monkeypatch.setattr(kernels, "instruction_set", lambda: "other")
    with pytest.raises(SweepError, match=rf"x=1,scale=0.5.json does not hold this cell \({what} was \S+, is now \S+\)"):
        sweep(uses_factor, CELLS[:1], tmp_path, executor=threads, resume=True, progress=False)
    sweep(uses_factor, CELLS[:1], tmp_path, executor=threads, progress=False)
    assert len(sweep(uses_factor, CELLS[:1], tmp_path, executor=threads, resume=True, progress=False)) == 1


def of_numpy(x, scale):
    return {"x": np.float32(x), "list": np.array([x, scale]), "many": [np.int64(3), np.bool_(True)]}


def not_json(x, scale):
    return scale if x == 1 else {"x": {1, 2}}


def test_results_and_cells_of_numpy_are_numbers(tmp_path, threads):
    cells = [{"x": np.float32(0.5), "scale": np.int64(3)}]
    for resume in (False, True):
        found = sweep(of_numpy, cells, tmp_path, executor=threads, resume=resume, progress=False)
        assert found == [{"x": 0.5, "list": [0.5, 3.0], "many": [3, True]}]


def test_what_json_cannot_hold_is_refused_and_named(tmp_path, threads):
    with pytest.raises(SweepError, match="x=2,scale=0.5: TypeError: a set cannot be stored as JSON") as caught:
        sweep(not_json, CELLS, tmp_path, executor=threads, progress=False)
    assert "\n" not in str(caught.value)
    assert {p.name for p in tmp_path.iterdir()} == {"x=1,scale=0.5.json", "x=1,scale=2.0.json"}
    with pytest.raises(ValueError, match=r"cell \{'x': \{1\}\}: a set cannot be stored"):
        sweep(product, [{"x": {1}}], tmp_path, executor=threads, progress=False)


def test_a_folder_that_cannot_be_written_is_known_before_the_work(tmp_path, threads):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot write into .*file"):
        sweep(lambda: pytest.fail("called"), [{}], tmp_path / "file", executor=threads, progress=False)


def test_a_cell_of_a_study_in_a_folder_is_found_in_a_process(tmp_path, monkeypatch):
    """With what the study's files share, and beside a lesson of the same name."""
    from helpers import empty_registry  # not where another process imports this file

    study = tmp_path / "chapters" / "studies" / "ch99"
    study.mkdir(parents=True)
    (tmp_path / "chapters" / "ch99.py").write_text("raise AssertionError('the lesson is run')")
    (study / "_shared.py").write_text("def twice(x):\n    return 2 * x\n")
    (study / "cells.py").write_text(
        "from minivi_chapters.studies.ch99._shared import twice\n\n\ndef cell(x):\n    return twice(x)\n"
    )
    empty_registry(monkeypatch)
    monkeypatch.setenv("MINIVI_CHAPTERS", str(tmp_path / "chapters"))
    registry.load_chapters()
    cell = sys.modules["minivi_chapters.studies.ch99.cells"].cell
    assert sweep(cell, [{"x": 1}, {"x": 2}], tmp_path / "cells", progress=False) == [2, 4]
    about = json.loads((tmp_path / "cells" / "x=1.json").read_text())
    assert about["function"] == "minivi_chapters.studies.ch99.cells.cell"


class Picky(Exception):
    """Cannot be unpickled: pickle calls the class with one argument."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def troubled(x, scale):
    """Cells that end in several ways; the others take a while."""
    if x == 2:
        time.sleep(0.3)
        if scale == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if scale == "picky":
            raise Picky("this", "that")
        if scale == "exit":
            sys.exit("enough")
    time.sleep(60 if x == 9 else 1.0 if x == 1 else 0.0)
    return x


@pytest.mark.parametrize(
    ("scale", "match"),
    [
        ("killed", "x=2,scale=killed: its process ended with status -9"),
        ("picky", "x=2,scale=picky: Picky: this and that"),
        ("exit", "x=2,scale=exit: SystemExit: enough"),
    ],
)
def test_a_failure_in_a_process_is_told_of_the_right_cell(tmp_path, monkeypatch, scale, match):
    """Two processes at work: the other's cell, and those that wait, are not blamed; no process stays, hung or not."""
    if scale == "killed" and os.name != "posix":
        pytest.skip("kills by SIGKILL")
    monkeypatch.setattr(kernels, "get_threads", lambda: 2)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])]))
    cells = [{"x": x, "scale": scale} for x in (9, 2, 1, 3)]
    begun = time.monotonic()
    with pytest.raises(SweepError, match=match) as caught:
        sweep(troubled, cells, tmp_path, progress=False)
    assert time.monotonic() - begun < 40  # not the minute of the hung cell
    assert not multiprocessing.active_children() and "\n" not in str(caught.value)


def test_an_executor_that_breaks_names_the_cells_that_were_not_finished(tmp_path):
    class Broken(ThreadPoolExecutor):
        def submit(self, function, where, cell):
            future = Future()
            future.set_exception(BrokenExecutor("a worker died")) if cell["x"] == 2 else future.set_result(
                ("1", "", "")
            )
            return future

    with pytest.raises(
        SweepError, match=r"of these cells broke the executor, BrokenExecutor: a worker died: x=2,sc\S+; x=2,sc\S+$"
    ):
        sweep(product, CELLS, tmp_path, executor=Broken(1), progress=False)


HUNG = """
import signal
from tests.test_sweeps import troubled
from minivi.sweeps import sweep
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background processes ignore
    sweep(troubled, [{{"x": 3, "scale": 1}}, {{"x": 9, "scale": 1}}], {folder!r}, progress=False)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("send", ["kill", "killpg"])
def test_ctrl_c_ends_a_sweep_with_a_hung_cell(tmp_path, send):
    """SIGINT to all processes, as a terminal sends it, or one: ended at once, none left, no traceback of a worker."""
    script, folder, root = tmp_path / "run.py", tmp_path / "cells", Path(__file__).parents[1]
    script.write_text(HUNG.format(folder=str(folder)))
    env = os.environ | {"PYTHONPATH": str(root), "NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, str(script)]
    run = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (folder / "x=3,scale=1.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    getattr(os, send)(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode != 0 and err.count("Traceback") == 1 and err.strip().endswith("KeyboardInterrupt")
    with pytest.raises(ProcessLookupError):  # soon nobody of the group is left
        while time.monotonic() < deadline:
            os.killpg(run.pid, 0)
            time.sleep(0.01)


def test_odd_names_do_not_collide(tmp_path, threads):
    cells = [{"x": 1, "scale": 1.0, "name": name} for name in ("a/b", "a:b", "a" * 300, "a" * 299 + "b")]
    found = sweep(named, cells, tmp_path, executor=threads, progress=False)
    assert found == [c["name"] for c in cells]


def named(x, scale, name):
    return name


KILLED = """
from tests.test_sweeps import CELLS, product
from minivi.sweeps import sweep
if __name__ == "__main__":
    print(sweep(product, CELLS, {folder!r}, resume=True, progress=False))
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by SIGKILL")
def test_killed_half_way_goes_on_and_leaves_no_process(tmp_path):
    """The process pool in earnest: killed once some cells are there, then finished, each cell begun at most twice."""
    script, folder, log = tmp_path / "run.py", tmp_path / "cells", tmp_path / "log"
    script.write_text(KILLED.format(folder=str(folder)))
    root = Path(__file__).parents[1]
    env = os.environ | {"PYTHONPATH": str(root), "SWEEP_LOG": str(log), "SWEEP_WAIT": "0.3", "NUMBA_NUM_THREADS": "2"}
    first = subprocess.Popen([sys.executable, str(script)], env=env, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.json")) if folder.exists() else []) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = {p.name for p in folder.glob("*.json")}
    assert 2 <= len(kept) < len(CELLS)
    time.sleep(1.0)  # longer than a cell: a worker left alone would begin the next one
    begun = log.read_text().splitlines()
    second = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=True)
    assert second.stdout.strip() == str(EXPECTED)
    assert not second.stderr  # nothing of the operating system's is left behind
    again = log.read_text().splitlines()[len(begun) :]
    assert len(again) == len(CELLS) - len(kept)


def test_dask_runs_it_without_a_line_of_ours(tmp_path, monkeypatch):
    distributed = pytest.importorskip("dask.distributed", reason="needs dask: pip install distributed")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = sweep(product, CELLS, tmp_path, executor=client.get_executor(), progress=False)
    assert found == EXPECTED
