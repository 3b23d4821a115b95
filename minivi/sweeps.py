"""A grid of independent runs over all cores, or over a cluster, that goes on where it was killed.

    sweep(train, cells, folder)      train(**cell) -> numbers, in another process for each cell at a time
      |
      +-- folder/beta1=0.9,step_size=0.01.json     written whole when a cell is finished, read when the sweep is resumed

Any ``concurrent.futures.Executor`` does the work; by default a process pool, with one thread for the kernels of each
process. With Dask, ``dask.distributed.Client(...).get_executor()`` is one: the cells then run on its cluster.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType
from typing import Any

from minivi import kernels
from minivi.files import prepare_folder, to_json, write_atomically
from minivi.identity import digest, rounding
from minivi.progress import bar


class SweepError(RuntimeError):
    """A cell failed, or a finished one cannot be read; the message says which."""


def sweep(
    function: Callable[..., Any],
    cells: Sequence[dict[str, Any]],
    folder: str | os.PathLike,
    *,
    executor: Executor | None = None,
    resume: bool = False,
    progress: bool | str = True,
) -> list[Any]:
    """``function(**cell)`` of each cell.

    Args:
        function: of a module's top level (a chapter's will do); what it returns goes through JSON.
        cells: keywords of each call, numbers and strings: all that the result depends on, seeds and sizes included.
        folder: where finished cells are kept. An executor of other machines needs the function's file at the same path
            there, but not this folder.
        executor: a pool of processes of one thread each, if None. It is not shut down.
        resume: take finished cells from ``folder``; otherwise all are done again.
        progress: a progress bar, with this label if it is a string.

    Returns:
        The results in the order of ``cells``, the same whether they were computed now or before.

    Raises:
        ValueError: two cells are equal, or one holds what JSON cannot.
        SweepError: a cell failed, its process ended, or JSON cannot hold its result (cells finished before are kept);
            or a file is there that another function wrote; or, with ``resume``, one that is damaged or was computed by
            other code or rounding.
    """
    folder, label = Path(folder), f"{function.__module__}.{function.__qualname__}"
    for cell in cells:
        try:
            to_json(cell)
        except (TypeError, ValueError) as error:
            raise ValueError(f"sweep: cell {cell}: {error}") from None
    paths = [folder / _name(cell) for cell in cells]
    if len(set(paths)) < len(paths):
        raise ValueError(f"sweep: two cells of {label} are equal; give each once, with its seed")
    prepare_folder(folder)
    origin = {"function": label, "code": digest(function), **rounding()}
    missing = [i for i, path in enumerate(paths) if not (path.exists() and _usable(path, origin, cells[i], resume))]
    workers = _Workers()
    pool = executor or ThreadPoolExecutor(min(kernels.get_threads(), len(missing)) or 1)
    where = function.__module__, function.__code__.co_filename, function.__qualname__
    futures = {}
    try:
        futures |= {pool.submit(_call if executor else workers.call, where, cells[i]): i for i in missing}
        for future in bar(as_completed(futures), progress=progress, label="sweep", unit="cell", total=len(cells),
                          initial=len(cells) - len(missing)):  # fmt: skip
            i = futures[future]
            try:
                result, failure, trace = future.result()
            except BrokenExecutor as error:  # which says the same of all that it was given
                left = (_name(cells[j])[:-5] for f, j in futures.items() if not f.done() or f.exception())
                raise SweepError(f"one of these cells broke the executor, {_told(error)}: {'; '.join(left)}") from error
            except Exception as error:  # the executor's own
                result, failure, trace = None, _told(error), traceback.format_exc()
            if failure:
                raise SweepError(f"cell {_name(cells[i])[:-5]}: {failure}") from RuntimeError(trace)
            about = origin | {"cell": cells[i], "result": json.loads(result)}
            write_atomically(paths[i], to_json(about).encode())
    finally:
        for future in futures:
            future.cancel()
        workers.end()
        if executor is None:
            pool.shutdown()
    return [_read(path, cell)["result"] for path, cell in zip(paths, cells, strict=True)]


def _name(cell):
    """File name from the settings; one that is long, or that a file system may refuse, is shortened and gets a hash."""
    text = ",".join(f"{key}={value}" for key, value in cell.items())
    plain = "".join(c if c.isalnum() or c in "=,.-+_" else "_" for c in text)[:120]
    return f"{plain}.json" if plain == text else f"{plain}_{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"


def _usable(path, origin, cell, resume):
    """Whether a file's result may be taken; SweepError if it may neither be taken nor replaced."""
    try:
        about = _read(path, cell)
    except SweepError:
        if resume:
            raise
        return False
    if not resume and about["function"] == origin["function"]:
        return False
    for name, now in origin.items():
        if about.get(name) != now:
            different = f"{name} was {about.get(name)}, is now {now}"
            raise SweepError(f"{path} does not hold this cell ({different}); remove it, or use another folder")
    return True


