"""Files that are written whole or not at all: bytes, JSON, and arrays with a checksum in one safetensors file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 3  # of checkpoints
_NO_DIGEST = b'"digest":"' + 32 * b"0"  # as safetensors writes it; no quote in a JSON string is without a backslash


class TrainingError(RuntimeError):
    """Training cannot go on, or a checkpoint cannot be used; the message says the mend."""


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``, or leave it as it was.

    Raises:
        TrainingError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name == "posix":  # make the new name itself survive a power cut
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        reason = error.strerror or error
        raise TrainingError(f"cannot write {path}: {reason}; the file there, if any, is unchanged") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def prepare_folder(folder: str | os.PathLike) -> None:
    """Create a folder, prove that it can be written, and remove what killed processes left half-written in it.

    Raises:
        TrainingError: it cannot be written: known before the work, not after it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror or error
        raise TrainingError(f"cannot write into {folder}: {reason}; make room, or choose another folder") from None
    for path in Path(folder).glob(".*.tmp"):
        writer = path.name.split(".")[-2]
        if writer.isdigit() and not _at_work(int(writer), path):
            path.unlink(missing_ok=True)


def _at_work(process, path):
    """Whether another process may still be writing its temporary file."""
    if os.name != "posix":  # where signal 0 is no question
        return time.time() - path.stat().st_mtime < 3600
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return process != os.getpid()  # of an earlier one with our number, since we are not writing


def to_json(value: Any) -> str:
    """JSON, in which numbers and arrays of NumPy's are plain numbers and lists.

    Raises:
        TypeError, ValueError: it holds something that JSON cannot.
    """

    def plain(item):
        if isinstance(item, (np.generic, np.ndarray)):
            return item.tolist()
        raise TypeError(f"a {type(item).__name__} cannot be stored as JSON; return numbers, strings and lists of them")

    return json.dumps(value, default=plain)


def save_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> None:
    """Write arrays and a JSON-able ``about`` into one safetensors file with a checksum of all of it, atomically."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    content = save(arrays, {"minivi": to_json(about), "digest": 32 * "0"})
    write_atomically(path, content.replace(_NO_DIGEST, b'"digest":"' + _checksum(content), 1))


def load_arrays(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote.

    Raises:
        TrainingError: the file is missing, changed in any bit, not minivi's or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        if Path(path).exists() and not Path(path).is_file():
            raise OSError("it is no file")
        content = Path(path).read_bytes()
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        about = json.loads(metadata["minivi"])
        if "digest" not in metadata and about.get("format", 1) != FORMAT:
            raise TrainingError(f"{path} has format {about.get('format', 1)}, this version reads {FORMAT}; start anew")
        blank = content.replace(b'"digest":"' + metadata["digest"].encode(), _NO_DIGEST, 1)
        if _checksum(blank).decode() != metadata["digest"]:
            raise ValueError("its checksum differs")
        return load(content), about
    except FileNotFoundError:
        raise TrainingError(f"no file {path}; train first, or give the right folder") from None
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        raise TrainingError(
            f"{path} is not a whole minivi checkpoint ({first_line(error)}); remove it, run without --resume"
        ) from None


def _checksum(content):
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()


def first_line(error: Exception) -> str:
    """What a reader has to say, in one line of at most 200 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
