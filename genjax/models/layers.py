"""Layers that networks share: dropout, convolution, attention, the embedding of the time."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import convolution
from genjax.models.attention import attend
from genjax.models.normalization import GroupNorm


def relu(x: jax.Array) -> jax.Array:
    """ReLU, with NaN for NaN, for convolutional networks.

    Args:
      x: any array.

    Returns:
      max(x, 0).
    """
    # A `where`: XLA would recompute a maximum in every transpose of its values that the gradients
    # of convolutions need on the CPU, which then take up to five times as long.
    return jnp.where(x <= 0, 0, x)


class Dropout(nn.Module):
    """Dropout with one PRNG key per example.

    The mask of example i depends on keys[i] and on the path of this layer in the network alone, so
    that it is the same however many devices share the batch.

    Args:
      rate: probability of zeroing an element.

    Returns:
      From x [B, ...] and keys [B]: x with elements set to zero and the others divided by 1 − rate;
      x itself where keys is None.

    References:
      Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (JMLR
      2014).
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
    """A kernel and a bias named, shaped and initialised as linen's, so that checkpoints fit both.

    Args:
      features: output channels.
      kernel_size: of rows and columns.
      strides: of rows and columns.
      padding: as in `convolution.conv`.
      use_bias: whether to add a bias.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.
      kernel_init: initializer of the kernel.
      bias_init: initializer of the bias.
    """

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
        """The linear part of the layer.

        Args:
          x: images, [B, H, W, C].
          kernel: [kh, kw, C, features].

        Returns:
          [B, H', W', features].
        """
        raise NotImplementedError


class Conv(_Convolution):
    """linen's Conv on images [B, H, W, C]: the same parameters and values, faster on the CPU."""

    def apply_kernel(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution.conv(x, kernel, stride=self.strides, padding=self.padding)


class ConvTranspose(_Convolution):
    """linen's ConvTranspose on [B, H, W, C]: the same parameters and values, faster on the CPU."""

    def apply_kernel(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution.conv_transpose(x, kernel, stride=self.strides, padding=self.padding)


class UpsampleConv(_Convolution):
    """Nearest-neighbour upsampling by 2, then Conv: [B, H, W, C] -> [B, 2H, 2W, features]."""

    def apply_kernel(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution.conv_upsampled(x, kernel)


class Projection(nn.Module):
    """linen's Dense on every pixel: the same parameters and values, faster on the CPU.

    Args:
      features: output channels.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.
      kernel_init: initializer of the kernel.

    Returns:
      From [B, H, W, C]: [B, H, W, features].
    """

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
    """Residual self-attention over all pixels, with GroupNorm first.

    The output projection is initialised at zero, so that the layer starts as the identity.

    Args:
      head_features: channels of a head; at most all C.
      groups: of the GroupNorm.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C]: x + attention(norm(x)), of the same shape.

    Raises:
      ValueError: where C is no multiple of `head_features`.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, appendix B.
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


def time_embedding(
    t: jax.Array, features: int, *, scale: float = 1000.0, endpoint: bool = True
) -> jax.Array:
    r"""The sinusoidal embedding of times.

    $$
    \bigl[\sin(s\, t\, \omega_i),\; \cos(s\, t\, \omega_i)\bigr], \qquad
    \omega_i = 10000^{-i / (n/2 - 1)}, \quad i = 0 \dots n/2 - 1
    $$

    Args:
      t: times in [0, 1], [B].
      features: n, even.
      scale: s; the default is the 1,000 time steps of DDPM.
      endpoint: whether the last ω is 1/10,000, as in DDPM; the exponent is −i / (n/2) else, as in
        DiT.

    Returns:
      [B, features].

    Raises:
      ValueError: where `features` is odd.

    References:
      Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762, section 3.5.
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, appendix B.
    """
    if features % 2:
        raise ValueError(f"the embedding needs an even number of features, not {features}")
    half = features // 2
    steps = max(half - 1, 1) if endpoint else half
    omega = jnp.exp(-jnp.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / steps)
    angle = scale * t.astype(jnp.float32)[:, None] * omega[None]  # [B, features / 2]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
