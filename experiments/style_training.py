"""How StyleGAN2 trains: style mixing, and penalties at every so many steps alone."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from experiments.adversarial import Augment, Augmentation, probabilities
from genjax import keys as prng
from genjax import over_batch
from genjax.limits import Count, Depth, NonNegative, Positive, Share, Width, Widths
from genjax.losses import gan, penalties
from genjax.models.stylegan import Critic, Generator
from genjax.train import averages
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer

W_DECAY = 0.998  # of the mean latent, per step, as in the released code


@dataclass(frozen=True)
class StyleSettings:
    """A base class for the settings of an experiment that trains as StyleGAN2 does."""

    latent: Width = 64
    """Numbers in a noise vector."""
    features: Width = 64
    """Numbers in the latent that styles a layer."""
    mapping_layers: Depth = 2
    """Dense layers from noise to those latents."""
    widths: Widths = (64, 32, 16)
    """Channels of the generator, the lowest resolution first; the critic has them in reverse."""
    learning_rate: Positive = 2e-3
    gamma: NonNegative = 0.1
    """Weight of R1, the squared slope of the critic at real images; the loss takes half of it."""
    critic_every: Count = 16
    """Steps between two in which R1 counts, as much as in all of them."""
    path_length: NonNegative = 0.0
    """Weight of the path-length penalty: 2 in the paper, for faces; 0, none, in the official
    configuration for images of 32 pixels. It is a second derivative through the generator."""
    generator_every: Count = 8
    """Steps between two in which that counts, as much as in all of them."""
    mixing: Share = 0.9
    """Share of the images whose layers are styled by two latents, the second from a random layer
    on."""
    half_life: Positive = 10_000
    """Images in which the generator's moving average forgets half; at first a twentieth of those
    seen."""
    augment: Augment = "none"
    """What the critic sees: mirrored real images, or all of them by DiffAugment or ADA."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """The dtype of the networks' computation; their parameters are float32 either way."""
    optimizer: Optimizer = Optimizer()

    def networks(self, shape, classes):
        """Generator and critic."""
        kinds = {"classes": classes, "dtype": jnp.dtype(self.compute)}
        generator = Generator(shape, self.widths, self.features, self.mapping_layers, **kinds)
        return generator, Critic(self.widths[::-1], **kinds)

    def player(self, loss, every, **more):
        """A player with a penalty at every so many steps, or none.

        The rate and the logarithms of Adam's decays, 0 and 0.99, are scaled by every / (every + 1),
        so that it steps as far as without the penalty (arXiv:1912.04958, appendix B).
        """
        share = every / (every + 1) if every else 1.0
        rate = self.learning_rate * share
        return self.optimizer.player(loss, rate, b1=0.0, b2=0.99**share, **more)

    def moving_average(self):
        """The decay of the generator's moving average."""
        return averages.half_life(self.half_life, batch=self.run.batch)


def crossed(first, second, cut):
    """Layers below `cut` [B] by w of one latent [B, n], the others by another's [B, layers, n]."""
    layer = jnp.arange(second.shape[1])[None, :, None]
    return jnp.where(layer < cut[:, None, None], first[:, None], second)


def mixed(first, second, keys, share):
    """Style mixing: w [B, n] of two latents to those of each layer.

    Args:
      first: w, [B, n].
      second: w, [B, layers, n]: the same latent for each layer.
      keys: one per example, [B].
      share: of the images that are mixed.

    Returns:
      [B, layers, n]: `second` from a random layer above the first on, in that share of the images.
    """
    layers = second.shape[1]
    whether, where = prng.uniform(keys, (len(first), 2)).T
    cut = jnp.where(whether < share, 1 + jnp.floor(where * (layers - 1)), layers)
    return crossed(first, second, cut)


def lazily(penalty, step, every, otherwise):
    """`penalty()` at every so many steps, `otherwise` in those between, which costs nothing."""
    return jax.lax.cond(step % every == 0, penalty, lambda: otherwise)


