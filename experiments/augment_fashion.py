"""Do synthetic images help a classifier that has few real ones? A study, harm shown like help.

A generator that knows the classes is trained on a few labelled images: diffusion with guidance, or
--generator vae | gan. Then classifiers with as many train steps each: on the real images, with
ordinary augmentation (mirrored and shifted), with synthetic images beside them at several ratios,
on synthetic images alone. All are scored on the same held-out images; seeds differ in the choice of
the few, in the generator, its samples and the classifiers, and intervals are paired by seed.

    python -m experiments.augment_fashion
    python -m experiments.augment_fashion --sizes 100 300 1000 3000 --seeds 5    # hours
    python -m experiments.augment_fashion --confidence 0.5 --dir runs/filtered

A row per finished piece is in DIR/augment.json, so that the command resumes where it was stopped;
more --sizes, --ratios or --seeds are added to what is there. DIR/augment.md has the tables, and
DIR/size_N_seed_S/synthetic the labelled images, a folder per class with a card that says what made
them: `--data.folder DIR/size_100_seed_0/synthetic --data.subfolders classes` trains on them.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from tqdm.auto import tqdm

from experiments import augment_report, checks
from experiments.augment_pieces import GENERATORS, Cell
from experiments.augment_report import ORDINARY, REAL
from experiments.study import Rows, identity
from genjax import files
from genjax.cli import startup
from genjax.cli.main import guarded
from genjax.cli.parsing import parse
from genjax.data import Dataset, DataSettings
from genjax.limits import Count, Counts, Limits, Positive, Seed, Share
from genjax.train.progress import hidden


@dataclass(frozen=True)
class Study:
    sizes: Counts = (100,)
    """Labelled images that generator and classifiers have, as many of each class as there are."""
    seeds: Annotated[int, Limits(2, 1000)] = 3
    """Repetitions, each with other images, another generator and other classifiers."""
    first_seed: Seed = 0
    """The seed of the first of them."""
    ratios: Annotated[tuple[Positive, ...], Limits(1)] = (1.0, 3.0)
    """Synthetic images per real one."""
    generator: Literal[*GENERATORS] = "diffusion"
    """What draws the synthetic images."""
    generator_steps: Count | None = None
    """Train steps of the generator. None: diffusion 600, vae 2,000, gan 1,500."""
    guidance: float = 1.5
    """Scale of classifier-free guidance, for diffusion: 1 is none. More makes images that are surer
    to be of their class, and more alike."""
    confidence: Annotated[float, Limits(0, 1)] | None = None
    """Keep a synthetic image only where the classifier of the real images gives its class at least
    this probability. None: keep all."""
    steps: Count = 400
    """Train steps of every classifier."""
    batch: Count = 64
    """Images per step of every classifier."""
    flip: bool = True
    """Whether ordinary augmentation mirrors half of the images."""
    shift: Share = 0.1
    """The largest shift of ordinary augmentation, as a share of the sides."""
    license: str = "unknown"
    """Licence of the synthetic images, for their card: mit, cc-by-4.0, …"""
    write: bool = False
    """Put the tables on the page docs/augment.md."""
    dir: str = "runs/augment_fashion"
    """Where rows, tables, images and runs go."""
    data: DataSettings = DataSettings()

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that every row of a directory shares."""
        free = ("sizes", "ratios", "license")
        return identity(self, free, generator_steps=self.generator_training)

    @property
    def generator_training(self) -> int:
        """Train steps of the generator."""
        return self.generator_steps or GENERATORS[self.generator][2]

    @property
    def numbers(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def arms(self) -> dict[str, tuple[bool, float, bool]]:
        """{what a classifier learns from: (real images, synthetic per real one, augmented)}."""
        largest = max(self.ratios)
        beside = {f"real + {r:g}x synthetic": (True, r, False) for r in sorted({*self.ratios})}
        both = {f"real + {largest:g}x synthetic, augmented": (True, largest, True)}
        alone = {f"{largest:g}x synthetic alone": (False, largest, False)}
        return {REAL: (True, 0.0, False), ORDINARY: (True, 0.0, True), **beside, **both, **alone}


SYNTHETIC = "synthetic"  # the piece that draws the images


class Results(Rows):
    """The rows of the study's directory."""

    def __init__(self, study: Study, fingerprint: str):
        super().__init__(study.dir, "augment.json", study.identity, fingerprint)

    def todo(self, cell: Cell) -> list[str]:
        """What a cell has to do: to draw its images, and the arms without a row."""
        row = self.find(**cell.key, piece=SYNTHETIC)
        enough = row and row["wanted"] >= cell.wanted and (cell.place / "synthetic").exists()
        arms = [arm for arm in cell.study.arms if not self.find(**cell.key, arm=arm)]
        return ([] if enough else [SYNTHETIC]) + arms


def main() -> None:
    """Does what is not in the results yet, then prints and writes the tables."""
    prog = "python -m experiments.augment_fashion"
    study = parse(Study, sys.argv[1:], prog=prog, default=Study(), description=__doc__)
    startup.configure()
    images = Dataset(study.data)
    checks.classifier(study, images.spec)
    checks.augmenting(study, images.spec)
    results = Results(study, images.train.fingerprint)
    labels = images.train.source[np.arange(len(images.train))]["label"]
    given, seeds = (study, images, labels, results.path.parent), study.numbers
    cells = [Cell(*given, n, seed) for seed in seeds for n in sorted({*study.sizes})]
    todo = [(cell, piece) for cell in cells for piece in results.todo(cell)]
    with tqdm(total=len(todo), unit="piece", disable=hidden()) as bar:
        for cell, piece in todo:
            row = cell.draw() if piece == SYNTHETIC else cell.score(piece)
            results.add(row)
            found = f": {row['error']:.1%} errors" if "error" in row else ""
            bar.update()
            tqdm.write(f"{cell.key['size']} images, seed {cell.seed}: {piece}{found}")
    asked = [row for row in results.rows if row["size"] in study.sizes and row["seed"] in seeds]
    results.values["summary"] = augment_report.summary(study, asked)
    files.write_json(results.path, results.values)
    page = augment_report.page(study, asked, images.train.classes, len(images.test))
    files.write_text(results.path.with_name("augment.md"), page)
    if study.write:
        augment_report.write(page)
    print(page)


if __name__ == "__main__":
    guarded(main)
