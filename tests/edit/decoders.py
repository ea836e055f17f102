"""Small decoders whose posteriors are known."""

import jax.numpy as jnp
import numpy as np

from genjax.edit.operator import Operator

LATENT, SHAPE, NOISE = 3, (2, 3, 1), 0.4
_random = np.random.default_rng(0)
# One number that is seen well, one that is hardly seen: their deviations differ 20-fold.
W = (_random.normal(size=(6, LATENT)) * [10, 1, 0.1]).astype(np.float32)
BIAS = _random.normal(size=6).astype(np.float32)
KEEP = np.array([1, 1, 0, 1, 0, 1], np.float32).reshape(SHAPE)  # rows of W that are seen
MASK = Operator(lambda x: x * KEEP[None], SHAPE, gram=1.0)


def linear(z):
    """W z + b as an image."""
    return (z @ W.T + BIAS[None]).reshape(len(z), *SHAPE)


def observation(n):
    """n observations of images that `linear` decodes, with noise: [n, *SHAPE]."""
    z, e = _random.normal(size=(n, LATENT)), NOISE * _random.normal(size=(n, *SHAPE))
    return jnp.asarray((np.asarray(linear(jnp.float32(z))) + e) * KEEP, jnp.float32)


def posterior(y, noise=NOISE):
    """Means [n, LATENT] and the covariance of the latents that `MASK` and N(0, I) leave, float64.

    Σ = (I + Wᵀ W / σ²)⁻¹, μ = Σ Wᵀ (y − b) / σ², over the rows of W that are seen.
    """
    seen = KEEP.ravel() > 0
    w, rest = W[seen].astype(float), np.asarray(y, float).reshape(len(y), -1)[:, seen] - BIAS[seen]
    covariance = np.linalg.inv(np.eye(LATENT) + w.T @ w / noise**2)
    return rest @ w @ covariance / noise**2, covariance
