"""The site: its data agree with what they are made from, a small one is built strictly, and a browser can use it."""

import functools
import html.parser
import http.server
import importlib
import json
import re
import shutil
import sys
import threading
from collections import Counter

import pytest
from helpers import CHAPTERS

from minivi import cli, plots
from minivi.experiments import CHECKS, ExperimentError, load_chapters, matching_checks, run_check
from minivi.experiments.page import count_claims
from minivi.experiments.results import VERDICTS
from minivi.site import builder, pages

ROOT = CHAPTERS.parent
ERRATA = (ROOT / "docs" / "errata.md").read_text()
SHOWN = re.compile(r'`minivi check ("[^"]+"|\S+)` <!-- check (\w+\.\w+)(?: (\d+))? -->')
EXTRA = "needs the extra 'docs': pip install -e '.[docs]'"


# ------------------------------------------------------------------------------------------------ what pages show
def test_gallery_has_every_result_every_claim_and_every_picture():
    entries = pages.gallery(ROOT / "figures")
    results, count = count_claims(ROOT / "figures")
    assert len(entries) == results
    assert Counter(claim.verdict for e in entries for claim in e["claims"]) == {v: n for v, n in count.items() if n}
    shown = [picture.name for entry in entries for picture in entry["pictures"]]
    assert sorted(shown) == sorted(p.name for p in (ROOT / "figures").glob("ch*.png")) + sorted(
        p.name for p in (ROOT / "figures").glob("report*.png")
    )
    assert len({e["id"] for e in entries}) == len(entries)
    assert all(set(e["documents"]) <= set(pages.DOCUMENTS) and e["documents"] for e in entries)
    assert {d for e in entries for d in e["documents"]} == set(pages.DOCUMENTS)


def test_gallery_page_says_what_its_filter_needs():
    entries = pages.gallery(ROOT / "figures")
    page = pages.gallery_page(entries, {})
    data = json.loads(re.search(r'id="gallery-data">(.*?)</script>', page)[1])
    options = {name: set(re.findall(r"<option>(.*?)</option>", line)) for name, line in re.findall(
        r'<select name="(\w+)">(.*?)</select>', page)}  # fmt: skip
    assert set(options) == {"document", "chapter", "verdict"}
    for name, choices in options.items():
        assert choices == {value for entry in data for value in entry[name]}, name
    for entry in data:
        assert f"({entry['id']})=\n### " in page


def test_equations_have_each_check_once_and_lines_that_are_there():
    load_chapters()
    rows = pages.equations()
    names = [row["name"] for row in rows if row["name"]]
    assert names == [pages.check_name(c) for c in CHECKS] and len(set(names)) == len(names)
    for row in rows:
        for place in (*row["lines"], *filter(None, [row["check"]])):
            path, _, line = place.rpartition(":")
            assert (ROOT / path).read_text().splitlines()[int(line) - 1].strip(), place
    elbo = next(row for row in rows if "2.10" in row["numbers"])
    assert any(place.startswith("minivi/bounds.py:") for place in elbo["lines"])


def test_equations_page_shows_values_and_failures():
    row = {"equation": "2.8", "numbers": {"2.8"}, "claim": "a | b", "name": "ch02.f", "chapter": "ch02",
           "check": "chapters/checks/ch02.py:3", "lines": ["minivi/bounds.py:33"]}  # fmt: skip
    claim = {"left": 1.5, "relation": "=", "right": 1.25, "tolerance": 0.1, "label": "", "ok": False}
    page = pages.equations_page([row], {"ch02.f": {"claims": [claim], "message": ""}})
    assert "0 of 1 comparisons hold" in page and "1.5 = 1.25 within 0.1 **fails**" in page
    assert 'id="eq-2-8"' in page and r"a \| b" in page and 'href="code/minivi.bounds.py.html#line-33"' in page
    more = pages.value({"claims": [claim | {"ok": True}, claim, claim], "message": ""})
    assert more.startswith("<details><summary>1 of 3 hold</summary>") and more.count("1.5 = 1.25") == 3
    failed = pages.equations_page([row], {"ch02.f": {"claims": [], "message": "ValueError: no"}})
    assert "**failed**: ValueError: no" in failed
    assert "not run" in pages.equations_page([row], {})


