"""Words of a command line into settings, or one line that says what is wrong with them."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import tyro

from genjax import limits
from genjax.errors import ConfigError

T = TypeVar("T")

# What other programs call our flags.
SYNONYMS = {
    "lr": "learning-rate",
    "epochs": "run.steps",
    "iterations": "run.steps",
    "max-steps": "run.steps",
    "batch-size": "run.batch",
    "bs": "run.batch",
    "output": "run.dir",
    "output-dir": "run.dir",
    "logdir": "run.dir",
    "gpus": "run.devices",
    "dataset": "data.name",
    "data-dir": "data.dir",
    "image-size": "data.size",
    "resolution": "data.size",
    "timesteps": "levels",
    "latent-dim": "latent",
    "z-dim": "latent",
    "grad-clip": "optimizer.clip",
    "gradient-accumulation-steps": "optimizer.microbatches",
    "n-critic": "turns",
    "num-samples": "n",
    "count": "n",
}


def parse(kind: type[T], words: Sequence[str], **options: Any) -> T:
    """The settings that words describe, each within its limits.

    Args:
      kind: a dataclass.
      words: of the command line.
      options: for tyro.

    Returns:
      The settings.

    Raises:
      ConfigError: in one line, where they describe none.
    """
    known = dict(flags(kind))
    for word in words:
        name = word[2:].partition("=")[0].replace("_", "-")
        if word.startswith("--") and name and name not in {*known, "help"}:
            raise ConfigError(f"there is no flag --{name}{suggestion(name, known)}")
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            found = tyro.cli(kind, args=list(words), **options)
    except SystemExit as stop:
        if stop.code:
            raise ConfigError(_one_line(complaint.getvalue(), words, known)) from None
        raise
    limits.check(found)
    return found


def flags(kind: type, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """The flags of a dataclass, those of its sections too.

    Args:
      kind: the dataclass.
      prefix: of their names.

    Yields:
      The name without dashes, and whether it takes a value.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, name = hints[field.name], field.name.replace("_", "-")
        if dataclasses.is_dataclass(hint):
            yield from flags(typing.cast(type, hint), f"{prefix}{name}.")
        elif tyro.conf.Positional not in getattr(hint, "__metadata__", ()):
            yield prefix + name, hint is not bool
            if hint is bool:
                yield f"{prefix}no-{name}", False


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name that was probably meant.

    Args:
      name: what was given.
      known: what there is.

    Returns:
      The most similar one; None where none is similar.
    """
    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)


def suggestion(name: str, known: Iterable[str]) -> str:
    """The rest of a line about a flag that there is not.

    Args:
      name: of the flag, without dashes.
      known: names of the flags that there are.

    Returns:
      Words to append.
    """
    names = list(known)
    last = {each.rpartition(".")[2]: each for each in reversed(names)}
    other = SYNONYMS.get(name)
    guess = other if other in names else None
    guess = guess or last.get(name.rpartition(".")[2]) or nearest(name, names)
    if not guess and (close := nearest(name, last)):
        guess = last[close]
    return f": did you mean --{guess}?" if guess else "; --help lists those there are"


def _one_line(complaint: str, words: Sequence[str], known: dict[str, bool]) -> str:
    """tyro's box of complaints, without the box."""
    lines = [line.strip("│╭╮╰╯ ") for line in complaint.splitlines()]
    rules = [i for i, line in enumerate(lines) if line and not line.strip("─-")]
    first = 2 if 1 in rules else 1  # in an ASCII terminal a rule is below the title
    end = next((i for i in rules if i >= first), len(lines))
    text = " ".join(filter(None, lines[first:end]))
    values = _values(words)
    if match := re.match(r"Error parsing --(\S+):", text):
        usage = next((line for line in lines if line.startswith(f"--{match[1]} ")), "")
        given = " ".join(values.get(match[1], [])) or text
        return f"--{match[1]} takes {_takes(usage.partition(' ')[2])}, not {given}"
    if match := re.match(r"invalid choice (.*) for argument '(.*)'. Expected one of (.*).$", text):
        choices = match[3].strip("(), ").replace("'", "")
        if len(choices) > 300:
            near = nearest(match[1].strip("'"), choices.split(", ")) or choices.split(", ")[0]
            choices = f"{choices.count(',') + 1} names, such as {near}"
        return f"{match[2]} takes one of {choices}; not {match[1]}"
    if match := re.match(r"Missing value for argument '(.*)'\.", text):
        return f"{match[1]} needs a value"
    if match := re.match(r"Missing from .*?: (--\S+)", text):
        return f"{match[1]} is required"
    if match := re.match(r"Unrecognized options: ([^,]*)", text):
        flag = next((name for name, given in values.items() if match[1] in given), "")
        if known.get(flag) is False:
            return f"--{flag} takes no value, not {match[1]}"
        if flag:
            return f"--{flag} takes one value, not {' '.join(values[flag])}"
        return f"{match[1]} belongs to no flag"
    return text or lines[0]


def _values(words: Sequence[str]) -> dict[str, list[str]]:
    """The words that follow each flag; those before the first are under ""."""
    found: dict[str, list[str]] = {"": []}
    values = found[""]
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            values = found[name[2:].replace("_", "-")] = [value] if equals else []
        else:
            values.append(word)
    return found


def _takes(usage: str) -> str:
    """tyro's type of a flag in words."""
    many = usage.startswith("[")
    names = {"INT": "whole numbers" if many else "a whole number", "FLOAT": "a number"}
    parts = re.findall(r"\{[^}]*\}|INT|FLOAT|STR", usage)
    words = [names.get(part, part.strip("{}").replace("|", ", ")) for part in parts]
    return " or ".join(dict.fromkeys(sorted(words, key="None".__eq__))) or usage
