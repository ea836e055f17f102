"""DDIM with guidance that no `predict` can express, as it acts on the step: CFG++ and APG."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from genjax.diffusion.guidance import project
from genjax.diffusion.protocols import Clip, Predict, Schedule, Target
from genjax.diffusion.sampling_loop import Row, SamplingLoop
from genjax.numerics import expand, is_traced


def cfg_plus_plus(
    conditional: Predict,
    unconditional: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    scale: ArrayLike,
    schedule: Schedule,
    target: Target,
    steps: Array,
    eta: float | Array = 0.0,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""DDIM with CFG++: guided data, but the noise of the unconditional prediction.

    $$
    z_s = \alpha_s \bigl(\hat x_u + \mathrm{scale}\, (\hat x_c - \hat x_u)\bigr)
      + \sigma_s \sqrt{1 - \eta^2 \kappa}\; \hat\epsilon_u + \sigma_s\, \eta \sqrt\kappa\; \xi
    $$

    The estimate of the data interpolates, where that of classifier-free guidance extrapolates.

    Args:
      conditional: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      unconditional: likewise.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      scale: the paper's λ, in [0, 1], a scalar or one per example [B]; 0 is unconditional.
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      eta: η, in [0, 1], as of `samplers.ddim`.
      start: z at steps[0], of `shape`; None to draw it as σ ε, ε ~ N(0, I). A start of less than
        32 bits sets the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.
      trajectory: whether to return every state as well.

    Returns:
      z at steps[-1], of `shape`: if that is 0 the last x̂, with no noise left whatever σ(0) is. With
      `trajectory`, also all n + 1 states [n + 1, B, ...].

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where `steps`, `start`, the keys or a prediction have a wrong shape, `steps` do
        not decrease in 0..1, `start` is of integers, or a key is needed and None is given.

    References:
      Chung et al., "CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models"
      (2024), arXiv:2406.08070, algorithm 2.
    """
    loop = SamplingLoop(
        lambda z, t: (conditional(z, t), unconditional(z, t)),
        key,
        shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=start,
        clip=clip,
        trajectory=trajectory,
    )

    def step(z: Array, row: Row) -> Array:
        (wanted, _), (data, noise) = (loop.split(p, z, row) for p in loop.output(z, row))
        data = loop.clipped(data + expand(scale, z) * (wanted - data))
        return _after(loop, row, data, noise, eta)

    return loop.run(step)


def adaptive_projected(
    conditional: Predict,
    unconditional: Predict,
    key: Array | None,
    shape: Sequence[int],
    *,
    scale: ArrayLike,
    schedule: Schedule,
    target: Target,
    steps: Array,
    momentum: float | Array = 0.0,
    parallel: float | Array = 0.0,
    norm: ArrayLike | None = None,
    eta: float | Array = 0.0,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""DDIM with adaptive projected guidance (APG) and its momentum.

    $$
    \hat x = \hat x_c + (\mathrm{scale} - 1)\, P(m, \hat x_c), \qquad
    m \leftarrow \mathrm{momentum} \cdot m + \hat x_c - \hat x_u
    $$

    with P that of `guidance.project`, and ε̂ that of z = α x̂ + σ ε̂. Without momentum it is DDIM
    with `guidance.projected`, which any sampler can take.

    Args:
      conditional: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      unconditional: likewise.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. None where
        nothing is drawn.
      shape: of the result, (B, ...).
      scale: a scalar, or one per example [B]; 1 is no guidance.
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      momentum: the paper's β, negative in the paper: steps then push away from earlier ones.
      parallel: the paper's η, in [0, 1].
      norm: the paper's r, the largest norm of m, a scalar or one per example [B]; None for no
        limit.
      eta: η of `samplers.ddim`, in [0, 1].
      start: z at steps[0], of `shape`; None to draw it as σ ε, ε ~ N(0, I). A start of less than
        32 bits sets the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.
      trajectory: whether to return every state as well.

    Returns:
      z at steps[-1], of `shape`: if that is 0 the last x̂, with no noise left whatever σ(0) is. With
      `trajectory`, also all n + 1 states [n + 1, B, ...].

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where `steps`, `start`, the keys or a prediction have a wrong shape, `steps` do
        not decrease in 0..1, `start` is of integers, or a key is needed and None is given.

    References:
      Sadat et al., "Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion
      Models" (2024), arXiv:2410.02416, algorithm 1.
    """
    loop = SamplingLoop(
        lambda z, t: (conditional(z, t), unconditional(z, t)),
        key,
        shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=start,
        clip=clip,
        trajectory=trajectory,
    )

    def step(carry: tuple[Array, Array], row: Row) -> tuple[Any, Array]:
        z, average = carry
        (data, noise), (other, _) = (loop.split(p, z, row) for p in loop.output(z, row))
        average = momentum * average + data - other
        pull = expand(jnp.asarray(scale) - 1, z) * project(average, data, parallel, norm)
        pull = loop.clipped(data + pull) - data
        noise = noise - row.alpha / row.sigma * pull
        after = _after(loop, row, data + pull, noise, eta)
        return (after, average), after

    (last, _), path = loop.scan(step, (loop.start, jnp.zeros_like(loop.start)), loop.rows)
    return loop.result(last, path, slice(0, -1))


def _after(loop: SamplingLoop, row: Row, data: Array, noise: Array, eta: float | Array) -> Array:
    """The step of DDIM, which draws nothing at η = 0."""
    if not is_traced(eta) and not eta:
        return row.alpha_next * data + row.sigma_next * noise
    return row.ddim(data, noise, loop.normal(row), eta)
