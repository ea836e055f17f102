"""Tests of a GPU: `python -m pytest -m gpu -n 8`, skipped where there is none.

GENJAX_TEST_PLATFORM=cpu takes the CPU for the device, to try the tests themselves.
"""

import os

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def device():
    """The device that is tested."""
    found = jax.devices()[0]
    if found.platform == "cpu" and os.environ.get("GENJAX_TEST_PLATFORM") != "cpu":
        pytest.skip("needs a GPU, and `-m gpu` on the command line")
    return found


@pytest.fixture(scope="session")
def cpu():
    """What it is compared with."""
    return jax.devices("cpu")[0]
