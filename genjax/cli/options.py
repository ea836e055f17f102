"""The commands that an experiment's command line has beside training, and their flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from genjax.limits import Count, Limits, Natural, Seed

Dir = Annotated[str | None, tyro.conf.Positional]


@dataclass(frozen=True)
class Sample:
    """Draw new images from a run: DIR/sample_SEED.png, a grid, and .npz, the arrays."""

    dir: Dir = None
    """The run's directory. None: runs/ and the name of the experiment."""
    n: Count = 64
    """Number of images."""
    seed: Seed = 0
    """Of the noise: image i of a seed is the same for every n."""
    label: str | None = None
    """The class to draw, by its name or number, where the run is class-conditional. None: every
    class in turn."""
    prior: Literal["gaussian", "mixture"] | None = None
    """What latents are drawn from: N(0, I), or a mixture of Gaussians fitted to the codes of the
    images it was trained on. None: mixture for plain autoencoders, else gaussian."""
    best: bool = False
    """From the checkpoint of the best score instead of the latest."""
    data: str | None = None
    """Where the images lie on this machine, for the mixture: the TFDS directory, or the folder.
    None: where the run found them."""


@dataclass(frozen=True)
class Reconstruct:
    """Encode and decode held-out images: DIR/reconstruct.png, each above its reconstruction."""

    dir: Dir = None
    """The run's directory. None: runs/ and the name of the experiment."""
    n: Count = 32
    """Number of images."""
    best: bool = False
    """From the checkpoint of the best score instead of the latest."""
    data: str | None = None
    """Where the images lie on this machine: the TFDS directory, or the folder. None: where the run
    found them."""


@dataclass(frozen=True)
class Interpolate:
    """Strips between pairs: DIR/interpolate_SEED.png, one row per pair.

    Where the run has an encoder, straight lines between the latents of held-out images; else great
    arcs between noises.
    """

    dir: Dir = None
    """The run's directory. None: runs/ and the name of the experiment."""
    pairs: Count = 8
    """Number of pairs, which are the rows."""
    steps: Annotated[int, Limits(2, 1000)] = 10
    """Images in a row, both ends included."""
    seed: Seed = 0
    """Of the noises, or of the choice of images."""
    best: bool = False
    """From the checkpoint of the best score instead of the latest."""
    data: str | None = None
    """Where the images lie on this machine: the TFDS directory, or the folder. None: where the run
    found them."""


@dataclass(frozen=True)
class Evaluate:
    """Expensive scores on held-out images, with standard errors: DIR/evaluation.json.

    Log-likelihoods, bounds by their parts, bits per dimension: what the run's family has.
    """

    dir: Dir = None
    """The run's directory. None: runs/ and the name of the experiment."""
    n: Natural = 1000
    """Number of images, chosen at random by the seed. 0: all."""
    split: str = "test"
    """Of which part of the data set."""
    seed: Seed = 0
    """Of the choice of images and of the noise."""
    best: bool = False
    """Of the checkpoint of the best score instead of the latest."""
    data: str | None = None
    """Where the images lie on this machine: the TFDS directory, or the folder. None: where the run
    found them."""


@dataclass(frozen=True)
class Export:
    """Write the weights that sampling takes, as safetensors with settings and a model card.

    sample, reconstruct and interpolate take the folder like a run's.
    """

    to: str
    """The folder to write; one that is there already is left as it is."""
    dir: Dir = None
    """The run's directory. None: runs/ and the name of the experiment."""
    license: str = "unknown"
    """Licence of the weights for the card: mit, cc-by-4.0, …"""
    best: bool = False
    """The checkpoint of the best score instead of the latest."""


@dataclass(frozen=True)
class Replay:
    """Run a step that was not finite again, from the checkpoint before it, and show what broke."""

    dir: Dir = None
    """The run's directory. None: runs/ and the name of the experiment."""
    step: Natural | None = None
    """Which of those in DIR/faults.jsonl. None: the last."""
    data: str | None = None
    """Where the images lie on this machine: the TFDS directory, or the folder. None: where the run
    found them."""


COMMANDS = {
    "sample": Sample,
    "reconstruct": Reconstruct,
    "interpolate": Interpolate,
    "evaluate": Evaluate,
    "export": Export,
    "replay": Replay,
}
