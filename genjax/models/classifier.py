"""A small convolutional classifier, whose features scores of image sets compare."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models.layers import Conv, Dropout, relu


class Classifier(nn.Module):
    """3x3 convolutions, each followed by ReLU and the maximum of 2x2 pixels, and two dense layers.

    Args:
      widths: channels of each convolution.
      features: width of the layer before the last.
      classes: K.
      dropout: probability of zeroing a feature in training.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From images [B, H, W, C] in 0..1: features [B, n] and logits [B, K]. keys: one PRNG key per
      example [B], for the dropout, or None for no dropout.
    """

    widths: tuple[int, ...] = (16, 32)
    features: int = 128
    classes: int = 10
    dropout: float = 0.4
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = 2 * x - 1
        for width in self.widths:
            x = relu(Conv(width, (3, 3), **kinds)(x))
            x = nn.max_pool(x, (2, 2), (2, 2), "SAME")
        features = relu(nn.Dense(self.features, **kinds)(x.reshape(x.shape[0], -1)))
        logits = nn.Dense(self.classes, **kinds)(Dropout(self.dropout)(features, keys))
        return features, logits
