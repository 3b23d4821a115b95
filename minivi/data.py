"""Data sets: found in a folder or fetched once, checked byte for byte, then handed over as arrays.

A set is one entry of :data:`SOURCES`: its files with their checksums, the addresses that serve them, and a function
that makes images and labels of the decoded files. Files lie, gzip'd or plain, in one folder a set:

    $MINIVI_DATA, or the user's cache folder
      |-- mnist/          train-images-idx3-ubyte(.gz), train-labels-..., t10k-images-..., t10k-labels-...
      |-- mnist_static/   binarized_mnist_train.amat(.gz), ..._valid.amat, ..._test.amat
      |-- frey/           frey_rawface.mat
      |-- lfw/            lfw_home/lfw_funneled/, as scikit-learn fetches, checks and unpacks it
      |-- omniglot/       images_background.zip, ..._evaluation.zip, ..._small1.zip, ..._small2.zip, chardata.mat
      |-- polarity/       rt-polarity.neg, rt-polarity.pos
      `-- imdb/           aclImdb_v1.tar.gz, as published

A file that is there is only read, so the folder may be read-only; a missing one is fetched. Mirrors compress the same
bytes differently, hence each checksum is that of the bytes *without* gzip (but for ``imdb``). A download is unpacked
and checked under a temporary name and renamed last: the folder holds whole, right files or none. Nothing is ever
unpickled here (scikit-learn keeps the decoded faces of ``lfw`` in a joblib cache of its own, in ``lfw_home``).
"""

import contextlib
import difflib
import gzip
import hashlib
import io
import math
import os
import re
import stat
import tarfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minivi.progress import visible

__all__ = [
    "SOURCES",
    "DataError",
    "Dataset",
    "Source",
    "available",
    "bags_of_words",
    "batches",
    "binarize",
    "describe",
    "fetch",
    "folder",
    "load",
    "parse_amat",
    "parse_idx",
    "parse_mat",
    "parse_mats",
    "parse_omniglot",
    "parse_reviews",
    "parse_snippets",
    "read_bytes",
]

# No file of any set is larger unpacked; a stream that unpacks to more is damaged or hostile.
LIMIT = 2**28
SMALL = 2**24  # nor is a zip of drawings or a file of snippets, whose parts cost more memory than bytes
SECONDS = 3600  # for one download
WORDS = 10_000  # of the bags of words (thesis, section 7.5.1)


class DataError(RuntimeError):
    """A file, name or argument that cannot give the data asked for; the message is one line that says the mend."""


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


# -- formats -----------------------------------------------------------------------------------------------------------


