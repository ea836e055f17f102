"""What editing asks of a trained run."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from genjax.data.dataset import Dataset, ImageSpec
from genjax.run.family import Family
from genjax.run.mixture import Mixture
from genjax.train.state import TrainState


class EditedRun(Protocol):
    """A trained run as `RestoredRun` is one, whose module stands above those that edit."""

    @property
    def family(self) -> Family:
        """The family."""

    @property
    def usable_state(self) -> TrainState:
        """The trained state."""

    @property
    def mixture(self) -> Mixture:
        """The mixture fitted to the codes of training images."""

    @property
    def images(self) -> Dataset:
        """The data set."""

    @property
    def spec(self) -> ImageSpec:
        """What its images are."""

    def class_number(self, label: int | str | None, flag: str = "--label") -> int | None:
        """The number of a class.

        Args:
          label: its number or its name.
          flag: that gives it.

        Returns:
          The number; None for None.
        """

    def held_out_batch(self, n: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Held-out images with their labels, where they have such.

        Args:
          n: how many.
          seed: of the choice.

        Returns:
          {"image": uint8 [n, H, W, C], "label": int32 [n]}.
        """

    def reconstruct(self, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Images as the family gives them back.

        Args:
          images: uint8 [n, H, W, C].
          labels: their classes.

        Returns:
          uint8 [n, H, W, C].
        """
