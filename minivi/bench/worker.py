"""A contestant's process: told over stdin what to set up and when to run, it answers over stdout, in lines of JSON.

runner                                       worker: python -m minivi.bench.worker torch
  |                  {"versions": ...} <---- ready
  |---> {"setup": "vae"}                     builds the workload, does two steps with noise that all share
  |                   {"values": ...} <----
  |---> {"seconds": 0.5}                     steps of its own, one slice of one round
  |                     {"ms": 1.2, ...} <----
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np

from minivi.bench import CONTESTANTS
from minivi.bench.workloads import workloads

WARM_UP = 6  # steps until all contestants have compiled what they compile
CHUNK = 0.05  # seconds between two looks at the clock: a slice is made of chunks, its time is their median


def serve(name: str, lines: Iterable[str], say: Callable[[dict], None]) -> None:
    """Answer each line until there are no more; what goes wrong with one is its answer {"error": ...}."""
    say_error = lambda error: say({"error": f"{type(error).__name__}: {error}".splitlines()[0]})
    module, options = CONTESTANTS[name]
    try:
        contestant = importlib.import_module(f"minivi.bench.{module}")
        about = contestant.about(**options)
    except Exception as error:  # a library that is broken is as good as none
        return say_error(error)
    say({**about, "versions": about["versions"] | {"python": platform.python_version()}})
    session = None
    for line in lines:
        request = json.loads(line)
        try:
            if "setup" in request:
                session = None  # its memory can go before more is taken
                session = Session(contestant, options, request)
                say(session.about)
            else:
                say(session.slice(request["seconds"]))
        except Exception as error:
            say_error(error)


class Session:
    """A workload that is set up; ``about`` is what the runner hears of it."""

    def __init__(self, contestant, options, request):
        w = workloads(request["small"])[request["setup"]]
        self.held, begun = memory("VmRSS"), time.perf_counter()
        self.batches = [tuple(contestant.array(a) for a in batch) for batch in w.batches()]
        self.step, self.done = contestant.build(w, **options), 0
        noise = [contestant.array(a) for a in w.fixed_noise()]
        # The first value comes of the forward pass alone, the second of the gradients and the update too.
        values = [w.value(np.asarray(self.step(self.batches[0], noise))) for _ in range(2)]
        self.about = {"values": values, "setup_seconds": time.perf_counter() - begun}
        self.steps(WARM_UP)
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forgets the peak so far: that of setting up says nothing about a step

    def steps(self, count: int) -> float:
        """Do so many steps; the seconds that they took."""
        begun = time.perf_counter()
        for _ in range(count):
            result = self.step(self.batches[self.done % len(self.batches)], None)
            self.done += 1
        np.asarray(result)  # waits for libraries that return before they are done
        return time.perf_counter() - begun

    def slice(self, seconds: float) -> dict[str, float | None]:
        """Steps for about so many seconds: the median time of one, CPUs that this and other processes used, memory."""
        count = max(1, int(min(CHUNK, seconds) / self.steps(1)))
        self.steps(count)  # what the others left in the caches
        own, busy, begun, times = own_seconds(), busy_seconds(), time.perf_counter(), []
        while not times or time.perf_counter() - begun < seconds:
            times.append(self.steps(count) / count)
        elapsed, own = time.perf_counter() - begun, own_seconds() - own
        others = None if busy is None else max(0.0, busy_seconds() - busy - own) / elapsed
        peak = memory("VmHWM")
        return {
            "ms": 1e3 * statistics.median(times),
            "steps": count * len(times),
            "cpus": own / elapsed,
            "others": others,
            "peak_mb": peak,
            "work_mb": None if peak is None or self.held is None else peak - self.held,
        }


def own_seconds() -> float:
    """CPU time of this process, all its threads."""
    times = os.times()
    return times.user + times.system


def busy_seconds() -> float | None:
    """CPU time of all processes together, and what other virtual machines took; None where Linux's /proc is not."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, soft, steal = map(int, file.readline().split()[1:9])
    except OSError:
        return None
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def memory(kind: str) -> float | None:
    """Megabytes that this process holds ("VmRSS") or held at most ("VmHWM"); None where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        return next((int(line.split()[1]) / 1024 for line in file if line.startswith(f"{kind}:")), None)
    if kind == "VmHWM":
        with contextlib.suppress(ImportError):
            from resource import RUSAGE_SELF, getrusage

            return getrusage(RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return None


def main(name: str) -> None:
    """Serve this process's stdin and stdout; what libraries print goes to stderr."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        serve(name, sys.stdin, lambda answer: print(json.dumps(answer), file=out, flush=True))


if __name__ == "__main__":
    main(sys.argv[1])
