"""RePaint: the observed part of every state is replaced, and steps are repeated to harmonize."""

import jax
import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import Clip, Predict, Schedule, Target
from genjax.diffusion.sampling_loop import Row
from genjax.edit.operator import Operator
from genjax.edit.solver_loop import run, solver_loop
from genjax.numerics import check_static, is_traced


def repaint(
    predict: Predict,
    key: Array,
    y: Array,
    operator: Operator,
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    noise: float | Array = 0.0,
    resamplings: int = 10,
    jump: int = 10,
    start: Array | None = None,
    clip: Clip | None = None,
) -> Array:
    r"""Replacement with resampling.

    $$
    \begin{aligned}
    z_s^\mathrm{unknown} &\sim q(z_s \mid z_t, \hat x), \qquad
    z_s^\mathrm{known} = \alpha_s A^+ y
      + \sqrt{\sigma_s^2 - \alpha_s^2 \sigma_y^2 / g}\; \epsilon, \\
    z_s &= A^+ A\, z_s^\mathrm{known} + (I - A^+ A)\, z_s^\mathrm{unknown}
    \end{aligned}
    $$

    After every `jump` steps, z is noised back by as many, `resamplings` − 1 times:

    $$
    z_b = \frac{\alpha_b}{\alpha_s} z_s + \sqrt{\sigma_b^2 - (\alpha_b \sigma_s / \alpha_s)^2}\;
      \epsilon
    $$

    The paper has masks, A⁺A = mask, without noise. With noise nothing is replaced once the state
    has less of it than y.

    Measured bias, over observations of 16 correlated Gaussian pixels, with the ideal denoiser and
    25 steps, 5 resamplings of 5 (tests/edit/test_posteriors.py): half of them masked, the mean is
    off by 0.10 standard deviations of the data and the variance is 0.80 times the right one; with
    noise of 0.3 by 0.06 and 0.76 times. Means of 2 x 2 pixels with noise of 0.05: 0.02 and 0.72.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone.
      y: observations A x + noise, [B, ...].
      operator: A, linear; with A Aᵀ = g, `gram`, where there is noise.
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(250)`, the number in the paper: then the network is called 2,410 times.
      noise: σ_y, the standard deviation of y's noise. Without `gram` the result is NaN where it is
        traced and above 0.
      resamplings: how often each stretch of `jump` steps is run; 1 for none again.
      jump: length of a jump back, in steps.
      start: z at steps[0], [B, *operator.shape]; None to draw it as σ ε, ε ~ N(0, I). A start of
        less than 32 bits sets the dtype that `predict` sees and that is returned.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.

    Returns:
      x [B, *operator.shape]; without noise A x = y.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be, or
        `resamplings` or `jump` is traced.
      ValueError: where A is not linear, or there is noise and no `gram`; `steps`, `start`, y, the
        keys or a prediction have a wrong shape; `steps` do not strictly decrease in 0..1; y or
        `start` is of integers; or `resamplings` or `jump` is below 1.

    References:
      Lugmayr et al., "RePaint: Inpainting using Denoising Diffusion Probabilistic Models" (2022),
      arXiv:2201.09865, algorithm 1 and appendix B.
    """
    loop, y = solver_loop(
        predict,
        key,
        y,
        operator,
        schedule=schedule,
        target=target,
        steps=steps,
        start=start,
        clip=clip,
    )
    if operator.gram is None and not is_traced(noise) and noise != 0:
        raise ValueError(
            "with noise, repaint needs an operator whose gram is known, such as a mask: "
            "take ddnm or pigdm for others"
        )
    observed = operator.pseudo_inverse(y)
    variance = jnp.asarray(noise) ** 2 / (operator.gram or 1)

    def step(z: Array, item: tuple[Row, Array, Array]) -> Array:
        row, scale, std = item
        data, eps = loop.data_and_noise(z, row)
        drawn = loop.normal(row)
        unknown = row.ddim(data, eps, drawn, 1.0)
        left = row.sigma_next**2 - row.alpha_next**2 * variance
        fresh = jnp.sqrt(jnp.maximum(left, 0)) * drawn - unknown
        known = row.alpha_next * observed + operator.pseudo_inverse(operator(fresh))
        z = unknown + jnp.where(left >= 0, known, 0)
        return scale * z + std * loop.normal(row._replace(draw=row.draw + 1))

    items = _travel(loop.rows, schedule, steps, jump, resamplings)
    x = run(loop, step, items, y, operator, noise)
    if operator.gram is None:  # noise that is known at run time alone can raise no error
        x = jnp.where(jnp.asarray(noise) > 0, jnp.nan, x)
    return x


def _travel(
    rows: Row, schedule: Schedule, steps: Array, jump: int, resamplings: int
) -> tuple[Row, Array, Array]:
    """One row per step taken, and the scale and noise with which to go back after it."""
    check_static(resamplings=resamplings, jump=jump)
    if resamplings < 1 or jump < 1:
        raise ValueError(f"give 1 or more: resamplings is {resamplings}, jump is {jump}")
    n = rows.t.size
    # By the number of steps still to do: the jumps of the authors' program.
    repeats = dict.fromkeys(range(1, n - jump + 1, jump), resamplings - 1)
    left, begins, ends = n, [], []
    while left:
        begins.append(n - left)
        left -= 1
        if repeats.get(left):
            repeats[left] -= 1
            left += jump
        ends.append(n - left)
    begin, end = jnp.array(begins), jnp.array(ends)
    taken = jax.tree.map(lambda column: column[begin], rows)
    taken = taken._replace(draw=2 * jnp.arange(1, begin.size + 1))
    # Without a jump the step's own end, at which z stays as it is.
    alpha = jnp.append(rows.alpha, rows.alpha_next[-1])[end]
    sigma = jnp.append(rows.sigma, rows.sigma_next[-1])[end]
    log_snr = schedule.log_snr(jnp.asarray(steps, float))
    kappa = -jnp.expm1(log_snr[end] - log_snr[begin + 1])
    std = jnp.where(end == begin + 1, 0, sigma * jnp.sqrt(kappa))
    return taken, alpha / taken.alpha_next, std
