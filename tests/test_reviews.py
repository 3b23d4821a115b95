"""Reviews as bags of words: files and tars made here, every way in which they can be wrong, and chapter 7's cells."""

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import study
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array

from minivi import data, optim
from minivi.data import sources
from minivi.models import Classifier
from minivi.random import Generator


def refused(match):
    """A context that expects a DataError of one line."""
    return pytest.raises(data.DataError, match=rf"\A(?=[^\n]*\Z).*{match}")


# -- words -------------------------------------------------------------------------------------------------------------


def test_bags_hold_the_presence_of_the_most_frequent_training_words():
    train = ["The cat, the CAT; it's the cat's!", "a dog -- the dog", "été_a"]
    test = ["dog zebra zebra zebra the", "", "unknown words"]
    # the 4, cat 2, dog 2, a 2 (the underscore parts words), then one each: cat's, it's, été
    x, x_test = data.bags_of_words(train, test, 5)
    assert isinstance(x, csr_array)
    assert x.dtype == x_test.dtype == np.float32
    assert_array_equal(x.toarray(), [[1, 0, 1, 0, 1], [1, 1, 0, 1, 0], [0, 1, 0, 0, 0]])  # the, a, cat, dog, cat's
    assert_array_equal(x_test.toarray(), [[1, 0, 0, 1, 0], [0] * 5, [0] * 5])
    assert x.has_canonical_format
    assert data.bags_of_words(train, test, 9)[0].toarray()[:, 7:].sum() == 0  # seven words; two empty columns


# -- polarity ----------------------------------------------------------------------------------------------------------


def put_polarity(monkeypatch, folder, negative, positive):
    """Files of our own with their checksums, in the place of the published ones."""
    monkeypatch.setenv("MINIVI_DATA", str(folder))
    source, contents = data.SOURCES["polarity"], ["\n".join(part).encode() + b"\n" for part in (negative, positive)]
    (folder / "polarity").mkdir()
    known = {}
    for name, content in zip(source.files, contents, strict=True):
        (folder / "polarity" / name).write_bytes(content)
        known[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(data.SOURCES, "polarity", replace(source, files=known, addresses=()))


def test_polarity_mixes_both_sides_and_keeps_labels(monkeypatch, tmp_path):
    negative, positive = ([f"all {side} {side}{i}" for i in range(5331)] for side in ("bad", "good"))
    put_polarity(monkeypatch, tmp_path, negative, positive)
    loaded = data.load("polarity")
    assert (loaded.kind, loaded.shape, loaded.split) == ("words", (10_000,), "9596/1066")
    assert (loaded.train.shape, loaded.test.shape) == ((9596, 10_000), (1066, 10_000))
    labels = loaded.train_labels
    assert labels.dtype == np.int64
    assert_array_equal(loaded.train[:, [0]].toarray()[:, 0], 1)  # "all"
    sides = loaded.train[:, [1, 2]].toarray()  # one of them is "bad", one "good"
    bad = 0 if sides[labels == 0, 0].all() else 1
    assert_array_equal(sides[:, bad], labels == 0)
    assert_array_equal(sides[:, 1 - bad], labels == 1)
    assert_array_equal(loaded.test[:, [1, 2]].toarray()[:, 1 - bad], loaded.test_labels)
    assert np.bincount(loaded.test_labels).min() >= 530
    for start in range(0, 9500, 100):  # any run of rows has both
        assert 45 <= labels[start : start + 100].sum() <= 55
    own = np.diff(loaded.train[:, 3:].indptr)  # words of one text: at most once each, hence no text is there twice
    assert loaded.train[:, 3:].sum(axis=0).max() == 1
    assert own.max() == 1


def test_snippets_that_are_none(monkeypatch, tmp_path):
    assert data.parse_snippets("so é\nla la\n".encode()) == ["so é", "la la"]
    for content, match in [
        ("é\n".encode("cp1252"), "no UTF-8 text .*iconv -f cp1252 -t utf-8"),
        (b"fine\n\nfine\n", "line 2: 0 characters"),
        (b"", "line 1: 0 characters"),
        (b"fine\n" + b"a" * 1001, "line 2: 1001 characters, 'aaaa"),
        (b"a\0b\n", "line 1"),
    ]:
        with refused(match):
            data.parse_snippets(content, "some file")
    put_polarity(monkeypatch, tmp_path, ["one"], ["two"])
    path = tmp_path / "polarity" / "rt-polarity.pos"
    path.write_bytes(b"another\n")
    with refused("rt-polarity.pos is not the published rt-polarity.pos: .*; move it away, then run"):
        data.load("polarity")
    path.unlink()
    assert not data.describe("polarity")["cached"]


def test_real_polarity():
    if not data.describe("polarity")["cached"]:
        pytest.skip(f"polarity is not in {data.folder()}; run `minivi data fetch polarity` or set MINIVI_DATA")
    loaded = data.load("polarity")
    assert (loaded.train.shape, loaded.test.shape) == ((9596, 10_000), (1066, 10_000))
    counts = np.bincount(np.concatenate([loaded.train_labels, loaded.test_labels]))
    assert counts.tolist() == [5331, 5331]
    assert set(loaded.train.data) == {1.0}
    assert 15 < loaded.train.nnz / 9596 < 20
    # Naive Bayes on these words is known to get about three in four of the snippets right.
    seen = np.array([loaded.train[loaded.train_labels == k].sum(axis=0) + 1.0 for k in (0, 1)])
    weights = np.log(seen[1] / seen[1].sum()) - np.log(seen[0] / seen[0].sum())
    assert 0.73 < np.mean((loaded.test @ weights > 0) == loaded.test_labels) < 0.83


# -- IMDB --------------------------------------------------------------------------------------------------------------


def reviews(count=2):
    """By the name of a member, its text; the largest ID first, and a bomb, notes and a review without label beside."""
    found = {"aclImdb/README": b"words", "aclImdb/train/unsup/0_0.txt": b"neither", "aclImdb/imdb.vocab": b"the"}
    for part in ("train", "test"):
        for side in ("neg", "pos"):
            for i in reversed(range(count)):
                text = f"{part} {side}<br /><br />{side}{i} é"
                found[f"aclImdb/{part}/{side}/{i * 9}_{i + 1}.txt"] = text.encode()
    return found


def tar(members, links=()):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return file.getvalue()


@pytest.fixture
def imdb(monkeypatch, tmp_path):
    """``imdb(content)`` puts an archive there, its checksum in the place of the published one; returns its path."""
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path))
    monkeypatch.setitem(data.SOURCES, "imdb", replace(data.SOURCES["imdb"], splits=("4/4",)))
    path = tmp_path / "imdb" / "aclImdb_v1.tar.gz"
    path.parent.mkdir()

    def put(content):
        path.write_bytes(content)
        monkeypatch.setattr(sources, "IMDB_MD5", hashlib.md5(content, usedforsecurity=False).hexdigest())
        return path

    return put


