"""CPU seconds of pieces of code that are compared: all in turn, round after round, so that a slow spell meets all."""

import time

import numpy as np


def seconds_in_turn(jobs, rounds, idle=1):
    """CPU seconds of each of ``jobs``, functions by name: (rounds,) each; ``idle`` rounds before them compile."""
    spent = {name: [] for name in jobs}
    for _ in range(idle + rounds):
        for name, job in jobs.items():
            since = time.process_time()
            job()
            spent[name].append(time.process_time() - since)
    return {name: np.array(each[idle:]) for name, each in spent.items()}