def test_errata_name_checks_that_their_commands_run():
    load_chapters()
    shown = SHOWN.findall(ERRATA)
    assert len(shown) == ERRATA.count("<!-- check ") == ERRATA.count("`minivi check ") >= 35
    for key, name, _ in shown:
        assert name in [pages.check_name(c) for c in matching_checks(key.strip('"'))], key


def test_errata_are_shown_by_numbers():
    load_chapters()
    checks = {pages.check_name(c): c for c in CHECKS}
    for _, name, index in SHOWN.findall(ERRATA):
        claims, message = run_check(checks[name])
        assert claims, message
        assert all(claim.ok for claim in claims) and int(index or 0) < len(claims), name


def test_errata_page_has_the_chosen_number():
    claims = [{"left": x, "relation": "=", "right": x, "tolerance": 0.0, "label": f"l{x}", "ok": True} for x in (1, 2)]
    page = pages.errata_page("| `minivi check 1` <!-- check a.f 1 --> |", {"a.f": {"claims": claims, "message": ""}})
    assert page == '| `minivi check 1` l2: 2 = 2 (<a href="equations.html#eq-check-a-f">check</a>) |'


def test_lessons_stand_in_the_readmes_order():
    names = pages.lessons(ROOT)
    assert set(names) == {p.stem for p in CHAPTERS.glob("*.py")}
    assert names[0] == "ch01_models" and names.index("ch02_aevb") < names.index("ch05_iaf")
    page = pages.lessons_page(ROOT, names)
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert [re.search(r"lessons/(\w+)\.ipynb", row)[1] for row in rows] == names
    assert "| [Auto\\-encoding variational Bayes](lessons/ch02_aevb.ipynb), " in page


def test_displayed_formulas_are_paragraphs_and_titles_have_links():
    cells = [{"cell_type": "code", "source": ['"""Title.\n', "\n", 'Text."""']}]
    cells += [{"cell_type": "markdown", "source": "is\n$$a\nb$$\nof $c$"}, {"cell_type": "code", "source": "'$$'"}]
    found = pages.headed({"cells": cells, "metadata": {}}, "x")["cells"]
    assert found[0]["source"].startswith("# Title\n\nDownload: {download}`script <../downloads/x.py>`")
    assert found[0]["source"].endswith("\n\nText.")
    assert [cell["source"] for cell in found[1:]] == ["is\n\n$$a\nb$$\n\nof $c$", "'$$'"]


def test_bench_page_has_the_medians():
    about = json.loads((ROOT / "figures" / "bench.json").read_text())
    page = pages.bench_page(about)
    for row in about["results"]:
        ours = row["contestant"] == "minivi"
        median = row["ms" if ours else "ratio"]["median"]
        assert f" {median:.4g} (" in page if ours else f" {median:.2f} (" in page


def test_figures_are_described():
    fig = plots.figure()
    for axes, title in zip(fig.subplots(1, 2), ("left", "right"), strict=True):
        plots.panel(axes, title, "epoch", "nats").plot([1, 2], label="$a$")
    assert plots.describe(fig) == "left: nats over epoch; right: nats over epoch; curves: a"
    assert plots.describe(plots.figure()) == ""


# ------------------------------------------------------------------------------------------------------- formulas
def formulas():
    """Each formula of lessons, pages and docstrings."""
    for path in sorted(CHAPTERS.glob("*.py")):
        text = "\n".join(re.findall(r"^# ?(.*)", path.read_text(), re.M))
        yield from ((path.name, tex) for tex in _between_dollars(text))
    for path in sorted((ROOT / "docs").glob("*.md")):
        yield from (
            (path.name, tex) for tex in _between_dollars(re.sub(r"```.*?```|`[^`]*`", "", path.read_text(), flags=re.S))
        )
    for path in sorted((ROOT / "minivi").rglob("*.py")):
        for block in re.findall(r"\.\. math::\n\n((?:[ ]+.*\n|\n)+?)(?=\n? {0,8}\S)", path.read_text()):
            yield path.name, block
        yield from ((path.name, tex) for tex in re.findall(r":math:`([^`]+)`", path.read_text()))


