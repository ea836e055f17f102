"""What config.json keeps of how a run came to be: its first weights and its changed settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genjax import files
from genjax.run.config import Change


def changes(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings that were changed when the run was resumed.

    Args:
      values: the contents of config.json.

    Returns:
      [{"setting", "before", "after", "stage", "step"}] in order, without those of another form.
    """
    found = values.get("changes")
    return [change for change in found if _fits(change)] if isinstance(found, list) else []


def _fits(change: Any) -> bool:
    return (
        isinstance(change, dict)
        and change.keys() == {*Change._fields, "stage", "step"}
        and isinstance(change["setting"], str)
        and isinstance(change["stage"], str)
        and files.is_count(change["step"])
    )


def first_weights(values: dict[str, Any]) -> dict[str, Any] | None:
    """What the run started from.

    Args:
      values: the contents of config.json.

    Returns:
      {"directory", "experiment", "step", "sha256", "export"}; None where it started by itself, or
      the entry has another form.
    """
    found = values.get("init_from")
    kinds = {"directory": str, "experiment": str, "step": int, "sha256": str, "export": bool}
    good = (
        isinstance(found, dict)
        and found.keys() == kinds.keys()
        and all(type(found[name]) is kind for name, kind in kinds.items())
    )
    return found if good else None


def recorded_path(values: dict[str, Any]) -> str | None:
    """Where a run started from, by its settings.

    Args:
      values: the contents of config.json.

    Returns:
      The absolute path, or None.
    """
    settings: Any = values.get("config")
    for name in ("run", "init_from"):
        settings = settings.get(name) if isinstance(settings, dict) else None
    return settings if isinstance(settings, str) else None


def kept(values: dict[str, Any]) -> dict[str, Any]:
    """What a resumed run's config.json keeps of it.

    Args:
      values: the contents before.

    Returns:
      The entries "init_from" and "changes", where they are there.
    """
    found = {"init_from": first_weights(values), "changes": changes(values)}
    return {name: entry for name, entry in found.items() if entry}


def exported(values: dict[str, Any]) -> dict[str, Any]:
    """What an export's config.json keeps of it.

    Args:
      values: the contents of the run's.

    Returns:
      The same, without the names of this machine's folders.
    """
    found = kept(values)
    if start := found.get("init_from"):
        found["init_from"] = {**start, "directory": Path(start["directory"]).name}
    return found


def in_words(values: dict[str, Any]) -> str:
    """It as a part of a model card.

    Args:
      values: the contents of config.json.

    Returns:
      Markdown; "" where there is nothing to say.
    """
    lines = []
    if start := first_weights(values):
        what = "the export" if start["export"] else "the run"
        where = f"{what} {_code(start['directory'])} of {_code(start['experiment'])}"
        lines.append(
            f"Started from {where} at step {start['step']:,}, sha256 {_code(start['sha256'])}."
        )
    if listed := changes(values):
        lines.append("Changed on the way:\n")
    for change in listed:
        setting = Change(*(change[name] for name in Change._fields))
        where = f"{change['step']:,}" + (f" of {_code(change['stage'])}" if change["stage"] else "")
        lines.append(f"- from step {where} on: {_code(setting)}")
    return "\n\n" + "\n".join(lines) if lines else ""


def _code(text: Any) -> str:
    """Text of a run directory as Markdown code: nothing in it is markup."""
    plain = "".join(c if c.isprintable() and c not in "`|" else "?" for c in str(text))
    return f"`{plain[:300]}`"
