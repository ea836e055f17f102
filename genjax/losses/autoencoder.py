"""Deterministic autoencoders: squared error, and the regularised autoencoder's penalties."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, numerics


class RegularizedAutoencoder(NamedTuple):
    """The three parts of the regularised autoencoder's loss.

    Attributes:
      error: ‖x − D(z)‖², [B].
      code: ½‖z‖², [B].
      penalty: on the decoder at z = E(x), [B].
    """

    error: Array
    code: Array
    penalty: Array

    def loss(self, beta: float, scale: float = 0.0) -> Array:
        r"""The weighted sum of the parts.

        $$
        \mathcal{L} = \mathrm{error} + \beta \, \mathrm{code} + \lambda \, \mathrm{penalty}
        $$

        Args:
          beta: weight of the code.
          scale: λ, weight of the penalty.

        Returns:
          [B], squared units of x.

        References:
          Ghosh et al., "From Variational to Deterministic Autoencoders" (2020), arXiv:1903.12436.
        """
        return self.error + beta * self.code + scale * self.penalty


def squared_error(
    encode: Callable[[Array], Array], decode: Callable[[Array], Array], x: Array
) -> Array:
    r"""The squared error of a reconstruction.

    $$
    \|x - D(E(x))\|^2
    $$

    Args:
      encode: E, x -> code.
      decode: D, code -> like x.
      x: [B, ...].

    Returns:
      [B], summed over an image's elements, squared units of x.

    Raises:
      ValueError: where x is of integers, or the decoder's output has another shape than x.

    References:
      Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks"
      (Science 2006).
    """
    numerics.check_floats(x=x)
    return _squared_difference(decode(encode(x)), x)


def regularized_autoencoder(
    encode: Callable[[Array], Array],
    decode: Callable[[Array], Array],
    x: Array,
    *,
    penalty: Callable[[Callable[[Array], Array], Array], Array] | None = None,
) -> RegularizedAutoencoder:
    r"""The parts of the regularised autoencoder (RAE).

    Without a penalty its part is zero. That is RAE-L2 where the caller adds a weight times
    `l2(decoder's parameters)`.

    $$
    \|x - D(z)\|^2, \qquad \tfrac{1}{2} \|z\|^2, \qquad \mathrm{penalty}(D, z), \qquad z = E(x)
    $$

    Args:
      encode: E, x -> z [B, ...].
      decode: D, z -> like x.
      x: [B, ...].
      penalty: (decode, z) -> [B]; `gradient_penalty` for RAE-GP.

    Returns:
      The parts, each [B].

    Raises:
      ValueError: where x is of integers, or the decoder's output has another shape than x.

    References:
      Ghosh et al., "From Variational to Deterministic Autoencoders" (2020), arXiv:1903.12436,
      section 3.
    """
    numerics.check_floats(x=x)
    z = encode(x)
    error = _squared_difference(decode(z), x)
    code = 0.5 * numerics.sum_per_example(numerics.widen(z) ** 2)
    return RegularizedAutoencoder(
        error, code, penalty(decode, z) if penalty else jnp.zeros_like(error)
    )


def gradient_penalty(decode: Callable[[Array], Array], z: Array, key: Array | None = None) -> Array:
    r"""The squared Frobenius norm of the decoder's Jacobian at each z.

    Without a key it is exact, at the cost of one decoder derivative for each latent. With a key it
    is ‖vᵀ∂D/∂z‖² for one v ~ N(0, I): the same in expectation, for one derivative in all. D must
    treat the examples of a batch independently.

    $$
    \left\| \frac{\partial D}{\partial z} \right\|_F^2
    $$

    Args:
      decode: D, z -> [B, ...].
      z: [B, ...].
      key: one key, or one per example [B]; None for the exact value.

    Returns:
      [B].

    Raises:
      ValueError: where z is of integers, or there is another number of keys.

    References:
      Ghosh et al., "From Variational to Deterministic Autoencoders" (2020), arXiv:1903.12436,
      section 3.
    """
    numerics.check_floats(z=z)
    if key is not None:
        out, pullback = jax.vjp(decode, z)
        (gradient,) = pullback(keys.normal(key, out.shape).astype(out.dtype))
        return numerics.sum_per_example(numerics.widen(gradient) ** 2)

    latents = z[0].size

    def squared_column(direction: Array) -> Array:
        tangent = jnp.broadcast_to(direction.reshape(1, *z.shape[1:]), z.shape)
        column = jax.jvp(decode, (z,), (tangent,))[1]
        return numerics.sum_per_example(numerics.widen(column) ** 2)

    return jax.vmap(squared_column)(jnp.eye(latents, dtype=z.dtype)).sum(0)


def l2(params: Any) -> Array:
    r"""The sum of squares of all parameters, the decay of RAE-L2.

    $$
    \sum_i w_i^2
    $$

    Args:
      params: a tree of arrays.

    Returns:
      A scalar.

    References:
      Ghosh et al., "From Variational to Deterministic Autoencoders" (2020), arXiv:1903.12436,
      section 3.
    """
    squares = (jnp.sum(numerics.widen(w) ** 2) for w in jax.tree.leaves(params))
    return sum(squares, jnp.zeros(()))


def _squared_difference(reconstruction: Array, x: Array) -> Array:
    if reconstruction.shape != x.shape:
        raise ValueError(
            f"give a decoder whose output has x's shape: decode(encode(x)) has "
            f"{reconstruction.shape}, x has {x.shape}"
        )
    difference = numerics.widen(x) - numerics.widen(reconstruction)
    return numerics.sum_per_example(difference**2)
