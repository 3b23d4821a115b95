"""The profile of a step names its kernels, adds up to the step's time, and changes no number."""

import os

import numpy as np
import pytest

from minivi import Generator, cli, optim
from minivi.models import VAE
from minivi.program import Step

JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
pytestmark = pytest.mark.skipif(not JIT, reason="without JIT every step is eager")


def trained(steps=40):
    model = VAE(30, (20,), 3, rng=Generator(0))
    step = Step(lambda x, rng: -model.elbo(x, rng).mean(), optim.Adam(model.parameters()), quiet=True)
    stream, rng = np.random.default_rng(0), Generator(1)
    values = [step((stream.random((50, 30)) < 0.2).astype("f4"), rng) for _ in range(steps)]
    return step, values, [p.data.tobytes() for p in model.parameters()]


def test_it_adds_up_and_changes_nothing():
    from minivi.profile import Watch

    _, values, weights = trained()
    with Watch() as watch:
        step, watched, watched_weights = trained()
    assert watched == values and watched_weights == weights
    (profile,) = watch.profiles
    assert profile.steps == step.compiled == 35
    rows = {name: (count, spent) for name, count, spent in profile.rows()}
    assert rows["adam"][0] == 8 and rows["normal32"][0] == 1 and rows["gemm"][0] > 3 and rows["Python"][1] > 0
    assert sum(spent for _, spent in rows.values()) == pytest.approx(1e3 * profile.seconds / profile.steps, rel=1e-3)
    assert all(spent >= 0 for _, spent in rows.values())
    assert "intermediates" in profile.text()
    assert not Watch().__enter__().__exit__()


def test_the_command(capsys):
    assert cli.main(["profile", "vae", "--steps", "20"]) == 0
    told = capsys.readouterr().out
    assert "gemm" in told and "memory in MB" in told
    assert cli.main(["profile", "vae", "--steps", "3"]) == 2
    assert "no step ran as a program" in capsys.readouterr().err
