"""A small game of every family, with all that could make results depend on devices or stops.

    python -m tests.families "gan turns 2" --run.steps 3 ...

is the command line of an experiment whose players cut their batches into slices.
"""

import sys
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import jax
import numpy as np

from experiments import (
    autoencoder_fashion,
    consistency,
    dcgan_fashion,
    ddpm_fashion,
    dit,
    edm,
    flow_cifar10,
    gan_fashion,
    latent_diffusion,
    latent_shapes,
    made,
    meanflow,
    pixelcnn,
    r3gan,
    shortcut,
    stylegan,
    vae_fashion,
    vdvae,
    vqvae,
)
from genjax.cli.main import main
from genjax.data import ImageSpec
from genjax.data.fashion_mnist_6k import ARCHIVE
from genjax.run.family import untrained_state
from tests import coupled

BATCH = 16
SPEC = ImageSpec((8, 8, 3), 4, 100)


@dataclass(frozen=True)
class Family:
    """experiment: its module. config: small. flags: those of the same network on the command line.
    slices: {player: settings} without a flag.
    """

    experiment: ModuleType
    config: Any
    flags: str
    slices: dict[str, dict[str, int]] = field(default_factory=dict)

    def build(self, config, spec):
        family = self.experiment.build(config, spec)
        game = {
            name: replace(player, **self.slices.get(name, {}))
            for name, player in family.game.items()
        }
        return replace(family, game=game)

    def family(self):
        return self.build(self.config, SPEC)


class _First(Family):
    """The first of an experiment's stages in the place of the last."""

    def build(self, config, spec):
        stage = super().build(config, spec)
        while stage.before:
            stage = stage.before
        return replace(stage, name="", steps=None)


_VAE = Family(vae_fashion, vae_fashion.Config(latent=4, hidden=16), "--latent 4 --hidden 16")
_GAN = Family(gan_fashion, gan_fashion.Config(hidden=16), "--hidden 16")
_WIDTHS = (16, 8, 8)

_LATENT = Family(
    latent_diffusion,
    latent_diffusion.Config(
        autoencoder=latent_diffusion.AutoencoderSettings(
            steps=4, channels=4, multipliers=(1, 2), critic=True, critic_start=1, critic_layers=1,
            critic_channels=4, measured=64,
        ),
        channels=4, multipliers=(1,), attention=(), dropout=0.1, classes=True, warm_up=0,
        decay=None,
    ),
    "--autoencoder.steps 4 --autoencoder.channels 4 --autoencoder.multipliers 1 2 "
    "--autoencoder.critic --autoencoder.critic-start 1 --autoencoder.critic-layers 1 "
    "--autoencoder.critic-channels 4 --autoencoder.measured 64 --channels 4 --multipliers 1 "
    "--attention --dropout 0.1 --classes --warm-up 0 --decay None --sampling-steps 2",
)  # fmt: skip

_CODES = Family(
    vqvae,
    vqvae.Config(
        quantizer="residual",
        autoencoder=vqvae.AutoencoderSettings(
            steps=4, channels=4, blocks=1, block_channels=4, codes=16, latent=4, average=0.9,
            restart=0.5,
        ),
        width=8, depth=1, heads=2, classes=True, warm_up=0, decay=None,
    ),
    "--quantizer residual --autoencoder.steps 4 --autoencoder.channels 4 --autoencoder.blocks 1 "
    "--autoencoder.block-channels 4 --autoencoder.codes 16 --autoencoder.latent 4 "
    "--autoencoder.average 0.9 --autoencoder.restart 0.5 --width 8 --depth 1 --heads 2 --classes "
    "--warm-up 0 --decay None",
)  # fmt: skip

