"""Lookup-free quantisation: codes are the signs of z, so that no codebook is searched."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import numerics, over_batch

_MOST_BITS = 31  # of a code's number, an int32


class LookupFree(NamedTuple):
    """The result of `lookup_free_quantize`.

    Attributes:
      codes: like z, −1 or 1, with the straight-through gradient.
      indices: numbers of the codes, integers in 0…2ᵈ − 1, [B, ...].
      commitment: ‖z − sg(codes)‖², [B], summed over an image's positions.
      entropy: of a position's code given z, [B], nats, the mean over an image's positions; low
        where z is far from 0.
      code_entropy: of the bits over the global batch, a scalar, nats; d log 2 where each is used
        half of the time.
    """

    codes: Array
    indices: Array
    commitment: Array
    entropy: Array
    code_entropy: Array

    def loss(
        self, beta: float = 0.25, entropy: float | Array = 0.1, diversity: float | Array = 1.0
    ) -> Array:
        r"""The commitment, and the entropy that makes codes sure each and diverse together.

        $$
        \beta \, \mathrm{commitment} + \lambda \left( \mathrm{entropy}
          - \gamma \, \mathrm{code\_entropy} \right)
        $$

        Args:
          beta: β, weight of the commitment.
          entropy: λ, weight of both entropies.
          diversity: γ, of the entropy of the bits.

        Returns:
          [B].

        References:
          Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (2023),
          arXiv:2310.05737, section 3.1.
        """
        return beta * self.commitment + entropy * (self.entropy - diversity * self.code_entropy)


def lookup_free_quantize(
    z: Array, *, temperature: float | Array = 1.0, axis_name: str | None = over_batch.DATA_AXIS
) -> LookupFree:
    r"""The signs of z as codes of d bits, with the straight-through gradient.

    The probability of a code, softmax of −‖z − c‖²/τ over all 2ᵈ, is a product over the bits, so
    that the entropy given z is exact. That of the codes over the batch is bounded by the sum of
    those of the bits, which stands in its place and does not need 2ᵈ numbers.

    $$
    \mathrm{codes} = z + \mathrm{sg}(\mathrm{sign}(z) - z), \qquad
    p_j = \sigma(4 z_j / \tau), \qquad
    \mathrm{entropy} = \sum_j h(p_j), \qquad
    \mathrm{code\_entropy} = \sum_j h(\mathbb{E}[p_j])
    $$

    Args:
      z: the encoder's output, [B, ..., d], d up to 31.
      temperature: τ, of the probabilities that the entropies are of.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      Codes like z, their numbers [B, ...], and the parts of the loss.

    Raises:
      ValueError: where z is of integers, not [B, ..., d], or d is above 31.

    References:
      Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (2023),
      arXiv:2310.05737, section 3.1.
      Zhao, Xiong & Krähenbühl, "Image and Video Tokenization with Binary Spherical Quantization"
      (2024), arXiv:2406.07548, on the entropy of the bits.
    """
    numerics.check_floats(z=z)
    if z.ndim < 2 or z.shape[-1] > _MOST_BITS:
        raise ValueError(f"give z [B, ..., d] with d up to {_MOST_BITS}, got {z.shape}")
    sg, wide = jax.lax.stop_gradient, numerics.widen(z)
    codes = jnp.where(wide > 0, 1.0, -1.0).astype(wide.dtype)
    logits = 4 * wide / temperature
    positions = tuple(range(1, z.ndim - 1))
    entropy = _entropy(logits).sum(-1).mean(positions)
    shares = over_batch.mean(jax.nn.sigmoid(logits).reshape(-1, z.shape[-1]).mean(0), axis_name)
    # entr has an infinite slope at 0 and 1.
    inside = jnp.clip(shares, 1e-6, 1 - 1e-6)
    return LookupFree(
        (wide + sg(codes - wide)).astype(z.dtype),
        _numbers(codes),
        numerics.sum_per_example((wide - codes) ** 2),
        entropy,
        jnp.sum(jax.scipy.special.entr(inside) + jax.scipy.special.entr(1 - inside)),
    )


def lookup_free_codes(indices: Array, bits: int) -> Array:
    """The codes of numbers, the inverse of the quantisation's `indices`.

    Args:
      indices: integers in 0…2ᵈ − 1, [B, ...].
      bits: d.

    Returns:
      [B, ..., d], −1 or 1, float32.

    Raises:
      TypeError: where `bits` is traced.

    References:
      Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (2023),
      arXiv:2310.05737, section 3.1.
    """
    numerics.check_static(bits=bits)
    places = jnp.arange(bits).reshape((1,) * indices.ndim + (-1,))
    return ((indices[..., None] >> places & 1) * 2 - 1).astype(jnp.float32)


def _entropy(logits: Array) -> Array:
    """Of a coin with σ(logits), nats, also where that rounds to 0 or 1."""
    return jax.nn.softplus(logits) - logits * jax.nn.sigmoid(logits)


def _numbers(codes: Array) -> Array:
    """The first bit is the units."""
    places = jnp.arange(codes.shape[-1]).reshape((1,) * (codes.ndim - 1) + (-1,))
    return jnp.sum((codes > 0).astype(jnp.int32) << places, axis=-1)
