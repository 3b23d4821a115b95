"""Exercises: solutions get all points, blanks none, planted mistakes their hints, and bad files a row that says so."""

import csv
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import CHAPTERS

from minivi import cli, exercises
from minivi.exercises import Case, Grader, Limits, Source, child, process, tracks
from minivi.exercises.grading import difference

FOLDER = CHAPTERS / "exercises"
NAMES = exercises.names()
PATIENT = Limits(task=60.0, total=300.0)  # where nothing is slow, but the machine may be busy
STRICT = Limits(task=30.0, total=90.0, memory=2**31, printed=2**16)
QUICK = Limits(task=4.0, total=90.0)

TINY = '''"""Exercises: a tiny track."""

# %%
import numpy as np

# %% [markdown]
# ## Twice
#
# Twice the number.


# %%
def twice(x):
    """2 x."""
    # [solution]
    return 2 * x
    # [end]


# %% [teacher]
from minivi.exercises import Case, Source, task


@task("twice", 2, "code", "thesis eq. 0", mistakes=[("2 *", "3 *", "too much"), ("2 * x", "x + 2", "it is no sum")])
def _(rng):
    for x in rng.normal(size=(3, 4)):
        yield Case((x,), x + x)


# %% [markdown]
# ## A slope
#
# By a central difference.


# %%
def slope(f, x):
    """f'(x)."""
    h = 1e-5
    # [solution]
    return (f(x + h) - f(x - h)) / (2 * h)
    # [blank]
    # return (f(x + h) - f(x - h)) / h
    # [end]


# %% [teacher]
@task("slope", 3, "fault", "thesis eq. 9", mistakes=[("(2 * h)", "h", "how far apart are the two points?")])
def _(rng):
    yield Case((Source("lambda x: np.sin(x)"), 0.3), np.cos(0.3))
'''
RIGHT = "def twice(x): return 2 * x\ndef slope(f, x): return (f(x + 1e-5) - f(x - 1e-5)) / 2e-5\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.py"
    path.write_text(TINY)
    return Grader(tracks.load(path), 5)


@pytest.fixture(scope="module")
def graders():
    return {(name, seed): Grader(tracks.find(name), seed) for name in NAMES for seed in (0, 11)}


# ---------------------------------------------------------------------------------------------- the tracks themselves
@pytest.mark.parametrize("name", NAMES)
def test_a_track_is_whole(name, graders):
    track = graders[name, 0].track
    assert 8 <= len(track.tasks) <= 12
    assert (FOLDER / f"{name}.py").read_text() == track.blank(), (
        f"minivi exercise {name} --blank --out chapters/exercises/{name}.py"
    )
    for t in track.tasks:
        assert len(t.mistakes) >= 5, t.name
        assert t.equation and all(len(hint) > 15 for *_, hint in t.mistakes), t.name
        assert len(graders[name, 0].cases[t.name]) >= 1
    assert {t.kind for t in track.tasks} == set(tracks.KINDS), "all kinds of tasks"


@pytest.mark.parametrize("seed", [0, 11])
@pytest.mark.parametrize("name", NAMES)
def test_solutions_get_all_points_and_mistakes_their_hints(name, seed, graders):
    """Here, without a process: solutions for both seeds, whose inputs differ; mistakes for one, some are compiled."""
    grader = graders[name, seed]
    for t in grader.track.tasks:
        cases = grader.cases[t.name]
        row = grader.judge(t, t.answers(t.code(), cases))
        assert row.ok and not row.hint, row
        for k, mistake in enumerate(t.mistakes if seed else ()):
            row = grader.judge(t, grader.mistaken(t.name, k))
            assert row.points == 0 and row.hint == f"{mistake[2]} ({t.equation})", (t.name, mistake, row)
    if seed:
        others = graders[name, 0].cases
        assert any(repr(others[t.name]) != repr(grader.cases[t.name]) for t in grader.track.tasks)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_thirty_seeds(name):
    """An unlucky draw must not make a right answer wrong, nor two mistakes alike."""
    for seed in range(100, 130):
        grader = Grader(tracks.find(name), seed)
        for t in grader.track.tasks:
            if not t.name.endswith("_kernel"):  # compiled anew each time
                assert grader.judge(t, t.answers(t.code(), grader.cases[t.name])).ok, (seed, t.name)
                for k, mistake in enumerate(t.mistakes):
                    row = grader.judge(t, grader.mistaken(t.name, k))
                    assert row.points == 0 and row.hint == f"{mistake[2]} ({t.equation})", (seed, t.name, mistake)


