"""Stochastic interpolants: sampling by an SDE whose diffusion coefficient is chosen afterwards."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import (
    Clip,
    DifferentiableSchedule,
    Predict,
    Schedule,
    Target,
)
from genjax.diffusion.sampling_loop import Row, SamplingLoop
from genjax.numerics import check_has, check_no_function


def sde(
    predict: Predict,
    key: Array,
    shape: Sequence[int],
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    diffusion: Callable[[Array], Array],
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""Euler-Maruyama on the SDE of an interpolant, with any diffusion coefficient w(t) >= 0.

    Backwards in time, with the velocity v = x̂ dα/dt + ε̂ dσ/dt:

    $$
    dz = \Bigl(v + \frac{w}{2 \sigma}\, \hat\epsilon\Bigr) dt + \sqrt{w}\; d\bar W, \qquad
    z_s = \alpha_s \hat x + \sigma_s \hat\epsilon - \frac{w (t - s)}{2 \sigma_t}\, \hat\epsilon
      + \sqrt{w (t - s)}\; \xi
    $$

    All w have the same marginals, and w = 0 is the ODE: `samplers.euler` or `samplers.heun`. Which
    w is best depends on the network's errors and can be chosen after training: `schedule.sigma` is
    SiT's usual one, `forward(schedule)` that of the forward SDE. Steps with w (t − s) > σ are too
    long. The step to σ_s = 0 ends on x̂.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      diffusion: w, of times of any shape; such as `schedule.sigma`.
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
        not decrease in 0..1, `start` is of integers, or the key is None.

    References:
      Ma et al., "SiT: Exploring Flow and Diffusion-based Generative Models with Scalable
      Interpolant Transformers" (2024), arXiv:2401.08740.
      Albergo et al., "Stochastic Interpolants: A Unifying Framework for Flows and Diffusions"
      (2023), arXiv:2303.08797.
    """
    loop = SamplingLoop(
        predict,
        key,
        shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=start,
        clip=clip,
        trajectory=trajectory,
    )
    rows = loop.rows
    coefficient = diffusion(rows.t)
    check_no_function(diffusion=coefficient)
    variance = jnp.where(rows.sigma_next > 0, coefficient * (rows.t - rows.t_next), 0)

    def step(z: Array, item: tuple[Row, Array]) -> Array:
        row, variance = item
        data, noise = loop.data_and_noise(z, row)
        after = row.alpha_next * data + row.sigma_next * noise
        return after - variance / (2 * row.sigma) * noise + jnp.sqrt(variance) * loop.normal(row)

    return loop.run(step, (rows, variance))


def forward(schedule: DifferentiableSchedule) -> Callable[[Array], Array]:
    r"""The diffusion coefficient of the forward process: `sde` is then its reversal.

    $$
    w(t) = -\sigma^2 \frac{d\lambda}{dt} = 2 \sigma \sigma' - 2 \sigma^2 \frac{\alpha'}{\alpha}
    $$

    It is infinite where α = 0: start later there.

    Args:
      schedule: has sigma(t) and log_snr_derivative(t), such as one of `schedules`.

    Returns:
      w, a function of times of any shape.

    Raises:
      TypeError: where `schedule` is a class or a name in place of an object.

    References:
      Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations"
      (2021), arXiv:2011.13456, eq. 6.
    """
    check_has("sigma log_snr_derivative", "schedules.VP()", schedule=schedule)
    return lambda t: -(schedule.sigma(t) ** 2) * schedule.log_snr_derivative(t)
