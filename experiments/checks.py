"""The settings of each experiment against each other and the images, at the start of a run.

An experiment's `Config.check` is one of these: (config, spec of the images) -> None. Each by itself
the settings are checked by `genjax.limits`; what the network makes of them by tracing it.
"""

import logging
from dataclasses import fields

from experiments.sampling import PixelSamplerSettings
from experiments.vq_autoencoder import Codec
from genjax.diffusion.discrete_schedules import DiscreteLinear
from genjax.diffusion.sampling_loop import MOST_SIGNAL, signal
from genjax.errors import ConfigError
from genjax.limits import check_sides, flag
from genjax.models.edm_settings import EDMSettings
from genjax.models.transformer_settings import TransformerSettings
from genjax.train.layout import shares

logger = logging.getLogger(f"genjax.{__name__}")  # whose lines are printed


def diffusion(config, spec):
    """Of the DDPMs."""
    config.check_unet(spec.shape)
    if config.flip:
        mirrored("--flip")
    rise(config)
    labelled(config, spec)
    if config.levels <= 20:
        raise ConfigError(f"--levels must be above 20, not {config.levels}")
    config.check_sampling(config.chosen())
    if not config.scaled_betas and signal(DiscreteLinear(config.levels), 1.0) > MOST_SIGNAL:
        raise ConfigError(
            f"--no-scaled-betas: a chain of --levels {config.levels} does not end in noise, where "
            "sampling starts"
        )


def flow(config, spec):
    """Of flow matching."""
    config.check_unet(spec.shape)
    if config.flip:
        mirrored("--flip")
    rise(config)
    config.check_sampling(config.chosen())


def edm(config, spec):
    """Of EDM."""
    config.check_denoiser(spec.shape)
    config.check_training()
    config.check_guidance()
    labelled(config, spec)
    if not config.classes and config.label_dropout:
        changed(config, "label_dropout", "without --classes")
    of_adam(config, "b2")
    config.check_sampling(config.chosen())
    rise_of_images(config)


def consistency(config, spec):
    """Of consistency models."""
    config.check_denoiser(spec.shape)
    config.check_training()
    labelled(config, spec)
    if not config.classes:
        changed(config, "label_dropout", "without --classes")
    of_adam(config, "b2")
    mine = {
        "training": {"first_intervals", "intervals", "curriculum", "noise_mean", "noise_std"},
        "distillation": {"teacher", "teacher_steps", "intervals"},
        "tuning": {
            "teacher", "teacher_steps", "first_gap", "halvings", "curriculum", "noise_mean",
            "noise_std",
        },
    }  # fmt: skip
    for name in sorted(set().union(*mine.values()) - mine[config.method]):
        changed(config, name, f"with --method {config.method}")
    if config.teacher is not None and config.teacher_steps:
        changed(config, "teacher_steps", "with --teacher")
    config.check_schedule()
    config.check_teacher()
    rise_of_images(config)


def rise_of_images(config):
    """A warm-up in images against those of the run."""
    seen = config.run.steps * config.run.batch
    if 0 < seen <= config.warm_up:
        logger.warning(
            "--warm-up %s images is not over by the %s that are trained on",
            f"{config.warm_up:,}",
            f"{seen:,}",
        )


def transformer(config, spec):
    """Of flow matching with a transformer."""
    mean_velocity(config, spec)
    if config.times_mean is None:
        changed(config, "times_std", "with --times-mean None")
    config.check_sampling(config.chosen())


def mean_velocity(config, spec):
    """Of a transformer that learns a velocity or its mean."""
    config.check_transformer(spec.shape, config.classes)
    if config.flip:
        mirrored("--flip")
    rise(config)
    labelled(config, spec)
    if not config.classes:
        changed(config, "guidance", "without --classes")
    of_adam(config, "b2")


def shortcut(config, spec):
    """Of shortcut models."""
    mean_velocity(config, spec)
    if config.max_steps == 1 or config.max_steps & (config.max_steps - 1):
        raise ConfigError(f"--max-steps must be a power of 2 from 2, not {config.max_steps}")
    if config.run.batch % config.every:
        raise ConfigError(
            f"--every {config.every} must divide --run.batch {config.run.batch}: one image in so "
            "many learns the steps"
        )
    if (share := images_at_once(config)) % config.every:
        raise ConfigError(
            f"--every {config.every} must divide the {share} images that a device computes at once "
            f"of --run.batch {config.run.batch}: take another, or fewer --run.devices or "
            "--optimizer.microbatches"
        )


def images_at_once(config):
    """The images that a loss is called with, on one of the devices."""
    run, slices = config.run, config.optimizer.microbatches
    return run.batch // (shares(run.devices, run.sharded) * (1 if slices == "auto" else slices))


def vae(config, spec):
    """Of the VAE on Fashion-MNIST."""
    rise(config)
    labelled(config, spec)
    autoencoder(config, spec)


def autoencoder(config, spec):
    """Of autoencoders with --conv."""
    if config.conv:
        check_sides(spec.shape, 2, "--conv")
        if hasattr(config, "hidden"):
            changed(config, "hidden", "with --conv")


def convolutional_vae(config, spec):
    """Of the VAE on CIFAR-10."""
    rise(config)
    check_sides(spec.shape, len(config.widths), "--widths")


