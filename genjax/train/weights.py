"""Trees of arrays as safetensors files: names, shapes, numbers, and no code."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from genjax.errors import GenjaxError, first_line
from genjax.files import atomic_path
from genjax.train.state import Tree

_DTYPES = {
    "bool": "BOOL",
    "bfloat16": "BF16",
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}


class WeightsError(GenjaxError):
    """Weights cannot be written or read; the message is one line."""


def save(path: Path, tree: Tree, metadata: Mapping[str, str]) -> None:
    """Writes every array of a tree under its path in the tree, joined by dots.

    The file is written atomically; a link at `path` is replaced, not followed.

    Args:
      path: where the file shall be.
      tree: arrays.
      metadata: text to put beside them.

    Raises:
      ValueError: where two arrays would have one name.
      WeightsError: where the file cannot be written.
    """
    # The writer takes the bytes of an array as they lie, in whatever order.
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in named(tree).items()}
    try:
        with atomic_path(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(arrays, temporary, dict(metadata))
            temporary.chmod(mode)  # the writer makes files that nobody else can read
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be written: {first_line(error)}") from error


def load(path: Path, like: Tree) -> tuple[Tree, dict[str, str]]:
    """The arrays of a file as a tree like another.

    All three of names, shapes and types are compared before an array is read.

    Args:
      path: a file that `save` wrote, or anybody's.
      like: a tree of anything with shape and dtype.

    Returns:
      The tree of NumPy arrays, and the file's metadata.

    Raises:
      WeightsError: where the file is damaged, or holds another architecture; the message names the
        first array that differs.
    """
    expected = named(like)
    with _opened(path) as file:
        there = set(file.keys())
        for name in sorted(there | expected.keys()):
            found = _outline(file, name) if name in there else "absent"
            wanted = "absent"
            if name in expected:
                leaf = expected[name]
                wanted = f"{_DTYPES[np.dtype(leaf.dtype).name]} {list(leaf.shape)}"
            if found != wanted:
                raise WeightsError(
                    f"{path} holds another architecture: {name} is {found} there, {wanted} here"
                )
        arrays = [file.get_tensor(name) for name in expected]
        return jax.tree.unflatten(jax.tree.structure(like), arrays), dict(file.metadata() or {})


def load_nested(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays of a file of unknown architecture; `load` checks one that is known.

    Args:
      path: a file that `save` wrote, or anybody's.

    Returns:
      Nested dicts of NumPy arrays, the names taken apart at their dots, and the file's metadata.

    Raises:
      WeightsError: where the file is damaged.
    """
    tree: dict[str, Any] = {}
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118, it is no dict
            *parents, last = name.split(".")
            place = tree
            for parent in parents:
                place = place.setdefault(parent, {})
                if not isinstance(place, dict):
                    raise WeightsError(f"{path} is damaged: {name} lies inside an array")
            if last in place:
                raise WeightsError(f"{path} is damaged: {name} is there twice")
            place[last] = file.get_tensor(name)
        return tree, dict(file.metadata() or {})


def named(tree: Tree) -> dict[str, Any]:
    """The leaves of a tree by their paths, joined by dots.

    Args:
      tree: of anything.

    Returns:
      {path: leaf} in the order of the leaves.

    Raises:
      ValueError: where two would have one name.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError("two arrays have the same name once their paths are joined by dots")
    return named


def first_difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """The first array that differs between two architectures.

    Args:
      there: {name: anything with shape and dtype}.
      here: the same of the other.

    Returns:
      In words, with its name, type and shape; None where they are equal.
    """

    def outline(array: Any) -> str:
        return "absent" if array is None else f"{np.dtype(array.dtype)}{list(array.shape)}"

    for name in sorted(there.keys() | here.keys()):
        ours, theirs = outline(here.get(name)), outline(there.get(name))
        if ours != theirs:
            return f"{name} is {theirs} there and {ours} here"
    return None


def _outline(file: Any, name: str) -> str:
    outline = file.get_slice(name)
    return f"{outline.get_dtype()} {outline.get_shape()}"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():  # opening a pipe would wait for ever
        raise WeightsError(f"{path} is no file")
    try:
        with safe_open(path, "numpy") as file:
            yield file
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is damaged: {first_line(error)}") from error
