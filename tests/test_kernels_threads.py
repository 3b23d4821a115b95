"""Kernels in several Python threads and in forked processes, with each of Numba's thread layers."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

if numba.config.DISABLE_JIT:
    pytest.skip("with NUMBA_DISABLE_JIT=1 there are no threads", allow_module_level=True)

# Numba would end the process: the work queue if two Python threads use it at once, OpenMP in a forked child.
SCRIPT = """
import os, sys, threading
import numba, numpy as np
from minivi import kernels

x = np.linspace(-3, 3, 1 << 16, dtype=np.float32)
expected = kernels.tanh(x)
print(numba.threading_layer())


def same():
    return all(np.array_equal(kernels.tanh(x), expected) for _ in range(100))


results = []
threads = [threading.Thread(target=lambda: results.append(same())) for _ in range(2)]
for thread in threads:
    thread.start()
if numba.threading_layer() == "tbb":  # which cannot stop its threads for a fork while they work
    for thread in threads:
        thread.join()
if hasattr(os, "fork"):
    child = os.fork()
    if not child:
        try:
            kernels.set_threads(2)
            refused = False
        except ValueError as error:
            refused = "OpenMP" in str(error) and "spawn" in str(error)
        os._exit(2 * refused + same())
for thread in threads:
    thread.join()
print(results, kernels.get_threads())
if hasattr(os, "fork"):
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("layer", ["tbb", "omp", "workqueue"])
def test_python_threads_and_forks(layer):
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    environment.pop("NUMBA_THREADING_LAYER_PRIORITY", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],  # Python itself warns of forks beside threads
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=Path(__file__).parents[1],
    )
    if "No threading layer could be loaded" in done.stderr and sys.platform != "linux":
        pytest.skip(f"there is no {layer} here")
    forked = ["3" if layer == "omp" else "1"] if hasattr(os, "fork") else []  # OpenMP's child has one thread
    lines = [line for line in done.stdout.splitlines() if line and "Unable to join" not in line]  # TBB, when pressed
    assert lines == [layer, "[True, True] 2", *forked], done.stderr
