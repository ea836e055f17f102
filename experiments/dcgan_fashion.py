"""DCGAN: transposed convolutions against strided ones, non-saturating loss, on Fashion-MNIST.

Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks" (2016), in the shape of TensorFlow's DCGAN tutorial: Dense 7·7·256, transposed 5x5
convolutions to 128, 64 and 1 channels, BatchNorm, LeakyReLU (--preset tutorial). The default has
half the channels and learns faster. Samples come from the generator's moving average. --classes
conditions the generator (Mirza & Osindero, 2014) and the critic (Miyato & Koyama, 2018).

    python -m experiments.dcgan_fashion

138 s on two CPU cores. Expect clothes with texture, a few failures in every grid.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from experiments import adversarial_checks, suggestions
from experiments.adversarial import Augment, Augmentation, probabilities, sampling_family
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.keys import normal, split
from genjax.limits import Count, Positive, Share, Width, Widths
from genjax.losses import gan
from genjax.models.dcgan import Critic, Generator
from genjax.run import Family, Settings
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=3500, batch=64, every=500)
    data: DataSettings = DataSettings()
    latent: Width = 100
    """Numbers in a noise vector."""
    widths: Widths = (128, 64, 32)
    """Channels of the generator; the critic has the last two in reverse."""
    learning_rate: Positive = 5e-4
    b1: Share = 0.5
    """First decay of Adam and AdamW."""
    ema: Share = 0.995
    """Decay of the generator's moving average."""
    spectral_norm: bool = False
    """Divide the critic's kernels by their largest singular values."""
    minibatch_stddev: bool = False
    """Show the critic how much the images of a minibatch differ."""
    augment: Augment = "none"
    """What the critic sees: mirrored real images, or all of them by DiffAugment or ADA."""
    classes: bool = False
    """Condition generator and critic on the class."""
    turns: Count = 1
    """Updates of the critic per step, each on its own slice of the batch."""
    optimizer: Optimizer = Optimizer()
    check = adversarial_checks.dcgan
    suggest = suggestions.dcgan


EPOCHS_50 = Settings(steps=11_700, batch=256)
TUTORIAL = Config(
    EPOCHS_50, DataSettings("fashion_mnist"), 100, (256, 128, 64), 1e-4, b1=0.9, ema=0.999
)


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    options = {name: getattr(config, name) for name in ("spectral_norm", "minibatch_stddev")}
    critic = Critic(config.widths[:0:-1], classes=classes, **options)
    generator, augment = Generator(spec.shape, config.widths, classes), Augmentation(config.augment)

    def init(key, before):
        keys = jax.random.split(key)
        z, x = jnp.zeros((1, config.latent)), jnp.zeros((1, *spec.shape))
        judging, making = critic.init(keys[0], x), generator.init(keys[1], z)
        params = {"critic": {"params": judging.pop("params")}, "generator": making.pop("params")}
        return params, {"critic": judging, "generator": making, **augment.variables()}

    def fakes(params, state, keys, label):
        variables = {"params": params["generator"], **state.variables["generator"]}
        z = normal(keys, (len(keys), config.latent))
        return generator.apply(variables, z, label, train=True, mutable=["batch_stats"])

    def judge(params, state, images, keys, label, train=False):
        variables, how = {**params["critic"], **state.variables["critic"]}, {"train": train}
        return critic.apply(variables, images, label, keys=keys, mutable=["batch_stats"], **how)

    def critic_loss(params, state, keys, batch):
        noise, *layers = split(keys, 3)
        label = batch["label"] if classes else None
        images, _ = fakes(params, state, noise, label)
        # Both sides start the power iteration alike, so that they meet the same kernels.
        shown = augment(batch["image"] / 127.5 - 1, layers[0], state, real=True)
        real, variables = judge(params, state, shown, layers[0], label, train=True)
        fake, _ = judge(params, state, augment(images, layers[1], state), layers[1], label)
        metrics, adapted = augment.adapt(state, real)
        value = gan.non_saturating.discriminator(real, fake).mean()
        return value, Aux(metrics | probabilities(real, fake), {"critic": variables, **adapted})

    def generator_loss(params, state, keys, batch):
        noise, layers = split(keys, 2)
        label = batch["label"] if classes else None
        images, variables = fakes(params, state, noise, label)
        fake, _ = judge(params, state, augment(images, layers, state), layers, label)
        return gan.non_saturating.generator(None, fake).mean(), Aux({}, {"generator": variables})

    player = partial(config.optimizer.player, rate=config.learning_rate, b1=config.b1)
    critic_player = player(critic_loss, turns=config.turns)
    game = {"critic": critic_player, "generator": player(generator_loss, ema=config.ema)}

    def generate(state, keys, z, label):
        variables = {"params": state.ema["generator"], **state.variables["generator"]}
        return (generator.apply(variables, z, label) + 1) / 2

    return sampling_family(game, init, generate, config.latent, classes)


if __name__ == "__main__":
    main("dcgan_fashion", __doc__, Config(), build, {"tutorial": TUTORIAL})
