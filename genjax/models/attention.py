"""Scaled dot-product attention: jax.nn.dot_product_attention, with faster forms where there are."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from genjax.models import kernels

CUDNN_FEATURES = 128  # of a head: with more cuDNN is no faster than XLA


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    r"""Scaled dot-product attention, for each head; the softmax in float32 at least.

    $$
    \mathrm{softmax}\bigl(q k^\top / \sqrt{d}\bigr)\, v
    $$

    Args:
      q: queries, [B, T, N, d] for N heads.
      k: keys, [B, S, N, d].
      v: values, [B, S, N, d].
      mask: [T, S], which keys each query sees, at least one; None for all of them.

    Returns:
      [B, T, N, d].

    References:
      Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762, eq. 1.
    """
    if mask is not None:
        return lax.platform_dependent(q, k, v, mask, cpu=_late, default=_masked)
    if _cudnn_takes(q, k) and kernels.on_nvidia():
        return _flash(q, k, v, settings=None)
    return lax.platform_dependent(q, k, v, cpu=_late, default=jax.nn.dot_product_attention)


def _masked(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    return jax.nn.dot_product_attention(q, k, v, mask=mask[None, None])


def _cudnn_takes(q: jax.Array, k: jax.Array) -> bool:
    lengths, features = (q.shape[1], k.shape[1]), q.shape[-1]
    if q.dtype not in (jnp.bfloat16, jnp.float16) or any(n % 2 for n in lengths):
        return False
    return features % 8 == 0 and features <= CUDNN_FEATURES


def _xla(q: jax.Array, k: jax.Array, v: jax.Array, *, settings: None) -> jax.Array:
    return jax.nn.dot_product_attention(q, k, v)


def _with_gradient(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Callable]:
    return jax.vjp(partial(jax.nn.dot_product_attention, implementation="cudnn"), q, k, v)


# The value as the gradient computes it again, so that XLA computes it once.
def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, *, settings: None) -> jax.Array:
    return _with_gradient(q, k, v)[0]


def _cudnn_gradient(
    q: jax.Array, k: jax.Array, v: jax.Array, dy: jax.Array, *, settings: None
) -> list[jax.Array]:
    return list(_with_gradient(q, k, v)[1](dy))


_flash = kernels.with_kernels("attention", _xla, _cudnn, _cudnn_gradient)


def _late(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Divides by the softmax's denominator after the weighted sum: d divisions per query, not S.

    The gradient then reduces over d as well, instead of over the [T, S] of each head.
    """
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("btnd,bsnd->bnts", q, k, preferred_element_type=wide)
    logits = logits * q.shape[-1] ** -0.5
    if mask is not None:
        logits = jnp.where(mask[None, None], logits, -jnp.inf)
    # Neither the result nor its gradient depends on what is subtracted.
    weights = jnp.exp(logits - lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1).swapaxes(1, 2)[..., None]  # [B, T, N, 1]
    y = jnp.einsum("bnts,bsnd->btnd", weights.astype(v.dtype), v, preferred_element_type=wide)
    return (y / total).astype(q.dtype)