def _between_dollars(text):
    displayed = re.findall(r"\$\$(.+?)\$\$", text, re.S)
    return displayed + re.findall(r"(?<![\$\w])\$(?=[^\s$])([^$\n]+?)\$", re.sub(r"\$\$.+?\$\$", "", text, flags=re.S))


def test_each_formula_can_be_set():
    pytest.importorskip("latex2mathml", reason=EXTRA)
    from minivi.site.extension import mathml

    found = list(formulas())
    assert len(found) > 60
    for place, tex in found:
        assert mathml(tex).startswith("<math"), place


def test_formulas_of_the_library_belong_to_names_that_are_there():
    from minivi.site.extension import FORMULA

    text = (ROOT / "docs" / "formulas.md").read_text()
    found = dict(FORMULA.findall(text))
    assert len(found) == text.count("\n## ") >= 30
    for name in found:
        module = max((m for m in pages.modules(ROOT) if name.startswith(f"{m}.")), key=len)
        thing = functools.reduce(getattr, name.removeprefix(f"{module}.").split("."), importlib.import_module(module))
        assert thing.__module__ == module and thing.__doc__, name


def test_unknown_commands_are_refused():
    pytest.importorskip("latex2mathml", reason=EXTRA)
    from minivi.site.extension import mathml

    with pytest.raises(ValueError, match=r"cannot be set: \\nosuch is not known"):
        mathml(r"\nosuch{x}")
    assert "<mspace" in mathml(r"\log x") and "<mspace" not in mathml(r"\log(x)")
    assert "mtable" in mathml(r"a &= b \\ c &= d", "block")


# ----------------------------------------------------------------------------------------------------- the build
def test_without_sphinx_the_mend_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sphinx", None)
    assert cli.main(["site"]) == 2
    assert "pip install -e '.[docs]'" in capsys.readouterr().err


