"""StyleGAN2's generator and critic, for images of any size.

Weights are drawn from N(0, 1) and scaled when they are used ("equalised learning rates"), so that
an optimizer changes all layers at the same relative speed.
"""

import math
from itertools import repeat
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.keys import normal, split
from genjax.models import conditioning, convolution
from genjax.models.magnitude_preserving import normalized
from genjax.models.normalization import MinibatchStddev
from genjax.models.resampling import SMOOTH, doubled, halved, lowest

GAIN = math.sqrt(2)  # keeps the variance through a leaky ReLU


def activated(x: jax.Array) -> jax.Array:
    r"""Leaky ReLU that keeps the scale of its input.

    $$
    \sqrt 2 \, \max(x, 0.2\, x)
    $$

    Args:
      x: any array.

    Returns:
      Like x.

    References:
      Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020),
      arXiv:1912.04958, released code.
    """
    return GAIN * nn.leaky_relu(x, 0.2)


def modulated_conv(
    x: jax.Array,
    kernel: jax.Array,
    style: jax.Array,
    *,
    demodulate: bool = True,
    epsilon: float = 1e-8,
) -> jax.Array:
    r"""A convolution whose kernel is another for each example.

    $$
    w'_{bkcd} = s_{bc}\, w_{kcd}, \qquad
    w''_{bkcd} = w'_{bkcd} \Big/ \sqrt{\textstyle\sum_{k,c} w'^2_{bkcd} + \varepsilon}
    $$

    over pixels k of the kernel, input channels c and output channels d. What depends on the example
    is applied to the channels of the input and of the output, which gives the same sums.

    Args:
      x: images, [B, H, W, C].
      kernel: w, [kh, kw, C, D].
      style: s, [B, C].
      demodulate: whether to divide, so that outputs have unit variance where inputs have; else w'.
      epsilon: ε.

    Returns:
      [B, H, W, D].

    References:
      Karras et al. (2020), arXiv:1912.04958, eq. 1 and 3.
    """
    y = convolution.conv(x * style[:, None, None], kernel)
    if not demodulate:
        return y
    square = jnp.square(style) @ jnp.square(kernel).sum((0, 1))  # [B, D]
    return y * jax.lax.rsqrt(square + epsilon)[:, None, None]


class Equalized(nn.Module):
    r"""A dense layer with an equalised learning rate.

    $$
    y = x\, w \, r / \sqrt{C} + r\, b, \qquad w \sim N(0, 1 / r^2)
    $$

    Args:
      features: output features.
      rate: r, by which the layer learns slower than others.
      bias: its value at the start.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, C]: [B, features].

    References:
      Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation"
      (2018), arXiv:1710.10196, section 4.1; r: "A Style-Based Generator Architecture for Generative
      Adversarial Networks" (2019), arXiv:1812.04948, appendix C.
    """

    features: int
    rate: float = 1.0
    bias: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1], self.features)
        init, start = nn.initializers.normal(1 / self.rate), self.bias / self.rate
        kernel = self.param("kernel", init, shape, self.param_dtype)
        bias = self.param(
            "bias", nn.initializers.constant(start), (self.features,), self.param_dtype
        )
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return x @ kernel * (self.rate / math.sqrt(shape[0])) + (self.rate * bias)[None]


class EqualizedConv(nn.Module):
    """A convolution with an equalised learning rate, and its bias.

    Args:
      features: output channels D.
      size: of the kernel, rows and columns.
      halve: whether to halve the resolution, by a bilinear filter.
      use_bias: whether there is a bias.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C]: [B, H, W, D], or half the sides.

    References:
      Karras et al. (2018), arXiv:1710.10196, section 4.1.
    """

    features: int
    size: int = 3
    halve: bool = False
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, self.param_dtype)
        zeros = nn.initializers.zeros
        bias = (
            self.param("bias", zeros, (self.features,), self.param_dtype) if self.use_bias else None
        )
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        # A filter and a convolution commute; a kernel of one pixel is cheaper after it.
        if self.halve and self.size == 1:
            x = halved(x, SMOOTH)
        y = convolution.conv(x, kernel / math.sqrt(math.prod(shape[:3])))
        if self.halve and self.size > 1:
            y = halved(y, SMOOTH)
        return y if bias is None else y + bias[None, None, None]


