"""The loop: what it computes, what it writes, and that a killed run resumes to the same bits."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from minivi import bounds, ops, program, training
from minivi.models import VAE
from minivi.optim import SGD, Adam, AdaMax, constant
from minivi.random import Generator
from minivi.tensor import Tensor, grad
from minivi.training import (
    CHECKPOINT,
    METRICS,
    TrainingError,
    fit,
    load_arrays,
    save_arrays,
    write_atomically,
)

DATA = (np.random.default_rng(0).random((50, 6)) < 0.4).astype("float32")


def setup(seed=0, step_size=0.01, **model):
    vae = VAE(6, (5,), 2, rng=Generator(seed), **model)
    return vae, Adam(vae.parameters(), step_size), lambda x, rng: -vae.elbo(x, rng).mean()


def train(folder=None, epochs=4, made=None, **more):
    vae, optimizer, loss = made or setup()
    settings = {"epochs": epochs, "batch_size": 15, "rng": Generator(9), "folder": folder, "progress": False}
    return vae, fit(vae, loss, optimizer, DATA, **settings | more)


def interrupt_after(steps, monkeypatch):
    """Ctrl-C before the gradient of the step after so many; ``undo`` for the rest of the run."""
    count = 0

    def interrupted(*args):
        nonlocal count
        count += 1
        if count > steps:
            raise KeyboardInterrupt
        return grad(*args)

    monkeypatch.setattr(program, "grad", interrupted)


def same(a, b):
    return all(np.array_equal(a[k], b[k]) for k in a)


def test_the_loop_is_the_algorithm():
    """Against Algorithm 1 written out."""
    vae, history = train()
    other, optimizer, loss = setup()
    rng = Generator(9)
    for _ in range(4):
        order = rng.permutation(50)
        total = 0.0
        for i in range(0, 50, 15):
            x = DATA[order[i : i + 15]]
            value = loss(x, rng)
            total += value.item() * len(x)
            optimizer.step(grad(value, optimizer.parameters))
    assert same(vae.state_dict(), other.state_dict())
    assert history.records[-1]["loss"] == pytest.approx(total / 50, rel=1e-12)
    assert list(history.column("examples")) == [50, 100, 150, 200]


def test_prepare_gets_each_minibatch_and_the_rng():
    calls = []

    def prepare(x, rng):
        calls.append(len(x))
        return (rng.random(x.shape) < 0.5).astype("float32")

    train(epochs=1, prepare=prepare)
    assert calls == [15, 15, 15, 5]


def test_checkpoint_and_metrics(tmp_path):
    vae, history = train(tmp_path)
    arrays, about = load_arrays(tmp_path / CHECKPOINT)
    assert about["position"][:2] == [4, 0]
    assert same({k[6:]: v for k, v in arrays.items() if k.startswith("model.")}, vae.state_dict())
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert lines == history.records
    assert sorted(p.name for p in tmp_path.iterdir()) == [CHECKPOINT, METRICS]  # no temporary file left


def test_resume_of_a_finished_run_does_nothing(tmp_path):
    vae, history = train(tmp_path)
    again, history2 = train(tmp_path, resume=True)
    assert same(vae.state_dict(), again.state_dict()) and history.records == history2.records


def test_the_bar_of_a_resumed_run_goes_on(tmp_path, monkeypatch):
    interrupt_after(6, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, checkpoint_seconds=0.0)
    monkeypatch.undo()
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    train(tmp_path, resume=True, progress="again")
    assert re.findall(r"again: .*?(\d+/\d+) \[", stream.getvalue())[0] == "6/16"  # four steps an epoch


def test_longer_run_goes_on(tmp_path):
    train(tmp_path, epochs=2)
    resumed, history = train(tmp_path, epochs=4, resume=True)
    whole, _ = train()
    assert same(resumed.state_dict(), whole.state_dict()) and len(history.records) == 4


def test_resume_with_nothing_to_resume_starts_anew(tmp_path):
    vae, _ = train(tmp_path / "new", resume=True)
    whole, _ = train()
    assert same(vae.state_dict(), whole.state_dict())


def test_without_resume_an_old_run_is_not_continued(tmp_path):
    train(tmp_path, epochs=2)
    _, history = train(tmp_path, epochs=1)
    assert len(history.records) == 1


@pytest.mark.parametrize("stop", [1, 5, 8, 11])
def test_interrupted_anywhere_resumes_to_the_same_bits(tmp_path, monkeypatch, stop):
    """Ctrl-C after some steps, checkpoints after every one: in mid-epoch, at its end, in a later epoch."""
    whole, history = train()
    interrupt_after(stop, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, checkpoint_seconds=0.0)
    monkeypatch.undo()
    vae, resumed = train(tmp_path, resume=True)
    assert same(vae.state_dict(), whole.state_dict())
    assert [r["loss"] for r in resumed.records] == [r["loss"] for r in history.records]


CHILD = """
import sys, time
import numpy as np
sys.path.insert(0, {tests!r})
from test_training import DATA, setup
from minivi.random import Generator
from minivi.training import fit
vae, optimizer, loss = setup()
def slow(x, rng):
    time.sleep(0.002)
    return loss(x, rng)
