"""The ledger: published numbers, ours beside them, and the commands that got them.

    python -m experiments.ledger                              # writes LEDGER.md from ledger/*.json
    python -m experiments.ledger run ROW --data-dir DIR       # trains and evaluates it from scratch
    python -m experiments.ledger record ROW RUN --seconds S   # takes the numbers of a finished run
    python -m experiments.ledger gpu --minutes M              # scores against minutes of training

`run` and `record` write the row's json and the page, and exit with 1 on a miss, with 2 where there
is no number. Ours is a hit where it is at most two standard errors above the published number, or
above the number expected of the row's shorter schedule where one is known.
"""

import datetime
import json
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, NoReturn

import tyro

from experiments import dit, edm, iwae_mnist, ledger_gpu
from genjax.errors import ConfigError

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "ledger", HERE / "LEDGER.md"
PRESETS = {  # that rows name: {experiment: {preset: its settings}}
    "dit": {"paper": dit.PAPER},
    "edm": {"paper": edm.PAPER},
    "iwae_mnist": {"dynamic": iwae_mnist.DYNAMIC},
}


@dataclass(frozen=True)
class Page:
    """Write LEDGER.md."""


@dataclass(frozen=True)
class Run:
    """Train and evaluate a row from scratch. Exits with 1 on a miss."""

    row: Annotated[str, tyro.conf.Positional]
    """Which, by its file's name."""
    data_dir: str | None = None
    """Where the prepared TFDS sets lie."""
    dir: str | None = None
    """A new run directory. None: runs/ledger/ and the row's name."""


@dataclass(frozen=True)
class Record:
    """Take the numbers of a run that was trained and evaluated. Exits with 1 on a miss."""

    row: Annotated[str, tyro.conf.Positional]
    """Which, by its file's name."""
    dir: Annotated[str, tyro.conf.Positional]
    """The run's directory."""
    seconds: float
    """How long it trained."""
    commit: str | None = None
    """What it was trained with. None: what is checked out."""


def main() -> None:
    """Runs the command in sys.argv."""
    commands = {"page": Page, "run": Run, "record": Record, "gpu": ledger_gpu.Gpu}
    arguments = sys.argv[1:]
    known = arguments and arguments[0] in commands
    name = arguments.pop(0) if known else "page"
    settings = tyro.cli(
        commands[name],
        args=arguments,
        prog=f"python -m experiments.ledger {name if known else ''}".strip(),
        description=None if known else __doc__,
    )
    missed = False
    if isinstance(settings, ledger_gpu.Gpu):
        try:
            ledger_gpu.fill(settings)
        except ConfigError as error:
            fail(str(error))
        return
    if isinstance(settings, Run):
        missed = run(settings)
    elif isinstance(settings, Record):
        missed = record(settings)
    PAGE.write_text(page(rows()), encoding="utf-8")
    sys.exit(int(missed))


def run(settings: Run) -> bool:
    row = read(settings.row)
    directory = Path(settings.dir or f"runs/ledger/{settings.row}")
    if directory.exists():
        fail(f"{directory} is there already: give a new --dir")
    where = ["--data.dir", settings.data_dir] if settings.data_dir else []
    train, evaluate = (shlex.split(row[c])[1:] for c in ("train", "evaluate"))
    at = evaluate.index("evaluate") + 1
    evaluate = [*evaluate[:at], str(directory), *evaluate[at:]]
    began = time.monotonic()
    python([*train, "--run.dir", str(directory), *where])
    seconds = time.monotonic() - began
    python(evaluate)
    return record(Record(settings.row, str(directory), seconds))


def python(words: list[str]) -> None:
    if subprocess.run([sys.executable, *words]).returncode:
        fail(f"python {shlex.join(words)} failed")


def record(settings: Record) -> bool:
    row, directory = read(settings.row), Path(settings.dir)
    evaluation = json.loads((directory / "evaluation.json").read_text(encoding="utf-8"))
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    check(row, config, evaluation)
    found = evaluated(row["score"], evaluation)
    if None in (found["value"], found["error"]):  # JSON has no NaN
        fail(f"{row['score']} of that evaluation is not finite")
    seeds = {"training": config["config"]["run"]["seed"], "evaluation": found.pop("seed")}
    row["ours"] = {
        **found,
        "seeds": seeds,
        "steps": evaluation["step"],
        "seconds": {"training": round(settings.seconds), "evaluation": found["seconds"]},
        "date": datetime.date.today().isoformat(),
        "commit": settings.commit or commit(),
    }
    text = json.dumps(row, indent=2, ensure_ascii=False) + "\n"
    (ROWS / f"{settings.row}.json").write_text(text, encoding="utf-8")
    print(f"{settings.row}: {ours(row)}, {verdict(row)}")
    return missed(row)


