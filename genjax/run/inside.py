"""What a run records of the inside of its family: profiles.jsonl, and the codes of some images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from genjax import files
from genjax.evaluate.profiles import Profile, projection
from genjax.run.records import CODES, PROFILES

MOST_CODES, MOST_LENGTH = 512, 4096  # images, and numbers in a code


def add_profile(folder: Path, step: int, profile: Profile, x: np.ndarray, y: np.ndarray) -> None:
    """Adds a row to profiles.jsonl: {"step", "name", "axis", "hint", "x", "y"}.

    Args:
      folder: of the run or stage.
      step: of the state.
      profile: what the curve is.
      x: [n].
      y: [n].
    """
    row = {"step": step, "name": profile.name, "axis": profile.axis, "hint": profile.hint}
    curve = {"x": x.astype(np.float64).tolist(), "y": y.astype(np.float64).tolist()}
    files.append_rows(folder / PROFILES, [row | curve])


def write_codes(
    folder: Path, step: int, batches: Iterable[tuple[np.ndarray, np.ndarray | None]]
) -> None:
    """Writes codes.json, codes projected to a plane: {"step", "share", "xy", "label"}.

    Args:
      folder: of the run or stage.
      step: of the state.
      batches: (codes, labels or None); codes that are no vectors are not written.
    """
    codes: list[np.ndarray] = []
    labels: list[int] = []
    for code, label in batches:
        if isinstance(code, dict | list | tuple):  # a tree of arrays
            return
        code = np.asarray(code)
        if code.ndim != 2 or not 2 <= code.shape[1] <= MOST_LENGTH or code.dtype.kind != "f":
            return
        codes.append(code)
        labels += [] if label is None else label.tolist()
        if sum(map(len, codes)) >= MOST_CODES:
            break
    if not codes or not np.isfinite(each := np.concatenate(codes)).all():
        return
    xy, share = projection(each)
    values = {"step": step, "share": share, "xy": np.round(xy, 4).tolist(), "label": labels}
    files.write_json(folder / CODES, values)
