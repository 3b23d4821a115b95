"""The loop: what it computes, what it writes, and that a killed run resumes to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minivi import bounds, ops
from minivi.models import VAE
from minivi.optim import Adam
from minivi.random import Generator
from minivi.tensor import grad
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


def setup(seed=0):
    vae = VAE(6, (5,), 2, rng=Generator(seed))
    return vae, Adam(vae.parameters(), 0.01), lambda x, rng: -vae.elbo(x, rng).mean()


def train(folder=None, epochs=4, **more):
    vae, optimizer, loss = setup()
    history = fit(
        vae,
        loss,
        optimizer,
        DATA,
        epochs=epochs,
        batch_size=15,
        rng=Generator(9),
        folder=folder,
        progress=False,
        **more,
    )
    return vae, history


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
def test_interrupted_anywhere_resumes_to_the_same_bits(tmp_path, stop):
    """Ctrl-C after some steps, checkpoints after every one: in mid-epoch, at its end, in a later epoch."""
    whole, history = train()

    vae, optimizer, loss = setup()
    count = 0

    def interrupted(x, rng):
        nonlocal count
        count += 1
        if count > stop:
            raise KeyboardInterrupt
        return loss(x, rng)

    settings = dict(epochs=4, batch_size=15, folder=tmp_path, progress=False, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(vae, interrupted, optimizer, DATA, rng=Generator(9), **settings)
    vae, optimizer, loss = setup(seed=77)  # other initial weights: all must come from the checkpoint
    resumed = fit(vae, loss, optimizer, DATA, rng=Generator(1), resume=True, **settings)
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
def test_killed_ten_times_ends_in_the_same_bits(tmp_path):
    """A child process is killed at random instants, also in the middle of writing, and started again each time."""
    epochs = 40
    vae, optimizer, loss = setup()
    whole = fit(vae, loss, optimizer, DATA, epochs=epochs, batch_size=5, rng=Generator(9), progress=False)
    code = CHILD.format(tests=os.path.dirname(__file__), epochs=epochs, folder=str(tmp_path))
    delays = np.random.default_rng(3).uniform(0.02, 0.35, 10)
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
    assert kills == 10, "the run was over before the last kill: make it longer"
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


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_damaged_checkpoint(tmp_path, size):
    train(tmp_path, epochs=1)
    path = tmp_path / CHECKPOINT
    content = path.read_bytes()
    path.write_bytes(content[:size])
    with pytest.raises(TrainingError, match="is not a whole minivi checkpoint.*without --resume"):
        train(tmp_path, resume=True)
    assert path.read_bytes() == content[:size]


def test_foreign_checkpoint(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(3)}, tmp_path / CHECKPOINT)
    with pytest.raises(TrainingError, match="not a whole minivi checkpoint"):
        train(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a["identity"].update(batch_size=7), "belongs to a run with"),
        (lambda a: a.update(format=99), "has format 99"),
        (lambda a: a.update(matmul="other"), "MINIVI_MATMUL=other"),
    ],
)
def test_checkpoint_of_another_run(tmp_path, change, match):
    train(tmp_path, epochs=1)
    arrays, about = load_arrays(tmp_path / CHECKPOINT)
    change(about)
    save_arrays(tmp_path / CHECKPOINT, arrays, about)
    with pytest.raises(TrainingError, match=match):
        train(tmp_path, resume=True)


def test_checkpoint_of_another_model(tmp_path):
    train(tmp_path, epochs=1)
    vae = VAE(6, (7,), 2, rng=Generator(0))
    with pytest.raises(TrainingError, match=r"encoder.layers.0.weight is float32 of shape \(6, 7\)"):
        fit(vae, lambda x, rng: -vae.elbo(x, rng).mean(), Adam(vae.parameters(), 0.01), DATA, epochs=2, batch_size=15,
            rng=Generator(0), folder=tmp_path, resume=True, progress=False)  # fmt: skip


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
        again, optimizers, loss = apart(seed=epochs)
        if epochs == 2:
            again, optimizers, loss = apart()
        fit(again, loss, optimizers, DATA, epochs=epochs, rng=Generator(9), folder=tmp_path, resume=True, **settings)
    assert same(whole.state_dict(), again.state_dict())


def test_a_loss_for_each_optimizer():
    vae, optimizers, loss = apart()
    with pytest.raises(ValueError, match="2 losses for 1 optimizers"):
        fit(vae, loss, optimizers[0], DATA, epochs=1, rng=Generator(0), progress=False)
