"""Do the tests hold a module? Change one thing in it at a time, and see whether a test that runs the line fails.

    python tests/mutate.py minivi/ops.py                      60 changes drawn with seed 0
    python tests/mutate.py minivi/ops.py --count 0            all of them
    python tests/mutate.py minivi/*.py --count 30 --jobs 2

A change is a *mutant*: ``+`` for ``-``, ``<=`` for ``<``, another number, a branch turned round, a keyword or a
statement left out. It is killed if a test fails, or takes far too long; it survives if none does. The working tree is
not touched: mutants are written into copies of it. Which tests run which line is measured first, with `coverage` (pip
install coverage; about twice the time of the suite; ``--lines FILE`` keeps it).

The words of errors, annotations, the cases that primitives bring for their own tests, and zip's ``strict`` (which tells
only of faults elsewhere) are not changed. Changes that no test could see are listed, each with the reason, in
tests/mutants_equivalent.txt, and left out.
"""

import argparse
import ast
import copy
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("minivi", "tests", "chapters")
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
             ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult}  # fmt: skip
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
               ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn,
               ast.NotIn: ast.In}  # fmt: skip
CONTEXTS = """import coverage, pytest

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    coverage.Coverage.current().switch_context(item.nodeid.split("[")[0])
    yield
    coverage.Coverage.current().switch_context("")
"""  # coverage's own contexts take a function of hypothesis for the test
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.txt")
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
TIMEOUT = 400


