"""Maximum mean discrepancy between codes and prior: InfoVAE, and with it the Wasserstein AE."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from genjax import keys, numerics, over_batch


class InfoVAE(NamedTuple):
    """The three parts of InfoVAE's objective.

    Attributes:
      nll: −log p(x|z), [B], nats per image.
      kl: KL(q(z|x) ‖ N(0, I)), [B], nats per image.
      mmd: the discrepancy of codes and prior, a scalar: only a batch has one.
    """

    nll: Array
    kl: Array
    mmd: Array

    def loss(self, alpha: float, scale: float) -> Array:
        r"""The weighted sum of the parts, whose mean is InfoVAE's objective.

        α = 0, λ = 1 is the ELBO; α = 1 an MMD-VAE without a penalty on mutual information.

        $$
        \mathcal{L} = \mathrm{nll} + (1 - \alpha) \, \mathrm{kl}
          + (\alpha + \lambda - 1) \, \mathrm{mmd}
        $$

        Args:
          alpha: α, the weight that mutual information gains.
          scale: λ, the weight of q(z) against p(z).

        Returns:
          [B], nats per image.

        References:
          Zhao, Song & Ermon, "InfoVAE: Balancing Learning and Inference in Variational
          Autoencoders" (2019), arXiv:1706.02262.
        """
        return self.nll + (1 - alpha) * self.kl + (alpha + scale - 1) * self.mmd


def info_vae(
    encode: Callable[[Array], tuple[Array, Array]],
    decode: Callable[[Array], Any],
    x: Array,
    key: Array,
    *,
    nll: Callable[[Any, Array], Array],
    kernel: Callable[[Array], Array] | None = None,
    axis_name: str | None = over_batch.DATA_AXIS,
) -> InfoVAE:
    r"""The parts of InfoVAE: the ELBO's two, and the MMD of the codes to as many prior draws.

    With the KL at weight 0 it is the WAE-MMD of Tolstikhin et al.

    $$
    -\log p(x|z), \qquad \mathrm{KL}(q(z|x) \,\|\, \mathcal{N}(0, I)), \qquad
      \mathrm{MMD}^2(q(z), \mathcal{N}(0, I))
    $$

    Args:
      encode: images -> (mean, log_var) of q(z|x), each [B, ...].
      decode: z [B, ...] -> the parameters that `nll` takes.
      x: images, [B, ...], at least two in the global batch.
      key: one key, or one per image [B].
      nll: (parameters, x) -> [B], nats per image; see `likelihoods`.
      kernel: as in `mmd`.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      The parts; nll and kl [B], nats per image, mmd a scalar.

    Raises:
      ValueError: where the shapes of mean and log_var differ, there is another number of keys, or
        there are fewer than two images.

    References:
      Zhao, Song & Ermon, "InfoVAE: Balancing Learning and Inference in Variational Autoencoders"
      (2019), arXiv:1706.02262.
      Tolstikhin et al., "Wasserstein Auto-Encoders" (2018), arXiv:1711.01558.
    """
    mean, log_var = encode(x)
    numerics.check_floats(mean=mean)
    numerics.check_same_shape(mean=mean, log_var=log_var)
    # One draw of twice the size: noise for the codes, and the prior's sample.
    draws = keys.normal(key, (mean.shape[0], 2, *mean.shape[1:]))
    noise, prior = jnp.moveaxis(draws, 1, 0)
    wide, wide_log_var = numerics.widen(mean), numerics.widen(log_var)
    z = wide + numerics.exp_with_tangent(0.5 * wide_log_var) * noise
    kl = 0.5 * (wide**2 + numerics.exp_with_tangent(wide_log_var) - 1 - wide_log_var)
    return InfoVAE(
        nll(decode(z.astype(mean.dtype)), x),
        numerics.sum_per_example(kl),
        mmd(z, prior, kernel=kernel, axis_name=axis_name),
    )


def mmd(
    a: Array,
    b: Array,
    *,
    kernel: Callable[[Array], Array] | None = None,
    axis_name: str | None = over_batch.DATA_AXIS,
) -> Array:
    r"""The squared maximum mean discrepancy of two samples, unbiased: so it can be negative.

    $$
    \frac{1}{N(N-1)} \sum_{i \ne j} k(a_i, a_j) + \frac{1}{M(M-1)} \sum_{i \ne j} k(b_i, b_j)
      - \frac{2}{NM} \sum_{i,j} k(a_i, b_j)
    $$

    Args:
      a: [N, ...], at least two in the global batch.
      b: [M, ...], at least two in the global batch, with the trailing shape of `a`.
      kernel: squared distances -> k; None for `inverse_multiquadratic(2 * D)` with D elements per
        example, the WAE's choice for N(0, I).
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      A scalar, the same on every device.

    Raises:
      ValueError: where the trailing shapes differ, or N or M is less than 2.

    References:
      Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012), lemma 6.
    """
    a, b = over_batch.gather(a, axis_name), over_batch.gather(b, axis_name)
    if a.shape[1:] != b.shape[1:] or min(a.shape[0], b.shape[0]) < 2:
        raise ValueError(
            f"give two samples of equal shape but for their number, each at least 2: {a.shape} "
            f"and {b.shape}"
        )
    a, b = (numerics.widen(s).reshape(s.shape[0], -1) for s in (a, b))
    kernel = kernel or inverse_multiquadratic(2 * a.shape[1])
    return (
        _mean_off_diagonal(a, kernel)
        + _mean_off_diagonal(b, kernel)
        - 2 * jnp.mean(kernel(_squared_distances(a, b)))
    )


def gaussian_kernel(width: float) -> Callable[[Array], Array]:
    r"""A Gaussian kernel of squared distances.

    $$
    k(d^2) = \exp\left(-\frac{d^2}{2\,\mathrm{width}^2}\right)
    $$

    Args:
      width: standard deviation, in the unit of the codes.

    Returns:
      Squared distances -> k, in 0…1.

    References:
      Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012).
    """
    return lambda squared_distance: jnp.exp(-squared_distance / (2 * width**2))


def inverse_multiquadratic(c: float) -> Callable[[Array], Array]:
    r"""A kernel whose gradient reaches far where a Gaussian kernel's has died.

    $$
    k(d^2) = \frac{c}{c + d^2}
    $$

    Args:
      c: the squared distance at which k is ½.

    Returns:
      Squared distances -> k, in 0…1.

    References:
      Tolstikhin et al., "Wasserstein Auto-Encoders" (2018), arXiv:1711.01558, section 4.
    """
    return lambda squared_distance: c / (c + squared_distance)


def _squared_distances(a: Array, b: Array) -> Array:
    # Differences first: |a|² + |b|² − 2ab would cancel, and XLA fuses the [N, M, D] away.
    return jnp.sum((a[:, None] - b[None]) ** 2, axis=-1)


def _mean_off_diagonal(a: Array, kernel: Callable[[Array], Array]) -> Array:
    n = a.shape[0]
    k = jnp.where(jnp.eye(n, dtype=bool), 0, kernel(_squared_distances(a, a)))
    return jnp.sum(k) / (n * (n - 1))
