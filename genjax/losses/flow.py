"""Flow matching with a choice of coupling, and stochastic interpolants between two data sets."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.keys import uniform_times
from genjax.numerics import (
    check_floats,
    check_has,
    check_no_function,
    check_prediction,
    check_same_shape,
    expand,
    sum_per_example,
    widen,
)


def _squared_error(
    predict: Callable[[Array, Array], Array], z: Array, t: Array, wanted: Array, dtype: jnp.dtype
) -> Array:
    prediction = predict(z.astype(dtype), t)
    check_prediction(prediction, wanted)
    return sum_per_example((wanted - prediction) ** 2)


def flow_matching(
    predict: Callable[[Array, Array], Array],
    x: Array,
    key: Array,
    *,
    times: Array | Callable[[Array, int], Array] = uniform_times,
    couple: Callable[[Array, Array, Array], Array] | None = None,
    sigma_min: float = 0.0,
) -> Array:
    r"""Conditional flow matching: the squared error of the velocity dz/dt.

    $$
    \lVert (1 - s) \, \varepsilon - x - \mathrm{predict}(z_t, t) \rVert^2, \qquad
    z_t = (1 - t) \, x + (s + (1 - s) \, t) \, \varepsilon
    $$

    Time is reversed from the paper's: t = 0 is the data. With s = 0 and independent noise it is
    `diffusion.denoising` of predictions.flow on schedules.RectifiedFlow.

    Args:
      predict: (z [B, ...], t [B]) -> dz/dt, of x's shape.
      x: clean data, [B, ...].
      key: one key, or one per example [B].
      times: t [B], or times(key, n) -> t [n], such as those of genjax.losses.times.
      couple: (x, eps, key) -> eps reordered over the batch, such as couplings.optimal_transport;
        None for noise as it was drawn.
      sigma_min: s, the standard deviation of the noise at t = 0.

    Returns:
      [B], summed over the elements of an example.

    Raises:
      TypeError: where `times` is a class, or `couple` makes a coupling in place of being one.
      ValueError: where x is of integers, the times are not [B] or not in 0..1, or the prediction is
        not of x's shape.

    References:
      Lipman et al., "Flow Matching for Generative Modeling" (2022), arXiv:2210.02747, eq. 23.
    """
    check_floats(x=x)
    time_key, noise_key, couple_key = keys.split(key, 3, x.shape[0])
    clean = widen(x)
    t = keys.draw_times(times, time_key, x)
    eps = keys.normal(noise_key, x.shape, clean.dtype)
    if couple is not None:
        eps = couple(clean, eps, couple_key)
        check_no_function(couple=eps)
        check_same_shape(x=x, eps=eps)
    sigma = expand(sigma_min + (1 - sigma_min) * t, x)
    z = expand(1 - t, x) * clean + sigma * eps
    return _squared_error(predict, z, t, (1 - sigma_min) * eps - clean, x.dtype)


@dataclass(frozen=True)
class Interpolant:
    r"""A path from x at t = 0 to y at t = 1, with latent noise in between.

    $$
    z_t = \alpha(t) \, x + \beta(t) \, y + \gamma(t) \, \varepsilon
    $$

    with α(0) = β(1) = 1 and α(1) = β(0) = γ(0) = γ(1) = 0.

    Args:
      alpha: times -> α, any shape.
      beta: times -> β.
      gamma: times -> γ; zero by default.

    References:
      Albergo et al., "Stochastic Interpolants: A Unifying Framework for Flows and Diffusions"
        (2023), arXiv:2303.08797.
    """

    alpha: Callable[[Array], Array]
    beta: Callable[[Array], Array]
    gamma: Callable[[Array], Array] = jnp.zeros_like


linear = Interpolant(lambda t: 1 - t, lambda t: t)
r"""Straight lines; with `brownian` as γ, a Brownian bridge.

$$
\alpha = 1 - t, \quad \beta = t, \quad \gamma = 0
$$

References:
  Albergo et al., "Stochastic Interpolants" (2023), arXiv:2303.08797.
"""

trigonometric = Interpolant(
    # cos(πt/2) as the sine of the complement, which keeps its digits near t = 1.
    lambda t: jnp.sin(0.5 * jnp.pi * (1 - t)),
    lambda t: jnp.sin(0.5 * jnp.pi * t),
)
r"""A path that keeps a variance that x and y share.

$$
\alpha = \cos \tfrac{\pi t}{2}, \quad \beta = \sin \tfrac{\pi t}{2}, \quad \gamma = 0
$$

References:
  Albergo et al., "Stochastic Interpolants" (2023), arXiv:2303.08797.
"""

encoding_decoding = Interpolant(
    lambda t: jnp.where(t < 0.5, jnp.cos(jnp.pi * t) ** 2, 0.0),
    lambda t: jnp.where(t < 0.5, 0.0, jnp.cos(jnp.pi * t) ** 2),
    lambda t: jnp.sin(jnp.pi * t) ** 2,
)
r"""A path through pure noise at t = ½.

