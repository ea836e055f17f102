"""A Gaussian fitted to an encoder's codes: codes from noise, and back."""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

Moments = dict[str, jax.Array]  # "mean" [d], "square" [d, d] = E[c cᵀ]


def standard(size: int) -> Moments:
    """The moments of N(0, I): where a fit begins."""
    return {"mean": jnp.zeros(size), "square": jnp.eye(size)}


def update(moments: Moments, codes: jax.Array, momentum: float = 0.99) -> Moments:
    """Moving averages over batches of codes [B, d].

    Both moments are means over examples, so that averaging them over devices is exact.
    """
    codes = jax.lax.stop_gradient(codes)
    now = {"mean": jnp.mean(codes, axis=0), "square": codes.T @ codes / codes.shape[0]}
    return jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, moments, now)


def colour(moments: Moments, z: jax.Array) -> jax.Array:
    """Noise [B, d] ~ N(0, I) -> codes [B, d] ~ N(mean, C): c = mean + L z, C = L Lᵀ."""
    return moments["mean"][None] + z @ _factor(moments).T


def whiten(moments: Moments, codes: jax.Array) -> jax.Array:
    """The inverse of `colour`: codes [B, d] -> [B, d] of mean 0 and covariance I."""
    centred = codes - moments["mean"][None]
    return solve_triangular(_factor(moments), centred.T, lower=True).T


def _factor(moments: Moments) -> jax.Array:
    mean, square = moments["mean"], moments["square"]
    covariance = square - jnp.outer(mean, mean)
    # Codes that span fewer than d dimensions would have no factor.
    ridge = 1e-5 * jnp.trace(covariance) / mean.size
    return jnp.linalg.cholesky(covariance + ridge * jnp.eye(mean.size))
