"""The generator and critic of the TensorFlow DCGAN tutorial, at any size and in colour too."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models.layers import Conv, ConvTranspose, Dropout
from genjax.models.normalization import BatchNorm, MinibatchStddev


class Generator(nn.Module):
    """Noise [B, n] -> image [B, H, W, C] in (−1, 1), after Radford et al. 2016.

    Dense to the smallest image of widths[0] channels, a 5x5 transposed convolution for each
    further width, the first without stride and the others doubling the image, and one more
    doubling to C channels with tanh; each but the last followed by BatchNorm and LeakyReLU(0.3).
    H and W must be divisible by 2 to the number of widths less one.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    widths: tuple[int, ...] = (256, 128, 64)
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool = False) -> jax.Array:
        h, w, c = self.shape
        doublings = len(self.widths) - 1
        if h % 2**doublings or w % 2**doublings:
            raise ValueError(
                f"{doublings} doublings need sides divisible by {2**doublings}, not {(h, w)}"
            )
        h, w = h >> doublings, w >> doublings
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        # A bias before BatchNorm would be subtracted again.
        x = nn.Dense(h * w * self.widths[0], use_bias=False, **kinds)(z)
        x = nn.leaky_relu(BatchNorm(**kinds)(x, train=train), 0.3)
        x = x.reshape(x.shape[0], h, w, self.widths[0])
        for i, width in enumerate(self.widths[1:]):
            stride = (2, 2) if i else (1, 1)
            x = ConvTranspose(width, (5, 5), strides=stride, use_bias=False, **kinds)(x)
            x = nn.leaky_relu(BatchNorm(**kinds)(x, train=train), 0.3)
        return jnp.tanh(ConvTranspose(c, (5, 5), strides=(2, 2), use_bias=False, **kinds)(x))


class Critic(nn.Module):
    """Image [B, H, W, C] -> logit [B], high for real: 5x5 stride-2 convolutions, one a width.

    Each is followed by LeakyReLU(0.3) and dropout. keys: one PRNG key per example, [B], for the
    dropout; None when not training.
    spectral_norm: every kernel, as a matrix [kh·kw·C, D], is divided by its largest singular value
        (Miyato et al. 2018); `train` takes one step of the power iteration in "batch_stats".
    minibatch_stddev: the last layer also sees MinibatchStddev of its features.
    """

    widths: tuple[int, ...] = (64, 128)
    dropout: float = 0.3
    spectral_norm: bool = False
    minibatch_stddev: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, keys: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def normed(layer: nn.Module, x: jax.Array) -> jax.Array:
            if not self.spectral_norm:
                return layer(x)
            return nn.SpectralNorm(layer, **kinds)(x, update_stats=train)

        for width in self.widths:
            x = nn.leaky_relu(normed(Conv(width, (5, 5), strides=(2, 2), **kinds), x), 0.3)
            x = Dropout(self.dropout)(x, keys)
        if self.minibatch_stddev:
            x = MinibatchStddev()(x)
        return normed(nn.Dense(1, **kinds), x.reshape(x.shape[0], -1))[:, 0]