def read_bytes(path: str | Path) -> bytes:
    """The content of a file, unpacked if it is gzip'd (by its first bytes, whatever its name).

    Raises:
        DataError: the file cannot be read, its gzip stream is truncated or damaged, or it holds over 256 MiB.
    """
    try:
        with _open(path) as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = (gzip.open(file) if packed else file).read(LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is truncated, damaged or unreadable ({error})") from error
    if len(content) > LIMIT:
        raise DataError(f"{path} unpacks to more than {LIMIT} bytes, which no data set here does")
    return content


def _open(path: str | Path) -> io.BufferedReader:
    """Open a file to read; a pipe or device, which may never end, is an ``OSError``."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("no regular file")
    return open(path, "rb")


def parse_idx(content: bytes, where: str | Path = "content") -> np.ndarray:
    """Decode IDX, the format of MNIST (LeCun, Cortes and Burges, yann.lecun.com/exdb/mnist, "file formats").

    Two zero bytes, the type 8 (unsigned byte), the number of dimensions, each dimension as big-endian uint32, then
    the values: magic number 2051 for images (N, H, W), 2049 for labels (N,). No dimension is used before it is held
    against the length of ``content``.

    Args:
        content: the unpacked bytes.
        where: the file or address that a message names.

    Returns:
        A read-only uint8 view of ``content``, of the dimensions announced.

    Raises:
        DataError: not IDX of 1 to 4 dimensions, or not exactly as long as its header says.
    """
    if content[:3] != b"\0\0\x08" or content[3:4] not in (b"\1", b"\2", b"\3", b"\4"):
        raise DataError(f"{where} is no IDX file of unsigned bytes: it starts with {content[:16]!r}")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise DataError(f"{where} is truncated: {len(content)} bytes, and its IDX header alone has {header}")
    shape = tuple(np.frombuffer(content, ">u4", content[3], offset=4).tolist())
    expected = header + math.prod(shape)
    if len(content) != expected or 0 in shape:
        raise DataError(f"{where} has {len(content)} bytes, but its IDX header announces {shape}: {expected} bytes")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def parse_amat(content: bytes, where: str | Path = "content") -> np.ndarray:
    """Decode text of 0s and 1s, one image a line: digits with one space between, as in ``binarized_mnist_*.amat``.

    Fixed columns make this a few passes over the bytes instead of ``np.loadtxt``'s minutes.

    Args:
        content: the unpacked bytes.
        where: the file or address that a message names.

    Returns:
        uint8 of shape (N, D), 0 or 1.

    Raises:
        DataError: a row that differs from the first in length, or holds anything but single-spaced 0s and 1s.
    """
    content = content if content.endswith(b"\n") else content + b"\n"
    stride = content.index(b"\n") + 1
    if stride % 2 == 0 and len(content) % stride == 0:
        pairs = np.frombuffer(content, np.uint8).reshape(-1, stride // 2, 2)  # each digit and what follows it
        digits, spaces, ends = pairs[..., 0], pairs[:, :-1, 1], pairs[:, -1, 1]
        if ((digits | 1) == ord("1")).all() and (spaces == ord(" ")).all() and (ends == ord("\n")).all():
            return digits & 1
    rows, start, number = (
        content.count(b"\n"),
        0,
        1,
    )  # row by row: a list of them all may take many times the memory of the content
    while (end := content.index(b"\n", start)) - start == stride - 1 <= 2**16:
        if not re.fullmatch(rb"[01]( [01])*", content[start:end]):
            break
        start, number = end + 1, number + 1
    raise DataError(
        f"{where} is no table of single-spaced 0s and 1s with rows of one length: row {number} of "
        f"{rows} has {end - start} bytes and starts with {content[start : min(end, start + 16)]!r}"
    )


def parse_mat(content: bytes, where: str | Path = "content") -> np.ndarray:
    """Decode a MATLAB 5 file that holds one array of numbers, and return that array.

    Raises:
        DataError: it is no such file, or holds none or several arrays.
    """
    arrays = parse_mats(content, where)
    values = list(arrays.values())
    if len(arrays) != 1 or values[0] is None:
        held = _short(sorted(arrays)) if arrays else "nothing"
        raise DataError(f"{where} holds {held}, not one array of numbers; remove it")
    return values[0]


def parse_mats(content: bytes, where: str | Path = "content") -> dict[str, np.ndarray | None]:
    """Decode a MATLAB 5 file ("MAT-File Format", The MathWorks): its arrays by name.

    After a header of 128 bytes come elements: type and number of bytes as uint32, then these bytes, filled up to a
    multiple of 8 (up to 4 bytes may stand in the second half of the tag itself). An array is an element of flags,
    dimensions, name and numbers; it may be compressed as a whole. Only arrays of real numbers are decoded, and nothing
    is nested in those, so that no file can lead deeper than this function.

    Returns:
        Arrays of the type in which their numbers are stored; None in the place of text, cells, structures, complex
        numbers and whatever else there is.

    Raises:
        DataError: it is no such file, is truncated, unpacks to over 256 MiB or holds over 100 arrays.
    """
    order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(content[124:128])
    found, left = {}, LIMIT
    try:
        if order is None:
            raise ValueError(f"it starts with {content[:16]!r}")
        rest = memoryview(content)[128:]
        while rest:
            kind, data, rest = _mat_element(rest, order, padded=False)
            if kind == COMPRESSED:
                inflate = zlib.decompressobj()
                data = inflate.decompress(data, left + 1)
                if len(data) > left or not inflate.eof:
                    raise ValueError("an array is truncated or too large")
                left -= len(data)
                kind, data, _ = _mat_element(memoryview(data), order, padded=False)
            if kind != MATRIX or len(found) == 100:
                raise ValueError(f"an element of type {kind} where an array should begin, or over 100 arrays")
            name, array = _mat_array(data, order)
            found[name] = array
    except (ValueError, zlib.error) as error:
        raise DataError(f"{where} is no MATLAB 5 file ({_reason(error)}); remove it to fetch it again") from None
    return found


MATRIX, COMPRESSED = 14, 15
# The types of numbers, and the classes of arrays that hold them (double to uint64).
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC = range(6, 16)


def _mat_element(content, order, padded=True):
    """The type and bytes of the first element of a MATLAB file, and what comes after it."""
    if len(content) < 8:
        raise ValueError("it is truncated")
    kind, size = np.frombuffer(content, f"{order}u4", 2).tolist()
    start = 8
    if kind >> 16:  # a small element
        kind, size, start = kind & 0xFFFF, kind >> 16, 4
    end = start + size
    if end > (8 if start == 4 else len(content)):
        raise ValueError(f"it is truncated: an element announces {size} bytes, {len(content) - start} are left")
    return kind, content[start:end], content[-(-end // 8) * 8 if padded else end :]


def _mat_array(content, order):
    """The name of an array in a MATLAB file, and the array; None if it is not one of real numbers."""
    parts = []
    for _ in range(3):
        kind, data, content = _mat_element(content, order)
        parts.append((kind, data))
    (_, flags), (_, dimensions), (_, name) = parts
    if len(flags) != 8 or not 8 <= len(dimensions) <= 128 or len(dimensions) % 4 or len(name) > 63:
        raise ValueError("an array has no flags, no dimensions or no name")
    flags, name = int(np.frombuffer(flags, f"{order}u4", 1)[0]), bytes(name).decode("latin-1")
    if flags & 0xFF not in NUMERIC or flags & 0x800:  # the bit that says complex
        return name, None
    shape = np.frombuffer(dimensions, f"{order}i4").tolist()
    kind, data, _ = _mat_element(content, order)
    if kind not in NUMBERS or min(shape) < 0 or math.prod(shape) * int(NUMBERS[kind][1]) != len(data):
        raise ValueError(f"{_short(name)} announces {_short(shape)} numbers and has {len(data)} bytes of type {kind}")
    array = np.frombuffer(data, order + NUMBERS[kind]).reshape(shape, order="F")
    return name, array.astype(array.dtype.newbyteorder("="), copy=False)


def parse_omniglot(content: bytes, where: str | Path = "content") -> dict[str, np.ndarray]:
    """Decode a zip of Omniglot's drawings, ``images_*/ALPHABET/characterNN/NNNN_DRAWER.png``, and reduce them to 28x28.

    Each of the 28x28 cells is 3.75 pixels wide and high; its value is the part of its area that is ink, with the
    pixels on its border counted by the part that lies inside.

    Args:
        content: of the zip: black strokes on white, 105x105, from the drawers 01 to 20.
        where: the file or address that a message names.

    Returns:
        "ALPHABET/characterNN" -> float32 of shape (20, 784) in [0, 1], drawer after drawer.

    Raises:
        DataError: the zip or a drawing is truncated, damaged or of another size, or drawings are missing.
    """
    from PIL import Image

    left, cell = np.arange(105), np.arange(28)[:, None] * 3.75
    inside = np.clip(np.minimum(left + 1, cell + 3.75) - np.maximum(left, cell), 0.0, None) / 3.75
    inside = inside.astype(np.float32)  # (28, 105); rows sum to 1
    drawings: dict[str, dict[int, np.ndarray]] = {}
    _check_small(content, where)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                place = re.fullmatch(r"[^/]+/([^/]+/character\d\d)/\d{4}_(\d\d)\.png", entry.filename)
                if place is None:
                    continue
                if entry.file_size > 100_000:
                    raise ValueError(f"{entry.filename} is {entry.file_size} bytes long")
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # those unpack piece by piece
                    raise ValueError(f"{entry.filename} is compressed in another way than Omniglot's drawings")
                if len(drawings) > 1000:
                    raise ValueError("it has over 1,000 characters")
                with archive.open(entry) as packed:
                    drawing = packed.read(entry.file_size + 1)  # what is declared may be a lie
                with Image.open(io.BytesIO(drawing), formats=["PNG"]) as image:
                    if image.size != (105, 105):  # known before any pixel is decoded
                        raise ValueError(f"{entry.filename} has {image.size[0]}x{image.size[1]} pixels, not 105x105")
                    ink = np.asarray(image.convert("L")) < 128
                drawings.setdefault(place[1], {})[int(place[2])] = ink
    except Exception as error:  # the readers raise whatever the damage leads to
        raise DataError(f"{where} is no zip of Omniglot's drawings ({_reason(error)})") from None
    for character, drawn in drawings.items():
        if sorted(drawn) != list(range(1, 21)):
            raise DataError(f"{where} has {len(drawn)} drawings of {character}, not those of the drawers 01 to 20")
    if not drawings:
        raise DataError(f"{where} is a zip without any of Omniglot's drawings")
    stacked = {name: np.stack([drawn[i] for i in range(1, 21)]) for name, drawn in sorted(drawings.items())}
    areas = {name: (inside @ ink @ inside.T).reshape(20, 784) for name, ink in stacked.items()}
    return {name: np.minimum(part, np.float32(1)) for name, part in areas.items()}  # but for rounding, at most 1


def parse_snippets(content: bytes, where: str | Path = "content") -> list[str]:
    """Decode texts of one line each, in UTF-8: the sentence polarity data of Pang and Lee (2005).

    Raises:
        DataError: no such text, an empty line, or one of over 1,000 characters.
    """
    _check_small(content, where)
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:  # Cornell's own archive is in Windows-1252
        raise DataError(f"{where} is no UTF-8 text ({error}); `iconv -f cp1252 -t utf-8` makes it that") from None
    bad = next((i for i, line in enumerate(lines) if not 0 < len(line) <= 1000 or "\0" in line), None)
    if bad is not None:
        raise DataError(f"{where} has no snippet in line {bad + 1}: {len(lines[bad])} characters, {lines[bad][:16]!r}")
    return lines


def parse_reviews(file: io.BufferedIOBase, where: str | Path = "content") -> dict[str, list[str]]:
    """Read the reviews of Maas et al. (2011) out of their gzip'd tar, from first byte to last; nothing is extracted.

    A review is ``aclImdb/PART/SIDE/ID_STARS.txt`` in UTF-8; other members, links among them, are skipped.

    Returns:
        "PART/SIDE", such as "train/neg" -> the reviews in the order of their ID.

    Raises:
        DataError: the stream is truncated, damaged or no such tar, or a review is no text or over 100 kB long.
    """
    found: dict[str, dict[int, str]] = {}
    try:
        with _Stream(fileobj=file) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for count, member in enumerate(archive):
                if count == 200_000 or member.offset_data + member.size > 2**30:
                    raise ValueError("it has over 200,000 members, or 1 GiB of them")
                place = re.fullmatch(r"aclImdb/((?:train|test)/(?:neg|pos))/(\d{1,9})_\d{1,2}\.txt", member.name)
                if place is None or not member.isreg():
                    continue
                if member.size > 100_000:
                    raise ValueError(f"{member.name} is {member.size} bytes long")
                if int(place[2]) in found.setdefault(place[1], {}):
                    raise ValueError(f"{member.name} is there twice")
                found[place[1]][int(place[2])] = archive.extractfile(member).read().decode("utf-8")
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{where} is no gzip'd tar of reviews ({_reason(error)})") from None
    return {key: [reviews[i] for i in sorted(reviews)] for key, reviews in found.items()}


class _Stream(gzip.GzipFile):
    """A gzip'd tar of small members: a header that asks for more than 1 MiB at once is damaged or hostile."""

    def read(self, size=-1):
        if not 0 <= size <= 2**20:
            raise ValueError(f"a header or member announces {size} bytes")
        return super().read(size)


def _check_small(content: bytes, where: str | Path) -> None:
    if len(content) > SMALL:
        raise DataError(f"{where} has {len(content)} bytes, more than any file of its kind here ({SMALL})")


def _short(value: object) -> str:
    """The start of what a message shows of a name or of file content."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _reason(error: Exception) -> str:
    """The first line of what a reader has to say, or its start."""
    line = (str(error).splitlines() or [""])[0] or type(error).__name__
    return line if len(line) <= 160 else f"{line[:156]} ..."


# -- sets --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """What there is to know of a set.

    Attributes:
        name: the set's name, and that of its folder.
        what: one line, with the publication.
        kind: ``"grey"``, ``"colour"``, ``"binary"`` or ``"words"``.
        shape: (H, W) of one image, or (H, W, 3); or (D,).
        splits: the splits offered, the default first; the last number counts the test images.
        read: makes (x, labels, x_test, labels_test) of the decoded files, in the order of ``files``.
        parse: decodes the unpacked bytes of a file; its second argument is the name for messages.
        files: all needed, by name without ``.gz``, with the SHA-256 of their unpacked bytes; or ``md5:`` and the MD5
            where only that is published, or nothing where none is: then ``read`` looks at what it gets.
        addresses: folders that serve the files, in the order in which they are tried.
        suffix: what the addresses append to a file's name.
        megabytes: size of the download; 0 where there is none, or it is not known.
        home: the folder of its files, if sets share one that is not called ``name``.
        place: for a set that ``read`` itself fetches: what its folder holds once the set is there.
    """

    name: str
    what: str
    kind: str
    shape: tuple[int, ...]
    splits: tuple[str, ...]
    read: Callable[..., tuple]
    parse: Callable[[bytes, str | Path], np.ndarray | dict[str, np.ndarray] | list[str]] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    suffix: str = ""
    megabytes: float = 0
    home: str = ""
    place: str = ""

    def __post_init__(self):
        if any(a.startswith("http:") for a in self.addresses) and not all(self.files.values()):
            raise ValueError(f"{self.name}: an address without encryption needs the checksum of each file")

    @property
    def folder(self) -> Path:
        """Where its files belong."""
        return folder() / (self.home or self.name)


def _digits():
    """The 1,797 digits that scikit-learn ships, in an order that mixes their 13 writers.

    The file goes from writer to writer. Steps of 1111 (nearly the golden section of 1,797, and coprime to it) visit
    every digit once and spread any run of them evenly; unlike a seeded shuffle, this stays the same for ever.
    """
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    order = np.arange(len(x)) * 1111 % len(x)
    x, labels = (x[order] / 16).astype(np.float32), labels[order].astype(np.int64)
    return x[:1500], labels[:1500], x[1500:], labels[1500:]


def _frey(faces):
    """The frames of the film as rows, (1965, 560), in an order that mixes them.

    The documents name no split. Neighbouring frames are nearly equal, so the last tenth of the film would be a test of
    other expressions, not of other frames: as for the digits, fixed steps spread the test frames evenly.
    """
    x = (faces.T / np.float32(255)).astype(np.float32)
    x = x[np.arange(len(x)) * 1214 % len(x)]  # 1214 is coprime to 1965, and nearly its golden section
    return x[:1765], None, x[1765:], None


def _lfw():
    """13,233 faces in colour, at a quarter of their resolution, in the order that scikit-learn mixes them."""
    from sklearn.datasets import fetch_lfw_people

    home = folder() / "lfw"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each retry; what led to it is in the error
            people = fetch_lfw_people(data_home=home, color=True, resize=0.25)
    except Exception as error:  # the archive's damage, the network's absence, a folder that cannot be written, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"lfw: scikit-learn cannot give the faces ({reason}); run `minivi data fetch lfw` with a network, or put "
            f"lfw-funneled.tgz and pairs.txt, pairsDevTrain.txt, pairsDevTest.txt into {home / 'lfw_home'}"
        ) from error
    x, labels = np.asarray(people.images, np.float32), np.asarray(people.target, np.int64)
    if x.shape != (13233, *SOURCES["lfw"].shape) or not (x.min() >= 0 and x.max() <= 1):
        raise DataError(
            f"lfw: scikit-learn gave {x.shape}, not 13233 faces of 31x23x3 in [0, 1]; remove {home}, then run "
            "`minivi data fetch lfw`"
        )
    x = x.reshape(len(x), -1)
    return x[:12000], labels[:12000], x[12000:], labels[12000:]


def _drawings(characters, drawers, first_label=0):
    """Rows and labels: all characters by the first drawer, then by the next, so that any run of rows mixes them."""
    x = np.stack(list(characters.values()), axis=1)[drawers]  # (drawers, characters, 784)
    labels = first_label + np.tile(np.arange(len(characters), dtype=np.int64), len(x))
    return x.reshape(-1, x.shape[-1]), labels


def _omniglot(background, evaluation):
    """The official split, by alphabets: what is tested are characters never seen."""
    return *_drawings(background, slice(0, 20)), *_drawings(evaluation, slice(0, 20), len(background))


def _omniglot_small(small1, small2):
    """The 8 alphabets of the small background sets, split by drawers; two alphabets are in both, and count once."""
    characters = dict(sorted((small1 | small2).items()))
    return *_drawings(characters, slice(0, 16)), *_drawings(characters, slice(16, 20))


def _omniglot_burda(arrays):
    """The rows of ``chardata.mat``, upright; no checksum of it is published, so what it holds is looked at."""
    x, x_test = arrays.get("data"), arrays.get("testdata")
    for name, part, count in (("data", x, 24345), ("testdata", x_test, 8070)):
        shape = None if part is None else part.shape
        if shape != (784, count) or part.dtype.kind not in "iuf" or not (part.min() >= 0 and part.max() <= 1):
            raise DataError(
                f"{SOURCES['omniglot_burda'].folder / 'chardata.mat'}: {name} is {shape}, not (784, {count}) with "
                "values in [0, 1]; move it away, then run `minivi data fetch omniglot_burda`"
            )
    # MATLAB counts pixels down the columns.
    x, x_test = (part.T.reshape(-1, 28, 28).transpose(0, 2, 1).reshape(-1, 784) for part in (x, x_test))
    return x.astype(np.float32), None, x_test.astype(np.float32), None


def _mnist(images, labels, test_images, test_labels):
    x, x_test = (part.reshape(len(part), -1) / np.float32(255) for part in (images, test_images))
    return x, labels.astype(np.int64), x_test, test_labels.astype(np.int64)


def _mnist_static(train, validation, test):
    return np.concatenate([train, validation], dtype=np.float32), None, test.astype(np.float32), None


def bags_of_words(train: list[str], test: list[str], words: int = WORDS) -> tuple:
    """Which of the most frequent words each text has.

    A word is a run of letters, digits and inner apostrophes, in lower case. The words are those that occur most often
    in ``train`` alone; among equally frequent ones, the first in the alphabet. The thesis (section 7.5.1) does not say
    whether a feature counts a word or notes its presence; it is presence here, as in Wang and Manning (2012).

    Args:
        train, test: texts.
        words: D, how many words; if ``train`` has fewer, the last columns stay empty.

    Returns:
        (N, D) and (N_test, D): ``scipy.sparse.csr_array`` of float32 ones, the most frequent word first.
    """
    from scipy.sparse import csr_array

    def split(text):
        return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())

    counts = Counter(word for text in train for word in split(text))
    columns = {word: i for i, word in enumerate(sorted(counts, key=lambda word: (-counts[word], word))[:words])}

    def rows(texts):
        found = [sorted({columns[word] for word in split(text) if word in columns}) for text in texts]
        indices = np.array([i for row in found for i in row], np.int32)
        starts = np.cumsum([0, *map(len, found)], dtype=np.int32)
        return csr_array((np.ones(len(indices), np.float32), indices, starts), shape=(len(found), words))

    return rows(train), rows(test)


def _polarity(negative, positive):
    """Snippets of reviews: 9,596 for training and 1,066 for the test.

    There is no official split (most report ten-fold cross-validation). Neighbouring lines are often of one film; as for
    the digits, fixed steps spread the test snippets evenly, and mix the two sides.
    """
    texts, labels = negative + positive, np.repeat(np.arange(2), [len(negative), len(positive)])
    order = np.arange(len(texts)) * 6589 % len(texts)  # 6589 is coprime to 10,662, and nearly its golden section
    texts, labels = [texts[i] for i in order], labels[order]
    n = int(SOURCES["polarity"].splits[0].split("/")[0])
    x, x_test = bags_of_words(texts[:n], texts[n:])
    return x, labels[:n], x_test, labels[n:]


IMDB = "aclImdb_v1.tar.gz"
IMDB_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"  # of the gzip'd file, of which there is only one


def _imdb():
    """25,000 reviews for training and as many for the test, negative and positive by turns.

    The archive is larger than :data:`LIMIT` when unpacked, hence is not kept so, but read once from end to end.
    """
    path, address = SOURCES["imdb"].folder / IMDB, SOURCES["imdb"].addresses[0] + IMDB
    if not path.exists():
        import pooch

        _remove_leftovers(path.parent)
        try:
            pooch.retrieve(address, f"md5:{IMDB_MD5}", IMDB, path.parent, downloader=_Downloader(True))
        except Exception as error:  # no network, another file there, a full disk, ...
            raise DataError(
                f"imdb: cannot fetch {address} ({_reason(error)}); fetch it by hand and put it at {path}"
            ) from None
    mend = "move it away, then run `minivi data fetch imdb`"
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with _open(path) as file:
            for part in iter(lambda: file.read(2**20), b""):
                digest.update(part)
            if digest.hexdigest() != IMDB_MD5:
                raise DataError(f"{path} is not the published {IMDB}: its checksum differs; {mend}")
            file.seek(0)
            found = parse_reviews(file, path)
    except OSError as error:
        raise DataError(f"{path} is unreadable ({error})") from None
    counts = {key: len(reviews) for key, reviews in found.items()}
    half = int(SOURCES["imdb"].splits[0].split("/")[0]) // 2
    if counts != {f"{part}/{side}": half for part in ("train", "test") for side in ("neg", "pos")}:
        raise DataError(f"{path} has {counts or 'no reviews'}, not {half} of each side in each part; {mend}")
    parts = []
    for part in ("train", "test"):
        pairs = zip(found[f"{part}/neg"], found[f"{part}/pos"], strict=True)
        parts.append([review.replace("<br />", " ") for pair in pairs for review in pair])
    x, x_test = bags_of_words(*parts)
    labels = np.tile(np.arange(2), half)
    return x, labels, x_test, labels.copy()


OMNIGLOT = (
    "https://github.com/brendenlake/omniglot/raw/master/python/",
    "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
)

_SOURCES = (
    Source(
        name="digits",
        what="8x8 digits, values 0..16 over 16 (Alpaydin & Kaynak 1998, test part; comes with scikit-learn)",
        kind="grey",
        shape=(8, 8),
        splits=("1500/297", "1200/300/297"),
        read=_digits,
    ),
    Source(
        name="mnist",
        what="28x28 digits, values 0..255 over 255 (LeCun, Bottou, Bengio & Haffner 1998)",
        kind="grey",
        shape=(28, 28),
        splits=("60000/10000", "50000/10000/10000"),
        read=_mnist,
        parse=parse_idx,
        files={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        addresses=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        suffix=".gz",
        megabytes=11.6,
    ),
    Source(
        name="mnist_static",
        what="MNIST binarized once for all (Salakhutdinov & Murray 2008; files of Larochelle & Murray 2011)",
        kind="binary",
        shape=(28, 28),
        splits=("50000/10000/10000",),
        read=_mnist_static,
        parse=parse_amat,
        files={
            "binarized_mnist_train.amat": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
            "binarized_mnist_valid.amat": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
            "binarized_mnist_test.amat": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        },
        addresses=(
            "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
            "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
        ),
        megabytes=109.8,
    ),
    Source(
        name="frey",
        what="1,965 frames of a film of one face, 28x20, values 0..255 over 255 (Roweis, Saul & Hinton 2001)",
        kind="grey",
        shape=(28, 20),
        splits=("1765/200",),
        read=_frey,
        parse=parse_mat,
        files={"frey_rawface.mat": "7882eea80fd835e56dde82a69200923188aa771f7cb872c538b10bb7621b20f9"},
        addresses=("https://cs.nyu.edu/~roweis/data/", "http://www.cs.nyu.edu/~roweis/data/"),
        megabytes=1.0,
    ),
    Source(
        name="lfw",
        what="Labeled Faces in the Wild, 31x23 in colour (Huang, Ramesh, Berg & Learned-Miller 2007)",
        kind="colour",
        shape=(31, 23, 3),
        splits=("12000/1233",),
        read=_lfw,
        megabytes=233,
        place="lfw_home/lfw_funneled",
    ),
    Source(
        name="omniglot",
        what="28x28 characters, parts of a cell's area that are ink (Lake, Salakhutdinov & Tenenbaum 2015)",
        kind="grey",
        shape=(28, 28),
        splits=("19280/13180",),
        read=_omniglot,
        parse=parse_omniglot,
        files={
            "images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718",
            "images_evaluation.zip": "md5:6b91aef0f799c5bb55b94e3f2daec811",
        },
        addresses=OMNIGLOT,
        megabytes=15.9,
        home="omniglot",
    ),
    Source(
        name="omniglot_small",
        what="the same for the 242 characters of the two small background sets, drawers 17 to 20 for the test",
        kind="grey",
        shape=(28, 28),
        splits=("3872/968",),
        read=_omniglot_small,
        parse=parse_omniglot,
        files={
            "images_background_small1.zip": "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
            "images_background_small2.zip": "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
        },
        addresses=OMNIGLOT,
        megabytes=2.9,
        home="omniglot",
    ),
    Source(
        name="omniglot_burda",
        what="28x28 characters, reduced and split by Burda, Grosse & Salakhutdinov 2015: that of published numbers",
        kind="grey",
        shape=(28, 28),
        splits=("24345/8070",),
        read=_omniglot_burda,
        parse=parse_mats,
        files={"chardata.mat": ""},
        addresses=(
            "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/",
            "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/",
        ),
        home="omniglot",
    ),
    Source(
        name="polarity",
        what="10,662 snippets of film reviews, which of 10,000 words each has (Pang & Lee 2005)",
        kind="words",
        shape=(WORDS,),
        splits=("9596/1066",),
        read=_polarity,
        parse=parse_snippets,
        files={  # of the text in UTF-8; rt-polaritydata.tar.gz of Cornell has the same text in Windows-1252
            "rt-polarity.neg": "2d11cfbc790f1cd96d78339f41ce53ced1efa83cd22d37d6788fa3fe3d17e2fd",
            "rt-polarity.pos": "4134882974a28d0c7b5151256f0e33a6169984ee7372c279e673f1114f475d58",
        },
        addresses=(
            "https://github.com/dennybritz/cnn-text-classification-tf/raw/master/data/rt-polaritydata/",
            "https://raw.githubusercontent.com/dennybritz/cnn-text-classification-tf/master/data/rt-polaritydata/",
        ),
        megabytes=1.2,
    ),
    Source(
        name="imdb",
        what="50,000 film reviews, which of 10,000 words each has (Maas et al. 2011)",
        kind="words",
        shape=(WORDS,),
        splits=("25000/25000",),
        read=_imdb,
        addresses=("https://ai.stanford.edu/~amaas/data/sentiment/",),
        megabytes=84.1,
        place=IMDB,
    ),
)
SOURCES = {source.name: source for source in _SOURCES}


# -- finding, fetching, loading ----------------------------------------------------------------------------------------


def folder() -> Path:
    """Where data lies: the environment variable ``MINIVI_DATA``, else the user's cache folder for minivi."""
    import pooch

    return Path(os.environ.get("MINIVI_DATA") or pooch.os_cache("minivi")).expanduser()


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


def _source(name: str) -> Source:
    if name not in SOURCES:
        near = difflib.get_close_matches(str(name), SOURCES, 1)
        meant = f"did you mean {near[0]}; " if near else ""
        raise DataError(f"no data set {_short(name)}; {meant}there are {', '.join(SOURCES)}")
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
        return _decode(source, file, read_bytes(path), path)
    except DataError as error:
        raise DataError(f"{error}; move it away, then run `minivi data fetch {source.name}`") from error


class _Downloader:
    """What ``pooch`` calls to fetch an address into a file, within :data:`LIMIT` bytes and :data:`SECONDS`."""

    def __init__(self, progress: bool):
        import pooch

        self.http = pooch.HTTPDownloader(progressbar=visible(progress), timeout=30)  # seconds without a byte

    def __call__(self, url, temporary, _):
        with open(temporary, "wb") as self.file:
            self.url, self.left, self.end = url, LIMIT, time.monotonic() + SECONDS
            self.http(url, self, None)

    def write(self, part: bytes) -> None:
        """Take the next bytes."""
        self.left -= len(part)
        if self.left < 0 or time.monotonic() > self.end:
            raise DataError(f"{self.url} gives more than {LIMIT} bytes, or takes more than {SECONDS} seconds")
        self.file.write(part)

    def flush(self) -> None:
        """Write them out, so that the time of a download that goes on is never long past."""
        self.file.flush()


def _remove_leftovers(home: Path) -> None:
    """Remove what killed downloads left half-written: pooch's temporary files to which nothing came for a minute."""
    for path in home.glob("tmp????????"):
        if path.is_file() and time.time() - path.stat().st_mtime > 60:
            path.unlink(missing_ok=True)


def _download(source: Source, file: str, progress: bool) -> Path:
    """Fetch one file from the first address that gives the right bytes."""
    import pooch
    from requests import HTTPError, RequestException

    download = _Downloader(progress)

    def get(url, temporary, _):
        download(url, temporary, None)
        content = read_bytes(temporary)
        _decode(source, file, content, url)
        Path(temporary).write_bytes(content)
        os.chmod(temporary, 0o644)  # temporary files are private, but a class may share the folder

    target, failures = source.folder, []
    with contextlib.suppress(OSError):  # a folder that cannot be written is told below
        _remove_leftovers(target)
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


# -- use ---------------------------------------------------------------------------------------------------------------


def binarize(x: np.ndarray, how: str, rng=None) -> np.ndarray:
    """Make binary images of grey ones.

    ``"dynamic"`` draws each pixel afresh, 1 with probability ``x``: call it on every minibatch (Burda, Grosse &
    Salakhutdinov 2015). One such draw of a whole set, kept, is a static binarization of your own; published numbers
    for static binarization use the draw of the set ``mnist_static``, and differ from dynamic ones by about 2 nats.
    ``"threshold"`` gives 1 where ``x > 0.5``: for 8-bit grey, values 128 to 255.

    Args:
        x: intensities in [0, 1], any shape.
        how: ``"dynamic"`` or ``"threshold"``.
        rng: a minivi or NumPy ``Generator``; ``"dynamic"`` needs it.

    Returns:
        float32 of the shape of ``x``, 0 or 1.

    Raises:
        DataError: another ``how``, values outside [0, 1] or NaN, no generator.
    """
    x = np.asarray(x)
    if how not in ("dynamic", "threshold"):
        raise DataError(f"binarize: how={how!r} is neither 'dynamic' nor 'threshold' (static: load 'mnist_static')")
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise DataError("binarize: x has values outside [0, 1] or NaN; divide 8-bit grey by 255")
    if how == "threshold":
        return (x > 0.5).astype(np.float32)
    _check_rng("binarize", rng)
    if hasattr(rng, "bernoulli"):
        return rng.bernoulli(x, dtype=np.float32)
    return (rng.random(x.shape, dtype=np.float32) < x).astype(np.float32)


def batches(*arrays: np.ndarray, size: int, rng, drop_last: bool = False) -> Iterator:
    """One epoch of minibatches: every example exactly once.

    The order is drawn when this is called, not at the first batch, so that ``rng`` does not depend on how far a loop
    gets.

    Args:
        arrays: one or several aligned arrays, each of shape (N, ...); matrices of ``scipy.sparse`` too.
        size: examples a batch; the last batch has the rest.
        rng: a minivi or NumPy ``Generator`` for the order, or None for the order of the arrays.
        drop_last: leave out a last batch that is smaller.

    Returns:
        An iterator over arrays of shape (size, ...), or over tuples of them if several were given.

    Raises:
        DataError: arrays of different lengths or none at all, a size below 1, no batch to give, not a generator.
    """
    lengths = [np.shape(array)[0] for array in arrays]
    n = min(lengths, default=0)
    if n == 0 or n != max(lengths):
        raise DataError(f"batches: lengths {lengths}; give one or more arrays of the same nonzero length")
    if not 1 <= size <= (n if drop_last else size):
        raise DataError(f"batches: size {size} with {n} examples and drop_last={drop_last} gives no batch")
    if rng is not None:
        _check_rng("batches", rng)
    order = np.arange(n) if rng is None else rng.permutation(n)
    parts = (order[i : i + size] for i in range(0, n - size + 1 if drop_last else n, size))
    return (arrays[0][part] if len(arrays) == 1 else tuple([array[part] for array in arrays]) for part in parts)


def _check_rng(function: str, rng) -> None:
    if not (isinstance(rng, np.random.Generator) or hasattr(rng, "bernoulli")):
        raise DataError(
            f"{function}: rng is {rng!r}; give a minivi or NumPy Generator, such as numpy.random.default_rng(0)"
        )
