"""Errors whose message is one line for the user, and what an exit code they lead to."""

import os
import re
from typing import Any


class GenjaxError(Exception):
    """An error that the user can understand from its one line.

    Attributes:
      exit_code: of a command that ends with it: 2 for what the user can mend, 1 for a run gone
        wrong.
      at_once: whether the command ends without waiting for threads, which would fail once more.
    """

    exit_code = 2
    at_once = False


def first_line(error: BaseException) -> str:
    """What an error says, on one line: those of the libraries underneath run to hundreds.

    Args:
      error: any exception.

    Returns:
      The first line of its text, at most 300 characters; its type's name where it has no text.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def one_line(error: BaseException) -> str:
    """A whole message on one line that no name out of a file can turn into terminal commands.

    Args:
      error: any exception.

    Returns:
      At most 1,000 printable characters; words of over 300 are cut.
    """
    words = (word if len(word) <= 300 else f"{word[:300]}…" for word in str(error).split())
    line = " ".join(words)
    return printable(line[:1000])


def printable(text: str) -> str:
    """A text that no name out of a file can turn into terminal commands.

    Args:
      text: any text, such as one that a file holds.

    Returns:
      The text with "?" for each character that is not printable.
    """
    return "".join(c if c.isprintable() else "?" for c in text)


def shortened(items: list[Any]) -> str:
    """The first eight of some items, and how many more there are.

    Args:
      items: anything.

    Returns:
      One line.
    """
    rest = f" and {len(items) - 8} more" if len(items) > 8 else ""
    return ", ".join(map(str, items[:8])) + rest


def environment_error(error: BaseException) -> str | None:
    """One line for an error that names an environment variable which is set, as its cause.

    Args:
      error: any exception.

    Returns:
      The line; None where the error names none.
    """
    names = re.findall(r"\b(?:[A-Z][A-Z0-9]*_[A-Z0-9_]+|jax_\w+)\b", str(error))
    for name in map(str.upper, names):
        if name in os.environ and not isinstance(error, GenjaxError):
            return printable(f"{name}={os.environ[name][:100]}: {one_line(error)}")
    return None


class ConfigError(GenjaxError):
    """Settings, a run directory or an argument that cannot be used."""
