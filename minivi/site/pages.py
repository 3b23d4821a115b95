"""The pages that are made of what is there: Markdown for Sphinx, and the data behind the tables."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minivi import exercises
from minivi.experiments.equations import CHECKS, Check, implementing_lines, numbers_of
from minivi.experiments.page import claim_lines, facts_of, pictures_of, results_in
from minivi.experiments.registry import EXPERIMENTS, chapter_folder, load_chapters
from minivi.experiments.results import claims_of

DOCUMENTS = ("thesis", "AEVB report", "review report", "tighter-bounds report", "refinement report")
REPORTS = {"report_review": "review report", "report_refinement": "refinement report"}


def plain(text: str) -> str:
    """Text with its marks escaped, so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~^!&+-])", r"\\\1", " ".join(text.split()))


def anchor(label: str) -> str:
    """The id of an equation in the table: ``eq-2-10``, ``eq-review-report-4``."""
    return "eq-" + re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def code_page(place: str, label: str | None = None) -> str:
    """A link, from a page at the top, to a line of the code: ``minivi/bounds.py:33``."""
    path, _, line = place.rpartition(":")
    return f'<a href="code/{path.replace("/", ".")}.html#line-{line}">{label or path.rpartition("/")[2]}:{line}</a>'


# --------------------------------------------------------------------------------------------------------- lessons
def lessons(root: Path) -> list[str]:
    """The lessons' names in the order of the README's table; those not in it at the end."""
    names = {path.stem for path in (root / "chapters").glob("*.py") if not path.stem.startswith("_")}
    listed = [
        name
        for name in re.findall(r"`(\w+)\.py`, \d+ s", (root / "README.md").read_text(encoding="utf-8"))
        if name in names
    ]
    return [*dict.fromkeys(listed), *sorted(names - set(listed))]


def lesson_title(root: Path, name: str) -> str:
    """The first sentence of a lesson's docstring, without what stands in parentheses."""
    first = (root / "chapters" / f"{name}.py").read_text(encoding="utf-8").split('"""')[1].strip().split("\n")[0]
    return re.sub(r" \([^)]*\)", "", first).rstrip(".:")


def lessons_page(root: Path, names: list[str]) -> str:
    """The README's table of chapters, with the titles of the lessons and links to those in ``names``."""
    link = lambda name, text: f"[{plain(text)}](lessons/{name}.ipynb)" if name in names else plain(text)
    section = (root / "README.md").read_text(encoding="utf-8").split("\n## Chapters\n")[1].split("\n## ")[0]
    rows = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and (found := re.match(r"`(\w+)\.py`, (\d+ s)", cells[4])):
            _, source, about, after, _ = cells
            after = re.sub(r"`(\w+)`", lambda m: link(m[1], m[1]), after)
            rows.append([f"{link(found[1], lesson_title(root, found[1]))}, {found[2]}", about, source, after])
    entries = "\n".join(f"{lesson_title(root, name)} <lessons/{name}>" for name in names)
    return (
        "# Lessons\n\nEach lesson is a script of at most 250 lines that runs in a minute. Here is each with what it "
        "printed and drew; its page offers the script and the notebook, to run and to change. In the order of reading, "
        f"with the time that it takes:\n\n{table(['lesson', 'about', 'source', 'after'], rows)}\n"
        f"```{{toctree}}\n:maxdepth: 1\n:hidden:\n\n{entries}\n```\n"
    )


def chapter_title(root: Path, chapter: str) -> str:
    """The heading of a chapter: its lesson's title, if it has one of its name."""
    known = (root / "chapters" / f"{chapter}.py").exists()
    return f"{plain(lesson_title(root, chapter))} ({plain(chapter)})" if known else plain(chapter)


