"""One edit of real images by a trained run: fill in, restore, vary, change class or attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from genjax.data.given_files import changes, read_images, stacked
from genjax.edit import uncertainty
from genjax.errors import ConfigError
from genjax.report import grids
from genjax.run import altering, edit_effect, moving, observing, restoring
from genjax.run.edit_settings import RESTORING, Edit
from genjax.run.edited_run import EditedRun
from genjax.run.observing import Observation

Given = np.ndarray | Sequence[str] | None  # images, names of files, or held-out images
LEVEL = 0.9  # of the band in which the truth is looked for


@dataclass(frozen=True)
class Edited:
    """Images before and after an edit.

    Attributes:
      before: as they were given or observed, uint8 [m, H, W, C].
      images: what became of them, uint8 [m, n, H, W, C].
      spread: standard deviation of the answers per pixel, of a range of 1, [m, H, W]; None where
        there is one answer or no question.
      truth: what was behind the observations, uint8 [m, H, W, C]; None where that is not known.
      lines: what was understood and done, and how far it can be trusted.
    """

    before: np.ndarray
    images: np.ndarray
    spread: np.ndarray | None = None
    truth: np.ndarray | None = None
    lines: tuple[str, ...] = ()

    def sheet(self) -> np.ndarray:
        """Before and after side by side, a row per image.

        Returns:
          uint8 [H', W', 3].
        """
        columns = {"before": self.before[:, None], "after": self.images}
        if self.spread is not None:
            level = np.rint(255 * np.clip(2 * self.spread, 0, 1)).astype(np.uint8)  # 1/2 at most
            shape = self.images.shape
            columns["spread"] = np.broadcast_to(
                level[:, None, ..., None], (shape[0], 1, *shape[2:])
            )
        if self.truth is not None:
            columns["truth"] = self.truth[:, None]
        return grids.columns(columns)


def edit(run: EditedRun, images: Given, how: Edit, other: EditedRun | None = None) -> Edited:
    """Edits images by a trained run.

    Args:
      run: the run.
      images: uint8 [m, H, W, C] of the run's shape, or the names of image files of any size; None
        for held-out images, which are clear ones.
      how: what is to be done.
      other: the run that `how.to_run` names.

    Returns:
      The images before and after.

    Raises:
      ConfigError: where the family cannot do it, or settings do not fit each other.
      DataError: where a file cannot be used.
    """
    kind, shape = how.kind, run.spec.shape
    label, to = run.class_number(how.label), run.class_number(how.to_label, "--to-label")
    if kind in RESTORING:
        return _restored(run, _observed(run, images, how, shape), how, label)
    given, lines = _given(run, images, how, shape)
    if how.strength is not None:
        found = altering.vary(run, given, how.strength, how.n, label=label, seed=how.seed)
        return Edited(given, found, lines=lines)
    if how.to_run is not None:
        assert other is not None
        found = moving.bridge(run, other, given, label=label)
    elif to is not None:
        found = moving.relabel(run, given, to, label=label)
    else:
        assert how.toward is not None
        found, told = moving.toward(run, given, how.toward, label=label, classifier=how.classifier)
        lines = (*lines, told)
        to = run.images.train.classes.index(how.toward.rpartition("=")[0])
    if how.classifier is not None and to is not None:
        names = run.spec.names or tuple(map(str, range(run.spec.classes)))
        lines = (*lines, edit_effect.effect(how.classifier, given, found, names, to))
    return Edited(given, found[:, None], lines=lines)


def _given(
    run: EditedRun, images: Given, how: Edit, shape: tuple[int, int, int]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Images in the run's shape, and what was done to them."""
    if images is None:
        return run.held_out_batch(4, how.seed)["image"], ()
    if isinstance(images, np.ndarray):
        return _checked(images, shape), ()
    read = read_images(images, shape)
    return stacked(read), changes(read)


def _observed(run: EditedRun, images: Given, how: Edit, shape: tuple[int, int, int]) -> Observation:
    if images is not None and not isinstance(images, np.ndarray):
        return observing.observe_files(images, how, shape)
    given, _ = _given(run, images, how, shape)
    return observing.observe(given, how)


def _restored(run: EditedRun, seen: Observation, how: Edit, label: int | None) -> Edited:
    found = restoring.restore(run, seen, how.n, solver=how.solver, label=label, seed=how.seed)
    judged = _judged(found.images, seen) if seen.truth is not None else ()
    lines = (*seen.lines, *found.lines, *judged)
    return Edited(seen.shown, found.images, found.spread, seen.truth, lines)


def psnr(answers: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The peak signal-to-noise ratio of the mean squared error over the answers to each image.

    Args:
      answers: float [m, n, H, W, C], in 0..255.
      truth: float [m, H, W, C].

    Returns:
      [m], dB.
    """
    error = ((answers - truth[:, None]) ** 2).mean((2, 3, 4)).mean(1)
    return 10 * np.log10(255**2 / np.maximum(error, 1e-3))


def _judged(images: np.ndarray, seen: Observation) -> tuple[str, ...]:
    """How far answers [m, n, ...] are from the truth, and how often it lies in their band."""
    truth = np.asarray(seen.truth, np.float32)
    answers = images.astype(np.float32)
    lines = f"PSNR of one answer {psnr(answers, truth).mean():.1f} dB"
    if (n := answers.shape[1]) > 1:
        mean = psnr(answers.mean(1, keepdims=True), truth).mean()
        lines += f", of the mean of {n} {mean:.1f} dB"
    if min(answers.shape[:2]) < 2:
        return (lines,)
    unseen = None if seen.hidden is None else jnp.asarray(seen.hidden)
    found = uncertainty.coverage(
        jnp.asarray(answers.swapaxes(0, 1)), jnp.asarray(truth), LEVEL, unseen
    )
    band = (
        f"the truth lies in the {LEVEL:.0%} band of the answers in {float(found.share):.0%} "
        f"({float(found.low):.0%} to {float(found.high):.0%}) of the pixels"
        f"{'' if unseen is None else ' that were hidden'}, over {len(truth)} images"
    )
    return lines, band


def _checked(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        seen = f"{images.dtype} {images.shape}"
        raise ConfigError(f"images must be uint8 [m, {', '.join(map(str, shape))}], not {seen}")
    return images
