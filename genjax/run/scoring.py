"""Scores of samples against real images by a network's features, of a run or of anyone's images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import jax
import numpy as np
from tqdm.auto import tqdm

from genjax.data.images import Images
from genjax.data.order import batch_indices
from genjax.data.settings import DataSettings
from genjax.errors import ConfigError
from genjax.evaluate.classifier_score import classifier_score
from genjax.evaluate.estimate import FOLDS, Estimate
from genjax.evaluate.features.network import FeatureNetwork, pixels
from genjax.evaluate.frechet import frechet, frechet_limit
from genjax.evaluate.kernel_distance import Gaussian, kernel_distance, median_distance
from genjax.evaluate.neighbours import neighbour_scores
from genjax.evaluate.score import Score
from genjax.evaluate.sliced_wasserstein import sliced_wasserstein_score
from genjax.evaluate.vendi import vendi
from genjax.run.classifier import load_classifier
from genjax.train import progress

MOST = 50_000  # images of a reference
MOST_NEIGHBOURS = 10_000  # of either side, where the time grows as their product
NEIGHBOUR = 5  # whose distance is the radius
_BATCH = 100  # images whose features are computed together


class _Kind(NamedTuple):
    """A score by its name on the command line."""

    name: str
    better: Literal["lower", "higher"]
    estimate: Callable[[np.ndarray, np.ndarray], Estimate] | None = None  # None: of neighbours
    most: int = MOST
    references: bool = True  # whether it compares
    logits: bool = False


def _gaussian(x: np.ndarray, y: np.ndarray) -> Estimate:
    return kernel_distance(x, y, Gaussian(median_distance(y)))


_KINDS = {
    "fd": _Kind("frechet distance", "lower", frechet),
    "fd_limit": _Kind("frechet distance for n to infinity", "lower", frechet_limit),
    "kd": _Kind("kernel distance", "lower", kernel_distance),
    "kd_gaussian": _Kind("gaussian kernel distance", "lower", _gaussian),
    "swd": _Kind("sliced wasserstein distance", "lower", sliced_wasserstein_score),
    **{
        name: _Kind(f"{name} (k = {NEIGHBOUR})", "higher", most=MOST_NEIGHBOURS)
        for name in ("precision", "recall", "density", "coverage")
    },
    "vendi": _Kind("vendi score", "higher", lambda x, y: vendi(x), references=False),
    "is": _Kind(
        "classifier score",
        "higher",
        lambda x, y: classifier_score(x),
        references=False,
        logits=True,
    ),
}
# What the standard weights of Inception alone may be called.
_STANDARD = {"fd": "FID", "fd_limit": "FID-infinity", "kd": "KID", "is": "Inception score"}


def open_network(
    name: str, shape: tuple[int, int, int], weights: str | None = None
) -> FeatureNetwork:
    """The network of a score.

    Args:
      name: "pixels", "alexnet", "vgg16", "efficientnet", "inception" or "classifier".
      shape: (H, W, C) of the images.
      weights: the file of Inception's weights, or the folder of an exported classifier.

    Returns:
      The network.

    Raises:
      ConfigError: where weights of Inception or a classifier are not given or cannot be used, or
        the network does not take images of that shape.
      FeatureError: where weights are absent or cannot be used.
    """
    network = _network(name, shape, weights)
    try:
        jax.eval_shape(network.features, jax.ShapeDtypeStruct((1, *shape), np.uint8))
    except ValueError as error:
        raise ConfigError(f"{network.name}: {error}") from error
    return network


def _network(name: str, shape: tuple[int, int, int], weights: str | None) -> FeatureNetwork:
    if name == "classifier":
        if weights is None:
            raise ConfigError(
                "classifier takes what `python -m experiments.classifier export` wrote: --weights "
                "FOLDER"
            )
        return load_classifier(weights)
    if name == "inception":
        if weights is None:
            raise ConfigError(
                "inception takes its weights from your own file, as FID's are nowhere to be "
                "installed: --weights FILE, or take vgg16"
            )
        from genjax.evaluate.features.inception import inception

        return inception(weights)
    if name == "efficientnet":
        from genjax.evaluate.features.efficientnet import efficientnet_lite0

        return efficientnet_lite0()
    if name != "pixels":
        from genjax.evaluate.features.imagenet import alexnet, vgg16

        return alexnet() if name == "alexnet" else vgg16()
    return pixels(shape)


def kind_and_network(name: str) -> tuple[str, str]:
    """The parts of a score's name.

    Args:
      name: such as "fd_limit_vgg16".

    Returns:
      The kind of score, and its network.
    """
    kind, _, network = name.rpartition("_")
    return kind, network


@dataclass(frozen=True, eq=False)
class RealImages:
    """What samples are compared with.

    Attributes:
      reference: the real images.
      others: real images that are not in the reference, for the floor; None where there are none.
      seed: of their order.
      resized: what was done to them when they were read; "" for nothing.
    """

    reference: Images
    others: Images | None
    seed: int = 0
    resized: str = ""

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of an image."""
        return self.reference.shape[1:]

    def floor_batches(self, n: int) -> Iterator[np.ndarray] | None:
        """As many further real images.

        Args:
          n: how many.

        Returns:
          Batches uint8 [b, H, W, C]; None where there are fewer.
        """
        if self.others is None or len(self.others) < n:
            return None
        return batches(self.others, n, self.seed)


