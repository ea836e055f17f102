"""The settings of GANs against each other and the images, as `experiments.checks` has others'."""

from experiments import checks
from genjax.errors import ConfigError
from genjax.limits import check_sides
from genjax.models.r3gan import EXPANSION


def adversarial(config, spec):
    """Of the GANs."""
    checks.labelled(config, spec)
    if config.augment == "ada" and spec.shape[-1] not in (1, 3):
        raise ConfigError(f"--augment ada takes grey or RGB images, not {spec.shape[-1]} channels")
    if config.augment == "flip":
        checks.mirrored("--augment flip")


def dcgan(config, spec):
    """Of the DCGAN."""
    adversarial(config, spec)
    checks.of_adam(config, "b1")
    check_sides(spec.shape, len(config.widths) - 1, "--widths")


def stylegan(config, spec):
    """Of StyleGAN2."""
    adversarial(config, spec)
    check_sides(spec.shape, len(config.widths) - 1, "--widths")
    if not config.path_length:
        checks.changed(config, "generator_every", "with --path-length 0")
    if not config.gamma:
        checks.changed(config, "critic_every", "with --gamma 0")
    crossover(config)


def crossover(config, chosen=()):
    """Of the layers of StyleGAN2, where styles are mixed."""
    layers = 2 * len(config.widths)
    if config.crossover is not None and config.crossover >= layers:
        raise ConfigError(
            f"--crossover {config.crossover} must be below the number of layers, {layers}"
        )


def r3gan(config, spec):
    """Of R3GAN."""
    adversarial(config, spec)
    check_sides(spec.shape, len(config.widths) - 1, "--widths")
    for width in config.widths:
        if EXPANSION * width % config.group:
            raise ConfigError(
                f"--group {config.group} must divide {EXPANSION * width}, the channels inside a "
                f"block of --widths {width}"
            )
