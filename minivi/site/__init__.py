"""The site: lessons with their output, results, equations, errata, bench and API as pages, set by Sphinx.

docs/*.md, conf.py ──┐
chapters/*.py ─► run ┼──► out/source ── Sphinx ──► out/html
figures/, checks ────┘         ▲
                           out/cache: lessons' output, checks' values, words for pictures; kept while the code is
"""

from minivi.site.builder import build
