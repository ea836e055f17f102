"""What the environment breaks at the start: one line and the exit code, or done without."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genjax import files
from genjax.cli import restart
from genjax.data import preparation
from genjax.errors import ConfigError, environment_error
from genjax.run.directory import run_directory

ROOT = Path(__file__).parents[2]
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def ended(*words, where=ROOT, **environment):
    """The exit code, output and errors of a module."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr.decode().splitlines()


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("JAX_PLATFORMS", "bogus", "Unable to initialize backend 'bogus'"),
        ("JAX_ENABLE_X64", "garbage", "invalid truth value 'garbage'"),
        ("XLA_FLAGS", "--xla_nonsense=3", "Unknown flag in XLA_FLAGS"),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=x", "Flag parsing failed"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_in_one_line(variable, value, says, tmp_path):
    flags = ["--run.dir", tmp_path / "run", "--run.steps", 0]
    code, _, lines = ended("experiments.vae_fashion", *flags, **{variable: value})
    assert code == 2
    assert lines[-1].startswith(f"error: {variable}={value}")
    assert says in lines[-1]
    assert len(lines) == 1 or lines[0].startswith("Preparing ")


def test_the_embedded_data_load_without_a_home_and_an_ascii_terminal_shows_any_path(tmp_path):
    folder = tmp_path / "ü"
    folder.mkdir()
    home = {"HOME": os.devnull, "JAX_COMPILATION_CACHE_DIR": str(folder / "file")}
    (folder / "file").touch()
    environment = {k: v for k, v in os.environ.items() if k != "TFDS_DATA_DIR"}
    done = subprocess.run(
        [sys.executable, "-m", "experiments.vae_fashion", "--run.steps", "0", "--run.batch", "8"],
        cwd=folder,
        env={**environment, **home, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "compiled programs are not kept, as" in done.stderr
    assert f"{os.devnull}/tensorflow_datasets cannot be written" in done.stdout
    assert "?/runs/vae_fashion" in done.stdout
    (made,) = [line.split()[-2] for line in done.stderr.splitlines() if "Preparing" in line]
    assert not Path(made).exists()  # at the end


def test_an_ascii_terminal_shows_help_and_listings():
    code, out, _ = ended("experiments", **ASCII)
    assert (code, b"vae_fashion" in out) == (0, True)
    code, out, _ = ended("experiments.vae_fashion", "--help", **ASCII)
    assert (code, b"--run.steps" in out) == (0, True)


def test_a_directory_without_an_encoding_is_refused(monkeypatch):
    monkeypatch.setattr(files, "user_path", lambda given: Path("/\udcc3\udcbc") / given)
    with pytest.raises(ConfigError, match=r"no text: .* PYTHONUTF8=1"):
        run_directory("name", None)


def test_an_error_is_of_the_environment_where_it_names_a_variable_that_is_set(monkeypatch):
    monkeypatch.setenv("JAX_SOME_FLAG", "x\x1b")
    for text in ("value of JAX_SOME_FLAG", "JAX flag jax_some_flag"):
        assert environment_error(ValueError(text)) == f"JAX_SOME_FLAG=x?: {text}"
    assert environment_error(ValueError("RESOURCE_EXHAUSTED in jax_other_flag")) is None
    assert environment_error(ConfigError("JAX_SOME_FLAG")) is None


def test_streams_print_what_their_encoding_lacks_and_closed_ones_nothing(monkeypatch):
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    monkeypatch.setattr(sys, "stderr", None)
    restart.open_streams()
    print("ü…", flush=True)
    print("into nothing", file=sys.stderr)
    assert ascii_only.buffer.getvalue() == b"??\n"
    sys.stderr.close()


PROBE = """
import sys
sys.orig_argv, sys.argv = ["python", "-m", "x"], ["-m"]
import experiments, os
print(os.environ["TF_CPP_MIN_LOG_LEVEL"], "jax" in sys.modules)
"""


@pytest.mark.parametrize(("given", "found"), [(None, "3"), ("0", "0")])
def test_the_compilers_alarms_are_silenced_before_jax_is_imported(given, found):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": given} if given else {}
    environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=0"  # or else it re-executes itself
    done = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"{found} False\n"


def test_a_folder_that_cannot_be_written_has_a_reason(tmp_path):
    assert files.unwritable(tmp_path / "new" / "folder") is None
    (tmp_path / "file").touch()
    assert files.unwritable(tmp_path / "file" / "below") == "Not a directory"
    assert files.unwritable(Path("~/below")) == "there is no home directory"


def test_prepared_data_are_found_where_nothing_can_be_written(monkeypatch, tmp_path):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(files, "unwritable", lambda folder: "Read-only file system")
    home = tmp_path / "tensorflow_datasets"
    assert preparation.default_data_dir("cifar10") == home
    monkeypatch.setattr(preparation, "prepared", lambda name, where: where / name)
    assert preparation.default_data_dir("shapes64") == home
    monkeypatch.setattr(preparation, "prepared", lambda name, where: None)
    assert preparation.default_data_dir("shapes64").name.startswith("genjax-")
    monkeypatch.setenv("TFDS_DATA_DIR", "/given")
    assert preparation.default_data_dir("shapes64") == Path("/given")
