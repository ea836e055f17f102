"""A trained run, read back from its directory or from an export, and what it can do."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from genjax import files
from genjax.data.dataset import Dataset, ImageSpec
from genjax.edit.interpolation import linear, spherical
from genjax.errors import ConfigError
from genjax.run import averaging, classification, editing, export, moving
from genjax.run import mixture as mixtures
from genjax.run.config import load as load_config
from genjax.run.edit_settings import Edit
from genjax.run.editing import Edited
from genjax.run.evaluation import Evaluation, evaluate
from genjax.run.family import Family, state_shapes
from genjax.run.recorded_images import data_settings, image_spec
from genjax.run.sampling import Sampler, labels
from genjax.run.stored_state import checkpoint_state
from genjax.train.state import TrainState, not_finite

Prior = Literal["gaussian", "mixture"]


class RestoredRun:
    """A family with a trained state: `run.train`, `run.open` and `run.load` return one.

    Args:
      directory: the run's, or the export's.
      family: the family.
      values: the contents of config.json.
      state: the trained state.
      images: the data set, or None to open the one that config.json names when it is needed.
      average: which moving average of the state was chosen; None for the first that is kept.
    """

    def __init__(
        self,
        directory: Path,
        family: Family,
        values: dict[str, Any],
        state: TrainState,
        images: Dataset | None = None,
        average: str | None = None,
    ):
        self.directory, self.family, self.values, self.state = directory, family, values, state
        self._images, self.average = images, average
        self.sampler = Sampler(family)

    def __repr__(self) -> str:
        return f"RestoredRun({str(self.directory)!r}, step {self.step:,})"

    @property
    def step(self) -> int:
        """Train steps behind the state."""
        return int(self.state.step)

    @cached_property
    def usable_state(self) -> TrainState:
        """The state, once its weights are seen to be finite.

        Raises:
          ConfigError: where they are not.
        """
        bad = not_finite({"params": self.state.averaged(), "variables": self.state.variables})
        if bad:
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise ConfigError(
                f"{self.directory} holds weights at step {self.step:,} that are not finite "
                f"({bad[0]}{more}): nothing can be made from them"
            )
        return self.state

    @property
    def is_export(self) -> bool:
        """Whether it was read from an export, which has no checkpoints."""
        return export.is_export(self.directory)

    @cached_property
    def images(self) -> Dataset:
        """The data set of the run."""
        return self._images or Dataset(data_settings(self.directory, self.values))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one per step: {"step": …, name: number, …}.

        The metrics of train steps and the scores "test/…" of the same step are one row.
        `pandas.DataFrame(run.metrics).set_index("step")` is a table of them.
        """
        found: dict[int, dict[str, Any]] = {}
        for row in files.read_rows(self.directory / "metrics.jsonl"):
            found.setdefault(row["step"], {}).update(row)
        return [found[step] for step in sorted(found)]

    @property
    def spec(self) -> ImageSpec:
        """What the images are that the run was trained on, by config.json."""
        return image_spec(self.directory, self.values)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that the run was trained on, where config.json has them."""
        return self.spec.names

    def class_number(self, label: int | str | None, flag: str = "--label") -> int | None:
        """The number of a class.

        Args:
          label: its number or its name; a name that is also a number is taken as the name.
          flag: that gives it.

        Returns:
          The number; None for None.

        Raises:
          ConfigError: where no class has that name.
        """
        if not isinstance(label, str):
            return label
        if self.family.classes and label in self.classes:
            return self.classes.index(label)
        if re.fullmatch(r"-?[0-9]{1,9}", label):
            return int(label)
        known = ", ".join(self.classes[:20]) or f"numbers, 0 to {(self.family.classes or 0) - 1}"
        if not self.family.classes:
            known = "none: it has no classes"
        raise ConfigError(f"{flag} {label} is not a class of this run: {known}")

    @cached_property
    def mixture(self) -> mixtures.Mixture:
        """The mixture of Gaussians fitted to the codes of training images; kept in the directory.

        Raises:
          ConfigError: where the family has no encoder to vectors, or an export has no mixture.
        """
        state, exported = self.usable_state, self.is_export
        return mixtures.kept(
            self.directory, exported, self.family, state, lambda: self.images.train
        )

    def drawing(self, prior: Prior | None = None) -> Sampler:
        """What draws images by a distribution of latents.

        Args:
          prior: "gaussian" for N(0, I), "mixture" for `mixture`; None for what the family prefers.

        Returns:
          The sampler.

        Raises:
          ConfigError: where the family has no such prior.
        """
        if prior == "gaussian" and self.family.latent is None:
            raise ConfigError("--prior gaussian is not for this family: it draws its own latents")
        if prior == "gaussian" or not (prior or self.family.mixture):
            return self.sampler
        return Sampler(dataclasses.replace(self.family, latent=None, draw=self.mixture.draw))

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        label: int | str | None = None,
        prior: Prior | None = None,
    ) -> np.ndarray:
        """Draws new images, with a progress bar.

        Args:
          n: how many.
          seed: of the noise: image i of a seed is the same for every n.
          label: the class of all images, by number or name; None for every class in turn, where
            there are classes.
          prior: what latents are drawn from, as for `drawing`.

        Returns:
          uint8 [n, H, W, C].

        Raises:
          ConfigError: where the family has no such class or prior, or n is below 1.
        """
        return np.concatenate([batch["image"] for batch in self.samples(n, seed, label, prior)])

    def samples(
        self,
        n: int,
        seed: int = 0,
        label: int | str | None = None,
        prior: Prior | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """The images of `sample` a batch at a time, so that memory does not depend on n.

        Args:
          n: how many.
          seed: as for `sample`.
          label: as for `sample`.
          prior: as for `sample`.

        Yields:
          {"image": uint8 [m, H, W, C]}, with "label": int32 [m] where there are classes.

        Raises:
          ConfigError: where the family has no such class or prior, or n is below 1.
        """
        if n < 1:
            raise ConfigError(f"--n must be at least 1, not {n}")
        sampler = self.drawing(prior)
        key, number, first = jax.random.key(seed), self.class_number(label), 0
        labels(self.family, 0, number)  # before anything is computed
        for images in sampler.drawn(self.usable_state, key, n, number, progress=True):
            batch = {"image": images}
            each = labels(self.family, len(images), number, first)
            yield batch if each is None else {**batch, "label": np.asarray(each)}
            first += len(images)

    def trajectories(self, n: int = 8, seed: int = 0, label: int | str | None = None) -> np.ndarray:
        """The first images of `sample`, and what they were on the way from the noise.

        Args:
          n: how many.
          seed: as for `sample`.
          label: as for `sample`.

        Returns:
          uint8 [n, T, H, W, C].

        Raises:
          ConfigError: where the family makes its images in one step.
        """
        key, number = jax.random.key(seed), self.class_number(label)
        return self.sampler.trajectories(self.usable_state, key, n, number)

    def reconstruct(self, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Images as the family gives them back, with a progress bar.

        Its encoder's latents are decoded; where there is none, the noise that its sampler leads to
        the images from is found by inverting it, and sampled from.

        Args:
          images: uint8 [n, H, W, C].
          labels: their classes [n], for a family that takes labels.

        Returns:
          uint8 [n, H, W, C].
        """
        key = jax.random.key(0)
        return self.sampler.reconstructions(self.usable_state, key, images, labels, progress=True)

    def observed(self, images: np.ndarray) -> list[np.ndarray]:
        """What `reconstruct` sees of images, where that is less than all of them.

        Args:
          images: uint8 [n, H, W, C].

        Returns:
          [uint8 [n, H, W, C]], else [].
        """
        return self.sampler.observed(jax.random.key(0), images)

    def interpolate(
        self,
        pairs: int = 8,
        steps: int = 10,
        seed: int = 0,
        *,
        noises: bool = False,
        images: np.ndarray | None = None,
        label: int | str | None = None,
    ) -> np.ndarray:
        """Images along paths between pairs, with a progress bar.

        Where the family has an encoder, straight lines between the latents of held-out images;
        where its sampler can be inverted, great arcs between the noises of held-out images; where
        its inversion finds other latents than noise, straight lines between those; else great arcs
        between drawn noises.

        Args:
          pairs: how many pairs.
          steps: images per path, both ends included.
          seed: of the noises, or of the choice of images.
          noises: whether to go between drawn noises in any case.
          images: uint8 [2 p, H, W, C], to go between these in place of held-out images, see
            `moving.between`; `pairs` and `seed` have no effect then.
          label: the class of these images, where the family takes one.

        Returns:
          uint8 [pairs * steps, H, W, C], path by path.

        Raises:
          ConfigError: where the family's latents are neither arrays of real numbers nor drawn
            from N(0, I), or there are fewer than two held-out images per pair.
        """
        if images is not None:
            return moving.between(self, images, steps, label=self.class_number(label))
        key, state = jax.random.key(seed), self.usable_state
        turns = labels(self.family, pairs)
        at_ends = None if turns is None else jnp.repeat(turns, 2)
        if noises or not (self.family.encode or self.family.invert):
            if self.family.latent is None:
                raise ConfigError(
                    "the latents of this family are not drawn from N(0, I): no arc between two of "
                    "them leads over others"
                )
            ends = self.family.latents(key, 2 * pairs)
        else:
            if 2 * pairs > len(self.images.test):
                raise ConfigError(
                    f"--pairs {pairs} takes {2 * pairs} held-out images, and there are "
                    f"{len(self.images.test)}"
                )
            batch = self.held_out_batch(2 * pairs, seed)
            ends = self.sampler.latents_of(state, key, batch["image"], batch.get("label"))
            if turns is not None:  # from their latents images come back by their own classes
                at_ends = jnp.asarray(batch["label"])
        if not (isinstance(ends, jax.Array) and jnp.issubdtype(ends.dtype, jnp.floating)):
            raise ConfigError("the latents of this family are no vectors: nothing lies in between")
        # Of an inversion, what has the shape of noise is noise.
        found = self.family.encode or (self.family.invert and ends.shape[1:] != self.family.latent)
        path = linear if found and not noises else spherical
        t = jnp.linspace(0, 1, steps)
        rows = [path(ends[2 * i], ends[2 * i + 1], t) for i in range(pairs)]
        if at_ends is not None:
            nearest = 2 * np.arange(pairs)[:, None] + np.round(np.asarray(t)).astype(int)[None]
            at_ends = at_ends[nearest.ravel()]
        return self.sampler.images(state, key, jnp.concatenate(rows), at_ends, progress=True)

    def edit(
        self,
        images: np.ndarray | Sequence[str] | None = None,
        *,
        to_run: RestoredRun | None = None,
        **how: Any,
    ) -> Edited:
        """Fills in, restores, varies or changes images, with a progress bar.

            run.edit(images, hide="right").images  # uint8 [m, n, H, W, C]
            run.edit(["photo.jpg"], task="super4", n=8)
            run.edit(strength=0.5)  # variations of held-out images
            run.edit(photos, to_run=drawings)  # a run of photos and one of drawings

        Args:
          images: uint8 [m, H, W, C], clear ones; or names of image files of any size; None for four
            held-out images.
          to_run: another run, to make them images of.
          **how: the fields of `edit_settings.Edit`, the flags of the command `edit`.

        Returns:
          The images before and after, with what is known about them.

        Raises:
          ConfigError: where the family cannot do it, or settings do not fit each other.
          DataError: where a file cannot be used.
        """
        name = None if to_run is None else str(to_run.directory)
        return editing.edit(self, images, Edit(to_run=name, **how), to_run)

    def evaluate(self, n: int | None = None, split: str = "test", seed: int = 0) -> Evaluation:
        """The family's expensive scores on held-out images, with standard errors.

        Of a classifier they are its errors, with confusion matrix and calibration.

        Args:
          n: how many images, chosen at random by the seed; 0 for all, None for what takes a few
            minutes on two CPU cores, which for a classifier is all.
          split: of which part of the data set.
          seed: of the choice of images and of the noise.

        Returns:
          The scores; printed, a table.

        Raises:
          ConfigError: where the family has no such scores.
        """
        if (classify := self.family.classify) is not None:
            images = self.images.split(split)
            return classification.evaluate(classify, self.usable_state, images, n=n, seed=seed)
        if self.family.measure is None:
            name = self.values["experiment"]
            raise ConfigError(f"{name} has no scores beyond those of metrics.jsonl: give --scores")
        images = self.images.split(split)
        return evaluate(self.family.measure, self.usable_state, images, n=n, seed=seed)

    def export(
        self,
        to: str | os.PathLike[str],
        license: str = "unknown",
        *,
        document: str = "",
        command: export.Command | None = None,
    ) -> Path:
        """Writes the weights that sampling takes as safetensors, with settings and a model card.

        Args:
          to: the folder to write; one that is there already is left as it is.
          license: identifier of the weights' licence, for the card: mit, cc-by-4.0, …
          document: what the model is, for the card.
          command: the command line that trained it and samples from it, for the card.

        Returns:
          The folder.

        Raises:
          ConfigError: where the folder cannot be written, or this is an export itself.
        """
        target = export.claim(to, license)
        if self.is_export:
            raise ConfigError(f"{self.directory} is an export itself: copy it")
        export.write(
            target,
            self.directory,
            self.values,
            self.usable_state,
            license,
            document,
            command,
            mixtures.to_export(
                self.directory, self.family, self.usable_state, lambda: self.mixture
            ),
            makes_images=self.family.generate is not None,
            average=self.average,
        )
        return target

    def held_out(self, n: int, seed: int = 0) -> np.ndarray:
        """Held-out images.

        Args:
          n: how many; fewer where the test split has fewer.
          seed: of the choice.

        Returns:
          uint8 [n, H, W, C].
        """
        return self.held_out_batch(n, seed)["image"]

    def held_out_batch(self, n: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Held-out images with their labels, where they have such.

        Args:
          n: how many; fewer where the test split has fewer.
          seed: of the choice.

        Returns:
          {"image": uint8 [n, H, W, C], "label": int32 [n]}.
        """
        images = self.images.test
        return images.batch(seed, 0, min(n, len(images)))


def open(
    directory: str | os.PathLike[str],
    family: Family,
    images: Dataset | None = None,
    *,
    best: bool = False,
    step: int | None = None,
    average: str | None = None,
    weak: str | None = None,
) -> RestoredRun:
    """A run from its directory.

    Args:
      directory: the run's.
      family: the family that was trained there.
      images: the data set, or None to open the one that config.json names when it is needed.
      best: the checkpoint of the best score instead of the latest.
      step: the checkpoint of this step instead.
      average: the moving average to use, as for `averaging.choose`; None for the first kept.
      weak: likewise, of a worse model that guides, for families that know autoguidance.

    Returns:
      The run.

    Raises:
      ConfigError: where the directory holds no run, or no such checkpoint or average.
      CheckpointError: where it holds one of another architecture.
    """
    where = files.user_path(directory)
    values = load_config(where / "config.json")
    like = state_shapes(family)
    state = checkpoint_state(where, family, like, best=best, step=step)
    state = averaging.choose(state, where, like, average=average, weak=weak)
    return RestoredRun(where, family, values, state, images, average)


def load(
    directory: str | os.PathLike[str], family: Family, images: Dataset | None = None
) -> RestoredRun:
    """A run from an export.

    Args:
      directory: the exported folder.
      family: the family that was exported.
      images: the data set, or None to open the one that config.json names when it is needed.

    Returns:
      The run; its state has no optimizer.

    Raises:
      ConfigError: where the directory holds no export.
      WeightsError: where it holds one of another architecture.
    """
    where = files.user_path(directory)
    values = load_config(where / "config.json")
    state = export.state(where, values, state_shapes(family))
    return RestoredRun(where, family, values, jax.tree.map(jnp.asarray, state), images)
