"""Quick compilation for many small programs."""

import os

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Turns LLVM's optimizer off, half of the time; JAX_DISABLE_MOST_OPTIMIZATIONS=0 keeps it."""
    quick = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") != "0"
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
