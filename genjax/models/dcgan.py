"""The generator and critic of the TensorFlow DCGAN tutorial, for images of any size."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning
from genjax.models.layers import Conv, ConvTranspose, Dropout
from genjax.models.normalization import BatchNorm, MinibatchStddev
from genjax.models.resampling import lowest


class Generator(nn.Module):
    """The generator of DCGAN.

    A dense layer to the lowest resolution with widths[0] channels; a 5x5 transposed convolution for
    each further width, the first of stride 1, the others of stride 2; and a last one of stride 2 to
    C channels with tanh. Each but the last is followed by BatchNorm and LeakyReLU(0.3).

    Args:
      shape: (H, W, C) of an image, H and W divisible by 2 to the number of widths less one.
      widths: channels at each layer.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From noise [B, n] and labels [B] in 0..K: images in (−1, 1), [B, H, W, C]. The label K, and
      None for labels, mean "no class". `train` normalises by the batch's statistics and updates
      "batch_stats".

    Raises:
      ValueError: where H or W is not divisible, or for labels where `classes` is None.

    References:
      Radford, Metz & Chintala, "Unsupervised Representation Learning with Deep Convolutional
      Generative Adversarial Networks" (2016), arXiv:1511.06434.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    widths: tuple[int, ...] = (256, 128, 64)
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        (h, w), c = lowest(self.shape, len(self.widths) - 1), self.shape[2]
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        z = conditioning.beside(z, label, self.classes)
        # BatchNorm would subtract a bias again.
        x = nn.Dense(h * w * self.widths[0], use_bias=False, **kinds)(z)
        x = nn.leaky_relu(BatchNorm(**kinds)(x, train=train), 0.3)
        x = x.reshape(x.shape[0], h, w, self.widths[0])
        for i, width in enumerate(self.widths[1:]):
            stride = (2, 2) if i else (1, 1)
            x = ConvTranspose(width, (5, 5), strides=stride, use_bias=False, **kinds)(x)
            x = nn.leaky_relu(BatchNorm(**kinds)(x, train=train), 0.3)
        return jnp.tanh(ConvTranspose(c, (5, 5), strides=(2, 2), use_bias=False, **kinds)(x))


class Critic(nn.Module):
    """The critic of DCGAN: 5x5 stride-2 convolutions with LeakyReLU(0.3) and dropout.

    Args:
      widths: channels of each convolution.
      dropout: probability.
      spectral_norm: whether every kernel, as a matrix [kh·kw·C, D], is divided by its largest
        singular value.
      minibatch_stddev: whether the last layer also sees the `MinibatchStddev` of its input.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From images [B, H, W, C] and labels [B] in 0..K: logits [B], high for real images, of their
      class where there are classes. The label K, and None for labels, mean "no class". keys: one
      PRNG key per example [B], for the dropout, or None for no dropout. `train` takes one step of
      the power iteration of the spectral norm, which is in "batch_stats".

    Raises:
      ValueError: for labels where `classes` is None.

    References:
      Radford, Metz & Chintala, "Unsupervised Representation Learning with Deep Convolutional
      Generative Adversarial Networks" (2016), arXiv:1511.06434.
      Miyato et al., "Spectral Normalization for Generative Adversarial Networks" (2018),
      arXiv:1802.05957.
    """

    widths: tuple[int, ...] = (64, 128)
    dropout: float = 0.3
    spectral_norm: bool = False
    minibatch_stddev: bool = False
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        label: jax.Array | None = None,
        *,
        keys: jax.Array | None = None,
        train: bool = False,
    ) -> jax.Array:
        conditioning.check(label, self.classes)
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def normed(layer: nn.Module, *inputs: jax.Array | None) -> jax.Array:
            if not self.spectral_norm:
                return layer(*inputs)
            return nn.SpectralNorm(layer, **kinds)(*inputs, update_stats=train)

        for width in self.widths:
            x = nn.leaky_relu(normed(Conv(width, (5, 5), strides=(2, 2), **kinds), x), 0.3)
            x = Dropout(self.dropout)(x, keys)
        if self.minibatch_stddev:
            x = MinibatchStddev()(x)
        x = x.reshape(x.shape[0], -1)
        logits = normed(nn.Dense(1, **kinds), x)[:, 0]
        if self.classes is None:
            return logits
        return logits + normed(conditioning.ClassProjection(self.classes, **kinds), x, label)
