"""SVHN and small NORB from files made here: pixels, labels, and every way in which a file can be wrong."""

import gzip
import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import loadmat, savemat

from minivi import data


def refused(match):
    """A context that expects a DataError of one line."""
    return pytest.raises(data.DataError, match=rf"\A(?=[^\n]*\Z).*{match}")


def put(monkeypatch, folder, name, contents, pack=bytes):
    """Files of set ``name``, published as what they are."""
    monkeypatch.setenv("MINIVI_DATA", str(folder))
    source = data.SOURCES[name]
    source.folder.mkdir(exist_ok=True)
    for file, content in zip(source.files, contents, strict=True):
        (source.folder / file).write_bytes(pack(content))
    known = {f: hashlib.sha256(c).hexdigest() for f, c in zip(source.files, contents, strict=True)}
    monkeypatch.setitem(data.SOURCES, name, replace(source, files=known, addresses=()))


# -- SVHN --------------------------------------------------------------------------------------------------------------


def mat(compressed, **arrays):
    file = io.BytesIO()
    savemat(file, arrays, do_compression=compressed)
    return file.getvalue()


def house_numbers(seed, labels):
    """Images as published, (32, 32, 3, N) down the columns, and labels (N, 1)."""
    x = np.random.default_rng(seed).integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
    return {"X": x, "y": np.array(labels, np.uint8)[:, None]}


@pytest.mark.parametrize("compressed", [False, True])
def test_svhn(compressed, monkeypatch, tmp_path):
    train, test = house_numbers(0, [1, 10, 9, 2, 10]), house_numbers(1, [10, 3])
    contents = [mat(compressed, **part) for part in (train, test)]
    for content, part in zip(contents, (train, test), strict=True):
        parsed = data.parse_mats(content)
        for name in ("X", "y"):
            assert_array_equal(parsed[name], loadmat(io.BytesIO(content))[name], strict=True)
            assert_array_equal(parsed[name], part[name], strict=True)
    put(monkeypatch, tmp_path, "svhn", contents)
    loaded = data.load("svhn")
    assert (loaded.kind, loaded.shape, loaded.split) == ("colour", (32, 32, 3), "73257/26032")
    assert (loaded.train.shape, loaded.test.shape) == ((5, 3072), (2, 3072))
    assert (loaded.train_labels.tolist(), loaded.test_labels.tolist()) == ([1, 0, 9, 2, 0], [0, 3])
    assert loaded.train_labels.dtype == np.int64
    for x, part in ((loaded.train, train), (loaded.test, test)):
        for i, row in enumerate(x):
            assert_array_equal(row.reshape(loaded.shape), part["X"][..., i] / np.float32(255), strict=True)
    assert (loaded.train.min(), loaded.train.max()) == (0, 1)


@pytest.mark.parametrize("compressed", [False, True])
def test_svhn_refuses_every_truncation(compressed):
    numbers = house_numbers(2, [4])
    content = mat(compressed, X=numbers["X"][:2, :2], y=np.arange(8, dtype=np.uint8))  # words of 8 bytes, no padding
    whole = data.parse_mats(content)
    for length in range(len(content)):
        try:  # the end of the first array is the end of a smaller file
            arrays = data.parse_mats(content[:length], "train.mat")
        except data.DataError as error:
            assert str(error).startswith("train.mat is no MATLAB 5 file")
            assert "\n" not in str(error)
        else:
            assert list(arrays) in ([], ["X"])
            assert not arrays or np.array_equal(arrays["X"], whole["X"])


def test_damage_in_a_compressed_array_is_refused():
    content = mat(True, **house_numbers(3, [4]))
    for place in np.linspace(136, len(content) - 1, 50).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        try:  # a byte of its own header or its checksum may only be refused, never be read as other pixels
            arrays = data.parse_mats(bytes(damaged), "train.mat")
        except data.DataError as error:
            assert "\n" not in str(error)
        else:
            assert_array_equal(arrays["X"], house_numbers(3, [4])["X"])


