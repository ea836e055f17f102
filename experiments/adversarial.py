"""What the GANs here share: how images are augmented for the critic, and how a family samples."""

from typing import Literal

import jax
import jax.numpy as jnp

from genjax.evaluate.sliced_wasserstein import sliced_wasserstein
from genjax.keys import fold_in, normal
from genjax.losses import adaptive_augmentation as adaptive
from genjax.losses.augmentation import diff_augment, horizontal_flip
from genjax.run import Family

Augment = Literal["none", "flip", "diff", "ada"]
FEW = 10_000  # images below which a critic learns them by heart (arXiv:2006.06676, figure 1)


class Augmentation:
    """What the critic sees in place of real and generated images, in both players' turns.

    Args:
      kind: "none"; "flip": half of the real images mirrored, so that the generator draws mirrored
        ones as well; "diff": DiffAugment; "ada": transformations of a probability that rises while
        the critic overfits, kept as state.variables["augmentation"].
    """

    def __init__(self, kind: Augment):
        self.kind = kind

    def variables(self):
        return {"augmentation": adaptive.start()} if self.kind == "ada" else {}

    def __call__(self, images, keys, state, *, real=False):
        keys = fold_in(keys, 1)  # others than the layers'
        if self.kind == "ada":
            probability = state.variables["augmentation"]["probability"]
            return adaptive.augment(images, keys, probability)
        if self.kind == "diff":
            return diff_augment(images, keys)
        return horizontal_flip(images, keys) if self.kind == "flip" and real else images

    def adapt(self, state, real):
        """Metrics and variables of the critic's turn, from its outputs for real images."""
        if self.kind != "ada":
            return {}, {}
        changed = adaptive.adapt(state.variables["augmentation"], real)
        signs = {"sign": jnp.sign(real).mean(), "augment": changed["probability"]}
        return signs, {"augmentation": changed}


def sampling_family(game, init, generate, latent: int, classes: int | None = None) -> Family:
    """The family of a generator that is judged by its samples."""

    def validate(state, keys, batch):
        label = batch["label"] if classes else None
        images = generate(state, keys, normal(keys, (len(keys), latent)), label)
        distance = sliced_wasserstein(images, batch["image"] / 255, keys[0])
        return {"sliced_wasserstein": jnp.full(len(images), distance)}  # one for the global batch

    how = {"latent": (latent,), "validate": validate, "classes": classes, "few": FEW}
    return Family(game, init, generate, **how)


def probabilities(real: jax.Array, fake: jax.Array):
    """Metrics of a critic of raw outputs: what it takes real and generated images for."""
    return {"real": jax.nn.sigmoid(real).mean(), "fake": jax.nn.sigmoid(fake).mean()}
