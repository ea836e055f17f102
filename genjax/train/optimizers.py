"""Optimizers as settings: optax's, with clipping, weight decay and gradient accumulation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from genjax import limits
from genjax.errors import ConfigError
from genjax.limits import Count, NonNegative, Positive, Share
from genjax.train import averages
from genjax.train.game import Player


@dataclass(frozen=True)
class Optimizer:
    """How players follow their gradients, apart from the learning rate.

    Raises:
      ConfigError: where a number is out of its limits, or has no effect.
    """

    name: Literal["adam", "adamw", "radam", "sgd", "rmsprop", "lion"] = "adam"
    """The rule, one of optax."""
    clip: Positive | None = None
    """The greatest global norm of a gradient: a longer one is scaled down to it. None: any."""
    weight_decay: NonNegative | None = None
    """Of adamw and lion, times the learning rate. None: that of optax, 1e-4 and 1e-3."""
    momentum: Share = 0.0
    """Of sgd and rmsprop."""
    microbatches: Count | Literal["auto"] = 1
    """Slices of a batch whose gradients are averaged into one update (gradient accumulation), to
    save memory; auto: as few as fit into a device's, found and recorded when a run starts. What
    couples the examples of a batch, such as BatchNorm, sees one slice."""

    def __post_init__(self) -> None:
        limits.check(self, "optimizer.")
        for given, flag, those in (
            (self.weight_decay is not None, "weight-decay", ("adamw", "lion")),
            (self.momentum != 0, "momentum", ("sgd", "rmsprop")),
        ):
            if given and self.name not in those:
                raise ConfigError(
                    f"--optimizer.{flag} has no effect with --optimizer.name {self.name}: leave it "
                    f"out, or take {' or '.join(those)}"
                )

    def transformation(
        self, rate: optax.ScalarOrSchedule, **adam: optax.ScalarOrSchedule
    ) -> optax.GradientTransformation:
        """The transformation of optax.

        Args:
          rate: the learning rate, a number or a function of the step.
          adam: further arguments of adam, adamw and radam, such as b1, numbers or functions of the
            step.

        Returns:
          The transformation; with the default settings it is optax.adam(rate, **adam).
        """
        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        momentum = self.momentum or None
        rules: dict[str, Callable[[], optax.GradientTransformation]] = {
            "adam": lambda: _moving(optax.adam, rate, adam),
            "adamw": lambda: _moving(optax.adamw, rate, {**adam, **decay}),
            "radam": lambda: _moving(optax.radam, rate, adam),
            "sgd": lambda: optax.sgd(rate, momentum),
            "rmsprop": lambda: optax.rmsprop(rate, momentum=momentum),
            "lion": lambda: optax.lion(rate, **decay),
        }
        rule = rules[self.name]()
        if self.clip is None:
            return rule
        return optax.chain(optax.clip_by_global_norm(self.clip), rule)

    def player(
        self,
        loss: Callable[..., Any],
        rate: optax.ScalarOrSchedule,
        *,
        turns: int = 1,
        ema: averages.Averages | None = None,
        project: Callable[[Any], Any] | None = None,
        **adam: optax.ScalarOrSchedule,
    ) -> Player:
        """A player that is trained so.

        Args:
          loss: as in `Player`.
          rate: the learning rate, a number or a function of the step.
          turns: as in `Player`.
          ema: as in `Player`.
          project: as in `projected`; None for no projection.
          adam: as in `transformation`.

        Returns:
          The player.

        Raises:
          ConfigError: where the number of microbatches is still to be found.
        """
        if self.microbatches == "auto":
            raise ConfigError(
                "--optimizer.microbatches auto is for the command that trains: give a number"
            )
        rule = self.transformation(rate, **adam)
        rule = rule if project is None else projected(rule, project)
        return Player(loss, rule, turns, self.microbatches, ema=ema, learning_rate=rate)


def _moving(
    rule: Callable[..., optax.GradientTransformation],
    rate: optax.ScalarOrSchedule,
    options: Mapping[str, optax.ScalarOrSchedule],
) -> optax.GradientTransformation:
    """The rule; its state holds those options that are functions of the step, and no others."""
    moving = {name for name, value in options.items() if callable(value)}
    if not moving:
        return rule(rate, **options)
    still = set(inspect.signature(rule).parameters) - moving
    return optax.inject_hyperparams(rule, static_args=still)(rate, **options)


def projected(
    rule: optax.GradientTransformation, project: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """A rule whose every update ends on parameters of a kind, such as weights of unit norm.

    Args:
      rule: the rule.
      project: parameters -> the parameters to end on instead.

    Returns:
      The rule, with the same state.
    """

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = rule.update(grads, state, params)
        ends = project(optax.apply_updates(params, updates))
        return jax.tree.map(jnp.subtract, ends, params), state

    return optax.GradientTransformation(rule.init, update)


def skipping(rule: optax.GradientTransformation, norm: float) -> optax.GradientTransformation:
    """A rule that leaves parameters and its own state as they were where a gradient is too long.

    Rare gradients of a very deep network are orders of magnitude longer than the others: scaled
    down they would still point anywhere. Those that are not finite are skipped as well.

    Args:
      rule: the rule.
      norm: the greatest global norm of a gradient to follow.

    Returns:
      The rule, with the same state.

    References:
      Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images"
      (2021), arXiv:2011.10650, section 3.2.
    """

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        follow = optax.tree.norm(grads) <= norm  # False for NaN too
        updates, after = rule.update(grads, state, params)
        updates = jax.tree.map(lambda u: jnp.where(follow, u, 0), updates)
        return updates, jax.tree.map(lambda a, b: jnp.where(follow, a, b), after, state)

    return optax.GradientTransformation(rule.init, update)
