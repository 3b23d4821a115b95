"""The command line and the registry of experiments and checks."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import empty_registry
from scipy.sparse import csr_array

from minivi import cli, data, experiments, plots, training
from minivi.experiments import Claim, Result, Row, implementing_lines, runner
from minivi.experiments.page import count_claims, told_count
from minivi.training import load_arrays

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A small chapter of its own, in an empty registry."""
    folder = tmp_path / "chapters"
    folder.mkdir()
    (folder / "ch99_toy.py").write_text(
        "from minivi import plots\n"
        "from minivi.experiments import Claim, Result, Row, check, experiment\n"
        "B = {b: {'size': i} for i, b in enumerate(('quick', 'laptop', 'paper'))}\n"
        "M = {'quick': 0.1, 'laptop': 2, 'paper': 600}\n"
        "@experiment('sum', title='adds', mirrors='Table 9', budgets=B, minutes=M)\n"
        "def total(run):\n"
        "    fig = plots.figure()\n"
        "    fig.add_subplot().plot([0, 1])\n"
        "    return Result([Row('sum', 3.0 + run.settings.size, 2.5, note='close')], {'': fig})\n"
        "@check('9.1-9.3', 'one is one')\n"
        "def one():\n"
        "    return [Claim(1.0, '=', 1.0, 0.0), Claim(1.0, '<=', 2.0, 0.0, 'order')]\n"
    )
    monkeypatch.setenv("MINIVI_CHAPTERS", str(folder))
    empty_registry(monkeypatch)
    return folder


