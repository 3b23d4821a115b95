"""The generator: words against published vectors, numbers against their formulas, draws against their distributions.

Seeds are fixed: a statistical test passes for good or not at all. Its threshold leaves a right generator a chance of
1e-3 or less to have failed when the seed was chosen.
"""

import itertools
import json
import math

import numba
import numpy as np
import pytest
from scipy import stats

from minivi import kernels
from minivi.kernels.reference import random as twins
from minivi.random import Generator, default_rng

JIT = not numba.config.DISABLE_JIT
if JIT:
    from minivi.kernels import jit
    from minivi.kernels import random as compiled
# With NUMBA_DISABLE_JIT=1 there are no kernels; the twins are tested alone, against the same values.
each_module = pytest.mark.parametrize("module", [compiled, twins] if JIT else [twins], ids=lambda m: m.__name__)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
F, KEY = 0xFFFFFFFF, (0xDEADBEEF, 1, 0xFFFFFFFF, 7)


@each_module
@pytest.mark.parametrize(
    "counter, key, words",  # Random123's file kat_vectors, philox4x32 10
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((F, F, F, F), (F, F), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(module, counter, key, words):
    got = module.philox_words(4, (*key, *counter[2:]), counter[0] + (counter[1] << 32))
    assert got.dtype == np.uint32 and got.tolist() == list(words)


@each_module
@pytest.mark.parametrize("counter", [0, 2**32 - 2, 2**64 - 2])
def test_a_piece_follows_from_its_position(module, counter):
    """Carries from the low word of the counter to the high one, and wraps round at the end."""
    whole = module.philox_words(16, KEY, counter)
    for block in range(4):
        piece = module.philox_words(4, KEY, (counter + block) % 2**64)
        assert np.array_equal(piece, whole[4 * block : 4 * block + 4])
    assert len(set(whole.tolist())) == 16


@each_module
def test_numbers_are_made_of_words_as_the_text_says(module):
    n = 400
    w = module.philox_words(2 * n, KEY, 3).tolist()
    wide = [low + (high << 32) for low, high in zip(w[::2], w[1::2], strict=True)]
    assert module.uniform(n, np.float32, KEY, 3).tolist() == [(x >> 8) / 2**24 for x in w[:n]]
    assert module.uniform(n, np.float64, KEY, 3).tolist() == [(x >> 11) / 2**53 for x in wide]
    for dtype, source, bits in ((np.float32, w[:n], 32), (np.float64, wide, 64)):
        expected = []
        for v, x in zip(source[::2], source[1::2], strict=True):
            u = float(np.float32(v >> 1) * 2**-31 + np.float32(2**-32)) if bits == 32 else ((v >> 11) + 1) / 2**53
            offset = x % 2 ** (bits - 2) / 2 ** (bits - 2)  # in right angles; the upper half is below 0
            angle = math.pi / 2 * ((x >> (bits - 2)) + offset - (offset >= 0.5))
            expected += [math.sqrt(-2 * math.log(u)) * f(angle) for f in (math.cos, math.sin)]
        eps = np.finfo(dtype).eps  # the angle above is rounded at 2 pi, so a zero of cos is off by that
        np.testing.assert_allclose(module.normal(n, dtype, KEY, 3), expected, rtol=3 * eps, atol=4e-15)


@each_module
@dtypes
def test_bernoulli_compares_words(module, dtype):
    rng = np.random.default_rng(0)
    for shape in ((), (1,), (7,), (33, 41)):
        p = np.asarray(rng.random(shape), dtype)
        words = module.philox_words(p.size, KEY, 3)
        got = module.bernoulli(p, KEY, 3)
        assert got.dtype == dtype and got.shape == shape
        assert got.ravel().tolist() == [
            float(w < 2**32 * x) for w, x in zip(words.tolist(), p.ravel().tolist(), strict=True)
        ]
    n = 4096
    assert (
        module.bernoulli(np.zeros(n, dtype), KEY, 0).max() == 0
        and module.bernoulli(np.ones(n, dtype), KEY, 0).min() == 1
    )


if JIT:

    @pytest.mark.parametrize("n", [0, 1, 2, 3, 1023, 1025, 70_001])
    @dtypes
    def test_kernel_and_twin(n, dtype):
        for counter in (0, 2**32 - 1):
            args = (KEY, counter)
            assert np.array_equal(compiled.philox_words(n, *args), twins.philox_words(n, *args))
            assert np.array_equal(compiled.uniform(n, dtype, *args), twins.uniform(n, dtype, *args))
            p = twins.uniform(n, dtype, (1, 2, 3, 4), 0)
            assert np.array_equal(compiled.bernoulli(p, *args), twins.bernoulli(p, *args))
            ours, theirs = compiled.normal(n, dtype, *args), twins.normal(n, dtype, *args)
            assert ours.dtype == theirs.dtype == dtype and ours.shape == theirs.shape == (n,)
            np.testing.assert_array_max_ulp(ours, theirs, 4, dtype)

    @dtypes
    def test_any_number_of_threads_gives_the_same_bits(dtype):
        n, before, results = 100_001, jit.get_threads(), []
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            jit.set_threads(threads)
            u = compiled.uniform(n, dtype, KEY, 9)
            results.append((u, compiled.normal(n, dtype, KEY, 9), compiled.bernoulli(u, KEY, 9)))
        jit.set_threads(before)
        pieces = [compiled.normal(4, dtype, KEY, 9 + block) for block in range(n // 8)]
        for other in results[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
        stride = 16 // np.dtype(dtype).itemsize  # elements of a block
        for block, piece in enumerate(pieces):
            start = block * stride
            assert np.array_equal(results[0][1][start : start + 4], piece)


LAWS = {
    "random": ((), stats.uniform()),
    "uniform": ((-1.0, 3.0), stats.uniform(-1, 4)),
    "standard_normal": ((), stats.norm()),
    "normal": ((1.0, 2.0), stats.norm(1, 2)),
    "standard_exponential": ((), stats.expon()),
    "exponential": ((3.0,), stats.expon(scale=3)),
    "gumbel": ((1.0, 2.0), stats.gumbel_r(1, 2)),
    "logistic": ((-1.0, 0.5), stats.logistic(-1, 0.5)),
}


@pytest.mark.parametrize("law", LAWS)
@dtypes
def test_distributions(law, dtype):
    parameters, expected = LAWS[law]
    x = getattr(Generator(1), law)(*parameters, size=100_000, dtype=dtype)
    assert x.dtype == dtype
    x = x.astype(np.float64)
    assert stats.kstest(x, expected.cdf).pvalue > 1e-3
    mean, variance, _, excess = (float(m) for m in expected.stats("mvsk"))
    assert abs(x.mean() - mean) < 4 * math.sqrt(variance / x.size)
    assert abs(x.var() - variance) < 4 * variance * math.sqrt((excess + 2) / x.size)


@dtypes
def test_no_draw_is_infinite(dtype, monkeypatch):
    for u in (0.0, 1 - 2.0**-53):  # the ends of what a uniform number can be
        monkeypatch.setattr(kernels, "uniform", lambda n, dtype, key, counter, u=u: np.full(n, u, dtype))
        for law in ("standard_exponential", "gumbel", "logistic"):
            assert np.isfinite(getattr(Generator(0), law)(size=1, dtype=dtype))


@dtypes
def test_tails_of_normals(dtype):
    n = 2_000_000
    x = np.abs(Generator(2).standard_normal(n, dtype))
    for bound in (3.0, 4.0, 4.5, 5.0):
        count, expected = np.count_nonzero(x > bound), 2 * n * stats.norm.sf(bound)
        assert stats.poisson.cdf(count, expected) > 1e-3 and stats.poisson.sf(count - 1, expected) > 1e-3
    assert x.min() < 5e-6 and x.max() < 6.7


@pytest.mark.parametrize("law", ["random", "standard_normal"])
@dtypes
def test_draws_and_streams_are_uncorrelated(law, dtype):
    n, parent = 100_000, Generator(3)
    children = parent.spawn(3)
    streams = [getattr(g, law)(n, dtype) for g in (parent, *children, Generator(4), children[0].spawn(1)[0])]
    for power in (1, 2):  # squares too: a pair of normals shares its radius
        series = [stats.zscore(x.astype(np.float64) ** power) for x in streams]
        pairs = list(itertools.combinations(series, 2))
        pairs += [(x[:-lag], x[lag:]) for x in series[:2] for lag in (1, 2, 3, 4, 1024)]
        assert max(abs(np.mean(a * b)) for a, b in pairs) < 4.5 / math.sqrt(n)


def test_pairs_fill_the_square():
    u = Generator(5).random((100_000, 2), np.float32)
    counts = np.histogram2d(*u.T, bins=16, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_bernoulli():
    g, p = Generator(6), np.array([0.0, 1e-3, 0.3, 0.5, 0.999, 1.0], np.float32)
    mean = g.bernoulli(p, size=(50_000, 6)).mean(axis=0, dtype=np.float64)
    assert np.all(np.abs(mean - p) <= 4 * np.sqrt(p * (1 - p) / 50_000))
    assert g.bernoulli(p).dtype == np.float32 and g.bernoulli(p, dtype=bool).dtype == bool
    assert g.bernoulli([0, 1]).tolist() == [0.0, 1.0] and g.bernoulli([0, 1]).dtype == np.float64
    assert g.bernoulli(1.0) == 1.0 and type(g.bernoulli(1.0)) is float
    view = np.tile(np.array([[0.0], [1.0]]), 6)[:, ::2].T
    view.flags.writeable = False
    assert np.array_equal(g.bernoulli(view), view)


def test_integers():
    g = Generator(7)
    assert stats.chisquare(np.bincount(g.integers(11, size=110_000))).pvalue > 1e-3
    # Of three quarters of all 64-bit words, a modulus would favour the first quarter, two to one.
    wide = g.integers(0, 3 * 2**62, 30_000, dtype=np.uint64)
    assert stats.chisquare(np.bincount((wide >> np.uint64(62)).astype(int))).pvalue > 1e-3
    x = g.integers([-5, 2**63 - 2], [-2, 2**63], (1000, 2))
    assert np.unique(x[:, 0]).tolist() == [-5, -4, -3] and np.unique(x[:, 1]).tolist() == [2**63 - 2, 2**63 - 1]
    for dtype, low, high in ((np.int8, -128, 127), (np.uint8, 0, 255), (bool, 0, 1)):
        x = g.integers(low, high, 5000, dtype=dtype, endpoint=True)
        assert x.dtype == dtype and x.min() == low and x.max() == high
    full = g.integers(-(2**63), 2**63, 1000)
    assert abs(np.mean(full / 2**63)) < 0.1
    bits = full.view(np.uint8).reshape(-1, 8)
    assert np.all(np.abs(np.unpackbits(bits, axis=1).mean(axis=0) - 0.5) < 0.07)


def test_permutations_are_equally_likely():
    g, table = Generator(8), {p: i for i, p in enumerate(itertools.permutations(range(4)))}
    counts = np.bincount([table[tuple(g.permutation(4).tolist())] for _ in range(4800)], minlength=24)
    assert stats.chisquare(counts).pvalue > 1e-3
    x = np.arange(3000).reshape(1000, 3)
    shuffled, in_place, names = g.permutation(x), x.copy(), [*"abcdefgh"]
    g.shuffle(in_place)
    g.shuffle(names)
    for result in (shuffled, in_place):
        assert not np.array_equal(result, x) and np.array_equal(result[np.argsort(result[:, 0])], x)
    assert names != [*"abcdefgh"] and sorted(names) == [*"abcdefgh"]


def test_choice():
    g, p = Generator(9), np.array([0.1, 0.0, 0.2, 0.7])
    counts = np.bincount(g.choice(4, 20_000, p=p), minlength=4)
    assert counts[1] == 0 and stats.chisquare(counts[p > 0], 20_000 * p[p > 0]).pvalue > 1e-3
    # Two without replacement: P(i, j) = p_i p_j / (1 - p_i).
    drawn = [tuple(g.choice(4, 2, replace=False, p=p).tolist()) for _ in range(6000)]
    pairs = {(i, j): p[i] * p[j] / (1 - p[i]) for i in (0, 2, 3) for j in (0, 2, 3) if i != j}
    assert set(drawn) == set(pairs)
    assert stats.chisquare([drawn.count(k) for k in pairs], [6000 * v for v in pairs.values()]).pvalue > 1e-3
    assert sorted(g.choice(50, 50, replace=False)) == list(range(50))
    assert stats.chisquare(np.bincount(g.choice(5, (100, 100)).ravel())).pvalue > 1e-3
    rows = np.arange(6).reshape(3, 2)
    assert g.choice(rows, (4, 5)).shape == (4, 5, 2) and g.choice(rows).shape == (2,)
    assert g.choice(["x"]) == "x" and g.choice(0, 0).shape == (0,)


CALLS = [
    ("random",), ("random", 3), ("random", (2, 3), "float32"), ("random", None, np.float32), ("random", ()),
    ("random", 0), ("standard_normal", [2, 3]), ("normal",), ("normal", [1, 2], 1), ("normal", 0, [1, 2], (3, 2)),
    ("normal", np.zeros(())), ("normal", 0, 1, ()), ("uniform", 1, [2, 3]), ("exponential", 2, 3), ("gumbel",),
    ("logistic", 0, 1, np.int64(4)), ("standard_exponential", 2, np.float32), ("integers", 5), ("integers", 5, 9, 3),
    ("integers", 3, None, None, np.uint8), ("integers", [1, 2], 5), ("integers", 0, 2, (), bool), ("permutation", 5),
    ("permutation", np.eye(3, dtype=np.float32)), ("permutation", [1, 2]), ("choice", 5, 2), ("choice", [1.5]),
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_shapes_and_types_are_those_of_numpy(call):
    name, *args = call
    ours, theirs = (getattr(g, name)(*args) for g in (Generator(0), np.random.default_rng(0)))
    assert np.shape(ours) == np.shape(theirs) and type(ours) is type(theirs)
    assert getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)


def draw_everything(g):
    """A bit of each law, in odd sizes."""
    return [
        g.random(5), g.random(3, np.float32), g.standard_normal(7), g.random(), g.gumbel(size=2),
        g.integers(1000, size=9), g.permutation(11), g.bernoulli(np.full(5, 0.5)), g.choice(9, 3, replace=False),
    ]  # fmt: skip


def test_state_round_trip_through_json():
    g = Generator(10)
    draw_everything(g)
    state = json.loads(json.dumps(g.state))
    expected = draw_everything(g)
    other = Generator()
    other.state = state
    assert other.state == state
    for a, b in zip(draw_everything(other), expected, strict=True):
        assert np.array_equal(a, b)
    assert other.state == g.state


@pytest.mark.parametrize("change", [
    {"bit_generator": "PCG64"}, {"key": [1, 2, 3]}, {"key": [1, 2, 3, 2**32]}, {"key": [1, 2, 3, 0.5]}, {"key": "abcd"},
    {"counter": -1}, {"counter": 2**64}, {"counter": 1.0}, {"counter": True}, {"has_uint32": 0},
])  # fmt: skip
def test_foreign_states_are_refused(change):
    g = Generator(11)
    before = g.state
    for state in (before | change, np.random.default_rng(0).bit_generator.state, None):
        with pytest.raises(ValueError, match="Generator.state: needs bit_generator 'Philox4x32-10'"):
            g.state = state
    assert g.state == before


@pytest.mark.parametrize("method, dtype, elements", [
    ("random", np.float32, 4), ("random", np.float64, 2), ("standard_normal", np.float32, 4),
    ("standard_normal", np.float64, 2), ("standard_exponential", np.float32, 2),
])  # fmt: skip
def test_whole_blocks_continue_each_other(method, dtype, elements):
    whole, parts = Generator(12), Generator(12)
    draw = [getattr(g, method) for g in (whole, parts)]
    joined = np.concatenate([draw[1](n, dtype) for n in (3 * elements, elements, 1)])
    assert np.array_equal(draw[0](4 * elements + 1, dtype), joined)
    assert whole.state == parts.state and whole.state["counter"] == 5


def test_spawned_streams():
    g, twin = Generator(13), Generator(13)
    children = g.spawn(2) + g.spawn(1)
    assert g.state["counter"] == 3
    assert [c.state for c in children] == [c.state for c in twin.spawn(3)]
    assert g.random() == twin.random()
    draws = [x.random(4).tolist() for x in (g, *children, children[0].spawn(1)[0])]
    assert len({d[0] for d in draws}) == 5
    assert g.spawn(0) == []


def test_seeds():
    first = [Generator(s).random() for s in (5, (5,), (5, 0), (0, 5), 2**200 + 5, 6, 0, ())]
    assert len(set(first)) == 8
    assert Generator(np.int64(5)).random() == Generator(5).random() == first[0]
    assert Generator(np.array([5, 0])).random() == first[2]
    assert Generator().state != Generator().state
    g = Generator(5)
    assert default_rng(g) is g and default_rng(5).state == g.state


def test_the_stream_of_a_seed_stays_as_it_is():
    """Results that are published with their seed hang on these bits, with Numba and without."""
    g = Generator(0)
    key = [2968811710, 3677149159, 745650761, 2884920346]
    assert g.state == {"bit_generator": "Philox4x32-10", "key": key, "counter": 0}
    assert [x.hex() for x in g.random(2).tolist()] == ["0x1.298dccc49d6c8p-1", "0x1.fee4a6255bd1ep-2"]
    assert g.random(2, np.float32).tolist() == [0.5533077716827393, 0.0047838687896728516]
    assert g.integers(1000, size=5).tolist() == [62, 370, 568, 333, 339]
    assert g.permutation(6).tolist() == [5, 4, 3, 0, 1, 2]
    assert g.bernoulli([0.5] * 8).tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    assert g.spawn(1)[0].state["key"] == [3370482068, 466056670, 4037145863, 3370893431]
    expected = [0.523174214556826, -0.027426610947063744, 0.17195506989103734]
    np.testing.assert_allclose(g.standard_normal(3), expected, rtol=1e-15)


P = [0.5, 0.5]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda g: Generator(-1), "the seed must be an integer >= 0, a sequence of such or None; got -1"),
        (lambda g: Generator(True), "got True"),
        (lambda g: Generator(1.0), r"got 1\.0"),
        (lambda g: Generator("12"), "got '12'"),
        (lambda g: Generator([1, -1]), "got"),
        (lambda g: g.random(-1), "random: size must be an integer >= 0, a tuple of such or None; got -1"),
        (lambda g: g.random(2.0), r"random: size .* got 2\.0"),
        (lambda g: g.random((2, True)), "size"),
        (lambda g: g.normal(0, -1), "normal: the scale must be finite and at least 0"),
        (lambda g: g.normal(0, math.nan), "scale"),
        (lambda g: g.uniform(2, 1), "uniform: the scale .*high at least low"),
        (lambda g: g.normal(np.zeros(3), 1, 2), r"normal: parameters of shape \(3,\) do not broadcast to size \(2,\)"),
        (lambda g: g.normal(np.zeros((1, 3)), 1, 3), "do not broadcast"),
        (lambda g: g.bernoulli(1.5), r"bernoulli: probabilities must lie in \[0, 1\]; got 1\.5 to 1\.5"),
        (lambda g: g.bernoulli([0.5, math.nan]), "nan"),
        (lambda g: g.bernoulli(P, size=3), "do not broadcast"),
        (lambda g: g.integers(5, 5), "integers: from low = 5 to high = 5 is empty"),
        (lambda g: g.integers(0, 300, dtype=np.uint8), "beyond what uint8 can hold"),
        (lambda g: g.integers([1, 2], 5, 3), r"parameters of shape \(2,\) do not broadcast"),
        (lambda g: g.choice(3, 4, replace=False), "choice: 4 of 3 elements asked for; take fewer, or replace=True"),
        (lambda g: g.choice(2, 2, False, [1.0, 0.0]), "choice: 2 of 1 elements"),
        (lambda g: g.choice(0), "choice: 1 of 0 elements"),
        (lambda g: g.choice(2, p=[0.5, 0.6]), "choice: p must be 2 probabilities, at least 0 and of sum 1"),
        (lambda g: g.choice(2, p=[1.5, -0.5]), "choice: p"),
        (lambda g: g.choice(3, p=P), "choice: p must be 3 probabilities"),
        (lambda g: g.permutation(-1), "permutation"),
        (lambda g: g.spawn(-1), "spawn"),
    ],
)
def test_bad_values(call, message):
    g = Generator(0)
    with pytest.raises(ValueError, match=message):
        call(g)
    assert g.state["counter"] == 0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda g: g.random(dtype=np.int32), "random: dtype must be float64 or float32, not int32"),
        (lambda g: g.normal(dtype=np.float16), "normal: dtype"),
        (lambda g: g.integers(2.5), r"integers: low and high must be integers; got 0 and 2\.5"),
        (lambda g: g.permutation(2.5), r"permutation: needs an array or an integer; got 2\.5"),
        (lambda g: g.shuffle((1, 2)), "shuffle: needs an array or a list"),
    ],
)
def test_bad_types(call, message):
    with pytest.raises(TypeError, match=message):
        call(Generator(0))
