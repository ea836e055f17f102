"""EDM: a preconditioned denoiser at log-normal noise levels, sampled by Heun's method.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022). --preset
paper: class-conditional CIFAR-10, DDPM++ of 55.7 million parameters, FID 1.79 after 200 million
images. --preset edm2: "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024),
ImageNet of 64x64, EDM2-S of 280 million. Both are for a GPU (--compute bfloat16, --remat).

    python -m experiments.edm
    python -m experiments.edm --preset paper --data.dir DIR     # then: evaluate
"""

from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp

from experiments import checks, suggestions
from experiments.edm_training import TrainingSettings
from experiments.guiding import GuidanceSettings
from experiments.sampling import PixelSamplerSettings, Sampler, Spacing, Steps, scored
from genjax import keys
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.diffusion import steps
from genjax.evaluate.likelihood_scores import ode_bits_per_dim
from genjax.evaluate.profiles import per_noise_level
from genjax.limits import Widths
from genjax.losses.adaptive_augmentation import LABELS
from genjax.losses.diffusion import denoising, uncertainty_weighted
from genjax.models.edm_settings import EDMSettings
from genjax.run import Family, Measure, Settings
from genjax.train.game import Aux


@dataclass(frozen=True)
class Config(EDMSettings, TrainingSettings, GuidanceSettings, PixelSamplerSettings):
    run: Settings = Settings(steps=1500, batch=32, every=500)
    data: DataSettings = DataSettings()
    multipliers: Widths = (1, 2, 2)
    classes: bool = False
    """Condition on the class."""
    sampler: Sampler = "heun"
    sampling_steps: Steps = 18
    spacing: Spacing = "karras"
    check = checks.edm
    suggest = suggestions.edm


_FULL = {"classes": True, "label_dropout": 0.0, "data_std": 0.5, "warm_up": 10_000_000}
_CIFAR10 = {"multipliers": (2, 2, 2), "blocks": 4, "attention": (16,), "dropout": 0.13}
PAPER = Config(
    **(_FULL | _CIFAR10 | {"channels": 128, "augment": 0.12}),
    run=Settings(steps=390_625, batch=512, every=5000),
    data=DataSettings("cifar10"),
    noise_mean=-1.2,
    learning_rate=1e-3,
    reference=None,
    half_life=(500_000,),
)
_IMAGENET = {"multipliers": (1, 2, 3, 4), "blocks": 3, "attention": (16, 8), "channels": 192}
EDM2 = Config(
    **(_FULL | _IMAGENET | {"network": "edm2", "noise_mean": -0.8, "noise_std": 1.6, "b2": 0.99}),
    run=Settings(steps=524_288, batch=2048, every=5000),
    data=DataSettings("imagenet_resized/64x64"),
    learning_rate=1e-2,
    reference=71_680_000,
    half_life=(),
    lengths=(0.05, 0.1),
)


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    network, recipe = config.denoiser(classes, LABELS if config.augment else 0), config.recipe
    how = {"schedule": recipe.schedule, "target": recipe.target}

    def init(key, before):
        return {"denoiser": network.init(key, jnp.zeros((1, *spec.shape)), jnp.zeros(1))}, {}

    def predict(params, **given):
        return recipe.predict(partial(network.apply, params, **given))

    def error(params, key, t, x, given):
        return denoising(predict(params, **given), x, key, times=t, **how) / x[0].size

    def loss(params, state, key, batch):
        key, draw, change = keys.split(key, 3)
        x, given = config.examples(batch, change, classes)
        t = keys.draw_times(recipe.times, draw, x)
        mse = error(params["denoiser"], key, t, x, given)
        if config.network != "edm2":
            return mse.mean(), Aux()
        level = jnp.log(recipe.schedule.sigma(t)) / 4
        u = network.apply(params["denoiser"], level, method="log_variance")
        return uncertainty_weighted(mse, u, 1).mean(), Aux({"mse": mse.mean()})

    def known(batch):
        return {"label": batch["label"]} if classes else {}

    def guided(state, label):
        return config.guided(predict, state, "denoiser", label, recipe.schedule)

    def validate(state, key, batch, when=recipe.times):
        params, x = state.averaged()["denoiser"], batch["image"] / 127.5 - 1
        return {"mse": error(params, key, when, x, known(batch))}

    def measure(state, key, batch):
        shift, probe = keys.split(key, 2)
        denoise = predict(state.averaged()["denoiser"], **known(batch))
        grid = steps.karras(50, schedule=recipe.schedule)[:-1]
        return {"ode": ode_bits_per_dim(denoise, batch["image"], shift, probe, grid=grid, **how)}

    expensive = Measure(measure, {"ode": "bits/dim"}, 50, scored(config.channels))
    more = {"validate": validate, "profile": per_noise_level(validate), "measure": expensive}
    more |= {"latent": spec.shape, "classes": classes, **config.drawing(guided, **how)}
    return Family({"denoiser": config.player(loss)}, init, **more)


if __name__ == "__main__":
    main("edm", __doc__, Config(), build, {"paper": PAPER, "edm2": EDM2})
