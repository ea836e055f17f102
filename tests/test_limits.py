"""Limits of settings: each value by itself, and images against the halvings of a network."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from genjax import limits
from genjax.errors import ConfigError
from genjax.limits import Count, Counts, Limits, Natural, NonNegative, Positive, Seed, Share


@dataclass(frozen=True)
class Inner:
    every: Count | None = None
    decay: Natural | Literal["steps"] | None = "steps"


@dataclass(frozen=True)
class Settings:
    run: Inner = field(default_factory=Inner)
    widths: Counts = (1,)
    attention: tuple[Count, ...] = ()
    seed: Seed = 0
    learning_rate: Positive = 1.0
    beta: NonNegative = 0.0
    dropout: Share = 0.0
    some: int = 0
    scale: float = -2.0
    dir: str | None = None
    pair: Annotated[int, Limits(2, 9)] = 2
    yes: bool = False


def test_values_within_the_limits_pass():
    limits.check(Settings())
    limits.check(
        Settings(Inner(1, 0), (3, 2), (), 2**32 - 1, 1e-30, 0.0, 0.999, -5, 1e38, "~/x", 9)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run": Inner(0)}, "--run.every must be at least 1, not 0"),
        ({"run": Inner(decay=-1)}, "--run.decay must be at least 0, not -1"),
        ({"widths": ()}, "--widths needs at least 1 value, not 0"),
        ({"widths": (3, 0)}, "--widths must be at least 1, not 0"),
        ({"attention": (-7,)}, "--attention must be at least 1, not -7"),
        ({"seed": 2**32}, "--seed must be at most 4,294,967,295, not 4,294,967,296"),
        ({"learning_rate": 0.0}, "--learning-rate must be above 0, not 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be a finite number, not nan"),
        ({"beta": -1e-9}, "--beta must be at least 0, not -1e-09"),
        ({"dropout": 1.0}, "--dropout must be below 1, not 1.0"),
        ({"some": 2**63}, "--some must be at most"),
        ({"scale": float("inf")}, "--scale must be a finite number, not inf"),
        ({"scale": 1e39}, "--scale must be at most"),  # infinite in float32
        ({"dir": " "}, "--dir is empty"),
        ({"dir": "a\0b"}, "--dir has characters that are no text"),
        ({"dir": "\udcff"}, "--dir has characters that are no text"),
        ({"pair": 1}, "--pair must be at least 2, not 1"),
        ({"pair": 10}, "--pair must be at most 9, not 10"),
    ],
)
def test_a_value_outside_is_refused_by_its_flag(settings, message):
    with pytest.raises(ConfigError) as error:
        limits.check(Settings(**settings))
    assert str(error.value).startswith(message)


def test_images_must_be_divisible_as_often_as_they_are_halved():
    limits.check_sides((28, 32, 1), 2, "--widths")
    with pytest.raises(ConfigError, match=r"--widths .* multiples of 8, not 28x28.*--data.size 24"):
        limits.check_sides((28, 28, 1), 3, "--widths")
