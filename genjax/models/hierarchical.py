"""A hierarchy of Gaussian latent layers, each inferred from the one below it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.keys import normal
from genjax.models.autoencoder import DenseDecoder, DenseEncoder, GaussianEncoder


class Layer(NamedTuple):
    """One layer of latents, at one draw of its noise.

    Attributes:
      below: what it was inferred from, [B, ...]: the images, or the latents below.
      noise: N(0, I), [B, d].
      h: its value, mean + σ·noise, [B, d].
      log_sigma: of q(h | below), [B, d].
      prediction: parameters of p(below | h), from the generative network.
    """

    below: jax.Array
    noise: jax.Array
    h: jax.Array
    log_sigma: jax.Array
    prediction: Any


@dataclass(frozen=True)
class GaussianHierarchy:
    """Networks q_i(h_i | h_{i−1}) upwards and p_i(h_{i−1} | h_i) downwards; h_0 are the images.

    Args:
      q: for each layer a network to (mean, log σ), [B, d_i] each.
      p: for each layer a network: logits of images for the first, (mean, log σ) for the others.
      sizes: d_i of each layer.
      shape: (H, W, C) of an image.
    """

    q: Sequence[nn.Module]
    p: Sequence[nn.Module]
    sizes: Sequence[int]
    shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Dimensions of the noise per image, Σ d_i."""
        return sum(self.sizes)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draws parameters.

        Args:
          key: one PRNG key.

        Returns:
          {"p1": …, "q1": …, …}.
        """
        inputs = [self.shape, *((size,) for size in self.sizes)]
        above = [f"{kind}{i}" for i in range(2, len(self.sizes) + 1) for kind in "qp"]
        names = ["p1", "q1", *above]
        keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
        params = {}
        for i, (q, p) in enumerate(zip(self.q, self.p, strict=True), 1):
            params[f"q{i}"] = q.init(keys[f"q{i}"], jnp.zeros((1, *inputs[i - 1])))
            params[f"p{i}"] = p.init(keys[f"p{i}"], jnp.zeros((1, *inputs[i])))
        return params

    def layers(self, params: dict[str, Any], noise: jax.Array, x: jax.Array) -> Iterator[Layer]:
        """The layers at h_i = mean_i + σ_i·noise_i, from the images upwards.

        Args:
          params: of all networks.
          noise: N(0, I), [B, Σ d_i].
          x: images, [B, H, W, C].

        Yields:
          Each layer.
        """
        below = x
        splits = [sum(self.sizes[: i + 1]) for i in range(len(self.sizes) - 1)]
        for i, u in enumerate(jnp.split(noise, splits, axis=-1), 1):
            posterior: Any = self.q[i - 1].apply(params[f"q{i}"], below)
            mean, log_sigma = posterior
            h = mean + jnp.exp(log_sigma) * u
            yield Layer(below, u, h, log_sigma, self.p[i - 1].apply(params[f"p{i}"], h))
            below = h

    def encode(self, params: dict[str, Any], x: jax.Array) -> jax.Array:
        """The means of all posteriors, each inferred from the mean below it.

        Args:
          params: of all networks.
          x: images, [B, H, W, C].

        Returns:
          [B, d] of the topmost layer.
        """
        for i, q in enumerate(self.q, 1):
            x, _ = q.apply(params[f"q{i}"], x)
        return x

    def generate(self, params: dict[str, Any], keys: jax.Array, z: jax.Array) -> Any:
        """Ancestral sampling from the topmost layer downwards.

        Args:
          params: of all networks.
          keys: one per example [B], for the noise of the layers below the topmost.
          z: the topmost layer, [B, d].

        Returns:
          The logits of images.
        """
        for i in range(len(self.p), 1, -1):
            prior: Any = self.p[i - 1].apply(params[f"p{i}"], z)
            mean, log_sigma = prior
            z = mean + jnp.exp(log_sigma) * normal(keys, mean.shape)
        return self.p[0].apply(params["p1"], z)


def iwae_networks(
    shape: tuple[int, int, int], layers: int, bias_init: nn.initializers.Initializer
) -> GaussianHierarchy:
    """The tanh networks of the IWAE paper, for MNIST.

    Args:
      shape: (H, W, C) of an image.
      layers: stochastic layers: 1 (784-200-200-50) or 2 (784-200-200-100, 100-100-100-50).
      bias_init: of the pixels' logits.

    Returns:
      The networks.

    References:
      Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016), arXiv:1509.00519,
      section 5.
    """
    style: dict[str, Any] = {
        "activation": nn.tanh,
        "kernel_init": nn.initializers.glorot_uniform(),
    }

    def gaussian(width: int, outputs: int) -> GaussianEncoder:
        return GaussianEncoder(DenseEncoder((width, width), 2 * outputs, **style))

    sizes = (50,) if layers == 1 else (100, 50)
    pixels = DenseDecoder(shape, (200, 200), bias_init=bias_init, **style)
    q: list[nn.Module] = [gaussian(200, sizes[0])]
    p: list[nn.Module] = [pixels]
    if layers == 2:
        q, p = [*q, gaussian(100, 50)], [*p, gaussian(100, 100)]
    return GaussianHierarchy(q, p, sizes, shape)
