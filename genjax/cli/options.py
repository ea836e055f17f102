"""The commands that an experiment's command line has beside training, and their flags."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
import typing
from collections.abc import Iterable
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, Literal

import tyro

from genjax.limits import Count, Limits, Natural, Seed
from genjax.run import edit_settings
from genjax.run.score_names import ScoreName
from genjax.run.settings import sampling_settings

Dir = Annotated[str | None, tyro.conf.Positional]
Images = Annotated[tuple[str, ...], tyro.conf.Positional]


@dataclass(frozen=True, kw_only=True)
class OfRun:
    """Which state of which run a command takes, and where it writes what it makes."""

    dir: Dir = None
    """The run's directory. None: runs/ and the name of the experiment."""
    to: str | None = None
    """The folder to write to, where nothing is replaced. None: the run's directory, but for an
    export the working directory."""
    best: bool = False
    """Take the checkpoint of the best score instead of the latest."""
    step: Natural | None = None
    """Take the checkpoint of this step instead, of those there are (--run.keep)."""
    data: str | None = None
    """Where the images lie on this machine: the TFDS directory, or the folder. None: where the run
    found them."""


@dataclass(frozen=True, kw_only=True)
class Sample(OfRun):
    """Draw new images from a run: sample_SEED.npz, the arrays, and .png, a grid of the first."""

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
    files: bool = False
    """A PNG per image in the folder sample_SEED, with labels.csv where there are classes, in place
    of the .npz."""
    trajectory: bool = False
    """The way of the first eight from the noise as well: sample_SEED_trajectory.gif and .png."""


@dataclass(frozen=True, kw_only=True)
class Reconstruct(OfRun):
    """Give held-out images back: reconstruct.png, each above its reconstruction.

    By the encoder, or where there is none from the noise that inverting the sampler leads to. What
    a model that restores was shown of an image lies between the two.
    """

    n: Count = 32
    """Number of held-out images."""
    images: Images = ()
    """Image files to give back in their place, after the run's directory; of any size."""
    label: str | None = None
    """The class of these, where the run is class-conditional."""


@dataclass(frozen=True, kw_only=True)
class Interpolate(OfRun):
    """Strips between pairs: interpolate_SEED.png, one row per pair.

    Where the run has an encoder, straight lines between the latents of held-out images; where its
    sampler can be inverted, great arcs between their noises; else great arcs between drawn noises.
    """

    pairs: Count = 8
    """Number of pairs, which are the rows."""
    steps: Annotated[int, Limits(2, 1000)] = 10
    """Images in a row, both ends included."""
    seed: Seed = 0
    """Of the noises, or of the choice of images."""
    noises: bool = False
    """Between drawn noises in place of held-out images."""
    images: Images = ()
    """Image files to go between in place of those, pair by pair, after the run's directory."""
    label: str | None = None
    """The class of these, where the run is class-conditional."""