print("ready", flush=True)
fit(vae, slow, optimizer, DATA, epochs={epochs}, batch_size=5, rng=Generator(9), folder={folder!r}, resume=True,
    progress=False, checkpoint_seconds=0.0)
print("done", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's; the interruption test covers other systems")
@pytest.mark.parametrize("times", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_several_times_ends_in_the_same_bits(tmp_path, times):
    """A child process is killed at random instants, also in the middle of writing, and started again each time."""
    epochs = 40
    vae, optimizer, loss = setup()
    whole = fit(vae, loss, optimizer, DATA, epochs=epochs, batch_size=5, rng=Generator(9), progress=False)
    code = CHILD.format(tests=os.path.dirname(__file__), epochs=epochs, folder=str(tmp_path))
    delays = np.random.default_rng(3).uniform(0.02, 0.35, times)
    kills = 0
    for delay in [*delays, None]:
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        if delay is None:
            out, _ = child.communicate(timeout=120)
            assert child.returncode == 0 and out == "done\n"
        else:
            time.sleep(delay)
            child.send_signal(signal.SIGKILL)
            child.wait()
            child.stdout.close()
            kills += child.returncode == -signal.SIGKILL
    assert kills == times, "the run was over before the last kill: make it longer"
    arrays, about = load_arrays(tmp_path / CHECKPOINT)
    assert same({k[6:]: v for k, v in arrays.items() if k.startswith("model.")}, vae.state_dict())
    assert [r["loss"] for r in about["records"]] == [r["loss"] for r in whole.records]


def test_early_stopping_restores_the_best_weights(tmp_path):
    marks = [1.0, 3.0, 2.0, 2.5, 9.0]
    states = []
    vae, optimizer, loss = setup()

    def evaluate(epoch):
        states.append(vae.state_dict())
        return {"validation": marks[epoch - 1]}

    history = fit(
        vae, loss, optimizer, DATA, epochs=5, rng=Generator(0), evaluate=evaluate, monitor="validation", patience=2,
        folder=tmp_path, progress=False,
    )  # fmt: skip
    assert history.stopped_early and list(history.column("validation")) == marks[:4]
    assert same(vae.state_dict(), states[1])
    assert load_arrays(tmp_path / CHECKPOINT)[1]["position"] == [4, 0, 0.0]  # the end is kept, however soon it comes


# Metrics of the epochs, patience, the epoch whose weights are kept, and how many are trained.
WATCHES = {
    "best first": ([3.0, 2.0, 1.0, 2.0, 9.0], 3, 1, 4),
    "best later": ([1.0, 3.0, 2.0, 2.5, 9.0], 2, 2, 4),
    "the first of equals": ([1.0, 3.0, 3.0, 3.0, 2.0], 3, 2, 5),
    "equals count as no gain": ([3.0, 3.0, 3.0, 9.0], 2, 1, 3),
    "best last": ([1.0, 2.0, 3.0, 4.0], 1, 4, 4),
    "no patience": ([1.0, 3.0, 2.0, 1.0], None, 2, 4),
    "below zero": ([-3.0, -1.0, -2.0], None, 2, 3),
    "NaN first": ([math.nan, 1.0, math.nan, 0.5], 2, 2, 4),
    "never a number": ([math.nan, math.nan, -math.inf], 2, None, 2),
}


@pytest.mark.parametrize("name", WATCHES)
def test_a_watched_run_interrupted_anywhere_keeps_the_same_epoch(tmp_path, monkeypatch, name):
    """monitor and patience through an interruption at every step, and again of the finished run, against the rule."""
    marks, patience, best, trained = WATCHES[name]
    states = []

    def watched(folder=None, **more):
        settings = {
            "evaluate": lambda epoch: {"mark": marks[epoch - 1]},
            "batch_size": 25,
            "monitor": "mark",
            "patience": patience,
            "checkpoint_seconds": 0.0,
        }
        return train(folder, len(marks), **settings | more)

    for epoch in range(1, trained + 1):  # what the weights are after each epoch, without any watching
        vae, _ = train(epochs=epoch, batch_size=25)
        states.append(vae.state_dict())
    for stop in range(2 * trained):
        folder = tmp_path / str(stop)
        interrupt_after(stop, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            watched(folder)
        monkeypatch.undo()
        for _ in range(2):
            vae, history = watched(folder, resume=True)
            assert same(vae.state_dict(), states[(best or trained) - 1]), stop
            np.testing.assert_array_equal(history.column("mark"), marks[:trained])
            assert history.stopped_early == (patience is not None and trained - (best or 0) >= patience)


def test_nonfinite_loss_names_the_primitive_and_keeps_the_checkpoint(tmp_path):
    vae, optimizer, loss = setup()
    count = 0

    def poisoned(x, rng):
        nonlocal count
        count += 1
        return loss(x, rng) + (ops.log(vae.decoder.layers[1].bias * 0.0).sum() if count > 6 else 0.0)

    with (
        np.errstate(all="ignore"),
        pytest.raises(TrainingError, match="the loss became -inf: log made the first non-finite"),
    ):
        fit(vae, poisoned, optimizer, DATA, epochs=4, batch_size=15, rng=Generator(9), folder=tmp_path, progress=False,
            checkpoint_seconds=0.0)  # fmt: skip
    _, about = load_arrays(tmp_path / CHECKPOINT)
    assert about["position"][:2] == [1, 2]
    assert all(np.isfinite(v).all() for v in vae.state_dict().values())


def test_the_cause_is_looked_for_with_the_same_noise():
    drawn = []

    def poisoned(x, rng):
        drawn.append(rng.random())
        return ops.log(vae.decoder.layers[1].bias * 0.0).sum() if len(drawn) > 2 else loss(x, rng)

    vae, optimizer, loss = setup()
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="log made the first non-finite"):
        train(made=(vae, optimizer, poisoned))
    assert drawn[3] == drawn[2] != drawn[1]


def test_a_gradient_of_nan_beside_a_finite_loss_keeps_checkpoint_and_weights(tmp_path):
    """Seen before the update, at the last step too, after which no loss would show it."""
    for last, folder in ((7, tmp_path / "middle"), (8, tmp_path / "end"), (8, None)):
        vae, optimizer, loss = setup()
        count = 0

        def poisoned(x, rng):
            nonlocal count
            count += 1
            bias = vae.decoder.layers[1].bias
            return loss(x, rng) + ((bias * 0.0) ** 0.5).sum() if count >= last else loss(x, rng)

        with np.errstate(all="ignore"), pytest.raises(TrainingError, match="the last checkpoint is kept") as caught:
            train(folder, epochs=2, made=(vae, optimizer, poisoned), checkpoint_seconds=0.0)
        assert "power" in str(caught.value) and "\n" not in str(caught.value)
        assert all(np.isfinite(v).all() for v in vae.state_dict().values())
        if folder:
            arrays, about = load_arrays(folder / CHECKPOINT)
            assert about["position"][:2] == [1, last - 5]
            assert same({k[6:]: v for k, v in arrays.items() if k.startswith("model.")}, vae.state_dict())


def test_a_step_to_infinity_is_no_success(tmp_path):
    """A finite gradient times a huge step size, in the last step."""
    for folder in (tmp_path, None):
        vae, _, loss = setup()
        optimizer = SGD(vae.parameters(), lambda step: 1e-3 if step < 7 else 1e300)
        with np.errstate(all="ignore"), pytest.raises(TrainingError, match="is no longer finite after epoch 2.*kept"):
            train(folder, epochs=2, made=(vae, optimizer, loss), checkpoint_seconds=0.0)
    assert load_arrays(tmp_path / CHECKPOINT)[1]["position"][:2] == [1, 3]


def test_metrics_of_numpy_are_numbers(tmp_path):
    values = {"a": np.float32(0.1), "b": np.int64(3), "c": np.array([1.0, 2.0]), "d": np.bool_(True), "e": (1, 2)}
    plain = {"a": float(np.float32(0.1)), "b": 3, "c": [1.0, 2.0], "d": True, "e": [1, 2]}
    for folder in (tmp_path, None):
        _, history = train(folder, evaluate=lambda epoch: values, monitor="a")
        assert all(
            type(record[k]) is type(v) and record[k] == v for record in history.records for k, v in plain.items()
        )
    _, again = train(tmp_path, evaluate=lambda epoch: values, monitor="a", resume=True)
    assert again.records != history.records  # other seconds
    assert [r | {"seconds": 0} for r in again.records] == [r | {"seconds": 0} for r in history.records]


@pytest.mark.parametrize(
    ("found", "match"),
    [
        ({"x": Tensor(1.0)}, "Tensor cannot be stored as JSON"),
        ({"x": {1, 2}}, "set cannot be stored as JSON"),
        ({"x": 1j}, "complex cannot be stored as JSON"),
        ({"x": np.complex128(1j)}, "complex cannot be stored as JSON"),
        ({(1, 2): 1.0}, "keys must be str"),
        ({"loss": 1.0}, "give a dict of names other than"),
        (1.0, "give a dict of names other than"),
        (None, "give a dict of names other than"),
        ({"y": 1.0}, "not the monitored 'x' as a number"),
        ({"x": None}, "not the monitored 'x' as a number"),
        ({"x": np.ones(2)}, "not the monitored 'x' as a number"),
    ],
)
def test_metrics_that_cannot_be_stored_are_refused_at_the_first_call(found, match):
    epochs = []
    with pytest.raises(ValueError, match=match) as caught:
        train(evaluate=lambda epoch: epochs.append(epoch) or found, monitor="x")
    assert epochs == [1] and "\n" not in str(caught.value)


def test_what_killed_runs_left_is_removed_and_what_others_write_is_not(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    for name in (f".{METRICS}.{child.pid}.tmp", f".x.json.{os.getpid()}.tmp"):
        (tmp_path / name).write_bytes(b"half")
    kept = {f".{METRICS}.{os.getppid()}.tmp", ".notes.tmp", "mine.5.tmp"}
    for name in kept:
        (tmp_path / name).write_bytes(b"half")
    train(tmp_path, epochs=1)
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, METRICS} | kept


def test_a_folder_that_cannot_be_written_is_known_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    calls = []
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(TrainingError, match=rf"cannot write into {folder}.*choose another") as caught:
            train(folder, prepare=lambda x, rng: calls.append(x) or x)
        assert not calls and "\n" not in str(caught.value)


def test_seconds_of_all_parts_count(tmp_path, monkeypatch):
    """Checkpoints know what went into them before: in all processes, evaluation included."""
    interrupt_after(5, monkeypatch)

    def evaluate(epoch):
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, evaluate=evaluate, checkpoint_seconds=0.0)
    monkeypatch.undo()
    _, first = train(tmp_path, evaluate=evaluate, resume=True)
    assert first.earlier[0] >= 0.05 and first.earlier[1] >= 0.04  # CPU seconds come in hundredths
    _, second = train(tmp_path, evaluate=evaluate, resume=True)
    assert second.earlier[0] >= first.earlier[0] + 0.15
    assert train(evaluate=evaluate)[1].earlier == (0.0, 0.0)
    train(tmp_path / "idle", evaluate=lambda epoch: time.sleep(0.15) or {})
    wall, cpu = train(tmp_path / "idle", evaluate=lambda epoch: time.sleep(0.15) or {}, resume=True)[1].earlier
    assert cpu < wall and wall > 0.6  # a sleeping process spends no CPU


def test_checkpoints_come_as_often_as_asked_and_training_time_is_that_of_steps(tmp_path, monkeypatch):
    """By a clock that goes on by a second with each of an epoch's four steps, and with each evaluation."""
    now, saved = [0.0], []
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(
        training, "save_arrays", lambda path, arrays, about: saved.append((*about["position"][:2], about["seconds"]))
    )
    vae, optimizer, loss = setup()

    def ticking(x, rng):
        now[0] += 1.0
        return loss(x, rng)

    def evaluate(epoch):
        now[0] += 1.0
        return {}

    made = vae, optimizer, ticking
    _, history = train(tmp_path, 2, made, evaluate=evaluate, checkpoint_seconds=2.0)
    assert saved == [(0, 2, 2.0), (1, 0, 0.0), (1, 2, 2.0), (2, 0, 0.0)]
    assert [record["seconds"] for record in history.records] == [4.0, 4.0]


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_damaged_checkpoint(tmp_path, size):
    train(tmp_path, epochs=1)
    path = tmp_path / CHECKPOINT
    content = path.read_bytes()
    path.write_bytes(content[:size])
    with pytest.raises(TrainingError, match="is not a whole minivi checkpoint.*without --resume"):
        train(tmp_path, resume=True)
    assert path.read_bytes() == content[:size]
    train(tmp_path, epochs=1)  # without resume it is replaced
    assert load_arrays(path)[1]["position"] == [1, 0, 0.0]


def watched(folder=None, **more):
    """A run with a monitored metric."""
    settings = {"evaluate": lambda epoch: {"mark": [1.0, 3.0, 2.0, 3.0][epoch - 1]}, "monitor": "mark", "patience": 4}
    return train(folder, **settings | more)


def damages(content, random):
    """A few hundred variants of a file: bits flipped, ends cut off, bytes added, left out and exchanged."""
    for _ in range(250):
        i = int(random.integers(len(content)) if random.random() < 0.5 else random.integers(3000))
        yield content[:i] + bytes([content[i] ^ 1 << int(random.integers(8))]) + content[i + 1 :]
    for _ in range(40):
        yield content[: int(random.integers(len(content)))]
    for n in (1, 7, 1000):
        yield content + bytes(n)
        yield bytes(n) + content
    for _ in range(40):
        i, j = sorted(random.integers(len(content), size=2).tolist())
        yield content[:i] + content[j:] if i < j else b""
        yield content[:i] + random.bytes(j - i + 1) + content[j + 1 :]
        yield content[:i] + content[j:] + content[i:j] if content[i:j] != content[j:] else b"[]"
    yield from (b"[]", b"{}", b"\xff" * 64, (2**63).to_bytes(8, "little") + content[8:], b"[" * 100_000)


def test_no_damage_of_a_checkpoint_goes_unnoticed(tmp_path, monkeypatch):
    """Any changed byte is refused in one line that names file and mend; nothing is loaded, nothing crashes."""
    interrupt_after(6, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        watched(tmp_path, checkpoint_seconds=0.0)
    monkeypatch.undo()
    path = tmp_path / CHECKPOINT
    content, count = path.read_bytes(), 0
    for damaged in damages(content, np.random.default_rng(4)):
        if damaged == content:
            continue
        count += 1
        path.write_bytes(damaged)
        with pytest.raises(TrainingError) as caught:
            load_arrays(path)
        text = str(caught.value)
        assert str(path) in text and "\n" not in text and "without --resume" in text and len(text) < 500
    assert count > 400
    path.write_bytes(content)
    assert same(watched(tmp_path, resume=True)[0].state_dict(), watched()[0].state_dict())


FIELDS = {
    "position": [None, [], [1, 2], [1, 2, 3, 4], [-1, 2, 1.0], [2, 2, 1.0], ["1", 2, 1.0], [1, -1, 1.0], [1, 4, 1.0],
                 [1, 2.0, 1.0], [1, True, 1.0], [1, 3, 1.0], [1, 0, 1.0], [1, 2, float("nan")], [1, 2, "1"], "abc", 5],
    "seconds": [None, -1.0, float("nan"), float("inf"), "1", [1.0]],
    "spent": [None, [], [1.0], [1.0, 2.0, 3.0], [-1.0, 1.0], ["1", 1.0], 3.0, [float("nan"), 1.0]],
    "rng": [None, {}, [], 3, {"bit_generator": "Philox4x32-10", "key": [1, 2, 3, -4], "counter": 0}],
    "epoch_rng": [None, {}, [], 3, {"bit_generator": "Philox4x32-10", "key": [1, 2, 3], "counter": 0}],
    "optimizers": [None, {}, [], {"0.step": -1}, {"0.step": 5}, {"0.step": "6"}, {"0.step": 6, "1.step": 6}],
    "records": [None, [], {}, [1], "abc", [{}], [{"epoch": 1}]],
    "identity": [None, [], 3],
    "rounding": [None, [], "x"],
    "more": [1],
}  # fmt: skip


def test_every_field_of_a_checkpoint_is_validated(tmp_path, monkeypatch):
    """Also behind a right checksum; what is refused leaves model, optimizer and generator as they were."""
    interrupt_after(6, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        watched(tmp_path, checkpoint_seconds=0.0)
    monkeypatch.undo()
    path = tmp_path / CHECKPOINT
    arrays, about = whole = load_arrays(path)
    assert about["position"][:2] == [1, 2] and about.keys() <= FIELDS.keys() | {"format", "recipe"}
    record = about["records"][0]
    changes = [{name: value} for name, values in FIELDS.items() for value in values]
    for key, values in {"epoch": [2, None], "examples": [49, "50"], "loss": [float("nan"), "1"], "seconds": [None],
                        "mark": [None, "1", True]}.items():  # fmt: skip
        changes += [{"records": [record | {key: value}]} for value in values]
        changes += [{"records": [{k: v for k, v in record.items() if k != key}]}]
    cases = [(arrays, about | change) for change in changes]
    cases += [(arrays, {k: v for k, v in about.items() if k != name}) for name in about.keys() - {"format", "recipe"}]
    for name, array in arrays.items():
        others = {k: v for k, v in arrays.items() if k != name}
        wrong = [array[..., None], array.astype("float64")]
        if not name.startswith("optimizers"):
            wrong.append(array * np.float32("nan"))
        cases += [(others, about), (others | {f"{name}x": array}, about), *((others | {name: w}, about) for w in wrong)]
    vae, optimizer, loss = setup()
    rng, weights, state = Generator(9), vae.state_dict(), optimizer.state_dict()
    for arrays, about in cases:
        save_arrays(path, arrays, about)
        with pytest.raises(TrainingError) as caught:
            watched(tmp_path, made=(vae, optimizer, loss), rng=rng, resume=True)
        text = str(caught.value)
        assert str(path) in text and "\n" not in text and "remove it, run without --resume" in text, text
        assert (
            rng.state == Generator(9).state and same(weights, vae.state_dict()) and same(state, optimizer.state_dict())
        )
    assert len(cases) > 150
    watched(tmp_path, epochs=2)  # at the end of an epoch its generator is that of the next one's start
    arrays, about = load_arrays(path)
    save_arrays(path, arrays, about | {"epoch_rng": Generator(9).state})
    with pytest.raises(TrainingError, match="its generator cannot be"):
        watched(tmp_path, epochs=2, resume=True)
    save_arrays(path, *whole)
    watched(tmp_path, made=(vae, optimizer, loss), rng=rng, resume=True)
    assert same(vae.state_dict(), watched()[0].state_dict())


def test_foreign_checkpoint(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(3)}, tmp_path / CHECKPOINT)
    with pytest.raises(TrainingError, match="not a whole minivi checkpoint"):
        train(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a.update(format=99), "has format 99, this version reads 3; start anew"),
        (lambda a: a["rounding"].update(matmul="other"), "matmul was other, is now .*; set MINIVI_MATMUL=other to go"),
        (lambda a: a["rounding"].update(instruction_set="sse"), "instruction_set was sse, is now .*; go on there, or"),
    ],
)
def test_checkpoint_of_another_version_or_rounding(tmp_path, change, match):
    train(tmp_path, epochs=1)
    arrays, about = load_arrays(tmp_path / CHECKPOINT)
    change(about)
    save_arrays(tmp_path / CHECKPOINT, arrays, about)
    with pytest.raises(TrainingError, match=match):
        train(tmp_path, resume=True)
    train(tmp_path, epochs=1)  # the same run may be begun again