def headed(notebook: dict[str, Any], name: str) -> dict[str, Any]:
    """A notebook, as JSON has it, whose first cell is its title with links to ``downloads/NAME.py`` and ``.ipynb``."""
    first, *others = notebook["cells"]
    head, _, rest = "".join(first["source"]).strip('"# \n').partition("\n")
    links = f"{{download}}`script <../downloads/{name}.py>`, {{download}}`notebook <../downloads/{name}.ipynb>`"
    text = f"# {head.rstrip('.')}\n\nDownload: {links}\n{rest}"
    for cell in others:
        if cell["cell_type"] == "markdown":  # a displayed formula is a paragraph of its own, whatever stands above it
            cell["source"] = re.sub(r"\n*(\$\$.+?\$\$)\n*", r"\n\n\1\n\n", "".join(cell["source"]), flags=re.S)
    about = notebook["metadata"] | {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    return notebook | {
        "metadata": about,
        "cells": [{"cell_type": "markdown", "metadata": {}, "source": text, "id": "title"}, *others],
    }


# ------------------------------------------------------------------------------------------------------- exercises
def tracks(root: Path) -> list[str]:
    """The tracks of exercises in the order of the teacher's page."""
    listed = re.findall(
        r"^\| `(\w+)` \|", (root / "chapters" / "exercises" / "README.md").read_text(encoding="utf-8"), re.M
    )
    return sorted(exercises.names(), key=lambda name: (listed.index(name) if name in listed else len(listed), name))


def exercises_page(names: list[str]) -> str:
    """What a student needs to begin, and the tracks."""
    tracks = [(t, t.title[:1].upper() + t.title[1:]) for t in map(exercises.find, names)]
    rows = [[f"[{plain(title)}](exercises/{t.name}.ipynb)", str(len(t.tasks)), str(t.points)] for t, title in tracks]
    entries = "\n".join(f"{title} <exercises/{t.name}>" for t, title in tracks)
    return (
        "# Exercises\n\nEach track is a file to fill in. `minivi grade FILE` says of each task how many points it has, "
        "what was expected and found, and a hint that names the equation and not the answer. Run it as often as you "
        "like. [The teacher's page](teachers.md) has the syllabus and says how a class is graded.\n\n"
        "From nothing to the first own result that was checked:\n\n"
        "1. Get the repository and set it up: `python3 -m venv .venv && .venv/bin/pip install -q -e .`\n"
        "2. Ask what is to be done: `.venv/bin/minivi grade chapters/exercises/engine.py`\n"
        "3. Open that file, replace the first `raise NotImplementedError`, and ask again.\n\n"
        f"{table(['track', 'tasks', 'points'], rows)}\n```{{toctree}}\n:hidden:\n\nteachers\n{entries}\n```\n"
    )


# --------------------------------------------------------------------------------------------------------- gallery
def badge(verdict: str) -> str:
    """A verdict that can be told by its colour too."""
    return f'<span class="verdict {verdict.replace(" ", "-")}">{verdict}</span>'


def document_of(chapter: str, mirrors: str) -> list[str]:
    """The documents that a result is about."""
    found = [name for name in DOCUMENTS if name in mirrors]
    return found or [REPORTS.get(chapter) or ("tighter-bounds report" if "tighter" in chapter else "thesis")]


def gallery(figures: Path) -> list[dict[str, Any]]:
    """A dict for each stored result, in the order of reading: what the filter and the page need."""
    load_chapters()
    paths = results_in(figures)
    entries = []
    for path, about in paths.items():
        key, known = about["experiment"], EXPERIMENTS.get(about["experiment"])
        chapter = key.partition(".")[0]
        claims = claims_of(about)
        entries.append(
            {
                "id": path.stem.replace("_", "-").replace(".", "-").lower(),
                "key": key, "chapter": chapter, "mirrors": about["mirrors"],
                "title": known.title if known else about["mirrors"],
                "documents": document_of(chapter, about["mirrors"]),
                "verdicts": list(dict.fromkeys(claim.verdict for claim in claims)) or ["no claims"],
                "claims": claims, "about": about, "path": path,
                "pictures": pictures_of(path, [p.stem for p in paths]),
            }
        )  # fmt: skip
    return entries


def gallery_page(entries: list[dict[str, Any]], alts: dict[str, str]) -> str:
    """The gallery: a section for each result, and what the filter's script needs to know.

    Args:
        entries: of :func:`gallery`.
        alts: what each picture shows, by file name.
    """
    count = Counter(claim.verdict for entry in entries for claim in entry["claims"])
    options = {
        "document": [d for d in DOCUMENTS if any(d in e["documents"] for e in entries)],
        "chapter": list(dict.fromkeys(e["chapter"] for e in entries)),
        "verdict": sorted({v for e in entries for v in e["verdicts"]}),
    }
    form = "\n".join(
        f'<label>{name} <select name="{name}"><option value="">all</option>'
        + "".join(f"<option>{choice}</option>" for choice in choices)
        + "</select></label>"
        for name, choices in options.items()
    )
    data = [
        {"id": e["id"], "document": e["documents"], "chapter": [e["chapter"]], "verdict": e["verdicts"]}
        for e in entries
    ]
    parts = [
        "---\ntocdepth: 2\n---\n\n# Results\n\n"
        f"{len(entries)} results with {sum(count.values())} claims of the documents: {count['holds']} hold, "
        f"{count['does not hold']} do not, {count['undecided']} are undecided: nearer to the other verdict than two "
        "standard errors, or of too short a run. Each claim stands with its numbers, below the document's sentence.",
        f'<form id="filter" class="filter" hidden>\n{form}\n<button type="reset">show all</button>\n'
        '<p id="shown" role="status"></p>\n</form>\n'
        f'<script type="application/json" id="gallery-data">{json.dumps(data)}</script>',
    ]  # fmt: skip
    chapter = ""
    for entry in entries:
        if entry["chapter"] != chapter:
            chapter = entry["chapter"]
            parts.append(f"## {chapter_title(chapter_folder().parent, chapter)}")
        parts.append(_result(entry, alts))
    return "\n\n".join(parts) + "\n"


def _result(entry, alts):
    """One result: heading, pictures, where it comes from, claims."""
    pictures = []
    for picture in entry["pictures"]:  # without better words: the title, and what its file's name says besides
        which = picture.stem.removeprefix(entry["path"].stem).strip("_").replace("_", " ")
        words = alts.get(picture.name) or ", ".join(filter(None, [f"{entry['title']} ({entry['mirrors']})", which]))
        pictures.append(f"```{{image}} figures/{picture.name}\n:alt: {words}\n:loading: lazy\n```")
    heading = f"({entry['id']})=\n### {plain(entry['title'][:1].upper() + entry['title'][1:])}"
    numbers = f"{{download}}`numbers <figures/{entry['path'].name}>`"
    about_it = f"{plain(entry['mirrors'])}. {facts_of(entry['about'])}, {numbers}"
    return "\n\n".join(filter(None, [heading, about_it, *pictures, claim_lines(entry["about"], badge, plain)]))


# ------------------------------------------------------------------------------------------------------- equations
def check_name(entry: Check) -> str:
    """What the values are kept under: chapter and function."""
    return f"{entry.chapter}.{entry.function.__name__}"


def equations() -> list[dict[str, Any]]:
    """A dict for each check, with the lines that implement its equations; then the lines of equations without one."""
    load_chapters()
    lines, seen, rows = implementing_lines(), set(), []
    for c in CHECKS:
        numbers = numbers_of(c.equation)
        seen |= numbers
        implementing = [line.place for line in lines if line.equations & numbers]
        rows.append(
            {
                "equation": c.equation, "numbers": numbers, "claim": c.claim, "name": check_name(c),
                "chapter": c.chapter, "check": f"chapters/{_place(c)}", "lines": implementing,
            }
        )  # fmt: skip
    for label in sorted({n for line in lines for n in line.equations} - seen, key=_order):
        places = [line.place for line in lines if label in line.equations]
        rows.append({"equation": label, "numbers": {label}, "claim": "", "name": "", "chapter": "", "check": "",
                     "lines": places})  # fmt: skip
    return rows


def _place(c):
    code = c.function.__code__
    path = Path(code.co_filename)
    return f"{path.resolve().relative_to(chapter_folder().resolve())}:{code.co_firstlineno}"


def _order(label):
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"[ .]", label)]