def _read(path, cell):
    try:
        about = json.loads(path.read_text())
        if about["cell"] == json.loads(to_json(cell)) and {"function", "result"} <= about.keys():
            return about
        reason = "another one"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        reason = error
    raise SweepError(f"{path} does not hold this cell ({reason}); remove it, or use another folder")


class _Workers:
    """A process for each thread that calls: if one dies, it is known on which cell, and all can be ended at once."""

    def __init__(self):
        self.lock, self.local, self.all = threading.Lock(), threading.local(), []

    def call(self, where, cell):
        """:func:`_call` in the thread's process."""
        process, connection = self._mine()
        try:
            connection.send((where, cell))
            return connection.recv()
        except (EOFError, OSError):
            process.join()
            del self.local.worker
            return None, f"its process ended with status {process.exitcode}, by a signal if negative", ""

    def _mine(self):
        if not hasattr(self.local, "worker"):
            spawn = multiprocessing.get_context("spawn")
            with self.lock:
                if self.all is None:
                    raise EOFError("the sweep has ended")
                connection, far = spawn.Pipe()
                process = spawn.Process(target=_serve, args=(far,))
                process.start()
                far.close()  # so that its end is known here
                self.local.worker = process, connection
                self.all.append(process)
        return self.local.worker

    def end(self):
        """End all processes, whatever they do."""
        with self.lock:
            processes, self.all = self.all, None
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _serve(connection):
    """In a worker: answer calls until the other end is closed."""
    from tqdm.auto import tqdm

    tqdm.set_lock(threading.RLock())  # one of the operating system would be left behind by a process that is killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one ends the others
    _follow_parent()
    with contextlib.suppress(EOFError):
        while True:
            connection.send(_call(*connection.recv()))


def _follow_parent():
    """End with the process that began the sweep, also when that is killed."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _call(where, cell):
    """In a worker: find the function (a chapter is a file, which a new process cannot import by name) and call it.

    Returns:
        The result as JSON and two empty strings; or None, what went wrong, and the traceback: texts, which every
        process can read.
    """
    module, path, name = where
    try:
        if module not in sys.modules:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError:
                package, *parts = module.split(".")
                if parts:  # a.b.c in the file x/b/c.py: a is the folder x
                    sys.modules[package] = ModuleType(package)
                    sys.modules[package].__path__ = [str(Path(path).parents[len(parts) - 1])]
                    importlib.import_module(module)
                else:
                    spec = importlib.util.spec_from_file_location(module, path)
                    sys.modules[module] = importlib.util.module_from_spec(spec)
                    spec.loader.exec_module(sys.modules[module])
        kernels.set_threads(1)
        thing = sys.modules[module]
        for part in name.split("."):
            thing = getattr(thing, part)
        return to_json(thing(**cell)), "", ""
    except (Exception, SystemExit) as error:
        return None, _told(error), traceback.format_exc()


def _told(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