def test_checkpoint_of_before_checksums(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(3)}, tmp_path / CHECKPOINT, {"minivi": json.dumps({"format": 2})})
    with pytest.raises(TrainingError, match="has format 2, this version reads 3; start anew"):
        train(tmp_path, resume=True)


# What one may change, and the name that the message gives it; each with how it is made


def scaled(scale):
    return lambda vae: lambda x, rng: -vae.elbo(x, rng).mean() * scale


def threshold(level):
    return lambda x, rng: (rng.random(x.shape) < level).astype("float32")


def run(folder=None, model=None, adam=None, loss=None, data=DATA, seed=0, kind=Adam, **more):
    vae = VAE(6, **{"hidden": (5,), "latents": 2, "rng": Generator(seed)} | (model or {}))
    optimizer = kind(vae.parameters(), **{"step_size": 0.01} | (adam or {}))
    settings = {"epochs": 2, "batch_size": 15, "rng": Generator(9), "folder": folder, "progress": False}
    fit(vae, (loss or scaled(1.0))(vae), optimizer, data, **settings | more)
    return vae


OTHERS = {
    "batch_size": {"batch_size": 20},
    "monitor": {"evaluate": lambda epoch: {"x": 1.0}, "monitor": "x"},
    "data": {"data": np.where(np.arange(300).reshape(50, 6) == 77, 1 - DATA, DATA)},
    "loss": {"loss": scaled(2.0)},
    "prepare": {"prepare": threshold(0.5)},
    "evaluate": {"evaluate": lambda epoch: {"x": 2.0}},
    "optimizer": {"kind": AdaMax},
    "optimizer.step_size": {"adam": {"step_size": 0.02}},
    "optimizer.step_size ": {"adam": {"step_size": constant(0.02)}},
    "optimizer.beta1": {"adam": {"beta1": 0.8}},
    "optimizer.beta2": {"adam": {"beta2": 0.99}},
    "optimizer.eps": {"adam": {"eps": 1e-4}},
    "optimizer.weight_decay": {"adam": {"weight_decay": 0.1}},
    "model.encoder.activation": {"model": {"activation": "softplus"}},
    "model.latents": {"model": {"latents": 3}},
    "model.encoder.layers.0.weight": {"model": {"hidden": (6,)}},
    "rng, the seed,": {"rng": Generator(8)},
    "weights": {"seed": 1},
}


