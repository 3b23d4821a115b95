"""The process in which a submission runs: it loads the file, calls its functions, and sends back plain numbers.

``python child.py READ WRITE`` is started by :mod:`minivi.exercises.process`, with two pipes. It knows inputs only: no
reference answer and no verdict are ever here. Whatever a submission does to this process (new functions in NumPy or
minivi, a result forged on the pipe) can change what it answers, and only right numbers are right.

What hinders a submission from more than that is listed in ``chapters/exercises/README.md``, with what gets past it.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import io
import json
import os
import pickle
import struct
import sys
import traceback
from typing import Any

import numpy as np

MAX_RESULT = 20_000_000  # bytes of an array, and of an answer
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
REFUSED = (
    "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "pty.", "socket.",
    "signal.", "resource.",
)  # fmt: skip
CHANGING = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate",
    "os.utime", "sqlite3.connect",
)  # fmt: skip


class Source:
    """A function as source text, for an argument that is a function; the grader and the submission compile their own.

    Args:
        text: an expression such as ``"lambda x: np.tanh(x)"``; ``np`` is NumPy.
    """

    def __init__(self, text: str):
        self.text = text

    @property
    def function(self) -> Any:
        """The function itself."""
        return eval(self.text, {"np": np})


def compiled(value: Any) -> Any:
    """An argument with each :class:`Source` in it replaced by its function."""
    if isinstance(value, (list, tuple)):
        return type(value)(compiled(v) for v in value)
    return value.function if isinstance(value, Source) else value


def plain(value: Any) -> Any:
    """A result as lists, dicts, numbers, strings and arrays; a Tensor counts as its array.

    Raises:
        TypeError: something else is in it.
    """
    value = getattr(value, "data", value) if not isinstance(value, (np.ndarray, np.generic)) else value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        if value.nbytes > MAX_RESULT:
            raise TypeError("a result of more than 20 MB")
        return np.array(value)
    raise TypeError(f"a {type(value).__name__} came back; return numbers, arrays, or lists and dicts of them")


def encode(value: Any) -> bytes:
    """A plain result as JSON; arrays with their bits, and floats too."""

    def code(v):
        if isinstance(v, np.ndarray):
            return {"a": [v.dtype.str, list(v.shape), base64.b64encode(np.ascontiguousarray(v).tobytes()).decode()]}
        if isinstance(v, dict):
            return {"d": [[k, code(x)] for k, x in v.items()]}
        return [code(x) for x in v] if isinstance(v, list) else v

    return json.dumps(code(value)).encode()


def decode(data: bytes) -> Any:
    """What :func:`encode` took. Nothing in ``data`` is run, whoever wrote it.

    Raises:
        ValueError: it is not of that form.
    """

    def value(v):
        if isinstance(v, list):
            return [value(x) for x in v]
        if not isinstance(v, dict):
            return v
        if "d" in v:
            return {str(k): value(x) for k, x in v["d"]}
        dtype, shape, bits = v["a"]
        if np.dtype(dtype).kind not in "biuf":
            raise ValueError(dtype)
        return np.frombuffer(base64.b64decode(bits), dtype).reshape(shape).copy()

    try:
        return value(json.loads(data))
    except (KeyError, TypeError, AttributeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"no result: {error}") from None


def answer(function: Any, args: Any, driver: str | None) -> Any:
    """What ``function`` returns of ``args``, as a plain result.

    Raises:
        TypeError: the result is no plain one, or an argument was written into.
    """
    args = compiled(args)
    before = copy.deepcopy([a for a in args if isinstance(a, (np.ndarray, list, dict))])
    found = plain(function(*args) if driver is None else eval(driver, {"np": np})(function, *args))
    after = [a for a in args if isinstance(a, (np.ndarray, list, dict))]
    if any(not _same(a, b) for a, b in zip(before, after, strict=True)):
        raise TypeError("it writes into its argument; make new arrays instead")
    return found


def _same(a, b):
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return isinstance(a, dict) or callable(a) or a == b


def told(error: BaseException) -> tuple[str, str]:
    """(kind, one line) of what a submission has raised; the line number is that of its own file."""
    if isinstance(error, NotImplementedError):
        return "blank", "not done yet"
    if isinstance(error, SystemExit):
        return "error", "the file calls exit; leave that out"
    if isinstance(error, MemoryError):
        return "error", "more memory than allowed"
    if isinstance(error, SyntaxError):
        return "error", f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "submission"]
    place = f"line {lines[-1]}: " if lines else ""
    return "error", f"{place}{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class _Arguments(pickle.Unpickler):
    """Reads what the grader sends; it knows this module by another name, whose import would load all of minivi."""

    def find_class(self, module, name):
        return Source if name == "Source" else super().find_class(module, name)


def _limit(limits):
    """Limits of the system on this process, where there are such (on macOS not on memory)."""
    import resource

    for name, value in limits.items():
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), (value, value))


def _guard(closed, folder):
    """Hinder, from now on, reading below the folders ``closed``, writing outside ``folder``, processes and the network.

    It stops what is done by accident or in the ordinary way; it is no sandbox.
    """
    realpath, fspath, devnull = os.path.realpath, os.fspath, os.devnull
    closed, folder = [realpath(c) + os.sep for c in closed], realpath(folder) + os.sep

    def path_of(value):
        return realpath(os.fsdecode(fspath(value))) + "/" if isinstance(value, (str, bytes, os.PathLike)) else folder

    def own(value):
        if not path_of(value).startswith((folder, devnull)):
            raise PermissionError(f"a submission may not change {value}; it may in its own folder, the current one")

    def refuse(*_):
        raise PermissionError("a submission may not start a process")

    def hook(event, args):
        if event == "open":
            if path_of(args[0]).startswith(tuple(closed)):
                raise PermissionError(f"a submission may not read {args[0]}")
            if isinstance(args[2], int) and args[2] & WRITING:
                own(args[0])
        elif event in CHANGING:
            for value in args[:2]:
                own(value)
        elif event.startswith(REFUSED):
            raise PermissionError(f"a submission may not use {event}")
        elif event == "import" and args[0] == "_posixsubprocess":
            refuse()

    with contextlib.suppress(ImportError):
        import _posixsubprocess
        import subprocess  # what multiprocessing calls raises no event

        _posixsubprocess.fork_exec = subprocess._fork_exec = refuse
    sys.addaudithook(hook)


def main(read: int, write: int) -> None:
    """Load the file that the first message holds, then answer calls until the pipe is closed."""
    incoming = os.fdopen(read, "rb")
    # A submission may put other functions in their place; these are the ones that were here before it.
    dumps, pack, send, take = encode, struct.pack, os.write, lambda data: _Arguments(io.BytesIO(data)).load()

    def next_message():
        (size,) = struct.unpack("<Q", incoming.read(8))
        return take(incoming.read(size))

    def reply(nonce, kind, value):
        body = dumps([kind, value])
        if len(body) > 2 * MAX_RESULT:
            body = dumps(["error", "a result of more than 20 MB"])
        body = nonce + pack("<Q", len(body)) + body
        while body:
            body = body[send(write, body) :]

    start = next_message()
    _limit(start["limits"])
    _guard([*start["closed"], f"/proc/{os.getppid()}"], os.getcwd())
    names = {"__name__": "submission", "display": lambda *_, **__: None}  # notebooks have it
    try:
        exec(compile(start["source"], "submission", "exec"), names)
        reply(start["nonce"], "ok", None)
    except BaseException as error:
        reply(start["nonce"], *told(error))
        return
    while True:
        try:
            call = next_message()
        except struct.error:  # the grader has closed the pipe
            return
        try:
            function = names[call["name"]]
        except KeyError:
            reply(call["nonce"], "error", f"the file has no function {call['name']}")
            continue
        try:
            reply(call["nonce"], "ok", answer(function, call["args"], call["driver"]))
        except BaseException as error:
            reply(call["nonce"], *told(error))


if __name__ == "__main__":
    sys.path[0] = ""  # the folder of this file is none of a submission's
    main(int(sys.argv[1]), int(sys.argv[2]))
