"""Shared by the tests."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng():
    """A NumPy generator, the same for each test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def mnist_folder():
    """The folder with real MNIST, or a skip with the reason."""
    folder = os.environ.get("MINIVI_DATA", "")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("MINIVI_DATA names no folder with mnist/: set it, or run `minivi data fetch mnist`")
    return Path(folder)
