"""Networks whose output i sees the inputs before i alone, and how images are drawn from them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning


class MaskedDense(nn.Module):
    """A dense layer in which unit j sees the inputs of a lower degree alone.

    Args:
      below: degrees of the inputs.
      above: degrees of the units: j sees i where below[i] < above[j].
      kernel_init: initializer of the kernel.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, len(below)]: [B, len(above)].
    """

    below: tuple[int, ...]
    above: tuple[int, ...]
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (len(self.below), len(self.above))
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape[1:], self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        seen = jnp.array(self.below)[:, None] < jnp.array(self.above)[None]
        return x @ jnp.where(seen, kernel, 0) + bias[None]


class MADE(nn.Module):
    """A masked autoencoder: all conditionals p(x_i | x_1 … x_{i−1}) of binary pixels in one pass.

    Pixels are in the order of rows, columns and channels. A hidden unit of degree k sees the first
    k pixels; degrees run evenly from 1 to D − 1 in every hidden layer. Further connections lead
    from the pixels straight to the logits.

    Args:
      widths: features of each hidden layer.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From binary images [B, H, W, C] and labels [B] in 0..K: logits of the pixels, [B, H, W, C].
      The label K, and None for labels, mean "no class".

    Raises:
      ValueError: for labels where `classes` is None.

    References:
      Germain et al., "MADE: Masked Autoencoder for Distribution Estimation" (2015),
      arXiv:1502.03509, eq. 8 to 13.
    """

    widths: tuple[int, ...] = (500, 500)
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None = None) -> jax.Array:
        conditioning.check(label, self.classes)
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        shape, x = x.shape, x.reshape(len(x), -1)
        size = x.shape[1]
        numbers = below = tuple(range(1, size + 1))
        pixels = h = 2 * x - 1
        for i, width in enumerate(self.widths):
            degrees = tuple(1 + j * (size - 1) // width for j in range(width))
            h = MaskedDense(below, tuple(k + 1 for k in degrees), **kinds)(h)
            if self.classes is not None and i == 0:
                h += conditioning.ClassEmbedding(self.classes, width, **kinds)(label, len(h))
            below, h = degrees, nn.relu(h)
        logits = MaskedDense(below, numbers, **kinds)(h)
        direct = MaskedDense(
            numbers, numbers, kernel_init=nn.initializers.zeros, name="direct", **kinds
        )
        return (logits + direct(pixels)).reshape(shape)


def draw_binary(logits: Callable[[jax.Array], jax.Array], uniform: jax.Array) -> jax.Array:
    """Binary images drawn pixel by pixel, with one call of the network for each.

    Args:
      logits: binary images [B, H, W, C] -> logits [B, H, W, C], of which number i depends on the
        pixels before i alone.
      uniform: numbers in 0..1, [B, H, W, C]: a pixel is 1 where its number is below its
        probability.

    Returns:
      [B, H, W, C], 0 or 1.
    """
    shape = uniform.shape
    thresholds = uniform.reshape(len(uniform), -1)

    def step(i: int, x: jax.Array) -> jax.Array:
        row = logits(x.reshape(shape)).reshape(x.shape)
        odds = jax.lax.dynamic_index_in_dim(row, i, 1, keepdims=False)
        limit = jax.lax.dynamic_index_in_dim(thresholds, i, 1, keepdims=False)
        pixel = (limit < jax.nn.sigmoid(odds)).astype(x.dtype)
        return jax.lax.dynamic_update_index_in_dim(x, pixel, i, 1)

    x = jax.lax.fori_loop(0, thresholds.shape[1], step, jnp.zeros_like(thresholds))
    return x.reshape(shape)
