"""Dense generator and discriminator, as in the original GAN."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning
from genjax.models.layers import Dropout


class Generator(nn.Module):
    """An MLP from noise to images: dense layers with ReLU, then a linear layer and tanh.

    Args:
      shape: of one image.
      widths: features of each hidden layer.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From noise [B, n] and labels [B] in 0..K: images in (−1, 1), [B, *shape]. The label K, and
      None for labels, mean "no class".

    Raises:
      ValueError: for labels where `classes` is None.

    References:
      Goodfellow et al., "Generative Adversarial Nets" (2014), arXiv:1406.2661.
    """

    shape: tuple[int, ...] = (28, 28, 1)
    widths: tuple[int, ...] = (256,)
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        z = conditioning.beside(z, label, self.classes)
        for width in self.widths:
            z = nn.relu(nn.Dense(width, **kinds)(z))
        z = jnp.tanh(nn.Dense(math.prod(self.shape), **kinds)(z))
        return z.reshape(z.shape[0], *self.shape)


class Discriminator(nn.Module):
    """An MLP from images to logits: dense layers with LeakyReLU(0.2) and dropout.

    Args:
      widths: features of each hidden layer.
      dropout: probability.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From images [B, ...] and labels [B] in 0..K: logits [B], high for real images, of their class
      where there are classes. The label K, and None for labels, mean "no class". keys: one PRNG key
      per example [B], for the dropout, or None for no dropout.

    Raises:
      ValueError: for labels where `classes` is None.

    References:
      Goodfellow et al., "Generative Adversarial Nets" (2014), arXiv:1406.2661.
    """

    widths: tuple[int, ...] = (256,)
    dropout: float = 0.0
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, keys: jax.Array | None = None
    ) -> jax.Array:
        conditioning.check(label, self.classes)
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = nn.leaky_relu(nn.Dense(width, **kinds)(x), 0.2)
            x = Dropout(self.dropout)(x, keys)
        logits = nn.Dense(1, **kinds)(x)[:, 0]
        if self.classes is None:
            return logits
        return logits + conditioning.ClassProjection(self.classes, **kinds)(x, label)
