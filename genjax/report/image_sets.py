"""Many images as files, written as they come: one .npz, or a folder of PNGs with labels.csv.

Of PNGs a folder per class is one that `genjax.data` and others read as a labelled set.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from genjax import files
from genjax.errors import ConfigError

Batch = dict[str, np.ndarray]
_BLOCK = 4096  # bytes that a file takes at least
_PNG, _LABELS, _CARD = re.compile(r"\d{6,}\.png"), "labels.csv", "README.md"
_MARK = "\n<!-- Written with the images beside it, and replaced with them. -->\n"


def write_npz(path: Path, batches: Iterable[Batch], n: int) -> tuple[int, ...]:
    """Writes images to an .npz that `np.load` reads: "images", and "labels" where there are any.

    No more than a batch is in memory, beside 4 bytes per label. The file appears when it is
    complete; a link at `path` is replaced, not followed.

    Args:
      path: the file; its folder is there.
      batches: {"image": uint8 [m, H, W, C]}, with "label": int32 [m] where there are labels.
      n: images in all.

    Returns:
      (H, W, C).

    Raises:
      ConfigError: where the disk has not the room.
    """
    first, batches = _peeked(batches)
    sample = np.ascontiguousarray(first["image"])
    _check_room(path.parent, len(zlib.compress(sample.tobytes())) / len(sample) * n, n)
    labels: list[np.ndarray] = []
    with (
        files.atomic_open(path, "wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        with archive.open("images.npy", "w", force_zip64=True) as member:
            _write_header(member, np.dtype(np.uint8), (n, *sample.shape[1:]))
            for batch in batches:
                member.write(np.ascontiguousarray(batch["image"]).data)
                labels += [batch["label"]] if "label" in batch else []
        if labels:
            with archive.open("labels.npy", "w", force_zip64=True) as member:
                _write_header(member, labels[0].dtype, (n,))
                for part in labels:
                    member.write(part.data)
    return sample.shape[1:]


def check_folder(folder: Path) -> None:
    """Checks that a folder may be replaced by `write_pngs`.

    Args:
      folder: its path.

    Raises:
      ConfigError: where something is there that `write_pngs` has not written.
    """
    if os.path.lexists(folder) and not _is_ours(folder):
        raise ConfigError(f"{folder} is there and holds other things: give another --to")


def _is_ours(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    there = {each.name: each for each in folder.iterdir()}
    card = there.pop(_CARD, None)
    by_class = there.pop(_LABELS, None) is not None  # with folders there are always labels
    if card and not (card.is_file() and card.read_bytes().endswith(_MARK.encode())):
        return False
    return all(_PNG.fullmatch(name) or (by_class and _has_pngs(there[name])) for name in there)


def _has_pngs(folder: Path) -> bool:
    """Whether nothing but PNGs of ours is in the folder of a class."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return all(map(_PNG.fullmatch, os.listdir(folder)))


def class_folders(names: Sequence[str]) -> list[str]:
    """Names of classes as names of folders, one per class.

    Args:
      names: of the classes.

    Returns:
      The names with "_" for what no file system takes; with the class number before each where two
      would then be the same, or one is no name of a folder.
    """
    safe = [re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", name).strip(" .") for name in names]
    if len({name.casefold() for name in safe}) == len(names) and all(
        name and len(name.encode()) < 200 and name not in (_LABELS, _CARD) for name in safe
    ):
        return safe
    digits = len(str(len(names) - 1))
    return [f"{i:0{digits}} {name[:40]}".strip() for i, name in enumerate(safe)]


def write_pngs(
    folder: Path,
    batches: Iterable[Batch],
    n: int,
    names: Sequence[str] = (),
    *,
    by_class: bool = False,
    card: str = "",
) -> tuple[int, ...]:
    """Writes a PNG per image, 000000.png and so on, and labels.csv where there are labels.

    The folder appears when it is complete, and replaces one of an earlier call.

    Args:
      folder: its path; the folder that it lies in is there.
      batches: {"image": uint8 [m, H, W, C]}, with "label": int32 [m] where there are labels.
      n: images in all.
      names: of the classes, where they are known.
      by_class: whether each image lies in the folder of its class, which `class_folders` names.
      card: what the images are, for README.md; "" for none.

    Returns:
      (H, W, C).

    Raises:
      ConfigError: where the disk has not the room, or something else is there.
    """
    check_folder(folder)
    first, batches = _peeked(batches)
    digits = max(6, len(str(n - 1)))
    half = _hidden(folder)
    half.mkdir()
    inside = [f"{name}/" for name in class_folders(names)] if by_class else []
    try:
        for each in inside:
            (half / each).mkdir()
        if card:
            (half / _CARD).write_text(card.rstrip() + "\n" + _MARK, encoding="utf-8")
        with (half / _LABELS).open("w", newline="", encoding="utf-8") as table:
            rows = csv.writer(table)
            rows.writerow(["file", "label", "name"])
            place = 0
            for batch in batches:
                labels = batch.get("label", [None] * len(batch["image"]))
                for image, label in zip(batch["image"], labels, strict=True):
                    name = f"{inside[label] if by_class else ''}{place:0{digits}}.png"
                    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
                        half / name
                    )
                    if label is not None:
                        rows.writerow([name, int(label), names[label] if names else ""])
                    place += 1
                if place == len(first["image"]):
                    sizes = [path.stat().st_size for path in half.rglob("*.png")]
                    taken = sum(math.ceil(size / _BLOCK) * _BLOCK for size in sizes)
                    _check_room(folder.parent, taken / place * n, n)
        if "label" not in first:
            (half / _LABELS).unlink()
        check_folder(folder)
        _replace(half, folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return first["image"].shape[1:]


def _peeked(batches: Iterable[Batch]) -> tuple[Batch, Iterator[Batch]]:
    rest = iter(batches)
    first = next(rest)
    return first, itertools.chain([first], rest)


def _write_header(file: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
    about: dict[str, Any] = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)


def _check_room(folder: Path, needed: float, n: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"{n:,} images take about {needed / 1e9:,.1f} GB and {folder} has room for "
            f"{free / 1e9:,.1f}: give a smaller --n, or another --to"
        )


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.half")


def _replace(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    old = _hidden(folder)
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)
