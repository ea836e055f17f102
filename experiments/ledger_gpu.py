"""`python -m experiments.ledger gpu`: a plan of rows, as many as fit into some minutes of a device.

Each row trains a system for some minutes, scores it, and keeps a grid of its samples. The rows are
in order of worth; those that an earlier call began come first, and go on where it stopped.
"""

import datetime
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genjax import files
from genjax.errors import ConfigError

RESULTS = "rows.json"
# Beyond its training: the start, compilation and scores, until rows of this system have told.
MORE_SECONDS = 120.0
GRACE_SECONDS = 20.0  # in which a run that is stopped saves itself
UNET = "--compute bfloat16 --run.batch 256 --warm-up 200 --ema 0.999 --learning-rate 5e-4"


@dataclass(frozen=True)
class System:
    """What is trained: words of `python -m experiments.WORDS`, and the flags of its evaluation.

    measured: whether it has scores of held-out images.
    """

    words: str
    measured: str | None = None


SYSTEMS = {
    "ddpm": System(
        f"ddpm_cifar10 {UNET} --output velocity --decay steps --sampler ddim --sampling-steps 50",
        "--n 500",
    ),
    "flow": System(f"flow_cifar10 {UNET} --sampling-steps 50"),
    "edm": System(
        "edm --data.name cifar10 --channels 128 --multipliers 2 2 2 --blocks 4 --attention 16 "
        "--compute bfloat16 --run.batch 256 --data-std 0.5 --learning-rate 1e-3 --warm-up 50000 "
        "--half-life 50000"
    ),
    "consistency": System(
        "consistency --data.name cifar10 --method training --channels 128 --multipliers 2 2 2 "
        "--blocks 4 --attention 16 --compute bfloat16 --run.batch 256 --data-std 0.5 --noise-mean "
        "-1.1 --intervals 640 --learning-rate 2e-4 --warm-up 50000 --half-life 50000"
    ),
    "vae": System("vae_cifar10 --run.batch 256 --learning-rate 1e-3", "--n 0"),
    "dcgan": System("dcgan_fashion --data.name cifar10 --widths 256 128 64 --augment flip"),
}
MINUTES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Row:
    """A system and how long it trains, in minutes."""

    system: str
    minutes: float

    @property
    def name(self) -> str:
        return f"{self.system}_{self.minutes:g}_minutes"


PLAN = tuple(Row(system, minutes) for minutes in MINUTES for system in SYSTEMS)


@dataclass(frozen=True)
class Gpu:
    """Add rows to a table of scores against minutes of training, for some minutes.

    The same command with the same --to goes on. Nothing is lost where it is stopped.
    """

    minutes: float
    """How long, all in all."""
    data_dir: str | None = None
    """Where the prepared TFDS sets lie."""
    to: str = "runs/ledger_gpu"
    """The folder of the runs, of rows.json, and of a picture per row."""
    rows: tuple[str, ...] = ()
    """Names of rows, or of systems. None: all that fit."""
    scores: tuple[str, ...] = ("fd_efficientnet", "kd_efficientnet")
    """Scores of samples, such as fd_inception with --weights."""
    n: int = 10_000
    """Samples that are scored."""
    weights: str | None = None
    """The file of Inception's weights."""
    more: tuple[str, ...] = ()
    """Further words for each training, such as --run.batch 64."""


def fill(settings: Gpu) -> None:
    """Does what fits."""
    deadline = time.monotonic() + 60 * settings.minutes
    folder = Path(settings.to)
    folder.mkdir(parents=True, exist_ok=True)
    book = _read(folder / RESULTS)
    where: dict[str, str] = {}
    for row in _in_order(settings.rows, book):
        left = deadline - time.monotonic()
        if left < expected(row, book):
            print(f"{row.name}: left for another call, {left:.0f} s are too few", flush=True)
            continue
        print(f"{row.name}: {left:.0f} s left", flush=True)
        where = where or _device()
        entry = book.setdefault(row.name, {"seconds": {"training": 0.0}, "complete": False})
        try:
            _train(row, settings, folder, entry, deadline)
            _evaluate(row, settings, folder, entry, deadline)
            entry |= {**where, **_recorded(row, folder)}
            entry.pop("trouble", None)
        except Unfinished as error:
            print(f"{row.name}: {error}", flush=True)
            entry["trouble"] = str(error)
        files.write_json(folder / RESULTS, book)
        print(table(book), flush=True)


class Unfinished(Exception):  # noqa: N818, no error where the time is up
    """A row is not complete; the message says why."""


def _read(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _in_order(names: Sequence[str], book: dict[str, Any]) -> list[Row]:
    """The rows that were asked for and are not complete: first those that were begun."""
    known = {row.name for row in PLAN} | SYSTEMS.keys()
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"no row or system {unknown[0]!r}; there are: {', '.join(sorted(known))}")
    asked = [row for row in PLAN if not names or {row.name, row.system} & {*names}]
    left = [row for row in asked if not book.get(row.name, {}).get("complete")]
    return sorted(left, key=lambda row: row.name not in book)


