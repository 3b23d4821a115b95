"""Numbers too small to be normal count as 0 in products, cotangents and updates, where they would cost a lot."""

import os

import numpy as np
import pytest

from minivi import kernels

JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
pytestmark = pytest.mark.skipif(not JIT, reason="NumPy has no switch for denormal numbers")
TINY = np.float32(1e-39)


@pytest.fixture(autouse=True)
def our_products(monkeypatch):
    if JIT:
        monkeypatch.setitem(kernels.matmul_backend.__globals__["_backends"], np.dtype("f4"), "jit")


def test_denormal_arguments_and_results_are_zero_where_it_is_said_and_nowhere_else():
    one, tiny, small = np.ones((20, 20), "f4"), np.full((20, 20), TINY), np.full((20, 20), np.float32(1e-25))
    assert not kernels.matmul(tiny, one).any() and not kernels.matmul(small, small).any()
    assert not kernels.tanh_vjp(tiny, one * 0).any()
    assert not kernels.scale_rows(small, small[0]).any()
    images, w = tiny.reshape(1, 20, 20, 1), one[:3, :3].reshape(3, 3, 1, 1)
    assert not kernels.conv2d(images, w).any()
    p, m, v = (np.full(5, n, "f4") for n in (1.0, 0.0, 0.0))
    kernels.adam_update(p, np.full(5, np.float32(1e-21)), m, v, 1e-3, 0.9, 0.999, 1.0, 1e-8, 0.0)
    assert not v.any() and m.any()
    assert (kernels.exp(one * -90) > 0).all(), "exp is right for them"
    assert (tiny * np.float32(0.5) > 0).all(), "the switch is as it was"
