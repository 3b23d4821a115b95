"""Shared by the tests."""

import numpy as np
import pytest


@pytest.fixture
def rng():
    """A NumPy generator, the same for each test."""
    return np.random.default_rng(0)
