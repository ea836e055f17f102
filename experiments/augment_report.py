"""What the study of synthetic images found: tables with paired intervals, and the images' card."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.study import write_below
from genjax.evaluate.estimate import Estimate

PAGE = Path(__file__).parent.parent / "docs" / "augment.md"
MARK = "<!-- Written by `python -m experiments.augment_fashion --write`: all below. -->\n"
REAL, ORDINARY = "real", "real, augmented"

CARD = """\
---
license: {license}
task_categories: [image-classification]
tags: [synthetic]
---

# Synthetic images, not observations

Every image here was drawn by a model and labelled with the class that it was asked for. No image
was taken or labelled by a person: do not measure anything on them, and say that they are synthetic
where you publish what was trained on them.

| | |
|---|---|
| model | {model} |
| weights | sha256 {weights}, trained in {run} |
| trained on | {size} labelled images of {data} (fingerprint {fingerprint}), chosen by seed {seed} |
| drawn | {n} images, seed {seed}{guidance} |
| filter | {filter} |
| licence | {license}{unknown} |

A model draws what it was trained on and can give back those images, the more so the fewer they
were: the licence of {data}, and its privacy, may bind these images too. What {size} images do
not show is missing here, and labels are wrong where the model drew another class.

{counts}
"""


def card(study: Any, images: Any, row: dict[str, Any], run: Path) -> str:
    """README.md of a folder of synthetic images."""
    kept = f"images to which a classifier of the same {row['size']} real images gives their class "
    kept += f"a probability of {study.confidence} or more"
    diffusion = study.generator == "diffusion"
    return CARD.format(
        license=study.license,
        unknown=": ask whoever made them" if study.license == "unknown" else "",
        model=f"{study.generator}, conditional on the class, {study.generator_training:,} steps",
        weights=row["weights"],
        run=Path(*run.parts[-2:]),
        data=images.train.name,
        fingerprint=images.train.fingerprint,
        n=sum(each["kept"] for each in row["counts"].values()),
        guidance=f", classifier-free guidance of scale {study.guidance:g}" if diffusion else "",
        filter="none" if study.confidence is None else kept,
        counts=filtered([row]),
        **{name: row[name] for name in ("size", "seed")},
    )


def paired(rows: list[dict[str, Any]], arm: str, base: str, value: Any) -> Estimate | None:
    """value(row of an arm) − value(row of the base), over the seeds that have both."""
    by = {(row["arm"], row["seed"]): row for row in rows if "arm" in row}
    seeds = [seed for name, seed in by if name == arm and (base, seed) in by]
    gaps = np.array([value(by[arm, seed]) - value(by[base, seed]) for seed in seeds])
    if len(gaps) < 2:
        return None
    # The jackknife of a mean: Student's interval of the paired differences.
    return Estimate(float(gaps.mean()), ((gaps.sum() - gaps) / (len(gaps) - 1),))


def verdict(gap: Estimate | None) -> str:
    """What an interval of a difference of errors says."""
    if gap is None:
        return "–"
    low, high = gap.interval()
    return "helps" if high < 0 else "**harms**" if low > 0 else "no difference shown"


def summary(study: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The differences and their intervals, for programs."""
    found = []
    for size in sorted({*study.sizes}):
        mine = [row for row in rows if row["size"] == size and "arm" in row]
        for arm in study.arms:
            errors = [row["error"] for row in mine if row["arm"] == arm]
            of = {"size": size, "arm": arm, "errors": errors}
            for base in (REAL, ORDINARY):
                if arm != base and (gap := paired(mine, arm, base, _error)):
                    low, high = gap.interval()
                    gaps = {"difference": gap.value, "low": low, "high": high}
                    of[f"against {base}"] = {**gaps, "verdict": verdict(gap).strip("*")}
            found.append(of)
    return found


