"""Numbers too small to be normal count as 0 in products, cotangents and updates, and cost no more than others."""

import os
import time

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


def seconds(run):
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return min(times)


def test_a_product_with_denormal_numbers_takes_no_longer():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((200, 300)).astype("f4"), rng.standard_normal((300, 200)).astype("f4")
    usual = seconds(lambda: kernels.matmul(a, b))
    assert seconds(lambda: kernels.matmul(a * TINY, b)) < 5 * usual  # it was 300


def test_an_update_by_small_gradients_takes_no_longer():
    rng = np.random.default_rng(0)
    g = rng.standard_normal(50_000).astype("f4")

    def update(scale):
        p, m, v = (np.ones_like(g) * n for n in (1, 0, 0))
        return seconds(lambda: kernels.adam_update(p, g * np.float32(scale), m, v, 1e-3, 0.9, 0.999, 1.0, 1e-8, 0.0))

    assert update(1e-21) < 5 * update(1.0)  # it was 45


def test_denormal_arguments_and_results_are_zero_where_it_is_said_and_nowhere_else():
    one, tiny, small = np.ones((20, 20), "f4"), np.full((20, 20), TINY), np.full((20, 20), np.float32(1e-25))
    assert not kernels.matmul(tiny, one).any() and not kernels.matmul(small, small).any()
    assert not kernels.tanh_vjp(tiny, one * 0).any()
    assert not kernels.scale_rows(small, small[0]).any()
    assert (kernels.exp(one * -90) > 0).all(), "exp is right for them"
    assert (tiny * np.float32(0.5) > 0).all(), "the switch is as it was"
