"""``minivi bench``: training steps timed against NumPy, PyTorch, JAX and HIPS autograd, wherever those are importable.

             round 1                     round 2                        one worker process for each contestant,
    minivi | numpy | torch | jax    numpy | torch | jax | minivi        one slice of about half a second at a time

Contestants take turns, so that a slow phase of the machine hits all; the ratio of two is taken within each round, and
medians and extremes are over the rounds. All get the same data, initial weights and number of threads, and before any
timing they must agree on the loss before and after an update made with the same noise. Peers are given their best:
variables that pin their BLAS to another CPU's kernels are removed, and their allocator keeps what is freed; minivi runs
as in any program of yours. ``--isa avx2`` has all of them leave a CPU's AVX-512 alone.

A peer's process loads this package without ``minivi/__init__.py``: it needs (and pays the memory of) no Numba.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

from minivi.bench.workloads import Workload, workloads

# The module of each, and what its about() and build() are told more.
CONTESTANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "minivi": ("in_minivi", {}),
    "minivi-eager": ("in_minivi", {"compiled": False}),
    "numpy": ("in_numpy", {}),
    "torch": ("in_torch", {}),
    "torch-compile": ("in_torch", {"compiled": True}),
    "jax": ("in_jax", {}),
    "autograd": ("in_autograd", {}),
}
PEERS = [name for name in CONTESTANTS if name != "minivi"]
FAMILIES = list(dict.fromkeys(w.family for w in workloads().values()))
THREAD_COUNTS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("NUMBA_NUM_THREADS", "NPROC"),  # the last is XLA's
)
PINS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
FOR_PEERS = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "JAX_PLATFORMS": "cpu",
}
AVX2 = {  # what has each library do without AVX-512; Numba's is made of the CPU's features
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
BARE = (
    "import sys, types; minivi = sys.modules['minivi'] = types.ModuleType('minivi'); minivi.__path__ = [sys.argv[1]]; "
    "from minivi.bench.worker import main; main(sys.argv[2])"
)
PAUSE = 0.15  # seconds between slices: by then threads are asleep that spin after their work (OpenBLAS's 2^28 cycles)
BUSY = 0.2  # CPUs used by other processes that are worth a warning


class BenchError(ValueError):
    """A name or number on the command line is off; the message lists the valid ones."""


class WorkerError(RuntimeError):
    """A contestant cannot do what it is asked, or its process has died."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``minivi bench``."""
    parser.add_argument("--only", metavar="vae,made", help=f"some of the workloads: {', '.join(FAMILIES)}")
    peers = parser.add_mutually_exclusive_group()
    peers.add_argument("--peers", metavar="torch,jax", help=f"some of the peers: {', '.join(PEERS)}")
    peers.add_argument("--no-peers", action="store_true", help="time minivi alone")
    parser.add_argument("--rounds", type=int, default=5, help="slices for each contestant and workload (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a slice (default: 0.5)")
    parser.add_argument("--threads", type=int, help="for every contestant (default: all that minivi would use)")
    parser.add_argument(
        "--python", metavar="PATH", default=sys.executable, help="the peers' interpreter (default: this)"
    )
    parser.add_argument("--keep-pins", action="store_true", help=f"leave {', '.join(PINS)} to the peers")
    parser.add_argument("--isa", choices=["avx2"], help="have all of them leave AVX-512 alone")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument(
        "--out", metavar="FILE", default="runs/bench.json", help="the numbers (default: runs/bench.json)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the benchmark: print a table for each workload, and write all numbers into ``args.out`` after each.

    Returns:
        0, or 1 if a contestant failed or computed something else than minivi did.

    Raises:
        BenchError: an unknown workload or peer, an impossible number, or a peer asked for by name that cannot run.
    """
    return Benchmark(args).run()


def _chosen(text: str | None, valid: list[str], what: str) -> list[str]:
    names = valid if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in valid:
            raise BenchError(f"bench: no {what} {name!r}; there are {', '.join(valid)}")
    return [name for name in valid if name in names]


def _without_avx512():
    """The variables of ``--isa avx2``."""
    from minivi.kernels.jit import FEATURES

    if "+avx2" not in FEATURES.split(","):
        raise BenchError("bench: --isa avx2 wants a CPU with AVX2; leave the option out")
    return AVX2 | {"NUMBA_CPU_FEATURES": re.sub(r"\+(avx512|avx10|amx)", r"-\1", FEATURES)}


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(times: dict[str, list[float]], base: str = "minivi") -> dict[str, dict[str, Any]]:
    """What rounds of timings say.

    Args:
        times: for each contestant its milliseconds a step, round by round.
        base: whom the others are compared with.

    Returns:
        For each contestant "ms", the :func:`spread` of its times, and "ratio", that of its times divided by the base's
        in the same round; None where there is no base.
    """
    ratio = lambda own: spread([t / b for t, b in zip(own, times[base], strict=True)]) if base in times else None
    return {name: {"ms": spread(own), "ratio": ratio(own)} for name, own in times.items()}


class Worker:
    """A contestant's process (:mod:`minivi.bench.worker`); a context manager that ends it.

    Args:
        name: of the contestant.
        threads: how many it may use.
        python: its interpreter.
        pins: whether variables that pin BLAS to a kernel stay.
        isa: variables that set the instruction set.

    Raises:
        WorkerError: it does not start; its library is not there, for instance.
    """

    def __init__(self, name: str, threads: int, python: str, pins: bool, isa: dict[str, str] | None = None):
        self.name, self.log = name, tempfile.TemporaryFile()
        command, variables = [sys.executable, "-m", "minivi.bench.worker", name], dict(os.environ)
        if not name.startswith("minivi"):
            command = [python, "-c", BARE, str(Path(__file__).parents[1]), name]
            variables = {key: v for key, v in variables.items() if pins or key not in PINS} | FOR_PEERS
        variables |= dict.fromkeys(THREAD_COUNTS, str(threads)) | (isa or {})
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        try:
            self.process = subprocess.Popen(command, text=True, env=variables, **streams)
        except OSError as error:
            self.log.close()
            raise BenchError(f"bench: --python {python}: {error.strerror}; give the path of an interpreter") from None
        try:
            self.about = self._read()
        except WorkerError:
            self.__exit__()
            raise

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            last = self.log.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise WorkerError(f"its process ended with status {self.process.wait()}: {last[0]}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises:
            WorkerError: it failed.
        """
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except OSError:  # the process is gone; what it last said tells why
            pass
        return self._read()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()  # in the midst of a step or a compilation it would not notice the end of its input
        self.process.communicate()
        self.log.close()


class Benchmark:
    """One run of the benchmark.

    Attributes:
        report: what goes into the JSON file.
    """

    def __init__(self, args: argparse.Namespace):
        from minivi import kernels
        from minivi.experiments.provenance import environment

        self.args = args
        families = _chosen(args.only, FAMILIES, "workload")
        self.workloads = [w for w in workloads(args.small).values() if w.family in families]
        peers = [] if args.no_peers else _chosen(args.peers, PEERS, "peer")
        self.contestants = ["minivi", *peers]
        self.threads = kernels.get_threads() if args.threads is None else args.threads
        if self.threads < 1 or args.rounds < 1 or not 0 < args.seconds < 3600:
            raise BenchError(
                f"bench: --threads {self.threads}, --rounds {args.rounds}, --seconds {args.seconds:g}: threads and "
                "rounds must be at least 1, seconds more than 0 and below 3600"
            )
        self.isa = _without_avx512() if args.isa else {}
        self.report: dict[str, Any] = {
            "environment": environment() | {"threads": self.threads},
            "settings": {name: getattr(args, name) for name in ("rounds", "seconds", "small", "keep_pins", "isa")},
            "pins": {name: os.environ[name] for name in PINS if name in os.environ},
            "set_for_peers": FOR_PEERS,
            "set_for_all": self.isa,
            "workloads": {w.name: {"what": w.text, "flops": w.flops} for w in self.workloads},
            "versions": {},
            "absent": {},
            "gemm_peak_gflops": {},
            "results": [],
            "failures": [],
        }
        self.peaks: dict[int, float] = self.report["gemm_peak_gflops"]  # by the number of threads

    def run(self) -> int:
        """All workloads; the exit status."""
        from minivi.files import prepare_folder

        prepare_folder(Path(self.args.out).parent)
        self.save()  # fails now rather than after the measurements
        about = self.report["environment"]
        print(f"{about['cpu']}, threads: {self.threads}, {self.args.rounds} rounds of {self.args.seconds:g} s")
        if self.isa:
            print(f"limited to {self.args.isa}: {', '.join(sorted(self.isa))} are set for all")
        for name, value in self.report["pins"].items():
            print(f"{'kept' if self.args.keep_pins else 'removed for the peers'}: {name}={value}")
        for family, group in groupby(self.workloads, lambda w: w.family):
            members = list(group)
            for threads in sorted({1, self.threads}) if family == "gemm" else [self.threads]:
                rows = self.measure(members, self.contestants, threads, self.args.rounds)
                for row in rows:
                    row["of_peak"] = row["gflops"] and row["gflops"] / self.peak(threads)
                    if len(members) > 1:  # in one process, which may still hold another's memory
                        row["peak_mb"] = row["work_mb"] = None
                self.report["results"] += rows
                self.save()
                print(f"\n{family}: {members[0].text}{f', threads: {threads}' if family == 'gemm' else ''}")
                print(table(rows))
                others = max((row["others"] or 0 for row in rows), default=0)
                if others > BUSY:
                    print(f"other processes used up to {others:.1f} CPUs meanwhile: times are too long, ratios rough")
        print()
        for name, versions in self.report["versions"].items():
            print(f"{name}: {', '.join(f'{key} {value}' for key, value in versions.items())}")
        for name, reason in self.report["absent"].items():
            print(f"{name}: not run ({reason})")
        for threads, rate in self.peaks.items():
            print(f"GEMM peak, threads: {threads}: {rate:.0f} GFLOP/s; a step that skips zeros can exceed it")
        print("/ minivi: time divided by minivi's; for it: memory peak beyond what the imported library held")
        print("(peers are told to keep freed memory, which makes some faster and, for large arrays, their peak higher)")
        print(f"numbers: {self.args.out}")
        return 1 if self.report["failures"] else 0

    def save(self) -> None:
        """Write the report."""
        from minivi.files import write_atomically

        write_atomically(self.args.out, (json.dumps(self.report, indent=1) + "\n").encode())

    def measure(self, members: list[Workload], names: list[str], threads: int, rounds: int) -> list[dict[str, Any]]:
        """Rows of the table: all contestants in all workloads of a family, in worker processes of their own."""
        rows = []
        with ExitStack() as stack:
            workers = []
            for name in names:
                if name not in self.report["absent"]:
                    try:
                        worker = Worker(name, threads, self.args.python, self.args.keep_pins, self.isa)
                    except WorkerError as error:
                        self.absent(name, str(error))
                        continue
                    self.report["versions"][name] = worker.about["versions"]
                    workers.append(stack.enter_context(worker))
            for w in members:
                rows += self.interleave(w, [x for x in workers if w.family in x.about["families"]], threads, rounds)
        return rows

    def absent(self, name: str, reason: str) -> None:
        """Note that a contestant cannot run here."""
        if name == "minivi" or self.args.peers:
            where = sys.executable if name == "minivi" else self.args.python
            raise BenchError(f"bench: {name} cannot run in {where} ({reason}); install it there, or leave it out")
        self.report["absent"][name] = reason

    def interleave(self, w: Workload, workers: list[Worker], threads: int, rounds: int) -> list[dict[str, Any]]:
        """One workload: agreement first, then slices in turn."""
        rows = {}
        slices: dict[str, list[dict[str, float]]] = {}

        def ask(worker, **request):
            if sys.stderr.isatty():
                print(f"\r{w.name}: {worker.name:<20}", end="\r", file=sys.stderr)
            try:
                return worker.ask(**request)
            except WorkerError as error:
                self.fail(w, worker.name, str(error))
                rows.pop(worker.name, None)
                slices.pop(worker.name, None)

        for worker in workers:
            answer = ask(worker, setup=w.name, small=self.args.small)
            if answer:
                rows[worker.name] = {"workload": w.name, "contestant": worker.name, "threads": threads, **answer}
                slices[worker.name] = []
        for name, row in rows.items():
            ours = rows.get("minivi", row)["values"]
            row["agrees"] = all(abs(a - b) <= w.tolerance * abs(b) for a, b in zip(row["values"], ours, strict=True))
            if not row["agrees"]:
                self.fail(w, name, f"computes {row['values']}, minivi {ours}: more than {w.tolerance:.0e} apart")
        for n in range(rounds):
            k = n % max(1, len(workers))
            for worker in workers[k:] + workers[:k]:
                if worker.name in rows:
                    time.sleep(PAUSE)
                    answer = ask(worker, seconds=self.args.seconds)
                    if answer:
                        slices[worker.name].append(answer)
        ratios = compare({name: [s["ms"] for s in own] for name, own in slices.items()})
        for name, row in rows.items():
            row |= ratios[name] | {"rounds_ms": [s["ms"] for s in slices[name]]}
            row["gflops"] = w.flops / row["ms"]["median"] / 1e6 or None
            for key in ("cpus", "others", "peak_mb", "work_mb"):
                row[key] = max((s[key] for s in slices[name] if s[key] is not None), default=None)
        return list(rows.values())

    def fail(self, w: Workload, name: str, reason: str) -> None:
        """Note that something went wrong."""
        self.report["failures"].append({"workload": w.name, "contestant": name, "reason": reason})
        print(f"\n{name} in {w.name}: {reason}", file=sys.stderr)

    def peak(self, threads: int) -> float:
        """The machine's GFLOP/s in its largest product, the better of NumPy's BLAS and ours."""
        if threads not in self.peaks:
            products = [w for w in workloads(self.args.small).values() if w.family == "gemm"]
            rows = self.measure([max(products, key=lambda w: w.flops)], ["minivi", "numpy"], threads, 3)
            self.peaks[threads] = max(row["gflops"] * row["ms"]["median"] / row["ms"]["min"] for row in rows)
        return self.peaks[threads]


def table(rows: list[dict[str, Any]]) -> str:
    """Results as aligned text."""
    from minivi.tables import text_table

    head = ["", "ms", "min - max", "/ minivi", "min - max", "GFLOP/s", "of peak", "peak MB", "for it", "setup s"]
    lines = [[*head, "values compared"]]
    for row in rows:
        size = row["workload"].partition(" ")[2]
        lines.append(
            [f"{size} {row['contestant']}".strip()]
            + [*_cells(row["ms"], ".4g"), *_cells(row["ratio"], ".2f")]
            + [_cell(row["gflops"], ".0f"), _cell(row["of_peak"], ".0%"), _cell(row["peak_mb"], ".0f")]
            + [
                _cell(row["work_mb"], ".0f"),
                _cell(row["setup_seconds"], ".1f"),
                " ".join(f"{value:.6g}" for value in row["values"]),
            ]
        )
    return text_table(lines, right=tuple(range(1, 10)))


def _cell(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)


def _cells(ratio: dict[str, float] | None, form: str) -> tuple[str, str]:
    return (
        ("-", "-") if ratio is None else (f"{ratio['median']:{form}}", f"{ratio['min']:{form}} - {ratio['max']:{form}}")
    )
