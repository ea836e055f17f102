"""What each command does: training, and what uses a run from its directory or an export alone."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import files
from genjax.cli import options
from genjax.data.dataset import Dataset
from genjax.errors import ConfigError
from genjax.report import grids
from genjax.run import export as exports
from genjax.run import model_card, replay, restored, seeds, training
from genjax.run.config import load, parse
from genjax.run.directory import run_directory, with_recorded_rules
from genjax.run.evaluation import Evaluation
from genjax.run.family import Build, build_family
from genjax.run.sampling import labels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """An experiment and its command line.

    Attributes:
      name: of the experiment.
      document: its docstring.
      config: the default settings.
      build: (config, spec) -> the family.
      program: what starts it, such as "python -m experiments.vae_fashion".
    """

    name: str
    document: str
    config: Any
    build: Build
    program: str

    def train(self, config: Any) -> None:
        """Trains in the run directory, or resumes there.

        Args:
          config: the experiment's settings.
        """
        training.join_processes(config.run)
        directory = run_directory(self.name, config.run.dir)
        config = with_recorded_rules(config, directory)
        images = Dataset(config.data)
        summary = training.log_images(images)
        spec = images.spec
        changing = config.run.allow_changes or config.run.fresh
        if hasattr(config, "check") and (changing or not (directory / "config.json").exists()):
            config.check(spec)  # a run that is there was checked by its own version
        family, _ = build_family(self.build, config, spec, "these settings describe")
        what = (directory, self.name, config, family, images, summary)
        if config.run.seeds is None:
            training.train_in(*what)
        else:
            seeds.raise_failed(seeds.train_seeds_in(*what))
        curves = shlex.quote(str(directory / ("" if config.run.seeds else "tensorboard")))
        logger.info("curves: pip install tensorboard && tensorboard --logdir %s", curves)

    def open(
        self,
        given: str | None,
        *,
        best: bool = False,
        data: str | None = None,
        before: int | None = None,
    ) -> tuple[restored.RestoredRun, Any]:
        """A run or an export, and its settings.

        Directories to write to that config.json names are ignored: everything is written to the
        run's directory.

        Args:
          given: the directory; None: runs/ and the name of the experiment.
          best: whether to read the checkpoint of the best score instead of the latest.
          data: where the images are on this machine; None: where config.json says.
          before: read the latest checkpoint before this step; None: of all.

        Returns:
          The run, and the settings in its config.json.

        Raises:
          ConfigError: where the directory is of another experiment, or an export with `best`.
        """
        directory = run_directory(self.name, given)
        path = directory / "config.json"
        values = load(path)
        if values.get("experiment") != self.name:
            raise ConfigError(
                f"{directory} is a run of {values.get('experiment')}, not of {self.name}"
            )
        config: Any = parse(type(self.config), values.get("config"), str(path))
        where = config.data
        if data is not None:
            place = "dir" if where.folder is None else "folder"
            where = dataclasses.replace(where, **{place: data})
        spec = restored.image_spec(directory, values)
        family, like = build_family(self.build, config, spec, f"{path} describes")
        if exports.is_export(directory):
            if best:
                raise ConfigError(f"{directory} is an export, of one step: leave out --best")
            state = jax.tree.map(jnp.asarray, exports.state(directory, values, like))
        else:
            state = restored.checkpoint_state(
                directory, family, like, best=best, before=before, seed=config.run.seed
            )
        run = restored.RestoredRun(directory, family, values, state, Dataset(where))
        print(f"{directory.name} at step {run.step:,}")
        return run, config

    def sample(self, given: options.Sample) -> None:
        """Draws new images.

        Args:
          given: the command's flags.
        """
        run, _ = self.open(given.dir, best=given.best, data=given.data)
        images = run.sample(given.n, given.seed, given.label, given.prior)
        label = labels(run.family, given.n, run.class_number(given.label))
        arrays = {"images": images} | ({} if label is None else {"labels": np.asarray(label)})
        path = run.directory / f"sample_{given.seed}.npz"
        with files.atomic_open(path, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        _save(run.directory / f"sample_{given.seed}.png", grids.grid(images))
        print(f"{given.n} images, uint8 {images.shape[1:]}: {path}")

    def reconstruct(self, given: options.Reconstruct) -> None:
        """Encodes and decodes held-out images.

        Args:
          given: the command's flags.

        Raises:
          ConfigError: where the family has no encoder.
        """
        run, _ = self.open(given.dir, best=given.best, data=given.data)
        if not run.sampler.reconstructs:
            raise ConfigError(f"{self.name} has no encoder: sample and interpolate are there")
        originals = run.held_out(given.n)
        again = run.reconstruct(originals)
        _save(run.directory / "reconstruct.png", grids.pairs(originals, again))
        error = np.mean((again.astype(np.float32) - originals) ** 2)
        print(
            f"mean squared error {error / 255**2:.5f} on {len(originals)} held-out images in 0..1"
        )

    def interpolate(self, given: options.Interpolate) -> None:
        """Draws images between pairs.

        Args:
          given: the command's flags.
        """
        run, _ = self.open(given.dir, best=given.best, data=given.data)
        images = run.interpolate(given.pairs, given.steps, given.seed)
        _save(run.directory / f"interpolate_{given.seed}.png", grids.grid(images, given.steps))

    def evaluate(self, given: options.Evaluate) -> None:
        """Scores a run, prints a table and writes evaluation.json into its directory.

        Of several seeds each is scored, and their means and deviations are written to theirs.

        Args:
          given: the command's flags.
        """
        directory = run_directory(self.name, given.dir)
        if each := seeds.finished(directory):
            path = directory / "evaluation.json"

            def score(place: str) -> Evaluation:
                return self._evaluate(dataclasses.replace(given, dir=place))

            print(seeds.evaluate(each, path, self.name, score), path, sep="\n")
        else:
            self._evaluate(given)

    def _evaluate(self, given: options.Evaluate) -> Evaluation:
        run, _ = self.open(given.dir, best=given.best, data=given.data)
        evaluation = run.evaluate(given.n, given.split, given.seed)
        print(evaluation)
        path = run.directory / "evaluation.json"
        which = {"experiment": self.name, "checkpoint": "best" if given.best else "latest"}
        files.write_json(path, {**which, **evaluation.as_dict()})
        print(path)
        return evaluation

    def export(self, given: options.Export) -> None:
        """Writes an export.

        Args:
          given: the command's flags.
        """
        exports.claim(given.to, given.license)
        run, _ = self.open(given.dir, best=given.best)

        def flags(config: dict[str, Any]) -> str:
            return model_card.train_flags(parse(type(self.config), config, "config"), self.config)

        command = exports.Command(self.program, flags)
        target = run.export(given.to, given.license, document=self.document, command=command)
        print(f"{target}: {', '.join(sorted(path.name for path in target.iterdir()))}")

    def replay(self, given: options.Replay) -> None:
        """Runs a step that was not finite again.

        Args:
          given: the command's flags.
        """
        directory = run_directory(self.name, given.dir)
        row = replay.recorded_fault(directory, given.step)
        run, config = self.open(str(directory), data=given.data, before=row["step"])
        replay.check_unchanged(run.values, run.step)
        found = replay.replay(run.family.game, run.state, run.images.train, config.run, row)
        print(f"step {row['step']:,}, on images {replay.shortened(row['images'])}:")
        for metric, value in found.metrics.items():
            print(f"  {metric:<40} {value:.6g}")
        bad = found.not_finite
        print(f"not finite after it: {replay.shortened(bad) if bad else 'no parameter'}")


def _save(path: Path, image: np.ndarray) -> None:
    grids.save(path, image)
    print(path)