@pytest.mark.parametrize("name", OTHERS)
def test_no_run_goes_on_from_another_or_takes_its_place(tmp_path, name):
    """One line names what differs, with both values; the other run's files stay as they were."""
    run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for resume in (True, False):
        with pytest.raises(
            TrainingError, match=rf"another run: {re.escape(name.strip())} was [^;]+, is now "
        ) as caught:
            run(tmp_path, resume=resume, **OTHERS[name])
        assert "\n" not in str(caught.value) and str(tmp_path / CHECKPOINT) in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    folders = [run(lambda digest: tmp_path / digest, **more) for more in ({}, OTHERS[name])]
    assert len(folders) == len([path for path in tmp_path.iterdir() if path.is_dir()])


def test_fewer_epochs_than_are_done_are_refused(tmp_path):
    run(tmp_path, epochs=3)
    with pytest.raises(TrainingError, match="has 3 epochs and 0 steps done, epochs=2 is less; give more"):
        run(tmp_path, epochs=2, resume=True)


@pytest.mark.parametrize(("steps", "left"), [(6, 2), (5, 1)])
def test_epochs_that_end_before_the_step_that_is_reached_are_refused(steps, left, tmp_path, monkeypatch):
    interrupt_after(steps, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, checkpoint_seconds=0.0)
    monkeypatch.undo()
    with pytest.raises(TrainingError, match=f"has 1 epochs and {left} steps done, epochs=1 is less; give more"):
        train(tmp_path, epochs=1, resume=True)


