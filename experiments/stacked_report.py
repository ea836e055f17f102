"""What the study of modes found: a table, its rows as lines, and the page of the documentation."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.stacked_pieces import MODELS, SURE
from experiments.study import write_below

PAGE = Path(__file__).parent.parent / "docs" / "modes.md"
MARK = "<!-- Written by `python -m experiments.stacked_mnist --write`: all below. -->\n"


def line(row: dict[str, Any]) -> str:
    """A row as it is printed when it is there."""
    if "found" not in row:
        return f"{row['piece']}: {row['steps']:,} steps"
    name = row["piece"] if "model" not in row else f"{row['model']}, seed {row['seed']}"
    return f"{name}: {row['found']:,} modes of {row['of']:,}, KL {row['reverse_kl']:.3f} nats"


def page(study: Any, rows: list[dict[str, Any]]) -> str:
    """The table, below what it is of."""
    real = [row for row in rows if "misread" in row]
    runs = [row for row in rows if "model" in row and row["seed"] in study.numbers]
    if not real or not runs:
        return ""
    dates, last = sorted({row["date"] for row in rows if "date" in row}), runs[-1]
    text = [
        f"{study.samples:,} samples, {study.images:,} stacked images of `{study.data.name}` to "
        f"train on, {study.minutes:g} minutes each, {last['device']}, {' to '.join(dates)}. Modes "
        "and divergence: mean ± standard deviation over the seeds.",
        f"The classifier errs on {real[0]['classifier_error']:.2%} of "
        f"{real[0]['classifier_images']:,} held-out single images, and misreads the mode of "
        f"{real[0]['misread']:.2%} of the stacked ones. Read surely are images of which it gives "
        f"each channel a class with a probability of {SURE:.0%} or more.",
        "| | train steps | images seen | seeds | modes of 1,000 | reverse KL, nats | read surely |"
        "\n"
        "|---|---|---|---|---|---|---|",
    ]
    for row in real:
        drawn = f" ({row['drawn']:,} drawn)" if row["drawn"] != row["found"] else ""
        cells = ["–"] * 3 + [f"{row['found']:,}{drawn}", f"{row['reverse_kl']:.3f}"]
        cells.append(f"{row['sure']:.0%}")
        text[-1] += "\n" + _row(f"*{row['piece']}*", *cells)
    for model in MODELS:
        if mine := [row for row in runs if row["model"] == model]:
            steps = mine[-1]["steps"]
            batch = MODELS[model].Config().run.batch
            found = [_spread([row[name] for row in mine]) for name in ("found", "reverse_kl")]
            found.append(f"{np.mean([row['sure'] for row in mine]):.0%}")
            text[-1] += "\n" + _row(model, f"{steps:,}", f"{steps * batch:,}", len(mine), *found)
    return "\n\n".join(text) + "\n"


def _row(*cells: Any) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _spread(values: list[float]) -> str:
    digits = ",.0f" if isinstance(values[0], int) else ".3f"
    spread = f" ± {np.std(values, ddof=1):{digits}}" if len(values) > 1 else ""
    return f"{np.mean(values):{digits}}{spread}"


def write(text: str, sheets: dict[str, Path]) -> None:
    """Puts table and pictures on the page, below its mark."""
    for model, sheet in sheets.items():
        name = f"modes_{model}.png"
        PAGE.with_name(name).write_bytes(sheet.read_bytes())
        text += f"\n{model}, the first seed:\n\n![samples of {model}]({name})\n"
    write_below(PAGE, MARK, text)