@pytest.mark.parametrize("name", NAMES)
def test_the_blank_gets_nothing_and_the_solution_all(name, graders, tmp_path):
    """In a process, as students' files are."""
    grader = graders[name, 11]
    grade = exercises.grade_file(grader, FOLDER / f"{name}.py", PATIENT)
    assert grade.points == 0 and not grade.trouble and all(row.found for row in grade.rows)
    (tmp_path / "mine.py").write_text(grader.track.solution())
    grade = exercises.grade_file(grader, tmp_path / "mine.py", PATIENT)
    assert grade.points == grade.most == grader.track.points, grade.text()


ANOTHER_WAY = {
    ("ch07_adam", "adam"): """
from minivi import Parameter, optim
def adam(gradients, alpha=0.001, beta1=0.9, beta2=0.999, eps=1e-8):
    p = Parameter(np.zeros(gradients.shape[1:]))
    optimizer, path = optim.Adam([p], alpha, beta1=beta1, beta2=beta2, eps=eps), [p.data.copy()]
    for g in gradients:
        optimizer.step([g])
        path.append(p.data.copy())
    return np.diff(path, axis=0)
""",
    ("ch07_adam", "p_norm"): """
def p_norm(gradients, beta2, p):
    u = v = np.abs(gradients[0]) * (1 - beta2**p) ** (1 / p)
    for g in np.abs(gradients[1:]):
        a, b = beta2 * v, g * (1 - beta2**p) ** (1 / p)
        u = np.maximum(a, b)
        v = u * ((a / u) ** p + (b / u) ** p) ** (1 / p)
    return v
""",
    ("ch02_aevb", "sample"): """
from minivi.distributions import Normal
def sample(mu, log_sigma, eps):
    z, log_q = Normal(mu, log_sigma).rsample_with_log_prob(eps)
    return z, log_q
""",
    ("ch04_autoregressive", "gradients"): """
import minivi as mv
def gradients(x, into, out, w, b, v, c):
    w, v = mv.Parameter(w), mv.Parameter(v)
    logits = mv.ops.tanh(x @ (w * into) + b) @ (v * out) + c
    return mv.grad(mv.ops.bernoulli_log_prob(x, logits), [w, v])
""",
    ("ch05_flows", "undo"): """
def undo(image, network, gate):
    z = image
    for _ in range(image.shape[1]):
        m, s = network(z)
        z = image + (image - m) * np.exp(-s - gate)
    return z
""",
    ("report_review", "score_gradient"): """
import minivi as mv
from minivi.distributions import Bernoulli
def score_gradient(logits, h, signals):
    a = mv.Parameter(logits)
    return mv.grad((signals * Bernoulli(a).log_prob(h)).mean(), a)
""",
    ("report_tighter_bounds", "piwae_gradients"): """
import minivi as mv
def piwae_gradients(log_w, groups, by_encoder, by_decoder):
    t, u = mv.Tensor(np.zeros(by_encoder.shape[1:])), mv.Tensor(np.zeros(by_decoder.shape[1:]))
    a, b = (mv.ops.sum(v * by, axis=-1) + log_w for v, by in ((t, by_encoder), (u, by_decoder)))
    return mv.grad(mv.bounds.miwae(a, groups).sum(), t), mv.grad(mv.bounds.iwae(b).sum(), u)
""",
    ("engine", "unbroadcast"): """
def unbroadcast(g, shape):
    shape = tuple(shape)
    padded = (1,) * (g.ndim - len(shape)) + shape
    for axis, n in enumerate(padded):
        if n == 1:
            g = g.sum(axis=axis, keepdims=True)
    return g.reshape(shape)
""",
    ("engine", "check"): """
from minivi import gradcheck
def check(f, gradient, x):
    return bool(gradcheck(f, x, gradient=gradient).ok)
""",
}


