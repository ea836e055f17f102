"""The pieces of the study of modes: stacked digits, their classifier, GANs and their samples."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import classifier, dcgan_fashion, r3gan, stylegan
from experiments.study import where_and_when
from genjax import run
from genjax.data import Dataset, from_arrays
from genjax.evaluate.modes import modes
from genjax.report import grids
from genjax.run import minutes
from genjax.run.family import Family

MODELS = {"dcgan": dcgan_fashion, "r3gan": r3gan, "stylegan": stylegan}
DIGITS = 10  # classes of each channel
CHUNK = 500  # images that are classified at once
SURE = 0.9  # probability of its class that the classifier gives each channel of a clear image
SHOWN, COLUMNS = 64, 16


def stacked(
    images: np.ndarray, labels: np.ndarray, modes: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Images of given modes: each channel is an image of that class, at random.

    Args:
      images: uint8 [N, H, W, 1].
      labels: their classes, 0 to 9, [N].
      modes: the wanted ones, 100 times the first channel's class, and so on, [n].
      rng: draws the images.

    Returns:
      uint8 [n, H, W, 3].
    """
    found = np.empty((len(modes), *images.shape[1:3], 3), np.uint8)
    for channel, wanted in enumerate(digits(modes).T):
        for k in range(DIGITS):
            mine = np.flatnonzero(wanted == k)
            chosen = rng.choice(np.flatnonzero(labels == k), len(mine))
            found[mine, ..., channel] = images[chosen, ..., 0]
    return found


def digits(modes: np.ndarray) -> np.ndarray:
    """The classes of the three channels of each mode, [n, 3]."""
    return np.stack([modes // DIGITS**2, modes // DIGITS % DIGITS, modes % DIGITS], 1)


class Pieces:
    """What a study computes, each a row."""

    def __init__(self, study: Any, single: Dataset, place: Path):
        self.study, self.single, self.place = study, single, place
        labels = single.train.source[np.arange(len(single.train))]["label"]
        share = np.bincount(labels, minlength=DIGITS) / len(labels)
        self.probabilities = np.einsum("i,j,k->ijk", share, share, share).ravel()
        # The modes of real images: of the data, and of data of which nine tenths collapsed.
        rng = np.random.default_rng(0)
        few = np.zeros(DIGITS**3)
        few[rng.choice(DIGITS**3, DIGITS**2, replace=False)] = 1
        few *= self.probabilities
        self.references = {
            "held-out images": self.probabilities,
            "held-out images of 100 modes": few / few.sum(),
        }

    def drawn(self, split: str, p: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """n stacked images of a split, and their modes, of probabilities p."""
        rng, images = np.random.default_rng(seed), self.single.split(split)
        batch, chosen = images.source[np.arange(len(images))], rng.choice(DIGITS**3, n, p=p)
        return stacked(batch["image"], batch["label"], chosen, rng), chosen

    @cached_property
    def images(self) -> Dataset:
        """The stacked images that all GANs are trained on; a tenth as many are held out."""
        n = self.study.images
        train, _ = self.drawn("train", self.probabilities, n, 1)
        return from_arrays(train, test=self.drawn("test", self.probabilities, -(-n // 10), 2)[0])

    @cached_property
    def judge(self) -> run.RestoredRun:
        """The classifier of single images, trained, or resumed where it was stopped."""
        steps, usual = self.study.classifier_steps, classifier.Config().run
        where = str(self.place / "classifier")
        settings = replace(usual, steps=steps, every=steps, dir=where, score=None)
        family = classifier.build(classifier.Config(settings), self.single.spec)
        return run.train(family, self.single, settings, name="classifier")

    @cached_property
    def error(self) -> float:
        """The share of held-out single images that the classifier takes for another class."""
        return float(self.judge.evaluate(0).scores["error"].mean)

    @cached_property
    def stated(self) -> Callable[[np.ndarray], tuple[jax.Array, jax.Array]]:
        """Single images -> their classes by the classifier, and the probabilities of those."""
        classify, state = self.judge.family.classify, self.judge.usable_state

        def stated(images):
            found = jax.nn.softmax(classify(state, images)[1])
            return found.argmax(-1), found.max(-1)

        return jax.jit(stated)

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mode that the classifier sees in each image, and how sure it is, [n] both.

        It is as sure of a mode as of the channel that it is least sure of.
        """
        classes, sure = [], []
        for start in range(0, len(images), CHUNK):
            part = images[start : start + CHUNK]
            found = self.stated(np.moveaxis(part, -1, 0).reshape(-1, *part.shape[1:3], 1))
            for rows, each in zip((classes, sure), found, strict=True):
                rows.append(np.asarray(each).reshape(3, len(part)))
        numbers = np.array([DIGITS**2, DIGITS, 1]) @ np.concatenate(classes, 1)
        return numbers, np.concatenate(sure, 1).min(0)

    def reference(self, piece: str) -> dict[str, Any]:
        """What is counted of real images that no model was trained on."""
        images, true = self.drawn("test", self.references[piece], self.study.samples, 3)
        seen, sure = self.read(images)
        return {
            "piece": piece,
            **self.counted(seen, sure),
            "drawn": len(np.unique(true)),
            "misread": float((seen != true).mean()),
            "classifier_error": self.error,
            "classifier_images": len(self.single.test),
        }

    def counted(self, seen: np.ndarray, sure: np.ndarray) -> dict[str, Any]:
        """The modes of a row, how many images were read surely, and where and when."""
        found = asdict(modes(seen, self.probabilities))
        found["sure"] = float((sure >= SURE).mean())
        return {**found, **where_and_when()}

    def settings(self, model: str, **changes: Any) -> run.Settings:
        """Of a run of a GAN."""
        return replace(MODELS[model].Config().run, score=None, keep=1, **changes)

    def family(self, model: str, settings: run.Settings) -> Family:
        """A GAN at its default settings but for the run's."""
        config = replace(MODELS[model].Config(), run=settings)
        return MODELS[model].build(config, self.images.spec)

    def timed(self, model: str) -> dict[str, Any]:
        """How many steps of a GAN fill the minutes; every seed takes as many."""
        wanted = self.settings(model, minutes=self.study.minutes)
        with tempfile.TemporaryDirectory() as folder:
            where = Path(folder) / "run"
            steps = minutes.settled(wanted, self.family(model, wanted), self.images, where).steps
        return {"piece": model, "steps": steps}

    def sheet(self, model: str, seed: int) -> Path:
        """The picture of a run's samples."""
        return self.place / f"{model}_{seed}.png"

    @property
    def sheets(self) -> dict[str, Path]:
        """{model: the picture of its first seed's samples}."""
        return {model: self.sheet(model, self.study.first_seed) for model in self.study.models}

    def sampled(self, piece: str, model: str, seed: int, steps: int) -> dict[str, Any]:
        """Trains a GAN, and counts the modes of its samples."""
        began, where = time.perf_counter(), str(self.place / f"{model}_{seed}")
        settings = self.settings(model, steps=steps, every=steps, seed=seed, dir=where)
        trained = run.train(self.family(model, settings), self.images, settings, name=model)
        seconds = time.perf_counter() - began
        samples = trained.sample(self.study.samples, seed)
        grids.save(self.sheet(model, seed), grids.grid(samples[:SHOWN], COLUMNS))
        key = {"piece": piece, "model": model, "seed": seed, "steps": steps, "seconds": seconds}
        return {**key, **self.counted(*self.read(samples))}
