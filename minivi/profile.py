"""Where the time of a compiled step goes, and its memory: ``minivi profile vae``.

    step   |--Python--|==== launches in one call ====|-Python-|==== launches ====|--Python--|== updates ==|
                       gemm | tanh | gemm | ...       a guard                     checks      adam | adam

Launches are timed by the CPU's own clock while real steps run: thread 0 reads it after each row of a table. What is
left of a step is Python: it copies the batch, looks at guards and the loss, and asks the optimizers for their numbers.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from minivi import tables
from minivi.program import Program, Step, on_program

MEGABYTE = 2**20


class Profile:
    """Watches a program from now on.

    Args:
        step: whose it is.
        program: its program.
    """

    def __init__(self, step: Step, program: Program):
        self.step, self.program, self.steps, self.seconds = step, program, 0, 0.0
        self.tables = program.tables()
        for table in self.tables:
            table.clock[0] = 1
        self._inside, replay = 0.0, step._replay
        for table in self.tables:
            table.run = self._timed(table)

        def timed(which, *args):
            begun = time.perf_counter()
            value = replay(which, *args)
            if which is program:
                self.seconds, self.steps = self.seconds + time.perf_counter() - begun, self.steps + 1
            return value

        step._replay = timed

    def _timed(self, table):
        run = table.run

        def timed():
            table._apart = 0  # the clock is the team's
            begun = time.perf_counter()
            run()
            self._inside += time.perf_counter() - begun

        return timed

    def rows(self) -> list[tuple[str, float, float]]:
        """Of each kernel its name, launches and milliseconds a step; then Python's; the longest first."""
        ticks, count = Counter(), Counter()
        for table in self.tables:
            for name, spent in zip(table.names, table.clock[1:].tolist(), strict=True):
                ticks[name] += spent
                count[name] += 1
        a_tick = self._inside / max(1, ticks.total()) / max(1, self.steps)
        rows = [(name, count[name], 1e3 * spent * a_tick) for name, spent in ticks.items()]
        rows.append(("Python", len(self.program.actions), 1e3 * (self.seconds - self._inside) / max(1, self.steps)))
        return sorted(rows, key=lambda row: -row[2])

    def text(self) -> str:
        """The table, and a line on the step's memory."""
        total, program = 1e3 * self.seconds / max(1, self.steps), self.program
        lines = [["kernel", "times a step", "ms a step", "share"]]
        for name, count, spent in self.rows():
            lines.append([name, str(count), f"{spent:.3f}", f"{spent / max(total, 1e-12):.0%}"])
        lines.append(["step", "", f"{total:.3f}", ""])
        parameters = sum({id(p): p._data.nbytes for o in self.step.optimizers for p in o.parameters}.values())
        kept = sum(a.nbytes for o in self.step.optimizers for d in o._arrays for a in d.values())
        gradients = sum(g.nbytes for several in program.gradients for g in several)
        memory = {"intermediates": program.arena.nbytes, "gradients": gradients, "parameters": parameters}
        memory |= {"optimizers": kept, "batch": sum(a.nbytes for a in program.inputs)}
        told = ", ".join(f"{name} {size / MEGABYTE:.1f}" for name, size in memory.items())
        return f"{tables.text_table(lines, (1, 2, 3))}\n{self.steps} steps; memory in MB: {told}"


class Watch:
    """``with Watch() as watch:`` every program that is made within has its :class:`Profile` in ``watch.profiles``."""

    def __init__(self):
        self.profiles: list[Profile] = []

    def __enter__(self) -> Watch:
        on_program.append(self._tell)
        return self

    def __exit__(self, *error: Any) -> None:
        on_program.remove(self._tell)

    def _tell(self, step, program):
        self.profiles.append(Profile(step, program))
