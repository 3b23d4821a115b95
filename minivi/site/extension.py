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
    app.connect("autodoc-process-docstring", _equations, priority=600)
    app.connect("doctree-read", _described)
    return {"parallel_read_safe": True}


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
    return found


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

    translator.body.append(f'<div class="formula" tabindex="0">{_formula(node, "block")}</div>\n')
    raise SkipNode


# ------------------------------------------------------------------------------------------------------ docstrings
def _marked_up(app, what, name, thing, options, lines):
    """Docstrings are plain text: an indented drawing or formula is literal, and bars and stars are themselves."""
    text, literal, directive = [], None, None
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        before = next((row for row in reversed(lines[:i]) if row.strip()), "")
        if line.strip():
            literal = None if literal is not None and indent < literal else literal
            directive = None if directive is not None and indent <= directive else directive
        if line.lstrip().startswith(".. "):
            directive = indent
        if directive is None and literal is None and line.strip() and i and not lines[i - 1].strip():
            outer = len(before) - len(before.lstrip())
            if indent > outer and not before.lstrip().startswith((">>>", "...", "- ")):
                text += [" " * outer + ".. code-block:: text", ""]
                literal = indent
        if literal is None and directive is None and not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(``.*?``|:[a-z]+:`.*?`)", line)
            parts[::2] = [re.sub(r"([|*`])|(?<=\w)(_)(?!\w)", lambda m: "\\" + m[0], part) for part in parts[::2]]
            line = "".join(parts)
        text.append(line)
    lines[:] = text


LINES: list[Any] = []


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
    table = (Path(app.srcdir) / "equations.md").read_text()
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
    alts = json.loads(path.read_text()) if path.exists() else {}
    for image in doctree.findall(nodes.image):
        file = Path(app.srcdir) / image["uri"]
        if file.is_file():
            image["alt"] = alts.get(hashlib.sha256(file.read_bytes()).hexdigest()) or image.get("alt", "")