def equations_page(rows: list[dict[str, Any]], values: dict[str, Any]) -> str:
    """The table of equations, chapter by chapter.

    Args:
        rows: of :func:`equations`.
        values: what the checks gave, by name; see :func:`minivi.site.builder.measure`.
    """
    claims = [claim for name in values for claim in values[name]["claims"]]
    parts = [
        "---\ntocdepth: 2\n---\n\n# Equations\n\n"
        "What each numbered equation claims, compared with something computed another way. A value is that of the run "
        f"which built this page: {sum(claim['ok'] for claim in claims)} of {len(claims)} comparisons hold. "
        "`minivi check 2.8` repeats one, `minivi where 2.8` names the lines. Numbers are the thesis's unless a report "
        "is named."
    ]
    seen: set[str] = set()
    for chapter in dict.fromkeys(row["chapter"] for row in rows):
        lines = []
        for row in (r for r in rows if r["chapter"] == chapter):
            ids = sorted(n for n in row["numbers"] | {row["equation"]} if anchor(n) not in seen)
            new = dict.fromkeys([anchor(n) for n in ids] + ([anchor("check " + row["name"])] if row["name"] else []))
            seen |= new.keys()
            marks = "".join(f'<span id="{name}"></span>' for name in new)
            links = " ".join(code_page(place) for place in row["lines"])
            check = code_page(row["check"]) if row["check"] else "not checked by itself"
            lines.append([marks + plain(row["equation"]), plain(row["claim"]), value(values.get(row["name"])),
                          links, check])  # fmt: skip
        head = ("equation", "what is compared", "value", "implemented", "checked")
        heading = chapter_title(chapter_folder().parent, chapter) if chapter else "Implemented, in no check"
        parts.append(f"## {heading}\n\n{table(head, lines)}")
    return "\n\n".join(parts) + "\n"


