"""What Sphinx is taught for the site: formulas as MathML, our docstrings, lines to link to, words for pictures."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

from minivi.experiments.equations import ROOT, implementing_lines
from minivi.site.pages import anchor

NOT_SET = re.compile(r"\\[A-Za-z]+")  # a command that came through as text


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx; ``docs/conf.py`` names this module among its extensions."""
    app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))
    app.connect("autodoc-process-docstring", _marked_up, priority=400)  # before napoleon, at 500
    app.connect("autodoc-process-docstring", _formulas, priority=600)
    app.connect("autodoc-process-docstring", _equations, priority=700)
    app.connect("autodoc-skip-member", _skipped)
    app.connect("doctree-read", _described)
    ours = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
    return {"parallel_read_safe": True, "env_version": int(ours.hexdigest()[:8], 16)}


# -------------------------------------------------------------------------------------------------------- formulas
def mathml(tex: str, display: str = "inline") -> str:
    """A formula as MathML, which browsers set by themselves: no script, no font from elsewhere.

    Args:
        tex: TeX without dollars.
        display: "inline" or "block".

    Raises:
        ValueError: a command in it is not known.
    """
    from latex2mathml.converter import convert

    if "\\\\" in tex and "\\begin" not in tex:
        tex = rf"\begin{{align*}}{tex}\end{{align*}}"
    try:
        found = convert(tex, display=display)
    except Exception as error:
        raise ValueError(f"the formula {tex} cannot be set: {type(error).__name__} {error}") from None
    unknown = NOT_SET.findall(re.sub(r"<[^>]*>", " ", found))
    if unknown:
        raise ValueError(f"the formula {tex} cannot be set: {unknown[0]} is not known to latex2mathml")
    space = '<mrow><mi>\\1</mi><mspace width="0.17em"/></mrow>'  # log x, and not logx
    return re.sub(r"<mi>(log|exp|max|min|det|sin|cos|tanh)</mi>(?!<mo[^>]*>&#x00028;)", space, found)


def _formula(node, display):
    from sphinx.util import logging

    try:
        return mathml(node.astext(), display)
    except ValueError as error:
        logging.getLogger(__name__).warning(str(error), location=node)
        return ""


def _inline(translator, node):
    from docutils.nodes import SkipNode

    translator.body.append(_formula(node, "inline"))
    raise SkipNode


def _displayed(translator, node):
    from docutils.nodes import SkipNode

    translator.body.append(
        f'<div class="formula" tabindex="0" role="group" aria-label="formula">{_formula(node, "block")}</div>\n'
    )
    raise SkipNode


# ------------------------------------------------------------------------------------------------------ docstrings
def _marked_up(app, what, name, thing, options, lines):
    """Docstrings are plain text: an indented drawing or formula is literal, and bars and stars are themselves."""
    text, prose, outer = [], [], None  # lines that are done, lines to be escaped, what a literal block is indented in

    def done():
        if prose:
            text.extend(_escaped("\n".join(prose)).split("\n"))
            prose.clear()

    before = ""
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip():
            outer = None if outer is not None and indent <= outer else outer
            if outer is None and i and not lines[i - 1].strip() and indent > len(before) - len(before.lstrip()):
                outer = len(before) - len(before.lstrip())
                if not before.endswith("::") and not before.lstrip().startswith(("- ", ".. ", ">>>", "...")):
                    done()
                    text += [" " * outer + ".. code-block:: text", ""]
                elif before.lstrip().startswith("- "):
                    outer = None  # the second paragraph of an item
            before = line
        if outer is None and not line.lstrip().startswith((">>>", "...", "==", ".. ")) and not _in_table(lines, i):
            prose.append(line)
        else:
            done()
            text.append(line)
    done()
    lines[:] = text


def _skipped(app, what, name, thing, skip, options):
    """Leave out what scikit-learn adds to its estimators."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def _in_table(lines, i):
    """Whether a line stands between the rules of a table; widths count there."""
    rules = [k for k, line in enumerate(lines) if line.lstrip().startswith("====")]
    return bool(rules) and rules[0] < i < rules[-1]


def _escaped(text):
    """Prose with its bars, stars and last underscores as they are, and spaces that end a literal's mark."""
    kept = r"(``.*?``|:[a-z]+:`.*?`|(?<![\w*])\*[A-Za-z][^*\n]*\*(?=[\s.,;:)]))"  # literals, roles, words in italics
    parts = re.split(kept, text, flags=re.S)
    for k, part in enumerate(parts):
        if k % 2 == 0:
            parts[k] = re.sub(r"[|*`]|(?<=\w)_(?!\w)", lambda m: "\\" + m[0], part)
        elif k + 1 < len(parts) and re.match(r"[\w^(|*]", parts[k + 1]):
            parts[k] += "\\ "
    return "".join(parts)


LINES: list[Any] = []
FORMULA = re.compile(r"^## (\S+)\n\n\$\$(.+?)\$\$$", re.M | re.S)  # of docs/formulas.md


def _formulas(app, what, name, thing, options, lines):
    """Below the first sentence: the formula that ``docs/formulas.md`` has for the name."""
    known = dict(FORMULA.findall((Path(app.srcdir) / "formulas.md").read_text(encoding="utf-8")))
    if name in known and lines:
        first = lines.index("") if "" in lines else len(lines)
        lines[first:first] = ["", f".. math:: {known[name]}", ""]


def _equations(app, what, name, thing, options, lines):
    """Below a function: the equations that its lines implement, with links to the table."""
    try:
        code, first = inspect.getsourcelines(inspect.unwrap(thing))
        path = Path(inspect.getsourcefile(inspect.unwrap(thing))).relative_to(ROOT.parent)
    except (TypeError, OSError, ValueError):
        return
    if what not in ("function", "method"):
        return
    if not LINES:
        LINES.extend(implementing_lines())
    numbers = {}
    for line in LINES:
        file, _, number = line.place.rpartition(":")
        if file == str(path) and first <= int(number) < first + len(code):
            numbers |= dict.fromkeys(sorted(line.equations))
    table = (Path(app.srcdir) / "equations.md").read_text(encoding="utf-8")
    numbers = [n for n in numbers if f'"{anchor(n)}"' in table]
    if numbers:
        links = ", ".join(f"`{n} <../equations.html#{anchor(n)}>`__" for n in numbers)
        lines += ["", f"Implements eq. {links}.", ""]


# -------------------------------------------------------------------------------------------- lines, and pictures
def _described(app, doctree):
    """Anchors on lines of source pages; the words that say what a lesson's picture shows."""
    from docutils import nodes

    if app.env.docname.startswith("code/"):
        for block in doctree.findall(nodes.literal_block):
            block["highlight_args"] = {**block.get("highlight_args", {}), "lineanchors": "line"}
    path = Path(app.srcdir) / "alts.json"
    alts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for image in doctree.findall(nodes.image):
        file = Path(app.srcdir) / image["uri"]
        if file.is_file():
            image["alt"] = alts.get(hashlib.sha256(file.read_bytes()).hexdigest()) or image.get("alt", "")
