"""The site: lessons with their output, results, equations, errata, bench and API as pages, set by Sphinx.

What it is made from, and the way to the pages::

    docs/*.md, conf.py ──────────┐
    chapters/*.py ─► run ────────┼──► out/source ── Sphinx ──► out/html
    figures/, checks, docstrings ┘

``out/cache`` keeps the lessons' output, the checks' values and words for pictures while the code is the same.
"""

from minivi.site.builder import build
