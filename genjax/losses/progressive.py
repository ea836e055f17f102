"""Progressive distillation: a student takes in one step what its teacher takes in two."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.numerics import (
    check_floats,
    check_has,
    check_prediction,
    check_static,
    expand,
    sum_per_example,
    widen,
)


def truncated_snr(log_snr: Array) -> Array:
    r"""The weight of the paper for errors of the data: the signal-to-noise ratio, 1 at least.

    $$
    w(\lambda) = \max(e^\lambda, 1)
    $$

    Args:
      log_snr: λ, [B].

    Returns:
      [B].

    References:
      Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models" (2022),
        arXiv:2202.00512, section 4.
    """
    return jnp.exp(jnp.maximum(log_snr, 0))


def progressive_distillation(
    predict: Callable[[Array, Array], Array],
    teacher: Callable[[Array, Array], Array],
    x: Array,
    key: Array,
    *,
    schedule: Any,
    target: Any,
    steps: int,
    weight: Callable[[Array], Array] = truncated_snr,
) -> Array:
    r"""The error of a student of N steps against two steps of a teacher of 2 N.

    At times t = i/N, i = 1…N, the teacher takes two DDIM steps, to t − 1/(2N) and t″ = t − 1/N. The
    student learns the x̃ with which one step would have led to the same place:

    $$
    w(\lambda_t) \, \lVert \tilde x - \hat x \rVert^2, \qquad
    \tilde x = \frac{z_{t''} - \rho \, z_t}{\alpha'' - \rho \, \alpha}, \qquad
    \rho = \frac{\sigma''}{\sigma}
    $$

    Halve the steps, let the student be the teacher, and start again. Sample by `samplers.ddim` with
    `steps.linear(N)`. At high noise the data must be predictable from the prediction: take
    velocity or data, not noise.

    Args:
      predict: the student, (z [B, ...], t [B]) -> the prediction of `target`, of x's shape.
      teacher: likewise, without gradient. Start the student from its weights.
      x: clean data, [B, ...].
      key: one key, or one per example [B].
      schedule: the noise schedule, with alpha, sigma and log_snr: genjax.diffusion.schedules.
      target: what both predict, with to_data(prediction, z, alpha, sigma):
        genjax.diffusion.predictions.
      steps: N, of the student.
      weight: λ [B] -> [B], of the error of the data.

    Returns:
      [B], summed over the elements of an example, in float32 at least.

    Raises:
      TypeError: where an argument is a class or a name in place of an object, or `steps` is traced.
      ValueError: where x is of integers, or a prediction is not of x's shape.

    References:
      Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models" (2022),
        arXiv:2202.00512, algorithm 2.
    """
    check_floats(x=x)
    check_static(steps=steps)
    check_has("alpha sigma log_snr", "schedules.VP()", schedule=schedule)
    check_has("to_data", "predictions.velocity", target=target)
    time_key, noise_key = keys.split(key, 2, x.shape[0])
    number = jnp.floor(keys.uniform(time_key, x.shape[:1], jnp.float32) * steps)
    t = (1 + jnp.minimum(number, steps - 1)) / steps  # a product may round up to N
    clean = widen(x)
    eps = keys.normal(noise_key, x.shape, clean.dtype)

    def scales(t: Array) -> tuple[Array, Array]:
        return expand(schedule.alpha(t), x), expand(schedule.sigma(t), x)

    def data(network: Callable[[Array, Array], Array], z: Array, t: Array) -> Array:
        prediction = network(z.astype(x.dtype), t)
        check_prediction(prediction, x)
        return target.to_data(widen(prediction), z, schedule.alpha(t), schedule.sigma(t))

    def ddim(z: Array, t: Array, s: Array) -> Array:
        (alpha, sigma), (alpha_s, sigma_s) = scales(t), scales(s)
        found = data(teacher, z, t)
        return alpha_s * found + sigma_s * (z - alpha * found) / sigma

    alpha, sigma = scales(t)
    z = alpha * clean + sigma * eps
    middle, end = t - 0.5 / steps, jnp.maximum(t - 1 / steps, 0)
    after = ddim(ddim(z, t, middle), middle, end)
    alpha_end, sigma_end = scales(end)
    ratio = sigma_end / sigma
    wanted = jax.lax.stop_gradient((after - ratio * z) / (alpha_end - ratio * alpha))
    error = wanted - data(predict, z, t)
    return weight(schedule.log_snr(t)) * sum_per_example(error**2)