@dataclass(frozen=True, kw_only=True)
class Edit(edit_settings.Edit, OfRun):
    """Fill in, restore, vary or change images: edit_HOW_SEED.png, before and after, and a folder.

    Images of any size are brought to the run's; without any, held-out images are edited.
    """

    images: Images = ()
    """Image files, after the run's directory. None: four held-out images, which are clear ones."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What the commands that score images have in common."""

    scores: Annotated[tuple[ScoreName, ...], tyro.conf.arg(metavar="NAME...")] = ()
    """Scores of samples, DISTANCE_NETWORK. Distances: fd (Fréchet), fd_limit (of infinitely many),
    kd, kd_gaussian (kernel), swd (sliced Wasserstein), precision, recall, density, coverage, vendi;
    is (classifier score) of the last three. Networks: pixels, alexnet, vgg16, efficientnet,
    inception, classifier."""
    n: Natural | None = None
    """Number of images, chosen at random by the seed. 0: all. None: what takes a few minutes on two
    CPU cores; with scores of samples no more than there are real images for the floor."""
    split: str = "test"
    """Of which part of the data set the real images are."""
    seed: Seed = 0
    """Of the choice of images and of the noise."""
    weights: str | None = None
    """The file of Inception's weights, or the folder of an exported classifier."""
    per_class: bool = False
    """Each of --scores of every class by itself as well."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Scoring, OfRun):
    """Expensive scores on held-out images, with standard errors: evaluation.json.

    Log-likelihoods, bounds by their parts, bits per dimension: what the run's family has. With
    --scores those of samples by a network's features in their place, each with its interval and the
    same score of real images, in scores.jsonl as well.
    """


@dataclass(frozen=True, kw_only=True)
class Auditing:
    """What the commands that audit images have in common."""

    seed: Seed = 0
    """Of the samples and of the choice of images."""
    network: Literal["pixels", "alexnet", "vgg16", "efficientnet", "inception", "classifier"] = (
        "pixels"
    )
    """Whose features images are compared by. Networks of ImageNet are in the extra [features];
    classifier takes an export of experiments.classifier, and reads classes with it as well."""
    weights: str | None = None
    """The file of Inception's weights, or the folder of an exported classifier."""


@dataclass(frozen=True, kw_only=True)
class Audit(Auditing, OfRun):
    """Look for copies of training images, collapse, bias, blur, artefacts and overfitting.

    Each finding is printed with its numbers and what to do, and added to findings.jsonl; sheets
    audit_*.png show the nearest pairs, the spectrum and what is missing.
    """

    n: Count = 1000
    """Samples to draw."""


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
    step: Natural | None = None
    """The checkpoint of this step instead, of those there are (--run.keep)."""
    average: str | None = None
    """The moving average to export, by its name, by a length between those kept, or of an earlier
    checkpoint, as NAME@STEP. None: the first kept."""


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
    "edit": Edit,
    "evaluate": Evaluate,
    "audit": Audit,
    "export": Export,
    "replay": Replay,
}
DRAWING = (Sample, Reconstruct, Interpolate, Edit)


def command(name: str, config: type, hidden: Iterable[str] = ()) -> type:
    """The flags of a command for an experiment.

    Args:
      name: of the command.
      config: the experiment's settings, a dataclass: those that act on sampling alone are flags of
        the commands that draw images.
      hidden: names of flags to leave out of the help.

    Returns:
      The dataclass in `COMMANDS`, or one that inherits it.
    """
    kind = COMMANDS[name]
    hints = typing.get_type_hints(kind, include_extras=True)
    added: list[tuple[str, Any, Any]] = [
        (flag, Annotated[hints[flag], tyro.conf.Suppress], getattr(kind, flag))
        for flag in hidden
        if flag in hints
    ]
    if kind in DRAWING:
        said = _documents(config)
        for flag, hint in sampling_settings(config).items():
            text = f"{said.get(flag, '')} None: as in the run.".strip()
            added.append((flag, Annotated[hint | None, tyro.conf.arg(help=text)], None))
    if not added:
        return kind
    return make_dataclass(
        kind.__name__, added, bases=(kind,), frozen=True, namespace={"__doc__": kind.__doc__}
    )


def sampling_changes(given: Any, config: type) -> dict[str, Any]:
    """The settings of an experiment that a command was given.

    Args:
      given: the command's flags.
      config: the experiment's settings, a dataclass.

    Returns:
      {name: value} of those that are to differ from the run's.
    """
    found = {name: getattr(given, name, None) for name in sampling_settings(config)}
    return {name: value for name, value in found.items() if value is not None}


def _documents(kind: type) -> dict[str, str]:
    """The strings below the fields of a dataclass, which is how they are documented."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        try:
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, SyntaxError, TypeError):  # a notebook's, say
            continue
        for node, after in itertools.pairwise(getattr(body, "body", [])):
            match node, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(text))):
                    found[name] = " ".join(text.split())
    return found
