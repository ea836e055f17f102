"""Scaled dot-product attention: jax.nn.dot_product_attention, with a faster form on the CPU."""

import jax
import jax.numpy as jnp
from jax import lax


def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    r"""Scaled dot-product attention, for each head; the softmax in float32 at least.

    $$
    \mathrm{softmax}\bigl(q k^\top / \sqrt{d}\bigr)\, v
    $$

    Args:
      q: queries, [B, T, N, d] for N heads.
      k: keys, [B, S, N, d].
      v: values, [B, S, N, d].

    Returns:
      [B, T, N, d].

    References:
      Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762, eq. 1.
    """
    return lax.platform_dependent(q, k, v, cpu=_late, default=jax.nn.dot_product_attention)


def _late(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Divides by the softmax's denominator after the weighted sum: d divisions per query, not S.

    The gradient then reduces over d as well, instead of over the [T, S] of each head.
    """
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("btnd,bsnd->bnts", q, k, preferred_element_type=wide)
    logits = logits * q.shape[-1] ** -0.5
    # Neither the result nor its gradient depends on what is subtracted.
    weights = jnp.exp(logits - lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1).swapaxes(1, 2)[..., None]  # [B, T, N, 1]
    y = jnp.einsum("bnts,bsnd->btnd", weights.astype(v.dtype), v, preferred_element_type=wide)
    return (y / total).astype(q.dtype)
