"""Latents, paths between images, and images in chunks."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import data
from genjax.edit.interpolation import spherical
from genjax.errors import ConfigError
from genjax.run import Family, RestoredRun
from genjax.run.family import untrained_state
from genjax.run.sampling import CHUNK, FEW, Sampler, labels

SYSTEM = Family(
    game={},
    init=lambda key, before: ({}, {}),
    latent=(3,),
    generate=lambda state, key, z, label: (
        jax.nn.sigmoid(z)[:, None, None, :] + (0 if label is None else label[:, None, None, None])
    ),
    validate=lambda state, keys, batch: {},
    classes=4,
)
KEY = jax.random.key(0)


def test_image_i_of_a_seed_is_the_same_for_every_number_of_images():
    np.testing.assert_array_equal(SYSTEM.latents(KEY, 9)[:4], SYSTEM.latents(KEY, 4))
    few = Sampler(SYSTEM).images(None, KEY, SYSTEM.latents(KEY, 4))
    many = Sampler(SYSTEM).images(None, KEY, SYSTEM.latents(KEY, 2 * CHUNK + 3))
    assert many.shape == (2 * CHUNK + 3, 1, 1, 3)
    np.testing.assert_array_equal(many[:4], few)
    expected = np.rint(255 / (1 + np.exp(-np.asarray(SYSTEM.latents(KEY, 2 * CHUNK + 3)))))
    np.testing.assert_array_equal(many[:, 0, 0], expected)
    drawn = [*Sampler(replace(SYSTEM, classes=None)).drawn(None, KEY, 2 * CHUNK + 3)]
    assert [len(part) for part in drawn] == [CHUNK, CHUNK, 3]
    np.testing.assert_array_equal(np.concatenate(drawn), many)


def test_images_come_in_batches_with_their_labels():
    run = RestoredRun(Path("any"), SYSTEM, {}, untrained_state(SYSTEM, KEY))
    batches = list(run.samples(CHUNK + 5, seed=3))
    images = np.concatenate([batch["image"] for batch in batches])
    np.testing.assert_array_equal(images, run.sample(CHUNK + 5, seed=3))
    np.testing.assert_array_equal(images[:5], run.sample(5, seed=3))
    np.testing.assert_array_equal(
        np.concatenate([batch["label"] for batch in batches]), np.arange(CHUNK + 5) % 4
    )
    assert {int(each) for b in run.samples(CHUNK + 5, label=2) for each in b["label"]} == {2}


def test_latents_that_a_family_draws_are_the_same_in_every_chunk():
    def draw(key, n):
        return {"z": jnp.arange(n)[:, None] * jnp.ones((n, 3))}

    family = replace(
        SYSTEM,
        latent=None,
        draw=draw,
        classes=None,
        generate=lambda state, key, z, label: z["z"][:, None, None, :] / 255,
    )
    images = np.concatenate([*Sampler(family).drawn(None, KEY, 2 * CHUNK + 3)])
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(2 * CHUNK + 3))


def test_a_trajectory_ends_in_the_sample():
    def trajectory(state, key, z, label):
        last = SYSTEM.generate(state, key, z, label)
        return jnp.stack([0 * last, last / 2, last], 1)

    family = replace(SYSTEM, trajectory=trajectory)
    run = RestoredRun(Path("any"), family, {}, untrained_state(family, KEY))
    way = run.trajectories(FEW + 3, seed=5)
    assert (way.shape, way.dtype) == ((FEW + 3, 3, 1, 1, 3), np.uint8)
    np.testing.assert_array_equal(way[:, -1], run.sample(FEW + 3, seed=5))
    assert not way[:, 0].any()
    with pytest.raises(ConfigError, match="makes its images in one step"):
        RestoredRun(Path("any"), SYSTEM, {}, None).sampler.trajectories(None, KEY, 2)


def test_labels_take_every_class_in_turn():
    np.testing.assert_array_equal(labels(SYSTEM, 6), [0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(labels(SYSTEM, 3, first=6), [2, 3, 0])


def test_images_are_decoded_by_their_own_classes():
    def encode(state, images):
        return images[:, 0, 0] / 255.0

    def generate(state, keys, z, label):
        return (z - label[:, None] / 255)[:, None, None]

    family = replace(SYSTEM, encode=encode, generate=generate)
    pixels = np.random.default_rng(0).integers(9, 256, (8, 1, 1, 3), np.uint8)
    given = data.images_from_arrays(pixels, np.arange(8) % 4)
    images = data.Dataset(data.DataSettings(), {"test": given})
    run = RestoredRun(Path("any"), family, {}, untrained_state(family, KEY), images)
    batch = run.held_out_batch(8, 1)
    moved = batch["image"] - batch["label"][:, None, None, None]
    np.testing.assert_array_equal(run.reconstruct(batch["image"], batch["label"]), moved)
    ends = run.interpolate(4, 3, seed=1).reshape(4, 3, 1, 1, 3)[:, [0, -1]]
    np.testing.assert_array_equal(ends.reshape(moved.shape), moved)
    with pytest.raises(ConfigError, match="this family takes labels: give those of the images"):
        run.reconstruct(batch["image"])


def test_interpolation_needs_two_held_out_images_per_pair():
    pixels = np.zeros((6, 1, 1, 1), np.uint8)
    family = replace(SYSTEM, encode=lambda state, images: jnp.zeros((len(images), 3)), classes=None)
    images = data.Dataset(data.DataSettings(), {"test": data.images_from_arrays(pixels)})
    run = RestoredRun(Path("any"), family, {}, untrained_state(family, KEY), images)
    assert run.interpolate(3, 2).shape == (6, 1, 1, 3)
    with pytest.raises(ConfigError, match="--pairs 4 takes 8 held-out images, and there are 6"):
        run.interpolate(4, 2)


def invertible(classes):
    """A family whose latents are its images, moved by their class."""

    def generate(state, keys, z, label):
        return z / 255 if label is None else z / 255 - label[:, None, None, None]

    def invert(state, keys, images, label):
        z = jnp.asarray(images, float)
        return z if label is None else z + 255 * label[:, None, None, None]

    return replace(SYSTEM, latent=(1, 1, 2), generate=generate, invert=invert, classes=classes)


def test_latents_of_another_shape_than_noise_are_joined_by_straight_lines():
    pixels = np.random.default_rng(0).integers(1, 256, (4, 1, 1, 2), np.uint8)
    images = data.Dataset(data.DataSettings(), {"test": data.images_from_arrays(pixels, None)})
    family = replace(invertible(None), latent=(5,))
    run = RestoredRun(Path("any"), family, {}, untrained_state(family, KEY), images)
    ends = run.held_out_batch(2, 1)["image"].astype(float)
    line = ends[0] + np.linspace(0, 1, 5)[:, None, None, None] * (ends[1] - ends[0])
    assert np.abs(run.interpolate(1, 5, seed=1) - line).max() < 0.51


@pytest.mark.parametrize("classes", [None, 3])
def test_images_come_back_and_are_joined_by_inversion(classes):
    pixels = np.random.default_rng(0).integers(1, 256, (7, 1, 1, 2), np.uint8)
    given = data.images_from_arrays(pixels, np.arange(7) % 3 if classes else None)
    images = data.Dataset(data.DataSettings(), {"test": given})
    family = invertible(classes)
    run = RestoredRun(Path("any"), family, {}, untrained_state(family, KEY), images)
    batch = run.held_out_batch(6, 1)
    again = run.reconstruct(batch["image"], batch.get("label"))
    np.testing.assert_array_equal(again, batch["image"])
    rows = run.interpolate(3, 5, seed=1).reshape(3, 5, 1, 1, 2)
    np.testing.assert_array_equal(rows[:, [0, -1]].reshape(6, 1, 1, 2), batch["image"])
    arc = spherical(*jnp.asarray(batch["image"][:2], float), jnp.linspace(0, 1, 5))
    if not classes:
        np.testing.assert_array_equal(rows[0], np.rint(arc))
    else:
        with pytest.raises(ConfigError, match="give those of the images"):
            run.reconstruct(batch["image"])
    with pytest.raises(ConfigError, match="--pairs 4 takes 8 held-out images"):
        run.interpolate(4, 5)
    noise = run.interpolate(4, 2, noises=True)  # as many as one likes
    assert noise.shape == (8, 1, 1, 2)
    if not classes:
        drawn = run.sampler.images(run.state, KEY, family.latents(KEY, 8))
        np.testing.assert_array_equal(noise, drawn)
