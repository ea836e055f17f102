"""Calibrates the audits: false alarms on real images, and power at planted faults.

    python -m tools.calibrate_audits --to docs/notes/audits.md

It takes some minutes on two cores. A figure is the share of repetitions that found something.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
import scipy
from tqdm.auto import tqdm

from genjax import files
from genjax.run.collapse_alarm import LOOKS
from tools import audit_powers as powers


def table(heading: powers.Row, rows: Iterable[powers.Row]) -> str:
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


N = 1000  # samples
Section = tuple[str, str, str]  # heading, claim, table


def sections(repetitions: int, seed: int) -> Iterator[Section]:
    yield from _of_copies(repetitions, seed)
    yield from _of_collapse(repetitions, seed)
    yield from _of_bias(repetitions, seed)
    yield from _of_faults(repetitions, seed)


def _of_copies(repetitions: int, seed: int, n: int = N) -> Iterator[Section]:
    data = powers.fashion()
    copied = ("copies", "none", "1 %", "5 %", "20 %", "20 %, by C_T alone")
    claim = (
        f"{n:,} samples against {n:,} held-out images, of which ten are near copies by definition. "
        "A share of the samples is replaced by copies of training images. In the last column C_T "
        "is below -2.33, in pixels. Nominal 1 %; the column none has five times the repetitions."
    )
    real = np.concatenate([data["test_images"], data["train_images"][5000:]])
    rows = powers.copies_found(data["train_images"][:5000], real, repetitions, n, seed)
    yield "Copies among samples, 5,000 images of Fashion-MNIST", claim, table(copied, rows)
    drawn = (powers.shapes(count, stream)[0] for stream, count in enumerate((3000, 1000)))
    rows = powers.copies_found(*drawn, repetitions, n // 2, seed)
    claim = claim.replace(f"{n:,}", f"{n // 2:,}").replace("ten", "five")
    yield "Copies among samples, 3,000 drawn shapes", claim, table(copied, rows)


def _of_collapse(repetitions: int, seed: int, n: int = N) -> Iterator[Section]:
    for sampled, looks, which in (
        (64, LOOKS, "at one look of the training alarm"),
        (n, 1, "after training"),
    ):
        claim = (
            f"{sampled} samples against 1,000 held-out images of Fashion-MNIST, 20 regions. "
            f"{looks:,} look(s) share an error rate of 1 %; the alarm rings at two looks in a row."
        )
        rows = powers.collapses_found(repetitions, sampled, looks, seed)
        yield (
            f"Collapse {which}",
            claim,
            table(("samples", "planted", "repetitions", "found"), rows),
        )


def _of_bias(repetitions: int, seed: int, n: int = N) -> Iterator[Section]:
    claim = (
        "Simulated classifiers of random confusions and random shares, intervals at 95 % together. "
        "Coverage counts runs in which all hold; power is for 10 points more of the rarest class."
    )
    cases = [
        (2, 0.9, 1000, 1000),
        (6, 0.99, 1000, 1000),
        (10, 0.8, 1000, 1000),
        (10, 0.9, 300, 500),
    ]
    rows = []
    for k, accuracy, samples, held_out in cases:
        each = powers.simulated_shares(repetitions, k, accuracy, samples, held_out, seed)
        figures = (f"{100 * x:.1f} %" for x in each)
        rows.append((f"{k}", f"{accuracy:.0%}", f"{samples:,}", f"{held_out:,}", *figures))
    heading = (
        "classes",
        "read rightly",
        "samples",
        "held out",
        "coverage",
        "false alarms",
        "power",
    )
    yield "Bias, simulated", claim, table(heading, rows)
    claim = (
        f"{n:,} samples and {n:,} held-out images of drawn shapes, whose factors the five nearest "
        "of 3,000 training images vote on in pixels; the colour is also read by a rule. "
        "Power is for 10 points more of one class."
    )
    heading = ("factor", "read rightly", "coverage", "false alarms", "power")
    yield "Bias, drawn shapes", claim, table(heading, powers.drawn_shares(repetitions, n, seed))


def _of_faults(repetitions: int, seed: int, n: int = N) -> Iterator[Section]:
    data = powers.fashion()
    claim = (
        f"{n:,} samples, training images with a planted fault, against {n:,} held-out images. "
        "Nominal error rate 1 %."
    )
    heading = ("planted", "blur found", "checkerboard found", "sharpness, of the data's")
    images = data["test_images"], data["train_images"][:2000]
    yield (
        "Blur and checkerboards",
        claim,
        table(heading, powers.faults_found(*images, repetitions, n, seed)),
    )
    claim = (
        "Simulated scores of a standard deviation of 1, with a gap between training and held-out "
        "images. Nominal 1 %."
    )
    heading = ("images per split", "gap 0", "gap 0.1", "gap 0.3")
    yield "Overfitting", claim, table(heading, powers.gaps_found(repetitions, seed))


def main() -> None:
    parser = argparse.ArgumentParser("python -m tools.calibrate_audits", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, help="the file to write; printed without it")
    given = parser.parse_args()
    command = "python -m tools.calibrate_audits --to docs/notes/audits.md"
    machine = f"{jax.devices()[0].device_kind}, two cores of an AMD EPYC"
    versions = (
        f"Python {platform.python_version()}, jax {jax.__version__}, scipy {scipy.__version__}"
    )
    parts = ["# Calibration of the audits\n"]
    for heading, claim, rows in tqdm(sections(given.repetitions, given.seed), total=8):
        parts.append(f"## {heading}\n")
        parts.append(
            f"- Claim: {claim}\n"
            f"- Number: below, of {given.repetitions} repetitions, seed {given.seed}\n"
            f"- Machine: {machine}\n- Versions: {versions}\n"
            f"- Date: {datetime.date.today()}\n- Command: `{command}`\n"
        )
        parts.append(rows)
    text = "\n".join(parts)
    if given.to is None:
        print(text)
    else:
        files.write_text(given.to, text)


if __name__ == "__main__":
    main()
