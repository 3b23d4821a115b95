"""The file formats of data sets, read within limits: damaged or hostile files end in one line, never in a crash."""

import gzip
import io
import math
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# No file of any set is larger unpacked (but NORB's images); a stream that unpacks to more is damaged or hostile.
LIMIT = 2**28
SMALL = 2**24  # nor is a zip of drawings or a file of snippets, whose parts cost more memory than bytes


class DataError(RuntimeError):
    """A file, name or argument that cannot give the data asked for; the message is one line that says the mend."""


def read_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """The content of a file, unpacked if it is gzip'd (by its first bytes, whatever its name).

    Args:
        path: of the file.
        limit: the most bytes that the content may have, by default :data:`LIMIT`, 256 MiB.

    Raises:
        DataError: the file cannot be read, its gzip stream is truncated or damaged, or it holds over ``limit`` bytes.
    """
    limit = LIMIT if limit is None else limit
    try:
        with open_file(path) as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = (gzip.open(file) if packed else file).read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is truncated, damaged or unreadable ({error})") from error
    if len(content) > limit:
        raise DataError(f"{path} unpacks to more than {limit} bytes, which no file of its data set does")
    return content


def open_file(path: str | Path) -> io.BufferedReader:
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


def parse_norb(content: bytes, where: str | Path = "content") -> np.ndarray:
    """Decode a binary matrix of NORB (Huang and LeCun, cs.nyu.edu/~ylclab/data/norb-v1.0-small, "the file format").

    All is little-endian: the magic number of the type as uint32, 0x1E3D4C55 for bytes or 0x1E3D4C54 for int32; the
    number of dimensions; each dimension as int32, filled up with ones to three; then the values, the last dimension
    fastest. Images are bytes, (N, 2, 96, 96), a pair by two cameras each; categories are integers, (N,), and so is
    what else is known of a pair, (N, 4): the instance of its category, elevation, azimuth and lighting. Float, short
    and packed matrices are not of small NORB, and are refused.

    Args:
        content: the unpacked bytes.
        where: the file or address that a message names.

    Returns:
        A read-only view of ``content`` as uint8 or int32, of the dimensions announced.

    Raises:
        DataError: no such matrix of 1 to 4 dimensions, or not exactly as long as its header says.
    """
    kind = {b"\x55\x4c\x3d\x1e": np.dtype("u1"), b"\x54\x4c\x3d\x1e": np.dtype("<i4")}.get(content[:4])
    if kind is None or content[4:8] not in (b"\1\0\0\0", b"\2\0\0\0", b"\3\0\0\0", b"\4\0\0\0"):
        raise DataError(f"{where} is no NORB matrix of bytes or integers: it starts with {content[:16]!r}")
    dimensions = content[4]
    header = 8 + 4 * max(3, dimensions)
    if len(content) < header:
        raise DataError(f"{where} is truncated: {len(content)} bytes, and its NORB header alone has {header}")
    shape = tuple(np.frombuffer(content, "<i4", dimensions, offset=8).tolist())
    expected = header + math.prod(shape) * kind.itemsize
    if len(content) != expected or min(shape) < 1:
        raise DataError(f"{where} has {len(content)} bytes, but its NORB header announces {shape}: {expected} bytes")
    return np.frombuffer(content, kind, offset=header).reshape(shape)


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
        held = shortened(sorted(arrays)) if arrays else "nothing"
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
    arrays, left = {}, LIMIT
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
            if kind != MATRIX or len(arrays) == 100:
                raise ValueError(f"an element of type {kind} where an array should begin, or over 100 arrays")
            name, array = _mat_array(data, order)
            arrays[name] = array
    except (ValueError, zlib.error) as error:
        raise DataError(f"{where} is no MATLAB 5 file ({first_words(error)}); remove it to fetch it again") from None
    return arrays


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
        raise ValueError(
            f"{shortened(name)} announces {shortened(shape)} numbers and has {len(data)} bytes of type {kind}"
        )
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
    check_small(content, where)
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
        raise DataError(f"{where} is no zip of Omniglot's drawings ({first_words(error)})") from None
    for character, drawn in drawings.items():
        if sorted(drawn) != list(range(1, 21)):
            raise DataError(f"{where} has {len(drawn)} drawings of {character}, not those of the drawers 01 to 20")
    if not drawings:
        raise DataError(f"{where} is a zip without any of Omniglot's drawings")
    stacked = {name: np.stack([drawn[i] for i in range(1, 21)]) for name, drawn in sorted(drawings.items())}
    areas = {name: (inside @ ink @ inside.T).reshape(20, 784) for name, ink in stacked.items()}
    return {name: np.minimum(part, np.float32(1)) for name, part in areas.items()}  # at most 1, apart from rounding


