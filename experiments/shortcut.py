"""Shortcut models: a transformer that knows the size of its steps, and draws images in one.

Frans et al., "One Step Diffusion via Shortcut Models" (2024): flow matching, and one image in
--every learns a step of size d from two of size d/2 of the moving average. With --classes the
least steps that it learns from are guided.

    python -m experiments.shortcut
    python -m experiments.shortcut sample --sampling-steps 4 --trajectory   # 32, 8, 2 and 4 steps

--preset paper: the paper's DiT-B at CIFAR-10's size; for a GPU.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax.numpy as jnp

from experiments import checks, mean_velocity
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.diffusion import guidance
from genjax.limits import Count, Share
from genjax.losses.shortcut import shortcut
from genjax.models import transformer_settings as sizes
from genjax.run import Family, Settings
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config(mean_velocity.MeanVelocitySettings):
    max_steps: Count = 128
    """The most steps of a sample, a power of 2: the least size of a step is its inverse."""
    every: Count = 4
    """One image of the batch in so many learns the steps, the others the velocity."""
    output: Literal["velocity", "data"] = "velocity"
    """What the network's output stands for; the loss is that of the mean velocity either way."""
    ema: Share = 0.99
    """Decay of the moving average that samples come from, and that teaches the steps."""
    check = checks.shortcut


def build(config: Config, spec: ImageSpec) -> Family:
    def loss(mean, x, key, params, state, label, classes):
        average = state.ema[mean_velocity.NAME]
        some = None if label is None else label[:: config.every]

        def teacher(z, t, d):
            given = mean(average, some, keys=None)
            if not classes or config.guidance == 1:
                return given(z, t, d)
            free = mean(average, None, keys=None)
            least = guidance.classifier_free(
                lambda z, t: given(z, t, d), lambda z, t: free(z, t, d), config.guidance
            )
            first = (d == 0) & (some != classes)
            return jnp.where(first[:, None, None, None], least(z, t), given(z, t, d))

        two_in_one = partial(shortcut, steps=config.max_steps, every=config.every)
        return two_in_one(mean(params, label), teacher, x, key) / x[0].size

    return mean_velocity.family(config, spec, loss)


PAPER = Config(
    **sizes.BASE, patch=2, block="dit", classes=True, guidance=1.5, every=8, flip=True,
    learning_rate=1e-4, warm_up=0, decay=None, ema=0.999, b2=0.999,
    optimizer=Optimizer("adamw", weight_decay=0.1), data=DataSettings("cifar10"),
    run=Settings(steps=800_000, batch=256, every=5000),
)  # fmt: skip

if __name__ == "__main__":
    main("shortcut", __doc__, Config(), build, {"paper": PAPER})
