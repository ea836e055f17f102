"""EDM: a preconditioned denoiser at log-normal noise levels, sampled by Heun's method.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022).
--preset paper: their class-conditional CIFAR-10 of 55.7 million parameters (DDPM++; NCSN++ by
--network ncsnpp), for a GPU; they report an FID of 1.79 after 200 million images.

    python -m experiments.edm
    python -m experiments.edm --preset paper --data.dir DIR     # then: evaluate
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import jax.numpy as jnp

from experiments import checks
from experiments.guiding import GuidanceSettings
from experiments.sampling import PixelSamplerSettings, Sampler, Steps, Threshold, scored
from genjax import keys, recipes
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.diffusion import guidance, predictions, steps
from genjax.evaluate.likelihood_scores import ode_bits_per_dim
from genjax.evaluate.profiles import per_noise_level
from genjax.limits import Count, Natural, Positive, Share
from genjax.losses import times
from genjax.losses.diffusion import denoising
from genjax.models.edm_settings import EDMSettings
from genjax.run import SAMPLING, Family, Measure, Settings
from genjax.train import averages, rates
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config(EDMSettings, GuidanceSettings, PixelSamplerSettings):
    run: Settings = Settings(steps=1500, batch=32, every=500)
    data: DataSettings = DataSettings()
    classes: bool = False
    """Condition on the class."""
    label_dropout: Share = 0.1
    """Share of the images trained on without their class, for --guidance."""
    data_std: Positive = 0.7
    """Standard deviation of the data in −1..1, by which network and loss are scaled."""
    noise_mean: float = -1.2
    """Mean of the logarithm of the noise levels trained on."""
    noise_std: Positive = 1.2
    """Standard deviation of that logarithm."""
    sampler: Sampler = "heun"
    sampling_steps: Steps = 18
    spacing: Annotated[Literal["linear", "quadratic", "karras", "log_snr"], SAMPLING] = "karras"
    threshold: Threshold = "off"
    learning_rate: Positive = 2e-3
    warm_up: Natural = 3200
    """Images over which the learning rate rises from 0."""
    half_life: Count = 3000
    """Images in which the moving average that samples come from forgets half, at most."""
    optimizer: Optimizer = Optimizer()
    check = checks.edm

    def check_sampling(self, chosen):
        super().check_sampling(chosen)
        self.check_guidance(chosen)


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    network, batch = config.denoiser(classes), config.run.batch
    levels = times.LogNormal(recipes.edm.schedule, config.noise_mean, config.noise_std)
    target = predictions.Preconditioned(config.data_std)
    recipe = replace(recipes.edm, target=target, times=levels)
    how = {"schedule": recipe.schedule, "target": target}

    def init(key, before):
        return {"denoiser": network.init(key, jnp.zeros((1, *spec.shape)), jnp.zeros(1))}, {}

    def predict(params, label=None, keys=None):
        return recipe.predict(partial(network.apply, params, label=label, keys=keys))

    def error(params, key, batch, train, when=levels):
        key, dropout, drop = keys.split(key, 3)
        x, label = batch["image"] / 127.5 - 1, batch["label"] if classes else None
        if classes and train:
            label = guidance.drop_labels(
                label, drop, classes=classes, probability=config.label_dropout
            )
        denoise = predict(params, label, dropout if train else None)
        return denoising(denoise, x, key, times=when, **how) / x[0].size

    def loss(params, state, key, batch):
        return error(params["denoiser"], key, batch, True).mean(), Aux()

    def guided(state, label):
        return config.guided(partial(predict, state.ema["denoiser"]), label, recipe.schedule)

    def validate(state, key, batch, *when):
        return {"mse": error(state.ema["denoiser"], key, batch, False, *when)}

    def measure(state, key, batch):
        shift, probe = keys.split(key, 2)
        denoise = predict(state.ema["denoiser"], batch["label"] if classes else None)
        grid = steps.karras(50, schedule=recipe.schedule)[:-1]
        return {"ode": ode_bits_per_dim(denoise, batch["image"], shift, probe, grid=grid, **how)}

    rate = rates.warm_up(config.learning_rate, rates.steps_of_images(config.warm_up, batch))
    ema = averages.half_life(config.half_life, batch=batch)
    expensive = Measure(measure, {"ode": "bits/dim"}, 50, scored(config.channels))
    more = {"validate": validate, "profile": per_noise_level(validate), "measure": expensive}
    game = {"denoiser": config.optimizer.player(loss, rate, ema=ema)}
    drawing = config.drawing(guided, **how)
    return Family(game, init, latent=spec.shape, classes=classes, **more, **drawing)


if __name__ == "__main__":
    main("edm", __doc__, Config(), build)
