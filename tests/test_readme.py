"""What the README says is so: its example runs, its commands are single lines, and CI runs nothing else."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import empty_registry, no_own_data

from minivi import cli, experiments
from minivi.experiments.page import told_count

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def block(section):
    """The one fenced block of a section."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    (found,) = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    return found


@pytest.mark.parametrize("section", ["Run", "Test"])
def test_one_line_sets_everything_up(section):
    command = block(section)
    assert command.count("\n") == 1 and "venv" in command and "pip install" in command


def test_ci_runs_the_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    extract = re.search(r'command="\$\((.*)\)"', script).group(1)
    found = subprocess.run(["bash", "-c", extract], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert found == block("Test")
    assert "pip install" not in script and "pytest" not in script


def test_example_runs():
    code = block("In twenty lines")
    assert len(code.splitlines()) <= 22
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    bound = float(re.search(r"bound on the last minibatch: (-\d+\.\d+)", done.stdout).group(1))
    assert -35 < bound < -20 and "verdict" in done.stdout


def test_a_trained_model_is_loaded_as_the_readme_says(tmp_path, monkeypatch):
    """After the README's own command; so are the commands on it."""
    empty_registry(monkeypatch)
    monkeypatch.setenv("MINIVI_CHAPTERS", str(ROOT / "chapters"))
    no_own_data(monkeypatch)
    monkeypatch.chdir(tmp_path)
    np.savez("faces.npz", train=np.random.default_rng(0).random((40, 6, 5)))
    commands = re.findall(r"^\| `minivi (run \S+ --set .*?|sample .*?)` \|", README, re.M)
    assert [command.split()[0] for command in commands] == ["run", "sample"]
    for command in commands:
        assert cli.main(command.replace("epochs=50", "epochs=2").split()) == 0
    names = {}
    exec(block("Trained models"), names)
    assert names["images"].shape == (16, 30)
    assert cli.main(re.search(r"# minivi (sample .*)", block("Trained models"))[1].split()) == 0
    assert {"sample.png", "mine.png"} <= {path.name for path in tmp_path.iterdir()}


def test_the_courses_command_grades(capsys):
    (command,) = block("Course").splitlines()
    assert cli.main([*command.split()[1:-1], str(ROOT / command.split()[-1])]) == 1
    assert "not done yet" in capsys.readouterr().out


def test_budgets_take_what_is_said_of_them(monkeypatch):
    """By the times that the experiments declare, as `minivi list` prints them."""
    empty_registry(monkeypatch)
    experiments.load_chapters()
    entries = list(experiments.EXPERIMENTS.values())
    long = sorted(e.minutes["paper"] for e in entries if e.minutes["paper"] > 24 * 60)
    assert f"{len(long)} of {len(entries)} take more than a day of CPU time, the longest twenty months" in README
    assert long[-1] == 600 * 24 * 60
    longest = max(e.minutes["laptop"] for e in entries) / 60
    assert f"the longest {longest:.1f} hours of CPU time" in README
    assert max(e.minutes["quick"] for e in entries) <= 1


def test_pictures_exist():
    for path in re.findall(r"\]\((figures/[^)]*)\)", README):
        assert (ROOT / path).is_file(), path


def test_a_whole_models_gradient_is_checked_as_the_readme_says():
    """The line below the example; the loss must use the copy that is checked."""
    from minivi import Generator, gradcheck
    from minivi.models import VAE

    line = re.search(r'`(double = vae.astype\("float64"\))`, then `(gradcheck\(.*?, parameters=double\))`', README)
    vae = VAE(pixels=6, hidden=(4,), latents=2, rng=Generator(0))
    names = {"vae": vae, "gradcheck": gradcheck, "x": np.eye(6)[:3], "eps": np.ones((1, 3, 2))}
    exec(line[1], names)
    report = eval(line[2], names)
    assert report.ok and len(report.worst()) == len(list(vae.named_parameters()))


def test_how_many_claims_hold():
    assert told_count(ROOT / "figures") in README


def test_files_that_are_named_exist():
    """In the tables of files and chapters, and all of them."""
    named = {
        name for line in README.splitlines() if line.startswith("| `") for name in re.findall(r"`([\w/.]+)`", line)
    }
    library = {path.name for path in (ROOT / "minivi").iterdir() if not path.name.startswith("__")}
    told = {name.removeprefix("minivi/").strip("/") for name in named}
    assert library <= told, library - told
    chapters = {path.stem for path in (ROOT / "chapters/studies").iterdir() if not path.name.startswith("_")}
    assert chapters <= named, chapters - named
    assert {path.name for path in (ROOT / "chapters").glob("*.py")} <= named


def test_lessons_stand_in_an_order_in_which_they_can_be_read():
    """All of them, each after those that it needs."""
    rows = re.findall(r"^\| `(?:ch|report|how).*\|$", README, re.MULTILINE)
    done = []
    for row in rows:
        *_, after, lesson = (cell.strip() for cell in row.strip("|").split("|"))
        assert all(name in done for name in re.findall("`(.*?)`", after)), row
        name, seconds = re.fullmatch(r"`(\w+)\.py`, (\d+) s", lesson).groups()
        assert int(seconds) <= 60
        done.append(name)
    assert sorted(done) == sorted(path.stem for path in (ROOT / "chapters").glob("*.py"))


def test_the_listing_of_a_study_is_that_study():
    page = (ROOT / "chapters/README.md").read_text()
    study = (ROOT / "chapters/studies/ch05_iaf/reference.py").read_text()
    assert study[study.index("@experiment(") :] in page
