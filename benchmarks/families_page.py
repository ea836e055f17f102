"""docs/gallery.md: families ranked by their samples after the same minutes, and what they draw."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import stats

PAGE = Path(__file__).parent.parent / "docs" / "gallery.md"
MOST = 60 * 1024  # bytes of an image
HEAD = """\
# Gallery

<!-- Written by `python -m benchmarks.families --write`. -->

The families of genjax on the same images, trained for the same time on the same machine, and their
samples scored against the same held-out images by VGG16's features. The number of steps is what
fills the minutes at the speed that each was measured to train at. Scores are means ± standard
deviations over seeds; in brackets the interval of one seed's score, the mean of the seeds' ends.
*Real images* is the floor: the score of as many training images. Rank is by the kernel distance;
a family that cannot be told from the one above (Welch's test over seeds at 5 %) shares its rank.
A family of one seed has the rank of its value alone, which another seed may change.

Minutes on a CPU are few: this ranks what is reached quickly, and says nothing about what is
reached in the end. VGG16 was trained on photographs, not on these images. The autoencoder's samples
come from a mixture that is fitted to its codes after training, in seconds that are not counted.
Images are the first 48 of seed 0, none of them chosen; the command of each trains anew for the
same minutes, on a machine whose speed may be another.
"""


def write(
    rows: Sequence[dict[str, Any]],
    sheets: Sequence[Path | None],
    command: Callable[[dict[str, Any]], str],
    page: Path = PAGE,
) -> None:
    """Writes the page: per data set and minutes a table, then the images of each family.

    Sections of the page that these results say nothing about stay as they are. sheets: the images
    of each row, None for those that are not shown. command: of a row, what trains its family.
    """
    written = _written(page)
    for title, mine in sections(rows).items():
        parts = [_circumstances(mine), table(mine), ""]
        shown = {
            row["family"]: _figure(row, sheet, command(row), page.parent)
            for row, sheet in zip(rows, sheets, strict=True)
            if sheet and row in mine
        }
        parts += [shown[name] for name in _ranked(mine) if name in shown]
        written[title] = "\n".join(parts)
    headed = (f"## {title}\n\n{text}" for title, text in written.items())
    page.write_text("\n".join([HEAD, *headed]))


def _written(page: Path) -> dict[str, str]:
    """{title: text} of the sections of a page that is there."""
    if not page.exists():
        return {}
    parts = (each.partition("\n\n") for each in page.read_text().split("\n## ")[1:])
    return {title: text.rstrip("\n") + "\n" for title, _, text in parts}


def _circumstances(rows: Sequence[dict[str, Any]]) -> str:
    one, dates = rows[0], sorted({row["date"] for row in rows})
    machines, versions = (
        ", ".join(sorted({row[key] for row in rows})) for key in ("device", "jax")
    )
    return (
        f"On {machines}, {one['scores']['kd_vgg16']['n']:,} samples "
        f"({one['findings'][0]['n']:,} in the audits for copies and collapse), jax {versions}, "
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}.\n\n```\npython -m "
        f"benchmarks.families --data {one['data']} --minutes {one['minutes']:g} --write\n```\n"
    )


def sections(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows that are compared with each other: of the same images and minutes."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        title = f"{row['data']}, {row['minutes']:g} minutes"
        found.setdefault(title, []).append(row)
    return found


def _figure(row: dict[str, Any], sheet: Path, command: str, docs: Path) -> str:
    """Markdown of a family's images, and how they came about."""
    stem = f"{row['data']}_{row['family']}_{row['minutes']:g}".replace(", ", "_").replace(" ", "_")
    target = docs / "gallery" / f"{stem.lower()}.webp"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_small(sheet))
    score = row["scores"]["kd_vgg16"]
    return (
        f"### {row['family']}\n\n"
        f'![Images drawn by {row["family"]}](gallery/{target.name}){{ width="466" }}\n\n'
        f"{row['minutes']:g} minutes ({row['steps']:,} steps), {row['parameters']:,} parameters, "
        f"seed {row['seed']}: kernel distance {score['value']:.3g} {_ends([score])}, of real "
        f"images {_interval([score['floor']])}.\n\n"
        f"```\n{command}\n```\n"
    )


def _small(sheet: Path) -> bytes:
    """A sheet as WebP of at most 60 KiB."""
    with Image.open(sheet) as image:
        for quality in range(90, 0, -10):
            file = io.BytesIO()
            image.save(file, "WEBP", quality=quality, method=6)
            if file.tell() <= MOST:
                break
    return file.getvalue()


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
            _seconds(min(row["seconds_per_1000_samples"] for row in mine)),
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


def _seconds(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"