def test_verdicts_can_be_read():
    """Dark enough on their grounds, by WCAG's contrast of at least 4.5 to 1."""

    def light(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    css = (ROOT / "docs" / "_static" / "site.css").read_text()
    found = re.findall(r"\.verdict\.([\w-]+) { color: (#\w{6}); background: (#\w{6})", css)
    assert {name.replace("-", " ") for name, _, _ in found} == set(VERDICTS)
    for _, ink, paper in found:
        assert (light(paper) + 0.05) / (light(ink) + 0.05) >= 4.5


def test_dead_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="here"></p><a href="#here"></a><a href="b.html?x=1#there"></a><a href="https://elsewhere.org"></a>'
        '<a href="#nowhere"></a><a href="c.html"></a><a href="b.html#no"></a><script src="https://cdn.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="."></a>')
    assert builder.dead_links(tmp_path) == [
        "a.html loads https://cdn.org/x.js from elsewhere", "a.html: #nowhere", "a.html: b.html#no", "a.html: c.html",
        "b.html: .",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A small site, built with warnings as errors."""
    for name in ("sphinx", "furo", "myst_nb", "nbclient", "jupytext", "latex2mathml"):
        pytest.importorskip(name, reason=EXTRA)
    out = tmp_path_factory.mktemp("site")
    some = {"modules": ["minivi.distributions", "minivi.flows"], "chapters": ["ch02_autoencoder"], "tracks": ["engine"]}
    page = builder.build(out, True, lessons=["ch02_pca"], **some)
    assert page == out / "html" / "index.html"
    return page.parent


class Images(html.parser.HTMLParser):
    """The alt texts of a page, and its language."""

    def __init__(self, text):
        super().__init__()
        self.alts, self.lang = [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        about = dict(attrs)
        self.lang = about.get("lang", self.lang) if tag == "html" else self.lang
        if tag == "img":
            self.alts.append(about.get("alt") or "")


def test_pages_of_a_small_site(site):
    found = {str(path.relative_to(site)): path.read_text() for path in site.rglob("*.html")}
    for name in (
        "index",
        "lessons",
        "results",
        "equations",
        "exercises",
        "teachers",
        "errata",
        "misses",
        "bench",
        "library",
        "gradcheck",
        "search",
    ):
        assert f"{name}.html" in found
    lesson = found["lessons/ch02_pca.html"]
    assert "<math" in lesson and lesson.count("<img") >= 1 and "Traceback" not in lesson
    assert lesson.count('class="formula"') == (CHAPTERS / "ch02_pca.py").read_text().count("$$") / 2
    for kind in ("py", "ipynb"):
        (link,) = set(re.findall(rf'href="\.\./(_downloads/\w+/ch02_pca\.{kind})"', lesson))
        assert (site / link).stat().st_size > 1000
    for name, text in found.items():
        page = Images(text)
        assert page.lang == "en", name
        assert all(len(alt) > 10 and not alt.endswith(".png") for alt in page.alts), (name, page.alts)
        assert "system-message" not in text, name
    assert (
        "NotImplementedError" in found["exercises/engine.html"] and "[solution]" not in found["exercises/engine.html"]
    )
    assert "<math" in found["api/minivi.flows.html"]
    assert "Implements eq." in found["api/minivi.distributions.html"]
    assert re.search(r"-?\d\.\d+ = -?\d\.\d+ within 1e-\d+", found["equations.html"])
    assert builder.dead_links(site) == []


def test_what_is_right_is_kept(site, monkeypatch):
    def refused(*arguments):
        raise AssertionError("made again")

    monkeypatch.setattr(builder, "_apart", refused)
    source = site.parent / "again"
    shutil.copytree(ROOT / "docs", source)
    made = builder._made(ROOT, source, site.parent / "cache", ["ch02_pca"], ["ch02_autoencoder"])
    assert all(claim["ok"] for found in made["values"].values() for claim in found["claims"])
    assert (source / "lessons" / "ch02_pca.ipynb").exists()


def test_a_lesson_that_fails_is_named(tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason=EXTRA)
    pytest.importorskip("jupytext", reason=EXTRA)
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "a.py").write_text("")
    (tmp_path / "broken.py").write_text('"""A lesson."""\n\n# %%\n1 / 0\n')
    monkeypatch.setenv("MINIVI_CHAPTERS", str(tmp_path))
    with pytest.raises(ExperimentError, match=r"lesson broken: ZeroDivisionError: .*; python chapters/broken.py"):
        builder._apart("executed", "broken", str(tmp_path))


# ------------------------------------------------------------------------------------------------------- a browser
class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *arguments):
        pass


@pytest.fixture
def browser():
    """Chromium, if Playwright and it are there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path:
        pytest.skip("needs Chromium, such as apt-get install chromium")
    with playwright.sync_playwright() as control:
        yield control.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.mark.slow
@pytest.mark.parametrize("where", ["server", "disk"])
def test_in_a_browser(site, browser, where):
    """Pages load without a complaint, formulas are set, filter and search work, nothing scrolls sideways on a phone."""
    if where == "server":
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}/"
    else:
        base = f"{site.as_uri()}/"
    for width in (1280, 360):
        page = browser.new_page(viewport={"width": width, "height": 740})
        said = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda r, said=said: None if r.url.startswith((base, "data:")) else said.append(r.url))
        for path in sorted(site.rglob("*.html")):
            page.goto(base + str(path.relative_to(site)))
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        page.goto(base + "lessons/ch02_pca.html")
        box = page.locator("math").first.bounding_box()
        assert box["width"] > 5 and box["height"] > 5
        page.goto(base + "results.html")
        total = page.locator("section section section").count()
        assert page.locator("#shown").inner_text() == f"{total} of {total} results are shown."
        page.get_by_label("document").focus()
        page.keyboard.press("ArrowDown")
        page.wait_for_function("location.search.includes('document=')")
        page.goto(base + "results.html?verdict=does+not+hold")
        hidden = page.locator("section section section[hidden]").count()
        assert page.locator("#shown").inner_text() == f"{total - hidden} of {total} results are shown."
        page.locator("#filter button").click()
        page.wait_for_function("!document.querySelector('section[hidden]')")
        page.goto(base + "search.html?q=principal")
        page.wait_for_selector("ul.search li a")
        assert page.locator("ul.search li a").count() >= 1
        assert said == []
        page.close()
