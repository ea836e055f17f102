"""Consistency models in continuous time (sCM): the derivative along a trajectory in place of pairs.

Noise lies on a circle: z = cos(θ) x/s + sin(θ) ε with θ = π t/2, which is `schedules.Cosine` for
data divided by their standard deviation s. The network F predicts dz/dθ, and

    f(z, t) = cos(θ) z − sin(θ) F(z, t)

estimates x/s. Sample f by `few_step.consistency` with `schedules.Cosine()`, and multiply by s.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.numerics import check_floats, check_prediction, expand, sum_per_example, widen

Network = Callable[[Array, Array], Array]  # (z [B, ...], t [B]) -> like z


def estimate(predict: Network) -> Network:
    r"""The estimate of the data that a network implies.

    $$
    f(z, t) = \cos(\theta) \, z - \sin(\theta) \, F(z, t), \qquad \theta = \tfrac{\pi}{2} t
    $$

    Args:
      predict: F, (z [B, ...], t [B]) -> like z.

    Returns:
      f, which is z itself at t = 0.

    References:
      Lu & Song, "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models" (2024),
        arXiv:2410.11081, eq. 5.
    """

    def f(z: Array, t: Array) -> Array:
        angle = expand(0.5 * math.pi * t, z)
        prediction = predict(z, t)
        check_prediction(prediction, z)
        return jnp.cos(angle) * z - jnp.sin(angle) * prediction

    return f


def continuous_consistency(
    predict: Network,
    x: Array,
    key: Array,
    *,
    times: Array | Callable[[Array, int], Array],
    data_std: float | Array,
    teacher: Network | None = None,
    warm_up: float | Array = 1.0,
    constant: float | Array = 0.1,
) -> Array:
    r"""The loss of a consistency model in continuous time, with its tangent normalised.

    F moves by the part of the derivative of f along the trajectory that it is to blame for:

    $$
    \lVert F - \mathrm{sg}(F + \tilde g) \rVert^2, \quad
    \tilde g = \frac{g}{\lVert g \rVert + c}, \quad
    g = -\cos^2(\theta) \Bigl( F - \frac{dz}{d\theta} \Bigr)
      - r \cos(\theta) \sin(\theta) \Bigl( z + \frac{dF}{d\theta} \Bigr)
    $$

    The value, at most 1, says little: it is the gradient that counts. Weigh noise levels by
    `diffusion.uncertainty_weighted` with a learned uncertainty, as the paper does. The network is
    differentiated forwards: use no layer without a JVP, and a smooth embedding of t.

    Args:
      predict: F, (z [B, ...], t [B]) -> like z; see the top of this file.
      x: clean data, [B, ...].
      key: one key, or one per example [B].
      times: t [B], or times(key, n) -> t [n]; the paper's are `times.LogNormal` on
        `schedules.Cosine()`, with mean −1 − ln s and standard deviation 1.4.
      data_std: s, the standard deviation of the data.
      teacher: a trained F that gives dz/dθ, for distillation; None: training, with the derivative
        of this noise and image, cos(θ) ε − sin(θ) x/s.
      warm_up: r, which rises from 0 to 1 over the first 10,000 steps in the paper.
      constant: c.

    Returns:
      [B], summed over the elements of an example, in float32 at least.

    Raises:
      ValueError: where x is of integers, the times are not [B] or not in 0..1, or a prediction is
        not of x's shape.

    References:
      Lu & Song, "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models" (2024),
        arXiv:2410.11081, algorithm 1.
    """
    check_floats(x=x)
    time_key, noise_key = keys.split(key, 2, x.shape[0])
    t = keys.draw_times(times, time_key, x)
    clean = widen(x) / data_std
    eps = keys.normal(noise_key, x.shape, clean.dtype)
    angle = expand(0.5 * math.pi * t, x)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    z = (cos * clean + sin * eps).astype(x.dtype)
    velocity = cos * eps - sin * clean
    if teacher is not None:
        velocity = widen(jax.lax.stop_gradient(teacher(z, t)))
        check_prediction(velocity, x)
    # cos · sin · dF/dθ as one derivative: at the ends dF/dθ by itself may be large.
    along = (cos * sin * velocity).astype(x.dtype), _rows(cos * sin) * (2 / math.pi)
    prediction, change = jax.jvp(predict, (z, t), along)
    check_prediction(prediction, x)
    held = jax.lax.stop_gradient(widen(prediction))
    g = -(cos**2) * (held - velocity) - warm_up * (cos * sin * widen(z) + widen(change))
    g = jax.lax.stop_gradient(g)
    length = jnp.sqrt(sum_per_example(g**2))
    moved = held + g / expand(length + constant, g)
    return sum_per_example((widen(prediction) - moved) ** 2)


def _rows(values: Array) -> Array:
    return values.reshape(len(values))
