"""The layers that networks share: dropout, convolution, attention, time and class."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import convolution
from genjax.models.attention import attend
from genjax.models.normalization import GroupNorm


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), and NaN for NaN, for networks that convolve."""
    # A selection: a maximum XLA would compute once more within every transpose of its values, which
    # the gradients of convolutions need on the CPU, and which then take up to five times as long.
    return jnp.where(x <= 0, 0, x)


class Dropout(nn.Module):
    """x [B, ...] with a share `rate` of its elements set to zero and the rest scaled to match.

    keys: one PRNG key per example, [B]: example i's mask depends on keys[i] and this layer's place
    in the network alone, so that it is the same however many devices share the batch. None, when
    not training, for x as it is.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        if keys is None or self.rate == 0:
            return x
        place = zlib.crc32("/".join(self.path).encode())

        def mask(key: jax.Array) -> jax.Array:
            return jax.random.bernoulli(jax.random.fold_in(key, place), 1 - self.rate, x.shape[1:])

        return jnp.where(jax.vmap(mask)(keys), x / (1 - self.rate), 0).astype(x.dtype)


class _Convolution(nn.Module):
    """A kernel and a bias named, shaped and drawn as linen's, so that checkpoints fit both."""

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: convolution.Padding = "SAME"
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = (
            self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            if self.use_bias
            else None
        )
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = self.apply_kernel(x, kernel)
        return y if bias is None else y + bias[None, None, None]

    def apply_kernel(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        raise NotImplementedError


class Conv(_Convolution):
    """linen's Conv on images [B, H, W, C]: the same parameters and values, faster on a CPU."""

    def apply_kernel(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution.conv(x, kernel, stride=self.strides, padding=self.padding)


class ConvTranspose(_Convolution):
    """linen's ConvTranspose on [B, H, W, C]: the same parameters and values, faster on a CPU."""

    def apply_kernel(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution.conv_transpose(x, kernel, stride=self.strides, padding=self.padding)


class UpsampleConv(_Convolution):
    """Every pixel doubled both ways, then Conv: [B, H, W, C] -> [B, 2H, 2W, features]."""

    def apply_kernel(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution.conv_upsampled(x, kernel)


class Projection(nn.Module):
    """linen's Dense on every pixel of [B, H, W, C]: the same parameters and values, faster on a
    CPU."""

    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape[1:], self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return convolution.conv(x, kernel[None, None]) + bias[None, None, None]


class Attention(nn.Module):
    """Self-attention of all pixels, softmax(q kᵀ / √d) v, added to its input (Ho et al. 2020).

    x is [B, H, W, C]; the output projection starts at zero, so that the layer starts as identity.
    """

    head_features: int = 64
    groups: int = 32
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        d = min(self.head_features, c)
        if c % d:
            raise ValueError(f"{c} channels do not divide into heads of {d}")
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        qkv = Projection(3 * c, name="qkv", **kinds)(GroupNorm(self.groups, **kinds)(x))
        qkv = qkv.reshape(b, h * w, 3, c // d, d)
        y = attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(x.shape)
        out = Projection(c, kernel_init=nn.initializers.zeros, name="out", **kinds)
        return x + out(y)


def time_embedding(t: jax.Array, features: int, *, scale: float = 1000.0) -> jax.Array:
    """[sin(scale t ωᵢ), cos(scale t ωᵢ)] with ωᵢ from 1 down to 1/10000, for t [B] in [0, 1].

    Vaswani et al. 2017, with the 1,000 time steps of DDPM. -> [B, features]
    """
    if features % 2:
        raise ValueError(f"the embedding needs an even number of features, not {features}")
    half = features // 2
    omega = jnp.exp(-jnp.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / max(half - 1, 1))
    angle = scale * t.astype(jnp.float32)[:, None] * omega[None]  # [B, features / 2]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


class ClassEmbedding(nn.Module):
    """label [B] in 0..classes -> [B, features], where the label `classes` means "no class"."""

    classes: int
    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, label: jax.Array | None, batch: int) -> jax.Array:
        if label is None:
            label = jnp.full((batch,), self.classes)
        return nn.Embed(
            self.classes + 1, self.features, dtype=self.dtype, param_dtype=self.param_dtype
        )(label)
