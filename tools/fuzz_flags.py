"""Every flag of every experiment and command at hostile values, through all that a start checks.

    python -m tools.fuzz_flags                     # all of it: minutes
    python -m tools.fuzz_flags vae_fashion ...     # some experiments

Flags and experiments are found, not listed. Each case is either accepted or refused in one line;
anything else is a fault, and so is a case that takes longer than `PATIENCE` seconds. Everything
runs in one process, on shapes alone: no step, no compiled network. Exit code 1: there are faults.
"""

import argparse
import contextlib
import importlib
import itertools
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from genjax.cli.options import COMMANDS
from genjax.cli.parsing import flags, parse
from genjax.data import Dataset, DataSettings, ImageSpec
from genjax.errors import GenjaxError, one_line
from genjax.run.checks import check_family
from genjax.run.family import build_family
from genjax.run.training import join_processes

VALUES = (
    *("0", "-1", "1", "7", "0.5", "1.0", "nan", "inf", "-inf", "-0.0", "1e-45", "1e30", "1e400"),
    *("2147483647", "2147483648", "4294967296", "18446744073709551616", "9" * 5000),
    *(
        "",
        " ",
        "None",
        "True",
        "ü\u202e✓",
        "\udcff",
        "../..",
        "~no-such-user/x",
        "/dev/null",
        "a\0b",
    ),
    *("x" * 5000, "0 0", "1 -1", "1e3", "0x10", "--", "[1]"),
)
PATIENCE = 60
SIDE = 8  # of the images: small enough to trace in a moment
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
# Networks of the least size, where the experiment has such a setting.
SMALL: Mapping[str, Any] = {
    "channels": 8,
    "multipliers": (1,),
    "attention": (),
    "blocks": 1,
    "groups": 4,
    "widths": (8, 8),
    "width": 16,
    "hidden": 16,
    "head_features": 8,
    "pooling": (2,),
    "encoder_blocks": (1, 1),
    "decoder_blocks": (1, 1),
}
IDLE = {("latent_diffusion", "width")}  # without effect in the experiment's default


@dataclass
class Counts:
    """What became of the cases.

    Attributes:
      accepted: how many were.
      refused: how many were, in one line.
      faults: the others, a line each.
    """

    accepted: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """All of them."""
        return self.accepted + self.refused + len(self.faults)

    def __str__(self) -> str:
        return (
            f"tried {self.tried:,}, accepted {self.accepted:,}, refused {self.refused:,}, "
            f"faults {len(self.faults):,}"
        )


def experiments() -> list[str]:
    """The names of all experiments."""
    return [path.stem for path in sorted(EXPERIMENTS.glob("*.py")) if _is_experiment(path)]


def _is_experiment(path: Path) -> bool:
    return "__doc__, Config()" in path.read_text()


class Start:
    """An experiment as far as its first step: parser, checks of settings, traces.

    Args:
      name: of the experiment.
      sets: where data sets are prepared.
    """

    def __init__(self, name: str, sets: Path):
        self.module = importlib.import_module(f"experiments.{name}")
        config = self.module.Config()
        names = {f.name for f in fields(config) if (name, f.name) not in IDLE}
        small = {name: value for name, value in SMALL.items() if name in names}
        self.config = replace(config, data=DataSettings(dir=str(sets)), **small)
        channels = 3 if "cifar10" in config.data.name or "shapes" in config.data.name else 1
        self.spec = ImageSpec((SIDE, SIDE, channels), 10, 1000)
        self._traced: dict[Any, GenjaxError | None] = {}

    def __call__(self, words: list[str]) -> None:
        """Starts it.

        Args:
          words: of the command line.
        """
        config = parse(type(self.config), words, prog="x", default=self.config)
        join_processes(replace(config.run, distributed=False))
        if config.data != self.config.data:
            Dataset(replace(config.data, download=False)).spec  # noqa: B018, opens it
        run = replace(
            self.config.run,
            steps=config.run.steps,
            batch=config.run.batch,
            samples=config.run.samples,
        )
        key = replace(config, run=run, data=self.config.data)
        if key not in self._traced:
            try:
                self._trace(key)
                self._traced[key] = None
            except GenjaxError as error:
                self._traced[key] = error
        if error := self._traced[key]:
            raise error

    def _trace(self, config: Any) -> None:
        if hasattr(config, "check"):
            config.check(self.spec)
        family, _ = build_family(self.module.build, config, self.spec, "these settings describe")
        image = jax.ShapeDtypeStruct((1, *self.spec.shape), np.uint8)
        label = jax.ShapeDtypeStruct((1,), np.int32)
        check_family(family, config.run, {"image": image, "label": label}, held_out=100)


