"""docs/restoration.md: families and solvers beside what people do without a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "restoration.md"
SCORES = {"psnr": "PSNR, dB", "psnr_of_mean": "PSNR of the mean", "ssim": "SSIM", "lpips": "LPIPS"}
HEAD = """\
# Restoring, measured

<!-- Written by `python -m benchmarks.restoration RUN... --write`. -->

Held-out images, observed by each task and restored by every solver that fits a run, beside what is
done without a model: Pillow's bicubic enlargement, scikit-image's biharmonic inpainting, total
variation (its weight the noise) and unsupervised Wiener deconvolution by the known blur, and the
mean training image. Means ± standard errors over images, of one answer; *PSNR of the mean* is that
of all answers of an image, the better estimate of it and no likely image itself. LPIPS (AlexNet)
sees small images enlarged to 64 pixels. *In the band* is how often the truth lies in the 90 % band
of the answers, among the pixels that were hidden where some were: below 90 % they are too sure of
themselves. **Bold** is what nothing without a model reaches: two standard errors better than the
best of these.
"""


def write(rows: Sequence[dict[str, Any]]) -> None:
    """Writes the page of all results."""
    PAGE.write_text(f"{HEAD}\n{tables(rows)}\n")


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a table per data set and task."""
    parts = []
    for data in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == data]
        runs = {row["run"]: row for row in mine if row["run"]}
        told = ", ".join(
            f"{name} ({row['experiment']}, {row['step']:,} steps)" for name, row in runs.items()
        )
        parts.append(f"## {data}\n\n{mine[0]['n']} images; runs: {told}; {mine[-1]['date']}.\n")
        for task in dict.fromkeys(row["task"] for row in mine):
            some = [row for row in mine if row["task"] == task]
            parts.append(f"### {task.capitalize()}\n\n{_table(some)}\n")
    return "\n".join(parts)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    head = ["", "solver", *SCORES.values(), "in the band", "s per answer"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    plain = [row for row in rows if not row["run"]]
    for row in rows:
        cells = [row["run"] or "*no model*", row["solver"]]
        cells += [_cell(row, score, plain) for score in SCORES]
        cells.append(f"{row['coverage'][0]:.0%}" if "coverage" in row else "–")
        cells.append(f"{row['seconds']:.2g}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: dict[str, Any], score: str, plain: Sequence[dict[str, Any]]) -> str:
    value, error = row[score]
    digits = 1 if score.startswith("psnr") else 3
    text = f"{value:.{digits}f} ± {error:.{digits}f}"
    sign = -1 if score == "lpips" else 1
    beaten = all(
        sign * (value - other[score][0]) > 2 * (error**2 + other[score][1] ** 2) ** 0.5
        for other in plain
    )
    return f"**{text}**" if row["run"] and beaten else text