def test_imdb_is_read_without_unpacking(imdb, tmp_path):
    assert not data.describe("imdb")["cached"]
    path = imdb(tar(reviews(), [("aclImdb/train/neg/7_1.txt", "/etc/passwd")]))
    assert data.describe("imdb")["cached"]
    loaded = data.load("imdb")
    assert (loaded.kind, loaded.shape, loaded.split) == ("words", (10_000,), "4/4")
    assert loaded.train_labels.tolist() == loaded.test_labels.tolist() == [0, 1, 0, 1]
    # Training words: train é 4 times, neg pos twice, neg0 neg1 pos0 pos1 once, and none of the tag.
    assert_array_equal(
        loaded.train.toarray()[:, :8],
        [
            [1, 1, 1, 0, 1, 0, 0, 0],
            [1, 1, 0, 1, 0, 0, 1, 0],
            [1, 1, 1, 0, 0, 1, 0, 0],
            [1, 1, 0, 1, 0, 0, 0, 1],
        ],
    )
    assert loaded.train[:, 8:].nnz == 0
    assert_array_equal(loaded.test.toarray()[:, 1:8], loaded.train.toarray()[:, 1:8])
    assert loaded.test[:, [0]].nnz == 0  # "train" is in no test review, "test" is no word of the training reviews
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [path.name]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda: tar(reviews(1)), r"has \{.*\}, not 2 of each side"),
        (lambda: tar({"aclImdb/README": b"x"}), "has no reviews"),
        (lambda: tar(reviews() | {"aclImdb/test/pos/44_9.txt": b"a" * 100_001}), "44_9.txt is 100001 bytes long"),
        (lambda: tar(reviews() | {"aclImdb/test/pos/44_9.txt": b"\xff\xfe"}), "no gzip'd tar of reviews .*codec"),
        (lambda: tar(reviews() | {"aclImdb/test/pos/9_9.txt": b"again"}), "9_9.txt is there twice"),
        (lambda: tar(reviews())[:-40], "no gzip'd tar of reviews|has "),
        (lambda: gzip.compress(b"no tar" * 500), "no gzip'd tar of reviews"),
        (lambda: b"<!DOCTYPE html>", "no gzip'd tar of reviews"),
        (lambda: b"", "no gzip'd tar of reviews"),
    ],
)
def test_other_archives_are_refused(change, match, imdb):
    imdb(change())
    with refused(match):
        data.load("imdb")


