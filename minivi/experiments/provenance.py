"""What a number depends on besides the code that computes it."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np


def environment() -> dict[str, Any]:
    """What a number depends on besides code: commit, versions, CPU, kernels."""
    import numba

    from minivi import kernels

    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "cpu": _cpu(),
        "threads": kernels.get_threads(),
        "matmul": kernels.matmul_backend(),
        "instruction_set": kernels.instruction_set(),
    }


def _commit() -> str | None:
    def git(*args):
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *args], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None  # not a git checkout


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