def page(study: Any, rows: list[dict[str, Any]], classes: tuple[str, ...], held_out: int) -> str:
    """Markdown: the errors, what was gained and lost per class, and what was filtered."""
    seeds = sorted({row["seed"] for row in rows})
    of = "" if study.confidence is None else f" filtered at a confidence of {study.confidence:g},"
    guided = f" (guidance {study.guidance:g})" if study.generator == "diffusion" else ""
    last = max((row for row in rows if "arm" in row), key=lambda row: row["date"])
    parts = [
        f"{study.data.folder or study.data.name}: {len(seeds)} seeds ({seeds[0]} to {seeds[-1]}), "
        f"{study.generator}{guided} of {study.generator_training:,} train steps,{of} classifiers "
        f"of {study.steps:,} steps of {study.batch} images, errors on {held_out:,} held-out "
        "images; "
        f"{last['device']}, jax {jax.__version__}, {last['date']}.\n\n"
        "Differences are in percentage points of errors, paired by seed, with 95 % intervals over "
        "the seeds: below 0 is better. Each interval stands for itself, so that about one in "
        "twenty misses. They do not cover the choice of the held-out images, which all share."
    ]
    for size in sorted({*study.sizes}):
        mine = [row for row in rows if row["size"] == size]
        parts += [f"## {size:,} real images", errors(study, mine), per_class(study, mine, classes)]
        # Of images that were drawn again, as more are asked for, the last.
        drawn = [*{r["seed"]: r for r in mine if r.get("piece") == "synthetic"}.values()]
        if study.confidence is not None:
            parts += [
                f"Synthetic images of all seeds, kept at a confidence of {study.confidence:g} or "
                "more:",
                filtered(drawn),
            ]
    return "\n\n".join(parts) + "\n"


def errors(study: Any, rows: list[dict[str, Any]]) -> str:
    """A row per arm."""
    lines = [
        "| a classifier learns from | images | errors | against real images | |"
        " against ordinary augmentation | |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in study.arms:
        mine = [row for row in rows if row.get("arm") == arm]
        values = np.array([row["error"] for row in mine])
        spread = f" ± {100 * values.std(ddof=1):.1f}" if len(values) > 1 else ""
        images = np.mean([row["images"] for row in mine])
        cells = [arm, f"{images:,.0f}", f"{100 * values.mean():.1f} %{spread}"]
        for base in (REAL, ORDINARY):
            gap = None if arm == base else paired(rows, arm, base, _error)
            cells += [_shown(gap), verdict(gap)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def per_class(study: Any, rows: list[dict[str, Any]], classes: tuple[str, ...]) -> str:
    """The errors of each class on real images, and what each arm changes; bold where it is sure."""
    arms = [arm for arm in study.arms if arm != REAL]
    lines = [
        "| class | errors, real | " + " | ".join(arms) + " |",
        "|" + "---|" * (len(arms) + 2),
    ]
    for k, name in enumerate(classes):

        def error(row: dict[str, Any], k: int = k) -> float:
            return row["class_errors"][k]

        real = np.mean([error(row) for row in rows if row.get("arm") == REAL])
        cells = [name, f"{100 * real:.1f} %"]
        for arm in arms:
            gap = paired(rows, arm, REAL, error)
            sure = gap is not None and verdict(gap) != "no difference shown"
            cells.append(f"**{_shown(gap)}**" if sure else _shown(gap))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def filtered(rows: list[dict[str, Any]]) -> str:
    """How many images were drawn and kept, and why the others were not, per class."""
    lines = [
        "| class | drawn | filtered: taken for another class | filtered: unsure | kept |",
        "|---|---|---|---|---|",
    ]
    for name in rows[-1]["counts"]:
        counts = {k: sum(r["counts"][name][k] for r in rows) for k in rows[-1]["counts"][name]}
        lines.append("| " + " | ".join([name, *(f"{n:,}" for n in counts.values())]) + " |")
    return "\n".join(lines)


def write(text: str) -> None:
    """Puts the tables on the page, below its mark."""
    write_below(PAGE, MARK, text)


def _error(row: dict[str, Any]) -> float:
    return row["error"]


def _shown(gap: Estimate | None) -> str:
    if gap is None:
        return "–"
    low, high = (100 * end for end in gap.interval())
    return f"{100 * gap.value:+.1f} [{low:+.1f}, {high:+.1f}]"
