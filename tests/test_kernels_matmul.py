"""Matrix products against exact integers, against bounds that rounding cannot exceed, and against NumPy's rules."""

import ctypes
import json
import mmap
import os

import numba
import numpy as np
import pytest

from minivi.kernels import (
    Ones,
    Ranges,
    binary_matmul,
    is_binary,
    masked_matmul,
    masked_weight_gradient,
    matmul,
    matmul_backend,
    set_matmul_backend,
)
from minivi.kernels.reference.matmul import matmul_loops, matmul_tiles

DTYPES = [np.float32, np.float64]
LAYOUTS = {
    "C": lambda x: x,
    "T": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "strided": lambda x: np.repeat(np.repeat(x, 2, -1), 3, -2)[..., ::3, ::2],
    "reversed": lambda x: np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1],
}


def integers(shape, dtype, seed=0):
    """Small integers, of which every sum below is exact in any order: a product is right or wrong."""
    return np.random.default_rng([seed, *shape]).integers(-9, 10, shape).astype(dtype)


def normal(shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_loops_and_tiles_are_the_product(dtype):
    a, b = integers((13, 11), dtype), integers((11, 17), dtype)
    expected = np.einsum("ik,kj->ij", a, b)
    np.testing.assert_array_equal(matmul_loops(a, b), expected, strict=True)
    np.testing.assert_array_equal(matmul_tiles(a, b, block=6, depth=5, width=7), expected, strict=True)


# Ones, primes, whole and broken tiles, vectors and blocks of k and of rows; packed and unpacked; thin ones.
SIZES = [
    *[(1, 1, 1), (2, 3, 5), (4, 8, 24), (8, 257, 48), (13, 1, 31), (1, 784, 97), (97, 5, 1), (101, 300, 67)],
    *[(131, 17, 113), (300, 270, 130), (1031, 9, 101), (2, 1500, 7), (5000, 3, 2), (3, 2, 5000)],
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layouts", ["C C", "T C", "C T", "T T", "strided C", "C strided", "reversed reversed"])
def test_every_size_and_layout_is_exact(layouts, dtype):
    first, second = (LAYOUTS[name] for name in layouts.split())
    for m, k, n in SIZES:
        a, b = integers((m, k), dtype), integers((k, n), dtype, 1)
        np.testing.assert_array_equal(matmul(first(a), second(b)), np.einsum("ik,kj->ij", a, b), strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_stays_below_the_bound(dtype):
    """|error| <= K eps |a| |b| for a sum in any order (Higham 2002, section 3.5)."""
    a, b = normal((70, 2000), dtype), normal((2000, 90), dtype, 1)
    exact = np.matmul(a.astype(np.longdouble), b.astype(np.longdouble))
    bound = 2000 * np.finfo(dtype).eps * np.matmul(np.abs(a), np.abs(b), dtype=np.float64)
    assert np.all(np.abs(matmul(a, b) - exact) <= bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["C", "T"])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        *[((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4))],
        *[((5, 2, 3), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((5, 1, 2, 3), (4, 3, 6)), ((1, 2, 3), (7, 3, 2))],
        *[((40, 30, 50), (40, 50, 20)), ((2, 1, 90, 3), (3, 3, 10)), ((1, 1, 2, 3), (1, 3, 4))],
        *[((0, 3), (3, 4)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((0, 2, 3), (0, 3, 4))],
        *[((2, 0, 3), (3, 4)), ((2, 3, 0), (0, 4)), ((2, 3, 0), (2, 0, 4)), ((0,), (0,)), ((0,), (0, 3))],
    ],
)
def test_vectors_and_batches_follow_numpy(a, b, layout, dtype):
    a, b = integers(a, dtype), integers(b, dtype, 1)
    expected = np.asarray(np.matmul(a, b))
    a, b = (LAYOUTS[layout](x) if x.ndim > 1 else x for x in (a, b))
    product = matmul(a, b)
    assert type(product) is np.ndarray
    np.testing.assert_array_equal(product, expected, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("a", "b"), [((50, 400), (400, 61)), ((3, 50, 0), (0, 61)), ((4, 9, 300), (4, 300, 61)), ((3,), (3, 61))]
)
def test_bias_and_accumulation(a, b, dtype):
    a, b, bias = integers(a, dtype), integers(b, dtype, 1), integers((61,), dtype, 2)
    product = np.matmul(a, b)
    old = integers(product.shape, dtype, 3)
    for start, options in [
        (bias, {"bias": bias}),
        (0, {"out": old.copy()}),
        (bias, {"out": old.copy(), "bias": bias}),
        (old, {"out": old.copy(), "accumulate": True}),
        (old + bias, {"out": old.copy(), "bias": bias, "accumulate": True}),
    ]:
        result = matmul(a, b, **options)
        assert result is options.get("out", result)
        np.testing.assert_array_equal(result, product + start)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n"), [(5, 1), (6, 9), (7, 23), (130, 101), (9, 47)])
def test_nothing_is_written_outside(m, n, dtype):
    memory = np.full(m * n + 128, np.nan, dtype)
    a, b, bias, out = integers((m, 37), dtype), integers((37, n), dtype), integers((n,), dtype), memory[64:-64]
    for left, right in [(a, b), (LAYOUTS["T"](a), LAYOUTS["T"](b))]:
        matmul(left, right, out=out.reshape(m, n), bias=bias)
        np.testing.assert_array_equal(out.reshape(m, n), np.matmul(a, b) + bias)
        assert np.isnan(memory[:64]).all() and np.isnan(memory[-64:]).all()


def before_the_abyss(x):
    """A copy of ``x`` whose last number is the last before a page that no one may touch (where mprotect exists)."""
    size = -(-x.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = np.frombuffer(mmap.mmap(-1, size + mmap.PAGESIZE), np.uint8)
    if os.name == "posix":
        end = ctypes.c_void_p(pages.ctypes.data + size)
        assert ctypes.CDLL(None).mprotect(end, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = pages[size - x.nbytes : size].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (5, 9, 6), (7, 270, 23), (131, 33, 129), (9, 37, 47)])
def test_nothing_is_read_outside(m, k, n, dtype):
    """Broken tiles, vectors and squares at the end of an array; a number too many read would end the process."""
    arrays = [integers(shape, dtype) for shape in [(m, k), (k, n), (n,), (k, m), (n, k)]]
    a, b, bias, a_turned, b_turned = map(before_the_abyss, arrays)
    out, x = before_the_abyss(np.empty((m, n), dtype)), before_the_abyss((arrays[0] > 3).astype(dtype))
    for left in (a, a_turned.T):
        for right in (b, b_turned.T):
            expected = np.matmul(left.copy(), right.copy()) + bias
            np.testing.assert_array_equal(matmul(left, right, out=out, bias=bias), expected)
    np.testing.assert_array_equal(binary_matmul(x, b, out=out, bias=bias), np.matmul(x.copy(), b.copy()) + bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_propagate_as_in_numpy(special, dtype):
    a, b = normal((30, 300), dtype), normal((300, 50), dtype, 1)
    a[3, 290] = b[7, 11] = special
    a[:, 7] = 0  # 0 times infinity is not a number
    with np.errstate(invalid="ignore"):
        expected = np.matmul(a.astype(np.float64), b.astype(np.float64))
        product = matmul(a, b)
    np.testing.assert_array_equal(np.isnan(product), np.isnan(expected))
    np.testing.assert_array_equal(product[np.isinf(expected)], expected[np.isinf(expected)])


def test_read_only_operands_and_results_in_place():
    a, b = integers((40, 30), np.float32), integers((30, 20), np.float32)
    a.flags.writeable = b.flags.writeable = False
    flat = np.zeros(1000, np.float32)
    matmul(a, b, out=flat[100:900].reshape(40, 20))
    np.testing.assert_array_equal(flat[100:900].reshape(40, 20), np.matmul(a, b))
    assert not flat[:100].any() and not flat[900:].any()
    row = np.broadcast_to(np.float32(2), (40, 30))
    np.testing.assert_array_equal(matmul(row, b), np.matmul(row, b))


a23, b34 = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)


@pytest.mark.parametrize(
    ("operands", "options", "error", "message"),
    [
        ((a23, a23), {}, ValueError, r"\(2, 3\) times \(2, 3\)"),
        ((a23, np.float32(1)[()].reshape(())), {}, ValueError, r"\(2, 3\) times \(\)"),
        ((np.ones((2, 2, 3), "f"), np.ones((3, 3, 4), "f")), {}, ValueError, "do not broadcast"),
        ((a23, b34.astype(np.float64)), {}, TypeError, "float32, float64"),
        ((a23.astype(int), b34.astype(int)), {}, TypeError, "all must be float32 or all float64"),
        ((a23, b34), {"bias": np.ones(4)}, TypeError, "float32, float32, float64"),
        ((a23, b34), {"bias": np.ones(3, "f")}, ValueError, r"bias of \(3,\)"),
        ((a23, b34[:, 0]), {"bias": np.ones((), "f")}, ValueError, "bias"),
        ((a23, b34), {"accumulate": True}, ValueError, "pass out"),
        ((a23, b34), {"out": np.empty((4, 2), "f")}, ValueError, r"array of \(2, 4\); got \(4, 2\)"),
        ((a23, b34), {"out": np.empty((4, 2), "f").T}, ValueError, "C-contiguous"),
        ((a23, b34), {"out": np.broadcast_to(np.float32(0), (2, 4))}, ValueError, "writable"),
        ((a23, b34), {"out": np.empty((2, 4))}, TypeError, "float32, float32, float64"),
        ((b34[:, :3], b34), {"out": b34}, ValueError, "overlaps"),
    ],
)
def test_errors_name_shapes_and_mend(operands, options, error, message):
    with pytest.raises(error, match=f"matmul: .*{message}"):
        matmul(*operands, **options)


def made_masks(units, seed):
    """Masks between layers whose units have sorted degrees 1 ... D - 1 (Germain et al. 2015)."""
    rng = np.random.default_rng(seed)
    inputs = np.arange(1, units[0] + 1)
    layers = [inputs, *(np.sort(rng.integers(1, max(2, units[0]), size)) for size in units[1:-1])]
    masks = [(nxt >= last[:, None]) for last, nxt in zip(layers, layers[1:], strict=False)]
    return [*masks, inputs > layers[-1][:, None]]


def some_masks():
    rng = np.random.default_rng(1)
    yield from made_masks((40, 90, 130, 40), 0)
    yield from made_masks((300, 500, 300), 1)
    yield rng.random((50, 60)) < 0.1  # not contiguous
    yield np.kron(np.eye(4), np.ones((70, 20)))  # spans that begin late
    yield np.zeros((20, 30))
    yield np.ones((7, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 37, 140])
def test_masked_products_and_gradients(rows, dtype):
    for mask in some_masks():
        k, n = mask.shape
        ranges = Ranges(mask)
        x, weights = integers((rows, k), dtype), integers((k, n), dtype, 1) * mask.astype(dtype)
        bias, grad = integers((n,), dtype, 2), integers((rows, n), dtype, 3)
        np.testing.assert_array_equal(masked_matmul(x, weights, ranges, bias=bias), np.matmul(x, weights) + bias)
        np.testing.assert_array_equal(masked_matmul(x, weights, ranges), np.matmul(x, weights), strict=True)
        np.testing.assert_array_equal(masked_matmul(grad, weights.T, ranges.T), np.matmul(grad, weights.T))
        out = np.full((k, n), np.nan, dtype)
        np.testing.assert_array_equal(masked_weight_gradient(x, grad, ranges, out=out), np.matmul(x.T, grad) * mask)


def test_masked_products_of_batches_and_errors():
    mask = made_masks((10, 20, 10), 0)[0]
    ranges, x, grad = Ranges(mask), integers((2, 3, 10), np.float64), integers((2, 3, 20), np.float64)
    weights = mask.astype(np.float64)
    np.testing.assert_array_equal(masked_matmul(x, weights, ranges), np.matmul(x, weights))
    gradient = masked_weight_gradient(x, grad, ranges)
    np.testing.assert_array_equal(gradient, np.einsum("kbi,kbj->ij", x, grad) * mask)
    with pytest.raises(ValueError, match=r"masked_matmul: weights of \(20, 10\) under a mask of \(10, 20\)"):
        masked_matmul(grad, weights.T, ranges)
    with pytest.raises(ValueError, match=r"masked_weight_gradient: weights of \(20, 10\)"):
        masked_weight_gradient(grad, x, ranges)
    with pytest.raises(ValueError, match="Ranges: a mask of"):
        Ranges(mask[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "k", "n", "share"), [(1, 1, 1, 1), (7, 30, 5, 0.5), (101, 300, 131, 0.1), (3, 9, 200, 0)]
)
def test_binary_products(m, k, n, share, dtype):
    x = (np.random.default_rng(0).random((m, k)) < share).astype(dtype)
    b, bias, grad = integers((k, n), dtype), integers((n,), dtype), integers((m, n), dtype)
    ones = Ones(x)
    assert is_binary(x)
    np.testing.assert_array_equal(binary_matmul(x, b), np.matmul(x, b), strict=True)
    out = np.full((m, n), np.nan, dtype)
    assert binary_matmul(ones, LAYOUTS["T"](b), bias=bias, out=out) is out
    np.testing.assert_array_equal(out, np.matmul(x, b) + bias)
    np.testing.assert_array_equal(binary_matmul(ones.T, grad), np.matmul(x.T, grad), strict=True)


@pytest.mark.parametrize("other", [0.5, -1, np.nan, np.inf, 2])
def test_other_numbers_are_not_binary(other):
    x = np.zeros((300, 200), np.float32)
    assert is_binary(x)
    x[217, 31] = other
    assert not is_binary(x)
    with pytest.raises(ValueError, match=rf"Ones: .*the number {np.float32(other)}"):
        Ones(x)
    with pytest.raises(ValueError, match="1 axes"):
        Ones(x[0])
    with pytest.raises(ValueError, match=r"\(2, 3\) times \(4, 5\)"):
        binary_matmul(np.ones((2, 3)), np.ones((4, 5)))


if not numba.config.DISABLE_JIT:  # threads, and a choice of backends, are what the twins do not have
    import sys

    from threadpoolctl import threadpool_info, threadpool_limits

    from minivi.kernels import matmul_tile
    from minivi.kernels.jit import get_threads, set_threads

    module = sys.modules["minivi.kernels.matmul"]

    @pytest.fixture(autouse=True)
    def kernel(monkeypatch):
        """The kernel itself is tested here, whatever the environment chooses."""
        monkeypatch.setattr(module, "_backends", dict.fromkeys(map(np.dtype, DTYPES), "jit"))

    @pytest.fixture
    def threads():
        before = get_threads()
        yield sorted({1, before})
        set_threads(before)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(100, 784, 500), (500, 100, 333), (700, 300, 20), (20, 9000, 24)])
    def test_same_bits_for_any_number_of_threads_and_rows(shape, threads, dtype):
        m, k, n = shape
        x, b, c = normal((m, k), dtype), normal((k, n), dtype, 1), normal((m, n), dtype, 2)
        ones, mask = Ones((x > 1).astype(dtype)), made_masks((k, n, k), 0)[0]
        ranges, weights = Ranges(mask), b * mask.astype(dtype)
        results = []
        for count in threads:
            set_threads(count)
            results.append(
                [
                    *[matmul(x, b), matmul(x.T, c), matmul(c, b.T), binary_matmul(ones, b), binary_matmul(ones.T, c)],
                    *[masked_matmul(x, weights, ranges), masked_weight_gradient(x, c, ranges)],
                    matmul(x, b, out=c.copy(), accumulate=True),
                ]
            )
        for one, other in zip(results[0], results[-1], strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(matmul(x[5:12], b), results[0][0][5:12])
        np.testing.assert_array_equal(results[0][5], matmul(x, weights))  # what is skipped is zero

    @pytest.fixture
    def remembered(monkeypatch, tmp_path):
        """A process that has not chosen yet, on a CPU with AVX2, and the file where its choice will be."""
        monkeypatch.setattr(module, "_backends", {})
        monkeypatch.setattr(module, "FEATURES", "+avx2,+fma")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.delenv("MINIVI_MATMUL", raising=False)
        with threadpool_limits():  # undoes what the choice of the BLAS does to it
            yield tmp_path / "minivi" / "matmul.json"

    @pytest.mark.parametrize("choice", ["jit", "blas"])
    def test_the_environment_chooses(choice, remembered, monkeypatch):
        monkeypatch.setenv("MINIVI_MATMUL", choice)
        monkeypatch.setattr(module, "_measured", None)
        mask = made_masks((30, 40, 30), 0)[0]
        a, b, grad = (
            integers((20, 30), np.float32),
            integers((30, 40), np.float32) * mask,
            integers((20, 40), np.float32),
        )
        b = b.astype(np.float32)
        np.testing.assert_array_equal(matmul(a, b), np.matmul(a, b))
        np.testing.assert_array_equal(masked_matmul(a, b, Ranges(mask)), np.matmul(a, b))
        np.testing.assert_array_equal(masked_weight_gradient(a, grad, Ranges(mask)), np.matmul(a.T, grad) * mask)
        assert matmul_backend() == choice and module._backends == {np.dtype(np.float32): choice}

    def test_the_blas_gets_one_thread(remembered):
        set_matmul_backend("blas")
        assert {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"} == {1}

    @pytest.mark.parametrize("before", [None, "", "[1, 2", "[3]", "[" * 100_000, '{"other": "jit"}'])
    def test_the_automatic_choice_is_remembered(before, remembered):
        if before is not None:
            remembered.parent.mkdir()
            remembered.write_text(before)
        choice = matmul_backend(np.float64)
        (key,) = (key for key in json.loads(remembered.read_text()) if key != "other")
        assert key.startswith("float64 on ") and json.loads(remembered.read_text())[key] == choice
        other = {"jit": "blas", "blas": "jit"}[choice]
        remembered.write_text(json.dumps({key: other}))
        module._backends.clear()
        assert matmul_backend(np.float64) == other
        assert [path.name for path in remembered.parent.iterdir()] == ["matmul.json"]

    @pytest.mark.parametrize("faster", ["jit", "blas"])
    def test_the_faster_backend_is_chosen(faster, remembered, monkeypatch):
        monkeypatch.setattr(module, "_multiply", lambda *args: None)
        clock = iter([0.0, 1.0, 0.0, 2.1] * 8 if faster == "jit" else [0.0, 2.1, 0.0, 1.0] * 8)
        monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
        assert matmul_backend() == faster

    def test_a_cpu_without_avx2_takes_the_blas(remembered, monkeypatch):
        monkeypatch.setattr(module, "FEATURES", "+neon")
        assert matmul_backend() == "blas" and not remembered.exists()

    def test_a_folder_that_cannot_be_written_is_no_error(remembered, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
        assert matmul_backend() in ("jit", "blas")

    def test_without_a_home_nothing_is_written(remembered, monkeypatch, tmp_path):
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for a user that is not listed
        monkeypatch.chdir(tmp_path)
        assert matmul_backend() in ("jit", "blas") and not list(tmp_path.iterdir())

    @pytest.fixture
    def no_tile_yet(remembered, monkeypatch):
        """A process that has not chosen a tile, on a CPU with AVX-512. (No product may be computed with it.)"""
        monkeypatch.setattr(module, "_tile_in_use", {})
        monkeypatch.setattr(module, "FEATURES", "+avx2,+fma,+avx512f")
        monkeypatch.delenv("MINIVI_TILE", raising=False)
        return remembered

    @pytest.mark.parametrize(("seconds", "tile"), [(1.0, 64), (1.4, 64), (1.5, 32), (2.0, 32)])
    def test_wide_vectors_are_taken_where_they_are_faster(seconds, tile, no_tile_yet, monkeypatch):
        """By the time for as many multiply-adds of wide vectors: 1 on CPUs made for them, 2 where one is two halves."""
        monkeypatch.setattr(module, "launch", lambda *args, **options: None)
        clock = iter([0.0, seconds, 0.0, 1.0] * 10)
        monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
        assert matmul_tile() == matmul_tile() == tile
        ((key, value),) = json.loads(no_tile_yet.read_text()).items()
        assert key.startswith("tile on ") and value == tile
        other = 96 - tile
        no_tile_yet.write_text(json.dumps({key: other}))
        module._tile_in_use.clear()
        assert matmul_tile() == other

    @pytest.mark.parametrize("tile", ["32", "64"])
    def test_the_environment_chooses_the_tile(tile, no_tile_yet, monkeypatch):
        monkeypatch.setenv("MINIVI_TILE", tile)
        assert matmul_tile() == int(tile) and not no_tile_yet.exists()

    def test_a_tile_that_cannot_be_is_an_error(no_tile_yet, monkeypatch):
        monkeypatch.setenv("MINIVI_TILE", "16")
        with pytest.raises(ValueError, match="MINIVI_TILE is '16'; set it to 32, auto or, on a CPU with AVX-512, 64"):
            matmul_tile()
        monkeypatch.setattr(module, "FEATURES", "+avx2,+fma")
        monkeypatch.setenv("MINIVI_TILE", "64")
        with pytest.raises(ValueError, match="MINIVI_TILE is '64'"):
            matmul_tile()
        monkeypatch.setenv("MINIVI_TILE", "auto")
        assert matmul_tile() == 32

    def test_unknown_backends_are_errors(remembered, monkeypatch):
        monkeypatch.setenv("MINIVI_MATMUL", "mkl")
        with pytest.raises(ValueError, match="MINIVI_MATMUL is 'mkl'; set it to jit, blas or auto"):
            matmul(a23, b34)
        with pytest.raises(ValueError, match="no backend 'auto'"):
            set_matmul_backend("auto")
