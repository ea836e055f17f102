"""The convolutional autoencoder of VQ-VAE: images to a small grid of vectors, and back."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models.layers import Conv, ConvTranspose, Projection, relu


class _Coder(nn.Module):
    """What encoder and decoder share: their sizes, and the residual blocks between them.

    Args:
      channels: C at the lowest resolution; half as many next to the image.
      halvings: of the resolution, at least one.
      blocks: residual blocks.
      block_channels: channels within a residual block.
      latent: D, numbers of a vector at a position.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.
    """

    channels: int = 128
    halvings: int = 2
    blocks: int = 2
    block_channels: int = 32
    latent: int = 64
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def _kinds(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    def _residual(self, x: jax.Array) -> jax.Array:
        """x + conv1(relu(conv3(relu(x)))), as often as there are blocks; the last ReLU behind."""
        for i in range(self.blocks):
            name = f"block_{i}"
            h = Conv(self.block_channels, name=f"{name}_conv_0", **self._kinds)(relu(x))
            x = x + Projection(self.channels, name=f"{name}_conv_1", **self._kinds)(relu(h))
        return relu(x)


class Encoder(_Coder):
    """Strided convolutions of 4x4, one of 3x3, residual blocks and a linear layer per position.

    Returns:
      From images [B, H, W, channels], H and W divisible by f = 2^halvings: [B, H / f, W / f, D], of
      x's dtype.

    Raises:
      ValueError: where H or W is not divisible.

    References:
      van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017),
      arXiv:1711.00937, section 4.1, with the convolution of 3x3 of the authors' code.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        given, unit = x, 2**self.halvings
        if any(side % unit for side in x.shape[1:3]):
            raise ValueError(f"the encoder needs sides divisible by {unit}, not {x.shape[1:3]}")
        for i in range(self.halvings):
            width = self.channels if i else max(1, self.channels // 2)
            x = Conv(width, (4, 4), strides=(2, 2), name=f"down_{i}", **self._kinds)(x)
            x = relu(x)
        x = self._residual(Conv(self.channels, name="conv", **self._kinds)(x))
        return Projection(self.latent, name="latent_out", **self._kinds)(x).astype(given.dtype)


class Decoder(_Coder):
    """The encoder in reverse, with transposed convolutions.

    Args:
      out_channels: of an image.

    Returns:
      From vectors [B, h, w, D]: images [B, f h, f w, out_channels], f = 2^halvings, of z's dtype.

    References:
      van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017),
      arXiv:1711.00937, section 4.1.
    """

    out_channels: int = 3

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = self._residual(Conv(self.channels, name="conv", **self._kinds)(z))
        for i in reversed(range(self.halvings)):
            width = self.channels if i > 1 else max(1, self.channels // 2)
            width = width if i else self.out_channels
            how: dict[str, Any] = {"strides": (2, 2), "name": f"up_{i}", **self._kinds}
            x = ConvTranspose(width, (4, 4), **how)(x)
            x = relu(x) if i else x
        return x.astype(z.dtype)
