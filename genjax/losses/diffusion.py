"""The denoising loss: DDPM, velocity, score matching, EDM and flow matching as its arguments.

`genjax.recipes` holds the arguments of the papers as values.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.keys import uniform_times
from genjax.numerics import (
    check_floats,
    check_has,
    check_no_function,
    check_prediction,
    expand,
    sum_per_example,
    widen,
)


def denoising(
    predict: Callable[[Array, Array], Array],
    x: Array,
    key: Array,
    *,
    schedule: Any,
    target: Any,
    times: Array | Callable[[Array, int], Array] = uniform_times,
    weight: Callable[[Array], Array] = jnp.ones_like,
) -> Array:
    r"""The weighted squared error of a prediction at one time and one noise per example.

    $$
    w(\lambda_t) \, \lVert \mathrm{target}(x, \varepsilon) - \mathrm{predict}(z_t, t) \rVert^2,
    \qquad z_t = \alpha(t) \, x + \sigma(t) \, \varepsilon,
    \qquad \lambda_t = \ln \frac{\alpha(t)^2}{\sigma(t)^2}
    $$

    The weight multiplies the squared error of `target` itself. With weight 1, the default, this is
    the "simple" loss of DDPM for noise, the loss of Salimans & Ho for velocity, and flow matching
    for flow on rectified flow.

    Args:
      predict: (z [B, ...], t [B]) -> the prediction of `target`, of x's shape.
      x: clean data, [B, ...].
      key: one key, or one per example [B].
      schedule: the noise schedule, with alpha, sigma and log_snr: genjax.diffusion.schedules.
      target: what `predict` predicts, with of(x, eps, alpha, sigma): genjax.diffusion.predictions.
      times: t [B], or times(key, n) -> t [n], such as those of genjax.losses.times.
      weight: λ [B] -> [B], such as those of genjax.losses.weightings.

    Returns:
      [B], summed over the elements of an example, in float32 at least.

    Raises:
      TypeError: where an argument is a class or a name in place of an object.
      ValueError: where x is of integers, the times are not [B] or not in 0..1, or the prediction is
        not of x's shape.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239, eq. 14.
      Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models" (2022),
        arXiv:2202.00512.
      Lipman et al., "Flow Matching for Generative Modeling" (2022), arXiv:2210.02747.
      Liu et al., "Flow Straight and Fast" (2022), arXiv:2209.03003.
    """
    check_floats(x=x)
    check_has("alpha sigma log_snr", "schedules.VP()", schedule=schedule)
    check_has("of", "predictions.noise", target=target)
    time_key, noise_key = keys.split(key, 2, x.shape[0])
    t = keys.draw_times(times, time_key, x)
    clean = widen(x)
    eps = keys.normal(noise_key, x.shape, clean.dtype)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    z = expand(alpha, x) * clean + expand(sigma, x) * eps
    prediction = predict(z.astype(x.dtype), t)
    check_prediction(prediction, x)
    error = target.of(clean, eps, alpha, sigma) - prediction
    scale = weight(schedule.log_snr(t))
    check_no_function(weight=scale)
    return scale * sum_per_example(error**2)


def uncertainty_weighted(loss: Array, log_variance: Array, elements: int) -> Array:
    r"""A loss weighted by a learned uncertainty, so that every noise level weighs alike.

    $$
    \frac{L}{e^u} + D u
    $$

    for the D elements of an example. The best u is ln(L / D) of the expected loss at a noise level;
    the gradient of the network is then that of the loss divided by its size there.

    Args:
      loss: L, [B], summed over the elements of an example.
      log_variance: u, of each example's noise level, [B].
      elements: D.

    Returns:
      [B], in float32 at least.

    Raises:
      ValueError: where the shapes of the loss and of u differ.

    References:
      Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
        Geometry and Semantics" (2018), arXiv:1705.07115.
      Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024),
        arXiv:2312.02696, eq. 21.
    """
    if loss.shape != log_variance.shape:
        raise ValueError(
            f"one uncertainty per example is needed: loss {loss.shape}, u {log_variance.shape}"
        )
    u = widen(log_variance)
    return widen(loss) * jnp.exp(-u) + elements * u