GOOD = house_numbers(4, [4, 10])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"X": None}, "has images None and 2 labels"),
        ({"y": None}, r"has images \(\(2, 32, 32, 3\), 'uint8'\) and 0 labels"),
        ({"X": GOOD["X"][..., 0]}, r"has images \(\(3, 32, 32\), 'uint8'\)"),
        ({"X": GOOD["X"][..., :1]}, r"has images \(\(1, 32, 32, 3\), 'uint8'\) and 2 labels"),
        ({"X": GOOD["X"].astype(float)}, "'float64'"),
        ({"X": GOOD["X"][..., :0], "y": GOOD["y"][:0]}, "and 0 labels"),
        ({"y": GOOD["y"][:1]}, "and 1 labels"),
        ({"y": np.array([0, 1], np.uint8)}, "a label from 1 to 10 each"),
        ({"y": np.array([1, 11], np.uint8)}, "a label from 1 to 10 each; move its files away, then run .*fetch svhn`"),
        ({"y": "labels"}, "and 0 labels"),
    ],
)
def test_svhn_refuses_other_arrays(changes, match, monkeypatch, tmp_path):
    other = {name: value for name, value in (GOOD | changes).items() if value is not None}
    put(monkeypatch, tmp_path, "svhn", [mat(False, **GOOD), mat(False, **other)])
    with refused(match):
        data.load("svhn")


# -- NORB --------------------------------------------------------------------------------------------------------------

MAGIC = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}


