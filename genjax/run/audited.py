"""What is audited: a run's samples, or anyone's images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np

from genjax.data.images import Images
from genjax.data.opening import MEMORY, find_at_own_size
from genjax.data.settings import DataSettings
from genjax.errors import ConfigError
from genjax.evaluate.average import Average, average
from genjax.evaluate.features.network import FeatureNetwork
from genjax.evaluate.finding import Finding
from genjax.run import audit_reference
from genjax.run.audit_reference import AuditReference
from genjax.run.auditing import FILES as FILES
from genjax.run.auditing import Audit
from genjax.run.directory import destination
from genjax.run.evaluation import evaluate
from genjax.run.image_scores import any_images, named_images
from genjax.run.restored import RestoredRun
from genjax.run.scoring import batches, fitting, open_network

logger = logging.getLogger(__name__)

UNITS = ("nats", "bits/dim")
SCORED = 300  # images of each split whose likelihoods are compared: they are expensive
_CHUNK = 256


def of_run(
    run: RestoredRun,
    network: FeatureNetwork,
    folder: Path | None = None,
    *,
    n: int = 1000,
    seed: int = 0,
    reference: AuditReference | None = None,
) -> Audit:
    """The audits of a run's samples.

    Args:
      run: the run or the export.
      network: of the features.
      folder: where the sheets go; None for nowhere.
      n: samples.
      seed: of the samples and of random choices.
      reference: the run's images, where they serve several audits.

    Returns:
      The audits.

    Raises:
      ConfigError: where there are too few images to compare anything with.
    """
    if n < 3:
        raise ConfigError(f"an audit compares 3 images or more: give a higher --n than {n}")
    if reference is None:
        reference = AuditReference(run.images.train, run.images.test, network, seed=seed)
    family = run.family
    return Audit(
        run.sample(n, seed),
        reference,
        folder,
        in_turn=bool(family.classes),
        scores=partial(_scores, run, seed) if family.measure or family.validate else None,
        units=family.measure.units if family.measure else None,
        seed=seed,
    )


def audit_images(
    images: str,
    against: str,
    n: int | None = None,
    seed: int = 0,
    *,
    network: str = "pixels",
    weights: str | None = None,
    to: str | None = None,
    data: DataSettings = DataSettings(),  # noqa: B008, frozen
) -> Iterator[Finding | Path]:
    """Audits anyone's images against the data that a model was trained on.

    Args:
      images: a folder, or a file .zip, .npz or .npy; all images in it.
      against: a folder or such a file of the training and the held-out images, or the name of a
        data set.
      n: images to audit, chosen at random by the seed; None for 1,000, or all where there are
        fewer; 0 for all.
      seed: of the choice.
      network: whose features images are compared by, as of `open_network`.
      weights: the file of Inception's weights, or the folder of an exported classifier.
      to: a folder for findings.jsonl and the sheets; None for neither.
      data: how both are read, and where prepared data sets are.

    Yields:
      The findings, then the files that were written.

    Raises:
      ConfigError: where images are too few or of another shape, weights are missing, or the folder
        cannot be written.
      DataError: where one of the two cannot be read.
    """
    folder = None if to is None else destination(Path(to), True, to, FILES)
    samples = any_images(images, data)
    if n is not None and n > len(samples):
        raise ConfigError(f"--n {n:,}: {images} holds {len(samples):,} images")
    count = min(1000, len(samples)) if n is None else n or len(samples)
    found = find_at_own_size(named_images(against, data))
    train, test = (found.open(split, MEMORY) for split in ("train", "test"))
    shape, those = train.shape[1:], f"{len(train):,} training and {len(test):,} held-out images"
    logger.info("%s of %s images against %s of %s", count, len(samples), those, train.name)
    chosen = np.concatenate([fitting(x, shape) for x in batches(samples, count, seed)])
    opened = open_network(network, shape, weights)
    reference = AuditReference(train, test, opened, seed=seed)
    audit = Audit(chosen, reference, folder, seed=seed)
    if folder is None:
        yield from audit.findings()
    else:
        folder.mkdir(parents=True, exist_ok=True)
        yield from audit.recorded(folder, 0)
        yield from (folder / name for name in FILES if (folder / name).exists())


def _scores(run: RestoredRun, seed: int, images: Images) -> dict[str, Average]:
    """The run's scores of many images, and its expensive likelihoods of fewer."""
    family, found, n = run.family, {}, min(len(images), audit_reference.MOST_HELD_OUT)
    if family.compiled_validate:
        score = partial(family.compiled_validate, run.usable_state)
        chunks = images.evaluation_batches(min(n, _CHUNK), limit=n, seed=seed)
        found = average(score, chunks, jax.random.key(seed))
    if family.measure:
        n = min(n, SCORED)
        logger.info("likelihoods of %s images, %s", f"{n:,}", images.split)
        expensive = evaluate(family.measure, run.usable_state, images, n=n, seed=seed).scores
        units = family.measure.units
        found = {k: v for k, v in expensive.items() if units[k] in UNITS} | found
    return found
