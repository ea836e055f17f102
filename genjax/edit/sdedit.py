"""SDEdit: noise an image in part, and sample from there."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.diffusion.protocols import Clip, Predict, Schedule, Target
from genjax.diffusion.samplers import ancestral
from genjax.diffusion.sampling_loop import check_order
from genjax.numerics import check_floats, check_static, widen


def sdedit(
    predict: Predict,
    key: Array,
    x: Array,
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    strength: float = 0.5,
    sampler: Callable[..., Any] = ancestral,
    clip: Clip | None = None,
) -> Array:
    r"""SDEdit: an image, a sketch or a collage made into an image of the model.

    $$
    z_{t_0} = \alpha(t_0)\, x + \sigma(t_0)\, \epsilon, \qquad \epsilon \sim \mathcal{N}(0, I)
    $$

    and from z as the start the last steps of a sampler, a share `strength` of them. For steps of
    equal length from 1 to 0 that is t_0 of the paper, which recommends 0.3 (faithful) to 0.6
    (realistic).

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone.
      x: data, [B, ...]; their dtype is what `predict` sees and what is returned.
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], decreasing from 1 (noise) to 0 (data), such as `steps.linear(500)`,
        the number in the paper.
      strength: in 0..1: 0 returns x, 1 keeps what z at steps[0] has of it.
      sampler: any of `samplers`, `multistep` and `correctors`.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.

    Returns:
      The edited data, like x.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be, or
        `strength` is traced.
      ValueError: where `strength` is not in 0..1, x is of integers, `steps` do not decrease in
        0..1, or the keys or a prediction have a wrong shape.

    References:
      Meng et al., "SDEdit: Guided Image Synthesis and Editing with Stochastic Differential
      Equations" (2022), arXiv:2108.01073, algorithm 1.
    """
    check_static(strength=strength)
    check_floats(x=x)
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be in 0..1, not {strength}: 0 changes nothing")
    steps = jnp.asarray(keys.check_times(steps, "steps"), float)
    check_order(steps)
    taken = round(strength * (steps.size - 1))
    if taken == 0:
        return x
    steps = steps[-taken - 1 :]
    eps = keys.normal(keys.fold_in(key, 0), x.shape, widen(x).dtype)
    z = schedule.alpha(steps[0]) * widen(x) + schedule.sigma(steps[0]) * eps
    edited: Array = sampler(
        predict,
        key,
        x.shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=z.astype(x.dtype),
        clip=clip,
    )
    return edited