# Noise, dropout, synchronised BatchNorm, spectral norm, deviations over the minibatch, statistics
# of codes, dropped labels, noises paired within the batch, slices of a batch, codebooks averaged
# over the batch and moved to codes of it, outputs compared with the batch's average, codes compared
# with the prior's draws, images augmented with labels, losses weighed by gradients over the batch.
FAMILIES = {
    "autoencoder": Family(autoencoder_fashion, autoencoder_fashion.Config(latent=4), "--latent 4"),
    "vae": _VAE,
    "vae microbatches 2": replace(_VAE, slices={"vae": {"microbatches": 2}}),
    "vae conv": Family(vae_fashion, vae_fashion.Config(latent=4, conv=True), "--latent 4 --conv"),
    "gan": _GAN,
    "gan turns 2": replace(_GAN, slices={"critic": {"turns": 2}}),
    "dcgan": Family(dcgan_fashion, dcgan_fashion.Config(widths=_WIDTHS), "--widths 16 8 8"),
    "dcgan spectral minibatch": Family(
        dcgan_fashion,
        dcgan_fashion.Config(widths=_WIDTHS, spectral_norm=True, minibatch_stddev=True),
        "--widths 16 8 8 --spectral-norm --minibatch-stddev",
    ),
    "vae conv classes": Family(
        vae_fashion,
        vae_fashion.Config(latent=4, conv=True, classes=True),
        "--latent 4 --conv --classes",
    ),
    "gan classes": Family(
        gan_fashion, gan_fashion.Config(hidden=16, classes=True), "--hidden 16 --classes"
    ),
    "dcgan spectral classes": Family(
        dcgan_fashion,
        dcgan_fashion.Config(widths=_WIDTHS, spectral_norm=True, classes=True),
        "--widths 16 8 8 --spectral-norm --classes",
    ),
    "r3gan": Family(
        r3gan,
        r3gan.Config(latent=4, widths=(4, 4), group=4, burn_in=64, half_life=32, classes=True),
        "--latent 4 --widths 4 4 --group 4 --burn-in 64 --half-life 32 --classes",
    ),
    "stylegan": Family(
        stylegan,
        stylegan.Config(
            latent=4,
            features=4,
            mapping_layers=1,
            widths=(4, 4),
            critic_every=2,
            path_length=2.0,
            generator_every=2,
            classes=True,
        ),
        "--latent 4 --features 4 --mapping-layers 1 --widths 4 4 --critic-every 2 --path-length 2 "
        "--generator-every 2 --classes",
    ),
    "ddpm": Family(
        ddpm_fashion,
        ddpm_fashion.Config(channels=8, multipliers=(1,), attention=(), dropout=0.1, classes=True),
        "--channels 8 --multipliers 1 --attention --dropout 0.1 --classes --sampling-steps 2",
    ),
    "edm": Family(
        edm,
        edm.Config(
            channels=8, multipliers=(1,), attention=(), dropout=0.1, classes=True, augment=0.5
        ),
        "--channels 8 --multipliers 1 --attention --dropout 0.1 --classes --augment 0.5 "
        "--sampling-steps 2",
    ),
    "flow": Family(
        flow_cifar10,
        flow_cifar10.Config(channels=8, multipliers=(1, 1), attention=(), groups=4),
        "--channels 8 --multipliers 1 1 --attention --groups 4 --sampling-steps 2",
    ),
    "dit": Family(
        dit,
        dit.Config(width=8, depth=2, heads=2, dropout=0.1, classes=True),
        "--width 8 --depth 2 --heads 2 --dropout 0.1 --classes --sampling-steps 2",
    ),
    "meanflow": Family(
        meanflow,
        meanflow.Config(width=8, depth=2, heads=2, dropout=0.1, classes=True),
        "--width 8 --depth 2 --heads 2 --dropout 0.1 --classes",
    ),
    "shortcut": Family(
        shortcut,
        shortcut.Config(width=8, depth=2, heads=2, classes=True, every=2),
        "--width 8 --depth 2 --heads 2 --classes --every 2",
    ),
    "consistency": Family(
        consistency,
        consistency.Config(
            channels=8,
            multipliers=(1,),
            attention=(),
            dropout=0.1,
            classes=True,
            halvings=1,
            curriculum=8,
        ),
        "--channels 8 --multipliers 1 --attention --dropout 0.1 --classes --halvings 1 "
        "--curriculum 8 --teacher-steps 4",
    ),
    "latent": Family(
        latent_shapes,
        latent_shapes.Config(latent=8, widths=(8, 8), width=16, blocks=1),
        "--latent 8 --widths 8 8 --width 16 --blocks 1 --autoencoder-steps 4 --sampling-steps 2",
    ),
    "made": Family(made, made.Config(widths=(16,), classes=True), "--widths 16 --classes"),
    "pixelcnn": Family(
        pixelcnn,
        pixelcnn.Config(
            channels=4, depth=2, mixture=2, dropout=0.1, classes=True, warm_up=1, decay=None
        ),
        "--channels 4 --depth 2 --mixture 2 --dropout 0.1 --classes --warm-up 1 --decay None",
    ),
    "vdvae": Family(
        vdvae,
        vdvae.Config(
            channels=8,
            bottleneck=4,
            latent=2,
            pooling=(2, 4),
            encoder_blocks=(0, 1, 1),
            decoder_blocks=(1, 1, 1),
            mixture=2,
            classes=True,
        ),
        "--channels 8 --bottleneck 4 --latent 2 --pooling 2 4 --encoder-blocks 0 1 1 "
        "--decoder-blocks 1 1 1 --mixture 2 --classes",
    ),
    "latent diffusion": _LATENT,
    "kl autoencoder": _First(_LATENT.experiment, _LATENT.config, _LATENT.flags),
    "vqvae": _CODES,
    "vq autoencoder": _First(_CODES.experiment, _CODES.config, _CODES.flags),
    "vq-vae": Family(coupled, coupled.Config(kind="vq_vae"), "--kind vq_vae"),
    "relativistic gan": Family(
        coupled, coupled.Config(kind="relativistic_gan"), "--kind relativistic_gan"
    ),
    "mmd autoencoder": Family(
        coupled, coupled.Config(kind="mmd_autoencoder"), "--kind mmd_autoencoder"
    ),
}


def initial(family):
    """The state before the first step, as NumPy arrays for every layout."""
    return jax.tree.map(np.asarray, untrained_state(family, jax.random.key(0)))


def batches(steps):
    """Arrays [steps, BATCH, ...] of Fashion-MNIST, shrunk to 8x8; the channels are mirror images.

    Not noise: where there is nothing to learn, Adam amplifies rounding errors, and the
    convolutional VAE's loss differs by 2e-6 instead of 2e-7 over 50 steps.
    """
    stored = np.load(ARCHIVE)
    some = np.random.default_rng(0).permutation(len(stored["train_images"]))[: steps * BATCH]
    wide = np.pad(stored["train_images"][some], ((0, 0), (2, 2), (2, 2)))
    grey = wide.reshape(-1, 8, 4, 8, 4).mean((2, 4)).astype(np.uint8)
    image = np.stack([grey, grey[:, ::-1], grey[:, :, ::-1]], -1)
    label = stored["train_labels"][some].astype(np.int32) % SPEC.classes
    return {
        "image": image.reshape(steps, BATCH, *SPEC.shape),
        "label": label.reshape(steps, BATCH),
    }


if __name__ == "__main__":
    family = FAMILIES[sys.argv.pop(1)]
    name = family.experiment.__name__.split(".")[-1]
    main(name, family.experiment.__doc__, family.experiment.Config(), family.build)
