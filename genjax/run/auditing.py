"""The audits of samples: copies, collapse, bias, blur, artefacts and overfitting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from genjax.data.images import Images
from genjax.errors import ConfigError
from genjax.evaluate import bias, collapse, memorization, nearest, overfitting, spectrum
from genjax.evaluate.average import Average
from genjax.evaluate.finding import Finding
from genjax.evaluate.vendi import vendi
from genjax.report import grids, plots
from genjax.run import findings, records
from genjax.run.audit_reference import CHUNK, AuditReference
from genjax.run.collapse_alarm import balanced

logger = logging.getLogger(__name__)

NEAREST = "audit_nearest.png"
SPECTRUM = "audit_spectrum.png"
MISSING = "audit_missing.png"
SHEETS = (NEAREST, SPECTRUM, MISSING)
FILES = (records.FINDINGS, *SHEETS)  # that an audit writes
SHOWN = 32  # pairs in a sheet


class Audit:
    """The audits of samples, which share their nearest training images and their features.

    Args:
      samples: uint8 [n, H, W, C].
      reference: the real images.
      folder: where the sheets go; None for nowhere.
      in_turn: whether the samples are of every class in turn, as a model draws them that is told
        the class.
      scores: {score: average} of images by the model that drew the samples; None where there is
        no model, or it has no scores.
      units: of the scores, where they have some.
      seed: of random choices.

    Raises:
      ConfigError: where there are fewer than 3 samples.
    """

    def __init__(
        self,
        samples: np.ndarray,
        reference: AuditReference,
        folder: Path | None = None,
        *,
        in_turn: bool = False,
        scores: Callable[[Images], dict[str, Average]] | None = None,
        units: Mapping[str, str] | None = None,
        seed: int = 0,
    ):
        if len(samples) < 3:
            raise ConfigError(f"an audit compares 3 images or more: there are {len(samples)}")
        self.samples, self.reference, self.folder, self.seed = samples, reference, folder, seed
        self.in_turn, self.scores, self.units = in_turn, scores, units or {}
        self.network = reference.network

    def recorded(self, folder: Path, step: int) -> Iterator[Finding]:
        """The findings, each added to findings.jsonl.

        Args:
          folder: of that file.
          step: of the state that drew the samples.

        Yields:
          What `findings` does.
        """
        for finding in self.findings():
            findings.append(folder, step, [finding])
            yield finding

    def findings(self) -> Iterator[Finding]:
        """All that apply, in turn; those that do not are logged.

        Yields:
          The findings; a sheet is in the folder before the finding that it belongs to.
        """
        yield self._memorization()
        yield self._collapse()
        if self._open_attributes:
            yield self._bias()
        else:
            logger.info("bias: skipped, the images have no labels that the model is free to draw")
        if min(self.samples.shape[1:3]) >= 8:
            yield from self._spectrum()
        else:
            logger.info("blur: skipped, the images have fewer than 8 pixels a side")
        if self.scores:
            yield self._overfitting(self.scores)
        else:
            logger.info("overfitting: skipped, there is no score of held-out images")

    @cached_property
    def near(self) -> memorization.Neighbours:
        """The nearest training images of the samples."""
        return self.reference.neighbours(self.samples, "samples")

    @property
    def _open_attributes(self) -> list[str]:
        """Attributes whose shares the model decides: not the class that it is told to draw."""
        return [x for x in self.reference.attributes if x != "class" or not self.in_turn]

    def predicted(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """What a classifier says of an attribute: the network's own, or the nearest images' votes.

        Args:
          name: of the attribute.

        Returns:
          Classes of the samples, int [n], and of the held-out images, int [m].
        """
        labels, _, classes = self.reference.attributes[name]
        if name == "class" and self.network.logits is not None:
            both = (self.samples, self.reference.held_out)
            logits = [self.network.all_logits(nearest.blocks(x, CHUNK)) for x in both]
            if logits[0].shape[1] == len(classes):
                return logits[0].argmax(1), logits[1].argmax(1)
        near = (self.near, self.reference.near)
        ours, theirs = (bias.votes(each.rows, labels, len(classes)) for each in near)
        return ours, theirs

    def _save(self, name: str, image: np.ndarray) -> None:
        if self.folder is not None:
            grids.save(self.folder / name, image)

    def _memorization(self) -> Finding:
        found = memorization.decide(
            self.near, self.reference.near, network=self.network.name, seed=self.seed
        )
        closest = np.argsort(found.closeness, kind="stable")[:SHOWN]
        theirs = self.reference.training_images(found.copied[closest])
        self._save(NEAREST, grids.pairs(self.samples[closest], theirs))
        return found.finding

    def _collapse(self) -> Finding:
        features = self.reference.features_of(self.samples)
        real, images = self.reference.features, self.reference.held_out
        reference = collapse.Reference(real, self.seed)
        attributes = self.reference.attributes
        classes = self.predicted("class") if "class" in attributes else None
        if self.in_turn and classes is not None:
            rows = balanced(attributes["class"][1])
            reference, images = collapse.Reference(real[rows], self.seed), images[rows]
            classes = classes[0], classes[1][rows]
        finding = collapse.collapse(
            features, reference, classes=classes, network=self.network.name, seed=self.seed
        )
        if (missing := collapse.missing(features, reference)).any():
            self._save(MISSING, grids.grid(images[missing][: 2 * SHOWN]))
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
            labels, held_out, names = self.reference.attributes[name]
            found[name] = bias.shares(*self.predicted(name), held_out, labels, names, level=level)
        m = len(self.reference.held_out)
        return bias.bias(found, len(self.samples), m, network=self.network.name, seed=self.seed)

    def _spectrum(self) -> Iterator[Finding]:
        both = (self.samples, self.reference.held_out)
        ours, theirs = (spectrum.frequencies(x) for x in both)
        ratio = spectrum.ratio(ours.bands, theirs.bands, spectrum.ERROR_RATE / ours.bands.shape[1])
        centres = spectrum.ring_centres(*self.samples.shape[1:3])
        self._save(SPECTRUM, plots.ratio(centres, ratio.value, ratio.low, ratio.high))
        yield spectrum.blur(ours, theirs, seed=self.seed)
        yield spectrum.checkerboard(ours, theirs, seed=self.seed)

    def _overfitting(self, scores: Callable[[Images], dict[str, Average]]) -> Finding:
        train, test = scores(self.reference.training), scores(self.reference.test)
        return overfitting.overfitting(train, test, self.units, seed=self.seed)
