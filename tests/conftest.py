"""Eight simulated devices, rank promotion and warnings as errors, for every test."""

import gc
import os
import socket
import tempfile
from importlib.metadata import version

# Before jax starts its backend; un-awaited steps on N simulated devices need 2N threads.
os.environ["PJRT_NPROC"] = "16"
os.environ["JAX_PLATFORMS"] = os.environ.get("GENJAX_TEST_PLATFORM", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
# Two thirds of the time of compilation, which is most of the tests'; later versions lack it.
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
# Shared by the workers of one test run: a program that occurs twice is compiled once.
_run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{tempfile.gettempdir()}/genjax-tests-{_run}")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # workers share a GPU

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
# LLVM's optimizer takes half of the time; JAX_DISABLE_MOST_OPTIMIZATIONS=0 keeps it.
QUICK = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") != "0"
jax.config.update("jax_disable_most_optimizations", QUICK)  # while modules are imported, too


@pytest.fixture(scope="session")
def own_sets(tmp_path_factory):
    """A TFDS data directory shared by the workers, with the data sets of genjax once used."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "sets"


# Experiments compute for longer than they compile; a GPU is tested as users have it.
OPTIMIZED = {"experiments", "gpu"}
OPTIMIZED |= {"test_earlier_run", "test_resume"}  # their bits are those of runs as users start them


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request):
    """Keeps LLVM's optimizer for the modules that need it."""
    optimized = bool(OPTIMIZED & {request.path.parent.name, request.path.stem})
    jax.config.update("jax_disable_most_optimizations", QUICK and not optimized)


@pytest.fixture(autouse=True, scope="module")
def uncollected():
    """Spares later collections the traces that jax keeps, a tenth of the time of all tests."""
    yield
    gc.collect()
    gc.freeze()


# Rooms whose tests train, start processes or read data sets: seconds each.
HEAVY = {"benchmarks", "cli", "data", "edit", "experiments", "gpu", "run", "tools", "train"}


def pytest_configure(config):
    """Lets `-m gpu` find the GPU; all other tests, and what they start, compute on the CPU."""
    if config.option.markexpr == "gpu" and "GENJAX_TEST_PLATFORM" not in os.environ:
        os.environ.pop("JAX_PLATFORMS")
        jax.config.update("jax_platforms", None)


def pytest_ignore_collect(collection_path, config):
    """Spares each worker of `-m fast` the imports of rooms that have no quick test."""
    quick = config.option.markexpr == "fast"
    return True if quick and collection_path.name in HEAVY else None


def pytest_collection_modifyitems(items):
    """Marks as `fast` every test of the other rooms that is not marked `heavy` or `slow`."""
    for item in items:
        marked = any(map(item.get_closest_marker, ("heavy", "slow")))
        if item.path.parent.name not in HEAVY and not marked:
            item.add_marker(pytest.mark.fast)


@pytest.fixture
def no_network(monkeypatch):
    """Fails the test where anything looks up a host, as TFDS' own attempt to download does."""

    def lookup(host, *_, **__):
        pytest.fail(f"looked up {host}")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
