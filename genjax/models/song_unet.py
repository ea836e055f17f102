"""The U-Nets of Song et al. as EDM trains them: DDPM++ and NCSN++."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.scipy.special import ndtri

from genjax.models import conditioning, convolution, resampling
from genjax.models.attention import attend
from genjax.models.layers import Conv, Dropout, Projection, UpsampleConv, time_embedding
from genjax.models.normalization import GroupNorm, most_groups

_HALF = math.sqrt(0.5)  # keeps the variance of a sum of two


def _xavier(weight: float = 1.0) -> nn.initializers.Initializer:
    return nn.initializers.variance_scaling(weight**2, "fan_avg", "uniform")


_NEAR_ZERO = _xavier(1e-5)  # EDM's, in place of zero, at which no gradient reaches what lies below


def fourier_features(noise: jax.Array, features: int, *, scale: float = 16.0) -> jax.Array:
    r"""Fourier features of noise levels.

    $$
    \bigl[\sin(2 \pi \omega_i u),\; \cos(2 \pi \omega_i u)\bigr], \qquad
    \omega_i = s\, \Phi^{-1}\!\Bigl(\frac{i + 1/2}{n/2}\Bigr), \quad i = 0 \dots n/2 - 1
    $$

    The frequencies are the quantiles of the N(0, s²) that the paper draws them from, so that a
    network has no constants to be kept beside its parameters.

    Args:
      noise: noise levels u, [B].
      features: n, even.
      scale: s.

    Returns:
      [B, features].

    Raises:
      ValueError: where `features` is odd.

    References:
      Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low
      Dimensional Domains" (2020), arXiv:2006.10739.
      Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations"
      (2021), arXiv:2011.13456, appendix C.
    """
    if features % 2:
        raise ValueError(f"the embedding needs an even number of features, not {features}")
    half = features // 2
    omega = scale * ndtri((jnp.arange(half, dtype=jnp.float32) + 0.5) / half)
    angle = 2 * math.pi * noise.astype(jnp.float32)[:, None] * omega[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


class SongBlock(nn.Module):
    r"""A residual block, which may halve or double the resolution, and attention after it.

    $$
    \begin{aligned}
    h &= \frac{1}{\sqrt 2} \bigl(\mathrm{skip}(x)
      + \mathrm{conv}_1(\mathrm{silu}(\mathrm{norm}(\mathrm{conv}_0(\mathrm{silu}(\mathrm{norm}(x)))
      + W e)))\bigr), \\
    y &= \frac{1}{\sqrt 2} \bigl(h + \mathrm{attention}(\mathrm{norm}(h))\bigr)
    \end{aligned}
    $$

    Args:
      features: output channels.
      resample: "down" to half the resolution, "up" to twice; None to keep it.
      attention: whether attention follows, of one head.
      taps: of the filter that resamples.
      dropout: probability.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C], an embedding e [B, E] and keys [B] for the dropout, or None for no
      dropout: [B, H', W', features].

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, appendix F.
    """

    features: int
    resample: Literal["down", "up"] | None = None
    attention: bool = False
    taps: tuple[float, ...] = resampling.BOX
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, emb: jax.Array, keys: jax.Array | None) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        linear = {**kinds, "kernel_init": _xavier()}
        h = nn.silu(_norm(x.shape[-1], "norm0", kinds)(x))
        h = self._resampled(h, (3, 3), "conv0", linear)
        h = h + nn.Dense(self.features, name="affine", **linear)(emb)[:, None, None, :]
        h = nn.silu(_norm(self.features, "norm1", kinds)(h))
        h = Dropout(self.dropout)(h, keys)
        h = Conv(self.features, (3, 3), kernel_init=_NEAR_ZERO, name="conv1", **kinds)(h)
        if self.resample or x.shape[-1] != self.features:
            x = self._resampled(x, (1, 1), "skip", linear)
        x = (x + h) * _HALF
        return (x + self._attended(x, kinds)) * _HALF if self.attention else x

    def _resampled(
        self, x: jax.Array, kernel: tuple[int, int], name: str, kinds: dict[str, Any]
    ) -> jax.Array:
        """A convolution at the block's output resolution."""
        if self.resample == "up" and self.taps == resampling.BOX:
            return UpsampleConv(self.features, kernel, name=name, **kinds)(x)
        if self.resample is not None:
            change = resampling.doubled if self.resample == "up" else resampling.halved
            x = change(x, self.taps)
        return Conv(self.features, kernel, name=name, **kinds)(x)

    def _attended(self, x: jax.Array, kinds: dict[str, Any]) -> jax.Array:
        b, h, w, c = x.shape
        init = _xavier(math.sqrt(0.2))
        qkv = Projection(3 * c, kernel_init=init, name="qkv", **kinds)(_norm(c, "norm2", kinds)(x))
        q, k, v = (part.reshape(b, h * w, 1, c) for part in jnp.split(qkv, 3, -1))
        y = attend(q, k, v).reshape(x.shape)
        return Projection(c, kernel_init=_NEAR_ZERO, name="proj", **kinds)(y)


class FusedDown(nn.Module):
    """A 3x3 convolution and then half the resolution, of images that continue with zeros.

    Args:
      features: output channels.
      taps: of the filter that halves.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C]: [B, H / 2, W / 2, features].
    """

    features: int
    taps: tuple[float, ...] = resampling.SMOOTH
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", _xavier(), shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        margin = (len(self.taps) // 2,) * 2
        y = convolution.conv(x, kernel, padding=(margin, margin))
        return resampling.filtered(y, self.taps) + bias[None, None, None]


