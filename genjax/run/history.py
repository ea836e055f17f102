"""What config.json keeps of how a run came to be: its first weights and its changed settings."""

from __future__ import annotations

from typing import Any

from genjax import files
from genjax.run.config import Change


def changes(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings that were changed when the run was resumed.

    Args:
      values: the contents of config.json.

    Returns:
      [{"setting", "before", "after", "step"}] in order, without those of another form.
    """
    found = values.get("changes")
    return [change for change in found if _fits(change)] if isinstance(found, list) else []


def _fits(change: Any) -> bool:
    return (
        isinstance(change, dict)
        and change.keys() == {*Change._fields, "step"}
        and isinstance(change["setting"], str)
        and files.is_count(change["step"])
    )


def exported(values: dict[str, Any]) -> dict[str, Any]:
    """What an export's config.json keeps of it.

    Args:
      values: the contents of the run's.

    Returns:
      The same entries, without the names of this machine's folders.
    """
    found: dict[str, Any] = {}
    if listed := changes(values):
        found["changes"] = listed
    return found


def in_words(values: dict[str, Any]) -> str:
    """It as a part of a model card.

    Args:
      values: the contents of config.json.

    Returns:
      Markdown; "" where there is nothing to say.
    """
    lines = []
    for change in changes(values):
        what = Change(*(change[name] for name in Change._fields))
        lines.append(f"- from step {change['step']:,} on: {_code(what)}")
    return "\n".join(["\n\nChanged on the way:\n", *lines]) if lines else ""


def _code(text: Any) -> str:
    """Text of a run directory as Markdown code: nothing in it is markup."""
    plain = "".join(c if c.isprintable() and c not in "`|" else "?" for c in str(text))
    return f"`{plain[:300]}`"
