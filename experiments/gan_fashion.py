"""The first GAN: a dense generator 100-256-784 against a dense critic, minimax loss.

Goodfellow et al., "Generative Adversarial Nets" (2014), equation 1.

    python -m experiments.gan_fashion

25 s on two CPU cores. Expect recognisable clothes with the salt-and-pepper of dense generators, and
a critic that stays ahead.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.evaluate.sliced_wasserstein import sliced_wasserstein
from genjax.keys import normal
from genjax.limits import Count, Positive
from genjax.losses import gan
from genjax.models.gan import Discriminator, Generator
from genjax.run import Family, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=10000, batch=128, every=1000)
    data: DataSettings = DataSettings()
    latent: Count = 100
    """Numbers in a noise vector."""
    hidden: Count = 256
    """Width of the hidden layers."""
    turns: Count = 1
    """Updates of the critic per step, each on its own slice of the batch."""
    learning_rate: Positive = 2e-4
    optimizer: Optimizer = Optimizer()


def build(config: Config, spec: ImageSpec) -> Family:
    generator = Generator(spec.shape, (config.hidden,))
    critic = Discriminator((config.hidden,))

    def init(key, before):
        keys = jax.random.split(key)
        z, x = jnp.zeros((1, config.latent)), jnp.zeros((1, *spec.shape))
        return {"critic": critic.init(keys[0], x), "generator": generator.init(keys[1], z)}, {}

    def logits(params, keys, batch):
        z = normal(keys, (len(keys), config.latent))
        real = critic.apply(params["critic"], batch["image"] / 127.5 - 1)
        return real, critic.apply(params["critic"], generator.apply(params["generator"], z))

    def critic_loss(params, state, keys, batch):
        real, fake = logits(params, keys, batch)
        metrics = {"real": jax.nn.sigmoid(real).mean(), "fake": jax.nn.sigmoid(fake).mean()}
        return gan.minimax.discriminator(real, fake).mean(), Aux(metrics)

    def generator_loss(params, state, keys, batch):
        return gan.minimax.generator(*logits(params, keys, batch)).mean(), Aux()

    def generate(state, keys, z, label):
        return (generator.apply(state.params["generator"], z) + 1) / 2

    def validate(state, keys, batch):
        images = generate(state, keys, normal(keys, (len(keys), config.latent)), None)
        distance = sliced_wasserstein(images, batch["image"] / 255, keys[0])
        return {"sliced_wasserstein": jnp.full(len(images), distance)}  # one for the global batch

    player = partial(config.optimizer.player, rate=config.learning_rate, b1=0.5)
    game = {"critic": player(critic_loss, turns=config.turns), "generator": player(generator_loss)}
    return Family(game, init, generate, latent=(config.latent,), validate=validate)


if __name__ == "__main__":
    main("gan_fashion", __doc__, Config(), build)
