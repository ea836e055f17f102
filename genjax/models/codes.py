"""A Gaussian fitted to an encoder's codes by moving averages: whitening and its inverse."""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

Moments = dict[str, jax.Array]  # "mean" [d], "square" [d, d] = E[c cᵀ]


def standard(size: int) -> Moments:
    """The moments of N(0, I), with which a fit starts.

    Args:
      size: d, features of a code.

    Returns:
      The moments.
    """
    return {"mean": jnp.zeros(size), "square": jnp.eye(size)}


def update(moments: Moments, codes: jax.Array, momentum: float = 0.99) -> Moments:
    """Updates moving averages of the moments with a batch of codes; no gradient flows.

    Both moments are means over examples, so that averaging them over devices is exact.

    Args:
      moments: the averages so far.
      codes: [B, d].
      momentum: the weight of the averages so far, in 0..1.

    Returns:
      The updated averages.
    """
    codes = jax.lax.stop_gradient(codes)
    now = {"mean": jnp.mean(codes, axis=0), "square": codes.T @ codes / codes.shape[0]}
    return jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, moments, now)


def colour(moments: Moments, z: jax.Array) -> jax.Array:
    r"""Codes from standard normal noise.

    $$
    c = \mu + L z, \qquad C = L L^\top
    $$

    Args:
      moments: of the codes, which give μ and the covariance C.
      z: noise ~ N(0, I), [B, d].

    Returns:
      Codes ~ N(μ, C), [B, d].
    """
    return moments["mean"][None] + z @ _factor(moments).T


def whiten(moments: Moments, codes: jax.Array) -> jax.Array:
    """The inverse of `colour`.

    Args:
      moments: of the codes.
      codes: [B, d].

    Returns:
      [B, d], of mean 0 and covariance I.
    """
    centred = codes - moments["mean"][None]
    return solve_triangular(_factor(moments), centred.T, lower=True).T


def _factor(moments: Moments) -> jax.Array:
    mean, square = moments["mean"], moments["square"]
    covariance = square - jnp.outer(mean, mean)
    # The covariance of codes that span fewer than d dimensions has no Cholesky factor.
    ridge = 1e-5 * jnp.trace(covariance) / mean.size
    return jnp.linalg.cholesky(covariance + ridge * jnp.eye(mean.size))