def test_write_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_atomically(path, b"old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match="No space left on device.*unchanged"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"epochs": -1}, "epochs must be an integer, at least 0; got -1"),
        ({"patience": 2}, "patience needs monitor"),
        ({"monitor": "x"}, "not the monitored 'x'"),
    ],
)
def test_bad_settings(settings, match):
    with pytest.raises(ValueError, match=match):
        train(**settings)


@pytest.mark.parametrize("data", [DATA[:0], (), (DATA[:0], DATA[:0]), (DATA, DATA[:3])], ids=lambda d: f"{len(d)}")
def test_as_many_data_in_each_array(data):
    vae, optimizer, loss = setup()
    with pytest.raises(ValueError, match=r"^fit: \[.*\] data; pass one or more, as many in each array$"):
        fit(vae, loss, optimizer, data, epochs=1, rng=Generator(0), progress=False)


def apart(seed=0):
    """Two losses that share one forward pass, each with an optimizer of its own."""
    vae = VAE(6, (5,), 2, rng=Generator(seed))
    optimizers = [Adam(vae.encoder.parameters(), 0.01), Adam(vae.decoder.parameters(), 0.002)]

    def loss(x, rng):
        log_w = vae.log_weights(x, rng, 4)
        return -bounds.elbo(log_w).mean(), -bounds.iwae(log_w).mean()

    return vae, optimizers, loss


