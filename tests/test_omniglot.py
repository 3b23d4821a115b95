"""Omniglot from zips and matrices made here: areas, orders, splits, and every way in which a file can be wrong."""

import hashlib
import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy.io import savemat

from minivi import data
from minivi.random import Generator


def refused(match):
    """A context that expects a DataError of one line."""
    return pytest.raises(data.DataError, match=rf"\A(?=[^\n]*\Z).*{match}")


def png(ink):
    """Black strokes on white, one bit a pixel, as published."""
    file = io.BytesIO()
    Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert("1", dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()


def archive(entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("images_some/", b"")
        for name, content in entries.items():
            made.writestr(name, content)
    return file.getvalue()


def square(top, left, size=15):
    ink = np.zeros((105, 105), bool)
    ink[top : top + size, left : left + size] = True
    return ink


def drawings(alphabet, row, characters=2, drawers=range(1, 21)):
    """Drawings that tell their character by a mark in ``row`` and their drawer by one below."""
    return {
        f"images_some/{alphabet}/character{c + 1:02}/{c:04}_{d:02}.png": png(
            square(15 * row, 15 * c) | square(90, 4 * d, 4)
        )
        for c in range(characters)
        for d in drawers
    }


def test_areas_against_blocks_of_a_finer_grid():
    """105 and 28 both divide 420: there, area averaging is repeating, then the mean of blocks."""
    ink = np.random.default_rng(0).random((20, 105, 105)) < 0.3
    ink[0] = True
    names = [f"images_some/Greek/character07/0001_{d:02}.png" for d in range(1, 21)]
    parsed = data.parse_omniglot(archive(dict(zip(names, map(png, ink), strict=True))))
    fine = ink.repeat(4, axis=1).repeat(4, axis=2).reshape(20, 28, 15, 28, 15)
    assert list(parsed) == ["Greek/character07"]
    assert parsed["Greek/character07"].dtype == np.float32
    assert_allclose(parsed["Greek/character07"].reshape(20, 28, 28), fine.mean(axis=(2, 4)), atol=1e-6)
    assert parsed["Greek/character07"].max() <= 1  # or no pixel could be drawn from it
    data.binarize(parsed["Greek/character07"], "dynamic", Generator(0))


def test_ink_is_one_where_it_was_drawn():
    image = data.parse_omniglot(archive(drawings("Greek", 2)))["Greek/character02"][0].reshape(28, 28)
    assert_array_equal(image[8:12, 4:8], 1)  # 15 pixels are 4 cells
    assert image.sum() == pytest.approx(16 + 16 / 3.75**2)


def put(monkeypatch, tmp_path, name, contents, kind=hashlib.sha256):
    """Files of set ``name``, published as what they are."""
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path))
    source = data.SOURCES[name]
    (tmp_path / "omniglot").mkdir()
    for file, content in zip(source.files, contents, strict=True):
        (tmp_path / "omniglot" / file).write_bytes(content)
    prefix = "" if kind is hashlib.sha256 else "md5:"
    known = {f: prefix + kind(c).hexdigest() for f, c in zip(source.files, contents, strict=True)}
    monkeypatch.setitem(data.SOURCES, name, replace(source, files=known, addresses=()))


def marks(x):
    """Row and character of each drawing's square, and its drawer."""
    x = x.reshape(-1, 28, 28)
    top = (x[:, :24].max(axis=2) == 1).argmax(axis=1) // 4
    left = (x[:, :24].max(axis=1) == 1).argmax(axis=1) // 4
    mean = (x[:, 24:].sum(axis=1) @ (np.arange(28) + 0.5)) / x[:, 24:].sum(axis=(1, 2))
    return top.tolist(), left.tolist(), np.round((mean * 3.75 - 2) / 4).astype(int).tolist()


def test_small_sets_split_by_drawers_and_count_shared_characters_once(monkeypatch, tmp_path):
    shared = drawings("Latin", 1)
    put(
        monkeypatch, tmp_path, "omniglot_small",
        [archive(drawings("Korean", 0) | shared), archive(drawings("Sanskrit", 2, 1) | shared)],
    )  # fmt: skip
    loaded = data.load("omniglot_small")
    x, x_test = loaded.train, loaded.test
    assert (len(x), len(x_test)) == (5 * 16, 5 * 4)
    assert_array_equal(loaded.train_labels, np.tile(np.arange(5), 16))
    assert_array_equal(loaded.test_labels, np.tile(np.arange(5), 4))
    top, left, drawer = marks(x)
    assert (top, left) == ([0, 0, 1, 1, 2] * 16, [0, 1, 0, 1, 0] * 16)  # by alphabet, then by character
    assert drawer == np.repeat(np.arange(1, 17), 5).tolist()
    assert marks(x_test)[2] == np.repeat(np.arange(17, 21), 5).tolist()


def test_official_split_tests_other_characters_and_has_only_md5(monkeypatch, tmp_path):
    contents = archive(drawings("Korean", 0)), archive(drawings("Tengwar", 3, 1))
    put(monkeypatch, tmp_path, "omniglot", contents, hashlib.md5)
    loaded = data.load("omniglot", "19280/13180")
    assert marks(loaded.train)[:2] == ([0] * 40, [0, 1] * 20)
    assert marks(loaded.test)[0] == [3] * 20
    assert (loaded.train_labels.tolist(), loaded.test_labels.tolist()) == ([0, 1] * 20, [2] * 20)
    (tmp_path / "omniglot" / "images_background.zip").write_bytes(contents[1])
    with refused("images_background.zip is not the published .*checksum differs.*fetch omniglot`"):
        data.load("omniglot")


