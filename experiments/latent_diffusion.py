"""Latent diffusion: a spatial autoencoder, the scale of its latents, then a prior over them.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (2022). --prior edm:
EDM's preconditioned U-Net; --prior dit: flow matching with a transformer (Peebles & Xie, 2023). The
autoencoder's own run is in the folder scale/autoencoder of the run.

    python -m experiments.latent_diffusion
    python -m experiments.latent_diffusion reconstruct    # what the autoencoder keeps of images

Not run at its default length yet: by half of it colours and places, no outlines
(docs/notes/latent.md).

--preset paper: the paper's autoencoder of factor 8 with LPIPS and a critic, and DiT-B/2, for
ImageNet of 256 pixels; --preset photos: factor 4 and EDM's U-Net, for photos of 64. Both are for a
GPU.
"""

from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp

from experiments import checks, kl_autoencoder, matching, suggestions
from experiments.kl_autoencoder import AutoencoderSettings
from experiments.latent_prior import PriorSettings
from experiments.sampling import Sampler, SamplerSettings, Spacing, Steps
from genjax import keys
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.evaluate.profiles import per_noise_level
from genjax.losses.diffusion import denoising
from genjax.models import transformer_settings as sizes
from genjax.run import Family, Measure, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer

PRIOR = "prior"  # the player of the last stage


@dataclass(frozen=True)
class Config(PriorSettings, SamplerSettings):
    run: Settings = Settings(steps=900, batch=32, every=300)
    data: DataSettings = DataSettings("shapes64")
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    sampler: Sampler = "heun"
    sampling_steps: Steps = 18
    spacing: Spacing = "karras"
    check = checks.latent_diffusion
    suggest = suggestions.latent_diffusion


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    codec = kl_autoencoder.Codec(config.autoencoder.model(spec.shape, config.compute))
    first = kl_autoencoder.FirstStage(config, codec.model).family()
    before = kl_autoencoder.measured(config, codec.model, first, spec.count)
    network, recipe = config.denoiser_and_recipe(classes)
    how = {"schedule": recipe.schedule, "target": recipe.target}

    def init(key, before):
        params = network.init(key, jnp.zeros((1, *codec.model.latent)), jnp.zeros(1))
        return {**before.params, PRIOR: params}, before.variables

    def predict(params, **given):
        return recipe.predict(partial(network.apply, params, **given))

    def error(params, state, key, batch, train, when):
        key, draw, drop, change = keys.split(key, 4)
        x, label = matching.inputs(config, batch, change, classes, train)
        z = codec.drawn(state, draw, x)
        denoise = predict(params, label=label, keys=drop if train else None)
        return denoising(denoise, z, key, times=when, **how) / z[0].size

    def loss(params, state, key, batch):
        return error(params[PRIOR], state, key, batch, True, recipe.times).mean(), Aux()

    def validate(state, key, batch, when=recipe.times):
        return {"mse": error(state.averaged()[PRIOR], state, key, batch, False, when)}

    def measure(state, key, batch):
        return {"psnr": codec.psnr(state, key, batch["image"]), **validate(state, key, batch)}

    def guided(state, label):
        return config.guided(predict, state, PRIOR, label, recipe.schedule)

    game = {PRIOR: config.optimizer.player(loss, config.rate, ema=config.ema, b2=config.b2)}
    units = {"psnr": "dB of reconstructions", "mse": "of the prior"}
    more = {"validate": validate, "profile": per_noise_level(validate), "classes": classes}
    more |= {"measure": Measure(measure, units), "reconstruct": codec.reconstruct}
    drawing = config.drawing(guided, decode=codec.decode, encode=codec.encode, **how)
    return Family(game, init, latent=codec.model.latent, before=before, **more, **drawing)


_CRITIC = {"error": "l1", "perceptual": "vgg16", "critic": True, "critic_channels": 64}
_ADAM = {"optimizer": Optimizer("adamw", weight_decay=0.0), "ema": 0.9999, "b2": 0.999}
_LONG = {"classes": True, "warm_up": 0, "decay": None, "learning_rate": 1e-4, **_ADAM}
PAPER = Config(
    **sizes.BASE, **_LONG, prior="dit", patch=2, block="dit", time_scale=1.0, guidance=4.0,
    sampling_steps=50, data=DataSettings("imagenet2012", size=256),
    run=Settings(steps=400_000, batch=256, every=5000),
    autoencoder=AutoencoderSettings(
        steps=250_000, channels=128, multipliers=(1, 2, 4, 4), blocks=2, learning_rate=5e-5,
        critic_start=50_001, measured=50_000, **_CRITIC,
    ),
)  # fmt: skip
PHOTOS = Config(
    **_LONG, channels=128, multipliers=(1, 2, 2), blocks=3, dropout=0.1, flip=True, guidance=2.0,
    data=DataSettings("imagenet_resized/64x64"),
    run=Settings(steps=100_000, batch=256, every=5000),
    autoencoder=AutoencoderSettings(
        steps=50_000, channels=64, multipliers=(1, 2, 4), blocks=2, learning_rate=2e-4,
        critic_start=10_000, measured=50_000, **_CRITIC,
    ),
)  # fmt: skip

if __name__ == "__main__":
    presets = {"paper": PAPER, "photos": PHOTOS}
    main("latent_diffusion", __doc__, Config(), build, presets)
