"""Data sets found in a folder or fetched once, checked byte for byte, then handed over as arrays."""

import contextlib
import difflib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minivi.data.downloads import Downloader, remove_leftovers
from minivi.data.formats import DataError, read_bytes, shortened
from minivi.data.own import add, add_inherited, is_own
from minivi.data.sources import SOURCES, Source


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as float32 of shape (N, D) with values in [0, 1], D the product of ``shape``, and what is known of them.

    Attributes:
        name: the set's name.
        kind: ``"grey"`` or ``"colour"`` (values are intensities) or ``"binary"`` (values are 0 and 1); ``"words"``:
            ``train`` and ``test`` are ``scipy.sparse`` arrays of compressed rows, 1 where a text has a word, else 0.
        shape: (H, W) of one image, or (H, W, 3) of a colour image, its last axis red, green and blue; (D,) for words.
        split: the numbers of training, validation (if any) and test images, such as ``"50000/10000/10000"``.
        train, test: images, (N, D).
        validation: images, (N, D), or None where the split has none.
        train_labels, validation_labels, test_labels: int64 of shape (N,), or None where unknown.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    split: str
    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray | None = None
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    validation_labels: np.ndarray | None = None

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return (
            f"Dataset({self.name!r}, {self.kind}, {shape}, {self.split}{', labels' * (self.train_labels is not None)})"
        )


def available() -> list[str]:
    """The names that :func:`load` knows, whether their files are there or not."""
    return list(SOURCES)


def describe(name: str) -> dict[str, object]:
    """What a listing shows of set ``name``; nothing is read or fetched.

    Returns:
        ``name``, ``what``, ``kind``, ``shape``, ``splits``, ``addresses`` and ``megabytes`` as in :class:`Source`;
        ``folder``, where the files belong (None without files); ``cached``, whether all of them are there.

    Raises:
        DataError: no such set.
    """
    source = _source(name)
    shown = ("name", "what", "kind", "shape", "splits", "addresses", "megabytes")
    return {key: getattr(source, key) for key in shown} | {
        "folder": source.folder if source.files or source.place else None,
        "cached": all(_find(source, file) for file in source.files)
        and (not source.place or (source.folder / source.place).exists()),
    }


def named(data: str) -> str:
    """The name of a set, of the library or of the user: of a path of one's own images, which are added.

    Raises:
        DataError: no such set, or a file or folder that :func:`minivi.data.add` cannot take.
    """
    return add(data) if is_own(data) else _source(data).name


def fetch(name: str, progress: bool = True) -> None:
    """Make sure that all files of set ``name`` are there and right; download those that are missing.

    Args:
        name: one of :func:`available`.
        progress: show a progress bar for each download, on the standard error stream.

    Raises:
        DataError: no such set; a file that is there is wrong (it is left alone); no address gave a right one, or the
            folder cannot be written.
    """
    source = _source(name)
    for file in source.files:
        _array(source, file, progress)
    if source.place:
        source.read()


def load(name: str, split: str | None = None, progress: bool = True) -> Dataset:
    """Load set ``name``, fetching what is missing.

    Args:
        name: one of :func:`available`.
        split: one of the set's splits (``describe(name)["splits"]``), default the first. Validation images are the
            last of the training file: for MNIST, ``"50000/10000/10000"`` takes images 50,000 to 59,999.
        progress: show a progress bar for each download, on the standard error stream.

    Raises:
        DataError: no such set or split, or what :func:`fetch` raises.

    Example:
        >>> digits = load("digits")
        >>> digits
        Dataset('digits', grey, 8 x 8, 1500/297, labels)
        >>> digits.train.shape, float(digits.train.max())
        ((1500, 64), 1.0)
    """
    source = _source(name)
    split = split or source.splits[0]
    if split not in source.splits:
        raise DataError(f"load: {name} has no split {split!r}; there are {', '.join(source.splits)}")
    x, labels, x_test, labels_test = source.read(*[_array(source, file, progress) for file in source.files])
    n, has_validation = int(split.split("/")[0]), split.count("/") == 2
    return Dataset(
        name=name,
        kind=source.kind,
        shape=source.shape,
        split=split,
        train=x[:n],
        test=x_test,
        validation=x[n:] if has_validation else None,
        train_labels=None if labels is None else labels[:n],
        test_labels=labels_test,
        validation_labels=labels[n:] if has_validation and labels is not None else None,
    )


def texts(name: str, progress: bool = True) -> list[str]:
    """The texts of set ``name`` as they are, one after another; :func:`load` gives their words alone.

    Raises:
        DataError: no such set, one that holds no texts, or what :func:`fetch` raises.
    """
    source = _source(name)
    if source.kind != "words":
        raise DataError(f"texts: {name} holds no texts; polarity does")
    return [text for file in source.files for text in _array(source, file, progress)]


def _source(name: str) -> Source:
    if name not in SOURCES:
        add_inherited(name)
    if name not in SOURCES:
        near = difflib.get_close_matches(str(name), SOURCES, 1)
        meant = f"did you mean {near[0]}; " if near else ""
        raise DataError(f"no data set {shortened(name)}; {meant}there are {', '.join(SOURCES)}")
    return SOURCES[name]


def _find(source: Source, file: str) -> Path | None:
    """The path of a file that is there, plain or gzip'd."""
    paths = [source.folder / (file + suffix) for suffix in ("", ".gz")]
    return next((path for path in paths if os.path.exists(path)), None)


def _decode(source: Source, file: str, content: bytes, where: str | Path) -> np.ndarray | dict | list[str]:
    """Hold unpacked bytes against the checksum, then parse them: no parser sees a foreign file where one is known."""
    algorithm, _, digest = source.files[file].rpartition(":")
    if digest and hashlib.new(algorithm or "sha256", content, usedforsecurity=False).hexdigest() != digest:
        raise DataError(
            f"{where} is not the published {file}: its checksum differs, it has {len(content)} bytes and starts with "
            f"{content[:16]!r}"
        )
    return source.parse(content, where)


def _array(source: Source, file: str, progress: bool) -> np.ndarray | dict | list[str]:
    """The decoded content of one file, fetched if it is missing."""
    path = _find(source, file) or _download(source, file, progress)
    try:
        return _decode(source, file, read_bytes(path, source.limit), path)
    except DataError as error:
        raise DataError(f"{error}; move it away, then run `minivi data fetch {source.name}`") from error


def _download(source: Source, file: str, progress: bool) -> Path:
    """Fetch one file from the first address that gives the right bytes."""
    import pooch
    from requests import HTTPError, RequestException

    download = Downloader(progress)

    def get(url, temporary, _):
        download(url, temporary, None)
        content = read_bytes(temporary, source.limit)
        _decode(source, file, content, url)
        Path(temporary).write_bytes(content)
        os.chmod(temporary, 0o644)  # temporary files are private, but a class may share the folder

    target, failures = source.folder, []
    with contextlib.suppress(OSError):  # a folder that cannot be written is told below
        remove_leftovers(target)
    for address in source.addresses:
        url = address + file + source.suffix
        try:
            return Path(pooch.retrieve(url, source.files[file] or None, file, target, downloader=get))
        except (DataError, HTTPError) as error:
            failures.append(str(error))
        except RequestException as error:
            failures.append(f"{url} cannot be reached ({type(error).__name__})")
        except OSError as error:
            raise DataError(
                f"fetch: cannot write {target / file} ({error}); make room, or set MINIVI_DATA to another folder"
            ) from error
    raise DataError(
        f"fetch: no address gave {file}: {'; '.join(failures)}. Try later, or fetch it by hand and put it, "
        f"gzip'd or not, at {target / file}"
    )
