"""What each command does: training, and what uses a run from its directory or an export alone."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genjax.cli import options
from genjax.data.dataset import Dataset
from genjax.data.given_files import read_images, stacked
from genjax.errors import ConfigError
from genjax.report import grids, image_sets
from genjax.run import editing, minutes, model_card, replay, restored, seeds, stored_state, training
from genjax.run import export as exports
from genjax.run.config import load, parse
from genjax.run.directory import destination, run_directory, with_recorded_rules
from genjax.run.family import Build, build_family
from genjax.run.image_scores import score_run
from genjax.run.recorded_images import image_spec
from genjax.run.sampling import FEW
from genjax.run.score_rows import save, save_evaluation
from genjax.run.scoring import open_network

logger = logging.getLogger(__name__)
MOST_SHOWN = 400  # images in a grid


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
        config, family = minutes.built(self.build, config, images, directory, self.config.run.every)
        what = (directory, self.name, config, family, images, summary)
        if config.run.seeds is None:
            training.train_in(*what)
        else:
            seeds.raise_failed(seeds.train_seeds_in(*what))
        logger.info("page: %s", directory / "report.html")
        curves = shlex.quote(str(directory / ("" if config.run.seeds else "tensorboard")))
        logger.info("curves: pip install tensorboard && tensorboard --logdir %s", curves)

    def open(
        self,
        given: str | None,
        *,
        best: bool = False,
        step: int | None = None,
        changes: dict[str, Any] | None = None,
        data: str | None = None,
        before: int | None = None,
        average: str | None = None,
    ) -> tuple[restored.RestoredRun, Any]:
        """A run or an export, and its settings.

        Directories to write to that config.json names are ignored: everything is written to the
        run's directory.

        Args:
          given: the directory; None: runs/ and the name of the experiment.
          best: whether to read the checkpoint of the best score instead of the latest.
          step: the step of the checkpoint to read instead.
          changes: settings that act on sampling alone, in place of the run's.
          data: where the images are on this machine; None: where config.json says.
          before: read the latest checkpoint before this step; None: of all.
          average: the moving average to use; None: the one that the settings name.

        Returns:
          The run, and the settings in its config.json.

        Raises:
          ConfigError: where the directory is of another experiment, or an export with `best`,
            `step` or settings that name an average.
        """
        directory = run_directory(self.name, given)
        path = directory / "config.json"
        values = load(path)
        if values.get("experiment") != self.name:
            raise ConfigError(
                f"{directory} is a run of {values.get('experiment')}, not of {self.name}"
            )
        config: Any = parse(type(self.config), values.get("config"), str(path))
        if changes:
            config = dataclasses.replace(config, **changes)
            if hasattr(config, "check_sampling"):
                config.check_sampling(changes.keys())
        where = config.data
        if data is not None:
            place = "dir" if where.folder is None else "folder"
            where = dataclasses.replace(where, **{place: data})
        spec = image_spec(directory, values)
        family, like = build_family(self.build, config, spec, f"{path} describes")
        average = average or getattr(config, "average", None)
        names = {"average": average, "weak": getattr(config, "weak", None)}
        which = {"best": best, "step": step, "before": before, "seed": config.run.seed, **names}
        state = stored_state.opened_state(directory, values, family, like, **which)
        run = restored.RestoredRun(directory, family, values, state, Dataset(where), average)
        print(f"{directory.name} at step {run.step:,}")
        return run, config

    def _opened(self, given: Any) -> tuple[restored.RestoredRun, Any]:
        """`open` by the flags of a command."""
        return self.open(
            given.dir,
            best=given.best,
            step=given.step,
            data=getattr(given, "data", None),
            changes=options.sampling_changes(given, type(self.config)),
        )

    def sample(self, given: options.Sample) -> None:
        """Draws new images.

        Args:
          given: the command's flags.

        Raises:
          ConfigError: for the trajectories of a family that makes its images in one step.
        """
        run, _ = self._opened(given)
        if given.trajectory and run.family.trajectory is None:
            raise ConfigError(f"{self.name} makes its images in one step: leave out --trajectory")
        stem = f"sample_{given.seed}"
        way = [f"{stem}_trajectory.gif", f"{stem}_trajectory.png"] if given.trajectory else []
        names = [f"{stem}.png", stem if given.files else f"{stem}.npz", *way]
        folder = destination(run.directory, run.is_export, given.to, names)
        if given.files:
            image_sets.check_folder(folder / stem)
        shown: list[np.ndarray] = []
        batches = _with_first(run.samples(given.n, given.seed, given.label, given.prior), shown)
        if given.files:
            shape = image_sets.write_pngs(folder / stem, batches, given.n, run.classes)
        else:
            shape = image_sets.write_npz(folder / f"{stem}.npz", batches, given.n)
        first = np.concatenate(shown)[:MOST_SHOWN]
        only = f" (the first {len(first)})" if len(first) < given.n else ""
        _save(folder / f"{stem}.png", grids.grid(first), only)
        print(f"{given.n:,} images, uint8 {shape}: {folder / names[1]}")
        if way:
            n = min(given.n, FEW)
            images = run.trajectories(n, given.seed, given.label)
            grids.save_animation(folder / way[0], grids.frames(images))
            print(folder / way[0])
            _save(folder / way[1], grids.strips(images))

    def reconstruct(self, given: options.Reconstruct) -> None:
        """Gives held-out images back.

        Args:
          given: the command's flags.

        Raises:
          ConfigError: where the family has neither an encoder nor a sampler that can be inverted.
        """
        run, config = self._opened(given)
        if not (run.sampler.reconstructs or run.family.invert):
            sampler = getattr(config, "sampler", None)
            raise ConfigError(
                f"--sampler {sampler} draws noise, so that it cannot be inverted: give one that "
                "does not, such as --sampler ddim"
                if sampler
                else f"{self.name} has no encoder to reconstruct with"
            )
        folder = destination(run.directory, run.is_export, given.to, ["reconstruct.png"])
        batch = _read(run, given) or run.held_out_batch(given.n)
        originals = batch["image"]
        again = run.reconstruct(originals, batch.get("label"))
        _save(folder / "reconstruct.png", grids.pairs(originals, *run.observed(originals), again))
        error = np.mean((again.astype(np.float32) - originals) ** 2)
        print(
            f"mean squared error {error / 255**2:.3g} on {len(originals)} "
            f"{'' if given.images else 'held-out '}images in 0..1"
        )

    def interpolate(self, given: options.Interpolate) -> None:
        """Draws images between pairs.

        Args:
          given: the command's flags.
        """
        run, _ = self._opened(given)
        name = f"interpolate_{given.seed}.png"
        folder = destination(run.directory, run.is_export, given.to, [name])
        named = _read(run, given).get("image")
        how: dict[str, Any] = {"noises": given.noises, "images": named, "label": given.label}
        images = run.interpolate(given.pairs, given.steps, given.seed, **how)
        _save(folder / name, grids.grid(images, given.steps))

    def edit(self, given: options.Edit) -> None:
        """Edits image files, or held-out images.

        Args:
          given: the command's flags.
        """
        run, _ = self._opened(given)
        stem = f"edit_{given.called}_{given.seed}"
        folder = destination(run.directory, run.is_export, given.to, [f"{stem}.png", stem])
        image_sets.check_folder(folder / stem)
        other = None if given.to_run is None else self.open(given.to_run)[0]
        found = editing.edit(run, given.images or None, given, other)
        for line in found.lines:
            print(line)
        m, n = found.images.shape[:2]
        image_sets.write_pngs(folder / stem, ({"image": x} for x in found.images), m * n)
        _save(folder / f"{stem}.png", found.sheet())
        print(f"{folder / stem}: {m * n} images, {n} for each of {m} in turn")

    def evaluate(self, given: options.Evaluate) -> None:
        """Scores a run, prints a table and writes evaluation.json.

        Of several seeds each is scored, and their means and deviations are written to theirs.

        Args:
          given: the command's flags.
        """
        directory = run_directory(self.name, given.dir)
        if each := seeds.finished(directory):
            folder = destination(directory, False, given.to, ["evaluation.json"])

            def score(place: str) -> dict[str, float]:
                return self._evaluate(dataclasses.replace(given, dir=place, to=None))

            path = folder / "evaluation.json"
            print(seeds.evaluate(each, path, self.name, score), path, sep="\n")
        else:
            self._evaluate(given)

    def _evaluate(self, given: options.Evaluate) -> dict[str, float]:
        run, _ = self._opened(given)
        folder = destination(run.directory, run.is_export, given.to, ["evaluation.json"])
        which = {"experiment": self.name, "checkpoint": _checkpoint(given), "step": run.step}
        how = (given.n, given.split, given.seed)
        if given.scores:
            scores = score_run(
                run, given.scores, *how, weights=given.weights, per_class=given.per_class
            )
            print(*scores, sep="\n")
            found = save(folder, which, scores)
        elif given.per_class:
            raise ConfigError("--per-class is of --scores, such as --scores kd_vgg16")
        else:
            print(evaluation := run.evaluate(*how))
            found = save_evaluation(folder, which, evaluation)
        print(folder / "evaluation.json")
        return found

    def audit(self, given: options.Audit) -> None:
        """Prints what the audits of a run find, and adds it to findings.jsonl.

        Args:
          given: the command's flags.
        """
        from genjax.run import audited  # SciPy's statistics take a second, at every start

        run, _ = self._opened(given)
        folder = destination(run.directory, run.is_export, given.to, audited.FILES)
        network = open_network(given.network, run.images.train.shape[1:], given.weights)
        audit = audited.of_run(run, network, folder, n=given.n, seed=given.seed)
        print(*audit.recorded(folder, run.step), sep="\n")
        print(*(folder / name for name in audited.FILES if (folder / name).exists()), sep="\n")

    def export(self, given: options.Export) -> None:
        """Writes an export.

        Args:
          given: the command's flags.
        """
        exports.claim(given.to, given.license)
        run, _ = self.open(given.dir, best=given.best, step=given.step, average=given.average)

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
        print(replay.replay(run.family.game, run.state, run.images.train, config.run, row))


def _read(run: restored.RestoredRun, given: Any) -> dict[str, np.ndarray]:
    """The image files that a command names, with their class; nothing where it names none."""
    if not given.images:
        return {}
    found = read_images(given.images, run.spec.shape)
    print(*(f"{each.name}: {each.changed or 'as it is'}" for each in found), sep="\n")
    batch = {"image": stacked(found)}
    if (label := run.class_number(given.label)) is not None:
        batch["label"] = np.full(len(found), label, np.int32)
    return batch


def _checkpoint(given: options.Evaluate) -> str:
    if given.step is not None:
        return f"step {given.step}"
    return "best" if given.best else "latest"


def _with_first(batches: Iterable[Any], shown: list[np.ndarray]) -> Iterator[Any]:
    """The batches, of which the first images are put into a list."""
    for batch in batches:
        if sum(map(len, shown)) < MOST_SHOWN:
            shown.append(batch["image"])
        yield batch


def _save(path: Path, image: np.ndarray, note: str = "") -> None:
    grids.save(path, image)
    print(f"{path}{note}")
