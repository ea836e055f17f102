"""What an experiment implements: a model family as a game, and how to use what it has learned.

A family is a value made of functions. Only `game` and `init` are needed to train, `generate` to
look at samples; the rest adds what the family can do. Nothing here knows a loss or a network.

    def my_family(spec):  # of the images: shape (H, W, C), classes, count
        network = ...  # a flax.linen module
        def init(key, before): ...  # -> {player: parameters}, {player: variables}
        def loss(params, state, keys, batch): ...  # -> scalar, Aux
        def generate(state, keys, latents, labels): ...  # -> images in 0..1
        return Family({"vae": Player(loss, optax.adam(1e-3))}, init, generate, latent=(20,))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from genjax import keys, limits
from genjax.data.dataset import ImageSpec
from genjax.errors import ConfigError, GenjaxError
from genjax.evaluate.average import OrderedJit
from genjax.evaluate.profiles import Profile
from genjax.run.editable import Denoiser
from genjax.train.game import Game, compiled_initial_state
from genjax.train.layout import CompiledSteps
from genjax.train.state import TrainState, Tree


@dataclass(frozen=True)
class Measure:
    """The scores too expensive for every periodic evaluation, for the command `evaluate`.

    Attributes:
      scores: (state, keys [B], batch) -> {name: [B]}, as `Family.validate`.
      units: {name: unit} of every one of them.
      chunk: images at a time; on a CPU at most a tenth of `n`, so that the cost is known soon.
      n: images to score on a CPU where nobody says how many: what takes a few minutes on two
        cores. Elsewhere 1,000, or these if they are more.
      alarms: {name: floor}, where an image under the floor deserves a warning.
    """

    scores: Callable[[TrainState, jax.Array, Any], dict[str, jax.Array]]
    units: Mapping[str, str]
    chunk: int = 100
    n: int = 1000
    alarms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A model family. Every function is jit-compiled by its caller.

    In the functions below `batch` is {"image": uint8 [B, H, W, C]}, with "label": int32 [B] where
    the images have labels; `state` is a `TrainState`, whose `averaged()` are the parameters to
    sample with; a key is one PRNG key and `keys` one per example.

    Attributes:
      game: {player: Player}, in the order of play.
      init: (key, before) -> ({player: parameters}, {player: variables}); before is the trained
        state of the family `before`, None where there is none.
      generate: (state, keys [n], latents [n, ...], labels [n] or None) -> images [n, H, W, C] in
        0..1; the keys are for samplers that draw more than the latents. None for a family that
        makes no images, such as a classifier, which has no latents either.
      latent: shape of one image's latent, where latents are drawn from N(0, I).
      draw: (key, n) -> n latents of any kind, where they are not: codebook indices, a learned
        prior's noise, a tree of arrays [n, ...]. Latent i must depend on the key and i alone.
      trajectory: (state, keys [n], latents, labels) -> images [n, T, H, W, C] in 0..1 on the way
        from the latents to the images, which are the last.
      invert: (state, keys [n], images uint8 [n, H, W, C], labels) -> the latents that `generate`
        makes the images of. For families without `encode`: only commands use it, as it takes as
        long as sampling. They may be of another shape than drawn ones, such as intermediate latents
        that the images were projected to; lines between those are straight.
      encode: (state, images uint8 [n, H, W, C]) -> latents with generate(…) close to the images.
      reconstruct: (state, key, images uint8) -> images in 0..1, where decoding `encode`'s latents
        by `generate` is not how this family reconstructs. None: that way, where there is `encode`.
      observe: (keys [n], images uint8 [n, H, W, C]) -> images in 0..1, what `reconstruct` sees of
        them by the same keys, where that is less than all: drawn between the two.
      validate: (state, keys, batch) -> {name: [B]}, lower is better; the first ranks checkpoints.
      profile: a curve that says most about this kind of model, drawn at each periodic evaluation.
      mixture: whether samples come, unless asked otherwise, from a mixture of Gaussians fitted to
        the codes of the images it was trained on, in place of N(0, I).
      measure: the scores of the command `evaluate`.
      denoiser: of a diffusion or flow model, what editing takes. Families without one whose latents
        are drawn from N(0, I) are edited as decoders, by `generate` and `encode`.
      classify: (state, images uint8 [n, H, W, C]) -> features [n, F] and logits [n, K] of the
        images' classes; `evaluate` then scores errors, confusion and calibration.
      classes: number of classes that `generate` takes labels of, None for none. Latents that
        `encode` returns are then decoded with the labels of the images.
      few: training images below which such a family is known to overfit to them or to copy them:
        logged at the start. None where it is not known.
      before: the family to train first, which this one builds upon.
      name: of a family that is another's `before`: the folder it is trained in.
      steps: train steps of a family that is another's `before`. None: the run's.

    Raises:
      ConfigError: unless exactly one of `latent` and `draw` is given, or neither where the family
        makes no images.
    """

    game: Game
    init: Callable[[jax.Array, TrainState | None], tuple[dict[str, Tree], dict[str, Tree]]]
    generate: Callable[[TrainState, jax.Array, Any, jax.Array | None], jax.Array] | None
    latent: tuple[int, ...] | None = field(default=None, kw_only=True)
    draw: Callable[[jax.Array, int], Any] | None = field(default=None, kw_only=True)
    trajectory: Callable[[TrainState, jax.Array, Any, jax.Array | None], jax.Array] | None = field(
        default=None, kw_only=True
    )
    invert: Callable[[TrainState, jax.Array, jax.Array, jax.Array | None], Any] | None = field(
        default=None, kw_only=True
    )
    encode: Callable[[TrainState, jax.Array], Any] | None = field(default=None, kw_only=True)
    reconstruct: Callable[[TrainState, jax.Array, jax.Array], jax.Array] | None = field(
        default=None, kw_only=True
    )
    observe: Callable[[jax.Array, jax.Array], jax.Array] | None = field(default=None, kw_only=True)
    validate: Callable[[TrainState, jax.Array, Any], dict[str, jax.Array]] | None = field(
        default=None, kw_only=True
    )
    profile: Profile | None = field(default=None, kw_only=True)
    mixture: bool = field(default=False, kw_only=True)
    measure: Measure | None = field(default=None, kw_only=True)
    denoiser: Denoiser | None = field(default=None, kw_only=True)
    classify: Callable[[TrainState, jax.Array], tuple[jax.Array, jax.Array]] | None = field(
        default=None, kw_only=True
    )
    classes: int | None = field(default=None, kw_only=True)
    few: int | None = field(default=None, kw_only=True)
    before: Family | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)
    steps: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        given = (self.latent is not None) + (self.draw is not None)
        if given != (self.generate is not None):
            raise ConfigError(
                "a family has a latent shape or a function that draws latents"
                if self.generate
                else "a family without `generate` has no latents: leave out latent and draw"
            )

    @cached_property
    def first_state(self) -> Callable[[jax.Array, TrainState | None], TrainState]:
        """(key, trained state of `before`) -> the state before the first step; jitted."""
        return compiled_initial_state(self.game, self.init)

    @cached_property
    def compiled_validate(self) -> OrderedJit | None:
        """`validate`, jitted; compiled once for all runs of this family."""
        return OrderedJit(self.validate) if self.validate else None

    @cached_property
    def compiled_profile(self) -> Any:
        """The values of `profile`, jitted; None where there is none."""
        return jax.jit(self.profile.values) if self.profile else None

    @cached_property
    def compiled_steps(self) -> dict[Any, CompiledSteps]:
        """The train steps of the last run of this family, for the next, by what they depend on."""
        return {}

    def latents(self, key: jax.Array, n: int, first: int = 0) -> Any:
        """Latents to generate from, latent i a function of the key and i alone.

        Args:
          key: one PRNG key.
          n: how many.
          first: i of the first of them.

        Returns:
          What `draw` returns, else N(0, I) [n, *latent].

        Raises:
          ConfigError: where the family makes no images.
        """
        if self.generate is None:
            raise ConfigError("this family makes no images: there is nothing to sample from")
        if self.draw is not None:
            return jax.tree.map(lambda x: x[first:], self.draw(key, first + n))
        assert self.latent is not None
        each = keys.per_example(key, n, first)
        return keys.normal(each, (n, *self.latent))