def norb(array):
    """A binary matrix as documented: dimensions are filled up with ones to three."""
    shape = [*array.shape, *[1] * (3 - array.ndim)]
    return (
        np.array([MAGIC[array.dtype.name], array.ndim, *shape], "<u4").tobytes()
        + array.astype(array.dtype.newbyteorder("<")).tobytes()
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
@pytest.mark.parametrize("shape", [(5,), (4, 6), (4, 2, 3), (2, 3, 2, 2)])
def test_norb_round_trip(shape, dtype):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    parsed = data.parse_norb(norb(array))
    assert_array_equal(parsed, array, strict=True)


def test_norbs_own_files_of_categories_are_such_matrices(monkeypatch, tmp_path):
    """These have a published checksum, and it is that of 24,300 categories by turns in the format written here."""
    categories = np.arange(24300, dtype=np.int32) % 5
    content = norb(categories)
    published = {digest for name, digest in data.SOURCES["norb"].files.items() if name.endswith("-cat.mat")}
    assert published == {f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"}
    assert_array_equal(data.parse_norb(content), categories)


def test_norb_refuses_every_truncation_and_trailing_bytes():
    for array in (np.arange(4, dtype=np.int32), np.arange(16, dtype=np.uint8).reshape(2, 2, 2, 2)):
        content = norb(array)
        for length in range(len(content)):
            with refused("dat.mat (is no NORB matrix|is truncated|has .* bytes, but its NORB header announces)"):
                data.parse_norb(content[:length], "dat.mat")
        with refused(f"has {len(content) + 1} bytes, but its NORB header announces .*: {len(content)} bytes"):
            data.parse_norb(content + b"\0", "dat.mat")


@pytest.mark.parametrize(
    "header",
    [
        (0x1E3D4C51, 1, 1, 1, 1),  # float32
        (0x1E3D4C56, 1, 2, 1, 1),  # int16
        (0x554C3D1E, 1, 4, 1, 1),  # of the other byte order
        (0x1E3D4C55, 0, 1, 1, 1),
        (0x1E3D4C55, 5, 1, 1, 1, 1, 4),
        (0x1E3D4C55, 2**31, 1, 1, 1),
        (0x1E3D4C55, 2**32 - 1, 4, 1, 1),
        (0x1E3D4C55, 2, 2**32 - 2, 2**32 - 2, 1),  # -2 times -2 are the 4 bytes that follow
        (0x1E3D4C54, 1, 2**32 - 1, 1, 1),
        (0x1E3D4C55, 2, 0, 2**31 - 1, 1),
        (0x1E3D4C55, 4, *[2**31 - 1] * 4),  # 2e37 bytes announced
    ],
)
def test_norb_refuses_foreign_and_hostile_headers(header):
    with refused("dat.mat (is no NORB matrix|has .* bytes, but its NORB header announces)"):
        data.parse_norb(np.array(header, "<u4").tobytes() + b"\1\2\3\4", "dat.mat")


def toys(seed, labels):
    pairs = np.random.default_rng(seed).integers(0, 256, (len(labels), 2, 96, 96), dtype=np.uint8)
    return pairs, np.array(labels, np.int32)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_norb(pack, monkeypatch, tmp_path):
    """The first camera's images, as means of 2x2 pixels, and both cameras' as they are, of the same files."""
    train, test = toys(0, [0, 1, 2, 3, 4, 0]), toys(1, [4, 2])
    train[0][0, 0, :2, :2], train[0][1, 0, :2, :2] = 255, 0
    for name in ("norb", "norb_pairs"):
        put(monkeypatch, tmp_path, name, [norb(part) for part in (*train, *test)], pack)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["norb"]
    reduced, pairs = data.load("norb"), data.load("norb_pairs")
    for loaded, shape in ((reduced, (48, 48)), (pairs, (96, 192))):
        assert (loaded.kind, loaded.shape, loaded.split) == ("grey", shape, "24300/24300")
        assert (loaded.train_labels.tolist(), loaded.test_labels.tolist()) == ([0, 1, 2, 3, 4, 0], [4, 2])
        assert loaded.train_labels.dtype == np.int64
        assert loaded.train.dtype == loaded.test.dtype == np.float32
        assert (loaded.train.min(), loaded.train.max()) == (0, 1)
    for small, large, (images, _) in ((reduced.train, pairs.train, train), (reduced.test, pairs.test, test)):
        corners = [images[:, 0, i::2, j::2].astype(float) for i in (0, 1) for j in (0, 1)]
        assert_allclose(small.reshape(-1, 48, 48), sum(corners) / 4 / 255, atol=1e-7)
        beside = np.concatenate([images[:, 0], images[:, 1]], axis=2)
        assert_array_equal(large.reshape(-1, 96, 192), beside / np.float32(255), strict=True)


@pytest.mark.parametrize(
    ("pairs", "labels", "match"),
    [
        (toys(3, [1, 2])[0][:, :1], [1, 2], r"has images \(\(2, 1, 96, 96\), 'uint8'\) and 2 labels"),
        (toys(3, [1, 2])[0].astype(np.int32), [1, 2], "'int32'"),
        (toys(3, [1, 2])[0], [1], "and 1 labels"),
        (
            toys(3, [1, 2])[0],
            [1, 5],
            "a label from 0 to 4 each; move its files away, then run `minivi data fetch norb`",
        ),
        (toys(3, [1, 2])[0], [-1, 2], "a label from 0 to 4 each"),
    ],
)
def test_norb_refuses_other_matrices(pairs, labels, match, monkeypatch, tmp_path):
    put(monkeypatch, tmp_path, "norb", [norb(a) for a in (*toys(2, [3]), pairs, np.array(labels, np.int32))])
    with refused(match):
        data.load("norb")


def test_a_set_with_larger_files_has_a_larger_limit(monkeypatch, tmp_path):
    put(monkeypatch, tmp_path, "norb", [norb(part) for part in (*toys(0, [1]), *toys(1, [2]))], gzip.compress)
    images = 24 + 2 * 96 * 96
    for limit in (images, images - 1):
        monkeypatch.setitem(data.SOURCES, "norb", replace(data.SOURCES["norb"], limit=limit))
        if limit == images:
            assert len(data.load("norb").train) == 1
        else:
            with refused(f"training-dat.mat unpacks to more than {limit} bytes.*move it away"):
                data.load("norb")
    assert data.SOURCES["norb_pairs"].limit > 24 + 24300 * 2 * 96 * 96
    assert max(73257, 26032) * 32 * 32 * 3 < data.SOURCES["svhn"].limit