class _Modulated(nn.Module):
    """What the modulated layers share.

    Args:
      features: output channels D.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.
    """

    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def _modulated(
        self,
        x: jax.Array,
        w: jax.Array,
        size: int,
        *,
        double: bool = False,
        demodulate: bool = True,
    ) -> jax.Array:
        """The convolution whose kernel w styles, and its bias, both parameters of this layer."""
        shape = (size, size, x.shape[-1], self.features)
        style = Equalized(x.shape[-1], bias=1.0, dtype=self.dtype, param_dtype=self.param_dtype)(w)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        if double:
            x = doubled(x, SMOOTH)
        # Demodulation divides by any factor of the kernel; this one keeps ε small beside the sum.
        kernel = kernel / math.sqrt(math.prod(shape[:3]))
        return modulated_conv(x, kernel, style, demodulate=demodulate) + bias[None, None, None]


class StyledConv(_Modulated):
    """A modulated convolution, noise, a bias and a leaky ReLU.

    Args:
      features: output channels D.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.
      double: whether to double the resolution before, by a bilinear filter.

    Returns:
      From x [B, H, W, C], latents w [B, n], and one PRNG key per example [B] or None for no noise:
      [B, H, W, D], or twice the sides.

    References:
      Karras et al. (2020), arXiv:1912.04958, figure 2.
    """

    double: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, keys: jax.Array | None) -> jax.Array:
        y = self._modulated(x, w, 3, double=self.double)
        strength = self.param("noise", nn.initializers.zeros, (), self.param_dtype)
        if keys is not None:
            y += (strength * normal(keys, (*y.shape[:3], 1))).astype(y.dtype)
        return activated(y)


class ToImage(_Modulated):
    """What a resolution adds to the image: a modulated convolution of one pixel.

    Args:
      features: channels of an image.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C] and latents w [B, n]: [B, H, W, features].
    """

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        return self._modulated(x, w, 1, demodulate=False)


class Mapping(nn.Module):
    """From noise to the latents w that style the layers.

    Args:
      features: of w.
      layers: number of dense layers.
      classes: number of classes K to condition on; None for an unconditional network.
      rate: by which the layers learn slower than the others.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From noise z [B, n] and labels [B] in 0..K: w [B, features]. The label K, and None for labels,
      mean "no class".

    Raises:
      ValueError: for labels where `classes` is None.

    References:
      Karras et al. (2019), arXiv:1812.04948, section 2; with classes: Karras et al., "Training
      Generative Adversarial Networks with Limited Data" (2020), arXiv:2006.06676, released code.
    """

    features: int
    layers: int = 8
    classes: int | None = None
    rate: float = 0.01
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None) -> jax.Array:
        conditioning.check(label, self.classes)
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = normalized(z, -1)
        if self.classes is not None:
            embed = conditioning.ClassEmbedding(self.classes, z.shape[-1], **kinds)
            x = jnp.concatenate([x, normalized(embed(label, len(z)), -1)], -1)
        for _ in range(self.layers):
            x = activated(Equalized(self.features, self.rate, **kinds)(x))
        return x


class Synthesis(nn.Module):
    """From latents w of each layer to images: skips from every resolution to the image.

    Args:
      shape: (H, W, C) of an image, H and W divisible by 2 to the number of widths less one.
      widths: channels of each resolution, the lowest first.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From w [B, layers, n] and one PRNG key per example [B], or None for no noise: images of no
      bounds, [B, H, W, C].

    Raises:
      ValueError: where H or W is not divisible.

    References:
      Karras et al. (2020), arXiv:1912.04958, figure 7: output skips.
    """

    shape: tuple[int, int, int]
    widths: tuple[int, ...]
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, w: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        doublings, channels = len(self.widths) - 1, self.shape[2]
        start = (*lowest(self.shape, doublings), self.widths[0])
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        noise = iter(split(keys, 2 * doublings + 1)) if keys is not None else repeat(None)
        x = self.param("constant", nn.initializers.normal(1.0), start, self.param_dtype)
        x = jnp.broadcast_to(x[None].astype(self.dtype or x.dtype), (len(w), *start))
        x = StyledConv(self.widths[0], **kinds)(x, w[:, 0], next(noise))
        image = ToImage(channels, **kinds)(x, w[:, 1])
        for i, features in enumerate(self.widths[1:]):
            x = StyledConv(features, double=True, **kinds)(x, w[:, 2 * i + 1], next(noise))
            x = StyledConv(features, **kinds)(x, w[:, 2 * i + 2], next(noise))
            image = doubled(image, SMOOTH) + ToImage(channels, **kinds)(x, w[:, 2 * i + 3])
        return image


