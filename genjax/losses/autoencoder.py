"""Deterministic autoencoders: squared error, and the regularised autoencoder's penalties."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class RegularizedAutoencoder(NamedTuple):
    """Three parts, each [B]: ‖x − D(z)‖², ½‖z‖² and a penalty on the decoder at z = E(x)."""

    error: Array
    code: Array
    penalty: Array

    def loss(self, beta: float, scale: float = 0.0) -> Array:
        """error + β·code + scale·penalty, [B]."""
        return self.error + beta * self.code + scale * self.penalty


def squared_error(
    encode: Callable[[Array], Array], decode: Callable[[Array], Array], x: Array
) -> Array:
    """‖x − D(E(x))‖², summed over an image's elements; x: [B, ...] -> [B], squared units of x.

    Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks" (2006).
    """
    return _squared_difference(decode(encode(x)), x)


def regularized_autoencoder(
    encode: Callable[[Array], Array],
    decode: Callable[[Array], Array],
    x: Array,
    *,
    penalty: Callable[[Callable[[Array], Array], Array], Array] | None = None,
) -> RegularizedAutoencoder:
    """The RAE by parts: x [B, ...]; encode(x) -> z [B, ...]; decode(z) like x.

    penalty(decode, z) -> [B]: gradient_penalty gives RAE-GP. Without one it is zero, for RAE-L2,
    where the caller adds scale·l2(decoder's parameters). Ghosh et al., "From Variational to
    Deterministic Autoencoders" (2020), section 3.
    """
    z = encode(x)
    error = _squared_difference(decode(z), x)
    code = 0.5 * _per_example(_widen(z) ** 2)
    return RegularizedAutoencoder(
        error, code, penalty(decode, z) if penalty else jnp.zeros_like(error)
    )


def gradient_penalty(decode: Callable[[Array], Array], z: Array, key: Array | None = None) -> Array:
    """‖∂D/∂z‖²_F at each z: [B, ...] -> [B].

    Without a key exact, at the cost of one decoder derivative for each latent. With one (a key, or
    one per example, [B]): ‖vᵀ∂D/∂z‖² for one v ~ N(0, I), the same in expectation for one
    derivative in all. D must treat the examples of a batch independently. Ghosh et al. (2020).
    """
    if key is not None:
        out, pullback = jax.vjp(decode, z)
        (gradient,) = pullback(_normal(key, out.shape).astype(out.dtype))
        return _per_example(_widen(gradient) ** 2)

    latents = z[0].size

    def squared_column(direction: Array) -> Array:
        tangent = jnp.broadcast_to(direction.reshape(1, *z.shape[1:]), z.shape)
        return _per_example(_widen(jax.jvp(decode, (z,), (tangent,))[1]) ** 2)

    return jax.vmap(squared_column)(jnp.eye(latents, dtype=z.dtype)).sum(0)


def l2(params: Any) -> Array:
    """Σ w² over all arrays of a tree, one number: the decay of RAE-L2, Ghosh et al. (2020)."""
    return sum((jnp.sum(_widen(w) ** 2) for w in jax.tree.leaves(params)), jnp.zeros(()))


def _squared_difference(reconstruction: Array, x: Array) -> Array:
    if reconstruction.shape != x.shape:
        raise ValueError(
            f"give a decoder whose output has x's shape: decode(encode(x)) has "
            f"{reconstruction.shape}, x has {x.shape}"
        )
    return _per_example((_widen(x) - _widen(reconstruction)) ** 2)


def _per_example(elements: Array) -> Array:
    return jnp.sum(elements, axis=tuple(range(1, elements.ndim)))


def _normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal noise from one key, or example by example from [B] keys."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.ndim == 0:
        return jax.random.normal(key, shape)
    if key.shape != shape[:1]:
        raise ValueError(f"give one key, or one per example: {key.shape} keys for shape {shape}")
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(key)


def _widen(a: Array) -> Array:
    """At least float32: sums in bfloat16 would lose the answer."""
    a = jnp.asarray(a)
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
