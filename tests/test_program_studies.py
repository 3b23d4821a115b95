"""Every loss that a chapter's study trains: a hundred steps give the bits of eager steps, on one to three threads.

Each study runs at the budget quick. Whatever it trains is trained for STEPS steps, of which each that runs as a program
is done once more eagerly, from the same state; then its training goes on without any steps. The arena is filled with
NaN before each step, so that nothing comes from the step before.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
ROOT = Path(__file__).parents[1]
STEPS = 100
QUICK, SLOW = ("ch06_dropout.table",), ("ch01", "ch02", "ch03", "ch04", "ch05", "ch06", "ch07", "report")


def check(prefix, seconds):
    """Run all experiments whose key begins with ``prefix``, each for so long at most; a line for each of their fits."""
    from minivi import experiments, training
    from minivi.kernels import set_threads
    from minivi.program import Step

    class Enough(BaseException):
        pass

    fits = []

    class Checked(Step):
        """A Step that compares."""

        def __init__(self, loss, optimizers, *, compiled=True, quiet=False):
            set_threads(1 + len(fits) % 3)
            super().__init__(loss, optimizers, compiled=True, quiet=True)
            self.done, self.last = 0, 0.0
            fits.append(self)

        def __call__(self, x, rng):
            self.done += 1
            if self.done <= STEPS:
                self.last = super().__call__(x, rng)
            return self.last

        def _state(self, rng):
            arrays = [p._data for o in self.optimizers for p in o.parameters]
            arrays += [a for o in self.optimizers for a in _named(o).values()]
            return [a.copy() for a in arrays], [o.steps for o in self.optimizers], rng.state, arrays

        def _replay(self, program, x, batch, rng):
            program.arena[:] = 255
            values, steps, state, arrays = self._state(rng)
            value = super()._replay(program, x, batch, rng)
            ours = self._state(rng)
            for a, before in zip(arrays, values, strict=True):
                a[...] = before
            for o, count in zip(self.optimizers, steps, strict=True):
                o.steps = count
                if hasattr(o, "average"):
                    o.average.steps = count
            rng.state = state
            want, theirs = self._eager(x, rng), self._state(rng)
            assert value == want, f"the loss is {value}, eagerly {want}"
            assert ours[1:3] == theirs[1:3]
            assert all(a.tobytes() == b.tobytes() for a, b in zip(ours[0], theirs[0], strict=True)), "other bits"
            return value

    def _named(o):
        return o._named() | (o.average._named() if hasattr(o, "average") else {})

    def stop(*_):
        raise Enough

    training.Step = Checked
    experiments.load_chapters()
    signal.signal(signal.SIGALRM, stop)
    for key in experiments.EXPERIMENTS:
        if not key.startswith(prefix):
            continue
        begun = len(fits)
        signal.alarm(seconds)
        try:
            experiments.run_experiments(key, budget="quick", out=sys.argv[3], progress=False)
        except Enough:
            pass
        except AssertionError:
            raise
        except Exception as error:  # of claims, and of what expects trained weights
            if "other bits" in str(error) or "the loss is" in str(error):
                raise
        finally:
            signal.alarm(0)
        for fit in fits[begun:]:
            print(f"FIT {key} {fit.compiled} {min(fit.done, STEPS)} {fit.why}", flush=True)


@pytest.mark.skipif(not JIT or not hasattr(signal, "SIGALRM"), reason="without JIT every step is eager")
@pytest.mark.parametrize("group", [*QUICK, *(pytest.param(group, marks=pytest.mark.slow) for group in SLOW)])
def test_the_studies_own_losses(group, tmp_path):
    environment = {**os.environ, "NUMBA_NUM_THREADS": "3", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, group, "20", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    fits = [line.split(" ", 4) for line in done.stdout.splitlines() if line.startswith("FIT ")]
    long_ones = [fit for fit in fits if int(fit[3]) > 20]
    assert not long_ones or any(int(fit[2]) > 20 for fit in long_ones), done.stdout[-3000:]
    assert all(int(fit[2]) or fit[4] for fit in long_ones), "what stays eager says why"


if __name__ == "__main__":
    check(sys.argv[1], int(sys.argv[2]))