def test_the_three_sets_share_a_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path))
    for name in ("omniglot", "omniglot_small", "omniglot_burda"):
        assert data.describe(name)["folder"] == tmp_path / "omniglot"
        assert not data.describe(name)["cached"]


GOOD = drawings("Greek", 0, 1)
FIRST = next(iter(GOOD))


def test_every_truncation_is_refused():
    content = archive(GOOD)
    for length in range(len(content)):
        with refused("some.zip is no zip of Omniglot's drawings"):
            data.parse_omniglot(content[:length], "some.zip")


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (GOOD | {FIRST: GOOD[FIRST][:60]}, "no zip of"),
        (GOOD | {FIRST: GOOD[FIRST][:40] + b"\xff" * 9 + GOOD[FIRST][49:]}, "no zip of"),
        (GOOD | {FIRST: b"<html>\nSign in"}, "no zip of"),
        (GOOD | {FIRST: png(np.zeros((105, 104), bool))}, "0000_01.png has 104x105 pixels, not 105x105"),
        (GOOD | {FIRST: bytes(100_001)}, "0000_01.png is 100001 bytes long"),
        (drawings("Greek", 0, 1, range(1, 20)), "19 drawings of Greek/character01, not those of the drawers 01 to 20"),
        (drawings("Greek", 0, 1, range(2, 22)), "20 drawings of Greek/character01, not those of the drawers"),
        ({"images_some/readme.png": GOOD[FIRST]}, "without any of Omniglot's drawings"),
        ({}, "without any"),
    ],
)
def test_other_content_is_refused(entries, reason):
    with refused(f"some.zip .*{reason}"):
        data.parse_omniglot(archive(entries), "some.zip")


def test_damage_inside_the_zip_is_refused():
    content = archive(GOOD)
    place = content.index(GOOD[FIRST]) + 45
    with refused("no zip of"):
        data.parse_omniglot(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :], "some.zip")


# -- chardata.mat ------------------------------------------------------------------------------------------------------


def chardata(**change):
    x, x_test = np.zeros((784, 24345), np.uint8), np.zeros((784, 8070), np.uint8)
    x[2 + 28 * 5, 7] = 1  # the third row, the sixth column: MATLAB counts down the columns
    x_test[27, 8069] = 1  # the last row, the first column
    file = io.BytesIO()
    savemat(file, {k: v for k, v in {"data": x, "testdata": x_test, **change}.items() if v is not None})
    return file.getvalue()


def test_burdas_matrix_upright(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path))
    (tmp_path / "omniglot").mkdir()
    (tmp_path / "omniglot" / "chardata.mat").write_bytes(chardata(target=np.zeros((50, 3))))
    loaded = data.load("omniglot_burda")
    assert (loaded.train.shape, loaded.test.shape, loaded.train.dtype) == ((24345, 784), (8070, 784), np.float32)
    assert np.argwhere(loaded.train.reshape(-1, 28, 28)).tolist() == [[7, 2, 5]]
    assert np.argwhere(loaded.test.reshape(-1, 28, 28)).tolist() == [[8069, 27, 0]]
    assert loaded.train_labels is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": None}, r"data is None, not \(784, 24345\)"),
        ({"testdata": np.zeros((8070, 784), np.uint8)}, r"testdata is \(8070, 784\), not \(784, 8070\)"),
        ({"testdata": np.full((784, 8070), 255, np.uint8)}, r"values in \[0, 1\]"),
        ({"testdata": np.full((784, 8070), np.nan, np.float32)}, r"values in \[0, 1\]"),
        ({"testdata": np.zeros((784, 8070), complex)}, "testdata"),
    ],
)
def test_other_matrices_are_refused(change, reason, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path))
    (tmp_path / "omniglot").mkdir()
    (tmp_path / "omniglot" / "chardata.mat").write_bytes(chardata(**change))
    with refused(f"chardata.mat: .*{reason}.*move it away.*fetch omniglot_burda`"):
        data.load("omniglot_burda")


def test_a_truncated_matrix_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path))
    (tmp_path / "omniglot").mkdir()
    (tmp_path / "omniglot" / "chardata.mat").write_bytes(chardata()[:-5000])
    with refused("chardata.mat is no MATLAB 5 file.*fetch omniglot_burda`"):
        data.load("omniglot_burda")


# -- the real files ----------------------------------------------------------------------------------------------------


def test_the_small_sets_themselves():
    if not data.describe("omniglot_small")["cached"]:
        pytest.skip("omniglot_small is not in MINIVI_DATA; `minivi data fetch omniglot_small`")
    loaded = data.load("omniglot_small")
    assert (loaded.kind, loaded.shape, loaded.train.shape, loaded.test.shape) == (
        "grey", (28, 28), (3872, 784), (968, 784),
    )  # fmt: skip
    assert loaded.train.min() == 0
    assert loaded.train.max() == 1
    assert 0.05 < loaded.train.mean() < 0.12  # strokes are ink, paper is not
    assert np.bincount(loaded.train_labels).tolist() == [16] * 242
    assert np.bincount(loaded.test_labels).tolist() == [4] * 242
    rows = np.concatenate([loaded.train, loaded.test])
    assert len(np.unique(rows, axis=0)) == len(rows)  # Greek and Latin are in both zips
