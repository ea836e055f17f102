"""What an experiment hands to the commands: a game and how to use what it has learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax

from genjax.cli.config import ConfigError
from genjax.train.game import Game, compiled_initial_state
from genjax.train.state import TrainState, Tree


@dataclass(frozen=True)
class Spec:
    """What a network must know of its images: shape (H, W, C), classes (0: no labels), count."""

    shape: tuple[int, int, int]
    classes: int
    count: int


@dataclass(frozen=True)
class Measure:
    """The scores too expensive for every visit, for the command `evaluate`.

    scores(state, keys [B], batch): {name: [B]}, as `System.validate`.
    units: {name: unit} of every one of them.
    chunk: images at a time.
    alarms: {name: floor}, where an image under the floor deserves a warning.
    """

    scores: Callable[[TrainState, jax.Array, Any], dict[str, jax.Array]]
    units: Mapping[str, str]
    chunk: int = 100
    alarms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """A model family at work. Every function is jit-compiled by its caller.

    game: the players. init(key, before): ({player: params}, {player: variables}), with the trained
        state of `before` if there is one.
    latent: the shape of one image's latent, drawn from N(0, I).
    generate(state, key, z [n, *latent], label [n] or None): images [n, H, W, C] in 0..1; key is for
        samplers that draw more than z.
    validate(state, keys [B], batch): {name: [B]}, lower is better; the first ranks checkpoints.
    encode(state, images uint8): z with generate(state, key, z, None) close to the images, or None
        where the family has no encoder.
    measure: the scores of the command `evaluate`, or None.
    convolutional: whether the losses convolve, which decides how many steps go in one dispatch.
    classes: how many classes `generate` takes a label of, None for none.
    name, steps: of a first stage; before: the first stage whose result this one builds upon.
    """

    game: Game
    init: Callable[[jax.Array, TrainState | None], tuple[dict[str, Tree], dict[str, Tree]]]
    latent: tuple[int, ...]
    generate: Callable[[TrainState, jax.Array, jax.Array, jax.Array | None], jax.Array]
    validate: Callable[[TrainState, jax.Array, Any], dict[str, jax.Array]]
    encode: Callable[[TrainState, jax.Array], jax.Array] | None = None
    measure: Measure | None = None
    convolutional: bool = False
    classes: int | None = None
    name: str = ""
    steps: int | None = None
    before: System | None = None

    @cached_property
    def first_state(self) -> Callable[[jax.Array, TrainState | None], TrainState]:
        """(key, trained state of the stage before) -> the state before the first step; jitted."""
        return compiled_initial_state(self.game, self.init)


Build = Callable[[Any, Spec], System]


def fresh(system: System, key: jax.Array) -> TrainState:
    """The state before the first step, on untrained stages."""
    return system.first_state(key, fresh(system.before, key) if system.before else None)


def _shapes(system: System) -> TrainState:
    """Of the state before the first step; what is traced for them serves `first_state` as well."""
    before = _shapes(system.before) if system.before else None
    return jax.eval_shape(system.first_state, jax.random.key(0), before)


def built(build: Build, config: Any, spec: Spec, where: str) -> tuple[System, TrainState]:
    """The system, and its state's shapes; ConfigError where settings of the right types make none.

    where: what the settings are called in that message.
    """
    try:
        system = build(config, spec)
        return system, _shapes(system)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(f"{where} no network: {first}") from error
