"""A table of launches gives the same bits for any number of pieces, also where fewer threads come than pieces wait."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
pytestmark = pytest.mark.skipif(not JIT, reason="without JIT there are no launches")
if JIT:
    from minivi.kernels import arrays, launches


def chain(pieces, length=60, stop=None):
    """x + y, then the sum so far times a number, again and again: each row needs all pieces of the one before."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((37, 211)).astype("f4") for _ in range(2))
    steps, at = [], x
    for k in range(length):
        out = np.empty_like(x)
        function, second = (np.add, y) if k % 2 else (np.multiply, np.float32(0.9))
        steps += arrays.as_launches(function, (at[::-1], second), {"out": (out,)}, None)
        at = out
    return launches.Table([(*call[:4], pieces) for call in steps], stop), at


@pytest.mark.parametrize("pieces", [2, 3, 7, 8, 9, 16])
def test_pieces_and_threads_that_do_not_come(pieces):
    alone, want = chain(1)
    alone.run()
    table, got = chain(pieces)
    for _ in range(50):
        got[:] = np.nan
        table.run()
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_no_launch_after_one_that_says_stop(pieces):
    stop = np.zeros(2, "f4")
    table, last = chain(pieces, stop=stop)
    for apart in (0, 2):  # by a team, and by threads of each launch's own
        last[:] = 7
        stop[1], table._apart = np.nan, apart
        table.run()
        assert (last == 7).all()
        stop[:] = 0
        table.run()
        assert not (last == 7).any()


def test_a_team_is_given_up_for_long_only_where_it_waits_again_and_again(monkeypatch):
    table, _ = chain(2)
    waits, fork = True, launches._fork

    def as_if_others_had_the_core(function, pointers, *rest):
        fork(function, pointers, *rest)
        table._settings[7] = waits

    monkeypatch.setattr(launches, "_fork", as_if_others_had_the_core)
    without = []
    for _ in range(8):
        table.run()
        without.append(table._apart)
        while table._apart:
            table.run()
    assert without == [1, 3, 7, 15, 31, 63, launches.APART, launches.APART]
    waits = False
    for _ in range(8):  # each run by a team: none is made up for
        table.run()
        assert not table._apart
    waits = True
    table.run()
    assert table._apart == 1


def test_several_python_threads_run_tables_of_their_own():
    alone, want = chain(1)
    alone.run()

    def work(_):
        table, got = chain(2)
        for _ in range(30):
            table.run()
        return got.tobytes()

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(work, range(3))) == {want.tobytes()}
