"""Every picture is right on its own: text in the figure and clear of other text, legends clear of curves, curves seen.

``pytest -m slow tests/test_pictures.py`` draws the pictures of all experiments at `quick`, the suite those of a few.
"""

import numpy as np
import pytest
from helpers import CHAPTERS, STUDIES
from test_chapters import registry  # noqa: F401  (a fixture)

from minivi import plots
from minivi.experiments import Claim, Result, Run, outcome, report_stored, run_experiments

# Each takes about a second
SOME = (
    "ch01_models.dlvm", "ch01_models.em", "ch02_marginal_likelihood.kl", "ch05_iaf.priors", "ch07_adam.adagrad_limit",
    "ch07_adam.adamax", "ch07_adam.moment_bias", "ch07_adam.step_bounds",
)  # fmt: skip


def measured(entries, out):
    """What is wrong with the pictures of experiments of one chapter, by file name; and how many there are."""
    shared, found, count = {}, {}, 0
    for entry in entries:
        result, _ = outcome(entry, Run(entry, "quick", None, 0, out, False, False, shared))
        for name, fig in result.figures.items():
            path = out / f"{entry.key}_{name}.png"
            plots.save(fig, path)
            count += 1
            wrong = plots.problems(fig)
            if path.stat().st_size > 300_000:
                wrong.append("more than 300 kB")
            if wrong:
                found[path.name] = wrong
    return found, count


@pytest.mark.parametrize("key", SOME)
def test_pictures_of_quick_experiments(key, registry, tmp_path):  # noqa: F811
    assert measured([registry[0][key]], tmp_path)[0] == {}


@pytest.mark.slow
@pytest.mark.parametrize("chapter", sorted({p.stem for p in STUDIES.glob("[a-z]*")}))
def test_pictures_of_all_experiments(chapter, registry, tmp_path):  # noqa: F811
    found, count = measured([e for e in registry[0].values() if e.chapter == chapter], tmp_path)
    assert found == {}
    assert count > 0


@pytest.mark.parametrize("budget", ["quick", "laptop"])
def test_claims_about_toy_digits_say_so_once(budget, registry, tmp_path, monkeypatch):  # noqa: F811
    """At `quick`, when they are made and when they are read again; not of the document's own data."""
    entry = registry[0]["ch02_aevb.manifold"]
    monkeypatch.setattr(entry, "function", lambda run: Result([], claims=[Claim(1.0, "=", 1.0, 0.0, "one")] * 2))
    made, read = [], []
    run_experiments(entry.key, budget=budget, out=tmp_path, report=made.append)
    report_stored(tmp_path, read.append)
    for said in ("\n".join(made), "\n".join(read)):
        assert said.count("a toy, not about the document's data") == (budget == "quick")
        assert said.count("holds: one") == 2


def test_committed_pictures_are_small():
    paths = list((CHAPTERS.parent / "figures").glob("*.png"))
    assert len(paths) > 70
    assert [p.name for p in paths if p.stat().st_size > 300_000] == []


# -- the measure finds each planted fault ------------------------------------------------------------------------------
X = np.linspace(0.0, 1.0, 21)


def one(**options):
    """A figure with one panel and a rising curve in it."""
    fig = plots.figure(5.0, 3.5)
    axes = fig.add_subplot()
    axes.plot(X, X, label="rising", **plots.style(0, len(X)) | options)
    axes.set_title("panel")
    return fig, axes


def saved(fig, tmp_path):
    """What is wrong after the last touch."""
    plots.save(fig, tmp_path / "fig.png")
    return plots.problems(fig)


def test_a_plain_picture_is_right(tmp_path):
    fig, axes = one()
    axes.legend()
    assert plots.problems(fig) == []
    before = axes.get_xlim(), axes.get_ylim()
    assert saved(fig, tmp_path) == []
    assert (axes.get_xlim(), axes.get_ylim()) == before


@pytest.mark.parametrize("cover", ["line", "bars", "points", "errors", "band", "text"])
def test_a_legend_over_something_moves(cover, tmp_path):
    fig, axes = one()
    corner = np.linspace(0.8, 1.0, 9)
    {
        "line": lambda: None,
        "bars": lambda: axes.bar([0.9], [0.97], 0.2),
        "points": lambda: axes.scatter(corner, corner**0),
        "errors": lambda: axes.errorbar(corner, 0.9 + 0 * corner, 0.1, fmt="none"),
        "band": lambda: axes.fill_between(corner, 0.9, 1.0),
        "text": lambda: axes.text(0.8, 0.9, "note"),
    }[cover]()
    axes.lines[0].set_data(X, X if cover == "line" else 0.4 * X)
    axes.legend(loc="upper right")
    assert len([p for p in plots.problems(fig) if p.startswith("panel: the legend over")]) == 1
    assert saved(fig, tmp_path) == []


