"""Sweeps: results in order, resumption after a kill without repeating, failures, and other executors."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minivi import kernels
from minivi.sweeps import SweepError, sweep

CELLS = [{"x": x, "scale": scale} for x in (1, 2, 3) for scale in (0.5, 2.0)]
EXPECTED = [{"product": c["x"] * c["scale"]} for c in CELLS]


def product(x, scale):
    """A cell; notes each call in the file that the environment names."""
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
    again = log.read_text().splitlines()[len(begun) :]
    assert len(again) == len(CELLS) - len(kept)


def test_dask_runs_it_without_a_line_of_ours(tmp_path, monkeypatch):
    distributed = pytest.importorskip("dask.distributed", reason="needs the extra: pip install 'minivi[cluster]'")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = sweep(product, CELLS, tmp_path, executor=client.get_executor(), progress=False)
    assert found == EXPECTED
