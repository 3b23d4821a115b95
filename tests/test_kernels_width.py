"""The same bits from vectors of each width, for all that does not sum over the last axis."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

if numba.config.DISABLE_JIT:
    pytest.skip("with NUMBA_DISABLE_JIT=1 nothing is compiled", allow_module_level=True)

from minivi.kernels import jit

FEATURES = jit.FEATURES.split(",")
if "+avx512f" not in FEATURES:
    pytest.skip("about AVX-512, which this CPU does not have", allow_module_level=True)

SCRIPT = """
import hashlib, json
import numpy as np
from minivi import kernels as k

results = {}
for dtype in (np.float32, np.float64):
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape).astype(dtype)
    a, b, c = normal(130, 300), normal(300, 133), normal(130, 133)
    mask = np.sort(rng.integers(0, 9, 300))[:, None] <= np.sort(rng.integers(0, 9, 133))
    ranges, weights = k.Ranges(mask), b * mask.astype(dtype)
    results["matmul", dtype] = [k.matmul(a, b, bias=c[0]), k.matmul(a.T, c), k.matmul(c, b.T), k.matmul(a[:7], b)]
    results["accumulated", dtype] = [k.matmul(a, b, out=c.copy(), accumulate=True)]
    results["masked", dtype] = [k.masked_matmul(a, weights, ranges), k.masked_matmul(c, weights.T, ranges.T)]
    results["masked gradient", dtype] = [k.masked_weight_gradient(a, c, ranges)]
    if dtype is np.float32:
        ones = k.Ones((a > 0.5).astype(dtype))
        results["binary", dtype] = [k.binary_matmul(ones, b), k.binary_matmul(ones.T, c)]
        results["pointwise", dtype] = [k.tanh(a), k.softplus_vjp(a, a), k.gaussian_sample(a, a[0], a)]
        results["rows", dtype] = k.gaussian_log_prob_vjp(a[:, 0], a, a[0], a[1])
        results["normal", dtype] = [k.normal(1001, dtype, (1, 2, 3, 4), 5)]
        p, v = a.copy(), a * a
        k.adam_update(p, a[::-1].copy(), a.copy(), v, 0.1, 0.9, 0.999, 1.1, 1e-8, 0.01)
        results["adam", dtype] = [p, v]
digests = {f"{dtype.__name__} {name}": [hashlib.sha256(x.tobytes()).hexdigest() for x in arrays]
           for (name, dtype), arrays in results.items()}
print(json.dumps([k.instruction_set(), k.matmul_tile(), digests]))
"""


def results(**environment):
    """The instruction set, the tile and the results' sums of a process with these environment variables."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "MINIVI_MATMUL": "jit", **environment},
        cwd=Path(__file__).parents[1],
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_same_bits_for_each_tile_and_with_avx2_alone():
    name, wide, expected = results(MINIVI_TILE="64")
    assert name == jit.instruction_set() and name.startswith("avx512") and wide == 64
    name, narrow, found = results(MINIVI_TILE="32")
    assert name == jit.instruction_set() and narrow == 32
    assert found == expected
    avx2 = ",".join("-" + f[1:] if f[1:].startswith(("avx512", "avx10", "amx")) else f for f in FEATURES)
    name, narrow, found = results(NUMBA_CPU_FEATURES=avx2, MINIVI_TILE="auto")
    assert name == "avx2" and narrow == 32
    assert found == expected
