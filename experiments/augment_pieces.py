"""The pieces of the study of synthetic images: generators, what they draw, and classifiers."""

import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from experiments import augment_report, classifier, dcgan_fashion, ddpm_fashion, vae_fashion
from experiments.study import where_and_when
from genjax import run
from genjax.data import Dataset, folder, from_arrays
from genjax.errors import ConfigError
from genjax.evaluate.classification import probabilities
from genjax.report import image_sets
from genjax.run.mixture import digest
from genjax.train.progress import hidden

DIFFUSION = ddpm_fashion.Config(classes=True, sampler="dpm_solver_2m", sampling_steps=20)
GENERATORS: dict[str, tuple[Any, Any, int]] = {  # experiment, settings, train steps
    "diffusion": (ddpm_fashion, DIFFUSION, 600),
    "vae": (vae_fashion, vae_fashion.Config(classes=True), 2000),
    "gan": (dcgan_fashion, dcgan_fashion.Config(classes=True, augment="diff"), 1500),
}
MOST = 4  # candidates per image that is wanted, where some are filtered


class Cell:
    """One number of real images and one seed: its images, generator, and classifiers."""

    def __init__(
        self,
        study: Any,
        images: Dataset,
        labels: np.ndarray,
        place: Path,
        size: int,
        seed: int,
    ):
        self.study, self.images, self.seed = study, images, seed
        self.key = {"size": size, "seed": seed}
        self.place = place / f"size_{size}_seed_{seed}"
        every = np.random.default_rng(seed).permutation(len(images.train))
        some = every[stratified(labels[every], size)]
        batch = images.train.source[some]
        self.real = batch["image"], batch["label"]

    @property
    def wanted(self) -> int:
        """Synthetic images that the largest ratio takes."""
        return round(max(self.study.ratios) * len(self.real[1]))

    def dataset(self, image: np.ndarray, label: np.ndarray) -> Dataset:
        """Images to train on, with the held-out images of the study."""
        test = self.images.test
        held_out = test.source[np.arange(len(test))]
        pair, names = (held_out["image"], held_out["label"]), self.images.train.classes
        return from_arrays(image, label, test=pair, names=names)

    def settings(self, experiment: Any, name: str, steps: int, batch: int) -> run.Settings:
        how = {"dir": str(self.place / name), "seed": self.seed, "keep": 1, "devices": 1}
        config = experiment.Config().run
        return replace(config, steps=steps, batch=batch, every=steps, score=None, **how)

    def classifier(self, arm: str) -> run.RestoredRun:
        """The classifier of an arm, trained, or resumed where it was stopped."""
        real, ratio, augmented = self.study.arms[arm]
        parts = [self.real] if real else []
        parts += [self.synthetic(ratio)] if ratio else []
        images = self.dataset(*map(np.concatenate, zip(*parts, strict=True)))
        name = arm.replace(", ", "_").replace(" ", "_")
        settings = self.settings(classifier, name, self.study.steps, self.study.batch)
        flags = {"flip": self.study.flip, "shift": self.study.shift} if augmented else {}
        family = classifier.build(classifier.Config(settings, **flags), images.spec)
        return run.train(family, images, settings, name="classifier")

    def generator(self) -> run.RestoredRun:
        """The generator, trained on the real images, or resumed where it was stopped."""
        study = self.study
        experiment, config, _ = GENERATORS[study.generator]
        batch = min(config.run.batch, len(self.real[1]))
        settings = self.settings(experiment, "generator", study.generator_training, batch)
        guided = {"guidance": study.guidance} if study.generator == "diffusion" else {}
        images = self.dataset(*self.real)
        family = experiment.build(replace(config, run=settings, **guided), images.spec)
        return run.train(family, images, settings, name=experiment.__name__.rpartition(".")[2])

    def draw(self) -> dict[str, Any]:
        """Draws, filters and writes the synthetic images, with their card."""
        study, began = self.study, time.perf_counter()
        trained, classes = self.generator(), self.images.train.classes
        judge = None if study.confidence is None else self.classifier(augment_report.REAL)
        wanted = self.wanted
        batches: list[dict[str, np.ndarray]] = []
        counts = {}
        with tqdm(total=wanted, unit="image", desc="drawing", disable=hidden()) as bar:
            for k, name in enumerate(classes):
                quota = wanted // len(classes) + (k < wanted % len(classes))
                kept, counts[name] = drawn(trained, judge, k, quota, self.seed, study.confidence)
                batches.append({"image": kept, "label": np.full(len(kept), k, np.int32)})
                bar.update(quota)
        batches = [batch for batch in batches if len(batch["image"])]
        if not batches:
            raise ConfigError(
                f"--confidence {study.confidence}: no image of {MOST * wanted:,} was kept: give "
                "less, or train the generator longer"
            )
        row = {
            **self.key,
            "piece": "synthetic",
            "wanted": wanted,
            "counts": counts,
            "weights": digest(trained.usable_state),
            "seconds": time.perf_counter() - began,
        }
        card = augment_report.card(study, self.images, row, trained.directory)
        how = {"by_class": True, "card": card}
        n = sum(len(batch["image"]) for batch in batches)
        image_sets.write_pngs(self.place / "synthetic", batches, n, classes, **how)
        self.__dict__.pop("written", None)
        return row

    @cached_property
    def written(self) -> tuple[np.ndarray, np.ndarray]:
        """The synthetic images, read from their folder, and their class numbers."""
        _, height, width, channels = self.images.train.shape
        how = {"subfolders": "classes", "channels": channels}
        read = folder(self.place / "synthetic", size=(height, width), **how).split("all")
        found = read.source[np.arange(len(read))]
        names = image_sets.class_folders(self.images.train.classes)
        numbers = np.array([names.index(name) for name in read.classes], np.int32)
        return found["image"], numbers[found["label"]]

    def synthetic(self, ratio: float) -> tuple[np.ndarray, np.ndarray]:
        """As many synthetic images per real one as the ratio says, where there are as many."""
        image, label = self.written
        some = stratified(label, round(ratio * len(self.real[1])))
        return image[some], label[some]

    def score(self, arm: str) -> dict[str, Any]:
        """Trains the classifier of an arm and scores it on the held-out images."""
        began, trained = time.perf_counter(), self.classifier(arm)
        found = trained.evaluate(0)
        hits = found.confusion.diagonal() / np.maximum(found.confusion.sum(1), 1)
        return {
            **self.key,
            "arm": arm,
            "images": len(trained.images.train),
            "error": float(found.scores["error"].mean),
            "negative_log_likelihood": float(found.scores["negative_log_likelihood"].mean),
            "calibration_error": found.calibration_error,
            "class_errors": (1 - hits).tolist(),
            "seconds": time.perf_counter() - began,
            **where_and_when(),
        }


