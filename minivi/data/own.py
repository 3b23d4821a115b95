"""One's own images: a .npz file or a folder of pictures becomes a data set with a name, whose digest it holds."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

from minivi.data.formats import LIMIT, DataError, first_words, open_file
from minivi.data.sources import SOURCES, Source

PARTS = ("train", "test", "train_labels", "test_labels")
BYTES = 8 * LIMIT  # of a file, unpacked
ENDINGS = (".png", ".jpg", ".jpeg")
PATHS: dict[str, Path] = {}  # of the sets that were added
VARIABLE = "MINIVI_OWN_DATA"  # of the environment: the paths of added sets as JSON, for the processes of a sweep


def is_own(data: str) -> bool:
    """Whether ``data`` is the path of a file or folder, or the name of an added set, and no name of minivi's own."""
    if data in SOURCES:
        return data in PATHS
    return os.sep in data or "/" in data or data.endswith(".npz") or Path(data).exists()


def add(path: str | os.PathLike) -> str:
    """Make a data set of one's own images, for this process and those that it starts.

    Args:
        path: a .npz file with ``train`` and, if wanted, ``test``, ``train_labels`` and ``test_labels``: images (N, D),
            (N, H, W) or (N, H, W, 3), in [0, 1] or of uint8; labels (N,), integers from 0. Or a folder of PNG and JPEG
            files, all of one size. Without ``test`` each tenth image is one.

    Returns:
        Its name, such as "faces-1f3b07c2", for :func:`minivi.data.load` and ``--data``: that of the file and a digest
        of the images.

    Raises:
        DataError: the file or folder cannot be read, or does not hold such images.
    """
    if str(path) in PATHS:
        return str(path)
    path = Path(path)
    parts, shape = _read_folder(path) if path.is_dir() else _read_file(path)
    x, labels, x_test, labels_test = parts
    digest = hashlib.blake2b(digest_size=4)
    for array in (array for array in parts if array is not None):
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    name = f"{re.sub(r'[^A-Za-z0-9_]+', '_', path.resolve().stem).strip('_') or 'images'}-{digest.hexdigest()}"
    bits = all(((array == 0) | (array == 1)).all() for array in (x, x_test))
    SOURCES[name] = Source(
        name=name,
        what=f"own data: {len(x)} and {len(x_test)} images of {path}",
        kind="colour" if len(shape) == 3 else "binary" if bits else "grey",
        shape=shape,
        splits=(f"{len(x)}/{len(x_test)}",),
        read=lambda: (x, labels, x_test, labels_test),
        photo=path.is_dir(),
    )
    PATHS[name] = path.resolve()
    os.environ[VARIABLE] = json.dumps(list(dict.fromkeys([*_inherited(), str(path.resolve())])))
    return name


def _inherited():
    return json.loads(os.environ.get(VARIABLE) or "[]")


def add_inherited(name: str) -> None:
    """Add the sets that the process which started this one has added, until one of them is called ``name``."""
    for path in _inherited():
        if name not in SOURCES and Path(path).exists():
            add(path)


def _read_file(path):
    try:
        with open_file(path) as opened:
            packed = zipfile.ZipFile(opened).infolist() if zipfile.is_zipfile(opened) else None
            size = os.fstat(opened.fileno()).st_size if packed is None else sum(info.file_size for info in packed)
            if size > BYTES:
                raise DataError(f"{path} holds more than {BYTES} bytes; give fewer images, or smaller ones")
            opened.seek(0)
            held = np.load(opened, allow_pickle=False)
            arrays = {"train": held} if isinstance(held, np.ndarray) else dict(held)
    except (OSError, ValueError, EOFError, LookupError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: {first_words(error)}; give a .npz file of images, or a folder of them") from None
    except MemoryError:
        raise DataError(f"{path}: its images do not fit into memory; give fewer, or smaller ones") from None
    if len(arrays) == 1 and "train" not in arrays:
        arrays = {"train": next(iter(arrays.values()))}
    unknown = sorted(arrays.keys() - set(PARTS))
    if unknown or "train" not in arrays:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{path} holds {held}; name the arrays {', '.join(PARTS)}, or give one array alone")
    shape = _shape(arrays["train"], f"{path}: train")
    parts = [arrays[name] for name in ("train", "test") if name in arrays]
    levels = any(part.dtype == np.uint8 and part.max(initial=0) > 1 for part in parts)  # from 0 to 255
    x, labels = _images(arrays["train"], shape, levels, f"{path}: train"), arrays.get("train_labels")
    if "test" not in arrays:
        if "test_labels" in arrays:
            raise DataError(f"{path} has test_labels and no test images; add them, or leave the labels out")
        return _split(x, _labels(labels, len(x), f"{path}: train_labels"), path), shape
    x_test = _images(arrays["test"], shape, levels, f"{path}: test")
    labels = _labels(labels, len(x), f"{path}: train_labels")
    return (x, labels, x_test, _labels(arrays.get("test_labels"), len(x_test), f"{path}: test_labels")), shape


def _shape(images, what):
    """(H, W) or (H, W, 3) of one image; of rows a square if they can be one, else one line of pixels."""
    if images.ndim == 2:
        return square_or_line(images.shape[1])
    if images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3):
        return images.shape[1:]
    if images.ndim == 4 and images.shape[3] == 1:
        return images.shape[1:3]
    raise DataError(f"{what} has shape {images.shape}; give images (N, D), (N, H, W) or (N, H, W, 3)")


