"""Denoising diffusion with a U-Net on Fashion-MNIST: 1,000 noise levels, noise prediction.

Ho et al., "Denoising Diffusion Probabilistic Models" (2020), equation 14; --classes: Ho & Salimans
(2022). `sample --sampler unipc` and the like: sampling.py. The paper's own run: ddpm_cifar10.py.

    python -m experiments.ddpm_fashion

193 s on two CPU cores. Expect an error of 0.042 per pixel in the noise of held-out images, and
shoes, shirts and trousers of clear outline; more images and steps clear their insides.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

import jax.numpy as jnp

from experiments import checks, suggestions
from experiments.sampling import PixelSamplerSettings, Threshold, scored
from genjax import keys
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.diffusion import guidance, predictions
from genjax.diffusion.discrete_schedules import DiscreteLinear
from genjax.evaluate.likelihood_scores import DIFFUSION_UNITS, diffusion_scores
from genjax.evaluate.profiles import per_noise_level
from genjax.limits import Count, Natural, Positive, Share
from genjax.losses import augmentation, times
from genjax.losses.diffusion import denoising
from genjax.models.unet_settings import UNetSettings
from genjax.run import SAMPLING, Family, Measure, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer
from genjax.train.rates import warm_up_and_fall

# As a velocity the output F adds to the noise that z itself shows, ε̂ = σ z + α F. An error of F
# then moves x̂ by as much; were F itself ε̂, it would be x̂'s error over α, 150 times at t = 1.
OUTPUTS = {"velocity": predictions.velocity, "noise": predictions.noise}


@dataclass(frozen=True)
class Config(UNetSettings, PixelSamplerSettings):
    run: Settings = Settings(steps=1800, batch=32, every=600)
    data: DataSettings = DataSettings()
    output: Literal["velocity", "noise"] = "velocity"
    """What the network's output stands for; the loss is that of the noise either way."""
    flip: bool = False
    """Mirror half of the images."""
    levels: Count = 1000
    """Noise levels of the chain, more than 20."""
    scaled_betas: bool = field(default=True, metadata={"absent": lambda of: of["levels"] == 1000})
    """Scale the betas by 1,000 / levels, so that the chain ends in noise."""
    classes: bool = False
    """Condition on the class."""
    guidance: Annotated[float, SAMPLING] = 2.0
    """Scale of classifier-free guidance, where there are classes."""
    threshold: Threshold = "static"
    learning_rate: Positive = 2e-3
    warm_up: Natural = 100
    """Steps over which the learning rate rises from 0."""
    decay: Natural | Literal["steps"] | None = "steps"
    """Step by which it has fallen to a twentieth: steps: the run's last. None: it stays."""
    ema: Share = 0.999
    """Decay of the moving average that samples come from."""
    optimizer: Optimizer = Optimizer(clip=1.0)
    check = checks.diffusion
    suggest = suggestions.diffusion


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    network, output = config.unet(classes), OUTPUTS[config.output]
    schedule = (DiscreteLinear.scaled if config.scaled_betas else DiscreteLinear)(config.levels)
    noise, chain = {"schedule": schedule, "target": predictions.noise}, times.Steps(config.levels)

    def init(key, before):
        return {"unet": network.init(key, jnp.zeros((1, *spec.shape)), jnp.zeros(1))}, {}

    def predict_noise(params, z, t, label=None, keys=None):
        value = network.apply(params, z, t, label, keys=keys)
        return output.to_noise(value, z, schedule.alpha(t), schedule.sigma(t))

    def error(params, key, batch, train, when=chain):
        key, dropout, drop = keys.split(key, 3)
        x, label = batch["image"] / 127.5 - 1, batch["label"] if classes else None
        if config.flip and train:
            x = augmentation.horizontal_flip(x, keys.fold_in(key, 1))
        if classes and train:
            label = guidance.drop_labels(label, drop, classes=classes)
        predict = partial(predict_noise, params, label=label, keys=dropout if train else None)
        return denoising(predict, x, key, times=when, **noise) / x[0].size

    def loss(params, state, key, batch):
        return error(params["unet"], key, batch, True).mean(), Aux()

    def guided(state, label):
        predict = partial(predict_noise, state.ema["unet"], label=label)
        if not classes:
            return predict
        unconditional = partial(predict_noise, state.ema["unet"])
        return guidance.classifier_free(predict, unconditional, scale=config.guidance)

    def validate(state, key, batch, *when):
        return {"mse": error(state.ema["unet"], key, batch, False, *when)}

    def measure(state, key, batch):
        label, how = batch["label"] if classes else None, {"schedule": schedule, "target": output}
        predict = partial(network.apply, state.ema["unet"], label=label)
        return diffusion_scores(predict, batch["image"], key, levels=config.levels, **how)

    rate = warm_up_and_fall(config.learning_rate, config.warm_up, config.decay, config.run.steps)
    expensive = Measure(measure, DIFFUSION_UNITS, 50, scored(config.channels))
    how = {"validate": validate, "measure": expensive, "profile": per_noise_level(validate)}
    game = {"unet": config.optimizer.player(loss, rate, ema=config.ema)}
    drawing = config.drawing(guided, **noise)
    return Family(game, init, latent=spec.shape, classes=classes, **how, **drawing)


if __name__ == "__main__":
    main("ddpm_fashion", __doc__, Config(), build)
