"""report.html: the page of a run, written at each periodic evaluation and by `genjax report`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import genjax
from genjax.errors import ConfigError
from genjax.report import rendering
from genjax.report.embedding import Embedder
from genjax.report.page import Block, Chip, Page, Section
from genjax.run import page_curves, page_facts, page_images, records
from genjax.run.config import load
from genjax.run.listing import MOST_READ, Listed, find, listed
from genjax.run.records import FAULTS, FINDINGS, PROFILES, SCORES, STARTS, text

NAME = "report.html"
MOST_MARKS, MOST_RUNS = 50, 16


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """The runs that folders hold.

    Args:
      folders: runs, or folders of runs.

    Returns:
      Their directories, each once.

    Raises:
      ConfigError: where a folder holds none, or there are more than `MOST_RUNS`.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        below = [path for path, parent in find(folder) if parent is None]
        if not below:
            what = "holds no run" if folder.is_dir() else "is no folder"
            raise ConfigError(f"{folder} {what}: give a run's directory, or one of runs")
        # A run that was started afresh keeps the earlier ones in itself.
        found |= dict.fromkeys(below[:1] if below[0] == folder else below)
    if len(found) > MOST_RUNS:
        raise ConfigError(f"{len(found):,} runs are too many for a page: name up to {MOST_RUNS}")
    return list(found)


def write(directory: Path, to: Path | None = None) -> Path:
    """Writes the page of a run.

    Args:
      directory: the run's.
      to: the file; None for report.html in the run's directory, of an export, to which nothing is
        added, in the working directory.

    Returns:
      The file.

    Raises:
      ConfigError: where the directory holds no run, or a file is there that is no page of genjax.
    """
    is_export = load(directory / "config.json").get("export") is not None
    path = to or (Path.cwd() if is_export else directory) / NAME
    rendering.save(path, rendering.render(page(directory, Embedder())))
    return path


def page(directory: Path, embedder: Embedder, most_read: int = MOST_READ) -> Page:
    """Reads what a run directory holds. Each file may be missing, damaged or a stranger's.

    Args:
      directory: the run's.
      embedder: encodes images.
      most_read: bytes of a checkpoint that are read to see whether it is intact.

    Returns:
      The page.

    Raises:
      ConfigError: where config.json cannot be used.
    """
    values = load(directory / "config.json")
    if not isinstance(values.get("experiment"), str):
        raise ConfigError(f"{directory / 'config.json'} is not of a run")
    run = listed(directory, None, directory, most_read)
    rows = {name: records.rows(directory / name) for name in (SCORES, FINDINGS, FAULTS, STARTS)}
    marks = _marks(rows)
    columns = records.metrics(directory)
    faults = [page_facts.faults(rows[FAULTS])] if rows[FAULTS] else []
    data = [*page_facts.data_card(values), *page_images.training_images(directory, embedder)]
    sections = [
        _overview(directory, run, values, columns, embedder, rows),
        Section("curves", "Curves", page_curves.of_metrics({"": columns}, marks)),
        Section("scores", "Scores", page_curves.of_scores({"": rows[SCORES]}, marks), SCORES_LEAD),
        Section("inside", "Inside the model", _inside(directory, values)),
        *_stages(directory, embedder, most_read),
        Section("images", "Images", _images(directory, embedder), layout="pairs"),
        _checkpoints(run),
        Section("faults", "Faults", faults, layout="stack"),
        Section("data", "Data", data),
        _stacked("settings", "Settings", page_facts.settings(values, rows[STARTS])),
        _stacked("started", "How it was trained", page_facts.environment(rows[STARTS], values)),
    ]
    return Page(directory.absolute().name, sections, _chips(run, rows), _footer())


SCORES_LEAD = (
    "Each with its interval, and as a dashed line its floor: the same score of held-out real images"
    " at the same n. Where the interval reaches the floor, the score does not tell samples and data"
    " apart."
)


def _marks(rows: Any) -> list[tuple[float, str]]:
    found = [row for row in rows[FINDINGS] if row.get("found") is True]
    return [
        *((row["step"], f"{text(row, 'name')}, step {row['step']:,}") for row in found),
        *((row["step"], f"not finite, step {row['step']:,}") for row in rows[FAULTS]),
    ][:MOST_MARKS]


def _stacked(name: str, title: str, blocks: Iterable[Block]) -> Section:
    return Section(name, title, list(blocks), layout="stack")


def _footer() -> str:
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"Written {now} by genjax {genjax.__version__}. This file loads nothing from elsewhere."


def _chips(run: Listed, rows: Any) -> list[Chip]:
    chips = [Chip(run.experiment)]
    if run.export:
        chips.append(Chip("export"))
    elif run.finished:
        chips.append(Chip("finished", "good"))
    elif run.asked and run.step is not None:
        chips.append(Chip(f"{min(run.step / run.asked, 1):.0%} trained"))
    found = {text(row, "name"): row.get("found") is True for row in rows[FINDINGS]}
    for name, is_found in found.items():
        if is_found:
            chips.append(Chip(name, "alarm"))
    if run.damaged:
        chips.append(Chip("damaged", "alarm"))
    if rows[FAULTS]:
        chips.append(Chip("faults", "warning"))
    return chips


def _overview(
    directory: Path, run: Listed, values: Any, columns: Any, embedder: Embedder, rows: Any
) -> Section:
    config = values.get("config")
    settings = config.get("run") if isinstance(config, dict) else None
    facts = page_facts.progress(run, {**values, "run_settings": settings}, columns)
    notes = page_facts.attention(directory, run, values, rows[FINDINGS], rows[FAULTS])
    samples = list(page_images.over_time(directory, embedder))
    return Section("overview", "Overview", [*samples[:1], facts, *notes], layout="overview")


def _inside(directory: Path, values: Any) -> list[Block]:
    images = values.get("images")
    names = images.get("names") if isinstance(images, dict) else None
    classes = dict(enumerate(names)) if isinstance(names, list) else {}
    known = {i: text({"n": name}, "n") for i, name in classes.items()}
    return [
        *page_curves.of_profiles(records.rows(directory / PROFILES)),
        *page_images.latents(directory, known),
    ]


def _images(directory: Path, embedder: Embedder) -> list[Block]:
    later = list(page_images.over_time(directory, embedder))[1:]
    return [*later, *page_images.drawn(directory, embedder)]


def _stages(directory: Path, embedder: Embedder, most_read: int) -> Iterable[Section]:
    """The families that were trained first, each in a folder of its own."""
    try:
        folders = sorted(p for p in directory.iterdir() if (p / "checkpoints").is_dir())
    except OSError:
        return
    for i, folder in enumerate(folders):
        if folder.is_symlink() or (folder / "config.json").exists():
            continue
        charts = page_curves.of_metrics({"": records.metrics(folder)})
        sheets = list(page_images.over_time(folder, embedder))
        codes = _inside(folder, {})
        stage = listed(folder, directory, directory, most_read)
        kept = [page_facts.checkpoints(stage)] if stage.checkpoints else []
        yield Section(f"stage-{i}", f"Stage: {folder.name}", [*sheets, *charts, *codes, *kept])


def _checkpoints(run: Listed) -> Section:
    blocks = [page_facts.checkpoints(run)] if run.checkpoints else []
    return Section("checkpoints", "Checkpoints", blocks, layout="stack")
