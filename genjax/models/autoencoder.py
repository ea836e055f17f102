"""Encoders and decoders between images and codes, dense and convolutional."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models.layers import Conv, ConvTranspose, relu


class DenseEncoder(nn.Module):
    """[B, ...] -> code [B, latent]: a layer of each width with `activation`, then a linear one."""

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
    """Code [B, latent] -> logits [B, *shape]: a layer of each width, then a linear one.

    bias_init: of the linear layer, called with the shape (prod(shape),).
    """

    shape: tuple[int, ...] = (28, 28, 1)
    widths: tuple[int, ...] = (64,)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        kinds["kernel_init"] = self.kernel_init
        for width in self.widths:
            z = self.activation(nn.Dense(width, **kinds)(z))
        z = nn.Dense(math.prod(self.shape), bias_init=self.bias_init, **kinds)(z)
        return z.reshape(z.shape[0], *self.shape)


class ConvEncoder(nn.Module):
    """Image [B, H, W, C] -> code [B, latent]: a 4x4 stride-2 convolution for each width.

    H and W must be divisible by 2 to the number of widths.
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
    """Code [B, latent] -> logits [B, H, W, C]: the mirror of ConvEncoder with the widths reversed.

    `widths[i]` are the channels before the i-th doubling; shape is (H, W, C), H and W divisible
    by 2 to the number of widths.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    widths: tuple[int, ...] = (64, 32)
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        h, w, c = self.shape
        _divisible((h, w), len(self.widths))
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        h, w = h >> len(self.widths), w >> len(self.widths)
        z = relu(nn.Dense(h * w * self.widths[0], **kinds)(z))
        z = z.reshape(z.shape[0], h, w, self.widths[0])
        for width in self.widths[1:]:
            z = relu(ConvTranspose(width, (4, 4), strides=(2, 2), **kinds)(z))
        return ConvTranspose(c, (4, 4), strides=(2, 2), **kinds)(z)


class GaussianEncoder(nn.Module):
    """Image -> (mean, log_var), each [B, n]: the halves of what `network` gives, [B, 2n].

    The diagonal Gaussian posterior of a VAE (Kingma & Welling 2014).
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
