"""The Inception network of FID, from a file of the user's own.

FID is defined by one network: TensorFlow's Inception of December 2015, whose weights have been
ported to PyTorch by pytorch-fid. The file, `pt_inception-2015-12-05-6726825d.pth` (torch-fidelity
has the same as `weights-inception-2015-12-05-6726825d.pth`), is 96 MB and comes with neither
package: both download it from their pages on GitHub. Its sha256 decides whether a score may be
called FID.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from genjax.evaluate.features import resizing, weights
from genjax.evaluate.features.layers import Padding, average_pool, conv, dense, folded, max_pool
from genjax.evaluate.features.network import FeatureNetwork

NAME = "inception"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIDE = 299
_EPSILON = 1e-3  # of its BatchNorms
Params = dict[str, Any]


def inception(path: str | Path) -> FeatureNetwork:
    """The Inception network of FID: 2,048 features, the averages over the image of its last layer.

    Args:
      path: a state dict of pytorch-fid's or torch-fidelity's network, as `torch.save` writes it.

    Returns:
      The network "inception" where the file is the standard one, so that its Fréchet distance is
      FID, else "inception (own file)". Images are resized cleanly, as clean-fid does; other
      libraries resize otherwise, and their FID of the same images differs. The logits are without
      the last layer's bias, as of the Inception Score.

    Raises:
      FeatureError: where the file cannot be read, or holds no such network.

    References:
      Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2015),
      arXiv:1512.00567.
      Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
      Equilibrium" (2017), arXiv:1706.08500.
      Salimans et al., "Improved Techniques for Training GANs" (2016), arXiv:1606.03498.
      Parmar, Zhang & Zhu, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation" (2022),
      arXiv:2104.11222.
    """
    data = weights.read_bounded(Path(path).expanduser())
    sha256 = hashlib.sha256(data).hexdigest()
    params = parameters(weights.torch_state_dict(data))
    return FeatureNetwork(
        NAME if sha256 == SHA256 else f"{NAME} (own file)",
        sha256,
        resizing.in_words(SIDE),
        2048,
        Partial(_features, params),
        Partial(_logits, params),
    )


def is_fid(network: FeatureNetwork) -> bool:
    """Whether the Fréchet distance of a network's features is FID.

    Args:
      network: any.

    Returns:
      True for the standard Inception alone, by the sha256 of its weights.
    """
    return network.name == NAME and network.sha256 == SHA256


def parameters(state: dict[str, np.ndarray]) -> Params:
    """The network's parameters, each BatchNorm folded into the convolution before it.

    Args:
      state: arrays by the names of pytorch-fid.

    Returns:
      {name: (kernel, bias)}, and "fc" without bias.

    Raises:
      FeatureError: where arrays are absent, or of other shapes.
    """
    suffix = ".conv.weight"
    names = [name.removesuffix(suffix) for name in state if name.endswith(suffix)]
    try:
        found: Params = {
            name: folded(state, f"{name}.conv", f"{name}.bn", _EPSILON) for name in names
        }
        found["fc"] = np.asarray(state["fc.weight"], np.float32).T
        found = jax.tree.map(jnp.asarray, found)
        logits = jax.eval_shape(_logits, found, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8))
    except (KeyError, TypeError, ValueError) as error:
        raise weights.FeatureError(
            f"the file holds no Inception network of FID: {type(error).__name__} at {error}"
        ) from None
    if found["fc"].shape[0] != 2048 or logits.ndim != 2:
        raise weights.FeatureError("the file holds no Inception network of FID: no 2,048 features")
    return found


def _logits(params: Params, images: Array) -> Array:
    return dense(_features(params, images), params["fc"])


def _features(params: Params, images: Array) -> Array:
    x = (resizing.resized_rgb(images, SIDE) - 128) / 128
    x = _layer(params, "Conv2d_1a_3x3", x, stride=2)
    x = _layer(params, "Conv2d_2a_3x3", x)
    x = max_pool(_layer(params, "Conv2d_2b_3x3", x, padding=(1, 1)), 3, 2)
    x = _layer(params, "Conv2d_3b_1x1", x)
    x = max_pool(_layer(params, "Conv2d_4a_3x3", x), 3, 2)
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = _mixed_35(params, name, x)
    x = _reduced_17(params, "Mixed_6a", x)
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = _mixed_17(params, name, x)
    x = _reduced_8(params, "Mixed_7a", x)
    x = _mixed_8(params, "Mixed_7b", x, average_pool(x))
    # The network of FID has a maximum here, where the paper has an average.
    x = _mixed_8(params, "Mixed_7c", x, max_pool(x, 3, 1, 1))
    return x.mean((1, 2))


def _layer(
    params: Params, name: str, x: Array, *, stride: int = 1, padding: Padding = (0, 0)
) -> Array:
    return jax.nn.relu(conv(x, *params[name], stride=stride, padding=padding))


def _chain(params: Params, name: str, x: Array, *parts: str) -> Array:
    """Layers of one branch in turn, of stride 1 and the padding that keeps the image's size."""
    for part in parts:
        x = _layer(params, f"{name}.{part}", x, padding="SAME")
    return x


def _mixed_35(params: Params, name: str, x: Array) -> Array:
    branches = [
        _chain(params, name, x, "branch1x1"),
        _chain(params, name, x, "branch5x5_1", "branch5x5_2"),
        _chain(params, name, x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
        _chain(params, name, average_pool(x), "branch_pool"),
    ]
    return jnp.concatenate(branches, -1)


def _reduced_17(params: Params, name: str, x: Array) -> Array:
    double = _chain(params, name, x, "branch3x3dbl_1", "branch3x3dbl_2")
    branches = [
        _layer(params, f"{name}.branch3x3", x, stride=2),
        _layer(params, f"{name}.branch3x3dbl_3", double, stride=2),
        max_pool(x, 3, 2),
    ]
    return jnp.concatenate(branches, -1)


def _mixed_17(params: Params, name: str, x: Array) -> Array:
    branches = [
        _chain(params, name, x, "branch1x1"),
        _chain(params, name, x, *(f"branch7x7_{i}" for i in range(1, 4))),
        _chain(params, name, x, *(f"branch7x7dbl_{i}" for i in range(1, 6))),
        _chain(params, name, average_pool(x), "branch_pool"),
    ]
    return jnp.concatenate(branches, -1)


def _reduced_8(params: Params, name: str, x: Array) -> Array:
    first = _chain(params, name, x, "branch3x3_1")
    second = _chain(params, name, x, *(f"branch7x7x3_{i}" for i in range(1, 4)))
    branches = [
        _layer(params, f"{name}.branch3x3_2", first, stride=2),
        _layer(params, f"{name}.branch7x7x3_4", second, stride=2),
        max_pool(x, 3, 2),
    ]
    return jnp.concatenate(branches, -1)


def _mixed_8(params: Params, name: str, x: Array, pooled: Array) -> Array:
    single = _chain(params, name, x, "branch3x3_1")
    double = _chain(params, name, x, "branch3x3dbl_1", "branch3x3dbl_2")
    branches = [
        _chain(params, name, x, "branch1x1"),
        *(_chain(params, name, single, f"branch3x3_2{i}") for i in "ab"),
        *(_chain(params, name, double, f"branch3x3dbl_3{i}") for i in "ab"),
        _chain(params, name, pooled, "branch_pool"),
    ]
    return jnp.concatenate(branches, -1)
