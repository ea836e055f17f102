"""How experiments train a transformer: settings that they have in common."""

from dataclasses import dataclass
from typing import Literal

from genjax.limits import Natural, Positive, Share
from genjax.models.transformer_settings import TransformerSettings
from genjax.train.optimizers import Optimizer
from genjax.train.rates import warm_up_and_fall


@dataclass(frozen=True)
class TransformerTraining(TransformerSettings):
    """A base class for the settings of an experiment with a transformer."""

    flip: bool = False
    """Mirror half of the images."""
    classes: bool = False
    """Condition on the class."""
    learning_rate: Positive = 2e-3
    warm_up: Natural = 100
    """Steps over which the learning rate rises from 0."""
    decay: Natural | Literal["steps"] | None = "steps"
    """Step by which it has fallen to a twentieth: steps: the run's last. None: it stays."""
    ema: Share = 0.998
    """Decay of the moving average that samples come from."""
    b2: Share = 0.95
    """Decay of Adam's average of squared gradients."""
    optimizer: Optimizer = Optimizer(clip=1.0)

    @property
    def rate(self):
        """The learning rate by step."""
        return warm_up_and_fall(self.learning_rate, self.warm_up, self.decay, self.run.steps)