class Generator(nn.Module):
    """StyleGAN2's generator: `mapping` and `synthesis`, each a method of its own.

    Args:
      shape: (H, W, C) of an image, H and W divisible by 2 to the number of widths less one.
      widths: channels of each resolution, the lowest first.
      features: of the latents w.
      mapping_layers: dense layers from noise to w.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From noise z [B, n], labels [B] in 0..K, or None for no class, and one PRNG key per example
      [B], or None for no noise: images of no bounds, [B, H, W, C].

    Raises:
      ValueError: where H or W is not divisible, or for labels where `classes` is None.

    References:
      Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020),
      arXiv:1912.04958.
    """

    shape: tuple[int, int, int]
    widths: tuple[int, ...] = (512, 512, 512, 512)
    features: int = 512
    mapping_layers: int = 8
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.map = Mapping(self.features, self.mapping_layers, self.classes, **kinds)
        self.draw = Synthesis(self.shape, self.widths, **kinds)

    @property
    def layers(self) -> int:
        """How many latents w an image has."""
        return 2 * len(self.widths)

    def mapping(self, z: jax.Array, label: jax.Array | None = None) -> jax.Array:
        """The latents that style an image.

        Args:
          z: noise, [B, n].
          label: [B] in 0..K, or None for no class.

        Returns:
          w, [B, features].
        """
        return self.map(z, label)

    def synthesis(self, w: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """The image of latents.

        Args:
          w: one latent for all layers, [B, features], or one for each, [B, layers, features].
          keys: one PRNG key per example [B], or None for no noise.

        Returns:
          Images of no bounds, [B, H, W, C].
        """
        if w.ndim == 2:
            w = jnp.broadcast_to(w[:, None], (len(w), self.layers, w.shape[-1]))
        return self.draw(w, keys)

    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, keys: jax.Array | None = None
    ) -> jax.Array:
        return self.synthesis(self.mapping(z, label), keys)


class Critic(nn.Module):
    """StyleGAN2's critic: residual blocks that halve the resolution.

    The standard deviation over the minibatch is that of the global batch, where the paper takes
    groups of four.

    Args:
      widths: channels of each resolution, the highest first.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From images [B, H, W, C] and labels [B] in 0..K: logits [B], high for real images, of their
      class where there are classes. The label K, and None for labels, mean "no class".

    Raises:
      ValueError: for labels where `classes` is None.

    References:
      Karras et al. (2020), arXiv:1912.04958, figure 7: residual nets.
    """

    widths: tuple[int, ...] = (512, 512, 512, 512)
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None = None) -> jax.Array:
        conditioning.check(label, self.classes)
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = activated(EqualizedConv(self.widths[0], 1, **kinds)(x))
        for width, wider in zip(self.widths, self.widths[1:], strict=False):
            y = activated(EqualizedConv(width, **kinds)(x))
            y = activated(EqualizedConv(wider, halve=True, **kinds)(y))
            short = EqualizedConv(wider, 1, halve=True, use_bias=False, **kinds)(x)
            x = (y + short) / GAIN
        x = MinibatchStddev()(x)
        x = activated(EqualizedConv(self.widths[-1], **kinds)(x))
        x = activated(Equalized(self.widths[-1], **kinds)(x.reshape(len(x), -1)))
        logits = Equalized(1, **kinds)(x)[:, 0]
        if self.classes is None:
            return logits
        return logits + conditioning.ClassProjection(self.classes, **kinds)(x, label)