def run(capsys, *words):
    status = cli.main(list(words))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_list(chapter, capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0
    assert out.splitlines()[2].split() == ["ch99_toy.sum:", "adds", "Table", "9", "6", "s", "2", "min", "10", "h"]


@pytest.mark.parametrize("key", ["ch99_toy", "ch99_toy.sum"])
def test_run_writes_table_figure_and_numbers(chapter, capsys, tmp_path, key):
    status, out, _ = run(capsys, "run", key, "--budget", "laptop", "--seed", "3", "--out", str(tmp_path / "out"))
    assert status == 0
    assert [line.split() for line in out.splitlines() if line.startswith("sum")] == [
        ["sum", "4.00", "2.50", "+1.50", "nats", "close"]
    ]
    about = json.loads((tmp_path / "out" / "ch99_toy_sum.json").read_text())
    assert about["seed"] == 3 and about["budget"] == "laptop" and about["settings"] == {"size": 1}
    assert about["table"][0]["ours"] == 4.0 and {"commit", "cpu", "numba", "seconds", "threads"} <= about.keys()
    assert (tmp_path / "out" / "ch99_toy_sum.png").read_bytes()[:4] == b"\x89PNG"


TRAINS = """
import numpy as np
from minivi.experiments import Result, Row, experiment
from minivi.models import VAE
from minivi.optim import Adam
from minivi.random import Generator
B = {"quick": {"epochs": 2, "step_size": 0.01}, "laptop": {"epochs": 3, "step_size": 0.01}}
@experiment("vae", title="", mirrors="", budgets=B, minutes={"quick": 0.1, "laptop": 0.1})
def vae(run):
    s, x = run.settings, (np.random.default_rng(0).random((50, 6)) < 0.4).astype("float32")
    model = VAE(6, (5,), 2, rng=Generator(run.seed))
    loss = lambda x, rng: -model.elbo(x, rng).mean()
    history = run.fit("small", model, loss, Adam(model.parameters(), s.step_size), x, epochs=s.epochs, rng=Generator(1))
    return Result([Row("loss", history.records[-1]["loss"])])
"""


def numbers(folder, name="ch98_trains_vae.json"):
    about = json.loads((folder / name).read_text())
    return {key: about[key] for key in ("table", "seed", "budget")}


def test_runs_of_other_seeds_and_budgets_stay_apart(chapter, capsys, tmp_path):
    """--resume goes on from the same run alone, says where it finds none, and takes nothing from or of another."""
    (chapter / "ch98_trains.py").write_text(TRAINS)
    out, each = tmp_path / "out", {}
    for budget, seed in (("laptop", "0"), ("quick", "0"), ("laptop", "1")):  # each in a folder of its own
        folder = tmp_path / f"{budget}{seed}"
        words = ["run", "ch98_trains", "--budget", budget, "--seed", seed, "--quiet"]
        assert run(capsys, *words, "--out", str(folder))[0] == 0
        each[budget, seed] = words, numbers(folder)
    assert len({value["table"][0]["ours"] for _, value in each.values()}) == 3
    for (words, _), more in zip(each.values(), ([], ["--resume"], ["--resume"]), strict=True):
        status, text, _ = run(capsys, *words, *more, "--out", str(out))
        said = "small: no checkpoint of these settings, only of others; trained from the start"
        assert status == 0 and (said in text) == bool(more)
    names = ["ch98_trains_vae.json", "ch98_trains_vae_quick_seed0.json", "ch98_trains_vae_laptop_seed1.json"]
    assert [numbers(out, name) for name in names] == [value for _, value in each.values()]
    assert sorted(path.name for path in out.glob("*.json")) == sorted(names)
    assert len(list((out / "ch98_trains").glob("small-*/checkpoint.safetensors"))) == 3
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for words, _ in each.values():  # finished: nothing is trained, no file changes, seconds included
        status, text, _ = run(capsys, *words, "--resume", "--out", str(out))
        assert status == 0 and "as before" in text and "from the start" not in text
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    for path in out.rglob("checkpoint.safetensors"):
        path.unlink()  # as after an interruption, or a divergence, before the first checkpoint
    assert "from the start" not in run(capsys, *words, "--resume", "--out", str(out))[1]


def test_pictures_and_numbers_of_another_data_set_stay(chapter, capsys, tmp_path):
    experiments.load_chapters()
    experiments.EXPERIMENTS["ch99_toy.sum"].budgets["quick"]["data"] = "digits"
    words = ["run", "ch99_toy", "--out", str(tmp_path)]
    assert run(capsys, *words)[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert before.keys() == {"ch99_toy_sum.json", "ch99_toy_sum.png"}
    for more, end in (["--data", "mnist"], "_quick_mnist_seed0"), (["--seed", "2"], "_quick_digits_seed2"):
        assert run(capsys, *words, *more)[0] == 0
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name in before} == before
        assert (tmp_path / f"ch99_toy_sum{end}.png").exists() and (tmp_path / f"ch99_toy_sum{end}.json").exists()
    assert run(capsys, *words)[0] == 0  # the same again takes its place
    (tmp_path / "ch99_toy_sum.json").write_text("{")  # and so does any, of what is damaged
    assert run(capsys, *words, "--seed", "3")[0] == 0
    assert json.loads((tmp_path / "ch99_toy_sum.json").read_text())["seed"] == 3


def test_seconds_of_an_interrupted_run_count_all_parts(chapter, capsys, tmp_path, monkeypatch):
    (chapter / "ch98_trains.py").write_text(TRAINS)
    fit, words = training.fit, ["run", "ch98_trains", "--quiet", "--out", str(tmp_path / "out")]
    ends = iter([KeyboardInterrupt, None])

    def slow(*args, **options):
        history = fit(*args, evaluate=lambda epoch: time.sleep(0.1) or {}, **options)
        if error := next(ends):
            raise error
        return history

    monkeypatch.setattr(training, "fit", slow)
    assert [run(capsys, *words)[0], run(capsys, *words, "--resume")[0]] == [130, 0]
    about = json.loads((tmp_path / "out" / "ch98_trains_vae.json").read_text())
    assert about["seconds"] >= 0.2 and about["instruction_set"]


FAILS = """
from minivi.experiments import Result, Row, experiment
for name, error in {"a": ValueError("no\\nluck"), "b": None, "c": ZeroDivisionError("again"), "d": None}.items():
    def function(run, error=error):
        if error:
            raise error
        return Result([Row("x", 1.0)])
    experiment(name, title="", mirrors="", budgets={"quick": {}}, minutes={"quick": 0.1})(function)
"""


def test_a_failing_experiment_does_not_end_its_chapter(chapter, capsys, tmp_path):
    (chapter / "ch98_fails.py").write_text(FAILS)
    status, out, err = run(capsys, "run", "ch98_fails", "--out", str(tmp_path))
    assert status == 1 and out.count("FAILED ch98_fails.") == 2 and out.count("numbers: ") == 2
    told = "ch98_fails.a: ValueError: no luck; ch98_fails.c: ZeroDivisionError: again"
    assert err == f"minivi: 2 of 4 experiments failed: {told}\n"
    assert {path.name for path in tmp_path.glob("*.json")} == {"ch98_fails_b.json", "ch98_fails_d.json"}
    with pytest.raises(experiments.FailedExperiments) as caught:
        cli.main(["run", "ch98_fails", "--out", str(tmp_path), "--debug"])
    assert isinstance(caught.value.__cause__, ValueError)
    status, _, err = run(capsys, "run", "ch98_fails.c", "--out", str(tmp_path))
    assert status == 1 and err == "minivi: ZeroDivisionError: again (--debug shows where)\n"


def test_an_out_that_cannot_be_written_is_known_before_the_run(chapter, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        status, text, err = run(capsys, "run", "ch99_toy", "--out", str(out))
        assert status == 1 and text == "" and err.startswith(f"minivi: cannot write into {out}: ")
        assert err.endswith("make room, or choose another folder\n")


def test_a_damaged_file_of_results_is_named_and_the_others_shown(chapter, capsys, tmp_path):
    assert run(capsys, "run", "ch99_toy", "--out", str(tmp_path))[0] == 0
    whole = (tmp_path / "ch99_toy_sum.json").read_text()
    about = json.loads(whole)
    damaged = {
        "a.json": b"{", "b.json": b"\xff\xfe", "c.json": b"[" * 100_000, "d.json": b"", "y.json": whole[:-20].encode(),
        **{f"z{i}.json": json.dumps(about | change).encode() for i, change in enumerate((
            {"table": 3}, {"table": [1]}, {"table": [{"what": 1}]}, {"seconds": "x"}, {"claims": [{"left": 1}]},
            {"table": [{"what": "x", "ours": "y"}]}, {"claims": {"x": 1}}))},
    }  # fmt: skip
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.json").mkdir()
    status, out, err = run(capsys, "results", str(tmp_path))
    assert status == 1 and out.count("ch99_toy.sum: Table 9") == 1
    lines = err.splitlines()
    assert len(lines) == len(damaged) + 1
    for line, name in zip(lines, sorted([*damaged, "folder.json"]), strict=True):
        assert line.startswith(f"minivi: {tmp_path / name} ") and len(line) < 300, line


def test_numbers_do_not_replace_what_is_known_of_a_run(chapter, monkeypatch, tmp_path):
    (entry,) = experiments.find("ch99_toy.sum")
    monkeypatch.setattr(entry, "function", lambda run: Result(numbers={"seconds": 1}))
    with pytest.raises(TypeError, match="seconds"):
        experiments.run_experiments("ch99_toy.sum", out=tmp_path)


def test_images_refuse_what_an_experiment_cannot_use(chapter, monkeypatch):
    (entry,) = experiments.find("ch99_toy.sum")
    sets = {
        "frey": SimpleNamespace(train=np.zeros((2, 3)), train_labels=None, test_labels=None),
        "polarity": SimpleNamespace(train=csr_array((2, 3)), train_labels=np.zeros(2), test_labels=np.zeros(2)),
    }
    monkeypatch.setattr(data, "load", lambda name, split, progress: sets[name])

    def images(name, **options):
        return experiments.Run(entry, "quick", name, 0, "out", False, False, {}).images(**options)

    assert images("frey") is sets["frey"]
    with pytest.raises(experiments.ExperimentError, match="frey has no labels to predict; run with"):
        images("frey", labels=True)
    with pytest.raises(experiments.ExperimentError, match="polarity holds texts, not images; run with"):
        images("polarity", labels=True)


def test_cpu_seconds_count_child_processes(chapter, capsys, tmp_path):
    """A sweep works in processes of its own, whose time is the experiment's."""
    (chapter / "ch98_child.py").write_text(
        "import subprocess, sys\n"
        "from minivi.experiments import Result, experiment\n"
        "busy = 'import time\\nwhile time.process_time() < 0.5: pass'\n"
        "@experiment('busy', title='', mirrors='', budgets={'quick': {}}, minutes={'quick': 0.1})\n"
        "def child(run):\n"
        "    subprocess.run([sys.executable, '-c', busy], check=True)\n"
        "    return Result([])\n"
    )
    assert run(capsys, "run", "ch98_child", "--out", str(tmp_path / "out"))[0] == 0
    assert json.loads((tmp_path / "out" / "ch98_child_busy.json").read_text())["cpu_seconds"] >= 0.4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "ch99_tox"], "no experiment 'ch99_tox'; did you mean ch99_toy"),
        (["run", "zzz"], "no experiment 'zzz'; see minivi list"),
        (["check", "8.8"], "no check matches '8.8'"),
        (["data", "fetch"], "which?"),
        (["gradcheck", "os.path"], "write it as module:function"),
        (["gradcheck", "no_such_module:f"], "cannot import no_such_module"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(chapter, capsys, words, message):
    status, out, err = run(capsys, *words)
    assert status == 2 and out == "" and err.count("\n") == 1
    assert err.startswith("minivi: ") and message in err


@pytest.mark.parametrize(
    "words", [["run"], ["run", "x", "--budget", "huge"], ["run", "x", "--seed", "-1"], ["nonsense"]]
)
def test_argparse_errors_are_status_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    capsys.readouterr()


def test_no_command_prints_help(capsys):
    status, out, _ = run(capsys)
    assert status == 2 and "COMMAND" in out


def test_unknown_data_set_is_one_line(chapter, capsys):
    status, _, err = run(capsys, "data", "fetch", "mnits")
    assert status == 1 and err.count("\n") == 1 and "mnist" in err


def test_debug_shows_the_traceback(chapter):
    with pytest.raises(experiments.ExperimentError):
        cli.main(["run", "nothing", "--debug"])


def test_check(chapter, capsys):
    for key in ("ch99", "ch99_toy", "9.2", "9.1-9.3"):
        status, out, _ = run(capsys, "check", key)
        assert status == 0 and "2 of 2 checks hold" in out, key
    status, out, _ = run(capsys, "check", "ch99", "--index")
    assert status == 0 and "ch99_toy.py:10" in out


def test_failing_and_crashing_checks_fail(chapter, capsys):
    experiments.load_chapters()
    experiments.check("9.4", "wrong")(lambda: Claim(1.0, "=", 1.1, 0.01))
    experiments.check("9.5", "crash")(lambda: 1 / 0)
    experiments.check("9.6", "nan")(lambda: Claim(np.nan, "<=", 1.0, 1e9))
    experiments.check("9.7", "empty")(lambda: [])
    for key, text in {"9.4": "FAILED", "9.5": "ZeroDivisionError", "9.6": "FAILED", "9.7": "claims nothing"}.items():
        status, out, _ = run(capsys, "check", key)
        assert status == 1 and text in out and "0 of 1 checks hold" in out


def test_slow_checks_only_with_all(chapter, capsys):
    experiments.load_chapters()
    experiments.check("9.8", "slow", slow=True)(lambda: Claim(1.0, "=", 1.0, 0.0))
    experiments.CHECKS[-1].chapter = "ch99_toy"
    assert "2 of 2 checks hold, 1 slow ones skipped" in run(capsys, "check", "ch99")[1]
    assert "3 of 3 checks hold (" in run(capsys, "check", "ch99", "--all")[1]


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (0.3, "18 s"),
        (1, "1 min"),
        (99, "99 min"),
        (100, "2 h"),
        (47 * 60, "47 h"),
        (2880, "2 days"),
        (172800, "120 days"),
    ],
)
def test_durations_are_in_the_unit_to_plan_by(minutes, text):
    assert experiments.duration(minutes) == text


