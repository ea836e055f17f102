"""The generator and critic of R3GAN: residual blocks of grouped convolutions, no normalisation."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning
from genjax.models.convolution import conv_grouped
from genjax.models.layers import Conv
from genjax.models.resampling import SMOOTH, doubled, halved, lowest

EXPANSION = 2  # channels inside a block, per channel outside
_SLOPE = 0.2
_GAIN = math.sqrt(2 / (1 + _SLOPE**2))  # with it a layer and its leaky ReLU keep the mean square


def _normal(gain: float = 1.0) -> nn.initializers.Initializer:
    return nn.initializers.variance_scaling(gain**2, "fan_in", "normal")


class GroupedConv(nn.Module):
    """A 3x3 convolution of groups of channels, each of its own group alone.

    Args:
      group: channels of a group; they divide the input's.
      kernel_init: initializer of the kernel.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From [B, H, W, C]: [B, H, W, C].

    References:
      Xie et al., "Aggregated Residual Transformations for Deep Neural Networks" (2017),
      arXiv:1611.05431.
    """

    group: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (3, 3, self.group, c), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (c,), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return conv_grouped(x, kernel) + bias[None, None, None]


class Block(nn.Module):
    r"""A residual block: 1x1 to twice the channels, grouped 3x3, 1x1 back.

    The last kernel starts at zero, so that the block starts as the identity, and the two others are
    scaled for the depth:

    $$
    \mathrm{std} = \sqrt{\frac{2}{1 + 0.2^2}}\; L^{-1/4} \Big/ \sqrt{\text{fan in}}
    $$

    Args:
      group: channels of a group.
      depth: L, blocks of the network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From [B, H, W, C]: [B, H, W, C].

    References:
      Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline" (2024),
      arXiv:2501.05441, section 4 and released code.
      Zhang, Dauphin & Ma, "Fixup Initialization" (2019), arXiv:1901.09321.
    """

    group: int
    depth: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c, kinds = x.shape[-1], {"dtype": self.dtype, "param_dtype": self.param_dtype}
        init = _normal(_GAIN * self.depth**-0.25)
        y = Conv(EXPANSION * c, (1, 1), kernel_init=init, name="expand", **kinds)(x)
        y = nn.leaky_relu(y, _SLOPE)
        y = GroupedConv(self.group, kernel_init=init, name="grouped", **kinds)(y)
        y = nn.leaky_relu(y, _SLOPE)
        zeros = nn.initializers.zeros
        last = Conv(c, (1, 1), use_bias=False, kernel_init=zeros, name="contract", **kinds)
        return x + last(y)


def _channels(features: int, **kinds: Any) -> Conv:
    return Conv(features, (1, 1), use_bias=False, kernel_init=_normal(), **kinds)


def _linear(features: int, **options: Any) -> nn.Dense:
    return nn.Dense(features, use_bias=False, kernel_init=_normal(), **options)


def _one_hot(label: jax.Array | None, classes: int, batch: int) -> jax.Array:
    # The label K, as no label, is zero throughout.
    return jax.nn.one_hot(jnp.full(batch, classes) if label is None else label, classes)


class Generator(nn.Module):
    """The generator of R3GAN.

    A learned basis image per channel, each multiplied by a linear function of the latent, is the
    lowest resolution; `blocks` residual blocks follow at each resolution, and between two of them a
    1x1 convolution where the channels change, then bilinear upsampling. A 1x1 convolution makes the
    image.

    Args:
      shape: (H, W, C) of an image, H and W divisible by 2 to the number of widths less one. The
        paper's lowest resolution is 4x4.
      widths: channels at each resolution, the lowest first.
      blocks: residual blocks at each resolution.
      group: channels of a group of the grouped convolutions, 16 in the paper; they divide twice
        each width.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation above the lowest resolution; None for what inputs and parameters
        have.
      param_dtype: of the parameters.

    Returns:
      From noise [B, n] and labels [B] in 0..K: images around −1..1, not bounded, float32 at least,
      [B, H, W, C]. A class enters as n further numbers, a linear function of its one-hot vector,
      beside the noise. The label K, and None for labels, mean "no class".

    Raises:
      ValueError: where H or W is not divisible, or for labels where `classes` is None.

    References:
      Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline" (2024),
      arXiv:2501.05441, section 4 and released code.
    """

    shape: tuple[int, int, int]
    widths: tuple[int, ...] = (768, 768, 768, 768)
    blocks: int = 2
    group: int = 16
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, label: jax.Array | None = None) -> jax.Array:
        conditioning.check(label, self.classes)
        sides, wide = lowest(self.shape, len(self.widths) - 1), z.dtype
        if self.classes is not None:
            embed = _linear(z.shape[-1], param_dtype=self.param_dtype, name="embedding")
            z = jnp.concatenate([z, embed(_one_hot(label, self.classes, len(z)))], axis=-1)
        modulation = _linear(self.widths[0], param_dtype=self.param_dtype, name="modulation")(z)
        basis_shape = (*sides, self.widths[0])
        basis = self.param("basis", nn.initializers.normal(1.0), basis_shape, self.param_dtype)
        x = basis[None] * modulation[:, None, None]
        depth = self.blocks * len(self.widths)
        kinds: dict[str, Any] = {"param_dtype": self.param_dtype}
        for i, width in enumerate(self.widths):
            if i:
                kinds["dtype"] = self.dtype
                x = _channels(width, **kinds)(x) if width != x.shape[-1] else x
                x = doubled(x, SMOOTH)
            for _ in range(self.blocks):
                x = Block(self.group, depth, **kinds)(x)
        x = _channels(self.shape[-1], name="image", **kinds)(x)
        return x.astype(jnp.promote_types(wide, jnp.float32))


class Critic(nn.Module):
    r"""The critic of R3GAN: the generator's mirror image.

    A 1x1 convolution, `blocks` residual blocks at each resolution, bilinear downsampling and a 1x1
    convolution where the channels change; at last each channel's inner product with a learned
    basis image, and a linear layer. With classes it is a projection critic without the term that
    knows no class:

    $$
    D(x, y) = \langle W \phi(x),\; e_y \rangle, \qquad
    e_y \sim \mathcal{N}\Bigl(0,\; \tfrac{1}{K n}\, I\Bigr) \text{ at first}
    $$

    with n the lowest resolution's channels.

    Args:
      widths: channels at each resolution, the lowest first, as the generator's.
      blocks: residual blocks at each resolution.
      group: channels of a group of the grouped convolutions.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation above the lowest resolution; None for what inputs and parameters
        have.
      param_dtype: of the parameters.

    Returns:
      From images [B, H, W, C] and labels [B] in 0..K: outputs [B], float32 at least, of which
      differences alone mean something: the higher, the more real, and of its class where there are
      classes. The label K, and None for labels, mean "no class"; the output is then 0.

    Raises:
      ValueError: where H or W is not divisible, or for labels where `classes` is None.

    References:
      Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline" (2024),
      arXiv:2501.05441, section 4 and released code.
      Miyato & Koyama, "cGANs with Projection Discriminator" (2018), arXiv:1802.05637.
    """

    widths: tuple[int, ...] = (768, 768, 768, 768)
    blocks: int = 2
    group: int = 16
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None = None) -> jax.Array:
        conditioning.check(label, self.classes)
        sides, wide = lowest(x.shape[1:], len(self.widths) - 1), x.dtype
        depth, own = self.blocks * len(self.widths), {"param_dtype": self.param_dtype}
        kinds: dict[str, Any] = {"dtype": self.dtype if len(self.widths) > 1 else None, **own}
        x = _channels(self.widths[-1], name="image", **kinds)(x)
        for i in reversed(range(len(self.widths))):
            if not i:
                x, kinds = x.astype(jnp.promote_types(wide, jnp.float32)), own
            for _ in range(self.blocks):
                x = Block(self.group, depth, **kinds)(x)
            if i:
                x, width = halved(x, SMOOTH), self.widths[i - 1]
                x = _channels(width, **kinds)(x) if width != x.shape[-1] else x
        init = nn.initializers.normal(1 / math.sqrt(math.prod(sides)))
        basis = self.param("basis", init, (*sides, x.shape[-1]), self.param_dtype)
        features = (x * basis[None]).sum((1, 2))
        if self.classes is None:
            return _linear(1, name="output", **own)(features)[:, 0]
        n = self.widths[0]
        rows = nn.Dense(n, use_bias=False, kernel_init=_normal(n**-0.5), name="embedding", **own)(
            _one_hot(label, self.classes, len(x))
        )
        return (_linear(n, name="output", **own)(features) * rows).sum(-1)
