"""The first GAN: a dense generator 100-256-784 against a dense critic, minimax loss.

Goodfellow et al., "Generative Adversarial Nets" (2014), equation 1. --classes: Mirza & Osindero's
conditional generator (2014) against Miyato & Koyama's projection critic (2018).

    python -m experiments.gan_fashion

25 s on two CPU cores. Expect recognisable clothes with the salt-and-pepper of dense generators, and
a critic that stays ahead.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from experiments import adversarial_checks, suggestions
from experiments.adversarial import Augment, Augmentation, probabilities, sampling_family
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.keys import fold_in, normal
from genjax.limits import Count, Positive, Width
from genjax.losses import gan
from genjax.models.gan import Discriminator, Generator
from genjax.run import Family, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=10000, batch=128, every=1000)
    data: DataSettings = DataSettings()
    latent: Width = 100
    """Numbers in a noise vector."""
    hidden: Width = 256
    """Width of the hidden layers."""
    augment: Augment = "none"
    """What the critic sees: mirrored real images, or all of them by DiffAugment or ADA."""
    classes: bool = False
    """Condition generator and critic on the class."""
    turns: Count = 1
    """Updates of the critic per step, each on its own slice of the batch."""
    learning_rate: Positive = 2e-4
    optimizer: Optimizer = Optimizer()
    check = adversarial_checks.adversarial
    suggest = suggestions.gan


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    generator = Generator(spec.shape, (config.hidden,), classes)
    critic = Discriminator((config.hidden,), classes=classes)
    augment = Augmentation(config.augment)

    def init(key, before):
        keys = jax.random.split(key)
        z, x = jnp.zeros((1, config.latent)), jnp.zeros((1, *spec.shape))
        params = {"critic": critic.init(keys[0], x), "generator": generator.init(keys[1], z)}
        return params, augment.variables()

    def logits(params, state, keys, batch):
        z, label = normal(keys, (len(keys), config.latent)), batch["label"] if classes else None
        images = augment(generator.apply(params["generator"], z, label), fold_in(keys, 0), state)
        shown = augment(batch["image"] / 127.5 - 1, keys, state, real=True)
        judge = partial(critic.apply, params["critic"], label=label)
        return judge(shown), judge(images)

    def critic_loss(params, state, keys, batch):
        real, fake = logits(params, state, keys, batch)
        metrics, adapted = augment.adapt(state, real)
        value = gan.minimax.discriminator(real, fake).mean()
        return value, Aux(metrics | probabilities(real, fake), adapted)

    def generator_loss(params, state, keys, batch):
        return gan.minimax.generator(*logits(params, state, keys, batch)).mean(), Aux()

    def generate(state, keys, z, label):
        return (generator.apply(state.params["generator"], z, label) + 1) / 2

    player = partial(config.optimizer.player, rate=config.learning_rate, b1=0.5)
    game = {"critic": player(critic_loss, turns=config.turns), "generator": player(generator_loss)}
    return sampling_family(game, init, generate, config.latent, classes)


if __name__ == "__main__":
    main("gan_fashion", __doc__, Config(), build)
