"""The evidence lower bound of a diffusion in continuous (or discrete) time, by parts."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.keys import uniform_times
from genjax.numerics import (
    check_floats,
    check_has,
    check_prediction,
    expand,
    kl_to_standard_normal,
    sum_per_example,
    widen,
)


class DiffusionElbo(NamedTuple):
    """The parts of −log p(x) ≤ prior + diffusion + reconstruction, in nats per image.

    Attributes:
      prior: KL(q(z_1|x) ‖ N(0, I)), [B].
      diffusion: an unbiased estimate, from one time and one noise per example, [B].
      reconstruction: −log p(x|z_0), [B].
    """

    prior: Array
    diffusion: Array
    reconstruction: Array


def gaussian_decoder(x: Array, scaled: Array, log_snr: Array) -> Array:
    r"""The decoder of continuous data.

    $$
    -\ln N\!\left(x; \frac{z_0}{\alpha_0}, \frac{1}{\mathrm{SNR}_0}\right)
    $$

    Args:
      x: clean data, [B, ...].
      scaled: z_0/α_0, [B, ...].
      log_snr: λ(0), broadcast against x.

    Returns:
      Nats, elementwise, [B, ...].

    References:
      Kingma et al., "Variational Diffusion Models" (2021), arXiv:2107.00630.
    """
    squared = jnp.exp(log_snr) * (scaled - x) ** 2
    return 0.5 * (squared - log_snr + math.log(2 * math.pi))


def categorical_decoder(values: Array) -> Callable[[Array, Array, Array], Array]:
    r"""A decoder over the values that an element of x can take, such as 8-bit levels.

    $$
    p(x | z_0) = \frac{q(z_0 | x)}{\sum_v q(z_0 | v)}
    $$

    It makes an array [B, ..., L].

    Args:
      values: [L], such as jnp.linspace(-1, 1, 256) for 8-bit images in −1..1.

    Returns:
      decoder(x, z_0/α_0, λ_0) -> −log p(x|z_0), elementwise, in nats.

    References:
      Kingma et al., "Variational Diffusion Models" (2021), arXiv:2107.00630, section 3.3.
    """

    def decoder(x: Array, scaled: Array, log_snr: Array) -> Array:
        candidates = jnp.reshape(values, (1,) * x.ndim + (-1,))
        exponent = -0.5 * jnp.exp(log_snr) * (scaled[..., None] - candidates) ** 2
        chosen = -0.5 * jnp.exp(log_snr) * (scaled - x) ** 2
        return jax.nn.logsumexp(exponent, axis=-1) - chosen

    return decoder


def diffusion_elbo(
    predict: Callable[[Array, Array], Array],
    x: Array,
    key: Array,
    *,
    schedule: Any,
    target: Any,
    decoder: Callable[[Array, Array, Array], Array],
    steps: int | None = None,
    times: Callable[[Array, int], Array] = uniform_times,
) -> DiffusionElbo:
    r"""The parts of the negative ELBO, whose sum bounds −log p(x).

    $$
    D_{KL}\bigl(q(z_1 | x) \,\Vert\, N(0, I)\bigr)
    + \tfrac12 \mathrm{E}_t \bigl[-\lambda'(t) \, \lVert \varepsilon - \hat\varepsilon(z_t, t)
    \rVert^2\bigr] - \ln p(x | z_0)
    $$

    In discrete time, with T steps, the second part is

    $$
    \tfrac{T}{2} \mathrm{E}_t \bigl[(e^{\lambda_s - \lambda_t} - 1) \,
    \lVert \varepsilon - \hat\varepsilon \rVert^2\bigr], \qquad
    t = \frac{\lceil u T \rceil}{T}, \quad s = t - \frac1T
    $$

    A learned schedule receives its gradient: of the ELBO for its ends, while inside only the
    variance depends on it (descend on the square of the loss).

    Args:
      predict: (z [B, ...], t [B]) -> the prediction of `target`, of x's shape.
      x: clean data, [B, ...].
      key: one key, or one per example [B].
      schedule: the noise schedule, with finite λ(0) and λ(1).
      target: what `predict` predicts; its to_noise returns ε̂: genjax.diffusion.predictions.
      decoder: (x, z_0/α_0, λ_0) -> −log p(x|z_0), elementwise.
      steps: T; None for continuous time.
      times: times(key, n) -> t [n], uniform on (0, 1); times.LowDiscrepancy has less variance.

    Returns:
      Each part [B], in nats per image.

    Raises:
      TypeError: where an argument is a class or a name in place of an object.
      ValueError: where x is of integers, the times are not [B] or not in 0..1, or the prediction is
        not of x's shape.

    References:
      Kingma et al., "Variational Diffusion Models" (2021), arXiv:2107.00630, sections 3 to 5.
    """
    check_floats(x=x)
    check_has("alpha sigma log_snr", "schedules.LinearLogSNR()", schedule=schedule)
    check_has("to_noise", "predictions.noise", target=target)
    time_key, first_key, noise_key = keys.split(key, 3, x.shape[0])
    clean = widen(x)
    start, end = jnp.zeros((), clean.dtype), jnp.ones((), clean.dtype)

    prior = sum_per_example(kl_to_standard_normal(schedule.alpha(end) * clean, schedule.sigma(end)))

    log_snr = schedule.log_snr(start)
    first_noise = keys.normal(first_key, x.shape, clean.dtype)
    reconstruction = sum_per_example(
        decoder(clean, clean + jnp.exp(-0.5 * log_snr) * first_noise, log_snr)
    )

    t = keys.draw_times(times, time_key, x)
    if steps is None:
        rate = -schedule.log_snr_derivative(t)
    else:
        t = jnp.ceil(t * steps) / steps
        rate = steps * jnp.expm1(schedule.log_snr(t - 1 / steps) - schedule.log_snr(t))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    eps = keys.normal(noise_key, x.shape, clean.dtype)
    z = expand(alpha, x) * clean + expand(sigma, x) * eps
    prediction = predict(z.astype(x.dtype), t)
    check_prediction(prediction, x)
    error = eps - target.to_noise(prediction, z, alpha, sigma)
    return DiffusionElbo(prior, 0.5 * rate * sum_per_example(error**2), reconstruction)