def stratified(label: np.ndarray, n: int) -> np.ndarray:
    """The first n rows where classes take turns, so that those of fewer are among them."""
    turn = np.empty(len(label), int)
    for k in np.unique(label):
        mine = np.flatnonzero(label == k)
        turn[mine] = np.arange(len(mine))
    return np.argsort(turn, kind="stable")[:n]


def drawn(
    trained: run.RestoredRun,
    judge: run.RestoredRun | None,
    k: int,
    quota: int,
    seed: int,
    confidence: float | None,
) -> tuple[np.ndarray, dict[str, int]]:
    """Images of class k, and how many of them were filtered for which reason."""
    counts = {"drawn": 0, "another class": 0, "unsure": 0, "kept": 0}
    key = jax.random.fold_in(jax.random.key(seed), k)
    kept = [np.empty((0, *trained.images.train.shape[1:]), np.uint8)]
    most = quota if judge is None else MOST * quota
    for images in trained.sampler.drawn(trained.usable_state, key, most, k) if most else ():
        good = np.full(len(images), True)
        if judge is not None:
            stated = probabilities(judge.family.classify(judge.usable_state, images)[1])
            wrong = stated.argmax(1) != k
            good = ~wrong & (stated[:, k] >= confidence)
            last = np.flatnonzero(np.cumsum(good) == quota - counts["kept"])
            end = last[0] + 1 if len(last) else len(good)  # what is beyond was not needed
            images, good, wrong = images[:end], good[:end], wrong[:end]
            counts["another class"] += int(wrong.sum())
            counts["unsure"] += int((~good & ~wrong).sum())
        counts["drawn"] += len(images)
        counts["kept"] += int(good.sum())
        kept.append(images[good])
        if counts["kept"] == quota:
            break
    return np.concatenate(kept), counts