class SongUNet(nn.Module):
    r"""DDPM++ or NCSN++ with the settings of EDM, for any image size and inputs of unit variance.

    Level i has `channels * multipliers[i]` channels at H / 2^i, with `blocks` residual blocks on
    the way down and one more on the way up. Attention, of one head, follows each block of the way
    down at the resolutions in `attention`, the last block of the way up there, and the first of two
    in the middle. NCSN++ embeds the noise level by twice as many Fourier features, resamples by
    (1, 3, 3, 1), and adds the image itself, halved level by level, on the way down.

    Args:
      channels: at full resolution.
      multipliers: of the channels, per level.
      blocks: residual blocks per level.
      attention: the heights, in pixels, with self-attention.
      dropout: probability.
      ncsnpp: whether it is NCSN++ instead of DDPM++.
      classes: number of classes K to condition on; None for an unconditional network.
      augment: parameters of an image's augmentation to condition on; 0 for none.
      remat: whether the gradient recomputes each residual block instead of storing its activations:
        less memory on a GPU or TPU, a third more work. On the CPU XLA undoes it.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C] of unit variance, noise levels c_noise [B], which are ln(σ)/4 in EDM,
      labels [B] in 0..K, where K and None for labels mean "no class", and parameters of the
      augmentations [B, augment], None for images that are not augmented: the output F,
      [B, H, W, C], of x's dtype. keys: one PRNG key per example [B], for the dropout, or None for
      no dropout.

    Raises:
      ValueError: where H or W is not divisible by 2^(levels − 1), or for labels where `classes` is
        None.

    References:
      Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations"
      (2021), arXiv:2011.13456, appendix C.
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, appendix F.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (2, 2, 2)
    blocks: int = 4
    attention: tuple[int, ...] = (16,)
    dropout: float = 0.13
    ncsnpp: bool = False
    classes: int | None = None
    augment: int = 0
    remat: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        noise: jax.Array,
        label: jax.Array | None = None,
        augment: jax.Array | None = None,
        *,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        conditioning.check(label, self.classes)
        levels = len(self.multipliers)
        if any(side % 2 ** (levels - 1) for side in x.shape[1:3]):
            raise ValueError(
                f"{levels} levels need sides divisible by {2 ** (levels - 1)}, not {x.shape[1:3]}"
            )
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        emb, image, given = self._embedding(noise, label, augment, kinds), x, x

        def block(name: str, x: jax.Array, level: int, **how: Any) -> jax.Array:
            features = self.channels * self.multipliers[level]
            kind = nn.remat(SongBlock) if self.remat else SongBlock
            more = {"taps": self._taps, "dropout": self.dropout, "name": name, **kinds}
            return kind(features, **how, **more)(x, emb, keys)

        def attends(x: jax.Array) -> bool:
            return x.shape[1] in self.attention

        x = Conv(self.channels, (3, 3), kernel_init=_xavier(), name="enc_0_conv", **kinds)(x)
        skips = [x]
        for level in range(levels):
            if level:
                # Before its first block a level has the channels of the one above it.
                x = block(f"enc_{level}_down", x, level - 1, resample="down")
                if self.ncsnpp:
                    shrink = FusedDown(x.shape[-1], name=f"enc_{level}_aux_residual", **kinds)
                    x = image = (x + shrink(image)) * _HALF
                skips.append(x)
            for i in range(self.blocks):
                x = block(f"enc_{level}_block{i}", x, level, attention=attends(x))
                skips.append(x)

        x = block(f"dec_{levels - 1}_in0", x, levels - 1, attention=True)
        x = block(f"dec_{levels - 1}_in1", x, levels - 1)
        for level in reversed(range(levels)):
            if level < levels - 1:
                x = block(f"dec_{level}_up", x, level + 1, resample="up")
            for i in range(self.blocks + 1):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                attention = i == self.blocks and attends(x)
                x = block(f"dec_{level}_block{i}", x, level, attention=attention)

        x = nn.silu(_norm(x.shape[-1], "norm_out", kinds)(x))
        last = Conv(given.shape[-1], (3, 3), kernel_init=_NEAR_ZERO, name="conv_out", **kinds)
        return last(x).astype(given.dtype)

    @property
    def _taps(self) -> tuple[float, ...]:
        return resampling.SMOOTH if self.ncsnpp else resampling.BOX

    def _embedding(
        self,
        noise: jax.Array,
        label: jax.Array | None,
        augment: jax.Array | None,
        kinds: dict[str, Any],
    ) -> jax.Array:
        """The embedding of noise level, class and augmentation, [B, 4 channels]."""
        linear = {**kinds, "kernel_init": _xavier()}
        if self.ncsnpp:
            emb = fourier_features(noise, width := 2 * self.channels)
        else:
            emb = time_embedding(noise, width := self.channels, scale=1.0)
        if self.classes is not None:
            number = jnp.full(noise.shape, self.classes) if label is None else label
            # All zero for "no class"; of unit variance over the classes.
            one_hot = jax.nn.one_hot(number, self.classes) * math.sqrt(self.classes)
            emb = emb + nn.Dense(width, name="map_label", **linear)(one_hot)
        if self.augment:
            if augment is None:
                augment = jnp.zeros((*noise.shape, self.augment))
            emb = emb + nn.Dense(width, use_bias=False, name="map_augment", **linear)(augment)
        for i in range(2):
            emb = nn.silu(nn.Dense(4 * self.channels, name=f"map_layer{i}", **linear)(emb))
        return emb


def _norm(channels: int, name: str, kinds: dict[str, Any]) -> GroupNorm:
    return GroupNorm(most_groups(channels), name=name, **kinds)
