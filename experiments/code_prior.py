"""The prior of experiments with codes: a causal transformer, and how it is trained and drawn."""

from dataclasses import dataclass
from typing import Annotated, Literal

import jax.numpy as jnp

from genjax.errors import ConfigError
from genjax.limits import Count, Depth, Natural, NonNegative, Positive, Share, Width
from genjax.models.causal_transformer import CausalTransformer
from genjax.run import SAMPLING
from genjax.train.optimizers import Optimizer
from genjax.train.rates import warm_up_and_fall


@dataclass(frozen=True)
class CodePriorSettings:
    """A base class for the settings of an experiment with such a prior."""

    width: Width = 96
    """Features of a token."""
    depth: Depth = 4
    """Number of blocks."""
    heads: Count = 4
    """Attention heads per block."""
    dropout: Share = 0.1
    """Probability of dropping an activation of the prior."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """The dtype of the networks' computation; their parameters are float32 either way."""
    remat: bool = False
    """Recompute the prior's activations for the gradient: less memory on a GPU, a third more
    work."""
    flip: bool = False
    """Mirror half of the images."""
    classes: bool = False
    """Condition the prior on the class."""
    learning_rate: Positive = 2e-3
    warm_up: Natural = 100
    """Steps over which the learning rates rise from 0."""
    decay: Natural | Literal["steps"] | None = "steps"
    """Step by which the prior's rate has fallen to a twentieth: steps: the run's last. None: it
    stays. With steps the autoencoder's falls likewise."""
    ema: Share = 0.998
    """Decay of the moving average of the prior that samples come from."""
    b2: Share = 0.95
    """Decay of the prior's Adam's average of squared gradients."""
    optimizer: Optimizer = Optimizer(clip=1.0)
    temperature: Annotated[NonNegative, SAMPLING] = 1.0
    """What the prior's logits are divided by: less than 1 for likelier codes, 0 for the likeliest
    alone."""
    top_k: Annotated[Count | None, SAMPLING] = None
    """How many codes, the likeliest, may be drawn at each position. None: all."""

    @property
    def rate(self):
        """The prior's learning rate by step."""
        return warm_up_and_fall(self.learning_rate, self.warm_up, self.decay, self.run.steps)

    def prior(self, codes: int, grid: tuple[int, int, int], classes: int | None):
        """The network. codes: of a codebook. grid: rows, columns, codebooks."""
        return CausalTransformer(
            codes, *grid, width=self.width, depth=self.depth, heads=self.heads,
            dropout=self.dropout, classes=classes, remat=self.remat, dtype=jnp.dtype(self.compute),
        )  # fmt: skip

    def check_prior(self, codes: int):
        """Refuses settings that do not fit each other."""
        if self.width % (4 * self.heads):
            raise ConfigError(
                f"--width {self.width} over --heads {self.heads} must be a multiple of 4, as "
                "rotary positions turn pairs of features in two directions"
            )
        if self.top_k is not None and self.top_k > codes:
            raise ConfigError(f"--top-k {self.top_k}: a codebook has {codes} codes")
        if self.top_k is not None and self.temperature == 0:
            raise ConfigError("--top-k has no effect with --temperature 0")
