"""A noise schedule with parameters: log SNR as a monotone network of time."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from genjax import keys
from genjax.numerics import check_static


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["ends", "slope", "weights", "biases", "mixture"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Learned:
    r"""The learned schedule of VDM: log-SNR as a monotone network of time.

    $$
    \begin{aligned}
    \lambda(t) &= \lambda_0 + (\lambda_1 - \lambda_0) \frac{m(t) - m(0)}{m(1) - m(0)}, \\
    m(t) &= |a|\, t + \sum_j |c_j| \tanh\bigl(|w_j| (t - \tfrac12) + b_j\bigr), \qquad
    \alpha^2 = \frac{1}{1 + e^{-\lambda}}, \quad \sigma^2 = \frac{1}{1 + e^{\lambda}}
    \end{aligned}
    $$

    It is a pytree whose leaves are the parameters, so an optimizer takes the schedule itself. Made
    by `learned`.

    Args:
      ends: [2], λ_0 and λ_1 at t = 0 and 1.
      slope: [], a.
      weights: [J], w.
      biases: [J], b.
      mixture: [J], c.

    References:
      Kingma et al., "Variational Diffusion Models" (2021), arXiv:2107.00630.
    """

    ends: Array
    slope: Array
    weights: Array
    biases: Array
    mixture: Array

    def _rise(self, t: Array, start: float) -> Array:
        """m(t) − m(start), without subtracting one from the other."""
        shape = (1,) * t.ndim + (-1,)
        w, b, c = (jnp.reshape(v, shape) for v in (self.weights, self.biases, self.mixture))
        w = jnp.abs(w)
        high, low = w * (t[..., None] - 0.5) + b, w * (start - 0.5) + b
        # tanh a − tanh b = tanh(a − b)·(1 − tanh a·tanh b).
        rise = jnp.tanh(w * (t[..., None] - start)) * (1 - jnp.tanh(high) * jnp.tanh(low))
        return jnp.abs(self.slope) * (t - start) + jnp.sum(jnp.abs(c) * rise, axis=-1)

    def log_snr(self, t: ArrayLike) -> Array:
        """λ(t) = log(α² / σ²), decreasing as long as λ_1 < λ_0.

        Args:
          t: times in [0, 1], of any shape.

        Returns:
          λ(t), shaped like t.
        """
        t = jnp.asarray(t, self.ends.dtype)
        share = self._rise(t, 0.0) / self._rise(jnp.ones_like(t), 0.0)
        return self.ends[0] + (self.ends[1] - self.ends[0]) * share

    def alpha(self, t: ArrayLike) -> Array:
        """α(t) = √sigmoid(λ(t)).

        Args:
          t: times in [0, 1], of any shape.

        Returns:
          α(t), shaped like t.
        """
        return jnp.exp(-0.5 * jax.nn.softplus(-self.log_snr(t)))

    def sigma(self, t: ArrayLike) -> Array:
        """σ(t) = √sigmoid(−λ(t)).

        Args:
          t: times in [0, 1], of any shape.

        Returns:
          σ(t), shaped like t.
        """
        return jnp.exp(-0.5 * jax.nn.softplus(self.log_snr(t)))

    def log_snr_derivative(self, t: ArrayLike) -> Array:
        """dλ/dt, by forward differentiation.

        Args:
          t: times in [0, 1], of any shape.

        Returns:
          dλ/dt, shaped like t.
        """
        t = jnp.asarray(t, self.ends.dtype)
        return jax.jvp(self.log_snr, (t,), (jnp.ones_like(t),))[1]

    def time(self, log_snr: ArrayLike) -> Array:
        """The inverse of `log_snr`, by bisection down to float32's resolution.

        Args:
          log_snr: λ, of any shape.

        Returns:
          The t in [0, 1] with λ(t) = log_snr, shaped like it.
        """
        log_snr = jnp.asarray(log_snr, self.ends.dtype)

        def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bounds
            middle = 0.5 * (low + high)
            later = self.log_snr(middle) > log_snr
            return jnp.where(later, middle, low), jnp.where(later, high, middle)

        bounds = jnp.zeros_like(log_snr), jnp.ones_like(log_snr)
        low, high = jax.lax.fori_loop(0, 30, halve, bounds)
        return 0.5 * (low + high)


def learned(
    key: Array, *, log_snr_max: float = 13.3, log_snr_min: float = -5.0, features: int = 1024
) -> Learned:
    r"""The initial learned schedule, nearly linear in log-SNR.

    $$
    \lambda(t) \approx \lambda_0 + t\, (\lambda_1 - \lambda_0)
    $$

    Args:
      key: one PRNG key.
      log_snr_max: λ_0, at t = 0.
      log_snr_min: λ_1, at t = 1.
      features: J, the number of hidden units.

    Returns:
      A `Learned` with random features.

    Raises:
      TypeError: where `features` is traced, or the key is none.
      ValueError: for more than one key.

    References:
      Kingma et al., "Variational Diffusion Models" (2021), arXiv:2107.00630.
    """
    check_static(features=features)
    if not keys.is_single(key):
        raise ValueError("give one key, not one per example")
    # Steep features all over [0, 1] are there from the start, with little weight.
    weights, biases, mixture = jax.random.normal(key, (3, features))
    return Learned(
        ends=jnp.array([log_snr_max, log_snr_min]),
        slope=jnp.ones(()),
        weights=4 * weights,
        biases=2 * biases,
        mixture=0.1 * mixture / features,
    )
