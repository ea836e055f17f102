"""An autoencoder with whitened codes, so that one can sample by decoding noise."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import codes


@dataclass(frozen=True)
class WhitenedAutoencoder:
    """An autoencoder whose codes are whitened by their running moments.

    Args:
      encoder: images [B, H, W, C] in 0..1 -> codes [B, latent].
      decoder: codes -> logits of images.
      shape: (H, W, C) of an image.
      latent: features of a code.
    """

    encoder: nn.Module
    decoder: nn.Module
    shape: tuple[int, int, int]
    latent: int

    def init(self, key: jax.Array) -> tuple[dict[str, Any], codes.Moments]:
        """Draws parameters.

        Args:
          key: one PRNG key.

        Returns:
          {"encoder": …, "decoder": …}, and the moments of a standard normal code.
        """
        x, z = jnp.zeros((1, *self.shape)), jnp.zeros((1, self.latent))
        keys = jax.random.split(key)
        params = {
            "encoder": self.encoder.init(keys[0], x),
            "decoder": self.decoder.init(keys[1], z),
        }
        return params, codes.standard(self.latent)

    def code(self, params: dict[str, Any], x: jax.Array) -> jax.Array:
        """The code of images, as the encoder returns it.

        Args:
          params: of both networks.
          x: images in 0..1, [B, H, W, C].

        Returns:
          [B, latent].
        """
        code: Any = self.encoder.apply(params["encoder"], x)
        return code

    def image(self, params: dict[str, Any], code: jax.Array) -> jax.Array:
        """The images of codes.

        Args:
          params: of both networks.
          code: [B, latent].

        Returns:
          In 0..1, [B, H, W, C].
        """
        logits: Any = self.decoder.apply(params["decoder"], code)
        return jax.nn.sigmoid(logits)

    def encode(self, params: dict[str, Any], moments: codes.Moments, x: jax.Array) -> jax.Array:
        """Whitened codes of images.

        Args:
          params: of both networks.
          moments: of the codes.
          x: images in 0..1, [B, H, W, C].

        Returns:
          [B, latent], of mean 0 and covariance I over the images that the moments are of.
        """
        return codes.whiten(moments, self.code(params, x))

    def decode(self, params: dict[str, Any], moments: codes.Moments, z: jax.Array) -> jax.Array:
        """Images of whitened codes.

        Args:
          params: of both networks.
          moments: of the codes.
          z: [B, latent].

        Returns:
          In 0..1, [B, H, W, C].
        """
        return self.image(params, codes.colour(moments, z))
