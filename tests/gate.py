"""The gate: do results keep their bits? Every experiment at `quick` and every check, beside those of another commit.

    python tests/gate.py                          the working tree against the commit before HEAD
    python tests/gate.py --against d709ba2        against any commit
    python tests/gate.py --only ch02_aevb         some chapters

Compared by hash: the weights that runs leave, their JSON key by key (times, commit and threads apart), their pictures,
and what each check prints. A change that is meant is named by a trailer of a commit's message, and the gate then
prints it with its reason instead of failing:

    Changes: ch02_aevb.manifold_frey/* the grid is centred on the encoder's mean

The first word is a pattern for the names that the gate prints. What is new is printed too, and is no change. About 15
minutes for each of the two trees on two cores; a commit's fingerprint is kept in the cache folder, so that the next
gate runs one tree alone.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# Clocks that advance by a power of two of a second a call of ours, so that results which hold times keep their bits,
# however many calls came before, and whatever Numba or a progress bar asked in between.
CLOCK = """
import itertools, sys, time
ticks, now = itertools.count(1), 0.0
def clock():
    global now
    if sys._getframe(1).f_globals.get("__name__", "").startswith(("minivi_chapters", "minivi.training")):
        now = next(ticks) * 2.0**-10
    return now
import concurrent.futures, multiprocessing.connection, queue, selectors, socket, subprocess, threading  # wait by time
time.perf_counter = time.process_time = time.monotonic = clock
"""
VOLATILE = ("commit", "threads")  # and all that has seconds in its name


def digest(content):
    """Short, of bytes or of what JSON can hold."""
    if not isinstance(content, bytes):
        content = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def lasting(value):
    """A JSON value without the times in it, of processes that have clocks of their own."""
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if "second" not in k}
    return [lasting(item) for item in value] if isinstance(value, list) else value


def weights(path):
    """The digest of a checkpoint's or weights' arrays, names included; optimizers' apart."""
    from safetensors.numpy import load_file

    found = hashlib.sha256()
    for name, array in sorted(load_file(path).items()):
        if not name.startswith(("optimizers.", "best.")):
            found.update(f"{name.removeprefix('model.')} {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def run(tree, *words, threads=1):
    """A command of the tree's own minivi: its exit status and what it printed."""
    with tempfile.TemporaryDirectory() as clock:
        Path(clock, "sitecustomize.py").write_text(CLOCK)
        environment = os.environ | {
            "PYTHONPATH": f"{clock}{os.pathsep}{tree}", "MINIVI_CHAPTERS": str(tree / "chapters"),
            "NUMBA_NUM_THREADS": str(threads), "MINIVI_MATMUL": "jit", "COLUMNS": "400",
        }  # fmt: skip
        done = subprocess.run([sys.executable, "-m", "minivi", *words], cwd=tree, env=environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    return done.returncode, done.stdout


def fingerprint(tree, chapters, keep=lambda chapter, found: None):
    """{name: digest} of everything that the tree's chapters leave at `quick`, and of its checks."""
    everything = {}
    with tempfile.TemporaryDirectory() as out, ThreadPoolExecutor(os.cpu_count()) as pool:

        def one(chapter):
            found = {}
            status, text = run(tree, "run", chapter, "--quiet", "--out", f"{out}/{chapter}")
            if status:
                print(text[-2000:], file=sys.stderr)
                found[f"{chapter}/failed"] = digest(text.splitlines()[-1:])
            status, text = run(tree, "check", chapter, "--all")
            for line in text.splitlines():
                if re.search(r"  (ok|FAILED.*)$", line):
                    name = f"check:{chapter}/{digest(re.split('  +', line.strip())[0:2])}"
                    found[name] = found.get(name, "") + digest(line)[:6]
            folder = Path(out, chapter)
            for path in folder.rglob("*.json"):
                about = json.loads(path.read_text())
                if isinstance(about, dict) and "experiment" in about:
                    for key in lasting(about).keys() - set(VOLATILE):
                        found[f"{about['experiment']}/json:{key}"] = digest(lasting(about[key]))
            for path in folder.rglob("*.png"):
                found[f"{chapter}.{path.stem.removeprefix(chapter + '_')}/picture"] = digest(path.read_bytes())
            # Whatever the folders are called, and in however many the same weights lie
            found[f"{chapter}/weights"] = digest(sorted(set(map(weights, folder.rglob("*.safetensors")))))
            print(f"  {chapter}", file=sys.stderr, flush=True)
            keep(chapter, found)
            everything.update(found)

        list(pool.map(one, chapters))
    return everything


def chapters_of(tree):
    """The keys of a tree's chapters."""
    folder = tree / "chapters"
    folders = [f for f in (folder / "studies", folder / "checks") if f.is_dir()] or [folder]
    entries = [path for f in folders for path in f.iterdir() if path.is_dir() or path.suffix == ".py"]
    return sorted({path.stem for path in entries if not path.stem.startswith("_")})


def git(*words):
    """What git prints, stripped."""
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()


def of_commit(commit, only):
    """The fingerprint of a commit, chapter by chapter from the cache folder, or by running it."""
    from minivi import kernels

    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "minivi", "gate")
    folder = folder / f"{commit}-{kernels.instruction_set()}-{digest(CLOCK)}"
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        git("worktree", "add", "--detach", "--force", str(tree), commit)
        try:
            chapters = [c for c in chapters_of(tree) if c in (only or [c])]
            folder.mkdir(parents=True, exist_ok=True)
            fingerprint(
                tree,
                [c for c in chapters if c not in found],
                lambda c, one: (found.update({c: one}), (folder / f"{c}.json").write_text(json.dumps(one))),
            )
        finally:
            git("worktree", "remove", "--force", str(tree))
    return {name: value for chapter in chapters for name, value in found[chapter].items()}


def main():
    """Compare; exit status 1 if anything changed that no commit names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--against", default="HEAD~1", help="a commit (default: HEAD~1)")
    parser.add_argument("--only", nargs="*", help="chapters (default: all)")
    args = parser.parse_args()
    commit = git("rev-parse", args.against)
    print(f"of {commit[:12]}:", file=sys.stderr)
    before = of_commit(commit, args.only)
    print("of the working tree:", file=sys.stderr)
    after = fingerprint(ROOT, args.only or chapters_of(ROOT))
    trailers = git("log", "--format=%(trailers:key=Changes,valueonly)", f"{commit}..HEAD").splitlines()
    named = [trailer.split(maxsplit=1) for trailer in trailers if trailer.strip()]
    unnamed = 0
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            what = "new" if name not in before else "gone" if name not in after else "changed"
            reasons = [reason for pattern, *reason in named if fnmatch.fnmatch(name, pattern)]
            unnamed += not reasons and what != "new"
            print(f"{what}: {name}{': meant: ' + ' '.join(reasons[0]) if reasons else ''}")
    print(f"{len(after)} hashes, {unnamed} changed without a name")
    return 1 if unnamed else 0


if __name__ == "__main__":
    sys.exit(main())
