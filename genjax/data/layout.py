"""What the folders of a data set mean, by the paths of its images alone: splits and classes."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn

import numpy as np

from genjax.data.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_WORDS = {
    TRAIN: "train|training|trn",
    VALIDATION: "val|valid|validation|dev",
    TEST: "test|testing|tst|eval|evaluation",
}
_SUFFIX = r"([ _.-]?(sets?|data|images?|imgs?|split|\d{4}))?"
_ALIKE = re.compile(f"(?:{'|'.join(_WORDS.values())})(?![a-z])")

Meaning = Literal["classes", "splits", "none"]


@dataclass(frozen=True)
class Layout:
    """What each image of a folder is.

    Attributes:
      splits: {split: indices of its images, ascending}; "train" and "test" are among them.
      groups: the class of each image, "" for none.
      classes: the names of all classes, sorted; none where an image has none.
      held_out: in words, which images are the test split.
      skipped: {reason: number of images} of those in no split.
      notes: lines about what the user may have meant otherwise.
    """

    splits: dict[str, np.ndarray]
    groups: list[str]
    classes: tuple[str, ...]
    held_out: str
    skipped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def split_named(name: str) -> str | None:
    """The split that a folder is by its name, in any usual spelling.

    Args:
      name: such as "Train", "test_set" or "val2017".

    Returns:
      "train", "validation", "test", or None for any other name.
    """
    plain = name.strip().casefold()
    for split, words in _WORDS.items():
        if re.fullmatch(f"(?:{words}){_SUFFIX}", plain):
            return split
    return None


def understand(
    names: Sequence[str],
    folders: Iterable[str] = (),
    subfolders: Literal["auto"] | Meaning = "auto",
) -> Layout:
    """Finds splits and classes in the paths of images.

    The topmost folders are splits where all have names of splits, else the classes. A folder that
    is alone at the top and holds all images only wraps them. val is the test split where there is
    no other; without either, `held_out_tenth` is. An image beside the class folders means that
    there are no classes. Classes are numbered over all splits.

    Args:
      names: paths of the images, relative, with slashes.
      folders: paths of all folders, those without images included.
      subfolders: what the topmost folders mean; "auto" to go by their names.

    Returns:
      The layout.

    Raises:
      DataError: where the paths could mean several things, or a split is missing.
    """
    depth = 0 if subfolders == "none" else _wrapped(names, subfolders)
    paths = [name.split("/")[depth:] for name in names]
    tops = sorted({path[0] for path in paths if len(path) > 1})
    stray = [path[0] for path in paths if len(path) == 1]
    above = names[0].split("/")[:depth]
    split = [folder.split("/") for folder in folders]
    beside = sorted({f[depth] for f in split if len(f) > depth and f[:depth] == above} - {*tops})
    notes = tuple(f"{name} holds no image" for name in beside if not split_named(name))
    meaning = _meaning(paths, tops, stray) if subfolders == "auto" else subfolders
    if meaning == "splits":
        if empty := [name for name in beside if split_named(name)]:
            raise DataError(f"{_listed(empty)} holds no image: fill or delete it")
        return _by_splits(names, paths, tops, notes, doubtful=subfolders == "auto")
    groups = [_plain(path[0]) if len(path) > 1 else "" for path in paths]
    inside, skipped = list(range(len(names))), {}
    if meaning == "none":
        groups = [""] * len(names)
    elif stray and tops and subfolders == "classes":
        inside = [i for i, group in enumerate(groups) if group]
        skipped = {"beside the class folders": len(stray)}
    elif stray and tops:
        notes += (f"{_listed(stray)} beside {_listed(tops)} means: no labels",)
    classes = _classes(groups[i] for i in inside)
    splits, held_out = _with_a_tenth(names, groups, classes, np.array(inside, int), "")
    return Layout(splits, groups, classes, held_out, skipped, notes)


def understand_as_before(names: Sequence[str], tops: set[str]) -> Layout:
    """Finds splits and classes by the rules of earlier versions, for runs that were started by it.

    Args:
      names: paths of the images, relative, with slashes.
      tops: names of all that lies at the top of the folder.

    Returns:
      The layout; those rules number the classes of each split by themselves.
    """
    other = tops - {TRAIN}
    if TRAIN in tops and len(other) == 1 and other <= {"test", "val", "validation"}:
        paths = [name.split("/", 1) for name in names]
        groups = [below.partition("/")[0] if "/" in below else "" for _, below in paths]
        train = np.array([top == TRAIN for top, _ in paths])
        splits = {TRAIN: np.flatnonzero(train), TEST: np.flatnonzero(~train)}
        return Layout(splits, groups, _classes(groups), f"the folder {other.pop()}")
    groups = [name.partition("/")[0] if "/" in name else "" for name in names]
    test = held_out_tenth(names, [""] * len(names))
    splits = {TRAIN: np.setdiff1d(np.arange(len(names)), test), TEST: test}
    return Layout(splits, groups, _classes(groups), "one image in ten, of all classes together")


def held_out_tenth(names: Sequence[str], groups: Sequence[str]) -> np.ndarray:
    """One image in ten, at least one of two, in equal shares of each group.

    By a hash of their paths, so that few change splits when images are added.

    Args:
      names: of the images.
      groups: the group of each.

    Returns:
      The indices, ascending.
    """
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(os.fsencode(names[i])).digest())
    sizes: dict[str, int] = {}
    rank = {}
    for i in order:
        rank[i] = sizes.get(groups[i], 0) + 0.5
        sizes[groups[i]] = sizes.get(groups[i], 0) + 1
    count = max(len(names) // 10, min(len(names) - 1, 1))
    order.sort(key=lambda i: rank[i] / sizes[groups[i]])  # equal shares, by the hash where equal
    return np.sort(np.array(order[:count], int))


def _wrapped(names: Sequence[str], subfolders: str) -> int:
    """How many folders at the top merely wrap all the images."""
    depth, paths = 0, [name.split("/") for name in names]
    while len({path[depth] for path in paths}) == 1 and all(len(p) > depth + 1 for p in paths):
        direct = any(len(path) == depth + 2 for path in paths)
        if (subfolders == "classes" and direct) or (
            subfolders != "classes" and _alike(paths[0][depth])
        ):
            break
        depth += 1
    return depth


def _meaning(paths: list[list[str]], tops: list[str], stray: list[str]) -> Meaning:
    """What the topmost folders mean, by their names."""
    roles = {top: split_named(top) for top in tops}
    alike = [top for top in tops if _alike(top)]
    if not alike:
        inner = sorted({path[1] for path in paths if len(path) > 2 and split_named(path[1])})
        if {TRAIN} < {split_named(name) for name in inner}:
            _refuse(f"{_listed(tops)} hold the splits {_listed(inner)}: move those to the top")
        return "classes"
    if others := [top for top in tops if top not in alike]:
        _refuse(f"{_listed(alike)} named like a split beside {_listed(others)}")
    if stray:
        _refuse(f"{_listed(stray)} beside {_listed(alike)} is in no split: move it")
    if unclear := [top for top in alike if roles[top] is None]:
        _refuse(f"{_listed(unclear)} may be a split or a class")
    if len(set(roles.values())) < len(tops):
        _refuse(f"of {_listed(tops)} two name the same split: merge them")
    if TRAIN not in roles.values():
        _refuse(f"there is {_listed(tops)}, but no train")
    return "splits"


def _refuse(seen: str) -> NoReturn:
    raise DataError(
        f"{seen}; or say what the topmost folders are: --data.subfolders splits (what is in no "
        "split is skipped), classes, or none (no labels)"
    )


def _by_splits(
    names: Sequence[str],
    paths: list[list[str]],
    tops: list[str],
    notes: tuple[str, ...],
    *,
    doubtful: bool,
) -> Layout:
    roles = {top: role for top in tops if (role := split_named(top))}
    if TRAIN not in roles.values():
        raise DataError("no folder with images is called train: rename the one to train on")
    of = [roles.get(path[0]) if len(path) > 1 else None for path in paths]
    inside = [i for i, split in enumerate(of) if split]
    skipped = {"in no split": len(paths) - len(inside)} if len(inside) < len(paths) else {}
    flat, deep = (
        sorted({paths[i][0] for i in inside if (len(paths[i]) > 2) == below})
        for below in (False, True)
    )
    groups = [""] * len(paths)
    if flat and deep:
        seen = f"{_listed(deep)} has class folders, {_listed(flat)} has images beside or without"
        if doubtful and not {*flat} & {*deep}:
            _refuse(f"{seen} any: sort those into the classes")
        notes += (f"{seen} any: no labels",)
    elif deep and len(_classes(paths[i][1] for i in inside)) == 1:
        notes += (f"all splits have the one folder {paths[inside[0]][1]}: no labels",)
    else:
        for i in inside:
            groups[i] = _plain(paths[i][1]) if deep else ""
    classes = _classes(groups[i] for i in inside)
    found = {
        split: np.array([i for i in inside if of[i] == split], int)
        for split in (TRAIN, VALIDATION, TEST)
        if split in roles.values()
    }
    if len(found) == 1:
        splits, held_out = _with_a_tenth(names, groups, classes, found[TRAIN], " of train")
        return Layout(splits, groups, classes, held_out, skipped, notes)
    role = TEST if TEST in found else VALIDATION
    if len(found) == 3:
        notes += ("the validation split is for `evaluate --split validation` alone",)
    else:
        found = {TRAIN: found[TRAIN], TEST: found[role]}
    folder = next(top for top, each in roles.items() if each == role)
    return Layout(found, groups, classes, f"the folder {folder}", skipped, notes)


def _with_a_tenth(
    names: Sequence[str],
    groups: list[str],
    classes: tuple[str, ...],
    inside: np.ndarray,
    of: str,
) -> tuple[dict[str, np.ndarray], str]:
    shares = groups if classes else [""] * len(names)
    held = held_out_tenth([names[i] for i in inside], [shares[i] for i in inside])
    splits = {TRAIN: np.delete(inside, held), TEST: inside[held]}
    return splits, f"one image in ten{of}{', of each class' if classes else ''}"


def _classes(groups: Iterable[str]) -> tuple[str, ...]:
    names = {*groups}
    return () if "" in names else tuple(sorted(names))


def _plain(name: str) -> str:
    """One spelling of letters that Unicode can compose in two, as archives of macOS do."""
    return unicodedata.normalize("NFC", name)


def _alike(name: str) -> bool:
    """Whether a name begins like that of a split: "trainA", "test_cats"."""
    plain = name.lower() if name.isupper() else name[:1].lower() + name[1:]
    return split_named(name) is not None or bool(_ALIKE.match(plain))


def _listed(names: Sequence[str]) -> str:
    """The first four names, printable."""
    shown = [name if name.isprintable() else repr(name) for name in names[:4]]
    return ", ".join(shown) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
