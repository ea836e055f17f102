"""A very deep VAE: blocks of latents on ever finer grids, each with a learned prior.

Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images" (2021):
blocks whose prior and posterior see the latents above, a residual encoder that pools, a mixture of
logistics per pixel, no step of too long a gradient. --classes makes it p(x | y).
`sample --temperature 0.8` draws nearer to the priors' means, 0 these alone.

    python -m experiments.vdvae    # 3.4 bits per dimension; half of the samples are clothes

--preset paper: CIFAR-10's network of 39 million parameters (--data.dir DIR). Its images are in
−1..1, which the paper's code scales to unit variance, and its average moves on at skipped steps.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import jax.numpy as jnp

from experiments import checks, suggestions
from genjax import keys
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.evaluate.likelihood_scores import hierarchy_scores, vae_units
from genjax.evaluate.profiles import kl_per_block
from genjax.limits import Count, Natural, NonNegative, Positive, Share
from genjax.losses.likelihoods import discretized_logistic_mixture_nll as mixture_nll
from genjax.losses.likelihoods import gaussian_learned_variance_nll as log_normal
from genjax.losses.vae import gaussian_kl
from genjax.losses.vlb import bits_per_dim
from genjax.models.top_down_settings import TopDownSettings
from genjax.run import SAMPLING, Family, Measure, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer, skipping
from genjax.train.rates import warm_up_and_fall

STAYED = {"absent": lambda values: None}  # the rate of earlier runs


@dataclass(frozen=True)
class Config(TopDownSettings):
    run: Settings = Settings(steps=2400, batch=16, every=400)
    data: DataSettings = DataSettings()
    temperature: Annotated[NonNegative, SAMPLING] = 1.0  # Factor of the priors' deviations.
    classes: bool = False  # Condition on the class.
    learning_rate: Positive = 2e-3
    warm_up: Count = 100  # Steps over which the learning rate rises from 0.
    decay: Natural | Literal["steps"] | None = field(default="steps", metadata=STAYED)
    """Step by which the rate has fallen to a twentieth: steps: the run's last. None: it stays."""
    b2: Share = 0.9
    skip: Positive = 400.0
    """Norm of a gradient, of nats per dimension, above which its step is skipped."""
    ema: Share = 0.995  # Decay of the average that samples and scores come from.
    optimizer: Optimizer = Optimizer(clip=200.0)
    check = checks.vdvae
    suggest = suggestions.vdvae


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    model, t = config.top_down(spec.shape, classes), config.temperature
    size = model.network.size

    def parts(params, noise, batch):  # -> −log p(x|z) [B], latents of each block
        x, label = batch["image"] / 127.5 - 1, batch["label"] if classes else None
        found, layers = model.pixels(params, noise, x, label)
        return mixture_nll(found, x, low=-1.0), layers

    def bound(params, key, batch):  # -> −log p(x|z) [B], KL of each block [B, blocks]
        nll, layers = parts(params, keys.normal(key, (len(key), size)), batch)
        return nll, jnp.stack([gaussian_kl(*each.posterior, each.prior) for each in layers], 1)

    def loss(params, state, key, batch):
        nll, kl = (nats.sum() / len(key) for nats in bound(params["vae"], key, batch))
        return (nll + kl) / math.prod(spec.shape), Aux({"nll": nll, "kl": kl})

    def validate(state, key, batch):
        nll, kl = bound(state.ema["vae"], key, batch)
        scores = {"negative_elbo": nll + kl.sum(1), "nll": nll, "kl": kl.sum(1)}
        return {name: bits_per_dim(v, batch["image"].shape) for name, v in scores.items()}

    def measure(state, key, batch):
        def one(noise, image):  # a draw of log q(z|x)/p(z) in place of the KL
            nll, layers = parts(state.ema["vae"], noise, {**batch, "image": image})
            return nll, sum(log_normal(p, z) - log_normal(q, z) for z, p, q in layers)

        how = {"size": size, "samples": SAMPLES, "bits_per_dim": True}
        return hierarchy_scores(one, batch["image"], *keys.split(key, 2), **how)

    def codes(state, image, label=None):
        return model.codes(state.ema["vae"], image / 127.5 - 1, label) / t

    rate = warm_up_and_fall(config.learning_rate, config.warm_up, config.decay, config.run.steps)
    player = config.optimizer.player(loss, rate, ema=config.ema, b2=config.b2)
    invert = (lambda state, key, image, label: codes(state, image, label)) if classes else None
    return Family(
        {"vae": replace(player, optimizer=skipping(player.optimizer, config.skip))},
        lambda key, before: ({"vae": model.init(key)}, {}),
        lambda state, key, z, label: model.image(state.ema["vae"], t * z, label),
        latent=(size,),
        trajectory=lambda state, key, z, y: model.coarse_to_fine(state.ema["vae"], t * z, y),
        encode=codes if t and not classes else None,
        invert=invert if t else None,
        classes=classes,
        validate=validate,
        profile=kl_per_block(lambda state, key, batch: bound(state.ema["vae"], key, batch)[1]),
        measure=Measure(measure, vae_units(SAMPLES, "bits/dim"), chunk=10, n=100, alarms=ALARMS),
    )


SAMPLES, ALARMS = 100, {"effective_samples": 5}
PAPER = Config(
    run=Settings(steps=1_100_000, batch=32, every=10_000), data=DataSettings("cifar10"),
    channels=384, bottleneck=96, latent=16, pooling=(2, 2, 2, 4), mixture=10,
    encoder_blocks=(11, 6, 6, 3, 3), decoder_blocks=(22, 11, 6, 3, 1), learning_rate=2e-4,
    decay=None, ema=0.9999, optimizer=Optimizer("adamw", clip=200.0, weight_decay=0.01),
)  # fmt: skip

if __name__ == "__main__":
    main("vdvae", __doc__, Config(), build, {"paper": PAPER})
