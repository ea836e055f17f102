"""Maximum mean discrepancy between codes and prior: InfoVAE, and with it the Wasserstein AE."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class InfoVAE(NamedTuple):
    """nll and kl, each [B], nats per image; mmd, one number, which only a batch has."""

    nll: Array
    kl: Array
    mmd: Array

    def loss(self, alpha: float, scale: float) -> Array:
        """nll + (1−α)·kl + (α+λ−1)·mmd, [B], with λ = scale; its mean is InfoVAE's objective.

        α = 0, λ = 1: the ELBO; α = 1: an MMD-VAE without mutual-information penalty.
        """
        return self.nll + (1 - alpha) * self.kl + (alpha + scale - 1) * self.mmd


def info_vae(
    encode: Callable[[Array], tuple[Array, Array]],
    decode: Callable,
    x: Array,
    key: Array,
    *,
    nll: Callable[..., Array],
    kernel: Callable[[Array], Array] | None = None,
) -> InfoVAE:
    """−log p(x|z), KL(q(z|x) ‖ N(0, I)) and the MMD of the batch's codes to as many prior draws.

    encode, decode, nll, key as in an ELBO; kernel as in mmd. Zhao, Song & Ermon, "InfoVAE:
    Balancing Learning and Inference in Variational Autoencoders" (2019); with kl at weight 0 it is
    the WAE-MMD of Tolstikhin et al. (2018). Needs at least two images.
    """
    mean, log_var = encode(x)
    if mean.shape != log_var.shape:
        raise ValueError(
            f"give mean and log_var one shape: mean has {mean.shape}, log_var has {log_var.shape}"
        )
    # One draw of twice the size: noise for the codes, and the prior's sample.
    noise, prior = jnp.moveaxis(_normal(key, (mean.shape[0], 2, *mean.shape[1:])), 1, 0)
    wide, wide_log_var = _widen(mean), _widen(log_var)
    z = wide + _exp(0.5 * wide_log_var) * noise
    kl = 0.5 * (wide**2 + _exp(wide_log_var) - 1 - wide_log_var)
    return InfoVAE(
        nll(decode(z.astype(mean.dtype)), x),
        jnp.sum(kl, axis=tuple(range(1, kl.ndim))),
        mmd(z, prior, kernel=kernel),
    )


def mmd(a: Array, b: Array, *, kernel: Callable[[Array], Array] | None = None) -> Array:
    """mean_{i≠j} k(a_i, a_j) + mean_{i≠j} k(b_i, b_j) − 2 mean_{ij} k(a_i, b_j), one number.

    a: [N, ...], b: [M, ...] with equal trailing shape, N, M ≥ 2. kernel: k from squared distances,
    inverse_multiquadratic(2D) for D numbers an example unless given (the WAE's choice for N(0, I)).
    Unbiased, so it can be negative. Gretton et al., "A Kernel Two-Sample Test" (2012), lemma 6.
    """
    if a.shape[1:] != b.shape[1:] or min(a.shape[0], b.shape[0]) < 2:
        raise ValueError(
            f"give two samples of equal shape but for their number, each at least 2: {a.shape} "
            f"and {b.shape}"
        )
    a, b = (_widen(s).reshape(s.shape[0], -1) for s in (a, b))
    kernel = kernel or inverse_multiquadratic(2 * a.shape[1])
    return (
        _mean_off_diagonal(a, kernel)
        + _mean_off_diagonal(b, kernel)
        - 2 * jnp.mean(kernel(_squared_distances(a, b)))
    )


def gaussian_kernel(width: float) -> Callable[[Array], Array]:
    """k(d²) = exp(−d²/(2·width²)); width in the unit of the codes. Gretton et al. (2012)."""
    return lambda squared_distance: jnp.exp(-squared_distance / (2 * width**2))


def inverse_multiquadratic(c: float) -> Callable[[Array], Array]:
    """k(d²) = c/(c + d²), whose gradient reaches far where a Gaussian kernel's has died.

    Tolstikhin et al., "Wasserstein Auto-Encoders" (2018), section 4.
    """
    return lambda squared_distance: c / (c + squared_distance)


def _squared_distances(a: Array, b: Array) -> Array:
    # Differences first: |a|² + |b|² − 2ab would cancel, and XLA fuses the [N, M, D] away.
    return jnp.sum((a[:, None] - b[None]) ** 2, axis=-1)


def _mean_off_diagonal(a: Array, kernel: Callable[[Array], Array]) -> Array:
    n = a.shape[0]
    k = jnp.where(jnp.eye(n, dtype=bool), 0, kernel(_squared_distances(a, a)))
    return jnp.sum(k) / (n * (n - 1))


def _exp(a: Array) -> Array:
    # Past e^30 its tangent: finite, with a gradient that still points home, where exp gives inf.
    return jnp.exp(jnp.minimum(a, 30)) * (1 + jnp.maximum(a - 30, 0))


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
    """At least float32: sums and exponentials in bfloat16 would lose the answer."""
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
