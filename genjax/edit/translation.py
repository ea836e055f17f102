"""Dual diffusion bridges: an image of one model made into an image of another."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import Clip, Predict, Schedule, Target
from genjax.diffusion.samplers import ddim
from genjax.edit.inversion import invert
from genjax.numerics import widen


def translate(
    predict: Predict,
    other: Predict,
    x: Array,
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    other_schedule: Schedule | None = None,
    other_target: Target | None = None,
    iterations: int = 10,
    clip: Clip | None = None,
) -> Array:
    r"""A dual diffusion bridge: x to noise under one model, and from it to an image under another.

    $$
    \epsilon = \Phi_1(x) / \sigma_1(t_0), \qquad
    x' = \Phi_2^{-1}\bigl(\sigma_2(t_0)\, \epsilon\bigr)
    $$

    with Φ the map of DDIM's steps from data to noise, inverted exactly (`inversion.invert`). So the
    way back, with the models exchanged, returns x, and a model's bridge to itself changes nothing.

    The two may be models of photos and of drawings; or one model under two labels, or without and
    with guidance, as in `translate(shirt, dress, x, ...)`.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names, of the model
        or condition that x belongs to.
      other: likewise, of the model or condition to translate to.
      x: data, [B, ...]; their dtype is what both see and what is returned.
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data); see `inversion.invert`
        for the last of them.
      other_schedule: of `other`; None for `schedule`.
      other_target: of `other`; None for `target`.
      iterations: of the inversion, per step: n (iterations + 1) evaluations of a network in all.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none. Pixels at a bound may not be found again.

    Returns:
      The translated data, like x.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be, or
        `iterations` is traced.
      ValueError: where x is of integers, `steps` do not strictly decrease in 0..1, or a prediction
        has a wrong shape.

    References:
      Su et al., "Dual Diffusion Implicit Bridges for Image-to-Image Translation" (2023),
      arXiv:2203.08382, algorithm 1.
    """
    common: dict[str, Any] = {"steps": steps, "clip": clip}
    z = invert(predict, x, schedule=schedule, target=target, iterations=iterations, **common)
    arrives = other_schedule or schedule
    first = jnp.asarray(steps, float)[0]
    start = widen(z) / schedule.sigma(first) * arrives.sigma(first)
    translated: Any = ddim(
        other,
        None,
        x.shape,
        schedule=arrives,
        target=other_target or target,
        start=start.astype(x.dtype),
        **common,
    )
    return translated
