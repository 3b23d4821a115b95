"""A grid of independent runs over all cores, or over a cluster, that goes on where it was killed.

    sweep(train, cells, folder)      train(**cell) -> numbers, in another process for each cell at a time
      |
      +-- folder/beta1=0.9,step_size=0.01.json     written whole when a cell is finished, read when the sweep is resumed

Any ``concurrent.futures.Executor`` does the work; by default a process pool, with one thread for the kernels of each
process. With Dask, ``dask.distributed.Client(...).get_executor()`` is one: the cells then run on its cluster.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from minivi import kernels
from minivi.training import write_atomically


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
        ValueError: two cells are equal.
        SweepError: a cell failed (those finished before are kept), or the file of a finished one is damaged.
    """
    folder, label = Path(folder), f"{function.__module__}.{function.__qualname__}"
    paths = [folder / _name(cell) for cell in cells]
    if len(set(paths)) < len(paths):
        raise ValueError(f"sweep: two cells of {label} are equal; give each once, with its seed")
    missing = [i for i, path in enumerate(paths) if not (resume and path.exists())]
    pool = executor or ProcessPoolExecutor(
        min(kernels.get_threads(), len(missing)) or 1, multiprocessing.get_context("spawn"), _follow_parent
    )
    try:
        where = function.__module__, function.__code__.co_filename, function.__qualname__
        futures = {pool.submit(_call, where, cells[i]): i for i in missing}
        done = as_completed(futures)
        if progress:
            from tqdm import tqdm

            done = tqdm(done, desc=progress if isinstance(progress, str) else "sweep", unit="cell", total=len(cells),
                        initial=len(cells) - len(missing), dynamic_ncols=True)  # fmt: skip
        for future in done:
            i = futures[future]
            try:
                about = {"function": label, "cell": cells[i], "result": future.result()}
            except Exception as error:
                for other in futures:
                    other.cancel()
                raise SweepError(f"cell {_name(cells[i])[:-5]}: {type(error).__name__}: {error}") from error
            write_atomically(paths[i], json.dumps(about).encode())
    finally:
        if executor is None:
            pool.shutdown(cancel_futures=True)
    return [_read(path, label, cell) for path, cell in zip(paths, cells, strict=True)]


def _name(cell):
    """A readable file name; of its digest too, if it is long or has characters that a file system may refuse."""
    text = ",".join(f"{key}={value}" for key, value in cell.items())
    plain = "".join(c if c.isalnum() or c in "=,.-+_" else "_" for c in text)[:120]
    return f"{plain}.json" if plain == text else f"{plain}_{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"


def _read(path, label, cell):
    try:
        about = json.loads(path.read_text())
        if about["function"] == label and about["cell"] == json.loads(json.dumps(cell)):
            return about["result"]
    except (ValueError, KeyError, TypeError, OSError):
        pass
    raise SweepError(f"{path} does not hold this cell of {label}; remove it, or use another folder")


def _follow_parent():
    """End with the process that began the sweep, also when that is killed."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _call(where, cell):
    """In a worker: find the function (a chapter is a file, which a new process cannot import by name) and call it."""
    module, path, name = where
    if module not in sys.modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            spec = importlib.util.spec_from_file_location(module, path)
            sys.modules[module] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[module])
    kernels.set_threads(1)
    found = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found(**cell)