Build = Callable[[Any, ImageSpec], Family]


def stages(family: Family, directory: Path) -> Iterator[tuple[Family, Path]]:
    """The families that are trained in turn.

    Args:
      family: the last of them.
      directory: its place.

    Yields:
      Each family and its place, in the order of training.
    """
    if family.before:
        yield from stages(family.before, directory / family.before.name)
    yield family, directory


def untrained_state(family: Family, key: jax.Array) -> TrainState:
    """The state before the first step, on an untrained `before`.

    Args:
      family: the family.
      key: one PRNG key.

    Returns:
      The state.
    """
    before = untrained_state(family.before, key) if family.before else None
    return family.first_state(key, before)


def state_shapes(family: Family) -> TrainState:
    """Shapes and types of the state; what is traced for them serves `first_state` as well.

    Args:
      family: the family.

    Returns:
      A state of `jax.ShapeDtypeStruct`.
    """
    before = state_shapes(family.before) if family.before else None
    return jax.eval_shape(family.first_state, jax.random.key(0), before)


def build_family(
    build: Build, config: Any, spec: ImageSpec, where: str
) -> tuple[Family, TrainState]:
    """The family that settings describe.

    Args:
      build: (config, spec) -> the family.
      config: the settings of an experiment.
      spec: of the images.
      where: what the settings are called in the message, "… describe".

    Returns:
      The family, and the shapes of its state.

    Raises:
      ConfigError: where a setting is out of its limits, or they describe no network together.
    """
    limits.check(config)
    try:
        family = build(config, spec)
        return family, state_shapes(family)
    except GenjaxError:  # has said what is wrong
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(f"{where} no network: {first}") from error
