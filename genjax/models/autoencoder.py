"""Encoders from images to codes and decoders back, dense and convolutional."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning
from genjax.models.layers import Conv, ConvTranspose, relu


class DenseEncoder(nn.Module):
    """An MLP from images to codes: dense layers with an activation, then a linear layer.

    Args:
      widths: features of each hidden layer.
      latent: features of the code.
      activation: of the hidden layers.
      kernel_init: initializer of the kernels.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From images [B, ...]: codes [B, latent].
    """

    widths: tuple[int, ...] = (64,)
    latent: int = 16
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        kinds["kernel_init"] = self.kernel_init
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = self.activation(nn.Dense(width, **kinds)(x))
        return nn.Dense(self.latent, **kinds)(x)


class DenseDecoder(nn.Module):
    """An MLP from codes to logits of images: dense layers with an activation, then a linear layer.

    Args:
      shape: of one image.
      widths: features of each hidden layer.
      activation: of the hidden layers.
      kernel_init: initializer of the kernels.
      bias_init: initializer of the linear layer's bias, called with the shape (prod(shape),).
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From codes [B, latent] and labels [B] in 0..K: logits [B, *shape]. The label K, and None for
      labels, mean "no class".

    Raises:
      ValueError: for labels where `classes` is None.
    """

    shape: tuple[int, ...] = (28, 28, 1)
    widths: tuple[int, ...] = (64,)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None) -> jax.Array:
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        kinds["kernel_init"] = self.kernel_init
        z = conditioning.beside(z, label, self.classes)
        for width in self.widths:
            z = self.activation(nn.Dense(width, **kinds)(z))
        z = nn.Dense(math.prod(self.shape), bias_init=self.bias_init, **kinds)(z)
        return z.reshape(z.shape[0], *self.shape)


class ConvEncoder(nn.Module):
    """A convolutional encoder: 4x4 stride-2 convolutions with ReLU, then a linear layer.

    Args:
      widths: channels of each convolution.
      latent: features of the code.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From images [B, H, W, C], H and W divisible by 2 to the number of widths: codes [B, latent].

    Raises:
      ValueError: where H or W is not divisible.
    """

    widths: tuple[int, ...] = (32, 64)
    latent: int = 16
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _divisible(x.shape[1:3], len(self.widths))
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for width in self.widths:
            x = relu(Conv(width, (4, 4), strides=(2, 2), **kinds)(x))
        return nn.Dense(self.latent, **kinds)(x.reshape(x.shape[0], -1))


class ConvDecoder(nn.Module):
    """A convolutional decoder: a dense layer, then 4x4 stride-2 transposed convolutions with ReLU.

    It mirrors ConvEncoder with the widths reversed; the last convolution is linear.

    Args:
      shape: (H, W, C) of an image, H and W divisible by 2 to the number of widths.
      widths: channels before each doubling of the resolution.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From codes [B, latent] and labels [B] in 0..K: logits [B, H, W, C]. The label K, and None for
      labels, mean "no class".

    Raises:
      ValueError: where H or W is not divisible, or for labels where `classes` is None.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    widths: tuple[int, ...] = (64, 32)
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None) -> jax.Array:
        h, w, c = self.shape
        _divisible((h, w), len(self.widths))
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h, w = h >> len(self.widths), w >> len(self.widths)
        z = conditioning.beside(z, label, self.classes)
        z = relu(nn.Dense(h * w * self.widths[0], **kinds)(z))
        z = z.reshape(z.shape[0], h, w, self.widths[0])
        for width in self.widths[1:]:
            z = relu(ConvTranspose(width, (4, 4), strides=(2, 2), **kinds)(z))
        return ConvTranspose(c, (4, 4), strides=(2, 2), **kinds)(z)


class GaussianEncoder(nn.Module):
    """The diagonal Gaussian posterior of a VAE.

    Args:
      network: images -> [B, 2n].

    Returns:
      From images: (mean, log_var), the two halves of the network's output, [B, n] each.

    Raises:
      ValueError: where the network's last axis is odd.

    References:
      Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), arXiv:1312.6114, appendix C.
    """

    network: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        code = self.network(x)
        if code.shape[-1] % 2:
            raise ValueError(f"mean and log_var need an even last axis, not shape {code.shape}")
        mean, log_var = jnp.split(code, 2, axis=-1)
        return mean, log_var


def _divisible(size: tuple[int, ...], halvings: int) -> None:
    if any(n % 2**halvings for n in size):
        raise ValueError(f"{halvings} halvings need sides divisible by {2**halvings}, not {size}")
