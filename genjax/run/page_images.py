"""The images of a run's page: samples over time, reconstructions, what commands drew, latents."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from genjax import files
from genjax.report.embedding import Embedder
from genjax.report.page import Points, Sheets
from genjax.run.page_curves import spread
from genjax.run.records import CODES, number

MOST_SHEETS = 100  # over time; of more, evenly spread ones are shown
MOST_FOUND = 20  # files of one kind that commands drew
MOST_POINTS = 2000

# Files that commands and audits leave in the run directory.
KINDS = {
    "audit_nearest.png": "Drawn images and their nearest training images",
    "audit_missing.png": "Held-out images unlike any drawn one",
    "audit_spectrum.png": "Power spectrum of drawn over held-out images",
    "audit_*.png": "Audit",
    "reconstruct.png": "Held-out images, each above its reconstruction",
    "edit_*.png": "Edits of real images: before and after",
    "interpolate_*.png": "Interpolation",
    "sample_*_trajectory.png": "From noise to image",
    "sample_*.png": "Drawn by the command sample",
}


def over_time(folder: Path, embedder: Embedder, *, linked: bool = False) -> Iterator[Sheets]:
    """The sheets of periodic evaluations.

    Args:
      folder: of the run or stage.
      embedder: encodes files.
      linked: whether their sliders move with those of other runs.

    Yields:
      Samples, and reconstructions where there are any.
    """
    kinds = {
        "step": ("Samples", "The same noise at each step."),
        "reconstructions": (
            "Reconstructions",
            "Held-out images, each above its reconstruction; what of it was shown lies between.",
        ),
    }
    for stem, (title, hint) in kinds.items():
        found = spread(sorted(_steps(folder / "samples", stem).items()), MOST_SHEETS)
        frames = [embedder.frame(path, f"step {step:,}", step) for step, path in found]
        if shown := [frame for frame in frames if frame]:
            yield Sheets(title, shown, hint, linked=linked)


def _steps(folder: Path, stem: str) -> dict[int, Path]:
    pattern = re.compile(rf"{stem}_([0-9]{{1,18}})\.png")
    return {int(match[1]): folder / match[0] for match in _matches(folder, pattern)}


def _matches(folder: Path, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    try:
        return list(filter(None, (pattern.fullmatch(path.name) for path in folder.iterdir())))
    except OSError:
        return []


def drawn(folder: Path, embedder: Embedder) -> Iterator[Sheets]:
    """The images that commands and audits drew.

    Args:
      folder: of the run.
      embedder: encodes files.

    Yields:
      Those of a kind together.
    """
    seen: set[Path] = set()
    for pattern, title in KINDS.items():
        try:
            paths = sorted(path for path in folder.glob(pattern) if path not in seen)
        except OSError:
            continue
        seen |= set(paths)
        frames = [
            embedder.frame(path, path.stem.replace("_", " "), i)
            for i, path in enumerate(paths[:MOST_FOUND])
        ]
        if shown := [frame for frame in frames if frame]:
            yield Sheets(title, shown)


def training_images(folder: Path, embedder: Embedder) -> Iterator[Sheets]:
    """The first images of the data set.

    Args:
      folder: of the run.
      embedder: encodes files.

    Yields:
      Them, where the run has written them.
    """
    frame = embedder.frame(folder / "samples" / "data.png", "the first images to train on")
    if frame:
        yield Sheets("Training images", [frame])


def latents(folder: Path, names: Mapping[int, str]) -> Iterator[Points]:
    """The codes of held-out images, projected to a plane.

    Args:
      folder: of the run or stage.
      names: of the classes.

    Yields:
      The points, where the run has written them.
    """
    try:
        values = files.read_json(folder / CODES)
    except (OSError, ValueError):
        return
    xy, labels = values.get("xy"), values.get("label")
    if not isinstance(xy, list):
        return
    points, colors = [], []
    for i, point in enumerate(xy[:MOST_POINTS]):
        x, y = (number({"v": v}, "v") for v in (point if _is_pair(point) else (None, None)))
        if math.isfinite(x) and math.isfinite(y):
            label = labels[i] if isinstance(labels, list) and i < len(labels) else 0
            points.append((x, y))
            colors.append(label if files.is_count(label) else 0)
    if points:
        known = [names[i] for i in sorted(names) if i < 10] if max(colors) < 10 else []
        share = number(values, "share")
        hint = "Codes of held-out images on their two widest axes (PCA)"
        hint += f", {share:.0%} of their variance." if 0 <= share <= 1 else "."
        yield Points(f"Codes at step {_step(values)}", points, colors, known, hint)


def _is_pair(point: object) -> bool:
    return isinstance(point, list) and len(point) == 2


def _step(values: Mapping[str, object]) -> str:
    step = values.get("step")
    return f"{step:,}" if isinstance(step, int) and files.is_count(step) else "?"
