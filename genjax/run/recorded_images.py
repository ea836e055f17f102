"""What config.json records of a run's images, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genjax.data.dataset import ImageSpec
from genjax.data.settings import DataSettings
from genjax.run.config import parse


def data_settings(directory: Path, values: dict[str, Any]) -> DataSettings:
    """Where a run's images come from.

    Args:
      directory: the run's.
      values: the contents of its config.json.

    Returns:
      The settings.

    Raises:
      ConfigError: where config.json does not state it.
    """
    config = values.get("config")
    data = config.get("data") if isinstance(config, dict) else None
    return parse(DataSettings, data, f"{directory / 'config.json'}, data")


def image_spec(directory: Path, values: dict[str, Any]) -> ImageSpec:
    """What a run's images are.

    Args:
      directory: the run's.
      values: the contents of its config.json.

    Returns:
      Shape, classes and count.

    Raises:
      ConfigError: where config.json does not state it.
    """
    images = values.get("images")
    images = dict(images) if isinstance(images, dict) else {}
    images.pop("fingerprint", None)
    return parse(ImageSpec, images, str(directory / "config.json"))