def square_or_line(pixels: int) -> tuple[int, int]:
    """The shape (H, W) of an image of which the number of pixels is known alone."""
    side = round(pixels**0.5)
    return (side, side) if side**2 == pixels else (1, pixels)


def _images(images, shape, levels, what):
    """Rows of float32 in [0, 1]; ``levels`` says that those of uint8 go up to 255."""
    if images.ndim < 2 or _shape(images, what) != shape:
        raise DataError(f"{what} has shape {images.shape}, the training images are {shape}; make them the same")
    if len(images) == 0 or 0 in shape:
        raise DataError(f"{what} is empty, of shape {images.shape}; give images with pixels")
    if images.dtype.kind not in "biuf":
        raise DataError(f"{what} holds {images.dtype}; give numbers in [0, 1], or uint8")
    x = images.reshape(len(images), -1).astype(np.float32)
    if images.dtype == np.uint8 and levels:
        x /= np.float32(255)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise DataError(f"{what} has {x[row, column]} in image {row}; remove it, or replace it by a number in [0, 1]")
    if x.min() < 0 or x.max() > 1:
        raise DataError(f"{what} has values from {x.min():g} to {x.max():g}; scale them to [0, 1], or give uint8")
    return x


def _labels(labels, count, what):
    if labels is None:
        return None
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or (count and labels.min() < 0):
        raise DataError(f"{what} are {labels.dtype} of shape {labels.shape}; give {count} integers from 0")
    return labels.astype(np.int64)


def _split(x, labels, path):
    """Each tenth image, from the first, is for the test."""
    if len(x) < 2:
        raise DataError(f"{path} holds one image; give two or more, one of them for the test")
    test = np.arange(len(x)) % 10 == 0
    return x[~test], None if labels is None else labels[~test], x[test], None if labels is None else labels[test]


def _read_folder(path):
    from PIL import Image

    files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
    if not files:
        raise DataError(f"{path} holds no images; put {', '.join(ENDINGS)} files into it")
    pictures, total = [], 0
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of images as large as bombs
                with Image.open(file, formats=("PNG", "JPEG")) as image:
                    total += image.width * image.height * 3
                    if total > LIMIT:
                        raise DataError(f"{path} has more than {LIMIT} pixels; give fewer images, or smaller ones")
                    if image.mode.startswith("I"):  # grey of 16 bits
                        pictures.append(np.rint(np.asarray(image) / 257).astype(np.uint8))
                    else:
                        pictures.append(np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")))
        except DataError:
            raise
        except Exception as error:  # Pillow's decoders raise many kinds
            raise DataError(f"{file} is no whole PNG or JPEG file ({first_words(error)}); remove it") from None
        if pictures[-1].shape[:2] != pictures[0].shape[:2]:
            size, first = ("x".join(map(str, p.shape[:2])) for p in (pictures[-1], pictures[0]))
            raise DataError(f"{file} is {size} pixels, {files[0].name} is {first}; bring all to one size")
    if len({picture.ndim for picture in pictures}) > 1:  # some grey, some in colour
        pictures = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pictures]
    images = np.stack(pictures)
    return _split(images.reshape(len(images), -1) / np.float32(255), None, path), images.shape[1:]
