"""Settings that images suggest: what is measured of the images, and a line per setting.

An experiment says which: its `Config` may have a method `suggest(default, facts)`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from genjax.data.dataset import Dataset, ImageSpec
from genjax.errors import ConfigError
from genjax.run import model_card

MOST_IMAGES, MOST_NUMBERS = 2000, 20_000_000  # that are looked at: seconds, 80 MB as float32


@dataclass(frozen=True)
class Suggestion:
    """A value for a setting.

    Attributes:
      setting: its name in the `Config`, with that of its section: "run.steps".
      value: of its type.
      why: in words.
      paper: where it comes from; "" for none.
    """

    setting: str
    value: Any
    why: str
    paper: str = ""


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of the images to train on.

    Attributes:
      spec: their shape, number and classes.
      sample: some of them, evenly spaced, uint8 [n, H, W, C].
      smallest: images of the smallest class; None where they are not counted, or have no labels.
    """

    spec: ImageSpec
    sample: np.ndarray
    smallest: int | None = None

    @property
    def side(self) -> float:
        """The side of a square of as many pixels."""
        return math.sqrt(self.spec.shape[0] * self.spec.shape[1])

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of all numbers in −1..1."""
        return float(self.sample.std(dtype=np.float64)) / 127.5

    @cached_property
    def mean(self) -> float:
        """Mean of all numbers in −1..1."""
        return float(self.sample.mean(dtype=np.float64)) / 127.5 - 1

    @cached_property
    def extremes(self) -> float:
        """Share of the numbers that are nearly black or white, within 26 levels of 256."""
        return float(((self.sample < 26) | (self.sample > 229)).mean())

    @cached_property
    def binary(self) -> bool:
        """Whether every number is 0 or 255."""
        return bool(np.isin(self.sample, (0, 255)).all())

    @cached_property
    def grey(self) -> bool:
        """Whether there are three channels and all are the same."""
        return self.sample.shape[-1] == 3 and bool((self.sample == self.sample[..., :1]).all())

    @cached_property
    def asymmetry(self) -> float:
        r"""How far left and right differ in the same way in all images.

        $$
        \frac{\lVert \mathrm{E}\, d \rVert^2}{\mathrm{E}\, \lVert d \rVert^2}, \qquad
        d = x - \mathrm{mirrored}(x)
        $$

        without the bias of a finite sample: 0 where mirrored images are as likely as the images,
        1 where all images have the same d.
        """
        x = self.sample.astype(np.float32)
        d = (x - x[:, :, ::-1]).reshape(len(x), -1)
        n, squares = len(d), float(np.square(d).sum(1).mean())
        if n < 2 or not squares:
            return 0.0
        share = float(np.square(d.mean(0)).sum()) / squares
        return max(0.0, (n * share - 1) / (n - 1))

    def components(self, share: float) -> int:
        """Principal components that hold a share of the variance.

        Args:
          share: in 0..1.

        Returns:
          How many; of few images too few, as each sample of n has at most n − 1.
        """
        variances = self._variances
        return int(np.searchsorted(np.cumsum(variances), share * variances.sum())) + 1

    @cached_property
    def _variances(self) -> np.ndarray:
        x = self.sample.reshape(len(self.sample), -1).astype(np.float32)
        x -= x.mean(0)
        products = x @ x.T if len(x) < x.shape[1] else x.T @ x
        return np.maximum(np.linalg.eigvalsh(products.astype(np.float64))[::-1], 0)

    def __str__(self) -> str:
        seen, n = len(self.sample), self.spec.count
        of = f"all {n:,}" if seen == n else f"{seen:,} of {n:,} images"
        return (
            f"in −1..1 ({of}): mean {self.mean:.2f}, deviation {self.deviation:.2f}; "
            f"{self.extremes:.0%} nearly black or white; left-right asymmetry {self.asymmetry:.3f}"
        )


class Suggested(NamedTuple):
    """What was decided.

    Attributes:
      config: the settings with all suggestions.
      default: the settings of no flags, or of a preset.
      lines: for the terminal, one per setting.
    """

    config: Any
    default: Any
    lines: list[str]

    def command(self, program: str) -> str:
        """The command line that trains with the settings.

        Args:
          program: what starts the experiment with those of no flags.

        Returns:
          It, with the flags that differ.
        """
        return f"{program} {model_card.train_flags(self.config, self.default)}".rstrip()


def lines(config: Any, default: Any, program: str, words: Sequence[str]) -> list[str]:
    """What the images suggest, for the terminal.

    Args:
      config: the settings of an experiment, by its flags.
      default: those of no flags, or of a preset.
      program: what starts the experiment with those.
      words: of the command line.

    Returns:
      What is known of the images, a line per setting, and the command line with them.

    Raises:
      ConfigError: as `suggested` does.
    """
    facts = measured(Dataset(config.data))
    found = suggested(config, default, facts, words)
    return [f"{facts}", *found.lines, "", found.command(program)]


def measured(images: Dataset) -> Facts:
    """Looks at the images, and logs what was understood of them as a run does.

    Args:
      images: the data set; at most 2,000 images of its split "train" are read.

    Returns:
      What is known of them.
    """
    from genjax.run.training import log_images  # experiments import this file, for their --help

    train, summary = images.train, log_images(images)
    most = min(MOST_IMAGES, max(2, MOST_NUMBERS // math.prod(train.shape[1:])))
    rows = np.unique(np.linspace(0, len(train) - 1, min(most, len(train))).astype(np.int64))
    counts = [each for each, _ in summary["classes"].values()]
    smallest = None if not counts or None in counts else min(counts)
    return Facts(images.spec, train.source[rows]["image"], smallest)


def suggested(config: Any, default: Any, facts: Facts, words: Sequence[str] = ()) -> Suggested:
    """Settings with what the images suggest; what was given by flags stays.

    Args:
      config: the settings of an experiment, by its flags.
      default: those of no flags, or of a preset.
      facts: what is known of the images.
      words: of the command line, whose flags stay where they give the default's value, too.

    Returns:
      The settings and the lines.

    Raises:
      ConfigError: where the experiment suggests nothing, or its check refuses the settings.
    """
    if not hasattr(config, "suggest"):
        raise ConfigError("--suggest: this experiment has no suggestions")
    rows: list[tuple[str, str]] = []
    named = {word.partition("=")[0].replace("_", "-") for word in words}
    result = config
    for each in config.suggest(default, facts):
        given, usual = _value(config, each.setting), _value(default, each.setting)
        why = f"{each.why} [{each.paper}]" if each.paper else each.why
        if given == usual and not named & {_flag(each.setting, value) for value in (True, False)}:
            result = _replaced(result, each.setting, each.value)
            rows.append((_flag(each.setting, each.value), f"{_default(each, usual)}{why}"))
        else:
            instead = "" if each.value == given else f" in place of {_shown(each.value)}"
            rows.append((_flag(each.setting, given), f"as given{instead}: {why}"))
    if hasattr(result, "check"):
        result.check(facts.spec)
    width = max((len(flag) for flag, _ in rows), default=0)
    return Suggested(result, default, [f"  {flag:<{width}}  {why}" for flag, why in rows])


def _default(suggestion: Suggestion, usual: Any) -> str:
    if suggestion.value == usual:
        return "as by default: "
    if isinstance(usual, bool):
        return ""
    return f"in place of {_shown(usual)}: "


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"


def _flag(setting: str, value: Any) -> str:
    return " ".join(model_card.flag_words(setting.replace("_", "-"), value))


def _value(config: Any, setting: str) -> Any:
    for name in setting.split("."):
        config = getattr(config, name)
    return config


def _replaced(config: Any, setting: str, value: Any) -> Any:
    section, _, rest = setting.partition(".")
    inner = _replaced(getattr(config, section), rest, value) if rest else value
    return dataclasses.replace(config, **{section: inner})


def rounded(value: float, digits: int = 2) -> float:
    """A number for a flag.

    Args:
      value: any.
      digits: significant ones.

    Returns:
      The nearest number of as many digits.
    """
    return float(f"{value:.{digits}g}")


def nearest_divisor(sides: Sequence[int], most: int, tokens: int) -> int:
    """The side of the squares that cut an image into about as many as asked.

    Args:
      sides: height and width of the image.
      most: the greatest side of a square.
      tokens: how many squares.

    Returns:
      A common divisor of the sides, at least 1.
    """
    height, width = sides
    fits = [p for p in range(1, min(most, height, width) + 1) if not (height % p or width % p)]
    return min(fits, key=lambda p: abs(math.log(height * width / p**2 / tokens)))
