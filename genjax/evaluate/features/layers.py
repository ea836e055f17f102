"""The layers of feature networks as pure functions, on images [B, H, W, C]."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Padding = str | tuple[int, int]  # "SAME" as in TensorFlow, or zeros on both sides of (H, W)


def conv(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: Padding = (0, 0),
) -> Array:
    """A convolution, in float32 on every device: scores compare features of different machines.

    Args:
      x: [B, H, W, C].
      kernel: [h, w, C, D].
      bias: [D], or None.
      stride: in both directions.
      padding: "SAME", or zeros before and after (H, W).

    Returns:
      [B, H', W', D].
    """
    y = lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding if isinstance(padding, str) else [(p, p) for p in padding],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )
    return y if bias is None else y + bias.reshape(1, 1, 1, -1)


def depthwise(x: Array, kernel: Array, bias: Array, *, stride: int = 1) -> Array:
    """A convolution of each channel by itself, padded as TensorFlow's "SAME".

    It is a sum of shifted images: XLA's own is three to fourteen times slower on a CPU.

    Args:
      x: [B, H, W, C].
      kernel: [h, w, 1, C].
      bias: [C].
      stride: in both directions.

    Returns:
      [B, H', W', C].
    """
    pads, lengths = [], []
    for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        length = -(-n // stride)
        total = max((length - 1) * stride + k - n, 0)
        pads.append((total // 2, total - total // 2))
        lengths.append((length - 1) * stride + 1)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    y = jnp.broadcast_to(bias.reshape(1, 1, 1, -1), (1, 1, 1, x.shape[3]))
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            part = x[:, i : i + lengths[0] : stride, j : j + lengths[1] : stride]
            y = y + part * kernel[i, j].reshape(1, 1, 1, -1)
    return y


def max_pool(x: Array, size: int, stride: int, padding: int = 0) -> Array:
    """The largest value of each window.

    Args:
      x: [B, H, W, C].
      size: of the window, in both directions.
      stride: in both directions.
      padding: of both sides; what is there counts as −∞.

    Returns:
      [B, H', W', C].
    """
    pads = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), pads)


def average_pool(x: Array, size: int = 3) -> Array:
    """The mean of each window of stride 1 over what lies inside the image.

    Args:
      x: [B, H, W, C].
      size: of the window, in both directions.

    Returns:
      [B, H, W, C].
    """
    window = (1, size, size, 1)
    total = lax.reduce_window(x, 0.0, lax.add, window, (1, 1, 1, 1), "SAME")
    ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return total / lax.reduce_window(ones, 0.0, lax.add, window, (1, 1, 1, 1), "SAME")


def dense(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """A linear layer, in float32 on every device.

    Args:
      x: [B, n].
      kernel: [n, m].
      bias: [m], or None.

    Returns:
      [B, m].
    """
    y = jnp.matmul(x, kernel, precision=lax.Precision.HIGHEST)
    return y if bias is None else y + bias.reshape(1, -1)


def folded(
    state: Mapping[str, np.ndarray], conv_name: str, norm_name: str, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """A PyTorch convolution without bias and the BatchNorm behind it, as one convolution.

    Args:
      state: arrays by name, of a PyTorch module in evaluation mode.
      conv_name: the convolution, whose "weight" is [D, C / groups, h, w].
      norm_name: the BatchNorm, with "weight", "bias", "running_mean" and "running_var".
      eps: that is added to the variance.

    Returns:
      The kernel [h, w, C / groups, D] and the bias [D], float32.
    """
    found = {
        name: np.asarray(state[f"{norm_name}.{name}"], np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    scale = found["weight"] / np.sqrt(found["running_var"] + eps)
    kernel = np.asarray(state[f"{conv_name}.weight"], np.float64).transpose(2, 3, 1, 0) * scale
    bias = found["bias"] - found["running_mean"] * scale
    return kernel.astype(np.float32), bias.astype(np.float32)
