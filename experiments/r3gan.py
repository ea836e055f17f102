"""R3GAN: a ResNet without normalisation, the relativistic pairing loss, R1 and R2.

Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline" (2024). Over --burn-in
images, by default the run, the learning rate falls to a quarter and the penalties' weight gamma to
a tenth, Adam's b2 rises from 0.9 to 0.99 and the average's half-life from 0, along half a cosine.

    python -m experiments.r3gan

--preset paper: CIFAR-10 by class, for a GPU, as the paper's code but for length and ADA's strength.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from experiments import adversarial_checks, suggestions
from experiments.adversarial import Augment, Augmentation, sampling_family
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.keys import normal, split
from genjax.limits import Depth, NonNegative, Positive, Width, Widths
from genjax.losses import gan, penalties
from genjax.models.r3gan import Critic, Generator
from genjax.run import Family, Settings
from genjax.train import averages, rates
from genjax.train.game import Aux
from genjax.train.optimizers import Optimizer


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=1500, batch=32, every=500)
    data: DataSettings = DataSettings()
    latent: Width = 64
    widths: Widths = (64, 32, 8)
    """Channels at each resolution, the lowest first."""
    blocks: Depth = 1  # at each resolution
    group: Width = 16
    """Channels of a group in the grouped convolutions; they divide twice each width."""
    learning_rate: Positive = 1e-3
    gamma: NonNegative = 0.1
    """Weight of the penalties R1 and R2, each of which counts half."""
    half_life: Positive = 10_000
    """Images in which the generator's moving average forgets half, after the burn-in."""
    burn_in: Positive | Literal["run"] = "run"  # images
    augment: Augment = "none"
    """What the critic sees: mirrored real images, or all of them by DiffAugment or ADA."""
    classes: bool = False
    """Condition generator and critic on the class."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Precision of the computation above the lowest resolution."""
    optimizer: Optimizer = Optimizer()
    check = adversarial_checks.r3gan
    suggest = suggestions.r3gan


PAPER = Config(
    Settings(steps=200_000, batch=512, every=5000), DataSettings("cifar10"), widths=(768,) * 4,
    blocks=2, group=16, learning_rate=2e-4, gamma=0.05, half_life=5e6, burn_in=20e6, augment="ada",
    classes=True, compute="bfloat16",
)  # fmt: skip


def build(config: Config, spec: ImageSpec) -> Family:
    classes, batch = spec.classes_for("--classes") if config.classes else None, config.run.batch
    how = (config.widths, config.blocks, config.group, classes, jnp.dtype(config.compute))
    critic, generator = Critic(*how), Generator(spec.shape, *how)
    augment, latent, shape = Augmentation(config.augment), config.latent, (-1, *spec.shape)
    seen = config.run.steps * batch if config.burn_in == "run" else config.burn_in
    burn_in = partial(rates.cosine, steps=rates.steps_of_images(seen, batch))
    gamma = burn_in(config.gamma, config.gamma / 10)

    def init(key, before):
        keys, z, x = jax.random.split(key), jnp.zeros((1, latent)), jnp.zeros((1, *spec.shape))
        networks = {"critic": critic.init(keys[0], x), "generator": generator.init(keys[1], z)}
        return networks, augment.variables()

    def pairs(params, state, keys, batch):
        """Each real image beside a generated one, [B, 2, H, W, C], and the critic of pairs."""
        noise, *changes = split(keys, 3)
        label, z = batch["label"] if classes else None, normal(noise, (len(keys), latent))

        def judge(pairs):
            seen = [augment(pairs[:, i], changes[i], state, real=not i) for i in range(2)]
            seen, labels = jnp.stack(seen, 1).reshape(shape), label.repeat(2) if classes else None
            return critic.apply(params["critic"], seen, labels).reshape(-1, 2)

        images = batch["image"] / 127.5 - 1, generator.apply(params["generator"], z, label)
        return jnp.stack(images, 1), judge

    def critic_loss(params, state, keys, batch):
        images, judge = pairs(params, state, keys, batch)
        real, fake = judge(images).T
        # Of the sum of a pair's outputs: as neither depends on the other's image, it is R1 + R2.
        slopes = penalties.r1(lambda images: judge(images).sum(1), images)
        loss = gan.relativistic_pairing.discriminator(real, fake) + gamma(state.step) / 2 * slopes
        metrics, adapted = augment.adapt(state, real - fake)  # one of them alone means nothing
        metrics |= {"slopes": slopes.mean(), "told_apart": (real > fake).mean()}
        return loss.mean(), Aux(metrics, adapted)

    def generator_loss(params, state, keys, batch):
        images, judge = pairs(params, state, keys, batch)
        return gan.relativistic_pairing.generator(*judge(images).T).mean(), Aux()

    rate = burn_in(config.learning_rate, config.learning_rate / 4)
    player = partial(config.optimizer.player, rate=rate, b1=0.0, b2=burn_in(0.9, 0.99))
    ema = averages.half_life(burn_in(0.0, config.half_life), batch=batch, ramp_up=None)
    game = {"critic": player(critic_loss), "generator": player(generator_loss, ema=ema)}

    def generate(state, keys, z, label):
        return ((generator.apply(state.ema["generator"], z, label) + 1) / 2).clip(0, 1)

    return sampling_family(game, init, generate, latent, classes)


if __name__ == "__main__":
    main("r3gan", __doc__, Config(), build, {"paper": PAPER})
