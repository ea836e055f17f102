"""Prepared TFDS data sets on disk: found by name, or prepared, or downloaded on request."""

from __future__ import annotations

import atexit
import contextlib
import difflib
import functools
import importlib.util
import io
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import tensorflow_datasets as tfds

from genjax import files
from genjax.data.errors import DataError
from genjax.data.fashion_mnist_6k import FashionMnist6k
from genjax.data.shapes64 import Shapes64

logger = logging.getLogger(__name__)

OWN = {builder.name: builder for builder in (FashionMnist6k, Shapes64)}


def default_data_dir(name: str) -> Path:
    """Where TFDS itself looks for data sets.

    Args:
      name: the data set's.

    Returns:
      $TFDS_DATA_DIR, else ~/tensorflow_datasets. A data set of genjax that is not there, where
      nothing can be written, gets a temporary folder.
    """
    if given := os.environ.get("TFDS_DATA_DIR"):
        return Path(given)
    home = Path(os.path.expanduser("~/tensorflow_datasets"))
    own = OWN.get(name.partition(":")[0])
    if own is None or prepared(f"{own.name}:{own.VERSION}", home):
        return home
    if trouble := files.unwritable(home):
        return _temporary_dir(home, trouble)
    return home


@functools.cache
def _temporary_dir(instead_of: Path, trouble: str) -> Path:
    folder = tempfile.mkdtemp(prefix="genjax-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    logger.warning(
        "%s cannot be written (%s): a data set is prepared in %s until the end; --data.dir names "
        "another place",
        instead_of,
        trouble,
        folder,
    )
    return Path(folder)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # absent, no folder, or not readable
        return []


def _versions(folder: Path) -> list[Path]:
    """The prepared versions in a folder, the newest first."""
    found = [
        path
        for path in _entries(folder)
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and os.path.isfile(path / "dataset_info.json")
    ]
    return sorted(found, key=lambda path: [int(part) for part in path.name.split(".")])[::-1]


def _configs(folder: Path) -> list[Path]:
    """The configurations of a data set that have a prepared version."""
    return [path for path in _entries(folder) if _versions(path)]


def prepared(name: str, data_dir: Path) -> Path | None:
    """Finds a prepared data set.

    Args:
      name: `name[/config][:version]`; by default the newest version, and the only configuration.
      data_dir: where prepared data sets are.

    Returns:
      Its directory, or None.

    Raises:
      DataError: where there are several configurations and none is named.
    """
    base, _, version = name.partition(":")
    folder = data_dir / base
    configs = _configs(folder)
    if not _versions(folder) and configs:
        if len(configs) > 1:
            names = ", ".join(f"{base}/{path.name}" for path in configs)
            raise DataError(f"{base} has several configurations: take one of {names}")
        folder = configs[0]
    versions = _versions(folder)
    return next((path for path in versions if version in ("", path.name)), None)


def find_or_prepare(name: str, data_dir: Path, *, download: bool) -> Path:
    """Finds a prepared data set, or prepares it.

    The data sets of genjax are prepared at their first use, others only with `download`. Nothing
    accesses the network without it.

    Args:
      name: `name[/config][:version]`.
      data_dir: where prepared data sets are or will be.
      download: whether TFDS may download and prepare the data set.

    Returns:
      Its directory.

    Raises:
      DataError: where the data set is unknown, absent or cannot be prepared.
    """
    if not re.fullmatch(r"[\w.-]*\w(/[\w.+-]+)?(:[\d.]+)?", name):
        raise DataError(f"{name!r} names no data set: write name, name/config or name:1.0.0")
    base, _, version = name.partition(":")
    if name in OWN:  # the version that this code generates
        name = f"{name}:{OWN[name].VERSION}"
    found = prepared(name, data_dir)
    if found is None and base in OWN:
        _prepare_own(OWN[base], data_dir)
        found = prepared(name, data_dir)
    if found is None and (other := prepared(base, data_dir)):
        raise DataError(f"{data_dir} holds {base}:{other.name}, not {version}: ask for that one")
    if found is None:
        _refuse_unknown(base.partition("/")[0], data_dir)
        if not download:
            raise DataError(
                f"{name} is not prepared in {data_dir}: name the data directory that holds it,"
                f" or allow the download, or run: {_command(name, data_dir)}"
            )
        _download(name, data_dir)
        found = prepared(name, data_dir)
    if found is None:
        raise DataError(f"TFDS prepared {name}, but not in {data_dir}")
    return found