def evaluated(name: str, evaluation: dict) -> dict:
    """A score of an evaluation.json, and how it was found."""
    how = {key: evaluation.get(key) for key in ("seconds", "device", "jax")}
    for row in evaluation.get("distances", []):  # of samples, by a network's features
        if row["name"] == name:
            error = (row["high"] - row["low"]) / (2 * NormalDist().inv_cdf((1 + row["level"]) / 2))
            numbers = {"value": _rounded(row["value"]), "error": _rounded(error)}
            numbers |= {"scores": {name: numbers["value"]}, "split": row["reference"]}
            return {**numbers, "n": row["n"], "seed": row["seed"], **how}
    found = evaluation["scores"].items()
    scores = {k: {e: _rounded(v[e]) for e in ("value", "error")} for k, v in found}
    numbers: dict = dict(scores[name])
    numbers["scores"] = {k: v["value"] for k, v in scores.items()}
    return {**numbers, **{key: evaluation[key] for key in ("n", "split", "seed")}, **how}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def check(row: dict, config: dict, evaluation: dict) -> None:
    """Exits where a run's settings are not those of the row's command."""
    words = shlex.split(row["train"])
    wanted = {words[i][2:]: words[i + 1] for i in range(3, len(words) - 1, 2)}
    experiment, preset = words[2].split(".")[1], wanted.pop("preset", None)
    if config["experiment"] != experiment:
        fail(f"that is a run of {config['experiment']}, not of {experiment}")
    expected = json.loads(json.dumps(asdict(PRESETS[experiment][preset]))) if preset else {}
    for name in expected.keys() - {"run", "data"} - {f.replace("-", "_") for f in wanted}:
        if config["config"].get(name) != expected[name]:
            fail(f"that run has not --preset {preset}: its {name} is {config['config'].get(name)}")
    for flag, value in wanted.items():
        found = config["config"]
        for part in flag.split("."):
            found = found[part.replace("-", "_")]
        if flag == "run.steps":
            found = evaluation["step"]
        if str(found) != value:
            fail(f"that run has --{flag} {found}, and the row {value}")


def fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def commit() -> str:
    """The commit checked out, and whether anything differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "..")
    return git("rev-parse", "--short=10", "HEAD") + (" and changes" if changed else "")


def read(name: str) -> dict:
    path = ROWS / f"{name}.json"
    if not path.exists():
        fail(f"there is no row {name!r}; there are: {', '.join(sorted(rows()))}")
    return json.loads(path.read_text(encoding="utf-8"))


def rows() -> dict[str, dict]:
    paths = sorted(ROWS.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def target(row: dict) -> float:
    return (row["expected"] or row["published"])["value"]


def missed(row: dict) -> bool:
    return row["ours"]["value"] - 2 * row["ours"]["error"] > target(row)


def ours(row: dict) -> str:
    found = row["ours"]
    return f"{found['value']:.2f} ± {found['error']:.2f}" if found else "–"


def verdict(row: dict) -> str:
    if not row["ours"]:
        return "not run"
    gap = row["ours"]["value"] - target(row)
    if not missed(row):
        return "hit"
    whole = "" if row["expected"] or not row["shortened"] else " against the whole schedule"
    return f"**miss** by {gap:.2f}{whole}"


def page(rows: dict[str, dict]) -> str:
    """LEDGER.md."""
    lines = [
        "# The ledger",
        "",
        "<!-- Written by `python -m experiments.ledger` from ledger/*.json. -->",
        "",
        "Published numbers and ours. A hit is at most two standard errors above the published",
        "number, or above the one expected of a shorter schedule where anybody published one; a",
        "miss is a miss. Lower is better in every row. ± is the standard error over the images,",
        "not over training runs. `python -m experiments.ledger run ROW --data-dir DIR` trains and",
        "evaluates a row from scratch and exits with 1 on a miss.",
        "",
        "| row | what | schedule | published, fully trained | expected of this schedule | ours |"
        " verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        expected = f"{row['expected']['value']:.2f}" if row["expected"] else "unknown"
        if not row["shortened"]:
            expected = "the same"
        lines.append(
            f"| `{name}` | {row['what']} | {row['schedule']} | {row['published']['value']:.2f} |"
            f" {expected} | {ours(row)} | {verdict(row)} |"
        )
    for name, row in rows.items():
        lines += ["", f"## {name}", "", f"{row['paper']}", ""]
        lines += [f"- published: {row['published']['value']:.2f} {row['unit']}"]
        lines[-1] += f" ({row['published']['source']})"
        if row["expected"]:
            lines.append(
                f"- expected: {row['expected']['value']:.2f} ({row['expected']['source']})"
            )
        if row["ours"]:
            lines += details(row)
        lines += [f"- `{row['train']}`", f"- `{row['evaluate']}`"]
        if row["note"]:
            lines.append(f"- {row['note']}")
    return "\n".join(lines) + "\n"


def details(row: dict) -> list[str]:
    found = row["ours"]
    scores = ", ".join(f"{k} {v:.2f}" for k, v in found["scores"].items())
    seconds = found["seconds"]
    how = ""
    if seconds["evaluation"] is not None:  # a score of samples has them not
        how = f"evaluated in {seconds['evaluation']:,.0f} s, {found['device']}, "
        how += f"jax {found['jax']}, "
    return [
        f"- ours: {ours(row)} {row['unit']} on {found['n']:,} images of {found['split']},"
        f" seed {found['seeds']['training']} (evaluation {found['seeds']['evaluation']});"
        f" {found['steps']:,} steps in {seconds['training']:,} s, {how}"
        f"{found['date']}, commit {found['commit']}",
        f"- its scores: {scores}",
    ]


if __name__ == "__main__":
    main()
