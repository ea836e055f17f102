"""Scores of a run's samples, or of anyone's images, against a split of real images."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Sequence

import jax
import numpy as np

from genjax import files
from genjax.data.errors import DataError
from genjax.data.images import Images
from genjax.data.opening import MEMORY, find_at_own_size
from genjax.data.order import batch_indices
from genjax.data.settings import DataSettings
from genjax.errors import ConfigError
from genjax.evaluate.score import Score
from genjax.run.class_scores import ClassScores
from genjax.run.restored import Prior, RestoredRun
from genjax.run.sampling import labels
from genjax.run.score_names import ScoreName
from genjax.run.score_rows import append
from genjax.run.scoring import (
    RealImages,
    Scorer,
    batches,
    kind_and_network,
    open_network,
    real_images,
    takes_logits,
)

logger = logging.getLogger(__name__)

DEFAULT: tuple[ScoreName, ...] = ("kd_vgg16", "fd_vgg16", "coverage_vgg16")
"""Scores where no names are given."""


def score_run(
    run: RestoredRun,
    names: Sequence[ScoreName],
    n: int | None = None,
    split: str = "test",
    seed: int = 0,
    *,
    prior: Prior | None = None,
    weights: str | None = None,
    per_class: bool = False,
) -> list[Score]:
    """Scores of a run's samples, each with its interval and the floor of real images.

    Args:
      run: a trained run.
      names: of the scores, such as "kd_vgg16".
      n: samples to draw. None: 1,000 on a CPU and 10,000 elsewhere, but no more than there are
        images for the floor; 0: as many as there are such images.
      split: of the real images.
      seed: of the samples' noise and the order of the real images.
      prior: what latents are drawn from, as for `RestoredRun.sample`.
      weights: the file of Inception's weights, or the folder of an exported classifier.
      per_class: whether to score the samples of each class by themselves as well.

    Returns:
      The scores in the order of the names.

    Raises:
      ConfigError: where images are too few, weights are missing, or the run is not told classes.
    """
    if per_class and run.family.classes is None:
        raise ConfigError("--per-class: this run is not told classes; train one with --classes")
    real = real_images(run.images.split, run.images.settings, split, seed)
    most = 1000 if jax.default_backend() == "cpu" else 10_000
    n = _number(n, most, real)
    drawn = (batch["image"] for batch in run.samples(n, seed, prior=prior))
    drawn_as = np.asarray(labels(run.family, n)) if per_class else None
    return all_scores(names, drawn, n, real, weights, drawn_as)


def score_images(
    images: str,
    against: str,
    scores: Sequence[ScoreName] = (),
    n: int | None = None,
    split: str = "test",
    seed: int = 0,
    *,
    weights: str | None = None,
    per_class: bool = False,
    to: str | None = None,
    data: DataSettings = DataSettings(),  # noqa: B008, frozen
) -> list[Score]:
    """Scores of anyone's images against real ones.

    Args:
      images: a folder, or a file .zip, .npz or .npy; all images in it.
      against: a folder or such a file of real images, or the name of a data set.
      scores: their names; none for `DEFAULT`.
      n: images to score, chosen at random by the seed; None: all, but no more than there are images
        for the floor; 0: all.
      split: of the real images.
      seed: of the order of the images.
      weights: the file of Inception's weights, or the folder of an exported classifier.
      per_class: whether to score the images of each class by themselves as well.
      to: a file to add the scores to.
      data: how both are read, and where prepared data sets are.

    Returns:
      The scores in the order of the names.

    Raises:
      ConfigError: where images are too few or of another shape, weights are missing, the file
        cannot be written, or the two sets do not have the same classes.
      DataError: where one of the two cannot be read.
    """
    if to is not None and (reason := files.unwritable(files.user_path(to).parent)):
        raise ConfigError(f"cannot write to {to} ({reason}): give another --to")
    samples = any_images(images, data)
    theirs = named_images(against, data)
    found = find_at_own_size(theirs)
    real = real_images(lambda name: found.open(name, MEMORY), theirs, split, seed)
    count = len(samples)
    if n is not None and n > count:
        raise ConfigError(f"--n {n:,}: {images} holds {count:,} images")
    n = _number(n, count, real) if n is None else n or count
    if n < count:
        logger.info("%s of %s images are scored, chosen by the seed", f"{n:,}", f"{count:,}")
    given = _labels(images, samples, real, n, seed) if per_class else None
    made = all_scores(scores or DEFAULT, batches(samples, n, seed), n, real, weights, given)
    if to is not None:
        append(files.user_path(to), 0, made)
    return made


def all_scores(
    names: Sequence[str],
    samples: Iterable[np.ndarray],
    n: int,
    real: RealImages,
    weights: str | None = None,
    labels: np.ndarray | None = None,
) -> list[Score]:
    """Scores of samples, network by network.

    Samples are kept where several networks look at them, else passed on batch by batch.

    Args:
      names: of the scores, such as "kd_vgg16".
      samples: n images in random order, uint8 [b, H, W, C].
      n: how many.
      real: what they are compared with.
      weights: the file of Inception's weights, or the folder of an exported classifier.
      labels: class numbers of the samples, [n], for scores of each class as well.

    Returns:
      The scores in the order of the names, each before those of its classes.

    Raises:
      ConfigError: where images are too few or of another shape, or weights are missing.
    """
    parts = {name: kind_and_network(name) for name in names}
    looks = dict.fromkeys((network, takes_logits(kind)) for kind, network in parts.values())
    networks = {name: open_network(name, real.shape, weights) for name, _ in looks}
    scorers = {name: Scorer(real, n, network) for name, network in networks.items()}
    classes = {}
    if labels is not None:
        classes = {name: ClassScores(each, labels) for name, each in scorers.items()}
    for kind, network in parts.values():
        scorers[network].check(kind)
        if classes:
            classes[network].check(kind)
    kept = list(samples) if len(looks) > 1 else samples
    found: dict[str, list[Score]] = {}
    for look in looks:
        features = scorers[look[0]].features(kept, look[1])
        for name, (kind, network) in parts.items():
            if (network, takes_logits(kind)) == look:
                found[name] = [scorers[network].score(kind, features)]
                if classes:
                    found[name] += classes[network].scores(kind, features)
    return [score for name in names for score in found[name]]


def any_images(images: str, settings: DataSettings) -> Images:
    """All images of a folder or a file.

    Args:
      images: a folder, or a file .zip, .npz or .npy.
      settings: how they are read.

    Returns:
      The images.

    Raises:
      DataError: where they cannot be read.
    """
    ours = dataclasses.replace(settings, folder=images, name=DataSettings.name, dir=None)
    return find_at_own_size(ours).open("all", MEMORY)


def named_images(against: str, settings: DataSettings) -> DataSettings:
    """Settings that open a folder, a file or a data set by one word.

    Args:
      against: a folder, a file .zip, .npz or .npy, or the name of a data set.
      settings: how it is read, and where prepared data sets are.

    Returns:
      The settings.

    Raises:
      DataError: for a file that is not there.
    """
    path = files.user_path(against)
    if path.exists():
        return dataclasses.replace(settings, folder=against, name=DataSettings.name, dir=None)
    if path.suffix.lower() in (".npz", ".npy", ".zip"):
        raise DataError(f"there is no file {against}: --against takes a folder, a file or a name")
    return dataclasses.replace(settings, folder=None, name=against)


def _labels(images: str, samples: Images, real: RealImages, n: int, seed: int) -> np.ndarray:
    """Class numbers of the n images that are scored, in their order."""
    theirs = real.reference
    if not (samples.labelled and theirs.labelled) or samples.classes != theirs.classes:
        said = [", ".join(x.classes[:5]) or "none" for x in (samples, theirs)]
        raise ConfigError(
            f"--per-class needs the same classes on both sides: {images} has {said[0]}, "
            f"{theirs.name} has {said[1]}"
        )
    return samples.labels()[batch_indices(seed, 0, n, len(samples))[0]]


def _number(n: int | None, most: int, real: RealImages) -> int:
    further = len(real.reference) if real.others is None else len(real.others)
    return min(most, further) if n is None else n or further
