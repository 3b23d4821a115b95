"""Building the site: what takes time is done two at a time and kept; Sphinx sets the pages; links are checked."""

from __future__ import annotations

import hashlib
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

from minivi import exercises, lesson, plots
from minivi.experiments.equations import CHECKS, run_check
from minivi.experiments.registry import EXPERIMENTS, chapter_folder, load_chapters
from minivi.experiments.results import ExperimentError, stored
from minivi.files import write_atomically
from minivi.site import pages

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("NUMBA", "OMP", "OPENBLAS", "MKL")}
MISSING = "the site needs Sphinx: pip install -e '.[docs]'"


def build(
    out: str | os.PathLike = "build/site",
    strict: bool = False,
    *,
    lessons: Sequence[str] | None = None,
    modules: Sequence[str] | None = None,
    chapters: Sequence[str] | None = None,
    tracks: Sequence[str] | None = None,
) -> Path:
    """Build the site into ``out``/html; returns its first page.

    Args:
        out: folder; what was made before and is still right is kept in ``out``/cache.
        strict: whether a warning, and a link that leads nowhere, is an error.
        lessons: names of the lessons to run and show; None for all.
        modules: of the library; None for all.
        chapters: whose checks and results are shown; None for all.
        tracks: of exercises; None for all.

    Raises:
        ExperimentError: no Sphinx or no sources; a lesson failed; or, if ``strict``, a warning or a dead link.
    """
    if find_spec("sphinx") is None:
        raise ExperimentError(MISSING)
    root, out = chapter_folder().parent, Path(out).resolve()
    if not (root / "docs" / "conf.py").exists():
        raise ExperimentError(f"no docs/conf.py in {root}; build the site from a clone of the repository")
    source, cache = out / "source", out / "cache"
    before = out / "before"
    shutil.rmtree(before, ignore_errors=True)
    if source.exists():
        source.rename(before)
    shutil.copytree(root / "docs", source)
    cache.mkdir(parents=True, exist_ok=True)
    names = pages.lessons(root) if lessons is None else list(lessons)
    load_chapters()
    about = _made(root, source, cache, names, chapters)
    modules = pages.modules(root) if modules is None else modules
    tracks = pages.tracks(root) if tracks is None else tracks
    _write(root, source, names, modules, chapters, tracks, about)
    for file in before.rglob("*"):  # what has not changed keeps its time, so that Sphinx does not read it again
        now = source / file.relative_to(before)
        if file.is_file() and now.is_file() and file.read_bytes() == now.read_bytes():
            shutil.copystat(file, now)
    words = ["-q", "-b", "html", "-d", str(cache / "doctrees"), *(["-W", "--keep-going"] if strict else [])]
    shutil.rmtree(out / "html", ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", *words, str(source), str(out / "html")]
    if subprocess.run(command, env=_environment()).returncode:  # a process of its own, as Sphinx changes signatures
        raise ExperimentError("Sphinx has warnings, above; mend their files, or build without --strict")
    dead = dead_links(out / "html")
    for line in dead:
        print(f"link to nowhere: {line}", file=sys.stderr)
    if dead and strict:
        raise ExperimentError(f"{len(dead)} links lead nowhere; the first: {dead[0]}")
    return out / "html" / "index.html"


# ----------------------------------------------------------------------------------------------- what takes time
def _made(root, source, cache, names, chapters):
    """Lessons' notebooks into ``source``; the checks' values and the words for pictures: two jobs at a time."""
    files = sorted(path for path in (root / "minivi").rglob("*.py") if path.parent.name != "site")
    library = digest(files) + digest(sorted((root / "figures").glob("*.json")))
    studies = digest(sorted((root / "chapters").rglob("*.py")))
    for folder in ("lessons", "downloads"):
        (source / folder).mkdir(exist_ok=True)

    def job(task):
        """One task's file in the cache, made if it is not there."""
        kind, name = task
        key = library + (digest([root / "chapters" / f"{name}.py"]) if kind == "lesson" else studies + name)
        file = cache / f"{kind}_{name or 'all'}.json"
        if not file.exists() or json.loads(file.read_text(encoding="utf-8"))["key"] != key:
            begun = time.monotonic()
            made = _apart("executed", name, str(source / "downloads")) if kind == "lesson" else _apart(kind, name)
            print(f"{kind} {name}: {time.monotonic() - begun:.0f} s".replace(" :", ":"), file=sys.stderr)
            write_atomically(file, json.dumps({"key": key, "made": made}).encode())
        return json.loads(file.read_text(encoding="utf-8"))["made"]

    parts = ",".join(chapters or ())
    tasks = [("measure", parts), ("describe", parts), *(("lesson", name) for name in names)]
    with ThreadPoolExecutor(2) as pool:
        made = dict(zip(tasks, pool.map(job, tasks), strict=True))
    alts = dict(made["describe", parts])
    for name in names:
        lesson.notebook(name, source / "downloads")
        shutil.copy(root / "chapters" / f"{name}.py", source / "downloads")
        content = pages.headed(made["lesson", name]["notebook"], name)
        (source / "lessons" / f"{name}.ipynb").write_text(json.dumps(content), encoding="utf-8")
        alts = made["lesson", name]["alts"] | alts
    (source / "alts.json").write_text(json.dumps(alts), encoding="utf-8")
    return {"values": made["measure", parts], "alts": alts}


def digest(files: Iterable[Path]) -> str:
    """Of names and contents."""
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}\0".encode() + file.read_bytes())
    return total.hexdigest()


