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
    random = np.random.default_rng(1)
    z, e = random.normal(size=(n, LATENT)), NOISE * random.normal(size=(n, *SHAPE))
    return jnp.asarray((np.asarray(linear(jnp.float32(z))) + e) * KEEP, jnp.float32)


def posterior(y, noise=NOISE):
    """Means [n, LATENT] and the covariance of the latents that `MASK` and N(0, I) leave, float64.

    Σ = (I + Wᵀ W / σ²)⁻¹, μ = Σ Wᵀ (y − b) / σ², over the rows of W that are seen.
    """
    seen = KEEP.ravel() > 0
    w, rest = W[seen].astype(float), np.asarray(y, float).reshape(len(y), -1)[:, seen] - BIAS[seen]
    covariance = np.linalg.inv(np.eye(LATENT) + w.T @ w / noise**2)
    return rest @ w @ covariance / noise**2, covariance


def share_of_samples(y, noise):
    """(E w)² / E w² of weights w = p(y|z), z ~ N(0, I): effective per drawn samples, [n].

    p(y|z)² is (4πσ²)^(−m/2) times the density of y with half the variance.
    """
    seen = KEEP.ravel() > 0
    w, rest = W[seen].astype(float), np.asarray(y, float).reshape(len(y), -1)[:, seen] - BIAS[seen]

    def log_evidence(variance):
        covariance = w @ w.T + variance * np.eye(len(w))
        distance = np.einsum("ni,ij,nj->n", rest, np.linalg.inv(covariance), rest)
        return -0.5 * (distance + np.linalg.slogdet(2 * np.pi * covariance)[1])

    squared = log_evidence(noise**2 / 2) - len(w) / 2 * np.log(4 * np.pi * noise**2)
    return np.exp(2 * log_evidence(noise**2) - squared)


PIXEL = Operator(lambda x: x, (1, 1, 1), gram=1.0)


def two_roots(z):
    """x = z² + 0.3 z as an image of one pixel; 2 has the roots 1.27 and −1.57."""
    return (z**2 + 0.3 * z)[:, None, None]


def mass_above(noise):
    """P(z > 0 | y = 2) of `two_roots` and N(0, 1), by the trapezoidal rule."""
    z = np.linspace(-8, 8, 20001)
    p = np.exp(-((2 - z**2 - 0.3 * z) ** 2) / (2 * noise**2) - z**2 / 2)
    return p[z > 0].sum() / p.sum()
