"""The audits of a run: copies, collapse, bias, blur, artefacts and overfitting of its samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import jax
import numpy as np
from tqdm.auto import tqdm

from genjax.data.images import Images
from genjax.errors import ConfigError
from genjax.evaluate import bias, collapse, copies, memorization, overfitting, spectrum
from genjax.evaluate.average import Average, average
from genjax.evaluate.features.network import FeatureNetwork
from genjax.evaluate.finding import Finding
from genjax.evaluate.vendi import vendi
from genjax.report import grids, plots
from genjax.run import findings, records
from genjax.run.collapse_alarm import balanced
from genjax.run.evaluation import evaluate
from genjax.run.restored import RestoredRun
from genjax.train.progress import hidden

logger = logging.getLogger(__name__)

NEAREST = "audit_nearest.png"
SPECTRUM = "audit_spectrum.png"
MISSING = "audit_missing.png"
SHEETS = (NEAREST, SPECTRUM, MISSING)
FILES = (records.FINDINGS, *SHEETS)  # that an audit writes
SHOWN = 32  # pairs in a sheet
MOST_HELD_OUT = 10_000
UNITS = ("nats", "bits/dim")
SCORED = 300  # images of each split whose likelihoods are compared: they are expensive
_CHUNK = 256


@dataclass(frozen=True)
class _ByIndex:
    """The images of a data set, as audits read them."""

    images: Images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        return self.images.source[np.asarray(rows)]["image"]


class Audit:
    """The audits of one run, which share its samples and their nearest training images.

    Args:
      run: the run or the export.
      folder: where the sheets go.
      network: of the features; None for pixels.
      n: samples.
      seed: of the samples and of random choices.

    Raises:
      ConfigError: where there are too few images to compare anything with.
    """

    def __init__(
        self,
        run: RestoredRun,
        folder: Path,
        network: FeatureNetwork,
        *,
        n: int = 1000,
        seed: int = 0,
    ):
        self.run, self.folder, self.network, self.n, self.seed = run, folder, network, n, seed
        self.training, self.test = run.images.train, run.images.test
        if min(len(self.training), len(self.test)) < 3 or n < 3:
            raise ConfigError(
                f"an audit compares 3 images or more: there are {len(self.training)} to train on, "
                f"{len(self.test)} held-out ones and --n {n} samples"
            )
        held_out = min(len(self.test), MOST_HELD_OUT)
        self._rows = np.random.default_rng(seed).permutation(len(self.test))[:held_out]

    def recorded(self) -> Iterator[Finding]:
        """The findings, each added to findings.jsonl in the folder.

        Yields:
          What `findings` does.
        """
        for finding in self.findings():
            findings.append(self.folder, self.run.step, [finding])
            yield finding

    def findings(self) -> Iterator[Finding]:
        """All that apply to the run, in turn; those that do not are logged.

        Yields:
          The findings; a sheet is in the folder before the finding that it belongs to.
        """
        copied = self._memorization()
        yield copied.finding
        yield self._collapse()
        if self._open_attributes:
            yield self._bias()
        else:
            logger.info("bias: skipped, the images have no labels that the model is free to draw")
        if min(self.samples.shape[1:3]) >= 8:
            yield from self._spectrum()
        else:
            logger.info("blur: skipped, the images have fewer than 8 pixels a side")
        if self.run.family.measure or self.run.family.validate:
            yield self._overfitting()
        else:
            logger.info("overfitting: skipped, the run has no score of held-out images")

    @cached_property
    def samples(self) -> np.ndarray:
        """New images of the run, uint8 [n, H, W, C]."""
        return self.run.sample(self.n, self.seed)

    @cached_property
    def held_out(self) -> np.ndarray:
        """Held-out images in random order, uint8 [m, H, W, C]."""
        return _ByIndex(self.test)[self._rows]

    @cached_property
    def near(self) -> tuple[memorization.Neighbours, memorization.Neighbours]:
        """The nearest training images of the samples and of the held-out images."""
        training, total = _ByIndex(self.training), 3 * len(self.training)
        found = []
        for name, images in (("samples", self.samples), ("held-out images", self.held_out)):
            with _bar(f"training images near {name}", total) as advance:
                found.append(memorization.neighbours(images, training, self.network, advance))
        return found[0], found[1]

    @cached_property
    def attributes(self) -> dict[str, tuple[np.ndarray, np.ndarray, tuple[str, ...]]]:
        """{attribute: (of the training images, of the held-out images, names)}, with 2 or more."""
        found = {}
        for name, classes in self.training.factor_classes.items():
            if name in self.test.factors and classes != self.training.classes:
                ours, theirs = self.training.factors[name], self.test.factors[name]
                found[name] = np.asarray(ours), np.asarray(theirs)[self._rows], classes
        if self.training.labelled and self.test.labelled:
            ours, theirs = _labels(self.training), _labels(self.test)
            found["class"] = ours, theirs[self._rows], self.training.classes
        return {name: each for name, each in found.items() if len(each[2]) > 1}

    @property
    def _open_attributes(self) -> list[str]:
        """Attributes whose shares the model decides: not the class that it is told to draw."""
        return [x for x in self.attributes if x != "class" or not self.run.family.classes]

    def predicted(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """What a classifier says of an attribute: the network's own, or the nearest images' votes.

        Args:
          name: of the attribute.

        Returns:
          Classes of the samples, int [n], and of the held-out images, int [m].
        """
        labels, _, classes = self.attributes[name]
        if name == "class" and self.network.logits is not None:
            logits = [self.network.all_logits(_blocks(x)) for x in (self.samples, self.held_out)]
            if logits[0].shape[1] == len(classes):
                return logits[0].argmax(1), logits[1].argmax(1)
        near, real = (bias.votes(each.rows, labels, len(classes)) for each in self.near)
        return near, real

    def _memorization(self) -> memorization.Memorization:
        found = memorization.decide(*self.near, network=self.network.name, seed=self.seed)
        closest = np.argsort(found.closeness, kind="stable")[:SHOWN]
        theirs = _ByIndex(self.training)[found.copied[closest]]
        grids.save(self.folder / NEAREST, grids.pairs(self.samples[closest], theirs))
        return found

    def _features(self, images: np.ndarray) -> np.ndarray:
        if self.network.name != "pixels":
            return self.network(_blocks(images))
        small = [np.asarray(copies.reduced(x, copies.COARSE)) for x in _blocks(images)]
        return np.concatenate(small).reshape(len(images), -1)

    def _collapse(self) -> Finding:
        features = self._features(self.samples)
        reference = collapse.Reference(self._features(self.held_out), self.seed)
        classes = self.predicted("class") if "class" in self.attributes else None
        rows = None
        if self.run.family.classes and classes is not None:  # drawn of every class in turn
            rows = balanced(self.attributes["class"][1])
            reference = collapse.Reference(reference.features[rows], self.seed)
            classes = classes[0], classes[1][rows]
        finding = collapse.collapse(
            features, reference, classes=classes, network=self.network.name, seed=self.seed
        )
        if (missing := collapse.missing(features, reference)).any():
            images = self.held_out if rows is None else self.held_out[rows]
            grids.save(self.folder / MISSING, grids.grid(images[missing][: 2 * SHOWN]))
        n = min(len(features), len(reference.features))
        if finding.decided:
            pairs = {"vendi": features, "vendi_real": reference.features}
            numbers = {k: vendi(x[:n]).value for k, x in pairs.items()}
            finding = replace(finding, numbers={**finding.numbers, **numbers})
        return finding

    def _bias(self) -> Finding:
        level = 1 - (1 - bias.LEVEL) / len(self._open_attributes)
        found = {}
        for name in self._open_attributes:
            labels, held_out, names = self.attributes[name]
            found[name] = bias.shares(*self.predicted(name), held_out, labels, names, level=level)
        return bias.bias(
            found, self.n, len(self.held_out), network=self.network.name, seed=self.seed
        )

    def _spectrum(self) -> Iterator[Finding]:
        ours, theirs = (spectrum.frequencies(x) for x in (self.samples, self.held_out))
        ratio = spectrum.ratio(ours.bands, theirs.bands, spectrum.ERROR_RATE / ours.bands.shape[1])
        centres = spectrum.ring_centres(*self.samples.shape[1:3])
        chart = plots.ratio(centres, ratio.value, ratio.low, ratio.high)
        grids.save(self.folder / SPECTRUM, chart)
        yield spectrum.blur(ours, theirs, seed=self.seed)
        yield spectrum.checkerboard(ours, theirs, seed=self.seed)

    def _overfitting(self) -> Finding:
        train, test = self._scores(self.training), self._scores(self.test)
        measure = self.run.family.measure
        return overfitting.overfitting(
            train, test, measure.units if measure else {}, seed=self.seed
        )

    def _scores(self, images: Images) -> dict[str, Average]:
        """The run's scores of many images, and its expensive likelihoods of fewer."""
        family, found, n = self.run.family, {}, min(len(images), MOST_HELD_OUT)
        if family.compiled_validate:
            score = partial(family.compiled_validate, self.run.usable_state)
            batches = images.evaluation_batches(min(n, _CHUNK), limit=n, seed=self.seed)
            found = average(score, batches, jax.random.key(self.seed))
        if family.measure:
            n = min(n, SCORED)
            logger.info("likelihoods of %s images, %s", f"{n:,}", images.split)
            state = self.run.usable_state
            expensive = evaluate(family.measure, state, images, n=n, seed=self.seed).scores
            units = family.measure.units
            found = {k: v for k, v in expensive.items() if units[k] in UNITS} | found
        return found


def _labels(images: Images) -> np.ndarray:
    rows = np.arange(len(images))
    parts = [images.source[rows[i : i + _CHUNK]]["label"] for i in range(0, len(rows), _CHUNK)]
    return np.concatenate(parts)


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK))


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    with tqdm(total=total, desc=name, disable=hidden(), leave=False) as bar:
        yield lambda done: bar.update(done - bar.n) and None