@pytest.mark.parametrize(("name", "of"), ANOTHER_WAY)
def test_another_way_is_right_too(name, of, graders):
    """By the library, by recursion: a grader asks for numbers, not for the solution's code."""
    t = next(t for t in graders[name, 11].track.tasks if t.name == of)
    row = graders[name, 11].judge(t, t.answers(ANOTHER_WAY[name, of], graders[name, 11].cases[of]))
    assert row.ok, row


WRONG_ANOTHER_WAY = {
    ("ch07_adam", "averages"): (
        "def averages(x, beta2=0.999):\n    decay = beta2 ** np.arange(1, len(x) + 1)[:, None]\n"
        "    return np.cumsum((1 - beta2) / decay * x, axis=0) * decay",
        "the average starts at 0 and is too small without a correction",
    ),
    ("ch02_aevb", "log_likelihood"): (
        "from scipy.special import logsumexp\ndef log_likelihood(log_w): return logsumexp(log_w, axis=0)",
        "over samples the mean is taken",
    ),
    ("ch02_aevb", "divergence"): (
        "def divergence(mu, log_sigma): return 0.5 * (1 + 2 * log_sigma - mu * mu - np.exp(log_sigma) ** 2).sum(1)",
        "a divergence is never negative: that is what the bound adds",
    ),
    ("ch05_flows", "price"): (
        "def price(q_u, q_z, p_u): return q_u @ np.log(q_u) - np.einsum('u,uz,zu->', q_u, q_z, np.log(p_u))",
        "p(u | x, z) is compared with what q says of u if z is known",
    ),
    ("report_review", "best_baseline"): (
        "def best_baseline(q, signals, scores): return np.average(signals, weights=q)",
        "the mean signal is not the best: where the score is large the signal matters more",
    ),
    ("report_tighter_bounds", "miwae"): (
        "from minivi import bounds\ndef miwae(log_w, groups): return bounds.miwae(log_w, len(log_w) // groups)",
        "M groups of K, not K groups of M",
    ),
    ("engine", "logsumexp_vjp"): (
        "from scipy.special import softmax\ndef logsumexp_vjp(g, x): return softmax(x, axis=-1)",
        "the cotangent of the result is not used: chain rule",
    ),
}


@pytest.mark.parametrize(("name", "of"), WRONG_ANOTHER_WAY)
def test_a_mistake_another_way_gets_the_same_hint(name, of, graders):
    code, hint = WRONG_ANOTHER_WAY[name, of]
    t = next(t for t in graders[name, 11].track.tasks if t.name == of)
    row = graders[name, 11].judge(t, t.answers(code, graders[name, 11].cases[of]))
    assert row.points == 0 and row.hint == f"{hint} ({t.equation})", row