def _environment():
    return os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"}


def _apart(function, *arguments):
    """What a function of this file returns, by a process of its own on one thread."""
    code = (
        f"import json; from minivi.site import builder; print('\\n' + json.dumps(builder.{function}(*{arguments!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        raise ExperimentError(last.removeprefix(f"{ExperimentError.__module__}.ExperimentError: "))
    return json.loads(done.stdout.splitlines()[-1])


def measure(chapters: str = "") -> dict[str, Any]:
    """What each check gives, by chapter and function: its claims, or the message of what went wrong.

    Args:
        chapters: with commas between; "" for all.
    """
    load_chapters()
    values = {}
    for entry in (c for c in CHECKS if not chapters or c.chapter in chapters.split(",")):
        claims, message = run_check(entry)
        plain = [
            {name: float(getattr(claim, name)) for name in ("left", "right", "tolerance")}
            | {"relation": claim.relation, "label": claim.label, "ok": claim.ok}
            for claim in claims
        ]
        values[pages.check_name(entry)] = {"claims": plain, "message": message}
    return values


def describe(chapters: str = "") -> dict[str, str]:
    """What the stored pictures show, by file name and by the digest of the file: each result is drawn again.

    Args:
        chapters: with commas between; "" for all.
    """
    load_chapters()
    words = {}
    for path in sorted((chapter_folder().parent / "figures").glob("*.json")):
        about = stored(path)
        entry = about and EXPERIMENTS.get(about["experiment"])
        if not entry or (chapters and entry.chapter not in chapters.split(",")):
            continue
        try:
            figures = entry.result(about).figures
        except (AttributeError, KeyError, TypeError, ValueError):  # its code has changed since it ran
            continue  # and its title stands for its pictures
        for name, figure in figures.items():
            picture = path.with_name(f"{path.stem}_{name}.png" if name else f"{path.stem}.png")
            if picture.exists():
                text = f"{entry.title}. {plots.describe(figure)}"
                words[picture.name] = words[hashlib.sha256(picture.read_bytes()).hexdigest()] = text
    return words


def executed(name: str, folder: str) -> dict[str, Any]:
    """A lesson's notebook with its output, and what its pictures show by the digest of their bytes.

    Args:
        name: of the lesson.
        folder: for its notebook and for files that it writes.

    Raises:
        ExperimentError: a cell failed, or what runs notebooks is not installed.
    """
    import base64

    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ModuleNotFoundError:
        raise ExperimentError(MISSING) from None
    content = nbformat.read(lesson.notebook(name, folder), as_version=4)
    quiet = {"stderr": subprocess.DEVNULL}  # of the kernel itself
    client = NotebookClient(content, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}})
    root = str(chapter_folder().parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        client.execute(env=os.environ | ONE_THREAD | {"PYTHONPATH": path}, **quiet)
    except CellExecutionError as error:
        raise ExperimentError(f"lesson {name}: {error.ename}: {error.evalue}; python chapters/{name}.py") from None
    alts = {}
    for cell in content.cells:
        kept = []
        for output in cell.get("outputs", []):
            picture = output.get("data", {}).get("image/png")
            if picture:
                found = hashlib.sha256(base64.b64decode(picture)).hexdigest()
                alts[found] = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            if picture or "text/plain" in output.get("data", {}) or output.get("name") == "stdout":
                kept.append(output)  # no progress bars, whose scripts would come from elsewhere
        if cell.cell_type == "code":
            cell["outputs"] = kept
        if not cell.source.strip():
            cell["metadata"]["tags"] = ["remove-cell"]
    return {"notebook": json.loads(nbformat.writes(content)), "alts": alts}


# ----------------------------------------------------------------------------------------------------- the pages
def _write(root, source, names, modules, chapters, tracks, about):
    """Everything that Sphinx reads and that is not in ``docs/``."""

    def write(name, text):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")

    def here(rows):
        return [row for row in rows if chapters is None or row["chapter"] in chapters]

    shutil.copytree(root / "figures", source / "figures", ignore=shutil.ignore_patterns("*.md"))
    shutil.copy(root / "README.md", source / "README.md")
    write("lessons.md", pages.lessons_page(root, names))
    write("results.md", pages.gallery_page(here(pages.gallery(root / "figures")), about["alts"]))
    rows = here(pages.equations())
    write("equations.md", pages.equations_page(rows, about["values"]))
    write("errata.md", pages.errata_page((root / "docs" / "errata.md").read_text(encoding="utf-8"), about["values"]))
    write("bench.md", pages.bench_page(json.loads((root / "figures" / "bench.json").read_text(encoding="utf-8"))))
    write("library.md", pages.api_index(modules))
    write("exercises.md", pages.exercises_page(tracks))
    write("teachers.md", (root / "chapters" / "exercises" / "README.md").read_text(encoding="utf-8"))
    for name in tracks:
        text = exercises.find(name).blank()
        content = exercises.as_notebook(text)
        write(f"downloads/exercises/{name}.py", text)
        write(f"downloads/exercises/{name}.ipynb", content)
        write(f"exercises/{name}.ipynb", json.dumps(pages.headed(json.loads(content), f"exercises/{name}")))
    for name in modules:
        write(f"api/{name}.md", pages.api_page(name))
    for place in sorted({p.rpartition(":")[0] for row in rows for p in (*row["lines"], row["check"]) if p}):
        write(f"files/{place}", (root / place).read_text(encoding="utf-8"))
        write(f"code/{place.replace('/', '.')}.md", pages.source_page(place))


# ----------------------------------------------------------------------------------------------------- the links
class _Page(html.parser.HTMLParser):
    """A page's ids, and where its links, pictures, scripts and styles lead."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        self.ids |= {about[k] for k in ("id", "name") if about.get(k)}
        self.links |= {about[k] for k in ("href", "src") if about.get(k)}
        loaded = tag in ("script", "img", "iframe", "source") or (
            tag == "link" and about.get("rel") in ("stylesheet", "icon", "preload")
        )
        self.loads |= {about[k] for k in ("href", "src") if loaded and about.get(k)}


def dead_links(folder: Path) -> list[str]:
    """Links within the site that lead to no file or no place in it, and what pages load from elsewhere."""
    found = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    dead = []
    for path, page in found.items():
        here = path.relative_to(folder)
        dead += [f"{here} loads {url} from elsewhere" for url in page.loads if re.match(r"(\w+:)?//", url)]
        for url in sorted(page.links):
            if re.match(r"\w+:|//", url):
                continue
            target, place = urldefrag(url)
            target = target.partition("?")[0]
            file = (path.parent / unquote(target)).resolve() if target else path
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file():
                dead.append(f"{here}: {url}")
            elif place and file in found and unquote(place) not in found[file].ids:
                dead.append(f"{here}: {url}")
    return dead
