"""A noise schedule with parameters: log SNR as a monotone network of time."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["ends", "slope", "weights", "biases", "mixture"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Learned:
    """λ(t) = λ_0 + (λ_1 − λ_0)·(m(t) − m(0))/(m(1) − m(0)), α² = sigmoid(λ), σ² = sigmoid(−λ).

    m(t) = |slope|·t + Σ_j |mixture_j|·tanh(|weights_j|·(t − ½) + biases_j) rises with t. Kingma et
    al. 2021, "Variational Diffusion Models". It is a pytree: its fields are the
    parameters, so an optimizer takes the schedule itself. Made by `learned`.
    """

    ends: jax.Array  # [2] λ_0, λ_1
    slope: jax.Array  # []
    weights: jax.Array  # [J]
    biases: jax.Array  # [J]
    mixture: jax.Array  # [J]

    def _rise(self, t, start):
        """m(t) − m(start), without subtracting one from the other."""
        shape = (1,) * t.ndim + (-1,)
        w, b, c = (jnp.reshape(v, shape) for v in (self.weights, self.biases, self.mixture))
        w = jnp.abs(w)
        high, low = w * (t[..., None] - 0.5) + b, w * (start - 0.5) + b
        # tanh a − tanh b = tanh(a − b)·(1 − tanh a·tanh b).
        rise = jnp.tanh(w * (t[..., None] - start)) * (1 - jnp.tanh(high) * jnp.tanh(low))
        return jnp.abs(self.slope) * (t - start) + jnp.sum(jnp.abs(c) * rise, axis=-1)

    def log_snr(self, t):
        """λ(t) = log(α² / σ²), decreasing as long as λ_1 < λ_0."""
        t = jnp.asarray(t, self.ends.dtype)
        share = self._rise(t, 0.0) / self._rise(jnp.ones_like(t), 0.0)
        return self.ends[0] + (self.ends[1] - self.ends[0]) * share

    def alpha(self, t):
        """√sigmoid(λ(t))."""
        return jnp.exp(-0.5 * jax.nn.softplus(-self.log_snr(t)))

    def sigma(self, t):
        """√sigmoid(−λ(t))."""
        return jnp.exp(-0.5 * jax.nn.softplus(self.log_snr(t)))

    def log_snr_derivative(self, t):
        """dλ/dt, by forward differentiation."""
        t = jnp.asarray(t, self.ends.dtype)
        return jax.jvp(self.log_snr, (t,), (jnp.ones_like(t),))[1]

    def time(self, log_snr):
        """The t in [0, 1] with λ(t) = log_snr, by bisection down to float32's resolution."""
        log_snr = jnp.asarray(log_snr, self.ends.dtype)

        def halve(_, bounds):
            low, high = bounds
            middle = 0.5 * (low + high)
            later = self.log_snr(middle) > log_snr
            return jnp.where(later, middle, low), jnp.where(later, high, middle)

        bounds = jnp.zeros_like(log_snr), jnp.ones_like(log_snr)
        low, high = jax.lax.fori_loop(0, 30, halve, bounds)
        return 0.5 * (low + high)


def learned(key, *, log_snr_max=13.3, log_snr_min=-5.0, features=1024) -> Learned:
    """A new schedule, nearly linear from log_snr_max to log_snr_min. Kingma et al. 2021."""
    # Steep features all over [0, 1] are there from the start, with little weight.
    weights, biases, mixture = jax.random.normal(key, (3, features))
    return Learned(
        ends=jnp.array([log_snr_max, log_snr_min]),
        slope=jnp.ones(()),
        weights=4 * weights,
        biases=2 * biases,
        mixture=0.1 * mixture / features,
    )
