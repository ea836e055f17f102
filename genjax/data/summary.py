"""What was understood of a data set, as lines for the terminal and as values for config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from genjax.data.dataset import Dataset
from genjax.data.images import Images
from genjax.data.report import Report
from genjax.errors import printable

DARK = 64  # of 255: where the brightest pixel is below, most of the format's range is unused
_SHOWN = 12  # classes, sizes and kinds of files on the terminal


def describe(data: Dataset) -> dict[str, Any]:
    """What was understood of a data set.

    Args:
      data: the data set; its splits "train" and "test" are opened.

    Returns:
      Plain values: name, shape, splits, held_out, classes {name: [train, test]} with None where
      labels are not counted, skipped {reason: files}, sizes, modes, notes.
    """
    train, test, report = data.train, data.test, data.report
    each = [_counts(images) for images in (train, test)]
    names = dict.fromkeys((*train.classes, *test.classes))  # by rules 1 the splits have their own
    classes = {name: [counts.get(name, 0) for counts in each] for name in names}
    notes = [*report.notes, *_on_classes(classes), *_on_files(report, train)]
    if dark := _on_darkness(data, train):
        notes.append(dark)
    return {
        "name": train.name,
        "shape": list(train.shape[1:]),
        "splits": {**report.splits, "train": len(train), "test": len(test)},
        "held_out": report.held_out,
        "classes": classes,
        "skipped": dict(report.skipped),
        "sizes": dict(report.sizes),
        "modes": dict(report.modes),
        "notes": [printable(note) for note in notes],
    }


def lines(summary: Mapping[str, Any]) -> list[str]:
    """A summary for the terminal.

    Args:
      summary: what `describe` returns.

    Returns:
      A line for each of its parts; notes are not among them.
    """
    splits = dict(summary["splits"])
    shape = "x".join(map(str, summary["shape"]))
    train, test = splits.pop("train"), splits.pop("test")
    found = [
        f"data: {summary['name']}, {train:,} images {shape} to train on",
        f"held out: {test:,} ({summary['held_out']})"
        + "".join(f"; {name}: {count:,}" for name, count in splits.items()),
    ]
    if classes := summary["classes"]:
        listed = {
            name: "" if None in counts else " " + " + ".join(f"{n:,}" for n in counts)
            for name, counts in classes.items()
        }
        found.append(f"{len(classes)} classes (train + test): {_listed(listed)}")
    else:
        found.append("classes: none")
    for title, part in (("files", "sizes"), ("pixels", "modes"), ("skipped", "skipped")):
        if counts := summary[part]:
            found.append(f"{title}: {_listed({k: f' {n:,}' for k, n in counts.items()})}")
    return [printable(line) for line in found]


def _listed(values: Mapping[str, str]) -> str:
    shown = [f"{name}{value}" for name, value in list(values.items())[:_SHOWN]]
    more = [f"{len(values) - _SHOWN} more"] if len(values) > _SHOWN else []
    return ", ".join(shown + more)


def _counts(images: Images) -> dict[str, int | None]:
    """Images of each class; None where the labels are not in memory."""
    label = getattr(images.source, "label", None)
    if label is None:
        return dict.fromkeys(images.classes)
    counts = np.bincount(label, minlength=images.num_classes).tolist()
    return dict(zip(images.classes, counts, strict=True))


def _on_classes(classes: Mapping[str, list[int | None]]) -> list[str]:
    empty = [name for name, (train, _) in classes.items() if train == 0]
    return [f"no image to train on is of the class {', '.join(empty[:_SHOWN])}"] if empty else []


def _on_files(report: Report, train: Images) -> list[str]:
    notes = []
    used, unused = sum(report.modes.values()), sum(report.skipped.values())
    if used < unused:
        notes.append(f"only {used:,} of {used + unused:,} files are used")
    height, width = train.shape[1:3]
    sizes = {tuple(map(int, size.split("x"))): n for size, n in report.sizes.items()}
    shape = f"{height}x{width}"
    if len(sizes) == 1 and (height, width) not in sizes:
        ((h, w),) = sizes
        size = f"{h}" if h == w else f"{h} {w}"
        notes.append(f"every file is {h}x{w}, resized to {shape}: --data.size {size} keeps that")
    elif cut := sum(n for (h, w), n in sizes.items() if abs(h * width - w * height) > max(h, w)):
        notes.append(
            f"{cut:,} files have other proportions than {shape}: see --data.size HEIGHT WIDTH and "
            "--data.fit"
        )
    return notes


def _on_darkness(data: Dataset, train: Images) -> str | None:
    """A note where the brightest pixel is far below the end of the range."""
    arrays = train.arrays
    rows = np.unique(np.linspace(0, len(train) - 1, 64).astype(np.int64))
    pixels = arrays["image"] if arrays is not None else train.source[rows]["image"]
    top, limits = int(pixels.max()), data.settings.range
    if top >= DARK:
        return f"every pixel is {top}" if pixels.min() == top else None
    if limits != "auto":
        low, high = limits
        return f"the brightest pixel has {top / 255:.0%} of --data.range {low:g} {high:g}"
    value, end = data.brightest or (top, 255)
    advice = f": if no more is possible, give --data.range 0 {2 ** max(1, value.bit_length()) - 1}"
    return f"images are dark: the brightest pixel is {value:,} of {end:,}" + (
        advice if data.settings.folder else ""
    )