def test_tables_fit_the_terminal_and_are_whole_in_a_pipe():
    """Every word stays, in columns where these have room, else one cell a line; no line is too long."""
    lines = [["experiment", "what", "time"], ["ch99_toy.sum", "adds one number to another one, slowly", "6 s"]]
    assert experiments.text_table(lines, (2,)).splitlines()[2] == (
        "ch99_toy.sum  adds one number to another one, slowly   6 s"
    )
    wrapped = experiments.text_table(lines, (2,), 40).splitlines()
    assert wrapped[2:4] == ["ch99_toy.sum  adds one number to     6 s", "              another one, slowly"]
    for width in (60, 40, 33, 20):
        text = experiments.text_table(lines, (2,), width)
        assert max(map(len, text.splitlines())) <= width, text
        for word in " ".join(lines[1]).split():
            assert word in text, (width, word)
    assert experiments.text_table(lines, (2,), 20).splitlines()[-1] == "time: 6 s"


def shell(*words, **variables):
    """A command as a new process, its output read by a pipe."""
    environment = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LANG", "PYTHONUTF8", "MPLBACKEND")}
    return subprocess.run([sys.executable, "-m", "minivi", *words], capture_output=True, env=environment | variables)


def test_version_is_that_of_the_package():
    done = shell("--version")
    assert done.returncode == 0 and done.stdout.decode() == f"minivi {cli.minivi.__version__}\n"


