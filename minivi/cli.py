"""The command line: ``minivi list | run | check | sample | embed | exercise | grade | site | bench | ...``.

Exit status 0 when all went well, 1 when a check or a run failed, 2 on bad usage. Errors are one line that says the
mend; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minivi
from minivi import tables
from minivi.experiments.registry import BUDGETS

GENERATES = {
    "sample": ("draw images from a trained model", 64),
    "reconstruct": ("images beside what a trained model makes of their codes", 32),
    "interpolate": ("images along straight paths between codes of a trained model", 8),
    "embed": ("the codes that a trained model gives to images", 0),
}

LISTED = (
    ". Times are CPU time, all threads and processes together, of an experiment run alone; run with its chapter, it "
    "may take models from those before it. laptop's are of the results in figures/, whose JSON names CPU (Intel Xeon "
    "or an AMD EPYC), threads and instruction set; the others are estimates."
)


class UsageError(ValueError):
    """The command's words are off; exit status 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    os.environ["MPLBACKEND"] = "agg"  # Matplotlib does not start with a notebook's backend that is not installed
    for stream in (sys.stdout, sys.stderr):  # a locale without Greek letters must not end a command
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    args = parser.parse_args(argv)
    if not args.command:
        parser.print_help()
        return 2
    try:
        return args.function(args)
    except KeyboardInterrupt:
        mend = "; run again with --resume to go on" if args.command == "run" else ""
        print(f"minivi: interrupted{mend}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, e.g. `minivi list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if args.debug:
            raise
        from minivi.bench import BenchError, WorkerError
        from minivi.data import DataError
        from minivi.exercises import ExerciseError
        from minivi.experiments import ExperimentError, FailedExperiments
        from minivi.files import TrainingError

        usage = isinstance(error, (UsageError, ExerciseError, ExperimentError, BenchError))
        known = usage or isinstance(error, (DataError, FailedExperiments, TrainingError, WorkerError))
        name = "" if known else f"{type(error).__name__}: "
        text = " ".join(str(error).split()) or "no further message"
        print(f"minivi: {name}{text}{'' if known else ' (--debug shows where)'}", file=sys.stderr)
        return 2 if usage else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minivi", description="Variational inference from scratch, chapter by chapter."
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--version", action="version", version=f"minivi {minivi.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, function: Callable, text: str, more: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text}{more}")
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
        sub.set_defaults(function=function)
        return sub

    listing = add("list", _list, "the experiments: what each mirrors, and the CPU time it takes", LISTED)
    listing.add_argument("words", nargs="*", metavar="WORD", help="show those with all these words, such as ch05 MNIST")
    run = add("run", _run, "run an experiment (ch02_aevb.manifold), or all of a chapter (ch02_aevb)")
    run.add_argument("experiment", help="ch02_aevb.manifold, ch02_aevb or ch02; `minivi list` has them all")
    run.add_argument(
        "--budget",
        choices=BUDGETS,
        default="quick",
        help="quick (default): small digits, at most a minute each; laptop: MNIST and Frey faces, minutes each; night: "
        "a headline of each document, at most eight hours; paper: as published, from minutes to months (`minivi list` "
        "says how long)",
    )
    run.add_argument(
        "--data",
        help="another data set than the budget's, e.g. digits or mnist (`minivi data list`); or your own: a .npz file "
        "with images train (N, H, W) and, if you like, test, train_labels, test_labels; or a folder of PNG or JPEG",
    )
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value for a setting of the budget, e.g. epochs=50; again for more. An unknown name lists all",
    )
    run.add_argument("--seed", type=_seed, default=0, help="of everything random (default: 0)")
    run.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out, where there are any")
    run.add_argument("--out", default="runs", help="folder for figures, tables and weights (default: runs)")
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    results = add("results", _results, "print the tables and claims that runs have left in a folder")
    results.add_argument("--page", action="store_true", help="write a gallery of them instead, README.md in the folder")
    results.add_argument("folder", nargs="?", default="runs", help="default: runs; figures/ holds the project's own")
    redraw = add("redraw", _redraw, "make the table and figures of a stored result anew, without training")
    redraw.add_argument("files", nargs="+", metavar="JSON", help="files that runs have left, such as runs/*.json")
    redraw.add_argument("--tables", action="store_true", help="tables and claims only; the figures stay as they are")
    check = add("check", _check, "verify every primitive's derivatives and the chapters' equations")
    check.add_argument("what", nargs="?", help="primitives, a chapter (ch02) or an equation (2.8); default: everything")
    check.add_argument("--index", action="store_true", help="print where each equation is checked, run nothing")
    check.add_argument("--all", action="store_true", help="the slow checks too")
    where = add("where", _where, "the lines that implement an equation, and those that check it")
    where.add_argument("equation", help='such as 5.30, or "review report 4"')
    notebook = add("notebook", _notebook, "write a lesson as a Jupyter notebook")
    notebook.add_argument("lesson", help="such as ch02_aevb")
    notebook.add_argument("--out", default=".", help="folder for the .ipynb file (default: here)")
    exercise = add("exercise", _exercise, "list the exercises or the tasks of one, or write its blank for students")
    exercise.add_argument("name", nargs="?", help="such as ch07_adam; default: list all")
    exercise.add_argument("--blank", action="store_true", help="the file for students, made from the solutions")
    exercise.add_argument("--out", help="where to write it, .py or .ipynb (default: print it)")
    grade = add("grade", _grade, "grade exercises: points, what was expected and found, a hint for each task")
    grade.add_argument("path", help="chapters/exercises/NAME.py; with --submit NAME is enough")
    grade.add_argument("--submit", nargs="+", metavar="FILE", help="grade these instead: files, notebooks, folders")
    grade.add_argument("--seed", type=_seed, default=0, help="of the inputs that are asked (default: 0)")
    grade.add_argument("--json", metavar="FILE", help="write the result of one submission there")
    grade.add_argument("--format", choices=("gradescope", "github"), default="gradescope", help="of --json")
    grade.add_argument("--csv", metavar="FILE", help="write a line for each submission there")
    grade.add_argument("--reports", metavar="FOLDER", help="write each submission's table there, to hand back")
    grade.add_argument("--seconds", type=float, default=10.0, help="for each answer (default: 10; six times in all)")
    gradcheck = add("gradcheck", _gradcheck, "check the gradient of your own function by finite differences")
    gradcheck.add_argument(
        "target", metavar="module:function", help="a function of Tensors, or one that returns a Report"
    )
    gradcheck.add_argument("--shape", action="append", metavar="3,4", help="of each input in turn ('' is a number)")
    gradcheck.add_argument("--gradient", metavar="module:function", help="a hand-written gradient to check instead")
    gradcheck.add_argument("--positive", action="store_true", help="draw the inputs from (0.2, 2)")
    gradcheck.add_argument("--seed", type=_seed, default=0)
    for name, (text, count) in GENERATES.items():
        made = add(name, _generate, text)
        made.add_argument(
            "model", help="a file or folder of weights, or an experiment that has run: ch02_aevb.manifold"
        )
        made.add_argument("--out", help=f"the file: .png a picture, .npz all arrays, .npy one (default: {name}.png)")
        made.add_argument("--count", type=_count, default=count, help=f"how many (default: {count or 'all'})")
        made.add_argument("--seed", type=_seed, default=0, help="of what is drawn (default: 0)")
        made.add_argument(
            "--data", help="its test images are used (default: the data of the run that left the weights)"
        )
        made.add_argument("--runs", default="runs", help="folder of the runs, for an experiment (default: runs)")
    predict = add("predict", _predict, "the labels that a saved classifier gives to data")
    predict.add_argument("model", help="a file of minivi.semi_supervised.SemiSupervisedClassifier.save")
    predict.add_argument("data", help="a .npy file with data (N, D), such as images of 784 pixels")
    predict.add_argument("--probabilities", action="store_true", help="print q(y | x) of each class as well")
    data = add("data", _data, "the data sets: list them, or fetch one")
    data.add_argument("action", choices=("list", "fetch"))
    data.add_argument("names", nargs="*", help="data sets to fetch")
    profile = add("profile", _profile, "where the time of a training step goes, and its memory")
    profile.add_argument(
        "what", help="a workload of `minivi bench`, such as vae, or an experiment (ch02_aevb.manifold)"
    )
    profile.add_argument("--budget", choices=BUDGETS, default="quick", help="of an experiment")
    profile.add_argument("--data", help="of an experiment, as in `minivi run`")
    profile.add_argument("--steps", type=int, default=200, help="of a workload (default: 200)")
    site = add("site", _site, "build the pages for a browser: lessons, results, equations, errata, library")
    site.add_argument("--out", default="build/site", help="folder (default: build/site); the pages are in its html/")
    site.add_argument("--strict", action="store_true", help="warnings and links that lead nowhere are errors")
    from minivi import bench

    bench.add_arguments(add("bench", bench.run, "time training steps against NumPy, PyTorch, JAX and autograd"))
    return parser