$$
\alpha = \cos^2(\pi t) \, [t < \tfrac12], \quad \beta = \cos^2(\pi t) \, [t \ge \tfrac12], \quad
\gamma = \sin^2(\pi t)
$$

References:
  Albergo et al., "Stochastic Interpolants" (2023), arXiv:2303.08797.
"""


def brownian(scale: float = 2.0) -> Callable[[Array], Array]:
    r"""The γ of a Brownian bridge, whose derivative is infinite at both ends.

    $$
    \gamma(t) = \sqrt{a \, t \, (1 - t)}
    $$

    Args:
      scale: a.

    Returns:
      times -> γ.

    References:
      Albergo et al., "Stochastic Interpolants" (2023), arXiv:2303.08797.
    """
    return lambda t: jnp.sqrt(scale * t * (1 - t))


def _interpolate(
    x: Array,
    y: Array,
    key: Array,
    interpolant: Interpolant,
    times: Array | Callable[[Array, int], Array],
) -> tuple[Array, Array, Array, Array]:
    """t, z_t, dz/dt and ε."""
    check_floats(x=x, y=y)
    check_same_shape(x=x, y=y)
    check_has("alpha beta gamma", "flow.linear", interpolant=interpolant)
    time_key, noise_key = keys.split(key, 2, x.shape[0])
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    t = keys.draw_times(times, time_key, x)
    parts = (x.astype(dtype), y.astype(dtype), keys.normal(noise_key, x.shape, dtype))
    scales = (interpolant.alpha, interpolant.beta, interpolant.gamma)
    at_t = [jax.jvp(scale, (t,), (jnp.ones_like(t),)) for scale in scales]
    values, slopes = zip(*at_t, strict=True)

    def mix(weights: tuple[Array, ...]) -> Array:
        first, second, third = (expand(w, x) * part for w, part in zip(weights, parts, strict=True))
        return first + second + third

    return t, mix(values), mix(slopes), parts[2]


def interpolant_velocity(
    predict: Callable[[Array, Array], Array],
    x: Array,
    y: Array,
    key: Array,
    *,
    interpolant: Interpolant = linear,
    times: Array | Callable[[Array, int], Array] = uniform_times,
) -> Array:
    r"""The squared error of an interpolant's velocity b = E[dz/dt | z].

    $$
    \lVert \alpha'(t) \, x + \beta'(t) \, y + \gamma'(t) \, \varepsilon
    - \mathrm{predict}(z_t, t) \rVert^2
    $$

    The paper's objective ½‖b‖² − b·dz/dt is half of this, less a constant.

    Args:
      predict: (z [B, ...], t [B]) -> b, of x's shape.
      x: data at t = 0, [B, ...].
      y: data at t = 1, paired with x as they come, [B, ...].
      key: one key, or one per example [B].
      interpolant: the path.
      times: t [B], or times(key, n) -> t [n], such as those of genjax.losses.times.

    Returns:
      [B], summed over the elements of an example.

    Raises:
      TypeError: where `times` or `interpolant` is a class in place of an object.
      ValueError: where x or y is of integers, their shapes differ, the times are not [B] or not in
        0..1, or the prediction is not of x's shape.

    References:
      Albergo et al., "Stochastic Interpolants" (2023), arXiv:2303.08797.
    """
    t, z, velocity, _ = _interpolate(x, y, key, interpolant, times)
    return _squared_error(predict, z, t, velocity, x.dtype)


def interpolant_denoiser(
    predict: Callable[[Array, Array], Array],
    x: Array,
    y: Array,
    key: Array,
    *,
    interpolant: Interpolant,
    times: Array | Callable[[Array, int], Array] = uniform_times,
) -> Array:
    r"""The squared error of an interpolant's denoiser η = E[ε | z], whose score is −η/γ(t).

    $$
    \lVert \varepsilon - \mathrm{predict}(z_t, t) \rVert^2
    $$

    The velocity and the score together define SDEs with the same marginals as dz = b·dt.

    Args:
      predict: (z [B, ...], t [B]) -> η, of x's shape.
      x: data at t = 0, [B, ...].
      y: data at t = 1, paired with x as they come, [B, ...].
      key: one key, or one per example [B].
      interpolant: the path, with γ > 0 inside.
      times: t [B], or times(key, n) -> t [n], such as those of genjax.losses.times.

    Returns:
      [B], summed over the elements of an example.

    Raises:
      TypeError: where `times` or `interpolant` is a class in place of an object.
      ValueError: where x or y is of integers, their shapes differ, the times are not [B] or not in
        0..1, or the prediction is not of x's shape.

    References:
      Albergo et al., "Stochastic Interpolants" (2023), arXiv:2303.08797.
    """
    t, z, _, eps = _interpolate(x, y, key, interpolant, times)
    return _squared_error(predict, z, t, eps, x.dtype)