def test_the_teachers_page_counts_right():
    page = (FOLDER / "README.md").read_text()
    lessons = {path.stem for path in CHAPTERS.glob("*.py")}
    weeks = "".join(line for line in page.split(" weeks, ", 1)[1].splitlines() if line.startswith("| "))
    named = set(re.findall(r"`(\w+)`", weeks))
    assert named <= lessons | set(NAMES), "lessons and tracks of the syllabus"
    told = re.findall(r"^\| `(\w+)` \| [`\w, ]+ \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    tracks_here = [tracks.find(name) for name in NAMES]
    assert sorted(told) == sorted((t.name, str(len(t.tasks)), str(t.points)) for t in tracks_here)


# --------------------------------------------------------------------------------------------------- the command line
def test_commands(tmp_path, capsys):
    blank = str(FOLDER / "ch07_adam.py")
    assert cli.main(["grade", blank]) == 1
    assert "ch07_adam.py: 0 of 30 points" in capsys.readouterr().out
    assert cli.main(["grade", str(FOLDER / "solutions/ch07_adam.py"), "--seed", "3"]) == 0
    assert "30 of 30 points" in capsys.readouterr().out
    out = tmp_path / "results.json"
    words = ["grade", "ch07_adam", "--submit", blank, "--json", str(out), "--format"]
    assert cli.main([*words, "github"]) == 1 and json.loads(out.read_text())["max_score"] == 30
    assert cli.main([*words, "gradescope"]) == 1 and len(json.loads(out.read_text())["tests"]) == 12
    capsys.readouterr()
    assert cli.main(["exercise", "ch07_adam", "--blank"]) == 0
    assert capsys.readouterr().out == Path(blank).read_text()
    assert cli.main(["exercise"]) == 0 and cli.main(["exercise", "ch07_adam"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in NAMES) and "largest_step: How far can a step go?" in told
    for words, error in (
        (["exercise", "nothing"], "no exercises 'nothing'; there are "),
        (["grade", str(tmp_path / "ch07_adam.py")], "no such file"),
        (["grade", "ch07_adam", "--submit", str(tmp_path)], "no .py file or notebook in it"),
        (["grade", blank, "--json", "x", "--submit", blank, blank], "--csv takes a class"),
    ):
        assert cli.main(words) == 2
        assert error in capsys.readouterr().err


def test_a_class_of_ten_of_which_three_are_broken(tmp_path, capsys):
    track, folder = tracks.find("ch07_adam"), tmp_path / "class"
    folder.mkdir()
    good = track.solution()
    for i in range(5):
        (folder / f"student{i}.py").write_text(good.replace("-alpha * m_hat", "alpha * m_hat") if i == 2 else good)
    (folder / "=student5.py").write_text(track.blank())
    cells = [{"cell_type": "markdown", "source": ["# mine"]}, {"cell_type": "code", "source": ["%matplotlib inline\n"]}]
    cells.append({"cell_type": "code", "source": good.splitlines(keepends=True)})
    (folder / "student6.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}))
    (folder / "student7.py").write_text(good + "\ndef broken(:\n")
    (folder / "student8.py").write_text(good + "\nwhile True: pass\n")
    (folder / "student9.ipynb").write_text("no notebook")
    (folder / "notes.txt").write_text("no submission")
    out = tmp_path / "class.csv"
    words = ["grade", "ch07_adam", "--submit", str(folder), "--csv", str(out), "--seconds", "6", "--seed", "9"]
    words += ["--reports", str(tmp_path / "back")]
    assert cli.main(words) == 1
    rows = {row["submission"]: row for row in csv.DictReader(out.read_text().splitlines())}
    assert len(rows) == 10 and len(capsys.readouterr().out.splitlines()) == 10
    points = [int(row["points"]) for row in rows.values()]
    assert [rows[f"student{i}.py"]["points"] for i in range(5)] == ["30", "30", "26", "30", "30"]
    assert rows["'=student5.py"]["points"] == "0" and rows["student6.ipynb"]["points"] == "30"
    assert rows["student2.py"]["adam"] == "0" and rows["student2.py"]["adamax"] == "3"
    assert "SyntaxError" in rows["student7.py"]["trouble"] and "no answer within 6 s" in rows["student8.py"]["trouble"]
    assert rows["student9.ipynb"]["trouble"] == "the file is no notebook" and points.count(0) == 4
    assert len(list((tmp_path / "back").iterdir())) == 10
    assert "a step goes against the gradient" in (tmp_path / "back/student2.py.txt").read_text()


def test_submissions_of_one_name_have_each_a_report_and_a_line(tmp_path, capsys):
    blank = tracks.find("engine").blank()
    paths = [tmp_path / who / "mine.py" for who in ("anna", "ben")]
    for path, text in zip(paths, (blank, "1 +"), strict=True):
        path.parent.mkdir()
        path.write_text(text)
    words = ["grade", "engine", "--reports", str(tmp_path / "back"), "--csv", str(tmp_path / "class.csv")]
    assert cli.main([*words, "--submit", *map(str, paths)]) == 1
    names = [str(path.relative_to(tmp_path)) for path in paths]
    assert all(name in capsys.readouterr().out for name in names[:1])
    rows = csv.DictReader((tmp_path / "class.csv").read_text().splitlines())
    assert [row["submission"] for row in rows] == names
    reports = [(tmp_path / "back" / f"{name}.txt").read_text() for name in names]
    assert "not done yet" in reports[0] and "SyntaxError" in reports[1]


def test_json(tiny, tmp_path):
    grade = tiny.grade(RIGHT.replace("2 * x", "3 * x"), "mine.py", PATIENT)
    scope = json.loads(grade.json("gradescope"))
    assert scope["score"] == 3 and scope["execution_time"] > 0 and len(scope["tests"]) == 2
    first, second = scope["tests"]
    assert (first["name"], first["score"], first["max_score"], first["status"]) == ("twice", 0, 2, "failed")
    assert "too much (thesis eq. 0)" in first["output"] and second["status"] == "passed"
    github = json.loads(grade.json("github"))
    assert (github["version"], github["status"], github["max_score"]) == (1, "fail", 5)
    assert [t["status"] for t in github["tests"]] == ["fail", "pass"] and github["tests"][1]["score"] == 3
    assert json.loads(tiny.grade("1 +", "x.py").json("github"))["status"] == "error"
    assert json.loads(tiny.grade(RIGHT, "x.py", PATIENT).json("github"))["status"] == "pass"


def test_a_notebook_of_a_blank(tmp_path):
    pytest.importorskip("jupytext", reason="needs the extra 'notebook': pip install -e '.[notebook]'")
    path = tmp_path / "blank.ipynb"
    assert cli.main(["exercise", "ch07_adam", "--blank", "--out", str(path)]) == 0
    assert "def adamax(gradients" in process.read(path)
    assert exercises.grade("ch07_adam", path).points == 0


# ------------------------------------------------------------------------------------------------------- hard to grade
def test_the_tiny_track(tiny):
    assert tiny.grade(RIGHT, "mine.py", PATIENT).points == 5
    blank = tiny.track.blank()
    assert "## 2. A slope\n#\n# *Find the fault; 3 points; thesis eq. 9.*" in blank
    assert "    return (f(x + h) - f(x - h)) / h\n" in blank and "(2 * h)" not in blank and "task(" not in blank
    rows = tiny.grade(blank, "blank.py", PATIENT).rows
    assert rows[0].found == "not done yet" and rows[1].hint.startswith("how far apart")


def one(tiny, source):
    return tiny.grade(source, "mine.py", QUICK if "while True" in source else STRICT)


@pytest.mark.parametrize(
    ("source", "trouble"),
    [
        ("def f(:", "line 1: SyntaxError"),
        ("x = 1 / 0", "line 1: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(0)", "calls exit"),
        ("import os; os._exit(0)", "ended by itself, with status 0"),
        ("while True: pass", "no answer within 4 s; is there an endless loop?"),
        ("print('x' * 10**7)", "printed more than 64 kB"),
        ("x = bytearray(2**33)", "more memory than allowed"),
        ("import nothing_such", "ModuleNotFoundError"),
        ("x = '\0'", "null bytes"),
        ("import os; os.system('true')", "may not use os.system"),
        ("import subprocess; subprocess.run(['true'])", "may not use subprocess.Popen"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "may not use socket"),
        ("from multiprocessing import *; get_context('spawn').Process(target=print).start()", "not start a process"),
        ("import os; open(f'/proc/{os.getppid()}/environ')", "may not read"),
        ("import os; os.rename('/tmp/nothing_such', 'x')", "may not change /tmp/nothing_such"),
        ("import os, signal; os.kill(os.getppid(), signal.SIGTERM)", "may not use os.kill"),
        ("import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))", "may not use socket."),
        ("import resource; resource.prlimit(0, resource.RLIMIT_NOFILE, (9, 9))", "may not use resource."),
        ("import sqlite3; sqlite3.connect('/tmp/nothing_such/x')", "may not change /tmp/nothing_such/x"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_run(tiny, source, trouble):
    grade = one(tiny, source)
    assert grade.points == 0 and trouble in grade.trouble, grade.trouble
    assert len(grade.rows) == 2 and "file cannot be run" in grade.text()


@pytest.mark.parametrize(
    ("twice", "told"),
    [
        ("while True: pass", "no answer within 4 s"),
        ("return 2 * np.zeros(2**32)", "memory"),
        ("import os; os._exit(3)", "status 3"),
        ("raise SystemExit", "calls exit"),
        ("print('x' * 10**7); return 2 * x", "printed more"),
        ("return object()", "a object came back"),
        ("x *= 2; return x", "writes into its argument"),
        ("return x[:, None] * 2", "expected shape (4,), found (4, 1)"),
        ("return None", "found nothing"),
        ("return 'two'", "expected numbers, found 'two'"),
        ("return [x, x]", "expected shape (4,), found (2, 4)"),
        ("return 2 * x.astype(complex)", "came back"),
        ("return np.zeros(10**7)", "more than 20 MB"),
        ("return y", "line 3: NameError"),
    ],
)
def test_one_bad_task_leaves_the_others(tiny, twice, told):
    grade = one(tiny, f"import numpy as np\ndef twice(x):\n    {twice}\n{RIGHT.splitlines()[1]}")
    assert [row.points for row in grade.rows] == [0, 3] and told in grade.rows[0].found, grade.rows
    if "argument" not in told:
        assert not grade.trouble


def test_what_notebooks_do_besides(tiny, tmp_path):
    """Plots and magics disturb nothing, and minivi can be used."""
    cells = [
        "%matplotlib inline\nimport tempfile\nimport matplotlib.pyplot as plt\nif True:\n    !pip list\n",
        "%%bash\nls -l | nothing python\n",
        "%%time\nplt.plot([1, 2])\nplt.show()\nplt.savefig('mine.png')\ndisplay(plt.gcf())\n",
        "with tempfile.TemporaryDirectory() as d:\n    open(d + '/x', 'w').write('x')\n",
        "import minivi as mv\ndef twice(x):\n    x = mv.Tensor(x)\n    return mv.grad((x * x).sum(), x)\n",
        RIGHT.splitlines()[1],
    ]
    notebook = {"cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    (tmp_path / "mine.ipynb").write_text(json.dumps(notebook))
    grade = exercises.grade_file(tiny, tmp_path / "mine.ipynb", PATIENT)
    assert grade.points == 5, grade.text()


def test_the_graders_own_time_is_not_the_submissions(tiny, monkeypatch):
    late, judge = [], Grader.judge

    def slow(*args):
        late.append(1000.0)
        return judge(*args)

    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + sum(late)))
    monkeypatch.setattr(Grader, "judge", slow)
    grade = tiny.grade(RIGHT, "mine.py", PATIENT)
    assert grade.points == 5 and len(late) == 2, grade.text()


def test_missing_functions_and_guesses(tiny):
    rows = one(tiny, "def slope(f, x): return -(f(x + 1e-5) - f(x - 1e-5)) / 2e-5").rows
    assert rows[0].found == "the file has no function twice" and rows[1].hint == "the sign is turned (thesis eq. 9)"
    assert "a constant factor is off" in one(tiny, RIGHT.replace("2 * x", "5.5 * x")).rows[0].hint
    assert "not finite" in one(tiny, RIGHT.replace("2 * x", "2 * x + float('nan')")).rows[0].hint
    other_way = "def twice(x):\n    return sum([x, x, x])\n"
    assert one(tiny, other_way).rows[0].hint == "too much (thesis eq. 0)"  # a mistake by another way


ATTACKS = {
    "comparisons": """
import numpy as np
np.allclose = np.array_equal = lambda *a, **k: True
np.abs = lambda x: 0 * x
""",
    "the library": """
import minivi.exercises.grading as g, minivi.exercises.child as c
g.Grader.judge = lambda self, t, a: g.Row(t.name, t.points, t.points)
c.plain = c.encode = lambda v: b'1'
""",
    "printed results": "import sys; print('twice 2/2'); sys.stderr.write('5 of 5 points')",
    "forged answers": """
import os
for n in range(3, 20):
    try: os.write(n, b'\\0' * 16 + b'\\5' + b'\\0' * 7 + b'["ok"')
    except OSError: pass
""",
    "equal to all": """
class Yes(float):
    __eq__ = __le__ = __ge__ = lambda *a: True
    __sub__ = lambda *a: 0.0
def twice(x): return Yes(1)
def slope(f, x): return Yes(1)
""",
    "main": """
import sys
m = sys.modules['__main__']
m.answer = lambda *a: True
m.encode = lambda v: b'["ok", true]'
""",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_gain_nothing(tiny, name):
    wrong = "def twice(x): return x\ndef slope(f, x): return x\n"
    assert one(tiny, (wrong if "def twice" not in ATTACKS[name] else "") + ATTACKS[name]).points == 0
    assert one(tiny, RIGHT).points == 5  # the grader is what it was


def test_what_a_submission_cannot_read_or_write(tiny, tmp_path):
    there = tiny.track.path
    for path, mode in ((there, "r"), (there.parent / ".." / there.parent.name / "tiny.py", "r"), (tmp_path / "x", "w")):
        assert "PermissionError: a submission may not" in one(tiny, f"open({str(path)!r}, {mode!r})").trouble
    assert not (tmp_path / "x").exists()
    real = FOLDER / "solutions/ch07_adam.py"
    assert f"may not read {real}" in one(tiny, f"import pathlib; pathlib.Path({str(real)!r}).read_text()").trouble
    assert one(tiny, "open('mine.txt', 'w').write('x')\n" + RIGHT).points == 5  # its own folder
    secret = one(tiny, "import os\nx = 1 / ('MINIVI_SECRET' not in os.environ)\n" + RIGHT)
    os.environ["MINIVI_SECRET"] = "x"
    try:
        assert (
            one(tiny, "import os\nx = 1 / ('MINIVI_SECRET' not in os.environ)\n" + RIGHT).points == secret.points == 5
        )
    finally:
        del os.environ["MINIVI_SECRET"]


def test_files_that_cannot_be_read(tiny, tmp_path):
    for content, told in ((b"\xff\xfe\x00x", "no text in UTF-8"), (b"#" * 2**25, "larger than 20 MB")):
        (tmp_path / "mine.py").write_bytes(content)
        grade = exercises.grade_file(tiny, tmp_path / "mine.py")
        assert told in grade.trouble and grade.points == 0 and grade.most == 5


# ----------------------------------------------------------------------------------------------------------- the parts
def test_results_come_back_to_the_bit():
    value = [
        {"a": np.arange(6.0).reshape(2, 3) / 7, "b": [1, 2.5, True, None, "é"]},
        np.float32(0.1),
        math.nan,
        np.zeros(0),
    ]
    back = child.decode(child.encode(child.plain(value)))
    np.testing.assert_array_equal(back[0]["a"], value[0]["a"])
    assert back[0]["b"] == value[0]["b"] and back[1].dtype == np.float32 and back[1] == value[1]
    assert math.isnan(back[2]) and back[3].shape == (0,)
    for data in (b"{", b'{"a": 1}', b'{"a": ["O", [1], "AAAAAAAAAAA="]}', b'{"a": ["<f8", [3], "AAAA"]}', b'{"x": []}'):
        with pytest.raises(ValueError):
            child.decode(data)


def test_what_counts_as_equal():
    case = Case((), [np.array([1.0, 1e-9]), True, "encoder", {"k": 3}], rtol=1e-6)
    right = [np.array([1.0, 1e-9]), True, "encoder", {"k": 3}]
    assert not difference(child.plain(right), case)
    for i, wrong in ((0, [1.0, 1e-5]), (0, [1.0]), (1, 1), (2, "decoder"), (3, {"k": 4}), (3, {"j": 3}), (1, None)):
        found = child.plain([*right[:i], np.array(wrong) if i == 0 else wrong, *right[i + 1 :]])
        assert "expected" in difference(found, case), wrong
    small = np.array([1.0, 2e-9])
    assert not difference(small, Case((), np.array([1.0, 1e-9])))
    assert "at [1] expected 1e-09" in difference(small, Case((), np.array([1.0, 1e-9]), each=True))
    assert not difference(np.array([np.inf]), Case((), np.array([np.inf])))
    assert difference(np.array([np.nan]), Case((), np.array([1.0])))


@pytest.mark.parametrize("text", ["2.0", ["1.0", "2.0"], [1.0, "2.0"]])
def test_a_text_is_no_number(text):
    expected = 2.0 if isinstance(text, str) else np.array([1.0, 2.0])
    assert "expected numbers, found" in difference(child.plain(text), Case((), expected))
    assert not difference(child.plain(2 if isinstance(text, str) else [1, 2.0]), Case((), expected))


def test_what_ipython_alone_understands_goes(tmp_path):
    """And no more: a line may begin with a per cent sign within parentheses."""
    source = "%matplotlib inline\n!ls\n    %time f()\nx = (\n    'a %d'\n    % 3\n)\ny = (x\n% (a, b))\n"
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": source}]}))
    assert process.read(tmp_path / "a.ipynb").splitlines() == [
        "pass", "pass", "    pass", "x = (", "    'a %d'", "    % 3", ")", "y = (x", "% (a, b))"
    ]  # fmt: skip


def test_files_that_are_no_tracks(tmp_path):
    path = tmp_path / "x.py"
    for text, told in (
        (TINY.replace('"code"', '"essay"'), "kind 'essay'"),
        (TINY.replace("# ## Twice", "# Twice"), "lacks a heading"),
        (TINY.replace("def twice", "def thrice"), "lacks a heading '# ## ...' or a function"),
        (TINY.replace("# %%\ndef twice", "\ndef twice"), "needs a Markdown cell and a code cell"),
    ):
        path.write_text(text)
        with pytest.raises(exercises.ExerciseError, match=told.replace(".", r"\.")):
            tracks.load(path)
    path.write_text(TINY.replace('("2 *", "3 *"', '("7 *", "3 *"'))
    t = tracks.load(path).tasks[0]
    with pytest.raises(exercises.ExerciseError, match="stands 0 times"):
        t.code(t.mistakes[0])
    assert Source("lambda x: np.exp(x)").function(0.0) == 1.0


def test_the_process_imports_little():
    """A submission that needs NumPy alone does not wait for minivi."""
    code = "import sys; import minivi.exercises.child as c; print(c.__file__)"
    file = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    tree = Path(file).read_text()
    assert "import minivi" not in tree and "from minivi" not in tree
    with process.Submission("import sys\ndef loaded(): return 'minivi' in sys.modules\n") as submission:
        assert submission.call("loaded", ()) is False
        assert submission.call("loaded", (Source("lambda: 0"),), "lambda f, g: f() or g()") == 0
