"""Shortcut models: one network for steps of every size, each size learned from two of half."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.keys import uniform_times
from genjax.numerics import check_floats, check_prediction, expand, sum_per_example, widen


def shortcut(
    predict: Callable[[Array, Array, Array], Array],
    teacher: Callable[[Array, Array, Array], Array],
    x: Array,
    key: Array,
    *,
    times: Array | Callable[[Array, int], Array] = uniform_times,
    steps: int = 128,
    every: int = 8,
) -> Array:
    r"""Flow matching, and for one example in `every` two steps in one.

    $$
    \lVert \mathrm{predict}(z_t, t, d) - v \rVert^2, \qquad
    v = \begin{cases}
    \varepsilon - x & d = 0 \\
    \mathrm{sg}\bigl(\tfrac12 s(z_t, t) + \tfrac12 s(z_t - \tfrac d2 s(z_t, t), t - \tfrac d2)\bigr)
    & d = 2^{-k}
    \end{cases}
    $$

    with s of size d/2, or of size 0 where d/2 is the least, z_t = (1 − t) x + t ε, and k drawn from
    0 … log₂(steps) − 1, t from the multiples of d. A step of size d from t is
    z − d · predict(z, t, d). The examples 0, every, 2·every, … of a batch learn the steps, so that
    which they are does not depend on the number of devices.

    Time is reversed from the paper's: t = 0 is the data. Their code also trains the velocity at the
    least size, 1/steps, in place of 0, and clips the middle of the two steps to −4..4.

    Args:
      predict: (z [B, ...], t [B], d [B]) -> the mean velocity from t to t − d, of x's shape.
      teacher: likewise, of the examples [::every]: the network itself, or its moving average as in
        the authors' code; it gets no gradient.
      x: clean data, [B, ...]; B, also on each of several devices, a multiple of `every`.
      key: one key, or one per example [B].
      times: t [B] of flow matching, or times(key, n) -> t [n].
      steps: the most steps of a sampler, a power of 2 from 2.
      every: one example in so many learns the steps.

    Returns:
      [B], summed over the elements of an example.

    Raises:
      TypeError: where `times` is a class.
      ValueError: where x is of integers, `steps` is no power of 2 from 2, `every` does not divide
        B, the times are not [B] or not in 0..1, or a prediction is not of the shape of its z.

    References:
      Frans et al., "One Step Diffusion via Shortcut Models" (2024), arXiv:2410.12557, algorithm 1
        and eq. 5.
    """
    check_floats(x=x)
    sizes = math.log2(steps) if steps > 1 else 0.5
    if not sizes.is_integer():
        raise ValueError(f"steps must be a power of 2 from 2, not {steps}")
    if x.shape[0] % every:
        raise ValueError(f"every {every} must divide the examples of a device, {x.shape[0]}")
    time_key, noise_key, size_key, place_key = keys.split(key, 4, x.shape[0])
    t = keys.draw_times(times, time_key, x)
    clean = widen(x)
    eps = keys.normal(noise_key, x.shape, clean.dtype)
    shape = (x.shape[0],)
    k = keys.draw(lambda key, s: jax.random.randint(key, s, 0, int(sizes)), size_key, shape)
    share = keys.draw(lambda key, s: jax.random.uniform(key, s, t.dtype), place_key, shape)

    some = slice(None, None, every)
    d = 0.5 ** k[some].astype(t.dtype)
    # 1/d places, d, 2 d, …, 1; a share of 1 − 2⁻²⁴ may round up to 1.
    place = d * (jnp.minimum(jnp.floor(share[some] / d), 1 / d - 1) + 1)
    t = t.at[some].set(place)
    z = (expand(1 - t, x) * clean + expand(t, x) * eps).astype(x.dtype)
    two = jax.lax.stop_gradient(_two_steps(teacher, z[some], place, d, 1 / steps))
    wanted = (eps - clean).at[some].set(two.astype(clean.dtype))
    prediction = predict(z, t, jnp.zeros_like(t).at[some].set(d))
    check_prediction(prediction, x)
    return sum_per_example((wanted - prediction) ** 2)


def _two_steps(
    teacher: Callable[[Array, Array, Array], Array], z: Array, t: Array, d: Array, least: float
) -> Array:
    """The mean velocity of two steps of d/2."""
    half = d / 2
    size = jnp.where(half > least, half, 0)
    first = teacher(z, t, size)
    check_prediction(first, z)
    second = teacher((z - expand(half, z) * first).astype(z.dtype), t - half, size)
    return (first + second) / 2
