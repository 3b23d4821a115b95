"""Labeled Faces in the Wild without a network: a fetcher of our own in scikit-learn's place; and colour pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minivi import cli, data, plots

SHAPE = (31, 23, 3)


@pytest.fixture
def fetcher(monkeypatch, tmp_path):
    """What ``fetch_lfw_people`` was asked; ``fetcher.gives`` is what it returns, or raises."""
    monkeypatch.setenv("MINIVI_DATA", str(tmp_path))
    me = SimpleNamespace(asked=[], gives=None)

    def fetch_lfw_people(**options):
        me.asked.append(options)
        if isinstance(me.gives, BaseException):
            raise me.gives
        return me.gives

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_people", fetch_lfw_people)
    return me


def people(count=13233, shape=SHAPE, top=1.0):
    """Faces that tell their number, their plane and their place."""
    x = np.zeros((count, *shape), np.float32)
    x[:, 0, 0, 0] = np.arange(count) / count
    x[:, 0, 1, 2] = 0.25
    x[:, 1, 0, 1] = top
    return SimpleNamespace(images=x, target=np.arange(count) % 5749)


def test_faces_are_rows_of_pixels_in_three_planes(fetcher, tmp_path):
    fetcher.gives = people()
    faces = data.load("lfw")
    assert (faces.kind, faces.shape, faces.split) == ("colour", SHAPE, "12000/1233")
    assert (faces.train.shape, faces.test.shape, faces.train.dtype) == ((12000, 2139), (1233, 2139), np.float32)
    assert_array_equal(np.flatnonzero(faces.test[0]), [0, 5, 23 * 3 + 1])  # red at (0, 0), blue at (0, 1), green below
    assert_array_equal(faces.test[:, 0], fetcher.gives.images[12000:, 0, 0, 0])
    assert faces.test_labels.tolist() == (np.arange(12000, 13233) % 5749).tolist()
    (options,) = fetcher.asked
    assert options["color"] is True
    assert options["data_home"] == tmp_path / "lfw"
    assert int(options["resize"] * 125) == 31
    assert int(options["resize"] * 94) == 23


def test_the_listing_knows_whether_they_are_there(fetcher, tmp_path, capsys):
    about = data.describe("lfw")
    assert (about["cached"], about["folder"]) == (False, tmp_path / "lfw")
    (tmp_path / "lfw" / "lfw_home" / "lfw_funneled").mkdir(parents=True)
    assert data.describe("lfw")["cached"]
    assert cli.main(["data", "list"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lfw")]
    assert "12000/1233" in line
    assert line.split()[-3:] == ["yes", "233", "MB"]
    assert fetcher.asked == []


def test_fetch_fetches(fetcher, capsys):
    fetcher.gives = people()
    assert cli.main(["data", "fetch", "lfw"]) == 0
    assert len(fetcher.asked) == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError("<urlopen error: no address>\nand more"),
        EOFError("Compressed file ended"),
        PermissionError(),
        KeyError(),
    ],
)
def test_without_a_network_one_line_says_the_mend(error, fetcher, tmp_path, capsys):
    fetcher.gives = error
    with pytest.raises(data.DataError, match=r"\A[^\n]*\Z") as caught:
        data.load("lfw")
    assert "`minivi data fetch lfw`" in str(caught.value)
    assert f"lfw-funneled.tgz and pairs.txt, pairsDevTrain.txt, pairsDevTest.txt into {tmp_path}" in str(caught.value)
    assert cli.main(["data", "fetch", "lfw"]) != 0
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("wrong", [{"count": 100}, {"shape": (31, 22, 3)}, {"top": 255.0}, {"top": np.nan}])
def test_other_faces_than_expected_are_refused(wrong, fetcher):
    fetcher.gives = people(**wrong)
    with pytest.raises(data.DataError, match=r"\A[^\n]*scikit-learn gave \([^\n]*remove [^\n]*\Z"):
        data.load("lfw")


def test_scikit_learns_own_failure_is_one_line(monkeypatch, tmp_path):
    """The true fetcher, its download cut off: what a machine without a network sees."""
    import sklearn.datasets._lfw as lfw

    def no_network(*_, **__):
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    monkeypatch.setenv("MINIVI_DATA", str(tmp_path))
    monkeypatch.setattr(lfw, "_fetch_remote", no_network)
    with pytest.raises(data.DataError, match="Name or service not known.*minivi data fetch lfw"):
        data.load("lfw")
    assert not data.describe("lfw")["cached"]


def test_tiles_keep_colours_on_white():
    x = np.zeros((3, 2, 2, 3))
    x[0, 0, 1] = 1.0, 0.5, 0.0
    sheet = plots.tile(x.reshape(3, -1), (2, 2, 3), columns=2)
    assert sheet.shape == (5, 5, 3)
    assert sheet[0, 1].tolist() == [1.0, 0.5, 0.0]
    assert (sheet[2] == 1).all()  # the gap
    assert (sheet[3:, 3:] == 1).all()  # no fourth image
    assert (sheet[3:, :2] == 0).all()


def test_photographs_are_light_on_white_paper():
    x = np.array([[0.0, 0.25, 1.0, 1.5], [0.5, 0.5, 0.5, 0.5]])
    ink, photo = (plots.tile(x, (2, 2), columns=2, photo=photo) for photo in (False, True))
    assert ink[:, :2].tolist() == [[0.0, 0.25], [1.0, 1.0]]
    assert photo[:, :2].tolist() == [[1.0, 0.75], [0.0, 0.0]]
    assert (ink[:, 2] == 0).all()
    assert (photo[:, 2] == 0).all()
