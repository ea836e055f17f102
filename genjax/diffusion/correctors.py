"""The predictor-corrector sampler: Langevin steps at every noise level, then one step of DDIM."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import Clip, Predict, Schedule, Target
from genjax.diffusion.sampling_loop import Row, SamplingLoop
from genjax.numerics import check_static


def predictor_corrector(
    predict: Predict,
    key: Array,
    shape: Sequence[int],
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    corrections: int = 1,
    snr: float | Array = 0.16,
    eta: float | Array = 1.0,
    start: Array | None = None,
    clip: Clip | None = None,
    trajectory: bool = False,
) -> Array | tuple[Array, Array]:
    r"""Annealed Langevin correctors between the steps of a DDIM (η = 1: ancestral) predictor.

    At every t of the grid, `corrections` times, with ξ ~ N(0, I) and norms over one example:

    $$
    z \leftarrow z + e\, g + \sqrt{2 e}\; \xi, \qquad g = -\hat\epsilon / \sigma_t, \qquad
    e = 2 \Bigl(\frac{\alpha_t}{\alpha_s} \cdot \frac{r\, \|\xi\|}{\|g\|}\Bigr)^2
    $$

    and then the step of `samplers.ddim` to s. The norms of the paper are means over the batch.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data), such as
        `steps.linear(n)`.
      corrections: Langevin steps at each time; n (corrections + 1) evaluations in all.
      snr: r, the ratio of the Langevin step to its noise.
      eta: η in [0, 1], the stochasticity of the predictor.
      start: z at steps[0], of `shape`; None to draw it as σ ε, ε ~ N(0, I). A start of less than
        32 bits sets the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`;
        None for none.
      trajectory: whether to return every state as well, each after its predictor.

    Returns:
      z at steps[-1], of `shape`: if that is 0 the last x̂, with no noise left whatever σ(0) is. With
      `trajectory`, also all n + 1 states [n + 1, B, ...].

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be, or
        `corrections` is traced.
      ValueError: where `steps`, `start`, the keys or a prediction have a wrong shape, `steps` do
        not strictly decrease in 0..1, `start` is of integers, or the key is None.

    References:
      Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations"
      (2021), arXiv:2011.13456, algorithms 1, 4 and 5.
    """
    check_static(corrections=corrections)
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
        strict=True,
    )
    evaluations = corrections + 1
    index = jnp.arange(loop.rows.t.size * evaluations)
    rows = jax.tree.map(lambda column: column[index // evaluations], loop.rows)
    items = rows._replace(draw=index + 1), index % evaluations < corrections

    def step(z: Array, item: tuple[Row, Array]) -> Array:
        row, corrects = item
        data = loop.data(z, row)
        noise = (z - row.alpha * data) / row.sigma
        drawn = loop.normal(row)

        after = row.ddim(data, noise, drawn, eta)
        score = -noise / row.sigma
        size = 2 * (row.alpha / row.alpha_next * snr) ** 2 * _ratio(drawn, score)
        corrected = z + size * score + jnp.sqrt(2 * size) * drawn
        return jnp.where(corrects, corrected, after)

    return loop.run(step, items, every=evaluations)


def _ratio(a: Array, b: Array) -> Array:
    """‖a‖²/‖b‖² of each example, [B, 1, ...]; 0 where b = 0: no score, no step."""
    axes = tuple(range(1, a.ndim))
    top, bottom = (jnp.sum(x**2, axes, keepdims=True) for x in (a, b))
    return jnp.where(bottom > 0, top / jnp.where(bottom > 0, bottom, 1), 0)
