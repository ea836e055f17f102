"""What a diffusion or flow model offers to `genjax.edit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from genjax.diffusion.protocols import Clip, InvertibleSchedule, Predict, Target
from genjax.train.state import TrainState


@dataclass(frozen=True)
class Denoiser:
    """A network that denoises, with all that a solver of inverse problems needs beside it.

    Attributes:
      predict: (state, labels [n] or None) -> a function (z [n, ...], t [n]) -> what `target` names.
      schedule: the noise schedule.
      target: what the network predicts.
      steps: () -> the times [T + 1] of its sampler, from 1 to 0; at least two.
      clip: what is applied to each estimate of the data; None for nothing.
      encode: (state, images uint8 [n, H, W, C]) -> data.
      decode: (state, keys [n], data) -> images in 0..1.
      pixels: whether the data are the images scaled to −1..1, rather than codes of them.
    """

    predict: Callable[[TrainState, jax.Array | None], Predict]
    schedule: InvertibleSchedule
    target: Target
    steps: Callable[[], jax.Array]
    clip: Clip | None
    encode: Callable[[TrainState, jax.Array], jax.Array]
    decode: Callable[[TrainState, Any, jax.Array], jax.Array]
    pixels: bool = True