def test_several_optimizers_share_a_forward_pass(tmp_path):
    """Both gradients are taken before either update; a run stopped between resumes to the same bits."""
    vae, optimizers, loss = apart()
    rng = Generator(9)
    encoder, decoder = loss(DATA[rng.permutation(50)], rng)
    gradients = grad(encoder, optimizers[0].parameters), grad(decoder, optimizers[1].parameters)
    for optimizer, g in zip(optimizers, gradients, strict=True):
        optimizer.step(g)
    other, optimizers, loss = apart()
    history = fit(other, loss, optimizers, DATA, epochs=1, batch_size=50, rng=Generator(9), progress=False)
    assert same(vae.state_dict(), other.state_dict())
    assert history.records[0]["loss"] == decoder.item()

    settings = {"batch_size": 15, "progress": False}
    whole, optimizers, loss = apart()
    fit(whole, loss, optimizers, DATA, epochs=4, rng=Generator(9), **settings)
    for epochs in (2, 4):
        again, optimizers, loss = apart()
        fit(again, loss, optimizers, DATA, epochs=epochs, rng=Generator(9), folder=tmp_path, resume=True, **settings)
    assert same(whole.state_dict(), again.state_dict())


def test_a_loss_for_each_optimizer():
    vae, optimizers, loss = apart()
    with pytest.raises(ValueError, match="2 losses for 1 optimizers"):
        fit(vae, loss, optimizers[0], DATA, epochs=1, rng=Generator(0), progress=False)