def _prepare_own(builder: type[tfds.core.GeneratorBasedBuilder], data_dir: Path) -> None:
    """Prepares a data set of genjax atomically.

    It is written into a temporary directory and renamed: of two processes that start at once the
    second finds the complete data set, and a killed one leaves only a directory that is not read.
    """
    final = data_dir / builder.name / str(builder.VERSION)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _sweep(final.parent)
        draft = Path(tempfile.mkdtemp(prefix=".preparing-", dir=final.parent))
    except OSError as error:
        raise DataError(
            f"cannot write {builder.name} into {data_dir} ({error.strerror}):"
            " give another data directory"
        ) from error
    print(f"Preparing {builder.name} in {data_dir} (once)", file=sys.stderr)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS would call it a download
            tfds.disable_progress_bar()
            builder(data_dir=draft, file_format="array_record").download_and_prepare(
                download_config=tfds.download.DownloadConfig(compute_stats="skip")
            )
        (draft / builder.name / str(builder.VERSION)).rename(final)
    except OSError as error:
        if not (final / "dataset_info.json").is_file():  # else another process has prepared it
            raise DataError(f"cannot prepare {builder.name} in {data_dir}: {error}") from error
    finally:
        tfds.enable_progress_bar()
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes temporary directories of killed processes, by their age."""
    for draft in folder.glob(".preparing-*"):
        if time.time() - draft.stat().st_mtime > 3600:
            shutil.rmtree(draft, ignore_errors=True)


def _refuse_unknown(base: str, data_dir: Path) -> None:
    here = {path.name for path in _entries(data_dir) if _versions(path) or _configs(path)}
    known = {*OWN, *here, *tfds.list_builders(with_community_datasets=False)}
    if base not in known:
        nearest = difflib.get_close_matches(base, sorted(known), 1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"try {' or '.join(sorted(OWN))}"
        raise DataError(f"unknown data set {base!r}, neither TFDS' nor in {data_dir}: {hint}")


def _program(name: str, data_dir: Path) -> str:
    # Not `tfds build`: it cannot start where apache_beam is not installed.
    return (
        "import tensorflow_datasets as tfds; tfds.builder("
        f"{name!r}, data_dir={str(data_dir)!r}, file_format='array_record').download_and_prepare()"
    )


def _command(name: str, data_dir: Path) -> str:
    return f'python -c "{_program(name, data_dir)}"'


def _download(name: str, data_dir: Path) -> None:
    """Lets TFDS download and prepare a data set, in another process.

    In another process because TFDS imports TensorFlow, which would allocate the accelerator's
    memory.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise DataError(
            f"TFDS prepares {name} with TensorFlow (reading it needs none): pip install"
            f" tensorflow-cpu and start again, or run elsewhere: {_command(name, data_dir)}"
        )
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    if not any(os.environ.get(key) or os.environ.get(key.upper()) for key in proxies):
        urls = tfds.builder_cls(re.split("[/:]", name)[0]).url_infos
        for host in {urlsplit(url).hostname for url in urls}:
            try:  # TFDS itself would retry for minutes
                socket.create_connection((host, 443), timeout=5).close()
            except OSError as error:
                raise DataError(f"cannot download {name}: cannot reach {host} ({error})") from error
    ended = subprocess.run(
        [sys.executable, "-c", _program(name, data_dir)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        check=False,
    )
    if ended.returncode:
        raise DataError(f"TFDS could not prepare {name}: its messages are above")