def value(found: dict[str, Any] | None, only: int | None = None) -> str:
    """What a check gave: each claim's two sides and verdict, behind their number if there are more than two."""
    if found is None:
        return "not run"
    if not found["claims"]:
        return f"**failed**: {plain(found['message'])}"
    chosen = found["claims"] if only is None else [found["claims"][only]]
    texts = []
    for claim in chosen:
        within = f" within {claim['tolerance']:.1g}" if claim["tolerance"] else ""
        label = f"{plain(claim['label'])}: " if claim["label"] and len(found["claims"]) > 1 else ""
        sides = (
            f"{plain(format(claim['left'], '.6g'))} {plain(claim['relation'])} {plain(format(claim['right'], '.6g'))}"
        )
        texts.append(f"{label}{sides}{within}{'' if claim['ok'] else ' **fails**'}")
    if len(texts) <= 2:
        return "<br>".join(texts)
    held = f"{sum(claim['ok'] for claim in chosen)} of {len(texts)} hold"
    return f"<details><summary>{held}</summary>{'<br>'.join(texts)}</details>"


MARK = re.compile(r"<!-- check (\w+\.\w+)(?: (\d+))? -->")


def errata_page(text: str, values: dict[str, Any]) -> str:
    """The errata, with the number behind each command: ``<!-- check ch02_aevb.name 1 -->`` names check and claim."""

    def number(match):
        if match[1] not in values:
            return "(not run)"
        found = value(values[match[1]], None if match[2] is None else int(match[2]))
        return f'{found} (<a href="equations.html#{anchor("check " + match[1])}">check</a>)'

    return MARK.sub(number, text)


# ---------------------------------------------------------------------------------------------- bench, API, sources
def bench_page(about: dict[str, Any]) -> str:
    """The tables of ``figures/bench.json``."""
    where = about["environment"]
    names = list(dict.fromkeys(row["contestant"] for row in about["results"]))
    cells = {(row["workload"], row["contestant"]): row for row in about["results"]}
    lines = []
    for name, workload in about["workloads"].items():
        if (name, "minivi") not in cells:
            continue
        ms = cells[name, "minivi"]["ms"]
        line = [f"**{name}** {plain(workload['what'])}", f"{ms['median']:.4g} ({ms['min']:.4g} to {ms['max']:.4g})"]
        for other in names[1:]:
            ratio = cells.get((name, other), {}).get("ratio")
            line.append("" if ratio is None else f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
        lines.append(line)
    versions = [[name, ", ".join(f"{k} {v}" for k, v in found.items())] for name, found in about["versions"].items()]
    return (
        "# Speed\n\n"
        f"`minivi bench` on {where['threads']} threads of {plain(where['cpu'])} ({where['instruction_set']}), commit "
        f"{where['commit']}, {about['settings']['rounds']} interleaved rounds of {about['settings']['seconds']} s. "
        "Milliseconds are those of our compiled step; behind it stands how many times longer each of the others took, "
        "as the median of the rounds' ratios with the least and the largest: below 1 it is faster.\n\n"
        f"{table(['workload', 'minivi, ms', *names[1:]], lines)}\n## Versions\n\n{table(['', 'versions'], versions)}"
    )


def modules(root: Path) -> list[str]:
    """The public modules of the library."""
    names = []
    for path in sorted((root / "minivi").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts) and "reference" not in parts and parts[1:2] != ("bench",):
            names.append(".".join(parts))
    return names


def api_page(name: str) -> str:
    """The page of a module, from its docstrings."""
    return f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :ignore-module-all:\n```\n"


def api_index(names: list[str]) -> str:
    """The table of contents of the API."""
    entries = "\n".join(f"api/{name}" for name in names)
    return (
        "# Library\n\nThe modules and what they offer. Each file imports only from files below it.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n"
    )


def source_page(path: str) -> str:
    """A file of the code with numbered lines, for the links of the table of equations."""
    return (
        f"---\nnosearch: true\norphan: true\n---\n\n# {plain(path)}\n\n"
        f"```{{literalinclude}} /files/{path}\n:language: python\n:linenos:\n```\n"
    )