def test_imdb_is_held_against_its_checksum(imdb):
    path = imdb(tar(reviews()))
    path.write_bytes(path.read_bytes() + b"\0")
    with refused("is not the published aclImdb_v1.tar.gz: its checksum differs; move it away, then run .*fetch imdb"):
        data.load("imdb")


@pytest.mark.parametrize("error", [OSError("no network\nat all"), ValueError("MD5 hash of downloaded file")])
def test_imdb_without_a_network(error, imdb, monkeypatch, tmp_path):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("pooch.retrieve", fails)
    with refused(r"cannot fetch https://ai.stanford.edu/.*put it at .*imdb.aclImdb_v1.tar.gz"):
        data.fetch("imdb")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_imdb_is_fetched_with_its_checksum(imdb, monkeypatch):
    content, asked = tar(reviews()), []
    path = imdb(content)
    path.unlink()

    def retrieve(url, known_hash, fname, folder, **_):
        asked.append((url, known_hash))
        Path(folder, fname).write_bytes(content)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert data.load("imdb").train.shape == (4, 10_000)
    assert data.load("imdb").train.shape == (4, 10_000)
    assert asked == [("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz", f"md5:{sources.IMDB_MD5}")]


# -- chapter 7 ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chapter():
    files = ("_shared", "bias_correction")
    return SimpleNamespace(**{k: v for f in files for k, v in vars(study(f"ch07_experiments.{f}")).items()})


CELL = {
    "source": "digits", "images": 300, "hidden": "", "input_dropout": 0.0, "hidden_dropout": 0.0, "optimizer": "Adam",
    "step_size": 0.01, "momentum": 0.9, "annealed": 1, "weight_decay": 1e-4, "epochs": 3, "seed": 0,
}  # fmt: skip


def test_a_cell_is_its_loss_and_errors(chapter):
    found = chapter.classify(**CELL)
    assert found["steps"] == [1, 2, 3, 4, 5, 6, 7, 8, 9]  # three epochs of 128, 128 and 44
    assert found["loss"][-1] < found["loss"][0]
    assert found["error"][1] < found["error"][0] <= 1
    assert np.all(np.diff(found["seconds"]) > 0)
    assert chapter.classify(**CELL)["loss"] == found["loss"]
    assert chapter.speed(found) == pytest.approx(np.mean(found["loss"]))


def test_a_cell_that_diverges_says_so(chapter):
    found = chapter.classify(**CELL | {"optimizer": "Nesterov", "hidden": "20", "step_size": 1e30, "annealed": 0})
    assert found["loss"][-1] is None
    assert chapter.speed(found) == np.inf


def test_nothing_is_noted_from_the_step_on_at_which_a_run_diverges(chapter):
    """1, then 4e400, which is infinite: neither that nor its second is left, nor what comes of asking for the cause."""
    model = Classifier(1, [], 1, rng=Generator(0), dtype="float64")
    weight = model.parameters()[0]
    weight.assign(np.ones((1, 1)))
    loss = lambda x, rng: (weight * weight).sum()
    found = chapter.descend(
        model, loss, optim.SGD([weight], 1e200), np.zeros((4, 1)), epochs=1, batch=1, rng=Generator(0)
    )
    assert found[0, 0] == 1.0
    assert_array_equal(np.isnan(found), [[False, True, True, True]] * 2)


def test_what_leaving_the_correction_out_costs(chapter):
    corrected, without = np.array([30.0, 10.0, 11.0, np.inf]), np.array([20.0, 13.0, np.inf, np.inf])
    assert chapter.harm(corrected, without, 100.0) == pytest.approx((3 + 89) / 2)  # where corrected is at most 12
    assert chapter.harm(corrected, corrected, 100.0) == 0


def test_reviews_at_quick_have_rare_words_that_matter(chapter):
    made = chapter.synthetic_reviews()
    assert made.train.shape == (1200, 2000)
    assert made.test.shape == (300, 2000)
    frequency = made.train.toarray().mean(axis=0)
    np.testing.assert_allclose(frequency[:10], np.minimum(0.9, 3 / np.arange(1, 11)), atol=0.06)
    assert (frequency[1000:] < 0.02).all()
    assert 0.4 < made.train_labels.mean() < 0.6
