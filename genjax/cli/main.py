"""The command line of an experiment: train, and what to do with a run."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar

import tyro

from genjax.cli import platform
from genjax.cli.config import ConfigError

T = TypeVar("T")
Dir = Annotated[str | None, tyro.conf.Positional]


@dataclass(frozen=True)
class Sample:
    """Draw new images from a run: DIR/sample_SEED.png, a grid, and .npz, the arrays."""

    dir: Dir = None
    """The run's directory. None: runs/ and the experiment's name."""
    n: int = 64
    """How many images."""
    seed: int = 0
    """Of the noise: image i of a seed is the same for every n."""
    label: int | None = None
    """The class to draw, where the run is class-conditional. None: every class in turn."""
    best: bool = False
    """From the checkpoint of the best score instead of the latest."""


@dataclass(frozen=True)
class Reconstruct:
    """Encode and decode held-out images: DIR/reconstruct.png, each above its reconstruction."""

    dir: Dir = None
    """The run's directory. None: runs/ and the experiment's name."""
    n: int = 32
    """How many images."""
    best: bool = False
    """From the checkpoint of the best score instead of the latest."""
    data: str | None = None
    """Where the images lie on this machine: the TFDS directory, or the folder. None: where the run
    found them."""


@dataclass(frozen=True)
class Interpolate:
    """Strips between pairs: DIR/interpolate_SEED.png, a row a pair.

    Where the run has an encoder, straight lines between the codes of held-out images; else great
    arcs between noises.
    """

    dir: Dir = None
    """The run's directory. None: runs/ and the experiment's name."""
    pairs: int = 8
    """How many pairs: the rows."""
    steps: int = 10
    """Images in a row, both ends included."""
    seed: int = 0
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
    """The run's directory. None: runs/ and the experiment's name."""
    n: int = 1000
    """How many images, chosen at random by the seed. 0: all."""
    split: str = "test"
    """Of which part of the data set."""
    seed: int = 0
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
    """The folder to write; one that is there already is left alone."""
    dir: Dir = None
    """The run's directory. None: runs/ and the experiment's name."""
    license: str = "unknown"
    """Licence of the weights for the card: mit, cc-by-4.0, …"""
    best: bool = False
    """The checkpoint of the best score instead of the latest."""


@dataclass(frozen=True)
class Replay:
    """Run a step that was not finite again, from the checkpoint before it, and tell what broke."""

    dir: Dir = None
    """The run's directory. None: runs/ and the experiment's name."""
    step: int | None = None
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


def main(
    name: str, document: str, config: Any, build: Callable, presets: Mapping[str, Any] | None = None
) -> None:
    """Runs the command in sys.argv for an experiment and exits; training is the default.

    config: the default settings. document: the experiment's docstring. presets: further settings,
    by the name that --preset takes.
    """
    if type(config).__module__ == "__main__":  # the experiment is the program, no part of another
        platform.with_kept_memory()
    arguments = sys.argv[1:]
    program = f"python -m experiments.{name}"
    try:
        if arguments and arguments[0] in COMMANDS:
            command = arguments.pop(0)
            settings: Any = _parse(COMMANDS[command], arguments, prog=f"{program} {command}")
            platform.configure()
            from genjax.cli import commands, evaluating, replaying

            runs: dict[str, Callable[..., None]] = {
                "sample": commands.sample,
                "reconstruct": commands.reconstruct,
                "interpolate": commands.interpolate,
                "evaluate": evaluating.evaluate,
                "export": partial(commands.export, document=document),
                "replay": replaying.replay,
            }
            runs[command](name, type(config), build, settings)
        else:
            if arguments[:1] == ["train"]:
                arguments.pop(0)
            default, document = _preset(arguments, config, document, presets or {})
            document += "\n\nAfter training: " + ", ".join(f"{program} {c}" for c in COMMANDS)
            settings = _parse(
                type(config), arguments, prog=program, default=default, description=document
            )
            platform.configure()
            from genjax.cli.train import train

            with platform.background():
                train(name, settings, build)
    except KeyboardInterrupt:  # a run's, before its first step: from there on it saves and says so
        print("stopped: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        # 2: what the user can mend, 1: a run gone wrong, 128 + n: signal n. Anything else is a bug.
        code = getattr(error, "exit_code", None)
        if code is None:
            traceback.print_exc()
            platform.leave(1, at_once=False)
        print(f"{'stopped' if code > 2 else 'error'}: {_line(error)}", file=sys.stderr)
        if code <= 2:
            platform.leave(code, at_once=getattr(error, "at_once", False))
        sys.exit(code)


def _preset(
    arguments: list[str], config: Any, document: str, presets: Mapping[str, Any]
) -> tuple[Any, str]:
    """Takes --preset NAME out of the arguments: it decides the defaults of all the others."""
    if presets:
        document += "\n\n--preset " + " | ".join(presets) + ": other defaults for the flags below."
    for i, argument in enumerate(arguments):
        flag, _, given = argument.partition("=")
        if flag == "--preset":
            del arguments[i]
            if not given and i < len(arguments):
                given = arguments.pop(i)
            if given not in presets:
                known = ", ".join(presets) or "none here"
                raise ConfigError(f"there is no preset {given!r}; there are: {known}")
            return presets[given], document
    return config, document


def _parse(kind: type[T], arguments: list[str], **options: Any) -> T:
    """tyro's parser, with its box of complaints put on one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=arguments, **options)
    except SystemExit as stop:
        if stop.code:
            lines = [line.strip("│╭╮╰╯─ ") for line in complaint.getvalue().splitlines()]
            text = " ".join(line for line in lines[1:] if line and "helptext" not in line)
            raise ConfigError(text or lines[0]) from None
        raise


def _line(error: Exception) -> str:
    """One line that no name out of a file can turn into commands to the terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))
