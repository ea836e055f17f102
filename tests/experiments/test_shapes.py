"""Images of other shapes and channels through every experiment: traced, not computed."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments import (
    autoencoder_fashion,
    consistency,
    dcgan_fashion,
    ddpm_fashion,
    dit,
    flow_cifar10,
    gan_fashion,
    iwae_mnist,
    latent_diffusion,
    latent_shapes,
    made,
    meanflow,
    pixelcnn,
    r3gan,
    restore_fashion,
    shortcut,
    stylegan,
    vae_cifar10,
    vae_fashion,
    vdvae,
    vqvae,
)
from genjax.data import Dataset, DataSettings, ImageSpec
from genjax.errors import ConfigError
from genjax.run.family import build_family, stages, state_shapes

UNET = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "groups": 4, "attention": (8,)}
SPATIAL = {
    "autoencoder": latent_diffusion.AutoencoderSettings(channels=8, multipliers=(1, 2)),
    "channels": 8,
    "multipliers": (1, 2),
    "attention": (),
    "sampling_steps": 2,
}
CODED = vqvae.AutoencoderSettings(channels=8, blocks=1, codes=8, latent=4)
EXPERIMENTS = {
    "autoencoder": (autoencoder_fashion, {}),
    "autoencoder conv": (autoencoder_fashion, {"conv": True}),
    "vae": (vae_fashion, {}),
    "vae conv": (vae_fashion, {"conv": True}),
    "gan": (gan_fashion, {}),
    "dcgan": (dcgan_fashion, {"widths": (8, 8, 8)}),
    "r3gan": (r3gan, {"widths": (8, 8), "blocks": 1}),
    "stylegan": (stylegan, {"widths": (4, 4)}),
    "ddpm": (ddpm_fashion, {**UNET, "sampling_steps": 2}),
    "flow": (flow_cifar10, {**UNET, "sampling_steps": 2}),
    "dit": (dit, {"width": 8, "depth": 2, "heads": 2, "sampling_steps": 2}),
    "made": (made, {"widths": (8,)}),
    "pixelcnn": (pixelcnn, {"channels": 4, "depth": 2, "mixture": 2}),
    "meanflow": (meanflow, {"width": 8, "depth": 2, "heads": 2}),
    "shortcut": (shortcut, {"width": 8, "depth": 2, "heads": 2, "every": 2}),
    "consistency": (consistency, {"channels": 8, "multipliers": (1, 1), "attention": ()}),
    "latent": (latent_shapes, {"widths": (8, 8), "width": 8, "blocks": 1, "sampling_steps": 2}),
    "spatial": (latent_diffusion, SPATIAL),
    "iwae": (iwae_mnist, {"layers": 2}),
    "codes": (vqvae, {"autoencoder": CODED, "quantizer": "residual", "width": 8, "heads": 2}),
    "restore": (restore_fashion, {**UNET, "sampling_steps": 2, "task": "super4"}),
    "top down": (
        vdvae,
        {
            "channels": 8,
            "bottleneck": 4,
            "latent": 2,
            "pooling": (2, 4),
            "mixture": 2,
            "encoder_blocks": (0, 1, 1),
            "decoder_blocks": (1, 1, 1),
        },
    ),
    "logistics": (vae_cifar10, {"widths": (8, 8), "mixture": 2}),
}
HALVING = [
    "autoencoder conv",
    "vae conv",
    "dcgan",
    "stylegan",
    "ddpm",
    "flow",
    "latent",
    "logistics",
]
HALVING += ["spatial"]
HALVING = ["autoencoder conv", "vae conv", "dcgan", "ddpm", "flow", "latent", "logistics"]
HALVING += ["spatial", "codes"]


def families(experiment, shape, own_sets):
    """The families of an experiment for images of a shape, in turn, with their states' shapes."""
    module, options = EXPERIMENTS[experiment]
    config = module.Config(**options)
    if module is iwae_mnist:  # its biases are those of the data set's mean
        size, channels = shape[:2], shape[2]
        where = DataSettings(dir=str(own_sets), size=size, channels=channels)
        config = replace(config, data=where)
        assert Dataset(where).spec.shape == shape
    last, _ = build_family(module.build, config, ImageSpec(shape, 10, 100), "these describe")
    return [(family, state_shapes(family)) for family, _ in stages(last, Path())]


@pytest.mark.parametrize(
    "shape", [pytest.param((8, 24, 1), marks=pytest.mark.slow), (24, 8, 4)], ids=str
)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_takes_images_of_any_shape(experiment, shape, own_sets):
    if experiment == "iwae":  # whose data set cannot have four channels
        shape = (*shape[:2], min(shape[2], 3))
    for family, state in families(experiment, shape, own_sets):
        batch = {
            "image": jax.ShapeDtypeStruct((2, *shape), jnp.uint8),
            "label": jax.ShapeDtypeStruct((2,), jnp.int32),
        }
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
        for player in family.game.values():
            value, _ = jax.eval_shape(player.loss, state.params, state, keys, batch)
            assert value.shape == ()
        if family.generate is None:
            continue
        latents = jax.eval_shape(lambda family=family: family.latents(jax.random.key(0), 2))
        image = jax.eval_shape(
            lambda state, keys, z, family=family: family.generate(state, keys, z, None),
            *(state, keys, latents),
        )
        assert image.shape == (2, *shape)
        for score in jax.eval_shape(family.validate, state, keys, batch).values():
            assert score.shape == (2,)


@pytest.mark.parametrize("experiment", [*HALVING, "dit"])
def test_a_shape_that_a_network_cannot_have_is_refused_in_one_line(experiment, own_sets):
    with pytest.raises(ConfigError, match=r"divisible by .*, not") as raised:
        families(experiment, (8, 21, 3), own_sets)
    assert "\n" not in str(raised.value)
