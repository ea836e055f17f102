"""Scaled dot-product attention with the arguments and values of jax.nn's, faster on the CPU."""

import jax
import jax.numpy as jnp
from jax import lax


def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q kᵀ / √d) v over the keys, for each head (Vaswani et al. 2017, section 3.2).

    q [B, T, N, d], k and v [B, S, N, d] -> [B, T, N, d]; the softmax in float32 at least.
    """
    return lax.platform_dependent(q, k, v, cpu=_late, default=jax.nn.dot_product_attention)


def _late(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Divided by the softmax's sum after the values are summed, where there are d of S as many.

    So the gradient has no sum over the [T, S] of each head either: that of the sum is one of d.
    """
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("btnd,bsnd->bnts", q, k, preferred_element_type=wide)
    logits = logits * q.shape[-1] ** -0.5
    # The result is the same whatever is taken off, and so is its gradient.
    weights = jnp.exp(logits - lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1).swapaxes(1, 2)[..., None]  # [B, T, N, 1]
    y = jnp.einsum("bnts,bsnd->btnd", weights.astype(v.dtype), v, preferred_element_type=wide)
    return (y / total).astype(q.dtype)