def cases(kind: type, values: Iterable[str], sections: bool = True) -> Iterator[list[str]]:
    """Each flag with each value.

    Args:
      kind: a dataclass of settings.
      values: to give.
      sections: whether to try the flags of `run` and `data`, too, which all experiments share.

    Yields:
      The words of a command line.
    """
    some = [each for each in flags(kind) if sections or "." not in each[0]]
    for (name, takes_value), value in itertools.product(some, values):
        yield [f"--{name}={value}"] if value else [f"--{name}", value]
        if not takes_value:
            yield [f"--{name}"]
        elif " " in value.strip():
            yield [f"--{name}", *value.split()]


def fuzz(
    names: Iterable[str], sets: Path, values: Iterable[str] = VALUES, sections: bool = True
) -> Counts:
    """Tries all cases.

    Args:
      names: of experiments and commands.
      sets: where data sets are prepared.
      values: to give to each flag.
      sections: whether to try the flags that all experiments share.

    Returns:
      What became of them.
    """
    counts, values, sets = Counts(), tuple(values), sets.absolute()
    # Data sets are prepared where a flag says: two folders deep, as one value leads two up.
    with tempfile.TemporaryDirectory() as place:
        (folder := Path(place, "some", "where")).mkdir(parents=True)
        with contextlib.chdir(folder):
            for name in names:
                start = _command(name) if name in COMMANDS else Start(name, sets)
                kind = COMMANDS[name] if name in COMMANDS else type(start.config)
                for words in cases(kind, values, sections):
                    _try(start, name, words, counts)
    return counts


def _command(name: str) -> Any:
    return lambda words: parse(COMMANDS[name], words, prog="x")


def _try(start: Any, name: str, words: list[str], counts: Counts) -> None:
    def impatient(*_: object) -> NoReturn:
        raise TimeoutError(f"longer than {PATIENCE} s")

    handler = signal.signal(signal.SIGALRM, impatient)
    signal.alarm(PATIENCE)
    shown = f"{name} {' '.join(words)[:80]!r}"
    try:
        start(words)
    except GenjaxError as error:
        line = one_line(error)
        if 0 < len(line) <= 1000:
            counts.refused += 1
        else:
            counts.faults.append(f"{shown}: a message of {len(line)} characters")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        counts.faults.append(f"{shown}: {type(error).__name__}: {str(error)[:200]}")
    else:
        counts.accepted += 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


def main() -> None:
    """Prints the counts and faults of each experiment and command, and those of all."""
    total, known = Counts(), [*COMMANDS, *experiments()]
    parser = argparse.ArgumentParser("python -m tools.fuzz_flags", description=__doc__)
    listed = f"one or more of {', '.join(known)}; all by default"
    parser.add_argument("names", nargs="*", metavar="NAME", help=listed)
    names = parser.parse_args().names
    if unknown := set(names) - set(known):
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
    with tempfile.TemporaryDirectory() as sets:
        for name in names or known:
            counts = fuzz([name], Path(sets))
            print(f"{name}: {counts}")
            for line in counts.faults:
                print(f"  {line}".encode("ascii", "backslashreplace").decode(), flush=True)
            total.accepted += counts.accepted
            total.refused += counts.refused
            total.faults += counts.faults
    print(total)
    sys.exit(int(bool(total.faults)))


if __name__ == "__main__":
    main()
