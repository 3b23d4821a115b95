"""A submission in a process of its own, with limits on time, memory and output."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import secrets
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minivi
from minivi.exercises import child

LARGEST = 20 * 2**20  # bytes of a file
KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
MAGIC = re.compile(r"^( *)[%!]+[A-Za-z].*$", re.MULTILINE)  # lines that IPython alone understands
TEACHER = re.compile(r"^# %% \[teacher\]\n.*?(?=^# %%|\Z)", re.MULTILINE | re.DOTALL)


class SubmissionError(RuntimeError):
    """A submission gave no answer; ``kind`` is "blank" for what is not done yet, "error" or "ended" else."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Limits:
    """What a submission may use: seconds a task and in all, memory and what it prints in bytes."""

    task: float = 10.0
    total: float = 60.0
    memory: int = 4 * 2**30
    printed: int = 2**20


def read(path: str | os.PathLike) -> str:
    """The code of a submission, a Python file or a notebook, as one text.

    Raises:
        SubmissionError: it is too large, or no text or notebook.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise SubmissionError("error", f"the file is larger than {LARGEST >> 20} MB")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SubmissionError("error", "the file is no text in UTF-8") from None
    except OSError as error:
        raise SubmissionError("error", f"cannot be read: {error.strerror}") from None
    if path.suffix != ".ipynb":
        return TEACHER.sub(lambda m: "\n" * m[0].count("\n"), text)  # so that the solutions' file can be graded too
    try:
        cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        parts = ["".join(source) for source in cells]
    except (ValueError, KeyError, TypeError):
        raise SubmissionError("error", "the file is no notebook") from None
    parts = [part for part in parts if not part.startswith("%%") or part.startswith(("%%time", "%%capture"))]
    return MAGIC.sub(r"\1pass", "\n\n".join(parts))


class Submission:
    """A submission that answers calls; a process that has ended is started again for the next one.

        with Submission(source, Limits(), closed=[folder of the solutions]) as submission:
            submission.call("averages", (m, v, g))

    Args:
        source: the file's text.
        limits: on time, memory and output.
        closed: folders that it must not read.
    """

    def __init__(self, source: str, limits: Limits | None = None, closed: tuple[Any, ...] = ()):
        self.source, self.limits, self.closed = source, limits or Limits(), [str(c) for c in closed]
        self.deadline = time.monotonic() + self.limits.total
        self.printed, self._process = 0, None
        self.broken = ""  # why the file cannot be run, once that is known

    def __enter__(self) -> Submission:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def call(self, name: str, args: tuple[Any, ...], driver: str | None = None) -> Any:
        """What its function ``name`` returns of ``args``: arrays, numbers, strings, and lists and dicts of them.

        Raises:
            SubmissionError: it raised, ended, took too long or printed too much.
        """
        if self.broken:
            raise SubmissionError("error", self.broken)
        if time.monotonic() > self.deadline:
            raise SubmissionError("ended", f"not run: the file had used up its {self.limits.total:g} s")
        if self._process is None:
            self._start()
        return self._ask({"name": name, "args": args, "driver": driver})

    def close(self) -> None:
        """End the process, and those that it has started in its group."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for end in (self._to, self._from):
            with contextlib.suppress(OSError):
                os.close(end)
        self._reader.join(1.0)
        self._folder.cleanup()
        self._process = None

    def _start(self):
        if os.name != "posix":
            raise RuntimeError("minivi grade needs Linux or macOS (or WSL): Windows cannot limit a process as it must")
        self._folder = tempfile.TemporaryDirectory(prefix="minivi_grade_", ignore_cleanup_errors=True)
        theirs_read, self._to = os.pipe()
        self._from, theirs_write = os.pipe()
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
        )
        home = self._folder.name
        paths = {"HOME": home, "TMPDIR": home, "PYTHONPATH": str(Path(minivi.__file__).parents[1])}
        self._process = subprocess.Popen(
            [sys.executable, "-B", child.__file__, str(theirs_read), str(theirs_write)],
            cwd=home, env=environment | threads | paths | {"PYTHONWARNINGS": "ignore", "MPLBACKEND": "agg"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=(theirs_read, theirs_write), start_new_session=True,
        )  # fmt: skip
        os.close(theirs_read)
        os.close(theirs_write)
        self.printed = 0
        self._reader = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._reader.start()
        seconds = int(self.limits.total) + 5
        limits = {"RLIMIT_CPU": seconds, "RLIMIT_AS": self.limits.memory, "RLIMIT_FSIZE": 2**24, "RLIMIT_CORE": 0}
        try:
            self._ask({"source": self.source, "limits": limits, "closed": self.closed})
        except SubmissionError as error:
            self.broken = f"the file cannot be run: {error}"
            self.close()
            raise SubmissionError("error", self.broken) from None

    def _listen(self, process):
        """Count what it prints, and end it when that is too much."""
        while part := process.stdout.read1(65536):
            self.printed += len(part)
            if self.printed > self.limits.printed:
                process.kill()
        process.stdout.close()

    def _ask(self, message):
        nonce = secrets.token_bytes(16)  # what was written before the question is no answer to it
        body = pickle.dumps(message | {"nonce": nonce})
        end = min(time.monotonic() + self.limits.task, self.deadline)
        try:
            self._write(struct.pack("<Q", len(body)) + body, end)
            head = self._read(24, end)
            size = struct.unpack("<Q", head[16:])[0]
            if head[:16] != nonce or size > 2 * child.MAX_RESULT:
                raise ValueError("another nonce")
            kind, value = child.decode(self._read(size, end))
        except SubmissionError:
            self.close()
            raise
        except (ValueError, TypeError):
            self.close()
            raise SubmissionError("ended", "something else than a result came from the process") from None
        if kind != "ok":
            told = "".join(c if c.isprintable() else " " for c in str(value)[:300])  # it is shown in a terminal
            raise SubmissionError(str(kind), told)
        return value

    def _write(self, data, end):
        os.set_blocking(self._to, False)
        while data:
            if not select.select([], [self._to], [], max(0.0, end - time.monotonic()))[1]:
                raise SubmissionError("ended", f"no answer within {self.limits.task:g} s")
            try:
                data = data[os.write(self._to, data) :]
            except BrokenPipeError:
                raise self._ended() from None

    def _read(self, size, end):
        data = b""
        while len(data) < size:
            if not select.select([self._from], [], [], max(0.0, end - time.monotonic()))[0]:
                raise SubmissionError("ended", f"no answer within {self.limits.task:g} s; is there an endless loop?")
            part = os.read(self._from, min(size - len(data), 2**20))
            if not part:
                raise self._ended()
            data += part
        return data

    def _ended(self):
        """Why the process is no more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._reader.join(1.0)
        if self.printed > self.limits.printed:
            return SubmissionError("ended", f"printed more than {self.limits.printed >> 10} kB")
        return SubmissionError("ended", f"the process ended by itself, with status {self._process.returncode}")
