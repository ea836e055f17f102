"""The command line of an experiment: train, and what to do with a run."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from genjax.cli import options, startup
from genjax.cli.options import COMMANDS
from genjax.cli.parsing import nearest, parse
from genjax.cli.restart import open_streams
from genjax.errors import ConfigError, environment_error, one_line

SUGGEST = "--suggest"


def main(
    name: str,
    document: str,
    config: Any,
    build: Callable,
    presets: Mapping[str, Any] | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs a command of an experiment; training is the default. Exits where it fails.

    Args:
      name: of the experiment.
      document: its docstring, for the help and the model card.
      config: the default settings: a frozen dataclass with the fields `run` and `data`.
      build: (config, spec of the images) -> the family.
      presets: further default settings, by the name that --preset takes.
      arguments: the words of the command; None for those the program was started with.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    guarded(lambda: _run(name, document, config, build, presets or {}, words))


def guarded(command: Callable[[], None]) -> None:
    """Runs a command; one that fails ends with one line and an exit code.

    Args:
      command: to run.
    """
    open_streams()
    with startup.interruptible():
        try:
            command()
        except KeyboardInterrupt as stop:  # of a run, before its first step: from there on it saves
            startup.report(f"stopped: {stop or 'interrupted'}")
            sys.exit(getattr(stop, "exit_code", 130))
        except Exception as error:
            _fail(error)


def _fail(error: Exception) -> NoReturn:
    # 2: what the user can mend, 1: a run gone wrong, 128 + n: signal n. Anything else is a bug.
    code = getattr(error, "exit_code", None)
    if isinstance(error, OSError) and error.strerror and error.errno != errno.ENOENT:
        startup.report(f"error: {one_line(error)}")  # a disk or its permissions
        startup.leave(1, at_once=True)
    if code is None and (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)):
        startup.report("error: out of memory: take fewer images, or --optimizer.microbatches auto")
        startup.leave(1, at_once=False)
    if code is None and (line := environment_error(error)):
        startup.report(f"error: {line}")
        startup.leave(2, at_once=False)
    if code is None:
        traceback.print_exc()
        startup.leave(1, at_once=False)
    startup.report(f"{'stopped' if code > 2 else 'error'}: {one_line(error)}")
    at_once = getattr(error, "at_once", False)
    if code > 2 and not at_once:  # of several processes each stops in its own time
        sys.exit(code)
    startup.leave(code, at_once=at_once)


def _run(
    name: str,
    document: str,
    config: Any,
    build: Callable,
    presets: Mapping[str, Any],
    words: list[str],
) -> None:
    program = program_name()
    command = _command(words)
    asks = bool({"-h", "--help"} & set(words))
    suggests = command == "train" and SUGGEST in words
    if command == "train":
        words = [word for word in words if word != SUGGEST]
        default, description = _preset(words, config, document, presets)
        if asks:
            lacking = _lacking(build, default)
            able = [each for each in COMMANDS if each not in lacking]
            if hasattr(config, "suggest"):
                description += f"\n\n{SUGGEST}: look at the images, print settings, train nothing."
            description += f"\n\nAfter training: {program} " + " | ".join(able)
        given = parse(type(config), words, prog=program, default=default, description=description)
    else:
        hidden = _lacking(build, config) if asks else ()
        kind = options.command(command, type(config), hidden)
        given = parse(kind, words, prog=f"{program} {command}")
    startup.configure()
    from genjax.cli.commands import Experiment  # imports what help and refusals need not wait for
    from genjax.run import suggestions

    experiment = Experiment(name, document, config, build, program)
    with startup.printed_log(), startup.quiet_threads():
        if not suggests:
            return getattr(experiment, command)(given)
        preset = next((f" --preset {k}" for k, v in presets.items() if v is default), "")
        print(*suggestions.lines(given, default, program + preset, words), sep="\n")


def _lacking(build: Callable, config: Any) -> list[str]:
    """The commands and flags that the family cannot serve; none where it needs its images first."""
    from genjax.data.dataset import ImageSpec

    try:
        family = build(config, ImageSpec((32, 32, 3), 10, 1000))
    except Exception:
        return []
    latents = family.latent or family.encode or family.invert
    lacking = {
        # What has a trajectory can be inverted by some --sampler.
        "reconstruct": not (family.encode or family.reconstruct or family.trajectory),
        "edit": not (family.denoiser or latents),
        "interpolate": not latents,
        "trajectory": family.trajectory is None,
        "noises": not (family.encode or family.trajectory),
    }
    return [name for name, lacks in lacking.items() if lacks]


def _command(words: list[str]) -> str:
    """Takes the command out of the words: the first, where that is no flag."""
    if not words or words[0].startswith("-"):
        return "train"
    known = ("train", *COMMANDS)
    if words[0] in known:
        return words.pop(0)
    guess = nearest(words[0], known)
    meant = f", did you mean {guess}?" if guess else ";"
    raise ConfigError(f"there is no command {words[0]}{meant} there are {', '.join(known)}")


def program_name() -> str:
    """How the running program was started, to be repeated in help, hints and model cards.

    Returns:
      "python -m package.module", or "python path/to/file.py".
    """
    module = sys.modules.get("__main__")
    spec = getattr(module, "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    path = sys.argv[0] or "-"
    with contextlib.suppress(ValueError):  # on another drive
        relative = os.path.relpath(path)
        path = relative if not relative.startswith("..") else path
    return f"python {shlex.quote(Path(path).as_posix())}"


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
