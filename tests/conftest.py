"""Shared by the tests."""

import numpy as np
import pytest


def pytest_collection_modifyitems(config, items):
    """Slow tests run when asked for by a marker expression, such as ``-m slow``, or by name."""
    if not config.option.markexpr and not any("::" in argument for argument in config.args):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture
def rng():
    """A NumPy generator, the same for each test."""
    return np.random.default_rng(0)
