"""How diffusion experiments guide their samples: settings that may be chosen for each command."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import jax.numpy as jnp

from experiments.sampling import Interval
from genjax.diffusion import guidance
from genjax.errors import ConfigError
from genjax.limits import NonNegative, flag
from genjax.run import SAMPLING

Average = Annotated[str | None, SAMPLING]


@dataclass(frozen=True)
class GuidanceSettings:
    """A base class for the settings of an experiment that guides its samples, before those of its
    sampler."""

    guidance: Annotated[NonNegative, SAMPLING] = 1.0
    """Scale of guidance away from no class, or from --weak: 1 none, more for images that are
    clearer and less varied."""
    guidance_interval: Interval = None
    """Noise levels, low and high, between which to guide. None: at all of them."""
    average: Average = None
    """For commands: the moving average to draw from, by its name, by a length between those kept,
    or of an earlier checkpoint, as NAME@STEP. None: the first kept."""
    weak: Average = None
    """For commands: the average, named likewise, of a worse model to guide away from
    (autoguidance), such as @STEP of an earlier checkpoint."""

    def guided(
        self, predict: Callable[..., Any], state: Any, player: str, label: Any, schedule: Any
    ) -> Callable[..., Any]:
        """The guided network.

        Args:
          predict: (parameters, label=label) -> a function (z, t) -> prediction.
          state: the trained state.
          player: whose parameters.
          label: [n], or None for no class.
          schedule: has time(log_snr).

        Returns:
          (z, t) -> prediction.
        """
        params = state.averaged()[player]
        model = predict(params, label=label)
        if self.guidance == 1 or (label is None and self.weak is None):
            return model
        interval = None
        if self.guidance_interval is not None:
            ratios = jnp.maximum(jnp.array(self.guidance_interval), 1e-6)  # 0 has no logarithm
            low, high = schedule.time(-2 * jnp.log(ratios))
            interval = (low, high)
        if self.weak is None:
            other = predict(params, label=None)
            return guidance.classifier_free(model, other, self.guidance, interval=interval)
        other = predict(state.averaged("weak")[player], label=label)
        return guidance.autoguidance(model, other, self.guidance, interval=interval)

    def check_sampling(self, chosen: set[str]) -> None:
        """As of the sampler's settings."""
        super().check_sampling(chosen - {"guidance"})  # type: ignore[misc]
        guides = self.weak is not None or getattr(self, "classes", True)
        if "guidance" in chosen and not guides:
            raise ConfigError(
                f"--guidance {self.guidance} has no effect without --classes or --weak"
            )
        if self.guidance != 1 and self.weak is None and getattr(self, "label_dropout", 1) == 0:
            raise ConfigError(
                f"--guidance {self.guidance} needs a network that was trained without classes as "
                "well (--label-dropout 0.1), or --weak"
            )
        for name in ("guidance_interval", "weak"):
            if name in chosen and (self.guidance == 1 or not guides):
                raise ConfigError(f"{flag(name)} has no effect without --guidance")

    def check_guidance(self) -> None:
        """Refuses, before training, what is for the commands that use a run."""
        for name in ("average", "weak"):
            if getattr(self, name) is not None:
                raise ConfigError(f"{flag(name)} is for commands that use a run, such as sample")