def _seed(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; give a whole number from 0 up")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of images; give a whole number from 1 up")
    return int(text)


def _changes(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for (name, equals, _), text in zip(pairs, texts, strict=True):
        if not name or not equals:
            raise UsageError(f"--set {text}: write it as NAME=VALUE, such as --set epochs=50")
    return {name.strip(): value for name, _, value in pairs}


def _list(args: Any) -> int:
    from minivi import experiments

    experiments.load_chapters()
    lines = [["experiment", "mirrors", *BUDGETS]]
    for e in experiments.EXPERIMENTS.values():
        about = [
            f"{e.key} {e.title}",
            e.mirrors,
            *(tables.duration(e.minutes[b]) if b in e.minutes else "" for b in BUDGETS),
        ]
        if all(word.lower() in " ".join(about).lower() for word in args.words):
            lines.append([f"{e.key}: {e.title}", *about[1:]])
    if len(lines) == 1:
        raise UsageError(f"no experiment has {' and '.join(map(repr, args.words))}; `minivi list` shows all of them")
    print(tables.text_table(lines, (2, 3, 4, 5), tables.terminal_width() or 80))
    print(f"\nminivi run EXPERIMENT [--budget {'|'.join(BUDGETS)}]; times are of the CPU, each alone")
    return 0


def _run(args: Any) -> int:
    from minivi import experiments

    experiments.run_experiments(
        args.experiment,
        budget=args.budget,
        data=args.data,
        seed=args.seed,
        resume=args.resume,
        out=args.out,
        progress=not args.quiet,
        changes=_changes(args.set),
    )
    return 0


def _generate(args: Any) -> int:
    from minivi import data, generate, weights
    from minivi.random import Generator

    path = weights.locate(args.model, args.runs)
    model, about, sets = weights.load(path), weights.run_of(path), None
    name, own = about.get("settings", {}).get("data"), about.get("own_data", {})
    shape, photo = own.get("shape"), own.get("photo", False)
    if args.data or (name and not own) or (own and args.command != "sample"):
        found = data.named(args.data or own.get("path") or name)
        if own and not args.data and found != name:
            told = f"--data {shlex.quote(own['path'])}"
            raise data.DataError(f"{own['path']} has changed since the run; give {told} to take it as it is")
        source = data.SOURCES[found]
        if source.kind == "words":
            raise UsageError(f"{found} holds texts, not images; give --data of images")
        shape, photo = source.shape, source.photo
        sets = None if args.command == "sample" else data.load(found)
    elif args.command in ("reconstruct", "embed"):
        raise UsageError(f"{path}: no run says what data it is of; give --data, such as --data mnist")
    rng, x, labels = Generator(args.seed), None, None
    if sets is not None:
        x, labels = (part if part is None else part[: args.count or None] for part in (sets.test, sets.test_labels))
    match args.command:
        case "sample":
            made = generate.sample(model, args.count, rng)
        case "reconstruct":
            made = generate.reconstruct(model, x)
        case "interpolate":
            made = generate.interpolate(model, args.count, rng, sets.test if sets is not None else None)
        case _:
            made = generate.embed(model, x, labels)
    out = args.out or f"{args.command}.png"
    generate.store(made, out, shape and tuple(shape), photo)
    arrays = ", ".join(f"{key} {'x'.join(map(str, array.shape))}" for key, array in made.arrays.items())
    print(f"{out}: {arrays}; {model!r}")
    return 0


def _profile(args: Any) -> int:
    import tempfile

    from minivi import experiments
    from minivi.bench.in_minivi import MODELS, build
    from minivi.bench.workloads import workloads
    from minivi.profile import Watch

    with Watch() as watch:
        if args.what in MODELS:
            w = workloads()[args.what]
            batches, step = w.batches(), build(w)
            for k in range(max(args.steps, 0)):
                step(batches[k % len(batches)], None)
        else:
            with tempfile.TemporaryDirectory() as out:
                experiments.run_experiments(args.what, budget=args.budget, data=args.data, out=out)
    profiles = [profile for profile in watch.profiles if profile.steps]
    for profile in profiles:
        print(f"\n{profile.text()}")
    if not profiles:
        raise UsageError(f"{args.what}: no step ran as a program; it is too short, or stays eager (History.why)")
    return 0


def _results(args: Any) -> int:
    from minivi import experiments

    if args.page:
        print(experiments.write_page(args.folder))
        return 0
    failures = experiments.report_stored(args.folder)
    for failure in failures:
        print(f"minivi: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _redraw(args: Any) -> int:
    from minivi import experiments

    for path in args.files:
        experiments.redraw(path, pictures=not args.tables)
    return 0


def _check(args: Any) -> int:
    from minivi import experiments

    begun = time.monotonic()
    checks = []
    if args.what != "primitives":
        experiments.load_chapters()
        checks = experiments.matching_checks(args.what)
    if args.index:
        lines = [["equation", "claim", "checked at", "implemented at"]]
        implementing = experiments.implementing_lines()
        for c in checks:
            numbers = experiments.numbers_of(c.equation)
            places = ", ".join(line.place for line in implementing if line.equations & numbers)
            lines.append([c.equation, c.claim, c.place, places])
        print(tables.text_table(lines, width=tables.terminal_width()))
        return 0
    run = [c for c in checks if args.all or not c.slow]
    counts = [_check_primitives()] if args.what in (None, "primitives") else []
    counts += [_check_equations(run)] if run else []
    if not counts:
        raise UsageError(f"no check matches {args.what!r}; `minivi check --index` lists them, or say primitives")
    failed, total = np.sum(counts, axis=0)
    skipped = len(checks) - len(run)
    note = f", {skipped} slow ones skipped (--all runs them)" if skipped else ""
    print(f"\n{total - failed} of {total} checks hold{note} ({time.monotonic() - begun:.1f} s)")
    return 1 if failed else 0


def _check_primitives():
    """How many failed, and how many there were."""
    from minivi.gradcheck import check_primitive
    from minivi.tensor import PRIMITIVES

    failed, lines = 0, [["primitive", "checks", "worst", "at", "error", "allowed", "order", "verdict"]]
    for primitive in list(PRIMITIVES.values()):
        for second in (False, True):
            report = check_primitive(primitive, second)
            row = max(report.worst(), key=lambda r: (r in report.failures, r.error / (r.allowed or 1.0)))
            about = [
                primitive.name,
                str(len(report.rows)),
                row.name,
                row.where,
                f"{row.error:.1e}",
                f"{row.allowed:.1e}",
            ]
            lines.append([*about, "second" if second else "first", "ok" if report.ok else "WRONG"])
            failed += not report.ok
    print("Derivatives of every primitive: finite differences and Taylor remainders, float64")
    print(tables.text_table(lines, (1, 4, 5), tables.terminal_width()), end="\n\n")
    return failed, len(lines) - 1


def _check_equations(checks):
    """How many claims failed, and how many there were."""
    from minivi import experiments

    failed = total = 0
    lines = [["equation", "claim", "left", "", "right", "error", "tolerance", "verdict"]]
    for entry in checks:
        claims, message = experiments.run_check(entry)
        if len(claims) > 1:
            lines.append([entry.equation, entry.claim, "", "", "", "", "", ""])
        for claim in claims:
            name, text = (entry.equation, entry.claim) if len(claims) == 1 else ("", f"  - {claim.label}")
            lines.append(
                [name, text, f"{claim.left:.8g}", claim.relation, f"{claim.right:.8g}", f"{claim.error:.1e}"]
                + [f"{claim.tolerance:.1e}", "ok" if claim.ok else "FAILED"]
            )
            failed += not claim.ok
        if not claims:
            lines.append([entry.equation, entry.claim, "", "", "", "", "", f"FAILED {message or 'it claims nothing'}"])
            failed += 1
        total += max(1, len(claims))
    print("Equations: a claim of the text against something computed another way")
    print(tables.text_table(lines, (2, 4, 5, 6), tables.terminal_width()))
    return failed, total


def _where(args: Any) -> int:
    from minivi import experiments

    experiments.load_chapters()
    lines = [
        ["implements", line.place, line.text]
        for line in experiments.implementing_lines() if args.equation in line.equations
    ]  # fmt: skip
    lines += [
        ["checks", c.place, c.claim]
        for c in experiments.CHECKS if args.equation in experiments.numbers_of(c.equation)
    ]  # fmt: skip
    if not lines:
        raise UsageError(
            f"no line implements or checks {args.equation!r}; `minivi check --index` lists what is checked"
        )
    print(
        tables.text_table(
            [[f"equation {args.equation}", "where", "line or claim"], *lines], (), tables.terminal_width()
        )
    )
    return 0


def _notebook(args: Any) -> int:
    from minivi import lesson

    print(lesson.notebook(args.lesson, args.out))
    return 0


def _site(args: Any) -> int:
    from minivi import site

    print(site.build(args.out, args.strict))
    return 0


def _exercise(args: Any) -> int:
    from minivi import exercises, files

    if args.name is None:
        lines = [["track", "about", "tasks", "points"]]
        lines += [[t.name, t.title, str(len(t.tasks)), str(t.points)] for t in map(exercises.find, exercises.names())]
        print(tables.text_table(lines, (2, 3), tables.terminal_width() or 120))
        return 0
    track = exercises.find(args.name)
    if not args.blank:
        lines = [["task", "kind", "points", "source"]]
        lines += [[f"{t.name}: {t.title}", t.kind, str(t.points), t.equation] for t in track.tasks]
        print(tables.text_table(lines, (2,), tables.terminal_width() or 120))
    elif args.out is None:
        print(track.blank(), end="")
    else:
        text = exercises.as_notebook(track.blank()) if args.out.endswith(".ipynb") else track.blank()
        files.write_atomically(args.out, text.encode())
        print(args.out)
    return 0


def _grade(args: Any) -> int:
    from pathlib import Path

    from minivi import exercises, files

    grader = exercises.Grader(exercises.find(Path(args.path).stem), args.seed)
    paths = []
    for path in map(Path, args.submit or [args.path]):
        if not path.exists():
            raise UsageError(f"{path}: no such file; give a .py file, a notebook or a folder of them")
        paths += sorted(p for p in path.iterdir() if p.suffix in (".py", ".ipynb")) if path.is_dir() else [path]
    if not paths:
        raise UsageError(f"{' '.join(args.submit)}: no .py file or notebook in it")
    names = [path.name for path in paths]
    if len(set(names)) < len(names):  # of folders: their paths tell them apart
        whole = [os.path.abspath(path) for path in paths]
        names = [os.path.relpath(path, os.path.commonpath(map(os.path.dirname, whole))) for path in whole]
    if args.json and len(paths) > 1:
        raise UsageError("--json is for one submission; --csv takes a class")
    limits = exercises.Limits(task=args.seconds, total=6 * args.seconds)
    grades = []
    for path, name in zip(paths, names, strict=True):
        grades.append(exercises.grade_file(grader, path, limits))
        grades[-1].submission = name
        if len(paths) == 1:
            print(grades[0].text(tables.terminal_width() or 120))
        else:
            print(f"{grades[-1].points:4d} of {grades[-1].most}  {name}  {grades[-1].trouble}".rstrip())
    if args.json:
        files.write_atomically(args.json, grades[0].json(args.format).encode())
    for g in grades if args.reports else ():
        files.write_atomically(Path(args.reports, f"{g.submission}.txt"), f"{g.text(120)}\n".encode())
    if args.csv:
        files.write_atomically(args.csv, exercises.table_of_class(grades).encode())
    return 0 if all(g.points == g.most for g in grades) else 1


def _gradcheck(args: Any) -> int:
    from minivi.gradcheck import Report, gradcheck

    f = _import(args.target)
    gradient = _import(args.gradient) if args.gradient else None
    try:
        parameters = inspect.signature(f).parameters
    except (TypeError, ValueError):
        parameters = {}
    needed = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "rng"
    ]
    shapes = [_shape(text) for text in args.shape or []]
    if len(shapes) != len(needed):
        raise UsageError(
            f"{args.target} takes {len(needed)} inputs ({', '.join(needed) or 'none'}); give --shape once for each, "
            f"not {len(shapes)} times"
        )
    noise = np.random.default_rng(args.seed)
    inputs = [noise.uniform(0.2 if args.positive else -2.0, 2.0, shape) for shape in shapes]
    if needed:
        rng = args.seed if "rng" in parameters else None
        report = gradcheck(f, *inputs, names=needed, gradient=gradient, rng=rng, seed=args.seed)
    else:
        report = f()
        if not isinstance(report, Report):
            raise UsageError(
                f"{args.target} takes no inputs and returned a {type(report).__name__}; let it return "
                "gradcheck(...), or take inputs and give --shape"
            )
    print(report)
    return 0 if report.ok else 1


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(n) for n in text.split(",") if n.strip())
    except ValueError:
        shape = (-1,)
    if any(n < 0 for n in shape):
        raise UsageError(f"--shape {text!r}: sizes are whole numbers with commas between, e.g. 3,4")
    return shape