def parse_cifar(content: bytes, where: str | Path = "content") -> tuple[np.ndarray, np.ndarray]:
    """Decode a batch of CIFAR-10's binary version: a byte for the label, then 32x32 bytes each of red, green and blue.

    Returns:
        Images (N, 32, 32, 3) of uint8 and labels (N,) of uint8, 0 to 9.

    Raises:
        DataError: no whole number of such records, or a label above 9.
    """
    size = 1 + 3 * 32 * 32
    if not content or len(content) % size:
        raise DataError(f"{where} has {len(content)} bytes, no multiple of {size}: it is truncated, or no such batch")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    if records[:, 0].max() > 9:
        raise DataError(f"{where} has the label {records[:, 0].max()}; those of CIFAR-10 go from 0 to 9")
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def read_members(path: str | Path, folder: str, names: Sequence[str]) -> dict[str, bytes]:
    """The content of the files ``names`` in ``folder`` of a gzip'd tar; nothing is extracted.

    Raises:
        DataError: the archive is truncated, damaged or no such tar, a file is not in it or larger than :data:`LIMIT`.
    """
    contents = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix(folder)
                if member.isreg() and member.name == folder + name and name in names:
                    if member.size > LIMIT:
                        raise ValueError(f"{member.name} is {member.size} bytes long")
                    contents[name] = archive.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} is no gzip'd tar ({first_words(error)})") from None
    missing = [name for name in names if name not in contents]
    if missing:
        raise DataError(f"{path} has no {folder}{missing[0]}")
    return contents


def parse_snippets(content: bytes, where: str | Path = "content") -> list[str]:
    """Decode texts of one line each, in UTF-8: the sentence polarity data of Pang and Lee (2005).

    Raises:
        DataError: no such text, an empty line, or one of over 1,000 characters.
    """
    check_small(content, where)
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
    texts: dict[str, dict[int, str]] = {}
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
                if int(place[2]) in texts.setdefault(place[1], {}):
                    raise ValueError(f"{member.name} is there twice")
                texts[place[1]][int(place[2])] = archive.extractfile(member).read().decode("utf-8")
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{where} is no gzip'd tar of reviews ({first_words(error)})") from None
    return {key: [reviews[i] for i in sorted(reviews)] for key, reviews in texts.items()}


class _Stream(gzip.GzipFile):
    """A gzip'd tar of small members: a header that asks for more than 1 MiB at once is damaged or hostile."""

    def read(self, size=-1):
        if not 0 <= size <= 2**20:
            raise ValueError(f"a header or member announces {size} bytes")
        return super().read(size)


def check_small(content: bytes, where: str | Path) -> None:
    """Refuse content of more than :data:`SMALL` bytes."""
    if len(content) > SMALL:
        raise DataError(f"{where} has {len(content)} bytes, more than any file of its kind here ({SMALL})")


def shortened(value: object) -> str:
    """The start of what a message shows of a name or of file content."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def first_words(error: Exception) -> str:
    """The first line of what a reader has to say, or its start."""
    line = (str(error).splitlines() or [""])[0] or type(error).__name__
    return line if len(line) <= 160 else f"{line[:156]} ..."
