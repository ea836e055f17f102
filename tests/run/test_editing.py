"""Edits of real images by a trained run: each kind with a denoiser and a decoder, and refusals."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax import data
from genjax.diffusion import predictions, schedules, steps
from genjax.errors import ConfigError
from genjax.run import Denoiser, Family, RestoredRun
from genjax.run.edit_settings import Edit
from genjax.run.family import untrained_state

SHAPE = (8, 8, 1)
SCHEDULE = schedules.Cosine()
_random = np.random.default_rng(0)
MEANS = np.array([-0.5, 0.4], np.float32)  # of the images of two classes, in −1..1
STD = 0.2


def image(brightness):
    """A smooth image of a brightness in −1..1: what follows from any part of it."""
    ramp = np.linspace(-0.3, 0.3, 8)
    return np.clip(brightness + ramp[:, None] + 0 * ramp[None], -1, 1)[..., None]


LABEL = np.arange(40) % 2
BRIGHTNESS = MEANS[LABEL] + STD * _random.normal(size=40)
PIXELS = np.rint(127.5 * (np.stack([image(b) for b in BRIGHTNESS]) + 1)).astype(np.uint8)


def ideal(label):
    """E[x | z] where an image is a ramp of a normal brightness, of one class or of both."""
    ramp = jnp.asarray(image(0.0), jnp.float32)[None]

    def predict(z, t):
        a, s = (f(t)[:, None] for f in (SCHEDULE.alpha, SCHEDULE.sigma))
        seen = (z - a[:, :, None, None] * ramp).mean((1, 2, 3))[:, None]  # a b + s ε / 8
        noise = (s / 8) ** 2
        means, variance = jnp.asarray(MEANS)[None], STD**2
        log = -0.5 * (seen - a * means) ** 2 / (a**2 * variance + noise)
        weight = jax.nn.softmax(log, 1)
        if label is not None:
            weight = jax.nn.one_hot(label, 2)
        gain = a * variance / (a**2 * variance + noise)
        b = (weight * (means + gain * (seen - a * means))).sum(1)
        return b[:, None, None, None] + ramp

    return predict


def denoising(**more):
    denoiser = Denoiser(
        predict=lambda state, label: ideal(label),
        schedule=SCHEDULE,
        target=predictions.data,
        steps=lambda: steps.linear(30),
        clip=(-1, 1),
        encode=lambda state, x: x / 127.5 - 1,
        decode=lambda state, keys, x: (x + 1) / 2,
    )
    how = {"latent": SHAPE, "denoiser": denoiser, "classes": 2, **more}
    return Family({}, lambda key, before: ({}, {}), lambda *of: of[2], **how)


def decoding(**more):
    ramp = jnp.asarray(image(0.0), jnp.float32)[None]

    def generate(state, keys, z, label):
        return (jnp.broadcast_to(z[:, :, None, None] * 0.4, (len(z), 8, 8, 1)) + ramp + 1) / 2

    def encode(state, x):
        return (x / 127.5 - 1).mean((1, 2, 3))[:, None] / 0.4

    how = {"latent": (1,), "encode": encode, **more}
    return Family({}, lambda key, before: ({}, {}), generate, **how)


def opened(family, train=PIXELS, labels=LABEL, names=("dark", "bright")):
    images = data.from_arrays(train, labels, test=PIXELS[:12], test_labels=LABEL[:12], names=names)
    state = untrained_state(family, jax.random.key(0))
    return RestoredRun(Path("any"), family, {"experiment": "any", "data": {}}, state, images)
