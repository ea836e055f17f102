"""StackedMNIST: how many of 1,000 modes do GANs find? Three digits in three channels, at random.

Each GAN is trained without labels for the same minutes; a classifier, trained on single digits,
reads the three channels of 26,000 samples. Counted are the modes that have a sample, and the
divergence of their shares from the data's. The classifier's errors are told by what it finds in
real images, of all modes and of a tenth of them: what it misreads, it counts as modes. It does so
with noise too, so that the table says how many images it was sure of.

    python -m experiments.stacked_mnist --data.name mnist     # or any set of ten classes, in grey
    python -m experiments.stacked_mnist                       # the embedded clothes
    python -m experiments.stacked_mnist --minutes 10 --seeds 5 --models dcgan r3gan

A row per finished piece is in DIR/stacked.json, so that the command resumes where it was stopped;
more --models or --seeds are added to what is there. DIR/stacked.md has the table.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tqdm.auto import tqdm

from experiments import stacked_report
from experiments.stacked_pieces import MODELS, Pieces
from experiments.study import Rows, identity
from genjax import files
from genjax.cli import startup
from genjax.cli.main import guarded
from genjax.cli.parsing import parse
from genjax.data import Dataset, DataSettings
from genjax.errors import ConfigError
from genjax.limits import Count, Limits, Positive, Seed
from genjax.train.progress import hidden


@dataclass(frozen=True)
class Study:
    models: Annotated[tuple[Literal[*MODELS], ...], Limits(1)] = tuple(MODELS)
    """The GANs, each with the settings of its experiment but for the length."""
    minutes: Positive = 5.0
    """Of training, each: the speed of its first steps decides how many there are."""
    seeds: Count = 3
    """Runs of each model."""
    first_seed: Seed = 0
    """The seed of the first of them."""
    images: Count = 50_000
    """Stacked images to train on, drawn once from the training images."""
    samples: Count = 26_000
    """Samples whose modes are counted."""
    classifier_steps: Count = 1200
    """Train steps of the classifier."""
    write: bool = False
    """Put the table on the page docs/modes.md."""
    dir: str = "runs/stacked_mnist"
    """Where rows, table, images and runs go."""
    data: DataSettings = DataSettings()

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that every row of a directory shares."""
        return identity(self, ("models",))

    @property
    def numbers(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)


def main() -> None:
    """Does what is not in the results yet, then prints and writes the table."""
    prog = "python -m experiments.stacked_mnist"
    study = parse(Study, sys.argv[1:], prog=prog, default=Study(), description=__doc__)
    startup.configure()
    digits = Dataset(study.data)
    if digits.spec.classes != 10 or digits.spec.shape[-1] != 1:
        raise ConfigError(
            f"three images are stacked as the channels of one: {digits.train.name} must have ten "
            f"classes, not {digits.spec.classes}, and grey images, not {digits.spec.shape}"
        )
    results = Rows(study.dir, "stacked.json", study.identity, digits.train.fingerprint)
    pieces = Pieces(study, digits, results.path.parent)
    todo = [{"piece": name} for name in (*pieces.references, *study.models)]
    todo += [
        {"piece": "samples", "model": m, "seed": k} for k in study.numbers for m in study.models
    ]
    todo = [key for key in todo if not results.find(**key)]
    with tqdm(total=len(todo), unit="piece", disable=hidden()) as bar:
        for key in todo:
            if "model" in key:
                row = pieces.sampled(**key, steps=results.find(piece=key["model"])["steps"])
            elif key["piece"] in pieces.references:
                row = pieces.reference(key["piece"])
            else:
                row = pieces.timed(key["piece"])
            results.add(row)
            bar.update()
            tqdm.write(stacked_report.line(row))
    page = stacked_report.page(study, results.rows)
    files.write_text(results.path.with_name("stacked.md"), page)
    if study.write:
        stacked_report.write(page, pieces.sheets)
    print(page)


if __name__ == "__main__":
    guarded(main)