def vdvae(config, spec):
    """Of the very deep VAE."""
    rise(config)
    labelled(config, spec)
    of_adam(config, "b2")
    config.check_top_down(spec.shape)


def pixelcnn(config, spec):
    """Of PixelCNN."""
    rise(config)
    labelled(config, spec)
    if config.binary:
        changed(config, "mixture", "with --binary")
        if spec.shape[-1] != 1:
            raise ConfigError(f"--binary takes --data.channels 1, not {spec.shape[-1]}")


def restore(config, spec):
    """Of restoration."""
    config.check_unet(spec.shape)
    rise(config)
    if config.task == "colourise" and spec.shape[-1] != 3:
        found = "grey" if spec.shape[-1] == 1 else f"of {spec.shape[-1]} channels"
        raise ConfigError(
            f"--task colourise needs colour images, and these are {found}: give others, such as "
            "--data.name cifar10, or another task"
        )
    if config.task in ("super2", "super4"):
        check_sides(spec.shape, {"super2": 1, "super4": 2}[config.task], f"--task {config.task}")
    if config.task == "denoise" and config.noise == 0:
        raise ConfigError("--noise 0 leaves nothing to restore with --task denoise")
    if config.model == "vae":
        check_sides(spec.shape, 2, "--model vae")
        for setting in fields(PixelSamplerSettings):
            changed(config, setting.name, "with --model vae, which restores in one step")
    else:
        config.check_sampling(config.chosen())
        changed(config, "latent", "with --model diffusion")


def latent(config, spec):
    """Of diffusion on the codes of an autoencoder."""
    config.check_sampling(config.chosen())
    check_sides(spec.shape, len(config.widths), "--widths")


def latent_diffusion(config, spec):
    """Of diffusion on a spatial autoencoder's latents."""
    config.autoencoder.check(spec.shape)
    halvings = len(config.autoencoder.multipliers) - 1
    latent = (*(side >> halvings for side in spec.shape[:2]), config.autoencoder.latent)
    ours, theirs = EDMSettings, TransformerSettings
    if config.prior == "edm":
        both = "--autoencoder.multipliers with --multipliers"
        check_sides(spec.shape, halvings + len(config.multipliers) - 1, both)
        config.check_denoiser(latent)
    else:
        ours, theirs = theirs, ours
        unit = config.patch << halvings
        if any(side % unit for side in spec.shape[:2]):
            raise ConfigError(
                f"--patch {config.patch} does not divide latents of {latent[0]}x{latent[1]}: give "
                f"another, or --data.size {max(unit, min(spec.shape[:2]) // unit * unit)}"
            )
        config.check_transformer(latent, config.classes)
        for name in ("noise_mean", "noise_std"):
            changed(config, name, "with --prior dit")
    own = {field.name for field in fields(ours)}
    for field in fields(theirs):
        if field.name not in own:
            changed(config, field.name, f"with --prior {config.prior}")
    if config.flip:
        mirrored("--flip")
    rise(config)
    labelled(config, spec)
    config.check_guidance()
    of_adam(config, "b2")
    config.check_sampling(config.chosen())


def vqvae(config, spec):
    """Of an autoencoder with codes and a prior over them."""
    config.autoencoder.check(spec.shape, config.quantizer)
    config.check_prior(Codec(config, spec.shape).count)
    if config.flip:
        mirrored("--flip")
    rise(config)
    labelled(config, spec)
    of_adam(config, "b2")


def labelled(config, spec):
    """Labels for a model that is conditioned on them."""
    if config.classes and not spec.classes:
        raise ConfigError("--classes: these images have none")


def mirrored(flags):
    """A line on what mirrored images lead to."""
    logger.info("half of the images are mirrored (%s): so will be half of those drawn", flags)


def classifier(config, spec):
    """Of the classifier."""
    if spec.classes < 2:
        raise ConfigError("--data: a classifier needs images of two classes or more, with labels")


def augmenting(config, spec):
    """Of the study of synthetic images."""
    few, many = min(config.sizes), max(config.sizes)
    if many > spec.count:
        raise ConfigError(f"--sizes {many}: there are {spec.count:,} images to train on")
    if few < spec.classes:
        raise ConfigError(f"--sizes {few} is under one image of each of {spec.classes} classes")
    if config.generator != "diffusion":
        changed(config, "guidance", f"with --generator {config.generator}")


def of_adam(config, name):
    """A setting that Adam alone has."""
    if config.optimizer.name not in ("adam", "adamw", "radam"):
        changed(config, name, f"with --optimizer.name {config.optimizer.name}")


def rise(config):
    """A warm-up against what follows it."""
    decay = getattr(config, "decay", None)
    if isinstance(decay, int) and decay <= config.warm_up:
        raise ConfigError(f"--decay {decay:,} must be above --warm-up {config.warm_up:,}")
    if 0 < config.run.steps <= config.warm_up:
        logger.warning(
            "--warm-up %s is not over by --run.steps %s",
            f"{config.warm_up:,}",
            f"{config.run.steps:,}",
        )


def changed(config, name, why):
    """Refuses a setting that was changed though it has no effect."""
    value = getattr(config, name)
    if value != getattr(type(config), name):
        raise ConfigError(f"{flag(name)} {value} has no effect {why}")