def changes(node):
    """What can be changed about ``node``: (description, function that does it to a copy of the node)."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        new = OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__} -> {new.__name__}", lambda n: _set(n, op=new())
    if isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        new = OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__}= -> {new.__name__}=", lambda n: _set(n, op=new())
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            new = COMPARISONS[type(op)]
            yield (
                f"{type(op).__name__} -> {new.__name__}",
                lambda n, i=i, new=new: _set(n, ops=[*n.ops[:i], new(), *n.ops[i + 1 :]]),
            )
    if isinstance(node, ast.BoolOp):
        new = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"{type(node.op).__name__} -> {new.__name__}", lambda n: _set(n, op=new())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield f"without {type(node.op).__name__}", lambda n: n.operand
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield f"{node.value} -> {not node.value}", lambda n: ast.Constant(not n.value)
        elif isinstance(node.value, int):
            yield f"{node.value} -> {node.value + 1}", lambda n: ast.Constant(n.value + 1)
        elif isinstance(node.value, float):
            new = 1.1 * node.value if node.value else 0.1
            yield f"{node.value} -> {new}", lambda n: ast.Constant(new)
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield "condition turned round", lambda n: _set(n, test=ast.UnaryOp(ast.Not(), n.test))
    if isinstance(node, ast.Call):
        for i, keyword in enumerate(node.keywords):
            if keyword.arg not in (None, "strict", "mend"):  # a mend is words
                yield f"without {keyword.arg}=", lambda n, i=i: _set(n, keywords=n.keywords[:i] + n.keywords[i + 1 :])
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.Raise, ast.Continue, ast.Break)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield f"without the {type(node).__name__.lower()}", lambda n: ast.Pass()


def _set(node, **fields):
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def mutants(node, path=(), line=0):
    """Every mutant of a module: (line, description, (the way to the node, the change))."""
    line = getattr(node, "lineno", line)
    if path:
        for text, change in changes(node):
            yield line, text, (path, change)
    if isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Raise)):
        return  # words
    named = node.targets[0] if isinstance(node, ast.Assign) else node
    if getattr(named, "id", getattr(named, "name", None) or "").startswith("_cases"):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or (isinstance(node, ast.keyword) and node.arg in ("cases", "strict")):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield from mutants(child, (*path, (name, i)), line)


def equivalents():
    """The listed changes that no test could see: {(file, source line, change): reason}."""
    found = {}
    for row in EQUIVALENT.read_text().splitlines():
        if row and not row.startswith("#"):
            file, rest = row.split(" | ", 1)
            line, change, reason = rest.rsplit(" | ", 2)
            found[file, line, change] = reason
    return found


def numbered(source):
    """The mutants of a module, as :func:`mutants`; the second of the same kind in a line is called "#2", and so on."""
    seen = Counter()
    for line, text, what in mutants(ast.parse(source)):
        seen[line, text] += 1
        yield line, text if seen[line, text] == 1 else f"{text} #{seen[line, text]}", what


def mutated(tree, path, change):
    """The source of ``tree`` with one change."""
    tree = copy.deepcopy(tree)
    node = tree
    for name, i in path[:-1]:
        node = getattr(node, name) if i is None else getattr(node, name)[i]
    name, i = path[-1]
    if i is None:
        setattr(node, name, change(getattr(node, name)))
    else:
        getattr(node, name)[i] = change(getattr(node, name)[i])
    return ast.unparse(ast.fix_missing_locations(tree))


def lines_of_tests(folder):
    """Which tests run which line: {file: {line: [test, ...]}}; one that runs on import too has none."""
    (folder / ".coveragerc").write_text("[run]\nsource = minivi\n")
    (folder / "contexts.py").write_text(CONTEXTS)
    run = [sys.executable, "-m", "coverage"]
    for words in (
        ["run", "-m", "pytest", "-q", "-x", "-p", "contexts"],
        ["json", "--show-contexts", "-q", "-o", "lines.json"],
    ):
        done = _python(folder, [*run, *words])
        if done.returncode:
            sys.exit(f"the tests must pass before a line is changed:\n{done.stdout[-3000:]}")
    found = {}
    for file, about in json.loads((folder / "lines.json").read_text())["files"].items():
        runs = about["contexts"]
        found[file] = {line: [] if "" in contexts else sorted(contexts) for line, contexts in runs.items()}
    return found


def _python(folder, command, **options):
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_DATABASE": ""}
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def _copy(folder):
    for name in FOLDERS:  # with the kernels' compiled code; Numba looks at times of change, which a copy keeps
        shutil.copytree(ROOT / name, folder / name)
    for name in ("pyproject.toml", "setup.cfg", "README.md", ".ci", "figures"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy2(ROOT / name, folder / name)


def survives(folder, file, source, tests):
    """Whether no test fails of the mutant."""
    original = (folder / file).read_text()
    (folder / file).write_text(source)
    try:
        return _python(folder, [*PYTEST, *tests], timeout=TIMEOUT).returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        (folder / file).write_text(original)


def main():
    """Mutate, test, print the survivors and each module's score; exit status 1 below --least."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("modules", nargs="+", help="files of minivi/")
    parser.add_argument("--count", type=int, default=60, help="mutants of each module, 0 for all (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--lines", help="file that keeps which test runs which line")
    parser.add_argument("--least", type=float, default=0.0, help="the score, in percent, that every module must have")
    args = parser.parse_args()
    status, listed = 0, equivalents()
    with tempfile.TemporaryDirectory() as base:
        free = queue.Queue()
        for i in range(args.jobs):
            folder = Path(base, str(i))
            folder.mkdir()
            _copy(folder)
            free.put(folder)
        if args.lines and Path(args.lines).exists():
            lines = json.loads(Path(args.lines).read_text())
        else:
            lines = lines_of_tests(Path(base, "0"))
            if args.lines:
                Path(args.lines).write_text(json.dumps(lines))
        for module in args.modules:
            file = str(Path(module).resolve().relative_to(ROOT))
            source = (ROOT / file).read_text()
            tree, at = ast.parse(source), [line.strip() for line in source.splitlines()]
            every = list(numbered(source))
            chosen = [mutant for mutant in every if (file, at[mutant[0] - 1], mutant[1]) not in listed]
            left = len(every) - len(chosen)
            if args.count and args.count < len(chosen):
                chosen = sorted(random.Random(args.seed).sample(chosen, args.count), key=lambda m: m[0])
            everyone = sorted({test for tests in lines.get(file, {}).values() for test in tests})
            stem = Path(file).stem
            if everyone and _python(Path(base, "0"), [*PYTEST, "--collect-only", *everyone]).returncode:
                sys.exit(f"{file}: tests of --lines are not there any more; leave that file out")

            def verdict(mutant, file=file, tree=tree, everyone=everyone, stem=stem):
                line, text, (path, change) = mutant
                tests = lines.get(file, {}).get(str(line)) or everyone
                tests = sorted(tests, key=lambda t: (stem not in t, t))  # a module's own tests are the likeliest
                folder = free.get()
                try:
                    alive = not tests or survives(folder, file, mutated(tree, path, change), tests)
                finally:
                    free.put(folder)
                if alive:
                    print(f"{file}:{line}: survives: {text}", flush=True)
                return alive

            with ThreadPoolExecutor(args.jobs) as pool:
                alive = sum(pool.map(verdict, chosen))
            score = 100.0 * (1.0 - alive / len(chosen)) if chosen else 100.0
            print(
                f"{file}: {len(chosen) - alive} of {len(chosen)} mutants killed, {score:.1f} %; "
                f"{left} of {len(every)} left out as equivalent",
                flush=True,
            )
            status |= score < args.least
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