class StyleGame:
    """The players' losses. variables["generator"] has the mean of w, and the mean path length."""

    def __init__(self, config, shape, classes):
        self.config, self.classes = config, classes
        self.generator, self.critic = config.networks(shape, classes)
        self.augment, self.shape = Augmentation(config.augment), shape

    def init(self, key, before):
        keys = prng.split(key, 2)
        z, x = jnp.zeros((1, self.config.latent)), jnp.zeros((1, *self.shape))
        params = {
            "critic": self.critic.init(keys[0], x),
            "generator": self.generator.init(keys[1], z),
        }
        kept = {"w": jnp.zeros(self.config.features), "length": jnp.zeros(())}
        return params, {"generator": kept, **self.augment.variables()}

    def label(self, batch):
        return batch["label"] if self.classes else None

    def mapping(self, params, z, label):
        return self.generator.apply(params, z, label, method="mapping")

    def mapped(self, params, keys, label):
        return self.mapping(params, prng.normal(keys, (len(keys), self.config.latent)), label)

    def each_layer(self, w):
        """w [n, features] of all layers to that of each."""
        return jnp.broadcast_to(w[:, None], (len(w), self.generator.layers, w.shape[-1]))

    def latents(self, params, keys, label):
        """w of each layer, of one latent or of two, and w of the first."""
        *noise, cut = prng.split(keys, 3)
        first = self.mapped(params, noise[0], label)
        if not self.config.mixing:
            return self.each_layer(first), first
        second = self.each_layer(self.mapped(params, noise[1], label))
        return mixed(first, second, cut, self.config.mixing), first

    def draw(self, params, w, keys):
        return self.generator.apply(params, w, keys, method="synthesis")

    def critic_loss(self, params, state, keys, batch):
        noise, paint, *change = prng.split(keys, 4)
        label, own = self.label(batch), params["generator"]
        judge = partial(self.critic.apply, params["critic"], label=label)
        shown = self.augment(batch["image"] / 127.5 - 1, change[0], state, real=True)
        fake = self.draw(own, self.latents(own, noise, label)[0], paint)
        real, fake = judge(shown), judge(self.augment(fake, change[1], state))
        every, zero = self.config.critic_every, jnp.zeros(())
        value = gan.non_saturating.discriminator(real, fake).mean()
        if self.config.gamma:
            penalty = lazily(lambda: penalties.r1(judge, shown).mean(), state.step, every, zero)
            value += self.config.gamma / 2 * every * penalty
        metrics, adapted = self.augment.adapt(state, real)
        return value, Aux(metrics | probabilities(real, fake), adapted)

    def generator_loss(self, params, state, keys, batch):
        noise, paint, change, probe = prng.split(keys, 4)
        label, own, kept = self.label(batch), params["generator"], state.variables["generator"]
        w, first = self.latents(own, noise, label)
        seen = self.augment(self.draw(own, w, paint), change, state)
        fake = self.critic.apply(params["critic"], seen, label)
        mean = jax.lax.stop_gradient(over_batch.mean(first.mean(0)))
        moved = {**kept, "w": W_DECAY * kept["w"] + (1 - W_DECAY) * mean}
        value, weight = gan.non_saturating.generator(None, fake).mean(), self.config.path_length
        if not weight:
            return value, Aux({}, {"generator": moved})
        scale = self.generator.layers**0.5  # the norm is the mean over layers, as in released code

        def lengths():
            found = penalties.path_length(
                lambda w: self.draw(own, w / scale, paint), w * scale, probe, kept["length"]
            )
            return found.penalty.mean(), found.mean

        every = self.config.generator_every
        otherwise = (jnp.zeros(()), kept["length"])
        penalty, moved["length"] = lazily(lengths, state.step, every, otherwise)
        metrics = {"length": moved["length"]}
        return value + weight * every * penalty, Aux(metrics, {"generator": moved})
