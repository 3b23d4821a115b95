"""The tests of kernels, engine, optimizers and random numbers again, on the plain NumPy twins."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

HERE = Path(__file__).parent
FILES = ["tensor", "ops", "gradcheck", "made", "vae", "kernels_vector", "kernels_matmul", "random", "optim"]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="this very run is without the JIT")
def test_suite_passes_on_the_twins():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        *(str(HERE / f"test_{name}.py") for name in FILES),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=HERE.parent, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
