"""Learning rates and weights by step, with warm-up and decay."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax


def warm_up(rate: float, steps: int, decay: int | None = None, end: float = 0.0) -> optax.Schedule:
    """A learning rate that rises linearly from 0, and then stays or falls along a cosine.

    Args:
      rate: the highest.
      steps: of the rise.
      decay: the step by which it has fallen. None: it stays.
      end: the rate that is left then.

    Returns:
      step -> learning rate.

    Raises:
      ValueError: where it would have fallen before it has risen.
    """
    if decay is None:
        return optax.schedules.linear_schedule(0, rate, steps)
    if decay <= steps:
        raise ValueError(f"a rate cannot fall by step {decay:,} and rise up to step {steps:,}")
    return optax.schedules.warmup_cosine_decay_schedule(0, rate, steps, decay, end)


def cosine(start: float, end: float, steps: int) -> optax.Schedule:
    r"""A value that goes from one number to another along half a cosine, and stays there.

    $$
    v(n) = \mathrm{end} + (\mathrm{start} - \mathrm{end})\,
      \tfrac{1}{2} \Bigl(1 + \cos \bigl(\pi \min(n / N,\, 1)\bigr)\Bigr)
    $$

    Args:
      start: at step 0.
      end: from step N on.
      steps: N, at least 1.

    Returns:
      step -> value.
    """
    share = optax.schedules.cosine_decay_schedule(1.0, steps)
    return lambda step: end + (start - end) * share(step)


def inverse_square_root(rate: float, reference: int, warm_up: int = 0) -> optax.Schedule:
    r"""A learning rate that rises linearly from 0, stays, and falls as the root of the step.

    $$
    \eta(n) = \frac{\mathrm{rate}}{\sqrt{\max(n / n_\mathrm{ref},\, 1)}}\,
      \min\Bigl(\frac{n}{n_\mathrm{up}},\, 1\Bigr)
    $$

    For networks whose weights keep their size: there nothing else makes the steps smaller in
    proportion, as growing weights do.

    Args:
      rate: the highest.
      reference: n_ref, the steps up to which it stays.
      warm_up: n_up, steps of the rise; 0 for none.

    Returns:
      step -> learning rate.

    References:
      Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024),
      arXiv:2312.02696, section 2.3 and appendix B.
    """

    def schedule(step: jax.Array) -> jax.Array:
        fallen = rate / jnp.sqrt(jnp.maximum(step / reference, 1.0))
        return fallen * jnp.minimum(step / warm_up, 1.0) if warm_up else fallen

    return schedule


def warm_up_and_fall(
    rate: float, rise: int, decay: int | Literal["steps"] | None, steps: int
) -> optax.Schedule:
    """A learning rate that rises linearly from 0 and falls to a twentieth as a cosine.

    Args:
      rate: the highest.
      rise: steps of the rise.
      decay: the step by which it has fallen; "steps": the run's last; None: it stays.
      steps: of the run; one that ends before the rate has risen keeps it with "steps".

    Returns:
      step -> learning rate.
    """
    if decay == "steps":
        decay = steps if steps > rise else None
    return warm_up(rate, rise, decay, rate / 20)


def linear_ramp(step: jax.Array, steps: int) -> jax.Array:
    """A weight that rises linearly over the first steps, such as that of a KL term.

    Args:
      step: completed train steps.
      steps: of the rise; 0 for none.

    Returns:
      (step + 1) / steps, at most 1.
    """
    return jnp.minimum(1.0, (step + 1) / max(steps, 1))


def steps_of_images(images: float, batch: int) -> int:
    """Train steps that see a number of images; papers often say how long in images.

    Args:
      images: how many, such as 10e6.
      batch: images per step.

    Returns:
      Steps, rounded, at least 1.
    """
    return max(1, round(images / batch))