def real_images(
    open_split: Callable[[str], Images], settings: DataSettings, split: str, seed: int = 0
) -> RealImages:
    """The reference of a data set's split, and other images of it for the floor.

    Args:
      open_split: from the name of a split to its images.
      settings: how they are read.
      split: of the reference: the floor comes from train where this is test or validation, from
        test where it is train; of others there is none.
      seed: of the order of the images.

    Returns:
      Both.
    """
    size = settings.height_width
    resized = "" if size is None else f"lanczos, {settings.fit}, to {size[0]}x{size[1]}"
    # A slice may overlap with another split.
    other = {"test": "train", "validation": "train", "train": "test"}.get(split)
    others = open_split(other) if other else None
    return RealImages(open_split(split), others, seed, resized)


class Scorer:
    """Scores of samples against the same real images, whose features are computed once.

    Args:
      real: what samples are compared with.
      n: samples in each score.
      network: from images to features.
      most: images of the reference, at most.
    """

    def __init__(self, real: RealImages, n: int, network: FeatureNetwork, most: int = MOST):
        self.real, self.n, self.network = real, n, network
        self.n_reference = min(len(real.reference), most)
        self._reference: Callable[[bool], np.ndarray] | None = None
        self._found: dict[tuple[str, bool], np.ndarray] = {}
        self._floors: dict[str, Estimate | None] = {}
        self._neighbours: dict[str, dict[str, Estimate]] = {}

    @property
    def reference_rows(self) -> np.ndarray:
        """Numbers of the images of the reference, in the order of their features, int [m]."""
        real = self.real
        return batch_indices(real.seed, 0, self.n_reference, len(real.reference))[0]

    def part(self, rows: np.ndarray, n: int, others: Images | None) -> Scorer:
        """Scores against a part of the reference, whose features are not computed again.

        Args:
          rows: which of the reference's images, bool [m].
          n: samples in each score.
          others: real images for the floor; None where there are none.

        Returns:
          The scorer.
        """
        part = Scorer(replace(self.real, others=others), n, self.network)
        part.n_reference = int(rows.sum())
        part._reference = lambda logits: self._all_of_reference(logits)[rows]
        return part

    def score(self, kind: str, features: np.ndarray) -> Score:
        """A score of samples.

        Args:
          kind: of the score, such as "kd".
          features: of the n samples in random order, or logits for "is".

        Returns:
          The score with its floor.

        Raises:
          ConfigError: where there are too few images for it.
        """
        how = _KINDS[kind]
        reference = self._all_of_reference(how.logits) if how.references else None
        x = features[: how.most]
        y = x[:0] if reference is None else reference[: how.most]
        try:
            estimate = self._estimate("samples", kind, x, y)
            if kind not in self._floors:
                floor = self._floor(how.logits)
                self._floors[kind] = (
                    None if floor is None else self._estimate("floor", kind, floor[: how.most], y)
                )
        except ValueError as error:
            raise ConfigError(f"{how.name}, {self.network.name}: {error}") from error
        real = self.real
        place = f"{real.reference.name} {real.reference.split}"
        return Score.from_estimate(
            estimate,
            self._name(kind),
            how.better,
            self._floors[kind],
            n=len(x),
            n_reference=len(y),
            reference=place,
            network=self.network.name,
            sha256=self.network.sha256,
            resizing="; ".join(filter(None, (real.resized, self.network.resizing))),
            seed=real.seed,
            fingerprint=real.reference.fingerprint,
        )

    def features(self, images: Iterable[np.ndarray], logits: bool = False) -> np.ndarray:
        """Features of n images, with a progress bar.

        Args:
          images: batches uint8 [b, H, W, C].
          logits: whether those are due in place of features.

        Returns:
          [n, d].

        Raises:
          ConfigError: where the images have another shape than the real ones.
        """
        self._neighbours.pop("samples", None)
        checked = (fitting(batch, self.real.shape) for batch in images)
        return self._computed(checked, self.n, logits, "samples")

    def _estimate(self, what: str, kind: str, x: np.ndarray, y: np.ndarray) -> Estimate:
        estimate = _KINDS[kind].estimate
        if estimate is not None:
            return estimate(x, y)
        if what not in self._neighbours:  # the four of them at once
            self._neighbours[what] = neighbour_scores(x, y, NEIGHBOUR)
        return self._neighbours[what][kind]

    def check(self, kind: str, flag: str = "--n") -> None:
        """Refuses a score for which there are too few images, before any is drawn.

        Args:
          kind: of the score.
          flag: that gives n.

        Raises:
          ConfigError: where there are too few.
        """
        how, least, d = _KINDS[kind], 2 * FOLDS, self.network.size
        m = self.n_reference if how.references else self.n
        if kind == "fd_limit":
            least = 2 * d + 2
        if min(self.n, m) < least:
            reason = f", twice its {d:,} features" if kind == "fd_limit" else ""
            raise ConfigError(
                f"{self._name(kind)} needs {least:,} images on both sides{reason}; there are "
                f"{self.n:,} samples ({flag}) and {m:,} real images (--split)"
            )

    def _all_of_reference(self, logits: bool) -> np.ndarray:
        if ("reference", logits) not in self._found:
            images = batches(self.real.reference, self.n_reference, self.real.seed)
            self._found["reference", logits] = (
                self._reference(logits)
                if self._reference
                else self._computed(images, self.n_reference, logits, "real images")
            )
        return self._found["reference", logits]

    def _floor(self, logits: bool) -> np.ndarray | None:
        if (images := self.real.floor_batches(self.n)) is None:
            return None
        if ("floor", logits) not in self._found:
            self._found["floor", logits] = self._computed(images, self.n, logits, "real images")
        return self._found["floor", logits]

    def _computed(
        self, images: Iterable[np.ndarray], n: int, logits: bool, what: str
    ) -> np.ndarray:
        title = f"{self.network.name}, {what}"
        with tqdm(
            total=n, unit="image", desc=title, delay=2, leave=False, disable=progress.hidden()
        ) as bar:
            compute = self.network.all_logits if logits else self.network
            return compute(images, lambda done: bar.update(done - bar.n))

    def _name(self, kind: str) -> str:
        standard = self.network.name == "inception" and kind in _STANDARD
        return _STANDARD[kind] if standard else f"{_KINDS[kind].name}, {self.network.name}"


def takes_logits(kind: str) -> bool:
    """Whether a score is one of logits in place of features.

    Args:
      kind: of the score.

    Returns:
      Whether it is.
    """
    return _KINDS[kind].logits


def batches(images: Images, n: int, seed: int) -> Iterator[np.ndarray]:
    """The first images of a set in random order.

    Args:
      images: the set.
      n: how many.
      seed: of the order.

    Yields:
      uint8 [b, H, W, C].
    """
    for batch in images.evaluation_batches(min(_BATCH, n), limit=n, seed=seed):
        yield batch["image"][batch["mask"]]


def fitting(batch: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Samples, once they are seen to have the shape of the real images.

    Args:
      batch: samples, uint8 [b, H, W, C].
      shape: (H, W, C) of the real images.

    Returns:
      The samples.

    Raises:
      ConfigError: where it is another.
    """
    if batch.shape[1:] != shape:
        sizes = ["x".join(map(str, each)) for each in (batch.shape[1:], shape)]
        flag = "--data.channels" if batch.shape[1:3] == shape[:2] else "--data.size"
        raise ConfigError(
            f"the samples are {sizes[0]}, the real images {sizes[1]}: bring both to one form, such "
            f"as by {flag}"
        )
    return batch
