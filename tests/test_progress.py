"""Progress bars: who sees them, and what compiling does to their estimate."""

import io
import sys

import numpy as np
import pytest

from minivi import kernels, progress
from minivi.evaluation import log_likelihood, log_likelihood_by_quadrature
from minivi.models import VAE
from minivi.optim import Adam
from minivi.random import Generator
from minivi.training import fit


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "notebook", "asked", "shown"),
    [(Terminal(), False, True, True), (Terminal(), False, "name", True), (Terminal(), True, False, False),
     (io.StringIO(), False, True, False), (io.StringIO(), True, True, True), (None, False, True, False)],
)  # fmt: skip
def test_a_bar_is_shown_where_somebody_sees_it(stream, notebook, asked, shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "in_notebook", lambda: notebook)
    assert progress.visible(asked) is shown
    assert progress.bar([1, 2], progress=asked, label="bar", unit="step").disable is not shown


def test_compiling_is_said_and_does_not_count_in_the_estimate(monkeypatch):
    stream, now = Terminal(), [1000.0]
    monkeypatch.setattr(sys, "stderr", stream)
    bar = progress.bar(None, progress="fit", label="bar", unit="step", total=10, mininterval=0)
    bar.ncols, bar.dynamic_ncols, bar._time = 300, None, lambda: now[0]
    bar.start_t = bar.last_print_t = now[0]
    with bar, progress.Compiling(bar) as compiling:
        for step in range(5):
            if step == 0:
                for tell in kernels.on_compile:
                    tell("first")
                    tell("second")
                now[0] += 100
            compiling.step_done()
            now[0] += 1
            bar.update(1)
        assert bar.format_dict["elapsed"] == 5 and bar.format_dict["rate"] == pytest.approx(1)
    assert "compiling kernels, once" in stream.getvalue()
    assert compiling._tell not in kernels.on_compile


def _fit(vae, x):
    options = {"epochs": 2, "rng": Generator(0)}
    fit(vae, lambda x, rng: -vae.elbo(x, rng).mean(), Adam(vae.parameters()), x, **options)


@pytest.mark.parametrize(
    ("work", "says", "stays"),
    [
        (lambda vae, x: log_likelihood(vae, x, Generator(0), 5, progress=True), ["log p(x)", "/3 [", "batch"], False),
        (lambda vae, x: log_likelihood_by_quadrature(vae, x, 9, progress=True), ["quadrature", "/1 [", "chunk"], False),
        (_fit, ["training", "6/6", "step", "epoch 2, loss"], True),
    ],
)
def test_bars_say_what_is_counted_and_only_that_of_training_stays(work, says, stays, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    work(VAE(2, (2,), 1, rng=Generator(0)), np.ones((210, 2), "float32"))
    assert all(word in stream.getvalue() for word in says)
    assert bool(stream.getvalue().split("\r")[-1].strip()) is stays