@pytest.mark.parametrize("backend", ["inline", "module://matplotlib_inline.backend_inline"])
def test_a_notebooks_backend_stops_nothing_and_a_bar_fills_no_pipe(chapter, tmp_path, backend):
    (chapter / "ch98_trains.py").write_text(TRAINS.replace("import numpy as np", "import numpy as np, minivi.plots"))
    done = shell("run", "ch98_trains", "--out", str(tmp_path / "out"), MPLBACKEND=backend)
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert numbers(tmp_path / "out")["seed"] == 0


def test_greek_letters_end_no_command_in_an_ascii_locale(chapter):
    file = chapter / "ch99_toy.py"
    file.write_text(file.read_text().replace("title='adds'", "title='adds σ → ∞'"), encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = shell("list", **ascii_only)
    assert done.returncode == 0 and rb"adds \u03c3 \u2192 \u221e" in done.stdout, done.stderr


def test_data_that_would_be_ignored_are_refused_before_the_run(chapter, capsys, tmp_path):
    words = ["run", "ch99_toy", "--out", str(tmp_path / "out"), "--data"]
    status, out, err = run(capsys, *words, "digits")
    assert status == 2 and out == "" and err == "minivi: ch99_toy.sum would ignore --data digits; leave it out\n"
    status, out, err = run(capsys, *words, "mnits")
    assert status == 1 and out == "" and "no data set 'mnits'; did you mean mnist; there are digits, " in err
    toy = experiments.EXPERIMENTS["ch99_toy.sum"]
    experiments.EXPERIMENTS["ch99_toy.other"] = replace(toy, name="other", budgets={"quick": {"data": "digits"}})
    status, out, err = run(capsys, *words, "mnist")
    assert status == 2 and err.startswith("minivi: ch99_toy.sum would ignore --data mnist; give it with the chapter's")
    assert not (tmp_path / "out").exists()


def test_run_takes_the_start_of_chapters_names_and_shares_nothing_between_them(chapter, capsys, tmp_path, monkeypatch):
    (chapter / "ch99_more.py").write_text((chapter / "ch99_toy.py").read_text())
    seen = []
    monkeypatch.setattr(runner, "_run_one", lambda entry, run, out, report: seen.append((entry.key, run.shared)))
    assert run(capsys, "run", "ch99", "--out", str(tmp_path))[0] == 0
    assert [key for key, _ in seen] == ["ch99_more.sum", "ch99_toy.sum"] and seen[0][1] is not seen[1][1]
    assert run(capsys, "run", "ch9", "--out", str(tmp_path))[0] == 2


def test_no_chapters(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINIVI_CHAPTERS", str(tmp_path))
    status, _, err = run(capsys, "list")
    assert status == 2 and "no chapters in" in err and "MINIVI_CHAPTERS" in err


@pytest.mark.parametrize(
    ("left", "relation", "right", "tolerance", "ok"),
    [(1, "=", 1.05, 0.1, True), (1, "=", 1.2, 0.1, False), (2, "<=", 1, 0, False), (1, "<=", 1, 0, True),
     (2, ">=", 1, 0, True), (0, ">=", 1, 0.5, False), (np.inf, "<=", 1, np.inf, False)],
)  # fmt: skip
def test_claims(left, relation, right, tolerance, ok):
    assert Claim(left, relation, right, tolerance).ok is ok


def test_table_text_without_a_published_number():
    lines = experiments.rows_text([Row("a", 1.5), Row("bb", 2.0, 1.0)]).splitlines()
    assert lines[2].split() == ["a", "1.50", "-", "-", "nats"]
    assert lines[3].split() == ["bb", "2.00", "1.00", "+1.00", "nats"]


def test_tile():
    sheet = plots.tile(np.array([[0.1, 0.2], [0.3, 0.4], [2.0, -1.0]]), (1, 2), columns=2)
    np.testing.assert_array_equal(sheet, [[0.1, 0.2, 0, 0.3, 0.4], [0, 0, 0, 0, 0], [1.0, 0.0, 0, 0, 0]])


def test_reader_that_goes_away_is_no_error(chapter):
    code = f"{sys.executable} -m minivi list | head -c 10"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {code}"], capture_output=True, text=True, env=os.environ)
    assert done.stderr == ""


def test_the_chapter_of_the_main_job(tmp_path, monkeypatch, capsys):
    """Every experiment of ch02_aevb runs from the command line with tiny settings, and resumes."""
    monkeypatch.delenv("MINIVI_CHAPTERS", raising=False)
    empty_registry(monkeypatch)
    experiments.load_chapters()
    entries = [e for e in experiments.EXPERIMENTS.values() if e.chapter == "ch02_aevb"]
    drawn = [e for e in entries if e.figures]
    for entry in entries:
        entry.budgets["quick"].update(epochs=2, hidden=10, samples=5)
    for more in ([], ["--resume"]):
        status, out, err = run(capsys, "run", "ch02_aevb", "--out", str(tmp_path), *more)
        assert status == 0, err
        assert out.count("figure: ") == len(drawn) and "20 latents, log p(x)" in out
        assert "trained from the start" not in out
    assert {p.name for p in tmp_path.glob("*.png")} == {f"ch02_aevb_{e.name}.png" for e in drawn}
    weights = "ch02_aevb/digits_bernoulli_latents2_seed0_AEVB-*/weights.safetensors"
    assert len(list(tmp_path.glob(weights))) == 1
    manifold = experiments.EXPERIMENTS["ch02_aevb.manifold"]
    manifold.budgets["paper"].update(epochs=1, hidden=10)  # AdaGrad, its step size chosen, weights with a prior
    status, out, err = run(
        capsys, "run", manifold.key, "--budget", "paper", "--data", "digits", "--out", str(tmp_path / "paper")
    )
    assert status == 0, err
    (found,) = (tmp_path / "paper").glob(weights)
    _, about = load_arrays(found)
    assert about["step_size"] in manifold.budgets["paper"]["step_sizes"]


def test_claims_are_reported_and_can_be_read_again(chapter, capsys, tmp_path):
    """A claim that does not hold is no error; a NaN stays one through the JSON."""
    experiments.load_chapters()
    claims = [Claim(2.0, ">=", 1.0, 0.0, "two above one"), Claim(float("nan"), "=", 1.0, 0.5, "diverged")]
    experiments.EXPERIMENTS["ch99_toy.sum"].function = lambda run: Result([Row("x", float("nan"))], claims=claims)
    status, out, _ = run(capsys, "run", "ch99_toy", "--out", str(tmp_path))
    said = ["holds: two above one: 2 >= 1", "DOES NOT HOLD: diverged: nan = 1 within 0.5"]
    assert status == 0 and all(line in out for line in said)
    stored = json.loads((tmp_path / "ch99_toy_sum.json").read_text())
    assert stored["table"][0]["ours"] is None and [c["verdict"] for c in stored["claims"]] == ["holds", "does not hold"]
    (tmp_path / "other.json").write_text("[1]")
    status, out, _ = run(capsys, "results", str(tmp_path))
    assert status == 0 and all(line in out for line in said) and "x   nan" in out
    status, _, err = run(capsys, "results", str(tmp_path / "none"))
    assert status == 2 and "no results in" in err
    (tmp_path / "old.json").write_text('{"experiment": "ch99_toy.sum"}')
    status, _, err = run(capsys, "results", str(tmp_path))
    assert status == 1 and "old.json was not written by this version; run ch99_toy.sum again" in err


def test_result_without_rows(chapter, capsys, tmp_path):
    experiments.load_chapters()
    experiments.EXPERIMENTS["ch99_toy.sum"].function = lambda run: Result()
    status, out, _ = run(capsys, "run", "ch99_toy", "--out", str(tmp_path))
    assert status == 0 and "published" not in out


def test_where_an_equation_is_implemented_and_checked(monkeypatch, capsys):
    monkeypatch.delenv("MINIVI_CHAPTERS", raising=False)
    empty_registry(monkeypatch)
    status, out, _ = run(capsys, "where", "2.77")
    assert status == 0 and "minivi/models/vae.py" in out and "return reconstruction - q.kl()" in out
    assert "checks/ch02_aevb.py" in out
    status, out, _ = run(capsys, "where", "review report 4")
    assert status == 0 and "minivi/estimators/score.py" in out
    status, _, err = run(capsys, "where", "99.1")
    assert status == 2 and err.startswith("minivi: no line implements or checks '99.1'; ")


@pytest.mark.parametrize("line", implementing_lines(), ids=lambda line: line.place)
def test_implementing_lines_are_code_and_their_equations_are_checked(line, monkeypatch):
    monkeypatch.delenv("MINIVI_CHAPTERS", raising=False)
    experiments.load_chapters()
    checked = set().union(*(experiments.numbers_of(c.equation) for c in experiments.CHECKS))
    assert line.text and not line.text.startswith(("#", '"')) and line.equations & checked


def test_list_takes_words(chapter, capsys):
    assert "ch99_toy.sum" in run(capsys, "list", "ch99", "TABLE")[1]
    status, _, err = run(capsys, "list", "ch99", "nothing")
    assert status == 2 and "no experiment has 'ch99' and 'nothing'" in err


MEASURED = """
import numpy as np
from minivi import plots
from minivi.experiments import experiment
B = {b: {'size': 3} for b in ('quick', 'laptop', 'paper')}
@experiment('parts', title='a', mirrors='b', budgets=B, minutes=dict.fromkeys(B, 1))
def parts(run):
    return {'curve': np.arange(3) / 3, 'lost': float('nan'), 'sheet': plots.grey_levels(np.linspace(0, 1, 4)[None]),
            'big': np.arange(9000.0).reshape(3, -1), 'odd': [1.0, float('nan')], 'names': ['x'], 'empty': []}
@parts.table
def _(n, table):
    table.row('mean', n.curve.mean(), note=f'{n.settings.size} of {n.names[0]}, seed {n.seed}, {n.budget}')
    table.row('lost', n.lost)
    table.claim(n.big.sum(), '=', 9000 * 8999 / 2, 0.0, 'sum')
    table.claim(n.odd[1], '=', 1.0, 0.0, 'odd')
@parts.figure()
def _(n):
    fig = plots.figure()
    plots.panel(fig.add_subplot(), 'TITLE', 'x', 'y').plot(n.curve)
    return fig
@parts.figure('more')
def _(n):
    sheets = {name: plots.figure() for name in ('a', 'b')}
    plots.show(sheets['a'].add_subplot(), plots.tile(n.sheet, (2, 2), 1))
    return sheets
"""


def test_a_study_in_three_parts_is_redrawn_without_measuring(chapter, capsys, tmp_path, monkeypatch):
    (chapter / "ch98_parts.py").write_text(MEASURED)
    out = tmp_path / "out"
    status, told, err = run(capsys, "run", "ch98_parts", "--out", str(out))
    assert status == 0 and re.search("mean +0.33", told) and "3 of x, seed 0, quick" in told and "nan" in told, err
    assert "holds: sum" in told and "DOES NOT HOLD: odd" in told
    files = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert set(files) == {f"ch98_parts_parts{end}" for end in (".json", ".png", "_a.png", "_b.png")}
    entry = experiments.EXPERIMENTS["ch98_parts.parts"]
    monkeypatch.setattr(entry, "function", lambda run: pytest.fail("it measured"))
    path = str(out / "ch98_parts_parts.json")
    assert run(capsys, "redraw", path)[0] == 0
    assert {name: (out / name).read_bytes() for name in files} == files
    entry.figures[""] = lambda n: plots.figure()  # relabelled
    assert run(capsys, "redraw", path)[0] == 0
    assert (out / "ch98_parts_parts.png").read_bytes() != files["ch98_parts_parts.png"]


def test_what_cannot_be_redrawn_says_why(chapter, capsys, tmp_path):
    (tmp_path / "other.json").write_text("{}")
    status, _, err = run(capsys, "redraw", str(tmp_path / "other.json"))
    assert status == 2 and "holds no result; minivi redraw takes the JSON file that a run has left" in err
    assert run(capsys, "run", "ch99_toy.sum", "--out", str(tmp_path))[0] == 0
    status, _, err = run(capsys, "redraw", str(tmp_path / "ch99_toy_sum.json"))
    assert status == 2 and "ch99_toy.sum measures and draws in one; run it again" in err
    (chapter / "ch98_parts.py").write_text(MEASURED)
    empty_registry(pytest.MonkeyPatch())
    old = json.loads((tmp_path / "ch99_toy_sum.json").read_text()) | {"experiment": "ch98_parts.parts"}
    (tmp_path / "old.json").write_text(json.dumps(old))
    status, _, err = run(capsys, "redraw", str(tmp_path / "old.json"))
    assert (
        status == 2 and "has not all the numbers that ch98_parts.parts is drawn from; run the experiment again" in err
    )


@pytest.mark.parametrize(("claim", "verdict", "told"), [
    (dict(left=2.0, relation=">=", right=1.0), "holds", "x: 2 >= 1"),
    (dict(left=1.0, relation=">=", right=2.0), "does not hold", "x: 1 >= 2"),
    (dict(left=1.0, relation=">=", right=2.0, standard_error=0.51), "undecided", "1 is below two standard errors"),
    (dict(left=2.0, relation="<=", right=1.0, standard_error=0.49), "does not hold", "standard error 0.49"),
    (dict(left=1.0, relation="<=", right=1.9, standard_error=0.5), "undecided", "0.9 is below two standard errors"),
    (dict(left=1.0, relation="=", right=1.2, tolerance=0.3, standard_error=0.04), "holds", "within 0.3"),
    (dict(left=1.0, relation="=", right=1.2, tolerance=0.3, standard_error=0.06), "undecided", "0.1 is below"),
    (dict(left=1.3, relation="<=", right=1.0, tolerance=0.5), "holds", "within 0.5"),
    (dict(left=1.6, relation="<=", right=1.0, tolerance=0.5), "does not hold", "within 0.5"),
    (dict(left=1.0, relation=">=", right=1.3, tolerance=0.5), "holds", "within 0.5"),
    (dict(left=1.0, relation=">=", right=1.6, tolerance=0.5), "does not hold", "within 0.5"),
    (dict(left=1.3, relation="<=", right=1.0, tolerance=0.5, standard_error=0.11), "undecided", "0.2 is below"),
    (dict(left=1.0, relation=">=", right=1.3, tolerance=0.5, standard_error=0.09), "holds", "error 0.09"),
    (dict(left=1.0, relation="<=", right=2.0, tolerance=0.5, standard_error=0.7), "holds", "error 0.7"),
    (dict(left=1.0, relation="<=", right=2.0, tolerance=0.5, standard_error=0.8), "undecided", "1.5 is below"),
    (dict(left=2.0, relation=">=", right=1.0, short="2 epochs for 3,280"), "undecided", "(2 epochs for 3,280)"),
    (dict(left=float("nan"), relation=">=", right=1.0, short="2 epochs"), "does not hold", "nan"),
])  # fmt: skip
def test_three_verdicts(claim, verdict, told):
    claim = Claim(**{"tolerance": 0.0, "label": "x"} | claim)
    assert claim.verdict == verdict and told in str(claim)


def test_a_table_keeps_sentences_and_checks():
    table = experiments.Table()
    says = table.says("thesis 1.2", "It is so.", seeds=3)
    says(2.0, ">=", 1.0, 0.0, "one")
    says(None, ">=", 1.0, 0.0, "two", short="one epoch")
    table.check(0.0, "<=", 1.0, 0.0, "a probability is at most one")
    assert [(c.source, c.sentence, c.seeds, c.short) for c in table.claims] == [
        ("thesis 1.2", "It is so.", 3, ""), ("thesis 1.2", "It is so.", 3, "one epoch")
    ]  # fmt: skip
    table.check(2.0, "<=", 1.0, 0.0, "so is this")
    lines = []
    experiments.report_claims(table.claims, lines.append, None, table.checks)
    assert lines == [
        'thesis 1.2: "It is so."', "holds: one: 2 >= 1", "DOES NOT HOLD: two: nan >= 1",
        "check: a probability is at most one: 0 <= 1", "CHECK FAILED: so is this: 2 <= 1",
    ]  # fmt: skip


def test_a_budget_that_an_experiment_has_not(chapter, capsys):
    status, _, err = run(capsys, "run", "ch99_toy.sum", "--budget", "night")
    assert status == 2 and "no budget 'night' in ch99_toy.sum; take quick" in err


def test_a_page_of_results(chapter, capsys, tmp_path):
    status, _, err = run(capsys, "results", str(tmp_path), "--page")
    assert status == 2 and "no results in" in err
    assert run(capsys, "run", "ch99_toy.sum", "--out", str(tmp_path))[0] == 0
    assert run(capsys, "results", str(tmp_path), "--page")[0] == 0
    page = (tmp_path / "README.md").read_text()
    assert "1 results with 0 claims" in page and "![ch99_toy.sum: Table 9](ch99_toy_sum.png)" in page
    assert "`minivi run ch99_toy.sum --budget quick`, seed 0" in page


def test_the_project_s_page_is_that_of_its_results():
    """README.md of figures/, and of its folders of longer budgets, is what `minivi results FOLDER --page` writes."""
    figures = Path(experiments.__file__).parents[2] / "figures"
    for folder in (figures, *(path for path in figures.iterdir() if path.is_dir())):
        page = (folder / "README.md").read_text()
        assert told_count(folder) in page and page.count("\n### ") == count_claims(folder)[0]
