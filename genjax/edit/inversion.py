"""Exact inversion of DDIM: the noise that real images come from, and the way between two."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import Clip, Predict, Schedule, Target
from genjax.diffusion.samplers import ddim
from genjax.diffusion.sampling_loop import Row, SamplingLoop, positive
from genjax.edit.interpolation import spherical
from genjax.numerics import check_floats, check_same_shape, check_static, expand, sum_per_example


def invert(
    predict: Predict,
    x: Array,
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    iterations: int = 10,
    clip: Clip | None = None,
) -> Array:
    r"""The noise whose DDIM sample is x, by a fixed point at every step.

    For f the step of DDIM from t to s and z_s known, z_t is the limit of

    $$
    z_t \leftarrow z_t + c\, \bigl(z_s - f(z_t)\bigr), \qquad
    c = \frac{\alpha_t^2 + \sigma_t^2}{\alpha_t \alpha_s + \sigma_t \sigma_s}, \qquad
    z_t = c\, z_s \text{ at first}
    $$

    accelerated by Anderson's method with a memory of one. `samplers.encode` stops at a first
    iterate of such a map, and is off by the sampler's error. c is 1/f' for data of variance 1, and
    finite at both ends of every schedule.

    Equal steps of time are too long near the data, where the iteration converges slowly: take
    `steps.karras`. The last step of the sampler, to σ_s = 0, returns x̂. What of x no x̂ at its time
    t contains, some σ_t/α_t at most, is lost. So for 1e-3 per pixel let the last time before 0 have
    σ/α <= 1e-3, as in `steps.karras(40, sigma_min=1e-3, schedule=...)`; or, where a network was not
    trained there, as DDPM's with σ/α = 0.01 at least, let the grid end above 0, as with `[:-1]`
    behind it: x is then taken as z at the last time, and every step can be inverted.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      x: data, [B, ...]; their dtype is what `predict` sees and what is returned.
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], the strictly decreasing times of the sampler.
      iterations: per step, each one evaluation of the network.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none. Pixels at a bound may not be found again.

    Returns:
      z at steps[0], like x: `start` of `samplers.ddim` and `samplers.euler`.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be, or
        `iterations` is traced.
      ValueError: where x is of integers, `steps` do not strictly decrease in 0..1, or a prediction
        has a wrong shape.

    References:
      Pan et al., "Effective Real Image Editing with Accelerated Iterative Diffusion Inversion"
      (2023), arXiv:2309.04907, section 3.
    """
    check_static(iterations=iterations)
    check_floats(x=x)
    loop = SamplingLoop(
        predict,
        None,
        x.shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=x,
        clip=clip,
        trajectory=False,
        strict=True,
    )

    def step(z: Array, row: Row) -> Array:
        size = (row.alpha**2 + row.sigma**2) / (
            row.alpha * row.alpha_next + row.sigma * row.sigma_next
        )

        def iterate(i: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            found, before, gap_before = carry
            data, noise = loop.data_and_noise(found, row)
            gap = size * (z - row.alpha_next * data - row.sigma_next * noise)
            change = gap - gap_before
            weight = sum_per_example(gap * change) / positive(sum_per_example(change**2))
            weight = expand(jnp.where(i > 0, weight, 0), z)
            return found + gap - weight * (found - before + change), found, gap

        return jax.lax.fori_loop(0, iterations, iterate, (size * z, z, z))[0]

    noise: Any = loop.run(step, jax.tree.map(jnp.flip, loop.rows))
    return noise


def interpolate(
    predict: Predict,
    start: Array,
    end: Array,
    t: Array,
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    iterations: int = 10,
    clip: Clip | None = None,
) -> Array:
    r"""Images between two real ones, by DDIM from noise between theirs; the ends are exact.

    $$
    x_u = \Phi^{-1}\bigl(\operatorname{spherical}(z_0, z_1, u)\bigr) + (1 - u)\, r_0 + u\, r_1,
    \qquad z_i = \Phi(x_i), \quad r_i = x_i - \Phi^{-1}(z_i)
    $$

    with Φ of `invert`, whose errors r are within 1e-3 where its grid is fine enough, and
    `interpolation.spherical`.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      start: data, [B, ...]; their dtype is what `predict` sees and what is returned.
      end: data, like `start`.
      t: u of each image on the way, [n] in 0..1.
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data); see `invert` for the
        last of them.
      iterations: of the inversion, per step.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.

    Returns:
      [n, B, ...]: `start` at 0, `end` at 1. One u after another, so that the memory of the network
      does not grow with their number.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be, or
        `iterations` is traced.
      ValueError: where `start` and `end` differ in shape or are of integers, `steps` do not
        strictly decrease in 0..1, or a prediction has a wrong shape.

    References:
      Song et al., "Denoising Diffusion Implicit Models" (2021), arXiv:2010.02502, section 5.3.
    """
    check_same_shape(start=start, end=end)
    common: dict[str, Any] = {
        "schedule": schedule,
        "target": target,
        "steps": steps,
        "clip": clip,
    }

    def sample(noise: Array) -> Any:
        return ddim(predict, None, noise.shape, start=noise, **common)

    ends = jnp.concatenate([start, end])
    noise = invert(predict, ends, iterations=iterations, **common)
    first, second = jnp.split(noise, 2)
    rest, last_rest = jnp.split(ends - sample(noise), 2)

    def image(u: Array) -> Array:
        between = jax.vmap(lambda a, b: spherical(a, b, u[None])[0])(first, second)
        x = sample(between.astype(noise.dtype)) + (1 - u) * rest + u * last_rest
        return jnp.where(u == 0, start, jnp.where(u == 1, end, x)).astype(start.dtype)

    return jax.lax.map(image, jnp.asarray(t, float))
