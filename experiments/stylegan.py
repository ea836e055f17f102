"""StyleGAN2: latents that style every layer of the generator, with lazy regularisation.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), with the remedy of
"Training Generative Adversarial Networks with Limited Data" (2020) by --augment ada. --classes
conditions the mapping (by an embedding) and the critic (by projection).

    python -m experiments.stylegan
    python -m experiments.stylegan sample --truncation 0.7     # surer and more alike
    python -m experiments.stylegan sample --crossover 2        # style mixing: what a layer decides
    python -m experiments.stylegan reconstruct                 # projections: w of held-out images
    python -m experiments.stylegan interpolate                 # between those

Expect clothes of clear outline, a quarter of them torn: seen after 59,000 images of 96,000.

--preset cifar10: the sizes, rates and average of the official configuration for CIFAR-10, whose
critic has no residual blocks and sees deviations of 32 images; for a GPU.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from experiments import adversarial_checks, suggestions
from experiments.adversarial import sampling_family
from experiments.style_sampling import StyleSampler
from experiments.style_training import StyleGame, StyleSettings
from genjax.cli.main import main
from genjax.data import DataSettings, ImageSpec
from genjax.limits import Count, Limits
from genjax.run import SAMPLING, Family, Settings


@dataclass(frozen=True)
class Config(StyleSettings):
    run: Settings = Settings(steps=3000, batch=32, every=500)
    data: DataSettings = DataSettings()
    classes: bool = False
    """Condition generator and critic on the class."""
    truncation: Annotated[float, Limits(0, 1), SAMPLING] = 1.0
    """How far the latents of the layers go from their mean: 1 as far as in training, 0 nowhere;
    less makes better images of fewer kinds."""
    crossover: Annotated[Count | None, SAMPLING] = None
    """Draw sheets of 8 x 8 images whose first layers, as many, have the styles of the row's latent,
    the others those of the column's: on the diagonal both are one. None: an image per latent."""
    check = adversarial_checks.stylegan
    check_sampling = adversarial_checks.crossover
    suggest = suggestions.stylegan


CIFAR10 = Config(
    latent=512,
    features=512,
    widths=(512, 512, 512, 512),
    learning_rate=2.5e-3,
    gamma=0.01,
    path_length=0.0,
    mixing=0.0,
    half_life=500_000,
    augment="ada",
    compute="bfloat16",
    run=Settings(steps=1_562_500, batch=64, every=5000),
    data=DataSettings("cifar10"),
    classes=True,
)


def build(config: Config, spec: ImageSpec) -> Family:
    classes = spec.classes_for("--classes") if config.classes else None
    play = StyleGame(config, spec.shape, classes)
    game = {
        "critic": config.player(play.critic_loss, config.critic_every if config.gamma else None),
        "generator": config.player(
            play.generator_loss,
            config.generator_every if config.path_length else None,
            ema=config.moving_average(),
        ),
    }
    sampler = StyleSampler(play)
    family = sampling_family(game, play.init, sampler.generate, config.latent, classes)
    family = replace(family, invert=sampler.invert)
    return replace(family, latent=None, draw=sampler.pairs) if config.crossover else family


if __name__ == "__main__":
    main("stylegan", __doc__, Config(), build, {"cifar10": CIFAR10})
