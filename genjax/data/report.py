"""What was understood of a data set, beside its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """What a folder or a file holds, and what it was taken for.

    Attributes:
      splits: {split: number of images}, those that are not opened included.
      held_out: in words, which images are the test split.
      skipped: {reason: number of files that are not used}.
      sizes: {"HxW": number of files}, as stored.
      modes: {kind of pixels: number of files}.
      notes: lines about what the user may have meant otherwise.
    """

    splits: Mapping[str, int]
    held_out: str
    skipped: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