def test_a_legend_without_a_free_place_goes_beside_the_frame(tmp_path):
    fig, axes = one()
    for level in np.linspace(0.0, 1.0, 9):
        axes.plot(X, level + 0.0 * X, color="k")
    axes.legend(loc="center")
    assert any("the legend over a curve" in p for p in plots.problems(fig))
    assert saved(fig, tmp_path) == []
    assert axes.get_legend().get_window_extent().x0 >= axes.get_window_extent().x1


def test_text_outside_and_over_text():
    fig, axes = one()
    fig.suptitle("a title that is far too long for a figure " * 4)
    assert any(p.startswith("text outside the figure: a title") for p in plots.problems(fig))
    fig, axes = one()
    axes.text(0.1, 0.9, "first note")
    axes.text(0.15, 0.9, "second note")
    assert plots.problems(fig) == ["text over text: first note | second note"]
    fig, axes = one()
    axes.text(0.4, 0.42, "on it")
    assert plots.problems(fig) == ["panel: the note on it over a curve"]
    fig, axes = one()
    axes.set_xticks([0.5, 0.501], ["half", "more than half"])
    assert plots.problems(fig) == ["text over text: half | more than half"]


def test_a_figure_s_legend_is_inside_and_clear_of_panels(tmp_path):
    fig, axes = one()
    fig.legend(loc="center")
    assert "a figure's legend over a panel" in plots.problems(fig)
    fig, axes = one()
    for i in range(9):
        axes.plot(X, X / (2 + i), label=f"curve number {i} with a long name", **plots.style(i))
    handles = axes.get_legend_handles_labels()
    legend = fig.legend(*handles, loc="outside lower center", ncols=10)
    assert "a figure's legend is cut" in plots.problems(fig)
    legend.remove()
    plots.legend_below(fig, [axes, axes])
    assert saved(fig, tmp_path) == []
    assert [t.get_text() for t in fig.legends[0].get_texts()] == handles[1]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_curve_that_leaves_gets_a_triangle_where_it_leaves(scale, tmp_path):
    fig, axes = one(marker="")
    axes.lines[0].set_data(X + 1, X + 1)
    axes.set(xscale=scale, yscale=scale, xlim=(0.9, 2.1), ylim=(1.25, 1.75))
    assert plots.problems(fig) == ["panel: rising: leaves the frame without a mark"]
    assert saved(fig, tmp_path) == []
    marks = [line for line in axes.lines if line.get_gid() == "mark" and line.get_markerfacecolor() == "white"]
    assert [m.get_marker() for m in marks] == ["v", "^"]
    at = axes.transData.inverted().transform([axes.transAxes.transform(m.get_xydata()[0]) for m in marks])
    np.testing.assert_allclose(at, [[1.25, 1.25], [1.75, 1.75]], rtol=1e-6)
    assert fig.get_supxlabel() == plots.OUTSIDE


def test_a_curve_that_is_nowhere_to_be_seen(tmp_path):
    fig, axes = one()
    axes.plot(X, X - 5, label="below", **plots.style(1))
    axes.set_ylim(0, 1)
    assert "panel: below: leaves the frame without a mark" in plots.problems(fig)
    assert saved(fig, tmp_path) == []
    fig, axes = one()
    axes.plot(X, X * np.nan, label="undefined")
    assert plots.problems(fig) == ["panel: undefined: no point to be seen"]
    axes.lines[-1].set_label("sigma = 1 (diverges)")
    assert plots.problems(fig) == []


def test_the_last_marker_is_whole(tmp_path):
    fig, axes = one(markevery=1)
    axes.set_xlim(0, 1)
    assert plots.problems(fig) == ["panel: rising: a marker is cut by the frame"]
    assert saved(fig, tmp_path) == []
    fig, axes = one(markevery=1)  # also of a curve that leaves elsewhere
    axes.set(xlim=(0, 1), ylim=(0.3, 1.0))
    assert saved(fig, tmp_path) == []
    whole = [line for line in axes.lines if line.get_gid() == "mark" and line.get_marker() == "o"]
    assert whole[0].get_xdata().tolist() == X[X >= 0.3].tolist()
    assert not whole[0].get_clip_on()


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.25, 0.48, ["0.25", "0.3", "0.35", "0.4", "0.45"]),
        (0.2, 4.0, ["0.3", "1", "3"]),
        (800.0, 9000.0, ["1,000", "2,000", "5,000"]),
        (1.0, 1000.0, [f"$\\mathdefault{{10^{{{i}}}}}$" for i in range(4)]),
        (2e4, 2e6, [f"$\\mathdefault{{10^{{{i}}}}}$" for i in (5, 6)]),
    ],
)
def test_numbers_on_a_logarithmic_axis_of_few_decades(low, high, labels, tmp_path):
    fig, axes = one()
    axes.lines[0].set_data(X, np.geomspace(low, high, len(X)))
    axes.set(yscale="log", ylim=(low, high))
    assert saved(fig, tmp_path) == []
    shown = [t.label1.get_text() for t in axes.yaxis.get_major_ticks() if low <= t.get_loc() <= high]
    assert shown == labels
    assert not any(t.label1.get_text() for t in axes.yaxis.get_minor_ticks() if shown[0][0] != "$")
