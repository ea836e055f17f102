"""A network trained for one task: more pixels, a hidden box, colours, sharpness or less noise.

Pairs of an image and what is observed of it are made on the fly. A diffusion model takes the
observation as further channels of its input (Saharia et al., "Palette", 2022); --model vae: a
conditional VAE (Sohn et al., 2015). `reconstruct` restores observations of held-out images.

    python -m experiments.restore_fashion --task super2

A share of the training images is not shown, so that it also draws images from nothing: `sample`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax.numpy as jnp

from experiments import checks, suggestions
from experiments.restoration import MODELS, NOISE, TASKS, averaged, observed
from experiments.sampling import PixelSamplerSettings, Sampler, Steps, Threshold
from genjax import keys
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.limits import Natural, NonNegative, Positive, Share, Width
from genjax.models.unet_settings import UNetSettings
from genjax.run import Family, Measure, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer
from genjax.train.rates import warm_up_and_fall

UNITS = {"psnr": "dB", "psnr_observed": "dB"}  # the second: of what the network was shown


@dataclass(frozen=True)
class Config(UNetSettings, PixelSamplerSettings):
    run: Settings = Settings(steps=1800, batch=32, every=600)
    data: DataSettings = DataSettings()
    task: Literal[*TASKS] = "super2"
    """What is restored: resolution (x 2, x 4), a hidden box, colours, sharpness, or what lies below
    noise."""
    noise: NonNegative | None = None
    """Standard deviation of the observation's noise, where black is -1 and white 1. None: 0.5 for
    denoise, 0.02 for deblur, else 0."""
    drop: Share = 0.1
    """Share of the training images of which nothing is shown."""
    model: Literal[*MODELS] = "diffusion"
    """A conditional diffusion model or a conditional VAE."""
    latent: Width = 32
    """Numbers in a code of the VAE."""
    sampler: Sampler = "heun"
    sampling_steps: Steps = 16
    threshold: Threshold = "static"
    learning_rate: Positive = 2e-3
    """At its height; it falls to a twentieth."""
    warm_up: Natural = 100
    """Steps over which the learning rate rises from 0."""
    ema: Share = 0.995
    """Decay of the moving average that restores."""
    optimizer: Optimizer = Optimizer(clip=1.0)
    check = checks.restore
    suggest = suggestions.restore


def build(config: Config, spec: ImageSpec) -> Family:
    model = MODELS[config.model](config, spec)
    noise = NOISE.get(config.task, 0.0) if config.noise is None else config.noise
    show = partial(observed, config.task, noise, spec.shape)

    def init(key, before):
        return {"restorer": model.init(key)}, {}

    def loss(params, state, each, batch):
        observing, dropping, each = keys.split(each, 3)
        x = batch["image"] / 127.5 - 1
        shown = show(observing, x)
        kept = keys.uniform(dropping, (len(x), 1, 1, 1)) >= config.drop
        scores = model.scores(params["restorer"], each, x, shown * kept, True)
        first, *others = {name: score.mean() for name, score in scores.items()}.items()
        return first[1], Aux(dict(others))

    def validate(state, each, batch):
        observing, each = keys.split(each, 2)
        x = batch["image"] / 127.5 - 1
        return model.scores(averaged(state), each, x, show(observing, x), False)

    def observe(each, images):
        shown = show(keys.split(each, 3)[0], images / 127.5 - 1)
        return (shown[..., :-1] + 1) / 2

    def reconstruct(state, each, images):
        observing, drawing, each = keys.split(each, 3)
        shown = show(observing, images / 127.5 - 1)
        z = keys.normal(drawing, (len(images), *model.latent))
        return model.generate(state, each, z, shown)

    def measure(state, each, batch):
        image = batch["image"]
        found = [reconstruct(state, each, image), observe(each, image)]
        errors = [((one - image / 255) ** 2).mean((1, 2, 3)) for one in found]
        # Below the error of rounding to bytes there is nothing to tell apart.
        psnr = [-10 * jnp.log10(jnp.maximum(error, 255.0**-2 / 12)) for error in errors]
        return dict(zip(UNITS, psnr, strict=True))

    rate = warm_up_and_fall(config.learning_rate, config.warm_up, "steps", config.run.steps)
    game = {"restorer": config.optimizer.player(loss, rate, ema=config.ema)}
    how = {"validate": validate, "measure": Measure(measure, UNITS)} | model.more
    how |= {"observe": observe, "reconstruct": reconstruct, "latent": model.latent}
    return Family(game, init, model.generate, **how)


if __name__ == "__main__":
    main("restore_fashion", __doc__, Config(), build)