def expected(row: Row, book: dict[str, Any]) -> float:
    """Seconds that a row takes: its training, and what earlier rows of its system took beyond."""
    beyond = [
        sum(entry["seconds"].values()) - 60 * entry["minutes"]
        for entry in book.values()
        if entry["complete"] and entry["system"] == row.system
    ]
    done = book.get(row.name, {}).get("seconds", {}).get("training", 0.0)
    return max(0.0, 60 * row.minutes - done) + (max(beyond) if beyond else MORE_SECONDS)


def _python(words: Sequence[str], deadline: float) -> float:
    """Runs `python -m experiments.WORDS`, stopped in time for it to save; returns the seconds."""
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", f"experiments.{words[0]}", *words[1:]])
    try:
        code = child.wait(max(1.0, deadline - GRACE_SECONDS - began))
    except BaseException as error:  # the time is up, or Ctrl-C
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Stopped(time.monotonic() - began) from None
        raise
    if code:
        raise Unfinished(f"{words[0]} ended with exit code {code}")
    return time.monotonic() - began


class Stopped(Unfinished):
    """The time is up."""

    def __init__(self, seconds: float):
        super().__init__("the time is up: another call goes on from the checkpoint")
        self.seconds = seconds


def _train(row: Row, settings: Gpu, folder: Path, entry: dict[str, Any], deadline: float) -> None:
    if entry.get("trained"):
        return
    where = ["--data.dir", settings.data_dir] if settings.data_dir else []
    words = [
        *SYSTEMS[row.system].words.split(),
        *("--run.minutes", f"{row.minutes:g}", "--run.dir", str(folder / row.name)),
        *(*where, *settings.more),
    ]
    try:
        entry["seconds"]["training"] += _python(words, deadline)
    except Stopped as stop:
        entry["seconds"]["training"] += stop.seconds
        raise
    entry["trained"] = True


def _evaluate(
    row: Row, settings: Gpu, folder: Path, entry: dict[str, Any], deadline: float
) -> None:
    system = SYSTEMS[row.system]
    began = time.monotonic()
    base = [system.words.split()[0], "evaluate", str(folder / row.name)]
    if system.measured is not None:
        _python([*base, *system.measured.split()], deadline)
    weights = ["--weights", settings.weights] if settings.weights else []
    _python([*base, "--n", str(settings.n), *weights, "--scores", *settings.scores], deadline)
    entry["seconds"]["evaluation"] = time.monotonic() - began


def _device() -> dict[str, str]:
    """In a process of its own: the trainings need the device's memory."""
    code = "import json, jax; print(json.dumps([jax.devices()[0].device_kind, jax.__version__]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return dict(zip(("device", "jax"), json.loads(done.stdout), strict=True))


def _recorded(row: Row, folder: Path) -> dict[str, Any]:
    """What a row says, from the files of its run; a picture is put beside them."""
    place, words = folder / row.name, SYSTEMS[row.system].words
    found, config = (
        json.loads((place / name).read_text(encoding="utf-8"))
        for name in ("evaluation.json", "config.json")
    )
    held_out = {
        name: {**score, "of": found["split"], "n": found["n"]}
        for name, score in found.get("scores", {}).items()
    }
    samples = {
        score["name"]: {k: v for k, v in score.items() if k != "replicates"}
        for score in found["distances"]
    }
    newest = max((place / "samples").glob("step_*.png"), key=lambda path: path.stat().st_mtime)
    shutil.copyfile(newest, folder / f"{row.name}.png")
    settings = config["config"]
    return {
        "system": row.system,
        "minutes": row.minutes,
        "command": f"python -m experiments.{words} --run.minutes {row.minutes:g}",
        "data": settings["data"]["name"],
        "seed": settings["run"]["seed"],
        "steps": found["step"],
        "images_seen": found["step"] * settings["run"]["batch"],
        "scores": {**held_out, **samples},
        "date": datetime.date.today().isoformat(),
        "complete": True,
    }


def table(book: dict[str, dict[str, Any]]) -> str:
    """Markdown: a line per row, with each score's interval and floor."""
    rows = [entry for entry in book.values() if entry["complete"]]
    names = list(dict.fromkeys(name for entry in rows for name in entry["scores"]))
    head = ["system", "minutes", "images seen", *names, "seconds in all", "device"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for entry in sorted(rows, key=lambda entry: (entry["system"], entry["minutes"])):
        cells = [
            entry["system"],
            f"{entry['minutes']:g}",
            f"{entry['images_seen']:,}",
            *(_cell(entry["scores"].get(name)) for name in names),
            f"{sum(entry['seconds'].values()):,.0f}",
            entry["device"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(score: dict[str, Any] | None) -> str:
    if score is None:
        return ""
    if "error" in score:
        return f"{score['value']:.4g} ± {score['error']:.2g}"
    floor = f", floor {score['floor']['value']:.3g}" if score.get("floor") else ""
    return f"{score['value']:.4g} ({score['low']:.4g} to {score['high']:.4g}){floor}"
