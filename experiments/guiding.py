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


@dataclass(frozen=True)
class GuidanceSettings:
    """A base class for the settings of an experiment that guides its samples."""

    guidance: Annotated[NonNegative, SAMPLING] = 1.0
    """Scale of guidance away from the network without a class: 1 none, more for images that are
    clearer and less varied."""
    guidance_interval: Interval = None
    """Noise levels, low and high, between which to guide. None: at all of them."""

    def guided(self, predict: Callable[..., Any], label: Any, schedule: Any) -> Callable[..., Any]:
        """The guided network.

        Args:
          predict: label -> a function (z, t) -> prediction; None for no class.
          label: [n], or None.
          schedule: has time(log_snr).

        Returns:
          (z, t) -> prediction.
        """
        strong = predict(label)
        if label is None or self.guidance == 1:
            return strong
        interval = None
        if self.guidance_interval is not None:
            # log-SNR of σ/α; the time of σ = 0 is that of clean data.
            ratios = jnp.maximum(jnp.array(self.guidance_interval), 1e-6)
            low, high = schedule.time(-2 * jnp.log(ratios))
            interval = (low, high)
        return guidance.classifier_free(strong, predict(None), self.guidance, interval=interval)

    def check_sampling(self, chosen: set[str]) -> None:
        """As of `SamplerSettings`, which comes after this class."""
        super().check_sampling(chosen)  # type: ignore[misc]
        for name in ("guidance", "guidance_interval"):
            if name in chosen and not getattr(self, "classes", True):
                value = getattr(self, name)
                raise ConfigError(f"{flag(name)} {value} has no effect without --classes")
        if "guidance_interval" in chosen and self.guidance == 1:
            raise ConfigError("--guidance-interval has no effect without --guidance")
