"""The critic of pix2pix and VQGAN, which judges patches of an image."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models.layers import Conv
from genjax.models.normalization import BatchNorm

_NORMAL = nn.initializers.normal(0.02)


class PatchCritic(nn.Module):
    """4x4 convolutions with LeakyReLU(0.2), the first `layers` of stride 2, BatchNorm in between.

    A batch of real and one of generated images are normalised by their own statistics, in the
    generator's turn too; running ones are not kept, as nothing is judged after training.

    Args:
      channels: of the first convolution; they double at each further one, up to eight times.
      layers: halvings of the resolution.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From images [B, H, W, C]: a logit per patch, high for real ones,
      [B, H / 2^layers − 2, W / 2^layers − 2]. With three layers a patch has 70x70 pixels.

    Raises:
      ValueError: where the image is too small for one patch.

    References:
      Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017),
      arXiv:1611.07004.
      Esser, Rombach & Ommer, "Taming Transformers for High-Resolution Image Synthesis" (2021),
      arXiv:2012.09841.
    """

    channels: int = 64
    layers: int = 3
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if min(x.shape[1:3]) >> self.layers < 3:
            raise ValueError(
                f"{self.layers} halvings need sides from {3 << self.layers}, not {x.shape[1:3]}"
            )
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        how: dict[str, Any] = {"padding": ((1, 1), (1, 1)), "kernel_init": _NORMAL, **kinds}
        for i in range(self.layers + 1):
            width, stride = self.channels * min(2**i, 8), 1 if i == self.layers else 2
            # BatchNorm would subtract a bias again.
            layer = Conv(width, (4, 4), strides=(stride, stride), use_bias=not i, **how)
            x = layer(x)
            if i:
                x = BatchNorm(**kinds)(x, train=True)
            x = nn.leaky_relu(x, 0.2)
        return Conv(1, (4, 4), **how)(x)[..., 0]
