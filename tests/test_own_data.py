"""One's own images as a data set: what is taken, and the one line that says what is wrong with the rest."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import no_own_data
from PIL import Image

from minivi import data
from minivi.data import DataError


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    no_own_data(monkeypatch)


LEVELS = np.arange(20 * 6, dtype=np.uint8).reshape(20, 2, 3)


def test_a_file_with_all_parts(tmp_path):
    path = tmp_path / "faces 1.npz"
    parts = {"train_labels": np.arange(20) % 3, "test_labels": np.zeros(4, np.int8)}
    np.savez(path, train=LEVELS, test=LEVELS[:4], **parts)
    name = data.add(path)
    sets = data.load(name)
    assert name.startswith("faces_1-") and sets.shape == (2, 3) and sets.kind == "grey" and sets.split == "20/4"
    np.testing.assert_array_equal(sets.train, (LEVELS.reshape(20, 6) / np.float32(255)).astype(np.float32))
    np.testing.assert_array_equal(sets.train_labels, parts["train_labels"])
    assert sets.test_labels.dtype == np.int64 and data.add(path) == name and data.add(name) == name


def test_an_array_alone_is_split(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=LEVELS / 255.0)
    np.save(tmp_path / "b.npy", LEVELS / 255.0)
    one, other = (data.load(data.add(tmp_path / name)) for name in ("a.npz", "b.npy"))
    assert one.split == other.split == "18/2"
    rows = (LEVELS.reshape(20, 6) / 255.0).astype(np.float32)
    np.testing.assert_array_equal(one.test, rows[[0, 10]])
    np.testing.assert_array_equal(one.train, np.delete(rows, [0, 10], axis=0))
    np.testing.assert_array_equal(one.train, other.train)


@pytest.mark.parametrize(
    ("images", "shape", "kind"),
    [
        (np.eye(9), (3, 3), "binary"),
        (np.eye(9, dtype=np.uint8), (3, 3), "binary"),
        (np.eye(8, dtype=bool), (1, 8), "binary"),
        (np.full((9, 4, 5, 3), 0.5), (4, 5, 3), "colour"),
        (np.full((9, 4, 5, 1), 0.5), (4, 5), "grey"),
    ],
)
def test_kinds(tmp_path, images, shape, kind):
    np.savez(tmp_path / "a.npz", images)
    sets = data.load(data.add(tmp_path / "a.npz"))
    assert sets.shape == shape and sets.kind == kind and sets.train.max() <= 1


def test_other_images_have_another_name(tmp_path):
    names = set()
    for level in (0.25, 0.5):
        np.savez(tmp_path / "a.npz", np.full((4, 9), level))
        names.add(data.add(tmp_path / "a.npz"))
    assert len(names) == 2


def test_levels_of_both_parts_are_of_one_scale(tmp_path):
    """Whichever of them has bright pixels; and intensities stay what they are."""
    dark, bright = np.eye(6, dtype=np.uint8), LEVELS.reshape(20, 6)
    for train, test in ((dark, bright), (bright, dark)):
        np.savez(tmp_path / "a.npz", train=train, test=test)
        sets = data.load(data.add(tmp_path / "a.npz"))
        np.testing.assert_allclose(sets.train * 255, train, atol=1e-4)
        np.testing.assert_allclose(sets.test * 255, test, atol=1e-4)
    np.savez(tmp_path / "a.npz", train=bright, test=np.eye(6))
    np.testing.assert_array_equal(data.load(data.add(tmp_path / "a.npz")).test, np.eye(6))


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_a_file_may_be_as_large_as_the_limit(tmp_path, monkeypatch, name):
    """Unpacked: a small one may hold much."""
    np.save(tmp_path / "a.npy", np.zeros((20, 6)))
    size = (tmp_path / "a.npy").stat().st_size
    np.savez_compressed(tmp_path / "a.npz", train=np.zeros((20, 6)))
    monkeypatch.setattr(data.own, "BYTES", size)
    assert data.load(data.add(tmp_path / name)).split == "18/2"
    monkeypatch.setattr(data.own, "BYTES", size - 1)
    with pytest.raises(DataError, match=f"{name} holds more than {size - 1} bytes; give fewer images, or smaller ones"):
        data.add(tmp_path / name)


@pytest.mark.parametrize(("limit", "taken"), [(3 * 4 * 5 * 3, True), (3 * 4 * 5 * 3 - 1, False)])
def test_a_folder_may_be_as_large_as_the_limit(tmp_path, monkeypatch, limit, taken):
    monkeypatch.setattr(data.own, "LIMIT", limit)
    pictures(tmp_path, *[(4, 5)] * 3)
    if taken:
        assert data.load(data.add(tmp_path)).split == "2/1"
    else:
        with pytest.raises(DataError, match=f"has more than {limit} pixels; give fewer images, or smaller ones"):
            data.add(tmp_path)


def nan(x):
    x = x / 255.0
    x[3, 1, 1] = np.nan
    return {"train": x}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": LEVELS / 100.0}, "train has values from 0 to 1.19; scale them to"),
        ({"train": LEVELS.astype(int)}, "train has values from 0 to 119; scale them to"),
        ({"train": LEVELS / -255.0}, "train has values from -0.4"),
        (nan(LEVELS), "train has nan in image 3; remove it"),
        ({"train": np.zeros((0, 9))}, "train is empty, of shape .0, 9.; give images"),
        ({"train": np.zeros((4, 0))}, "train is empty"),
        ({"train": np.zeros(9)}, "train has shape .9,.; give images .N, D., .N, H, W. or"),
        ({"train": np.zeros(())}, "train has shape ..; give images .N, D., .N, H, W. or"),
        ({"train": LEVELS, "test": np.zeros(())}, "test has shape .., the training images are .2, 3."),
        ({"train": LEVELS, "test": np.zeros(3)}, "test has shape .3,., the training images are .2, 3."),
        ({"train": LEVELS, "test": np.zeros((0, 2, 3))}, "test is empty"),
        ({"train": LEVELS, "train_labels": np.zeros((), int)}, "train_labels are int64 of shape ..; give 20 integers"),
        ({"train": np.zeros((9, 4, 4, 2))}, "train has shape .9, 4, 4, 2.; give images"),
        ({"train": np.zeros((1, 9))}, "holds one image; give two or more"),
        ({"train": np.array([["a", "b"]])}, "train holds <U1; give numbers"),
        ({"train": np.array([[1j, 2]])}, "train holds complex128; give numbers"),
        ({"train": np.array([[{}]], object)}, "Object arrays cannot be loaded.*; give a .npz file"),
        ({"train": LEVELS, "test": np.zeros((3, 9))}, "test has shape .3, 9., the training images are .2, 3."),
        ({"train": LEVELS, "labels": np.arange(20)}, "holds labels, train; name the arrays train, test, train_labels"),
        ({"train": LEVELS, "train_labels": np.arange(19)}, "train_labels are int64 of shape .19,.; give 20 integers"),
        ({"train": LEVELS, "train_labels": np.arange(20) - 1}, "train_labels are int64 .*; give 20 integers from 0"),
        ({"train": LEVELS, "train_labels": np.ones(20)}, "train_labels are float64 .*; give 20 integers"),
        ({"train": LEVELS, "test_labels": np.arange(20)}, "has test_labels and no test images"),
    ],
)
def test_wrong_arrays(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        data.add(tmp_path / "a.npz")
    assert "\n" not in str(caught.value) and "a.npz" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and so on", b"no archive", None])
def test_damaged_files(tmp_path, content):
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.npz: .*; give a .npz file of images, or a folder of them"):
        data.add(path)


def test_every_cut_of_a_file_is_told(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", train=LEVELS)
    content = (tmp_path / "a.npz").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "b.npz").write_bytes(content[:length])
        with pytest.raises(DataError):
            data.add(tmp_path / "b.npz")


def pictures(folder, *sizes, mode="L", ending="png"):
    for i, size in enumerate(sizes):
        Image.fromarray(np.full((*size, 3), 10 * i, np.uint8)).convert(mode).save(folder / f"{i:02}.{ending}")


@pytest.mark.parametrize(("mode", "shape"), [("L", (4, 5)), ("RGB", (4, 5, 3)), ("1", (4, 5)), ("P", (4, 5, 3))])
def test_a_folder(tmp_path, mode, shape):
    pictures(tmp_path, *[(4, 5)] * 12, mode=mode)
    (tmp_path / "notes.txt").write_text("no picture")
    sets = data.load(data.add(tmp_path))
    assert sets.shape == shape and sets.split == "10/2" and sets.train_labels is None
    assert data.SOURCES[sets.name].photo
    if mode in ("L", "RGB"):  # others round the levels
        np.testing.assert_allclose(sets.train[0], 10 / 255, atol=1e-7)  # the second: the first is for the test
        np.testing.assert_allclose(sets.test[1], 100 / 255, atol=1e-7)


def test_sixteen_bits_of_grey(tmp_path):
    """As PNG may have them: the lightest is 65535, not 255."""
    for i, level in enumerate((0, 256, 32768, 65535)):
        Image.fromarray(np.full((4, 5), level, np.uint16)).save(tmp_path / f"{i}.png")
    sets = data.load(data.add(tmp_path))
    assert sets.shape == (4, 5)
    np.testing.assert_allclose(sets.train[:, 0], [256 / 65535, 32768 / 65535, 1], atol=0.003)


def test_jpeg_and_png_grey_and_colour_together(tmp_path):
    pictures(tmp_path, (4, 4), (4, 4), mode="RGB", ending="jpg")
    Image.fromarray(np.full((4, 4), 200, np.uint8)).save(tmp_path / "z.PNG")
    sets = data.load(data.add(tmp_path))
    assert sets.shape == (4, 4, 3)
    np.testing.assert_allclose(sets.train[1], 200 / 255, atol=1e-7)


def test_wrong_folders(tmp_path):
    with pytest.raises(DataError, match="holds no images; put .png, .jpg, .jpeg files into it"):
        data.add(tmp_path)
    pictures(tmp_path, (4, 4), (4, 4), (4, 6))
    with pytest.raises(DataError, match="02.png is 4x6 pixels, 00.png is 4x4; bring all to one size"):
        data.add(tmp_path)
    (tmp_path / "02.png").write_bytes((tmp_path / "00.png").read_bytes()[:40])
    with pytest.raises(DataError, match="02.png is no whole PNG or JPEG file .*; remove it") as caught:
        data.add(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_process_of_a_sweep_finds_it(tmp_path):
    np.savez(tmp_path / "a.npz", LEVELS)
    name = data.add(tmp_path / "a.npz")
    code = f"from minivi import data; print(data.load({name!r}).train.shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "(18, 6)\n", done.stderr


@pytest.mark.skipif(os.pathsep != ":", reason="a name cannot hold the separator of paths")
def test_a_path_with_the_separator_of_paths(tmp_path):
    folder = tmp_path / "mine:yours"
    folder.mkdir()
    np.savez(folder / "a.npz", LEVELS)
    test_a_process_of_a_sweep_finds_it(folder)


def test_names_are_of_the_library_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert not data.is_own("digits") and not data.is_own("digit") and data.is_own("faces.npz")
    assert data.is_own("./digits") and data.is_own(str(tmp_path))
