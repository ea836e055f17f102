"""Random folders as data sets: each is understood consistently, or refused with one line.

    python -m tools.fuzz_folders --n 5000

Names of splits and classes in many spellings, files that are images, damaged or something else,
links, empty folders, and random settings. Prints how many were tried, refused, right and wrong,
each wrong one with the --seed that draws it again alone; exits with 1 where any is.
"""

import io
import os
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from PIL import Image

from genjax.data import DataError, Dataset, DataSettings
from genjax.data.image_folder import ImageFolder
from genjax.data.layout import split_named
from genjax.data.summary import describe, lines

USUAL = ["train", "test", "val", "cat", "dog", "bird", "Train", "TEST", "validation"]
NAMES = [
    *[*USUAL, "training_set", "eval", "dev", "trainA", "images", "labels", "1", "10", "2"],
    *["a\nb", "ü", "u\u0308", "\udcff\udcfe", "日本", " ", "x" * 99, "-rf", "$HOME", '"'],
    *["t\x1b[31m", ".hidden"],
]
SUFFIXES = [".png", ".png", ".png", ".PNG", ".jpg", ".gif", ".tiff", ".txt", ".heic", ""]
TARGETS = ["/dev/zero", "..", "/etc", "nowhere", "."]


@dataclass(frozen=True)
class Options:
    """How much to try."""

    n: int = 1000
    """Folders."""
    seed: int = 0
    """Of the first folder; the next has the next one."""


def image(draw: random.Random) -> bytes:
    """An image file, or one in ten times something that only has the name of one."""
    file = io.BytesIO()
    mode = draw.choice(["RGB", "RGB", "L", "RGBA", "LA", "1", "P", "I;16"])
    Image.new(mode, (4, draw.choice([4, 4, 9]))).save(file, "PNG")
    whole = file.getvalue()
    broken = draw.choice([b"", b"text", whole[:40], b"%!PS", bytes(99)])
    return whole if draw.random() < 0.95 else broken


def fill(root: Path, draw: random.Random) -> None:
    """Draws a folder."""
    names = draw.choice([USUAL[:5], USUAL, NAMES])
    for _ in range(draw.choice([0, 1, 2, 8, 20, 40])):
        folder = root.joinpath(*draw.choices(names, k=draw.choice([0, 1, 1, 2, 2, 3])))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (draw.choice("abcdefgh") + draw.choice(SUFFIXES))
        kind = draw.random()
        if path.exists() or path.is_symlink() or kind < 0.03:
            continue
        if kind < 0.05:
            path.symlink_to(draw.choice(TARGETS))
        else:
            path.write_bytes(image(draw))


def settings(root: Path, draw: random.Random) -> DataSettings:
    """Draws settings for a folder."""
    return DataSettings(
        folder=str(root),
        size=draw.choice([4, (4, 6), None]),
        fit=draw.choice(["crop", "pad"]),
        channels=draw.choice([None, None, 1, 3, 4]),
        range=draw.choice(["auto", "auto", (0.0, 100.0), (-1e30, 1e30)]),
        frames=draw.choice(["first", "all"]),
        bad=draw.choice(["skip", "skip", "refuse"]),
        follow_links=draw.random() < 0.3,
        subfolders=draw.choice(["auto", "auto", "auto", "classes", "splits", "none"]),
        rules=draw.choice([2, 2, 2, 1]),
    )


def contents(root: Path) -> dict[Path, Any]:
    """Everything below a folder, with sizes and times."""
    return {
        path: (path.lstat().st_size, path.lstat().st_mtime_ns)
        for parent, folders, names in os.walk(root)
        for path in (Path(parent, name) for name in (*folders, *names))
    }


def inconsistencies(given: DataSettings) -> list[str]:
    """What is wrong with how a folder was understood; a `DataError` where it is refused."""
    data = Dataset(given)
    summary = describe(data)
    found = ImageFolder(Path(str(given.folder)), given)
    names, splits = found.names, found.layout.splits
    rows = [i for indices in splits.values() for i in indices]
    wrong = []
    if len({*rows}) != len(rows):
        wrong.append("an image is in two splits")
    if len(rows) + sum(found.layout.skipped.values()) != len(names):
        wrong.append("an image is in no split, and is not said to be")
    if given.rules == 2 and data.train.classes != data.test.classes:
        wrong.append("the splits have different classes")
    if given.rules == 2 and given.subfolders == "auto":
        tops = {i: split_named(names[i].split("/")[0]) for i in splits["train"]}
        if {*tops.values()} & {"test", "validation"}:
            wrong.append("an image of a test folder is trained on")
    for indices in splits.values():
        for i in indices:
            if (group := found.layout.groups[i]) and names[i].isascii():
                wrong += [] if group in names[i].split("/")[:-1] else [f"{group} is no folder"]
    if not all(line.isprintable() for line in (*lines(summary), *summary["notes"])):
        wrong.append("a line is not printable")
    return wrong


def tried(seed: int) -> tuple[str, str]:
    """("right", "refused" or "wrong", what is wrong) of one folder."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("error")
        root = Path(place) / "set"
        root.mkdir()
        fill(root, draw)
        before = contents(root)
        try:
            wrong = inconsistencies(settings(root, draw))
            kind = "right"
        except DataError as error:
            wrong = [] if "\n" not in str(error) and str(root) in str(error) else [repr(error)]
            kind = "refused"
        except Exception:
            wrong, kind = [traceback.format_exc()], "wrong"
        if contents(root) != before:
            wrong.append("the folder was changed")
        return ("wrong", "; ".join(wrong)) if wrong else (kind, "")


def main(options: Options) -> Counter[str]:
    """Tries folders, and prints what became of them."""
    counts: Counter[str] = Counter()
    for seed in range(options.seed, options.seed + options.n):
        kind, wrong = tried(seed)
        counts[kind] += 1
        if wrong:
            print(f"--seed {seed} --n 1: {wrong}")
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("refused", "right", "wrong"))
    print(f"{options.n:,} folders tried: {kinds}")
    return counts


if __name__ == "__main__":
    given = tyro.cli(Options, prog="python -m tools.fuzz_folders", description=__doc__)
    sys.exit(bool(main(given)["wrong"]))
