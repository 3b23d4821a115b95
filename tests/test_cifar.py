"""CIFAR-10 in its binary version, from archives and batches made here; and every way in which they can be wrong."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from minivi import data
from minivi.data import sources


def batch(count, seed=0):
    rng = np.random.default_rng(seed)
    labels, images = rng.integers(0, 10, count, np.uint8), rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    planes = images.transpose(0, 3, 1, 2).reshape(count, -1)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes(), images, labels


def archive(path, contents, monkeypatch):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(sources, "CIFAR_MD5", hashlib.md5(path.read_bytes()).hexdigest())


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path))
    return tmp_path / "cifar10"


def test_a_batch():
    content, images, labels = batch(3)
    ours, theirs = data.parse_cifar(content)
    np.testing.assert_array_equal(ours, images)
    np.testing.assert_array_equal(theirs, labels)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "has 0 bytes, no multiple of 3073"),
        (batch(2)[0][:-1], "has 6145 bytes.*truncated"),
        (b"\x0a" + bytes(3072), "the label 10"),
    ],
)
def test_a_wrong_batch(content, match):
    with pytest.raises(data.DataError, match=match):
        data.parse_cifar(content, "data_batch_1.bin")


def test_the_archive(home, monkeypatch):
    names = [name for part in sources.CIFAR_PARTS for name in part]
    made = {name: batch(4 + i, i) for i, name in enumerate(names)}
    archive(home / sources.CIFAR, {name: content for name, (content, _, _) in made.items()}, monkeypatch)
    full, small = data.load("cifar10"), data.load("cifar10_small")
    images = np.concatenate([made[name][1] for name in names[:5]])
    np.testing.assert_array_equal(full.train, (images / np.float32(255)).reshape(-1, 3072).astype("float32"))
    np.testing.assert_array_equal(full.test_labels, made[names[5]][2])
    np.testing.assert_array_equal(small.train, full.train[:4])
    assert full.shape == small.shape == (32, 32, 3) and full.test.shape == small.test.shape == (9, 3072)


def test_batches_alone_are_the_small_set(home):
    home.mkdir()
    for i, name in enumerate(("data_batch_1.bin", "test_batch.bin")):
        (home / name).write_bytes(batch(3 + i, i)[0])
    small = data.load("cifar10_small")
    np.testing.assert_array_equal(small.test_labels, batch(4, 1)[2])
    (home / "test_batch.bin").write_bytes(batch(4, 1)[0][:-5])
    with pytest.raises(data.DataError, match=r"test_batch\.bin has \d+ bytes.*truncated"):
        data.load("cifar10_small")


def test_wrong_archives(home, monkeypatch):
    home.mkdir()
    path = home / sources.CIFAR
    path.write_bytes(b"something else")
    with pytest.raises(data.DataError, match="not the published"):
        data.load("cifar10")
    monkeypatch.setattr(sources, "CIFAR_MD5", hashlib.md5(b"something else").hexdigest())
    with pytest.raises(data.DataError, match=r"no gzip'd tar"):
        data.load("cifar10")
    archive(path, {"data_batch_1.bin": batch(2)[0]}, monkeypatch)
    with pytest.raises(data.DataError, match=r"has no cifar-10-batches-bin/data_batch_2\.bin"):
        data.load("cifar10")
