"""How images are to be edited: the flags of the command `edit` and the fields of `run.edit`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from genjax import limits
from genjax.errors import ConfigError
from genjax.limits import Count, Limits, NonNegative, Positive, Seed

Task = Literal["super2", "super4", "super8", "deblur", "colourise", "denoise", "jpeg"]
"""What an image lacks: resolution, sharpness, colour, cleanness."""
Hide = Literal["left", "right", "top", "bottom", "centre", "random"]
"""What part of an image is hidden: a half, the middle quarter, or half of the pixels."""
Solver = Literal["pigdm", "ddnm", "dps", "repaint", "particles", "hmc", "maximum"]
"""How answers are found: the last two with decoders, the others with diffusion and flow models."""

KINDS = ("mask", "hide", "task", "strength", "to_label", "toward", "to_run")
RESTORING = ("mask", "hide", "task")
_ONLY = {  # settings, and the kinds of edit that take them
    "solver": RESTORING,
    "noise": RESTORING,
    "clear": ("task",),
    "n": (*RESTORING, "strength"),
    "classifier": ("to_label", "toward"),
}


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What is to be done to images: one of the first seven, by the others."""

    mask: str | None = None
    """Fill in what is white in this image file, of the images' size."""
    hide: Hide | None = None
    """Hide a part of the images and fill it in: a half, the centre, or half of the pixels."""
    task: Task | None = None
    """Restore images that lack resolution (super2 gives twice as many pixels a side), sharpness,
    colour, or that have noise or are from a JPEG."""
    strength: Annotated[float, Limits(0, 1)] | None = None
    """Draw variations, 0 the images themselves, 1 new ones."""
    to_label: str | None = None
    """Make them images of this class, in a family that takes classes."""
    toward: str | None = None
    """CLASS=STEP moves their codes by STEP along the direction in which images of the class lie; of
    a GAN, samples of the class as --classifier sees them."""
    to_run: str | None = None
    """Make them images of this other run of the experiment, such as one of drawings."""
    label: str | None = None
    """The class that the images have, where the run is class-conditional."""
    n: Count = 4
    """Answers per image."""
    seed: Seed = 0
    """Of the answers, and of the choice of held-out images."""
    solver: Solver | None = None
    """How the answers are found: pigdm, ddnm, dps, repaint and particles with diffusion and flow
    models, hmc and maximum with decoders. None: what suits the family and the task."""
    noise: NonNegative | None = None
    """Standard deviation of the images' noise, of a range of 1. None: estimated where the task is
    deblur, denoise or jpeg, else 0."""
    blur: Positive = 1.5
    """Standard deviation of the blur of --task deblur, in pixels."""
    quality: Annotated[int, Limits(1, 100)] = 10
    """Of the JPEG of --task jpeg, 1 to 100."""
    classifier: str | None = None
    """The folder of an exported experiments.classifier, which says what became of the classes."""
    clear: bool = False
    """The images lack nothing: degrade them first, and compare the answers with them."""

    @property
    def kind(self) -> str:
        """Which of the seven it is.

        Raises:
          ConfigError: where it is none or several, or a setting has no effect on it.
        """
        given = [name for name in KINDS if getattr(self, name) is not None]
        flags = ["--" + name.replace("_", "-") for name in given or KINDS]
        if len(given) != 1:
            what = "one of" if not given else "only one of"
            raise ConfigError(f"say what to do to the images by {what} {', '.join(flags)}")
        defaults = {f.name: f.default for f in fields(self)}
        for name, kinds in _ONLY.items():
            if getattr(self, name) != defaults[name] and given[0] not in kinds:
                raise ConfigError(f"--{name} has no effect on {flags[0]}: leave it out")
        limits.check(self)
        return given[0]

    @property
    def called(self) -> str:
        """What was done, for the name of a file."""
        return self.task or self.hide or self.kind
