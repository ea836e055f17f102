"""MeanFlow: a transformer that learns mean velocities, and draws images in one step.

Geng et al., "Mean Flows for One-step Generative Modeling" (2025): the mean velocity u(z, r, t)
satisfies u = v − (t − r) du/dt, whose right side is the target; --guidance is learned with it. The
network returns an image x in place of u = (z − x)/t, as in pixel mean flows (Lu et al., 2026),
unless --output velocity.

    python -m experiments.meanflow
    python -m experiments.meanflow sample --sampling-steps 2 --trajectory     # 32, 8, 1 and 2 steps

--preset paper: the settings of the paper's CIFAR-10 run, with a transformer of size B in place of
its U-Net; for a GPU.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from experiments import checks, mean_velocity
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.limits import NonNegative, Positive, Share
from genjax.losses import meanflow
from genjax.models import transformer_settings as sizes
from genjax.run import Family, Settings
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config(mean_velocity.MeanVelocitySettings):
    times_mean: float = 0.0
    """Mean of the logits of the two times."""
    times_std: Positive = 1.0
    """Their standard deviation."""
    distinct: Share = 0.5
    """Share of the images whose two times differ; the others learn the velocity."""
    power: NonNegative = 0.75
    """Of the adaptive weight, 1 / (squared error + constant) to that power; 0: none."""
    constant: Positive = 1e-2
    check = checks.mean_velocity


def build(config: Config, spec: ImageSpec) -> Family:
    pairs = meanflow.logit_normal_pairs(config.times_mean, config.times_std, config.distinct)

    def loss(mean, x, key, params, state, label, classes):
        u = mean(params, label)

        def guided(z, t, v):
            scale = jnp.where(label == classes, 1, config.guidance)[:, None, None, None]
            return scale * v + (1 - scale) * mean(params, None)(z, t, jnp.zeros_like(t))

        return meanflow.meanflow(
            lambda z, r, t: u(z, t, t - r),
            x,
            key,
            times=pairs,
            guide=guided if classes and config.guidance != 1 else None,
            power=config.power,
            constant=config.constant,
        )

    return mean_velocity.family(config, spec, loss)


PAPER = Config(
    **sizes.BASE, patch=2, output="velocity", dropout=0.2, flip=True,
    times_mean=-2.0, times_std=2.0, distinct=0.75, learning_rate=6e-4,
    warm_up=10_000, decay=None, ema=0.9999, b2=0.999, optimizer=Optimizer(),
    data=DataSettings("cifar10"), run=Settings(steps=800_000, batch=1024, every=5000),
)  # fmt: skip

if __name__ == "__main__":
    main("meanflow", __doc__, Config(), build, {"paper": PAPER})
