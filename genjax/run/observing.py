"""What is to be restored: images of a user or held-out ones, and how they were observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from genjax import keys
from genjax.data.given_files import changes, read_images, read_mask, stacked
from genjax.edit import noise_level, operators
from genjax.edit.operator import Operator
from genjax.errors import ConfigError
from genjax.run.edit_settings import Edit

ADDED = 0.1  # noise that --task denoise adds to clear images, of a range of 1
_GREY = 128  # of hidden pixels where an observation is shown


@dataclass(frozen=True)
class Observation:
    """Observed images, in the units −1..1 of data.

    Attributes:
      y: float32 [m, ...].
      operator: that they were observed by.
      noise: standard deviation of their noise, [m].
      shown: how they look, uint8 [m, H, W, C].
      truth: the images behind them, uint8 [m, H, W, C]; None where these are not known.
      lines: what was understood.
      hidden: which pixels were hidden, bool [H, W, 1]; None where none was.
    """

    y: np.ndarray
    operator: Operator
    noise: np.ndarray
    shown: np.ndarray
    truth: np.ndarray | None
    lines: tuple[str, ...]
    hidden: np.ndarray | None = None


def observe_files(
    paths: Sequence[str],
    how: Edit,
    shape: tuple[int, int, int],
) -> Observation:
    """Image files as observations, or as clear images that are observed.

    Args:
      paths: of the files.
      how: they were, or are to be, observed.
      shape: (H, W, C) of the model's images.

    Returns:
      The observations.

    Raises:
      ConfigError: where the model's images cannot be observed so.
      DataError: where a file or the mask cannot be used.
    """
    if how.clear or how.task is None:
        given = read_images(paths, shape)
        sizes = {each.size for each in given}
        if how.mask is not None and len(sizes) > 1:
            raise ConfigError(
                "--mask is for images of one size: edit the others by a second command"
            )
        found = observe(stacked(given), how, size=sizes.pop(), known=how.mask is None)
        return Observation(**{**vars(found), "lines": (*changes(given), *found.lines)})
    operator = operator_of(how, shape)
    like = jax.eval_shape(operator, jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[1:]
    given = read_images(paths, (like[0], like[1], like[2]))
    y = _to_data(stacked(given))
    noise, line = _noise(how, y)
    shown = _shown(stacked(given), shape)
    return Observation(y, operator, noise, shown, None, (*changes(given), *_described(how), line))


def observe(
    images: np.ndarray,
    how: Edit,
    *,
    size: tuple[int, int] | None = None,
    known: bool = True,
) -> Observation:
    """Clear images, degraded.

    Args:
      images: uint8 [m, H, W, C].
      how: they are to be observed.
      size: (height, width) of the file that a mask belongs to; None for that of the images.
      known: whether the images are the truth behind the observation, rather than images some of
        whose pixels nobody wants.

    Returns:
      The observations.

    Raises:
      ConfigError: where such images cannot be observed so.
      DataError: where the mask cannot be used.
    """
    height, width, channels = images.shape[1:]
    operator = operator_of(how, (height, width, channels), size)
    y = operator(jnp.asarray(_to_data(images)))
    keep = None if how.task else operator(jnp.ones((1, height, width, channels)))
    added = how.noise if how.noise is not None else ADDED if how.task == "denoise" else 0.0
    noise = np.full(len(images), 2 * added, np.float32)
    if added and known:
        each = keys.per_example(jax.random.key(how.seed), len(images))
        y = y + 2 * added * (1.0 if keep is None else keep) * keys.normal(each, y.shape)
    what = f"noise of {added:g} (of a range of 1)" if added else "no noise"
    seen = np.clip(np.rint(127.5 * (np.asarray(y) + 1)), 0, 255).astype(np.uint8)
    hidden = None
    if keep is not None:
        hidden = np.asarray(keep)[0] == 0
        seen = np.where(hidden, np.uint8(_GREY), seen)
    shown, truth = _shown(seen, images.shape[1:]), images if known else None
    lines = (*_described(how), what)
    return Observation(np.asarray(y), operator, noise, shown, truth, lines, hidden)


def operator_of(
    how: Edit, shape: tuple[int, int, int], size: tuple[int, int] | None = None
) -> Operator:
    """The operator that images are observed by.

    Args:
      how: images are observed.
      shape: (H, W, C) of the model's images.
      size: (height, width) of the file that a mask belongs to; None for that of `shape`.

    Returns:
      The operator.

    Raises:
      ConfigError: where such images cannot be observed so.
      DataError: where the mask cannot be used.
    """
    height, width, _ = shape
    if how.mask is not None:
        return operators.mask(
            shape, jnp.asarray(~read_mask(how.mask, size or (height, width), shape))
        )
    match how.hide:
        case "random":
            return operators.random_mask(shape, jax.random.key(how.seed))
        case "centre":
            parts = height // 4, width // 4, height - 2 * (height // 4), width - 2 * (width // 4)
            return operators.box(shape, *parts)
        case "left" | "right":
            return operators.outpainting(shape, **{how.hide: width // 2})
        case "top" | "bottom":
            return operators.outpainting(shape, **{how.hide: height // 2})
    try:
        match how.task:
            case "super2" | "super4" | "super8":
                return operators.downsample_area(shape, int(how.task[-1]))
            case "deblur":
                return operators.gaussian_blur(shape, how.blur)
            case "colourise":
                return operators.grey(shape)
            case "jpeg":
                return operators.jpeg(shape, how.quality)
    except ValueError as error:
        raise ConfigError(f"--task {how.task}: {error}") from error
    return Operator(lambda x: x, shape, gram=1.0)


def _noise(how: Edit, y: np.ndarray) -> tuple[np.ndarray, str]:
    """The noise of a user's observation, and what is said about it."""
    if how.noise is not None:
        return np.full(len(y), 2 * how.noise, np.float32), f"noise of {how.noise:g} as given"
    if how.task not in ("deblur", "denoise", "jpeg"):
        return np.zeros(len(y), np.float32), "no noise (--noise gives some)"
    found = np.asarray(noise_level.estimate(jnp.asarray(y)))
    each = ", ".join(f"{x / 2:.3g}" for x in found[:8])
    return found, f"noise estimated as {each} (of a range of 1; --noise says it)"


def _described(how: Edit) -> tuple[str, ...]:
    if how.mask is not None:
        return (f"filled in: the white pixels of {how.mask}",)
    if how.hide is not None:
        parts = {"centre": "the middle quarter", "random": "half of the pixels, at random"}
        return (f"filled in: {parts.get(how.hide, f'the {how.hide} half')}",)
    more = {"deblur": f", a Gaussian of {how.blur:g} pixels", "jpeg": f", quality {how.quality}"}
    return (f"task: {how.task}{more.get(str(how.task), '')}",)


def _to_data(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 127.5 - 1


def _shown(seen: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Observations in the size and with the channels of images, their pixels enlarged."""
    height, width, channels = shape
    large = seen.repeat(height // seen.shape[1], 1).repeat(width // seen.shape[2], 2)
    return large.repeat(channels // seen.shape[3], 3)
