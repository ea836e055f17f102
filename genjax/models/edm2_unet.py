"""The U-Net of EDM2: magnitude-preserving layers, no normalisation of activations, no biases."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning, resampling
from genjax.models import magnitude_preserving as mp
from genjax.models.attention import attend
from genjax.models.layers import Dropout

_RESIDUAL = 0.3  # weight of a residual branch, and of attention
_CLIP = 256.0  # of a block's output, for 16-bit arithmetic
_UNCERTAINTY = 128  # Fourier features of the noise level


class EDM2Block(nn.Module):
    """A residual block of the encoder or decoder, with attention after it.

    Args:
      features: output channels.
      decodes: whether it is the decoder's, which changes the channels after the residual branch and
        does not normalise each pixel.
      resample: "down" to half the resolution first, "up" to twice; None to keep it.
      attention: whether attention follows.
      head_features: channels of an attention head; at most all.
      dropout: probability.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C], an embedding [B, E] and keys [B] for the dropout, or None for no dropout:
      [B, H', W', features].

    Raises:
      ValueError: where `features` is no multiple of `head_features`.

    References:
      Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024),
      arXiv:2312.02696, figure 21.
    """

    features: int
    decodes: bool = False
    resample: Literal["down", "up"] | None = None
    attention: bool = False
    head_features: int = 64
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, emb: jax.Array, keys: jax.Array | None) -> jax.Array:
        conv = functools.partial(mp.MPConv, dtype=self.dtype, param_dtype=self.param_dtype)
        if self.resample is not None:
            x = (resampling.doubled if self.resample == "up" else resampling.halved)(x)

        def shortcut(x: jax.Array) -> jax.Array:
            same = x.shape[-1] == self.features
            return x if same else conv(self.features, (1, 1), name="conv_skip")(x)

        if not self.decodes:
            x = mp.normalized(shortcut(x), -1)
        y = conv(self.features, (3, 3), name="conv_res0")(mp.silu(x))
        gain = self.param("emb_gain", nn.initializers.zeros, (), self.param_dtype)
        scale = conv(self.features, name="emb_linear")(emb, gain) + 1
        y = mp.silu(y * scale[:, None, None, :].astype(y.dtype))
        y = Dropout(self.dropout)(y, keys)
        y = conv(self.features, (3, 3), name="conv_res1")(y)
        if self.decodes:
            x = shortcut(x)
        x = mp.mixed(x, y, _RESIDUAL)
        if self.attention:
            x = mp.mixed(x, self._attended(x, conv), _RESIDUAL)
        return jnp.clip(x, -_CLIP, _CLIP)

    def _attended(self, x: jax.Array, conv: Any) -> jax.Array:
        b, h, w, c = x.shape
        d = min(self.head_features, c)
        if c % d:
            raise ValueError(f"{c} channels do not divide into heads of {d}")
        qkv = conv(3 * c, (1, 1), name="attn_qkv")(x).reshape(b, h * w, 3, c // d, d)
        qkv = mp.normalized(qkv, -1)
        y = attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(x.shape)
        return conv(c, (1, 1), name="attn_proj")(y)


class EDM2UNet(nn.Module):
    """The denoiser of EDM2, for any image size and inputs of unit variance.

    Level i has `channels * multipliers[i]` channels at H / 2^i, with `blocks` residual blocks on
    the way down and one more on the way up; attention follows each of them at the resolutions in
    `attention`, and the first of two blocks in the middle. The output is 0 at first.

    Args:
      channels: at full resolution, before the multipliers.
      multipliers: of the channels, per level.
      blocks: residual blocks per level.
      attention: the heights, in pixels, with self-attention.
      head_features: channels of an attention head; at most all.
      dropout: probability.
      classes: number of classes K to condition on; None for an unconditional network.
      remat: whether the gradient recomputes each residual block instead of storing its activations:
        less memory on a GPU or TPU, a third more work. On the CPU XLA undoes it.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C] of unit variance, noise levels c_noise [B], which are ln(σ)/4 in EDM, and
      labels [B] in 0..K, where K and None for labels mean "no class": the output F, [B, H, W, C],
      of x's dtype. augment: None, as this network knows no augmentation. keys: one PRNG key per
      example [B], for the dropout, or None for no dropout.

    Raises:
      ValueError: where H or W is not divisible by 2^(levels − 1), for labels where `classes` is
        None, or for an augmentation.

    References:
      Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024),
      arXiv:2312.02696, figure 21.
    """

    channels: int = 192
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 3
    attention: tuple[int, ...] = (16, 8)
    head_features: int = 64
    dropout: float = 0.0
    classes: int | None = None
    remat: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        self.uncertainty = mp.MPConv(1, param_dtype=self.param_dtype)

    def log_variance(self, noise: jax.Array) -> jax.Array:
        """The learned logarithm u of the loss's size, for `losses.diffusion.uncertainty_weighted`.

        Args:
          noise: noise levels c_noise, [B].

        Returns:
          [B], float32.

        References:
          Karras et al. (2024), arXiv:2312.02696, eq. 21.
        """
        u: jax.Array = self.uncertainty(mp.fourier_features(noise, _UNCERTAINTY))
        return u[:, 0]

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
        levels, given = len(self.multipliers), x
        if augment is not None:
            raise ValueError("this network knows no augmentation: leave out `augment`")
        if any(side % 2 ** (levels - 1) for side in x.shape[1:3]):
            raise ValueError(
                f"{levels} levels need sides divisible by {2 ** (levels - 1)}, not {x.shape[1:3]}"
            )
        if self.is_initializing():
            self.log_variance(noise)
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        widths = [self.channels * m for m in self.multipliers]
        emb = self._embedding(noise, label, kinds)

        def block(name: str, x: jax.Array, features: int, **how: Any) -> jax.Array:
            kind = nn.remat(EDM2Block) if self.remat else EDM2Block
            more = {"head_features": self.head_features, "dropout": self.dropout, **kinds}
            decodes = name.startswith("dec")
            return kind(features, decodes, name=name, **how, **more)(x, emb, keys)

        def attends(x: jax.Array) -> bool:
            return x.shape[1] in self.attention

        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], -1)  # in place of biases
        x = mp.MPConv(widths[0], (3, 3), name="enc_0_conv", **kinds)(x)
        skips = [x]
        for level, width in enumerate(widths):
            if level:
                x = block(f"enc_{level}_down", x, x.shape[-1], resample="down")
                skips.append(x)
            for i in range(self.blocks):
                x = block(f"enc_{level}_block{i}", x, width, attention=attends(x))
                skips.append(x)

        x = block(f"dec_{levels - 1}_in0", x, widths[-1], attention=True)
        x = block(f"dec_{levels - 1}_in1", x, widths[-1])
        for level, width in reversed([*enumerate(widths)]):
            if level < levels - 1:
                x = block(f"dec_{level}_up", x, x.shape[-1], resample="up")
            for i in range(self.blocks + 1):
                x = mp.concatenated(x, skips.pop())
                x = block(f"dec_{level}_block{i}", x, width, attention=attends(x))
        gain = self.param("out_gain", nn.initializers.zeros, (), self.param_dtype)
        y = mp.MPConv(given.shape[-1], (3, 3), name="out_conv", **kinds)(x, gain)
        return y.astype(given.dtype)

    def _embedding(
        self, noise: jax.Array, label: jax.Array | None, kinds: dict[str, Any]
    ) -> jax.Array:
        """The embedding of noise level and class, [B, greatest width]."""
        width = self.channels * max(self.multipliers)
        features = mp.fourier_features(noise, self.channels * self.multipliers[0])
        emb = mp.MPConv(width, name="emb_noise", **kinds)(features)
        if self.classes is not None:
            number = jnp.full(noise.shape, self.classes) if label is None else label
            # All zero for "no class"; of unit magnitude over the classes.
            one_hot = jax.nn.one_hot(number, self.classes) * self.classes**0.5
            emb = mp.mixed(emb, mp.MPConv(width, name="emb_label", **kinds)(one_hot))
        return mp.silu(emb)
