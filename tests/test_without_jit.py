"""The tests of kernels, engine, optimizers and random numbers again, on the plain NumPy twins."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

HERE = Path(__file__).parent
# two processes at once, which take about as long
FILES = ["gradcheck", "made", "random"], ["tensor", "ops", "vae", "kernels_vector", "kernels_matmul", "optim"]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="this very run is without the JIT")
def test_suite_passes_on_the_twins():
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    options = {"cwd": HERE.parent, "env": os.environ | {"NUMBA_DISABLE_JIT": "1"}, "text": True}
    running = [
        subprocess.Popen(
            command + [str(HERE / f"test_{name}.py") for name in names],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )
        for names in FILES
    ]
    for process, (out, _) in [(process, process.communicate()) for process in running]:
        assert process.returncode == 0, out[-3000:]
        assert " passed" in out