def _import(target: str) -> Callable:
    module, colon, name = target.partition(":")
    if not colon or not module or not name:
        raise UsageError(f"{target!r}: write it as module:function, e.g. mypackage.losses:elbo, or losses.py:elbo")
    folder, module = os.path.split(module.removesuffix(".py"))  # a path to a file serves as well
    sys.path.insert(0, os.path.abspath(folder))
    try:
        thing = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"cannot import {module}: {error}; run from the folder that holds it, or name the file"
        ) from None
    finally:
        sys.path.pop(0)
    for part in name.split("."):
        if not hasattr(thing, part):
            raise UsageError(f"{module} has no {name}")
        thing = getattr(thing, part)
    if not callable(thing):
        raise UsageError(f"{target} is a {type(thing).__name__}, not a function")
    return thing


def _predict(args: Any) -> int:
    from minivi import semi_supervised

    classifier = semi_supervised.load(args.model)
    try:
        x = np.load(args.data, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{args.data}: {reason}; pass a .npy file of numbers, (N, D)") from None
    if (
        not isinstance(x, np.ndarray)
        or x.ndim != 2
        or x.shape[1] != classifier.n_features_in_
        or x.dtype.kind not in "fiu"
    ):
        shape = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else "an archive"
        raise UsageError(f"{args.data}: {shape}; the classifier takes numbers (N, {classifier.n_features_in_})")
    probabilities = classifier.predict_proba(x)
    for row in probabilities:
        more = " ".join(f"{p:.4f}" for p in row) if args.probabilities else ""
        print(f"{classifier.classes_[np.argmax(row)]} {more}".strip())
    return 0


def _data(args: Any) -> int:
    from minivi import data

    if args.action == "list":
        lines = [["data set", "what", "splits", "here", "size"]]
        for name in data.available():
            about = data.describe(name)
            here = "yes" if about["cached"] else "no"
            lines.append([name, about["what"], ", ".join(about["splits"]), here, f"{about['megabytes']:g} MB"])
        print(tables.text_table(lines, (4,), tables.terminal_width()))
        print(f"\nfolder: {data.folder()} (MINIVI_DATA chooses another); minivi data fetch NAME downloads one")
        return 0
    if not args.names:
        raise UsageError(f"data fetch: which? one or more of {', '.join(data.available())}")
    for name in args.names:  # all of them, before the first is fetched
        data.describe(name)
    for name in args.names:
        data.fetch(name)
        print(f"{name}: complete and checked in {data.folder()}")
    return 0
