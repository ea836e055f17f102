"""docs/families.md: families ranked by their samples after the same minutes of training."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

PAGE = Path(__file__).parent.parent / "docs" / "families.md"
HEAD = """\
# Families on the same images

<!-- Written by `python -m benchmarks.families --write`. -->

The families of genjax on the same images, trained for the same time on the same machine, and their
samples scored against the same held-out images by VGG16's features. The number of steps is what
fills the minutes at the speed that each was measured to train at. Scores are means ± standard
deviations over seeds; in brackets the interval of one seed's score, the mean of the seeds' ends.
*Real images* is the floor: the score of as many training images. Rank is by the kernel distance;
a family that cannot be told from the one above (Welch's test over seeds at 5 %) shares its rank.

Minutes on a CPU are few: this ranks what is reached quickly, and says nothing about what is
reached in the end. VGG16 was trained on photographs, not on these images. The autoencoder's samples
come from a mixture that is fitted to its codes after training, in seconds that are not counted.
"""


def write(rows: Sequence[dict[str, Any]]) -> None:
    """Writes the page of all results."""
    parts = [HEAD]
    for name in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == name]
        one = mine[0]
        parts.append(
            f"## {name}\n\n{one['minutes']:g} minutes each on {one['device']}, "
            f"{one['scores']['kd_vgg16']['n']:,} samples ({one['findings'][0]['n']:,} in the "
            f"audits for copies and collapse), jax {one['jax']}, {one['date']}. "
            f"`python -m benchmarks.families --data {name} --minutes {one['minutes']:g}`\n\n"
            f"{table(mine)}\n"
        )
    PAGE.write_text("\n".join(parts))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row per family, the best first."""
    families = {name: [r for r in rows if r["family"] == name] for name in _ranked(rows)}
    head = [
        *("rank", "family", "seeds", "kernel distance", "Fréchet distance", "coverage"),
        *("copies", "collapse", "steps", "parameters", "s per 1,000 samples"),
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (name, mine), rank in zip(families.items(), _ranks(families), strict=True):
        cells = [
            *(rank, name, str(len(mine))),
            *(_score(mine, score) for score in ("kd_vgg16", "fd_vgg16", "coverage_vgg16")),
            *(_found(mine, finding) for finding in ("memorization", "collapse")),
            f"{np.mean([row['steps'] for row in mine]):,.0f}",
            f"{mine[0]['parameters']:,}",
            f"{min(row['seconds_per_1000_samples'] for row in mine):.2g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    floors = [
        _interval([row["scores"][score]["floor"] for row in rows])
        for score in ("kd_vgg16", "fd_vgg16", "coverage_vgg16")
    ]
    blank = ["–"] * 5
    lines.append("| " + " | ".join(["", "*real images*", "–", *floors, *blank]) + " |")
    return "\n".join(lines)


def _values(rows: Sequence[dict[str, Any]], score: str = "kd_vgg16") -> np.ndarray:
    return np.array([row["scores"][score]["value"] for row in rows])


def _ranked(rows: Sequence[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(row["family"] for row in rows)
    mean: Callable[[str], float] = lambda name: _values(  # noqa: E731
        [row for row in rows if row["family"] == name]
    ).mean()
    return sorted(names, key=mean)


def _ranks(families: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Numbers; one that cannot be told from the family above has the number of that."""
    values = [_values(rows) for rows in families.values()]
    ranks = [1]
    for i in range(1, len(values)):
        same = _indistinct(values[i - 1], values[i])
        ranks.append(ranks[-1] if same else i + 1)
    return [f"{rank}" for rank in ranks]


def _indistinct(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether Welch's 95 % interval of the difference holds 0; never for single seeds."""
    if min(len(first), len(second)) < 2:
        return False
    return bool(stats.ttest_ind(first, second, equal_var=False).pvalue > 0.05)


def _score(rows: Sequence[dict[str, Any]], score: str) -> str:
    values = _values(rows, score)
    spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
    return f"{values.mean():.3g}{spread} {_ends([row['scores'][score] for row in rows])}"


def _interval(scores: Sequence[dict[str, float] | None]) -> str:
    known = [score for score in scores if score]
    return f"{np.mean([s['value'] for s in known]):.3g} {_ends(known)}" if known else "–"


def _ends(scores: Sequence[dict[str, float]]) -> str:
    low, high = (np.mean([score[end] for score in scores]) for end in ("low", "high"))
    return f"[{low:.3g}, {high:.3g}]"


def _found(rows: Sequence[dict[str, Any]], name: str) -> str:
    found = [f["found"] for row in rows for f in row["findings"] if f["name"] == name]
    return f"{sum(found)} of {len(found)}" if found else "–"
