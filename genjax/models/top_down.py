"""A very deep VAE: an encoder upwards, and blocks downwards that each draw a grid of latents."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning, logistic_mixture
from genjax.models.layers import Conv, Projection

Gaussian = tuple[jax.Array, jax.Array]  # mean and log variance, [B, h, w, latent] each
Sides = tuple[int, int]


class Layer(NamedTuple):
    """One block's latents.

    Attributes:
      z: their value, [B, h, w, latent].
      prior: p(z | the latents above).
      posterior: q(z | the latents above, x); None where there is no x.
    """

    z: jax.Array
    prior: Gaussian
    posterior: Gaussian | None


class Bottleneck(nn.Module):
    """Four convolutions, each behind a GELU, of which the two inner ones are narrow.

    Args:
      features: output channels.
      width: channels within.
      spatial: whether the inner convolutions see 3x3 pixels rather than one.
      gain: what the last layer's initial weights are multiplied by.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C]: [B, H, W, features].

    References:
      Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images"
      (2021), arXiv:2011.10650, figure 3.
    """

    features: int
    width: int
    spatial: bool
    gain: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        plain = {"kernel_init": initializer(), **kinds}
        x = Projection(self.width, **plain)(_gelu(x))
        for _ in range(2):
            narrow = Conv(self.width, **plain) if self.spatial else Projection(self.width, **plain)
            x = narrow(_gelu(x))
        return Projection(self.features, kernel_init=initializer(self.gain), **kinds)(_gelu(x))


class TopDownBlock(nn.Module):
    """Draws latents from the prior or the posterior, and adds them to what goes down.

    Args:
      latent: channels of the latents.
      width: channels within its bottlenecks.
      depth: number of blocks: what is added starts small by its root.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From h [B, h, w, C], standard normal noise [B, h, w, latent] and the encoder's features of
      that size, or None to draw from the prior: the next h, and the latents.

    References:
      Child (2021), arXiv:2011.10650, figure 3.
    """

    latent: int
    width: int
    depth: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, h: jax.Array, noise: jax.Array, seen: jax.Array | None
    ) -> tuple[jax.Array, Layer]:
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        features, spatial, n = h.shape[-1], min(h.shape[1:3]) > 2, self.latent
        gain = self.depth**-0.5

        def bottleneck(name: str, outputs: int, gain: float = 1.0) -> Bottleneck:
            return Bottleneck(outputs, self.width, spatial, gain, name=name, **kinds)

        found = bottleneck("prior", 2 * n + features, gain=0.0)(h)
        prior, posterior = _gaussian(found[..., : 2 * n]), None
        if seen is not None:
            both = jnp.concatenate([h, seen.astype(h.dtype)], -1)
            posterior = _gaussian(bottleneck("posterior", 2 * n)(both))
        mean, log_var = prior if posterior is None else posterior
        z = mean + jnp.exp(0.5 * log_var) * noise
        added = Projection(features, kernel_init=initializer(gain), name="latents", **kinds)
        h = h + found[..., 2 * n :] + added(z.astype(h.dtype))
        return h + bottleneck("residual", features, gain)(h), Layer(z, prior, posterior)


class TopDownVAE(nn.Module):
    """The networks of a very deep VAE, whose latents are functions of standard normal noise.

    The encoder pools images step by step to the coarsest grid. From there blocks of latents lead
    down, by nearest neighbours from grid to grid, each of which starts from a learned image, and
    one per class where there are classes.

    Args:
      sides: (H, W) of an image.
      outputs: numbers per pixel that the likelihood takes.
      channels: at every resolution.
      bottleneck: channels within the blocks.
      latent: channels of each block's latents.
      pooling: factors of the encoder's poolings, from the images on.
      encoder_blocks: residual blocks at each resolution, from the images on; each pooling has one
        more before it.
      decoder_blocks: blocks of latents at each resolution, from the images on.
      classes: number of classes K to condition on; None for an unconditional network.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From noise [B, size], images [B, H, W, C] or None, and labels [B] or None: the pixels' numbers
      [B, H, W, outputs], and the blocks' latents from the coarsest on. With images these are the
      posteriors' mean + σ·noise, without the priors'.

    Raises:
      ValueError: for labels where `classes` is None, where the numbers of blocks are not one per
        resolution, or the images' sides are not divisible by the product of the poolings.

    References:
      Child, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images"
      (2021), arXiv:2011.10650, sections 3 and 4.
    """

    sides: Sides
    outputs: int
    channels: int = 384
    bottleneck: int = 96
    latent: int = 16
    pooling: tuple[int, ...] = (2, 2, 2, 4)
    encoder_blocks: tuple[int, ...] = (11, 6, 6, 3, 3)
    decoder_blocks: tuple[int, ...] = (22, 11, 6, 3, 1)
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def grids(self) -> tuple[tuple[int, int, int], ...]:
        """(h, w, latent) of each block, from the coarsest on."""
        levels = reversed(list(zip(self._resolutions, self.decoder_blocks, strict=True)))
        return tuple((*each, self.latent) for each, count in levels for _ in range(count))

    @property
    def size(self) -> int:
        """Numbers of noise per image, Σ h·w·latent over the blocks."""
        return sum(math.prod(grid) for grid in self.grids)

    @nn.compact
    def __call__(
        self, noise: jax.Array, x: jax.Array | None = None, label: jax.Array | None = None
    ) -> tuple[jax.Array, tuple[Layer, ...]]:
        conditioning.check(label, self.classes)
        grids, batch = self.grids, len(noise)
        layers: list[Layer] = []
        seen = {} if x is None else self._encoded(x)
        start, h = 0, None
        for i, grid in enumerate(grids):
            if h is None or grid != grids[i - 1]:
                h = self._opened(h, grid[:2], label, batch)
            end = start + math.prod(grid)
            block = TopDownBlock(
                self.latent, self.bottleneck, len(grids), name=f"down_{i}", **self._kinds
            )
            part = noise[:, start:end].reshape(batch, *grid)
            h, layer = block(h, part, seen.get(grid[:2]))
            layers, start = [*layers, layer], end
        assert h is not None
        gain = self.param("gain", nn.initializers.ones, (self.channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,), self.param_dtype)
        h = h * gain[None, None, None].astype(h.dtype) + bias[None, None, None].astype(h.dtype)
        out = Projection(self.outputs, kernel_init=initializer(), name="out", **self._kinds)(h)
        return out.astype(noise.dtype), tuple(layers)

    @property
    def _kinds(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    @property
    def _resolutions(self) -> list[Sides]:
        """(h, w) at each resolution, from the images on."""
        if not len(self.pooling) + 1 == len(self.encoder_blocks) == len(self.decoder_blocks):
            raise ValueError(
                f"{len(self.pooling)} poolings need {len(self.pooling) + 1} numbers of blocks each "
                f"way, not {len(self.encoder_blocks)} up and {len(self.decoder_blocks)} down"
            )
        whole = math.prod(self.pooling)
        if any(side % whole or not side for side in self.sides):
            height, width = self.sides
            raise ValueError(f"sides must be divisible by {whole}, not {height}x{width}")
        found = [self.sides]
        for factor in self.pooling:
            found.append((found[-1][0] // factor, found[-1][1] // factor))
        return found

    def _encoded(self, x: jax.Array) -> dict[Sides, jax.Array]:
        """What the blocks see of the images: {(h, w): features}."""
        how: dict[str, Any] = {"kernel_init": initializer(), **self._kinds}
        h, seen = Conv(self.channels, name="in", **how)(x), {}
        depth, number = sum(self.encoder_blocks) + len(self.pooling), 0
        for level, count in enumerate(self.encoder_blocks):
            last = level == len(self.pooling)
            for i in range(count + (not last)):
                if i == count:  # the block whose output is pooled belongs to the next resolution
                    seen[h.shape[1], h.shape[2]] = h
                block = Bottleneck(
                    self.channels, self.bottleneck, min(h.shape[1:3]) > 2, depth**-0.5,
                    name=f"up_{number}", **self._kinds,
                )  # fmt: skip
                h, number = h + block(h), number + 1
            h = h if last else pooled(h, self.pooling[level])
        seen[h.shape[1], h.shape[2]] = h
        return seen

    def _opened(
        self, h: jax.Array | None, sides: Sides, label: jax.Array | None, batch: int
    ) -> jax.Array:
        """The start of a resolution: its learned image, that of the class, and h repeated."""
        name = f"{sides[0]}x{sides[1]}"
        image = self.param(
            f"image_{name}", nn.initializers.zeros, (*sides, self.channels), self.param_dtype
        )
        found = jnp.broadcast_to(image, (batch, *image.shape)).astype(self.dtype or image.dtype)
        if self.classes is not None:
            embedding = conditioning.ClassEmbedding(
                self.classes, self.channels, name=f"class_{name}", **self._kinds
            )
            found = found + embedding(label, batch)[:, None, None]
        return found if h is None else found + unpooled(h, sides[0] // h.shape[1])


@dataclass(frozen=True)
class VeryDeepVAE:
    """The networks with a mixture of logistics per pixel, for images in −1..1.

    Args:
      network: whose outputs are `logistic_mixture.outputs`.
      shape: (H, W, C) of an image.
      mixture: logistics per pixel.
    """

    network: TopDownVAE
    shape: tuple[int, int, int]
    mixture: int

    def init(self, key: jax.Array) -> Any:
        """Draws parameters.

        Args:
          key: one PRNG key.

        Returns:
          Those of the network.
        """
        return self.network.init(
            key, jnp.zeros((1, self.network.size)), jnp.zeros((1, *self.shape))
        )

    def pixels(
        self, params: Any, noise: jax.Array, x: jax.Array, label: jax.Array | None
    ) -> tuple[jax.Array, tuple[Layer, ...]]:
        """One draw of the posteriors.

        Args:
          params: of the network.
          noise: N(0, I), [B, network.size].
          x: images, [B, H, W, C].
          label: [B], or None.

        Returns:
          The mixtures' numbers [B, H, W, outputs], and the latents of all blocks.
        """
        found, layers = self._apply(params, noise, x, label)
        return logistic_mixture.floored(found, self.shape[-1], self.mixture), layers

    def image(self, params: Any, noise: jax.Array, label: jax.Array | None) -> jax.Array:
        """The images of the priors' noise.

        Args:
          params: of the network.
          noise: [B, network.size].
          label: [B], or None.

        Returns:
          [B, H, W, C] in 0..1.
        """
        found, _ = self._apply(params, noise, None, label)
        return logistic_mixture.likeliest(found, self.shape[-1], self.mixture)

    def coarse_to_fine(self, params: Any, noise: jax.Array, label: jax.Array | None) -> jax.Array:
        """What the grids add one after the other: the latents of finer ones are the priors' means.

        Args:
          params: of the network.
          noise: [B, network.size].
          label: [B], or None.

        Returns:
          [B, resolutions, H, W, C] in 0..1, of which the last are those of `image`.
        """
        grids, ends, total = self.network.grids, [], 0
        for grid, finer in zip(grids, (*grids[1:], None), strict=True):
            total += math.prod(grid)
            if grid != finer:
                ends.append(total)
        known = [jnp.where(jnp.arange(total)[None] < end, noise, 0) for end in ends]
        return jnp.stack([self.image(params, each, label) for each in known], 1)

    def codes(self, params: Any, x: jax.Array, label: jax.Array | None) -> jax.Array:
        """The noise by which the priors lead to the posteriors' means.

        Args:
          params: of the network.
          x: images, [B, H, W, C].
          label: [B], or None.

        Returns:
          (z − mean) / σ of all priors, [B, network.size].
        """
        _, layers = self._apply(params, jnp.zeros((len(x), self.network.size)), x, label)
        found = [(layer.z - layer.prior[0]) * jnp.exp(-0.5 * layer.prior[1]) for layer in layers]
        return jnp.concatenate([each.reshape(len(each), -1) for each in found], axis=1)

    def _apply(self, *given: Any) -> tuple[jax.Array, tuple[Layer, ...]]:
        found: Any = self.network.apply(*given)
        return found


def pooled(x: jax.Array, factor: int) -> jax.Array:
    """The means of squares of pixels.

    Args:
      x: [B, H, W, C].
      factor: side of the squares.

    Returns:
      [B, H / factor, W / factor, C].
    """
    batch, height, width, channels = x.shape
    parts = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return parts.mean((2, 4))


def unpooled(x: jax.Array, factor: int) -> jax.Array:
    """Nearest neighbours.

    Args:
      x: [B, H, W, C].
      factor: what the sides are multiplied by.

    Returns:
      [B, factor H, factor W, C].
    """
    batch, height, width, channels = x.shape
    wide = jnp.broadcast_to(
        x[:, :, None, :, None], (batch, height, factor, width, factor, channels)
    )
    return wide.reshape(batch, factor * height, factor * width, channels)


def initializer(gain: float = 1.0) -> nn.initializers.Initializer:
    r"""Uniform weights of variance gain² / (3 · inputs), PyTorch's default times a gain.

    Args:
      gain: the factor; 0 for weights of zero.

    Returns:
      The initializer.
    """
    if gain == 0:
        return nn.initializers.zeros
    return nn.initializers.variance_scaling(gain**2 / 3, "fan_in", "uniform")


def _gelu(x: jax.Array) -> jax.Array:
    return nn.gelu(x, approximate=False)


def _gaussian(found: jax.Array) -> Gaussian:
    """Means and log σ beside each other, as means and log variances of float32 at least."""
    mean, log_sigma = jnp.split(found.astype(jnp.promote_types(found.dtype, jnp.float32)), 2, -1)
    return mean, 2 * log_sigma
